//! One writer, replicas, and what happens when the writer is gone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::harness::{Cluster, DEADLINE, Manifest, code, members, poll, rounds, run, value};
use crate::load::{Load, assert_all_there, create_table, median_and_worst};

#[test]
fn a_replica_refuses_writes_with_1290() {
    let cluster = Cluster::up(&Manifest::single_master(), &[]);
    create_table(&mut cluster.connect("cluster"));
    for place in [cluster.replica().as_str(), "reader"] {
        let mut connection = cluster.connect(place);
        let visible = poll(DEADLINE, || connection.query_drop("SELECT id FROM journal").ok());
        assert!(visible.is_some(), "the table never arrived at {place}");
        let refused = connection.query_drop("INSERT INTO journal VALUES (1, 'x')");
        assert_eq!(code(&refused), Some(1290), "{refused:?}");
    }
}

/// One fault of the writer under load, from a healthy cluster to a healthy cluster: how long no write worked.
fn fault_of_the_writer(cluster: &Cluster, client: u64, fault: &str, cure: &str) -> Duration {
    let writer = cluster.writer();
    let load = Load::start(cluster.address("cluster"), client);
    load.wait_for_more(50);
    let begin = Instant::now();
    cluster.playground(&[fault, &writer]);
    cluster.wait_for("another writer", |state| {
        members(state, "instances")
            .any(|one| one["role"] == "writer" && one["name"] != writer.as_str() && one["state"] == "ready")
    });
    load.wait_for_more(50);
    let end = Instant::now();
    cluster.playground(&[cure, &writer]);
    cluster.wait_for("the old writer as a replica", |state| {
        members(state, "instances")
            .any(|one| one["role"] == "reader" && one["name"] == writer.as_str() && one["state"] == "ready")
    });
    load.wait_for_more(50);
    let refused = cluster.connect(&writer).query_drop("INSERT INTO journal VALUES (0, 'on a replica')");
    assert_eq!(code(&refused), Some(1290), "{refused:?}");
    let seen = load.stop();
    let recovery = seen.recovery(&(begin..end));
    println!("{fault} {writer}: {} writes, {recovery:?} until the next one", seen.acknowledged.len());
    assert_all_there(cluster, "cluster", &seen);
    cluster.wait_until_ready();
    recovery
}

/// What an instance reads first must not be asked for a snapshot that storage has given up long ago.
#[test]
fn an_instance_that_starts_anew_is_ready_soon_also_where_nobody_writes() {
    const SOON: Duration = Duration::from_secs(5);
    let cluster = Cluster::up(&Manifest::single_master(), &[]);
    create_table(&mut cluster.connect("cluster"));
    for _ in 0..rounds(4, 20) {
        // A replica first, which takes over while the writer starts anew.
        for name in [cluster.replica(), cluster.writer()] {
            cluster.playground(&["stop", &name]);
            let begin = Instant::now();
            cluster.playground(&["start", &name]);
            cluster.wait_until_ready();
            let took = begin.elapsed();
            assert!(took < SOON, "{name} was ready after {took:?}");
        }
    }
}

fn the_writer_fails(fault: &str, cure: &str) {
    let cluster = Cluster::up(&Manifest::single_master(), &[]);
    create_table(&mut cluster.connect("cluster"));
    let clients = 1..=u64::try_from(rounds(3, 20)).expect("few rounds");
    let all = clients.map(|client| fault_of_the_writer(&cluster, client, fault, cure)).collect();
    println!("{fault}: from the fault to the next acknowledged write {}", median_and_worst(all));
}

#[test]
fn the_cluster_endpoint_accepts_writes_again_after_the_writer_was_killed() {
    the_writer_fails("kill", "start");
}

#[test]
fn the_cluster_endpoint_accepts_writes_again_after_the_writer_was_stopped() {
    the_writer_fails("stop", "start");
}

#[test]
fn the_cluster_endpoint_accepts_writes_again_after_the_writer_froze() {
    the_writer_fails("pause", "resume");
}

/// Replicas and the lag that they report, in milliseconds, as the writer shows it.
fn reported_lags(connection: &mut Conn) -> Vec<(String, Option<f64>)> {
    connection
        .query(
            "SELECT server_id, replica_lag_in_milliseconds FROM information_schema.replica_host_status \
             WHERE session_id <> 'MASTER_SESSION_ID'",
        )
        .expect("it reads")
}

#[test]
fn every_replica_reports_how_far_it_lags_behind_under_load() {
    const SAMPLES: usize = 30;
    let cluster = Cluster::up(&Manifest::single_master(), &[]);
    let mut connection = cluster.connect("cluster");
    create_table(&mut connection);
    let loads: Vec<Load> = (1..=4).map(|client| Load::start(cluster.address("cluster"), client)).collect();
    let mut samples: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let enough = poll(DEADLINE, || {
        for (replica, lag) in reported_lags(&mut connection) {
            let seen = samples.entry(replica).or_default();
            // A replica measures twice a second; a figure shown before is not a new sample.
            seen.extend(lag.filter(|lag| seen.last() != Some(lag)));
        }
        (samples.len() == 2 && samples.values().all(|lags| lags.len() >= SAMPLES)).then_some(())
    });
    for (replica, lags) in &samples {
        let lags = lags.iter().map(|lag| Duration::from_secs_f64(lag / 1_000.0)).collect();
        println!("{replica} reports a lag under load of {}", median_and_worst(lags));
    }
    assert!(enough.is_some(), "too few reports: {samples:?}");
    assert!(samples.values().flatten().all(|lag| (0.0..1_000.0).contains(lag)), "{samples:?}");
    let page = cluster.http(&cluster.replica(), "/metrics");
    assert!(page.contains("borealis_node_replica_lag_seconds"), "{page}");
    loads.into_iter().for_each(|load| drop(load.stop()));
}

/// The same from outside: how long after its acknowledgement a replica shows a row.
#[test]
fn a_row_is_on_a_replica_soon_after_it_was_acknowledged_under_load() {
    const ROWS: u64 = 300;
    let cluster = Cluster::up(&Manifest::single_master(), &[]);
    let mut writer = cluster.connect("cluster");
    create_table(&mut writer);
    let mut replica = cluster.connect(&cluster.replica());
    poll(DEADLINE, || replica.query_drop("SELECT id FROM journal").ok()).expect("the table arrives");
    let loads: Vec<Load> = (1..=4).map(|client| Load::start(cluster.address("cluster"), client)).collect();
    loads.iter().for_each(|load| load.wait_for_more(20));
    let mut lags = Vec::new();
    for id in 1..=ROWS {
        run(&mut writer, &format!("INSERT INTO journal VALUES ({id}, 'awaited')"));
        let acknowledged = Instant::now();
        let look = format!("SELECT COUNT(*) FROM journal WHERE id = {id}");
        while value(&mut replica, &look) == 0 {
            assert!(acknowledged.elapsed() < DEADLINE, "row {id} never arrived");
        }
        lags.push(acknowledged.elapsed());
    }
    println!("a row is visible on a replica after its acknowledgement: {}", median_and_worst(lags));
    loads.into_iter().for_each(|load| drop(load.stop()));
}
