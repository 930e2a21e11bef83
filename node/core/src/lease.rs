//! Single-master mode: until when the writer may serve reads from what it has, without asking anybody.
//!
//! A heartbeat of the writer asks each storage node for a *lease*: a node that grants one lets nobody else take
//! the seat for [`SILENT_MS`] from then on. The writer serves reads for [`LEASE_MS`] after it sent a heartbeat for
//! which a read quorum granted one. Whoever takes the seat needs a write quorum, which meets every read quorum:
//! so while the writer reads, nobody else can have committed.
//!
//! A node lets go of its lease early if the writer says that it holds the seat no more, or has closed its
//! connection, which a process that ends does too: either way the writer does not count on that node any more.
//! A connection that ends otherwise says nothing about the writer. A node that starts again does not know what it
//! granted before, and lets nobody take the seat until such a lease would be over.
//!
//! The idea is that of leader leases (Gray and Cheriton, *Leases*, SOSP 1989); clocks are compared with nobody's
//! and need only run at nearly the same rate.

use crate::coordinator::Millis;
use crate::election::{LEASE_MS, SILENT_MS};
use crate::ids::{Epoch, RunId, StorageId};
use crate::mistakes::{Mistake, made};
use crate::quorum::Quorum;

/// The writer's side: which storage nodes have granted it a lease, and when.
#[derive(Clone, Debug)]
pub struct Lease {
    quorum: Quorum,
    epoch: Epoch,
    /// When the newest heartbeat was sent for which each node granted one over the connection that is there.
    granted: Vec<Option<Millis>>,
}

impl Lease {
    /// Nobody has granted anything.
    pub fn new(quorum: Quorum) -> Lease {
        Lease { quorum, epoch: Epoch(0), granted: vec![None; quorum.nodes()] }
    }
    /// The seat was taken with this epoch: what was granted before is of another time.
    pub fn begin(&mut self, epoch: Epoch) {
        self.epoch = epoch;
        self.granted.fill(None);
    }
    /// A storage node has granted a lease for the heartbeat of this epoch that was sent at `sent`.
    pub fn granted(&mut self, node: StorageId, epoch: Epoch, sent: Millis) {
        if epoch == self.epoch
            && let Some(granted) = self.granted.get_mut(usize::from(node.0))
        {
            *granted = (*granted).max(Some(sent));
        }
    }
    /// The connection to a storage node is gone. To be said before this side closes it: the node lets go then.
    pub fn lost(&mut self, node: StorageId) {
        if let Some(granted) = self.granted.get_mut(usize::from(node.0)) {
            *granted = None;
        }
    }
    /// When the newest heartbeat was sent for which a read quorum has granted one.
    fn since(&self) -> Option<Millis> {
        let mut granted: Vec<Millis> = self.granted.iter().flatten().copied().collect();
        granted.sort_unstable_by(|a, b| b.cmp(a));
        granted.get(self.quorum.read() - 1).copied()
    }
    /// Until when reads may be served; `None`: not now.
    pub fn until(&self) -> Option<Millis> {
        self.since().map(|since| since + LEASE_MS)
    }
}

/// A storage node's side: to whom it has granted a lease.
#[derive(Clone, Debug)]
pub struct Vigil {
    /// Until when what an earlier run of the node granted may hold.
    unknown_until: Millis,
    /// The newest epoch of the seat that the node has granted or heard of.
    newest: Epoch,
    /// To whom it granted a lease last, and when.
    granted: Option<(RunId, Millis)>,
}

