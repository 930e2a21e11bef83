//! One client's session: its transaction, its variables, and how each kind of statement is carried out.
//!
//! A statement runs in a transaction: the open one, or one of its own that ends with it (autocommit). A
//! failed statement undoes its changes; 1213 undoes the whole transaction. A statement of its own that lost a
//! vote is tried again a few times (`borealis_autocommit_retries`); an explicit transaction never is.

mod cache;
mod execute;
mod settings;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rusqlite::InterruptHandle;

use crate::catalog::{Catalog, TableDef};
use crate::connection::Engine;
use crate::context::{Context, Instance, Kill, Level, SessionState};
use crate::error::{SqlError, SqlResult};
use crate::information_schema;
use crate::plan::{IsolationLevel, Statement};
use crate::schema::{SchemaCache, SchemaView};
use crate::store::{Freshness, Isolation, LockWait, Mark, Store, TxnOptions};
use crate::table::{ComputedRows, SharedSlot};
use crate::translate;
use crate::types::{ColumnMeta, Value};
use crate::variables::Variables;

use cache::{Plan, Plans};

/// What a client is told at the end of a statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// Affected rows, as MySQL counts them.
    pub affected_rows: u64,
    /// The first AUTO_INCREMENT value made.
    pub last_insert_id: u64,
    /// Warnings that SHOW WARNINGS would list.
    pub warnings: u16,
    /// `Rows matched: …`.
    pub info: String,
    /// A transaction is open after the statement.
    pub in_transaction: bool,
    /// `@@autocommit`.
    pub autocommit: bool,
}

/// Takes the results of statements, in order: for each either `done` alone, or `columns`, rows and `done`.
pub trait ResultSink {
    /// A result with rows begins.
    ///
    /// # Errors
    ///
    /// Whatever ends the statement: the client is gone.
    fn columns(&mut self, columns: &[ColumnMeta]) -> SqlResult<()>;
    /// A row.
    ///
    /// # Errors
    ///
    /// As [`ResultSink::columns`].
    fn row(&mut self, values: &[Value]) -> SqlResult<()>;
    /// The statement has ended.
    ///
    /// # Errors
    ///
    /// As [`ResultSink::columns`].
    fn done(&mut self, completion: &Completion) -> SqlResult<()>;
}

/// A statement that has been prepared.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Names it for [`Session::execute`].
    pub handle: u64,
    /// How many `?` it has.
    pub parameters: usize,
    /// The columns of its result; none for statements without one.
    pub columns: Vec<ColumnMeta>,
}

/// What all sessions of an instance share.
pub struct Sessions {
    store: Arc<dyn Store>,
    instance: Arc<Instance>,
    schema: Arc<SchemaCache>,
    /// Tells this process from an earlier one of the same name.
    pub(crate) run: u64,
}

impl Sessions {
    /// Sessions over a store.
    pub fn new(store: Arc<dyn Store>, instance: Arc<Instance>) -> Self {
        let schema = Arc::new(SchemaCache::new(store.clone()));
        let run = RandomState::new().build_hasher().finish();
        Self { store, instance, schema, run }
    }
    /// Opens a session.
    ///
    /// # Errors
    ///
    /// 1049 if the database does not exist.
    pub fn open(
        &self,
        connection_id: u64,
        user: &str,
        client_host: &str,
        database: Option<&str>,
    ) -> SqlResult<Session> {
        let kill = Arc::new(Kill::default());
        let killed = kill.flag();
        let state = SessionState {
            connection_id,
            user: user.to_owned(),
            client_host: client_host.to_owned(),
            database: None,
            variables: Variables::new(&self.instance.variables),
            user_variables: HashMap::new(),
            last_insert_id: 0,
            last_insert_id_expr: None,
            row_count: 0,
            found_rows: 0,
            statement_micros: now_micros(),
            warnings: Vec::new(),
            warning_count: 0,
            in_transaction: false,
            kill: kill.clone(),
            error: None,
        };
        let context = Context { session: Arc::new(Mutex::new(state)), instance: self.instance.clone() };
        let slot = SharedSlot::default();
        let computed =
            Computed { schema: self.schema.clone(), context: context.clone(), killed: killed.clone() };
        let engine = Engine::open(context.clone(), slot.clone(), self.store.clone(), Arc::new(computed))?;
        let interrupt = Arc::new(SessionInterrupt { kill, sqlite: engine.interrupt_handle() });
        let mut session = Session {
            store: self.store.clone(),
            schema: self.schema.clone(),
            context,
            engine,
            slot,
            killed,
            interrupt,
            found_rows: false,
            explicit: false,
            savepoints: Vec::new(),
            next_isolation: None,
            next_read_only: None,
            read_only: false,
            catalog_at_begin: 0,
            catalog_at_plan: 0,
            plans: Plans::default(),
            prepared: HashMap::new(),
            named: HashMap::new(),
            next_handle: 1,
            run: self.run,
        };
        if let Some(database) = database {
            session.use_database(database)?;
        }
        Ok(session)
    }
}

