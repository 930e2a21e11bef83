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

/// The seed's world with more of the faults that the mistake takes to show: by themselves they are rare.
fn prone_to(plant: Plant, mut setup: Setup) -> Setup {
    setup.plant = plant;
    let faults = &mut setup.faults;
    match plant {
        Plant::VoteBeforeSync => {
            (faults.blackout, faults.node_crash, faults.slow_disk) = (15, 40, 20);
        }
        Plant::PromiseLostWithDisk => (faults.lost_disk, faults.instance_crash) = (20, 25),
        Plant::Nothing
        | Plant::IndexTooFew
        | Plant::SkipMustCommit
        | Plant::BaseNotLearnt
        | Plant::DecisionForgotten => {}
    }
    setup
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
            let setup = prone_to(plant, Setup::random(seed));
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
    // What is found is the mistake and not the faults: without it such worlds do not fail.
    for seed in 0..20 {
        let without = Setup { plant: Plant::Nothing, ..prone_to(plant, Setup::random(seed)) };
        World::new(seed, without).run();
    }
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
