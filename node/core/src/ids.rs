//! Names of things. Newtypes, so that a sequence number is never taken for an epoch.

use std::fmt;

use bytes::Bytes;
use smallvec::SmallVec;

/// A key of a row or of an index entry: table id, index id and order-preserving columns (see `node-sql`).
pub type Key = Bytes;

/// A hash table by key.
pub type KeyMap<V> = std::collections::HashMap<Key, V, foldhash::fast::RandomState>;

/// A place from which transactions are written.
///
/// In multi-master mode every instance has its own seat (its ordinal); in single-master mode there is one
/// seat, 0, and the writer holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seat(pub u16);

/// Grows each time a seat is taken. A storage node refuses every older epoch of the seat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Dense number of a transaction within its stream, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// One run of one process; random, never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

/// A storage node's number within its volume, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorageId(pub u8);

/// How many committed writes a key has had. 0: the key was never written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Height(pub u64);

/// The transactions of one run of one seat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Who writes.
    pub seat: Seat,
    /// Which time.
    pub epoch: Epoch,
}

/// A point in a seat's history. Ordered by epoch, then sequence number: every stream of a seat is decided
/// to its end before the seat's next stream begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The stream's epoch.
    pub epoch: Epoch,
    /// The last transaction included.
    pub seq: Seq,
}

/// A transaction's identity: its stream and its place in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxnId {
    /// Who writes.
    pub seat: Seat,
    /// Which run of the seat.
    pub epoch: Epoch,
    /// Its place in the stream.
    pub seq: Seq,
}

impl TxnId {
    /// The transaction's stream.
    pub fn stream(self) -> StreamId {
        StreamId { seat: self.seat, epoch: self.epoch }
    }
    /// The transaction's place in its seat's history.
    pub fn position(self) -> Position {
        Position { epoch: self.epoch, seq: self.seq }
    }
}

/// A version of a key: how high, and who wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ver {
    /// Height of this version.
    pub height: Height,
    /// The transaction that wrote it.
    pub txn: TxnId,
}

/// A ballot for one transaction. Round 0 is the fast vote, round 1 belongs to the transaction's own
/// coordinator, rounds from 2 to recoverers. Total order: round, then proposer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// Round.
    pub round: u32,
    /// Who proposes; ties rounds between proposers apart.
    pub proposer: RunId,
}

impl Ballot {
    /// The fast vote: before every ballot.
    pub const FAST: Ballot = Ballot { round: 0, proposer: RunId(0) };
    /// The coordinator's own second round.
    pub const COORDINATOR: Ballot = Ballot { round: 1, proposer: RunId(0) };
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It happened.
    Commit,
    /// It never happened.
    Abort,
}

/// One position per seat: a snapshot, or how far somebody has come. A seat that is absent is at zero.
///
/// In single-master mode this is one position: Aurora's LSN.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Vector(SmallVec<[(Seat, Position); 2]>);

impl Vector {
    /// The beginning of time.
    pub fn new() -> Vector {
        Vector::default()
    }
    /// The seat's position; zero if the vector does not name it.
    pub fn get(&self, seat: Seat) -> Position {
        match self.0.binary_search_by_key(&seat, |entry| entry.0) {
            Ok(index) => self.0[index].1,
            Err(_) => Position::default(),
        }
    }
    /// Moves the seat to the position, if that is forward. True if it moved.
    pub fn advance(&mut self, seat: Seat, to: Position) -> bool {
        match self.0.binary_search_by_key(&seat, |entry| entry.0) {
            Ok(index) if self.0[index].1 >= to => false,
            Ok(index) => {
                self.0[index].1 = to;
                true
            }
            Err(_) if to == Position::default() => false,
            Err(index) => {
                self.0.insert(index, (seat, to));
                true
            }
        }
    }
    /// The least upper bound of both.
    pub fn join(&mut self, other: &Vector) {
        for (seat, position) in other.iter() {
            self.advance(seat, position);
        }
    }
    /// The greatest lower bound of both.
    pub fn meet(&self, other: &Vector) -> Vector {
        let mut low = Vector::new();
        for (seat, position) in self.iter() {
            low.advance(seat, position.min(other.get(seat)));
        }
        low
    }
    /// True if this vector has come at least as far as the other on every seat.
    pub fn covers(&self, other: &Vector) -> bool {
        other.iter().all(|(seat, position)| self.get(seat) >= position)
    }
    /// True if a snapshot at this vector sees what the transaction wrote.
    pub fn sees(&self, txn: TxnId) -> bool {
        self.get(txn.seat) >= txn.position()
    }
    /// The entries, by seat.
    pub fn iter(&self) -> impl Iterator<Item = (Seat, Position)> + '_ {
        self.0.iter().copied()
    }
    /// How many seats the vector names.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// True if the vector names no seat.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for TxnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.seat.0, self.epoch.0, self.seq.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch.0, self.seq.0)
    }
}

impl fmt::Display for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[")?;
        for (index, (seat, position)) in self.iter().enumerate() {
            write!(f, "{}{}/{}", if index > 0 { " " } else { "" }, seat.0, position)?;
        }
        write!(f, "]")
    }
}

impl fmt::Debug for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
