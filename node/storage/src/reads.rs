//! Reads of rows: a small pool of threads, and the queue of reads that wait for rows to be applied.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use node_core::ids::{Outcome, TxnId, Vector};
use node_core::txn::SharedTxn;
use node_core::wire::{ReadBlock, Reply, Request, Wire};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::connection::Connection;
use crate::feed::txn_bytes;
use crate::repair;
use crate::rows::{Backlog, RowsError, RowsHandle};
use crate::scrub::compare;
use crate::shared::Shared;
use crate::status::count;

/// Threads that read rows.
pub(crate) const READERS: usize = 2;
/// Reads that may wait; more are refused.
const WAITING_MAX: usize = 10_000;
/// Jobs that may wait for a reader; more reads of rows, comparisons and fetches are refused.
const JOBS_MAX: usize = 10_000;
/// Records that one answer to a peer holds, in bytes: it asks for the rest again.
const FETCHED_BYTES_MAX: usize = 8 << 20;
/// How long a read waits for the rows before it is refused.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Something to read.
pub(crate) enum Job {
    /// Rows, for an instance.
    Block { connection: Arc<Connection>, request: ReadBlock },
    /// Records of committed transactions, with outcomes that are known already.
    Bodies { connection: Arc<Connection>, id: u64, known: Vec<(TxnId, Outcome)> },
    /// What a range of rows was, for a peer that compares.
    Digest { connection: Arc<Connection>, question: Request },
    /// Anything else.
    Work(Box<dyn FnOnce(&RowsHandle) + Send>),
    /// Decided history from a vector on, for a subscriber that is behind.
    Backlog { from: Vector, bytes_max: usize, answer: oneshot::Sender<Result<Backlog, RowsError>> },
}

struct Waiting {
    connection: Arc<Connection>,
    request: ReadBlock,
    until: Instant,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    waiting: Vec<Waiting>,
    applied: Vector,
    stopped: bool,
}

