//! Every decision of the distributed database, as pure code: no IO, no clock, no threads, no randomness.
//!
//! The protocol is leaderless quorum voting with recovery by ballots; `docs/rfcs/0001-commit-protocol.md`
//! states its rules and the invariants that this crate keeps. Each module decides one thing:
//!
//! | module | decides |
//! |---|---|
//! | [`ids`] | names of things: streams, positions, versions, vectors |
//! | [`quorum`] | how many answers are enough |
//! | [`acceptor`] | a storage node's votes and promises |
//! | [`coordinator`] | an instance's proposals and the recovery of anybody's transactions |
//! | [`ordering`] | in which order decided transactions are applied |
//! | [`election`] | who becomes the writer, and when |
//! | [`lease`] | until when the writer may serve reads by itself |
//! | [`membership`] | which disk stands behind a storage node's number |
//! | [`join`] | how a disk that lost its votes comes back as a new one |
//! | [`catch_up`] | what a storage node fetches from which peer, and when it is too far behind |
//! | [`locks`] | local row locks, waits and deadlocks |
//! | [`links`] | which storage nodes are there, and which one the feed comes from |
//! | [`blocks`] | which storage node is asked for rows, and which next |
//! | [`present`] | what a reader must have applied to see the present |
//! | [`cache`] | blocks of rows with version chains |
//! | [`mistakes`] | nothing: breaks a rule where a test asks for it |
//! | [`wire`] | messages as bytes |

pub mod acceptor;
pub mod blocks;
pub mod cache;
pub mod catch_up;
pub mod coordinator;
pub mod election;
pub mod ids;
pub mod join;
pub mod lease;
pub mod links;
pub mod locks;
pub mod membership;
pub mod mistakes;
pub mod ordering;
pub mod present;
pub mod quorum;
pub mod txn;
pub mod wire;
