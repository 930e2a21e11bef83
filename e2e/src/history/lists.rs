//! Transactions that append to lists and read them.
//!
//! Every element is appended once in the whole run, and lists only grow. The lists at the end therefore give the order
//! of all writes to each list, and every read must be a beginning of the list at the end; how long it is says which
//! writes it saw. What follows from that is a graph of "must have come before" ([`order`]), in which a transaction is
//! two things: its snapshot, from which its plain reads come, and its commit, at which its writes and its locking reads
//! are true.
//!
//! What REPEATABLE READ allows as InnoDB does it: the commit lies after the snapshot, with anything between the two, so
//! an append may build on what the snapshot does not show, and a read after an own append shows it. With
//! `innodb_snapshot_isolation` nothing may lie between for the lists that are written or locked. What is allowed between
//! instances (parallel snapshot isolation): each applies unrelated writes in an order of its own, so that two snapshots
//! of *different* instances may disagree about it. In single-master mode there is one order.

mod order;
mod story;

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{Anomaly, Kind, Micros, Outcome};

/// What one operation did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// An element was put at the end of a list.
    Append {
        /// The list.
        list: u32,
        /// Unique in the run.
        element: u32,
    },
    /// A list was read whole.
    Read {
        /// The list.
        list: u32,
        /// What was in it.
        elements: Vec<u32>,
        /// With FOR UPDATE.
        locking: bool,
    },
}

/// An operation of a transaction that succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// When its statement was sent.
    pub began: Micros,
    /// When its answer was there.
    pub ended: Micros,
    /// What it did.
    pub action: Action,
}

/// A transaction as its client saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// The client.
    pub client: u32,
    /// Its connection; a number is never used again.
    pub connection: u64,
    /// The instance, as an index into [`History::places`].
    pub place: usize,
    /// When its first statement was sent.
    pub began: Micros,
    /// When it ended, for its client.
    pub ended: Micros,
    /// How it ended.
    pub outcome: Outcome,
    /// Its reads must show everything that was acknowledged before it began.
    pub fresh: bool,
    /// It ran with `innodb_snapshot_isolation = ON`.
    pub atomic: bool,
    /// What it did, in order. An append whose outcome is not known is among them.
    pub operations: Vec<Operation>,
}

/// A run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Names of instances.
    pub places: Vec<String>,
    /// All instances apply all writes in one order: single-master mode.
    pub one_order: bool,
    /// In any order, but those of one connection as they followed each other.
    pub transactions: Vec<Transaction>,
    /// Every list when all was over.
    pub ends: BTreeMap<u32, Vec<u32>>,
}

/// A read, as far as it tells about others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    list: u32,
    /// How many elements of the list at the end it saw, without own ones.
    length: usize,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// From the snapshot.
    Plain,
    /// With a lock: true until the commit.
    Locking,
    /// After an own append to the list, which had locked it: it tells nothing new.
    AfterOwn,
}

/// What is known about the history as a whole.
struct Index<'a> {
    history: &'a History,
    /// Who appended an element.
    writers: HashMap<u32, usize>,
    /// By transaction: it is there at the end, or was acknowledged.
    committed: Vec<bool>,
    /// By transaction.
    seen: Vec<Vec<Seen>>,
}

/// Judges a history.
pub fn check(history: &History) -> Vec<Anomaly> {
    let (mut index, mut anomalies) = Index::new(history);
    index.compare_with_the_end(&mut anomalies);
    for number in 0..history.transactions.len() {
        index.judge_reads(number, &mut anomalies);
    }
    anomalies.extend(order::contradictions(&index));
    anomalies
}

impl<'a> Index<'a> {
    fn new(history: &'a History) -> (Index<'a>, Vec<Anomaly>) {
        let (mut writers, mut anomalies) = (HashMap::new(), Vec::new());
        for (number, transaction) in history.transactions.iter().enumerate() {
            for (_, element) in transaction.appends() {
                if writers.insert(element, number).is_some() {
                    let story = format!("element {element} was appended twice by the clients themselves");
                    anomalies.push(Anomaly { kind: Kind::Duplicate, story });
                }
            }
        }
        let there: HashSet<u32> = history.ends.values().flatten().copied().collect();
        let committed = history.transactions.iter().map(|transaction| match transaction.outcome {
            Outcome::Committed => true,
            Outcome::Refused => false,
            Outcome::Unknown => transaction.appends().any(|(_, element)| there.contains(&element)),
        });
        let committed = committed.collect();
        let seen = vec![Vec::new(); history.transactions.len()];
        (Index { history, writers, committed, seen }, anomalies)
    }

