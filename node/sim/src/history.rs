//! Checks a history of list-append transactions: what clients did and saw, and nothing else.
//!
//! Every append adds an element of its own to a list, so a list that was read tells which appends came before
//! it and in which order. From that follow the *version order* of each list and three kinds of edges between
//! transactions (Adya, Liskov and O'Neil, "Generalized isolation level definitions", 2000; Kingsbury and Alvaro,
//! "Elle", 2020): *ww* from an append to the next one of the list, *wr* from an append to a read whose list ends
//! with it, *rw* from a read to the first append that it did not see.
//!
//! | anomaly | what it is |
//! |---|---|
//! | [`Kind::Garbage`], [`Kind::Duplicate`] | an element that nobody appended, or that is there twice |
//! | [`Kind::Internal`] | a transaction does not see its own appends |
//! | [`Kind::AbortedRead`] (G1a) | an element of a transaction that failed |
//! | [`Kind::IntermediateRead`] (G1b) | some, not all, of another transaction's appends to one list |
//! | [`Kind::IncompatibleOrder`] | two reads that no order of the list explains: with it, a dirty or lost update |
//! | [`Kind::LostAppend`] | an acknowledged append is not in the final list |
//! | [`Kind::WriteCycle`] (G0), [`Kind::DependencyCycle`] (G1c) | a cycle of ww, or of ww and wr |
//! | [`Kind::FracturedRead`] | one snapshot has an effect without its cause, or half of a transaction |
//! | [`Kind::ReadSkew`] (G-single, lost update among them) | with snapshot isolation: a cycle with one rw |
//! | [`Kind::StaleRead`] | a read misses what had been acknowledged before it began |
//!
//! Cycles with two rw edges (write skew, long fork) are what parallel snapshot isolation allows: they are not
//! looked for. At REPEATABLE READ as InnoDB has it, plain reads come from one snapshot while locking reads and
//! updates see the newest version: so only the snapshot's reads are held against each other, unless the
//! transaction had `innodb_snapshot_isolation`.
//!
//! Times are in any one unit; a read names the time since which it promises to see what was acknowledged.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// What one statement did and saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A list was read.
    Read {
        /// Which.
        key: u64,
        /// Its elements, oldest first.
        list: Vec<u64>,
        /// A plain read: the number of the snapshot within the transaction. `None`: a locking read.
        snapshot: Option<u32>,
        /// What anybody was told to be committed before this time must be in it.
        fresh: Option<u64>,
        /// What clients of the same site were told before this time must be in it.
        local: u64,
    },
    /// An element was appended.
    Append {
        /// To which list.
        key: u64,
        /// Unique in the history.
        element: u64,
    },
}

/// How a transaction ended, as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged.
    Ok,
    /// It did not happen, for certain.
    Fail,
    /// It may have happened.
    Unknown,
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// Who did it, for a person.
    pub name: String,
    /// Where: reads of one site see what was acknowledged there.
    pub site: u64,
    /// When it began.
    pub start: u64,
    /// When its client learnt the outcome.
    pub end: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
    /// All its reads and appends are of one snapshot.
    pub snapshot_isolation: bool,
    /// In order. Of a failed one, what succeeded before it failed.
    pub ops: Vec<Op>,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // the module's table says what each is
pub enum Kind {
    Garbage,
    Duplicate,
    Internal,
    AbortedRead,
    IntermediateRead,
    IncompatibleOrder,
    LostAppend,
    WriteCycle,
    DependencyCycle,
    FracturedRead,
    ReadSkew,
    StaleRead,
}

/// An anomaly, with the transactions it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// What it is.
    pub kind: Kind,
    /// Indices of the transactions in the history.
    pub txns: Vec<usize>,
    /// What happened, for a person.
    pub detail: String,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {} (transactions {:?})", self.kind, self.detail, self.txns)
    }
}

/// Transactions in the order in which they began.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// See the type.
    pub txns: Vec<Txn>,
}

impl History {
    /// Adds a transaction; returns its index.
    pub fn push(&mut self, txn: Txn) -> usize {
        self.txns.push(txn);
        self.txns.len() - 1
    }
    /// Adds to a transaction under way.
    pub fn op(&mut self, txn: usize, op: Op) {
        self.txns[txn].ops.push(op);
    }
    /// A transaction has ended.
    pub fn end(&mut self, txn: usize, outcome: Outcome, at: u64) {
        self.txns[txn].outcome = outcome;
        self.txns[txn].end = Some(at);
    }
    /// All anomalies. `last`: every list as it is in the end, where that is known.
    pub fn check(&self, last: Option<&BTreeMap<u64, Vec<u64>>>) -> Vec<Anomaly> {
        let mut checker = Checker::new(self);
        checker.find_writers();
        checker.look_at_reads();
        if let Some(last) = last {
            checker.look_at_the_end(last);
        }
        checker.find_orders();
        if checker.anomalies.is_empty() {
            checker.look_for_stale_reads();
            checker.look_for_cycles();
        }
        checker.anomalies
    }
}

