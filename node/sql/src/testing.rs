//! A small row store in memory, for this crate's tests: versions, snapshots, row locks with deadlocks and
//! timeouts, checks at commit, marks. One process, nothing durable.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, RwLock};

use crate::catalog::{ColumnDef, TableDef, TableState};
use crate::encoding::catalog_end;
use crate::store::{
    Isolation, Key, KeyRange, LockWait, Mark, ReadMode, Store, StoreError, StoreTxn, TxnOptions,
};

/// A table without indexes, its columns numbered.
pub(crate) fn table(name: &str, mut columns: Vec<ColumnDef>) -> TableDef {
    for (column, id) in columns.iter_mut().zip(1..) {
        column.id = id;
    }
    let next_column_id = columns.len() as u32 + 1;
    TableDef {
        id: 1,
        database: "test".to_owned(),
        name: name.to_owned(),
        columns,
        indexes: Vec::new(),
        auto_increment: None,
        collation: Default::default(),
        comment: String::new(),
        engine: "InnoDB".to_owned(),
        version: 1,
        state: TableState::Public,
        next_column_id,
        next_index_id: 2,
        foreign_keys: Vec::new(),
        created: 0,
    }
}

type Versions = BTreeMap<Key, Vec<(u64, Option<Bytes>)>>;

#[derive(Default)]
struct Locks {
    exclusive: HashMap<Key, u64>,
    shared: HashMap<Key, HashSet<u64>>,
    waits: HashMap<u64, HashSet<u64>>,
}

impl Locks {
    fn blockers(&self, key: &Key, owner: u64, share: bool) -> HashSet<u64> {
        let mut all: HashSet<u64> = self.exclusive.get(key).copied().into_iter().collect();
        if !share {
            all.extend(self.shared.get(key).into_iter().flatten());
        }
        all.remove(&owner);
        all
    }
    fn waits_for(&self, from: u64, target: u64) -> bool {
        let mut seen = HashSet::new();
        let mut todo = vec![from];
        while let Some(next) = todo.pop() {
            if next == target {
                return true;
            }
            if seen.insert(next) {
                todo.extend(self.waits.get(&next).into_iter().flatten());
            }
        }
        false
    }
}

struct Inner {
    versions: RwLock<Versions>,
    now: AtomicU64,
    commits: Mutex<()>,
    next_txn: AtomicU64,
    locks: Mutex<Locks>,
    freed: Condvar,
    counters: Mutex<HashMap<u32, u64>>,
    catalog_version: AtomicU64,
    writable: AtomicBool,
    lost_votes: AtomicU32,
    /// What the next commit says, and whether it says so after having committed.
    next_failure: Mutex<Option<(StoreError, bool)>>,
}

/// The store.
#[derive(Clone)]
pub(crate) struct MemoryStore(Arc<Inner>);

impl MemoryStore {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            versions: RwLock::default(),
            now: AtomicU64::new(1),
            commits: Mutex::default(),
            next_txn: AtomicU64::new(1),
            locks: Mutex::default(),
            freed: Condvar::new(),
            counters: Mutex::default(),
            catalog_version: AtomicU64::new(1),
            writable: AtomicBool::new(true),
            lost_votes: AtomicU32::new(0),
            next_failure: Mutex::default(),
        }))
    }
    pub(crate) fn set_writable(&self, writable: bool) {
        self.0.writable.store(writable, Ordering::SeqCst);
    }
    /// The next so many commits with writes lose their votes.
    pub(crate) fn lose_votes(&self, count: u32) {
        self.0.lost_votes.store(count, Ordering::SeqCst);
    }
    /// The next commit fails with this, `done` after all has been written.
    pub(crate) fn fail_next_commit(&self, error: StoreError, done: bool) {
        *self.0.next_failure.lock() = Some((error, done));
    }
    /// How many keys of a range have a value now.
    pub(crate) fn count(&self, range: &KeyRange) -> usize {
        let versions = self.0.versions.read();
        let end = range.end.clone().map_or(Bound::Unbounded, Bound::Excluded);
        versions
            .range((Bound::Included(range.start.clone()), end))
            .filter(|(_, chain)| chain.last().is_some_and(|(_, value)| value.is_some()))
            .count()
    }
    /// True if some transaction waits for a lock.
    pub(crate) fn somebody_waits(&self) -> bool {
        !self.0.locks.lock().waits.is_empty()
    }
}

