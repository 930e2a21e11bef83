//! Storage nodes that fail, and a cluster that loses power.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use mysql::prelude::Queryable;

use crate::harness::{Cluster, DEADLINE, Manifest, members, name_of, poll, signal, value};
use crate::load::{Load, assert_all_there, create_table};

#[test]
fn writes_go_on_without_a_zone_and_wait_for_a_third_storage_node_that_is_gone() {
    let cluster = Cluster::up(&Manifest::single_master(), &[]);
    create_table(&mut cluster.connect("cluster"));
    let state = cluster.status();
    let (zone, others): (Vec<_>, Vec<_>) =
        members(&state, "storage").partition(|one| one["zone"] == "zone-1");
    let (zone, others): (Vec<_>, Vec<_>) =
        (zone.into_iter().map(name_of).collect(), others.into_iter().map(name_of).collect());
    assert_eq!(zone.len(), 2);

    let load = Load::start(cluster.address("cluster"), 1);
    load.wait_for_more(50);
    zone.iter().for_each(|name| drop(cluster.playground(&["kill", name])));
    load.wait_for_more(200);
    let seen = load.stop();
    println!("zone killed: {} writes, longest gap {:?}", seen.acknowledged.len(), seen.longest_gap);
    assert!(seen.failures.is_empty(), "{:?}", seen.failures);

    let mut connection = cluster.connect("cluster");
    cluster.playground(&["kill", &others[0]]);
    let (end, ended) = mpsc::channel();
    let writer = std::thread::spawn(move || {
        let result = connection.query_drop("INSERT INTO journal VALUES (1, 'without a quorum')");
        // Nobody listens any more once the test has failed.
        end.send(result.map_err(|error| error.to_string())).ok();
    });
    match ended.recv_timeout(Duration::from_secs(2)) {
        Ok(Ok(())) => panic!("a write was acknowledged by three storage nodes of six"),
        Ok(Err(error)) => println!("without a quorum a write fails: {error}"),
        Err(RecvTimeoutError::Timeout) => println!("without a quorum a write waits"),
        Err(RecvTimeoutError::Disconnected) => panic!("the client panicked"),
    }
    cluster.playground(&["start", &others[0]]);
    let address = cluster.address("cluster").read_timeout(Some(Duration::from_secs(5)));
    let mut id = 1;
    let again = poll(DEADLINE, || {
        id += 1;
        let mut connection = mysql::Conn::new(address.clone()).ok()?;
        connection.query_drop(format!("INSERT INTO journal VALUES ({id}, 'with a quorum')")).ok()
    });
    assert!(again.is_some(), "no write worked after the storage node was started again");
    writer.join().expect("the client does not panic");
    assert_all_there(&cluster, "cluster", &seen);
    let found =
        value(&mut cluster.connect("cluster"), &format!("SELECT COUNT(*) FROM journal WHERE id = {id}"));
    assert_eq!(found, 1);
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
