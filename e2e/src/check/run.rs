//! One run: clients at work while faults come and go.

use std::collections::BTreeMap;
use std::time::Duration;

use super::args::RunArgs;
use super::clients::{bank, ledger, lists};
use super::cluster::{Cluster, ClusterError, Doors};
use super::connect::Way;
use super::faults::{FaultKind, Plan, Victims};
use super::shared::Shared;
use super::verdict::{self, Work};
use super::{CheckError, end, say};

/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(10);
/// Reads of an instance's own state in multi-master mode.
const LOCAL_READS: &str = "SET SESSION aurora_mm_session_consistency_level = 'INSTANCE_RAW'";

/// How often each kind of fault came.
type Tally = BTreeMap<FaultKind, u64>;

/// What a client does.
#[derive(Clone, Copy, Debug)]
enum Job {
    Lists,
    Bank,
    Ledger,
    /// Lists, from replicas or what the instance has applied.
    ListReads,
    /// Totals, from replicas or what the instance has applied.
    BankReads,
}

/// Runs the check; true if there is no anomaly.
pub(super) fn run(cluster: &dyn Cluster, kinds: &[FaultKind], args: &RunArgs) -> Result<bool, CheckError> {
    let seed = args.seed.unwrap_or_else(random_seed);
    let mode = if cluster.members().single_master { "single-master" } else { "multi-master" };
    say(&format!("seed {seed}: {mode}, {} s", args.seconds));
    let jobs = jobs(args.clients);
    let shared = Shared::new(seed, jobs.len());
    let doors = cluster.doors().map_err(CheckError::Cluster)?;
    end::set_up(&doors)?;

    let mut plan = (!kinds.is_empty()).then(|| Plan::new(seed, kinds, cluster.members().clone()));
    let (all_lists, tally) = (lists::Lists::new(), std::sync::Mutex::new(Tally::new()));
    let (work, faults) = std::thread::scope(|scope| {
        let (shared, all_lists, tally) = (&shared, &all_lists, &tally);
        let (doors, pace) = (&doors, Duration::from_millis(args.pace_ms));
        let clients: Vec<_> = (0..)
            .zip(&jobs)
            .map(|(number, job)| {
                scope.spawn(move || client(number, *job, cluster, doors, shared, pace, all_lists))
            })
            .collect();
        let nemesis = plan.as_mut().map(|plan| scope.spawn(move || strike(cluster, plan, shared, tally)));
        progress(shared, args.seconds, tally);
        shared.end();
        let faults = nemesis.map_or(Ok(()), |thread| thread.join().expect("breaking things does not panic"));
        let work: Vec<Work> =
            clients.into_iter().map(|thread| thread.join().expect("clients do not panic")).collect();
        (work, faults)
    });
    let tally = tally.into_inner().expect("nobody panics while holding it");
    let mended = cluster.mend(Duration::from_secs(args.patience));
    faults.map_err(CheckError::Cluster)?;
    if let Err(ClusterError::NotMended { .. }) = &mended {
        shared.surprise(mended.as_ref().expect_err("it is an error").to_string());
        verdict::print(&shared, &tally, &[], jobs.len());
        return Ok(false);
    }
    mended.map_err(CheckError::Cluster)?;
    let end = match end::read(&doors) {
        Err(CheckError::Unsettled { what }) => {
            shared.surprise(format!("what instances show at the end does not settle: {what}"));
            verdict::print(&shared, &tally, &[], jobs.len());
            return Ok(false);
        }
        other => other?,
    };
    let names: Vec<String> = doors.instances.iter().map(|(name, _)| name.clone()).collect();
    let (history, anomalies) = verdict::judge(work, names, cluster.members().single_master, &end);
    if args.history.is_some() || !anomalies.is_empty() {
        let default = || std::env::temp_dir().join(format!("e2e-check-{seed}.json"));
        verdict::write(&history, &args.history.clone().unwrap_or_else(default))?;
    }
    Ok(verdict::print(&shared, &tally, &anomalies, jobs.len()))
}