impl Vigil {
    /// At the node's start. `first`: its volume is not formed yet, so that it cannot have granted anything before.
    pub fn new(now: Millis, first: bool) -> Vigil {
        let unknown_until = if first { 0 } else { now + Millis::from(SILENT_MS) };
        Vigil { unknown_until, newest: Epoch(0), granted: None }
    }
    /// What the node knows of the seat has changed. To be said before it answers whoever was granted it.
    pub fn newest(&mut self, epoch: Epoch) {
        self.newest = epoch;
    }
    /// A heartbeat of an instance that holds the seat with this epoch (0: it does not hold it). Whether the node
    /// grants it a lease.
    pub fn heartbeat(&mut self, run: RunId, epoch: Epoch, now: Millis) -> bool {
        let grants = epoch > Epoch(0) && epoch == self.newest;
        if grants {
            self.granted = Some((run, now));
        } else if epoch == Epoch(0) {
            self.ended(run);
        }
        grants
    }
    /// The instance has closed its connection, or is gone. Not: the connection is gone.
    pub fn ended(&mut self, run: RunId) {
        self.granted.take_if(|(to, _)| *to == run);
    }
    /// Whether the node may grant the seat to the run. If so, the holder gets no lease from here on. An epoch that is
    /// over is not a lease's business.
    pub fn admits(&mut self, run: RunId, epoch: Epoch, now: Millis) -> bool {
        let leased =
            |(to, at): (RunId, Millis)| to != run && now.saturating_sub(at) < Millis::from(SILENT_MS);
        let bound = now < self.unknown_until || self.granted.is_some_and(leased);
        if epoch > self.newest && bound && !made(Mistake::LeaseForgotten) {
            return false;
        }
        self.newest = self.newest.max(epoch);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quorum::Mode;

    const SILENT: Millis = SILENT_MS as Millis;
    const OLD: RunId = RunId(1);
    const NEW: RunId = RunId(2);

    #[test]
    fn a_lease_counts_from_the_heartbeat_that_a_read_quorum_granted_and_without_lost_connections() {
        let quorum = Quorum::new(6, Mode::SingleMaster).expect("a volume has 6");
        let mut lease = Lease::new(quorum);
        lease.begin(Epoch(3));
        assert_eq!(lease.until(), None, "nobody has granted one");
        for (node, sent) in [(0, 100), (1, 300), (2, 200)] {
            lease.granted(StorageId(node), Epoch(2), 5_000);
            lease.granted(StorageId(node), Epoch(3), sent);
        }
        assert_eq!(lease.until(), Some(100 + LEASE_MS));
        lease.granted(StorageId(3), Epoch(3), 250);
        lease.granted(StorageId(3), Epoch(3), 150);
        assert_eq!(lease.until(), Some(200 + LEASE_MS));
        lease.lost(StorageId(1));
        assert_eq!(lease.until(), Some(100 + LEASE_MS));
        lease.lost(StorageId(2));
        assert_eq!(lease.until(), None);
        lease.granted(StorageId(2), Epoch(3), 400);
        lease.begin(Epoch(4));
        assert_eq!(lease.until(), None);
    }

    #[test]
    fn nobody_is_granted_the_seat_while_its_holder_has_a_lease() {
        let mut vigil = Vigil::new(0, true);
        assert!(vigil.admits(OLD, Epoch(1), 0));
        assert!(vigil.heartbeat(OLD, Epoch(1), 10));
        assert!(!vigil.admits(NEW, Epoch(2), 10 + SILENT - 1));
        assert!(vigil.admits(OLD, Epoch(1), 20), "the holder asks again");
        assert!(vigil.admits(NEW, Epoch(2), 10 + SILENT));
        assert!(!vigil.heartbeat(OLD, Epoch(1), 10 + SILENT), "it has been replaced");
        // Refused after all: the acceptor knew better.
        vigil.newest(Epoch(1));
        assert!(vigil.heartbeat(OLD, Epoch(1), 20 + SILENT));
    }

    #[test]
    fn a_lease_ends_with_its_holders_word_and_with_its_end() {
        let ends: [fn(&mut Vigil); 2] =
            [|vigil| vigil.ended(OLD), |vigil| assert!(!vigil.heartbeat(OLD, Epoch(0), 20))];
        for end in ends {
            let mut vigil = Vigil::new(0, true);
            vigil.newest(Epoch(1));
            assert!(vigil.heartbeat(OLD, Epoch(1), 10));
            vigil.ended(NEW);
            assert!(!vigil.admits(NEW, Epoch(2), 20));
            end(&mut vigil);
            assert!(vigil.admits(NEW, Epoch(2), 20));
        }
    }

    #[test]
    fn a_node_that_starts_again_honours_what_it_may_have_granted() {
        let mut vigil = Vigil::new(1_000, false);
        vigil.newest(Epoch(1));
        assert!(!vigil.admits(NEW, Epoch(2), 1_000 + SILENT - 1));
        assert!(vigil.admits(NEW, Epoch(2), 1_000 + SILENT));
    }

    #[test]
    fn an_epoch_that_the_node_has_not_heard_of_is_granted_no_lease() {
        let mut vigil = Vigil::new(0, true);
        vigil.newest(Epoch(1));
        assert!(!vigil.heartbeat(NEW, Epoch(2), 10));
        vigil.newest(Epoch(2));
        assert!(vigil.heartbeat(NEW, Epoch(2), 20));
    }
}
