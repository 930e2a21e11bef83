//! A transaction: its snapshot, its own changes, and how it ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use node_core::ids::{Height, Key, Vector, Ver};
use node_core::locks::{LockMode, Owner};
use node_core::quorum::Mode;
use node_core::txn::{Check, Write};
use node_core::wire::RowVersion;
use node_sql::store::{
    Freshness, Isolation, KeyRange, LockWait, Mark, ReadMode, StoreError, StoreTxn, TxnOptions,
};

use super::fetches::{HISTORY_GONE, Io, volume_error};
use super::locking::Held;
use super::overlay::Overlay;
use super::reads::{Found, SCAN_BYTES, Seen, Wanted, successor};
use super::snapshots::Snapshot;
use super::waits::Cell;
use super::{Engine, count, is_catalog};
use crate::volume_api::{CommitError, Proposal, Volume};

/// What a transaction that only reads the present or a snapshot never pays for is made on demand: its
/// entry among the lock owners, its maps' memory.
pub(super) struct EngineTxn {
    pub(super) engine: Arc<Engine>,
    pub(super) volume: Arc<dyn Volume>,
    pub(super) options: TxnOptions,
    snapshot: Option<Snapshot>,
    /// The statement has made sure that everything acknowledged before it is applied.
    fresh: bool,
    pub(super) overlay: Overlay,
    /// Keys locked whose base version is known.
    pub(super) held: HashMap<Key, Held>,
    /// Heights that keys have been brought to that are locked and not among `held` yet.
    pub(super) ahead: HashMap<Key, Height>,
    pub(super) owner: Option<(Owner, Arc<Cell>)>,
    /// Positions of all versions used: they may be ahead of what has been applied here.
    pub(super) observed: Vector,
    /// Versions of catalog rows as they were read: a check refers to them.
    pub(super) catalog_reads: HashMap<Key, Option<Ver>>,
    /// What the checks of the proposal take in memory.
    pub(super) check_bytes: usize,
    /// `Engine::resets` before anything was read.
    resets: u64,
    prefetch: u32,
    /// Why the transaction is over: everything of it has been rolled back.
    ended: Option<StoreError>,
}

/// A row of a scan: the transaction's own, or a committed version.
enum Source {
    Own(Bytes),
    Committed(RowVersion),
}

/// A part of a scan.
struct Batch {
    rows: Vec<(Key, Source)>,
    /// Where the scan goes on: its new start, or its new end if it is reversed. `None`: nothing is left.
    next: Option<Key>,
    /// [`Found::changes`].
    changes: u64,
}

impl EngineTxn {
    pub(super) fn new(engine: Arc<Engine>, volume: Arc<dyn Volume>, options: TxnOptions) -> EngineTxn {
        let resets = engine.resets.load(Ordering::SeqCst);
        EngineTxn {
            engine,
            volume,
            options,
            snapshot: None,
            fresh: false,
            overlay: Overlay::default(),
            held: HashMap::new(),
            ahead: HashMap::new(),
            owner: None,
            observed: Vector::new(),
            catalog_reads: HashMap::new(),
            check_bytes: 0,
            resets,
            prefetch: SCAN_BYTES,
            ended: None,
        }
    }

    /// An error unless the transaction may go on. To be asked before it does anything, and after it has
    /// read: rows read during a reset may be those of another time.
    pub(super) fn alive(&mut self) -> Result<(), StoreError> {
        if let Some(why) = &self.ended {
            return Err(why.clone());
        }
        if self.owner.as_ref().is_some_and(|(_, cell)| cell.news()) {
            self.hear_news()?;
        }
        if self.resets != self.engine.resets.load(Ordering::SeqCst) {
            if self.snapshot.is_some() || self.owner.is_some() {
                return Err(self.conflict(HISTORY_GONE.into()));
            }
            self.resets = self.engine.resets.load(Ordering::SeqCst);
        }
        Ok(())
    }

    /// Rolls the transaction back for good.
    pub(super) fn end(&mut self, why: StoreError) -> StoreError {
        match why {
            StoreError::Conflict { .. } => count(&self.engine.counters.conflicts),
            StoreError::Deadlock => count(&self.engine.counters.deadlocks),
            _ => {}
        }
        self.let_go();
        self.ended = Some(why.clone());
        why
    }

    pub(super) fn conflict(&mut self, detail: String) -> StoreError {
        self.end(StoreError::Conflict { detail })
    }

