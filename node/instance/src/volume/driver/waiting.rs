//! Who waits: for commits, for the present and for rows; until they are served or their time is over.

use std::time::Instant;

use node_core::coordinator::{Action, Millis};
use node_core::quorum::Mode;
use node_core::wire::Request;
use tracing::warn;

use super::super::reads::Asker;
use super::{Driver, HAND_OVER_MS, TOLD_MS};
use crate::volume_api::VolumeError;

impl Driver {
    pub(super) fn mind_commits(&mut self, now: Millis) {
        for waiting in self.commits.due(now) {
            self.propose(waiting);
        }
        for (ticket, seconds) in self.commits.slow(now) {
            warn!(ticket, seconds, under_way = self.coordinator.describe(), "a commit takes long");
        }
        let (up, need) = (self.coordinator.nodes_up(), self.thread.config.quorum.write());
        let unable =
            self.unable.as_ref().map_or(String::new(), |reason| format!("; a storage node says: {reason}"));
        let what = if up < need { "no write quorum" } else { "the storage nodes' vote is not decided" };
        let reason = format!(
            "{what}: {up} of {} storage nodes are connected and {need} are needed{unable}",
            self.thread.config.quorum.nodes()
        );
        self.commits.expire(now, &reason);
        let done = self.coordinator.in_flight() == 0 && self.commits.parked.is_empty();
        for mut resigning in std::mem::take(&mut self.resigning) {
            let late = now >= resigning.deadline;
            match resigning.told {
                None if done || late => {
                    self.resigned |= resigning.for_good;
                    self.lose_seat("it is handed over");
                    // Storage tells the others with this heartbeat that the seat is free; this instance stands
                    // back until they have had their turn.
                    self.take_after = now + HAND_OVER_MS;
                    self.closing_door = false;
                    self.links.beat_soon();
                    self.heartbeat(now);
                    resigning.told = Some(self.links.newest_beat());
                    resigning.deadline = now + TOLD_MS;
                    self.resigning.push(resigning);
                }
                // If the process ended before, the others would take it for one that died.
                Some(beat) if late || self.links.heard_by(beat) >= self.thread.config.quorum.read() => {
                    resigning.answer.give(());
                }
                None | Some(_) => self.resigning.push(resigning),
            }
        }
    }

    pub(super) fn mind_reads(&mut self, now: Millis) {
        if self.seat.is_none_or(|_| self.mode() == Mode::MultiMaster) {
            self.present.probe(|| Asker::Probe(Instant::now()), now);
        }
        if let Some(id) = self.present.begin(now) {
            let holds = self.seat.map(|stream| (stream.seat, stream.epoch));
            self.perform(vec![Action::Broadcast(Request::ReadIndex { id, holds })]);
        }
        let applied = self.follower.applied();
        for asker in self.present.reached(&applied) {
            match asker {
                Asker::Session(answer) => answer.give(Ok(applied.clone())),
                Asker::Probe(asked) => {
                    self.lag_us = Some(u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX));
                }
            }
        }
        for txn in self.present.unresolved(&applied, now) {
            self.resolve(txn);
        }
        for (wanted, first_missing) in self.present.slow(&applied, now) {
            warn!(
                feed = ?self.links.feed(),
                %applied,
                %wanted,
                ?first_missing,
                under_way = self.coordinator.describe(),
                "reading the present takes long"
            );
        }
        for asker in self.present.expire(now) {
            match asker {
                Asker::Session(answer) => {
                    let reason = "no read quorum of storage nodes answered in time";
                    answer.give(Err(VolumeError::Unavailable(reason.to_owned())));
                }
                Asker::Probe(_) => {}
            }
        }
        self.mind_blocks(now);
    }

    fn mind_blocks(&mut self, now: Millis) {
        for reader in self.blocks.expire(now) {
            let reason = self.unable.clone().unwrap_or_else(|| "no storage node answered in time".to_owned());
            reader.give(Err(VolumeError::Unavailable(reason)));
        }
        for id in self.blocks.slow(now) {
            self.send_block(id);
        }
    }
}
