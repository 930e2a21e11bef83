//! What one instance's transactions see and change.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use node_core::ids::Key;
use node_core::quorum::Mode;
use node_instance::engine::Role;
use node_sql::store::{Freshness, Isolation, KeyRange, LockWait, ReadMode, Store, StoreError};

use crate::world::{Shared, key, value};

const CACHE: usize = 8 << 20;

#[test]
fn a_snapshot_stays_while_others_commit_and_own_changes_are_seen() {
    let instance = Shared::new().instance(Mode::SingleMaster, 0, CACHE);
    instance.put(&key(1), "old");
    let mut txn = instance.begin();
    assert_eq!(txn.get(&key(1), ReadMode::Snapshot), Ok(value("old")));
    instance.put(&key(1), "new");
    instance.put(&key(2), "more");
    txn.begin_statement().expect("nothing happened to it");
    assert_eq!(txn.get(&key(1), ReadMode::Snapshot), Ok(value("old")));
    assert_eq!(txn.get(&key(2), ReadMode::Snapshot), Ok(None));
    assert_eq!(txn.get(&key(1), ReadMode::Present), Ok(value("new")));
    // As InnoDB does: a locking read and a change see past the snapshot.
    assert_eq!(txn.get(&key(1), ReadMode::Update), Ok(value("new")));
    txn.put(key(3), Bytes::from_static(b"mine")).expect("it may write");
    txn.delete(key(1)).expect("it may write");
    let all = KeyRange { start: key(0), end: None };
    let seen = txn.scan(&all, false, 100, ReadMode::Snapshot).expect("it reads");
    assert_eq!(seen, vec![(key(3), Bytes::from_static(b"mine"))]);
    txn.commit().expect("no conflict");
    let mut txn = instance.begin();
    let seen = txn.scan(&all, true, 100, ReadMode::Snapshot).expect("it reads");
    assert_eq!(seen, vec![(key(3), Bytes::from_static(b"mine")), (key(2), Bytes::from_static(b"more"))]);
}

#[test]
fn read_committed_takes_a_snapshot_for_every_statement() {
    let instance = Shared::new().instance(Mode::SingleMaster, 0, CACHE);
    let mut txn = instance.begin_with(|options| options.isolation = Isolation::ReadCommitted);
    txn.begin_statement().expect("it goes on");
    assert_eq!(txn.get(&key(1), ReadMode::Snapshot), Ok(None));
    instance.put(&key(1), "new");
    assert_eq!(txn.get(&key(1), ReadMode::Snapshot), Ok(None));
    txn.begin_statement().expect("it goes on");
    assert_eq!(txn.get(&key(1), ReadMode::Snapshot), Ok(value("new")));
}

#[test]
fn a_snapshot_is_taken_by_the_first_read_unless_asked_for_before() {
    let instance = Shared::new().instance(Mode::SingleMaster, 0, CACHE);
    let (mut late, mut early) = (instance.begin(), instance.begin());
    early.take_snapshot().expect("a snapshot");
    instance.put(&key(1), "new");
    assert_eq!(late.get(&key(1), ReadMode::Snapshot), Ok(value("new")));
    assert_eq!(early.get(&key(1), ReadMode::Snapshot), Ok(None));
}

#[test]
fn a_read_of_an_own_change_takes_the_snapshot_too() {
    let instance = Shared::new().instance(Mode::SingleMaster, 0, CACHE);
    let mut txn = instance.begin();
    txn.put(key(1), Bytes::from_static(b"own")).expect("it is free");
    assert_eq!(txn.get(&key(1), ReadMode::Snapshot), Ok(value("own")));
    instance.put(&key(2), "of another");
    assert_eq!(txn.get(&key(2), ReadMode::Snapshot), Ok(None));
}

