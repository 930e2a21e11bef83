//! One switch per rule of the protocol. [`Rules::default`] is what ships; every other variant is a planted
//! mistake that the model must find, or a rejected alternative.
//!
//! The names in brackets are those of the counterexamples in `docs/rfcs/0002-model.md`.

/// Which conflicts a storage node tests before it accepts COMMIT in a classic ballot (LOCK2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecondRound {
    /// Those of the transaction's writes: its checks were tested by its fast votes.
    #[default]
    Writes,
    /// Those of its checks too (K1).
    WritesAndChecks,
    /// None (C1).
    Nothing,
}

/// Which conflicting holders in its view a recoverer resolves before it proposes COMMIT by counting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConflictsFirst {
    /// Those that write or check a slot the transaction writes.
    #[default]
    OfWrites,
    /// Those that write a slot it checks too (K2).
    OfWritesAndChecks,
    /// None (C1, C2).
    Never,
}

/// Whether a transaction under recovery keeps others from being voted for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reserve {
    /// Its slots are reserved wherever its record is known and its recovery was promised.
    #[default]
    Recovered,
    /// They are not (C1, C2).
    Never,
}

/// How many durable rejects abort a transaction at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FastAbort {
    /// X = 2N-Q-F+1.
    #[default]
    Enough,
    /// X-1 (C4).
    OneTooFew,
}

/// What a storage node does that has not heard of a proposal's base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bases {
    /// It learns it: a proposal certifies that its bases are committed.
    #[default]
    Learnt,
    /// Bases of writes are learnt, those of checks are not (correct, but holds stay longer).
    LearntOfWrites,
    /// It rejects (C5).
    Rejected,
}

/// What a storage node remembers of a decided transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// The decision, for ever; votes and promises are dropped.
    #[default]
    Decision,
    /// It may forget everything once it is decided (C6, G3).
    NothingOnceDecided,
    /// It may forget everything once all nodes know the decision (C6, G3).
    NothingOnceAllKnow,
}

/// What a writer may propose at its own ballot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnBallot {
    /// COMMIT with Q accepts, ABORT once Q accepts are impossible.
    #[default]
    Counted,
    /// After its patience is over, a guess (C8).
    Guessed,
}

/// What a recoverer proposes where nothing forces COMMIT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unforced {
    /// ABORT.
    #[default]
    Abort,
    /// COMMIT if it likes (C9).
    Either,
}

/// What a promise means for the fast vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterPromise {
    /// No fast vote is cast after it.
    #[default]
    NoFastVote,
    /// A late proposal is voted on all the same (C9).
    FastVote,
}

/// When a committed transaction's checks stop blocking writers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckHold {
    /// When the node learns the decision.
    #[default]
    UntilDecided,
    /// When a write quorum is known to have learnt it (K4).
    UntilQuorumKnows,
}

/// What becomes of a number in a stream of which a node has no record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gap {
    /// It is recovered by ballots, or a closing settles it.
    #[default]
    Recovered,
    /// It is folded as aborted if a write quorum has no record either (G1).
    AbortedOnSilence,
}

/// How a storage node takes over a decision of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Adoption {
    /// A commit's writes are applied before its hold is released.
    #[default]
    Applies,
    /// The hold is released only (G2).
    ReleasesOnly,
}

/// What a storage node reports to a fencer as accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FenceReport {
    /// Its own records and what accepted closings cover.
    #[default]
    WithClosings,
    /// Its own records only (w1).
    OwnRecordsOnly,
}

/// When transactions that a closing leaves out count as aborted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Closed {
    /// When a write quorum has accepted the closing.
    #[default]
    ByQuorum,
    /// At each node as soon as it has (w2).
    ByOneNode,
}

/// Whether a closing is refused because a transaction it leaves out was promised to a higher ballot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClosingPromises {
    /// It is.
    #[default]
    Tested,
    /// It is not (w3).
    Ignored,
}

/// Whether a closing is refused because a transaction it leaves out is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClosingCommits {
    /// It is.
    #[default]
    Tested,
    /// Of settled ones only the last is looked at: what was built at first.
    LastSettledOnly,
    /// It is not (w5).
    Ignored,
}

/// What becomes of the ABORTs that came with a closing when a later one is known to be chosen, and says only
/// that they are settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OlderClosings {
    /// They stay accepted until their outcome is known.
    #[default]
    Kept,
    /// They are forgotten with the closing: what was built at first.
    Dropped,
}

/// When an epoch's owner begins to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FirstWrite {
    /// When a write quorum has accepted its closing.
    #[default]
    AfterQuorum,
    /// When it has sent its closing (w4).
    AfterSending,
}

/// From how many sets of promises a fencer works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FenceView {
    /// What it proposes and what it closes come from one: whatever it proposed is listed.
    #[default]
    One,
    /// The closing may come from another (w6).
    Two,
}

/// Which resolved transactions a closing lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClosingList {
    /// All that were listed by the fence's view.
    #[default]
    AllResolved,
    /// Those that committed (w7).
    CommitsOnly,
}

/// Whether one epoch of a seat is granted to several runs by one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grants {
    /// To one run only.
    #[default]
    Exclusive,
    /// To anybody with a high enough ballot.
    Shared,
}

/// What a fencer makes of a node that had no record of a transaction which has to commit by counting: such
/// a node neither reported who holds its slots nor reserved them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UntoldPromises {
    /// It asks again, with the record, at a higher ballot.
    #[default]
    AskedAgain,
    /// It counts the promise as it is: what was built at first.
    Counted,
}

/// The protocol's rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // Each field is told by its type.
pub struct Rules {
    pub second_round: SecondRound,
    pub conflicts_first: ConflictsFirst,
    pub reserve: Reserve,
    pub fast_abort: FastAbort,
    pub bases: Bases,
    pub memory: Memory,
    pub own_ballot: OwnBallot,
    pub unforced: Unforced,
    pub after_promise: AfterPromise,
    pub check_hold: CheckHold,
    pub gap: Gap,
    pub adoption: Adoption,
    pub fence_report: FenceReport,
    pub closed: Closed,
    pub closing_promises: ClosingPromises,
    pub closing_commits: ClosingCommits,
    pub older_closings: OlderClosings,
    pub first_write: FirstWrite,
    pub fence_view: FenceView,
    pub closing_list: ClosingList,
    pub grants: Grants,
    pub untold_promises: UntoldPromises,
}
