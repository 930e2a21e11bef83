//! Messages between instances and storage nodes, bytes and values.
//!
//! A *frame* is what the carrier (a gRPC stream) moves: one version byte, then any number of messages.
//! Decoding never panics: bytes come from the network or from a disk. `codec` holds the rules for bytes,
//! `message` the messages.

mod codec;
mod message;
#[cfg(test)]
mod tests;

/// The macros that give structs and enums their byte form, for records kept elsewhere in the crate.
pub(crate) mod codec_macros {
    pub(crate) use super::codec::{wire_enum, wire_struct};
}

pub use codec::{DecodeError, Reader, Wire};
pub use message::*;
