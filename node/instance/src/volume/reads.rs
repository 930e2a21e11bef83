//! Reads through the volume: blocks of rows, and the question which transactions exist.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use node_core::coordinator::Millis;
use node_core::ids::{Key, Position, Seat, Seq, StorageId, TxnId, Vector};
use node_core::wire::{Block, ReadBlock};

use super::Answer;
use super::driver::SLOW_MS;
use crate::volume_api::{BlockRequest, VolumeError};

/// A block read that a node has not answered within this time goes to another one.
pub(super) const BLOCK_PATIENCE_MS: Millis = 1_000;
/// A round of questions that has no quorum by then is asked again.
const ROUND_PATIENCE_MS: Millis = 500;
/// At most this many undecided positions are recovered for one reader at a time.
const RESOLVE_MAX: u64 = 64;

pub(super) struct Pending {
    pub(super) request: ReadBlock,
    pub(super) answer: Answer<Result<Block, VolumeError>>,
    pub(super) node: Option<StorageId>,
    pub(super) sent: Millis,
    pub(super) deadline: Millis,
    pub(super) refused: u8,
}

/// Block reads in flight.
#[derive(Default)]
pub(super) struct Blocks {
    next: u64,
    pub(super) pending: BTreeMap<u64, Pending>,
}

impl Blocks {
    pub(super) fn arrive(
        &mut self,
        request: BlockRequest,
        answer: Answer<Result<Block, VolumeError>>,
        now: Millis,
        timeout: Millis,
    ) -> u64 {
        self.next += 1;
        let BlockRequest { start, end, reverse, bytes_max, from, at_least } = request;
        let start: Key = start;
        let request =
            ReadBlock { id: self.next, start, end, reverse, bytes_max, from, newest: false, at_least };
        let pending = Pending { request, answer, node: None, sent: now, deadline: now + timeout, refused: 0 };
        self.pending.insert(self.next, pending);
        self.next
    }
    pub(super) fn answered(&mut self, block: Block) {
        if let Some(pending) = self.pending.remove(&block.id) {
            pending.answer.give(Ok(block));
        }
    }
}

/// Who waits for a round.
pub(super) enum Asker {
    Session(Answer<Result<Vector, VolumeError>>),
    /// Measures this instance's lag, from when it was asked.
    Probe(Instant),
}

struct Round {
    id: u64,
    started: Millis,
    askers: Vec<(Asker, Millis)>,
    answered: HashMap<StorageId, ()>,
    target: Vector,
}

/// A vector that must be applied, and who waits for it.
pub(super) struct Target {
    pub(super) vector: Vector,
    pub(super) since: Millis,
    pub(super) resolve_at: Millis,
    /// When it has taken so long that the log should tell.
    pub(super) slow_at: Millis,
    pub(super) askers: Vec<(Asker, Millis)>,
}

/// Questions for the present: one round at a time for everybody who waits.
#[derive(Default)]
pub(super) struct Present {
    next: u64,
    queue: Vec<(Asker, Millis)>,
    round: Option<Round>,
    pub(super) targets: Vec<Target>,
}

impl Present {
    pub(super) fn ask(&mut self, asker: Asker, now: Millis) {
        self.queue.push((asker, now));
    }
    pub(super) fn probing(&self) -> bool {
        let probe =
            |askers: &[(Asker, Millis)]| askers.iter().any(|(asker, _)| matches!(asker, Asker::Probe(_)));
        probe(&self.queue)
            || self.round.as_ref().is_some_and(|round| probe(&round.askers))
            || self.targets.iter().any(|target| probe(&target.askers))
    }
    /// The id of a round to begin now, if somebody waits and none is under way. Whoever asks during a round
    /// waits for the next one: a round that has begun may miss what was committed since.
    pub(super) fn begin(&mut self, now: Millis) -> Option<u64> {
        if let Some(round) = &mut self.round {
            if now.saturating_sub(round.started) < ROUND_PATIENCE_MS {
                return None;
            }
            // Lost with a connection, perhaps: the same people ask anew.
            let askers = std::mem::take(&mut round.askers);
            self.queue.splice(0..0, askers);
        }
        if self.queue.is_empty() {
            self.round = None;
            return None;
        }
        self.next += 1;
        let askers = std::mem::take(&mut self.queue);
        let (answered, target) = (HashMap::new(), Vector::new());
        self.round = Some(Round { id: self.next, started: now, askers, answered, target });
        Some(self.next)
    }
    /// A node's answer; true once the round is complete.
    pub(super) fn answered(
        &mut self,
        node: StorageId,
        id: u64,
        committed: &Vector,
        pending: &[TxnId],
        quorum: usize,
        now: Millis,
    ) -> bool {
        let Some(round) = self.round.as_mut().filter(|round| round.id == id) else { return false };
        round.answered.insert(node, ());
        round.target.join(committed);
        for txn in pending {
            round.target.advance(txn.seat, txn.position());
        }
        if round.answered.len() < quorum {
            return false;
        }
        if let Some(round) = self.round.take() {
            let (vector, askers) = (round.target, round.askers);
            let slow_at = now + SLOW_MS;
            self.targets.push(Target { vector, since: now, resolve_at: now, slow_at, askers });
        }
        true
    }
    /// Those whose target has been applied, and the vector.
    pub(super) fn reached(&mut self, applied: &Vector) -> Vec<(Asker, Millis)> {
        let mut reached = Vec::new();
        self.targets.retain_mut(|target| {
            let done = applied.covers(&target.vector);
            if done {
                reached.append(&mut target.askers);
            }
            !done
        });
        reached
    }
    /// Gives up what has waited too long.
    pub(super) fn expire(&mut self, now: Millis, timeout: Millis) {
        let late = |since: &Millis| now.saturating_sub(*since) >= timeout;
        let give_up = |askers: &mut Vec<(Asker, Millis)>| {
            for (asker, since) in std::mem::take(askers) {
                match asker {
                    Asker::Session(answer) if late(&since) => {
                        let reason = "no read quorum of storage nodes answered in time";
                        answer.give(Err(VolumeError::Unavailable(reason.to_owned())));
                    }
                    Asker::Probe(_) if late(&since) => {}
                    Asker::Session(_) | Asker::Probe(_) => askers.push((asker, since)),
                }
            }
        };
        give_up(&mut self.queue);
        if let Some(round) = &mut self.round {
            give_up(&mut round.askers);
        }
        for target in &mut self.targets {
            give_up(&mut target.askers);
        }
        self.targets.retain(|target| !target.askers.is_empty());
    }
}

/// The positions of a target that have not been applied: each of them may have to be recovered.
pub(super) fn unresolved(target: &Vector, applied: &Vector) -> Vec<TxnId> {
    let mut txns = Vec::new();
    for (seat, wanted) in target.iter() {
        let have = applied.get(seat);
        if have >= wanted {
            continue;
        }
        let from = if have.epoch == wanted.epoch { have.seq.0 + 1 } else { 1 };
        let to = wanted.seq.0.min(from + RESOLVE_MAX);
        txns.extend((from..=to).map(|seq| txn(seat, wanted, Seq(seq))));
    }
    txns
}

fn txn(seat: Seat, at: Position, seq: Seq) -> TxnId {
    TxnId { seat, epoch: at.epoch, seq }
}
