//! Where the endpoints lead: pure choice, no sockets.
//!
//! Invariants:
//! - The cluster endpoint leads to the instance that claims the highest epoch ever seen, or nowhere. An instance
//!   whose claim is older than one seen before gets no connection, even if it is the only one that answers.
//! - The reader endpoint leads to replicas that serve, least used first; to the writer if there are none.

use std::net::SocketAddr;

use crds::cluster::Mode;
use crds::node_api::{InstanceStatus, Role};

/// An instance as an endpoint sees it. `run` tells two runs of one process apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) run: u64,
}

/// Where connections go at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Routes {
    /// The writer, if one is known.
    pub(crate) writer: Option<Backend>,
    /// The replicas that serve.
    pub(crate) replicas: Vec<Backend>,
    /// All whose processes run.
    pub(crate) alive: Vec<Backend>,
}

/// What is known about an instance.
#[derive(Clone, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) backend: Backend,
    /// Its process was paused by command.
    pub(crate) paused: bool,
    /// What it last said of itself in this run.
    pub(crate) status: Option<&'a InstanceStatus>,
}

/// Chooses the routes, given the instances whose processes run and the highest epoch seen so far.
pub(crate) fn choose(mode: Mode, seen: &[Seen<'_>], highest_epoch: u64) -> Routes {
    let alive = seen.iter().map(|one| one.backend.clone()).collect();
    if mode == Mode::MultiMaster {
        return Routes { writer: None, replicas: Vec::new(), alive };
    }
    let writer = seen.iter().find(|one| {
        one.status
            .is_some_and(|s| s.ready && s.role == Role::Writer && s.epoch > 0 && s.epoch >= highest_epoch)
    });
    let replicas = seen
        .iter()
        .filter(|one| !one.paused && one.status.is_some_and(|s| s.ready && s.role == Role::Reader))
        .map(|one| one.backend.clone())
        .collect();
    Routes { writer: writer.map(|one| one.backend.clone()), replicas, alive }
}

/// The highest epoch that anybody claims to write under.
pub(crate) fn highest_claim(seen: &[Seen<'_>]) -> u64 {
    let claims = seen.iter().filter_map(|one| one.status).filter(|s| s.role == Role::Writer);
    claims.map(|s| s.epoch).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(role: Role, epoch: u64) -> InstanceStatus {
        InstanceStatus { role, epoch, ready: true, ..InstanceStatus::default() }
    }

    fn seen(name: &str, paused: bool, status: Option<&InstanceStatus>) -> Seen<'static> {
        let status = status.map(|s| &*Box::leak(Box::new(s.clone())));
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        Seen { backend: Backend { name: name.into(), address, run: 1 }, paused, status }
    }

    fn writer_and_replicas(seen: &[Seen<'_>], highest: u64) -> (Option<String>, Vec<String>) {
        let routes = choose(Mode::SingleMaster, seen, highest);
        (routes.writer.map(|b| b.name), routes.replicas.into_iter().map(|b| b.name).collect())
    }

    #[test]
    fn writer_gets_the_cluster_endpoint_and_replicas_the_reader_endpoint() {
        let all = [
            seen("a", false, Some(&status(Role::Writer, 1))),
            seen("b", false, Some(&status(Role::Reader, 1))),
            seen("c", false, None),
        ];
        assert_eq!(highest_claim(&all), 1);
        assert_eq!(writer_and_replicas(&all, 1), (Some("a".into()), vec!["b".into()]));
    }

    #[test]
    fn paused_old_writer_loses_the_endpoint_to_a_newer_epoch() {
        let all = [
            seen("a", true, Some(&status(Role::Writer, 1))),
            seen("b", false, Some(&status(Role::Writer, 2))),
        ];
        assert_eq!(writer_and_replicas(&all, highest_claim(&all)), (Some("b".into()), vec![]));
    }

    #[test]
    fn old_claim_leads_nowhere_even_if_it_is_the_only_one() {
        let all = [seen("a", false, Some(&status(Role::Writer, 1)))];
        assert_eq!(writer_and_replicas(&all, 2), (None, vec![]));
    }

    #[test]
    fn paused_replica_gets_no_new_connections() {
        let all = [seen("b", true, Some(&status(Role::Reader, 1)))];
        assert_eq!(writer_and_replicas(&all, 1), (None, vec![]));
    }
}
