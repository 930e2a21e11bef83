//! Recovery of one transaction by ballots (section 7 and II.1): anybody may, at any time.
//!
//! A view of promises forces COMMIT when the highest accepted value is COMMIT, or when the nodes not in
//! the view could complete a fast commit; otherwise the outcome is ABORT. CONFLICT-FIRST: before COMMIT is
//! proposed by the second rule, every holder in the view that conflicts with the transaction's writes is
//! recovered, and its ABORT delivered.

use std::collections::BTreeMap;

use super::{Action, Coordinator, Millis, Nodes, PROMISE_GRACE_MS, RESEND_MS, each};
use crate::ids::{Ballot, Outcome, StorageId, TxnId};
use crate::mistakes::{self, Mistake};
use crate::txn::SharedTxn;
use crate::wire::{Promise, Request};

/// One transaction being recovered.
pub(super) struct Recovery {
    body: Option<SharedTxn>,
    /// Told to every node that promised: then their lists of holders are complete.
    told: bool,
    step: Step,
    /// A blocked recovery or a fence waits for the outcome: it cannot be dropped.
    wanted: bool,
    tries: u32,
}

enum Step {
    /// Perhaps it is decided without help.
    Wait { until: Millis },
    /// Asking.
    Prepare { ballot: Ballot, promises: BTreeMap<StorageId, Promise>, since: Millis, sent: Millis },
    /// COMMIT is due, but first these have to be resolved.
    Conflicts { ballot: Ballot, on: Vec<TxnId> },
    /// Proposing.
    Accept { ballot: Ballot, value: Outcome, accepted: Nodes, sent: Millis },
}

impl Recovery {
    pub(super) fn describe(&self) -> String {
        match &self.step {
            Step::Wait { until } => format!("waits until {until}"),
            Step::Prepare { ballot, promises, .. } => {
                format!("has {} promises at {ballot:?}", promises.len())
            }
            Step::Conflicts { on, .. } => format!("waits for {on:?}"),
            Step::Accept { ballot, value, accepted, .. } => format!("{value:?} at {ballot:?}: {accepted:?}"),
        }
    }
    pub(super) fn needed(&self) -> bool {
        self.wanted
    }
    /// The request that is outstanding, for a node that has just connected.
    pub(super) fn request(&self, txn: TxnId) -> Option<Request> {
        match &self.step {
            Step::Wait { .. } | Step::Conflicts { .. } => None,
            Step::Prepare { ballot, .. } => {
                Some(Request::Prepare { txn, ballot: *ballot, body: self.body.clone() })
            }
            Step::Accept { ballot, value, .. } => {
                Some(Request::Accept { txn, ballot: *ballot, value: *value, body: self.body.clone() })
            }
        }
    }
}

enum Choice {
    Propose(Outcome),
    /// COMMIT, after these.
    After(Vec<SharedTxn>),
    /// The record was not known when the promises were asked for: ask again with it.
    AskAgain,
}

impl Coordinator {
    pub(super) fn start_recovery(
        &mut self,
        txn: TxnId,
        body: Option<SharedTxn>,
        patience: Millis,
        out: &mut Vec<Action>,
    ) {
        if let Some(recovery) = self.recoveries.get_mut(&txn) {
            if recovery.body.is_none() {
                recovery.body = body;
            }
            // Its writer may be gone by now. A pause between two attempts, though, stays as long as it is.
            if let (Step::Wait { until }, 0) = (&mut recovery.step, recovery.tries) {
                *until = (*until).min(self.now + patience);
            }
            return;
        }
        let step = Step::Wait { until: self.now + patience };
        self.recoveries.insert(txn, Recovery { body, told: false, step, wanted: false, tries: 0 });
        if patience == 0 {
            self.prepare(txn, out);
        }
    }

    fn want_recovery(&mut self, txn: &SharedTxn, patience: Millis, out: &mut Vec<Action>) {
        self.start_recovery(txn.id, Some(txn.clone()), patience, out);
        if let Some(recovery) = self.recoveries.get_mut(&txn.id) {
            recovery.wanted = true;
        }
    }

