//! The status after a pass: pure, from what was seen and done; and its writing, with the Events that the
//! difference to the status before is worth.

use std::collections::BTreeMap;

use crds::cluster::{API_VERSION, AuroraCluster, KIND, Mode};
use crds::conditions::{ConditionType, EventReason, Phase, Reason};
use crds::names::{ClusterName, Component};
use crds::node_api::{InstanceState, MYSQL_PORT, Role, TakeoverReason};
use crds::status::{
    AuroraClusterStatus, Condition, EndpointsStatus, FailoverSummary, InstanceSummary, StorageNodeSummary,
    StorageSummary,
};
use crds::validate::ValidatedCluster;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use tracing::warn;

use super::apply::Done;
use super::build::budget::write_quorum;
use super::observe::{InstanceSeen, Observed, StorageSeen};
use crate::children::ClusterRef;
use crate::context::{Context, FIELD_MANAGER};
use crate::nodes::coarse_lag;

/// An Event to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Note {
    pub(crate) kind: EventType,
    pub(crate) reason: EventReason,
    pub(crate) text: String,
}

/// The next status.
pub(crate) fn next(want: &ValidatedCluster, seen: &Observed, done: &Done) -> AuroraClusterStatus {
    let old = &seen.status;
    let wanted = || seen.instances.iter().filter(|instance| instance.ordinal < want.instances);
    let ready = wanted().filter(|instance| instance.ready()).count();
    let voting = seen.storage.iter().filter(|node| node.votes()).count();
    let quorum = voting >= usize::from(write_quorum(want));
    let writer = seen.writer(want);
    let facts = Facts {
        instances: usize::from(want.instances),
        ready,
        storage: usize::from(want.storage_nodes),
        voting,
        quorum,
        writes: match want.mode {
            Mode::SingleMaster => writer.is_some(),
            Mode::MultiMaster => seen.instances.iter().any(InstanceSeen::writes),
        },
    };
    let was_ready = was_ready(old);
    let single = want.mode == Mode::SingleMaster;
    AuroraClusterStatus {
        observed_generation: seen.generation,
        phase: facts.phase(was_ready).to_string(),
        ready: format!("{ready}/{}", want.instances),
        // While there is none, the last one is remembered: the condition says that it is gone.
        writer: writer
            .map(|(writer, _)| writer.name.clone())
            .or_else(|| old.writer.clone())
            .filter(|_| single),
        epoch: writer.map(|(_, epoch)| signed(epoch)).or(old.epoch).filter(|_| single),
        endpoints: endpoints(want, &seen.owner.namespace),
        instances: seen.instances.iter().map(|i| instance_summary(i, writer.map(|(w, _)| w))).collect(),
        instance_count: i32::try_from(seen.instances.iter().filter(|i| i.pod.is_some()).count())
            .unwrap_or(i32::MAX),
        selector: selector(want),
        storage: StorageSummary {
            ready: format!("{voting}/{}", want.storage_nodes),
            quorum,
            nodes: seen.storage.iter().map(storage_summary).collect(),
        },
        last_failover: last_failover(old, writer, seen.now),
        requested_failover: done.requested_failover.clone(),
        credentials_secret: want.secret_name.clone(),
        conditions: facts.conditions(was_ready, old, seen.generation, seen.now),
    }
}

/// The status of a cluster whose specification is not allowed: what was known stays.
pub(crate) fn invalid(cluster: &AuroraCluster, message: &str, now: Timestamp) -> AuroraClusterStatus {
    let old = cluster.status.clone().unwrap_or_default();
    let generation = cluster.metadata.generation.unwrap_or_default();
    let condition = |kind, state, reason| Draft { kind, state, reason, message: message.to_owned() };
    let drafts = [
        condition(ConditionType::Ready, false, Reason::InvalidSpec),
        condition(ConditionType::Degraded, true, Reason::InvalidSpec),
    ];
    let mut conditions: Vec<Condition> =
        drafts.into_iter().map(|draft| draft.finish(&old, generation, now)).collect();
    let kept =
        old.conditions.iter().filter(|o| conditions.iter().all(|c| c.condition_type != o.condition_type));
    let kept: Vec<Condition> = kept.cloned().collect();
    conditions.extend(kept);
    AuroraClusterStatus {
        observed_generation: generation,
        phase: Phase::Invalid.to_string(),
        conditions,
        ..old
    }
}

