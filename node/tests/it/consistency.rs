//! The examples of docs/consistency.md, as its readers would try them.

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::harness::{Cluster, Manifest, code, run, value};

const N: &str = "SELECT n FROM t WHERE id = 1";

fn set_up(connection: &mut Conn) {
    for statement in [
        "CREATE TABLE t (id INT PRIMARY KEY, n INT NOT NULL)",
        "CREATE TABLE duty (id INT PRIMARY KEY, active INT NOT NULL)",
        "CREATE TABLE booking (id INT PRIMARY KEY, room INT NOT NULL)",
    ] {
        run(connection, statement);
    }
    reset(connection);
}

fn reset(connection: &mut Conn) {
    for statement in [
        "DELETE FROM t",
        "DELETE FROM duty",
        "DELETE FROM booking",
        "INSERT INTO t VALUES (1, 10)",
        "INSERT INTO duty VALUES (1, 1), (2, 1)",
    ] {
        run(connection, statement);
    }
}

fn isolation(connection: &mut Conn, on: &str) {
    run(connection, &format!("SET SESSION innodb_snapshot_isolation = {on}"));
}

/// An UPDATE sees past its snapshot, and what was read without a lock can overwrite what it did not see.
fn repeatable_read(a: &mut Conn, b: &mut Conn) {
    reset(a);
    run(a, "BEGIN");
    assert_eq!(value(a, N), 10);
    run(b, "UPDATE t SET n = 20 WHERE id = 1");
    assert_eq!(value(a, N), 10);
    run(a, "UPDATE t SET n = n + 1 WHERE id = 1");
    assert_eq!(value(a, N), 21);
    run(a, "COMMIT");

    reset(a);
    run(a, "BEGIN");
    assert_eq!(value(a, N), 10);
    run(b, "UPDATE t SET n = 20 WHERE id = 1");
    run(a, "UPDATE t SET n = 11 WHERE id = 1");
    run(a, "COMMIT");
    assert_eq!(value(b, N), 11);
}

/// With snapshot isolation both fail.
fn snapshot_isolation(a: &mut Conn, b: &mut Conn) {
    isolation(a, "ON");
    for statement in ["UPDATE t SET n = n + 1 WHERE id = 1", "SELECT n FROM t WHERE id = 1 FOR UPDATE"] {
        reset(b);
        run(a, "BEGIN");
        assert_eq!(value(a, N), 10);
        run(b, "UPDATE t SET n = 20 WHERE id = 1");
        assert_eq!(code(&a.query_drop(statement)), Some(1213), "{statement}");
        assert_eq!(value(a, N), 20, "the transaction is over");
    }
    isolation(a, "OFF");
}

/// Both go off duty, unless they look with locks. Whether the second then commits.
fn write_skew(a: &mut Conn, b: &mut Conn, lock: &str) -> bool {
    reset(a);
    let look = format!("SELECT id FROM duty WHERE active = 1{lock}");
    run(a, "BEGIN");
    run(b, "BEGIN");
    assert_eq!(a.query::<i32, _>(&look).expect("it reads").len(), 2);
    assert_eq!(b.query::<i32, _>(&look).expect("it reads").len(), 2);
    run(a, "UPDATE duty SET active = 0 WHERE id = 1");
    let second = b.query_drop("UPDATE duty SET active = 0 WHERE id = 2");
    run(a, "COMMIT");
    let second = second.and_then(|()| b.query_drop("COMMIT"));
    let on_duty = value(a, "SELECT SUM(active) FROM duty");
    match code(&second) {
        None => assert_eq!((second.is_ok(), on_duty), (true, 0)),
        Some(number) => assert_eq!((number, on_duty), (1213, 1)),
    }
    second.is_ok()
}

/// Rows that are not there cannot be locked.
fn no_gap_locks(a: &mut Conn, b: &mut Conn) {
    reset(a);
    const COUNT: &str = "SELECT COUNT(*) FROM booking WHERE room = 7 FOR UPDATE";
    run(a, "BEGIN");
    run(b, "BEGIN");
    assert_eq!((value(a, COUNT), value(b, COUNT)), (0, 0));
    run(a, "INSERT INTO booking VALUES (1, 7)");
    run(b, "INSERT INTO booking VALUES (2, 7)");
    run(a, "COMMIT");
    run(b, "COMMIT");
    assert_eq!(value(a, "SELECT COUNT(*) FROM booking"), 2);
}

