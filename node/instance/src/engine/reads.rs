//! Reading committed rows: from the cache, or through it from storage.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use node_core::cache::{Cache, Gap, Lookup, ScanEnd, View};
use node_core::ids::{Key, Vector};
use node_core::quorum::Mode;
use node_core::wire::RowVersion;
use node_sql::store::StoreError;

use super::Engine;
use super::fetches::{Fetched, Io};

/// A point read that misses fetches about this much.
const POINT_BYTES: u32 = 8 << 10;
/// A scan that misses begins with this much, and doubles it with every miss of the statement.
pub(super) const SCAN_BYTES: u32 = 16 << 10;
const SCAN_BYTES_MAX: u32 = 256 << 10;
/// A scan lets go of the cache after so many rows, so that it does not keep out who changes it.
const ROWS_AT_ONCE: usize = 256;
const VISITS_AT_ONCE: usize = 1024;
/// How often a read that waits for the lease asks again by itself.
const LEASE_POLL: Duration = Duration::from_millis(5);

/// A snapshot, or the newest there is.
#[derive(Clone, Copy)]
pub(super) enum Seen<'a> {
    Newest,
    Snapshot(&'a Vector),
}

impl<'a> Seen<'a> {
    fn view(self) -> View<'a> {
        match self {
            Seen::Newest => View::Newest,
            Seen::Snapshot(vector) => View::Snapshot(vector),
        }
    }
}

/// What a scan is to find.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) start: &'a Key,
    pub(super) end: Option<&'a Key>,
    pub(super) reverse: bool,
    pub(super) limit: usize,
    pub(super) seen: Seen<'a>,
}

/// Live rows of a range.
pub(super) struct Found {
    pub(super) rows: Vec<(Key, RowVersion)>,
    /// Nothing is left of the range.
    pub(super) exhausted: bool,
    /// [`Cache::changes`] when the first of them was read.
    pub(super) changes: u64,
}

/// A scan on its way through the cache.
struct Walk<'a> {
    wanted: Wanted<'a>,
    start: Key,
    end: Option<Key>,
    rows: Vec<(Key, RowVersion)>,
}

impl Walk<'_> {
    fn step(&mut self, cache: &Cache) -> ScanEnd {
        let Walk { wanted, start, end, rows } = self;
        let full = wanted.limit.min(rows.len() + ROWS_AT_ONCE);
        let mut visits = 0;
        let mut last = None;
        let ended =
            cache.scan(start, end.as_deref(), wanted.reverse, wanted.seen.view(), &mut |key, version| {
                visits += 1;
                if version.value.is_some() {
                    rows.push((key.clone(), version.clone()));
                }
                if rows.len() < full && visits < VISITS_AT_ONCE {
                    return true;
                }
                last = Some(key.clone());
                false
            });
        match (&ended, last) {
            (ScanEnd::Stopped, Some(key)) if wanted.reverse => *end = Some(key),
            (ScanEnd::Stopped, Some(key)) => *start = successor(&key),
            (ScanEnd::Gap(gap), _) if wanted.reverse => *end = gap.end.clone(),
            (ScanEnd::Gap(gap), _) => *start = gap.start.clone(),
            _ => {}
        }
        ended
    }
}

impl Engine {
    /// The version that is seen of a key; it may be a tombstone.
    pub(super) fn read_point(
        &self,
        io: Io<'_>,
        key: &Key,
        seen: Seen<'_>,
    ) -> Result<Option<RowVersion>, StoreError> {
        let look = |cache: &Cache| match cache.get(key, seen.view()) {
            Lookup::Hit(version) => Ok(version.cloned()),
            Lookup::Miss(gap) => Err(gap),
        };
        let mut waited = false;
        loop {
            // The guard must be gone before the fetch.
            let looked = look(&self.cache.read());
            let mut gap = match looked {
                Ok(version) => return Ok(version),
                Err(gap) => gap,
            };
            clip_to_table(&mut gap, key, false);
            let mut found = None;
            let fetched = self.fetch(io, gap, false, POINT_BYTES, &mut waited, &mut |cache| {
                found = look(cache).ok();
            })?;
            if let (Fetched::Read, Some(version)) = (fetched, found) {
                return Ok(version);
            }
        }
    }

    /// Live rows of a range, at most as many as wanted.
    pub(super) fn read_range(
        &self,
        io: Io<'_>,
        wanted: Wanted<'_>,
        prefetch: &mut u32,
    ) -> Result<Found, StoreError> {
        let (start, end) = (wanted.start.clone(), wanted.end.cloned());
        let mut walk = Walk { wanted, start, end, rows: Vec::new() };
        let changes = self.changes.load(Ordering::Acquire);
        let most = u32::try_from(self.config.cache_bytes / 16).unwrap_or(u32::MAX);
        let mut waited = false;
        loop {
            let mut ended = walk.step(&self.cache.read());
            while let ScanEnd::Gap(mut gap) = ended {
                clip_to_table(&mut gap, wanted.start, wanted.reverse);
                let bytes = (*prefetch).min(most).max(POINT_BYTES);
                let mut next = None;
                let fetched = self.fetch(io, gap, wanted.reverse, bytes, &mut waited, &mut |cache| {
                    next = Some(walk.step(cache));
                })?;
                *prefetch = (*prefetch * 2).min(SCAN_BYTES_MAX);
                waited &= fetched == Fetched::Again;
                ended = next.unwrap_or(ScanEnd::Stopped);
            }
            if ended == ScanEnd::Exhausted || walk.rows.len() >= wanted.limit {
                let exhausted = ended == ScanEnd::Exhausted;
                return Ok(Found { rows: walk.rows, exhausted, changes });
            }
        }
    }

    /// Returns once what has been read was the present: a single-master writer asks its lease. To be
    /// called after the snapshot was taken or the row was read.
    pub(super) fn await_lease(&self, io: Io<'_>) -> Result<(), StoreError> {
        let needed = || self.config.mode == Mode::SingleMaster && self.is_writer();
        if !needed() {
            return Ok(());
        }
        let deadline = Instant::now() + self.config.lease_wait;
        loop {
            // In this order: who loses the seat is a reader before the lease stops to matter.
            let valid = io.volume.lease_valid();
            if !needed() {
                return Err(StoreError::ReadOnly);
            }
            if valid {
                return Ok(());
            }
            if io.killed.load(Ordering::Relaxed) {
                return Err(StoreError::Killed);
            }
            if Instant::now() >= deadline {
                let reason = "the writer has not heard from a read quorum of storage nodes".into();
                return Err(StoreError::Unavailable { reason });
            }
            // The volume is asked without holding the mutex; a wake-up missed in between costs one poll.
            self.lease.1.wait_for(&mut self.lease.0.lock(), LEASE_POLL);
        }
    }
}

/// The first key after this one.
pub(super) fn successor(key: &Key) -> Key {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.put_u8(0);
    next.freeze()
}

/// Keeps a fetch within the table (the first four bytes) that the range begins in, as long as the scan is
/// there: what lies beyond is hardly wanted.
fn clip_to_table(gap: &mut Gap, start: &Key, reverse: bool) {
    let Some(table) = start.first_chunk::<4>() else { return };
    if reverse {
        if gap.start[..] < table[..] {
            gap.start = Bytes::copy_from_slice(table);
        }
        return;
    }
    let Some(next) = u32::from_be_bytes(*table).checked_add(1) else { return };
    let border = next.to_be_bytes();
    if gap.start[..] < border[..] && gap.end.as_ref().is_none_or(|end| end[..] > border[..]) {
        gap.end = Some(Bytes::copy_from_slice(&border));
    }
}
