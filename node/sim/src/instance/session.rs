//! A client's session and its transactions: as `node/instance/src/engine/{txn,locking,reads}.rs`, as a state
//! machine instead of a thread that blocks.
//!
//! A statement is run again from its beginning after every wait; whatever it has achieved by then (its lock,
//! its snapshot, rows read) stays with the transaction.

use std::collections::BTreeMap;

use bytes::Bytes;
use node_core::cache::{Gap, InstallError, Lookup, ScanEnd, View};
use node_core::ids::{Height, Key, Vector, Ver};
use node_core::locks::{Acquired, LockMode, Owner};
use node_core::quorum::Mode;
use node_core::txn::{Check, Write};
use node_core::wire::{Block, ReadBlock, RowVersion};

use super::Instance;
use super::commits::{CommitError, Commits};
use super::engine::Snapshot;
use super::reads::{Asker, Reader};
use super::workload::{Op, Script, appended, elements, list, list_number, pad, table_end, table_start};
use crate::context::Context;
use crate::history;
use crate::net::{Event, MS, Micros};

/// `innodb_lock_wait_timeout`, shorter than usual.
const LOCK_WAIT: Micros = 1_500 * MS;
/// How long a read waits for a writer's lapsed lease.
const LEASE_WAIT: Micros = 1_500 * MS;
const LEASE_POLL: Micros = 5 * MS;
/// How often an autocommit statement is tried again.
const RETRIES_MAX: u32 = 5;
const POINT_BYTES: u32 = 256;
const SCAN_BYTES: u32 = 512;

/// Why a transaction ended without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failed {
    Conflict,
    Deadlock,
    LockTimeout,
    ReadOnly,
    Unavailable,
    Unknown,
}

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The next transaction, or the next statement.
    Thinking {
        until: Micros,
    },
    Running,
    Fetch,
    Present,
    Lock {
        until: Micros,
    },
    Lease {
        until: Micros,
    },
    Commit,
}

/// A key that the transaction has locked.
#[derive(Clone, Copy, Debug)]
struct Held {
    mode: LockMode,
    base: Option<Ver>,
    live: bool,
    check: bool,
}

impl Held {
    fn height(&self) -> Height {
        self.base.map_or(Height(0), |base| base.height)
    }
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Own,
    Lock,
    Snapshot,
}

/// A list as it was read.
struct Seen {
    list: u64,
    elements: Vec<u64>,
    by: By,
}

/// A transaction under way.
struct Txn {
    record: usize,
    script: Script,
    at: usize,
    snapshot: Option<Snapshot>,
    /// Numbers snapshots within the transaction, and when the statement that took it began.
    group: u32,
    snapshot_since: Micros,
    /// It is the present, as of then.
    snapshot_fresh: bool,
    /// The snapshot was taken; whether the lease held then is not known yet.
    unleased: bool,
    fresh: bool,
    /// When the statement began.
    since: Micros,
    overlay: BTreeMap<Key, Option<Bytes>>,
    held: BTreeMap<Key, Held>,
    owner: Option<Owner>,
    observed: Vector,
    resets: u64,
    /// What the statement has read so far.
    read: Vec<Seen>,
    walk: Option<(Key, Vec<(Key, RowVersion)>)>,
    waiting_lease: Option<Micros>,
}

/// A client's session.
pub(crate) struct Session {
    number: usize,
    state: State,
    txn: Option<Box<Txn>>,
    again: Option<Script>,
    retries: u32,
}

/// How a statement goes on.
enum Step {
    Done,
    Wait(State),
}

type Stepped = Result<Step, Failed>;

impl Session {
    pub(crate) fn new(number: usize) -> Session {
        Session { number, state: State::Thinking { until: 0 }, txn: None, again: None, retries: 0 }
    }
    /// No transaction is under way.
    pub(crate) fn idle(&self) -> bool {
        self.txn.is_none()
    }
    pub(crate) fn describe(&self) -> String {
        let at = self.txn.as_ref().map(|txn| txn.script.ops.get(txn.at));
        format!("{}: {:?} at {at:?}", self.number, self.state)
    }
}

