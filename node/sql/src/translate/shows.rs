//! SHOW: most of it is a query on `information_schema`, written in MySQL's SQL and translated like any other.

use super::ast::{Name, ShowStatement, ShowWhat, Statement as Ast};
use super::binder::Binder;
use super::{lexer::LexMode, parser};
use crate::error::{SqlError, SqlResult};
use crate::plan::{Scope, Statement};
use crate::show::Show;

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

fn name(value: &str) -> String {
    format!("`{}`", value.replace('`', "``"))
}

/// A query, and which of its columns LIKE looks at.
struct ShowQuery {
    sql: String,
    like: &'static str,
}

impl Binder<'_> {
    /// SHOW.
    pub(crate) fn show(&mut self, show: &ShowStatement) -> SqlResult<Statement> {
        if let Some(computed) = self.computed(&show.what)? {
            return Ok(Statement::Show(computed));
        }
        let query = self.show_query(&show.what)?;
        let mut sql = query.sql;
        if let Some(pattern) = &show.like {
            let column = if query.like.is_empty() {
                format!("`{}`", self.tables_heading(&show.what)?)
            } else {
                format!("`{}`", query.like)
            };
            sql = format!("SELECT * FROM ({sql}) shown WHERE {column} LIKE {}", text(pattern));
        } else if let Some(filter) = &show.filter {
            sql = format!("SELECT * FROM ({sql}) shown WHERE {filter}");
        }
        let (statement, _) = parser::parse(&sql, LexMode::default())?;
        let Ast::Query(parsed) = statement else { return Err(SqlError::internal("SHOW gave no query")) };
        self.cacheable = false;
        let (translated, columns) = self.query(&parsed)?;
        Ok(Statement::Query(self.finish(translated, columns)))
    }

    fn computed(&self, what: &ShowWhat) -> SqlResult<Option<Show>> {
        Ok(Some(match what {
            ShowWhat::CreateTable(name) => {
                let table = self.table(name)?;
                Show::CreateTable { database: table.database.clone(), table: table.name.clone() }
            }
            ShowWhat::CreateDatabase { name, if_not_exists } => {
                let Some(database) = self.ctx.catalog.database(name)? else {
                    return Err(SqlError::unknown_database(name));
                };
                Show::CreateDatabase { name: database.name, if_not_exists: *if_not_exists }
            }
            ShowWhat::Warnings { limit } => Show::Warnings { errors_only: false, limit: *limit },
            ShowWhat::Errors { limit } => Show::Warnings { errors_only: true, limit: *limit },
            ShowWhat::CountWarnings => Show::WarningCount { errors_only: false },
            ShowWhat::CountErrors => Show::WarningCount { errors_only: true },
            ShowWhat::Grants => Show::Grants,
            ShowWhat::MasterStatus => {
                Show::Empty(&["File", "Position", "Binlog_Do_DB", "Binlog_Ignore_DB", "Executed_Gtid_Set"])
            }
            ShowWhat::ReplicaStatus => {
                Show::Empty(&["Slave_IO_State", "Master_Host", "Master_User", "Master_Port"])
            }
            ShowWhat::BinaryLogs => return Err(SqlError::new(1381, "You are not using binary logging")),
            ShowWhat::EngineStatus => Show::Empty(&["Type", "Name", "Status"]),
            ShowWhat::OpenTables => Show::Empty(&["Database", "Table", "In_use", "Name_locked"]),
            ShowWhat::Events => Show::Empty(&["Db", "Name", "Definer", "Time zone", "Type", "Status"]),
            ShowWhat::Triggers => {
                Show::Empty(&["Trigger", "Event", "Table", "Statement", "Timing", "Created"])
            }
            ShowWhat::Routines => Show::Empty(&["Db", "Name", "Type", "Definer", "Modified", "Created"]),
            ShowWhat::Privileges => Show::Empty(&["Privilege", "Context", "Comment"]),
            _ => return Ok(None),
        }))
    }

    fn shown_database(&self, database: Option<&String>) -> SqlResult<String> {
        let name = Name { database: database.cloned(), name: String::new() };
        let database = self.database_of(&name)?;
        if self.ctx.catalog.database(&database)?.is_none() {
            return Err(SqlError::unknown_database(&database));
        }
        Ok(database)
    }

    fn tables_heading(&self, what: &ShowWhat) -> SqlResult<String> {
        let ShowWhat::Tables { database, .. } = what else { return Ok(String::new()) };
        Ok(format!("Tables_in_{}", self.shown_database(database.as_ref())?).replace('`', "``"))
    }

    fn show_query(&self, what: &ShowWhat) -> SqlResult<ShowQuery> {
        let (sql, like) = match what {
            ShowWhat::Databases => {
                ("SELECT SCHEMA_NAME AS `Database` FROM information_schema.schemata ORDER BY 1".to_owned(), "Database")
            }
            ShowWhat::Tables { database, full } => {
                let database = self.shown_database(database.as_ref())?;
                let heading = name(&format!("Tables_in_{database}"));
                let kind = if *full { ", TABLE_TYPE AS `Table_type`" } else { "" };
                let sql = format!(
                    "SELECT TABLE_NAME AS {heading}{kind} FROM information_schema.tables WHERE TABLE_SCHEMA = {} ORDER BY 1",
                    text(&database)
                );
                (sql, "")
            }
            ShowWhat::TableStatus { database } => {
                let database = self.shown_database(database.as_ref())?;
                (table_status(&database), "Name")
            }
            ShowWhat::Columns { table, full } => {
                let table = self.table(table)?;
                (columns_query(&table.database, &table.name, *full), "Field")
            }
            ShowWhat::Index { table } => {
                let table = self.table(table)?;
                (index_query(&table.database, &table.name), "Key_name")
            }
            ShowWhat::Variables(scope) => (named_values("variables", *scope), "Variable_name"),
            ShowWhat::Status(scope) => (named_values("status", *scope), "Variable_name"),
            ShowWhat::Processlist { full } => {
                let info = if *full { "INFO" } else { "LEFT(INFO, 100)" };
                let sql = format!(
                    "SELECT ID AS Id, USER AS `User`, HOST AS Host, DB AS db, COMMAND AS Command, TIME AS `Time`, STATE AS State, {info} AS Info FROM information_schema.processlist ORDER BY ID"
                );
                (sql, "Info")
            }
            ShowWhat::Engines => (
                "SELECT ENGINE AS Engine, SUPPORT AS Support, COMMENT AS `Comment`, TRANSACTIONS AS Transactions, XA, SAVEPOINTS AS Savepoints FROM information_schema.engines".to_owned(),
                "Engine",
            ),
            ShowWhat::Collation => (
                "SELECT COLLATION_NAME AS `Collation`, CHARACTER_SET_NAME AS `Charset`, ID AS Id, IS_DEFAULT AS `Default`, IS_COMPILED AS Compiled, SORTLEN AS Sortlen, PAD_ATTRIBUTE AS Pad_attribute FROM information_schema.collations ORDER BY 1".to_owned(),
                "Collation",
            ),
            ShowWhat::CharacterSet => (
                "SELECT CHARACTER_SET_NAME AS `Charset`, DESCRIPTION AS Description, DEFAULT_COLLATE_NAME AS `Default collation`, MAXLEN AS Maxlen FROM information_schema.character_sets ORDER BY 1".to_owned(),
                "Charset",
            ),
            ShowWhat::Plugins => (
                "SELECT PLUGIN_NAME AS Name, PLUGIN_STATUS AS Status, PLUGIN_TYPE AS Type, PLUGIN_LIBRARY AS Library, PLUGIN_LICENSE AS License FROM information_schema.plugins".to_owned(),
                "Name",
            ),
            other => return Err(SqlError::internal(format!("no query for {other:?}"))),
        };
        Ok(ShowQuery { sql, like })
    }

    /// ANALYZE TABLE and its like: a row for each table, nothing to do.
    pub(crate) fn maintenance(&mut self, operation: &str, tables: &[Name]) -> SqlResult<Statement> {
        let mut rows = Vec::new();
        for table in tables {
            let database = self.database_of(table)?;
            let found = self.ctx.catalog.table(&database, &table.name)?.is_some();
            let missing = format!("Table '{database}.{}' doesn't exist", table.name);
            let (kind, message) = if found { ("status", "OK") } else { ("Error", missing.as_str()) };
            rows.push([
                format!("{database}.{}", table.name),
                operation.to_owned(),
                kind.to_owned(),
                message.to_owned(),
            ]);
        }
        Ok(Statement::Show(Show::Rows {
            columns: &["Table", "Op", "Msg_type", "Msg_text"],
            rows: rows.into_iter().map(Vec::from).collect(),
        }))
    }
}

