//! An instance's cache: *blocks* of rows with version chains, never overlapping, not necessarily touching.
//!
//! A block says everything about its range: a key that is not in it was never written. Decided
//! transactions are applied to the blocks that are there and to the fetches under way. The race between a
//! fetch and a change is settled here: a fetch remembers every change to its range from the moment it is
//! registered and a while before it; its answer must include everything older than those, so that the storage
//! node hardly ever has to wait for its rows; and heights tell which of the remembered changes the answer
//! lacks.
//!
//! Pure: the caller holds the lock, carries the fetch to a storage node and waits for it.

mod block;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use self::block::{Applied, Block, Row};
use crate::ids::{Key, Vector};
use crate::txn::SharedTxn;
use crate::wire::{self, FeedItem, RowVersion};

/// What a reader sees.
#[derive(Clone, Copy, Debug)]
pub enum View<'a> {
    /// The newest committed version.
    Newest,
    /// The newest version within the snapshot.
    Snapshot(&'a Vector),
}

/// The snapshots that may still be read, oldest first; the last one is what the next snapshot will be at
/// least. Those of one instance are ordered, each covers the ones before it.
#[derive(Clone, Debug, Default)]
pub struct Horizon(Vec<Arc<Vector>>);

impl Horizon {
    /// From snapshots in the order in which they were taken, and then what a new one would be.
    pub fn new(snapshots: Vec<Arc<Vector>>) -> Horizon {
        Horizon(snapshots)
    }
    /// The oldest.
    pub fn oldest(&self) -> Option<&Vector> {
        self.0.first().map(Arc::as_ref)
    }
    fn newest(&self) -> Option<&Vector> {
        self.0.last().map(Arc::as_ref)
    }
    fn newest_first(&self) -> impl Iterator<Item = &Vector> {
        self.0.iter().rev().map(Arc::as_ref)
    }
}

/// A range of keys about which the cache says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// First key.
    pub start: Key,
    /// First key not in the gap; `None`: to the end of the keys.
    pub end: Option<Key>,
}

/// The answer to a point read.
#[derive(Debug)]
pub enum Lookup<'a> {
    /// What the view sees; `None`: nothing (the version seen may also be a tombstone).
    Hit(Option<&'a RowVersion>),
    /// The key is not cached. The gap begins at it.
    Miss(Gap),
}

/// How a scan ended.
#[derive(Debug, PartialEq, Eq)]
pub enum ScanEnd {
    /// Nothing is left of the range.
    Exhausted,
    /// The visitor had enough.
    Stopped,
    /// What comes next is not cached. Everything before the gap, in scan order, has been visited. The gap
    /// may reach beyond the range of the scan.
    Gap(Gap),
}

/// A fetch under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(u64);

/// Why an answer could not be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// The cache was reset meanwhile: fetch again.
    #[error("the cache was reset during the fetch")]
    Void,
    /// The answer is not what was asked for.
    #[error("the block is malformed: {0}")]
    Malformed(&'static str),
}

#[derive(Debug)]
struct Fetch {
    gap: Gap,
    reverse: bool,
    at_least: Vector,
    changes: Vec<(Key, RowVersion)>,
}

impl Fetch {
    /// Remembers the changes to its range.
    fn collect(&mut self, txn: &SharedTxn) {
        for write in txn.writes.iter().filter(|write| self.gap.contains(&write.key)) {
            let value = write.value.as_ref().map(|value| Bytes::copy_from_slice(value));
            let copy = RowVersion { ver: write.version(txn.id), value };
            self.changes.push((Bytes::copy_from_slice(&write.key), copy));
        }
    }
}

/// The newest transactions are remembered for fetches to come: this many writes, or this many bytes of them.
const RECENT_WRITES: usize = if cfg!(test) { 8 } else { 1024 };
const RECENT_BYTES: usize = 1 << 20;

/// The newest transactions applied, oldest first, each with what was applied before it.
#[derive(Debug, Default)]
struct Recent {
    txns: VecDeque<(Vector, SharedTxn)>,
    writes: usize,
    bytes: usize,
}

