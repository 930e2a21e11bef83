//! The catalog in the store: its rows, and the cache of definitions that an instance's sessions share.
//!
//! All rows are under table id 0, the fifth byte saying what they are. Values begin with eight bytes that
//! change with every change of the row, so that a statement can see at a glance whether its plan still fits.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, DatabaseDef, TableDef};
use crate::error::{SqlError, SqlResult};
use crate::information_schema;
use crate::store::{Freshness, Isolation, Key, KeyRange, ReadMode, Store, StoreTxn, TxnOptions};

const KIND_NEXT_TABLE_ID: u8 = 1;
const KIND_DATABASE: u8 = 2;
const KIND_TABLE: u8 = 3;
const KIND_GARBAGE: u8 = 4;
const KIND_PENDING: u8 = 5;

/// Rows read from the catalog at a time.
const BATCH: usize = 200;

fn key_of(kind: u8, rest: &[&[u8]]) -> Key {
    let mut key = vec![0, 0, 0, 0, kind];
    for (i, part) in rest.iter().enumerate() {
        if i > 0 {
            // Names hold no NUL.
            key.push(0);
        }
        key.extend_from_slice(part);
    }
    key.into()
}

/// The row that gives out table ids.
pub fn next_table_id_key() -> Key {
    key_of(KIND_NEXT_TABLE_ID, &[])
}
/// A database's row.
pub fn database_key(name: &str) -> Key {
    key_of(KIND_DATABASE, &[name.as_bytes()])
}
/// A table's row.
pub fn table_key(database: &str, table: &str) -> Key {
    key_of(KIND_TABLE, &[database.as_bytes(), table.as_bytes()])
}
/// The rows of a database's tables.
pub fn tables_range(database: &str) -> KeyRange {
    let start = key_of(KIND_TABLE, &[database.as_bytes(), b""]);
    let mut end = start.to_vec();
    if let Some(last) = end.last_mut() {
        *last = 1;
    }
    KeyRange { start, end: Some(end.into()) }
}
fn databases_range() -> KeyRange {
    KeyRange { start: key_of(KIND_DATABASE, &[]), end: Some(key_of(KIND_DATABASE + 1, &[])) }
}
/// The row saying that keys are to be deleted: of a whole table, or of one index.
pub fn garbage_key(table: u32, index: Option<u32>) -> Key {
    key_of(KIND_GARBAGE, &[&table.to_be_bytes(), &index.unwrap_or(0).to_be_bytes()])
}
/// Every such row.
pub fn garbage_range() -> KeyRange {
    KeyRange { start: key_of(KIND_GARBAGE, &[]), end: Some(key_of(KIND_GARBAGE + 1, &[])) }
}
/// The row saying that a long change of a table is under way.
pub fn pending_key(table: u32) -> Key {
    key_of(KIND_PENDING, &[&table.to_be_bytes()])
}
/// Every such row.
pub fn pending_range() -> KeyRange {
    KeyRange { start: key_of(KIND_PENDING, &[]), end: Some(key_of(KIND_PENDING + 1, &[])) }
}

/// Keys to be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Garbage {
    /// Of which table.
    pub table: u32,
    /// Of one index, or of all.
    pub index: Option<u32>,
}

/// A long change under way: what to undo if whoever does it is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The table's database.
    pub database: String,
    /// Its name.
    pub table: String,
    /// Which instance is at it.
    pub owner: String,
    /// Which process of that name: one that was started again knows nothing of it.
    #[serde(default)]
    pub run: u64,
    /// What it has written so far.
    pub unfinished: Garbage,
}

/// A catalog row's value: a stamp and JSON.
///
/// # Errors
///
/// 1105 if the value cannot be written as JSON (it always can).
pub fn encode<T: Serialize>(stamp: u64, value: &T) -> SqlResult<Bytes> {
    let mut bytes = stamp.to_be_bytes().to_vec();
    serde_json::to_writer(&mut bytes, value).map_err(SqlError::internal)?;
    Ok(bytes.into())
}

/// Reads a catalog row.
///
/// # Errors
///
/// 1105 if it is damaged.
pub fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> SqlResult<T> {
    let body = bytes.get(8..).ok_or_else(|| SqlError::internal("a catalog row is damaged"))?;
    serde_json::from_slice(body).map_err(SqlError::internal)
}

/// What a definition's row begins with: changes whenever it does.
pub fn stamp_of(table: &TableDef) -> u64 {
    (u64::from(table.id) << 32) | (table.version & 0xffff_ffff)
}

/// True if the row is that definition's.
pub fn is_row_of(bytes: &[u8], table: &TableDef) -> bool {
    bytes.get(..8) == Some(stamp_of(table).to_be_bytes().as_slice())
}

/// All rows of a range, in batches.
///
/// # Errors
///
/// Those of reading.
pub fn scan_all(txn: &mut dyn StoreTxn, range: &KeyRange, mode: ReadMode) -> SqlResult<Vec<(Key, Bytes)>> {
    let mut all: Vec<(Key, Bytes)> = Vec::new();
    let mut rest = range.clone();
    loop {
        let rows = txn.scan(&rest, false, BATCH, mode)?;
        let done = rows.len() < BATCH;
        all.extend(rows);
        if done {
            return Ok(all);
        }
        if let Some((last, _)) = all.last() {
            rest.start = after(last);
        }
    }
}

