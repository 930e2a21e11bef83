//! Cold rows, shared fetches and eviction.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use node_core::quorum::Mode;
use node_sql::store::{KeyRange, ReadMode, Store};

use crate::transactions::Dice;
use crate::world::{Instance, Shared, key, value};

fn fill(instance: &Instance, rows: u32, size: usize) {
    for first in (0..rows).step_by(500) {
        let mut txn = instance.begin();
        for n in first..(first + 500).min(rows) {
            txn.put(key(n), Bytes::from(vec![n as u8; size])).expect("it may write");
        }
        txn.commit().expect("nobody else writes");
    }
}

#[test]
fn a_small_cache_over_much_data_stays_within_its_budget_and_reads_right() {
    const ROWS: u32 = 20_000;
    const BUDGET: usize = 1 << 20;
    let shared = Shared::new();
    fill(&shared.instance(Mode::SingleMaster, 0, 64 << 20), ROWS, 400);
    let instance = shared.instance(Mode::SingleMaster, 0, BUDGET);
    let sessions: Vec<_> = (0..3u64)
        .map(|number| {
            let instance = instance.clone();
            std::thread::spawn(move || {
                let mut dice = Dice(number);
                for round in 0..400 {
                    let mut txn = instance.begin();
                    let at = dice.roll(ROWS);
                    if round % 4 == 0 {
                        let (range, reverse) =
                            (KeyRange { start: key(at), end: Some(key(at + 100)) }, round % 8 == 0);
                        let rows = txn.scan(&range, reverse, 1000, ReadMode::Snapshot).expect("it reads");
                        assert_eq!(rows.len() as u32, 100.min(ROWS - at));
                        assert_eq!(rows.is_sorted_by(|a, b| a.0 < b.0), !reverse || rows.len() == 1);
                    } else {
                        let row =
                            txn.get(&key(at), ReadMode::Snapshot).expect("it reads").expect("it is there");
                        assert_eq!(row, vec![at as u8; row.len()]);
                    }
                    assert!(instance.engine.stats().cache.bytes <= BUDGET);
                }
            })
        })
        .collect();
    sessions.into_iter().for_each(|session| session.join().expect("no panic"));
    let range = KeyRange { start: key(0), end: None };
    let rows = instance.begin().scan(&range, false, usize::MAX, ReadMode::Snapshot).expect("it reads");
    assert_eq!(rows.len() as u32, ROWS);
    let stats = instance.engine.stats();
    assert!(stats.cache.evicted > 100 && stats.cache.bytes <= BUDGET, "{stats:?}");
}

#[test]
fn a_row_larger_than_the_cache_can_be_read() {
    let shared = Shared::new();
    let writer = shared.instance(Mode::SingleMaster, 0, 64 << 20);
    let mut txn = writer.begin();
    txn.put(key(1), Bytes::from(vec![7; 900_000])).expect("within the write set's limit");
    txn.commit().expect("nobody else writes");
    let small = shared.instance(Mode::SingleMaster, 0, 100_000);
    for mode in [ReadMode::Snapshot, ReadMode::Update] {
        let row = small.begin().get(&key(1), mode).expect("it reads").expect("it is there");
        assert_eq!(row.len(), 900_000);
    }
    let range = KeyRange { start: key(0), end: None };
    assert_eq!(small.begin().scan(&range, true, 10, ReadMode::Update).expect("it reads").len(), 1);
    assert!(small.engine.stats().cache.bytes <= 100_000);
}

#[test]
fn rows_once_read_come_from_the_cache_and_follow_the_feed() {
    let shared = Shared::new();
    let writer = shared.instance(Mode::SingleMaster, 0, 8 << 20);
    fill(&writer, 1000, 100);
    let replica = shared.instance(Mode::SingleMaster, 0, 8 << 20);
    replica.engine.set_role(node_instance::engine::Role::Reader);
    let range = KeyRange { start: key(0), end: Some(key(5000)) };
    assert_eq!(replica.begin().scan(&range, false, 5000, ReadMode::Snapshot).expect("it reads").len(), 1000);
    let reads = replica.link.reads.load(Ordering::SeqCst);
    assert!(reads < 12, "a scan fetches more and more at once: {reads}");
    writer.put(&key(500), "changed");
    writer.put(&key(2000), "new");
    replica.link.deliver();
    let mut txn = replica.begin();
    assert_eq!(txn.get(&key(500), ReadMode::Snapshot), Ok(value("changed")));
    assert_eq!(txn.get(&key(2000), ReadMode::Snapshot), Ok(value("new")));
    assert_eq!(txn.scan(&range, true, 5000, ReadMode::Snapshot).expect("it reads").len(), 1001);
    assert_eq!(replica.link.reads.load(Ordering::SeqCst), reads);
    assert_eq!(replica.store.estimate_rows(&range), Some(1001));
}

#[test]
fn sessions_that_miss_the_same_row_share_one_fetch_and_see_what_came_meanwhile() {
    let shared = Shared::new();
    let writer = shared.instance(Mode::SingleMaster, 0, 8 << 20);
    writer.put(&key(1), "old");
    let replica = shared.instance(Mode::SingleMaster, 0, 8 << 20);
    replica.link.close_gate();
    let sessions: Vec<_> = (0..6)
        .map(|_| {
            let replica = replica.clone();
            std::thread::spawn(move || replica.begin().get(&key(1), ReadMode::Snapshot))
        })
        .collect();
    let began = Instant::now();
    while replica.link.waiting_reads.load(Ordering::SeqCst) == 0 || replica.engine.stats().snapshots == 0 {
        assert!(began.elapsed() < Duration::from_secs(20));
        std::thread::yield_now();
    }
    // Decided while the fetch is under way: the answer has it, or the fetch has collected it.
    writer.put(&key(1), "new");
    replica.link.deliver();
    replica.link.open_gate();
    for session in sessions {
        let seen = session.join().expect("no panic").expect("it reads");
        assert!(seen == value("old") || seen == value("new"));
    }
    assert_eq!(replica.link.reads.load(Ordering::SeqCst), 1);
    assert_eq!(replica.begin().get(&key(1), ReadMode::Snapshot), Ok(value("new")));
    assert_eq!(replica.link.reads.load(Ordering::SeqCst), 1);
}

#[test]
fn an_open_snapshot_reads_cold_rows_as_they_were() {
    let shared = Shared::new();
    let writer = shared.instance(Mode::SingleMaster, 0, 8 << 20);
    fill(&writer, 100, 10);
    let replica = shared.instance(Mode::SingleMaster, 0, 8 << 20);
    let mut txn = replica.begin();
    txn.take_snapshot().expect("a snapshot");
    for _ in 0..5 {
        fill(&writer, 100, 20);
    }
    writer.put(&key(200), "new");
    replica.link.deliver();
    let range = KeyRange { start: key(0), end: None };
    let rows = txn.scan(&range, false, 1000, ReadMode::Snapshot).expect("it reads");
    assert_eq!(rows.len(), 100);
    assert!(rows.iter().all(|(_, row)| row.len() == 10));
    assert!(replica.begin().scan(&range, true, 1000, ReadMode::Snapshot).expect("it reads").len() == 101);
    assert_ne!(replica.engine.low(), replica.engine.applied());
    drop(txn);
    assert_eq!(replica.engine.low(), replica.engine.applied());
}
