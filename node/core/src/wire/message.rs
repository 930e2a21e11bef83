//! The messages. Requests go to a storage node (from an instance or from another storage node), replies
//! come back; both travel many to a frame on one stream, and a reply names the transaction or the request
//! it answers, so order does not matter.

use bytes::{BufMut, Bytes, BytesMut};

use super::codec::{DecodeError, Reader, Wire, wire_enum, wire_struct};
use crate::acceptor::Checkpoint;
use crate::ids::{Ballot, Epoch, Key, Outcome, Position, RunId, Seat, Seq, StorageId, TxnId, Vector, Ver};
use crate::membership::{Generation, Generations, JoinReport};
use crate::txn::SharedTxn;

/// The wire version this build speaks.
///
/// A frame of another version is refused; a new kind of message, or a changed one, needs a new version. Two
/// things are the same in all versions, so that any two builds can tell each other why they do not talk:
/// a frame begins with its version, and [`Reply::Refused`] is the byte 2 and a text.
pub const WIRE_VERSION: u8 = 2;

/// Who opens a connection to a storage node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// An instance.
    Instance {
        /// Its name, as `shop-0`.
        name: String,
        /// Its ordinal, 0 to 15.
        ordinal: u16,
        /// Promotion tier, 0 (first) to 15.
        tier: u8,
        /// This run of it.
        run: RunId,
    },
    /// Another storage node of the volume.
    Storage {
        /// Which.
        id: StorageId,
        /// This run of it.
        run: RunId,
    },
}
wire_enum!(Peer { 1 => Instance { name, ordinal, tier, run }, 2 => Storage { id, run } });

/// What an instance is doing; shown to people and used by the election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Holds a seat and may write.
    Writer,
    /// Follows.
    Reader,
}
wire_enum!(Role { 1 => Writer, 2 => Reader });

/// A node's fast vote on a proposal. Durable before it is sent; never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vote {
    /// No objection; the node now holds the transaction's slots.
    Accept,
    /// A key has a newer committed version.
    Stale,
    /// Another undecided transaction holds a slot.
    Locked {
        /// Which.
        by: TxnId,
    },
    /// Another transaction is being recovered on a slot.
    Reserved {
        /// Which.
        by: TxnId,
    },
}
wire_enum!(Vote { 1 => Accept, 2 => Stale, 3 => Locked { by }, 4 => Reserved { by } });

/// An answer about an outcome that is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The node knows the decision.
    Decided(Outcome),
    /// Decided long ago; the outcome is no longer known here. Nobody may turn it into either.
    Unknown,
}
wire_enum!(Settled { 1 => Decided(outcome), 2 => Unknown });

/// What a node promises, or has accepted, about one transaction: the answer to Prepare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// About which transaction.
    pub txn: TxnId,
    /// The ballot promised.
    pub ballot: Ballot,
    /// The node's fast vote: true accepted, false rejected.
    pub vote: Option<bool>,
    /// The highest classic ballot accepted, and its value.
    pub accepted: Option<(Ballot, Outcome)>,
    /// The record, where the node has it.
    pub body: Option<SharedTxn>,
    /// Undecided holders at this node that conflict with the transaction's *writes*.
    pub holders: Vec<SharedTxn>,
}
wire_struct!(Promise { txn, ballot, vote, accepted, body, holders });

/// One older transaction as a fenced node reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FencedTxn {
    /// The promise at the fence's ballot.
    pub promise: Promise,
    /// The decision, where known.
    pub decided: Option<Outcome>,
}
wire_struct!(FencedTxn { promise, decided });

/// A list that closes all older streams of a seat: what it does not name is aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The seat.
    pub seat: Seat,
    /// The new epoch: all older ones end here.
    pub epoch: Epoch,
    /// Who holds the new epoch.
    pub run: RunId,
    /// The fence's ballot.
    pub ballot: Ballot,
    /// Below and at these positions everything is settled at the fencer's quorum, by stream.
    pub settled: Vec<(Epoch, Seq)>,
    /// Every listed older transaction above that, with its outcome; committed ones with their record.
    pub listed: Vec<(TxnId, Outcome)>,
    /// Records of the committed ones.
    pub bodies: Vec<SharedTxn>,
}
wire_struct!(Closing { seat, epoch, run, ballot, settled, listed, bodies });

