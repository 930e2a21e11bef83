//! A storage node: `node-core`'s acceptor in a shell that does what `node/storage` does.
//!
//! The storage thread takes everything queued in one step, makes what it asks for durable in one write, and
//! only then answers. Rows follow later, and never know more than the log. Heartbeats, subscriptions and reads
//! of rows are answered beside it.

mod feed;
mod join;
mod registry;
mod step;

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use node_core::acceptor::{Acceptor, Action, Record, Rows};
use node_core::catch_up::CatchUp;
use node_core::ids::{Key, RunId, StorageId, Vector, Ver};
use node_core::membership::{Generation, Generations};
use node_core::quorum::Quorum;
use node_core::wire::{Block, FeedItem, Membership, Peer, ReadBlock, Reader, Reply, Request, Wire};

use crate::context::Context;
use crate::disk::{Disk, Opened};
use crate::faults::Plant;
use crate::net::{Address, Body, Event, Letter, MS, Micros, Place, run_of};
use crate::rows::RowStore;

use feed::Feed;
use join::Joining;
use registry::{Heard, Registry, Said};

/// The volume's identity.
const VOLUME: u64 = 1;
/// How long a read waits for the rows before it is refused.
const READ_WAIT: Micros = 5_000 * MS;
const TICK: Micros = 50 * MS;
const STATUS_EVERY: Micros = 200 * MS;

/// Versions of recently committed keys: an entry can vanish, but is never older than the rows.
#[derive(Default)]
pub(crate) struct Recent {
    young: HashMap<Key, Ver>,
    old: HashMap<Key, Ver>,
    half: usize,
}

impl Recent {
    fn get(&self, key: &Key) -> Option<Ver> {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }
    fn put(&mut self, key: &Key, ver: Ver) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key.clone(), ver);
    }
}

/// The rows as the acceptor sees them.
struct Latest<'a> {
    recent: &'a Recent,
    rows: &'a RowStore,
}

impl Rows for Latest<'_> {
    fn latest(&mut self, key: &Key) -> Option<Ver> {
        self.recent.get(key).or_else(|| self.rows.latest(key))
    }
}

/// Something for the storage thread.
pub(crate) enum Work {
    Request { from: Address, generation: u64, request: Request },
    PeerReply { peer: usize, under: Generations, reply: Reply },
    PeerDown(usize),
    Hurry,
}

/// What waits to be said.
pub(crate) struct Outgoing {
    to: Place,
    generation: u64,
    under: Generations,
    reply: Reply,
}

struct WaitingRead {
    from: Address,
    generation: u64,
    request: ReadBlock,
    until: Micros,
}

/// What a crash takes away.
pub(crate) struct Live {
    pub(crate) acceptor: Acceptor,
    recent: Recent,
    inbox: VecDeque<Work>,
    writing: bool,
    /// Said once the write under way is over.
    waiting: Vec<Outgoing>,
    /// Records not yet in the log; the first `in_write` of them are being written.
    pending: Vec<Bytes>,
    pending_since: Option<Micros>,
    must_persist: bool,
    hurry: bool,
    log_failed: bool,
    /// Decided, but the log does not say so yet.
    unlogged: Vec<FeedItem>,
    rows_queue: VecDeque<FeedItem>,
    rows_marker: Option<u64>,
    apply_scheduled: bool,
    free_before: u64,
    feed: Feed,
    pub(crate) registry: Registry,
    catch_up: CatchUp,
    reads: Vec<WaitingRead>,
    low: Vector,
    status_at: Micros,
    /// How far a disk that lost its votes has come back.
    joining: Option<Joining>,
}

/// One storage node: its disk, and while it runs the rest.
pub(crate) struct Node {
    pub(crate) index: usize,
    pub(crate) run: u64,
    quorum: Quorum,
    pub(crate) disk: Disk,
    pub(crate) rows: RowStore,
    pub(crate) membership: Membership,
    /// Which disk this is; durable, as the membership.
    generation: Generation,
    pub(crate) live: Option<Live>,
    feed_chunks: usize,
    recent_half: usize,
}

