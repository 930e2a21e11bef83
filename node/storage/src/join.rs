//! A disk that lost its votes comes back as a new one (`docs/rfcs/0005-readmission.md`).
//!
//! ```text
//! Ask ─ a write quorum reports ─▶ Base ─▶ Copy rows ─▶ Settle ─ all that was reported is known ─▶ Persist ─▶ member
//!  ▲                               │        │            │
//!  └───────── the peer is gone, or no answer in time ────┘
//! ```
//!
//! From `Base` on the acceptor follows the volume as any node that missed something does (`catch_up`); the rows
//! take what is decided and what is copied in any order, since a version never replaces a higher one. Nothing is
//! voted, promised or read here until the end. A crash on the way begins again: nothing depends on what is here.
//!
//! What members report as undecided is recovered by this node's own coordinator, as any instance could.

use std::time::{Duration, Instant};

use bytes::Bytes;
use node_core::acceptor::{Acceptor, Action, Checkpoint};
use node_core::coordinator::{Action as Wish, Coordinator, Millis};
use node_core::ids::{Key, StorageId, Vector};
use node_core::membership::{Generation, Generations, JoinReport, Joiner};
use node_core::quorum::Quorum;
use node_core::wire::{Block, Membership, ReadBlock, Reply, Request};

use crate::accept_log::{AcceptLog, SEGMENT_BYTES};
use crate::applier::Task;
use crate::driver::{Driver, DriverError};
use crate::membership;
use crate::reads::chain;
use crate::repair;
use crate::shared::Shared;
use crate::status::count;

/// How often time passes for a disk that joins.
pub(crate) const TICK: Duration = Duration::from_millis(10);
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// A peer that has not answered by then is replaced by another one.
const ANSWER_MAX: Duration = Duration::from_secs(10);
const SETTLE_MAX: Duration = Duration::from_secs(30);
const BLOCK_BYTES: u32 = 1 << 20;
/// A reported transaction is left alone for this long: its own writer normally decides it.
const RESOLVE_PATIENCE_MS: Millis = 50;
const RESOLVE_AGAIN: Duration = Duration::from_millis(200);
const RESOLVE_MAX: usize = 256;
const TELL: Duration = Duration::from_secs(5);

enum Stage {
    /// Learning what exists.
    Ask,
    /// Waiting for a state to begin from.
    Base { from: StorageId, id: u64, until: Instant },
    /// Copying rows; one question at a time.
    Copy { from: StorageId, id: u64, base: Vector, reach: Vector, until: Instant },
    /// Everything is copied; waiting until all that was reported is known. Where that leads nowhere the copy was of
    /// a member that is stuck itself.
    Settle { reach: Vector, until: Instant },
    /// Nothing more is taken until the rows are durable.
    Persist { task: u64, ordered: Vector },
}

/// A disk on its way in.
pub(crate) struct Join {
    /// Once it is announced to the members.
    generation: Option<Generation>,
    /// Which disk this was before.
    before: Generation,
    known: Generations,
    volume: Option<u64>,
    joiner: Joiner,
    coordinator: Coordinator,
    stage: Stage,
    begun: Instant,
    asked: Option<Instant>,
    told: Instant,
    next_id: u64,
    tries: usize,
    bytes: u64,
}

impl Join {
    pub(crate) fn new(before: Generation, quorum: Quorum, shared: &Shared) -> Join {
        Join {
            generation: None,
            before,
            known: Generations::default(),
            volume: None,
            joiner: Joiner::new(quorum),
            coordinator: Coordinator::new(quorum, shared.run),
            stage: Stage::Ask,
            begun: Instant::now(),
            asked: None,
            told: Instant::now(),
            next_id: 1,
            tries: 0,
            bytes: 0,
        }
    }
    /// Whether the acceptor follows the volume, though it does not vote.
    pub(crate) fn follows(&self) -> bool {
        matches!(self.stage, Stage::Copy { .. } | Stage::Settle { .. })
    }
    /// For a person.
    pub(crate) fn describe(&self) -> String {
        let mebibytes = self.bytes >> 20;
        match &self.stage {
            Stage::Ask => {
                let reports = self.joiner.reporters().count();
                format!("{reports} members have reported what exists, a write quorum of them is needed")
            }
            Stage::Base { from, .. } => format!("asking storage node {} for a copy", from.0),
            Stage::Copy { from, .. } => {
                format!("copying from storage node {}, {mebibytes} MiB so far", from.0)
            }
            Stage::Settle { .. } => "waiting until all that was under way is decided".to_owned(),
            Stage::Persist { .. } => format!("making {mebibytes} MiB durable"),
        }
    }
    fn millis(&self, now: Instant) -> Millis {
        u64::try_from(now.saturating_duration_since(self.begun).as_millis()).unwrap_or(Millis::MAX)
    }
    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

impl Driver {
    /// Time passes for a disk that joins.
    pub(crate) fn join_tick(&mut self, now: Instant) -> Result<(), DriverError> {
        let Some(mut join) = self.joining.take() else { return Ok(()) };
        let member = self.step_join(&mut join, now)?;
        if now.saturating_duration_since(join.told) >= TELL {
            join.told = now;
            tracing::info!(state = join.describe(), "readmission");
        }
        if !member {
            self.unpublished = true;
            self.joining = Some(join);
        }
        Ok(())
    }

