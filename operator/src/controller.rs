//! One pass over one cluster, and what starts a pass: a change of the resource, of an object it owns, of a
//! pod, or of what a node says of itself.

mod apply;
mod build;
mod observe;
mod plan;
mod status;

use std::sync::Arc;
use std::time::Duration;

use crds::cluster::AuroraCluster;
use crds::conditions::{EventReason, Phase};
use crds::validate::{SpecError, validate_spec};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::events::EventType;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, instrument};

use crate::children::{
    ChildSeen, ClusterRef, Follow, GuardedCluster, Kind, PodSeen, Wake, child_row, owned_selector, pod_row,
    pod_selector, slice_selector,
};
use crate::context::{Context, Settings};
use crate::metrics::Metrics;
use crate::nodes::{Nodes, Target};

/// How often a cluster is looked at though nothing seems to have changed.
const RESYNC: Duration = Duration::from_secs(60);
/// How soon a pass is repeated that came before every node had been asked for its status, or before what is left
/// of a former cluster of the same name was gone.
const UNSETTLED: Duration = Duration::from_millis(200);
/// How soon a cluster is looked at again while a failover is under way.
const FAILOVER_POLL: Duration = Duration::from_secs(1);

/// Why a pass failed. The name of the variant is the metric's label.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the resource has no name, namespace or uid")]
    Incomplete,
    #[error("the resource cannot be read")]
    Unreadable(#[source] Box<kube::core::error_boundary::InvalidObject>),
    #[error("failed to observe the cluster")]
    Observe(#[source] observe::ObserveError),
    #[error("failed to carry out the plan")]
    Apply(#[source] apply::ApplyError),
    #[error("failed to write the status")]
    Status(#[source] Box<kube::Error>),
}

impl Error {
    fn label(&self) -> &'static str {
        match self {
            Error::Incomplete => "incomplete",
            Error::Unreadable(_) => "unreadable",
            Error::Observe(_) => "observe",
            Error::Apply(_) => "apply",
            Error::Status(_) => "status",
        }
    }
}

/// An error and its sources, in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

/// Runs until `stop`.
pub(crate) async fn run(client: Client, settings: Settings, metrics: Arc<Metrics>, stop: CancellationToken) {
    let (wake, woken) = Wake::new();
    let nodes = Arc::new(Nodes::new(wake.clone(), metrics.clone()));
    let context = Arc::new(Context::new(client.clone(), settings, metrics, nodes.clone()));
    let mut watches = JoinSet::new();
    let mut listed = Vec::new();
    follow_children::<StatefulSet>(&context, &wake, Kind::StatefulSet, &mut watches, &mut listed);
    follow_children::<Service>(&context, &wake, Kind::Service, &mut watches, &mut listed);
    follow_children::<EndpointSlice>(&context, &wake, Kind::EndpointSlice, &mut watches, &mut listed);
    let budgets = Kind::PodDisruptionBudget;
    follow_children::<PodDisruptionBudget>(&context, &wake, budgets, &mut watches, &mut listed);
    follow_pods(&context, &wake, &mut watches, &mut listed);
    for first_list in &mut listed {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = first_list.wait_for(|listed| *listed) => {}
        }
    }
    info!("watching");

    let clusters: Api<GuardedCluster> = api(&context);
    Controller::new(clusters, watcher::Config::default().timeout(60))
        .reconcile_on(woken)
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(reconcile, error_policy, context.clone())
        .for_each(async |outcome| {
            // Whatever else goes wrong is told by `error_policy`.
            if let Err(kube::runtime::controller::Error::ObjectNotFound(gone)) = outcome {
                let namespace = gone.namespace.unwrap_or_default();
                context.forget(&ClusterRef { namespace, name: gone.name });
            }
        })
        .await;
    watches.shutdown().await;
    nodes.stop().await;
}

fn api<K>(context: &Context) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match &context.settings.watch_namespace {
        Some(namespace) => Api::namespaced(context.client.clone(), namespace),
        None => Api::all(context.client.clone()),
    }
}

type Listed = Vec<tokio::sync::watch::Receiver<bool>>;

fn follow_children<K>(
    context: &Arc<Context>,
    wake: &Wake,
    kind: Kind,
    watches: &mut JoinSet<()>,
    first_lists: &mut Listed,
) where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (listed, first_list) = tokio::sync::watch::channel(false);
    first_lists.push(first_list);
    let selector = if kind == Kind::EndpointSlice { slice_selector() } else { owned_selector() };
    let follow: Follow<PartialObjectMeta<K>, ChildSeen> = Follow {
        api: api(context),
        kind,
        selector,
        table: context.children.clone(),
        wake: wake.clone(),
        listed,
    };
    watches.spawn(async move { follow.run(child_row, |_, _, _| {}).await });
}

