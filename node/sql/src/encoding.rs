//! Keys and row values as bytes.
//!
//! A key is `table id (4, big-endian) ‖ index id (2) ‖ columns`; each column is one byte (0 NULL, 1 not) and
//! then bytes that sort as the column's values do. Keys are not read back: a row's value holds every column,
//! with the text that was written even where the key holds only its weights.
//!
//! An entry of a unique index without a NULL has the row's key as its value. Of any other index the key goes
//! on with the row's own columns (its key after the index id), and the value is the row's key too.
//!
//! A row's value is a version byte, then `(column id, tagged value)` in the order of the columns: a column that
//! is not there was added later (see [`ColumnDef::added_with`]), one that is not in the definition was dropped.

use bytes::Bytes;

use crate::catalog::{ColumnDef, IndexDef, TableDef};
use crate::collation::{Comparison, push_decimal_key, push_weights, time_micros};
use crate::error::{SqlError, SqlResult};
use crate::store::{Key, KeyRange};
use crate::types::{ColumnType, Storage, Value};

/// The index id of the rows themselves.
pub const ROW_INDEX: u32 = 1;
const ROW_VERSION: u8 = 1;
const PREFIX: usize = 6;

const TAG_NULL: u8 = 0;
const TAG_INT: u8 = 1;
const TAG_DOUBLE: u8 = 3;
const TAG_TEXT: u8 = 4;
const TAG_BYTES: u8 = 5;

/// The first key above the catalog's: keys of table id 0 are below it.
pub fn catalog_end() -> Key {
    Key::from_static(&[0, 0, 0, 1])
}

/// Begins a key.
pub fn index_prefix(table: u32, index: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(32);
    key.extend_from_slice(&table.to_be_bytes());
    // Index ids are given out below 2^16 (`ddl` refuses more).
    key.extend_from_slice(&(index as u16).to_be_bytes());
    key
}

/// The smallest byte string above every one that begins with `prefix`; `None` if there is none.
pub fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut next = prefix.to_vec();
    while let Some(last) = next.last_mut() {
        if *last == u8::MAX {
            next.pop();
        } else {
            *last += 1;
            return Some(next);
        }
    }
    None
}

/// Every key that begins with `prefix`.
pub fn prefix_range(prefix: Vec<u8>) -> KeyRange {
    let end = successor(&prefix).map(Key::from);
    KeyRange { start: Key::from(prefix), end }
}

/// Every key of an index.
pub fn index_range(table: u32, index: u32) -> KeyRange {
    prefix_range(index_prefix(table, index))
}

/// Every key of a table.
pub fn table_range(table: u32) -> KeyRange {
    prefix_range(table.to_be_bytes().to_vec())
}

fn push_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

fn cut(text: &str, prefix: Option<u32>) -> &str {
    let Some(characters) = prefix else { return text };
    text.char_indices().nth(characters as usize).map_or(text, |(at, _)| &text[..at])
}

