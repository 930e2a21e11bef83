//! The cache, the locks and the transactions of an instance.
//!
//! [`Engine`] is what the volume thread feeds; [`EngineStore`] is what `node-sql` reads and writes through.
//! The store knows the volume, the engine does not: so the volume thread may own the engine.
//!
//! Locks are taken in this order, and none is held across a fetch, a wait for a row lock or a call to the
//! volume: fetches under way, cache, then one of snapshots, row locks, one transaction's cell.

mod fetches;
mod locking;
mod overlay;
mod reads;
mod sequences;
mod snapshots;
mod store;
mod txn;
mod waits;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use node_core::cache::{Cache, CacheStats, Fed};
use node_core::ids::{Seat, Vector};
use node_core::quorum::Mode;
use node_core::wire::FeedItem;
use parking_lot::{Condvar, Mutex, RwLock};

use self::fetches::Fetches;
use self::sequences::Sequences;
use self::snapshots::Snapshots;
use self::waits::Waits;

pub use self::store::EngineStore;

/// The feed is applied this many transactions at a time, so that readers get in between.
const BATCH: usize = 32;
/// How often a waiter looks at its kill flag, which nobody announces.
const KILL_POLL: Duration = Duration::from_millis(50);

/// What an engine is told at its start.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// The volume's mode.
    pub mode: Mode,
    /// The instance's ordinal: fixes its AUTO_INCREMENT values in multi-master mode.
    pub ordinal: u16,
    /// Memory for cached rows.
    pub cache_bytes: usize,
    /// The largest write set of a transaction, as it counts in memory.
    pub write_set_bytes: usize,
    /// How long a read waits for a writer's lapsed lease, or for the feed to reach what it has read from storage.
    pub lease_wait: Duration,
}

impl EngineConfig {
    /// A configuration with usual limits.
    pub fn new(mode: Mode, ordinal: u16, cache_bytes: usize) -> EngineConfig {
        let lease_wait = Duration::from_secs(5);
        EngineConfig { mode, ordinal, cache_bytes, write_set_bytes: 64 << 20, lease_wait }
    }
}

/// Whether the instance may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It holds the seat.
    Writer {
        /// Which.
        seat: Seat,
    },
    /// It follows.
    Reader,
}

/// What an engine is doing, for metrics and status pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// The cache.
    pub cache: CacheStats,
    /// Distinct snapshots that are open.
    pub snapshots: usize,
    /// Keys locked.
    pub locked_keys: usize,
    /// Transactions that wait for a lock.
    pub lock_waiters: usize,
    /// Transactions applied since the start, anybody's.
    pub applied: u64,
    /// Blocks read from storage since the start.
    pub fetches: u64,
    /// Transactions of this instance committed since the start.
    pub commits: u64,
    /// Transactions rolled back for a conflict with another instance since the start.
    pub conflicts: u64,
    /// Deadlocks since the start.
    pub deadlocks: u64,
    /// Lock waits that took too long since the start.
    pub lock_timeouts: u64,
}

#[derive(Debug, Default)]
struct Counters {
    applied: AtomicU64,
    fetches: AtomicU64,
    commits: AtomicU64,
    conflicts: AtomicU64,
    deadlocks: AtomicU64,
    lock_timeouts: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The rows, locks and snapshots of an instance.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    cache: RwLock<Cache>,
    /// [`Cache::changes`], for those who do not hold the cache.
    changes: AtomicU64,
    fetches: Fetches,
    snapshots: Snapshots,
    waits: Waits,
    sequences: Sequences,
    /// 0: a reader; otherwise the seat + 1.
    role: AtomicU32,
    /// Resets that may have lost changes, since the start.
    resets: AtomicU64,
    catalog_version: AtomicU64,
    low_water: Mutex<Vector>,
    /// One thread at a time changes what is applied.
    applying: Mutex<()>,
    lease: (Mutex<()>, Condvar),
    counters: Counters,
}

impl Engine {
    /// An engine with an empty cache; a reader until told otherwise.
    pub fn new(config: EngineConfig) -> Engine {
        let (increment, offset) = match config.mode {
            Mode::SingleMaster => (1, 1),
            Mode::MultiMaster => (16, u64::from(config.ordinal) + 1),
        };
        Engine {
            config,
            cache: RwLock::new(Cache::new(Vector::new())),
            changes: AtomicU64::new(0),
            fetches: Fetches::default(),
            snapshots: Snapshots::default(),
            waits: Waits::default(),
            sequences: Sequences::new(increment, offset),
            role: AtomicU32::new(0),
            resets: AtomicU64::new(0),
            catalog_version: AtomicU64::new(1),
            low_water: Mutex::new(Vector::new()),
            applying: Mutex::new(()),
            lease: (Mutex::new(()), Condvar::new()),
            counters: Counters::default(),
        }
    }

    /// Applies decided history, in an order in which it can be applied, this instance's own commits
    /// included. What has been applied before is skipped.
    pub fn apply(&self, items: &[FeedItem]) {
        let _one = self.applying.lock();
        for batch in items.chunks(BATCH) {
            self.apply_batch(batch);
        }
    }

