//! The instance role: a MySQL server without rows of its own.
//!
//! [`volume`] talks to the storage nodes (one thread, one runtime); [`engine`] holds the cache, the locks
//! and the transactions, and is what `node-sql` calls through its `Store` trait; [`server`] puts both under
//! the MySQL protocol. [`volume_api`] is the boundary between the first two.

pub mod engine;
pub mod role;
pub mod server;
pub mod volume;
pub mod volume_api;
