//! A state of the model: what is durable at every node, and every message ever sent.
//!
//! Messages are never removed, so that loss, delay, reordering, duplication and arbitrarily slow or dead
//! writers, recoverers and nodes are all covered; a restart is slowness. What a message can still do is what
//! is kept of it: a vote counts for ever, a promise until its ballot is used.

use std::hash::{Hash, Hasher};

use node_core::ids::Outcome;

use super::setup::{BALLOTS, Ballot, FIRST_PROPOSER, KEYS, PROPOSERS, TxnSet};

/// A durable fast vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FastVote {
    /// None yet.
    #[default]
    None,
    /// Accept.
    Accept,
    /// Reject.
    Reject,
}

/// A promise on its way to its proposer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PromiseSent {
    /// Whether there is one.
    pub sent: bool,
    /// The node's fast vote.
    pub vote: FastVote,
    /// The highest accepted ballot, and its value.
    pub accepted: Option<(Ballot, Outcome)>,
    /// The decision, where the node knows it.
    pub decided: Option<Outcome>,
    /// Whether the node had the transaction's record.
    pub record: bool,
    /// Conflicting transactions that the node holds.
    pub holders: TxnSet,
}

/// What one node knows of one transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TxnAt {
    /// Its fast vote; dropped when it is decided.
    pub vote: FastVote,
    /// The highest promise.
    pub promised: Ballot,
    /// The highest accepted classic ballot, and its value.
    pub accepted: Option<(Ballot, Outcome)>,
    /// The decision, once known.
    pub decided: Option<Outcome>,
    /// Whether the node has the record: what the transaction writes and checks.
    pub record: bool,
    /// With [`super::rules::CheckHold::UntilQuorumKnows`]: the node knows that Q nodes know the decision.
    pub widely_known: bool,
    /// Sent: an accepting fast vote.
    pub sent_accept: bool,
    /// Sent: a rejecting fast vote.
    pub sent_reject: bool,
    /// Sent: `Accepted`, a bit per ballot.
    pub sent_accepted: u8,
    /// Sent: promises, by proposer.
    pub promises: [PromiseSent; PROPOSERS],
}

fn pack_outcome(outcome: Option<Outcome>) -> u64 {
    match outcome {
        None => 0,
        Some(Outcome::Commit) => 1,
        Some(Outcome::Abort) => 2,
    }
}

fn pack_accepted(accepted: Option<(Ballot, Outcome)>) -> u64 {
    accepted.map_or(0, |(ballot, value)| u64::from(ballot) << 2 | pack_outcome(Some(value)))
}

impl PromiseSent {
    /// 15 bits.
    fn packed(&self) -> u64 {
        u64::from(self.sent)
            | (self.vote as u64) << 1
            | pack_accepted(self.accepted) << 3
            | pack_outcome(self.decided) << 8
            | u64::from(self.record) << 10
            | u64::from(self.holders.0) << 11
    }
}

impl TxnAt {
    /// 23 bits.
    fn packed(&self) -> u64 {
        (self.vote as u64)
            | u64::from(self.promised) << 2
            | pack_accepted(self.accepted) << 5
            | pack_outcome(self.decided) << 10
            | u64::from(self.record) << 12
            | u64::from(self.widely_known) << 13
            | u64::from(self.sent_accept) << 14
            | u64::from(self.sent_reject) << 15
            | u64::from(self.sent_accepted) << 16
    }
    /// Whether the transaction holds its slots here.
    pub fn holds(&self) -> bool {
        self.decided.is_none()
            && (self.vote == FastVote::Accept || matches!(self.accepted, Some((_, Outcome::Commit))))
    }
    /// Whether anything at all is known of it here.
    pub fn is_known(&self) -> bool {
        self.record || self.vote != FastVote::None || self.promised > 0 || self.accepted.is_some()
    }
}

// A record fits into two words; hashing it field by field took a third of the time.
impl Hash for TxnAt {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [first, second, third] = &self.promises;
        state.write_u64(self.packed() | first.packed() << 32);
        state.write_u64(second.packed() | third.packed() << 32);
    }
}