impl Instance {
    /// Something that the session waited for may have happened.
    pub(crate) fn session(&mut self, number: usize, context: &mut Context) {
        let mut session = std::mem::replace(&mut self.sessions[number], Session::new(number));
        self.drive(&mut session, context);
        self.sessions[number] = session;
    }

    fn drive(&mut self, session: &mut Session, context: &mut Context) {
        loop {
            match session.state {
                State::Thinking { until } if until > context.now => return,
                State::Thinking { .. } if session.txn.is_some() => session.state = State::Running,
                State::Thinking { .. } => {
                    if self.closing || context.oracle.quiet {
                        return;
                    }
                    self.begin(session, context);
                }
                State::Fetch | State::Present | State::Commit => return,
                State::Lease { until } if until > context.now => return,
                State::Lease { .. } => session.state = State::Running,
                State::Lock { until } => match self.lock_news(session, until, context) {
                    Ok(true) => session.state = State::Running,
                    Ok(false) => return,
                    Err(why) => self.end(session, Err(why), context),
                },
                State::Running => match self.statement(session, context) {
                    Ok(Step::Done) => self.next_statement(session, context),
                    Ok(Step::Wait(state)) => {
                        session.state = state;
                        if let State::Lock { until } | State::Lease { until } | State::Thinking { until } =
                            state
                        {
                            self.wake_at(session.number, until, context);
                        }
                        return;
                    }
                    Err(why) => self.end(session, Err(why), context),
                },
            }
        }
    }

    fn wake_at(&self, session: usize, at: Micros, context: &mut Context) {
        context.net.schedule(at, Event::Session { instance: self.address(), session });
    }

    pub(super) fn wake_all(&mut self, sessions: Vec<usize>, context: &mut Context) {
        for session in sessions {
            let at = context.now + context.random.below(300);
            self.wake_at(session, at, context);
        }
    }

    /// Sessions whose wait nobody announces.
    pub(super) fn mind_sessions(&mut self, context: &mut Context) {
        self.engine.check_locks(&context.oracle.keys);
    }

    fn begin(&mut self, session: &mut Session, context: &mut Context) {
        let script = match session.again.take() {
            Some(script) => script,
            None => {
                session.retries = 0;
                let workload = context.oracle.workload.clone();
                workload.script(self.engine.writer, &mut context.random)
            }
        };
        let record = history::Txn {
            name: format!("i{}r{}s{}", self.index, self.run, session.number),
            site: self.run,
            start: context.now,
            end: None,
            outcome: history::Outcome::Unknown,
            // At READ COMMITTED every statement has a snapshot of its own.
            snapshot_isolation: script.isolated && !script.committed,
            ops: Vec::new(),
        };
        let record = context.oracle.history.push(record);
        session.txn = Some(Box::new(Txn {
            record,
            script,
            at: 0,
            snapshot: None,
            group: 0,
            snapshot_since: 0,
            snapshot_fresh: false,
            unleased: false,
            fresh: false,
            since: context.now,
            overlay: BTreeMap::new(),
            held: BTreeMap::new(),
            owner: None,
            observed: Vector::new(),
            resets: self.engine.resets,
            read: Vec::new(),
            walk: None,
            waiting_lease: None,
        }));
        session.state = State::Running;
    }

    fn next_statement(&mut self, session: &mut Session, context: &mut Context) {
        let Some(txn) = &mut session.txn else { return };
        txn.at += 1;
        txn.since = context.now;
        txn.fresh = false;
        txn.read.clear();
        txn.walk = None;
        txn.waiting_lease = None;
        if txn.script.committed
            && let Some(snapshot) = txn.snapshot.take()
        {
            self.engine.release_snapshot(snapshot);
        }
        // A client's own time between two statements.
        let pause = if txn.script.autocommit { 0 } else { context.random.below(2_000) };
        session.state = State::Thinking { until: context.now + pause };
        self.wake_at(session.number, context.now + pause, context);
    }

