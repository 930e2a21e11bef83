//! What one run of the model is about: how many nodes, which transactions, who may recover and fence.

use node_core::quorum::{Mode, Quorum};

/// How many keys a model knows.
pub const KEYS: usize = 3;
/// How many ballots there are per transaction: 0 is the fast vote, 1 the writer's own.
pub const BALLOTS: usize = FIRST_PROPOSER as usize + PROPOSERS;
/// How many ballots above the writer's there are.
pub const PROPOSERS: usize = 3;
/// The ballot of the first proposer.
pub const FIRST_PROPOSER: Ballot = 2;

/// A ballot's place in the total order.
pub type Ballot = u8;

/// A set of transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxnSet(pub u8);

impl TxnSet {
    /// No transaction.
    pub const NONE: TxnSet = TxnSet(0);
    /// These.
    pub fn of(txns: &[usize]) -> TxnSet {
        txns.iter().fold(TxnSet::NONE, |set, txn| set.with(*txn))
    }
    /// With one more.
    pub fn with(self, txn: usize) -> TxnSet {
        TxnSet(self.0 | 1 << txn)
    }
    /// Whether the transaction is in it.
    pub fn has(self, txn: usize) -> bool {
        self.0 >> txn & 1 == 1
    }
    /// What is in both.
    pub fn and(self, other: TxnSet) -> TxnSet {
        TxnSet(self.0 & other.0)
    }
    /// What is in either.
    pub fn or(self, other: TxnSet) -> TxnSet {
        TxnSet(self.0 | other.0)
    }
    /// What is in this one only.
    pub fn minus(self, other: TxnSet) -> TxnSet {
        TxnSet(self.0 & !other.0)
    }
    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// The set with the first two transactions exchanged.
    pub fn swapped(self) -> TxnSet {
        TxnSet((self.0 & !3) | (self.0 & 1) << 1 | (self.0 >> 1 & 1))
    }
    /// The transactions in it.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..8).filter(move |txn| self.has(*txn))
    }
}

/// How many answers are enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// N.
    pub nodes: usize,
    /// Q.
    pub write: usize,
    /// F.
    pub fast: usize,
    /// X, where rejects alone can abort.
    pub fast_abort: Option<usize>,
}

impl Sizes {
    /// What `node-core` uses for a volume of 3 or 6 nodes.
    pub fn shipped(nodes: usize, mode: Mode) -> Sizes {
        let quorum = Quorum::new(nodes, mode).expect("the catalogue names volumes that ship");
        Sizes { nodes, write: quorum.write(), fast: quorum.fast(), fast_abort: quorum.fast_abort() }
    }
    /// Sizes that no volume has, for tests of the inequalities.
    pub fn other(nodes: usize, write: usize, fast: usize) -> Sizes {
        Sizes { nodes, write, fast, fast_abort: Some(2 * nodes + 1 - write - fast) }
    }
    /// R = N-Q+1.
    pub fn read(self) -> usize {
        self.nodes - self.write + 1
    }
}

/// The version a write replaces, or a check needs unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// What was there at first.
    Initial,
    /// What this transaction wrote.
    Of(usize),
}

/// A transaction of the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnSpec {
    /// What it writes, by key.
    pub writes: [Option<Base>; KEYS],
    /// What it checks, by key.
    pub checks: [Option<Base>; KEYS],
    /// The seat it is written from.
    pub seat: u8,
    /// The seat's epoch. Transactions of one stream are numbered in the order in which they are listed.
    pub epoch: u8,
    /// The proposers (tries of one run) of which one must have opened the epoch before this is proposed.
    pub owners: Vec<usize>,
    /// It is proposed only after all of these are aborted (a hand-over).
    pub after_abort: TxnSet,
    /// It is proposed only after all of these are decided (one writer with a lock table).
    pub after_chosen: TxnSet,
    /// Whether its writer has a second round.
    pub coordinator: bool,
}

