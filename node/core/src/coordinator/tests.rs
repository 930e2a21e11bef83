use bytes::Bytes;

use super::*;
use crate::quorum::Mode;
use crate::wire::Promise;

/// A coordinator that holds its seat, with one proposal out.
fn proposed(mode: Mode, nodes: usize) -> (Coordinator, TxnId) {
    let quorum = Quorum::new(nodes, mode).expect("the size is possible");
    let mut coordinator = Coordinator::new(quorum, RunId(1));
    let mut out = Vec::new();
    for node in 0..nodes {
        coordinator.node_up(StorageId(node as u8), 0, &mut out);
    }
    let (seat, epoch) = (Seat(0), Epoch(1));
    coordinator.take(seat, epoch, 0, &mut out);
    let ballot = out
        .iter()
        .find_map(|action| match action {
            Action::Broadcast(Request::Fence { ballot, .. }) => Some(*ballot),
            _ => None,
        })
        .expect("taking a seat begins with a fence");
    for node in 0..nodes {
        let (settled, older, closings) = (vec![], vec![], vec![]);
        let reply = Reply::FenceOk { seat, epoch, ballot, settled, older, closings };
        coordinator.reply(StorageId(node as u8), reply, 0, &mut out);
    }
    for node in 0..nodes {
        coordinator.reply(StorageId(node as u8), Reply::ActivateOk { seat, epoch, ballot }, 0, &mut out);
    }
    assert!(out.contains(&Action::Seated(StreamId { seat, epoch })));
    let write = Write { key: Bytes::from_static(b"k"), base: None, value: Some(Bytes::from_static(b"v")) };
    let proposal = Proposal { ticket: 7, deps: Vector::new(), writes: vec![write], checks: vec![] };
    coordinator.propose(proposal, 0, &mut out);
    (coordinator, TxnId { seat, epoch, seq: Seq(1) })
}

/// Feeds votes (`+` accept, `-` reject) from nodes 0, 1, … and says how the proposal finished, if it did, and
/// what was sent for a second round.
fn check(mode: Mode, nodes: usize, votes: &str, finish: Option<bool>, second: Option<Outcome>) {
    let (mut coordinator, txn) = proposed(mode, nodes);
    let mut out = Vec::new();
    for (node, vote) in votes.chars().enumerate() {
        let vote = if vote == '+' { Vote::Accept } else { Vote::Stale };
        coordinator.reply(StorageId(node as u8), Reply::Voted { txn, vote }, 1, &mut out);
    }
    let finished = out.iter().find_map(|action| match action {
        Action::Finish(7, finish) => Some(matches!(finish, Finish::Committed(_))),
        _ => None,
    });
    let round = out.iter().find_map(|action| match action {
        Action::Broadcast(Request::Accept { value, .. }) => Some(*value),
        _ => None,
    });
    assert_eq!((finished, round), (finish, second), "{mode:?} of {nodes} with {votes}");
}

#[test]
fn fifth_accept_of_six_commits_in_one_round_trip() {
    check(Mode::MultiMaster, 6, "++++", None, None);
    check(Mode::MultiMaster, 6, "+++++", Some(true), None);
}

#[test]
fn four_accepts_and_two_rejects_need_a_second_round() {
    check(Mode::MultiMaster, 6, "++++--", None, Some(Outcome::Commit));
}

#[test]
fn an_even_split_is_aborted_by_a_second_round() {
    check(Mode::MultiMaster, 6, "+++---", None, Some(Outcome::Abort));
}

#[test]
fn fourth_reject_of_six_is_told_at_once() {
    check(Mode::MultiMaster, 6, "----", Some(false), Some(Outcome::Abort));
}

#[test]
fn a_single_master_commits_with_a_write_quorum() {
    check(Mode::SingleMaster, 6, "++++", Some(true), None);
    check(Mode::SingleMaster, 3, "++", Some(true), None);
}

#[test]
fn three_nodes_in_multi_master_need_all_three_for_one_round_trip() {
    check(Mode::MultiMaster, 3, "++", None, None);
    check(Mode::MultiMaster, 3, "+++", Some(true), None);
    check(Mode::MultiMaster, 3, "++-", None, Some(Outcome::Commit));
}