    /// A recovery whose promises a fence has collected already.
    pub(super) fn seed_recovery(
        &mut self,
        txn: TxnId,
        ballot: Ballot,
        promises: BTreeMap<StorageId, Promise>,
        out: &mut Vec<Action>,
    ) {
        let body = promises.values().find_map(|promise| promise.body.clone());
        // A node without the record could neither say who holds its slots nor reserve them. If COMMIT is due by
        // counting, a rival may become due to commit there: then each would block the other, for ever.
        let told = promises.values().all(|promise| promise.body.is_some());
        let step = Step::Prepare { ballot, promises, since: 0, sent: self.now };
        self.recoveries.insert(txn, Recovery { body, told, step, wanted: true, tries: 0 });
        self.look_at_promises(txn, out);
    }

    fn prepare(&mut self, txn: TxnId, out: &mut Vec<Action>) {
        let ballot = self.next_ballot();
        let now = self.now;
        let Some(recovery) = self.recoveries.get_mut(&txn) else { return };
        recovery.step = Step::Prepare { ballot, promises: BTreeMap::new(), since: now, sent: now };
        recovery.told = recovery.body.is_some();
        recovery.tries += 1;
        out.push(Action::Broadcast(Request::Prepare { txn, ballot, body: recovery.body.clone() }));
    }

    /// Starts everything over: answers were counted that do not count together any more.
    pub(super) fn restart_recoveries(&mut self, out: &mut Vec<Action>) {
        let asked = |recovery: &Recovery| !matches!(recovery.step, Step::Wait { .. });
        let all: Vec<TxnId> =
            self.recoveries.iter().filter(|(_, recovery)| asked(recovery)).map(|(txn, _)| *txn).collect();
        for txn in all {
            self.prepare(txn, out);
        }
    }

    /// Starts over with a higher ballot, after a pause that differs between recoverers.
    fn back_off(&mut self, txn: TxnId) {
        let Some(tries) = self.recoveries.get(&txn).map(|recovery| recovery.tries) else { return };
        let until = self.now + self.duel_pause(tries);
        if let Some(recovery) = self.recoveries.get_mut(&txn) {
            recovery.step = Step::Wait { until };
        }
    }

    pub(super) fn promised(&mut self, node: StorageId, promise: Promise, out: &mut Vec<Action>) {
        let txn = promise.txn;
        let Some(recovery) = self.recoveries.get_mut(&txn) else { return };
        let Step::Prepare { ballot, promises, .. } = &mut recovery.step else { return };
        if *ballot != promise.ballot {
            return;
        }
        if recovery.body.is_none() {
            recovery.body = promise.body.clone();
        }
        promises.insert(node, promise);
        self.look_at_promises(txn, out);
    }

    fn look_at_promises(&mut self, txn: TxnId, out: &mut Vec<Action>) {
        let Some(recovery) = self.recoveries.get(&txn) else { return };
        let Step::Prepare { ballot, promises, since, .. } = &recovery.step else { return };
        let ballot = *ballot;
        let complete = each(self.up).all(|node| promises.contains_key(&node));
        let waited = self.now.saturating_sub(*since) >= PROMISE_GRACE_MS;
        if promises.len() < self.quorum.write() || !(complete || waited) {
            return;
        }
        match self.choose(recovery, promises) {
            Choice::AskAgain => self.prepare(txn, out),
            Choice::Propose(value) => self.propose_at(txn, ballot, value, out),
            Choice::After(holders) => {
                let on: Vec<SharedTxn> =
                    holders.into_iter().filter(|holder| !self.resolved.contains_key(&holder.id)).collect();
                if on.is_empty() {
                    return self.propose_at(txn, ballot, Outcome::Commit, out);
                }
                // Each of two may be due to COMMIT before the other in its own view; in one shared view only
                // one of them can be. Both start over, and a later view has all nodes that answer.
                let cycle = on.iter().any(|holder| self.waits_for(holder.id, txn));
                if let (false, Some(recovery)) = (cycle, self.recoveries.get_mut(&txn)) {
                    recovery.step =
                        Step::Conflicts { ballot, on: on.iter().map(|holder| holder.id).collect() };
                    recovery.wanted = true;
                } else {
                    self.back_off(txn);
                    on.iter().for_each(|holder| self.back_off(holder.id));
                }
                for holder in on {
                    self.want_recovery(&holder, 0, out);
                }
            }
        }
    }

