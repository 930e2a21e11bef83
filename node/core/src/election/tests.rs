use super::*;
use crate::ids::{Position, Seq};

const NODES: u8 = 6;

fn run(number: u64) -> RunId {
    RunId(100 + number)
}

fn instance(number: u16, tier: u8) -> InstanceInfo {
    InstanceInfo {
        name: format!("shop-{number}"),
        ordinal: number,
        tier,
        run: run(u64::from(number)),
        role: Role::Reader,
        applied: Vector::new(),
        lag_us: 0,
        silent_ms: 0,
        connected: true,
    }
}

fn seat(epoch: u64, holder: u64, active: bool) -> SeatInfo {
    SeatInfo { seat: WRITER_SEAT, epoch: Epoch(epoch), run: run(holder), active }
}

fn election(me: u64) -> Election {
    Election::new(run(me), Quorum::new(usize::from(NODES), Mode::SingleMaster).expect("six nodes"))
}

/// All nodes see the same.
fn all_see(election: &mut Election, seats: &[SeatInfo], instances: &[InstanceInfo]) {
    for node in 0..NODES {
        election.view(StorageId(node), seats.to_vec(), instances.to_vec());
    }
}

fn writer(mut info: InstanceInfo) -> InstanceInfo {
    info.role = Role::Writer;
    info
}

#[test]
fn a_writer_that_is_heard_stays() {
    let mut me = election(1);
    all_see(&mut me, &[seat(1, 0, true)], &[writer(instance(0, 1)), instance(1, 1)]);
    assert_eq!(me.campaign(10_000), None);
    assert_eq!(me.campaign(20_000), None);
}

#[test]
fn the_first_candidate_goes_at_once_when_the_writer_is_gone_and_the_next_waits() {
    let views = [instance(1, 1), instance(2, 1)];
    let (mut first, mut second) = (election(1), election(2));
    all_see(&mut first, &[seat(1, 0, true)], &views);
    all_see(&mut second, &[seat(1, 0, true)], &views);
    assert_eq!(first.campaign(1_000), Some(Epoch(2)));
    assert_eq!(second.campaign(1_000), None);
    assert_eq!(second.campaign(1_000 + RANK_STEP_MS), Some(Epoch(2)));
}

#[test]
fn a_lower_tier_goes_first() {
    let mut me = election(2);
    all_see(&mut me, &[seat(1, 0, true)], &[instance(1, 5), instance(2, 0)]);
    assert_eq!(me.campaign(1_000), Some(Epoch(2)));
}

#[test]
fn a_candidate_that_is_a_moment_behind_keeps_its_rank() {
    let at = |info: InstanceInfo, seq: u64| {
        let mut applied = Vector::new();
        applied.advance(WRITER_SEAT, Position { epoch: Epoch(1), seq: Seq(seq) });
        InstanceInfo { applied, ..info }
    };
    let mut me = election(1);
    all_see(&mut me, &[seat(1, 0, true)], &[at(instance(1, 1), 500), at(instance(2, 1), 510)]);
    assert_eq!(me.campaign(1_000), Some(Epoch(2)));
    let mut me = election(1);
    all_see(&mut me, &[seat(1, 0, true)], &[at(instance(1, 1), 500), at(instance(2, 1), 500_000)]);
    assert_eq!(me.campaign(1_000), None, "the other one is far ahead");
}

#[test]
fn a_granted_seat_is_waited_for() {
    let mut me = election(1);
    all_see(&mut me, &[seat(2, 2, false)], &[instance(1, 1), instance(2, 1)]);
    assert_eq!(me.campaign(1_000), None);
    assert_eq!(me.campaign(1_000 + OPENING_MS), Some(Epoch(3)));
}

#[test]
fn a_seat_that_rivals_have_divided_is_not_waited_for() {
    let mut me = election(1);
    let views = [instance(1, 1), instance(2, 1)];
    for node in 0..NODES {
        me.view(StorageId(node), vec![seat(2, 1 + u64::from(node % 2), false)], views.to_vec());
    }
    assert_eq!(me.campaign(1_000), Some(Epoch(3)));
    // Four of six can still open it.
    for node in 0..NODES {
        me.view(StorageId(node), vec![seat(3, if node < 4 { 2 } else { 1 }, false)], views.to_vec());
    }
    assert_eq!(me.campaign(1_100), None);
}

#[test]
fn a_writer_that_resigned_is_followed_soon() {
    let mut me = election(1);
    all_see(&mut me, &[seat(1, 0, true)], &[instance(0, 1), instance(1, 1)]);
    assert_eq!(me.campaign(1_000), None);
    assert_eq!(me.campaign(1_000 + RESIGNED_MS), Some(Epoch(2)));
}

#[test]
fn nobody_campaigns_without_a_write_quorum() {
    let mut me = election(1);
    for node in 0..3 {
        me.view(StorageId(node), vec![seat(1, 0, true)], vec![instance(1, 1)]);
    }
    assert_eq!(me.campaign(10_000), None);
}

#[test]
fn a_storage_node_that_is_late_does_not_change_why_the_writer_is_gone() {
    let mut me = election(1);
    let late = InstanceInfo { silent_ms: 0, ..writer(instance(0, 1)) };
    all_see(
        &mut me,
        &[seat(1, 0, true)],
        &[InstanceInfo { silent_ms: 40, ..instance(0, 1) }, instance(1, 1)],
    );
    me.view(StorageId(5), vec![seat(1, 0, true)], vec![late, instance(1, 1)]);
    assert_eq!(me.parting(run(0)), Parting::Resigned);
    let closed = InstanceInfo { connected: false, ..writer(instance(0, 1)) };
    all_see(&mut me, &[seat(1, 0, true)], &[closed, instance(1, 1)]);
    me.view(StorageId(5), vec![seat(1, 0, true)], vec![writer(instance(0, 1)), instance(1, 1)]);
    assert_eq!(me.parting(run(0)), Parting::Disconnected);
    let silent = InstanceInfo { silent_ms: 5_000, ..writer(instance(0, 1)) };
    all_see(&mut me, &[seat(1, 0, true)], &[silent, instance(1, 1)]);
    assert_eq!(me.parting(run(0)), Parting::Silent);
}

#[test]
fn an_undecided_transaction_is_left_to_a_living_single_master_writer_and_to_nobody_once_it_is_gone() {
    let mut me = election(1);
    let txn = |epoch| TxnId { seat: WRITER_SEAT, epoch: Epoch(epoch), seq: Seq(7) };
    all_see(&mut me, &[seat(2, 0, true)], &[writer(instance(0, 1)), instance(1, 1)]);
    assert_eq!(me.patience(txn(2)), WRITER_PATIENCE_MS);
    assert_eq!(me.patience(txn(1)), 0, "of a writer that was replaced");
    all_see(&mut me, &[seat(2, 0, true)], &[instance(1, 1)]);
    assert_eq!(me.patience(txn(2)), 0, "of a writer that is gone");
}

#[test]
fn a_rival_of_a_living_instance_waits_for_a_moment_only() {
    let quorum = Quorum::new(usize::from(NODES), Mode::MultiMaster).expect("six nodes");
    let mut me = Election::new(run(1), quorum);
    let txn = TxnId { seat: WRITER_SEAT, epoch: Epoch(1), seq: Seq(7) };
    all_see(&mut me, &[seat(1, 0, true)], &[writer(instance(0, 1)), writer(instance(1, 1))]);
    assert_eq!(me.patience(txn), RIVAL_PATIENCE_MS);
    all_see(&mut me, &[seat(1, 0, true)], &[writer(instance(1, 1))]);
    assert_eq!(me.patience(txn), 0);
}
