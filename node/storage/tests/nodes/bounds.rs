//! Limits: what a storage node does when more comes than it takes.

use std::time::Duration;

use node_core::ids::RunId;
use node_core::ids::Seq;
use node_core::wire::{Peer, Reply, Request, Vote};
use node_storage::carrier;

use crate::world::{Client, PATIENCE, at, id, large, txn, volume};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_limit_are_refused_until_one_is_closed() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (nodes, _) = volume(dir.path()).await;
    // The two other nodes are connected as well.
    let mut clients = Vec::new();
    let refused = loop {
        let (sender, mut receiver) = carrier::connect(&nodes[0].address).await.expect("it listens");
        let peer = Peer::Instance { name: "shop-0".to_owned(), ordinal: 0, tier: 1, run: RunId(77) };
        // A refused connection may be closed by now.
        let _ = sender.send(&Request::Hello { peer, cluster: "shop".to_owned() });
        let answer = tokio::time::timeout(PATIENCE, receiver.recv()).await.expect("an answer");
        let answer = answer.expect("no error").expect("not closed");
        match answer.first() {
            Some(Reply::Welcome { .. }) => clients.push((sender, receiver)),
            Some(Reply::Refused { reason }) => break reason.clone(),
            other => panic!("{other:?}"),
        }
        assert!(clients.len() < 300, "it takes all there are");
    };
    assert!(refused.contains("256 connections"), "{refused}");
    assert!(clients.len() > 250, "{}", clients.len());
    drop(clients.pop());
    let again = async {
        loop {
            let (sender, mut receiver) = carrier::connect(&nodes[0].address).await.expect("it listens");
            let peer = Peer::Instance { name: "shop-0".to_owned(), ordinal: 0, tier: 1, run: RunId(77) };
            let _ = sender.send(&Request::Hello { peer, cluster: "shop".to_owned() });
            if let Ok(Some(replies)) = receiver.recv().await
                && matches!(replies.first(), Some(Reply::Welcome { .. }))
            {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("there is room again");
    drop(clients);
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_beyond_the_limit_of_undecided_ones_are_refused_until_some_are_decided() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (mut nodes, _) = volume(dir.path()).await;
    let mut client = Client::connect(&nodes[0]).await;
    client.open_seat().await;
    const MAX: u64 = 20_000;
    let all: Vec<_> = (1..=MAX).map(|seq| txn(seq, &format!("key {seq}"), None)).collect();
    for some in all.chunks(1000) {
        some.iter().for_each(|txn| client.send(Request::Propose(txn.clone())));
        let last = some.last().expect("not empty").id;
        let voted = |reply: &Reply| matches!(reply, Reply::Voted { txn, .. } if *txn == last).then_some(());
        client.expect("votes", voted).await;
        client.seen.clear();
    }
    nodes[0].wait_for("all of them", |status| status.undecided as u64 == MAX).await;
    let next = txn(MAX + 1, "one more", None);
    let reason = client.refusal(&next).await;
    assert!(reason.contains("20000 transactions are undecided"), "{reason}");
    // What is known is still answered, and decided.
    assert_eq!(client.vote(&all[5]).await, Vote::Accept);
    all[..10].iter().for_each(|txn| client.decide(txn));
    assert_eq!(client.vote(&next).await, Vote::Accept);
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_far_ahead_of_a_missing_one_are_left_to_be_fetched() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (mut nodes, _) = volume(dir.path()).await;
    let mut client = Client::connect(&nodes[0]).await;
    client.open_seat().await;
    const MAX: u64 = 100_000;
    for seq in 2..=MAX + 500 {
        client.decide(&txn(seq, &format!("key {}", seq % 97), None));
        if seq % 1000 == 0 {
            client.sender.ready().await.expect("open");
        }
    }
    // Everything before the answer has been handled.
    client.index(1).await;
    client.decide(&txn(1, "the missing one", None));
    nodes[0].wait_for("all that it took", |status| status.applied.covers(&at(MAX))).await;
    let applied = nodes[0].status().applied;
    assert_eq!(applied, at(MAX + 1), "the first {MAX} ahead were taken, and no more");
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_of_much_is_answered_in_parts() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (mut nodes, _) = volume(dir.path()).await;
    let mut client = Client::connect(&nodes[0]).await;
    client.open_seat().await;
    const COUNT: u64 = 24;
    for seq in 1..=COUNT {
        client.decide(&large(seq, 1 << 20));
    }
    nodes[0].wait_for("rows", |status| status.applied == at(COUNT)).await;
    let mut wanted: Vec<_> = (1..=COUNT).map(id).collect();
    let mut parts = 0;
    while !wanted.is_empty() {
        client.send(Request::Fetch { id: parts, txns: wanted.clone() });
        let bodies = client.expect("an answer", |reply| match reply {
            Reply::Fetched { id, known, bodies } if *id == parts => Some((known.len(), bodies.clone())),
            _ => None,
        });
        let (known, bodies) = tokio::time::timeout(Duration::from_secs(20), bodies).await.expect("in time");
        assert_eq!(known, wanted.len());
        assert!(!bodies.is_empty() && bodies.len() <= 9, "{} records of 1 MiB", bodies.len());
        let got: Vec<Seq> = bodies.iter().map(|body| body.id.seq).collect();
        wanted.retain(|txn| !got.contains(&txn.seq));
        parts += 1;
    }
    assert!(parts >= 3, "{parts}");
    for node in nodes {
        node.stop().await;
    }
}