impl Recent {
    fn push(&mut self, before: Vector, txn: &SharedTxn) {
        self.writes += txn.writes.len();
        self.bytes += txn_bytes(txn);
        self.txns.push_back((before, txn.clone()));
        while self.writes > RECENT_WRITES || self.bytes > RECENT_BYTES {
            let Some((_, oldest)) = self.txns.pop_front() else { return };
            self.writes -= oldest.writes.len();
            self.bytes -= txn_bytes(&oldest);
        }
    }
}

fn txn_bytes(txn: &SharedTxn) -> usize {
    txn.writes.iter().map(|write| write.key.len() + write.value.as_ref().map_or(0, Bytes::len)).sum()
}

/// What a change in the feed did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// It had been applied before.
    Known,
    /// It is applied now.
    New,
}

/// How full the cache is and what it has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Memory kept, about.
    pub bytes: usize,
    /// Blocks cached.
    pub blocks: usize,
    /// Rows cached, tombstones included.
    pub rows: usize,
    /// Blocks evicted since the start.
    pub evicted: u64,
    /// Answers installed since the start.
    pub installed: u64,
}

/// The blocks of an instance.
#[derive(Debug, Default)]
pub struct Cache {
    blocks: BTreeMap<Key, Block>,
    fetches: HashMap<FetchId, Fetch>,
    next_fetch: u64,
    applied: Vector,
    recent: Recent,
    bytes: usize,
    rows: usize,
    /// The clock's hand: the start of the block it passed last.
    hand: Key,
    evicted: u64,
    installed: u64,
    changes: u64,
}

impl Cache {
    /// An empty cache that has applied everything up to the vector.
    pub fn new(applied: Vector) -> Cache {
        Cache { applied, ..Cache::default() }
    }

    /// How far the feed has been applied.
    pub fn applied(&self) -> &Vector {
        &self.applied
    }

    /// Grows whenever the newest version of any row may have changed.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Size and counters.
    pub fn stats(&self) -> CacheStats {
        let Cache { bytes, blocks, rows, evicted, installed, .. } = self;
        CacheStats {
            bytes: *bytes,
            blocks: blocks.len(),
            rows: *rows,
            evicted: *evicted,
            installed: *installed,
        }
    }

    /// One key.
    pub fn get(&self, key: &[u8], view: View<'_>) -> Lookup<'_> {
        match self.block_at(key) {
            Some((_, block)) => {
                block.touch();
                Lookup::Hit(block.row(key).and_then(|row| row.pick(view)))
            }
            None => Lookup::Miss(Gap { start: Bytes::copy_from_slice(key), end: self.start_after(key) }),
        }
    }

    /// Visits the versions that the view sees, tombstones too, in key order or backwards.
    pub fn scan(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        reverse: bool,
        view: View<'_>,
        visit: &mut dyn FnMut(&Key, &RowVersion) -> bool,
    ) -> ScanEnd {
        if end.is_some_and(|end| end <= start) {
            return ScanEnd::Exhausted;
        }
        match reverse {
            false => self.scan_up(start, end, view, visit),
            true => self.scan_down(start, end, view, visit),
        }
    }

    fn scan_up(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        view: View<'_>,
        visit: &mut dyn FnMut(&Key, &RowVersion) -> bool,
    ) -> ScanEnd {
        let mut at = start;
        let first = self.block_at(at).map_or(start, |(from, _)| &from[..]);
        for (from, block) in self.blocks.range::<[u8], _>((Bound::Included(first), Bound::Unbounded)) {
            if &from[..] > at {
                break;
            }
            block.touch();
            for row in &block.rows[block.lower_bound(at)..] {
                if end.is_some_and(|end| &row.key[..] >= end) {
                    return ScanEnd::Exhausted;
                }
                if row.pick(view).is_some_and(|version| !visit(&row.key, version)) {
                    return ScanEnd::Stopped;
                }
            }
            match &block.end {
                None => return ScanEnd::Exhausted,
                Some(border) if end.is_some_and(|end| &border[..] >= end) => return ScanEnd::Exhausted,
                Some(border) => at = border,
            }
        }
        ScanEnd::Gap(Gap { start: Bytes::copy_from_slice(at), end: self.start_after(at) })
    }

    fn scan_down(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        view: View<'_>,
        visit: &mut dyn FnMut(&Key, &RowVersion) -> bool,
    ) -> ScanEnd {
        let mut bound = end;
        let upper = end.map_or(Bound::Unbounded, Bound::Excluded);
        let mut below: &[u8] = b"";
        for (from, block) in self.blocks.range::<[u8], _>((Bound::Unbounded, upper)).rev() {
            if !block.covers_below(bound) {
                below = block.end.as_deref().unwrap_or_default();
                break;
            }
            block.touch();
            let count = bound.map_or(block.rows.len(), |bound| block.lower_bound(bound));
            for row in block.rows[..count].iter().rev() {
                if &row.key[..] < start {
                    return ScanEnd::Exhausted;
                }
                if row.pick(view).is_some_and(|version| !visit(&row.key, version)) {
                    return ScanEnd::Stopped;
                }
            }
            if &from[..] <= start {
                return ScanEnd::Exhausted;
            }
            bound = Some(from);
        }
        ScanEnd::Gap(Gap { start: Bytes::copy_from_slice(below), end: bound.map(Bytes::copy_from_slice) })
    }

    /// Registers a fetch of the gap, unless its first key (its last, if `reverse`) is cached by now.
    /// From here on the fetch collects the changes that its answer may lack. Returns what the answer must
    /// include.
    pub fn begin_fetch(&mut self, gap: Gap, reverse: bool) -> Option<(FetchId, Vector)> {
        let cached = match reverse {
            false => self.block_at(&gap.start).is_some(),
            true => {
                let upper = gap.end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(&end[..]));
                let last = self.blocks.range::<[u8], _>((Bound::Unbounded, upper)).next_back();
                last.is_some_and(|(_, block)| block.covers_below(gap.end.as_deref()))
            }
        };
        if cached {
            return None;
        }
        self.next_fetch += 1;
        let id = FetchId(self.next_fetch);
        let at_least = self.recent.txns.front().map_or(&self.applied, |(before, _)| before).clone();
        let mut fetch = Fetch { gap, reverse, at_least: at_least.clone(), changes: Vec::new() };
        for (_, txn) in &self.recent.txns {
            fetch.collect(txn);
        }
        self.fetches.insert(id, fetch);
        Some((id, at_least))
    }

