//! What clients did and saw, and whether a database that keeps its promises can have let them see it. Pure: no
//! connection, no clock. A history is judged by three checks:
//!
//! - [`lists`]: transactions that append unique elements to lists and read lists whole, as Elle does; a list shows the
//!   order in which it was written, so the order of transactions can be told from what was read.
//! - [`bank`]: transfers that keep a total, which every snapshot must show.
//! - [`ledger`]: every acknowledged row once, no refused row, at the end.
//!
//! Each gives [`Anomaly`]s; none means that the history is possible.

pub mod bank;
mod graph;
pub mod ledger;
pub mod lists;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

/// Time since the run began, in microseconds. All clients of a run share one clock.
pub type Micros = u64;

/// How a transaction ended, as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Acknowledged: it must be there.
    Committed,
    /// Refused or rolled back: nothing of it may ever be seen.
    Refused,
    /// No answer to the COMMIT: it is there as a whole, or not at all.
    Unknown,
}

/// Something that the database must not have done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// Its name.
    pub kind: Kind,
    /// What happened, with the transactions involved, one a line.
    pub story: String,
}

/// The names of anomalies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An acknowledged write is gone.
    Lost,
    /// A refused write is there.
    RefusedPresent,
    /// Something that nobody wrote.
    Garbage,
    /// Written once and there twice.
    Duplicate,
    /// Two reads, or a read and the end, contradict each other about the order of a list.
    Order,
    /// A read saw a refused write (G1a).
    DirtyRead,
    /// A read saw a part of what a transaction did to one list (G1b).
    IntermediateRead,
    /// A transaction did not see its own write, or not as it was.
    OwnWrite,
    /// Writes of transactions are interleaved (G0).
    DirtyWrite,
    /// Each of several transactions depends on the next (G1c).
    CircularFlow,
    /// A read saw one write of a transaction and missed another (fractured read).
    FracturedRead,
    /// A snapshot is not one of a single moment (G-single).
    ReadSkew,
    /// Two transactions built on one version.
    LostUpdate,
    /// Snapshots contradict each other about the order of two writes, where they may not.
    LongFork,
    /// A locking read was no longer true when its transaction committed.
    LockingRead,
    /// A read missed what had been acknowledged before it began, or what its connection had seen.
    StaleRead,
    /// The total of a bank's accounts is wrong.
    Total,
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Kind::Lost => "lost write",
            Kind::RefusedPresent => "refused write present",
            Kind::Garbage => "garbage",
            Kind::Duplicate => "duplicate",
            Kind::Order => "contradictory order",
            Kind::DirtyRead => "dirty read (G1a)",
            Kind::IntermediateRead => "intermediate read (G1b)",
            Kind::OwnWrite => "own write not seen",
            Kind::DirtyWrite => "dirty write (G0)",
            Kind::CircularFlow => "circular information flow (G1c)",
            Kind::FracturedRead => "fractured read",
            Kind::ReadSkew => "read skew (G-single)",
            Kind::LostUpdate => "lost update",
            Kind::LongFork => "long fork",
            Kind::LockingRead => "locking read overtaken",
            Kind::StaleRead => "stale read",
            Kind::Total => "wrong total",
        })
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.kind, self.story)
    }
}
