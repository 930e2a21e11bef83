//! Changes of the catalog.
//!
//! A definition is a row of its own, so CREATE, DROP and ALTER are transactions on those rows; statements that
//! change rows *check* their table's definition, and the vote keeps both apart, on every instance.
//!
//! What takes long is not one transaction. Keys that nobody can reach any more (of a dropped table or index)
//! are named by a *garbage* row and deleted in batches after the definition has changed. An index on a full
//! table is built in batches while the table is read-only, under a *pending* row; if whoever builds it dies,
//! the next change of the table undoes what is there.

mod alter;

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::catalog::{DatabaseDef, TableDef, TableState};
use crate::collation::Collation;
use crate::encoding::{index_range, table_range};
use crate::error::{SqlError, SqlResult};
use crate::plan::{Ddl, TableName};
use crate::schema::{
    Garbage, Pending, after, database_key, decode, encode, garbage_key, garbage_range, next_table_id_key,
    pending_key, scan_all, stamp_of, table_key, tables_range,
};
use crate::store::{Key, LockWait, ReadMode, Store, StoreTxn, TxnOptions};

/// Keys read or deleted, or index entries written, in one transaction.
const BATCH: usize = 2_000;
/// Entries of a new index that are sorted in memory and written in order: keys in a random order would each
/// need another part of the index cached.
const SORT_BYTES: usize = 8 << 20;
/// How often a change of the catalog that lost a vote is tried again.
const RETRIES: u32 = 20;
const DEADLOCK: u16 = 1213;
/// Ids of the first table; smaller ones are the catalog's.
const FIRST_TABLE_ID: u32 = 16;

/// Carries out changes of the catalog.
pub(crate) struct Definer<'a> {
    pub(crate) store: &'a Arc<dyn Store>,
    pub(crate) options: TxnOptions,
    pub(crate) wait: LockWait,
    /// This instance's name, and its process.
    pub(crate) owner: String,
    pub(crate) run: u64,
    /// Whether an instance is running.
    pub(crate) alive: &'a dyn Fn(&str) -> bool,
    /// What IF EXISTS and the like have passed over.
    pub(crate) notes: &'a mut Vec<SqlError>,
    pub(crate) now_seconds: u64,
}

