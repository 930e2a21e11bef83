//! A cluster on Kubernetes, through `kubectl`: pods are deleted, in order or by force, and Kubernetes starts them
//! again. Nothing is paused or cut off there: a pod's processes cannot be reached from outside it, and a NetworkPolicy
//! works only where the network enforces it.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::super::faults::{Deed, Members, Strike, Victims};
use super::{Cluster, ClusterError, Door, Doors, persist, run};

/// How long a deleted pod may take to be there and ready again.
const POD_PATIENCE: Duration = Duration::from_secs(90);

/// How connections from here reach a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Through {
    /// Its address within the cluster, where this machine is part of the network.
    Service,
    /// A port of a node; the Services must be of type `NodePort`.
    Nodeport,
}

/// A cluster on Kubernetes.
pub(crate) struct Kubernetes {
    namespace: String,
    cluster: String,
    through: Through,
    members: Members,
}

impl Kubernetes {
    /// Looks at a cluster that is there.
    pub(crate) fn new(namespace: &str, cluster: &str, through: Through) -> Result<Kubernetes, ClusterError> {
        let (namespace, cluster) = (namespace.to_owned(), cluster.to_owned());
        let mut kubernetes = Kubernetes { namespace, cluster, through, members: Members::default() };
        let resource = kubernetes.resource()?;
        let spec = &resource["spec"];
        let count = |value: &Value, what: &str| value.as_u64().ok_or_else(|| lacks(what));
        let instances = count(&spec["instances"], "spec.instances")?;
        let nodes = count(&spec["storage"]["nodes"], "spec.storage.nodes")?;
        let name = &kubernetes.cluster;
        kubernetes.members = Members {
            instances: (0..instances).map(|ordinal| format!("{name}-{ordinal}")).collect(),
            storage: kubernetes.storage(nodes)?,
            single_master: spec["mode"] == "SingleMaster",
        };
        Ok(kubernetes)
    }

    fn kubectl(&self, words: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.args(["-n", &self.namespace]).args(words);
        command
    }

    fn json(&self, words: &[&str]) -> Result<Value, ClusterError> {
        let text = run(&mut self.kubectl(&[words, &["-o", "json"]].concat()))?;
        serde_json::from_str(&text).map_err(|_| lacks("JSON"))
    }

    fn resource(&self) -> Result<Value, ClusterError> {
        self.json(&["get", "auroracluster", &self.cluster])
    }

    /// Storage nodes and the zones of the machines that their pods run on.
    fn storage(&self, nodes: u64) -> Result<Vec<(String, String)>, ClusterError> {
        let mut zones = BTreeMap::new();
        let machines = self.json(&["get", "nodes"])?;
        for machine in items(&machines) {
            let zone = &machine["metadata"]["labels"]["topology.kubernetes.io/zone"];
            zones.insert(machine["metadata"]["name"].to_string(), zone.as_str().unwrap_or("none").to_owned());
        }
        let pod = |number| {
            let name = format!("{}-storage-{number}", self.cluster);
            let pod = self.json(&["get", "pod", &name])?;
            let zone = zones.get(&pod["spec"]["nodeName"].to_string()).cloned();
            Ok((name, zone.unwrap_or_else(|| "none".into())))
        };
        (0..nodes).map(pod).collect()
    }

    fn door(&self, service: &str) -> Result<Door, ClusterError> {
        let found = self.json(&["get", "service", service])?;
        match self.through {
            Through::Service => {
                let host = found["spec"]["clusterIP"].as_str().ok_or_else(|| lacks("clusterIP"))?;
                Ok(Door { host: host.to_owned(), port: 3306 })
            }
            Through::Nodeport => {
                let port = found["spec"]["ports"][0]["nodePort"].as_u64();
                let port = port.and_then(|port| u16::try_from(port).ok());
                let port = port.ok_or_else(|| lacks("nodePort: set spec.service.type to NodePort"))?;
                let machines = self.json(&["get", "nodes"])?;
                let addresses = items(&machines).flat_map(|one| one["status"]["addresses"].as_array());
                let host = addresses.flatten().find(|address| address["type"] == "InternalIP");
                let host = host.and_then(|address| address["address"].as_str());
                Ok(Door { host: host.ok_or_else(|| lacks("InternalIP"))?.to_owned(), port })
            }
        }
    }

