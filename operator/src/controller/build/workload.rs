//! StatefulSets: the storage nodes with their volumes, and the instances.

use std::collections::BTreeMap;

use crds::cluster::{IntOrText, PodTemplate, Resources};
use crds::names::Component;
use crds::node_api::{HTTP_PORT, MYSQL_PORT, STORAGE_PORT};
use crds::validate::ValidatedCluster;
use serde_json::{Value, json};

use super::{Object, Owner, merged, metadata, object};
use crate::children::Kind;
use crate::context::Settings;

/// Time between SIGTERM, on which a writer hands over, and SIGKILL.
const GRACE_SECONDS: u32 = 30;
/// User and group of the image.
const USER: u32 = 65532;
/// An instance's cache where no memory limit is set, in bytes.
const CACHE_BYTES: u64 = 64 << 20;
/// The program in the image.
const PROGRAM: &str = "borealis-node";
const CREDENTIALS: &str = "/etc/borealis/credentials";

/// The storage nodes.
pub(super) fn storage(want: &ValidatedCluster, owner: &Owner, settings: &Settings) -> Object {
    let name = want.name.storage();
    let command = vec![
        PROGRAM.to_owned(),
        "storage".to_owned(),
        "--id-from-hostname".to_owned(),
        "--cluster".to_owned(),
        want.name.to_string(),
        "--mode".to_owned(),
        want.mode.argument().to_owned(),
        "--nodes".to_owned(),
        want.storage_nodes.to_string(),
        "--peers".to_owned(),
        peers(want),
        "--data-dir".to_owned(),
        "/data".to_owned(),
        "--listen".to_owned(),
        format!("0.0.0.0:{STORAGE_PORT}"),
        "--http".to_owned(),
        format!("0.0.0.0:{HTTP_PORT}"),
    ];
    let container = json!({
        "name": "storage",
        "ports": [port("storage", STORAGE_PORT), port("http", HTTP_PORT)],
        "volumeMounts": [{ "name": "data", "mountPath": "/data" }, { "name": "tmp", "mountPath": "/tmp" }],
        "resources": resources(&want.storage_template.resources, "20m", "64Mi"),
    });
    let container = finished(container, command, vec![zone_variable()], settings);
    let volumes = json!([scratch()]);
    let mut claim = json!({
        "metadata": { "name": "data" },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": want.storage_size } },
        },
    });
    if let Some(class) = &want.storage_class {
        claim["spec"]["storageClassName"] = json!(class);
    }
    let template = pod(want, Component::Storage, &want.storage_template, container, volumes);
    let mut spec = set(want, Component::Storage, &name, i64::from(want.storage_nodes), template);
    spec["spec"]["volumeClaimTemplates"] = json!([claim]);
    spec["spec"]["persistentVolumeClaimRetentionPolicy"] =
        json!({ "whenDeleted": "Retain", "whenScaled": "Retain" });
    object(Kind::StatefulSet, "apps/v1", metadata(owner, &want.name, &name, &[]), spec)
}

/// The instances.
pub(super) fn instances(want: &ValidatedCluster, owner: &Owner, settings: &Settings) -> Object {
    let name = want.name.as_str();
    let mut command = vec![
        PROGRAM.to_owned(),
        "instance".to_owned(),
        "--name-from-hostname".to_owned(),
        "--cluster".to_owned(),
        want.name.to_string(),
        "--mode".to_owned(),
        want.mode.argument().to_owned(),
        "--storage".to_owned(),
        peers(want),
        "--listen".to_owned(),
        format!("0.0.0.0:{MYSQL_PORT}"),
        "--http".to_owned(),
        format!("0.0.0.0:{HTTP_PORT}"),
        "--cache-bytes".to_owned(),
        cache_bytes(&want.instance_template.resources).to_string(),
        "--user-file".to_owned(),
        format!("{CREDENTIALS}/username"),
        "--password-file".to_owned(),
        format!("{CREDENTIALS}/password"),
        "--database".to_owned(),
        want.database.clone(),
    ];
    for (key, value) in &want.parameters {
        command.extend(["--parameter".to_owned(), format!("{key}={value}")]);
    }
    let mut variables = vec![zone_variable()];
    if want.tiers().next().is_some() {
        // All pods of a StatefulSet have one command line, so each picks its own tier from the list. The list does
        // not follow the number of instances: otherwise scaling would restart all of them.
        let tiers = want.tiers().map(|(n, tier)| format!("{}={tier}", want.name.instance(n)));
        let tiers = tiers.collect::<Vec<_>>().join(",");
        variables.push(json!({ "name": "BOREALIS_TIERS", "value": tiers }));
    }
    let container = json!({
        "name": "instance",
        "ports": [port("mysql", MYSQL_PORT), port("http", HTTP_PORT)],
        "volumeMounts": [
            { "name": "credentials", "mountPath": CREDENTIALS, "readOnly": true },
            { "name": "tmp", "mountPath": "/tmp" },
        ],
        "resources": resources(&want.instance_template.resources, "20m", "128Mi"),
    });
    let container = finished(container, command, variables, settings);
    let credentials = json!({
        "name": "credentials",
        "secret": {
            "secretName": want.secret_name,
            "items": [
                { "key": "username", "path": "username" },
                { "key": "password", "path": "password" },
            ],
        },
    });
    let volumes = json!([credentials, scratch()]);
    let template = pod(want, Component::Instance, &want.instance_template, container, volumes);
    let replicas = i64::from(want.instances);
    let spec = set(want, Component::Instance, &want.name.instances(), replicas, template);
    object(Kind::StatefulSet, "apps/v1", metadata(owner, &want.name, name, &[]), spec)
}

