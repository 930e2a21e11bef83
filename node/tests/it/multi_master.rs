//! Several instances that all write.

use std::sync::{Arc, Barrier};

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::harness::{Cluster, Manifest, code, rounds, run, value};
use crate::load::{Load, assert_all_there, create_table};

/// Rows of one key and number.
fn cluster_with_a_counter() -> Cluster {
    let cluster = Cluster::up(&Manifest::multi_master(), &[]);
    let mut connection = cluster.connect("it-0");
    run(&mut connection, "CREATE TABLE counter (id INT PRIMARY KEY, n BIGINT NOT NULL)");
    run(&mut connection, "INSERT INTO counter VALUES (1, 0)");
    cluster
}

#[test]
fn a_read_on_any_instance_sees_the_write_acknowledged_just_before_on_another() {
    let cluster = cluster_with_a_counter();
    let mut connections = ["it-0", "it-1", "it-2"].map(|name| cluster.connect(name));
    for round in 1..=rounds(1_000, 10_000) {
        let write = format!("UPDATE counter SET n = {round} WHERE id = 1");
        run(&mut connections[round % 3], &write);
        let read = value(&mut connections[(round + 1) % 3], "SELECT n FROM counter WHERE id = 1");
        assert_eq!(usize::try_from(read).ok(), Some(round), "a stale read");
    }
}

/// An INSERT does not ask first whether what it knows is the present; what it does not know yet must not show.
#[test]
fn an_insert_sees_what_another_instance_has_just_inserted_or_deleted() {
    let cluster = cluster_with_a_counter();
    let mut connections = ["it-0", "it-1", "it-2"].map(|name| cluster.connect(name));
    for round in 2..rounds(100, 1_000) {
        let insert = format!("INSERT INTO counter VALUES ({round}, {round})");
        run(&mut connections[round % 3], &insert);
        let other = &mut connections[(round + 1) % 3];
        assert_eq!(code(&other.query_drop(&insert)), Some(1062), "round {round}");
        run(other, &format!("DELETE FROM counter WHERE id = {round}"));
        run(&mut connections[(round + 2) % 3], &insert);
    }
}

#[test]
fn of_two_transactions_that_change_one_row_exactly_one_commits_and_the_other_gets_1213() {
    let cluster = cluster_with_a_counter();
    let mut connections = ["it-0", "it-1"].map(|name| cluster.connect(name));
    for connection in &mut connections {
        run(connection, "BEGIN");
        value(connection, "SELECT n FROM counter WHERE id = 1");
    }
    let updates: Vec<_> = (1..)
        .zip(&mut connections)
        .map(|(n, connection)| connection.query_drop(format!("UPDATE counter SET n = {n} WHERE id = 1")))
        .collect();
    let ends: Vec<mysql::Result<()>> = updates
        .into_iter()
        .zip(&mut connections)
        .map(|(update, connection)| update.and_then(|()| connection.query_drop("COMMIT")))
        .collect();
    let winners: Vec<usize> = (0..2).filter(|&one| ends[one].is_ok()).collect();
    assert_eq!(winners.len(), 1, "{ends:?}");
    assert_eq!(code(&ends[1 - winners[0]]), Some(1213), "{ends:?}");
    let mut third = cluster.connect("it-2");
    let n = value(&mut third, "SELECT n FROM counter WHERE id = 1");
    assert_eq!(usize::try_from(n).ok(), Some(winners[0] + 1), "the row is not the winner's");
}

/// One increment: a statement alone, or a transaction.
fn increment(connection: &mut Conn, alone: bool) -> mysql::Result<()> {
    if alone {
        return connection.query_drop("UPDATE counter SET n = n + 1 WHERE id = 1");
    }
    connection.query_drop("BEGIN")?;
    connection.query_drop("UPDATE counter SET n = n + 1 WHERE id = 1")?;
    connection.query_drop("COMMIT")
}

#[test]
fn after_many_duels_a_counter_is_the_number_of_acknowledged_increments() {
    let cluster = cluster_with_a_counter();
    let duels = rounds(200, 1_000);
    let start = Arc::new(Barrier::new(2));
    let duellists = ["it-0", "it-1"].map(|name| {
        let mut connection = cluster.connect(name);
        let start = Arc::clone(&start);
        std::thread::spawn(move || {
            let mut acknowledged = 0;
            for duel in 0..duels {
                start.wait();
                let end = increment(&mut connection, duel % 2 == 0);
                match code(&end) {
                    None if end.is_ok() => acknowledged += 1,
                    Some(1213) => {}
                    // Going on: the other duellist would wait at the barrier for ever. Failed duels are counted.
                    _ => eprintln!("duel {duel}: {end:?}"),
                }
            }
            acknowledged
        })
    });
    let acknowledged: Vec<i64> = duellists.map(|one| one.join().expect("it does not panic")).into();
    let n = value(&mut cluster.connect("it-2"), "SELECT n FROM counter WHERE id = 1");
    println!("{duels} duels: {acknowledged:?} increments acknowledged, the counter is {n}");
    assert_eq!(n, acknowledged.iter().sum::<i64>());
    assert!(n >= i64::try_from(duels).expect("few") / 2, "most duels had no winner");
}

#[test]
fn no_write_on_a_survivor_fails_when_an_instance_is_killed() {
    let cluster = Cluster::up(&Manifest::multi_master(), &[]);
    create_table(&mut cluster.connect("it-0"));
    let loads: Vec<Load> =
        (0..3).map(|number| Load::start(cluster.address(&format!("it-{number}")), number)).collect();
    loads.iter().for_each(|load| load.wait_for_more(50));
    cluster.playground(&["kill", "it-0"]);
    loads[1..].iter().for_each(|load| load.wait_for_more(300));
    cluster.playground(&["start", "it-0"]);
    loads[0].wait_for_more(50);
    let seen: Vec<_> = loads.into_iter().map(Load::stop).collect();
    for (number, seen) in seen.iter().enumerate() {
        println!("it-{number}: {} writes, longest gap {:?}", seen.acknowledged.len(), seen.longest_gap);
        assert_all_there(&cluster, "it-2", seen);
    }
    for seen in &seen[1..] {
        assert!(seen.failures.is_empty(), "{:?}", seen.failures);
    }
}
