//! The storage thread: takes everything queued, steps the acceptor, makes what it asks for durable in one
//! write, and only then answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use node_core::acceptor::{Acceptor, Action, Record, Rows};
use node_core::catch_up::{self, CatchUp};
use node_core::coordinator::Millis;
use node_core::election::WRITER_SEAT;
use node_core::ids::{Key, KeyMap, StorageId, TxnId, Vector, Ver};
use node_core::membership::{Generation as DiskGeneration, Generations};
use node_core::quorum::Mode;
use node_core::wire::{FeedItem, Membership, Reply, Request, Vote, Wire};

use crate::accept_log::{AcceptLog, Generation, LogError};
use crate::connection::Connection;
use crate::disk;
use crate::join::{self, Joining};
use crate::membership::{self, MembershipError, Place};
use crate::reads::{Job, chain};
use crate::repair;
use crate::rows::{RowsError, RowsHandle};
use crate::shared::{Published, Shared, Work};
use crate::status::count;

/// Notes are written at the latest after this, with votes or alone.
const NOTES_DELAY: Duration = Duration::from_millis(50);
/// Notes are written at the latest when they are this long.
const NOTES_BYTES_MAX: usize = 1 << 20;
/// Undecided transactions with a record here: more proposals are refused. Each is repeated in every checkpoint.
const UNDECIDED_MAX: usize = 20_000;
/// Decisions known ahead of one that is missing: more are not taken, but fetched in order later.
const AHEAD_MAX: usize = 100_000;
/// While the log cannot be written, no more than this is remembered for it.
const STUCK_BYTES_MAX: usize = 32 << 20;
const LOG_RETRY: Duration = Duration::from_millis(200);
const PUBLISH_DELAY: Duration = Duration::from_millis(50);
const DISK_CHECK: Duration = Duration::from_millis(500);
/// Free space below which the node takes no more proposals (or a tenth of a small disk).
const DISK_RESERVE_BYTES: u64 = 64 << 20;
/// Versions remembered of recently committed keys: half of them at least.
const RECENT_MAX: usize = 32_768;

/// The storage thread cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The rows cannot be read or written.
    #[error("the row store failed")]
    Rows {
        /// Why.
        #[source]
        source: RowsError,
    },
    /// A disk that is readmitted cannot begin its accept log.
    #[error("failed to begin a new accept log")]
    Readmission {
        /// Why.
        #[source]
        source: LogError,
    },
    /// The membership cannot be written.
    #[error("failed to write the membership")]
    Membership {
        /// Why.
        #[source]
        source: MembershipError,
    },
    /// This disk is of no use any more as it is: the node has to be started again, and comes back as a new one.
    #[error("{reason}; start this storage node again: it then copies the volume from the others")]
    Leave {
        /// Why.
        reason: String,
    },
}

/// Versions of recently committed keys, before the rows. Only what was committed is put in, never what was
/// read, so an entry can vanish but never be older than the rows.
#[derive(Default)]
struct Recent {
    young: KeyMap<Ver>,
    old: KeyMap<Ver>,
}

impl Recent {
    fn get(&self, key: &Key) -> Option<Ver> {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }
    fn put(&mut self, key: &Key, ver: Ver) {
        if self.young.len() >= RECENT_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key.clone(), ver);
    }
}

/// The rows as the acceptor sees them.
pub(crate) struct LatestRows {
    store: RowsHandle,
    recent: Recent,
    /// The first error; nothing that was decided after it may be told to anybody.
    failed: Option<RowsError>,
}

impl LatestRows {
    pub(crate) fn new(store: RowsHandle) -> LatestRows {
        LatestRows { store, recent: Recent::default(), failed: None }
    }
    /// What was committed recently is of another time.
    pub(crate) fn forget(&mut self) {
        self.recent = Recent::default();
    }
    /// The first error, if there was one.
    pub(crate) fn failed(&mut self) -> Option<RowsError> {
        self.failed.take()
    }
}

