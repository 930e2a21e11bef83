//! What a translated statement is: the contract between [`crate::translate`] (which makes it from MySQL's
//! text) and [`crate::session`] and [`crate::change`] (which carry it out).
//!
//! SQL in here is SQLite's. A table is named by its module: `"db.table"`, or `"lk$db.table"` / `"ls$db.table"`
//! where the rows read are to be locked for update / share; `information_schema` tables likewise
//! (`"information_schema.tables"`). Every module has a hidden last column `_k` (BLOB): the key of the row,
//! which changes need. Parameters are numbered (`?1`, `?2`, …): `?N` is bound from `binds[N - 1]`.

use std::sync::Arc;

use crate::catalog::{ColumnDef, IndexDef, TableDef};
use crate::collation::Collation;
use crate::show::Show;
use crate::types::{ColumnMeta, Value};

/// Where the value of a SQLite parameter comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Bind {
    /// The client's parameter, counted from 0.
    Parameter(usize),
    /// A constant taken out of the statement.
    Constant(Value),
    /// ON DUPLICATE KEY UPDATE only: a column (ordinal in the table) of the row that is there.
    Old(usize),
    /// ON DUPLICATE KEY UPDATE only: a column of the row that could not be inserted (`VALUES(c)`).
    New(usize),
}

/// How the rows of a table reference are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// At the snapshot.
    Snapshot,
    /// `FOR UPDATE`, UPDATE, DELETE: module `lk$…`.
    Update,
    /// `FOR SHARE`: module `ls$…`.
    Share,
}

/// A table that a query reads; its module is registered before the query is prepared.
#[derive(Clone, Debug)]
pub struct TableUse {
    /// Its definition.
    pub table: Arc<TableDef>,
    /// How it is read.
    pub access: Access,
}

impl TableUse {
    /// The name of the module, unquoted.
    pub fn module(&self) -> String {
        module_name(&self.table.database, &self.table.name, self.access)
    }
}

/// The name of a table's module, unquoted: put it in double quotes (doubling any inside).
pub fn module_name(database: &str, table: &str, access: Access) -> String {
    let prefix = match access {
        Access::Snapshot => "",
        Access::Update => "lk$",
        Access::Share => "ls$",
    };
    format!("{prefix}{database}.{table}")
}

/// A SQLite SELECT.
#[derive(Clone, Debug)]
pub struct Query {
    /// SQLite's SQL.
    pub sql: String,
    /// Where its parameters come from.
    pub binds: Vec<Bind>,
    /// Its result columns. For queries that are part of a change, only the types are looked at.
    pub columns: Vec<ColumnMeta>,
    /// The tables it reads, each once per module.
    pub tables: Vec<TableUse>,
    /// `SKIP LOCKED` / `NOWAIT` are refused by the translator for now; FOR UPDATE or SHARE sets this.
    pub locking: bool,
}

/// A statement ready to be carried out.
#[derive(Clone, Debug)]
pub enum Statement {
    /// Rows for the client.
    Query(Query),
    /// `SELECT … INTO @a, @b`: at most one row.
    SelectInto(Query, Vec<String>),
    /// `EXPLAIN` of a query (`None`: of a change; its select is given).
    Explain(Query),
    /// INSERT and REPLACE.
    Insert(Insert),
    /// UPDATE.
    Update(Update),
    /// DELETE.
    Delete(Delete),
    /// A change of the catalog.
    Ddl(Ddl),
    /// BEGIN, COMMIT and so on.
    Transaction(Transaction),
    /// SET.
    Set(Vec<SetItem>),
    /// USE.
    Use(String),
    /// SHOW, DESCRIBE and other tables that are computed: see [`crate::show`].
    Show(Show),
    /// `PREPARE name FROM 'text'` / `FROM @v`: a query giving the text.
    Prepare {
        /// Its name, in lower case.
        name: String,
        /// Gives one row with the text.
        text: Query,
    },
    /// `EXECUTE name USING @a, @b`.
    Execute {
        /// Its name, in lower case.
        name: String,
        /// User variables, in lower case and without `@`.
        using: Vec<String>,
    },
    /// `DEALLOCATE PREPARE name`.
    Deallocate(String),
    /// `DO expr`: evaluated, no rows.
    Do(Query),
    /// `KILL [CONNECTION | QUERY] id`.
    Kill {
        /// The whole connection.
        connection: bool,
        /// Gives the number.
        id: u64,
    },
    /// `ALTER SYSTEM …` of Aurora (`CRASH`, `SIMULATE …`): the text after ALTER SYSTEM, for the host.
    AlterSystem(String),
    /// Accepted without effect: FLUSH, ANALYZE, LOCK TABLES, GRANT …; gives the client an OK.
    Nothing {
        /// Whether it commits an open transaction, as MySQL's own would.
        commits: bool,
    },
}

/// What translation gives.
#[derive(Clone, Debug)]
pub struct Translated {
    /// The statement.
    pub statement: Statement,
    /// How many `?` it has.
    pub parameters: usize,
    /// Whether the same text always gives the same plan while the catalog, the database and the `sql_mode`
    /// stay the same (false for what was translated with values of variables in it).
    pub cacheable: bool,
}

