//! OK, ERR and EOF packets, column definitions and rows.

use std::io::Write;

use crate::constants::{CapabilityFlags as Caps, ColumnFlags, ColumnType, StatusFlags};

use crate::codec::{put_lenenc, put_lenenc_bytes};
use crate::error::MysqlError;
use crate::handler::Outcome;
use crate::packet::PacketWriter;
use crate::temporal;
use crate::value::{Column, Date, DateTime, Time, Value};

/// The type of an OK packet: a plain one, or one in place of EOF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OkHeader {
    Ok = 0x00,
    Eof = 0xfe,
}

pub(crate) fn write_ok(out: &mut PacketWriter, header: OkHeader, outcome: &Outcome, extra: StatusFlags) {
    let status = outcome.status.flags() | extra;
    let begun = out.begin();
    let payload = out.payload();
    payload.push(header as u8);
    put_lenenc(payload, outcome.affected_rows);
    put_lenenc(payload, outcome.last_insert_id);
    payload.extend_from_slice(&status.bits().to_le_bytes());
    payload.extend_from_slice(&outcome.warnings.to_le_bytes());
    if !outcome.info.is_empty() {
        // Length-encoded only with session tracking in the specification; MySQL itself always sends the
        // length, and clients without tracking print it only if it is there.
        put_lenenc_bytes(payload, outcome.info.as_bytes());
    }
    out.end(begun);
}

pub(crate) fn write_error(out: &mut PacketWriter, error: &MysqlError) {
    let begun = out.begin();
    let payload = out.payload();
    payload.push(0xff);
    payload.extend_from_slice(&error.code.to_le_bytes());
    payload.push(b'#');
    payload.extend_from_slice(&error.state);
    payload.extend_from_slice(error.message.as_bytes());
    out.end(begun);
}

fn write_eof(out: &mut PacketWriter, warnings: u16, status: StatusFlags) {
    let [w0, w1] = warnings.to_le_bytes();
    let [s0, s1] = status.bits().to_le_bytes();
    out.packet(&[0xfe, w0, w1, s0, s1]);
}

/// The end of columns, rows or a command: EOF, or OK in its place.
pub(crate) fn write_end(out: &mut PacketWriter, capabilities: Caps, outcome: &Outcome, extra: StatusFlags) {
    if capabilities.contains(Caps::DEPRECATE_EOF) {
        write_ok(out, OkHeader::Eof, outcome, extra);
    } else {
        write_eof(out, outcome.warnings, outcome.status.flags() | extra);
    }
}

pub(crate) fn write_column(out: &mut PacketWriter, column: &Column<'_>, with_default: bool) {
    let begun = out.begin();
    let payload = out.payload();
    for text in ["def", column.schema, column.table, column.org_table, column.name, column.org_name] {
        put_lenenc_bytes(payload, text.as_bytes());
    }
    payload.push(0x0c);
    payload.extend_from_slice(&column.collation.to_le_bytes());
    payload.extend_from_slice(&column.length.to_le_bytes());
    payload.push(column.kind as u8);
    payload.extend_from_slice(&column.flags.bits().to_le_bytes());
    payload.push(column.decimals);
    payload.extend_from_slice(&[0, 0]);
    if with_default {
        payload.push(0xfb);
    }
    out.end(begun);
}

/// What a row's encoding needs to know of a column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    kind: ColumnType,
    unsigned: bool,
    decimals: u8,
    /// Bits of a BIT column.
    bits: u32,
}

impl Shape {
    pub(crate) fn of(column: &Column<'_>) -> Self {
        let unsigned = column.flags.contains(ColumnFlags::UNSIGNED);
        Self { kind: column.kind, unsigned, decimals: column.decimals, bits: column.length }
    }
}

