//! The instance's side of the volume: one thread with one runtime talks to all storage nodes.
//!
//! [`VolumeHandle`] is what SQL threads call (through [`Volume`]); each call is a command to the thread and a
//! wait for its answer. The thread drives `node-core`'s coordinator and election: [`driver`] turns events into
//! their calls and performs their actions, [`links`] keeps the connections, [`reads`] asks for blocks and for
//! the present, [`commits`] keeps who waits for which proposal.
//!
//! Everything that is queued is taken in one go, so that proposals, votes and decisions travel in batches.

mod commits;
mod driver;
mod links;
mod reads;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use node_core::election::Parting;
use node_core::ids::{Epoch, RunId, Seat, TxnId, Vector};
use node_core::quorum::Quorum;
use node_core::wire::{Block, FeedItem, InstanceInfo};
use parking_lot::{Condvar, Mutex};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::volume_api::{BlockRequest, CommitError, Proposal, Volume, VolumeError};

pub use driver::run;

/// How long a commit waits for its outcome, in all.
pub const COMMIT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a read waits for rows or for the present.
pub const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// What follows the decided history: the engine.
pub trait Follower: Send + Sync + 'static {
    /// Applies decided transactions, in an order in which they can be applied; those already applied are
    /// skipped.
    fn apply(&self, items: &[FeedItem]);
    /// Forgets every cached row and goes on from this vector.
    fn reset(&self, at: Vector);
    /// What has been applied.
    fn applied(&self) -> Vector;
    /// The oldest snapshot in use, or what has been applied.
    fn low(&self) -> Vector;
    /// Nobody anywhere reads below this vector.
    fn low_water(&self, low: Vector);
    /// The seat is held and everything before it applied: writes may begin.
    fn seated(&self, seat: Seat);
    /// The seat is lost: open transactions that wrote cannot commit any more, and clients must go.
    fn unseated(&self);
}

/// Where and as whom the instance joins its volume.
#[derive(Clone, Debug)]
pub struct VolumeConfig {
    /// The cluster's name.
    pub cluster: String,
    /// The instance's name.
    pub name: String,
    /// Its ordinal, 0 to 15.
    pub ordinal: u16,
    /// Promotion tier, 0 to 15.
    pub tier: u8,
    /// This run.
    pub run: RunId,
    /// Sizes and mode.
    pub quorum: Quorum,
    /// Addresses of the storage nodes, by id.
    pub storage: Vec<String>,
    /// The instance's zone: block reads go to a storage node of the same one where there is one.
    pub zone: Option<String>,
}

/// What the volume thread tells the rest of the process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VolumeStatus {
    /// Storage nodes that vote and are connected.
    pub nodes_up: usize,
    /// The seat held and open for writing, with its epoch.
    pub seat: Option<(Seat, Epoch)>,
    /// True while a seat is being taken.
    pub taking: bool,
    /// True once the decided history is followed, has once been at the present, and a read quorum is connected.
    pub following: bool,
    /// The newest writer known (single-master), with its epoch.
    pub writer: Option<(String, Epoch)>,
    /// Every instance that storage nodes hear.
    pub instances: Vec<InstanceInfo>,
    /// Upper bound of this instance's lag behind the present when it was last measured, in microseconds.
    pub lag_us: Option<u64>,
    /// How the seat was taken: from whom, why, and in how many milliseconds from noticing.
    pub takeover: Option<TakeoverInfo>,
}

/// How a writer came to be one.
#[derive(Clone, Debug, PartialEq)]
pub struct TakeoverInfo {
    /// The writer before.
    pub from: Option<String>,
    /// Why it was over.
    pub reason: Parting,
    /// Milliseconds from noticing to writing.
    pub milliseconds: u64,
}

/// Counters for metrics.
#[derive(Debug, Default)]
pub struct VolumeCounters {
    /// Transactions committed.
    pub committed: AtomicU64,
    /// Transactions refused because another won.
    pub conflicts: AtomicU64,
    /// Proposals made again after an undecided rival stood in the way.
    pub reproposed: AtomicU64,
    /// Questions for the present asked.
    pub read_indexes: AtomicU64,
    /// Blocks fetched.
    pub blocks: AtomicU64,
}

enum Command {
    Commit(Proposal, Answer<Result<TxnId, CommitError>>),
    ReadIndex(Answer<Result<Vector, VolumeError>>),
    Block(BlockRequest, Answer<Result<Block, VolumeError>>),
    /// Finish what is in flight, give up the seat, and answer; `for_good`: never take one again.
    Resign {
        for_good: bool,
        answer: Answer<()>,
    },
}

/// One answer, waited for by one thread.
struct Slot<T> {
    value: Mutex<Option<T>>,
    filled: Condvar,
}

struct Answer<T>(Arc<Slot<T>>);

impl<T> Answer<T> {
    fn pair() -> (Answer<T>, Arc<Slot<T>>) {
        let slot = Arc::new(Slot { value: Mutex::new(None), filled: Condvar::new() });
        (Answer(slot.clone()), slot)
    }
    fn give(self, value: T) {
        *self.0.value.lock() = Some(value);
        self.0.filled.notify_one();
    }
}

