//! Storage nodes whose disks are lost for good, while applications write.

use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::harness::{Cluster, Manifest, poll};
use crate::load::{Load, assert_all_there, create_table};

/// Rows of 100 kB, so that a copy takes many blocks, and writes go on between them: found before a copy asked for
/// newest versions only. It asked for snapshots that members had given up long before it had come to an end.
const LARGE_ROWS: usize = 400;
/// Readmission copies the volume: a test's is small.
const READMITTED: Duration = Duration::from_secs(60);

/// Kills the storage node, takes its disk away and starts it again; waits until it votes.
fn lose_disk(cluster: &Cluster, name: &str) {
    cluster.playground(&["kill", name]);
    std::fs::remove_dir_all(cluster.storage_dir(name)).expect("its disk");
    let begin = Instant::now();
    cluster.playground(&["start", name]);
    let back = poll(READMITTED, || {
        let state = cluster.status();
        let found = crate::harness::members(&state, "storage")
            .any(|one| one["name"] == name && one["state"] == "ready");
        found.then_some(())
    });
    assert!(back.is_some(), "{name} was not readmitted");
    println!("{name}: readmitted after {:?}", begin.elapsed());
}

fn fill(cluster: &Cluster, place: &str) {
    let mut connection = cluster.connect(place);
    connection
        .query_drop("CREATE TABLE large (id INT PRIMARY KEY, body LONGTEXT NOT NULL)")
        .expect("it is made");
    for first in (0..LARGE_ROWS).step_by(20) {
        let rows = (first..first + 20).map(|id| format!("({id}, REPEAT('{id:05}', 20000))"));
        let rows = rows.collect::<Vec<_>>().join(", ");
        connection.query_drop(format!("INSERT INTO large VALUES {rows}")).expect("they are written");
    }
}

/// Two of six disks, one after the other; then two nodes that never lost theirs are killed, so that every
/// commit needs both new disks.
fn two_disks_are_lost_for_good(manifest: &Manifest, places: &[&str]) {
    let cluster = Cluster::up(manifest, &[]);
    create_table(&mut cluster.connect(places[0]));
    fill(&cluster, places[0]);
    let loads: Vec<Load> =
        (1..).zip(places).map(|(client, place)| Load::start(cluster.address(place), client)).collect();
    loads.iter().for_each(|load| load.wait_for_more(200));
    lose_disk(&cluster, "it-storage-1");
    loads.iter().for_each(|load| load.wait_for_more(100));
    lose_disk(&cluster, "it-storage-5");
    loads.iter().for_each(|load| load.wait_for_more(100));
    for name in ["it-storage-0", "it-storage-3"] {
        cluster.playground(&["kill", name]);
    }
    loads.iter().for_each(|load| load.wait_for_more(200));
    for load in loads {
        let seen = load.stop();
        println!("{} writes, longest gap {:?}", seen.acknowledged.len(), seen.longest_gap);
        assert!(seen.failures.is_empty(), "{:?}", seen.failures);
        assert_all_there(&cluster, places[0], &seen);
    }
    let sums = "SELECT COUNT(*), CAST(SUM(LENGTH(body)) AS SIGNED) FROM large";
    let sums: Option<(usize, usize)> = cluster.connect(places[0]).query_first(sums).expect("it is read");
    assert_eq!(sums, Some((LARGE_ROWS, LARGE_ROWS * 100_000)));
}

#[test]
fn two_disks_lost_one_after_the_other_cost_nothing_in_single_master_mode() {
    two_disks_are_lost_for_good(&Manifest::single_master(), &["cluster"]);
}

#[test]
fn two_disks_lost_one_after_the_other_cost_nothing_in_multi_master_mode() {
    two_disks_are_lost_for_good(&Manifest::multi_master(), &["it-0", "it-1", "it-2"]);
}