/// Appends a row of the text protocol.
pub(crate) fn put_text_row(out: &mut Vec<u8>, shapes: &[Shape], values: &[Value<'_>]) {
    for (shape, value) in shapes.iter().zip(values) {
        match value {
            Value::Null => out.push(0xfb),
            Value::Bytes(bytes) => put_lenenc_bytes(out, bytes),
            other => put_text(out, *shape, other),
        }
    }
}

/// Text of a value that is not bytes already. It is always shorter than 251 bytes, so its length is one byte
/// that can be filled in afterwards.
fn put_text(out: &mut Vec<u8>, shape: Shape, value: &Value<'_>) {
    let at = out.len();
    out.push(0);
    put_plain_text(out, shape, value);
    out[at] = (out.len() - at - 1) as u8;
}

fn put_plain_text(out: &mut Vec<u8>, shape: Shape, value: &Value<'_>) {
    let written = match *value {
        Value::Null => Ok(()),
        // The bits themselves, highest first, in either protocol.
        Value::Int(_) | Value::UInt(_) if shape.kind == ColumnType::Bit => {
            let width = (shape.bits.div_ceil(8) as usize).clamp(1, 8);
            out.extend_from_slice(&integer(shape, value).to_be_bytes()[8 - width..]);
            Ok(())
        }
        Value::Bytes(bytes) => {
            out.extend_from_slice(bytes);
            Ok(())
        }
        Value::Int(number) if shape.kind == ColumnType::Year => write!(out, "{number:04}"),
        Value::UInt(number) if shape.kind == ColumnType::Year => write!(out, "{number:04}"),
        Value::Int(number) => write!(out, "{number}"),
        Value::UInt(number) => write!(out, "{number}"),
        Value::Float(number) => put_float(out, number),
        Value::Double(number) if shape.kind == ColumnType::Float => put_float(out, number as f32),
        Value::Double(number) => put_double(out, number),
        Value::Date(date) => {
            temporal::put_date_text(date, out);
            Ok(())
        }
        Value::DateTime(datetime) => {
            temporal::put_datetime_text(datetime, shape.decimals, out);
            Ok(())
        }
        Value::Time(time) => {
            temporal::put_time_text(time, shape.decimals, out);
            Ok(())
        }
    };
    written.expect("writing to memory cannot fail");
}

/// The shortest digits that read back the same; an exponent where MySQL has one.
fn put_double(out: &mut Vec<u8>, number: f64) -> std::io::Result<()> {
    if number == 0.0 || (1e-15..1e15).contains(&number.abs()) {
        write!(out, "{}", if number == 0.0 { 0.0 } else { number })
    } else {
        write!(out, "{number:e}")
    }
}

fn put_float(out: &mut Vec<u8>, number: f32) -> std::io::Result<()> {
    if number == 0.0 || (1e-15..1e15).contains(&number.abs()) {
        write!(out, "{}", if number == 0.0 { 0.0 } else { number })
    } else {
        write!(out, "{number:e}")
    }
}

/// Appends a row of the binary protocol.
pub(crate) fn put_binary_row(out: &mut Vec<u8>, shapes: &[Shape], values: &[Value<'_>]) {
    out.push(0);
    let bitmap = out.len();
    out.resize(bitmap + (shapes.len() + 9) / 8, 0);
    for (at, (shape, value)) in shapes.iter().zip(values).enumerate() {
        if matches!(value, Value::Null) {
            out[bitmap + (at + 2) / 8] |= 1 << ((at + 2) % 8);
        } else {
            put_binary(out, *shape, value);
        }
    }
}

fn put_binary(out: &mut Vec<u8>, shape: Shape, value: &Value<'_>) {
    match shape.kind {
        ColumnType::Tiny => out.extend_from_slice(&integer(shape, value).to_le_bytes()[..1]),
        ColumnType::Short | ColumnType::Year => {
            out.extend_from_slice(&integer(shape, value).to_le_bytes()[..2]);
        }
        ColumnType::Long | ColumnType::Int24 => {
            out.extend_from_slice(&integer(shape, value).to_le_bytes()[..4]);
        }
        ColumnType::LongLong => out.extend_from_slice(&integer(shape, value).to_le_bytes()),
        ColumnType::Float => out.extend_from_slice(&(double(value) as f32).to_le_bytes()),
        ColumnType::Double => out.extend_from_slice(&double(value).to_le_bytes()),
        ColumnType::Date => {
            temporal::put_datetime_binary(
                DateTime { date: datetime(value).date, ..DateTime::default() },
                out,
            );
        }
        ColumnType::DateTime | ColumnType::Timestamp => {
            temporal::put_datetime_binary(datetime(value), out);
        }
        ColumnType::Time => temporal::put_time_binary(time(value), out),
        _ => match value {
            Value::Bytes(bytes) => put_lenenc_bytes(out, bytes),
            other => put_text(out, shape, other),
        },
    }
}

/// The value as the low bytes of an integer column; 0 for what is no number.
fn integer(shape: Shape, value: &Value<'_>) -> u64 {
    match *value {
        Value::Int(number) => number as u64,
        Value::UInt(number) => number,
        // Casting saturates, so that a value out of range is at least the nearest one in it.
        Value::Float(number) if shape.unsigned => number.round() as u64,
        Value::Float(number) => number.round() as i64 as u64,
        Value::Double(number) if shape.unsigned => number.round() as u64,
        Value::Double(number) => number.round() as i64 as u64,
        Value::Bytes(bytes) => {
            let text = str::from_utf8(bytes).unwrap_or("").trim();
            match text.parse::<i64>() {
                Ok(number) => number as u64,
                Err(_) => {
                    text.parse::<u64>().unwrap_or_else(|_| text.parse::<f64>().unwrap_or(0.0) as i64 as u64)
                }
            }
        }
        Value::Null | Value::Date(_) | Value::DateTime(_) | Value::Time(_) => 0,
    }
}

fn double(value: &Value<'_>) -> f64 {
    match *value {
        Value::Int(number) => number as f64,
        Value::UInt(number) => number as f64,
        Value::Float(number) => f64::from(number),
        Value::Double(number) => number,
        Value::Bytes(bytes) => str::from_utf8(bytes).unwrap_or("").trim().parse().unwrap_or(0.0),
        Value::Null | Value::Date(_) | Value::DateTime(_) | Value::Time(_) => 0.0,
    }
}

fn datetime(value: &Value<'_>) -> DateTime {
    match *value {
        Value::DateTime(datetime) => datetime,
        Value::Date(date) => DateTime { date, ..DateTime::default() },
        Value::Bytes(bytes) => DateTime::parse(bytes).unwrap_or_default(),
        Value::Null
        | Value::Int(_)
        | Value::UInt(_)
        | Value::Float(_)
        | Value::Double(_)
        | Value::Time(_) => DateTime { date: Date::default(), ..DateTime::default() },
    }
}

fn time(value: &Value<'_>) -> Time {
    match *value {
        Value::Time(time) => time,
        Value::Bytes(bytes) => Time::parse(bytes).unwrap_or_default(),
        Value::DateTime(DateTime { hour, minute, second, micros, .. }) => {
            Time { negative: false, hours: u32::from(hour), minutes: minute, seconds: second, micros }
        }
        Value::Null
        | Value::Int(_)
        | Value::UInt(_)
        | Value::Float(_)
        | Value::Double(_)
        | Value::Date(_) => Time::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: ColumnType, value: Value<'_>) -> String {
        let mut out = Vec::new();
        put_text_row(&mut out, &[Shape { kind, unsigned: false, decimals: 0, bits: 0 }], &[value]);
        String::from_utf8_lossy(&out[1..]).into_owned()
    }

    #[test]
    fn numbers_print_as_in_mysql() {
        let double = ColumnType::Double;
        for (number, printed) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.5, "1.5"),
            (1e14, "100000000000000"),
            (1e15, "1e15"),
            (-2.5e-20, "-2.5e-20"),
        ] {
            assert_eq!(text(double, Value::Double(number)), printed);
        }
        assert_eq!(text(ColumnType::Float, Value::Double(f64::from(0.1f32))), "0.1");
        assert_eq!(text(ColumnType::Year, Value::Int(79)), "0079");
        assert_eq!(text(ColumnType::LongLong, Value::UInt(u64::MAX)), "18446744073709551615");
    }

    #[test]
    fn binary_rows_coerce_text_to_the_column_type() {
        let shape = |kind| Shape { kind, unsigned: false, decimals: 0, bits: 0 };
        let mut out = Vec::new();
        put_binary(&mut out, shape(ColumnType::Long), &Value::Bytes(b"-2"));
        assert_eq!(out, (-2i32).to_le_bytes());
        out.clear();
        put_binary(&mut out, shape(ColumnType::Date), &Value::Bytes(b"2026-02-03"));
        assert_eq!(out, [4, 0xea, 0x07, 2, 3]);
        out.clear();
        put_binary(&mut out, shape(ColumnType::VarString), &Value::Int(17));
        assert_eq!(out, [2, b'1', b'7']);
    }

    #[test]
    fn bits_are_sent_as_bytes_highest_first() {
        let shape = Shape { kind: ColumnType::Bit, unsigned: true, decimals: 0, bits: 10 };
        let mut text = Vec::new();
        put_text_row(&mut text, &[shape], &[Value::Int(0x203)]);
        assert_eq!(text, [2, 2, 3]);
        let mut binary = Vec::new();
        put_binary(&mut binary, shape, &Value::UInt(0x203));
        assert_eq!(binary, [2, 2, 3]);
    }

    #[test]
    fn nulls_of_binary_rows_are_bits_from_the_third_on() {
        let shapes = [Shape { kind: ColumnType::Tiny, unsigned: false, decimals: 0, bits: 0 }; 8];
        let mut values = [Value::Int(1); 8];
        values[0] = Value::Null;
        values[7] = Value::Null;
        let mut out = Vec::new();
        put_binary_row(&mut out, &shapes, &values);
        assert_eq!(out, [0, 0b100, 0b10, 1, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn packets_keep_their_bytes() {
        let mut out = PacketWriter::default();
        let status = crate::handler::SessionStatus { in_transaction: true, ..Default::default() };
        let outcome =
            Outcome { affected_rows: 2, last_insert_id: 300, warnings: 1, info: "abc".to_owned(), status };
        write_ok(&mut out, OkHeader::Ok, &outcome, StatusFlags::MORE_RESULTS_EXISTS);
        let ok = [14, 0, 0, 0, 0, 2, 0xfc, 44, 1, 11, 0, 1, 0, 3, b'a', b'b', b'c'];
        assert_eq!(out.pending()[4..], ok[4..]);
        assert_eq!(usize::from(out.pending()[0]), ok.len() - 4);
        out.pending().clear();
        write_error(&mut out, &MysqlError::new(1146, "42S02", "no"));
        assert_eq!(out.pending()[3..], *b"\x01\xff\x7a\x04#42S02no");
        out.pending().clear();
        write_end(&mut out, Caps::empty(), &outcome, StatusFlags::empty());
        assert_eq!(*out.pending(), [5, 0, 0, 2, 0xfe, 1, 0, 3, 0]);
        out.pending().clear();
        let column =
            Column { schema: "d", table: "t", org_table: "o", ..Column::new("n", ColumnType::LongLong) };
        write_column(&mut out, &column, false);
        let golden = b"\x1a\0\0\x03\x03def\x01d\x01t\x01o\x01n\0\x0c\x3f\0\x14\0\0\0\x08\x80\0\0\0\0";
        assert_eq!(out.pending()[4..], golden[4..]);
        assert_eq!(usize::from(out.pending()[0]), golden.len() - 4);
    }
}
