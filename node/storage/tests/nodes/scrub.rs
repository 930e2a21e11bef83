//! Damage that a storage node finds by looking for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use node_core::ids::{Height, Ver};
use node_core::wire::{Membership, RowVersion, Vote};
use node_storage::rows::RowStore;
use node_storage::{ScrubConfig, StorageError, StorageStatus};

use crate::world::{Client, Node, at, flip, id, large, txn, until, volume_with};

/// Fast enough for a test.
const FAST: ScrubConfig = ScrubConfig {
    first: Duration::from_millis(100),
    period: Duration::from_millis(100),
    bytes_per_second: 1 << 30,
};

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&dir.join("node-2/log"), &mut found);
    let name = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    found.retain(|path| name(path).is_some_and(|name| name.starts_with("accept-")));
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_the_accept_log_is_found_and_replaced_and_every_promise_survives_a_restart() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (mut nodes, addresses) = volume_with(dir.path(), FAST).await;
    let mut client = Client::connect(&nodes[2]).await;
    client.open_seat().await;
    for seq in 1..=40 {
        assert_eq!(client.vote(&txn(seq, &format!("key {seq}"), None)).await, Vote::Accept);
    }
    nodes[2].wait_for("a whole pass", |status| status.scrub.passes >= 2).await;
    assert_eq!(nodes[2].status().scrub.log_damaged, 0, "{:?}", nodes[2].status().scrub);
    let damaged = segments(dir.path()).pop().expect("a log");
    // Within the first batch behind the header.
    flip(&damaged, 64 + 24 + 9);
    nodes[2].wait_for("finding it", |status| status.scrub.log_damaged == 1).await;
    let finding = nodes[2].status().scrub.last_finding.expect("a finding");
    assert!(finding.contains("accept-"), "{finding}");
    until("dropping the damaged segment", || (!damaged.exists()).then_some(())).await;
    let passes = nodes[2].status().scrub.passes;
    nodes[2].wait_for("another pass", |status| status.scrub.passes >= passes + 2).await;
    assert_eq!(nodes[2].status().scrub.log_damaged, 1);
    assert_eq!(client.vote(&txn(41, "key 41", None)).await, Vote::Accept);

    nodes.pop().expect("three nodes").stop().await;
    let mut node = Node::start_with(dir.path(), 2, &addresses, FAST).await;
    node.wait_for("being a member", |status| status.ready()).await;
    let mut client = Client::connect(&node).await;
    for seq in 1..=41 {
        let rival = txn(100 + seq, &format!("key {seq}"), None);
        assert_eq!(client.vote(&rival).await, Vote::Locked { by: id(seq) });
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_a_file_of_rows_is_found_and_the_node_comes_back_with_a_copy_of_the_others_rows() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (mut nodes, addresses) = volume_with(dir.path(), FAST).await;
    let mut client = Client::connect(&nodes[2]).await;
    client.open_seat().await;
    const COUNT: u64 = 120;
    for seq in 1..=COUNT {
        client.decide(&large(seq, 100_000));
    }
    nodes[2].wait_for("rows", |status| status.applied == at(COUNT)).await;
    // Rows that are still in memory have no file.
    let table = until("a file of rows", || {
        let mut found = Vec::new();
        files(&dir.path().join("node-2/rows/keyspaces"), &mut found);
        let large = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|data| data.len() > 1 << 20);
        found.into_iter().find(large)
    })
    .await;
    let passes = nodes[2].status().scrub.passes;
    nodes[2].wait_for("whole passes", |status| status.scrub.passes >= passes + 2).await;
    assert_eq!(nodes[2].status().scrub.tables_damaged, 0);
    for node in &mut nodes[..2] {
        node.wait_for("the others' rows", |status| status.applied == at(COUNT)).await;
    }
    flip(&table, 500_000);
    let node = nodes.pop().expect("three nodes");
    let ended = tokio::time::timeout(crate::world::PATIENCE, node.task).await.expect("it stops");
    let error = ended.expect("no panic").expect_err("it says why");
    assert!(matches!(error, StorageError::RowsDamaged { .. }), "{error:?}");
    let said = error.to_string();
    // A compaction may come upon it before the scrub does, and says so in its own words.
    assert!(said.to_lowercase().contains("checksum") && said.contains("rebuilt from its peers"), "{said}");

    // The others are there: it comes back with their rows.
    let mut node = Node::start_with(dir.path(), 2, &addresses, FAST).await;
    node.wait_for("being readmitted", StorageStatus::ready).await;
    let counters = node.status().counters;
    assert_eq!(counters.readmissions, 1);
    assert!(counters.copied_bytes > COUNT * 100_000, "only {} bytes were copied", counters.copied_bytes);
    let passes = node.status().scrub.passes;
    node.wait_for("whole passes", |status| status.scrub.passes >= passes + 2).await;
    assert_eq!(node.status().scrub.tables_damaged, 0);
    node.stop().await;
    let mut node = Node::start_with(dir.path(), 2, &addresses, FAST).await;
    node.wait_for("being a member at once", StorageStatus::ready).await;
    assert_eq!(node.status().counters.readmissions, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_damaged_rows_does_not_vote_and_keeps_its_log_while_too_few_others_are_there() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (nodes, addresses) = volume_with(dir.path(), FAST).await;
    for node in nodes {
        node.stop().await;
    }
    std::fs::write(dir.path().join("node-2/rows.damaged"), "checksum of a file").expect("the mark");
    let log = segments(dir.path());
    let mut node = Node::start_with(dir.path(), 2, &addresses, FAST).await;
    let lost = |membership| matches!(membership, Membership::Lost(volume) if volume != 0);
    node.wait_for("knowing it", |status| lost(status.membership)).await;
    let mut client = Client::connect(&node).await;
    let reason = client.refusal(&txn(500, "z", None)).await;
    assert!(reason.contains("rows are damaged") && reason.contains("checksum of"), "{reason}");
    // The log is left as it was, and so is what the disk says about membership.
    assert_eq!(segments(dir.path()), log);
    let volume = std::fs::read_to_string(dir.path().join("node-2/volume.json")).expect("a file");
    assert!(volume.contains("\"member\""), "{volume}");
    node.stop().await;
}

