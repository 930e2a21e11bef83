//! A disk that lost its votes comes back as a new one: as `node/storage/src/join.rs`.

use node_core::acceptor::{Acceptor, Action, Checkpoint};
use node_core::coordinator::{Action as Wish, Coordinator};
use node_core::ids::{Key, RunId, StorageId, Vector};
use node_core::membership::{Generation, Generations, JoinReport, Joiner};
use node_core::quorum::Quorum;
use node_core::wire::{Block, Membership, ReadBlock, Reply, Request};

use super::feed::Feed;
use super::{Latest, Node, VOLUME, id};
use crate::context::Context;
use crate::net::{Event, MS, Micros};

const TICK: Micros = 10 * MS;
const ASK_AGAIN: Micros = 500 * MS;
const ANSWER_MAX: Micros = 1_000 * MS;
const SETTLE_MAX: Micros = 5_000 * MS;
const RESOLVE_AGAIN: Micros = 200 * MS;
const RESOLVE_PATIENCE_MS: u64 = 50;
const RESOLVE_MAX: usize = 256;
/// Small, so that a copy takes several blocks.
const BLOCK_BYTES: u32 = 200;

enum Stage {
    Ask,
    Base { from: usize, id: u64, until: Micros },
    Copy { from: usize, id: u64, base: Vector, reach: Vector, until: Micros },
    Settle { reach: Vector, until: Micros },
}

/// A disk on its way in.
pub(crate) struct Join {
    generation: Option<Generation>,
    known: Generations,
    /// What each member has told of the disks.
    told: Vec<Generations>,
    members: Vec<bool>,
    joiner: Joiner,
    coordinator: Coordinator,
    stage: Stage,
    asked: Option<Micros>,
    tick_at: Micros,
    next_id: u64,
    tries: usize,
}

impl Join {
    fn new(quorum: Quorum, run: RunId) -> Join {
        Join {
            generation: None,
            known: Generations::default(),
            told: vec![Generations::default(); quorum.nodes()],
            members: vec![false; quorum.nodes()],
            joiner: Joiner::new(quorum),
            coordinator: Coordinator::new(quorum, run),
            stage: Stage::Ask,
            asked: None,
            tick_at: 0,
            next_id: 1,
            tries: 0,
        }
    }
    /// Whether the acceptor follows the volume, though it does not vote.
    pub(crate) fn follows(&self) -> bool {
        matches!(self.stage, Stage::Copy { .. } | Stage::Settle { .. })
    }
    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

impl Node {
    /// A lost node begins to come back.
    pub(super) fn begin_join(&mut self, context: &mut Context) {
        let run = RunId(1 << 40 | (self.index as u64) << 20 | self.run);
        let join = Join::new(self.quorum, run);
        if let Some(live) = &mut self.live {
            live.joining = Some(join);
        }
        context.net.schedule(context.now + TICK, Event::NodeStep(self.address()));
    }

    /// A member takes what its peer knows of the disks.
    pub(super) fn take_generations(&mut self, _peer: usize, under: Generations, context: &mut Context) {
        let Some(live) = &self.live else { return };
        let own = live.acceptor.generations();
        if self.is_member() && !live.log_failed && own.join(&under) != own {
            self.handle(None, Request::Generations(under), &mut Vec::new(), context);
        }
    }

    pub(super) fn join_tick(&mut self, context: &mut Context) {
        let Some(mut join) = self.live.as_mut().and_then(|live| live.joining.take()) else { return };
        let member = self.step_join(&mut join, context);
        if member {
            return;
        }
        if context.now >= join.tick_at {
            join.tick_at = context.now + TICK;
            context.net.schedule(join.tick_at, Event::NodeStep(self.address()));
        }
        if let Some(live) = &mut self.live {
            live.joining = Some(join);
        }
    }

    fn step_join(&mut self, join: &mut Join, context: &mut Context) -> bool {
        let mut wishes = Vec::new();
        join.coordinator.tick(context.now / MS, &mut wishes);
        self.grant(join, wishes, context);
        match &join.stage {
            Stage::Ask => self.ask_to_join(join, context),
            Stage::Base { until, .. } | Stage::Copy { until, .. } if *until <= context.now => {
                self.choose_source(join, context);
            }
            Stage::Base { .. } | Stage::Copy { .. } => {}
            Stage::Settle { until, .. } if *until <= context.now => self.choose_source(join, context),
            Stage::Settle { reach, .. } => {
                let reach = reach.clone();
                return self.settle(join, &reach, context);
            }
        }
        false
    }

    /// A member answers a disk that joins. Gives back what is not its business.
    pub(super) fn join_reply(
        &mut self,
        peer: usize,
        under: Generations,
        reply: Reply,
        context: &mut Context,
    ) -> Option<Reply> {
        let Some(mut join) = self.live.as_mut().and_then(|live| live.joining.take()) else {
            return Some(reply);
        };
        let rest = self.answered(&mut join, peer, under, reply, context);
        if let Some(live) = &mut self.live {
            live.joining = Some(join);
        }
        rest
    }

