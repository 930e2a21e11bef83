//! Threads that execute commands.
//!
//! A connection that is ready always gets a thread at once: a free one, or a new one. A limit would let
//! sessions that wait for a lock keep the one that holds it from committing. The number of connections bounds
//! the number of threads. A thread that has had nothing to do for a while ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::connection::{Connection, Served};
use crate::shared::Shared;

/// How long a thread without work lives.
const SPARE_LIFE: Duration = Duration::from_secs(5);
/// Bytes read from a socket at once.
const READ_BYTES: usize = 16 << 10;

#[derive(Default)]
struct State {
    ready: VecDeque<Box<Connection>>,
    /// Threads that wait for a connection.
    spare: usize,
    all: usize,
    stopping: bool,
}

/// The threads of a server.
pub(crate) struct Workers {
    state: Mutex<State>,
    work: Condvar,
    ended: Condvar,
    stack_bytes: usize,
}

impl Workers {
    pub(crate) fn new(stack_bytes: usize) -> Self {
        Self { state: Mutex::default(), work: Condvar::new(), ended: Condvar::new(), stack_bytes }
    }

    /// Has a connection served.
    pub(crate) fn serve(shared: &Arc<Shared>, connection: Box<Connection>) {
        let workers = &shared.workers;
        let mut state = workers.state.lock();
        if state.stopping {
            drop(state);
            return; // Dropping the connection closes it.
        }
        state.ready.push_back(connection);
        if state.spare >= state.ready.len() {
            workers.work.notify_one();
            return;
        }
        state.all += 1;
        drop(state);
        let theirs = Arc::clone(shared);
        let spawned = thread::Builder::new()
            .name("mysql".to_owned())
            .stack_size(workers.stack_bytes)
            .spawn(move || run(&theirs));
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for a connection; it waits for one to become free");
            let mut state = workers.state.lock();
            state.all -= 1;
            // With no thread at all nobody would ever come for it.
            let lost = if state.all == 0 { std::mem::take(&mut state.ready) } else { VecDeque::new() };
            drop(state);
            drop(lost);
        }
    }

    /// Ends the threads, those that still execute something when they have; false at the deadline.
    pub(crate) fn stop(&self, deadline: Instant) -> bool {
        let mut state = self.state.lock();
        state.stopping = true;
        self.work.notify_all();
        while state.all > 0 {
            if self.ended.wait_until(&mut state, deadline).timed_out() {
                return state.all == 0;
            }
        }
        true
    }

    /// How many threads there are.
    pub(crate) fn count(&self) -> usize {
        self.state.lock().all
    }

    fn next(&self) -> Option<Box<Connection>> {
        let mut state = self.state.lock();
        loop {
            if let Some(connection) = state.ready.pop_front() {
                return Some(connection);
            }
            if state.stopping {
                return None;
            }
            state.spare += 1;
            let waited = self.work.wait_for(&mut state, SPARE_LIFE);
            state.spare -= 1;
            if waited.timed_out() && state.ready.is_empty() {
                return None;
            }
        }
    }
}

/// Counts a thread out, also when it ends by a panic.
struct Ending<'a>(&'a Workers);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.all -= 1;
        self.0.ended.notify_all();
    }
}

fn run(shared: &Shared) {
    let _ending = Ending(&shared.workers);
    let mut scratch = vec![0; READ_BYTES];
    while let Some(mut connection) = shared.workers.next() {
        match connection.serve(shared, &mut scratch) {
            Served::Silent => shared.park(connection),
            Served::Over => drop(connection),
        }
    }
}
