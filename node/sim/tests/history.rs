//! The checker of histories finds each anomaly, and nothing in what is allowed.

use std::collections::BTreeMap;

use node_sim::history::{History, Kind, Op, Outcome, Txn};

/// A transaction of operations like `r1:7,8` (a plain read), `l1:7` (a locking read) and `a1:9` (an append).
fn txn(outcome: Outcome, isolated: bool, ops: &str) -> Txn {
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let op = |text: &str| {
        let (key, list) = text[1..].split_once(':').expect("list:elements");
        let (key, list) =
            (number(key), list.split(',').filter(|text| !text.is_empty()).map(number).collect());
        match &text[..1] {
            "r" => Op::Read { key, list, snapshot: Some(1), fresh: None, local: 0 },
            "l" => Op::Read { key, list, snapshot: None, fresh: None, local: 0 },
            _ => Op::Append { key, element: list[0] },
        }
    };
    Txn {
        name: ops.to_owned(),
        site: 1,
        start: 0,
        end: Some(1),
        outcome,
        snapshot_isolation: isolated,
        ops: ops.split(' ').map(op).collect(),
    }
}

fn kinds(txns: Vec<Txn>, last: &[(u64, &[u64])]) -> Vec<Kind> {
    let last: BTreeMap<u64, Vec<u64>> = last.iter().map(|(key, list)| (*key, list.to_vec())).collect();
    let mut kinds: Vec<Kind> = History { txns }.check(Some(&last)).iter().map(|found| found.kind).collect();
    kinds.dedup();
    kinds
}

fn ok(ops: &[&str]) -> Vec<Txn> {
    ops.iter().map(|ops| txn(Outcome::Ok, false, ops)).collect()
}

fn isolated(ops: &[&str]) -> Vec<Txn> {
    ops.iter().map(|ops| txn(Outcome::Ok, true, ops)).collect()
}

#[test]
fn a_serial_history_is_clean() {
    let txns = isolated(&["a1:1 a2:2", "r1:1 a1:3 r1:1,3", "r2:2 r1:1,3"]);
    assert_eq!(kinds(txns, &[(1, &[1, 3]), (2, &[2])]), []);
}

#[test]
fn an_acknowledged_append_that_is_gone_is_found() {
    assert_eq!(kinds(ok(&["a1:1", "a1:2"]), &[(1, &[1])]), [Kind::LostAppend]);
}

#[test]
fn an_append_of_unknown_outcome_may_be_there_or_not() {
    let unknown = || vec![txn(Outcome::Unknown, false, "a1:1")];
    assert_eq!(kinds(unknown(), &[(1, &[])]), []);
    assert_eq!(kinds(unknown(), &[(1, &[1])]), []);
}

#[test]
fn an_append_that_failed_is_found_in_a_read_and_in_the_end() {
    let failed = || txn(Outcome::Fail, false, "a1:1");
    assert_eq!(kinds(vec![failed()], &[(1, &[1])]), [Kind::AbortedRead]);
    let reader = txn(Outcome::Ok, false, "r1:1");
    assert_eq!(kinds(vec![failed(), reader], &[(1, &[1])]), [Kind::AbortedRead]);
}

#[test]
fn half_of_a_transaction_s_appends_to_a_list_is_found() {
    assert_eq!(kinds(ok(&["a1:1 a1:2", "r1:1"]), &[(1, &[1, 2])]), [Kind::IntermediateRead]);
}

#[test]
fn elements_that_are_there_twice_or_that_nobody_appended_are_found() {
    assert_eq!(kinds(ok(&["a1:1"]), &[(1, &[1, 1])]), [Kind::Duplicate]);
    assert_eq!(kinds(ok(&["a1:1"]), &[(1, &[1, 9])]), [Kind::Garbage]);
}

#[test]
fn a_transaction_that_does_not_see_its_own_append_is_found() {
    assert_eq!(kinds(ok(&["a1:1 r1:"]), &[(1, &[1])]), [Kind::Internal]);
}

#[test]
fn two_reads_that_no_order_explains_are_found() {
    assert_eq!(kinds(ok(&["a1:1", "a1:2", "r1:2"]), &[(1, &[1, 2])]), [Kind::IncompatibleOrder]);
}

#[test]
fn a_cycle_of_writes_is_found() {
    let last: &[(u64, &[u64])] = &[(1, &[1, 2]), (2, &[4, 3])];
    assert_eq!(kinds(ok(&["a1:1 a2:3", "a1:2 a2:4"]), last), [Kind::WriteCycle]);
}

#[test]
fn a_cycle_of_writes_and_reads_is_found() {
    let txns = ok(&["a1:1 r2:2", "a2:2 r1:1"]);
    assert_eq!(kinds(txns, &[(1, &[1]), (2, &[2])]), [Kind::DependencyCycle]);
}

#[test]
fn a_snapshot_with_half_of_a_transaction_is_found_at_every_isolation_level() {
    let txns = ok(&["a1:1 a2:2", "r1:1 r2:"]);
    assert_eq!(kinds(txns, &[(1, &[1]), (2, &[2])]), [Kind::FracturedRead]);
}

#[test]
fn a_snapshot_with_an_effect_but_not_its_cause_is_found() {
    let txns = ok(&["a1:1", "r1:1 a2:2", "r2:2 r1:"]);
    assert_eq!(kinds(txns, &[(1, &[1]), (2, &[2])]), [Kind::FracturedRead]);
}

#[test]
fn a_lost_update_is_an_anomaly_only_with_snapshot_isolation() {
    let ops = ["a1:1", "r1:1 a1:2", "r1:1 a1:3"];
    assert_eq!(kinds(ok(&ops), &[(1, &[1, 2, 3])]), []);
    assert_eq!(kinds(isolated(&ops), &[(1, &[1, 2, 3])]), [Kind::ReadSkew]);
}

#[test]
fn a_locking_read_newer_than_the_snapshot_is_an_anomaly_only_with_snapshot_isolation() {
    let ops = ["a1:1 a2:2", "r1: l2:2"];
    assert_eq!(kinds(ok(&ops), &[(1, &[1]), (2, &[2])]), []);
    assert_eq!(kinds(isolated(&ops), &[(1, &[1]), (2, &[2])]), [Kind::ReadSkew]);
}

#[test]
fn write_skew_and_a_long_fork_are_allowed() {
    let skew = isolated(&["r1: r2: a1:1", "r1: r2: a2:2"]);
    assert_eq!(kinds(skew, &[(1, &[1]), (2, &[2])]), []);
    let fork = isolated(&["a1:1", "a2:2", "r1:1 r2:", "r1: r2:2"]);
    assert_eq!(kinds(fork, &[(1, &[1]), (2, &[2])]), []);
}

#[test]
fn a_read_that_misses_what_it_promised_to_see_is_found() {
    let read = |fresh: Option<u64>, local: u64, site: u64| {
        let ops = vec![Op::Read { key: 1, list: vec![], snapshot: Some(1), fresh, local }];
        Txn { site, ops, ..txn(Outcome::Ok, false, "r1:") }
    };
    let found = |reader: Txn| kinds(vec![txn(Outcome::Ok, false, "a1:1"), reader], &[(1, &[1])]);
    assert_eq!(found(read(Some(2), 2, 2)), [Kind::StaleRead]);
    assert_eq!(found(read(Some(1), 1, 2)), []);
    assert_eq!(found(read(None, 2, 2)), []);
    assert_eq!(found(read(None, 2, 1)), [Kind::StaleRead]);
}
