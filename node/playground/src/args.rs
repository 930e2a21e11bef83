//! The command lines of the playground.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Arguments of `borealis-node playground`.
#[derive(Args, Debug)]
pub struct PlaygroundArgs {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Starts the cluster of a manifest and prints its endpoints.
    Up(UpArgs),
    /// Shows endpoints, instances and storage nodes.
    Status(StatusArgs),
    /// Kills a process at once (SIGKILL); it stays dead until `start`.
    Kill(NameArgs),
    /// Asks a process to end in order (SIGTERM) and waits for it; it stays down until `start`.
    Stop(NameArgs),
    /// Starts a killed or stopped process again.
    Start(NameArgs),
    /// Freezes a process (SIGSTOP), as a machine that hangs or loses its network.
    Pause(NameArgs),
    /// Lets a paused process go on (SIGCONT).
    Resume(NameArgs),
    /// Ends all processes and removes the data.
    Down(DownArgs),
}

/// Where a playground keeps its data.
#[derive(Args, Clone, Debug)]
pub(crate) struct DataDir {
    /// Directory of the playground's data, logs and password.
    /// Default: $XDG_DATA_HOME/borealis/playground, or ~/.local/share/borealis/playground.
    #[arg(long, value_name = "DIR", env = "BOREALIS_PLAYGROUND_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct UpArgs {
    /// Manifest with one AuroraCluster, the same that Kubernetes takes.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) data_dir: DataDir,
    /// First port for MySQL: the cluster endpoint, then the reader endpoint, then the instances
    /// (multi-master: the instances). Without it 3306, or free ports where those are taken; 0: free ports.
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Returns when the cluster is ready; it goes on in the background until `down`.
    #[arg(long)]
    pub(crate) detach: bool,
    /// Memory for cached rows of each instance, in bytes.
    #[arg(long, value_name = "BYTES")]
    pub(crate) cache_bytes: Option<u64>,
    /// How long to wait for the cluster to be ready, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) wait: u64,
    /// This process is the background half of `up --detach`.
    #[arg(long, hide = true)]
    pub(crate) supervise: bool,
}

#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) data_dir: DataDir,
    /// Form of the answer.
    #[arg(short = 'o', long = "output", value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Args, Debug)]
pub(crate) struct NameArgs {
    /// An instance or a storage node, as `status` names it.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) data_dir: DataDir,
}

#[derive(Args, Debug)]
pub(crate) struct DownArgs {
    #[command(flatten)]
    pub(crate) data_dir: DataDir,
    /// Keeps rows, password and logs, for the next `up` on the same directory.
    #[arg(long)]
    pub(crate) keep_data: bool,
}
