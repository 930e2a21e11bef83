use std::time::Instant;

use crds::cluster::Mode;
use crds::names::{LABEL_EPOCH, LABEL_ROLE};
use crds::node_api::{InstanceState, InstanceStatus, NodeStatus, Role, StorageStatus};
use crds::status::{AuroraClusterStatus, Condition};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::*;
use crate::children::{ChildSeen, PodSeen, Version};
use crate::controller::build::ANNOTATION_WRITER;
use crate::controller::build::tests::{owner, settings, shop};
use crate::controller::observe::{InstanceSeen, StorageSeen};
use crate::nodes::NodeSeen;

/// A cluster as the operator sees it: `W` writer, `r` reader, `x` a pod whose node cannot be reached, `-` no
/// pod. Writers have epoch 1.
pub(crate) fn seen(roles: &str) -> Observed {
    let instances = roles.chars().zip(0_u16..).map(|(role, ordinal)| instance(ordinal, role)).collect();
    let storage = (0..6).map(|id| StorageSeen {
        name: format!("shop-storage-{id}"),
        pod: Some(PodSeen { alive: true, ready: true, ..PodSeen::default() }),
        node: NodeSeen {
            asked: true,
            reachable: true,
            status: Some(NodeStatus::Storage(StorageStatus {
                name: format!("shop-storage-{id}"),
                id,
                voting: true,
                ..StorageStatus::default()
            })),
        },
    });
    Observed {
        owner: owner(),
        now: Timestamp::from_second(1_700_000_000).expect("it is a time"),
        generation: 1,
        status: AuroraClusterStatus::default(),
        failover_to: None,
        instances,
        storage: storage.collect(),
        children: Default::default(),
        applied: Default::default(),
        new_password: None,
        secret_name: "shop-admin".to_owned(),
        secret_seen: Instant::now(),
        settled: true,
    }
}

fn instance(ordinal: u16, role: char) -> InstanceSeen {
    let name = format!("shop-{ordinal}");
    let pod = PodSeen {
        uid: format!("uid-{ordinal}"),
        name: name.clone(),
        address: format!("10.0.0.{}", ordinal + 1).parse().ok(),
        alive: true,
        ready: role != 'x',
        ..PodSeen::default()
    };
    let status = InstanceStatus {
        name: name.clone(),
        ordinal,
        role: if role == 'W' { Role::Writer } else { Role::Reader },
        epoch: 1,
        state: InstanceState::Available,
        ready: true,
        ..InstanceStatus::default()
    };
    let node = NodeSeen { asked: true, reachable: role != 'x', status: Some(NodeStatus::Instance(status)) };
    match role {
        '-' => InstanceSeen { name, ordinal, ..InstanceSeen::default() },
        _ => InstanceSeen { name, ordinal, pod: Some(pod), node },
    }
}

pub(crate) fn set_epoch(seen: &mut Observed, ordinal: usize, to: u64) {
    if let Some(NodeStatus::Instance(status)) = &mut seen.instances[ordinal].node.status {
        status.epoch = to;
    }
}

fn publish(seen: &mut Observed, writer: &str, epoch: u64) {
    let child = ChildRef { kind: Kind::EndpointSlice, name: "shop-cluster".to_owned() };
    let slice = ChildSeen {
        version: Version::default(),
        labels: [(LABEL_EPOCH.to_owned(), epoch.to_string())].into(),
        annotations: [(ANNOTATION_WRITER.to_owned(), writer.to_owned())].into(),
        owner: None,
    };
    seen.children.insert(child, slice);
}

fn set_label(seen: &mut Observed, ordinal: usize, role: &str) {
    let pod = seen.instances[ordinal].pod.as_mut().expect("there is a pod");
    pod.labels.insert(LABEL_ROLE.to_owned(), role.to_owned());
}

fn steps(seen: &Observed) -> Vec<Step> {
    plan(&shop(|_| {}), seen, vec![]).steps
}

/// The plan in short.
fn summary(steps: &[Step]) -> Vec<String> {
    let addresses = |object: &Object| {
        let endpoints = object.body["endpoints"].as_array().cloned().unwrap_or_default();
        let names = endpoints.iter().map(|e| e["targetRef"]["name"].as_str().unwrap_or("?").to_owned());
        names.collect::<Vec<_>>().join(",")
    };
    let each = steps.iter().map(|step| match step {
        Step::Label { pod, role } => format!("label {pod} {}", role.unwrap_or("none")),
        Step::Publish { writer, epoch, .. } => format!("publish {writer} {epoch}"),
        Step::Apply(object) => format!("apply {} {}", object.child.name, addresses(object)),
        Step::Create(object) => format!("create {}", object.child.name),
        Step::Delete(child) => format!("delete {}", child.name),
        Step::Resign { writer, to } => format!("resign {writer} {to:?}"),
        Step::ClearFailoverRequest => "clear".to_owned(),
        Step::Tell(note) => format!("tell {}", note.reason),
    });
    each.collect()
}

