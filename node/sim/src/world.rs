//! The world: who is in it, how time passes, and what must always hold.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use node_core::acceptor::{Acceptor, Action as NodeAction, Record, Rows};
use node_core::coordinator::{Action, Coordinator, Finish, Proposal};
use node_core::ids::{
    Epoch, Key, Outcome, Position, RunId, Seat, Seq, StorageId, StreamId, TxnId, Vector, Ver,
};
use node_core::quorum::{Mode, Quorum};
use node_core::txn::{Check, SharedTxn, Write};
use node_core::wire::{FeedItem, Reply, Request};

use crate::Random;

/// What goes wrong, in per cent of the occasions.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// A message is lost.
    pub lost: u64,
    /// A message is delivered twice.
    pub twice: u64,
    /// Per step in ten thousand: a storage node crashes and restarts.
    pub node_crash: u64,
    /// Per step in ten thousand: an instance crashes and comes back as a new run.
    pub instance_crash: u64,
    /// Per step in ten thousand: a link is cut for a while.
    pub cut: u64,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Transactions acknowledged.
    pub committed: u64,
    /// Transactions refused.
    pub aborted: u64,
    /// Crashes of storage nodes and instances.
    pub crashes: u64,
}

#[derive(Default)]
struct Applied(HashMap<Key, Ver>);

impl Rows for Applied {
    fn latest(&mut self, key: &Key) -> Option<Ver> {
        self.0.get(key).copied()
    }
}

struct Node {
    acceptor: Acceptor,
    rows: Applied,
    log: Vec<Record>,
    durable: usize,
    feed: Vec<FeedItem>,
}

struct Instance {
    coordinator: Coordinator,
    run: RunId,
    ready: Option<StreamId>,
    taken: bool,
    applied: Vector,
    rows: HashMap<Key, Ver>,
    source: usize,
    cursor: usize,
    waiting: HashMap<u64, Vec<Write>>,
    next_ticket: u64,
}

enum Message {
    Request(usize, usize, Request),
    Reply(usize, usize, RunId, Reply),
}

/// A whole cluster in one thread.
pub struct World {
    random: Random,
    quorum: Quorum,
    mode: Mode,
    faults: Faults,
    nodes: Vec<Node>,
    instances: Vec<Instance>,
    flying: Vec<(u64, Message)>,
    cut: HashMap<(usize, usize), u64>,
    now: u64,
    decisions: HashMap<TxnId, Outcome>,
    slots: HashMap<(Key, u64), TxnId>,
    bodies: BTreeMap<TxnId, SharedTxn>,
    acknowledged: Vec<TxnId>,
    refused: Vec<TxnId>,
    proposed: HashMap<(RunId, u64), TxnId>,
    report: Report,
    next_run: u64,
    keys: u64,
}

impl World {
    /// A cluster at rest.
    pub fn new(seed: u64, nodes: usize, instances: usize, mode: Mode, faults: Faults) -> World {
        let mut random = Random::new(seed);
        let quorum = Quorum::new(nodes, mode).expect("sizes are given by the tests");
        let keys = 1 + random.below(6);
        let node = || Node {
            acceptor: Acceptor::new(quorum),
            rows: Applied::default(),
            log: Vec::new(),
            durable: 0,
            feed: Vec::new(),
        };
        let mut world = World {
            nodes: (0..nodes).map(|_| node()).collect(),
            instances: Vec::new(),
            random,
            quorum,
            mode,
            faults,
            flying: Vec::new(),
            cut: HashMap::new(),
            now: 0,
            decisions: HashMap::new(),
            slots: HashMap::new(),
            bodies: BTreeMap::new(),
            acknowledged: Vec::new(),
            refused: Vec::new(),
            proposed: HashMap::new(),
            report: Report::default(),
            next_run: 1,
            keys,
        };
        for _ in 0..instances {
            let instance = world.new_instance();
            world.instances.push(instance);
        }
        for index in 0..instances {
            world.connect(index);
        }
        world
    }