#[test]
fn a_write_quorum_does_not_wait_for_the_last_node_for_ever() {
    let (mut coordinator, txn) = proposed(Mode::MultiMaster, 6);
    let mut out = Vec::new();
    for node in 0..4 {
        coordinator.reply(StorageId(node), Reply::Voted { txn, vote: Vote::Accept }, 1, &mut out);
    }
    coordinator.tick(FAST_PATIENCE_MS + 1, &mut out);
    let second =
        |action: &Action| matches!(action, Action::Broadcast(Request::Accept { value: Outcome::Commit, .. }));
    assert_eq!(out.iter().filter(|action| second(action)).count(), 1);
}

#[test]
fn votes_after_the_decision_change_nothing() {
    let (mut coordinator, txn) = proposed(Mode::SingleMaster, 3);
    let mut out = Vec::new();
    for node in 0..2 {
        coordinator.reply(StorageId(node), Reply::Voted { txn, vote: Vote::Accept }, 1, &mut out);
    }
    out.clear();
    coordinator.reply(StorageId(2), Reply::Voted { txn, vote: Vote::Stale }, 2, &mut out);
    assert_eq!(out, vec![]);
}

#[test]
fn a_later_commit_waits_for_the_earlier_one_of_the_stream() {
    let (mut coordinator, first) = proposed(Mode::SingleMaster, 3);
    let mut out = Vec::new();
    let write = Write { key: Bytes::from_static(b"other"), base: None, value: None };
    let proposal = Proposal { ticket: 8, deps: Vector::new(), writes: vec![write], checks: vec![] };
    coordinator.propose(proposal, 1, &mut out);
    let second = TxnId { seq: Seq(2), ..first };
    out.clear();
    for node in 0..2 {
        coordinator.reply(StorageId(node), Reply::Voted { txn: second, vote: Vote::Accept }, 2, &mut out);
    }
    assert!(!out.iter().any(|action| matches!(action, Action::Finish(..))), "the first is undecided");
    for node in 0..2 {
        coordinator.reply(StorageId(node), Reply::Voted { txn: first, vote: Vote::Accept }, 3, &mut out);
    }
    let order: Vec<u64> = out
        .iter()
        .filter_map(|action| match action {
            Action::Finish(ticket, Finish::Committed(_)) => Some(*ticket),
            _ => None,
        })
        .collect();
    assert_eq!(order, vec![7, 8]);
}

#[test]
fn a_commit_waits_until_what_it_depends_on_is_applied_here() {
    let (mut coordinator, first) = proposed(Mode::SingleMaster, 3);
    let mut out = Vec::new();
    for node in 0..2 {
        coordinator.reply(StorageId(node), Reply::Voted { txn: first, vote: Vote::Accept }, 1, &mut out);
    }
    let (other, to) = (Seat(1), Position { epoch: Epoch(1), seq: Seq(5) });
    let mut deps = Vector::new();
    deps.advance(other, to);
    let write = Write { key: Bytes::from_static(b"other"), base: None, value: None };
    coordinator.propose(Proposal { ticket: 8, deps, writes: vec![write], checks: vec![] }, 1, &mut out);
    let second = TxnId { seq: Seq(2), ..first };
    out.clear();
    for node in 0..2 {
        coordinator.reply(StorageId(node), Reply::Voted { txn: second, vote: Vote::Accept }, 2, &mut out);
    }
    let applies = |out: &[Action]| out.iter().any(|action| matches!(action, Action::Apply(_)));
    assert!(!applies(&out) && finishes(&out).is_empty(), "its effect would be seen before its cause");
    let mut applied = Vector::new();
    applied.advance(other, to);
    coordinator.observe(&applied, 3, &mut out);
    assert!(applies(&out));
    assert_eq!(finishes(&out), vec![(8, true)]);
}

