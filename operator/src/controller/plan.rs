//! What to do next, as data. No client and no clock: equal inputs give equal plans.
//!
//! Invariants:
//! - The cluster endpoint moves to a writer only if its epoch is newer than the published one, or if it is the
//!   same writer at another address; it is never emptied. So each failover is one write of one EndpointSlice.
//! - Right after the loss of a writer no other EndpointSlice is written: kube-proxy would hold the next change,
//!   which is the new writer's, back for a second.
//! - Whatever publishes a writer stands before everything else in the plan, the old writer's label first.

mod endpoints;
mod failover;

use crds::conditions::EventReason;
use crds::status::RequestedFailover;
use crds::validate::ValidatedCluster;
use kube::runtime::events::EventType;

use super::build::{self, Object};
use super::observe::Observed;
use super::status::Note;
use crate::children::{ChildRef, Kind};

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Sets or removes the label that tells a pod's role.
    Label { pod: String, role: Option<&'static str> },
    /// Writes the cluster endpoint's EndpointSlice: from now on new connections reach this writer.
    Publish { slice: Object, writer: String, epoch: u64 },
    /// Server-side apply.
    Apply(Object),
    /// Creates the object if there is none of its name.
    Create(Object),
    /// Deletes what is no longer asked for.
    Delete(ChildRef),
    /// Asks the writer to hand over.
    Resign { writer: std::net::IpAddr, to: Option<String> },
    /// Removes the annotation that asks for a failover.
    ClearFailoverRequest,
    /// Says so.
    Tell(Note),
}

/// Everything to do, in order, and what becomes of a failover that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) requested_failover: Option<RequestedFailover>,
}

/// Decides.
pub(crate) fn plan(want: &ValidatedCluster, seen: &Observed, objects: Vec<Object>) -> Plan {
    let mut steps = endpoints::steps(want, seen);
    let (failover, requested_failover) = failover::steps(want, seen);
    steps.extend(failover);
    if let Some(password) = &seen.new_password {
        steps.push(Step::Create(build::secret(want, &seen.owner, password)));
        steps.push(Step::Tell(Note {
            kind: EventType::Normal,
            reason: EventReason::CredentialsCreated,
            text: format!("made the Secret {} with a random password", want.secret_name),
        }));
    }
    let orphans = orphans(seen, &objects, want);
    steps.extend(objects.into_iter().filter(|object| is_stale(seen, object)).map(Step::Apply));
    steps.extend(orphans.into_iter().map(Step::Delete));
    Plan { steps, requested_failover }
}

/// Whether an object must be applied: it is not there, was changed by somebody else, or something else is
/// asked for than was applied last.
fn is_stale(seen: &Observed, object: &Object) -> bool {
    let there = seen.children.get(&object.child).map(|child| &child.version);
    match seen.applied.get(&object.child) {
        Some((hash, version)) => *hash != object.hash() || there != Some(version),
        None => true,
    }
}

/// Owned objects that nothing asks for: the endpoints of instances that were scaled away.
fn orphans(seen: &Observed, objects: &[Object], want: &ValidatedCluster) -> Vec<ChildRef> {
    let slices = endpoints::slices(want);
    let wanted = |child: &ChildRef| match child.kind {
        Kind::Secret => true,
        Kind::EndpointSlice => slices.contains(&child.name),
        Kind::StatefulSet | Kind::Service | Kind::PodDisruptionBudget => {
            objects.iter().any(|object| object.child == *child)
        }
    };
    seen.children.keys().filter(|child| !wanted(child)).cloned().collect()
}

#[cfg(test)]
pub(crate) mod tests;