/// Ends what a session does, from another thread.
pub struct SessionInterrupt {
    kill: Arc<Kill>,
    sqlite: InterruptHandle,
}

impl SessionInterrupt {
    /// The statement under way ends soon, with 1317.
    pub fn interrupt(&self) {
        self.kill.set();
        self.sqlite.interrupt();
    }
    /// Forgets an interruption, before a new command.
    pub fn clear(&self) {
        self.kill.clear();
    }
}

/// Rows of computed tables.
struct Computed {
    schema: Arc<SchemaCache>,
    context: Context,
    killed: Arc<AtomicBool>,
}

impl ComputedRows for Computed {
    fn rows(&self, table: &TableDef) -> SqlResult<Vec<Vec<Value>>> {
        let freshness = self.context.session.lock().variables.consistency();
        let view = self.schema.view(freshness, self.killed.clone());
        information_schema::rows(table, &view, &self.context)
    }
}

/// A client's session. One thread at a time uses it.
pub struct Session {
    store: Arc<dyn Store>,
    schema: Arc<SchemaCache>,
    context: Context,
    engine: Engine,
    slot: SharedSlot,
    killed: Arc<AtomicBool>,
    interrupt: Arc<SessionInterrupt>,
    /// Matched rows count as affected.
    found_rows: bool,
    /// BEGIN has been said.
    explicit: bool,
    savepoints: Vec<(String, Mark)>,
    next_isolation: Option<IsolationLevel>,
    next_read_only: Option<bool>,
    /// The open transaction is READ ONLY.
    read_only: bool,
    /// The catalog's version when the open transaction began.
    catalog_at_begin: u64,
    /// The catalog's version that the statement was planned for.
    catalog_at_plan: u64,
    plans: Plans,
    prepared: HashMap<u64, String>,
    named: HashMap<String, String>,
    next_handle: u64,
    /// Tells this process from an earlier one of the same name.
    pub(crate) run: u64,
}