    /// Forgets a fetch that failed.
    pub fn abandon(&mut self, id: FetchId) {
        self.fetches.remove(&id);
    }

    /// Puts the answer to a fetch into the cache. The caller evicts afterwards, once it has read from it.
    ///
    /// # Errors
    ///
    /// [`InstallError`]; the fetch is over in any case.
    pub fn install(
        &mut self,
        id: FetchId,
        answer: wire::Block,
        horizon: &Horizon,
    ) -> Result<(), InstallError> {
        let fetch = self.fetches.remove(&id).ok_or(InstallError::Void)?;
        let fresh = validate(&fetch, answer, horizon)?;
        let (start, mut block) = fresh;
        let mut changes = fetch.changes;
        changes.retain(|(key, _)| *key >= start && block.covers(key));
        for (key, version) in &changes {
            if block.apply(key, version, horizon) == Applied::Hole {
                return Err(InstallError::Malformed("a version between the answer and the feed is missing"));
            }
        }
        self.installed += 1;
        self.changes += 1;
        for (start, end) in self.uncovered(&start, block.end.as_ref()) {
            let from = block.lower_bound(&start);
            let to = end.as_ref().map_or(block.rows.len(), |end| block.lower_bound(end));
            self.insert_rows(start, end, &block.rows[from..to]);
        }
        Ok(())
    }

    /// The parts of the range that no block covers: others may have been installed meanwhile.
    fn uncovered(&self, start: &Key, end: Option<&Key>) -> Vec<(Key, Option<Key>)> {
        let mut parts = Vec::new();
        let mut at = start.clone();
        if let Some((_, block)) = self.block_at(start) {
            match &block.end {
                Some(border) => at = border.clone(),
                None => return parts,
            }
        }
        let from = at.clone();
        for (next, block) in self.blocks.range(from..) {
            if end.is_some_and(|end| next >= end) {
                break;
            }
            if *next > at {
                parts.push((at, Some(next.clone())));
            }
            match &block.end {
                Some(border) => at = border.clone(),
                None => return parts,
            }
        }
        if end.is_none_or(|end| at < *end) {
            parts.push((at, end.cloned()));
        }
        parts
    }

