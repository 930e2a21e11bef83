//! The one writer of the rows.

use std::collections::VecDeque;

use fjall::{AbstractTree, OwnedWriteBatch};
use node_core::ids::{Key, KeyMap, Position, Seat, TxnId, Vector};
use node_core::txn::SharedTxn;
use node_core::wire::{FeedItem, RowVersion, RowVersions};

use crate::formats::ROWS_FORMAT;

use super::{
    APPLIED, COMPLETE_FROM, FORMAT, HEAD_BYTES_MAX, RETAINED_BYTES, RETAINED_FROM, RowStore, RowsError,
    decode, encode, keys, persist,
};

/// Files of dropped records are deleted once so much of what may be kept has been dropped since: one part of this many.
const TRIM_PARTS: u64 = 16;
/// How many records share one entry of the retention list.
const RETAINED_PER_ENTRY: usize = 256;

/// A superseded version that waits until nobody can read it.
struct Superseded {
    by: TxnId,
    key: Vec<u8>,
}

/// One row that is not what most storage nodes have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fix {
    pub(crate) key: Key,
    /// What is here; `None`: nothing.
    pub(crate) found: Option<RowVersion>,
    /// What should be.
    pub(crate) right: Option<RowVersion>,
}

/// Some records of one seat, in order.
struct Retained {
    seat: Seat,
    records: Vec<Position>,
    bytes: u64,
}

/// Applies decided transactions; there is one.
pub struct RowWriter {
    store: RowStore,
    applied: Vector,
    superseded: VecDeque<Superseded>,
    retained: VecDeque<Retained>,
    retained_bytes: u64,
    retained_limit: u64,
    retained_from: Vec<(Seat, Position)>,
    /// Bytes of records dropped since files of such were last deleted.
    untrimmed: u64,
    /// Versions that older snapshots may see have been removed.
    complete_from: Vector,
    dirty: bool,
}

/// One atomic change, and what it has changed so far.
struct Change {
    batch: OwnedWriteBatch,
    rows: KeyMap<RowVersion>,
}

impl RowWriter {
    pub(super) fn new(store: RowStore) -> Result<RowWriter, RowsError> {
        let snapshot = store.db.snapshot();
        let applied = store.applied_in(&snapshot)?;
        let retained_from = store.retained_from(&snapshot)?;
        let complete_from = store.complete_from(&snapshot)?;
        let mut writer = RowWriter {
            store,
            applied,
            superseded: VecDeque::new(),
            retained: VecDeque::new(),
            retained_bytes: 0,
            retained_limit: RETAINED_BYTES,
            retained_from,
            untrimmed: 0,
            complete_from,
            dirty: false,
        };
        writer.load()?;
        Ok(writer)
    }

    /// Keeps about this many bytes of records, instead of [`RETAINED_BYTES`].
    #[cfg(test)]
    pub(super) fn set_retained_limit(&mut self, bytes: u64) {
        self.retained_limit = bytes;
    }

    #[cfg(test)]
    pub(super) fn retained_bytes(&self) -> u64 {
        self.retained_bytes
    }

    /// Finds what is superseded and what is retained after a restart.
    fn load(&mut self) -> Result<(), RowsError> {
        let mut superseded = Vec::new();
        for guard in self.store.history.iter() {
            let (key, value) = guard.into_inner().map_err(self.store.failed("read"))?;
            superseded.push(Superseded { by: decode("old row", &value)?, key: key.to_vec() });
        }
        superseded.sort_by_key(|entry| entry.by.position());
        self.superseded = superseded.into();
        let mut records = Vec::new();
        for guard in self.store.txns.iter() {
            let (_, value) = guard.into_inner().map_err(self.store.failed("read"))?;
            let head = &value[..value.len().min(HEAD_BYTES_MAX)];
            let txn = decode::<TxnId>("transaction", head)?;
            if !self.is_dropped(txn) {
                records.push((txn, value.len() as u64));
            }
        }
        for (txn, bytes) in records {
            self.retain(txn, bytes);
        }
        Ok(())
    }

    /// Everything up to here has been applied.
    pub fn applied(&self) -> &Vector {
        &self.applied
    }

