//! Many seeds: `make sim SEEDS=N`; one again: `make sim SEED=x`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use node_sim::{Report, Setup, World};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[derive(Default)]
struct Tally {
    total: Report,
    failed: Vec<u64>,
    told: Option<Instant>,
}

#[test]
fn what_is_acknowledged_survives_and_what_is_refused_never_appears() {
    if let Some(seed) = number("SEED") {
        let mut setup = Setup::random(seed);
        setup.trace = number("SIM_TRACE").is_some();
        println!("{setup:#?}");
        let report = World::new(seed, setup).run();
        println!("seed {seed}: {report:?}");
        return;
    }
    let seeds = number("SEEDS").unwrap_or(200);
    let first = number("FIRST_SEED").unwrap_or(0);
    let started = Instant::now();
    let next = AtomicU64::new(0);
    let tally = Mutex::new(Tally { told: Some(started), ..Tally::default() });
    let work = || {
        loop {
            let done = next.fetch_add(1, Ordering::Relaxed);
            if done >= seeds {
                return;
            }
            let seed = first + done;
            let result = catch_unwind(AssertUnwindSafe(|| World::new(seed, Setup::random(seed)).run()));
            let mut tally = tally.lock().expect("nobody panics while holding it");
            match result {
                Ok(report) => tally.total += report,
                Err(_) => {
                    println!("seed {seed} failed");
                    tally.failed.push(seed);
                }
            }
            if tally.told.is_some_and(|told| told.elapsed() > Duration::from_secs(10)) {
                tally.told = Some(Instant::now());
                println!("{done} of {seeds} seeds, {} failed", tally.failed.len());
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let tally = tally.into_inner().expect("nobody panicked while holding it");
    let seconds = started.elapsed().as_secs_f64();
    println!("{:?}", tally.total);
    println!("{seconds:.1} s, {:.0} seeds/s", seeds as f64 / seconds);
    println!("{seeds} seeds, {} failed", tally.failed.len());
    assert!(tally.failed.is_empty(), "replay with make sim SEED=<seed>: {:?}", tally.failed);
}
