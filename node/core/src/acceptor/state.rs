//! What of the acceptor is durable: the records of the log, and the checkpoint that begins each segment.

use crate::ids::{Ballot, Epoch, Key, Outcome, RunId, Seat, Seq, StreamId, TxnId, Vector, Ver};
use crate::membership::{Generations, JoinReport};
use crate::ordering::{Ordering, StreamState};
use crate::txn::SharedTxn;
use crate::wire::codec_macros::{wire_enum, wire_struct};
use crate::wire::{Closing, Vote};

use super::{Acceptor, Action, Rows};

/// One record of the accept log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Everything that is still needed of the records before this one.
    Checkpoint(Checkpoint),
    /// A fast vote.
    Voted {
        /// On this.
        txn: SharedTxn,
        /// What.
        vote: Vote,
    },
    /// A promise.
    Promised {
        /// About this.
        txn: TxnId,
        /// No older ballot.
        ballot: Ballot,
        /// The record, if it came with the question.
        body: Option<SharedTxn>,
    },
    /// A classic accept.
    Accepted {
        /// Of this.
        txn: TxnId,
        /// At this ballot.
        ballot: Ballot,
        /// This outcome.
        value: Outcome,
        /// The record, where known.
        body: Option<SharedTxn>,
    },
    /// A decision.
    Decided {
        /// Of this.
        txn: TxnId,
        /// How.
        outcome: Outcome,
        /// The record, where known.
        body: Option<SharedTxn>,
    },
    /// A fence.
    Fenced {
        /// Of this seat.
        seat: Seat,
        /// For this epoch.
        epoch: Epoch,
        /// Of this run.
        run: RunId,
        /// At this ballot.
        ballot: Ballot,
    },
    /// An accepted closing.
    Closing(Closing),
    /// A chosen closing.
    Activated(Closing),
    /// A new disk took a storage node's number.
    Generations(Generations),
}
wire_enum!(Record {
    1 => Checkpoint(checkpoint),
    2 => Voted { txn, vote },
    3 => Promised { txn, ballot, body },
    4 => Accepted { txn, ballot, value, body },
    5 => Decided { txn, outcome, body },
    6 => Fenced { seat, epoch, run, ballot },
    7 => Closing(closing),
    8 => Activated(closing),
    9 => Generations(generations),
});

/// A seat's durable state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeatCheckpoint {
    /// Which.
    pub seat: Seat,
    /// The highest epoch granted.
    pub granted: Epoch,
    /// To whom.
    pub run: RunId,
    /// At which ballot.
    pub ballot: Ballot,
    /// The epoch whose closing is known to be chosen.
    pub active: Epoch,
    /// Accepted closings.
    pub closings: Vec<Closing>,
}
wire_struct!(SeatCheckpoint { seat, granted, run, ballot, active, closings });

impl SeatCheckpoint {
    /// Adds what another node has promised about the seat. One epoch granted to two runs is granted to none.
    pub(crate) fn merge(&mut self, other: &SeatCheckpoint) {
        match self.granted.cmp(&other.granted) {
            std::cmp::Ordering::Less => (self.granted, self.run) = (other.granted, other.run),
            std::cmp::Ordering::Equal if self.run != other.run => self.run = RunId(0),
            std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => {}
        }
        self.ballot = self.ballot.max(other.ballot);
        for closing in &other.closings {
            if !self.closings.contains(closing) {
                self.closings.push(closing.clone());
            }
        }
    }
}

/// A transaction's durable state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnCheckpoint {
    /// Which.
    pub txn: TxnId,
    /// Fast vote.
    pub vote: Option<Vote>,
    /// Promise.
    pub promised: Ballot,
    /// Classic accept.
    pub accepted: Option<(Ballot, Outcome)>,
    /// Record.
    pub body: Option<SharedTxn>,
}
wire_struct!(TxnCheckpoint { txn, vote, promised, accepted, body });

/// A stream's durable state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamCheckpoint {
    /// Which.
    pub stream: StreamId,
    /// Settled up to here.
    pub settled: Seq,
    /// Aborted ones.
    pub aborted: Vec<Seq>,
    /// Outcomes unknown up to here.
    pub forgotten: Seq,
    /// Its end, if it is closed.
    pub last: Option<Seq>,
}
wire_struct!(StreamCheckpoint { stream, settled, aborted, forgotten, last });

/// A settled transaction that cannot be applied yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AheadCheckpoint {
    /// Which.
    pub txn: TxnId,
    /// How it ended.
    pub outcome: Outcome,
    /// Its record, where known.
    pub body: Option<SharedTxn>,
}
wire_struct!(AheadCheckpoint { txn, outcome, body });

/// The acceptor's whole durable state. Transactions that were ordered before it must be durable in the
/// rows before the log in front of it is dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Everything up to here was handed to the rows.
    pub ordered: Vector,
    /// Seats.
    pub seats: Vec<SeatCheckpoint>,
    /// Streams.
    pub streams: Vec<StreamCheckpoint>,
    /// Settled, not yet applicable.
    pub ahead: Vec<AheadCheckpoint>,
    /// Undecided.
    pub txns: Vec<TxnCheckpoint>,
    /// Committed versions known from certificates or from transactions that the rows may lack.
    pub newer: Vec<(Key, Ver)>,
}
wire_struct!(Checkpoint { ordered, seats, streams, ahead, txns, newer });

