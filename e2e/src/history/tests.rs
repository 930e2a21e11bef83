//! Histories with each anomaly, which must be found, and histories that are allowed, which must not be.

use std::collections::BTreeMap;

use super::bank::{self, End, Total, Transfer};
use super::ledger::{self, Entry};
use super::lists::{self, Action, History, Operation, Transaction};
use super::{Kind, Micros, Outcome};

/// Builds a transaction; every operation takes one tick.
struct Made(Transaction);

fn on(place: usize, began: Micros) -> Made {
    Made(Transaction {
        client: 0,
        connection: began * 10 + u64::try_from(place).expect("small"),
        place,
        began,
        ended: began,
        outcome: Outcome::Committed,
        fresh: true,
        atomic: false,
        operations: Vec::new(),
    })
}

impl Made {
    fn act(mut self, action: Action) -> Made {
        let began = self.0.ended;
        self.0.ended = began + 1;
        self.0.operations.push(Operation { began, ended: began + 1, action });
        self
    }
    fn append(self, list: u32, element: u32) -> Made {
        self.act(Action::Append { list, element })
    }
    fn read(self, list: u32, elements: &[u32]) -> Made {
        self.act(Action::Read { list, elements: elements.to_vec(), locking: false })
    }
    fn lock(self, list: u32, elements: &[u32]) -> Made {
        self.act(Action::Read { list, elements: elements.to_vec(), locking: true })
    }
    /// It goes on until then.
    fn until(mut self, ended: Micros) -> Made {
        self.0.ended = ended;
        self
    }
    fn outcome(mut self, outcome: Outcome) -> Made {
        self.0.outcome = outcome;
        self
    }
    fn atomic(mut self) -> Made {
        self.0.atomic = true;
        self
    }
    fn stale(mut self) -> Made {
        self.0.fresh = false;
        self
    }
    fn connection(mut self, connection: u64) -> Made {
        self.0.connection = connection;
        self
    }
}

fn history(one_order: bool, made: Vec<Made>, ends: &[(u32, &[u32])]) -> History {
    History {
        places: vec!["a".into(), "b".into(), "c".into()],
        one_order,
        transactions: made.into_iter().map(|made| made.0).collect(),
        ends: ends.iter().map(|(list, elements)| (*list, elements.to_vec())).collect::<BTreeMap<_, _>>(),
    }
}

