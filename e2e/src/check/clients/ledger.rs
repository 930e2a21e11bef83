//! Clients that insert rows, and remember which were acknowledged.

use std::time::Duration;

use super::super::connect::{Failed, Way};
use super::super::random::Random;
use super::super::shared::Shared;
use crate::history::Outcome;
use crate::history::ledger::Entry;

/// Numbers of one client's rows start at a multiple of this.
const ROWS_PER_CLIENT: u64 = 1_000_000_000;

/// Inserts until the run is over.
pub(crate) fn run(client: u32, mut way: Way<'_>, shared: &Shared, pace: Duration) -> Vec<Entry> {
    let mut random = Random::new(shared.seed, client.into());
    let mut entries = Vec::new();
    let mut next = u64::from(client) * ROWS_PER_CLIENT;
    let mut acknowledged = None;
    while !shared.wait(pace) {
        if random.percent(1) {
            way.move_on();
        }
        let Some(link) = way.link() else { continue };
        if let Some(known) = acknowledged.filter(|_| random.percent(5)) {
            // A row that is there cannot be inserted again.
            if link.run(&format!("INSERT INTO check_ledger VALUES ({known}, {client})")).is_ok() {
                shared.surprise(format!("row {known}, acknowledged before, was inserted a second time"));
            }
            continue;
        }
        let count = if random.percent(30) { random.between(2, 4) } else { 1 };
        let ids: Vec<u64> = (next..next + count).collect();
        next += count;
        let values: Vec<String> = ids.iter().map(|id| format!("({id}, {client})")).collect();
        let insert = format!("INSERT INTO check_ledger VALUES {}", values.join(", "));
        let outcome = match (count > 1 && random.percent(50), random.percent(10)) {
            (true, roll_back) => {
                let outcome = in_transaction(link, &insert, roll_back);
                if outcome == Outcome::Refused {
                    link.roll_back();
                }
                outcome
            }
            (false, _) => link.run(&insert).map_or_else(|failed| failed.at_commit(), |_| Outcome::Committed),
        };
        shared.count(client, outcome);
        if outcome == Outcome::Committed {
            acknowledged = ids.first().copied();
        }
        let ended = shared.now();
        entries.extend(ids.into_iter().map(|id| Entry { id, client, ended, outcome }));
    }
    entries
}

fn in_transaction(link: &mut super::super::connect::Link<'_>, insert: &str, roll_back: bool) -> Outcome {
    let done: Result<u64, Failed> = link.run("BEGIN").and_then(|_| link.run(insert));
    if done.is_err() || roll_back {
        return Outcome::Refused;
    }
    link.run("COMMIT").map_or_else(|failed| failed.at_commit(), |_| Outcome::Committed)
}
