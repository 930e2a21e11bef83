//! Values, column types and what the protocol says of a column.
//!
//! How SQLite sees them: integers, YEAR, BIT and BOOL as INTEGER; FLOAT and DOUBLE as REAL; DECIMAL as
//! canonical TEXT (scale digits after the point) with the collation `dec`; strings, ENUM, SET and JSON as
//! TEXT with their column's collation; binary strings as BLOB; temporal types as canonical TEXT
//! (`YYYY-MM-DD`, `[-]HHH:MM:SS[.ffffff]`, `YYYY-MM-DD HH:MM:SS[.ffffff]`), which sorts as they do (TIME
//! excepted: collation `time`). A known gap: BIGINT UNSIGNED above `i64::MAX` cannot be stored (1264).

use serde::{Deserialize, Serialize};

use crate::collation::Collation;

/// A logical value: what a client sends or gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    UInt(u64),
    /// A floating-point number.
    Double(f64),
    /// Text, and everything whose canonical form is text: DECIMAL, temporal types, JSON.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl Value {
    /// True for NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
    /// As MySQL prints it; `None` for NULL. Bytes are shown lossily.
    pub fn display(&self) -> Option<String> {
        Some(match self {
            Self::Null => return None,
            Self::Int(v) => v.to_string(),
            Self::UInt(v) => v.to_string(),
            Self::Double(v) => format_double(*v),
            Self::Text(v) => v.clone(),
            Self::Bytes(v) => String::from_utf8_lossy(v).into_owned(),
        })
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}
impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}
impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::UInt(value)
    }
}
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A double as MySQL prints it: the shortest digits that read back the same, with an exponent from 1e15 up.
pub fn format_double(v: f64) -> String {
    if v == 0.0 {
        return "0".to_owned();
    }
    let magnitude = v.abs();
    if (1e-15..1e15).contains(&magnitude) {
        return format!("{v}");
    }
    format!("{v:e}")
}

/// The widths of integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum IntKind {
    /// 1 byte.
    Tiny,
    /// 2 bytes.
    Small,
    /// 3 bytes.
    Medium,
    /// 4 bytes.
    Int,
    /// 8 bytes.
    Big,
}

/// The lengths of TEXT and BLOB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LobKind {
    /// 255 bytes.
    Tiny,
    /// 65,535 bytes.
    Normal,
    /// 16 MiB.
    Medium,
    /// 4 GiB.
    Long,
}

impl LobKind {
    /// Most bytes.
    pub fn max_bytes(self) -> usize {
        match self {
            Self::Tiny => 255,
            Self::Normal => 65_535,
            Self::Medium => 16_777_215,
            Self::Long => 4_294_967_295,
        }
    }
}

/// A column's type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ColumnType {
    /// The type of the literal NULL.
    Null,
    /// TINYINT to BIGINT; BOOL is `TINYINT(1)`.
    Int {
        /// Its width in bytes.
        kind: IntKind,
        /// UNSIGNED.
        unsigned: bool,
        /// The display width, which means something only for `TINYINT(1)`.
        width: Option<u16>,
    },
    /// BIT(n).
    Bit(u8),
    /// DECIMAL(precision, scale).
    Decimal {
        /// Digits.
        precision: u8,
        /// Digits after the point.
        scale: u8,
        /// UNSIGNED.
        unsigned: bool,
    },
    /// FLOAT.
    Float {
        /// UNSIGNED.
        unsigned: bool,
    },
    /// DOUBLE.
    Double {
        /// UNSIGNED.
        unsigned: bool,
    },
    /// CHAR(n).
    Char {
        /// Characters.
        length: u32,
        /// Collation.
        collation: Collation,
    },
    /// VARCHAR(n).
    VarChar {
        /// Characters.
        length: u32,
        /// Collation.
        collation: Collation,
    },
    /// TEXT.
    Text {
        /// Its length.
        kind: LobKind,
        /// Collation.
        collation: Collation,
    },
    /// BINARY(n), padded with zero bytes.
    Binary(u32),
    /// VARBINARY(n).
    VarBinary(u32),
    /// BLOB.
    Blob(LobKind),
    /// DATE.
    Date,
    /// TIME(fsp).
    Time(u8),
    /// DATETIME(fsp).
    DateTime(u8),
    /// TIMESTAMP(fsp).
    Timestamp(u8),
    /// YEAR.
    Year,
    /// ENUM.
    Enum {
        /// Its values.
        labels: Vec<String>,
        /// Collation.
        collation: Collation,
    },
    /// SET.
    Set {
        /// Its members.
        labels: Vec<String>,
        /// Collation.
        collation: Collation,
    },
    /// JSON.
    Json,
}

