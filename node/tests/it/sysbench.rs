//! sysbench's oltp_read_write, and the same rows on every instance afterwards.

use std::process::Command;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};

use crate::harness::{Cluster, Manifest, members, name_of, poll};

const TABLES: u32 = 4;
const THREADS: u32 = 8;
const SECONDS: u32 = 30;
const CACHE_BYTES: u64 = 8 << 20;
/// The cache, the program, and what four statements of half a megabyte left with the allocator.
const RESIDENT_MAX: u64 = 384 << 20;

/// sysbench against some ports of the cluster.
struct Sysbench {
    arguments: Vec<String>,
}

impl Sysbench {
    fn new(cluster: &Cluster, places: &[String], rows: u32) -> Sysbench {
        let state = cluster.status();
        let port = |place: &String| mysql::Opts::from(cluster.address(place)).get_tcp_port().to_string();
        let ports: Vec<String> = places.iter().map(port).collect();
        let text = |key: &str| state["credentials"][key].as_str().expect("it is text").to_owned();
        let arguments = vec![
            "oltp_read_write".to_owned(),
            "--mysql-host=127.0.0.1".to_owned(),
            format!("--mysql-port={}", ports.join(",")),
            format!("--mysql-user={}", text("user")),
            format!("--mysql-password={}", text("password")),
            format!("--mysql-db={}", text("database")),
            "--mysql-ignore-errors=1213,1205".to_owned(),
            // In multi-master mode AUTO_INCREMENT counts in steps, and sysbench expects ids without gaps.
            "--auto-inc=off".to_owned(),
            format!("--tables={TABLES}"),
            format!("--table-size={rows}"),
        ];
        Sysbench { arguments }
    }

    /// Runs one of its commands, which must work.
    fn run(&self, more: &[&str]) -> String {
        let output = Command::new("sysbench")
            .args(&self.arguments)
            .args(more)
            .output()
            .expect("sysbench is installed: make setup");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !text.contains("FATAL"), "sysbench {more:?}: {text}{errors}");
        text
    }

    /// The load; gives transactions and ignored errors (1213, 1205).
    fn load(&self, seconds: u32) -> (u64, u64) {
        let (threads, seconds) = (format!("--threads={THREADS}"), format!("--time={seconds}"));
        let told = self.run(&[&threads, &seconds, "run"]);
        let figure = |name: &str| {
            let line = told.lines().find_map(|line| line.trim().strip_prefix(name)).expect("sysbench tells");
            let number = line.split_whitespace().next().expect("a number follows");
            number.parse().unwrap_or_else(|error| panic!("{line}: {error}"))
        };
        (figure("transactions:"), figure("ignored errors:"))
    }
}

type Checksum = Vec<(u64, u64, u64, u64, u64)>;

fn checksums(connection: &mut Conn) -> Checksum {
    let checksum = |table: u32| {
        let query =
            format!("SELECT COUNT(*), SUM(id), SUM(k), SUM(CRC32(c)), SUM(CRC32(pad)) FROM sbtest{table}");
        let found: Option<_> =
            connection.query_first(&query).unwrap_or_else(|error| panic!("{query}: {error}"));
        found.expect("an aggregate has a row")
    };
    (1..=TABLES).map(checksum).collect()
}

fn all_instances(cluster: &Cluster) -> Vec<String> {
    members(&cluster.status(), "instances").map(name_of).collect()
}

fn patient(address: OptsBuilder) -> OptsBuilder {
    address.read_timeout(Some(Duration::from_secs(300)))
}

/// Every instance gives the same rows; a replica gets a moment to catch up with the writer.
fn assert_equal_everywhere(cluster: &Cluster, first: &str) -> Checksum {
    let connect = |place: &str| Conn::new(patient(cluster.address(place))).expect("it takes connections");
    let wanted = checksums(&mut connect(first));
    for instance in all_instances(cluster) {
        let mut connection = connect(&instance);
        let equal = poll(Duration::from_secs(20), || (checksums(&mut connection) == wanted).then_some(()));
        assert!(equal.is_some(), "{instance} gives other rows than {first}");
    }
    wanted
}

