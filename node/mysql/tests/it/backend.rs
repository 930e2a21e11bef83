//! A backend for the tests: a handful of commands instead of SQL.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use node_mysql::{
    Account, Backend, CapabilityFlags, Column, ColumnFlags, ColumnType, Config, ConnectionInfo, Credential,
    Date, DateTime, Handler, Interrupt, Interruption, MysqlError, Outcome, Prepared, ResultWriter,
    SaltedSha2, Server, SessionStatus, Time, Value,
};

/// Sessions of the tests: one lock that they can hold, and how many are open.
#[derive(Default)]
pub(crate) struct TestBackend {
    pub(crate) held: Mutex<bool>,
    pub(crate) released: Condvar,
    pub(crate) open: Mutex<usize>,
    pub(crate) closed: Condvar,
}

impl TestBackend {
    /// Waits until no session is open.
    pub(crate) fn wait_until_closed(&self) {
        let open = self.open.lock().expect("no panic in a test thread");
        let waited = self.closed.wait_timeout_while(open, Duration::from_secs(20), |open| *open > 0);
        assert_eq!(*waited.expect("no panic in a test thread").0, 0, "sessions still open");
    }
}

struct SharedBackend(Arc<TestBackend>);

/// A server on a free port, and what its sessions share.
pub(crate) fn serve(config: Config) -> (Server, Arc<TestBackend>) {
    let backend = Arc::new(TestBackend::default());
    let server = Server::bind(("127.0.0.1", 0), config, Arc::new(SharedBackend(Arc::clone(&backend))));
    (server.expect("a free port"), backend)
}

impl Backend for SharedBackend {
    fn account(&self, user: &str, _host: &str) -> Option<Account> {
        let credential = match user {
            "app" | "admin" => Credential::from_password("secret"),
            "sha2" => match Credential::from_password("secret") {
                Credential::Digests { sha2, .. } => Credential::Digests { native: None, sha2 },
                other => other,
            },
            "salted" => Credential::Salted(SaltedSha2::new("secret", [3; 20], 100)),
            "nobody" => Credential::Empty,
            _ => return None,
        };
        Some(Account { credential, admin: user == "admin" })
    }
    fn open(&self, info: ConnectionInfo) -> Result<Box<dyn Handler>, MysqlError> {
        *self.0.open.lock().expect("no panic in a test thread") += 1;
        let mut session = Session {
            backend: Arc::clone(&self.0),
            info,
            statements: HashMap::new(),
            status: SessionStatus::default(),
            interrupted: Arc::default(),
            multi: false,
        };
        if let Some(name) = session.info.database.clone() {
            session.init_db(&name)?;
        }
        Ok(Box::new(session))
    }
    fn statistics(&self) -> String {
        "Uptime: 1".to_owned()
    }
}

