//! Every connection of a server: for SHOW PROCESSLIST, KILL, timeouts and the end.
//!
//! Invariant: an interruption reaches a session only while it executes a command, because both happen under
//! the connection's lock; KILL QUERY for an idle connection does nothing to its next statement.

use std::collections::BTreeMap;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use crate::error::MysqlError;
use crate::handler::{Handler, Interrupt, Interruption};
use crate::sys;

/// A statement runs this long before it is looked whether its client is still there.
const HANGUP_AFTER: Duration = Duration::from_millis(500);

/// Why a connection is closed from this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// KILL.
    Killed,
    /// The server shuts down.
    Shutdown,
    /// This instance is no longer the writer: clients must find the new one.
    Demoted,
    /// Silent for longer than `wait_timeout`.
    Idle,
    /// Not logged in within `connect_timeout`.
    LoginTimeout,
    /// The client has hung up while its statement ran.
    ClientGone,
}

impl CloseReason {
    /// What the client is told, if anything.
    pub(crate) fn error(self) -> Option<MysqlError> {
        match self {
            Self::Shutdown | Self::Demoted => {
                Some(MysqlError::new(1053, "08S01", "Server shutdown in progress"))
            }
            Self::Idle => {
                let text = "The client was disconnected by the server because of inactivity. \
                            See wait_timeout and interactive_timeout for configuring this behavior.";
                Some(MysqlError::new(4031, "HY000", text))
            }
            // Who is killed while executing has its answer; an idle one just loses the connection, as in MySQL.
            Self::Killed | Self::LoginTimeout | Self::ClientGone => None,
        }
    }
}

/// A row of the process list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessInfo {
    /// The connection's number.
    pub id: u32,
    /// Its user; empty before login.
    pub user: String,
    /// `address:port` of the client.
    pub host: String,
    /// Its database.
    pub database: Option<String>,
    /// `Query`, `Sleep`, ….
    pub command: &'static str,
    /// How long that has been so.
    pub time: Duration,
    /// What it does in detail.
    pub state: &'static str,
    /// The statement.
    pub info: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Login,
    Executing,
    Sleeping,
}

struct Inner {
    user: String,
    database: Option<String>,
    phase: Phase,
    command: &'static str,
    since: Instant,
    info: Option<Bytes>,
    wait_timeout: Option<Duration>,
    interrupt: Option<Arc<dyn Interrupt>>,
    closing: Option<CloseReason>,
}

/// A connection as others see it.
pub(crate) struct Entry {
    pub(crate) id: u32,
    peer: SocketAddr,
    pub(crate) socket: TcpStream,
    inner: Mutex<Inner>,
}

impl Entry {
    pub(crate) fn new(id: u32, peer: SocketAddr, socket: TcpStream) -> Self {
        let inner = Inner {
            user: String::new(),
            database: None,
            phase: Phase::Login,
            command: "Connect",
            since: Instant::now(),
            info: None,
            wait_timeout: None,
            interrupt: None,
            closing: None,
        };
        Self { id, peer, socket, inner: Mutex::new(inner) }
    }
    /// The client's address; `localhost` for loopback, as MySQL resolves it.
    pub(crate) fn host(&self) -> String {
        if self.peer.ip().is_loopback() { "localhost".to_owned() } else { self.peer.ip().to_string() }
    }
    pub(crate) fn logged_in(&self, user: &str, handler: &dyn Handler) {
        let mut inner = self.inner.lock();
        inner.interrupt = Some(handler.interrupt_handle());
        user.clone_into(&mut inner.user);
        Self::sleep(&mut inner, handler);
    }
    pub(crate) fn command_begins(&self, command: &'static str, info: Option<Bytes>) {
        let mut inner = self.inner.lock();
        if let Some(interrupt) = &inner.interrupt {
            interrupt.rearm();
        }
        inner.phase = Phase::Executing;
        inner.command = command;
        inner.since = Instant::now();
        inner.info = info;
        // Closed between the last look and now: nobody else would interrupt it any more.
        if inner.closing.is_some()
            && let Some(interrupt) = &inner.interrupt
        {
            interrupt.interrupt(Interruption::Connection);
        }
    }
    pub(crate) fn command_ends(&self, handler: &dyn Handler) {
        Self::sleep(&mut self.inner.lock(), handler);
    }
    fn sleep(inner: &mut Inner, handler: &dyn Handler) {
        inner.phase = Phase::Sleeping;
        inner.command = "Sleep";
        inner.since = Instant::now();
        inner.info = None;
        inner.wait_timeout = handler.wait_timeout();
        let database = handler.database();
        if inner.database != database {
            inner.database = database;
        }
    }
    /// Why the connection is to be closed, if it is.
    pub(crate) fn closing(&self) -> Option<CloseReason> {
        self.inner.lock().closing
    }
    /// Closes the connection: its thread, if it waits for the client or is parked, wakes by the end of input.
    /// The way out stays open for a last word.
    fn close(&self, reason: CloseReason, interrupt: bool) {
        let mut inner = self.inner.lock();
        if inner.closing.is_none() {
            inner.closing = Some(reason);
        }
        if interrupt
            && inner.phase == Phase::Executing
            && let Some(handle) = &inner.interrupt
        {
            handle.interrupt(Interruption::Connection);
        }
        let _ = self.socket.shutdown(Shutdown::Read);
    }
    fn kill_query(&self) {
        let inner = self.inner.lock();
        if inner.phase == Phase::Executing
            && let Some(handle) = &inner.interrupt
        {
            handle.interrupt(Interruption::Statement);
        }
    }
    fn process(&self, now: Instant) -> ProcessInfo {
        let inner = self.inner.lock();
        let user = if inner.phase == Phase::Login { "unauthenticated user" } else { &inner.user };
        ProcessInfo {
            id: self.id,
            user: user.to_owned(),
            host: format!("{}:{}", self.host(), self.peer.port()),
            database: inner.database.clone(),
            command: inner.command,
            time: now.saturating_duration_since(inner.since),
            state: match (inner.closing, inner.phase) {
                (Some(_), _) => "Killed",
                (None, Phase::Login) => "login",
                (None, Phase::Executing) => "executing",
                (None, Phase::Sleeping) => "",
            },
            info: inner.info.as_ref().map(|sql| String::from_utf8_lossy(sql).into_owned()),
        }
    }
    /// Closes the connection if its time is up.
    fn sweep(&self, now: Instant, limits: &SweepLimits) {
        let reason = {
            let inner = self.inner.lock();
            let past = now.saturating_duration_since(inner.since);
            match inner.phase {
                _ if inner.closing.is_some() => None,
                Phase::Login => (past > limits.connect_timeout).then_some(CloseReason::LoginTimeout),
                Phase::Sleeping => {
                    let allowed = inner.wait_timeout.unwrap_or(limits.wait_timeout);
                    (past > allowed).then_some(CloseReason::Idle)
                }
                Phase::Executing => {
                    (past > HANGUP_AFTER && sys::hung_up(&self.socket)).then_some(CloseReason::ClientGone)
                }
            }
        };
        if let Some(reason) = reason {
            tracing::info!(connection = self.id, ?reason, "closing a connection");
            self.close(reason, true);
        }
    }
}

