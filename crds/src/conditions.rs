//! Types and reasons of conditions, phases and Events: no loose strings anywhere else.

use std::fmt;

/// Types of a cluster's conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionType {
    /// Everything asked for is there and serves.
    Ready,
    /// Some instance accepts writes.
    WriterAvailable,
    /// A write quorum of storage nodes votes.
    StorageQuorum,
    /// Something asked for is not there yet.
    Progressing,
    /// It works, but with less than was asked for, or what was asked for cannot be had.
    Degraded,
}

/// Why a condition is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Everything is as asked for.
    AsSpecified,
    /// Instances are still starting.
    InstancesStarting,
    /// Storage nodes are still starting.
    StorageStarting,
    /// An instance holds the volume.
    WriterServing,
    /// No instance accepts writes.
    NoWriter,
    /// Enough storage nodes vote.
    QuorumReached,
    /// Too few storage nodes vote.
    QuorumLost,
    /// Instances that were ready are not.
    InstancesUnavailable,
    /// Storage nodes that voted do not.
    StorageUnavailable,
    /// Nothing is missing.
    NothingMissing,
    /// The specification is not allowed.
    InvalidSpec,
}

/// The one word for the state of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It has never been ready.
    Creating,
    /// Everything is as asked for.
    Available,
    /// It takes writes, with less than was asked for.
    Degraded,
    /// There is a storage quorum and no writer: a failover.
    FailingOver,
    /// Too few storage nodes vote: writes wait.
    QuorumLost,
    /// The specification is not allowed.
    Invalid,
}

/// Reasons of the Events of an `AuroraCluster`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventReason {
    /// A failover was asked for by annotation.
    FailoverRequested,
    /// It cannot be done.
    FailoverRefused,
    /// The new writer did not appear in time; the cluster goes on as it was.
    FailoverTimedOut,
    /// The writer is gone or about to go.
    WriterLost,
    /// An instance holds the volume with a newer epoch.
    WriterPromoted,
    /// The cluster endpoint leads to the new writer.
    EndpointSwitched,
    /// The cluster is ready for the first time, or again.
    BecameReady,
    /// Too few storage nodes vote.
    StorageQuorumLost,
    /// Enough storage nodes vote again.
    StorageQuorumRestored,
    /// The specification is not allowed.
    InvalidSpec,
    /// A Secret with a random password was made.
    CredentialsCreated,
}

macro_rules! display_as_variant {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        }
    )*};
}
display_as_variant!(ConditionType, Reason, Phase, EventReason);
