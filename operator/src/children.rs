//! What the API server holds of every cluster's children, kept in memory by watches, so that a pass over a
//! cluster reads nothing from the API server.
//!
//! Invariant: a table is what some moment's list and the changes since gave; it may be old, never invented.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;

use crds::cluster::AuroraCluster;
use crds::names::{APPLICATION, LABEL_INSTANCE, LABEL_MANAGED_BY, LABEL_NAME, OPERATOR};
use futures::StreamExt;
use futures::channel::mpsc;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tracing::warn;

/// The main resource, as it is watched: one that cannot be read does not stall the others.
pub(crate) type GuardedCluster = DeserializeGuard<AuroraCluster>;

/// Which cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClusterRef {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// Tells the controller to look at a cluster.
#[derive(Clone)]
pub(crate) struct Wake(mpsc::UnboundedSender<ObjectRef<GuardedCluster>>);

impl Wake {
    /// A bell, and the stream of who rang. Rings for a cluster that already waits are merged by the scheduler
    /// behind it, so the queue stays short.
    pub(crate) fn new() -> (Wake, mpsc::UnboundedReceiver<ObjectRef<GuardedCluster>>) {
        let (sender, receiver) = mpsc::unbounded();
        (Wake(sender), receiver)
    }

    pub(crate) fn wake(&self, cluster: &ClusterRef) {
        // It fails only when the controller has ended: then nothing needs waking.
        let _ = self.0.unbounded_send(ObjectRef::new(&cluster.name).within(&cluster.namespace));
    }
}

/// Kinds of objects that a cluster owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    StatefulSet,
    Service,
    EndpointSlice,
    PodDisruptionBudget,
    Secret,
}

impl Kind {
    /// As the API has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::StatefulSet => "StatefulSet",
            Kind::Service => "Service",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::PodDisruptionBudget => "PodDisruptionBudget",
            Kind::Secret => "Secret",
        }
    }
}

/// One object within its cluster's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ChildRef {
    pub(crate) kind: Kind,
    pub(crate) name: String,
}

/// What is known of an owned object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChildSeen {
    pub(crate) version: Version,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    /// Uid of the cluster that owns it.
    pub(crate) owner: Option<String>,
}

/// Uid of the `AuroraCluster` of that name which controls the object. One that was deleted and applied again has
/// another uid, and for a moment there still are objects of the former, which Kubernetes is about to delete.
pub(crate) fn owner_uid(object: &impl ResourceExt, cluster: &str) -> Option<String> {
    let controls = |owner: &&OwnerReference| {
        owner.controller == Some(true) && owner.kind == crds::cluster::KIND && owner.name == cluster
    };
    object.owner_references().iter().find(controls).map(|owner| owner.uid.clone())
}

/// A state of an object: status changes of a kind with generations are not one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Version {
    uid: String,
    state: String,
}

impl Version {
    pub(crate) fn of(object: &impl ResourceExt) -> Version {
        let metadata = object.meta();
        let state = match metadata.generation {
            Some(generation) => format!("generation {generation}"),
            None => metadata.resource_version.clone().unwrap_or_default(),
        };
        Version { uid: metadata.uid.clone().unwrap_or_default(), state }
    }
}

/// What is known of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodSeen {
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) address: Option<IpAddr>,
    pub(crate) node: Option<String>,
    pub(crate) zone: Option<String>,
    pub(crate) deleting: bool,
    pub(crate) ready: bool,
    /// Neither finished nor failed.
    pub(crate) alive: bool,
    pub(crate) labels: BTreeMap<String, String>,
}

impl PodSeen {
    fn of(pod: &Pod) -> PodSeen {
        let status = pod.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let ready = conditions.iter().any(|c| {
            // Foreign types: what is absent is not True.
            serde_json::to_value(c).is_ok_and(|c| c["type"] == "Ready" && c["status"] == "True")
        });
        let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or_default();
        PodSeen {
            uid: pod.uid().unwrap_or_default(),
            name: pod.name_any(),
            address: status.and_then(|status| status.pod_ip.as_deref()).and_then(|ip| ip.parse().ok()),
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            zone: pod.labels().get("topology.kubernetes.io/zone").cloned(),
            deleting: pod.metadata.deletion_timestamp.is_some(),
            ready,
            alive: !matches!(phase, "Succeeded" | "Failed"),
            labels: pod.labels().clone(),
        }
    }
}

/// One kind's objects, by cluster and name.
#[derive(Debug)]
pub(crate) struct Table<V> {
    rows: Mutex<HashMap<ClusterRef, BTreeMap<ChildRef, V>>>,
}

impl<V> Default for Table<V> {
    fn default() -> Table<V> {
        Table { rows: Mutex::default() }
    }
}

impl<V: Clone + PartialEq> Table<V> {
    /// A cluster's rows.
    pub(crate) fn of(&self, cluster: &ClusterRef) -> BTreeMap<ChildRef, V> {
        self.rows.lock().get(cluster).cloned().unwrap_or_default()
    }

    /// Sets a row; true if it changed.
    fn set(&self, cluster: &ClusterRef, child: ChildRef, value: V) -> bool {
        let mut rows = self.rows.lock();
        let old = rows.entry(cluster.clone()).or_default().insert(child, value.clone());
        old != Some(value)
    }

    fn remove(&self, cluster: &ClusterRef, child: &ChildRef) -> Option<V> {
        let mut rows = self.rows.lock();
        let of_cluster = rows.get_mut(cluster)?;
        let old = of_cluster.remove(child);
        if of_cluster.is_empty() {
            rows.remove(cluster);
        }
        old
    }

