//! What SQL needs of a row store: the only way from a statement to the volume.
//!
//! Keys and values are bytes here: the SQL layer encodes rows and index entries (see [`crate::encoding`]),
//! the store versions them. Rows and index entries are alike: a unique index is a key that two transactions
//! cannot both write. A session runs on a thread of its own; every call may block that thread.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;

/// A key: see `encoding`.
pub type Key = Bytes;

/// What can go wrong in the store; [`crate::error`] turns it into MySQL's codes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another transaction won (a lost vote, a doomed transaction, a newer version under
    /// `innodb_snapshot_isolation`): 1213. The whole transaction has been rolled back.
    #[error("write conflict: {detail}")]
    Conflict {
        /// What met what, for a log.
        detail: String,
    },
    /// A cycle of local row locks: 1213. The whole transaction has been rolled back.
    #[error("deadlock among local transactions")]
    Deadlock,
    /// A row lock was not granted in time: 1205. Only the statement is undone.
    #[error("lock wait timeout")]
    LockTimeout,
    /// This instance may not write (a replica, or a writer that was fenced): 1290.
    #[error("this instance is read-only")]
    ReadOnly,
    /// The session or the statement was killed: 1317.
    #[error("interrupted")]
    Killed,
    /// The transaction changes more than the limit: 1197.
    #[error("the transaction is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The volume has no quorum, or storage refused for a reason of its own (a full disk): 1030.
    #[error("the volume is not available: {reason}")]
    Unavailable {
        /// A sentence for a person.
        reason: String,
    },
    /// The outcome of a commit could not be learnt in time; it may be either: 3024-like, connection closed.
    #[error("the outcome of the commit is unknown: {reason}")]
    OutcomeUnknown {
        /// A sentence for a person.
        reason: String,
    },
}

/// How a key is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// As of the transaction's snapshot, with its own changes.
    Snapshot,
    /// The newest committed version, with the transaction's own changes; no lock.
    Present,
    /// The newest committed version after locking the key for others' writes and checks
    /// (`LOCK IN SHARE MODE`); the key becomes a check of the transaction.
    Share,
    /// The newest committed version after locking the key (`FOR UPDATE`, UPDATE, DELETE); the key
    /// becomes a check of the transaction unless the transaction goes on to write it.
    Update,
}

/// What to do when a lock is not free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockWait {
    /// Wait up to this long (`innodb_lock_wait_timeout`).
    Up(Duration),
    /// Fail at once with [`StoreError::LockTimeout`] (`NOWAIT`).
    No,
}

/// A range of keys: `start` included, `end` excluded (`None`: to the end).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// First key included.
    pub start: Key,
    /// First key excluded.
    pub end: Option<Key>,
}

/// How a transaction reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Every statement sees what was committed before it began.
    ReadCommitted,
    /// Every statement sees what was committed before the first one read (InnoDB's).
    RepeatableRead,
}

/// Which commits a snapshot must include.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Whatever has been applied on this instance (`INSTANCE_RAW`, replicas).
    Local,
    /// Everything acknowledged anywhere before now (`REGIONAL_RAW`, `aurora_replica_read_consistency=GLOBAL`).
    Global,
}

/// How a session's transactions behave; read when a transaction begins.
#[derive(Clone, Debug)]
pub struct TxnOptions {
    /// Isolation level.
    pub isolation: Isolation,
    /// Freshness of snapshots and of present reads.
    pub freshness: Freshness,
    /// `innodb_snapshot_isolation`: touching a row changed since the snapshot is a conflict.
    pub snapshot_isolation: bool,
    /// START TRANSACTION READ ONLY.
    pub read_only: bool,
    /// `innodb_lock_wait_timeout`.
    pub lock_wait: Duration,
    /// Set from outside by KILL; looked at in every wait.
    pub killed: Arc<AtomicBool>,
}

/// A point within a transaction to which its changes can be undone: a statement's beginning or a SAVEPOINT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(pub usize);

