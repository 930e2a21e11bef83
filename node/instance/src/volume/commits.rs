//! Who waits for which proposal, and when a lost proposal is made again.
//!
//! A proposal that was refused only because undecided rivals stood in its way is proposed again, as a new
//! transaction, once they are out of the way: by then either one of them has committed and the proposal is
//! stale, a conflict for good, or the slots are free. So two that refuse each other do not both fail.

use std::collections::BTreeMap;

use node_core::coordinator::Millis;
use node_core::ids::TxnId;

use super::driver::SLOW_MS;
use super::{Answer, COMMIT_TIMEOUT};
use crate::volume_api::{CommitError, Proposal};

/// How often a proposal is made in all.
const ATTEMPTS_MAX: u32 = 12;

pub(super) struct Waiting {
    pub(super) proposal: Proposal,
    pub(super) answer: Answer<Result<TxnId, CommitError>>,
    pub(super) deadline: Millis,
    pub(super) attempts: u32,
    /// Since when it waits, and when that is worth a word.
    since: Millis,
    slow_at: Millis,
}

/// Transactions of this instance that may be without an outcome: further commits fail at once. More than that
/// are never asked for by as many sessions as there may be; but those whose client gave up count as well.
pub(super) const UNFINISHED_MAX: usize = 10_000;

/// Why no more commits are taken, if that is so: `in_flight` have been proposed and are undecided.
pub(super) fn crowded(in_flight: usize, parked: usize) -> Option<String> {
    (in_flight + parked >= UNFINISHED_MAX).then(|| {
        format!(
            "{in_flight} transactions of this instance wait for their outcome and {parked} to be proposed: \
             more than {UNFINISHED_MAX} are not taken; look at the storage nodes, and try again"
        )
    })
}

/// Proposals by ticket.
#[derive(Default)]
pub(super) struct Commits {
    next: u64,
    /// Proposed, undecided.
    pub(super) proposed: BTreeMap<u64, Waiting>,
    /// Not proposed now: for want of a quorum or a seat, or until a pause is over.
    pub(super) parked: Vec<(Millis, Waiting)>,
}

impl Commits {
    pub(super) fn arrive(
        &mut self,
        proposal: Proposal,
        answer: Answer<Result<TxnId, CommitError>>,
        now: Millis,
    ) -> Waiting {
        let timeout = u64::try_from(COMMIT_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
        Waiting { proposal, answer, deadline: now + timeout, attempts: 0, since: now, slow_at: now + SLOW_MS }
    }
    pub(super) fn ticket(&mut self, mut waiting: Waiting) -> (u64, Proposal) {
        self.next += 1;
        waiting.attempts += 1;
        let proposal = waiting.proposal.clone();
        self.proposed.insert(self.next, waiting);
        (self.next, proposal)
    }
    /// A proposal was refused; true if it will be made again.
    pub(super) fn refused(
        &mut self,
        waiting: Waiting,
        stale: bool,
        by: &[TxnId],
        jitter: Millis,
        now: Millis,
    ) -> bool {
        if stale || waiting.attempts >= ATTEMPTS_MAX || now >= waiting.deadline {
            let detail = match by.first() {
                _ if stale => "a row was changed by another transaction".to_owned(),
                Some(by) => format!("transaction {by} stood in the way"),
                None => "the vote was lost".to_owned(),
            };
            waiting.answer.give(Err(CommitError::Conflict(detail)));
            return false;
        }
        let pause = 1 + jitter % (2 << waiting.attempts.min(5));
        self.parked.push((now + pause, waiting));
        true
    }
    /// Parked proposals whose pause is over.
    pub(super) fn due(&mut self, now: Millis) -> Vec<Waiting> {
        let mut due = Vec::new();
        let mut later = Vec::new();
        for (at, waiting) in std::mem::take(&mut self.parked) {
            if at <= now { due.push(waiting) } else { later.push((at, waiting)) }
        }
        self.parked = later;
        due
    }
    /// Proposals that have waited for long, and for how many seconds: each is told every few seconds.
    pub(super) fn slow(&mut self, now: Millis) -> Vec<(u64, Millis)> {
        let late = self.proposed.iter_mut().filter(|(_, waiting)| waiting.slow_at <= now);
        late.map(|(ticket, waiting)| {
            waiting.slow_at = now + SLOW_MS;
            (*ticket, (now - waiting.since) / 1000)
        })
        .collect()
    }
    /// Gives up what has waited too long: what was never proposed has failed, what was proposed is unknown.
    pub(super) fn expire(&mut self, now: Millis, reason: &str) {
        let late: Vec<u64> =
            self.proposed.iter().filter(|(_, waiting)| waiting.deadline <= now).map(|(id, _)| *id).collect();
        for ticket in late {
            if let Some(waiting) = self.proposed.remove(&ticket) {
                waiting.answer.give(Err(CommitError::Unknown(reason.to_owned())));
            }
        }
        let mut kept = Vec::new();
        for (at, waiting) in std::mem::take(&mut self.parked) {
            if waiting.deadline <= now {
                waiting.answer.give(Err(CommitError::Unavailable(reason.to_owned())));
            } else {
                kept.push((at, waiting));
            }
        }
        self.parked = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_beyond_the_limit_are_refused_with_a_reason() {
        assert_eq!(crowded(UNFINISHED_MAX - 2, 1), None);
        let reason = crowded(UNFINISHED_MAX - 1, 1).expect("too many");
        assert!(reason.contains("10000") && reason.contains("try again"), "{reason}");
    }
}