fn named_values(kind: &str, scope: Scope) -> String {
    let scope = if scope == Scope::Global { "global" } else { "session" };
    format!(
        "SELECT VARIABLE_NAME AS Variable_name, VARIABLE_VALUE AS Value FROM performance_schema.{scope}_{kind} ORDER BY 1"
    )
}

fn columns_query(database: &str, table: &str, full: bool) -> String {
    let (collation, more) = if full {
        (", COLLATION_NAME AS `Collation`", ", PRIVILEGES AS `Privileges`, COLUMN_COMMENT AS `Comment`")
    } else {
        ("", "")
    };
    // The place orders the rows without being shown.
    format!(
        "SELECT COLUMN_NAME AS `Field`, COLUMN_TYPE AS `Type`{collation}, IS_NULLABLE AS `Null`, COLUMN_KEY AS `Key`, COLUMN_DEFAULT AS `Default`, EXTRA AS `Extra`{more} FROM information_schema.columns WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} ORDER BY ORDINAL_POSITION",
        text(database),
        text(table)
    )
}

fn index_query(database: &str, table: &str) -> String {
    format!(
        "SELECT TABLE_NAME AS `Table`, NON_UNIQUE AS Non_unique, INDEX_NAME AS Key_name, SEQ_IN_INDEX AS Seq_in_index, COLUMN_NAME AS Column_name, COLLATION AS `Collation`, CARDINALITY AS Cardinality, SUB_PART AS Sub_part, PACKED AS Packed, NULLABLE AS `Null`, INDEX_TYPE AS Index_type, COMMENT AS `Comment`, INDEX_COMMENT AS Index_comment, IS_VISIBLE AS Visible, EXPRESSION AS Expression FROM information_schema.statistics WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
        text(database),
        text(table)
    )
}

fn table_status(database: &str) -> String {
    format!(
        "SELECT TABLE_NAME AS Name, ENGINE AS Engine, VERSION AS Version, ROW_FORMAT AS Row_format, TABLE_ROWS AS `Rows`, AVG_ROW_LENGTH AS Avg_row_length, DATA_LENGTH AS Data_length, MAX_DATA_LENGTH AS Max_data_length, INDEX_LENGTH AS Index_length, DATA_FREE AS Data_free, AUTO_INCREMENT AS Auto_increment, CREATE_TIME AS Create_time, UPDATE_TIME AS Update_time, CHECK_TIME AS Check_time, TABLE_COLLATION AS `Collation`, CHECKSUM AS `Checksum`, CREATE_OPTIONS AS Create_options, TABLE_COMMENT AS `Comment` FROM information_schema.tables WHERE TABLE_SCHEMA = {} ORDER BY 1",
        text(database)
    )
}
