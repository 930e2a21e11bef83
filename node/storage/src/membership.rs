//! Whether this node may vote.
//!
//! A volume forms once, from N empty disks: node 0 proposes an identity, every node makes `Forming` durable,
//! and a node becomes a `Member` when it has seen all N of them durable. So a disk that is empty although
//! some peer is a member has lost its promises.
//!
//! ```text
//! Empty ── all others empty or forming ──▶ Forming ── all others forming or members ──▶ Member
//!   └───── any other is a member or lost ──▶ Lost ◀── log damaged or gone ─────────────────┘
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use node_core::ids::StorageId;
use node_core::membership::Generation;
use node_core::quorum::Mode;
use node_core::wire::Membership;
use serde::{Deserialize, Serialize};

use crate::formats::{self, FormatError, VOLUME_FORMAT as FORMAT};

const FILE: &str = "volume.json";

/// What a node becomes, given what the other nodes say they are (`None`: no answer). `proposal` is the
/// identity node 0 gives a new volume.
pub(crate) fn next(
    own: Membership,
    id: StorageId,
    others: &[Option<Membership>],
    proposal: u64,
) -> Option<Membership> {
    let known = || others.iter().flatten();
    match own {
        Membership::Empty => {
            let lost = known().find_map(|other| match other {
                Membership::Member(volume) | Membership::Lost(volume) => Some(*volume),
                Membership::Empty | Membership::Forming(_) => None,
            });
            if let Some(volume) = lost {
                return Some(Membership::Lost(volume));
            }
            if others.iter().any(Option::is_none) {
                return None;
            }
            let forming = known().find_map(|other| match other {
                Membership::Forming(volume) => Some(*volume),
                _ => None,
            });
            match forming {
                Some(volume) => Some(Membership::Forming(volume)),
                None => (id == StorageId(0)).then_some(Membership::Forming(proposal)),
            }
        }
        Membership::Forming(volume) => {
            let formed = |other: &Option<Membership>| {
                [Membership::Forming(volume), Membership::Member(volume)].map(Some).contains(other)
            };
            others.iter().all(formed).then_some(Membership::Member(volume))
        }
        Membership::Member(_) | Membership::Lost(_) => None,
    }
}

/// The membership file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// It cannot be read or written.
    #[error("failed to {action} {path:?}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// It is not what was written.
    #[error("{path:?} is damaged: {reason}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The disk is another node's, or the volume has another shape.
    #[error("{path:?} belongs to {found}, but this is {wanted}")]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who reads it.
        wanted: String,
    },
    /// A newer build wrote it.
    #[error("the disk has a format that this build does not read")]
    Format {
        /// Which, and what to do.
        #[source]
        source: FormatError,
    },
}

/// What the file says besides the membership; must be the same at every start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) cluster: String,
    pub(crate) id: StorageId,
    pub(crate) nodes: usize,
    pub(crate) mode: Mode,
}

impl Place {
    fn describe(&self) -> String {
        let mode = mode_name(self.mode);
        format!("storage node {} of {} of the {mode} cluster {}", self.id.0, self.nodes, self.cluster)
    }
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::SingleMaster => "single-master",
        Mode::MultiMaster => "multi-master",
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    format: u32,
    cluster: String,
    node: u8,
    nodes: usize,
    mode: String,
    membership: String,
    /// Hexadecimal, since JSON numbers do not hold 64 bits everywhere.
    volume: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    /// Hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disk: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checked {
    content: Content,
    crc32c: u32,
}

/// Reads the membership and the disk's generation from the data directory; `None` if there is no file.
pub(crate) fn load(dir: &Path, place: &Place) -> Result<Option<(Membership, Generation)>, MembershipError> {
    let path = dir.join(FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(MembershipError::Io { action: "read", path, source }),
    };
    formats::check_volume(&path, &bytes).map_err(|source| MembershipError::Format { source })?;
    let damaged = |reason: String| match formats::volume_is_intact(&bytes) {
        // Not what the disk lost, but what this build does not know.
        true => {
            let source = FormatError::Unreadable { path: path.clone(), reason, supported: FORMAT };
            MembershipError::Format { source }
        }
        false => MembershipError::Damaged { path: path.clone(), reason },
    };
    let Checked { content, crc32c } =
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if checksum(&content) != crc32c {
        return Err(damaged("its checksum is wrong".to_owned()));
    }
    let Content { format, cluster, node, nodes, mode, membership, volume, generation, disk } = content;
    if format > FORMAT {
        return Err(damaged(format!("format {format} is not supported")));
    }
    let found = format!("storage node {node} of {nodes} of the {mode} cluster {cluster}");
    if found != place.describe() {
        return Err(MembershipError::Foreign { path, found, wanted: place.describe() });
    }
    let volume = u64::from_str_radix(&volume, 16).map_err(|error| damaged(error.to_string()))?;
    let disk = disk.map_or(Ok(0), |disk| u64::from_str_radix(&disk, 16));
    let disk = disk.map_err(|error| damaged(error.to_string()))?;
    let generation = Generation { number: generation.unwrap_or(0), disk };
    let membership = match membership.as_str() {
        "empty" => Membership::Empty,
        "forming" => Membership::Forming(volume),
        "member" => Membership::Member(volume),
        "lost" => Membership::Lost(volume),
        other => return Err(damaged(format!("unknown membership {other}"))),
    };
    Ok(Some((membership, generation)))
}

