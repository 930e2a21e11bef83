//! A disk that lost its votes comes back as a new one (`docs/rfcs/0005-readmission.md`).
//!
//! ```text
//! Ask ─ a write quorum reports ─▶ Base ─▶ Copy rows ─▶ Settle ─ all that was reported is known ─▶ Persist ─▶ member
//!  ▲                               │                     │
//!  └───────── the peer is gone, or no answer in time ────┘
//! ```
//!
//! Rows may come from several members: every block is as of some moment after the state that the copy began with, and
//! what was decided since is followed. So a member that goes away costs a block, not the copy.
//!
//! From `Base` on the acceptor follows the volume as any node that missed something does ([`crate::catch_up`]); the
//! rows take what is decided and what is copied in any order, since a version never replaces a higher one. Nothing
//! is voted, promised or read here until the end. A crash on the way begins again: nothing depends on what is here.
//!
//! What members report as undecided is recovered by this node's own coordinator, as any instance could.
//!
//! Actions are performed in the order given. What a shell cannot do at once it reports: [`Join::announced`] once a
//! new generation is durable, [`Join::durable`] once the rows are.

use std::fmt;

use crate::acceptor::{self, Acceptor, Checkpoint, Rows, SeatCheckpoint};
use crate::catch_up::CatchUp;
use crate::coordinator::{Action as Wish, Coordinator, Millis};
use crate::ids::{Key, Outcome, RunId, StorageId, TxnId, Vector};
use crate::membership::{Generation, Generations, JoinReport, Joiner};
use crate::ordering::Ordering;
use crate::quorum::Quorum;
use crate::wire::{Block, Membership, ReadBlock, Reply, Request, RowVersions};

/// How often time passes for a disk that joins.
pub const TICK_MS: Millis = 10;
const ASK_AGAIN_MS: Millis = 500;
/// After a member has refused rows: it has too much to do, or has just begun.
const REFUSED_PAUSE_MS: Millis = 100;
/// A reported transaction is left alone for this long: its own writer normally decides it.
const RESOLVE_PATIENCE_MS: Millis = 50;
const RESOLVE_AGAIN_MS: Millis = 200;
const RESOLVE_MAX: usize = 256;

/// How long a disk that joins waits, and how much it takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A peer that has not answered by then is replaced by another one.
    pub answer_ms: Millis,
    /// When not all that was reported is known by then, the copy was of a member that is stuck itself.
    pub settle_ms: Millis,
    /// The rows of one answer.
    pub block_bytes: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { answer_ms: 10_000, settle_ms: 30_000, block_bytes: 1 << 20 }
    }
}

/// What a disk begins its copy with.
#[derive(Debug)]
pub struct Begin {
    /// Whose copy it is.
    pub from: StorageId,
    /// That member's state without its votes and promises; the rows follow from its vector on.
    pub checkpoint: Checkpoint,
    seats: Vec<SeatCheckpoint>,
    generations: Generations,
}

impl Begin {
    /// The acceptor of the new disk, bound by what the reporters have promised.
    pub fn acceptor(self, quorum: Quorum, rows: &mut dyn Rows, out: &mut Vec<acceptor::Action>) -> Acceptor {
        let mut acceptor = Acceptor::new(quorum);
        acceptor.install(self.checkpoint, &self.seats, self.generations, rows, out);
        acceptor
    }
}

/// Why another member is asked, if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setback {
    /// The member has not answered in time.
    NoAnswer,
    /// The member refuses rows, and says why.
    Refused(String),
    /// The connection to the member is gone.
    PeerGone,
    /// What was under way is not decided in time.
    Undecided,
}

impl fmt::Display for Setback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setback::NoAnswer => write!(f, "no answer in time"),
            Setback::Refused(reason) => write!(f, "a member refuses rows: {reason}"),
            Setback::PeerGone => write!(f, "the member is gone"),
            Setback::Undecided => write!(f, "what was under way is not decided"),
        }
    }
}

