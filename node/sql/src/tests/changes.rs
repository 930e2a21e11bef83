//! INSERT, UPDATE, DELETE, REPLACE.

use super::{Server, text_of};
use crate::encoding::table_range;
use crate::types::Value;

const SBTEST: &str = "CREATE TABLE sbtest1(
  id INTEGER NOT NULL AUTO_INCREMENT,
  k INTEGER DEFAULT '0' NOT NULL,
  c CHAR(120) DEFAULT '' NOT NULL,
  pad CHAR(60) DEFAULT '' NOT NULL,
  PRIMARY KEY (id)
) /*! ENGINE = innodb */ ";

#[test]
fn sysbench_prepares_runs_and_cleans_up() {
    let server = Server::new();
    let mut client = server.client();
    client.run(SBTEST);
    let rows: Vec<String> =
        (1..=300).map(|i| format!("({}, 'c{:03}', 'pad{i}')", i % 17, i * 7 % 300)).collect();
    let insert = format!("INSERT INTO sbtest1(k, c, pad) VALUES{}", rows.join(", "));
    let answer = client.run(&insert);
    assert_eq!((answer.done[0].affected_rows, answer.done[0].last_insert_id), (300, 1));
    client.run("CREATE INDEX k_1 ON sbtest1(k)");

    let one = |i: i64| [Value::Int(i)];
    let two = |a: i64, b: i64| [Value::Int(a), Value::Int(b)];
    let mut text = |sql: &str, parameters: &[Value]| {
        let answer = client.execute(sql, parameters).unwrap_or_else(|error| panic!("{sql}: {error}"));
        text_of(&answer.rows)
    };
    assert_eq!(text("SELECT c FROM sbtest1 WHERE id=?", &one(5)), "c035");
    assert_eq!(text("SELECT c FROM sbtest1 WHERE id BETWEEN ? AND ?", &two(1, 3)), "c007 c014 c021");
    assert_eq!(text("SELECT SUM(k) FROM sbtest1 WHERE id BETWEEN ? AND ?", &two(1, 4)), "10");
    assert_eq!(
        text("SELECT c FROM sbtest1 WHERE id BETWEEN ? AND ? ORDER BY c", &two(42, 44)),
        "c001 c008 c294"
    );
    assert_eq!(
        text("SELECT DISTINCT c FROM sbtest1 WHERE id BETWEEN ? AND ? ORDER BY c", &two(42, 44)),
        "c001 c008 c294"
    );
    text("UPDATE sbtest1 SET k=k+1 WHERE id=?", &one(5));
    text("UPDATE sbtest1 SET c=? WHERE id=?", &["changed".into(), Value::Int(5)]);
    assert_eq!(text("SELECT k, c FROM sbtest1 WHERE id=?", &one(5)), "6,changed");
    assert_eq!(text("SELECT COUNT(*) FROM sbtest1 WHERE k=?", &one(6)), "19");
    text("DELETE FROM sbtest1 WHERE id=?", &one(5));
    assert_eq!(text("SELECT id FROM sbtest1 WHERE k=? AND id < 30", &one(6)), "6 23");
    text(
        "INSERT INTO sbtest1 (id, k, c, pad) VALUES (?, ?, ?, ?)",
        &[Value::Int(5), Value::Int(1), "x".into(), "y".into()],
    );
    assert_eq!(text("SELECT COUNT(*) FROM sbtest1", &[]), "300");
    // Every row has one index entry.
    assert_eq!(server.store.count(&table_range(16)), 600);
    client.run("DROP TABLE IF EXISTS sbtest1");
    assert_eq!(server.store.count(&table_range(16)), 0);
}

