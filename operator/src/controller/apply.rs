//! Carries a plan out, in order. Decides nothing.

use crds::cluster::AuroraCluster;
use crds::conditions::EventReason;
use crds::names::{ANNOTATION_FAILOVER_TO, LABEL_ROLE};
use crds::status::RequestedFailover;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::runtime::events::EventType;
use serde_json::json;
use tracing::info;

use super::build::Object;
use super::observe::Observed;
use super::plan::{Plan, Step};
use super::status::Note;
use crate::children::{ClusterRef, Kind, Version};
use crate::context::{Applied, Context, FIELD_MANAGER};
use crate::node_client;

#[derive(Debug, thiserror::Error)]
#[error("failed to {action} {what}")]
pub(crate) struct ApplyError {
    action: &'static str,
    what: String,
    #[source]
    source: Box<kube::Error>,
}

/// What a plan came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    pub(crate) applied: Applied,
    pub(crate) requested_failover: Option<RequestedFailover>,
    pub(crate) notes: Vec<Note>,
}

/// Carries the plan out.
///
/// # Errors
///
/// At the first step that the API server refuses; the steps before it stand, and repeating them is harmless.
pub(crate) async fn apply(
    context: &Context,
    at: &ClusterRef,
    plan: Plan,
    seen: &Observed,
) -> Result<Done, ApplyError> {
    let mut done = Done {
        applied: seen.applied.clone(),
        requested_failover: plan.requested_failover,
        notes: Vec::new(),
    };
    for step in plan.steps {
        match step {
            Step::Label { pod, role } => label(context, at, &pod, role).await?,
            Step::Publish { slice, writer, epoch } => {
                apply_object(context, at, slice, &mut done).await?;
                context.metrics.published_writers.inc();
                info!(writer, epoch, "the cluster endpoint leads to a new writer");
                let text = format!("the cluster endpoint leads to {writer}, epoch {epoch}");
                let note = Note { kind: EventType::Normal, reason: EventReason::EndpointSwitched, text };
                done.notes.push(note);
            }
            Step::Apply(object) => apply_object(context, at, object, &mut done).await?,
            Step::Create(object) => create(context, at, &object).await?,
            Step::Delete(child) => {
                let objects = api(context, at, child.kind);
                let deleted = objects.delete(&child.name, &DeleteParams::background()).await;
                ignore_absent(deleted.map(|_| ())).map_err(failed("delete", &child.name))?;
                done.applied.remove(&child);
            }
            Step::Resign { writer, to } => {
                if let Err(error) = resign(context, at, writer, to.as_deref(), seen).await {
                    let text = format!("the writer did not hand over: {error}");
                    let note = Note { kind: EventType::Warning, reason: EventReason::FailoverRefused, text };
                    done.notes.push(note);
                    done.requested_failover = None;
                }
            }
            Step::ClearFailoverRequest => clear_request(context, at).await?,
            Step::Tell(note) => done.notes.push(note),
        }
    }
    Ok(done)
}

fn failed(action: &'static str, what: &str) -> impl FnOnce(kube::Error) -> ApplyError {
    let what = what.to_owned();
    move |source| ApplyError { action, what, source: Box::new(source) }
}

fn ignore_absent(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other,
    }
}

fn api(context: &Context, at: &ClusterRef, kind: Kind) -> Api<DynamicObject> {
    let resource = match kind {
        Kind::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
        Kind::Service => ApiResource::erase::<Service>(&()),
        Kind::EndpointSlice => ApiResource::erase::<EndpointSlice>(&()),
        Kind::PodDisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
        Kind::Secret => ApiResource::erase::<Secret>(&()),
    };
    Api::namespaced_with(context.client.clone(), &at.namespace, &resource)
}

async fn apply_object(
    context: &Context,
    at: &ClusterRef,
    object: Object,
    done: &mut Done,
) -> Result<(), ApplyError> {
    // Forced: without it, somebody's `kubectl edit` would make every later pass fail with a conflict.
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let objects = api(context, at, object.child.kind);
    let applied = objects.patch(&object.child.name, &parameters, &Patch::Apply(&object.body)).await;
    let what = format!("{} {}", object.child.kind.name(), object.child.name);
    let applied = applied.map_err(failed("apply", &what))?;
    let hash = object.hash();
    done.applied.insert(object.child, (hash, Version::of(&applied)));
    Ok(())
}

async fn create(context: &Context, at: &ClusterRef, object: &Object) -> Result<(), ApplyError> {
    let objects = api(context, at, object.child.kind);
    let body: DynamicObject = serde_json::from_value(object.body.clone())
        .map_err(|error| failed("create", &object.child.name)(kube::Error::SerdeError(error)))?;
    let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match objects.create(&parameters, &body).await {
        Ok(_) => Ok(()),
        // Somebody was faster: theirs counts.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(failed("create", &object.child.name)(error)),
    }
}

async fn label(
    context: &Context,
    at: &ClusterRef,
    pod: &str,
    role: Option<&'static str>,
) -> Result<(), ApplyError> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &at.namespace);
    let patch = json!({ "metadata": { "labels": { LABEL_ROLE: role } } });
    let patched = pods.patch_metadata(pod, &PatchParams::default(), &Patch::Merge(patch)).await;
    ignore_absent(patched.map(|_| ())).map_err(failed("label the pod", pod))
}

async fn clear_request(context: &Context, at: &ClusterRef) -> Result<(), ApplyError> {
    let clusters: Api<AuroraCluster> = Api::namespaced(context.client.clone(), &at.namespace);
    let patch = json!({ "metadata": { "annotations": { ANNOTATION_FAILOVER_TO: null } } });
    let patched = clusters.patch_metadata(&at.name, &PatchParams::default(), &Patch::Merge(patch)).await;
    ignore_absent(patched.map(|_| ())).map_err(failed("clear the failover request of", &at.name))
}

#[derive(Debug, thiserror::Error)]
enum ResignError {
    #[error("failed to read the Secret {name}: {source}")]
    Secret { name: String, source: Box<kube::Error> },
    #[error("{0}")]
    Node(node_client::NodeError),
}

async fn resign(
    context: &Context,
    at: &ClusterRef,
    writer: std::net::IpAddr,
    to: Option<&str>,
    seen: &Observed,
) -> Result<(), ResignError> {
    let name = &seen.secret_name;
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &at.namespace);
    let secret = secrets.get(name).await;
    let secret =
        secret.map_err(|source| ResignError::Secret { name: name.clone(), source: Box::new(source) })?;
    let value = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|value| value.0.clone());
    let (user, password) = (value("username").unwrap_or_default(), value("password").unwrap_or_default());
    let authorization = node_client::basic_authorization(&user, &password);
    node_client::resign(writer, to, &authorization).await.map_err(ResignError::Node)
}
