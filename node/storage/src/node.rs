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
use crate::membership::{self, MembershipError, Place};
use crate::reads::{READERS, chain};
use crate::rows::{RowStore, RowWriter, RowsError};
use crate::shared::Shared;
use crate::status::{StorageStatus, count};
use crate::{applier, peers, server, topology};

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
    let (shared, driver, writer, store) =
        opened.await.map_err(|_| StorageError::Panicked { thread: "opening" })??;
    let threads = Threads::start(&shared, driver, writer, &store)?;
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
    let joined = tokio::task::spawn_blocking(move || threads.stop(&shared)).await;
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
}

impl Threads {
    fn start(
        shared: &Arc<Shared>,
        driver: Driver,
        writer: RowWriter,
        store: &RowStore,
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
            let shared = shared.clone();
            move || {
                let _stop = shared.stop.clone().drop_guard();
                applier::run(&shared, writer).inspect_err(|error| {
                    tracing::error!(error = %chain(error), "the rows cannot be written");
                    shared.rows_queue.stop();
                })
            }
        })?;
        let mut readers = Vec::new();
        for _ in 0..READERS {
            let (shared, store) = (shared.clone(), store.clone());
            readers.push(spawn("reader", move || {
                shared.reads.run(&store, || count(&shared.counters.blocks, 1));
            })?);
        }
        Ok(Threads { driver, applier, readers })
    }

    /// Ends the threads in the order in which they feed each other.
    fn stop(self, shared: &Shared) -> Result<(), StorageError> {
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

type Opened = (Arc<Shared>, Driver, RowWriter, RowStore);

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
    std::fs::create_dir_all(&dir).map_err(|source| StorageError::DataDir { path: dir.clone(), source })?;
    let place =
        Place { cluster: config.cluster.clone(), id: config.id, nodes: config.nodes, mode: config.mode };
    let (mut membership, generation) = load_membership(&dir, &place)?;
    let (store, mut writer) =
        RowStore::open(&dir.join("rows")).map_err(|source| StorageError::Rows { source })?;
    let mut acceptor = Acceptor::new(quorum);
    let mut rows = LatestRows::new(store.clone());
    let applied_before = writer.applied().clone();
    let mut log = open_log(&dir, &mut membership, &mut acceptor, &mut rows, &mut writer)?;
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
    if log.is_none() {
        membership::store(&dir, &place, membership, generation)
            .map_err(|source| StorageError::Membership { source })?;
        acceptor = Acceptor::new(quorum);
    }
    tracing::info!(?membership, applied = %writer.applied(), undecided = acceptor.undecided(), "storage opened");
    let applied = writer.applied().clone();
    acceptor.applied(&applied);
    acceptor.forget_applied(&mut rows);
    if let Some(source) = rows.failed() {
        return Err(StorageError::Rows { source });
    }
    let shared = Arc::new(Shared::new(config, RunId(random()), listen, membership, applied, stop));
    shared.feed.reset(acceptor.ordering().ordered().clone());
    let driver = Driver::new(shared.clone(), place, acceptor, rows, log, generation, random());
    Ok((shared, driver, writer, store))
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

/// Opens and replays the log, and begins a new segment. `None`: promises are lost, and the node with them.
fn open_log(
    dir: &Path,
    membership: &mut Membership,
    acceptor: &mut Acceptor,
    rows: &mut LatestRows,
    writer: &mut RowWriter,
) -> Result<Option<AcceptLog>, StorageError> {
    if matches!(membership, Membership::Lost(_)) {
        return Ok(None);
    }
    let mut replay = Replay { acceptor, rows, writer, items: Vec::new(), failed: None };
    let opened = AcceptLog::open(&dir.join("log"), SEGMENT_BYTES, &mut |record| replay.record(record));
    replay.apply();
    if let Some(error) = replay.failed {
        return Err(error);
    }
    if let Some(source) = rows.failed() {
        return Err(StorageError::Rows { source });
    }
    let volume = match *membership {
        Membership::Empty => 0,
        Membership::Forming(volume) | Membership::Member(volume) | Membership::Lost(volume) => volume,
    };
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
    writer.persist().map_err(|source| StorageError::Rows { source })?;
    let checkpoint: Vec<bytes::Bytes> = acceptor.checkpoint_records().iter().map(Wire::to_bytes).collect();
    match log.begin_segment(&checkpoint) {
        Ok(generation) => {
            log.drop_before(generation).map_err(|source| StorageError::Log { source })?;
        }
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
    failed: Option<StorageError>,
}

impl Replay<'_> {
    fn record(&mut self, record: bytes::Bytes) {
        if self.failed.is_some() {
            return;
        }
        let record = match Record::get(&mut Reader::new(record)) {
            Ok(record) => record,
            Err(source) => return self.failed = Some(StorageError::Record { source }),
        };
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
        if let Err(source) = self.writer.apply(&items, &Vector::new())
            && self.failed.is_none()
        {
            self.failed = Some(StorageError::Rows { source });
        }
    }
}
