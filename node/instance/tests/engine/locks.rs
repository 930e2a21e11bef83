//! Row locks between the sessions of one instance.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use node_core::quorum::Mode;
use node_instance::engine::Engine;
use node_sql::store::{LockWait, ReadMode, StoreError};

use crate::world::{Shared, key, value};

const CACHE: usize = 8 << 20;

/// Waits until so many transactions wait for a lock.
pub(crate) fn until_waiting(engine: &Engine, count: usize) {
    let began = std::time::Instant::now();
    while engine.stats().lock_waiters != count {
        assert!(began.elapsed() < Duration::from_secs(20), "nobody waits");
        std::thread::yield_now();
    }
}

#[test]
fn a_waiter_goes_on_after_the_commit_and_sees_what_was_committed() {
    let instance = Shared::new().instance(Mode::SingleMaster, 0, CACHE);
    instance.put(&key(1), "old");
    let mut first = instance.begin();
    first.put(key(1), Bytes::from_static(b"new")).expect("it may write");
    let mut second = instance.begin();
    let waiter = std::thread::spawn(move || {
        let seen = second.get(&key(1), ReadMode::Update);
        second.put(key(1), Bytes::from_static(b"newer")).and(second.commit()).map(|()| seen)
    });
    until_waiting(&instance.engine, 1);
    first.commit().expect("no conflict");
    assert_eq!(waiter.join().expect("no panic"), Ok(Ok(value("new"))));
    assert_eq!(instance.engine.stats().conflicts, 0);
}

#[test]
fn a_wait_ends_in_time_and_costs_only_the_statement() {
    let instance = Shared::new().instance(Mode::SingleMaster, 0, CACHE);
    let mut first = instance.begin();
    first.lock(&key(1), LockWait::No).expect("it is free");
    let mut second = instance.begin_with(|options| options.lock_wait = Duration::from_millis(30));
    second.put(key(2), Bytes::from_static(b"x")).expect("it is free");
    assert_eq!(second.get(&key(1), ReadMode::Share), Err(StoreError::LockTimeout));
    assert_eq!(second.lock(&key(1), LockWait::No), Err(StoreError::LockTimeout));
    second.commit().expect("the rest is untouched");
    assert_eq!(instance.engine.stats().lock_timeouts, 2);
}

#[test]
fn shared_locks_admit_each_other_and_hold_back_a_writer() {
    let instance = Shared::new().instance(Mode::SingleMaster, 0, CACHE);
    instance.put(&key(1), "x");
    let (mut a, mut b, mut writer) = (instance.begin(), instance.begin(), instance.begin());
    assert_eq!(a.get(&key(1), ReadMode::Share), Ok(value("x")));
    assert_eq!(b.get(&key(1), ReadMode::Share), Ok(value("x")));
    assert_eq!(writer.lock(&key(1), LockWait::No), Err(StoreError::LockTimeout));
    drop(a);
    b.put(key(1), Bytes::from_static(b"y")).expect("the only holder may upgrade");
    b.commit().expect("no conflict");
    assert_eq!(writer.lock(&key(1), LockWait::No), Ok(value("y")));
}

#[test]
fn a_killed_waiter_wakes_up() {
    let instance = Shared::new().instance(Mode::SingleMaster, 0, CACHE);
    let mut first = instance.begin();
    first.lock(&key(1), LockWait::No).expect("it is free");
    let killed = Arc::new(AtomicBool::new(false));
    let mut second = instance.begin_with(|options| options.killed = killed.clone());
    let waiter = std::thread::spawn(move || second.get(&key(1), ReadMode::Update));
    until_waiting(&instance.engine, 1);
    killed.store(true, Ordering::SeqCst);
    assert_eq!(waiter.join().expect("no panic"), Err(StoreError::Killed));
}

#[test]
fn of_two_that_wait_for_each_other_one_is_rolled_back_and_the_other_goes_on() {
    let instance = Shared::new().instance(Mode::SingleMaster, 0, CACHE);
    let (mut a, mut b) = (instance.begin(), instance.begin());
    a.put(key(1), Bytes::from_static(b"a")).expect("it is free");
    b.put(key(2), Bytes::from_static(b"b")).expect("it is free");
    let other = std::thread::spawn(move || a.put(key(2), Bytes::from_static(b"a")).and_then(|()| a.commit()));
    until_waiting(&instance.engine, 1);
    assert_eq!(b.put(key(1), Bytes::from_static(b"b")), Err(StoreError::Deadlock));
    assert_eq!(other.join().expect("no panic"), Ok(()));
    assert_eq!(b.begin_statement(), Err(StoreError::Deadlock));
    assert!(!b.has_writes());
    let mut txn = instance.begin();
    assert_eq!(txn.get(&key(2), ReadMode::Snapshot), Ok(value("a")));
}

#[test]
fn losing_the_seat_wakes_waiters_and_dooms_whoever_has_locks() {
    let instance = Shared::new().instance(Mode::SingleMaster, 0, CACHE);
    instance.put(&key(1), "x");
    let (mut holder, mut waiter, mut reader) = (instance.begin(), instance.begin(), instance.begin());
    assert_eq!(reader.get(&key(1), ReadMode::Snapshot), Ok(value("x")));
    holder.put(key(1), Bytes::from_static(b"y")).expect("it is free");
    let waiter = std::thread::spawn(move || waiter.get(&key(1), ReadMode::Update));
    until_waiting(&instance.engine, 1);
    instance.engine.fence();
    assert_eq!(waiter.join().expect("no panic"), Err(StoreError::ReadOnly));
    assert_eq!(holder.begin_statement(), Err(StoreError::ReadOnly));
    assert_eq!(holder.commit(), Err(StoreError::ReadOnly));
    assert_eq!(reader.get(&key(1), ReadMode::Snapshot), Ok(value("x")));
    assert_eq!(instance.engine.stats().locked_keys, 0);
}

#[test]
fn a_commit_that_the_volume_refuses_as_fenced_is_read_only() {
    let instance = Shared::new().instance(Mode::SingleMaster, 0, CACHE);
    let mut txn = instance.begin();
    txn.put(key(1), Bytes::from_static(b"y")).expect("it is free");
    instance.link.fenced.store(true, Ordering::SeqCst);
    assert_eq!(txn.commit(), Err(StoreError::ReadOnly));
}

#[test]
fn many_sessions_that_increment_one_row_lose_nothing() {
    let instance = Shared::new().instance(Mode::SingleMaster, 0, CACHE);
    instance.put(&key(1), "0");
    let sessions: Vec<_> = (0..8)
        .map(|_| {
            let instance = instance.clone();
            std::thread::spawn(move || {
                for _ in 0..50 {
                    let mut txn = instance.begin();
                    let now = txn.get(&key(1), ReadMode::Update).expect("granted").expect("it is there");
                    let now: u64 = String::from_utf8_lossy(&now).parse().expect("a number");
                    txn.put(key(1), Bytes::from((now + 1).to_string())).expect("locked");
                    txn.commit().expect("nobody else has the lock");
                }
            })
        })
        .collect();
    sessions.into_iter().for_each(|session| session.join().expect("no panic"));
    assert_eq!(instance.begin().get(&key(1), ReadMode::Snapshot), Ok(value("400")));
}
