//! Who waits for which proposal, and when a refused one is made again: as
//! `node/instance/src/volume/commits.rs`.

use std::collections::BTreeMap;

use node_core::coordinator::Millis;
use node_core::ids::{TxnId, Vector};
use node_core::txn::{Check, Write};

/// How often a proposal is made in all.
const ATTEMPTS_MAX: u32 = 12;
/// How long a commit waits for its outcome; shorter than what ships, so that a run sees it end.
pub(super) const COMMIT_TIMEOUT_MS: Millis = 4_000;

/// What a transaction asks the volume to commit.
pub(super) type Proposal = (Vector, Vec<Write>, Vec<Check>);

/// Why a commit did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommitError {
    /// Another transaction won.
    Conflict,
    /// It was not proposed, or is aborted.
    Unavailable,
    /// It may be either.
    Unknown,
    /// The seat is lost; nothing happened.
    Fenced,
}

pub(super) struct Waiting {
    pub(super) proposal: Proposal,
    pub(super) session: usize,
    deadline: Millis,
    attempts: u32,
}

/// Proposals by ticket.
#[derive(Default)]
pub(super) struct Commits {
    next: u64,
    pub(super) proposed: BTreeMap<u64, Waiting>,
    /// Not proposed now: for want of a quorum or a seat, or until a pause is over.
    pub(super) parked: Vec<(Millis, Waiting)>,
    names: BTreeMap<u64, TxnId>,
}

impl Commits {
    pub(super) fn arrive(proposal: Proposal, session: usize, now: Millis) -> Waiting {
        Waiting { proposal, session, deadline: now + COMMIT_TIMEOUT_MS, attempts: 0 }
    }
    pub(super) fn ticket(&mut self, mut waiting: Waiting) -> (u64, Proposal) {
        self.next += 1;
        waiting.attempts += 1;
        let proposal = waiting.proposal.clone();
        self.proposed.insert(self.next, waiting);
        (self.next, proposal)
    }
    pub(super) fn named(&mut self, ticket: u64, txn: TxnId) {
        self.names.insert(ticket, txn);
    }
    pub(super) fn name(&mut self, ticket: u64) -> Option<TxnId> {
        self.names.remove(&ticket)
    }
    /// A proposal was refused. Its session, if it will not be made again.
    pub(super) fn refused(
        &mut self,
        waiting: Waiting,
        stale: bool,
        jitter: u64,
        now: Millis,
    ) -> Option<usize> {
        if stale || waiting.attempts >= ATTEMPTS_MAX || now >= waiting.deadline {
            return Some(waiting.session);
        }
        let pause = 1 + jitter % (2 << waiting.attempts.min(5));
        self.parked.push((now + pause, waiting));
        None
    }
    pub(super) fn due(&mut self, now: Millis) -> Vec<Waiting> {
        let due = self.parked.extract_if(.., |(at, _)| *at <= now);
        due.map(|(_, waiting)| waiting).collect()
    }
    /// Gives up what has waited too long.
    pub(super) fn expire(&mut self, now: Millis) -> Vec<(usize, CommitError)> {
        let mut over = Vec::new();
        self.proposed.retain(|_, waiting| {
            let late = waiting.deadline <= now;
            if late {
                over.push((waiting.session, CommitError::Unknown));
            }
            !late
        });
        for (_, waiting) in self.parked.extract_if(.., |(_, waiting)| waiting.deadline <= now) {
            over.push((waiting.session, CommitError::Unavailable));
        }
        over
    }
}
