//! Registration through SQLite's C interface: our functions are plain `fn`s, called without any wrapper that
//! would cost more than they do (rusqlite's costs up to 300 ns a call).
#![allow(unsafe_code)]
// The C interface is the point of this module; everything else in `functions` is safe code.

use std::borrow::Cow;
use std::ffi::{CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use libsqlite3_sys as ffi;

use crate::context::Context;
use crate::error::{SqlError, SqlResult};
use crate::types::format_double;

/// A result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Out {
    Null,
    Int(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
    /// A JSON document: text that the next function knows for one.
    Json(String),
}

impl Out {
    /// An unsigned integer by its 64 bits. What no integer of SQLite holds is text, which is also greater
    /// than any of its integers.
    pub(crate) fn unsigned(bits: i64) -> Self {
        if bits >= 0 { Self::Int(bits) } else { Self::Text((bits as u64).to_string()) }
    }
}

impl From<i64> for Out {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}
impl From<bool> for Out {
    fn from(value: bool) -> Self {
        Self::Int(i64::from(value))
    }
}
impl From<String> for Out {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}
impl From<f64> for Out {
    fn from(value: f64) -> Self {
        if value.is_finite() { Self::Real(value) } else { Self::Null }
    }
}
impl<T: Into<Out>> From<Option<T>> for Out {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// An argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Arg<'a> {
    Null,
    Int(i64),
    Real(f64),
    Text(&'a [u8]),
    Blob(&'a [u8]),
}

impl<'a> Arg<'a> {
    pub(crate) fn bytes(self) -> Option<Cow<'a, [u8]>> {
        Some(match self {
            Self::Null => return None,
            Self::Int(value) => Cow::Owned(value.to_string().into_bytes()),
            Self::Real(value) => Cow::Owned(format_double(value).into_bytes()),
            Self::Text(bytes) | Self::Blob(bytes) => Cow::Borrowed(bytes),
        })
    }
    pub(crate) fn text(self) -> Option<Cow<'a, str>> {
        Some(match self {
            Self::Null => return None,
            Self::Int(value) => Cow::Owned(value.to_string()),
            Self::Real(value) => Cow::Owned(format_double(value)),
            Self::Text(bytes) | Self::Blob(bytes) => String::from_utf8_lossy(bytes),
        })
    }
    pub(crate) fn double(self) -> Option<f64> {
        Some(match self {
            Self::Null => return None,
            Self::Int(value) => value as f64,
            Self::Real(value) => value,
            Self::Text(bytes) | Self::Blob(bytes) => super::leading_double(&String::from_utf8_lossy(bytes)),
        })
    }
    /// As an integer: rounded if it is a number, the leading digits of a string.
    pub(crate) fn int(self) -> Option<i64> {
        Some(match self {
            Self::Null => return None,
            Self::Int(value) => value,
            Self::Real(value) => value.round() as i64,
            Self::Text(bytes) | Self::Blob(bytes) => {
                let text = String::from_utf8_lossy(bytes);
                match text.trim().parse::<i64>() {
                    Ok(value) => value,
                    Err(_) => super::leading_double(&text).round() as i64,
                }
            }
        })
    }
}

/// SQLite's own subtype of JSON.
const JSON: std::ffi::c_uint = b'J' as std::ffi::c_uint;

/// The arguments of a call.
pub(crate) struct Args<'a> {
    values: &'a [*mut ffi::sqlite3_value],
}

impl<'a> Args<'a> {
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
    /// An argument; NULL if there are fewer.
    pub(crate) fn get(&self, at: usize) -> Arg<'a> {
        let Some(&value) = self.values.get(at) else { return Arg::Null };
        // SAFETY: SQLite gives valid values that live as long as the call, which `'a` does not outlive; text
        // and blob pointers are read before any other conversion of the same value.
        unsafe {
            match ffi::sqlite3_value_type(value) {
                ffi::SQLITE_INTEGER => Arg::Int(ffi::sqlite3_value_int64(value)),
                ffi::SQLITE_FLOAT => Arg::Real(ffi::sqlite3_value_double(value)),
                ffi::SQLITE_TEXT => {
                    let pointer = ffi::sqlite3_value_text(value).cast();
                    Arg::Text(slice(pointer, ffi::sqlite3_value_bytes(value)))
                }
                ffi::SQLITE_BLOB => {
                    let pointer = ffi::sqlite3_value_blob(value).cast();
                    Arg::Blob(slice(pointer, ffi::sqlite3_value_bytes(value)))
                }
                _ => Arg::Null,
            }
        }
    }
    /// True if an argument is the result of a function that gives a JSON document.
    pub(crate) fn is_json(&self, at: usize) -> bool {
        // SAFETY: as in `get`.
        self.values.get(at).is_some_and(|&value| unsafe { ffi::sqlite3_value_subtype(value) } == JSON)
    }
    pub(crate) fn iter(&self) -> impl Iterator<Item = Arg<'a>> + '_ {
        (0..self.len()).map(|n| self.get(n))
    }
    pub(crate) fn text(&self, at: usize) -> Option<Cow<'a, str>> {
        self.get(at).text()
    }
    pub(crate) fn int(&self, at: usize) -> Option<i64> {
        self.get(at).int()
    }
    pub(crate) fn double(&self, at: usize) -> Option<f64> {
        self.get(at).double()
    }
}

