//! What the examples share: a playground from outside, and writers that remember what was acknowledged.

use std::collections::HashSet;
use std::error::Error;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use serde_json::Value;

pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Pause between two writes of a writer: the load is steady and bounded.
const PACE: Duration = Duration::from_millis(2);
/// A writer gives up on an answer after this time and reconnects.
const PATIENCE: Duration = Duration::from_secs(30);
/// Numbers of one writer's rows start at a multiple of this.
const ROWS_PER_WRITER: u64 = 1_000_000;

/// A running playground, ended when dropped.
pub(crate) struct Playground<'a> {
    binary: &'a Path,
    dir: tempfile::TempDir,
}

impl<'a> Playground<'a> {
    /// A playground that is not up yet.
    pub(crate) fn new(binary: &'a Path) -> Outcome<Playground<'a>> {
        Ok(Playground { binary, dir: tempfile::tempdir()? })
    }

    /// Starts a cluster and gives the line that says how long it took.
    pub(crate) fn up(&self, manifest: &Path) -> Outcome<String> {
        let file = manifest.to_str().ok_or("the manifest's path is not text")?;
        let said = self.run(&["up", "-f", file, "--port", "0", "--detach"])?;
        Ok(said.lines().next().unwrap_or_default().to_owned())
    }

    /// Runs a command of the playground; gives what it printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome<String> {
        let mut command = Command::new(self.binary);
        command.arg("playground").args(arguments).arg("--data-dir").arg(self.dir.path().join("data"));
        let output = command.output()?;
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout)?);
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().into())
    }

    /// The state of everything.
    pub(crate) fn status(&self) -> Outcome<Value> {
        Ok(serde_json::from_str(&self.run(&["status", "-o", "json"])?)?)
    }
}

impl Drop for Playground<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.run(&["down"]) {
            eprintln!("the cluster did not go down: {error}");
        }
    }
}

/// A place that applications connect to.
pub(crate) struct Endpoint {
    pub(crate) name: String,
    pub(crate) address: OptsBuilder,
}

/// An address of this machine.
pub(crate) fn address(
    port: u64,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
) -> Outcome<OptsBuilder> {
    Ok(OptsBuilder::new()
        .ip_or_hostname(Some("127.0.0.1"))
        .tcp_port(u16::try_from(port)?)
        .prefer_socket(false)
        .user(user)
        .pass(password)
        .db_name(database)
        .tcp_connect_timeout(Some(PATIENCE))
        .read_timeout(Some(PATIENCE))
        .write_timeout(Some(PATIENCE)))
}

/// The endpoints that an application writes to: the cluster's, or every instance's.
pub(crate) fn endpoints(state: &Value) -> Outcome<Vec<Endpoint>> {
    let text = |key: &str| state["credentials"][key].as_str().map(str::to_owned);
    let endpoint = |name: &str, place: &Value| -> Outcome<Endpoint> {
        let port = place["port"].as_u64().ok_or("an endpoint has no port")?;
        let address = address(port, text("user"), text("password"), text("database"))?;
        Ok(Endpoint { name: name.to_owned(), address })
    };
    if !state["cluster"].is_null() {
        return Ok(vec![endpoint("cluster", &state["cluster"])?]);
    }
    let instances = state["instances"].as_array().ok_or("the status names no instances")?;
    instances.iter().map(|one| endpoint(one["name"].as_str().unwrap_or("?"), one)).collect()
}

/// The instance that writes, or the first of several.
pub(crate) fn writer(state: &Value) -> Option<String> {
    let instances = state["instances"].as_array()?;
    let writer = instances.iter().find(|one| one["role"] == "writer")?;
    writer["name"].as_str().map(str::to_owned)
}

/// Creates the table that writers write to.
pub(crate) fn create_table(endpoint: &Endpoint) -> Outcome<()> {
    let mut connection = Conn::new(endpoint.address.clone())?;
    Ok(connection.query_drop("CREATE TABLE journal (id BIGINT PRIMARY KEY, body VARCHAR(40))")?)
}

/// What a writer saw.
#[derive(Default)]
pub(crate) struct Seen {
    /// Number of each acknowledged row, and when it was acknowledged.
    pub(crate) acknowledged: Vec<(u64, Instant)>,
    /// Writes and connections that failed.
    pub(crate) failures: Vec<String>,
}

impl Seen {
    /// The longest time between two acknowledged writes of which the second one is in `during`.
    pub(crate) fn longest_gap(&self, during: &Range<Instant>) -> Duration {
        let moments = || self.acknowledged.iter().map(|(_, moment)| *moment);
        let pairs = moments().zip(moments().skip(1)).filter(|(_, next)| during.contains(next));
        pairs.map(|(last, next)| next - last).max().unwrap_or_default()
    }
}

/// Writes rows until it is told to stop, over a new connection whenever one fails; counts what was
/// acknowledged. `number` tells writers of one table apart.
pub(crate) fn write(endpoint: &Endpoint, number: u64, stopped: &Receiver<()>, count: &AtomicUsize) -> Seen {
    let mut seen = Seen::default();
    let mut connection = None;
    let mut id = number * ROWS_PER_WRITER;
    while stopped.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
        id += 1;
        let statement = format!("INSERT INTO journal VALUES ({id}, 'row {id}')");
        let attempt = || -> mysql::Result<()> {
            let open = match &mut connection {
                Some(open) => open,
                None => connection.insert(Conn::new(endpoint.address.clone())?),
            };
            open.query_drop(statement)
        };
        match attempt() {
            Ok(()) => {
                seen.acknowledged.push((id, Instant::now()));
                count.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                connection = None;
                seen.failures.push(error.to_string());
            }
        }
    }
    seen
}

/// How many acknowledged rows of a writer are not there.
pub(crate) fn lost(endpoint: &Endpoint, seen: &Seen) -> Outcome<usize> {
    let (Some((first, _)), Some((last, _))) = (seen.acknowledged.first(), seen.acknowledged.last()) else {
        return Ok(0);
    };
    let query = format!("SELECT id FROM journal WHERE id BETWEEN {first} AND {last}");
    let there: HashSet<u64> = Conn::new(endpoint.address.clone())?.query(query)?.into_iter().collect();
    Ok(seen.acknowledged.iter().filter(|(id, _)| !there.contains(id)).count())
}

/// Waits for a moment.
pub(crate) fn wait_until(moment: Instant) {
    while let Some(rest) = moment.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
        std::thread::park_timeout(rest);
    }
}
