//! Questions for the present: what a reader must have applied to see every commit acknowledged before it asked.
//!
//! ```text
//! ask ─▶ queue ─▶ round ─ a read quorum answers ─▶ target ─ the target is applied ─▶ reached
//!          ▲        │                                │
//!          └────────┘ no quorum in time              └─ what is still undecided of it is recovered
//! ```
//!
//! There is one round at a time, for everybody who waits. Whoever asks during a round waits for the next one: a round
//! that has begun may miss what was committed since. Nobody waits for longer than the timeout.
//!
//! Who asks is the shell's business (`A`); some of them are probes, which measure how far behind this instance is.

use std::collections::BTreeSet;

use crate::coordinator::Millis;
use crate::election::RIVAL_PATIENCE_MS;
use crate::ids::{Position, Seat, Seq, StorageId, StreamId, TxnId, Vector};

/// How often there is a probe, at most.
pub const PROBE_MS: Millis = 500;
/// A round of questions that has no quorum by then is asked again.
pub const ROUND_PATIENCE_MS: Millis = 500;
/// A reader whose target is not reached by then takes its feed from another node.
pub const FEED_PATIENCE_MS: Millis = 400;
/// Reaching the present for longer than this is worth a line in the log.
pub const SLOW_MS: Millis = 2_000;
/// At most this many undecided positions of a stream, and one more, are recovered for one reader at a time.
const RESOLVE_MAX: u64 = 64;

struct Waiting<A> {
    asker: A,
    since: Millis,
    probe: bool,
}

struct Round<A> {
    id: u64,
    started: Millis,
    waiting: Vec<Waiting<A>>,
    answered: BTreeSet<StorageId>,
    target: Vector,
}

/// A vector that must be applied, and who waits for it.
struct Target<A> {
    vector: Vector,
    /// Since when the feed that is there should have brought it.
    since: Millis,
    resolve_at: Millis,
    /// When it has taken so long that the log should tell.
    slow_at: Millis,
    waiting: Vec<Waiting<A>>,
}

/// Everybody who waits for the present.
pub struct Present<A> {
    quorum: usize,
    timeout: Millis,
    next: u64,
    queue: Vec<Waiting<A>>,
    round: Option<Round<A>>,
    targets: Vec<Target<A>>,
    last_probe: Millis,
}

