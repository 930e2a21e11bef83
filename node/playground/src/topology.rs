//! What the manifest asks for, as the playground runs it: names, zones and tiers of processes.

use std::path::{Path, PathBuf};

use crds::cluster::{AuroraClusterSpec, Mode};
use crds::manifest;
use crds::validate::{SpecError, ValidatedCluster, validate, validate_change};

/// Zones that storage nodes and instances are spread over.
const ZONES: usize = 3;
/// The database user that is made, as in the Secret of a cluster in Kubernetes.
const USER: &str = "admin";

/// Why a manifest is not run.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be read.
    #[error("cannot read the manifest {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It asks for something that is not allowed.
    #[error("{path:?} is refused:\n{}", sentences(errors))]
    Refused {
        /// The file.
        path: PathBuf,
        /// Every mistake.
        errors: Vec<SpecError>,
    },
    /// It asks for something else than the data directory holds.
    #[error(
        "{path:?} does not fit the data in {data_dir:?}:\n{}\nremove the data with `down`, or pass another --data-dir",
        sentences(errors)
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// The directory.
        data_dir: PathBuf,
        /// Every mistake.
        errors: Vec<SpecError>,
    },
}

fn sentences(errors: &[SpecError]) -> String {
    errors.iter().map(|error| format!("  {error}")).collect::<Vec<_>>().join("\n")
}

/// One cluster.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Topology {
    pub(crate) name: String,
    pub(crate) mode: Mode,
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) storage: Vec<StorageNode>,
    /// The specification it was made from.
    pub(crate) spec: AuroraClusterSpec,
}

/// One database server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    pub(crate) name: String,
    pub(crate) tier: u8,
    pub(crate) zone: String,
}

/// One replica of the volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StorageNode {
    pub(crate) name: String,
    pub(crate) id: u8,
    pub(crate) zone: String,
}

impl Topology {
    /// Reads and checks a manifest.
    pub(crate) fn read(path: &Path) -> Result<Topology, ManifestError> {
        let read_error = |source| ManifestError::Read { path: path.to_path_buf(), source };
        let text = std::fs::read_to_string(path).map_err(read_error)?;
        let refused = |errors| ManifestError::Refused { path: path.to_path_buf(), errors };
        let manifest = manifest::parse(&text).map_err(refused)?;
        let cluster = validate(&manifest).map_err(refused)?;
        Ok(Topology::new(&cluster, manifest.spec))
    }

    /// Refuses what cannot change between two runs on the same data.
    pub(crate) fn check_change(
        &self,
        path: &Path,
        data_dir: &Path,
        name: &str,
        spec: &AuroraClusterSpec,
    ) -> Result<(), ManifestError> {
        let mut errors = validate_change(spec, &self.spec).err().unwrap_or_default();
        if name != self.name {
            let message = format!("the data belongs to the cluster {name}");
            errors.push(SpecError { field: "metadata.name".into(), message });
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(ManifestError::Changed { path: path.to_path_buf(), data_dir: data_dir.to_path_buf(), errors })
    }

    fn new(cluster: &ValidatedCluster, spec: AuroraClusterSpec) -> Topology {
        let instance = |ordinal: u16| Instance {
            name: cluster.name.instance(ordinal),
            tier: cluster.tier(ordinal),
            zone: zone(usize::from(ordinal)),
        };
        let storage =
            |id: u8| StorageNode { name: cluster.name.storage_node(id), id, zone: zone(usize::from(id)) };
        Topology {
            name: cluster.name.to_string(),
            mode: cluster.mode,
            user: USER.to_owned(),
            database: cluster.database.clone(),
            parameters: cluster.parameters.clone().into_iter().collect(),
            instances: (0..cluster.instances).map(instance).collect(),
            storage: (0..cluster.storage_nodes).map(storage).collect(),
            spec,
        }
    }
}

fn zone(index: usize) -> String {
    format!("zone-{}", index % ZONES + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(spec: &str) -> Result<Topology, ManifestError> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("shop.yaml");
        let text = format!(
            "apiVersion: borealis.dev/v1alpha1\nkind: AuroraCluster\nmetadata: {{name: shop}}\nspec: {spec}\n"
        );
        std::fs::write(&path, text).expect("written");
        Topology::read(&path)
    }

    #[test]
    fn six_storage_nodes_lie_two_in_each_of_three_zones() {
        let shop = read("{mode: SingleMaster, instances: 3, promotionTiers: {shop-2: 0}}").expect("allowed");
        let zones: Vec<&str> = shop.storage.iter().map(|node| node.zone.as_str()).collect();
        assert_eq!(zones, ["zone-1", "zone-2", "zone-3", "zone-1", "zone-2", "zone-3"]);
        let tiers: Vec<u8> = shop.instances.iter().map(|instance| instance.tier).collect();
        assert_eq!(tiers, [1, 1, 0]);
    }

    #[test]
    fn wrong_manifest_is_refused_with_what_is_allowed() {
        let error = read("{instances: 0, storage: {nodes: 4}}").expect_err("refused").to_string();
        assert!(error.contains("instances must be 1 to 16"), "{error}");
        assert!(error.contains("storage.nodes must be 3 or 6"), "{error}");
    }

    #[test]
    fn mode_cannot_change_between_two_runs() {
        let (old, new) =
            (read("{mode: SingleMaster}").expect("allowed"), read("{mode: MultiMaster}").expect("allowed"));
        let (file, dir) = (Path::new("shop.yaml"), Path::new("data"));
        let error = new.check_change(file, dir, "shop", &old.spec).expect_err("refused").to_string();
        assert!(error.contains("mode cannot change"), "{error}");
        old.check_change(file, dir, "shop", &old.spec).expect("the same is fine");
    }
}