/// Opens a stopped node's rows and makes them wrong.
fn falsify(dir: &Path, rows: &[(&str, Option<RowVersion>)]) {
    let (store, mut writer) = RowStore::open(&dir.join("node-2/rows")).expect("it is stopped");
    for (key, version) in rows {
        writer.falsify(&Bytes::copy_from_slice(key.as_bytes()), version.as_ref()).expect("a disk");
    }
    drop((store, writer));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_differ_from_what_most_nodes_have_are_repaired() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (mut nodes, addresses) = volume_with(dir.path(), FAST).await;
    let mut clients = Vec::new();
    for node in &nodes {
        let mut client = Client::connect(node).await;
        client.open_seat().await;
        clients.push(client);
    }
    const COUNT: u64 = 300;
    for seq in 1..=COUNT {
        clients.iter().for_each(|client| client.decide(&txn(seq, &format!("key {seq:05}"), None)));
    }
    let right = clients[0].rows(at(COUNT)).await;
    assert_eq!(right.len(), COUNT as usize);
    for node in &mut nodes {
        node.wait_for("rows", |status| status.applied == at(COUNT)).await;
    }
    nodes.pop().expect("three nodes").stop().await;
    let wrong = |seq: u64, value: &'static str| RowVersion {
        ver: Ver { height: Height(1), txn: id(seq) },
        value: Some(Bytes::from(value)),
    };
    falsify(
        dir.path(),
        &[
            ("key 00007", Some(wrong(7, "not what was written"))),
            ("key 00100", None),
            ("key 00100 and a half", Some(wrong(100, "never written"))),
        ],
    );
    let mut node = Node::start_with(dir.path(), 2, &addresses, FAST).await;
    node.wait_for("repairing them", |status| status.scrub.rows_repaired == 3).await;
    let passes = node.status().scrub.passes;
    node.wait_for("another pass", |status| status.scrub.passes >= passes + 2).await;
    let scrub = node.status().scrub;
    assert_eq!((scrub.rows_repaired, scrub.ranges_wrong), (3, 1), "{scrub:?}");
    assert!(scrub.last_finding.as_ref().is_some_and(|it| it.contains("key 00007")), "{scrub:?}");
    let mut client = Client::connect(&node).await;
    assert_eq!(client.rows(at(COUNT)).await, right);
    // It is on the disk as well.
    node.stop().await;
    let node = Node::start(dir.path(), 2, &addresses).await;
    let mut client = Client::connect(&node).await;
    assert_eq!(client.rows(at(COUNT)).await, right);
    node.stop().await;
    for node in nodes {
        assert_eq!(node.status().scrub.ranges_wrong, 0);
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_change_while_they_are_compared_are_not_taken_for_wrong() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (mut nodes, _) = volume_with(dir.path(), FAST).await;
    let mut clients = Vec::new();
    for node in &nodes {
        let mut client = Client::connect(node).await;
        client.open_seat().await;
        clients.push(client);
    }
    let mut seq = 0;
    let before: Vec<u64> = nodes.iter().map(|node| node.status().scrub.passes).collect();
    for round in 1..=20u64 {
        for key in 0..50u64 {
            seq += 1;
            let base = (round > 1).then(|| (round - 1, seq - 50));
            let change = txn(seq, &format!("key {key}"), base);
            // Each node at another time: what is compared is never at one point by itself.
            for client in &mut clients {
                client.decide(&change);
                if key % 10 == 0 {
                    client.rows(at(seq)).await;
                }
            }
        }
    }
    for (node, before) in nodes.iter_mut().zip(before) {
        node.wait_for("passes", |status| status.scrub.passes >= before + 2 && status.applied == at(seq))
            .await;
        let scrub = node.status().scrub;
        assert_eq!((scrub.ranges_wrong, scrub.ranges_wrong_elsewhere, scrub.ranges_undecided), (0, 0, 0));
        assert!(scrub.ranges > scrub.ranges_skipped, "{scrub:?}");
    }
    for node in nodes {
        node.stop().await;
    }
}