fn read_write(manifest: &Manifest, places: impl Fn(&Cluster) -> Vec<String>) {
    let cluster = Cluster::up(manifest, &[]);
    let places = places(&cluster);
    let sysbench = Sysbench::new(&cluster, &places, 10_000);
    Sysbench::new(&cluster, &places[..1], 10_000).run(&["prepare"]);
    let (transactions, refused) = sysbench.load(SECONDS);
    println!("{}: {transactions} transactions in {SECONDS} s, {refused} refused", manifest.mode);
    assert!(transactions > 100, "only {transactions} transactions");
    let rows = assert_equal_everywhere(&cluster, &places[0]);
    // Each transaction deletes a row and inserts it again.
    assert!(rows.iter().all(|(count, ..)| *count == 10_000), "{rows:?}");
}

#[test]
fn oltp_read_write_in_single_master_mode() {
    read_write(&Manifest::single_master(), |_| vec!["cluster".to_owned()]);
}

#[test]
fn oltp_read_write_on_two_writers() {
    read_write(&Manifest { instances: 2, ..Manifest::multi_master() }, all_instances);
}

#[test]
fn oltp_read_write_on_three_writers() {
    read_write(&Manifest::multi_master(), all_instances);
}

/// 100 MB of rows and 8 MiB for them.
fn small_caches(manifest: &Manifest, places: impl Fn(&Cluster) -> Vec<String>) {
    const ROWS: u32 = 125_000;
    let cluster = Cluster::up(manifest, &["--cache-bytes", &CACHE_BYTES.to_string()]);
    let places = places(&cluster);
    let begin = Instant::now();
    Sysbench::new(&cluster, &places[..1], ROWS).run(&["--threads=4", "prepare"]);
    println!("{}: prepared in {:?}", manifest.mode, begin.elapsed());
    let (transactions, refused) = Sysbench::new(&cluster, &places, ROWS).load(10);
    println!("{}: {transactions} transactions in 10 s, {refused} refused", manifest.mode);
    let before = assert_equal_everywhere(&cluster, &places[0]);
    assert!(before.iter().all(|(count, ..)| *count == u64::from(ROWS)), "{before:?}");
    for instance in all_instances(&cluster) {
        let cached = cached_bytes(&cluster, &instance);
        let resident = cluster.process_figure(&instance, "VmRSS") * 1024;
        println!("{}: {instance} caches {cached} bytes, {resident} resident", manifest.mode);
        assert!(cached > 0.0 && cached <= CACHE_BYTES as f64, "{instance} caches {cached} bytes");
        assert!(resident < RESIDENT_MAX, "{instance} takes {resident} bytes of memory");
    }
    let restarted = all_instances(&cluster).pop().expect("there are some");
    cluster.playground(&["kill", &restarted]);
    cluster.playground(&["start", &restarted]);
    cluster.wait_until_ready();
    let mut cold = Conn::new(patient(cluster.address(&restarted))).expect("it takes connections");
    assert_eq!(checksums(&mut cold), before, "{restarted} with an empty cache");
}

fn cached_bytes(cluster: &Cluster, instance: &str) -> f64 {
    let metrics = cluster.http(instance, "/metrics");
    let cached = metrics.lines().find_map(|line| line.strip_prefix("borealis_node_cache_bytes "));
    cached.expect("it is a metric").trim().parse().expect("it is a number")
}

#[test]
fn small_caches_in_single_master_mode() {
    small_caches(&Manifest { instances: 2, ..Manifest::single_master() }, |_| vec!["cluster".to_owned()]);
}

#[test]
fn small_caches_on_two_writers() {
    small_caches(&Manifest { instances: 2, ..Manifest::multi_master() }, all_instances);
}