impl Session {
    /// Runs the statements of a text.
    ///
    /// # Errors
    ///
    /// The first statement's error; the results of those before it have been given.
    pub fn query(&mut self, sql: &str, multi_statements: bool, sink: &mut dyn ResultSink) -> SqlResult<()> {
        let (mut first, mut rest) = translate::first_statement(sql)?;
        if first.trim().is_empty() && rest.trim().is_empty() {
            return Err(SqlError::empty_query());
        }
        if !rest.trim().is_empty() && !multi_statements {
            return Err(SqlError::syntax(rest.trim_start(), 1));
        }
        loop {
            if !first.trim().is_empty() {
                self.run(first, &[], sink)?;
            }
            if rest.trim().is_empty() {
                return Ok(());
            }
            (first, rest) = translate::first_statement(rest)?;
        }
    }
    /// Prepares a statement.
    ///
    /// # Errors
    ///
    /// Those of its text.
    pub fn prepare(&mut self, sql: &str) -> SqlResult<Prepared> {
        let (first, rest) = translate::first_statement(sql)?;
        if first.trim().is_empty() {
            return Err(SqlError::empty_query());
        }
        if !rest.trim().is_empty() {
            return Err(SqlError::syntax(rest.trim_start(), 1));
        }
        self.begin_clock();
        let plan = self.plan(first)?;
        let columns = match &plan.translated.statement {
            Statement::Query(query) => query.columns.clone(),
            Statement::Show(show) => crate::show::columns(show),
            _ => Vec::new(),
        };
        let handle = self.next_handle;
        self.next_handle += 1;
        self.prepared.insert(handle, first.to_owned());
        Ok(Prepared { handle, parameters: plan.translated.parameters, columns })
    }
    /// Runs a prepared statement.
    ///
    /// # Errors
    ///
    /// The statement's; 1243 for a handle that is not known, 1210 for too few parameters.
    pub fn execute(&mut self, handle: u64, parameters: &[Value], sink: &mut dyn ResultSink) -> SqlResult<()> {
        let Some(text) = self.prepared.get(&handle).cloned() else {
            return Err(SqlError::unknown_statement(&handle.to_string(), "mysqld_stmt_execute"));
        };
        self.run(&text, parameters, sink)
    }
    /// Forgets a prepared statement.
    pub fn close(&mut self, handle: u64) {
        self.prepared.remove(&handle);
    }
    /// Makes a database the default one.
    ///
    /// # Errors
    ///
    /// 1049.
    pub fn use_database(&mut self, name: &str) -> SqlResult<()> {
        let found = self.view().database(name)?;
        let Some(found) = found else { return Err(SqlError::unknown_database(name)) };
        self.context.session.lock().database = Some(found.name);
        Ok(())
    }
    /// The default database.
    pub fn database(&self) -> Option<String> {
        self.context.session.lock().database.clone()
    }
    /// Whether a transaction is open.
    pub fn in_transaction(&self) -> bool {
        self.explicit || self.slot.lock().txn.is_some()
    }
    /// `@@autocommit`.
    pub fn autocommit(&self) -> bool {
        self.context.session.lock().variables.autocommit()
    }
    /// `@@wait_timeout`.
    pub fn wait_timeout(&self) -> Duration {
        let seconds = match self.context.session.lock().variables.get("wait_timeout") {
            Ok(Value::Int(seconds)) => u64::try_from(seconds).unwrap_or(28_800),
            Ok(Value::UInt(seconds)) => seconds,
            Ok(_) | Err(_) => 28_800,
        };
        Duration::from_secs(seconds.max(1))
    }
    /// Whether matched rows count as affected (the client's CLIENT_FOUND_ROWS).
    pub fn set_found_rows(&mut self, found_rows: bool) {
        self.found_rows = found_rows;
    }
    /// Ends what the session does, from another thread.
    pub fn interrupt(&self) -> Arc<SessionInterrupt> {
        self.interrupt.clone()
    }

    /// For tests of access paths, which need SQLite's own SQL.
    #[cfg(test)]
    pub(crate) fn engine_for_tests(&mut self) -> &mut Engine {
        &mut self.engine
    }

    // ---- shared by the kinds of statements ----

    fn view(&self) -> SchemaView {
        let freshness = self.context.session.lock().variables.consistency();
        self.schema.view(freshness, self.killed.clone())
    }

    fn begin_clock(&self) {
        self.context.session.lock().statement_micros = now_micros();
    }

