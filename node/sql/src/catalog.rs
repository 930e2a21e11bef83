//! Definitions of tables, and where they are kept: rows under table id 0.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::collation::Collation;
use crate::error::SqlResult;
use crate::types::ColumnType;

/// A column's default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Default {
    /// `DEFAULT NULL`, written or implied.
    Null,
    /// A literal as text; it is converted to the column's type when used.
    Literal(String),
    /// `CURRENT_TIMESTAMP[(fsp)]`.
    CurrentTimestamp,
    /// `DEFAULT (expression)`: MySQL's text.
    Expression(String),
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnDef {
    /// Its name as written.
    pub name: String,
    /// Its type.
    pub ty: ColumnType,
    /// False for NOT NULL.
    pub nullable: bool,
    /// None: no default (1364 when it is left out of an INSERT).
    pub default: Option<Default>,
    /// AUTO_INCREMENT.
    pub auto_increment: bool,
    /// ON UPDATE CURRENT_TIMESTAMP.
    pub on_update_now: bool,
    /// COMMENT.
    pub comment: String,
    /// Number within the table that never changes and is never used again: names the column in stored rows.
    #[serde(default)]
    pub id: u32,
    /// What the column is, as text, in rows that were stored before it was added; `None`: NULL.
    #[serde(default)]
    pub added_with: Option<String>,
}

impl ColumnDef {
    /// A column that may be NULL and defaults to it.
    pub fn new(name: impl Into<String>, ty: ColumnType) -> Self {
        Self {
            name: name.into(),
            ty,
            nullable: true,
            default: Some(Default::Null),
            auto_increment: false,
            on_update_now: false,
            comment: String::new(),
            id: 0,
            added_with: None,
        }
    }
    /// A NOT NULL column without a default.
    pub fn required(name: impl Into<String>, ty: ColumnType) -> Self {
        Self { nullable: false, default: None, ..Self::new(name, ty) }
    }
}

/// An index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexDef {
    /// Its number within the table: 1 is the primary key's.
    pub id: u32,
    /// Its name: `PRIMARY` for the primary key.
    pub name: String,
    /// Ordinals into [`TableDef::columns`].
    pub columns: Vec<usize>,
    /// Prefix length in characters or bytes of each column (`KEY (name(10))`); may be empty: none has one.
    #[serde(default)]
    pub prefixes: Vec<Option<u32>>,
    /// UNIQUE or the primary key.
    pub unique: bool,
    /// The primary key.
    pub primary: bool,
    /// COMMENT.
    #[serde(default)]
    pub comment: String,
}

/// Whether a table can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, std::default::Default)]
pub enum TableState {
    /// As usual.
    #[default]
    Public,
    /// A long change is under way: reads only.
    ReadOnly,
}

/// A FOREIGN KEY. Kept and shown; not enforced yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignKey {
    /// Its name.
    pub name: String,
    /// Columns of this table, by name.
    pub columns: Vec<String>,
    /// The other table's database.
    pub parent_database: String,
    /// The other table.
    pub parent_table: String,
    /// Its columns, by name.
    pub parent_columns: Vec<String>,
    /// `RESTRICT`, `CASCADE`, `SET NULL`, `NO ACTION`.
    pub on_delete: String,
    /// As `on_delete`.
    pub on_update: String,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDef {
    /// Its number, never used again; begins the keys of its rows. 0 while it is being created.
    pub id: u32,
    /// Its database.
    pub database: String,
    /// Its name.
    pub name: String,
    /// Its columns in order.
    pub columns: Vec<ColumnDef>,
    /// Its indexes. The primary key is the first; a table without one has a hidden key and no index here
    /// that is `primary`.
    pub indexes: Vec<IndexDef>,
    /// The smallest AUTO_INCREMENT value to give out, where the table has been told one.
    pub auto_increment: Option<u64>,
    /// Default collation of columns.
    pub collation: Collation,
    /// COMMENT.
    pub comment: String,
    /// The ENGINE shown: `InnoDB`.
    pub engine: String,
    /// Grows with every change of the table.
    pub version: u64,
    /// Whether it can be written.
    #[serde(default)]
    pub state: TableState,
    /// Next free column id.
    #[serde(default)]
    pub next_column_id: u32,
    /// Next free index id.
    #[serde(default)]
    pub next_index_id: u32,
    /// Foreign keys.
    #[serde(default)]
    pub foreign_keys: Vec<ForeignKey>,
    /// Seconds since 1970 when it was created.
    #[serde(default)]
    pub created: u64,
}

impl TableDef {
    /// The ordinal of a column, whatever the case of its letters.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name))
    }
    /// An index by its name.
    pub fn index(&self, name: &str) -> Option<&IndexDef> {
        self.indexes.iter().find(|i| i.name.eq_ignore_ascii_case(name))
    }
    /// The primary key; `None` if the table has only a hidden one.
    pub fn primary(&self) -> Option<&IndexDef> {
        self.indexes.iter().find(|i| i.primary)
    }
    /// The ordinal of the AUTO_INCREMENT column.
    pub fn auto_increment_column(&self) -> Option<usize> {
        self.columns.iter().position(|c| c.auto_increment)
    }
    /// The flags of a column for the protocol (see [`crate::types::flags`]).
    pub fn column_flags(&self, ordinal: usize) -> u16 {
        use crate::types::flags;
        let column = &self.columns[ordinal];
        let mut all = crate::types::type_flags(&column.ty);
        if !column.nullable {
            all |= flags::NOT_NULL;
        }
        if column.auto_increment {
            all |= flags::AUTO_INCREMENT;
        }
        if column.default.is_none() && !column.auto_increment {
            all |= flags::NO_DEFAULT_VALUE;
        }
        for index in &self.indexes {
            let Some(place) = index.columns.iter().position(|&c| c == ordinal) else { continue };
            all |= if index.primary {
                flags::PRI_KEY
            } else if index.unique && index.columns.len() == 1 {
                flags::UNIQUE_KEY
            } else if place == 0 {
                flags::MULTIPLE_KEY
            } else {
                0
            };
        }
        all
    }
}

/// A database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseDef {
    /// Its name.
    pub name: String,
    /// Default collation of its tables.
    pub collation: Collation,
}

/// What can be looked up while a statement is translated. Includes `information_schema` and the few
/// tables of `mysql` and `performance_schema` that are computed ([`crate::information_schema`]).
pub trait Catalog {
    /// A table; `None` if there is none. Database names and table names are case-sensitive, except those
    /// of `information_schema`.
    ///
    /// # Errors
    ///
    /// Those of reading the catalog's rows.
    fn table(&self, database: &str, table: &str) -> SqlResult<Option<Arc<TableDef>>>;
    /// The tables of a database in order of their names.
    ///
    /// # Errors
    ///
    /// As [`Catalog::table`].
    fn tables(&self, database: &str) -> SqlResult<Vec<Arc<TableDef>>>;
    /// Every database in order of their names.
    ///
    /// # Errors
    ///
    /// As [`Catalog::table`].
    fn databases(&self) -> SqlResult<Vec<DatabaseDef>>;
    /// A database; `None` if there is none.
    ///
    /// # Errors
    ///
    /// As [`Catalog::table`].
    fn database(&self, name: &str) -> SqlResult<Option<DatabaseDef>> {
        Ok(self.databases()?.into_iter().find(|d| d.name == name))
    }
}