/// # Safety
///
/// `pointer` is null or points at `length` bytes that live for `'a`.
unsafe fn slice<'a>(pointer: *const u8, length: c_int) -> &'a [u8] {
    match usize::try_from(length) {
        // SAFETY: as the caller promises.
        Ok(length) if length > 0 && !pointer.is_null() => unsafe {
            std::slice::from_raw_parts(pointer, length)
        },
        _ => &[],
    }
}

/// A function of one row.
pub(crate) type Scalar = fn(&Args<'_>, &Context) -> SqlResult<Out>;

/// The state of an aggregate over one group.
pub(crate) trait Aggregate {
    fn step(&mut self, args: &Args<'_>) -> SqlResult<()>;
    fn finish(&mut self, ctx: &Context) -> SqlResult<Out>;
}

/// Makes the state of an aggregate.
pub(crate) type MakeAggregate = fn() -> Box<dyn Aggregate>;

struct ScalarEntry {
    ctx: Context,
    call: Scalar,
}

struct AggregateEntry {
    ctx: Context,
    make: MakeAggregate,
}

fn set_error(context: *mut ffi::sqlite3_context, ctx: &Context, error: SqlError) {
    ctx.session.lock().error = Some(error);
    let text = c"error in a function";
    // SAFETY: `context` is the running call's; SQLite copies the text.
    unsafe { ffi::sqlite3_result_error(context, text.as_ptr(), -1) };
}

fn set_text(context: *mut ffi::sqlite3_context, text: &str) {
    // SAFETY: `context` is the running call's; SQLITE_TRANSIENT makes SQLite copy the text.
    unsafe {
        ffi::sqlite3_result_text64(
            context,
            text.as_ptr().cast::<c_char>(),
            text.len() as u64,
            ffi::SQLITE_TRANSIENT(),
            ffi::SQLITE_UTF8 as u8,
        );
    }
}

/// SQLite passes subtypes on only between functions that say they use them.
fn subtype_flags(name: &str) -> c_int {
    let json = name.starts_with("json") || name.starts_with("my_json");
    if json { ffi::SQLITE_SUBTYPE | ffi::SQLITE_RESULT_SUBTYPE } else { 0 }
}

fn set_result(context: *mut ffi::sqlite3_context, ctx: &Context, result: SqlResult<Out>) {
    let result = match result {
        Ok(result) => result,
        Err(error) => return set_error(context, ctx, error),
    };
    // SAFETY: `context` is the running call's; SQLITE_TRANSIENT makes SQLite copy what the pointers name.
    unsafe {
        match result {
            Out::Null => ffi::sqlite3_result_null(context),
            Out::Int(value) => ffi::sqlite3_result_int64(context, value),
            Out::Real(value) => ffi::sqlite3_result_double(context, value),
            Out::Text(text) => set_text(context, &text),
            Out::Json(text) => {
                set_text(context, &text);
                ffi::sqlite3_result_subtype(context, JSON);
            }
            Out::Blob(bytes) => ffi::sqlite3_result_blob64(
                context,
                bytes.as_ptr().cast(),
                bytes.len() as u64,
                ffi::SQLITE_TRANSIENT(),
            ),
        }
    }
}

fn panicked() -> SqlError {
    SqlError::internal("a function failed")
}

/// # Safety
///
/// Called by SQLite only, with the arguments its documentation promises.
unsafe extern "C" fn call_scalar(
    context: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: the user data is the entry given at registration, alive until SQLite destroys it; `values`
    // points at `count` values.
    let (entry, values) = unsafe {
        let entry = &*ffi::sqlite3_user_data(context).cast::<ScalarEntry>();
        (entry, argument_slice(count, values))
    };
    let args = Args { values };
    // A panic must not unwind into C.
    let result = catch_unwind(AssertUnwindSafe(|| (entry.call)(&args, &entry.ctx)));
    set_result(context, &entry.ctx, result.unwrap_or_else(|_| Err(panicked())));
}

/// # Safety
///
/// `values` points at `count` values that live for `'a`.
unsafe fn argument_slice<'a>(
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) -> &'a [*mut ffi::sqlite3_value] {
    match usize::try_from(count) {
        // SAFETY: as the caller promises.
        Ok(count) if count > 0 && !values.is_null() => unsafe { std::slice::from_raw_parts(values, count) },
        _ => &[],
    }
}

