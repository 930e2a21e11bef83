//! Block reads in flight: which storage node is asked first, and which next.
//!
//! A read goes to the node that the feed comes from (its rows are about as far as this instance), else to a near
//! one, else to any; then around, where a node refuses, does not answer in time or is gone. A read that nobody can
//! be asked for waits for a node. None waits for longer than the timeout.
//!
//! Who waits is the shell's business (`W`), and so is sending: it sends what [`Blocks::send`] gives back.

use std::collections::BTreeMap;

use crate::coordinator::Millis;
use crate::ids::{StorageId, Vector};
use crate::wire::ReadBlock;

/// A read that a node has not answered within this time goes to another one.
pub const BLOCK_PATIENCE_MS: Millis = 1_000;
/// A read that no node could be asked for is tried again after this time.
pub const UNASKED_PATIENCE_MS: Millis = 100;

/// A storage node as a read finds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// It is connected and not silent.
    pub usable: bool,
    /// It is in the instance's zone.
    pub near: bool,
}

/// What a read is sent by.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// The storage nodes, by id.
    pub nodes: &'a [Candidate],
    /// Where the feed comes from.
    pub feed: Option<StorageId>,
    /// Where the search for a first node begins, by id.
    pub turn: usize,
    /// The oldest snapshot in use.
    pub low: &'a Vector,
}

struct Pending<W> {
    request: ReadBlock,
    waiting: W,
    node: Option<StorageId>,
    sent: Millis,
    deadline: Millis,
    refused: u8,
}

/// Block reads in flight.
pub struct Blocks<W> {
    nodes: usize,
    timeout: Millis,
    next: u64,
    pending: BTreeMap<u64, Pending<W>>,
}

impl<W> Blocks<W> {
    /// None yet, from a volume of `nodes` storage nodes; none takes longer than `timeout`.
    pub fn new(nodes: usize, timeout: Millis) -> Blocks<W> {
        Blocks { nodes, timeout, next: 0, pending: BTreeMap::new() }
    }
    /// A read is wanted; its id, which the request gets. [`Blocks::send`] begins it.
    pub fn arrive(&mut self, mut request: ReadBlock, waiting: W, now: Millis) -> u64 {
        self.next += 1;
        request.id = self.next;
        let deadline = now + self.timeout;
        let pending = Pending { request, waiting, node: None, sent: now, deadline, refused: 0 };
        self.pending.insert(self.next, pending);
        self.next
    }
    /// Who waits for the first read that satisfies this.
    pub fn find(&mut self, wanted: impl Fn(&ReadBlock) -> bool) -> Option<&mut W> {
        self.pending.values_mut().find(|read| wanted(&read.request)).map(|read| &mut read.waiting)
    }
    /// Whom to ask now and what; `None`: nobody can be asked, or the read is over.
    pub fn send(&mut self, id: u64, around: Around, now: Millis) -> Option<(StorageId, ReadBlock)> {
        let read = self.pending.get_mut(&id)?;
        read.sent = now;
        read.node = choose(read.node, around);
        let node = read.node?;
        // The snapshot for which it was first asked may be closed by now, and storage need not keep what it saw.
        if around.low.covers(&read.request.from) {
            read.request.from = around.low.clone();
        }
        Some((node, read.request.clone()))
    }
    /// A node has answered: who waits for it, if the read is not over.
    pub fn answered(&mut self, id: u64) -> Option<W> {
        self.pending.remove(&id).map(|read| read.waiting)
    }
    /// A node refuses. True if another one is to be asked now; `None`: the read is over.
    pub fn refused(&mut self, id: u64) -> Option<bool> {
        let read = self.pending.get_mut(&id)?;
        read.refused = read.refused.wrapping_add(1);
        // Once all have refused, the next round waits for the clock.
        Some(!usize::from(read.refused).is_multiple_of(self.nodes))
    }
    /// Reads that a node was asked for last: another one is to be asked when it is gone.
    pub fn asked_of(&self, node: StorageId) -> Vec<u64> {
        self.ids(|read| read.node == Some(node))
    }
    /// Reads that have been refused. They are to be sent again after a reset: they were asked for snapshots that
    /// are gone now.
    pub fn refused_before(&self) -> Vec<u64> {
        self.ids(|read| read.refused > 0)
    }
    /// Reads for which another node is to be asked now.
    pub fn slow(&self, now: Millis) -> Vec<u64> {
        self.ids(|read| {
            let patience = if read.node.is_none() { UNASKED_PATIENCE_MS } else { BLOCK_PATIENCE_MS };
            now.saturating_sub(read.sent) >= patience
        })
    }
    /// Gives up what has not been answered in time.
    pub fn expire(&mut self, now: Millis) -> Vec<W> {
        let late = self.ids(|read| read.deadline <= now);
        late.into_iter().filter_map(|id| self.answered(id)).collect()
    }
    fn ids(&self, wanted: impl Fn(&Pending<W>) -> bool) -> Vec<u64> {
        self.pending.iter().filter(|(_, read)| wanted(read)).map(|(id, _)| *id).collect()
    }
}