/// Appends a column's value to a key. The value has the storage class of the type (see [`crate::types`]), or
/// is text where a comparison has it so.
pub fn push_key(value: &Value, ty: &ColumnType, prefix: Option<u32>, out: &mut Vec<u8>) {
    if value.is_null() {
        out.push(0);
        return;
    }
    out.push(1);
    match ty.storage() {
        Storage::Integer => {
            let integer = match value {
                Value::Int(v) => *v,
                Value::UInt(v) => i64::try_from(*v).unwrap_or(i64::MAX),
                Value::Double(v) => *v as i64,
                Value::Text(_) | Value::Bytes(_) | Value::Null => 0,
            };
            out.extend_from_slice(&((integer as u64) ^ (1 << 63)).to_be_bytes());
        }
        Storage::Real => {
            let number = match value {
                Value::Double(v) => *v,
                Value::Int(v) => *v as f64,
                Value::UInt(v) => *v as f64,
                Value::Text(_) | Value::Bytes(_) | Value::Null => 0.0,
            };
            // Both zeros are equal.
            let bits = if number == 0.0 { 0 } else { number.to_bits() };
            let ordered = if bits >> 63 == 1 { !bits } else { bits ^ (1 << 63) };
            out.extend_from_slice(&ordered.to_be_bytes());
        }
        Storage::Decimal => match value {
            Value::Text(text) => push_decimal_key(text.as_bytes(), out),
            other => push_decimal_key(other.display().unwrap_or_default().as_bytes(), out),
        },
        Storage::Blob => match value {
            Value::Bytes(bytes) => {
                push_escaped(&bytes[..bytes.len().min(prefix.map_or(usize::MAX, |p| p as usize))], out)
            }
            other => push_escaped(other.display().unwrap_or_default().as_bytes(), out),
        },
        Storage::Text => {
            let owned;
            let text = match value {
                Value::Text(text) => text.as_str(),
                other => {
                    owned = other.display().unwrap_or_default();
                    &owned
                }
            };
            if matches!(ty, ColumnType::Time(_)) {
                out.extend_from_slice(&((time_micros(text.as_bytes()) as u64) ^ (1 << 63)).to_be_bytes());
                return;
            }
            let comparison = ty.collation().map_or(Comparison::Binary, |c| c.info().comparison);
            let text = cut(text, prefix);
            if comparison == Comparison::Binary {
                push_escaped(text.as_bytes(), out);
            } else {
                let mut weights = Vec::with_capacity(text.len() + 2);
                push_weights(comparison, text.as_bytes(), &mut weights);
                push_escaped(&weights, out);
            }
        }
    }
}

fn index_column_prefix(index: &IndexDef, place: usize) -> Option<u32> {
    index.prefixes.get(place).copied().flatten()
}

/// The columns of an index of a row; true if one of them is NULL.
pub fn push_index_columns(table: &TableDef, index: &IndexDef, row: &[Value], out: &mut Vec<u8>) -> bool {
    let mut null = false;
    for (place, &column) in index.columns.iter().enumerate() {
        null |= row[column].is_null();
        push_key(&row[column], &table.columns[column].ty, index_column_prefix(index, place), out);
    }
    null
}

/// The key of a row of a table with a primary key.
pub fn row_key(table: &TableDef, primary: &IndexDef, row: &[Value]) -> Key {
    let mut key = index_prefix(table.id, ROW_INDEX);
    push_index_columns(table, primary, row, &mut key);
    key.into()
}

/// The key of a row of a table without one.
pub fn hidden_row_key(table: u32, number: u64) -> Key {
    let mut key = index_prefix(table, ROW_INDEX);
    key.extend_from_slice(&number.to_be_bytes());
    key.into()
}

/// The number in a hidden key.
pub fn hidden_row_number(key: &[u8]) -> Option<u64> {
    key.get(PREFIX..).and_then(|rest| rest.try_into().ok()).map(u64::from_be_bytes)
}

/// An index entry of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: Key,
    /// True if the key may be there once only: another row's entry with it is a duplicate.
    pub unique: bool,
}

/// A row's entry in a secondary index.
pub fn index_entry(table: &TableDef, index: &IndexDef, row: &[Value], row_key: &Key) -> Entry {
    let mut key = index_prefix(table.id, index.id);
    let null = push_index_columns(table, index, row, &mut key);
    let unique = index.unique && !null;
    if !unique {
        key.extend_from_slice(row_key.get(PREFIX..).unwrap_or_default());
    }
    Entry { key: key.into(), unique }
}

