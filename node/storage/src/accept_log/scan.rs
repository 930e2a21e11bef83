//! Reading a log's directory: where it ends, and whether something before its end is lost.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{
    BATCH_HEADER_BYTES, Generation, LOG_FORMAT, LogError, MAGIC, MAGIC_BYTES, SEGMENT_HEADER_BYTES, Segment,
    align, io_error,
};

/// What to do with files that were being made when the process ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Leftovers {
    Remove,
    Leave,
}

pub(super) struct Found {
    pub(super) segments: VecDeque<Segment>,
    pub(super) spares: Vec<PathBuf>,
    pub(super) next_sequence: u64,
}

pub(super) fn scan(
    dir: &Path,
    leftovers: Leftovers,
    replay: &mut dyn FnMut(Bytes),
) -> Result<Found, LogError> {
    let (names, spares) = list(dir, leftovers)?;
    let mut found = Found { segments: VecDeque::new(), spares, next_sequence: 1 };
    for (generation, path) in names {
        let data = Bytes::from(std::fs::read(&path).map_err(io_error("read", &path))?);
        let (named, first_sequence) = match parse_segment_header(&data) {
            Some(Header { format, .. }) if format > LOG_FORMAT => {
                return Err(LogError::Newer { path, found: format });
            }
            Some(header) => (header.generation, header.first_sequence),
            None => return Err(LogError::Damaged { path, at: 0 }),
        };
        let follows = match found.segments.back() {
            // The oldest segment begins wherever dropping stopped.
            None => {
                found.next_sequence = first_sequence;
                true
            }
            Some(before) => generation.0 == before.generation.0 + 1 && first_sequence == found.next_sequence,
        };
        if named != generation || !follows {
            return Err(LogError::Damaged { path, at: 0 });
        }
        let end = replay_segment(&data, generation, &mut found.next_sequence, replay);
        if let Some(at) = find_later_batch(&data, end, generation, found.next_sequence) {
            tracing::error!(path = %path.display(), end, at, "a valid batch follows a damaged one");
            return Err(LogError::Damaged { path, at: end as u64 });
        }
        let (bytes, end) = (data.len() as u64, end as u64);
        found.segments.push_back(Segment { generation, path, bytes, end, damaged: false });
    }
    Ok(found)
}

type Names = (Vec<(Generation, PathBuf)>, Vec<PathBuf>);

/// Segments by generation, and spares; what is left of a spare being made is removed.
fn list(dir: &Path, leftovers: Leftovers) -> Result<Names, LogError> {
    let mut segments = Vec::new();
    let mut spares = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io_error("list", dir))? {
        let path = entry.map_err(io_error("list", dir))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let hex = |prefix| name.strip_prefix(prefix)?.strip_suffix(".log");
        if let Some(generation) = hex("accept-").and_then(|hex| u64::from_str_radix(hex, 16).ok()) {
            segments.push((Generation(generation), path));
        } else if hex("spare-").is_some_and(|rest| rest.ends_with("-new")) {
            // It may be shorter than a segment.
            if leftovers == Leftovers::Remove {
                std::fs::remove_file(&path).map_err(io_error("remove", &path))?;
            }
        } else if hex("spare-").is_some() {
            spares.push(path);
        }
    }
    segments.sort();
    Ok((segments, spares))
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(data.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(data: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(data.get(at..at + 8)?.try_into().ok()?))
}

struct Header {
    format: u32,
    generation: Generation,
    first_sequence: u64,
}

/// The header, if it is intact. Of a newer format no more than the format itself is known to mean anything.
fn parse_segment_header(data: &[u8]) -> Option<Header> {
    let digits = data.get(..MAGIC_BYTES)?.strip_prefix(MAGIC)?;
    let format = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let intact =
        u32_at(data, 24)? == crc32c::crc32c(data.get(..24)?) && data.len() as u64 >= SEGMENT_HEADER_BYTES;
    intact.then_some(Header {
        format,
        generation: Generation(u64_at(data, 8)?),
        first_sequence: u64_at(data, 16)?,
    })
}

/// The batch at `at`, if a whole one of this generation is there: its sequence number, payload and end.
fn batch_at(data: &[u8], at: usize, generation: Generation) -> Option<(u64, std::ops::Range<usize>)> {
    if u64_at(data, at + 16)? != generation.0 {
        return None;
    }
    let payload = u32_at(data, at)?;
    let end = (at + BATCH_HEADER_BYTES).checked_add(payload as usize)?;
    let covered = data.get(at + 8..end)?;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&payload.to_le_bytes()), covered);
    (u32_at(data, at + 4)? == checksum).then_some((u64_at(data, at + 8)?, at + BATCH_HEADER_BYTES..end))
}

/// Hands out the records of every whole batch from the start; returns where they end.
fn replay_segment(
    data: &Bytes,
    generation: Generation,
    next_sequence: &mut u64,
    replay: &mut dyn FnMut(Bytes),
) -> usize {
    let mut at = SEGMENT_HEADER_BYTES as usize;
    while let Some((sequence, payload)) = batch_at(data, at, generation) {
        if sequence != *next_sequence {
            break;
        }
        let mut record_at = payload.start;
        while let Some(len) = u32_at(&data[..payload.end], record_at) {
            let start = record_at + 4;
            let end = (start + len as usize).min(payload.end);
            // Copied: a record that lives on must not keep its whole segment in memory.
            replay(Bytes::copy_from_slice(&data[start..end]));
            record_at = end;
        }
        at = align(payload.end);
        *next_sequence += 1;
    }
    at
}

/// Where the segment's first `end` bytes are not its header and whole batches.
pub(super) fn find_damage(data: &[u8], generation: Generation, end: u64) -> Option<usize> {
    if parse_segment_header(data).is_none_or(|header| header.generation != generation) {
        return Some(0);
    }
    let mut at = SEGMENT_HEADER_BYTES as usize;
    while (at as u64) < end {
        match batch_at(data, at, generation) {
            Some((_, payload)) => at = align(payload.end),
            None => return Some(at),
        }
    }
    (at as u64 != end).then_some(at)
}

/// Looks for a whole batch behind the end. Each append waits for the one before, so one that follows a
/// torn or damaged batch proves that the damaged one had been durable.
fn find_later_batch(data: &[u8], end: usize, generation: Generation, next_sequence: u64) -> Option<usize> {
    let mut at = end;
    while at + BATCH_HEADER_BYTES <= data.len() {
        if let Some((sequence, _)) = batch_at(data, at, generation)
            && sequence >= next_sequence
        {
            return Some(at);
        }
        at += super::ALIGN;
    }
    None
}
