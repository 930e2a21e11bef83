//! Measures what a client sees of a fault; `bench/failover.sh` drives it and makes a table of its output.
//!
//! ```text
//! failover single BINARY MANIFEST ROUNDS     SIGKILL, SIGTERM and SIGSTOP of the writer in turn
//! failover multi BINARY MANIFEST ROUNDS      SIGKILL of one of several writers in turn
//! failover servers PORT,PORT,... PID FIRST   SIGKILL of a process, the server on the first port: one round
//! ```
//! Each line of output is one observation, separated by tabs: the subject, the fault, milliseconds, the same for
//! two quiet seconds before the fault, acknowledged rows lost, failed writes. With one writer the milliseconds are
//! those from the order to break it to the next write acknowledged through the cluster endpoint; with several,
//! there is a line for each survivor with the longest gap between two of its acknowledged writes, and one with
//! dashes for the killed one, of which only lost rows count.
//! FIRST is the number of the first writer, so that several rounds can share one table.

mod cluster;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use cluster::{
    Endpoint, Outcome, Playground, Seen, address, create_table, endpoints, lost, wait_until, write, writer,
};
use serde_json::Value;

/// Clients of the cluster endpoint.
const CLIENTS: usize = 4;
/// How long the load runs undisturbed before the fault.
const QUIET: Duration = Duration::from_secs(2);
/// Acknowledged writes of each client after which a fault is over.
const ENOUGH: usize = 100;
/// How long a cluster may take to recover, and a process to come back.
const DEADLINE: Duration = Duration::from_secs(120);
/// Pause between two looks at a count or a state.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = match arguments[..] {
        ["single", binary, manifest, rounds] => {
            single(&PathBuf::from(binary), &PathBuf::from(manifest), rounds)
        }
        ["multi", binary, manifest, rounds] => {
            multi(&PathBuf::from(binary), &PathBuf::from(manifest), rounds)
        }
        ["servers", ports, pid, first] => servers(ports, pid, first),
        _ => Err("usage: see the head of this file, or bench/failover.sh --help".into()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failover: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Clients at work, one for each of `places`, while something happens.
struct Load {
    counts: Vec<AtomicUsize>,
}

impl Load {
    /// Runs clients numbered from `first`; `happen` gets the counts of what they have written. They stop when it
    /// returns, whatever it returns.
    fn run<T>(
        places: &[&Endpoint],
        first: u64,
        happen: impl FnOnce(&Load) -> Outcome<T>,
    ) -> Outcome<(T, Vec<Seen>)> {
        let load = Load { counts: places.iter().map(|_| AtomicUsize::new(0)).collect() };
        std::thread::scope(|scope| {
            let mut stops = Vec::new();
            let mut clients = Vec::new();
            for ((number, place), count) in (first..).zip(places).zip(&load.counts) {
                let (stop, stopped) = mpsc::channel();
                stops.push(stop);
                clients.push(scope.spawn(move || write(place, number, &stopped, count)));
            }
            let happened = happen(&load);
            drop(stops);
            let seen: Result<Vec<Seen>, _> = clients.into_iter().map(|client| client.join()).collect();
            Ok((happened?, seen.map_err(|_| "a client panicked")?))
        })
    }

    /// Waits until each of these clients has written so much more.
    fn wait_for_more(&self, clients: impl Iterator<Item = usize>, writes: usize) -> Outcome<()> {
        let wanted: Vec<(usize, usize)> =
            clients.map(|client| (client, self.counts[client].load(Ordering::Relaxed) + writes)).collect();
        let reached =
            || wanted.iter().all(|(client, wanted)| self.counts[*client].load(Ordering::Relaxed) >= *wanted);
        wait_for("acknowledged writes", || Ok(reached()))
    }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> Outcome<bool>) -> Outcome<()> {
    let end = Instant::now() + DEADLINE;
    while !condition()? {
        if Instant::now() >= end {
            return Err(format!("no {what} within {} s", DEADLINE.as_secs()).into());
        }
        std::thread::park_timeout(LOOK_AGAIN);
    }
    Ok(())
}

/// When the load was quiet, and when it was disturbed.
struct Course {
    quiet: Range<Instant>,
    fault: Range<Instant>,
}

fn instance_is(state: &Value, name: &str, what: &str, value: &str) -> bool {
    let instances = state["instances"].as_array();
    instances.into_iter().flatten().any(|one| one["name"] == name && one[what] == value)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn single(binary: &Path, manifest: &Path, rounds: &str) -> Outcome<()> {
    let rounds: usize = rounds.parse()?;
    let playground = Playground::new(binary)?;
    eprintln!("{}", playground.up(manifest)?);
    let endpoint = endpoints(&playground.status()?)?.pop().ok_or("there is no cluster endpoint")?;
    create_table(&endpoint)?;
    let faults = [("SIGKILL", "kill", "start"), ("SIGTERM", "stop", "start"), ("SIGSTOP", "pause", "resume")];
    // In turn, so that a busy moment of the machine does not hit one kind alone.
    for round in 0..rounds {
        for (kind, (signal, fault, cure)) in faults.into_iter().enumerate() {
            let first = u64::try_from((round * faults.len() + kind) * CLIENTS)?;
            let (course, seen) = Load::run(&[&endpoint; CLIENTS], first, |load| {
                break_the_writer(&playground, load, fault, cure)
            })?;
            let missing = seen.iter().map(|one| lost(&endpoint, one)).sum::<Outcome<usize>>()?;
            let failed: usize = seen.iter().map(|one| one.failures.len()).sum();
            let recovery = milliseconds(next_write(&seen, &course.fault)?);
            let quiet = milliseconds(gap(&seen, &course.quiet));
            println!("single-master\t{signal}\t{recovery:.1}\t{quiet:.1}\t{missing}\t{failed}");
            eprintln!("{signal} {}/{rounds}: {recovery:.0} ms", round + 1);
        }
    }
    Ok(())
}

fn break_the_writer(playground: &Playground<'_>, load: &Load, fault: &str, cure: &str) -> Outcome<Course> {
    load.wait_for_more(0..CLIENTS, 1)?;
    let quiet = Instant::now();
    wait_until(quiet + QUIET);
    let victim = writer(&playground.status()?).ok_or("no instance writes")?;
    let begin = Instant::now();
    playground.run(&[fault, &victim])?;
    // The order is carried out: what is written from here on is written by another instance.
    load.wait_for_more(0..CLIENTS, ENOUGH)?;
    let end = Instant::now();
    playground.run(&[cure, &victim])?;
    wait_for("replica where the writer was", || {
        let state = playground.status()?;
        Ok(instance_is(&state, &victim, "role", "reader") && instance_is(&state, &victim, "state", "ready"))
    })?;
    Ok(Course { quiet: quiet..begin, fault: begin..end })
}

/// Every acknowledged write, in order.
fn moments(seen: &[Seen]) -> Vec<Instant> {
    let mut all: Vec<Instant> =
        seen.iter().flat_map(|one| &one.acknowledged).map(|(_, moment)| *moment).collect();
    all.sort_unstable();
    all
}

/// The longest time without any acknowledged write.
fn gap(seen: &[Seen], during: &Range<Instant>) -> Duration {
    let all = moments(seen);
    let pairs = all.windows(2).filter(|pair| during.contains(&pair[1]));
    pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

/// From the fault to the end of the longest time without an acknowledged write: a writer that hands over goes on
/// for a moment, so it is not always the first one after the fault that tells.
fn next_write(seen: &[Seen], fault: &Range<Instant>) -> Outcome<Duration> {
    let all = moments(seen);
    let pairs = all.windows(2).filter(|pair| fault.contains(&pair[1]));
    let longest = pairs.max_by_key(|pair| pair[1] - pair[0].max(fault.start));
    Ok(longest.ok_or("nothing was written after the fault")?[1] - fault.start)
}

fn multi(binary: &Path, manifest: &Path, rounds: &str) -> Outcome<()> {
    let rounds: usize = rounds.parse()?;
    let playground = Playground::new(binary)?;
    eprintln!("{}", playground.up(manifest)?);
    let all = endpoints(&playground.status()?)?;
    create_table(&all[0])?;
    let places: Vec<&Endpoint> = all.iter().collect();
    for round in 0..rounds {
        let victim = round % all.len();
        let name = all[victim].name.as_str();
        let first = u64::try_from(round * all.len())?;
        let (course, seen) = Load::run(&places, first, |load| {
            let course = disturb(load, all.len(), victim, || playground.run(&["kill", name]).map(drop))?;
            playground.run(&["start", name])?;
            load.wait_for_more(std::iter::once(victim), ENOUGH)?;
            Ok(course)
        })?;
        report_survivors("multi-master", &all, victim, &course, &seen)?;
    }
    Ok(())
}

/// A quiet while, the fault, and writes on every survivor.
fn disturb(load: &Load, all: usize, victim: usize, fault: impl FnOnce() -> Outcome<()>) -> Outcome<Course> {
    load.wait_for_more(0..all, 1)?;
    let quiet = Instant::now();
    wait_until(quiet + QUIET);
    let begin = Instant::now();
    fault()?;
    load.wait_for_more((0..all).filter(|client| *client != victim), ENOUGH)?;
    // Whatever is noticed late belongs to it.
    wait_until(Instant::now() + QUIET);
    Ok(Course { quiet: quiet..begin, fault: begin..Instant::now() })
}

fn report_survivors(
    subject: &str,
    all: &[Endpoint],
    victim: usize,
    course: &Course,
    seen: &[Seen],
) -> Outcome<()> {
    let witness = &all[(victim + 1) % all.len()];
    for (client, seen) in seen.iter().enumerate() {
        let missing = lost(witness, seen)?;
        if client == victim {
            println!("{subject}\tSIGKILL\t-\t-\t{missing}\t0");
            continue;
        }
        let gap = milliseconds(seen.longest_gap(&course.fault));
        let quiet = milliseconds(seen.longest_gap(&course.quiet));
        let failed = seen.failures.len();
        println!("{subject}\tSIGKILL\t{gap:.1}\t{quiet:.1}\t{missing}\t{failed}");
        eprintln!("{subject}: {} killed, {}: {gap:.0} ms", all[victim].name, all[client].name);
        if let Some(first) = seen.failures.first() {
            eprintln!("{subject}: a write on a survivor failed: {first}");
        }
    }
    Ok(())
}

fn servers(ports: &str, pid: &str, first: &str) -> Outcome<()> {
    let first: u64 = first.parse()?;
    let endpoint = |port: &str| -> Outcome<Endpoint> {
        let address = address(port.parse()?, Some("root".to_owned()), None, Some("app".to_owned()))?
            // A read waits for what was acknowledged before it, or rows on their way would count as lost.
            .init(vec!["SET SESSION wsrep_sync_wait = 1"]);
        Ok(Endpoint { name: format!("port {port}"), address })
    };
    let all = ports.split(',').map(endpoint).collect::<Outcome<Vec<Endpoint>>>()?;
    if first == 0 {
        create_table(&all[0])?;
    }
    let places: Vec<&Endpoint> = all.iter().collect();
    let (course, seen) = Load::run(&places, first, |load| {
        disturb(load, all.len(), 0, || {
            let killed = Command::new("kill").args(["-KILL", pid]).status()?;
            if killed.success() { Ok(()) } else { Err(format!("cannot kill process {pid}").into()) }
        })
    })?;
    report_survivors("galera", &all, 0, &course, &seen)
}
