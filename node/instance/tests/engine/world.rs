//! An honest little volume in memory for several engines: versions, first-committer-wins votes, a feed that
//! is delivered when a test says so, and block reads of any size.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use node_core::ids::{Epoch, Key, Seat, Seq, TxnId, Vector};
use node_core::quorum::Mode;
use node_core::txn::{SharedTxn, Txn};
use node_core::wire::{Block, FeedItem, RowVersion, RowVersions};
use node_instance::engine::{Engine, EngineConfig, EngineStore, Role};
use node_instance::volume_api::{BlockRequest, CommitError, Proposal, Volume, VolumeError};
use node_sql::store::{Freshness, Isolation, Store, StoreTxn, TxnOptions};
use parking_lot::{Condvar, Mutex};

/// What every node of the volume knows.
#[derive(Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Oldest version first.
    rows: BTreeMap<Key, Vec<RowVersion>>,
    log: Vec<SharedTxn>,
    seqs: BTreeMap<Seat, u64>,
}

impl State {
    fn latest(&self, key: &Key) -> Option<node_core::ids::Ver> {
        self.rows.get(key).and_then(|chain| chain.last()).map(|version| version.ver)
    }
    fn vector(&self) -> Vector {
        let mut vector = Vector::new();
        for (seat, seq) in &self.seqs {
            vector.advance(*seat, TxnId { seat: *seat, epoch: Epoch(1), seq: Seq(*seq) }.position());
        }
        vector
    }
}

/// One instance's way to the volume.
pub(crate) struct Link {
    shared: Arc<Shared>,
    seat: Seat,
    engine: OnceLock<Arc<Engine>>,
    delivered: Mutex<usize>,
    pub(crate) reads: AtomicU64,
    pub(crate) lease: AtomicBool,
    pub(crate) fenced: AtomicBool,
    pub(crate) proposals: Mutex<Vec<Proposal>>,
    /// While closed, block reads wait here.
    gate: (Mutex<bool>, Condvar),
    pub(crate) waiting_reads: AtomicUsize,
}

impl Link {
    /// Delivers all decided transactions to the engine.
    pub(crate) fn deliver(&self) {
        let mut delivered = self.delivered.lock();
        let items: Vec<FeedItem> =
            self.shared.state.lock().log[*delivered..].iter().cloned().map(FeedItem::Commit).collect();
        *delivered += items.len();
        self.engine.get().expect("the engine is attached").apply(&items);
    }
    pub(crate) fn close_gate(&self) {
        *self.gate.0.lock() = true;
    }
    pub(crate) fn open_gate(&self) {
        *self.gate.0.lock() = false;
        self.gate.1.notify_all();
    }
}

impl Volume for Link {
    fn read_block(&self, request: BlockRequest) -> Result<Block, VolumeError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.waiting_reads.fetch_add(1, Ordering::SeqCst);
        let mut closed = self.gate.0.lock();
        while *closed {
            if self.gate.1.wait_for(&mut closed, Duration::from_secs(20)).timed_out() {
                return Err(VolumeError::Unavailable("the gate stayed closed".into()));
            }
        }
        drop(closed);
        let state = self.shared.state.lock();
        let at = state.vector();
        assert!(at.covers(&request.at_least) && at.covers(&request.from));
        let (mut start, mut end) = (request.start.clone(), request.end.clone());
        let mut rows = Vec::new();
        let mut bytes = 0;
        let upper = request.end.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let all = state.rows.range((Bound::Included(request.start.clone()), upper));
        let all: Box<dyn Iterator<Item = _>> =
            if request.reverse { Box::new(all.rev()) } else { Box::new(all) };
        for (key, chain) in all {
            if bytes >= request.bytes_max as usize {
                if !request.reverse {
                    end = Some(key.clone());
                }
                break;
            }
            let mut versions = Vec::new();
            for version in chain.iter().rev() {
                bytes += 64 + version.value.as_ref().map_or(0, Bytes::len);
                versions.push(version.clone());
                if request.from.sees(version.ver.txn) {
                    break;
                }
            }
            if request.reverse {
                start = key.clone();
            }
            rows.push(RowVersions { key: key.clone(), versions });
        }
        if request.reverse {
            rows.reverse();
            if bytes < request.bytes_max as usize {
                start = request.start.clone();
            }
        }
        Ok(Block { id: 0, start, end, rows, at })
    }

    fn commit(&self, proposal: Proposal) -> Result<TxnId, CommitError> {
        if self.fenced.load(Ordering::SeqCst) {
            return Err(CommitError::Fenced);
        }
        self.proposals.lock().push(proposal.clone());
        let mut state = self.shared.state.lock();
        assert!(state.vector().covers(&proposal.deps));
        assert!(proposal.writes.is_sorted_by(|a, b| a.key < b.key) && !proposal.writes.is_empty());
        let mut needed = proposal.writes.iter().map(|write| (&write.key, write.base));
        let stale = needed.find(|(key, base)| state.latest(key) != *base);
        let stale = stale.or(proposal
            .checks
            .iter()
            .map(|check| (&check.key, check.base))
            .find(|(key, base)| state.latest(key) != *base));
        if let Some((key, _)) = stale {
            return Err(CommitError::Conflict(format!("{key:?} is stale")));
        }
        let seq = state.seqs.entry(self.seat).or_default();
        *seq += 1;
        let id = TxnId { seat: self.seat, epoch: Epoch(1), seq: Seq(*seq) };
        let Proposal { deps, writes, checks } = proposal;
        for write in &writes {
            let version = RowVersion { ver: write.version(id), value: write.value.clone() };
            state.rows.entry(write.key.clone()).or_default().push(version);
        }
        state.log.push(Arc::new(Txn { id, deps, writes, checks }));
        drop(state);
        self.deliver();
        Ok(id)
    }

    fn read_index(&self, _: &AtomicBool) -> Result<Vector, VolumeError> {
        self.deliver();
        Ok(self.shared.state.lock().vector())
    }

    fn lease_valid(&self) -> bool {
        self.lease.load(Ordering::SeqCst)
    }
}

