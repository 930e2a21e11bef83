//! The oracle: it sees everything, and says at once when something that must always hold does not.
//!
//! | it holds always that | because |
//! |---|---|
//! | a decision never changes | [`Oracle::decided`] |
//! | no two committed transactions fill one slot | [`Oracle::decided`] |
//! | a stream has no gaps: what is passed over was aborted, by everybody's account | [`Oracle::follow`] |
//! | what is applied is causally closed | [`Oracle::follow`] |
//! | a snapshot is the same wherever it is read | [`Oracle::check_read`], [`Oracle::check_block`] |
//! | no lock outlives its transaction | `Engine::check_locks` |

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use node_core::coordinator::Finish;
use node_core::ids::{Epoch, Key, Outcome, Position, Seat, Seq, StreamId, TxnId, Vector, Ver};
use node_core::txn::SharedTxn;
use node_core::wire::{Block, FeedItem, RowVersion};

use crate::history::{self, History, Op, Txn};
use crate::instance::Workload;

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Transactions acknowledged, those that only read among them.
    pub committed: u64,
    /// Lost to another transaction.
    pub conflicts: u64,
    /// Victims of a deadlock.
    pub deadlocks: u64,
    /// Refused because the instance is not the writer.
    pub read_only: u64,
    /// Refused for want of storage, or of patience.
    pub unavailable: u64,
    /// Whose client did not learn the outcome.
    pub unknown: u64,
    /// Reads of blocks from storage.
    pub fetches: u64,
    /// Transactions that changed something and are in the final state.
    pub written: u64,
    /// Seats opened.
    pub seats: u64,
    /// Faults of all kinds.
    pub faults: u64,
    /// Disks readmitted.
    pub readmitted: u64,
    /// Messages sent.
    pub messages: u64,
}

/// Somebody who follows the decided history.
#[derive(Clone, Debug, Default)]
pub(crate) struct Follow {
    at: Vector,
}

impl Follow {
    /// Starts over from a vector.
    pub(crate) fn jump(&mut self, at: &Vector) {
        self.at.join(at);
    }
}

/// See the module.
pub(crate) struct Oracle {
    pub(crate) history: History,
    pub(crate) workload: Workload,
    /// Every key there can be.
    pub(crate) keys: Vec<Key>,
    pub(crate) counts: Report,
    pub(crate) seats: u64,
    /// Clients begin nothing new.
    pub(crate) quiet: bool,
    decisions: BTreeMap<TxnId, Outcome>,
    bodies: HashMap<TxnId, SharedTxn>,
    /// Committed versions by key and height.
    versions: BTreeMap<Key, BTreeMap<u64, (TxnId, Option<Bytes>)>>,
    /// Where streams end, as somebody has concluded.
    ends: BTreeMap<StreamId, Seq>,
    nodes: Vec<Follow>,
    pub(crate) lost: BTreeSet<usize>,
    acknowledged: Vec<TxnId>,
    refused: Vec<TxnId>,
    /// Of these, those that a newer version was said to stand in the way of.
    stale: Vec<TxnId>,
    elements: u64,
}

impl Oracle {
    pub(crate) fn new(nodes: usize, workload: Workload) -> Oracle {
        Oracle {
            history: History::default(),
            keys: workload.keys(),
            workload,
            counts: Report::default(),
            seats: 0,
            quiet: false,
            decisions: BTreeMap::new(),
            bodies: HashMap::new(),
            versions: BTreeMap::new(),
            ends: BTreeMap::new(),
            nodes: vec![Follow::default(); nodes],
            lost: BTreeSet::new(),
            acknowledged: Vec::new(),
            refused: Vec::new(),
            stale: Vec::new(),
            elements: 0,
        }
    }
    pub(crate) fn next_element(&mut self) -> u64 {
        self.elements += 1;
        self.elements
    }
    pub(crate) fn node_started(&mut self, node: usize, ordered: &Vector) {
        self.nodes[node] = Follow { at: ordered.clone() };
    }
    pub(crate) fn node_lost(&mut self, node: usize) {
        self.lost.insert(node);
    }
    /// A lost node is a member again.
    pub(crate) fn node_back(&mut self, node: usize) {
        self.lost.remove(&node);
        self.counts.readmitted += 1;
    }
    /// A transaction is proposed.
    pub(crate) fn proposed(&mut self, txn: &SharedTxn) {
        self.bodies.insert(txn.id, txn.clone());
    }
    /// A proposal's own coordinator is done with it.
    pub(crate) fn finished(&mut self, txn: TxnId, finish: &Finish) {
        match finish {
            Finish::Committed(named) => {
                assert_eq!(*named, txn, "a ticket belongs to one transaction");
                self.decided(txn, Outcome::Commit);
                self.acknowledged.push(txn);
            }
            Finish::Aborted { stale, .. } => {
                self.decided(txn, Outcome::Abort);
                self.refused.push(txn);
                if *stale {
                    self.stale.push(txn);
                }
            }
            Finish::NoSeat => {}
        }
    }
    /// Somebody concludes that a transaction is decided.
    pub(crate) fn decided(&mut self, txn: TxnId, outcome: Outcome) {
        if let Some(before) = self.decisions.insert(txn, outcome) {
            assert_eq!(before, outcome, "the decision of {txn} changed");
            return;
        }
        if outcome == Outcome::Abort {
            return;
        }
        if let Some(end) = self.ends.get(&txn.stream()) {
            assert!(txn.seq <= *end, "{txn} is committed, but its stream ended at {}", end.0);
        }
        let body = self.bodies.get(&txn).cloned();
        for write in body.iter().flat_map(|body| &body.writes) {
            let slots = self.versions.entry(write.key.clone()).or_default();
            let before = slots.insert(write.height().0, (txn, write.value.clone()));
            if let Some((other, _)) = before {
                panic!("{other} and {txn} are committed and fill one slot of {:?}", write.key);
            }
        }
    }