impl Store for MemoryStore {
    fn begin(&self, options: TxnOptions) -> Box<dyn StoreTxn> {
        Box::new(MemoryTxn {
            store: self.0.clone(),
            id: self.0.next_txn.fetch_add(1, Ordering::SeqCst),
            options,
            snapshot: None,
            own: BTreeMap::new(),
            undo: Vec::new(),
            checks: HashMap::new(),
            locked: HashSet::new(),
        })
    }
    fn writable(&self) -> bool {
        self.0.writable.load(Ordering::SeqCst)
    }
    fn auto_increment(
        &self,
        table: u32,
        count: u64,
        last_used: &mut dyn FnMut() -> Result<u64, StoreError>,
    ) -> Result<u64, StoreError> {
        let known = self.0.counters.lock().get(&table).copied();
        let start = match known {
            Some(next) => next,
            None => last_used()? + 1,
        };
        let mut counters = self.0.counters.lock();
        let next = counters.entry(table).or_insert(start);
        let first = *next;
        *next += count;
        Ok(first)
    }
    fn auto_increment_at_least(&self, table: u32, value: u64) {
        if let Some(next) = self.0.counters.lock().get_mut(&table) {
            *next = (*next).max(value + 1);
        }
    }
    fn auto_increment_step(&self) -> (u64, u64) {
        (1, 1)
    }
    fn catalog_version(&self) -> u64 {
        self.0.catalog_version.load(Ordering::SeqCst)
    }
    fn estimate_rows(&self, range: &KeyRange) -> Option<u64> {
        Some(self.count(range) as u64)
    }
}

struct MemoryTxn {
    store: Arc<Inner>,
    id: u64,
    options: TxnOptions,
    snapshot: Option<u64>,
    own: BTreeMap<Key, Option<Bytes>>,
    undo: Vec<(Key, Option<Option<Bytes>>)>,
    checks: HashMap<Key, u64>,
    locked: HashSet<Key>,
}

fn at(chain: &[(u64, Option<Bytes>)], snapshot: u64) -> Option<&(u64, Option<Bytes>)> {
    chain.iter().rev().find(|(time, _)| *time <= snapshot)
}

impl MemoryTxn {
    fn time(&mut self, mode: ReadMode) -> u64 {
        match mode {
            ReadMode::Snapshot => {
                let now = self.store.now.load(Ordering::SeqCst);
                *self.snapshot.get_or_insert(now)
            }
            ReadMode::Present | ReadMode::Share | ReadMode::Update => u64::MAX,
        }
    }

    fn version(&self, key: &Key, time: u64) -> u64 {
        let versions = self.store.versions.read();
        versions.get(key).and_then(|chain| at(chain, time)).map_or(0, |(time, _)| *time)
    }

    fn read(&self, key: &Key, time: u64) -> Option<Bytes> {
        if let Some(own) = self.own.get(key) {
            return own.clone();
        }
        let versions = self.store.versions.read();
        versions.get(key).and_then(|chain| at(chain, time)).and_then(|(_, value)| value.clone())
    }

    fn acquire(&mut self, key: &Key, share: bool, wait: LockWait) -> Result<(), StoreError> {
        let until = match wait {
            LockWait::Up(length) => Some(Instant::now() + length),
            LockWait::No => None,
        };
        let store = self.store.clone();
        let mut locks = store.locks.lock();
        loop {
            let blockers = locks.blockers(key, self.id, share);
            if blockers.is_empty() {
                break;
            }
            if self.options.killed.load(Ordering::SeqCst) {
                locks.waits.remove(&self.id);
                return Err(StoreError::Killed);
            }
            if blockers.iter().any(|&blocker| locks.waits_for(blocker, self.id)) {
                locks.waits.remove(&self.id);
                return Err(StoreError::Deadlock);
            }
            locks.waits.insert(self.id, blockers);
            let Some(until) = until else {
                locks.waits.remove(&self.id);
                return Err(StoreError::LockTimeout);
            };
            // Short turns, so that a kill is seen: nobody notifies this condition for it.
            let turn = until.min(Instant::now() + std::time::Duration::from_millis(20));
            store.freed.wait_until(&mut locks, turn);
            if Instant::now() >= until && !locks.blockers(key, self.id, share).is_empty() {
                locks.waits.remove(&self.id);
                return Err(StoreError::LockTimeout);
            }
        }
        locks.waits.remove(&self.id);
        if share {
            locks.shared.entry(key.clone()).or_default().insert(self.id);
        } else {
            locks.exclusive.insert(key.clone(), self.id);
        }
        drop(locks);
        self.locked.insert(key.clone());
        let newest = self.version(key, u64::MAX);
        if self.options.snapshot_isolation && self.snapshot.is_some_and(|snapshot| newest > snapshot) {
            return Err(StoreError::Conflict { detail: "a newer version".to_owned() });
        }
        Ok(())
    }

    fn wait(&self) -> LockWait {
        LockWait::Up(self.options.lock_wait)
    }

    fn lock_for(&mut self, key: &Key, mode: ReadMode) -> Result<(), StoreError> {
        let share = match mode {
            ReadMode::Snapshot | ReadMode::Present => return Ok(()),
            ReadMode::Share => true,
            ReadMode::Update => false,
        };
        self.acquire(key, share, self.wait())?;
        let version = self.version(key, u64::MAX);
        self.checks.entry(key.clone()).or_insert(version);
        Ok(())
    }

