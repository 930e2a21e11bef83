//! What a storage node is told when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;

use node_core::ids::StorageId;
use node_core::quorum::Mode;

use crate::scrub::ScrubConfig;

/// How to run one storage node.
#[derive(Clone, Debug)]
pub struct StorageConfig {
    /// Its number within the volume.
    pub id: StorageId,
    /// Where it accepts connections; port 0 takes a free one, which the status names.
    pub listen: SocketAddr,
    /// Its zone's name.
    pub zone: String,
    /// The cluster's name: connections of other clusters are refused.
    pub cluster: String,
    /// Who may write to the volume.
    pub mode: Mode,
    /// How many storage nodes the volume has: 3 or 6.
    pub nodes: usize,
    /// `host:port` of every storage node by its number; this node's own is not used. Names are resolved
    /// anew for every connection.
    pub peers: Vec<String>,
    /// Where its files are.
    pub data_dir: PathBuf,
    /// How it looks for damage on its disk.
    pub scrub: ScrubConfig,
}
