//! Who waits for blocks of rows and for the present, as `node/instance/src/volume/reads.rs`.

use node_core::cache::FetchId;

/// What a block is read for.
pub(super) struct Reader {
    pub(super) fetch: FetchId,
    /// Sessions that wait for it.
    pub(super) waiting: Vec<usize>,
}

/// Who asks for the present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    Session(usize),
    Probe,
}
