//! The instance role as a whole: volume, engine and server, started, joined and stopped in order.
//!
//! ```text
//! Starting ─ storage followed ─▶ (single-master) reader ◀─ seat lost ── writer
//!                                                 └────── seat opened ──▶
//! ```
//!
//! The server takes connections once the instance can answer: a replica when it follows storage, a writer
//! when its seat is open. Losing the seat closes every client connection: a pool that stays would only
//! collect error 1290 without noticing that the writer has moved.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use node_core::ids::{RunId, Seat, Vector};
use node_core::quorum::{Mode, Quorum};
use node_core::wire::{FeedItem, InstanceInfo};
use node_sql::context::ReplicaHostStatus;
use node_sql::error::{SqlError, SqlResult};
use node_sql::store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::engine::{Engine, EngineConfig, EngineStats, EngineStore};
use crate::server::{self, CloseReason, MysqlServer, ServerConfig, ServerError, Surroundings};
use crate::volume::{self, Follower, VolumeConfig, VolumeCounters, VolumeHandle, VolumeStatus};

/// A replica that does not find the configured database by then is ready without it: somebody dropped it.
const DATABASE_PATIENCE: Duration = Duration::from_secs(2);
const DATABASE_RETRY: Duration = Duration::from_millis(50);
/// How long clients get to finish when the instance stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// How to run one instance.
#[derive(Clone, Debug)]
pub struct InstanceConfig {
    /// The cluster's name.
    pub cluster: String,
    /// The instance's name, as `shop-0`.
    pub name: String,
    /// The number at the end of the name, 0 to 15.
    pub ordinal: u16,
    /// Promotion tier, 0 to 15.
    pub tier: u8,
    /// Who may write.
    pub mode: Mode,
    /// Addresses of the storage nodes, by number; 3 or 6.
    pub storage: Vec<String>,
    /// Its zone, where it is known.
    pub zone: Option<String>,
    /// Address of the MySQL protocol; port 0 for any free one.
    pub listen: String,
    /// The administrator's name.
    pub user: String,
    /// The administrator's password.
    pub password: String,
    /// Created by whoever may write, before it is ready; empty for none.
    pub database: String,
    /// Memory for cached rows, in bytes.
    pub cache_bytes: usize,
    /// Server variables.
    pub parameters: Vec<(String, String)>,
}

/// The instance cannot run.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// The number of storage nodes.
    #[error("the volume is not possible")]
    Quorum {
        /// Which numbers are.
        #[source]
        source: node_core::quorum::QuorumError,
    },
    /// The ordinal.
    #[error("an instance's number is 0 to 15, not {ordinal}")]
    Ordinal {
        /// The number given.
        ordinal: u16,
    },
    /// The MySQL server.
    #[error("the MySQL server cannot start")]
    Server {
        /// Why.
        #[source]
        source: ServerError,
    },
    /// The system.
    #[error("cannot start the volume's thread")]
    Thread {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No randomness.
    #[error("the system gives no random numbers: {reason}")]
    Random {
        /// What it says.
        reason: String,
    },
}

/// What an instance says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InstanceReport {
    /// This run.
    pub run: u64,
    /// Where it speaks the MySQL protocol, once it does.
    pub listen: Option<SocketAddr>,
    /// Storage, seat, writer and lag.
    pub volume: VolumeStatus,
    /// How far it has applied.
    pub applied: Vector,
    /// Client connections.
    pub connections: usize,
    /// True once clients find the configured database.
    pub prepared: bool,
    /// True once it is ending.
    pub stopping: bool,
}

impl InstanceReport {
    /// Whether it takes statements.
    pub fn ready(&self, mode: Mode) -> bool {
        let can = self.volume.seat.is_some() || (mode == Mode::SingleMaster && self.volume.following);
        self.listen.is_some() && can && self.prepared && !self.stopping
    }
}

/// What metrics read.
#[derive(Clone)]
pub struct InstanceFigures {
    engine: Arc<Engine>,
    counters: Arc<VolumeCounters>,
}

