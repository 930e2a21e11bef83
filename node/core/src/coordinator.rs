//! An instance's side of the protocol: its own proposals, the recovery of anybody's, and taking a seat.
//!
//! Rules: `docs/rfcs/0001-commit-protocol.md`, sections 6 to 8 with part two.
//!
//! ```text
//! Propose ─▶ Fast ─ F accepts ───────────────────────────────▶ committed
//!             │ ├─ X rejects ────────────────────────────────▶ aborted
//!             │ ├─ Q accepts, no more to come ─▶ Second(COMMIT) ─ Q accepted ─▶ committed
//!             │ ├─ too few can still accept ──▶ Second(ABORT) ─ Q accepted ──▶ aborted
//!             └─ none of these, or a Nack ──▶ recovery by ballots ──────────▶ either
//! ```
//!
//! Invariants: one value only is ever sent at ballot 1. A transaction is finished for its client when it is
//! decided and every earlier one of the stream is; an abort is told at once. Nothing here is durable: a run
//! that ends leaves its transactions to whoever needs them. Answers count together only if their nodes gave
//! them under the same [`Generations`]: when a disk is replaced, everything undecided is asked anew.

mod fencing;
mod recovery;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::ids::{Ballot, Epoch, Outcome, Position, RunId, Seat, Seq, StorageId, StreamId, TxnId, Vector};
use crate::membership::{Generations, NODES_MAX};
use crate::quorum::Quorum;
use crate::txn::{Check, SharedTxn, Txn, Write};
use crate::wire::{Closing, FeedItem, Reply, Request, Settled, Vote};

use fencing::Fencing;
use recovery::Recovery;

/// Milliseconds of a clock that never goes back.
pub type Millis = u64;

/// How long a proposal with a write quorum of accepts waits for the rest before its second round.
pub const FAST_PATIENCE_MS: Millis = 10;
/// How long a proposal without a way forward waits before it is recovered by ballots.
pub const STUCK_PATIENCE_MS: Millis = 60;
/// How long a proposal that too many nodes can take nothing of waits for them before it is recovered, that is
/// aborted: they refuse what is new, not what decides it.
pub const UNABLE_PATIENCE_MS: Millis = 1_000;
/// How long a recoverer with a quorum of answers waits for the rest.
pub const PROMISE_GRACE_MS: Millis = 15;
/// After this long without an answer a request is sent again.
pub const RESEND_MS: Millis = 500;
/// How soon a node that keeps to the lease of a seat's holder is asked for the seat again.
pub const LEASED_MS: Millis = 20;
/// Recoverers that get in each other's way pause for a random time, at first below this. It doubles with
/// every try, [`DUEL_DOUBLINGS_MAX`] times at most, until somebody has the time for both rounds.
const DUEL_PAUSE_MS: Millis = 16;
const DUEL_DOUBLINGS_MAX: u32 = 6;
/// How many outcomes of resolved transactions are remembered.
const RESOLVED_MAX: usize = 4096;

/// What a transaction asks of the volume.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// Names the proposal towards whoever made it.
    pub ticket: u64,
    /// What it depends on.
    pub deps: Vector,
    /// Its changes, sorted by key, one per key.
    pub writes: Vec<Write>,
    /// What must be unchanged.
    pub checks: Vec<Check>,
}

/// What becomes of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Committed, applied here before this is told.
    Committed(TxnId),
    /// Aborted: a key has a newer version, or these stood in the way.
    Aborted {
        /// True if a base was overwritten: proposing again cannot help.
        stale: bool,
        /// Undecided transactions that stood in the way.
        by: Vec<TxnId>,
    },
    /// Not proposed: no seat is held.
    NoSeat,
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send to one storage node.
    Send(StorageId, Request),
    /// Send to every connected storage node.
    Broadcast(Request),
    /// Of the own stream, in order: apply to the caches.
    Apply(FeedItem),
    /// Tell whoever proposed.
    Finish(u64, Finish),
    /// A transaction that was recovered is decided.
    Resolved(TxnId, Outcome),
    /// The seat is taken: proposals of this stream may begin once its start has been applied.
    Seated(StreamId),
    /// Taking the seat failed: somebody has promised or been granted more.
    TakeFailed {
        /// Which seat.
        seat: Seat,
        /// The highest epoch known to be granted.
        granted: Epoch,
    },
    /// The seat is lost to this epoch. Undecided proposals stay until their outcome is known.
    Unseated(Epoch),
    /// A storage node cannot vote, and why.
    NodeUnable(StorageId, String),
}