/// INSERT IGNORE and REPLACE differ in what a duplicate key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertKind {
    /// A duplicate is an error (or ON DUPLICATE KEY UPDATE's case).
    Insert,
    /// A duplicate is skipped, errors of values are warnings.
    Ignore,
    /// A duplicate is deleted first.
    Replace,
}

/// INSERT or REPLACE.
#[derive(Clone, Debug)]
pub struct Insert {
    /// The table.
    pub table: Arc<TableDef>,
    /// What a duplicate does.
    pub kind: InsertKind,
    /// The columns given (ordinals); the others get their defaults.
    pub columns: Vec<usize>,
    /// The rows.
    pub source: InsertSource,
    /// ON DUPLICATE KEY UPDATE.
    pub on_duplicate: Option<OnDuplicate>,
}

/// Where the rows of an INSERT come from.
#[derive(Clone, Debug)]
pub enum InsertSource {
    /// `VALUES`, `SET`.
    Rows(Vec<InsertRow>),
    /// `SELECT`: one result column per target column.
    Select(Query),
}

/// A row of VALUES: one cell per target column.
#[derive(Clone, Debug)]
pub struct InsertRow {
    /// The cells.
    pub cells: Vec<Cell>,
    /// Evaluates the cells that are expressions: one row. `None` if there are none.
    pub expressions: Option<Query>,
}

/// A value to insert.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// `DEFAULT` (also what `()` gives).
    Default,
    /// A literal or a parameter.
    Bind(Bind),
    /// A result column of [`InsertRow::expressions`].
    Expression(usize),
}

/// ON DUPLICATE KEY UPDATE: assignments from left to right, a later one seeing the earlier ones' values (the
/// translator puts them in place of the columns).
#[derive(Clone, Debug)]
pub struct OnDuplicate {
    /// The columns assigned (ordinals).
    pub columns: Vec<usize>,
    /// One row with a value per column; reads the old and the new row by [`Bind::Old`] and [`Bind::New`].
    pub values: Query,
}

/// UPDATE of one or several tables.
#[derive(Clone, Debug)]
pub struct Update {
    /// Gives keys and new values; reads its targets with [`Access::Update`].
    pub select: Query,
    /// The tables changed.
    pub targets: Vec<UpdateTarget>,
    /// UPDATE IGNORE.
    pub ignore: bool,
}

/// A table that an UPDATE changes.
#[derive(Clone, Debug)]
pub struct UpdateTarget {
    /// The table.
    pub table: Arc<TableDef>,
    /// Which result column of the select is its `_k` (NULL: no row, from an outer join).
    pub key: usize,
    /// `(ordinal in the table, which result column has its new value)`.
    pub assignments: Vec<(usize, usize)>,
}

/// DELETE from one or several tables.
#[derive(Clone, Debug)]
pub struct Delete {
    /// Gives keys; reads its targets with [`Access::Update`].
    pub select: Query,
    /// `(table, which result column is its _k)`.
    pub targets: Vec<(Arc<TableDef>, usize)>,
    /// DELETE IGNORE.
    pub ignore: bool,
}

/// A table's place: database (resolved by the translator) and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName {
    /// The database.
    pub database: String,
    /// The table.
    pub table: String,
}

/// A change of the catalog.
#[derive(Clone, Debug)]
pub enum Ddl {
    /// CREATE DATABASE.
    CreateDatabase {
        /// Its name.
        name: String,
        /// IF NOT EXISTS.
        if_not_exists: bool,
        /// Default collation.
        collation: Collation,
    },
    /// DROP DATABASE.
    DropDatabase {
        /// Its name.
        name: String,
        /// IF EXISTS.
        if_exists: bool,
    },
    /// CREATE TABLE with columns. Ids and versions are given by [`crate::ddl`].
    CreateTable {
        /// The definition, with ids 0. The primary key's index is named `PRIMARY`, others have names
        /// already (MySQL's rule: the first column's name, with `_2`, `_3` … if taken).
        table: Box<TableDef>,
        /// IF NOT EXISTS.
        if_not_exists: bool,
        /// `AS SELECT`: its result columns have been added to the definition by the translator; gives the
        /// values of the named columns (ordinals).
        select: Option<(Vec<usize>, Query)>,
    },
    /// CREATE TABLE LIKE.
    CreateTableLike {
        /// The new table.
        name: TableName,
        /// The old one.
        like: TableName,
        /// IF NOT EXISTS.
        if_not_exists: bool,
    },
    /// DROP TABLE.
    DropTable {
        /// Which.
        tables: Vec<TableName>,
        /// IF EXISTS.
        if_exists: bool,
    },
    /// TRUNCATE TABLE.
    Truncate(TableName),
    /// RENAME TABLE.
    Rename(Vec<(TableName, TableName)>),
    /// ALTER TABLE, CREATE INDEX, DROP INDEX.
    Alter {
        /// Which.
        table: TableName,
        /// What, in order.
        actions: Vec<AlterAction>,
    },
}

