//! Locking reads and writes: the lock first, then the newest committed version, which becomes the *base*.
//!
//! From then on nobody on this instance changes the key. A commit of another instance may; it dooms this
//! transaction, whose proposal could only lose. The feed's thread cannot know which base a transaction has
//! read, so it leaves key and height in the transaction's cell, and the transaction compares.

use std::sync::atomic::Ordering;
use std::time::Duration;

use node_core::ids::{Height, Key, Ver};
use node_core::locks::LockMode;
use node_core::quorum::Mode;
use node_core::wire::RowVersion;
use node_sql::store::StoreError;

use super::txn::EngineTxn;
use super::waits::Waited;
use super::{count, is_catalog};

/// What an entry of a check costs in a proposal beside the key's bytes.
const CHECK: usize = 96;

/// A key that the transaction has locked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) mode: LockMode,
    /// The newest committed version when it was locked.
    pub(super) base: Option<Ver>,
    /// That version was not a tombstone.
    pub(super) live: bool,
    /// The commit needs the key unchanged even if the transaction does not write it.
    pub(super) check: bool,
}

impl Held {
    fn height(&self) -> Height {
        self.base.map_or(Height(0), |base| base.height)
    }
}

impl EngineTxn {
    /// Takes in what other threads have left in the cell.
    pub(super) fn hear_news(&mut self) -> Result<(), StoreError> {
        let Some((_, cell)) = &self.owner else { return Ok(()) };
        let (fenced, reset, changes) = (cell.fenced(), cell.reset(), cell.take_changes());
        if fenced {
            return Err(self.end(StoreError::ReadOnly));
        }
        if reset {
            return Err(self.conflict("changes to locked rows may have been missed".into()));
        }
        let mut overtaken = None;
        for (key, height) in changes {
            match self.held.get(&key) {
                Some(held) if held.height() < height => overtaken = Some(height),
                Some(_) => {}
                // Its lock is there already; what the transaction has read under it is compared when that is known.
                None => _ = self.ahead.insert(key, height),
            }
        }
        overtaken.map_or(Ok(()), |height| Err(self.overtaken(height)))
    }

    fn overtaken(&mut self, height: Height) -> StoreError {
        self.conflict(format!("another instance has committed version {} of a locked row", height.0))
    }

    /// Locks a key and returns its newest committed version, tombstones included. `known` is what a scan
    /// has just found there, and when: it saves reading the key again if nothing has changed since.
    pub(super) fn hold(
        &mut self,
        key: &Key,
        mode: LockMode,
        check: bool,
        wait: Duration,
        known: Option<(RowVersion, u64)>,
    ) -> Result<Option<RowVersion>, StoreError> {
        self.before_lock()?;
        let waited = self.acquire(key, mode, wait)?;
        let changes = self.engine.changes.load(Ordering::Acquire);
        let version = match known {
            Some((version, then)) if !waited && then == changes => {
                self.after_present(key, Some(&version))?;
                self.alive()?;
                Some(version)
            }
            _ => self.read_newest(key)?,
        };
        if let Some(version) = &version {
            self.await_feed(version)?;
        }
        self.record(key, mode, check, version.as_ref())?;
        Ok(version)
    }

    /// Returns once the feed has reached a version that was read. Storage may be ahead of it: the same commit may
    /// have changed a row that the transaction has locked, and the news of that come with the feed.
    fn await_feed(&mut self, version: &RowVersion) -> Result<(), StoreError> {
        let (engine, txn) = (&self.engine, version.ver.txn);
        if !engine.snapshots.wait_to_see(txn, engine.config.lease_wait, &self.options.killed) {
            if self.options.killed.load(Ordering::Relaxed) {
                return Err(StoreError::Killed);
            }
            let reason = "a row is newer than all that this instance has heard of the others' commits".into();
            return Err(StoreError::Unavailable { reason });
        }
        self.alive()
    }

    /// Locks a key for a change of it; reads it only if it was not locked before.
    pub(super) fn hold_for_write(&mut self, key: &Key) -> Result<(), StoreError> {
        if self.held.get(key).is_some_and(|held| held.mode == LockMode::Exclusive) {
            return match self.engine.is_writer() {
                true => Ok(()),
                false => Err(StoreError::ReadOnly),
            };
        }
        self.hold(key, LockMode::Exclusive, false, self.options.lock_wait, None).map(|_| ())
    }

    /// Makes a key a check of the transaction at the version it has read.
    pub(super) fn check_key(&mut self, key: &Key) -> Result<(), StoreError> {
        if self.held.get(key).is_some_and(|held| held.check) {
            return Ok(());
        }
        let read = match is_catalog(key) {
            true => self.catalog_reads.get(key).copied(),
            false if self.has_snapshot() => Some(self.read_snapshot(key)?.map(|version| version.ver)),
            false => None,
        };
        let present = self.hold(key, LockMode::Shared, true, self.options.lock_wait, None)?;
        let present = present.map(|version| version.ver);
        if read.is_some_and(|read| read != present) {
            return Err(self.conflict("a row to be checked has changed since it was read".into()));
        }
        Ok(())
    }

    fn before_lock(&mut self) -> Result<(), StoreError> {
        if !self.engine.is_writer() {
            return Err(StoreError::ReadOnly);
        }
        self.before_present()
    }