impl<A> Present<A> {
    /// Nobody has asked. A round needs answers of `quorum` storage nodes (a read quorum); nobody waits for longer
    /// than `timeout`.
    pub fn new(quorum: usize, timeout: Millis) -> Present<A> {
        Present {
            quorum,
            timeout,
            next: 0,
            queue: Vec::new(),
            round: None,
            targets: Vec::new(),
            last_probe: 0,
        }
    }
    /// Somebody asks.
    pub fn ask(&mut self, asker: A, now: Millis) {
        self.queue.push(Waiting { asker, since: now, probe: false });
    }
    /// Asks as a probe, unless one is under way or the last one began less than [`PROBE_MS`] ago.
    pub fn probe(&mut self, asker: impl FnOnce() -> A, now: Millis) {
        if now.saturating_sub(self.last_probe) >= PROBE_MS && !self.probing() {
            self.last_probe = now;
            self.queue.push(Waiting { asker: asker(), since: now, probe: true });
        }
    }
    fn probing(&self) -> bool {
        let round = self.round.iter().flat_map(|round| &round.waiting);
        let targets = self.targets.iter().flat_map(|target| &target.waiting);
        self.queue.iter().chain(round).chain(targets).any(|waiting| waiting.probe)
    }
    /// The id of a round to begin now, if somebody waits and none is under way: every storage node is asked.
    pub fn begin(&mut self, now: Millis) -> Option<u64> {
        if let Some(round) = &mut self.round {
            if now.saturating_sub(round.started) < ROUND_PATIENCE_MS {
                return None;
            }
            // Lost with a connection, perhaps: the same people ask anew.
            let waiting = std::mem::take(&mut round.waiting);
            self.queue.splice(0..0, waiting);
        }
        if self.queue.is_empty() {
            self.round = None;
            return None;
        }
        self.next += 1;
        let waiting = std::mem::take(&mut self.queue);
        let (answered, target) = (BTreeSet::new(), Vector::new());
        self.round = Some(Round { id: self.next, started: now, waiting, answered, target });
        Some(self.next)
    }
    /// A node's answer to a round: what it knows to be committed, and what it has voted for and does not know the
    /// outcome of. Of that, transactions of `own`, this instance's stream, are not waited for: it knows itself
    /// which of them it has acknowledged.
    pub fn answered(
        &mut self,
        node: StorageId,
        id: u64,
        committed: &Vector,
        pending: &[TxnId],
        own: Option<StreamId>,
        now: Millis,
    ) {
        let Some(round) = self.round.as_mut().filter(|round| round.id == id) else { return };
        round.answered.insert(node);
        round.target.join(committed);
        for txn in pending.iter().filter(|txn| Some(txn.stream()) != own) {
            round.target.advance(txn.seat, txn.position());
        }
        if round.answered.len() < self.quorum {
            return;
        }
        if let Some(Round { target: vector, waiting, .. }) = self.round.take() {
            self.targets.push(Target {
                vector,
                since: now,
                resolve_at: now,
                slow_at: now + SLOW_MS,
                waiting,
            });
        }
    }
    /// Whether somebody knows what to wait for, and waits.
    pub fn awaits_feed(&self) -> bool {
        !self.targets.is_empty()
    }
    /// Whether somebody has waited for the feed for so long that another node should be tried.
    pub fn impatient(&self, now: Millis) -> bool {
        self.targets.iter().any(|target| now.saturating_sub(target.since) > FEED_PATIENCE_MS)
    }
    /// The feed has been looked after: everybody is patient again.
    pub fn feed_minded(&mut self, now: Millis) {
        for target in &mut self.targets {
            target.since = now;
        }
    }
    /// Those whose target has been applied.
    pub fn reached(&mut self, applied: &Vector) -> Vec<A> {
        let mut reached = Vec::new();
        self.targets.retain_mut(|target| {
            let done = applied.covers(&target.vector);
            if done {
                reached.extend(target.waiting.drain(..).map(|waiting| waiting.asker));
            }
            !done
        });
        reached
    }
    /// What may have to be recovered so that somebody gets on; the same again after [`RIVAL_PATIENCE_MS`].
    pub fn unresolved(&mut self, applied: &Vector, now: Millis) -> Vec<TxnId> {
        let mut wanted = Vec::new();
        for target in self.targets.iter_mut().filter(|target| target.resolve_at <= now) {
            target.resolve_at = now + RIVAL_PATIENCE_MS;
            wanted.extend(unresolved(&target.vector, applied));
        }
        wanted
    }
    /// Targets that take long, and the first that is missing of each; for the log, every [`SLOW_MS`].
    pub fn slow(&mut self, applied: &Vector, now: Millis) -> Vec<(Vector, Option<TxnId>)> {
        let late = self.targets.iter_mut().filter(|target| target.slow_at <= now);
        late.map(|target| {
            target.slow_at = now + SLOW_MS;
            (target.vector.clone(), unresolved(&target.vector, applied).first().copied())
        })
        .collect()
    }
    /// Gives up those who have waited for the timeout.
    pub fn expire(&mut self, now: Millis) -> Vec<A> {
        let mut over = Vec::new();
        let timeout = self.timeout;
        let mut give_up = |waiting: &mut Vec<Waiting<A>>| {
            let late = waiting.extract_if(.., |waiting| now.saturating_sub(waiting.since) >= timeout);
            over.extend(late.map(|waiting| waiting.asker));
        };
        give_up(&mut self.queue);
        self.round.iter_mut().for_each(|round| give_up(&mut round.waiting));
        self.targets.iter_mut().for_each(|target| give_up(&mut target.waiting));
        self.targets.retain(|target| !target.waiting.is_empty());
        over
    }
}