    fn insert_rows(&mut self, start: Key, end: Option<Key>, rows: &[Row]) {
        let cuts = block::pieces(rows);
        let before = self.blocks.range::<Key, _>(..&start).next_back().map(|(key, _)| key.clone());
        let mut at = start;
        for (number, cut) in cuts.iter().enumerate() {
            let border = cuts.get(number + 1).map(|next| Bytes::copy_from_slice(&rows[next.start].key));
            let last = border.is_none();
            let border = border.or_else(|| end.clone());
            self.add(at.clone(), Block::new(border.clone(), rows[cut.clone()].to_vec()));
            if last {
                self.merge_after(&at);
            }
            at = border.unwrap_or_default();
        }
        if let Some(before) = before {
            self.merge_after(&before);
        }
    }

    /// Makes one block of this and the next if they touch and are small.
    fn merge_after(&mut self, start: &Key) {
        let Some(block) = self.blocks.get(start) else { return };
        let Some(border) = block.end.clone() else { return };
        if !self.blocks.get(&border).is_some_and(|next| block.may_merge(next)) {
            return;
        }
        if let (Some(next), Some(mut block)) = (self.remove(&border), self.remove(start)) {
            block.merge(next);
            self.add(start.clone(), block);
        }
    }

    fn add(&mut self, start: Key, block: Block) {
        self.bytes += block.bytes();
        self.rows += block.rows.len();
        self.blocks.insert(start, block);
    }

    fn remove(&mut self, start: &Key) -> Option<Block> {
        let block = self.blocks.remove(start)?;
        self.bytes -= block.bytes();
        self.rows -= block.rows.len();
        Some(block)
    }

    /// Applies one item of the feed.
    pub fn feed(&mut self, item: &FeedItem, horizon: &Horizon) -> Fed {
        match item {
            FeedItem::Advance { seat, to } => match self.applied.advance(*seat, *to) {
                true => Fed::New,
                false => Fed::Known,
            },
            FeedItem::Commit(txn) if self.applied.sees(txn.id) => Fed::Known,
            FeedItem::Commit(txn) => {
                self.recent.push(self.applied.clone(), txn);
                self.apply(txn, horizon);
                self.applied.advance(txn.id.seat, txn.id.position());
                Fed::New
            }
        }
    }

    fn apply(&mut self, txn: &SharedTxn, horizon: &Horizon) {
        self.changes += 1;
        for fetch in self.fetches.values_mut() {
            fetch.collect(txn);
        }
        for write in &txn.writes {
            let version = RowVersion { ver: write.version(txn.id), value: write.value.clone() };
            self.apply_write(&write.key, &version, horizon);
        }
    }

    fn apply_write(&mut self, key: &Key, version: &RowVersion, horizon: &Horizon) {
        let upper = Bound::Included(&key[..]);
        let last = self.blocks.range_mut::<[u8], _>((Bound::Unbounded, upper)).next_back();
        let Some((start, block)) = last.filter(|(_, block)| block.covers(key)) else { return };
        let (bytes, rows) = (block.bytes(), block.rows.len());
        let applied = block.apply(key, version, horizon);
        let at_end = block.rows.last().is_some_and(|row| row.key == *key);
        let upper = block.split(at_end);
        self.bytes = self.bytes - bytes + block.bytes();
        self.rows = self.rows - rows + block.rows.len();
        let start = (applied == Applied::Hole).then(|| start.clone());
        if let Some((border, upper)) = upper {
            self.add(border, upper);
        }
        if let Some(start) = start {
            // Only a block that was not what it claimed to be can lack a version: read it anew.
            self.remove(&start);
        }
    }

    /// Forgets every row and every fetch, and goes on from the vector.
    pub fn reset(&mut self, at: &Vector) {
        self.blocks.clear();
        self.fetches.clear();
        self.recent = Recent::default();
        self.bytes = 0;
        self.rows = 0;
        self.changes += 1;
        self.applied.join(at);
    }

    /// Evicts blocks that have not been used for a round of the clock until the budget holds.
    pub fn evict(&mut self, budget: usize) {
        while self.bytes > budget {
            let after = (Bound::Excluded(&self.hand[..]), Bound::Unbounded);
            let next = match self.blocks.range::<[u8], _>(after).next() {
                Some(next) => next,
                None => match self.blocks.first_key_value() {
                    Some(first) => first,
                    None => return,
                },
            };
            let (start, block) = next;
            let spared = block.referenced.swap(false, std::sync::atomic::Ordering::Relaxed);
            self.hand = start.clone();
            if !spared {
                let start = self.hand.clone();
                self.remove(&start);
                self.evicted += 1;
            }
        }
    }

