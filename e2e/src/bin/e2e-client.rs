//! A client for the tests against a real Kubernetes.
//!
//! ```text
//! e2e-client ping  HOST:PORT                 connects and reads; tells how long until it could
//! e2e-client setup HOST:PORT                 makes the table anew
//! e2e-client load  HOST:PORT SECONDS FIRST   inserts FIRST, FIRST+1, …, one at a time, as fast as it can
//! e2e-client check HOST:PORT COUNT           says how many rows there are, and fails where that is not COUNT
//! ```
//!
//! User, password and database come from `BOREALIS_USER`, `BOREALIS_PASSWORD` and `BOREALIS_DATABASE`.
//! `load` says `warm` after some hundred writes. After an error it connects again and goes on with the **next**
//! number, so that the outcome of each is known or unknown, never both. At the end it reads everything back and prints
//! `acknowledged N lost N refused N unknown N longest_gap_ms N break_ms N break_ended_unix_ms N`: the longest time
//! between two acknowledged writes, and the longest one with a failed write in it, with the time of the write that
//! ended it (0 where none failed). A row that was acknowledged and is not there makes it fail.

use std::collections::HashSet;
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};

/// How long a first connection may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// An old address may swallow packets: give up early and ask for the new one.
const CONNECT: Duration = Duration::from_millis(250);
/// Longest wait for an answer to one statement.
const ANSWER: Duration = Duration::from_secs(3);
/// After so many writes `load` says that it is warm: something may break now.
const WARM: usize = 200;
const TABLE: &str = "borealis_e2e";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done =
        match arguments.as_slice() {
            ["ping", address] => ping(address),
            ["setup", address] => setup(address),
            ["load", address, seconds, first] => load(address, seconds, first),
            ["check", address, count] => check(address, count),
            _ => Err("usage: e2e-client ping|setup ADDRESS, load ADDRESS SECONDS FIRST, check ADDRESS COUNT"
                .into()),
        };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// The output of this program is read by a script, line by line.
fn report(line: &str) {
    use std::io::Write;
    // Nobody reads any more: then nobody misses it.
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn connect(address: &str) -> Result<Conn> {
    let (host, port) = address.rsplit_once(':').ok_or("the address must be HOST:PORT")?;
    let variable = |name: &str| std::env::var(name).ok();
    let options = OptsBuilder::new()
        .ip_or_hostname(Some(host))
        .tcp_port(port.parse()?)
        .user(variable("BOREALIS_USER"))
        .pass(variable("BOREALIS_PASSWORD"))
        .db_name(variable("BOREALIS_DATABASE"))
        .prefer_socket(false)
        .tcp_connect_timeout(Some(CONNECT))
        .read_timeout(Some(ANSWER))
        .write_timeout(Some(ANSWER));
    Ok(Conn::new(options)?)
}

/// Connects, trying again for a while: a Service leads to a pod only some moments after the pod is ready.
fn connect_patiently(address: &str) -> Result<Conn> {
    let end = Instant::now() + PATIENCE;
    loop {
        match connect(address) {
            Err(_) if Instant::now() < end => std::thread::park_timeout(PAUSE),
            result => return result,
        }
    }
}

fn ping(address: &str) -> Result<()> {
    let began = Instant::now();
    let mut connection = connect_patiently(address)?;
    let row: Option<(i64, String)> = connection.query_first("SELECT 1, @@aurora_server_id")?;
    let (_, server) = row.ok_or("SELECT gave no row")?;
    let read_only: Option<i64> = connection.query_first("SELECT @@innodb_read_only")?;
    let (read_only, milliseconds) = (read_only.unwrap_or(-1), began.elapsed().as_millis());
    report(&format!("connected to {server} read_only {read_only} after {milliseconds} ms"));
    Ok(())
}

fn setup(address: &str) -> Result<()> {
    let mut connection = connect_patiently(address)?;
    connection.query_drop(format!("DROP TABLE IF EXISTS {TABLE}"))?;
    connection.query_drop(format!("CREATE TABLE {TABLE} (id BIGINT PRIMARY KEY, worker VARCHAR(64))"))?;
    Ok(())
}

fn check(address: &str, count: &str) -> Result<()> {
    let wanted: i64 = count.parse()?;
    let rows: Option<i64> = connect(address)?.query_first(format!("SELECT COUNT(*) FROM {TABLE}"))?;
    let rows = rows.ok_or("COUNT gave no row")?;
    report(&format!("rows {rows}"));
    if rows == wanted { Ok(()) } else { Err(format!("{wanted} rows were expected").into()) }
}

#[derive(Default)]
struct Tally {
    acknowledged: Vec<i64>,
    refused: u64,
    unknown: u64,
    longest: Duration,
    /// The longest time between two acknowledged writes with a failed one between them.
    longest_break: Duration,
    break_ended_unix_ms: u128,
}

fn load(address: &str, seconds: &str, first: &str) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(seconds.parse()?);
    let mut id: i64 = first.parse()?;
    let mut tally = Tally::default();
    let mut connection = None;
    let mut last = Instant::now();
    let mut broken = false;
    while Instant::now() < end {
        let Some(open) = connection.as_mut() else {
            // The connect timeout bounds this; a refusal comes at once, so wait for what is left of a turn.
            let turn = Instant::now();
            connection = connect(address).ok();
            if connection.is_none() {
                wait_out(turn, Duration::from_millis(5));
            }
            continue;
        };
        let statement = format!("INSERT INTO {TABLE} VALUES ({id}, 'load')");
        match open.query_drop(statement) {
            Ok(()) => {
                let gap = if tally.acknowledged.is_empty() { Duration::ZERO } else { last.elapsed() };
                tally.longest = tally.longest.max(gap);
                if broken && gap > tally.longest_break {
                    (tally.longest_break, tally.break_ended_unix_ms) = (gap, unix_ms());
                }
                (last, broken) = (Instant::now(), false);
                tally.acknowledged.push(id);
                if tally.acknowledged.len() == WARM {
                    report("warm");
                }
            }
            Err(mysql::Error::MySqlError(error)) => {
                tally.refused += 1;
                report(&format!("refused {} {} {}", unix_ms(), error.code, error.message));
                (connection, broken) = (None, true);
            }
            Err(error) => {
                tally.unknown += 1;
                report(&format!("broken {} {error}", unix_ms()));
                (connection, broken) = (None, true);
            }
        }
        id += 1;
    }
    finish(address, &tally)
}

/// Waits until `turn` is over, on a channel that nobody sends on.
fn wait_out(turn: Instant, length: Duration) {
    let (_sender, receiver) = std::sync::mpsc::channel::<()>();
    let _ = receiver.recv_timeout(length.saturating_sub(turn.elapsed()));
}

fn finish(address: &str, tally: &Tally) -> Result<()> {
    let there: HashSet<i64> =
        connect(address)?.query(format!("SELECT id FROM {TABLE}"))?.into_iter().collect();
    let lost = tally.acknowledged.iter().filter(|id| !there.contains(id)).count();
    report(&format!(
        "acknowledged {} lost {lost} refused {} unknown {} longest_gap_ms {} break_ms {} break_ended_unix_ms {}",
        tally.acknowledged.len(),
        tally.refused,
        tally.unknown,
        tally.longest.as_millis(),
        tally.longest_break.as_millis(),
        tally.break_ended_unix_ms,
    ));
    if lost == 0 { Ok(()) } else { Err(format!("{lost} acknowledged rows are lost").into()) }
}

fn unix_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}
