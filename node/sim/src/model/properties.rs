//! What must hold in every state, and what must be reachable so that a run is about something.

use std::time::Instant;

use node_core::ids::Outcome;
use stateright::Property;

use super::rules::{CheckHold, SecondRound};
use super::setup::{Proposer, Setup, TxnSet};
use super::state::{Chosen, FastVote, Node, State};
use super::voting::Voting;

/// P1: a transaction is never both committed and aborted.
pub const AGREEMENT: &str = "P1 agreement";
/// P2: of two transactions that exclude each other one commits at most.
pub const EXCLUSIVITY: &str = "P2 exclusivity";
/// P2o: a checker never commits after the writer that makes it stale.
pub const ORDER: &str = "P2o order";
/// P3: every read quorum reports every commit, on each of its keys.
pub const READ: &str = "P3 read";
/// P4: with any Q nodes alive, one undisturbed recoverer resolves everything, frees all locks and
/// contradicts nothing.
pub const RECOVERY: &str = "P4 recovery";
/// P6: a proposal whose bases are committed and that has no rival is never rejected.
pub const NO_REJECT: &str = "P6 no reject";
/// E1: an epoch of a seat is opened by one run only.
pub const ONE_OWNER: &str = "E1 one owner";

/// Not a property of the protocol: broken when the run's time is over, since the checker's own time limit does
/// not end a run on a single thread.
pub const TIME_LEFT: &str = "time is left";

/// Witness: a commit by fast votes.
pub const FAST_COMMIT: &str = "W1 fast commit";
/// Witness: a commit by recovery alone.
pub const RECOVERED_COMMIT: &str = "W2 recovered commit";
/// Witness: all aborted.
pub const ALL_ABORTED: &str = "W3 all aborted";
/// Witness: all decided, at least one committed.
pub const ALL_DECIDED: &str = "W4 all decided";
/// Witness (K3): a checker and the writer of its slot both commit.
pub const BOTH_COMMIT: &str = "W5 checker and writer commit";
/// Witness: all committed.
pub const ALL_COMMITTED: &str = "W6 all committed";
/// Witness: an epoch is open, and its owner has committed.
pub const SUCCEEDED: &str = "W7 successor commits";
/// Witness: the old writer committed, and the seat was taken after it.
pub const TAKEN_OVER: &str = "W8 commit, then taken";

/// Properties of a setup: those that must hold first, then the witnesses.
pub(super) fn of<const N: usize, const T: usize>(setup: &Setup) -> Vec<Property<Voting<N, T>>> {
    let mut properties = vec![
        Property::<Voting<N, T>>::always(TIME_LEFT, |model, _| Instant::now() < model.deadline),
        Property::<Voting<N, T>>::always(AGREEMENT, |_, state| {
            state.chosen.iter().all(|chosen| !(chosen.commit && chosen.abort))
        }),
        Property::<Voting<N, T>>::always(EXCLUSIVITY, |model, state| !excluded(model, &state.chosen)),
        Property::<Voting<N, T>>::always(ORDER, |_, state| state.out_of_order.is_empty()),
        Property::<Voting<N, T>>::always(READ, readable),
    ];
    if !setup.without_recovery {
        properties
            .push(Property::<Voting<N, T>>::always(RECOVERY, |model, state| trouble(model, state).is_none()));
    }
    if setup.last_never_rejected {
        properties.push(Property::<Voting<N, T>>::always(NO_REJECT, |_, state| {
            state.nodes.iter().all(|node| !node.txns[T - 1].sent_reject)
        }));
    }
    properties.push(Property::<Voting<N, T>>::sometimes(FAST_COMMIT, |model, state| {
        let fast = |txn: usize| state.count(|node| node.txns[txn].sent_accept) >= model.setup.sizes.fast;
        (0..T).any(fast)
    }));
    properties.push(Property::<Voting<N, T>>::sometimes(RECOVERED_COMMIT, |model, state| {
        let slow = |txn: usize| state.count(|node| node.txns[txn].sent_accept) < model.setup.sizes.fast;
        (0..T).any(|txn| state.chosen[txn].commit && state.proposed[txn][1].is_none() && slow(txn))
    }));
    properties.push(Property::<Voting<N, T>>::sometimes(ALL_ABORTED, |_, state| {
        state.chosen.iter().all(|chosen| chosen.abort)
    }));
    properties.push(Property::<Voting<N, T>>::sometimes(ALL_DECIDED, |_, state| {
        let decided = state.chosen.iter().all(|chosen| chosen.outcome().is_some());
        decided && state.chosen.iter().any(|chosen| chosen.commit)
    }));
    properties.push(Property::<Voting<N, T>>::sometimes(BOTH_COMMIT, |model, state| {
        let rivals = |txn: usize| model.relations[txn].conflicts.minus(model.relations[txn].excludes);
        let both = |txn: usize| rivals(txn).iter().any(|other| state.chosen[other].commit);
        (0..T).any(|txn| state.chosen[txn].commit && both(txn))
    }));
    properties.push(Property::<Voting<N, T>>::sometimes(ALL_COMMITTED, |_, state| {
        state.chosen.iter().all(|chosen| chosen.commit)
    }));
    if setup.proposers.iter().any(|proposer| matches!(proposer, Proposer::Fencer { .. })) {
        properties.extend(of_fences());
    }
    properties
}

