use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::ids::Position;
use crate::quorum::Mode;
use crate::txn::{Check, Write};

#[derive(Default)]
struct Table(HashMap<Key, Ver>);

impl Rows for Table {
    fn latest(&mut self, key: &Key) -> Option<Ver> {
        self.0.get(key).copied()
    }
}

fn id(seat: u16, seq: u64) -> TxnId {
    TxnId { seat: Seat(seat), epoch: Epoch(1), seq: Seq(seq) }
}

fn ver(height: u64, txn: TxnId) -> Ver {
    Ver { height: Height(height), txn }
}

fn txn(id: TxnId, writes: &[(&str, Option<Ver>)], checks: &[(&str, Option<Ver>)]) -> SharedTxn {
    let key = |name: &str| Bytes::from(name.to_owned());
    Arc::new(Txn {
        id,
        deps: Vector::new(),
        writes: writes
            .iter()
            .map(|(name, base)| Write { key: key(name), base: *base, value: Some(Bytes::from_static(b"v")) })
            .collect(),
        checks: checks.iter().map(|(name, base)| Check { key: key(name), base: *base }).collect(),
    })
}

struct Node {
    acceptor: Acceptor,
    rows: Table,
    log: Vec<Record>,
}

impl Node {
    fn new() -> Node {
        let quorum = Quorum::new(6, Mode::MultiMaster).expect("six nodes are possible");
        Node { acceptor: Acceptor::new(quorum), rows: Table::default(), log: Vec::new() }
    }
    /// The replies to a request; every reply that reveals something new comes after its record.
    fn ask(&mut self, request: Request) -> Vec<Reply> {
        let mut out = Vec::new();
        self.acceptor.handle(request, &mut self.rows, &mut out);
        let mut replies = Vec::new();
        for action in out {
            match action {
                Action::Persist(record) | Action::Note(record) => {
                    assert!(replies.is_empty(), "a record comes after a reply");
                    self.log.push(record);
                }
                Action::Reply(reply) => replies.push(reply),
                Action::Feed(_) | Action::SeatsChanged | Action::GenerationsChanged => {}
            }
        }
        replies
    }
    fn vote(&mut self, txn: &SharedTxn) -> Vote {
        match self.ask(Request::Propose(txn.clone())).as_slice() {
            [Reply::Voted { vote, .. }] => vote.clone(),
            other => panic!("no vote: {other:?}"),
        }
    }
}

fn ballot(round: u32) -> Ballot {
    Ballot { round, proposer: RunId(9) }
}

#[test]
fn first_writer_of_a_slot_is_accepted_and_the_second_is_locked_out() {
    let mut node = Node::new();
    assert_eq!(node.vote(&txn(id(0, 1), &[("x", None)], &[])), Vote::Accept);
    assert_eq!(node.vote(&txn(id(1, 1), &[("x", None)], &[])), Vote::Locked { by: id(0, 1) });
}

#[test]
fn a_vote_is_repeated_not_reconsidered() {
    let mut node = Node::new();
    let loser = txn(id(1, 1), &[("x", None)], &[]);
    node.vote(&txn(id(0, 1), &[("x", None)], &[]));
    let first = node.vote(&loser);
    node.ask(Request::Decide { txn: id(0, 1), outcome: Outcome::Abort, body: None });
    assert_eq!(node.vote(&loser), first);
}

#[test]
fn a_lagging_node_learns_from_a_proposal_and_accepts_it() {
    let mut node = Node::new();
    let first = txn(id(0, 1), &[("x", None)], &[]);
    node.vote(&first);
    // The next writer knows that the first one committed; this node did not.
    assert_eq!(node.vote(&txn(id(1, 1), &[("x", Some(ver(1, id(0, 1))))], &[])), Vote::Accept);
    let known = node.acceptor.ordering().outcome(id(0, 1));
    assert_eq!(known, Some(Settled::Decided(Outcome::Commit)));
}

#[test]
fn a_write_on_an_old_version_is_stale() {
    let mut node = Node::new();
    let first = txn(id(0, 1), &[("x", None)], &[]);
    node.vote(&first);
    node.ask(Request::Decide { txn: first.id, outcome: Outcome::Commit, body: Some(first) });
    assert_eq!(node.vote(&txn(id(1, 1), &[("x", None)], &[])), Vote::Stale);
}

