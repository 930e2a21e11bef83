//! EndpointSlices of the endpoints without selectors: where a new connection goes.

use std::net::IpAddr;

use crds::names::LABEL_EPOCH;
use crds::node_api::MYSQL_PORT;
use crds::validate::ValidatedCluster;
use serde_json::{Value, json};

use super::{Object, Owner, metadata, object};
use crate::children::{Kind, LABEL_SLICE_MANAGER, PodSeen};

/// Annotation of the cluster endpoint's slice: the writer's pod and address.
pub(crate) const ANNOTATION_WRITER: &str = "borealis.dev/writer";

/// A pod that a slice leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    pub(crate) address: IpAddr,
    pub(crate) pod: PodSeen,
}

impl Backend {
    /// A pod that has an address.
    pub(crate) fn of(pod: &PodSeen) -> Option<Backend> {
        Some(Backend { address: pod.address?, pod: pod.clone() })
    }

    /// Names the backend; differs for every pod, also for two of the same name.
    pub(crate) fn identity(&self) -> String {
        format!("{} {}", self.pod.name, self.address)
    }
}

/// The slice of the endpoint `service`. For the cluster endpoint, `epoch` is the writer's. The family of its
/// addresses, IPv6 or IPv4, is that of the pods; it cannot change, so an empty slice must tell it too.
pub(crate) fn slice(
    want: &ValidatedCluster,
    owner: &Owner,
    service: &str,
    backends: &[Backend],
    epoch: Option<u64>,
    six: bool,
) -> Object {
    let epoch = epoch.map(|epoch| epoch.to_string());
    let mut labels =
        vec![("kubernetes.io/service-name", service), (LABEL_SLICE_MANAGER, crds::names::OPERATOR)];
    labels.extend(epoch.as_deref().map(|epoch| (LABEL_EPOCH, epoch)));
    let mut metadata = metadata(owner, &want.name, service, &labels);
    if let (Some(_), Some(writer)) = (&epoch, backends.first()) {
        metadata["annotations"] = json!({ ANNOTATION_WRITER: writer.identity() });
    }
    let rest = json!({
        "addressType": if six { "IPv6" } else { "IPv4" },
        "endpoints": backends.iter().map(|backend| endpoint(owner, backend)).collect::<Vec<_>>(),
        "ports": [{ "name": "mysql", "port": MYSQL_PORT, "protocol": "TCP" }],
    });
    object(Kind::EndpointSlice, "discovery.k8s.io/v1", metadata, rest)
}

fn endpoint(owner: &Owner, backend: &Backend) -> Value {
    let pod = &backend.pod;
    let mut endpoint = json!({
        "addresses": [backend.address],
        "conditions": { "ready": true, "serving": true, "terminating": false },
        "targetRef": { "kind": "Pod", "namespace": owner.namespace, "name": pod.name, "uid": pod.uid },
    });
    if let Some(node) = &pod.node {
        endpoint["nodeName"] = json!(node);
    }
    if let Some(zone) = &pod.zone {
        endpoint["zone"] = json!(zone);
    }
    endpoint
}
