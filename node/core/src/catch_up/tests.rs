use std::sync::Arc;

use super::*;
use crate::ids::Vector;
use crate::quorum::{Mode, Quorum};
use crate::txn::Txn;

const VOLUME: Membership = Membership::Member(7);

fn txn(seq: u64) -> TxnId {
    TxnId { seat: Seat(0), epoch: Epoch(1), seq: Seq(seq) }
}

fn body(seq: u64) -> SharedTxn {
    Arc::new(Txn { id: txn(seq), deps: Vector::new(), writes: Vec::new(), checks: Vec::new() })
}

fn settled(seq: u64) -> Positions {
    vec![(Seat(0), Epoch(1), Seq(seq))]
}

/// One open stream, settled so far.
fn ordering(to: u64) -> Ordering {
    let mut ordering = Ordering::new();
    ordering.open(Seat(0), Epoch(1), &[]);
    for seq in 1..=to {
        ordering.settle(txn(seq), Outcome::Commit, Some(body(seq)));
    }
    ordering.drain();
    ordering
}

/// Node 1 of three, whose peers have said the same twice.
fn catch_up(peers: [u64; 3]) -> CatchUp {
    let mut catch_up = CatchUp::new(StorageId(1), 3);
    for _ in 0..2 {
        for (peer, seq) in [(0, peers[0]), (2, peers[2])] {
            catch_up.status(StorageId(peer), VOLUME, settled(seq));
        }
    }
    catch_up
}

fn asked(next: Option<(StorageId, Request)>) -> (u8, u64, Vec<TxnId>) {
    match next {
        Some((peer, Request::Fetch { id, txns })) => (peer.0, id, txns),
        other => panic!("not a question: {other:?}"),
    }
}

#[test]
fn what_a_peer_had_one_status_ago_and_this_node_has_not_is_fetched_oldest_first() {
    let mut me = catch_up([5, 0, 5]);
    let (peer, _, txns) = asked(me.next_fetch(&ordering(3), 0));
    assert_eq!((peer, txns), (0, vec![txn(4), txn(5)]));
}

#[test]
fn what_is_merely_on_its_way_is_not_fetched() {
    let mut me = CatchUp::new(StorageId(1), 3);
    me.status(StorageId(0), VOLUME, settled(5));
    assert!(me.next_fetch(&ordering(3), 0).is_none());
    me.status(StorageId(0), VOLUME, settled(9));
    assert_eq!(asked(me.next_fetch(&ordering(3), 0)).2, vec![txn(4), txn(5)]);
}

#[test]
fn only_members_are_asked() {
    let mut me = CatchUp::new(StorageId(1), 3);
    for _ in 0..2 {
        me.status(StorageId(0), Membership::Lost(7), settled(5));
    }
    assert!(me.next_fetch(&ordering(0), 0).is_none());
}

#[test]
fn a_commit_without_its_record_is_fetched_and_a_known_abort_is_not() {
    let mut ordering = ordering(0);
    ordering.settle(txn(1), Outcome::Commit, None);
    ordering.settle(txn(2), Outcome::Abort, None);
    assert_eq!(asked(catch_up([2, 0, 0]).next_fetch(&ordering, 0)).2, vec![txn(1)]);
}

#[test]
fn one_question_is_under_way_until_it_is_answered_too_late_or_its_peer_is_gone() {
    let (mut me, ordering) = (catch_up([5, 0, 5]), ordering(0));
    let (_, first, _) = asked(me.next_fetch(&ordering, 0));
    assert!(me.next_fetch(&ordering, ANSWER_MAX_MS - 1).is_none());
    let (_, second, _) = asked(me.next_fetch(&ordering, ANSWER_MAX_MS));
    assert_ne!(first, second);
    me.down(StorageId(0));
    assert_eq!(asked(me.next_fetch(&ordering, ANSWER_MAX_MS)).0, 2);
}

#[test]
fn a_commit_whose_record_is_gone_is_no_help() {
    let mut me = catch_up([2, 0, 0]);
    let (peer, id, _) = asked(me.next_fetch(&ordering(0), 0));
    let known = vec![(txn(1), Outcome::Commit), (txn(2), Outcome::Commit)];
    let fetched = me.fetched(StorageId(peer), id, known, vec![body(2)], 0);
    assert!(!fetched.barren);
    assert!(
        matches!(&fetched.decisions[..], [Request::Decide { txn: found, body: Some(_), .. }] if *found == txn(2)),
        "{fetched:?}"
    );
}

