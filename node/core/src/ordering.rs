//! In which order decided transactions are applied.
//!
//! Each stream is applied in its own order, aborted transactions being holes; a transaction is applied only
//! after everything it depends on. So every prefix of the order is causally closed, whichever storage node
//! produced it, and a *vector* of positions describes exactly what a prefix contains.
//!
//! Invariant: a position at or below [`Ordering::ordered`] is settled: its outcome is known here and, if it
//! committed, it has been handed out by [`Ordering::drain`].
//!
//! A seat's next epoch begins only when the older ones are closed (`Activated`) and ordered to their end.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::ids::{Epoch, Outcome, Position, Seat, Seq, StreamId, TxnId, Vector};
use crate::txn::SharedTxn;
use crate::wire::{FeedItem, Settled};

/// What is known of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamState {
    /// Everything up to here is settled and handed out.
    pub settled: Seq,
    /// Which of those above `forgotten` were aborted.
    pub aborted: BTreeSet<Seq>,
    /// Up to here outcomes are no longer known one by one: settled, but answered as unknown.
    pub forgotten: Seq,
    /// The stream's last transaction, once a later epoch has closed it.
    pub last: Option<Seq>,
}

#[derive(Clone, Debug)]
enum Known {
    Abort,
    Commit(Option<SharedTxn>),
}

#[derive(Default)]
struct Stream {
    state: StreamState,
    ahead: BTreeMap<Seq, Known>,
}

/// Orders the decided transactions of all streams.
#[derive(Default)]
pub struct Ordering {
    ordered: Vector,
    committed: Vector,
    streams: BTreeMap<StreamId, Stream>,
    opened: HashMap<Seat, Epoch>,
}

/// How many aborted numbers of one stream are remembered; older ones are answered as "unknown".
pub const ABORTED_MAX: usize = 100_000;

