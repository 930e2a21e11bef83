//! A network that loses members: the playground stands between them and cuts.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;
use serde_json::Value;

use crate::harness::{Cluster, Manifest, members, name_of, run, value};
use crate::load::{Load, assert_all_there, create_table};

/// A writer that storage nodes do not hear serves reads no longer than this: its lease, and time for a machine that
/// is busy.
const LEASE_AND_SLACK: Duration = Duration::from_millis(2_500);
/// Between two reads of the old writer.
const PACE: Duration = Duration::from_millis(5);

/// Reads all the time until the connection closes; when the last answer came.
fn read_until_closed(mut connection: Conn, stop: &mpsc::Receiver<()>) -> Instant {
    let mut last = Instant::now();
    while stop.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
        let read: mysql::Result<Option<i64>> = connection.query_first("SELECT COUNT(*) FROM journal");
        match read {
            Ok(_) => last = Instant::now(),
            Err(_) => return last,
        }
    }
    last
}

fn is(state: &Value, name: &str, role: &str) -> bool {
    members(state, "instances")
        .any(|one| one["name"] == name && one["role"] == role && one["state"] == "ready")
}

fn the_writer_is_cut_off(more: &[&str]) {
    let cluster = Cluster::up(&Manifest::single_master(), &["--cuttable"]);
    create_table(&mut cluster.connect("cluster"));
    let writer = cluster.writer();
    let load = Load::start(cluster.address("cluster"), 1);
    load.wait_for_more(50);
    let mut old = cluster.connect(&writer);
    // Its rows are in the writer's cache from here on: what stops it later is nothing but the lease.
    value(&mut old, "SELECT COUNT(*) FROM journal");
    let (stop, stopped) = mpsc::channel();
    let reader = std::thread::spawn(move || read_until_closed(old, &stopped));

    let cut = Instant::now();
    cluster.playground(&[&["cut", &writer], more].concat());
    assert!(cluster.status()["cuts"].as_array().is_some_and(|cuts| cuts.len() >= 6), "{}", cluster.status());
    cluster.wait_for("another writer", |state| {
        members(state, "instances")
            .any(|one| one["role"] == "writer" && one["name"] != writer.as_str() && one["state"] == "ready")
    });
    load.wait_for_more(50);
    cluster.playground(&["heal"]);
    cluster.wait_for("the old writer as a replica", |state| is(state, &writer, "reader"));
    load.wait_for_more(50);
    // The demotion has closed it; the order to stop is for a test that fails.
    stop.send(()).ok();
    let late = reader.join().expect("it does not panic").saturating_duration_since(cut);
    assert!(late < LEASE_AND_SLACK, "the old writer served a read {late:?} after the cut");
    let seen = load.stop();
    println!("cut {more:?}: {} writes, longest gap {:?}", seen.acknowledged.len(), seen.longest_gap);
    assert_all_there(&cluster, "cluster", &seen);
    cluster.wait_until_ready();
}

#[test]
fn a_writer_that_is_cut_off_in_silence_is_replaced_stops_reading_within_its_lease_and_comes_back() {
    the_writer_is_cut_off(&[]);
}

#[test]
fn a_writer_whose_connections_break_is_replaced_stops_reading_within_its_lease_and_comes_back() {
    the_writer_is_cut_off(&["--refuse"]);
}

#[test]
fn a_writer_that_hears_but_is_not_heard_is_replaced_stops_reading_within_its_lease_and_comes_back() {
    the_writer_is_cut_off(&["--one-way"]);
}

#[test]
fn a_storage_node_that_was_cut_off_catches_up_and_counts_for_a_quorum_again() {
    let cluster = Cluster::up(&Manifest::single_master(), &["--cuttable"]);
    create_table(&mut cluster.connect("cluster"));
    let nodes: Vec<String> = members(&cluster.status(), "storage").map(name_of).collect();
    let load = Load::start(cluster.address("cluster"), 1);
    load.wait_for_more(50);
    cluster.playground(&["cut", &nodes[0]]);
    load.wait_for_more(300);
    cluster.playground(&["heal", &nodes[0]]);
    cluster.wait_until_ready();
    // Two others die: every write now needs the one that was away.
    for node in &nodes[1..3] {
        cluster.playground(&["kill", node]);
    }
    load.wait_for_more(100);
    let seen = load.stop();
    println!(
        "a storage node cut off: {} writes, longest gap {:?}",
        seen.acknowledged.len(),
        seen.longest_gap
    );
    assert!(seen.failures.is_empty(), "{:?}", seen.failures);
    // An instance without a cache reads from storage, and the only node in its zone may be this one.
    let reader = cluster.replica();
    cluster.playground(&["kill", &reader]);
    cluster.playground(&["start", &reader]);
    let mut connection = cluster.connect(&reader);
    run(&mut connection, "SET SESSION aurora_replica_read_consistency = 'GLOBAL'");
    let count = value(&mut connection, "SELECT COUNT(*) FROM journal");
    assert!(usize::try_from(count).is_ok_and(|count| count >= seen.acknowledged.len()), "{count} rows");
    assert_all_there(&cluster, "cluster", &seen);
}

#[test]
fn a_playground_whose_network_cannot_be_cut_says_what_to_do() {
    let cluster = Cluster::up(&Manifest { instances: 1, storage: 3, ..Manifest::single_master() }, &[]);
    let refused = cluster.try_playground(&["cut", "it-0"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("up --cuttable"), "{said}");
    assert_eq!(cluster.status()["cuts"], Value::Null);
}
