//! An instance: `node-core`'s coordinator, election, cache and locks in a shell that does what
//! `node/instance/src/volume/driver.rs` does.
//!
//! Its clock is its own: it drifts, and jumps forwards. It works in turns; a paused instance has none.

mod commits;
mod engine;
mod reads;
mod session;
mod workload;

use node_core::blocks::Blocks;
use node_core::coordinator::{Action, Coordinator, Finish, Millis, Proposal as CoreProposal};
use node_core::election::{Election, WRITER_SEAT};
use node_core::ids::{Epoch, Position, RunId, Seat, Seq, StorageId, StreamId, TxnId};
use node_core::links::{FeedStep, Links};
use node_core::membership::Generations;
use node_core::present::Present;
use node_core::quorum::{Mode, Quorum};
use node_core::wire::{FeedItem, Membership, Peer, Reply, Request, Role};

use crate::context::Context;
use crate::faults::Plant;
use crate::net::{Address, Body, Event, GENERATIONS, Letter, MS, Micros, Place, run_of};
use crate::oracle::Follow;

use commits::{CommitError, Commits, Waiting};
use engine::Engine;
use reads::{Asker, Reader};
use session::Session;

pub(crate) use workload::{Workload, list_elements};

const BUSY_TURN: Micros = 5 * MS;
const IDLE_TURN: Micros = 50 * MS;
const RESIGN_MS: Millis = 1_000;
const HAND_OVER_MS: Millis = 5_000;
/// How long a read waits: shorter than what ships, so that a run sees it end.
const READ_TIMEOUT_MS: Millis = 3_000;

/// An instance's own clock.
pub(crate) struct Clock {
    born: Micros,
    /// How many of its microseconds pass in a thousand of the world's.
    rate: u64,
    jumped: Micros,
}

impl Clock {
    fn millis(&self, now: Micros) -> Millis {
        ((now - self.born) * self.rate / 1_000 + self.jumped) / MS
    }
}

/// One run of one instance.
pub(crate) struct Instance {
    pub(crate) index: usize,
    pub(crate) run: u64,
    quorum: Quorum,
    pub(crate) clock: Clock,
    pub(crate) coordinator: Coordinator,
    election: Election,
    commits: Commits,
    blocks: Blocks<Reader>,
    present: Present<Asker>,
    links: Links,
    /// What each storage node has told of the disks.
    told: Vec<Generations>,
    connecting: Vec<u64>,
    generation: u64,
    opening: Option<StreamId>,
    pub(crate) seat: Option<StreamId>,
    floor: Epoch,
    take_after: Millis,
    lease_needed: bool,
    resigning: Option<Millis>,
    closing_door: bool,
    resigned: bool,
    applies: Vec<FeedItem>,
    jitter: u64,
    turn_at: Micros,
    pub(crate) paused_until: Micros,
    pub(crate) engine: Engine,
    pub(crate) sessions: Vec<Session>,
    follow: Follow,
    tier: u8,
    /// Sessions begin nothing new.
    pub(crate) closing: bool,
}

