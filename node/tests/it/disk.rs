//! Disks of storage nodes that are full, or of a newer version.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::harness::{Cluster, DEADLINE, Manifest, code, members, name_of, poll, run, value};
use crate::load::create_table;

/// A small file system of its own for one storage node; unmounted when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Moves a stopped storage node's files to one. `None`, with a word about why, where that cannot be done.
    fn move_to(path: &Path, mebibytes: u32) -> Option<Tmpfs> {
        let aside = path.with_extension("aside");
        std::fs::rename(path, &aside).expect("the node is stopped");
        std::fs::create_dir(path).expect("a directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "borealis-test"]).arg(path);
        let mounted = mount.output().map_err(|error| error.to_string()).and_then(|output| {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            if output.status.success() { Ok(()) } else { Err(said) }
        });
        if let Err(reason) = mounted {
            println!("skipped: no tmpfs here: {reason}");
            return None;
        }
        let tmpfs = Tmpfs(path.to_owned());
        // Sparse files stay sparse.
        let mut copy = Command::new("cp");
        let copied = copy.args(["-a", "--sparse=always"]).arg(aside.join(".")).arg(path).status();
        assert!(copied.expect("cp starts").success(), "the files do not fit");
        std::fs::remove_dir_all(aside).expect("copied");
        Some(tmpfs)
    }
    fn fill(&self) {
        let mut ballast = std::fs::File::create(self.0.join("ballast")).expect("a file");
        for piece in [1 << 20, 1 << 12] {
            while ballast.write_all(&vec![0u8; piece]).is_ok() {}
        }
    }
    fn empty(&self) {
        std::fs::remove_file(self.0.join("ballast")).expect("it was filled");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: what is open there is let go of as its process ends.
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{:?} stays mounted", self.0);
        }
    }
}

/// A write fails within this, however many storage nodes cannot take it.
const WRITE_MAX: Duration = Duration::from_secs(10);

#[test]
fn with_most_disks_full_writes_fail_soon_and_say_why_reads_go_on_and_space_is_all_it_takes() {
    let manifest = Manifest { instances: 2, storage: 3, ..Manifest::single_master() };
    let cluster = Cluster::up(&manifest, &[]);
    create_table(&mut cluster.connect("cluster"));
    let mut connection = cluster.connect("cluster");
    (1..=50).for_each(|id| run(&mut connection, &format!("INSERT INTO journal VALUES ({id}, 'before')")));
    let names: Vec<String> = members(&cluster.status(), "storage").map(name_of).collect();
    let mut disks = Vec::new();
    for name in &names[1..] {
        cluster.playground(&["stop", name]);
        let Some(disk) = Tmpfs::move_to(&cluster.storage_dir(name), 96) else { return };
        disks.push(disk);
        cluster.playground(&["start", name]);
        cluster.wait_until_ready();
    }
    run(&mut connection, "INSERT INTO journal VALUES (51, 'on small disks')");
    disks.iter().for_each(Tmpfs::fill);
    cluster.wait_for("two full disks", |state| {
        members(state, "storage").filter(|one| one["state"] == "unready").count() == 2
    });

    for id in 1000..1005 {
        let started = Instant::now();
        let result = connection.query_drop(format!("INSERT INTO journal VALUES ({id}, 'no room')"));
        let took = started.elapsed();
        let text = result.as_ref().expect_err("two of three disks are full").to_string();
        println!("after {took:?}: {text}");
        assert!(took < WRITE_MAX, "{took:?}: {text}");
        assert_eq!(code(&result), Some(1030), "{text}");
        for part in ["storage node", "disk is full", "free some"] {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
        // Reads of the present, on the writer and on a replica.
        assert_eq!(value(&mut connection, "SELECT COUNT(*) FROM journal"), 51);
        assert_eq!(value(&mut cluster.connect("reader"), "SELECT COUNT(*) FROM journal"), 51);
    }

    disks.iter().for_each(Tmpfs::empty);
    let mut id = 2000;
    let again = poll(DEADLINE, || {
        id += 1;
        connection.query_drop(format!("INSERT INTO journal VALUES ({id}, 'room again')")).ok()
    });
    assert!(again.is_some(), "no write worked after there was space");
    cluster.wait_until_ready();
    let one = format!("SELECT COUNT(*) FROM journal WHERE id BETWEEN 1000 AND 1999 OR id = {id}");
    assert_eq!(value(&mut connection, &one), 1, "a refused row is there, or the new one is not");
    assert_eq!(value(&mut connection, "SELECT COUNT(*) FROM journal WHERE id <= 51"), 51);
}

fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), std::fs::read(&path).expect("a file")));
        }
    }
    found.sort();
    found
}

#[test]
fn a_storage_node_on_a_disk_of_a_newer_version_says_so_ends_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    // What some later version may write: its envelope is the same for ever.
    let volume = "{\"content\": {\"format\": 99, \"cluster\": \"it\"}, \"crc32c\": 215732597}\n";
    std::fs::write(dir.path().join("volume.json"), volume).expect("written");
    std::fs::create_dir(dir.path().join("log")).expect("a directory");
    std::fs::write(dir.path().join("log/spare-0000000000000001-new.log"), "x").expect("written");
    let before = files(dir.path());
    let mut node = Command::new(env!("CARGO_BIN_EXE_borealis-node"));
    node.args(["storage", "--cluster", "it", "--mode", "single-master", "--id", "0", "--nodes", "3"]);
    node.args(["--peers", "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3", "--listen", "127.0.0.1:0"]);
    node.args(["--http", "127.0.0.1:0", "--data-dir"]).arg(dir.path());
    let output = node.output().expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in ["volume.json", "format 99", "formats up to", "run that version or a newer one"] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    assert_eq!(files(dir.path()), before);
}