#[derive(Debug)]
enum Phase {
    Fast,
    Second { value: Outcome, accepted: Nodes, blocked: Nodes },
    Recovering,
    Decided(Outcome),
}

struct Open {
    ticket: Option<u64>,
    txn: SharedTxn,
    accepts: Nodes,
    rejects: Nodes,
    /// Said last that they take nothing now; not a vote.
    unable: Nodes,
    stale: bool,
    by: Vec<TxnId>,
    phase: Phase,
    since: Millis,
    sent: Millis,
}

/// A set of storage nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nodes(u8);

impl Nodes {
    fn add(&mut self, node: StorageId) {
        self.0 |= 1 << node.0;
    }
    fn remove(&mut self, node: StorageId) {
        self.0 &= !(1 << node.0);
    }
    fn has(self, node: StorageId) -> bool {
        self.0 & (1 << node.0) != 0
    }
    fn len(self) -> usize {
        self.0.count_ones() as usize
    }
    fn minus(self, other: Nodes) -> Nodes {
        Nodes(self.0 & !other.0)
    }
    fn plus(self, other: Nodes) -> Nodes {
        Nodes(self.0 | other.0)
    }
}

/// The state machine of one instance.
pub struct Coordinator {
    quorum: Quorum,
    run: RunId,
    /// Connected.
    connected: Nodes,
    /// Connected, and under the newest generations: whose answers count.
    up: Nodes,
    /// The newest generations that any node has told.
    generations: Generations,
    told: [Generations; NODES_MAX],
    seat: Option<StreamId>,
    closing: Option<Closing>,
    next: Seq,
    open: BTreeMap<TxnId, Open>,
    /// What this instance has applied, as far as it has said.
    followed: Vector,
    /// Up to here the feed has left out own transactions that were open.
    jumped: Position,
    recoveries: BTreeMap<TxnId, Recovery>,
    fencing: Option<Fencing>,
    resolved: HashMap<TxnId, Outcome>,
    resolved_order: VecDeque<TxnId>,
    highest_round: u32,
    random: u64,
    now: Millis,
}

