//! The HTTP interface of a node: `/livez`, `/readyz`, `/metrics`, `/v1/status` and `/v1/resign`.
//!
//! It runs on a thread and a runtime of its own, so that a node that is busy, or waits for its disk, still
//! answers. The shapes and the rules of `?watch` are `crds::node_api`'s.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use crds::node_api::{InstanceStatus, NodeStatus, ResignRequest, WATCH_HEARTBEAT_SECONDS};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// Lines that a slow watcher may be behind; only the newest matter, so one is enough.
const WATCH_LINES: usize = 1;
/// How long open requests get to end once the node ends.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// Asks an instance to hand its seat over. False: it is not the writer.
pub(crate) type Resign = Arc<dyn Fn(ResignRequest) -> bool + Send + Sync>;

/// What the interface shows.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) status: watch::Receiver<NodeStatus>,
    pub(crate) metrics: Arc<Metrics>,
    /// How to resign, and the `Authorization` header that is needed for it; instances only.
    pub(crate) resign: Option<(Resign, String)>,
}

/// Serves until the token is cancelled.
///
/// # Errors
///
/// If the thread or its runtime cannot be made.
pub(crate) fn start(
    listener: StdListener,
    node: Node,
    shutdown: CancellationToken,
) -> std::io::Result<(SocketAddr, std::thread::JoinHandle<()>)> {
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _entered = runtime.enter();
        TcpListener::from_std(listener)?
    };
    let thread = std::thread::Builder::new().name("http".into()).spawn(move || {
        runtime.block_on(serve(listener, node, shutdown));
    })?;
    Ok((address, thread))
}

async fn serve(listener: TcpListener, node: Node, shutdown: CancellationToken) {
    let app = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .route("/v1/resign", post(resign))
        .with_state(node);
    let ending = shutdown.clone();
    let server = axum::serve(listener, app).with_graceful_shutdown(async move { ending.cancelled().await });
    tokio::select! {
        ended = server => {
            if let Err(error) = ended {
                tracing::error!(%error, "the HTTP interface ended");
            }
        }
        // Held-open requests would otherwise keep it for ever.
        () = async { shutdown.cancelled().await; time::sleep(LAST_REQUESTS).await } => {}
    }
}

async fn readyz(State(node): State<Node>) -> Response {
    let (ready, why) = match &*node.status.borrow() {
        NodeStatus::Instance(instance) => (instance.ready, format!("{:?}", instance.state)),
        NodeStatus::Storage(storage) => {
            (storage.ready, format!("voting: {}, settled: {}", storage.voting, storage.settled))
        }
    };
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, format!("{}\n", if ready { "ok".to_owned() } else { why })).into_response()
}

async fn metrics(State(node): State<Node>) -> Response {
    let text = node.metrics.encode();
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
        .into_response()
}

#[derive(serde::Deserialize)]
struct StatusQuery {
    watch: Option<String>,
}

async fn status(State(mut node): State<Node>, Query(query): Query<StatusQuery>) -> Response {
    if query.watch.is_none_or(|watch| watch == "0" || watch == "false") {
        let line = line(&node.status.borrow());
        return ([(header::CONTENT_TYPE, "application/json")], line).into_response();
    }
    let (lines, receiver) = mpsc::channel(WATCH_LINES);
    // Ends when the watcher hangs up or the node's status is no longer kept.
    tokio::spawn(async move { watch_status(&mut node.status, &lines).await });
    let body = Body::from_stream(ReceiverStream::new(receiver));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

/// Sends the status now, whenever something that matters has changed, and as a sign of life.
async fn watch_status(
    status: &mut watch::Receiver<NodeStatus>,
    lines: &mpsc::Sender<Result<Bytes, Infallible>>,
) {
    let heartbeat = Duration::from_secs(WATCH_HEARTBEAT_SECONDS);
    loop {
        let sent = status.borrow_and_update().clone();
        if lines.send(Ok(line(&sent))).await.is_err() {
            return;
        }
        let matters = status.wait_for(|now| essence(now) != essence(&sent));
        tokio::select! {
            changed = time::timeout(heartbeat, matters) => match changed {
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(_)) => return,
            },
            () = lines.closed() => return,
        }
    }
}

/// A status without what changes all the time.
fn essence(status: &NodeStatus) -> NodeStatus {
    match status {
        NodeStatus::Instance(instance) => NodeStatus::Instance(InstanceStatus {
            lag_ms: None,
            applied: Vec::new(),
            connections: 0,
            ..instance.clone()
        }),
        NodeStatus::Storage(storage) => NodeStatus::Storage(storage.clone()),
    }
}

fn line(status: &NodeStatus) -> Bytes {
    let mut text = serde_json::to_vec(status).expect("a status of plain values serialises");
    text.push(b'\n');
    text.into()
}

async fn resign(State(node): State<Node>, headers: HeaderMap, body: Bytes) -> Response {
    let Some((resign, authorization)) = &node.resign else {
        return (StatusCode::NOT_FOUND, "a storage node has nothing to resign from\n").into_response();
    };
    let given = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
    if !equal_in_constant_time(given, authorization.as_bytes()) {
        let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"borealis\"")];
        return (StatusCode::UNAUTHORIZED, ask, "log in as the administrator\n").into_response();
    }
    let request = if body.is_empty() { Ok(ResignRequest::default()) } else { serde_json::from_slice(&body) };
    match request {
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
        Ok(request) if resign(request.clone()) => (StatusCode::ACCEPTED, "handing over\n").into_response(),
        Ok(_) => (StatusCode::CONFLICT, "this instance is not the writer\n").into_response(),
    }
}

fn equal_in_constant_time(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// The `Authorization` header of HTTP basic authentication.
pub(crate) fn basic_authorization(user: &str, password: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("Basic ");
    for chunk in format!("{user}:{password}").as_bytes().chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for position in 0..4 {
            let index = usize::try_from(bits >> (18 - 6 * position) & 63).expect("six bits fit");
            text.push(if position <= chunk.len() { char::from(ALPHABET[index]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests;