    fn transaction(&self, number: usize) -> &'a Transaction {
        &self.history.transactions[number]
    }

    fn end_of(&self, list: u32) -> &'a [u32] {
        self.history.ends.get(&list).map_or(&[], Vec::as_slice)
    }

    /// Who appended the element at a place of a list, if that has committed.
    fn writer_at(&self, list: u32, at: usize) -> Option<usize> {
        let writer = self.writers.get(self.end_of(list).get(at)?).copied()?;
        self.committed[writer].then_some(writer)
    }

    fn anomaly(&self, kind: Kind, what: &str, concerned: &[usize]) -> Anomaly {
        Anomaly { kind, story: story::of(self.history, what, concerned) }
    }

    /// Every acknowledged element is there once, no refused one is, and a transaction is there as a whole.
    fn compare_with_the_end(&self, anomalies: &mut Vec<Anomaly>) {
        let mut home: HashMap<u32, u32> = HashMap::new();
        for (list, elements) in &self.history.ends {
            for element in elements {
                let writer = self.writers.get(element).copied();
                if home.insert(*element, *list).is_some() {
                    let what = format!("{element} is in list {list} and somewhere else at the end");
                    anomalies.push(self.anomaly(Kind::Duplicate, &what, writer.as_slice()));
                }
                match writer {
                    None => {
                        let what = format!("{element} at the end of list {list} was appended by nobody");
                        anomalies.push(self.anomaly(Kind::Garbage, &what, &[]));
                    }
                    Some(writer) if self.transaction(writer).outcome == Outcome::Refused => {
                        let what = format!("{element} is in list {list} at the end and was refused");
                        anomalies.push(self.anomaly(Kind::RefusedPresent, &what, &[writer]));
                    }
                    Some(_) => {}
                }
            }
        }
        for (number, transaction) in self.history.transactions.iter().enumerate() {
            if !self.committed[number] {
                continue;
            }
            for (list, element) in transaction.appends() {
                if home.get(&element) != Some(&list) {
                    let what = format!("{element} is not in list {list} at the end");
                    anomalies.push(self.anomaly(Kind::Lost, &what, &[number]));
                }
            }
        }
    }

    /// Each read by itself, and what it tells about others.
    fn judge_reads(&mut self, number: usize, anomalies: &mut Vec<Anomaly>) {
        let transaction = self.transaction(number);
        let mut own: HashMap<u32, Vec<u32>> = HashMap::new();
        for operation in &transaction.operations {
            match &operation.action {
                Action::Append { list, element } => own.entry(*list).or_default().push(*element),
                Action::Read { list, elements, locking } => {
                    let mine = own.get(list).map_or(&[][..], Vec::as_slice);
                    let Some(others) = elements.strip_suffix(mine) else {
                        let what = format!("own appends {mine:?} are not at the end of {elements:?}");
                        anomalies.push(self.anomaly(Kind::OwnWrite, &what, &[number]));
                        continue;
                    };
                    if let Some(anomaly) = self.judge_read(number, *list, others) {
                        anomalies.push(anomaly);
                        continue;
                    }
                    let how = match (mine.is_empty(), locking) {
                        (false, _) => How::AfterOwn,
                        (true, true) => How::Locking,
                        (true, false) => How::Plain,
                    };
                    self.seen[number].push(Seen { list: *list, length: others.len(), how });
                }
            }
        }
    }

    /// What others wrote, as a read saw it.
    fn judge_read(&self, number: usize, list: u32, others: &[u32]) -> Option<Anomaly> {
        let found = |kind, what: String, writer: Option<usize>| {
            let concerned: Vec<usize> = [Some(number), writer].into_iter().flatten().collect();
            Some(self.anomaly(kind, &what, &concerned))
        };
        let mut before = HashSet::new();
        for element in others {
            let writer = self.writers.get(element).copied();
            if !before.insert(element) {
                return found(Kind::Duplicate, format!("list {list} was read with {element} twice"), writer);
            }
            match writer {
                None => return found(Kind::Garbage, format!("{element} was appended by nobody"), None),
                Some(writer) if writer == number => {
                    return found(Kind::OwnWrite, format!("{element} shows before it was appended"), None);
                }
                Some(writer) if self.transaction(writer).outcome == Outcome::Refused => {
                    return found(Kind::DirtyRead, format!("{element} was refused and read"), Some(writer));
                }
                Some(_) => {}
            }
        }
        let end = self.end_of(list);
        if !end.starts_with(others) {
            let differs = others.iter().zip(end).position(|(a, b)| a != b).unwrap_or(end.len());
            let what = format!(
                "list {list} was read with {} in place {differs}, where {:?} is at the end",
                others[differs],
                end.get(differs)
            );
            return found(Kind::Order, what, self.writers.get(&others[differs]).copied());
        }
        let last = *others.last()?;
        let writer = self.writers[&last];
        let following = self.transaction(writer).appends().filter(|(to, _)| *to == list);
        if following.last() != Some((list, last)) {
            let what = format!("{last} was read as the last of list {list}, before its transaction's others");
            return found(Kind::IntermediateRead, what, Some(writer));
        }
        None
    }
}

impl Transaction {
    fn appends(&self) -> impl Iterator<Item = (u32, u32)> {
        self.operations.iter().filter_map(|operation| match operation.action {
            Action::Append { list, element } => Some((list, element)),
            Action::Read { .. } => None,
        })
    }

    /// Whether it wrote.
    fn writes(&self) -> bool {
        self.appends().next().is_some()
    }

    fn plain_reads(&self) -> impl Iterator<Item = &Operation> {
        self.operations
            .iter()
            .filter(|operation| matches!(operation.action, Action::Read { locking: false, .. }))
    }

    /// Its last operation that is true at the commit.
    fn last_lock(&self) -> Option<&Operation> {
        self.operations.iter().rev().find(|operation| {
            matches!(operation.action, Action::Append { .. } | Action::Read { locking: true, .. })
        })
    }
}