    fn new_instance(&mut self) -> Instance {
        let run = RunId(self.next_run);
        self.next_run += 1;
        Instance {
            coordinator: Coordinator::new(self.quorum, run),
            run,
            ready: None,
            taken: false,
            applied: Vector::new(),
            rows: HashMap::new(),
            source: self.random.below(self.nodes.len() as u64) as usize,
            cursor: 0,
            waiting: HashMap::new(),
            next_ticket: 0,
        }
    }

    fn connect(&mut self, index: usize) {
        let mut out = Vec::new();
        for node in 0..self.nodes.len() {
            self.instances[index].coordinator.node_up(StorageId(node as u8), self.now, &mut out);
        }
        self.perform(index, out);
    }

    /// Runs with faults for `steps`, then heals everything, lets it come to rest and checks the end.
    pub fn run(&mut self, steps: u64) -> Report {
        for _ in 0..steps {
            self.step();
            self.misfortune();
        }
        self.faults = Faults { lost: 0, twice: 0, node_crash: 0, instance_crash: 0, cut: 0 };
        self.cut.clear();
        self.settle();
        self.check_end();
        self.report
    }

    fn step(&mut self) {
        self.now += 1;
        self.deliver();
        for index in 0..self.instances.len() {
            let mut out = Vec::new();
            self.instances[index].coordinator.tick(self.now, &mut out);
            self.perform(index, out);
            self.follow(index);
            self.seat(index);
            if self.random.chance(20) {
                self.client(index);
            }
        }
        if self.now.is_multiple_of(50) {
            self.gossip();
        }
    }

    /// Faults end; clients stop; everything must be decided and known everywhere.
    fn settle(&mut self) {
        for index in 0..self.instances.len() {
            self.connect(index);
        }
        for round in 0..40_000 {
            self.now += 1;
            self.deliver();
            for index in 0..self.instances.len() {
                let mut out = Vec::new();
                self.instances[index].coordinator.tick(self.now, &mut out);
                self.perform(index, out);
                self.follow(index);
                self.seat(index);
            }
            if round % 50 == 0 {
                self.gossip();
                self.resolve_leftovers();
            }
            let undecided: usize = self.nodes.iter().map(|node| node.acceptor.undecided()).sum();
            let open: usize = self.instances.iter().map(|instance| instance.coordinator.in_flight()).sum();
            let first = self.nodes[0].acceptor.ordering().ordered();
            let same = self.nodes.iter().all(|node| node.acceptor.ordering().ordered() == first);
            if undecided == 0 && open == 0 && same && self.instances.iter().any(|one| one.ready.is_some()) {
                return;
            }
        }
        let undecided: Vec<usize> = self.nodes.iter().map(|node| node.acceptor.undecided()).collect();
        let open: Vec<usize> = self.instances.iter().map(|one| one.coordinator.in_flight()).collect();
        let vectors: Vec<String> =
            self.nodes.iter().map(|node| node.acceptor.ordering().ordered().to_string()).collect();
        for (index, node) in self.nodes.iter().enumerate() {
            let checkpoint = node.acceptor.checkpoint();
            println!("node {index}: txns {:?} seats {:?}", checkpoint.txns, checkpoint.seats);
            println!("  streams {:?} missing {:?}", checkpoint.streams, node.acceptor.ordering().missing(5));
        }
        for (index, one) in self.instances.iter().enumerate() {
            println!("instance {index}: {:?} ready {:?} {}", one.run, one.ready, one.coordinator.describe());
        }
        panic!("no progress after healing: undecided {undecided:?}, in flight {open:?}, ordered {vectors:?}");
    }

