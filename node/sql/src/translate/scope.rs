//! Names in reach of an expression, and expressions with a type.

use std::sync::Arc;

use crate::catalog::TableDef;
use crate::collation::Collation;
use crate::types::{ColumnMeta, ColumnType, Value, flags};

use super::ast::Expr;

/// How strongly an operand holds to its collation: the smaller wins.
pub(crate) mod strength {
    /// COLLATE.
    pub(crate) const EXPLICIT: u8 = 0;
    /// A column.
    pub(crate) const COLUMN: u8 = 2;
    /// A result of a function of the session (USER(), a variable).
    pub(crate) const SYSTEM: u8 = 3;
    /// A literal.
    pub(crate) const LITERAL: u8 = 4;
    /// A number or a date.
    pub(crate) const NUMBER: u8 = 5;
}

/// An expression in SQLite's SQL with its MySQL type.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    /// SQLite's SQL; empty for literals, which become parameters when they are rendered.
    pub(crate) sql: String,
    pub(crate) ty: ColumnType,
    pub(crate) strength: u8,
    pub(crate) literal: Option<Value>,
    /// The client's parameter, whose type is not known.
    pub(crate) parameter: Option<usize>,
    /// Set for a column of a stored table as it is.
    pub(crate) column: Option<Box<ColumnMeta>>,
    pub(crate) nullable: bool,
}

impl Bound {
    pub(crate) fn new(sql: impl Into<String>, ty: ColumnType) -> Self {
        let strength = if ty.collation().is_some() { strength::LITERAL } else { strength::NUMBER };
        Self { sql: sql.into(), ty, strength, literal: None, parameter: None, column: None, nullable: true }
    }
    pub(crate) fn literal(value: Value, ty: ColumnType) -> Self {
        let nullable = value.is_null();
        Self { literal: Some(value), nullable, ..Self::new(String::new(), ty) }
    }
    pub(crate) fn not_null(mut self) -> Self {
        self.nullable = false;
        self
    }
    pub(crate) fn is_null_literal(&self) -> bool {
        matches!(self.literal, Some(Value::Null))
    }
    pub(crate) fn collation(&self) -> Option<Collation> {
        self.ty.collation()
    }
    /// The collation that SQLite takes from this operand without being told.
    pub(crate) fn implied_collation(&self) -> Option<&'static str> {
        self.column.as_ref().map(|_| self.ty.sqlite_collation())
    }
    /// What the client is told of the result column.
    pub(crate) fn meta(&self, name: String) -> ColumnMeta {
        match &self.column {
            Some(column) => {
                let mut meta = ColumnMeta { name, ..(**column).clone() };
                if self.nullable {
                    meta.flags &= !flags::NOT_NULL;
                }
                meta
            }
            None => {
                let mut meta = ColumnMeta::expression(name, self.ty.clone());
                if !self.nullable {
                    meta.flags |= flags::NOT_NULL;
                }
                meta
            }
        }
    }
}

/// A column in reach.
#[derive(Clone, Debug)]
pub(crate) struct ScopeColumn {
    pub(crate) name: String,
    pub(crate) ty: ColumnType,
    pub(crate) nullable: bool,
    /// SQLite's SQL.
    pub(crate) sql: String,
    /// For a stored table's column.
    pub(crate) meta: Option<Box<ColumnMeta>>,
}

/// A table in reach.
#[derive(Clone, Debug)]
pub(crate) struct ScopeTable {
    /// Its alias or name.
    pub(crate) alias: String,
    /// Its database, if it was named without alias.
    pub(crate) database: Option<String>,
    /// Its alias in SQLite's SQL.
    pub(crate) sql: String,
    pub(crate) columns: Vec<ScopeColumn>,
    pub(crate) table: Option<Arc<TableDef>>,
    /// The names of its columns are shown as they are defined, not as they are written.
    pub(crate) defined_names: bool,
}

impl ScopeTable {
    /// A stored table.
    pub(crate) fn stored(table: &Arc<TableDef>, alias: &str, sql: &str, named_database: bool) -> Self {
        let columns = table.columns.iter().enumerate().map(|(ordinal, column)| ScopeColumn {
            name: column.name.clone(),
            ty: column.ty.clone(),
            nullable: column.nullable,
            sql: format!("{sql}.{}", quote(&column.name)),
            meta: Some(Box::new(ColumnMeta {
                name: column.name.clone(),
                org_name: column.name.clone(),
                table: alias.to_owned(),
                org_table: table.name.clone(),
                database: table.database.clone(),
                ty: column.ty.clone(),
                flags: table.column_flags(ordinal),
            })),
        });
        let defined_names = table.id == 0
            && table.database.eq_ignore_ascii_case("information_schema")
            && !table.name.eq_ignore_ascii_case("replica_host_status");
        Self {
            alias: alias.to_owned(),
            database: named_database.then(|| table.database.clone()),
            sql: sql.to_owned(),
            columns: columns.collect(),
            table: Some(table.clone()),
            defined_names,
        }
    }
    /// A derived table whose columns are `c0`, `c1`, … in SQLite's SQL.
    pub(crate) fn derived(alias: &str, sql: &str, metas: &[ColumnMeta]) -> Self {
        let columns = metas.iter().enumerate().map(|(n, meta)| ScopeColumn {
            name: meta.name.clone(),
            ty: meta.ty.clone(),
            nullable: meta.flags & flags::NOT_NULL == 0,
            sql: format!("{sql}.c{n}"),
            meta: None,
        });
        Self {
            alias: alias.to_owned(),
            database: None,
            sql: sql.to_owned(),
            columns: columns.collect(),
            table: None,
            defined_names: false,
        }
    }
}

/// How names of select items are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AliasUse {
    /// Not at all (select items, WHERE, ON).
    No,
    /// After the columns of the tables (GROUP BY).
    AfterColumns,
    /// Before them (HAVING, ORDER BY).
    BeforeColumns,
}

/// What one SELECT can see.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) tables: Vec<ScopeTable>,
    /// Columns joined by USING or NATURAL: a name stands for this table's column.
    pub(crate) merged: Vec<(String, usize, usize)>,
    pub(crate) aliases: Vec<(String, Expr)>,
    pub(crate) alias_use: AliasUse,
    /// MySQL's name of the clause, for errors.
    pub(crate) place: &'static str,
}

impl Scope {
    pub(crate) fn new() -> Self {
        Self {
            tables: Vec::new(),
            merged: Vec::new(),
            aliases: Vec::new(),
            alias_use: AliasUse::No,
            place: "field list",
        }
    }
}

/// A quoted identifier of SQLite.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A quoted string of SQLite, for names of functions' options.
pub(crate) fn quote_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