    /// Ends the transaction, and begins to think.
    fn end(&mut self, session: &mut Session, how: Result<(), Failed>, context: &mut Context) {
        let Some(mut txn) = session.txn.take() else { return };
        self.let_go(&mut txn, context);
        let outcome = match how {
            Ok(()) => history::Outcome::Ok,
            Err(Failed::Unknown) => history::Outcome::Unknown,
            Err(_) => history::Outcome::Fail,
        };
        context.oracle.history.end(txn.record, outcome, context.now);
        context.note(|| format!("{} txn {} ends: {how:?}", self.name(session.number), txn.record));
        match how {
            Ok(()) => context.oracle.counts.committed += 1,
            Err(Failed::Conflict) => context.oracle.counts.conflicts += 1,
            Err(Failed::Deadlock) => context.oracle.counts.deadlocks += 1,
            Err(Failed::Unknown) => context.oracle.counts.unknown += 1,
            Err(Failed::ReadOnly) => context.oracle.counts.read_only += 1,
            Err(Failed::LockTimeout | Failed::Unavailable) => context.oracle.counts.unavailable += 1,
        }
        let lost = matches!(how, Err(Failed::Conflict | Failed::Deadlock));
        if lost && txn.script.autocommit && session.retries < RETRIES_MAX {
            session.retries += 1;
            session.again = Some(txn.script);
        }
        let pause = 1 + context.random.below(context.oracle.workload.pause);
        session.state = State::Thinking { until: context.now + pause };
        self.wake_at(session.number, context.now + pause, context);
    }

    fn name(&self, session: usize) -> String {
        format!("i{}r{}s{session}", self.index, self.run)
    }

    fn let_go(&mut self, txn: &mut Txn, context: &mut Context) {
        txn.overlay.clear();
        txn.held.clear();
        if let Some(snapshot) = txn.snapshot.take() {
            self.engine.release_snapshot(snapshot);
        }
        if let Some(owner) = txn.owner.take() {
            let woken = self.engine.release(owner);
            self.wake_all(woken, context);
        }
        self.engine.check_locks(&context.oracle.keys);
    }

    /// The process crashes: what was proposed may have happened, the rest has not.
    pub(crate) fn abandon_sessions(&mut self, context: &mut Context) {
        for session in &mut self.sessions {
            let proposed = session.state == State::Commit;
            if let Some(txn) = session.txn.take() {
                let outcome = if proposed { history::Outcome::Unknown } else { history::Outcome::Fail };
                context.oracle.history.end(txn.record, outcome, context.now);
            }
        }
    }

    // ---- statements ----

    fn statement(&mut self, session: &mut Session, context: &mut Context) -> Stepped {
        let number = session.number;
        let Some(txn) = &mut session.txn else { return Ok(Step::Done) };
        self.alive(txn)?;
        let Some(op) = txn.script.ops.get(txn.at).cloned() else {
            return self.commit(session, context);
        };
        match op {
            Op::Think(time) => {
                let until = txn.since + time;
                Ok(if context.now >= until { Step::Done } else { Step::Wait(State::Thinking { until }) })
            }
            Op::Get(keys) => self.get(number, txn, &keys, context),
            Op::Scan => self.scan(number, txn, context),
            Op::Lock(key, mode) => self.locking_read(number, txn, key, mode, context),
            Op::Append(key) => self.append(number, txn, key, context),
            Op::Pad(row, size) => {
                let value = Some(Bytes::from(vec![context.random.below(256) as u8; size + 1]));
                self.write(number, txn, pad(row), |_| value, context)
            }
            Op::Unpad(row) => self.write(number, txn, pad(row), |_| None, context),
        }
    }

    /// An error unless the transaction may go on.
    fn alive(&mut self, txn: &mut Txn) -> Result<(), Failed> {
        self.hear_news(txn)?;
        if txn.resets != self.engine.resets {
            if txn.snapshot.is_some() || txn.owner.is_some() {
                return Err(Failed::Conflict);
            }
            txn.resets = self.engine.resets;
        }
        Ok(())
    }

    fn hear_news(&mut self, txn: &mut Txn) -> Result<(), Failed> {
        let Some(cell) = txn.owner.and_then(|owner| self.engine.cells.get_mut(&owner)) else { return Ok(()) };
        if cell.fenced {
            return Err(Failed::ReadOnly);
        }
        if cell.reset {
            return Err(Failed::Conflict);
        }
        let changes = std::mem::take(&mut cell.changes);
        let overtaken =
            changes.iter().any(|(key, height)| txn.held.get(key).is_some_and(|held| held.height() < *height));
        if overtaken { Err(Failed::Conflict) } else { Ok(()) }
    }