    /// Gives up changes, locks and snapshot.
    fn let_go(&mut self) {
        self.overlay.take();
        self.held.clear();
        self.ahead.clear();
        if let Some(snapshot) = self.snapshot.take() {
            self.engine.snapshots.release(snapshot);
        }
        if let Some((owner, _)) = self.owner.take() {
            self.engine.waits.release(owner);
        }
    }

    pub(super) fn io(&self) -> Io<'_> {
        let bound = self.snapshot.is_some() || self.owner.is_some();
        let resets = bound.then_some(self.resets);
        Io { volume: &*self.volume, killed: &self.options.killed, resets }
    }

    /// What was read, unless the transaction ended meanwhile: that is then the error.
    fn unless_doomed<T>(&mut self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        self.alive()?;
        read
    }

    /// Once per statement, with global freshness: everything acknowledged before is applied.
    fn refresh(&mut self) -> Result<(), StoreError> {
        if self.fresh {
            return Ok(());
        }
        if self.options.freshness == Freshness::Global {
            self.volume.read_index(&self.options.killed).map_err(volume_error)?;
        }
        self.fresh = true;
        Ok(())
    }

    /// The snapshot, taken now if there is none yet.
    pub(super) fn snapshot(&mut self) -> Result<Arc<Vector>, StoreError> {
        if let Some(snapshot) = &self.snapshot {
            return Ok(snapshot.vector.clone());
        }
        self.refresh()?;
        let snapshot = self.engine.snapshots.take();
        let vector = snapshot.vector.clone();
        self.snapshot = Some(snapshot);
        // Only then: it is the present if nobody else could write until now.
        if let Err(error) = self.engine.await_lease(self.io()) {
            self.snapshot.take().into_iter().for_each(|snapshot| self.engine.snapshots.release(snapshot));
            return Err(error);
        }
        Ok(vector)
    }

    pub(super) fn has_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Before a read of the present.
    pub(super) fn before_present(&mut self) -> Result<(), StoreError> {
        self.refresh()?;
        if self.options.snapshot_isolation {
            self.snapshot()?;
        }
        Ok(())
    }

    /// After a read of the present.
    pub(super) fn after_present(
        &mut self,
        key: &Key,
        version: Option<&RowVersion>,
    ) -> Result<(), StoreError> {
        if let Some(version) = version {
            self.observed.advance(version.ver.txn.seat, version.ver.txn.position());
        }
        self.note_catalog(key, version);
        self.engine.await_lease(self.io())
    }

    fn note_catalog(&mut self, key: &Key, version: Option<&RowVersion>) {
        if is_catalog(key) {
            self.catalog_reads.insert(key.clone(), version.map(|version| version.ver));
        }
    }

    /// The newest committed version of a key.
    pub(super) fn read_newest(&mut self, key: &Key) -> Result<Option<RowVersion>, StoreError> {
        let version = self.engine.read_point(self.io(), key, Seen::Newest);
        let version = self.unless_doomed(version)?;
        self.after_present(key, version.as_ref())?;
        self.alive()?;
        Ok(version)
    }

    /// What the snapshot sees of a key.
    pub(super) fn read_snapshot(&mut self, key: &Key) -> Result<Option<RowVersion>, StoreError> {
        let snapshot = self.snapshot()?;
        let version = self.engine.read_point(self.io(), key, Seen::Snapshot(&snapshot));
        let version = self.unless_doomed(version)?;
        self.note_catalog(key, version.as_ref());
        Ok(version)
    }

    /// Live rows between the positions, the transaction's own changes among them, in scan order: what
    /// comes of at most `limit` committed rows.
    fn batch(
        &mut self,
        (start, end): (&Key, Option<&Key>),
        reverse: bool,
        limit: usize,
        mode: ReadMode,
    ) -> Result<Batch, StoreError> {
        let snapshot = match mode {
            ReadMode::Snapshot => Some(self.snapshot()?),
            _ => None,
        };
        let seen = snapshot.as_deref().map_or(Seen::Newest, Seen::Snapshot);
        let wanted = Wanted { start, end, reverse, limit, seen };
        let mut prefetch = self.prefetch;
        let found = self.engine.read_range(self.io(), wanted, &mut prefetch);
        self.prefetch = prefetch;
        let Found { rows, exhausted, changes } = self.unless_doomed(found)?;
        let next = match rows.last() {
            Some((last, _)) if !exhausted => Some(if reverse { last.clone() } else { successor(last) }),
            _ => None,
        };
        let committed = rows.into_iter().map(|(key, version)| (key, Source::Committed(version)));
        if self.overlay.is_empty() {
            return Ok(Batch { rows: committed.collect(), next, changes });
        }
        // Own changes count as far as the committed rows reach.
        let (from, to) = match &next {
            Some(next) if reverse => (next, end),
            Some(next) => (start, Some(next)),
            None => (start, end),
        };
        let own = self.overlay.range(from, to.map(|to| &to[..]));
        let own = own.map(|(key, value)| (key.clone(), value.clone().map(Source::Own)));
        let rows = match reverse {
            false => merge(committed, own, |a, b| a < b),
            true => merge(committed, own.rev(), |a, b| a > b),
        };
        Ok(Batch { rows, next, changes })
    }

    /// The value of a row that a scan found, after locking it if the mode says so; `None`: it is gone.
    fn scanned(
        &mut self,
        key: &Key,
        source: Source,
        mode: ReadMode,
        changes: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        let lock = match mode {
            ReadMode::Share => Some(LockMode::Shared),
            ReadMode::Update => Some(LockMode::Exclusive),
            ReadMode::Snapshot | ReadMode::Present => None,
        };
        let version = match source {
            Source::Own(value) => {
                if let Some(lock) = lock {
                    self.hold(key, lock, true, self.options.lock_wait, None)?;
                }
                return Ok(Some(value));
            }
            Source::Committed(version) => version,
        };
        match (lock, mode) {
            (Some(lock), _) => {
                let known = Some((version, changes));
                let held = self.hold(key, lock, true, self.options.lock_wait, known)?;
                Ok(held.and_then(|version| version.value))
            }
            (None, ReadMode::Present) => {
                self.after_present(key, Some(&version))?;
                Ok(version.value)
            }
            (None, _) => {
                self.note_catalog(key, Some(&version));
                Ok(version.value)
            }
        }
    }

    fn change(&mut self, key: Key, value: Option<Bytes>) -> Result<(), StoreError> {
        self.alive()?;
        if self.options.read_only {
            return Err(StoreError::ReadOnly);
        }
        self.hold_for_write(&key)?;
        let limit = self.engine.config.write_set_bytes;
        if self.overlay.bytes() + self.check_bytes + Overlay::cost(&key, &value) > limit {
            return Err(StoreError::TooLarge { limit });
        }
        self.overlay.set(key, value);
        Ok(())
    }

    /// What the transaction asks the volume to commit.
    fn proposal(&mut self) -> Proposal {
        let mut writes = Vec::new();
        for (key, value) in self.overlay.take() {
            // Deleting what is not there changes nothing; the key remains a check if it was one.
            let held = self.held.get(&key).expect("a key is locked before it is changed");
            if value.is_none() && !held.live {
                continue;
            }
            let base = held.base;
            self.held.remove(&key);
            writes.push(Write { key, base, value });
        }
        let mut checks = Vec::new();
        if self.engine.config.mode == Mode::MultiMaster && !writes.is_empty() {
            let held = self.held.iter().filter(|(_, held)| held.check);
            checks.extend(held.map(|(key, held)| Check { key: key.clone(), base: held.base }));
            checks.sort_by(|a, b| a.key.cmp(&b.key));
        }
        let mut deps = (*self.engine.snapshots.published()).clone();
        deps.join(&self.observed);
        Proposal { deps, writes, checks }
    }

    fn try_commit(&mut self) -> Result<(), StoreError> {
        self.alive()?;
        let proposal = self.proposal();
        if proposal.writes.is_empty() {
            return Ok(());
        }
        if !self.engine.is_writer() {
            return Err(StoreError::ReadOnly);
        }
        // Nothing is read any more: what the snapshot kept alive may go. The locks stay until the outcome
        // is known.
        if let Some(snapshot) = self.snapshot.take() {
            self.engine.snapshots.release(snapshot);
        }
        match self.volume.commit(proposal) {
            Ok(_) => {
                count(&self.engine.counters.commits);
                Ok(())
            }
            Err(CommitError::Conflict(detail)) => Err(self.conflict(detail)),
            Err(CommitError::Unavailable(reason)) => Err(StoreError::Unavailable { reason }),
            Err(CommitError::Unknown(reason)) => Err(StoreError::OutcomeUnknown { reason }),
            Err(CommitError::Fenced) => Err(StoreError::ReadOnly),
        }
    }
}

