//! The cache, the snapshots and the row locks of an instance: as `node/instance/src/engine`, whose decisions
//! they are, in one thread.

use std::collections::BTreeMap;
use std::sync::Arc;

use node_core::cache::{Cache, Fed, Horizon};
use node_core::ids::{Height, Key, Vector};
use node_core::locks::{LockTable, Owner};
use node_core::quorum::Mode;
use node_core::wire::FeedItem;

/// The feed is applied this many items at a time.
const BATCH: usize = 32;

/// An open snapshot.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    generation: u64,
    pub(super) vector: Arc<Vector>,
}

/// What others tell a transaction that holds or wants locks.
#[derive(Debug, Default)]
pub(super) struct Cell {
    pub(super) session: usize,
    pub(super) granted: bool,
    /// Keys that others have committed while it had them locked.
    pub(super) changes: Vec<(Key, Height)>,
    pub(super) fenced: bool,
    pub(super) reset: bool,
}

impl Cell {
    pub(super) fn news(&self) -> bool {
        self.fenced || self.reset || !self.changes.is_empty()
    }
}

/// See the module.
pub(crate) struct Engine {
    pub(super) mode: Mode,
    pub(super) cache: Cache,
    pub(super) cache_bytes: usize,
    published: Arc<Vector>,
    generation: u64,
    open: BTreeMap<u64, (Arc<Vector>, usize)>,
    pub(super) locks: LockTable,
    pub(super) cells: BTreeMap<Owner, Cell>,
    next_owner: u64,
    pub(crate) writer: bool,
    /// Resets that may have lost changes.
    pub(super) resets: u64,
    pub(super) low_water: Vector,
}

impl Engine {
    pub(super) fn new(mode: Mode, cache_bytes: usize) -> Engine {
        Engine {
            mode,
            cache: Cache::new(Vector::new()),
            cache_bytes,
            published: Arc::default(),
            generation: 0,
            open: BTreeMap::new(),
            locks: LockTable::new(),
            cells: BTreeMap::new(),
            next_owner: 1,
            writer: false,
            resets: 0,
            low_water: Vector::new(),
        }
    }
    /// What has been applied.
    pub(crate) fn applied(&self) -> Vector {
        (*self.published).clone()
    }
    /// The oldest open snapshot, or what a new one would be.
    pub(super) fn low(&self) -> Vector {
        let low = self.open.first_key_value().map_or(&self.published, |(_, entry)| &entry.0);
        (**low).clone()
    }
    pub(super) fn horizon(&self) -> Horizon {
        let open = self.open.values().map(|entry| entry.0.clone());
        Horizon::new(open.chain([self.published.clone()]).collect())
    }
    pub(super) fn take_snapshot(&mut self) -> Snapshot {
        let entry = self.open.entry(self.generation).or_insert_with(|| (self.published.clone(), 0));
        entry.1 += 1;
        Snapshot { generation: self.generation, vector: self.published.clone() }
    }
    pub(super) fn release_snapshot(&mut self, snapshot: Snapshot) {
        if let Some(entry) = self.open.get_mut(&snapshot.generation) {
            entry.1 -= 1;
            if entry.1 == 0 {
                self.open.remove(&snapshot.generation);
            }
        }
    }
    fn publish(&mut self, applied: &Vector) {
        if *self.published != *applied {
            self.published = Arc::new(applied.clone());
            self.generation += 1;
        }
    }

    /// Applies decided history. Returns the sessions that have news.
    pub(super) fn apply(&mut self, items: &[FeedItem]) -> Vec<usize> {
        let mut woken = Vec::new();
        for batch in items.chunks(BATCH) {
            let horizon = self.horizon();
            let mut new = Vec::new();
            for item in batch {
                if let (Fed::New, FeedItem::Commit(txn)) = (self.cache.feed(item, &horizon), item) {
                    new.push(txn);
                }
            }
            self.cache.evict(self.cache_bytes);
            for write in new.iter().flat_map(|txn| &txn.writes) {
                for (owner, _) in self.locks.holders(&write.key) {
                    if let Some(cell) = self.cells.get_mut(&owner) {
                        cell.changes.push((write.key.clone(), write.height()));
                        woken.push(cell.session);
                    }
                }
            }
            let applied = self.cache.applied().clone();
            self.publish(&applied);
        }
        woken
    }

    /// The history up to the vector is gone: starts over from there.
    pub(super) fn reset(&mut self, at: &Vector) -> Vec<usize> {
        let missed = !self.published.covers(at);
        if missed {
            self.resets += 1;
        }
        self.cache.reset(at);
        let applied = self.cache.applied().clone();
        let mut woken = Vec::new();
        if missed {
            for cell in self.cells.values_mut() {
                cell.reset = true;
                woken.push(cell.session);
            }
        }
        self.publish(&applied);
        woken
    }

    /// The seat is lost.
    pub(super) fn fence(&mut self) -> Vec<usize> {
        self.writer = false;
        let mut woken = Vec::new();
        for cell in self.cells.values_mut() {
            cell.fenced = true;
            woken.push(cell.session);
        }
        woken
    }

    /// A new owner of locks.
    pub(super) fn register(&mut self, session: usize) -> Owner {
        let owner = Owner(self.next_owner);
        self.next_owner += 1;
        self.cells.insert(owner, Cell { session, ..Cell::default() });
        owner
    }
    /// Gives up all locks of the owner, and the owner. Returns the sessions that may go on.
    pub(super) fn release(&mut self, owner: Owner) -> Vec<usize> {
        let woken = self.locks.release_all(owner);
        self.cells.remove(&owner);
        self.grant(&woken)
    }
    /// Marks the owners as granted. Returns their sessions.
    pub(super) fn grant(&mut self, owners: &[Owner]) -> Vec<usize> {
        let mut sessions = Vec::new();
        for owner in owners {
            if let Some(cell) = self.cells.get_mut(owner) {
                cell.granted = true;
                sessions.push(cell.session);
            }
        }
        sessions
    }
    /// No key is locked by a transaction that has ended.
    pub(super) fn check_locks(&self, keys: &[Key]) {
        for key in keys {
            for (owner, _) in self.locks.holders(key) {
                assert!(self.cells.contains_key(&owner), "an ended transaction holds a lock of {key:?}");
            }
        }
        if self.cells.is_empty() {
            assert!(self.locks.is_empty() && self.locks.waiting() == 0, "locks are held by nobody");
        }
    }
}