    /// Once per statement, with global freshness: everything acknowledged before is applied.
    fn refresh(&mut self, session: usize, txn: &mut Txn, context: &mut Context) -> Stepped {
        if txn.fresh || !txn.script.global {
            txn.fresh = true;
            return Ok(Step::Done);
        }
        let now = self.now(context);
        self.present.ask(Asker::Session(session), now);
        self.turn_soon(context);
        Ok(Step::Wait(State::Present))
    }

    /// The question for the present is answered, or was given up.
    pub(super) fn present_reached(&mut self, session: usize, reached: bool, context: &mut Context) {
        let mut waiting = std::mem::replace(&mut self.sessions[session], Session::new(session));
        if waiting.state == State::Present {
            match (&mut waiting.txn, reached) {
                (Some(txn), true) => {
                    txn.fresh = true;
                    waiting.state = State::Running;
                    self.wake_at(session, context.now + 10, context);
                }
                _ => self.end(&mut waiting, Err(Failed::Unavailable), context),
            }
        }
        self.sessions[session] = waiting;
        self.turn_soon(context);
    }

    /// The transaction's snapshot, taken now if there is none yet.
    fn snapshot(&mut self, session: usize, txn: &mut Txn, context: &mut Context) -> Stepped {
        if txn.snapshot.is_none() {
            if let Step::Wait(state) = self.refresh(session, txn, context)? {
                return Ok(Step::Wait(state));
            }
            txn.snapshot = Some(self.engine.take_snapshot());
            txn.group += 1;
            txn.snapshot_since = txn.since;
            txn.snapshot_fresh = txn.script.global || self.writes_alone();
            txn.unleased = true;
        }
        if txn.unleased {
            // Only then: it is the present if nobody else could write until now.
            if let Step::Wait(state) = self.await_lease(txn, context)? {
                return Ok(Step::Wait(state));
            }
            txn.unleased = false;
        }
        Ok(Step::Done)
    }

    /// Goes on once what has been read was the present: a single-master writer asks its lease.
    fn await_lease(&mut self, txn: &mut Txn, context: &Context) -> Stepped {
        let needed = self.engine.mode == Mode::SingleMaster && self.engine.writer;
        if !needed {
            // Who waited for it has lost the seat meanwhile.
            return match txn.waiting_lease.take() {
                Some(_) => Err(Failed::ReadOnly),
                None => Ok(Step::Done),
            };
        }
        if self.lease_valid(context) {
            txn.waiting_lease = None;
            return Ok(Step::Done);
        }
        let deadline = *txn.waiting_lease.get_or_insert(context.now + LEASE_WAIT);
        if context.now >= deadline {
            return Err(Failed::Unavailable);
        }
        Ok(Step::Wait(State::Lease { until: context.now + LEASE_POLL }))
    }

    /// It is the one writer: what it reads is the present.
    fn writes_alone(&self) -> bool {
        self.engine.mode == Mode::SingleMaster && self.engine.writer
    }

    fn record(&self, txn: &Txn, reads: Vec<Seen>, context: &mut Context) {
        for Seen { list: key, elements: list, by } in reads {
            let (snapshot, fresh, local) = match by {
                // What its base was when it was locked: the present of some earlier statement.
                By::Own => (None, None, 0),
                By::Lock => {
                    let present = txn.script.global || self.writes_alone();
                    (None, present.then_some(txn.since), txn.since)
                }
                By::Snapshot => {
                    let fresh = txn.snapshot_fresh.then_some(txn.snapshot_since);
                    (Some(txn.group), fresh, txn.snapshot_since)
                }
            };
            context.oracle.history.op(txn.record, history::Op::Read { key, list, snapshot, fresh, local });
        }
    }

