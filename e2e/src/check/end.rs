//! The tables that clients use: made at the beginning, read at the end on every instance.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;

use super::CheckError;
use super::clients::bank::{ACCOUNTS, INITIAL};
use super::clients::lists::{Lists, parse};
use super::cluster::{Door, Doors};
use super::connect;
use crate::history::bank;

/// How long tables may take to be made, and what is there at the end to settle.
const PATIENCE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(200);

const TABLES: [&str; 5] =
    ["check_lists", "check_elements", "check_accounts", "check_transfers", "check_ledger"];

/// What is there when all is over.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct End {
    pub(crate) lists: BTreeMap<u32, Vec<u32>>,
    pub(crate) balances: Vec<i64>,
    pub(crate) transfers: Vec<(u64, usize, usize, i64)>,
    pub(crate) ledger: Vec<u64>,
}

impl End {
    pub(crate) fn bank(&self) -> bank::End {
        bank::End { balances: self.balances.clone(), transfers: self.transfers.clone() }
    }
}

/// Makes the tables, and waits until every instance shows them.
pub(crate) fn set_up(doors: &Doors) -> Result<(), CheckError> {
    let mut statements: Vec<String> =
        TABLES.iter().map(|name| format!("DROP TABLE IF EXISTS {name}")).collect();
    statements.extend(Lists::setup());
    let accounts: Vec<String> = (0..ACCOUNTS).map(|account| format!("({account}, {INITIAL})")).collect();
    statements.extend([
        "CREATE TABLE check_accounts (id INT PRIMARY KEY, balance BIGINT NOT NULL)".into(),
        "CREATE TABLE check_transfers (id BIGINT PRIMARY KEY, source INT, target INT, amount BIGINT)".into(),
        "CREATE TABLE check_ledger (id BIGINT PRIMARY KEY, client INT)".into(),
        format!("INSERT INTO check_accounts VALUES {}", accounts.join(", ")),
    ]);
    let failed = |source| CheckError::Database { what: "make the tables", source };
    // On Kubernetes an address may lead nowhere for a moment after the cluster is Ready.
    let mut conn = again_until_done(|| connect::open(doors, &doors.writers[0])).map_err(failed)?;
    for statement in statements {
        conn.query_drop(statement).map_err(failed)?;
    }
    for (_, door) in &doors.instances {
        again_until_done(|| {
            let mut conn = connect::open(doors, door)?;
            let rows: Vec<u64> = conn.query("SELECT id FROM check_accounts")?;
            // The last statement's rows: whoever shows them shows everything before.
            if rows.len() == ACCOUNTS { Ok(()) } else { Err(missing()) }
        })
        .map_err(failed)?;
    }
    Ok(())
}

/// Reads everything on every instance until all agree: a commit without an answer may still arrive.
pub(crate) fn read(doors: &Doors) -> Result<End, CheckError> {
    let failed = |source| CheckError::Database { what: "read what is there at the end", source };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let first = again_until_done(|| read_on(doors, &doors.writers[0])).map_err(failed)?;
        let mut differs = None;
        for (name, door) in &doors.instances {
            if again_until_done(|| read_on(doors, door)).map_err(failed)? != first {
                differs = Some(name.clone());
            }
        }
        match differs {
            None => return Ok(first),
            Some(name) if Instant::now() >= deadline => {
                return Err(CheckError::Unsettled { what: format!("{name} shows something else") });
            }
            Some(_) => std::thread::park_timeout(AGAIN),
        }
    }
}

fn read_on(doors: &Doors, door: &Door) -> mysql::Result<End> {
    let mut conn = connect::open(doors, door)?;
    // A replica waits for everything committed; elsewhere it changes nothing.
    conn.query_drop("SET SESSION aurora_replica_read_consistency = 'GLOBAL'")?;
    let mut lists = texts(&mut conn)?;
    let rows: Vec<(u32, u32)> =
        conn.query("SELECT list, element FROM check_elements ORDER BY list, place")?;
    for (list, element) in rows {
        lists.entry(list).or_default().push(element);
    }
    let balances = conn.query("SELECT balance FROM check_accounts ORDER BY id")?;
    let transfers = conn.query("SELECT id, source, target, amount FROM check_transfers ORDER BY id")?;
    Ok(End { lists, balances, transfers, ledger: conn.query("SELECT id FROM check_ledger ORDER BY id")? })
}

fn texts(conn: &mut Conn) -> mysql::Result<BTreeMap<u32, Vec<u32>>> {
    let rows: Vec<(u32, String)> = conn.query("SELECT id, elements FROM check_lists ORDER BY id")?;
    Ok(rows.into_iter().map(|(list, text)| (list, parse(&text))).collect())
}

fn again_until_done<T>(mut attempt: impl FnMut() -> mysql::Result<T>) -> mysql::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Err(_) if Instant::now() < deadline => std::thread::park_timeout(AGAIN),
            done => return done,
        }
    }
}

fn missing() -> mysql::Error {
    mysql::Error::IoError(std::io::Error::new(std::io::ErrorKind::NotFound, "the rows are not there yet"))
}
