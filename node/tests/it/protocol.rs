//! Clients that err, hang up, ask for too much or are very many; and that others do not notice.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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
fn an_oversized_packet_gets_1153_and_others_go_on() {
    let cluster = cluster_with_a_row();
    let mut other = cluster.connect("cluster");
    let limit = usize::try_from(value(&mut other, "SELECT @@max_allowed_packet")).expect("it is positive");
    assert_eq!(limit, 64 << 20, "MySQL's default");
    let send = |bytes: usize| {
        let mut connection =
            Conn::new(cluster.address("cluster").max_allowed_packet(Some(1 << 30))).expect("it connects");
        connection.query_drop(format!("SELECT '{}'", "x".repeat(bytes)))
    };
    // The protocol's own byte and the statement around the text.
    send(limit - 10).expect("as much as is allowed");
    let refused = send(limit - 9);
    assert_eq!(code(&refused), Some(1153), "{refused:?}");
    // Refused before all of it was sent, of which the client may see only that the connection has ended.
    let refused = send(2 * limit);
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

/// Statements a second of one client that reads and writes.
fn rate(connection: &mut Conn) -> f64 {
    const STATEMENTS: u32 = 1_000;
    let began = Instant::now();
    for number in 0..STATEMENTS {
        if number % 10 == 0 {
            run(connection, "UPDATE items SET n = n + 1 WHERE id = 1");
        } else {
            value(connection, "SELECT n FROM items WHERE id = 1");
        }
    }
    f64::from(STATEMENTS) / began.elapsed().as_secs_f64()
}

#[test]
fn thousands_of_idle_connections_have_no_threads_take_little_memory_and_do_not_hinder_a_busy_one() {
    const IDLE: usize = 2_000;
    const THREADS_MAX: u64 = 64;
    const KIB_EACH_MAX: u64 = 192;
    let limit = getrlimit(Resource::Nofile);
    let limit = Rlimit { current: limit.maximum, ..limit };
    setrlimit(Resource::Nofile, limit).expect("a process may take what it may have");
    let manifest = Manifest { more: "  parameters:\n    max_connections: \"3000\"\n", ..small() };
    let cluster = Cluster::up(&manifest, &[]);
    let mut busy = cluster.connect("it-0");
    run(&mut busy, "CREATE TABLE items (id INT PRIMARY KEY, n INT)");
    run(&mut busy, "INSERT INTO items VALUES (1, 0)");
    let (alone, before) = (rate(&mut busy), cluster.process_figure("it-0", "VmRSS"));
    let began = Instant::now();
    // Every second one through the endpoint.
    let addresses = [cluster.address("it-0"), cluster.address("cluster")];
    let open = |number: usize| {
        let mut connection = Conn::new(addresses[number % 2].clone()).expect("there is room");
        value(&mut connection, "SELECT n FROM items WHERE id = 1");
        connection
    };
    let mut idle: Vec<Conn> = (0..IDLE).map(open).collect();
    println!("{IDLE} connections opened in {:?}", began.elapsed());
    let mut threads = 0;
    let parked = poll(DEADLINE, || {
        threads = cluster.process_figure("it-0", "Threads");
        (threads <= THREADS_MAX).then_some(())
    });
    assert!(parked.is_some(), "{threads} threads for {IDLE} idle connections");
    let each = (cluster.process_figure("it-0", "VmRSS") - before) / IDLE as u64;
    let amid = rate(&mut busy);
    println!("{threads} threads, {each} KiB for each idle connection");
    println!("a busy client: {alone:.0} statements/s alone, {amid:.0} among the idle ones");
    assert!(each <= KIB_EACH_MAX, "{each} KiB for each idle connection");
    let connected = "SELECT COUNT(*) FROM information_schema.processlist";
    assert_eq!(value(&mut busy, connected), i64::try_from(IDLE).expect("it is small") + 1);
    let written = value(&mut busy, "SELECT n FROM items WHERE id = 1");
    for connection in &mut idle {
        assert_eq!(value(connection, "SELECT n FROM items WHERE id = 1"), written);
    }
}
