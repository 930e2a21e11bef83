//! Engine and volume thread over real storage nodes in this process: what the SQL layer stands on.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bytes::Bytes;
use node_core::ids::{RunId, Seat, StorageId, Vector};
use node_core::quorum::{Mode, Quorum};
use node_core::wire::FeedItem;
use node_instance::engine::{Engine, EngineConfig, EngineStore, Role};
use node_instance::volume::{self, Follower, VolumeConfig, VolumeHandle};
use node_sql::store::{Freshness, Isolation, ReadMode, Store, StoreError, StoreTxn, TxnOptions};
use node_storage::StorageConfig;
use tokio_util::sync::CancellationToken;

struct Node {
    stop: CancellationToken,
    runtime: tokio::runtime::Runtime,
    task: tokio::task::JoinHandle<()>,
}

impl Node {
    fn start(id: usize, addresses: &[String], mode: Mode, dir: &std::path::Path) -> Node {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let stop = CancellationToken::new();
        let config = StorageConfig {
            id: StorageId(id as u8),
            listen: addresses[id].parse().expect("an address"),
            zone: format!("zone-{}", id % 3 + 1),
            cluster: "shop".into(),
            mode,
            nodes: addresses.len(),
            peers: addresses.to_vec(),
            data_dir: dir.join(format!("storage-{id}")),
            scrub: node_storage::ScrubConfig::default(),
        };
        let (status, _) = tokio::sync::watch::channel(None);
        let token = stop.clone();
        let task =
            runtime.spawn(async move { node_storage::run(config, token, status).await.expect("it runs") });
        Node { stop, runtime, task }
    }
    fn end(self) {
        self.stop.cancel();
        self.runtime.block_on(self.task).expect("it ends in order");
        self.runtime.shutdown_timeout(Duration::from_secs(2));
    }
}

struct Shell(Arc<Engine>);

impl Follower for Shell {
    fn apply(&self, items: &[FeedItem]) {
        self.0.apply(items);
    }
    fn reset(&self, at: Vector) {
        self.0.reset(&at);
    }
    fn applied(&self) -> Vector {
        self.0.applied()
    }
    fn low(&self) -> Vector {
        self.0.low()
    }
    fn low_water(&self, low: Vector) {
        self.0.set_low_water(low);
    }
    fn seated(&self, seat: Seat) {
        self.0.set_role(Role::Writer { seat });
    }
    fn unseated(&self) {
        self.0.fence();
    }
}

struct Instance {
    store: EngineStore,
    volume: Arc<VolumeHandle>,
    stop: CancellationToken,
    thread: std::thread::JoinHandle<()>,
}

impl Instance {
    fn start(ordinal: u16, run: u64, addresses: &[String], mode: Mode) -> Instance {
        let config = VolumeConfig {
            cluster: "shop".into(),
            name: format!("shop-{ordinal}"),
            ordinal,
            tier: 1,
            run: RunId(run),
            quorum: Quorum::new(addresses.len(), mode).expect("a possible size"),
            storage: addresses.to_vec(),
            zone: None,
        };
        let stop = CancellationToken::new();
        let engine = Arc::new(Engine::new(EngineConfig::new(mode, ordinal, 8 << 20)));
        let (volume, thread) = volume::channel(config, stop.clone());
        let thread = volume::run(thread, Arc::new(Shell(engine.clone()))).expect("a thread");
        Instance { store: EngineStore::new(engine, volume.clone()), volume, stop, thread }
    }
    fn begin(&self) -> Box<dyn StoreTxn> {
        let mut txn = self.store.begin(TxnOptions {
            isolation: Isolation::RepeatableRead,
            freshness: Freshness::Global,
            snapshot_isolation: false,
            read_only: false,
            lock_wait: Duration::from_secs(5),
            killed: Arc::new(AtomicBool::new(false)),
        });
        txn.begin_statement().expect("nothing doomed it");
        txn
    }
    fn put(&self, key: &str, value: &str) -> Result<(), StoreError> {
        let mut txn = self.begin();
        txn.put(Bytes::from(key.to_owned()), Bytes::from(value.to_owned()))?;
        txn.commit()
    }
    fn get(&self, key: &str) -> Option<Bytes> {
        self.begin().get(&Bytes::from(key.to_owned()), ReadMode::Snapshot).expect("a read")
    }
    fn end(self) {
        self.volume.resign(Duration::from_secs(5));
        self.stop.cancel();
        self.thread.join().expect("it ends in order");
    }
    fn kill(self) {
        self.stop.cancel();
        self.thread.join().expect("it ends in order");
    }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < end, "timed out waiting until {what}");
        std::thread::yield_now();
    }
}

