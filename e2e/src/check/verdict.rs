//! What a run comes to: histories put together, judged, and told.

use std::collections::BTreeMap;
use std::path::Path;

use super::clients::bank::{INITIAL, Seen};
use super::end::End;
use super::faults::FaultKind;
use super::shared::Shared;
use super::{CheckError, say};
use crate::history::ledger::{self, Entry};
use crate::history::lists::{self, History, Transaction};
use crate::history::{Anomaly, Kind, bank};

/// Anomalies that are told in full.
const TOLD_MAX: usize = 10;

/// What a client did and saw.
pub(crate) enum Work {
    Lists(Vec<Transaction>),
    Bank(Seen),
    Ledger(Vec<Entry>),
}

/// Judges what all clients did and saw. Also the lists' history, to be written down.
pub(crate) fn judge(
    work: Vec<Work>,
    places: Vec<String>,
    single_master: bool,
    end: &End,
) -> (History, Vec<Anomaly>) {
    let mut history =
        History { places, one_order: single_master, transactions: Vec::new(), ends: end.lists.clone() };
    let (mut transfers, mut totals, mut entries) = (Vec::new(), Vec::new(), Vec::new());
    for work in work {
        match work {
            Work::Lists(transactions) => history.transactions.extend(transactions),
            Work::Bank(seen) => {
                transfers.extend(seen.transfers);
                totals.extend(seen.totals);
            }
            Work::Ledger(more) => entries.extend(more),
        }
    }
    let mut anomalies = lists::check(&history);
    anomalies.extend(bank::check(INITIAL, &transfers, &totals, &end.bank()));
    anomalies.extend(ledger::check(&entries, &end.ledger));
    (history, anomalies)
}

/// Writes a history for `e2e-check history`.
pub(crate) fn write(history: &History, path: &Path) -> Result<(), CheckError> {
    let bytes = serde_json::to_vec(history).expect("a history of plain values serialises");
    std::fs::write(path, bytes).map_err(|source| CheckError::File { path: path.to_path_buf(), source })?;
    say(&format!("the lists' history is in {}", path.display()));
    Ok(())
}

/// Prints anomalies and the verdict; true if there is nothing to complain about.
pub(crate) fn print(
    shared: &Shared,
    faults: &BTreeMap<FaultKind, u64>,
    anomalies: &[Anomaly],
    clients: usize,
) -> bool {
    for anomaly in anomalies.iter().take(TOLD_MAX) {
        say(&format!("ANOMALY {anomaly}"));
    }
    if anomalies.len() > TOLD_MAX {
        say(&format!("and {} more", anomalies.len() - TOLD_MAX));
    }
    let surprises = shared.surprises();
    surprises.iter().take(TOLD_MAX).for_each(|surprise| say(&format!("ANOMALY {surprise}")));
    for (code, (count, texts)) in shared.other_errors() {
        say(&format!("other errors: {code}, {count} times: {}", texts.join(" | ")));
    }
    let stalls: Vec<String> = shared.stalls().iter().map(|stall| stall.as_millis().to_string()).collect();
    say(&format!("longest stall of each of {clients} clients, in ms: {}", stalls.join(" ")));
    let [committed, refused, unknown] = shared.counts();
    let kinds: Vec<String> = faults.iter().map(|(kind, count)| format!("{} {count}", kind.name())).collect();
    let kinds = if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") };
    let longest = shared.stalls().into_iter().max().unwrap_or_default().as_millis();
    let of = |kind| anomalies.iter().filter(|anomaly| anomaly.kind == kind).count();
    let (lost, present) = (of(Kind::Lost), of(Kind::RefusedPresent));
    let others = anomalies.len() - lost - present + surprises.len();
    say(&format!(
        "seed {}: {} transactions ({committed} committed, {refused} refused, {unknown} unknown), faults: {kinds}; \
         longest stall {longest} ms, anomalies {others}, lost {lost}, refused-but-present {present}",
        shared.seed,
        committed + refused + unknown,
    ));
    anomalies.is_empty() && surprises.is_empty()
}