/// What the shell does for a disk that joins.
#[derive(Debug)]
pub enum Action {
    /// Ask a peer.
    Send(StorageId, Request),
    /// Make it durable that this disk, which is lost to the volume, is of this generation; then
    /// [`Join::announced`]. If that fails nothing is said, and it is wanted again.
    Announce {
        /// Of which volume.
        volume: u64,
        /// A generation that nobody has had.
        generation: Generation,
    },
    /// Forget the rows, the feed and all that was not yet logged, and begin with this.
    Begin(Box<Begin>),
    /// A decision for the acceptor; nobody waits for an answer.
    Take(Request),
    /// Rows of the copy: each is taken unless a newer version is here.
    Copy {
        /// The rows.
        rows: Vec<RowVersions>,
        /// Of their keys and values.
        bytes: u64,
    },
    /// All rows are here and complete from this vector on: make them durable; then [`Join::durable`].
    Finish(Vector),
    /// Begin a new log with what the acceptor knows, and only then make it durable that this disk is a member.
    Member {
        /// Of which volume.
        volume: u64,
        /// As which disk.
        generation: Generation,
    },
    /// The copy begins again; for the log.
    Again(Setback),
    /// The copy goes on with another member; for the log.
    Elsewhere(Setback),
    /// A transaction that was reported as undecided is decided; for the log.
    Resolved(TxnId, Outcome),
}

enum Stage {
    /// Learning what exists.
    Ask,
    /// Waiting for a state to begin from; from nobody while no reporter is there.
    Base { source: Option<(StorageId, u64)>, until: Millis },
    /// Copying rows; one question at a time. Nobody is asked for a moment after a refusal, and while no member is
    /// there.
    Copy { source: Option<(StorageId, u64)>, rows: Copying, until: Millis },
    /// Everything is copied; waiting until all that was reported is known.
    Settle { reach: Vector, until: Millis },
    /// Nothing more is taken until the rows are durable.
    Persist { ordered: Vector },
}

/// How far a copy of rows is.
#[derive(Clone)]
struct Copying {
    /// The first key that is not copied.
    start: Key,
    /// Where the state that it began with is.
    base: Vector,
    /// Where the blocks are, together.
    reach: Vector,
}

/// What a disk that joins sees of the node it is in.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// What the acceptor knows to be decided.
    pub ordering: &'a Ordering,
    /// The other nodes.
    pub peers: &'a CatchUp,
    /// How far the rows are.
    pub applied: &'a Vector,
    /// Whether the rows have been given everything that is ordered.
    pub released: bool,
}

/// A disk on its way in.
pub struct Join {
    own: StorageId,
    quorum: Quorum,
    limits: Limits,
    /// Random name of the new disk.
    disk: u64,
    /// Which disk this was before.
    before: Generation,
    /// Once it is announced to the members.
    generation: Option<Generation>,
    known: Generations,
    volume: Option<u64>,
    joiner: Joiner,
    coordinator: Coordinator,
    stage: Stage,
    asked: Option<Millis>,
    next_id: u64,
    tries: usize,
    bytes: u64,
}

impl Join {
    /// Nobody has been asked yet. `before` is the generation that this disk had, `disk` a random name for the new
    /// one, `run` names the recoveries it begins.
    pub fn new(
        own: StorageId,
        quorum: Quorum,
        run: RunId,
        before: Generation,
        disk: u64,
        limits: Limits,
    ) -> Join {
        Join {
            own,
            quorum,
            limits,
            disk,
            before,
            generation: None,
            known: Generations::default(),
            volume: None,
            joiner: Joiner::new(quorum),
            coordinator: Coordinator::new(quorum, run),
            stage: Stage::Ask,
            asked: None,
            next_id: 1,
            tries: 0,
            bytes: 0,
        }
    }
    /// Whether the acceptor follows the volume, though it does not vote.
    pub fn follows(&self) -> bool {
        matches!(self.stage, Stage::Copy { .. } | Stage::Settle { .. })
    }
    /// What has been copied since the copy last began, roughly.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
    /// How far it is, for a person.
    pub fn describe(&self) -> String {
        let mebibytes = self.bytes >> 20;
        match &self.stage {
            Stage::Ask => {
                let reports = self.joiner.reporters().count();
                format!("{reports} members have reported what exists, a write quorum of them is needed")
            }
            Stage::Base { source: Some((from, _)), .. } => {
                format!("asking storage node {} for a copy", from.0)
            }
            Stage::Base { source: None, .. } => "no member that has reported what exists is there".to_owned(),
            Stage::Copy { source: Some((from, _)), .. } => {
                format!("copying from storage node {}, {mebibytes} MiB so far", from.0)
            }
            Stage::Copy { source: None, .. } => {
                format!("waiting for a member to copy from, {mebibytes} MiB so far")
            }
            Stage::Settle { .. } => "waiting until all that was under way is decided".to_owned(),
            Stage::Persist { .. } => format!("making {mebibytes} MiB durable"),
        }
    }

