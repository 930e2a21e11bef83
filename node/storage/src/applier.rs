//! The thread that applies decided transactions to the rows, off the commit path and in batches.

use std::collections::VecDeque;
use std::time::Duration;

use node_core::ids::Vector;
use node_core::wire::{FeedItem, RowVersions};
use parking_lot::{Condvar, Mutex};

use crate::accept_log::Generation;
use crate::feed::item_bytes;
use crate::rows::{RowWriter, RowsError};
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

/// What a disk that joins asks of the rows; done before items that are queued.
pub(crate) enum Task {
    /// Forget everything: the rows are as of this vector, and their content comes as copies.
    Begin(Vector),
    /// Copied rows.
    Rows(Vec<RowVersions>),
    /// Make everything before it durable.
    Persist,
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
    collect: bool,
    stopped: bool,
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
        while queue.bytes > QUEUE_BYTES_MAX && !queue.stopped {
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
    /// Items queued.
    pub(crate) fn len(&self) -> usize {
        self.queue.lock().items.len()
    }

    /// The next batch, after gathering unless it is `awaited`; a marker only behind everything that came
    /// before it. `None` at the end.
    fn take(&self, awaited: impl Fn() -> bool) -> Option<Batch> {
        let mut queue = self.queue.lock();
        while queue.items.is_empty() && queue.marker.is_none() && !queue.collect && queue.tasks.is_empty() {
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
pub(crate) fn run(shared: &Shared, mut writer: RowWriter) -> Result<(), RowsError> {
    while let Some(batch) = shared.rows_queue.take(|| shared.reads.anybody_waits()) {
        let (items, marker) = match batch {
            Batch::Items(items, marker) => (items, marker),
            Batch::Task(task) => {
                match task {
                    Task::Begin(base) => writer.begin_copy(base)?,
                    Task::Rows(rows) => writer.copy(&rows)?,
                    Task::Persist => writer.persist()?,
                }
                shared.rows_queue.finished();
                continue;
            }
        };
        let low = shared.low.lock().clone();
        writer.apply(&items, &low)?;
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
    }
    writer.persist()
}
