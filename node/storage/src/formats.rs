//! Formats on disk: which this build writes, which it reads, and what it does about others.
//!
//! | what | where its format stands | this build |
//! |---|---|---|
//! | `volume.json` | `content.format` | [`VOLUME_FORMAT`] |
//! | segments of the accept log, with the records in them | the two digits of the header's magic | [`LOG_FORMAT`] |
//! | row store | `rows/borealis.format`, and `format` in its `meta` keyspace (absent: 1) | [`ROWS_FORMAT`] |
//!
//! Rule: a build reads every format up to its own, and writes its own. A newer one (a node that was rolled
//! back) is refused before anything on the disk is changed; it is no damage, and the disk stays a member's.
//! So that an old build can tell newer from damaged, three things are the same in all formats for ever:
//! the envelope of `volume.json` (`content`, and `crc32c` of it without white space), the first 28 bytes of
//! a segment (magic, 16 bytes, checksum of both), and the text of `rows/borealis.format`.
//!
//! Invariant: what has the right checksum is never taken for damaged, however little of it this build
//! understands.

use std::io;
use std::path::{Path, PathBuf};

use node_core::acceptor::Record;
use node_core::wire::{DecodeError, Reader, Wire};
use serde::Deserialize;

use crate::accept_log::{self, LogError};

/// Format of `volume.json`.
pub const VOLUME_FORMAT: u32 = 2;
/// Format of the accept log's segments and records.
pub const LOG_FORMAT: u32 = 2;
/// Format of keys and values in the row store.
pub const ROWS_FORMAT: u32 = 1;

/// Within the row store's directory; fjall leaves it alone.
const ROWS_FILE: &str = "borealis.format";

/// The disk was written by a newer build. Nothing on it was changed.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// It says so.
    #[error(
        "{path:?} has format {found}, and this build of borealis-node reads formats up to {supported}: the \
         disk was written by a newer version, so run that version or a newer one on it; nothing on the disk \
         was changed"
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest that this build reads.
        supported: u32,
    },
    /// Its checksum is right, but this build does not understand it.
    #[error(
        "{path:?} is intact, but says what this build of borealis-node does not understand (it reads formats \
         up to {supported}): {reason}; run the version that wrote it; nothing on the disk was changed"
    )]
    Unreadable {
        /// Which file or directory.
        path: PathBuf,
        /// What is not understood.
        reason: String,
        /// The newest format that this build reads.
        supported: u32,
    },
    /// A record of the accept log is intact, but this build does not understand it.
    #[error(
        "a record of the accept log in {path:?} is intact, but this build of borealis-node cannot read it \
         (it reads formats up to {supported}): run the version that wrote it; nothing on the disk was changed"
    )]
    Record {
        /// The log's directory.
        path: PathBuf,
        /// The newest format that this build reads.
        supported: u32,
        /// What is not understood.
        #[source]
        source: DecodeError,
    },
    /// A file cannot be read or written.
    #[error("failed to {action} {path:?}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// Looks at everything in the data directory that carries a format, and changes nothing. What is damaged is
/// left to whoever opens it.
///
/// # Errors
///
/// [`FormatError`] if a newer build wrote something there.
pub(crate) fn check(dir: &Path) -> Result<(), FormatError> {
    let volume = dir.join("volume.json");
    if let Some(bytes) = read(&volume)? {
        check_volume(&volume, &bytes)?;
    }
    check_log(&dir.join("log"))?;
    check_rows(&dir.join("rows"))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, FormatError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FormatError::Io { action: "read", path: path.to_owned(), source }),
    }
}

#[derive(Deserialize)]
struct Envelope {
    content: Content,
    crc32c: u32,
}

/// Of all fields the one that every format has.
#[derive(Deserialize)]
struct Content {
    format: u64,
}

/// Refuses a `volume.json` that is intact and newer.
///
/// # Errors
///
/// [`FormatError::Newer`].
pub(crate) fn check_volume(path: &Path, bytes: &[u8]) -> Result<(), FormatError> {
    // Whatever this does not apply to is damaged, or of the format that the reader knows.
    let Ok(Envelope { content, crc32c }) = serde_json::from_slice(bytes) else { return Ok(()) };
    let intact = volume_content(bytes).is_some_and(|content| crc32c::crc32c(&content) == crc32c);
    if intact && content.format > u64::from(VOLUME_FORMAT) {
        let (path, found) = (path.to_owned(), content.format);
        return Err(FormatError::Newer { path, found, supported: VOLUME_FORMAT });
    }
    Ok(())
}

/// True if the checksum of a `volume.json` of any format is right.
pub(crate) fn volume_is_intact(bytes: &[u8]) -> bool {
    let Ok(Envelope { crc32c, .. }) = serde_json::from_slice(bytes) else { return false };
    volume_content(bytes).is_some_and(|content| crc32c::crc32c(&content) == crc32c)
}

/// The bytes of `content`, without white space between its parts. It stands first.
fn volume_content(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut compact = Vec::with_capacity(bytes.len());
    let (mut in_string, mut escaped) = (false, false);
    for byte in bytes {
        if in_string || !byte.is_ascii_whitespace() {
            compact.push(*byte);
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ => {}
        }
    }
    let content = compact.strip_prefix(b"{\"content\":")?;
    let end = content.windows(10).rposition(|window| window == b",\"crc32c\":")?;
    Some(content[..end].to_vec())
}

fn check_log(dir: &Path) -> Result<(), FormatError> {
    if !dir.exists() {
        return Ok(());
    }
    let mut unreadable = None;
    let checked = accept_log::check(dir, &mut |record| {
        if let (None, Err(source)) = (&unreadable, Record::get(&mut Reader::new(record))) {
            unreadable = Some(source);
        }
    });
    if let Err(LogError::Newer { path, found }) = checked {
        return Err(FormatError::Newer { path, found: u64::from(found), supported: LOG_FORMAT });
    }
    match unreadable {
        Some(source) => Err(FormatError::Record { path: dir.to_owned(), supported: LOG_FORMAT, source }),
        None => Ok(()),
    }
}

fn check_rows(dir: &Path) -> Result<(), FormatError> {
    let path = dir.join(ROWS_FILE);
    let Some(bytes) = read(&path)? else { return Ok(()) };
    // Anything else is damage: what stands in the row store itself decides.
    let found = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok());
    match found {
        Some(found) if found > u64::from(ROWS_FORMAT) => {
            Err(FormatError::Newer { path, found, supported: ROWS_FORMAT })
        }
        Some(_) | None => Ok(()),
    }
}

/// Notes the row store's format where it can be read without opening it.
///
/// # Errors
///
/// [`FormatError::Io`] if it cannot be written.
pub(crate) fn note_rows(dir: &Path) -> Result<(), FormatError> {
    let path = dir.join(ROWS_FILE);
    let text = format!("{ROWS_FORMAT}\n");
    if read(&path)?.is_some_and(|bytes| bytes == text.as_bytes()) {
        return Ok(());
    }
    std::fs::write(&path, text).map_err(|source| FormatError::Io { action: "write", path, source })
}

#[cfg(test)]
mod tests;
