//! A client's session: the protocol's commands carried out by SQL.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use node_mysql::{
    CapabilityFlags, Column, ConnectionInfo, Handler, Interrupt, Interruption, MysqlError, Outcome, Prepared,
    ResultWriter, SessionStatus,
};
use node_sql::error::{SqlError, SqlResult};
use node_sql::session::{Completion, ResultSink, Session, SessionInterrupt, Sessions};
use node_sql::types::{ColumnMeta, Value};

use super::backend::to_mysql;
use super::values::{column, from_client, text_collation, to_client};

/// The session of one connection.
pub(super) struct SqlHandler {
    sessions: Arc<Sessions>,
    session: Session,
    interrupt: Arc<SwitchedInterrupt>,
    info: ConnectionInfo,
    multi_statements: bool,
    /// Columns of prepared statements, by the protocol's number.
    statements: HashMap<u32, Statement>,
    questions: Arc<AtomicU64>,
}

struct Statement {
    handle: u64,
    columns: Vec<ColumnMeta>,
}

/// Interrupts whichever session the connection has now: COM_CHANGE_USER gives it another one.
struct SwitchedInterrupt(parking_lot::Mutex<Arc<SessionInterrupt>>);

impl Interrupt for SwitchedInterrupt {
    fn interrupt(&self, _what: Interruption) {
        self.0.lock().interrupt();
    }
    fn rearm(&self) {
        self.0.lock().clear();
    }
}

impl SqlHandler {
    pub(super) fn open(
        sessions: Arc<Sessions>,
        info: ConnectionInfo,
        questions: Arc<AtomicU64>,
    ) -> SqlResult<Self> {
        let session = open_session(&sessions, &info)?;
        let interrupt = Arc::new(SwitchedInterrupt(parking_lot::Mutex::new(session.interrupt())));
        Ok(Self {
            sessions,
            session,
            interrupt,
            info,
            multi_statements: false,
            statements: HashMap::new(),
            questions,
        })
    }

    /// A new session in the place of the old one, whose transaction is rolled back.
    fn replace(&mut self, info: ConnectionInfo) -> Result<(), MysqlError> {
        self.session = open_session(&self.sessions, &info).map_err(to_mysql)?;
        *self.interrupt.0.lock() = self.session.interrupt();
        self.info = info;
        self.statements.clear();
        Ok(())
    }
}

fn open_session(sessions: &Sessions, info: &ConnectionInfo) -> SqlResult<Session> {
    let mut session = sessions.open(info.id.into(), &info.user, &info.host, info.database.as_deref())?;
    session.set_found_rows(info.capabilities.contains(CapabilityFlags::FOUND_ROWS));
    Ok(session)
}

fn text(sql: &[u8]) -> Result<&str, MysqlError> {
    str::from_utf8(sql).map_err(|error| {
        let at = &sql[error.valid_up_to()..];
        let shown: String = at.iter().take(6).map(|byte| format!("\\x{byte:02X}")).collect();
        MysqlError::new(1300, "HY000", format!("Invalid utf8mb4 character string: '{shown}'"))
    })
}

/// Passes results on to the client.
struct Sink<'a> {
    out: &'a mut dyn ResultWriter,
    text_collation: u16,
    /// Whether a result with rows is under way.
    rows: bool,
    /// What the protocol said when it took no more: not an error of SQL's.
    refused: Option<MysqlError>,
}

impl<'a> Sink<'a> {
    fn new(out: &'a mut dyn ResultWriter, info: &ConnectionInfo) -> Self {
        Self { out, text_collation: text_collation(info.collation), rows: false, refused: None }
    }
    fn pass(&mut self, result: Result<(), MysqlError>) -> SqlResult<()> {
        result.map_err(|error| {
            let sql = SqlError::new(error.code, error.message.clone());
            self.refused = Some(error);
            sql
        })
    }
    fn finish(self, result: SqlResult<()>) -> Result<(), MysqlError> {
        match (self.refused, result) {
            (Some(error), _) => Err(error),
            (None, result) => result.map_err(to_mysql),
        }
    }
}

impl ResultSink for Sink<'_> {
    fn columns(&mut self, columns: &[ColumnMeta]) -> SqlResult<()> {
        let described: Vec<Column<'_>> =
            columns.iter().map(|meta| column(meta, self.text_collation)).collect();
        self.rows = true;
        let result = self.out.columns(&described);
        self.pass(result)
    }
    fn row(&mut self, values: &[Value]) -> SqlResult<()> {
        // Most rows are narrow: no allocation for them.
        const NARROW: usize = 16;
        let result = if values.len() <= NARROW {
            let mut all = [node_mysql::Value::Null; NARROW];
            for (to, value) in all.iter_mut().zip(values) {
                *to = to_client(value);
            }
            self.out.row(&all[..values.len()])
        } else {
            let all: Vec<node_mysql::Value<'_>> = values.iter().map(to_client).collect();
            self.out.row(&all)
        };
        self.pass(result)
    }
    fn done(&mut self, completion: &Completion) -> SqlResult<()> {
        let outcome = Outcome {
            affected_rows: completion.affected_rows,
            last_insert_id: completion.last_insert_id,
            warnings: completion.warnings,
            info: completion.info.clone(),
            status: status(completion.in_transaction, completion.autocommit),
        };
        let result =
            if std::mem::take(&mut self.rows) { self.out.end(&outcome) } else { self.out.ok(&outcome) };
        self.pass(result)
    }
}

