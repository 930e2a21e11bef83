//! Transactions, locks, savepoints, read-only instances, kills.

use super::Server;
use crate::store::StoreError;

fn bank() -> Server {
    let server = Server::new();
    let mut client = server.client();
    client.run("CREATE TABLE t (id INT PRIMARY KEY, n INT)");
    client.run("INSERT INTO t VALUES (1, 10), (2, 20)");
    server
}

#[test]
fn a_transaction_sees_its_snapshot_and_its_own_changes() {
    let server = bank();
    let (mut a, mut b) = (server.client(), server.client());
    a.run("BEGIN");
    assert!(a.0.in_transaction());
    assert_eq!(a.rows("SELECT n FROM t WHERE id = 1"), "10");
    b.run("UPDATE t SET n = 11 WHERE id = 1");
    assert_eq!(a.rows("SELECT n FROM t WHERE id = 1"), "10");
    // A locking read sees the present, as InnoDB's does.
    assert_eq!(a.rows("SELECT n FROM t WHERE id = 1 FOR UPDATE"), "11");
    a.run("UPDATE t SET n = n + 1 WHERE id = 1");
    assert_eq!(a.rows("SELECT n FROM t WHERE id = 1"), "12");
    assert_eq!(b.rows("SELECT n FROM t WHERE id = 1"), "11");
    a.run("COMMIT");
    assert!(!a.0.in_transaction());
    assert_eq!(b.rows("SELECT n FROM t WHERE id = 1"), "12");
    b.run("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; BEGIN; SELECT * FROM t");
    a.run("UPDATE t SET n = 50 WHERE id = 2");
    assert_eq!(b.rows("SELECT n FROM t WHERE id = 2"), "50");
    b.run("ROLLBACK");
}

#[test]
fn a_failed_statement_undoes_itself_and_a_savepoint_undoes_what_came_after() {
    let server = bank();
    let mut client = server.client();
    client.run("START TRANSACTION");
    client.run("INSERT INTO t VALUES (3, 30)");
    client.run("SAVEPOINT s1");
    client.run("UPDATE t SET n = 0");
    assert_eq!(client.error("INSERT INTO t VALUES (4, 40), (1, 1)").0, 1062);
    assert_eq!(client.rows("SELECT COUNT(*), SUM(n) FROM t"), "3,0");
    client.run("ROLLBACK TO SAVEPOINT s1");
    assert_eq!(client.rows("SELECT SUM(n) FROM t"), "60");
    client.run("RELEASE SAVEPOINT s1");
    assert_eq!(client.error("ROLLBACK TO s1"), (1305, "SAVEPOINT s1 does not exist".into()));
    client.run("ROLLBACK");
    assert_eq!(client.rows("SELECT SUM(n) FROM t"), "30");
}

#[test]
fn autocommit_off_begins_transactions_by_itself() {
    let server = bank();
    let (mut a, mut b) = (server.client(), server.client());
    a.run("SET autocommit = 0");
    a.run("UPDATE t SET n = 99 WHERE id = 1");
    assert_eq!(b.rows("SELECT n FROM t WHERE id = 1"), "10");
    a.run("ROLLBACK");
    assert_eq!(a.rows("SELECT n FROM t WHERE id = 1"), "10");
    a.run("UPDATE t SET n = 98 WHERE id = 1");
    a.run("SET autocommit = 1");
    assert_eq!(b.rows("SELECT n FROM t WHERE id = 1"), "98");
}

#[test]
fn a_lock_that_is_not_granted_ends_the_statement_and_not_the_transaction() {
    let server = bank();
    let (mut a, mut b) = (server.client(), server.client());
    a.run("BEGIN; UPDATE t SET n = 11 WHERE id = 1");
    b.run("SET innodb_lock_wait_timeout = 1; BEGIN; UPDATE t SET n = 21 WHERE id = 2");
    assert_eq!(b.error("UPDATE t SET n = 12 WHERE id = 1").0, 1205);
    assert!(b.0.in_transaction());
    b.run("COMMIT");
    a.run("COMMIT");
    assert_eq!(a.rows("SELECT n FROM t"), "11 21");
}

#[test]
fn a_deadlock_rolls_one_transaction_back() {
    let server = bank();
    let (mut a, mut b) = (server.client(), server.client());
    a.run("BEGIN; UPDATE t SET n = 11 WHERE id = 1");
    b.run("BEGIN; UPDATE t SET n = 21 WHERE id = 2");
    let waiting = std::thread::spawn(move || {
        a.run("UPDATE t SET n = 12 WHERE id = 2");
        a.run("COMMIT");
    });
    while !server.store.somebody_waits() {
        std::thread::yield_now();
    }
    let (code, message) = b.error("UPDATE t SET n = 13 WHERE id = 1");
    assert_eq!(
        (code, message.as_str()),
        (1213, "Deadlock found when trying to get lock; try restarting transaction")
    );
    assert!(!b.0.in_transaction());
    waiting.join().expect("the other one goes on");
    assert_eq!(b.rows("SELECT n FROM t"), "11 12");
}

