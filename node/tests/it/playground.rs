//! The playground's commands.

use crate::harness::{Cluster, Manifest, members, playground, run, value};

fn up_status_and_down(manifest: &Manifest, writers: usize) {
    let cluster = Cluster::up(manifest, &[]);
    let state = cluster.status();
    assert_eq!(state["mode"], manifest.mode);
    assert_eq!(members(&state, "instances").count(), 3);
    assert_eq!(members(&state, "storage").filter(|one| one["state"] == "ready").count(), 6);
    assert_eq!(members(&state, "instances").filter(|one| one["role"] == "writer").count(), writers);
    assert_eq!(state["cluster"].is_null(), writers == 3, "only single-master has a cluster endpoint");
    assert_eq!(value(&mut cluster.connect("it-0"), "SELECT 1"), 1);
    let pids = cluster.pids();
    assert_eq!(pids.len(), 9);
    cluster.playground(&["down"]);
    for pid in pids {
        assert!(!std::path::Path::new("/proc").join(&pid).exists(), "process {pid} outlived `down`");
    }
}

#[test]
fn a_single_master_cluster_comes_up_shows_itself_and_goes_down() {
    up_status_and_down(&Manifest::single_master(), 1);
}

#[test]
fn a_multi_master_cluster_comes_up_shows_itself_and_goes_down() {
    up_status_and_down(&Manifest::multi_master(), 3);
}

#[test]
fn rows_are_there_after_down_keeping_data_and_up_again() {
    let cluster = Cluster::up(&Manifest::single_master(), &[]);
    let mut connection = cluster.connect("cluster");
    run(&mut connection, "CREATE TABLE kept (id INT PRIMARY KEY)");
    run(&mut connection, "INSERT INTO kept VALUES (7)");
    cluster.playground(&["down", "--keep-data"]);
    cluster.up_again();
    assert_eq!(value(&mut cluster.connect("cluster"), "SELECT id FROM kept"), 7);
}

#[test]
fn a_wrong_manifest_is_refused_with_a_sentence_that_names_what_is_allowed() {
    let good = Manifest { more: "  promotionTiers:\n    it-1: 0\n", ..Manifest::single_master() }.yaml();
    for (from, to, allowed) in [
        ("mode: SingleMaster", "mode: SingelMaster", "expected `SingleMaster` or `MultiMaster`"),
        ("it-1: 0", "it-1: 16", "0 (first) to 15"),
        ("instances: 3", "instances: 0", "1 to 16"),
        ("nodes: 6", "nodes: 4", "3 or 6"),
    ] {
        assert!(good.contains(from));
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("cluster.yaml");
        std::fs::write(&file, good.replace(from, to)).expect("the manifest can be written");
        let file = file.to_str().expect("temporary paths are text");
        let output = playground(&dir.path().join("data"), &["up", "-f", file, "--port", "0", "--detach"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{to}: {said}");
        assert!(said.contains(allowed), "{to}: {said}");
    }
}

#[test]
fn what_cannot_change_is_refused_on_kept_data_with_a_sentence_that_says_so() {
    let manifest = Manifest { instances: 1, storage: 3, ..Manifest::single_master() };
    let cluster = Cluster::up(&manifest, &[]);
    let mut connection = cluster.connect("cluster");
    run(&mut connection, "CREATE TABLE kept (id INT PRIMARY KEY)");
    run(&mut connection, "INSERT INTO kept VALUES (7)");
    cluster.playground(&["down", "--keep-data"]);
    for (changed, what) in [
        (Manifest { mode: "MultiMaster", ..manifest }, "mode"),
        (Manifest { storage: 6, ..manifest }, "storage.nodes"),
    ] {
        let refused = cluster.try_up(&changed);
        let said = String::from_utf8_lossy(&refused.stderr);
        println!("{said}");
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains(what) && said.contains("cannot change"), "{said}");
    }
    cluster.up_again();
    assert_eq!(value(&mut cluster.connect("cluster"), "SELECT id FROM kept"), 7, "nothing was harmed");
}
