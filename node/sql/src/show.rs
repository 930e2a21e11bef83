//! SHOW statements that are computed rather than queried: CREATE TABLE, warnings, grants.

use std::fmt::Write as _;

use crate::catalog::{Catalog, Default, TableDef};
use crate::context::{Context, Level};
use crate::error::{SqlError, SqlResult};
use crate::types::{ColumnMeta, ColumnType, Value};

/// What is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Show {
    /// SHOW CREATE TABLE.
    CreateTable {
        /// Its database.
        database: String,
        /// Its name.
        table: String,
    },
    /// SHOW CREATE DATABASE.
    CreateDatabase {
        /// Its name.
        name: String,
        /// Shown with IF NOT EXISTS.
        if_not_exists: bool,
    },
    /// SHOW WARNINGS, SHOW ERRORS.
    Warnings {
        /// SHOW ERRORS.
        errors_only: bool,
        /// `(offset, count)`.
        limit: Option<(u64, u64)>,
    },
    /// SHOW COUNT(*) WARNINGS.
    WarningCount {
        /// SHOW COUNT(*) ERRORS.
        errors_only: bool,
    },
    /// SHOW GRANTS.
    Grants,
    /// A table that is always empty here, by its columns.
    Empty(&'static [&'static str]),
    /// Rows known when the statement was translated.
    Rows {
        /// Names of the columns.
        columns: &'static [&'static str],
        /// The rows.
        rows: Vec<Vec<String>>,
    },
}

fn texts(names: &[&str]) -> Vec<ColumnMeta> {
    names.iter().map(|n| ColumnMeta::expression(*n, ColumnType::varchar(256))).collect()
}

/// The columns of the result, known before it runs.
pub fn columns(show: &Show) -> Vec<ColumnMeta> {
    match show {
        Show::CreateTable { .. } => {
            vec![
                ColumnMeta::expression("Table", ColumnType::varchar(64)),
                ColumnMeta::expression("Create Table", ColumnType::long_text()),
            ]
        }
        Show::CreateDatabase { .. } => texts(&["Database", "Create Database"]),
        Show::Warnings { .. } => vec![
            ColumnMeta::expression("Level", ColumnType::varchar(7)),
            ColumnMeta::expression("Code", ColumnType::INT),
            ColumnMeta::expression("Message", ColumnType::varchar(512)),
        ],
        Show::WarningCount { errors_only } => {
            let name = if *errors_only { "@@session.error_count" } else { "@@session.warning_count" };
            vec![ColumnMeta::expression(name, ColumnType::BIGINT_UNSIGNED)]
        }
        Show::Grants => texts(&["Grants"]),
        Show::Empty(names) | Show::Rows { columns: names, .. } => texts(names),
    }
}

/// Computes the rows.
///
/// # Errors
///
/// 1146 and 1049 for what has gone since the statement was translated.
pub fn run(
    show: &Show,
    catalog: &dyn Catalog,
    ctx: &Context,
) -> SqlResult<(Vec<ColumnMeta>, Vec<Vec<Value>>)> {
    let rows = match show {
        Show::CreateTable { database, table } => {
            let Some(found) = catalog.table(database, table)? else {
                return Err(SqlError::no_such_table(database, table));
            };
            vec![vec![Value::Text(found.name.clone()), Value::Text(create_table(&found))]]
        }
        Show::CreateDatabase { name, if_not_exists } => {
            let Some(found) = catalog.database(name)? else { return Err(SqlError::unknown_database(name)) };
            let condition = if *if_not_exists { "/*!32312 IF NOT EXISTS*/ " } else { "" };
            let sql = format!(
                "CREATE DATABASE {condition}{} /*!40100 DEFAULT CHARACTER SET {} COLLATE {} */ /*!80016 DEFAULT ENCRYPTION='N' */",
                quoted(name),
                found.collation.info().charset,
                found.collation.name()
            );
            vec![vec![Value::Text(name.clone()), Value::Text(sql)]]
        }
        Show::Warnings { errors_only, limit } => warnings(*errors_only, *limit, ctx),
        Show::WarningCount { errors_only } => {
            let session = ctx.session.lock();
            let errors = session.warnings.iter().filter(|w| w.level == Level::Error).count() as u64;
            vec![vec![Value::UInt(if *errors_only { errors } else { session.warning_count })]]
        }
        Show::Grants => {
            let user = ctx.session.lock().user.clone();
            let user = format!("`{user}`@`%`");
            vec![vec![Value::Text(format!("GRANT ALL PRIVILEGES ON *.* TO {user} WITH GRANT OPTION"))]]
        }
        Show::Empty(_) => Vec::new(),
        Show::Rows { rows, .. } => {
            rows.iter().map(|r| r.iter().map(|v| Value::Text(v.clone())).collect()).collect()
        }
    };
    Ok((columns(show), rows))
}