    /// Gets the lock; true if it had to be waited for.
    fn acquire(&mut self, key: &Key, mode: LockMode, wait: Duration) -> Result<bool, StoreError> {
        let enough = |held: &Held| held.mode == LockMode::Exclusive || mode == LockMode::Shared;
        if self.held.get(key).is_some_and(enough) {
            return Ok(false);
        }
        let (owner, cell) = self.owner.get_or_insert_with(|| self.engine.waits.register());
        let (owner, cell) = (*owner, cell.clone());
        let mut left = wait;
        loop {
            let began = std::time::Instant::now();
            let killed = &self.options.killed;
            match self.engine.waits.acquire((owner, &cell), key, mode, left, killed) {
                Waited::Granted(waited) => return Ok(waited),
                Waited::Deadlock => return Err(self.end(StoreError::Deadlock)),
                Waited::Killed => return Err(StoreError::Killed),
                Waited::Timeout => {
                    count(&self.engine.counters.lock_timeouts);
                    return Err(StoreError::LockTimeout);
                }
                // News that does not doom the transaction: it goes on waiting.
                Waited::News => self.hear_news()?,
            }
            left = left.saturating_sub(began.elapsed());
        }
    }

    /// Remembers what was locked. The base that was read first stays: if the key has changed under the
    /// lock, the transaction is lost.
    fn record(
        &mut self,
        key: &Key,
        mode: LockMode,
        check: bool,
        version: Option<&RowVersion>,
    ) -> Result<(), StoreError> {
        let base = version.map(|version| version.ver);
        if self.options.snapshot_isolation
            && let Some(base) = base
            && !self.snapshot()?.sees(base.txn)
        {
            return Err(self.conflict("the row has changed since the snapshot".into()));
        }
        let read = base.map_or(Height(0), |base| base.height);
        if let Some(height) = self.ahead.remove(key).filter(|height| read < *height) {
            return Err(self.overtaken(height));
        }
        let live = version.is_some_and(|version| version.value.is_some());
        let before = self.held.get(key).copied();
        let held = match before {
            Some(before) if before.base != base => {
                return Err(self.conflict("another instance has committed a locked row".into()));
            }
            Some(before) if before.mode == LockMode::Exclusive => {
                Held { check: before.check || check, ..before }
            }
            Some(before) => Held { mode, check: before.check || check, ..before },
            None => Held { mode, base, live, check },
        };
        let newly = check && !before.is_some_and(|before| before.check);
        if newly && self.engine.config.mode == Mode::MultiMaster {
            let limit = self.engine.config.write_set_bytes;
            self.check_bytes += key.len() + CHECK;
            if self.overlay.bytes() + self.check_bytes > limit {
                return Err(StoreError::TooLarge { limit });
            }
        }
        self.held.insert(key.clone(), held);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use node_core::ids::{Epoch, Seat, Seq, TxnId, Vector};
    use node_core::wire::Block;
    use node_sql::store::{Freshness, Isolation, TxnOptions};

    use super::*;
    use crate::engine::{Engine, EngineConfig};
    use crate::volume_api::{BlockRequest, CommitError, Proposal, Volume, VolumeError};

    /// Nothing here is asked for.
    struct Unused;

    impl Volume for Unused {
        fn read_block(&self, _: BlockRequest) -> Result<Block, VolumeError> {
            Err(VolumeError::Killed)
        }
        fn commit(&self, _: Proposal) -> Result<TxnId, CommitError> {
            Err(CommitError::Fenced)
        }
        fn read_index(&self, _: &AtomicBool) -> Result<Vector, VolumeError> {
            Err(VolumeError::Killed)
        }
        fn lease_valid(&self) -> bool {
            false
        }
    }

    fn at(height: u64) -> RowVersion {
        let txn = TxnId { seat: Seat(1), epoch: Epoch(1), seq: Seq(height) };
        RowVersion { ver: Ver { height: Height(height), txn }, value: Some(Key::from_static(b"row")) }
    }

    /// A transaction that has got the lock of a key and read it; the feed brings the key to height 2, and the
    /// transaction hears of it before it has noted what it read.
    fn overtaken_while_locking(read: u64) -> Result<(), StoreError> {
        let engine = Arc::new(Engine::new(EngineConfig::new(Mode::MultiMaster, 0, 1 << 20)));
        let options = TxnOptions {
            isolation: Isolation::RepeatableRead,
            freshness: Freshness::Local,
            snapshot_isolation: false,
            read_only: false,
            lock_wait: Duration::from_secs(1),
            killed: Arc::default(),
        };
        let mut txn = EngineTxn::new(engine.clone(), Arc::new(Unused), options);
        let key = Key::from_static(b"key");
        assert_eq!(txn.acquire(&key, LockMode::Shared, Duration::ZERO), Ok(false));
        engine.waits.changed([(&key, Height(2))].into_iter());
        assert_eq!(txn.alive(), Ok(()));
        txn.record(&key, LockMode::Shared, true, Some(&at(read)))
    }

    #[test]
    fn a_commit_between_the_reading_of_a_locked_key_and_its_being_noted_dooms_the_transaction() {
        assert!(matches!(overtaken_while_locking(1), Err(StoreError::Conflict { .. })));
        assert_eq!(overtaken_while_locking(2), Ok(()));
    }
}
