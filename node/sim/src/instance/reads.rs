//! Blocks of rows asked for, and questions for the present: as `node/instance/src/volume/reads.rs`.

use std::collections::{BTreeMap, BTreeSet};

use node_core::cache::FetchId;
use node_core::coordinator::Millis;
use node_core::ids::{Position, Seat, Seq, TxnId, Vector};
use node_core::wire::ReadBlock;

use super::READ_TIMEOUT_MS;

pub(super) const BLOCK_PATIENCE_MS: Millis = 1_000;
const ROUND_PATIENCE_MS: Millis = 500;
const RESOLVE_MAX: u64 = 64;

pub(super) struct Pending {
    pub(super) request: ReadBlock,
    pub(super) fetch: FetchId,
    pub(super) node: Option<usize>,
    pub(super) sent: Millis,
    deadline: Millis,
    refused: u8,
    /// Sessions that wait for it.
    pub(super) waiting: Vec<usize>,
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
        mut request: ReadBlock,
        fetch: FetchId,
        session: usize,
        now: Millis,
    ) -> u64 {
        self.next += 1;
        request.id = self.next;
        let pending = Pending {
            request,
            fetch,
            node: None,
            sent: now,
            deadline: now + READ_TIMEOUT_MS,
            refused: 0,
            waiting: vec![session],
        };
        self.pending.insert(self.next, pending);
        self.next
    }
    pub(super) fn asked_of(&self, node: usize) -> Vec<u64> {
        self.pending.iter().filter(|(_, read)| read.node == Some(node)).map(|(id, _)| *id).collect()
    }
    /// A node refused. True if another is to be asked now.
    pub(super) fn refused(&mut self, id: u64, nodes: usize) -> bool {
        let Some(read) = self.pending.get_mut(&id) else { return false };
        read.refused = read.refused.wrapping_add(1);
        usize::from(read.refused) % nodes != 0
    }
    pub(super) fn late(&self, now: Millis) -> Vec<u64> {
        self.pending.iter().filter(|(_, read)| read.deadline <= now).map(|(id, _)| *id).collect()
    }
    pub(super) fn slow(&self, now: Millis, unasked: Millis, patience: Millis) -> Vec<u64> {
        let slow = |read: &Pending| {
            now.saturating_sub(read.sent) >= if read.node.is_none() { unasked } else { patience }
        };
        self.pending.iter().filter(|(_, read)| slow(read)).map(|(id, _)| *id).collect()
    }
}

/// Who waits for a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    Session(usize),
    Probe,
}

struct Round {
    id: u64,
    started: Millis,
    askers: Vec<(Asker, Millis)>,
    answered: BTreeSet<usize>,
    target: Vector,
}

/// A vector that must be applied, and who waits for it.
pub(super) struct Target {
    pub(super) vector: Vector,
    pub(super) since: Millis,
    pub(super) resolve_at: Millis,
    askers: Vec<(Asker, Millis)>,
}

/// Questions for the present.
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
        let probe = |askers: &[(Asker, Millis)]| askers.iter().any(|(asker, _)| *asker == Asker::Probe);
        probe(&self.queue)
            || self.round.as_ref().is_some_and(|round| probe(&round.askers))
            || self.targets.iter().any(|target| probe(&target.askers))
    }
    pub(super) fn begin(&mut self, now: Millis) -> Option<u64> {
        if let Some(round) = &mut self.round {
            if now.saturating_sub(round.started) < ROUND_PATIENCE_MS {
                return None;
            }
            let askers = std::mem::take(&mut round.askers);
            self.queue.splice(0..0, askers);
        }
        if self.queue.is_empty() {
            self.round = None;
            return None;
        }
        self.next += 1;
        let askers = std::mem::take(&mut self.queue);
        let (answered, target) = (BTreeSet::new(), Vector::new());
        self.round = Some(Round { id: self.next, started: now, askers, answered, target });
        Some(self.next)
    }
    pub(super) fn answered(
        &mut self,
        node: usize,
        id: u64,
        committed: &Vector,
        pending: &[TxnId],
        quorum: usize,
        now: Millis,
    ) {
        let Some(round) = self.round.as_mut().filter(|round| round.id == id) else { return };
        round.answered.insert(node);
        round.target.join(committed);
        for txn in pending {
            round.target.advance(txn.seat, txn.position());
        }
        if round.answered.len() < quorum {
            return;
        }
        if let Some(Round { target: vector, askers, .. }) = self.round.take() {
            self.targets.push(Target { vector, since: now, resolve_at: now, askers });
        }
    }
    pub(super) fn reached(&mut self, applied: &Vector) -> Vec<Asker> {
        let mut reached = Vec::new();
        self.targets.retain_mut(|target| {
            let done = applied.covers(&target.vector);
            if done {
                reached.extend(target.askers.drain(..).map(|(asker, _)| asker));
            }
            !done
        });
        reached
    }
    /// Sessions that have waited too long.
    pub(super) fn expire(&mut self, now: Millis, timeout: Millis) -> Vec<usize> {
        let mut over = Vec::new();
        let mut give_up = |askers: &mut Vec<(Asker, Millis)>| {
            askers.retain(|(asker, since)| {
                let late = now.saturating_sub(*since) >= timeout;
                if let (true, Asker::Session(session)) = (late, asker) {
                    over.push(*session);
                }
                !late
            });
        };
        give_up(&mut self.queue);
        self.round.iter_mut().for_each(|round| give_up(&mut round.askers));
        self.targets.iter_mut().for_each(|target| give_up(&mut target.askers));
        self.targets.retain(|target| !target.askers.is_empty());
        over
    }
}

/// The positions of a target that have not been applied.
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
