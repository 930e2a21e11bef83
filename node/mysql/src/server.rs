//! A server: binds, serves, stops.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::handler::Backend;
use crate::reactor::Reactor;
use crate::registry::{CloseReason, Registry};
use crate::shared::{Config, Shared};
use crate::sys::{self, Epoll};

/// How long threads get to notice that their connections have been cut.
const CUT_GRACE: Duration = Duration::from_secs(2);

/// A running server. Dropping it stops it without waiting for statements.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    running: Mutex<Option<Running>>,
}

struct Running {
    reactor: JoinHandle<()>,
    stop: UnixStream,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Binds an address (port 0: any free one) and serves it from threads of its own.
    ///
    /// # Errors
    ///
    /// The address cannot be bound, or the system has no descriptors or threads left.
    pub fn bind(address: impl ToSocketAddrs, config: Config, backend: Arc<dyn Backend>) -> io::Result<Self> {
        Self::serve(TcpListener::bind(address)?, config, backend)
    }

    /// Serves a listening socket.
    ///
    /// # Errors
    ///
    /// The system has no descriptors or threads left.
    pub fn serve(listener: TcpListener, config: Config, backend: Arc<dyn Backend>) -> io::Result<Self> {
        sys::lengthen_queue(&listener)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(config, backend, Epoll::new()?));
        let (stop, stopped) = UnixStream::pair()?;
        let reactor = Reactor::new(Arc::clone(&shared), listener, stopped)?;
        let reactor = thread::Builder::new().name("mysql-accept".to_owned()).spawn(move || reactor.run())?;
        Ok(Self { shared, address, running: Mutex::new(Some(Running { reactor, stop })) })
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Every connection.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.shared.registry
    }

    /// Threads that execute or wait at the moment; for metrics.
    pub fn threads(&self) -> usize {
        self.shared.workers.count()
    }

    /// Closes every connection, interrupting what they execute, and goes on accepting.
    pub fn close_all(&self, reason: CloseReason) {
        self.shared.registry.close_all(reason);
    }

    /// Stops: refuses new connections, lets statements under way end within `grace`, closes their
    /// connections (error 1053 for whoever asks for more), and interrupts what is left. True if every
    /// statement ended in time.
    pub fn shutdown(&self, grace: Duration) -> bool {
        let registry = &self.shared.registry;
        let Some(Running { reactor, mut stop }) = self.running.lock().take() else { return true };
        let deadline = Instant::now() + grace;
        registry.refuse();
        registry.drain(CloseReason::Shutdown);
        // Meanwhile the reactor wakes the parked ones, so that they are told.
        let in_time = registry.wait_empty(deadline);
        if !in_time {
            registry.close_all(CloseReason::Shutdown);
            if !registry.wait_empty(Instant::now() + CUT_GRACE) {
                registry.cut();
            }
        }
        let _ = stop.write_all(&[0]);
        if reactor.join().is_err() {
            tracing::error!("the reactor had panicked");
        }
        let parked = std::mem::take(&mut *self.shared.parked.lock());
        drop(parked);
        if !self.shared.workers.stop(Instant::now() + CUT_GRACE) {
            tracing::warn!(threads = self.threads(), "sessions do not end; leaving them behind");
        }
        in_time
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown(Duration::ZERO);
    }
}
