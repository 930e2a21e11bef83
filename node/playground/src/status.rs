//! What `status` shows: the JSON that programs rely on, and tables for people.

use std::fmt::Write;

use crds::cluster::Mode;
use crds::node_api::Role;
use serde::{Deserialize, Serialize};

use crate::links::CutKind;

/// A playground at one moment. The shape is relied on by others: fields are only ever added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) mode: Mode,
    /// Cluster endpoint; none in multi-master mode.
    pub(crate) cluster: Option<Address>,
    /// Reader endpoint; none in multi-master mode.
    pub(crate) reader: Option<Address>,
    pub(crate) credentials: Credentials,
    pub(crate) instances: Vec<InstanceReport>,
    pub(crate) storage: Vec<StorageReport>,
    /// Directions of the network that are cut; none if it cannot be cut (`up` without `--cuttable`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cuts: Option<Vec<CutReport>>,
}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Who to connect as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) database: String,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct InstanceReport {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) state: ProcessState,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Port of its HTTP interface, on the same host.
    pub(crate) http: u16,
    pub(crate) pid: Option<u32>,
}

/// One storage node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StorageReport {
    pub(crate) name: String,
    pub(crate) zone: String,
    pub(crate) state: ProcessState,
    pub(crate) pid: Option<u32>,
}

/// A direction that is cut: what one member sends does not reach the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CutReport {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) kind: CutKind,
}

/// What a process is doing, seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProcessState {
    /// It runs and has not yet been ready.
    Starting,
    /// It serves.
    Ready,
    /// It runs, and says that it cannot serve at the moment.
    Unready,
    /// Frozen by `pause`.
    Paused,
    /// Ended by `stop`; `start` starts it.
    Stopped,
    /// Killed, by `kill` (then `start` starts it) or by its own fault (then it is started again by itself).
    Dead,
}

impl ProcessState {
    fn word(self) -> &'static str {
        match self {
            ProcessState::Starting => "starting",
            ProcessState::Ready => "ready",
            ProcessState::Unready => "unready",
            ProcessState::Paused => "paused",
            ProcessState::Stopped => "stopped",
            ProcessState::Dead => "dead",
        }
    }
}

impl Report {
    /// Whether everything serves.
    pub(crate) fn is_ready(&self) -> bool {
        let writer = self.mode == Mode::MultiMaster || self.instances.iter().any(|i| i.role == Role::Writer);
        writer
            && self.instances.iter().all(|instance| instance.state == ProcessState::Ready)
            && self.storage.iter().all(|node| node.state == ProcessState::Ready)
    }

    /// Names of what does not serve.
    pub(crate) fn unready(&self) -> Vec<(String, ProcessState)> {
        let storage = self.storage.iter().map(|node| (node.name.clone(), node.state));
        let instances = self.instances.iter().map(|instance| (instance.name.clone(), instance.state));
        storage.chain(instances).filter(|(_, state)| *state != ProcessState::Ready).collect()
    }

    /// The endpoints, each with a line to paste into a shell.
    pub(crate) fn endpoints(&self) -> String {
        let mut rows = vec![["ENDPOINT", "ADDRESS", "CONNECT"].map(str::to_owned)];
        let mut add = |name: String, host: &str, port: u16| {
            rows.push([name, format!("{host}:{port}"), self.mysql_line(host, port)]);
        };
        if let Some(Address { host, port }) = &self.cluster {
            add("cluster (writer)".into(), host, *port);
        }
        if let Some(Address { host, port }) = &self.reader {
            add("reader (replicas)".into(), host, *port);
        }
        for instance in &self.instances {
            add(format!("{} ({})", instance.name, role_word(instance.role)), &instance.host, instance.port);
        }
        table(&rows)
    }