#[test]
fn marks_undo_changes_but_not_locks() {
    let instance = Shared::new().instance(Mode::SingleMaster, 0, CACHE);
    let mut txn = instance.begin();
    txn.put(key(1), Bytes::from_static(b"kept")).expect("it may write");
    let mark = txn.mark();
    txn.put(key(1), Bytes::from_static(b"undone")).expect("it may write");
    txn.put(key(2), Bytes::from_static(b"undone")).expect("it may write");
    txn.rollback_to(mark);
    assert_eq!(txn.get(&key(1), ReadMode::Snapshot), Ok(value("kept")));
    assert_eq!(txn.get(&key(2), ReadMode::Snapshot), Ok(None));
    let mut other = instance.begin();
    assert_eq!(other.lock(&key(2), LockWait::No), Err(StoreError::LockTimeout));
    assert!(txn.has_writes());
    txn.commit().expect("no conflict");
    assert_eq!(other.lock(&key(2), LockWait::No), Ok(None));
    let proposals = instance.link.proposals.lock();
    assert_eq!(proposals.iter().map(|proposal| proposal.writes.len()).collect::<Vec<_>>(), vec![1]);
}

#[test]
fn a_rolled_back_or_dropped_transaction_leaves_nothing() {
    let instance = Shared::new().instance(Mode::SingleMaster, 0, CACHE);
    let mut txn = instance.begin();
    txn.put(key(1), Bytes::from_static(b"x")).expect("it may write");
    txn.get(&key(2), ReadMode::Snapshot).expect("it reads");
    txn.rollback();
    let mut txn = instance.begin();
    txn.put(key(1), Bytes::from_static(b"y")).expect("the lock is free");
    drop(txn);
    let stats = instance.engine.stats();
    assert_eq!((stats.locked_keys, stats.snapshots, stats.commits), (0, 0, 0));
    assert!(instance.link.proposals.lock().is_empty());
}

#[test]
fn deleting_what_is_not_there_proposes_nothing() {
    let instance = Shared::new().instance(Mode::MultiMaster, 0, CACHE);
    let mut txn = instance.begin();
    txn.put(key(1), Bytes::from_static(b"x")).expect("it may write");
    txn.delete(key(1)).expect("it may write");
    txn.commit().expect("nothing to commit");
    assert!(instance.link.proposals.lock().is_empty());
}

#[test]
fn a_write_set_has_a_limit_and_can_be_undone_after_hitting_it() {
    let instance = Shared::new().instance(Mode::SingleMaster, 0, CACHE);
    let mut txn = instance.begin();
    let mark = txn.mark();
    let error = (0..).find_map(|n| txn.put(key(n), Bytes::from(vec![1; 10_000])).err());
    assert_eq!(error, Some(StoreError::TooLarge { limit: 1 << 20 }));
    txn.rollback_to(mark);
    txn.put(key(1), Bytes::from_static(b"small")).expect("there is room again");
    txn.commit().expect("no conflict");
}

#[test]
fn a_replica_reads_and_refuses_everything_else() {
    let shared = Shared::new();
    let writer = shared.instance(Mode::SingleMaster, 0, CACHE);
    let replica = shared.instance(Mode::SingleMaster, 0, CACHE);
    replica.engine.set_role(Role::Reader);
    writer.put(&key(1), "x");
    replica.link.deliver();
    assert!(!replica.store.writable() && writer.store.writable());
    let mut txn = replica.begin();
    assert_eq!(txn.get(&key(1), ReadMode::Snapshot), Ok(value("x")));
    assert_eq!(txn.get(&key(1), ReadMode::Update), Err(StoreError::ReadOnly));
    assert_eq!(txn.put(key(1), Bytes::new()), Err(StoreError::ReadOnly));
    assert_eq!(txn.check(&key(1)), Err(StoreError::ReadOnly));
    assert_eq!(replica.store.auto_increment(1, 1, &mut || Ok(0)), Err(StoreError::ReadOnly));
    txn.commit().expect("a reader commits nothing");
}

#[test]
fn a_writer_without_a_lease_serves_no_reads_until_it_is_back() {
    let instance = Shared::new().instance(Mode::SingleMaster, 0, CACHE);
    instance.put(&key(1), "x");
    instance.link.lease.store(false, Ordering::SeqCst);
    let mut txn = instance.begin();
    assert!(matches!(txn.get(&key(1), ReadMode::Snapshot), Err(StoreError::Unavailable { .. })));
    assert!(matches!(txn.get(&key(1), ReadMode::Present), Err(StoreError::Unavailable { .. })));
    let reader = std::thread::spawn(move || txn.get(&key(1), ReadMode::Snapshot));
    instance.link.lease.store(true, Ordering::SeqCst);
    instance.engine.lease_changed();
    assert_eq!(reader.join().expect("no panic"), Ok(value("x")));
}

