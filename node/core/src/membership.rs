//! Which disk stands behind each storage node's number, and how a new disk comes in.
//!
//! A node whose disk is lost has lost its votes and promises. Its number may be used again only by rules that
//! keep every quorum argument true (`docs/rfcs/0005-readmission.md`):
//!
//! - Each number has a *generation*: it grows when a new disk takes the number. All generations together,
//!   [`Generations`], only grow, durably, at every node, and every node tells them before what it says next.
//! - Answers count together only if they were given under the same generations. So no vote of a lost disk is
//!   added to a vote that was given after its successor was announced.
//! - A new disk is announced to the members ([`crate::wire::Request::Join`]). A write quorum of them *reports*
//!   every transaction it knows to exist. What the lost disk helped to choose is among them, since whoever
//!   counted its votes also counted votes of nodes that report.
//! - The new disk votes only when it knows the outcome of all that was reported, with the rows: then it says
//!   nothing that the lost one could have contradicted.

use std::collections::{BTreeMap, BTreeSet};

use crate::acceptor::SeatCheckpoint;
use crate::ids::{Epoch, Outcome, Seat, Seq, StorageId, StreamId, TxnId};
use crate::ordering::Ordering;
use crate::quorum::Quorum;
use crate::txn::SharedTxn;
use crate::wire::codec_macros::wire_struct;
use crate::wire::{DecodeError, Reader, Wire};

/// The most storage nodes a volume has.
pub const NODES_MAX: usize = 6;

/// One disk behind a storage node's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation {
    /// How many disks came before it.
    pub number: u64,
    /// Random name of the disk: two that claim one number are told apart. 0 for the first generation.
    pub disk: u64,
}
wire_struct!(Generation { number, disk });

/// The disks behind all numbers of a volume. Grows only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Generations([Generation; NODES_MAX]);

impl Generations {
    /// The disk behind a number.
    pub fn get(&self, node: StorageId) -> Generation {
        self.0.get(usize::from(node.0)).copied().unwrap_or_default()
    }
    /// The same with another disk behind one number.
    #[must_use]
    pub fn with(mut self, node: StorageId, generation: Generation) -> Generations {
        if let Some(entry) = self.0.get_mut(usize::from(node.0)) {
            *entry = generation;
        }
        self
    }
    /// What is known to somebody who knows both.
    #[must_use]
    pub fn join(mut self, other: &Generations) -> Generations {
        for (own, theirs) in self.0.iter_mut().zip(&other.0) {
            *own = (*own).max(*theirs);
        }
        self
    }
}

impl Wire for Generations {
    fn put(&self, out: &mut bytes::BytesMut) {
        self.0.iter().for_each(|generation| generation.put(out));
    }
    fn get(from: &mut Reader) -> Result<Generations, DecodeError> {
        let mut generations = Generations::default();
        for entry in &mut generations.0 {
            *entry = Wire::get(from)?;
        }
        Ok(generations)
    }
}

/// What a member tells a new disk: everything that it knows to exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinReport {
    /// Grants, fences and closings.
    pub seats: Vec<SeatCheckpoint>,
    /// How far each stream is settled.
    pub settled: Vec<(Seat, Epoch, Seq)>,
    /// Decisions beyond that, with the records of commits where they are known.
    pub decided: Vec<(TxnId, Outcome, Option<SharedTxn>)>,
    /// Transactions that are undecided here, with any record: a vote, a promise, an accepted value.
    pub undecided: Vec<TxnId>,
}
wire_struct!(JoinReport { seats, settled, decided, undecided });

/// A new disk on its way in.
pub struct Joiner {
    quorum: Quorum,
    reports: BTreeMap<StorageId, JoinReport>,
}