#[test]
fn a_node_that_comes_back_is_told_the_decisions_it_may_have_forgotten() {
    let (mut coordinator, txn) = proposed(Mode::SingleMaster, 3);
    let mut out = Vec::new();
    for node in 0..2 {
        coordinator.reply(StorageId(node), Reply::Voted { txn, vote: Vote::Accept }, 1, &mut out);
    }
    coordinator.node_down(StorageId(1), 2, &mut out);
    out.clear();
    coordinator.node_up(StorageId(1), 3, &mut out);
    let decide = Request::Decide { txn, outcome: Outcome::Commit, body: None };
    assert!(out.contains(&Action::Send(StorageId(1), decide)));
}

/// A second proposal of the same stream.
fn second_proposal(coordinator: &mut Coordinator, first: TxnId, out: &mut Vec<Action>) -> SharedTxn {
    let write = Write { key: Bytes::from_static(b"other"), base: None, value: None };
    let proposal = Proposal { ticket: 8, deps: Vector::new(), writes: vec![write], checks: vec![] };
    coordinator.propose(proposal, 1, out);
    coordinator.open[&TxnId { seq: Seq(2), ..first }].txn.clone()
}

fn finishes(out: &[Action]) -> Vec<(u64, bool)> {
    let finish = |action: &Action| match action {
        Action::Finish(ticket, finish) => Some((*ticket, matches!(finish, Finish::Committed(_)))),
        _ => None,
    };
    out.iter().filter_map(finish).collect()
}

/// The feed tells of an abort only by what follows it. A recovery that pauses at that moment would never hear
/// of it otherwise, and every later commit of the stream would wait for ever.
#[test]
fn what_the_feed_passes_over_was_aborted() {
    let (mut coordinator, first) = proposed(Mode::MultiMaster, 6);
    let mut out = Vec::new();
    let second = second_proposal(&mut coordinator, first, &mut out);
    let ballot = Ballot { round: 9, proposer: RunId(2) };
    coordinator.reply(StorageId(0), Reply::InRecovery { txn: first, ballot }, 2, &mut out);
    let mine = Ballot { round: 10, proposer: RunId(1) };
    let promised = Ballot { round: 11, proposer: RunId(2) };
    coordinator.reply(StorageId(0), Reply::Nack { txn: first, ballot: mine, promised }, 3, &mut out);
    out.clear();
    coordinator.observe_own(&FeedItem::Commit(second), 4, &mut out);
    assert_eq!(finishes(&out), vec![(7, false), (8, true)]);
    assert_eq!(coordinator.in_flight(), 0);
}

#[test]
fn what_the_feed_left_out_is_asked_for_and_not_taken_for_aborted() {
    let (mut coordinator, first) = proposed(Mode::MultiMaster, 6);
    let mut out = Vec::new();
    let second = second_proposal(&mut coordinator, first, &mut out);
    let mut at = Vector::new();
    at.advance(first.seat, first.position());
    out.clear();
    coordinator.observe_jump(&at, 2, &mut out);
    assert!(out.iter().any(|action| matches!(action, Action::Broadcast(Request::Prepare { .. }))));
    out.clear();
    coordinator.observe_own(&FeedItem::Commit(second), 3, &mut out);
    coordinator.observe(&at, 2, &mut Vec::new());
    assert_eq!(finishes(&out), vec![]);
    let settled = Settled::Decided(Outcome::Commit);
    coordinator.reply(StorageId(0), Reply::Settled { txn: first, settled }, 4, &mut out);
    assert_eq!(finishes(&out), vec![(7, true), (8, true)]);
}

/// The generations after storage node 5 came back with a new disk.
fn replaced() -> Generations {
    Generations::default().with(StorageId(5), crate::membership::Generation { number: 1, disk: 77 })
}

