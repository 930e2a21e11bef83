//! A disk that lost its votes comes back as a new one: `node_core::join` decides, this does it, as
//! `node/storage/src/join.rs`.

use std::collections::VecDeque;

use node_core::acceptor::Action as AcceptorAction;
use node_core::ids::RunId;
use node_core::join::{Action, Around, Begin, Join, Limits, TICK_MS};
use node_core::membership::{Generation, Generations};
use node_core::wire::{Membership, Reply, Request};

use super::feed::Feed;
use super::{Latest, Node, VOLUME, id};
use crate::context::Context;
use crate::net::{Event, MS, Micros};

const TICK: Micros = TICK_MS * MS;
/// Shorter than what ships, so that a run sees them end; and a copy takes several blocks.
const LIMITS: Limits = Limits { answer_ms: 1_000, settle_ms: 5_000, block_bytes: 200 };

/// A disk on its way in.
pub(crate) struct Joining {
    join: Join,
    /// What each member has told of the disks.
    told: Vec<Generations>,
    tick_at: Micros,
    /// The rows have been made durable.
    durable: bool,
}

impl Joining {
    /// Whether the acceptor follows the volume, though it does not vote.
    pub(crate) fn follows(&self) -> bool {
        self.join.follows()
    }
}

impl Node {
    /// A lost node begins to come back.
    pub(super) fn begin_join(&mut self, context: &mut Context) {
        let run = RunId(1 << 40 | (self.index as u64) << 20 | self.run);
        let disk = context.random.any();
        let join = Join::new(id(self.index), self.quorum, run, self.generation, disk, LIMITS);
        let told = vec![Generations::default(); self.quorum.nodes()];
        if let Some(live) = &mut self.live {
            live.joining = Some(Joining { join, told, tick_at: 0, durable: false });
        }
        context.net.schedule(context.now + TICK, Event::NodeStep(self.address()));
    }

    /// A member takes what its peer knows of the disks.
    pub(super) fn take_generations(&mut self, under: Generations, context: &mut Context) {
        let Some(live) = &self.live else { return };
        let own = live.acceptor.generations();
        if self.is_member() && !live.log_failed && own.join(&under) != own {
            self.handle(None, Request::Generations(under), &mut Vec::new(), context);
        }
    }

    pub(super) fn join_tick(&mut self, context: &mut Context) {
        let address = self.address();
        let Some(live) = &mut self.live else { return };
        let Some(joining) = &mut live.joining else { return };
        let mut actions = Vec::new();
        let ordering = live.acceptor.ordering();
        if joining.durable {
            joining.join.durable(ordering, &mut actions);
        } else {
            let (applied, released) = (self.rows.applied(), live.unlogged.is_empty());
            let around = Around { ordering, peers: &live.catch_up, applied, released };
            joining.join.tick(around, context.now / MS, &mut actions);
        }
        if context.now >= joining.tick_at {
            joining.tick_at = context.now + TICK;
            context.net.schedule(joining.tick_at, Event::NodeStep(address));
        }
        self.perform_join(actions, context);
    }

    /// A member answers a disk that joins. Gives back what is not its business.
    pub(super) fn join_reply(
        &mut self,
        peer: usize,
        under: Generations,
        reply: Reply,
        context: &mut Context,
    ) -> Option<Reply> {
        let live = self.live.as_mut()?;
        let Some(joining) = &mut live.joining else { return Some(reply) };
        let newest = joining.told[peer].join(&under);
        let counted = !matches!(reply, Reply::StatusIs { .. } | Reply::Fetched { .. } | Reply::Block(_));
        if newest != under && counted {
            return None; // of an older time: on a real connection it had come before
        }
        let (now, mut actions) = (context.now / MS, Vec::new());
        if newest != joining.told[peer] {
            joining.told[peer] = under;
            let told = Reply::Generations(under);
            joining.join.reply(id(peer), told, &live.catch_up, now, &mut actions);
        }
        let rest = joining.join.reply(id(peer), reply, &live.catch_up, now, &mut actions);
        self.perform_join(actions, context);
        rest
    }

    pub(super) fn join_peer_down(&mut self, peer: usize, context: &mut Context) {
        let Some(live) = &mut self.live else { return };
        let Some(joining) = &mut live.joining else { return };
        let mut actions = Vec::new();
        joining.join.peer_down(id(peer), &live.catch_up, context.now / MS, &mut actions);
        self.perform_join(actions, context);
    }

    fn perform_join(&mut self, actions: Vec<Action>, context: &mut Context) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Send(peer, request) => self.ask(usize::from(peer.0), request, context),
                Action::Announce { generation, .. } => {
                    // As durable as the membership.
                    self.generation = generation;
                    let Some(live) = &mut self.live else { return };
                    let Some(joining) = &mut live.joining else { return };
                    let mut more = Vec::new();
                    joining.join.announced(generation, &live.catch_up, &mut more);
                    actions.extend(more);
                }
                Action::Begin(begin) => self.begin_copy(*begin, context),
                Action::Take(request) => self.handle(None, request, &mut Vec::new(), context),
                Action::Copy { rows, .. } => self.rows.copy(&rows),
                Action::Finish(ordered) => {
                    self.rows.end_copy(&ordered);
                    let joining = self.live.as_mut().and_then(|live| live.joining.as_mut());
                    joining.expect("it is a disk that joins").durable = true;
                }
                Action::Member { generation, .. } => self.become_member(generation, context),
                Action::Again(why) => context.note(|| format!("node {} begins again: {why}", self.index)),
                Action::Elsewhere(why) => context.note(|| format!("node {} copies on: {why}", self.index)),
                Action::Resolved(txn, outcome) => context.oracle.decided(txn, outcome),
            }
        }
    }

    fn begin_copy(&mut self, begin: Begin, context: &mut Context) {
        let base = begin.checkpoint.ordered.clone();
        context.note(|| format!("node {} copies the volume from {}, {base}", self.index, begin.from.0));
        self.rows.begin_copy(&base);
        context.oracle.node_started(self.index, &base);
        let (quorum, chunks) = (self.quorum, self.feed_chunks);
        let Some(live) = &mut self.live else { return };
        live.pending.clear();
        live.pending_since = None;
        live.must_persist = false;
        live.unlogged.clear();
        live.rows_queue.clear();
        live.recent.young.clear();
        live.recent.old.clear();
        live.feed = Feed::new(base, chunks);
        let mut actions = Vec::new();
        let mut rows = Latest { recent: &live.recent, rows: &self.rows };
        live.acceptor = begin.acceptor(quorum, &mut rows, &mut actions);
        self.note_writer();
        for action in actions {
            if let AcceptorAction::Feed(items) = action {
                self.feed(items, context);
            }
        }
    }

    fn become_member(&mut self, generation: Generation, context: &mut Context) {
        self.disk.wipe();
        self.membership = Membership::Member(VOLUME);
        self.generation = generation;
        if let Some(live) = &mut self.live {
            live.joining = None;
            live.pending.clear();
            live.pending_since = None;
            live.must_persist = false;
        }
        self.begin_segment(context);
        context.oracle.node_back(self.index);
        context.note(|| format!("node {} is readmitted as disk {}", self.index, generation.number));
    }
}