    /// Applies what was decided, in order, as one atomic change. What was applied before is skipped.
    /// `low`: no snapshot older than this is read any more.
    ///
    /// # Errors
    ///
    /// [`RowsError`]: nothing of it is applied.
    pub fn apply(&mut self, items: &[FeedItem], low: &Vector) -> Result<(), RowsError> {
        let mut change = Change { batch: self.store.db.batch(), rows: KeyMap::default() };
        let mut applied = self.applied.clone();
        for item in items {
            match item {
                FeedItem::Commit(txn) => {
                    if applied.sees(txn.id) {
                        continue;
                    }
                    self.apply_txn(txn, low, &mut change)?;
                    applied.advance(txn.id.seat, txn.id.position());
                }
                FeedItem::Advance { seat, to } => {
                    applied.advance(*seat, *to);
                }
            }
        }
        for (key, version) in change.rows {
            change.batch.insert(&self.store.latest, &key[..], &encode(&version)[..]);
        }
        let collected = self.collect(low, &mut change.batch);
        if applied == self.applied && !collected {
            return Ok(());
        }
        change.batch.insert(&self.store.meta, APPLIED, &encode(&applied)[..]);
        if !self.complete_from.covers(low) {
            self.complete_from.join(low);
            change.batch.insert(&self.store.meta, COMPLETE_FROM, &encode(&self.complete_from)[..]);
        }
        self.drop_retained(&mut change.batch);
        change.batch.commit().map_err(self.store.failed("change"))?;
        self.applied = applied;
        self.dirty = true;
        self.trim()
    }

    /// Forgets everything: what follows is a copy of another node's rows, as of `base` and later.
    ///
    /// # Errors
    ///
    /// [`RowsError`] if the disk refuses.
    pub fn begin_copy(&mut self, base: &Vector) -> Result<(), RowsError> {
        for keyspace in [&self.store.latest, &self.store.history, &self.store.txns, &self.store.meta] {
            keyspace.clear().map_err(self.store.failed("clear"))?;
        }
        self.complete_from = Vector::new();
        self.superseded.clear();
        self.retained.clear();
        self.retained_bytes = 0;
        // Records of what came before are elsewhere.
        self.retained_from = base.iter().collect();
        let mut batch = self.store.db.batch();
        batch.insert(&self.store.meta, FORMAT, &encode(&ROWS_FORMAT)[..]);
        batch.insert(&self.store.meta, APPLIED, &encode(base)[..]);
        batch.insert(&self.store.meta, RETAINED_FROM, &encode(&self.retained_from)[..]);
        batch.commit().map_err(self.store.failed("change"))?;
        self.applied = base.clone();
        self.dirty = true;
        Ok(())
    }

    /// The copy includes everything up to `reach`, and older snapshots are not read here; makes it durable.
    ///
    /// # Errors
    ///
    /// [`RowsError`] if the disk refuses.
    pub fn end_copy(&mut self, reach: &Vector) -> Result<(), RowsError> {
        self.complete_from.join(reach);
        let complete = encode(&self.complete_from);
        self.store.meta.insert(COMPLETE_FROM, &complete[..]).map_err(self.store.failed("change"))?;
        self.dirty = true;
        self.persist()
    }

    /// Takes copied rows: the newest version of each, unless a newer one is here.
    ///
    /// # Errors
    ///
    /// [`RowsError`]: nothing of it is taken.
    pub fn copy(&mut self, rows: &[RowVersions]) -> Result<(), RowsError> {
        let mut batch = self.store.db.batch();
        for row in rows {
            let Some(newest) = row.versions.first() else { continue };
            if self.read_latest(&row.key)?.is_none_or(|have| have.ver.height < newest.ver.height) {
                batch.insert(&self.store.latest, &row.key[..], &encode(newest)[..]);
            }
        }
        batch.commit().map_err(self.store.failed("change"))?;
        self.dirty = true;
        Ok(())
    }

    /// Replaces rows that are not what most storage nodes have, durably. A row that has changed meanwhile is
    /// left as it is, but for the version that was wrong. How many were replaced.
    ///
    /// # Errors
    ///
    /// [`RowsError`]: none are.
    pub(crate) fn repair(&mut self, fixes: &[Fix]) -> Result<usize, RowsError> {
        let mut batch = self.store.db.batch();
        let mut count = 0;
        for fix in fixes {
            let current = self.read_latest(&fix.key)?;
            if current == fix.found {
                match &fix.right {
                    Some(right) => batch.insert(&self.store.latest, &fix.key[..], &encode(right)[..]),
                    None => batch.remove(&self.store.latest, &fix.key[..]),
                }
                count += 1;
            } else if let (Some(found), Some(right)) = (&fix.found, &fix.right) {
                let key = keys::history(&fix.key, found.ver.height);
                let old = self.store.history.get(&key).map_err(self.store.failed("read"))?;
                if let Some(old) = old
                    && let (by, version) = decode::<(TxnId, RowVersion)>("old row", &old)?
                    && version == *found
                    && found.ver.height == right.ver.height
                {
                    batch.insert(&self.store.history, &key[..], &encode(&(by, right.clone()))[..]);
                    count += 1;
                }
            }
        }
        batch.commit().map_err(self.store.failed("change"))?;
        self.dirty = true;
        self.persist()?;
        Ok(count)
    }

    /// Makes everything applied so far durable.
    ///
    /// # Errors
    ///
    /// [`RowsError`] if the disk refuses.
    pub fn persist(&mut self) -> Result<(), RowsError> {
        if self.dirty {
            persist(&self.store.db, &self.store.path)?;
            self.dirty = false;
        }
        Ok(())
    }

