//! Orders to a running playground, over a Unix socket in its directory: one line of JSON each way.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};

use crate::links::CutKind;
use crate::status::Report;

/// Longest order, in bytes.
const ORDER_BYTES_MAX: u64 = 4096;

/// What the playground is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Say what there is.
    Status,
    /// Answer with the status once everything serves.
    Ready,
    /// Do something to one process.
    Process(Verb, String),
    /// Cut a member off.
    Cut {
        /// Whom.
        name: String,
        /// From whom; everybody if nobody is named.
        other: Option<String>,
        /// How it shows.
        kind: CutKind,
        /// Only what the first one sends.
        one_way: bool,
    },
    /// End cuts.
    Heal {
        /// Of whom; all if nobody is named.
        name: Option<String>,
        /// Only those between the two.
        other: Option<String>,
    },
    /// End everything.
    Down,
}

/// What is done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verb {
    /// SIGKILL.
    Kill,
    /// SIGTERM.
    Stop,
    /// Run it again.
    Start,
    /// SIGSTOP.
    Pause,
    /// SIGCONT.
    Resume,
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// It is done; in one sentence.
    Done(String),
    /// The status that was asked for.
    Status(Box<Report>),
    /// It cannot be done; in one sentence that says what to do instead.
    Refused(String),
}

/// The playground could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("the playground is not running (nothing listens on {path:?}): start it with `up -f FILE`")]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// The conversation broke.
    #[error("the playground did not answer on {path:?}: see its log in the data directory")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It speaks otherwise.
    #[error("the playground's answer is not understood: was it started by another version?")]
    Strange {
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// Gives an order and waits for the answer.
pub(crate) fn ask(socket: &Path, order: &Order, patience: Duration) -> Result<Answer, ControlError> {
    let path = || socket.to_path_buf();
    let mut stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ControlError::NotRunning { path: path() }
        }
        _ => ControlError::Broken { path: path(), source: error },
    })?;
    let broken = |source| ControlError::Broken { path: path(), source };
    stream.set_read_timeout(Some(patience)).map_err(broken)?;
    let mut line = serde_json::to_vec(order).expect("an order of plain values serialises");
    line.push(b'\n');
    stream.write_all(&line).map_err(broken)?;
    let mut answer = String::new();
    let read = BufReader::new(stream).read_line(&mut answer).map_err(broken)?;
    if read == 0 {
        return Err(broken(io::ErrorKind::UnexpectedEof.into()));
    }
    serde_json::from_str(&answer).map_err(|source| ControlError::Strange { source })
}

/// Reads one order.
pub(crate) async fn read_order(stream: &mut tokio::net::UnixStream) -> io::Result<Order> {
    let mut line = String::new();
    tokio::io::BufReader::new(stream.take(ORDER_BYTES_MAX)).read_line(&mut line).await?;
    serde_json::from_str(&line).map_err(io::Error::from)
}

/// Writes one answer.
pub(crate) async fn write_answer(stream: &mut tokio::net::UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer).expect("an answer of plain values serialises");
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.shutdown().await
}