impl InstanceFigures {
    /// The engine's.
    pub fn engine(&self) -> EngineStats {
        self.engine.stats()
    }
    /// The volume's.
    pub fn volume(&self) -> &VolumeCounters {
        &self.counters
    }
}

/// A running instance.
pub struct Instance {
    config: InstanceConfig,
    run: RunId,
    engine: Arc<Engine>,
    volume: Arc<VolumeHandle>,
    thread: std::thread::JoinHandle<()>,
    stop_volume: CancellationToken,
    report: watch::Sender<InstanceReport>,
}

/// Starts the instance's volume thread and engine. Its server begins within [`Instance::serve`].
///
/// # Errors
///
/// See [`InstanceError`].
pub fn start(config: InstanceConfig) -> Result<Instance, InstanceError> {
    let quorum =
        Quorum::new(config.storage.len(), config.mode).map_err(|source| InstanceError::Quorum { source })?;
    if config.ordinal > 15 {
        return Err(InstanceError::Ordinal { ordinal: config.ordinal });
    }
    let random = getrandom::u64().map_err(|error| InstanceError::Random { reason: error.to_string() })?;
    let run = RunId(random.max(1));
    let engine = Arc::new(Engine::new(EngineConfig::new(config.mode, config.ordinal, config.cache_bytes)));
    let stop_volume = CancellationToken::new();
    let volume_config = VolumeConfig {
        cluster: config.cluster.clone(),
        name: config.name.clone(),
        ordinal: config.ordinal,
        tier: config.tier,
        run,
        quorum,
        storage: config.storage.clone(),
        zone: config.zone.clone(),
    };
    let (volume, thread) = volume::channel(volume_config, stop_volume.clone());
    let thread = volume::run(thread, Arc::new(EngineFollower { engine: engine.clone() }))
        .map_err(|source| InstanceError::Thread { source })?;
    let (report, _) = watch::channel(InstanceReport { run: run.0, ..InstanceReport::default() });
    Ok(Instance { config, run, engine, volume, thread, stop_volume, report })
}

