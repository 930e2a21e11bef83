use std::collections::BTreeMap;

use node_core::ids::StorageId;
use node_core::membership::Generation;
use node_core::quorum::Mode;
use node_core::wire::Membership;

use super::*;
use crate::accept_log::{AcceptLog, SEGMENT_BYTES};
use crate::membership::{self, MembershipError, Place};
use crate::rows::{RowStore, RowsError};

/// What version 1 wrote. It must be read for ever.
const VOLUME_1: &str = r#"{
  "content": {
    "format": 1,
    "cluster": "shop",
    "node": 1,
    "nodes": 3,
    "mode": "single-master",
    "membership": "member",
    "volume": "00000000075bcd15"
  },
  "crc32c": 3867225214
}"#;

/// What version 2 writes: with the disk's generation.
const VOLUME_2: &str = r#"{
  "content": {
    "format": 2,
    "cluster": "shop",
    "node": 1,
    "nodes": 3,
    "mode": "single-master",
    "membership": "member",
    "volume": "00000000075bcd15",
    "generation": 3,
    "disk": "00000000000000ff"
  },
  "crc32c": 3753648888
}"#;

fn place() -> Place {
    Place { cluster: "shop".to_owned(), id: StorageId(1), nodes: 3, mode: Mode::SingleMaster }
}

/// The file of any format, as every format writes its envelope.
fn volume(content: &str) -> String {
    let compact: String = content.split_whitespace().collect();
    format!("{{ \"content\": {content},\n \"crc32c\": {} }}", crc32c::crc32c(compact.as_bytes()))
}

/// Every file below, with its content.
pub(crate) fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).expect("a file"));
        }
    }
    found
}

#[test]
fn the_volume_file_of_version_1_is_read() {
    let dir = tempfile::tempdir().expect("temp dir");
    std::fs::write(dir.path().join("volume.json"), VOLUME_1).expect("write");
    let loaded = membership::load(dir.path(), &place()).expect("version 1 is read");
    assert_eq!(loaded, Some((Membership::Member(123_456_789), Generation::default())));
}

#[test]
fn the_volume_file_of_version_2_is_read_and_its_bytes_are_pinned() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (member, generation) = (Membership::Member(123_456_789), Generation { number: 3, disk: 255 });
    membership::store(dir.path(), &place(), member, generation).expect("store");
    let stored = std::fs::read_to_string(dir.path().join("volume.json")).expect("read");
    assert_eq!(stored, VOLUME_2);
    let loaded = membership::load(dir.path(), &place()).expect("version 2 is read");
    assert_eq!(loaded, Some((member, generation)));
}

#[test]
fn a_newer_volume_file_is_refused_with_both_versions_whatever_else_it_says() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("volume.json");
    let newer = VOLUME_FORMAT + 1;
    let content = r#"{"format": F, "note": {"crc32c": ["a\"b", 1]}, "generations": []}"#;
    std::fs::write(&path, volume(&content.replace('F', &newer.to_string()))).expect("write");
    let error = check(dir.path()).expect_err("it is newer");
    let said = error.to_string();
    assert!(said.contains(&format!("format {newer}")), "{said}");
    assert!(said.contains(&format!("up to {VOLUME_FORMAT}")), "{said}");
    assert!(said.contains("run that version"), "{said}");
    let loaded = membership::load(dir.path(), &place());
    assert!(matches!(loaded, Err(MembershipError::Format { .. })), "{loaded:?}");
}

#[test]
fn an_intact_volume_file_that_is_not_understood_is_never_taken_for_damaged() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("volume.json");
    let known = r#"{"format": 1, "cluster": "shop", "node": 1, "nodes": 3, "mode": "single-master", "membership": "M", "volume": "1" X}"#;
    for (membership, more) in [("joining", ""), ("member", ", \"weight\": 3")] {
        let content = known.replace('M', membership).replace(" X", more);
        std::fs::write(&path, volume(&content)).expect("write");
        let loaded = membership::load(dir.path(), &place());
        assert!(matches!(loaded, Err(MembershipError::Format { .. })), "{content}: {loaded:?}");
    }
}