impl Node {
    /// A member of a volume that has just been formed; not yet started.
    pub(crate) fn new(index: usize, quorum: Quorum, context: &mut Context) -> Node {
        let random = &mut context.random;
        let segment_batches = random.between(4, 200) as usize;
        let retained = if random.chance(30) { random.between(20, 60) } else { 100_000 } as usize;
        Node {
            index,
            run: 0,
            quorum,
            disk: Disk::new(segment_batches),
            rows: RowStore::new(retained),
            membership: Membership::Member(VOLUME),
            generation: Generation::default(),
            live: None,
            feed_chunks: random.between(4, 64) as usize,
            recent_half: random.between(1, 16) as usize,
        }
    }
    pub(crate) fn address(&self) -> Address {
        Address { place: Place::Node(self.index), run: self.run }
    }
    pub(crate) fn is_member(&self) -> bool {
        matches!(self.membership, Membership::Member(_))
    }

    /// Reads the disk and begins to work.
    pub(crate) fn start(&mut self, context: &mut Context, first: bool) {
        self.run += 1;
        let mut acceptor = Acceptor::new(self.quorum);
        let mut recent = Recent { half: self.recent_half, ..Recent::default() };
        let applied_before = self.rows.applied().clone();
        let forgetful = context.plant == Plant::PromiseLostWithDisk;
        let opened = self.disk.open();
        if self.is_member() {
            match opened {
                Opened::Records(records) => self.replay(records, &mut acceptor, &mut recent),
                Opened::Empty if first || forgetful => {}
                Opened::Empty | Opened::Damaged => self.lose("the accept log is gone or damaged", context),
            }
        }
        if self.is_member() && !acceptor.ordering().ordered().covers(&applied_before) {
            self.lose("the rows know more than the accept log", context);
        }
        if !self.is_member() {
            acceptor = Acceptor::new(self.quorum);
        }
        self.rows.persist();
        let applied = self.rows.applied().clone();
        acceptor.applied(&applied);
        let ordered = acceptor.ordering().ordered().clone();
        context.oracle.node_started(self.index, &ordered);
        let live = Live {
            feed: Feed::new(ordered, self.feed_chunks),
            acceptor,
            recent,
            inbox: VecDeque::new(),
            writing: false,
            waiting: Vec::new(),
            pending: Vec::new(),
            pending_since: None,
            must_persist: false,
            hurry: false,
            log_failed: false,
            unlogged: Vec::new(),
            rows_queue: VecDeque::new(),
            rows_marker: None,
            apply_scheduled: false,
            free_before: 0,
            registry: Registry::new(context.now, first),
            catch_up: CatchUp::new(id(self.index), self.quorum.nodes()),
            reads: Vec::new(),
            low: Vector::new(),
            status_at: 0,
            joining: None,
        };
        self.live = Some(live);
        self.note_writer();
        if self.is_member() {
            self.begin_segment(context);
        } else {
            self.begin_join(context);
        }
        context.note(|| format!("node {} starts as run {}: {:?}", self.index, self.run, self.membership));
        let address = self.address();
        context.net.schedule(context.now + TICK, Event::NodeTick(address));
    }

    /// The node has lost what it promised, and does not vote any more.
    ///
    /// It comes back as a new disk: see `join`.
    pub(crate) fn lose(&mut self, why: &str, context: &mut Context) {
        self.membership = Membership::Lost(VOLUME);
        self.disk.wipe();
        context.oracle.node_lost(self.index);
        context.note(|| format!("node {} is lost: {why}", self.index));
    }

    fn replay(&mut self, records: Vec<Bytes>, acceptor: &mut Acceptor, recent: &mut Recent) {
        for bytes in records {
            let record = Record::get(&mut Reader::new(bytes)).expect("the log holds what was put into it");
            let mut actions = Vec::new();
            acceptor.replay(record, &mut Latest { recent, rows: &self.rows }, &mut actions);
            for action in actions {
                if let Action::Feed(items) = action {
                    self.rows.apply(items, &Vector::new());
                }
            }
        }
        // A checkpoint restores what it was made of.
        let mut again = Acceptor::new(self.quorum);
        let checkpoint = acceptor.checkpoint();
        let bytes = Record::Checkpoint(checkpoint.clone()).to_bytes();
        let record = Record::get(&mut Reader::new(bytes)).expect("it was just written");
        again.replay(record, &mut Latest { recent, rows: &self.rows }, &mut Vec::new());
        assert_eq!(again.checkpoint(), checkpoint, "a checkpoint restores what it was made of");
    }

    /// The process ends without warning; `power`: the machine does.
    pub(crate) fn crash(&mut self, power: bool, context: &mut Context) {
        if self.live.take().is_none() {
            return;
        }
        self.disk.crash(&mut context.random);
        if power {
            self.rows.lose_power(&mut context.random);
        }
        context.note(|| format!("node {} crashes{}", self.index, if power { ": power" } else { "" }));
    }

