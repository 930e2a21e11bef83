//! The objects of a cluster, as they are applied. Pure; cannot fail: everything was validated before.
//!
//! Objects are JSON, so that server-side apply owns exactly the fields that stand here; a test reads each back
//! through its Kubernetes type, so that a misspelt field is found.

pub(crate) mod budget;
mod secret;
mod service;
mod slice;
mod workload;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crds::cluster::Mode;
use crds::names::ClusterName;
use crds::validate::ValidatedCluster;
use serde_json::{Value, json};

use crate::children::{ChildRef, Kind};
use crate::context::Settings;

pub(crate) use secret::secret;
pub(crate) use slice::{ANNOTATION_WRITER, Backend, slice};

/// The resource that owns a cluster's objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// An object, as it is applied.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Object {
    pub(crate) child: ChildRef,
    pub(crate) body: Value,
}

impl Object {
    /// A fingerprint of what is asked for.
    pub(crate) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.body.to_string().hash(&mut hasher);
        hasher.finish()
    }
}

/// Every object that does not depend on who writes.
pub(crate) fn objects(want: &ValidatedCluster, owner: &Owner, settings: &Settings) -> Vec<Object> {
    let mut objects = vec![
        service::headless_storage(want, owner),
        service::headless_instances(want, owner),
        workload::storage(want, owner, settings),
        workload::instances(want, owner, settings),
        budget::storage(want, owner),
        budget::instances(want, owner),
    ];
    if want.mode == Mode::SingleMaster {
        objects.push(service::endpoint(want, owner, want.name.cluster_endpoint()));
        objects.push(service::endpoint(want, owner, want.name.reader_endpoint()));
    }
    objects.extend((0..want.instances).map(|ordinal| service::instance(want, owner, ordinal)));
    objects
}

/// Metadata of an owned object.
fn metadata(owner: &Owner, cluster: &ClusterName, name: &str, more_labels: &[(&str, &str)]) -> Value {
    let mut labels = cluster.labels();
    labels.extend(more_labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    json!({
        "name": name,
        "namespace": owner.namespace,
        "labels": labels,
        "ownerReferences": [{
            "apiVersion": crds::cluster::API_VERSION,
            "kind": crds::cluster::KIND,
            "name": owner.name,
            "uid": owner.uid,
            "controller": true,
        }],
    })
}

fn object(kind: Kind, api_version: &str, metadata: Value, rest: Value) -> Object {
    let name = metadata["name"].as_str().unwrap_or_default().to_owned();
    let mut body = json!({ "apiVersion": api_version, "kind": kind.name(), "metadata": metadata });
    if let (Value::Object(body), Value::Object(rest)) = (&mut body, rest) {
        body.extend(rest);
    }
    Object { child: ChildRef { kind, name }, body }
}

/// The user's additions first, so that ours win.
fn merged(theirs: &BTreeMap<String, String>, ours: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all = theirs.clone();
    all.extend(ours);
    all
}

#[cfg(test)]
pub(crate) mod tests;