#[derive(Default)]
struct Interrupted {
    flag: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Interrupt for Interrupted {
    fn interrupt(&self, _what: Interruption) {
        let _guard = self.lock.lock().expect("no panic in a test thread");
        self.flag.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }
    fn rearm(&self) {
        self.flag.store(false, Ordering::SeqCst);
    }
}

struct Session {
    backend: Arc<TestBackend>,
    info: ConnectionInfo,
    statements: HashMap<u32, String>,
    status: SessionStatus,
    interrupted: Arc<Interrupted>,
    multi: bool,
}

impl Drop for Session {
    fn drop(&mut self) {
        *self.backend.open.lock().expect("no panic in a test thread") -= 1;
        self.backend.closed.notify_all();
    }
}

fn number(text: Option<&str>) -> usize {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl Session {
    fn outcome(&self) -> Outcome {
        Outcome { status: self.status, ..Outcome::default() }
    }

    fn rows(&self, count: usize, width: usize, out: &mut dyn ResultWriter) -> Result<(), MysqlError> {
        let columns = [Column::new("id", ColumnType::LongLong), Column::new("pad", ColumnType::VarString)];
        out.columns(&columns)?;
        let pad = vec![b'x'; width];
        for id in 0..count {
            out.row(&[Value::Int(id as i64), Value::Bytes(&pad)])?;
        }
        out.end(&self.outcome())
    }

    fn types(&self, out: &mut dyn ResultWriter) -> Result<(), MysqlError> {
        let mut unsigned = Column::new("u", ColumnType::LongLong);
        unsigned.flags = ColumnFlags::UNSIGNED;
        let mut moment = Column::new("dt", ColumnType::DateTime);
        moment.decimals = 6;
        let columns = [
            Column::new("t", ColumnType::Tiny),
            Column::new("s", ColumnType::Short),
            Column::new("i", ColumnType::Long),
            unsigned,
            Column::new("f", ColumnType::Float),
            Column::new("d", ColumnType::Double),
            Column::new("dec", ColumnType::Decimal),
            Column::new("date", ColumnType::Date),
            moment,
            Column::new("time", ColumnType::Time),
            Column::new("text", ColumnType::VarString),
            Column::new("null", ColumnType::VarString),
            Column::new("ts", ColumnType::Timestamp),
        ];
        let date = Date { year: 2026, month: 11, day: 24 };
        out.columns(&columns)?;
        out.row(&[
            Value::Int(-1),
            Value::Int(-300),
            Value::Int(-70_000),
            Value::UInt(u64::MAX),
            Value::Float(1.5),
            Value::Double(-2.25),
            Value::Bytes(b"12.50"),
            Value::Date(date),
            Value::DateTime(DateTime { date, hour: 1, minute: 2, second: 3, micros: 4 }),
            Value::Time(Time { negative: true, hours: 30, minutes: 1, seconds: 2, micros: 0 }),
            Value::Bytes("grün".as_bytes()),
            Value::Null,
            Value::Bytes(b"2026-11-24 05:06:07"),
        ])?;
        out.end(&self.outcome())
    }

    fn wait(&self) -> Result<(), MysqlError> {
        let guard = self.interrupted.lock.lock().expect("no panic in a test thread");
        let flag = &self.interrupted.flag;
        let waited = self
            .interrupted
            .changed
            .wait_timeout_while(guard, Duration::from_secs(20), |()| !flag.load(Ordering::SeqCst))
            .expect("no panic in a test thread");
        drop(waited);
        Err(MysqlError::new(1317, "70100", "Query execution was interrupted"))
    }

    fn lock(&self) {
        let held = self.backend.held.lock().expect("no panic in a test thread");
        let waited = self.backend.released.wait_timeout_while(held, Duration::from_secs(20), |held| *held);
        *waited.expect("no panic in a test thread").0 = true;
    }

    fn echo(&self, values: &[Value<'_>], out: &mut dyn ResultWriter) -> Result<(), MysqlError> {
        let names: Vec<String> = (0..values.len()).map(|at| format!("p{at}")).collect();
        let columns: Vec<_> = names.iter().map(|name| Column::new(name, ColumnType::VarString)).collect();
        out.columns(&columns)?;
        out.row(values)?;
        out.end(&self.outcome())
    }

    fn run(&mut self, sql: &str, values: &[Value<'_>], out: &mut dyn ResultWriter) -> Result<(), MysqlError> {
        let mut words = sql.split_whitespace();
        match words.next().unwrap_or("") {
            "rows" => {
                let (count, width) = (number(words.next()), number(words.next()));
                self.rows(count, width, out)
            }
            "types" => self.types(out),
            "echo" => self.echo(values, out),
            "id" => self.echo(&[Value::Int(self.info.id.into())], out),
            "db" => {
                let name = self.info.database.clone().unwrap_or_default();
                self.echo(&[Value::from(name.as_str())], out)
            }
            "user" => {
                let name = self.info.user.clone();
                self.echo(&[Value::from(name.as_str())], out)
            }
            "length" => self.echo(&[Value::Int(sql.len() as i64)], out),
            "begin" => {
                self.status.in_transaction = true;
                out.ok(&self.outcome())
            }
            "commit" => {
                self.status.in_transaction = false;
                out.ok(&self.outcome())
            }
            "insert" => out.ok(&Outcome { affected_rows: 3, last_insert_id: 300, ..self.outcome() }),
            "wait" => self.wait(),
            "lock" => {
                self.lock();
                out.ok(&self.outcome())
            }
            "unlock" => {
                *self.backend.held.lock().expect("no panic in a test thread") = false;
                self.backend.released.notify_all();
                out.ok(&self.outcome())
            }
            "half" => {
                out.columns(&[Column::new("a", ColumnType::Long)])?;
                out.row(&[Value::Int(1)])?;
                Err(MysqlError::new(1205, "HY000", "Lock wait timeout exceeded"))
            }
            "SET" | "set" | "USE" | "ROLLBACK" => out.ok(&self.outcome()),
            other => Err(MysqlError::new(
                1064,
                "42000",
                format!("You have an error in your SQL syntax: '{other}'"),
            )),
        }
    }
}

impl Handler for Session {
    fn query(&mut self, sql: &[u8], out: &mut dyn ResultWriter) -> Result<(), MysqlError> {
        let sql = String::from_utf8_lossy(sql).into_owned();
        if !self.multi {
            return self.run(&sql, &[], out);
        }
        sql.split(';').try_for_each(|part| self.run(part, &[], out))
    }
    fn prepare(&mut self, id: u32, sql: &[u8]) -> Result<Prepared<'_>, MysqlError> {
        let sql = String::from_utf8_lossy(sql).into_owned();
        if sql == "nonsense" {
            return Err(MysqlError::new(1064, "42000", "nonsense"));
        }
        let parameters = sql.matches('?').count() as u16;
        self.statements.insert(id, sql);
        Ok(Prepared { parameters, columns: vec![Column::new("a", ColumnType::VarString)] })
    }
    fn execute(
        &mut self,
        id: u32,
        values: &[Value<'_>],
        out: &mut dyn ResultWriter,
    ) -> Result<(), MysqlError> {
        let sql = self.statements.get(&id).cloned().unwrap_or_default();
        self.run(&sql, values, out)
    }
    fn close(&mut self, id: u32) {
        self.statements.remove(&id);
    }
    fn fields(
        &mut self,
        table: &str,
        _pattern: &str,
        found: &mut dyn FnMut(&Column<'_>),
    ) -> Result<(), MysqlError> {
        if table != "t" {
            return Err(MysqlError::new(1146, "42S02", format!("Table '{table}' doesn't exist")));
        }
        found(&Column::new("a", ColumnType::Long));
        Ok(())
    }
    fn init_db(&mut self, database: &str) -> Result<(), MysqlError> {
        if database == "missing" {
            return Err(MysqlError::new(1049, "42000", format!("Unknown database '{database}'")));
        }
        self.info.database = Some(database.to_owned());
        Ok(())
    }
    fn reset(&mut self) -> Result<(), MysqlError> {
        self.status = SessionStatus::default();
        self.statements.clear();
        Ok(())
    }
    fn change_user(&mut self, info: ConnectionInfo) -> Result<(), MysqlError> {
        self.info = info;
        self.reset()
    }
    fn set_multi_statements(&mut self, allowed: bool) {
        self.multi = allowed && self.info.capabilities.contains(CapabilityFlags::MULTI_STATEMENTS);
    }
    fn status(&self) -> SessionStatus {
        self.status
    }
    fn database(&self) -> Option<String> {
        self.info.database.clone()
    }
    fn interrupt_handle(&self) -> Arc<dyn Interrupt> {
        Arc::clone(&self.interrupted) as Arc<dyn Interrupt>
    }
}
