//! The append-only log that makes votes and promises durable.
//!
//! A directory of segments, `accept-GENERATION.log`, preallocated with zeros so that an append changes no
//! metadata, and recycled. A segment is a header and then batches, each at a multiple of 8 bytes:
//!
//! ```text
//! segment header   magic "BORLOG01"  generation u64  first sequence u64  crc32c u32  zeros to 64 bytes
//! batch            length u32  crc32c u32  sequence u64  generation u64  payload   (integers little-endian)
//! payload          one record after the other: length u32, bytes
//! ```
//!
//! A batch's checksum covers everything behind it. Sequence numbers count batches without gaps; generations
//! count segments without gaps. Each append is one write that returns when the bytes are on disk
//! (`O_DSYNC`: one system call, and measured no slower than a direct write of whole pages), and the next
//! begins only afterwards. Hence:
//!
//! Invariant: only the last batch ever written can be torn, and it was never acknowledged. A damaged batch
//! that is followed by a valid one means that the disk lost what was promised: [`LogError::Damaged`].
//!
//! Opening never writes behind a torn tail: it begins a new segment, whose first batches are a checkpoint
//! of everything older segments still matter for, so that those can be dropped as a whole.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::formats::LOG_FORMAT;

mod scan;
#[cfg(test)]
mod tests;

/// Size of a segment, unless one batch needs more.
pub const SEGMENT_BYTES: u64 = 8 << 20;
/// Unused segments kept for reuse.
const SPARES_MAX: usize = 2;
/// Followed by two digits: the format of the segment and of the records in it.
const MAGIC: &[u8; 6] = b"BORLOG";
const MAGIC_BYTES: usize = 8;
const SEGMENT_HEADER_BYTES: u64 = 64;
const BATCH_HEADER_BYTES: usize = 24;
const ALIGN: usize = 8;

