//! A playground, through its own commands.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::super::faults::{Deed, Members, Strike, Victims};
use super::{Cluster, ClusterError, Door, Doors, persist, run, run_all};

/// How long a process that is ending may keep its start from being accepted.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// How to start one.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    /// The program `borealis-node`.
    pub(crate) node: PathBuf,
    pub(crate) single_master: bool,
    pub(crate) instances: u16,
    pub(crate) storage_nodes: u8,
    /// Its network can be cut.
    pub(crate) cuttable: bool,
    pub(crate) cache_bytes: Option<u64>,
}

/// A playground that this process has started, or found.
pub(crate) struct Playground {
    node: PathBuf,
    data: PathBuf,
    members: Members,
    cuttable: bool,
    started: bool,
    /// Removed when it is dropped; none if the user named the directory.
    _dir: Option<tempfile::TempDir>,
}

impl Playground {
    /// Starts a playground in a temporary directory.
    pub(crate) fn start(form: &Form) -> Result<Playground, ClusterError> {
        let system = std::env::temp_dir();
        let dir = tempfile::tempdir().map_err(|source| ClusterError::Write { path: system, source })?;
        let file = dir.path().join("cluster.yaml");
        let mode = if form.single_master { "SingleMaster" } else { "MultiMaster" };
        let (instances, nodes) = (form.instances, form.storage_nodes);
        let manifest = format!(
            "apiVersion: borealis.dev/v1alpha1\nkind: AuroraCluster\nmetadata: {{name: check}}\nspec:\n  \
             mode: {mode}\n  instances: {instances}\n  storage: {{nodes: {nodes}, size: 1Gi}}\n  database: app\n"
        );
        std::fs::write(&file, manifest)
            .map_err(|source| ClusterError::Write { path: file.clone(), source })?;
        let data = dir.path().join("data");
        let mut up = Command::new(&form.node);
        up.args(["playground", "up", "--port", "0", "--detach", "-f"]).arg(&file);
        up.arg("--data-dir").arg(&data);
        if form.cuttable {
            up.arg("--cuttable");
        }
        if let Some(bytes) = form.cache_bytes {
            up.arg("--cache-bytes").arg(bytes.to_string());
        }
        run(&mut up)?;
        Playground::at(&form.node, &data, true, Some(dir))
    }

    /// A playground that runs already, in a directory.
    pub(crate) fn attach(node: &Path, data: &Path) -> Result<Playground, ClusterError> {
        Playground::at(node, data, false, None)
    }

    fn at(
        node: &Path,
        data: &Path,
        started: bool,
        dir: Option<tempfile::TempDir>,
    ) -> Result<Playground, ClusterError> {
        let (node, data) = (node.to_path_buf(), data.to_path_buf());
        let members = Members::default();
        let mut playground = Playground { node, data, members, cuttable: false, started, _dir: dir };
        let state = playground.state()?;
        playground.members = members_of(&state)?;
        playground.cuttable = state["cuts"].is_array();
        Ok(playground)
    }

    /// Whether its network can be cut.
    pub(crate) fn is_cuttable(&self) -> bool {
        self.cuttable
    }

    /// Keeps it running, and its directory.
    pub(crate) fn keep(mut self) -> PathBuf {
        self.started = false;
        if let Some(dir) = self._dir.take() {
            let _kept = dir.keep();
        }
        self.data.clone()
    }

    /// Where the processes' logs are.
    pub(crate) fn logs(&self) -> PathBuf {
        self.data.join("logs")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.node);
        command.arg("playground").args(words).arg("--data-dir").arg(&self.data);
        command
    }

    fn state(&self) -> Result<Value, ClusterError> {
        let text = run(&mut self.command(&["status", "-o", "json"]))?;
        serde_json::from_str(&text).map_err(|_| lacks("JSON"))
    }

    fn each(&self, verb: &str, names: &[String]) -> Result<(), ClusterError> {
        run_all(names.iter().map(|name| self.command(&[verb, name])).collect())
    }

    /// Kills storage nodes and removes what they have stored, if all the others have all of it.
    fn lose_disks(&self, names: &[String]) -> Result<(), ClusterError> {
        let whole = all(&self.state()?, "storage").all(|one| one["state"] == "ready");
        self.each("kill", names)?;
        for path in names.iter().filter(|_| whole).map(|name| self.data.join("storage").join(name)) {
            std::fs::remove_dir_all(&path).map_err(|source| ClusterError::Write { path, source })?;
        }
        Ok(())
    }

    fn writer(&self) -> Result<String, ClusterError> {
        let state = self.state()?;
        let found = all(&state, "instances").find(|one| one["role"] == "writer").and_then(name);
        // Between two writers somebody else is as good a victim.
        found.or_else(|| self.members.instances.first().cloned()).ok_or_else(|| lacks("instances"))
    }

    fn mend_once(&self) -> Result<(), ClusterError> {
        if self.cuttable {
            run(&mut self.command(&["heal"]))?;
        }
        let state = self.state()?;
        for one in all(&state, "instances").chain(all(&state, "storage")) {
            let name = name(one).ok_or_else(|| lacks("names"))?;
            match one["state"].as_str() {
                Some("paused") => drop(run(&mut self.command(&["resume", &name]))?),
                Some("stopped" | "dead") => drop(run(&mut self.command(&["start", &name]))?),
                _ => {}
            }
        }
        let state = self.state()?;
        let writes =
            state["cluster"].is_null() || all(&state, "instances").any(|one| one["role"] == "writer");
        let idle: Vec<String> = all(&state, "instances")
            .chain(all(&state, "storage"))
            .filter(|one| one["state"] != "ready")
            .map(|one| format!("{} is {}", one["name"], one["state"]))
            .collect();
        if idle.is_empty() && writes {
            return Ok(());
        }
        Err(ClusterError::State { what: format!("what serves: {}; a writer: {writes}", idle.join(", ")) })
    }
}

