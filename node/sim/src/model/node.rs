//! A storage node's side: votes, accepts, promises, decisions, fences. Beside each rule stands the function
//! of `node_core::acceptor` that it models.

use node_core::ids::Outcome;

use super::rules::{
    AfterPromise, Bases, CheckHold, ClosingCommits, ClosingPromises, FenceReport, Grants, Reserve,
    SecondRound,
};
use super::setup::{Ballot, FIRST_PROPOSER, KEYS, Proposer, TxnSet};
use super::state::{Closing, FastVote, Node, PromiseSent, State, TxnAt};
use super::voting::Voting;

/// The index of the proposer that has this ballot.
pub(super) fn proposer_of(ballot: Ballot) -> usize {
    usize::from(ballot - FIRST_PROPOSER)
}

/// The ballot of the proposer at this index.
pub(super) fn ballot_of(proposer: usize) -> Ballot {
    FIRST_PROPOSER + proposer as Ballot
}

impl<const N: usize, const T: usize> Voting<N, T> {
    /// `decide`: votes and promises are dropped with the hold, the outcome stays.
    pub(super) fn decide(&self, node: &mut Node<T>, txn: usize, outcome: Outcome) {
        let at = &mut node.txns[txn];
        at.decided = Some(outcome);
        (at.vote, at.promised, at.accepted, at.record) = (FastVote::None, 0, None, false);
        if outcome == Outcome::Commit {
            self.raise_latest(node, txn);
        }
    }

    /// `raise_latest`.
    fn raise_latest(&self, node: &mut Node<T>, txn: usize) {
        for key in 0..KEYS {
            node.latest[key] = node.latest[key].max(self.relations[txn].height[key]);
        }
    }

    /// Whether everything that the transaction wrote is known here.
    pub(super) fn is_applied(&self, node: &Node<T>, txn: usize) -> bool {
        (0..KEYS).all(|key| node.latest[key] >= self.relations[txn].height[key])
    }

    /// `learn_bases`: a proposal or an accept certifies its bases as committed. A node without the base's
    /// record learns the versions of these keys only.
    fn learn_bases(&self, node: &mut Node<T>, txn: usize) {
        for base in self.relations[txn].bases.iter() {
            if self.rules.bases == Bases::LearntOfWrites && !self.writes_on(txn, base) {
                continue;
            }
            if node.txns[base].decided.is_none() {
                if node.txns[base].record {
                    self.decide(node, base, Outcome::Commit);
                } else {
                    let at = &mut node.txns[base];
                    at.decided = Some(Outcome::Commit);
                    (at.promised, at.accepted) = (0, None);
                }
            }
            for key in 0..KEYS {
                let height = self.relations[base].height[key];
                let (writes, checks) = (self.relations[txn].height[key], self.relations[txn].checked[key]);
                if height > 0 && (writes > 0 || checks > 0) {
                    node.latest[key] = node.latest[key].max(height);
                }
            }
        }
    }

    fn writes_on(&self, txn: usize, base: usize) -> bool {
        let heights = |other: usize| &self.relations[other].height;
        (0..KEYS).any(|key| heights(base)[key] > 0 && heights(txn)[key] > 0)
    }

    /// Conflicting transactions among `of` that hold their slots here.
    pub(super) fn holders(&self, node: &Node<T>, txn: usize, of: TxnSet) -> TxnSet {
        let holds = |other: &usize| {
            let at = &node.txns[*other];
            at.holds()
                || self.rules.check_hold == CheckHold::UntilQuorumKnows
                    && at.decided == Some(Outcome::Commit)
                    && !at.widely_known
                    && !self.relations[txn].stale_after.has(*other)
        };
        of.iter().filter(holds).fold(TxnSet::NONE, TxnSet::with)
    }

    /// `stale_writes`: a slot that the transaction writes is filled.
    fn stale_writes(&self, node: &Node<T>, txn: usize) -> bool {
        let height = &self.relations[txn].height;
        (0..KEYS).any(|key| height[key] != 0 && node.latest[key] >= height[key])
    }

    fn stale_checks(&self, node: &Node<T>, txn: usize) -> bool {
        let checked = &self.relations[txn].checked;
        (0..KEYS).any(|key| checked[key] != 0 && node.latest[key] >= checked[key])
    }

    fn lags(&self, node: &Node<T>, txn: usize) -> bool {
        (0..KEYS).any(|key| node.latest[key] + 1 < self.relations[txn].height[key])
    }

