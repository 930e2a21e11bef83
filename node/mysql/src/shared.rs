//! What all threads of a server share, and its configuration.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use rsa::RsaPrivateKey;

use crate::auth::{Account, AuthPlugin, Credential};
use crate::connection::Connection;
use crate::handler::Backend;
use crate::login::Authenticator;
use crate::registry::{Registry, SweepLimits};
use crate::sys::Epoll;
use crate::workers::Workers;

/// Bits of the key with which passwords are encrypted where there is no TLS.
const RSA_BITS: usize = 2048;
/// Accounts with salted credentials whose digest is remembered.
const REMEMBERED_MAX: usize = 10_000;

/// How a server behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// What clients are told: some decide by it what the server can do.
    pub server_version: String,
    /// The plugin announced in the greeting; accounts may use either.
    pub default_plugin: AuthPlugin,
    /// TLS, if clients may ask for it.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Most connections; one more is accepted for an account that is an administrator's.
    pub max_connections: usize,
    /// Longest payload a client may send, in bytes.
    pub max_allowed_packet: usize,
    /// How long a connection may be silent, unless its session says otherwise.
    pub wait_timeout: Duration,
    /// How long a login may take.
    pub connect_timeout: Duration,
    /// How long a client may refuse to take output.
    pub net_write_timeout: Duration,
    /// Stack of a worker thread, in bytes: it executes statements.
    pub stack_bytes: usize,
    /// With more connections than this, those that are silent give up their thread after `park_after`.
    pub park_above: usize,
    /// See `park_above`. With fewer connections a thread waits a second.
    pub park_after: Duration,
    /// Most prepared statements of a connection.
    pub prepared_statements_max: usize,
    /// Most bytes of rows kept for a cursor.
    pub cursor_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server_version: "8.0.39".to_owned(),
            default_plugin: AuthPlugin::Native,
            tls: None,
            max_connections: 151,
            max_allowed_packet: 64 << 20,
            wait_timeout: Duration::from_secs(28_800),
            connect_timeout: Duration::from_secs(10),
            net_write_timeout: Duration::from_secs(60),
            stack_bytes: 512 << 10,
            park_above: 200,
            park_after: Duration::from_millis(10),
            prepared_statements_max: 16_382,
            cursor_bytes_max: 64 << 20,
        }
    }
}

impl Config {
    pub(crate) fn sweep_limits(&self) -> SweepLimits {
        SweepLimits { connect_timeout: self.connect_timeout, wait_timeout: self.wait_timeout }
    }
}

/// What all threads of a server share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) epoll: Epoll,
    /// Connections without a thread, by number.
    pub(crate) parked: Mutex<HashMap<u32, Box<Connection>>>,
    pub(crate) workers: Workers,
    /// Digests of passwords proven under salted credentials, by user.
    remembered: Mutex<HashMap<String, (Credential, [u8; 32])>>,
    /// Made when the first client asks for it: that takes a moment.
    rsa: OnceLock<Option<RsaPrivateKey>>,
}

impl Shared {
    pub(crate) fn new(config: Config, backend: Arc<dyn Backend>, epoll: Epoll) -> Self {
        let workers = Workers::new(config.stack_bytes);
        Self {
            config,
            backend,
            registry: Arc::default(),
            epoll,
            parked: Mutex::default(),
            workers,
            remembered: Mutex::default(),
            rsa: OnceLock::new(),
        }
    }
    /// How long a thread waits for a silent client.
    pub(crate) fn linger(&self) -> Duration {
        if self.registry.len() > self.config.park_above {
            self.config.park_after
        } else {
            Duration::from_secs(1)
        }
    }
    /// Leaves a connection to the reactor until its client sends something.
    pub(crate) fn park(&self, mut connection: Box<Connection>) {
        connection.shrink();
        let (entry, watched) = (Arc::clone(connection.entry()), connection.watched());
        let token = u64::from(entry.id);
        // Before it is armed: the reactor looks for it as soon as there is an event.
        self.parked.lock().insert(entry.id, connection);
        let armed = if watched {
            self.epoll.arm(&entry.socket, token)
        } else {
            self.epoll.add(&entry.socket, token, crate::sys::Watch::Once)
        };
        if let Err(error) = armed {
            tracing::warn!(connection = entry.id, %error, "a connection cannot be watched; closing it");
            let connection = self.parked.lock().remove(&entry.id);
            drop(connection);
        }
    }
}

impl Authenticator for Shared {
    fn account(&self, user: &str, host: &str) -> Option<Account> {
        self.backend.account(user, host)
    }
    fn remembered(&self, user: &str, credential: &Credential) -> Option<[u8; 32]> {
        let remembered = self.remembered.lock();
        // A digest of an earlier password must not outlive it.
        remembered.get(user).filter(|(of, _)| of == credential).map(|(_, digest)| *digest)
    }
    fn remember(&self, user: &str, credential: &Credential, digest: [u8; 32]) {
        let mut remembered = self.remembered.lock();
        if remembered.len() >= REMEMBERED_MAX && !remembered.contains_key(user) {
            remembered.clear();
        }
        remembered.insert(user.to_owned(), (credential.clone(), digest));
    }
    fn rsa_key(&self) -> Option<&RsaPrivateKey> {
        let make = || match RsaPrivateKey::new(&mut rsa::rand_core::OsRng, RSA_BITS) {
            Ok(key) => Some(key),
            Err(error) => {
                tracing::error!(%error, "no RSA key for passwords");
                None
            }
        };
        self.rsa.get_or_init(make).as_ref()
    }
}