    // ---- streams ----

    /// A storage node has put these in order.
    pub(crate) fn ordered(&mut self, node: usize, items: &[FeedItem]) {
        let mut follow = std::mem::take(&mut self.nodes[node]);
        self.follow(&mut follow, items);
        self.nodes[node] = follow;
    }

    /// Somebody applies these; what was applied before is skipped.
    pub(crate) fn follow(&mut self, follow: &mut Follow, items: &[FeedItem]) {
        for item in items {
            match item {
                FeedItem::Commit(txn) if follow.at.sees(txn.id) => self.decided(txn.id, Outcome::Commit),
                FeedItem::Commit(txn) => {
                    self.bodies.entry(txn.id).or_insert_with(|| txn.clone());
                    self.decided(txn.id, Outcome::Commit);
                    let to = txn.id.position();
                    self.passed(txn.id.seat, follow.at.get(txn.id.seat), to, true);
                    follow.at.advance(txn.id.seat, to);
                    let missed =
                        txn.deps.iter().find(|(seat, to)| self.missed(*seat, follow.at.get(*seat), *to));
                    assert!(missed.is_none(), "{} is applied before what it depends on: {missed:?}", txn.id);
                }
                FeedItem::Advance { seat, to } => {
                    self.passed(*seat, follow.at.get(*seat), *to, false);
                    follow.at.advance(*seat, *to);
                }
            }
        }
    }

    /// Whether anything committed lies between the positions: refused numbers are told late by a backlog.
    fn missed(&self, seat: Seat, from: Position, to: Position) -> bool {
        let id = |at: Position| TxnId { seat, epoch: at.epoch, seq: at.seq };
        let mut between = self.decisions.range(..=id(to)).rev().take_while(|(txn, _)| **txn > id(from));
        to > from && between.any(|(_, outcome)| *outcome == Outcome::Commit)
    }

    /// Everything after `from` up to `to` was passed over, but for `to` itself if it is `applied`.
    fn passed(&mut self, seat: Seat, from: Position, to: Position, applied: bool) {
        if to <= from {
            return;
        }
        let mut first = from.seq.0 + 1;
        if to.epoch > from.epoch {
            self.ended(StreamId { seat, epoch: from.epoch }, from.seq);
            for epoch in from.epoch.0 + 1..to.epoch.0 {
                self.ended(StreamId { seat, epoch: Epoch(epoch) }, Seq(0));
            }
            first = 1;
        }
        let holes = first..to.seq.0 + u64::from(!applied);
        for seq in holes {
            self.decided(TxnId { seat, epoch: to.epoch, seq: Seq(seq) }, Outcome::Abort);
        }
    }

    fn ended(&mut self, stream: StreamId, at: Seq) {
        let end = self.ends.entry(stream).or_insert(at);
        *end = (*end).min(at);
        let first = TxnId { seat: stream.seat, epoch: stream.epoch, seq: Seq(end.0 + 1) };
        let last = TxnId { seat: stream.seat, epoch: stream.epoch, seq: Seq(u64::MAX) };
        let beyond = self.decisions.range(first..=last).find(|(_, outcome)| **outcome == Outcome::Commit);
        assert!(beyond.is_none(), "{stream:?} ended at {}, but {beyond:?}", at.0);
    }

    // ---- snapshots ----