fn warnings(errors_only: bool, limit: Option<(u64, u64)>, ctx: &Context) -> Vec<Vec<Value>> {
    let session = ctx.session.lock();
    let (offset, count) = limit.unwrap_or((0, u64::MAX));
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    session
        .warnings
        .iter()
        .filter(|w| !errors_only || w.level == Level::Error)
        .skip(size(offset))
        .take(size(count))
        .map(|w| {
            let level = match w.level {
                Level::Note => "Note",
                Level::Warning => "Warning",
                Level::Error => "Error",
            };
            vec![Value::Text(level.to_owned()), Value::Int(i64::from(w.code)), Value::Text(w.message.clone())]
        })
        .collect()
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// The CREATE TABLE that makes the table again, as MySQL 8.0 prints it.
pub fn create_table(table: &TableDef) -> String {
    let mut lines = Vec::new();
    for column in &table.columns {
        lines.push(column_line(table, column));
    }
    for index in &table.indexes {
        let columns: Vec<String> = index
            .columns
            .iter()
            .enumerate()
            .map(|(n, ordinal)| {
                let prefix =
                    index.prefixes.get(n).copied().flatten().map_or(String::new(), |p| format!("({p})"));
                format!("{}{prefix}", quoted(&table.columns[*ordinal].name))
            })
            .collect();
        let columns = columns.join(",");
        let mut line = if index.primary {
            format!("  PRIMARY KEY ({columns})")
        } else {
            let unique = if index.unique { "UNIQUE " } else { "" };
            format!("  {unique}KEY {} ({columns})", quoted(&index.name))
        };
        if !index.comment.is_empty() {
            let _ = write!(line, " COMMENT {}", text(&index.comment));
        }
        lines.push(line);
    }
    for key in &table.foreign_keys {
        lines.push(foreign_line(table, key));
    }
    let mut sql = format!("CREATE TABLE {} (\n{}\n) ENGINE=InnoDB", quoted(&table.name), lines.join(",\n"));
    if let Some(next) = table.auto_increment.filter(|n| *n > 1) {
        let _ = write!(sql, " AUTO_INCREMENT={next}");
    }
    let info = table.collation.info();
    let _ = write!(sql, " DEFAULT CHARSET={} COLLATE={}", info.charset, info.name);
    if !table.comment.is_empty() {
        let _ = write!(sql, " COMMENT={}", text(&table.comment));
    }
    sql
}

fn foreign_line(table: &TableDef, key: &crate::catalog::ForeignKey) -> String {
    let list = |names: &[String]| names.iter().map(|n| quoted(n)).collect::<Vec<_>>().join(",");
    let parent = if key.parent_database == table.database {
        quoted(&key.parent_table)
    } else {
        format!("{}.{}", quoted(&key.parent_database), quoted(&key.parent_table))
    };
    let mut line = format!(
        "  CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {parent} ({})",
        quoted(&key.name),
        list(&key.columns),
        list(&key.parent_columns)
    );
    for (event, action) in [("DELETE", &key.on_delete), ("UPDATE", &key.on_update)] {
        if action != "NO ACTION" {
            let _ = write!(line, " ON {event} {action}");
        }
    }
    line
}

fn column_line(table: &TableDef, column: &crate::catalog::ColumnDef) -> String {
    let mut line = format!("  {} {}", quoted(&column.name), column.ty);
    if let Some(collation) = column.ty.collation()
        && collation != table.collation
    {
        let info = collation.info();
        if info.charset != table.collation.info().charset {
            let _ = write!(line, " CHARACTER SET {}", info.charset);
        }
        let _ = write!(line, " COLLATE {}", info.name);
    }
    let timestamp = matches!(column.ty, ColumnType::Timestamp(_));
    if !column.nullable {
        line.push_str(" NOT NULL");
    } else if timestamp {
        line.push_str(" NULL");
    }
    let large = matches!(column.ty, ColumnType::Text { .. } | ColumnType::Blob(_) | ColumnType::Json);
    let fsp = match column.ty.decimals() {
        0 | 31 => String::new(),
        digits => format!("({digits})"),
    };
    match &column.default {
        Some(Default::Null) if column.nullable && !large => line.push_str(" DEFAULT NULL"),
        Some(Default::Literal(value)) => {
            let _ = match column.ty {
                ColumnType::Bit(_) => {
                    write!(line, " DEFAULT b'{:b}'", value.parse::<u64>().unwrap_or(0))
                }
                _ => write!(line, " DEFAULT {}", text(value)),
            };
        }
        Some(Default::CurrentTimestamp) => {
            let _ = write!(line, " DEFAULT CURRENT_TIMESTAMP{fsp}");
        }
        Some(Default::Expression(expression)) => {
            let inner = expression.trim();
            let _ = if inner.starts_with('(') {
                write!(line, " DEFAULT {inner}")
            } else {
                write!(line, " DEFAULT ({inner})")
            };
        }
        _ => {}
    }
    if column.on_update_now {
        let _ = write!(line, " ON UPDATE CURRENT_TIMESTAMP{fsp}");
    }
    if column.auto_increment {
        line.push_str(" AUTO_INCREMENT");
    }
    if !column.comment.is_empty() {
        let _ = write!(line, " COMMENT {}", text(&column.comment));
    }
    line
}
