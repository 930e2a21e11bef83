//! Clients that append to lists and read them, in transactions of one to four operations.
//!
//! A list is one row whose text is the list of its elements, or, every fourth list, one row per element. Lists that
//! have grown are given up for new ones, so that reads stay short.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::super::connect::{Failed, Link, Way};
use super::super::random::Random;
use super::super::shared::Shared;
use crate::history::Outcome;
use crate::history::lists::{Action, Operation, Transaction};

/// Lists that are used at a time.
const ACTIVE: u32 = 6;
/// A list is given up after about so many appends were tried.
const APPENDS_MAX: u32 = 60;
/// Operations of a transaction.
const OPERATIONS_MAX: u64 = 4;

/// The lists in use, and the next element.
#[derive(Debug)]
pub(crate) struct Lists {
    element: AtomicU32,
    slots: Mutex<Vec<(u32, u32)>>,
    next: AtomicU32,
}

impl Lists {
    /// The first lists, whose rows are there.
    pub(crate) fn new() -> Lists {
        let slots = (0..ACTIVE).map(|list| (list, 0)).collect();
        Lists { element: AtomicU32::new(1), slots: Mutex::new(slots), next: AtomicU32::new(ACTIVE) }
    }

    /// The statements that make the tables and the first lists.
    pub(crate) fn setup() -> Vec<String> {
        let rows = (0..ACTIVE).filter(|list| !by_rows(*list)).map(|list| format!("({list}, '')"));
        vec![
            "CREATE TABLE check_lists (id INT PRIMARY KEY, elements TEXT NOT NULL)".into(),
            "CREATE TABLE check_elements (list INT, place INT, element INT NOT NULL, PRIMARY KEY (list, place))"
                .into(),
            format!("INSERT INTO check_lists VALUES {}", rows.collect::<Vec<_>>().join(", ")),
        ]
    }

    fn element(&self) -> u32 {
        self.element.fetch_add(1, Ordering::Relaxed)
    }

    fn pick(&self, random: &mut Random) -> u32 {
        random.pick(&self.slots.lock().expect("nobody panics while holding it")).0
    }

    /// Counts an append; true if the list should be replaced.
    fn appended(&self, list: u32) -> bool {
        let mut slots = self.slots.lock().expect("nobody panics while holding it");
        let Some(slot) = slots.iter_mut().find(|slot| slot.0 == list) else { return false };
        slot.1 += 1;
        slot.1 >= APPENDS_MAX
    }

    /// Puts a new list, whose row has been made, in the place of one.
    fn replace(&self, old: u32, new: u32) {
        let mut slots = self.slots.lock().expect("nobody panics while holding it");
        slots.iter_mut().filter(|slot| slot.0 == old).for_each(|slot| *slot = (new, 0));
    }
}

/// Whether a list is kept as one row per element.
fn by_rows(list: u32) -> bool {
    list % 4 == 3
}

/// How a client works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// It only reads.
    pub(crate) only_reads: bool,
    /// What it reads must be the present.
    pub(crate) fresh: bool,
}

/// Appends and reads until the run is over.
pub(crate) fn run(
    client: u32,
    mut way: Way<'_>,
    shared: &Shared,
    pace: Duration,
    lists: &Lists,
    style: Style,
) -> Vec<Transaction> {
    let mut worker = Worker { random: Random::new(shared.seed, client.into()), shared, lists, client, style };
    let mut done = Vec::new();
    while !shared.wait(pace) {
        if worker.random.percent(1) {
            way.move_on();
        }
        let Some(link) = way.link() else { continue };
        let transaction = worker.transaction(link);
        shared.count(client, transaction.outcome);
        let grown: Vec<u32> = appended(&transaction).filter(|list| lists.appended(*list)).collect();
        done.push(transaction);
        for list in grown {
            worker.give_up(link, list);
        }
    }
    done
}

fn appended(transaction: &Transaction) -> impl Iterator<Item = u32> {
    transaction.operations.iter().filter_map(|operation| match operation.action {
        Action::Append { list, .. } => Some(list),
        Action::Read { .. } => None,
    })
}