    fn step_join(&mut self, join: &mut Join, now: Instant) -> Result<bool, DriverError> {
        let mut wishes = Vec::new();
        join.coordinator.tick(join.millis(now), &mut wishes);
        self.grant(join, wishes);
        match &join.stage {
            Stage::Ask => self.ask(join, now),
            Stage::Base { until, .. } | Stage::Copy { until, .. } if *until <= now => {
                tracing::warn!(
                    state = join.describe(),
                    "no answer in time: beginning again with another member"
                );
                self.choose_source(join, now);
            }
            Stage::Base { .. } | Stage::Copy { .. } => {}
            Stage::Settle { until, .. } if *until <= now => {
                tracing::warn!("what was under way is not decided: beginning again with another member");
                self.choose_source(join, now);
            }
            Stage::Settle { reach, .. } => {
                let reach = reach.clone();
                self.settle(join, &reach, now);
            }
            Stage::Persist { task, ordered } => {
                if self.shared.rows_queue.done() >= *task {
                    let ordered = ordered.clone();
                    return self.become_member(join, &ordered);
                }
            }
        }
        Ok(false)
    }

    /// A member answers a disk that joins. False if the reply is none of its business.
    pub(crate) fn join_reply(&mut self, peer: StorageId, reply: Reply, now: Instant) -> Option<Reply> {
        let Some(mut join) = self.joining.take() else { return Some(reply) };
        let rest = self.answered(&mut join, peer, reply, now);
        self.joining = Some(join);
        rest
    }

    fn answered(&mut self, join: &mut Join, peer: StorageId, reply: Reply, now: Instant) -> Option<Reply> {
        match reply {
            Reply::JoinOk { node, generation, report } => {
                if node == self.place.id && Some(generation) == join.generation {
                    self.reported(join, peer, report, now);
                }
                None
            }
            Reply::JoinNack { node, current } => {
                if node == self.place.id {
                    join.known = join.known.join(&Generations::default().with(node, current));
                }
                None
            }
            Reply::Base { id, checkpoint } => {
                self.based(join, peer, id, checkpoint, now);
                None
            }
            Reply::Block(block) => {
                self.copied(join, block, now);
                None
            }
            Reply::ReadRefused { id, reason } => {
                if matches!(&join.stage, Stage::Copy { id: asked, .. } if *asked == id) {
                    tracing::warn!(peer = peer.0, reason, "a member refuses rows: beginning again");
                    self.choose_source(join, now);
                }
                None
            }
            Reply::StatusIs { membership: Membership::Member(volume), .. } => {
                join.volume.get_or_insert(volume);
                let mut wishes = Vec::new();
                join.coordinator.node_up(peer, join.millis(now), &mut wishes);
                self.grant(join, wishes);
                Some(reply)
            }
            Reply::StatusIs { .. } | Reply::Fetched { .. } => Some(reply),
            Reply::Generations(generations) => {
                join.known = join.known.join(&generations);
                self.pass_on(join, peer, reply, now);
                None
            }
            reply => {
                self.pass_on(join, peer, reply, now);
                None
            }
        }
    }

    fn pass_on(&mut self, join: &mut Join, peer: StorageId, reply: Reply, now: Instant) {
        let mut wishes = Vec::new();
        join.coordinator.reply(peer, reply, join.millis(now), &mut wishes);
        self.grant(join, wishes);
    }

    /// The connection to a member is gone.
    pub(crate) fn join_peer_down(&mut self, peer: StorageId, now: Instant) {
        let Some(mut join) = self.joining.take() else { return };
        let mut wishes = Vec::new();
        join.coordinator.node_down(peer, join.millis(now), &mut wishes);
        self.grant(&join, wishes);
        if matches!(&join.stage, Stage::Base { from, .. } | Stage::Copy { from, .. } if *from == peer) {
            self.choose_source(&mut join, now);
        }
        self.joining = Some(join);
    }

    // ---- Ask ----

