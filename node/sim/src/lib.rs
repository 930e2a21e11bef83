//! A deterministic world around `node-core`: storage nodes, instances, clients and a bad network, all driven
//! by one seed.
//!
//! Messages are lost, delayed, reordered and duplicated; storage nodes crash and lose what they had not yet
//! made durable; instances crash and come back as a new run. An oracle that sees everything checks after
//! every step that decisions never change and that no two committed transactions fill one slot, and, once
//! every fault is healed, that all nodes agree, that what was acknowledged is there and what was refused is not.
//!
//! Beside it stands a [`model`] of the same rules, in which every interleaving of a small world is visited.

pub mod model;
mod random;
mod world;

pub use random::Random;
pub use world::{Faults, Report, World};