impl Instance {
    /// A new run, which begins to connect.
    pub(crate) fn start(
        index: usize,
        run: u64,
        quorum: Quorum,
        workload: &Workload,
        context: &mut Context,
    ) -> Instance {
        let nodes = quorum.nodes();
        let fewer = usize::from(context.plant == Plant::IndexTooFew);
        let random = &mut context.random;
        let clock = Clock { born: context.now, rate: random.between(990, 1_010), jumped: 5_000 * MS };
        let cache_bytes = workload.cache_bytes;
        let instance = Instance {
            index,
            run,
            quorum,
            clock,
            coordinator: Coordinator::new(quorum, RunId(run)),
            election: Election::new(RunId(run), quorum),
            commits: Commits::default(),
            blocks: Blocks::new(nodes, READ_TIMEOUT_MS),
            present: Present::new(quorum.read() - fewer, READ_TIMEOUT_MS),
            links: Links::new(quorum, index),
            told: vec![Generations::default(); nodes],
            connecting: vec![0; nodes],
            generation: run * GENERATIONS,
            opening: None,
            seat: None,
            floor: Epoch(0),
            take_after: 0,
            lease_needed: false,
            resigning: None,
            closing_door: false,
            resigned: false,
            applies: Vec::new(),
            jitter: run.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            turn_at: Micros::MAX,
            paused_until: 0,
            engine: Engine::new(quorum.mode(), cache_bytes),
            sessions: Vec::new(),
            follow: Follow::default(),
            tier: (index % 2) as u8,
            closing: false,
        };
        let address = instance.address();
        for node in 0..nodes {
            let at = context.now + context.random.below(5 * MS);
            context.net.schedule(at, Event::Connect { instance: address, node });
        }
        context.note(|| format!("instance {index} starts as run {run}"));
        instance
    }
    /// Opens its clients' sessions and takes its first turn.
    pub(crate) fn open(&mut self, workload: &Workload, context: &mut Context) {
        for number in 0..workload.sessions {
            self.sessions.push(Session::new(number));
            let at = context.now + context.random.below(200 * MS);
            let address = self.address();
            context.net.schedule(at, Event::Session { instance: address, session: number });
        }
        self.turn_soon(context);
    }
    pub(crate) fn address(&self) -> Address {
        Address { place: Place::Instance(self.index), run: self.run }
    }
    pub(crate) fn now(&self, context: &Context) -> Millis {
        self.clock.millis(context.now)
    }
    /// It is not scheduled for a while. Ends on a whole millisecond, so that what it holds back keeps its order.
    pub(crate) fn pause(&mut self, milliseconds: u64, context: &Context) {
        self.paused_until = self.paused_until.max((context.now / MS + milliseconds) * MS);
        context.note(|| format!("instance {} is paused for {milliseconds} ms", self.index));
    }
    /// The clock jumps.
    pub(crate) fn jump(&mut self, by: Micros) {
        self.clock.jumped += by;
    }
    /// The connections, by node.
    pub(crate) fn connections(&self) -> Vec<(usize, u64)> {
        (0..self.quorum.nodes()).filter_map(|node| Some((node, self.connection(node)?))).collect()
    }
    /// The connection to a node. One that is being made breaks like any other: its greeting may have come
    /// and not been read.
    fn connection(&self, node: usize) -> Option<u64> {
        let being_made = Some(self.connecting[node]).filter(|generation| *generation != 0);
        self.links.generation(id(node)).or(being_made)
    }
    fn mode(&self) -> Mode {
        self.quorum.mode()
    }
    fn own_seat(&self) -> Seat {
        match self.mode() {
            Mode::SingleMaster => WRITER_SEAT,
            Mode::MultiMaster => Seat(self.index as u16),
        }
    }
    /// In a healed world, and without clients: nothing is under way here.
    pub(crate) fn idle(&self) -> bool {
        self.coordinator.in_flight() == 0
            && !self.coordinator.taking()
            && self.opening.is_none()
            && self.commits.parked.is_empty()
            && self.sessions.iter().all(Session::idle)
    }
    /// What is under way, for a person who looks for what hangs.
    pub(crate) fn describe(&self) -> String {
        let busy: Vec<String> =
            self.sessions.iter().filter(|session| !session.idle()).map(Session::describe).collect();
        format!(
            "instance {} run {} seat {:?} opening {:?} applied {} feed {:?} {} sessions {busy:?} parked {} proposed {}",
            self.index,
            self.run,
            self.seat,
            self.opening,
            self.engine.applied(),
            self.links.feed(),
            self.coordinator.describe(),
            self.commits.parked.len(),
            self.commits.proposed.len(),
        )
    }

    /// Takes a turn now, before anything else happens.
    pub(crate) fn turn_soon(&mut self, context: &mut Context) {
        let at = context.now + 20;
        if self.turn_at > at {
            self.turn_at = at;
            context.net.schedule(at, Event::Turn(self.address()));
        }
    }

    // ---- what storage nodes say ----

    /// Opens a connection, if there is none.
    pub(crate) fn connect(&mut self, node: usize, context: &mut Context) {
        if self.links.generation(id(node)).is_some() {
            return;
        }
        let again = context.now + context.random.between(100, 400) * MS;
        context.net.schedule(again, Event::Connect { instance: self.address(), node });
        let (here, there) = (Place::Instance(self.index), Place::Node(node));
        let cut = |from, to| context.net.cut_until(from, to, context.now).is_some();
        if cut(here, there) || cut(there, here) {
            return; // a handshake needs both directions
        }
        self.generation += 1;
        self.connecting[node] = self.generation;
        let peer = Peer::Instance {
            name: format!("i-{}", self.index),
            ordinal: self.index as u16,
            tier: self.tier,
            run: RunId(self.run),
        };
        let request = Request::Hello { peer, cluster: "sim".to_owned() };
        self.send_at(node, self.generation, request, context);
    }

