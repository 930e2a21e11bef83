use std::os::unix::fs::FileExt;

use super::*;

const SMALL_SEGMENT: u64 = 4096;

fn record(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn reopen(dir: &Path) -> Result<(AcceptLog, Vec<Bytes>), LogError> {
    let mut records = Vec::new();
    let log = AcceptLog::open(dir, SMALL_SEGMENT, &mut |record| records.push(record))?;
    Ok((log, records))
}

fn begun(dir: &Path) -> AcceptLog {
    let (mut log, records) = reopen(dir).expect("an empty log opens");
    assert!(records.is_empty() && log.was_empty());
    log.begin_segment(&[]).expect("a temp dir is writable");
    log
}

fn only_segment(dir: &Path) -> PathBuf {
    dir.join("accept-0000000000000001.log")
}

#[test]
fn what_was_appended_is_replayed_in_order() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut log = begun(dir.path());
    log.append(&[record("one"), record("")]).expect("append");
    log.append(&[record("two")]).expect("append");
    drop(log);
    let (log, records) = reopen(dir.path()).expect("reopen");
    assert_eq!(records, vec![record("one"), record(""), record("two")]);
    assert!(!log.was_empty());
}

#[test]
fn the_format_on_disk_is_pinned() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut log = begun(dir.path());
    log.append(&[record("vote"), record("x")]).expect("append");
    let data = std::fs::read(only_segment(dir.path())).expect("the segment exists");
    let golden: &[u8] = include_bytes!("golden-v2.bin");
    assert_eq!(&data[..golden.len()], golden);
    assert!(data[golden.len()..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_segment_of_format_1_is_read() {
    let dir = tempfile::tempdir().expect("temp dir");
    std::fs::write(only_segment(dir.path()), include_bytes!("golden-v1.bin")).expect("write");
    let (_, records) = reopen(dir.path()).expect("an older format is read");
    assert_eq!(records, vec![record("vote"), record("x")]);
}

#[test]
fn a_log_cut_at_any_byte_replays_the_whole_batches_before_the_cut() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut log = begun(dir.path());
    let mut ends = vec![(log.offset as usize, 0)];
    for number in 0..4 {
        let batch = [record(&format!("record {number}")), record(&"y".repeat(number * 7))];
        log.append(&batch).expect("append");
        ends.push((log.offset as usize, (number + 1) * 2));
    }
    let data = std::fs::read(only_segment(dir.path())).expect("the segment exists");
    for cut in SEGMENT_HEADER_BYTES as usize..log.offset as usize {
        let torn = tempfile::tempdir().expect("temp dir");
        let mut bytes = data.clone();
        bytes[cut..].fill(0);
        std::fs::write(only_segment(torn.path()), bytes).expect("write");
        let (mut log, records) = reopen(torn.path()).expect("a torn tail is no damage");
        // The last bytes of a batch may be padding or zeros anyway: then nothing is missing.
        let least = ends.iter().filter(|(end, _)| *end <= cut).map(|(_, count)| *count).max();
        assert!(records.len() >= least.expect("the start counts"), "cut at {cut}");
        assert!(records.len() % 2 == 0, "half a batch at {cut}");
        let before = records.len();
        log.begin_segment(&[]).expect("begin");
        log.append(&[record("after")]).expect("append");
        drop(log);
        let (_, records) = reopen(torn.path()).expect("continues behind a torn tail");
        assert_eq!((records.len(), records.last()), (before + 1, Some(&record("after"))));
    }
}

#[test]
fn a_damaged_batch_before_a_valid_one_is_reported() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut log = begun(dir.path());
    log.append(&[record("promised")]).expect("append");
    log.append(&[record("later")]).expect("append");
    drop(log);
    let data = std::fs::read(only_segment(dir.path())).expect("the segment exists");
    let first = SEGMENT_HEADER_BYTES as usize..SEGMENT_HEADER_BYTES as usize + 36;
    for at in first {
        let mut bytes = data.clone();
        bytes[at] ^= 0x10;
        std::fs::write(only_segment(dir.path()), bytes).expect("write");
        assert!(matches!(reopen(dir.path()), Err(LogError::Damaged { .. })), "flipped byte {at}");
    }
}

#[test]
fn a_damaged_batch_before_a_later_segment_is_reported() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut log = begun(dir.path());
    log.append(&[record("promised")]).expect("append");
    log.begin_segment(&[record("checkpoint")]).expect("begin");
    drop(log);
    let file = OpenOptions::new().write(true).open(only_segment(dir.path())).expect("open");
    file.write_all_at(b"????", SEGMENT_HEADER_BYTES + 26).expect("write");
    assert!(matches!(reopen(dir.path()), Err(LogError::Damaged { .. })));
}

#[test]
fn a_missing_segment_in_the_middle_is_reported() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut log = begun(dir.path());
    for _ in 0..2 {
        log.begin_segment(&[record("checkpoint")]).expect("begin");
    }
    drop(log);
    std::fs::remove_file(dir.path().join("accept-0000000000000002.log")).expect("remove");
    assert!(matches!(reopen(dir.path()), Err(LogError::Damaged { .. })));
}

#[test]
fn dropped_segments_are_reused_and_their_old_batches_ignored() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut log = begun(dir.path());
    while !log.is_full_for(&[record("filler of some length")]) {
        log.append(&[record("filler of some length")]).expect("append");
    }
    let second = log.begin_segment(&[record("checkpoint")]).expect("begin");
    log.drop_before(second).expect("drop");
    assert!(!only_segment(dir.path()).exists());
    let third = log.begin_segment(&[record("checkpoint")]).expect("begin");
    log.append(&[record("new")]).expect("append");
    log.drop_before(third).expect("drop");
    let bytes = log.bytes();
    drop(log);
    assert_eq!(bytes, 2 * SMALL_SEGMENT);
    let (_, records) = reopen(dir.path()).expect("reopen");
    assert_eq!(records, vec![record("checkpoint"), record("new")]);
}

#[test]
fn a_batch_larger_than_a_segment_gets_its_own() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut log = begun(dir.path());
    let large = record(&"z".repeat(3 * SMALL_SEGMENT as usize));
    assert!(log.is_full_for(std::slice::from_ref(&large)));
    log.begin_segment(std::slice::from_ref(&large)).expect("begin");
    drop(log);
    assert_eq!(reopen(dir.path()).expect("reopen").1, vec![large]);
}

#[test]
fn a_failed_segment_can_be_begun_again() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut log = begun(dir.path());
    log.append(&[record("one")]).expect("append");
    let blocker = dir.path().join("spare-0000000000000002-new.log");
    std::fs::create_dir(&blocker).expect("a directory where the spare should be");
    assert!(log.begin_segment(&[record("two")]).is_err());
    std::fs::remove_dir(&blocker).expect("remove");
    log.begin_segment(&[record("two")]).expect("begin");
    drop(log);
    assert_eq!(reopen(dir.path()).expect("reopen").1, vec![record("one"), record("two")]);
}
