//! Tests of the crate as a whole: MySQL's statements through a session, over a store in memory.

mod changes;
mod definitions;
mod differential;
mod queries;
mod transactions;

use std::sync::Arc;

use crate::context::{Host, Instance, ProcessInfo, ReplicaHostStatus};
use crate::error::{SqlError, SqlResult};
use crate::session::{Completion, ResultSink, Session, Sessions};
use crate::testing::MemoryStore;
use crate::types::{ColumnMeta, Value};
use crate::variables::{GlobalVariables, InstanceInfo};

struct Alone;

impl Host for Alone {
    fn server_id(&self) -> String {
        "shop-0".to_owned()
    }
    fn multi_master(&self) -> bool {
        false
    }
    fn processes(&self) -> Vec<ProcessInfo> {
        Vec::new()
    }
    fn replicas(&self) -> Vec<ReplicaHostStatus> {
        Vec::new()
    }
    fn kill(&self, _id: u64, _connection: bool) -> bool {
        false
    }
    fn alter_system(&self, command: &str) -> SqlResult<()> {
        Err(SqlError::unsupported(command))
    }
    fn status(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// An instance over a store in memory, with the database `test`.
pub(crate) struct Server {
    pub(crate) store: MemoryStore,
    sessions: Sessions,
}

impl Server {
    pub(crate) fn new() -> Self {
        let store = MemoryStore::new();
        let server = Self::over(&store);
        let mut session = server.sessions.open(1, "root", "localhost", None).expect("a session");
        run(&mut session, "CREATE DATABASE test").expect("a new database");
        server
    }
    /// Another instance over the same rows.
    pub(crate) fn over(store: &MemoryStore) -> Self {
        let info = InstanceInfo { server_id: "shop-0".to_owned(), ..InstanceInfo::default() };
        let variables = Arc::new(GlobalVariables::new(&info).expect("defaults"));
        let instance = Arc::new(Instance { host: Arc::new(Alone), variables });
        Self { store: store.clone(), sessions: Sessions::new(Arc::new(store.clone()), instance) }
    }
    pub(crate) fn client(&self) -> Client {
        Client(self.sessions.open(7, "root", "localhost", Some("test")).expect("a session"))
    }
}

/// A session whose answers are text.
pub(crate) struct Client(pub(crate) Session);

/// What a statement gave.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) columns: Vec<ColumnMeta>,
    pub(crate) rows: Vec<Vec<Value>>,
    pub(crate) done: Vec<Completion>,
}

impl ResultSink for Answer {
    fn columns(&mut self, columns: &[ColumnMeta]) -> SqlResult<()> {
        self.columns = columns.to_vec();
        Ok(())
    }
    fn row(&mut self, values: &[Value]) -> SqlResult<()> {
        self.rows.push(values.to_vec());
        Ok(())
    }
    fn done(&mut self, completion: &Completion) -> SqlResult<()> {
        self.done.push(completion.clone());
        Ok(())
    }
}

fn run(session: &mut Session, sql: &str) -> SqlResult<Answer> {
    let mut answer = Answer::default();
    session.query(sql, true, &mut answer)?;
    Ok(answer)
}

fn text_of(rows: &[Vec<Value>]) -> String {
    let rows: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells: Vec<String> =
                row.iter().map(|v| v.display().unwrap_or_else(|| "NULL".to_owned())).collect();
            cells.join(",")
        })
        .collect();
    rows.join(" ")
}

impl Client {
    /// Carries a statement out that must succeed.
    pub(crate) fn run(&mut self, sql: &str) -> Answer {
        match run(&mut self.0, sql) {
            Ok(answer) => answer,
            Err(error) => panic!("{sql}: {error}"),
        }
    }
    /// Carries a statement out.
    pub(crate) fn try_run(&mut self, sql: &str) -> SqlResult<Answer> {
        run(&mut self.0, sql)
    }
    /// The rows of a query: cells by commas, rows by blanks.
    pub(crate) fn rows(&mut self, sql: &str) -> String {
        text_of(&self.run(sql).rows)
    }
    /// Affected rows of a change.
    pub(crate) fn affected(&mut self, sql: &str) -> u64 {
        self.run(sql).done.last().map_or(0, |done| done.affected_rows)
    }
    /// The error of a statement that must fail.
    pub(crate) fn error(&mut self, sql: &str) -> (u16, String) {
        match run(&mut self.0, sql) {
            Ok(_) => panic!("{sql}: no error"),
            Err(error) => (error.code, error.message),
        }
    }
    /// Prepares and executes.
    pub(crate) fn execute(&mut self, sql: &str, parameters: &[Value]) -> SqlResult<Answer> {
        let prepared = self.0.prepare(sql)?;
        let mut answer = Answer::default();
        let result = self.0.execute(prepared.handle, parameters, &mut answer);
        self.0.close(prepared.handle);
        result.map(|()| answer)
    }
}
