//! Where the endpoints lead in single-master mode, and the pods' role labels. In multi-master mode Kubernetes
//! itself leads the instances' Services to their pods.

use crds::cluster::Mode;
use crds::conditions::ConditionType;
use crds::names::{LABEL_EPOCH, LABEL_ROLE};
use crds::node_api::Role;
use crds::validate::ValidatedCluster;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{Step, is_stale};
use crate::children::{ChildRef, Kind, PodSeen};
use crate::controller::build::{ANNOTATION_WRITER, Backend, slice};
use crate::controller::observe::{InstanceSeen, Observed};

/// Value of the role label.
const WRITER: &str = "writer";
const READER: &str = "reader";

/// How long after the loss of a writer a new one is expected any moment.
const PROMOTION: SignedDuration = SignedDuration::from_secs(5);

/// What the cluster endpoint leads to now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Published {
    epoch: u64,
    writer: String,
}

pub(super) fn steps(want: &ValidatedCluster, seen: &Observed) -> Vec<Step> {
    match want.mode {
        Mode::SingleMaster => single_master(want, seen),
        Mode::MultiMaster => labels(seen, |_| Some(WRITER)),
    }
}

fn single_master(want: &ValidatedCluster, seen: &Observed) -> Vec<Step> {
    let published = published(want, seen);
    // A stale writer is refused, not trusted: storage refuses its writes as well.
    let writer = seen.writer(want).filter(|(_, epoch)| *epoch >= published.epoch);
    let Some((writer, epoch)) = writer else {
        // Nothing final to publish: the cluster endpoint stays until there is.
        return if awaits_writer(seen) { vec![] } else { other_slices(want, seen, None) };
    };
    let mut steps = labels(seen, |instance| {
        let stale = instance.name != writer.name && has_label(instance, WRITER);
        if stale { None } else { current_label(instance) }
    });
    if let Some(backend) = writer.pod.as_ref().and_then(Backend::of) {
        let wanted = Published { epoch, writer: backend.identity() };
        let name = want.name.cluster_endpoint();
        let object = slice(
            want,
            &seen.owner,
            &name,
            std::slice::from_ref(&backend),
            Some(epoch),
            backend.address.is_ipv6(),
        );
        if wanted != published {
            steps.push(Step::Publish { slice: object, writer: writer.name.clone(), epoch });
        } else if is_stale(seen, &object) {
            steps.push(Step::Apply(object));
        }
    }
    let after = labels(seen, |instance| match role(instance, &writer.name) {
        Some(Role::Writer) => Some(WRITER),
        Some(Role::Reader) => Some(READER),
        None => None,
    });
    // What the first labels already did needs no repeating.
    steps.extend(after.into_iter().filter(|step| !steps_contains(&seen.instances, step, &writer.name)));
    steps.extend(other_slices(want, seen, Some(writer)));
    steps
}

/// Whether a new writer may be expected any moment.
fn awaits_writer(seen: &Observed) -> bool {
    let kind = ConditionType::WriterAvailable.to_string();
    let Some(condition) = seen.status.conditions.iter().find(|c| c.condition_type == kind) else {
        return false;
    };
    let since: Option<Timestamp> = condition.last_transition_time.parse().ok();
    condition.status == "True" || since.is_some_and(|since| seen.now.duration_since(since) < PROMOTION)
}

/// Names of the EndpointSlices that the operator writes.
pub(super) fn slices(want: &ValidatedCluster) -> Vec<String> {
    match want.mode {
        Mode::MultiMaster => vec![],
        Mode::SingleMaster => [want.name.cluster_endpoint(), want.name.reader_endpoint()]
            .into_iter()
            .chain((0..want.instances).map(|ordinal| want.name.instance(ordinal)))
            .collect(),
    }
}

/// The reader endpoint and the instances' own. Unchanged while nothing is known, be it that the whole cluster
/// is down or that this operator is cut off from it.
fn other_slices(want: &ValidatedCluster, seen: &Observed, writer: Option<&InstanceSeen>) -> Vec<Step> {
    if !seen.reaches_any_instance() {
        return vec![];
    }
    let wanted = seen.instances.iter().filter(|instance| instance.ordinal < want.instances);
    let own = wanted.filter_map(|instance| instance_slice(want, seen, instance, writer));
    reader_slice(want, seen, writer).into_iter().chain(own).collect()
}

