//! Who waits: for commits, for the present and for rows; until they are served or their time is over.

use std::time::Instant;

use node_core::coordinator::{Action, Millis};
use node_core::election::RIVAL_PATIENCE_MS;
use node_core::quorum::Mode;
use node_core::wire::Request;
use tracing::warn;

use super::super::READ_TIMEOUT;
use super::super::reads::{Asker, BLOCK_PATIENCE_MS, Pending, unresolved};
use super::{BEAT_MS, Driver, HAND_OVER_MS, PROBE_MS, SLOW_MS, TOLD_MS};
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
                    self.last_beat = 0;
                    self.heartbeat(now);
                    resigning.told = Some(self.beat);
                    resigning.deadline = now + TOLD_MS;
                    self.resigning.push(resigning);
                }
                // If the process ended before, the others would take it for one that died.
                Some(beat) if late || self.heard_by(beat) >= self.thread.config.quorum.read() => {
                    resigning.answer.give(());
                }
                None | Some(_) => self.resigning.push(resigning),
            }
        }
    }

    /// How many storage nodes have answered this heartbeat or a later one.
    fn heard_by(&self, beat: u64) -> usize {
        self.links.iter().flatten().filter(|link| link.beat >= beat).count()
    }

    pub(super) fn mind_reads(&mut self, now: Millis) {
        if self.seat.is_none_or(|_| self.mode() == Mode::MultiMaster)
            && now.saturating_sub(self.last_probe) >= PROBE_MS
            && !self.present.probing()
        {
            self.last_probe = now;
            self.present.ask(Asker::Probe(Instant::now()), now);
        }
        if let Some(id) = self.present.begin(now) {
            let holds = self.seat.map(|stream| (stream.seat, stream.epoch));
            self.perform(vec![Action::Broadcast(Request::ReadIndex { id, holds })]);
        }
        let applied = self.follower.applied();
        for (asker, _) in self.present.reached(&applied) {
            match asker {
                Asker::Session(answer) => answer.give(Ok(applied.clone())),
                Asker::Probe(asked) => {
                    self.lag_us = Some(u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX));
                }
            }
        }
        let mut wanted = Vec::new();
        for target in self.present.targets.iter_mut().filter(|target| target.resolve_at <= now) {
            target.resolve_at = now + RIVAL_PATIENCE_MS;
            wanted.extend(unresolved(&target.vector, &applied));
        }
        for txn in wanted {
            self.resolve(txn);
        }
        for target in self.present.targets.iter_mut().filter(|target| target.slow_at <= now) {
            target.slow_at = now + SLOW_MS;
            let missing = unresolved(&target.vector, &applied);
            warn!(
                feed = ?self.feed,
                %applied,
                wanted = %target.vector,
                first_missing = ?missing.first(),
                under_way = self.coordinator.describe(),
                "reading the present takes long"
            );
        }
        let timeout = u64::try_from(READ_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
        self.present.expire(now, timeout);
        self.mind_blocks(now);
    }

    fn mind_blocks(&mut self, now: Millis) {
        let late: Vec<u64> =
            self.blocks.pending.iter().filter(|(_, read)| read.deadline <= now).map(|(id, _)| *id).collect();
        for id in late {
            if let Some(read) = self.blocks.pending.remove(&id) {
                let reason =
                    self.unable.clone().unwrap_or_else(|| "no storage node answered in time".to_owned());
                read.answer.give(Err(VolumeError::Unavailable(reason)));
            }
        }
        let slow = |read: &Pending| {
            let patience = if read.node.is_none() { BEAT_MS } else { BLOCK_PATIENCE_MS };
            now.saturating_sub(read.sent) >= patience
        };
        let again: Vec<u64> =
            self.blocks.pending.iter().filter(|(_, read)| slow(read)).map(|(id, _)| *id).collect();
        for id in again {
            self.send_block(id);
        }
    }
}
