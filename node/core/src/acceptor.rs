//! A storage node's side of the protocol: votes, promises, fences, decisions.
//!
//! Rules: `docs/rfcs/0001-commit-protocol.md`, sections 3 to 5, 8 and 9 with part two. In short:
//!
//! - A vote is durable before it is sent and never changes. An accepted transaction *holds* the slots it
//!   writes and checks until it is decided, and for nothing else.
//! - A proposal certifies its bases as committed, so a node that lags learns from it and does not reject it.
//! - A promise or a classic accept ends fast voting for its transaction, and reserves its slots against fast
//!   votes of others.
//! - A COMMIT in any ballot is accepted only if no other holder conflicts with its *writes*.
//! - A fence is a promise for every transaction of the seat's older epochs, known or not; an accepted
//!   closing is an accepted ABORT for those that its list does not name.
//!
//! Invariants: at most one undecided transaction holds a slot for writing; a settled transaction is never
//! voted on again.
//!
//! [`Acceptor::handle`] and [`Acceptor::replay`] run the same code, so that what a restart rebuilds from
//! the log is what was there. What must be durable first is an [`Action::Persist`]: every reply that comes
//! after it in the list waits for it.

#[cfg(test)]
mod golden;
mod state;
#[cfg(test)]
mod tests;

pub use state::{Checkpoint, Record, SeatCheckpoint};

use std::collections::{BTreeMap, VecDeque};

use smallvec::SmallVec;

use crate::ids::{
    Ballot, Epoch, Height, Key, KeyMap, Outcome, RunId, Seat, Seq, StorageId, StreamId, TxnId, Vector, Ver,
};
use crate::membership::{Generation, Generations};
use crate::mistakes::{self, Mistake};
use crate::ordering::Ordering;
use crate::quorum::Quorum;
use crate::txn::{SharedTxn, Txn};
use crate::wire::{Closing, FeedItem, FencedTxn, Promise, Reply, Request, SeatInfo, Settled, Vote};

/// What the acceptor needs to know of the rows that have been applied.
pub trait Rows {
    /// The newest version of the key among everything applied (tombstones count).
    fn latest(&mut self, key: &Key) -> Option<Ver>;
}

/// What the node has to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Append to the log and make durable before any later [`Action::Reply`] is sent.
    Persist(Record),
    /// Append to the log; need not be durable before anything.
    Note(Record),
    /// Send to whoever asked.
    Reply(Reply),
    /// Decided, in an order in which it can be applied: to the rows and to every subscriber.
    Feed(Vec<FeedItem>),
    /// A seat changed hands: tell every instance.
    SeatsChanged,
    /// A new disk took a storage node's number: tell everybody connected ([`Reply::Generations`]) before any
    /// later reply.
    GenerationsChanged,
}

#[derive(Default)]
struct TxnState {
    vote: Option<Vote>,
    promised: Ballot,
    accepted: Option<(Ballot, Outcome)>,
    body: Option<SharedTxn>,
}

