//! The commit protocol as a state machine of nodes, writers, recoverers and fencers.

use std::time::Instant;

use node_core::ids::Outcome;
use stateright::{Model, Property};

use super::node::{ballot_of, proposer_of};
use super::properties;
use super::rules::{
    Adoption, Closed, ConflictsFirst, FastAbort, FirstWrite, Gap, Memory, OlderClosings, OwnBallot, Rules,
};
use super::setup::{BALLOTS, Ballot, FIRST_PROPOSER, PROPOSERS, Proposer, Relations, Setup, TxnSet};
use super::state::{Closing, FastVote, State, TxnAt};

/// What can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The fields say which node, transaction, ballot.
pub enum Step {
    /// The proposal reaches the node, which votes.
    Vote { node: usize, txn: usize },
    /// The node learns what was chosen.
    Learn { node: usize, txn: usize },
    /// A recoverer's question reaches the node, which promises.
    Prepare { node: usize, txn: usize, ballot: Ballot },
    /// The owner of the ballot proposes the value.
    Propose { txn: usize, ballot: Ballot, value: Outcome },
    /// The value proposed at the ballot reaches the node.
    Accept { node: usize, txn: usize, ballot: Ballot },
    /// A fencer's question reaches the node, which promises.
    Fence { node: usize, proposer: usize },
    /// A fencer sends its closing.
    Close { proposer: usize, closing: Closing },
    /// The closing reaches the node, which accepts it.
    Activate { node: usize, proposer: usize },
    /// The node forgets ([`Memory`]).
    Forget { node: usize, txn: usize },
    /// The node folds a number that it has no record of ([`Gap`]).
    Fold { node: usize, txn: usize },
    /// The node takes over a peer's commit ([`Adoption`]).
    Adopt { node: usize, txn: usize },
    /// The node hears that the closing is chosen, and forgets older ones ([`OlderClosings`]).
    Open { node: usize, proposer: usize },
    /// The node hears that Q nodes know the decision ([`super::rules::CheckHold`]).
    Spread { node: usize, txn: usize },
}

/// The model of a setup under rules.
pub struct Voting<const N: usize, const T: usize> {
    pub(super) setup: Setup,
    pub(super) rules: Rules,
    pub(super) relations: [Relations; T],
    /// By proposer: the transactions that a fence of it covers.
    pub(super) older: [TxnSet; PROPOSERS],
    /// Sets of at least Q nodes.
    pub(super) quorums: Vec<u32>,
    /// The first two transactions are alike, so states that differ by exchanging them are one.
    interchangeable: bool,
    /// When to stop.
    pub(super) deadline: Instant,
}

impl<const N: usize, const T: usize> Voting<N, T> {
    /// The model of this setup, to be looked at until the deadline.
    ///
    /// # Panics
    ///
    /// If N and T are not those of the setup, or it has more proposers than a model knows.
    pub fn new(setup: Setup, rules: Rules, deadline: Instant) -> Voting<N, T> {
        assert_eq!((setup.sizes.nodes, setup.txns.len()), (N, T), "the setup is of another size");
        assert!(setup.proposers.len() <= PROPOSERS, "at most {PROPOSERS} proposers");
        let relations = Relations::of(&setup.txns);
        let mut older = [TxnSet::NONE; PROPOSERS];
        for (index, proposer) in setup.proposers.iter().enumerate() {
            if let Proposer::Fencer { seat, epoch, .. } = proposer {
                let covered = |txn: &usize| setup.txns[*txn].seat == *seat && setup.txns[*txn].epoch < *epoch;
                older[index] = (0..T).filter(covered).fold(TxnSet::NONE, TxnSet::with);
            }
        }
        let alike = |proposer: &Proposer| match proposer {
            Proposer::Recoverers(txns) => txns.has(0) == txns.has(1),
            Proposer::Fencer { .. } => false,
        };
        let interchangeable = T == 2 && setup.txns[0] == setup.txns[1] && setup.proposers.iter().all(alike);
        let quorums = (0..1u32 << N).filter(|set| set.count_ones() as usize >= setup.sizes.write).collect();
        let relations = std::array::from_fn(|txn| relations[txn]);
        Voting { setup, rules, relations, older, quorums, interchangeable, deadline }
    }

    /// Which conflicts a recoverer of the transaction resolves first.
    pub(super) fn conflicts_first(&self, txn: usize) -> TxnSet {
        match self.rules.conflicts_first {
            ConflictsFirst::OfWrites => self.relations[txn].conflicts_of_writes,
            ConflictsFirst::OfWritesAndChecks => self.relations[txn].conflicts,
            ConflictsFirst::Never => TxnSet::NONE,
        }
    }