    fn get(&mut self, session: usize, txn: &mut Txn, keys: &[u64], context: &mut Context) -> Stepped {
        while let Some(number) = keys.get(txn.read.len()).copied() {
            let key = list(number);
            let (value, by) = match txn.overlay.get(&key) {
                Some(own) => (own.clone(), By::Own),
                None => {
                    if let Step::Wait(state) = self.snapshot(session, txn, context)? {
                        return Ok(Step::Wait(state));
                    }
                    let snapshot = txn.snapshot.clone().expect("it was just taken");
                    match self.point(session, &key, Some(&snapshot.vector), context)? {
                        Err(state) => return Ok(Step::Wait(state)),
                        Ok(version) => {
                            self.alive(txn)?;
                            context.oracle.check_read(&key, &snapshot.vector, version.as_ref());
                            (version.and_then(|version| version.value), By::Snapshot)
                        }
                    }
                }
            };
            txn.read.push(Seen { list: number, elements: elements(value.as_ref()), by });
        }
        let reads = std::mem::take(&mut txn.read);
        self.record(txn, reads, context);
        Ok(Step::Done)
    }

    fn scan(&mut self, session: usize, txn: &mut Txn, context: &mut Context) -> Stepped {
        if let Step::Wait(state) = self.snapshot(session, txn, context)? {
            return Ok(Step::Wait(state));
        }
        let snapshot = txn.snapshot.clone().expect("it was just taken");
        let (mut start, mut rows) = txn.walk.take().unwrap_or((table_start(), Vec::new()));
        let end = table_end();
        loop {
            let view = View::Snapshot(&snapshot.vector);
            let ended = self.engine.cache.scan(&start, Some(&end), false, view, &mut |key, version| {
                rows.push((key.clone(), version.clone()));
                true
            });
            let ScanEnd::Gap(gap) = ended else { break };
            start = gap.start.clone();
            if let Some(state) = self.fetch(session, gap, SCAN_BYTES, context) {
                txn.walk = Some((start, rows));
                return Ok(Step::Wait(state));
            }
        }
        self.alive(txn)?;
        context.oracle.check_scan(&rows, &snapshot.vector);
        let nothing = |number| (number, Seen { list: number, elements: Vec::new(), by: By::Snapshot });
        let mut lists: BTreeMap<u64, Seen> = (0..context.oracle.workload.lists).map(nothing).collect();
        let own = txn.overlay.iter().map(|(key, value)| (key, value.as_ref(), By::Own));
        let committed = rows.iter().map(|(key, version)| (key, version.value.as_ref(), By::Snapshot));
        for (key, value, by) in committed.chain(own) {
            if let Some(number) = list_number(key) {
                lists.insert(number, Seen { list: number, elements: elements(value), by });
            }
        }
        self.record(txn, lists.into_values().collect(), context);
        Ok(Step::Done)
    }

    fn locking_read(
        &mut self,
        session: usize,
        txn: &mut Txn,
        number: u64,
        mode: LockMode,
        context: &mut Context,
    ) -> Stepped {
        let key = list(number);
        let version = match self.hold(session, txn, &key, mode, true, context)? {
            Err(state) => return Ok(Step::Wait(state)),
            Ok(version) => version,
        };
        let (value, by) = match txn.overlay.get(&key) {
            Some(own) => (own.clone(), By::Own),
            None => (version.and_then(|version| version.value), By::Lock),
        };
        let seen = Seen { list: number, elements: elements(value.as_ref()), by };
        self.record(txn, vec![seen], context);
        Ok(Step::Done)
    }

    fn append(&mut self, session: usize, txn: &mut Txn, number: u64, context: &mut Context) -> Stepped {
        let element = context.oracle.next_element();
        let step =
            self.write(session, txn, list(number), |value| Some(appended(value.as_ref(), element)), context)?;
        if let Step::Done = step {
            context.oracle.history.op(txn.record, history::Op::Append { key: number, element });
        }
        Ok(step)
    }

    /// Changes a row, from its newest version under its lock.
    fn write(
        &mut self,
        session: usize,
        txn: &mut Txn,
        key: Key,
        change: impl FnOnce(Option<Bytes>) -> Option<Bytes>,
        context: &mut Context,
    ) -> Stepped {
        let version = match self.hold(session, txn, &key, LockMode::Exclusive, false, context)? {
            Err(state) => return Ok(Step::Wait(state)),
            Ok(version) => version,
        };
        let before = match txn.overlay.get(&key) {
            Some(own) => own.clone(),
            None => version.and_then(|version| version.value),
        };
        txn.overlay.insert(key, change(before));
        Ok(Step::Done)
    }