/// A request to read rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadBlock {
    /// Pairs the answer with the question.
    pub id: u64,
    /// First key wanted.
    pub start: Key,
    /// First key not wanted; `None`: to the end of the keys.
    pub end: Option<Key>,
    /// Where to begin: false from the start upwards, true from the end downwards.
    pub reverse: bool,
    /// About how many bytes to answer with.
    pub bytes_max: u32,
    /// Every version that a snapshot from here on may see must be in the answer.
    pub from: Vector,
    /// Only the newest versions are wanted, for a copy: `from` is of no account.
    pub newest: bool,
    /// The answer must include everything up to here; the node waits for it.
    pub at_least: Vector,
}
wire_struct!(ReadBlock { id, start, end, reverse, bytes_max, from, newest, at_least });

/// A version of a row in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowVersion {
    /// Its version.
    pub ver: Ver,
    /// Its value; `None`: deleted.
    pub value: Option<Bytes>,
}
wire_struct!(RowVersion { ver, value });

/// A row with its versions, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowVersions {
    /// The key.
    pub key: Key,
    /// Newest first; never empty.
    pub versions: Vec<RowVersion>,
}
wire_struct!(RowVersions { key, versions });

/// Rows of a contiguous key range, complete as of a vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The request's id.
    pub id: u64,
    /// First key covered.
    pub start: Key,
    /// First key not covered; `None`: to the end of the keys.
    pub end: Option<Key>,
    /// Every row in the range, in key order, with every version that may be needed.
    pub rows: Vec<RowVersions>,
    /// What the block includes.
    pub at: Vector,
}
wire_struct!(Block { id, start, end, rows, at });

/// One step of the decided history, in an order in which it can be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedItem {
    /// A committed transaction.
    Commit(SharedTxn),
    /// Everything of the seat up to the position is settled; what was not sent was aborted.
    Advance {
        /// The seat.
        seat: Seat,
        /// Up to here.
        to: Position,
    },
}
wire_enum!(FeedItem { 1 => Commit(txn), 2 => Advance { seat, to } });

/// An instance as a storage node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceInfo {
    /// Its name.
    pub name: String,
    /// Its ordinal.
    pub ordinal: u16,
    /// Promotion tier.
    pub tier: u8,
    /// This run.
    pub run: RunId,
    /// What it says it is.
    pub role: Role,
    /// How far it has applied.
    pub applied: Vector,
    /// Its lag behind the present when it last measured it, in microseconds; 0 for a writer.
    pub lag_us: u32,
    /// Milliseconds since it was last heard; 0 while the connection is live and talking.
    pub silent_ms: u32,
    /// False once its connection to this node is gone.
    pub connected: bool,
}
wire_struct!(InstanceInfo { name, ordinal, tier, run, role, applied, lag_us, silent_ms, connected });

/// Who holds a seat, as far as a storage node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatInfo {
    /// The seat.
    pub seat: Seat,
    /// The highest epoch granted.
    pub epoch: Epoch,
    /// To whom.
    pub run: RunId,
    /// True once the older epochs are closed and the holder may write.
    pub active: bool,
}
wire_struct!(SeatInfo { seat, epoch, run, active });

/// A storage node's standing in its volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// Nothing on disk; the volume has not been formed here.
    Empty,
    /// Forming the volume with this identity; not yet confirmed by all.
    Forming(u64),
    /// A voting member of the volume with this identity.
    Member(u64),
    /// Its disk was empty or damaged although the volume exists: it does not vote.
    Lost(u64),
}
wire_enum!(Membership { 1 => Empty, 2 => Forming(volume), 3 => Member(volume), 4 => Lost(volume) });

