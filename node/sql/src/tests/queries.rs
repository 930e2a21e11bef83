//! SELECT through the virtual tables: access paths, collations, types, computed tables.

use super::Server;
use crate::types::Value;

#[test]
fn keys_of_every_type_find_their_rows() {
    let server = Server::new();
    let mut client = server.client();
    client.run(
        "CREATE TABLE t (s VARCHAR(20), d DECIMAL(8,3), b VARBINARY(8), at DATETIME, f DOUBLE, t TIME, \
         PRIMARY KEY (s, d), KEY kb (b), KEY ka (at), KEY kf (f), KEY kt (t))",
    );
    client.run(
        "INSERT INTO t VALUES ('Müller', 10.5, 'x', '2024-01-05 10:00:00', 1.5, '100:00:00'), \
         ('muller', -3, 'X', '2024-01-06', -2, '-01:00:00'), ('zoe', 10.25, NULL, NULL, 1e10, '09:00:00')",
    );
    assert_eq!(client.rows("SELECT d FROM t WHERE s = 'MULLER' ORDER BY d"), "-3.000 10.500");
    assert_eq!(client.rows("SELECT s FROM t WHERE s = 'müller' AND d = 10.50"), "Müller");
    assert_eq!(client.rows("SELECT s FROM t WHERE b = 'x'"), "Müller");
    assert_eq!(client.rows("SELECT s FROM t WHERE at >= '2024-01-05' ORDER BY at DESC"), "muller Müller");
    assert_eq!(client.rows("SELECT s FROM t WHERE at = '2024-1-6'"), "muller");
    assert_eq!(client.rows("SELECT f FROM t WHERE f > 0 ORDER BY f"), "1.5 10000000000");
    assert_eq!(client.rows("SELECT t FROM t ORDER BY t"), "-01:00:00 09:00:00 100:00:00");
    assert_eq!(client.error("INSERT INTO t (s, d) VALUES ('MÜLLER', 10.5)").0, 1062);
}

#[test]
fn results_have_types_and_origins() {
    let server = Server::new();
    let mut client = server.client();
    client.run("CREATE TABLE t (id INT PRIMARY KEY, u BIGINT UNSIGNED, d DECIMAL(5,2), b BLOB)");
    client.run("INSERT INTO t VALUES (1, 5, 2, x'00ff')");
    let answer = client.run("SELECT id AS i, u, d, b, COUNT(*) FROM t AS x GROUP BY id");
    let row = &answer.rows[0];
    assert_eq!(
        row[..4],
        [Value::Int(1), Value::UInt(5), Value::Text("2.00".into()), Value::Bytes(vec![0, 255])]
    );
    let first = &answer.columns[0];
    assert_eq!(
        (first.name.as_str(), first.org_name.as_str(), first.table.as_str(), first.org_table.as_str()),
        ("i", "id", "x", "t")
    );
}

#[test]
fn the_statements_of_issue_are_answered() {
    let server = Server::new();
    let mut client = server.client();
    client.run("CREATE TABLE a (id INT PRIMARY KEY, g INT, KEY (g)); CREATE TABLE b (id INT PRIMARY KEY, a INT, KEY (a))");
    client.run(
        "INSERT INTO a VALUES (1, 1), (2, 1), (3, 2), (4, NULL); INSERT INTO b VALUES (1, 1), (2, 1), (3, 3)",
    );
    assert_eq!(client.rows("SELECT a.id, b.id FROM a JOIN b ON b.a = a.id ORDER BY 1, 2"), "1,1 1,2 3,3");
    assert_eq!(
        client.rows("SELECT a.id, COUNT(b.id) FROM a LEFT JOIN b ON b.a = a.id GROUP BY a.id ORDER BY a.id"),
        "1,2 2,0 3,1 4,0"
    );
    assert_eq!(client.rows("SELECT g, COUNT(*) FROM a GROUP BY g HAVING COUNT(*) > 1"), "1,2");
    assert_eq!(
        client.rows("SELECT id FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.a = a.id) ORDER BY id DESC"),
        "3 1"
    );
    assert_eq!(client.rows("SELECT id FROM a WHERE g IS NULL"), "4");
    assert_eq!(client.rows("SELECT id FROM a WHERE id IN (3, 1, 9) ORDER BY id LIMIT 1 OFFSET 1"), "3");
    assert_eq!(client.rows("SELECT id FROM a WHERE g <=> NULL"), "4");
    assert_eq!(client.rows("SHOW TABLES"), "a b");
    assert_eq!(
        client
            .rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'test' ORDER BY 1"),
        "a b"
    );
    assert_eq!(client.rows("SELECT DATABASE(), @@autocommit"), "test,1");
    client.run("SET @x = 2");
    assert_eq!(client.rows("SELECT id FROM a WHERE id = @x"), "2");
    client.run("PREPARE q FROM 'SELECT id FROM a WHERE id = ?'");
    assert_eq!(client.rows("EXECUTE q USING @x"), "2");
    client.run("DEALLOCATE PREPARE q");
    assert_eq!(client.error("EXECUTE q").0, 1243);
    assert_eq!(client.error("SELEC 1").0, 1064);
    assert_eq!(client.error("").0, 1065);
    assert_eq!(client.error("SELECT nothing FROM a").0, 1054);
}
