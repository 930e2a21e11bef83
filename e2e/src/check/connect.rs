//! Connections as applications make them: again after a failure, to the next instance where there are several.

use std::time::Duration;

use mysql::prelude::{FromRow, Queryable};
use mysql::{Conn, OptsBuilder};

use super::cluster::{Door, Doors};
use super::shared::Shared;
use crate::history::Outcome;

const CONNECT: Duration = Duration::from_secs(2);
/// Longest wait for an answer to one statement.
const ANSWER: Duration = Duration::from_secs(6);
/// A row lock that is not had by then is 1205, in seconds.
const LOCK_WAIT_SECONDS: u32 = 3;
/// Pause after a connection could not be made.
const AGAIN: Duration = Duration::from_millis(50);

/// Errors after which a transaction is certainly not applied: conflict or deadlock, lock wait, read-only, duplicate key,
/// and no quorum before anything was proposed.
const CERTAIN: [u16; 5] = [1213, 1205, 1290, 1062, 1030];
/// The server does not know whether a COMMIT took effect.
const UNKNOWN: u16 = 3024;

/// Why a statement failed.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The server said no.
    Refused(u16),
    /// There was no answer.
    Broken,
}

impl Failed {
    /// What that means for a transaction whose COMMIT, or whose only statement, it was.
    pub(crate) fn at_commit(&self) -> Outcome {
        match self {
            Failed::Refused(code) if CERTAIN.contains(code) => Outcome::Refused,
            Failed::Refused(_) | Failed::Broken => Outcome::Unknown,
        }
    }
}

/// An open connection.
pub(crate) struct Link<'a> {
    conn: Conn,
    shared: &'a Shared,
    pub(crate) number: u64,
    /// Index of the instance.
    pub(crate) place: usize,
    /// What `innodb_snapshot_isolation` is in the session.
    atomic: bool,
    /// It is of no more use.
    broken: bool,
}

impl Link<'_> {
    fn heard<T>(&mut self, result: mysql::Result<T>) -> Result<T, Failed> {
        result.map_err(|error| match error {
            mysql::Error::MySqlError(error) => {
                if !CERTAIN.contains(&error.code) && error.code != UNKNOWN {
                    self.shared.other_error(error.code, &error.message);
                }
                Failed::Refused(error.code)
            }
            _ => {
                self.broken = true;
                Failed::Broken
            }
        })
    }

    /// Runs a statement; how many rows it has changed.
    pub(crate) fn run(&mut self, statement: &str) -> Result<u64, Failed> {
        let result = self.conn.query_drop(statement);
        self.heard(result).map(|()| self.conn.affected_rows())
    }

    /// Runs a query.
    pub(crate) fn query<T: FromRow>(&mut self, query: &str) -> Result<Vec<T>, Failed> {
        let result = self.conn.query::<T, _>(query);
        self.heard(result)
    }

    /// Sets whether the next transactions are atomic.
    pub(crate) fn set_atomic(&mut self, atomic: bool) -> Result<(), Failed> {
        if self.atomic != atomic {
            let value = if atomic { "ON" } else { "OFF" };
            self.run(&format!("SET SESSION innodb_snapshot_isolation = {value}"))?;
            self.atomic = atomic;
        }
        Ok(())
    }

    /// Rolls back what is open; whoever cannot do that gives the connection up.
    pub(crate) fn roll_back(&mut self) {
        if !self.broken && self.run("ROLLBACK").is_err() {
            self.broken = true;
        }
    }
}

/// One client's way to the database.
pub(crate) struct Way<'a> {
    doors: &'a [Door],
    all: &'a Doors,
    shared: &'a Shared,
    next: usize,
    link: Option<Link<'a>>,
    /// Statements for every new connection.
    settings: Vec<String>,
}

impl<'a> Way<'a> {
    pub(crate) fn new(doors: &'a [Door], all: &'a Doors, shared: &'a Shared, first: usize) -> Way<'a> {
        let settings = vec![format!("SET SESSION innodb_lock_wait_timeout = {LOCK_WAIT_SECONDS}")];
        Way { doors, all, shared, next: first, link: None, settings }
    }

    pub(crate) fn with(mut self, setting: &str) -> Way<'a> {
        self.settings.push(setting.to_owned());
        self
    }

    /// The open connection, or a new one; none if none can be had now, after a pause.
    pub(crate) fn link(&mut self) -> Option<&mut Link<'a>> {
        if self.link.as_ref().is_none_or(|link| link.broken) {
            self.link = None;
            self.link = self.connect();
            if self.link.is_none() {
                self.next += 1;
                self.shared.wait(AGAIN);
            }
        }
        self.link.as_mut()
    }

    /// The next transaction uses a new connection, to the next instance where there are several.
    pub(crate) fn move_on(&mut self) {
        self.link = None;
        self.next += 1;
    }

    fn connect(&self) -> Option<Link<'a>> {
        let conn = open(self.all, &self.doors[self.next % self.doors.len()]).ok()?;
        let (number, shared) = (self.shared.next_connection(), self.shared);
        let mut link = Link { conn, shared, number, place: 0, atomic: false, broken: false };
        let name: String = link.query("SELECT @@aurora_server_id").ok()?.pop()?;
        link.place = self.all.instances.iter().position(|(instance, _)| *instance == name)?;
        for setting in &self.settings {
            link.run(setting).ok()?;
        }
        Some(link)
    }
}

/// Opens a connection.
pub(crate) fn open(doors: &Doors, door: &Door) -> mysql::Result<Conn> {
    let options = OptsBuilder::new()
        .ip_or_hostname(Some(door.host.clone()))
        .tcp_port(door.port)
        .prefer_socket(false)
        .user(Some(doors.user.clone()))
        .pass(Some(doors.password.clone()))
        .db_name(Some(doors.database.clone()))
        .tcp_connect_timeout(Some(CONNECT))
        .read_timeout(Some(ANSWER))
        .write_timeout(Some(ANSWER));
    Conn::new(options)
}
