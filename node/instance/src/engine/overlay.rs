//! A transaction's own changes, and how to undo them.

use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;

use bytes::Bytes;
use node_core::ids::Key;
use node_sql::store::Mark;

/// What an entry costs beside its bytes, in the row map and in the undo log.
const ENTRY: usize = 160;

/// The newest of the transaction's own values by key; `None` is a deletion.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    rows: BTreeMap<Key, Option<Bytes>>,
    /// What each change replaced, in order: `None`, nothing of ours.
    undo: Vec<(Key, Option<Option<Bytes>>)>,
    bytes: usize,
}

impl Overlay {
    /// Changes a key.
    pub(super) fn set(&mut self, key: Key, value: Option<Bytes>) {
        self.bytes += cost(&key, &value);
        let before = self.rows.insert(key.clone(), value);
        self.undo.push((key, before));
    }
    /// What a change would add to [`Overlay::bytes`].
    pub(super) fn cost(key: &Key, value: &Option<Bytes>) -> usize {
        cost(key, value)
    }
    /// The own value of a key: `None` if the transaction has not changed it.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Option<Bytes>> {
        if self.rows.is_empty() { None } else { self.rows.get(key) }
    }
    /// Own values in a range.
    pub(super) fn range(&self, start: &[u8], end: Option<&[u8]>) -> btree_map::Range<'_, Key, Option<Bytes>> {
        let end = match end {
            // The map refuses ranges that end before they start.
            Some(end) if end <= start => Bound::Excluded(start),
            Some(end) => Bound::Excluded(end),
            None => Bound::Unbounded,
        };
        self.rows.range::<[u8], _>((Bound::Included(start), end))
    }
    /// How much memory the changes and their undo log take, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
    /// True without changes.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
    /// Where the undo log is now.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.undo.len())
    }
    /// Undoes what has been changed since.
    pub(super) fn undo_to(&mut self, mark: Mark) {
        while self.undo.len() > mark.0 {
            let Some((key, before)) = self.undo.pop() else { return };
            let after = match before {
                Some(value) => self.rows.insert(key.clone(), value),
                None => self.rows.remove(&key),
            };
            self.bytes -= after.map_or(0, |value| cost(&key, &value));
        }
    }
    /// Takes all changes, in key order.
    pub(super) fn take(&mut self) -> BTreeMap<Key, Option<Bytes>> {
        self.undo.clear();
        self.bytes = 0;
        std::mem::take(&mut self.rows)
    }
}

fn cost(key: &Key, value: &Option<Bytes>) -> usize {
    key.len() + value.as_ref().map_or(0, Bytes::len) + ENTRY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undoing_to_a_mark_restores_what_was_there_and_what_it_cost() {
        let mut overlay = Overlay::default();
        let (a, b) = (Key::from_static(b"a"), Key::from_static(b"b"));
        overlay.set(a.clone(), Some(Bytes::from_static(b"1")));
        let (mark, bytes) = (overlay.mark(), overlay.bytes());
        overlay.set(a.clone(), Some(Bytes::from_static(b"22")));
        overlay.set(b.clone(), None);
        overlay.set(a.clone(), None);
        assert_eq!(overlay.get(b"b"), Some(&None));
        overlay.undo_to(mark);
        assert_eq!(overlay.get(b"a"), Some(&Some(Bytes::from_static(b"1"))));
        assert_eq!(overlay.get(b"b"), None);
        assert_eq!(overlay.bytes(), bytes);
        overlay.undo_to(Mark(0));
        assert!(overlay.is_empty() && overlay.bytes() == 0);
        assert_eq!(overlay.range(b"b", Some(b"a")).count(), 0);
    }
}
