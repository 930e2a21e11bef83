//! Quorum arithmetic and nothing else.
//!
//! Three inequalities make the protocol safe and live (`docs/rfcs/0001-commit-protocol.md`, section 0):
//! two commits of one slot meet in a node (I1), at most one of two conflicting transactions can look
//! fast-committed in one view (I2), and what only unseen nodes accepted can never look fast-committed (I3).

/// Who may write to the volume; fixes how many fast votes commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// One writer at a time, fenced by epochs: a write quorum of fast votes commits.
    SingleMaster,
    /// Every instance writes: conflicting proposals compete, so a fast commit needs a larger quorum.
    MultiMaster,
}

/// The sizes of a volume's quorums, checked once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    nodes: usize,
    write: usize,
    fast: usize,
    mode: Mode,
}

/// A volume of this size is not possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a volume has 3 or 6 storage nodes, not {nodes}")]
pub struct QuorumError {
    /// The size asked for.
    pub nodes: usize,
}

impl Quorum {
    /// The quorums of a volume of `nodes` storage nodes.
    ///
    /// # Errors
    ///
    /// [`QuorumError`] unless there are 3 or 6.
    pub fn new(nodes: usize, mode: Mode) -> Result<Quorum, QuorumError> {
        let (write, fast_multi) = match nodes {
            3 => (2, 3),
            6 => (4, 5),
            _ => return Err(QuorumError { nodes }),
        };
        let fast = match mode {
            Mode::SingleMaster => write,
            Mode::MultiMaster => fast_multi,
        };
        assert!(2 * write > nodes, "I1: two write quorums meet");
        assert!(2 * fast_multi + write > 2 * nodes, "I2: one fast commit in a view");
        assert!(fast_multi + 2 * write > 2 * nodes, "I3: unseen nodes cannot fast-commit");
        Ok(Quorum { nodes, write, fast, mode })
    }
    /// N: storage nodes of the volume.
    pub fn nodes(self) -> usize {
        self.nodes
    }
    /// Q: accepts of one classic ballot that choose a value.
    pub fn write(self) -> usize {
        self.write
    }
    /// F: fast accepts that commit in one round trip.
    pub fn fast(self) -> usize {
        self.fast
    }
    /// R = N-Q+1: answers that meet every write quorum.
    pub fn read(self) -> usize {
        self.nodes - self.write + 1
    }
    /// X = 2N-Q-F+1: durable rejects after which nobody can commit any more (multi-master only).
    pub fn fast_abort(self) -> Option<usize> {
        match self.mode {
            Mode::MultiMaster => Some(2 * self.nodes + 1 - self.write - self.fast),
            Mode::SingleMaster => None,
        }
    }
    /// Whether a view of `promises` with `accepts` fast accepts forces COMMIT: the unseen nodes could
    /// have completed a fast commit.
    pub fn must_commit(self, promises: usize, accepts: usize) -> bool {
        accepts + (self.nodes - promises) >= self.fast
    }
    /// The volume's mode.
    pub fn mode(self) -> Mode {
        self.mode
    }
}