    /// Whether the node casts a fast vote if the proposal arrives.
    pub(super) fn may_vote(&self, at: &TxnAt) -> bool {
        let promised = at.promised > 0 && self.rules.after_promise == AfterPromise::NoFastVote;
        at.vote == FastVote::None && !promised && at.decided.is_none()
    }

    /// `propose` and `judge`.
    pub(super) fn vote(&self, node: &mut Node<T>, txn: usize) {
        if self.rules.bases != Bases::Rejected {
            self.learn_bases(node, txn);
        }
        let conflicts = self.relations[txn].conflicts;
        let reserved = |other: usize| {
            let at = &node.txns[other];
            at.decided.is_none() && at.promised >= FIRST_PROPOSER && at.record
        };
        let rejected = self.stale_writes(node, txn)
            || self.stale_checks(node, txn)
            || self.rules.bases == Bases::Rejected && self.lags(node, txn)
            || !self.holders(node, txn, conflicts).is_empty()
            || self.rules.reserve == Reserve::Recovered && conflicts.iter().any(reserved);
        let at = &mut node.txns[txn];
        at.record = true;
        if rejected {
            (at.vote, at.sent_reject) = (FastVote::Reject, true);
        } else {
            (at.vote, at.sent_accept) = (FastVote::Accept, true);
        }
    }

    /// Whether COMMIT can be accepted in a classic ballot, after the bases were learnt (LOCK2).
    pub(super) fn may_accept_commit(&self, node: &Node<T>, txn: usize) -> bool {
        let relations = &self.relations[txn];
        match self.rules.second_round {
            SecondRound::Nothing => true,
            SecondRound::Writes => {
                !self.stale_writes(node, txn)
                    && self.holders(node, txn, relations.conflicts_of_writes).is_empty()
            }
            SecondRound::WritesAndChecks => {
                !self.stale_writes(node, txn)
                    && !self.stale_checks(node, txn)
                    && self.holders(node, txn, relations.conflicts).is_empty()
            }
        }
    }

    /// The node as it is when it judges an accept of COMMIT.
    pub(super) fn with_bases(&self, node: &Node<T>, txn: usize) -> Node<T> {
        let mut node = *node;
        self.learn_bases(&mut node, txn);
        node
    }

    /// `accept`; the ballot is not below the promise.
    pub(super) fn accept(&self, node: &mut Node<T>, txn: usize, ballot: Ballot, value: Outcome) {
        if value == Outcome::Commit {
            *node = self.with_bases(node, txn);
            if node.txns[txn].decided.is_some() || !self.may_accept_commit(node, txn) {
                return;
            }
        }
        let at = &mut node.txns[txn];
        at.promised = ballot;
        at.accepted = Some((ballot, value));
        at.record = true;
        at.sent_accepted |= 1 << ballot;
    }

    /// `promise`: what the node tells a recoverer, or a fencer about one transaction.
    pub(super) fn promise(&self, node: &Node<T>, txn: usize) -> PromiseSent {
        let at = &node.txns[txn];
        // Who holds its slots can be told only if it is known which these are.
        let of = if at.record { self.conflicts_first(txn) } else { TxnSet::NONE };
        PromiseSent {
            sent: true,
            vote: at.vote,
            accepted: at.accepted,
            decided: at.decided,
            record: at.record,
            holders: self.holders(node, txn, of),
        }
    }

    /// `prepare`: the recoverer sends the record with it, or asks again as soon as it has it.
    pub(super) fn prepare(&self, node: &mut Node<T>, txn: usize, ballot: Ballot, open: bool) {
        node.txns[txn].record = true;
        if open {
            node.txns[txn].promises[proposer_of(ballot)] = self.promise(node, txn);
        }
        node.txns[txn].promised = ballot;
    }

    /// Whether the node grants the seat's epoch to this run: its last grant was of an older epoch, or to the
    /// same run.
    fn grants(&self, node: &Node<T>, proposer: usize) -> bool {
        if node.fence == 0 {
            return true;
        }
        let (Proposer::Fencer { epoch, run, .. }, Proposer::Fencer { epoch: granted, run: to, .. }) =
            (self.setup.proposers[proposer], self.setup.proposers[proposer_of(node.fence)])
        else {
            return false;
        };
        epoch > granted || epoch == granted && (run == to || self.rules.grants == Grants::Shared)
    }

    /// Whether `fence` is granted.
    pub(super) fn may_fence(&self, node: &Node<T>, proposer: usize) -> bool {
        let ballot = ballot_of(proposer);
        let promised = |txn: usize| node.txns[txn].promised;
        node.fence < ballot
            && self.grants(node, proposer)
            && self.older[proposer].iter().all(|txn| promised(txn) <= ballot)
    }

