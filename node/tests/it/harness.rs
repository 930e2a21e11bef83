//! One cluster per test: up on free ports in a directory of its own, down at the end whatever happens.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use serde_json::Value;
use tempfile::TempDir;

/// How long a condition may take, unless a test says otherwise.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// Time between two looks at a condition that nobody announces.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Clusters that run at a time: each is nine processes, and the smallest supported machine has two cores.
const CLUSTERS_MAX: usize = 2;

static RUNNING: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// The right to run a cluster.
struct Turn;

impl Turn {
    fn take() -> Turn {
        let running = RUNNING.lock().expect("nobody panics while holding it");
        let mut running = FREED
            .wait_while(running, |running| *running >= CLUSTERS_MAX)
            .expect("nobody panics while holding it");
        *running += 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.lock().expect("nobody panics while holding it") -= 1;
        FREED.notify_one();
    }
}

/// How a cluster is laid out.
#[derive(Clone, Copy)]
pub(crate) struct Manifest {
    pub(crate) mode: &'static str,
    pub(crate) instances: u32,
    pub(crate) storage: u32,
    /// More lines of the spec.
    pub(crate) more: &'static str,
}

impl Manifest {
    pub(crate) fn single_master() -> Manifest {
        Manifest { mode: "SingleMaster", instances: 3, storage: 6, more: "" }
    }
    pub(crate) fn multi_master() -> Manifest {
        Manifest { mode: "MultiMaster", instances: 3, storage: 6, more: "" }
    }
    pub(crate) fn yaml(&self) -> String {
        let Manifest { mode, instances, storage, more } = self;
        format!(
            "apiVersion: borealis.dev/v1alpha1\nkind: AuroraCluster\nmetadata:\n  name: it\nspec:\n  \
             mode: {mode}\n  instances: {instances}\n  storage:\n    nodes: {storage}\n    size: 1Gi\n  \
             database: app\n{more}"
        )
    }
}

/// A running cluster.
pub(crate) struct Cluster {
    dir: TempDir,
    _turn: Turn,
}

impl Cluster {
    /// Starts a cluster and waits until all of it serves.
    pub(crate) fn up(manifest: &Manifest, more: &[&str]) -> Cluster {
        let turn = Turn::take();
        let cluster = Cluster { dir: tempfile::tempdir().expect("a temporary directory"), _turn: turn };
        let file = cluster.dir.path().join("cluster.yaml");
        std::fs::write(&file, manifest.yaml()).expect("the manifest can be written");
        cluster.start(more);
        cluster
    }

    /// Starts the cluster again after `down --keep-data`.
    pub(crate) fn up_again(&self) {
        self.start(&[]);
    }

    /// Tries to start the cluster of another manifest on the same data.
    pub(crate) fn try_up(&self, manifest: &Manifest) -> Output {
        let file = self.dir.path().join("other.yaml");
        std::fs::write(&file, manifest.yaml()).expect("the manifest can be written");
        let file = file.to_str().expect("temporary paths are text");
        self.try_playground(&["up", "-f", file, "--port", "0", "--detach"])
    }

    fn start(&self, more: &[&str]) {
        let file = self.dir.path().join("cluster.yaml");
        let file = file.to_str().expect("temporary paths are text");
        let mut arguments = vec!["up", "-f", file, "--port", "0", "--detach"];
        arguments.extend_from_slice(more);
        self.playground(&arguments);
    }

    /// Runs a command of the playground, which may be refused.
    pub(crate) fn try_playground(&self, arguments: &[&str]) -> Output {
        playground(&self.dir.path().join("data"), arguments)
    }

    /// Runs a command of the playground, which must work; returns what it printed.
    pub(crate) fn playground(&self, arguments: &[&str]) -> String {
        let output = self.try_playground(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "playground {arguments:?}: {errors}\n{}", self.logs());
        String::from_utf8(output.stdout).expect("it prints text")
    }

