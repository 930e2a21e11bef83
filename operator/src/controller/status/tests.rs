use super::*;
use crate::controller::build::tests::shop;
use crate::controller::plan::tests::{seen, set_epoch};

fn phase_and_conditions(status: &AuroraClusterStatus) -> String {
    let each = status.conditions.iter().map(|c| format!("{}={}", c.condition_type, c.status));
    format!("{} {}", status.phase, each.collect::<Vec<_>>().join(" "))
}

fn status(roles: &str, old: AuroraClusterStatus) -> AuroraClusterStatus {
    let mut seen = seen(roles);
    seen.status = old;
    next(&shop(|_| {}), &seen, &Done::default())
}

#[test]
fn a_whole_cluster_is_available() {
    let status = status("Wrr", AuroraClusterStatus::default());
    assert_eq!(
        phase_and_conditions(&status),
        "Available Ready=True WriterAvailable=True StorageQuorum=True Progressing=False Degraded=False"
    );
    assert_eq!((status.ready.as_str(), status.storage.ready.as_str()), ("3/3", "6/6"));
    assert_eq!((status.writer.as_deref(), status.epoch), (Some("shop-0"), Some(1)));
    assert_eq!(status.endpoints.cluster.as_deref(), Some("shop-cluster.prod.svc.cluster.local:3306"));
}

#[test]
fn a_cluster_that_was_never_whole_is_being_created_and_not_degraded() {
    let status = status("W--", AuroraClusterStatus::default());
    assert_eq!(
        phase_and_conditions(&status),
        "Creating Ready=False WriterAvailable=True StorageQuorum=True Progressing=True Degraded=False"
    );
}

#[test]
fn a_cluster_that_lost_its_writer_fails_over() {
    let status = status("xrr", status("Wrr", AuroraClusterStatus::default()));
    assert!(phase_and_conditions(&status).starts_with("FailingOver Ready=False WriterAvailable=False"));
    assert_eq!(status.writer.as_deref(), Some("shop-0"), "the last one is remembered");
}

#[test]
fn too_few_storage_nodes_are_a_lost_quorum() {
    let mut seen = seen("Wrr");
    seen.status = status("Wrr", AuroraClusterStatus::default());
    for node in seen.storage.iter_mut().take(3) {
        node.node.reachable = false;
    }
    let status = next(&shop(|_| {}), &seen, &Done::default());
    assert!(phase_and_conditions(&status).starts_with("QuorumLost"), "{status:?}");
    assert_eq!(status.storage.ready, "3/6");
    let reasons: Vec<_> = notes(&seen.status, &status).into_iter().map(|note| note.reason).collect();
    assert_eq!(reasons, [EventReason::StorageQuorumLost]);
}

#[test]
fn a_condition_keeps_its_time_while_its_status_stays() {
    let mut old = status("Wrr", AuroraClusterStatus::default());
    for condition in &mut old.conditions {
        condition.last_transition_time = "2020-01-01T00:00:00Z".to_owned();
    }
    let new = status("Wrx", old);
    let time = |kind: &str| {
        let condition = new.conditions.iter().find(|c| c.condition_type == kind);
        condition.map(|c| c.last_transition_time.as_str())
    };
    assert_eq!(time("WriterAvailable"), Some("2020-01-01T00:00:00Z"));
    assert_ne!(time("Ready"), Some("2020-01-01T00:00:00Z"));
}

#[test]
fn equal_passes_give_equal_statuses() {
    let first = status("Wrr", AuroraClusterStatus::default());
    assert_eq!(status("Wrr", first.clone()), first);
}

#[test]
fn a_new_epoch_is_told_as_a_failover() {
    let old = status("Wrr", AuroraClusterStatus::default());
    let mut seen = seen("rWr");
    set_epoch(&mut seen, 1, 2);
    seen.status = old.clone();
    let new = next(&shop(|_| {}), &seen, &Done::default());
    let failover = new.last_failover.clone().expect("there was one");
    assert_eq!((failover.from.as_deref(), failover.to.as_str()), (Some("shop-0"), "shop-1"));
    let texts: Vec<_> = notes(&old, &new).into_iter().map(|note| note.text).collect();
    assert_eq!(texts, ["shop-1 took over from shop-0 with epoch 2"]);
}

#[test]
fn the_first_writer_is_no_failover() {
    let new = status("Wrr", AuroraClusterStatus::default());
    assert_eq!(new.last_failover, None);
    let reasons: Vec<_> =
        notes(&AuroraClusterStatus::default(), &new).into_iter().map(|note| note.reason).collect();
    assert_eq!(reasons, [EventReason::WriterPromoted, EventReason::BecameReady]);
}

#[test]
fn a_writer_with_an_older_epoch_is_shown_as_fenced() {
    let mut seen = seen("WWr");
    set_epoch(&mut seen, 1, 2);
    let status = next(&shop(|_| {}), &seen, &Done::default());
    assert_eq!(
        status.instances.iter().map(|i| i.role.as_str()).collect::<Vec<_>>(),
        ["fenced", "writer", "reader"]
    );
}
