//! Two instances at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use bytes::Bytes;
use node_core::ids::Key;
use node_core::quorum::Mode;
use node_sql::store::{Freshness, KeyRange, ReadMode, StoreError};

use crate::locks::until_waiting;
use crate::transactions::Dice;
use crate::world::{Instance, Shared, key, value};

const CACHE: usize = 8 << 20;

fn pair() -> (Instance, Instance) {
    let shared = Shared::new();
    (shared.instance(Mode::MultiMaster, 0, CACHE), shared.instance(Mode::MultiMaster, 1, CACHE))
}

fn is_conflict<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Conflict { .. }))
}

#[test]
fn a_remote_commit_dooms_whoever_has_written_or_locked_the_row() {
    let (a, b) = pair();
    a.put(&key(1), "old");
    b.link.deliver();
    let (mut writer, mut locker, mut bystander) = (b.begin(), b.begin(), b.begin());
    writer.put(key(1), Bytes::from_static(b"mine")).expect("it is free");
    writer.put(key(2), Bytes::from_static(b"mine")).expect("it is free");
    locker.get(&key(3), ReadMode::Share).expect("it is free");
    bystander.put(key(4), Bytes::from_static(b"mine")).expect("it is free");
    a.put(&key(1), "new");
    a.put(&key(3), "new");
    b.link.deliver();
    assert!(is_conflict(writer.begin_statement()));
    assert!(is_conflict(writer.get(&key(9), ReadMode::Snapshot)), "it stays rolled back");
    assert!(is_conflict(writer.commit()));
    assert!(is_conflict(locker.commit()));
    bystander.begin_statement().expect("it has nothing to do with it");
    bystander.commit().expect("no conflict");
    let mut txn = b.begin();
    assert_eq!(txn.get(&key(1), ReadMode::Update), Ok(value("new")));
    assert_eq!(txn.get(&key(2), ReadMode::Update), Ok(None));
}

#[test]
fn a_stale_base_loses_the_vote_even_before_the_news_arrive() {
    let (a, b) = pair();
    let mut txn = b.begin();
    txn.put(key(1), Bytes::from_static(b"mine")).expect("it is free");
    a.put(&key(1), "new");
    assert!(is_conflict(txn.commit()));
    let mut txn = b.begin_with(|options| options.freshness = Freshness::Global);
    assert_eq!(txn.get(&key(1), ReadMode::Snapshot), Ok(value("new")));
}

#[test]
fn a_row_that_was_only_locked_is_checked_by_the_vote() {
    let (a, b) = pair();
    a.put(&key(1), "parent");
    b.link.deliver();
    let mut child = b.begin();
    assert_eq!(child.get(&key(1), ReadMode::Share), Ok(value("parent")));
    child.put(key(2), Bytes::from_static(b"child")).expect("it is free");
    a.put(&key(1), "changed");
    assert!(is_conflict(child.commit()));
    let proposal = b.link.proposals.lock().pop().expect("it was proposed");
    assert_eq!(proposal.checks.iter().map(|check| check.key.clone()).collect::<Vec<_>>(), vec![key(1)]);
}

#[test]
fn a_single_master_writer_sends_no_checks() {
    let writer = Shared::new().instance(Mode::SingleMaster, 0, CACHE);
    writer.put(&key(1), "parent");
    let mut child = writer.begin();
    child.get(&key(1), ReadMode::Share).expect("it is free");
    child.put(key(2), Bytes::from_static(b"child")).expect("it is free");
    child.commit().expect("no conflict");
    assert!(writer.link.proposals.lock().iter().all(|proposal| proposal.checks.is_empty()));
}

#[test]
fn a_check_refers_to_the_version_that_the_transaction_has_read() {
    let (a, b) = pair();
    let table = Key::from_static(&[0, 0, 0, 0, 7]);
    a.put(&table, "one column");
    b.link.deliver();
    let (mut read_before, mut read_after) = (b.begin(), b.begin());
    assert_eq!(read_before.get(&table, ReadMode::Snapshot), Ok(value("one column")));
    assert_eq!(read_after.get(&key(5), ReadMode::Snapshot), Ok(None));
    a.put(&table, "two columns");
    b.link.deliver();
    assert!(is_conflict(read_before.check(&table)));
    read_after.check(&table).expect("it has not read the table's row");
    read_after.put(key(1), Bytes::from_static(b"x")).expect("it is free");
    a.put(&table, "three columns");
    assert!(is_conflict(read_after.commit()));
}

#[test]
fn snapshot_isolation_refuses_rows_changed_since_the_snapshot() {
    let (a, _) = pair();
    a.put(&key(1), "old");
    let mut strict = a.begin_with(|options| options.snapshot_isolation = true);
    let mut usual = a.begin();
    for txn in [&mut strict, &mut usual] {
        assert_eq!(txn.get(&key(1), ReadMode::Snapshot), Ok(value("old")));
    }
    a.put(&key(1), "new");
    assert!(is_conflict(strict.get(&key(1), ReadMode::Update)));
    assert_eq!(usual.get(&key(1), ReadMode::Update), Ok(value("new")));
}

