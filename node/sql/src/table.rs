//! The virtual table module through which SQLite reads our rows: read-only, one module per table and way of
//! locking, usable without CREATE VIRTUAL TABLE (eponymous), registered when a statement first needs it.
//!
//! Written against SQLite's C interface because rusqlite's wrapper allocates an index string and copies values
//! for every scan; the cost of a point read is mostly that of this layer.
#![allow(unsafe_code)] // C callbacks: each states what SQLite guarantees.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use libsqlite3_sys as ffi;
use parking_lot::Mutex;

use crate::access::{Argument, Choice, Constraint, Op, OrderTerm, choose};
use crate::catalog::TableDef;
use crate::cursor::{Cursor, RowSource};
use crate::encoding::{ROW_INDEX, index_range};
use crate::error::{SqlError, SqlResult};
use crate::plan::Access;
use crate::store::{Store, StoreTxn};
use crate::types::Value;

/// The transaction that a connection's tables read, and the error of a read that failed.
#[derive(Default)]
pub struct TxnSlot {
    /// The open transaction.
    pub txn: Option<Box<dyn StoreTxn>>,
    /// What went wrong in a callback: SQLite only learns that something did.
    pub error: Option<SqlError>,
}

/// Shared between a session and its virtual tables; one thread at a time uses it.
pub type SharedSlot = Arc<Mutex<TxnSlot>>;

/// Gives the rows of a table that is computed.
pub trait ComputedRows: Send + Sync {
    /// Every row, with a value per column.
    ///
    /// # Errors
    ///
    /// Those of reading the catalog.
    fn rows(&self, table: &TableDef) -> SqlResult<Vec<Vec<Value>>>;
}

/// What a module knows.
pub struct Module {
    pub(crate) table: Arc<TableDef>,
    pub(crate) access: Access,
    pub(crate) slot: SharedSlot,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) computed: Option<Arc<dyn ComputedRows>>,
    declaration: CString,
}

impl Module {
    /// A module of a stored table, or of a computed one.
    ///
    /// # Errors
    ///
    /// 1105 for names that hold NUL.
    pub fn new(
        table: Arc<TableDef>,
        access: Access,
        slot: SharedSlot,
        store: Arc<dyn Store>,
        computed: Option<Arc<dyn ComputedRows>>,
    ) -> SqlResult<Self> {
        let declaration = CString::new(declaration(&table)).map_err(SqlError::internal)?;
        Ok(Self { table, access, slot, store, computed, declaration })
    }
}

fn declaration(table: &TableDef) -> String {
    let mut sql = "CREATE TABLE x(".to_owned();
    for column in &table.columns {
        sql.push('"');
        sql.push_str(&column.name.replace('"', "\"\""));
        sql.push_str("\" ");
        sql.push_str(column.ty.sqlite_declaration());
        let collation = column.ty.sqlite_collation();
        if collation != "BINARY" {
            sql.push_str(" COLLATE ");
            sql.push_str(collation);
        }
        sql.push_str(", ");
    }
    sql.push_str("_k BLOB HIDDEN PRIMARY KEY) WITHOUT ROWID");
    sql
}

#[repr(C)]
struct Table {
    base: ffi::sqlite3_vtab,
    module: Arc<Module>,
}

#[repr(C)]
struct TableCursor {
    base: ffi::sqlite3_vtab_cursor,
    cursor: Cursor,
}

/// Registers a module under a name; replaces one of that name.
///
/// # Errors
///
/// 1105 if SQLite refuses.
///
/// # Safety
///
/// `db` is an open connection that is used by the calling thread only, now.
pub unsafe fn register(db: *mut ffi::sqlite3, name: &str, module: Module) -> SqlResult<()> {
    let name = CString::new(name).map_err(SqlError::internal)?;
    let client = Arc::into_raw(Arc::new(module)).cast_mut().cast::<c_void>();
    // SAFETY: the connection is valid; `client` is owned by SQLite from here on (also if this fails) and
    // freed by `destroy_module`.
    let code =
        unsafe { ffi::sqlite3_create_module_v2(db, name.as_ptr(), &MODULE, client, Some(destroy_module)) };
    if code == ffi::SQLITE_OK {
        Ok(())
    } else {
        Err(SqlError::internal(format!("cannot register a table with SQLite: {code}")))
    }
}

unsafe extern "C" fn destroy_module(client: *mut c_void) {
    // SAFETY: made by `Arc::into_raw` in `register`; SQLite calls this once.
    drop(unsafe { Arc::from_raw(client.cast::<Module>()) });
}