#[test]
fn the_first_writer_is_published_before_anything_else() {
    let objects = build::objects(&shop(|_| {}), &owner(), &settings());
    let plan = plan(&shop(|_| {}), &seen("Wrr"), objects);
    let said = summary(&plan.steps);
    assert_eq!(said[..2], ["publish shop-0 1", "label shop-0 writer"]);
    assert_eq!(said[4], "apply shop-cluster-ro shop-1,shop-2");
}

#[test]
fn a_new_writer_is_published_after_the_old_one_lost_its_label() {
    let mut seen = seen("rWr");
    set_epoch(&mut seen, 1, 2);
    publish(&mut seen, "shop-0 10.0.0.1", 1);
    set_label(&mut seen, 0, "writer");
    set_label(&mut seen, 1, "reader");
    set_label(&mut seen, 2, "reader");
    let said = summary(&steps(&seen));
    assert_eq!(
        said,
        [
            "label shop-0 none",
            "publish shop-1 2",
            "label shop-0 reader",
            "label shop-1 writer",
            "apply shop-cluster-ro shop-0,shop-2",
            "apply shop-0 shop-0",
            "apply shop-1 shop-1",
            "apply shop-2 shop-2"
        ]
    );
}

#[test]
fn an_old_writer_whose_pod_is_gone_needs_no_label() {
    let mut seen = seen("-Wr");
    set_epoch(&mut seen, 1, 2);
    publish(&mut seen, "shop-0 10.0.0.1", 1);
    assert_eq!(summary(&steps(&seen))[0], "publish shop-1 2");
}

#[test]
fn of_two_writers_the_newer_epoch_is_published() {
    let mut seen = seen("WWr");
    set_epoch(&mut seen, 1, 7);
    assert!(summary(&steps(&seen)).contains(&"publish shop-1 7".to_owned()));
}

#[test]
fn an_older_writer_than_the_published_one_is_not_published() {
    let mut seen = seen("Wr-");
    publish(&mut seen, "shop-2 10.0.0.3", 9);
    assert!(!summary(&steps(&seen)).iter().any(|step| step.starts_with("publish")));
}

#[test]
fn while_there_is_no_writer_the_cluster_endpoint_stays() {
    let mut seen = seen("xrr");
    publish(&mut seen, "shop-0 10.0.0.1", 1);
    let said = summary(&steps(&seen));
    assert!(!said.iter().any(|step| step.starts_with("publish") || step.starts_with("apply shop-cluster ")));
}

#[test]
fn right_after_the_loss_of_a_writer_no_other_endpoint_is_written() {
    let mut seen = seen("xrr");
    publish(&mut seen, "shop-0 10.0.0.1", 1);
    let mut lost = |status: &str, seconds: i64| {
        seen.status.conditions = vec![Condition {
            condition_type: "WriterAvailable".to_owned(),
            status: status.to_owned(),
            last_transition_time: (seen.now - SignedDuration::from_secs(seconds)).to_string(),
            ..Condition::default()
        }];
        summary(&steps(&seen))
    };
    assert_eq!(lost("True", 3600), Vec::<String>::new());
    assert_eq!(lost("False", 4), Vec::<String>::new());
    let later = [
        "apply shop-cluster-ro shop-1,shop-2",
        "apply shop-0 ",
        "apply shop-1 shop-1",
        "apply shop-2 shop-2",
    ];
    assert_eq!(lost("False", 6), later);
}

#[test]
fn a_writer_that_is_being_deleted_keeps_its_endpoint_until_another_has_taken_over() {
    let mut deleting = seen("Wrr");
    deleting.instances[0].pod.as_mut().expect("there is a pod").deleting = true;
    assert!(summary(&steps(&deleting)).contains(&"apply shop-0 shop-0".to_owned()));
    let mut replaced = seen("rWr");
    replaced.instances[0].pod.as_mut().expect("there is a pod").deleting = true;
    assert!(summary(&steps(&replaced)).contains(&"apply shop-0 ".to_owned()));
}

#[test]
fn a_published_writer_is_not_published_again() {
    let mut seen = seen("Wrr");
    publish(&mut seen, "shop-0 10.0.0.1", 1);
    assert!(!summary(&steps(&seen)).iter().any(|step| step.starts_with("publish")));
}

#[test]
fn a_writer_at_a_new_address_is_published_again() {
    let mut seen = seen("Wrr");
    publish(&mut seen, "shop-0 10.0.0.99", 1);
    assert!(summary(&steps(&seen)).contains(&"publish shop-0 1".to_owned()));
}

#[test]
fn the_reader_endpoint_falls_back_to_the_writer() {
    let said = summary(&steps(&seen("W--")));
    assert!(said.contains(&"apply shop-cluster-ro shop-0".to_owned()), "{said:?}");
}

