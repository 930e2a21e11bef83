//! The bytes of every record of log format 1. They must be read for ever: a record whose bytes change needs a
//! new format (`node-storage`'s `formats`), and then these stay as a test of reading the old one.

use std::sync::Arc;

use bytes::Bytes;

use super::state::{AheadCheckpoint, SeatCheckpoint, StreamCheckpoint, TxnCheckpoint};
use super::*;
use crate::ids::Position;
use crate::txn::{Check, Write};
use crate::wire::{Reader, Wire};

fn id(seq: u64) -> TxnId {
    TxnId { seat: Seat(1), epoch: Epoch(2), seq: Seq(seq) }
}

fn ver(height: u64, seq: u64) -> Ver {
    Ver { height: Height(height), txn: id(seq) }
}

fn txn(seq: u64) -> SharedTxn {
    let mut deps = Vector::new();
    deps.advance(Seat(0), Position { epoch: Epoch(1), seq: Seq(300) });
    let key = Bytes::from_static;
    let writes = vec![
        Write { key: key(b"a"), base: None, value: Some(key(b"one")) },
        Write { key: key(b"b"), base: Some(ver(7, 4)), value: None },
    ];
    let checks = vec![Check { key: key(b"c"), base: Some(ver(1, 3)) }];
    Arc::new(Txn { id: id(seq), deps, writes, checks })
}

fn closing() -> Closing {
    Closing {
        seat: Seat(1),
        epoch: Epoch(3),
        run: RunId(9),
        ballot: ballot(),
        settled: vec![(Epoch(2), Seq(4))],
        listed: vec![(id(5), Outcome::Commit), (id(6), Outcome::Abort)],
        bodies: vec![txn(5)],
    }
}

fn ballot() -> Ballot {
    Ballot { round: 2, proposer: RunId(u64::MAX) }
}

fn checkpoint() -> Checkpoint {
    let mut ordered = Vector::new();
    ordered.advance(Seat(1), id(4).position());
    let (seat, granted, run, active) = (Seat(1), Epoch(3), RunId(9), Epoch(2));
    let seats =
        vec![SeatCheckpoint { seat, granted, run, ballot: ballot(), active, closings: vec![closing()] }];
    let stream = StreamId { seat, epoch: Epoch(2) };
    let (settled, aborted) = (Seq(4), vec![Seq(2), Seq(3)]);
    let streams = vec![StreamCheckpoint { stream, settled, aborted, forgotten: Seq(1), last: Some(Seq(6)) }];
    let ahead = vec![
        AheadCheckpoint { txn: id(6), outcome: Outcome::Abort, body: None },
        AheadCheckpoint { txn: id(7), outcome: Outcome::Commit, body: Some(txn(7)) },
    ];
    let of =
        |seq, vote, accepted, body| TxnCheckpoint { txn: id(seq), vote, promised: ballot(), accepted, body };
    let txns = vec![
        of(8, Some(Vote::Accept), Some((ballot(), Outcome::Commit)), Some(txn(8))),
        of(9, Some(Vote::Locked { by: id(8) }), None, None),
    ];
    Checkpoint { ordered, seats, streams, ahead, txns, newer: vec![(Bytes::from_static(b"a"), ver(2, 4))] }
}

fn generations() -> Generations {
    Generations::default().with(StorageId(1), Generation { number: 2, disk: 3 })
}

fn records() -> Vec<(Record, &'static str)> {
    let (seat, epoch, run) = (Seat(1), Epoch(3), RunId(9));
    let promised = |body| Record::Promised { txn: id(5), ballot: ballot(), body };
    let accepted = |value, body| Record::Accepted { txn: id(5), ballot: ballot(), value, body };
    let decided = |outcome, body| Record::Decided { txn: id(5), outcome, body };
    vec![
        (
            Record::Voted { txn: txn(5), vote: Vote::Accept },
            "02010205010001ac020201610001036f6e650162010701020400010163010101020301",
        ),
        (
            Record::Voted { txn: txn(5), vote: Vote::Stale },
            "02010205010001ac020201610001036f6e650162010701020400010163010101020302",
        ),
        (
            Record::Voted { txn: txn(5), vote: Vote::Locked { by: id(4) } },
            "02010205010001ac020201610001036f6e650162010701020400010163010101020303010204",
        ),
        (
            Record::Voted { txn: txn(5), vote: Vote::Reserved { by: id(4) } },
            "02010205010001ac020201610001036f6e650162010701020400010163010101020304010204",
        ),
        (promised(None), "0301020502ffffffffffffffffff0100"),
        (
            promised(Some(txn(5))),
            "0301020502ffffffffffffffffff0101010205010001ac020201610001036f6e650162010701020400010163\
             0101010203",
        ),
        (
            accepted(Outcome::Commit, Some(txn(5))),
            "0401020502ffffffffffffffffff010101010205010001ac020201610001036f6e6501620107010204000101\
             630101010203",
        ),
        (accepted(Outcome::Abort, None), "0401020502ffffffffffffffffff010200"),
        (
            decided(Outcome::Commit, Some(txn(5))),
            "050102050101010205010001ac020201610001036f6e6501620107010204000101630101010203",
        ),
        (decided(Outcome::Abort, None), "050102050200"),
        (Record::Fenced { seat, epoch, run, ballot: ballot() }, "0601030902ffffffffffffffffff01"),
        (
            Record::Closing(closing()),
            "0701030902ffffffffffffffffff0101020402010205010102060201010205010001ac020201610001036f6e\
             6501620107010204000101630101010203",
        ),
        (
            Record::Activated(closing()),
            "0801030902ffffffffffffffffff0101020402010205010102060201010205010001ac020201610001036f6e\
             6501620107010204000101630101010203",
        ),
        (Record::Generations(generations()), "09000002030000000000000000"),
        (
            Record::Checkpoint(checkpoint()),
            "01010102040101030902ffffffffffffffffff01020101030902ffffffffffffffffff010102040201020501\
             0102060201010205010001ac020201610001036f6e6501620107010204000101630101010203010102040202\
             030101060201020602000102070101010207010001ac020201610001036f6e65016201070102040001016301\
             0101020302010208010102ffffffffffffffffff010102ffffffffffffffffff010101010208010001ac0202\
             01610001036f6e6501620107010204000101630101010203010209010301020802ffffffffffffffffff0100\
             0001016102010204",
        ),
    ]
}

fn bytes(hex: &str) -> Bytes {
    let digits = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        u8::from_str_radix(std::str::from_utf8(pair).expect("text"), 16).expect("hexadecimal digits")
    };
    digits.map(byte).collect()
}

#[test]
fn every_record_is_read_and_written_as_it_was() {
    for (record, hex) in records() {
        let written: String = record.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(written, hex, "{record:?}");
        assert_eq!(Record::get(&mut Reader::new(bytes(hex))), Ok(record));
    }
}

#[test]
fn a_record_cut_anywhere_is_an_error() {
    for (record, hex) in records() {
        let whole = bytes(hex);
        for len in 0..whole.len() {
            let cut = Record::get(&mut Reader::new(whole.slice(..len)));
            assert!(cut.is_err(), "{record:?} cut at {len}: {cut:?}");
        }
    }
}
