//! What the protocol server needs of whoever executes statements.

use std::sync::Arc;
use std::time::Duration;

use crate::constants::{CapabilityFlags, StatusFlags};

use crate::auth::Account;
use crate::error::MysqlError;
use crate::registry::Registry;
use crate::value::{Column, Value};

/// A client that has logged in.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The connection's number (`CONNECTION_ID()`).
    pub id: u32,
    /// Who logged in.
    pub user: String,
    /// The client's address without its port; `localhost` for loopback.
    pub host: String,
    /// The database to begin with.
    pub database: Option<String>,
    /// The collation that the client asked for, by number.
    pub collation: u16,
    /// What both sides agreed on.
    pub capabilities: CapabilityFlags,
    /// What the client says of itself.
    pub attributes: Vec<(String, String)>,
    /// All connections of the server: for the process list and KILL.
    pub registry: Arc<Registry>,
}

/// Accounts and sessions.
pub trait Backend: Send + Sync + 'static {
    /// The account of a user who connects from a host, if there is one.
    fn account(&self, user: &str, host: &str) -> Option<Account>;
    /// Opens a session.
    ///
    /// # Errors
    ///
    /// What the client is told (1049 for an unknown database); the connection is then closed.
    fn open(&self, info: ConnectionInfo) -> Result<Box<dyn Handler>, MysqlError>;
    /// Most connections now; `None`: as configured.
    fn max_connections(&self) -> Option<usize> {
        None
    }
    /// Longest packet, in bytes, of a client that logs in now; `None`: as configured.
    fn max_allowed_packet(&self) -> Option<usize> {
        None
    }
    /// The answer to COM_STATISTICS.
    fn statistics(&self) -> String {
        String::new()
    }
}

/// A session's state as it is told to the client with every result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// `@@autocommit`.
    pub autocommit: bool,
    /// A transaction is open. Must be right: some drivers leave COMMIT out without it.
    pub in_transaction: bool,
    /// It is a read-only one.
    pub read_only_transaction: bool,
    /// `sql_mode` has NO_BACKSLASH_ESCAPES.
    pub no_backslash_escapes: bool,
}

impl Default for SessionStatus {
    fn default() -> Self {
        Self {
            autocommit: true,
            in_transaction: false,
            read_only_transaction: false,
            no_backslash_escapes: false,
        }
    }
}

impl SessionStatus {
    pub(crate) fn flags(self) -> StatusFlags {
        let mut flags = StatusFlags::empty();
        flags.set(StatusFlags::AUTOCOMMIT, self.autocommit);
        flags.set(StatusFlags::IN_TRANS, self.in_transaction);
        flags.set(StatusFlags::IN_TRANS_READONLY, self.in_transaction && self.read_only_transaction);
        flags.set(StatusFlags::NO_BACKSLASH_ESCAPES, self.no_backslash_escapes);
        flags
    }
}

/// The end of a statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Rows changed; nothing for statements that return rows.
    pub affected_rows: u64,
    /// The first AUTO_INCREMENT value given.
    pub last_insert_id: u64,
    /// How many warnings SHOW WARNINGS would list.
    pub warnings: u16,
    /// `Rows matched: 1  Changed: 1  Warnings: 0` and the like.
    pub info: String,
    /// The session after the statement.
    pub status: SessionStatus,
}

