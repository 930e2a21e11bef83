//! One connection to this node, as its threads see it.

use node_core::membership::Generations;
use node_core::wire::{Peer, Reply};
use parking_lot::Mutex;

use crate::carrier::Sender;

/// Somebody who is connected and has said who it is.
pub(crate) struct Connection {
    /// Unique in this run.
    pub(crate) id: u64,
    /// Who.
    pub(crate) peer: Peer,
    /// Sends replies.
    pub(crate) sender: Sender<Reply>,
    /// What it has been told of the disks behind the storage nodes' numbers.
    pub(crate) told: Mutex<Generations>,
}
