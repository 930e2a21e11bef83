//! One block: the rows of a contiguous key range in memory, and what they cost.
//!
//! Keys and values that were there when the block was built lie in one buffer that all of them share, so
//! that a row costs no allocation of its own and a block never keeps a network frame alive. What comes later
//! has its own allocation until the buffer is mostly dead; then the block is rebuilt.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::{Horizon, View};
use crate::ids::Key;
use crate::wire::RowVersion;

/// A block is split above this many rows.
pub(super) const MAX_ROWS: usize = 256;
/// A block of more than one row is split above this many bytes.
pub(super) const MAX_BYTES: usize = 64 * 1024;
/// Neighbours merge if together they have at most half a block's rows and bytes.
const MERGE_ROWS: usize = MAX_ROWS / 2;
const MERGE_BYTES: usize = MAX_BYTES / 2;
/// What an allocation of its own costs beside its bytes: the allocator's header and rounding, and the
/// reference count.
const ALLOCATION: usize = 48;
/// A block beside its rows: the struct, its place in the tree and its first and last key.
const FIXED: usize = std::mem::size_of::<Block>() + 160;
/// Below this much dead buffer a rebuild is not worth it.
const DEAD_MIN: usize = 8 * 1024;

/// A row with its versions, newest first; never without one.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) key: Key,
    pub(super) versions: SmallVec<[RowVersion; 1]>,
}

impl Row {
    /// What the view sees of the row.
    pub(super) fn pick(&self, view: View<'_>) -> Option<&RowVersion> {
        match view {
            View::Newest => self.versions.first(),
            View::Snapshot(snapshot) => self.versions.iter().find(|version| snapshot.sees(version.ver.txn)),
        }
    }
    fn spilled(&self) -> usize {
        match self.versions.spilled() {
            true => self.versions.capacity() * std::mem::size_of::<RowVersion>() + 16,
            false => 0,
        }
    }
}

/// What happened to a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// It is in the block, now or before.
    Yes,
    /// The block lacks a version in between: it cannot be trusted.
    Hole,
}

/// Rows of a contiguous range. Its first key is its key in the cache's tree.
#[derive(Debug)]
pub(super) struct Block {
    /// First key not covered; `None`: to the end of the keys.
    pub(super) end: Option<Key>,
    pub(super) rows: Vec<Row>,
    /// The clock's mark: used since the hand last came by.
    pub(super) referenced: AtomicBool,
    buffer: Bytes,
    dead: usize,
    /// Allocations outside the buffer and the row vector.
    extra: usize,
}

impl Block {
    /// A block of these rows, copied into a buffer of its own.
    pub(super) fn new(end: Option<Key>, mut rows: Vec<Row>) -> Block {
        let total: usize = rows.iter().map(row_bytes).sum();
        let mut buffer = BytesMut::with_capacity(total);
        for row in &rows {
            buffer.extend_from_slice(&row.key);
            for value in row.versions.iter().filter_map(|version| version.value.as_ref()) {
                buffer.extend_from_slice(value);
            }
        }
        let buffer = buffer.freeze();
        let mut at = 0;
        let mut place = |bytes: &mut Bytes| {
            let next = at + bytes.len();
            *bytes = buffer.slice(at..next);
            at = next;
        };
        for row in &mut rows {
            place(&mut row.key);
            row.versions.iter_mut().filter_map(|version| version.value.as_mut()).for_each(&mut place);
        }
        rows.shrink_to_fit();
        let extra = rows.iter().map(Row::spilled).sum();
        Block { end, rows, referenced: AtomicBool::new(true), buffer, dead: 0, extra }
    }

    /// About how much memory the block keeps.
    pub(super) fn bytes(&self) -> usize {
        FIXED + self.rows.capacity() * std::mem::size_of::<Row>() + self.buffer.len() + self.extra
    }

    /// Notes a use, without writing to memory that other cores read unless that says something new.
    pub(super) fn touch(&self) {
        if !self.referenced.load(Ordering::Relaxed) {
            self.referenced.store(true, Ordering::Relaxed);
        }
    }

    /// True if the block covers keys from `bound` downwards (exclusive), or to the end for `None`.
    pub(super) fn covers_below(&self, bound: Option<&[u8]>) -> bool {
        match (&self.end, bound) {
            (None, _) => true,
            (Some(end), Some(bound)) => &end[..] >= bound,
            (Some(_), None) => false,
        }
    }

    /// True if the key, which is not below the block's start, is in the block's range.
    pub(super) fn covers(&self, key: &[u8]) -> bool {
        self.end.as_ref().is_none_or(|end| key < &end[..])
    }

    /// Index of the first row not below the key.
    pub(super) fn lower_bound(&self, key: &[u8]) -> usize {
        self.rows.partition_point(|row| &row.key[..] < key)
    }

    /// The row, if there is one.
    pub(super) fn row(&self, key: &[u8]) -> Option<&Row> {
        let index = self.rows.binary_search_by(|row| row.key[..].cmp(key)).ok()?;
        Some(&self.rows[index])
    }

