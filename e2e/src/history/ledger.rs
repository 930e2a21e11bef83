//! Rows that are inserted once: at the end every acknowledged one is there once, no refused one is there at all, and
//! one whose insert got no answer may be either.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Anomaly, Kind, Micros, Outcome};

/// One insert.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The row's number, unique.
    pub id: u64,
    /// Who inserted it.
    pub client: u32,
    /// When it ended.
    pub ended: Micros,
    /// How it ended.
    pub outcome: Outcome,
}

/// Compares what was done with the rows at the end.
pub fn check(entries: &[Entry], rows: &[u64]) -> Vec<Anomaly> {
    let mut count: HashMap<u64, usize> = HashMap::new();
    for row in rows {
        *count.entry(*row).or_default() += 1;
    }
    let mut anomalies = Vec::new();
    for entry in entries {
        let Entry { id, client, ended, outcome } = entry;
        let times = count.remove(id).unwrap_or(0);
        let kind = match (outcome, times) {
            (Outcome::Committed, 0) => Kind::Lost,
            (Outcome::Refused, 1..) => Kind::RefusedPresent,
            (_, 2..) => Kind::Duplicate,
            (Outcome::Committed | Outcome::Unknown, 1) | (Outcome::Refused | Outcome::Unknown, 0) => continue,
        };
        let story = format!(
            "row {id} of client {client}, {outcome:?} at {ended} µs, is there {times} times at the end"
        );
        anomalies.push(Anomaly { kind, story });
    }
    for (id, _) in count {
        anomalies.push(Anomaly { kind: Kind::Garbage, story: format!("row {id} was never inserted") });
    }
    anomalies
}