    /// Time passes; every [`TICK_MS`].
    pub fn tick(&mut self, around: Around, now: Millis, out: &mut Vec<Action>) {
        let mut wishes = Vec::new();
        self.coordinator.tick(now, &mut wishes);
        self.grant(wishes, around.peers, out);
        match &self.stage {
            Stage::Ask => self.ask(around.peers, now, out),
            Stage::Base { until, .. } if *until <= now => {
                self.again(Setback::NoAnswer, around.peers, now, out);
            }
            Stage::Copy { source, until, .. } if *until <= now => {
                if source.is_some() {
                    out.push(Action::Elsewhere(Setback::NoAnswer));
                }
                self.copy_on(around.peers, now, out);
            }
            Stage::Settle { until, .. } if *until <= now => {
                self.again(Setback::Undecided, around.peers, now, out);
            }
            Stage::Settle { reach, .. } => {
                let reach = reach.clone();
                self.settle(&reach, around, now, out);
            }
            Stage::Base { .. } | Stage::Copy { .. } | Stage::Persist { .. } => {}
        }
    }

    /// A peer answers. Gives back what is not the business of a disk that joins.
    pub fn reply(
        &mut self,
        peer: StorageId,
        reply: Reply,
        peers: &CatchUp,
        now: Millis,
        out: &mut Vec<Action>,
    ) -> Option<Reply> {
        match reply {
            Reply::JoinOk { node, generation, report } => {
                if node == self.own && Some(generation) == self.generation {
                    self.reported(peer, report, peers, now, out);
                }
                None
            }
            Reply::JoinNack { node, current } => {
                if node == self.own {
                    self.known = self.known.join(&Generations::default().with(node, current));
                }
                None
            }
            Reply::Base { id, checkpoint } => {
                self.based(peer, id, checkpoint, now, out);
                None
            }
            Reply::Block(block) => {
                self.copied(block, now, out);
                None
            }
            Reply::ReadRefused { id, reason } => {
                if let Stage::Copy { source, until, .. } = &mut self.stage
                    && source.take_if(|(_, asked)| *asked == id).is_some()
                {
                    *until = now + REFUSED_PAUSE_MS;
                    out.push(Action::Elsewhere(Setback::Refused(reason)));
                }
                None
            }
            Reply::StatusIs { membership: Membership::Member(volume), .. } => {
                self.volume.get_or_insert(volume);
                let mut wishes = Vec::new();
                self.coordinator.node_up(peer, now, &mut wishes);
                self.grant(wishes, peers, out);
                Some(reply)
            }
            Reply::StatusIs { .. } | Reply::Fetched { .. } => Some(reply),
            reply => {
                if let Reply::Generations(generations) = &reply {
                    self.known = self.known.join(generations);
                }
                let mut wishes = Vec::new();
                self.coordinator.reply(peer, reply, now, &mut wishes);
                self.grant(wishes, peers, out);
                None
            }
        }
    }

    /// The connection to a peer is gone.
    pub fn peer_down(&mut self, peer: StorageId, peers: &CatchUp, now: Millis, out: &mut Vec<Action>) {
        let mut wishes = Vec::new();
        self.coordinator.node_down(peer, now, &mut wishes);
        self.grant(wishes, peers, out);
        match &self.stage {
            Stage::Base { source: Some((from, _)), .. } if *from == peer => {
                self.again(Setback::PeerGone, peers, now, out);
            }
            Stage::Copy { source: Some((from, _)), .. } if *from == peer => {
                out.push(Action::Elsewhere(Setback::PeerGone));
                self.copy_on(peers, now, out);
            }
            _ => {}
        }
    }

    // ---- Ask ----