impl<T> Slot<T> {
    /// Waits for the answer; `None` after the timeout or once `killed` is set.
    fn wait(&self, timeout: Duration, killed: Option<&AtomicBool>) -> Option<T> {
        let deadline = Instant::now() + timeout;
        let mut value = self.value.lock();
        loop {
            if let Some(value) = value.take() {
                return Some(value);
            }
            if killed.is_some_and(|killed| killed.load(Ordering::Relaxed)) {
                return None;
            }
            // A kill flag has no condition of its own: it is looked at in short turns.
            let turn = killed.map_or(deadline, |_| deadline.min(Instant::now() + Duration::from_millis(50)));
            if self.filled.wait_until(&mut value, turn).timed_out() && Instant::now() >= deadline {
                return value.take();
            }
        }
    }
}

/// What SQL threads hold of the volume.
pub struct VolumeHandle {
    commands: mpsc::UnboundedSender<Command>,
    status: watch::Receiver<VolumeStatus>,
    counters: Arc<VolumeCounters>,
    lease: Arc<Lease>,
}

/// Until when the single-master writer may serve reads.
struct Lease {
    started: Instant,
    /// Until when reads may be served, in milliseconds since `started`; 0: not at all.
    until: AtomicU64,
    /// Only a single-master writer needs one.
    needed: AtomicBool,
}

impl Lease {
    fn new() -> Lease {
        Lease { started: Instant::now(), until: AtomicU64::new(0), needed: AtomicBool::new(false) }
    }
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
    fn valid(&self) -> bool {
        !self.needed.load(Ordering::Acquire) || self.now() < self.until.load(Ordering::Acquire)
    }
    fn set(&self, until: Option<u64>) {
        self.until.store(until.unwrap_or(0), Ordering::Release);
    }
}

impl VolumeHandle {
    /// What the thread last said.
    pub fn status(&self) -> watch::Receiver<VolumeStatus> {
        self.status.clone()
    }
    /// Counters for metrics.
    pub fn counters(&self) -> Arc<VolumeCounters> {
        self.counters.clone()
    }
    /// Finishes what is in flight, bounded by the timeout, and gives the seat up.
    pub fn resign(&self, timeout: Duration) {
        self.ask(|answer| Command::Resign { for_good: true, answer }, timeout, None);
    }
    /// As [`VolumeHandle::resign`], but the instance may become the writer again when nobody else does.
    pub fn hand_over(&self, timeout: Duration) {
        self.ask(|answer| Command::Resign { for_good: false, answer }, timeout, None);
    }
    fn ask<T>(
        &self,
        make: impl FnOnce(Answer<T>) -> Command,
        timeout: Duration,
        killed: Option<&AtomicBool>,
    ) -> Option<T> {
        let (answer, slot) = Answer::pair();
        self.commands.send(make(answer)).ok()?;
        slot.wait(timeout, killed)
    }
}

impl Volume for VolumeHandle {
    fn read_block(&self, request: BlockRequest) -> Result<Block, VolumeError> {
        self.counters.blocks.fetch_add(1, Ordering::Relaxed);
        let answer = self.ask(|answer| Command::Block(request, answer), READ_TIMEOUT, None);
        answer.unwrap_or_else(|| Err(VolumeError::Unavailable("no storage node answered the read".into())))
    }
    fn commit(&self, proposal: Proposal) -> Result<TxnId, CommitError> {
        // The thread answers before this; the margin is for its last turn.
        let timeout = COMMIT_TIMEOUT + Duration::from_secs(5);
        let answer = self.ask(|answer| Command::Commit(proposal, answer), timeout, None);
        answer.unwrap_or_else(|| Err(CommitError::Unknown("the instance is stopping".into())))
    }
    fn read_index(&self, killed: &AtomicBool) -> Result<Vector, VolumeError> {
        self.counters.read_indexes.fetch_add(1, Ordering::Relaxed);
        match self.ask(Command::ReadIndex, READ_TIMEOUT, Some(killed)) {
            Some(answer) => answer,
            None if killed.load(Ordering::Relaxed) => Err(VolumeError::Killed),
            None => Err(VolumeError::Unavailable("no read quorum of storage nodes answered".into())),
        }
    }
    fn lease_valid(&self) -> bool {
        self.lease.valid()
    }
}

/// Makes the handle and the thread's half of it.
pub fn channel(config: VolumeConfig, stop: CancellationToken) -> (Arc<VolumeHandle>, VolumeThread) {
    let (commands, inbox) = mpsc::unbounded_channel();
    let (status_out, status) = watch::channel(VolumeStatus::default());
    let counters = Arc::new(VolumeCounters::default());
    let lease = Arc::new(Lease::new());
    let handle = VolumeHandle { commands, status, counters: counters.clone(), lease: lease.clone() };
    (Arc::new(handle), VolumeThread { config, commands: inbox, status: status_out, counters, lease, stop })
}

/// The thread's half: give it to [`run`].
pub struct VolumeThread {
    config: VolumeConfig,
    commands: mpsc::UnboundedReceiver<Command>,
    status: watch::Sender<VolumeStatus>,
    counters: Arc<VolumeCounters>,
    lease: Arc<Lease>,
    stop: CancellationToken,
}
