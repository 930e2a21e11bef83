//! A table larger than the memory for it.

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::harness::{Cluster, Manifest, run, value};

const CACHE_BYTES: u64 = 8 << 20;
const ROWS: u64 = 20_000;
const BATCH: u64 = 100;

/// What a row holds: about 1 KiB that no other row holds.
fn body(id: u64) -> String {
    let line = format!("{:08x}", id.wrapping_mul(2_654_435_761) & 0xffff_ffff);
    line.repeat(128)
}

fn assert_all_right(connection: &mut Conn) {
    assert_eq!(value(connection, "SELECT COUNT(*) FROM large"), i64::try_from(ROWS).expect("it is small"));
    for start in (0..ROWS).step_by(1_000) {
        let end = start + 999;
        let query = format!("SELECT id, body FROM large WHERE id BETWEEN {start} AND {end} ORDER BY id");
        let rows: Vec<(u64, String)> = connection.query(query).expect("it reads");
        assert!(rows.iter().map(|(id, _)| *id).eq(start..=end), "rows {start} to {end} are not all there");
        assert!(rows.iter().all(|(id, text)| *text == body(*id)), "a row from {start} to {end} is wrong");
    }
    for step in 0..200 {
        let id = step * 7_919 % ROWS;
        let text: Option<String> =
            connection.query_first(format!("SELECT body FROM large WHERE id = {id}")).expect("it reads");
        assert_eq!(text, Some(body(id)));
    }
}

#[test]
fn a_table_larger_than_the_cache_reads_right_also_after_a_restart() {
    let manifest = Manifest { instances: 1, storage: 3, ..Manifest::single_master() };
    let cluster = Cluster::up(&manifest, &["--cache-bytes", &CACHE_BYTES.to_string()]);
    let mut connection = cluster.connect("it-0");
    run(&mut connection, "CREATE TABLE large (id BIGINT PRIMARY KEY, body TEXT NOT NULL)");
    for start in (0..ROWS).step_by(usize::try_from(BATCH).expect("it is small")) {
        let rows: Vec<String> = (start..start + BATCH).map(|id| format!("({id}, '{}')", body(id))).collect();
        run(&mut connection, &format!("INSERT INTO large VALUES {}", rows.join(", ")));
    }
    assert_all_right(&mut connection);
    let metrics = cluster.http("it-0", "/metrics");
    let cached = metrics.lines().find_map(|line| line.strip_prefix("borealis_node_cache_bytes "));
    let cached: f64 = cached.expect("it is a metric").trim().parse().expect("it is a number");
    println!("{cached} bytes are cached of a table of {} bytes", ROWS * 1_024);
    assert!(cached > 0.0 && cached <= CACHE_BYTES as f64, "{cached} bytes are cached");

    cluster.playground(&["kill", "it-0"]);
    cluster.playground(&["start", "it-0"]);
    cluster.wait_until_ready();
    assert_all_right(&mut cluster.connect("it-0"));
}