    fn apply_batch(&self, batch: &[FeedItem]) {
        let horizon = self.snapshots.horizon();
        let mut new = Vec::with_capacity(batch.len());
        let applied = self.change_cache(|cache| {
            for item in batch {
                if let (Fed::New, FeedItem::Commit(txn)) = (cache.feed(item, &horizon), item) {
                    new.push(txn);
                }
            }
            cache.evict(self.config.cache_bytes);
            // Before anybody can read the new rows: who holds one row and then reads another of the same
            // commit must learn of its doom with that read.
            let writes = new.iter().flat_map(|txn| &txn.writes);
            self.waits.changed(writes.map(|write| (&write.key, write.height())));
            cache.applied().clone()
        });
        let writes = new.iter().flat_map(|txn| &txn.writes);
        self.snapshots.publish(&applied);
        // After publication: who sees the new version also sees the new rows.
        if writes.clone().any(|write| is_catalog(&write.key)) {
            self.catalog_version.fetch_add(1, Ordering::Release);
        }
        self.counters.applied.fetch_add(new.len() as u64, Ordering::Relaxed);
    }

    /// The history between what has been applied and the vector is not to be had any more: drops every
    /// cached row and goes on from there. Open transactions that may have missed a change are doomed.
    pub fn reset(&self, at: &Vector) {
        let _one = self.applying.lock();
        let missed = !self.snapshots.published().covers(at);
        if missed {
            // Before the cache changes: a read that finds new rows under an old snapshot must see this.
            self.resets.fetch_add(1, Ordering::SeqCst);
        }
        let applied = self.change_cache(|cache| {
            cache.reset(at);
            cache.applied().clone()
        });
        if missed {
            self.waits.reset();
            self.snapshots.restart(&applied);
            // Once more, for whoever has looked at the count since and still got a snapshot of before.
            self.resets.fetch_add(1, Ordering::SeqCst);
        } else {
            self.snapshots.publish(&applied);
        }
        self.catalog_version.fetch_add(1, Ordering::Release);
    }

    /// What has been applied; a snapshot taken now.
    pub fn applied(&self) -> Vector {
        (*self.snapshots.published()).clone()
    }

    /// The oldest open snapshot, or what has been applied: storage must keep what it sees.
    pub fn low(&self) -> Vector {
        (*self.snapshots.low()).clone()
    }

    /// The oldest snapshot that anybody reads, as storage says.
    pub fn set_low_water(&self, low: Vector) {
        *self.low_water.lock() = low;
    }

    /// What [`Engine::set_low_water`] was told last.
    pub fn low_water(&self) -> Vector {
        self.low_water.lock().clone()
    }

    /// Says what the instance is. A new writer begins with AUTO_INCREMENT values read anew.
    pub fn set_role(&self, role: Role) {
        let code = match role {
            Role::Writer { seat } => u32::from(seat.0) + 1,
            Role::Reader => 0,
        };
        self.sequences.clear();
        self.role.store(code, Ordering::SeqCst);
        self.lease_changed();
    }

    /// What the instance is.
    pub fn role(&self) -> Role {
        match self.role.load(Ordering::SeqCst) {
            0 => Role::Reader,
            code => Role::Writer { seat: Seat(u16::try_from(code - 1).unwrap_or(u16::MAX)) },
        }
    }

    /// The seat is lost: the instance is a reader, every open transaction with locks or changes is doomed,
    /// and who waits for a lock wakes up.
    pub fn fence(&self) {
        self.set_role(Role::Reader);
        self.waits.fence();
    }

    /// Tells reads that wait for the lease to ask again.
    pub fn lease_changed(&self) {
        let _held = self.lease.0.lock();
        self.lease.1.notify_all();
    }

    /// Figures for metrics.
    pub fn stats(&self) -> EngineStats {
        let (locked_keys, lock_waiters) = self.waits.counts();
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EngineStats {
            cache: self.cache.read().stats(),
            snapshots: self.snapshots.len(),
            locked_keys,
            lock_waiters,
            applied: of(&self.counters.applied),
            fetches: of(&self.counters.fetches),
            commits: of(&self.counters.commits),
            conflicts: of(&self.counters.conflicts),
            deadlocks: of(&self.counters.deadlocks),
            lock_timeouts: of(&self.counters.lock_timeouts),
        }
    }

    fn is_writer(&self) -> bool {
        self.role.load(Ordering::Acquire) != 0
    }

    /// Changes the cache and says so to those who look at `changes`.
    fn change_cache<R>(&self, change: impl FnOnce(&mut Cache) -> R) -> R {
        let mut cache = self.cache.write();
        let result = change(&mut cache);
        self.changes.store(cache.changes(), Ordering::Release);
        result
    }
}

/// Table id 0 is the catalog's.
fn is_catalog(key: &[u8]) -> bool {
    key.starts_with(&[0; 4])
}
