//! Single-master mode: who becomes the writer, and when.
//!
//! Storage nodes tell every instance who holds the seat and which instances they hear. An instance
//! campaigns (takes the seat with the next epoch) when a write quorum of them no longer hears the holder: the
//! holder then has no read quorum either, so that its lease ends, and nothing is lost by fencing it. Among the candidates the one
//! with the best promotion tier goes first, then the freshest; each later rank waits longer, so that a
//! campaign normally has no rival. Rivals are safe all the same: fences and epochs decide.
//!
//! A holder that was granted the seat but has not opened it within [`OPENING_MS`] counts as gone; at once if
//! rivals have divided the storage nodes among them so that none of them can open it.

use crate::coordinator::Millis;
use crate::ids::{Epoch, RunId, Seat, StorageId, TxnId, Vector};
use crate::quorum::{Mode, Quorum};
use crate::wire::{InstanceInfo, Role, SeatInfo};

/// The one seat of single-master mode.
pub const WRITER_SEAT: Seat = Seat(0);
/// A writer that a storage node has not heard for this long is silent.
pub const SILENT_MS: u32 = 1_500;
/// A writer serves reads only if a read quorum answered a heartbeat sent within this time. Shorter than
/// [`SILENT_MS`], so that it has stopped before anybody campaigns.
pub const LEASE_MS: Millis = 1_000;
/// How much longer each rank of candidates waits.
pub const RANK_STEP_MS: Millis = 250;
/// How long a writer that says it has resigned, but is still there, is waited for: a view may be of the moment
/// in which it took the seat.
pub const RESIGNED_MS: Millis = 50;
/// How long the first election of a volume waits for other candidates to appear.
pub const FIRST_WAIT_MS: Millis = 300;
/// How long a candidate may take between being granted the seat and opening it.
pub const OPENING_MS: Millis = 3_000;

/// How long a rival of a living instance's undecided transaction waits before it recovers it (multi-master).
pub const RIVAL_PATIENCE_MS: Millis = 40;
/// The same where the writer is the only one and has no rivals: its transactions are left to it. It is longer than a
/// writer can be silent without being taken for dead, after which nobody waits.
pub const WRITER_PATIENCE_MS: Millis = 5_000;

const _: () = assert!(WRITER_PATIENCE_MS > SILENT_MS as Millis, "only a living writer is waited for so long");
const _: () = assert!(LEASE_MS < SILENT_MS as Millis, "a lease ends before its holder is replaced");

/// What one storage node says.
#[derive(Clone, Debug)]
struct View {
    seats: Vec<SeatInfo>,
    instances: Vec<InstanceInfo>,
}

/// Who holds the seat, by the newest epoch granted anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its epoch.
    pub epoch: Epoch,
    /// Its run.
    pub run: RunId,
    /// Whether it has opened the seat.
    pub active: bool,
}

/// Decides when this instance campaigns.
pub struct Election {
    run: RunId,
    quorum: Quorum,
    views: Vec<Option<View>>,
    gone_since: Option<(Epoch, Millis)>,
    granted_since: Option<(Epoch, Millis)>,
}

/// How the holder of a seat was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// It handed the seat over.
    Resigned,
    /// Its connections to the storage nodes are closed.
    Disconnected,
    /// It is connected and does not answer.
    Silent,
}

