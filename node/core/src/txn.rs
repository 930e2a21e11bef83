//! A transaction's record: what is proposed, voted on, stored and replicated.

use std::sync::Arc;

use bytes::Bytes;

use crate::ids::{Height, Key, TxnId, Vector, Ver};

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Which key.
    pub key: Key,
    /// The committed version it replaces; `None` if the key was never written.
    pub base: Option<Ver>,
    /// The new value; `None` deletes the key (the version stays, as a tombstone).
    pub value: Option<Bytes>,
}

impl Write {
    /// The height this write gives its key: with the key it names the slot that one transaction may fill.
    pub fn height(&self) -> Height {
        Height(self.base.map_or(0, |base| base.height.0) + 1)
    }
    /// The version this write makes.
    pub fn version(&self, txn: TxnId) -> Ver {
        Ver { height: self.height(), txn }
    }
}

/// A key that must still be at this version when the transaction commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Which key.
    pub key: Key,
    /// The committed version it must still have; `None`: never written.
    pub base: Option<Ver>,
}

impl Check {
    /// Height the key must still have.
    pub fn height(&self) -> Height {
        self.base.map_or(Height(0), |base| base.height)
    }
}

/// A transaction as the volume sees it. Immutable once proposed, so it is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// Its identity.
    pub id: TxnId,
    /// Everything it depends on: its snapshot, joined with the positions of every base it replaces.
    pub deps: Vector,
    /// Its changes; at most one per key, sorted by key.
    pub writes: Vec<Write>,
    /// What it needs unchanged; no key that it also writes.
    pub checks: Vec<Check>,
}

/// A shared transaction record.
pub type SharedTxn = Arc<Txn>;
