//! The operator: makes `AuroraCluster` resources real and publishes the writer that the data plane elected.
//! See ARCHITECTURE.md. Nothing in the data path needs it.

mod children;
mod context;
mod controller;
mod election;
mod http_server;
mod metrics;
mod node_client;
mod nodes;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use kube::Client;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

use crate::context::Settings;

#[derive(Parser)]
#[command(name = "borealis-operator", version, about = "Operator for AuroraCluster resources")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the custom resource definition as YAML.
    Crd,
    /// Watch AuroraCluster resources and make them real.
    Run(RunArguments),
}

#[derive(clap::Args)]
struct RunArguments {
    /// Image with the node's binary, for the pods of clusters.
    #[arg(long, env = "BOREALIS_IMAGE")]
    image: String,
    /// Pull policy of that image.
    #[arg(long, env = "BOREALIS_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    image_pull_policy: String,
    /// Namespace to watch; all where absent.
    #[arg(long, env = "BOREALIS_WATCH_NAMESPACE")]
    watch_namespace: Option<String>,
    /// Name of this operator's pod: its identity in the election.
    #[arg(long, env = "POD_NAME")]
    identity: String,
    /// Namespace of the Lease by which replicas elect one.
    #[arg(long, env = "POD_NAMESPACE")]
    lease_namespace: String,
    /// Name of that Lease.
    #[arg(long, default_value = "borealis-operator")]
    lease_name: String,
    /// Address of /livez, /readyz and /metrics.
    #[arg(long, default_value = "0.0.0.0:8080")]
    http: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
enum MainError {
    #[error("failed to print the custom resource definition")]
    Print(#[source] std::io::Error),
    #[error("failed to find the Kubernetes API server's address and credentials")]
    Client(#[source] Box<kube::Error>),
    #[error("failed to listen for signals")]
    Signals(#[source] std::io::Error),
    #[error("failed to serve HTTP at {address}")]
    Http {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("the controller ended though nobody stopped it: {0:?}")]
    Controller(Option<tokio::task::JoinError>),
    #[error("failed to take part in the election")]
    Election(#[source] election::ElectionError),
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env("BOREALIS_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,kube_runtime=warn,kube_client=warn"));
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).init();
    let result = match Arguments::parse().command {
        Command::Crd => print_definition().map_err(MainError::Print),
        Command::Run(arguments) => run(arguments).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(error = controller::chain(&error), "stopped");
            ExitCode::FAILURE
        }
    }
}

fn print_definition() -> std::io::Result<()> {
    use std::io::Write;
    let definition = serde_json::to_string_pretty(&crds::resource::definition())?;
    writeln!(std::io::stdout(), "{definition}")
}

async fn run(arguments: RunArguments) -> Result<(), MainError> {
    let stop = CancellationToken::new();
    let signals = stop_on_signals(stop.clone()).map_err(MainError::Signals)?;
    let client = Client::try_default().await.map_err(|error| MainError::Client(Box::new(error)))?;
    let metrics = Arc::new(metrics::Metrics::new());
    let http = http_server::serve(arguments.http, metrics.clone(), stop.clone());
    let http = http.await.map_err(|source| MainError::Http { address: arguments.http, source })?;

    let mut lease = election::Election::new(
        client.clone(),
        &arguments.lease_namespace,
        &arguments.lease_name,
        &arguments.identity,
    );
    let elected = lease.wait_until_elected(&stop).await.map_err(MainError::Election)?;
    if elected {
        info!(identity = arguments.identity, "elected");
        metrics.leader.set(1);
        let settings = Settings {
            image: arguments.image,
            image_pull_policy: arguments.image_pull_policy,
            watch_namespace: arguments.watch_namespace,
            identity: arguments.identity,
        };
        let mut controller = tokio::spawn(controller::run(client, settings, metrics.clone(), stop.clone()));
        let kept = tokio::select! {
            kept = lease.keep(&stop) => kept,
            ended = &mut controller => return Err(MainError::Controller(ended.err())),
        };
        stop.cancel();
        if let Err(error) = controller.await {
            error!(%error, "the controller ended badly");
        }
        kept.map_err(MainError::Election)?;
        lease.release().await;
    }
    stop.cancel();
    // Both end once `stop` is cancelled.
    let _ = tokio::join!(http, signals);
    Ok(())
}

fn stop_on_signals(stop: CancellationToken) -> std::io::Result<tokio::task::JoinHandle<()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => info!("told to stop"),
            _ = interrupt.recv() => info!("interrupted"),
            () = stop.cancelled() => {}
        }
        stop.cancel();
    }))
}
