//! The recent part of the decided history, in memory, for subscribers that keep up.
//!
//! Every subscriber reads the same chunks at its own pace; a chunk is encoded once, by whoever first needs
//! its bytes. Chunks leave when they are many and the rows include them, so that what is gone from here is
//! found there.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use node_core::ids::Vector;
use node_core::txn::Txn;
use node_core::wire::{FeedItem, Reply, Wire};
use parking_lot::Mutex;
use tokio::sync::watch;

/// Recent history kept in memory, about.
const FEED_BYTES: usize = 4 << 20;
const ITEM_BYTES: usize = 64;

/// A piece of the decided history.
pub(crate) struct Chunk {
    pub(crate) items: Vec<FeedItem>,
    /// Everything up to here is applied after this chunk.
    pub(crate) after: Vector,
    low: Vector,
    bytes: usize,
    encoded: OnceLock<Bytes>,
}

impl Chunk {
    /// The chunk as a message.
    pub(crate) fn encoded(&self) -> &Bytes {
        self.encoded.get_or_init(|| encode(&self.items, &self.low))
    }
    /// The chunk without what a subscriber at `at` has; `None` if that is nothing.
    pub(crate) fn for_subscriber(&self, at: &Vector) -> Bytes {
        let has = |item: &FeedItem| match item {
            FeedItem::Commit(txn) => at.sees(txn.id),
            FeedItem::Advance { seat, to } => at.get(*seat) >= *to,
        };
        if !self.items.iter().any(has) {
            return self.encoded().clone();
        }
        let rest: Vec<FeedItem> = self.items.iter().filter(|item| !has(item)).cloned().collect();
        encode(&rest, &self.low)
    }
}

/// A feed message.
pub(crate) fn encode(items: &[FeedItem], low: &Vector) -> Bytes {
    let mut out = BytesMut::new();
    Reply::Feed { items: items.to_vec(), low: low.clone() }.put(&mut out);
    out.freeze()
}

struct Ring {
    chunks: VecDeque<Arc<Chunk>>,
    /// Number of the first chunk.
    first: u64,
    bytes: usize,
    begin: Vector,
    end: Vector,
    low: Vector,
}

/// The recent decided history.
pub(crate) struct Feed {
    ring: Mutex<Ring>,
    next: watch::Sender<u64>,
}

/// Where a subscriber stands.
pub(crate) enum Position {
    /// The chunks from this number on bring everything it lacks.
    Chunk(u64),
    /// It lacks what is no longer in memory.
    Behind,
    /// It has nothing at all.
    New {
        /// The history's present end.
        end: Vector,
        /// The chunk that follows it.
        next: u64,
    },
}

impl Feed {
    /// Begins where the rows end.
    pub(crate) fn new(begin: Vector) -> Feed {
        let ring = Ring {
            chunks: VecDeque::new(),
            first: 0,
            bytes: 0,
            end: begin.clone(),
            begin,
            low: Vector::new(),
        };
        Feed { ring: Mutex::new(ring), next: watch::Sender::new(0) }
    }
    /// Begins anew at another vector (before anybody subscribes).
    pub(crate) fn reset(&self, begin: Vector) {
        let mut ring = self.ring.lock();
        ring.chunks.clear();
        ring.bytes = 0;
        ring.end = begin.clone();
        ring.begin = begin;
    }
    /// Adds what was decided. `applied`: what the rows include.
    pub(crate) fn push(&self, items: Vec<FeedItem>, applied: &Vector) {
        let next = {
            let mut ring = self.ring.lock();
            for item in &items {
                match item {
                    FeedItem::Commit(txn) => ring.end.advance(txn.id.seat, txn.id.position()),
                    FeedItem::Advance { seat, to } => ring.end.advance(*seat, *to),
                };
            }
            ring.append(items);
            ring.shrink(applied);
            ring.first + ring.chunks.len() as u64
        };
        self.next.send_replace(next);
    }
    /// Tells subscribers the oldest snapshot anybody reads, if that moved.
    pub(crate) fn set_low(&self, low: &Vector) {
        let next = {
            let mut ring = self.ring.lock();
            if ring.low == *low {
                return;
            }
            ring.low = low.clone();
            ring.append(Vec::new());
            ring.first + ring.chunks.len() as u64
        };
        self.next.send_replace(next);
    }
    /// Where a subscriber that has everything up to `at` goes on.
    pub(crate) fn position(&self, at: &Vector) -> Position {
        let ring = self.ring.lock();
        if at.is_empty() && !ring.end.is_empty() {
            let next = ring.first + ring.chunks.len() as u64;
            return Position::New { end: ring.end.clone(), next };
        }
        if at.covers(&ring.begin) { Position::Chunk(ring.first) } else { Position::Behind }
    }
    /// The chunks from `number` on; `None` if that one is gone.
    pub(crate) fn since(&self, number: u64) -> Option<Vec<Arc<Chunk>>> {
        let ring = self.ring.lock();
        let skip = usize::try_from(number.checked_sub(ring.first)?).ok()?;
        Some(ring.chunks.iter().skip(skip).cloned().collect())
    }
    /// Changes when there are new chunks; its value is the number of the next one.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.next.subscribe()
    }
    /// The end of the decided history here.
    pub(crate) fn end(&self) -> Vector {
        self.ring.lock().end.clone()
    }
}

