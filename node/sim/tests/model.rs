//! The model of the commit protocol: `make model`, and `make model FULL=1` with the larger worlds.
//!
//! `MODEL=standard` and `MODEL=full` choose how much is run; without it only what takes seconds is.
//! `ONLY=words` runs the cases whose name contains these words, whatever their tier, with the traces.
//! `PATIENCE=seconds` ends each case that takes longer, and counts it as failed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use node_sim::model::catalogue;
use node_sim::model::run::{Case, Report, Tier, run};

fn only() -> String {
    std::env::var("ONLY").unwrap_or_default()
}

fn wanted() -> Vec<Case> {
    let only = only();
    let tier = match std::env::var("MODEL").unwrap_or_default().as_str() {
        "" => Tier::Quick,
        "standard" => Tier::Standard,
        "full" => Tier::Full,
        other => panic!("MODEL is standard or full, not {other:?}"),
    };
    let chosen = |case: &Case| if only.is_empty() { case.tier <= tier } else { case.name.contains(&only) };
    catalogue::all().into_iter().filter(chosen).collect()
}

/// How long one case may take.
fn patience() -> Duration {
    const DEFAULT_S: u64 = 600;
    let text = std::env::var("PATIENCE").unwrap_or_default();
    let seconds =
        if text.is_empty() { DEFAULT_S } else { text.parse().expect("PATIENCE is a number of seconds") };
    Duration::from_secs(seconds)
}

/// Runs the cases on two threads, each case on one of them, and prints each report as it comes.
fn run_all(cases: &[Case]) -> Vec<Report> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(2);
    let next = AtomicUsize::new(0);
    let (send, reports) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..threads {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    send.send(run(case, patience())).expect("the receiver outlives the scope");
                }
            });
        }
        drop(send);
        reports.iter().inspect(|report| println!("{report}")).collect()
    })
}

#[test]
fn the_rules_that_ship_hold_and_every_planted_mistake_is_found() {
    let cases = wanted();
    let reports = run_all(&cases);
    let failed: Vec<&Report> = reports.iter().filter(|report| report.complaint.is_some()).collect();
    for report in &reports {
        if report.complaint.is_some() || !only().is_empty() {
            println!("\n{}: {:?}\n{}", report.name, report.witnessed, report.trace);
        }
    }
    println!("{} models, {} failed", reports.len(), failed.len());
    assert!(failed.is_empty(), "{:?}", failed.iter().map(|report| report.name).collect::<Vec<_>>());
}

#[test]
fn names_in_the_catalogue_are_unique() {
    let mut names: Vec<&str> = catalogue::all().iter().map(|case| case.name).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}
