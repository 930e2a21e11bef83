use crds::cluster::{AuroraClusterSpec, IntOrText};
use crds::validate::validate_spec;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::children::PodSeen;

pub(crate) fn shop(change: impl FnOnce(&mut AuroraClusterSpec)) -> ValidatedCluster {
    let mut spec = AuroraClusterSpec::default();
    change(&mut spec);
    validate_spec("shop", &spec).expect("the specification is allowed")
}

pub(crate) fn owner() -> Owner {
    Owner { namespace: "prod".to_owned(), name: "shop".to_owned(), uid: "u-1".to_owned() }
}

pub(crate) fn settings() -> Settings {
    Settings {
        image: "example.org/borealis:1".to_owned(),
        image_pull_policy: "IfNotPresent".to_owned(),
        watch_namespace: None,
        identity: "operator-0".to_owned(),
    }
}

fn all(want: &ValidatedCluster) -> Vec<Object> {
    let backend = Backend {
        address: "10.0.0.7".parse().expect("it is an address"),
        pod: PodSeen { name: "shop-0".to_owned(), node: Some("n".to_owned()), ..PodSeen::default() },
    };
    let mut objects = objects(want, &owner(), &settings());
    objects.push(slice(want, &owner(), "shop-cluster", &[backend], Some(3), false));
    objects.push(secret(want, &owner(), "secret"));
    objects
}

/// A misspelt field would be dropped by the Kubernetes type.
fn survives<K: Serialize + DeserializeOwned>(body: &Value) {
    let typed: K = serde_json::from_value(body.clone()).expect("the type takes it");
    let again = serde_json::to_value(&typed).expect("it is plain data");
    assert_covers("", &again, body);
}