    /// Whether the proposer's closing is accepted by a write quorum.
    pub(super) fn is_open(&self, state: &State<N, T>, proposer: usize) -> bool {
        state.closings[proposer].sent
            && state.count(|node| node.closings >> proposer & 1 == 1) >= self.setup.sizes.write
    }

    /// Whether the writer of the transaction proposes it.
    fn is_proposed(&self, state: &State<N, T>, txn: usize) -> bool {
        let spec = &self.setup.txns[txn];
        let chosen = |txn: usize| state.chosen[txn];
        self.relations[txn].bases.iter().all(|base| chosen(base).commit)
            && spec.after_abort.iter().all(|other| chosen(other).abort)
            && spec.after_chosen.iter().all(|other| chosen(other).outcome().is_some())
            && (spec.owners.is_empty()
                || spec.owners.iter().any(|owner| self.owner_proposes(state, *owner, txn)))
    }

    /// The owner of an epoch writes once it is open, and on top of what it knows to be committed.
    fn owner_proposes(&self, state: &State<N, T>, owner: usize, txn: usize) -> bool {
        let open = match self.rules.first_write {
            FirstWrite::AfterQuorum => self.is_open(state, owner),
            FirstWrite::AfterSending => state.closings[owner].sent,
        };
        let closing = &state.closings[owner];
        let filled = |other: usize| {
            closing.commits.has(other) || closing.settled.has(other) && state.chosen[other].commit
        };
        let rivals = self.relations[txn].stale_after.and(self.older[owner]);
        open && !rivals.minus(self.relations[txn].bases).iter().any(filled)
    }

    /// Of nodes in the same state one stands for all.
    fn is_repeated(state: &State<N, T>, node: usize) -> bool {
        node > 0 && state.nodes[node] == state.nodes[node - 1]
    }

    fn node_steps(&self, state: &State<N, T>, node: usize, steps: &mut Vec<Step>) {
        for txn in 0..T {
            let at = &state.nodes[node].txns[txn];
            if self.may_vote(at) && self.is_proposed(state, txn) {
                steps.push(Step::Vote { node, txn });
            }
            let chosen = state.chosen[txn];
            let contradiction = chosen.commit && chosen.abort;
            // A decision that was learnt from a certificate may still lack what it wrote.
            let incomplete = at.decided == Some(Outcome::Commit) && !self.is_applied(&state.nodes[node], txn);
            if chosen.outcome().is_some() && !contradiction && (at.decided.is_none() || incomplete) {
                steps.push(Step::Learn { node, txn });
            }
            if at.decided.is_none() {
                self.ballot_steps(state, node, txn, steps);
            }
            self.mistaken_steps(state, node, txn, steps);
        }
        for (proposer, kind) in self.setup.proposers.iter().enumerate() {
            if matches!(kind, Proposer::Fencer { .. }) {
                if self.may_fence(&state.nodes[node], proposer) {
                    steps.push(Step::Fence { node, proposer });
                }
                if self.may_activate(&state.nodes[node], &state.closings[proposer], proposer) {
                    steps.push(Step::Activate { node, proposer });
                }
                if self.rules.older_closings == OlderClosings::Dropped && self.is_open(state, proposer) {
                    steps.push(Step::Open { node, proposer });
                }
            }
        }
    }

    fn ballot_steps(&self, state: &State<N, T>, node: usize, txn: usize, steps: &mut Vec<Step>) {
        let at = &state.nodes[node].txns[txn];
        // A recoverer exists once some node knows the transaction.
        let known = |at: &TxnAt| at.vote != FastVote::None || at.record;
        for (proposer, kind) in self.setup.proposers.iter().enumerate() {
            let ballot = ballot_of(proposer);
            if matches!(kind, Proposer::Recoverers(txns) if txns.has(txn))
                && at.promised < ballot
                && (self.setup.recover_unknown || state.nodes.iter().any(|node| known(&node.txns[txn])))
            {
                steps.push(Step::Prepare { node, txn, ballot });
            }
        }
        for ballot in 1..BALLOTS as Ballot {
            let accepted = at.accepted.map_or(0, |(ballot, _)| ballot);
            if state.proposed[txn][usize::from(ballot)].is_some()
                && at.promised <= ballot
                && accepted != ballot
            {
                steps.push(Step::Accept { node, txn, ballot });
            }
        }
    }