    /// Puts a committed change in.
    pub(super) fn apply(&mut self, key: &Key, version: &RowVersion, horizon: &Horizon) -> Applied {
        let height = version.ver.height;
        let index = self.lower_bound(key);
        match self.rows.get(index).filter(|row| row.key == *key) {
            Some(row) if row.versions[0].ver.height >= height => return Applied::Yes,
            Some(row) if row.versions[0].ver.height.0 + 1 != height.0 => return Applied::Hole,
            Some(_) => self.push(index, version, horizon),
            // Whatever came before, if anything, was a tombstone that storage no longer keeps.
            None => {
                let key = Bytes::copy_from_slice(key);
                let version = owned(version);
                self.extra += outside(&self.buffer, &key) + value_outside(&self.buffer, &version);
                let mut versions = SmallVec::new();
                versions.push(version);
                self.rows.insert(index, Row { key, versions });
            }
        }
        if self.dead > DEAD_MIN && self.dead * 2 > self.buffer.len() {
            self.rebuild();
        }
        Applied::Yes
    }

    fn push(&mut self, index: usize, version: &RowVersion, horizon: &Horizon) {
        let version = owned(version);
        self.extra += value_outside(&self.buffer, &version);
        let Block { rows, buffer, dead, extra, .. } = self;
        let row = &mut rows[index];
        *extra -= row.spilled();
        row.versions.insert(0, version);
        thin(&mut row.versions, horizon, |gone| {
            let Some(value) = &gone.value else { return };
            match outside(buffer, value) {
                0 => *dead += value.len(),
                size => *extra -= size,
            }
        });
        *extra += row.spilled();
    }

    fn rebuild(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        *self = Block::new(self.end.take(), rows);
    }

    /// Cuts the block where it is too large; the second half comes back with its first key. A block that
    /// grew at its end (`at_end`) keeps most of its rows, so that ascending inserts fill blocks.
    pub(super) fn split(&mut self, at_end: bool) -> Option<(Key, Block)> {
        let count = self.rows.len();
        if count < 2 || (count <= MAX_ROWS && self.bytes() <= MAX_BYTES) {
            return None;
        }
        let cut = if at_end { (count * 9 / 10).clamp(1, count - 1) } else { count / 2 };
        let upper = self.rows.split_off(cut);
        let border = Bytes::copy_from_slice(&upper[0].key);
        let upper = Block::new(self.end.take(), upper);
        let lower = std::mem::take(&mut self.rows);
        *self = Block::new(Some(border.clone()), lower);
        Some((border, upper))
    }

    /// True if the next block is so small that both may be one.
    pub(super) fn may_merge(&self, next: &Block) -> bool {
        self.rows.len() + next.rows.len() <= MERGE_ROWS && self.bytes() + next.bytes() <= MERGE_BYTES
    }

    /// Takes over the next block.
    pub(super) fn merge(&mut self, next: Block) {
        let mut rows = std::mem::take(&mut self.rows);
        rows.extend(next.rows);
        *self = Block::new(next.end, rows);
    }

    /// What `bytes` should say, counted anew.
    #[cfg(test)]
    pub(super) fn recount(&self) -> usize {
        let of_row = |row: &Row| {
            let values: usize = row.versions.iter().map(|v| value_outside(&self.buffer, v)).sum();
            outside(&self.buffer, &row.key) + values + row.spilled()
        };
        let extra: usize = self.rows.iter().map(of_row).sum();
        FIXED + self.rows.capacity() * std::mem::size_of::<Row>() + self.buffer.len() + extra
    }
}

/// Cuts rows into pieces of at most a block's size and says where each ends.
pub(super) fn pieces(rows: &[Row]) -> Vec<Range<usize>> {
    let mut cuts = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, row) in rows.iter().enumerate() {
        let size = row_bytes(row) + std::mem::size_of::<Row>() + row.spilled();
        if index > start && (index - start >= MAX_ROWS * 3 / 4 || bytes + size > MAX_BYTES * 3 / 4) {
            cuts.push(start..index);
            (start, bytes) = (index, 0);
        }
        bytes += size;
    }
    cuts.push(start..rows.len());
    cuts
}

/// Removes the versions that neither an open snapshot nor a later one can see; tells of each.
pub(super) fn thin(
    versions: &mut SmallVec<[RowVersion; 1]>,
    horizon: &Horizon,
    mut gone: impl FnMut(&RowVersion),
) {
    if versions.len() < 2 {
        return;
    }
    // A version is needed if it is the newest, if it is the first that a snapshot sees, or if even the
    // newest snapshot does not see it yet. Snapshots of one instance are ordered, so one pass does.
    let mut snapshots = horizon.newest_first().peekable();
    let mut first = true;
    versions.retain(|version| {
        let future = horizon.newest().is_none_or(|newest| !newest.sees(version.ver.txn));
        let mut needed = std::mem::take(&mut first) || future;
        while snapshots.next_if(|snapshot| snapshot.sees(version.ver.txn)).is_some() {
            needed = true;
        }
        if !needed {
            gone(version);
        }
        needed
    });
    if versions.len() == 1 && versions.spilled() {
        versions.shrink_to_fit();
    }
}

fn row_bytes(row: &Row) -> usize {
    let values = row.versions.iter().filter_map(|version| version.value.as_ref());
    row.key.len() + values.map(Bytes::len).sum::<usize>()
}

fn owned(version: &RowVersion) -> RowVersion {
    RowVersion { ver: version.ver, value: version.value.as_ref().map(|value| Bytes::copy_from_slice(value)) }
}

/// What the bytes cost beside the buffer.
fn outside(buffer: &Bytes, bytes: &Bytes) -> usize {
    let inside = buffer.as_ptr_range().contains(&bytes.as_ptr());
    if inside || bytes.is_empty() { 0 } else { bytes.len() + ALLOCATION }
}

fn value_outside(buffer: &Bytes, version: &RowVersion) -> usize {
    version.value.as_ref().map_or(0, |value| outside(buffer, value))
}
