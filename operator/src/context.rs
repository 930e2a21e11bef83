//! What a pass over a cluster works with.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use kube::runtime::events::Reporter;
use parking_lot::Mutex;

use crate::children::{ChildRef, Children, ClusterRef, Pods, Version};
use crate::metrics::Metrics;
use crate::nodes::Nodes;

/// Field manager of everything that the operator applies.
pub(crate) const FIELD_MANAGER: &str = "borealis-operator/cluster";

/// Settings from the command line.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) image: String,
    pub(crate) image_pull_policy: String,
    pub(crate) watch_namespace: Option<String>,
    pub(crate) identity: String,
}

/// Shared by all passes.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) reporter: Reporter,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) settings: Settings,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) children: Arc<Children>,
    pub(crate) pods: Arc<Pods>,
    memories: Mutex<HashMap<ClusterRef, Memory>>,
}

/// What was applied last: the hash of what was asked for, and the version that the API server made of it.
pub(crate) type Applied = BTreeMap<ChildRef, (u64, Version)>;

/// What is remembered of a cluster between passes. Losing it costs a few needless calls, nothing else.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// Of whom: a cluster that is deleted and applied again is another one.
    uid: String,
    pub(crate) applied: Applied,
    /// Name of the Secret that was seen to exist, and when.
    pub(crate) secret: Option<(String, Instant)>,
    /// Passes that came to their end.
    pub(crate) passes: u64,
    failures: u32,
}

impl Context {
    pub(crate) fn new(
        client: Client,
        settings: Settings,
        metrics: Arc<Metrics>,
        nodes: Arc<Nodes>,
    ) -> Context {
        let reporter = Reporter {
            controller: crds::names::OPERATOR.to_owned(),
            instance: Some(settings.identity.clone()),
        };
        Context {
            reporter,
            client,
            metrics,
            settings,
            nodes,
            children: Arc::default(),
            pods: Arc::default(),
            memories: Mutex::default(),
        }
    }

    pub(crate) fn memory(&self, cluster: &ClusterRef, uid: &str) -> Memory {
        self.memories.lock().get(cluster).filter(|memory| memory.uid == uid).cloned().unwrap_or_default()
    }

    /// A pass succeeded.
    pub(crate) fn remember(
        &self,
        cluster: &ClusterRef,
        uid: &str,
        applied: Applied,
        secret: (String, Instant),
    ) {
        let passes = self.memory(cluster, uid).passes + 1;
        let memory = Memory { uid: uid.to_owned(), applied, secret: Some(secret), passes, failures: 0 };
        self.memories.lock().insert(cluster.clone(), memory);
    }

    /// A pass failed: how long to wait before the next.
    pub(crate) fn back_off(&self, cluster: &ClusterRef) -> Duration {
        let mut memories = self.memories.lock();
        let memory = memories.entry(cluster.clone()).or_default();
        memory.failures = memory.failures.saturating_add(1);
        let exponent = memory.failures.min(8);
        BACK_OFF_FIRST.saturating_mul(1 << exponent).min(BACK_OFF_LAST)
    }

    /// The cluster is gone.
    pub(crate) fn forget(&self, cluster: &ClusterRef) {
        self.memories.lock().remove(cluster);
    }
}

const BACK_OFF_FIRST: Duration = Duration::from_millis(250);
const BACK_OFF_LAST: Duration = Duration::from_secs(60);
