//! Reads from storage that are under way, so that those who miss the same rows wait for one of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use node_core::cache::{Cache, FetchId, Gap, InstallError};
use node_core::wire::Block;
use node_sql::store::StoreError;
use parking_lot::{Condvar, Mutex};

use super::{Engine, KILL_POLL, count};
use crate::volume_api::{BlockRequest, Volume, VolumeError};

/// Why a transaction that was under way at a reset is given up.
pub(super) const HISTORY_GONE: &str = "the history that the transaction reads is gone";
/// A fetch under way, and how it ended.
#[derive(Debug)]
struct Slot {
    gap: Gap,
    reverse: bool,
    ended: Mutex<Option<Result<(), StoreError>>>,
    wake: Condvar,
}

impl Slot {
    /// Whether the answer will surely, or (`near`) very likely, have the gap's first key.
    fn serves(&self, gap: &Gap, reverse: bool, near: bool) -> bool {
        if self.reverse != reverse {
            return false;
        }
        if reverse {
            return self.gap.end == gap.end;
        }
        if self.gap.start == gap.start {
            return true;
        }
        // How far the answer will reach is not known. Keys of one length that differ only in their last
        // byte are neighbours, for instance consecutive integers.
        let (mine, other) = (&self.gap.start, &gap.start);
        let Some(prefix) = other.len().checked_sub(1) else { return false };
        near && mine.len() == other.len() && mine[..prefix] == other[..prefix] && self.gap.contains(other)
    }

    fn wait(&self, killed: &AtomicBool) -> Result<(), StoreError> {
        let mut ended = self.ended.lock();
        loop {
            if let Some(result) = &*ended {
                return result.clone();
            }
            if killed.load(Ordering::Relaxed) {
                return Err(StoreError::Killed);
            }
            self.wake.wait_for(&mut ended, KILL_POLL);
        }
    }
}

/// All fetches under way.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    slots: Mutex<Vec<Arc<Slot>>>,
}

/// What came of a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fetched {
    /// The answer was installed by the caller, and `read` has been called with the cache that has it.
    Read,
    /// Somebody else's answer may be there now: look again.
    Again,
}

/// How a session reads from the volume.
#[derive(Clone, Copy)]
pub(super) struct Io<'a> {
    pub(super) volume: &'a dyn Volume,
    pub(super) killed: &'a AtomicBool,
    /// `Engine::resets` when its snapshot was taken or its first lock, if it has any: they end with a reset.
    pub(super) resets: Option<u64>,
}

/// The one who carries a fetch. Whatever happens, those who wait for it are told.
struct Leader<'a> {
    engine: &'a Engine,
    slot: Arc<Slot>,
    id: FetchId,
    result: Result<(), StoreError>,
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        if self.result.is_err() {
            self.engine.cache.write().abandon(self.id);
        }
        self.engine.fetches.slots.lock().retain(|slot| !Arc::ptr_eq(slot, &self.slot));
        *self.slot.ended.lock() = Some(self.result.clone());
        self.slot.wake.notify_all();
    }
}

impl Engine {
    /// Fills a gap from storage, or waits for somebody who does. `waited` is the caller's memory of having
    /// waited for a fetch that only might have what it needs: it does so once.
    pub(super) fn fetch(
        &self,
        io: Io<'_>,
        gap: Gap,
        reverse: bool,
        bytes_max: u32,
        waited: &mut bool,
        read: &mut dyn FnMut(&Cache),
    ) -> Result<Fetched, StoreError> {
        if io.resets.is_some_and(|resets| resets != self.resets.load(Ordering::SeqCst)) {
            // Storage no longer keeps what the snapshot sees.
            return Err(StoreError::Conflict { detail: HISTORY_GONE.into() });
        }
        // Taken first: every snapshot that will read the answer covers it.
        let from = (*self.snapshots.low()).clone();
        let mut slots = self.fetches.slots.lock();
        if let Some(slot) = slots.iter().find(|slot| slot.serves(&gap, reverse, !*waited)).cloned() {
            drop(slots);
            *waited = true;
            return slot.wait(io.killed).map(|()| Fetched::Again);
        }
        let Some((id, at_least)) = self.cache.write().begin_fetch(gap.clone(), reverse) else {
            return Ok(Fetched::Again);
        };
        let slot = Slot { gap, reverse, ended: Mutex::new(None), wake: Condvar::new() };
        let slot = Arc::new(slot);
        slots.push(slot.clone());
        drop(slots);
        let died = StoreError::Unavailable { reason: "the fetch of the rows was abandoned".into() };
        let mut leader = Leader { engine: self, slot: slot.clone(), id, result: Err(died) };
        count(&self.counters.fetches);
        let (start, end) = (slot.gap.start.clone(), slot.gap.end.clone());
        let request = BlockRequest { start, end, reverse, bytes_max, from, at_least };
        let answer = io.volume.read_block(request).map_err(volume_error);
        let result = answer.and_then(|block| self.install(id, block, read));
        leader.result = result.clone().map(|_| ());
        result
    }

    fn install(
        &self,
        id: FetchId,
        block: Block,
        read: &mut dyn FnMut(&Cache),
    ) -> Result<Fetched, StoreError> {
        let horizon = self.snapshots.horizon();
        let fetched = self.change_cache(|cache| {
            let installed = cache.install(id, block, &horizon);
            if installed.is_ok() {
                // Read before anything can be evicted, so that every fetch is of use however small the
                // cache is.
                read(cache);
                cache.evict(self.config.cache_bytes);
            }
            installed
        });
        match fetched {
            Ok(()) => Ok(Fetched::Read),
            Err(InstallError::Void) => Ok(Fetched::Again),
            Err(error) => Err(StoreError::Unavailable { reason: error.to_string() }),
        }
    }
}

/// The store's name for a failure of the volume.
pub(super) fn volume_error(error: VolumeError) -> StoreError {
    match error {
        VolumeError::Unavailable(reason) => StoreError::Unavailable { reason },
        VolumeError::Killed => StoreError::Killed,
    }
}