fn levels(a: &mut Conn, b: &mut Conn) {
    for level in ["READ-COMMITTED", "READ-UNCOMMITTED"] {
        reset(a);
        run(a, &format!("SET SESSION transaction_isolation = '{level}'"));
        run(a, "BEGIN");
        assert_eq!(value(a, N), 10);
        run(b, "UPDATE t SET n = 20 WHERE id = 1");
        assert_eq!(value(a, N), 20, "each statement has a snapshot of its own");
        run(a, "COMMIT");
        run(b, "BEGIN");
        run(b, "UPDATE t SET n = 30 WHERE id = 1");
        assert_eq!(value(a, N), 20, "what is not committed is not seen");
        run(b, "ROLLBACK");
    }
    let refused = a.query_drop("SET SESSION transaction_isolation = 'SERIALIZABLE'");
    assert_eq!(code(&refused), Some(1235));
    run(a, "SET SESSION transaction_isolation = 'REPEATABLE-READ'");
}

/// A duplicate key undoes its statement, not the transaction.
fn an_error_of_one_statement(a: &mut Conn) {
    reset(a);
    run(a, "BEGIN");
    run(a, "INSERT INTO t VALUES (5, 5)");
    assert_eq!(code(&a.query_drop("INSERT INTO t VALUES (6, 6), (1, 1)")), Some(1062));
    run(a, "COMMIT");
    assert_eq!(value(a, "SELECT SUM(id) FROM t"), 1 + 5);
}

/// What is alike on one instance and on two.
fn everywhere(a: &mut Conn, b: &mut Conn) {
    repeatable_read(a, b);
    snapshot_isolation(a, b);
    assert!(write_skew(a, b, ""), "write skew is possible");
    for on in ["ON", "OFF"] {
        isolation(a, on);
        isolation(b, on);
        assert!(write_skew(a, b, ""), "write skew is possible");
    }
    no_gap_locks(a, b);
    levels(a, b);
    an_error_of_one_statement(a);
}

#[test]
fn examples_of_the_consistency_page_hold_on_one_instance_and_its_replicas() {
    let cluster = Cluster::up(&Manifest::single_master(), &[]);
    let (mut a, mut b) = (cluster.connect("cluster"), cluster.connect("cluster"));
    set_up(&mut a);
    everywhere(&mut a, &mut b);

    reset(&mut a);
    run(&mut b, "SET SESSION innodb_lock_wait_timeout = 1");
    run(&mut a, "BEGIN");
    run(&mut a, "SELECT id FROM duty WHERE active = 1 FOR UPDATE");
    let waits = b.query_drop("SELECT id FROM duty WHERE active = 1 FOR UPDATE");
    assert_eq!(code(&waits), Some(1205), "a locking read waits on one instance");
    run(&mut a, "ROLLBACK");

    let mut replica = cluster.connect("reader");
    run(&mut replica, "SET SESSION aurora_replica_read_consistency = 'GLOBAL'");
    for id in 2..50 {
        run(&mut a, &format!("INSERT INTO t VALUES ({id}, 1)"));
        assert_eq!(value(&mut replica, "SELECT COUNT(*) FROM t"), id);
    }
    for refused in ["UPDATE t SET n = 1", "SELECT n FROM t FOR UPDATE"] {
        assert_eq!(code(&replica.query_drop(refused)), Some(1290), "{refused}");
    }
}

#[test]
fn examples_of_the_consistency_page_hold_between_instances() {
    let cluster = Cluster::up(&Manifest::multi_master(), &[]);
    let (mut a, mut b) = (cluster.connect("it-0"), cluster.connect("it-1"));
    set_up(&mut a);
    everywhere(&mut a, &mut b);
    assert!(!write_skew(&mut a, &mut b, " FOR UPDATE"), "what was locked is checked at COMMIT");

    reset(&mut a);
    for connection in [&mut a, &mut b] {
        run(connection, "BEGIN");
        run(connection, "UPDATE t SET n = n + 1 WHERE id = 1");
    }
    run(&mut a, "COMMIT");
    assert_eq!(code(&b.query_drop("COMMIT")), Some(1213));
    assert_eq!(value(&mut b, N), 11);

    run(&mut b, "BEGIN");
    let inside = b.query_drop("SET SESSION aurora_mm_session_consistency_level = 'INSTANCE_RAW'");
    assert!(inside.is_err(), "outside a transaction only");
    run(&mut b, "COMMIT");
    run(&mut b, "SET SESSION aurora_mm_session_consistency_level = 'INSTANCE_RAW'");
    // What it works on may be old; what it commits is not.
    for round in 1..50 {
        run(&mut a, "UPDATE t SET n = n + 1 WHERE id = 1");
        run(&mut b, "UPDATE t SET n = n + 1 WHERE id = 1");
        assert_eq!(value(&mut a, N), 11 + 2 * round);
    }
}
