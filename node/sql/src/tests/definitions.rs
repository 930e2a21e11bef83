//! CREATE, DROP, TRUNCATE, ALTER: definitions, and what becomes of rows and plans.

use std::sync::Arc;
use std::time::Duration;

use super::Server;
use crate::catalog::{TableDef, TableState};
use crate::encoding::{index_range, table_range};
use crate::schema::{Garbage, Pending, decode, encode, pending_key, stamp_of, table_key};
use crate::store::{Freshness, Isolation, LockWait, Store, TxnOptions};
use crate::types::Value;

#[test]
fn databases_and_tables_come_and_go_with_mysqls_errors() {
    let server = Server::new();
    let mut client = server.client();
    assert_eq!(client.error("CREATE DATABASE test").0, 1007);
    assert_eq!(client.error("DROP DATABASE nothing").0, 1008);
    assert_eq!(client.error("USE nothing").0, 1049);
    client.run("CREATE DATABASE shop; USE shop; CREATE TABLE t (a INT)");
    assert_eq!(client.0.database().as_deref(), Some("shop"));
    assert_eq!(client.error("CREATE TABLE t (a INT)"), (1050, "Table 't' already exists".into()));
    client.run("CREATE TABLE IF NOT EXISTS t (a INT)");
    assert_eq!(client.rows("SHOW WARNINGS"), "Note,1050,Table 't' already exists");
    assert_eq!(client.error("DROP TABLE x"), (1051, "Unknown table 'shop.x'".into()));
    client.run("INSERT INTO t VALUES (1), (2)");
    client.run("DROP DATABASE shop");
    assert_eq!(client.0.database(), None);
    assert_eq!(client.error("SELECT * FROM t").0, 1046);
    assert_eq!(server.store.count(&table_range(16)), 0);
}

#[test]
fn an_index_on_a_full_table_finds_every_row() {
    let server = Server::new();
    let mut client = server.client();
    client.run("CREATE TABLE t (id INT PRIMARY KEY, k INT, s VARCHAR(20))");
    let rows: Vec<String> = (0..1300).map(|i| format!("({i}, {}, 's{}')", i % 7, i / 2)).collect();
    client.run(&format!("INSERT INTO t VALUES {}", rows.join(",")));
    client.run("CREATE INDEX k_1 ON t (k)");
    assert_eq!(server.store.count(&index_range(16, 2)), 1300);
    assert!(client.rows("EXPLAIN SELECT id FROM t WHERE k = 3").contains("k_1"));
    assert_eq!(client.rows("SELECT COUNT(*) FROM t WHERE k = 3"), "186");
    let (code, message) = client.error("CREATE UNIQUE INDEX us ON t (s)");
    assert_eq!((code, message.as_str()), (1062, "Duplicate entry 's0' for key 't.us'"));
    // What was built of it is gone, and the table can be written again.
    assert_eq!(server.store.count(&table_range(16)), 2600);
    client.run("UPDATE t SET s = CONCAT('x', id)");
    client.run("ALTER TABLE t ADD UNIQUE INDEX us (s), DROP INDEX k_1");
    assert_eq!(client.error("INSERT INTO t VALUES (5000, 1, 'x7')").0, 1062);
    assert_eq!(server.store.count(&table_range(16)), 2600);
}

/// Leaves the table `test.t` (number 16) as a process leaves it that builds an index and is not done.
fn begin_to_build(server: &Server, run: u64) {
    let mut txn = server.store.begin(TxnOptions {
        isolation: Isolation::ReadCommitted,
        freshness: Freshness::Global,
        snapshot_isolation: false,
        read_only: false,
        lock_wait: Duration::from_secs(1),
        killed: Arc::default(),
    });
    txn.begin_statement().expect("a store in memory");
    let key = table_key("test", "t");
    let row = txn.lock(&key, LockWait::No).expect("free").expect("it exists");
    let mut table: TableDef = decode(&row).expect("a table");
    table.state = TableState::ReadOnly;
    table.version += 1;
    txn.put(key, encode(stamp_of(&table), &table).expect("it can be written")).expect("a put");
    let pending = Pending {
        database: "test".to_owned(),
        table: "t".to_owned(),
        owner: "shop-0".to_owned(),
        run,
        unfinished: Garbage { table: table.id, index: Some(7) },
    };
    txn.put(pending_key(table.id), encode(1, &pending).expect("it can be written")).expect("a put");
    txn.commit().expect("nobody else writes");
}

#[test]
fn a_table_whose_index_builder_died_is_written_as_before() {
    let server = Server::new();
    let mut client = server.client();
    client.run("CREATE TABLE t (id INT PRIMARY KEY, k INT); INSERT INTO t VALUES (1, 1)");
    let earlier = client.0.run.wrapping_add(1);
    begin_to_build(&server, earlier);
    client.run("INSERT INTO t VALUES (2, 2)");
    begin_to_build(&server, earlier);
    client.run("BEGIN; UPDATE t SET k = 3; COMMIT");
    assert_eq!(client.rows("SELECT id, k FROM t"), "1,3 2,3");
}

#[test]
fn a_change_waits_while_an_index_is_built_and_goes_on_when_it_is_done() {
    let server = Server::new();
    let mut client = server.client();
    client.run("CREATE TABLE t (id INT PRIMARY KEY, k INT); INSERT INTO t VALUES (1, 1)");
    begin_to_build(&server, client.0.run);
    client.run("SET innodb_lock_wait_timeout = 1");
    assert_eq!(client.error("INSERT INTO t VALUES (2, 2)").0, 1205);
    assert_eq!(client.error("CREATE INDEX k ON t (k)").0, 1205);
    client.run("SET innodb_lock_wait_timeout = 50");
    // Another process takes the builder for dead.
    let other = Server::over(&server.store);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.run("INSERT INTO t (id, k) VALUES (2, 2)"));
        other.client().run("ALTER TABLE t ADD COLUMN c INT");
        waiting.join().expect("it goes on");
    });
    assert_eq!(other.client().rows("SELECT id, c FROM t"), "1,NULL 2,NULL");
}