    /// Its disk is gone for good, and replaced by an empty one.
    pub(crate) fn lose_disk(&mut self, context: &mut Context) {
        self.crash(true, context);
        self.disk.wipe();
        self.rows.wipe();
        context.note(|| format!("node {} loses its disk", self.index));
    }

    // ---- what arrives ----

    /// A message has arrived.
    pub(crate) fn receive(&mut self, letter: Letter, context: &mut Context) {
        if self.live.is_none() {
            return;
        }
        let Letter { from, generation, under, body, .. } = letter;
        match (body, from.place) {
            (Body::Reply(reply), Place::Node(peer)) => {
                self.push(Work::PeerReply { peer, under, reply }, context)
            }
            (Body::Reply(_), Place::Instance(_)) => {}
            (Body::Request(request), _) => self.asked(from, generation, request, context),
        }
    }

    fn push(&mut self, work: Work, context: &mut Context) {
        let address = self.address();
        let Some(live) = &mut self.live else { return };
        if live.inbox.is_empty() && !live.writing {
            context.net.schedule(context.now + 5, Event::NodeStep(address));
        }
        live.inbox.push_back(work);
    }

    fn asked(&mut self, from: Address, generation: u64, request: Request, context: &mut Context) {
        let member = self.is_member();
        let Some(live) = &mut self.live else { return };
        match request {
            Request::Hello { peer, .. } => {
                if let Peer::Instance { .. } = &peer {
                    let news = live.registry.connected(peer, from, generation, context.now);
                    if !news {
                        return;
                    }
                }
                let (id, run) = (id(self.index), RunId(self.run));
                let zone = format!("zone-{}", self.index % 3);
                let reply = Reply::Welcome { id, run, membership: self.membership, zone };
                self.say(from.place, generation, reply, context);
                self.tell_topology(context);
            }
            Request::Heartbeat { beat, role, epoch, applied, low, .. } => {
                let said = Said { role, epoch, applied, low };
                let heard = live.registry.heard(from.run, generation, said, context.now);
                let Some(Heard { news, lease }) = heard else { return };
                self.say(from.place, generation, Reply::Beat { beat, lease }, context);
                if news {
                    self.tell_topology(context);
                }
            }
            Request::Subscribe { from: at } => self.subscribe(from, generation, at, context),
            Request::Read(read) => {
                if !member {
                    self.refuse(from, generation, read.id, "not a member of the volume", context);
                } else if !read.newest && !read.from.is_empty() && !read.from.covers(&live.low) {
                    self.refuse(
                        from,
                        generation,
                        read.id,
                        "the snapshot is older than what is kept",
                        context,
                    );
                } else if self.rows.applied().covers(&read.at_least) {
                    self.answer_read(from, generation, &read, context);
                } else {
                    let until = context.now + READ_WAIT;
                    live.reads.push(WaitingRead { from, generation, request: read, until });
                    self.hurry_rows(context);
                    self.push(Work::Hurry, context);
                }
            }
            request => self.push(Work::Request { from, generation, request }, context),
        }
    }

    fn refuse(&self, to: Address, generation: u64, id: u64, reason: &str, context: &mut Context) {
        let reply = Reply::ReadRefused { id, reason: reason.to_owned() };
        self.say(to.place, generation, reply, context);
    }

    fn send_block(&self, to: Address, generation: u64, block: Block, context: &mut Context) {
        context.oracle.check_block(&block, self.index);
        self.say(to.place, generation, Reply::Block(block), context);
    }

    fn say(&self, to: Place, generation: u64, reply: Reply, context: &mut Context) {
        let (under, body) = (self.generations(), Body::Reply(reply));
        context.send(Letter { from: self.address(), to, generation, under, body });
    }

    fn ask(&self, peer: usize, request: Request, context: &mut Context) {
        let body = Body::Request(request);
        let (to, under) = (Place::Node(peer), Generations::default());
        context.send(Letter { from: self.address(), to, generation: 0, under, body });
    }

    fn generations(&self) -> Generations {
        self.live.as_ref().map_or_else(Generations::default, |live| live.acceptor.generations())
    }

