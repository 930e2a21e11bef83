//! What there is: the cluster's objects and pods, and what its nodes say of themselves. The only IO is the
//! question whether the Secret exists, asked once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crds::cluster::{AuroraCluster, Mode};
use crds::names::{ANNOTATION_FAILOVER_TO, Component, LABEL_COMPONENT};
use crds::node_api::{InstanceState, InstanceStatus, NodeStatus, Role, StorageStatus};
use crds::status::AuroraClusterStatus;
use crds::validate::ValidatedCluster;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Resource};

use super::build::Owner;
use crate::children::{ChildRef, ChildSeen, ClusterRef, PodSeen, owner_uid};
use crate::context::{Applied, Context};
use crate::nodes::NodeSeen;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ObserveError {
    #[error("failed to look for the Secret {name}")]
    Secret {
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    // This error type is no `std::error::Error` here, so it cannot be a source.
    #[error("failed to get random bytes for a password: {0}")]
    Random(getrandom::Error),
    #[error("the resource has no uid")]
    NoUid,
}

/// Everything that a plan is made from.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    pub(crate) owner: Owner,
    pub(crate) now: Timestamp,
    pub(crate) generation: i64,
    pub(crate) status: AuroraClusterStatus,
    /// The annotation that asks for a failover.
    pub(crate) failover_to: Option<String>,
    /// Instances that there are or should be, by ordinal.
    pub(crate) instances: Vec<InstanceSeen>,
    /// Storage nodes that there are or should be, by number.
    pub(crate) storage: Vec<StorageSeen>,
    pub(crate) children: BTreeMap<ChildRef, ChildSeen>,
    pub(crate) applied: Applied,
    /// A random password, if there is no Secret.
    pub(crate) new_password: Option<String>,
    pub(crate) secret_name: String,
    /// When the Secret was last looked for.
    pub(crate) secret_seen: Instant,
    /// Whether nothing is left of a former cluster of the same name, and every node has been asked at least once or
    /// this is not the first pass.
    pub(crate) settled: bool,
}

/// An instance.
#[derive(Clone, Debug, Default)]
pub(crate) struct InstanceSeen {
    pub(crate) name: String,
    pub(crate) ordinal: u16,
    pub(crate) pod: Option<PodSeen>,
    pub(crate) node: NodeSeen,
}

/// A storage node.
#[derive(Clone, Debug, Default)]
pub(crate) struct StorageSeen {
    pub(crate) name: String,
    pub(crate) pod: Option<PodSeen>,
    pub(crate) node: NodeSeen,
}

impl InstanceSeen {
    /// What it last said, if it is who answers at its address.
    pub(crate) fn said(&self) -> Option<&InstanceStatus> {
        match &self.node.status {
            Some(NodeStatus::Instance(status)) if status.name == self.name => Some(status),
            Some(NodeStatus::Instance(_) | NodeStatus::Storage(_)) | None => None,
        }
    }
    /// What it says now.
    pub(crate) fn says(&self) -> Option<&InstanceStatus> {
        self.said().filter(|_| self.node.reachable)
    }
    /// Whether it accepts writes.
    pub(crate) fn writes(&self) -> bool {
        self.pod.as_ref().is_some_and(|pod| pod.alive && pod.address.is_some())
            && self.says().is_some_and(|s| s.role == Role::Writer && s.state == InstanceState::Available)
    }
    /// Whether it takes statements and Kubernetes leads clients to it.
    pub(crate) fn ready(&self) -> bool {
        self.pod.as_ref().is_some_and(|pod| pod.ready && !pod.deleting)
            && self.says().is_some_and(|status| status.ready)
    }
}

impl StorageSeen {
    /// What it says now.
    pub(crate) fn says(&self) -> Option<&StorageStatus> {
        match &self.node.status {
            Some(NodeStatus::Storage(status)) if self.node.reachable && status.name == self.name => {
                Some(status)
            }
            Some(NodeStatus::Instance(_) | NodeStatus::Storage(_)) | None => None,
        }
    }
    /// Whether its vote counts.
    pub(crate) fn votes(&self) -> bool {
        self.says().is_some_and(|status| status.voting)
    }
}

impl Observed {
    /// The writer with the newest epoch, of those that can be reached. Single-master mode only.
    pub(crate) fn writer(&self, want: &ValidatedCluster) -> Option<(&InstanceSeen, u64)> {
        if want.mode == Mode::MultiMaster {
            return None;
        }
        let writers = self.instances.iter().filter(|instance| instance.writes());
        writers.filter_map(|writer| Some((writer, writer.says()?.epoch))).max_by_key(|(_, epoch)| *epoch)
    }