fn set(want: &ValidatedCluster, part: Component, service: &str, replicas: i64, template: Value) -> Value {
    json!({
        "spec": {
            "replicas": replicas,
            "serviceName": service,
            // All start at once: none waits for another to become ready, least of all after a total loss.
            "podManagementPolicy": "Parallel",
            "revisionHistoryLimit": 3,
            "selector": { "matchLabels": want.name.selector(part) },
            "template": template,
        }
    })
}

fn pod(
    want: &ValidatedCluster,
    part: Component,
    theirs: &PodTemplate,
    container: Value,
    volumes: Value,
) -> Value {
    let PodTemplate { resources: _, node_selector, tolerations, labels, annotations } = theirs;
    let selector = want.name.selector(part);
    let spread = |topology: &str| {
        json!({
            "topologyKey": topology,
            "maxSkew": 1,
            // A cluster whose nodes have no zones must work too.
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": { "matchLabels": selector },
        })
    };
    json!({
        "metadata": { "labels": merged(labels, selector.clone()), "annotations": annotations },
        "spec": {
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "nodeSelector": node_selector,
            "tolerations": tolerations,
            "topologySpreadConstraints": [
                spread("topology.kubernetes.io/zone"),
                spread("kubernetes.io/hostname"),
            ],
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [container],
            "volumes": volumes,
        },
    })
}

/// Adds what both kinds of containers have.
fn finished(mut container: Value, command: Vec<String>, variables: Vec<Value>, settings: &Settings) -> Value {
    let probe = |path: &str, period: u32, failures: u32| {
        json!({
            "httpGet": { "path": path, "port": "http" },
            "periodSeconds": period,
            "timeoutSeconds": 2,
            "failureThreshold": failures,
        })
    };
    container["image"] = json!(settings.image);
    container["imagePullPolicy"] = json!(settings.image_pull_policy);
    container["command"] = json!(command);
    container["env"] = json!(variables);
    container["readinessProbe"] = probe("/readyz", 2, 2);
    // Whether the process answers at all: a node without a quorum is alive, and restarting it would not help.
    container["livenessProbe"] = probe("/livez", 10, 6);
    container["securityContext"] = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
    });
    container
}

/// Kubernetes copies the zone of a pod's node to the pod's label (from 1.35 on); elsewhere this is empty.
fn zone_variable() -> Value {
    let path = "metadata.labels['topology.kubernetes.io/zone']";
    json!({ "name": "BOREALIS_ZONE", "valueFrom": { "fieldRef": { "fieldPath": path } } })
}

fn scratch() -> Value {
    json!({ "name": "tmp", "emptyDir": { "sizeLimit": "1Gi" } })
}

fn port(name: &str, number: u16) -> Value {
    json!({ "name": name, "containerPort": number, "protocol": "TCP" })
}

/// Where the storage nodes are: names that a pod of the same namespace resolves at the first attempt.
fn peers(want: &ValidatedCluster) -> String {
    let service = want.name.storage();
    let host = |id| format!("{}.{service}:{STORAGE_PORT}", want.name.storage_node(id));
    (0..want.storage_nodes).map(host).collect::<Vec<_>>().join(",")
}

/// The user's resources; small requests where they name none.
fn resources(theirs: &Resources, cpu: &str, memory: &str) -> Value {
    let Resources { requests, limits } = theirs;
    let mut requests = requests.clone();
    for (resource, amount) in [("cpu", cpu), ("memory", memory)] {
        if !limits.contains_key(resource) {
            requests.entry(resource.to_owned()).or_insert_with(|| IntOrText::Text(amount.to_owned()));
        }
    }
    json!({ "requests": as_text(&requests), "limits": as_text(limits) })
}

fn as_text(amounts: &BTreeMap<String, IntOrText>) -> BTreeMap<&String, String> {
    amounts.iter().map(|(resource, amount)| (resource, amount.to_string())).collect()
}

/// Half of the memory limit, where there is one.
fn cache_bytes(theirs: &Resources) -> u64 {
    let limit = theirs.limits.get("memory").and_then(|limit| bytes(&limit.to_string()));
    limit.map_or(CACHE_BYTES, |limit| limit / 2)
}

/// A whole Kubernetes quantity in bytes; `None` for forms that nobody uses for memory.
fn bytes(quantity: &str) -> Option<u64> {
    let digits = quantity.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = quantity.split_at(digits);
    let unit: u64 = match unit {
        "" => 1,
        "k" => 1000,
        "M" => 1000_u64.pow(2),
        "G" => 1000_u64.pow(3),
        "T" => 1000_u64.pow(4),
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_half_of_a_memory_limit() {
        let mut theirs = Resources::default();
        assert_eq!(cache_bytes(&theirs), CACHE_BYTES);
        theirs.limits.insert("memory".to_owned(), IntOrText::Text("1Gi".to_owned()));
        assert_eq!(cache_bytes(&theirs), 512 << 20);
        theirs.limits.insert("memory".to_owned(), IntOrText::Int(1 << 30));
        assert_eq!(cache_bytes(&theirs), 512 << 20);
    }

    #[test]
    fn a_limit_is_its_own_request() {
        let mut theirs = Resources::default();
        theirs.limits.insert("memory".to_owned(), IntOrText::Text("32Mi".to_owned()));
        let built = resources(&theirs, "20m", "64Mi");
        assert_eq!(built["requests"], json!({ "cpu": "20m" }));
    }
}