    /// A reader of the present asks for whatever is pending anywhere.
    fn resolve_leftovers(&mut self) {
        let mut pending: Vec<TxnId> = Vec::new();
        for node in &self.nodes {
            // A refused proposal whose ABORT was lost holds nothing and blocks nobody, but it is undecided.
            pending.extend(node.acceptor.checkpoint().txns.iter().map(|state| state.txn));
            pending.extend(node.acceptor.ordering().missing(100));
        }
        let mut out = Vec::new();
        for txn in pending {
            self.instances[0].coordinator.resolve(txn, 30, self.now, &mut out);
        }
        self.perform(0, out);
    }

    fn deliver(&mut self) {
        let due = |message: &(u64, Message), now: u64| message.0 <= now;
        let mut ready = Vec::new();
        let mut later = Vec::new();
        for message in std::mem::take(&mut self.flying) {
            if due(&message, self.now) { ready.push(message.1) } else { later.push(message) }
        }
        self.flying = later;
        while !ready.is_empty() {
            let pick = self.random.below(ready.len() as u64) as usize;
            match ready.swap_remove(pick) {
                Message::Request(from, to, request) => self.at_node(from, to, request),
                Message::Reply(from, to, run, reply) => {
                    if self.instances[to].run == run {
                        let mut out = Vec::new();
                        let node = StorageId(from as u8);
                        self.instances[to].coordinator.reply(node, reply, self.now, &mut out);
                        self.perform(to, out);
                    }
                }
            }
        }
    }

    fn at_node(&mut self, from: usize, to: usize, request: Request) {
        let run = self.instances[from].run;
        let mut out = Vec::new();
        let node = &mut self.nodes[to];
        node.acceptor.handle(request, &mut node.rows, &mut out);
        let mut replies = Vec::new();
        for action in out {
            match action {
                NodeAction::Persist(record) => {
                    node.log.push(record);
                    node.durable = node.log.len();
                }
                NodeAction::Note(record) => node.log.push(record),
                NodeAction::Reply(reply) => replies.push(reply),
                NodeAction::Feed(items) => feed(node, items),
                NodeAction::SeatsChanged | NodeAction::GenerationsChanged => {}
            }
        }
        self.check_feed(to);
        for reply in replies {
            self.send(Message::Reply(to, from, run, reply), (from, to));
        }
    }

    fn send(&mut self, message: Message, link: (usize, usize)) {
        if self.cut.get(&link).is_some_and(|until| *until > self.now) || self.random.chance(self.faults.lost)
        {
            return;
        }
        if self.random.chance(self.faults.twice) {
            let copy = match &message {
                Message::Request(from, to, request) => Message::Request(*from, *to, request.clone()),
                Message::Reply(from, to, run, reply) => Message::Reply(*from, *to, *run, reply.clone()),
            };
            self.flying.push((self.now + 1 + self.random.below(200), copy));
        }
        let slow = if self.random.chance(5) { 60 } else { 4 };
        let delay = 1 + self.random.below(slow);
        self.flying.push((self.now + delay, message));
    }

