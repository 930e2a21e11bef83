//! The command line of `borealis-node`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use node_playground::PlaygroundArgs;

/// Borealis: Amazon-Aurora-shaped MySQL clusters, single-master or multi-master.
///
/// One program for every part of a cluster. People start with `playground`; `storage` and `instance` are what
/// the playground and the Kubernetes operator run.
#[derive(Parser, Debug)]
#[command(name = "borealis-node", version, max_term_width = 110)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) role: Role,
    #[command(flatten)]
    pub(crate) telemetry: TelemetryArgs,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Role {
    /// Runs one storage node: a replica of the cluster's volume, which votes on writes.
    Storage(Box<StorageArgs>),
    /// Runs one instance: a MySQL server on the volume.
    Instance(Box<InstanceArgs>),
    /// Runs a whole cluster as local processes, from a manifest.
    Playground(PlaygroundArgs),
}

/// What is logged, and how.
#[derive(Args, Clone, Debug)]
pub(crate) struct TelemetryArgs {
    /// Form of the log, on standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, env = "BOREALIS_LOG_FORMAT", global = true)]
    pub(crate) log_format: LogFormat,
    /// What is logged: a level (error, warn, info, debug, trace) or filters such as node_storage=debug.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "BOREALIS_LOG", global = true)]
    pub(crate) log: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// One instance writes, the others are replicas.
    SingleMaster,
    /// Every instance reads and writes.
    MultiMaster,
}

/// What both roles need.
#[derive(Args, Clone, Debug)]
pub(crate) struct CommonArgs {
    /// The cluster's name.
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: String,
    /// The cluster's mode. It never changes.
    #[arg(long, value_enum)]
    pub(crate) mode: ModeArg,
    /// Address of /livez, /readyz, /metrics and /v1/status. Port 0: any free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) http: SocketAddr,
    /// The zone this process runs in: instances read from storage nodes of their own zone.
    #[arg(long, value_name = "ZONE", env = "BOREALIS_ZONE")]
    pub(crate) zone: Option<String>,
    /// Written once this process serves: the addresses it really listens on, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct StorageArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    /// Number of this storage node within the volume, from 0.
    #[arg(long, value_name = "N", required_unless_present = "id_from_hostname")]
    pub(crate) id: Option<u8>,
    /// Takes the number from the end of the host name (shop-storage-3 is 3).
    #[arg(long, conflicts_with = "id")]
    pub(crate) id_from_hostname: bool,
    /// Storage nodes of the volume: 3 or 6.
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub(crate) nodes: u8,
    /// Every storage node of the volume, in order of their numbers, this one included.
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', required = true)]
    pub(crate) peers: Vec<String>,
    /// This storage node's disk.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Seconds from the start to the first search for damage on the disk.
    #[arg(long, value_name = "N", default_value_t = 60, env = "BOREALIS_SCRUB_FIRST_SECONDS")]
    pub(crate) scrub_first_seconds: u64,
    /// Seconds from one search for damage to the next.
    #[arg(long, value_name = "N", default_value_t = 6 * 3600, env = "BOREALIS_SCRUB_PERIOD_SECONDS")]
    pub(crate) scrub_period_seconds: u64,
    /// Bytes that the search for damage reads a second, at most.
    #[arg(long, value_name = "N", default_value_t = 8 << 20, env = "BOREALIS_SCRUB_BYTES_PER_SECOND", value_parser = clap::value_parser!(u64).range(1 << 16..))]
    pub(crate) scrub_bytes_per_second: u64,
    /// Where it serves instances and other storage nodes. Port 0: any free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7400")]
    pub(crate) listen: SocketAddr,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct InstanceArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    /// Name of this instance, ending in - and its number (shop-0).
    #[arg(long, value_name = "NAME", required_unless_present = "name_from_hostname")]
    pub(crate) name: Option<String>,
    /// Takes the name from the host name.
    #[arg(long, conflicts_with = "name")]
    pub(crate) name_from_hostname: bool,
    /// Every storage node of the volume, in order of their numbers.
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', required = true)]
    pub(crate) storage: Vec<String>,
    /// Where it speaks the MySQL protocol. Port 0: any free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3306")]
    pub(crate) listen: SocketAddr,
    /// Promotion tier: 0 is promoted first, 15 last (single-master).
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=15))]
    pub(crate) tier: u8,
    /// Promotion tiers by instance name, such as shop-0=1,shop-1=0: where all instances share a command line.
    /// An entry for this instance overrides --tier.
    #[arg(long, value_name = "NAME=N,...", value_delimiter = ',', env = "BOREALIS_TIERS", value_parser = tier_of)]
    pub(crate) tiers: Vec<(String, u8)>,
    /// Memory for cached rows, in bytes.
    #[arg(long, value_name = "N", default_value_t = 256 << 20, value_parser = clap::value_parser!(u64).range(1 << 20..))]
    pub(crate) cache_bytes: u64,
    /// The database user.
    #[arg(long, value_name = "USER", default_value = "admin", env = "BOREALIS_USER")]
    pub(crate) user: String,
    /// File with the database user's name.
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    pub(crate) user_file: Option<PathBuf>,
    /// File with the database user's password.
    #[arg(long, value_name = "FILE", required_unless_present = "password")]
    pub(crate) password_file: Option<PathBuf>,
    /// The password itself, from the environment only: command lines are visible to others.
    #[arg(long, env = "BOREALIS_PASSWORD", hide = true, hide_env_values = true)]
    pub(crate) password: Option<String>,
    /// Database that is created at first start.
    #[arg(long, value_name = "NAME", default_value = "app")]
    pub(crate) database: String,
    /// A server variable, such as max_connections=200. May be repeated.
    #[arg(long = "parameter", value_name = "NAME=VALUE", value_parser = parameter)]
    pub(crate) parameters: Vec<(String, String)>,
}

fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        Some(_) | None => Err("must be NAME=VALUE".to_owned()),
    }
}

fn tier_of(text: &str) -> Result<(String, u8), String> {
    let (name, tier) = text.split_once('=').ok_or("must be NAME=N")?;
    match tier.parse() {
        Ok(tier @ 0..=15) => Ok((name.trim().to_owned(), tier)),
        Ok(_) | Err(_) => Err("a promotion tier is 0 to 15".to_owned()),
    }
}

/// The host name, as `hostname` gives it.
pub(crate) fn hostname() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned())
}

/// The number at the end of a name: 3 of `shop-storage-3`.
pub(crate) fn ordinal(name: &str) -> Option<u16> {
    name.rsplit_once('-')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn ordinal_is_the_number_after_the_last_dash() {
        assert_eq!(ordinal("shop-storage-3"), Some(3));
        assert_eq!(ordinal("shop-12"), Some(12));
        assert_eq!(ordinal("shop"), None);
        assert_eq!(ordinal("shop-x"), None);
    }

    #[test]
    fn parameter_value_may_hold_an_equals_sign() {
        assert_eq!(parameter("sql_mode=a=b"), Ok(("sql_mode".to_owned(), "a=b".to_owned())));
        assert!(parameter("sql_mode").is_err());
    }
}