    /// Steps that only exist under a planted mistake.
    fn mistaken_steps(&self, state: &State<N, T>, node: usize, txn: usize, steps: &mut Vec<Step>) {
        let at = &state.nodes[node].txns[txn];
        let may_forget = match self.rules.memory {
            Memory::Decision => false,
            Memory::NothingOnceDecided => true,
            Memory::NothingOnceAllKnow => state.everywhere.has(txn),
        };
        if may_forget && at.decided.is_some() {
            steps.push(Step::Forget { node, txn });
        }
        let silent = |at: &TxnAt| !at.is_known() && at.decided.is_none();
        if self.rules.gap == Gap::AbortedOnSilence
            && silent(at)
            && state.count(|node| silent(&node.txns[txn])) >= self.setup.sizes.write
        {
            steps.push(Step::Fold { node, txn });
        }
        let committed = |at: &TxnAt| at.decided == Some(Outcome::Commit);
        if self.rules.adoption == Adoption::ReleasesOnly
            && at.decided.is_none()
            && state.nodes.iter().any(|node| committed(&node.txns[txn]))
        {
            steps.push(Step::Adopt { node, txn });
        }
        if self.rules.check_hold == super::rules::CheckHold::UntilQuorumKnows
            && at.decided.is_some()
            && !at.widely_known
            && state.chosen[txn].commit
            && state.count(|node| node.txns[txn].decided.is_some()) >= self.setup.sizes.write
        {
            steps.push(Step::Spread { node, txn });
        }
    }

    /// `weigh`: the writer's second round. Votes that it has not received yet do not change what it may do.
    fn writer_steps(&self, state: &State<N, T>, txn: usize, steps: &mut Vec<Step>) {
        if !self.setup.txns[txn].coordinator || state.proposed[txn][1].is_some() {
            return;
        }
        let sizes = self.setup.sizes;
        let accepts = state.count(|node| node.txns[txn].sent_accept);
        let rejects = state.count(|node| node.txns[txn].sent_reject);
        let guess = self.rules.own_ballot == OwnBallot::Guessed && accepts + rejects > 0;
        if accepts >= sizes.write && sizes.fast > sizes.write || guess {
            steps.push(Step::Propose { txn, ballot: 1, value: Outcome::Commit });
        }
        let impossible = sizes.nodes - rejects < sizes.write;
        if rejects > sizes.nodes - sizes.fast && impossible || guess {
            steps.push(Step::Propose { txn, ballot: 1, value: Outcome::Abort });
        }
    }

    /// What follows from the messages of a state: values that are chosen now, messages that matter no more.
    fn settle(&self, state: &mut State<N, T>) {
        let before = state.chosen;
        for txn in 0..T {
            if self.rules.memory == Memory::NothingOnceAllKnow
                && state.nodes.iter().all(|node| node.txns[txn].decided.is_some())
            {
                state.everywhere = state.everywhere.with(txn);
            }
            self.count_fast_votes(state, txn);
            for ballot in 1..BALLOTS as Ballot {
                self.count_accepted(state, txn, ballot);
            }
        }
        for txn in (0..T).filter(|txn| state.chosen[*txn].commit && !before[*txn].commit) {
            if self.relations[txn].stale_after.iter().any(|other| before[other].commit) {
                state.out_of_order = state.out_of_order.with(txn);
            }
        }
        state.nodes.sort_unstable();
        if self.interchangeable {
            let swapped = state.swapped();
            if swapped < *state {
                *state = swapped;
            }
        }
    }

    fn count_fast_votes(&self, state: &mut State<N, T>, txn: usize) {
        let sizes = self.setup.sizes;
        if state.count(|node| node.txns[txn].sent_accept) >= sizes.fast {
            state.chosen[txn].commit = true;
        }
        let missing = match self.rules.fast_abort {
            FastAbort::Enough => 0,
            FastAbort::OneTooFew => 1,
        };
        let rejects = state.count(|node| node.txns[txn].sent_reject);
        if sizes.fast_abort.is_some_and(|enough| rejects + missing >= enough) {
            state.chosen[txn].abort = true;
        }
    }

    fn count_accepted(&self, state: &mut State<N, T>, txn: usize, ballot: Ballot) {
        let proposed = state.proposed[txn][usize::from(ballot)];
        let closing = ballot
            .checked_sub(FIRST_PROPOSER)
            .map(usize::from)
            .filter(|proposer| state.closings[*proposer].sent && self.older[*proposer].has(txn));
        let Some(value) = proposed.or(closing.map(|_| Outcome::Abort)) else { return };
        let need = match self.rules.closed {
            Closed::ByOneNode if proposed.is_none() => 1,
            Closed::ByQuorum | Closed::ByOneNode => self.setup.sizes.write,
        };
        if state.count(|node| node.txns[txn].sent_accepted >> ballot & 1 == 1) >= need {
            state.chosen[txn].add(value);
        }
        let chosen = state.chosen[txn].has(value);
        let fenced = ballot >= FIRST_PROPOSER && !self.older[proposer_of(ballot)].is_empty();
        for at in state.nodes.iter_mut().map(|node| &mut node.txns[txn]) {
            // The promises of a ballot that has been used, and accepts of what is chosen, change nothing.
            if ballot >= FIRST_PROPOSER && (closing.is_some() || !fenced) {
                at.promises[proposer_of(ballot)] = Default::default();
            }
            if chosen {
                at.sent_accepted &= !(1 << ballot);
            }
        }
    }

