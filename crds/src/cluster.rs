//! The specification of an `AuroraCluster`, as users write it. What is allowed stands in [`crate::rules`].
#![allow(clippy::duplicated_attributes, reason = "each printcolumn has a type and a path of its own")]

use std::collections::BTreeMap;
use std::fmt;

#[cfg(feature = "k8s")]
use kube::CustomResource;
#[cfg(feature = "k8s")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// API group of the resource.
pub const GROUP: &str = "borealis.dev";
/// Version of the resource.
pub const VERSION: &str = "v1alpha1";
/// Group and version, as a manifest gives them.
pub const API_VERSION: &str = "borealis.dev/v1alpha1";
/// Kind of the resource.
pub const KIND: &str = "AuroraCluster";

/// An Aurora-shaped MySQL cluster: instances over a shared, replicated volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "k8s", derive(CustomResource, JsonSchema))]
#[cfg_attr(
    feature = "k8s",
    kube(
        group = "borealis.dev",
        version = "v1alpha1",
        kind = "AuroraCluster",
        plural = "auroraclusters",
        singular = "auroracluster",
        shortname = "ac",
        category = "borealis",
        namespaced,
        derive = "PartialEq",
        status = "crate::status::AuroraClusterStatus",
        scale(
            spec_replicas_path = ".spec.instances",
            status_replicas_path = ".status.instanceCount",
            label_selector_path = ".status.selector"
        ),
        printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
        printcolumn(name = "Ready", type_ = "string", json_path = ".status.ready"),
        printcolumn(name = "Writer", type_ = "string", json_path = ".status.writer"),
        printcolumn(name = "Epoch", type_ = "integer", json_path = ".status.epoch"),
        printcolumn(name = "Storage", type_ = "string", json_path = ".status.storage.ready"),
        printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
        printcolumn(
            name = "Endpoint",
            type_ = "string",
            json_path = ".status.endpoints.cluster",
            priority = 1
        ),
        printcolumn(name = "Reader", type_ = "string", json_path = ".status.endpoints.reader", priority = 1)
    )
)]
#[serde(rename_all = "camelCase", default)]
pub struct AuroraClusterSpec {
    /// SingleMaster: one instance writes, the others are replicas and take over when it fails.
    /// MultiMaster: every instance reads and writes; applications connect to instances by name.
    /// Cannot change.
    pub mode: Mode,
    /// Number of instances, 1 to 16: one writer and replicas, or in multi-master mode that many writers.
    pub instances: i32,
    /// Promotion tier by instance name, 0 (first) to 15; 1 for instances not named. Single-master mode only.
    pub promotion_tiers: BTreeMap<String, i32>,
    /// The volume.
    pub storage: StorageSpec,
    /// The database that is created at first start. Cannot change.
    pub database: String,
    /// The administrator's user name and password.
    pub credentials: CredentialsSpec,
    /// Server variables of every instance, such as max_connections.
    pub parameters: BTreeMap<String, IntOrText>,
    /// Encryption of client connections.
    pub tls: TlsSpec,
    /// The Services of the endpoints.
    pub service: ServiceSpec,
    /// What the instances' pods get besides what the operator gives them.
    pub instance_template: PodTemplate,
    /// What the storage nodes' pods get besides what the operator gives them.
    pub storage_template: PodTemplate,
}

impl Default for AuroraClusterSpec {
    fn default() -> AuroraClusterSpec {
        AuroraClusterSpec {
            mode: Mode::default(),
            instances: 3,
            promotion_tiers: BTreeMap::new(),
            storage: StorageSpec::default(),
            database: "app".to_owned(),
            credentials: CredentialsSpec::default(),
            parameters: BTreeMap::new(),
            tls: TlsSpec::default(),
            service: ServiceSpec::default(),
            instance_template: PodTemplate::default(),
            storage_template: PodTemplate::default(),
        }
    }
}

/// How many instances may write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "k8s", derive(JsonSchema))]
pub enum Mode {
    /// One instance writes; replicas read.
    #[default]
    SingleMaster,
    /// Every instance reads and writes.
    MultiMaster,
}

impl Mode {
    /// As the node's command line has it.
    pub fn argument(self) -> &'static str {
        match self {
            Mode::SingleMaster => "single-master",
            Mode::MultiMaster => "multi-master",
        }
    }
}

/// The volume: the storage nodes that hold its copies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "k8s", derive(JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct StorageSpec {
    /// Number of storage nodes: 6 (a commit needs 4; a zone may be lost) or 3 (a commit needs 2).
    /// Cannot change.
    pub nodes: i32,
    /// Size of each storage node's volume, such as 10Gi. Cannot change.
    pub size: String,
    /// Storage class of the volumes; the cluster's default class where absent. Cannot change.
    pub storage_class_name: Option<String>,
}

impl Default for StorageSpec {
    fn default() -> StorageSpec {
        StorageSpec { nodes: 6, size: "10Gi".to_owned(), storage_class_name: None }
    }
}

/// Where the administrator's user name and password are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "k8s", derive(JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CredentialsSpec {
    /// Name of the Secret, with the keys username and password; made with a random password where there
    /// is none. Default: the cluster's name and "-admin".
    pub secret_name: Option<String>,
}

/// Encryption of client connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "k8s", derive(JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct TlsSpec {
    /// Disabled: connections are not encrypted.
    pub mode: TlsMode,
}

/// How client connections are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "k8s", derive(JsonSchema))]
pub enum TlsMode {
    /// Not at all. (Not "Off": kubectl's YAML takes that for the boolean false.)
    #[default]
    Disabled,
}

/// The Services of the endpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "k8s", derive(JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// Their type.
    #[serde(rename = "type")]
    pub service_type: ServiceType,
    /// Annotations that they get.
    pub annotations: BTreeMap<String, String>,
}

/// Type of the endpoints' Services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "k8s", derive(JsonSchema))]
pub enum ServiceType {
    /// Reachable inside Kubernetes.
    #[default]
    ClusterIP,
    /// Also at a port of every Kubernetes node.
    NodePort,
    /// Also through a load balancer.
    LoadBalancer,
}

/// What pods get besides what the operator gives them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "k8s", derive(JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct PodTemplate {
    /// Resources of the container; small requests where empty.
    pub resources: Resources,
    /// Labels that a Kubernetes node must have to run the pods.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods tolerate.
    pub tolerations: Vec<Toleration>,
    /// Further labels.
    pub labels: BTreeMap<String, String>,
    /// Further annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Resources of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "k8s", derive(JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// What is set aside for it, by resource: cpu, memory.
    pub requests: BTreeMap<String, IntOrText>,
    /// What it may use, by resource.
    pub limits: BTreeMap<String, IntOrText>,
}

/// A taint that pods tolerate; fields as in Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "k8s", derive(JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Toleration {
    /// The taint's key; absent: every key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Exists or Equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The taint's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// NoSchedule, PreferNoSchedule or NoExecute; absent: every effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    /// How long a pod stays on a node that got the taint NoExecute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

/// A value that may be written with or without quotes: `200` or `"200"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IntOrText {
    /// Written without quotes.
    Int(i64),
    /// Written as text.
    Text(String),
}

impl fmt::Display for IntOrText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IntOrText::Int(number) => number.fmt(f),
            IntOrText::Text(text) => text.fmt(f),
        }
    }
}

#[cfg(feature = "k8s")]
impl JsonSchema for IntOrText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "IntOrText".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "x-kubernetes-int-or-string": true })
    }
}
