//! MySQL statements over a row store: SQLite plans and reads through virtual tables, changes are applied
//! by our own code. No network, no storage: see [`store`] for what is needed of the rows.

mod access;
pub mod catalog;
pub mod change;
pub mod collation;
mod connection;
pub mod context;
pub mod convert;
mod cursor;
mod ddl;
pub mod encoding;
pub mod error;
pub mod functions;
pub mod information_schema;
pub mod plan;
mod rows;
pub mod schema;
pub mod session;
pub mod show;
pub mod store;
pub mod table;
pub mod temporal;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod translate;
pub mod types;
pub mod variables;
