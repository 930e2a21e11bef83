//! Full disks: real ones.

use node_core::ids::{Ballot, Outcome, RunId};
use node_core::wire::{Reply, Request, Vote};

use crate::tmpfs::Tmpfs;
use crate::world::{Client, Node, at, id, large, txn, volume};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_full_disk_refuses_proposals_reads_and_decides_and_recovers_by_itself() {
    let dir = tempfile::tempdir().expect("temp dir");
    let Some(disk) = Tmpfs::mount(&dir.path().join("node-2"), 64) else { return };
    let (mut nodes, _) = volume(dir.path()).await;
    let mut client = Client::connect(&nodes[2]).await;
    client.open_seat().await;
    let (first, begun, second) = (txn(1, "a", None), txn(2, "b", None), txn(3, "c", None));
    assert_eq!(client.vote(&first).await, Vote::Accept);
    client.decide(&first);
    assert_eq!(client.vote(&begun).await, Vote::Accept);
    assert_eq!(client.rows(at(1)).await.len(), 1);

    disk.fill();
    nodes[2].wait_for("refusing", |status| status.refusing.is_some()).await;
    let reason = client.refusal(&second).await;
    for part in ["storage node 2", "disk is full", "of 64 MiB", "free some"] {
        assert!(reason.contains(part), "{part:?} is not in {reason:?}");
    }
    // It reads what is there, and the present.
    assert_eq!(client.rows(at(1)).await.len(), 1);
    assert_eq!(client.index(1).await, (at(1), vec![id(2)]));
    // What was begun is decided: by a vote that is repeated, a ballot, a decision.
    assert_eq!(client.vote(&begun).await, Vote::Accept);
    let ballot = Ballot { round: 2, proposer: RunId(77) };
    client.send(Request::Prepare { txn: id(2), ballot, body: None });
    client.expect("promise", |reply| matches!(reply, Reply::Promised(_)).then_some(())).await;
    client.send(Request::Accept { txn: id(2), ballot, value: Outcome::Commit, body: Some(begun.clone()) });
    client.expect("accept", |reply| matches!(reply, Reply::Accepted { .. }).then_some(())).await;
    client.decide(&begun);
    assert_eq!(client.index(2).await, (at(2), vec![]));

    disk.empty();
    nodes[2].wait_for("taking proposals again", |status| status.ready()).await;
    assert_eq!(client.vote(&second).await, Vote::Accept);
    client.decide(&second);
    assert_eq!(client.rows(at(3)).await.len(), 3);
    for node in nodes {
        node.stop().await;
    }
}