#[test]
fn a_damaged_volume_file_is_not_taken_for_a_newer_one() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("volume.json");
    for at in 0..VOLUME_1.len() {
        for bit in 0..8 {
            let mut bytes = VOLUME_1.as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            std::fs::write(&path, &bytes).expect("write");
            check(dir.path()).unwrap_or_else(|error| panic!("bit {bit} of byte {at}: {error}"));
            let loaded = membership::load(dir.path(), &place());
            // A flipped bit in white space may change nothing.
            assert!(
                matches!(loaded, Err(MembershipError::Damaged { .. }) | Ok(Some((Membership::Member(_), _)))),
                "bit {bit} of byte {at}: {loaded:?}"
            );
        }
    }
}

#[test]
fn a_segment_of_a_newer_log_is_refused_and_nothing_is_changed() {
    let dir = tempfile::tempdir().expect("temp dir");
    let log = dir.path().join("log");
    let mut open = AcceptLog::open(&log, SEGMENT_BYTES, &mut |_| ()).expect("open");
    open.begin_segment(&[]).expect("begin");
    drop(open);
    std::fs::write(log.join("spare-0000000000000009-new.log"), "half").expect("write");
    let segment = log.join("accept-0000000000000001.log");
    let mut bytes = std::fs::read(&segment).expect("read");
    bytes[..8].copy_from_slice(format!("BORLOG{:02}", LOG_FORMAT + 1).as_bytes());
    let checksum = crc32c::crc32c(&bytes[..24]);
    bytes[24..28].copy_from_slice(&checksum.to_le_bytes());
    std::fs::write(&segment, &bytes).expect("write");
    let before = files(dir.path());
    let error = check(dir.path()).expect_err("it is newer").to_string();
    assert!(error.contains(&format!("format {}", LOG_FORMAT + 1)), "{error}");
    let opened = AcceptLog::open(&log, SEGMENT_BYTES, &mut |_| ());
    assert!(matches!(opened.map(drop), Err(LogError::Newer { found, .. }) if found == LOG_FORMAT + 1));
    std::fs::write(log.join("spare-0000000000000009-new.log"), "half").expect("opening may remove it");
    assert_eq!(files(dir.path()), before);
}

#[test]
fn a_record_that_is_not_understood_is_refused_and_nothing_is_changed() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut log = AcceptLog::open(&dir.path().join("log"), SEGMENT_BYTES, &mut |_| ()).expect("open");
    log.begin_segment(&[]).expect("begin");
    log.append(&[bytes::Bytes::from_static(&[0xee, 1, 2])]).expect("append");
    drop(log);
    let before = files(dir.path());
    let error = check(dir.path()).expect_err("nobody knows record 0xee");
    assert!(matches!(error, FormatError::Record { .. }), "{error:?}");
    assert_eq!(files(dir.path()), before);
}

#[test]
fn rows_of_a_newer_format_are_refused_and_those_without_any_are_version_1() {
    let dir = tempfile::tempdir().expect("temp dir");
    let rows = dir.path().join("rows");
    drop(RowStore::open(&rows).expect("open"));
    check(dir.path()).expect("its own format");
    // Rows that were written before there was a format.
    std::fs::remove_file(rows.join(ROWS_FILE)).expect("it was noted");
    RowStore::open(&rows).expect("open").0.set_format(None).expect("remove the entry");
    drop(RowStore::open(&rows).expect("version 1"));
    assert!(rows.join(ROWS_FILE).exists());
    // The file alone is enough to refuse, without opening the store …
    std::fs::write(rows.join(ROWS_FILE), format!("{}\n", ROWS_FORMAT + 1)).expect("write");
    let before = files(dir.path());
    let error = check(dir.path()).expect_err("newer").to_string();
    assert!(error.contains(&format!("format {}", ROWS_FORMAT + 1)), "{error}");
    assert_eq!(files(dir.path()), before);
    // … and so is the entry within it.
    std::fs::remove_file(rows.join(ROWS_FILE)).expect("remove");
    RowStore::open(&rows).expect("open").0.set_format(Some(ROWS_FORMAT + 1)).expect("change the entry");
    let opened = RowStore::open(&rows).map(drop);
    assert!(matches!(opened, Err(RowsError::Format { .. })), "{opened:?}");
}