fn addresses(count: usize) -> Vec<String> {
    let listeners: Vec<_> =
        (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    listeners.iter().map(|one| one.local_addr().expect("bound").to_string()).collect()
}

#[test]
fn every_writer_of_a_multi_master_cluster_sees_what_the_others_wrote() {
    let dir = tempfile::tempdir().expect("a folder");
    let addresses = addresses(3);
    let nodes: Vec<Node> =
        (0..3).map(|id| Node::start(id, &addresses, Mode::MultiMaster, dir.path())).collect();
    let one = Instance::start(0, 11, &addresses, Mode::MultiMaster);
    let two = Instance::start(1, 12, &addresses, Mode::MultiMaster);
    wait_for("both have a seat", || one.store.writable() && two.store.writable());
    for round in 0..200 {
        let (writer, reader) = if round % 2 == 0 { (&one, &two) } else { (&two, &one) };
        let value = round.to_string();
        writer.put("row", &value).expect("nobody else writes");
        assert_eq!(reader.get("row").as_deref(), Some(value.as_bytes()), "round {round}");
    }
    one.end();
    assert_eq!(two.get("row").as_deref(), Some(&b"199"[..]));
    two.put("row", "after").expect("the other one is gone");
    two.end();
    nodes.into_iter().for_each(Node::end);
}

#[test]
fn everything_acknowledged_is_there_after_all_processes_have_restarted() {
    let dir = tempfile::tempdir().expect("a folder");
    let addresses = addresses(3);
    let start =
        || (0..3).map(|id| Node::start(id, &addresses, Mode::SingleMaster, dir.path())).collect::<Vec<_>>();
    let nodes = start();
    let one = Instance::start(0, 21, &addresses, Mode::SingleMaster);
    wait_for("there is a writer", || one.store.writable());
    for row in 0..100 {
        one.put(&format!("row{row}"), &row.to_string()).expect("a write");
    }
    one.kill();
    nodes.into_iter().for_each(Node::end);
    let nodes = start();
    let again = Instance::start(0, 22, &addresses, Mode::SingleMaster);
    wait_for("there is a writer again", || again.store.writable());
    for row in 0..100 {
        assert_eq!(again.get(&format!("row{row}")).as_deref(), Some(row.to_string().as_bytes()));
    }
    again.end();
    nodes.into_iter().for_each(Node::end);
}

#[test]
fn a_replica_takes_over_when_the_writer_is_gone_and_has_lost_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let addresses = addresses(3);
    let nodes: Vec<Node> =
        (0..3).map(|id| Node::start(id, &addresses, Mode::SingleMaster, dir.path())).collect();
    let one = Instance::start(0, 31, &addresses, Mode::SingleMaster);
    wait_for("there is a writer", || one.store.writable());
    let two = Instance::start(1, 32, &addresses, Mode::SingleMaster);
    for row in 0..50 {
        one.put(&format!("row{row}"), &row.to_string()).expect("a write");
    }
    assert_eq!(two.put("row", "x"), Err(StoreError::ReadOnly));
    one.kill();
    wait_for("the replica writes", || two.store.writable());
    for row in 0..50 {
        assert_eq!(two.get(&format!("row{row}")).as_deref(), Some(row.to_string().as_bytes()));
    }
    two.put("row", "x").expect("it is the writer");
    two.end();
    nodes.into_iter().for_each(Node::end);
}
