//! Shows what Borealis is for: `demo BINARY MANIFEST...` starts each cluster, writes to it, kills an instance
//! under that load, and says how long writes were interrupted and whether a row was lost.

mod cluster;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use cluster::{
    Endpoint, Outcome, Playground, Seen, create_table, endpoints, lost, wait_until, write, writer,
};

/// How long writers write.
const LOAD: Duration = Duration::from_secs(6);
/// When an instance is killed.
const KILL_AFTER: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let Some(binary) = arguments.next() else {
        eprintln!("usage: demo BINARY MANIFEST...");
        return ExitCode::from(2);
    };
    for manifest in arguments {
        match show(&binary, &manifest) {
            Ok(true) => {}
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => {
                eprintln!("demo: {}: {error}", manifest.display());
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// One cluster, from up to down. False: a row was lost.
fn show(binary: &Path, manifest: &Path) -> Outcome<bool> {
    let playground = Playground::new(binary)?;
    println!("== {}", manifest.display());
    println!("{}", playground.up(manifest)?);
    let state = playground.status()?;
    let multi_master = state["cluster"].is_null();
    let endpoints = endpoints(&state)?;
    let victim = writer(&state).ok_or("no instance writes")?;
    for endpoint in &endpoints {
        println!("  {:<10} {}", endpoint.name, place(&endpoint.address));
    }
    create_table(&endpoints[0])?;

    println!(
        "Writing through {} for {} s; killing {victim} after {} s …",
        names(&endpoints),
        LOAD.as_secs(),
        KILL_AFTER.as_secs()
    );
    let began = Instant::now();
    let mut seen = Vec::new();
    std::thread::scope(|scope| -> Outcome<()> {
        let mut stops = Vec::new();
        let mut writers = Vec::new();
        for (number, endpoint) in (1..).zip(&endpoints) {
            let (stop, stopped) = mpsc::channel::<()>();
            stops.push(stop);
            writers.push(scope.spawn(move || write(endpoint, number, &stopped, &AtomicUsize::new(0))));
        }
        wait_until(began + KILL_AFTER);
        let killed = playground.run(&["kill", &victim]);
        wait_until(began + LOAD);
        drop(stops);
        for writer in writers {
            seen.push(writer.join().map_err(|_| "a writer panicked")?);
        }
        killed.map(drop)
    })?;
    let survivor =
        endpoints.iter().find(|one| !multi_master || one.name != victim).ok_or("nobody survived")?;
    let load = began..Instant::now();
    report(survivor, &endpoints, &seen, &load, multi_master.then_some(victim.as_str()))
}

fn place(address: &mysql::OptsBuilder) -> String {
    let options = mysql::Opts::from(address.clone());
    format!("{}:{}", options.get_ip_or_hostname(), options.get_tcp_port())
}

fn names(endpoints: &[Endpoint]) -> String {
    endpoints.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Says what the writers saw and checks that every acknowledged row is there.
fn report(
    survivor: &Endpoint,
    endpoints: &[Endpoint],
    seen: &[Seen],
    load: &Range<Instant>,
    gone: Option<&str>,
) -> Outcome<bool> {
    let mut all_lost = 0;
    println!("  {:<10} {:>8} {:>12} {:>6}", "CONNECTION", "WRITTEN", "LONGEST GAP", "LOST");
    for (endpoint, seen) in endpoints.iter().zip(seen) {
        let missing = lost(survivor, seen)?;
        all_lost += missing;
        let gap = format!("{:.0} ms", seen.longest_gap(load).as_secs_f64() * 1_000.0);
        let note = if gone == Some(endpoint.name.as_str()) { "  (killed)" } else { "" };
        println!("  {:<10} {:>8} {gap:>12} {missing:>6}{note}", endpoint.name, seen.acknowledged.len());
        if seen.acknowledged.is_empty() {
            return Err(format!("no write worked through {}", endpoint.name).into());
        }
    }
    if all_lost == 0 {
        println!("Every acknowledged row is there.\n");
    } else {
        println!("{all_lost} acknowledged rows are LOST.\n");
    }
    Ok(all_lost == 0)
}