    /// Whether any instance can be reached: if none can, it may be this operator that is cut off.
    pub(crate) fn reaches_any_instance(&self) -> bool {
        self.instances.iter().any(|instance| instance.says().is_some())
    }
}

/// How long a Secret that was there is believed to be there.
const SECRET_MEMORY: Duration = Duration::from_secs(60);

/// Collects what there is.
///
/// # Errors
///
/// If the API server does not say whether the Secret exists.
pub(crate) async fn observe(
    context: &Context,
    at: &ClusterRef,
    cluster: &AuroraCluster,
    want: &ValidatedCluster,
) -> Result<Observed, ObserveError> {
    let uid = cluster.meta().uid.clone().ok_or(ObserveError::NoUid)?;
    let memory = context.memory(at, &uid);
    let remembered =
        memory.secret.filter(|(name, when)| *name == want.secret_name && when.elapsed() < SECRET_MEMORY);
    let (secret_seen, secret) = match remembered {
        Some((_, when)) => (when, SecretSeen::There),
        None => (Instant::now(), look_for_secret(context, at, &want.secret_name, &uid).await?),
    };
    let new_password = match secret {
        SecretSeen::Absent => Some(random_password().map_err(ObserveError::Random)?),
        SecretSeen::There | SecretSeen::OfFormerCluster => None,
    };
    let children = context.children.of(at);
    let is_former = |child: &ChildSeen| child.owner.as_ref().is_some_and(|owner| *owner != uid);
    let former = secret == SecretSeen::OfFormerCluster || children.values().any(is_former);
    let asked_before = memory.passes > 0;
    let pods: BTreeMap<String, PodSeen> =
        context.pods.of(at).into_iter().map(|(child, pod)| (child.name, pod)).collect();
    let (instances, storage) = members(context, want, &pods);
    let asked = |pod: &PodSeen| pod.address.is_none() || context.nodes.get(&pod.uid).asked;
    Ok(Observed {
        owner: Owner { namespace: at.namespace.clone(), name: at.name.clone(), uid: uid.clone() },
        now: Timestamp::now(),
        generation: cluster.metadata.generation.unwrap_or_default(),
        status: cluster.status.clone().unwrap_or_default(),
        failover_to: cluster.meta().annotations.as_ref().and_then(|a| a.get(ANNOTATION_FAILOVER_TO).cloned()),
        instances,
        storage,
        children,
        applied: memory.applied,
        new_password,
        secret_name: want.secret_name.clone(),
        secret_seen,
        settled: !former && (asked_before || pods.values().filter(|pod| pod.alive).all(asked)),
    })
}

fn members(
    context: &Context,
    want: &ValidatedCluster,
    pods: &BTreeMap<String, PodSeen>,
) -> (Vec<InstanceSeen>, Vec<StorageSeen>) {
    let node_of = |pod: Option<&PodSeen>| pod.map(|pod| context.nodes.get(&pod.uid)).unwrap_or_default();
    // Pods above the number asked for are on their way out, and one of them may still be the writer.
    let is_instance = |pod: &&PodSeen| {
        pod.labels.get(LABEL_COMPONENT).is_some_and(|part| part == Component::Instance.label())
    };
    let existing = pods.values().filter(is_instance).filter_map(|pod| want.name.ordinal_of(&pod.name));
    let ordinals: std::collections::BTreeSet<u16> = (0..want.instances).chain(existing).collect();
    let instances = ordinals.into_iter().map(|ordinal| {
        let name = want.name.instance(ordinal);
        let pod = pods.get(&name);
        InstanceSeen { ordinal, pod: pod.cloned(), node: node_of(pod), name }
    });
    let storage = (0..want.storage_nodes).map(|id| {
        let name = want.name.storage_node(id);
        let pod = pods.get(&name);
        StorageSeen { pod: pod.cloned(), node: node_of(pod), name }
    });
    (instances.collect(), storage.collect())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SecretSeen {
    Absent,
    /// Made by us or by the user.
    There,
    /// About to be deleted with the cluster of the same name that it was made for.
    OfFormerCluster,
}

async fn look_for_secret(
    context: &Context,
    at: &ClusterRef,
    name: &str,
    uid: &str,
) -> Result<SecretSeen, ObserveError> {
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &at.namespace);
    let found = secrets.get_metadata_opt(name).await;
    let found =
        found.map_err(|source| ObserveError::Secret { name: name.to_owned(), source: Box::new(source) })?;
    Ok(match found.map(|secret| owner_uid(&secret, &at.name)) {
        None => SecretSeen::Absent,
        Some(Some(owner)) if owner != uid => SecretSeen::OfFormerCluster,
        Some(_) => SecretSeen::There,
    })
}

/// 24 characters of 64: 144 bits.
fn random_password() -> Result<String, getrandom::Error> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = [0_u8; 24];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 63)])).collect())
}