/// Whether the cluster has been whole before.
fn was_ready(old: &AuroraClusterStatus) -> bool {
    !matches!(old.phase.as_str(), "" | "Creating" | "Invalid")
}

/// What the phase and the conditions follow from.
#[derive(Clone, Copy, Debug)]
struct Facts {
    instances: usize,
    ready: usize,
    storage: usize,
    voting: usize,
    quorum: bool,
    writes: bool,
}

impl Facts {
    fn complete(&self) -> bool {
        self.quorum && self.writes && self.ready >= self.instances && self.voting >= self.storage
    }

    fn phase(&self, was_ready: bool) -> Phase {
        if self.complete() {
            Phase::Available
        } else if !was_ready {
            Phase::Creating
        } else if !self.quorum {
            Phase::QuorumLost
        } else if !self.writes {
            Phase::FailingOver
        } else {
            Phase::Degraded
        }
    }

    /// What is missing, in one sentence each.
    fn missing(&self) -> Vec<(Reason, String)> {
        let mut missing = Vec::new();
        if self.voting < self.storage {
            let text = format!("{} of {} storage nodes vote", self.voting, self.storage);
            missing.push((Reason::StorageUnavailable, text));
        }
        if !self.writes {
            missing.push((Reason::NoWriter, "no instance accepts writes".to_owned()));
        }
        if self.ready < self.instances {
            let text = format!("{} of {} instances are ready", self.ready, self.instances);
            missing.push((Reason::InstancesUnavailable, text));
        }
        missing
    }

    fn conditions(
        &self,
        was_ready: bool,
        old: &AuroraClusterStatus,
        generation: i64,
        now: Timestamp,
    ) -> Vec<Condition> {
        let missing = self.missing();
        let text = missing.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("; ");
        let whole = "everything is there as specified".to_owned();
        let first_reason = missing.first().map_or(Reason::AsSpecified, |(reason, _)| *reason);
        let starting = match first_reason {
            Reason::StorageUnavailable => Reason::StorageStarting,
            _ => Reason::InstancesStarting,
        };
        let complete = self.complete();
        let reason_if_missing = if was_ready { first_reason } else { starting };
        let drafts = [
            Draft {
                kind: ConditionType::Ready,
                state: complete,
                reason: if complete { Reason::AsSpecified } else { reason_if_missing },
                message: if complete { whole.clone() } else { text.clone() },
            },
            Draft {
                kind: ConditionType::WriterAvailable,
                state: self.writes,
                reason: if self.writes { Reason::WriterServing } else { Reason::NoWriter },
                message: if self.writes {
                    "an instance accepts writes"
                } else {
                    "no instance accepts writes"
                }
                .to_owned(),
            },
            Draft {
                kind: ConditionType::StorageQuorum,
                state: self.quorum,
                reason: if self.quorum { Reason::QuorumReached } else { Reason::QuorumLost },
                message: format!("{} of {} storage nodes vote", self.voting, self.storage),
            },
            Draft {
                kind: ConditionType::Progressing,
                state: !complete,
                reason: if complete { Reason::AsSpecified } else { starting },
                message: if complete { whole.clone() } else { text.clone() },
            },
            Draft {
                kind: ConditionType::Degraded,
                state: was_ready && !complete,
                reason: if was_ready && !complete { first_reason } else { Reason::NothingMissing },
                message: if was_ready && !complete {
                    text
                } else {
                    "nothing that was there is missing".into()
                },
            },
        ];
        drafts.into_iter().map(|draft| draft.finish(old, generation, now)).collect()
    }
}

/// A condition without its times.
struct Draft {
    kind: ConditionType,
    state: bool,
    reason: Reason,
    message: String,
}

impl Draft {
    /// The time of the last transition stays while the status does.
    fn finish(self, old: &AuroraClusterStatus, generation: i64, now: Timestamp) -> Condition {
        let condition_type = self.kind.to_string();
        let status = if self.state { "True" } else { "False" };
        let before = old.conditions.iter().find(|c| c.condition_type == condition_type && c.status == status);
        let since = before.map(|before| before.last_transition_time.clone());
        Condition {
            condition_type,
            status: status.to_owned(),
            reason: self.reason.to_string(),
            message: self.message,
            last_transition_time: since.unwrap_or_else(|| whole_seconds(now)),
            observed_generation: generation,
        }
    }
}

