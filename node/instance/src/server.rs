//! The instance's front door: MySQL clients in, SQL sessions behind.
//!
//! [`start`] binds the protocol server of `node-mysql` and gives every connection that logs in a session of
//! `node-sql` over the instance's rows. A statement runs on the thread that has read it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use node_mysql::{Config, Credential, Server};
use node_sql::context::Instance;
use node_sql::error::{SqlError, SqlResult};
use node_sql::store::Store;
use node_sql::types::Value;
use node_sql::variables::{GlobalVariables, InstanceInfo};

mod backend;
mod host;
mod session;
mod values;

pub use host::Surroundings;
pub use node_mysql::CloseReason;

use backend::SqlBackend;
use host::ServerHost;

/// Stack of a thread that executes statements: SQLite and the translator recurse into expressions. Only what
/// has been touched takes memory.
const STACK_BYTES: usize = 8 << 20;
const _: () = assert!(STACK_BYTES >= 1 << 20, "deep expressions recurse");

/// What the server is given.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Address to listen on; port 0 for any free one.
    pub listen: String,
    /// The administrator's name.
    pub user: String,
    /// The administrator's password.
    pub password: String,
    /// Created by [`MysqlServer::create_database`].
    pub database: String,
    /// TLS for clients that ask for it.
    pub tls: Option<Arc<node_mysql::TlsConfig>>,
    /// What this instance is called.
    pub server_id: String,
    /// Its ordinal within the cluster.
    pub ordinal: u16,
    /// Multi-master mode.
    pub multi_master: bool,
    /// The cluster's `parameters`: values of variables, `max_connections` and `max_allowed_packet` among them.
    pub parameters: Vec<(String, String)>,
}

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be used.
    #[error("cannot listen on {listen}")]
    Listen {
        /// The address.
        listen: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A value among the parameters is wrong.
    #[error("the cluster's parameters are wrong")]
    Parameters {
        /// Which, and why.
        #[source]
        source: SqlError,
    },
}

/// A running server.
pub struct MysqlServer {
    server: Server,
    backend: Arc<SqlBackend>,
    database: String,
}

/// Binds and serves.
///
/// # Errors
///
/// See [`ServerError`].
pub fn start(
    config: ServerConfig,
    store: Arc<dyn Store>,
    surroundings: Arc<dyn Surroundings>,
) -> Result<MysqlServer, ServerError> {
    let listen_error = |source| ServerError::Listen { listen: config.listen.clone(), source };
    let listener = TcpListener::bind(&config.listen).map_err(listen_error)?;
    let port = listener.local_addr().map_err(listen_error)?.port();
    let variables = Arc::new(
        GlobalVariables::new(&InstanceInfo {
            server_id: config.server_id.clone(),
            hostname: config.server_id.clone(),
            port,
            number: u32::from(config.ordinal) + 1,
            multi_master: config.multi_master,
            auto_increment: store.auto_increment_step(),
            parameters: config.parameters.clone(),
        })
        .map_err(|source| ServerError::Parameters { source })?,
    );
    variables.set_read_only(!store.writable());
    let host = Arc::new(ServerHost {
        server_id: config.server_id.clone(),
        multi_master: config.multi_master,
        surroundings,
        registry: OnceLock::new(),
    });
    let instance =
        Arc::new(Instance { host: Arc::clone(&host) as Arc<_>, variables: Arc::clone(&variables) });
    let credential = Credential::from_password(&config.password);
    let backend = Arc::new(SqlBackend::new(config.user, credential, store, instance));
    let protocol = Config {
        tls: config.tls,
        connect_timeout: seconds(&variables, "connect_timeout", 10),
        net_write_timeout: seconds(&variables, "net_write_timeout", 60),
        stack_bytes: STACK_BYTES,
        ..Config::default()
    };
    let listen = config.listen;
    let server = Server::serve(listener, protocol, Arc::clone(&backend) as Arc<_>)
        .map_err(|source| ServerError::Listen { listen, source })?;
    // A client that connects before this line sees an empty process list, and nothing else.
    let _ = host.registry.set(Arc::clone(server.registry()));
    Ok(MysqlServer { server, backend, database: config.database })
}

/// A global variable that is a whole number.
fn number(variables: &GlobalVariables, name: &str) -> Option<u64> {
    match variables.get(name) {
        Ok(Value::Int(number)) => u64::try_from(number).ok(),
        Ok(Value::UInt(number)) => Some(number),
        _ => None,
    }
}

fn seconds(variables: &GlobalVariables, name: &str, otherwise: u64) -> Duration {
    Duration::from_secs(number(variables, name).unwrap_or(otherwise))
}

impl MysqlServer {
    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.server.local_addr().port()
    }
    /// The address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }
    /// How many clients are connected.
    pub fn connections(&self) -> usize {
        self.server.registry().len()
    }
    /// `@@innodb_read_only`: to be called whenever the instance becomes writer or replica.
    pub fn set_read_only(&self, read_only: bool) {
        self.backend.instance().variables.set_read_only(read_only);
    }
    /// Closes every client connection and goes on accepting: the instance is no longer the writer.
    pub fn close_all(&self, reason: CloseReason) {
        self.server.close_all(reason);
    }
    /// Creates the configured database unless it is there. For the writer, once it may write.
    ///
    /// # Errors
    ///
    /// Those of CREATE DATABASE.
    pub fn create_database(&self) -> SqlResult<()> {
        let name = self.database.replace('`', "``");
        self.backend.execute_alone(&format!("CREATE DATABASE IF NOT EXISTS `{name}`"))
    }
    /// Whether the configured database is there. For a replica.
    ///
    /// # Errors
    ///
    /// 1049 if it is not; those of reading.
    pub fn find_database(&self) -> SqlResult<()> {
        let name = self.database.replace('`', "``");
        self.backend.execute_alone(&format!("USE `{name}`"))
    }
    /// Refuses new clients, lets statements under way end within `grace`, and stops. True if all ended.
    pub fn shutdown(&self, grace: Duration) -> bool {
        let begin = Instant::now();
        let in_time = self.server.shutdown(grace);
        tracing::info!(
            in_time,
            milliseconds = begin.elapsed().as_millis() as u64,
            "the MySQL server has stopped"
        );
        in_time
    }
}