impl Ordering {
    /// Nothing decided yet.
    pub fn new() -> Ordering {
        Ordering::default()
    }
    /// Continues from remembered streams and the epochs that were open.
    pub fn restore(
        streams: Vec<(StreamId, StreamState)>,
        opened: Vec<(Seat, Epoch)>,
        ordered: Vector,
    ) -> Ordering {
        let mut ordering = Ordering { committed: ordered.clone(), ordered, ..Ordering::default() };
        for (id, state) in streams {
            ordering.streams.insert(id, Stream { state, ahead: BTreeMap::new() });
        }
        ordering.opened = opened.into_iter().collect();
        ordering
    }
    /// Everything up to here is settled and was handed out.
    pub fn ordered(&self) -> &Vector {
        &self.ordered
    }
    /// The highest committed position known per seat, handed out or not.
    pub fn committed(&self) -> &Vector {
        &self.committed
    }
    /// The streams' states, for a checkpoint.
    pub fn streams(&self) -> impl Iterator<Item = (StreamId, &StreamState)> + '_ {
        self.streams.iter().map(|(id, stream)| (*id, &stream.state))
    }
    /// What is known but not yet handed out, for a checkpoint.
    pub fn ahead(&self) -> impl Iterator<Item = (TxnId, Outcome, Option<SharedTxn>)> + '_ {
        self.streams.iter().flat_map(|(id, stream)| {
            stream.ahead.iter().map(move |(seq, known)| {
                let txn = TxnId { seat: id.seat, epoch: id.epoch, seq: *seq };
                match known {
                    Known::Abort => (txn, Outcome::Abort, None),
                    Known::Commit(body) => (txn, Outcome::Commit, body.clone()),
                }
            })
        })
    }
    /// How many decisions are known but not yet handed out.
    pub fn ahead_len(&self) -> usize {
        self.streams.values().map(|stream| stream.ahead.len()).sum()
    }
    /// How far the stream is settled.
    pub fn settled(&self, stream: StreamId) -> Seq {
        self.streams.get(&stream).map_or(Seq(0), |stream| stream.state.settled)
    }
    /// The epoch of a seat that is open here; 0 if none ever was.
    pub fn opened(&self, seat: Seat) -> Epoch {
        self.opened.get(&seat).copied().unwrap_or_default()
    }
    /// The epochs that are open here, by seat.
    pub fn all_opened(&self) -> impl Iterator<Item = (Seat, Epoch)> + '_ {
        self.opened.iter().map(|(seat, epoch)| (*seat, *epoch))
    }
    /// Whether the outcome of a transaction is known and, if it committed, its record too (or it has been handed
    /// out already).
    pub fn complete(&self, txn: TxnId) -> bool {
        let ahead = self.streams.get(&txn.stream()).and_then(|stream| stream.ahead.get(&txn.seq));
        !matches!(ahead, Some(Known::Commit(None))) && self.outcome(txn).is_some()
    }
    /// The outcome of a transaction, where it is known.
    pub fn outcome(&self, txn: TxnId) -> Option<Settled> {
        let Some(stream) = self.streams.get(&txn.stream()) else {
            // A stream that nobody ever wrote to, of an epoch that is over.
            let over = self.opened.get(&txn.seat).is_some_and(|opened| *opened > txn.epoch);
            return over.then_some(Settled::Decided(Outcome::Abort));
        };
        if txn.seq <= stream.state.settled {
            return Some(match stream.state.aborted.contains(&txn.seq) {
                _ if txn.seq <= stream.state.forgotten => Settled::Unknown,
                true => Settled::Decided(Outcome::Abort),
                false => Settled::Decided(Outcome::Commit),
            });
        }
        match stream.ahead.get(&txn.seq) {
            Some(Known::Abort) => Some(Settled::Decided(Outcome::Abort)),
            Some(Known::Commit(_)) => Some(Settled::Decided(Outcome::Commit)),
            None if stream.state.last.is_some_and(|last| txn.seq > last) => {
                Some(Settled::Decided(Outcome::Abort))
            }
            None => None,
        }
    }
    /// Records a decision. A commit may come without its record first; the record may follow.
    pub fn settle(&mut self, txn: TxnId, outcome: Outcome, body: Option<SharedTxn>) {
        if outcome == Outcome::Commit {
            self.committed.advance(txn.seat, txn.position());
        }
        let stream = self.streams.entry(txn.stream()).or_default();
        if txn.seq <= stream.state.settled || stream.state.last.is_some_and(|last| txn.seq > last) {
            return;
        }
        match (stream.ahead.get_mut(&txn.seq), outcome) {
            (None, Outcome::Abort) => {
                stream.ahead.insert(txn.seq, Known::Abort);
            }
            (None, Outcome::Commit) => {
                stream.ahead.insert(txn.seq, Known::Commit(body));
            }
            (Some(Known::Commit(have)), Outcome::Commit) => {
                if have.is_none() {
                    *have = body;
                }
            }
            (Some(Known::Abort), Outcome::Abort) => {}
            (Some(_), _) => panic!("{txn} is both committed and aborted: a decision changed"),
        }
    }
    /// Opens an epoch of a seat: every older stream ends at the given number (0 if it is not named).
    pub fn open(&mut self, seat: Seat, epoch: Epoch, ends: &[(Epoch, Seq)]) {
        let opened = self.opened.entry(seat).or_default();
        if *opened >= epoch {
            return;
        }
        *opened = epoch;
        for (older, last) in ends {
            let id = StreamId { seat, epoch: *older };
            // A stream ends once: what a later closing says of it only repeats what was aborted.
            self.streams.entry(id).or_default().state.last.get_or_insert(*last);
        }
        let begin = StreamId { seat, epoch: Epoch(0) };
        let end = StreamId { seat, epoch };
        for (_, stream) in self.streams.range_mut(begin..end) {
            let last = *stream.state.last.get_or_insert(stream.state.settled);
            // Numbers above the end were never committed.
            stream.ahead.split_off(&Seq(last.0 + 1));
        }
        self.streams.entry(end).or_default();
    }
    /// Commits that are known but whose record is missing here, and gaps below known decisions: what has to
    /// be asked from peers. At most `limit` of them.
    pub fn missing(&self, limit: usize) -> Vec<TxnId> {
        let mut missing = Vec::new();
        for (id, stream) in &self.streams {
            let known_to = stream.ahead.last_key_value().map_or(stream.state.settled, |(seq, _)| *seq);
            let end = stream.state.last.map_or(known_to, |last| last.max(known_to));
            for seq in stream.state.settled.0 + 1..=end.0 {
                if missing.len() >= limit {
                    return missing;
                }
                match stream.ahead.get(&Seq(seq)) {
                    None | Some(Known::Commit(None)) => {
                        missing.push(TxnId { seat: id.seat, epoch: id.epoch, seq: Seq(seq) });
                    }
                    Some(Known::Abort | Known::Commit(Some(_))) => {}
                }
            }
        }
        missing
    }
    /// Hands out, in order, everything that can be applied now.
    pub fn drain(&mut self) -> Vec<FeedItem> {
        let mut items = Vec::new();
        let seats: Vec<Seat> = self.opened.keys().copied().collect();
        loop {
            let before = items.len();
            for seat in &seats {
                self.drain_seat(*seat, &mut items);
            }
            if items.len() == before {
                return items;
            }
        }
    }

    fn drain_seat(&mut self, seat: Seat, items: &mut Vec<FeedItem>) {
        let opened = self.opened.get(&seat).copied().unwrap_or_default();
        let from = self.ordered.get(seat);
        let mut at = from;
        let mut told = from;
        loop {
            let id = StreamId { seat, epoch: at.epoch };
            let Some(stream) = self.streams.get_mut(&id) else {
                // Epoch 0 and epochs that nobody wrote in: go on to the next one that exists.
                let Some(next) = self.next_epoch(id, opened) else { break };
                at = Position { epoch: next, seq: Seq(0) };
                self.ordered.advance(seat, at);
                continue;
            };
            let next = Seq(stream.state.settled.0 + 1);
            match stream.ahead.get(&next) {
                Some(Known::Abort) => {
                    stream.ahead.remove(&next);
                    stream.state.aborted.insert(next);
                    if stream.state.aborted.len() > ABORTED_MAX
                        && let Some(forgotten) = stream.state.aborted.pop_first()
                    {
                        stream.state.forgotten = forgotten;
                    }
                }
                Some(Known::Commit(Some(body))) if self.ordered.covers(&body.deps) => {
                    items.push(FeedItem::Commit(body.clone()));
                    stream.ahead.remove(&next);
                    told = Position { epoch: at.epoch, seq: next };
                }
                Some(Known::Commit(_)) => break,
                None => {
                    let ended = stream.state.last.is_some_and(|last| stream.state.settled >= last);
                    let Some(epoch) = self.next_epoch(id, opened).filter(|_| ended) else { break };
                    at = Position { epoch, seq: Seq(0) };
                    self.ordered.advance(seat, at);
                    continue;
                }
            }
            stream.state.settled = next;
            at.seq = next;
            self.ordered.advance(seat, at);
        }
        if at > told {
            items.push(FeedItem::Advance { seat, to: at });
        }
    }

    fn next_epoch(&self, after: StreamId, opened: Epoch) -> Option<Epoch> {
        let begin = StreamId { seat: after.seat, epoch: Epoch(after.epoch.0 + 1) };
        let end = StreamId { seat: after.seat, epoch: opened };
        (begin <= end).then(|| self.streams.range(begin..=end).next().map(|(id, _)| id.epoch))?
    }
}
