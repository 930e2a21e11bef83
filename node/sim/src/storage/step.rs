//! The storage thread: as `node/storage/src/driver.rs`.

use node_core::acceptor::{Action, Record};
use node_core::catch_up;
use node_core::election::WRITER_SEAT;
use node_core::ids::{Outcome, TxnId};
use node_core::quorum::Mode;
use node_core::wire::{FeedItem, Reply, Request, Wire};

use super::join::Joining;
use super::{Latest, Node, Outgoing, Work, id};
use crate::context::Context;
use crate::faults::Plant;
use crate::net::{Address, Body, Event, Letter, MS, Micros, Place};

/// Notes are written at the latest after this, with votes or alone.
const NOTES_DELAY: Micros = 50 * MS;
const LOG_RETRY: Micros = 200 * MS;
/// While the log cannot be written, no more records than this are remembered for it.
const STUCK_MAX: usize = 500;

/// Whom a reply goes to.
type To = Option<(Place, u64)>;

impl Node {
    /// Does everything that is queued, and writes if it is time.
    pub(crate) fn step(&mut self, context: &mut Context) {
        let Some(live) = &mut self.live else { return };
        if live.writing {
            return;
        }
        live.acceptor.applied(self.rows.applied());
        self.disk.drop_before(live.free_before);
        let mut outgoing = Vec::new();
        for work in std::mem::take(&mut live.inbox) {
            match work {
                Work::Request { from, generation, request } => {
                    self.request(from, generation, request, &mut outgoing, context);
                }
                Work::PeerReply { peer, under, reply } => {
                    self.take_generations(under, context);
                    if let Some(reply) = self.join_reply(peer, under, reply, context) {
                        self.peer_reply(peer, reply, context);
                    }
                }
                Work::PeerDown(peer) => {
                    if let Some(live) = &mut self.live {
                        live.catch_up.down(id(peer));
                    }
                    self.join_peer_down(peer, context);
                }
                Work::Hurry => {
                    if let Some(live) = &mut self.live {
                        live.hurry = true;
                    }
                }
            }
        }
        self.join_tick(context);
        self.mind_behind(context);
        self.persist(outgoing, context);
        self.fetch(context);
    }

    fn request(
        &mut self,
        from: Address,
        generation: u64,
        request: Request,
        outgoing: &mut Vec<Outgoing>,
        context: &mut Context,
    ) {
        let to = Some((from.place, generation));
        let (member, single) = (self.is_member(), self.quorum.mode() == Mode::SingleMaster);
        let Some(live) = &mut self.live else { return };
        match request {
            Request::Status { settled, .. } => {
                let reply = catch_up::status(&live.acceptor, self.membership, &settled);
                outgoing.push(Outgoing { to: from.place, generation, under: self.generations(), reply });
            }
            Request::Base { id } if member => {
                let reply = Reply::Base { id, checkpoint: live.acceptor.base() };
                outgoing.push(Outgoing {
                    to: from.place,
                    generation,
                    under: live.acceptor.generations(),
                    reply,
                });
            }
            Request::Fetch { id, txns } => {
                let known = catch_up::known(live.acceptor.ordering(), txns);
                let commits = known.iter().filter(|(_, outcome)| *outcome == Outcome::Commit);
                let bodies = commits.filter_map(|(txn, _)| self.rows.txn(*txn)).collect();
                self.say(from.place, generation, Reply::Fetched { id, known, bodies }, context);
            }
            Request::Decide { .. } | Request::Activated(_) => {
                if member && live.pending.len() < STUCK_MAX {
                    self.handle(to, request, outgoing, context);
                }
            }
            Request::ReadIndex { .. } | Request::Generations(_) => {
                if member && !live.log_failed {
                    self.handle(to, request, outgoing, context);
                }
            }
            request if member && !live.log_failed => {
                if let Request::Fence { seat: seat @ WRITER_SEAT, epoch, run, ballot } = request
                    && single
                    && !live.registry.admits(run, epoch, context.now)
                {
                    let (reply, under) = (Reply::Leased { seat, epoch, ballot }, self.generations());
                    return outgoing.push(Outgoing { to: from.place, generation, under, reply });
                }
                self.handle(to, request, outgoing, context);
            }
            request => {
                if let Some(txn) = subject(&request) {
                    let reply = Reply::Unable { txn, reason: "the disk is full, or lost".to_owned() };
                    outgoing.push(Outgoing { to: from.place, generation, under: self.generations(), reply });
                }
            }
        }
    }