/// Replaces the file, atomically and durably.
pub(crate) fn store(
    dir: &Path,
    place: &Place,
    membership: Membership,
    generation: Generation,
) -> Result<(), MembershipError> {
    let (name, volume) = match membership {
        Membership::Empty => ("empty", 0),
        Membership::Forming(volume) => ("forming", volume),
        Membership::Member(volume) => ("member", volume),
        Membership::Lost(volume) => ("lost", volume),
    };
    let content = Content {
        format: FORMAT,
        cluster: place.cluster.clone(),
        node: place.id.0,
        nodes: place.nodes,
        mode: mode_name(place.mode).to_owned(),
        membership: name.to_owned(),
        volume: format!("{volume:016x}"),
        generation: Some(generation.number),
        disk: Some(format!("{:016x}", generation.disk)),
    };
    let crc32c = checksum(&content);
    let bytes = serde_json::to_vec_pretty(&Checked { content, crc32c }).expect("plain data becomes JSON");
    let path = dir.join(FILE);
    let temporary = dir.join("volume.json.new");
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|source| MembershipError::Io { action: "write", path: path.clone(), source })
}

fn checksum(content: &Content) -> u32 {
    crc32c::crc32c(&serde_json::to_vec(content).expect("plain data becomes JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Membership::{Empty, Forming, Lost, Member};

    fn place() -> Place {
        Place { cluster: "shop".to_owned(), id: StorageId(1), nodes: 3, mode: Mode::SingleMaster }
    }

    #[test]
    fn a_volume_forms_only_when_every_node_has_answered() {
        assert_eq!(next(Empty, StorageId(0), &[Some(Empty), None], 7), None);
        assert_eq!(next(Empty, StorageId(0), &[Some(Empty), Some(Empty)], 7), Some(Forming(7)));
        assert_eq!(next(Empty, StorageId(1), &[Some(Empty), Some(Empty)], 7), None);
        assert_eq!(next(Empty, StorageId(1), &[Some(Forming(7)), None], 9), None);
        assert_eq!(next(Empty, StorageId(1), &[Some(Forming(7)), Some(Empty)], 9), Some(Forming(7)));
        assert_eq!(next(Forming(7), StorageId(1), &[Some(Forming(7)), Some(Empty)], 9), None);
        assert_eq!(next(Forming(7), StorageId(1), &[Some(Forming(7)), Some(Forming(7))], 9), Some(Member(7)));
        assert_eq!(next(Forming(7), StorageId(1), &[Some(Member(7)), Some(Forming(7))], 9), Some(Member(7)));
    }

    #[test]
    fn an_empty_disk_in_an_existing_volume_is_lost_for_good() {
        assert_eq!(next(Empty, StorageId(0), &[None, Some(Member(7))], 9), Some(Lost(7)));
        assert_eq!(next(Empty, StorageId(2), &[Some(Lost(7)), Some(Empty)], 9), Some(Lost(7)));
        assert_eq!(next(Lost(7), StorageId(2), &[Some(Empty), Some(Empty)], 9), None);
    }

    #[test]
    fn a_node_that_lost_its_disk_while_forming_takes_the_identity_it_gave() {
        assert_eq!(next(Empty, StorageId(0), &[Some(Forming(7)), Some(Empty)], 9), Some(Forming(7)));
    }

    #[test]
    fn nodes_of_two_volumes_never_become_members_of_one() {
        assert_eq!(next(Forming(7), StorageId(1), &[Some(Forming(8)), Some(Forming(7))], 9), None);
        assert_eq!(next(Forming(7), StorageId(1), &[Some(Member(8)), Some(Forming(7))], 9), None);
    }

    #[test]
    fn the_file_gives_back_what_was_stored() {
        let dir = tempfile::tempdir().expect("temp dir");
        assert!(matches!(load(dir.path(), &place()), Ok(None)));
        for membership in [Empty, Forming(u64::MAX), Member(1), Lost(0)] {
            let generation = Generation { number: 3, disk: u64::MAX };
            store(dir.path(), &place(), membership, generation).expect("store");
            assert_eq!(load(dir.path(), &place()).expect("load"), Some((membership, generation)));
        }
    }

    #[test]
    fn a_changed_file_and_another_nodes_file_are_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        store(dir.path(), &place(), Lost(5), Generation::default()).expect("store");
        let other = Place { id: StorageId(2), ..place() };
        assert!(matches!(load(dir.path(), &other), Err(MembershipError::Foreign { .. })));
        let other = Place { mode: Mode::MultiMaster, ..place() };
        assert!(matches!(load(dir.path(), &other), Err(MembershipError::Foreign { .. })));
        let path = dir.path().join(FILE);
        let text = std::fs::read_to_string(&path).expect("read");
        std::fs::write(&path, text.replace("lost", "member")).expect("write");
        assert!(matches!(load(dir.path(), &place()), Err(MembershipError::Damaged { .. })));
    }
}
