//! What a storage node tells people and metrics about itself.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use node_core::ids::{Epoch, Seat, Seq, StorageId, Vector};
use node_core::wire::{InstanceInfo, Membership, SeatInfo};

use crate::scrub::ScrubStatus;

/// A storage node's standing at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageStatus {
    /// Which node.
    pub id: StorageId,
    /// Its zone.
    pub zone: String,
    /// Where it accepts connections.
    pub listen: Option<SocketAddr>,
    /// Its standing in the volume; it votes only as a member.
    pub membership: Membership,
    /// How many disks had its number before: grows with each readmission.
    pub generation: u64,
    /// Why it does not vote at present, for a person.
    pub refusing: Option<String>,
    /// How far each stream is settled.
    pub settled: Vec<(Seat, Epoch, Seq)>,
    /// Everything up to here was decided and ordered.
    pub ordered: Vector,
    /// Everything up to here is in the rows.
    pub applied: Vector,
    /// The oldest snapshot anybody reads.
    pub low: Vector,
    /// Who holds which seat.
    pub seats: Vec<SeatInfo>,
    /// Instances connected here, and those that left a moment ago.
    pub instances: Vec<InstanceInfo>,
    /// Undecided transactions with a record here.
    pub undecided: usize,
    /// Requests waiting for the storage thread.
    pub requests_queued: usize,
    /// Decided items waiting for the rows.
    pub rows_queued: usize,
    /// Reads waiting for the rows or for a reader.
    pub reads_queued: usize,
    /// True while the rows cannot be written for want of room; they are read as they are.
    pub rows_waiting: bool,
    /// Bytes of the accept log on disk.
    pub log_bytes: u64,
    /// Other storage nodes this one is connected to.
    pub peers_connected: usize,
    /// The search for damage.
    pub scrub: ScrubStatus,
    /// Counted since the start.
    pub counters: CountersSnapshot,
}

impl StorageStatus {
    /// True if the node votes and is up to its task.
    pub fn ready(&self) -> bool {
        matches!(self.membership, Membership::Member(_)) && self.refusing.is_none()
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counted since the start.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $($(#[$doc])* pub(crate) $name: AtomicU64,)*
        }
        /// Counted since the start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct CountersSnapshot {
            $($(#[$doc])* pub $name: u64,)*
        }
        impl Counters {
            pub(crate) fn snapshot(&self) -> CountersSnapshot {
                CountersSnapshot { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}
counters! {
    /// Requests of the protocol handled.
    requests,
    /// Votes given.
    votes,
    /// Of which accepts.
    accepts,
    /// Batches made durable: each one write to the log.
    log_writes,
    /// Microseconds spent in them.
    log_write_micros,
    /// Bytes written to the log.
    log_bytes,
    /// Decided transactions applied to the rows.
    rows_txns,
    /// Batches of them.
    rows_batches,
    /// Findings after which the rows have to be rebuilt: the node stops at the first.
    rows_damaged,
    /// Times the rows were opened again after a write had failed for want of room.
    rows_reopened,
    /// Blocks read.
    blocks,
    /// Decided items handed to subscribers' feed.
    feed_items,
    /// Transactions fetched from peers.
    fetched,
    /// Times this disk was readmitted.
    readmissions,
    /// Bytes of rows copied from other nodes for that.
    copied_bytes,
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