impl TxnSpec {
    /// Writes the key on top of the initial version.
    pub fn write(self, key: usize) -> TxnSpec {
        self.write_on(key, Base::Initial)
    }
    /// Writes the key on top of that version.
    pub fn write_on(mut self, key: usize, base: Base) -> TxnSpec {
        self.writes[key] = Some(base);
        self
    }
    /// Checks that the key has its initial version.
    pub fn check(self, key: usize) -> TxnSpec {
        self.check_on(key, Base::Initial)
    }
    /// Checks that the key has that version.
    pub fn check_on(mut self, key: usize, base: Base) -> TxnSpec {
        self.checks[key] = Some(base);
        self
    }
    /// Written in this epoch of this seat.
    pub fn stream(mut self, seat: u8, epoch: u8) -> TxnSpec {
        (self.seat, self.epoch) = (seat, epoch);
        self
    }
    /// Written by the owner of an epoch, once it is open.
    pub fn owned_by(mut self, proposers: Vec<usize>) -> TxnSpec {
        self.owners = proposers;
        self
    }
    /// Proposed only after the others were aborted.
    pub fn after_abort(mut self, txns: &[usize]) -> TxnSpec {
        self.after_abort = TxnSet::of(txns);
        self
    }
    /// Proposed only after the others were decided.
    pub fn after_chosen(mut self, txns: &[usize]) -> TxnSpec {
        self.after_chosen = TxnSet::of(txns);
        self
    }
    /// With the writer's second round.
    pub fn coordinated(mut self) -> TxnSpec {
        self.coordinator = true;
        self
    }
    fn bases(&self) -> impl Iterator<Item = usize> + '_ {
        let all = self.writes.iter().chain(&self.checks).flatten();
        all.filter_map(|base| match base {
            Base::Initial => None,
            Base::Of(txn) => Some(*txn),
        })
    }
}

/// Who uses a ballot above the writers'. The proposer at index `i` of the setup has ballot `2 + i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proposer {
    /// One recoverer for each of these transactions, independent of each other.
    Recoverers(TxnSet),
    /// A run that takes a seat with this epoch.
    Fencer {
        /// Which seat.
        seat: u8,
        /// With which epoch.
        epoch: u8,
        /// Which run: two fencers of one run are two tries.
        run: u8,
    },
}

/// One run of the model.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Quorums.
    pub sizes: Sizes,
    /// Transactions.
    pub txns: Vec<TxnSpec>,
    /// Who has ballots 2, 3 and so on.
    pub proposers: Vec<Proposer>,
    /// Fast votes to start from: per start one word per node, per word one letter per transaction (`A`, `R`
    /// or `-`). Empty: from nothing.
    pub starts: Vec<&'static str>,
    /// Whether recoverers may start for a transaction of which no node has a record.
    pub recover_unknown: bool,
    /// Whether P4 is left out, to see what is chosen and not what a recoverer would find one ballot later.
    pub without_recovery: bool,
    /// Whether P6 applies: the last transaction must never be rejected.
    pub last_never_rejected: bool,
}

impl Setup {
    /// These transactions on a volume of this size, with nobody who recovers.
    pub fn new(sizes: Sizes, txns: Vec<TxnSpec>) -> Setup {
        Setup {
            sizes,
            txns,
            proposers: Vec::new(),
            starts: Vec::new(),
            recover_unknown: false,
            without_recovery: false,
            last_never_rejected: false,
        }
    }
    /// With so many racing recoverers for each transaction.
    pub fn recoverers(mut self, each: &[usize]) -> Setup {
        for round in 0..each.iter().copied().max().unwrap_or(0) {
            let with: Vec<usize> = (0..each.len()).filter(|txn| each[*txn] > round).collect();
            self.proposers.push(Proposer::Recoverers(TxnSet::of(&with)));
        }
        self
    }
    /// With these proposers, in the order of their ballots.
    pub fn proposers(mut self, proposers: &[Proposer]) -> Setup {
        self.proposers = proposers.to_vec();
        self
    }
    /// Starting from these fast votes.
    pub fn from(mut self, starts: &[&'static str]) -> Setup {
        self.starts = starts.to_vec();
        self
    }
    /// With the writers' second rounds.
    pub fn coordinated(mut self) -> Setup {
        self.txns.iter_mut().for_each(|txn| txn.coordinator = true);
        self
    }
    /// With recoverers for what nobody has a record of.
    pub fn recovering_unknown(mut self) -> Setup {
        self.recover_unknown = true;
        self
    }
    /// Without P4.
    pub fn without_recovery(mut self) -> Setup {
        self.without_recovery = true;
        self
    }
    /// With P6 for the last transaction.
    pub fn last_never_rejected(mut self) -> Setup {
        self.last_never_rejected = true;
        self
    }
}

/// How the transactions of a setup relate, computed once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Relations {
    /// Height each write makes; 0: not written.
    pub height: [u8; KEYS],
    /// Height each check needs, plus one: that of the slot it keeps free. 0: not checked.
    pub checked: [u8; KEYS],
    /// Transactions it conflicts with.
    pub conflicts: TxnSet,
    /// Of these, those through a slot it writes.
    pub conflicts_of_writes: TxnSet,
    /// Those whose commit makes it stale.
    pub stale_after: TxnSet,
    /// Those of which only one can commit.
    pub excludes: TxnSet,
    /// Transactions its bases were written by.
    pub bases: TxnSet,
    /// Earlier ones of its stream.
    pub earlier: TxnSet,
}

