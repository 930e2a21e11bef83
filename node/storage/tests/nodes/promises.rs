//! What a storage node promises, over restarts and lost disks.

use std::path::Path;

use bytes::Bytes;
use node_core::ids::{Epoch, Outcome, RunId, Seat, StorageId, Vector};
use node_core::wire::{FeedItem, Membership, Peer, Reply, Request, Role, Settled, Vote, WIRE_VERSION};
use node_storage::{StorageStatus, carrier};

use crate::world::{Client, Node, PATIENCE, addresses, at, id, txn, volume};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn votes_and_rows_survive_a_restart_of_the_whole_volume() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (nodes, addresses) = volume(dir.path()).await;
    let mut client = Client::connect(&nodes[0]).await;
    client.open_seat().await;
    let (first, second) = (txn(1, "a", None), txn(2, "a", Some((1, 1))));
    assert_eq!(client.vote(&first).await, Vote::Accept);
    client.decide(&first);
    assert_eq!(client.vote(&second).await, Vote::Accept);
    assert_eq!(client.rows(at(1)).await, vec![(Bytes::from("a"), Some(Bytes::from("value 1")))]);
    for node in nodes {
        node.stop().await;
    }
    let mut nodes = Vec::new();
    for number in 0..3 {
        nodes.push(Node::start(dir.path(), number, &addresses).await);
    }
    nodes[0].wait_for("being a member again", |status| status.ready()).await;
    let mut client = Client::connect(&nodes[0]).await;
    // The vote stands, and its hold keeps others out.
    assert_eq!(client.vote(&second).await, Vote::Accept);
    assert_eq!(client.vote(&txn(3, "a", Some((1, 1)))).await, Vote::Locked { by: id(2) });
    client.send(Request::Propose(first.clone()));
    let settled = client.expect("settled", |reply| match reply {
        Reply::Settled { txn, settled } if *txn == id(1) => Some(*settled),
        _ => None,
    });
    assert_eq!(settled.await, Settled::Decided(Outcome::Commit));
    assert_eq!(client.rows(at(1)).await, vec![(Bytes::from("a"), Some(Bytes::from("value 1")))]);
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_down_fetches_what_it_missed_from_its_peers() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (mut nodes, addresses) = volume(dir.path()).await;
    nodes.pop().expect("three nodes").stop().await;
    let mut clients = Vec::new();
    for node in &nodes {
        let mut client = Client::connect(node).await;
        client.open_seat().await;
        clients.push(client);
    }
    const COUNT: u64 = 2500;
    for seq in 1..=COUNT {
        let txn = txn(seq, &format!("key {seq:05}"), None);
        for client in &clients {
            client.send(Request::Propose(txn.clone()));
            client.decide(&txn);
        }
    }
    for client in &mut clients {
        assert_eq!(client.rows(at(COUNT)).await.len(), COUNT as usize);
    }
    let mut late = Node::start(dir.path(), 2, &addresses).await;
    late.wait_for("catching up", |status| status.applied == at(COUNT)).await;
    let mut client = Client::connect(&late).await;
    assert_eq!(client.rows(at(COUNT)).await.len(), COUNT as usize);
    // It knows the seat's epoch as well.
    client.send(Request::ReadIndex { id: 1, holds: Some((Seat(0), Epoch(0))) });
    let index = client.expect("index", |reply| match reply {
        Reply::Index { committed, current, .. } => Some((committed.clone(), *current)),
        _ => None,
    });
    assert_eq!(index.await, (at(COUNT), false));
    late.stop().await;
}