/// The first key above a key.
pub fn after(key: &Key) -> Key {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

#[derive(Default)]
struct Known {
    version: u64,
    tables: HashMap<(String, String), Arc<TableDef>>,
    databases: Option<Vec<DatabaseDef>>,
}

/// The definitions that an instance's sessions share; emptied when the catalog changes.
pub struct SchemaCache {
    store: Arc<dyn Store>,
    known: RwLock<Known>,
}

impl SchemaCache {
    /// An empty one.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, known: RwLock::default() }
    }
    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }
    /// A view of the catalog for one statement.
    pub fn view(self: &Arc<Self>, freshness: Freshness, killed: Arc<AtomicBool>) -> SchemaView {
        SchemaView { cache: self.clone(), freshness, killed }
    }

    fn refresh(&self) -> u64 {
        let version = self.store.catalog_version();
        if self.known.read().version != version {
            let mut known = self.known.write();
            if known.version != version {
                *known = Known { version, ..Known::default() };
            }
        }
        version
    }
}

/// The catalog as one statement sees it: computed tables, the cache, and the store behind it.
pub struct SchemaView {
    cache: Arc<SchemaCache>,
    freshness: Freshness,
    killed: Arc<AtomicBool>,
}

impl SchemaView {
    fn begin(&self, freshness: Freshness) -> SqlResult<Box<dyn StoreTxn>> {
        let mut txn = self.cache.store.begin(TxnOptions {
            isolation: Isolation::ReadCommitted,
            freshness,
            snapshot_isolation: false,
            read_only: true,
            lock_wait: Duration::from_secs(1),
            killed: self.killed.clone(),
        });
        txn.begin_statement()?;
        Ok(txn)
    }

    fn load(&self, key: &Key, freshness: Freshness) -> SqlResult<Option<Bytes>> {
        let mut txn = self.begin(freshness)?;
        let value = txn.get(key, ReadMode::Snapshot)?;
        txn.rollback();
        Ok(value)
    }

    fn keep(&self, version: u64, change: impl FnOnce(&mut Known)) {
        let mut known = self.cache.known.write();
        // What was read may already be older than what others have put there.
        if known.version == version && self.cache.store.catalog_version() == version {
            change(&mut known);
        }
    }
}

impl Catalog for SchemaView {
    fn table(&self, database: &str, table: &str) -> SqlResult<Option<Arc<TableDef>>> {
        if let Some(computed) = information_schema::table(database, table) {
            return Ok(Some(computed));
        }
        let version = self.cache.refresh();
        let name = (database.to_owned(), table.to_owned());
        if let Some(found) = self.cache.known.read().tables.get(&name) {
            return Ok(Some(found.clone()));
        }
        let key = table_key(database, table);
        let mut row = self.load(&key, Freshness::Local)?;
        if row.is_none() && self.freshness == Freshness::Global {
            // Another instance may have made it a moment ago.
            row = self.load(&key, Freshness::Global)?;
        }
        let Some(row) = row else { return Ok(None) };
        let found: Arc<TableDef> = Arc::new(decode(&row)?);
        self.keep(version, |known| {
            known.tables.insert(name, found.clone());
        });
        Ok(Some(found))
    }

    fn tables(&self, database: &str) -> SqlResult<Vec<Arc<TableDef>>> {
        let computed = information_schema::tables(database);
        if !computed.is_empty() {
            return Ok(computed);
        }
        let mut txn = self.begin(self.freshness)?;
        let rows = scan_all(&mut *txn, &tables_range(database), ReadMode::Snapshot)?;
        txn.rollback();
        rows.iter().map(|(_, row)| decode(row).map(Arc::new)).collect()
    }

    fn databases(&self) -> SqlResult<Vec<DatabaseDef>> {
        let version = self.cache.refresh();
        let known = self.cache.known.read().databases.clone();
        if let (Some(all), Freshness::Local) = (known, self.freshness) {
            return Ok(all);
        }
        let mut txn = self.begin(self.freshness)?;
        let rows = scan_all(&mut *txn, &databases_range(), ReadMode::Snapshot)?;
        txn.rollback();
        let mut all: Vec<DatabaseDef> = rows.iter().map(|(_, row)| decode(row)).collect::<SqlResult<_>>()?;
        for name in information_schema::databases() {
            if !all.iter().any(|d| d.name == *name) {
                all.push(DatabaseDef { name: (*name).to_owned(), collation: Default::default() });
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        self.keep(version, |known| known.databases = Some(all.clone()));
        Ok(all)
    }

    fn database(&self, name: &str) -> SqlResult<Option<DatabaseDef>> {
        let name = if name.eq_ignore_ascii_case("information_schema") { "information_schema" } else { name };
        if information_schema::databases().contains(&name) {
            return Ok(Some(DatabaseDef { name: name.to_owned(), collation: Default::default() }));
        }
        let key = database_key(name);
        let mut row = self.load(&key, Freshness::Local)?;
        if row.is_none() && self.freshness == Freshness::Global {
            row = self.load(&key, Freshness::Global)?;
        }
        row.as_deref().map(decode).transpose()
    }
}