impl Instance {
    /// What the instance says of itself, as it changes.
    pub fn report(&self) -> watch::Receiver<InstanceReport> {
        self.report.subscribe()
    }
    /// What metrics read.
    pub fn figures(&self) -> InstanceFigures {
        InstanceFigures { engine: self.engine.clone(), counters: self.volume.counters() }
    }
    /// Hands the seat over while the instance goes on as a replica: false where it is not the writer. The
    /// successor is chosen by promotion tier.
    pub fn hand_over(&self) -> impl Fn(Option<String>) -> bool + Send + Sync + 'static {
        let (volume, mode) = (self.volume.clone(), self.config.mode);
        move |_successor| {
            let writes = mode == Mode::SingleMaster && volume.status().borrow().seat.is_some();
            if writes {
                let volume = volume.clone();
                // It waits for what is in flight; the answer is only that it has begun.
                std::thread::spawn(move || volume.hand_over(STOP_GRACE));
            }
            writes
        }
    }
    /// Serves until `stop`, then finishes what is under way, gives up the seat and ends.
    ///
    /// # Errors
    ///
    /// See [`InstanceError`].
    pub async fn serve(self, stop: CancellationToken) -> Result<(), InstanceError> {
        let mut status = self.volume.status();
        let mut server: Option<Arc<MysqlServer>> = None;
        let mut writing = false;
        let mut preparation = Preparation::Needed { since: None, not_before: Instant::now() };
        if self.config.database.is_empty() {
            preparation = Preparation::Done;
        }
        let mut every = tokio::time::interval(Duration::from_millis(100));
        loop {
            let now = status.borrow_and_update().clone();
            let can = now.seat.is_some() || (self.config.mode == Mode::SingleMaster && now.following);
            if server.is_none() && can {
                server = Some(Arc::new(self.start_server()?));
            }
            if let Some(server) = &server
                && writing != now.seat.is_some()
            {
                writing = now.seat.is_some();
                self.role_changed(server, writing);
            }
            // A replica looks for it once there is a writer to create it.
            if let Some(server) = &server
                && (writing || now.writer.is_some())
            {
                preparation.begin(server, writing);
            }
            self.tell(now, server.as_deref(), preparation.done(), false);
            tokio::select! {
                () = stop.cancelled() => break,
                changed = status.changed() => if changed.is_err() { break },
                () = preparation.ended() => {}
                _ = every.tick() => {}
            }
        }
        self.tell(status.borrow().clone(), server.as_deref(), preparation.done(), true);
        self.end(server).await;
        Ok(())
    }

    fn start_server(&self) -> Result<MysqlServer, InstanceError> {
        let config = ServerConfig {
            listen: self.config.listen.clone(),
            user: self.config.user.clone(),
            password: self.config.password.clone(),
            database: self.config.database.clone(),
            tls: None,
            server_id: self.config.name.clone(),
            ordinal: self.config.ordinal,
            multi_master: self.config.mode == Mode::MultiMaster,
            parameters: self.config.parameters.clone(),
        };
        let surroundings = Cluster { mode: self.config.mode, volume: self.volume.clone() };
        let store: Arc<dyn Store> = Arc::new(EngineStore::new(self.engine.clone(), self.volume.clone()));
        let server = server::start(config, store, Arc::new(surroundings))
            .map_err(|source| InstanceError::Server { source })?;
        info!(address = %server.local_addr(), "MySQL protocol");
        Ok(server)
    }

    fn role_changed(&self, server: &MysqlServer, writing: bool) {
        server.set_read_only(!writing);
        if !writing {
            server.close_all(CloseReason::Demoted);
        }
    }

    fn tell(&self, volume: VolumeStatus, server: Option<&MysqlServer>, prepared: bool, stopping: bool) {
        let report = InstanceReport {
            run: self.run.0,
            listen: server.map(MysqlServer::local_addr),
            volume,
            applied: self.engine.applied(),
            connections: server.map_or(0, MysqlServer::connections),
            prepared,
            stopping,
        };
        self.report.send_if_modified(|old| {
            let changed = *old != report;
            *old = report;
            changed
        });
    }

    async fn end(self, server: Option<Arc<MysqlServer>>) {
        let volume = self.volume.clone();
        let stopped = tokio::task::spawn_blocking(move || {
            // The seat first: a successor takes over while clients here are still being told to go.
            volume.resign(STOP_GRACE);
            if let Some(server) = server {
                server.shutdown(STOP_GRACE);
            }
        });
        if stopped.await.is_err() {
            warn!("stopping the server failed");
        }
        self.stop_volume.cancel();
        let thread = self.thread;
        // A panic there has been reported by the panic itself.
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }
}

/// Whether clients find the configured database: a writer creates it, a replica waits for it.
enum Preparation {
    Needed {
        since: Option<Instant>,
        not_before: Instant,
    },
    /// A statement like any other, which waits for its commit: on a thread of its own.
    Running {
        since: Instant,
        writing: bool,
        task: tokio::task::JoinHandle<SqlResult<()>>,
    },
    /// A replica did not find it and does without; as a writer it would create it.
    WithoutIt,
    Done,
}