    /// `fence`: one promise for every transaction of the seat's older epochs, known or not.
    pub(super) fn fence(&self, state: &mut State<N, T>, index: usize, proposer: usize) {
        let ballot = ballot_of(proposer);
        let before = state.nodes[index];
        for txn in self.older[proposer].iter() {
            let mut report = self.promise(&before, txn);
            if self.rules.fence_report == FenceReport::OwnRecordsOnly {
                report.accepted = report.accepted.filter(|(at, _)| !self.by_closing(state, txn, *at));
            }
            let at = &mut state.nodes[index].txns[txn];
            if !state.closings[proposer].sent {
                at.promises[proposer] = report;
            }
            if at.decided.is_none() {
                at.promised = ballot;
            }
        }
        state.nodes[index].fence = ballot;
    }

    /// Whether what was accepted at this ballot came with a closing.
    pub(super) fn by_closing(&self, state: &State<N, T>, txn: usize, ballot: Ballot) -> bool {
        ballot >= FIRST_PROPOSER
            && matches!(self.setup.proposers[proposer_of(ballot)], Proposer::Fencer { .. })
            && state.proposed[txn][usize::from(ballot)].is_none()
    }

    /// What the closing neither lists nor has settled: accepting it is accepting ABORT for these.
    pub(super) fn left_out(&self, closing: &Closing, proposer: usize) -> TxnSet {
        self.older[proposer].minus(closing.commits.or(closing.aborts).or(closing.settled))
    }

    /// Of the set, what the node has settled: decided with everything before it in its stream.
    pub(super) fn settled(&self, decided: impl Fn(usize) -> bool, of: TxnSet) -> TxnSet {
        let mut settled = TxnSet::NONE;
        for txn in of.iter() {
            if decided(txn) && self.relations[txn].earlier.minus(settled).is_empty() {
                settled = settled.with(txn);
            }
        }
        settled
    }

    /// Whether `activate` accepts the closing.
    pub(super) fn may_activate(&self, node: &Node<T>, closing: &Closing, proposer: usize) -> bool {
        let ballot = ballot_of(proposer);
        let left_out = self.left_out(closing, proposer);
        let promises = self.rules.closing_promises == ClosingPromises::Ignored
            || left_out.iter().all(|txn| node.txns[txn].promised <= ballot);
        let committed = |txn: &usize| node.txns[*txn].decided == Some(Outcome::Commit);
        let commits = match self.rules.closing_commits {
            ClosingCommits::Ignored => true,
            ClosingCommits::Tested => !left_out.iter().any(|txn| committed(&txn)),
            ClosingCommits::LastSettledOnly => {
                let settled = self.settled(|txn| node.txns[txn].decided.is_some(), self.older[proposer]);
                let is_last = |txn: &usize| {
                    let later = |other: usize| self.relations[other].earlier.has(*txn);
                    !settled.iter().any(later)
                };
                let last = settled.iter().filter(is_last).fold(TxnSet::NONE, TxnSet::with);
                left_out.and(last).is_empty() && !left_out.minus(settled).iter().any(|txn| committed(&txn))
            }
        };
        let granted = node.fence == ballot || self.grants(node, proposer);
        closing.sent
            && node.closings >> proposer & 1 == 0
            && node.fence <= ballot
            && granted
            && promises
            && commits
    }

    /// `activate`: listed outcomes are decisions, the rest is an accepted ABORT.
    pub(super) fn activate(&self, node: &mut Node<T>, closing: &Closing, proposer: usize) {
        let ballot = ballot_of(proposer);
        for txn in closing.commits.iter() {
            self.decide(node, txn, Outcome::Commit);
        }
        for txn in closing.aborts.iter() {
            self.decide(node, txn, Outcome::Abort);
        }
        for txn in self.left_out(closing, proposer).iter() {
            let at = &mut node.txns[txn];
            at.sent_accepted |= 1 << ballot;
            if at.decided.is_none() {
                at.promised = at.promised.max(ballot);
                at.accepted = at.accepted.max(Some((ballot, Outcome::Abort)));
            }
        }
        node.closings |= 1 << proposer;
        node.fence = ballot;
        // Older ones that are listed or settled here are promised all the same.
        for txn in self.older[proposer].iter() {
            let at = &mut node.txns[txn];
            if at.decided.is_none() {
                at.promised = at.promised.max(ballot);
            }
        }
    }
}
