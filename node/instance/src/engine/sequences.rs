//! AUTO_INCREMENT values.

use std::collections::HashMap;
use std::sync::Arc;

use node_sql::store::StoreError;
use parking_lot::Mutex;

/// One table's values.
#[derive(Debug, Default)]
struct Sequence {
    /// The largest value given out or seen.
    last: u64,
    /// Whether the rows have been asked for their largest value.
    loaded: bool,
}

/// The AUTO_INCREMENT values of all tables.
#[derive(Debug)]
pub(super) struct Sequences {
    increment: u64,
    offset: u64,
    tables: Mutex<HashMap<u32, Arc<Mutex<Sequence>>>>,
}

impl Sequences {
    /// Values `offset`, `offset + increment` and so on.
    pub(super) fn new(increment: u64, offset: u64) -> Sequences {
        Sequences { increment, offset, tables: Mutex::default() }
    }

    /// Increment and offset.
    pub(super) fn step(&self) -> (u64, u64) {
        (self.increment, self.offset)
    }

    /// Reserves values; the first one comes back. Only callers of the same table wait for `last_used`.
    pub(super) fn reserve(
        &self,
        table: u32,
        count: u64,
        last_used: &mut dyn FnMut() -> Result<u64, StoreError>,
    ) -> Result<u64, StoreError> {
        let table = self.table(table);
        let mut sequence = table.lock();
        if !sequence.loaded {
            sequence.last = sequence.last.max(last_used()?);
            sequence.loaded = true;
        }
        let first = self.next_after(sequence.last);
        sequence.last = first.saturating_add(count.saturating_sub(1).saturating_mul(self.increment));
        Ok(first)
    }

    /// Later values are above this one.
    pub(super) fn at_least(&self, table: u32, value: u64) {
        let table = self.table(table);
        let mut sequence = table.lock();
        sequence.last = sequence.last.max(value);
    }

    /// Forgets all tables: another instance may have given out values meanwhile.
    pub(super) fn clear(&self) {
        self.tables.lock().clear();
    }

    fn table(&self, table: u32) -> Arc<Mutex<Sequence>> {
        self.tables.lock().entry(table).or_default().clone()
    }

    /// The smallest value of ours above `last`; the largest number there is once they run out, which no
    /// column takes twice.
    fn next_after(&self, last: u64) -> u64 {
        if last < self.offset {
            return self.offset;
        }
        let steps = (last - self.offset) / self.increment + 1;
        steps.checked_mul(self.increment).and_then(|by| by.checked_add(self.offset)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_follow_the_largest_one_in_use() {
        let sequences = Sequences::new(1, 1);
        let mut asked = 0;
        let mut last_used = || {
            asked += 1;
            Ok(41)
        };
        assert_eq!(sequences.reserve(7, 3, &mut last_used), Ok(42));
        assert_eq!(sequences.reserve(7, 1, &mut last_used), Ok(45));
        sequences.at_least(7, 100);
        sequences.at_least(7, 50);
        assert_eq!(sequences.reserve(7, 1, &mut last_used), Ok(101));
        assert_eq!(asked, 1);
        sequences.clear();
        assert_eq!(sequences.reserve(7, 1, &mut || Ok(7)), Ok(8));
    }

    #[test]
    fn a_failed_question_is_asked_again() {
        let sequences = Sequences::new(1, 1);
        assert_eq!(sequences.reserve(1, 1, &mut || Err(StoreError::Killed)), Err(StoreError::Killed));
        assert_eq!(sequences.reserve(1, 1, &mut || Ok(0)), Ok(1));
    }

    #[test]
    fn seats_of_multi_master_never_meet() {
        let (a, b) = (Sequences::new(16, 1), Sequences::new(16, 2));
        assert_eq!(a.reserve(1, 2, &mut || Ok(0)), Ok(1));
        assert_eq!(a.reserve(1, 1, &mut || Ok(0)), Ok(33));
        assert_eq!(b.reserve(1, 1, &mut || Ok(33)), Ok(34));
        b.at_least(1, 1000);
        assert_eq!(b.reserve(1, 1, &mut || Ok(0)), Ok(1010));
        b.at_least(1, u64::MAX - 3);
        assert_eq!(b.reserve(1, 1, &mut || Ok(0)), Ok(u64::MAX));
    }
}
