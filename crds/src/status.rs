//! The status of an `AuroraCluster`, as the operator writes it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator last saw of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AuroraClusterStatus {
    /// The generation of the specification that this status is about.
    pub observed_generation: i64,
    /// Creating, Available, Degraded, FailingOver, QuorumLost or Invalid.
    pub phase: String,
    /// Ready instances of those asked for, such as 3/3.
    pub ready: String,
    /// The instance that writes (single-master mode).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writer: Option<String>,
    /// The writer's epoch; grows with every change of writer (single-master mode).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// Where applications connect.
    pub endpoints: EndpointsStatus,
    /// Each instance.
    pub instances: Vec<InstanceSummary>,
    /// Instances that exist: for the scale subresource.
    pub instance_count: i32,
    /// Label selector of the instances' pods: for the scale subresource.
    pub selector: String,
    /// The volume.
    pub storage: StorageSummary,
    /// The last change of writer (single-master mode).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failover: Option<FailoverSummary>,
    /// A failover asked for by annotation and not done yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_failover: Option<RequestedFailover>,
    /// Name of the Secret with the administrator's user name and password.
    pub credentials_secret: String,
    /// Conditions: Ready, WriterAvailable, StorageQuorum, Progressing, Degraded.
    pub conditions: Vec<Condition>,
}

/// Where applications connect: host names and ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointsStatus {
    /// Leads to the writer (single-master mode).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Leads to the replicas, or to the writer where there are none (single-master mode).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reader: Option<String>,
    /// Each instance's own, by instance name.
    pub instances: BTreeMap<String, String>,
}

/// One instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct InstanceSummary {
    /// Its name.
    pub name: String,
    /// writer, reader, or unknown while it cannot be reached.
    pub role: String,
    /// What it is doing, in its own words; unreachable while it cannot be reached.
    pub state: String,
    /// Whether it takes statements.
    pub ready: bool,
    /// It lags at most this many milliseconds behind the writer: 10, 100, 1000 and so on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_milliseconds_at_most: Option<i64>,
    /// Its zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// The volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct StorageSummary {
    /// Storage nodes that vote of those asked for, such as 6/6.
    pub ready: String,
    /// Whether enough of them vote to commit.
    pub quorum: bool,
    /// Each storage node.
    pub nodes: Vec<StorageNodeSummary>,
}

/// One storage node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct StorageNodeSummary {
    /// Its name.
    pub name: String,
    /// Whether it votes.
    pub voting: bool,
    /// Its zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// A change of writer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FailoverSummary {
    /// The writer before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The writer after.
    pub to: String,
    /// Why: Resigned, Disconnected, Silent, FirstStart or Unknown.
    pub reason: String,
    /// From the new writer's noticing that the old one was gone to its accepting writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<i64>,
    /// When the operator saw it.
    pub time: String,
}

/// A failover asked for by annotation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestedFailover {
    /// The instance asked for; empty: by promotion tier.
    pub to: String,
    /// The epoch from which it shall depart.
    pub from_epoch: i64,
    /// When it is given up.
    pub deadline: String,
}

/// One condition, as Kubernetes defines them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// Its type.
    #[serde(rename = "type")]
    pub condition_type: String,
    /// True, False or Unknown.
    pub status: String,
    /// Why, as one word.
    pub reason: String,
    /// Why, as a sentence.
    pub message: String,
    /// When the status last changed.
    pub last_transition_time: String,
    /// The generation of the specification that it is about.
    pub observed_generation: i64,
}
