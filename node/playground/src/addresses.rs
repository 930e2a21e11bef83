//! Every address of a playground, and the command lines of its processes.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;

use crds::cluster::Mode;

use crate::layout::Layout;
use crate::links::Network;
use crate::ports::{self, Block, PortsError};
use crate::process::CommandLine;
use crate::topology::{Instance, StorageNode, Topology};

/// Two ports of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    /// MySQL of an instance, the volume's protocol of a storage node.
    pub(crate) serve: SocketAddr,
    /// HTTP: health, metrics, status.
    pub(crate) http: SocketAddr,
}

/// Where everything listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) cluster: Option<SocketAddr>,
    pub(crate) reader: Option<SocketAddr>,
    /// By ordinal.
    pub(crate) instances: Vec<Pair>,
    /// By id.
    pub(crate) storage: Vec<Pair>,
}

impl Addresses {
    /// Chooses ports: MySQL's from `port` on (endpoints first, then instances), the others from the block.
    pub(crate) fn choose(
        topology: &Topology,
        port: Option<u16>,
        block: &mut Block,
    ) -> Result<Addresses, PortsError> {
        let endpoints = match topology.mode {
            Mode::SingleMaster => 2,
            Mode::MultiMaster => 0,
        };
        let mysql = ports::mysql_ports(port, endpoints + topology.instances.len(), block)?;
        let (endpoint_ports, instance_ports) = mysql.split_at(endpoints);
        let mut next = || block.next().map(ports::loopback);
        let instances = instance_ports
            .iter()
            .map(|port| Ok(Pair { serve: ports::loopback(*port), http: next()? }))
            .collect::<Result<_, PortsError>>()?;
        let storage = topology
            .storage
            .iter()
            .map(|_| Ok(Pair { serve: next()?, http: next()? }))
            .collect::<Result<_, PortsError>>()?;
        let endpoint = |index: usize| endpoint_ports.get(index).copied().map(ports::loopback);
        Ok(Addresses { cluster: endpoint(0), reader: endpoint(1), instances, storage })
    }

    /// The storage nodes' addresses as a member is to use them: through its links where the network can be cut.
    fn storage_list(&self, member: &str, topology: &Topology, network: Option<&Network>) -> String {
        let address = |(pair, node): (&Pair, &StorageNode)| {
            network.and_then(|network| network.address(member, &node.name)).unwrap_or(pair.serve).to_string()
        };
        self.storage.iter().zip(&topology.storage).map(address).collect::<Vec<_>>().join(",")
    }
}

/// How a storage node is run.
pub(crate) fn storage_line(
    program: &Path,
    topology: &Topology,
    node: &StorageNode,
    addresses: &Addresses,
    layout: &Layout,
    network: Option<&Network>,
) -> CommandLine {
    let pair = addresses.storage[usize::from(node.id)];
    let options = [
        ("--id", node.id.to_string().into()),
        ("--cluster", topology.name.clone().into()),
        ("--mode", topology.mode.argument().into()),
        ("--nodes", topology.storage.len().to_string().into()),
        ("--peers", addresses.storage_list(&node.name, topology, network).into()),
        ("--data-dir", layout.storage_dir(&node.name).into_os_string()),
        ("--listen", pair.serve.to_string().into()),
        ("--http", pair.http.to_string().into()),
        ("--zone", node.zone.clone().into()),
    ];
    line(program, "storage", options)
}

/// How an instance is run.
pub(crate) fn instance_line(
    program: &Path,
    topology: &Topology,
    instance: &Instance,
    pair: Pair,
    addresses: &Addresses,
    layout: &Layout,
    cache_bytes: Option<u64>,
    network: Option<&Network>,
) -> CommandLine {
    let mut options: Vec<(&str, OsString)> = vec![
        ("--name", instance.name.clone().into()),
        ("--cluster", topology.name.clone().into()),
        ("--mode", topology.mode.argument().into()),
        ("--storage", addresses.storage_list(&instance.name, topology, network).into()),
        ("--listen", pair.serve.to_string().into()),
        ("--http", pair.http.to_string().into()),
        ("--zone", instance.zone.clone().into()),
        ("--tier", instance.tier.to_string().into()),
        ("--user", topology.user.clone().into()),
        ("--password-file", layout.password_file().into_os_string()),
        ("--database", topology.database.clone().into()),
    ];
    options.extend(cache_bytes.map(|bytes| ("--cache-bytes", bytes.to_string().into())));
    options.extend(
        topology.parameters.iter().map(|(name, value)| ("--parameter", format!("{name}={value}").into())),
    );
    line(program, "instance", options)
}

fn line<'a>(
    program: &Path,
    role: &str,
    options: impl IntoIterator<Item = (&'a str, OsString)>,
) -> CommandLine {
    let mut arguments = vec![OsString::from(role)];
    arguments.extend(options.into_iter().flat_map(|(name, value)| [OsString::from(name), value]));
    CommandLine { program: program.to_path_buf(), arguments, environment: Vec::new() }
}
