//! The server over real sockets: with a real client, and with clients that break the rules.

mod backend;
mod broken_clients;
mod clients;
mod crowd;
mod lifecycle;
mod raw;
mod tls;
