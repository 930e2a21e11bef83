//! Turns events into calls of the state machines and performs their actions, in order.
//!
//! One turn takes everything that is queued: what storage nodes said, what sessions ask, and the time. The
//! requests it leads to leave in one frame per node at its end.

mod seat;
mod waiting;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use node_core::blocks::Blocks;
use node_core::coordinator::{Action, Coordinator, Finish, Millis, Proposal as CoreProposal};
use node_core::election::{Election, Parting, WRITER_SEAT};
use node_core::ids::{Epoch, Seat, StorageId, StreamId, TxnId};
use node_core::links::{FeedStep, Links};
use node_core::present::Present;
use node_core::quorum::Mode;
use node_core::wire::{FeedItem, Peer, Reply, Request, Role, Wire};
use node_storage::carrier::Sender;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::commits::{Commits, Waiting, crowded};
use super::links::{EVENTS_MAX, LinkConfig, LinkEvent, keep};
use super::reads::{Asker, Reader, question, timeout_ms};
use super::{Answer, Command, Follower, TakeoverInfo, VolumeStatus, VolumeThread};
use crate::volume_api::CommitError;

/// How long a turn may take.
const TURN_MAX: Duration = Duration::from_millis(20);
const BUSY_TURN: Duration = Duration::from_millis(5);
const IDLE_TURN: Duration = Duration::from_millis(50);
/// How long a storage node that said it can take nothing is believed; then a proposal tries again.
const UNABLE_MS: Millis = 1_500;
/// While too many are, one proposal a second finds out whether they still are; the others fail at once.
const UNABLE_PROBE_MS: Millis = 1_000;
const RESIGN_MS: Millis = 3_000;
/// How long a read quorum may take to hear that the seat is free.
const TOLD_MS: Millis = 500;
/// A commit or taking the seat that takes longer than this is worth a line in the log.
pub(super) const SLOW_MS: Millis = 2_000;
/// How long a writer that has handed over stands back.
const HAND_OVER_MS: Millis = 5_000;

/// The bytes of a connection.
struct Connection {
    sender: Sender<Request>,
    out: BytesMut,
}

struct Resigning {
    deadline: Millis,
    for_good: bool,
    /// The heartbeat that says that the seat is free, once it has been given up.
    told: Option<u64>,
    answer: Answer<()>,
}

struct Driver {
    thread: VolumeThread,
    follower: Arc<dyn Follower>,
    coordinator: Coordinator,
    election: Election,
    commits: Commits,
    blocks: Blocks<Reader>,
    present: Present<Asker>,
    links: Links,
    /// Those that `links` knows.
    connections: Vec<Option<Connection>>,
    opening: Option<StreamId>,
    seat: Option<StreamId>,
    floor: Epoch,
    take_after: Millis,
    /// Since when the seat is being taken, and when that was last complained of.
    taking_since: Option<(Millis, Millis)>,
    noticed: Option<(Millis, Option<String>, Parting)>,
    takeover: Option<TakeoverInfo>,
    lag_us: Option<u64>,
    unable: Option<String>,
    /// When each storage node last said that it takes no proposals, and why.
    unable_nodes: Vec<Option<(Millis, String)>>,
    /// When a proposal may try again although too many storage nodes take none.
    probe_at: Millis,
    resigning: Vec<Resigning>,
    /// Handing over: nothing new is proposed.
    closing_door: bool,
    resigned: bool,
    applies: Vec<FeedItem>,
    jitter: u64,
}

/// Runs the volume thread until its stop token is cancelled.
///
/// # Errors
///
/// The error of starting the thread.
pub fn run(
    thread: VolumeThread,
    follower: Arc<dyn Follower>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new()
        .name("volume".to_owned())
        .spawn(move || runtime.block_on(Driver::new(thread, follower).drive()))
}

impl Driver {
    fn new(thread: VolumeThread, follower: Arc<dyn Follower>) -> Driver {
        let config = &thread.config;
        Driver {
            coordinator: Coordinator::new(config.quorum, config.run),
            election: Election::new(config.run, config.quorum),
            commits: Commits::default(),
            blocks: Blocks::new(config.quorum.nodes(), timeout_ms()),
            present: Present::new(config.quorum.read(), timeout_ms()),
            links: Links::new(config.quorum, usize::from(config.ordinal)),
            connections: config.storage.iter().map(|_| None).collect(),
            opening: None,
            seat: None,
            floor: Epoch(0),
            take_after: 0,
            taking_since: None,
            noticed: None,
            takeover: None,
            lag_us: None,
            unable: None,
            unable_nodes: config.storage.iter().map(|_| None).collect(),
            probe_at: 0,
            resigning: Vec::new(),
            closing_door: false,
            resigned: false,
            applies: Vec::new(),
            jitter: config.run.0,
            thread,
            follower,
        }
    }

