//! Services: headless ones for peers, one for each instance, and the two endpoints of single-master mode.

use crds::cluster::Mode;
use crds::names::Component;
use crds::node_api::{HTTP_PORT, MYSQL_PORT, STORAGE_PORT};
use crds::validate::ValidatedCluster;
use serde_json::{Value, json};

use super::{Object, Owner, metadata, object};
use crate::children::Kind;

/// By it instances and storage nodes find storage nodes, ready or not.
pub(super) fn headless_storage(want: &ValidatedCluster, owner: &Owner) -> Object {
    let ports = json!([port("storage", STORAGE_PORT), port("http", HTTP_PORT)]);
    headless(want, owner, Component::Storage, &want.name.storage(), ports)
}

/// It gives instances' pods their host names; also what a ServiceMonitor selects.
pub(super) fn headless_instances(want: &ValidatedCluster, owner: &Owner) -> Object {
    let ports = json!([port("mysql", MYSQL_PORT), port("http", HTTP_PORT)]);
    headless(want, owner, Component::Instance, &want.name.instances(), ports)
}

fn headless(want: &ValidatedCluster, owner: &Owner, part: Component, name: &str, ports: Value) -> Object {
    let spec = json!({
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": true,
            "selector": want.name.selector(part),
            "ports": ports,
        }
    });
    let labels = [(crds::names::LABEL_COMPONENT, part.label())];
    object(Kind::Service, "v1", metadata(owner, &want.name, name, &labels), spec)
}

/// An endpoint whose EndpointSlice the operator writes: it has no selector.
pub(super) fn endpoint(want: &ValidatedCluster, owner: &Owner, name: String) -> Object {
    let metadata = annotated(want, metadata(owner, &want.name, &name, &[]));
    let spec = json!({
        "spec": { "type": service_type(want), "ports": [port("mysql", MYSQL_PORT)] }
    });
    object(Kind::Service, "v1", metadata, spec)
}

/// An instance's own endpoint. In single-master mode it has no selector either: Kubernetes would change its
/// slice as soon as a writer's pod is deleted, and kube-proxy then holds the next change, which is the new
/// writer's, back for a second. In multi-master mode nothing is promoted, and it needs no operator.
pub(super) fn instance(want: &ValidatedCluster, owner: &Owner, ordinal: u16) -> Object {
    let name = want.name.instance(ordinal);
    if want.mode == Mode::SingleMaster {
        return endpoint(want, owner, name);
    }
    let mut selector = want.name.selector(Component::Instance);
    selector.insert("statefulset.kubernetes.io/pod-name".to_owned(), name.clone());
    let metadata = annotated(want, metadata(owner, &want.name, &name, &[]));
    let spec = json!({
        "spec": {
            "type": service_type(want),
            "selector": selector,
            "ports": [port("mysql", MYSQL_PORT)],
        }
    });
    object(Kind::Service, "v1", metadata, spec)
}

fn annotated(want: &ValidatedCluster, mut metadata: Value) -> Value {
    metadata["annotations"] = json!(want.service.annotations);
    metadata
}

fn service_type(want: &ValidatedCluster) -> Value {
    json!(want.service.service_type)
}

fn port(name: &str, number: u16) -> Value {
    json!({ "name": name, "port": number, "targetPort": number, "protocol": "TCP" })
}