#[test]
fn replicas_that_cannot_be_reached_leave_the_reader_endpoint() {
    let said = summary(&steps(&seen("Wxr")));
    assert!(said.contains(&"apply shop-cluster-ro shop-2".to_owned()), "{said:?}");
}

#[test]
fn an_operator_that_reaches_nobody_changes_no_endpoint() {
    let mut seen = seen("xxx");
    publish(&mut seen, "shop-0 10.0.0.1", 1);
    assert_eq!(summary(&steps(&seen)), Vec::<String>::new());
}

#[test]
fn multi_master_publishes_nothing_and_labels_every_instance_a_writer() {
    let want = shop(|spec| spec.mode = Mode::MultiMaster);
    let said = summary(&plan(&want, &seen("WWW"), vec![]).steps);
    assert_eq!(said, ["label shop-0 writer", "label shop-1 writer", "label shop-2 writer"]);
}

#[test]
fn objects_that_are_as_applied_are_not_applied_again() {
    let mut seen = seen("---");
    let objects = build::objects(&shop(|_| {}), &owner(), &settings());
    for object in &objects {
        seen.children.insert(object.child.clone(), ChildSeen::default());
        seen.applied.insert(object.child.clone(), (object.hash(), Version::default()));
    }
    assert_eq!(summary(&plan(&shop(|_| {}), &seen, objects.clone()).steps), Vec::<String>::new());
    seen.children.remove(&objects[0].child);
    assert_eq!(plan(&shop(|_| {}), &seen, objects).steps.len(), 1, "what was deleted is applied again");
}

#[test]
fn services_of_instances_that_were_scaled_away_are_deleted() {
    let mut seen = seen("W");
    let child = |name: &str| ChildRef { kind: Kind::Service, name: name.to_owned() };
    seen.children.insert(child("shop-0"), ChildSeen::default());
    seen.children.insert(child("shop-1"), ChildSeen::default());
    let want = shop(|spec| spec.instances = 1);
    let said = summary(&plan(&want, &seen, build::objects(&want, &owner(), &settings())).steps);
    assert_eq!(said.last().map(String::as_str), Some("delete shop-1"));
    assert_eq!(said.iter().filter(|step| step.starts_with("delete")).count(), 1);
}

#[test]
fn a_missing_secret_is_created_once() {
    let mut seen = seen("---");
    seen.new_password = Some("x".to_owned());
    assert_eq!(summary(&steps(&seen)), ["create shop-admin", "tell CredentialsCreated"]);
}

#[test]
fn a_failover_that_was_asked_for_is_passed_on_to_the_writer() {
    let mut seen = seen("Wrr");
    publish(&mut seen, "shop-0 10.0.0.1", 1);
    seen.failover_to = Some("shop-2".to_owned());
    let plan = plan(&shop(|_| {}), &seen, vec![]);
    let said = summary(&plan.steps);
    assert!(said.ends_with(&[
        "tell FailoverRequested".to_owned(),
        "resign 10.0.0.1 Some(\"shop-2\")".to_owned(),
        "clear".to_owned()
    ]));
    assert_eq!(
        plan.requested_failover.map(|request| (request.to, request.from_epoch)),
        Some(("shop-2".into(), 1))
    );
}

#[test]
fn failovers_that_make_no_sense_are_refused() {
    for (roles, to) in
        [("Wrr", "shop-0"), ("Wrr", "shop-7"), ("Wxx", ""), ("xrr", "shop-1"), ("Wxr", "shop-1")]
    {
        let mut seen = seen(roles);
        seen.failover_to = Some(to.to_owned());
        let plan = plan(&shop(|_| {}), &seen, vec![]);
        let said = summary(&plan.steps);
        assert!(said.contains(&"tell FailoverRefused".to_owned()), "{roles} {to}: {said:?}");
        assert!(said.contains(&"clear".to_owned()) && plan.requested_failover.is_none());
    }
}

#[test]
fn a_failover_that_was_asked_for_ends_with_a_newer_epoch_or_at_its_deadline() {
    let want = shop(|_| {});
    let request = |seen: &Observed, seconds: i64| RequestedFailover {
        to: String::new(),
        from_epoch: 1,
        deadline: Timestamp::from_second(seen.now.as_second() + seconds).expect("a time").to_string(),
    };
    let mut seen = seen("Wrr");
    seen.status.requested_failover = Some(request(&seen, 5));
    assert_eq!(plan(&want, &seen, vec![]).requested_failover, seen.status.requested_failover);
    seen.status.requested_failover = Some(request(&seen, -1));
    let late = plan(&want, &seen, vec![]);
    assert!(late.requested_failover.is_none());
    assert!(summary(&late.steps).contains(&"tell FailoverTimedOut".to_owned()));
    seen.status.requested_failover = Some(request(&seen, 5));
    set_epoch(&mut seen, 0, 2);
    assert!(plan(&want, &seen, vec![]).requested_failover.is_none());
}