fn push_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn push_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(TAG_NULL),
        Value::Int(v) => {
            out.push(TAG_INT);
            push_varint(((v << 1) ^ (v >> 63)) as u64, out);
        }
        Value::UInt(v) => {
            // `convert` lets nothing above i64::MAX through.
            out.push(TAG_INT);
            push_varint(v << 1, out);
        }
        Value::Double(v) => {
            out.push(TAG_DOUBLE);
            out.extend_from_slice(&v.to_be_bytes());
        }
        Value::Text(v) => {
            out.push(TAG_TEXT);
            push_varint(v.len() as u64, out);
            out.extend_from_slice(v.as_bytes());
        }
        Value::Bytes(v) => {
            out.push(TAG_BYTES);
            push_varint(v.len() as u64, out);
            out.extend_from_slice(v);
        }
    }
}

/// A row's value.
pub fn encode_row(table: &TableDef, row: &[Value]) -> Bytes {
    let mut out = Vec::with_capacity(16 + row.len() * 12);
    out.push(ROW_VERSION);
    for (column, value) in table.columns.iter().zip(row) {
        push_varint(u64::from(column.id), &mut out);
        push_value(value, &mut out);
    }
    out.into()
}

/// A value inside a row, not copied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    /// NULL.
    Null,
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Double(f64),
    /// Text: UTF-8 unless the row is damaged.
    Text(&'a [u8]),
    /// Bytes.
    Bytes(&'a [u8]),
}

fn damaged() -> SqlError {
    SqlError::internal("a stored row is damaged")
}

fn take_cell<'a>(bytes: &'a [u8], at: &mut usize) -> Option<Cell<'a>> {
    let tag = *bytes.get(*at)?;
    *at += 1;
    Some(match tag {
        TAG_NULL => Cell::Null,
        TAG_INT => {
            let zigzag = take_varint(bytes, at)?;
            Cell::Int(((zigzag >> 1) as i64) ^ -((zigzag & 1) as i64))
        }
        TAG_DOUBLE => {
            let raw = bytes.get(*at..*at + 8)?.try_into().ok()?;
            *at += 8;
            Cell::Double(f64::from_be_bytes(raw))
        }
        TAG_TEXT | TAG_BYTES => {
            let length = usize::try_from(take_varint(bytes, at)?).ok()?;
            let end = at.checked_add(length)?;
            let body = bytes.get(*at..end)?;
            *at = end;
            if tag == TAG_TEXT { Cell::Text(body) } else { Cell::Bytes(body) }
        }
        _ => return None,
    })
}

/// Where each column of a row begins: filled once per row, read per column. 0: not stored.
pub fn locate_columns(columns: &[ColumnDef], bytes: &[u8], offsets: &mut Vec<u32>) -> SqlResult<()> {
    offsets.clear();
    offsets.resize(columns.len(), 0);
    if bytes.first() != Some(&ROW_VERSION) {
        return Err(damaged());
    }
    let (mut at, mut guess) = (1, 0);
    while at < bytes.len() {
        let id = take_varint(bytes, &mut at).ok_or_else(damaged)?;
        let here = at;
        take_cell(bytes, &mut at).ok_or_else(damaged)?;
        let is_it = |i: usize| columns.get(i).is_some_and(|c| u64::from(c.id) == id);
        let place = if is_it(guess) { Some(guess) } else { (0..columns.len()).find(|&i| is_it(i)) };
        if let Some(place) = place {
            offsets[place] = u32::try_from(here).map_err(|_| damaged())?;
            guess = place + 1;
        }
    }
    Ok(())
}

/// The cell at an offset of [`locate_columns`].
pub fn cell_at(bytes: &[u8], offset: u32) -> Option<Cell<'_>> {
    let mut at = offset as usize;
    take_cell(bytes, &mut at)
}

/// The value of a column in rows older than it.
pub fn value_before(column: &ColumnDef) -> Value {
    let Some(text) = &column.added_with else { return Value::Null };
    match column.ty.storage() {
        Storage::Integer => Value::Int(text.parse().unwrap_or(0)),
        Storage::Real => Value::Double(text.parse().unwrap_or(0.0)),
        Storage::Decimal | Storage::Text => Value::Text(text.clone()),
        Storage::Blob => Value::Bytes(text.clone().into_bytes()),
    }
}

