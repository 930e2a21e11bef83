//! Who waits for what is read through the volume; what is asked of whom is decided by `node_core::{blocks, present}`.

use std::time::Instant;

use node_core::coordinator::Millis;
use node_core::ids::Vector;
use node_core::wire::{Block, ReadBlock};

use super::{Answer, READ_TIMEOUT};
use crate::volume_api::{BlockRequest, VolumeError};

/// Who waits for a block.
pub(super) type Reader = Answer<Result<Block, VolumeError>>;

/// Who asks for the present.
pub(super) enum Asker {
    Session(Answer<Result<Vector, VolumeError>>),
    /// Measures this instance's lag, from when it was asked.
    Probe(Instant),
}

/// How long a read waits for rows or for the present.
pub(super) fn timeout_ms() -> Millis {
    u64::try_from(READ_TIMEOUT.as_millis()).unwrap_or(u64::MAX)
}

/// As storage nodes are asked; the id is given later.
pub(super) fn question(request: BlockRequest) -> ReadBlock {
    let BlockRequest { start, end, reverse, bytes_max, from, at_least } = request;
    ReadBlock { id: 0, start, end, reverse, bytes_max, from, newest: false, at_least }
}
