//! A small file system of its own for one storage node, so that it can really be full.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted tmpfs; unmounted when dropped.
pub(crate) struct Tmpfs {
    path: PathBuf,
}

impl Tmpfs {
    /// Mounts one of this many MiB; `None`, with a word about why, where that is not possible.
    pub(crate) fn mount(path: &Path, mebibytes: u32) -> Option<Tmpfs> {
        std::fs::create_dir_all(path).expect("a directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "borealis-test"]).arg(path);
        match mount.output() {
            Ok(output) if output.status.success() => Some(Tmpfs { path: path.to_owned() }),
            Ok(output) => {
                println!("skipped: no tmpfs here: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped: mount cannot be run: {error}");
                None
            }
        }
    }
    /// Takes all the room there is.
    pub(crate) fn fill(&self) {
        let mut ballast = std::fs::File::create(self.path.join("ballast")).expect("a file");
        // Ever smaller pieces: to the last page.
        for piece in [1 << 20, 1 << 16, 1 << 12] {
            let zeros = vec![0u8; piece];
            while ballast.write_all(&zeros).is_ok() {}
        }
    }
    /// Gives it back.
    pub(crate) fn empty(&self) {
        std::fs::remove_file(self.path.join("ballast")).expect("it was filled");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // What still has files open there lets go of them as its node ends.
        let unmounted = Command::new("umount").arg("-l").arg(&self.path).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{:?} stays mounted", self.path);
        }
    }
}
