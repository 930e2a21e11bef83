//! The thread that applies decided transactions to the rows, off the commit path and in batches.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use node_core::ids::Vector;
use node_core::wire::{FeedItem, RowVersions};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::accept_log::Generation;
use crate::disk;
use crate::feed::item_bytes;
use crate::reads::chain;
use crate::rows::{Fix, RowWriter, RowsError, RowsHandle};
use crate::shared::Shared;
use crate::status::count;

/// How long decided transactions gather, unless a read waits for them.
const GATHER: Duration = Duration::from_millis(10);
/// Items in one atomic change.
const BATCH_ITEMS_MAX: usize = 1024;
/// Bytes of items in one atomic change, about.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Tasks that may be queued: a copied block each.
const TASKS_MAX: usize = 4;
/// The storage thread waits while this much is queued.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Rows that could not be written are opened again once this much is free (or a twentieth of a small disk).
const REOPEN_BYTES: u64 = 16 << 20;
/// How often they are opened again although there is room, if nobody knows why a write failed, before the node
/// ends.
const REOPEN_TRIES_MAX: u32 = 3;
/// Between one time and the next.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What a disk that joins asks of the rows; done before items that are queued.
pub(crate) enum Task {
    /// Forget everything: the rows are as of this vector, and their content comes as copies.
    Begin(Vector),
    /// Copied rows.
    Rows(Vec<RowVersions>),
    /// Everything is copied, up to this vector: make it durable.
    End(Vector),
}

enum Batch {
    Task(Task),
    Items(Vec<FeedItem>, Option<Generation>),
}

#[derive(Default)]
struct Queue {
    tasks: VecDeque<Task>,
    /// Tasks asked for and done so far.
    tasks_asked: u64,
    tasks_done: u64,

    items: VecDeque<FeedItem>,
    bytes: usize,
    /// Once everything before it is durable here, the log's older segments may go.
    marker: Option<Generation>,
    hurry: bool,
    /// Rows to be made what most storage nodes have, and who waits for it.
    repairs: Vec<(Vec<Fix>, oneshot::Sender<usize>)>,
    collect: bool,
    stopped: bool,
    stuck: bool,
}

/// Decided transactions on their way into the rows.
#[derive(Default)]
pub(crate) struct RowsQueue {
    queue: Mutex<Queue>,
    changed: Condvar,
    drained: Condvar,
}