#[test]
fn a_lost_vote_is_retried_for_single_statements_only() {
    let server = bank();
    let mut client = server.client();
    server.store.lose_votes(2);
    assert_eq!(client.affected("UPDATE t SET n = n + 1 WHERE id = 1"), 1);
    assert_eq!(client.rows("SELECT n FROM t WHERE id = 1"), "11");
    client.run("BEGIN; UPDATE t SET n = n + 1 WHERE id = 1");
    server.store.lose_votes(1);
    assert_eq!(client.error("COMMIT").0, 1213);
    assert!(!client.0.in_transaction());
    assert_eq!(client.rows("SELECT n FROM t WHERE id = 1"), "11");
    client.run("SET borealis_autocommit_retries = 0");
    server.store.lose_votes(1);
    assert_eq!(client.error("UPDATE t SET n = 5").0, 1213);
}

#[test]
fn a_statement_whose_outcome_is_unknown_is_not_made_again() {
    let server = bank();
    let mut client = server.client();
    client.run("CREATE TABLE log (id INT AUTO_INCREMENT PRIMARY KEY, n INT)");
    let unknown = || StoreError::OutcomeUnknown { reason: "no write quorum".to_owned() };
    for statement in ["INSERT INTO log (n) VALUES (1)", "UPDATE t SET n = n + 1 WHERE id = 1"] {
        server.store.fail_next_commit(unknown(), true);
        assert_eq!(client.error(statement).0, 3024, "{statement}");
    }
    assert_eq!(client.rows("SELECT COUNT(*) FROM log"), "1");
    assert_eq!(client.rows("SELECT n FROM t WHERE id = 1"), "11");
}

#[test]
fn a_statement_that_the_volume_did_not_take_is_not_tried_for_twice_as_long() {
    let server = bank();
    let mut client = server.client();
    for statement in ["INSERT INTO t VALUES (3, 30)", "UPDATE t SET n = n + 1 WHERE id = 1"] {
        let reason = "no write quorum".to_owned();
        server.store.fail_next_commit(StoreError::Unavailable { reason }, false);
        assert_eq!(client.error(statement).0, 1030, "{statement}");
    }
    assert_eq!(client.rows("SELECT id, n FROM t ORDER BY id"), "1,10 2,20");
}

#[test]
fn an_instance_that_may_not_write_says_so_as_mysql_does() {
    let server = bank();
    let mut client = server.client();
    server.store.set_writable(false);
    let text = "The MySQL server is running with the --read-only option so it cannot execute this statement";
    assert_eq!(client.error("INSERT INTO t VALUES (5, 5)"), (1290, text.into()));
    assert_eq!(client.error("CREATE TABLE u (id INT)"), (1290, text.into()));
    assert_eq!(client.rows("SELECT COUNT(*) FROM t"), "2");
    server.store.set_writable(true);
    client.run("START TRANSACTION READ ONLY");
    assert_eq!(client.error("DELETE FROM t").0, 1792);
    client.run("COMMIT");
    assert_eq!(client.affected("DELETE FROM t"), 2);
}

#[test]
fn a_kill_ends_a_wait_and_a_long_query() {
    let server = bank();
    let (mut a, mut b) = (server.client(), server.client());
    a.run("BEGIN; UPDATE t SET n = 11 WHERE id = 1");
    let interrupt = b.0.interrupt();
    let waiting = std::thread::spawn(move || b.error("UPDATE t SET n = 12 WHERE id = 1").0);
    while !server.store.somebody_waits() {
        std::thread::yield_now();
    }
    interrupt.interrupt();
    assert_eq!(waiting.join().expect("the statement ends"), 1317);
    a.run("COMMIT");
    let rows: Vec<String> = (100..400).map(|i| format!("({i}, 0)")).collect();
    a.run(&format!("INSERT INTO t VALUES {}", rows.join(",")));
    let interrupt = a.0.interrupt();
    let (begun, has_begun) = std::sync::mpsc::channel();
    let long = std::thread::spawn(move || {
        begun.send(()).expect("somebody listens");
        a.error("SELECT COUNT(*) FROM t a, t b, t c, t d, t e WHERE a.n + b.n + c.n + d.n + e.n = 1").0
    });
    has_begun.recv().expect("it begins");
    while !long.is_finished() {
        interrupt.interrupt();
        std::thread::yield_now();
    }
    assert_eq!(long.join().expect("the query ends"), 1317);
}

#[test]
fn concurrent_transfers_keep_the_sum() {
    let server = bank();
    let workers: Vec<_> = (0..3)
        .map(|worker| {
            let mut client = server.client();
            std::thread::spawn(move || {
                let mut done = 0;
                while done < 30 {
                    let (from, to) = if (worker + done) % 2 == 0 { (1, 2) } else { (2, 1) };
                    let sql = format!(
                        "BEGIN; UPDATE t SET n = n - 1 WHERE id = {from}; UPDATE t SET n = n + 1 WHERE id = {to}; COMMIT"
                    );
                    match super::run(&mut client.0, &sql) {
                        Ok(_) => done += 1,
                        Err(error) => assert_eq!(error.code, 1213, "{error}"),
                    }
                }
            })
        })
        .collect();
    let mut reader = server.client();
    while !workers.iter().all(std::thread::JoinHandle::is_finished) {
        assert_eq!(reader.rows("SELECT SUM(n) FROM t"), "30");
    }
    for worker in workers {
        worker.join().expect("a worker");
    }
    assert_eq!(reader.rows("SELECT SUM(n) FROM t"), "30");
}
