//! The playground: a cluster as local processes on loopback, from the manifest that Kubernetes takes.
//!
//! `up` starts one *supervisor* process per data directory ([`supervisor`]); it starts the storage nodes and the
//! instances as child processes of the same program ([`process`]), follows what they say of themselves
//! ([`follow`]), and in single-master mode leads connections to the writer and the replicas ([`routes`],
//! [`forward`]), as Services would. With `up --cuttable` it also stands between the members, so that the network can
//! be cut ([`links`]). The other commands talk to it through a socket ([`control`]).
//!
//! Invariants:
//! - One supervisor per data directory (a lock), and no child outlives it.
//! - What a command ended stays ended; what fell by itself is started again ([`member`]).
//! - Everything listens on loopback only.

mod addresses;
mod args;
mod commands;
mod control;
mod follow;
mod forward;
mod layout;
mod links;
mod member;
mod ports;
mod process;
mod routes;
mod status;
mod supervisor;
mod topology;

use std::path::PathBuf;

pub use args::PlaygroundArgs;
pub use control::ControlError;
pub use layout::LayoutError;
pub use ports::PortsError;
pub use supervisor::SupervisorError;
pub use topology::ManifestError;

use args::Command;
use control::Verb;

/// A command that did not do what was asked; its message says what to do instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifest.
    #[error(transparent)]
    Manifest(ManifestError),
    /// The data directory.
    #[error(transparent)]
    Layout(LayoutError),
    /// The ports.
    #[error(transparent)]
    Ports(PortsError),
    /// The running playground could not be asked.
    #[error(transparent)]
    Control(ControlError),
    /// The supervisor could not start.
    #[error(transparent)]
    Supervisor(SupervisorError),
    /// The running playground says no.
    #[error("{text}")]
    Refused {
        /// Its words.
        text: String,
    },
    /// The background process ended instead of serving.
    #[error("the playground ended ({how}); it said:\n{log}")]
    Background {
        /// Its exit status.
        how: String,
        /// The end of its log.
        log: String,
    },
    /// The cluster is not there in time.
    #[error(
        "{cluster} is not ready after {seconds} s; it is left running: see `status` and {logs:?}, end it with `down`\n{missing}"
    )]
    NotReady {
        /// The cluster.
        cluster: String,
        /// How long was waited.
        seconds: u64,
        /// What does not serve, and what it last said.
        missing: String,
        /// Where the logs are.
        logs: PathBuf,
    },
}

/// Runs one playground command. Must be called on the process's main thread.
///
/// # Errors
///
/// [`Error`], whose message is for the user and whose [`Error::exit_code`] is for the shell.
pub fn run(args: &PlaygroundArgs) -> Result<(), Error> {
    match &args.command {
        Command::Up(args) => {
            if args.supervise {
                process::leave_the_terminal();
            }
            commands::up(args)
        }
        Command::Status(args) => commands::status(args),
        Command::Kill(args) => commands::act(Verb::Kill, args),
        Command::Stop(args) => commands::act(Verb::Stop, args),
        Command::Start(args) => commands::act(Verb::Start, args),
        Command::Pause(args) => commands::act(Verb::Pause, args),
        Command::Resume(args) => commands::act(Verb::Resume, args),
        Command::Cut(args) => commands::cut(args),
        Command::Heal(args) => commands::heal(args),
        Command::Down(args) => commands::down(args),
    }
}