/// A row as values.
///
/// # Errors
///
/// 1105 for bytes that are no row.
pub fn decode_row(table: &TableDef, bytes: &[u8]) -> SqlResult<Vec<Value>> {
    let mut offsets = Vec::new();
    locate_columns(&table.columns, bytes, &mut offsets)?;
    let mut row = Vec::with_capacity(offsets.len());
    for (column, offset) in table.columns.iter().zip(offsets) {
        if offset == 0 {
            row.push(value_before(column));
            continue;
        }
        row.push(match cell_at(bytes, offset).ok_or_else(damaged)? {
            Cell::Null => Value::Null,
            Cell::Int(v) => Value::Int(v),
            Cell::Double(v) => Value::Double(v),
            Cell::Text(v) => Value::Text(String::from_utf8_lossy(v).into_owned()),
            Cell::Bytes(v) => Value::Bytes(v.to_vec()),
        });
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::collation::Collation;

    fn key(value: &Value, ty: &ColumnType) -> Vec<u8> {
        let mut out = Vec::new();
        push_key(value, ty, None, &mut out);
        out
    }

    proptest! {
        #[test]
        fn integer_keys_sort_as_integers(a: i64, b: i64) {
            let ty = ColumnType::BIGINT;
            prop_assert_eq!(key(&Value::Int(a), &ty).cmp(&key(&Value::Int(b), &ty)), a.cmp(&b));
        }
        #[test]
        fn double_keys_sort_as_doubles(a in -1e300..1e300_f64, b in -1e300..1e300_f64) {
            let ty = ColumnType::DOUBLE;
            prop_assert_eq!(Some(key(&Value::Double(a), &ty).cmp(&key(&Value::Double(b), &ty))), a.partial_cmp(&b));
        }
        #[test]
        fn composite_text_keys_sort_column_by_column(a: (String, String), b: (String, String)) {
            let ty = ColumnType::VarChar { length: 100, collation: Collation::by_name("utf8mb4_0900_bin").expect("known") };
            let both = |p: &(String, String)| {
                let mut out = key(&Value::Text(p.0.clone()), &ty);
                out.extend(key(&Value::Text(p.1.clone()), &ty));
                out
            };
            prop_assert_eq!(both(&a).cmp(&both(&b)), a.cmp(&b));
        }
        #[test]
        fn rows_come_back_as_they_were(i: i64, t: String, b: Vec<u8>, d in -1e300..1e300_f64) {
            let mut table = crate::testing::table("t", vec![
                ColumnDef::new("i", ColumnType::BIGINT),
                ColumnDef::new("t", ColumnType::long_text()),
                ColumnDef::new("b", ColumnType::VarBinary(100)),
                ColumnDef::new("d", ColumnType::DOUBLE),
                ColumnDef::new("n", ColumnType::BIGINT),
            ]);
            let row = vec![Value::Int(i), Value::Text(t), Value::Bytes(b), Value::Double(d), Value::Null];
            let bytes = encode_row(&table, &row);
            prop_assert_eq!(&decode_row(&table, &bytes).expect("a row"), &row);
            // A column dropped, another added.
            table.columns.remove(1);
            let mut added = ColumnDef::required("x", ColumnType::INT);
            added.id = 77;
            added.added_with = Some("5".to_owned());
            table.columns.push(added);
            let seen = decode_row(&table, &bytes).expect("a row");
            prop_assert_eq!(&seen[0], &row[0]);
            prop_assert_eq!(&seen[1], &row[2]);
            prop_assert_eq!(&seen[4], &Value::Int(5));
        }
        #[test]
        fn damaged_rows_are_errors_and_no_panics(bytes: Vec<u8>) {
            let table = crate::testing::table("t", vec![ColumnDef::new("i", ColumnType::BIGINT)]);
            let _ = decode_row(&table, &bytes);
        }
    }
}
