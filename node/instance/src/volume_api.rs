//! The boundary between the engine and the thread that talks to storage nodes.
//!
//! The engine calls [`Volume`] from SQL threads, and every call may block the caller. The volume thread in
//! turn tells the engine what has been decided: see [`crate::engine::Engine`], whose `apply`, `reset`,
//! `set_role` and `fence` belong to it. Neither side calls the other while it holds a lock of its own.

use std::sync::atomic::AtomicBool;

use node_core::ids::{Key, TxnId, Vector};
use node_core::txn::{Check, Write};
use node_core::wire::Block;

/// A read of rows that the cache does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockRequest {
    /// First key wanted.
    pub start: Key,
    /// First key not wanted; `None`: to the end of the keys.
    pub end: Option<Key>,
    /// False: the answer covers from `start` upwards; true: from `end` downwards.
    pub reverse: bool,
    /// About how many bytes to answer with. The answer covers at least one row, however large.
    pub bytes_max: u32,
    /// Every version that a snapshot from here on may see must be in the answer.
    pub from: Vector,
    /// The answer must include everything up to here.
    pub at_least: Vector,
}

/// What a transaction asks the volume to commit. The volume gives it its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Everything the transaction depends on.
    pub deps: Vector,
    /// Its changes, sorted by key, at most one per key, never empty.
    pub writes: Vec<Write>,
    /// What it needs unchanged, sorted by key; no key that it also writes. Empty in single-master mode.
    pub checks: Vec<Check>,
}

/// Why a read or a question to the volume failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// No quorum, no reachable node, or a refusal.
    #[error("{0}")]
    Unavailable(String),
    /// The caller's kill flag was set while it waited.
    #[error("killed")]
    Killed,
}

/// Why a commit did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Another transaction won; this one is aborted for good.
    #[error("conflict: {0}")]
    Conflict(String),
    /// It was not proposed, or is aborted for good, for want of a quorum or of space.
    #[error("{0}")]
    Unavailable(String),
    /// The outcome could not be learnt in time; it may be either.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// This instance may not write (any more): nothing happened and nothing will.
    #[error("the seat is lost")]
    Fenced,
}

/// The volume as the engine sees it. Every method but `lease_valid` may block.
pub trait Volume: Send + Sync + 'static {
    /// Reads a block from a storage node.
    ///
    /// # Errors
    ///
    /// [`VolumeError::Unavailable`] when no node answers in time.
    fn read_block(&self, request: BlockRequest) -> Result<Block, VolumeError>;
    /// Proposes a transaction and waits for its outcome. When this returns `Ok`, `Engine::apply` has
    /// already been called with the transaction.
    ///
    /// # Errors
    ///
    /// See [`CommitError`].
    fn commit(&self, proposal: Proposal) -> Result<TxnId, CommitError>;
    /// Waits until the engine has applied every commit acknowledged anywhere before this call, and
    /// returns a vector that includes them.
    ///
    /// # Errors
    ///
    /// [`VolumeError::Unavailable`] without a read quorum, [`VolumeError::Killed`] once `killed` is set.
    fn read_index(&self, killed: &AtomicBool) -> Result<Vector, VolumeError>;
    /// Single-master writer: whether reads may be served now, because no other writer can have committed.
    /// Asked after a snapshot has been taken. True for replicas and in multi-master mode.
    fn lease_valid(&self) -> bool;
}