type State = Box<dyn Aggregate>;

/// # Safety
///
/// As [`call_scalar`].
unsafe extern "C" fn step_aggregate(
    context: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: as in `call_scalar`; the aggregate context is zeroed memory of the size asked for, and holds
    // either null or a pointer from `Box::into_raw` below.
    let (entry, values, slot) = unsafe {
        let entry = &*ffi::sqlite3_user_data(context).cast::<AggregateEntry>();
        let slot = ffi::sqlite3_aggregate_context(context, size_of::<*mut State>() as c_int);
        (entry, argument_slice(count, values), slot.cast::<*mut State>())
    };
    if slot.is_null() {
        return;
    }
    // SAFETY: `slot` is valid and aligned (SQLite aligns to 8 bytes) and nobody else uses it now.
    let state = unsafe {
        if (*slot).is_null() {
            *slot = Box::into_raw(Box::new((entry.make)()));
        }
        &mut **slot
    };
    let args = Args { values };
    let result = catch_unwind(AssertUnwindSafe(|| state.step(&args))).unwrap_or_else(|_| Err(panicked()));
    if let Err(error) = result {
        set_error(context, &entry.ctx, error);
    }
}

/// # Safety
///
/// As [`call_scalar`].
unsafe extern "C" fn finish_aggregate(context: *mut ffi::sqlite3_context) {
    // SAFETY: as in `step_aggregate`; with size 0 the context is null if no row came.
    let (entry, slot) = unsafe {
        let entry = &*ffi::sqlite3_user_data(context).cast::<AggregateEntry>();
        (entry, ffi::sqlite3_aggregate_context(context, 0).cast::<*mut State>())
    };
    // SAFETY: a pointer in the slot is from `Box::into_raw` and is taken back once: here.
    let state = unsafe {
        if slot.is_null() || (*slot).is_null() {
            Box::new((entry.make)())
        } else {
            let state = Box::from_raw(*slot);
            *slot = std::ptr::null_mut();
            state
        }
    };
    let mut state: Box<State> = state;
    let result = catch_unwind(AssertUnwindSafe(|| state.finish(&entry.ctx)));
    set_result(context, &entry.ctx, result.unwrap_or_else(|_| Err(panicked())));
}

/// # Safety
///
/// `data` is from `Box::into_raw` of a `T`, and SQLite calls this once.
unsafe extern "C" fn destroy<T>(data: *mut c_void) {
    // SAFETY: as above.
    drop(unsafe { Box::from_raw(data.cast::<T>()) });
}

fn check(name: &str, code: c_int) -> SqlResult<()> {
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(SqlError::internal(format!("function {name}: {code}"))) }
}

fn c_name(name: &str) -> SqlResult<CString> {
    CString::new(name).map_err(SqlError::internal)
}

/// Registers a function of any number of arguments.
pub(crate) fn scalar(
    connection: &rusqlite::Connection,
    ctx: &Context,
    name: &str,
    deterministic: bool,
    call: Scalar,
) -> SqlResult<()> {
    let c_name = c_name(name)?;
    let flags = ffi::SQLITE_UTF8
        | ffi::SQLITE_INNOCUOUS
        | subtype_flags(name)
        | if deterministic { ffi::SQLITE_DETERMINISTIC } else { 0 };
    let entry = Box::into_raw(Box::new(ScalarEntry { ctx: ctx.clone(), call }));
    // SAFETY: the connection is open; SQLite owns `entry` from here on, also when this fails.
    let code = unsafe {
        ffi::sqlite3_create_function_v2(
            connection.handle(),
            c_name.as_ptr(),
            -1,
            flags,
            entry.cast(),
            Some(call_scalar),
            None,
            None,
            Some(destroy::<ScalarEntry>),
        )
    };
    check(name, code)
}

/// Registers an aggregate of `arguments` arguments (DISTINCT needs exactly one).
pub(crate) fn aggregate(
    connection: &rusqlite::Connection,
    ctx: &Context,
    name: &str,
    arguments: c_int,
    make: MakeAggregate,
) -> SqlResult<()> {
    let c_name = c_name(name)?;
    let entry = Box::into_raw(Box::new(AggregateEntry { ctx: ctx.clone(), make }));
    // SAFETY: as in `scalar`.
    let code = unsafe {
        ffi::sqlite3_create_function_v2(
            connection.handle(),
            c_name.as_ptr(),
            arguments,
            ffi::SQLITE_UTF8 | ffi::SQLITE_INNOCUOUS | subtype_flags(name),
            entry.cast(),
            None,
            Some(step_aggregate),
            Some(finish_aggregate),
            Some(destroy::<AggregateEntry>),
        )
    };
    check(name, code)
}
