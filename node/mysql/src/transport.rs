//! A connection's bytes: in the clear, or through TLS.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, Stream};

use crate::registry::Entry;
use crate::responder::Sink;

/// How long a client that is told to go away may take to read that.
const LINGER: Duration = Duration::from_secs(5);

/// A blocking, two-way stream of bytes.
pub(crate) struct Transport {
    entry: Arc<Entry>,
    tls: Option<Box<ServerConnection>>,
    read_timeout: Option<Duration>,
}

impl Transport {
    pub(crate) fn new(entry: Arc<Entry>) -> Self {
        Self { entry, tls: None, read_timeout: None }
    }
    pub(crate) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }
    /// Goes over to TLS. `arrived` is what has been read behind the client's request: its first bytes.
    pub(crate) fn start_tls(&mut self, config: Arc<ServerConfig>, mut arrived: &[u8]) -> io::Result<()> {
        let mut tls = Box::new(ServerConnection::new(config).map_err(io::Error::other)?);
        while !arrived.is_empty() {
            tls.read_tls(&mut arrived)?;
            tls.process_new_packets().map_err(io::Error::other)?;
        }
        self.tls = Some(tls);
        Ok(())
    }
    /// How long [`Transport::read`] waits.
    pub(crate) fn set_read_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        if self.read_timeout != Some(timeout) {
            self.entry.socket.set_read_timeout(Some(timeout))?;
            self.read_timeout = Some(timeout);
        }
        Ok(())
    }
    /// Reads what has arrived, waiting for the first byte. `WouldBlock` when none came in time; 0 at the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut socket = &self.entry.socket;
            let result = match &mut self.tls {
                None => socket.read(buffer),
                Some(tls) => Stream::new(tls.as_mut(), &mut socket).read(buffer),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The other side left without TLS's goodbye.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                other => return other,
            }
        }
    }
    /// Ends the way out and reads what the client still sends, for a while: closing a socket with unread
    /// bytes would reset the connection, and the client would not see the last packet.
    pub(crate) fn linger(&mut self, scratch: &mut [u8]) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.write_tls(&mut &self.entry.socket);
        }
        let mut socket = &self.entry.socket;
        if socket.shutdown(std::net::Shutdown::Write).is_err() {
            return;
        }
        let deadline = Instant::now() + LINGER;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            // A timeout of zero would mean none at all.
            if socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).is_err() {
                return;
            }
            match socket.read(scratch) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

impl Sink for Transport {
    fn send(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let mut socket = &self.entry.socket;
        match &mut self.tls {
            None => socket.write_all(bytes)?,
            Some(tls) => {
                let mut stream = Stream::new(tls.as_mut(), &mut socket);
                stream.write_all(bytes)?;
                stream.flush()?;
            }
        }
        bytes.clear();
        Ok(())
    }
}