/// To a storage node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The first message of a connection.
    Hello {
        /// Who calls.
        peer: Peer,
        /// The cluster's name: a node of another cluster hangs up.
        cluster: String,
    },
    /// I am here, this far, and nobody of mine reads below `low`.
    Heartbeat {
        /// Counts up; comes back in the answer.
        beat: u64,
        /// What the instance is.
        role: Role,
        /// The epoch with which it holds the one seat of single-master mode and asks for a lease; else 0.
        epoch: Epoch,
        /// How far it has applied.
        applied: Vector,
        /// Its oldest open snapshot.
        low: Vector,
        /// Its lag behind the present when it was last measured, in microseconds; 0 for a writer.
        lag_us: u32,
    },
    /// Vote on this.
    Propose(SharedTxn),
    /// Second round, or a recoverer's.
    Accept {
        /// Which transaction.
        txn: TxnId,
        /// At which ballot.
        ballot: Ballot,
        /// Which outcome.
        value: Outcome,
        /// The record (always with COMMIT).
        body: Option<SharedTxn>,
    },
    /// Promise to take no older ballot, and say what you know.
    Prepare {
        /// Which transaction.
        txn: TxnId,
        /// At which ballot.
        ballot: Ballot,
        /// The record, where the recoverer has it.
        body: Option<SharedTxn>,
    },
    /// It is decided.
    Decide {
        /// Which transaction.
        txn: TxnId,
        /// How.
        outcome: Outcome,
        /// The record, where the node may lack it.
        body: Option<SharedTxn>,
    },
    /// Promise to take no older epoch of the seat.
    Fence {
        /// The seat.
        seat: Seat,
        /// The new epoch.
        epoch: Epoch,
        /// Who wants it.
        run: RunId,
        /// Ballot for every older transaction.
        ballot: Ballot,
    },
    /// Accept that this is how the older epochs ended.
    Activate(Closing),
    /// A quorum has accepted the closing: it is chosen.
    Activated(Closing),
    /// Which transactions exist? (for a read of the present)
    ReadIndex {
        /// Pairs the answer with the question.
        id: u64,
        /// The seat the asker writes as, with its epoch: a fenced asker is told so.
        holds: Option<(Seat, Epoch)>,
    },
    /// Send the decided history from here on.
    Subscribe {
        /// What the subscriber has.
        from: Vector,
    },
    /// Rows, please.
    Read(ReadBlock),
    /// Between nodes, and from recoverers: send what you know of these.
    Fetch {
        /// Pairs the answer with the question.
        id: u64,
        /// Which.
        txns: Vec<TxnId>,
    },
    /// Between nodes: what were these rows at that vector? (to find what a disk or a bug has changed)
    Digest {
        /// Pairs the answer with the question.
        id: u64,
        /// First key.
        start: Key,
        /// First key not meant; `None`: to the end of the keys.
        end: Option<Key>,
        /// The vector.
        at: Vector,
        /// True if the rows themselves are wanted.
        rows: bool,
    },
    /// Between nodes: how far are you, and who are you?
    Status {
        /// The asker's membership.
        membership: Membership,
        /// How far the asker has settled everything, by stream.
        settled: Vec<(Seat, Epoch, Seq)>,
    },
    /// These disks stand behind the storage nodes' numbers.
    Generations(Generations),
    /// From a new disk: it takes a storage node's number; what do you know to exist?
    Join {
        /// Which number.
        node: StorageId,
        /// The disk.
        generation: Generation,
    },
    /// From a new disk: a state to begin from.
    Base {
        /// Pairs the answer with the question.
        id: u64,
    },
}
wire_enum!(Request {
    1 => Hello { peer, cluster },
    2 => Heartbeat { beat, role, epoch, applied, low, lag_us },
    3 => Propose(txn),
    4 => Accept { txn, ballot, value, body },
    5 => Prepare { txn, ballot, body },
    6 => Decide { txn, outcome, body },
    7 => Fence { seat, epoch, run, ballot },
    8 => Activate(closing),
    9 => Activated(closing),
    10 => ReadIndex { id, holds },
    11 => Subscribe { from },
    12 => Read(read),
    13 => Fetch { id, txns },
    14 => Status { membership, settled },
    20 => Generations(generations),
    21 => Join { node, generation },
    22 => Base { id },
    40 => Digest { id, start, end, at, rows },
});