impl Ring {
    fn append(&mut self, items: Vec<FeedItem>) {
        let bytes = ITEM_BYTES + items.iter().map(item_bytes).sum::<usize>();
        let (after, low) = (self.end.clone(), self.low.clone());
        self.chunks.push_back(Arc::new(Chunk { items, after, low, bytes, encoded: OnceLock::new() }));
        self.bytes += bytes;
    }
    fn shrink(&mut self, applied: &Vector) {
        while self.bytes > FEED_BYTES
            && let Some(chunk) = self.chunks.pop_front_if(|chunk| applied.covers(&chunk.after))
        {
            self.bytes -= chunk.bytes;
            self.begin = chunk.after.clone();
            self.first += 1;
        }
    }
}

/// About how much memory the item takes.
pub(crate) fn item_bytes(item: &FeedItem) -> usize {
    match item {
        FeedItem::Advance { .. } => ITEM_BYTES,
        FeedItem::Commit(txn) => txn_bytes(txn),
    }
}

/// About how much memory the record takes.
pub(crate) fn txn_bytes(txn: &Txn) -> usize {
    let writes = txn.writes.iter();
    let writes = writes.map(|write| write.key.len() + write.value.as_ref().map_or(0, Bytes::len));
    let checks = txn.checks.iter().map(|check| check.key.len());
    writes.chain(checks).map(|bytes| bytes + ITEM_BYTES).sum::<usize>() + ITEM_BYTES
}

#[cfg(test)]
mod tests {
    use node_core::ids::{Epoch, Seat, Seq, TxnId};
    use node_core::txn::Write;

    use super::*;

    fn commit(seq: u64, bytes: usize) -> FeedItem {
        let id = TxnId { seat: Seat(0), epoch: Epoch(1), seq: Seq(seq) };
        let write = Write { key: Bytes::from_static(b"k"), base: None, value: Some(vec![0; bytes].into()) };
        FeedItem::Commit(Arc::new(Txn { id, deps: Vector::new(), writes: vec![write], checks: vec![] }))
    }

    fn at(seq: u64) -> Vector {
        let mut vector = Vector::new();
        vector.advance(Seat(0), node_core::ids::Position { epoch: Epoch(1), seq: Seq(seq) });
        vector
    }

    #[test]
    fn a_subscriber_gets_exactly_what_it_lacks() {
        let feed = Feed::new(at(1));
        feed.push(vec![commit(2, 1), commit(3, 1)], &at(1));
        feed.push(vec![commit(4, 1)], &at(1));
        let Position::Chunk(number) = feed.position(&at(2)) else { panic!("it is in memory") };
        let chunks = feed.since(number).expect("still there");
        let low = Vector::new();
        assert_eq!(chunks[0].for_subscriber(&at(2)), encode(&[commit(3, 1)], &low));
        assert_eq!(chunks[1].for_subscriber(&at(3)), encode(&[commit(4, 1)], &low));
        assert!(matches!(feed.position(&Vector::new()), Position::New { next: 2, .. }));
    }

    #[test]
    fn only_what_the_rows_include_leaves_memory() {
        let feed = Feed::new(Vector::new());
        for seq in 1..=8 {
            feed.push(vec![commit(seq, 1 << 20)], &at(2));
        }
        assert!(matches!(feed.position(&at(1)), Position::Behind));
        assert!(matches!(feed.position(&at(2)), Position::Chunk(2)));
        assert!(feed.since(0).is_none());
        assert_eq!(feed.since(2).expect("still there").len(), 6);
        assert_eq!(feed.end(), at(8));
    }

    #[test]
    fn a_new_low_water_mark_reaches_subscribers_without_any_item() {
        let feed = Feed::new(at(1));
        let watch = feed.watch();
        feed.set_low(&at(1));
        feed.set_low(&at(1));
        assert_eq!(*watch.borrow(), 1);
        assert_eq!(feed.since(0).expect("there")[0].encoded(), &encode(&[], &at(1)));
    }
}