impl Election {
    /// For the instance's run.
    pub fn new(run: RunId, quorum: Quorum) -> Election {
        let views = (0..quorum.nodes()).map(|_| None).collect();
        Election { run, quorum, views, gone_since: None, granted_since: None }
    }
    /// A storage node's view of seats and instances.
    pub fn view(&mut self, node: StorageId, seats: Vec<SeatInfo>, instances: Vec<InstanceInfo>) {
        if let Some(view) = self.views.get_mut(usize::from(node.0)) {
            *view = Some(View { seats, instances });
        }
    }
    /// A storage node's connection is gone: its view no longer counts.
    pub fn lost(&mut self, node: StorageId) {
        if let Some(view) = self.views.get_mut(usize::from(node.0)) {
            *view = None;
        }
    }
    /// The newest holder of a seat that any storage node knows.
    pub fn holder(&self, seat: Seat) -> Option<Holder> {
        let seats = self.views.iter().flatten().flat_map(|view| &view.seats);
        let of_seat = seats.filter(|info| info.seat == seat && info.epoch > Epoch(0));
        let newest = of_seat.max_by_key(|info| (info.epoch, info.active))?;
        Some(Holder { epoch: newest.epoch, run: newest.run, active: newest.active })
    }
    /// An instance as the storage nodes last heard of it; the connected view wins.
    pub fn instance(&self, run: RunId) -> Option<&InstanceInfo> {
        let all = self.views.iter().flatten().flat_map(|view| &view.instances);
        all.filter(|info| info.run == run).max_by_key(|info| (info.connected, u32::MAX - info.silent_ms))
    }
    /// Every instance that any storage node is connected to.
    pub fn instances(&self) -> Vec<&InstanceInfo> {
        let mut found: Vec<&InstanceInfo> = Vec::new();
        for info in self.views.iter().flatten().flat_map(|view| &view.instances).filter(|info| info.connected)
        {
            match found.iter_mut().find(|have| have.run == info.run) {
                Some(have) if info.silent_ms < have.silent_ms => *have = info,
                Some(_) => {}
                None => found.push(info),
            }
        }
        found.sort_by_key(|info| info.ordinal);
        found
    }
    /// Whether a write quorum of storage nodes does not hear this run. It meets every read quorum that answers a
    /// writer and so keeps its lease alive; and whoever takes the seat needs a write quorum anyway.
    pub fn gone(&self, run: RunId) -> bool {
        let hears = |view: &View| {
            view.instances.iter().any(|info| info.run == run && info.connected && info.silent_ms < SILENT_MS)
        };
        self.views.iter().flatten().filter(|view| !hears(view)).count() >= self.quorum.write()
    }
    /// How long whoever needs the outcome of an undecided transaction leaves it to its own writer before it
    /// recovers it: not at all once the writer is gone or has been replaced.
    ///
    /// A recovery that begins while the writer itself is at work makes both slower: each takes the other's ballots
    /// away, and every round carries the whole record to every node and back.
    pub fn patience(&self, txn: TxnId) -> Millis {
        let holder = self.holder(txn.seat);
        let alive = holder.is_some_and(|holder| holder.epoch == txn.epoch && !self.gone(holder.run));
        match self.quorum.mode() {
            _ if !alive => 0,
            Mode::SingleMaster => WRITER_PATIENCE_MS,
            Mode::MultiMaster => RIVAL_PATIENCE_MS,
        }
    }
    /// Whether a read quorum of storage nodes hears from the run that it is only a reader.
    fn resigned(&self, run: RunId) -> bool {
        let reads =
            |view: &View| view.instances.iter().any(|info| info.run == run && info.role == Role::Reader);
        self.views.iter().flatten().filter(|view| reads(view)).count() >= self.quorum.read()
    }
    /// How a run that holds a seat no more was lost, as most of what is known says: single storage nodes may
    /// not have heard the last of it yet.
    pub fn parting(&self, run: RunId) -> Parting {
        let connected = |view: &View| view.instances.iter().any(|info| info.run == run && info.connected);
        let without = self.views.iter().flatten().filter(|view| !connected(view)).count();
        if self.resigned(run) {
            Parting::Resigned
        } else if without >= self.quorum.read() {
            Parting::Disconnected
        } else {
            Parting::Silent
        }
    }
    /// Whether rivals have been granted the same epoch by so many storage nodes each that none can open it.
    fn divided(&self, seat: Seat, epoch: Epoch) -> bool {
        let of_seat = |view: &View| {
            view.seats.iter().find(|info| info.seat == seat && info.epoch >= epoch).map(|info| info.run)
        };
        let granted: Vec<RunId> = self.views.iter().flatten().filter_map(of_seat).collect();
        let lost = |run: &RunId| {
            let others = granted.iter().filter(|other| *other != run).count();
            self.quorum.nodes() - others < self.quorum.write()
        };
        !granted.is_empty() && granted.iter().all(lost)
    }
    /// The epoch to campaign with, if it is time to.
    pub fn campaign(&mut self, now: Millis) -> Option<Epoch> {
        let views = self.views.iter().flatten().count();
        if views < self.quorum.write() {
            self.gone_since = None;
            return None;
        }
        let holder = self.holder(WRITER_SEAT);
        let epoch = holder.map_or(Epoch(0), |holder| holder.epoch);
        if self.granted_since.is_none_or(|(of, _)| of != epoch) {
            self.granted_since = Some((epoch, now));
        }
        let opening = !self.divided(WRITER_SEAT, epoch)
            && self.granted_since.is_some_and(|(_, since)| now.saturating_sub(since) < OPENING_MS);
        let left = holder.is_some_and(|holder| holder.active && self.resigned(holder.run));
        let present = holder.is_some_and(|holder| {
            let heard = !self.gone(holder.run) && (holder.active || opening);
            !left && (heard || holder.run == self.run && (holder.active || opening))
        });
        if present {
            self.gone_since = None;
            return None;
        }
        if self.gone_since.is_none_or(|(of, _)| of != epoch) {
            self.gone_since = Some((epoch, now));
        }
        let waited = self.gone_since.map_or(0, |(_, since)| now.saturating_sub(since));
        let only_resigned = left && holder.is_some_and(|holder| !self.gone(holder.run));
        let first = match epoch {
            Epoch(0) => FIRST_WAIT_MS,
            _ if only_resigned => RESIGNED_MS,
            _ => 0,
        };
        // A rival for a seat that nobody opened is as good a candidate as before.
        let rank = self.rank(holder.filter(|holder| holder.active).map(|holder| holder.run))?;
        (waited >= first + RANK_STEP_MS * rank).then_some(Epoch(epoch.0 + 1))
    }
    /// How many candidates go before this instance; `None` while no storage node lists it.
    fn rank(&self, holder: Option<RunId>) -> Option<u64> {
        let me = self.instance(self.run)?;
        let order =
            |info: &InstanceInfo| (info.tier, std::cmp::Reverse(progress(&info.applied)), info.ordinal);
        let mine = order(me);
        let before = self.instances().into_iter().filter(|info| {
            let theirs = order(info);
            info.run != self.run && Some(info.run) != holder && !self.gone(info.run) && theirs < mine
        });
        Some(before.count() as u64)
    }
}

/// How far an instance is, roughly: what is heard of the others is a moment old, and candidates must not each
/// take themselves for the freshest.
fn progress(applied: &Vector) -> u64 {
    const ROUGHLY: u64 = 16_384;
    let position = applied.get(WRITER_SEAT);
    position.seq.0 / ROUGHLY
}

#[cfg(test)]
mod tests;