fn of_fences<const N: usize, const T: usize>() -> [Property<Voting<N, T>>; 3] {
    [
        Property::<Voting<N, T>>::always(ONE_OWNER, |model, state| {
            let open: Vec<Proposer> = (0..model.setup.proposers.len())
                .filter(|proposer| model.is_open(state, *proposer))
                .map(|proposer| model.setup.proposers[proposer])
                .collect();
            open.iter().all(|one| !open.iter().any(|other| rivals(*one, *other)))
        }),
        Property::<Voting<N, T>>::sometimes(SUCCEEDED, |model, state| {
            let by_owner = |txn: &usize| !model.setup.txns[*txn].owners.is_empty();
            (0..T).filter(by_owner).any(|txn| state.chosen[txn].commit)
        }),
        Property::<Voting<N, T>>::sometimes(TAKEN_OVER, |model, state| {
            let taken = |proposer: usize| {
                model.is_open(state, proposer)
                    && model.older[proposer].iter().any(|txn| state.chosen[txn].commit)
            };
            (0..model.setup.proposers.len()).any(taken)
        }),
    ]
}

/// Whether two runs have opened one epoch.
fn rivals(one: Proposer, other: Proposer) -> bool {
    match (one, other) {
        (
            Proposer::Fencer { seat, epoch, run },
            Proposer::Fencer { seat: other_seat, epoch: other_epoch, run: other_run },
        ) => seat == other_seat && epoch == other_epoch && run != other_run,
        _ => false,
    }
}

fn excluded<const N: usize, const T: usize>(model: &Voting<N, T>, chosen: &[Chosen; T]) -> bool {
    let committed = |txn: usize| chosen[txn].commit;
    (0..T).any(|txn| committed(txn) && model.relations[txn].excludes.iter().any(committed))
}

/// P3. A set of R nodes misses a commit only if R nodes do not show it.
fn readable<const N: usize, const T: usize>(model: &Voting<N, T>, state: &State<N, T>) -> bool {
    let shows = |node: &Node<T>, txn: usize, height: u8, key: usize| {
        let at = &node.txns[txn];
        at.vote == FastVote::Accept
            || matches!(at.accepted, Some((_, Outcome::Commit)))
            || at.decided == Some(Outcome::Commit)
            || node.latest[key] >= height
    };
    (0..T).filter(|txn| state.chosen[*txn].commit).all(|txn| {
        let heights = model.relations[txn].height.iter().enumerate().filter(|(_, height)| **height > 0);
        let mut heights = heights;
        heights.all(|(key, height)| {
            state.count(|node| !shows(node, txn, *height, key)) < model.setup.sizes.read()
        })
    })
}