    fn waits_for(&self, waiting: TxnId, target: TxnId) -> bool {
        match self.recoveries.get(&waiting).map(|recovery| &recovery.step) {
            Some(Step::Conflicts { on, .. }) => {
                on.contains(&target)
                    || on.iter().any(|next| *next != waiting && self.waits_for(*next, target))
            }
            Some(Step::Wait { .. } | Step::Prepare { .. } | Step::Accept { .. }) | None => false,
        }
    }

    fn choose(&self, recovery: &Recovery, promises: &BTreeMap<StorageId, Promise>) -> Choice {
        if let Some((_, value)) = promises.values().filter_map(|promise| promise.accepted).max() {
            return Choice::Propose(value);
        }
        let accepts = promises.values().filter(|promise| promise.vote == Some(true)).count();
        let must_commit = self.quorum.must_commit(promises.len(), accepts);
        if !must_commit || mistakes::made(Mistake::SkipMustCommit) {
            return Choice::Propose(Outcome::Abort);
        }
        if !recovery.told {
            return Choice::AskAgain;
        }
        let mut holders: Vec<SharedTxn> = Vec::new();
        for holder in promises.values().flat_map(|promise| &promise.holders) {
            if !holders.iter().any(|have| have.id == holder.id) {
                holders.push(holder.clone());
            }
        }
        Choice::After(holders)
    }

    fn propose_at(&mut self, txn: TxnId, ballot: Ballot, value: Outcome, out: &mut Vec<Action>) {
        let now = self.now;
        let Some(recovery) = self.recoveries.get_mut(&txn) else { return };
        let body = recovery.body.clone();
        if value == Outcome::Commit && body.is_none() {
            // Accepted as COMMIT somewhere, so some node has the record: ask until it answers.
            return self.back_off(txn);
        }
        recovery.step = Step::Accept { ballot, value, accepted: Nodes::default(), sent: now };
        out.push(Action::Broadcast(Request::Accept { txn, ballot, value, body }));
    }

    pub(super) fn recovery_accepted(
        &mut self,
        node: StorageId,
        txn: TxnId,
        at: Ballot,
        of: Outcome,
        out: &mut Vec<Action>,
    ) {
        let quorum = self.quorum.write();
        let Some(recovery) = self.recoveries.get_mut(&txn) else { return };
        let Step::Accept { ballot, value, accepted, .. } = &mut recovery.step else { return };
        if *ballot != at || *value != of {
            return;
        }
        accepted.add(node);
        if accepted.len() >= quorum {
            self.recovered(txn, of, out);
        }
    }

    pub(super) fn recovery_refused(&mut self, txn: TxnId, at: Ballot, _out: &mut [Action]) {
        let Some(recovery) = self.recoveries.get(&txn) else { return };
        let current = match &recovery.step {
            Step::Prepare { ballot, .. } | Step::Accept { ballot, .. } => *ballot == at,
            Step::Wait { .. } | Step::Conflicts { .. } => false,
        };
        if current {
            self.back_off(txn);
        }
    }

