//! One writer, replicas, and what happens when the writer is gone.

use mysql::prelude::Queryable;

use crate::harness::{Cluster, DEADLINE, Manifest, code, members, poll, rounds};
use crate::load::{Load, assert_all_there, create_table};

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

fn the_writer_fails(fault: &str, cure: &str) {
    let cluster = Cluster::up(&Manifest::single_master(), &[]);
    create_table(&mut cluster.connect("cluster"));
    for round in 0..rounds(1, 20) {
        let writer = cluster.writer();
        let client = u64::try_from(round).expect("few rounds") + 1;
        let load = Load::start(cluster.address("cluster"), client);
        load.wait_for_more(50);
        cluster.playground(&[fault, &writer]);
        cluster.wait_for("another writer", |state| {
            members(state, "instances").any(|one| {
                one["role"] == "writer" && one["name"] != writer.as_str() && one["state"] == "ready"
            })
        });
        load.wait_for_more(50);
        cluster.playground(&[cure, &writer]);
        cluster.wait_for("the old writer as a replica", |state| {
            members(state, "instances").any(|one| {
                one["role"] == "reader" && one["name"] == writer.as_str() && one["state"] == "ready"
            })
        });
        load.wait_for_more(50);
        let seen = load.stop();
        println!("{fault}: {} writes, longest gap {:?}", seen.acknowledged.len(), seen.longest_gap);
        assert_all_there(&cluster, "cluster", &seen);
        cluster.wait_until_ready();
    }
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

#[test]
fn every_replica_reports_how_far_it_lags_behind() {
    let cluster = Cluster::up(&Manifest::single_master(), &[]);
    let mut connection = cluster.connect("cluster");
    create_table(&mut connection);
    let query = "SELECT server_id, session_id, replica_lag_in_milliseconds FROM information_schema.replica_host_status";
    let mut last = Vec::new();
    let reported = poll(DEADLINE, || {
        last = connection.query::<(String, String, Option<f64>), _>(query).expect("it reads");
        let lags =
            last.iter().filter(|(_, session, _)| session != "MASTER_SESSION_ID").map(|(_, _, lag)| *lag);
        let lags: Vec<f64> = lags.flatten().filter(|lag| (0.0..1_000.0).contains(lag)).collect();
        (last.len() == 3 && lags.len() == 2).then_some(())
    });
    assert!(reported.is_some(), "{last:?}");
    let page = cluster.http(&cluster.replica(), "/metrics");
    assert!(page.contains("borealis_node_replica_lag_seconds"), "{page}");
}
