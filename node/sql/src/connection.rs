//! A session's SQLite: a private in-memory database without tables of its own, with our tables, collations and
//! functions registered. It plans and reads; it never holds data or transactions.
#![allow(unsafe_code)] // Collations and module registration use SQLite's C interface: see below for each.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ffi::{CStr, c_int, c_void};
use std::panic::catch_unwind;
use std::sync::{Arc, Once};

use libsqlite3_sys as ffi;
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, InterruptHandle, OpenFlags};

use crate::collation::{Comparison, compare, compare_decimal, time_micros};
use crate::context::Context;
use crate::error::{SqlError, SqlResult};
use crate::plan::{Bind, Query, TableUse};
use crate::schema::stamp_of;
use crate::store::Store;
use crate::table::{ComputedRows, Module, SharedSlot, register};
use crate::types::{ColumnType, Storage, Value, format_double};

/// Prepared SQLite statements kept by a session.
const STATEMENTS: usize = 128;

/// Values for a query's parameters.
#[derive(Clone, Copy, Default)]
pub(crate) struct BindValues<'a> {
    /// The client's.
    pub(crate) parameters: &'a [Value],
    /// ON DUPLICATE KEY UPDATE: the row that is there.
    pub(crate) old: &'a [Value],
    /// The row that could not be inserted.
    pub(crate) new: &'a [Value],
}

impl<'a> BindValues<'a> {
    pub(crate) fn of(self, bind: &'a Bind) -> &'a Value {
        const NULL: &Value = &Value::Null;
        match bind {
            Bind::Parameter(i) => self.parameters.get(*i).unwrap_or(NULL),
            Bind::Constant(value) => value,
            Bind::Old(i) => self.old.get(*i).unwrap_or(NULL),
            Bind::New(i) => self.new.get(*i).unwrap_or(NULL),
        }
    }
}

/// A session's SQLite connection.
pub(crate) struct Engine {
    connection: Connection,
    pub(crate) slot: SharedSlot,
    pub(crate) context: Context,
    store: Arc<dyn Store>,
    computed: Arc<dyn ComputedRows>,
    registered: HashMap<String, u64>,
}

impl Engine {
    pub(crate) fn open(
        context: Context,
        slot: SharedSlot,
        store: Arc<dyn Store>,
        computed: Arc<dyn ComputedRows>,
    ) -> SqlResult<Self> {
        configure();
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_MEMORY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(":memory:", flags).map_err(SqlError::internal)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // A name in double quotes that is no column must be an error, not a string.
        for option in [DbConfig::SQLITE_DBCONFIG_DQS_DML, DbConfig::SQLITE_DBCONFIG_DQS_DDL] {
            connection.set_db_config(option, false).map_err(SqlError::internal)?;
        }
        connection.execute_batch("PRAGMA temp_store = MEMORY").map_err(SqlError::internal)?;
        register_collations(&connection)?;
        crate::functions::register(&connection, &context)?;
        Ok(Self { connection, slot, context, store, computed, registered: HashMap::new() })
    }

    pub(crate) fn interrupt_handle(&self) -> InterruptHandle {
        self.connection.get_interrupt_handle()
    }

    /// Registers the modules of the tables that a query reads, and those anew whose definition has changed.
    fn register_tables(&mut self, tables: &[TableUse]) -> SqlResult<()> {
        for used in tables {
            let stamp = stamp_of(&used.table);
            let name = used.module();
            match self.registered.get(&name) {
                Some(known) if *known == stamp => continue,
                // Statements prepared against the old definition would go on with it.
                Some(_) => self.connection.flush_prepared_statement_cache(),
                None => {}
            }
            let computed = (used.table.id == 0).then(|| self.computed.clone());
            let module = Module::new(
                used.table.clone(),
                used.access,
                self.slot.clone(),
                self.store.clone(),
                computed,
            )?;
            // SAFETY: the connection is open, and `&mut self` shows that no other thread uses it.
            unsafe { register(self.connection.handle(), &name, module)? };
            self.registered.insert(name, stamp);
        }
        Ok(())
    }

    /// Runs a query; `each` gets every row, as the types of the columns have it if `typed`.
    pub(crate) fn query(
        &mut self,
        query: &Query,
        values: BindValues<'_>,
        typed: bool,
        each: &mut dyn FnMut(&[Value]) -> SqlResult<()>,
    ) -> SqlResult<u64> {
        self.register_tables(&query.tables)?;
        let mut count = 0;
        let result = self.step(query, values, typed, each, &mut count);
        match result {
            Ok(()) => Ok(count),
            Err(Failure::Ours(error)) => Err(error),
            Err(Failure::Sqlite(error)) => Err(self.explain_error(&error, &query.sql)),
        }
    }