#[test]
fn duplicates_are_named_as_mysql_names_them_and_undo_the_whole_statement() {
    let server = Server::new();
    let mut client = server.client();
    client.run("CREATE TABLE t (a INT, b VARCHAR(20), c INT, PRIMARY KEY (a, b), UNIQUE KEY uc (c))");
    client.run("INSERT INTO t VALUES (1, 'Alpha', 10)");
    let (code, message) = client.error("INSERT INTO t VALUES (2, 'x', 20), (1, 'ALPHA', 30)");
    assert_eq!((code, message.as_str()), (1062, "Duplicate entry '1-ALPHA' for key 't.PRIMARY'"));
    let (code, message) = client.error("INSERT INTO t VALUES (3, 'y', 10)");
    assert_eq!((code, message.as_str()), (1062, "Duplicate entry '10' for key 't.uc'"));
    assert_eq!(client.rows("SELECT * FROM t"), "1,Alpha,10");
    // NULLs are not duplicates of each other.
    assert_eq!(client.affected("INSERT INTO t VALUES (4, 'p', NULL), (5, 'q', NULL)"), 2);
    let (code, _) = client.error("UPDATE t SET c = 10 WHERE a = 4");
    assert_eq!(code, 1062);
    let (code, _) = client.error("UPDATE t SET a = 1, b = 'alpha' WHERE a = 4");
    assert_eq!(code, 1062);
    assert_eq!(client.affected("UPDATE t SET a = a + 10"), 3);
    assert_eq!(client.rows("SELECT a, b, c FROM t ORDER BY a"), "11,Alpha,10 14,p,NULL 15,q,NULL");
    assert_eq!(client.rows("SELECT a FROM t WHERE c = 10"), "11");
}

#[test]
fn ignore_replace_and_on_duplicate_key_count_as_mysql_does() {
    let server = Server::new();
    let mut client = server.client();
    client.run("CREATE TABLE t (id INT PRIMARY KEY, u INT UNIQUE, n INT NOT NULL DEFAULT 0)");
    client.run("INSERT INTO t VALUES (1, 1, 1), (2, 2, 2), (3, 3, 3)");
    assert_eq!(client.affected("INSERT IGNORE INTO t VALUES (1, 9, 9), (4, 4, 4)"), 1);
    assert_eq!(client.rows("SHOW WARNINGS"), "Warning,1062,Duplicate entry '1' for key 't.PRIMARY'");
    // One row inserted, two that were in its way deleted.
    assert_eq!(client.affected("REPLACE INTO t VALUES (1, 2, 7)"), 3);
    assert_eq!(client.rows("SELECT * FROM t ORDER BY id"), "1,2,7 3,3,3 4,4,4");
    let upsert = "INSERT INTO t VALUES (3, 30, 5) ON DUPLICATE KEY UPDATE n = n + VALUES(n), u = n";
    assert_eq!(client.affected(upsert), 2);
    assert_eq!(client.rows("SELECT * FROM t WHERE id = 3"), "3,8,8");
    assert_eq!(client.affected("INSERT INTO t VALUES (3, 30, 5) ON DUPLICATE KEY UPDATE n = n"), 0);
    assert_eq!(client.affected("INSERT INTO t VALUES (9, 9, 9) ON DUPLICATE KEY UPDATE n = 1"), 1);
}

#[test]
fn columns_that_are_not_given_or_do_not_fit_are_errors_of_mysql() {
    let server = Server::new();
    let mut client = server.client();
    client.run("CREATE TABLE t (id INT PRIMARY KEY, a TINYINT NOT NULL, b VARCHAR(3), d DATE)");
    assert_eq!(
        client.error("INSERT INTO t (id) VALUES (1)"),
        (1364, "Field 'a' doesn't have a default value".into())
    );
    assert_eq!(
        client.error("INSERT INTO t (id, a) VALUES (1, NULL)"),
        (1048, "Column 'a' cannot be null".into())
    );
    assert_eq!(
        client.error("INSERT INTO t (id, a) VALUES (1, 200)"),
        (1264, "Out of range value for column 'a' at row 1".into())
    );
    assert_eq!(
        client.error("INSERT INTO t (id, a, b) VALUES (1, 2, 'abcd')"),
        (1406, "Data too long for column 'b' at row 1".into())
    );
    let wrong = client.error("INSERT INTO t (id, a) VALUES (1, 1), (2, 'x')");
    assert_eq!(wrong, (1366, "Incorrect integer value: 'x' for column 'a' at row 2".into()));
    assert_eq!(client.error("INSERT INTO t VALUES (1, 2)").0, 1136);
    assert_eq!(client.error("INSERT INTO t (id, a, d) VALUES (1, 2, '2024-02-30')").0, 1292);
    assert_eq!(client.error("INSERT INTO t (id, zz) VALUES (1, 2)").0, 1054);
    assert_eq!(
        client.error("INSERT INTO nothing VALUES (1)"),
        (1146, "Table 'test.nothing' doesn't exist".into())
    );
    assert_eq!(client.rows("SELECT COUNT(*) FROM t"), "0");
    client.run("SET sql_mode = ''");
    client.run("INSERT INTO t (id, a, b) VALUES (1, 200, 'abcd')");
    assert_eq!(client.rows("SELECT id, a, b FROM t"), "1,127,abc");
}

