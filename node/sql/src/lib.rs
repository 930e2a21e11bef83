//! MySQL statements over a row store: SQLite plans and reads through virtual tables, changes are applied
//! by our own code. No network, no storage: see [`store`] for what is needed of the rows.

pub mod catalog;
pub mod change;
pub mod collation;
pub mod context;
pub mod convert;
pub mod ddl;
pub mod encoding;
pub mod error;
pub mod functions;
pub mod information_schema;
pub mod plan;
pub mod schema;
pub mod session;
pub mod show;
pub mod store;
pub mod table;
pub mod translate;
pub mod types;
pub mod variables;