    pub(super) fn note_writer(&mut self) {
        let Some(live) = &mut self.live else { return };
        live.registry.writer_epoch(live.acceptor.granted(WRITER_SEAT));
    }

    pub(super) fn handle(
        &mut self,
        to: To,
        request: Request,
        outgoing: &mut Vec<Outgoing>,
        context: &mut Context,
    ) {
        let Some(live) = &mut self.live else { return };
        let fence = matches!(request, Request::Fence { .. });
        let mut actions = Vec::new();
        let mut rows = Latest { recent: &live.recent, rows: &self.rows };
        live.acceptor.handle(request, &mut rows, &mut actions);
        let mut seats_changed = false;
        for action in actions {
            match action {
                Action::Persist(record) => {
                    if let Some(live) = &mut self.live {
                        live.must_persist = true;
                    }
                    self.remember(&record, context);
                }
                Action::Note(record) => self.remember(&record, context),
                Action::Reply(reply) => {
                    if let Some((to, generation)) = to {
                        outgoing.push(Outgoing { to, generation, under: self.generations(), reply });
                    }
                }
                Action::Feed(items) => self.feed(items, context),
                Action::SeatsChanged => seats_changed = true,
                // Every reply says under which generations it was given.
                Action::GenerationsChanged => {}
            }
        }
        if fence || seats_changed {
            self.note_writer();
        }
        if seats_changed {
            self.tell_topology(context);
        }
    }

    fn remember(&mut self, record: &Record, context: &mut Context) {
        let address = self.address();
        let Some(live) = &mut self.live else { return };
        live.pending.push(record.to_bytes());
        if live.pending_since.is_none() {
            live.pending_since = Some(context.now);
            context.net.schedule(context.now + NOTES_DELAY, Event::NodeStep(address));
        }
    }

    pub(super) fn feed(&mut self, items: Vec<FeedItem>, context: &mut Context) {
        context.oracle.ordered(self.index, &items);
        let Some(live) = &mut self.live else { return };
        for item in &items {
            if let FeedItem::Commit(txn) = item {
                for write in &txn.writes {
                    live.recent.put(&write.key, write.version(txn.id));
                }
            }
        }
        live.unlogged.extend(items.iter().cloned());
        let logged = live.pending.is_empty();
        live.feed.push(items.clone(), self.rows.applied());
        if logged {
            self.release_rows(context);
        }
        self.tell_subscribers(&items, context);
    }

    // ---- the log ----

    fn persist(&mut self, outgoing: Vec<Outgoing>, context: &mut Context) {
        let address = self.address();
        let Some(live) = &mut self.live else { return };
        let delay = if live.log_failed { LOG_RETRY } else { NOTES_DELAY };
        let due = live.pending_since.is_some_and(|since| since + delay <= context.now);
        let hurry = std::mem::take(&mut live.hurry) && !live.unlogged.is_empty();
        let failed = live.log_failed;
        let wanted = if failed { due } else { live.must_persist || due || hurry };
        if !wanted || live.pending.is_empty() {
            if live.pending.is_empty() {
                live.must_persist = false;
            }
            return self.send(outgoing, context);
        }
        let mut records = Vec::new();
        let segment = self.disk.needs_segment();
        if segment {
            records.extend(live.acceptor.checkpoint_records().iter().map(Wire::to_bytes));
        }
        records.extend(live.pending.iter().cloned());
        match self.disk.write(records, segment, context.now, &mut context.random) {
            Ok(takes) => {
                live.writing = true;
                if failed || !live.must_persist || context.plant == Plant::VoteBeforeSync {
                    // Nothing of it needs the log: with a plant, it only should.
                    self.send(outgoing, context);
                } else {
                    live.waiting = outgoing;
                }
                context.net.schedule(context.now + takes, Event::NodeWritten(address));
            }
            Err(_) => {
                live.log_failed = true;
                live.pending_since = Some(context.now);
                let tell = failed || !live.must_persist;
                context.net.schedule(context.now + LOG_RETRY, Event::NodeStep(address));
                context.note(|| format!("node {} cannot write its log", address.run));
                if tell {
                    self.send(outgoing, context);
                }
            }
        }
    }

