//! What the threads and tasks of one storage node share.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use node_core::ids::{Epoch, RunId, Seat, Seq, StorageId, Vector};
use node_core::wire::{Membership, Reply, Request, SeatInfo};
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::accept_log::{Generation, LiveSegment};
use crate::applier::RowsQueue;
use crate::carrier::Sender;
use crate::config::StorageConfig;
use crate::connection::Connection;
use crate::disk;
use crate::feed::{Feed, txn_bytes};
use crate::instances::Instances;
use crate::reads::Reads;
use crate::scrub::Scrub;
use crate::status::{Counters, StorageStatus};

/// Requests that may wait for the storage thread before connections are read no further.
const INBOX_REQUESTS_MAX: usize = 20_000;
/// And how many bytes of records in them, about.
const INBOX_BYTES_MAX: usize = 64 << 20;

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
    /// Which segments of the accept log matter now?
    LogSegments(oneshot::Sender<Vec<LiveSegment>>),
    /// A segment of the accept log is damaged. The answer: whether it was part of the log, and is replaced.
    LogDamaged { generation: Generation, answer: oneshot::Sender<bool> },
}

impl Work {
    fn bytes(&self) -> usize {
        match self {
            Work::Requests { requests, .. } => requests.iter().map(request_bytes).sum(),
            Work::Replies { replies, .. } => {
                let bodies = replies.iter().filter_map(|reply| match reply {
                    Reply::Fetched { bodies, .. } => Some(bodies),
                    _ => None,
                });
                bodies.flatten().map(|txn| txn_bytes(txn)).sum()
            }
            Work::PeerDown(_) | Work::Hurry | Work::LogSegments(_) | Work::LogDamaged { .. } => 0,
        }
    }
    fn requests(&self) -> usize {
        match self {
            Work::Requests { requests, .. } => requests.len(),
            Work::Replies { replies, .. } => replies.len(),
            Work::PeerDown(_) | Work::Hurry | Work::LogSegments(_) | Work::LogDamaged { .. } => 1,
        }
    }
}

/// About how many bytes of records the request brings.
fn request_bytes(request: &Request) -> usize {
    match request {
        Request::Propose(txn) => txn_bytes(txn),
        Request::Accept { body: Some(txn), .. }
        | Request::Prepare { body: Some(txn), .. }
        | Request::Decide { body: Some(txn), .. } => txn_bytes(txn),
        Request::Activate(closing) | Request::Activated(closing) => {
            closing.bodies.iter().map(|txn| txn_bytes(txn)).sum()
        }
        _ => 0,
    }
}

#[derive(Default)]
struct Waiting {
    work: VecDeque<Work>,
    requests: usize,
    bytes: usize,
    stopped: bool,
}

