//! The simulation is known to be able to fail: each mistake that is made on purpose is found, among fewer seeds
//! than continuous integration tries.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use node_sim::{Plant, Setup, World};

/// How many seeds a planted mistake may survive; `make test` tries 3000 without one.
const SEEDS_MAX: u64 = 1_000;

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// The first seed found that fails with the plant, and how.
fn find(plant: Plant) -> Option<(u64, String)> {
    let (next, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let found: Mutex<Option<(u64, String)>> = Mutex::new(None);
    let work = || {
        while !over.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS_MAX {
                return;
            }
            let setup = Setup { plant, ..Setup::random(seed) };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| World::new(seed, setup).run())) {
                over.store(true, Ordering::Relaxed);
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.get_or_insert((seed, message(&*panic)));
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn check(plant: Plant) {
    let (seed, how) = find(plant).unwrap_or_else(|| panic!("{plant:?} survived {SEEDS_MAX} seeds"));
    println!("{plant:?} is found by seed {seed}: {how}");
}

#[test]
fn a_vote_sent_before_it_is_durable_is_found() {
    check(Plant::VoteBeforeSync);
}

#[test]
fn a_recoverer_that_skips_the_must_commit_rule_is_found() {
    check(Plant::SkipMustCommit);
}

#[test]
fn a_node_that_does_not_learn_bases_is_found() {
    check(Plant::BaseNotLearnt);
}

#[test]
fn a_forgotten_decision_is_found() {
    check(Plant::DecisionForgotten);
}

#[test]
fn a_read_of_the_present_that_asks_too_few_nodes_is_found() {
    check(Plant::IndexTooFew);
}

#[test]
fn promises_lost_with_a_disk_are_found() {
    check(Plant::PromiseLostWithDisk);
}