    fn keys(&self, kind: Kind) -> Vec<(ClusterRef, ChildRef)> {
        let rows = self.rows.lock();
        let pairs = rows.iter().flat_map(|(cluster, rows)| rows.keys().map(move |child| (cluster, child)));
        pairs.filter(|(_, child)| child.kind == kind).map(|(a, b)| (a.clone(), b.clone())).collect()
    }
}

/// The objects that clusters own.
pub(crate) type Children = Table<ChildSeen>;
/// The pods of clusters; their [`ChildRef`]s carry the kind of their owner.
pub(crate) type Pods = Table<PodSeen>;

/// How a watch turns objects into rows.
pub(crate) struct Follow<K, V> {
    pub(crate) api: Api<K>,
    pub(crate) kind: Kind,
    /// Only objects with this label are watched.
    pub(crate) selector: String,
    pub(crate) table: Arc<Table<V>>,
    pub(crate) wake: Wake,
    /// Becomes true once the first list is complete.
    pub(crate) listed: tokio::sync::watch::Sender<bool>,
}

impl<K, V> Follow<K, V>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    V: Clone + PartialEq,
{
    /// Keeps the table up to date for as long as it is polled. `convert` makes a row of an object and `changed`
    /// hears of every row that changed; `None`: it is gone.
    pub(crate) async fn run(
        self,
        convert: impl Fn(&K) -> V,
        changed: impl Fn(&ClusterRef, Option<&V>, Option<&V>),
    ) {
        // A short watch: a connection that died without a sound hides changes for no longer than this.
        let config = watcher::Config::default().labels(&self.selector).timeout(60);
        let mut events = watcher(self.api.clone(), config).default_backoff().boxed();
        let mut listed: HashSet<(ClusterRef, ChildRef)> = HashSet::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(object)) => {
                    if let Some((cluster, child)) = self.key(&object) {
                        listed.insert((cluster.clone(), child.clone()));
                        self.put(cluster, child, convert(&object), &changed);
                    }
                }
                Ok(watcher::Event::Apply(object)) => {
                    if let Some((cluster, child)) = self.key(&object) {
                        self.put(cluster, child, convert(&object), &changed);
                    }
                }
                Ok(watcher::Event::InitDone) => {
                    let all = self.table.keys(self.kind);
                    for (cluster, child) in all.into_iter().filter(|key| !listed.contains(key)) {
                        self.drop_row(&cluster, &child, &changed);
                    }
                    self.listed.send_replace(true);
                }
                Ok(watcher::Event::Delete(object)) => {
                    if let Some((cluster, child)) = self.key(&object) {
                        self.drop_row(&cluster, &child, &changed);
                    }
                }
                Err(error) => warn!(kind = ?self.kind, %error, "a watch broke; it is opened again"),
            }
        }
    }

    fn key(&self, object: &K) -> Option<(ClusterRef, ChildRef)> {
        let cluster =
            ClusterRef { namespace: object.namespace()?, name: object.labels().get(LABEL_INSTANCE)?.clone() };
        Some((cluster, ChildRef { kind: self.kind, name: object.name_any() }))
    }

    fn put(
        &self,
        cluster: ClusterRef,
        child: ChildRef,
        value: V,
        changed: &impl Fn(&ClusterRef, Option<&V>, Option<&V>),
    ) {
        let old = self.table.of(&cluster).remove(&child);
        if self.table.set(&cluster, child, value.clone()) {
            changed(&cluster, old.as_ref(), Some(&value));
            self.wake.wake(&cluster);
        }
    }

    fn drop_row(
        &self,
        cluster: &ClusterRef,
        child: &ChildRef,
        changed: &impl Fn(&ClusterRef, Option<&V>, Option<&V>),
    ) {
        if let Some(old) = self.table.remove(cluster, child) {
            changed(cluster, Some(&old), None);
            self.wake.wake(cluster);
        }
    }
}

/// Selects the objects that the operator made.
pub(crate) fn owned_selector() -> String {
    format!("{LABEL_NAME}={APPLICATION},{LABEL_MANAGED_BY}={OPERATOR}")
}

/// Selects the EndpointSlices that the operator wrote. Those that Kubernetes writes for its Services carry the
/// Services' labels, so these do not tell them apart.
pub(crate) fn slice_selector() -> String {
    format!("{LABEL_SLICE_MANAGER}={OPERATOR}")
}

/// Label by which EndpointSlices tell who writes them (Kubernetes' own).
pub(crate) const LABEL_SLICE_MANAGER: &str = "endpointslice.kubernetes.io/managed-by";

/// Selects the pods of all clusters.
pub(crate) fn pod_selector() -> String {
    format!("{LABEL_NAME}={APPLICATION},{LABEL_INSTANCE}")
}

/// A row of an owned object, of which only the metadata is watched.
pub(crate) fn child_row<K>(object: &PartialObjectMeta<K>) -> ChildSeen
where
    PartialObjectMeta<K>: ResourceExt,
{
    ChildSeen {
        version: Version::of(object),
        labels: object.labels().clone(),
        annotations: object.annotations().clone(),
        owner: object.labels().get(LABEL_INSTANCE).and_then(|cluster| owner_uid(object, cluster)),
    }
}

/// A row of a pod.
pub(crate) fn pod_row(pod: &Pod) -> PodSeen {
    PodSeen::of(pod)
}
