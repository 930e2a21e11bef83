//! MySQL statements as they are written, before names are looked up.

use crate::plan::Scope;
use crate::types::ColumnType;

/// An expression and its place in the text (a result column is named by it).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expr {
    pub(crate) kind: ExprKind,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// A quantity of time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Interval {
    pub(crate) amount: Expr,
    /// `DAY`, `MINUTE_SECOND`, … in upper case.
    pub(crate) unit: String,
}

/// The kinds of operators between two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BinaryOp {
    Or,
    Xor,
    And,
    Equal,
    NullSafeEqual,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    BitOr,
    BitAnd,
    ShiftLeft,
    ShiftRight,
    Add,
    Subtract,
    Multiply,
    Divide,
    IntegerDivide,
    Modulo,
    BitXor,
    Concat,
}

impl BinaryOp {
    pub(crate) fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Equal
                | Self::NullSafeEqual
                | Self::NotEqual
                | Self::Less
                | Self::LessEqual
                | Self::Greater
                | Self::GreaterEqual
        )
    }
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ExprKind {
    Null,
    Bool(bool),
    Int(u64),
    Decimal(String),
    Double(f64),
    Str(String),
    Bytes(Vec<u8>),
    /// `DATE '…'`, `TIME '…'`, `TIMESTAMP '…'`.
    Temporal(ColumnType, String),
    /// A parameter, counted from 0.
    Param(usize),
    /// `[[db.]table.]column`.
    Column {
        qualifier: Vec<String>,
        name: String,
    },
    UserVar(String),
    Assign(String, Box<Expr>),
    SysVar(Option<Scope>, String),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    BitNot(Box<Expr>),
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    IsNull(Box<Expr>, bool),
    /// IS [NOT] TRUE / FALSE / UNKNOWN (None).
    IsBool(Box<Expr>, Option<bool>, bool),
    In(Box<Expr>, Vec<Expr>, bool),
    InQuery(Box<Expr>, Box<Query>, bool),
    /// `x > ALL (SELECT …)`; true: ALL.
    Quantified(BinaryOp, Box<Expr>, bool, Box<Query>),
    Between(Box<Expr>, Box<Expr>, Box<Expr>, bool),
    Like {
        value: Box<Expr>,
        pattern: Box<Expr>,
        escape: Option<Box<Expr>>,
        not: bool,
    },
    Regexp(Box<Expr>, Box<Expr>, bool),
    Case {
        operand: Option<Box<Expr>>,
        whens: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
    },
    Cast(Box<Expr>, ColumnType),
    /// CONVERT(x USING charset), also `_charset'x'`.
    Using(Box<Expr>, String),
    Collate(Box<Expr>, String),
    /// BINARY x.
    Binaried(Box<Expr>),
    Function(Box<Call>),
    /// `x + INTERVAL …`, DATE_ADD; true: subtract.
    DateAdd(Box<Expr>, Box<Interval>, bool),
    Exists(Box<Query>),
    Subquery(Box<Query>),
    Row(Vec<Expr>),
    /// VALUES(column).
    Values(String),
    /// DEFAULT, DEFAULT(column).
    Default(Option<String>),
}

/// A call of a function.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    /// In lower case.
    pub(crate) name: String,
    pub(crate) args: Vec<Expr>,
    pub(crate) distinct: bool,
    /// COUNT(*).
    pub(crate) star: bool,
    pub(crate) order_by: Vec<OrderItem>,
    pub(crate) separator: Option<String>,
    pub(crate) over: Option<Window>,
    /// The unit of EXTRACT, TIMESTAMPDIFF, TIMESTAMPADD; LEADING / TRAILING / BOTH of TRIM.
    pub(crate) keyword: Option<String>,
}

/// A window.
#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) struct Window {
    /// OVER name.
    pub(crate) name: Option<String>,
    pub(crate) partition_by: Vec<Expr>,
    pub(crate) order_by: Vec<OrderItem>,
    /// As written; SQLite's syntax is the same.
    pub(crate) frame: Option<String>,
}

/// A term of ORDER BY.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OrderItem {
    pub(crate) expr: Expr,
    pub(crate) descending: bool,
}

/// A query with all that may be around it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Query {
    pub(crate) with: Vec<Cte>,
    pub(crate) recursive: bool,
    pub(crate) body: Body,
    pub(crate) order_by: Vec<OrderItem>,
    pub(crate) limit: Option<Limit>,
    pub(crate) locking: Option<Locking>,
    /// INTO @a, @b.
    pub(crate) into: Vec<String>,
}

