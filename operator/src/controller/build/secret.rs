//! The administrator's Secret, made only where there is none.

use crds::cluster::Mode;
use crds::names::ClusterName;
use crds::node_api::MYSQL_PORT;
use crds::validate::ValidatedCluster;
use serde_json::json;

use super::{Object, Owner, metadata, object};
use crate::children::Kind;

/// Name of the user that the operator chooses.
const USER: &str = "admin";

/// The Secret, with everything that an application needs to connect.
pub(crate) fn secret(want: &ValidatedCluster, owner: &Owner, password: &str) -> Object {
    let service = match want.mode {
        Mode::SingleMaster => want.name.cluster_endpoint(),
        Mode::MultiMaster => want.name.instance(0),
    };
    let host = ClusterName::host(&service, &owner.namespace);
    let database = &want.database;
    let data = json!({
        "type": "Opaque",
        "stringData": {
            "username": USER,
            "password": password,
            "host": host,
            "port": MYSQL_PORT.to_string(),
            "database": database,
            "uri": format!("mysql://{USER}:{password}@{host}:{MYSQL_PORT}/{database}"),
        }
    });
    object(Kind::Secret, "v1", metadata(owner, &want.name, &want.secret_name, &[]), data)
}