/// The reads in progress.
#[derive(Default)]
pub(crate) struct Reads {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Reads {
    /// Takes a job of somebody else's, unless too many wait. True if one of the readers will do it.
    pub(crate) fn offer(&self, job: Job) -> bool {
        let mut queue = self.queue.lock();
        if queue.jobs.len() >= JOBS_MAX {
            return false;
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.changed.notify_one();
        true
    }
    /// Takes a job of this node's own; one of the readers does it.
    pub(crate) fn submit(&self, job: Job) {
        self.queue.lock().jobs.push_back(job);
        self.changed.notify_one();
    }
    /// Takes a read of rows. True if it has to wait for rows to be applied.
    pub(crate) fn read(&self, connection: Arc<Connection>, request: ReadBlock, now: Instant) -> bool {
        let mut queue = self.queue.lock();
        if queue.jobs.len() >= JOBS_MAX {
            drop(queue);
            refuse(&connection, request.id, "too many reads wait at the storage node");
            return false;
        }
        if queue.applied.covers(&request.at_least) {
            queue.jobs.push_back(Job::Block { connection, request });
            drop(queue);
            self.changed.notify_one();
            return false;
        }
        if queue.waiting.len() >= WAITING_MAX {
            drop(queue);
            refuse(&connection, request.id, "too many reads wait for rows");
            return false;
        }
        queue.waiting.push(Waiting { connection, request, until: now + WAIT_MAX });
        true
    }
    /// The rows include everything up to `applied`: starts the reads that waited for it.
    pub(crate) fn set_applied(&self, applied: &Vector) {
        let mut queue = self.queue.lock();
        queue.applied = applied.clone();
        if queue.waiting.is_empty() {
            return;
        }
        let ready = |waiting: &mut Waiting| applied.covers(&waiting.request.at_least);
        let ready: Vec<Waiting> = queue.waiting.extract_if(.., ready).collect();
        for Waiting { connection, request, .. } in ready {
            queue.jobs.push_back(Job::Block { connection, request });
        }
        drop(queue);
        self.changed.notify_all();
    }
    /// Refuses what has waited too long, forgets what nobody waits for.
    pub(crate) fn expire(&self, now: Instant) {
        let expired: Vec<Waiting> = {
            let mut queue = self.queue.lock();
            if queue.waiting.is_empty() {
                return;
            }
            let over = |waiting: &mut Waiting| waiting.until <= now || waiting.connection.sender.is_closed();
            queue.waiting.extract_if(.., over).collect()
        };
        for waiting in expired {
            refuse(&waiting.connection, waiting.request.id, "the rows are not here yet");
        }
    }
    /// The low-water mark, held back by the reads that are queued: what they were promised stays until they are done.
    pub(crate) fn hold(&self, low: &Vector) -> Vector {
        let queue = self.queue.lock();
        let queued = queue.jobs.iter().filter_map(|job| match job {
            Job::Block { request, .. } => Some(&request.from),
            _ => None,
        });
        let waiting = queue.waiting.iter().map(|waiting| &waiting.request.from);
        let asked = queued.chain(waiting).filter(|from| !from.is_empty());
        asked.fold(low.clone(), |low, from| low.meet(from))
    }
    /// True if reads wait for rows.
    pub(crate) fn anybody_waits(&self) -> bool {
        !self.queue.lock().waiting.is_empty()
    }
    /// How many reads wait.
    pub(crate) fn queued(&self) -> usize {
        let queue = self.queue.lock();
        queue.jobs.len() + queue.waiting.len()
    }
    /// Lets the readers end.
    pub(crate) fn stop(&self) {
        self.queue.lock().stopped = true;
        self.changed.notify_all();
    }
    /// Does jobs until [`Reads::stop`].
    pub(crate) fn run(&self, shared: &Shared, store: &RowsHandle) {
        loop {
            let job = {
                let mut queue = self.queue.lock();
                loop {
                    if queue.stopped {
                        return;
                    }
                    if let Some(job) = queue.jobs.pop_front() {
                        break job;
                    }
                    self.changed.wait(&mut queue);
                }
            };
            match job {
                Job::Block { connection, request } => {
                    read_block(shared, store, &connection, &request);
                    count(&shared.counters.blocks, 1);
                }
                Job::Digest { connection, question } => digest(shared, store, &connection, &question),
                Job::Work(work) => work(store),
                Job::Bodies { connection, id, known } => read_bodies(store, &connection, id, known),
                Job::Backlog { from, bytes_max, answer } => {
                    // If the subscriber left, nobody takes the answer.
                    drop(answer.send(store.read_patiently(|store| store.backlog(&from, bytes_max))));
                }
            }
        }
    }
}

/// Answers a read with a reason instead of rows.
pub(crate) fn refuse(connection: &Connection, id: u64, reason: &str) {
    // A closed connection needs no answer.
    let _ = connection.sender.send(&Reply::ReadRefused { id, reason: reason.to_owned() });
}

fn read_block(shared: &Shared, store: &RowsHandle, connection: &Connection, request: &ReadBlock) {
    if connection.sender.is_closed() {
        return;
    }
    match store.read(|store| store.read_block(request)) {
        Ok(block) => {
            let mut out = BytesMut::new();
            Reply::Block(block).put(&mut out);
            let _ = connection.sender.send_encoded(&out);
        }
        Err(error @ RowsError::TooOld) => refuse(connection, request.id, &error.to_string()),
        Err(RowsError::Closed { .. }) => {
            refuse(connection, request.id, "the storage node opens its rows again after a failed write");
        }
        Err(error) => {
            tracing::error!(error = %chain(&error), "a block cannot be read");
            refuse(connection, request.id, "the storage node cannot read its rows");
            if error.is_damage() {
                repair::rows_damaged(shared, chain(&error));
            }
        }
    }
}

fn digest(shared: &Shared, store: &RowsHandle, connection: &Connection, question: &Request) {
    match compare::answer(store, question) {
        Ok(reply) => {
            let _ = connection.sender.send(&reply);
        }
        Err(RowsError::Closed { .. }) => {}
        Err(error) if error.is_damage() => repair::rows_damaged(shared, chain(&error)),
        Err(error) => tracing::error!(error = %chain(&error), "rows cannot be compared"),
    }
}

/// Outcomes with records. A commit whose record is not here is left out: the asker asks elsewhere. What is too
/// much for one answer is left out as well: the asker asks again.
fn read_bodies(store: &RowsHandle, connection: &Connection, id: u64, known: Vec<(TxnId, Outcome)>) {
    let mut bodies: Vec<SharedTxn> = Vec::new();
    let mut bytes = 0;
    for (txn, outcome) in &known {
        if *outcome == Outcome::Commit && bytes < FETCHED_BYTES_MAX {
            match store.read(|store| store.txn(*txn)) {
                Ok(Some(body)) => {
                    bytes += txn_bytes(&body);
                    bodies.push(body);
                }
                Ok(None) => {}
                Err(error) => tracing::error!(%txn, error = %chain(&error), "a record cannot be read"),
            }
        }
    }
    let _ = connection.sender.send(&Reply::Fetched { id, known, bodies });
}

/// An error with everything that caused it, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_beyond_the_limit_are_not_taken() {
        let reads = Reads::default();
        for _ in 0..JOBS_MAX {
            assert!(reads.offer(Job::Work(Box::new(|_| ()))));
        }
        assert!(!reads.offer(Job::Work(Box::new(|_| ()))));
        assert_eq!(reads.queued(), JOBS_MAX);
    }
}
