//! The rows: what decided transactions wrote, in an embedded LSM store (fjall), off the commit path.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | `latest` | row key | newest version |
//! | `history` | row key, escaped, then height, falling | superseded version, and who superseded it |
//! | `txns` | seat, epoch, seq | record of a committed transaction |
//! | `meta` | name | applied vector; from where on records are kept; format (see `formats`) |
//!
//! Invariants: a batch is atomic and carries the applied vector, so applying a transaction again changes
//! nothing; a superseded version stays until every snapshot anybody may still read sees its successor.

use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use node_core::ids::{Height, Key, Position, Seat, TxnId, Vector, Ver};
use node_core::txn::SharedTxn;
use node_core::wire::{Block, DecodeError, FeedItem, ReadBlock, Reader, RowVersion, RowVersions, Wire};

use crate::formats::{self, FormatError, ROWS_FORMAT};

mod digest;
mod handle;
mod keys;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use digest::{Compared, Digest, RangeAt};
pub(crate) use handle::RowsHandle;
pub(crate) use writer::Fix;

pub use writer::RowWriter;

/// The largest block, whatever a request asks for.
pub const BLOCK_BYTES_MAX: usize = 8 << 20;
/// Records of committed transactions kept for subscribers and peers that are behind.
pub const RETAINED_BYTES: u64 = 256 << 20;
const CACHE_BYTES: u64 = 8 << 20;
const MEMTABLE_BYTES: u64 = 8 << 20;
const SMALL_MEMTABLE_BYTES: u64 = 4 << 20;
const RECORDS_TABLE_BYTES: u64 = 8 << 20;
const JOURNAL_BYTES_MAX: u64 = 64 << 20;

/// No less than the bytes of a version or an id at the start of a value.
const HEAD_BYTES_MAX: usize = 64;

const APPLIED: &str = "applied";
const RETAINED_FROM: &str = "retained-from";
/// Of snapshots older than this not all versions are here.
const COMPLETE_FROM: &str = "complete-from";
const FORMAT: &str = "format";

/// The row store failed.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// fjall reports an error.
    #[error("failed to {action} the rows in {path:?}")]
    Store {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: Box<fjall::Error>,
    },
    /// Something stored cannot be read.
    #[error("a stored {what} cannot be read")]
    Decode {
        /// What it is.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
    /// A write failed earlier, and the rows are being opened again.
    #[error("the rows in {path:?} are closed after a failed write")]
    Closed {
        /// Where.
        path: PathBuf,
    },
    /// Opened again after a failed write, they include less than before: the log has the rest, and gives it to
    /// them at the next start.
    #[error("the rows came back with {found} instead of {had} after a failed write")]
    Older {
        /// What they included.
        had: Box<Vector>,
        /// What they include.
        found: Box<Vector>,
    },
    /// The snapshot is older than what is kept.
    #[error("the snapshot is older than what the storage node keeps")]
    TooOld,
    /// A newer build wrote them.
    #[error("the rows have a format that this build does not read")]
    Format {
        /// Which, and what to do.
        #[source]
        source: FormatError,
    },
}

impl RowsError {
    /// True if the disk is full: nothing is wrong with the rows, and the same write may work later.
    pub fn is_full(&self) -> bool {
        let RowsError::Store { source, .. } = self else { return false };
        let full = |error: &std::io::Error| {
            matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
        };
        match &**source {
            fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => full(error),
            _ => false,
        }
    }
    /// True if an earlier write failed, perhaps one in the background: the store only reads until it is
    /// opened again.
    pub fn is_poisoned(&self) -> bool {
        matches!(self, RowsError::Store { source, .. } if matches!(**source, fjall::Error::Poisoned))
    }
    /// True if what is stored is not what was written.
    pub fn is_damage(&self) -> bool {
        match self {
            RowsError::Decode { .. } => true,
            RowsError::Closed { .. }
            | RowsError::Older { .. }
            | RowsError::TooOld
            | RowsError::Format { .. } => false,
            RowsError::Store { source, .. } => match &**source {
                fjall::Error::Storage(error) => {
                    !matches!(error, fjall::LsmError::Io(_) | fjall::LsmError::InvalidVersion(_))
                }
                fjall::Error::JournalRecovery(_)
                | fjall::Error::Decompress(_)
                | fjall::Error::InvalidTrailer
                | fjall::Error::InvalidTag(_)
                | fjall::Error::Unrecoverable => true,
                _ => false,
            },
        }
    }
}

