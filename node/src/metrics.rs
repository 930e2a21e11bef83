//! Every metric of this binary. Names are `borealis_node_<what>_<unit>[_total]`, in base units; none has a label
//! with an id.
//!
//! What the status says becomes gauges; each role adds figures of its own, read when somebody asks.

use std::fmt;

use crds::node_api::{NodeStatus, Role};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

/// One number that a role counts or measures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    /// Name without the prefix `borealis_node_` and without `_total`.
    pub(crate) name: &'static str,
    /// One sentence.
    pub(crate) help: &'static str,
    pub(crate) value: FigureValue,
}

/// A figure's kind and value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum FigureValue {
    /// Only grows.
    Counter(u64),
    /// Goes up and down.
    Gauge(f64),
}

/// Reads a role's figures.
pub(crate) type Figures = Box<dyn Fn() -> Vec<Figure> + Send + Sync>;

/// The registry.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// The metrics of a node with this status and these figures.
    pub(crate) fn new(status: watch::Receiver<NodeStatus>, figures: Figures) -> Metrics {
        let mut registry = Registry::with_prefix("borealis_node");
        registry.register_collector(Box::new(NodeCollector { status, figures }));
        Metrics { registry }
    }

    /// All of them as OpenMetrics text.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("writing to a string cannot fail");
        text
    }
}

struct NodeCollector {
    status: watch::Receiver<NodeStatus>,
    figures: Figures,
}

impl fmt::Debug for NodeCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeCollector").finish_non_exhaustive()
    }
}

impl Collector for NodeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let figures = of_status(&self.status.borrow()).into_iter().chain((self.figures)());
        for figure in figures {
            match figure.value {
                FigureValue::Counter(value) => {
                    let metric = ConstCounter::new(value);
                    let descriptor =
                        encoder.encode_descriptor(figure.name, figure.help, None, metric.metric_type())?;
                    metric.encode(descriptor)?;
                }
                FigureValue::Gauge(value) => {
                    let metric = ConstGauge::new(value);
                    let descriptor =
                        encoder.encode_descriptor(figure.name, figure.help, None, metric.metric_type())?;
                    metric.encode(descriptor)?;
                }
            }
        }
        Ok(())
    }
}

fn of_status(status: &NodeStatus) -> Vec<Figure> {
    let gauge = |name, help, value: f64| Figure { name, help, value: FigureValue::Gauge(value) };
    let flag = |name, help, value: bool| gauge(name, help, if value { 1.0 } else { 0.0 });
    match status {
        NodeStatus::Instance(instance) => {
            let mut figures = vec![
                flag("ready", "Whether the node serves.", instance.ready),
                flag("writer", "Whether the instance may write.", instance.role == Role::Writer),
                // Epochs stay far below 2^53.
                gauge(
                    "epoch",
                    "Epoch of the seat held, or of the newest writer known.",
                    instance.epoch as f64,
                ),
                gauge("client_connections", "Client connections open.", instance.connections as f64),
            ];
            if let Some(lag) = instance.lag_ms {
                figures.push(gauge("replica_lag_seconds", "How far the instance lags behind.", lag / 1000.0));
            }
            figures
        }
        NodeStatus::Storage(storage) => vec![
            flag("ready", "Whether the node serves.", storage.ready),
            flag("voting", "Whether the storage node may vote.", storage.voting),
            gauge("peers", "Storage nodes it is connected to.", f64::from(storage.peers)),
            gauge("membership", "Number of its membership.", storage.membership as f64),
        ],
    }
}
