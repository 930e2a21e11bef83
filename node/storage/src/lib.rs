//! A storage node: the IO shell around `node_core::acceptor`, and the carrier that both sides use.
//!
//! ```text
//! connections ─▶ server ─┬─ heartbeats: answered at once       peers ─▶ status, what was missed
//!                        ├─ requests ─▶ driver (storage thread): acceptor, one log write, replies
//!                        │                └─ decided ─▶ feed (memory) ─▶ subscribers
//!                        │                           └▶ applier (rows thread) ─▶ rows (fjall)
//!                        └─ reads ─▶ readers ◀─ wait for what is applied
//! ```

pub mod accept_log;
mod applier;
pub mod carrier;
mod catch_up;
mod config;
mod connection;
mod disk;
mod driver;
mod feed;
mod instances;
mod join;
mod membership;
mod node;
mod peers;
mod reads;
pub mod rows;
mod server;
mod shared;
mod status;
mod topology;

pub use config::StorageConfig;
pub use driver::DriverError;
pub use membership::MembershipError;
pub use node::{StorageError, run, run_on};
pub use status::{CountersSnapshot, StorageStatus};