/// An instance: engine, store and its link.
#[derive(Clone)]
pub(crate) struct Instance {
    pub(crate) engine: Arc<Engine>,
    pub(crate) store: EngineStore,
    pub(crate) link: Arc<Link>,
}

impl Shared {
    pub(crate) fn new() -> Arc<Shared> {
        Arc::new(Shared::default())
    }

    /// A further instance that writes from the seat.
    pub(crate) fn instance(self: &Arc<Self>, mode: Mode, seat: u16, cache_bytes: usize) -> Instance {
        let mut config = EngineConfig::new(mode, seat, cache_bytes);
        config.lease_wait = Duration::from_millis(200);
        config.write_set_bytes = 1 << 20;
        let link = Arc::new(Link {
            shared: self.clone(),
            seat: Seat(seat),
            engine: OnceLock::new(),
            delivered: Mutex::new(0),
            reads: AtomicU64::new(0),
            lease: AtomicBool::new(true),
            fenced: AtomicBool::new(false),
            proposals: Mutex::new(Vec::new()),
            gate: (Mutex::new(false), Condvar::new()),
            waiting_reads: AtomicUsize::new(0),
        });
        let engine = Arc::new(Engine::new(config));
        assert!(link.engine.set(engine.clone()).is_ok(), "set once");
        engine.set_role(Role::Writer { seat: Seat(seat) });
        link.deliver();
        Instance { store: EngineStore::new(engine.clone(), link.clone()), engine, link }
    }
}

impl Instance {
    pub(crate) fn begin(&self) -> Box<dyn StoreTxn> {
        self.store.begin(options())
    }
    pub(crate) fn begin_with(&self, change: impl FnOnce(&mut TxnOptions)) -> Box<dyn StoreTxn> {
        let mut options = options();
        change(&mut options);
        self.store.begin(options)
    }
    /// One autocommit change.
    pub(crate) fn put(&self, key: &Key, value: &str) {
        let mut txn = self.begin();
        txn.put(key.clone(), Bytes::copy_from_slice(value.as_bytes())).expect("it may write");
        txn.commit().expect("nobody else writes");
    }
}

pub(crate) fn options() -> TxnOptions {
    TxnOptions {
        isolation: Isolation::RepeatableRead,
        freshness: Freshness::Local,
        snapshot_isolation: false,
        read_only: false,
        lock_wait: Duration::from_secs(20),
        killed: Arc::new(AtomicBool::new(false)),
    }
}

/// A key of table 1.
pub(crate) fn key(n: u32) -> Key {
    let mut bytes = vec![0, 0, 0, 1, 0, 0, 0, 1];
    bytes.extend(n.to_be_bytes());
    bytes.into()
}

pub(crate) fn value(text: &str) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(text.as_bytes()))
}
