//! Several instances that all write.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::harness::{Cluster, Manifest, code, rounds, run, value};
use crate::load::{Load, assert_all_there, create_table, median_and_worst};

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
    for round in 1..=10_000 {
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

/// Lets two clients on two instances do the same a thousand times, each time starting together; gives how
/// each of them ended. `act` gets the number of the duel and whom to wait for in the middle.
fn duel(cluster: &Cluster, act: fn(&mut Conn, usize, &Barrier) -> mysql::Result<()>) -> Vec<[Ending; 2]> {
    const DUELS: usize = 1_000;
    let start = Arc::new(Barrier::new(2));
    let duellists = ["it-0", "it-1"].map(|name| {
        let mut connection = cluster.connect(name);
        let start = Arc::clone(&start);
        std::thread::spawn(move || -> Vec<Ending> {
            let once = |duel| {
                start.wait();
                // Nothing fails the test here: the other one would wait for ever.
                Ending::of(&act(&mut connection, duel, &start))
            };
            (0..DUELS).map(once).collect()
        })
    });
    let [first, second] = duellists.map(|one| one.join().expect("it does not panic"));
    first.into_iter().zip(second).map(|(first, second)| [first, second]).collect()
}

/// How an attempt ended.
#[derive(Debug, PartialEq)]
enum Ending {
    Committed,
    /// 1213.
    Refused,
    Other(String),
}

impl Ending {
    fn of(result: &mysql::Result<()>) -> Ending {
        match result {
            Ok(()) => Ending::Committed,
            refused if code(refused) == Some(1213) => Ending::Refused,
            other => Ending::Other(format!("{other:?}")),
        }
    }
}

fn committed(duels: &[[Ending; 2]]) -> i64 {
    let all = duels.iter().flatten().filter(|one| **one == Ending::Committed).count();
    i64::try_from(all).expect("few")
}

#[test]
fn in_each_of_a_thousand_duels_of_transactions_one_commits_and_the_counter_counts_them() {
    let cluster = cluster_with_a_counter();
    let duels = duel(&cluster, |connection, _, both_have_changed_it| {
        let changed = connection
            .query_drop("BEGIN")
            .and_then(|()| connection.query_drop("UPDATE counter SET n = n + 1 WHERE id = 1"));
        both_have_changed_it.wait();
        changed.and_then(|()| connection.query_drop("COMMIT"))
    });
    for (number, ends) in duels.iter().enumerate() {
        let fair = [[Ending::Committed, Ending::Refused], [Ending::Refused, Ending::Committed]];
        assert!(fair.contains(ends), "duel {number}: {ends:?}");
    }
    let first = duels.iter().filter(|[first, _]| *first == Ending::Committed).count();
    println!("{} duels: it-0 won {first}, it-1 the others", duels.len());
    let n = value(&mut cluster.connect("it-2"), "SELECT n FROM counter WHERE id = 1");
    assert_eq!(n, committed(&duels));
}

/// Here both may commit, one after the other; a statement alone is tried again by its instance.
#[test]
fn a_counter_is_the_number_of_acknowledged_increments_whether_alone_or_in_transactions() {
    let cluster = cluster_with_a_counter();
    let duels = duel(&cluster, |connection, duel, _| {
        if duel % 2 == 0 {
            return connection.query_drop("UPDATE counter SET n = n + 1 WHERE id = 1");
        }
        connection.query_drop("BEGIN")?;
        connection.query_drop("UPDATE counter SET n = n + 1 WHERE id = 1")?;
        connection.query_drop("COMMIT")
    });
    let strange: Vec<_> = duels
        .iter()
        .enumerate()
        .filter(|(_, ends)| ends.iter().any(|end| matches!(end, Ending::Other(_))))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
    let n = value(&mut cluster.connect("it-2"), "SELECT n FROM counter WHERE id = 1");
    println!("{} pairs of increments: {n} were acknowledged", duels.len());
    assert_eq!(n, committed(&duels));
    assert!(committed(&duels) >= i64::try_from(duels.len()).expect("few") / 2, "most had no winner");
}

/// Kills an instance under load on all and starts it again; gives the longest gap between two acknowledged
/// writes on each survivor.
fn kill_under_load(cluster: &Cluster, round: usize) -> Vec<Duration> {
    let first_client = u64::try_from(round * 3).expect("few rounds");
    let name = |number: usize| format!("it-{number}");
    let victim = round % 3;
    let loads: Vec<Load> = (first_client..)
        .zip(0..3)
        .map(|(client, number)| Load::start(cluster.address(&name(number)), client))
        .collect();
    let survivors = || loads.iter().enumerate().filter(|(number, _)| *number != victim).map(|(_, load)| load);
    loads.iter().for_each(|load| load.wait_for_more(50));
    cluster.playground(&["kill", &name(victim)]);
    survivors().for_each(|load| load.wait_for_more(300));
    cluster.playground(&["start", &name(victim)]);
    loads[victim].wait_for_more(50);
    let mut gaps = Vec::new();
    for (number, load) in loads.into_iter().enumerate() {
        let seen = load.stop();
        assert_all_there(cluster, &name((number + 1) % 3), &seen);
        if number != victim {
            let (name, writes, gap) = (name(number), seen.acknowledged.len(), seen.longest_gap);
            println!("it-{victim} killed: {name} made {writes} writes, longest gap {gap:?}");
            assert!(seen.failures.is_empty(), "{name}: {:?}", seen.failures);
            gaps.push(gap);
        }
    }
    cluster.wait_until_ready();
    gaps
}

#[test]
fn no_write_on_a_survivor_fails_when_an_instance_is_killed() {
    let cluster = Cluster::up(&Manifest::multi_master(), &[]);
    create_table(&mut cluster.connect("it-0"));
    let gaps: Vec<Duration> = (0..rounds(3, 20)).flat_map(|round| kill_under_load(&cluster, round)).collect();
    println!("longest gap between acknowledged writes on a survivor: {}", median_and_worst(gaps));
}