/// The storage class of a type in SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// INTEGER.
    Integer,
    /// REAL.
    Real,
    /// TEXT compared as numbers (collation `dec`).
    Decimal,
    /// TEXT.
    Text,
    /// BLOB.
    Blob,
}

impl ColumnType {
    /// BIGINT.
    pub const BIGINT: Self = Self::Int { kind: IntKind::Big, unsigned: false, width: None };
    /// BIGINT UNSIGNED.
    pub const BIGINT_UNSIGNED: Self = Self::Int { kind: IntKind::Big, unsigned: true, width: None };
    /// INT.
    pub const INT: Self = Self::Int { kind: IntKind::Int, unsigned: false, width: None };
    /// TINYINT(1).
    pub const BOOL: Self = Self::Int { kind: IntKind::Tiny, unsigned: false, width: Some(1) };
    /// DOUBLE.
    pub const DOUBLE: Self = Self::Double { unsigned: false };

    /// VARCHAR(n) in the default collation.
    pub fn varchar(length: u32) -> Self {
        Self::VarChar { length, collation: Collation::default() }
    }
    /// LONGTEXT in the default collation.
    pub fn long_text() -> Self {
        Self::Text { kind: LobKind::Long, collation: Collation::default() }
    }
    /// Its storage class in SQLite.
    pub fn storage(&self) -> Storage {
        match self {
            Self::Int { .. } | Self::Bit(_) | Self::Year => Storage::Integer,
            Self::Float { .. } | Self::Double { .. } => Storage::Real,
            Self::Decimal { .. } => Storage::Decimal,
            Self::Binary(_) | Self::VarBinary(_) | Self::Blob(_) => Storage::Blob,
            Self::Null
            | Self::Char { .. }
            | Self::VarChar { .. }
            | Self::Text { .. }
            | Self::Date
            | Self::Time(_)
            | Self::DateTime(_)
            | Self::Timestamp(_)
            | Self::Enum { .. }
            | Self::Set { .. }
            | Self::Json => Storage::Text,
        }
    }
    /// The collation of a string type.
    pub fn collation(&self) -> Option<Collation> {
        match self {
            Self::Char { collation, .. }
            | Self::VarChar { collation, .. }
            | Self::Text { collation, .. }
            | Self::Enum { collation, .. }
            | Self::Set { collation, .. } => Some(*collation),
            _ => None,
        }
    }
    /// The collation that SQLite compares this type's columns with.
    pub fn sqlite_collation(&self) -> &'static str {
        match self {
            Self::Decimal { .. } => "dec",
            Self::Time(_) => "time",
            _ => self.collation().map_or("BINARY", Collation::sqlite_name),
        }
    }
    /// The type in a declaration of a virtual table: gives SQLite's column affinity.
    pub fn sqlite_declaration(&self) -> &'static str {
        match self.storage() {
            Storage::Integer => "INTEGER",
            Storage::Real => "REAL",
            Storage::Decimal | Storage::Text => "TEXT",
            Storage::Blob => "BLOB",
        }
    }
    /// True for UNSIGNED numbers.
    pub fn is_unsigned(&self) -> bool {
        match self {
            Self::Int { unsigned, .. }
            | Self::Decimal { unsigned, .. }
            | Self::Float { unsigned }
            | Self::Double { unsigned } => *unsigned,
            Self::Bit(_) | Self::Year => true,
            _ => false,
        }
    }
    /// True for numbers.
    pub fn is_numeric(&self) -> bool {
        matches!(
            self,
            Self::Int { .. }
                | Self::Bit(_)
                | Self::Decimal { .. }
                | Self::Float { .. }
                | Self::Double { .. }
                | Self::Year
        )
    }
    /// True for character strings.
    pub fn is_text(&self) -> bool {
        self.collation().is_some() || matches!(self, Self::Json)
    }
    /// True for dates and times.
    pub fn is_temporal(&self) -> bool {
        matches!(self, Self::Date | Self::Time(_) | Self::DateTime(_) | Self::Timestamp(_))
    }
    /// The smallest and largest value of an integer type.
    pub fn int_range(&self) -> Option<(i128, i128)> {
        let Self::Int { kind, unsigned, .. } = self else { return None };
        let bits = match kind {
            IntKind::Tiny => 8,
            IntKind::Small => 16,
            IntKind::Medium => 24,
            IntKind::Int => 32,
            IntKind::Big => 64,
        };
        Some(if *unsigned { (0, (1 << bits) - 1) } else { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) })
    }
    /// The number of the type in the protocol (`MYSQL_TYPE_...`).
    pub fn protocol_type(&self) -> u8 {
        match self {
            Self::Null => 6,
            Self::Int { kind, .. } => match kind {
                IntKind::Tiny => 1,
                IntKind::Small => 2,
                IntKind::Medium => 9,
                IntKind::Int => 3,
                IntKind::Big => 8,
            },
            Self::Bit(_) => 16,
            Self::Decimal { .. } => 246,
            Self::Float { .. } => 4,
            Self::Double { .. } => 5,
            Self::Char { .. } | Self::Binary(_) | Self::Enum { .. } | Self::Set { .. } => 254,
            Self::VarChar { .. } | Self::VarBinary(_) => 253,
            Self::Text { .. } | Self::Blob(_) => 252,
            Self::Date => 10,
            Self::Time(_) => 11,
            Self::DateTime(_) => 12,
            Self::Timestamp(_) => 7,
            Self::Year => 13,
            Self::Json => 245,
        }
    }
    /// The number of its collation in the protocol; 63 (binary) for what is not text. Text is always sent as
    /// UTF-8, so the caller puts the connection's collation in place of it for text types.
    pub fn protocol_collation(&self) -> u16 {
        match self {
            Self::Json => Collation::default().info().id,
            _ => self.collation().map_or(63, |c| c.info().id),
        }
    }
    /// The column length of the protocol (bytes, 4 a character).
    pub fn protocol_length(&self) -> u32 {
        match self {
            Self::Null => 0,
            Self::Int { kind, unsigned, width } => {
                if let Some(width) = width {
                    return u32::from(*width);
                }
                let (signed_length, unsigned_length) = match kind {
                    IntKind::Tiny => (4, 3),
                    IntKind::Small => (6, 5),
                    IntKind::Medium => (9, 8),
                    IntKind::Int => (11, 10),
                    IntKind::Big => (20, 20),
                };
                if *unsigned { unsigned_length } else { signed_length }
            }
            Self::Bit(n) => u32::from(*n),
            Self::Decimal { precision, scale, unsigned } => {
                u32::from(*precision) + u32::from(*scale > 0) + u32::from(!*unsigned)
            }
            Self::Float { .. } => 12,
            Self::Double { .. } => 22,
            Self::Char { length, .. } | Self::VarChar { length, .. } => length.saturating_mul(4),
            Self::Text { kind, .. } | Self::Blob(kind) => u32::try_from(kind.max_bytes()).unwrap_or(u32::MAX),
            Self::Binary(n) | Self::VarBinary(n) => *n,
            Self::Date => 10,
            Self::Time(fsp) => 10 + fsp_length(*fsp),
            Self::DateTime(fsp) | Self::Timestamp(fsp) => 19 + fsp_length(*fsp),
            Self::Year => 4,
            Self::Enum { labels, .. } => {
                4 * labels.iter().map(|l| l.chars().count() as u32).max().unwrap_or(0)
            }
            Self::Set { labels, .. } => 4 * labels.iter().map(|l| l.chars().count() as u32 + 1).sum::<u32>(),
            Self::Json => u32::MAX,
        }
    }
    /// The decimals of the protocol: 31 where they are not fixed.
    pub fn decimals(&self) -> u8 {
        match self {
            Self::Decimal { scale, .. } => *scale,
            Self::Float { .. } | Self::Double { .. } => 31,
            Self::Time(fsp) | Self::DateTime(fsp) | Self::Timestamp(fsp) => *fsp,
            _ => 0,
        }
    }
}

