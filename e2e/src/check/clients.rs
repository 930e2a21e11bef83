//! The clients: each a thread that does one kind of transactions, one after the other, until the run is over.

pub(crate) mod bank;
pub(crate) mod ledger;
pub(crate) mod lists;
