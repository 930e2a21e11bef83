//! One table's rows and index entries in the transaction: what a change of one row does to the store.

use crate::catalog::{IndexDef, TableDef};
use crate::encoding::{
    Entry, ROW_INDEX, decode_row, encode_row, hidden_row_key, hidden_row_number, index_entry, index_range,
    row_key,
};
use crate::error::{SqlError, SqlResult};
use crate::store::{Key, LockWait, ReadMode, Store, StoreError, StoreTxn};
use crate::table::SharedSlot;
use crate::types::Value;

/// Hidden row numbers of a table are counted apart from its AUTO_INCREMENT column.
const HIDDEN_COUNTER: u32 = 1 << 31;

/// A key that is already there.
#[derive(Clone, Debug)]
pub(crate) struct Duplicate {
    /// The row that has it.
    pub(crate) row_key: Key,
    /// What the client is told.
    pub(crate) error: SqlError,
}

/// Changes rows of a table. The slot is locked for each operation, not across them: a statement may have to
/// run queries in between.
pub(crate) struct RowWriter<'a> {
    pub(crate) slot: &'a SharedSlot,
    pub(crate) table: &'a TableDef,
    pub(crate) wait: LockWait,
}

/// Runs something in the open transaction.
pub(crate) fn with_txn<T>(
    slot: &SharedSlot,
    body: impl FnOnce(&mut dyn StoreTxn) -> Result<T, StoreError>,
) -> SqlResult<T> {
    let mut slot = slot.lock();
    let txn = slot.txn.as_mut().ok_or_else(|| SqlError::internal("no open transaction"))?;
    Ok(body(&mut **txn)?)
}

fn duplicate_text(index: &IndexDef, row: &[Value]) -> String {
    let parts: Vec<String> =
        index.columns.iter().map(|&c| row[c].display().unwrap_or_else(|| "NULL".to_owned())).collect();
    parts.join("-")
}

impl RowWriter<'_> {
    fn secondary(&self) -> impl Iterator<Item = &IndexDef> {
        self.table.indexes.iter().filter(|i| !i.primary)
    }

    fn duplicate(&self, index: &IndexDef, row: &[Value], row_key: Key) -> Duplicate {
        let key = format!("{}.{}", self.table.name, index.name);
        Duplicate { row_key, error: SqlError::duplicate_entry(&duplicate_text(index, row), &key) }
    }

    fn lock(&self, key: &Key) -> SqlResult<Option<bytes::Bytes>> {
        with_txn(self.slot, |txn| txn.lock(key, self.wait))
    }

    /// Inserts a row that has every column. Looks at all unique keys before anything is written.
    pub(crate) fn insert(&self, store: &dyn Store, row: &[Value]) -> SqlResult<Result<(), Duplicate>> {
        let key = match self.table.primary() {
            Some(primary) => {
                let key = row_key(self.table, primary, row);
                if self.lock(&key)?.is_some() {
                    return Ok(Err(self.duplicate(primary, row, key)));
                }
                key
            }
            None => hidden_row_key(self.table.id, self.next_hidden(store)?),
        };
        let mut entries = Vec::with_capacity(self.table.indexes.len());
        for index in self.secondary() {
            let entry = index_entry(self.table, index, row, &key);
            if entry.unique
                && let Some(other) = self.lock(&entry.key)?
            {
                return Ok(Err(self.duplicate(index, row, other)));
            }
            entries.push(entry);
        }
        let value = encode_row(self.table, row);
        with_txn(self.slot, |txn| {
            for entry in entries {
                txn.put(entry.key, key.clone())?;
            }
            txn.put(key, value)
        })?;
        Ok(Ok(()))
    }

    fn next_hidden(&self, store: &dyn Store) -> SqlResult<u64> {
        let range = index_range(self.table.id, ROW_INDEX);
        let slot = self.slot;
        let mut last_used = || {
            let mut slot = slot.lock();
            let Some(txn) = slot.txn.as_mut() else { return Ok(0) };
            let last = txn.scan(&range, true, 1, ReadMode::Present)?;
            Ok(last.first().and_then(|(key, _)| hidden_row_number(key)).unwrap_or(0))
        };
        Ok(store.auto_increment(self.table.id | HIDDEN_COUNTER, 1, &mut last_used)?)
    }

    /// The newest version of a row, locked.
    pub(crate) fn read(&self, key: &Key) -> SqlResult<Option<Vec<Value>>> {
        let row = with_txn(self.slot, |txn| txn.get(key, ReadMode::Update))?;
        row.map(|bytes| decode_row(self.table, &bytes)).transpose()
    }

    /// Puts a row in place of another, whose key is `key`.
    pub(crate) fn update(&self, key: &Key, old: &[Value], new: &[Value]) -> SqlResult<Result<(), Duplicate>> {
        let new_key = match self.table.primary() {
            Some(primary) => {
                let new_key = row_key(self.table, primary, new);
                if new_key != *key && self.lock(&new_key)?.is_some() {
                    return Ok(Err(self.duplicate(primary, new, new_key)));
                }
                new_key
            }
            None => key.clone(),
        };
        let moved = new_key != *key;
        let mut changes: Vec<(Entry, Entry)> = Vec::new();
        for index in self.secondary() {
            let before = index_entry(self.table, index, old, key);
            let after = index_entry(self.table, index, new, &new_key);
            if before == after && !moved {
                continue;
            }
            if after.unique
                && after.key != before.key
                && let Some(other) = self.lock(&after.key)?
            {
                return Ok(Err(self.duplicate(index, new, other)));
            }
            changes.push((before, after));
        }
        let value = encode_row(self.table, new);
        with_txn(self.slot, |txn| {
            for (before, after) in changes {
                if before.key != after.key {
                    txn.delete(before.key)?;
                }
                txn.put(after.key, new_key.clone())?;
            }
            if moved {
                txn.delete(key.clone())?;
            }
            txn.put(new_key, value)
        })?;
        Ok(Ok(()))
    }

    /// Deletes a row.
    pub(crate) fn delete(&self, key: &Key, old: &[Value]) -> SqlResult<()> {
        let entries: Vec<Entry> =
            self.secondary().map(|index| index_entry(self.table, index, old, key)).collect();
        with_txn(self.slot, |txn| {
            for entry in entries {
                txn.delete(entry.key)?;
            }
            txn.delete(key.clone())
        })
    }

    /// The largest value in use of the AUTO_INCREMENT column.
    pub(crate) fn largest(&self, column: usize) -> Result<u64, StoreError> {
        let unreadable = || StoreError::Unavailable { reason: "a stored row is damaged".to_owned() };
        let floor = self.table.auto_increment.map_or(0, |next| next.saturating_sub(1));
        let Some(index) = self.table.indexes.iter().find(|i| i.columns.first() == Some(&column)) else {
            return Ok(floor);
        };
        let id = if index.primary { ROW_INDEX } else { index.id };
        let mut slot = self.slot.lock();
        let Some(txn) = slot.txn.as_mut() else { return Ok(floor) };
        let last = txn.scan(&index_range(self.table.id, id), true, 1, ReadMode::Present)?;
        let Some((_, value)) = last.into_iter().next() else { return Ok(floor) };
        let row = if index.primary { Some(value) } else { txn.get(&value, ReadMode::Present)? };
        let Some(row) = row else { return Ok(floor) };
        let values = decode_row(self.table, &row).map_err(|_| unreadable())?;
        let used = match values.get(column) {
            Some(Value::Int(v)) => u64::try_from(*v).unwrap_or(0),
            Some(Value::Double(v)) => *v as u64,
            _ => 0,
        };
        Ok(used.max(floor))
    }
}