    fn step(
        &self,
        query: &Query,
        values: BindValues<'_>,
        typed: bool,
        each: &mut dyn FnMut(&[Value]) -> SqlResult<()>,
        count: &mut u64,
    ) -> Result<(), Failure> {
        let mut statement = self.connection.prepare_cached(&query.sql)?;
        for (place, bind) in query.binds.iter().enumerate() {
            statement.raw_bind_parameter(place + 1, borrowed(values.of(bind)))?;
        }
        let width = statement.column_count();
        let mut cells = vec![Value::Null; width];
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            for (place, cell) in cells.iter_mut().enumerate() {
                let ty = if typed { query.columns.get(place).map(|c| &c.ty) } else { None };
                take(row.get_ref(place)?, ty, cell);
            }
            *count += 1;
            each(&cells).map_err(Failure::Ours)?;
        }
        Ok(())
    }

    /// The plan that SQLite makes of a query: `(id, parent, detail)`.
    pub(crate) fn plan_of(&mut self, query: &Query) -> SqlResult<Vec<(i64, i64, String)>> {
        self.register_tables(&query.tables)?;
        let sql = format!("EXPLAIN QUERY PLAN {}", query.sql);
        let read = || -> rusqlite::Result<Vec<(i64, i64, String)>> {
            let mut statement = self.connection.prepare(&sql)?;
            let rows = statement.raw_query();
            rows.mapped(|row| Ok((row.get(0)?, row.get(1)?, row.get(3)?))).collect()
        };
        read().map_err(|error| self.explain_error(&error, &sql))
    }

    fn explain_error(&self, error: &rusqlite::Error, sql: &str) -> SqlError {
        if let Some(ours) = self.slot.lock().error.take() {
            return ours;
        }
        if let Some(ours) = self.context.session.lock().error.take() {
            return ours;
        }
        if error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) {
            return SqlError::interrupted();
        }
        let text = error.to_string();
        if text.contains("integer overflow") {
            return SqlError::value_out_of_range("BIGINT", "expression");
        }
        tracing::warn!(%text, sql, "SQLite refused a translated statement");
        SqlError::internal(text)
    }
}

/// Whose error ended a query.
enum Failure {
    Ours(SqlError),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn borrowed(value: &Value) -> ToSqlOutput<'_> {
    match value {
        Value::Null => ToSqlOutput::Borrowed(ValueRef::Null),
        Value::Int(v) => ToSqlOutput::Borrowed(ValueRef::Integer(*v)),
        Value::UInt(v) => match i64::try_from(*v) {
            Ok(v) => ToSqlOutput::Borrowed(ValueRef::Integer(v)),
            // No integer of SQLite: its text is compared as a number with numeric columns.
            Err(_) => ToSqlOutput::Owned(rusqlite::types::Value::Text(v.to_string())),
        },
        Value::Double(v) => ToSqlOutput::Borrowed(ValueRef::Real(*v)),
        Value::Text(v) => ToSqlOutput::Borrowed(ValueRef::Text(v.as_bytes())),
        Value::Bytes(v) => ToSqlOutput::Borrowed(ValueRef::Blob(v)),
    }
}

/// Puts a result into a cell, reusing the cell's memory.
fn take(from: ValueRef<'_>, ty: Option<&ColumnType>, cell: &mut Value) {
    let storage = ty.filter(|t| **t != ColumnType::Null).map(ColumnType::storage);
    match (from, storage) {
        (ValueRef::Null, _) => *cell = Value::Null,
        (ValueRef::Integer(v), Some(Storage::Integer))
            if v >= 0 && ty.is_some_and(ColumnType::is_unsigned) =>
        {
            *cell = Value::UInt(v as u64);
        }
        (ValueRef::Integer(v), None | Some(Storage::Integer)) => *cell = Value::Int(v),
        (ValueRef::Integer(v), Some(Storage::Real)) => *cell = Value::Double(v as f64),
        (ValueRef::Integer(v), Some(Storage::Decimal)) => *cell = Value::Text(decimal(&v.to_string(), ty)),
        (ValueRef::Integer(v), Some(Storage::Text)) => *cell = Value::Text(v.to_string()),
        (ValueRef::Integer(v), Some(Storage::Blob)) => *cell = Value::Bytes(v.to_string().into_bytes()),
        (ValueRef::Real(v), None | Some(Storage::Real)) => *cell = Value::Double(v),
        (ValueRef::Real(v), Some(Storage::Integer)) => {
            *cell = if ty.is_some_and(ColumnType::is_unsigned) {
                Value::UInt(v as u64)
            } else {
                Value::Int(v as i64)
            };
        }
        (ValueRef::Real(v), Some(Storage::Decimal)) => *cell = Value::Text(decimal(&format_double(v), ty)),
        (ValueRef::Real(v), Some(Storage::Text)) => *cell = Value::Text(format_double(v)),
        (ValueRef::Real(v), Some(Storage::Blob)) => *cell = Value::Bytes(format_double(v).into_bytes()),
        (ValueRef::Text(v), Some(Storage::Integer)) => {
            let number = crate::convert::rounded_integer(&crate::collation::decimal_parts(v).0);
            *cell = match (i64::try_from(number), u64::try_from(number)) {
                (_, Ok(v)) if ty.is_some_and(ColumnType::is_unsigned) => Value::UInt(v),
                (Ok(v), _) => Value::Int(v),
                (Err(_), Ok(v)) => Value::UInt(v),
                (Err(_), Err(_)) => Value::Int(i64::MIN),
            };
        }
        (ValueRef::Text(v), Some(Storage::Real)) => {
            *cell = Value::Double(String::from_utf8_lossy(v).trim().parse().unwrap_or(0.0));
        }
        (ValueRef::Text(v), Some(Storage::Decimal))
            if ty.is_some_and(|t| t.decimals() > 0 && !v.contains(&b'.')) =>
        {
            *cell = Value::Text(decimal(&String::from_utf8_lossy(v), ty));
        }
        (ValueRef::Text(v), Some(Storage::Blob)) => set_bytes(v, cell),
        (ValueRef::Text(v), _) => set_text(v, cell),
        (ValueRef::Blob(v), None | Some(Storage::Blob)) => set_bytes(v, cell),
        (ValueRef::Blob(v), Some(_)) => set_text(v, cell),
    }
}