impl RowsQueue {
    /// Queues items; waits while too much is queued.
    pub(crate) fn push(&self, items: &[FeedItem]) {
        let mut queue = self.queue.lock();
        while queue.bytes > QUEUE_BYTES_MAX && !queue.stopped && !queue.stuck {
            self.drained.wait(&mut queue);
        }
        let was_empty = queue.items.is_empty();
        queue.bytes += items.iter().map(item_bytes).sum::<usize>();
        queue.items.extend(items.iter().cloned());
        if was_empty {
            self.changed.notify_one();
        }
    }
    /// Asks for everything queued so far to be made durable and reported as this generation.
    pub(crate) fn mark(&self, generation: Generation) {
        self.queue.lock().marker = Some(generation);
        self.changed.notify_one();
    }
    /// Queues a task of a disk that joins, and gives its number; waits while many are queued.
    pub(crate) fn task(&self, task: Task) -> u64 {
        let mut queue = self.queue.lock();
        while queue.tasks.len() >= TASKS_MAX && !queue.stopped {
            self.drained.wait(&mut queue);
        }
        queue.tasks.push_back(task);
        queue.tasks_asked += 1;
        self.changed.notify_one();
        queue.tasks_asked
    }
    /// The number of the last task that is done.
    pub(crate) fn done(&self) -> u64 {
        self.queue.lock().tasks_done
    }
    fn finished(&self) {
        self.queue.lock().tasks_done += 1;
    }
    /// Somebody waits for rows: do not gather.
    pub(crate) fn hurry(&self) {
        self.queue.lock().hurry = true;
        self.changed.notify_one();
    }
    /// Has rows replaced that are wrong, and says how many were.
    pub(crate) fn repair(&self, fixes: Vec<Fix>, answer: oneshot::Sender<usize>) {
        self.queue.lock().repairs.push((fixes, answer));
        self.changed.notify_one();
    }
    fn take_repairs(&self) -> Vec<(Vec<Fix>, oneshot::Sender<usize>)> {
        std::mem::take(&mut self.queue.lock().repairs)
    }
    /// The low-water mark moved: superseded versions may go.
    pub(crate) fn collect(&self) {
        self.queue.lock().collect = true;
        self.changed.notify_one();
    }
    /// Lets the applier end when the queue is empty.
    pub(crate) fn stop(&self) {
        self.queue.lock().stopped = true;
        self.changed.notify_one();
        self.drained.notify_all();
    }
    /// Waits for the pause and until the condition holds, looking every [`LOOK_AGAIN`]; false if the node
    /// stops first.
    fn wait_until(&self, pause: Duration, condition: impl Fn() -> bool) -> bool {
        let end = Instant::now() + pause;
        let mut queue = self.queue.lock();
        loop {
            if queue.stopped {
                return false;
            }
            if Instant::now() >= end && condition() {
                return true;
            }
            self.drained.wait_for(&mut queue, LOOK_AGAIN);
        }
    }
    /// The rows cannot be written: nobody waits for room in the queue, which then takes what was decided
    /// already and is bounded by the storage node taking nothing new.
    pub(crate) fn set_stuck(&self, stuck: bool) {
        self.queue.lock().stuck = stuck;
        self.drained.notify_all();
    }
    /// Items queued.
    pub(crate) fn len(&self) -> usize {
        self.queue.lock().items.len()
    }

    /// The next batch, after gathering unless it is `awaited`; a marker only behind everything that came
    /// before it. `None` at the end.
    fn take(&self, awaited: impl Fn() -> bool) -> Option<Batch> {
        let mut queue = self.queue.lock();
        let idle = |queue: &Queue| {
            queue.items.is_empty()
                && queue.marker.is_none()
                && queue.repairs.is_empty()
                && queue.tasks.is_empty()
        };
        while idle(&queue) && !queue.collect {
            if queue.stopped {
                return None;
            }
            queue.hurry = false;
            self.changed.wait(&mut queue);
        }
        if let Some(task) = queue.tasks.pop_front() {
            drop(queue);
            self.drained.notify_all();
            return Some(Batch::Task(task));
        }
        if !queue.hurry && !queue.stopped && queue.items.len() < BATCH_ITEMS_MAX && !awaited() {
            // A wake-up before its time means that somebody is in a hurry, or nothing worse.
            self.changed.wait_for(&mut queue, GATHER);
        }
        queue.collect = false;
        let mut bytes = 0;
        let mut items = Vec::new();
        while items.len() < BATCH_ITEMS_MAX
            && bytes < BATCH_BYTES_MAX
            && let Some(item) = queue.items.pop_front()
        {
            bytes += item_bytes(&item);
            items.push(item);
        }
        queue.bytes -= bytes;
        let marker = if queue.items.is_empty() { queue.marker.take() } else { None };
        if queue.items.is_empty() {
            queue.hurry = false;
        }
        drop(queue);
        self.drained.notify_all();
        Some(Batch::Items(items, marker))
    }
}