impl Definer<'_> {
    /// Carries one out. Returns the number of affected rows.
    pub(crate) fn run(&mut self, ddl: &Ddl) -> SqlResult<u64> {
        match ddl {
            Ddl::CreateDatabase { name, if_not_exists, collation } => {
                self.create_database(name, *if_not_exists, *collation)
            }
            Ddl::DropDatabase { name, if_exists } => self.drop_database(name, *if_exists),
            Ddl::CreateTable { select: Some(_), .. } => Err(SqlError::unsupported("CREATE TABLE ... SELECT")),
            Ddl::CreateTable { table, if_not_exists, select: None } => {
                self.create_table((**table).clone(), *if_not_exists)
            }
            Ddl::CreateTableLike { name, like, if_not_exists } => {
                let model = self.transaction(|_, txn| read_table(txn, &like.database, &like.table))?;
                let mut table =
                    TableDef { database: name.database.clone(), name: name.table.clone(), ..model };
                table.auto_increment = None;
                table.foreign_keys.clear();
                self.create_table(table, *if_not_exists)
            }
            Ddl::DropTable { tables, if_exists } => self.drop_tables(tables, *if_exists),
            Ddl::Truncate(name) => self.truncate(name),
            Ddl::Rename(pairs) => {
                for (from, to) in pairs {
                    self.rename(from, to)?;
                }
                Ok(0)
            }
            Ddl::Alter { table, actions } => self.alter(table, actions),
        }
    }

    /// Runs a transaction on the catalog; again if another one won.
    fn transaction<T>(
        &mut self,
        mut body: impl FnMut(&mut Self, &mut dyn StoreTxn) -> SqlResult<T>,
    ) -> SqlResult<T> {
        let mut tries = 0;
        loop {
            let mut txn = self.store.begin(self.options.clone());
            let result = match txn.begin_statement() {
                Ok(()) => body(self, &mut *txn),
                Err(error) => Err(error.into()),
            };
            let result = match result {
                Ok(value) if txn.has_writes() => txn.commit().map(|()| value).map_err(SqlError::from),
                other => {
                    txn.rollback();
                    other
                }
            };
            match result {
                Err(error) if error.code == DEADLOCK && tries < RETRIES => tries += 1,
                result => return result,
            }
        }
    }

    // ---- databases ----

    fn create_database(&mut self, name: &str, if_not_exists: bool, collation: Collation) -> SqlResult<u64> {
        let exists = self.transaction(|definer, txn| {
            let key = database_key(name);
            if txn.lock(&key, definer.wait)?.is_some() {
                return Ok(true);
            }
            txn.put(key, encode(1, &DatabaseDef { name: name.to_owned(), collation })?)?;
            Ok(false)
        })?;
        match (exists, if_not_exists) {
            (true, false) => Err(SqlError::database_exists(name)),
            (true, true) => {
                self.notes.push(SqlError::database_exists(name));
                Ok(1)
            }
            (false, _) => Ok(1),
        }
    }

    fn drop_database(&mut self, name: &str, if_exists: bool) -> SqlResult<u64> {
        let dropped = self.transaction(|definer, txn| {
            let key = database_key(name);
            if txn.lock(&key, definer.wait)?.is_none() {
                return Ok(None);
            }
            let tables = scan_all(txn, &tables_range(name), ReadMode::Update)?;
            for (key, row) in &tables {
                let table: TableDef = decode(row)?;
                discard(txn, table.id, None)?;
                txn.delete(key.clone())?;
            }
            txn.delete(key)?;
            Ok(Some(tables.len() as u64))
        })?;
        match dropped {
            None if if_exists => {
                self.notes.push(SqlError::no_database_to_drop(name));
                Ok(0)
            }
            None => Err(SqlError::no_database_to_drop(name)),
            Some(count) => {
                self.sweep()?;
                Ok(count)
            }
        }
    }

    // ---- tables ----

    fn create_table(&mut self, table: TableDef, if_not_exists: bool) -> SqlResult<u64> {
        let name = table.name.clone();
        let exists = self.transaction(|definer, txn| {
            let mut table = table.clone();
            let database = database_key(&table.database);
            if txn.get(&database, ReadMode::Share)?.is_none() {
                return Err(SqlError::unknown_database(&table.database));
            }
            let key = table_key(&table.database, &table.name);
            if txn.lock(&key, definer.wait)?.is_some() {
                return Ok(true);
            }
            number_parts(&mut table);
            table.id = definer.next_table_id(txn)?;
            table.version = 1;
            table.state = TableState::Public;
            table.created = definer.now_seconds;
            write_table(txn, &table)?;
            Ok(false)
        })?;
        match (exists, if_not_exists) {
            (true, false) => Err(SqlError::table_exists(&name)),
            (true, true) => {
                self.notes.push(SqlError::table_exists(&name));
                Ok(0)
            }
            (false, _) => Ok(0),
        }
    }

    fn next_table_id(&mut self, txn: &mut dyn StoreTxn) -> SqlResult<u32> {
        let key = next_table_id_key();
        let row = txn.lock(&key, self.wait)?;
        let next = match row.as_deref() {
            None => FIRST_TABLE_ID,
            Some(bytes) => {
                let bytes: [u8; 4] =
                    bytes.try_into().map_err(|_| SqlError::internal("a catalog row is damaged"))?;
                u32::from_be_bytes(bytes)
            }
        };
        txn.put(key, Bytes::copy_from_slice(&(next + 1).to_be_bytes()))?;
        Ok(next)
    }

    fn drop_tables(&mut self, tables: &[TableName], if_exists: bool) -> SqlResult<u64> {
        let mut unknown = Vec::new();
        for name in tables {
            let dropped = self.transaction(|definer, txn| {
                let key = table_key(&name.database, &name.table);
                let Some(row) = txn.lock(&key, definer.wait)? else { return Ok(false) };
                let table: TableDef = decode(&row)?;
                discard(txn, table.id, None)?;
                txn.delete(key)?;
                Ok(true)
            })?;
            if !dropped {
                unknown.push(format!("{}.{}", name.database, name.table));
            }
        }
        self.sweep()?;
        if unknown.is_empty() {
            return Ok(0);
        }
        let error = SqlError::unknown_table(&unknown.join(","));
        if !if_exists {
            return Err(error);
        }
        self.notes.push(error);
        Ok(0)
    }

    /// The table goes on under a new id, so that nothing waits for its old rows to be deleted.
    fn truncate(&mut self, name: &TableName) -> SqlResult<u64> {
        self.transaction(|definer, txn| {
            let mut table = definer.lock_table(txn, name)?;
            definer.refuse_pending(&table)?;
            discard(txn, table.id, None)?;
            table.id = definer.next_table_id(txn)?;
            table.auto_increment = None;
            table.version += 1;
            write_table(txn, &table)
        })?;
        self.sweep()?;
        Ok(0)
    }

    fn rename(&mut self, from: &TableName, to: &TableName) -> SqlResult<()> {
        self.transaction(|definer, txn| {
            let mut table = definer.lock_table(txn, from)?;
            definer.refuse_pending(&table)?;
            if txn.get(&database_key(&to.database), ReadMode::Share)?.is_none() {
                return Err(SqlError::unknown_database(&to.database));
            }
            if txn.lock(&table_key(&to.database, &to.table), definer.wait)?.is_some() {
                return Err(SqlError::table_exists(&to.table));
            }
            txn.delete(table_key(&from.database, &from.table))?;
            table.database.clone_from(&to.database);
            table.name.clone_from(&to.table);
            table.version += 1;
            write_table(txn, &table)
        })
    }

    /// The definition as it is now, locked.
    fn lock_table(&mut self, txn: &mut dyn StoreTxn, name: &TableName) -> SqlResult<TableDef> {
        let row = txn.lock(&table_key(&name.database, &name.table), self.wait)?;
        let row = row.ok_or_else(|| SqlError::no_such_table(&name.database, &name.table))?;
        decode(&row)
    }

    fn refuse_pending(&self, table: &TableDef) -> SqlResult<()> {
        if table.state == TableState::ReadOnly { Err(SqlError::lock_timeout()) } else { Ok(()) }
    }

    // ---- keys that nobody reaches any more ----

    /// Deletes what garbage rows name, in batches. Several may do it at once.
    pub(crate) fn sweep(&mut self) -> SqlResult<()> {
        let rows = self.transaction(|_, txn| scan_all(txn, &garbage_range(), ReadMode::Present))?;
        for (key, row) in rows {
            let garbage: Garbage = decode(&row)?;
            self.sweep_one(&key, &garbage)?;
        }
        Ok(())
    }

    fn sweep_one(&mut self, key: &Key, garbage: &Garbage) -> SqlResult<()> {
        let mut range = match garbage.index {
            None => table_range(garbage.table),
            Some(index) => index_range(garbage.table, index),
        };
        loop {
            let found = self.transaction(|_, txn| {
                let rows = txn.scan(&range, false, BATCH, ReadMode::Present)?;
                for (key, _) in &rows {
                    txn.delete(key.clone())?;
                }
                Ok(rows)
            })?;
            match found.last() {
                Some((last, _)) if found.len() == BATCH => range.start = after(last),
                _ => break,
            }
        }
        self.transaction(|_, txn| Ok(txn.delete(key.clone())?))
    }

    /// Whether whoever changes the table is gone.
    fn abandoned(&self, pending: &Pending) -> bool {
        if pending.owner == self.owner { pending.run != self.run } else { !(self.alive)(&pending.owner) }
    }

    /// Whether a table can be written again: nobody changes it, or whoever did is gone and it is put back.
    pub(crate) fn is_free(&mut self, table: u32) -> SqlResult<bool> {
        let row = self.transaction(|_, txn| Ok(txn.get(&pending_key(table), ReadMode::Present)?))?;
        let Some(row) = row else { return Ok(true) };
        let pending: Pending = decode(&row)?;
        if !self.abandoned(&pending) {
            return Ok(false);
        }
        self.undo(&TableName { database: pending.database, table: pending.table }, false)?;
        Ok(true)
    }

    /// A table is left read-only by an instance that has died, or by this session (`own`), which could not
    /// go on: puts it back as it was.
    fn undo(&mut self, name: &TableName, own: bool) -> SqlResult<()> {
        let undone = self.transaction(|definer, txn| {
            let mut table = definer.lock_table(txn, name)?;
            let key = pending_key(table.id);
            let Some(row) = txn.lock(&key, definer.wait)? else { return Ok(false) };
            let pending: Pending = decode(&row)?;
            if !own && !definer.abandoned(&pending) {
                return Err(SqlError::lock_timeout());
            }
            discard(txn, pending.unfinished.table, pending.unfinished.index)?;
            txn.delete(key)?;
            table.state = TableState::Public;
            table.version += 1;
            write_table(txn, &table)?;
            Ok(true)
        })?;
        if undone { self.sweep() } else { Ok(()) }
    }
}

