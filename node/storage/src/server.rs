//! Connections to this node: who they are, and which thread answers what.
//!
//! Heartbeats and the first message are answered here, so that they never wait for the disk; rows go to
//! the readers, feeds to a task of their own, everything else to the storage thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use node_core::ids::Vector;
use node_core::wire::{Peer, Reply, Request};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use crate::carrier::{Accepted, CarrierError, Closed};
use crate::connection::Connection;
use crate::feed::{Position, encode};
use crate::instances::{Heard, Standing};
use crate::reads::{Job, chain, refuse};
use crate::rows::Backlog;
use crate::shared::{Shared, Work};

/// How long a new connection may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections served at a time; more are refused. Instances and storage nodes have one each.
pub(crate) const CONNECTIONS_MAX: usize = 256;
/// Decided history read back at once.
const BACKLOG_BYTES: usize = 1 << 20;

/// Counts a connection for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    /// `None` if there are too many.
    fn new(count: &'a AtomicUsize) -> Option<Counted<'a>> {
        let counted = Counted(count);
        (count.fetch_add(1, Ordering::Relaxed) < CONNECTIONS_MAX).then_some(counted)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves a connection until it closes.
pub(crate) async fn serve(shared: Arc<Shared>, accepted: Accepted) {
    let Accepted { remote, sender, mut receiver } = accepted;
    let Some(_counted) = Counted::new(&shared.connections) else {
        let reason = format!("the storage node has {CONNECTIONS_MAX} connections, and takes no more");
        tracing::warn!(?remote, %reason, "connection refused");
        let _ = sender.send(&Reply::Refused { reason });
        return sender.close();
    };
    let greeting = tokio::time::timeout(HELLO_TIMEOUT, receiver.recv_ready());
    let greeting = tokio::select! {
        greeting = greeting => greeting,
        () = shared.stop.cancelled() => return,
    };
    let mut first = match greeting {
        Ok(Ok(Some(first))) => first,
        Ok(Err(error)) => {
            if let Some(reason) = error.other_version() {
                tracing::warn!(?remote, %reason, "connection refused");
                let _ = sender.send(&Reply::Refused { reason });
                sender.close();
            }
            return;
        }
        // Silent for too long, or closed: nobody is there to be told.
        Ok(Ok(None)) | Err(_) => return,
    };
    let Some(Request::Hello { peer, cluster }) = (!first.is_empty()).then(|| first.remove(0)) else {
        let _ = sender.send(&Reply::Refused { reason: "a connection begins with Hello".to_owned() });
        return sender.close();
    };
    if let Some(reason) = objection(&shared, &peer, &cluster) {
        tracing::warn!(?remote, %reason, "connection refused");
        let _ = sender.send(&Reply::Refused { reason });
        return sender.close();
    }
    let connection = Arc::new(Connection {
        id: shared.next_connection(),
        peer,
        sender,
        told: parking_lot::Mutex::default(),
    });
    let membership = *shared.membership.lock();
    let welcome = Reply::Welcome {
        id: shared.config.id,
        run: shared.run,
        membership,
        zone: shared.config.zone.clone(),
    };
    let _ = connection.sender.send(&welcome);
    tracing::info!(peer = ?connection.peer, ?remote, "connected");
    if matches!(connection.peer, Peer::Instance { .. }) {
        shared.instances.lock().connected(&connection, Instant::now());
        shared.topology_changed.notify_one();
    }
    let mut feed = None;
    let end = tokio::select! {
        end = receive(&shared, &connection, first, &mut receiver, &mut feed) => Some(end),
        () = shared.stop.cancelled() => None,
    };
    // What this node ends itself, the instance may not know of yet.
    let ended =
        matches!(end, Some(Ok(()) | Err(CarrierError::Stream { .. }))) && !connection.sender.was_cut();
    connection.sender.close();
    if matches!(connection.peer, Peer::Instance { .. }) {
        shared.instances.lock().disconnected(&connection, ended, Instant::now());
        shared.topology_changed.notify_one();
    }
    match end {
        Some(Ok(())) | None => tracing::info!(peer = ?connection.peer, "disconnected"),
        Some(Err(error)) => tracing::info!(peer = ?connection.peer, error = %chain(&error), "disconnected"),
    }
}

fn objection(shared: &Shared, peer: &Peer, cluster: &str) -> Option<String> {
    if cluster != shared.config.cluster {
        return Some(format!(
            "this storage node belongs to cluster {}, not {cluster}",
            shared.config.cluster
        ));
    }
    match peer {
        Peer::Storage { id, .. } if *id == shared.config.id => {
            Some(format!("storage node {} exists twice", id.0))
        }
        Peer::Storage { id, .. } if id.0 as usize >= shared.config.nodes => {
            Some(format!("there is no storage node {} in a volume of {}", id.0, shared.config.nodes))
        }
        Peer::Storage { .. } | Peer::Instance { .. } => None,
    }
}

type FeedTask = Option<AbortOnDropHandle<()>>;

async fn receive(
    shared: &Arc<Shared>,
    connection: &Arc<Connection>,
    mut requests: Vec<Request>,
    receiver: &mut crate::carrier::Receiver<Request>,
    feed: &mut FeedTask,
) -> Result<(), CarrierError> {
    loop {
        let mut rest = Vec::with_capacity(requests.len());
        for request in requests {
            rest.extend(answer(shared, connection, request, feed));
        }
        if !rest.is_empty() {
            shared.inbox.push(Work::Requests { connection: connection.clone(), requests: rest });
            shared.inbox.room().await;
        }
        requests = match receiver.recv_ready().await? {
            Some(requests) => requests,
            None => return Ok(()),
        };
    }
}

/// Answers what the network side can; gives back what the storage thread has to.
fn answer(
    shared: &Arc<Shared>,
    connection: &Arc<Connection>,
    request: Request,
    feed: &mut FeedTask,
) -> Option<Request> {
    match request {
        Request::Heartbeat { beat, role, epoch, applied, low, lag_us } => {
            let Peer::Instance { run, .. } = connection.peer else { return None };
            let standing = Standing { role, epoch, applied, low, lag_us };
            let Heard { news, lease } = shared.instances.lock().heard(run, standing, Instant::now());
            let _ = connection.sender.send(&Reply::Beat { beat, lease });
            if news {
                shared.topology_changed.notify_one();
            }
            None
        }
        Request::Subscribe { from } => {
            let task = subscribe(shared.clone(), connection.clone(), from);
            *feed = Some(AbortOnDropHandle::new(tokio::spawn(task)));
            None
        }
        Request::Read(read) => {
            if !shared.is_member() {
                refuse(connection, read.id, "the storage node is not a member of the volume");
            } else if !read.newest && !read.from.is_empty() && !read.from.covers(&shared.low.lock()) {
                refuse(connection, read.id, "the snapshot is older than what the storage node keeps");
            } else if shared.reads.read(connection.clone(), read, Instant::now()) {
                shared.rows_queue.hurry();
                shared.inbox.push(Work::Hurry);
            }
            None
        }
        question @ Request::Digest { .. } => {
            // Whoever is not answered leaves this node out. What is not a member's counts for nothing.
            if shared.is_member() {
                shared.reads.offer(Job::Digest { connection: connection.clone(), question });
            }
            None
        }
        Request::Hello { .. } => None,
        request => Some(request),
    }
}

/// Sends the decided history from `at` on until the connection closes.
async fn subscribe(shared: Arc<Shared>, connection: Arc<Connection>, at: Vector) {
    if let Err(Failed(reason)) = feed(&shared, &connection, at).await {
        tracing::warn!(peer = ?connection.peer, %reason, "a subscriber is cut off");
        connection.sender.cut();
    }
}

struct Failed(String);

impl From<Closed> for Failed {
    fn from(closed: Closed) -> Failed {
        Failed(closed.to_string())
    }
}

async fn feed(shared: &Shared, connection: &Connection, mut at: Vector) -> Result<(), Failed> {
    let mut changed = shared.feed.watch();
    loop {
        let next = match shared.feed.position(&at) {
            Position::Chunk(number) => Some(number),
            Position::New { end, next } => {
                at = end;
                connection.sender.send(&Reply::FeedReset { at: at.clone() })?;
                Some(next)
            }
            Position::Behind => backlog(shared, connection, &mut at).await?,
        };
        let Some(mut next) = next else { continue };
        loop {
            changed.borrow_and_update();
            // Gone: it was read too slowly, and goes on from what is stored.
            let Some(chunks) = shared.feed.since(next) else { break };
            for chunk in &chunks {
                connection.sender.ready().await?;
                connection.sender.send_encoded(&chunk.for_subscriber(&at))?;
                at.join(&chunk.after);
                next += 1;
            }
            if chunks.is_empty() && changed.changed().await.is_err() {
                return Ok(());
            }
        }
    }
}

/// Sends a piece of stored history. If that is gone, tells the subscriber to begin anew, and gives the
/// number of the chunk that follows.
async fn backlog(shared: &Shared, connection: &Connection, at: &mut Vector) -> Result<Option<u64>, Failed> {
    let (answer, piece) = oneshot::channel();
    shared.reads.submit(Job::Backlog { from: at.clone(), bytes_max: BACKLOG_BYTES, answer });
    let piece = piece.await.map_err(|_| Failed("the node is stopping".to_owned()))?;
    match piece.map_err(|error| Failed(chain(&error)))? {
        Backlog::Piece { items, to } => {
            if items.is_empty() {
                return Err(Failed("the stored history has a gap".to_owned()));
            }
            connection.sender.ready().await?;
            let message: Bytes = encode(&items, &shared.low.lock().clone());
            connection.sender.send_encoded(&message)?;
            at.join(&to);
            Ok(None)
        }
        Backlog::Gone => match shared.feed.position(&Vector::new()) {
            Position::New { end, next } => {
                *at = end;
                connection.sender.send(&Reply::FeedReset { at: at.clone() })?;
                Ok(Some(next))
            }
            Position::Chunk(next) => Ok(Some(next)),
            Position::Behind => Err(Failed("the stored history is gone".to_owned())),
        },
    }
}