#[test]
fn who_waits_for_a_lock_is_not_doomed_by_a_commit_before_it_gets_it() {
    let (a, b) = pair();
    a.put(&key(1), "old");
    b.link.deliver();
    let mut holder = b.begin();
    holder.get(&key(1), ReadMode::Update).expect("it is free");
    let mut waiter = b.begin();
    waiter.put(key(2), Bytes::from_static(b"x")).expect("it is free");
    let waiting = std::thread::spawn(move || {
        waiter.get(&key(1), ReadMode::Update).and_then(|seen| waiter.commit().map(|()| seen))
    });
    until_waiting(&b.engine, 1);
    a.put(&key(1), "new");
    b.link.deliver();
    assert!(is_conflict(holder.begin_statement()));
    assert_eq!(waiting.join().expect("no panic"), Ok(value("new")));
}

#[test]
fn a_waiter_is_doomed_by_a_commit_on_a_row_it_already_has() {
    let (a, b) = pair();
    let mut holder = b.begin();
    holder.get(&key(1), ReadMode::Update).expect("it is free");
    let mut waiter = b.begin();
    waiter.put(key(2), Bytes::from_static(b"x")).expect("it is free");
    let waiting = std::thread::spawn(move || waiter.get(&key(1), ReadMode::Update));
    until_waiting(&b.engine, 1);
    a.put(&key(2), "new");
    b.link.deliver();
    assert!(is_conflict(waiting.join().expect("no panic")));
}

#[test]
fn a_reset_dooms_whoever_may_have_missed_a_change_and_nobody_else() {
    let (a, b) = pair();
    a.put(&key(1), "old");
    b.link.deliver();
    let (mut reader, mut writer, mut fresh) = (b.begin(), b.begin(), b.begin());
    assert_eq!(reader.get(&key(1), ReadMode::Snapshot), Ok(value("old")));
    writer.put(key(2), Bytes::from_static(b"x")).expect("it is free");
    // A reset to where the engine is loses nothing.
    b.engine.reset(&b.engine.applied());
    assert_eq!(reader.get(&key(1), ReadMode::Snapshot), Ok(value("old")));
    a.put(&key(1), "new");
    b.engine.reset(&a.engine.applied());
    assert!(is_conflict(reader.get(&key(1), ReadMode::Snapshot)));
    assert!(is_conflict(writer.commit()));
    assert_eq!(fresh.get(&key(1), ReadMode::Snapshot), Ok(value("new")));
    b.link.deliver();
    assert_eq!(b.begin().get(&key(1), ReadMode::Present), Ok(value("new")));
}

#[test]
fn a_read_of_a_snapshot_that_a_reset_ended_asks_storage_no_more() {
    let (a, b) = pair();
    a.put(&key(1), "old");
    b.link.deliver();
    let mut reader = b.begin();
    b.link.close_gate();
    let reading = std::thread::spawn(move || reader.get(&key(1), ReadMode::Snapshot));
    let began = Instant::now();
    while b.link.waiting_reads.load(Ordering::SeqCst) == 0 {
        assert!(began.elapsed() < Duration::from_secs(20));
        std::thread::yield_now();
    }
    let asked = b.engine.stats().fetches;
    a.put(&key(1), "new");
    b.engine.reset(&a.engine.applied());
    b.link.open_gate();
    assert!(is_conflict(reading.join().expect("no panic")));
    assert_eq!(b.engine.stats().fetches, asked);
}