#[test]
fn checkers_share_a_key_and_lock_its_next_writer_out() {
    let mut node = Node::new();
    assert_eq!(node.vote(&txn(id(0, 1), &[("a", None)], &[("x", None)])), Vote::Accept);
    assert_eq!(node.vote(&txn(id(1, 1), &[("b", None)], &[("x", None)])), Vote::Accept);
    assert!(matches!(node.vote(&txn(id(2, 1), &[("x", None)], &[])), Vote::Locked { .. }));
}

#[test]
fn a_second_round_tests_writes_and_not_checks() {
    let mut node = Node::new();
    let writer = txn(id(1, 1), &[("x", None)], &[]);
    let checker = txn(id(0, 1), &[("y", None)], &[("x", None)]);
    node.vote(&writer);
    let accept = |txn: &SharedTxn| Request::Accept {
        txn: txn.id,
        ballot: ballot(1),
        value: Outcome::Commit,
        body: Some(txn.clone()),
    };
    assert!(matches!(node.ask(accept(&checker)).as_slice(), [Reply::Accepted { .. }]));
    let rival = txn(id(2, 1), &[("x", None)], &[]);
    assert!(matches!(node.ask(accept(&rival)).as_slice(), [Reply::Blocked { .. }]));
}

#[test]
fn a_promise_ends_fast_votes_and_reserves_the_slots() {
    let mut node = Node::new();
    let recovered = txn(id(0, 1), &[("x", None)], &[]);
    let prepare = Request::Prepare { txn: recovered.id, ballot: ballot(2), body: Some(recovered.clone()) };
    assert!(matches!(node.ask(prepare).as_slice(), [Reply::Promised(_)]));
    assert!(matches!(node.ask(Request::Propose(recovered)).as_slice(), [Reply::InRecovery { .. }]));
    assert_eq!(node.vote(&txn(id(1, 1), &[("x", None)], &[])), Vote::Reserved { by: id(0, 1) });
}

#[test]
fn an_older_ballot_is_refused() {
    let mut node = Node::new();
    node.ask(Request::Prepare { txn: id(0, 1), ballot: ballot(5), body: None });
    let old = Request::Accept { txn: id(0, 1), ballot: ballot(4), value: Outcome::Abort, body: None };
    assert!(matches!(node.ask(old).as_slice(), [Reply::Nack { promised, .. }] if *promised == ballot(5)));
}

#[test]
fn a_fenced_epoch_gets_no_vote_and_an_epoch_is_granted_to_one_run() {
    let mut node = Node::new();
    let fence = |run: u64| Request::Fence {
        seat: Seat(0),
        epoch: Epoch(2),
        run: RunId(run),
        ballot: Ballot { round: 2, proposer: RunId(run) },
    };
    assert!(matches!(node.ask(fence(1)).as_slice(), [Reply::FenceOk { .. }]));
    assert!(matches!(node.ask(fence(2)).as_slice(), [Reply::FenceNack { .. }]));
    let late = Request::Propose(txn(id(0, 1), &[("x", None)], &[]));
    assert!(matches!(node.ask(late).as_slice(), [Reply::Fenced { .. }]));
}

#[test]
fn a_restart_from_the_log_rebuilds_the_same_state() {
    let mut node = Node::new();
    let first = txn(id(0, 1), &[("x", None)], &[]);
    node.vote(&first);
    node.vote(&txn(id(1, 1), &[("x", None)], &[("y", None)]));
    node.ask(Request::Prepare { txn: id(2, 1), ballot: ballot(3), body: None });
    node.ask(Request::Decide { txn: first.id, outcome: Outcome::Commit, body: None });
    node.ask(Request::Fence { seat: Seat(2), epoch: Epoch(4), run: RunId(7), ballot: ballot(6) });
    let mut restarted = Acceptor::new(node.acceptor.quorum());
    for record in node.log.drain(..) {
        restarted.replay(record, &mut node.rows, &mut Vec::new());
    }
    assert_eq!(restarted.checkpoint(), node.acceptor.checkpoint());
}