/// The positions of a target that have not been applied: each of them may have to be recovered.
fn unresolved(target: &Vector, applied: &Vector) -> Vec<TxnId> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;

    const TIMEOUT_MS: Millis = 3_000;
    const SEAT: Seat = Seat(1);

    fn present() -> Present<&'static str> {
        Present::new(2, TIMEOUT_MS)
    }

    fn at(seq: u64) -> Position {
        Position { epoch: Epoch(1), seq: Seq(seq) }
    }

    fn up_to(seq: u64) -> Vector {
        let mut vector = Vector::new();
        vector.advance(SEAT, at(seq));
        vector
    }

    /// Two nodes answer: up to 3 is committed, the fourth is undecided.
    fn answered(present: &mut Present<&'static str>, id: u64, now: Millis) {
        let fourth = txn(SEAT, at(4), Seq(4));
        present.answered(StorageId(0), id, &up_to(3), &[], None, now);
        present.answered(StorageId(2), id, &up_to(2), &[fourth], None, now);
    }

    #[test]
    fn whoever_asks_during_a_round_waits_for_the_next_one() {
        let mut present = present();
        present.ask("early", 0);
        assert_eq!(present.begin(0), Some(1));
        present.ask("late", 10);
        assert_eq!(present.begin(10), None, "one at a time");
        answered(&mut present, 1, 20);
        assert_eq!(present.begin(20), Some(2));
        assert!(present.reached(&up_to(3)).is_empty(), "the undecided one may be committed");
        assert_eq!(present.reached(&up_to(4)), ["early"]);
        answered(&mut present, 2, 30);
        assert_eq!(present.reached(&up_to(4)), ["late"]);
    }

    #[test]
    fn a_quorum_is_of_different_nodes_and_of_this_round() {
        let mut present = present();
        present.ask("one", 0);
        assert_eq!(present.begin(0), Some(1));
        for _ in 0..3 {
            present.answered(StorageId(0), 1, &up_to(1), &[], None, 10);
        }
        present.answered(StorageId(1), 7, &up_to(1), &[], None, 10);
        assert!(!present.awaits_feed());
        present.answered(StorageId(1), 1, &up_to(1), &[], None, 10);
        assert!(present.awaits_feed());
    }

    #[test]
    fn what_this_instance_has_not_decided_itself_is_not_waited_for() {
        let mut present = present();
        present.ask("one", 0);
        present.begin(0);
        let mine = txn(SEAT, at(4), Seq(4));
        for node in 0..2 {
            present.answered(StorageId(node), 1, &up_to(3), &[mine], Some(mine.stream()), 10);
        }
        assert_eq!(present.reached(&up_to(3)), ["one"]);
    }

    #[test]
    fn a_round_without_a_quorum_is_asked_again_by_the_same_people() {
        let mut present = present();
        present.ask("early", 0);
        assert_eq!(present.begin(0), Some(1));
        present.ask("late", 10);
        assert_eq!(present.begin(ROUND_PATIENCE_MS), Some(2));
        answered(&mut present, 1, ROUND_PATIENCE_MS);
        assert!(!present.awaits_feed(), "an answer to a round that is over");
        answered(&mut present, 2, ROUND_PATIENCE_MS);
        assert_eq!(present.reached(&up_to(4)), ["early", "late"]);
    }

    #[test]
    fn what_is_missing_is_recovered_at_once_and_again() {
        let mut present = present();
        present.ask("one", 0);
        present.begin(0);
        answered(&mut present, 1, 10);
        let missing: Vec<TxnId> = (3..=4).map(|seq| txn(SEAT, at(4), Seq(seq))).collect();
        assert_eq!(present.unresolved(&up_to(2), 10), missing);
        assert!(present.unresolved(&up_to(2), 10 + RIVAL_PATIENCE_MS - 1).is_empty());
        assert_eq!(present.unresolved(&up_to(3), 10 + RIVAL_PATIENCE_MS), missing[1..]);
        let slow = present.slow(&up_to(2), 10 + SLOW_MS);
        assert_eq!(slow, [(up_to(4), Some(missing[0]))]);
        assert!(present.slow(&up_to(2), 20 + SLOW_MS).is_empty(), "it was told just now");
    }

    #[test]
    fn a_new_epoch_is_missing_from_its_beginning() {
        let mut target = Vector::new();
        target.advance(SEAT, Position { epoch: Epoch(2), seq: Seq(2) });
        let missing: Vec<u64> = unresolved(&target, &up_to(9)).iter().map(|txn| txn.seq.0).collect();
        assert_eq!(missing, [1, 2]);
    }

    #[test]
    fn impatience_ends_with_a_look_after_the_feed() {
        let mut present = present();
        present.ask("one", 0);
        present.begin(0);
        answered(&mut present, 1, 10);
        assert!(!present.impatient(10 + FEED_PATIENCE_MS));
        assert!(present.impatient(11 + FEED_PATIENCE_MS));
        present.feed_minded(11 + FEED_PATIENCE_MS);
        assert!(!present.impatient(12 + FEED_PATIENCE_MS));
    }

    #[test]
    fn nobody_waits_for_longer_than_the_timeout() {
        let mut present = present();
        present.ask("target", 0);
        present.begin(0);
        answered(&mut present, 1, 1);
        present.ask("round", 1);
        present.begin(1);
        present.ask("queue", 2);
        assert!(present.expire(TIMEOUT_MS - 1).is_empty());
        assert_eq!(present.expire(TIMEOUT_MS), ["target"]);
        assert!(!present.awaits_feed());
        assert_eq!(present.expire(TIMEOUT_MS + 2), ["queue", "round"]);
        assert_eq!(present.begin(TIMEOUT_MS + 2), None, "nobody is left");
    }

    #[test]
    fn there_is_one_probe_at_a_time_and_not_too_often() {
        let mut present = present();
        present.probe(|| "first", PROBE_MS);
        present.probe(|| "second", 3 * PROBE_MS);
        assert_eq!(present.begin(3 * PROBE_MS), Some(1));
        present.probe(|| "third", 3 * PROBE_MS);
        answered(&mut present, 1, 3 * PROBE_MS);
        present.probe(|| "fourth", 3 * PROBE_MS);
        assert_eq!(present.reached(&up_to(4)), ["first"]);
        present.probe(|| "fifth", 3 * PROBE_MS);
        present.probe(|| "sixth", 3 * PROBE_MS + 1);
        present.begin(3 * PROBE_MS + 1);
        answered(&mut present, 2, 3 * PROBE_MS + 1);
        assert_eq!(present.reached(&up_to(4)), ["fifth"]);
    }
}
