//! The engine over a volume in memory: transactions, locks, snapshots, caches, and two instances at once.

mod cache;
mod conflicts;
mod locks;
mod transactions;
mod world;