fn follow_pods(context: &Arc<Context>, wake: &Wake, watches: &mut JoinSet<()>, first_lists: &mut Listed) {
    let (listed, first_list) = tokio::sync::watch::channel(false);
    first_lists.push(first_list);
    let follow: Follow<Pod, PodSeen> = Follow {
        api: api(context),
        kind: Kind::StatefulSet,
        selector: pod_selector(),
        table: context.pods.clone(),
        wake: wake.clone(),
        listed,
    };
    let nodes = context.nodes.clone();
    watches.spawn(async move {
        follow
            .run(pod_row, |cluster, old, new| {
                if let Some(old) = old.filter(|old| new.is_none_or(|new| new.uid != old.uid || !new.alive)) {
                    nodes.forget(&old.uid);
                }
                if let Some((pod, address)) = new.filter(|pod| pod.alive).and_then(|p| Some((p, p.address?)))
                {
                    let (uid, name) = (pod.uid.clone(), pod.name.clone());
                    nodes.watch(Target { uid, name, address, cluster: cluster.clone() });
                }
            })
            .await;
    });
}

#[instrument(skip_all, fields(cluster = cluster.name_any(), namespace = cluster.namespace()))]
async fn reconcile(cluster: Arc<GuardedCluster>, context: Arc<Context>) -> Result<Action, Error> {
    let _timer = context.metrics.time_reconcile();
    let at = cluster_ref(&cluster).ok_or(Error::Incomplete)?;
    let cluster = match &cluster.0 {
        Ok(cluster) => cluster,
        Err(invalid) => return Err(Error::Unreadable(Box::new(invalid.clone()))),
    };
    if cluster.metadata.deletion_timestamp.is_some() {
        // Everything has an owner reference: Kubernetes deletes it.
        return Ok(Action::await_change());
    }
    let want = match validate_spec(&at.name, &cluster.spec) {
        Ok(want) => want,
        Err(errors) => return refuse(&context, cluster, &errors).await,
    };
    let seen = observe::observe(&context, &at, cluster, &want).await.map_err(Error::Observe)?; // IO
    if !seen.settled {
        return Ok(Action::requeue(UNSETTLED));
    }
    let objects = build::objects(&want, &seen.owner, &context.settings); // pure, cannot fail
    let plan = plan::plan(&want, &seen, objects); // pure, cannot fail
    let done = apply::apply(&context, &at, plan, &seen).await.map_err(Error::Apply)?; // IO
    let status = status::next(&want, &seen, &done); // pure
    status::write(&context, &at, cluster, &seen, &done.notes, &status)
        .await
        .map_err(|e| Error::Status(Box::new(e)))?; // IO
    // What was put off while a new writer was expected must not wait for the next change.
    let under_way = status.requested_failover.is_some() || status.phase == Phase::FailingOver.to_string();
    context.remember(&at, &seen.owner.uid, done.applied, (want.secret_name, seen.secret_seen));
    Ok(Action::requeue(if under_way { FAILOVER_POLL } else { RESYNC }))
}

/// Says what is allowed, and waits for a change: repeating a wrong specification does not mend it.
async fn refuse(context: &Context, cluster: &AuroraCluster, errors: &[SpecError]) -> Result<Action, Error> {
    let message = errors.iter().map(SpecError::to_string).collect::<Vec<_>>().join("; ");
    let status = status::invalid(cluster, &message, k8s_openapi::jiff::Timestamp::now());
    if cluster.status.as_ref() != Some(&status) {
        status::patch(context, cluster, &status).await.map_err(|error| Error::Status(Box::new(error)))?;
        let note = status::Note { kind: EventType::Warning, reason: EventReason::InvalidSpec, text: message };
        status::publish(context, cluster, &note).await;
    }
    Ok(Action::await_change())
}

fn error_policy(cluster: Arc<GuardedCluster>, failure: &Error, context: Arc<Context>) -> Action {
    context.metrics.count_failure(failure.label());
    error!(
        cluster = cluster.name_any(),
        namespace = cluster.namespace(),
        error = chain(failure),
        "a pass over a cluster failed"
    );
    match (failure, cluster_ref(&cluster)) {
        (Error::Incomplete | Error::Unreadable(_), _) | (_, None) => Action::await_change(),
        (Error::Observe(_) | Error::Apply(_) | Error::Status(_), Some(at)) => {
            Action::requeue(context.back_off(&at))
        }
    }
}

fn cluster_ref(cluster: &GuardedCluster) -> Option<ClusterRef> {
    let metadata = cluster.meta();
    Some(ClusterRef { namespace: metadata.namespace.clone()?, name: metadata.name.clone()? })
}
