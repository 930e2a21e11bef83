//! The list of what is run: the shipped rules in many small worlds, and every planted mistake in one in which
//! it shows. `docs/rfcs/0002-model.md` has the table of what came out.

mod mistakes;
mod shipped;

use node_core::quorum::Mode;

use super::rules::Rules;
use super::run::{Bound, Case, Expect, Subject, Tier};
use super::setup::{Base, Proposer, Setup, Sizes, TxnSet, TxnSpec};

const X: usize = 0;
const Y: usize = 1;
const Z: usize = 2;

/// Everything, mistakes first.
pub fn all() -> Vec<Case> {
    let mut cases = mistakes::all();
    cases.extend(shipped::all());
    cases
}

fn multi_master(nodes: usize) -> Sizes {
    Sizes::shipped(nodes, Mode::MultiMaster)
}

fn single_master(nodes: usize) -> Sizes {
    Sizes::shipped(nodes, Mode::SingleMaster)
}

fn four_nodes() -> Sizes {
    Sizes::other(4, 3, 3)
}

fn txn() -> TxnSpec {
    TxnSpec::default()
}

/// Two that write one slot.
fn rivals() -> Vec<TxnSpec> {
    vec![txn().write(X), txn().write(X)]
}

/// One that checks what the other writes.
fn checker_and_writer() -> Vec<TxnSpec> {
    vec![txn().check(X).write(Y), txn().write(X)]
}

/// Each checks what the other writes.
fn write_skew() -> Vec<TxnSpec> {
    vec![txn().check(X).write(Y), txn().check(Y).write(X)]
}

/// T2 is based on T1.
fn chain() -> Vec<TxnSpec> {
    vec![txn().write(X), txn().write_on(X, Base::Of(0))]
}

fn voting(name: &'static str, tier: Tier, setup: Setup, rules: Rules, bound: Bound, expect: Expect) -> Case {
    Case { name, tier, subject: Subject::Voting(Box::new(setup), rules), bound, expect }
}

fn fencer(epoch: u8, run: u8) -> Proposer {
    Proposer::Fencer { seat: 0, epoch, run }
}

fn reader_of(txn: usize) -> Proposer {
    Proposer::Recoverers(TxnSet::of(&[txn]))
}

/// A takeover: the old writer's transactions, then one of each fencing run, all on key X except the old
/// writer's second, which is on Y.
fn takeover(old: usize, proposers: &[Proposer]) -> Setup {
    let mut txns: Vec<TxnSpec> = [X, Y].iter().take(old).map(|key| txn().write(*key).stream(0, 1)).collect();
    for (index, proposer) in proposers.iter().enumerate() {
        let tries: Vec<usize> = (0..proposers.len()).filter(|other| proposers[*other] == *proposer).collect();
        if let Proposer::Fencer { epoch, .. } = proposer
            && tries[0] == index
        {
            txns.push(txn().write(X).stream(0, *epoch).owned_by(tries));
        }
    }
    Setup::new(single_master(3), txns).proposers(proposers)
}

/// One takeover after another: of the old writer's two transactions the first may be unknown to one fencer and
/// settled for the next.
fn two_takeovers() -> Setup {
    let txns = vec![txn().write(X).stream(0, 1), txn().write(Y).stream(0, 1)];
    Setup::new(single_master(3), txns).proposers(&[fencer(2, 1), fencer(3, 2)])
}
