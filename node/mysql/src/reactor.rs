//! The thread that accepts connections, watches the parked ones and looks after timeouts.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connection::{Connection, turn_away};
use crate::error::MysqlError;
use crate::shared::Shared;
use crate::sys::{Epoll, Watch};
use crate::workers::Workers;

const LISTENER: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;
/// Between two looks at timeouts and at clients that have hung up.
const SWEEP_EVERY: Duration = Duration::from_millis(500);
/// After the system refused to accept, for want of descriptors usually.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the reactor's thread owns.
pub(crate) struct Reactor {
    shared: Arc<Shared>,
    listener: TcpListener,
    stop: UnixStream,
}

impl Reactor {
    /// Prepares a reactor; `stop` ends it when it becomes readable.
    pub(crate) fn new(shared: Arc<Shared>, listener: TcpListener, stop: UnixStream) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        stop.set_nonblocking(true)?;
        shared.epoll.add(&listener, LISTENER, Watch::Always)?;
        shared.epoll.add(&stop, STOP, Watch::Always)?;
        Ok(Self { shared, listener, stop })
    }

    /// Runs until it is stopped. The listening socket is closed before it returns.
    pub(crate) fn run(mut self) {
        let mut last_sweep = Instant::now();
        let mut tokens = Vec::new();
        loop {
            let timeout = SWEEP_EVERY.saturating_sub(last_sweep.elapsed());
            tokens.clear();
            if let Err(error) = self.shared.epoll.wait(timeout, |token| tokens.push(token)) {
                tracing::error!(%error, "the reactor cannot wait; the server stops accepting");
                return;
            }
            for token in &tokens {
                match *token {
                    LISTENER => self.accept(),
                    STOP => {
                        // Readable by a byte or by the end of the other side: either means to stop.
                        let _ = self.stop.read(&mut [0]);
                        return;
                    }
                    connection => self.wake(connection),
                }
            }
            if last_sweep.elapsed() >= SWEEP_EVERY {
                last_sweep = Instant::now();
                self.shared.registry.sweep(&self.shared.config.sweep_limits());
            }
        }
    }

    fn wake(&self, token: u64) {
        let Ok(id) = u32::try_from(token) else { return };
        let connection = self.shared.parked.lock().remove(&id);
        if let Some(connection) = connection {
            Workers::serve(&self.shared, connection);
        }
    }

    fn accept(&self) {
        loop {
            match self.listener.accept() {
                Ok((socket, peer)) => self.accepted(socket, peer),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => {
                        tracing::warn!(%error, "cannot accept a connection");
                        // The listener stays readable; without a pause this thread would spin.
                        return Epoll::pause(ACCEPT_PAUSE);
                    }
                },
            }
        }
    }

    fn accepted(&self, socket: TcpStream, peer: SocketAddr) {
        let max = self.shared.backend.max_connections().unwrap_or(self.shared.config.max_connections);
        let prepared = socket.set_nodelay(true).and_then(|()| socket.set_nonblocking(false));
        if let Err(error) = prepared {
            tracing::info!(%error, "a connection ended before it was accepted");
            return;
        }
        let (entry, count) = match self.shared.registry.add(peer, socket, max.saturating_add(1)) {
            Ok(added) => added,
            Err(socket) => {
                tracing::info!(%peer, "too many connections");
                return turn_away(&socket, &MysqlError::too_many_connections());
            }
        };
        match Connection::greet(&self.shared, entry, count > max) {
            Ok(connection) => self.shared.park(connection),
            Err(error) => tracing::info!(%error, %peer, "a client could not be greeted"),
        }
    }
}