impl Coordinator {
    /// An instance that holds no seat yet.
    pub fn new(quorum: Quorum, run: RunId) -> Coordinator {
        Coordinator {
            quorum,
            run,
            connected: Nodes::default(),
            up: Nodes::default(),
            generations: Generations::default(),
            told: [Generations::default(); NODES_MAX],
            seat: None,
            closing: None,
            next: Seq(1),
            open: BTreeMap::new(),
            followed: Vector::new(),
            jumped: Position::default(),
            recoveries: BTreeMap::new(),
            fencing: None,
            resolved: HashMap::new(),
            resolved_order: VecDeque::new(),
            highest_round: 1,
            random: run.0 | 1,
            now: 0,
        }
    }
    /// The stream this instance writes, if it holds a seat.
    pub fn stream(&self) -> Option<StreamId> {
        self.seat
    }
    /// True while a seat is being taken.
    pub fn taking(&self) -> bool {
        self.fencing.is_some()
    }
    /// How many storage nodes are connected and count.
    pub fn nodes_up(&self) -> usize {
        self.up.len()
    }
    /// How many own transactions are undecided or wait for an earlier one.
    pub fn in_flight(&self) -> usize {
        self.open.len()
    }
    /// What is under way, for a person who looks for what hangs.
    pub fn describe(&self) -> String {
        let open: Vec<String> =
            self.open.iter().map(|(txn, open)| format!("{txn} {:?}", open.phase)).collect();
        let recoveries: Vec<String> =
            self.recoveries.iter().map(|(txn, recovery)| format!("{txn} {}", recovery.describe())).collect();
        let fencing = self.fencing.as_ref().map(Fencing::describe);
        format!("open {open:?}, recoveries {recoveries:?}, fencing {fencing:?}")
    }
    /// A storage node is connected and votes.
    pub fn node_up(&mut self, node: StorageId, now: Millis, out: &mut Vec<Action>) {
        self.now = now;
        self.connected.add(node);
        if self.told[usize::from(node.0)] == self.generations {
            self.greet(node, out);
        } else {
            out.push(Action::Send(node, Request::Generations(self.generations)));
        }
    }
    /// Asks a node whose answers count from now on for everything that is under way.
    fn greet(&mut self, node: StorageId, out: &mut Vec<Action>) {
        self.up.add(node);
        if let (Some(_), Some(closing)) = (self.seat, &self.closing) {
            out.push(Action::Send(node, Request::Activated(closing.clone())));
        }
        for open in self.open.values() {
            match &open.phase {
                Phase::Fast => out.push(Action::Send(node, Request::Propose(open.txn.clone()))),
                Phase::Second { value, .. } => out.push(Action::Send(node, second_round(&open.txn, *value))),
                Phase::Recovering | Phase::Decided(_) => {}
            }
        }
        for (txn, recovery) in &self.recoveries {
            out.extend(recovery.request(*txn).map(|request| Action::Send(node, request)));
        }
        // Decisions were lost with the connection, and the node may have forgotten some: it notes them lazily.
        // If all nodes have, nobody else knows them, and the stream stands still.
        for txn in &self.resolved_order {
            if let Some(outcome) = self.resolved.get(txn).copied() {
                out.push(Action::Send(node, Request::Decide { txn: *txn, outcome, body: None }));
            }
        }
        if let Some(fencing) = &self.fencing {
            out.extend(fencing.request(self.run).map(|request| Action::Send(node, request)));
        }
    }
    /// A storage node's connection is gone.
    pub fn node_down(&mut self, node: StorageId, now: Millis, out: &mut Vec<Action>) {
        self.now = now;
        self.connected.remove(node);
        self.up.remove(node);
        self.poll(out);
    }
    /// Proposes a transaction on the own stream.
    pub fn propose(&mut self, proposal: Proposal, now: Millis, out: &mut Vec<Action>) {
        self.now = now;
        let Some(stream) = self.seat else {
            return out.push(Action::Finish(proposal.ticket, Finish::NoSeat));
        };
        let id = TxnId { seat: stream.seat, epoch: stream.epoch, seq: self.next };
        self.next = Seq(self.next.0 + 1);
        let Proposal { ticket, deps, writes, checks } = proposal;
        let txn = Arc::new(Txn { id, deps, writes, checks });
        let open = Open {
            ticket: Some(ticket),
            txn: txn.clone(),
            accepts: Nodes::default(),
            rejects: Nodes::default(),
            unable: Nodes::default(),
            stale: false,
            by: Vec::new(),
            phase: Phase::Fast,
            since: now,
            sent: now,
        };
        self.open.insert(id, open);
        out.push(Action::Broadcast(Request::Propose(txn)));
    }
    /// Somebody needs this transaction's outcome: recovers it after `patience`, unless it is settled first.
    pub fn resolve(&mut self, txn: TxnId, patience: Millis, now: Millis, out: &mut Vec<Action>) {
        self.now = now;
        if self.open.contains_key(&txn) {
            return; // an own transaction finds its way by itself
        }
        if let Some(outcome) = self.resolved.get(&txn) {
            // Its decision was lost on the way to whoever asks.
            return out.push(Action::Broadcast(Request::Decide { txn, outcome: *outcome, body: None }));
        }
        self.start_recovery(txn, None, patience, out);
    }
    /// The feed has come this far, and is applied: transactions up to there need no recovery any more. An own
    /// one that is still open does: nobody else tells what became of it. Own ones that waited for what they
    /// depend on may be applied now.
    pub fn observe(&mut self, ordered: &Vector, now: Millis, out: &mut Vec<Action>) {
        self.now = now;
        self.followed.join(ordered);
        let open = &self.open;
        self.recoveries
            .retain(|txn, recovery| recovery.needed() || open.contains_key(txn) || !ordered.sees(*txn));
        self.advance_own(out);
    }
    /// The feed reports own transactions as decided (a recoverer was faster, or the seat was lost). Those
    /// that it passes over were aborted.
    pub fn observe_own(&mut self, item: &FeedItem, now: Millis, out: &mut Vec<Action>) {
        self.now = now;
        let (seat, to) = match item {
            FeedItem::Commit(txn) => {
                self.decide_own(txn.id, Outcome::Commit, out);
                (txn.id.seat, txn.id.position())
            }
            FeedItem::Advance { seat, to } => (*seat, *to),
        };
        let from = self.jumped;
        let passed = |txn: &&TxnId| txn.seat == seat && txn.position() <= to && txn.position() > from;
        let aborted: Vec<TxnId> = self.open.keys().filter(passed).copied().collect();
        for txn in aborted {
            self.decide_own(txn, Outcome::Abort, out); // changes nothing where it is decided
        }
    }
    /// The feed left out everything up to here: what became of own transactions in it has to be asked.
    pub fn observe_jump(&mut self, to: &Vector, now: Millis, out: &mut Vec<Action>) {
        self.now = now;
        self.followed.join(to);
        let left_out: Vec<TxnId> = self.open.keys().filter(|txn| to.sees(**txn)).copied().collect();
        for txn in left_out {
            self.jumped = self.jumped.max(txn.position());
            self.recover_own(txn, out);
        }
    }
    /// Gives up the seat: nothing is proposed any more; what is undecided goes on.
    pub fn resign(&mut self) {
        self.seat = None;
        self.closing = None;
        self.fencing = None;
    }
    /// Time passes.
    pub fn tick(&mut self, now: Millis, out: &mut Vec<Action>) {
        self.now = now;
        self.poll(out);
    }
    /// A storage node answers.
    pub fn reply(&mut self, node: StorageId, reply: Reply, now: Millis, out: &mut Vec<Action>) {
        self.now = now;
        if let Reply::Generations(generations) = reply {
            return self.told_generations(node, generations, out);
        }
        // Said under older generations, or by a node that counts as gone: asked again when it counts.
        if !self.up.has(node) {
            return;
        }
        match reply {
            Reply::Voted { txn, vote } => self.voted(node, txn, vote, out),
            Reply::InRecovery { txn, ballot } => {
                self.seen(ballot);
                self.recover_own(txn, out);
            }
            Reply::Fenced { txn, epoch } => self.fenced(txn, epoch, out),
            Reply::Unable { txn, reason } => {
                if let Some(open) = self.open.get_mut(&txn) {
                    open.unable.add(node);
                }
                out.push(Action::NodeUnable(node, reason));
            }
            Reply::Settled { txn, settled } => self.settled(txn, settled, out),
            Reply::Accepted { txn, ballot, value } => self.accepted(node, txn, ballot, value, out),
            Reply::Nack { txn, ballot, promised } => {
                self.seen(promised);
                self.refused(txn, ballot, out);
            }
            Reply::StaleSlot { txn, ballot } => self.refused(txn, ballot, out),
            Reply::Blocked { txn, ballot, by } => self.blocked(node, txn, ballot, by, out),
            Reply::Promised(promise) => self.promised(node, promise, out),
            Reply::FenceOk { seat, epoch, ballot, settled, older, closings } => {
                self.fence_ok(node, (seat, epoch, ballot), fencing::Report { settled, older, closings }, out);
            }
            Reply::FenceNack { seat, epoch, ballot, promised, granted } => {
                self.seen(promised);
                self.fence_nack(seat, epoch, ballot, granted, out);
            }
            Reply::Leased { seat, epoch, ballot } => self.fence_leased(node, (seat, epoch, ballot), out),
            Reply::ActivateOk { seat, epoch, ballot } => self.activate_ok(node, seat, epoch, ballot, out),
            Reply::ActivateNack { seat, epoch, ballot, promised } => {
                self.seen(promised);
                self.activate_nack(seat, epoch, ballot, out);
            }
            Reply::Welcome { .. }
            | Reply::Refused { .. }
            | Reply::Beat { .. }
            | Reply::Topology { .. }
            | Reply::Index { .. }
            | Reply::Feed { .. }
            | Reply::FeedReset { .. }
            | Reply::Block(_)
            | Reply::ReadRefused { .. }
            | Reply::Fetched { .. }
            | Reply::DigestIs { .. }
            | Reply::StatusIs { .. }
            | Reply::Generations(_)
            | Reply::JoinOk { .. }
            | Reply::JoinNack { .. }
            | Reply::Base { .. } => {}
        }
    }