    /// Begins the log of this run with a checkpoint; on a full disk that is tried again with the first write.
    pub(super) fn begin_segment(&mut self, context: &mut Context) {
        let Some(live) = &mut self.live else { return };
        let records = live.acceptor.checkpoint_records().iter().map(Wire::to_bytes).collect();
        // A start writes before it serves. Without room the first write begins the segment.
        let begun = self.disk.write(records, true, context.now, &mut context.random).is_ok();
        if let Some(generation) = self.disk.written().filter(|_| begun) {
            self.disk.drop_before(generation);
        }
    }

    /// The write is over.
    pub(crate) fn written(&mut self, context: &mut Context) {
        let address = self.address();
        let Some(live) = &mut self.live else { return };
        live.writing = false;
        live.log_failed = false;
        live.must_persist = false;
        live.pending.clear();
        live.pending_since = None;
        let waiting = std::mem::take(&mut live.waiting);
        let generation = self.disk.written();
        if generation.is_some() {
            live.rows_marker = generation;
        }
        self.release_rows(context);
        self.send(waiting, context);
        if self.live.as_ref().is_some_and(|live| !live.inbox.is_empty()) {
            context.net.schedule(context.now + 5, Event::NodeStep(address));
        }
    }

    fn send(&self, outgoing: Vec<Outgoing>, context: &mut Context) {
        for Outgoing { to, generation, under, reply } in outgoing {
            let body = Body::Reply(reply);
            context.send(Letter { from: self.address(), to, generation, under, body });
        }
    }

    // ---- peers ----

    fn peer_reply(&mut self, peer: usize, reply: Reply, context: &mut Context) {
        let member = self.is_member();
        let Some(live) = &mut self.live else { return };
        let mut nobody = Vec::new();
        match reply {
            Reply::StatusIs { membership, settled, closings, .. } => {
                live.catch_up.status(id(peer), membership, settled);
                let follows = live.joining.as_ref().is_some_and(Joining::follows);
                if catch_up::takes_closings(self.membership, follows, membership) {
                    for closing in closings {
                        self.handle(None, Request::Activated(closing), &mut nobody, context);
                    }
                }
            }
            Reply::Fetched { id: question, known, bodies } => {
                let takes = member || live.joining.as_ref().is_some_and(Joining::follows);
                let now = context.now / MS;
                let fetched = live.catch_up.fetched(id(peer), question, known, bodies, now);
                for decision in fetched.decisions.into_iter().filter(|_| takes) {
                    self.handle(None, decision, &mut nobody, context);
                }
            }
            _ => {}
        }
    }

    /// Leaves if what was missed is recorded nowhere any more while the others can do without this node.
    fn mind_behind(&mut self, context: &mut Context) {
        let (address, member) = (self.address(), self.is_member());
        let Some(live) = &mut self.live else { return };
        let behind = live.catch_up.behind_for_good(live.acceptor.ordering(), context.now / MS);
        if member && behind {
            context.net.schedule(context.now + 1, Event::NodeLeaves(address));
        }
    }

    fn fetch(&mut self, context: &mut Context) {
        let member = self.is_member();
        let Some(live) = &mut self.live else { return };
        let follows = live.joining.as_ref().is_some_and(Joining::follows);
        if !(member || follows) || live.log_failed {
            return;
        }
        let next = live.catch_up.next_fetch(live.acceptor.ordering(), context.now / MS);
        if let Some((peer, request)) = next {
            self.ask(usize::from(peer.0), request, context);
        }
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
