//! Random statements on our virtual tables and on SQLite's own tables: both must give the same rows.
//!
//! The queries go to SQLite as they are, past the translator, so that access paths are tested alone: equality,
//! ranges, IN, order, limits, joins, with changes that are not committed yet.

use std::sync::Arc;

use rusqlite::Connection;

use super::{Client, Server};
use crate::catalog::{Catalog, TableDef};
use crate::connection::{BindValues, register_collations};
use crate::plan::{Access, Query, TableUse, module_name};
use crate::schema::SchemaCache;
use crate::store::Freshness;

/// A small generator: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
    fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len() as u64) as usize]
    }
    fn number(&mut self) -> String {
        match self.below(14) {
            0 => "NULL".to_owned(),
            1 => format!("{}.5", self.below(40)),
            _ => self.below(40).to_string(),
        }
    }
    fn text(&mut self) -> String {
        match self.below(12) {
            0 => "NULL".to_owned(),
            _ => format!("'{}{}'", self.pick(&["a", "B", "c", "D", "A"]), self.below(4)),
        }
    }
    fn condition(&mut self, alias: &str) -> String {
        let a = alias;
        let op = self.pick(&["=", "<", "<=", ">", ">=", "<>", "IS"]);
        match self.below(11) {
            0 => format!("{a}id {op} {}", self.number()),
            1 => format!("{a}k {op} {}", self.number()),
            2 => format!("{a}c {op} {}", self.text()),
            3 => format!("{a}id BETWEEN {} AND {}", self.number(), self.number()),
            4 => format!("{a}k IN ({},{},{})", self.number(), self.number(), self.number()),
            5 => format!("{a}c IN ({},{})", self.text(), self.text()),
            6 => format!("{a}k IS NULL"),
            7 => format!("{a}c IS NOT NULL"),
            8 => format!("({a}k,{a}c)=({},{})", self.number(), self.text()),
            9 => format!("{a}k IN (SELECT x.k FROM s x WHERE x.id<{})", self.number()),
            _ => format!("{a}id IN ({},{},{})", self.number(), self.number(), self.number()),
        }
    }
    fn where_clause(&mut self, alias: &str) -> String {
        let mut all = self.condition(alias);
        for _ in 0..self.below(3) {
            let with = self.pick(&["AND", "AND", "OR"]);
            all = format!("{all} {with} {}", self.condition(alias));
        }
        all
    }
    fn query(&mut self) -> String {
        let direction = self.pick(&["", " DESC"]);
        match self.below(8) {
            0 => format!(
                "SELECT id FROM s WHERE {} ORDER BY id{direction} LIMIT {} OFFSET {}",
                self.where_clause(""),
                self.below(8),
                self.below(4)
            ),
            1 => format!(
                "SELECT id,k FROM s WHERE {} ORDER BY k{direction},c{direction},id{direction} LIMIT {}",
                self.where_clause(""),
                1 + self.below(9)
            ),
            2 => format!("SELECT id FROM s WHERE {} ORDER BY c,id DESC", self.where_clause("")),
            3 => format!(
                "SELECT k,count(*),min(id),max(lower(c)) FROM s WHERE {} GROUP BY k ORDER BY k",
                self.where_clause("")
            ),
            4 => format!("SELECT DISTINCT k,lower(c) FROM s WHERE {} ORDER BY 1,2", self.where_clause("")),
            5 => format!(
                "SELECT a.id,b.id FROM s a JOIN s b ON a.k=b.k AND a.c=b.c WHERE {} AND {} ORDER BY 1,2 LIMIT 20",
                self.where_clause("a."),
                self.where_clause("b.")
            ),
            6 => format!(
                "SELECT a.id,b.id FROM s a LEFT JOIN s b ON b.id=a.k AND {} WHERE {} ORDER BY 1,2",
                self.condition("b."),
                self.where_clause("a.")
            ),
            _ => format!(
                "SELECT id FROM s a WHERE {} AND {}EXISTS(SELECT 1 FROM s b WHERE b.c=a.c AND b.id<>a.id AND {}) ORDER BY id",
                self.where_clause("a."),
                self.pick(&["", "NOT "]),
                self.condition("b.")
            ),
        }
    }
}

