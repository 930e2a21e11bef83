//! A storage node: the IO shell around `node_core::acceptor`, and the carrier that both sides use.

pub mod accept_log;
pub mod carrier;
pub mod rows;
