use super::*;
use crate::acceptor::Action as AcceptorAction;
use crate::ids::{Epoch, Seat, Seq, Ver};
use crate::quorum::Mode;

const VOLUME: u64 = 7;
const OWN: StorageId = StorageId(2);
const BEFORE: Generation = Generation { number: 4, disk: 1 };

struct NoRows;

impl Rows for NoRows {
    fn latest(&mut self, _key: &Key) -> Option<Ver> {
        None
    }
}

/// Node 2 of three, and what is around it.
struct World {
    join: Join,
    peers: CatchUp,
    ordering: Ordering,
    applied: Vector,
    now: Millis,
}

impl World {
    fn new() -> World {
        let quorum = Quorum::new(3, Mode::SingleMaster).expect("three nodes");
        let join = Join::new(OWN, quorum, RunId(9), BEFORE, 55, Limits::default());
        let peers = CatchUp::new(OWN, 3);
        World { join, peers, ordering: Ordering::new(), applied: Vector::new(), now: 0 }
    }
    fn status(&mut self, peer: u8, settled: u64) {
        let (peer, membership) = (StorageId(peer), Membership::Member(VOLUME));
        let settled = vec![(Seat(0), Epoch(1), Seq(settled))];
        let closings = Vec::new();
        let reply = Reply::StatusIs { membership, settled: settled.clone(), seats: Vec::new(), closings };
        let mut out = Vec::new();
        let rest = self.join.reply(peer, reply, &self.peers, self.now, &mut out);
        assert!(rest.is_some() && out.is_empty(), "a status is not only its business");
        self.peers.status(peer, membership, settled);
    }
    fn reply(&mut self, peer: u8, reply: Reply) -> Vec<Action> {
        let mut out = Vec::new();
        let rest = self.join.reply(StorageId(peer), reply, &self.peers, self.now, &mut out);
        assert!(rest.is_none(), "it was the business of a disk that joins: {rest:?}");
        out
    }
    fn tick(&mut self, milliseconds: Millis) -> Vec<Action> {
        self.now += milliseconds;
        let mut out = Vec::new();
        let (ordering, peers, applied) = (&self.ordering, &self.peers, &self.applied);
        self.join.tick(Around { ordering, peers, applied, released: true }, self.now, &mut out);
        out
    }
    /// Two members are there, and the new generation is durable.
    fn announced(&mut self) -> Generation {
        self.status(0, 3);
        self.status(1, 5);
        let Some(Action::Announce { volume: VOLUME, generation }) = self.tick(TICK_MS).pop() else {
            panic!("it announces itself to two members");
        };
        let mut out = Vec::new();
        self.join.announced(generation, &self.peers, &mut out);
        assert_eq!(asked(&out), vec![0, 1]);
        generation
    }
    fn report(&mut self, peer: u8, generation: Generation, report: JoinReport) -> Vec<Action> {
        self.reply(peer, Reply::JoinOk { node: OWN, generation, report })
    }
    /// Both members have reported; the number of the question for a copy, and whom it was asked.
    fn reported(&mut self, undecided: &[TxnId]) -> (u8, u64) {
        let generation = self.announced();
        let report = JoinReport { undecided: undecided.to_vec(), ..JoinReport::default() };
        assert!(self.report(0, generation, report).is_empty());
        base_asked(&self.report(1, generation, JoinReport::default()))
    }
    /// All rows are copied.
    fn copied(&mut self, undecided: &[TxnId]) {
        let (from, id) = self.reported(undecided);
        let actions = self.reply(from, Reply::Base { id, checkpoint: checkpoint() });
        let id = block_asked(&actions);
        let actions = self.reply(from, Reply::Block(block(id, Some("m"))));
        assert!(matches!(actions[0], Action::Copy { .. }), "{actions:?}");
        let id = block_asked(&actions);
        let actions = self.reply(from, Reply::Block(block(id, None)));
        assert!(matches!(actions[..], [Action::Copy { .. }]), "{actions:?}");
    }
}

fn checkpoint() -> Checkpoint {
    Acceptor::new(Quorum::new(3, Mode::SingleMaster).expect("three nodes")).base()
}

fn block(id: u64, end: Option<&'static str>) -> Block {
    let end = end.map(|end| Key::from_static(end.as_bytes()));
    Block { id, start: Key::new(), end, rows: Vec::new(), at: Vector::new() }
}

fn asked(actions: &[Action]) -> Vec<u8> {
    let to = |action: &Action| match action {
        Action::Send(to, Request::Join { node: OWN, .. }) => to.0,
        other => panic!("not a question of a disk that joins: {other:?}"),
    };
    actions.iter().map(to).collect()
}