#[test]
fn votes_given_before_and_after_a_disk_was_replaced_do_not_count_together() {
    let (mut coordinator, txn) = proposed(Mode::MultiMaster, 6);
    let mut out = Vec::new();
    let accept = |node: u8| (StorageId(node), Reply::Voted { txn, vote: Vote::Accept });
    // The disk that is about to be lost, and three others.
    for (node, reply) in [5, 0, 1, 2].map(accept) {
        coordinator.reply(node, reply, 1, &mut out);
    }
    coordinator.reply(StorageId(3), Reply::Generations(replaced()), 1, &mut out);
    coordinator.reply(accept(3).0, accept(3).1, 1, &mut out);
    let finished = |out: &[Action]| out.iter().any(|action| matches!(action, Action::Finish(..)));
    assert!(!finished(&out), "the fifth accept counts together with the lost disk's");
    // The others learn of it, are asked again and vote as before; the fifth is the new disk's.
    for node in [0, 1, 2, 5] {
        assert!(!finished(&out));
        coordinator.reply(StorageId(node), Reply::Generations(replaced()), 1, &mut out);
        let again = |action: &Action| matches!(action, Action::Send(to, _) if *to == StorageId(node));
        assert!(out.iter().any(again), "node {node} was not asked again");
        coordinator.reply(accept(node).0, accept(node).1, 1, &mut out);
    }
    assert!(finished(&out));
}

#[test]
fn a_node_that_has_not_heard_of_a_replaced_disk_is_told_and_not_counted_until_then() {
    let (mut coordinator, txn) = proposed(Mode::SingleMaster, 6);
    let mut out = Vec::new();
    coordinator.reply(StorageId(0), Reply::Generations(replaced()), 1, &mut out);
    let told = Action::Send(StorageId(1), Request::Generations(replaced()));
    assert!(out.contains(&told));
    assert_eq!(coordinator.nodes_up(), 1);
    for node in 1..6 {
        coordinator.reply(StorageId(node), Reply::Voted { txn, vote: Vote::Accept }, 1, &mut out);
    }
    assert_eq!(coordinator.in_flight(), 1, "answers under older generations were counted");
}

#[test]
fn a_second_round_is_not_completed_across_a_replaced_disk() {
    let (mut coordinator, txn) = proposed(Mode::MultiMaster, 6);
    let mut out = Vec::new();
    for (node, vote) in
        [Vote::Accept, Vote::Accept, Vote::Accept, Vote::Accept, Vote::Stale, Vote::Stale].iter().enumerate()
    {
        let reply = Reply::Voted { txn, vote: vote.clone() };
        coordinator.reply(StorageId(node as u8), reply, 1, &mut out);
    }
    let accepted = Reply::Accepted { txn, ballot: Ballot::COORDINATOR, value: Outcome::Commit };
    for node in [5, 0, 1] {
        coordinator.reply(StorageId(node), accepted.clone(), 1, &mut out);
    }
    coordinator.reply(StorageId(2), Reply::Generations(replaced()), 1, &mut out);
    coordinator.reply(StorageId(2), accepted, 1, &mut out);
    assert!(!out.iter().any(|action| matches!(action, Action::Finish(..))));
    let prepares = |action: &Action| matches!(action, Action::Broadcast(Request::Prepare { .. }));
    assert!(out.iter().any(prepares), "what is not sure is recovered by ballots");
}

#[test]
fn a_recovery_that_waits_for_a_living_writer_begins_at_once_when_that_writer_is_gone() {
    let (mut coordinator, _) = proposed(Mode::SingleMaster, 6);
    let txn = TxnId { seat: Seat(3), epoch: Epoch(1), seq: Seq(1) };
    let asked = |coordinator: &mut Coordinator, patience, now| {
        let mut out = Vec::new();
        coordinator.resolve(txn, patience, now, &mut out);
        coordinator.tick(now, &mut out);
        out.iter().any(|action| matches!(action, Action::Broadcast(Request::Prepare { .. })))
    };
    assert!(!asked(&mut coordinator, 5_000, 10));
    assert!(!asked(&mut coordinator, 5_000, 100), "it still lives");
    assert!(asked(&mut coordinator, 0, 200));
}