/// Votes on this many large transactions, so that their decisions need room for rows that is not there.
const BEGUN: u64 = 60;
const BYTES: usize = 100_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_without_room_are_written_once_there_is_some_and_the_node_goes_on_meanwhile() {
    let dir = tempfile::tempdir().expect("temp dir");
    let Some(disk) = Tmpfs::mount(&dir.path().join("node-2"), 64) else { return };
    let (mut nodes, addresses) = volume(dir.path()).await;
    let mut client = Client::connect(&nodes[2]).await;
    client.open_seat().await;
    let first = txn(1, "a", None);
    assert_eq!(client.vote(&first).await, Vote::Accept);
    client.decide(&first);
    assert_eq!(client.rows(at(1)).await.len(), 1);
    let begun: Vec<_> = (2..2 + BEGUN).map(|seq| large(seq, BYTES)).collect();
    for txn in &begun {
        assert_eq!(client.vote(txn).await, Vote::Accept);
    }
    disk.fill();
    for txn in &begun {
        client.decide(txn);
    }
    let last = at(1 + BEGUN);
    nodes[2].wait_for("knowing all", |status| status.ordered == last).await;
    nodes[2].wait_for("refusing", |status| status.refusing.is_some()).await;
    // The rows have hit the end of the disk, not only the reserve.
    nodes[2].wait_for("rows that wait", |status| status.rows_waiting).await;
    assert_ne!(nodes[2].status().applied, last, "there was room for all of it");
    assert_eq!(client.rows(at(1)).await[0].0, "a");
    assert_eq!(client.index(1).await, (last.clone(), vec![]));

    // A restart on the full disk changes nothing of that, and loses nothing.
    nodes.pop().expect("three nodes").stop().await;
    nodes.push(Node::start(dir.path(), 2, &addresses).await);
    nodes[2].wait_for("reading again", |status| status.ordered == last).await;
    let mut client = Client::connect(&nodes[2]).await;
    assert_eq!(client.rows(at(1)).await[0].0, "a");
    assert!(client.refusal(&txn(900, "z", None)).await.contains("disk is full"));

    disk.empty();
    nodes[2].wait_for("rows", |status| status.applied == last && status.ready()).await;
    assert_eq!(client.rows(last.clone()).await.len(), 1 + BEGUN as usize);
    nodes.pop().expect("three nodes").stop().await;
    nodes.push(Node::start(dir.path(), 2, &addresses).await);
    nodes[2].wait_for("being there again", |status| status.ready()).await;
    let mut client = Client::connect(&nodes[2]).await;
    let rows = client.rows(last).await;
    assert_eq!(rows.len(), 1 + BEGUN as usize);
    for (txn, (key, value)) in begun.iter().zip(&rows[1..]) {
        assert!(txn.writes[0].key == *key && txn.writes[0].value == *value, "{key:?}");
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_without_room_makes_no_promises_and_goes_on_with_what_it_had_begun() {
    let dir = tempfile::tempdir().expect("temp dir");
    let Some(disk) = Tmpfs::mount(&dir.path().join("node-2"), 64) else { return };
    let (mut nodes, addresses) = volume(dir.path()).await;
    let mut client = Client::connect(&nodes[2]).await;
    client.open_seat().await;
    let promised = large(1, 1000);
    assert_eq!(client.vote(&promised).await, Vote::Accept);
    disk.fill();
    nodes[2].wait_for("refusing", |status| status.refusing.is_some()).await;
    // Promises, with their records, until the segments that were there are written full.
    let mut kept = 0;
    for seq in 2.. {
        let ballot = Ballot { round: 2, proposer: RunId(77) };
        client.send(Request::Prepare { txn: id(seq), ballot, body: Some(large(seq, 1 << 20)) });
        let answer = client.expect("an answer", |reply| match reply {
            Reply::Promised(promise) if promise.txn == id(seq) => Some(true),
            Reply::Unable { txn, reason } if *txn == id(seq) => {
                assert!(reason.contains("disk is full"), "{reason}");
                Some(false)
            }
            _ => None,
        });
        // The first one that finds no room is never answered: it is not durable. Whoever asks again is told.
        match tokio::time::timeout(std::time::Duration::from_secs(2), answer).await {
            Ok(true) => kept = seq,
            Ok(false) => break,
            Err(_) => continue,
        }
        assert!(seq < 200, "the log never ends");
    }
    assert!(kept > 4, "the log had kept no room for what decides: {kept}");
    disk.empty();
    nodes[2].wait_for("taking proposals again", |status| status.ready()).await;
    nodes.pop().expect("three nodes").stop().await;
    nodes.push(Node::start(dir.path(), 2, &addresses).await);
    nodes[2].wait_for("being there again", |status| status.ready()).await;
    let mut client = Client::connect(&nodes[2]).await;
    // Every promise that was told stands.
    for seq in 2..=kept {
        let ballot = Ballot { round: 1, proposer: RunId(1) };
        client.send(Request::Prepare { txn: id(seq), ballot, body: None });
        let nack = client.expect("nack", |reply| match reply {
            Reply::Nack { txn, promised, .. } if *txn == id(seq) => Some(promised.round),
            Reply::Promised(promise) if promise.txn == id(seq) => panic!("{seq} was forgotten"),
            _ => None,
        });
        assert_eq!(nack.await, 2);
    }
    assert_eq!(client.vote(&promised).await, Vote::Accept);
    for node in nodes {
        node.stop().await;
    }
}