#[test]
fn auto_increment_counts_on_from_what_is_there() {
    let server = Server::new();
    let mut client = server.client();
    client.run("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v INT)");
    assert_eq!(client.run("INSERT INTO t (v) VALUES (1), (2)").done[0].last_insert_id, 1);
    client.run("INSERT INTO t VALUES (10, 3), (NULL, 4), (0, 5)");
    assert_eq!(client.rows("SELECT LAST_INSERT_ID()"), "11");
    assert_eq!(client.rows("SELECT id, v FROM t"), "1,1 2,2 10,3 11,4 12,5");
    let other = Server::over(&server.store);
    let mut other = other.client();
    other.run("INSERT INTO t (v) SELECT v FROM t WHERE v < 3");
    assert_eq!(other.rows("SELECT COUNT(*), MAX(v) FROM t"), "7,5");
    client.run("CREATE TABLE u (v INT) AUTO_INCREMENT = 5");
    client.run("INSERT INTO u VALUES (1), (1), (NULL)");
    assert_eq!(client.rows("SELECT COUNT(*), COUNT(v) FROM u"), "3,2");
    assert_eq!(client.affected("DELETE FROM u WHERE v = 1 LIMIT 1"), 1);
    assert_eq!(client.rows("SELECT COUNT(*) FROM u"), "2");
}

#[test]
fn updates_see_the_rows_as_they_were_before_the_statement() {
    let server = Server::new();
    let mut client = server.client();
    client.run("CREATE TABLE t (id INT PRIMARY KEY, x INT, KEY kx (x))");
    client.run("INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)");
    // An index that the statement itself changes: no row is met twice.
    let answer = client.run("UPDATE t SET x = x + 1 WHERE x >= 1");
    assert_eq!(
        (answer.done[0].affected_rows, answer.done[0].info.as_str()),
        (3, "Rows matched: 3  Changed: 3  Warnings: 0")
    );
    assert_eq!(client.rows("SELECT id, x FROM t"), "1,2 2,3 3,4");
    client.run("INSERT INTO t SELECT id + 10, x FROM t");
    assert_eq!(client.rows("SELECT COUNT(*) FROM t"), "6");
    assert_eq!(client.affected("UPDATE t SET x = 4 WHERE id = 3"), 0);
    client.0.set_found_rows(true);
    assert_eq!(client.affected("UPDATE t SET x = 4 WHERE id = 3"), 1);
    client.run("UPDATE t SET x = 100 ORDER BY id DESC LIMIT 2");
    assert_eq!(client.rows("SELECT id FROM t WHERE x = 100"), "12 13");
    client.run("UPDATE t a JOIN t b ON b.id = a.id + 10 SET a.x = b.x + 1000 WHERE a.id < 10");
    assert_eq!(client.rows("SELECT id, x FROM t WHERE id < 10"), "1,1002 2,1100 3,1100");
    assert_eq!(client.affected("DELETE a FROM t a JOIN t b ON b.id = a.id + 10"), 3);
    assert_eq!(client.rows("SELECT id FROM t"), "11 12 13");
}