    /// Endpoints and processes.
    pub(crate) fn table(&self) -> String {
        let mut rows = vec![["NAME", "ROLE", "STATE", "PID", "HTTP"].map(str::to_owned)];
        let pid_text = |pid: Option<u32>| pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        for one in &self.instances {
            let http = format!("http://{}:{}", one.host, one.http);
            let role = role_word(one.role).to_owned();
            rows.push([one.name.clone(), role, one.state.word().to_owned(), pid_text(one.pid), http]);
        }
        for one in &self.storage {
            let role = format!("storage, {}", one.zone);
            rows.push([one.name.clone(), role, one.state.word().to_owned(), pid_text(one.pid), "-".into()]);
        }
        format!("{}\n{}{}", self.endpoints(), table(&rows), self.cut_table())
    }

    fn cut_table(&self) -> String {
        let cuts = self.cuts.as_deref().unwrap_or_default();
        if cuts.is_empty() {
            return String::new();
        }
        let mut rows = vec![["LOST ON THE WAY FROM", "TO", "KIND"].map(str::to_owned)];
        rows.extend(cuts.iter().map(|cut| {
            let kind = match cut.kind {
                CutKind::Silent => "silent",
                CutKind::Refusing => "refusing",
            };
            [cut.from.clone(), cut.to.clone(), kind.to_owned()]
        }));
        format!("\n{}", table(&rows))
    }

    fn mysql_line(&self, host: &str, port: u16) -> String {
        let Credentials { user, password, database } = &self.credentials;
        format!("MYSQL_PWD={password} mysql -h {host} -P {port} -u {user} {database}")
    }
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Writer => "writer",
        Role::Reader => "reader",
    }
}

/// Columns as wide as their widest cell; the last one is not padded.
fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            write!(line, "{cell:width$}  ").expect("writing to a string cannot fail");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let address = |port| Some(Address { host: "127.0.0.1".into(), port });
        Report {
            mode: Mode::SingleMaster,
            cluster: address(3306),
            reader: address(3307),
            credentials: Credentials { user: "admin".into(), password: "x".into(), database: "app".into() },
            instances: vec![InstanceReport {
                name: "shop-0".into(),
                role: Role::Writer,
                state: ProcessState::Ready,
                host: "127.0.0.1".into(),
                port: 3308,
                http: 20_001,
                pid: Some(7),
            }],
            storage: vec![StorageReport {
                name: "shop-storage-0".into(),
                zone: "zone-1".into(),
                state: ProcessState::Dead,
                pid: None,
            }],
            cuts: None,
        }
    }

    #[test]
    fn json_is_the_shape_that_programs_rely_on() {
        let json = serde_json::to_string(&report()).expect("it serialises");
        assert_eq!(
            json,
            r#"{"mode":"SingleMaster","cluster":{"host":"127.0.0.1","port":3306},"reader":{"host":"127.0.0.1","port":3307},"credentials":{"user":"admin","password":"x","database":"app"},"instances":[{"name":"shop-0","role":"writer","state":"ready","host":"127.0.0.1","port":3308,"http":20001,"pid":7}],"storage":[{"name":"shop-storage-0","zone":"zone-1","state":"dead","pid":null}]}"#
        );
    }

    #[test]
    fn cuts_are_shown_where_the_network_can_be_cut() {
        let cut = CutReport { from: "shop-0".into(), to: "shop-storage-0".into(), kind: CutKind::Silent };
        let report = Report { cuts: Some(vec![cut]), ..report() };
        let json = serde_json::to_string(&report).expect("it serialises");
        assert!(
            json.ends_with(r#","cuts":[{"from":"shop-0","to":"shop-storage-0","kind":"silent"}]}"#),
            "{json}"
        );
        assert!(report.table().contains("LOST ON THE WAY FROM  TO              KIND"), "{}", report.table());
    }

    #[test]
    fn every_endpoint_has_a_line_to_paste() {
        let text = report().endpoints();
        assert!(text.contains("MYSQL_PWD=x mysql -h 127.0.0.1 -P 3306 -u admin app"), "{text}");
        assert_eq!(text.lines().count(), 4);
    }

    #[test]
    fn one_dead_storage_node_means_not_ready_and_is_named() {
        assert!(!report().is_ready());
        assert_eq!(report().unready(), [("shop-storage-0".to_owned(), ProcessState::Dead)]);
    }
}