    /// A connection is gone.
    pub(crate) fn hung_up(&mut self, node: usize, generation: u64, context: &mut Context) {
        if self.connection(node) != Some(generation) {
            return;
        }
        self.connecting[node] = 0;
        let greeted = self.links.generation(id(node)).is_some();
        self.links.down(id(node));
        let Context { net, now, random, .. } = &mut *context;
        net.closed(self.index, node, generation, *now, random);
        if !greeted {
            return; // the next attempt is on its way
        }
        self.node_gone(node, context);
        let again = context.now + 40 * MS;
        context.net.schedule(again, Event::Connect { instance: self.address(), node });
        self.turn_soon(context);
    }

    /// A message has arrived.
    pub(crate) fn receive(&mut self, letter: Letter, context: &mut Context) {
        let Place::Node(node) = letter.from.place else { return };
        if run_of(letter.generation) != self.run {
            return;
        }
        let bound = crate::net::ordered(&letter.body);
        let Body::Reply(reply) = letter.body else { return };
        if let Reply::Welcome { membership, .. } = &reply {
            let member = matches!(membership, Membership::Member(_));
            if member
                && self.links.generation(id(node)).is_none()
                && self.connecting[node] == letter.generation
            {
                let now = self.now(context);
                self.links.up(id(node), letter.generation, false, now);
                let mut actions = Vec::new();
                self.coordinator.node_up(id(node), now, &mut actions);
                self.perform(actions, context);
            }
            return self.turn_soon(context);
        }
        let present = self.links.generation(id(node)) == Some(letter.generation);
        if bound && !present {
            return;
        }
        let uncounted = matches!(reply, Reply::Block(_) | Reply::ReadRefused { .. } | Reply::Index { .. });
        if self.told[node].join(&letter.under) != letter.under && !bound && !uncounted {
            return; // of an older time: on a real connection it had come before
        }
        if self.told[node].join(&letter.under) != self.told[node] {
            self.told[node] = letter.under;
            self.reply(node, Reply::Generations(letter.under), context);
        }
        self.reply(node, reply, context);
        self.turn_soon(context);
    }

    fn node_gone(&mut self, node: usize, context: &mut Context) {
        let now = self.now(context);
        self.election.lost(id(node));
        let mut actions = Vec::new();
        self.coordinator.node_down(id(node), now, &mut actions);
        self.perform(actions, context);
        self.links.left(id(node));
        for read in self.blocks.asked_of(id(node)) {
            self.send_block(read, context);
        }
    }

    fn reply(&mut self, node: usize, reply: Reply, context: &mut Context) {
        let now = self.now(context);
        match reply {
            Reply::Beat { beat, lease } => self.heard(node, beat, lease, now, context),
            Reply::Topology { seats, instances } => self.election.view(id(node), seats, instances),
            Reply::Index { id: round, committed, pending, current } => {
                let own = self.coordinator.stream();
                if !current {
                    self.lose_seat("storage has granted a newer epoch", context);
                }
                self.present.answered(id(node), round, &committed, &pending, own, now);
            }
            Reply::Feed { items, low } if self.links.feed() == Some(id(node)) => {
                self.feed_items(&items, context);
                self.engine.low_water = low;
            }
            Reply::FeedReset { at } if self.links.feed() == Some(id(node)) => {
                context.note(|| format!("instance {} starts over at {at}", self.index));
                self.flush_applies(context);
                let mut actions = Vec::new();
                self.coordinator.observe_jump(&at, now, &mut actions);
                let wakes = self.engine.reset(&at);
                self.follow.jump(&at);
                self.wake_all(wakes, context);
                self.perform(actions, context);
                for read in self.blocks.refused_before() {
                    self.send_block(read, context);
                }
            }
            Reply::Feed { .. } | Reply::FeedReset { .. } => {}
            Reply::Block(block) => self.block_arrived(block, context),
            Reply::ReadRefused { id: read, .. } => {
                if self.blocks.refused(read) == Some(true) {
                    self.send_block(read, context);
                }
            }
            Reply::Refused { .. } => {}
            other => {
                let mut actions = Vec::new();
                self.coordinator.reply(id(node), other, now, &mut actions);
                self.perform(actions, context);
            }
        }
    }

