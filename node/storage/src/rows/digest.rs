//! What a range of rows was at one vector, as rows or as a digest: so that storage nodes compare what they
//! hold although each has applied another amount.

use bytes::Bytes;
use node_core::ids::{Height, Key, Vector};
use node_core::wire::{RowVersion, RowVersions};
use xxhash_rust::xxh3::Xxh3Default;

use super::{RowStore, RowsError, decode, encode, row_bytes};

/// A range of rows as it was at a vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RangeAt {
    /// First key not covered; `None`: to the end of the keys.
    pub(crate) end: Option<Key>,
    /// The vector.
    pub(crate) at: Vector,
    /// Every row that existed then, deleted ones included, with its version of then.
    pub(crate) rows: Vec<RowVersions>,
    /// About how many bytes they are.
    pub(crate) bytes: usize,
}

impl RangeAt {
    /// The rows' digest: equal rows have equal ones.
    pub(crate) fn digest(&self) -> Digest {
        let mut hasher = Xxh3Default::new();
        for row in &self.rows {
            hasher.update(&encode(row));
        }
        let digest = hasher.digest128();
        ((digest >> 64) as u64, digest as u64)
    }
}

/// Two halves of 128 bits.
pub(crate) type Digest = (u64, u64);

/// What can be said of a range at a vector.
#[derive(Debug)]
pub(crate) enum Compared {
    /// The rows.
    Rows(RangeAt),
    /// Not everything up to the vector is here yet.
    TooEarly,
    /// Versions of then have been removed.
    TooLate,
}

impl RowStore {
    /// The rows from `start` on, about `bytes_max` of them, as they are now.
    ///
    /// # Errors
    ///
    /// [`RowsError`] if they cannot be read.
    pub(crate) fn range_now(&self, start: &Key, bytes_max: usize) -> Result<RangeAt, RowsError> {
        let snapshot = self.db.snapshot();
        let at = self.applied_in(&snapshot)?;
        let mut found = RangeAt { end: None, at, rows: Vec::new(), bytes: 0 };
        use fjall::Readable;
        for guard in snapshot.range(&self.latest, &start[..]..) {
            let (key, value) = guard.into_inner().map_err(self.failed("read"))?;
            let key = Bytes::copy_from_slice(&key);
            if found.bytes >= bytes_max && !found.rows.is_empty() {
                found.end = Some(key);
                break;
            }
            let row = RowVersions { key, versions: vec![decode("row", &value)?] };
            found.bytes += row_bytes(&row);
            found.rows.push(row);
        }
        Ok(found)
    }
    /// The rows from `start` to `end` as they were at a vector; if they are more than `bytes_max`, no more
    /// than that of them.
    ///
    /// # Errors
    ///
    /// [`RowsError`] if they cannot be read.
    pub(crate) fn range_at(
        &self,
        start: &Key,
        end: Option<&Key>,
        at: &Vector,
        bytes_max: usize,
    ) -> Result<Compared, RowsError> {
        use fjall::Readable;
        let snapshot = self.db.snapshot();
        if !self.applied_in(&snapshot)?.covers(at) {
            return Ok(Compared::TooEarly);
        }
        let mut found = RangeAt { end: end.cloned(), at: at.clone(), rows: Vec::new(), bytes: 0 };
        let range = match end {
            Some(end) if end <= start => return Ok(Compared::Rows(found)),
            Some(end) => snapshot.range(&self.latest, &start[..]..&end[..]),
            None => snapshot.range(&self.latest, &start[..]..),
        };
        for guard in range {
            let (key, value) = guard.into_inner().map_err(self.failed("read"))?;
            let newest: RowVersion = decode("row", &value)?;
            let mut row = self.versions(&snapshot, Bytes::copy_from_slice(&key), newest, at)?;
            let seen = row.versions.iter().position(|version| at.sees(version.ver.txn));
            let Some(seen) = seen else {
                let oldest = row.versions.last().map_or(Height(0), |version| version.ver.height);
                if oldest > Height(1) {
                    return Ok(Compared::TooLate);
                }
                continue; // it did not exist then
            };
            row.versions = vec![row.versions.swap_remove(seen)];
            found.bytes += row_bytes(&row);
            found.rows.push(row);
            if found.bytes > bytes_max {
                break;
            }
        }
        Ok(Compared::Rows(found))
    }
}