    // ---- new disks (RFC 5) ----

    fn told_generations(&mut self, node: StorageId, generations: Generations, out: &mut Vec<Action>) {
        self.told[usize::from(node.0)] = generations;
        let newest = self.generations.join(&generations);
        if newest != self.generations {
            self.generations = newest;
            self.start_over(out);
        }
        let current = generations == self.generations;
        if current && self.connected.has(node) && !self.up.has(node) {
            self.greet(node, out);
        }
    }

    /// A disk was replaced: what was counted so far may count the old one. Everything undecided is asked anew.
    fn start_over(&mut self, out: &mut Vec<Action>) {
        let generations = self.generations;
        self.up = Nodes::default();
        for node in each(self.connected) {
            if self.told[usize::from(node.0)] != generations {
                out.push(Action::Send(node, Request::Generations(generations)));
            }
        }
        let now = self.now;
        let mut unsure = Vec::new();
        for (txn, open) in &mut self.open {
            match open.phase {
                Phase::Fast => {
                    (open.accepts, open.rejects) = (Nodes::default(), Nodes::default());
                    (open.since, open.sent) = (now, now);
                }
                Phase::Second { .. } => unsure.push(*txn),
                Phase::Recovering | Phase::Decided(_) => {}
            }
        }
        for txn in unsure {
            self.recover_own(txn, out);
        }
        self.restart_recoveries(out);
        if self.fencing.is_some() {
            self.fence_again(out);
        }
    }