/// P4: what goes wrong, with which nodes alive.
pub(super) fn trouble<const N: usize, const T: usize>(
    model: &Voting<N, T>,
    state: &State<N, T>,
) -> Option<(u32, &'static str)> {
    let all = (1 << N) - 1;
    let fails = |alive: u32| recover_all(model, state, alive).err().map(|what| (alive, what));
    model.views(all, Voting::<N, T>::alike(state)).find_map(fails)
}

/// One recoverer with the highest ballot, whom nobody disturbs, and only the nodes in `alive`.
fn recover_all<const N: usize, const T: usize>(
    model: &Voting<N, T>,
    state: &State<N, T>,
    alive: u32,
) -> Result<(), &'static str> {
    let mut nodes = state.nodes;
    let mut live = 0;
    for node in (0..N).filter(|node| alive >> node & 1 == 1) {
        nodes[live] = state.nodes[node];
        live += 1;
    }
    let nodes = &mut nodes[..live];
    let mut chosen = state.chosen;
    let mut open = TxnSet::NONE;
    for (txn, chosen) in chosen.iter().enumerate() {
        let undecided = |node: &Node<T>| node.txns[txn].decided.is_none() && node.txns[txn].is_known();
        let blocks_writers = |node: &Node<T>| {
            model.rules.check_hold == CheckHold::UntilQuorumKnows
                && node.txns[txn].decided == Some(Outcome::Commit)
        };
        if nodes.iter().any(|node| undecided(node) || blocks_writers(node)) {
            open = open.with(txn);
        }
        let forgotten =
            nodes.iter().all(|node| node.txns[txn].decided.is_none() && !node.txns[txn].is_known());
        if forgotten && chosen.commit {
            return Err("a commit that no live node knows");
        }
    }
    while !open.is_empty() {
        let Some((txn, outcome)) = open.iter().find_map(|txn| Some((txn, recover(model, nodes, txn)?)))
        else {
            return Err("stuck");
        };
        chosen[txn].add(outcome);
        if chosen[txn].commit && chosen[txn].abort {
            return Err("contradiction");
        }
        for node in nodes.iter_mut() {
            model.decide(node, txn, outcome);
            node.txns[txn].widely_known = true;
        }
        open = open.minus(TxnSet::of(&[txn]));
    }
    judge_history(model, state, &chosen)
}

fn judge_history<const N: usize, const T: usize>(
    model: &Voting<N, T>,
    state: &State<N, T>,
    chosen: &[Chosen; T],
) -> Result<(), &'static str> {
    if excluded(model, chosen) {
        return Err("two commits of one slot");
    }
    let new = |txn: &usize| chosen[*txn].commit && !state.chosen[*txn].commit;
    for txn in (0..T).filter(new) {
        if model.relations[txn].stale_after.iter().any(|other| state.chosen[other].commit) {
            return Err("a checker after its writer");
        }
    }
    Ok(())
}

/// The outcome the recoverer reaches for this transaction now; `None` if others come first.
fn recover<const N: usize, const T: usize>(
    model: &Voting<N, T>,
    nodes: &[Node<T>],
    txn: usize,
) -> Option<Outcome> {
    if let Some(decided) = nodes.iter().find_map(|node| node.txns[txn].decided) {
        return Some(decided);
    }
    let highest = nodes.iter().filter_map(|node| node.txns[txn].accepted).max();
    let accepts = nodes.iter().filter(|node| node.txns[txn].vote == FastVote::Accept).count();
    let value = match highest {
        Some((_, value)) => value,
        None if accepts + (N - nodes.len()) >= model.setup.sizes.fast => Outcome::Commit,
        None => Outcome::Abort,
    };
    if value == Outcome::Abort {
        return Some(Outcome::Abort);
    }
    let first = model.conflicts_first(txn);
    if highest.is_none() && nodes.iter().any(|node| !model.holders(node, txn, first).is_empty()) {
        return None;
    }
    let accepting = |node: &&Node<T>| {
        model.rules.second_round == SecondRound::Nothing || {
            let node = model.with_bases(node, txn);
            node.txns[txn].decided.is_some() || model.may_accept_commit(&node, txn)
        }
    };
    (nodes.iter().filter(accepting).count() >= model.setup.sizes.write).then_some(Outcome::Commit)
}
