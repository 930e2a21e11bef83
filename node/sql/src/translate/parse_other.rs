//! Statements other than queries, changes and DDL: transactions, SET, SHOW, and what is accepted without
//! effect.

use super::ast::{Expr, ExprKind, Name, SetPart, ShowStatement, ShowWhat, Statement};
use super::lexer::Tok;
use super::parser::Parser;
use crate::error::{SqlError, SqlResult};
use crate::plan::{IsolationLevel, Scope, Transaction};

impl Parser<'_> {
    /// One statement.
    pub(crate) fn statement(&mut self) -> SqlResult<Statement> {
        let Tok::Word(word) = self.peek().clone() else {
            if self.is_op("(") {
                return Ok(Statement::Query(Box::new(self.query()?)));
            }
            return Err(self.unexpected());
        };
        match word.to_ascii_uppercase().as_str() {
            "SELECT" | "VALUES" | "TABLE" => Ok(Statement::Query(Box::new(self.query()?))),
            "WITH" => self.with_statement(),
            "INSERT" | "REPLACE" => self.insert(),
            "UPDATE" => self.update(),
            "DELETE" => self.delete(),
            "CREATE" => self.create(),
            "ALTER" => self.alter(),
            "DROP" => self.drop(),
            "TRUNCATE" => {
                self.advance();
                self.skip_word("TABLE");
                Ok(Statement::Truncate(self.name()?))
            }
            "RENAME" => self.rename(),
            "EXPLAIN" | "DESCRIBE" | "DESC" => self.explain(),
            "SET" => self.set(),
            "SHOW" => self.show(),
            "USE" => {
                self.advance();
                Ok(Statement::Use(self.identifier()?))
            }
            "PREPARE" | "EXECUTE" | "DEALLOCATE" => self.prepared(),
            "DO" => {
                self.advance();
                Ok(Statement::Do(self.list(Self::expr)?))
            }
            "KILL" => {
                self.advance();
                let connection = self.skip_any(&["CONNECTION", "QUERY"]) != Some("QUERY");
                Ok(Statement::Kill { connection, id: self.unsigned()? })
            }
            "BEGIN" | "START" | "COMMIT" | "ROLLBACK" | "SAVEPOINT" | "RELEASE" => self.transaction(),
            "ANALYZE" | "CHECK" | "OPTIMIZE" | "REPAIR" => self.maintenance(),
            "FLUSH" | "LOCK" | "UNLOCK" | "GRANT" | "REVOKE" | "RESET" | "PURGE" => {
                // UNLOCK commits only where tables are locked, and none ever is.
                let commits =
                    matches!(word.to_ascii_uppercase().as_str(), "LOCK" | "GRANT" | "REVOKE" | "FLUSH");
                if self.is_word_at(1, ";") || *self.peek_ahead(1) == Tok::End {
                    self.advance();
                    return Err(self.unexpected());
                }
                self.skip_rest();
                Ok(Statement::Nothing { commits })
            }
            "CALL" => {
                self.advance();
                let name = self.name()?;
                let name = name.database.map_or(name.name.clone(), |d| format!("{d}.{}", name.name));
                Err(SqlError::does_not_exist("PROCEDURE", &name))
            }
            "LOAD" => Err(SqlError::unsupported("LOAD DATA")),
            "XA" => Err(SqlError::unsupported("XA transactions")),
            "HANDLER" => Err(SqlError::unsupported("HANDLER")),
            _ => Err(self.unexpected()),
        }
    }

    fn with_statement(&mut self) -> SqlResult<Statement> {
        // What follows the WITH decides.
        let position = self.position();
        let parameters = self.parameters;
        self.with()?;
        let (update, delete) = (self.is_word("UPDATE"), self.is_word("DELETE"));
        self.rewind(position);
        self.parameters = parameters;
        if update {
            self.update()
        } else if delete {
            self.delete()
        } else {
            Ok(Statement::Query(Box::new(self.query()?)))
        }
    }

    fn rename(&mut self) -> SqlResult<Statement> {
        self.advance();
        if self.skip_any(&["TABLE", "TABLES"]).is_none() {
            return Err(self.unexpected());
        }
        Ok(Statement::RenameTable(self.list(|p| {
            let from = p.name()?;
            p.expect_word("TO")?;
            Ok((from, p.name()?))
        })?))
    }

    fn explain(&mut self) -> SqlResult<Statement> {
        self.advance();
        self.skip_any(&["EXTENDED", "PARTITIONS", "ANALYZE"]);
        if self.skip_word("FORMAT") {
            self.expect_op("=")?;
            self.identifier_or_string()?;
        }
        let statement = ["SELECT", "INSERT", "REPLACE", "UPDATE", "DELETE", "WITH", "TABLE"];
        if self.is_any(&statement) || self.is_op("(") {
            return Ok(Statement::Explain(Box::new(self.nested(Self::statement)?)));
        }
        let table = self.name()?;
        let like = match self.peek() {
            Tok::Str(_) => Some(self.string()?),
            _ => self.try_identifier(),
        };
        let what = ShowWhat::Columns { table, full: false };
        Ok(Statement::Show(ShowStatement { what, like, filter: None }))
    }

    fn prepared(&mut self) -> SqlResult<Statement> {
        match self.skip_any(&["PREPARE", "EXECUTE", "DEALLOCATE"]) {
            Some("PREPARE") => {
                let name = self.identifier()?.to_ascii_lowercase();
                self.expect_word("FROM")?;
                match self.peek() {
                    Tok::Str(_) | Tok::UserVar(_) => Ok(Statement::Prepare { name, text: self.expr()? }),
                    _ => Err(self.unexpected()),
                }
            }
            Some("EXECUTE") => {
                let name = self.identifier()?.to_ascii_lowercase();
                let using = if self.skip_word("USING") {
                    self.list(|p| match p.peek().clone() {
                        Tok::UserVar(name) => {
                            p.advance();
                            Ok(name.to_ascii_lowercase())
                        }
                        _ => Err(p.unexpected()),
                    })?
                } else {
                    Vec::new()
                };
                Ok(Statement::Execute { name, using })
            }
            _ => {
                self.expect_word("PREPARE")?;
                Ok(Statement::Deallocate(self.identifier()?.to_ascii_lowercase()))
            }
        }
    }

    fn transaction(&mut self) -> SqlResult<Statement> {
        let word = self.skip_any(&["BEGIN", "START", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"]);
        let transaction = match word {
            Some("BEGIN") => {
                self.skip_word("WORK");
                Transaction::Begin { read_only: None, consistent_snapshot: false }
            }
            Some("START") => {
                self.expect_word("TRANSACTION")?;
                self.start_transaction()?
            }
            Some("SAVEPOINT") => Transaction::Savepoint(self.identifier()?),
            Some("RELEASE") => {
                self.expect_word("SAVEPOINT")?;
                Transaction::Release(self.identifier()?)
            }
            Some("ROLLBACK") => {
                self.skip_word("WORK");
                if self.skip_word("TO") {
                    self.skip_word("SAVEPOINT");
                    Transaction::RollbackTo(self.identifier()?)
                } else {
                    let (chain, release) = self.completion()?;
                    Transaction::Rollback { chain, release }
                }
            }
            _ => {
                self.skip_word("WORK");
                let (chain, release) = self.completion()?;
                Transaction::Commit { chain, release }
            }
        };
        Ok(Statement::Transaction(transaction))
    }

    fn start_transaction(&mut self) -> SqlResult<Transaction> {
        let (mut read_only, mut consistent_snapshot) = (None, false);
        if *self.peek() != Tok::End && !self.is_op(";") {
            loop {
                if self.skip_words(&["WITH", "CONSISTENT", "SNAPSHOT"]) {
                    consistent_snapshot = true;
                } else if self.skip_words(&["READ", "ONLY"]) {
                    read_only = Some(true);
                } else if self.skip_words(&["READ", "WRITE"]) {
                    read_only = Some(false);
                } else {
                    return Err(self.unexpected());
                }
                if !self.skip_op(",") {
                    break;
                }
            }
        }
        Ok(Transaction::Begin { read_only, consistent_snapshot })
    }

    /// `[AND [NO] CHAIN] [[NO] RELEASE]`.
    fn completion(&mut self) -> SqlResult<(bool, bool)> {
        let (mut chain, mut release) = (false, false);
        if self.skip_word("AND") {
            chain = !self.skip_word("NO");
            self.expect_word("CHAIN")?;
        }
        if self.skip_words(&["NO", "RELEASE"]) {
        } else if self.skip_word("RELEASE") {
            release = true;
        }
        Ok((chain, release))
    }

    fn maintenance(&mut self) -> SqlResult<Statement> {
        let word = self.skip_any(&["ANALYZE", "CHECK", "OPTIMIZE", "REPAIR"]);
        let operation = match word {
            Some("ANALYZE") => "analyze",
            Some("CHECK") => "check",
            Some("OPTIMIZE") => "optimize",
            _ => "repair",
        };
        self.skip_any(&["NO_WRITE_TO_BINLOG", "LOCAL"]);
        if self.skip_any(&["TABLE", "TABLES"]).is_none() {
            if operation == "analyze" {
                // EXPLAIN ANALYZE's short form of MariaDB.
                return Ok(Statement::Explain(Box::new(self.nested(Self::statement)?)));
            }
            return Err(self.unexpected());
        }
        let tables = self.list(Self::name)?;
        self.skip_rest();
        Ok(Statement::TableMaintenance { operation, tables })
    }

    fn set(&mut self) -> SqlResult<Statement> {
        self.advance();
        let transaction_scope = match (self.peek_ahead(0).clone(), self.is_word_at(1, "TRANSACTION")) {
            (Tok::Word(word), true) if word.eq_ignore_ascii_case("GLOBAL") => Some(Some(Scope::Global)),
            (Tok::Word(word), true)
                if word.eq_ignore_ascii_case("SESSION") || word.eq_ignore_ascii_case("LOCAL") =>
            {
                Some(Some(Scope::Session))
            }
            _ if self.is_word("TRANSACTION") => Some(None),
            _ => None,
        };
        if let Some(scope) = transaction_scope {
            self.advance();
            if scope.is_some() {
                self.advance();
            }
            return self.set_transaction(scope);
        }
        if self.is_word("PASSWORD") || self.is_words(&["DEFAULT", "ROLE"]) || self.is_word("ROLE") {
            self.skip_rest();
            return Ok(Statement::Nothing { commits: false });
        }
        let mut scope = Scope::Session;
        Ok(Statement::Set(self.list(|p| p.set_part(&mut scope))?))
    }

    fn is_words(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(n, w)| self.is_word_at(n, w))
    }

    fn set_transaction(&mut self, scope: Option<Scope>) -> SqlResult<Statement> {
        let (mut isolation, mut read_only) = (None, None);
        loop {
            if self.skip_words(&["ISOLATION", "LEVEL"]) {
                isolation = Some(if self.skip_words(&["READ", "UNCOMMITTED"]) {
                    IsolationLevel::ReadUncommitted
                } else if self.skip_words(&["READ", "COMMITTED"]) {
                    IsolationLevel::ReadCommitted
                } else if self.skip_words(&["REPEATABLE", "READ"]) {
                    IsolationLevel::RepeatableRead
                } else if self.skip_word("SERIALIZABLE") {
                    IsolationLevel::Serializable
                } else {
                    return Err(self.unexpected());
                });
            } else if self.skip_words(&["READ", "ONLY"]) {
                read_only = Some(true);
            } else if self.skip_words(&["READ", "WRITE"]) {
                read_only = Some(false);
            } else {
                return Err(self.unexpected());
            }
            if !self.skip_op(",") {
                return Ok(Statement::Transaction(Transaction::Set { scope, isolation, read_only }));
            }
        }
    }

    fn set_part(&mut self, scope: &mut Scope) -> SqlResult<SetPart> {
        if self.skip_word("NAMES") {
            if self.skip_word("DEFAULT") {
                return Ok(SetPart::Names { charset: None, collation: None });
            }
            let charset = Some(self.identifier_or_string()?);
            let collation = if self.skip_word("COLLATE") { Some(self.identifier_or_string()?) } else { None };
            return Ok(SetPart::Names { charset, collation });
        }
        if self.skip_words(&["CHARACTER", "SET"]) || self.skip_word("CHARSET") {
            let charset = if self.skip_word("DEFAULT") { None } else { Some(self.identifier_or_string()?) };
            return Ok(SetPart::Names { charset, collation: None });
        }
        if let Tok::UserVar(name) = self.peek().clone() {
            self.advance();
            self.assign_op()?;
            return Ok(SetPart::User(name.to_ascii_lowercase(), self.expr()?));
        }
        let name = if *self.peek() == Tok::AtAt {
            self.advance();
            let (own, name) = self.system_variable()?;
            *scope = own.unwrap_or(Scope::Session);
            name
        } else {
            if !self.is_op_at(1, "=") && !self.is_op_at(1, ":=") {
                match self.skip_any(&["GLOBAL", "SESSION", "LOCAL", "PERSIST", "PERSIST_ONLY"]) {
                    Some("GLOBAL" | "PERSIST" | "PERSIST_ONLY") => *scope = Scope::Global,
                    Some(_) => *scope = Scope::Session,
                    None => {}
                }
            }
            let mut name = self.identifier_after_point()?;
            while self.skip_op(".") {
                name = format!("{name}.{}", self.identifier_after_point()?);
            }
            name.to_ascii_lowercase()
        };
        self.assign_op()?;
        Ok(SetPart::System(*scope, name, self.set_value()?))
    }

    fn assign_op(&mut self) -> SqlResult<()> {
        if self.skip_op("=") { Ok(()) } else { self.expect_op(":=") }
    }

    /// The value of a system variable: an expression, or a bare word (`ON`, `utf8mb4`, `binary`).
    fn set_value(&mut self) -> SqlResult<Option<Expr>> {
        let start = self.start();
        if let Tok::Word(word) = self.peek().clone() {
            let ends = matches!(self.peek_ahead(1), Tok::End | Tok::Op("," | ";"));
            if ends && word.eq_ignore_ascii_case("DEFAULT") {
                self.advance();
                return Ok(None);
            }
            let keyword = ["NULL", "TRUE", "FALSE"].iter().any(|k| word.eq_ignore_ascii_case(k));
            if ends && !keyword {
                self.advance();
                return Ok(Some(Expr { kind: ExprKind::Str(word), start, end: self.end() }));
            }
        }
        self.expr().map(Some)
    }

    fn show(&mut self) -> SqlResult<Statement> {
        self.advance();
        let what = self.show_what()?;
        let (mut like, mut filter) = (None, None);
        if self.skip_word("LIKE") {
            like = Some(self.string()?);
        } else if self.skip_word("WHERE") {
            let start = self.start();
            let expr = self.expr()?;
            filter = Some(self.text[start..expr.end].to_owned());
        }
        Ok(Statement::Show(ShowStatement { what, like, filter }))
    }

    fn in_database(&mut self) -> SqlResult<Option<String>> {
        if self.skip_any(&["FROM", "IN"]).is_some() { self.identifier().map(Some) } else { Ok(None) }
    }

    fn in_table(&mut self) -> SqlResult<Name> {
        if self.skip_any(&["FROM", "IN"]).is_none() {
            return Err(self.unexpected());
        }
        let mut table = self.name()?;
        if let Some(database) = self.in_database()? {
            table.database = Some(database);
        }
        Ok(table)
    }

    fn show_limit(&mut self) -> SqlResult<Option<(u64, u64)>> {
        if !self.skip_word("LIMIT") {
            return Ok(None);
        }
        let first = self.unsigned()?;
        if self.skip_op(",") {
            return Ok(Some((first, self.unsigned()?)));
        }
        Ok(Some((0, first)))
    }

    fn show_what(&mut self) -> SqlResult<ShowWhat> {
        let full = self.skip_word("FULL");
        self.skip_word("EXTENDED");
        let scope = match self.skip_any(&["GLOBAL", "SESSION", "LOCAL"]) {
            Some("GLOBAL") => Scope::Global,
            _ => Scope::Session,
        };
        let Tok::Word(word) = self.peek().clone() else {
            // SHOW COUNT(*) begins with a word too; anything else is no SHOW.
            return Err(self.unexpected());
        };
        let position = self.position();
        self.advance();
        Ok(match word.to_ascii_uppercase().as_str() {
            "DATABASES" | "SCHEMAS" => ShowWhat::Databases,
            "TABLES" => ShowWhat::Tables { database: self.in_database()?, full },
            "COLUMNS" | "FIELDS" => ShowWhat::Columns { table: self.in_table()?, full },
            "INDEX" | "INDEXES" | "KEYS" => ShowWhat::Index { table: self.in_table()? },
            "VARIABLES" => ShowWhat::Variables(scope),
            "STATUS" => ShowWhat::Status(scope),
            "PROCESSLIST" => ShowWhat::Processlist { full },
            "ENGINES" => ShowWhat::Engines,
            "STORAGE" if self.skip_word("ENGINES") => ShowWhat::Engines,
            "COLLATION" => ShowWhat::Collation,
            "CHARSET" => ShowWhat::CharacterSet,
            "CHARACTER" if self.skip_word("SET") => ShowWhat::CharacterSet,
            "WARNINGS" => ShowWhat::Warnings { limit: self.show_limit()? },
            "ERRORS" => ShowWhat::Errors { limit: self.show_limit()? },
            "COUNT" => {
                self.expect_op("(")?;
                self.expect_op("*")?;
                self.expect_op(")")?;
                match self.skip_any(&["WARNINGS", "ERRORS"]) {
                    Some("WARNINGS") => ShowWhat::CountWarnings,
                    Some(_) => ShowWhat::CountErrors,
                    None => return Err(self.unexpected()),
                }
            }
            "GRANTS" => {
                self.skip_rest();
                ShowWhat::Grants
            }
            "PRIVILEGES" => ShowWhat::Privileges,
            "PLUGINS" => ShowWhat::Plugins,
            "EVENTS" => {
                self.in_database()?;
                ShowWhat::Events
            }
            "TRIGGERS" => {
                self.in_database()?;
                ShowWhat::Triggers
            }
            "PROCEDURE" | "FUNCTION" if self.skip_word("STATUS") => ShowWhat::Routines,
            "OPEN" if self.skip_word("TABLES") => {
                self.in_database()?;
                ShowWhat::OpenTables
            }
            "TABLE" if self.skip_word("STATUS") => ShowWhat::TableStatus { database: self.in_database()? },
            "MASTER" if self.skip_word("STATUS") => ShowWhat::MasterStatus,
            "BINARY" if self.skip_word("LOG") && self.skip_word("STATUS") => ShowWhat::MasterStatus,
            "MASTER" | "BINARY" if self.skip_word("LOGS") => ShowWhat::BinaryLogs,
            "SLAVE" | "REPLICA" if self.skip_word("STATUS") => ShowWhat::ReplicaStatus,
            "ENGINE" => {
                self.skip_rest();
                ShowWhat::EngineStatus
            }
            "CREATE" => self.show_create()?,
            _ => {
                self.rewind(position);
                return Err(self.unexpected());
            }
        })
    }

    fn show_create(&mut self) -> SqlResult<ShowWhat> {
        if self.skip_word("TABLE") || self.skip_word("VIEW") {
            return Ok(ShowWhat::CreateTable(self.name()?));
        }
        if self.skip_any(&["DATABASE", "SCHEMA"]).is_some() {
            let if_not_exists = self.skip_words(&["IF", "NOT", "EXISTS"]);
            return Ok(ShowWhat::CreateDatabase { name: self.identifier()?, if_not_exists });
        }
        if let Some(kind) = self.skip_any(&["PROCEDURE", "FUNCTION", "TRIGGER", "EVENT"]) {
            let name = self.name()?;
            return Err(SqlError::does_not_exist(kind, &name.name));
        }
        Err(self.unexpected())
    }
}