    // ---- own proposals (section 6) ----

    fn voted(&mut self, node: StorageId, txn: TxnId, vote: Vote, out: &mut Vec<Action>) {
        let Some(open) = self.open.get_mut(&txn) else { return };
        open.unable.remove(node);
        match vote {
            Vote::Accept => open.accepts.add(node),
            Vote::Stale => {
                open.rejects.add(node);
                open.stale = true;
            }
            Vote::Locked { by } | Vote::Reserved { by } => {
                open.rejects.add(node);
                if !open.by.contains(&by) {
                    open.by.push(by);
                }
            }
        }
        self.weigh(txn, out);
    }

    /// Looks at the fast votes of an own transaction.
    fn weigh(&mut self, txn: TxnId, out: &mut Vec<Action>) {
        let Some(open) = self.open.get_mut(&txn) else { return };
        let fast = match open.phase {
            Phase::Fast => true,
            // Enough rejects settle it without waiting for the second round, which then says ABORT too.
            Phase::Second { .. } => false,
            Phase::Recovering | Phase::Decided(_) => return,
        };
        let (n, q, f) = (self.quorum.nodes(), self.quorum.write(), self.quorum.fast());
        let (accepts, rejects) = (open.accepts.len(), open.rejects.len());
        let unseen = n - accepts - rejects;
        let coming = self.up.minus(open.accepts.plus(open.rejects)).len();
        let waited = self.now.saturating_sub(open.since);
        let able = self.up.minus(open.unable).len();
        if accepts >= f {
            self.decide_own(txn, Outcome::Commit, out);
        } else if self.quorum.fast_abort().is_some_and(|enough| rejects >= enough) {
            self.decide_own(txn, Outcome::Abort, out);
        } else if !fast {
            // Its second round decides.
        } else if rejects > n - f && accepts + unseen < q {
            self.second(txn, Outcome::Abort, out);
        } else if accepts >= q && (accepts + unseen < f || coming == 0 || waited >= FAST_PATIENCE_MS) {
            self.second(txn, Outcome::Commit, out);
        } else if self.up.len() >= q
            && (waited >= STUCK_PATIENCE_MS && coming == 0
                || waited >= UNABLE_PATIENCE_MS && able < q
                || waited >= 4 * RESEND_MS)
        {
            self.recover_own(txn, out);
        }
    }

