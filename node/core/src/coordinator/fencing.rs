//! Taking a seat (section 8 and II.2): fence its older epochs, resolve what they left undecided, close them.
//!
//! ```text
//! Fence ─ Q promises ─▶ Resolve every listed transaction ─▶ Activate ─ Q accepted ─▶ Activated: seated
//! ```
//!
//! Invariants: one set of promises per ballot, and one list; nothing is proposed before the closing is
//! chosen; the list names aborted transactions too.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Coordinator, LEASED_MS, Millis, Nodes, PROMISE_GRACE_MS, RESEND_MS, each};
use crate::acceptor::{aborts, opens};
use crate::ids::{Ballot, Epoch, Outcome, RunId, Seat, Seq, StorageId, TxnId};
use crate::txn::SharedTxn;
use crate::wire::{Closing, FencedTxn, Promise, Request};

/// Taking a seat.
pub(super) struct Fencing {
    seat: Seat,
    epoch: Epoch,
    ballot: Ballot,
    since: Millis,
    sent: Millis,
    /// When those who keep to a lease were last asked.
    asked: Millis,
    tries: u32,
    step: Step,
}

/// What one node says about the seat's older epochs.
pub(super) struct Report {
    pub(super) settled: Vec<(Epoch, Seq)>,
    pub(super) older: Vec<FencedTxn>,
    pub(super) closings: Vec<Closing>,
}

enum Step {
    Wait {
        until: Millis,
    },
    /// `leased`: who does not grant it yet.
    Fence {
        reports: BTreeMap<StorageId, Report>,
        leased: Nodes,
    },
    Resolve {
        closing: Closing,
        waiting: BTreeSet<TxnId>,
    },
    Activate {
        closing: Closing,
        accepted: Nodes,
    },
}

impl Fencing {
    pub(super) fn describe(&self) -> String {
        let step = match &self.step {
            Step::Wait { until } => format!("waits until {until}"),
            Step::Fence { reports, leased } => {
                format!("has {} reports; {} nodes keep to the holder's lease", reports.len(), leased.len())
            }
            Step::Resolve { waiting, .. } => format!("waits for {waiting:?}"),
            Step::Activate { accepted, .. } => format!("closing accepted by {accepted:?}"),
        };
        format!("seat {} epoch {} at {:?} {step}", self.seat.0, self.epoch.0, self.ballot)
    }
    pub(super) fn request(&self, run: RunId) -> Option<Request> {
        match &self.step {
            Step::Wait { .. } | Step::Resolve { .. } => None,
            Step::Fence { .. } => {
                Some(Request::Fence { seat: self.seat, epoch: self.epoch, run, ballot: self.ballot })
            }
            Step::Activate { closing, .. } => Some(Request::Activate(closing.clone())),
        }
    }
}

impl Coordinator {
    /// Begins to take the seat with this epoch, which must be above every epoch known to be granted.
    pub fn take(&mut self, seat: Seat, epoch: Epoch, now: Millis, out: &mut Vec<Action>) {
        self.now = now;
        self.fence(seat, epoch, 0, out);
    }

    fn fence(&mut self, seat: Seat, epoch: Epoch, tries: u32, out: &mut Vec<Action>) {
        let (now, ballot) = (self.now, self.next_ballot());
        let step = Step::Fence { reports: BTreeMap::new(), leased: Nodes::default() };
        self.fencing = Some(Fencing { seat, epoch, ballot, since: now, sent: now, asked: now, tries, step });
        out.push(Action::Broadcast(Request::Fence { seat, epoch, run: self.run, ballot }));
    }

    pub(super) fn fence_again(&mut self, out: &mut Vec<Action>) {
        let Some(fencing) = &self.fencing else { return };
        let (seat, epoch, tries) = (fencing.seat, fencing.epoch, fencing.tries + 1);
        self.fence(seat, epoch, tries, out);
    }

    fn current_fence(&mut self, seat: Seat, epoch: Epoch, ballot: Ballot) -> Option<&mut Fencing> {
        let fencing = self.fencing.as_mut()?;
        (fencing.seat == seat && fencing.epoch == epoch && fencing.ballot == ballot).then_some(fencing)
    }

    pub(super) fn fence_ok(
        &mut self,
        node: StorageId,
        (seat, epoch, ballot): (Seat, Epoch, Ballot),
        report: Report,
        out: &mut Vec<Action>,
    ) {
        let Some(fencing) = self.current_fence(seat, epoch, ballot) else { return };
        let Step::Fence { reports, leased } = &mut fencing.step else { return };
        reports.insert(node, report);
        leased.remove(node);
        self.look_at_reports(out);
    }