static MODULE: ffi::sqlite3_module = ffi::sqlite3_module {
    iVersion: 2,
    xCreate: Some(connect),
    xConnect: Some(connect),
    xBestIndex: Some(best_index),
    xDisconnect: Some(disconnect),
    xDestroy: Some(disconnect),
    xOpen: Some(open),
    xClose: Some(close),
    xFilter: Some(filter),
    xNext: Some(next),
    xEof: Some(eof),
    xColumn: Some(column),
    xRowid: Some(rowid),
    xUpdate: None,
    xBegin: None,
    xSync: None,
    xCommit: None,
    xRollback: None,
    xFindFunction: None,
    xRename: None,
    xSavepoint: None,
    xRelease: None,
    xRollbackTo: None,
    xShadowName: None,
    xIntegrity: None,
};

/// Runs a callback's body; a panic must not unwind into C.
fn guarded(body: impl FnOnce() -> c_int) -> c_int {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(ffi::SQLITE_INTERNAL)
}

unsafe extern "C" fn connect(
    db: *mut ffi::sqlite3,
    client: *mut c_void,
    _argc: c_int,
    _argv: *const *const c_char,
    out: *mut *mut ffi::sqlite3_vtab,
    _message: *mut *mut c_char,
) -> c_int {
    guarded(|| {
        let client = client.cast_const().cast::<Module>();
        // SAFETY: SQLite passes what `register` gave it, still alive: `destroy_module` comes after.
        let module = unsafe {
            Arc::increment_strong_count(client);
            Arc::from_raw(client)
        };
        // SAFETY: `db` is the connection being used; the declaration ends with NUL.
        let code = unsafe { ffi::sqlite3_declare_vtab(db, module.declaration.as_ptr()) };
        if code != ffi::SQLITE_OK {
            return code;
        }
        let base = ffi::sqlite3_vtab { pModule: std::ptr::null(), nRef: 0, zErrMsg: std::ptr::null_mut() };
        // SAFETY: `out` is SQLite's; the box is freed in `disconnect`. `Table` begins with the base (repr C).
        unsafe { *out = Box::into_raw(Box::new(Table { base, module })).cast() };
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn disconnect(table: *mut ffi::sqlite3_vtab) -> c_int {
    // SAFETY: made in `connect`; SQLite calls this once, after every cursor is closed.
    drop(unsafe { Box::from_raw(table.cast::<Table>()) });
    ffi::SQLITE_OK
}

unsafe extern "C" fn open(table: *mut ffi::sqlite3_vtab, out: *mut *mut ffi::sqlite3_vtab_cursor) -> c_int {
    guarded(|| {
        // SAFETY: a table made in `connect`.
        let module = unsafe { (*table.cast::<Table>()).module.clone() };
        let base = ffi::sqlite3_vtab_cursor { pVtab: table };
        let cursor = TableCursor { base, cursor: Cursor::new(module) };
        // SAFETY: `out` is SQLite's; the box is freed in `close`. `TableCursor` begins with the base (repr C).
        unsafe { *out = Box::into_raw(Box::new(cursor)).cast() };
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn close(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: made in `open`; SQLite calls this once.
    drop(unsafe { Box::from_raw(cursor.cast::<TableCursor>()) });
    ffi::SQLITE_OK
}

unsafe extern "C" fn best_index(table: *mut ffi::sqlite3_vtab, info: *mut ffi::sqlite3_index_info) -> c_int {
    guarded(|| {
        // SAFETY: a table made in `connect`; `info` is SQLite's for the length of this call.
        let (module, info) = unsafe { (&(*table.cast::<Table>()).module, &mut *info) };
        // SAFETY: as above.
        unsafe { decide(module, info) }
    })
}

unsafe fn slice<'a, T>(start: *const T, length: c_int) -> &'a [T] {
    let length = usize::try_from(length).unwrap_or(0);
    if length == 0 || start.is_null() {
        return &[];
    }
    // SAFETY: the caller passes an array of SQLite's with its length.
    unsafe { std::slice::from_raw_parts(start, length) }
}

fn op_of(code: u8) -> Op {
    match c_int::from(code) {
        ffi::SQLITE_INDEX_CONSTRAINT_EQ => Op::Eq,
        ffi::SQLITE_INDEX_CONSTRAINT_IS => Op::Is,
        ffi::SQLITE_INDEX_CONSTRAINT_ISNULL => Op::IsNull,
        ffi::SQLITE_INDEX_CONSTRAINT_GT => Op::Gt,
        ffi::SQLITE_INDEX_CONSTRAINT_GE => Op::Ge,
        ffi::SQLITE_INDEX_CONSTRAINT_LT => Op::Lt,
        ffi::SQLITE_INDEX_CONSTRAINT_LE => Op::Le,
        ffi::SQLITE_INDEX_CONSTRAINT_LIMIT => Op::Limit,
        ffi::SQLITE_INDEX_CONSTRAINT_OFFSET => Op::Offset,
        _ => Op::Other,
    }
}

unsafe fn decide(module: &Module, info: &mut ffi::sqlite3_index_info) -> c_int {
    if module.computed.is_some() {
        info.estimatedCost = 1000.0;
        info.estimatedRows = 1000;
        return ffi::SQLITE_OK;
    }
    let table = &module.table;
    let column_of = |column: c_int| usize::try_from(column).unwrap_or(usize::MAX);
    // SAFETY: arrays of SQLite's with their lengths.
    let (offered, asked) =
        unsafe { (slice(info.aConstraint, info.nConstraint), slice(info.aOrderBy, info.nOrderBy)) };
    let raw: *mut ffi::sqlite3_index_info = info;
    let constraints: Vec<Constraint> = offered
        .iter()
        .zip(0..)
        .map(|(c, place)| {
            let column = column_of(c.iColumn);
            let op = op_of(c.op);
            let comparison = matches!(op, Op::Eq | Op::Is | Op::Gt | Op::Ge | Op::Lt | Op::Le);
            let same_collation = match table.columns.get(column) {
                Some(definition) if comparison && c.usable != 0 => {
                    // SAFETY: `place` is below the number of constraints; the name is valid during this call.
                    let name = unsafe { CStr::from_ptr(ffi::sqlite3_vtab_collation(raw, place)) };
                    name.to_bytes().eq_ignore_ascii_case(definition.ty.sqlite_collation().as_bytes())
                }
                _ => true,
            };
            // SAFETY: as above; -1 only asks.
            let is_in = op == Op::Eq && unsafe { ffi::sqlite3_vtab_in(raw, place, -1) } != 0;
            Constraint { column, op, usable: c.usable != 0, same_collation, is_in }
        })
        .collect();
    let order: Vec<OrderTerm> =
        asked.iter().map(|o| OrderTerm { column: column_of(o.iColumn), descending: o.desc != 0 }).collect();
    let rows = module.store.estimate_rows(&index_range(table.id, ROW_INDEX)).map_or(1000.0, |n| n as f64);
    let choice = choose(table, rows, &constraints, &order);
    // SAFETY: `info` and its arrays are valid during this call.
    unsafe { tell(info, &choice) }
}

unsafe fn tell(info: &mut ffi::sqlite3_index_info, choice: &Choice) -> c_int {
    let raw: *mut ffi::sqlite3_index_info = info;
    for (&constraint, argument) in choice.arguments.iter().zip(1..) {
        // SAFETY: `constraint` is below `nConstraint`, the length of this array.
        let usage = unsafe { &mut *info.aConstraintUsage.add(constraint) };
        usage.argvIndex = argument;
        usage.omit = 1;
    }
    if choice.path.in_place > 0 {
        let constraint = choice.arguments[usize::from(choice.path.in_place) - 1];
        // SAFETY: as above; asks for the whole list in one call of `filter`.
        unsafe { ffi::sqlite3_vtab_in(raw, constraint as c_int, 1) };
    }
    info.idxNum = choice.path.to_bits();
    info.orderByConsumed = c_int::from(choice.ordered);
    info.estimatedCost = choice.cost;
    info.estimatedRows = choice.rows as i64;
    if choice.single {
        info.idxFlags |= ffi::SQLITE_INDEX_SCAN_UNIQUE;
    }
    let length = choice.label.len();
    // SAFETY: allocated by SQLite's allocator as it asks for, one byte more than the text for NUL.
    unsafe {
        let text = ffi::sqlite3_malloc64(length as u64 + 1).cast::<u8>();
        if text.is_null() {
            return ffi::SQLITE_NOMEM;
        }
        std::ptr::copy_nonoverlapping(choice.label.as_ptr(), text, length);
        *text.add(length) = 0;
        info.idxStr = text.cast();
    }
    info.needToFreeIdxStr = 1;
    ffi::SQLITE_OK
}

/// A SQLite value, copied.
///
/// # Safety
///
/// `value` is valid during the call.
unsafe fn value_of(value: *mut ffi::sqlite3_value) -> Value {
    // SAFETY: as the caller promises; text and blob pointers are read before anything else is asked of it.
    unsafe {
        match ffi::sqlite3_value_type(value) {
            ffi::SQLITE_INTEGER => Value::Int(ffi::sqlite3_value_int64(value)),
            ffi::SQLITE_FLOAT => Value::Double(ffi::sqlite3_value_double(value)),
            ffi::SQLITE_TEXT => {
                let start = ffi::sqlite3_value_text(value);
                let bytes = slice(start, ffi::sqlite3_value_bytes(value));
                Value::Text(String::from_utf8_lossy(bytes).into_owned())
            }
            ffi::SQLITE_BLOB => {
                let start = ffi::sqlite3_value_blob(value).cast::<u8>();
                Value::Bytes(slice(start, ffi::sqlite3_value_bytes(value)).to_vec())
            }
            _ => Value::Null,
        }
    }
}

/// # Safety
///
/// `value` is an argument of `filter` for which `sqlite3_vtab_in(…, 1)` was called.
unsafe fn values_of(value: *mut ffi::sqlite3_value) -> Vec<Value> {
    let mut all = Vec::new();
    let mut item = std::ptr::null_mut();
    // SAFETY: as the caller promises.
    unsafe {
        let mut code = ffi::sqlite3_vtab_in_first(value, &mut item);
        while code == ffi::SQLITE_OK && !item.is_null() {
            all.push(value_of(item));
            code = ffi::sqlite3_vtab_in_next(value, &mut item);
        }
    }
    all
}

unsafe extern "C" fn filter(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    bits: c_int,
    _label: *const c_char,
    argc: c_int,
    argv: *mut *mut ffi::sqlite3_value,
) -> c_int {
    guarded(|| {
        // SAFETY: a cursor made in `open`, used by one thread.
        let cursor = unsafe { &mut (*cursor.cast::<TableCursor>()).cursor };
        // SAFETY: SQLite's array with its length.
        let values = unsafe { slice(argv, argc) };
        let path = crate::access::AccessPath::from_bits(bits);
        let mut arguments: Vec<Argument> = Vec::with_capacity(values.len());
        for (place, &value) in values.iter().enumerate() {
            // SAFETY: arguments of this call; `in_place` was asked for in `tell`.
            arguments.push(unsafe {
                if path.in_place > 0 && place + 1 == usize::from(path.in_place) {
                    Argument::Many(values_of(value))
                } else {
                    Argument::One(value_of(value))
                }
            });
        }
        outcome(cursor.start(path, &arguments), cursor)
    })
}

/// Keeps an error for the session and tells SQLite that there is one.
fn outcome(result: SqlResult<()>, cursor: &Cursor) -> c_int {
    match result {
        Ok(()) => ffi::SQLITE_OK,
        Err(error) => {
            cursor.module().slot.lock().error = Some(error);
            ffi::SQLITE_ERROR
        }
    }
}

unsafe extern "C" fn next(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    guarded(|| {
        // SAFETY: a cursor made in `open`, used by one thread.
        let cursor = unsafe { &mut (*cursor.cast::<TableCursor>()).cursor };
        outcome(cursor.advance(), cursor)
    })
}

unsafe extern "C" fn eof(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: a cursor made in `open`.
    c_int::from(unsafe { (*cursor.cast::<TableCursor>()).cursor.at_end() })
}

unsafe extern "C" fn column(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    context: *mut ffi::sqlite3_context,
    place: c_int,
) -> c_int {
    guarded(|| {
        // SAFETY: a cursor made in `open`, used by one thread.
        let cursor = unsafe { &mut (*cursor.cast::<TableCursor>()).cursor };
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        match cursor.cell(place) {
            Ok(source) => {
                // SAFETY: `context` is SQLite's for this call; bytes are copied by SQLite.
                unsafe { give(context, &source) };
                ffi::SQLITE_OK
            }
            Err(error) => {
                let code = Err(error);
                outcome(code, cursor)
            }
        }
    })
}

unsafe fn give(context: *mut ffi::sqlite3_context, cell: &RowSource<'_>) {
    let length = |bytes: &[u8]| bytes.len() as u64;
    // SAFETY: the caller's; SQLITE_TRANSIENT makes SQLite copy before this returns.
    unsafe {
        match cell {
            RowSource::Null => ffi::sqlite3_result_null(context),
            RowSource::Int(v) => ffi::sqlite3_result_int64(context, *v),
            RowSource::Double(v) => ffi::sqlite3_result_double(context, *v),
            RowSource::Text(v) => ffi::sqlite3_result_text64(
                context,
                v.as_ptr().cast(),
                length(v),
                ffi::SQLITE_TRANSIENT(),
                ffi::SQLITE_UTF8 as u8,
            ),
            RowSource::Bytes(v) => {
                ffi::sqlite3_result_blob64(context, v.as_ptr().cast(), length(v), ffi::SQLITE_TRANSIENT());
            }
        }
    }
}

unsafe extern "C" fn rowid(_cursor: *mut ffi::sqlite3_vtab_cursor, _out: *mut ffi::sqlite3_int64) -> c_int {
    // Tables are WITHOUT ROWID: SQLite has no reason to ask.
    ffi::SQLITE_ERROR
}
