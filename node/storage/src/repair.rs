//! Rows that are not what was written: how that is kept in mind, and what is done about it.
//!
//! A checksum that is wrong, or rows that know less than the accept log takes for granted, mean that this
//! disk has lost something of the rows. Peers have it; the accept log, with every promise, is intact. So the
//! rows are marked as damaged, durably, and the node ends; as long as the mark is there it does not vote, and
//! its log is left alone. Whoever rebuilds the rows from a peer removes the mark with [`clear`].
//!
//! Single rows that differ from what most storage nodes have are repaired in place: see `scrub`.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::shared::Shared;
use crate::status::count;

/// Next to the rows' directory.
const MARK: &str = "rows.damaged";

/// Marks the rows as damaged and stops the node: it ends with an error that says why.
pub(crate) fn rows_damaged(shared: &Shared, reason: String) {
    {
        let mut damage = shared.damage.lock();
        if damage.is_some() {
            return;
        }
        *damage = Some(reason.clone());
    }
    count(&shared.counters.rows_damaged, 1);
    tracing::error!(%reason, "the rows are damaged: this node stops, and does not vote until they are rebuilt");
    if let Err(error) = mark(&shared.config.data_dir, &reason) {
        // It ends all the same; the next start finds the damage again.
        tracing::error!(%error, "the damage cannot be noted on the disk");
    }
    shared.stop.cancel();
}

/// Notes durably that the rows in the data directory are damaged.
///
/// # Errors
///
/// The file cannot be written.
pub(crate) fn mark(dir: &Path, reason: &str) -> io::Result<()> {
    let mut file = File::create(dir.join(MARK))?;
    file.write_all(reason.as_bytes())?;
    file.sync_all()?;
    File::open(dir)?.sync_all()
}

/// Why the rows are marked as damaged, if they are.
///
/// # Errors
///
/// It cannot be known.
pub(crate) fn damage(dir: &Path) -> io::Result<Option<String>> {
    match std::fs::read(dir.join(MARK)) {
        Ok(reason) => Ok(Some(String::from_utf8_lossy(&reason).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes the mark durably: the rows are whole again.
///
/// # Errors
///
/// The file cannot be removed.
pub(crate) fn clear(dir: &Path) -> io::Result<()> {
    match std::fs::remove_file(dir.join(MARK)) {
        Ok(()) => File::open(dir)?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Puts damaged rows that cannot even be opened aside, and gives back where.
///
/// # Errors
///
/// They cannot be moved.
pub(crate) fn put_aside(dir: &Path) -> io::Result<PathBuf> {
    let aside = dir.join("rows.unreadable");
    match std::fs::remove_dir_all(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    std::fs::rename(dir.join("rows"), &aside)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_stays_until_it_is_cleared() {
        let dir = tempfile::tempdir().expect("temp dir");
        assert_eq!(damage(dir.path()).expect("read"), None);
        clear(dir.path()).expect("nothing to clear");
        mark(dir.path(), "a block is wrong").expect("mark");
        assert_eq!(damage(dir.path()).expect("read").as_deref(), Some("a block is wrong"));
        clear(dir.path()).expect("clear");
        assert_eq!(damage(dir.path()).expect("read"), None);
    }

    #[test]
    fn rows_put_aside_make_room_for_new_ones() {
        let dir = tempfile::tempdir().expect("temp dir");
        for round in 0..2 {
            std::fs::create_dir(dir.path().join("rows")).expect("make");
            std::fs::write(dir.path().join("rows/x"), format!("{round}")).expect("write");
            let aside = put_aside(dir.path()).expect("move");
            assert_eq!(std::fs::read_to_string(aside.join("x")).expect("read"), format!("{round}"));
            assert!(!dir.path().join("rows").exists());
        }
    }
}