fn fsp_length(fsp: u8) -> u32 {
    if fsp == 0 { 0 } else { u32::from(fsp) + 1 }
}

impl std::fmt::Display for ColumnType {
    /// As `SHOW COLUMNS` and `information_schema.columns.column_type` have it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let quoted = |labels: &[String]| {
            let parts: Vec<_> = labels.iter().map(|l| format!("'{}'", l.replace('\'', "''"))).collect();
            parts.join(",")
        };
        let fsp = |fsp: &u8| if *fsp == 0 { String::new() } else { format!("({fsp})") };
        match self {
            Self::Null => f.write_str("null"),
            Self::Int { kind, unsigned, width } => {
                let name = match kind {
                    IntKind::Tiny => "tinyint",
                    IntKind::Small => "smallint",
                    IntKind::Medium => "mediumint",
                    IntKind::Int => "int",
                    IntKind::Big => "bigint",
                };
                f.write_str(name)?;
                if let (IntKind::Tiny, Some(1)) = (kind, width) {
                    f.write_str("(1)")?;
                }
                f.write_str(if *unsigned { " unsigned" } else { "" })
            }
            Self::Bit(n) => write!(f, "bit({n})"),
            Self::Decimal { precision, scale, unsigned } => {
                write!(f, "decimal({precision},{scale}){}", if *unsigned { " unsigned" } else { "" })
            }
            Self::Float { unsigned } => f.write_str(if *unsigned { "float unsigned" } else { "float" }),
            Self::Double { unsigned } => f.write_str(if *unsigned { "double unsigned" } else { "double" }),
            Self::Char { length, .. } => write!(f, "char({length})"),
            Self::VarChar { length, .. } => write!(f, "varchar({length})"),
            Self::Text { kind, .. } => f.write_str(match kind {
                LobKind::Tiny => "tinytext",
                LobKind::Normal => "text",
                LobKind::Medium => "mediumtext",
                LobKind::Long => "longtext",
            }),
            Self::Binary(n) => write!(f, "binary({n})"),
            Self::VarBinary(n) => write!(f, "varbinary({n})"),
            Self::Blob(kind) => f.write_str(match kind {
                LobKind::Tiny => "tinyblob",
                LobKind::Normal => "blob",
                LobKind::Medium => "mediumblob",
                LobKind::Long => "longblob",
            }),
            Self::Date => f.write_str("date"),
            Self::Time(n) => write!(f, "time{}", fsp(n)),
            Self::DateTime(n) => write!(f, "datetime{}", fsp(n)),
            Self::Timestamp(n) => write!(f, "timestamp{}", fsp(n)),
            Self::Year => f.write_str("year"),
            Self::Enum { labels, .. } => write!(f, "enum({})", quoted(labels)),
            Self::Set { labels, .. } => write!(f, "set({})", quoted(labels)),
            Self::Json => f.write_str("json"),
        }
    }
}