    /// The plan of a text, from the cache if it still fits.
    fn plan(&mut self, sql: &str) -> SqlResult<Arc<Plan>> {
        let version = self.store.catalog_version();
        self.catalog_at_plan = version;
        let (database, sql_mode) = {
            let session = self.context.session.lock();
            (session.database.clone(), session.variables.sql_mode())
        };
        if let Some(plan) = self.plans.get(sql, version, database.as_deref(), &sql_mode) {
            return Ok(plan);
        }
        let view = self.view();
        let translated = {
            let session = self.context.session.lock();
            let host = self.context.instance.host.clone();
            let context =
                translate::TranslateContext { catalog: &view, session: &session, host: host.as_ref() };
            translate::translate(sql, &context)?
        };
        let plan = Arc::new(Plan { translated, version, database, sql_mode });
        if plan.translated.cacheable {
            self.plans.put(sql, plan.clone());
        }
        Ok(plan)
    }

    fn options(&self) -> SqlResult<TxnOptions> {
        let session = self.context.session.lock();
        let variables = &session.variables;
        let isolation = match self.next_isolation.unwrap_or_else(|| variables.isolation()) {
            IsolationLevel::ReadUncommitted | IsolationLevel::ReadCommitted => Isolation::ReadCommitted,
            IsolationLevel::RepeatableRead => Isolation::RepeatableRead,
            IsolationLevel::Serializable => {
                return Err(SqlError::unsupported("transaction_isolation = SERIALIZABLE"));
            }
        };
        Ok(TxnOptions {
            isolation,
            freshness: variables.consistency(),
            snapshot_isolation: variables.snapshot_isolation(),
            read_only: self.read_only,
            lock_wait: variables.lock_wait_timeout(),
            killed: self.killed.clone(),
        })
    }

    fn lock_wait(&self) -> LockWait {
        LockWait::Up(self.context.session.lock().variables.lock_wait_timeout())
    }

    fn freshness(&self) -> Freshness {
        self.context.session.lock().variables.consistency()
    }

    /// Begins a statement in the open transaction, or in one of its own.
    fn begin_statement(&mut self) -> SqlResult<()> {
        if self.slot.lock().txn.is_none() {
            let options = self.options()?;
            self.catalog_at_begin = self.store.catalog_version();
            let txn = self.store.begin(options);
            self.slot.lock().txn = Some(txn);
        }
        let begun = match self.slot.lock().txn.as_mut() {
            Some(txn) => txn.begin_statement(),
            None => Ok(()),
        };
        begun.map_err(|error| self.failed(SqlError::from(error)))
    }

    /// An error has ended a statement: 1213 ends the transaction too.
    fn failed(&mut self, error: SqlError) -> SqlError {
        if error.rolls_back_transaction() || !self.holds_transaction() {
            self.forget_transaction();
        }
        error
    }

    /// Whether the transaction outlives the statement.
    fn holds_transaction(&self) -> bool {
        self.explicit || !self.autocommit()
    }

    /// A statement has succeeded: outside a transaction its changes are committed now.
    fn end_statement(&mut self) -> SqlResult<()> {
        if self.holds_transaction() { Ok(()) } else { self.commit() }
    }

    fn commit(&mut self) -> SqlResult<()> {
        let txn = self.slot.lock().txn.take();
        self.forget_transaction();
        match txn {
            Some(txn) if txn.has_writes() => Ok(txn.commit()?),
            Some(txn) => {
                txn.rollback();
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn rollback(&mut self) {
        self.forget_transaction();
    }

    fn forget_transaction(&mut self) {
        let txn = self.slot.lock().txn.take();
        if let Some(txn) = txn {
            txn.rollback();
        }
        self.explicit = false;
        self.read_only = false;
        self.next_isolation = None;
        self.next_read_only = None;
        self.savepoints.clear();
    }

    fn completion(&self) -> Completion {
        let mut session = self.context.session.lock();
        let in_transaction = self.explicit || self.slot.lock().txn.is_some();
        session.in_transaction = in_transaction;
        Completion {
            warnings: u16::try_from(session.warning_count).unwrap_or(u16::MAX),
            in_transaction,
            autocommit: session.variables.autocommit(),
            ..Completion::default()
        }
    }

    fn note_error(&self, error: &SqlError) {
        self.context.session.lock().warn(Level::Error, error.code, error.message.clone());
    }
}

fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
