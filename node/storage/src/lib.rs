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
mod config;
mod connection;
mod disk;
mod driver;
mod feed;
mod formats;
mod instances;
mod join;
mod membership;
mod node;
mod peers;
mod reads;
mod repair;
pub mod rows;
mod scrub;
mod server;
mod shared;
mod status;
mod topology;

pub use config::StorageConfig;
pub use driver::DriverError;
pub use formats::{FormatError, LOG_FORMAT, ROWS_FORMAT, VOLUME_FORMAT};
pub use membership::MembershipError;
pub use node::{StorageError, run, run_on};
pub use scrub::{ScrubConfig, ScrubStage, ScrubStatus};
pub use status::{CountersSnapshot, StorageStatus};