/// Column flags of the protocol.
pub mod flags {
    /// NOT NULL.
    pub const NOT_NULL: u16 = 1;
    /// Part of the primary key.
    pub const PRI_KEY: u16 = 2;
    /// Part of a unique key.
    pub const UNIQUE_KEY: u16 = 4;
    /// Part of a key that is not unique.
    pub const MULTIPLE_KEY: u16 = 8;
    /// TEXT or BLOB.
    pub const BLOB: u16 = 16;
    /// UNSIGNED.
    pub const UNSIGNED: u16 = 32;
    /// Binary collation.
    pub const BINARY: u16 = 128;
    /// ENUM.
    pub const ENUM: u16 = 256;
    /// AUTO_INCREMENT.
    pub const AUTO_INCREMENT: u16 = 512;
    /// SET.
    pub const SET: u16 = 2048;
    /// No default value.
    pub const NO_DEFAULT_VALUE: u16 = 4096;
    /// A number.
    pub const NUM: u16 = 32768;
}

/// A result column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnMeta {
    /// The name or alias.
    pub name: String,
    /// The column's name in its table, if it is one.
    pub org_name: String,
    /// The table's alias.
    pub table: String,
    /// The table's name.
    pub org_table: String,
    /// The table's database.
    pub database: String,
    /// Its type.
    pub ty: ColumnType,
    /// See [`flags`].
    pub flags: u16,
}

impl ColumnMeta {
    /// A column that is no table's: an expression.
    pub fn expression(name: impl Into<String>, ty: ColumnType) -> Self {
        let flags = type_flags(&ty);
        Self {
            name: name.into(),
            org_name: String::new(),
            table: String::new(),
            org_table: String::new(),
            database: String::new(),
            ty,
            flags,
        }
    }
}

/// The flags that follow from a type alone.
pub fn type_flags(ty: &ColumnType) -> u16 {
    let mut all = 0;
    if ty.is_unsigned() {
        all |= flags::UNSIGNED;
    }
    if ty.is_numeric() {
        all |= flags::NUM;
    }
    if ty.collation().is_none_or(|c| c.sqlite_name() == "BINARY") {
        all |= flags::BINARY;
    }
    match ty {
        ColumnType::Text { .. } | ColumnType::Blob(_) | ColumnType::Json => all |= flags::BLOB,
        ColumnType::Enum { .. } => all |= flags::ENUM,
        ColumnType::Set { .. } => all |= flags::SET,
        _ => {}
    }
    all
}