    /// Locks a key and returns its newest committed version.
    fn hold(
        &mut self,
        session: usize,
        txn: &mut Txn,
        key: &Key,
        mode: LockMode,
        check: bool,
        context: &mut Context,
    ) -> Result<Result<Option<RowVersion>, State>, Failed> {
        if !self.engine.writer {
            return Err(Failed::ReadOnly);
        }
        if let Step::Wait(state) = self.refresh(session, txn, context)? {
            return Ok(Err(state));
        }
        if txn.script.isolated
            && let Step::Wait(state) = self.snapshot(session, txn, context)?
        {
            return Ok(Err(state));
        }
        let enough = |held: &Held| held.mode == LockMode::Exclusive || mode == LockMode::Shared;
        if !txn.held.get(key).is_some_and(enough) {
            let owner = *txn.owner.get_or_insert_with(|| self.engine.register(session));
            match self.engine.locks.acquire(owner, key, mode) {
                Acquired::Granted => {}
                Acquired::Deadlock => return Err(Failed::Deadlock),
                Acquired::Waiting => return Ok(Err(State::Lock { until: context.now + LOCK_WAIT })),
            }
        }
        let version = match self.point(session, key, None, context)? {
            Err(state) => return Ok(Err(state)),
            Ok(version) => version,
        };
        if let Some(version) = &version {
            txn.observed.advance(version.ver.txn.seat, version.ver.txn.position());
        }
        if let Step::Wait(state) = self.await_lease(txn, context)? {
            return Ok(Err(state));
        }
        self.alive(txn)?;
        self.remember(txn, key, mode, check, version.as_ref())?;
        Ok(Ok(version))
    }

    /// Remembers what was locked. The base that was read first stays.
    fn remember(
        &mut self,
        txn: &mut Txn,
        key: &Key,
        mode: LockMode,
        check: bool,
        version: Option<&RowVersion>,
    ) -> Result<(), Failed> {
        let base = version.map(|version| version.ver);
        if txn.script.isolated
            && let (Some(base), Some(snapshot)) = (base, &txn.snapshot)
            && !snapshot.vector.sees(base.txn)
        {
            return Err(Failed::Conflict);
        }
        let live = version.is_some_and(|version| version.value.is_some());
        let held = match txn.held.get(key).copied() {
            Some(before) if before.base != base => return Err(Failed::Conflict),
            Some(before) if before.mode == LockMode::Exclusive => {
                Held { check: before.check || check, ..before }
            }
            Some(before) => Held { mode, check: before.check || check, ..before },
            None => Held { mode, base, live, check },
        };
        txn.held.insert(key.clone(), held);
        Ok(())
    }

    /// A session waits for a lock and was woken: true if it has it, or asks for it again.
    fn lock_news(
        &mut self,
        session: &mut Session,
        until: Micros,
        context: &mut Context,
    ) -> Result<bool, Failed> {
        let Some(txn) = &mut session.txn else { return Ok(true) };
        let Some(owner) = txn.owner else { return Ok(true) };
        let Some(cell) = self.engine.cells.get_mut(&owner) else { return Ok(true) };
        if std::mem::take(&mut cell.granted) {
            return Ok(true);
        }
        let late = context.now >= until;
        if !cell.news() && !late {
            return Ok(false);
        }
        if let Some(woken) = self.engine.locks.cancel(owner) {
            let sessions = self.engine.grant(&woken);
            self.wake_all(sessions, context);
        }
        self.hear_news(txn)?;
        if late { Err(Failed::LockTimeout) } else { Ok(true) }
    }

    // ---- rows ----

    /// The version of a key that is seen; `Err` is what to wait for.
    fn point(
        &mut self,
        session: usize,
        key: &Key,
        snapshot: Option<&Vector>,
        context: &mut Context,
    ) -> Result<Result<Option<RowVersion>, State>, Failed> {
        loop {
            let view = snapshot.map_or(View::Newest, View::Snapshot);
            let gap = match self.engine.cache.get(key, view) {
                Lookup::Hit(version) => return Ok(Ok(version.cloned())),
                Lookup::Miss(gap) => gap,
            };
            if let Some(state) = self.fetch(session, gap, POINT_BYTES, context) {
                return Ok(Err(state));
            }
        }
    }

