//! What SQL may know of the process around it.

use std::sync::{Arc, OnceLock};

use node_mysql::Registry;
use node_sql::context::{Host, ProcessInfo, ReplicaHostStatus};
use node_sql::error::SqlResult;

/// What the server does not know itself: the cluster.
pub trait Surroundings: Send + Sync + 'static {
    /// Every instance of the cluster, for `information_schema.replica_host_status`.
    fn replicas(&self) -> Vec<ReplicaHostStatus>;
    /// Rows of SHOW GLOBAL STATUS: `(name, value)`.
    fn status(&self) -> Vec<(String, String)>;
    /// `ALTER SYSTEM …`: the text behind it.
    ///
    /// # Errors
    ///
    /// 1235 for what is not known.
    fn alter_system(&self, command: &str) -> SqlResult<()>;
}

/// Answers SQL's questions from the connections and the surroundings.
pub(super) struct ServerHost {
    pub(super) server_id: String,
    pub(super) multi_master: bool,
    pub(super) surroundings: Arc<dyn Surroundings>,
    /// Known as soon as the server is bound.
    pub(super) registry: OnceLock<Arc<Registry>>,
}

impl Host for ServerHost {
    fn server_id(&self) -> String {
        self.server_id.clone()
    }
    fn multi_master(&self) -> bool {
        self.multi_master
    }
    fn processes(&self) -> Vec<ProcessInfo> {
        let all = self.registry.get().map(|registry| registry.processes()).unwrap_or_default();
        all.into_iter().map(process).collect()
    }
    fn replicas(&self) -> Vec<ReplicaHostStatus> {
        self.surroundings.replicas()
    }
    fn kill(&self, id: u64, connection: bool) -> bool {
        let (Some(registry), Ok(id)) = (self.registry.get(), u32::try_from(id)) else { return false };
        if connection { registry.kill_connection(id) } else { registry.kill_query(id) }
    }
    fn alter_system(&self, command: &str) -> SqlResult<()> {
        self.surroundings.alter_system(command)
    }
    fn status(&self) -> Vec<(String, String)> {
        let mut all = self.surroundings.status();
        if let Some(registry) = self.registry.get() {
            let running = registry.processes().iter().filter(|process| process.command != "Sleep").count();
            all.push(("Threads_connected".to_owned(), registry.len().to_string()));
            all.push(("Threads_running".to_owned(), running.to_string()));
            all.push(("Connections".to_owned(), registry.accepted().to_string()));
        }
        all
    }
}

fn process(of: node_mysql::ProcessInfo) -> ProcessInfo {
    ProcessInfo {
        id: of.id.into(),
        user: of.user,
        host: of.host,
        database: of.database,
        command: of.command.to_owned(),
        seconds: of.time.as_secs(),
        info: of.info,
    }
}