#[test]
fn a_proposal_that_too_many_nodes_can_take_nothing_of_is_aborted_by_ballots() {
    for mode in [Mode::SingleMaster, Mode::MultiMaster] {
        let (mut coordinator, txn) = proposed(mode, 6);
        let mut out = Vec::new();
        for node in 0..2 {
            coordinator.reply(StorageId(node), Reply::Voted { txn, vote: Vote::Accept }, 1, &mut out);
        }
        let unable = Reply::Unable { txn, reason: "full".to_owned() };
        for node in 2..6 {
            coordinator.reply(StorageId(node), unable.clone(), 1, &mut out);
        }
        coordinator.tick(UNABLE_PATIENCE_MS - 1, &mut out);
        let prepared = |out: &[Action]| {
            out.iter().find_map(|action| match action {
                Action::Broadcast(Request::Prepare { ballot, .. }) => Some(*ballot),
                _ => None,
            })
        };
        assert_eq!(prepared(&out), None, "they may yet have room");
        coordinator.tick(UNABLE_PATIENCE_MS, &mut out);
        let ballot = prepared(&out).expect("then it is recovered");
        for node in 0..6 {
            let vote = (node < 2).then_some(true);
            let promise = Promise { txn, ballot, vote, accepted: None, body: None, holders: vec![] };
            coordinator.reply(StorageId(node), Reply::Promised(promise), UNABLE_PATIENCE_MS + 1, &mut out);
        }
        coordinator.tick(UNABLE_PATIENCE_MS + 2 + PROMISE_GRACE_MS, &mut out);
        for node in 0..4 {
            let reply = Reply::Accepted { txn, ballot, value: Outcome::Abort };
            coordinator.reply(StorageId(node), reply, UNABLE_PATIENCE_MS + 30, &mut out);
        }
        let finish = Action::Finish(7, Finish::Aborted { stale: false, by: vec![] });
        assert!(out.contains(&finish), "{mode:?}: {out:?}");
    }
}

#[test]
fn a_node_that_votes_after_all_counts_as_able() {
    let (mut coordinator, txn) = proposed(Mode::SingleMaster, 3);
    let mut out = Vec::new();
    for node in 1..3 {
        coordinator.reply(StorageId(node), Reply::Unable { txn, reason: "full".to_owned() }, 1, &mut out);
    }
    for node in 0..2 {
        coordinator.reply(StorageId(node), Reply::Voted { txn, vote: Vote::Accept }, 2, &mut out);
    }
    assert!(out.iter().any(|action| matches!(action, Action::Finish(7, Finish::Committed(_)))));
}

/// Node 3 has no record of the old epoch's transaction, so it could neither tell who holds its slots nor
/// reserve them: a rival may be accepted there and be due to commit in another view. Then each would wait for
/// the other, for ever if two of the first three nodes are lost.
#[test]
fn a_fencer_tells_every_node_of_what_it_has_to_commit_before_it_does() {
    let quorum = Quorum::new(6, Mode::MultiMaster).expect("the size is possible");
    let mut coordinator = Coordinator::new(quorum, RunId(1));
    let mut out = Vec::new();
    for node in 0..4 {
        coordinator.node_up(StorageId(node), 0, &mut out);
    }
    let (seat, epoch) = (Seat(0), Epoch(2));
    coordinator.take(seat, epoch, 0, &mut out);
    let ballot = Ballot { round: 2, proposer: RunId(1) };
    let txn = TxnId { seat, epoch: Epoch(1), seq: Seq(1) };
    let write = Write { key: Bytes::from_static(b"k"), base: None, value: None };
    let body = Arc::new(Txn { id: txn, deps: Vector::new(), writes: vec![write], checks: vec![] });
    out.clear();
    for node in 0..4 {
        let knows = node < 3;
        let promise = crate::wire::Promise {
            txn,
            ballot,
            vote: Some(true),
            accepted: None,
            body: Some(body.clone()),
            holders: vec![],
        };
        let older = knows.then_some(crate::wire::FencedTxn { promise, decided: None });
        let older = older.into_iter().collect();
        let reply = Reply::FenceOk { seat, epoch, ballot, settled: vec![], older, closings: vec![] };
        coordinator.reply(StorageId(node), reply, 1, &mut out);
    }
    let asks = |action: &Action| matches!(action, Action::Broadcast(Request::Prepare { body: Some(_), ballot: again, .. }) if *again > ballot);
    let proposes = |action: &Action| matches!(action, Action::Broadcast(Request::Accept { .. }));
    assert!(out.iter().any(asks), "{out:?}");
    assert!(!out.iter().any(proposes), "{out:?}");
}