fn kinds(history: &History) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = lists::check(history).into_iter().map(|anomaly| anomaly.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// In either mode.
fn both(made: impl Fn() -> Vec<Made>, ends: &[(u32, &[u32])]) -> [Vec<Kind>; 2] {
    [true, false].map(|one_order| kinds(&history(one_order, made(), ends)))
}

fn always(kind: Kind, made: impl Fn() -> Vec<Made>, ends: &[(u32, &[u32])]) {
    assert_eq!(both(made, ends), [vec![kind], vec![kind]]);
}

fn never(made: impl Fn() -> Vec<Made>, ends: &[(u32, &[u32])]) {
    assert_eq!(both(made, ends), [vec![], vec![]]);
}

const LONG: Micros = 1_000;

#[test]
fn serial_history_is_clean() {
    let made = || {
        vec![
            on(0, 10).append(1, 11).append(2, 12),
            on(1, 20).read(1, &[11]).read(2, &[12]).append(1, 13),
            on(2, 30).lock(1, &[11, 13]).append(1, 14).read(1, &[11, 13, 14]),
            on(0, 40).read(1, &[11, 13, 14]).read(2, &[12]).read(3, &[]),
        ]
    };
    never(made, &[(1, &[11, 13, 14]), (2, &[12])]);
}

#[test]
fn acknowledged_append_that_is_gone_is_lost() {
    always(Kind::Lost, || vec![on(0, 10).append(1, 11), on(1, 20).append(1, 12)], &[(1, &[12])]);
}

#[test]
fn unknown_append_may_be_there_or_not_but_only_as_a_whole() {
    let made = || vec![on(0, 10).append(1, 11).append(2, 12).outcome(Outcome::Unknown)];
    never(made, &[(1, &[11]), (2, &[12])]);
    never(made, &[(1, &[]), (2, &[])]);
    always(Kind::Lost, made, &[(1, &[11]), (2, &[])]);
}

#[test]
fn refused_append_that_is_there_is_found() {
    let made = || vec![on(0, 10).append(1, 11).outcome(Outcome::Refused)];
    always(Kind::RefusedPresent, made, &[(1, &[11])]);
    never(made, &[(1, &[])]);
}

#[test]
fn element_of_nobody_is_garbage_and_one_that_is_there_twice_a_duplicate() {
    always(Kind::Garbage, Vec::new, &[(1, &[77])]);
    always(Kind::Duplicate, || vec![on(0, 10).append(1, 11)], &[(1, &[11, 11])]);
}

#[test]
fn reads_that_contradict_the_order_of_a_list_are_found() {
    let made = || {
        vec![
            on(0, 10).append(1, 11).until(LONG),
            on(1, 10).append(1, 12).until(LONG),
            on(2, 20).read(1, &[12, 11]).until(LONG),
        ]
    };
    always(Kind::Order, made, &[(1, &[11, 12])]);
    never(made, &[(1, &[12, 11])]);
}

#[test]
fn read_of_a_refused_append_is_dirty() {
    let made = || vec![on(0, 10).append(1, 11).outcome(Outcome::Refused), on(1, 11).read(1, &[11])];
    always(Kind::DirtyRead, made, &[(1, &[])]);
}

#[test]
fn read_between_two_appends_of_one_transaction_is_intermediate() {
    let made = || vec![on(0, 10).append(1, 11).append(1, 12), on(1, 11).read(1, &[11]).until(LONG)];
    always(Kind::IntermediateRead, made, &[(1, &[11, 12])]);
}

#[test]
fn transaction_sees_its_own_appends() {
    always(Kind::OwnWrite, || vec![on(0, 10).append(1, 11).read(1, &[])], &[(1, &[11])]);
    always(Kind::OwnWrite, || vec![on(0, 10).read(1, &[11]).append(1, 11)], &[(1, &[11])]);
}

#[test]
fn interleaved_writes_are_dirty_g0() {
    let made = || {
        vec![
            on(0, 10).append(1, 11).append(2, 21).until(LONG),
            on(1, 10).append(1, 12).append(2, 22).until(LONG),
        ]
    };
    always(Kind::DirtyWrite, made, &[(1, &[11, 12]), (2, &[22, 21])]);
    never(made, &[(1, &[11, 12]), (2, &[21, 22])]);
}

#[test]
fn two_transactions_that_read_from_each_other_are_g1c() {
    let made = || {
        vec![
            on(0, 10).append(1, 11).read(2, &[21]).until(LONG),
            on(0, 10).connection(2).append(2, 21).read(1, &[11]).until(LONG),
        ]
    };
    always(Kind::CircularFlow, made, &[(1, &[11]), (2, &[21])]);
}

#[test]
fn half_of_a_transaction_in_one_snapshot_is_a_fractured_read() {
    let made = || {
        vec![
            on(0, 10).append(1, 11).append(2, 21).until(LONG),
            on(0, 11).read(1, &[11]).read(2, &[]).until(LONG),
        ]
    };
    always(Kind::FracturedRead, made, &[(1, &[11]), (2, &[21])]);
}

#[test]
fn a_replica_may_be_late_but_not_torn() {
    let late = || vec![on(0, 10).append(1, 11).append(2, 21), on(1, 500).read(1, &[]).read(2, &[]).stale()];
    never(late, &[(1, &[11]), (2, &[21])]);
    let torn = || vec![on(0, 10).append(1, 11).append(2, 21), on(1, 500).read(1, &[11]).read(2, &[]).stale()];
    always(Kind::FracturedRead, torn, &[(1, &[11]), (2, &[21])]);
}

#[test]
fn a_connection_does_not_go_back_in_time() {
    let made = || {
        vec![
            on(0, 10).append(1, 11),
            on(1, 500).connection(7).read(1, &[11]).stale(),
            on(1, 600).connection(7).read(1, &[]).stale(),
        ]
    };
    always(Kind::StaleRead, made, &[(1, &[11])]);
}

#[test]
fn snapshot_that_changes_within_a_transaction_is_found() {
    let made =
        || vec![on(0, 10).append(1, 11).until(LONG), on(0, 11).read(1, &[]).read(1, &[11]).until(LONG)];
    always(Kind::FracturedRead, made, &[(1, &[11])]);
}

#[test]
fn read_skew_over_three_transactions_is_found() {
    let made = || {
        vec![
            on(0, 10).append(1, 11).until(LONG),
            on(0, 20).connection(1).lock(1, &[11]).append(2, 21).until(LONG),
            on(0, 30).connection(2).read(2, &[21]).read(1, &[]).until(LONG),
        ]
    };
    always(Kind::ReadSkew, made, &[(1, &[11]), (2, &[21])]);
}

#[test]
fn a_read_that_misses_what_was_acknowledged_before_it_is_stale() {
    let made = || vec![on(0, 10).append(1, 11), on(1, 50).read(1, &[])];
    always(Kind::StaleRead, made, &[(1, &[11])]);
    let overlapping = || vec![on(0, 10).append(1, 11).until(60), on(1, 50).read(1, &[])];
    never(overlapping, &[(1, &[11])]);
}

#[test]
fn the_snapshot_counts_from_the_first_statement_of_a_transaction() {
    let made = || vec![on(0, 10).append(1, 11), on(1, 5).read(2, &[]).until(50).read(1, &[])];
    never(made, &[(1, &[11])]);
}

#[test]
fn an_update_may_see_past_its_snapshot_unless_snapshot_isolation_is_on() {
    let made = |atomic: bool| {
        let reader = on(0, 10).connection(1).read(1, &[]).append(1, 12).read(1, &[11, 12]).until(LONG);
        vec![on(0, 11).append(1, 11), if atomic { reader.atomic() } else { reader }]
    };
    let ends: &[(u32, &[u32])] = &[(1, &[11, 12])];
    never(|| made(false), ends);
    always(Kind::LostUpdate, || made(true), ends);
}

#[test]
fn with_snapshot_isolation_a_locking_read_shows_the_snapshot() {
    let made = |atomic: bool| {
        let reader =
            on(0, 10).connection(1).read(2, &[]).lock(1, &[11]).read(2, &[]).append(3, 31).until(LONG);
        vec![on(0, 11).append(1, 11).append(2, 21), if atomic { reader.atomic() } else { reader }]
    };
    let ends: &[(u32, &[u32])] = &[(1, &[11]), (2, &[21]), (3, &[31])];
    never(|| made(false), ends);
    always(Kind::FracturedRead, || made(true), ends);
}

#[test]
fn write_skew_is_allowed() {
    let made = || {
        vec![
            on(0, 10).read(1, &[]).append(2, 21).until(LONG),
            on(1, 10).read(2, &[]).append(1, 11).until(LONG),
        ]
    };
    never(made, &[(1, &[11]), (2, &[21])]);
}

#[test]
fn write_skew_past_locking_reads_is_found() {
    let made = || {
        vec![
            on(0, 10).lock(1, &[]).append(2, 21).until(LONG),
            on(1, 10).lock(2, &[]).append(1, 11).until(LONG),
        ]
    };
    always(Kind::LockingRead, made, &[(1, &[11]), (2, &[21])]);
}

#[test]
fn long_fork_is_allowed_between_instances_only() {
    let made = |place| {
        vec![
            on(0, 10).append(1, 11).until(LONG),
            on(1, 10).append(2, 21).until(LONG),
            on(0, 20).read(1, &[11]).read(2, &[]).until(LONG),
            on(place, 20).connection(9).read(1, &[]).read(2, &[21]).until(LONG),
        ]
    };
    let ends: &[(u32, &[u32])] = &[(1, &[11]), (2, &[21])];
    assert_eq!(both(|| made(1), ends), [vec![Kind::LongFork], vec![]]);
    always(Kind::LongFork, || made(0), ends);
}

#[test]
fn what_was_read_before_a_write_is_seen_with_it_everywhere() {
    let made = || {
        vec![
            on(0, 10).append(1, 11).until(LONG),
            on(1, 20).read(1, &[11]).append(2, 21).until(LONG),
            on(2, 30).read(2, &[21]).read(1, &[]).until(LONG),
        ]
    };
    always(Kind::ReadSkew, made, &[(1, &[11]), (2, &[21])]);
}

#[test]
fn snapshots_of_refused_transactions_count_too() {
    let made = || {
        vec![
            on(0, 10).append(1, 11).append(2, 21).until(LONG),
            on(0, 11).read(1, &[11]).read(2, &[]).outcome(Outcome::Refused),
        ]
    };
    always(Kind::FracturedRead, made, &[(1, &[11]), (2, &[21])]);
}

#[test]
fn stories_name_the_transactions() {
    let found =
        lists::check(&history(false, vec![on(0, 10).append(1, 11), on(1, 50).read(1, &[])], &[(1, &[11])]));
    let text = found[0].to_string();
    for part in ["stale read", "T0 client 0", "on b", "append(1, 11)", "read(1) = 0 []"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

fn entry(id: u64, outcome: Outcome) -> Entry {
    Entry { id, client: 0, ended: 1, outcome }
}

#[test]
fn ledger_finds_what_is_lost_refused_doubled_and_foreign() {
    let entries = [entry(1, Outcome::Committed), entry(2, Outcome::Refused), entry(3, Outcome::Unknown)];
    let kinds =
        |rows: &[u64]| ledger::check(&entries, rows).into_iter().map(|found| found.kind).collect::<Vec<_>>();
    assert_eq!(kinds(&[1]), []);
    assert_eq!(kinds(&[1, 3]), []);
    assert_eq!(kinds(&[3]), [Kind::Lost]);
    assert_eq!(kinds(&[1, 2]), [Kind::RefusedPresent]);
    assert_eq!(kinds(&[1, 3, 3]), [Kind::Duplicate]);
    assert_eq!(kinds(&[1, 9]), [Kind::Garbage]);
}

#[test]
fn bank_finds_a_wrong_total_and_balances_that_transfers_do_not_explain() {
    let transfers = [Transfer { entry: entry(1, Outcome::Committed) }];
    let total = |balances: &[i64]| Total {
        client: 0,
        place: "a".into(),
        how: "one statement".into(),
        began: 1,
        ended: 2,
        balances: balances.to_vec(),
    };
    let kinds = |totals: &[Total], balances: &[i64], rows: &[(u64, usize, usize, i64)]| {
        let end = End { balances: balances.to_vec(), transfers: rows.to_vec() };
        bank::check(10, &transfers, totals, &end).into_iter().map(|found| found.kind).collect::<Vec<_>>()
    };
    let row = (1, 0, 1, 4);
    assert_eq!(kinds(&[total(&[10, 10]), total(&[6, 14])], &[6, 14], &[row]), []);
    assert_eq!(kinds(&[total(&[6, 10])], &[6, 14], &[row]), [Kind::Total]);
    assert_eq!(kinds(&[total(&[-1, 21])], &[6, 14], &[row]), [Kind::Total]);
    assert_eq!(kinds(&[], &[10, 10], &[row]), [Kind::Total, Kind::Total]);
    assert_eq!(kinds(&[], &[10, 10], &[]), [Kind::Lost]);
}