fn native() -> Connection {
    let connection = Connection::open_in_memory().expect("SQLite");
    register_collations(&connection).expect("collations");
    connection
        .execute_batch("CREATE TABLE s(id INTEGER PRIMARY KEY, k INTEGER, c TEXT COLLATE ci); CREATE INDEX a ON s(k,c); CREATE INDEX b ON s(c)")
        .expect("a table");
    connection
}

fn native_rows(connection: &Connection, sql: &str) -> String {
    let mut statement = connection.prepare(sql).expect("a query");
    let width = statement.column_count();
    let mut rows = statement.query([]).expect("rows");
    let mut all = Vec::new();
    while let Some(row) = rows.next().expect("a row") {
        let cells: Vec<String> = (0..width)
            .map(|i| match row.get_ref(i).expect("a cell") {
                rusqlite::types::ValueRef::Null => "NULL".to_owned(),
                rusqlite::types::ValueRef::Integer(v) => v.to_string(),
                rusqlite::types::ValueRef::Text(v) => String::from_utf8_lossy(v).into_owned(),
                other => format!("{other:?}"),
            })
            .collect();
        all.push(cells.join(","));
    }
    all.join(" ")
}

/// Sends SQLite's SQL to the session's tables.
fn our_rows(client: &mut Client, table: &Arc<TableDef>, sql: &str) -> String {
    let module = module_name("test", "s", Access::Snapshot);
    let sql = sql
        .replace("FROM s", &format!("FROM \"{module}\""))
        .replace("JOIN s ", &format!("JOIN \"{module}\" "));
    let query = Query {
        sql,
        binds: Vec::new(),
        columns: Vec::new(),
        tables: vec![TableUse { table: table.clone(), access: Access::Snapshot }],
        locking: false,
    };
    let mut rows = Vec::new();
    let mut keep = |row: &[crate::types::Value]| {
        rows.push(row.to_vec());
        Ok(())
    };
    let result = client.0.engine_for_tests().query(&query, BindValues::default(), false, &mut keep);
    result.unwrap_or_else(|error| panic!("{}: {error}", query.sql));
    super::text_of(&rows)
}

#[test]
fn random_queries_give_the_same_rows_as_sqlites_own_tables() {
    let server = Server::new();
    let mut client = server.client();
    let native = native();
    client.run("CREATE TABLE s (id BIGINT PRIMARY KEY, k BIGINT, c VARCHAR(10), KEY a (k, c), KEY b (c))");
    let schemas = Arc::new(SchemaCache::new(Arc::new(server.store.clone())));
    let table = schemas
        .view(Freshness::Local, Arc::default())
        .table("test", "s")
        .expect("the catalog")
        .expect("the table");
    let mut random = Random(424_242);
    for i in 0..150_u64 {
        let (k, c) = (random.number().replace(".5", ""), random.text());
        let sql = format!("INSERT INTO s VALUES ({}, {k}, {c})", i / 4 * 3 + i % 4 * 50);
        let ours = client.0.query(&sql, false, &mut super::Answer::default()).is_ok();
        assert_eq!(ours, native.execute(&sql, []).is_ok(), "{sql}");
    }
    for round in 0..3000_u64 {
        if round % 100 == 0 {
            client.run("COMMIT; BEGIN");
            let condition = format!("id % 3 = {} AND id < {}", random.below(3), 50 + random.below(100));
            for sql in [
                format!("UPDATE s SET k = k + 1 WHERE {condition}"),
                format!("UPDATE s SET c = 'b{}' WHERE {condition} AND id > 20", random.below(4)),
                format!("DELETE FROM s WHERE id % 17 = {} AND id > 60", random.below(17)),
                format!("INSERT INTO s VALUES ({}, {}, 'b1')", 1000 + round, random.below(40)),
            ] {
                client.run(&sql);
                native.execute(&sql, []).expect("a change");
            }
        }
        let sql = random.query();
        assert_eq!(our_rows(&mut client, &table, &sql), native_rows(&native, &sql), "{sql}");
    }
}