/// From a storage node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The answer to Hello.
    Welcome {
        /// Which node this is.
        id: StorageId,
        /// This run of it.
        run: RunId,
        /// Its standing.
        membership: Membership,
        /// Its zone's name.
        zone: String,
    },
    /// The connection is refused, and why; the node hangs up.
    Refused {
        /// A sentence for a person.
        reason: String,
    },
    /// The answer to Heartbeat.
    Beat {
        /// The heartbeat's count.
        beat: u64,
        /// The node grants a lease: [`crate::lease`].
        lease: bool,
    },
    /// Who holds which seat and which instances are here; sent at once when it changes.
    Topology {
        /// Seats.
        seats: Vec<SeatInfo>,
        /// Instances.
        instances: Vec<InstanceInfo>,
    },
    /// A durable fast vote.
    Voted {
        /// On which transaction.
        txn: TxnId,
        /// What.
        vote: Vote,
    },
    /// Not a vote: the transaction is in recovery here.
    InRecovery {
        /// Which transaction.
        txn: TxnId,
        /// The ballot promised.
        ballot: Ballot,
    },
    /// Not a vote: the transaction's epoch is over.
    Fenced {
        /// Which transaction.
        txn: TxnId,
        /// The epoch that replaced it.
        epoch: Epoch,
    },
    /// Not a vote: the node cannot take more now (a full disk, an empty one, too much queued).
    Unable {
        /// Which transaction.
        txn: TxnId,
        /// Why, for a person.
        reason: String,
    },
    /// The transaction is settled.
    Settled {
        /// Which transaction.
        txn: TxnId,
        /// How.
        settled: Settled,
    },
    /// The value was accepted at the ballot.
    Accepted {
        /// Which transaction.
        txn: TxnId,
        /// At which ballot.
        ballot: Ballot,
        /// Which value.
        value: Outcome,
    },
    /// A higher ballot was promised.
    Nack {
        /// Which transaction.
        txn: TxnId,
        /// The ballot refused.
        ballot: Ballot,
        /// The ballot promised.
        promised: Ballot,
    },
    /// COMMIT cannot be accepted here while these hold its slots.
    Blocked {
        /// Which transaction.
        txn: TxnId,
        /// At which ballot.
        ballot: Ballot,
        /// By whom.
        by: Vec<SharedTxn>,
    },
    /// COMMIT cannot be accepted: a write of it is at or below a committed version.
    StaleSlot {
        /// Which transaction.
        txn: TxnId,
        /// At which ballot.
        ballot: Ballot,
    },
    /// The answer to Prepare.
    Promised(Promise),
    /// The answer to Fence.
    FenceOk {
        /// The seat.
        seat: Seat,
        /// The epoch.
        epoch: Epoch,
        /// The ballot.
        ballot: Ballot,
        /// By older stream: everything up to here is settled at this node.
        settled: Vec<(Epoch, Seq)>,
        /// Every older transaction above that with any record.
        older: Vec<FencedTxn>,
        /// Every closing this node has accepted for the seat, so that what they abort is seen.
        closings: Vec<Closing>,
    },
    /// The fence is refused for now: the seat's holder has a lease of this node, or may have one of an earlier run
    /// of it ([`crate::lease`]).
    Leased {
        /// The seat.
        seat: Seat,
        /// The epoch refused.
        epoch: Epoch,
        /// The ballot refused.
        ballot: Ballot,
    },
    /// The fence is refused: a higher ballot or epoch was promised.
    FenceNack {
        /// The seat.
        seat: Seat,
        /// The epoch refused.
        epoch: Epoch,
        /// The ballot refused.
        ballot: Ballot,
        /// The highest ballot promised for the seat or one of its transactions.
        promised: Ballot,
        /// The highest epoch granted for the seat.
        granted: Epoch,
    },
    /// The closing was accepted.
    ActivateOk {
        /// The seat.
        seat: Seat,
        /// The epoch.
        epoch: Epoch,
        /// The ballot.
        ballot: Ballot,
    },
    /// The closing is refused.
    ActivateNack {
        /// The seat.
        seat: Seat,
        /// The epoch.
        epoch: Epoch,
        /// The ballot refused.
        ballot: Ballot,
        /// The highest ballot promised.
        promised: Ballot,
    },
    /// The answer to ReadIndex.
    Index {
        /// The question's id.
        id: u64,
        /// The highest committed position known per seat.
        committed: Vector,
        /// Undecided transactions held here.
        pending: Vec<TxnId>,
        /// False if the asker's epoch is over.
        current: bool,
    },
    /// A piece of the decided history.
    Feed {
        /// In order.
        items: Vec<FeedItem>,
        /// The oldest snapshot anybody reads.
        low: Vector,
    },
    /// The history from there on is no longer here: forget what you hold and go on from this vector.
    FeedReset {
        /// The vector to start from.
        at: Vector,
    },
    /// Rows.
    Block(Block),
    /// The rows cannot be read here now.
    ReadRefused {
        /// The question's id.
        id: u64,
        /// A sentence for a person.
        reason: String,
    },
    /// The answer to Fetch: outcomes known, with records of commits.
    Fetched {
        /// The question's id.
        id: u64,
        /// What is known.
        known: Vec<(TxnId, Outcome)>,
        /// Records of the committed ones.
        bodies: Vec<SharedTxn>,
    },
    /// The answer to Digest.
    DigestIs {
        /// The question's id.
        id: u64,
        /// Of the rows; `None` if the node has not come to the vector yet, or no longer has what was then.
        digest: Option<(u64, u64)>,
        /// The rows with their version of then, if they were wanted.
        rows: Vec<RowVersions>,
    },
    /// The answer to Status.
    StatusIs {
        /// The node's membership.
        membership: Membership,
        /// How far it has settled everything, by stream.
        settled: Vec<(Seat, Epoch, Seq)>,
        /// The seats it knows.
        seats: Vec<SeatInfo>,
        /// The closing by which each seat's present epoch began: whoever missed it needs it.
        closings: Vec<Closing>,
    },
    /// The disks behind the storage nodes' numbers: everything said after it is said under these. Sent after
    /// Welcome, and whenever it changes.
    Generations(Generations),
    /// The answer to Join.
    JoinOk {
        /// The number.
        node: StorageId,
        /// The disk.
        generation: Generation,
        /// Everything this member knows to exist.
        report: JoinReport,
    },
    /// Another disk has this number, or had it later.
    JoinNack {
        /// The number.
        node: StorageId,
        /// Whose it is.
        current: Generation,
    },
    /// The answer to Base.
    Base {
        /// The question's id.
        id: u64,
        /// The member's state without its votes and promises.
        checkpoint: Checkpoint,
    },
}
wire_enum!(Reply {
    1 => Welcome { id, run, membership, zone },
    2 => Refused { reason },
    3 => Beat { beat, lease },
    4 => Topology { seats, instances },
    5 => Voted { txn, vote },
    6 => InRecovery { txn, ballot },
    7 => Fenced { txn, epoch },
    8 => Unable { txn, reason },
    9 => Settled { txn, settled },
    10 => Accepted { txn, ballot, value },
    11 => Nack { txn, ballot, promised },
    12 => Blocked { txn, ballot, by },
    13 => StaleSlot { txn, ballot },
    14 => Promised(promise),
    15 => FenceOk { seat, epoch, ballot, settled, older, closings },
    16 => FenceNack { seat, epoch, ballot, promised, granted },
    17 => ActivateOk { seat, epoch, ballot },
    18 => ActivateNack { seat, epoch, ballot, promised },
    19 => Index { id, committed, pending, current },
    20 => Feed { items, low },
    21 => FeedReset { at },
    22 => Block(block),
    23 => ReadRefused { id, reason },
    24 => Fetched { id, known, bodies },
    25 => StatusIs { membership, settled, seats, closings },
    26 => Generations(generations),
    27 => JoinOk { node, generation, report },
    28 => JoinNack { node, current },
    29 => Base { id, checkpoint },
    30 => Leased { seat, epoch, ballot },
    40 => DigestIs { id, digest, rows },
});

