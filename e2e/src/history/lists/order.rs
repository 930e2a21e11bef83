//! The graph of what must have come before what, and its contradictions.
//!
//! Nodes: the snapshot of a transaction, its commit as each *site* applies it, and moments of time. A site is an
//! instance of multi-master mode; single-master mode has one, since all instances apply one stream. Edges:
//!
//! | from | to | because |
//! |---|---|---|
//! | commit | commit, everywhere | the second's element follows the first's in a list |
//! | commit | snapshot, on its site | the snapshot shows the first's element last |
//! | commit | commit, everywhere | a transaction that also writes has read the first's element |
//! | snapshot | commit, on its site | the snapshot does not show the first element that follows |
//! | commit | commit | a locking read does not show the first element that follows |
//! | snapshot | commit | of one transaction |
//! | commit | snapshot | an atomic transaction wrote or locked a list: the element before is within its snapshot |
//! | commit, snapshot | snapshot | of one connection, one after the other |
//! | commit | snapshot | it was acknowledged before the other transaction began |
//!
//! Between sites a locking read that was not overtaken orders commits, though not the moments at which a third site
//! applies them: those edges, which every two writing transactions must obey, make a second graph.

use std::collections::HashMap;

use super::super::graph::{Graph, Why};
use super::super::{Anomaly, Kind, Micros, Outcome};
use super::story;
use super::{How, Index, Seen};

/// Contradictions that are told; each says enough.
const TOLD_MAX: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Snapshot(usize),
    Commit(usize),
    Moment,
}

struct Order<'a> {
    index: &'a Index<'a>,
    graph: Graph,
    nodes: Vec<Node>,
    /// By site, then transaction.
    commits: Vec<Vec<Option<u32>>>,
    snapshots: Vec<Option<u32>>,
}

/// Finds contradictions of the history.
pub(super) fn contradictions(index: &Index<'_>) -> Vec<Anomaly> {
    let sites = if index.history.one_order { 1 } else { index.history.places.len() };
    let mut applied = Order::new(index, sites, true);
    applied.lists();
    applied.reads();
    applied.sessions();
    for site in 0..sites {
        applied.time(site);
    }
    let mut found = applied.told();
    if !index.history.one_order {
        let mut locked = Order::new(index, 1, false);
        locked.lists();
        locked.locking_reads_between_sites();
        found.extend(locked.told());
    }
    found
}

