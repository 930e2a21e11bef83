//! The cluster that is broken: where to connect to, how a fault is begun and ended, and how everything is mended.

pub(crate) mod kubernetes;
pub(crate) mod playground;

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::faults::{Members, Strike};

/// Pause between two looks at something that nobody announces.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What cannot be done to a cluster, or with it.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A program does not start.
    #[error("cannot run {program}: is it there?")]
    Program {
        /// Which.
        program: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A command failed.
    #[error("`{command}` failed: {said}")]
    Command {
        /// The command.
        command: String,
        /// What it said.
        said: String,
    },
    /// A state is not what was expected.
    #[error("the cluster's state lacks {what}")]
    State {
        /// What was looked for.
        what: String,
    },
    /// It does not recover.
    #[error("not everything serves {seconds} s after the last fault was ended: {state}")]
    NotMended {
        /// How long was waited.
        seconds: u64,
        /// What does not serve.
        state: String,
    },
    /// The manifest or a directory cannot be written.
    #[error("cannot write {path:?}")]
    Write {
        /// Where.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// An address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Door {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doors {
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) database: String,
    /// The cluster endpoint, or every instance where all write.
    pub(crate) writers: Vec<Door>,
    /// The reader endpoint, where there is one.
    pub(crate) readers: Vec<Door>,
    /// Every instance, by name.
    pub(crate) instances: Vec<(String, Door)>,
}

/// A cluster under test.
pub(crate) trait Cluster: Sync {
    /// What there is to break.
    fn members(&self) -> &Members;

    /// Where to connect to.
    fn doors(&self) -> Result<Doors, ClusterError>;

    /// Begins a fault; the names that it met, for its end.
    fn begin(&self, strike: &Strike) -> Result<Vec<String>, ClusterError>;

    /// Ends a fault.
    fn end(&self, strike: &Strike, met: &[String]) -> Result<(), ClusterError>;

    /// Ends whatever is broken and waits until everything serves.
    fn mend(&self, patience: Duration) -> Result<(), ClusterError>;
}

/// Runs a program to its end; its output, which must be a success.
fn run(command: &mut Command) -> Result<String, ClusterError> {
    let output = output(command)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ClusterError::Command { command: line(command), said })
}

fn output(command: &mut Command) -> Result<Output, ClusterError> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.output().map_err(|source| ClusterError::Program { program, source })
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs a program for each of the names at the same time.
fn run_all(commands: Vec<Command>) -> Result<(), ClusterError> {
    std::thread::scope(|scope| {
        let running: Vec<_> =
            commands.into_iter().map(|mut command| scope.spawn(move || run(&mut command))).collect();
        for one in running {
            one.join().expect("running a command does not panic")?;
        }
        Ok(())
    })
}

/// Tries again until it works or the time is over; then the last error.
fn persist<T>(
    patience: Duration,
    mut attempt: impl FnMut() -> Result<T, ClusterError>,
) -> Result<T, ClusterError> {
    let end = Instant::now() + patience;
    loop {
        match attempt() {
            Err(_) if Instant::now() < end => std::thread::park_timeout(LOOK_AGAIN),
            done => return done,
        }
    }
}