/// Increments a counter in explicit transactions; returns how many were acknowledged.
fn increment(instance: &Instance, rounds: usize, barrier: &Barrier) -> u64 {
    let mut acknowledged = 0;
    for _ in 0..rounds {
        barrier.wait();
        let attempt = || {
            let mut txn = instance.begin_with(|options| options.freshness = Freshness::Global);
            txn.begin_statement()?;
            let now = txn.get(&key(1), ReadMode::Update)?.unwrap_or_else(|| Bytes::from_static(b"0"));
            let now: u64 = String::from_utf8_lossy(&now).parse().expect("a number");
            txn.begin_statement()?;
            txn.put(key(1), Bytes::from((now + 1).to_string()))?;
            txn.commit()
        };
        match attempt() {
            Ok(()) => acknowledged += 1,
            Err(StoreError::Conflict { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    acknowledged
}

#[test]
fn a_thousand_duels_leave_as_many_increments_as_were_acknowledged() {
    let (a, b) = pair();
    let barrier = Arc::new(Barrier::new(2));
    let (other, theirs) = (b.clone(), barrier.clone());
    let second = std::thread::spawn(move || increment(&other, 1000, &theirs));
    let acknowledged = increment(&a, 1000, &barrier) + second.join().expect("no panic");
    assert!(acknowledged >= 1000, "of two at once one wins: {acknowledged}");
    for instance in [a, b] {
        let mut txn = instance.begin_with(|options| options.freshness = Freshness::Global);
        assert_eq!(txn.get(&key(1), ReadMode::Snapshot), Ok(value(&acknowledged.to_string())));
    }
}

#[test]
fn transfers_on_two_instances_never_show_a_torn_sum() {
    const ACCOUNTS: u32 = 40;
    let (a, b) = pair();
    for n in 0..ACCOUNTS {
        a.put(&key(n), "100");
    }
    b.link.deliver();
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let mut sessions = Vec::new();
    for (number, instance) in [a.clone(), b.clone(), a.clone(), b.clone()].into_iter().enumerate() {
        let (stop, done) = (stop.clone(), done.clone());
        sessions.push(std::thread::spawn(move || {
            let mut dice = Dice(number as u64 + 1);
            while !stop.load(Ordering::SeqCst) {
                if transfer(&instance, dice.roll(ACCOUNTS), dice.roll(ACCOUNTS)).is_ok() {
                    done.fetch_add(1, Ordering::SeqCst);
                }
            }
        }));
    }
    let all = KeyRange { start: key(0), end: Some(key(ACCOUNTS)) };
    let mut sums = 0;
    while done.load(Ordering::SeqCst) < 2000 || sums < 200 {
        for instance in [&a, &b] {
            let rows =
                instance.begin().scan(&all, sums % 2 == 0, 1000, ReadMode::Snapshot).expect("it reads");
            assert_eq!(rows.len(), ACCOUNTS as usize);
            let sum: i64 = rows.iter().map(|(_, v)| number(v)).sum();
            assert_eq!(sum, i64::from(ACCOUNTS) * 100);
            sums += 1;
        }
    }
    stop.store(true, Ordering::SeqCst);
    sessions.into_iter().for_each(|session| session.join().expect("no panic"));
    for instance in [&a, &b] {
        let stats = instance.engine.stats();
        assert_eq!((stats.locked_keys, stats.lock_waiters, stats.snapshots), (0, 0, 0));
    }
}

/// A transaction that only locks is not voted on: what it reads must not be torn all the same.
#[test]
fn locking_reads_of_one_transaction_never_show_half_of_another_instances_commit() {
    const ROUNDS: usize = 20_000;
    let (a, b) = pair();
    a.put(&key(1), "100");
    a.put(&key(2), "100");
    b.link.deliver();
    let stop = Arc::new(AtomicBool::new(false));
    let (writer, feed) = (a.clone(), b.clone());
    let stopped = stop.clone();
    let transfers = std::thread::spawn(move || {
        while !stopped.load(Ordering::SeqCst) {
            transfer(&writer, 1, 2).expect("nobody else writes");
            feed.link.deliver();
        }
    });
    let mut sums = 0;
    for _ in 0..ROUNDS {
        let mut txn = b.begin();
        let mut look = |at: u32| {
            txn.begin_statement()?;
            txn.get(&key(at), ReadMode::Share).map(|row| number(&row.expect("every account exists")))
        };
        let looked: Result<(i64, i64), StoreError> = look(1).and_then(|one| Ok((one, look(2)?)));
        match looked {
            Ok((one, two)) => {
                assert_eq!(one + two, 200, "{one} and {two} were never there together");
                sums += 1;
            }
            Err(error) => assert!(matches!(error, StoreError::Conflict { .. }), "{error}"),
        }
    }
    stop.store(true, Ordering::SeqCst);
    transfers.join().expect("no panic");
    assert!(sums > 0, "not one transaction got through");
}

/// One row is cached; the other is read from storage, which knows of a commit of both that has not been heard of
/// here yet.
#[test]
fn a_locked_row_that_storage_has_ahead_of_the_feed_waits_for_the_feed() {
    let (a, b) = pair();
    let (cached, other) = (key(1), Key::from_static(b"\0\0\0\x02row"));
    let transfer = |by: i64| {
        let mut txn = a.begin();
        for (key, by) in [(&cached, -by), (&other, by)] {
            let now = txn.get(key, ReadMode::Update).expect("it is free").map_or(100, |row| number(&row));
            txn.put(key.clone(), Bytes::from((now + by).to_string())).expect("it is free");
        }
        txn.commit().expect("nobody else writes");
    };
    transfer(0);
    b.link.deliver();
    let mut txn = b.begin();
    assert_eq!(txn.get(&cached, ReadMode::Share), Ok(value("100")));
    transfer(10);
    assert!(
        matches!(txn.get(&other, ReadMode::Share), Err(StoreError::Unavailable { .. })),
        "it is not told"
    );
    let torn = std::thread::spawn(move || txn.get(&other, ReadMode::Share));
    b.link.deliver();
    assert!(is_conflict(torn.join().expect("no panic")), "the first row has changed");
}

fn number(bytes: &Bytes) -> i64 {
    String::from_utf8_lossy(bytes).parse().expect("a number")
}

fn transfer(instance: &Instance, from: u32, to: u32) -> Result<(), StoreError> {
    let mut txn = instance.begin();
    let mut change = |at: u32, by: i64| {
        txn.begin_statement()?;
        let now = txn.get(&key(at), ReadMode::Update)?.expect("every account exists");
        txn.put(key(at), Bytes::from((number(&now) + by).to_string()))
    };
    change(from, -1)?;
    change(to, 1)?;
    txn.commit()
}