impl TxnState {
    fn holds(&self) -> bool {
        self.vote == Some(Vote::Accept) || matches!(self.accepted, Some((_, Outcome::Commit)))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Claim {
    Write(Height),
    Check(Height),
}

impl Claim {
    /// Both write one slot, or one writes the slot that follows the height the other checks.
    fn conflicts(self, other: Claim) -> bool {
        match (self, other) {
            (Claim::Write(mine), Claim::Write(theirs)) => mine == theirs,
            (Claim::Write(write), Claim::Check(check)) | (Claim::Check(check), Claim::Write(write)) => {
                write.0 == check.0 + 1
            }
            (Claim::Check(_), Claim::Check(_)) => false,
        }
    }
}

/// Which undecided transactions claim which keys.
#[derive(Default)]
struct Claims(KeyMap<SmallVec<[(TxnId, Claim); 2]>>);

impl Claims {
    fn add(&mut self, txn: &Txn) {
        for (key, claim) in claims(txn) {
            let entry = self.0.entry(key.clone()).or_default();
            if !entry.iter().any(|(id, _)| *id == txn.id) {
                entry.push((txn.id, claim));
            }
        }
    }
    fn remove(&mut self, txn: &Txn) {
        for (key, _) in claims(txn) {
            if let Some(entry) = self.0.get_mut(key) {
                entry.retain(|(id, _)| *id != txn.id);
                if entry.is_empty() {
                    self.0.remove(key);
                }
            }
        }
    }
    fn against<'a>(&'a self, txn: &'a Txn, writes_only: bool) -> impl Iterator<Item = TxnId> + 'a {
        claims(txn)
            .filter(move |(_, claim)| !writes_only || matches!(claim, Claim::Write(_)))
            .filter_map(|(key, claim)| Some((claim, self.0.get(key)?)))
            .flat_map(move |(claim, held)| {
                held.iter()
                    .filter(move |(id, other)| *id != txn.id && claim.conflicts(*other))
                    .map(|(id, _)| *id)
            })
    }
}

fn claims(txn: &Txn) -> impl Iterator<Item = (&Key, Claim)> {
    let writes = txn.writes.iter().map(|write| (&write.key, Claim::Write(write.height())));
    writes.chain(txn.checks.iter().map(|check| (&check.key, Claim::Check(check.height()))))
}

#[derive(Default)]
struct SeatState {
    granted: Epoch,
    run: RunId,
    ballot: Ballot,
    /// Accepted closings; the one by which `active` began is kept, older ones are not.
    closings: Vec<Closing>,
    active: Epoch,
}

impl SeatState {
    fn as_checkpoint(&self, seat: Seat) -> SeatCheckpoint {
        SeatCheckpoint {
            seat,
            granted: self.granted,
            run: self.run,
            ballot: self.ballot,
            active: self.active,
            closings: self.closings.clone(),
        }
    }
}

/// The state machine of one storage node.
pub struct Acceptor {
    quorum: Quorum,
    txns: BTreeMap<TxnId, TxnState>,
    holds: Claims,
    reserves: Claims,
    newer: KeyMap<Ver>,
    unapplied: VecDeque<SharedTxn>,
    seats: BTreeMap<Seat, SeatState>,
    generations: Generations,
    ordering: Ordering,
    /// True once a record was replayed: later checkpoints repeat what is known then.
    replayed: bool,
}

impl Acceptor {
    /// A member of a new volume.
    pub fn new(quorum: Quorum) -> Acceptor {
        Acceptor {
            quorum,
            txns: BTreeMap::new(),
            holds: Claims::default(),
            reserves: Claims::default(),
            newer: KeyMap::default(),
            unapplied: VecDeque::new(),
            seats: BTreeMap::new(),
            generations: Generations::default(),
            ordering: Ordering::new(),
            replayed: false,
        }
    }
    /// The volume's quorums.
    pub fn quorum(&self) -> Quorum {
        self.quorum
    }
    /// What is ordered, and what is missing for more.
    pub fn ordering(&self) -> &Ordering {
        &self.ordering
    }
    /// The disks behind the storage nodes' numbers, as far as this node knows.
    pub fn generations(&self) -> Generations {
        self.generations
    }
    /// True if an undecided transaction has a record here: a vote, a promise or an accepted value.
    pub fn has_state(&self, txn: TxnId) -> bool {
        self.txns.contains_key(&txn)
    }
    /// How many undecided transactions have a record here.
    pub fn undecided(&self) -> usize {
        self.txns.len()
    }
    /// Who holds which seat.
    pub fn seats(&self) -> Vec<SeatInfo> {
        let info = |(seat, state): (&Seat, &SeatState)| SeatInfo {
            seat: *seat,
            epoch: state.granted,
            run: state.run,
            active: state.active == state.granted && state.active > Epoch(0),
        };
        self.seats.iter().map(info).collect()
    }
    /// The newest epoch of a seat that this node has granted or heard of; 0: none.
    pub fn granted(&self, seat: Seat) -> Epoch {
        self.seats.get(&seat).map_or(Epoch(0), |state| state.granted)
    }
    /// The closing by which each seat's present epoch began, for nodes that missed it.
    pub fn closings(&self) -> Vec<Closing> {
        let active =
            |state: &SeatState| state.closings.iter().find(|closing| closing.epoch == state.active).cloned();
        self.seats.values().filter_map(active).collect()
    }
    /// How far each stream is settled. A stream whose beginning this node has not heard of is not among them,
    /// even if it knows some of its decisions: peers conclude from it which closings the node has.
    pub fn settled(&self) -> Vec<(Seat, Epoch, Seq)> {
        let active = |seat: Seat| self.seats.get(&seat).map_or(Epoch(0), |state| state.active);
        let opened = self.ordering.streams().filter(|(id, _)| id.epoch <= active(id.seat));
        opened.map(|(id, state)| (id.seat, id.epoch, state.settled)).collect()
    }
    /// Forgets versions of the overlay that the rows have as well: a checkpoint repeats some of them.
    pub fn forget_applied(&mut self, rows: &mut dyn Rows) {
        self.newer.retain(|key, ver| rows.latest(key).is_none_or(|latest| latest.height < ver.height));
    }
    /// The rows now include everything up to `applied`: the overlay of newer versions can shrink.
    pub fn applied(&mut self, applied: &Vector) {
        while let Some(txn) = self.unapplied.front().filter(|txn| applied.sees(txn.id)) {
            for write in &txn.writes {
                if self.newer.get(&write.key).is_some_and(|ver| ver.txn == txn.id) {
                    self.newer.remove(&write.key);
                }
            }
            self.unapplied.pop_front();
        }
    }
    /// Takes a request of the protocol and appends what is to be done about it. Requests that are not the
    /// acceptor's (rows, feeds, heartbeats) are ignored.
    pub fn handle(&mut self, request: Request, rows: &mut dyn Rows, out: &mut Vec<Action>) {
        match request {
            Request::Propose(txn) => self.propose(txn, rows, out),
            Request::Accept { txn, ballot, value, body } => self.accept(txn, ballot, value, body, rows, out),
            Request::Prepare { txn, ballot, body } => self.prepare(txn, ballot, body, out),
            Request::Decide { txn, outcome, body } => self.decide(txn, outcome, body, out),
            Request::Fence { seat, epoch, run, ballot } => self.fence(seat, epoch, run, ballot, out),
            Request::Activate(closing) => self.activate(closing, out),
            Request::Activated(closing) => self.activated(closing, out),
            Request::ReadIndex { id, holds } => self.read_index(id, holds, out),
            Request::Generations(generations) => {
                self.raise(generations, out);
                out.push(Action::Reply(Reply::Generations(self.generations)));
            }
            Request::Join { node, generation } => self.join(node, generation, out),
            Request::Hello { .. }
            | Request::Heartbeat { .. }
            | Request::Subscribe { .. }
            | Request::Read(_)
            | Request::Fetch { .. }
            | Request::Digest { .. }
            | Request::Status { .. }
            | Request::Base { .. } => {}
        }
        self.drain(out);
    }
    /// Takes a record of the log after a restart. Of the actions only [`Action::Feed`] matters then.
    pub fn replay(&mut self, record: Record, rows: &mut dyn Rows, out: &mut Vec<Action>) {
        match record {
            Record::Checkpoint(_) if self.replayed => {}
            Record::Checkpoint(checkpoint) => self.restore(checkpoint, rows, out),
            Record::Voted { txn, vote } => {
                if self.ordering.outcome(txn.id).is_none() {
                    self.learn_bases(&txn, rows, out);
                    self.set_vote(&txn, vote);
                }
            }
            Record::Accepted { txn, ballot, value, body } => {
                if self.ordering.outcome(txn).is_none() {
                    if let (Outcome::Commit, Some(body)) = (value, &body) {
                        self.learn_bases(&body.clone(), rows, out);
                    }
                    self.set_accepted(txn, ballot, value, body);
                }
            }
            Record::Promised { txn, ballot, body } => {
                if self.ordering.outcome(txn).is_none() {
                    self.set_promised(txn, ballot, body);
                }
            }
            Record::Decided { txn, outcome, body } => self.decide(txn, outcome, body, out),
            Record::Fenced { seat, epoch, run, ballot } => self.set_fence(seat, epoch, run, ballot),
            Record::Closing(closing) => self.set_closing(closing, out),
            Record::Activated(closing) => self.activated(closing, out),
            Record::Generations(generations) => self.generations = self.generations.join(&generations),
        }
        self.replayed = true;
        self.drain(out);
    }

    /// What is known of a transaction that somebody asks about.
    fn known(&self, txn: TxnId) -> Option<Settled> {
        match mistakes::made(Mistake::DecisionForgotten) {
            true => None,
            false => self.ordering.outcome(txn),
        }
    }

    // ---- fast votes (section 4) ----

    fn propose(&mut self, txn: SharedTxn, rows: &mut dyn Rows, out: &mut Vec<Action>) {
        if let Some(settled) = self.known(txn.id) {
            if settled == Settled::Decided(Outcome::Commit) {
                self.decide(txn.id, Outcome::Commit, Some(txn.clone()), out); // the record may have been missing
            }
            return out.push(Action::Reply(Reply::Settled { txn: txn.id, settled }));
        }
        let granted = self.granted(txn.id.seat);
        if txn.id.epoch < granted {
            return out.push(Action::Reply(Reply::Fenced { txn: txn.id, epoch: granted }));
        }
        if let Some(state) = self.txns.get(&txn.id) {
            if let Some(vote) = &state.vote {
                return out.push(Action::Reply(Reply::Voted { txn: txn.id, vote: vote.clone() }));
            }
            if state.promised.round >= 1 {
                let ballot = state.promised;
                return out.push(Action::Reply(Reply::InRecovery { txn: txn.id, ballot }));
            }
        }
        self.learn_bases(&txn, rows, out);
        let vote = self.judge(&txn, rows);
        self.set_vote(&txn, vote.clone());
        out.push(Action::Persist(Record::Voted { txn: txn.clone(), vote: vote.clone() }));
        out.push(Action::Reply(Reply::Voted { txn: txn.id, vote }));
    }

    fn judge(&self, txn: &Txn, rows: &mut dyn Rows) -> Vote {
        if self.stale_writes(txn, rows) {
            return Vote::Stale;
        }
        if mistakes::made(Mistake::BaseNotLearnt) && self.lacks_base(txn, rows) {
            return Vote::Stale;
        }
        let newer = |key: &Key, height: Height, rows: &mut dyn Rows| {
            self.latest(key, rows).is_some_and(|latest| latest.height > height)
        };
        if txn.checks.iter().any(|check| newer(&check.key, check.height(), rows)) {
            return Vote::Stale;
        }
        if let Some(by) = self.holds.against(txn, false).next() {
            return Vote::Locked { by };
        }
        match self.reserves.against(txn, false).next() {
            Some(by) => Vote::Reserved { by },
            None => Vote::Accept,
        }
    }

    fn set_vote(&mut self, txn: &SharedTxn, vote: Vote) {
        if vote == Vote::Accept {
            self.holds.add(txn);
        }
        let state = self.txns.entry(txn.id).or_default();
        state.vote = Some(vote);
        state.body = Some(txn.clone());
    }

    fn latest(&self, key: &Key, rows: &mut dyn Rows) -> Option<Ver> {
        let applied = rows.latest(key);
        match (self.newer.get(key), applied) {
            (Some(newer), Some(applied)) => {
                Some(if newer.height > applied.height { *newer } else { applied })
            }
            (Some(newer), None) => Some(*newer),
            (None, applied) => applied,
        }
    }

    fn stale_writes(&self, txn: &Txn, rows: &mut dyn Rows) -> bool {
        let stale = |write: &crate::txn::Write, rows: &mut dyn Rows| {
            self.latest(&write.key, rows).is_some_and(|latest| latest.height >= write.height())
        };
        txn.writes.iter().any(|write| stale(write, rows))
    }

    /// Whether this node has not heard yet of a version that the transaction replaces.
    fn lacks_base(&self, txn: &Txn, rows: &mut dyn Rows) -> bool {
        let lacks = |write: &crate::txn::Write, rows: &mut dyn Rows| {
            let height = write.base.map_or(Height(0), |base| base.height);
            self.latest(&write.key, rows).map_or(Height(0), |latest| latest.height) < height
        };
        txn.writes.iter().any(|write| lacks(write, rows))
    }

    /// A proposal or an accept certifies its bases: their writers committed.
    fn learn_bases(&mut self, txn: &Txn, rows: &mut dyn Rows, out: &mut Vec<Action>) {
        if mistakes::made(Mistake::BaseNotLearnt) {
            return;
        }
        let writes = txn.writes.iter().map(|write| (&write.key, write.base));
        let checks = txn.checks.iter().map(|check| (&check.key, check.base));
        for (key, base) in writes.chain(checks) {
            let Some(base) = base else { continue };
            if self.latest(key, rows).is_none_or(|latest| latest.height < base.height) {
                self.newer.insert(key.clone(), base);
            }
            if self.ordering.outcome(base.txn).is_none() {
                self.decide(base.txn, Outcome::Commit, None, out);
            }
        }
    }

    // ---- classic ballots (sections 5 and 7) ----

    /// The transaction's highest promise, its own or by a fence of its epoch.
    fn promised(&self, txn: TxnId) -> Ballot {
        let own = self.txns.get(&txn).map_or(Ballot::FAST, |state| state.promised);
        let fence = self.seats.get(&txn.seat).filter(|seat| txn.epoch < seat.granted);
        own.max(fence.map_or(Ballot::FAST, |seat| seat.ballot))
    }

    /// The highest accepted value: the transaction's own, or an ABORT by an accepted closing.
    fn accepted(&self, txn: TxnId) -> Option<(Ballot, Outcome)> {
        let own = self.txns.get(&txn).and_then(|state| state.accepted);
        let seat = self.seats.get(&txn.seat);
        let closed = seat.into_iter().flat_map(|seat| &seat.closings).filter(|closing| aborts(closing, txn));
        own.into_iter().chain(closed.map(|closing| (closing.ballot, Outcome::Abort))).max()
    }

    fn accept(
        &mut self,
        txn: TxnId,
        ballot: Ballot,
        value: Outcome,
        body: Option<SharedTxn>,
        rows: &mut dyn Rows,
        out: &mut Vec<Action>,
    ) {
        if let Some(settled) = self.known(txn) {
            if let (Settled::Decided(Outcome::Commit), Some(body)) = (settled, body) {
                self.decide(txn, Outcome::Commit, Some(body), out);
            }
            return out.push(Action::Reply(Reply::Settled { txn, settled }));
        }
        let promised = self.promised(txn);
        if ballot < promised {
            return out.push(Action::Reply(Reply::Nack { txn, ballot, promised }));
        }
        let body = body.or_else(|| self.txns.get(&txn).and_then(|state| state.body.clone()));
        if value == Outcome::Commit {
            // A COMMIT without its record cannot be locked: such a message is damaged, so it is not answered.
            let Some(body) = &body else { return };
            self.learn_bases(body, rows, out);
            if self.stale_writes(body, rows) {
                return out.push(Action::Reply(Reply::StaleSlot { txn, ballot }));
            }
            let by = self.bodies(self.holds.against(body, true));
            if !by.is_empty() {
                return out.push(Action::Reply(Reply::Blocked { txn, ballot, by }));
            }
        }
        self.set_accepted(txn, ballot, value, body.clone());
        out.push(Action::Persist(Record::Accepted { txn, ballot, value, body }));
        out.push(Action::Reply(Reply::Accepted { txn, ballot, value }));
    }

    fn set_accepted(&mut self, txn: TxnId, ballot: Ballot, value: Outcome, body: Option<SharedTxn>) {
        self.set_promised(txn, ballot, body);
        let state = self.txns.entry(txn).or_default();
        state.accepted = Some((ballot, value));
        if let (Outcome::Commit, Some(body)) = (value, &state.body) {
            self.holds.add(&body.clone());
        }
    }

    fn prepare(&mut self, txn: TxnId, ballot: Ballot, body: Option<SharedTxn>, out: &mut Vec<Action>) {
        if let Some(settled) = self.known(txn) {
            return out.push(Action::Reply(Reply::Settled { txn, settled }));
        }
        let promised = self.promised(txn);
        if ballot < promised {
            return out.push(Action::Reply(Reply::Nack { txn, ballot, promised }));
        }
        self.set_promised(txn, ballot, body.clone());
        out.push(Action::Persist(Record::Promised { txn, ballot, body }));
        out.push(Action::Reply(Reply::Promised(self.promise(txn, ballot))));
    }

    fn set_promised(&mut self, txn: TxnId, ballot: Ballot, body: Option<SharedTxn>) {
        let state = self.txns.entry(txn).or_default();
        state.promised = state.promised.max(ballot);
        if state.body.is_none() {
            state.body = body;
        }
        if let (true, Some(body)) = (state.promised.round >= 2, &state.body) {
            self.reserves.add(&body.clone());
        }
    }

    fn promise(&self, txn: TxnId, ballot: Ballot) -> Promise {
        let state = self.txns.get(&txn);
        let body = state.and_then(|state| state.body.clone());
        let holders = body.as_ref().map_or(Vec::new(), |body| self.bodies(self.holds.against(body, true)));
        let vote = state.and_then(|state| state.vote.as_ref()).map(|vote| *vote == Vote::Accept);
        Promise { txn, ballot, vote, accepted: self.accepted(txn), body, holders }
    }

    fn bodies(&self, ids: impl Iterator<Item = TxnId>) -> Vec<SharedTxn> {
        let mut bodies: Vec<SharedTxn> = Vec::new();
        for id in ids {
            if let Some(body) = self.txns.get(&id).and_then(|state| state.body.clone())
                && !bodies.iter().any(|have| have.id == id)
            {
                bodies.push(body);
            }
        }
        bodies
    }

    // ---- decisions ----

    fn decide(&mut self, txn: TxnId, outcome: Outcome, body: Option<SharedTxn>, out: &mut Vec<Action>) {
        let state = self.txns.remove(&txn);
        let known = self.ordering.outcome(txn).is_some();
        let held = state.and_then(|state| state.body);
        if let Some(held) = &held {
            self.holds.remove(held);
            self.reserves.remove(held);
        }
        // The log has the record already if this node voted or promised.
        let new = body.clone().filter(|_| held.is_none());
        let body = body.or(held);
        if let (Outcome::Commit, Some(body)) = (outcome, &body) {
            self.raise_latest(body);
        }
        let completes =
            outcome == Outcome::Commit && new.is_some() && self.ordering.settled(txn.stream()) < txn.seq;
        if !known || completes {
            out.push(Action::Note(Record::Decided { txn, outcome, body: new }));
        }
        self.ordering.settle(txn, outcome, body);
    }

    fn raise_latest(&mut self, txn: &SharedTxn) {
        if txn.id.seq <= self.ordering.settled(txn.id.stream()) {
            return; // applied, or about to be: `unapplied` keeps it
        }
        for write in &txn.writes {
            let version = write.version(txn.id);
            let newer = self.newer.entry(write.key.clone()).or_insert(version);
            if newer.height < version.height {
                *newer = version;
            }
        }
    }

    fn drain(&mut self, out: &mut Vec<Action>) {
        let items = self.ordering.drain();
        if items.is_empty() {
            return;
        }
        for item in &items {
            if let FeedItem::Commit(txn) = item {
                self.unapplied.push_back(txn.clone());
            }
        }
        out.push(Action::Feed(items));
    }

    // ---- fences (section 8, II.2) ----

    fn fence(&mut self, seat: Seat, epoch: Epoch, run: RunId, ballot: Ballot, out: &mut Vec<Action>) {
        let state = self.seats.entry(seat).or_default();
        let granted = state.granted;
        let taken = epoch < granted || (epoch == granted && run != state.run) || ballot < state.ballot;
        let older: Vec<TxnId> = self.older(seat, epoch).collect();
        let highest = older.iter().map(|txn| self.txns[txn].promised).max().unwrap_or_default();
        let promised = highest.max(self.seats[&seat].ballot);
        if taken || highest > ballot {
            return out.push(Action::Reply(Reply::FenceNack { seat, epoch, ballot, promised, granted }));
        }
        self.set_fence(seat, epoch, run, ballot);
        out.push(Action::Persist(Record::Fenced { seat, epoch, run, ballot }));
        let report = |txn: &TxnId| FencedTxn { promise: self.promise(*txn, ballot), decided: None };
        let mut reported: Vec<FencedTxn> = older.iter().map(report).collect();
        for (txn, outcome, body) in
            self.ordering.ahead().filter(|(txn, ..)| txn.seat == seat && txn.epoch < epoch)
        {
            let promise = Promise { txn, ballot, vote: None, accepted: None, body, holders: Vec::new() };
            reported.push(FencedTxn { promise, decided: Some(outcome) });
        }
        let streams = self.ordering.streams().filter(|(id, _)| id.seat == seat && id.epoch < epoch);
        let settled = streams.map(|(id, stream)| (id.epoch, stream.settled)).collect();
        let closings = self.seats[&seat].closings.clone();
        out.push(Action::Reply(Reply::FenceOk { seat, epoch, ballot, settled, older: reported, closings }));
        out.push(Action::SeatsChanged);
    }

    fn older(&self, seat: Seat, epoch: Epoch) -> impl Iterator<Item = TxnId> + '_ {
        let begin = TxnId { seat, epoch: Epoch(0), seq: Seq(0) };
        let end = TxnId { seat, epoch, seq: Seq(0) };
        self.txns.range(begin..end).map(|(txn, _)| *txn)
    }

    fn set_fence(&mut self, seat: Seat, epoch: Epoch, run: RunId, ballot: Ballot) {
        let state = self.seats.entry(seat).or_default();
        state.granted = epoch;
        state.run = run;
        state.ballot = ballot;
        for txn in self.older(seat, epoch).collect::<Vec<_>>() {
            if let Some(body) = self.txns[&txn].body.clone() {
                self.reserves.add(&body);
            }
        }
    }

    fn activate(&mut self, closing: Closing, out: &mut Vec<Action>) {
        let (seat, epoch, ballot) = (closing.seat, closing.epoch, closing.ballot);
        let state = self.seats.entry(seat).or_default();
        if state.active >= epoch {
            if state.active == epoch && state.run == closing.run {
                out.push(Action::Reply(Reply::ActivateOk { seat, epoch, ballot }));
            } else {
                let promised = state.ballot;
                out.push(Action::Reply(Reply::ActivateNack { seat, epoch, ballot, promised }));
            }
            return;
        }
        let stale = ballot < state.ballot
            || epoch < state.granted
            || (epoch == state.granted && closing.run != state.run);
        let fence = state.ballot;
        let single = self.older(seat, epoch).filter(|txn| aborts(&closing, *txn));
        let single = single.map(|txn| self.txns[&txn].promised).max().unwrap_or_default();
        let committed = self
            .ordering
            .ahead()
            .any(|(txn, outcome, _)| outcome == Outcome::Commit && aborts(&closing, txn));
        // What is settled here need not have been where the fencer looked, and a reader may have recovered
        // one that nobody there knew of: each of them counts, not only the last.
        let settled_beyond =
            self.ordering.streams().filter(|(id, _)| id.seat == seat && id.epoch < epoch).any(
                |(id, stream)| {
                    let from = settled_by(&closing, id.epoch);
                    (from.0 + 1..=stream.settled.0).map(Seq).any(|seq| {
                        let txn = TxnId { seat, epoch: id.epoch, seq };
                        (seq <= stream.forgotten || !stream.aborted.contains(&seq)) && aborts(&closing, txn)
                    })
                },
            );
        if stale || single > ballot || committed || settled_beyond {
            let promised = fence.max(single);
            return out.push(Action::Reply(Reply::ActivateNack { seat, epoch, ballot, promised }));
        }
        self.set_closing(closing.clone(), out);
        out.push(Action::Persist(Record::Closing(closing)));
        out.push(Action::Reply(Reply::ActivateOk { seat, epoch, ballot }));
    }

    fn set_closing(&mut self, closing: Closing, out: &mut Vec<Action>) {
        for (txn, outcome) in &closing.listed {
            let body = closing.bodies.iter().find(|body| body.id == *txn).cloned();
            self.decide(*txn, *outcome, body, out);
        }
        self.set_fence(closing.seat, closing.epoch, closing.run, closing.ballot);
        let state = self.seats.entry(closing.seat).or_default();
        state.closings.push(closing);
    }

    fn activated(&mut self, closing: Closing, out: &mut Vec<Action>) {
        let (seat, epoch) = (closing.seat, closing.epoch);
        let state = self.seats.entry(seat).or_default();
        if state.active >= epoch {
            return;
        }
        state.active = epoch;
        // A rival that was granted the epoch here cannot open it any more, and must not pass for its holder.
        if state.granted <= epoch {
            state.granted = epoch;
            state.run = closing.run;
            state.ballot = state.ballot.max(closing.ballot);
        }
        let older = |other: &Closing| other.epoch <= epoch;
        let (dropped, mut closings): (Vec<Closing>, Vec<Closing>) =
            std::mem::take(&mut state.closings).into_iter().partition(older);
        closings.push(closing.clone());
        state.closings = closings;
        out.push(Action::Note(Record::Activated(closing.clone())));
        for (txn, outcome) in &closing.listed {
            let body = closing.bodies.iter().find(|body| body.id == *txn).cloned();
            self.decide(*txn, *outcome, body, out);
        }
        self.abort_unlisted(&closing, out);
        self.keep_aborts(&dropped, &closing);
        self.ordering.open(seat, epoch, &ends(&closing));
        out.push(Action::SeatsChanged);
    }

    /// A closing that is chosen aborts what it does not list, also what no node has a record of: nobody else
    /// would ever decide that, and the stream would not reach a later one that is listed.
    fn abort_unlisted(&mut self, closing: &Closing, out: &mut Vec<Action>) {
        let mut unlisted: Vec<TxnId> =
            self.older(closing.seat, closing.epoch).filter(|txn| aborts(closing, *txn)).collect();
        for (epoch, last) in ends(closing) {
            let between = (settled_by(closing, epoch).0 + 1..last.0).map(Seq);
            let txns = between.map(|seq| TxnId { seat: closing.seat, epoch, seq });
            unlisted
                .extend(txns.filter(|txn| aborts(closing, *txn) && self.ordering.outcome(*txn).is_none()));
        }
        for txn in unlisted {
            self.decide(txn, Outcome::Abort, None, out);
        }
    }

    /// What an older closing aborted stays accepted where the new one says only that it is settled: whoever
    /// recovers it before its outcome has come here must learn of the ABORT.
    fn keep_aborts(&mut self, dropped: &[Closing], closing: &Closing) {
        let seat = closing.seat;
        for other in dropped {
            for (epoch, settled) in closing.settled.iter().copied().filter(|(of, _)| *of < other.epoch) {
                let here = self.ordering.settled(StreamId { seat, epoch });
                for seq in settled_by(other, epoch).max(here).0 + 1..=settled.0 {
                    let txn = TxnId { seat, epoch, seq: Seq(seq) };
                    let own = self.txns.get(&txn).and_then(|state| state.accepted);
                    let newer = own.is_none_or(|(ballot, _)| ballot < other.ballot);
                    if newer && aborts(other, txn) && self.ordering.outcome(txn).is_none() {
                        self.set_accepted(txn, other.ballot, Outcome::Abort, None);
                    }
                }
            }
        }
    }

    // ---- new disks (RFC 5) ----

    fn raise(&mut self, generations: Generations, out: &mut Vec<Action>) {
        let raised = self.generations.join(&generations);
        if raised != self.generations {
            self.generations = raised;
            out.push(Action::Persist(Record::Generations(raised)));
            out.push(Action::GenerationsChanged);
        }
    }

    fn join(&mut self, node: StorageId, generation: Generation, out: &mut Vec<Action>) {
        let current = self.generations.get(node);
        if generation != current {
            if generation.number <= current.number {
                return out.push(Action::Reply(Reply::JoinNack { node, current }));
            }
            self.raise(self.generations.with(node, generation), out);
        }
        let report = self.report();
        out.push(Action::Reply(Reply::JoinOk { node, generation, report }));
    }

    // ---- reads of the present (section 9) ----

    fn read_index(&mut self, id: u64, holds: Option<(Seat, Epoch)>, out: &mut Vec<Action>) {
        let over =
            |(seat, epoch): (Seat, Epoch)| self.seats.get(&seat).is_some_and(|state| state.granted > epoch);
        let current = !holds.is_some_and(over);
        let pending = self.txns.iter().filter(|(_, state)| state.holds()).map(|(txn, _)| *txn).collect();
        let committed = self.ordering.committed().clone();
        out.push(Action::Reply(Reply::Index { id, committed, pending, current }));
    }
}

/// Whether the closing, once chosen, aborts the transaction: of an older epoch of the seat, beyond what is
/// settled, and not listed.
pub(crate) fn aborts(closing: &Closing, txn: TxnId) -> bool {
    if txn.seat != closing.seat || txn.epoch >= closing.epoch {
        return false;
    }
    txn.seq > settled_by(closing, txn.epoch) && !closing.listed.iter().any(|(listed, _)| *listed == txn)
}

/// How far the stream of this epoch was settled where the fencer looked.
fn settled_by(closing: &Closing, epoch: Epoch) -> Seq {
    closing.settled.iter().find(|(of, _)| *of == epoch).map_or(Seq(0), |(_, seq)| *seq)
}

/// Where each older stream ends by the closing.
fn ends(closing: &Closing) -> Vec<(Epoch, Seq)> {
    let mut ends: BTreeMap<Epoch, Seq> = closing.settled.iter().copied().collect();
    for (txn, _) in &closing.listed {
        let end = ends.entry(txn.epoch).or_default();
        *end = (*end).max(txn.seq);
    }
    ends.into_iter().collect()
}

/// The stream a closing opens.
pub(crate) fn opens(closing: &Closing) -> StreamId {
    StreamId { seat: closing.seat, epoch: closing.epoch }
}
