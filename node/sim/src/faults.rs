//! What goes wrong, and what is planted.

/// What goes wrong. Per cent are of the occasions; *per mille* are chances in a look every 20 ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Per cent: a message is lost.
    pub lost: u64,
    /// Per cent: a message is delivered twice.
    pub twice: u64,
    /// Per cent: a message is late, and overtaken by others.
    pub late: u64,
    /// Per mille: a storage node crashes, or loses power.
    pub node_crash: u64,
    /// Per mille: all storage nodes lose power at once.
    pub blackout: u64,
    /// Per mille: an instance crashes and comes back as a new run.
    pub instance_crash: u64,
    /// Per mille: an instance leaves in order, and comes back later.
    pub leave: u64,
    /// Per mille: a link, or all links of somebody, are cut in one direction or both.
    pub cut: u64,
    /// Per mille: a connection breaks.
    pub reset: u64,
    /// Per mille: a disk is slow for a while.
    pub slow_disk: u64,
    /// Per mille: a disk is full for a while.
    pub full_disk: u64,
    /// Per mille: a bit of a log flips; it is found at the next start.
    pub rot: u64,
    /// Per mille: a disk is lost for good.
    pub lost_disk: u64,
    /// Per mille: an instance's clock jumps forwards.
    pub jump: u64,
    /// Per mille: an instance is not scheduled for a while.
    pub pause: u64,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Faults = Faults {
        lost: 0,
        twice: 0,
        late: 0,
        node_crash: 0,
        blackout: 0,
        instance_crash: 0,
        leave: 0,
        cut: 0,
        reset: 0,
        slow_disk: 0,
        full_disk: 0,
        rot: 0,
        lost_disk: 0,
        jump: 0,
        pause: 0,
    };
}

/// A mistake made on purpose, so that the simulation is known to find it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plant {
    /// None: the code as it ships.
    #[default]
    Nothing,
    /// In the shell: replies leave before what they reveal is durable.
    VoteBeforeSync,
    /// In the shell: a read of the present asks one storage node too few.
    IndexTooFew,
    /// In the shell: a node whose disk is empty comes back as if it had promised nothing.
    PromiseLostWithDisk,
    /// In node-core: a recoverer never finds that it must commit.
    SkipMustCommit,
    /// In node-core: a proposal whose bases a node lacks is refused there, and they are not learnt.
    BaseNotLearnt,
    /// In node-core: a decision is forgotten once it was applied.
    DecisionForgotten,
}
