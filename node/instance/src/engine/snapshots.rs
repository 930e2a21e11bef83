//! Which vector new snapshots get, and which snapshots are open.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use node_core::cache::Horizon;
use node_core::ids::{TxnId, Vector};
use parking_lot::{Condvar, Mutex};

use super::KILL_POLL;

/// An open snapshot. It must be given back to [`Snapshots::release`].
#[derive(Debug)]
pub(super) struct Snapshot {
    generation: u64,
    pub(super) vector: Arc<Vector>,
}

#[derive(Debug, Default)]
struct Inner {
    published: Arc<Vector>,
    /// Counts publications; sessions that take the same one share an entry below.
    generation: u64,
    open: BTreeMap<u64, (Arc<Vector>, usize)>,
}

/// The snapshots of one instance. Each covers those taken before it.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    inner: Mutex<Inner>,
    /// Something has been published.
    moved: Condvar,
}

impl Snapshots {
    /// Takes a snapshot of everything published.
    pub(super) fn take(&self) -> Snapshot {
        let mut inner = self.inner.lock();
        let Inner { published, generation, open } = &mut *inner;
        open.entry(*generation).or_insert_with(|| (published.clone(), 0)).1 += 1;
        Snapshot { generation: *generation, vector: published.clone() }
    }

    /// Closes a snapshot.
    pub(super) fn release(&self, snapshot: Snapshot) {
        let mut inner = self.inner.lock();
        if let Some(entry) = inner.open.get_mut(&snapshot.generation) {
            entry.1 -= 1;
            if entry.1 == 0 {
                inner.open.remove(&snapshot.generation);
            }
        }
    }

    /// From now on new snapshots are at the vector, which covers all before it.
    pub(super) fn publish(&self, applied: &Vector) {
        let mut inner = self.inner.lock();
        if *inner.published != *applied {
            inner.published = Arc::new(applied.clone());
            inner.generation += 1;
            self.moved.notify_all();
        }
    }

    /// Waits until a new snapshot sees what the transaction wrote. False: not in time, or killed.
    pub(super) fn wait_to_see(&self, txn: TxnId, wait: Duration, killed: &AtomicBool) -> bool {
        let mut inner = self.inner.lock();
        if inner.published.sees(txn) {
            return true;
        }
        let deadline = Instant::now() + wait;
        while !inner.published.sees(txn) {
            let now = Instant::now();
            if now >= deadline || killed.load(Ordering::Relaxed) {
                return false;
            }
            self.moved.wait_until(&mut inner, deadline.min(now + KILL_POLL));
        }
        true
    }

    /// The same after a reset: storage may not keep what the open snapshots see, so they hold nothing back any more.
    /// Whoever has one finds out before it believes what it read.
    pub(super) fn restart(&self, applied: &Vector) {
        let mut inner = self.inner.lock();
        inner.open.clear();
        inner.published = Arc::new(applied.clone());
        inner.generation += 1;
        self.moved.notify_all();
    }

    /// What a new snapshot would be.
    pub(super) fn published(&self) -> Arc<Vector> {
        self.inner.lock().published.clone()
    }

    /// The oldest open snapshot, or what a new one would be.
    pub(super) fn low(&self) -> Arc<Vector> {
        let inner = self.inner.lock();
        inner.open.first_key_value().map_or(&inner.published, |(_, entry)| &entry.0).clone()
    }

    /// Everything that may still be read.
    pub(super) fn horizon(&self) -> Horizon {
        let inner = self.inner.lock();
        let open = inner.open.values().map(|entry| entry.0.clone());
        Horizon::new(open.chain([inner.published.clone()]).collect())
    }

    /// How many distinct snapshots are open.
    pub(super) fn len(&self) -> usize {
        self.inner.lock().open.len()
    }
}

#[cfg(test)]
mod tests {
    use node_core::ids::{Epoch, Position, Seat, Seq};

    use super::*;

    fn at(seq: u64) -> Vector {
        let mut vector = Vector::new();
        vector.advance(Seat(0), Position { epoch: Epoch(1), seq: Seq(seq) });
        vector
    }

    #[test]
    fn the_oldest_open_snapshot_holds_the_low_vector_back() {
        let snapshots = Snapshots::default();
        snapshots.publish(&at(1));
        let (first, second) = (snapshots.take(), snapshots.take());
        snapshots.publish(&at(5));
        let third = snapshots.take();
        assert_eq!(*snapshots.low(), at(1));
        snapshots.release(first);
        assert_eq!(*snapshots.low(), at(1));
        snapshots.release(second);
        assert_eq!(*snapshots.low(), at(5));
        snapshots.publish(&at(9));
        assert_eq!((*snapshots.low()).clone(), at(5));
        snapshots.release(third);
        assert_eq!((*snapshots.low()).clone(), at(9));
        assert_eq!(snapshots.len(), 0);
    }

    #[test]
    fn snapshots_from_before_a_restart_hold_nothing_back() {
        let snapshots = Snapshots::default();
        snapshots.publish(&at(1));
        let old = snapshots.take();
        snapshots.restart(&at(5));
        assert_eq!(*snapshots.low(), at(5));
        let new = snapshots.take();
        snapshots.release(old);
        snapshots.publish(&at(9));
        assert_eq!(*snapshots.low(), at(5));
        snapshots.release(new);
        assert_eq!(*snapshots.low(), at(9));
    }
}
