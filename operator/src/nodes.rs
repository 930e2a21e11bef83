//! What the nodes say of themselves: one held-open stream to each pod, not polling, so that a new writer is
//! known within a round trip of its election.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crds::node_api::NodeStatus;
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use crate::children::{ClusterRef, Wake};
use crate::metrics::Metrics;
use crate::node_client::StatusStream;

/// First and longest wait between two attempts to reach a node.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_millis(500);

/// What is known of one node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct NodeSeen {
    /// Whether it has answered, or failed to, at least once.
    pub(crate) asked: bool,
    /// Whether its stream is open.
    pub(crate) reachable: bool,
    /// The last it said.
    pub(crate) status: Option<NodeStatus>,
}

/// A pod whose node is watched.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    pub(crate) cluster: ClusterRef,
}

/// The streams to all nodes.
pub(crate) struct Nodes {
    watched: Mutex<HashMap<String, Watched>>,
    seen: Arc<Mutex<HashMap<String, NodeSeen>>>,
    tasks: TaskTracker,
    wake: Wake,
    metrics: Arc<Metrics>,
}

struct Watched {
    address: IpAddr,
    task: AbortHandle,
}

impl Nodes {
    pub(crate) fn new(wake: Wake, metrics: Arc<Metrics>) -> Nodes {
        Nodes { watched: Mutex::default(), seen: Arc::default(), tasks: TaskTracker::new(), wake, metrics }
    }

    /// What is known of the node in a pod.
    pub(crate) fn get(&self, uid: &str) -> NodeSeen {
        self.seen.lock().get(uid).cloned().unwrap_or_default()
    }

    /// Watches the node, if it is not watched yet.
    pub(crate) fn watch(&self, target: Target) {
        let mut watched = self.watched.lock();
        if watched.get(&target.uid).is_some_and(|old| old.address == target.address) {
            return;
        }
        let uid = target.uid.clone();
        let address = target.address;
        let task = self.tasks.spawn(follow(target, self.seen.clone(), self.wake.clone())).abort_handle();
        if let Some(old) = watched.insert(uid, Watched { address, task }) {
            old.task.abort();
        }
        self.metrics.watched_nodes.set(i64::try_from(watched.len()).unwrap_or(i64::MAX));
    }

    /// Forgets a pod that is gone.
    pub(crate) fn forget(&self, uid: &str) {
        let mut watched = self.watched.lock();
        if let Some(old) = watched.remove(uid) {
            old.task.abort();
        }
        self.seen.lock().remove(uid);
        self.metrics.watched_nodes.set(i64::try_from(watched.len()).unwrap_or(i64::MAX));
    }

    /// Ends every stream.
    pub(crate) async fn stop(&self) {
        for (_, old) in self.watched.lock().drain() {
            old.task.abort();
        }
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Keeps what is known of one node up to date, until it is aborted.
async fn follow(target: Target, seen: Arc<Mutex<HashMap<String, NodeSeen>>>, wake: Wake) {
    let mut retry = RETRY_FIRST;
    loop {
        match StatusStream::open(target.address).await {
            Err(error) => {
                debug!(node = target.name, %error, "failed to open a node's status");
                mark_unreachable(&target, &seen, &wake);
            }
            Ok(mut stream) => loop {
                match stream.next().await {
                    Ok(Some(status)) => {
                        retry = RETRY_FIRST;
                        record(&target, &seen, &wake, status);
                    }
                    // The node may only have ended the stream: unreachable it is once it cannot be reopened.
                    Ok(None) => break,
                    Err(error) => {
                        info!(node = target.name, %error, "lost a node's status");
                        mark_unreachable(&target, &seen, &wake);
                        break;
                    }
                }
            },
        }
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(RETRY_LAST);
    }
}

fn record(target: &Target, seen: &Mutex<HashMap<String, NodeSeen>>, wake: &Wake, status: NodeStatus) {
    let now = NodeSeen { asked: true, reachable: true, status: Some(status) };
    let mut seen = seen.lock();
    let old = seen.entry(target.uid.clone()).or_default();
    let changed = without_noise(old) != without_noise(&now);
    *old = now;
    if changed {
        wake.wake(&target.cluster);
    }
}

fn mark_unreachable(target: &Target, seen: &Mutex<HashMap<String, NodeSeen>>, wake: &Wake) {
    let mut seen = seen.lock();
    let old = seen.entry(target.uid.clone()).or_default();
    if old.reachable || !old.asked {
        old.asked = true;
        old.reachable = false;
        wake.wake(&target.cluster);
    }
}

/// What may change all the time is nothing to act on.
fn without_noise(seen: &NodeSeen) -> NodeSeen {
    let mut seen = seen.clone();
    match &mut seen.status {
        Some(NodeStatus::Instance(instance)) => {
            instance.applied.clear();
            instance.lag_ms = instance.lag_ms.map(|lag| coarse_lag(lag) as f64);
            instance.connections = 0;
        }
        Some(NodeStatus::Storage(storage)) => storage.seats.clear(),
        None => {}
    }
    seen
}

/// The least of 10, 100, 1000 … that the lag does not exceed, in milliseconds.
pub(crate) fn coarse_lag(milliseconds: f64) -> i64 {
    let mut limit = 10;
    while milliseconds > limit as f64 && limit < 1_000_000_000 {
        limit *= 10;
    }
    limit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::node_api::InstanceStatus;

    #[test]
    fn lags_are_told_in_powers_of_ten() {
        assert_eq!([0.0, 9.9, 10.1, 250.0].map(coarse_lag), [10, 10, 100, 1000]);
        assert_eq!(coarse_lag(f64::NAN), 10);
        assert_eq!(coarse_lag(f64::INFINITY), 1_000_000_000);
    }

    #[test]
    fn a_lag_that_wanders_is_no_news_and_a_role_that_changes_is() {
        let seen = |lag, role| NodeSeen {
            asked: true,
            reachable: true,
            status: Some(NodeStatus::Instance(InstanceStatus {
                lag_ms: Some(lag),
                role,
                ..Default::default()
            })),
        };
        use crds::node_api::Role::{Reader, Writer};
        assert_eq!(without_noise(&seen(1.0, Reader)), without_noise(&seen(8.0, Reader)));
        assert_ne!(without_noise(&seen(1.0, Reader)), without_noise(&seen(1.0, Writer)));
    }
}