    fn start(&self, text: &str) -> State<N, T> {
        let mut state = State::empty();
        for (node, votes) in state.nodes.iter_mut().zip(text.split(' ')) {
            for (at, vote) in node.txns.iter_mut().zip(votes.chars()) {
                match vote {
                    'A' => (at.vote, at.sent_accept, at.record) = (FastVote::Accept, true, true),
                    'R' => (at.vote, at.sent_reject, at.record) = (FastVote::Reject, true, true),
                    '-' => {}
                    other => panic!("a start is written with A, R and -, not {other}"),
                }
            }
        }
        self.settle(&mut state);
        state
    }
}

impl<const N: usize, const T: usize> Model for Voting<N, T> {
    type State = State<N, T>;
    type Action = Step;

    fn init_states(&self) -> Vec<State<N, T>> {
        if self.setup.starts.is_empty() {
            return vec![State::empty()];
        }
        self.setup.starts.iter().map(|text| self.start(text)).collect()
    }

    fn actions(&self, state: &State<N, T>, steps: &mut Vec<Step>) {
        for node in (0..N).filter(|node| !Self::is_repeated(state, *node)) {
            self.node_steps(state, node, steps);
        }
        for txn in 0..T {
            self.writer_steps(state, txn, steps);
        }
        for (proposer, kind) in self.setup.proposers.iter().enumerate() {
            match kind {
                Proposer::Recoverers(txns) => {
                    for txn in txns.iter().filter(|txn| *txn < T) {
                        self.recoverer_steps(state, txn, ballot_of(proposer), steps);
                    }
                }
                Proposer::Fencer { .. } => self.fencer_steps(state, proposer, steps),
            }
        }
    }

    fn next_state(&self, last: &State<N, T>, step: Step) -> Option<State<N, T>> {
        let mut state = *last;
        match step {
            Step::Vote { node, txn } => self.vote(&mut state.nodes[node], txn),
            Step::Learn { node, txn } => {
                let outcome = state.chosen[txn].outcome()?;
                self.decide(&mut state.nodes[node], txn, outcome);
            }
            Step::Prepare { node, txn, ballot } => {
                let open = state.proposed[txn][usize::from(ballot)].is_none();
                self.prepare(&mut state.nodes[node], txn, ballot, open);
            }
            Step::Propose { txn, ballot, value } => state.proposed[txn][usize::from(ballot)] = Some(value),
            Step::Accept { node, txn, ballot } => {
                let value = state.proposed[txn][usize::from(ballot)]?;
                self.accept(&mut state.nodes[node], txn, ballot, value);
            }
            Step::Fence { node, proposer } => self.fence(&mut state, node, proposer),
            Step::Close { proposer, closing } => state.closings[proposer] = closing,
            Step::Activate { node, proposer } => {
                let closing = state.closings[proposer];
                self.activate(&mut state.nodes[node], &closing, proposer);
            }
            Step::Forget { node, txn } => {
                let at = &mut state.nodes[node].txns[txn];
                *at = TxnAt {
                    sent_accept: at.sent_accept,
                    sent_reject: at.sent_reject,
                    sent_accepted: at.sent_accepted,
                    promises: at.promises,
                    ..TxnAt::default()
                };
            }
            Step::Fold { node, txn } => self.decide(&mut state.nodes[node], txn, Outcome::Abort),
            Step::Adopt { node, txn } => {
                let at = &mut state.nodes[node].txns[txn];
                at.decided = Some(Outcome::Commit);
                (at.vote, at.promised, at.accepted, at.record) = (FastVote::None, 0, None, false);
            }
            Step::Open { node, proposer } => {
                for txn in state.closings[proposer].settled.iter() {
                    let accepted = last.nodes[node].txns[txn].accepted;
                    let own = accepted.filter(|(ballot, _)| !self.by_closing(last, txn, *ballot));
                    state.nodes[node].txns[txn].accepted = own;
                }
            }
            Step::Spread { node, txn } => state.nodes[node].txns[txn].widely_known = true,
        }
        self.settle(&mut state);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::of(&self.setup)
    }
}