#[test]
fn truncate_empties_a_table_and_starts_its_numbers_again() {
    let server = Server::new();
    let mut client = server.client();
    client.run("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v INT, KEY (v))");
    client.run("INSERT INTO t (v) VALUES (1), (2), (3)");
    client.run("TRUNCATE TABLE t");
    assert_eq!(client.rows("SELECT COUNT(*) FROM t"), "0");
    client.run("INSERT INTO t (v) VALUES (9)");
    assert_eq!(client.rows("SELECT * FROM t"), "1,9");
    assert_eq!(server.store.count(&table_range(16)), 0);
}

#[test]
fn columns_are_added_and_dropped_without_touching_rows() {
    let server = Server::new();
    let mut client = server.client();
    client.run("CREATE TABLE t (id INT PRIMARY KEY, a INT)");
    client.run("INSERT INTO t VALUES (1, 10)");
    client.run("ALTER TABLE t ADD COLUMN b VARCHAR(10) NOT NULL DEFAULT 'new', ADD COLUMN c INT FIRST");
    client.run("INSERT INTO t (id, a) VALUES (2, 20)");
    assert_eq!(client.rows("SELECT * FROM t"), "NULL,1,10,new NULL,2,20,new");
    assert_eq!(client.affected("UPDATE t SET b = 'old' WHERE b = 'new' AND id = 1"), 1);
    client.run("ALTER TABLE t DROP COLUMN a");
    assert_eq!(client.rows("SELECT * FROM t"), "NULL,1,old NULL,2,new");
    client.run("ALTER TABLE t RENAME COLUMN b TO name, RENAME TO u");
    assert_eq!(client.rows("SELECT name FROM u WHERE id = 2"), "new");
    assert_eq!(client.error("SELECT * FROM t").0, 1146);
}

#[test]
fn plans_and_prepared_statements_follow_the_definitions() {
    let server = Server::new();
    let (mut a, mut b) = (server.client(), server.client());
    a.run("CREATE TABLE t (id INT PRIMARY KEY, v INT)");
    a.run("INSERT INTO t VALUES (1, 1)");
    let mut answer = super::Answer::default();
    let prepared = a.0.prepare("SELECT * FROM t WHERE id = ?").expect("a statement");
    assert_eq!((prepared.parameters, prepared.columns.len()), (1, 2));
    a.0.execute(prepared.handle, &[Value::Int(1)], &mut answer).expect("a row");
    b.run("ALTER TABLE t ADD COLUMN w INT DEFAULT 7");
    let mut answer = super::Answer::default();
    a.0.execute(prepared.handle, &[Value::Int(1)], &mut answer).expect("a row");
    assert_eq!(super::text_of(&answer.rows), "1,1,7");
    assert_eq!(a.rows("SELECT * FROM t"), "1,1,7");
    b.run("DROP TABLE t; CREATE TABLE t (id VARCHAR(5) PRIMARY KEY)");
    assert_eq!(a.rows("SELECT * FROM t"), "");
    assert_eq!(a.affected("INSERT INTO t VALUES ('x')"), 1);
}

#[test]
fn a_snapshot_older_than_a_definition_is_an_error_and_no_wrong_result() {
    let server = Server::new();
    let (mut a, mut b) = (server.client(), server.client());
    a.run("CREATE TABLE t (id INT PRIMARY KEY, v INT); CREATE TABLE u (id INT PRIMARY KEY)");
    a.run("INSERT INTO t VALUES (1, 1)");
    a.run("BEGIN; INSERT INTO u VALUES (1)");
    assert_eq!(a.rows("SELECT id FROM t WHERE v = 1"), "1");
    b.run("CREATE INDEX kv ON t (v)");
    // The index has no entries at the transaction's snapshot.
    assert_eq!(
        a.error("SELECT id FROM t WHERE v = 1"),
        (1412, "Table definition has changed, please retry transaction".into())
    );
    assert!(a.0.in_transaction());
    assert_eq!(a.rows("SELECT id FROM t WHERE v = 1 FOR UPDATE"), "1");
    a.run("COMMIT");
    assert_eq!(a.rows("SELECT id FROM t WHERE v = 1"), "1");
}

#[test]
fn defaults_of_every_kind_are_filled_in() {
    let server = Server::new();
    let mut client = server.client();
    client.run(
        "CREATE TABLE t (id INT PRIMARY KEY, n DECIMAL(6,2) NOT NULL DEFAULT 1.5, \
         at DATETIME DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, e ENUM('a','b') DEFAULT 'b', \
         x INT DEFAULT (1 + 2), b VARBINARY(4) DEFAULT 'ab')",
    );
    client.run("INSERT INTO t (id) VALUES (1)");
    assert_eq!(client.rows("SELECT n, e, x, b FROM t"), "1.50,b,3,ab");
    assert_eq!(client.rows("SELECT at IS NOT NULL FROM t"), "1");
    client.run("INSERT INTO t (id, n, at) VALUES (2, DEFAULT, '2020-01-01')");
    assert_eq!(client.rows("SELECT n, at FROM t WHERE id = 2"), "1.50,2020-01-01 00:00:00");
    client.run("UPDATE t SET x = 4 WHERE id = 2");
    assert_eq!(client.rows("SELECT at > '2020-01-01' FROM t WHERE id = 2"), "1");
}