fn read_table(txn: &mut dyn StoreTxn, database: &str, table: &str) -> SqlResult<TableDef> {
    let row = txn.get(&table_key(database, table), ReadMode::Present)?;
    let row = row.ok_or_else(|| SqlError::no_such_table(database, table))?;
    decode(&row)
}

fn write_table(txn: &mut dyn StoreTxn, table: &TableDef) -> SqlResult<()> {
    Ok(txn.put(table_key(&table.database, &table.name), encode(stamp_of(table), table)?)?)
}

/// Names keys as garbage: of a whole table, or of one index.
fn discard(txn: &mut dyn StoreTxn, table: u32, index: Option<u32>) -> SqlResult<()> {
    Ok(txn.put(garbage_key(table, index), encode(1, &Garbage { table, index })?)?)
}

/// Gives the columns and indexes of a new table their numbers.
fn number_parts(table: &mut TableDef) {
    for (place, column) in table.columns.iter_mut().enumerate() {
        column.id = u32::try_from(place).unwrap_or(u32::MAX) + 1;
        column.added_with = None;
    }
    table.next_column_id = u32::try_from(table.columns.len()).unwrap_or(u32::MAX) + 1;
    table.indexes.sort_by_key(|index| !index.primary);
    let mut next = 2;
    for index in &mut table.indexes {
        index.id = if index.primary {
            1
        } else {
            next += 1;
            next - 1
        };
    }
    table.next_index_id = next;
}

/// A name for an index that has none: its first column's, with `_2`, `_3` … if taken.
fn index_name(table: &TableDef, first_column: &str) -> String {
    let taken: HashSet<String> = table.indexes.iter().map(|index| index.name.to_lowercase()).collect();
    let free = |name: &String| !taken.contains(&name.to_lowercase());
    let numbered = (2..).map(|number| format!("{first_column}_{number}"));
    std::iter::once(first_column.to_owned()).chain(numbered).find(free).unwrap_or_default()
}