    /// A connection of an instance is gone; `ended`: the instance knows, or is gone.
    pub(crate) fn hung_up(&mut self, generation: u64, ended: bool, context: &mut Context) {
        let Some(live) = &mut self.live else { return };
        if live.registry.disconnected(run_of(generation), generation, ended, context.now) {
            self.tell_topology(context);
        }
    }

    /// A peer's connection is gone.
    pub(crate) fn peer_down(&mut self, peer: usize, context: &mut Context) {
        self.push(Work::PeerDown(peer), context);
    }

    // ---- rows ----

    fn hurry_rows(&mut self, context: &mut Context) {
        let address = self.address();
        let Some(live) = &mut self.live else { return };
        if !live.rows_queue.is_empty() {
            live.apply_scheduled = true;
            context.net.schedule(context.now + 50, Event::NodeApply(address));
        }
    }

    /// Gives the rows what the log knows.
    fn release_rows(&mut self, context: &mut Context) {
        let address = self.address();
        let Some(live) = &mut self.live else { return };
        live.rows_queue.extend(std::mem::take(&mut live.unlogged));
        if (!live.rows_queue.is_empty() || live.rows_marker.is_some()) && !live.apply_scheduled {
            live.apply_scheduled = true;
            let delay = if live.reads.is_empty() { 10 * MS } else { 100 };
            let delay = if context.now < self.disk.slow_until { delay * 20 } else { delay };
            context.net.schedule(context.now + delay, Event::NodeApply(address));
        }
    }

    /// Applies some of what is queued.
    pub(crate) fn apply_rows(&mut self, context: &mut Context) {
        let address = self.address();
        let Some(live) = &mut self.live else { return };
        live.apply_scheduled = false;
        let count = context.random.between(1, 64).min(live.rows_queue.len() as u64) as usize;
        let items: Vec<FeedItem> = live.rows_queue.drain(..count).collect();
        let low = live.low.clone();
        self.rows.apply(items, &low);
        assert!(
            live.acceptor.ordering().ordered().covers(self.rows.applied()),
            "the rows of node {} know more than what is ordered",
            self.index
        );
        if live.rows_queue.is_empty()
            && let Some(generation) = live.rows_marker.take()
        {
            self.rows.persist();
            live.free_before = generation;
        }
        if !live.rows_queue.is_empty() {
            live.apply_scheduled = true;
            context.net.schedule(context.now + 200, Event::NodeApply(address));
        }
        let applied = self.rows.applied();
        let ready: Vec<WaitingRead> =
            live.reads.extract_if(.., |read| applied.covers(&read.request.at_least)).collect();
        for WaitingRead { from, generation, request, .. } in ready {
            self.answer_read(from, generation, &request, context);
        }
    }

    /// As of the rows now: versions may have been removed while the read waited, or before a restart.
    fn answer_read(&self, from: Address, generation: u64, request: &ReadBlock, context: &mut Context) {
        if !request.newest && !request.from.covers(self.rows.complete_from()) {
            return self.refuse(
                from,
                generation,
                request.id,
                "the snapshot is older than what is kept",
                context,
            );
        }
        let block = self.rows.read_block(request);
        self.send_block(from, generation, block, context);
    }

    // ---- time ----

    /// Housekeeping, every 50 ms.
    pub(crate) fn tick(&mut self, context: &mut Context) {
        let address = self.address();
        let Some(live) = &mut self.live else { return };
        let now = context.now;
        let late: Vec<WaitingRead> = live.reads.extract_if(.., |read| read.until <= now).collect();
        let status = now >= live.status_at;
        if status {
            live.status_at = now + STATUS_EVERY;
        }
        for read in late {
            self.refuse(read.from, read.generation, read.request.id, "the rows are not here yet", context);
        }
        self.tell_topology(context);
        if status {
            self.ask_peers(context);
        }
        context.net.schedule(now + TICK, Event::NodeTick(address));
    }

    fn ask_peers(&mut self, context: &mut Context) {
        let Some(live) = &self.live else { return };
        let settled = live.acceptor.settled();
        for peer in (0..self.quorum.nodes()).filter(|peer| *peer != self.index) {
            let request = Request::Status { membership: self.membership, settled: settled.clone() };
            self.ask(peer, request, context);
        }
        // Questions to peers are asked by the storage thread.
        self.push(Work::Hurry, context);
    }
}

/// A storage node's number on the wire.
fn id(node: usize) -> StorageId {
    StorageId(u8::try_from(node).expect("a volume has at most six nodes"))
}
