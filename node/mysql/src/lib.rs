//! The server side of the MySQL client/server protocol: no SQL, no storage.
//!
//! The protocol itself is code without IO: bytes become packets in [`packet`], a connection's first packets
//! go through the state machine of [`login`], later ones are commands answered by [`client`], which encodes
//! results through [`responder`]. Around it, blocking sockets: a command is read, executed and answered on
//! one worker thread ([`workers`]), because handing every query to another thread doubles its cost. A
//! connection that has been silent for a moment is *parked*: it keeps its socket in the one epoll instance of
//! the [`reactor`] and no thread. Workers are started whenever a connection is ready and none is free, so that
//! sessions that wait for a lock never keep the holder's COMMIT from running.
//!
//! Invariant: only what both sides offered is used; nothing a client sends can panic; a broken client costs
//! its own connection and nothing else.

pub use rustls::ServerConfig as TlsConfig;

pub use constants::{CapabilityFlags, ColumnFlags, ColumnType};

mod auth;
mod client;
mod codec;
mod connection;
pub mod constants;
mod cursor;
mod encode;
mod error;
mod handler;
mod handshake;
mod login;
mod packet;
mod params;
mod reactor;
mod registry;
mod responder;
mod server;
mod shared;
mod sys;
mod temporal;
mod transport;
mod value;
mod workers;

pub use auth::{Account, AuthPlugin, Credential, SaltedSha2};
pub use error::MysqlError;
pub use handler::{
    Backend, ConnectionInfo, Handler, Interrupt, Interruption, Outcome, Prepared, ResultWriter, SessionStatus,
};
pub use registry::{CloseReason, ProcessInfo, Registry};
pub use server::Server;
pub use shared::Config;
pub use value::{Column, Date, DateTime, Time, Value};

#[cfg(test)]
mod fuzz_tests;