fn base_asked(actions: &[Action]) -> (u8, u64) {
    match actions {
        [.., Action::Send(to, Request::Base { id })] => (to.0, *id),
        other => panic!("no question for a copy: {other:?}"),
    }
}

fn block_asked(actions: &[Action]) -> u64 {
    match actions {
        [.., Action::Send(_, Request::Read(read))] => read.id,
        other => panic!("no question for rows: {other:?}"),
    }
}

fn txn(seq: u64) -> TxnId {
    TxnId { seat: Seat(0), epoch: Epoch(1), seq: Seq(seq) }
}

#[test]
fn nothing_is_announced_before_a_write_quorum_of_members_is_there() {
    let mut world = World::new();
    world.status(0, 3);
    assert!(world.tick(TICK_MS).is_empty());
}

#[test]
fn the_members_hear_of_a_generation_only_once_it_is_durable_and_then_again_and_again() {
    let mut world = World::new();
    let generation = world.announced();
    assert_eq!(generation, Generation { number: BEFORE.number + 1, disk: 55 });
    assert!(world.tick(TICK_MS).is_empty());
    assert_eq!(asked(&world.tick(ASK_AGAIN_MS)), vec![0, 1]);
}

#[test]
fn a_generation_that_could_not_be_made_durable_is_wanted_again() {
    let mut world = World::new();
    world.status(0, 3);
    world.status(1, 5);
    assert!(matches!(world.tick(TICK_MS)[..], [Action::Announce { .. }]));
    assert!(matches!(world.tick(ASK_AGAIN_MS)[..], [Action::Announce { .. }]));
}

#[test]
fn a_generation_that_another_disk_has_is_replaced_by_a_higher_one() {
    let mut world = World::new();
    world.announced();
    let current = Generation { number: 8, disk: 3 };
    assert!(world.reply(0, Reply::JoinNack { node: OWN, current }).is_empty());
    let actions = world.tick(ASK_AGAIN_MS);
    assert!(
        matches!(&actions[..], [Action::Announce { generation, .. }] if generation.number == 9),
        "{actions:?}"
    );
}

#[test]
fn reports_to_an_older_generation_do_not_count() {
    let mut world = World::new();
    let generation = world.announced();
    let older = Generation { number: generation.number - 1, ..generation };
    assert!(world.report(0, older, JoinReport::default()).is_empty());
    assert!(world.report(1, generation, JoinReport::default()).is_empty());
}

#[test]
fn the_first_copy_is_asked_of_whoever_is_furthest_and_the_next_of_another() {
    let mut world = World::new();
    let (first, _) = world.reported(&[]);
    assert_eq!(first, 1);
    let actions = world.tick(Limits::default().answer_ms);
    assert!(matches!(actions[0], Action::Again(Setback::NoAnswer)));
    assert_eq!(base_asked(&actions).0, 0);
}

#[test]
fn when_the_member_that_is_copied_is_gone_another_one_is_asked() {
    let mut world = World::new();
    let (first, _) = world.reported(&[]);
    world.peers.down(StorageId(first));
    let mut out = Vec::new();
    world.join.peer_down(StorageId(first), &world.peers, world.now, &mut out);
    assert!(matches!(out[0], Action::Again(Setback::PeerGone)));
    assert_eq!(base_asked(&out).0, 0);
}

#[test]
fn with_no_reporter_there_it_waits_for_one() {
    let mut world = World::new();
    world.reported(&[]);
    let mut out = Vec::new();
    for peer in [0, 1].map(StorageId) {
        world.peers.down(peer);
        world.join.peer_down(peer, &world.peers, world.now, &mut out);
    }
    assert!(!out.iter().any(|action| matches!(action, Action::Send(..))), "{out:?}");
    assert!(world.join.describe().contains("no member"), "{}", world.join.describe());
    world.status(0, 3);
    assert_eq!(base_asked(&world.tick(ASK_AGAIN_MS)).0, 0);
}

#[test]
fn a_copy_begins_with_the_members_state_then_takes_what_was_reported_and_then_asks_for_rows() {
    let mut world = World::new();
    let generation = world.announced();
    let decided = vec![(txn(6), Outcome::Abort, None)];
    world.report(0, generation, JoinReport { decided, ..JoinReport::default() });
    let (from, id) = base_asked(&world.report(1, generation, JoinReport::default()));
    assert!(!world.join.follows());
    assert!(world.reply(from, Reply::Base { id: id + 1, checkpoint: checkpoint() }).is_empty());
    let mut actions = world.reply(from, Reply::Base { id, checkpoint: checkpoint() });
    assert!(
        matches!(
            &actions[..],
            [Action::Begin(_), Action::Take(Request::Decide { .. }), Action::Send(StorageId(1), Request::Read(_))]
                if world.join.follows()
        ),
        "{actions:?}"
    );
    let Action::Begin(begin) = actions.remove(0) else { panic!("it begins") };
    let quorum = Quorum::new(3, Mode::SingleMaster).expect("three nodes");
    let mut out: Vec<AcceptorAction> = Vec::new();
    let acceptor = begin.acceptor(quorum, &mut NoRows, &mut out);
    assert_eq!(acceptor.generations().get(OWN), generation);
}

