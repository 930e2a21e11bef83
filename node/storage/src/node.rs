//! Starts a storage node's threads and tasks, and stops them in order.

use std::hash::{BuildHasher, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use node_core::acceptor::{Acceptor, Action, Record};
use node_core::ids::{RunId, StorageId, Vector};
use node_core::membership::Generation;
use node_core::quorum::{Quorum, QuorumError};
use node_core::wire::{DecodeError, FeedItem, Membership, Reader, Wire};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept_log::{AcceptLog, LogError, SEGMENT_BYTES};
use crate::carrier::{self, CarrierError};
use crate::config::StorageConfig;
use crate::driver::{Driver, DriverError, LatestRows};
use crate::formats::{self, FormatError};
use crate::membership::{self, MembershipError, Place};
use crate::reads::{READERS, chain};
use crate::rows::{RowStore, RowWriter, RowsError, RowsHandle};
use crate::shared::Shared;
use crate::status::StorageStatus;
use crate::{applier, peers, repair, scrub, server, topology};

const STATUS_INTERVAL: Duration = Duration::from_millis(100);
/// Decided items replayed from the log in one change of the rows.
const REPLAY_ITEMS: usize = 1024;

/// A storage node cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The configuration makes no sense.
    #[error("{reason}")]
    Config {
        /// What is wrong with it.
        reason: String,
    },
    /// The volume cannot have this size.
    #[error("the volume is not possible")]
    Quorum {
        /// Why.
        #[source]
        source: QuorumError,
    },
    /// The address is not free.
    #[error("failed to listen on {address}")]
    Listen {
        /// Which address.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The data directory cannot be used.
    #[error("failed to use the data directory {path:?}")]
    DataDir {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A newer build wrote what is on the disk.
    #[error("the disk has a format that this build does not read")]
    Format {
        /// Which, and what to do.
        #[source]
        source: FormatError,
    },
    /// The membership file cannot be used.
    #[error("failed to use the membership")]
    Membership {
        /// Why.
        #[source]
        source: MembershipError,
    },
    /// The accept log cannot be used.
    #[error("failed to use the accept log")]
    Log {
        /// Why.
        #[source]
        source: LogError,
    },
    /// The log holds a record that this build cannot read.
    #[error("the accept log holds an unreadable record")]
    Record {
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
    /// The rows cannot be used.
    #[error("failed to use the rows")]
    Rows {
        /// Why.
        #[source]
        source: RowsError,
    },
    /// The rows are not what was written. They are marked: the node does not vote until they are rebuilt.
    #[error(
        "the rows in {path:?} are damaged: {reason}; they are marked, and this storage node does not vote until \
         they have been rebuilt from its peers; the accept log is whole"
    )]
    RowsDamaged {
        /// Where they are.
        path: std::path::PathBuf,
        /// What was found.
        reason: String,
    },
    /// The storage thread ended.
    #[error("the storage thread failed")]
    Driver {
        /// Why.
        #[source]
        source: DriverError,
    },
    /// Connections cannot be served.
    #[error("failed to serve")]
    Serve {
        /// Why.
        #[source]
        source: CarrierError,
    },
    /// A thread of the node could not be started.
    #[error("failed to start a thread")]
    Spawn {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A thread panicked: a broken invariant of ours.
    #[error("the {thread} thread panicked")]
    Panicked {
        /// Which.
        thread: &'static str,
    },
}

/// Runs a storage node until `shutdown`, keeping `status` up to date.
///
/// # Errors
///
/// [`StorageError`] if it cannot start, or if its disk fails.
pub async fn run(
    config: StorageConfig,
    shutdown: CancellationToken,
    status: watch::Sender<Option<StorageStatus>>,
) -> Result<(), StorageError> {
    let address = config.listen;
    let listener =
        TcpListener::bind(address).await.map_err(|source| StorageError::Listen { address, source })?;
    run_on(listener, config, shutdown, status).await
}

/// As [`run`], on a socket that listens already.
///
/// # Errors
///
/// As [`run`].
pub async fn run_on(
    listener: TcpListener,
    config: StorageConfig,
    shutdown: CancellationToken,
    status: watch::Sender<Option<StorageStatus>>,
) -> Result<(), StorageError> {
    let stop = shutdown.child_token();
    let opened = tokio::task::spawn_blocking({
        let (config, listen, stop) = (config.clone(), listener.local_addr().ok(), stop.clone());
        move || open(config, listen, stop)
    });
    let (shared, driver, writer, rows) =
        opened.await.map_err(|_| StorageError::Panicked { thread: "opening" })??;
    let threads = Threads::start(&shared, driver, writer, &rows)?;
    let tasks = TaskTracker::new();
    let until_stopped = |task: futures::future::BoxFuture<'static, ()>| {
        let stop = stop.clone();
        tasks.spawn(async move {
            tokio::select! { () = task => (), () = stop.cancelled() => () }
        });
    };
    for (number, address) in config.peers.iter().enumerate().take(config.nodes) {
        let peer = StorageId(u8::try_from(number).expect("a volume has at most 6 nodes"));
        if peer != config.id {
            until_stopped(Box::pin(peers::keep(shared.clone(), peer, address.clone())));
        }
    }
    until_stopped(Box::pin(topology::keep(shared.clone())));
    until_stopped(Box::pin(scrub::keep(shared.clone())));
    until_stopped(Box::pin(keep_status(shared.clone(), status)));
    let accept = {
        let (shared, tasks) = (shared.clone(), tasks.clone());
        move |accepted| drop(tasks.spawn(server::serve(shared.clone(), accepted)))
    };
    let served = carrier::serve(listener, accept, stop.clone()).await;
    // Nobody asks any more: what is queued is finished, made durable, and then the threads end.
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    let stopped = shared.clone();
    let joined = tokio::task::spawn_blocking(move || threads.stop(&stopped)).await;
    if let Some(reason) = shared.damage.lock().take() {
        return Err(StorageError::RowsDamaged { path: shared.config.data_dir.join("rows"), reason });
    }
    joined.map_err(|_| StorageError::Panicked { thread: "stopping" })??;
    served.map_err(|source| StorageError::Serve { source })
}

async fn keep_status(shared: Arc<Shared>, status: watch::Sender<Option<StorageStatus>>) {
    loop {
        let now = shared.status();
        status.send_if_modified(|last| {
            let changed = last.as_ref() != Some(&now);
            if changed {
                *last = Some(now);
            }
            changed
        });
        tokio::time::sleep(STATUS_INTERVAL).await;
    }
}

struct Threads {
    driver: JoinHandle<Result<(), DriverError>>,
    applier: JoinHandle<Result<(), RowsError>>,
    readers: Vec<JoinHandle<()>>,
    rows: RowsHandle,
}

impl Threads {
    fn start(
        shared: &Arc<Shared>,
        driver: Driver,
        writer: RowWriter,
        rows: &RowsHandle,
    ) -> Result<Threads, StorageError> {
        let driver = spawn("storage", {
            let stop = shared.stop.clone();
            move || {
                // However it ends, the node does not go on without it.
                let _stop = stop.drop_guard();
                driver.run()
            }
        })?;
        let applier = spawn("rows", {
            let (shared, rows) = (shared.clone(), rows.clone());
            move || {
                let _stop = shared.stop.clone().drop_guard();
                let ended = applier::run(&shared, &rows, writer).inspect_err(|error| {
                    if error.is_damage() {
                        repair::rows_damaged(&shared, chain(error));
                    }
                    tracing::error!(error = %chain(error), "the rows cannot be written");
                    shared.rows_queue.stop();
                });
                rows.give_up();
                ended
            }
        })?;
        let mut readers = Vec::new();
        for _ in 0..READERS {
            let (shared, rows) = (shared.clone(), rows.clone());
            readers.push(spawn("reader", move || {
                shared.reads.run(&shared, &rows);
            })?);
        }
        Ok(Threads { driver, applier, readers, rows: rows.clone() })
    }

    /// Ends the threads in the order in which they feed each other.
    fn stop(self, shared: &Shared) -> Result<(), StorageError> {
        // Should the rows be closed for want of room, the storage thread need not wait for them any more.
        self.rows.give_up();
        shared.inbox.stop();
        let driver = self.driver.join().map_err(|_| StorageError::Panicked { thread: "storage" });
        shared.rows_queue.stop();
        let applier = self.applier.join().map_err(|_| StorageError::Panicked { thread: "rows" });
        shared.reads.stop();
        for reader in self.readers {
            reader.join().map_err(|_| StorageError::Panicked { thread: "reader" })?;
        }
        driver?.map_err(|source| StorageError::Driver { source })?;
        applier?.map_err(|source| StorageError::Rows { source })
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StorageError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|source| StorageError::Spawn { source })
}

/// A number nobody else has: the hasher's keys come from the operating system's random numbers.
fn random() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

type Opened = (Arc<Shared>, Driver, RowWriter, RowsHandle);

/// Reads what the disk holds and rebuilds the acceptor from it.
fn open(
    config: StorageConfig,
    listen: Option<std::net::SocketAddr>,
    stop: CancellationToken,
) -> Result<Opened, StorageError> {
    let quorum = Quorum::new(config.nodes, config.mode).map_err(|source| StorageError::Quorum { source })?;
    if config.id.0 as usize >= config.nodes || config.peers.len() != config.nodes {
        let reason = format!(
            "storage node {} of {} needs {} peer addresses, not {}",
            config.id.0,
            config.nodes,
            config.nodes,
            config.peers.len()
        );
        return Err(StorageError::Config { reason });
    }
    let dir = config.data_dir.clone();
    // Before anything is changed: opening any part of the disk may write to it.
    formats::check(&dir).map_err(|source| StorageError::Format { source })?;
    std::fs::create_dir_all(&dir).map_err(|source| StorageError::DataDir { path: dir.clone(), source })?;
    let place =
        Place { cluster: config.cluster.clone(), id: config.id, nodes: config.nodes, mode: config.mode };
    let (mut membership, generation) = load_membership(&dir, &place)?;
    let damage =
        repair::damage(&dir).map_err(|source| StorageError::DataDir { path: dir.clone(), source })?;
    if let Some(reason) = &damage {
        tracing::error!(%reason, "the rows are damaged: this disk is readmitted as a new one");
        membership = Membership::Lost(volume_of(membership));
    }
    let (store, mut writer) = open_rows(&dir, damage.is_some())?;
    let handle = RowsHandle::new(store);
    let mut acceptor = Acceptor::new(quorum);
    let mut rows = LatestRows::new(handle.clone());
    let applied_before = writer.applied().clone();
    let mut waiting = Vec::new();
    let mut log = open_log(&dir, &mut membership, &mut acceptor, &mut rows, &mut writer, &mut waiting)?;
    let ordered = acceptor.ordering().ordered();
    if let (Membership::Member(volume), false) = (membership, ordered.covers(&applied_before)) {
        // Rows are given only what the log has: the log's end is gone, and promises with it.
        tracing::error!(%applied_before, %ordered, "the rows know more than the accept log: not voting");
        membership = Membership::Lost(volume);
        log = None;
    }
    let current = acceptor.generations().get(place.id);
    if let (Membership::Member(volume), true) = (membership, log.is_some() && current != generation) {
        tracing::error!("another disk has taken this storage node's place: not voting");
        membership = Membership::Lost(volume);
        log = None;
    }
    // Damaged rows are not noted here: their mark stays until they are copied anew.
    if log.is_none() && damage.is_none() {
        membership::store(&dir, &place, membership, generation)
            .map_err(|source| StorageError::Membership { source })?;
    }
    if log.is_none() {
        acceptor = Acceptor::new(quorum);
    }
    tracing::info!(?membership, applied = %writer.applied(), undecided = acceptor.undecided(), "storage opened");
    let applied = writer.applied().clone();
    acceptor.applied(&applied);
    acceptor.forget_applied(&mut rows);
    if let Some(source) = rows.failed() {
        return Err(StorageError::Rows { source });
    }
    let shared = Shared::new(config, RunId(random()), listen, membership, applied.clone(), stop);
    let shared = Arc::new(shared);
    *shared.marked.lock() = damage;
    if waiting.is_empty() {
        shared.feed.reset(acceptor.ordering().ordered().clone());
    } else {
        // The disk is full: the rows get them once there is room, and subscribers from memory.
        shared.set_rows_stuck(Some(shared.describe_full()));
        shared.rows_queue.push(&waiting);
        shared.feed.push(waiting, &applied);
    }
    if let Some(generation) = log.as_ref().and_then(AcceptLog::newest) {
        shared.rows_queue.mark(generation);
    }
    let driver = Driver::new(shared.clone(), place, acceptor, rows, log, generation, random());
    Ok((shared, driver, writer, handle))
}

fn load_membership(dir: &Path, place: &Place) -> Result<(Membership, Generation), StorageError> {
    let failed = |source| StorageError::Membership { source };
    match membership::load(dir, place) {
        Ok(Some(found)) => Ok(found),
        Ok(None) if dir.join("log").exists() => {
            tracing::error!("the membership file is gone although there is a log: not voting");
            Ok((Membership::Lost(0), Generation::default()))
        }
        Ok(None) => {
            membership::store(dir, place, Membership::Empty, Generation::default()).map_err(failed)?;
            Ok((Membership::Empty, Generation::default()))
        }
        Err(error @ MembershipError::Damaged { .. }) => {
            tracing::error!(error = %chain(&error), "not voting");
            Ok((Membership::Lost(0), Generation::default()))
        }
        Err(error) => Err(failed(error)),
    }
}

fn volume_of(membership: Membership) -> u64 {
    match membership {
        Membership::Empty => 0,
        Membership::Forming(volume) | Membership::Member(volume) | Membership::Lost(volume) => volume,
    }
}

/// Opens the rows. Damaged ones are marked; those marked already that cannot be opened are put aside.
fn open_rows(dir: &Path, marked: bool) -> Result<(RowStore, RowWriter), StorageError> {
    let path = dir.join("rows");
    let error = match RowStore::open(&path) {
        Ok(opened) => return Ok(opened),
        Err(error) => error,
    };
    if !error.is_damage() {
        return Err(StorageError::Rows { source: error });
    }
    let reason = chain(&error);
    let moved = |source| StorageError::DataDir { path: dir.to_owned(), source };
    if !marked {
        repair::mark(dir, &reason).map_err(moved)?;
        return Err(StorageError::RowsDamaged { path, reason });
    }
    let aside = repair::put_aside(dir).map_err(moved)?;
    tracing::error!(%reason, aside = %aside.display(), "the damaged rows cannot be opened: they are put aside");
    RowStore::open(&path).map_err(|source| StorageError::Rows { source })
}

/// Opens and replays the log, and begins a new segment. What the rows have no room for is left in `waiting`.
/// `None`: promises are lost, and the node with them.
fn open_log(
    dir: &Path,
    membership: &mut Membership,
    acceptor: &mut Acceptor,
    rows: &mut LatestRows,
    writer: &mut RowWriter,
    waiting: &mut Vec<FeedItem>,
) -> Result<Option<AcceptLog>, StorageError> {
    if matches!(membership, Membership::Lost(_)) {
        return Ok(None);
    }
    let begin = writer.applied().clone();
    let (items, behind) = (Vec::new(), None);
    let mut replay =
        Replay { acceptor, rows, writer, items, waiting, begin, first: true, behind, failed: None };
    let opened = AcceptLog::open(&dir.join("log"), SEGMENT_BYTES, &mut |record| replay.record(record));
    replay.apply();
    let (failed, behind) = (replay.failed, replay.behind);
    if let Some(error) = failed {
        return Err(error);
    }
    if let Some(reason) = behind {
        repair::mark(dir, &reason)
            .map_err(|source| StorageError::DataDir { path: dir.to_owned(), source })?;
        return Err(StorageError::RowsDamaged { path: dir.join("rows"), reason });
    }
    if let Some(source) = rows.failed() {
        return Err(StorageError::Rows { source });
    }
    let volume = volume_of(*membership);
    let mut log = match opened {
        Ok(log) if log.was_empty() && matches!(membership, Membership::Member(_)) => {
            tracing::error!("the accept log is gone: not voting");
            *membership = Membership::Lost(volume);
            return Ok(None);
        }
        Ok(log) => log,
        Err(error @ LogError::Damaged { .. }) => {
            tracing::error!(error = %chain(&error), "not voting");
            *membership = Membership::Lost(volume);
            return Ok(None);
        }
        Err(source) => return Err(StorageError::Log { source }),
    };
    let persisted = match writer.persist() {
        Ok(()) => waiting.is_empty(),
        Err(error) if error.is_full() || error.is_poisoned() => false,
        Err(source) => return Err(StorageError::Rows { source }),
    };
    let checkpoint: Vec<bytes::Bytes> = acceptor.checkpoint_records().iter().map(Wire::to_bytes).collect();
    match log.begin_segment(&checkpoint) {
        Ok(generation) if persisted => {
            log.drop_before(generation).map_err(|source| StorageError::Log { source })?;
        }
        // Older segments go once the rows are durable.
        Ok(_) => {}
        // The disk is full: the node reads, and begins the segment when there is room.
        Err(error) if error.is_full() => {
            tracing::error!(error = %chain(&error), "no room for the accept log")
        }
        Err(source) => return Err(StorageError::Log { source }),
    }
    Ok(Some(log))
}

/// Rebuilds acceptor and rows from the log.
struct Replay<'a> {
    acceptor: &'a mut Acceptor,
    rows: &'a mut LatestRows,
    writer: &'a mut RowWriter,
    items: Vec<FeedItem>,
    /// What the rows have no room for, once they have refused something.
    waiting: &'a mut Vec<FeedItem>,
    /// What the rows included before.
    begin: Vector,
    first: bool,
    /// The rows lack what the log takes for granted.
    behind: Option<String>,
    failed: Option<StorageError>,
}