/// Stops the node, takes `lost` of its disk away, and starts it again.
async fn lose(nodes: &mut Vec<Node>, dir: &Path, addresses: &[String], lost: &str) -> Node {
    let id = u8::try_from(nodes.len() - 1).expect("three nodes");
    nodes.pop().expect("three nodes").stop().await;
    std::fs::remove_dir_all(dir.join(format!("node-{id}")).join(lost)).expect("its disk");
    Node::start(dir, id, addresses).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_an_emptied_disk_does_not_vote_while_too_few_others_are_there() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (mut nodes, addresses) = volume(dir.path()).await;
    nodes.remove(0).stop().await;
    nodes.pop().expect("two nodes are left").stop().await;
    std::fs::remove_dir_all(dir.path().join("node-2")).expect("its disk");
    let mut lost = Node::start(dir.path(), 2, &addresses).await;
    lost.wait_for("noticing", |status| matches!(status.membership, Membership::Lost(_))).await;
    let mut client = Client::connect(&lost).await;
    client.send(Request::Propose(txn(1, "a", None)));
    let reason = client.expect("refusal", |reply| match reply {
        Reply::Unable { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert!(reason.await.contains("lost its disk"));
    // One member is not a write quorum of three.
    assert!(!lost.status.borrow().as_ref().is_some_and(StorageStatus::ready));
    let _first = Node::start(dir.path(), 0, &addresses).await;
    lost.wait_for("being readmitted once the others are there", StorageStatus::ready).await;
}

/// What the lost disk helped to commit is committed, and the new disk has all rows and votes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_an_emptied_disk_copies_the_volume_and_votes_again() {
    const COUNT: u64 = 2500;
    let dir = tempfile::tempdir().expect("temp dir");
    let (mut nodes, addresses) = volume(dir.path()).await;
    let mut clients = Vec::new();
    for node in &nodes {
        let mut client = Client::connect(node).await;
        client.open_seat().await;
        clients.push(client);
    }
    for seq in 1..=COUNT {
        let txn = txn(seq, &format!("key {seq:05}"), None);
        for client in &clients {
            client.send(Request::Propose(txn.clone()));
            client.decide(&txn);
        }
    }
    // Two of three accepts commit in single-master mode: one of them is about to be lost.
    let chosen = txn(COUNT + 1, "chosen", None);
    assert_eq!(clients[0].vote(&chosen).await, Vote::Accept);
    assert_eq!(clients[2].vote(&chosen).await, Vote::Accept);
    drop(clients);
    let mut back = lose(&mut nodes, dir.path(), &addresses, "").await;
    back.wait_for("being readmitted", StorageStatus::ready).await;
    let counters = back.status.borrow().as_ref().map(|status| status.counters).expect("it runs");
    assert_eq!(counters.readmissions, 1);
    assert!(counters.copied_bytes > COUNT, "only {} bytes were copied", counters.copied_bytes);

    // Together with one of the others it is a quorum.
    nodes.remove(0).stop().await;
    let mut other = Client::connect(&nodes[0]).await;
    let mut client = Client::connect(&back).await;
    for client in [&mut client, &mut other] {
        client.send(Request::Propose(chosen.clone()));
        let settled = client.expect("settled", |reply| match reply {
            Reply::Settled { txn, settled } if *txn == chosen.id => Some(*settled),
            _ => None,
        });
        assert_eq!(settled.await, Settled::Decided(Outcome::Commit));
        let next = txn(COUNT + 2, "chosen", Some((1, COUNT + 1)));
        assert_eq!(client.vote(&next).await, Vote::Accept);
        client.decide(&next);
        assert_eq!(client.rows(at(COUNT + 2)).await.len(), usize::try_from(COUNT + 1).expect("few"));
    }
    // A writer of an older epoch is refused by the new disk too.
    client.send(Request::ReadIndex { id: 1, holds: Some((Seat(0), Epoch(0))) });
    let current = client.expect("index", |reply| match reply {
        Reply::Index { current, .. } => Some(*current),
        _ => None,
    });
    assert!(!current.await);

    // It remembers that it is a member.
    back.stop().await;
    let mut again = Node::start(dir.path(), 2, &addresses).await;
    again.wait_for("being a member at once", StorageStatus::ready).await;
    let counters = again.status.borrow().as_ref().map(|status| status.counters).expect("it runs");
    assert_eq!(counters.readmissions, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_log_is_gone_is_readmitted() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (mut nodes, addresses) = volume(dir.path()).await;
    let mut back = lose(&mut nodes, dir.path(), &addresses, "log").await;
    back.wait_for("being readmitted", StorageStatus::ready).await;
    let counters = back.status.borrow().as_ref().map(|status| status.counters).expect("it runs");
    assert_eq!(counters.readmissions, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_does_not_form_without_all_its_nodes() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (mut listeners, addresses) = addresses(3).await;
    drop(listeners.pop());
    let mut nodes = Vec::new();
    for (id, listener) in (0..).zip(listeners) {
        nodes.push(Node::on(listener, dir.path(), id, &addresses));
    }
    for node in &mut nodes {
        node.wait_for("meeting the other", |status| status.peers_connected == 1).await;
    }
    let mut client = Client::connect(&nodes[0]).await;
    client.send(Request::Propose(txn(1, "a", None)));
    let reason = client.expect("refusal", |reply| match reply {
        Reply::Unable { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert!(reason.await.contains("not formed"));
    let mut third = Node::start(dir.path(), 2, &addresses).await;
    third.wait_for("forming", |status| status.ready()).await;
    let volume = |node: &Node| node.status.borrow().as_ref().map(|status| status.membership);
    nodes[0].wait_for("forming", |status| status.ready()).await;
    assert_eq!(volume(&nodes[0]), volume(&third));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_gets_the_history_from_its_vector_on_in_order() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (nodes, _) = volume(dir.path()).await;
    let mut writer = Client::connect(&nodes[0]).await;
    writer.open_seat().await;
    for seq in 1..=3 {
        writer.decide(&txn(seq, "a", (seq > 1).then_some((seq - 1, seq - 1))));
    }
    writer.rows(at(3)).await;
    let mut client = Client::connect(&nodes[0]).await;
    client.send(Request::Subscribe { from: at(1) });
    writer.decide(&txn(4, "a", Some((3, 3))));
    let mut seqs = Vec::new();
    while seqs.last() != Some(&4) {
        let items = client.expect("feed", |reply| match reply {
            Reply::Feed { items, .. } => Some(items.clone()),
            _ => None,
        });
        for item in items.await {
            if let FeedItem::Commit(txn) = item {
                seqs.push(txn.id.seq.0);
            }
        }
    }
    assert_eq!(seqs, vec![2, 3, 4]);
    client.send(Request::Subscribe { from: Vector::new() });
    let reset = client.expect("reset", |reply| match reply {
        Reply::FeedReset { at } => Some(at.clone()),
        _ => None,
    });
    assert_eq!(reset.await, at(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_are_answered_and_instances_are_told_about_each_other() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (nodes, _) = volume(dir.path()).await;
    let mut first = Client::connect(&nodes[0]).await;
    let (role, epoch) = (Role::Writer, Epoch(0));
    first.send(Request::Heartbeat { beat: 9, role, epoch, applied: at(3), low: at(2), lag_us: 0 });
    first.expect("beat", |reply| (*reply == Reply::Beat { beat: 9, lease: false }).then_some(())).await;
    first
        .expect("topology", |reply| match reply {
            Reply::Topology { instances, .. } => instances
                .iter()
                .any(|info| info.name == "shop-0" && info.role == Role::Writer && info.connected)
                .then_some(()),
            _ => None,
        })
        .await;
    first.open_seat().await;
    first
        .expect("the seat", |reply| match reply {
            Reply::Topology { seats, .. } => seats.iter().any(|seat| seat.active).then_some(()),
            _ => None,
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_of_another_cluster_is_refused_with_a_reason() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (listeners, addresses) = addresses(3).await;
    let node = Node::on(listeners.into_iter().next().expect("three"), dir.path(), 0, &addresses);
    let (sender, mut receiver) = carrier::connect(&node.address).await.expect("the node listens");
    let peer = Peer::Instance { name: "other-0".to_owned(), ordinal: 0, tier: 1, run: RunId(1) };
    sender.send(&Request::Hello { peer, cluster: "other".to_owned() }).expect("open");
    let reply = receiver.recv().await.expect("no error").expect("an answer");
    assert!(matches!(&reply[..], [Reply::Refused { reason }] if reason.contains("shop")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_stops_although_somebody_connected_and_says_nothing() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (listeners, addresses) = addresses(3).await;
    let node = Node::on(listeners.into_iter().next().expect("three"), dir.path(), 0, &addresses);
    let silent = carrier::connect(&node.address).await.expect("the node listens");
    tokio::time::timeout(PATIENCE, node.stop()).await.expect("the node stops");
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_speaks_a_newer_wire_version_is_told_both_versions() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (listeners, addresses) = addresses(3).await;
    let node = Node::on(listeners.into_iter().next().expect("three"), dir.path(), 0, &addresses);
    let (sender, mut receiver) = carrier::connect(&node.address).await.expect("the node listens");
    sender.set_version(WIRE_VERSION + 1);
    let peer = Peer::Storage { id: StorageId(1), run: RunId(1) };
    sender.send(&Request::Hello { peer, cluster: "shop".to_owned() }).expect("open");
    let reply = receiver.recv().await.expect("no error").expect("an answer");
    let [Reply::Refused { reason }] = &reply[..] else { panic!("{reply:?}") };
    assert!(reason.contains(&format!("wire version {}", WIRE_VERSION + 1)), "{reason}");
    assert!(reason.contains(&format!("speaks {WIRE_VERSION}")), "{reason}");
}