    fn answered(
        &mut self,
        join: &mut Join,
        peer: usize,
        under: Generations,
        reply: Reply,
        context: &mut Context,
    ) -> Option<Reply> {
        let newest = join.told[peer].join(&under);
        join.known = join.known.join(&under);
        let counted = !matches!(reply, Reply::StatusIs { .. } | Reply::Fetched { .. } | Reply::Block(_));
        if newest != under && counted {
            return None; // of an older time: on a real connection it had come before
        }
        if newest != join.told[peer] {
            join.told[peer] = under;
            self.pass_on(join, peer, Reply::Generations(under), context);
        }
        match reply {
            Reply::JoinOk { node, generation, report } => {
                if node == id(self.index) && Some(generation) == join.generation {
                    self.reported(join, peer, report, context);
                }
                None
            }
            Reply::JoinNack { node, current } => {
                join.known = join.known.join(&Generations::default().with(node, current));
                None
            }
            Reply::Base { id, checkpoint } => {
                self.based(join, peer, id, checkpoint, context);
                None
            }
            Reply::Block(block) => {
                self.copied(join, block, context);
                None
            }
            Reply::ReadRefused { id, .. } => {
                if matches!(&join.stage, Stage::Copy { id: asked, .. } if *asked == id) {
                    self.choose_source(join, context);
                }
                None
            }
            Reply::StatusIs { membership, .. } => {
                join.members[peer] = matches!(membership, Membership::Member(_));
                if join.members[peer] {
                    let mut wishes = Vec::new();
                    join.coordinator.node_up(id(peer), context.now / MS, &mut wishes);
                    self.grant(join, wishes, context);
                }
                Some(reply)
            }
            Reply::Fetched { .. } => Some(reply),
            reply => {
                self.pass_on(join, peer, reply, context);
                None
            }
        }
    }

    fn pass_on(&mut self, join: &mut Join, peer: usize, reply: Reply, context: &mut Context) {
        let mut wishes = Vec::new();
        join.coordinator.reply(id(peer), reply, context.now / MS, &mut wishes);
        self.grant(join, wishes, context);
    }

    pub(super) fn join_peer_down(&mut self, peer: usize, context: &mut Context) {
        let Some(mut join) = self.live.as_mut().and_then(|live| live.joining.take()) else { return };
        join.members[peer] = false;
        let mut wishes = Vec::new();
        join.coordinator.node_down(id(peer), context.now / MS, &mut wishes);
        self.grant(&join, wishes, context);
        if matches!(&join.stage, Stage::Base { from, .. } | Stage::Copy { from, .. } if *from == peer) {
            self.choose_source(&mut join, context);
        }
        if let Some(live) = &mut self.live {
            live.joining = Some(join);
        }
    }

    fn ask_to_join(&mut self, join: &mut Join, context: &mut Context) {
        if join.asked.is_some_and(|asked| context.now - asked < ASK_AGAIN) {
            return;
        }
        let members: Vec<usize> = (0..self.quorum.nodes()).filter(|node| join.members[*node]).collect();
        if members.len() < self.quorum.write() {
            return;
        }
        join.asked = Some(context.now);
        let current = join.known.get(id(self.index));
        let announced = join.generation.filter(|generation| current <= *generation);
        let generation = announced.unwrap_or_else(|| {
            let number = current.number.max(self.generation.number) + 1;
            let generation = Generation { number, disk: context.random.any() };
            join.joiner = Joiner::new(self.quorum);
            join.generation = Some(generation);
            self.generation = generation;
            generation
        });
        for member in members {
            self.ask(member, Request::Join { node: id(self.index), generation }, context);
        }
    }

    fn reported(&mut self, join: &mut Join, peer: usize, report: JoinReport, context: &mut Context) {
        let before = join.joiner.complete();
        join.joiner.reported(id(peer), report);
        if !before && join.joiner.complete() && matches!(join.stage, Stage::Ask) {
            self.choose_source(join, context);
        }
    }

    fn choose_source(&mut self, join: &mut Join, context: &mut Context) {
        let reporters = join.joiner.reporters();
        let usable: Vec<StorageId> = reporters.filter(|node| join.members[usize::from(node.0)]).collect();
        join.tries += 1;
        let furthest = self.live.as_ref().and_then(|live| live.catch_up.furthest(&usable));
        let chosen = match join.tries {
            1 => furthest,
            tries => usable.get(tries % usable.len().max(1)).copied(),
        };
        let Some(from) = chosen else {
            join.stage = Stage::Base { from: self.index, id: 0, until: context.now + ASK_AGAIN };
            return;
        };
        let (id, from) = (join.next_id(), usize::from(from.0));
        join.stage = Stage::Base { from, id, until: context.now + ANSWER_MAX };
        self.ask(from, Request::Base { id }, context);
    }

