//! Many seeds: `make sim SEEDS=N`; one again: `make sim SEED=x`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use node_core::quorum::Mode;
use node_sim::{Faults, Random, Report, World};

fn run(seed: u64) -> Report {
    let mut random = Random::new(seed ^ 0x5eed);
    let mode = if random.chance(60) { Mode::MultiMaster } else { Mode::SingleMaster };
    let nodes = if random.chance(50) { 3 } else { 6 };
    let instances = 1 + random.below(3) as usize;
    let faults = Faults {
        lost: random.below(20),
        twice: random.below(10),
        node_crash: random.below(40),
        instance_crash: random.below(30),
        cut: random.below(100),
    };
    World::new(seed, nodes, instances, mode, faults).run(1500)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn what_is_acknowledged_survives_and_what_is_refused_never_appears() {
    if let Some(seed) = number("SEED") {
        let report = run(seed);
        println!("seed {seed}: {report:?}");
        return;
    }
    let seeds = number("SEEDS").unwrap_or(400);
    let mut failed = Vec::new();
    let mut total = Report::default();
    for seed in 0..seeds {
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok(report) => {
                total.committed += report.committed;
                total.aborted += report.aborted;
                total.crashes += report.crashes;
            }
            Err(_) => failed.push(seed),
        }
    }
    println!("{total:?}");
    println!("{seeds} seeds, {} failed", failed.len());
    assert!(failed.is_empty(), "replay with SEED=<seed> make sim: {failed:?}");
}