fn status(in_transaction: bool, autocommit: bool) -> SessionStatus {
    SessionStatus { autocommit, in_transaction, ..SessionStatus::default() }
}

impl Handler for SqlHandler {
    fn query(&mut self, sql: &[u8], out: &mut dyn ResultWriter) -> Result<(), MysqlError> {
        self.questions.fetch_add(1, Ordering::Relaxed);
        let sql = text(sql)?;
        let mut sink = Sink::new(out, &self.info);
        let result = self.session.query(sql, self.multi_statements, &mut sink);
        sink.finish(result)
    }

    fn prepare(&mut self, id: u32, sql: &[u8]) -> Result<Prepared<'_>, MysqlError> {
        let sql = text(sql)?;
        let prepared = self.session.prepare(sql).map_err(to_mysql)?;
        let too_many =
            |_| MysqlError::new(1390, "HY000", "Prepared statement contains too many placeholders");
        let parameters = u16::try_from(prepared.parameters).map_err(too_many)?;
        let statement = Statement { handle: prepared.handle, columns: prepared.columns };
        self.statements.insert(id, statement);
        let collation = text_collation(self.info.collation);
        let columns = &self.statements[&id].columns;
        Ok(Prepared { parameters, columns: columns.iter().map(|meta| column(meta, collation)).collect() })
    }

    fn execute(
        &mut self,
        id: u32,
        parameters: &[node_mysql::Value<'_>],
        out: &mut dyn ResultWriter,
    ) -> Result<(), MysqlError> {
        self.questions.fetch_add(1, Ordering::Relaxed);
        let Some(statement) = self.statements.get(&id) else {
            return Err(MysqlError::new(1243, "HY000", format!("Unknown prepared statement handler ({id})")));
        };
        let values: Vec<Value> = parameters.iter().map(from_client).collect();
        let mut sink = Sink::new(out, &self.info);
        let result = self.session.execute(statement.handle, &values, &mut sink);
        sink.finish(result)
    }

    fn close(&mut self, id: u32) {
        if let Some(statement) = self.statements.remove(&id) {
            self.session.close(statement.handle);
        }
    }

    fn fields(
        &mut self,
        table: &str,
        pattern: &str,
        found: &mut dyn FnMut(&Column<'_>),
    ) -> Result<(), MysqlError> {
        let quoted = table.replace('`', "``");
        let prepared = self.session.prepare(&format!("SELECT * FROM `{quoted}`")).map_err(to_mysql)?;
        let collation = text_collation(self.info.collation);
        for meta in prepared.columns.iter().filter(|meta| matches_pattern(pattern, &meta.name)) {
            found(&column(meta, collation));
        }
        self.session.close(prepared.handle);
        Ok(())
    }

    fn init_db(&mut self, database: &str) -> Result<(), MysqlError> {
        self.session.use_database(database).map_err(to_mysql)
    }

    fn reset(&mut self) -> Result<(), MysqlError> {
        let info = ConnectionInfo { database: self.session.database(), ..self.info.clone() };
        self.replace(info)
    }

    fn change_user(&mut self, info: ConnectionInfo) -> Result<(), MysqlError> {
        self.replace(info)
    }

    fn set_multi_statements(&mut self, allowed: bool) {
        self.multi_statements = allowed;
    }

    fn status(&self) -> SessionStatus {
        status(self.session.in_transaction(), self.session.autocommit())
    }

    fn database(&self) -> Option<String> {
        self.session.database()
    }

    fn wait_timeout(&self) -> Option<Duration> {
        Some(self.session.wait_timeout())
    }

    fn interrupt_handle(&self) -> Arc<dyn Interrupt> {
        Arc::clone(&self.interrupt) as Arc<dyn Interrupt>
    }
}

/// LIKE for COM_FIELD_LIST, without regard to case: `%` and `_`.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    fn matches(pattern: &[char], name: &[char]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some(('%', rest)) => (0..=name.len()).any(|at| matches(rest, &name[at..])),
            Some(('_', rest)) => !name.is_empty() && matches(rest, &name[1..]),
            Some((first, rest)) => name.first() == Some(first) && matches(rest, &name[1..]),
        }
    }
    let fold = |text: &str| text.chars().flat_map(char::to_lowercase).take(64).collect::<Vec<_>>();
    // Names have 64 characters at most, and a pattern's runs of `%` say no more than one.
    let mut pattern = fold(pattern);
    pattern.dedup_by(|a, b| *a == '%' && *b == '%');
    pattern.is_empty() || pattern.iter().filter(|c| **c == '%').count() > 3 || matches(&pattern, &fold(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_lists_are_narrowed_by_a_pattern() {
        assert!(matches_pattern("", "id"));
        assert!(matches_pattern("%", "id"));
        assert!(matches_pattern("I_", "id"));
        assert!(matches_pattern("i%d", "id"));
        assert!(!matches_pattern("k%", "id"));
    }

    #[test]
    fn text_that_is_no_utf8_is_refused_with_its_bytes() {
        let error = text(b"select '\xff'").expect_err("not UTF-8");
        assert_eq!(
            (error.code, error.message.as_str()),
            (1300, "Invalid utf8mb4 character string: '\\xFF\\x27'")
        );
    }
}