    /// About how many rows the range has, from what is cached of it; `None` if nothing is.
    pub fn estimate_rows(&self, start: &[u8], end: Option<&[u8]>) -> Option<u64> {
        const WALK_MAX: usize = 64;
        let first = self.block_at(start).map_or(start, |(from, _)| &from[..]);
        let upper = end.map_or(Bound::Unbounded, Bound::Excluded);
        if end.is_some_and(|end| end <= first) {
            return self.block_at(start).map(|_| 0);
        }
        let mut blocks = self.blocks.range::<[u8], _>((Bound::Included(first), upper));
        let mut rows = None;
        for (_, block) in blocks.by_ref().take(WALK_MAX) {
            let to = end.map_or(block.rows.len(), |end| block.lower_bound(end));
            let from = block.lower_bound(start);
            rows = Some(rows.unwrap_or(0) + to.saturating_sub(from) as u64);
        }
        // The walk is bounded: what is beyond it is taken to be as much again.
        rows.map(|rows| if blocks.next().is_some() { rows * 2 } else { rows })
    }

    fn block_at(&self, key: &[u8]) -> Option<(&Key, &Block)> {
        let upper = Bound::Included(key);
        let last = self.blocks.range::<[u8], _>((Bound::Unbounded, upper)).next_back();
        last.filter(|(_, block)| block.covers(key))
    }

    fn start_after(&self, key: &[u8]) -> Option<Key> {
        let after = (Bound::Excluded(key), Bound::Unbounded);
        self.blocks.range::<[u8], _>(after).next().map(|(start, _)| start.clone())
    }
}

impl Gap {
    /// True if the key is in the gap.
    pub fn contains(&self, key: &[u8]) -> bool {
        &self.start[..] <= key && self.end.as_ref().is_none_or(|end| key < &end[..])
    }
}

/// Checks an answer against its question, and clips it to the range whose changes were collected.
fn validate(fetch: &Fetch, answer: wire::Block, horizon: &Horizon) -> Result<(Key, Block), InstallError> {
    let Gap { start, end } = &fetch.gap;
    if !answer.at.covers(&fetch.at_least) {
        return Err(InstallError::Malformed("it is older than asked for"));
    }
    let reaches = |bound: &Option<Key>, other: &Option<Key>| match (bound, other) {
        (None, _) => true,
        (Some(bound), Some(other)) => bound >= other,
        (Some(_), None) => false,
    };
    let useful = match fetch.reverse {
        false => answer.start <= *start && answer.end.as_ref().is_none_or(|to| to > start),
        true => reaches(&answer.end, end) && end.as_ref().is_none_or(|end| answer.start < *end),
    };
    if !useful {
        return Err(InstallError::Malformed("it does not cover what was asked for"));
    }
    let sorted = answer.rows.is_sorted_by(|a, b| a.key < b.key);
    let within = answer.rows.first().is_none_or(|row| row.key >= answer.start)
        && answer.rows.last().is_none_or(|row| answer.end.as_ref().is_none_or(|end| row.key < *end));
    let chains = answer
        .rows
        .iter()
        .all(|row| !row.versions.is_empty() && row.versions.is_sorted_by(|a, b| a.ver.height > b.ver.height));
    if !(sorted && within && chains) {
        return Err(InstallError::Malformed("its rows are out of order"));
    }
    let start = Bytes::copy_from_slice(start.max(&answer.start));
    let end = if reaches(&answer.end, end) { end.clone() } else { answer.end };
    let rows = answer.rows.into_iter().filter(|row| row.key >= start);
    let rows = rows.filter(|row| end.as_ref().is_none_or(|end| row.key < *end));
    let rows: Vec<Row> = rows
        .map(|row| {
            let mut versions = row.versions.into();
            block::thin(&mut versions, horizon, |_| ());
            Row { key: row.key, versions }
        })
        .collect();
    Ok((start, Block::new(end.as_deref().map(Bytes::copy_from_slice), rows)))
}
