//! Names and labels of everything that belongs to a cluster.

use std::collections::BTreeMap;
use std::fmt;

use crate::rules::NAME_LENGTH_MAX;

/// Label: what the objects belong to (a well-known label of Kubernetes).
pub const LABEL_NAME: &str = "app.kubernetes.io/name";
/// Label: which cluster.
pub const LABEL_INSTANCE: &str = "app.kubernetes.io/instance";
/// Label: which part of it, `instance` or `storage`.
pub const LABEL_COMPONENT: &str = "app.kubernetes.io/component";
/// Label: who manages the object.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label of an instance's pod: `writer` or `reader`; absent while it is neither.
pub const LABEL_ROLE: &str = "borealis.dev/role";
/// Label of an EndpointSlice and annotation of a Service: epoch of the writer it was written for.
pub const LABEL_EPOCH: &str = "borealis.dev/epoch";
/// Annotation of an AuroraCluster: the instance that shall become the writer; empty: by promotion tier.
pub const ANNOTATION_FAILOVER_TO: &str = "borealis.dev/failover-to";
/// Value of [`LABEL_NAME`] and prefix of field managers.
pub const APPLICATION: &str = "borealis";
/// Value of [`LABEL_MANAGED_BY`].
pub const OPERATOR: &str = "borealis-operator";

/// The parts of a cluster that have pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// Database servers.
    Instance,
    /// Storage nodes.
    Storage,
}

impl Component {
    /// Value of [`LABEL_COMPONENT`].
    pub fn label(self) -> &'static str {
        match self {
            Component::Instance => "instance",
            Component::Storage => "storage",
        }
    }
}

/// A well-formed name of a cluster, from which every other name is made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName(String);

impl ClusterName {
    /// The name, if it is well-formed.
    pub fn new(name: &str) -> Option<ClusterName> {
        ClusterName::is_well_formed(name).then(|| ClusterName(name.to_owned()))
    }

    /// 1 to 40 lower-case letters, digits or `-`; a letter first, a letter or digit last.
    pub fn is_well_formed(name: &str) -> bool {
        (1..=NAME_LENGTH_MAX).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && !name.ends_with('-')
    }

    /// The name itself; also that of the instances' StatefulSet.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// An instance: its pod, its Service and its `@@aurora_server_id`.
    pub fn instance(&self, ordinal: u16) -> String {
        format!("{self}-{ordinal}")
    }
    /// The storage nodes' StatefulSet and their headless Service.
    pub fn storage(&self) -> String {
        format!("{self}-storage")
    }
    /// One storage node and its pod.
    pub fn storage_node(&self, id: u8) -> String {
        format!("{self}-storage-{id}")
    }
    /// Headless Service of the instances.
    pub fn instances(&self) -> String {
        format!("{self}-instances")
    }
    /// The cluster endpoint (single-master mode).
    pub fn cluster_endpoint(&self) -> String {
        format!("{self}-cluster")
    }
    /// The reader endpoint (single-master mode).
    pub fn reader_endpoint(&self) -> String {
        format!("{self}-cluster-ro")
    }
    /// Address of a Service inside Kubernetes.
    pub fn host(service: &str, namespace: &str) -> String {
        format!("{service}.{namespace}.svc.cluster.local")
    }

    /// Labels by which the pods of a part are selected.
    pub fn selector(&self, component: Component) -> BTreeMap<String, String> {
        [(LABEL_NAME, APPLICATION), (LABEL_INSTANCE, self.as_str()), (LABEL_COMPONENT, component.label())]
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    /// Labels of every object of the cluster.
    pub fn labels(&self) -> BTreeMap<String, String> {
        [(LABEL_NAME, APPLICATION), (LABEL_INSTANCE, self.as_str()), (LABEL_MANAGED_BY, OPERATOR)]
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    /// The ordinal of an instance of this cluster: `shop-2` of `shop` is 2.
    pub fn ordinal_of(&self, instance: &str) -> Option<u16> {
        let digits = instance.strip_prefix(self.as_str())?.strip_prefix('-')?;
        let ordinal: u16 = digits.parse().ok()?;
        (ordinal.to_string() == digits).then_some(ordinal)
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_break_a_child_are_refused() {
        for bad in ["", "-a", "a-", "1a", "A", "a.b", "a_b", &"a".repeat(41)] {
            assert_eq!(ClusterName::new(bad), None, "{bad}");
        }
        let longest = ClusterName::new(&"a".repeat(40)).expect("40 letters are allowed");
        assert!(longest.storage_node(5).len() + 11 <= 63, "a StatefulSet adds its hash to a label");
        assert!(longest.reader_endpoint().len() <= 63);
    }

    #[test]
    fn ordinals_are_read_back_from_names() {
        let shop = ClusterName::new("shop").expect("it is well-formed");
        assert_eq!(shop.ordinal_of(&shop.instance(12)), Some(12));
        assert_eq!(shop.ordinal_of("shop-012"), None);
        assert_eq!(shop.ordinal_of("shop-storage-1"), None);
    }
}