    fn heard(&mut self, node: usize, beat: u64, lease: bool, now: Millis, context: &mut Context) {
        if self.links.heard(id(node), beat, lease) {
            let mut actions = Vec::new();
            self.coordinator.node_up(id(node), now, &mut actions);
            self.perform(actions, context);
        }
    }

    pub(super) fn lease_valid(&self, context: &Context) -> bool {
        !self.lease_needed || self.links.lease_until().is_some_and(|until| self.now(context) < until)
    }

    fn feed_items(&mut self, items: &[FeedItem], context: &mut Context) {
        let now = self.now(context);
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
        self.perform(actions, context);
        self.flush_applies(context);
        self.apply(items, context);
        let applied = self.engine.applied();
        let mut actions = Vec::new();
        self.coordinator.observe(&applied, now, &mut actions);
        self.perform(actions, context);
        self.flush_applies(context);
    }

    fn apply(&mut self, items: &[FeedItem], context: &mut Context) {
        context.oracle.follow(&mut self.follow, items);
        let wakes = self.engine.apply(items);
        self.wake_all(wakes, context);
    }

    fn flush_applies(&mut self, context: &mut Context) {
        if !self.applies.is_empty() {
            let items = std::mem::take(&mut self.applies);
            self.apply(&items, context);
        }
    }

    // ---- what sessions ask ----

    fn propose(&mut self, waiting: Waiting, context: &mut Context) {
        let now = self.now(context);
        if self.seat.is_none() || self.closing_door {
            return self.commit_over(waiting.session, Err(CommitError::Fenced), context);
        }
        if self.coordinator.nodes_up() < self.quorum.write() {
            self.commits.parked.push((now + 50, waiting));
            return;
        }
        let (ticket, (deps, writes, checks)) = self.commits.ticket(waiting);
        let mut actions = Vec::new();
        self.coordinator.propose(CoreProposal { ticket, deps, writes, checks }, now, &mut actions);
        for action in &actions {
            if let Action::Broadcast(Request::Propose(txn)) = action {
                context.oracle.proposed(txn);
                self.commits.named(ticket, txn.id);
            }
        }
        self.perform(actions, context);
    }

    fn send_block(&mut self, read: u64, context: &mut Context) {
        let now = self.now(context);
        let (nodes, low) = (self.links.candidates(), self.engine.low());
        if let Some((node, request)) = self.blocks.send(read, self.links.around(&nodes, &low), now) {
            self.send(usize::from(node.0), Request::Read(request), context);
        }
    }

    // ---- what the state machines want ----

    fn perform(&mut self, actions: Vec<Action>, context: &mut Context) {
        for action in actions {
            match action {
                Action::Send(node, request) => self.send(usize::from(node.0), request, context),
                Action::Broadcast(request) => {
                    for node in 0..self.quorum.nodes() {
                        self.send(node, request.clone(), context);
                    }
                }
                Action::Apply(item) => self.applies.push(item),
                Action::Finish(ticket, finish) => self.finish(ticket, finish, context),
                Action::Resolved(txn, outcome) => context.oracle.decided(txn, outcome),
                Action::Seated(stream) => {
                    self.links.seated(stream.epoch);
                    self.opening = Some(stream);
                }
                Action::TakeFailed { granted, .. } => {
                    self.floor = self.floor.max(granted);
                    self.take_after = self.now(context) + 10 + self.jitter() % 40;
                }
                Action::Unseated(_) => self.lose_seat("a storage node reports a newer epoch", context),
                Action::NodeUnable(..) => {}
            }
        }
    }

    fn jitter(&mut self) -> u64 {
        self.jitter = self.jitter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.jitter >> 33
    }

    fn send(&mut self, node: usize, request: Request, context: &mut Context) {
        if let Some(generation) = self.links.generation(id(node)) {
            self.send_at(node, generation, request, context);
        }
    }

    fn send_at(&self, node: usize, generation: u64, request: Request, context: &mut Context) {
        let body = Body::Request(request);
        let (to, under) = (Place::Node(node), Generations::default());
        context.send(Letter { from: self.address(), to, generation, under, body });
    }

