//! Transactions in words, for whoever must find out what happened.

use std::fmt::Write;

use super::super::graph::Why;
use super::{Action, History, Transaction};

/// Of a long list only its last elements are shown.
const SHOWN_ELEMENTS: usize = 6;

pub(super) fn of(history: &History, what: &str, concerned: &[usize]) -> String {
    let mut text = what.to_owned();
    for number in concerned {
        let line = transaction(history, *number, &history.transactions[*number]);
        write!(text, "\n    {line}").expect("writing to a string cannot fail");
    }
    text
}

pub(super) fn reason(why: Why) -> String {
    match why {
        Why::WriteWrite(list) => format!("wrote list {list} before"),
        Why::WriteRead(list) => format!("wrote what was read of list {list} by"),
        Why::ReadWrite(list) => format!("did not see in list {list} what was written by"),
        Why::Time => "had ended before the start of".to_owned(),
        Why::Session => "on the same connection before".to_owned(),
        Why::Own => "before".to_owned(),
        Why::Unchanged(list) => format!("wrote list {list}, unchanged in the"),
    }
}

fn transaction(history: &History, number: usize, transaction: &Transaction) -> String {
    let Transaction { client, connection, place, began, ended, outcome, atomic, fresh, operations } =
        transaction;
    let place = history.places.get(*place).map_or("?", String::as_str);
    let isolation = if *atomic { ", snapshot isolation" } else { "" };
    let stale = if *fresh { "" } else { ", may be stale" };
    let mut text = format!(
        "T{number} client {client} connection {connection} on {place}, {} to {} s, {outcome:?}{isolation}{stale}:",
        seconds(*began),
        seconds(*ended)
    );
    for operation in operations {
        let done = match &operation.action {
            Action::Append { list, element } => format!("append({list}, {element})"),
            Action::Read { list, elements, locking } => {
                let shown = &elements[elements.len().saturating_sub(SHOWN_ELEMENTS)..];
                let more = if shown.len() < elements.len() { "… " } else { "" };
                let shown: Vec<String> = shown.iter().map(u32::to_string).collect();
                let how = if *locking { "lock" } else { "read" };
                format!("{how}({list}) = {} [{more}{}]", elements.len(), shown.join(" "))
            }
        };
        write!(text, " {}+{} {done};", seconds(operation.began), operation.ended - operation.began)
            .expect("writing to a string cannot fail");
    }
    text
}

fn seconds(micros: super::Micros) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}