#[test]
fn a_member_reports_what_exists_to_a_new_disk_and_makes_the_new_generation_durable_first() {
    let mut node = Node::new();
    let open = txn(id(0, 1), &[("x", None)], &[]);
    node.vote(&open);
    node.ask(Request::Decide { txn: id(1, 2), outcome: Outcome::Abort, body: None });
    let generation = Generation { number: 1, disk: 5 };
    let join = Request::Join { node: StorageId(3), generation };
    let replies = node.ask(join.clone());
    let [Reply::JoinOk { report, .. }] = replies.as_slice() else { panic!("no report: {replies:?}") };
    assert_eq!(report.undecided, vec![id(0, 1)]);
    assert_eq!(report.decided, vec![(id(1, 2), Outcome::Abort, None)]);
    let now = Generations::default().with(StorageId(3), generation);
    assert_eq!(node.log.last(), Some(&Record::Generations(now)));
    // Asked again, it reports again; another disk of the same generation is refused.
    assert!(matches!(node.ask(join).as_slice(), [Reply::JoinOk { .. }]));
    let other = Request::Join { node: StorageId(3), generation: Generation { number: 1, disk: 6 } };
    assert_eq!(node.ask(other), vec![Reply::JoinNack { node: StorageId(3), current: generation }]);
}

#[test]
fn generations_survive_a_restart_from_a_checkpoint() {
    let mut node = Node::new();
    let generations = Generations::default().with(StorageId(1), Generation { number: 2, disk: 9 });
    node.ask(Request::Generations(generations));
    let quorum = Quorum::new(6, Mode::MultiMaster).expect("six nodes are possible");
    for records in [node.log.clone(), node.acceptor.checkpoint_records()] {
        let mut again = Acceptor::new(quorum);
        for record in records {
            again.replay(record, &mut node.rows, &mut Vec::new());
        }
        assert_eq!(again.generations(), generations);
    }
}

#[test]
fn a_new_disk_is_bound_by_what_the_reporters_promised_about_a_seat() {
    let (mut member, mut reporter) = (Node::new(), Node::new());
    let (seat, epoch, run) = (Seat(0), Epoch(4), RunId(9));
    reporter.ask(Request::Fence { seat, epoch, run, ballot: ballot(3) });
    let join = Request::Join { node: StorageId(2), generation: Generation { number: 1, disk: 1 } };
    let mut joiner = crate::membership::Joiner::new(Quorum::new(6, Mode::MultiMaster).expect("six"));
    for (from, node) in [(0, &mut member), (1, &mut reporter)] {
        let Some(Reply::JoinOk { report, .. }) = node.ask(join.clone()).pop() else { panic!("no report") };
        joiner.reported(StorageId(from), report);
    }
    let mut new = Node::new();
    let (base, seats) = (member.acceptor.base(), joiner.seats());
    new.acceptor.install(base, &seats, member.acceptor.generations(), &mut new.rows, &mut Vec::new());
    let old = txn(id(0, 7), &[("x", None)], &[]);
    assert_eq!(new.ask(Request::Propose(old)), vec![Reply::Fenced { txn: id(0, 7), epoch }]);
    let rival = Request::Fence { seat, epoch, run: RunId(8), ballot: ballot(9) };
    assert!(matches!(new.ask(rival).as_slice(), [Reply::FenceNack { .. }]));
}

#[test]
fn a_node_that_has_not_heard_of_an_epoch_does_not_claim_its_stream() {
    let mut node = Node::new();
    let first = txn(id(0, 1), &[("a", None)], &[]);
    node.ask(Request::Decide { txn: first.id, outcome: Outcome::Commit, body: Some(first.clone()) });
    assert_eq!(node.acceptor.settled(), vec![], "a peer would take it for one that has the closing");
    let (seat, epoch, run, ballot) = (Seat(0), Epoch(1), RunId(1), Ballot { round: 2, proposer: RunId(1) });
    let closing = Closing { seat, epoch, run, ballot, settled: vec![], listed: vec![], bodies: vec![] };
    node.ask(Request::Activated(closing));
    assert_eq!(node.acceptor.settled(), vec![(seat, epoch, Seq(1))]);
}

