//! Which ports a playground uses.
//!
//! MySQL's ports are the ones people type: 3306 and following, or what `--port` says. The others (HTTP, storage
//! nodes) come from a *block*: a run of ports below the range from which the system takes ports for outgoing
//! connections, so that no client can take the port of a process that is being restarted. A block belongs to
//! whoever listens on its first port, so two playgrounds that start at once cannot choose the same one.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Ports of a block, its guard included.
const BLOCK_PORTS: u16 = 64;
const BLOCKS_FIRST: u16 = 20_000;
const BLOCKS: u16 = 190;
/// Tried in turn where `--port` is not given.
const MYSQL_BASES: [u16; 3] = [3306, 13_306, 23_306];

const _: () = assert!(BLOCKS_FIRST + BLOCKS * BLOCK_PORTS <= 32_768, "blocks end below the ephemeral ports");
// 16 instances with MySQL and HTTP, 6 storage nodes with gRPC and HTTP, two endpoints, and the guard.
const _: () = assert!(16 * 2 + 6 * 2 + 2 < BLOCK_PORTS, "the largest cluster fits into a block");

/// There are no ports.
#[derive(Debug, thiserror::Error)]
pub enum PortsError {
    /// A port that was asked for cannot be had.
    #[error(
        "port {port} is taken: choose another first port with --port, or leave --port out to get free ones"
    )]
    Taken {
        /// The port.
        port: u16,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// `--port` leaves no room above it.
    #[error("--port {port} leaves no room for {count} ports above it")]
    Range {
        /// First port.
        port: u16,
        /// How many are needed.
        count: usize,
    },
    /// The blocks are all in use.
    #[error("no free ports between {BLOCKS_FIRST} and 32000: is something else using them?")]
    Exhausted,
}

/// Ports that belong to this playground for as long as the block lives.
#[derive(Debug)]
pub(crate) struct Block {
    guard: TcpListener,
    first: u16,
    next: u16,
}

impl Block {
    /// Takes the preferred block if it is free, otherwise another one, looking from a random place on.
    pub(crate) fn take(preferred: Option<u16>, random: u16) -> Result<Block, PortsError> {
        let start = random % BLOCKS;
        let others = (0..BLOCKS).map(|step| BLOCKS_FIRST + (start + step) % BLOCKS * BLOCK_PORTS);
        let known = |first: &u16| (BLOCKS_FIRST..BLOCKS_FIRST + BLOCKS * BLOCK_PORTS).contains(first);
        for first in preferred.into_iter().filter(known).chain(others) {
            if let Ok(guard) = listen(first) {
                return Ok(Block { guard, first, next: first + 1 });
            }
        }
        Err(PortsError::Exhausted)
    }

    /// The block's name: its first port.
    pub(crate) fn first(&self) -> u16 {
        self.first
    }

    /// The next port that nobody listens on.
    pub(crate) fn next(&mut self) -> Result<u16, PortsError> {
        debug_assert!(self.guard.local_addr().is_ok(), "the guard listens");
        while self.next < self.first + BLOCK_PORTS {
            let port = self.next;
            self.next += 1;
            if listen(port).is_ok() {
                return Ok(port);
            }
        }
        Err(PortsError::Exhausted)
    }
}

/// `count` ports for MySQL: exactly those from `asked` on if it says so, otherwise the usual ones or free ones.
pub(crate) fn mysql_ports(
    asked: Option<u16>,
    count: usize,
    block: &mut Block,
) -> Result<Vec<u16>, PortsError> {
    match asked {
        Some(0) => (0..count).map(|_| block.next()).collect(),
        Some(first) => {
            let ports = run(first, count).ok_or(PortsError::Range { port: first, count })?;
            for port in &ports {
                listen(*port).map_err(|source| PortsError::Taken { port: *port, source })?;
            }
            Ok(ports)
        }
        None => {
            let usual = MYSQL_BASES.iter().filter_map(|first| run(*first, count));
            let free = |ports: &Vec<u16>| ports.iter().all(|port| listen(*port).is_ok());
            match usual.into_iter().find(free) {
                Some(ports) => Ok(ports),
                None => mysql_ports(Some(0), count, block),
            }
        }
    }
}

fn run(first: u16, count: usize) -> Option<Vec<u16>> {
    let last = first.checked_add(u16::try_from(count).ok()?.checked_sub(1)?)?;
    Some((first..=last).collect())
}

fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(loopback(port))
}

/// A port of this machine, reachable from this machine only.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_playgrounds_get_different_blocks() {
        let one = Block::take(None, 7).expect("a block");
        let two = Block::take(Some(one.first()), 7).expect("another block");
        assert_ne!(one.first(), two.first());
    }

    #[test]
    fn a_block_that_was_let_go_is_taken_again_where_preferred() {
        let first = Block::take(None, 11).expect("a block").first();
        let again = Block::take(Some(first), 50).expect("a block").first();
        assert_eq!(again, first);
    }

    #[test]
    fn port_zero_means_free_ports_that_are_all_different() {
        let mut block = Block::take(None, 3).expect("a block");
        let mut ports = mysql_ports(Some(0), 5, &mut block).expect("ports");
        ports.dedup();
        assert_eq!(ports.len(), 5);
    }

    #[test]
    fn a_taken_port_that_was_asked_for_is_an_error_that_names_it() {
        let mut block = Block::take(None, 5).expect("a block");
        let busy = TcpListener::bind(loopback(0)).expect("a port");
        let port = busy.local_addr().expect("an address").port();
        let error = mysql_ports(Some(port), 1, &mut block).expect_err("taken");
        assert!(error.to_string().contains(&format!("port {port} is taken")), "{error}");
    }

    #[test]
    fn a_first_port_without_room_above_it_is_refused() {
        let mut block = Block::take(None, 9).expect("a block");
        assert!(matches!(mysql_ports(Some(65_535), 3, &mut block), Err(PortsError::Range { .. })));
    }
}
