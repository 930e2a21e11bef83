//! What is in rows and parameters, and what is said of columns.

use std::fmt;

use crate::constants::{ColumnFlags, ColumnType};

/// A column of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column<'a> {
    /// The table's database.
    pub schema: &'a str,
    /// The table's alias.
    pub table: &'a str,
    /// The table's own name.
    pub org_table: &'a str,
    /// The column's name or alias.
    pub name: &'a str,
    /// Its name in the table.
    pub org_name: &'a str,
    /// Its type; decides how values are encoded in binary rows.
    pub kind: ColumnType,
    /// The collation's number; 63 for what is not text.
    pub collation: u16,
    /// The longest value, in bytes.
    pub length: u32,
    /// Its properties.
    pub flags: ColumnFlags,
    /// Digits after the point; 31 where they are not fixed.
    pub decimals: u8,
}

impl<'a> Column<'a> {
    /// A column that belongs to no table, with what is usual for its type.
    pub fn new(name: &'a str, kind: ColumnType) -> Self {
        let text = kind.is_text();
        Self {
            schema: "",
            table: "",
            org_table: "",
            name,
            org_name: "",
            kind,
            collation: if text { 255 } else { 63 },
            length: if text { 1024 } else { 20 },
            flags: if text { ColumnFlags::empty() } else { ColumnFlags::BINARY },
            decimals: if matches!(kind, ColumnType::Float | ColumnType::Double) { 31 } else { 0 },
        }
    }
}

/// A calendar date; zeros are allowed, as in `0000-00-00`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Date {
    /// 0 to 9999.
    pub year: u16,
    /// 0 to 12.
    pub month: u8,
    /// 0 to 31.
    pub day: u8,
}

/// A date with a time of day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DateTime {
    /// The date.
    pub date: Date,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// Microseconds.
    pub micros: u32,
}

/// A length of time, of either sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// True below zero.
    pub negative: bool,
    /// Whole hours, 838 at most in MySQL.
    pub hours: u32,
    /// 0 to 59.
    pub minutes: u8,
    /// 0 to 59.
    pub seconds: u8,
    /// Microseconds.
    pub micros: u32,
}

/// A value in a row or a parameter. A value need not have its column's representation: text in a column of
/// a temporal or numeric type is parsed where the binary encoding needs it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// NULL.
    Null,
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    UInt(u64),
    /// FLOAT.
    Float(f32),
    /// DOUBLE.
    Double(f64),
    /// Strings, DECIMAL, JSON, BIT, and anything else in its text form.
    Bytes(&'a [u8]),
    /// DATE.
    Date(Date),
    /// DATETIME and TIMESTAMP.
    DateTime(DateTime),
    /// TIME.
    Time(Time),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Bytes(text.as_bytes())
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:02}:{:02}:{:02}", self.date, self.hour, self.minute, self.second)?;
        fraction(self.micros, f)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.negative { "-" } else { "" };
        write!(f, "{sign}{:02}:{:02}:{:02}", self.hours, self.minutes, self.seconds)?;
        fraction(self.micros, f)
    }
}

/// Microseconds, where there are some.
fn fraction(micros: u32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if micros == 0 { Ok(()) } else { write!(f, ".{micros:06}") }
}