impl Rows for LatestRows {
    fn latest(&mut self, key: &Key) -> Option<Ver> {
        if let Some(ver) = self.recent.get(key) {
            return Some(ver);
        }
        match self.store.read_patiently(|store| store.latest(key)) {
            Ok(ver) => ver,
            Err(error) => {
                self.failed.get_or_insert(error);
                None
            }
        }
    }
}

/// Replies of one step to one connection.
struct Replies {
    to: Arc<Connection>,
    bytes: BytesMut,
    /// What the connection has been told of the disks when it has read this far.
    told: Generations,
}

/// Replies of one step, by connection. Before the first reply given under new generations the connection is
/// told of them.
struct Outgoing {
    generations: Generations,
    replies: Vec<Replies>,
}

impl Outgoing {
    fn new(generations: Generations) -> Outgoing {
        Outgoing { generations, replies: Vec::new() }
    }
    fn add(&mut self, to: &Arc<Connection>, reply: &Reply) {
        let index = match self.replies.iter().position(|replies| replies.to.id == to.id) {
            Some(index) => index,
            None => {
                let told = *to.told.lock();
                self.replies.push(Replies { to: to.clone(), bytes: BytesMut::new(), told });
                self.replies.len() - 1
            }
        };
        let replies = &mut self.replies[index];
        if replies.told != self.generations {
            replies.told = self.generations;
            Reply::Generations(self.generations).put(&mut replies.bytes);
        }
        reply.put(&mut replies.bytes);
    }
    fn send(self) {
        for Replies { to, bytes, told } in self.replies {
            *to.told.lock() = told;
            // Whoever hung up asks again elsewhere, or later.
            let _ = to.sender.send_encoded(&bytes);
        }
    }
}