    /// What a snapshot sees of a key, by all that was decided.
    fn visible(&self, key: &Key, at: &Vector) -> Option<(Ver, &Option<Bytes>)> {
        let slots = self.versions.get(key)?.iter().rev();
        let (height, (txn, value)) = slots.into_iter().find(|(_, (txn, _))| at.sees(*txn))?;
        Some((Ver { height: node_core::ids::Height(*height), txn: *txn }, value))
    }
    /// A read from a snapshot.
    pub(crate) fn check_read(&self, key: &Key, at: &Vector, read: Option<&RowVersion>) {
        let truth = self.visible(key, at);
        let same = match (&truth, read) {
            (Some((ver, value)), Some(read)) => *ver == read.ver && **value == read.value,
            (None, None) => true,
            _ => false,
        };
        assert!(same, "the snapshot {at} of {key:?} is {truth:?}, but {read:?} was read");
    }
    /// A read of everything from a snapshot.
    pub(crate) fn check_scan(&self, rows: &[(Key, RowVersion)], at: &Vector) {
        let rows: BTreeMap<&Key, &RowVersion> = rows.iter().map(|(key, version)| (key, version)).collect();
        for key in self.versions.keys() {
            self.check_read(key, at, rows.get(key).copied());
        }
    }
    /// A storage node answers with a block.
    pub(crate) fn check_block(&self, block: &Block, node: usize) {
        let inside = |key: &Key| *key >= block.start && block.end.as_ref().is_none_or(|end| key < end);
        let mut rows = block.rows.iter().map(|row| (&row.key, &row.versions[0])).peekable();
        for key in self.versions.keys().filter(|key| inside(key)) {
            let row = rows.next_if(|(have, _)| *have == key).map(|(_, version)| version);
            let truth = self.visible(key, &block.at);
            let same = match (&truth, row) {
                (Some((ver, value)), Some(row)) => *ver == row.ver && **value == row.value,
                (None, None) => true,
                _ => false,
            };
            assert!(same, "{key:?} at {} is {truth:?}, but node {node} has {row:?}", block.at);
        }
        assert!(rows.next().is_none(), "node {node} has rows that were never written");
    }

    // ---- the end ----

    /// Every committed transaction replaces what it says it does.
    pub(crate) fn check_bases(&self) {
        for (txn, _) in self.decisions.iter().filter(|(_, outcome)| **outcome == Outcome::Commit) {
            let Some(body) = self.bodies.get(txn) else { continue };
            for write in &body.writes {
                let Some(base) = write.base else { continue };
                let slot = self.versions.get(&write.key).and_then(|slots| slots.get(&base.height.0));
                let found = slot.map(|(found, _)| *found);
                assert_eq!(
                    found,
                    Some(base.txn),
                    "{txn} replaces a version of {:?} that is not there",
                    write.key
                );
            }
        }
    }
    /// Whoever was refused for a newer version was refused for one that exists.
    pub(crate) fn check_stale(&self) {
        let height = |key: &Key| {
            self.versions.get(key).and_then(|slots| slots.last_key_value()).map_or(0, |(height, _)| *height)
        };
        for body in self.stale.iter().filter_map(|txn| self.bodies.get(txn)) {
            let overtaken = body.writes.iter().any(|write| height(&write.key) >= write.height().0)
                || body.checks.iter().any(|check| height(&check.key) > check.height().0);
            assert!(
                overtaken,
                "{} was refused as stale, but nothing is newer than what it replaces",
                body.id
            );
        }
    }
    /// Whether a transaction of the run that appended something has been acknowledged since.
    pub(crate) fn committed_since(&self, run: u64, since: u64) -> bool {
        let appends = |txn: &Txn| txn.ops.iter().any(|op| matches!(op, Op::Append { .. }));
        let recent = self.history.txns.iter().rev().take_while(|txn| txn.start >= since);
        recent.into_iter().any(|txn| txn.site == run && txn.outcome == history::Outcome::Ok && appends(txn))
    }
    /// How many committed transactions have changed something.
    pub(crate) fn written(&self) -> u64 {
        self.decisions.values().filter(|outcome| **outcome == Outcome::Commit).count() as u64
    }
    pub(crate) fn acknowledged(&self) -> &[TxnId] {
        &self.acknowledged
    }
    pub(crate) fn refused(&self) -> &[TxnId] {
        &self.refused
    }
}

impl std::ops::AddAssign for Report {
    fn add_assign(&mut self, other: Report) {
        self.committed += other.committed;
        self.conflicts += other.conflicts;
        self.deadlocks += other.deadlocks;
        self.read_only += other.read_only;
        self.unavailable += other.unavailable;
        self.unknown += other.unknown;
        self.fetches += other.fetches;
        self.written += other.written;
        self.seats += other.seats;
        self.faults += other.faults;
        self.readmitted += other.readmitted;
        self.messages += other.messages;
    }
}