    fn perform(&mut self, index: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(node, request) => self.request(index, usize::from(node.0), request),
                Action::Broadcast(request) => {
                    for node in 0..self.nodes.len() {
                        self.request(index, node, request.clone());
                    }
                }
                Action::Apply(item) => self.apply(index, &item),
                Action::Finish(ticket, finish) => self.finished(index, ticket, finish),
                Action::Resolved(txn, outcome) => self.decided(txn, outcome),
                Action::Seated(_) => {}
                Action::TakeFailed { .. } => self.instances[index].taken = false,
                Action::Unseated(_) => {
                    self.instances[index].ready = None;
                    self.instances[index].taken = false;
                }
                Action::NodeUnable(..) => {}
            }
        }
    }

    fn request(&mut self, from: usize, to: usize, request: Request) {
        if let Request::Propose(txn) = &request {
            self.bodies.insert(txn.id, txn.clone());
        }
        self.send(Message::Request(from, to, request), (from, to));
    }

    fn apply(&mut self, index: usize, item: &FeedItem) {
        let instance = &mut self.instances[index];
        match item {
            FeedItem::Commit(txn) => {
                if instance.applied.sees(txn.id) {
                    return;
                }
                instance.applied.advance(txn.id.seat, txn.id.position());
                assert!(
                    instance.applied.covers(&txn.deps),
                    "{} is applied before what it depends on",
                    txn.id
                );
                for write in &txn.writes {
                    instance.rows.insert(write.key.clone(), write.version(txn.id));
                }
                self.decided(txn.id, Outcome::Commit);
            }
            FeedItem::Advance { seat, to } => {
                instance.applied.advance(*seat, *to);
            }
        }
    }

    /// Takes some of what the subscribed node has ordered.
    fn follow(&mut self, index: usize) {
        for _ in 0..self.random.below(4) {
            let instance = &self.instances[index];
            let Some(item) = self.nodes[instance.source].feed.get(instance.cursor).cloned() else { return };
            self.instances[index].cursor += 1;
            let mut out = Vec::new();
            self.instances[index].coordinator.observe_own(&item, self.now, &mut out);
            self.perform(index, out);
            self.apply(index, &item);
            let applied = self.instances[index].applied.clone();
            self.instances[index].coordinator.observe(&applied);
        }
    }

    /// Takes a seat when it has none, and begins to write when its start has been applied.
    fn seat(&mut self, index: usize) {
        let seat = match self.mode {
            Mode::SingleMaster => Seat(0),
            Mode::MultiMaster => Seat(index as u16),
        };
        let instance = &self.instances[index];
        if let Some(stream) = instance.coordinator.stream() {
            let begin = Position { epoch: stream.epoch, seq: Seq(0) };
            if instance.ready.is_none() && instance.applied.get(seat) >= begin {
                self.instances[index].ready = Some(stream);
            }
            return;
        }
        let contended = self.mode == Mode::SingleMaster && !self.random.chance(2);
        if instance.taken || contended {
            return;
        }
        if self.mode == Mode::SingleMaster
            && self.faults.lost == 0
            && self.instances.iter().any(|one| one.taken)
        {
            return; // healed: one writer is enough
        }
        let granted = |node: &Node| {
            node.acceptor.seats().iter().find(|info| info.seat == seat).map_or(Epoch(0), |info| info.epoch)
        };
        let epoch = self.nodes.iter().map(granted).max().unwrap_or_default();
        let mut out = Vec::new();
        self.instances[index].taken = true;
        self.instances[index].coordinator.take(seat, Epoch(epoch.0 + 1), self.now, &mut out);
        self.perform(index, out);
    }

    /// A client writes one or two keys it has read here, and checks another now and then.
    fn client(&mut self, index: usize) {
        let instance = &self.instances[index];
        if instance.ready.is_none()
            || instance.ready != instance.coordinator.stream()
            || instance.waiting.len() > 4
        {
            return;
        }
        let mut picked: Vec<u64> =
            (0..1 + self.random.below(2)).map(|_| self.random.below(self.keys)).collect();
        picked.sort_unstable();
        picked.dedup();
        let checked = self.random.below(self.keys);
        let key = |number: u64| Bytes::from(format!("k{number}"));
        let instance = &mut self.instances[index];
        if instance
            .waiting
            .values()
            .flatten()
            .any(|write| picked.iter().any(|number| write.key == key(*number)))
        {
            return; // its row lock is taken
        }
        instance.next_ticket += 1;
        let ticket = instance.next_ticket;
        let value = Some(Bytes::from(format!("{}-{ticket}", instance.run.0)));
        let base = |key: &Key| instance.rows.get(key).copied();
        let write =
            |number: &u64| Write { key: key(*number), base: base(&key(*number)), value: value.clone() };
        let writes: Vec<Write> = picked.iter().map(write).collect();
        let check = Check { key: key(checked), base: base(&key(checked)) };
        let wanted = self.mode == Mode::MultiMaster && !picked.contains(&checked) && self.random.chance(30);
        let checks = if wanted { vec![check] } else { Vec::new() };
        let deps = instance.applied.clone();
        instance.waiting.insert(ticket, writes.clone());
        let mut out = Vec::new();
        instance.coordinator.propose(Proposal { ticket, deps, writes, checks }, self.now, &mut out);
        let run = instance.run;
        let id = out.iter().find_map(|action| match action {
            Action::Broadcast(Request::Propose(txn)) => Some(txn.id),
            _ => None,
        });
        if let Some(id) = id {
            self.proposed.insert((run, ticket), id);
        }
        self.perform(index, out);
    }

    fn finished(&mut self, index: usize, ticket: u64, finish: Finish) {
        self.instances[index].waiting.remove(&ticket);
        let run = self.instances[index].run;
        match finish {
            Finish::Committed(txn) => {
                self.report.committed += 1;
                self.decided(txn, Outcome::Commit);
                self.acknowledged.push(txn);
            }
            Finish::Aborted { .. } => {
                self.report.aborted += 1;
                let txn = self.proposed[&(run, ticket)];
                self.decided(txn, Outcome::Abort);
                self.refused.push(txn);
            }
            Finish::NoSeat => {}
        }
    }

    fn decided(&mut self, txn: TxnId, outcome: Outcome) {
        let before = *self.decisions.entry(txn).or_insert(outcome);
        assert_eq!(before, outcome, "the decision of {txn} changed");
        if outcome == Outcome::Commit
            && let Some(body) = self.bodies.get(&txn)
        {
            for write in &body.writes {
                let slot = (write.key.clone(), write.height().0);
                let owner = *self.slots.entry(slot).or_insert(txn);
                assert_eq!(owner, txn, "two committed transactions fill one slot of {:?}", write.key);
            }
        }
    }

    fn check_feed(&mut self, node: usize) {
        if let Some(FeedItem::Commit(txn)) = self.nodes[node].feed.last().cloned() {
            self.decided(txn.id, Outcome::Commit);
        }
    }

    /// Storage nodes tell each other what they have settled.
    fn gossip(&mut self) {
        for to in 0..self.nodes.len() {
            let from = self.random.below(self.nodes.len() as u64) as usize;
            let missing = self.nodes[to].acceptor.ordering().missing(64);
            let mut news: Vec<Request> =
                self.nodes[from].acceptor.closings().into_iter().map(Request::Activated).collect();
            let ahead = |stream: StreamId, seq: Seq| TxnId { seat: stream.seat, epoch: stream.epoch, seq };
            let mut wanted = missing;
            for (id, state) in self.nodes[from].acceptor.ordering().streams() {
                let have = self.nodes[to].acceptor.ordering().settled(id);
                wanted.extend((have.0 + 1..=state.settled.0).take(64).map(|seq| ahead(id, Seq(seq))));
            }
            for txn in wanted {
                if let Some(node_core::wire::Settled::Decided(outcome)) =
                    self.nodes[from].acceptor.ordering().outcome(txn)
                {
                    let body = self.bodies.get(&txn).cloned();
                    news.push(Request::Decide { txn, outcome, body });
                }
            }
            for request in news {
                let node = &mut self.nodes[to];
                let mut out = Vec::new();
                node.acceptor.handle(request, &mut node.rows, &mut out);
                for action in out {
                    match action {
                        NodeAction::Persist(record) | NodeAction::Note(record) => node.log.push(record),
                        NodeAction::Feed(items) => feed(node, items),
                        NodeAction::Reply(_) | NodeAction::SeatsChanged | NodeAction::GenerationsChanged => {}
                    }
                }
            }
        }
    }

    fn misfortune(&mut self) {
        if self.random.below(10_000) < self.faults.node_crash {
            let index = self.random.below(self.nodes.len() as u64) as usize;
            self.crash_node(index);
        }
        if self.random.below(10_000) < self.faults.instance_crash {
            let index = self.random.below(self.instances.len() as u64) as usize;
            let fresh = self.new_instance();
            self.instances[index] = fresh;
            self.report.crashes += 1;
            self.connect(index);
        }
        if self.random.below(10_000) < self.faults.cut {
            let link = (
                self.random.below(self.instances.len() as u64) as usize,
                self.random.below(self.nodes.len() as u64) as usize,
            );
            let until = self.now + self.random.below(400);
            self.cut.insert(link, until);
        }
    }

    /// What was not durable is lost, except for a random part that happened to reach the disk.
    fn crash_node(&mut self, index: usize) {
        self.report.crashes += 1;
        let quorum = self.quorum;
        let node = &mut self.nodes[index];
        let kept = node.durable + self.random.below((node.log.len() - node.durable) as u64 + 1) as usize;
        let mut log: Vec<Record> = node.log.drain(..kept).collect();
        if self.random.chance(30) {
            // The segment was rewritten: everything before is one checkpoint, and the rows are durable.
            let mut before = Acceptor::new(quorum);
            let mut rows = Applied::default();
            let mut fed = Vec::new();
            for record in &log {
                let mut out = Vec::new();
                before.replay(record.clone(), &mut rows, &mut out);
                replayed(&mut rows, &mut fed, out);
            }
            let mut after = Acceptor::new(quorum);
            let mut again = Vec::new();
            after.replay(Record::Checkpoint(before.checkpoint()), &mut rows, &mut again);
            assert_eq!(after.checkpoint(), before.checkpoint(), "a checkpoint restores what it was made of");
        }
        let mut restarted = Node {
            acceptor: Acceptor::new(quorum),
            rows: Applied::default(),
            log: Vec::new(),
            durable: log.len(),
            feed: Vec::new(),
        };
        for record in &log {
            let mut out = Vec::new();
            restarted.acceptor.replay(record.clone(), &mut restarted.rows, &mut out);
            replayed(&mut restarted.rows, &mut restarted.feed, out);
        }
        restarted.log.append(&mut log);
        self.nodes[index] = restarted;
        for instance in self.instances.iter_mut().filter(|instance| instance.source == index) {
            instance.cursor = 0;
        }
    }

    fn check_end(&mut self) {
        for txn in self.acknowledged.clone() {
            for node in &self.nodes {
                let known = node.acceptor.ordering().outcome(txn);
                let expected = node_core::wire::Settled::Decided(Outcome::Commit);
                assert_eq!(known, Some(expected), "acknowledged {txn} is not there");
            }
        }
        for txn in self.refused.clone() {
            for node in &self.nodes {
                let known = node.acceptor.ordering().outcome(txn);
                assert_ne!(
                    known,
                    Some(node_core::wire::Settled::Decided(Outcome::Commit)),
                    "refused {txn} was applied"
                );
            }
        }
        let mut rows: Vec<BTreeMap<Key, Ver>> = Vec::new();
        for node in &self.nodes {
            rows.push(node.rows.0.iter().map(|(key, ver)| (key.clone(), *ver)).collect());
        }
        assert!(rows.windows(2).all(|pair| pair[0] == pair[1]), "the nodes' rows differ");
    }
}

fn feed(node: &mut Node, items: Vec<FeedItem>) {
    apply_rows(&mut node.rows, &items);
    node.feed.extend(items);
    let ordered = node.acceptor.ordering().ordered().clone();
    node.acceptor.applied(&ordered);
}

fn replayed(rows: &mut Applied, feed: &mut Vec<FeedItem>, actions: Vec<NodeAction>) {
    for action in actions {
        if let NodeAction::Feed(items) = action {
            apply_rows(rows, &items);
            feed.extend(items);
        }
    }
}

fn apply_rows(rows: &mut Applied, items: &[FeedItem]) {
    for item in items {
        if let FeedItem::Commit(txn) = item {
            for write in &txn.writes {
                let version = write.version(txn.id);
                let row = rows.0.entry(write.key.clone()).or_insert(version);
                if row.height <= version.height {
                    *row = version;
                }
            }
        }
    }
}