    fn second(&mut self, txn: TxnId, value: Outcome, out: &mut Vec<Action>) {
        let Some(open) = self.open.get_mut(&txn) else { return };
        open.phase = Phase::Second { value, accepted: Nodes::default(), blocked: Nodes::default() };
        open.sent = self.now;
        out.push(Action::Broadcast(second_round(&open.txn, value)));
    }

    fn accepted(
        &mut self,
        node: StorageId,
        txn: TxnId,
        ballot: Ballot,
        value: Outcome,
        out: &mut Vec<Action>,
    ) {
        if ballot != Ballot::COORDINATOR {
            return self.recovery_accepted(node, txn, ballot, value, out);
        }
        let Some(Open { phase: Phase::Second { value: mine, accepted, .. }, .. }) = self.open.get_mut(&txn)
        else {
            return;
        };
        if *mine != value {
            return;
        }
        accepted.add(node);
        if accepted.len() >= self.quorum.write() {
            self.decide_own(txn, value, out);
        }
    }

    fn refused(&mut self, txn: TxnId, ballot: Ballot, out: &mut Vec<Action>) {
        if ballot == Ballot::COORDINATOR {
            self.recover_own(txn, out);
        } else {
            self.recovery_refused(txn, ballot, out);
        }
    }

    fn blocked(
        &mut self,
        node: StorageId,
        txn: TxnId,
        ballot: Ballot,
        by: Vec<SharedTxn>,
        out: &mut Vec<Action>,
    ) {
        if ballot != Ballot::COORDINATOR {
            return self.recovery_blocked(txn, ballot, by, out);
        }
        let Some(Open { phase: Phase::Second { blocked, .. }, .. }) = self.open.get_mut(&txn) else { return };
        blocked.add(node);
        if self.quorum.nodes() - blocked.len() < self.quorum.write() {
            self.recover_own(txn, out);
        }
    }

    fn recover_own(&mut self, txn: TxnId, out: &mut Vec<Action>) {
        let Some(open) = self.open.get_mut(&txn) else { return };
        if matches!(open.phase, Phase::Recovering | Phase::Decided(_)) {
            return;
        }
        open.phase = Phase::Recovering;
        let body = open.txn.clone();
        self.start_recovery(txn, Some(body), 0, out);
    }

    fn fenced(&mut self, txn: TxnId, epoch: Epoch, out: &mut Vec<Action>) {
        if self.seat.is_some_and(|stream| stream == txn.stream() && stream.epoch < epoch) {
            self.resign();
            out.push(Action::Unseated(epoch));
        }
    }

    fn settled(&mut self, txn: TxnId, settled: Settled, out: &mut Vec<Action>) {
        match settled {
            Settled::Decided(outcome) if self.open.contains_key(&txn) => self.decide_own(txn, outcome, out),
            Settled::Decided(outcome) => self.recovery_settled(txn, Some(outcome), out),
            Settled::Unknown => {
                self.recovery_settled(txn, None, out);
                // Nobody can tell any more: neither can this. Later ones must not wait for it.
                if self.open.remove(&txn).is_some() {
                    self.advance_own(out);
                }
            }
        }
    }

    fn decide_own(&mut self, txn: TxnId, outcome: Outcome, out: &mut Vec<Action>) {
        let Some(open) = self.open.get_mut(&txn) else { return };
        if matches!(open.phase, Phase::Decided(_)) {
            return;
        }
        open.phase = Phase::Decided(outcome);
        out.push(Action::Broadcast(Request::Decide { txn, outcome, body: None }));
        if outcome == Outcome::Abort
            && let Some(ticket) = open.ticket.take()
        {
            let by = std::mem::take(&mut open.by);
            out.push(Action::Finish(ticket, Finish::Aborted { stale: open.stale, by }));
        }
        let body = open.txn.clone();
        self.recoveries.remove(&txn);
        self.remember(txn, outcome);
        self.fence_resolved(txn, Some((outcome, body)), out); // a former writer may be the one who fences
        self.advance_own(out);
        self.recovery_unblocked(txn, outcome, out);
    }

