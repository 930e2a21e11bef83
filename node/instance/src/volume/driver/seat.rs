//! The seat: when to take it, opening it once its start has been applied, and losing it.

use std::sync::atomic::Ordering;

use node_core::coordinator::Millis;
use node_core::election::{Parting, WRITER_SEAT};
use node_core::ids::{Epoch, Position, Seq, StreamId};
use node_core::quorum::Mode;
use tracing::{info, warn};

use super::{Driver, SLOW_MS, TakeoverInfo};

impl Driver {
    pub(super) fn mind_seat(&mut self, now: Millis) {
        self.complain(now);
        if let Some(stream) = self.opening {
            let begin = Position { epoch: stream.epoch, seq: Seq(0) };
            if self.follower.applied().get(stream.seat) >= begin {
                self.open_seat(stream, now);
            }
        }
        let held = self.seat.or(self.opening);
        if let (Some(stream), Some(holder)) = (held, self.election.holder(self.own_seat()))
            && holder.epoch > stream.epoch
            && holder.run != self.thread.config.run
        {
            self.lose_seat("another instance was granted a newer epoch");
        }
        if held.is_some() || self.coordinator.taking() || self.resigned || now < self.take_after {
            return;
        }
        let known = self.election.holder(self.own_seat()).map_or(Epoch(0), |holder| holder.epoch);
        let next = match self.mode() {
            Mode::SingleMaster => {
                let gone = self.election.holder(WRITER_SEAT);
                let Some(epoch) = self.election.campaign(now) else { return };
                let before = gone.and_then(|holder| self.election.instance(holder.run));
                let parting = gone.map_or(Parting::Disconnected, |holder| self.election.parting(holder.run));
                self.noticed = Some((now, before.map(|info| info.name.clone()), parting));
                epoch
            }
            Mode::MultiMaster => Epoch(known.0 + 1),
        };
        if self.coordinator.nodes_up() < self.thread.config.quorum.write() || self.links.feed().is_none() {
            return;
        }
        let epoch = next.max(Epoch(self.floor.0 + 1));
        info!(seat = self.own_seat().0, epoch = epoch.0, "taking the seat");
        let mut actions = Vec::new();
        self.coordinator.take(self.own_seat(), epoch, now, &mut actions);
        self.perform(actions);
        // Before anything else is said: the nodes hear the new role before the seat is opened.
        self.links.beat_soon();
        self.heartbeat(now);
    }

    /// Says what taking the seat waits for, where it takes long.
    fn complain(&mut self, now: Millis) {
        if !self.coordinator.taking() && self.opening.is_none() {
            self.taking_since = None;
            return;
        }
        let (since, said) = *self.taking_since.get_or_insert((now, now));
        if now.saturating_sub(said) >= SLOW_MS {
            self.taking_since = Some((since, now));
            warn!(
                seconds = (now - since) / 1000,
                opening = ?self.opening,
                applied = %self.follower.applied(),
                nodes_up = self.coordinator.nodes_up(),
                under_way = self.coordinator.describe(),
                "taking the seat takes long"
            );
        }
    }

    fn open_seat(&mut self, stream: StreamId, now: Millis) {
        self.opening = None;
        self.seat = Some(stream);
        self.floor = self.floor.max(stream.epoch);
        if self.mode() == Mode::SingleMaster {
            self.thread.lease.needed.store(true, Ordering::Release);
        }
        if let Some((since, from, reason)) = self.noticed.take() {
            let milliseconds = now.saturating_sub(since);
            self.takeover = Some(TakeoverInfo { from, reason, milliseconds });
        }
        info!(seat = stream.seat.0, epoch = stream.epoch.0, "seat opened");
        self.follower.seated(stream.seat);
    }

    pub(super) fn lose_seat(&mut self, why: &str) {
        if self.seat.is_none() && self.opening.is_none() {
            return;
        }
        info!(why, "seat lost");
        self.seat = None;
        self.opening = None;
        self.coordinator.resign();
        self.follower.unseated();
        self.thread.lease.needed.store(false, Ordering::Release);
        self.take_after = self.now() + 200;
    }
}