    /// A node keeps to the lease of the seat's holder. It is asked again soon; if all do, the seat is left alone.
    pub(super) fn fence_leased(
        &mut self,
        node: StorageId,
        (seat, epoch, ballot): (Seat, Epoch, Ballot),
        out: &mut Vec<Action>,
    ) {
        let up = self.up;
        let Some(fencing) = self.current_fence(seat, epoch, ballot) else { return };
        let Step::Fence { reports, leased } = &mut fencing.step else { return };
        leased.add(node);
        if reports.is_empty() && up.minus(*leased).len() == 0 {
            self.fencing = None;
            return out.push(Action::TakeFailed { seat, granted: Epoch(epoch.0.saturating_sub(1)) });
        }
        self.look_at_reports(out);
    }

    fn look_at_reports(&mut self, out: &mut Vec<Action>) {
        let (up, now, quorum, run) = (self.up, self.now, self.quorum.write(), self.run);
        let Some(fencing) = self.fencing.as_mut() else { return };
        let Step::Fence { reports, leased } = &mut fencing.step else { return };
        let complete = each(up).all(|node| reports.contains_key(&node) || leased.has(node));
        if reports.len() < quorum || !(complete || now.saturating_sub(fencing.since) >= PROMISE_GRACE_MS) {
            return;
        }
        let reports = std::mem::take(reports);
        let mut closing = Closing {
            seat: fencing.seat,
            epoch: fencing.epoch,
            run,
            ballot: fencing.ballot,
            settled: furthest(&reports),
            listed: Vec::new(),
            bodies: Vec::new(),
        };
        let mut waiting = BTreeSet::new();
        let mut views = Vec::new();
        for (txn, view) in listed(&reports, &closing) {
            match view {
                View::Decided(outcome, body) => {
                    closing.listed.push((txn, outcome));
                    closing.bodies.extend(body);
                }
                View::Open(promises) => {
                    waiting.insert(txn);
                    views.push((txn, promises));
                }
            }
        }
        let ballot = fencing.ballot;
        fencing.step = Step::Resolve { closing, waiting };
        for (txn, promises) in views {
            self.seed_recovery(txn, ballot, promises, out);
        }
        self.activate_if_resolved(out);
    }

    /// A transaction of the list is decided; `None` if its outcome is settled but no longer known.
    pub(super) fn fence_resolved(
        &mut self,
        txn: TxnId,
        decided: Option<(Outcome, SharedTxn)>,
        out: &mut Vec<Action>,
    ) {
        let outcome = self.resolved.get(&txn).copied();
        let Some(Fencing { step: Step::Resolve { closing, waiting }, .. }) = self.fencing.as_mut() else {
            return;
        };
        if !waiting.remove(&txn) {
            return;
        }
        match (decided, outcome) {
            (Some((outcome, body)), _) => {
                closing.listed.push((txn, outcome));
                closing.bodies.extend((outcome == Outcome::Commit).then_some(body));
            }
            (None, Some(outcome)) => closing.listed.push((txn, outcome)),
            // Settled everywhere below what some node has folded: a new set of reports shows it.
            (None, None) => return self.fence_again(out),
        }
        self.activate_if_resolved(out);
    }

    fn activate_if_resolved(&mut self, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(fencing) = self.fencing.as_mut() else { return };
        let Step::Resolve { closing, waiting } = &mut fencing.step else { return };
        if !waiting.is_empty() {
            return;
        }
        closing.listed.sort();
        let closing = closing.clone();
        out.push(Action::Broadcast(Request::Activate(closing.clone())));
        fencing.sent = now;
        fencing.step = Step::Activate { closing, accepted: Nodes::default() };
    }

    pub(super) fn activate_ok(
        &mut self,
        node: StorageId,
        seat: Seat,
        epoch: Epoch,
        ballot: Ballot,
        out: &mut Vec<Action>,
    ) {
        let quorum = self.quorum.write();
        let Some(fencing) = self.current_fence(seat, epoch, ballot) else { return };
        let Step::Activate { closing, accepted } = &mut fencing.step else { return };
        accepted.add(node);
        if accepted.len() < quorum {
            return;
        }
        let closing = closing.clone();
        self.fencing = None;
        self.seat = Some(opens(&closing));
        self.next = Seq(1);
        out.push(Action::Broadcast(Request::Activated(closing.clone())));
        out.push(Action::Seated(opens(&closing)));
        self.closing = Some(closing);
    }