    /// Hands out the decided prefix of the own stream, as far as everything it depends on is applied here: a
    /// row that it has read may be ahead of the feed, and a snapshot must not show an effect without its cause.
    fn advance_own(&mut self, out: &mut Vec<Action>) {
        let mut hole: Option<TxnId> = None;
        while let Some(first) = self.open.first_entry() {
            let Phase::Decided(outcome) = first.get().phase else { break };
            if outcome == Outcome::Commit && !self.followed.covers(&first.get().txn.deps) {
                break;
            }
            let (txn, open) = first.remove_entry();
            match outcome {
                Outcome::Abort => hole = Some(txn),
                Outcome::Commit => {
                    hole = None;
                    out.push(Action::Apply(FeedItem::Commit(open.txn)));
                    if let Some(ticket) = open.ticket {
                        out.push(Action::Finish(ticket, Finish::Committed(txn)));
                    }
                }
            }
            self.followed.advance(txn.seat, txn.position());
        }
        if let Some(txn) = hole {
            out.push(Action::Apply(FeedItem::Advance { seat: txn.seat, to: txn.position() }));
        }
    }

    // ---- shared ----

    fn poll(&mut self, out: &mut Vec<Action>) {
        let fast: Vec<TxnId> = self
            .open
            .iter()
            .filter(|(_, open)| matches!(open.phase, Phase::Fast))
            .map(|(txn, _)| *txn)
            .collect();
        for txn in fast {
            self.weigh(txn, out);
        }
        let (now, up) = (self.now, self.up);
        for open in self.open.values_mut().filter(|open| now.saturating_sub(open.sent) >= RESEND_MS) {
            open.sent = now;
            match &open.phase {
                Phase::Fast => {
                    let silent = up.minus(open.accepts.plus(open.rejects));
                    out.extend(
                        each(silent).map(|node| Action::Send(node, Request::Propose(open.txn.clone()))),
                    );
                }
                Phase::Second { value, accepted, .. } => {
                    let silent = up.minus(*accepted);
                    out.extend(each(silent).map(|node| Action::Send(node, second_round(&open.txn, *value))));
                }
                Phase::Recovering | Phase::Decided(_) => {}
            }
        }
        self.poll_recoveries(out);
        self.poll_fencing(out);
    }

    fn seen(&mut self, ballot: Ballot) {
        self.highest_round = self.highest_round.max(ballot.round);
    }

    fn next_ballot(&mut self) -> Ballot {
        self.highest_round += 1;
        Ballot { round: self.highest_round.max(2), proposer: self.run }
    }

    /// How long to pause after so many tries that others got in the way of.
    fn duel_pause(&mut self, tries: u32) -> Millis {
        // xorshift64 (Marsaglia, "Xorshift RNGs", 2003).
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        1 + self.random % (DUEL_PAUSE_MS << tries.min(DUEL_DOUBLINGS_MAX))
    }

    fn remember(&mut self, txn: TxnId, outcome: Outcome) {
        if self.resolved.insert(txn, outcome).is_none() {
            self.resolved_order.push_back(txn);
        }
        if self.resolved_order.len() > RESOLVED_MAX
            && let Some(oldest) = self.resolved_order.pop_front()
        {
            self.resolved.remove(&oldest);
        }
    }
}

fn second_round(txn: &SharedTxn, value: Outcome) -> Request {
    Request::Accept { txn: txn.id, ballot: Ballot::COORDINATOR, value, body: Some(txn.clone()) }
}

fn each(nodes: Nodes) -> impl Iterator<Item = StorageId> {
    (0..8).map(StorageId).filter(move |node| nodes.has(*node))
}
