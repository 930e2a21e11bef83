//! A failover that the user asked for by annotation: the writer is asked to resign; the data plane does the
//! rest. It has a deadline: after it the request is dropped and the cluster goes on with whoever writes.

use crds::cluster::Mode;
use crds::conditions::EventReason;
use crds::status::RequestedFailover;
use crds::validate::ValidatedCluster;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::runtime::events::EventType;

use super::Step;
use crate::controller::observe::Observed;
use crate::controller::status::Note;

/// How long a failover that was asked for may take.
const DEADLINE: SignedDuration = SignedDuration::from_secs(15);

/// What to do about the annotation, and what remains of the request.
pub(super) fn steps(want: &ValidatedCluster, seen: &Observed) -> (Vec<Step>, Option<RequestedFailover>) {
    match (&seen.failover_to, &seen.status.requested_failover) {
        (Some(to), None) => begin(want, seen, to),
        (_, Some(request)) => follow(want, seen, request),
        (None, None) => (vec![], None),
    }
}

fn begin(want: &ValidatedCluster, seen: &Observed, to: &str) -> (Vec<Step>, Option<RequestedFailover>) {
    let refuse = |why: String| {
        let note = Note { kind: EventType::Warning, reason: EventReason::FailoverRefused, text: why };
        (vec![Step::Tell(note), Step::ClearFailoverRequest], None)
    };
    if want.mode == Mode::MultiMaster {
        return refuse("in mode MultiMaster every instance writes: there is nothing to fail over".to_owned());
    }
    let Some((writer, epoch)) = seen.writer(want) else {
        return refuse("there is no writer that could hand over".to_owned());
    };
    if writer.name == to {
        return refuse(format!("{to} is the writer already"));
    }
    let ready = |i: &&crate::controller::observe::InstanceSeen| i.says().is_some_and(|status| status.ready);
    let mut others = seen.instances.iter().filter(|i| i.name != writer.name).filter(ready);
    if !others.any(|other| to.is_empty() || other.name == to) {
        let whom = if to.is_empty() { "a replica" } else { to };
        return refuse(format!("{whom} is not there or not ready to take over"));
    }
    let Some(address) = writer.pod.as_ref().and_then(|pod| pod.address) else {
        return refuse("the writer's address is not known".to_owned());
    };
    let target = (!to.is_empty()).then(|| to.to_owned());
    let text = match &target {
        Some(target) => format!("asked {} to hand over to {target}", writer.name),
        None => format!("asked {} to hand over", writer.name),
    };
    let note = Note { kind: EventType::Normal, reason: EventReason::FailoverRequested, text };
    let request = RequestedFailover {
        to: to.to_owned(),
        from_epoch: i64::try_from(epoch).unwrap_or(i64::MAX),
        deadline: (seen.now + DEADLINE).to_string(),
    };
    let resign = Step::Resign { writer: address, to: target };
    (vec![Step::Tell(note), resign, Step::ClearFailoverRequest], Some(request))
}

fn follow(
    want: &ValidatedCluster,
    seen: &Observed,
    request: &RequestedFailover,
) -> (Vec<Step>, Option<RequestedFailover>) {
    let moved = seen
        .writer(want)
        .is_some_and(|(_, epoch)| i64::try_from(epoch).unwrap_or(i64::MAX) > request.from_epoch);
    if moved {
        // The new writer's own Event says the rest.
        return (vec![], None);
    }
    let deadline: Option<Timestamp> = request.deadline.parse().ok();
    if deadline.is_some_and(|deadline| seen.now < deadline) {
        return (vec![], Some(request.clone()));
    }
    let text = "no other instance took over in time; the cluster goes on as it was".to_owned();
    let note = Note { kind: EventType::Warning, reason: EventReason::FailoverTimedOut, text };
    (vec![Step::Tell(note)], None)
}