    fn secret(&self, key: &str) -> Result<String, ClusterError> {
        let path = format!("{{.data.{key}}}");
        let secret = format!("{}-admin", self.cluster);
        let coded = run(&mut self.kubectl(&["get", "secret", &secret, "-o", &format!("jsonpath={path}")]))?;
        decode(coded.trim()).ok_or_else(|| lacks("credentials"))
    }

    fn mended(&self) -> Result<(), ClusterError> {
        let resource = self.resource()?;
        let conditions = resource["status"]["conditions"].as_array();
        let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
        if ready.is_some_and(|ready| ready["status"] == "True") {
            return Ok(());
        }
        Err(lacks(&format!("Ready: {}", ready.map_or("no condition".into(), Value::to_string))))
    }
}

impl Cluster for Kubernetes {
    fn members(&self) -> &Members {
        &self.members
    }

    fn doors(&self) -> Result<Doors, ClusterError> {
        let instances = self.members.instances.iter().map(|name| Ok((name.clone(), self.door(name)?)));
        let instances = instances.collect::<Result<Vec<_>, ClusterError>>()?;
        let (writers, readers) = match self.members.single_master {
            true => {
                let (cluster, reader) =
                    (format!("{}-cluster", self.cluster), format!("{}-cluster-ro", self.cluster));
                (vec![self.door(&cluster)?], vec![self.door(&reader)?])
            }
            false => (instances.iter().map(|(_, door)| door.clone()).collect(), Vec::new()),
        };
        let (user, password) = (self.secret("username")?, self.secret("password")?);
        Ok(Doors { user, password, database: self.secret("database")?, writers, readers, instances })
    }

    fn begin(&self, strike: &Strike) -> Result<Vec<String>, ClusterError> {
        let met = match &strike.victims {
            Victims::Named(names) => names.clone(),
            Victims::Partly(name, _) => name.iter().cloned().collect(),
            Victims::Writer => {
                let writer = self.resource()?["status"]["writer"].as_str().map(str::to_owned);
                writer.or_else(|| self.members.instances.first().cloned()).into_iter().collect()
            }
        };
        let manner: &[&str] = match strike.deed {
            Deed::Kill => &["--grace-period=0", "--force"],
            Deed::Stop => &[],
            Deed::Pause | Deed::Cut | Deed::CutRefusing | Deed::CutOneWay | Deed::LoseDisk => {
                return Err(ClusterError::State {
                    what: "a way to pause or cut off a pod, or lose its disk".into(),
                });
            }
        };
        let names: Vec<&str> = met.iter().map(String::as_str).collect();
        // A pod that is being replaced right now cannot be deleted; that is a fault already.
        let words =
            [&["delete", "pod", "--wait=false", "--ignore-not-found"][..], &names[..], manner].concat();
        run(&mut self.kubectl(&words))?;
        Ok(met)
    }

    fn end(&self, _strike: &Strike, met: &[String]) -> Result<(), ClusterError> {
        // Kubernetes ends it; the next fault may come once it has, so that no quorum is missing for long.
        let pods: Vec<String> = met.iter().map(|name| format!("pod/{name}")).collect();
        let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
        let words = [&["wait", "--for=condition=Ready", "--timeout=5s"][..], &pods[..]].concat();
        persist(POD_PATIENCE, || run(&mut self.kubectl(&words)).map(drop))
    }

    fn mend(&self, patience: Duration) -> Result<(), ClusterError> {
        persist(patience, || self.mended()).map_err(|error| ClusterError::NotMended {
            seconds: patience.as_secs(),
            state: error.to_string(),
        })
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn lacks(what: &str) -> ClusterError {
    ClusterError::State { what: what.to_owned() }
}

/// Base64 with its usual alphabet, as a Secret's values have it.
fn decode(text: &str) -> Option<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut held, mut bytes) = (0_u32, 0_u32, Vec::new());
    for byte in text.trim_end_matches('=').bytes() {
        let value = ALPHABET.iter().position(|letter| *letter == byte)?;
        bits = (bits << 6 | u32::try_from(value).ok()?) & 0xff_ffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_decoded() {
        assert_eq!(decode("YWRtaW4="), Some("admin".into()));
        assert_eq!(decode("YQ=="), Some("a".into()));
        assert_eq!(decode("YWI="), Some("ab".into()));
        assert_eq!(decode("U29tZXRoaW5nIGxvbmdlcj8+"), Some("Something longer?>".into()));
        assert_eq!(decode("not base64!"), None);
    }
}
