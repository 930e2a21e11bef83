//! Connections to the other storage nodes: one task a peer, which asks for its status and passes on what it
//! answers.

use std::sync::Arc;
use std::time::Duration;

use node_core::ids::StorageId;
use node_core::wire::{Membership, Peer, Reply, Request};

use crate::carrier::{self, CarrierError, Receiver, Sender};
use crate::reads::chain;
use crate::shared::{Shared, Work};

const STATUS_INTERVAL: Duration = Duration::from_millis(200);
/// While a volume forms, everybody waits for it.
const FORMING_INTERVAL: Duration = Duration::from_millis(40);
const RETRY_FIRST: Duration = Duration::from_millis(40);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// After a refusal: somebody has to change a configuration first.
const REFUSED_RETRY: Duration = Duration::from_secs(5);

enum End {
    Lost,
    Refused(String),
}

/// Keeps a connection to a peer until the node stops.
pub(crate) async fn keep(shared: Arc<Shared>, peer: StorageId, address: String) {
    let mut retry = RETRY_FIRST;
    loop {
        let wait = match carrier::connect(&address).await {
            Ok((sender, receiver)) => {
                retry = RETRY_FIRST;
                let end = talk(&shared, peer, sender, receiver).await;
                *shared.peers[peer.0 as usize].lock() = None;
                shared.inbox.push(Work::PeerDown(peer));
                match end {
                    Ok(End::Lost) => retry,
                    Ok(End::Refused(reason)) => {
                        tracing::warn!(peer = peer.0, %address, %reason, "a storage node refuses this one");
                        REFUSED_RETRY
                    }
                    Err(error) => match error.other_version() {
                        Some(reason) => {
                            tracing::warn!(peer = peer.0, %address, %reason, "a storage node refuses this one");
                            REFUSED_RETRY
                        }
                        None => {
                            tracing::info!(peer = peer.0, error = %chain(&error), "storage peer lost");
                            retry
                        }
                    },
                }
            }
            Err(error) => {
                tracing::debug!(peer = peer.0, error = %chain(&error), "storage peer not reachable");
                retry = (retry * 2).min(RETRY_MAX);
                retry
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn talk(
    shared: &Shared,
    peer: StorageId,
    sender: Sender<Request>,
    mut receiver: Receiver<Reply>,
) -> Result<End, CarrierError> {
    let hello = Peer::Storage { id: shared.config.id, run: shared.run };
    let mut changed = shared.membership_changed.subscribe();
    let cluster = shared.config.cluster.clone();
    if sender.send(&Request::Hello { peer: hello, cluster }).is_err() {
        return Ok(End::Lost);
    }
    *shared.peers[peer.0 as usize].lock() = Some(sender.clone());
    loop {
        let membership = *shared.membership.lock();
        let settled = shared.published.lock().settled.clone();
        if sender.send(&Request::Status { membership, settled }).is_err() {
            return Ok(End::Lost);
        }
        let interval = match membership {
            Membership::Member(_) | Membership::Lost(_) => STATUS_INTERVAL,
            Membership::Empty | Membership::Forming(_) => FORMING_INTERVAL,
        };
        let next = tokio::time::sleep(interval);
        tokio::pin!(next);
        loop {
            tokio::select! {
                () = &mut next => break,
                _ = changed.changed() => break,
                received = receiver.recv_ready() => {
                    let Some(mut replies) = received? else { return Ok(End::Lost) };
                    if let Some(end) = refused(peer, &replies) {
                        return Ok(end);
                    }
                    shared.scrub.take_answers(peer, &mut replies);
                    shared.inbox.push(Work::Replies { peer, replies });
                }
            }
        }
    }
}

/// Whether the peer refuses, or is not who it should be.
fn refused(peer: StorageId, replies: &[Reply]) -> Option<End> {
    replies.iter().find_map(|reply| match reply {
        Reply::Refused { reason } => Some(End::Refused(reason.clone())),
        Reply::Welcome { id, .. } if *id != peer => {
            Some(End::Refused(format!("storage node {} answers where {} should be", id.0, peer.0)))
        }
        _ => None,
    })
}