    /// The state of everything.
    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.playground(&["status", "-o", "json"])).expect("status prints JSON")
    }

    /// Waits until the state is as wanted; fails with the last state after thirty seconds.
    pub(crate) fn wait_for(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = poll(DEADLINE, || {
            last = self.status();
            condition(&last).then_some(())
        });
        assert!(found.is_some(), "waited in vain for {what}; last state: {last:#}\n{}", self.logs());
        last
    }

    /// Waits until every process serves.
    pub(crate) fn wait_until_ready(&self) {
        self.wait_for("all processes to serve", |state| {
            let serves = |kind: &str| members(state, kind).all(|one| one["state"] == "ready");
            serves("instances") && serves("storage")
        });
    }

    /// The name of the instance that writes.
    pub(crate) fn writer(&self) -> String {
        let writes =
            |state: &Value| members(state, "instances").find(|one| one["role"] == "writer").map(name_of);
        writes(&self.wait_for("a writer", |state| writes(state).is_some())).expect("waited for it")
    }

    /// The name of an instance that does not write.
    pub(crate) fn replica(&self) -> String {
        let state = self.status();
        members(&state, "instances")
            .find(|one| one["role"] == "reader")
            .map(name_of)
            .expect("there are replicas")
    }

    /// How to connect to an instance, or to the endpoint `cluster` or `reader`.
    pub(crate) fn address(&self, place: &str) -> OptsBuilder {
        let state = self.status();
        let found = match place {
            "cluster" | "reader" => &state[place],
            _ => members(&state, "instances")
                .find(|one| one["name"] == place)
                .expect("there is such an instance"),
        };
        let port = found["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("it has a port");
        let text = |key: &str| state["credentials"][key].as_str().map(str::to_owned);
        OptsBuilder::new()
            .ip_or_hostname(Some("127.0.0.1"))
            .tcp_port(port)
            .prefer_socket(false)
            .user(text("user"))
            .pass(text("password"))
            .db_name(text("database"))
            .tcp_connect_timeout(Some(Duration::from_secs(5)))
            .read_timeout(Some(Duration::from_secs(20)))
            .write_timeout(Some(Duration::from_secs(20)))
    }

    /// Connects, waiting for as long as the place is not there.
    pub(crate) fn connect(&self, place: &str) -> Conn {
        let address = self.address(place);
        let mut last = String::new();
        let connection = poll(DEADLINE, || Conn::new(address.clone()).map_err(|e| last = e.to_string()).ok());
        connection.unwrap_or_else(|| panic!("cannot connect to {place}: {last}\n{}", self.logs()))
    }

    /// Process ids of everything that runs.
    pub(crate) fn pids(&self) -> Vec<String> {
        let state = self.status();
        let pids = members(&state, "instances").chain(members(&state, "storage"));
        pids.filter_map(|one| one["pid"].as_u64()).map(|pid| pid.to_string()).collect()
    }

    /// Where a storage node of the playground keeps its files.
    pub(crate) fn storage_dir(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("data/storage").join(name)
    }

    /// A line of what Linux tells about an instance's process, such as `VmRSS` (in KiB) or `Threads`.
    pub(crate) fn process_figure(&self, instance: &str, name: &str) -> u64 {
        let state = self.status();
        let found = members(&state, "instances").find(|one| one["name"] == instance).expect("it is there");
        let status = std::fs::read_to_string(format!("/proc/{}/status", found["pid"])).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        let figure = line.and_then(|line| line.split_whitespace().next()).expect("Linux tells");
        figure.parse().expect("it is a number")
    }

    /// A page of an instance's HTTP interface.
    pub(crate) fn http(&self, instance: &str, path: &str) -> String {
        let state = self.status();
        let found = members(&state, "instances").find(|one| one["name"] == instance).expect("it is there");
        let port = found["http"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("it has a port");
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the HTTP interface listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n").expect("it reads");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("it answers");
        page
    }

    /// The last lines of every log, for the message of a failed test.
    fn logs(&self) -> String {
        let mut text = String::new();
        let entries = std::fs::read_dir(self.dir.path().join("data/logs")).into_iter().flatten().flatten();
        for entry in entries {
            let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            text += &format!("--- {}\n", entry.path().display());
            text += &lines[lines.len().saturating_sub(6)..].join("\n");
            text.push('\n');
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the cluster of the failed test:\n{}", self.logs());
        }
        let pids: Vec<String> = std::fs::read_dir(self.dir.path().join("data/run"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| std::fs::read_to_string(entry.path()).ok())
            .map(|pid| pid.trim().to_owned())
            .collect();
        if !self.try_playground(&["down"]).status.success() {
            signal("KILL", &pids);
        }
    }
}

/// Runs the playground's command on a directory.
pub(crate) fn playground(data: &std::path::Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_borealis-node"))
        .arg("playground")
        .args(arguments)
        .arg("--data-dir")
        .arg(data)
        .output()
        .expect("the binary starts")
}

/// Sends a signal to processes, all at once.
pub(crate) fn signal(name: &str, pids: &[String]) {
    if !pids.is_empty() {
        let mut kill = Command::new("kill");
        kill.arg(format!("-{name}")).args(pids).stderr(std::process::Stdio::null());
        kill.status().expect("kill starts");
    }
}

/// Instances or storage nodes in a state.
pub(crate) fn members<'a>(state: &'a Value, kind: &str) -> impl Iterator<Item = &'a Value> {
    state[kind].as_array().into_iter().flatten()
}

pub(crate) fn name_of(member: &Value) -> String {
    member["name"].as_str().expect("everything has a name").to_owned()
}

/// Looks at a condition again and again until it holds or the time is over.
pub(crate) fn poll<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

/// Rounds of a test: few by default, many when RUN_SLOW_TESTS is set.
pub(crate) fn rounds(few: usize, many: usize) -> usize {
    if std::env::var_os("RUN_SLOW_TESTS").is_some() { many } else { few }
}

/// The number of MySQL's error in a failed statement.
pub(crate) fn code<T>(result: &mysql::Result<T>) -> Option<u16> {
    match result {
        Err(mysql::Error::MySqlError(error)) => Some(error.code),
        _ => None,
    }
}

/// Runs a statement that must work.
pub(crate) fn run(connection: &mut Conn, statement: &str) {
    if let Err(error) = connection.query_drop(statement) {
        panic!("{}: {error}", statement.chars().take(120).collect::<String>());
    }
}

/// The one value that a query gives.
pub(crate) fn value(connection: &mut Conn, query: &str) -> i64 {
    let found: mysql::Result<Option<i64>> = connection.query_first(query);
    found.unwrap_or_else(|error| panic!("{query}: {error}")).unwrap_or_else(|| panic!("{query}: no row"))
}