    fn finish(&mut self, ticket: u64, finish: Finish, context: &mut Context) {
        self.flush_applies(context);
        if let Some(txn) = self.commits.name(ticket) {
            context.oracle.finished(txn, &finish);
        }
        let Some(waiting) = self.commits.proposed.remove(&ticket) else { return };
        let now = self.now(context);
        match finish {
            Finish::Committed(_) => self.commit_over(waiting.session, Ok(()), context),
            Finish::Aborted { stale, by } => {
                let jitter = self.jitter();
                if let Some(session) = self.commits.refused(waiting, stale, jitter, now) {
                    self.commit_over(session, Err(CommitError::Conflict), context);
                }
                let own = self.coordinator.stream();
                for txn in by.into_iter().filter(|txn| Some(txn.stream()) != own) {
                    self.resolve(txn, context);
                }
            }
            Finish::NoSeat => self.commit_over(waiting.session, Err(CommitError::Fenced), context),
        }
    }

    fn resolve(&mut self, txn: TxnId, context: &mut Context) {
        let now = self.now(context);
        let patience = self.election.patience(txn);
        let mut actions = Vec::new();
        self.coordinator.resolve(txn, patience, now, &mut actions);
        self.perform(actions, context);
    }

    // ---- time ----

    /// Ends a turn: what `end_turn` does.
    pub(crate) fn turn(&mut self, context: &mut Context) {
        if context.now < self.turn_at {
            return; // an earlier one came in between
        }
        self.turn_at = Micros::MAX;
        let now = self.now(context);
        let mut actions = Vec::new();
        self.coordinator.tick(now, &mut actions);
        self.perform(actions, context);
        self.flush_applies(context);
        self.heartbeat(now, context);
        self.mind_links(now, context);
        self.mind_feed(now, context);
        self.mind_seat(now, context);
        self.mind_commits(now, context);
        self.mind_reads(now, context);
        self.mind_sessions(context);
        self.flush_applies(context);
        let busy = self.coordinator.in_flight() > 0
            || self.coordinator.taking()
            || !self.commits.parked.is_empty()
            || self.present.awaits_feed()
            || self.opening.is_some()
            || self.resigning.is_some();
        let at = context.now + if busy { BUSY_TURN } else { IDLE_TURN };
        if self.turn_at > at {
            self.turn_at = at;
            context.net.schedule(at, Event::Turn(self.address()));
        }
    }

    fn heartbeat(&mut self, now: Millis, context: &mut Context) {
        let seated = self.seat.or(self.opening).filter(|_| self.mode() == Mode::SingleMaster);
        let epoch = seated.map_or(Epoch(0), |stream| stream.epoch);
        let Some(beat) = self.links.beat(epoch, now) else { return };
        let holds = self.seat.is_some() || self.opening.is_some() || self.coordinator.taking();
        let role = if holds { Role::Writer } else { Role::Reader };
        let (applied, low) = (self.engine.applied(), self.engine.low());
        let request = Request::Heartbeat { beat, role, epoch, applied, low, lag_us: 0 };
        self.perform(vec![Action::Broadcast(request)], context);
    }

    fn mind_links(&mut self, now: Millis, context: &mut Context) {
        self.links.turn(now);
        while let Some(node) = self.links.fallen_silent(now) {
            self.node_gone(usize::from(node.0), context);
        }
    }

    fn mind_feed(&mut self, now: Millis, context: &mut Context) {
        match self.links.mind_feed(&mut self.present, now) {
            FeedStep::Keep => {}
            FeedStep::Subscribe(node) => {
                let from = self.engine.applied();
                self.send(usize::from(node.0), Request::Subscribe { from }, context);
            }
            FeedStep::Reconnect(node) => {
                if let Some(generation) = self.links.generation(node) {
                    self.hung_up(usize::from(node.0), generation, context);
                }
            }
        }
    }