/// What a transaction is going to do.
#[derive(Clone, Debug)]
enum Step {
    Read(Vec<u32>),
    Lock(u32),
    Append(u32),
    /// Reads with FOR UPDATE, then writes what it makes of it.
    LockAndWrite(u32),
    /// Reads the snapshot, then writes what it makes of it: for atomic transactions.
    ReadAndWrite(u32),
}

struct Worker<'a> {
    random: Random,
    shared: &'a Shared,
    lists: &'a Lists,
    client: u32,
    style: Style,
}

impl Worker<'_> {
    fn transaction(&mut self, link: &mut Link<'_>) -> Transaction {
        let atomic = !self.style.only_reads && self.random.percent(40);
        let alone = self.random.percent(35);
        let mut made = Transaction {
            client: self.client,
            connection: link.number,
            place: link.place,
            began: self.shared.now(),
            ended: 0,
            outcome: Outcome::Refused,
            fresh: self.style.fresh,
            atomic,
            operations: Vec::new(),
        };
        if link.set_atomic(atomic).is_ok() {
            made.began = self.shared.now();
            made.outcome = match alone {
                true => self.alone(link, &mut made.operations),
                false => self.together(link, atomic, &mut made.operations),
            };
            if made.outcome == Outcome::Refused {
                link.roll_back();
            }
        }
        made.ended = self.shared.now();
        made
    }

    /// One statement with autocommit.
    fn alone(&mut self, link: &mut Link<'_>, done: &mut Vec<Operation>) -> Outcome {
        let list = self.lists.pick(&mut self.random);
        let step = match self.style.only_reads || self.random.percent(50) {
            true => self.read(),
            false => Step::Append(list),
        };
        match self.step(link, &step, done, true) {
            Ok(()) => Outcome::Committed,
            // A read that failed has done nothing, whatever became of it.
            Err(_) if matches!(step, Step::Read(_)) => Outcome::Refused,
            Err(failed) => failed.at_commit(),
        }
    }

    /// Several operations between BEGIN and COMMIT.
    fn together(&mut self, link: &mut Link<'_>, atomic: bool, done: &mut Vec<Operation>) -> Outcome {
        if link.run("BEGIN").is_err() {
            return Outcome::Refused;
        }
        for _ in 0..self.random.between(1, OPERATIONS_MAX) {
            let step = self.choose(atomic);
            if self.step(link, &step, done, false).is_err() {
                return Outcome::Refused;
            }
        }
        if self.random.percent(8) {
            return Outcome::Refused;
        }
        link.run("COMMIT").map_or_else(|failed| failed.at_commit(), |_| Outcome::Committed)
    }

    fn choose(&mut self, atomic: bool) -> Step {
        if self.style.only_reads || self.random.percent(45) {
            return self.read();
        }
        let list = self.lists.pick(&mut self.random);
        if by_rows(list) {
            return Step::Append(list);
        }
        match self.random.below(4) {
            0 => Step::Lock(list),
            1 => Step::LockAndWrite(list),
            2 if atomic => Step::ReadAndWrite(list),
            _ => Step::Append(list),
        }
    }

    fn read(&mut self) -> Step {
        let first = self.lists.pick(&mut self.random);
        if by_rows(first) {
            return Step::Read(vec![first]);
        }
        let mut lists = vec![first];
        for _ in 0..self.random.below(3) {
            let more = self.lists.pick(&mut self.random);
            if !by_rows(more) && !lists.contains(&more) {
                lists.push(more);
            }
        }
        Step::Read(lists)
    }

    fn step(
        &mut self,
        link: &mut Link<'_>,
        step: &Step,
        done: &mut Vec<Operation>,
        alone: bool,
    ) -> Result<(), Failed> {
        match step {
            Step::Read(lists) => self.read_lists(link, lists, false, done).map(drop),
            Step::Lock(list) => self.read_lists(link, &[*list], true, done).map(drop),
            Step::Append(list) if by_rows(*list) => self.append_row(link, *list, done, alone),
            Step::Append(list) => {
                self.append(link, *list, done, |element| format!("CONCAT(elements, ',{element}')"))
            }
            Step::LockAndWrite(list) | Step::ReadAndWrite(list) => {
                let locking = matches!(step, Step::LockAndWrite(_));
                let read = self.read_lists(link, &[*list], locking, done)?;
                let text: String = read[list].iter().map(|element| format!(",{element}")).collect();
                self.append(link, *list, done, |element| format!("'{text},{element}'"))
            }
        }
    }

    fn read_lists(
        &mut self,
        link: &mut Link<'_>,
        lists: &[u32],
        locking: bool,
        done: &mut Vec<Operation>,
    ) -> Result<BTreeMap<u32, Vec<u32>>, Failed> {
        let began = self.shared.now();
        let mut found: BTreeMap<u32, Vec<u32>> = lists.iter().map(|list| (*list, Vec::new())).collect();
        if by_rows(lists[0]) {
            let list = lists[0];
            let query = format!("SELECT element FROM check_elements WHERE list = {list} ORDER BY place");
            found.insert(list, link.query(&query)?);
        } else {
            let names: Vec<String> = lists.iter().map(u32::to_string).collect();
            let lock = if locking { " FOR UPDATE" } else { "" };
            let query =
                format!("SELECT id, elements FROM check_lists WHERE id IN ({}){lock}", names.join(", "));
            for (list, text) in link.query::<(u32, String)>(&query)? {
                found.insert(list, parse(&text));
            }
        }
        let ended = self.shared.now();
        for (list, elements) in &found {
            let action = Action::Read { list: *list, elements: elements.clone(), locking };
            done.push(Operation { began, ended, action });
        }
        Ok(found)
    }

    /// Appends to a list that is one row.
    fn append(
        &mut self,
        link: &mut Link<'_>,
        list: u32,
        done: &mut Vec<Operation>,
        value: impl Fn(u32) -> String,
    ) -> Result<(), Failed> {
        let element = self.lists.element();
        let update = format!("UPDATE check_lists SET elements = {} WHERE id = {list}", value(element));
        // Noted before it is tried: a failed append must not show either.
        self.note(list, element, done);
        let changed = link.run(&update)?;
        if changed != 1 {
            let place = link.place;
            self.shared.surprise(format!(
                "the row of list {list}, acknowledged before, was not found by an UPDATE on instance {place}"
            ));
            return Err(Failed::Refused(0));
        }
        self.noted(done);
        Ok(())
    }

    /// Appends to a list that is one row per element: after the last one, which must be known first.
    fn append_row(
        &mut self,
        link: &mut Link<'_>,
        list: u32,
        done: &mut Vec<Operation>,
        alone: bool,
    ) -> Result<(), Failed> {
        let element = self.lists.element();
        let insert = if alone {
            format!(
                "INSERT INTO check_elements SELECT {list}, COALESCE(MAX(place), 0) + 1, {element} \
                 FROM check_elements WHERE list = {list}"
            )
        } else {
            let query = format!("SELECT COALESCE(MAX(place), 0) FROM check_elements WHERE list = {list}");
            let last: i64 = link.query(&query)?.pop().unwrap_or(0);
            format!("INSERT INTO check_elements VALUES ({list}, {}, {element})", last + 1)
        };
        self.note(list, element, done);
        link.run(&insert)?;
        self.noted(done);
        Ok(())
    }

    fn note(&self, list: u32, element: u32, done: &mut Vec<Operation>) {
        let now = self.shared.now();
        done.push(Operation { began: now, ended: now, action: Action::Append { list, element } });
    }

    fn noted(&self, done: &mut [Operation]) {
        done.last_mut().expect("it was just put there").ended = self.shared.now();
    }

    /// Puts a new list in the place of one that has grown.
    fn give_up(&mut self, link: &mut Link<'_>, old: u32) {
        let new = self.lists.next.fetch_add(1, Ordering::Relaxed);
        let made = by_rows(new) || link.run(&format!("INSERT INTO check_lists VALUES ({new}, '')")).is_ok();
        // Otherwise the old one is used a little longer.
        if made {
            self.lists.replace(old, new);
        }
    }
}

/// The elements of a list's text, each after a comma.
pub(crate) fn parse(text: &str) -> Vec<u32> {
    // A text that is none shows as a list with an element of nobody's.
    text.split(',').filter(|part| !part.is_empty()).map(|part| part.parse().unwrap_or(u32::MAX)).collect()
}
