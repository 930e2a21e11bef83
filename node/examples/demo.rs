//! Shows what Borealis is for: `demo BINARY MANIFEST...` starts each cluster, writes to it, kills an instance
//! under that load, and says how long writes were interrupted and whether a row was lost.

use std::collections::HashSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use serde_json::Value;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// How long writers write.
const LOAD: Duration = Duration::from_secs(6);
/// When an instance is killed.
const KILL_AFTER: Duration = Duration::from_secs(2);
/// Pause between two writes of a writer: this shows a failover, it is no benchmark.
const PACE: Duration = Duration::from_millis(2);
/// A writer gives up on an answer after this time and reconnects.
const PATIENCE: Duration = Duration::from_secs(5);
/// Numbers of one writer's rows start at a multiple of this.
const ROWS_PER_WRITER: u64 = 1_000_000;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let Some(binary) = arguments.next() else {
        eprintln!("usage: demo BINARY MANIFEST...");
        return ExitCode::from(2);
    };
    for manifest in arguments {
        match show(&binary, &manifest) {
            Ok(true) => {}
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => {
                eprintln!("demo: {}: {error}", manifest.display());
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// A running playground, ended when dropped.
struct Playground<'a> {
    binary: &'a Path,
    dir: tempfile::TempDir,
}

impl Playground<'_> {
    fn run(&self, arguments: &[&str]) -> Outcome<String> {
        let mut command = Command::new(self.binary);
        command.arg("playground").args(arguments).arg("--data-dir").arg(self.dir.path().join("data"));
        let output = command.output()?;
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout)?);
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().into())
    }

    fn status(&self) -> Outcome<Value> {
        Ok(serde_json::from_str(&self.run(&["status", "-o", "json"])?)?)
    }
}

impl Drop for Playground<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.run(&["down"]) {
            eprintln!("demo: the cluster did not go down: {error}");
        }
    }
}

/// A place that applications connect to.
struct Endpoint {
    name: String,
    address: OptsBuilder,
}

/// What a writer saw.
struct Seen {
    acknowledged: Vec<u64>,
    longest_gap: Duration,
    /// When the last write was acknowledged.
    last: Instant,
}

/// One cluster, from up to down. False: a row was lost.
fn show(binary: &Path, manifest: &Path) -> Outcome<bool> {
    let playground = Playground { binary, dir: tempfile::tempdir()? };
    let file = manifest.to_str().ok_or("the manifest's path is not text")?;
    println!("== {file}");
    println!(
        "{}",
        playground.run(&["up", "-f", file, "--port", "0", "--detach"])?.lines().next().unwrap_or("")
    );
    let state = playground.status()?;
    let multi_master = state["cluster"].is_null();
    let endpoints = endpoints(&state)?;
    let victim = victim(&state).ok_or("no instance writes")?;
    for endpoint in &endpoints {
        println!("  {:<10} {}", endpoint.name, place(&endpoint.address));
    }
    Conn::new(endpoints[0].address.clone())?
        .query_drop("CREATE TABLE journal (id BIGINT PRIMARY KEY, body VARCHAR(40))")?;

    println!(
        "Writing through {} for {} s; killing {victim} after {} s …",
        names(&endpoints),
        LOAD.as_secs(),
        KILL_AFTER.as_secs()
    );
    let began = Instant::now();
    let mut seen = Vec::new();
    std::thread::scope(|scope| -> Outcome<()> {
        let mut stops = Vec::new();
        let mut writers = Vec::new();
        for (number, endpoint) in (1..).zip(&endpoints) {
            let (stop, stopped) = mpsc::channel::<()>();
            stops.push(stop);
            let first = number * ROWS_PER_WRITER;
            writers.push(scope.spawn(move || write(&endpoint.address, first, &stopped)));
        }
        wait_until(began + KILL_AFTER);
        let killed = playground.run(&["kill", &victim]);
        wait_until(began + LOAD);
        drop(stops);
        for writer in writers {
            seen.push(writer.join().map_err(|_| "a writer panicked")?);
        }
        killed.map(drop)
    })?;
    let survivor =
        endpoints.iter().find(|one| !multi_master || one.name != victim).ok_or("nobody survived")?;
    report(survivor, &endpoints, &seen, multi_master.then_some(victim.as_str()))
}