fn choose(last: Option<StorageId>, around: Around) -> Option<StorageId> {
    let Around { nodes, feed, turn, low: _ } = around;
    let from = last.map_or(turn, |node| usize::from(node.0) + 1);
    let round = || {
        let all = (0..nodes.len()).map(move |step| (from + step) % nodes.len());
        all.filter(|index| nodes[*index].usable)
            .map(|index| StorageId(u8::try_from(index).expect("a volume has at most six storage nodes")))
    };
    let near = || round().find(|node| nodes[usize::from(node.0)].near);
    match last {
        None => feed.or_else(near).or_else(|| round().next()),
        Some(_) => round().next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, Key, Position, Seat, Seq};

    const TIMEOUT_MS: Millis = 3_000;
    const THERE: Candidate = Candidate { usable: true, near: false };
    const NEAR: Candidate = Candidate { usable: true, near: true };
    const GONE: Candidate = Candidate { usable: false, near: true };

    fn up_to(seq: u64) -> Vector {
        let mut vector = Vector::new();
        vector.advance(Seat(0), Position { epoch: Epoch(1), seq: Seq(seq) });
        vector
    }

    fn one_read() -> (Blocks<&'static str>, u64) {
        let mut blocks = Blocks::new(3, TIMEOUT_MS);
        let request = ReadBlock {
            id: 0,
            start: Key::default(),
            end: None,
            reverse: false,
            bytes_max: 1,
            from: up_to(5),
            newest: false,
            at_least: Vector::new(),
        };
        let id = blocks.arrive(request, "one", 0);
        (blocks, id)
    }

    /// Who is asked, by number.
    fn asked(
        blocks: &mut Blocks<&'static str>,
        id: u64,
        nodes: &[Candidate],
        feed: Option<u8>,
        now: Millis,
    ) -> Option<u8> {
        let low = Vector::new();
        let around = Around { nodes, feed: feed.map(StorageId), turn: 1, low: &low };
        blocks.send(id, around, now).map(|(node, request)| {
            assert_eq!(request.id, id);
            node.0
        })
    }

    #[test]
    fn the_feeds_node_is_asked_first_then_a_near_one_then_any() {
        let cases = [
            ([NEAR, THERE, THERE], Some(2), Some(2)),
            ([NEAR, THERE, THERE], None, Some(0)),
            ([GONE, THERE, THERE], None, Some(1)),
            ([GONE, GONE, THERE], None, Some(2)),
            ([GONE, GONE, GONE], None, None),
        ];
        for (nodes, feed, expected) in cases {
            let (mut blocks, id) = one_read();
            assert_eq!(asked(&mut blocks, id, &nodes, feed, 0), expected, "{nodes:?} {feed:?}");
        }
    }

    #[test]
    fn the_next_one_is_asked_in_turn_and_neither_near_nor_the_feeds() {
        let (mut blocks, id) = one_read();
        let turns: Vec<_> =
            (0..4).map(|_| asked(&mut blocks, id, &[NEAR, THERE, THERE], Some(1), 0)).collect();
        assert_eq!(turns, [Some(1), Some(2), Some(0), Some(1)]);
    }

    #[test]
    fn a_read_that_all_have_refused_waits_for_the_clock() {
        let (mut blocks, id) = one_read();
        assert!(blocks.refused_before().is_empty());
        assert_eq!([0; 4].map(|_| blocks.refused(id)), [Some(true), Some(true), Some(false), Some(true)]);
        assert_eq!(blocks.refused_before(), [id]);
        assert_eq!(blocks.answered(id), Some("one"));
        assert_eq!(blocks.refused(id), None);
    }

    #[test]
    fn a_read_without_a_node_is_tried_sooner_than_one_without_an_answer() {
        let (mut blocks, id) = one_read();
        assert_eq!(asked(&mut blocks, id, &[GONE; 3], None, 10), None);
        assert!(blocks.slow(10 + UNASKED_PATIENCE_MS - 1).is_empty());
        assert_eq!(blocks.slow(10 + UNASKED_PATIENCE_MS), [id]);
        assert_eq!(asked(&mut blocks, id, &[THERE; 3], None, 200), Some(1));
        assert!(blocks.slow(200 + BLOCK_PATIENCE_MS - 1).is_empty());
        assert_eq!(blocks.slow(200 + BLOCK_PATIENCE_MS), [id]);
        assert_eq!(blocks.asked_of(StorageId(1)), [id]);
        assert!(blocks.asked_of(StorageId(0)).is_empty());
    }

    #[test]
    fn a_read_asks_for_no_older_snapshot_than_any_that_is_open() {
        let (mut blocks, id) = one_read();
        for (low, expected) in [(4, 5), (7, 7)] {
            let low = up_to(low);
            let around = Around { nodes: &[THERE; 3], feed: None, turn: 0, low: &low };
            let (_, request) = blocks.send(id, around, 0).expect("all are there");
            assert_eq!(request.from, up_to(expected));
        }
    }

    #[test]
    fn a_read_is_given_up_at_its_deadline() {
        let (mut blocks, id) = one_read();
        assert!(blocks.find(|request| request.end.is_none()).is_some());
        assert!(blocks.expire(TIMEOUT_MS - 1).is_empty());
        assert_eq!(blocks.expire(TIMEOUT_MS), ["one"]);
        assert_eq!(blocks.answered(id), None);
        assert!(blocks.find(|_| true).is_none());
    }
}