#[test]
fn rows_that_a_member_refuses_are_copied_from_another_one() {
    let mut world = World::new();
    let (from, id) = world.reported(&[]);
    let id = block_asked(&world.reply(from, Reply::Base { id, checkpoint: checkpoint() }));
    let refused = |id| Reply::ReadRefused { id, reason: "too old".to_owned() };
    assert!(world.reply(from, refused(id + 1)).is_empty());
    let actions = world.reply(from, refused(id));
    assert!(matches!(&actions[..], [Action::Elsewhere(Setback::Refused(_))]), "{actions:?}");
    assert!(world.tick(TICK_MS).is_empty(), "not at once");
    let actions = world.tick(REFUSED_PAUSE_MS);
    let [Action::Send(StorageId(0), Request::Read(read))] = &actions[..] else { panic!("{actions:?}") };
    assert!(read.newest && world.join.follows());
}

#[test]
fn a_copy_goes_on_where_it_was_when_its_member_is_gone_or_silent() {
    let mut world = World::new();
    let (first, id) = world.reported(&[]);
    let id = block_asked(&world.reply(first, Reply::Base { id, checkpoint: checkpoint() }));
    world.reply(first, Reply::Block(block(id, Some("m"))));
    let goes_on = |actions: &[Action]| match actions {
        [Action::Elsewhere(_), Action::Send(to, Request::Read(read))] => {
            assert_eq!(read.start, Key::from_static(b"m"));
            to.0
        }
        other => panic!("it does not go on: {other:?}"),
    };
    let second = goes_on(&world.tick(Limits::default().answer_ms));
    assert_ne!(first, second);
    world.peers.down(StorageId(second));
    let mut out = Vec::new();
    world.join.peer_down(StorageId(second), &world.peers, world.now, &mut out);
    assert_eq!(goes_on(&out), first);
    world.peers.down(StorageId(first));
    let mut out = Vec::new();
    world.join.peer_down(StorageId(first), &world.peers, world.now, &mut out);
    assert!(matches!(out[..], [Action::Elsewhere(Setback::PeerGone)]), "{out:?}");
    assert!(world.join.describe().contains("waiting for a member"), "{}", world.join.describe());
    world.status(second, 3);
    assert_eq!(block_asked(&world.tick(ASK_AGAIN_MS)), id + 4);
}

#[test]
fn the_disk_is_a_member_once_all_rows_are_durable() {
    let mut world = World::new();
    world.copied(&[]);
    let actions = world.tick(TICK_MS);
    assert!(matches!(actions[..], [Action::Finish(_)]), "{actions:?}");
    assert!(world.tick(TICK_MS).is_empty() && !world.join.follows());
    let mut out = Vec::new();
    world.join.durable(&world.ordering, &mut out);
    assert!(matches!(out[..], [Action::Member { volume: VOLUME, .. }]), "{out:?}");
}

#[test]
fn what_was_reported_as_undecided_is_recovered_before_the_disk_is_a_member() {
    let mut world = World::new();
    world.copied(&[txn(1)]);
    assert!(!world.tick(TICK_MS).iter().any(|action| matches!(action, Action::Finish(_))));
    let asks = |action: &Action| matches!(action, Action::Send(_, Request::Prepare { txn: of, .. }) if *of == txn(1));
    assert!(!world.tick(RESOLVE_AGAIN_MS).iter().any(asks), "its own writer normally decides it");
    assert!(world.tick(RESOLVE_PATIENCE_MS).iter().any(asks));
    world.ordering.open(Seat(0), Epoch(1), &[]);
    world.ordering.settle(txn(1), Outcome::Abort, None);
    world.ordering.drain();
    assert!(world.tick(TICK_MS).iter().all(|action| !matches!(action, Action::Finish(_))), "rows lag behind");
    world.applied = world.ordering.ordered().clone();
    assert!(world.tick(TICK_MS).iter().any(|action| matches!(action, Action::Finish(_))));
}

#[test]
fn a_copy_of_a_member_that_is_stuck_is_given_up() {
    let mut world = World::new();
    world.copied(&[txn(1)]);
    let actions = world.tick(Limits::default().settle_ms);
    assert!(actions.iter().any(|action| matches!(action, Action::Again(Setback::Undecided))), "{actions:?}");
    base_asked(&actions);
}