    /// Writes a row as nothing that was decided would, or removes it: for tests of what finds that.
    ///
    /// # Errors
    ///
    /// [`RowsError`] if the disk refuses.
    #[doc(hidden)]
    pub fn falsify(&mut self, key: &Key, version: Option<&RowVersion>) -> Result<(), RowsError> {
        let mut batch = self.store.db.batch();
        match version {
            Some(version) => batch.insert(&self.store.latest, &key[..], &encode(version)[..]),
            None => batch.remove(&self.store.latest, &key[..]),
        }
        batch.commit().map_err(self.store.failed("change"))?;
        self.dirty = true;
        self.persist()
    }

    fn apply_txn(&mut self, txn: &SharedTxn, low: &Vector, change: &mut Change) -> Result<(), RowsError> {
        for write in &txn.writes {
            let ver = write.version(txn.id);
            let current = match change.rows.get(&write.key) {
                Some(version) => Some(version.clone()),
                None => self.read_latest(&write.key)?,
            };
            if let Some(current) = current {
                if current.ver.height >= ver.height {
                    continue;
                }
                if !low.sees(txn.id) {
                    let key = keys::history(&write.key, current.ver.height);
                    change.batch.insert(&self.store.history, &key[..], &encode(&(txn.id, current))[..]);
                    self.superseded.push_back(Superseded { by: txn.id, key });
                }
            }
            change.rows.insert(write.key.clone(), RowVersion { ver, value: write.value.clone() });
        }
        let record = encode(txn);
        change.batch.insert(&self.store.txns, keys::txn(txn.id), &record[..]);
        self.retain(txn.id, record.len() as u64);
        Ok(())
    }

    fn read_latest(&self, key: &Key) -> Result<Option<RowVersion>, RowsError> {
        match self.store.latest.get(key).map_err(self.store.failed("read"))? {
            Some(value) => Ok(Some(decode("row", &value)?)),
            None => Ok(None),
        }
    }

    /// Removes superseded versions whose successor every snapshot sees. True if there were any.
    fn collect(&mut self, low: &Vector, batch: &mut OwnedWriteBatch) -> bool {
        let before = self.superseded.len();
        while let Some(entry) = self.superseded.pop_front_if(|entry| low.sees(entry.by)) {
            batch.remove(&self.store.history, entry.key);
        }
        self.superseded.len() < before
    }

    fn retain(&mut self, txn: TxnId, bytes: u64) {
        self.retained_bytes += bytes;
        let last = self.retained.iter_mut().rev().take(4).find(|entry| entry.seat == txn.seat);
        match last {
            Some(entry) if entry.records.len() < RETAINED_PER_ENTRY => {
                entry.records.push(txn.position());
                entry.bytes += bytes;
            }
            _ => self.retained.push_back(Retained { seat: txn.seat, records: vec![txn.position()], bytes }),
        }
    }

    /// Removes the oldest records while there are too many.
    fn drop_retained(&mut self, batch: &mut OwnedWriteBatch) {
        let mut changed = false;
        while self.retained_bytes > self.retained_limit && self.retained.len() > 1 {
            let Some(entry) = self.retained.pop_front() else { break };
            self.retained_bytes -= entry.bytes;
            self.untrimmed += entry.bytes;
            for position in &entry.records {
                let txn = TxnId { seat: entry.seat, epoch: position.epoch, seq: position.seq };
                batch.remove(&self.store.txns, keys::txn(txn));
            }
            let Some(last) = entry.records.last() else { continue };
            match self.retained_from.iter_mut().find(|(seat, _)| *seat == entry.seat) {
                Some((_, from)) => *from = (*from).max(*last),
                None => self.retained_from.push((entry.seat, *last)),
            }
            changed = true;
        }
        if changed {
            batch.insert(&self.store.meta, RETAINED_FROM, &encode(&self.retained_from)[..]);
        }
    }

    /// Deletes files that hold nothing but dropped records. Compaction alone would hardly do it: records only come behind
    /// those that are there, so nothing overlaps with the old ones but their own tombstones, which are few bytes and
    /// stay where they are. A file in part may lose its tombstones: hence [`RowWriter::is_dropped`].
    fn trim(&mut self) -> Result<(), RowsError> {
        if self.untrimmed < self.retained_limit / TRIM_PARTS {
            return Ok(());
        }
        self.untrimmed = 0;
        for (seat, from) in &self.retained_from {
            let range = &keys::first(*seat)[..]..&keys::after(*seat, *from)[..];
            self.store
                .txns
                .tree
                .drop_range(range)
                .map_err(|error| self.store.failed("trim")(error.into()))?;
        }
        Ok(())
    }

    /// Whether the record of this transaction was dropped, if it is there or not.
    fn is_dropped(&self, txn: TxnId) -> bool {
        self.retained_from.iter().any(|(seat, from)| *seat == txn.seat && txn.position() <= *from)
    }
}
