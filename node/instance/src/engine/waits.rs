//! Row locks between threads: the lock table of `node-core`, and how its waiters sleep and wake.
//!
//! One mutex guards the table, because a deadlock may run through any of its keys. A waiter sleeps on the
//! condition variable of its own transaction's *cell*; the cell also carries bad news to a transaction from
//! the thread that applies the feed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use node_core::ids::{Height, Key};
use node_core::locks::{Acquired, LockMode, LockTable, Owner};
use parking_lot::{Condvar, Mutex};

use super::KILL_POLL;

/// A commit has changed keys that the transaction has locked: see [`Cell::take_changes`].
const CHANGED: u8 = 1;
const FENCED: u8 = 2;
const RESET: u8 = 4;

#[derive(Debug, Default)]
struct State {
    granted: bool,
    changes: Vec<(Key, Height)>,
}

/// What other threads tell a transaction that holds or wants locks.
#[derive(Debug, Default)]
pub(super) struct Cell {
    flags: AtomicU8,
    state: Mutex<State>,
    wake: Condvar,
}

impl Cell {
    fn tell(&self, flag: u8, change: Option<(Key, Height)>) {
        let mut state = self.state.lock();
        state.changes.extend(change);
        self.flags.fetch_or(flag, Ordering::Release);
        self.wake.notify_one();
    }
    /// True if there is any news.
    pub(super) fn news(&self) -> bool {
        self.flags.load(Ordering::Acquire) != 0
    }
    /// The seat was lost.
    pub(super) fn fenced(&self) -> bool {
        self.flags.load(Ordering::Acquire) & FENCED != 0
    }
    /// The history was cut: changes may have been missed.
    pub(super) fn reset(&self) -> bool {
        self.flags.load(Ordering::Acquire) & RESET != 0
    }
    /// Keys that others have committed while this transaction had them locked, with their new heights.
    pub(super) fn take_changes(&self) -> Vec<(Key, Height)> {
        let mut state = self.state.lock();
        self.flags.fetch_and(!CHANGED, Ordering::AcqRel);
        std::mem::take(&mut state.changes)
    }
}

/// How a request for a lock ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// Granted, at once or (`true`) after waiting.
    Granted(bool),
    /// Refused: waiting would never end.
    Deadlock,
    /// Not in time.
    Timeout,
    /// The kill flag was set.
    Killed,
    /// There is news in the cell.
    News,
}

#[derive(Debug, Default)]
struct Inner {
    table: LockTable,
    cells: HashMap<Owner, Arc<Cell>>,
}

impl Inner {
    fn wake(&self, owners: &[Owner]) {
        for cell in owners.iter().filter_map(|owner| self.cells.get(owner)) {
            cell.state.lock().granted = true;
            cell.wake.notify_one();
        }
    }
}

/// All row locks of the instance.
#[derive(Debug, Default)]
pub(super) struct Waits {
    inner: Mutex<Inner>,
    next: AtomicU64,
}

impl Waits {
    /// A new owner of locks and its cell. Ends with [`Waits::release`].
    pub(super) fn register(&self) -> (Owner, Arc<Cell>) {
        let owner = Owner(self.next.fetch_add(1, Ordering::Relaxed));
        let cell = Arc::new(Cell::default());
        self.inner.lock().cells.insert(owner, cell.clone());
        (owner, cell)
    }

    /// Gets a lock, waiting at most so long for it.
    pub(super) fn acquire(
        &self,
        (owner, cell): (Owner, &Cell),
        key: &Key,
        mode: LockMode,
        wait: Duration,
        killed: &AtomicBool,
    ) -> Waited {
        let mut inner = self.inner.lock();
        match inner.table.acquire(owner, key, mode) {
            Acquired::Granted => return Waited::Granted(false),
            // Who does not want to wait is not part of a deadlock.
            Acquired::Deadlock if wait.is_zero() => return Waited::Timeout,
            Acquired::Deadlock => return Waited::Deadlock,
            Acquired::Waiting => {}
        }
        drop(inner);
        let deadline = Instant::now() + wait;
        let why = loop {
            let mut state = cell.state.lock();
            if std::mem::take(&mut state.granted) {
                return Waited::Granted(true);
            }
            if cell.news() {
                break Waited::News;
            }
            if killed.load(Ordering::Relaxed) {
                break Waited::Killed;
            }
            let now = Instant::now();
            if now >= deadline {
                break Waited::Timeout;
            }
            cell.wake.wait_until(&mut state, deadline.min(now + KILL_POLL));
        };
        let mut inner = self.inner.lock();
        match inner.table.cancel(owner) {
            Some(woken) => {
                inner.wake(&woken);
                why
            }
            // Granted between the last look and now.
            None => {
                cell.state.lock().granted = false;
                Waited::Granted(true)
            }
        }
    }

    /// Gives up all locks of the owner, and the owner.
    pub(super) fn release(&self, owner: Owner) {
        let mut inner = self.inner.lock();
        let woken = inner.table.release_all(owner);
        inner.wake(&woken);
        inner.cells.remove(&owner);
    }

    /// Tells those who have locked the keys that a commit has brought them to new heights.
    pub(super) fn changed<'a>(&self, changes: impl Iterator<Item = (&'a Key, Height)>) {
        let inner = self.inner.lock();
        if inner.table.is_empty() {
            return;
        }
        for (key, height) in changes {
            for (owner, _) in inner.table.holders(key) {
                if let Some(cell) = inner.cells.get(&owner) {
                    cell.tell(CHANGED, Some((key.clone(), height)));
                }
            }
        }
    }

    /// Tells everybody who has locks or waits for one that the seat is lost.
    pub(super) fn fence(&self) {
        self.tell_all(FENCED);
    }

    /// Tells everybody who has locks or waits for one that changes may have been missed.
    pub(super) fn reset(&self) {
        self.tell_all(RESET);
    }

    fn tell_all(&self, flag: u8) {
        for cell in self.inner.lock().cells.values() {
            cell.tell(flag, None);
        }
    }

    /// How many keys are locked, and how many transactions wait.
    pub(super) fn counts(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.table.len(), inner.table.waiting())
    }
}
