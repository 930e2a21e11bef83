//! Accounts and sessions for the protocol server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use node_mysql::{Account, Backend, ConnectionInfo, Credential, Handler, MysqlError};
use node_sql::context::Instance;
use node_sql::error::{SqlError, SqlResult};
use node_sql::session::{Completion, ResultSink, Sessions};
use node_sql::store::Store;
use node_sql::types::{ColumnMeta, Value};

use super::number;
use super::session::SqlHandler;

/// One account, and a session for each of its connections.
pub(super) struct SqlBackend {
    user: String,
    credential: Credential,
    instance: Arc<Instance>,
    sessions: Arc<Sessions>,
    started: Instant,
    questions: Arc<AtomicU64>,
}

impl SqlBackend {
    pub(super) fn new(
        user: String,
        credential: Credential,
        store: Arc<dyn Store>,
        instance: Arc<Instance>,
    ) -> Self {
        let sessions = Arc::new(Sessions::new(store, Arc::clone(&instance)));
        Self { user, credential, instance, sessions, started: Instant::now(), questions: Arc::default() }
    }
    pub(super) fn instance(&self) -> &Instance {
        &self.instance
    }
}

impl SqlBackend {
    /// Executes a statement in a session of its own, for the instance itself.
    pub(super) fn execute_alone(&self, sql: &str) -> SqlResult<()> {
        struct Nobody;
        impl ResultSink for Nobody {
            fn columns(&mut self, _columns: &[ColumnMeta]) -> SqlResult<()> {
                Ok(())
            }
            fn row(&mut self, _values: &[Value]) -> SqlResult<()> {
                Ok(())
            }
            fn done(&mut self, _completion: &Completion) -> SqlResult<()> {
                Ok(())
            }
        }
        let mut session = self.sessions.open(0, &self.user, "localhost", None)?;
        session.query(sql, false, &mut Nobody)
    }
}

/// An error as the protocol has it.
pub(super) fn to_mysql(error: SqlError) -> MysqlError {
    MysqlError::new(error.code, error.sqlstate, error.message)
}

impl Backend for SqlBackend {
    fn account(&self, user: &str, _host: &str) -> Option<Account> {
        (user == self.user).then(|| Account { credential: self.credential.clone(), admin: true })
    }
    fn open(&self, info: ConnectionInfo) -> Result<Box<dyn Handler>, MysqlError> {
        let handler = SqlHandler::open(Arc::clone(&self.sessions), info, Arc::clone(&self.questions));
        Ok(Box::new(handler.map_err(to_mysql)?))
    }
    fn max_connections(&self) -> Option<usize> {
        number(&self.instance.variables, "max_connections").and_then(|all| usize::try_from(all).ok())
    }
    fn max_allowed_packet(&self) -> Option<usize> {
        number(&self.instance.variables, "max_allowed_packet").and_then(|all| usize::try_from(all).ok())
    }
    fn statistics(&self) -> String {
        let (uptime, questions) = (self.started.elapsed().as_secs(), self.questions.load(Ordering::Relaxed));
        format!("Uptime: {uptime}  Questions: {questions}")
    }
}