impl Waiting {
    fn full(&self) -> bool {
        self.requests >= INBOX_REQUESTS_MAX || self.bytes >= INBOX_BYTES_MAX
    }
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
            waiting.bytes += work.bytes();
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
            if !self.waiting.lock().full() {
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
        let full = waiting.full();
        waiting.requests = 0;
        waiting.bytes = 0;
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
    /// How many disks came before this one.
    pub(crate) generation: u64,
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
    /// Why the rows cannot be written at present.
    pub(crate) rows_stuck: Mutex<Option<String>>,
    /// Why the rows have to be rebuilt: the node stops.
    pub(crate) damage: Mutex<Option<String>>,
    /// Why the rows had to be rebuilt when the node started, until they are.
    pub(crate) marked: Mutex<Option<String>>,
    pub(crate) scrub: Scrub,
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
    /// Connections being served.
    pub(crate) connections: AtomicUsize,
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
        let first = matches!(membership, Membership::Empty | Membership::Forming(_));
        Shared {
            run,
            listen,
            inbox: Inbox::default(),
            membership: Mutex::new(membership),
            membership_changed: tokio::sync::watch::Sender::new(()),
            instances: Mutex::new(Instances::new(Instant::now(), first)),
            seats: Mutex::new(Vec::new()),
            topology_changed: Notify::new(),
            feed: Feed::new(applied.clone()),
            reads,
            rows_queue: RowsQueue::default(),
            rows_stuck: Mutex::new(None),
            damage: Mutex::new(None),
            marked: Mutex::new(None),
            scrub: Scrub::default(),
            applied: Mutex::new(applied),
            low: Mutex::new(Vector::new()),
            log_free_before: AtomicU64::new(0),
            peers: (0..config.nodes).map(|_| Mutex::new(None)).collect(),
            published: Mutex::new(Published::default()),
            counters: Counters::default(),
            connections: AtomicUsize::new(0),
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
        let Published { settled, undecided, log_bytes, refusing, generation } = self.published.lock().clone();
        StorageStatus {
            id: self.config.id,
            zone: self.config.zone.clone(),
            listen: self.listen,
            membership: *self.membership.lock(),
            generation,
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
            rows_waiting: self.rows_stuck.lock().is_some(),
            log_bytes,
            peers_connected: self.peers.iter().filter(|peer| peer.lock().is_some()).count(),
            scrub: self.scrub.status(),
            counters: self.counters.snapshot(),
        }
    }
    /// Why this node takes no proposals while its disk is full, for a person.
    pub(crate) fn describe_full(&self) -> String {
        let dir = self.config.data_dir.display();
        let free = match disk::space(&self.config.data_dir) {
            Ok(space) => format!("{} of {} MiB are free", space.free >> 20, space.total >> 20),
            Err(error) => format!("its free space is unknown: {error}"),
        };
        format!(
            "storage node {}: its disk is full ({free} at {dir}): it reads and decides what was begun, and \
             takes writes again by itself once there is space; free some, or enlarge the disk",
            self.config.id.0
        )
    }
    /// Notes why the rows cannot be written at present.
    pub(crate) fn set_rows_stuck(&self, reason: Option<String>) {
        self.rows_queue.set_stuck(reason.is_some());
        *self.rows_stuck.lock() = reason;
    }
    pub(crate) fn next_connection(&self) -> u64 {
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use node_core::ids::{Epoch, Seat, Seq, TxnId, Vector};
    use node_core::txn::{Txn, Write};

    use super::*;

    fn decide(bytes: usize) -> Request {
        let txn = TxnId { seat: Seat(0), epoch: Epoch(1), seq: Seq(1) };
        let write = Write { key: Bytes::from("k"), base: None, value: Some(vec![0; bytes].into()) };
        let body = Arc::new(Txn { id: txn, deps: Vector::new(), writes: vec![write], checks: vec![] });
        Request::Decide { txn, outcome: node_core::ids::Outcome::Commit, body: Some(body) }
    }

    /// What peers answer counts as what is asked does.
    fn work(requests: usize, bytes: usize) -> Work {
        let Request::Decide { body: Some(body), .. } = decide(bytes) else { panic!("it has a record") };
        let fetched = Reply::Fetched { id: 1, known: vec![], bodies: vec![body] };
        let mut replies = vec![Reply::Beat { beat: 1, lease: false }; requests - 1];
        replies.push(fetched);
        Work::Replies { peer: StorageId(1), replies }
    }

    #[test]
    fn a_full_inbox_holds_connections_back_until_it_is_taken() {
        use futures::FutureExt;
        for (requests, bytes) in [(INBOX_REQUESTS_MAX, 1), (1, INBOX_BYTES_MAX)] {
            let inbox = Inbox::default();
            inbox.push(work(1, 1));
            assert!(inbox.room().now_or_never().is_some());
            inbox.push(work(requests, bytes));
            let mut room = Box::pin(inbox.room());
            assert!(room.as_mut().now_or_never().is_none(), "{requests} requests, {bytes} bytes");
            assert_eq!(inbox.take(None).map(|work| work.len()), Some(2));
            assert!(room.now_or_never().is_some(), "there is room again");
        }
        assert!(request_bytes(&decide(1000)) >= 1000);
    }
}
