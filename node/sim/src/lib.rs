//! A deterministic world around `node-core`: storage nodes, instances, clients and a bad network, all driven
//! by one seed.
//!
//! `docs/rfcs/0003-simulation.md` says what is simulated, what is checked and what is not. In short: the very
//! code of `node-core` that ships decides; [`storage`] and [`instance`] stand for the shells around it;
//! [`net`], [`disk`] and [`rows`] fail; [`oracle`] looks at every step, and [`history`] at what clients saw.
//!
//! Beside it stands a [`model`] of the same rules, in which every interleaving of a small world is visited.

mod context;
mod disk;
mod faults;
pub mod history;
mod instance;
pub mod model;
mod net;
mod oracle;
mod random;
mod rows;
mod storage;
mod world;

pub use faults::{Faults, Plant};
pub use net::Place;
pub use oracle::Report;
pub use random::Random;
pub use world::{Setup, World};