    fn ask(&mut self, join: &mut Join, now: Instant) {
        if join.asked.is_some_and(|asked| now.saturating_duration_since(asked) < ASK_AGAIN) {
            return;
        }
        let members = self.catch_up.members();
        let Some(volume) = join.volume.filter(|_| members.len() >= self.acceptor.quorum().write()) else {
            return;
        };
        join.asked = Some(now);
        let current = join.known.get(self.place.id);
        let announced = join.generation.filter(|generation| current <= *generation);
        let Some(generation) = announced.or_else(|| self.announce(join, volume, current)) else { return };
        let node = self.place.id;
        for member in members {
            self.send_peer(member, &Request::Join { node, generation });
        }
    }

    /// A generation that nobody has had. Durable first: what is announced must be remembered.
    fn announce(&mut self, join: &mut Join, volume: u64, current: Generation) -> Option<Generation> {
        let number = current.number.max(join.before.number) + 1;
        let generation = Generation { number, disk: self.proposal };
        let lost = Membership::Lost(volume);
        if let Err(error) = membership::store(&self.shared.config.data_dir, &self.place, lost, generation) {
            tracing::error!(error = %chain(&error), "the membership cannot be written");
            return None;
        }
        *self.shared.membership.lock() = lost;
        join.generation = Some(generation);
        join.joiner = Joiner::new(self.acceptor.quorum());
        tracing::info!(generation = number, "asking the members to readmit this disk");
        Some(generation)
    }

    fn reported(&mut self, join: &mut Join, peer: StorageId, report: JoinReport, now: Instant) {
        let before = join.joiner.complete();
        join.joiner.reported(peer, report);
        if !before && join.joiner.complete() && matches!(join.stage, Stage::Ask) {
            self.choose_source(join, now);
        }
    }

    fn choose_source(&mut self, join: &mut Join, now: Instant) {
        let reporters: Vec<StorageId> = join.joiner.reporters().collect();
        let members = self.catch_up.members();
        let usable: Vec<StorageId> = reporters.into_iter().filter(|node| members.contains(node)).collect();
        join.tries += 1;
        let until = now + ANSWER_MAX;
        // At first the one that is furthest; if that leads nowhere, another one.
        let chosen = match join.tries {
            1 => self.catch_up.furthest(&usable),
            tries => usable.get(tries % usable.len().max(1)).copied(),
        };
        // Nobody is there: the members are asked again, and whoever answers is next.
        let Some(from) = chosen else {
            join.stage = Stage::Base { from: self.place.id, id: 0, until: now + ASK_AGAIN };
            return;
        };
        let id = join.next_id();
        join.stage = Stage::Base { from, id, until };
        self.send_peer(from, &Request::Base { id });
    }

    // ---- Base and Copy ----

    fn based(&mut self, join: &mut Join, peer: StorageId, id: u64, checkpoint: Checkpoint, now: Instant) {
        let Stage::Base { from, id: asked, .. } = &join.stage else { return };
        if *from != peer || *asked != id {
            return;
        }
        let base = checkpoint.ordered.clone();
        tracing::info!(peer = peer.0, %base, "copying the volume");
        self.shared.rows_queue.task(Task::Begin(base.clone()));
        *self.shared.applied.lock() = base.clone();
        self.rows.forget();
        self.forget_pending();
        let Some(generation) = join.generation else { return };
        let generations = join.known.with(self.place.id, generation);
        self.acceptor = Acceptor::new(self.acceptor.quorum());
        let mut actions = Vec::new();
        let seats = join.joiner.seats();
        self.acceptor.install(checkpoint, &seats, generations, &mut self.rows, &mut actions);
        self.shared.feed.reset(base.clone());
        for action in actions {
            if let Action::Feed(items) = action {
                self.feed(items);
            }
        }
        let reported: Vec<Request> = join
            .joiner
            .decided()
            .map(|(txn, outcome, body)| Request::Decide { txn, outcome, body })
            .collect();
        for request in reported {
            self.take(request);
        }
        self.seats_changed = true;
        join.bytes = 0;
        self.next_block(join, peer, Bytes::new(), base, Vector::new(), now);
    }

    fn next_block(
        &mut self,
        join: &mut Join,
        from: StorageId,
        start: Key,
        base: Vector,
        reach: Vector,
        now: Instant,
    ) {
        let id = join.next_id();
        let read = ReadBlock {
            id,
            start,
            end: None,
            reverse: false,
            bytes_max: BLOCK_BYTES,
            // Only the newest versions: older snapshots are read elsewhere.
            from: base.clone(),
            at_least: base.clone(),
        };
        self.send_peer(from, &Request::Read(read));
        join.stage = Stage::Copy { from, id, base, reach, until: now + ANSWER_MAX };
    }