/// An instance's rows.
pub trait Store: Send + Sync + 'static {
    /// Begins a transaction. No snapshot is taken before the first read.
    fn begin(&self, options: TxnOptions) -> Box<dyn StoreTxn>;
    /// Whether this instance may write (`@@innodb_read_only` is its opposite).
    fn writable(&self) -> bool;
    /// Reserves `count` consecutive AUTO_INCREMENT values of the table and returns the first. The first
    /// call after a start asks `last_used` for the largest value in use. Values step by
    /// `auto_increment_step().0`.
    ///
    /// # Errors
    ///
    /// Those of `last_used`; [`StoreError::ReadOnly`].
    fn auto_increment(
        &self,
        table: u32,
        count: u64,
        last_used: &mut dyn FnMut() -> Result<u64, StoreError>,
    ) -> Result<u64, StoreError>;
    /// Makes sure that later AUTO_INCREMENT values of the table are above `value` (explicitly inserted).
    fn auto_increment_at_least(&self, table: u32, value: u64);
    /// `(auto_increment_increment, auto_increment_offset)`: `(1, 1)`, or `(16, ordinal + 1)` in multi-master.
    fn auto_increment_step(&self) -> (u64, u64);
    /// Grows by one whenever a key below `catalog_end` (see [`crate::catalog`]) has changed on this
    /// instance, by anybody: caches of table definitions and of translated statements compare it.
    fn catalog_version(&self) -> u64;
    /// A rough count of bytes or rows is enough for plans: estimated rows in the range, if known.
    fn estimate_rows(&self, range: &KeyRange) -> Option<u64>;
}

/// A transaction. Dropping it rolls it back.
pub trait StoreTxn: Send {
    /// A statement begins: under READ COMMITTED the next read takes a new snapshot; with
    /// [`Freshness::Global`] the snapshot and present reads of this statement include every commit
    /// acknowledged anywhere before now.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if the transaction has been doomed by a remote commit (it is rolled back).
    fn begin_statement(&mut self) -> Result<(), StoreError>;
    /// The statement that has begun may take what this instance knows for the present: all that it does with
    /// what it reads is to write upon it, and a write upon something older is refused by the vote. A conflict
    /// or a key that is there already may then be due to that, and means something only if the statement fails
    /// without this as well.
    fn assume_present(&mut self) {}
    /// Takes the snapshot now (START TRANSACTION WITH CONSISTENT SNAPSHOT).
    ///
    /// # Errors
    ///
    /// Those of a read.
    fn take_snapshot(&mut self) -> Result<(), StoreError>;
    /// One key.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`] of waiting, locking or reading.
    fn get(&mut self, key: &Key, mode: ReadMode) -> Result<Option<Bytes>, StoreError>;
    /// Up to `limit` rows of the range in key order (descending if `reverse`). Fewer than `limit` rows
    /// means the range is exhausted. `Share` and `Update` lock every key returned.
    ///
    /// # Errors
    ///
    /// As [`StoreTxn::get`].
    fn scan(
        &mut self,
        range: &KeyRange,
        reverse: bool,
        limit: usize,
        mode: ReadMode,
    ) -> Result<Vec<(Key, Bytes)>, StoreError>;
    /// Locks a key that may not exist, for inserting it, and returns its newest committed value or own change.
    ///
    /// # Errors
    ///
    /// As [`StoreTxn::get`].
    fn lock(&mut self, key: &Key, wait: LockWait) -> Result<Option<Bytes>, StoreError>;
    /// Writes a key. It is locked first if it is not yet (waiting as `lock` does).
    ///
    /// # Errors
    ///
    /// As [`StoreTxn::get`], and [`StoreError::ReadOnly`], [`StoreError::TooLarge`].
    fn put(&mut self, key: Key, value: Bytes) -> Result<(), StoreError>;
    /// Deletes a key; as [`StoreTxn::put`].
    ///
    /// # Errors
    ///
    /// As [`StoreTxn::put`].
    fn delete(&mut self, key: Key) -> Result<(), StoreError>;
    /// The commit fails if the key is no longer at the version that the transaction has read (its
    /// snapshot's, or the present one if it was not read before). For the catalog rows of the tables used
    /// by a write: keeps DDL and DML apart. Takes a shared local lock.
    ///
    /// # Errors
    ///
    /// As [`StoreTxn::get`].
    fn check(&mut self, key: &Key) -> Result<(), StoreError>;
    /// Where the transaction is now.
    fn mark(&self) -> Mark;
    /// Undoes every change since the mark. Locks stay.
    fn rollback_to(&mut self, mark: Mark);
    /// True if the transaction has changes.
    fn has_writes(&self) -> bool;
    /// Commits: returns once the transaction is durable and visible here, or has failed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] (nothing happened), [`StoreError::Unavailable`] (nothing happened),
    /// [`StoreError::OutcomeUnknown`].
    fn commit(self: Box<Self>) -> Result<(), StoreError>;
    /// Rolls back.
    fn rollback(self: Box<Self>);
}