    fn mind_seat(&mut self, now: Millis, context: &mut Context) {
        if let Some(stream) = self.opening {
            let begin = Position { epoch: stream.epoch, seq: Seq(0) };
            if self.engine.applied().get(stream.seat) >= begin {
                self.open_seat(stream, context);
            }
        }
        let held = self.seat.or(self.opening);
        if let (Some(stream), Some(holder)) = (held, self.election.holder(self.own_seat()))
            && holder.epoch > stream.epoch
            && holder.run != RunId(self.run)
        {
            self.lose_seat("another instance was granted a newer epoch", context);
        }
        if held.is_some() || self.coordinator.taking() || self.resigned || now < self.take_after {
            return;
        }
        let known = self.election.holder(self.own_seat()).map_or(Epoch(0), |holder| holder.epoch);
        let next = match self.mode() {
            Mode::SingleMaster => match self.election.campaign(now) {
                Some(epoch) => epoch,
                None => return,
            },
            Mode::MultiMaster => Epoch(known.0 + 1),
        };
        if self.coordinator.nodes_up() < self.quorum.write() || self.links.feed().is_none() {
            return;
        }
        let epoch = next.max(Epoch(self.floor.0 + 1));
        context.note(|| format!("instance {} takes epoch {}", self.index, epoch.0));
        let mut actions = Vec::new();
        self.coordinator.take(self.own_seat(), epoch, now, &mut actions);
        self.perform(actions, context);
        self.links.beat_soon();
        self.heartbeat(now, context);
    }

    fn open_seat(&mut self, stream: StreamId, context: &mut Context) {
        self.opening = None;
        self.seat = Some(stream);
        self.floor = self.floor.max(stream.epoch);
        if self.mode() == Mode::SingleMaster {
            self.lease_needed = true;
        }
        context.note(|| format!("instance {} opens seat {stream:?}", self.index));
        context.oracle.seats += 1;
        self.engine.writer = true;
    }

    fn lose_seat(&mut self, why: &str, context: &mut Context) {
        if self.seat.is_none() && self.opening.is_none() {
            return;
        }
        context.note(|| format!("instance {} loses its seat: {why}", self.index));
        self.seat = None;
        self.opening = None;
        self.coordinator.resign();
        let wakes = self.engine.fence();
        self.wake_all(wakes, context);
        self.lease_needed = false;
        self.take_after = self.now(context) + 200;
    }

    /// Finishes what is in flight and gives up the seat; `for_good`: it leaves.
    pub(crate) fn resign(&mut self, context: &mut Context) {
        self.closing_door = true;
        self.resigning = Some(self.now(context) + RESIGN_MS);
        self.turn_soon(context);
    }
    /// Whether it has given up its seat for good.
    pub(crate) fn has_resigned(&self) -> bool {
        self.resigned
    }

    fn mind_commits(&mut self, now: Millis, context: &mut Context) {
        for waiting in self.commits.due(now) {
            self.propose(waiting, context);
        }
        for (session, error) in self.commits.expire(now) {
            self.commit_over(session, Err(error), context);
        }
        let done = self.coordinator.in_flight() == 0 && self.commits.parked.is_empty();
        if let Some(deadline) = self.resigning
            && (done || now >= deadline)
        {
            self.resigning = None;
            self.resigned = self.closing;
            self.lose_seat("it is handed over", context);
            self.take_after = now + HAND_OVER_MS;
            self.closing_door = false;
            self.links.beat_soon();
        }
    }

    fn mind_reads(&mut self, now: Millis, context: &mut Context) {
        if self.seat.is_none_or(|_| self.mode() == Mode::MultiMaster) {
            self.present.probe(|| Asker::Probe, now);
        }
        if let Some(round) = self.present.begin(now) {
            let holds = self.seat.map(|stream| (stream.seat, stream.epoch));
            self.perform(vec![Action::Broadcast(Request::ReadIndex { id: round, holds })], context);
        }
        let applied = self.engine.applied();
        for asker in self.present.reached(&applied) {
            if let Asker::Session(session) = asker {
                self.present_reached(session, true, context);
            }
        }
        for txn in self.present.unresolved(&applied, now) {
            self.resolve(txn, context);
        }
        for asker in self.present.expire(now) {
            if let Asker::Session(session) = asker {
                self.present_reached(session, false, context);
            }
        }
        for reader in self.blocks.expire(now) {
            self.fetch_failed(reader, context);
        }
        for read in self.blocks.slow(now) {
            self.send_block(read, context);
        }
    }
}

fn id(node: usize) -> StorageId {
    StorageId(node as u8)
}