impl Acceptor {
    /// The durable state, as one record.
    pub fn checkpoint(&self) -> Checkpoint {
        let mut newer: Vec<(Key, Ver)> = self.newer.iter().map(|(key, ver)| (key.clone(), *ver)).collect();
        newer.sort();
        Checkpoint {
            ordered: self.ordering.ordered().clone(),
            seats: self.checkpoint_seats(),
            streams: self
                .ordering
                .streams()
                .map(|(stream, state)| StreamCheckpoint {
                    stream,
                    settled: state.settled,
                    aborted: state.aborted.iter().copied().collect(),
                    forgotten: state.forgotten,
                    last: state.last,
                })
                .collect(),
            ahead: self
                .ordering
                .ahead()
                .map(|(txn, outcome, body)| AheadCheckpoint { txn, outcome, body })
                .collect(),
            txns: self
                .txns
                .iter()
                .map(|(txn, state)| TxnCheckpoint {
                    txn: *txn,
                    vote: state.vote.clone(),
                    promised: state.promised,
                    accepted: state.accepted,
                    body: state.body.clone(),
                })
                .collect(),
            newer,
        }
    }

    /// The records with which a segment of the log begins: everything older ones still matter for.
    pub fn checkpoint_records(&self) -> Vec<Record> {
        vec![Record::Checkpoint(self.checkpoint()), Record::Generations(self.generations)]
    }

    /// What this node knows to exist, for a disk that joins.
    pub(super) fn report(&self) -> JoinReport {
        JoinReport {
            seats: self.checkpoint_seats(),
            settled: self.settled(),
            decided: self.ordering.ahead().collect(),
            undecided: self.txns.keys().copied().collect(),
        }
    }

    /// A member's state, for a disk that joins: without votes and promises, which are the member's own.
    pub fn base(&self) -> Checkpoint {
        Checkpoint { txns: Vec::new(), ..self.checkpoint() }
    }

    /// Begins as a new disk from a member's [`Acceptor::base`], bound by everything that the reporters have
    /// promised about seats.
    pub fn install(
        &mut self,
        base: Checkpoint,
        seats: &[SeatCheckpoint],
        generations: Generations,
        rows: &mut dyn Rows,
        out: &mut Vec<Action>,
    ) {
        self.restore(Checkpoint { txns: Vec::new(), ..base }, rows, out);
        self.generations = generations;
        for seat in seats {
            let state = self.seats.entry(seat.seat).or_default();
            let mut merged = state.as_checkpoint(seat.seat);
            merged.merge(seat);
            // Whatever opens a later epoch comes with the closing that opened it.
            merged.closings.retain(|closing| closing.epoch >= state.active);
            (state.granted, state.run, state.ballot) = (merged.granted, merged.run, merged.ballot);
            state.closings = merged.closings;
        }
        self.drain(out);
    }

    fn checkpoint_seats(&self) -> Vec<SeatCheckpoint> {
        self.seats.iter().map(|(seat, state)| state.as_checkpoint(*seat)).collect()
    }

    pub(super) fn restore(&mut self, checkpoint: Checkpoint, rows: &mut dyn Rows, out: &mut Vec<Action>) {
        let Checkpoint { ordered, seats, streams, ahead, txns, newer } = checkpoint;
        let generations = self.generations;
        *self = Acceptor { generations, ..Acceptor::new(self.quorum) };
        let opened = seats.iter().map(|seat| (seat.seat, seat.active)).collect();
        let states = streams.into_iter().map(|stream| {
            let state = StreamState {
                settled: stream.settled,
                aborted: stream.aborted.into_iter().collect(),
                forgotten: stream.forgotten,
                last: stream.last,
            };
            (stream.stream, state)
        });
        self.ordering = Ordering::restore(states.collect(), opened, ordered);
        self.newer = newer.into_iter().collect();
        for seat in seats {
            let state = self.seats.entry(seat.seat).or_default();
            state.granted = seat.granted;
            state.run = seat.run;
            state.ballot = seat.ballot;
            state.active = seat.active;
            state.closings = seat.closings;
        }
        for known in ahead {
            self.decide(known.txn, known.outcome, known.body, out);
        }
        for txn in txns {
            // As when it was voted on or accepted; a promise alone teaches nothing.
            let learnt = txn.vote.is_some() || matches!(txn.accepted, Some((_, Outcome::Commit)));
            if let (true, Some(body)) = (learnt, &txn.body) {
                self.learn_bases(&body.clone(), rows, out);
            }
            let state = self.txns.entry(txn.txn).or_default();
            state.vote = txn.vote;
            state.promised = txn.promised;
            state.accepted = txn.accepted;
            state.body = txn.body;
            let (holds, promised, body) = (state.holds(), state.promised, state.body.clone());
            if let (true, Some(body)) = (holds, &body) {
                self.holds.add(body);
            }
            if let (true, Some(body)) = (promised.round >= 2 || self.promised(txn.txn).round >= 2, &body) {
                self.reserves.add(body);
            }
        }
        // A build that left these undecided left the stream standing still.
        for closing in self.closings() {
            self.abort_unlisted(&closing, out);
        }
    }
}