    fn write(&mut self, key: Key, value: Option<Bytes>) -> Result<(), StoreError> {
        if !self.store.writable.load(Ordering::SeqCst) {
            return Err(StoreError::ReadOnly);
        }
        self.acquire(&key, false, self.wait())?;
        let before = self.own.insert(key.clone(), value);
        self.undo.push((key, before));
        Ok(())
    }

    fn release(&mut self) {
        let mut locks = self.store.locks.lock();
        for key in self.locked.drain() {
            if locks.exclusive.get(&key) == Some(&self.id) {
                locks.exclusive.remove(&key);
            }
            if let Some(owners) = locks.shared.get_mut(&key) {
                owners.remove(&self.id);
            }
        }
        locks.waits.remove(&self.id);
        drop(locks);
        self.store.freed.notify_all();
        self.own.clear();
        self.undo.clear();
    }

    fn apply(&mut self) -> Result<(), StoreError> {
        let store = self.store.clone();
        let _turn = store.commits.lock();
        if store.lost_votes.load(Ordering::SeqCst) > 0 {
            store.lost_votes.fetch_sub(1, Ordering::SeqCst);
            return Err(StoreError::Conflict { detail: "a lost vote".to_owned() });
        }
        let failure = store.next_failure.lock().take();
        if let Some((error, false)) = failure {
            return Err(error);
        }
        for (key, version) in &self.checks {
            if !self.own.contains_key(key) && self.version(key, u64::MAX) != *version {
                return Err(StoreError::Conflict { detail: "a check failed".to_owned() });
            }
        }
        let time = store.now.load(Ordering::SeqCst) + 1;
        let mut versions = store.versions.write();
        let mut catalog = false;
        for (key, value) in std::mem::take(&mut self.own) {
            catalog |= key < catalog_end();
            versions.entry(key).or_default().push((time, value));
        }
        drop(versions);
        store.now.store(time, Ordering::SeqCst);
        if catalog {
            store.catalog_version.fetch_add(1, Ordering::SeqCst);
        }
        failure.map_or(Ok(()), |(error, _)| Err(error))
    }
}

impl Drop for MemoryTxn {
    fn drop(&mut self) {
        self.release();
    }
}

impl StoreTxn for MemoryTxn {
    fn begin_statement(&mut self) -> Result<(), StoreError> {
        if self.options.isolation == Isolation::ReadCommitted {
            self.snapshot = None;
        }
        Ok(())
    }
    fn take_snapshot(&mut self) -> Result<(), StoreError> {
        self.time(ReadMode::Snapshot);
        Ok(())
    }
    fn get(&mut self, key: &Key, mode: ReadMode) -> Result<Option<Bytes>, StoreError> {
        self.lock_for(key, mode)?;
        let time = self.time(mode);
        Ok(self.read(key, time))
    }
    fn scan(
        &mut self,
        range: &KeyRange,
        reverse: bool,
        limit: usize,
        mode: ReadMode,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        let time = self.time(mode);
        let end = range.end.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let bounds = (Bound::Included(range.start.clone()), end);
        if range.end.as_ref().is_some_and(|end| *end <= range.start) {
            return Ok(Vec::new());
        }
        let mut keys: Vec<Key> =
            self.store.versions.read().range(bounds.clone()).map(|(k, _)| k.clone()).collect();
        keys.extend(self.own.range(bounds).map(|(k, _)| k.clone()));
        keys.sort();
        keys.dedup();
        if reverse {
            keys.reverse();
        }
        let mut found = Vec::new();
        for key in keys {
            if found.len() == limit {
                break;
            }
            if self.read(&key, time).is_none() {
                continue;
            }
            self.lock_for(&key, mode)?;
            if let Some(value) = self.read(&key, time) {
                found.push((key, value));
            }
        }
        Ok(found)
    }
    fn lock(&mut self, key: &Key, wait: LockWait) -> Result<Option<Bytes>, StoreError> {
        self.acquire(key, false, wait)?;
        Ok(self.read(key, u64::MAX))
    }
    fn put(&mut self, key: Key, value: Bytes) -> Result<(), StoreError> {
        self.write(key, Some(value))
    }
    fn delete(&mut self, key: Key) -> Result<(), StoreError> {
        self.write(key, None)
    }
    fn check(&mut self, key: &Key) -> Result<(), StoreError> {
        self.acquire(key, true, self.wait())?;
        let version = self.version(key, u64::MAX);
        self.checks.entry(key.clone()).or_insert(version);
        Ok(())
    }
    fn mark(&self) -> Mark {
        Mark(self.undo.len())
    }
    fn rollback_to(&mut self, mark: Mark) {
        while self.undo.len() > mark.0 {
            let Some((key, before)) = self.undo.pop() else { break };
            match before {
                Some(value) => self.own.insert(key, value),
                None => self.own.remove(&key),
            };
        }
    }
    fn has_writes(&self) -> bool {
        !self.own.is_empty()
    }
    fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        let result = if self.own.is_empty() { Ok(()) } else { self.apply() };
        self.release();
        result
    }
    fn rollback(mut self: Box<Self>) {
        self.release();
    }
}