/// What a sweep compares with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SweepLimits {
    pub(crate) connect_timeout: Duration,
    pub(crate) wait_timeout: Duration,
}

/// Every connection of a server.
#[derive(Default)]
pub struct Registry {
    all: Mutex<Connections>,
    /// As many as there are entries; read before every wait for a client.
    count: AtomicUsize,
    left: Condvar,
}

#[derive(Default)]
struct Connections {
    entries: BTreeMap<u32, Arc<Entry>>,
    last: u32,
    accepted: u64,
    /// New connections are refused.
    closed: bool,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("connections", &self.len()).finish()
    }
}

impl Registry {
    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// How many connections there have been.
    pub fn accepted(&self) -> u64 {
        self.all.lock().accepted
    }
    /// The process list, by number.
    pub fn processes(&self) -> Vec<ProcessInfo> {
        let now = Instant::now();
        self.snapshot().iter().map(|entry| entry.process(now)).collect()
    }
    /// Interrupts a connection's statement, if it executes one; false if there is no such connection.
    pub fn kill_query(&self, id: u32) -> bool {
        self.find(id).inspect(|entry| entry.kill_query()).is_some()
    }
    /// Closes a connection; false if there is none of that number.
    pub fn kill_connection(&self, id: u32) -> bool {
        self.find(id).inspect(|entry| entry.close(CloseReason::Killed, true)).is_some()
    }
    /// Closes every connection and interrupts what they execute. New ones are still accepted.
    pub fn close_all(&self, reason: CloseReason) {
        for entry in self.snapshot() {
            entry.close(reason, true);
        }
    }
    /// Closes every connection once it has answered the command it executes.
    pub(crate) fn drain(&self, reason: CloseReason) {
        for entry in self.snapshot() {
            entry.close(reason, false);
        }
    }
    /// Closes the sockets, for clients that do not take their answers.
    pub(crate) fn cut(&self) {
        for entry in self.snapshot() {
            let _ = entry.socket.shutdown(Shutdown::Both);
        }
    }
    /// Refuses new connections from here on.
    pub(crate) fn refuse(&self) {
        self.all.lock().closed = true;
    }
    /// Waits until every connection is gone; false at the deadline.
    pub(crate) fn wait_empty(&self, deadline: Instant) -> bool {
        let mut all = self.all.lock();
        while !all.entries.is_empty() {
            if self.left.wait_until(&mut all, deadline).timed_out() {
                return all.entries.is_empty();
            }
        }
        true
    }
    /// Adds a connection unless there are `max` already. Also says how many there are with it.
    pub(crate) fn add(
        &self,
        peer: SocketAddr,
        socket: TcpStream,
        max: usize,
    ) -> Result<(Arc<Entry>, usize), TcpStream> {
        let mut all = self.all.lock();
        if all.closed || all.entries.len() >= max {
            return Err(socket);
        }
        loop {
            all.last = all.last.wrapping_add(1);
            if all.last != 0 && !all.entries.contains_key(&all.last) {
                break;
            }
        }
        let entry = Arc::new(Entry::new(all.last, peer, socket));
        all.entries.insert(entry.id, Arc::clone(&entry));
        all.accepted += 1;
        let count = all.entries.len();
        self.count.store(count, Ordering::Relaxed);
        Ok((entry, count))
    }
    pub(crate) fn remove(&self, id: u32) {
        let mut all = self.all.lock();
        all.entries.remove(&id);
        self.count.store(all.entries.len(), Ordering::Relaxed);
        if all.entries.is_empty() {
            self.left.notify_all();
        }
    }
    pub(crate) fn sweep(&self, limits: &SweepLimits) {
        let now = Instant::now();
        for entry in self.snapshot() {
            entry.sweep(now, limits);
        }
    }
    fn find(&self, id: u32) -> Option<Arc<Entry>> {
        self.all.lock().entries.get(&id).cloned()
    }
    fn snapshot(&self) -> Vec<Arc<Entry>> {
        self.all.lock().entries.values().cloned().collect()
    }
}