    /// Asks storage for a gap, or waits for somebody who does. `None`: look again.
    fn fetch(
        &mut self,
        session: usize,
        mut gap: Gap,
        bytes_max: u32,
        context: &mut Context,
    ) -> Option<State> {
        let border = table_end();
        if gap.start < border && gap.end.as_ref().is_none_or(|end| *end > border) {
            gap.end = Some(border);
        }
        let from = self.engine.low();
        if let Some(reader) = self.blocks.find(|request| request.start == gap.start) {
            reader.waiting.push(session);
            return Some(State::Fetch);
        }
        let (fetch, at_least) = self.engine.cache.begin_fetch(gap.clone(), false)?;
        let Gap { start, end } = gap;
        let request =
            ReadBlock { id: 0, start, end, reverse: false, bytes_max, from, newest: false, at_least };
        let now = self.now(context);
        let id = self.blocks.arrive(request, Reader { fetch, waiting: vec![session] }, now);
        context.oracle.counts.fetches += 1;
        self.send_block(id, context);
        Some(State::Fetch)
    }

    pub(super) fn block_arrived(&mut self, block: Block, context: &mut Context) {
        let Some(read) = self.blocks.answered(block.id) else { return };
        let horizon = self.engine.horizon();
        match self.engine.cache.install(read.fetch, block, &horizon) {
            Ok(()) | Err(InstallError::Void) => {}
            Err(error) => panic!("instance {}: {error}", self.index),
        }
        // Read before anything can be evicted, so that every fetch is of use.
        for number in read.waiting {
            if self.sessions[number].state == State::Fetch {
                self.sessions[number].state = State::Running;
                self.session(number, context);
            }
        }
        self.engine.cache.evict(self.engine.cache_bytes);
    }

    pub(super) fn fetch_failed(&mut self, read: Reader, context: &mut Context) {
        self.engine.cache.abandon(read.fetch);
        for number in read.waiting {
            let mut session = std::mem::replace(&mut self.sessions[number], Session::new(number));
            if session.state == State::Fetch {
                self.end(&mut session, Err(Failed::Unavailable), context);
            }
            self.sessions[number] = session;
        }
    }

    // ---- the end ----

    fn commit(&mut self, session: &mut Session, context: &mut Context) -> Stepped {
        let Some(txn) = &mut session.txn else { return Ok(Step::Done) };
        let mut writes = Vec::new();
        for (key, value) in std::mem::take(&mut txn.overlay) {
            let held = txn.held.remove(&key).expect("a key is locked before it is changed");
            if value.is_none() && !held.live {
                txn.held.insert(key, held); // it remains a check if it was one
                continue;
            }
            writes.push(Write { key, base: held.base, value });
        }
        if writes.is_empty() {
            self.end(session, Ok(()), context);
            return Ok(Step::Wait(session.state));
        }
        if !self.engine.writer {
            return Err(Failed::ReadOnly);
        }
        let mut checks = Vec::new();
        if self.engine.mode == Mode::MultiMaster {
            let held = txn.held.iter().filter(|(_, held)| held.check);
            checks.extend(held.map(|(key, held)| Check { key: key.clone(), base: held.base }));
        }
        let mut deps = self.engine.applied();
        deps.join(&txn.observed);
        if let Some(snapshot) = txn.snapshot.take() {
            self.engine.release_snapshot(snapshot);
        }
        let now = self.now(context);
        let waiting = Commits::arrive((deps, writes, checks), session.number, now);
        session.state = State::Commit;
        self.commits.parked.push((now, waiting));
        self.turn_soon(context);
        Ok(Step::Wait(State::Commit))
    }

    pub(super) fn commit_over(
        &mut self,
        number: usize,
        result: Result<(), CommitError>,
        context: &mut Context,
    ) {
        let mut session = std::mem::replace(&mut self.sessions[number], Session::new(number));
        let how = match result {
            Ok(()) => Ok(()),
            Err(CommitError::Conflict) => Err(Failed::Conflict),
            Err(CommitError::Unavailable) => Err(Failed::Unavailable),
            Err(CommitError::Unknown) => Err(Failed::Unknown),
            Err(CommitError::Fenced) => Err(Failed::ReadOnly),
        };
        assert_eq!(session.state, State::Commit, "only a commit is told an outcome");
        self.end(&mut session, how, context);
        self.sessions[number] = session;
    }
}