/// Reads rows; clones share one store.
#[derive(Clone)]
pub struct RowStore {
    path: PathBuf,
    db: Database,
    latest: Keyspace,
    history: Keyspace,
    txns: Keyspace,
    meta: Keyspace,
}

/// A piece of the decided history, read back from the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backlog {
    /// Items in applicable order, and what the reader has after them; more may follow.
    Piece {
        /// What to apply.
        items: Vec<FeedItem>,
        /// Everything up to here is then applied.
        to: Vector,
    },
    /// Records from there on are gone.
    Gone,
}

impl RowStore {
    /// Opens the store in `path`, made if absent.
    ///
    /// # Errors
    ///
    /// [`RowsError`] if it cannot be opened or read.
    pub fn open(path: &Path) -> Result<(RowStore, RowWriter), RowsError> {
        let failed = |action| store_error(path, action);
        let db = Database::builder(path)
            .cache_size(CACHE_BYTES)
            .worker_threads(1)
            // Its journal is short-lived, and every node of the volume would compress the same.
            .journal_compression(fjall::CompressionType::None)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .open()
            .map_err(failed("open"))?;
        let keyspace = |name: &str, memtable: u64| {
            db.keyspace(name, || KeyspaceCreateOptions::default().max_memtable_size(memtable))
                .map_err(failed("open"))
        };
        // Small files, since they are deleted whole: see `RowWriter::trim`.
        let records = || {
            let strategy = fjall::compaction::Leveled::default().with_table_target_size(RECORDS_TABLE_BYTES);
            let options = KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
            options.compaction_strategy(std::sync::Arc::new(strategy))
        };
        let store = RowStore {
            path: path.to_owned(),
            latest: keyspace("latest", MEMTABLE_BYTES)?,
            history: keyspace("history", SMALL_MEMTABLE_BYTES)?,
            txns: db.keyspace("txns", records).map_err(failed("open"))?,
            meta: keyspace("meta", SMALL_MEMTABLE_BYTES)?,
            db,
        };
        store.check_format()?;
        let writer = RowWriter::new(store.clone())?;
        Ok((store, writer))
    }
    /// Refuses rows of a newer format; notes the format of those of this build.
    fn check_format(&self) -> Result<(), RowsError> {
        let found = match self.meta.get(FORMAT).map_err(self.failed("read"))? {
            Some(value) => Some(decode::<u32>("format", &value)?),
            None => None,
        };
        if let Some(found) = found.filter(|found| *found > ROWS_FORMAT) {
            let (path, found) = (self.path.clone(), u64::from(found));
            let source = FormatError::Newer { path, found, supported: ROWS_FORMAT };
            return Err(RowsError::Format { source });
        }
        if found != Some(ROWS_FORMAT) {
            self.meta.insert(FORMAT, &encode(&ROWS_FORMAT)[..]).map_err(self.failed("change"))?;
        }
        formats::note_rows(&self.path).map_err(|source| RowsError::Format { source })
    }
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
    #[cfg(test)]
    pub(crate) fn set_format(&self, format: Option<u32>) -> Result<(), RowsError> {
        match format {
            Some(format) => self.meta.insert(FORMAT, &encode(&format)[..]).map_err(self.failed("change")),
            None => self.meta.remove(FORMAT).map_err(self.failed("change")),
        }
    }
    /// Everything up to here has been applied.
    ///
    /// # Errors
    ///
    /// [`RowsError`] if it cannot be read.
    pub fn applied(&self) -> Result<Vector, RowsError> {
        self.applied_in(&self.db.snapshot())
    }
    /// The newest version of a key; a tombstone counts.
    ///
    /// # Errors
    ///
    /// [`RowsError`] if it cannot be read.
    pub fn latest(&self, key: &Key) -> Result<Option<Ver>, RowsError> {
        match self.latest.get(key).map_err(self.failed("read"))? {
            // The version stands first; the value behind it is not needed.
            Some(value) => Ok(Some(decode("row version", &value[..value.len().min(HEAD_BYTES_MAX)])?)),
            None => Ok(None),
        }
    }
    /// The rows of a range, with every version that a snapshot from `request.from` on may see.
    ///
    /// # Errors
    ///
    /// [`RowsError`] if they cannot be read.
    pub fn read_block(&self, request: &ReadBlock) -> Result<Block, RowsError> {
        let snapshot = self.db.snapshot();
        let at = self.applied_in(&snapshot)?;
        if !request.newest && !request.from.covers(&self.complete_from(&snapshot)?) {
            return Err(RowsError::TooOld);
        }
        let limit = (request.bytes_max as usize).min(BLOCK_BYTES_MAX);
        let mut block = Block {
            id: request.id,
            start: request.start.clone(),
            end: request.end.clone(),
            rows: Vec::new(),
            at,
        };
        if request.end.as_ref().is_some_and(|end| *end <= request.start) {
            return Ok(block);
        }
        let mut range = match &request.end {
            Some(end) => snapshot.range(&self.latest, &request.start[..]..&end[..]),
            None => snapshot.range(&self.latest, &request.start[..]..),
        };
        let mut bytes = 0;
        while let Some(guard) = if request.reverse { range.next_back() } else { range.next() } {
            let (key, value) = guard.into_inner().map_err(self.failed("read"))?;
            let key = Bytes::copy_from_slice(&key);
            if bytes > 0 && bytes >= limit {
                match request.reverse {
                    // The last row taken is the first key covered.
                    true => block.start = block.rows.last().map_or(key, |row| row.key.clone()),
                    false => block.end = Some(key),
                }
                break;
            }
            let newest: RowVersion = decode("row", &value)?;
            let row = match request.newest {
                true => RowVersions { key, versions: vec![newest] },
                false => self.versions(&snapshot, key, newest, &request.from)?,
            };
            bytes += row_bytes(&row);
            block.rows.push(row);
        }
        if request.reverse {
            block.rows.reverse();
        }
        Ok(block)
    }
    /// The record of a committed transaction, if it is still here.
    ///
    /// # Errors
    ///
    /// [`RowsError`] if it cannot be read.
    pub fn txn(&self, txn: TxnId) -> Result<Option<SharedTxn>, RowsError> {
        match self.txns.get(keys::txn(txn)).map_err(self.failed("read"))? {
            Some(value) => Ok(Some(decode("transaction", &value)?)),
            None => Ok(None),
        }
    }
    /// The decided history from `from` on, about `bytes_max` of it.
    ///
    /// # Errors
    ///
    /// [`RowsError`] if it cannot be read.
    pub fn backlog(&self, from: &Vector, bytes_max: usize) -> Result<Backlog, RowsError> {
        let snapshot = self.db.snapshot();
        let end = self.applied_in(&snapshot)?;
        let retained = self.retained_from(&snapshot)?;
        let kept = |(seat, kept_from): &(Seat, Position)| from.get(*seat) >= *kept_from;
        if !retained.iter().all(kept) {
            return Ok(Backlog::Gone);
        }
        let mut streams = Vec::new();
        for (seat, to) in end.iter().filter(|(seat, to)| from.get(*seat) < *to) {
            let range = keys::after(seat, from.get(seat))..keys::after(seat, to);
            streams.push(SeatBacklog { seat, to, iter: snapshot.range(&self.txns, range), next: None });
        }
        let mut backlog = Merge { at: from.clone(), items: Vec::new(), bytes: 0 };
        for stream in &mut streams {
            stream.advance(self, &mut backlog.at)?;
        }
        while backlog.bytes < bytes_max {
            let before = backlog.items.len();
            for stream in &mut streams {
                while backlog.bytes < bytes_max && stream.take(self, &mut backlog)? {}
            }
            if backlog.items.len() == before {
                break;
            }
        }
        let reached = |(seat, _): (Seat, Position)| FeedItem::Advance { seat, to: backlog.at.get(seat) };
        let mut items = backlog.items;
        items.extend(end.iter().filter(|(seat, _)| from.get(*seat) < backlog.at.get(*seat)).map(reached));
        Ok(Backlog::Piece { items, to: backlog.at })
    }
    /// Every file that holds sorted rows, with the checksum that it had when it was written.
    pub(crate) fn tables(&self) -> Vec<(PathBuf, u128)> {
        use fjall::AbstractTree;
        let mut tables = Vec::new();
        for keyspace in [&self.latest, &self.history, &self.txns, &self.meta] {
            let version = keyspace.tree.current_version();
            tables.extend(version.iter_tables().map(|table| {
                let path: &PathBuf = &table.path;
                (path.clone(), table.checksum().into_u128())
            }));
        }
        tables
    }
    /// Bytes on disk.
    ///
    /// # Errors
    ///
    /// [`RowsError`] if they cannot be counted.
    pub fn disk_bytes(&self) -> Result<u64, RowsError> {
        self.db.disk_space().map_err(self.failed("measure"))
    }

