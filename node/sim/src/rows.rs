//! A storage node's rows: what `node/storage/src/rows.rs` keeps in an LSM store, as maps.
//!
//! A change is atomic and carries the applied vector. What a crash of the process leaves is everything; what a
//! loss of power leaves is what was made durable and any prefix of what came after it.

use std::collections::BTreeMap;

use node_core::ids::{Key, Position, Seat, TxnId, Vector, Ver};
use node_core::txn::SharedTxn;
use node_core::wire::{Block, FeedItem, ReadBlock, RowVersion, RowVersions};

use crate::Random;

#[derive(Clone, Default)]
struct State {
    latest: BTreeMap<Key, RowVersion>,
    /// Superseded versions, newest first, and by whom.
    history: BTreeMap<Key, Vec<(TxnId, RowVersion)>>,
    txns: BTreeMap<TxnId, SharedTxn>,
    applied: Vector,
    retained_from: BTreeMap<Seat, Position>,
    /// Snapshots from here on find every version they may see.
    complete_from: Vector,
}

/// A piece of the decided history.
pub(crate) enum Backlog {
    /// In order; then the reader is at the vector.
    Piece(Vec<FeedItem>, Vector),
    /// Records from there on are gone.
    Gone,
}

/// The rows of one storage node.
pub(crate) struct RowStore {
    state: State,
    durable: State,
    /// Changes since the durable state.
    since: Vec<(Vec<FeedItem>, Vector)>,
    retained_max: usize,
}

impl State {
    fn apply(&mut self, items: &[FeedItem], low: &Vector, retained_max: usize) {
        for item in items {
            match item {
                FeedItem::Commit(txn) if self.applied.sees(txn.id) => {}
                FeedItem::Commit(txn) => {
                    self.apply_txn(txn, low);
                    self.applied.advance(txn.id.seat, txn.id.position());
                }
                FeedItem::Advance { seat, to } => {
                    self.applied.advance(*seat, *to);
                }
            }
        }
        for versions in self.history.values_mut() {
            versions.retain(|(by, _)| !low.sees(*by));
        }
        self.history.retain(|_, versions| !versions.is_empty());
        self.complete_from.join(low);
        while self.txns.len() > retained_max {
            let Some((txn, _)) = self.txns.pop_first() else { break };
            let from = self.retained_from.entry(txn.seat).or_default();
            *from = (*from).max(txn.position());
        }
    }
    fn apply_txn(&mut self, txn: &SharedTxn, low: &Vector) {
        for write in &txn.writes {
            let ver = write.version(txn.id);
            if let Some(current) = self.latest.get(&write.key) {
                if current.ver.height >= ver.height {
                    continue;
                }
                if !low.sees(txn.id) {
                    let older = self.history.entry(write.key.clone()).or_default();
                    older.insert(0, (txn.id, current.clone()));
                }
            }
            self.latest.insert(write.key.clone(), RowVersion { ver, value: write.value.clone() });
        }
        self.txns.insert(txn.id, txn.clone());
    }
}

impl RowStore {
    /// Empty rows that keep about so many records for those who are behind.
    pub(crate) fn new(retained_max: usize) -> RowStore {
        RowStore { state: State::default(), durable: State::default(), since: Vec::new(), retained_max }
    }
    pub(crate) fn apply(&mut self, items: Vec<FeedItem>, low: &Vector) {
        self.state.apply(&items, low, self.retained_max);
        self.since.push((items, low.clone()));
    }
    pub(crate) fn applied(&self) -> &Vector {
        &self.state.applied
    }
    pub(crate) fn latest(&self, key: &Key) -> Option<Ver> {
        self.state.latest.get(key).map(|version| version.ver)
    }
    pub(crate) fn txn(&self, txn: TxnId) -> Option<SharedTxn> {
        self.state.txns.get(&txn).cloned()
    }
    /// The newest version of every key.
    pub(crate) fn all(&self) -> &BTreeMap<Key, RowVersion> {
        &self.state.latest
    }
    pub(crate) fn persist(&mut self) {
        if !self.since.is_empty() {
            self.durable = self.state.clone();
            self.since.clear();
        }
    }
    /// Power was lost.
    pub(crate) fn lose_power(&mut self, random: &mut Random) {
        let kept = random.below(self.since.len() as u64 + 1) as usize;
        self.since.truncate(kept);
        self.state = self.durable.clone();
        for (items, low) in &self.since {
            self.state.apply(items, low, self.retained_max);
        }
    }
    /// Forgets everything: what follows is a copy of another node's rows, as of `base` and later.
    pub(crate) fn begin_copy(&mut self, base: &Vector) {
        let retained_from = base.iter().collect();
        self.state = State { applied: base.clone(), retained_from, ..State::default() };
        self.since.clear();
    }
    /// Takes the newest version of each copied row, unless a newer one is here.
    pub(crate) fn copy(&mut self, rows: &[RowVersions]) {
        for row in rows {
            let newest = &row.versions[0];
            let older = |have: &RowVersion| have.ver.height < newest.ver.height;
            if self.state.latest.get(&row.key).is_none_or(older) {
                self.state.latest.insert(row.key.clone(), newest.clone());
            }
        }
    }
    /// Everything is copied up to the vector; makes it durable.
    pub(crate) fn end_copy(&mut self, reach: &Vector) {
        self.state.complete_from.join(reach);
        self.durable = self.state.clone();
        self.since.clear();
    }
    pub(crate) fn wipe(&mut self) {
        *self = RowStore::new(self.retained_max);
    }

