//! The operator's metrics.

use std::time::Instant;

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ErrorLabel {
    error: &'static str,
}

/// Everything measured.
pub(crate) struct Metrics {
    registry: Registry,
    reconcile: Histogram,
    failures: Family<ErrorLabel, Counter>,
    /// Whether this replica is the one that works: 1 or 0.
    pub(crate) leader: Gauge,
    /// New writers published at a cluster endpoint.
    pub(crate) published_writers: Counter,
    /// Streams of node status held open.
    pub(crate) watched_nodes: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let mut registry = Registry::with_prefix("borealis_operator");
        let buckets = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
        let reconcile = Histogram::new(buckets);
        let failures = Family::<ErrorLabel, Counter>::default();
        let leader = Gauge::default();
        let published_writers = Counter::default();
        let watched_nodes = Gauge::default();
        registry.register_with_unit(
            "reconcile_duration",
            "Time of one pass over one cluster",
            Unit::Seconds,
            reconcile.clone(),
        );
        registry.register("reconcile_failures", "Passes that failed, by kind of error", failures.clone());
        registry.register("leader", "Whether this replica is the one that works", leader.clone());
        registry.register(
            "published_writers",
            "New writers published at a cluster endpoint",
            published_writers.clone(),
        );
        registry.register("watched_nodes", "Streams of node status held open", watched_nodes.clone());
        Metrics { registry, reconcile, failures, leader, published_writers, watched_nodes }
    }

    /// The text that Prometheus reads.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a String takes any text");
        text
    }

    /// Counts the time until the guard is dropped as one pass.
    pub(crate) fn time_reconcile(&self) -> ReconcileTimer<'_> {
        ReconcileTimer { started: Instant::now(), histogram: &self.reconcile }
    }

    /// Counts a pass that failed.
    pub(crate) fn count_failure(&self, error: &'static str) {
        self.failures.get_or_create(&ErrorLabel { error }).inc();
    }
}

/// See [`Metrics::time_reconcile`].
pub(crate) struct ReconcileTimer<'a> {
    started: Instant,
    histogram: &'a Histogram,
}

impl Drop for ReconcileTimer<'_> {
    fn drop(&mut self) {
        self.histogram.observe(self.started.elapsed().as_secs_f64());
    }
}