fn closing(epoch: u64, round: u32, settled: &[(u64, u64)], listed: &[(TxnId, Outcome)]) -> Closing {
    Closing {
        seat: Seat(0),
        epoch: Epoch(epoch),
        run: RunId(epoch),
        ballot: Ballot { round, proposer: RunId(epoch) },
        settled: settled.iter().map(|(epoch, seq)| (Epoch(*epoch), Seq(*seq))).collect(),
        listed: listed.to_vec(),
        bodies: Vec::new(),
    }
}

/// A reader recovered the first transaction after the fencer had taken its view, in which no node knew of it;
/// the second is listed. Both are settled here by the time the closing comes.
#[test]
fn a_closing_that_leaves_out_a_commit_is_refused_even_if_it_lists_what_follows() {
    let mut node = Node::new();
    node.ask(Request::Activated(closing(1, 2, &[], &[])));
    let (first, second) = (txn(id(0, 1), &[("x", None)], &[]), txn(id(0, 2), &[("y", None)], &[]));
    for txn in [&first, &second] {
        node.ask(Request::Decide { txn: txn.id, outcome: Outcome::Commit, body: Some(txn.clone()) });
    }
    assert_eq!(node.acceptor.settled(), vec![(Seat(0), Epoch(1), Seq(2))]);
    let leaves_out = closing(2, 3, &[(1, 0)], &[(second.id, Outcome::Commit)]);
    let replies = node.ask(Request::Activate(leaves_out));
    assert!(matches!(replies.as_slice(), [Reply::ActivateNack { .. }]), "{replies:?}");
    let names_both = closing(2, 4, &[(1, 0)], &[(first.id, Outcome::Commit), (second.id, Outcome::Commit)]);
    let replies = node.ask(Request::Activate(names_both));
    assert!(matches!(replies.as_slice(), [Reply::ActivateOk { .. }]), "{replies:?}");
}

/// The next epoch's fencer found the first one settled, as aborted, at a node that may be gone by now. Without
/// the ABORT that was accepted here a late vote for it elsewhere would look like a commit.
#[test]
fn an_accepted_abort_outlives_the_closing_it_came_with() {
    let mut node = Node::new();
    node.ask(Request::Activated(closing(1, 2, &[], &[])));
    let (first, second) = (id(0, 1), id(0, 2));
    let replies = node.ask(Request::Activate(closing(2, 3, &[(1, 0)], &[(second, Outcome::Commit)])));
    assert!(matches!(replies.as_slice(), [Reply::ActivateOk { .. }]), "{replies:?}");
    node.ask(Request::Activated(closing(3, 4, &[(1, 2)], &[])));
    let replies = node.ask(Request::Prepare { txn: first, ballot: ballot(9), body: None });
    let [Reply::Promised(promise)] = replies.as_slice() else { panic!("no promise: {replies:?}") };
    let of_closing = Ballot { round: 3, proposer: RunId(2) };
    assert_eq!(promise.accepted, Some((of_closing, Outcome::Abort)));
}

/// The first proposal of a writer that died reached no node, the second one did and is listed: nobody would ever
/// decide the first.
#[test]
fn a_chosen_closing_aborts_what_nobody_has_a_record_of() {
    let mut node = Node::new();
    node.ask(Request::Activated(closing(1, 2, &[], &[])));
    node.ask(Request::Activated(closing(2, 3, &[(1, 0)], &[(id(0, 2), Outcome::Abort)])));
    let aborted = Some(Settled::Decided(Outcome::Abort));
    assert_eq!(node.acceptor.ordering().outcome(id(0, 1)), aborted);
    let begin = Position { epoch: Epoch(2), seq: Seq(0) };
    assert_eq!(node.acceptor.ordering().ordered().get(Seat(0)), begin, "the next epoch has begun");
    assert!(node.acceptor.ordering().missing(1).is_empty());
}

/// Two runs campaigned for one epoch, and this node granted it to the one that lost.
#[test]
fn an_open_epoch_belongs_to_the_run_that_opened_it() {
    let mut node = Node::new();
    let loser = Ballot { round: 2, proposer: RunId(9) };
    node.ask(Request::Fence { seat: Seat(0), epoch: Epoch(2), run: RunId(9), ballot: loser });
    node.ask(Request::Activated(closing(2, 3, &[], &[])));
    let holder = SeatInfo { seat: Seat(0), epoch: Epoch(2), run: RunId(2), active: true };
    assert_eq!(node.acceptor.seats(), vec![holder]);
}
