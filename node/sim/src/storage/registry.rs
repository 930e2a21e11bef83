//! The instances connected to a storage node: as `node/storage/src/{instances,topology}.rs`.

use std::collections::BTreeMap;

use node_core::ids::{Epoch, RunId, Vector};
use node_core::lease::Vigil;
use node_core::wire::{InstanceInfo, Peer, Reply, Role, SeatInfo};

use super::Node;
use crate::context::Context;
use crate::net::{Address, MS, Micros, Place};

/// How long an instance that left is still shown, and its snapshots kept. Shorter than what ships, so that
/// a run sees it happen.
const DEPARTED: Micros = 1_500 * MS;
const TALKING: Micros = 150 * MS;
const REFRESH: Micros = 500 * MS;

struct Entry {
    name: String,
    ordinal: u16,
    tier: u8,
    place: Place,
    role: Role,
    applied: Vector,
    low: Option<Vector>,
    /// The connection, while there is one.
    generation: Option<u64>,
    /// The newest connection there was.
    newest: u64,
    heard: Micros,
    /// What the subscriber has been sent.
    at: Option<Vector>,
}

type Standing = (Vec<SeatInfo>, Vec<(RunId, Role, bool)>);

/// The instances known to a node.
pub(crate) struct Registry {
    entries: BTreeMap<u64, Entry>,
    started: Micros,
    low: Vector,
    told: Option<(Standing, Micros)>,
    vigil: Vigil,
}

/// What a heartbeat says.
pub(crate) struct Said {
    pub(crate) role: Role,
    pub(crate) epoch: Epoch,
    pub(crate) applied: Vector,
    pub(crate) low: Vector,
}

/// What a heartbeat leads to.
pub(crate) struct Heard {
    /// Others should hear of it at once.
    pub(crate) news: bool,
    pub(crate) lease: bool,
}

impl Registry {
    pub(crate) fn new(now: Micros, first: bool) -> Registry {
        let vigil = Vigil::new(now / MS, first);
        Registry { entries: BTreeMap::new(), started: now, low: Vector::new(), told: None, vigil }
    }
    pub(crate) fn writer_epoch(&mut self, epoch: Epoch) {
        self.vigil.newest(epoch);
    }
    pub(crate) fn admits(&mut self, run: RunId, epoch: Epoch, now: Micros) -> bool {
        self.vigil.admits(run, epoch, now / MS)
    }
    /// An instance has connected. False if it has a newer connection.
    pub(crate) fn connected(&mut self, peer: Peer, from: Address, generation: u64, now: Micros) -> bool {
        let Peer::Instance { name, ordinal, tier, run } = peer else { return false };
        let other = |run: &u64, entry: &Entry| *run != from.run && entry.name == name;
        self.entries.retain(|run, entry| !other(run, entry) || entry.generation.is_some());
        let entry = self.entries.entry(run.0).or_insert_with(|| Entry {
            name,
            ordinal,
            tier,
            place: from.place,
            role: Role::Reader,
            applied: Vector::new(),
            low: None,
            generation: None,
            newest: 0,
            heard: now,
            at: None,
        });
        if entry.newest >= generation {
            return false;
        }
        entry.newest = generation;
        entry.generation = Some(generation);
        entry.heard = now;
        entry.at = None;
        true
    }
    pub(crate) fn current(&self, run: u64, generation: u64) -> bool {
        self.entries.get(&run).is_some_and(|entry| entry.generation == Some(generation))
    }
    /// A heartbeat; `None` if it is of no connection.
    pub(crate) fn heard(&mut self, run: u64, generation: u64, said: Said, now: Micros) -> Option<Heard> {
        let Said { role, epoch, applied, low } = said;
        let entry = self.entries.get_mut(&run).filter(|entry| entry.generation == Some(generation))?;
        let news = entry.role != role || now - entry.heard >= TALKING;
        entry.role = role;
        entry.applied = applied;
        entry.low = Some(low);
        entry.heard = now;
        Some(Heard { news, lease: self.vigil.heartbeat(RunId(run), epoch, now / MS) })
    }
    /// A connection is gone; `ended`: the instance closed it, or is gone. True if it was the present one.
    pub(crate) fn disconnected(&mut self, run: u64, generation: u64, ended: bool, now: Micros) -> bool {
        let found = self.entries.get_mut(&run).filter(|entry| entry.generation == Some(generation));
        let Some(entry) = found else { return false };
        entry.generation = None;
        entry.at = None;
        entry.heard = now;
        if ended {
            self.vigil.ended(RunId(run));
        }
        true
    }
    pub(crate) fn subscribed(&mut self, run: u64, at: Vector) {
        if let Some(entry) = self.entries.get_mut(&run) {
            entry.at = Some(at);
        }
    }
    pub(crate) fn subscribers(&mut self) -> impl Iterator<Item = (Place, u64, &mut Vector)> + '_ {
        self.entries
            .values_mut()
            .filter_map(|entry| Some((entry.place, entry.generation?, entry.at.as_mut()?)))
    }
    fn low(&mut self, end: &Vector, now: Micros) -> &Vector {
        let mut lows = self.entries.values().filter_map(|entry| entry.low.as_ref());
        let low = match lows.next() {
            Some(first) => Some(lows.fold(first.clone(), |low, other| low.meet(other))),
            None if now - self.started < DEPARTED => None,
            None => Some(end.clone()),
        };
        if let Some(low) = low {
            self.low.join(&low.meet(end));
        }
        &self.low
    }
    fn infos(&self, now: Micros) -> Vec<InstanceInfo> {
        let info = |(run, entry): (&u64, &Entry)| {
            let silent = now - entry.heard;
            let talking = entry.generation.is_some() && silent < TALKING;
            InstanceInfo {
                name: entry.name.clone(),
                ordinal: entry.ordinal,
                tier: entry.tier,
                run: RunId(*run),
                role: entry.role,
                applied: entry.applied.clone(),
                lag_us: 0,
                silent_ms: if talking { 0 } else { u32::try_from(silent / MS).unwrap_or(u32::MAX) },
                connected: entry.generation.is_some(),
            }
        };
        self.entries.iter().map(info).collect()
    }
}

impl Node {
    /// Tells instances who is here, if that is news or long ago, and moves the low-water mark.
    pub(super) fn tell_topology(&mut self, context: &mut Context) {
        let now = context.now;
        let Some(live) = &mut self.live else { return };
        let registry = &mut live.registry;
        registry.entries.retain(|_, entry| entry.generation.is_some() || now - entry.heard < DEPARTED);
        let low = registry.low(live.feed.end(), now).clone();
        let moved = live.low != low;
        live.low = low;
        let (seats, instances) = (live.acceptor.seats(), registry.infos(now));
        let brief = instances.iter().map(|info| (info.run, info.role, info.connected)).collect();
        let standing = (seats.clone(), brief);
        let silence = instances.iter().any(|info| info.connected && info.silent_ms > 0);
        let due = match &registry.told {
            None => true,
            Some((before, at)) => *before != standing || silence || now - *at >= REFRESH,
        };
        let connections: Vec<(Place, u64)> =
            registry.entries.values().filter_map(|entry| Some((entry.place, entry.generation?))).collect();
        if due {
            registry.told = Some((standing, now));
            for (to, generation) in connections {
                let reply = Reply::Topology { seats: seats.clone(), instances: instances.clone() };
                self.say(to, generation, reply, context);
            }
        }
        if moved {
            self.tell_subscribers(&[], context);
        }
    }
}
