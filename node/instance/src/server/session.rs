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
    info: ConnectionInfo,
    multi_statements: bool,
    questions: Arc<AtomicU64>,
}