/// An index by the names of its columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexSpec {
    /// Its name; `None`: to be made up. The primary key's is `PRIMARY`.
    pub name: Option<String>,
    /// Names of columns, with prefix lengths.
    pub columns: Vec<(String, Option<u32>)>,
    /// UNIQUE.
    pub unique: bool,
    /// PRIMARY KEY.
    pub primary: bool,
    /// COMMENT.
    pub comment: String,
}

/// Where a new column goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// Last (or, for MODIFY, where it is).
    Default,
    /// FIRST.
    First,
    /// AFTER.
    After(String),
}

/// A part of ALTER TABLE.
#[derive(Clone, Debug)]
pub enum AlterAction {
    /// ADD COLUMN.
    AddColumn(ColumnDef, Position),
    /// DROP COLUMN.
    DropColumn {
        /// Its name.
        name: String,
    },
    /// MODIFY and CHANGE COLUMN.
    ModifyColumn {
        /// The name it has.
        old_name: String,
        /// What it becomes.
        column: ColumnDef,
        /// Where.
        position: Position,
    },
    /// RENAME COLUMN.
    RenameColumn {
        /// From.
        old_name: String,
        /// To.
        new_name: String,
    },
    /// ALTER COLUMN SET / DROP DEFAULT.
    SetDefault {
        /// Which.
        column: String,
        /// `None`: DROP DEFAULT.
        default: Option<crate::catalog::Default>,
    },
    /// ADD INDEX / UNIQUE / PRIMARY KEY, CREATE INDEX.
    AddIndex(IndexSpec),
    /// DROP INDEX / KEY / PRIMARY KEY (by the name `PRIMARY`).
    DropIndex {
        /// Its name.
        name: String,
        /// IF EXISTS.
        if_exists: bool,
    },
    /// RENAME INDEX.
    RenameIndex {
        /// From.
        old_name: String,
        /// To.
        new_name: String,
    },
    /// RENAME TO.
    RenameTable(TableName),
    /// `AUTO_INCREMENT = n`.
    AutoIncrement(u64),
    /// `COMMENT = '…'`.
    Comment(String),
    /// Default collation of columns to come.
    Collation(Collation),
    /// ADD FOREIGN KEY.
    AddForeignKey(crate::catalog::ForeignKey),
    /// DROP FOREIGN KEY.
    DropForeignKey(String),
    /// Accepted without effect (`ENGINE=InnoDB`, `ALGORITHM=`, `LOCK=`, `ENABLE KEYS`…).
    Nothing,
}

/// An index of [`TableDef`] from its specification is made by `ddl`; this type alias keeps the two apart.
pub type StoredIndex = IndexDef;

/// The isolation levels of MySQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsolationLevel {
    /// Read as READ COMMITTED here.
    ReadUncommitted,
    /// READ COMMITTED.
    ReadCommitted,
    /// REPEATABLE READ.
    RepeatableRead,
    /// Refused.
    Serializable,
}

/// Control of transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// BEGIN, START TRANSACTION.
    Begin {
        /// READ ONLY / READ WRITE.
        read_only: Option<bool>,
        /// WITH CONSISTENT SNAPSHOT.
        consistent_snapshot: bool,
    },
    /// COMMIT.
    Commit {
        /// AND CHAIN.
        chain: bool,
        /// RELEASE.
        release: bool,
    },
    /// ROLLBACK.
    Rollback {
        /// AND CHAIN.
        chain: bool,
        /// RELEASE.
        release: bool,
    },
    /// SAVEPOINT.
    Savepoint(String),
    /// ROLLBACK TO SAVEPOINT.
    RollbackTo(String),
    /// RELEASE SAVEPOINT.
    Release(String),
    /// SET [SESSION | GLOBAL] TRANSACTION …; scope `None`: the next transaction only.
    Set {
        /// Whose.
        scope: Option<Scope>,
        /// ISOLATION LEVEL.
        isolation: Option<IsolationLevel>,
        /// READ ONLY / READ WRITE.
        read_only: Option<bool>,
    },
}

/// Whose variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This session's.
    Session,
    /// Every new session's on this instance.
    Global,
}

/// A part of SET.
#[derive(Clone, Debug)]
pub enum SetItem {
    /// A system variable.
    Variable {
        /// Whose.
        scope: Scope,
        /// Its name in lower case.
        name: String,
        /// What to.
        value: SetValue,
    },
    /// `@name`.
    User {
        /// Its name in lower case, without `@`.
        name: String,
        /// What to.
        value: SetValue,
    },
    /// SET NAMES, SET CHARACTER SET.
    Names {
        /// The character set; `None`: DEFAULT.
        charset: Option<String>,
        /// COLLATE.
        collation: Option<String>,
    },
}

/// The value of a SET.
#[derive(Clone, Debug)]
pub enum SetValue {
    /// A literal, or a bare word (`SET x = ON`).
    Constant(Value),
    /// DEFAULT.
    Default,
    /// An expression: one row, one column.
    Expression(Query),
}