/// The log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file or directory operation failed.
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
    /// The disk lost something that was durable.
    #[error("{path:?} is damaged at byte {at}: what was promised there is lost")]
    Damaged {
        /// Which segment.
        path: PathBuf,
        /// Where.
        at: u64,
    },
    /// A newer build wrote a segment. Nothing was changed.
    #[error(
        "{path:?} has format {found}, and this build of borealis-node reads formats up to {LOG_FORMAT}: run \
         the version that wrote it, or a newer one"
    )]
    Newer {
        /// Which segment.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

impl LogError {
    /// True if the disk is full: the same append may work later.
    pub fn is_full(&self) -> bool {
        match self {
            LogError::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            LogError::Damaged { .. } | LogError::Newer { .. } => false,
        }
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_owned();
    move |source| LogError::Io { action, path, source }
}

/// Which segment; grows by one with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

struct Segment {
    generation: Generation,
    path: PathBuf,
    bytes: u64,
    /// Where its batches end; of the segment being written, `offset` says.
    end: u64,
    /// Not to be used again.
    damaged: bool,
}

/// A segment that matters, as it is at one moment.
#[derive(Clone, Debug)]
pub(crate) struct LiveSegment {
    pub(crate) generation: Generation,
    pub(crate) path: PathBuf,
    /// Up to here it consists of whole batches.
    pub(crate) end: u64,
}

/// Where the content of a segment, read from its start to its end, is not what was written.
pub(crate) fn find_damage(data: &[u8], segment: &LiveSegment) -> Option<usize> {
    scan::find_damage(data, segment.generation, segment.end)
}

/// Hands every record in `dir` to `records`, as [`AcceptLog::open`] would, and changes nothing.
///
/// # Errors
///
/// As [`AcceptLog::open`].
pub(crate) fn check(dir: &Path, records: &mut dyn FnMut(Bytes)) -> Result<(), LogError> {
    scan::scan(dir, scan::Leftovers::Leave, records).map(drop)
}

/// The accept log of one storage node, open for appending.
pub struct AcceptLog {
    dir: PathBuf,
    segment_bytes: u64,
    /// Oldest first; the last one is written to.
    segments: VecDeque<Segment>,
    active: Option<File>,
    offset: u64,
    sequence: u64,
    next_generation: u64,
    spares: Vec<PathBuf>,
    buffer: Vec<u8>,
    was_empty: bool,
}

impl AcceptLog {
    /// Opens the log in `dir` (made if absent) and hands every record to `replay`, oldest first.
    ///
    /// Nothing can be appended until [`AcceptLog::begin_segment`].
    ///
    /// # Errors
    ///
    /// [`LogError::Damaged`] if something durable is lost, [`LogError::Io`] if files cannot be read.
    pub fn open(
        dir: &Path,
        segment_bytes: u64,
        replay: &mut dyn FnMut(Bytes),
    ) -> Result<AcceptLog, LogError> {
        std::fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        let found = scan::scan(dir, scan::Leftovers::Remove, replay)?;
        let next_generation = found.segments.back().map_or(1, |segment| segment.generation.0 + 1);
        Ok(AcceptLog {
            dir: dir.to_owned(),
            segment_bytes,
            was_empty: found.segments.is_empty(),
            segments: found.segments,
            active: None,
            offset: 0,
            sequence: found.next_sequence,
            next_generation,
            spares: found.spares,
            buffer: Vec::new(),
        })
    }
    /// Removes a log whose promises are lost, with its directory.
    ///
    /// # Errors
    ///
    /// [`LogError::Io`] if something of it stays.
    pub fn discard(dir: &Path) -> Result<(), LogError> {
        match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", dir)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
    /// True if the directory held no segment when it was opened.
    pub fn was_empty(&self) -> bool {
        self.was_empty
    }
    /// The segment being written, if there is one.
    pub fn newest(&self) -> Option<Generation> {
        self.active.as_ref().and_then(|_| self.segments.back()).map(|segment| segment.generation)
    }
    /// Sees to it that the next segment needs no new space: what was begun can then be decided although the
    /// disk is full.
    ///
    /// # Errors
    ///
    /// [`LogError::Io`]; the log goes on without.
    pub fn reserve(&mut self) -> Result<(), LogError> {
        if self.spares.is_empty() {
            let spare = self.take_spare(self.segment_bytes)?;
            self.spares.push(spare);
        }
        Ok(())
    }
    /// Bytes of all segments and spares on disk.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum::<u64>()
            + self.spares.len() as u64 * self.segment_bytes
    }
    /// Every segment that matters, oldest first.
    pub(crate) fn live(&self) -> Vec<LiveSegment> {
        let last = self.newest();
        let live = |segment: &Segment| LiveSegment {
            generation: segment.generation,
            path: segment.path.clone(),
            end: if last == Some(segment.generation) { self.offset } else { segment.end },
        };
        self.segments.iter().map(live).collect()
    }
    /// Notes that a segment is damaged: once it is not needed any more it is removed, not used again. False
    /// if there is no such segment.
    pub(crate) fn set_damaged(&mut self, generation: Generation) -> bool {
        let segment = self.segments.iter_mut().find(|segment| segment.generation == generation);
        segment.is_some_and(|segment| {
            segment.damaged = true;
            true
        })
    }
    /// True if these records do not fit into the segment being written (or none is).
    pub fn is_full_for(&self, records: &[Bytes]) -> bool {
        match (&self.active, self.segments.back()) {
            (Some(_), Some(segment)) => self.offset + batch_bytes(records) > segment.bytes,
            _ => true,
        }
    }
    /// Begins a new segment with a checkpoint, and returns its generation: once what the checkpoint leaves
    /// out is durable elsewhere, older segments may go.
    ///
    /// # Errors
    ///
    /// [`LogError::Io`]; the log is as before and the call may be repeated.
    pub fn begin_segment(&mut self, checkpoint: &[Bytes]) -> Result<Generation, LogError> {
        let bytes = self.segment_bytes.max(SEGMENT_HEADER_BYTES + batch_bytes(checkpoint));
        let spare = self.take_spare(bytes)?;
        let generation = Generation(self.next_generation);
        let path = self.dir.join(format!("accept-{:016x}.log", generation.0));
        let file = match self.prepare_segment(&spare, &path, generation, checkpoint) {
            Ok(file) => file,
            Err(error) => {
                self.spares.push(spare);
                return Err(error);
            }
        };
        let before = self.offset;
        if let (Some(_), Some(last)) = (self.active.replace(file), self.segments.back_mut()) {
            last.end = before;
        }
        self.offset = SEGMENT_HEADER_BYTES + if checkpoint.is_empty() { 0 } else { batch_bytes(checkpoint) };
        self.sequence += u64::from(!checkpoint.is_empty());
        self.next_generation += 1;
        self.segments.push_back(Segment { generation, path, bytes, end: bytes, damaged: false });
        Ok(generation)
    }
    /// Appends a batch; when this returns it is on disk.
    ///
    /// # Errors
    ///
    /// [`LogError::Io`]: the batch is not durable. The call may be repeated with the same records; nothing
    /// else may be appended before them.
    pub fn append(&mut self, records: &[Bytes]) -> Result<(), LogError> {
        let (Some(file), Some(segment)) = (&self.active, self.segments.back()) else {
            panic!("append before begin_segment");
        };
        assert!(!self.is_full_for(records), "append to a full segment");
        encode_batch(&mut self.buffer, records, self.sequence, segment.generation);
        file.write_all_at(&self.buffer, self.offset).map_err(io_error("append to", &segment.path))?;
        self.offset += self.buffer.len() as u64;
        self.sequence += 1;
        if self.buffer.capacity() > 1 << 20 {
            self.buffer = Vec::new();
        }
        Ok(())
    }
    /// Drops (or keeps for reuse) every segment older than `generation`.
    ///
    /// # Errors
    ///
    /// [`LogError::Io`]; the call may be repeated.
    pub fn drop_before(&mut self, generation: Generation) -> Result<(), LogError> {
        let mut dropped = false;
        while self.segments.len() > 1 && self.segments[0].generation < generation {
            let segment = &self.segments[0];
            let useful = segment.bytes == self.segment_bytes && !segment.damaged;
            if self.spares.len() < SPARES_MAX && useful {
                let spare = self.dir.join(format!("spare-{:016x}.log", segment.generation.0));
                std::fs::rename(&segment.path, &spare).map_err(io_error("rename", &segment.path))?;
                self.spares.push(spare);
            } else {
                std::fs::remove_file(&segment.path).map_err(io_error("remove", &segment.path))?;
            }
            self.segments.pop_front();
            dropped = true;
        }
        if dropped { sync_dir(&self.dir) } else { Ok(()) }
    }
    fn take_spare(&mut self, bytes: u64) -> Result<PathBuf, LogError> {
        if bytes == self.segment_bytes
            && let Some(spare) = self.spares.pop()
        {
            return Ok(spare);
        }
        let path = self.dir.join(format!("spare-{:016x}-new.log", self.next_generation));
        let result = fill_with_zeros(&path, bytes);
        if result.is_err() {
            // What was written of it only takes the space that is missing.
            drop(std::fs::remove_file(&path));
        }
        result.map(|()| path)
    }

    /// Writes header and checkpoint into the spare, then gives it its name: a segment is complete from the
    /// moment it exists.
    fn prepare_segment(
        &mut self,
        spare: &Path,
        path: &Path,
        generation: Generation,
        checkpoint: &[Bytes],
    ) -> Result<File, LogError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DSYNC)
            .open(spare)
            .map_err(io_error("open", spare))?;
        let mut start = segment_header(generation, self.sequence);
        if !checkpoint.is_empty() {
            encode_batch(&mut self.buffer, checkpoint, self.sequence, generation);
            start.append(&mut self.buffer);
        }
        file.write_all_at(&start, 0).map_err(io_error("write", spare))?;
        std::fs::rename(spare, path).map_err(io_error("rename", spare))?;
        if let Err(error) = sync_dir(&self.dir) {
            // Undone, so that the caller may repeat the whole.
            std::fs::rename(path, spare).map_err(io_error("rename", path))?;
            return Err(error);
        }
        Ok(file)
    }
}