/// A read, without the elements that its own transaction had appended by then.
struct External<'a> {
    txn: usize,
    key: u64,
    list: &'a [u64],
    snapshot: Option<u32>,
    fresh: Option<u64>,
    local: u64,
}

/// How a transaction comes to depend on an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    Write,
    /// A read by a snapshot (its number), or a locking one.
    Read(Option<u32>),
}

/// When an element had been acknowledged, how long its list was with it, and by which transaction.
type Acknowledged = (u64, usize, usize);

struct Checker<'a> {
    history: &'a History,
    anomalies: Vec<Anomaly>,
    writers: HashMap<u64, (usize, u64)>,
    /// The elements each transaction appended to each list, in order.
    appends: HashMap<(usize, u64), Vec<u64>>,
    reads: Vec<External<'a>>,
    orders: BTreeMap<u64, Vec<u64>>,
}

impl<'a> Checker<'a> {
    fn new(history: &'a History) -> Checker<'a> {
        Checker {
            history,
            anomalies: Vec::new(),
            writers: HashMap::new(),
            appends: HashMap::new(),
            reads: Vec::new(),
            orders: BTreeMap::new(),
        }
    }

    fn found(&mut self, kind: Kind, txns: Vec<usize>, detail: String) {
        self.anomalies.push(Anomaly { kind, txns, detail });
    }

    fn name(&self, txn: usize) -> &str {
        &self.history.txns[txn].name
    }

    fn find_writers(&mut self) {
        for (index, txn) in self.history.txns.iter().enumerate() {
            for op in &txn.ops {
                let Op::Append { key, element } = op else { continue };
                self.appends.entry((index, *key)).or_default().push(*element);
                if self.writers.insert(*element, (index, *key)).is_some() {
                    self.found(Kind::Duplicate, vec![index], format!("element {element} is appended twice"));
                }
            }
        }
    }

    fn look_at_reads(&mut self) {
        let history = self.history;
        for (index, txn) in history.txns.iter().enumerate() {
            let mut own: HashMap<u64, Vec<u64>> = HashMap::new();
            for op in &txn.ops {
                match op {
                    Op::Append { key, element } => own.entry(*key).or_default().push(*element),
                    Op::Read { key, list, snapshot, fresh, local } => {
                        let own = own.get(key).map_or(&[][..], |own| &own[..]);
                        if !list.ends_with(own) {
                            let detail = format!("{} reads {list:?} after it appended {own:?}", txn.name);
                            self.found(Kind::Internal, vec![index], detail);
                            continue;
                        }
                        let external = &list[..list.len() - own.len()];
                        self.look_at_list(Some(index), *key, external);
                        self.reads.push(External {
                            txn: index,
                            key: *key,
                            list: external,
                            snapshot: *snapshot,
                            fresh: *fresh,
                            local: *local,
                        });
                    }
                }
            }
        }
    }

    /// Looks at the elements of a list that a transaction, or at the end nobody, has read.
    fn look_at_list(&mut self, reader: Option<usize>, key: u64, list: &[u64]) {
        let who = reader.map_or("the final read".to_owned(), |reader| self.name(reader).to_owned());
        let mut seen = std::collections::HashSet::new();
        for element in list {
            if !seen.insert(element) {
                let detail = format!("{who} reads element {element} twice in list {key}");
                self.found(Kind::Duplicate, reader.into_iter().collect(), detail);
            }
            let Some((writer, of)) = self.writers.get(element).copied() else {
                let detail = format!("{who} reads element {element} of list {key}, which nobody appended");
                self.found(Kind::Garbage, reader.into_iter().collect(), detail);
                continue;
            };
            let txns: Vec<usize> = reader.into_iter().chain([writer]).collect();
            if of != key {
                let detail = format!("{who} reads element {element} in list {key}, it belongs to {of}");
                self.found(Kind::Garbage, txns, detail);
            } else if Some(writer) == reader {
                let detail = format!("{who} reads its own element {element} before it appends it");
                self.found(Kind::Internal, txns, detail);
            } else if self.history.txns[writer].outcome == Outcome::Fail {
                let detail = format!("{who} reads element {element} of {}, which failed", self.name(writer));
                self.found(Kind::AbortedRead, txns, detail);
            }
        }
        let Some(last) = list.last() else { return };
        if let Some((writer, _)) = self.writers.get(last).copied()
            && Some(writer) != reader
            && let Some(newest) = self.appends.get(&(writer, key)).and_then(|all| all.last())
            && newest != last
        {
            let detail = format!("{who} reads up to element {last} of {}, not {newest}", self.name(writer));
            self.found(Kind::IntermediateRead, reader.into_iter().chain([writer]).collect(), detail);
        }
    }

    fn look_at_the_end(&mut self, last: &BTreeMap<u64, Vec<u64>>) {
        for (key, list) in last {
            self.look_at_list(None, *key, list);
            self.orders.insert(*key, list.clone());
        }
        let mut lost = Vec::new();
        for ((txn, key), elements) in &self.appends {
            let list = last.get(key).map_or(&[][..], |list| &list[..]);
            let gone = elements.iter().find(|element| !list.contains(element));
            if let (Outcome::Ok, Some(element)) = (self.history.txns[*txn].outcome, gone) {
                lost.push((*txn, *key, *element));
            }
        }
        lost.sort_unstable();
        for (txn, key, element) in lost {
            let detail =
                format!("{} was acknowledged, its element {element} is not in list {key}", self.name(txn));
            self.found(Kind::LostAppend, vec![txn], detail);
        }
    }

    /// The order of each list: the longest one read, of which all others must be beginnings.
    fn find_orders(&mut self) {
        for read in &self.reads {
            let order = self.orders.entry(read.key).or_default();
            if read.list.len() > order.len() {
                *order = read.list.to_vec();
            }
        }
        let mut wrong = Vec::new();
        for read in &self.reads {
            let order = &self.orders[&read.key];
            if !order.starts_with(read.list) {
                let list = read.list;
                wrong.push((
                    read.txn,
                    format!(
                        "{} reads {list:?} of list {}, which is {order:?}",
                        self.name(read.txn),
                        read.key
                    ),
                ));
            }
        }
        for (txn, detail) in wrong {
            self.found(Kind::IncompatibleOrder, vec![txn], detail);
        }
    }

    // ---- real time ----

    fn look_for_stale_reads(&mut self) {
        // By list (and site): when what length had been acknowledged.
        let mut anywhere: HashMap<u64, Vec<Acknowledged>> = HashMap::new();
        let mut at_site: HashMap<(u64, u64), Vec<Acknowledged>> = HashMap::new();
        for (key, order) in &self.orders {
            for (place, element) in order.iter().enumerate() {
                let (writer, _) = self.writers[element];
                let txn = &self.history.txns[writer];
                if let (Outcome::Ok, Some(end)) = (txn.outcome, txn.end) {
                    anywhere.entry(*key).or_default().push((end, place + 1, writer));
                    at_site.entry((*key, txn.site)).or_default().push((end, place + 1, writer));
                }
            }
        }
        anywhere.values_mut().chain(at_site.values_mut()).for_each(|acknowledged| {
            acknowledged.sort_unstable();
            for at in 1..acknowledged.len() {
                let before = acknowledged[at - 1];
                if before.1 > acknowledged[at].1 {
                    acknowledged[at].1 = before.1;
                    acknowledged[at].2 = before.2;
                }
            }
        });
        let mut stale = Vec::new();
        for read in &self.reads {
            let site = self.history.txns[read.txn].site;
            let missed = |acknowledged: Option<&Vec<(u64, usize, usize)>>, since: u64| {
                let acknowledged = acknowledged?;
                let count = acknowledged.partition_point(|(end, ..)| *end < since);
                let (_, length, writer) = *acknowledged.get(count.checked_sub(1)?)?;
                (length > read.list.len()).then_some((writer, since))
            };
            let missed = missed(at_site.get(&(read.key, site)), read.local)
                .or_else(|| missed(anywhere.get(&read.key), read.fresh?));
            if let Some((writer, since)) = missed {
                let detail = format!(
                    "{} reads {} elements of list {} at {since}, without {}, acknowledged at {:?}",
                    self.name(read.txn),
                    read.list.len(),
                    read.key,
                    self.name(writer),
                    self.history.txns[writer].end,
                );
                stale.push((read.txn, writer, detail));
            }
        }
        for (reader, writer, detail) in stale {
            self.found(Kind::StaleRead, vec![reader, writer], detail);
        }
    }

    // ---- cycles ----

    fn look_for_cycles(&mut self) {
        let count = self.history.txns.len();
        let mut into: Vec<Vec<(usize, Edge)>> = vec![Vec::new(); count];
        let mut missed: Vec<Vec<(usize, Option<u32>)>> = vec![Vec::new(); count];
        for order in self.orders.values() {
            for pair in order.windows(2) {
                let (before, after) = (self.writers[&pair[0]].0, self.writers[&pair[1]].0);
                if before != after {
                    into[after].push((before, Edge::Write));
                }
            }
        }
        for read in &self.reads {
            if let Some(last) = read.list.last() {
                into[read.txn].push((self.writers[last].0, Edge::Read(read.snapshot)));
            }
            let next = self.orders[&read.key].get(read.list.len());
            if let Some((writer, _)) = next.map(|next| self.writers[next])
                && writer != read.txn
            {
                missed[read.txn].push((writer, read.snapshot));
            }
        }
        let Some(ancestors) = self.ancestors(&into) else { return };
        let mut found = Vec::new();
        for (txn, missed) in missed.iter().enumerate() {
            let isolated = self.history.txns[txn].snapshot_isolation;
            for (target, snapshot) in missed {
                if !isolated && snapshot.is_none() {
                    continue;
                }
                let counts = |edge: Edge| isolated || edge == Edge::Read(*snapshot);
                let mut sources =
                    into[txn].iter().filter(|(_, edge)| counts(*edge)).map(|(source, _)| *source);
                let through = sources.find(|source| source == target || ancestors[*source].has(*target));
                if let Some(source) = through {
                    found.push((txn, *target, source, isolated));
                }
            }
        }
        for (txn, target, source, isolated) in found {
            let kind = if isolated { Kind::ReadSkew } else { Kind::FracturedRead };
            let detail = format!(
                "{} does not see {}, but depends on {}, which does or is it",
                self.name(txn),
                self.name(target),
                self.name(source)
            );
            self.found(kind, vec![txn, target, source], detail);
        }
    }

    /// Whatever each transaction depends on. `None` if there are cycles, which are reported.
    fn ancestors(&mut self, into: &[Vec<(usize, Edge)>]) -> Option<Vec<Bits>> {
        let count = into.len();
        let mut out = vec![Vec::new(); count];
        let mut open = vec![0; count];
        for (txn, sources) in into.iter().enumerate() {
            for (source, _) in sources {
                out[*source].push(txn);
                open[txn] += 1;
            }
        }
        let mut ancestors = vec![Bits::new(count); count];
        let mut ready: Vec<usize> = (0..count).filter(|txn| open[*txn] == 0).collect();
        let mut done = 0;
        while let Some(txn) = ready.pop() {
            done += 1;
            let mut own = Bits::new(count);
            for (source, _) in &into[txn] {
                own.add(*source);
                own.join(&ancestors[*source]);
            }
            ancestors[txn] = own;
            for next in &out[txn] {
                open[*next] -= 1;
                if open[*next] == 0 {
                    ready.push(*next);
                }
            }
        }
        if done == count {
            return Some(ancestors);
        }
        let first = (0..count).find(|txn| open[*txn] > 0)?;
        let cycle = walk_back(first, into, &open);
        let writes_only = cycle.iter().zip(cycle.iter().cycle().skip(1)).all(|(txn, source)| {
            into[*txn].iter().any(|(from, edge)| from == source && *edge == Edge::Write)
        });
        let kind = if writes_only { Kind::WriteCycle } else { Kind::DependencyCycle };
        let names: Vec<&str> = cycle.iter().map(|txn| self.name(*txn)).collect();
        let detail = format!("each depends on the next: {names:?}");
        self.found(kind, cycle, detail);
        None
    }
}

/// A cycle among what could not be ordered.
fn walk_back(from: usize, into: &[Vec<(usize, Edge)>], open: &[usize]) -> Vec<usize> {
    let mut path = vec![from];
    loop {
        let at = path[path.len() - 1];
        let next = into[at].iter().map(|(source, _)| *source).find(|source| open[*source] > 0);
        let next = next.expect("what cannot be ordered depends on something that cannot");
        if let Some(begin) = path.iter().position(|txn| *txn == next) {
            return path.split_off(begin);
        }
        path.push(next);
    }
}

#[derive(Clone)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(count: usize) -> Bits {
        Bits(vec![0; count.div_ceil(64)])
    }
    fn add(&mut self, bit: usize) {
        self.0[bit / 64] |= 1 << (bit % 64);
    }
    fn has(&self, bit: usize) -> bool {
        self.0[bit / 64] & (1 << (bit % 64)) != 0
    }
    fn join(&mut self, other: &Bits) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine |= theirs;
        }
    }
}