#[test]
fn the_catalog_version_grows_when_a_catalog_row_changes_anywhere() {
    let shared = Shared::new();
    let (a, b) = (shared.instance(Mode::MultiMaster, 0, CACHE), shared.instance(Mode::MultiMaster, 1, CACHE));
    let table = Key::from_static(&[0, 0, 0, 0, 7]);
    let before = (a.store.catalog_version(), b.store.catalog_version());
    a.put(&key(1), "a row");
    b.link.deliver();
    assert_eq!((a.store.catalog_version(), b.store.catalog_version()), before);
    a.put(&table, "a table");
    assert!(a.store.catalog_version() > before.0);
    assert_eq!(b.store.catalog_version(), before.1);
    b.link.deliver();
    assert!(b.store.catalog_version() > before.1);
}

#[test]
fn global_freshness_sees_what_was_committed_elsewhere_before_and_local_does_not() {
    let shared = Shared::new();
    let (a, b) = (shared.instance(Mode::MultiMaster, 0, CACHE), shared.instance(Mode::MultiMaster, 1, CACHE));
    for n in 0..200 {
        a.put(&key(n), "x");
        let mut local = b.begin();
        let seen = local.get(&key(n), ReadMode::Snapshot).expect("it reads");
        assert_eq!(seen, None);
        let mut global = b.begin_with(|options| options.freshness = Freshness::Global);
        assert_eq!(global.get(&key(n), ReadMode::Snapshot), Ok(value("x")));
    }
    // Within one transaction: the snapshot stays, the present moves with every statement.
    let mut txn = b.begin_with(|options| options.freshness = Freshness::Global);
    assert_eq!(txn.get(&key(1), ReadMode::Snapshot), Ok(value("x")));
    a.put(&key(1), "y");
    txn.begin_statement().expect("it goes on");
    assert_eq!(txn.get(&key(1), ReadMode::Snapshot), Ok(value("x")));
    assert_eq!(txn.get(&key(1), ReadMode::Update), Ok(value("y")));
    txn.put(key(1), Bytes::from_static(b"z")).expect("it may write");
    txn.commit().expect("the base is the newest version");
}

/// A small deterministic generator: tests must repeat.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) % u64::from(sides)) as u32
    }
}

#[test]
fn scans_merge_own_changes_with_committed_rows_in_both_directions() {
    let mut dice = Dice(7);
    let instance = Shared::new().instance(Mode::SingleMaster, 0, CACHE);
    let mut committed: BTreeMap<Key, Bytes> = BTreeMap::new();
    for round in 0..60 {
        if round % 7 == 0 {
            instance.engine.reset(&instance.engine.applied());
        }
        let mut txn = instance.begin();
        let mut mine = committed.clone();
        for _ in 0..40 {
            let at = key(dice.roll(120));
            if dice.roll(3) == 0 {
                txn.delete(at.clone()).expect("it may write");
                mine.remove(&at);
            } else {
                let new = Bytes::from(vec![dice.roll(256) as u8; dice.roll(50) as usize]);
                txn.put(at.clone(), new.clone()).expect("it may write");
                mine.insert(at, new);
            }
            let (from, to) = (dice.roll(120), dice.roll(130));
            let (limit, reverse) = (dice.roll(30) as usize, dice.roll(2) == 0);
            let mode = [ReadMode::Snapshot, ReadMode::Present, ReadMode::Share, ReadMode::Update];
            let mode = mode[dice.roll(4) as usize];
            let range = KeyRange { start: key(from), end: (to < 125).then(|| key(to)) };
            let seen = txn.scan(&range, reverse, limit, mode).expect("it reads");
            let inside = |k: &&Key| **k >= range.start && range.end.as_ref().is_none_or(|end| *k < end);
            let mut expected: Vec<_> =
                mine.keys().filter(inside).map(|k| (k.clone(), mine[k].clone())).collect();
            if reverse {
                expected.reverse();
            }
            expected.truncate(limit);
            assert_eq!(seen, expected);
        }
        if dice.roll(2) == 0 {
            txn.commit().expect("nobody else writes");
            committed = mine;
        }
    }
}
