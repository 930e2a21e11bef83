//! Storage nodes that fail, and a cluster that loses power.

use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::harness::{Cluster, DEADLINE, Manifest, code, members, name_of, poll, signal, value};
use crate::load::{Load, assert_all_there, create_table};

/// What a write is told when three of six storage nodes are gone.
const WHAT_IS_WRONG: &str = "no write quorum: 3 of 6 storage nodes are connected and 4 are needed";
/// Longer than an instance lets a commit wait.
const LONGER_THAN_A_COMMIT: Duration = Duration::from_secs(45);

/// Kills zone-1 under load, which nobody notices, and gives the name of another storage node.
fn lose_a_zone(cluster: &Cluster, place: &str) -> String {
    create_table(&mut cluster.connect(place));
    let state = cluster.status();
    let (zone, others): (Vec<_>, Vec<_>) =
        members(&state, "storage").partition(|one| one["zone"] == "zone-1");
    assert_eq!((zone.len(), others.len()), (2, 4));
    let load = Load::start(cluster.address(place), 1);
    load.wait_for_more(50);
    zone.into_iter().for_each(|one| drop(cluster.playground(&["kill", &name_of(one)])));
    load.wait_for_more(200);
    let seen = load.stop();
    println!("zone killed: {} writes, longest gap {:?}", seen.acknowledged.len(), seen.longest_gap);
    assert!(seen.failures.is_empty(), "{:?}", seen.failures);
    assert_all_there(cluster, place, &seen);
    name_of(others[0])
}

/// A connection that waits for as long as a write may take.
fn patient(cluster: &Cluster, place: &str) -> Conn {
    Conn::new(cluster.address(place).read_timeout(Some(LONGER_THAN_A_COMMIT))).expect("it takes connections")
}

fn insert(connection: &mut Conn, id: i64) -> mysql::Result<()> {
    connection.query_drop(format!("INSERT INTO journal VALUES ({id}, 'without a quorum')"))
}

fn count(cluster: &Cluster, place: &str, id: i64) -> i64 {
    value(&mut cluster.connect(place), &format!("SELECT COUNT(*) FROM journal WHERE id = {id}"))
}

#[test]
fn without_a_write_quorum_a_write_waits_and_fails_with_1030_or_goes_on_when_the_quorum_is_back() {
    let cluster = Cluster::up(&Manifest::single_master(), &[]);
    let third = lose_a_zone(&cluster, "cluster");
    let mut connection = patient(&cluster, "cluster");
    cluster.playground(&["kill", &third]);
    let began = Instant::now();
    let failed = insert(&mut connection, -1);
    println!("without a quorum a write fails after {:?}: {failed:?}", began.elapsed());
    assert_eq!(code(&failed), Some(1030), "{failed:?}");
    assert!(failed.is_err_and(|error| error.to_string().contains(WHAT_IS_WRONG)));
    let rows = value(&mut connection, "SELECT COUNT(*) FROM journal WHERE id = -1");
    assert_eq!(rows, 0, "reads go on, and a write that failed with 1030 never happened");

    let writer = std::thread::spawn(move || insert(&mut connection, -2));
    let mut witness = cluster.connect("cluster");
    let waiting =
        "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'INSERT INTO journal%'";
    poll(DEADLINE, || (value(&mut witness, waiting) == 1).then_some(())).expect("the write is under way");
    cluster.playground(&["start", &third]);
    writer.join().expect("the client does not panic").expect("the write goes on");
    assert_eq!((count(&cluster, "cluster", -1), count(&cluster, "cluster", -2)), (0, 1));
}

/// A frozen storage node is noticed only after a while: a write that has been proposed by then may have been
/// accepted by enough of them or not.
#[test]
fn a_write_whose_outcome_cannot_be_learnt_fails_with_3024_and_is_then_there_everywhere_or_nowhere() {
    let cluster = Cluster::up(&Manifest::multi_master(), &[]);
    let third = lose_a_zone(&cluster, "it-0");
    let mut connection = patient(&cluster, "it-0");
    cluster.playground(&["pause", &third]);
    let began = Instant::now();
    let failed = insert(&mut connection, -1);
    println!("a write under way fails after {:?}: {failed:?}", began.elapsed());
    assert_eq!(code(&failed), Some(3024), "{failed:?}");
    assert!(failed.is_err_and(|error| error.to_string().contains(WHAT_IS_WRONG)));
    cluster.playground(&["resume", &third]);
    let again = poll(DEADLINE, || insert(&mut patient(&cluster, "it-0"), -2).ok());
    assert!(again.is_some(), "no write worked after the storage node went on");
    let found = ["it-0", "it-1", "it-2"].map(|place| count(&cluster, place, -1));
    assert!(matches!(found, [0, 0, 0] | [1, 1, 1]), "{found:?}");
    assert_eq!(["it-0", "it-1", "it-2"].map(|place| count(&cluster, place, -2)), [1; 3]);
}

fn all_processes_die_at_once(manifest: &Manifest, places: &[&str]) {
    let cluster = Cluster::up(manifest, &[]);
    create_table(&mut cluster.connect(places[0]));
    let loads: Vec<Load> =
        (1..).zip(places).map(|(client, place)| Load::start(cluster.address(place), client)).collect();
    loads.iter().for_each(|load| load.wait_for_more(200));
    let pids = cluster.pids();
    assert_eq!(pids.len(), 9);
    signal("KILL", &pids);
    cluster.wait_for("new processes", |state| {
        let pid = |one: &serde_json::Value| one["pid"].as_u64().map(|pid| pid.to_string());
        let all: Vec<_> = members(state, "instances").chain(members(state, "storage")).collect();
        all.iter().all(|one| one["state"] == "ready" && pid(one).is_some_and(|pid| !pids.contains(&pid)))
    });
    loads.iter().for_each(|load| load.wait_for_more(20));
    for load in loads {
        let seen = load.stop();
        println!("all killed: {} writes, longest gap {:?}", seen.acknowledged.len(), seen.longest_gap);
        assert_all_there(&cluster, places[0], &seen);
    }
}

#[test]
fn every_acknowledged_row_is_there_after_all_processes_of_a_single_master_cluster_died_at_once() {
    all_processes_die_at_once(&Manifest::single_master(), &["cluster"]);
}

#[test]
fn every_acknowledged_row_is_there_after_all_processes_of_a_multi_master_cluster_died_at_once() {
    all_processes_die_at_once(&Manifest::multi_master(), &["it-0", "it-1", "it-2"]);
}
