//! What the threads and tasks of one storage node share.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use node_core::ids::{Epoch, RunId, Seat, Seq, StorageId, Vector};
use node_core::wire::{Membership, Reply, Request, SeatInfo};
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::applier::RowsQueue;
use crate::carrier::Sender;
use crate::config::StorageConfig;
use crate::connection::Connection;
use crate::feed::Feed;
use crate::instances::Instances;
use crate::reads::Reads;
use crate::status::{Counters, StorageStatus};

/// Requests that may wait for the storage thread before connections are read no further.
const INBOX_REQUESTS_MAX: usize = 20_000;

/// Something for the storage thread.
pub(crate) enum Work {
    /// Requests of a connection, in order.
    Requests { connection: Arc<Connection>, requests: Vec<Request> },
    /// What another storage node answered.
    Replies { peer: StorageId, replies: Vec<Reply> },
    /// The connection to another storage node is gone.
    PeerDown(StorageId),
    /// A read waits for rows.
    Hurry,
}

impl Work {
    fn requests(&self) -> usize {
        match self {
            Work::Requests { requests, .. } => requests.len(),
            Work::Replies { replies, .. } => replies.len(),
            Work::PeerDown(_) | Work::Hurry => 1,
        }
    }
}

#[derive(Default)]
struct Waiting {
    work: VecDeque<Work>,
    requests: usize,
    stopped: bool,
}

/// The storage thread's queue.
#[derive(Default)]
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    room: Notify,
}

impl Inbox {
    pub(crate) fn push(&self, work: Work) {
        let was_empty = {
            let mut waiting = self.waiting.lock();
            waiting.requests += work.requests();
            waiting.work.push_back(work);
            waiting.work.len() == 1
        };
        if was_empty {
            self.arrived.notify_one();
        }
    }
    /// Waits until the queue may grow.
    pub(crate) async fn room(&self) {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.len() < INBOX_REQUESTS_MAX {
                return;
            }
            room.await;
        }
    }
    /// Everything queued; waits for something until `deadline`. `None` once stopped and empty.
    pub(crate) fn take(&self, deadline: Option<Instant>) -> Option<VecDeque<Work>> {
        let mut waiting = self.waiting.lock();
        while waiting.work.is_empty() {
            if waiting.stopped {
                return None;
            }
            match deadline {
                None => self.arrived.wait(&mut waiting),
                Some(deadline) => {
                    if self.arrived.wait_until(&mut waiting, deadline).timed_out() {
                        break;
                    }
                }
            }
        }
        let full = waiting.requests >= INBOX_REQUESTS_MAX;
        waiting.requests = 0;
        let work = std::mem::take(&mut waiting.work);
        drop(waiting);
        if full {
            self.room.notify_waiters();
        }
        Some(work)
    }
    pub(crate) fn stop(&self) {
        self.waiting.lock().stopped = true;
        self.arrived.notify_one();
    }
    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().requests
    }
}

/// What the storage thread tells the others about the acceptor, a moment late.
#[derive(Clone, Default)]
pub(crate) struct Published {
    pub(crate) settled: Vec<(Seat, Epoch, Seq)>,
    pub(crate) undecided: usize,
    pub(crate) log_bytes: u64,
    pub(crate) refusing: Option<String>,
}

/// What the threads and tasks of one storage node share.
pub(crate) struct Shared {
    pub(crate) config: StorageConfig,
    pub(crate) run: RunId,
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) inbox: Inbox,
    pub(crate) membership: Mutex<Membership>,
    /// Wakes the tasks that ask peers, when this node's membership has changed.
    pub(crate) membership_changed: tokio::sync::watch::Sender<()>,
    pub(crate) instances: Mutex<Instances>,
    pub(crate) seats: Mutex<Vec<SeatInfo>>,
    /// Seats or instances changed.
    pub(crate) topology_changed: Notify,
    pub(crate) feed: Feed,
    pub(crate) reads: Reads,
    pub(crate) rows_queue: RowsQueue,
    /// What the rows include.
    pub(crate) applied: Mutex<Vector>,
    /// The oldest snapshot anybody reads.
    pub(crate) low: Mutex<Vector>,
    /// Log segments of older generations are no longer needed.
    pub(crate) log_free_before: AtomicU64,
    /// Connections to the other storage nodes, by number.
    pub(crate) peers: Vec<Mutex<Option<Sender<Request>>>>,
    pub(crate) published: Mutex<Published>,
    pub(crate) counters: Counters,
    pub(crate) next_connection: AtomicU64,
    pub(crate) stop: CancellationToken,
}

impl Shared {
    pub(crate) fn new(
        config: StorageConfig,
        run: RunId,
        listen: Option<SocketAddr>,
        membership: Membership,
        applied: Vector,
        stop: CancellationToken,
    ) -> Shared {
        let reads = Reads::default();
        reads.set_applied(&applied);
        Shared {
            run,
            listen,
            inbox: Inbox::default(),
            membership: Mutex::new(membership),
            membership_changed: tokio::sync::watch::Sender::new(()),
            instances: Mutex::new(Instances::new(Instant::now())),
            seats: Mutex::new(Vec::new()),
            topology_changed: Notify::new(),
            feed: Feed::new(applied.clone()),
            reads,
            rows_queue: RowsQueue::default(),
            applied: Mutex::new(applied),
            low: Mutex::new(Vector::new()),
            log_free_before: AtomicU64::new(0),
            peers: (0..config.nodes).map(|_| Mutex::new(None)).collect(),
            published: Mutex::new(Published::default()),
            counters: Counters::default(),
            next_connection: AtomicU64::new(1),
            config,
            stop,
        }
    }
    /// True if this node votes and serves.
    pub(crate) fn is_member(&self) -> bool {
        matches!(*self.membership.lock(), Membership::Member(_))
    }
    pub(crate) fn status(&self) -> StorageStatus {
        let Published { settled, undecided, log_bytes, refusing } = self.published.lock().clone();
        StorageStatus {
            id: self.config.id,
            zone: self.config.zone.clone(),
            listen: self.listen,
            membership: *self.membership.lock(),
            refusing,
            settled,
            ordered: self.feed.end(),
            applied: self.applied.lock().clone(),
            low: self.low.lock().clone(),
            seats: self.seats.lock().clone(),
            instances: self.instances.lock().infos(Instant::now()),
            undecided,
            requests_queued: self.inbox.len(),
            rows_queued: self.rows_queue.len(),
            reads_queued: self.reads.queued(),
            log_bytes,
            peers_connected: self.peers.iter().filter(|peer| peer.lock().is_some()).count(),
            counters: self.counters.snapshot(),
        }
    }
    pub(crate) fn next_connection(&self) -> u64 {
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }
}
