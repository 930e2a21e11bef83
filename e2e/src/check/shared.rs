//! What the clients of one run share: its clock, its end, and what they have counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::history::{Micros, Outcome};

/// Texts of unexpected errors that are kept, of each code.
const TEXTS_MAX: usize = 3;

/// One run.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) seed: u64,
    began: Instant,
    /// When the run was over; until then the end of time.
    finished: AtomicU64,
    over: Mutex<bool>,
    ended: Condvar,
    connections: AtomicU64,
    counts: [AtomicU64; 3],
    stalls: Vec<Stall>,
    others: Mutex<BTreeMap<u16, (u64, Vec<String>)>>,
    surprises: Mutex<Vec<String>>,
}

/// A client's last success, and the longest time it went without one.
#[derive(Debug, Default)]
struct Stall {
    last: AtomicU64,
    longest: AtomicU64,
}

impl Shared {
    pub(crate) fn new(seed: u64, clients: usize) -> Shared {
        Shared {
            seed,
            began: Instant::now(),
            finished: AtomicU64::new(Micros::MAX),
            over: Mutex::new(false),
            ended: Condvar::new(),
            connections: AtomicU64::new(0),
            counts: Default::default(),
            stalls: (0..clients).map(|_| Stall::default()).collect(),
            others: Mutex::default(),
            surprises: Mutex::default(),
        }
    }

    pub(crate) fn now(&self) -> Micros {
        Micros::try_from(self.began.elapsed().as_micros()).expect("no run takes half a million years")
    }

    /// Waits for some time; true if the run is over.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let over = self.over.lock().expect("nobody panics while holding it");
        let waited = self.ended.wait_timeout_while(over, time, |over| !*over);
        *waited.expect("nobody panics while holding it").0
    }

    pub(crate) fn end(&self) {
        self.finished.store(self.now(), Ordering::Relaxed);
        *self.over.lock().expect("nobody panics while holding it") = true;
        self.ended.notify_all();
    }

    pub(crate) fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts a transaction of a client.
    pub(crate) fn count(&self, client: u32, outcome: Outcome) {
        self.counts[outcome as usize].fetch_add(1, Ordering::Relaxed);
        if outcome == Outcome::Committed {
            let (now, stall) = (self.now(), &self.stalls[client as usize]);
            let gap = now.saturating_sub(stall.last.swap(now, Ordering::Relaxed));
            stall.longest.fetch_max(gap, Ordering::Relaxed);
        }
    }

    /// Acknowledged, refused, unknown.
    pub(crate) fn counts(&self) -> [u64; 3] {
        [Outcome::Committed, Outcome::Refused, Outcome::Unknown]
            .map(|outcome| self.counts[outcome as usize].load(Ordering::Relaxed))
    }

    /// The longest time each client went without a success, one that lasts included.
    pub(crate) fn stalls(&self) -> Vec<Duration> {
        let now = self.now().min(self.finished.load(Ordering::Relaxed));
        let longest = |stall: &Stall| {
            let lasting = now.saturating_sub(stall.last.load(Ordering::Relaxed));
            Duration::from_micros(lasting.max(stall.longest.load(Ordering::Relaxed)))
        };
        self.stalls.iter().map(longest).collect()
    }

    /// Notes an error that is not one of those that applications must expect.
    pub(crate) fn other_error(&self, code: u16, text: &str) {
        let mut others = self.others.lock().expect("nobody panics while holding it");
        let (count, texts) = others.entry(code).or_default();
        *count += 1;
        if texts.len() < TEXTS_MAX && !texts.iter().any(|known| known == text) {
            texts.push(text.to_owned());
        }
    }

    pub(crate) fn other_errors(&self) -> BTreeMap<u16, (u64, Vec<String>)> {
        self.others.lock().expect("nobody panics while holding it").clone()
    }

    /// Notes something that must never happen.
    pub(crate) fn surprise(&self, text: String) {
        self.surprises.lock().expect("nobody panics while holding it").push(text);
    }

    pub(crate) fn surprises(&self) -> Vec<String> {
        self.surprises.lock().expect("nobody panics while holding it").clone()
    }
}
