//! Storage nodes in this process, and a hand-written client.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use node_core::ids::{
    Ballot, Epoch, Height, Outcome, Position, RunId, Seat, Seq, StorageId, TxnId, Vector, Ver,
};
use node_core::quorum::Mode;
use node_core::txn::{SharedTxn, Txn, Write};
use node_core::wire::{Closing, Peer, ReadBlock, Reply, Request, Vote};
use node_storage::carrier::{self, Receiver, Sender};
use node_storage::{ScrubConfig, StorageConfig, StorageError, StorageStatus, run_on};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Node {
    pub(crate) address: String,
    pub(crate) stop: CancellationToken,
    pub(crate) status: watch::Receiver<Option<StorageStatus>>,
    pub(crate) task: JoinHandle<Result<(), StorageError>>,
}

impl Node {
    pub(crate) async fn start(dir: &Path, id: u8, addresses: &[String]) -> Node {
        Node::start_with(dir, id, addresses, ScrubConfig::default()).await
    }
    pub(crate) async fn start_with(dir: &Path, id: u8, addresses: &[String], scrub: ScrubConfig) -> Node {
        // The address of a node that was stopped a moment ago may take a moment to be free again.
        let bound = tokio::time::timeout(PATIENCE, async {
            loop {
                match TcpListener::bind(&addresses[id as usize]).await {
                    Ok(listener) => return listener,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        });
        Node::with(bound.await.expect("the address is free"), dir, id, addresses, scrub)
    }
    pub(crate) fn on(listener: TcpListener, dir: &Path, id: u8, addresses: &[String]) -> Node {
        Node::with(listener, dir, id, addresses, ScrubConfig::default())
    }
    pub(crate) fn with(
        listener: TcpListener,
        dir: &Path,
        id: u8,
        addresses: &[String],
        scrub: ScrubConfig,
    ) -> Node {
        let address = listener.local_addr().expect("a bound socket has an address");
        let config = StorageConfig {
            id: StorageId(id),
            listen: address,
            zone: format!("zone-{id}"),
            cluster: "shop".to_owned(),
            mode: Mode::SingleMaster,
            nodes: addresses.len(),
            peers: addresses.to_vec(),
            data_dir: dir.join(format!("node-{id}")),
            scrub,
        };
        let stop = CancellationToken::new();
        let (sender, status) = watch::channel(None);
        let task = tokio::spawn(run_on(listener, config, stop.clone(), sender));
        Node { address: address.to_string(), stop, status, task }
    }
    pub(crate) async fn wait_for(&mut self, what: &str, wanted: impl Fn(&StorageStatus) -> bool) {
        let reached = async {
            let reached = self.status.wait_for(|status| status.as_ref().is_some_and(&wanted));
            reached.await.map(drop).expect("the node runs");
        };
        if tokio::time::timeout(PATIENCE, reached).await.is_err() {
            panic!("{what} never happened: {:?}", self.status.borrow());
        }
    }
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("an orderly end");
    }
}

pub(crate) async fn addresses(count: usize) -> (Vec<TcpListener>, Vec<String>) {
    let mut listeners = Vec::new();
    for _ in 0..count {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports"));
    }
    let address = |listener: &TcpListener| listener.local_addr().expect("it is bound").to_string();
    let addresses = listeners.iter().map(address).collect();
    (listeners, addresses)
}

pub(crate) async fn volume(dir: &Path) -> (Vec<Node>, Vec<String>) {
    volume_with(dir, ScrubConfig::default()).await
}

pub(crate) async fn volume_with(dir: &Path, scrub: ScrubConfig) -> (Vec<Node>, Vec<String>) {
    let (listeners, addresses) = addresses(3).await;
    let mut nodes = Vec::new();
    for (id, listener) in (0..).zip(listeners) {
        nodes.push(Node::with(listener, dir, id, &addresses, scrub));
    }
    for node in &mut nodes {
        node.wait_for("forming", |status| status.ready()).await;
    }
    (nodes, addresses)
}

pub(crate) struct Client {
    pub(crate) sender: Sender<Request>,
    pub(crate) receiver: Receiver<Reply>,
    pub(crate) seen: Vec<Reply>,
}

impl Client {
    pub(crate) async fn connect(node: &Node) -> Client {
        let (sender, receiver) = carrier::connect(&node.address).await.expect("the node listens");
        let peer = Peer::Instance { name: "shop-0".to_owned(), ordinal: 0, tier: 1, run: RunId(77) };
        let mut client = Client { sender, receiver, seen: Vec::new() };
        client.send(Request::Hello { peer, cluster: "shop".to_owned() });
        client.expect("a welcome", |reply| matches!(reply, Reply::Welcome { .. }).then_some(())).await;
        client
    }
    pub(crate) fn send(&self, request: Request) {
        self.sender.send(&request).expect("the connection is open");
    }
    /// The first reply, not yet taken, of which `wanted` makes something.
    pub(crate) async fn expect<T>(&mut self, what: &str, wanted: impl Fn(&Reply) -> Option<T>) -> T {
        let search = async {
            loop {
                if let Some((index, found)) =
                    self.seen.iter().enumerate().find_map(|(index, reply)| Some((index, wanted(reply)?)))
                {
                    self.seen.remove(index);
                    return found;
                }
                let replies = self.receiver.recv().await.expect("no error").expect("not closed");
                self.seen.extend(replies);
            }
        };
        match tokio::time::timeout(PATIENCE, search).await {
            Ok(found) => found,
            Err(_) => panic!("no {what} among {:?}", self.seen),
        }
    }
    /// Takes seat 0 as epoch 1 and opens it.
    pub(crate) async fn open_seat(&mut self) {
        let (seat, epoch, run) = (Seat(0), Epoch(1), RunId(77));
        let ballot = Ballot { round: 2, proposer: run };
        self.send(Request::Fence { seat, epoch, run, ballot });
        self.expect("fence", |reply| matches!(reply, Reply::FenceOk { .. }).then_some(())).await;
        let closing = closing();
        self.send(Request::Activate(closing.clone()));
        self.expect("activation", |reply| matches!(reply, Reply::ActivateOk { .. }).then_some(())).await;
        self.send(Request::Activated(closing));
    }
    pub(crate) async fn vote(&mut self, txn: &SharedTxn) -> Vote {
        self.send(Request::Propose(txn.clone()));
        self.expect("vote", |reply| match reply {
            Reply::Voted { txn: of, vote } if *of == txn.id => Some(vote.clone()),
            _ => None,
        })
        .await
    }
    pub(crate) fn decide(&self, txn: &SharedTxn) {
        self.send(Request::Decide { txn: txn.id, outcome: Outcome::Commit, body: Some(txn.clone()) });
    }
    pub(crate) async fn rows(&mut self, at_least: Vector) -> Vec<(Bytes, Option<Bytes>)> {
        self.send(Request::Read(ReadBlock {
            id: 5,
            start: Bytes::new(),
            end: None,
            reverse: false,
            bytes_max: 8 << 20,
            from: at_least.clone(),
            newest: false,
            at_least,
        }));
        self.expect("block", |reply| match reply {
            Reply::Block(block) => {
                Some(block.rows.iter().map(|row| (row.key.clone(), row.versions[0].value.clone())).collect())
            }
            Reply::ReadRefused { reason, .. } => panic!("{reason}"),
            _ => None,
        })
        .await
    }
}

pub(crate) fn closing() -> Closing {
    let run = RunId(77);
    Closing {
        seat: Seat(0),
        epoch: Epoch(1),
        run,
        ballot: Ballot { round: 2, proposer: run },
        settled: vec![],
        listed: vec![],
        bodies: vec![],
    }
}

pub(crate) fn id(seq: u64) -> TxnId {
    TxnId { seat: Seat(0), epoch: Epoch(1), seq: Seq(seq) }
}

pub(crate) fn at(seq: u64) -> Vector {
    let mut vector = Vector::new();
    vector.advance(Seat(0), Position { epoch: Epoch(1), seq: Seq(seq) });
    vector
}

/// Writes `key` as transaction `seq`; the key's version before was written by `base`.
pub(crate) fn txn(seq: u64, key: &str, base: Option<(u64, u64)>) -> SharedTxn {
    let base = base.map(|(height, seq)| Ver { height: Height(height), txn: id(seq) });
    let value = Some(Bytes::from(format!("value {seq}")));
    let write = Write { key: Bytes::copy_from_slice(key.as_bytes()), base, value };
    Arc::new(Txn { id: id(seq), deps: at(0), writes: vec![write], checks: vec![] })
}

/// As [`txn`], of a new key, with a value of this many bytes.
pub(crate) fn large(seq: u64, bytes: usize) -> SharedTxn {
    let key = Bytes::from(format!("large {seq:05}"));
    // No two the same, so that nothing is compressed away.
    let value = (0..bytes as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ seq as u8);
    let write = Write { key, base: None, value: Some(value.collect()) };
    Arc::new(Txn { id: id(seq), deps: at(0), writes: vec![write], checks: vec![] })
}

impl Client {
    /// The reason why a proposal is not voted on.
    pub(crate) async fn refusal(&mut self, txn: &SharedTxn) -> String {
        self.send(Request::Propose(txn.clone()));
        self.expect("refusal", |reply| match reply {
            Reply::Unable { txn: of, reason } if *of == txn.id => Some(reason.clone()),
            Reply::Voted { txn: of, .. } if *of == txn.id => panic!("it voted"),
            _ => None,
        })
        .await
    }
    /// The highest committed position the node knows, and what it holds.
    pub(crate) async fn index(&mut self, number: u64) -> (Vector, Vec<TxnId>) {
        self.send(Request::ReadIndex { id: number, holds: None });
        self.expect("index", |reply| match reply {
            Reply::Index { id, committed, pending, .. } if *id == number => {
                Some((committed.clone(), pending.clone()))
            }
            _ => None,
        })
        .await
    }
}

/// Looks at a condition that nobody announces until it holds.
pub(crate) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let search = async {
        loop {
            match look() {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    match tokio::time::timeout(PATIENCE, search).await {
        Ok(found) => found,
        Err(_) => panic!("{what} never happened"),
    }
}

/// Changes one bit of a file, as a bad disk would.
pub(crate) fn flip(path: &Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("a file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("it is that long");
    file.write_all_at(&[byte[0] ^ 4], at).expect("it is there");
    file.sync_all().expect("a disk");
}

impl Node {
    pub(crate) fn status(&self) -> StorageStatus {
        self.status.borrow().clone().expect("it has one")
    }
}
