//! What both roles do around their work: status, HTTP, the ready file, signals and an orderly end.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crds::node_api::NodeStatus;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::args::{CommonArgs, ModeArg};
use crate::http::{self, Node, Resign};
use crate::metrics::{Figures, Metrics};

/// A role cannot start, or ended with an error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoleError {
    /// An argument that only the role can judge.
    #[error("{0}")]
    Argument(String),
    /// A file named on the command line.
    #[error("cannot read {path:?}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The HTTP interface.
    #[error("cannot serve HTTP on {address}")]
    Http {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The system.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The role itself.
    #[error(transparent)]
    Role(Box<dyn std::error::Error + Send + Sync>),
}

impl RoleError {
    /// 2 for what the user wrote, 1 for what went wrong.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            RoleError::Argument(_) | RoleError::File { .. } => 2,
            RoleError::Http { .. } | RoleError::System { .. } | RoleError::Role(_) => 1,
        }
    }
}

/// The mode as the manifest has it.
pub(crate) fn manifest_mode(mode: ModeArg) -> crds::cluster::Mode {
    match mode {
        ModeArg::SingleMaster => crds::cluster::Mode::SingleMaster,
        ModeArg::MultiMaster => crds::cluster::Mode::MultiMaster,
    }
}

/// The mode as the protocol has it.
pub(crate) fn volume_mode(mode: ModeArg) -> node_core::quorum::Mode {
    match mode {
        ModeArg::SingleMaster => node_core::quorum::Mode::SingleMaster,
        ModeArg::MultiMaster => node_core::quorum::Mode::MultiMaster,
    }
}

/// Cancels the token at the first SIGTERM or SIGINT. Must be called within a runtime.
pub(crate) fn cancel_on_signals(token: &CancellationToken) -> Result<(), RoleError> {
    for (kind, name) in [(SignalKind::terminate(), "SIGTERM"), (SignalKind::interrupt(), "SIGINT")] {
        let mut stream =
            signal(kind).map_err(|source| RoleError::System { action: "listen for signals", source })?;
        let token = token.clone();
        tokio::spawn(async move {
            if stream.recv().await.is_some() {
                info!(signal = name, "ending");
                token.cancel();
            }
        });
    }
    Ok(())
}

/// The HTTP interface while it runs.
pub(crate) struct Http {
    pub(crate) address: SocketAddr,
    thread: std::thread::JoinHandle<()>,
    end: CancellationToken,
}

/// Serves HTTP for a role until [`Http::end`].
pub(crate) fn serve_http(
    common: &CommonArgs,
    status: watch::Receiver<NodeStatus>,
    figures: Figures,
    resign: Option<(Resign, String)>,
) -> Result<Http, RoleError> {
    let failed = |source| RoleError::Http { address: common.http, source };
    let listener = TcpListener::bind(common.http).map_err(failed)?;
    let metrics = Arc::new(Metrics::new(status.clone(), figures));
    // Not the token of the role: what it says while it ends is worth hearing.
    let end = CancellationToken::new();
    let (address, thread) =
        http::start(listener, Node { status, metrics, resign }, end.clone()).map_err(failed)?;
    info!(%address, "HTTP");
    Ok(Http { address, thread, end })
}

impl Http {
    /// Stops serving.
    pub(crate) fn end(self) {
        self.end.cancel();
        // A panic there has been reported by the panic itself.
        let _ = self.thread.join();
    }
}

/// Writes the addresses that the process really listens on, once it serves.
pub(crate) async fn write_ready_file(
    file: Option<PathBuf>,
    mut status: watch::Receiver<NodeStatus>,
    listen: watch::Receiver<Option<SocketAddr>>,
    http: SocketAddr,
) {
    let Some(file) = file else { return };
    let ready = |status: &NodeStatus| match status {
        NodeStatus::Instance(instance) => instance.ready,
        NodeStatus::Storage(storage) => storage.ready,
    };
    if status.wait_for(ready).await.is_err() {
        return;
    }
    let listen = *listen.borrow();
    let text = serde_json::json!({ "listen": listen.map(|a| a.to_string()), "http": http.to_string() });
    if let Err(error) = write_whole(&file, &format!("{text}\n")) {
        tracing::error!(?file, %error, "cannot write the ready file");
    }
}

/// Whoever waits for the file must never see half of it.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    std::fs::File::create(&temporary)?.write_all(text.as_bytes())?;
    std::fs::rename(temporary, path)
}

/// Reads a small text file, without the newline at its end.
pub(crate) fn read_text(path: &Path) -> Result<String, RoleError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| RoleError::File { path: path.to_path_buf(), source })?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}