    pub(crate) fn complete_from(&self) -> &Vector {
        &self.state.complete_from
    }
    pub(crate) fn read_block(&self, request: &ReadBlock) -> Block {
        let mut block = Block {
            id: request.id,
            start: request.start.clone(),
            end: request.end.clone(),
            rows: Vec::new(),
            at: self.state.applied.clone(),
        };
        if request.end.as_ref().is_some_and(|end| *end <= request.start) {
            return block;
        }
        let inside = |key: &Key| request.end.as_ref().is_none_or(|end| key < end);
        let mut range: Vec<(&Key, &RowVersion)> =
            self.state.latest.range(request.start.clone()..).take_while(|(key, _)| inside(key)).collect();
        if request.reverse {
            range.reverse();
        }
        let mut bytes = 0;
        for (key, newest) in range {
            if bytes > 0 && bytes >= request.bytes_max as usize {
                match request.reverse {
                    true => block.start = block.rows.last().map_or(key.clone(), |row| row.key.clone()),
                    false => block.end = Some(key.clone()),
                }
                break;
            }
            let versions = match request.newest {
                true => vec![newest.clone()],
                false => self.versions(key, newest, &request.from),
            };
            let row = RowVersions { key: key.clone(), versions };
            bytes += key.len() + 16 * row.versions.len();
            bytes += row
                .versions
                .iter()
                .filter_map(|version| version.value.as_ref())
                .map(|v| v.len())
                .sum::<usize>();
            block.rows.push(row);
        }
        if request.reverse {
            block.rows.reverse();
        }
        block
    }

    fn versions(&self, key: &Key, newest: &RowVersion, from: &Vector) -> Vec<RowVersion> {
        let mut versions = vec![newest.clone()];
        if from.sees(newest.ver.txn) {
            return versions;
        }
        for (_, older) in self.state.history.get(key).into_iter().flatten() {
            versions.push(older.clone());
            if from.sees(older.ver.txn) {
                break;
            }
        }
        versions
    }

    /// The decided history from a vector on, some of it.
    pub(crate) fn backlog(&self, from: &Vector, items_max: usize) -> Backlog {
        if self.state.retained_from.iter().any(|(seat, kept)| from.get(*seat) < *kept) {
            return Backlog::Gone;
        }
        let mut at = from.clone();
        let mut items = Vec::new();
        loop {
            let before = items.len();
            for (seat, to) in self.state.applied.iter() {
                while items.len() < items_max {
                    let Some(next) = self.next_of(seat, at.get(seat), to) else {
                        at.advance(seat, to);
                        break;
                    };
                    let mut hole = next.id.position();
                    hole.seq.0 -= 1;
                    at.advance(seat, hole);
                    if !at.covers(&next.deps) {
                        break;
                    }
                    at.advance(seat, next.id.position());
                    items.push(FeedItem::Commit(next));
                }
            }
            if items.len() == before {
                break;
            }
        }
        for (seat, _) in self.state.applied.iter().filter(|(seat, _)| from.get(*seat) < at.get(*seat)) {
            items.push(FeedItem::Advance { seat, to: at.get(seat) });
        }
        Backlog::Piece(items, at)
    }

    fn next_of(&self, seat: Seat, after: Position, to: Position) -> Option<SharedTxn> {
        let id = |position: Position| TxnId { seat, epoch: position.epoch, seq: position.seq };
        let range = (std::ops::Bound::Excluded(id(after)), std::ops::Bound::Included(id(to)));
        (after < to).then(|| self.state.txns.range(range).next().map(|(_, txn)| txn.clone()))?
    }
}