/// Merges committed rows with own changes, which win; own deletions remove.
fn merge(
    committed: impl Iterator<Item = (Key, Source)>,
    own: impl Iterator<Item = (Key, Option<Source>)>,
    before: impl Fn(&Key, &Key) -> bool,
) -> Vec<(Key, Source)> {
    let mut committed = committed.peekable();
    let mut rows = Vec::new();
    for (key, value) in own {
        while let Some(row) = committed.next_if(|(other, _)| before(other, &key)) {
            rows.push(row);
        }
        committed.next_if(|(other, _)| *other == key);
        rows.extend(value.map(|value| (key, value)));
    }
    rows.extend(committed);
    rows
}

impl StoreTxn for EngineTxn {
    fn begin_statement(&mut self) -> Result<(), StoreError> {
        self.alive()?;
        self.fresh = false;
        self.prefetch = SCAN_BYTES;
        if self.options.isolation == Isolation::ReadCommitted
            && let Some(snapshot) = self.snapshot.take()
        {
            self.engine.snapshots.release(snapshot);
        }
        Ok(())
    }

    fn assume_present(&mut self) {
        self.fresh = true;
    }

    fn take_snapshot(&mut self) -> Result<(), StoreError> {
        self.alive()?;
        self.snapshot().map(|_| ())
    }

