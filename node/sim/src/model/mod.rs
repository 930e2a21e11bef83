//! The commit protocol as a model: every interleaving of a small volume is visited (stateright), instead of
//! some of a large one as in [`crate::World`].
//!
//! What is modelled is the rules of `docs/rfcs/0001-commit-protocol.md`, as `node_core::acceptor`,
//! `coordinator` and `ordering` follow them; `docs/rfcs/0002-model.md` says what was covered and measured,
//! and what is only argued. A change of a rule begins here.
//!
//! - [`rules`]: one switch per rule, with a variant per planted mistake.
//! - [`setup`]: quorums, transactions, who recovers and fences.
//! - [`state`], `node`, [`voting`], `recovery`, [`properties`]: votes, ballots, checks, fences, folding.
//! - [`streams`]: order, vectors, acknowledgement.
//! - [`catalogue`]: what is run; [`run`]: running it.

pub mod catalogue;
mod node;
pub mod properties;
mod recovery;
pub mod rules;
pub mod run;
pub mod setup;
pub mod state;
pub mod streams;
pub mod voting;