impl Preparation {
    fn begin(&mut self, server: &Arc<MysqlServer>, writing: bool) {
        let now = Instant::now();
        let since = match self {
            Preparation::Needed { since, not_before } if *not_before <= now => since.unwrap_or(now),
            Preparation::WithoutIt if writing => now,
            Preparation::Needed { .. }
            | Preparation::Running { .. }
            | Preparation::WithoutIt
            | Preparation::Done => return,
        };
        let server = server.clone();
        let task = tokio::task::spawn_blocking(move || match writing {
            true => server.create_database(),
            false => server.find_database(),
        });
        *self = Preparation::Running { since, writing, task };
    }
    fn done(&self) -> bool {
        matches!(self, Preparation::Done | Preparation::WithoutIt)
    }
    /// Ends when the statement has; never while there is none.
    async fn ended(&mut self) {
        let Preparation::Running { since, writing, task } = self else {
            return std::future::pending().await;
        };
        let (since, writing) = (*since, *writing);
        let ended = task.await;
        if let (Ok(Err(error)), true) = (&ended, writing) {
            warn!(%error, "the configured database could not be created: trying again");
        }
        *self = match ended {
            Ok(Ok(())) => Preparation::Done,
            Ok(Err(_)) if !writing && since.elapsed() >= DATABASE_PATIENCE => Preparation::WithoutIt,
            Ok(Err(_)) | Err(_) => {
                Preparation::Needed { since: Some(since), not_before: Instant::now() + DATABASE_RETRY }
            }
        };
    }
}

/// The engine as the volume thread sees it.
struct EngineFollower {
    engine: Arc<Engine>,
}

impl Follower for EngineFollower {
    fn apply(&self, items: &[FeedItem]) {
        self.engine.apply(items);
    }
    fn reset(&self, at: Vector) {
        self.engine.reset(&at);
    }
    fn applied(&self) -> Vector {
        self.engine.applied()
    }
    fn low(&self) -> Vector {
        self.engine.low()
    }
    fn low_water(&self, low: Vector) {
        self.engine.set_low_water(low);
    }
    fn seated(&self, seat: Seat) {
        self.engine.set_role(crate::engine::Role::Writer { seat });
    }
    fn unseated(&self) {
        self.engine.fence();
    }
}

/// The cluster as SQL sees it.
struct Cluster {
    mode: Mode,
    volume: Arc<VolumeHandle>,
}

impl Surroundings for Cluster {
    fn replicas(&self) -> Vec<ReplicaHostStatus> {
        let status = self.volume.status().borrow().clone();
        let writer = status.writer.as_ref().map(|(name, _)| name.clone());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        let newest = status.instances.iter().fold(Vector::new(), |mut newest, info| {
            newest.join(&info.applied);
            newest
        });
        let row = |info: &InstanceInfo| {
            let writes = self.mode == Mode::MultiMaster || writer.as_deref() == Some(info.name.as_str());
            ReplicaHostStatus {
                server_id: info.name.clone(),
                session_id: if writes { "MASTER_SESSION_ID".to_owned() } else { session_id(info.run) },
                last_update_micros: micros - i64::from(info.silent_ms) * 1000,
                replica_lag_ms: if writes { 0.0 } else { f64::from(info.lag_us) / 1000.0 },
                cpu: 0.0,
                highest_lsn_received: newest.get(Seat(0)).seq.0,
            }
        };
        status.instances.iter().map(row).collect()
    }
    fn status(&self) -> Vec<(String, String)> {
        let counters = self.volume.counters();
        let of = |counter: &std::sync::atomic::AtomicU64| {
            counter.load(std::sync::atomic::Ordering::Relaxed).to_string()
        };
        vec![
            ("Borealis_commits".to_owned(), of(&counters.committed)),
            ("Borealis_conflicts".to_owned(), of(&counters.conflicts)),
            ("Borealis_reproposals".to_owned(), of(&counters.reproposed)),
            ("Borealis_read_indexes".to_owned(), of(&counters.read_indexes)),
            ("Borealis_block_reads".to_owned(), of(&counters.blocks)),
        ]
    }
    fn alter_system(&self, command: &str) -> SqlResult<()> {
        Err(SqlError::new(
            1235,
            format!("This version of MySQL doesn't yet support 'ALTER SYSTEM {command}'"),
        ))
    }
}

/// A replica's session id: a UUID's form, from its run.
fn session_id(run: RunId) -> String {
    let run = run.0;
    format!("{:08x}-{:04x}-4{:03x}-8000-{:012x}", run >> 32, (run >> 16) & 0xffff, run & 0xfff, run)
        .chars()
        .take(36)
        .collect()
}
