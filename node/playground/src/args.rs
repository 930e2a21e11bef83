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
    /// Cuts a member off from the others, or from one of them; needs `up --cuttable`. Clients are not cut off.
    Cut(CutArgs),
    /// Ends cuts: those between two members, those of one member, or all.
    Heal(HealArgs),
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
    /// Leads every connection between members through this process, so that `cut` can cut it. Costs some speed.
    #[arg(long)]
    pub(crate) cuttable: bool,
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
pub(crate) struct CutArgs {
    /// The instance or storage node to cut off, as `status` names it.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// From whom; without it from everybody that it talks to (instances talk to storage nodes only).
    #[arg(value_name = "NAME")]
    pub(crate) other: Option<String>,
    /// Breaks connections and refuses new ones, so that everybody notices at once. Without it the cut is silent:
    /// connections stay open and nothing moves.
    #[arg(long, conflicts_with = "one_way")]
    pub(crate) refuse: bool,
    /// Loses only what the first NAME sends; what is sent to it arrives.
    #[arg(long)]
    pub(crate) one_way: bool,
    #[command(flatten)]
    pub(crate) data_dir: DataDir,
}

#[derive(Args, Debug)]
pub(crate) struct HealArgs {
    /// A member whose cuts end; without it all cuts end.
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Only the cuts between the first NAME and this one.
    #[arg(value_name = "NAME")]
    pub(crate) other: Option<String>,
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