impl<'a> Order<'a> {
    fn new(index: &'a Index<'a>, sites: usize, with_snapshots: bool) -> Order<'a> {
        let count = index.history.transactions.len();
        let mut order = Order {
            index,
            graph: Graph::default(),
            nodes: Vec::new(),
            commits: vec![vec![None; count]; sites],
            snapshots: vec![None; count],
        };
        for (number, transaction) in index.history.transactions.iter().enumerate() {
            // Locks of one site last until the commit; those of another are not known to it.
            let locks_only = index.history.one_order && transaction.last_lock().is_some();
            if index.committed[number] && (transaction.writes() || locks_only) {
                for site in 0..sites {
                    order.commits[site][number] = Some(order.node(Node::Commit(number)));
                }
            }
            let plain = transaction.plain_reads().next().is_some();
            if with_snapshots && (plain || (transaction.atomic && index.committed[number])) {
                order.snapshots[number] = Some(order.node(Node::Snapshot(number)));
            }
        }
        order
    }

    fn node(&mut self, node: Node) -> u32 {
        self.nodes.push(node);
        self.graph.node()
    }

    fn site(&self, number: usize) -> usize {
        if self.commits.len() == 1 { 0 } else { self.index.transaction(number).place }
    }

    fn edge(&mut self, from: Option<u32>, to: Option<u32>, why: Why) {
        if let (Some(from), Some(to)) = (from, to) {
            self.graph.edge(from, to, why);
        }
    }

    /// One commit before another, on every site.
    fn before(&mut self, first: usize, second: usize, why: Why) {
        for site in 0..self.commits.len() {
            self.edge(self.commits[site][first], self.commits[site][second], why);
        }
    }

    fn lists(&mut self) {
        for (list, elements) in &self.index.history.ends {
            for at in 1..elements.len() {
                let pair = (self.index.writer_at(*list, at - 1), self.index.writer_at(*list, at));
                if let (Some(first), Some(second)) = pair {
                    self.before(first, second, Why::WriteWrite(*list));
                }
            }
        }
    }

    fn reads(&mut self) {
        for number in 0..self.snapshots.len() {
            let site = self.site(number);
            let (snapshot, commit) = (self.snapshots[number], self.commits[site][number]);
            self.edge(snapshot, commit, Why::Own);
            for seen in self.index.seen[number].clone() {
                self.read(number, seen);
            }
            if self.index.transaction(number).atomic && commit.is_some() {
                self.atomic_writes(number, site);
            }
        }
    }

    fn read(&mut self, number: usize, Seen { list, length, how }: Seen) {
        let site = self.site(number);
        let last = length.checked_sub(1).and_then(|at| self.index.writer_at(list, at));
        let next = self.index.writer_at(list, length).filter(|next| *next != number);
        let (snapshot, commit) = (self.snapshots[number], self.commits[site][number]);
        let atomic = self.index.transaction(number).atomic;
        if how == How::Plain || (how == How::Locking && atomic) {
            if let Some(last) = last {
                self.edge(self.commits[site][last], snapshot, Why::WriteRead(list));
            }
            if let Some(next) = next {
                self.edge(snapshot, self.commits[site][next], Why::ReadWrite(list));
            }
        }
        if let Some(last) = last {
            self.before(last, number, Why::WriteRead(list));
        }
        if let Some(next) = next
            && how == How::Locking
            && self.index.history.one_order
        {
            self.edge(commit, self.commits[site][next], Why::ReadWrite(list));
        }
    }

    /// What an atomic transaction appended to had not changed since its snapshot.
    fn atomic_writes(&mut self, number: usize, site: usize) {
        let mut first: HashMap<u32, u32> = HashMap::new();
        for (list, element) in self.index.transaction(number).appends() {
            first.entry(list).or_insert(element);
        }
        for (list, element) in first {
            let at = self.index.end_of(list).iter().position(|there| *there == element);
            let before = at.and_then(|at| at.checked_sub(1)).and_then(|at| self.index.writer_at(list, at));
            if let Some(before) = before.filter(|before| *before != number) {
                self.edge(self.commits[site][before], self.snapshots[number], Why::Unchanged(list));
            }
        }
    }

    /// What a connection has seen or done, its next transaction sees.
    fn sessions(&mut self) {
        let mut last: HashMap<u64, (Option<u32>, Option<u32>)> = HashMap::new();
        for number in 0..self.snapshots.len() {
            let (snapshot, commit) = (self.snapshots[number], self.commits[self.site(number)][number]);
            let before = last.entry(self.index.transaction(number).connection).or_default();
            let (last_snapshot, last_commit) = *before;
            *before = (snapshot.or(last_snapshot), commit.or(last_commit));
            self.edge(last_snapshot, snapshot, Why::Session);
            self.edge(last_commit, snapshot, Why::Session);
            self.edge(last_commit, commit, Why::Session);
        }
    }

    /// What had ended before something began came before it, where that is promised.
    fn time(&mut self, site: usize) {
        let one_order = self.index.history.one_order;
        // Of two at one moment neither came first: beginnings are sorted before ends.
        let mut events: Vec<(Micros, bool, u32)> = Vec::new();
        for (number, transaction) in self.index.history.transactions.iter().enumerate() {
            if let Some(commit) = self.commits[site][number] {
                if transaction.outcome == Outcome::Committed {
                    events.push((transaction.ended, true, commit));
                }
                // Between instances a write that read nothing may be applied before an earlier one.
                if let Some(lock) = transaction.last_lock().filter(|_| one_order) {
                    events.push((lock.began, false, commit));
                }
            }
            if let Some(snapshot) = self.snapshots[number].filter(|_| self.site(number) == site) {
                if transaction.fresh {
                    events.push((transaction.began, false, snapshot));
                }
                let first = transaction.plain_reads().next();
                if let Some(first) = first.filter(|_| transaction.fresh || !one_order) {
                    events.push((first.ended, true, snapshot));
                }
            }
        }
        events.sort_unstable();
        let mut now = self.node(Node::Moment);
        for (_, ended, node) in events {
            if ended {
                let next = self.node(Node::Moment);
                self.graph.edge(now, next, Why::Time);
                self.graph.edge(node, next, Why::Time);
                now = next;
            } else {
                self.graph.edge(now, node, Why::Time);
            }
        }
    }

    /// Of two transactions that write, none commits between another's locking read and its commit.
    fn locking_reads_between_sites(&mut self) {
        for number in 0..self.index.seen.len() {
            for Seen { list, length, how } in self.index.seen[number].clone() {
                if let Some(last) = length.checked_sub(1).and_then(|at| self.index.writer_at(list, at)) {
                    self.before(last, number, Why::WriteRead(list));
                }
                let next = self.index.writer_at(list, length).filter(|next| *next != number);
                if let Some(next) = next.filter(|_| how == How::Locking) {
                    self.before(number, next, Why::ReadWrite(list));
                }
            }
        }
    }

    fn told(&self) -> Vec<Anomaly> {
        self.graph.cycles(TOLD_MAX).iter().map(|cycle| self.tell(cycle)).collect()
    }

    fn tell(&self, cycle: &[(u32, Why)]) -> Anomaly {
        let node = |number: u32| self.nodes[number as usize];
        let mut concerned = Vec::new();
        let mut steps = Vec::new();
        for (at, why) in cycle {
            let (name, number) = match node(*at) {
                Node::Snapshot(number) => (format!("snapshot of T{number}"), Some(number)),
                Node::Commit(number) => (format!("commit of T{number}"), Some(number)),
                Node::Moment => continue,
            };
            steps.push(format!("{name} —{}→", story::reason(*why)));
            if let Some(number) = number.filter(|number| !concerned.contains(number)) {
                concerned.push(number);
            }
        }
        let kind = self.kind(cycle, concerned.len());
        let what = format!(
            "each must have come before the next, and the last before the first: {}",
            steps.join(" ")
        );
        self.index.anomaly(kind, &what, &concerned)
    }

    fn kind(&self, cycle: &[(u32, Why)], transactions: usize) -> Kind {
        let any = |wanted: fn(&Why) -> bool| cycle.iter().any(|(_, why)| wanted(why));
        let missed: Vec<Node> = cycle
            .iter()
            .filter(|(_, why)| matches!(why, Why::ReadWrite(_)))
            .map(|(at, _)| self.nodes[*at as usize])
            .collect();
        if any(|why| matches!(why, Why::Unchanged(_))) {
            return Kind::LostUpdate;
        }
        if any(|why| matches!(why, Why::Time | Why::Session)) {
            return Kind::StaleRead;
        }
        if missed.iter().any(|node| matches!(node, Node::Commit(_))) {
            return Kind::LockingRead;
        }
        match missed.len() {
            0 if any(|why| matches!(why, Why::WriteRead(_))) => Kind::CircularFlow,
            0 => Kind::DirtyWrite,
            1 if transactions == 2 => Kind::FracturedRead,
            1 => Kind::ReadSkew,
            _ => Kind::LongFork,
        }
    }
}
