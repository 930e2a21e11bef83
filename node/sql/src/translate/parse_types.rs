//! Types of columns and of CAST.

use super::ast::TypeSpec;
use super::lexer::Tok;
use super::parser::Parser;
use crate::collation::Collation;
use crate::error::{SqlError, SqlResult};
use crate::types::{ColumnType, IntKind, LobKind};

const TYPE_WORDS: &[&str] = &[
    "BIGINT",
    "BINARY",
    "BIT",
    "BLOB",
    "BOOL",
    "BOOLEAN",
    "CHAR",
    "CHARACTER",
    "DATE",
    "DATETIME",
    "DEC",
    "DECIMAL",
    "DOUBLE",
    "ENUM",
    "FIXED",
    "FLOAT",
    "FLOAT4",
    "FLOAT8",
    "INT",
    "INT1",
    "INT2",
    "INT3",
    "INT4",
    "INT8",
    "INTEGER",
    "JSON",
    "LONG",
    "LONGBLOB",
    "LONGTEXT",
    "MEDIUMBLOB",
    "MEDIUMINT",
    "MEDIUMTEXT",
    "MIDDLEINT",
    "NATIONAL",
    "NCHAR",
    "NUMERIC",
    "NVARCHAR",
    "REAL",
    "SERIAL",
    "SET",
    "SMALLINT",
    "TEXT",
    "TIME",
    "TIMESTAMP",
    "TINYBLOB",
    "TINYINT",
    "TINYTEXT",
    "VARBINARY",
    "VARCHAR",
    "VARCHARACTER",
    "YEAR",
];

/// True if a type begins with this token.
pub(crate) fn has_type_word(tok: &Tok) -> bool {
    matches!(tok, Tok::Word(word) if TYPE_WORDS.contains(&word.to_ascii_uppercase().as_str()))
}

fn lob_for(length: u64) -> LobKind {
    match length {
        0..=255 => LobKind::Tiny,
        256..=65_535 => LobKind::Normal,
        65_536..=16_777_215 => LobKind::Medium,
        _ => LobKind::Long,
    }
}

