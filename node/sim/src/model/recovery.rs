//! Recoverers and fencers: what a view of promises lets them propose. A proposer may act on any view of at
//! least Q of the promises that were sent to it.

use node_core::ids::Outcome;

use super::node::ballot_of;
use super::rules::{ClosingList, FenceView, Unforced, UntoldPromises};
use super::setup::{Ballot, TxnSet};
use super::state::{Closing, FastVote, PromiseSent, State};
use super::voting::{Step, Voting};

/// What a view says about one transaction.
struct Judgement {
    /// What may be proposed.
    values: Vec<Outcome>,
    /// COMMIT is due by counting, so conflicting holders come first.
    counted: bool,
    /// Who these are.
    holders: TxnSet,
    /// Every node of the view had the record.
    told: bool,
}

impl<const N: usize, const T: usize> Voting<N, T> {
    /// Sets of at least Q of the nodes in `among`. Of nodes that are alike the first ones stand for all.
    pub(super) fn views(&self, among: u32, alike: u32) -> impl Iterator<Item = u32> + '_ {
        let fits = move |view: &u32| view & !among == 0 && view & alike & !(view << 1) == 0;
        self.quorums.iter().copied().filter(fits)
    }

    /// Nodes that are in the same state as the one before.
    pub(super) fn alike(state: &State<N, T>) -> u32 {
        let same = |node: &usize| state.nodes[*node] == state.nodes[node - 1];
        (1..N).filter(same).fold(0, |set, node| set | 1 << node)
    }

    /// `choose` of `node_core::coordinator::recovery`: the highest accepted value, else COMMIT if the unseen
    /// nodes could have completed a fast commit, else ABORT.
    fn judge_view(&self, view: u32, promise: impl Fn(usize) -> PromiseSent) -> Judgement {
        let promises = (0..N).filter(|node| view >> node & 1 == 1).map(promise);
        let unseen = N - view.count_ones() as usize;
        let mut highest = None;
        let (mut accepts, mut holders, mut told) = (0, TxnSet::NONE, true);
        for promise in promises {
            // A decision is adopted like an accepted value above all ballots.
            let value = promise.decided.map(|value| (Ballot::MAX, value));
            highest = highest.max(value).max(promise.accepted);
            accepts += usize::from(promise.vote == FastVote::Accept);
            holders = holders.or(promise.holders);
            told &= promise.record;
        }
        let must_commit = accepts + unseen >= self.setup.sizes.fast;
        let values = match highest {
            Some((_, value)) => vec![value],
            None if must_commit => vec![Outcome::Commit],
            None if self.rules.unforced == Unforced::Either => vec![Outcome::Abort, Outcome::Commit],
            None => vec![Outcome::Abort],
        };
        Judgement { values, counted: highest.is_none(), holders, told }
    }

    /// CONFLICT-FIRST: COMMIT by counting waits until every conflicting holder of the view is decided.
    fn waits(&self, state: &State<N, T>, judgement: &Judgement, value: Outcome) -> bool {
        let undecided = |txn: usize| state.chosen[txn].outcome().is_none();
        judgement.counted && value == Outcome::Commit && judgement.holders.iter().any(undecided)
    }

    pub(super) fn recoverer_steps(
        &self,
        state: &State<N, T>,
        txn: usize,
        ballot: Ballot,
        steps: &mut Vec<Step>,
    ) {
        if state.proposed[txn][usize::from(ballot)].is_some() {
            return;
        }
        let proposer = super::node::proposer_of(ballot);
        let promise = |node: usize| state.nodes[node].txns[txn].promises[proposer];
        let among = (0..N).filter(|node| promise(*node).sent).fold(0u32, |set, node| set | 1 << node);
        if (among.count_ones() as usize) < self.setup.sizes.write {
            return;
        }
        for view in self.views(among, Self::alike(state)) {
            let judgement = self.judge_view(view, promise);
            for value in &judgement.values {
                let step = Step::Propose { txn, ballot, value: *value };
                if !self.waits(state, &judgement, *value) && !steps.contains(&step) {
                    steps.push(step);
                }
            }
        }
    }

    /// `look_at_reports`: resolve what the view lists on its promises, then close.
    pub(super) fn fencer_steps(&self, state: &State<N, T>, proposer: usize, steps: &mut Vec<Step>) {
        let older = self.older[proposer];
        if state.closings[proposer].sent {
            return;
        }
        // A fence promises for all of them at once, so any of them tells who has answered.
        let reported =
            |node: usize| older.iter().any(|txn| state.nodes[node].txns[txn].promises[proposer].sent);
        let among = (0..N).filter(|node| reported(*node)).fold(0u32, |set, node| set | 1 << node);
        for view in self.views(among, Self::alike(state)) {
            let closing = self.close(state, proposer, view, steps);
            let step = closing.map(|closing| Step::Close { proposer, closing });
            steps.extend(step.filter(|step| !steps.contains(step)));
        }
    }

    /// The closing that the view leads to, or what has to be proposed before.
    fn close(
        &self,
        state: &State<N, T>,
        proposer: usize,
        view: u32,
        steps: &mut Vec<Step>,
    ) -> Option<Closing> {
        let (older, ballot) = (self.older[proposer], ballot_of(proposer));
        let report = |node: usize, txn: usize| state.nodes[node].txns[txn].promises[proposer];
        let nodes = || (0..N).filter(|node| view >> node & 1 == 1);
        let settled_at = |node: usize| self.settled(|txn| report(node, txn).decided.is_some(), older);
        let settled = nodes().fold(TxnSet::NONE, |settled, node| settled.or(settled_at(node)));
        let mut closing = Closing { sent: true, settled, ..Closing::default() };
        let mut resolved = true;
        for txn in older.minus(settled).iter() {
            let of = |node: usize| report(node, txn);
            let listed = nodes().any(|node| of(node).record || of(node).decided.is_some());
            let proposed = state.proposed[txn][usize::from(ballot)].is_some();
            let remembered = proposed && self.rules.fence_view == FenceView::One;
            if !listed && !remembered {
                continue;
            }
            match state.chosen[txn].outcome() {
                Some(Outcome::Commit) => closing.commits = closing.commits.with(txn),
                Some(Outcome::Abort) if self.rules.closing_list == ClosingList::CommitsOnly => {}
                Some(Outcome::Abort) => closing.aborts = closing.aborts.with(txn),
                None => {
                    resolved = false;
                    if listed && !proposed {
                        self.resolve_listed(state, txn, ballot, &self.judge_view(view, of), steps);
                    }
                }
            }
        }
        resolved.then_some(closing)
    }

    /// `seed_recovery`: the fence's promises are those of a recovery at the same ballot.
    fn resolve_listed(
        &self,
        state: &State<N, T>,
        txn: usize,
        ballot: Ballot,
        judgement: &Judgement,
        steps: &mut Vec<Step>,
    ) {
        for value in &judgement.values {
            let untold = judgement.counted && *value == Outcome::Commit && !judgement.told;
            let asks_again = untold && self.rules.untold_promises == UntoldPromises::AskedAgain;
            let step = Step::Propose { txn, ballot, value: *value };
            if !asks_again && !self.waits(state, judgement, *value) && !steps.contains(&step) {
                steps.push(step);
            }
        }
    }
}
