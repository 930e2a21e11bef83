//! The command line of `e2e-check`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::cluster::kubernetes::Through;
use super::faults::FaultKind;

/// Breaks a cluster at random while clients use it, and judges whether what they saw is possible.
///
/// Clients append to lists, transfer money and insert rows over plain MySQL connections, while processes are killed,
/// stopped, paused and cut off. Everything is mended at the end, and what the clients saw and what is there is checked:
/// no acknowledged write is lost, no refused one is there, and reads are as docs/consistency.md says. The exit code is
/// 0 if so, 1 if there is an anomaly or the cluster does not recover, 2 if the check could not be made.
#[derive(Debug, Parser)]
#[command(name = "e2e-check", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub(crate) target: Target,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Target {
    /// A playground: started for the check, or one that runs already.
    Playground(PlaygroundArgs),
    /// A cluster on Kubernetes, through kubectl (pods are deleted; nothing is paused or cut off).
    Kubernetes(KubernetesArgs),
    /// Judges lists' histories that an earlier check has written.
    History {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// What every check needs to know.
#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// How long clients work and faults come, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,
    /// Decides the faults and what clients do; without it one is drawn and printed.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Which faults come; without it all that the target allows.
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "no_faults")]
    pub(crate) faults: Vec<FaultKind>,
    /// No faults at all.
    #[arg(long)]
    pub(crate) no_faults: bool,
    /// Clients of each workload (lists, bank, ledger); single-master clusters get half as many that read from replicas.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) clients: u32,
    /// Pause of each client between two transactions, in milliseconds.
    #[arg(long, default_value_t = 4)]
    pub(crate) pace_ms: u64,
    /// How long the cluster may take to serve again after the last fault, in seconds.
    #[arg(long, default_value_t = 90)]
    pub(crate) patience: u64,
    /// Where to write the lists' history; without it a temporary file, and only if there is an anomaly.
    #[arg(long, value_name = "FILE")]
    pub(crate) history: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct PlaygroundArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Mode of the playground that is started.
    #[arg(long, value_enum, default_value_t = Mode::SingleMaster)]
    pub(crate) mode: Mode,
    /// Its instances.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub(crate) instances: u16,
    /// Its storage nodes: 3 or 6.
    #[arg(long, default_value_t = 6)]
    pub(crate) storage_nodes: u8,
    /// Memory for cached rows of each instance, in bytes.
    #[arg(long)]
    pub(crate) cache_bytes: Option<u64>,
    /// The program borealis-node; without it the one next to this program.
    #[arg(long, value_name = "FILE")]
    pub(crate) node: Option<PathBuf>,
    /// Check the playground that runs in this directory instead of starting one; its tables check_* are made anew.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["mode", "instances", "storage_nodes", "cache_bytes"])]
    pub(crate) data_dir: Option<PathBuf>,
    /// Leave the playground running and its directory in place if there is an anomaly.
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// One writer, replicas.
    SingleMaster,
    /// Every instance writes.
    MultiMaster,
}

#[derive(Args, Debug)]
pub(crate) struct KubernetesArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Namespace of the cluster.
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
    /// The AuroraCluster, which must be Ready; its tables check_* are made anew.
    #[arg(long)]
    pub(crate) cluster: String,
    /// How this machine reaches Services.
    #[arg(long, value_enum, default_value_t = Through::Nodeport)]
    pub(crate) through: Through,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }
}
