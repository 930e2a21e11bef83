//! JSON of a node's HTTP interface: the only contract between a node and the operator or the playground.
//!
//! - `GET /v1/status` answers one [`NodeStatus`].
//! - `GET /v1/status?watch` answers `application/x-ndjson`: the present [`NodeStatus`] at once, then one more,
//!   each on a line of its own, whenever something but a lag or a position has changed, and at least every
//!   [`WATCH_HEARTBEAT_SECONDS`] even if nothing has. A reader that hears nothing for
//!   [`WATCH_SILENCE_SECONDS`] takes the node for unreachable.
//! - `POST /v1/resign` with a [`ResignRequest`], on the writer of a single-master cluster: it finishes what is
//!   in flight and hands over. `202` once it has begun; `409` where the instance is not the writer.
//!   Credentials: HTTP basic authentication as the administrator.
//!
//! Unknown fields are ignored and absent ones get their defaults, so that either side may be upgraded first.

use serde::{Deserialize, Serialize};

use crate::cluster::Mode;

/// Port of the HTTP interface inside a pod.
pub const HTTP_PORT: u16 = 8080;
/// Port of the MySQL protocol inside a pod.
pub const MYSQL_PORT: u16 = 3306;
/// Port on which storage nodes serve instances and each other, inside a pod.
pub const STORAGE_PORT: u16 = 7400;
/// Longest time between two lines of a watched status.
pub const WATCH_HEARTBEAT_SECONDS: u64 = 2;
/// Silence after which a watcher gives the connection up.
pub const WATCH_SILENCE_SECONDS: u64 = 7;
const _: () = assert!(WATCH_SILENCE_SECONDS > 3 * WATCH_HEARTBEAT_SECONDS, "two lost lines are no silence");

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NodeStatus {
    /// A database server.
    Instance(InstanceStatus),
    /// A storage node.
    Storage(StorageStatus),
}

/// What an instance says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceStatus {
    /// Its name, such as `shop-0`: `@@aurora_server_id`.
    pub name: String,
    /// The number at the end of the name.
    pub ordinal: u16,
    /// This run of the process: hexadecimal, random, never reused.
    pub run: String,
    /// Whether it may write.
    pub role: Role,
    /// The cluster's mode.
    pub mode: Mode,
    /// Epoch of the seat it holds; of the newest writer it knows where it holds none. 0: it knows of none.
    pub epoch: u64,
    /// What it is doing.
    pub state: InstanceState,
    /// Whether it takes statements: what `/readyz` says.
    pub ready: bool,
    /// How far it has applied each seat's transactions.
    pub applied: Vec<SeatPosition>,
    /// How far it lags behind the writer, in milliseconds. Absent on a writer and where it is not known.
    pub lag_ms: Option<f64>,
    /// Its zone, where it was told.
    pub zone: Option<String>,
    /// Name of the instance that it takes for the writer (single-master mode).
    pub writer: Option<String>,
    /// How it became the writer, if it is the writer (single-master mode).
    pub takeover: Option<Takeover>,
    /// Promotion tier, 0 (first) to 15 (single-master mode).
    pub tier: u8,
    /// Client connections open.
    pub connections: u64,
}

/// What a storage node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageStatus {
    /// Its name, such as `shop-storage-0`.
    pub name: String,
    /// Its number in the volume, from 0.
    pub id: u8,
    /// This run of the process: hexadecimal, random, never reused.
    pub run: String,
    /// Its zone, where it was told.
    pub zone: Option<String>,
    /// Number of its membership; grows each time it is readmitted after it lost its disk.
    pub membership: u64,
    /// Whether it may vote. Not before it is (re)admitted.
    pub voting: bool,
    /// Whether it has settled which storage nodes make up the volume and holds what they decided.
    pub settled: bool,
    /// What `/readyz` says.
    pub ready: bool,
    /// Who holds each seat, as far as this node knows.
    pub seats: Vec<SeatStatus>,
    /// Storage nodes that it is connected to, itself not counted.
    pub peers: u8,
    /// Why it takes no writes at present, such as a full disk: a sentence for a person.
    pub refusing: Option<String>,
    /// Its search for damage on its disk.
    pub scrub: ScrubStatus,
}

/// A storage node's search for damage on its disk, since its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScrubStatus {
    /// What it is doing: `waiting`, `log`, `tables` or `rows`.
    pub stage: String,
    /// Passes completed.
    pub passes: u64,
    /// Bytes read again and compared.
    pub bytes: u64,
    /// Damaged files and ranges of rows found here.
    pub damaged: u64,
    /// Rows rewritten from what most storage nodes have.
    pub rows_repaired: u64,
    /// What was found last, for a person.
    pub last_finding: Option<String>,
}

/// One seat of the volume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SeatStatus {
    /// The seat: an instance's ordinal in multi-master mode, 0 in single-master mode.
    pub seat: u16,
    /// Its newest epoch.
    pub epoch: u64,
    /// The run that took it: hexadecimal.
    pub run: String,
    /// Whether that run is connected to this node.
    pub active: bool,
}

/// A place in a seat's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SeatPosition {
    /// The seat.
    pub seat: u16,
    /// The stream's epoch.
    pub epoch: u64,
    /// The last transaction applied.
    pub seq: u64,
}

/// How a writer came to be one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Takeover {
    /// The writer before it, where known.
    pub from: Option<String>,
    /// Why it took over.
    pub reason: TakeoverReason,
    /// From noticing that the writer was gone to accepting writes, in milliseconds.
    pub milliseconds: f64,
}

/// Why an instance became the writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TakeoverReason {
    /// There was no writer: the cluster has just started.
    #[default]
    FirstStart,
    /// The writer resigned.
    Resigned,
    /// The writer's connections broke.
    Disconnected,
    /// The writer fell silent.
    Silent,
}

/// Whether an instance may write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It may. In multi-master mode every instance may.
    Writer,
    /// It may not.
    #[default]
    Reader,
}

/// What an instance is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// It looks for a read quorum of storage nodes, or for the newest snapshot.
    #[default]
    Starting,
    /// It is taking a seat: opens the volume and resolves what was left undecided.
    Recovering,
    /// It serves statements.
    Available,
    /// It cannot reach a quorum of storage nodes.
    Isolated,
    /// It finishes what is in flight and will exit.
    Stopping,
}

/// Body of `POST /v1/resign`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResignRequest {
    /// The instance that shall take over; absent: the one with the best promotion tier.
    pub to: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_status_is_flat_json_with_its_kind() {
        let status = NodeStatus::Instance(InstanceStatus {
            name: "shop-0".into(),
            role: Role::Writer,
            mode: Mode::SingleMaster,
            epoch: 3,
            ..Default::default()
        });
        let json = serde_json::to_value(&status).expect("plain data serialises");
        assert_eq!(json["kind"], "instance");
        assert_eq!(json["role"], "writer");
        assert_eq!(json["mode"], "SingleMaster");
        assert_eq!(json["state"], "starting");
        assert_eq!(serde_json::from_value::<NodeStatus>(json).expect("it reads its own output"), status);
    }

    #[test]
    fn unknown_fields_are_ignored_and_absent_ones_get_defaults() {
        let status: NodeStatus = serde_json::from_str(r#"{"kind":"storage","id":4,"from_the_future":[1]}"#)
            .expect("it is tolerant");
        let NodeStatus::Storage(status) = status else { panic!("the kind says storage") };
        assert_eq!((status.id, status.voting), (4, false));
    }
}