    pub(super) fn fence_nack(
        &mut self,
        seat: Seat,
        epoch: Epoch,
        ballot: Ballot,
        granted: Epoch,
        out: &mut Vec<Action>,
    ) {
        if self.current_fence(seat, epoch, ballot).is_none() {
            return;
        }
        if granted >= epoch {
            self.fencing = None;
            out.push(Action::TakeFailed { seat, granted });
        } else {
            self.pause_fence();
        }
    }

    pub(super) fn activate_nack(&mut self, seat: Seat, epoch: Epoch, ballot: Ballot, _out: &mut [Action]) {
        if self.current_fence(seat, epoch, ballot).is_some() {
            self.pause_fence();
        }
    }

    fn pause_fence(&mut self) {
        let tries = self.fencing.as_ref().map_or(0, |fencing| fencing.tries);
        let until = self.now + self.duel_pause(tries);
        if let Some(fencing) = &mut self.fencing {
            fencing.step = Step::Wait { until };
        }
    }

    pub(super) fn poll_fencing(&mut self, out: &mut Vec<Action>) {
        let (now, run) = (self.now, self.run);
        let Some(fencing) = &mut self.fencing else { return };
        match &fencing.step {
            Step::Wait { until } if *until <= now => self.fence_again(out),
            Step::Fence { .. } | Step::Activate { .. } if now.saturating_sub(fencing.sent) >= RESEND_MS => {
                fencing.sent = now;
                out.extend(fencing.request(run).map(Action::Broadcast));
            }
            Step::Fence { leased, .. } => {
                let leased = *leased;
                if now.saturating_sub(fencing.asked) >= LEASED_MS
                    && let Some(request) = fencing.request(run)
                {
                    fencing.asked = now;
                    out.extend(each(leased).map(|node| Action::Send(node, request.clone())));
                }
                self.look_at_reports(out);
            }
            Step::Wait { .. } | Step::Resolve { .. } | Step::Activate { .. } => {}
        }
    }
}

enum View {
    Decided(Outcome, Option<SharedTxn>),
    Open(BTreeMap<StorageId, Promise>),
}

/// By stream, how far any node of the view has everything settled.
fn furthest(reports: &BTreeMap<StorageId, Report>) -> Vec<(Epoch, Seq)> {
    let mut settled: BTreeMap<Epoch, Seq> = BTreeMap::new();
    for (epoch, seq) in reports.values().flat_map(|report| &report.settled) {
        let furthest = settled.entry(*epoch).or_default();
        *furthest = (*furthest).max(*seq);
    }
    settled.into_iter().collect()
}

/// Every older transaction that any node of the view has a record of, beyond what is settled.
fn listed(reports: &BTreeMap<StorageId, Report>, closing: &Closing) -> Vec<(TxnId, View)> {
    let all = reports.values().flat_map(|report| report.older.iter().map(|older| older.promise.txn));
    let txns: BTreeSet<TxnId> = all.filter(|txn| aborts(closing, *txn)).collect();
    let mut listed = Vec::new();
    for txn in txns {
        let mut promises = BTreeMap::new();
        let mut decided = None;
        let mut body = None;
        for (node, report) in reports {
            let own = report.older.iter().find(|older| older.promise.txn == txn);
            decided = decided.or(own.and_then(|older| older.decided));
            body = body.or_else(|| own.and_then(|older| older.promise.body.clone()));
            let covered =
                report.closings.iter().filter(|other| other.epoch <= closing.epoch && aborts(other, txn));
            let covered = covered.map(|other| (other.ballot, Outcome::Abort)).max();
            let mut promise = own.map_or_else(|| silent(txn, closing.ballot), |older| older.promise.clone());
            promise.accepted = promise.accepted.max(covered);
            promises.insert(*node, promise);
        }
        listed.push(match decided {
            Some(outcome) => (txn, View::Decided(outcome, body)),
            None => (txn, View::Open(promises)),
        });
    }
    listed
}

/// A node that has no record of the transaction promises without having voted.
fn silent(txn: TxnId, ballot: Ballot) -> Promise {
    Promise { txn, ballot, vote: None, accepted: None, body: None, holders: Vec::new() }
}