fn decimal(text: &str, ty: Option<&ColumnType>) -> String {
    let (parts, _) = crate::collation::decimal_parts(text.as_bytes());
    crate::convert::decimal_text(&parts, ty.map_or(0, ColumnType::decimals))
}

fn set_text(bytes: &[u8], cell: &mut Value) {
    let text = String::from_utf8_lossy(bytes);
    match cell {
        Value::Text(old) => {
            old.clear();
            old.push_str(&text);
        }
        other => *other = Value::Text(text.into_owned()),
    }
}

fn set_bytes(bytes: &[u8], cell: &mut Value) {
    match cell {
        Value::Bytes(old) => {
            old.clear();
            old.extend_from_slice(bytes);
        }
        other => *other = Value::Bytes(bytes.to_vec()),
    }
}

/// Settings of the whole process, before the first connection.
fn configure() {
    static CONFIGURED: Once = Once::new();
    CONFIGURED.call_once(|| {
        // Its memory statistics are one mutex for all sessions.
        // SAFETY: called once, before any connection of ours; if SQLite is already running it refuses, which
        // is harmless.
        unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_MEMSTATUS, 0) };
    });
}

type Compare = fn(&[u8], &[u8]) -> Ordering;

static COLLATIONS: [(&CStr, Compare); 5] = [
    (c"ci", |a, b| compare(Comparison::Insensitive, a, b)),
    (c"ci_pad", |a, b| compare(Comparison::InsensitivePad, a, b)),
    (c"bin_pad", |a, b| compare(Comparison::BinaryPad, a, b)),
    (c"dec", compare_decimal),
    (c"time", |a, b| time_micros(a).cmp(&time_micros(b))),
];

/// rusqlite's own way checks every string for UTF-8 and costs three times as much.
pub(crate) fn register_collations(connection: &Connection) -> SqlResult<()> {
    for entry in &COLLATIONS {
        let client: *const (&CStr, Compare) = entry;
        // SAFETY: the connection is open and ours; the entry is static, so it outlives the connection.
        let code = unsafe {
            ffi::sqlite3_create_collation_v2(
                connection.handle(),
                entry.0.as_ptr(),
                ffi::SQLITE_UTF8,
                client.cast_mut().cast(),
                Some(collate),
                None,
            )
        };
        if code != ffi::SQLITE_OK {
            return Err(SqlError::internal(format!("cannot register a collation: {code}")));
        }
    }
    Ok(())
}

unsafe extern "C" fn collate(
    client: *mut c_void,
    a_length: c_int,
    a: *const c_void,
    b_length: c_int,
    b: *const c_void,
) -> c_int {
    let bytes = |start: *const c_void, length: c_int| -> &[u8] {
        match usize::try_from(length) {
            // SAFETY: SQLite passes strings with their lengths.
            Ok(length) if length > 0 => unsafe { std::slice::from_raw_parts(start.cast(), length) },
            _ => &[],
        }
    };
    // SAFETY: the pointer given in `register_collations`.
    let (_, compare) = unsafe { *client.cast_const().cast::<(&CStr, Compare)>() };
    catch_unwind(|| compare(bytes(a, a_length), bytes(b, b_length)) as c_int).unwrap_or(0)
}