    fn failed(&self, action: &'static str) -> impl Fn(fjall::Error) -> RowsError + '_ {
        store_error(&self.path, action)
    }

    fn applied_in(&self, snapshot: &Snapshot) -> Result<Vector, RowsError> {
        match snapshot.get(&self.meta, APPLIED).map_err(self.failed("read"))? {
            Some(value) => decode("applied vector", &value),
            None => Ok(Vector::new()),
        }
    }

    /// Snapshots from here on find every version they may see: older versions were removed, perhaps in an earlier
    /// run of the node, or never were here, since rows are copied with their newest versions only.
    fn complete_from(&self, snapshot: &Snapshot) -> Result<Vector, RowsError> {
        match snapshot.get(&self.meta, COMPLETE_FROM).map_err(self.failed("read"))? {
            Some(value) => decode("vector of complete versions", &value),
            None => Ok(Vector::new()),
        }
    }

    /// Of each seat, records after this position are kept.
    fn retained_from(&self, snapshot: &Snapshot) -> Result<Vec<(Seat, Position)>, RowsError> {
        match snapshot.get(&self.meta, RETAINED_FROM).map_err(self.failed("read"))? {
            Some(value) => decode("retention", &value),
            None => Ok(Vec::new()),
        }
    }

    /// A row with its newest version and those older ones that a snapshot from `from` on may see.
    fn versions(
        &self,
        snapshot: &Snapshot,
        key: Key,
        newest: RowVersion,
        from: &Vector,
    ) -> Result<RowVersions, RowsError> {
        let mut versions = vec![newest];
        if !from.sees(versions[0].ver.txn) && versions[0].ver.height > Height(1) {
            for guard in snapshot.prefix(&self.history, keys::history_prefix(&key)) {
                let value = guard.value().map_err(self.failed("read"))?;
                let (_, older): (TxnId, RowVersion) = decode("old row", &value)?;
                let seen = from.sees(older.ver.txn);
                versions.push(older);
                if seen {
                    break;
                }
            }
        }
        Ok(RowVersions { key, versions })
    }
}

struct Merge {
    at: Vector,
    items: Vec<FeedItem>,
    bytes: usize,
}

/// The committed transactions of one seat that a subscriber has not seen.
struct SeatBacklog {
    seat: Seat,
    to: Position,
    iter: fjall::Iter,
    next: Option<(SharedTxn, usize)>,
}

impl SeatBacklog {
    /// Looks at the next record; everything of the seat before it is an aborted hole.
    fn advance(&mut self, store: &RowStore, at: &mut Vector) -> Result<(), RowsError> {
        self.next = None;
        if let Some(guard) = self.iter.next() {
            let value = guard.value().map_err(store.failed("read"))?;
            let txn: SharedTxn = decode("transaction", &value)?;
            let mut before = txn.id.position();
            before.seq.0 -= 1;
            at.advance(self.seat, before);
            self.next = Some((txn, value.len()));
        } else {
            at.advance(self.seat, self.to);
        }
        Ok(())
    }
    /// Hands out the next record if everything it depends on has been.
    fn take(&mut self, store: &RowStore, merge: &mut Merge) -> Result<bool, RowsError> {
        let ready = self.next.as_ref().is_some_and(|(txn, _)| merge.at.covers(&txn.deps));
        let Some((txn, bytes)) = self.next.take_if(|_| ready) else { return Ok(false) };
        merge.at.advance(self.seat, txn.id.position());
        merge.items.push(FeedItem::Commit(txn));
        merge.bytes += bytes;
        self.advance(store, &mut merge.at)?;
        Ok(true)
    }
}

fn store_error(path: &Path, action: &'static str) -> impl Fn(fjall::Error) -> RowsError {
    let path = path.to_owned();
    move |source| RowsError::Store { action, path: path.clone(), source: Box::new(source) }
}

fn decode<T: Wire>(what: &'static str, value: &[u8]) -> Result<T, RowsError> {
    T::get(&mut Reader::new(Bytes::copy_from_slice(value)))
        .map_err(|source| RowsError::Decode { what, source })
}

fn encode(value: &impl Wire) -> BytesMut {
    let mut out = BytesMut::new();
    value.put(&mut out);
    out
}

fn row_bytes(row: &RowVersions) -> usize {
    let versions = row.versions.iter().map(|version| 16 + version.value.as_ref().map_or(0, Bytes::len));
    row.key.len() + versions.sum::<usize>()
}

/// Makes everything applied so far durable.
fn persist(db: &Database, path: &Path) -> Result<(), RowsError> {
    db.persist(PersistMode::SyncData).map_err(store_error(path, "sync"))
}
