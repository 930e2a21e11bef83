//! Clients that err, hang up or ask for too much; and that others do not notice.

use std::sync::mpsc;
use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::harness::{Cluster, DEADLINE, Manifest, code, poll, run, value};

fn small() -> Manifest {
    Manifest { instances: 1, storage: 3, ..Manifest::single_master() }
}

/// A cluster with one row.
fn cluster_with_a_row() -> Cluster {
    let cluster = Cluster::up(&small(), &[]);
    let mut connection = cluster.connect("cluster");
    run(&mut connection, "CREATE TABLE items (id INT PRIMARY KEY, n INT)");
    run(&mut connection, "INSERT INTO items VALUES (1, 0)");
    cluster
}

#[test]
fn a_malformed_statement_gets_1064_and_a_wrong_password_1045() {
    let cluster = cluster_with_a_row();
    let mut connection = cluster.connect("cluster");
    for statement in ["SELEKT 1", "SELECT FROM WHERE", "INSERT INTO items VALUES (2,", "SELECT 'open"] {
        let refused = connection.query_drop(statement);
        assert_eq!(code(&refused), Some(1064), "{statement}: {refused:?}");
    }
    assert_eq!(value(&mut connection, "SELECT n FROM items WHERE id = 1"), 0);
    let refused = Conn::new(cluster.address("cluster").pass(Some("wrong")));
    assert_eq!(code(&refused), Some(1045));
}

#[test]
fn a_connection_dropped_in_a_transaction_releases_its_locks_and_leaves_nothing() {
    let cluster = cluster_with_a_row();
    let mut other = cluster.connect("cluster");
    let mut dropped = cluster.connect("cluster");
    run(&mut dropped, "BEGIN");
    run(&mut dropped, "UPDATE items SET n = 7 WHERE id = 1");
    drop(dropped);
    run(&mut other, "UPDATE items SET n = n + 1 WHERE id = 1");
    assert_eq!(value(&mut other, "SELECT n FROM items WHERE id = 1"), 1);
}

#[test]
fn an_oversized_packet_gets_1153_or_a_closed_connection_and_others_go_on() {
    let cluster = cluster_with_a_row();
    let mut other = cluster.connect("cluster");
    let limit = usize::try_from(value(&mut other, "SELECT @@max_allowed_packet")).expect("it is positive");
    assert_eq!(limit, 64 << 20, "MySQL's default");
    let mut connection =
        Conn::new(cluster.address("cluster").max_allowed_packet(Some(1 << 30))).expect("it connects");
    let refused = connection.query_drop(format!("SELECT '{}'", "x".repeat(limit)));
    let closed = matches!(refused, Err(mysql::Error::IoError(_) | mysql::Error::CodecError(_)));
    assert!(closed || code(&refused) == Some(1153), "{refused:?}");
    assert_eq!(value(&mut other, "SELECT n FROM items WHERE id = 1"), 0);
    assert_eq!(value(&mut cluster.connect("cluster"), "SELECT n FROM items WHERE id = 1"), 0);
}

#[test]
fn kill_query_ends_a_statement_that_waits_for_a_lock_and_keeps_its_connection() {
    let cluster = cluster_with_a_row();
    let mut holder = cluster.connect("it-0");
    run(&mut holder, "BEGIN");
    run(&mut holder, "UPDATE items SET n = 7 WHERE id = 1");
    let mut waiter = cluster.connect("it-0");
    let id = waiter.connection_id();
    let (end, ended) = mpsc::channel();
    let waiting = std::thread::spawn(move || {
        let result = waiter.query_drop("UPDATE items SET n = 8 WHERE id = 1");
        // Nobody listens any more once the test has failed.
        end.send(result).ok();
        waiter
    });
    assert!(ended.recv_timeout(Duration::from_millis(300)).is_err(), "it did not wait for the lock");
    let result = poll(DEADLINE, || {
        run(&mut holder, &format!("KILL QUERY {id}"));
        ended.recv_timeout(Duration::from_millis(500)).ok()
    });
    let result = result.expect("the statement was never ended");
    assert_eq!(code(&result), Some(1317), "{result:?}");
    run(&mut holder, "COMMIT");
    let mut waiter = waiting.join().expect("it does not panic");
    assert_eq!(value(&mut waiter, "SELECT n FROM items WHERE id = 1"), 7);
}