impl Cluster for Playground {
    fn members(&self) -> &Members {
        &self.members
    }

    fn doors(&self) -> Result<Doors, ClusterError> {
        let state = self.state()?;
        let text = |key: &str| {
            let found = state["credentials"][key].as_str().map(str::to_owned);
            found.ok_or_else(|| lacks(key))
        };
        let instances =
            all(&state, "instances").map(|one| Ok((name(one).ok_or_else(|| lacks("names"))?, door(one)?)));
        let instances = instances.collect::<Result<Vec<_>, ClusterError>>()?;
        let (writers, readers) = match (&state["cluster"], &state["reader"]) {
            (Value::Null, _) => (instances.iter().map(|(_, door)| door.clone()).collect(), Vec::new()),
            (cluster, reader) => (vec![door(cluster)?], vec![door(reader)?]),
        };
        let (user, password, database) = (text("user")?, text("password")?, text("database")?);
        Ok(Doors { user, password, database, writers, readers, instances })
    }

    fn begin(&self, strike: &Strike) -> Result<Vec<String>, ClusterError> {
        let met = match &strike.victims {
            Victims::Named(names) => names.clone(),
            Victims::Writer | Victims::Partly(None, _) => vec![self.writer()?],
            Victims::Partly(Some(name), _) => vec![name.clone()],
        };
        let cut: &[&str] = match strike.deed {
            Deed::Kill => return self.each("kill", &met).map(|()| met),
            Deed::Stop => return self.each("stop", &met).map(|()| met),
            Deed::LoseDisk => return self.lose_disks(&met).map(|()| met),
            Deed::Pause => return self.each("pause", &met).map(|()| met),
            Deed::Cut => &[],
            Deed::CutRefusing => &["--refuse"],
            Deed::CutOneWay => &["--one-way"],
        };
        let pairs: Vec<Vec<&str>> = match &strike.victims {
            Victims::Partly(_, others) => {
                others.iter().map(|other| vec![met[0].as_str(), other.as_str()]).collect()
            }
            Victims::Named(_) | Victims::Writer => met.iter().map(|name| vec![name.as_str()]).collect(),
        };
        let commands = pairs.iter().map(|pair| self.command(&[&["cut"][..], &pair[..], cut].concat()));
        run_all(commands.collect())?;
        Ok(met)
    }

    fn end(&self, strike: &Strike, met: &[String]) -> Result<(), ClusterError> {
        match strike.deed {
            Deed::Kill | Deed::Stop | Deed::LoseDisk => persist(START_PATIENCE, || self.each("start", met)),
            Deed::Pause => self.each("resume", met),
            Deed::Cut | Deed::CutRefusing | Deed::CutOneWay => self.each("heal", met),
        }
    }

    fn mend(&self, patience: Duration) -> Result<(), ClusterError> {
        persist(patience, || self.mend_once()).map_err(|error| ClusterError::NotMended {
            seconds: patience.as_secs(),
            state: error.to_string(),
        })
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        if self.started {
            // What does not end now is killed by the kernel when its supervisor ends.
            let _ = run(&mut self.command(&["down"]));
        }
    }
}

fn members_of(state: &Value) -> Result<Members, ClusterError> {
    let instances = all(state, "instances").filter_map(name).collect();
    let storage = all(state, "storage").map(|one| {
        let zone = one["zone"].as_str().map(str::to_owned);
        name(one).zip(zone).ok_or_else(|| lacks("zones"))
    });
    let storage = storage.collect::<Result<_, _>>()?;
    Ok(Members { instances, storage, single_master: !state["cluster"].is_null() })
}

fn all<'a>(state: &'a Value, kind: &str) -> impl Iterator<Item = &'a Value> {
    state[kind].as_array().into_iter().flatten()
}

fn name(one: &Value) -> Option<String> {
    one["name"].as_str().map(str::to_owned)
}

fn door(one: &Value) -> Result<Door, ClusterError> {
    let host = one["host"].as_str().ok_or_else(|| lacks("hosts"))?.to_owned();
    let port =
        one["port"].as_u64().and_then(|port| u16::try_from(port).ok()).ok_or_else(|| lacks("ports"))?;
    Ok(Door { host, port })
}

fn lacks(what: &str) -> ClusterError {
    ClusterError::State { what: what.to_owned() }
}