    pub(super) fn recovery_blocked(
        &mut self,
        txn: TxnId,
        at: Ballot,
        by: Vec<SharedTxn>,
        out: &mut Vec<Action>,
    ) {
        let Some(recovery) = self.recoveries.get(&txn) else { return };
        let Step::Accept { ballot, .. } = &recovery.step else { return };
        if *ballot != at {
            return;
        }
        for holder in by {
            if let Some(outcome) = self.resolved.get(&holder.id) {
                let outcome = *outcome;
                out.push(Action::Broadcast(Request::Decide { txn: holder.id, outcome, body: Some(holder) }));
            } else {
                self.want_recovery(&holder, PROMISE_GRACE_MS, out);
            }
        }
    }

    pub(super) fn recovery_settled(&mut self, txn: TxnId, outcome: Option<Outcome>, out: &mut Vec<Action>) {
        if !self.recoveries.contains_key(&txn) {
            return;
        }
        match outcome {
            Some(outcome) => self.recovered(txn, outcome, out),
            None => {
                // Decided long ago and forgotten: nobody holds anything for it any more. It may have been
                // committed, so whoever waited for it needs a fresh view.
                self.recoveries.remove(&txn);
                self.recovery_unblocked(txn, Outcome::Commit, out);
                self.fence_resolved(txn, None, out);
            }
        }
    }

    fn recovered(&mut self, txn: TxnId, outcome: Outcome, out: &mut Vec<Action>) {
        let Some(recovery) = self.recoveries.remove(&txn) else { return };
        self.remember(txn, outcome);
        out.push(Action::Broadcast(Request::Decide { txn, outcome, body: recovery.body.clone() }));
        out.push(Action::Resolved(txn, outcome));
        if self.open.contains_key(&txn) {
            self.decide_own(txn, outcome, out);
        }
        self.recovery_unblocked(txn, outcome, out);
        self.fence_resolved(txn, recovery.body.map(|body| (outcome, body)), out);
    }

    /// A transaction that others waited for is decided; its decision is on its way to every node.
    pub(super) fn recovery_unblocked(&mut self, txn: TxnId, outcome: Outcome, out: &mut Vec<Action>) {
        let waiting: Vec<TxnId> = self
            .recoveries
            .iter()
            .filter(|(_, recovery)| matches!(&recovery.step, Step::Conflicts { on, .. } if on.contains(&txn)))
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            let Some(recovery) = self.recoveries.get_mut(&id) else { continue };
            let Step::Conflicts { ballot, on } = &mut recovery.step else { continue };
            let ballot = *ballot;
            on.retain(|other| *other != txn);
            let clear = on.is_empty();
            // It may have written a slot that this one writes: only a fresh view tells.
            if outcome == Outcome::Commit {
                self.prepare(id, out);
            } else if clear {
                self.propose_at(id, ballot, Outcome::Commit, out);
            }
        }
        let blocked: Vec<TxnId> = self
            .recoveries
            .iter()
            .filter(|(_, recovery)| matches!(recovery.step, Step::Accept { value: Outcome::Commit, .. }))
            .map(|(id, _)| *id)
            .collect();
        for id in blocked {
            out.extend(self.recoveries[&id].request(id).map(Action::Broadcast));
        }
    }

    pub(super) fn poll_recoveries(&mut self, out: &mut Vec<Action>) {
        let now = self.now;
        let due: Vec<TxnId> = self.recoveries.keys().copied().collect();
        for txn in due {
            let Some(recovery) = self.recoveries.get_mut(&txn) else { continue };
            match &mut recovery.step {
                Step::Wait { until } if *until <= now => self.prepare(txn, out),
                Step::Prepare { sent, .. } if now.saturating_sub(*sent) >= RESEND_MS => {
                    *sent = now;
                    out.extend(self.recoveries[&txn].request(txn).map(Action::Broadcast));
                }
                Step::Prepare { .. } => self.look_at_promises(txn, out),
                Step::Accept { sent, .. } if now.saturating_sub(*sent) >= RESEND_MS => {
                    *sent = now;
                    out.extend(self.recoveries[&txn].request(txn).map(Action::Broadcast));
                }
                Step::Wait { .. } | Step::Conflicts { .. } | Step::Accept { .. } => {}
            }
        }
    }
}