/// Applies what is queued until the queue is stopped and empty.
///
/// A full disk does not end it: reads go on from the rows as they are, and what could not be written is
/// applied once there is room, the store being opened again for it.
pub(crate) fn run(shared: &Shared, rows: &RowsHandle, mut writer: RowWriter) -> Result<(), RowsError> {
    while let Some(batch) = shared.rows_queue.take(|| shared.reads.anybody_waits()) {
        let mut tries = 0;
        loop {
            let done = match &batch {
                Batch::Items(items, marker) => change(shared, &mut writer, items, *marker),
                Batch::Task(Task::Begin(base)) => writer.begin_copy(base),
                Batch::Task(Task::Rows(rows)) => writer.copy(rows),
                Batch::Task(Task::End(reach)) => writer.end_copy(reach),
            };
            match done {
                Ok(()) => break,
                Err(error) => match recover(shared, rows, writer, error, &mut tries)? {
                    Some(again) => writer = again,
                    // The log has what is missing: it is applied at the next start.
                    None => return Ok(()),
                },
            }
        }
        if matches!(batch, Batch::Task(_)) {
            shared.rows_queue.finished();
        }
        for (fixes, answer) in shared.rows_queue.take_repairs() {
            match writer.repair(&fixes) {
                // If nobody waits any more, the next pass sees that they are right.
                Ok(repaired) => drop(answer.send(repaired)),
                // Without an answer the pass tries again; a full disk shows again with the next change.
                Err(error) => tracing::error!(error = %chain(&error), "rows cannot be repaired"),
            }
        }
        if tries > 0 {
            tracing::info!("the rows can be written again");
            shared.set_rows_stuck(None);
        }
    }
    match writer.persist() {
        // The log has what is missing.
        Err(error) if error.is_full() || error.is_poisoned() => {
            tracing::warn!(error = %chain(&error), "the rows end without their newest changes");
            Ok(())
        }
        result => result,
    }
}

fn change(
    shared: &Shared,
    writer: &mut RowWriter,
    items: &[FeedItem],
    marker: Option<Generation>,
) -> Result<(), RowsError> {
    let low = shared.low.lock().clone();
    writer.apply(items, &low)?;
    if !items.is_empty() {
        shared.reads.set_applied(writer.applied());
        *shared.applied.lock() = writer.applied().clone();
        let txns = items.iter().filter(|item| matches!(item, FeedItem::Commit(_))).count();
        count(&shared.counters.rows_txns, txns as u64);
        count(&shared.counters.rows_batches, 1);
    }
    if let Some(generation) = marker {
        writer.persist()?;
        shared.log_free_before.store(generation.0, std::sync::atomic::Ordering::Release);
    }
    Ok(())
}

/// Opens the store again after a failed write, once there is room. `None`: the node stops meanwhile.
///
/// # Errors
///
/// What failed, if it was not for want of room, or goes on failing although there is some.
fn recover(
    shared: &Shared,
    rows: &RowsHandle,
    writer: RowWriter,
    mut error: RowsError,
    tries: &mut u32,
) -> Result<Option<RowWriter>, RowsError> {
    let mut writer = Some(writer);
    loop {
        let room = || disk::space(&shared.config.data_dir).map_or(true, |space| space.has(REOPEN_BYTES));
        *tries += 1;
        // A write in the background that failed tells nothing but that it did.
        let for_room = error.is_full() || error.is_poisoned() && (!room() || *tries <= REOPEN_TRIES_MAX);
        if !for_room {
            return Err(error);
        }
        let reason = shared.describe_full();
        tracing::error!(error = %chain(&error), %reason, "the rows cannot be written: they wait for room");
        shared.set_rows_stuck(Some(reason));
        // At once the first time: somebody may have made room in the meantime.
        let pause = if *tries == 1 { Duration::ZERO } else { REOPEN_PAUSE };
        if !shared.rows_queue.wait_until(pause, room) {
            return Ok(None);
        }
        match rows.reopen(writer.take()) {
            Ok(writer) => {
                let had = shared.applied.lock().clone();
                if !writer.applied().covers(&had) {
                    let found = writer.applied().clone();
                    return Err(RowsError::Older { had: Box::new(had), found: Box::new(found) });
                }
                count(&shared.counters.rows_reopened, 1);
                return Ok(Some(writer));
            }
            Err(again) => error = again,
        }
    }
}
