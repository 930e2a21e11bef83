//! The instances connected to this node: who they are, how far they are, and the oldest snapshot they read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use node_core::coordinator::Millis;
use node_core::ids::{Epoch, RunId, Vector};
use node_core::lease::Vigil;
use node_core::wire::{InstanceInfo, Peer, Role};

use crate::connection::Connection;

/// How long an instance that left is still shown, and its snapshots kept.
pub(crate) const DEPARTED_GRACE: Duration = Duration::from_secs(10);
/// Below this an instance counts as talking.
const TALKING: Duration = Duration::from_millis(150);

/// What an instance says of itself with every heartbeat.
pub(crate) struct Standing {
    pub(crate) role: Role,
    pub(crate) epoch: Epoch,
    pub(crate) applied: Vector,
    pub(crate) low: Vector,
    pub(crate) lag_us: u32,
}

/// What a heartbeat leads to.
pub(crate) struct Heard {
    /// Others should hear of it at once.
    pub(crate) news: bool,
    /// The writer is granted a lease.
    pub(crate) lease: bool,
}

struct Entry {
    name: String,
    ordinal: u16,
    tier: u8,
    role: Role,
    applied: Vector,
    low: Option<Vector>,
    lag_us: u32,
    connection: Option<Arc<Connection>>,
    heard: Instant,
}

/// The instances known to this node.
pub(crate) struct Instances {
    entries: BTreeMap<RunId, Entry>,
    started: Instant,
    low: Vector,
    vigil: Vigil,
}

impl Instances {
    /// `first`: the volume is not formed yet.
    pub(crate) fn new(now: Instant, first: bool) -> Instances {
        let vigil = Vigil::new(0, first);
        Instances { entries: BTreeMap::new(), started: now, low: Vector::new(), vigil }
    }
    fn millis(&self, now: Instant) -> Millis {
        Millis::try_from((now - self.started).as_millis()).unwrap_or(Millis::MAX)
    }
    /// What this node knows of the writer's seat.
    pub(crate) fn writer_epoch(&mut self, epoch: Epoch) {
        self.vigil.newest(epoch);
    }
    /// Whether the run may be granted the writer's seat as far as leases go.
    pub(crate) fn admits(&mut self, run: RunId, epoch: Epoch, now: Instant) -> bool {
        self.vigil.admits(run, epoch, self.millis(now))
    }
    /// An instance has connected. Connections of storage nodes are ignored.
    pub(crate) fn connected(&mut self, connection: &Arc<Connection>, now: Instant) {
        let Peer::Instance { name, ordinal, tier, run } = &connection.peer else { return };
        // An older run of the same instance that is gone will not come back.
        self.entries.retain(|other, entry| other == run || entry.name != *name || entry.connection.is_some());
        let entry = self.entries.entry(*run).or_insert_with(|| Entry {
            name: name.clone(),
            ordinal: *ordinal,
            tier: *tier,
            role: Role::Reader,
            applied: Vector::new(),
            low: None,
            lag_us: 0,
            connection: None,
            heard: now,
        });
        entry.heard = now;
        entry.connection = Some(connection.clone());
    }
    /// A heartbeat.
    pub(crate) fn heard(&mut self, run: RunId, standing: Standing, now: Instant) -> Heard {
        let millis = self.millis(now);
        let Some(entry) = self.entries.get_mut(&run) else { return Heard { news: false, lease: false } };
        let Standing { role, epoch, applied, low, lag_us } = standing;
        let news = entry.role != role || now - entry.heard >= TALKING;
        entry.role = role;
        entry.applied = applied;
        entry.low = Some(low);
        entry.lag_us = lag_us;
        entry.heard = now;
        Heard { news, lease: self.vigil.heartbeat(run, epoch, millis) }
    }
    /// A connection is gone; `ended`: because the instance closed it, or is gone itself.
    pub(crate) fn disconnected(&mut self, connection: &Connection, ended: bool, now: Instant) {
        let Peer::Instance { run, .. } = &connection.peer else { return };
        if let Some(entry) = self.entries.get_mut(run)
            && entry.connection.as_ref().is_some_and(|current| current.id == connection.id)
        {
            entry.connection = None;
            entry.heard = now;
            if ended {
                self.vigil.ended(*run);
            }
        }
    }
    /// Forgets instances that left long ago. True if there were any.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        let before = self.entries.len();
        self.entries.retain(|_, entry| entry.connection.is_some() || now - entry.heard < DEPARTED_GRACE);
        self.entries.len() < before
    }
    /// The oldest snapshot anybody reads; never moves back. `end`: the end of the decided history.
    pub(crate) fn low(&mut self, end: &Vector, now: Instant) -> &Vector {
        let mut lows = self.entries.values().filter_map(|entry| entry.low.as_ref());
        let low = match lows.next() {
            Some(first) => Some(lows.fold(first.clone(), |low, other| low.meet(other))),
            // After a restart the instances have a moment to come back.
            None if now - self.started < DEPARTED_GRACE => None,
            None => Some(end.clone()),
        };
        if let Some(low) = low {
            self.low.join(&low.meet(end));
        }
        &self.low
    }
    /// The instances as told to others.
    pub(crate) fn infos(&self, now: Instant) -> Vec<InstanceInfo> {
        let info = |(run, entry): (&RunId, &Entry)| {
            let silent = now - entry.heard;
            let talking = entry.connection.is_some() && silent < TALKING;
            InstanceInfo {
                name: entry.name.clone(),
                ordinal: entry.ordinal,
                tier: entry.tier,
                run: *run,
                role: entry.role,
                applied: entry.applied.clone(),
                lag_us: entry.lag_us,
                silent_ms: if talking { 0 } else { u32::try_from(silent.as_millis()).unwrap_or(u32::MAX) },
                connected: entry.connection.is_some(),
            }
        };
        self.entries.iter().map(info).collect()
    }
    /// Connections of instances.
    pub(crate) fn connections(&self) -> Vec<Arc<Connection>> {
        self.entries.values().filter_map(|entry| entry.connection.clone()).collect()
    }
    /// True if nobody is connected or remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