    async fn drive(mut self) {
        let (events_in, mut events) = mpsc::channel(EVENTS_MAX);
        let stop = self.thread.stop.clone();
        let links = tokio_util::task::TaskTracker::new();
        for config in self.link_configs() {
            links.spawn(keep(config, events_in.clone(), stop.clone()));
        }
        links.close();
        let mut said = VecDeque::new();
        let mut asked = VecDeque::new();
        loop {
            let turn = if self.busy() { BUSY_TURN } else { IDLE_TURN };
            if said.is_empty() && asked.is_empty() {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    event = events.recv() => said.extend(event),
                    command = self.thread.commands.recv() => asked.extend(command),
                    () = tokio::time::sleep(turn) => {}
                }
            } else {
                // The links are tasks of this thread as well.
                tokio::task::yield_now().await;
                if stop.is_cancelled() {
                    break;
                }
            }
            // No more than that: what this thread cannot keep up with stays with the storage nodes.
            while said.len() < EVENTS_MAX
                && let Ok(event) = events.try_recv()
            {
                said.push_back(event);
            }
            while let Ok(command) = self.thread.commands.try_recv() {
                asked.push_back(command);
            }
            // Heartbeats leave at the end of a turn: with much to do, the rest waits for the next one.
            let end = Instant::now() + TURN_MAX;
            while let Some(event) = said.pop_front() {
                self.link_event(event);
                if Instant::now() >= end {
                    break;
                }
            }
            while let Some(command) = asked.pop_front() {
                self.command(command);
                if Instant::now() >= end {
                    break;
                }
            }
            self.end_turn();
        }
        self.thread.lease.set(None);
        for connection in self.connections.iter().flatten() {
            connection.sender.close();
        }
        links.wait().await;
    }

    fn link_configs(&self) -> Vec<LinkConfig> {
        let config = &self.thread.config;
        let peer = Peer::Instance {
            name: config.name.clone(),
            ordinal: config.ordinal,
            tier: config.tier,
            run: config.run,
        };
        let link = |(index, address): (usize, &String)| LinkConfig {
            node: StorageId(u8::try_from(index).expect("a volume has at most six storage nodes")),
            address: address.clone(),
            peer: peer.clone(),
            cluster: config.cluster.clone(),
        };
        config.storage.iter().enumerate().map(link).collect()
    }

    fn now(&self) -> Millis {
        self.thread.lease.now()
    }

    fn mode(&self) -> Mode {
        self.thread.config.quorum.mode()
    }

    fn own_seat(&self) -> Seat {
        match self.mode() {
            Mode::SingleMaster => WRITER_SEAT,
            Mode::MultiMaster => Seat(self.thread.config.ordinal),
        }
    }

    fn busy(&self) -> bool {
        self.coordinator.in_flight() > 0
            || self.coordinator.taking()
            || !self.commits.parked.is_empty()
            || self.present.awaits_feed()
            || self.opening.is_some()
            || !self.resigning.is_empty()
    }

    // ---- what storage nodes say ----

    fn link_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { node, generation, sender, zone } => {
                let now = self.now();
                let near = self.thread.config.zone.as_ref() == Some(&zone);
                self.links.up(node, generation, near, now);
                self.connections[usize::from(node.0)] = Some(Connection { sender, out: BytesMut::new() });
                let mut actions = Vec::new();
                self.coordinator.node_up(node, now, &mut actions);
                self.perform(actions);
            }
            LinkEvent::Down { node, generation, connection } => {
                if self.links.generation(node) == Some(generation) {
                    self.lost(node);
                }
                // Not before: the storage node lets go of its lease then.
                drop(connection);
            }
            LinkEvent::Said { node, generation, replies } => {
                if self.links.generation(node) == Some(generation) {
                    for reply in replies {
                        self.reply(node, reply);
                    }
                }
            }
        }
    }

    fn node_gone(&mut self, node: StorageId) {
        let now = self.now();
        self.election.lost(node);
        let mut actions = Vec::new();
        self.coordinator.node_down(node, now, &mut actions);
        self.perform(actions);
        self.links.left(node);
        for id in self.blocks.asked_of(node) {
            self.send_block(id);
        }
    }

    fn reply(&mut self, node: StorageId, reply: Reply) {
        let now = self.now();
        match reply {
            Reply::Beat { beat, lease } => self.heard(node, beat, lease, now),
            Reply::Topology { seats, instances } => self.election.view(node, seats, instances),
            Reply::Index { id, committed, pending, current } => {
                let own = self.coordinator.stream();
                if !current {
                    self.lose_seat("storage has granted a newer epoch");
                }
                self.present.answered(node, id, &committed, &pending, own, now);
            }
            Reply::Feed { items, low } if self.links.feed() == Some(node) => self.feed_items(&items, low),
            Reply::FeedReset { at } if self.links.feed() == Some(node) => {
                info!(node = node.0, %at, "the history from here on is gone: starting over with an empty cache");
                self.flush_applies();
                let mut actions = Vec::new();
                self.coordinator.observe_jump(&at, now, &mut actions);
                self.follower.reset(at);
                self.perform(actions);
                // They were asked for snapshots that are gone now.
                for id in self.blocks.refused_before() {
                    self.send_block(id);
                }
            }
            Reply::Feed { .. } | Reply::FeedReset { .. } => {}
            Reply::Block(block) => {
                if let Some(reader) = self.blocks.answered(block.id) {
                    reader.give(Ok(block));
                }
            }
            Reply::ReadRefused { id, reason } => {
                if let Some(again) = self.blocks.refused(id) {
                    self.unable = Some(reason);
                    if again {
                        self.send_block(id);
                    }
                }
            }
            Reply::Refused { reason } => self.unable = Some(reason),
            other => {
                if matches!(other, Reply::Voted { .. }) {
                    self.unable_nodes[usize::from(node.0)] = None;
                }
                let mut actions = Vec::new();
                self.coordinator.reply(node, other, now, &mut actions);
                self.perform(actions);
            }
        }
    }

    fn heard(&mut self, node: StorageId, beat: u64, lease: bool, now: Millis) {
        let again = self.links.heard(node, beat, lease);
        self.thread.lease.set(self.links.lease_until());
        if again {
            let mut actions = Vec::new();
            self.coordinator.node_up(node, now, &mut actions);
            self.perform(actions);
        }
    }

    /// The connection is gone, or is closed now: not before its lease counts no more.
    fn lost(&mut self, node: StorageId) {
        self.links.down(node);
        self.thread.lease.set(self.links.lease_until());
        if let Some(connection) = self.connections[usize::from(node.0)].take() {
            connection.sender.close();
        }
        self.node_gone(node);
    }

    fn feed_items(&mut self, items: &[FeedItem], low: node_core::ids::Vector) {
        let now = self.now();
        let own = self.own_seat();
        let mut actions = Vec::new();
        for item in items {
            let mine = match item {
                FeedItem::Commit(txn) => txn.id.seat == own,
                FeedItem::Advance { seat, .. } => *seat == own,
            };
            if mine {
                self.coordinator.observe_own(item, now, &mut actions);
            }
        }
        self.perform(actions);
        self.flush_applies();
        self.follower.apply(items);
        self.follower.low_water(low);
        let mut actions = Vec::new();
        self.coordinator.observe(&self.follower.applied(), now, &mut actions);
        self.perform(actions);
        self.flush_applies();
    }

    // ---- what sessions ask ----

    fn command(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Commit(proposal, answer) => {
                let waiting = (self.coordinator.in_flight(), self.commits.parked.len());
                if let Some(reason) = crowded(waiting.0, waiting.1) {
                    return answer.give(Err(CommitError::Unavailable(reason)));
                }
                let waiting = self.commits.arrive(proposal, answer, now);
                self.propose(waiting);
            }
            Command::ReadIndex(answer) => self.present.ask(Asker::Session(answer), now),
            Command::Block(request, answer) => {
                let id = self.blocks.arrive(question(request), answer, now);
                self.send_block(id);
            }
            Command::Resign { for_good, answer } => {
                let deadline = now + RESIGN_MS;
                self.closing_door = true;
                self.resigning.push(Resigning { deadline, for_good, told: None, answer });
            }
        }
    }

    fn propose(&mut self, waiting: Waiting) {
        let now = self.now();
        if self.seat.is_none() || self.closing_door {
            return waiting.answer.give(Err(CommitError::Fenced));
        }
        if self.coordinator.nodes_up() < self.thread.config.quorum.write() {
            self.commits.parked.push((now + 50, waiting));
            return;
        }
        if let Some(reason) = self.cannot_write(now) {
            if waiting.attempts > 0 || now < self.probe_at {
                return waiting.answer.give(Err(CommitError::Unavailable(reason)));
            }
            self.probe_at = now + UNABLE_PROBE_MS;
        }
        let (ticket, proposal) = self.commits.ticket(waiting);
        let crate::volume_api::Proposal { deps, writes, checks } = proposal;
        let mut actions = Vec::new();
        self.coordinator.propose(CoreProposal { ticket, deps, writes, checks }, now, &mut actions);
        self.perform(actions);
    }

    /// Why no proposal can be decided at present although the storage nodes are connected: too many of them
    /// have said that they take none.
    fn cannot_write(&self, now: Millis) -> Option<String> {
        let unable = |node: StorageId| {
            let said = self.unable_nodes[usize::from(node.0)].as_ref();
            said.filter(|(at, _)| now.saturating_sub(*at) < UNABLE_MS).map(|(_, reason)| reason)
        };
        let (unable, able): (Vec<_>, Vec<_>) =
            self.links.all_counted().map(unable).partition(Option::is_some);
        let (nodes, need) = (self.thread.config.quorum.nodes(), self.thread.config.quorum.write());
        let reason = unable.first().copied().flatten().filter(|_| able.len() < need)?;
        Some(format!("{} of {nodes} storage nodes take writes and {need} are needed; {reason}", able.len()))
    }

    fn send_block(&mut self, id: u64) {
        let now = self.now();
        let (nodes, low) = (self.links.candidates(), self.follower.low());
        if let Some((node, request)) = self.blocks.send(id, self.links.around(&nodes, &low), now) {
            self.send(usize::from(node.0), &Request::Read(request));
        }
    }

    // ---- what the state machines want ----

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(node, request) => self.send(usize::from(node.0), &request),
                Action::Broadcast(request) => {
                    let mut bytes = BytesMut::new();
                    request.put(&mut bytes);
                    for connection in self.connections.iter_mut().flatten() {
                        connection.out.extend_from_slice(&bytes);
                    }
                }
                Action::Apply(item) => self.applies.push(item),
                Action::Finish(ticket, finish) => self.finish(ticket, finish),
                Action::Resolved(..) => {}
                Action::Seated(stream) => {
                    self.links.seated(stream.epoch);
                    self.thread.lease.set(None);
                    self.opening = Some(stream);
                }
                Action::TakeFailed { granted, .. } => {
                    self.floor = self.floor.max(granted);
                    self.jitter = self.jitter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    self.take_after = self.now() + 10 + (self.jitter >> 33) % 40;
                }
                Action::Unseated(_) => self.lose_seat("a storage node reports a newer epoch"),
                Action::NodeUnable(node, reason) => {
                    self.unable_nodes[usize::from(node.0)] = Some((self.now(), reason.clone()));
                    if self.unable.as_ref() != Some(&reason) {
                        warn!(node = node.0, reason, "a storage node cannot vote");
                        self.unable = Some(reason);
                    }
                }
            }
        }
    }

    fn send(&mut self, index: usize, request: &Request) {
        if let Some(connection) = &mut self.connections[index] {
            request.put(&mut connection.out);
        }
    }

    fn finish(&mut self, ticket: u64, finish: Finish) {
        self.flush_applies();
        let Some(waiting) = self.commits.proposed.remove(&ticket) else { return };
        let now = self.now();
        match finish {
            Finish::Committed(txn) => {
                self.thread.counters.committed.fetch_add(1, Ordering::Relaxed);
                waiting.answer.give(Ok(txn));
            }
            Finish::Aborted { stale: false, by } if by.is_empty() && self.cannot_write(now).is_some() => {
                let reason = self.cannot_write(now).unwrap_or_default();
                waiting.answer.give(Err(CommitError::Unavailable(reason)));
            }
            Finish::Aborted { stale, by } => {
                self.jitter = self.jitter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let again = self.commits.refused(waiting, stale, &by, self.jitter >> 33, now);
                let counter = match again {
                    true => &self.thread.counters.reproposed,
                    false => &self.thread.counters.conflicts,
                };
                counter.fetch_add(1, Ordering::Relaxed);
                let own = self.coordinator.stream();
                for txn in by.into_iter().filter(|txn| Some(txn.stream()) != own) {
                    self.resolve(txn);
                }
            }
            Finish::NoSeat => waiting.answer.give(Err(CommitError::Fenced)),
        }
    }

    /// Somebody waits for this transaction: at once if its writer is gone, else after some patience.
    fn resolve(&mut self, txn: TxnId) {
        let now = self.now();
        let patience = self.election.patience(txn);
        let mut actions = Vec::new();
        self.coordinator.resolve(txn, patience, now, &mut actions);
        self.perform(actions);
    }

    fn flush_applies(&mut self) {
        if !self.applies.is_empty() {
            let items = std::mem::take(&mut self.applies);
            self.follower.apply(&items);
        }
    }

    // ---- time ----

    fn end_turn(&mut self) {
        let now = self.now();
        let mut actions = Vec::new();
        self.coordinator.tick(now, &mut actions);
        self.perform(actions);
        self.flush_applies();
        self.heartbeat(now);
        self.mind_links(now);
        self.mind_feed(now);
        self.mind_seat(now);
        self.mind_commits(now);
        self.mind_reads(now);
        self.flush_applies();
        for one in self.connections.iter_mut().flatten().filter(|one| !one.out.is_empty()) {
            let bytes = one.out.split();
            // A closed connection reports itself; what it did not take is sent again to the next one.
            let _ = one.sender.send_encoded(&bytes);
        }
        self.publish();
    }

    fn heartbeat(&mut self, now: Millis) {
        let seated = self.seat.or(self.opening).filter(|_| self.mode() == Mode::SingleMaster);
        let epoch = seated.map_or(Epoch(0), |stream| stream.epoch);
        let Some(beat) = self.links.beat(epoch, now) else { return };
        // From the moment it takes the seat, so that nobody takes the new holder for one that has resigned.
        let holds = self.seat.is_some() || self.opening.is_some() || self.coordinator.taking();
        let role = if holds { Role::Writer } else { Role::Reader };
        let (applied, low) = (self.follower.applied(), self.follower.low());
        let lag = self.lag_us.filter(|_| self.seat.is_none() || self.mode() == Mode::MultiMaster);
        let lag_us = lag.map_or(0, |us| u32::try_from(us).unwrap_or(u32::MAX));
        let request = Request::Heartbeat { beat, role, epoch, applied, low, lag_us };
        self.perform(vec![Action::Broadcast(request)]);
    }

    fn mind_links(&mut self, now: Millis) {
        if let Some(milliseconds) = self.links.turn(now) {
            warn!(milliseconds, "the volume's thread was held up");
        }
        while let Some(node) = self.links.fallen_silent(now) {
            warn!(node = node.0, "a storage node is connected but silent");
            self.node_gone(node);
        }
    }

    fn mind_feed(&mut self, now: Millis) {
        match self.links.mind_feed(&mut self.present, now) {
            FeedStep::Keep => {}
            FeedStep::Subscribe(node) => {
                self.send(usize::from(node.0), &Request::Subscribe { from: self.follower.applied() });
            }
            FeedStep::Reconnect(node) => self.lost(node),
        }
    }

    fn publish(&mut self) {
        let holder = self.election.holder(WRITER_SEAT).filter(|_| self.mode() == Mode::SingleMaster);
        let writer = holder.filter(|holder| holder.active).and_then(|holder| {
            let name = match holder.run == self.thread.config.run {
                true => self.thread.config.name.clone(),
                false => self.election.instance(holder.run)?.name.clone(),
            };
            Some((name, holder.epoch))
        });
        let nodes_up = self.coordinator.nodes_up();
        let status = VolumeStatus {
            nodes_up,
            seat: self.seat.map(|stream| (stream.seat, stream.epoch)),
            taking: self.coordinator.taking() || self.opening.is_some(),
            // Not before it has been at the present once: until then its snapshots may be from before its time.
            following: self.links.feed().is_some()
                && nodes_up >= self.thread.config.quorum.read()
                && self.lag_us.is_some(),
            writer,
            instances: self.election.instances().into_iter().cloned().collect(),
            lag_us: self.lag_us,
            takeover: self.takeover.clone(),
        };
        self.thread.status.send_if_modified(|old| {
            let changed = *old != status;
            *old = status;
            changed
        });
    }
}