    fn ask(&mut self, peers: &CatchUp, now: Millis, out: &mut Vec<Action>) {
        if self.asked.is_some_and(|asked| now.saturating_sub(asked) < ASK_AGAIN_MS) {
            return;
        }
        let enough = peers.members().len() >= self.quorum.write();
        let Some(volume) = self.volume.filter(|_| enough) else { return };
        self.asked = Some(now);
        let current = self.known.get(self.own);
        match self.generation.filter(|generation| current <= *generation) {
            Some(generation) => self.ask_members(generation, peers, out),
            None => {
                let number = current.number.max(self.before.number) + 1;
                let generation = Generation { number, disk: self.disk };
                out.push(Action::Announce { volume, generation });
            }
        }
    }

    /// The generation is durable: what is announced must be remembered.
    pub fn announced(&mut self, generation: Generation, peers: &CatchUp, out: &mut Vec<Action>) {
        self.generation = Some(generation);
        self.joiner = Joiner::new(self.quorum);
        self.ask_members(generation, peers, out);
    }

    fn ask_members(&self, generation: Generation, peers: &CatchUp, out: &mut Vec<Action>) {
        let node = self.own;
        let ask = |member| Action::Send(member, Request::Join { node, generation });
        out.extend(peers.members().into_iter().map(ask));
    }

    fn reported(
        &mut self,
        peer: StorageId,
        report: JoinReport,
        peers: &CatchUp,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        let before = self.joiner.complete();
        self.joiner.reported(peer, report);
        if !before && self.joiner.complete() && matches!(self.stage, Stage::Ask) {
            self.choose_source(peers, now, out);
        }
    }

    fn again(&mut self, why: Setback, peers: &CatchUp, now: Millis, out: &mut Vec<Action>) {
        out.push(Action::Again(why));
        self.choose_source(peers, now, out);
    }

    fn choose_source(&mut self, peers: &CatchUp, now: Millis, out: &mut Vec<Action>) {
        let Some(from) = self.next_source(peers) else {
            self.stage = Stage::Base { source: None, until: now + ASK_AGAIN_MS };
            return;
        };
        let id = self.next_id();
        self.stage = Stage::Base { source: Some((from, id)), until: now + self.limits.answer_ms };
        out.push(Action::Send(from, Request::Base { id }));
    }

    /// At first the member that is furthest; if that leads nowhere, another one.
    fn next_source(&mut self, peers: &CatchUp) -> Option<StorageId> {
        let members = peers.members();
        let usable: Vec<StorageId> = self.joiner.reporters().filter(|node| members.contains(node)).collect();
        self.tries += 1;
        match self.tries {
            1 => peers.furthest(&usable),
            tries => usable.get(tries % usable.len().max(1)).copied(),
        }
    }

    // ---- Base and Copy ----

    fn based(
        &mut self,
        peer: StorageId,
        id: u64,
        checkpoint: Checkpoint,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        if !matches!(&self.stage, Stage::Base { source, .. } if *source == Some((peer, id))) {
            return;
        }
        let generation = self.generation.expect("it was announced before anybody reported");
        let base = checkpoint.ordered.clone();
        let generations = self.known.with(self.own, generation);
        let begin = Begin { from: peer, checkpoint, seats: self.joiner.seats(), generations };
        out.push(Action::Begin(Box::new(begin)));
        let reported = self.joiner.decided();
        out.extend(reported.map(|(txn, outcome, body)| Action::Take(Request::Decide { txn, outcome, body })));
        self.bytes = 0;
        self.next_block(peer, Copying { start: Key::new(), base, reach: Vector::new() }, now, out);
    }

    /// The rows that are still missing, from another member.
    fn copy_on(&mut self, peers: &CatchUp, now: Millis, out: &mut Vec<Action>) {
        let next = self.next_source(peers);
        let Stage::Copy { source, rows, until } = &mut self.stage else { return };
        match next {
            Some(from) => {
                let rows = rows.clone();
                self.next_block(from, rows, now, out);
            }
            None => (*source, *until) = (None, now + ASK_AGAIN_MS),
        }
    }