fn fill_with_zeros(path: &Path, bytes: u64) -> Result<(), LogError> {
    let file = File::create(path).map_err(io_error("create", path))?;
    let zeros = vec![0u8; 1 << 20];
    let mut at = 0;
    while at < bytes {
        let len = (bytes - at).min(zeros.len() as u64);
        file.write_all_at(&zeros[..len as usize], at).map_err(io_error("preallocate", path))?;
        at += len;
    }
    file.sync_all().map_err(io_error("sync", path))
}

fn sync_dir(dir: &Path) -> Result<(), LogError> {
    File::open(dir).and_then(|file| file.sync_all()).map_err(io_error("sync", dir))
}

fn segment_header(generation: Generation, first_sequence: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(SEGMENT_HEADER_BYTES as usize);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(format!("{LOG_FORMAT:02}").as_bytes());
    assert!(header.len() == MAGIC_BYTES, "a format has two digits");
    header.extend_from_slice(&generation.0.to_le_bytes());
    header.extend_from_slice(&first_sequence.to_le_bytes());
    header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
    header.resize(SEGMENT_HEADER_BYTES as usize, 0);
    header
}

fn align(len: usize) -> usize {
    len.next_multiple_of(ALIGN)
}

fn batch_bytes(records: &[Bytes]) -> u64 {
    align(BATCH_HEADER_BYTES + records.iter().map(|record| 4 + record.len()).sum::<usize>()) as u64
}

fn encode_batch(out: &mut Vec<u8>, records: &[Bytes], sequence: u64, generation: Generation) {
    out.clear();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&generation.0.to_le_bytes());
    for record in records {
        let len = u32::try_from(record.len()).expect("a record is smaller than a frame");
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(record);
    }
    let payload = u32::try_from(out.len() - BATCH_HEADER_BYTES).expect("a batch is smaller than 4 GiB");
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&payload.to_le_bytes()), &out[8..]);
    out[..4].copy_from_slice(&payload.to_le_bytes());
    out[4..8].copy_from_slice(&checksum.to_le_bytes());
    out.resize(align(out.len()), 0);
}