    fn copied(&mut self, join: &mut Join, block: Block, now: Instant) {
        let Stage::Copy { from, id, base, reach, .. } = &join.stage else { return };
        if *id != block.id {
            return;
        }
        let (from, base, mut reach) = (*from, base.clone(), reach.clone());
        reach.join(&block.at);
        let bytes: usize = block
            .rows
            .iter()
            .map(|row| {
                row.key.len()
                    + row.versions[..1]
                        .iter()
                        .map(|version| version.value.as_ref().map_or(0, Bytes::len))
                        .sum::<usize>()
            })
            .sum();
        join.bytes += bytes as u64;
        count(&self.shared.counters.copied_bytes, bytes as u64);
        // Waits while much is queued, so that memory stays bounded.
        self.shared.rows_queue.task(Task::Rows(block.rows));
        match block.end {
            Some(next) => self.next_block(join, from, next, base, reach, now),
            None => {
                tracing::info!(bytes = join.bytes, "all rows are copied");
                join.stage = Stage::Settle { reach, until: now + SETTLE_MAX };
            }
        }
    }

    // ---- Settle and Persist ----

    fn settle(&mut self, join: &mut Join, reach: &Vector, now: Instant) {
        let outstanding = join.joiner.outstanding(self.acceptor.ordering());
        let behind = join.joiner.behind(self.acceptor.ordering());
        if join.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= RESOLVE_AGAIN) {
            join.asked = Some(now);
            // What is missing below known decisions keeps everything behind it from being applied anywhere.
            let missing = self.acceptor.ordering().missing(RESOLVE_MAX);
            let mut wishes = Vec::new();
            for txn in outstanding.iter().chain(&missing).take(RESOLVE_MAX) {
                join.coordinator.resolve(*txn, RESOLVE_PATIENCE_MS, join.millis(now), &mut wishes);
            }
            self.grant(join, wishes);
        }
        let ordered = self.acceptor.ordering().ordered().clone();
        let applied = self.shared.applied.lock().clone();
        let level = applied == ordered && applied.covers(reach) && self.unlogged.is_empty();
        if outstanding.is_empty() && !behind && level {
            // Older snapshots find their versions elsewhere.
            let task = self.shared.rows_queue.task(Task::End(ordered.clone()));
            join.stage = Stage::Persist { task, ordered };
        }
    }

    fn become_member(&mut self, join: &mut Join, ordered: &Vector) -> Result<bool, DriverError> {
        let level = self.acceptor.ordering().ordered() == ordered;
        assert!(level, "nothing is taken while the rows are made durable");
        let volume = join.volume.expect("members have told their volume");
        let generation = join.generation.expect("it was announced before anybody reported");
        let dir = &self.shared.config.data_dir;
        let opened = fresh_log(&dir.join("log"), &self.acceptor);
        let log = match opened {
            Ok(log) => log,
            Err(source) => return Err(DriverError::Readmission { source }),
        };
        membership::store(dir, &self.place, Membership::Member(volume), generation)
            .map_err(|source| DriverError::Membership { source })?;
        if let Err(error) = repair::clear(dir) {
            // The next start copies them once more.
            tracing::error!(%error, "the mark of damaged rows stays");
        }
        *self.shared.marked.lock() = None;
        self.forget_pending();
        self.log = Some(log);
        self.generation = generation;
        *self.shared.membership.lock() = Membership::Member(volume);
        self.shared.membership_changed.send_replace(());
        count(&self.shared.counters.readmissions, 1);
        let milliseconds = join.millis(Instant::now());
        tracing::info!(
            milliseconds,
            bytes = join.bytes,
            generation = generation.number,
            "readmitted: this storage node votes again"
        );
        Ok(true)
    }

    // ---- the coordinator of what members reported ----

    fn grant(&mut self, join: &Join, wishes: Vec<Wish>) {
        for wish in wishes {
            match wish {
                Wish::Send(node, request) => self.send_peer(node, &request),
                Wish::Broadcast(request) => {
                    for member in self.catch_up.members() {
                        self.send_peer(member, &request);
                    }
                    if matches!(request, Request::Decide { .. }) && join.follows() {
                        self.take(request);
                    }
                }
                Wish::Resolved(txn, outcome) => {
                    tracing::info!(%txn, ?outcome, "an undecided transaction is resolved")
                }
                // This node has no seat and proposes nothing.
                Wish::Apply(_)
                | Wish::Finish(..)
                | Wish::Seated(_)
                | Wish::TakeFailed { .. }
                | Wish::Unseated(_)
                | Wish::NodeUnable(..) => {}
            }
        }
    }
}

/// A log that begins with what the acceptor knows now.
fn fresh_log(dir: &std::path::Path, acceptor: &Acceptor) -> Result<AcceptLog, crate::accept_log::LogError> {
    use node_core::wire::Wire;
    AcceptLog::discard(dir)?;
    let mut log = AcceptLog::open(dir, SEGMENT_BYTES, &mut |_| {})?;
    let records: Vec<Bytes> = acceptor.checkpoint_records().iter().map(Wire::to_bytes).collect();
    log.begin_segment(&records)?;
    Ok(log)
}
