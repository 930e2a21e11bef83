//! What the storage thread does for a disk that joins: `node_core::join` decides, this file performs.

use std::time::{Duration, Instant};

use bytes::Bytes;
use node_core::acceptor::{Acceptor, Action as AcceptorAction};
use node_core::ids::{StorageId, Vector};
use node_core::join::{Action, Around, Begin, Join, Limits, TICK_MS};
use node_core::membership::Generation;
use node_core::quorum::Quorum;
use node_core::wire::{Membership, Reply};

use crate::accept_log::{AcceptLog, SEGMENT_BYTES};
use crate::applier::Task;
use crate::driver::{Driver, DriverError};
use crate::membership;
use crate::reads::chain;
use crate::repair;
use crate::shared::Shared;
use crate::status::count;

/// How often time passes for a disk that joins.
pub(crate) const TICK: Duration = Duration::from_millis(TICK_MS);
const TELL: Duration = Duration::from_secs(5);

/// A disk on its way in.
pub(crate) struct Joining {
    join: Join,
    begun: Instant,
    told: Instant,
    /// Once all is copied: when the rows' queue has done this task they are durable.
    persisting: Option<u64>,
}

impl Joining {
    /// `disk` is a random name of the new disk, `before` what it was.
    pub(crate) fn new(
        own: StorageId,
        quorum: Quorum,
        before: Generation,
        disk: u64,
        shared: &Shared,
    ) -> Self {
        let join = Join::new(own, quorum, shared.run, before, disk, Limits::default());
        Joining { join, begun: Instant::now(), told: Instant::now(), persisting: None }
    }
    /// Whether the acceptor follows the volume, though it does not vote.
    pub(crate) fn follows(&self) -> bool {
        self.join.follows()
    }
    /// For a person.
    pub(crate) fn describe(&self) -> String {
        self.join.describe()
    }
}

impl Driver {
    /// Time passes for a disk that joins.
    pub(crate) fn join_tick(&mut self, now: Instant) -> Result<(), DriverError> {
        let time = self.millis(now);
        let Some(joining) = &mut self.joining else { return Ok(()) };
        let mut actions = Vec::new();
        let ordering = self.acceptor.ordering();
        match joining.persisting {
            Some(task) if self.shared.rows_queue.done() >= task => {
                joining.join.durable(ordering, &mut actions)
            }
            Some(_) | None => {
                let applied = self.shared.applied.lock().clone();
                let (peers, released) = (&self.catch_up, self.unlogged.is_empty());
                let around = Around { ordering, peers, applied: &applied, released };
                joining.join.tick(around, time, &mut actions);
            }
        }
        if now.saturating_duration_since(joining.told) >= TELL {
            joining.told = now;
            tracing::info!(state = joining.describe(), "readmission");
        }
        self.unpublished = true;
        self.perform_join(actions)
    }

    /// A peer answers a disk that joins. Gives back what is none of its business.
    pub(crate) fn join_reply(
        &mut self,
        peer: StorageId,
        reply: Reply,
        now: Instant,
    ) -> Result<Option<Reply>, DriverError> {
        let time = self.millis(now);
        let Some(joining) = &mut self.joining else { return Ok(Some(reply)) };
        let mut actions = Vec::new();
        let rest = joining.join.reply(peer, reply, &self.catch_up, time, &mut actions);
        self.perform_join(actions)?;
        Ok(rest)
    }

    /// The connection to a peer is gone.
    pub(crate) fn join_peer_down(&mut self, peer: StorageId, now: Instant) -> Result<(), DriverError> {
        let time = self.millis(now);
        let Some(joining) = &mut self.joining else { return Ok(()) };
        let mut actions = Vec::new();
        joining.join.peer_down(peer, &self.catch_up, time, &mut actions);
        self.perform_join(actions)
    }

    fn perform_join(&mut self, actions: Vec<Action>) -> Result<(), DriverError> {
        for action in actions {
            match action {
                Action::Send(peer, request) => self.send_peer(peer, &request),
                Action::Announce { volume, generation } => self.announce(volume, generation)?,
                Action::Begin(begin) => self.begin_copy(*begin),
                Action::Take(request) => self.take(request),
                Action::Copy { rows, bytes } => {
                    count(&self.shared.counters.copied_bytes, bytes);
                    // Waits while much is queued, so that memory stays bounded.
                    self.shared.rows_queue.task(Task::Rows(rows));
                }
                Action::Finish(ordered) => self.finish_copy(ordered),
                Action::Member { volume, generation } => self.become_member(volume, generation)?,
                Action::Again(why) => {
                    tracing::warn!(%why, "beginning again with another member");
                }
                Action::Elsewhere(why) => tracing::warn!(%why, "copying on from another member"),
                Action::Resolved(txn, outcome) => {
                    tracing::info!(%txn, ?outcome, "an undecided transaction is resolved");
                }
            }
        }
        Ok(())
    }

    /// Makes a new generation durable, and only then lets the members hear of it.
    fn announce(&mut self, volume: u64, generation: Generation) -> Result<(), DriverError> {
        let lost = Membership::Lost(volume);
        if let Err(error) = membership::store(&self.shared.config.data_dir, &self.place, lost, generation) {
            tracing::error!(error = %chain(&error), "the membership cannot be written");
            return Ok(());
        }
        *self.shared.membership.lock() = lost;
        tracing::info!(generation = generation.number, "asking the members to readmit this disk");
        let mut actions = Vec::new();
        if let Some(joining) = &mut self.joining {
            joining.join.announced(generation, &self.catch_up, &mut actions);
        }
        self.perform_join(actions)
    }

    fn begin_copy(&mut self, begin: Begin) {
        let base = begin.checkpoint.ordered.clone();
        tracing::info!(peer = begin.from.0, %base, "copying the volume");
        self.shared.rows_queue.task(Task::Begin(base.clone()));
        *self.shared.applied.lock() = base.clone();
        self.rows.forget();
        self.forget_pending();
        let mut actions = Vec::new();
        self.acceptor = begin.acceptor(self.acceptor.quorum(), &mut self.rows, &mut actions);
        self.shared.feed.reset(base);
        for action in actions {
            if let AcceptorAction::Feed(items) = action {
                self.feed(items);
            }
        }
        self.seats_changed = true;
        self.note_writer();
    }

    fn finish_copy(&mut self, ordered: Vector) {
        let task = self.shared.rows_queue.task(Task::End(ordered));
        if let Some(joining) = &mut self.joining {
            tracing::info!(
                bytes = joining.join.bytes(),
                "all rows are copied and all that was under way is known"
            );
            joining.persisting = Some(task);
        }
    }

    fn become_member(&mut self, volume: u64, generation: Generation) -> Result<(), DriverError> {
        let Some(joining) = self.joining.take() else { return Ok(()) };
        let dir = &self.shared.config.data_dir;
        let log = fresh_log(&dir.join("log"), &self.acceptor)
            .map_err(|source| DriverError::Readmission { source })?;
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
        let milliseconds = u64::try_from(joining.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            milliseconds,
            bytes = joining.join.bytes(),
            generation = generation.number,
            "readmitted: this storage node votes again"
        );
        Ok(())
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