/// The storage thread's state.
pub(crate) struct Driver {
    pub(crate) shared: Arc<Shared>,
    pub(crate) place: Place,
    pub(crate) acceptor: Acceptor,
    pub(crate) rows: LatestRows,
    /// `None` when the disk is lost.
    pub(crate) log: Option<AcceptLog>,
    pub(crate) catch_up: CatchUp,
    /// Random: names what this run begins.
    pub(crate) proposal: u64,
    /// Which disk this is.
    pub(crate) generation: DiskGeneration,
    /// How far a disk that lost its votes has come back.
    pub(crate) joining: Option<Joining>,
    /// The clock of the state machines begins here.
    started: Instant,
    /// Records not yet in the log.
    pending: Vec<Bytes>,
    pending_bytes: usize,
    pending_since: Option<Instant>,
    /// Decided, but the log does not say so yet: not for the rows, which must never know more than the log.
    pub(crate) unlogged: Vec<FeedItem>,
    /// The next write begins a new segment: an older one is damaged.
    renew: bool,
    /// A reply waits for what is pending.
    must_persist: bool,
    /// A read waits for rows.
    hurry: bool,
    pub(crate) seats_changed: bool,
    log_failed: Option<String>,
    disk_full: Option<String>,
    disk_checked: Option<Instant>,
    published_at: Option<Instant>,
    pub(crate) unpublished: bool,
    actions: Vec<Action>,
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        place: Place,
        acceptor: Acceptor,
        rows: LatestRows,
        log: Option<AcceptLog>,
        generation: DiskGeneration,
        proposal: u64,
    ) -> Driver {
        let catch_up = CatchUp::new(place.id, place.nodes);
        let lost = matches!(*shared.membership.lock(), Membership::Lost(_));
        let joining = lost.then(|| Joining::new(place.id, acceptor.quorum(), generation, proposal, &shared));
        *shared.seats.lock() = acceptor.seats();
        let driver = Driver {
            shared,
            place,
            acceptor,
            rows,
            log,
            catch_up,
            proposal,
            generation,
            joining,
            started: Instant::now(),
            pending: Vec::new(),
            pending_bytes: 0,
            pending_since: None,
            unlogged: Vec::new(),
            renew: false,
            must_persist: false,
            hurry: false,
            seats_changed: false,
            log_failed: None,
            disk_full: None,
            disk_checked: None,
            published_at: None,
            unpublished: true,
            actions: Vec::new(),
        };
        driver.note_writer();
        driver
    }

    /// Works until the inbox is stopped and empty.
    pub(crate) fn run(mut self) -> Result<(), DriverError> {
        self.publish_status(Instant::now());
        loop {
            let deadline = self.deadline();
            let Some(work) = self.shared.inbox.take(deadline) else { break };
            self.step(work)?;
        }
        self.flush();
        Ok(())
    }

    /// When something is to be done although nobody asks.
    fn deadline(&self) -> Option<Instant> {
        let notes = self.pending_due();
        let publish = self.published_at.filter(|_| self.unpublished).map(|at| at + PUBLISH_DELAY);
        let join = self.joining.as_ref().map(|_| Instant::now() + join::TICK);
        notes.into_iter().chain(publish).chain(join).min()
    }

    fn step(&mut self, work: VecDeque<Work>) -> Result<(), DriverError> {
        let now = Instant::now();
        self.unpublished |= !work.is_empty();
        self.look_around(now);
        let mut outgoing = Outgoing::new(self.acceptor.generations());
        for work in work {
            match work {
                Work::Requests { connection, requests } => {
                    count(&self.shared.counters.requests, requests.len() as u64);
                    for request in requests {
                        self.request(&connection, request, &mut outgoing);
                    }
                }
                Work::Replies { peer, replies } => {
                    for reply in replies {
                        self.peer_reply(peer, reply, now)?;
                    }
                }
                Work::PeerDown(peer) => {
                    self.catch_up.down(peer);
                    self.join_peer_down(peer, now)?;
                }
                Work::Hurry => self.hurry = true,
                Work::LogSegments(answer) => {
                    // If nobody takes it, the node stops.
                    let _ = answer.send(self.log.as_ref().map_or(Vec::new(), AcceptLog::live));
                }
                Work::LogDamaged { generation, answer } => {
                    let live = self.log.as_mut().is_some_and(|log| log.set_damaged(generation));
                    if live {
                        self.renew = true;
                        self.pending_since.get_or_insert(now);
                        self.flush();
                    }
                    let _ = answer.send(live);
                }
            }
        }
        self.join_tick(now)?;
        if let Some(source) = self.rows.failed() {
            if source.is_damage() {
                repair::rows_damaged(&self.shared, chain(&source));
            }
            return Err(DriverError::Rows { source });
        }
        self.mind_generation(now)?;
        if self.persist(now) {
            outgoing.send();
        }
        if std::mem::take(&mut self.seats_changed) {
            *self.shared.seats.lock() = self.acceptor.seats();
            self.shared.topology_changed.notify_one();
        }
        self.fetch(now);
        if self.unpublished && self.published_at.is_none_or(|at| at + PUBLISH_DELAY <= now) {
            self.publish_status(now);
        }
        Ok(())
    }

    /// What other threads have done meanwhile, and whether the disk still has room.
    fn look_around(&mut self, now: Instant) {
        let applied = self.shared.applied.lock().clone();
        self.acceptor.applied(&applied);
        let free_before = Generation(self.shared.log_free_before.load(Ordering::Acquire));
        if let Some(log) = &mut self.log
            && let Err(error) = log.drop_before(free_before)
        {
            tracing::warn!(error = %chain(&error), "old log segments stay for now");
        }
        if self.disk_checked.is_none_or(|at| at + DISK_CHECK <= now) {
            self.disk_checked = Some(now);
            let full = match disk::space(&self.shared.config.data_dir) {
                Ok(space) => space.free < DISK_RESERVE_BYTES.min(space.total / 10),
                // Unknown is not full: the write itself will tell.
                Err(_) => false,
            };
            if full != self.disk_full.is_some() {
                tracing::warn!(full, "room on the disk");
            }
            self.disk_full = full.then(|| self.shared.describe_full());
            if let (false, Some(log)) = (full, &mut self.log)
                && let Err(error) = log.reserve()
            {
                tracing::warn!(error = %chain(&error), "no room for a spare segment of the log");
            }
        }
    }

    // ---- requests ----

    fn request(&mut self, from: &Arc<Connection>, request: Request, outgoing: &mut Outgoing) {
        match request {
            Request::Status { settled, .. } => {
                let membership = *self.shared.membership.lock();
                outgoing.add(from, &catch_up::status(&self.acceptor, membership, &settled));
            }
            Request::Base { id } => {
                if self.shared.is_member() {
                    outgoing.add(from, &Reply::Base { id, checkpoint: self.acceptor.base() });
                }
            }
            Request::Fetch { id, txns } => {
                let known = catch_up::known(self.acceptor.ordering(), txns);
                // Without an answer the asker asks another node, or again.
                self.shared.reads.offer(Job::Bodies { connection: from.clone(), id, known });
            }
            Request::Decide { txn, .. } => {
                if self.takes_decision(txn) {
                    self.handle(Some(from), request, outgoing);
                }
            }
            Request::Activated(_) => {
                if self.shared.is_member() && self.pending_bytes < STUCK_BYTES_MAX {
                    self.handle(Some(from), request, outgoing);
                }
            }
            Request::ReadIndex { .. } | Request::Generations(_) => {
                if self.shared.is_member() && self.log_failed.is_none() {
                    self.handle(Some(from), request, outgoing);
                }
            }
            request => match self.refusal_of(&request) {
                None => match self.leased(&request) {
                    Some(reply) => outgoing.add(from, &reply),
                    None => self.handle(Some(from), request, outgoing),
                },
                Some(reason) => {
                    if let Some(txn) = subject(&request) {
                        outgoing.add(from, &Reply::Unable { txn, reason });
                    }
                }
            },
        }
    }

    /// Whether a decision is taken now. What is not is fetched later, in order: so neither a node that takes
    /// no proposals nor one that lacks something gathers what it cannot use yet.
    fn takes_decision(&self, txn: TxnId) -> bool {
        if !self.shared.is_member() || self.pending_bytes >= STUCK_BYTES_MAX {
            return false;
        }
        let behind = self.refusal().is_some() || self.acceptor.ordering().ahead_len() >= AHEAD_MAX;
        let next = self.acceptor.ordering().settled(txn.stream()).0 + 1;
        !behind || self.acceptor.has_state(txn) || txn.seq.0 == next
    }

    /// Why a request of the protocol is refused, for a person. With a full disk only what is new is: what was
    /// begun is decided in the room that is reserved for it.
    fn refusal_of(&self, request: &Request) -> Option<String> {
        match request {
            Request::Propose(txn) if !self.acceptor.has_state(txn.id) => self.refusal(),
            _ => self.cannot_vote(),
        }
    }

    /// What whoever wants the writer's seat is told while its holder has a lease.
    fn leased(&self, request: &Request) -> Option<Reply> {
        match *request {
            Request::Fence { seat: WRITER_SEAT, epoch, run, ballot }
                if self.place.mode == Mode::SingleMaster =>
            {
                let admitted = self.shared.instances.lock().admits(run, epoch, Instant::now());
                (!admitted).then_some(Reply::Leased { seat: WRITER_SEAT, epoch, ballot })
            }
            _ => None,
        }
    }

    /// Whom the writer's seat belongs to, before anybody is told.
    pub(crate) fn note_writer(&self) {
        self.shared.instances.lock().writer_epoch(self.acceptor.granted(WRITER_SEAT));
    }

    /// Why this node takes no proposals now, for a person.
    fn refusal(&self) -> Option<String> {
        let stuck = || self.shared.rows_stuck.lock().clone();
        let crowded = || {
            (self.acceptor.undecided() >= UNDECIDED_MAX).then(|| {
                format!(
                    "storage node {}: {UNDECIDED_MAX} transactions are undecided, and it takes no more until \
                     some are decided",
                    self.place.id.0
                )
            })
        };
        self.cannot_vote().or_else(|| self.disk_full.clone()).or_else(stuck).or_else(crowded)
    }

    /// Why this node makes no promises now, for a person.
    fn cannot_vote(&self) -> Option<String> {
        match *self.shared.membership.lock() {
            Membership::Member(_) => {}
            Membership::Empty | Membership::Forming(_) => {
                return Some("the volume is not formed yet: it needs all its storage nodes once".to_owned());
            }
            Membership::Lost(_) => {
                let id = self.place.id.0;
                let lost = match &*self.shared.marked.lock() {
                    Some(reason) => format!("storage node {id}: its rows are damaged ({reason})"),
                    None => format!("storage node {id} lost its disk"),
                };
                let state = self.joining.as_ref().map(Joining::describe).unwrap_or_default();
                return Some(format!("{lost} and is being readmitted: {state}"));
            }
        }
        self.log_failed.clone()
    }

    fn handle(&mut self, from: Option<&Arc<Connection>>, request: Request, outgoing: &mut Outgoing) {
        let mut actions = std::mem::take(&mut self.actions);
        let fence = matches!(request, Request::Fence { .. });
        self.acceptor.handle(request, &mut self.rows, &mut actions);
        for action in actions.drain(..) {
            match action {
                Action::Persist(record) => {
                    self.must_persist = true;
                    self.remember(&record);
                }
                Action::Note(record) => self.remember(&record),
                Action::Reply(reply) => {
                    if let Reply::Voted { vote, .. } = &reply {
                        count(&self.shared.counters.votes, 1);
                        count(&self.shared.counters.accepts, u64::from(*vote == Vote::Accept));
                    }
                    if let Some(from) = from {
                        outgoing.add(from, &reply);
                    }
                }
                Action::Feed(items) => self.feed(items),
                Action::SeatsChanged => self.seats_changed = true,
                Action::GenerationsChanged => outgoing.generations = self.acceptor.generations(),
            }
        }
        self.actions = actions;
        // Also where a fence was refused that the vigil had admitted.
        if fence || self.seats_changed {
            self.note_writer();
        }
    }

    /// Takes what nobody waits for an answer to.
    pub(crate) fn take(&mut self, request: Request) {
        let mut nobody = Outgoing::new(self.acceptor.generations());
        self.handle(None, request, &mut nobody);
    }

    pub(crate) fn feed(&mut self, items: Vec<FeedItem>) {
        for item in &items {
            if let FeedItem::Commit(txn) = item {
                for write in &txn.writes {
                    self.rows.recent.put(&write.key, write.version(txn.id));
                }
            }
        }
        count(&self.shared.counters.feed_items, items.len() as u64);
        self.unlogged.extend(items.iter().cloned());
        if self.pending.is_empty() {
            self.release_rows();
        }
        let applied: Vector = self.shared.applied.lock().clone();
        self.shared.feed.push(items, &applied);
    }

    /// Gives the rows what the log knows.
    fn release_rows(&mut self) {
        if !self.unlogged.is_empty() {
            self.shared.rows_queue.push(&self.unlogged);
            self.unlogged.clear();
        }
    }

    // ---- the log ----

    /// What is not yet in the log never will be.
    pub(crate) fn forget_pending(&mut self) {
        self.pending.clear();
        self.pending_bytes = 0;
        self.pending_since = None;
        self.must_persist = false;
        self.unlogged.clear();
    }

    fn remember(&mut self, record: &Record) {
        let record = record.to_bytes();
        self.pending_bytes += record.len();
        self.pending.push(record);
        self.pending_since.get_or_insert_with(Instant::now);
    }

    /// Writes what is pending, if it is time. True if this step's replies may be sent.
    fn persist(&mut self, now: Instant) -> bool {
        let due = self.pending_due().is_some_and(|due| due <= now);
        if self.log_failed.is_some() {
            // Nothing was asked of the acceptor that needs the log; what is pending is tried again.
            if due {
                self.flush();
            }
            return true;
        }
        let must_persist = self.must_persist;
        let hurry = std::mem::take(&mut self.hurry) && !self.unlogged.is_empty();
        let flush = must_persist || due || hurry || self.pending_bytes > NOTES_BYTES_MAX;
        // What is not durable is not told: whoever waits asks again.
        !flush || self.flush() || !must_persist
    }

    /// When what is pending is written although no reply waits for it.
    fn pending_due(&self) -> Option<Instant> {
        let delay = if self.log_failed.is_some() { LOG_RETRY } else { NOTES_DELAY };
        self.pending_since.map(|since| since + delay)
    }

    /// Writes what is pending; true if it is durable.
    fn flush(&mut self) -> bool {
        let started = Instant::now();
        if self.pending.is_empty() && !self.renew {
            self.must_persist = false;
            return true;
        }
        match self.write() {
            Ok(()) => {
                count(&self.shared.counters.log_writes, 1);
                count(&self.shared.counters.log_bytes, self.pending_bytes as u64);
                let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
                count(&self.shared.counters.log_write_micros, micros);
                self.pending.clear();
                self.pending_bytes = 0;
                self.pending_since = None;
                self.must_persist = false;
                self.release_rows();
                if self.log_failed.take().is_some() {
                    tracing::info!("the accept log can be written again");
                }
                true
            }
            Err(error) => {
                if self.log_failed.is_none() {
                    tracing::error!(error = %chain(&error), "the accept log cannot be written: no more votes");
                }
                let id = self.place.id.0;
                self.log_failed = Some(match error.is_full() {
                    true => self.shared.describe_full(),
                    false => format!(
                        "storage node {id}: its accept log cannot be written ({}): it votes again by itself \
                         once that works; look at its disk",
                        chain(&error)
                    ),
                });
                // Tried again after a while, with the same records first.
                self.pending_since = Some(started);
                false
            }
        }
    }

    fn write(&mut self) -> Result<(), LogError> {
        let Some(log) = &mut self.log else { return Ok(()) };
        if !self.renew && !log.is_full_for(&self.pending) {
            return log.append(&self.pending);
        }
        let mut records: Vec<Bytes> = self.acceptor.checkpoint_records().iter().map(Wire::to_bytes).collect();
        records.extend(self.pending.iter().cloned());
        let generation = log.begin_segment(&records)?;
        self.renew = false;
        self.release_rows();
        // Everything decided so far is in the rows' queue: once it is durable there, this segment suffices.
        self.shared.rows_queue.mark(generation);
        Ok(())
    }

    // ---- peers ----

    /// The time as the state machines count it.
    pub(crate) fn millis(&self, now: Instant) -> Millis {
        u64::try_from(now.saturating_duration_since(self.started).as_millis()).unwrap_or(Millis::MAX)
    }

    /// Asks a peer. A closed connection reports itself, and whoever asked asks again.
    pub(crate) fn send_peer(&self, peer: StorageId, request: &Request) {
        if let Some(sender) = &*self.shared.peers[usize::from(peer.0)].lock() {
            let _ = sender.send(request);
        }
    }

    fn peer_reply(&mut self, peer: StorageId, reply: Reply, now: Instant) -> Result<(), DriverError> {
        let Some(reply) = self.join_reply(peer, reply, now)? else { return Ok(()) };
        match reply {
            Reply::Generations(generations) if self.shared.is_member() && self.log_failed.is_none() => {
                self.take(Request::Generations(generations));
            }
            Reply::StatusIs { membership, settled, closings, seats: _ } => {
                self.catch_up.status(peer, membership, settled);
                self.check_membership(peer, membership);
                let own = *self.shared.membership.lock();
                if catch_up::takes_closings(own, self.follows(), membership) {
                    for closing in closings {
                        self.take(Request::Activated(closing));
                    }
                }
            }
            Reply::Fetched { id, known, bodies } => {
                let fetched = self.catch_up.fetched(peer, id, known, bodies, self.millis(now));
                if fetched.barren {
                    tracing::warn!(peer = peer.0, "a peer no longer has the transactions this node missed");
                }
                count(&self.shared.counters.fetched, fetched.decisions.len() as u64);
                if self.shared.is_member() || self.follows() {
                    fetched.decisions.into_iter().for_each(|decision| self.take(decision));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn check_membership(&mut self, peer: StorageId, theirs: Membership) {
        let own = *self.shared.membership.lock();
        if let (Membership::Member(own), Membership::Member(theirs)) = (own, theirs)
            && own != theirs
        {
            tracing::error!(peer = peer.0, "a storage node belongs to another volume");
        }
        let others = self.catch_up.memberships();
        let Some(next) = membership::next(own, self.place.id, &others, self.proposal) else { return };
        let stored = membership::store(&self.shared.config.data_dir, &self.place, next, self.generation);
        if let Err(error) = stored {
            // Tried again at the next status.
            tracing::error!(error = %chain(&error), "the membership cannot be written");
            return;
        }
        match next {
            Membership::Lost(_) => {
                tracing::warn!(
                    "this disk is empty although the volume exists: it is readmitted as a new one"
                );
                let (own, quorum) = (self.place.id, self.acceptor.quorum());
                let joining = Joining::new(own, quorum, self.generation, self.proposal, &self.shared);
                self.joining = Some(joining);
            }
            Membership::Empty | Membership::Forming(_) | Membership::Member(_) => {
                tracing::info!(membership = ?next, "membership");
            }
        }
        *self.shared.membership.lock() = next;
        self.shared.membership_changed.send_replace(());
    }

    /// Leaves if another disk has this node's number, or if what was missed is recorded nowhere any more while
    /// the others can do without this node.
    fn mind_generation(&mut self, now: Instant) -> Result<(), DriverError> {
        let behind = self.catch_up.behind_for_good(self.acceptor.ordering(), self.millis(now));
        let Membership::Member(volume) = *self.shared.membership.lock() else { return Ok(()) };
        let current = self.acceptor.generations().get(self.place.id);
        let reason = if current != self.generation {
            format!("disk {} of storage node {} has taken its place", current.number, self.place.id.0)
        } else if behind {
            "what this storage node missed is no longer recorded by the others".to_owned()
        } else {
            return Ok(());
        };
        let lost = Membership::Lost(volume);
        membership::store(&self.shared.config.data_dir, &self.place, lost, self.generation)
            .map_err(|source| DriverError::Membership { source })?;
        Err(DriverError::Leave { reason })
    }

    /// Whether this is a disk that joins and takes what is decided, though it does not vote.
    fn follows(&self) -> bool {
        self.joining.as_ref().is_some_and(Joining::follows)
    }

    /// Asks a peer for what was missed, one question at a time.
    fn fetch(&mut self, now: Instant) {
        // What cannot be kept is not asked for.
        if self.log_failed.is_some()
            || !self.follows() && (!self.shared.is_member() || self.refusal().is_some())
        {
            return;
        }
        let now = self.millis(now);
        let Some((peer, request)) = self.catch_up.next_fetch(self.acceptor.ordering(), now) else { return };
        tracing::debug!(peer = peer.0, "fetching missed transactions");
        self.send_peer(peer, &request);
    }

    fn publish_status(&mut self, now: Instant) {
        self.published_at = Some(now);
        self.unpublished = false;
        *self.shared.published.lock() = Published {
            settled: self.acceptor.settled(),
            undecided: self.acceptor.undecided(),
            log_bytes: self.log.as_ref().map_or(0, AcceptLog::bytes),
            refusing: self.refusal(),
            generation: self.generation.number,
        };
    }
}

/// The transaction a request is about.
fn subject(request: &Request) -> Option<TxnId> {
    match request {
        Request::Propose(txn) => Some(txn.id),
        Request::Accept { txn, .. } | Request::Prepare { txn, .. } => Some(*txn),
        _ => None,
    }
}