fn whole_seconds(now: Timestamp) -> String {
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

fn signed(epoch: u64) -> i64 {
    i64::try_from(epoch).unwrap_or(i64::MAX)
}

fn endpoints(want: &ValidatedCluster, namespace: &str) -> EndpointsStatus {
    let address = |service: &str| format!("{}:{MYSQL_PORT}", ClusterName::host(service, namespace));
    let single = want.mode == Mode::SingleMaster;
    let names = (0..want.instances).map(|ordinal| want.name.instance(ordinal));
    EndpointsStatus {
        cluster: single.then(|| address(&want.name.cluster_endpoint())),
        reader: single.then(|| address(&want.name.reader_endpoint())),
        instances: names.map(|name| (name.clone(), address(&name))).collect::<BTreeMap<_, _>>(),
    }
}

fn selector(want: &ValidatedCluster) -> String {
    let labels = want.name.selector(Component::Instance);
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

fn instance_summary(instance: &InstanceSeen, writer: Option<&InstanceSeen>) -> InstanceSummary {
    let says = instance.says();
    let role = match says.map(|status| status.role) {
        // Of two that take themselves for the writer, the newer epoch is right.
        Some(Role::Writer) if writer.is_some_and(|writer| writer.name != instance.name) => "fenced",
        Some(Role::Writer) => "writer",
        Some(Role::Reader) => "reader",
        None => "unknown",
    };
    let state = says.map_or("unreachable", |status| match status.state {
        InstanceState::Starting => "starting",
        InstanceState::Recovering => "recovering",
        InstanceState::Available => "available",
        InstanceState::Isolated => "isolated",
        InstanceState::Stopping => "stopping",
    });
    InstanceSummary {
        name: instance.name.clone(),
        role: role.to_owned(),
        state: state.to_owned(),
        ready: instance.ready(),
        lag_milliseconds_at_most: says.and_then(|status| status.lag_ms).map(coarse_lag),
        zone: instance
            .pod
            .as_ref()
            .and_then(|pod| pod.zone.clone())
            .or_else(|| says.and_then(|status| status.zone.clone())),
    }
}

fn storage_summary(node: &StorageSeen) -> StorageNodeSummary {
    let zone = node.pod.as_ref().and_then(|pod| pod.zone.clone());
    StorageNodeSummary {
        name: node.name.clone(),
        voting: node.votes(),
        zone: zone.or_else(|| node.says().and_then(|status| status.zone.clone())),
    }
}

/// A new epoch is a failover, unless it is the cluster's first writer.
fn last_failover(
    old: &AuroraClusterStatus,
    writer: Option<(&InstanceSeen, u64)>,
    now: Timestamp,
) -> Option<FailoverSummary> {
    let before = || old.last_failover.clone();
    let Some((writer, epoch)) = writer else { return before() };
    let (Some(old_writer), Some(old_epoch)) = (&old.writer, old.epoch) else { return before() };
    if signed(epoch) <= old_epoch {
        return before();
    }
    let takeover = writer.says().and_then(|status| status.takeover.clone());
    let reason = takeover.as_ref().map_or("Unknown", |takeover| match takeover.reason {
        TakeoverReason::FirstStart => "FirstStart",
        TakeoverReason::Resigned => "Resigned",
        TakeoverReason::Disconnected => "Disconnected",
        TakeoverReason::Silent => "Silent",
    });
    Some(FailoverSummary {
        from: Some(old_writer.clone()),
        to: writer.name.clone(),
        reason: reason.to_owned(),
        // A float from outside: `as` saturates, which is what is wanted.
        milliseconds: takeover.map(|takeover| takeover.milliseconds.max(0.0).round() as i64),
        time: whole_seconds(now),
    })
}

/// The Events that the change from one status to the next is worth.
pub(crate) fn notes(old: &AuroraClusterStatus, new: &AuroraClusterStatus) -> Vec<Note> {
    let is = |status: &AuroraClusterStatus, kind: ConditionType| {
        let kind = kind.to_string();
        status.conditions.iter().find(|c| c.condition_type == kind).map(|c| c.status == "True")
    };
    let mut notes = Vec::new();
    let mut tell = |kind, reason, text: String| notes.push(Note { kind, reason, text });
    let changed = |kind| (is(old, kind).unwrap_or(false), is(new, kind).unwrap_or(false));
    if let (true, false) = changed(ConditionType::StorageQuorum) {
        let text = format!("writes wait: {} storage nodes vote", new.storage.ready);
        tell(EventType::Warning, EventReason::StorageQuorumLost, text);
    }
    if let (true, (false, true)) = (was_ready(old), changed(ConditionType::StorageQuorum)) {
        let text = format!("{} storage nodes vote", new.storage.ready);
        tell(EventType::Normal, EventReason::StorageQuorumRestored, text);
    }
    if let (true, false) = changed(ConditionType::WriterAvailable) {
        let who = old.writer.as_deref().unwrap_or("the writer");
        let text = format!("{who} does not accept writes any more");
        tell(EventType::Warning, EventReason::WriterLost, text);
    }
    if let (Some(writer), Some(epoch)) = (&new.writer, new.epoch)
        && old.epoch != new.epoch
    {
        let took =
            new.last_failover.as_ref().filter(|failover| old.last_failover.as_ref() != Some(*failover));
        let text = match took {
            Some(FailoverSummary { from: Some(from), reason, milliseconds: Some(ms), .. }) => {
                format!("{writer} took over from {from} with epoch {epoch} in {ms} ms ({reason})")
            }
            Some(FailoverSummary { from: Some(from), .. }) => {
                format!("{writer} took over from {from} with epoch {epoch}")
            }
            Some(_) | None => format!("{writer} holds the volume with epoch {epoch}"),
        };
        tell(EventType::Normal, EventReason::WriterPromoted, text);
    }
    if let (false, true) = changed(ConditionType::Ready) {
        let text = format!("{} instances are ready, {} storage nodes vote", new.ready, new.storage.ready);
        tell(EventType::Normal, EventReason::BecameReady, text);
    }
    notes
}

/// Writes the status, if it changed, and publishes the Events. An Event that is lost is not worth a pass.
///
/// # Errors
///
/// If the API server refuses the status.
pub(crate) async fn write(
    context: &Context,
    at: &ClusterRef,
    cluster: &AuroraCluster,
    seen: &Observed,
    done_notes: &[Note],
    status: &AuroraClusterStatus,
) -> Result<(), kube::Error> {
    debug_assert_eq!(cluster.name_any(), at.name, "the status is written to the cluster that was seen");
    for note in notes(&seen.status, status).iter().chain(done_notes) {
        publish(context, cluster, note).await;
    }
    if cluster.status.as_ref() == Some(status) {
        return Ok(());
    }
    patch(context, cluster, status).await
}

/// Writes a whole status.
///
/// # Errors
///
/// If the API server refuses it.
pub(crate) async fn patch(
    context: &Context,
    cluster: &AuroraCluster,
    status: &AuroraClusterStatus,
) -> Result<(), kube::Error> {
    let namespace = cluster.namespace().unwrap_or_default();
    let clusters: Api<AuroraCluster> = Api::namespaced(context.client.clone(), &namespace);
    let body = json!({ "apiVersion": API_VERSION, "kind": KIND, "status": status });
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    match clusters.patch_status(&cluster.name_any(), &parameters, &Patch::Apply(body)).await {
        Ok(_) => Ok(()),
        // It was deleted meanwhile.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

/// Publishes one Event.
pub(crate) async fn publish(context: &Context, cluster: &AuroraCluster, note: &Note) {
    let event = Event {
        type_: note.kind,
        reason: note.reason.to_string(),
        note: Some(note.text.chars().take(1024).collect()),
        action: note.reason.to_string(),
        secondary: None,
    };
    // A recorder of its own: a shared one merges Events of one reason and keeps the first one's text, so that
    // a second failover would seem to lead to the first one's writer.
    let recorder = Recorder::new(context.client.clone(), context.reporter.clone());
    if let Err(error) = recorder.publish(&event, &cluster.object_ref(&())).await {
        warn!(%error, reason = %note.reason, "failed to publish an Event");
    }
}

#[cfg(test)]
mod tests;
