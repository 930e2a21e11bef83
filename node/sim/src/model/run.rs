//! Runs a case of the catalogue and says what came of it.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use super::properties::{RECOVERY, TIME_LEFT, trouble};
use super::rules::Rules;
use super::setup::Setup;
use super::streams::{StreamRules, Streams};
use super::voting::Voting;

/// What is modelled.
#[derive(Clone, Debug)]
pub enum Subject {
    /// Votes, ballots, fences.
    Voting(Box<Setup>, Rules),
    /// Streams.
    Streams(StreamRules),
}

/// How far a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Every reachable state.
    Exhaustive,
    /// Every state reachable with so many steps.
    Depth(usize),
    /// Breadth first, as far as one comes in so many seconds.
    Seconds(u64),
}

/// What a run must show.
#[derive(Clone, Debug)]
pub enum Expect {
    /// Every property holds, and these witnesses are reachable.
    Holds(Vec<&'static str>),
    /// One of these properties is violated, as first of all.
    Breaks(Vec<&'static str>),
}

/// When a case is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// With every `cargo test`: seconds altogether.
    Quick,
    /// With `make model`: minutes altogether.
    Standard,
    /// With `make model FULL=1`.
    Full,
}

/// A configuration and what is expected of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// When it is run.
    pub tier: Tier,
    /// What is modelled.
    pub subject: Subject,
    /// How far.
    pub bound: Bound,
    /// To what end.
    pub expect: Expect,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The case's name.
    pub name: &'static str,
    /// How far it was asked to go.
    pub bound: Bound,
    /// Unique states visited.
    pub states: usize,
    /// Steps of the longest path.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// Violated properties.
    pub violated: BTreeSet<&'static str>,
    /// What P4 found.
    pub why: Option<&'static str>,
    /// Witnesses reached.
    pub witnessed: BTreeSet<&'static str>,
    /// The way to each violation.
    pub trace: String,
    /// Whether it was ended before it had come as far as it was asked to.
    pub cut_short: bool,
    /// Why this is not what was expected.
    pub complaint: Option<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = match self.bound {
            _ if !self.violated.is_empty() => format!("depth {}", self.depth),
            _ if self.cut_short => format!("cut at depth {}", self.depth),
            Bound::Exhaustive => "exhaustive".to_owned(),
            Bound::Depth(depth) => format!("depth {depth}"),
            Bound::Seconds(seconds) => format!("{seconds} s, depth {}", self.depth),
        };
        let violated: Vec<&str> = self.violated.iter().copied().collect();
        let why = self.why.map_or(String::new(), |why| format!(" ({why})"));
        let result = match violated.as_slice() {
            [] => "holds".to_owned(),
            violated => format!("breaks {}{why}", violated.join(", ")),
        };
        let seconds = self.took.as_secs_f64();
        write!(
            f,
            "{:<58} {:<16} {:>10} states {:>6.1} s  {}",
            self.name, bound, self.states, seconds, result
        )?;
        if let Some(complaint) = &self.complaint {
            write!(f, "  FAILED: {complaint}")?;
        }
        Ok(())
    }
}

/// Runs the case, at most for as long as `patience`: one that has not come to its end then has failed.
///
/// # Panics
///
/// If the setup has a size that the model is not built for.
pub fn run(case: &Case, patience: Duration) -> Report {
    let limit = match case.bound {
        Bound::Seconds(seconds) => patience.min(Duration::from_secs(seconds)),
        Bound::Exhaustive | Bound::Depth(_) => patience,
    };
    let deadline = Instant::now() + limit;
    match &case.subject {
        Subject::Streams(rules) => check(case, Streams { rules: *rules, deadline }, |_, _| None),
        Subject::Voting(setup, rules) => {
            let (setup, rules) = (setup.as_ref().clone(), *rules);
            match (setup.sizes.nodes, setup.txns.len()) {
                (3, 2) => vote::<3, 2>(case, setup, rules, deadline),
                (3, 3) => vote::<3, 3>(case, setup, rules, deadline),
                (3, 4) => vote::<3, 4>(case, setup, rules, deadline),
                (4, 2) => vote::<4, 2>(case, setup, rules, deadline),
                (5, 2) => vote::<5, 2>(case, setup, rules, deadline),
                (6, 2) => vote::<6, 2>(case, setup, rules, deadline),
                (6, 3) => vote::<6, 3>(case, setup, rules, deadline),
                (nodes, txns) => panic!("add {nodes} nodes with {txns} transactions here"),
            }
        }
    }
}