    fn next_block(&mut self, from: StorageId, rows: Copying, now: Millis, out: &mut Vec<Action>) {
        let id = self.next_id();
        let read = ReadBlock {
            id,
            start: rows.start.clone(),
            end: None,
            reverse: false,
            bytes_max: self.limits.block_bytes,
            // Older snapshots are read elsewhere; what they see is gone soon wherever there are writes.
            from: Vector::new(),
            newest: true,
            at_least: rows.base.clone(),
        };
        out.push(Action::Send(from, Request::Read(read)));
        self.stage = Stage::Copy { source: Some((from, id)), rows, until: now + self.limits.answer_ms };
    }

    fn copied(&mut self, block: Block, now: Millis, out: &mut Vec<Action>) {
        let Stage::Copy { source: Some((from, id)), rows, .. } = &self.stage else { return };
        if *id != block.id {
            return;
        }
        let (from, mut rows) = (*from, rows.clone());
        rows.reach.join(&block.at);
        let bytes = block.rows.iter().map(size).sum();
        self.bytes += bytes;
        out.push(Action::Copy { rows: block.rows, bytes });
        match block.end {
            Some(next) => self.next_block(from, Copying { start: next, ..rows }, now, out),
            None => self.stage = Stage::Settle { reach: rows.reach, until: now + self.limits.settle_ms },
        }
    }

    // ---- Settle and Persist ----

    fn settle(&mut self, reach: &Vector, around: Around, now: Millis, out: &mut Vec<Action>) {
        let outstanding = self.joiner.outstanding(around.ordering);
        if self.asked.is_none_or(|asked| now.saturating_sub(asked) >= RESOLVE_AGAIN_MS) {
            self.asked = Some(now);
            // What is missing below known decisions keeps everything behind it from being applied anywhere.
            let missing = around.ordering.missing(RESOLVE_MAX);
            let mut wishes = Vec::new();
            for txn in outstanding.iter().chain(&missing).take(RESOLVE_MAX) {
                self.coordinator.resolve(*txn, RESOLVE_PATIENCE_MS, now, &mut wishes);
            }
            self.grant(wishes, around.peers, out);
        }
        let ordered = around.ordering.ordered();
        let level = around.applied == ordered && ordered.covers(reach) && around.released;
        // What this step hands to the acceptor is not in its order yet.
        let moves = out.iter().any(|action| matches!(action, Action::Take(_)));
        if outstanding.is_empty() && !self.joiner.behind(around.ordering) && level && !moves {
            // Older snapshots find their versions elsewhere.
            out.push(Action::Finish(ordered.clone()));
            self.stage = Stage::Persist { ordered: ordered.clone() };
        }
    }

    /// The rows are durable.
    ///
    /// # Panics
    ///
    /// If the acceptor has been given anything since [`Action::Finish`].
    pub fn durable(&self, ordering: &Ordering, out: &mut Vec<Action>) {
        let Stage::Persist { ordered } = &self.stage else { return };
        assert!(ordering.ordered() == ordered, "nothing is taken while the rows are made durable");
        let volume = self.volume.expect("members have told their volume");
        let generation = self.generation.expect("it was announced before anybody reported");
        out.push(Action::Member { volume, generation });
    }

    // ---- the coordinator of what members reported ----

    fn grant(&self, wishes: Vec<Wish>, peers: &CatchUp, out: &mut Vec<Action>) {
        for wish in wishes {
            match wish {
                Wish::Send(node, request) => out.push(Action::Send(node, request)),
                Wish::Broadcast(request) => {
                    let send = |member| Action::Send(member, request.clone());
                    out.extend(peers.members().into_iter().map(send));
                    if matches!(request, Request::Decide { .. }) && self.follows() {
                        out.push(Action::Take(request));
                    }
                }
                Wish::Resolved(txn, outcome) => out.push(Action::Resolved(txn, outcome)),
                // This node has no seat and proposes nothing.
                Wish::Apply(_)
                | Wish::Finish(..)
                | Wish::Seated(_)
                | Wish::TakeFailed { .. }
                | Wish::Unseated(_)
                | Wish::NodeUnable(..) => {}
            }
        }
    }

    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

/// The bytes of a row's key and newest value.
fn size(row: &RowVersions) -> u64 {
    let value = row.versions.first().and_then(|version| version.value.as_ref());
    (row.key.len() + value.map_or(0, |value| value.len())) as u64
}

#[cfg(test)]
mod tests;