/// One storage node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node<const T: usize> {
    /// By transaction.
    pub txns: [TxnAt; T],
    /// The highest committed version known, by key.
    pub latest: [u8; KEYS],
    /// The ballot of the last fence it granted; 0: none.
    pub fence: Ballot,
    /// Accepted closings, a bit per proposer.
    pub closings: u8,
}

/// A closing, once it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Closing {
    /// Whether it is.
    pub sent: bool,
    /// Listed as committed.
    pub commits: TxnSet,
    /// Listed as aborted.
    pub aborts: TxnSet,
    /// Not listed because a node of the view had them settled.
    pub settled: TxnSet,
}

/// What has been chosen of a transaction, from the instant it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chosen {
    /// COMMIT.
    pub commit: bool,
    /// ABORT.
    pub abort: bool,
}

impl Chosen {
    /// The outcome, if there is one.
    pub fn outcome(self) -> Option<Outcome> {
        match (self.commit, self.abort) {
            (true, _) => Some(Outcome::Commit),
            (false, true) => Some(Outcome::Abort),
            (false, false) => None,
        }
    }
    /// Whether the value has been chosen.
    pub fn has(self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Commit => self.commit,
            Outcome::Abort => self.abort,
        }
    }
    /// Adds a chosen value.
    pub fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Commit => self.commit = true,
            Outcome::Abort => self.abort = true,
        }
    }
}

/// A state of the model with N nodes and T transactions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State<const N: usize, const T: usize> {
    /// Nodes, sorted: which is which does not matter.
    pub nodes: [Node<T>; N],
    /// Values proposed, by transaction and classic ballot.
    pub proposed: [[Option<Outcome>; BALLOTS]; T],
    /// What is chosen.
    pub chosen: [Chosen; T],
    /// Chosen COMMIT although one that made it stale had been before.
    pub out_of_order: TxnSet,
    /// Once decided at every node.
    pub everywhere: TxnSet,
    /// Closings, by proposer.
    pub closings: [Closing; PROPOSERS],
}

impl<const N: usize, const T: usize> State<N, T> {
    /// Nothing has happened yet.
    pub fn empty() -> State<N, T> {
        let node = Node { txns: [TxnAt::default(); T], latest: [0; KEYS], fence: 0, closings: 0 };
        State {
            nodes: [node; N],
            proposed: [[None; BALLOTS]; T],
            chosen: [Chosen::default(); T],
            out_of_order: TxnSet::NONE,
            everywhere: TxnSet::NONE,
            closings: [Closing::default(); PROPOSERS],
        }
    }
    /// How many nodes satisfy the condition.
    pub fn count(&self, condition: impl Fn(&Node<T>) -> bool) -> usize {
        self.nodes.iter().filter(|node| condition(node)).count()
    }
    /// The state with the first two transactions exchanged, for setups in which they are equal.
    pub fn swapped(&self) -> State<N, T> {
        let mut other = *self;
        other.proposed.swap(0, 1);
        other.chosen.swap(0, 1);
        other.out_of_order = other.out_of_order.swapped();
        other.everywhere = other.everywhere.swapped();
        for node in &mut other.nodes {
            node.txns.swap(0, 1);
            for promise in node.txns.iter_mut().flat_map(|txn| &mut txn.promises) {
                promise.holders = promise.holders.swapped();
            }
        }
        other.nodes.sort_unstable();
        other
    }
}

impl<const N: usize, const T: usize> std::fmt::Debug for State<N, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for txn in 0..T {
            let proposed: Vec<String> = (1..BALLOTS)
                .filter_map(|ballot| self.proposed[txn][ballot].map(|value| format!("{value:?}@{ballot}")))
                .collect();
            write!(f, "\n  txn {txn} chosen {:?} proposed {proposed:?}", self.chosen[txn])?;
        }
        for (index, closing) in self.closings.iter().enumerate().filter(|(_, closing)| closing.sent) {
            write!(f, "\n  closing@{} {closing:?}", FIRST_PROPOSER + index as u8)?;
        }
        for (index, node) in self.nodes.iter().enumerate() {
            write!(
                f,
                "\n  node {index} latest {:?} fence {} closings {:b}",
                node.latest, node.fence, node.closings
            )?;
            for (txn, at) in node.txns.iter().enumerate() {
                write!(f, "\n    txn {txn} {at:?}")?;
            }
        }
        Ok(())
    }
}
