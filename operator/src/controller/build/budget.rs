//! PodDisruptionBudgets: a drain takes no more than the quorum and the service bear.

use crds::names::Component;
use crds::validate::ValidatedCluster;
use serde_json::json;

use super::{Object, Owner, metadata, object};
use crate::children::Kind;

/// A write quorum of storage nodes must stay: 4 of 6, 2 of 3.
pub(super) fn storage(want: &ValidatedCluster, owner: &Owner) -> Object {
    budget(want, owner, Component::Storage, &want.name.storage(), storage_to_spare(want))
}

/// How many storage nodes may be away while writes go on.
pub(crate) fn storage_to_spare(want: &ValidatedCluster) -> u8 {
    want.storage_nodes - write_quorum(want)
}

/// How many storage nodes must vote: 4 of 6, 2 of 3.
pub(crate) fn write_quorum(want: &ValidatedCluster) -> u8 {
    want.storage_nodes / 2 + 1
}

/// One instance at a time: also the only one, so that a drain never hangs.
pub(super) fn instances(want: &ValidatedCluster, owner: &Owner) -> Object {
    budget(want, owner, Component::Instance, &want.name.instances(), 1)
}

fn budget(want: &ValidatedCluster, owner: &Owner, part: Component, name: &str, unavailable: u8) -> Object {
    let spec = json!({
        "spec": {
            "maxUnavailable": unavailable,
            "selector": { "matchLabels": want.name.selector(part) },
            // A pod that never becomes ready must not keep a node from being drained.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        }
    });
    object(Kind::PodDisruptionBudget, "policy/v1", metadata(owner, &want.name, name, &[]), spec)
}