impl Joiner {
    /// Nobody has reported yet.
    pub fn new(quorum: Quorum) -> Joiner {
        Joiner { quorum, reports: BTreeMap::new() }
    }
    /// A member's report. A later one of the same member does not replace it: what counts is what it knew when
    /// it learnt of the new disk, and it still knows that.
    pub fn reported(&mut self, from: StorageId, report: JoinReport) {
        self.reports.entry(from).or_insert(report);
    }
    /// Who has reported.
    pub fn reporters(&self) -> impl Iterator<Item = StorageId> + '_ {
        self.reports.keys().copied()
    }
    /// Every decision that was reported.
    pub fn decided(&self) -> impl Iterator<Item = (TxnId, Outcome, Option<SharedTxn>)> + '_ {
        self.reports.values().flat_map(|report| report.decided.iter().cloned())
    }
    /// Whether enough members have reported.
    pub fn complete(&self) -> bool {
        self.reports.len() >= self.quorum.write()
    }
    /// Grants and fences of every seat, of all reports together: no older ballot or epoch may be accepted.
    ///
    /// Nodes can have granted one epoch to different runs. Then the lost disk may have granted it to either,
    /// and its successor grants it to nobody.
    pub fn seats(&self) -> Vec<SeatCheckpoint> {
        let mut merged: BTreeMap<Seat, SeatCheckpoint> = BTreeMap::new();
        for seat in self.reports.values().flat_map(|report| &report.seats) {
            merged.entry(seat.seat).and_modify(|have| have.merge(seat)).or_insert_with(|| seat.clone());
        }
        merged.into_values().collect()
    }
    /// Reported transactions whose outcome (and record, if they committed) is not known here yet: while there
    /// are any, or while [`Joiner::behind`], the disk does not vote.
    pub fn outstanding(&self, ordering: &Ordering) -> Vec<TxnId> {
        let decided = self.reports.values().flat_map(|report| report.decided.iter().map(|(txn, ..)| *txn));
        let undecided = self.reports.values().flat_map(|report| report.undecided.iter().copied());
        let all: BTreeSet<TxnId> = decided.chain(undecided).collect();
        all.into_iter().filter(|txn| !ordering.complete(*txn)).collect()
    }
    /// Whether some reporter had settled more of a stream, or opened a later epoch of a seat, than is settled
    /// or open here; or whether an earlier epoch of a seat is not settled to its end here.
    pub fn behind(&self, ordering: &Ordering) -> bool {
        let behind = |report: &JoinReport| {
            let settled = |(seat, epoch, seq): &(Seat, Epoch, Seq)| {
                ordering.settled(StreamId { seat: *seat, epoch: *epoch }) < *seq
            };
            let opened = |seat: &SeatCheckpoint| ordering.opened(seat.seat) < seat.active;
            report.settled.iter().any(settled) || report.seats.iter().any(opened)
        };
        // What earlier epochs left is decided: an ABORT that the lost disk accepted with a closing is not listed.
        let unfinished = |(seat, epoch): (Seat, Epoch)| ordering.ordered().get(seat).epoch < epoch;
        self.reports.values().any(behind) || ordering.all_opened().any(unfinished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Ballot, RunId};
    use crate::quorum::Mode;

    fn seat(granted: u64, run: u64, round: u32) -> SeatCheckpoint {
        let ballot = Ballot { round, proposer: RunId(run) };
        let (granted, run, active) = (Epoch(granted), RunId(run), Epoch(0));
        SeatCheckpoint { seat: Seat(0), granted, run, ballot, active, closings: Vec::new() }
    }

    fn joiner(seats: &[SeatCheckpoint]) -> Joiner {
        let mut joiner = Joiner::new(Quorum::new(6, Mode::SingleMaster).expect("six nodes"));
        for (node, seat) in (0..).zip(seats) {
            joiner
                .reported(StorageId(node), JoinReport { seats: vec![seat.clone()], ..JoinReport::default() });
        }
        joiner
    }

    #[test]
    fn generations_of_two_joiners_meet_in_one_value() {
        let one = Generations::default().with(StorageId(1), Generation { number: 1, disk: 7 });
        let two = Generations::default().with(StorageId(2), Generation { number: 1, disk: 9 });
        assert_eq!(one.join(&two), two.join(&one));
        assert_eq!(one.join(&two).get(StorageId(1)).disk, 7);
        assert_eq!(
            one.join(&one.with(StorageId(1), Generation { number: 2, disk: 1 })).get(StorageId(1)).number,
            2
        );
    }

    #[test]
    fn the_highest_grant_and_the_highest_ballot_of_all_reports_bind_the_new_disk() {
        let merged = joiner(&[seat(4, 8, 3), seat(5, 9, 2), seat(5, 9, 2)]).seats();
        assert_eq!((merged[0].granted, merged[0].run, merged[0].ballot.round), (Epoch(5), RunId(9), 3));
    }

    #[test]
    fn an_epoch_that_was_granted_to_two_runs_is_granted_to_neither() {
        let merged = joiner(&[seat(5, 8, 2), seat(5, 9, 2), seat(4, 8, 1)]).seats();
        assert_eq!((merged[0].granted, merged[0].run), (Epoch(5), RunId(0)));
    }

    #[test]
    fn three_reports_of_six_are_not_enough() {
        assert!(!joiner(&[seat(1, 1, 1), seat(1, 1, 1), seat(1, 1, 1)]).complete());
        assert!(joiner(&[seat(1, 1, 1), seat(1, 1, 1), seat(1, 1, 1), seat(1, 1, 1)]).complete());
    }
}