fn random_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    // Short enough to be typed again.
    u64::from(now.subsec_nanos()) % 1_000_000
}

/// The clients of a run.
fn jobs(clients: u32) -> Vec<Job> {
    let each = |job, count: u32| (0..count).map(move |_| job);
    let readers = clients.div_ceil(2);
    each(Job::Lists, clients)
        .chain(each(Job::Bank, clients.div_ceil(2)))
        .chain(each(Job::Ledger, clients.div_ceil(2)))
        .chain(each(Job::ListReads, readers))
        .chain(each(Job::BankReads, readers.div_ceil(2)))
        .collect()
}

fn client(
    number: u32,
    job: Job,
    cluster: &dyn Cluster,
    doors: &Doors,
    shared: &Shared,
    pace: Duration,
    all: &lists::Lists,
) -> Work {
    let first = usize::try_from(number).expect("few clients");
    let writes = || Way::new(&doors.writers, doors, shared, first);
    let reads = || match cluster.members().single_master {
        true => Way::new(&doors.readers, doors, shared, first),
        false => Way::new(&doors.writers, doors, shared, first).with(LOCAL_READS),
    };
    let names: Vec<String> = doors.instances.iter().map(|(name, _)| name.clone()).collect();
    let style = |only_reads| lists::Style { only_reads, fresh: !only_reads };
    match job {
        Job::Lists => Work::Lists(lists::run(number, writes(), shared, pace, all, style(false))),
        Job::ListReads => Work::Lists(lists::run(number, reads(), shared, pace, all, style(true))),
        Job::Bank => Work::Bank(bank::run(number, writes(), shared, pace, &names, false)),
        Job::BankReads => Work::Bank(bank::run(number, reads(), shared, pace, &names, true)),
        Job::Ledger => Work::Ledger(ledger::run(number, writes(), shared, pace)),
    }
}

/// Carries faults out until the run is over; whatever is broken then is mended by the caller.
fn strike(
    cluster: &dyn Cluster,
    plan: &mut Plan,
    shared: &Shared,
    tally: &std::sync::Mutex<Tally>,
) -> Result<(), ClusterError> {
    loop {
        let round = plan.round();
        if shared.wait(Duration::from_millis(round.after_ms)) {
            return Ok(());
        }
        let mut struck = Vec::new();
        for strike in &round.strikes {
            let met = cluster.begin(strike)?;
            let from = match &strike.victims {
                Victims::Partly(_, others) => format!(" from {}", others.join(" ")),
                Victims::Named(_) | Victims::Writer => String::new(),
            };
            say(&format!(
                "{:>5} s  {} {:?} {}{from} for {} ms",
                shared.now() / 1_000_000,
                strike.kind.name(),
                strike.deed,
                met.join(" "),
                round.lasts_ms
            ));
            *tally.lock().expect("nobody panics while holding it").entry(strike.kind).or_default() += 1;
            struck.push((strike, met));
        }
        let over = shared.wait(Duration::from_millis(round.lasts_ms));
        for (strike, met) in struck {
            cluster.end(strike, &met)?;
        }
        if over {
            return Ok(());
        }
    }
}

/// Says every ten seconds how far it is, until the time is over.
fn progress(shared: &Shared, seconds: u64, tally: &std::sync::Mutex<Tally>) {
    loop {
        let left = Duration::from_secs(seconds).saturating_sub(Duration::from_micros(shared.now()));
        if left.is_zero() || shared.wait(left.min(PROGRESS)) {
            return;
        }
        let [committed, refused, unknown] = shared.counts();
        let faults: u64 = tally.lock().expect("nobody panics while holding it").values().sum();
        let longest = shared.stalls().into_iter().max().unwrap_or_default();
        say(&format!(
            "{:>5} s  {committed} committed, {refused} refused, {unknown} unknown; {faults} faults; longest stall {} ms",
            shared.now() / 1_000_000,
            longest.as_millis()
        ));
    }
}