fn vote<const N: usize, const T: usize>(
    case: &Case,
    setup: Setup,
    rules: Rules,
    deadline: Instant,
) -> Report {
    let model = Voting::<N, T>::new(setup, rules, deadline);
    check(case, model, |model, state| trouble(model, state).map(|(_, what)| what))
}

/// `explain` says what P4 found in the last state.
fn check<M>(case: &Case, model: M, explain: impl Fn(&M, &M::State) -> Option<&'static str>) -> Report
where
    M: Model + Send + Sync + 'static,
    M::State: fmt::Debug + std::hash::Hash + Send + Sync + Clone + PartialEq,
    M::Action: fmt::Debug + Clone + PartialEq,
{
    let always = |expectation: &Expectation| matches!(expectation, Expectation::Always);
    let must_hold: BTreeSet<&'static str> = model
        .properties()
        .iter()
        .filter(|property| always(&property.expectation))
        .map(|property| property.name)
        .collect();
    let begin = Instant::now();
    // One thread, so that the number of states until a violation is the same in every run.
    let builder = model.checker().threads(1).finish_when(HasDiscoveries::AnyFailures);
    let builder = match case.bound {
        Bound::Exhaustive | Bound::Seconds(_) => builder,
        Bound::Depth(depth) => builder.target_max_depth(depth),
    };
    let checker = builder.spawn_bfs().join();
    let took = begin.elapsed();
    let mut trace = String::new();
    let mut why = None;
    let (mut violated, mut witnessed) = (BTreeSet::new(), BTreeSet::new());
    let mut time_over = false;
    for (name, path) in checker.discoveries() {
        if name == TIME_LEFT {
            time_over = true;
            continue;
        }
        if !must_hold.contains(name) {
            witnessed.insert(name);
            continue;
        }
        violated.insert(name);
        trace.push_str(&format!("{name}:\n"));
        for (state, step) in path.into_vec() {
            match step {
                Some(step) => trace.push_str(&format!("  {step:?}\n")),
                None => {
                    why = why.or(explain(checker.model(), &state).filter(|_| name == RECOVERY));
                    trace.push_str(&format!("  then {state:?}\n"));
                }
            }
        }
    }
    let cut_short = time_over && violated.is_empty() && !matches!(case.bound, Bound::Seconds(_));
    let complaint = complaint(&case.expect, &violated, &witnessed)
        .or_else(|| cut_short.then(|| format!("has not ended after {} s", took.as_secs())));
    Report {
        name: case.name,
        bound: case.bound,
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        took,
        violated,
        why,
        witnessed,
        trace,
        cut_short,
        complaint,
    }
}

fn complaint(
    expect: &Expect,
    violated: &BTreeSet<&'static str>,
    witnessed: &BTreeSet<&'static str>,
) -> Option<String> {
    match expect {
        Expect::Breaks(properties) => {
            let found = properties.iter().any(|property| violated.contains(property));
            (!found).then(|| format!("the mistake was not found as {}", properties.join(" or ")))
        }
        Expect::Holds(_) if !violated.is_empty() => Some("a rule is violated".to_owned()),
        Expect::Holds(witnesses) => {
            let missing: Vec<&str> =
                witnesses.iter().copied().filter(|witness| !witnessed.contains(witness)).collect();
            (!missing.is_empty()).then(|| format!("not reached: {}", missing.join(", ")))
        }
    }
}