/// The endpoints that an application writes to.
fn endpoints(state: &Value) -> Outcome<Vec<Endpoint>> {
    let text = |key: &str| state["credentials"][key].as_str().map(str::to_owned);
    let endpoint = |name: &str, place: &Value| -> Outcome<Endpoint> {
        let port = place["port"].as_u64().ok_or("an endpoint has no port")?;
        let address = OptsBuilder::new()
            .ip_or_hostname(place["host"].as_str())
            .tcp_port(u16::try_from(port)?)
            .prefer_socket(false)
            .user(text("user"))
            .pass(text("password"))
            .db_name(text("database"))
            .tcp_connect_timeout(Some(PATIENCE))
            .read_timeout(Some(PATIENCE))
            .write_timeout(Some(PATIENCE));
        Ok(Endpoint { name: name.to_owned(), address })
    };
    if !state["cluster"].is_null() {
        return Ok(vec![endpoint("cluster", &state["cluster"])?]);
    }
    let instances = state["instances"].as_array().ok_or("the status names no instances")?;
    instances.iter().map(|one| endpoint(one["name"].as_str().unwrap_or("?"), one)).collect()
}

/// The instance to kill: the writer, or the first of several.
fn victim(state: &Value) -> Option<String> {
    let instances = state["instances"].as_array()?;
    let writer = instances.iter().find(|one| one["role"] == "writer")?;
    writer["name"].as_str().map(str::to_owned)
}

fn place(address: &OptsBuilder) -> String {
    let options = mysql::Opts::from(address.clone());
    format!("{}:{}", options.get_ip_or_hostname(), options.get_tcp_port())
}

fn names(endpoints: &[Endpoint]) -> String {
    endpoints.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn wait_until(moment: Instant) {
    while let Some(rest) = moment.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
        std::thread::park_timeout(rest);
    }
}

/// Writes rows until it is told to stop, over a new connection whenever one fails.
fn write(address: &OptsBuilder, first: u64, stopped: &Receiver<()>) -> Seen {
    let mut seen = Seen { acknowledged: Vec::new(), longest_gap: Duration::ZERO, last: Instant::now() };
    let mut connection = None;
    let mut id = first;
    while stopped.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
        id += 1;
        if connection.is_none() {
            connection = Conn::new(address.clone()).ok();
        }
        let Some(open) = &mut connection else { continue };
        if open.query_drop(format!("INSERT INTO journal VALUES ({id}, 'row {id}')")).is_ok() {
            seen.longest_gap = seen.longest_gap.max(seen.last.elapsed());
            seen.last = Instant::now();
            seen.acknowledged.push(id);
        } else {
            connection = None;
        }
    }
    seen
}

/// Says what the writers saw and checks that every acknowledged row is there.
fn report(survivor: &Endpoint, endpoints: &[Endpoint], seen: &[Seen], gone: Option<&str>) -> Outcome<bool> {
    let there: HashSet<u64> =
        Conn::new(survivor.address.clone())?.query("SELECT id FROM journal")?.into_iter().collect();
    let mut lost = 0;
    println!("  {:<10} {:>8} {:>12} {:>6}", "CONNECTION", "WRITTEN", "LONGEST GAP", "LOST");
    for (endpoint, seen) in endpoints.iter().zip(seen) {
        let missing = seen.acknowledged.iter().filter(|id| !there.contains(id)).count();
        lost += missing;
        let gap = format!("{:.0} ms", seen.longest_gap.as_secs_f64() * 1_000.0);
        let note = if gone == Some(endpoint.name.as_str()) { "  (killed)" } else { "" };
        println!("  {:<10} {:>8} {gap:>12} {missing:>6}{note}", endpoint.name, seen.acknowledged.len());
        if seen.acknowledged.is_empty() {
            return Err(format!("no write worked through {}", endpoint.name).into());
        }
    }
    if lost == 0 {
        println!("Every acknowledged row is there.\n");
    } else {
        println!("{lost} acknowledged rows are LOST.\n");
    }
    Ok(lost == 0)
}