/// Takes the results of a command, in order: for every statement either [`ResultWriter::ok`], or
/// [`ResultWriter::columns`], any number of [`ResultWriter::row`] and [`ResultWriter::end`].
///
/// Every method fails with an error when the client is gone or the calls make no sense; the handler gives up
/// the statement and returns the error.
pub trait ResultWriter {
    /// A statement without rows has been executed.
    ///
    /// # Errors
    ///
    /// See [`ResultWriter`].
    fn ok(&mut self, outcome: &Outcome) -> Result<(), MysqlError>;
    /// A result with rows begins.
    ///
    /// # Errors
    ///
    /// See [`ResultWriter`].
    fn columns(&mut self, columns: &[Column<'_>]) -> Result<(), MysqlError>;
    /// One row, with as many values as there are columns.
    ///
    /// # Errors
    ///
    /// See [`ResultWriter`].
    fn row(&mut self, values: &[Value<'_>]) -> Result<(), MysqlError>;
    /// The rows are at their end.
    ///
    /// # Errors
    ///
    /// See [`ResultWriter`].
    fn end(&mut self, outcome: &Outcome) -> Result<(), MysqlError>;
}

/// What is known of a statement before it is executed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared<'a> {
    /// How many parameters it takes.
    pub parameters: u16,
    /// The columns of its result; empty if it has none.
    pub columns: Vec<Column<'a>>,
}

/// What to interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// The statement under way (KILL QUERY): 1317.
    Statement,
    /// The session as a whole: the statement under way ends as soon as it can, and no other will come.
    Connection,
}

/// Reaches into a session from other threads.
pub trait Interrupt: Send + Sync {
    /// Ends what the session is doing, soon. Called only while it executes a command.
    fn interrupt(&self, what: Interruption);
    /// A new command begins: an interruption of an earlier statement is forgotten. Never called together
    /// with [`Interrupt::interrupt`].
    fn rearm(&self);
}

/// A session: executes the commands of one connection, one at a time. It may move to another thread between
/// commands. Dropping it rolls back what is open.
pub trait Handler: Send {
    /// COM_QUERY: one statement, or several if the client may send several.
    ///
    /// # Errors
    ///
    /// Whatever ends the command; results written before it stand.
    fn query(&mut self, sql: &[u8], out: &mut dyn ResultWriter) -> Result<(), MysqlError>;
    /// COM_STMT_PREPARE. `id` is new in this connection.
    ///
    /// # Errors
    ///
    /// The statement cannot be prepared.
    fn prepare(&mut self, id: u32, sql: &[u8]) -> Result<Prepared<'_>, MysqlError>;
    /// COM_STMT_EXECUTE, with as many values as the statement has parameters.
    ///
    /// # Errors
    ///
    /// As [`Handler::query`].
    fn execute(
        &mut self,
        id: u32,
        parameters: &[Value<'_>],
        out: &mut dyn ResultWriter,
    ) -> Result<(), MysqlError>;
    /// COM_STMT_CLOSE.
    fn close(&mut self, id: u32);
    /// COM_FIELD_LIST: gives the columns of a table whose names match the pattern (empty: all).
    ///
    /// # Errors
    ///
    /// No such table.
    fn fields(
        &mut self,
        table: &str,
        pattern: &str,
        found: &mut dyn FnMut(&Column<'_>),
    ) -> Result<(), MysqlError>;
    /// COM_INIT_DB.
    ///
    /// # Errors
    ///
    /// 1049.
    fn init_db(&mut self, database: &str) -> Result<(), MysqlError>;
    /// COM_RESET_CONNECTION: rolls back, forgets variables and statements, keeps the database.
    ///
    /// # Errors
    ///
    /// The session is unusable.
    fn reset(&mut self) -> Result<(), MysqlError>;
    /// COM_CHANGE_USER has authenticated another user: begins anew.
    ///
    /// # Errors
    ///
    /// What the client is told; the connection is then closed.
    fn change_user(&mut self, info: ConnectionInfo) -> Result<(), MysqlError>;
    /// Whether a query may hold several statements (agreed at login, changed by COM_SET_OPTION).
    fn set_multi_statements(&mut self, allowed: bool);
    /// The session's state now.
    fn status(&self) -> SessionStatus;
    /// The database now, for the process list.
    fn database(&self) -> Option<String>;
    /// `@@wait_timeout`, or `@@interactive_timeout`: how long the connection may be silent. `None`: the
    /// server's own default.
    fn wait_timeout(&self) -> Option<Duration> {
        None
    }
    /// The way to interrupt it; asked once.
    fn interrupt_handle(&self) -> Arc<dyn Interrupt>;
}
