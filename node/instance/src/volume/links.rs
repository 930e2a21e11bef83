//! Connections to the storage nodes: one task each keeps its node connected and passes on what it says.

use std::time::Duration;

use node_core::ids::StorageId;
use node_core::wire::{Membership, Peer, Reply, Request};
use node_storage::carrier::{self, Receiver, Sender};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

/// What a link reports. `generation` tells connections to one node apart.
pub(super) enum LinkEvent {
    /// The node is a voting member and takes requests.
    Up { node: StorageId, generation: u64, sender: Sender<Request>, zone: String },
    /// The node said something.
    Said { node: StorageId, generation: u64, replies: Vec<Reply> },
    /// The connection is gone; this side of it is closed once this is dropped.
    Down { node: StorageId, generation: u64, connection: Receiver<Reply> },
}

/// What links have heard and the thread has not dealt with yet, in frames: then they read no further, and what
/// the storage nodes go on saying waits there.
pub(super) const EVENTS_MAX: usize = 256;

/// What a link needs to know.
#[derive(Clone)]
pub(super) struct LinkConfig {
    pub(super) node: StorageId,
    pub(super) address: String,
    pub(super) peer: Peer,
    pub(super) cluster: String,
}

const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_millis(500);

/// Keeps one node connected until `stop`.
pub(super) async fn keep(config: LinkConfig, events: mpsc::Sender<LinkEvent>, stop: CancellationToken) {
    let mut generation = 0;
    let mut pause = RETRY_MIN;
    let mut refusal: Option<String> = None;
    loop {
        generation += 1;
        let attempt = async {
            match carrier::connect(&config.address).await {
                Ok((sender, receiver)) => serve(&config, generation, sender, receiver, &events).await,
                Err(error) => Err(error.to_string()),
            }
        };
        let result = tokio::select! {
            () = stop.cancelled() => return,
            result = attempt => result,
        };
        match result {
            Ok(()) => {
                pause = RETRY_MIN;
                refusal = None;
            }
            Err(reason) => {
                if refusal.as_deref() != Some(reason.as_str()) {
                    info!(
                        node = config.node.0,
                        address = config.address,
                        reason,
                        "storage node not connected"
                    );
                    refusal = Some(reason);
                }
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Greets the node and passes on what it says until the connection ends. An error is a node that cannot be
/// used as it is.
async fn serve(
    config: &LinkConfig,
    generation: u64,
    sender: Sender<Request>,
    mut receiver: Receiver<Reply>,
    events: &mpsc::Sender<LinkEvent>,
) -> Result<(), String> {
    let node = config.node;
    let hello = Request::Hello { peer: config.peer.clone(), cluster: config.cluster.clone() };
    sender.send(&hello).map_err(|error| error.to_string())?;
    let mut welcomed = false;
    loop {
        let mut replies = match receiver.recv_ready().await {
            Ok(Some(replies)) => replies,
            Ok(None) => break,
            Err(error) => match error.other_version() {
                Some(reason) if !welcomed => return Err(reason),
                Some(_) | None => break,
            },
        };
        if !welcomed {
            let zone = welcome(node, replies.first())?;
            replies.remove(0);
            welcomed = true;
            debug!(node = node.0, "storage node connected");
            let sender = sender.clone();
            events.send(LinkEvent::Up { node, generation, sender, zone }).await.map_err(|_| "stopping")?;
        }
        if !replies.is_empty() {
            events.send(LinkEvent::Said { node, generation, replies }).await.map_err(|_| "stopping")?;
        }
    }
    if welcomed {
        events
            .send(LinkEvent::Down { node, generation, connection: receiver })
            .await
            .map_err(|_| "stopping")?;
        return Ok(());
    }
    Err("it hung up before it answered".to_owned())
}

fn welcome(expected: StorageId, reply: Option<&Reply>) -> Result<String, String> {
    match reply {
        Some(Reply::Welcome { id, .. }) if *id != expected => Err(format!(
            "it is storage node {}, not {}: the addresses are in the wrong order",
            id.0, expected.0
        )),
        Some(Reply::Welcome { membership: Membership::Member(_), zone, .. }) => Ok(zone.clone()),
        Some(Reply::Welcome { membership: Membership::Lost(_), .. }) => {
            Err("it has lost its disk and must be readmitted before it votes".to_owned())
        }
        Some(Reply::Welcome { membership: Membership::Empty | Membership::Forming(_), .. }) => {
            Err("the volume has not been formed yet".to_owned())
        }
        Some(Reply::Refused { reason }) => Err(reason.clone()),
        Some(_) | None => Err("it did not greet".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use node_core::ids::RunId;
    use tokio::net::TcpListener;

    use super::*;

    /// A storage node, as a link finds it.
    fn listening(
        listener: TcpListener,
        stop: &CancellationToken,
    ) -> (LinkConfig, mpsc::UnboundedReceiver<carrier::Accepted>) {
        let address = listener.local_addr().expect("it is bound").to_string();
        let (accepted_in, accepted) = mpsc::unbounded_channel();
        tokio::spawn(carrier::serve(listener, move |one| drop(accepted_in.send(one)), stop.clone()));
        let peer = Peer::Instance { name: "shop-0".to_owned(), ordinal: 0, tier: 1, run: RunId(1) };
        (LinkConfig { node: StorageId(0), address, peer, cluster: "shop".to_owned() }, accepted)
    }

    fn greet(server: &carrier::Accepted) {
        let (id, membership) = (StorageId(0), Membership::Member(1));
        let welcome = Reply::Welcome { id, run: RunId(2), membership, zone: String::new() };
        server.sender.send(&welcome).expect("open");
    }

    /// Otherwise it would be taken for connected, and never asked again.
    #[tokio::test]
    async fn a_storage_node_that_ends_behind_its_greeting_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let stop = CancellationToken::new();
        let (config, mut accepted) = listening(listener, &stop);
        // The thread reads late: the greeting and the end have come when it looks.
        let (events_in, mut events) = mpsc::channel(1);
        let link = tokio::spawn(keep(config, events_in, stop.clone()));
        for expected in 1..3 {
            let server = accepted.recv().await.expect("the link connects, and again");
            greet(&server);
            drop(server);
            let up = events.recv().await;
            assert!(matches!(up, Some(LinkEvent::Up { generation, .. }) if generation == expected));
            let down = tokio::time::timeout(Duration::from_secs(5), events.recv()).await;
            assert!(matches!(down, Ok(Some(LinkEvent::Down { generation, .. })) if generation == expected));
        }
        stop.cancel();
        link.await.expect("no panic");
    }

    #[tokio::test]
    async fn what_the_thread_does_not_take_stays_with_the_storage_node() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let stop = CancellationToken::new();
        let (config, mut accepted) = listening(listener, &stop);
        let (events_in, mut events) = mpsc::channel(2);
        let link = tokio::spawn(keep(config, events_in, stop.clone()));
        let server = accepted.recv().await.expect("the link connects");
        greet(&server);
        let bulk = Reply::ReadRefused { id: 1, reason: "x".repeat(1 << 20) };
        // Nobody takes events: the windows and buffers on the way fill, and then the storage node waits.
        let mut sent = 0;
        while server.sender.queued_bytes() < carrier::BULK_BYTES_HIGH {
            server.sender.send(&bulk).expect("open");
            sent += 1;
            tokio::task::yield_now().await;
            assert!(sent < 200, "the link reads on and on");
        }
        assert!(futures::FutureExt::now_or_never(server.sender.ready()).is_none());
        // Taken, it goes on.
        let taken = tokio::spawn(async move { while events.recv().await.is_some() {} });
        server.sender.ready().await.expect("room again");
        stop.cancel();
        link.await.expect("no panic");
        taken.await.expect("no panic");
    }
}