    fn get(&mut self, key: &Key, mode: ReadMode) -> Result<Option<Bytes>, StoreError> {
        self.alive()?;
        let lock = match mode {
            ReadMode::Share => LockMode::Shared,
            ReadMode::Update => LockMode::Exclusive,
            ReadMode::Snapshot | ReadMode::Present => {
                if mode == ReadMode::Snapshot {
                    // Also where the answer does not depend on it: what is read later is of the same time.
                    self.snapshot()?;
                }
                if let Some(own) = self.overlay.get(key) {
                    return Ok(own.clone());
                }
                let version = match mode {
                    ReadMode::Snapshot => self.read_snapshot(key)?,
                    _ => {
                        self.refresh()?;
                        self.read_newest(key)?
                    }
                };
                return Ok(version.and_then(|version| version.value));
            }
        };
        let version = self.hold(key, lock, true, self.options.lock_wait, None)?;
        match self.overlay.get(key) {
            Some(own) => Ok(own.clone()),
            None => Ok(version.and_then(|version| version.value)),
        }
    }

    fn scan(
        &mut self,
        range: &KeyRange,
        reverse: bool,
        limit: usize,
        mode: ReadMode,
    ) -> Result<Vec<(Key, Bytes)>, StoreError> {
        self.alive()?;
        match mode {
            ReadMode::Snapshot => {}
            ReadMode::Present => self.refresh()?,
            ReadMode::Share | ReadMode::Update => self.before_present()?,
        }
        let mut rows = Vec::new();
        let (mut start, mut end) = (range.start.clone(), range.end.clone());
        while rows.len() < limit {
            let want = limit - rows.len();
            let batch = self.batch((&start, end.as_ref()), reverse, want, mode)?;
            for (key, source) in batch.rows {
                if let Some(value) = self.scanned(&key, source, mode, batch.changes)? {
                    rows.push((key, value));
                }
                if rows.len() == limit {
                    return Ok(rows);
                }
            }
            match batch.next {
                Some(next) if reverse => end = Some(next),
                Some(next) => start = next,
                None => break,
            }
        }
        Ok(rows)
    }

    fn lock(&mut self, key: &Key, wait: LockWait) -> Result<Option<Bytes>, StoreError> {
        self.alive()?;
        let wait = match wait {
            LockWait::Up(wait) => wait,
            LockWait::No => Duration::ZERO,
        };
        let version = self.hold(key, LockMode::Exclusive, false, wait, None)?;
        match self.overlay.get(key) {
            Some(own) => Ok(own.clone()),
            None => Ok(version.and_then(|version| version.value)),
        }
    }

    fn put(&mut self, key: Key, value: Bytes) -> Result<(), StoreError> {
        self.change(key, Some(value))
    }

    fn delete(&mut self, key: Key) -> Result<(), StoreError> {
        self.change(key, None)
    }

    fn check(&mut self, key: &Key) -> Result<(), StoreError> {
        self.alive()?;
        self.check_key(key)
    }

    fn mark(&self) -> Mark {
        self.overlay.mark()
    }

    fn rollback_to(&mut self, mark: Mark) {
        self.overlay.undo_to(mark);
    }

    fn has_writes(&self) -> bool {
        !self.overlay.is_empty()
    }

    fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        self.try_commit()
    }

    fn rollback(mut self: Box<Self>) {
        self.let_go();
    }
}

impl Drop for EngineTxn {
    fn drop(&mut self) {
        self.let_go();
    }
}