/// LIMIT.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Limit {
    pub(crate) count: Expr,
    pub(crate) offset: Option<Expr>,
}

/// FOR UPDATE / SHARE.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Locking {
    pub(crate) share: bool,
    /// OF these tables; empty: all.
    pub(crate) of: Vec<String>,
}

/// WITH.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cte {
    pub(crate) name: String,
    pub(crate) columns: Vec<String>,
    pub(crate) query: Query,
}

/// UNION and its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetOp {
    Union,
    Intersect,
    Except,
}

/// What gives the rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Body {
    Select(Box<Select>),
    Set { op: SetOp, all: bool, left: Box<Body>, right: Box<Body> },
    Nested(Box<Query>),
    Values(Vec<Vec<Expr>>),
}

/// SELECT.
#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) struct Select {
    pub(crate) distinct: bool,
    pub(crate) calc_found_rows: bool,
    pub(crate) items: Vec<Item>,
    pub(crate) from: Option<TableRef>,
    pub(crate) filter: Option<Expr>,
    pub(crate) group_by: Vec<OrderItem>,
    pub(crate) rollup: bool,
    pub(crate) having: Option<Expr>,
    pub(crate) windows: Vec<(String, Window)>,
}

/// A select item.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    /// `*`, `t.*`, `db.t.*`.
    Star(Vec<String>),
    /// An expression with its alias.
    Expr(Expr, Option<String>),
}

/// Kinds of joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinKind {
    Inner,
    Left,
    Right,
}

/// ON, USING, NATURAL.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum JoinCondition {
    None,
    On(Expr),
    Using(Vec<String>),
    Natural,
}

/// What a FROM is made of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TableRef {
    Table { database: Option<String>, name: String, alias: Option<String>, start: usize },
    Derived { query: Box<Query>, alias: String, columns: Vec<String> },
    Join { left: Box<TableRef>, right: Box<TableRef>, kind: JoinKind, condition: JoinCondition },
}

/// `[db.]table`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) database: Option<String>,
    pub(crate) name: String,
}

/// INSERT and REPLACE.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InsertStatement {
    pub(crate) replace: bool,
    pub(crate) ignore: bool,
    pub(crate) table: Name,
    pub(crate) columns: Option<Vec<String>>,
    pub(crate) source: InsertValues,
    /// AS alias(columns).
    pub(crate) row_alias: Option<(String, Vec<String>)>,
    pub(crate) on_duplicate: Vec<(String, Expr)>,
}

/// Where the rows of an INSERT come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum InsertValues {
    Rows(Vec<Vec<Expr>>),
    Query(Box<Query>),
}

/// UPDATE.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UpdateStatement {
    pub(crate) ignore: bool,
    pub(crate) with: Vec<Cte>,
    pub(crate) recursive: bool,
    pub(crate) tables: TableRef,
    /// `(qualifier, column, value)`.
    pub(crate) assignments: Vec<(Vec<String>, String, Expr)>,
    pub(crate) filter: Option<Expr>,
    pub(crate) order_by: Vec<OrderItem>,
    pub(crate) limit: Option<Limit>,
}

/// DELETE.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DeleteStatement {
    pub(crate) ignore: bool,
    pub(crate) with: Vec<Cte>,
    pub(crate) recursive: bool,
    /// Names or aliases of what is deleted from; empty: the only table.
    pub(crate) targets: Vec<Name>,
    pub(crate) tables: TableRef,
    pub(crate) filter: Option<Expr>,
    pub(crate) order_by: Vec<OrderItem>,
    pub(crate) limit: Option<Limit>,
}

/// A column of CREATE TABLE / ALTER TABLE. Collations stay names until the table's default is known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ColumnSpec {
    pub(crate) name: String,
    pub(crate) ty: TypeSpec,
    pub(crate) nullable: Option<bool>,
    pub(crate) default: Option<DefaultSpec>,
    pub(crate) auto_increment: bool,
    pub(crate) on_update_now: bool,
    pub(crate) comment: String,
    pub(crate) primary: bool,
    pub(crate) unique: bool,
    pub(crate) references: Option<ForeignSpec>,
}

/// DEFAULT of a column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum DefaultSpec {
    Null,
    Literal(String),
    Now,
    Expression(String),
}

/// A type, with the collation still by name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TypeSpec {
    pub(crate) ty: ColumnType,
    pub(crate) charset: Option<String>,
    pub(crate) collation: Option<String>,
    /// SERIAL.
    pub(crate) serial: bool,
}

