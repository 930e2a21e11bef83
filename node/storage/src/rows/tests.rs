use std::sync::Arc;

use node_core::ids::{Epoch, Seq};
use node_core::txn::{Txn, Write};

use super::*;

fn id(seat: u16, seq: u64) -> TxnId {
    TxnId { seat: Seat(seat), epoch: Epoch(1), seq: Seq(seq) }
}

fn vector(entries: &[(u16, u64)]) -> Vector {
    let mut vector = Vector::new();
    for (seat, seq) in entries {
        vector.advance(Seat(*seat), Position { epoch: Epoch(1), seq: Seq(*seq) });
    }
    vector
}

fn key(text: &str) -> Key {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(seat: u16, seq: u64, deps: &[(u16, u64)], rows: &[(&str, u64, Option<&str>)]) -> FeedItem {
    let writes = rows.iter().map(|(name, height, value)| Write {
        key: key(name),
        // Who wrote the base does not matter to the rows.
        base: (*height > 1).then(|| Ver { height: Height(height - 1), txn: id(0, 0) }),
        value: value.map(key),
    });
    let writes = writes.collect();
    FeedItem::Commit(Arc::new(Txn { id: id(seat, seq), deps: vector(deps), writes, checks: vec![] }))
}

fn read(start: &str, end: Option<&str>) -> ReadBlock {
    ReadBlock {
        id: 7,
        start: key(start),
        end: end.map(key),
        reverse: false,
        bytes_max: 1 << 20,
        newest: false,
        from: vector(&[(0, 1000), (1, 1000)]),
        at_least: Vector::new(),
    }
}

fn names(block: &Block) -> Vec<&str> {
    block.rows.iter().map(|row| std::str::from_utf8(&row.key).expect("test keys are text")).collect()
}

fn open() -> (tempfile::TempDir, RowStore, RowWriter) {
    let dir = tempfile::tempdir().expect("temp dir");
    let (store, writer) = RowStore::open(dir.path()).expect("open");
    (dir, store, writer)
}

#[test]
fn what_is_applied_is_read_and_survives_reopening() {
    let (dir, store, mut writer) = open();
    writer.apply(&[put(0, 1, &[], &[("a", 1, Some("one"))])], &Vector::new()).expect("apply");
    writer.persist().expect("persist");
    drop((store, writer));
    let (store, writer) = RowStore::open(dir.path()).expect("reopen");
    assert_eq!(writer.applied(), &vector(&[(0, 1)]));
    assert_eq!(store.latest(&key("a")).expect("read"), Some(Ver { height: Height(1), txn: id(0, 1) }));
    assert_eq!(store.latest(&key("b")).expect("read"), None);
    let block = store.read_block(&read("", None)).expect("read");
    assert_eq!(block.rows[0].versions[0].value, Some(key("one")));
    assert_eq!(block.at, vector(&[(0, 1)]));
}

#[test]
fn applying_again_changes_nothing() {
    let (_dir, store, mut writer) = open();
    let items = [put(0, 1, &[], &[("a", 1, Some("one"))]), put(0, 2, &[], &[("a", 2, Some("two"))])];
    writer.apply(&items, &Vector::new()).expect("apply");
    let before = store.read_block(&ReadBlock { from: Vector::new(), ..read("", None) }).expect("read");
    writer.apply(&items, &Vector::new()).expect("apply again");
    writer.apply(&items[..1], &Vector::new()).expect("apply a part again");
    let after = store.read_block(&ReadBlock { from: Vector::new(), ..read("", None) }).expect("read");
    assert_eq!(before, after);
    assert_eq!(before.rows[0].versions.len(), 2);
}

#[test]
fn a_block_holds_every_version_that_snapshots_from_its_vector_on_see() {
    let (_dir, store, mut writer) = open();
    for seq in 1..=5 {
        let value = format!("v{seq}");
        writer.apply(&[put(0, seq, &[], &[("a", seq, Some(&value))])], &Vector::new()).expect("apply");
    }
    for from in 0..=5 {
        let request = ReadBlock { from: vector(&[(0, from)]), ..read("", None) };
        let block = store.read_block(&request).expect("read");
        let heights: Vec<u64> = block.rows[0].versions.iter().map(|version| version.ver.height.0).collect();
        let oldest = from.max(1);
        assert_eq!(heights, (oldest..=5).rev().collect::<Vec<_>>(), "from {from}");
    }
}

#[test]
fn versions_below_the_low_water_mark_are_removed_and_no_others() {
    let (dir, store, mut writer) = open();
    for seq in 1..=5 {
        writer.apply(&[put(0, seq, &[], &[("a", seq, Some("x"))])], &Vector::new()).expect("apply");
    }
    writer.apply(&[], &vector(&[(0, 3)])).expect("collect");
    let from = |seq| ReadBlock { from: vector(&[(0, seq)]), ..read("", None) };
    assert_eq!(store.read_block(&from(3)).expect("read").rows[0].versions.len(), 3);
    writer.persist().expect("persist");
    drop((store, writer));
    let (store, mut writer) = RowStore::open(dir.path()).expect("reopen");
    writer.apply(&[], &vector(&[(0, 5)])).expect("collect after a restart");
    assert_eq!(store.read_block(&from(5)).expect("read").rows[0].versions.len(), 1);
    // Whoever reads an older snapshot is told, also after another restart: it is not given what is left of it.
    writer.persist().expect("persist");
    drop((store, writer));
    let (store, _writer) = RowStore::open(dir.path()).expect("reopen");
    assert!(matches!(store.read_block(&from(4)), Err(RowsError::TooOld)));
    assert!(store.read_block(&from(5)).is_ok());
    let everything = ReadBlock { from: Vector::new(), ..read("", None) };
    assert!(matches!(store.read_block(&everything), Err(RowsError::TooOld)), "the beginning is older still");
    let copy = ReadBlock { newest: true, ..everything };
    assert_eq!(store.read_block(&copy).expect("nothing older is wanted").rows[0].versions.len(), 1);
}

#[test]
fn a_deleted_row_stays_as_a_tombstone_with_its_height() {
    let (_dir, store, mut writer) = open();
    let items = [put(0, 1, &[], &[("a", 1, Some("x"))]), put(0, 2, &[], &[("a", 2, None)])];
    writer.apply(&items, &vector(&[(0, 2)])).expect("apply");
    assert_eq!(store.latest(&key("a")).expect("read").map(|ver| ver.height), Some(Height(2)));
    let block = store.read_block(&read("", None)).expect("read");
    assert_eq!(block.rows[0].versions[0].value, None);
}

#[test]
fn a_block_says_which_range_it_covers() {
    let (_dir, store, mut writer) = open();
    let names_in = ["a", "b", "c", "d", "e"];
    let rows: Vec<_> = names_in.iter().map(|name| (*name, 1, Some("0123456789"))).collect();
    writer.apply(&[put(0, 1, &[], &rows)], &Vector::new()).expect("apply");
    let all = store.read_block(&read("a", None)).expect("read");
    assert_eq!((names(&all), &all.end), (names_in.to_vec(), &None));
    let range = store.read_block(&read("b", Some("d"))).expect("read");
    assert_eq!((names(&range), &range.start, &range.end), (vec!["b", "c"], &key("b"), &Some(key("d"))));
    let cut = store.read_block(&ReadBlock { bytes_max: 40, ..read("a", Some("e")) }).expect("read");
    assert_eq!((names(&cut), &cut.start, &cut.end), (vec!["a", "b"], &key("a"), &Some(key("c"))));
    let back = ReadBlock { bytes_max: 40, reverse: true, ..read("a", Some("e")) };
    let back = store.read_block(&back).expect("read");
    assert_eq!((names(&back), &back.start, &back.end), (vec!["c", "d"], &key("c"), &Some(key("e"))));
    let empty = store.read_block(&read("x", Some("z"))).expect("read");
    assert_eq!((names(&empty), &empty.start, &empty.end), (vec![], &key("x"), &Some(key("z"))));
    let inverted = store.read_block(&read("z", Some("a"))).expect("read");
    assert!(inverted.rows.is_empty());
}

#[test]
fn keys_with_zero_bytes_keep_their_versions_apart() {
    let (_dir, store, mut writer) = open();
    for (height, seq) in [(1, 1), (2, 2)] {
        let rows =
            [("a", height, Some("short")), ("a\0", height, Some("zero")), ("a\0\u{1}", height, Some("one"))];
        writer.apply(&[put(0, seq, &[], &rows)], &Vector::new()).expect("apply");
    }
    let block = store.read_block(&ReadBlock { from: Vector::new(), ..read("", None) }).expect("read");
    for (row, value) in block.rows.iter().zip(["short", "zero", "one"]) {
        let values: Vec<_> = row.versions.iter().map(|version| version.value.clone()).collect();
        assert_eq!(values, vec![Some(key(value)), Some(key(value))]);
    }
}

fn whole_backlog(store: &RowStore, from: &Vector, piece: usize) -> Vec<FeedItem> {
    let mut at = from.clone();
    let mut all = Vec::new();
    loop {
        match store.backlog(&at, piece).expect("read") {
            Backlog::Piece { items, .. } if items.is_empty() => return all,
            Backlog::Piece { items, to } => {
                all.extend(items);
                at = to;
            }
            Backlog::Gone => panic!("nothing was dropped"),
        }
    }
}

#[test]
fn the_backlog_comes_in_an_order_that_respects_dependencies_and_holes() {
    let (_dir, store, mut writer) = open();
    let items = [
        put(1, 2, &[], &[("a", 1, Some("x"))]), // 1 aborted
        FeedItem::Advance { seat: Seat(1), to: Position { epoch: Epoch(1), seq: Seq(3) } },
        put(0, 1, &[(1, 3)], &[("a", 2, Some("y"))]), // depends on an aborted position
        put(1, 4, &[(0, 1)], &[("b", 1, Some("z"))]),
        put(0, 2, &[(1, 4)], &[("b", 2, Some("w"))]),
    ];
    writer.apply(&items, &Vector::new()).expect("apply");
    for piece in [1, 1 << 20] {
        let mut seen = Vec::new();
        for item in whole_backlog(&store, &Vector::new(), piece) {
            if let FeedItem::Commit(txn) = item {
                seen.push(txn.id);
            }
        }
        assert_eq!(seen, vec![id(1, 2), id(0, 1), id(1, 4), id(0, 2)], "in pieces of {piece}");
    }
    let rest = whole_backlog(&store, &vector(&[(0, 1), (1, 3)]), 1 << 20);
    assert_eq!(rest.iter().filter(|item| matches!(item, FeedItem::Commit(_))).count(), 2);
    assert!(whole_backlog(&store, &vector(&[(0, 2), (1, 4)]), 1 << 20).is_empty());
}

#[test]
fn dropped_records_are_reported_as_gone_also_after_a_restart() {
    let (dir, store, mut writer) = open();
    writer.set_retained_limit(20_000);
    for seq in 1..=2000 {
        writer.apply(&[put(0, seq, &[], &[("a", seq, Some("some value"))])], &Vector::new()).expect("apply");
    }
    let check = |store: &RowStore| {
        assert_eq!(store.backlog(&vector(&[(0, 1)]), 1 << 20).expect("read"), Backlog::Gone);
        assert!(matches!(store.backlog(&vector(&[(0, 1990)]), 1 << 20), Ok(Backlog::Piece { .. })));
        assert_eq!(store.txn(id(0, 1)).expect("read"), None);
        assert!(store.txn(id(0, 2000)).expect("read").is_some());
    };
    check(&store);
    writer.persist().expect("persist");
    drop((store, writer));
    check(&RowStore::open(dir.path()).expect("reopen").0);
}

/// Noise, so that nothing is compressed away.
fn noise(seed: u64, bytes: usize) -> Bytes {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

#[test]
fn dropped_records_give_their_room_back_and_count_no_more_after_a_restart() {
    const LIMIT: u64 = 4 << 20;
    let (dir, store, mut writer) = open();
    writer.set_retained_limit(LIMIT);
    // Two seats: their records share files until compaction parts them.
    for seq in 1..=1500 {
        for seat in [0, 1] {
            let value = noise(seq * 2 + u64::from(seat), 32 << 10);
            let write = Write { key: Bytes::from_static(b"row"), base: None, value: Some(value) };
            let txn = Txn { id: id(seat, seq), deps: Vector::new(), writes: vec![write], checks: vec![] };
            let item = FeedItem::Commit(std::sync::Arc::new(txn));
            writer.apply(&[item], &vector(&[(0, seq), (1, seq)])).expect("apply");
        }
    }
    // 94 MiB of records were written.
    let disk = store.txns.disk_space();
    assert!(disk < 48 << 20, "{disk} bytes for records of {LIMIT}");
    writer.persist().expect("persist");
    drop((store, writer));
    let (store, mut writer) = RowStore::open(dir.path()).expect("reopen");
    assert_eq!(store.backlog(&vector(&[(0, 1), (1, 1)]), 1 << 20).expect("read"), Backlog::Gone);
    assert!(store.txn(id(1, 1500)).expect("read").is_some());
    assert!(writer.retained_bytes() <= 2 * LIMIT, "{} bytes count", writer.retained_bytes());
    writer.apply(&[put(0, 1501, &[], &[("a", 1, Some("v"))])], &Vector::new()).expect("apply");
}