impl Replay<'_> {
    fn record(&mut self, record: bytes::Bytes) {
        if self.failed.is_some() || self.behind.is_some() {
            return;
        }
        let record = match Record::get(&mut Reader::new(record)) {
            Ok(record) => record,
            Err(source) => return self.failed = Some(StorageError::Record { source }),
        };
        if let (true, Record::Checkpoint(checkpoint)) = (std::mem::take(&mut self.first), &record)
            && !self.begin.covers(&checkpoint.ordered)
        {
            // Segments go only once the rows are durable: these rows have lost something since.
            self.behind = Some(format!(
                "the rows include {}, and the accept log begins at {}: what lies between is lost here",
                self.begin, checkpoint.ordered
            ));
        }
        let mut actions = Vec::new();
        self.acceptor.replay(record, self.rows, &mut actions);
        for action in actions {
            if let Action::Feed(items) = action {
                self.items.extend(items);
            }
        }
        if self.items.len() >= REPLAY_ITEMS {
            self.apply();
        }
    }
    fn apply(&mut self) {
        let items = std::mem::take(&mut self.items);
        if !self.waiting.is_empty() {
            return self.waiting.extend(items);
        }
        match self.writer.apply(&items, &Vector::new()) {
            Ok(()) => {}
            Err(error) if error.is_full() || error.is_poisoned() => {
                tracing::error!(error = %chain(&error), "no room for the rows: they wait");
                self.waiting.extend(items);
            }
            Err(source) => {
                self.failed.get_or_insert(StorageError::Rows { source });
            }
        }
    }
}