/// FOREIGN KEY.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ForeignSpec {
    pub(crate) name: Option<String>,
    pub(crate) columns: Vec<String>,
    pub(crate) parent: Name,
    pub(crate) parent_columns: Vec<String>,
    pub(crate) on_delete: String,
    pub(crate) on_update: String,
}

/// A line of CREATE TABLE.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TableItem {
    Column(Box<ColumnSpec>),
    Index(crate::plan::IndexSpec),
    Foreign(ForeignSpec),
    /// CHECK: read, not enforced.
    Check,
}

/// What comes after the parenthesis of CREATE TABLE.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TableOptions {
    pub(crate) charset: Option<String>,
    pub(crate) collation: Option<String>,
    pub(crate) comment: Option<String>,
    pub(crate) auto_increment: Option<u64>,
}

/// CREATE TABLE.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CreateTable {
    pub(crate) name: Name,
    pub(crate) if_not_exists: bool,
    pub(crate) items: Vec<TableItem>,
    pub(crate) options: TableOptions,
    pub(crate) select: Option<Query>,
}

/// A part of ALTER TABLE.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AlterItem {
    AddColumn(Box<ColumnSpec>, crate::plan::Position),
    Add(TableItem),
    DropColumn(String),
    Modify(Option<String>, Box<ColumnSpec>, crate::plan::Position),
    RenameColumn(String, String),
    SetDefault(String, Option<DefaultSpec>),
    DropIndex(String),
    DropForeignKey(String),
    RenameIndex(String, String),
    Rename(Name),
    Options(TableOptions),
    Nothing,
}

/// What SHOW shows, beside a pattern.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ShowStatement {
    pub(crate) what: ShowWhat,
    pub(crate) like: Option<String>,
    /// The text of WHERE's expression.
    pub(crate) filter: Option<String>,
}

/// What SHOW shows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ShowWhat {
    Databases,
    Tables { database: Option<String>, full: bool },
    TableStatus { database: Option<String> },
    Columns { table: Name, full: bool },
    Index { table: Name },
    CreateTable(Name),
    CreateDatabase { name: String, if_not_exists: bool },
    Variables(Scope),
    Status(Scope),
    Processlist { full: bool },
    Engines,
    Collation,
    CharacterSet,
    Warnings { limit: Option<(u64, u64)> },
    Errors { limit: Option<(u64, u64)> },
    CountWarnings,
    CountErrors,
    Grants,
    Privileges,
    Plugins,
    Events,
    Triggers,
    Routines,
    OpenTables,
    MasterStatus,
    ReplicaStatus,
    BinaryLogs,
    EngineStatus,
}

/// A part of SET.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SetPart {
    /// Scope, name, value; value `None`: DEFAULT.
    System(Scope, String, Option<Expr>),
    User(String, Expr),
    Names {
        charset: Option<String>,
        collation: Option<String>,
    },
}

/// A statement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Statement {
    Query(Box<Query>),
    Insert(Box<InsertStatement>),
    Update(Box<UpdateStatement>),
    Delete(Box<DeleteStatement>),
    Explain(Box<Statement>),
    CreateDatabase {
        name: String,
        if_not_exists: bool,
        charset: Option<String>,
        collation: Option<String>,
    },
    DropDatabase {
        name: String,
        if_exists: bool,
    },
    CreateTable(Box<CreateTable>),
    CreateTableLike {
        name: Name,
        like: Name,
        if_not_exists: bool,
    },
    DropTable {
        tables: Vec<Name>,
        if_exists: bool,
    },
    Truncate(Name),
    RenameTable(Vec<(Name, Name)>),
    AlterTable {
        table: Name,
        items: Vec<AlterItem>,
    },
    CreateIndex {
        table: Name,
        index: crate::plan::IndexSpec,
    },
    DropIndex {
        table: Name,
        name: String,
    },
    Transaction(crate::plan::Transaction),
    Set(Vec<SetPart>),
    Use(String),
    Show(ShowStatement),
    Prepare {
        name: String,
        text: Expr,
    },
    Execute {
        name: String,
        using: Vec<String>,
    },
    Deallocate(String),
    Do(Vec<Expr>),
    Kill {
        connection: bool,
        id: u64,
    },
    AlterSystem(String),
    /// ANALYZE, CHECK, OPTIMIZE, REPAIR TABLE: answers a row per table.
    TableMaintenance {
        operation: &'static str,
        tables: Vec<Name>,
    },
    Nothing {
        commits: bool,
    },
}
