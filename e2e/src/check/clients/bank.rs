//! Clients that transfer money between accounts and look whether the total is right.

use std::time::Duration;

use super::super::connect::{Failed, Link, Way};
use super::super::random::Random;
use super::super::shared::Shared;
use crate::history::Outcome;
use crate::history::bank::{Total, Transfer};
use crate::history::ledger::Entry;

/// Accounts of the bank.
pub(crate) const ACCOUNTS: usize = 8;
/// What each has at first.
pub(crate) const INITIAL: i64 = 100;
const TRANSFERS_PER_CLIENT: u64 = 1_000_000_000;
const AMOUNT_MAX: u64 = 20;

/// What a client did and saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) transfers: Vec<Transfer>,
    pub(crate) totals: Vec<Total>,
}

/// Transfers and looks until the run is over; one that only reads looks only.
pub(crate) fn run(
    client: u32,
    mut way: Way<'_>,
    shared: &Shared,
    pace: Duration,
    names: &[String],
    only_reads: bool,
) -> Seen {
    let mut random = Random::new(shared.seed, client.into());
    let mut seen = Seen::default();
    let mut next = u64::from(client) * TRANSFERS_PER_CLIENT;
    while !shared.wait(pace) {
        if random.percent(1) {
            way.move_on();
        }
        let Some(link) = way.link() else { continue };
        if only_reads || random.percent(40) {
            let began = shared.now();
            let (how, read) = total(link, &mut random, only_reads);
            let outcome = if read.is_ok() { Outcome::Committed } else { Outcome::Refused };
            if let Ok(rows) = read {
                let balances = rows.into_iter().map(|(_, balance)| balance).collect();
                let (place, ended) = (names[link.place].clone(), shared.now());
                seen.totals.push(Total { client, place, how: how.into(), began, ended, balances });
            } else {
                link.roll_back();
            }
            shared.count(client, outcome);
            continue;
        }
        next += 1;
        let outcome = transfer(link, &mut random, next);
        if outcome == Outcome::Refused {
            link.roll_back();
        }
        shared.count(client, outcome);
        let entry = Entry { id: next, client, ended: shared.now(), outcome };
        seen.transfers.push(Transfer { entry });
    }
    seen
}

type Rows = Vec<(usize, i64)>;

/// Reads all balances in one of several ways.
fn total(link: &mut Link<'_>, random: &mut Random, only_reads: bool) -> (&'static str, Result<Rows, Failed>) {
    const ALL: &str = "SELECT id, balance FROM check_accounts ORDER BY id";
    let half = ACCOUNTS / 2;
    let halves = [
        format!("SELECT id, balance FROM check_accounts WHERE id < {half} ORDER BY id"),
        format!("SELECT id, balance FROM check_accounts WHERE id >= {half} ORDER BY id"),
    ];
    let twice = |link: &mut Link<'_>, lock: &str| -> Result<Rows, Failed> {
        link.run("BEGIN")?;
        let mut rows: Rows = link.query(&format!("{}{lock}", halves[0]))?;
        rows.extend(link.query::<(usize, i64)>(&format!("{}{lock}", halves[1]))?);
        link.run("COMMIT")?;
        Ok(rows)
    };
    match random.below(if only_reads { 2 } else { 4 }) {
        0 => ("one statement", link.query(ALL)),
        1 => ("two statements of one transaction", twice(link, "")),
        2 => ("FOR UPDATE in one statement", link.query(&format!("{ALL} FOR UPDATE"))),
        _ => ("FOR UPDATE in two statements of one transaction", twice(link, " FOR UPDATE")),
    }
}

/// Moves an amount from one account to another in one of several ways.
fn transfer(link: &mut Link<'_>, random: &mut Random, id: u64) -> Outcome {
    let from = random.index(ACCOUNTS);
    let to = (from + 1 + random.index(ACCOUNTS - 1)) % ACCOUNTS;
    let amount = i64::try_from(random.between(1, AMOUNT_MAX)).expect("small");
    let atomic = random.percent(30);
    let moved =
        link.set_atomic(atomic).and_then(|()| move_money(link, random, (from, to, amount, id), atomic));
    match moved {
        Ok(true) => link.run("COMMIT").map_or_else(|failed| failed.at_commit(), |_| Outcome::Committed),
        Ok(false) | Err(_) => Outcome::Refused,
    }
}

/// Everything but the COMMIT; false if there is not enough to move.
fn move_money(
    link: &mut Link<'_>,
    random: &mut Random,
    (from, to, amount, id): (usize, usize, i64, u64),
    atomic: bool,
) -> Result<bool, Failed> {
    link.run("BEGIN")?;
    if random.percent(50) {
        // With snapshot isolation what was read without a lock may be relied on as well.
        let lock = if atomic { "" } else { " FOR UPDATE" };
        let query = format!("SELECT id, balance FROM check_accounts WHERE id IN ({from}, {to}){lock}");
        let rows: Rows = link.query(&query)?;
        let of = |account| rows.iter().find(|(id, _)| *id == account).map_or(0, |(_, balance)| *balance);
        if of(from) < amount {
            return Ok(false);
        }
        let (less, more) = (of(from) - amount, of(to) + amount);
        link.run(&format!("UPDATE check_accounts SET balance = {less} WHERE id = {from}"))?;
        link.run(&format!("UPDATE check_accounts SET balance = {more} WHERE id = {to}"))?;
    } else {
        let enough = format!(
            "UPDATE check_accounts SET balance = balance - {amount} WHERE id = {from} AND balance >= {amount}"
        );
        if link.run(&enough)? == 0 {
            return Ok(false);
        }
        link.run(&format!("UPDATE check_accounts SET balance = balance + {amount} WHERE id = {to}"))?;
    }
    link.run(&format!("INSERT INTO check_transfers VALUES ({id}, {from}, {to}, {amount})"))?;
    // Some transactions are given up: nothing of them may stay.
    Ok(!random.percent(5))
}
