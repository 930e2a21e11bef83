//! Transfers between accounts: the total never changes, in no snapshot and under no lock, and the balances at the end
//! are those that the transfers' own rows explain.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::ledger::{self, Entry};
use super::{Anomaly, Kind, Micros};

/// A transfer, which also inserts a row of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Transfer {
    /// Its row, and how it ended.
    pub entry: Entry,
}

/// All balances, as somebody read them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Total {
    /// Who read.
    pub client: u32,
    /// On which instance.
    pub place: String,
    /// How: in one statement, in a transaction, with locks.
    pub how: String,
    /// When it began.
    pub began: Micros,
    /// When it ended.
    pub ended: Micros,
    /// By account.
    pub balances: Vec<i64>,
}

/// The bank at the end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct End {
    /// By account.
    pub balances: Vec<i64>,
    /// Rows of transfers: number, from, to, amount.
    pub transfers: Vec<(u64, usize, usize, i64)>,
}

/// Checks totals read on the way, and the end.
pub fn check(initial: i64, transfers: &[Transfer], totals: &[Total], end: &End) -> Vec<Anomaly> {
    let accounts = end.balances.len();
    let wanted = initial * i64::try_from(accounts).expect("few accounts");
    let mut anomalies = Vec::new();
    for total in totals {
        let Total { client, place, how, began, ended, balances } = total;
        let sum: i64 = balances.iter().sum();
        if balances.len() != accounts || sum != wanted || balances.iter().any(|balance| *balance < 0) {
            let story = format!(
                "client {client} read {balances:?} ({how}) on {place} from {began} to {ended} µs: {sum}, not {wanted}"
            );
            anomalies.push(Anomaly { kind: Kind::Total, story });
        }
    }
    let entries: Vec<Entry> = transfers.iter().map(|transfer| transfer.entry.clone()).collect();
    let rows: Vec<u64> = end.transfers.iter().map(|(id, ..)| *id).collect();
    anomalies.extend(ledger::check(&entries, &rows));
    let mut explained: HashMap<usize, i64> = (0..accounts).map(|account| (account, initial)).collect();
    for (_, from, to, amount) in &end.transfers {
        *explained.entry(*from).or_default() -= amount;
        *explained.entry(*to).or_default() += amount;
    }
    for (account, balance) in end.balances.iter().enumerate() {
        let wanted = explained[&account];
        if *balance != wanted {
            let story = format!("account {account} has {balance} at the end, its transfers make {wanted}");
            anomalies.push(Anomaly { kind: Kind::Total, story });
        }
    }
    anomalies
}