impl Parser<'_> {
    fn optional_length(&mut self) -> SqlResult<Option<u64>> {
        if !self.skip_op("(") {
            return Ok(None);
        }
        let length = self.unsigned()?;
        self.expect_op(")")?;
        Ok(Some(length))
    }

    fn fsp(&mut self) -> SqlResult<u8> {
        let digits = self.optional_length()?.unwrap_or(0);
        if digits > 6 {
            return Err(SqlError::new(
                1426,
                format!("Too-big precision {digits} specified for column. Maximum is 6."),
            ));
        }
        Ok(digits as u8)
    }

    fn sign(&mut self) -> bool {
        let mut unsigned = false;
        while let Some(word) = self.skip_any(&["UNSIGNED", "SIGNED", "ZEROFILL"]) {
            unsigned |= word != "SIGNED";
        }
        unsigned
    }

    /// A column's type.
    pub(crate) fn column_type(&mut self) -> SqlResult<TypeSpec> {
        let Tok::Word(word) = self.advance() else { return Err(self.unexpected()) };
        let word = word.to_ascii_uppercase();
        let ty = match word.as_str() {
            "TINYINT" | "INT1" => self.int(IntKind::Tiny)?,
            "SMALLINT" | "INT2" => self.int(IntKind::Small)?,
            "MEDIUMINT" | "MIDDLEINT" | "INT3" => self.int(IntKind::Medium)?,
            "INT" | "INTEGER" | "INT4" => self.int(IntKind::Int)?,
            "BIGINT" | "INT8" => self.int(IntKind::Big)?,
            "BOOL" | "BOOLEAN" => ColumnType::BOOL,
            "SERIAL" => {
                return Ok(TypeSpec { serial: true, ..TypeSpec::plain(ColumnType::BIGINT_UNSIGNED) });
            }
            "BIT" => ColumnType::Bit(self.optional_length()?.unwrap_or(1).clamp(1, 64) as u8),
            "DECIMAL" | "DEC" | "NUMERIC" | "FIXED" => self.decimal()?,
            "FLOAT" | "FLOAT4" => self.float()?,
            "DOUBLE" | "REAL" | "FLOAT8" => {
                self.skip_word("PRECISION");
                self.skip_precision()?;
                ColumnType::Double { unsigned: self.sign() }
            }
            "DATE" => ColumnType::Date,
            "TIME" => ColumnType::Time(self.fsp()?),
            "DATETIME" => ColumnType::DateTime(self.fsp()?),
            "TIMESTAMP" => ColumnType::Timestamp(self.fsp()?),
            "YEAR" => {
                self.optional_length()?;
                ColumnType::Year
            }
            "JSON" => ColumnType::Json,
            _ => return self.string_type(&word),
        };
        Ok(TypeSpec::plain(ty))
    }

    fn int(&mut self, kind: IntKind) -> SqlResult<ColumnType> {
        let width = self.optional_length()?;
        let unsigned = self.sign();
        let width = if kind == IntKind::Tiny && width == Some(1) && !unsigned { Some(1) } else { None };
        Ok(ColumnType::Int { kind, unsigned, width })
    }

    fn decimal(&mut self) -> SqlResult<ColumnType> {
        let (mut precision, mut scale) = (10, 0);
        if self.skip_op("(") {
            precision = self.unsigned()?;
            if self.skip_op(",") {
                scale = self.unsigned()?;
            }
            self.expect_op(")")?;
        }
        if precision > 65 {
            return Err(SqlError::new(
                1426,
                format!("Too-big precision {precision} specified for column. Maximum is 65."),
            ));
        }
        if scale > 30 {
            return Err(SqlError::new(1425, format!("Too big scale {scale} specified. Maximum is 30.")));
        }
        if scale > precision {
            return Err(SqlError::new(
                1427,
                "For float(M,D), double(M,D) or decimal(M,D), M must be >= D (column '').",
            ));
        }
        let precision = if precision == 0 { 10 } else { precision };
        Ok(ColumnType::Decimal { precision: precision as u8, scale: scale as u8, unsigned: self.sign() })
    }

    fn float(&mut self) -> SqlResult<ColumnType> {
        let digits = self.skip_precision()?;
        let unsigned = self.sign();
        Ok(if digits > 24 { ColumnType::Double { unsigned } } else { ColumnType::Float { unsigned } })
    }

    /// `(M)` or `(M,D)`; gives M where it stands alone.
    fn skip_precision(&mut self) -> SqlResult<u64> {
        let mut digits = 0;
        if self.skip_op("(") {
            digits = self.unsigned()?;
            if self.skip_op(",") {
                self.unsigned()?;
                digits = 0;
            }
            self.expect_op(")")?;
        }
        Ok(digits)
    }

    fn string_type(&mut self, word: &str) -> SqlResult<TypeSpec> {
        let collation = Collation::default();
        let mut national = false;
        let ty = match word {
            "CHAR" | "CHARACTER" | "NCHAR" | "NATIONAL" => {
                national = word.starts_with('N');
                if word == "NATIONAL" && self.skip_any(&["CHAR", "CHARACTER", "VARCHAR"]) == Some("VARCHAR")
                    || self.skip_word("VARYING")
                {
                    self.varchar()?
                } else {
                    ColumnType::Char { length: self.optional_length()?.unwrap_or(1) as u32, collation }
                }
            }
            "VARCHAR" | "VARCHARACTER" | "NVARCHAR" => {
                national = word.starts_with('N');
                self.varchar()?
            }
            "BINARY" => ColumnType::Binary(self.optional_length()?.unwrap_or(1) as u32),
            "VARBINARY" => match self.optional_length()? {
                Some(length) => ColumnType::VarBinary(length.min(65_535) as u32),
                None => return Err(self.unexpected()),
            },
            "TINYTEXT" => ColumnType::Text { kind: LobKind::Tiny, collation },
            "TEXT" => {
                let kind = self.optional_length()?.map_or(LobKind::Normal, |n| lob_for(n.saturating_mul(4)));
                ColumnType::Text { kind, collation }
            }
            "MEDIUMTEXT" => ColumnType::Text { kind: LobKind::Medium, collation },
            "LONGTEXT" => ColumnType::Text { kind: LobKind::Long, collation },
            "LONG" => {
                let binary = self.skip_word("VARBINARY");
                self.skip_word("VARCHAR");
                if binary {
                    ColumnType::Blob(LobKind::Medium)
                } else {
                    ColumnType::Text { kind: LobKind::Medium, collation }
                }
            }
            "TINYBLOB" => ColumnType::Blob(LobKind::Tiny),
            "BLOB" => ColumnType::Blob(self.optional_length()?.map_or(LobKind::Normal, lob_for)),
            "MEDIUMBLOB" => ColumnType::Blob(LobKind::Medium),
            "LONGBLOB" => ColumnType::Blob(LobKind::Long),
            "ENUM" => ColumnType::Enum { labels: self.parenthesized(Self::string)?, collation },
            "SET" => ColumnType::Set { labels: self.parenthesized(Self::string)?, collation },
            _ => return Err(self.unexpected()),
        };
        let mut spec = TypeSpec::plain(ty);
        if national {
            spec.charset = Some("utf8mb3".to_owned());
        }
        self.charset_attributes(&mut spec)?;
        Ok(spec)
    }

    fn varchar(&mut self) -> SqlResult<ColumnType> {
        match self.optional_length()? {
            Some(length) if length > 65_535 => Err(SqlError::new(
                1074,
                format!(
                    "Column length too big for column (max = 16383); use BLOB or TEXT instead ({length})"
                ),
            )),
            Some(length) => {
                Ok(ColumnType::VarChar { length: length as u32, collation: Collation::default() })
            }
            None => Err(self.unexpected()),
        }
    }

    fn charset_attributes(&mut self, spec: &mut TypeSpec) -> SqlResult<()> {
        loop {
            if self.skip_word("CHARSET") || self.skip_words(&["CHARACTER", "SET"]) {
                spec.charset = Some(self.identifier_or_string()?);
            } else if self.skip_word("COLLATE") {
                spec.collation = Some(self.identifier_or_string()?);
            } else if self.skip_word("ASCII") {
                spec.charset = Some("ascii".to_owned());
            } else if self.skip_word("UNICODE") {
                spec.charset = Some("utf8mb4".to_owned());
            } else if self.skip_word("BINARY") {
                let charset = spec.charset.clone().unwrap_or_else(|| "utf8mb4".to_owned());
                spec.collation = Some(format!("{charset}_bin"));
            } else {
                return Ok(());
            }
        }
    }

    /// The type in CAST and CONVERT.
    pub(crate) fn cast_type(&mut self) -> SqlResult<ColumnType> {
        let Tok::Word(word) = self.advance() else { return Err(self.unexpected()) };
        Ok(match word.to_ascii_uppercase().as_str() {
            "SIGNED" => {
                self.skip_any(&["INTEGER", "INT"]);
                ColumnType::BIGINT
            }
            "UNSIGNED" => {
                self.skip_any(&["INTEGER", "INT"]);
                ColumnType::BIGINT_UNSIGNED
            }
            // MariaDB's spelling, which some tools send.
            "INT" | "INTEGER" => ColumnType::BIGINT,
            "DECIMAL" | "DEC" | "NUMERIC" => self.decimal()?,
            "DOUBLE" | "REAL" => {
                self.skip_word("PRECISION");
                ColumnType::DOUBLE
            }
            "FLOAT" => self.float()?,
            "DATE" => ColumnType::Date,
            "TIME" => ColumnType::Time(self.fsp()?),
            "DATETIME" => ColumnType::DateTime(self.fsp()?),
            "YEAR" => ColumnType::Year,
            "JSON" => ColumnType::Json,
            "BINARY" => match self.optional_length()? {
                Some(length) => ColumnType::Binary(length as u32),
                None => ColumnType::VarBinary(u32::MAX / 8),
            },
            "CHAR" | "CHARACTER" | "NCHAR" => {
                let length = self.optional_length()?;
                let mut spec = TypeSpec::plain(ColumnType::Null);
                self.charset_attributes(&mut spec)?;
                let collation =
                    spec.charset.as_deref().map_or(Some(Collation::default()), Collation::of_charset);
                let Some(collation) = collation else {
                    let name = spec.charset.unwrap_or_default();
                    return Err(SqlError::new(1115, format!("Unknown character set: '{name}'")));
                };
                match length {
                    Some(length) => ColumnType::VarChar { length: length as u32, collation },
                    None => ColumnType::Text { kind: LobKind::Long, collation },
                }
            }
            _ => return Err(self.unexpected()),
        })
    }
}
