//! One connection to this node, as its threads see it.

use node_core::wire::{Peer, Reply};

use crate::carrier::Sender;

/// Somebody who is connected and has said who it is.
pub(crate) struct Connection {
    /// Unique in this run.
    pub(crate) id: u64,
    /// Who.
    pub(crate) peer: Peer,
    /// Sends replies.
    pub(crate) sender: Sender<Reply>,
}