    fn based(
        &mut self,
        join: &mut Join,
        peer: usize,
        id: u64,
        checkpoint: Checkpoint,
        context: &mut Context,
    ) {
        if !matches!(&join.stage, Stage::Base { from, id: asked, .. } if *from == peer && *asked == id) {
            return;
        }
        let Some(generation) = join.generation else { return };
        let base = checkpoint.ordered.clone();
        context.note(|| format!("node {} copies the volume from {peer}, {base}", self.index));
        self.rows.begin_copy(&base);
        context.oracle.node_started(self.index, &base);
        let (index, quorum, chunks) = (self.index, self.quorum, self.feed_chunks);
        let Some(live) = &mut self.live else { return };
        live.pending.clear();
        live.pending_since = None;
        live.must_persist = false;
        live.unlogged.clear();
        live.rows_queue.clear();
        live.recent.young.clear();
        live.recent.old.clear();
        live.acceptor = Acceptor::new(quorum);
        live.feed = Feed::new(base.clone(), chunks);
        let generations = join
            .known
            .with(StorageId(u8::try_from(index).expect("a volume has at most six nodes")), generation);
        let seats = join.joiner.seats();
        let mut actions = Vec::new();
        let mut rows = Latest { recent: &live.recent, rows: &self.rows };
        live.acceptor.install(checkpoint, &seats, generations, &mut rows, &mut actions);
        for action in actions {
            if let Action::Feed(items) = action {
                self.feed(items, context);
            }
        }
        let reported: Vec<Request> = join
            .joiner
            .decided()
            .map(|(txn, outcome, body)| Request::Decide { txn, outcome, body })
            .collect();
        for request in reported {
            self.handle(None, request, &mut Vec::new(), context);
        }
        self.next_block(join, peer, Key::new(), base, Vector::new(), context);
    }

    fn next_block(
        &mut self,
        join: &mut Join,
        from: usize,
        start: Key,
        base: Vector,
        reach: Vector,
        context: &mut Context,
    ) {
        let id = join.next_id();
        let read = ReadBlock {
            id,
            start,
            end: None,
            reverse: false,
            bytes_max: BLOCK_BYTES,
            from: base.clone(),
            at_least: base.clone(),
        };
        self.ask(from, Request::Read(read), context);
        join.stage = Stage::Copy { from, id, base, reach, until: context.now + ANSWER_MAX };
    }

    fn copied(&mut self, join: &mut Join, block: Block, context: &mut Context) {
        let Stage::Copy { from, id, base, reach, .. } = &join.stage else { return };
        if *id != block.id {
            return;
        }
        let (from, base, mut reach) = (*from, base.clone(), reach.clone());
        reach.join(&block.at);
        self.rows.copy(&block.rows);
        match block.end {
            Some(next) => self.next_block(join, from, next, base, reach, context),
            None => join.stage = Stage::Settle { reach, until: context.now + SETTLE_MAX },
        }
    }

    /// True once the node is a member again.
    fn settle(&mut self, join: &mut Join, reach: &Vector, context: &mut Context) -> bool {
        let Some(live) = &self.live else { return false };
        let ordering = live.acceptor.ordering();
        let outstanding = join.joiner.outstanding(ordering);
        let behind = join.joiner.behind(ordering);
        if join.asked.is_none_or(|asked| context.now - asked >= RESOLVE_AGAIN) {
            join.asked = Some(context.now);
            let missing = ordering.missing(RESOLVE_MAX);
            let mut wishes = Vec::new();
            for txn in outstanding.iter().chain(&missing).take(RESOLVE_MAX) {
                join.coordinator.resolve(*txn, RESOLVE_PATIENCE_MS, context.now / MS, &mut wishes);
            }
            self.grant(join, wishes, context);
        }
        let Some(live) = &self.live else { return false };
        let ordered = live.acceptor.ordering().ordered().clone();
        let level = self.rows.applied() == &ordered
            && ordered.covers(reach)
            && live.unlogged.is_empty()
            && !live.writing;
        if !outstanding.is_empty() || behind || !level {
            return false;
        }
        self.rows.end_copy(&ordered);
        self.disk.wipe();
        self.membership = Membership::Member(VOLUME);
        let generation = join.generation.expect("it was announced");
        self.generation = generation;
        if let Some(live) = &mut self.live {
            live.pending.clear();
            live.pending_since = None;
            live.must_persist = false;
        }
        self.begin_segment(context);
        context.oracle.node_back(self.index);
        context.note(|| format!("node {} is readmitted as disk {}", self.index, generation.number));
        true
    }

    fn grant(&mut self, join: &Join, wishes: Vec<Wish>, context: &mut Context) {
        for wish in wishes {
            match wish {
                Wish::Send(node, request) => self.ask(usize::from(node.0), request, context),
                Wish::Broadcast(request) => {
                    for member in (0..self.quorum.nodes()).filter(|node| join.members[*node]) {
                        self.ask(member, request.clone(), context);
                    }
                    if matches!(request, Request::Decide { .. }) && join.follows() {
                        self.handle(None, request, &mut Vec::new(), context);
                    }
                }
                Wish::Resolved(txn, outcome) => context.oracle.decided(txn, outcome),
                Wish::Apply(_)
                | Wish::Finish(..)
                | Wish::Seated(_)
                | Wish::TakeFailed { .. }
                | Wish::Unseated(_)
                | Wish::NodeUnable(..) => {}
            }
        }
    }
}