#[test]
fn a_barren_peer_is_left_alone_for_a_while_and_the_next_is_asked() {
    let (mut me, ordering) = (catch_up([5, 0, 5]), ordering(0));
    let (peer, id, _) = asked(me.next_fetch(&ordering, 0));
    assert!(me.fetched(StorageId(peer), id, Vec::new(), Vec::new(), 10).barren);
    assert_eq!((peer, asked(me.next_fetch(&ordering, 10)).0), (0, 2));
    let (peer, ..) = asked(me.next_fetch(&ordering, 10 + BARREN_MS));
    assert_eq!(peer, 0);
}

#[test]
fn an_answer_to_an_older_question_is_taken_but_nobody_is_barren_for_it() {
    let (mut me, ordering) = (catch_up([5, 0, 0]), ordering(0));
    let (_, old, _) = asked(me.next_fetch(&ordering, 0));
    asked(me.next_fetch(&ordering, ANSWER_MAX_MS));
    let late = me.fetched(StorageId(0), old, Vec::new(), Vec::new(), ANSWER_MAX_MS);
    assert!(!late.barren);
    let late = me.fetched(StorageId(0), old, vec![(txn(1), Outcome::Abort)], Vec::new(), ANSWER_MAX_MS);
    assert_eq!(late.decisions.len(), 1);
}

/// Nobody can help any more, from 0 on.
fn helpless(peers: [u64; 3], ordering: &Ordering) -> CatchUp {
    let mut me = catch_up(peers);
    while let Some(next) = me.next_fetch(ordering, 0) {
        let (peer, id, _) = asked(Some(next));
        me.fetched(StorageId(peer), id, Vec::new(), Vec::new(), 0);
    }
    me
}

#[test]
fn a_node_leaves_only_when_nobody_could_help_for_some_time() {
    let ordering = ordering(1);
    let mut me = helpless([5, 0, 5], &ordering);
    assert!(!me.behind_for_good(&ordering, BEHIND_MIN_MS - 1));
    assert!(me.behind_for_good(&ordering, BEHIND_MIN_MS));
}

#[test]
fn a_node_that_has_caught_up_meanwhile_begins_to_count_anew() {
    let behind = ordering(1);
    let mut me = helpless([5, 0, 5], &behind);
    assert!(!me.behind_for_good(&ordering(5), BEHIND_MIN_MS));
    assert!(!me.behind_for_good(&behind, BEHIND_MIN_MS));
}

#[test]
fn a_node_stays_while_another_is_no_member_or_one_with_a_lower_number_is_behind_as_well() {
    let ordering = ordering(1);
    let mut gone = helpless([5, 0, 5], &ordering);
    gone.down(StorageId(2));
    assert!(!gone.behind_for_good(&ordering, BEHIND_MIN_MS));
    let mut second = helpless([1, 0, 5], &ordering);
    assert!(!second.behind_for_good(&ordering, BEHIND_MIN_MS));
    let mut first = helpless([5, 0, 1], &ordering);
    assert!(first.behind_for_good(&ordering, BEHIND_MIN_MS));
}

#[test]
fn the_furthest_is_whoever_has_settled_most_of_all_streams() {
    let me = catch_up([5, 0, 6]);
    assert_eq!(me.furthest(&[StorageId(0), StorageId(2)]), Some(StorageId(2)));
    assert_eq!(me.furthest(&[StorageId(0)]), Some(StorageId(0)));
    assert_eq!(me.members(), vec![StorageId(0), StorageId(2)]);
}

#[test]
fn closings_are_taken_from_members_of_the_own_volume_only() {
    let (lost, other) = (Membership::Lost(7), Membership::Member(8));
    assert!(takes_closings(VOLUME, false, VOLUME) && takes_closings(lost, true, VOLUME));
    assert!(!takes_closings(VOLUME, false, other) && !takes_closings(VOLUME, false, lost));
    assert!(!takes_closings(lost, false, VOLUME) && !takes_closings(lost, true, lost));
    assert!(!takes_closings(Membership::Empty, false, VOLUME));
}

#[test]
fn a_peer_is_told_what_is_decided_and_nothing_else() {
    let mut ordering = ordering(1);
    ordering.settle(txn(3), Outcome::Abort, None);
    let told = known(&ordering, vec![txn(1), txn(2), txn(3)]);
    assert_eq!(told, vec![(txn(1), Outcome::Commit), (txn(3), Outcome::Abort)]);
}

#[test]
fn a_status_says_what_this_node_is() {
    let acceptor = Acceptor::new(Quorum::new(3, Mode::SingleMaster).expect("three nodes"));
    let Reply::StatusIs { membership, closings, .. } = status(&acceptor, VOLUME, &[]) else {
        panic!("a status is answered with a status")
    };
    assert_eq!((membership, closings.len()), (VOLUME, 0));
}