impl<A: Wire, B: Wire, C: Wire> Wire for (A, B, C) {
    fn put(&self, out: &mut BytesMut) {
        self.0.put(out);
        self.1.put(out);
        self.2.put(out);
    }
    fn get(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok((A::get(from)?, B::get(from)?, C::get(from)?))
    }
}

/// Puts messages into one frame.
pub fn encode_frame<'a, M: Wire + 'a>(messages: impl IntoIterator<Item = &'a M>) -> Bytes {
    let mut out = BytesMut::with_capacity(256);
    out.put_u8(WIRE_VERSION);
    for message in messages {
        message.put(&mut out);
    }
    out.freeze()
}

/// The reason, if the frame is a [`Reply::Refused`] of whichever version.
pub fn refusal(frame: &Bytes) -> Option<String> {
    let mut reader = Reader::new(frame.clone());
    let _version = reader.byte().ok()?;
    match reader.byte() {
        Ok(2) => String::get(&mut reader).ok(),
        Ok(_) | Err(_) => None,
    }
}

/// Takes the messages out of a frame.
///
/// # Errors
///
/// [`DecodeError`] if the frame is of another version or damaged.
pub fn decode_frame<M: Wire>(bytes: Bytes) -> Result<Vec<M>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let version = reader.byte()?;
    if version != WIRE_VERSION {
        return Err(DecodeError::Version { version });
    }
    let mut messages = Vec::new();
    while !reader.is_empty() {
        messages.push(M::get(&mut reader)?);
    }
    Ok(messages)
}