impl Relations {
    /// Of every transaction of the setup.
    pub fn of(txns: &[TxnSpec]) -> Vec<Relations> {
        let mut all: Vec<Relations> = Vec::new();
        for (index, txn) in txns.iter().enumerate() {
            let above = |base: &Option<Base>, key: usize| match base {
                None => 0,
                Some(Base::Initial) => 1,
                Some(Base::Of(other)) => all[*other].height[key] + 1,
            };
            let mut relations = Relations::default();
            for key in 0..KEYS {
                relations.height[key] = above(&txn.writes[key], key);
                relations.checked[key] = above(&txn.checks[key], key);
            }
            relations.bases = txn.bases().fold(TxnSet::NONE, TxnSet::with);
            let same_stream =
                |other: &usize| txns[*other].seat == txn.seat && txns[*other].epoch == txn.epoch;
            relations.earlier = (0..index).filter(same_stream).fold(TxnSet::NONE, TxnSet::with);
            all.push(relations);
        }
        for txn in 0..all.len() {
            for other in (0..all.len()).filter(|other| *other != txn) {
                let (mine, theirs) = (all[txn], all[other]);
                let slot =
                    |a: &[u8; KEYS], b: &[u8; KEYS]| (0..KEYS).any(|key| a[key] != 0 && a[key] == b[key]);
                let both_write = slot(&mine.height, &theirs.height);
                let checked_by_other = slot(&mine.height, &theirs.checked);
                let written_by_other = slot(&mine.checked, &theirs.height);
                if both_write || checked_by_other || written_by_other {
                    all[txn].conflicts = all[txn].conflicts.with(other);
                }
                if both_write || checked_by_other {
                    all[txn].conflicts_of_writes = all[txn].conflicts_of_writes.with(other);
                }
                if both_write || written_by_other {
                    all[txn].stale_after = all[txn].stale_after.with(other);
                }
            }
        }
        for txn in 0..all.len() {
            for other in 0..all.len() {
                if all[txn].stale_after.has(other) && all[other].stale_after.has(txn) {
                    all[txn].excludes = all[txn].excludes.with(other);
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_conflicts_with_the_write_of_the_next_slot_and_with_no_other_check() {
        let txns = [
            TxnSpec::default().check(0).write(1),
            TxnSpec::default().write(0),
            TxnSpec::default().check(0).write(2),
            TxnSpec::default().write_on(0, Base::Of(1)),
        ];
        let relations = Relations::of(&txns);
        assert_eq!(relations[0].conflicts, TxnSet::of(&[1]));
        assert_eq!(relations[0].conflicts_of_writes, TxnSet::NONE);
        assert_eq!(relations[1].conflicts_of_writes, TxnSet::of(&[0, 2]));
        assert_eq!(relations[1].stale_after, TxnSet::NONE);
        assert_eq!(relations[0].excludes, TxnSet::NONE);
        assert_eq!(relations[3].conflicts, TxnSet::NONE);
        assert_eq!(relations[3].earlier, TxnSet::of(&[0, 1, 2]));
    }

    #[test]
    fn write_skew_excludes_itself() {
        let txns = [TxnSpec::default().check(0).write(1), TxnSpec::default().check(1).write(0)];
        assert_eq!(Relations::of(&txns)[0].excludes, TxnSet::of(&[1]));
    }
}