/// An instance's own endpoint: its pod, while it serves. A writer that is being deleted serves until another
/// has taken over.
fn instance_slice(
    want: &ValidatedCluster,
    seen: &Observed,
    instance: &InstanceSeen,
    writer: Option<&InstanceSeen>,
) -> Option<Step> {
    let is_writer = writer.is_some_and(|writer| writer.name == instance.name);
    let serves = |pod: &&PodSeen| {
        let ready = pod.ready || instance.says().is_some_and(|status| status.ready);
        is_writer || (pod.alive && !pod.deleting && ready)
    };
    let pod = instance.pod.as_ref().filter(serves);
    let backends: Vec<Backend> = pod.and_then(Backend::of).into_iter().collect();
    let object = slice(want, &seen.owner, &instance.name, &backends, None, is_six(seen)?);
    is_stale(seen, &object).then_some(Step::Apply(object))
}

/// Whether a step only repeats that a former writer loses its label.
fn steps_contains(instances: &[InstanceSeen], step: &Step, writer: &str) -> bool {
    let Step::Label { pod, role: None } = step else { return false };
    instances.iter().any(|i| i.name == *pod && i.name != writer && has_label(i, WRITER))
}

/// The role that an instance's label shall tell: none while it is not known.
fn role(instance: &InstanceSeen, writer: &str) -> Option<Role> {
    if instance.name == writer {
        return Some(Role::Writer);
    }
    instance.says().filter(|status| status.role == Role::Reader).map(|_| Role::Reader)
}

fn labels(seen: &Observed, wanted: impl Fn(&InstanceSeen) -> Option<&'static str>) -> Vec<Step> {
    let living = seen.instances.iter().filter(|i| i.pod.as_ref().is_some_and(|pod| pod.alive));
    let changed = living.filter(|instance| wanted(instance) != current_label(instance));
    changed.map(|i| Step::Label { pod: i.name.clone(), role: wanted(i) }).collect()
}

fn current_label(instance: &InstanceSeen) -> Option<&'static str> {
    [WRITER, READER].into_iter().find(|role| has_label(instance, role))
}

fn has_label(instance: &InstanceSeen, role: &str) -> bool {
    instance.pod.as_ref().is_some_and(|pod| pod.labels.get(LABEL_ROLE).is_some_and(|label| label == role))
}

fn published(want: &ValidatedCluster, seen: &Observed) -> Published {
    let child = ChildRef { kind: Kind::EndpointSlice, name: want.name.cluster_endpoint() };
    let Some(slice) = seen.children.get(&child) else { return Published::default() };
    Published {
        epoch: slice.labels.get(LABEL_EPOCH).and_then(|epoch| epoch.parse().ok()).unwrap_or_default(),
        writer: slice.annotations.get(ANNOTATION_WRITER).cloned().unwrap_or_default(),
    }
}

/// Whether the pods' addresses are of IPv6; `None` while no pod has one.
fn is_six(seen: &Observed) -> Option<bool> {
    seen.instances.iter().find_map(|instance| Some(instance.pod.as_ref()?.address?.is_ipv6()))
}

/// The reader endpoint: the replicas that serve; the writer where there are none.
fn reader_slice(want: &ValidatedCluster, seen: &Observed, writer: Option<&InstanceSeen>) -> Option<Step> {
    let is_writer = |instance: &InstanceSeen| writer.is_some_and(|writer| writer.name == instance.name);
    let replicas = seen.instances.iter().filter(|instance| {
        let reads = instance.says().is_some_and(|status| status.ready && status.role == Role::Reader);
        reads && !is_writer(instance) && instance.pod.as_ref().is_some_and(|pod| !pod.deleting)
    });
    let mut backends: Vec<Backend> = replicas.filter_map(|i| Backend::of(i.pod.as_ref()?)).collect();
    if backends.is_empty() {
        backends.push(Backend::of(writer?.pod.as_ref()?)?);
    }
    let object = slice(want, &seen.owner, &want.name.reader_endpoint(), &backends, None, is_six(seen)?);
    is_stale(seen, &object).then_some(Step::Apply(object))
}