fn assert_covers(path: &str, type_gave: &Value, we_wrote: &Value) {
    match we_wrote {
        Value::Object(fields) => {
            for (name, value) in fields {
                let empty = matches!(value, Value::Object(o) if o.is_empty())
                    || matches!(value, Value::Array(a) if a.is_empty());
                if !empty {
                    assert_covers(&format!("{path}.{name}"), &type_gave[name], value);
                }
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                assert_covers(&format!("{path}[{index}]"), &type_gave[index], value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            assert_eq!(type_gave, we_wrote, "{path}");
        }
    }
}

#[test]
fn every_object_survives_a_round_trip_through_its_kubernetes_type() {
    let want = shop(|spec| {
        spec.storage.storage_class_name = Some("fast".to_owned());
        spec.parameters.insert("max_connections".to_owned(), IntOrText::Int(200));
        spec.instance_template.tolerations =
            vec![crds::cluster::Toleration { key: Some("db".to_owned()), ..Default::default() }];
        spec.instance_template.node_selector.insert("disk".to_owned(), "ssd".to_owned());
    });
    for object in all(&want) {
        match object.child.kind {
            Kind::StatefulSet => survives::<StatefulSet>(&object.body),
            Kind::Service => survives::<Service>(&object.body),
            Kind::EndpointSlice => survives::<EndpointSlice>(&object.body),
            Kind::PodDisruptionBudget => survives::<PodDisruptionBudget>(&object.body),
            Kind::Secret => survives::<Secret>(&object.body),
        }
    }
}

#[test]
fn every_object_is_owned_by_the_cluster_and_lies_in_its_namespace() {
    for object in all(&shop(|_| {})) {
        let metadata = &object.body["metadata"];
        assert_eq!(metadata["ownerReferences"][0]["uid"], "u-1", "{:?}", object.child);
        assert_eq!(metadata["namespace"], "prod");
        assert_eq!(metadata["labels"]["app.kubernetes.io/instance"], "shop");
    }
}

fn names(want: &ValidatedCluster, kind: Kind) -> Vec<String> {
    let objects = objects(want, &owner(), &settings());
    objects.into_iter().filter(|o| o.child.kind == kind).map(|o| o.child.name).collect()
}

#[test]
fn single_master_has_aurora_s_three_kinds_of_endpoints() {
    let services = names(&shop(|_| {}), Kind::Service);
    let expected =
        ["shop-storage", "shop-instances", "shop-cluster", "shop-cluster-ro", "shop-0", "shop-1", "shop-2"];
    assert_eq!(services, expected);
}

#[test]
fn multi_master_has_instance_endpoints_only() {
    let want = shop(|spec| spec.mode = Mode::MultiMaster);
    assert_eq!(names(&want, Kind::Service), ["shop-storage", "shop-instances", "shop-0", "shop-1", "shop-2"]);
}

fn workload(want: &ValidatedCluster, name: &str) -> Value {
    let objects = objects(want, &owner(), &settings());
    let found = objects.into_iter().find(|o| o.child.kind == Kind::StatefulSet && o.child.name == name);
    found.expect("there is such a StatefulSet").body
}

fn command(body: &Value) -> String {
    let command = body["spec"]["template"]["spec"]["containers"][0]["command"].as_array();
    let words = command.expect("there is a command").iter().map(|word| word.as_str().unwrap_or_default());
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn storage_nodes_know_their_peers_by_name() {
    let want = shop(|spec| spec.storage.nodes = 3);
    assert_eq!(
        command(&workload(&want, "shop-storage")),
        "borealis-node storage --id-from-hostname --cluster shop --mode single-master --nodes 3 \
         --peers shop-storage-0.shop-storage:7400,shop-storage-1.shop-storage:7400,shop-storage-2.shop-storage:7400 \
         --data-dir /data --listen 0.0.0.0:7400 --http 0.0.0.0:8080"
    );
}

#[test]
fn instances_get_their_parameters_and_read_their_password_from_a_file() {
    let want = shop(|spec| {
        spec.storage.nodes = 3;
        spec.parameters.insert("max_connections".to_owned(), IntOrText::Int(200));
    });
    let command = command(&workload(&want, "shop"));
    assert!(command.contains("--parameter max_connections=200"), "{command}");
    assert!(command.contains("--password-file /etc/borealis/credentials/password"), "{command}");
    assert!(
        command.contains("--name-from-hostname --cluster shop --mode single-master --storage shop-storage-0")
    );
}

#[test]
fn each_instance_finds_its_promotion_tier_in_the_list() {
    let want = shop(|spec| _ = spec.promotion_tiers.insert("shop-2".to_owned(), 0));
    let body = workload(&want, "shop");
    let variables = &body["spec"]["template"]["spec"]["containers"][0]["env"];
    assert_eq!(variables[1], json!({ "name": "BOREALIS_TIERS", "value": "shop-2=0" }));
}

#[test]
fn scaling_changes_nothing_in_the_pods_that_stay() {
    for mode in [Mode::SingleMaster, Mode::MultiMaster] {
        let template = |instances| {
            let want = shop(|spec| {
                (spec.mode, spec.instances) = (mode, instances);
                if mode == Mode::SingleMaster {
                    spec.promotion_tiers.insert("shop-2".to_owned(), 0);
                }
            });
            workload(&want, "shop")["spec"]["template"].clone()
        };
        assert_eq!(template(2), template(4));
    }
}

#[test]
fn pods_meet_the_restricted_security_standard() {
    for name in ["shop", "shop-storage"] {
        let body = workload(&shop(|_| {}), name);
        let pod = &body["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let container = &pod["containers"][0]["securityContext"];
        assert_eq!(container["allowPrivilegeEscalation"], false);
        assert_eq!(container["readOnlyRootFilesystem"], true);
        assert_eq!(container["capabilities"]["drop"], json!(["ALL"]));
    }
}

#[test]
fn the_users_labels_cannot_replace_those_that_select_the_pods() {
    let want = shop(|spec| {
        let labels = &mut spec.instance_template.labels;
        labels.insert("team".to_owned(), "web".to_owned());
        labels.insert("app.kubernetes.io/instance".to_owned(), "other".to_owned());
    });
    let body = workload(&want, "shop");
    let labels = &body["spec"]["template"]["metadata"]["labels"];
    assert_eq!((&labels["team"], &labels["app.kubernetes.io/instance"]), (&json!("web"), &json!("shop")));
}

#[test]
fn a_drain_leaves_a_write_quorum_of_storage_nodes() {
    for (nodes, spare) in [(6, 2), (3, 1)] {
        let want = shop(|spec| spec.storage.nodes = nodes);
        let budget = budget::storage(&want, &owner());
        assert_eq!(budget.body["spec"]["maxUnavailable"], spare);
    }
}

#[test]
fn the_same_cluster_gives_the_same_fingerprints() {
    let hashes = || all(&shop(|_| {})).iter().map(Object::hash).collect::<Vec<_>>();
    assert_eq!(hashes(), hashes());
}
