use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::ids::{Ballot, Epoch, Height, Outcome, RunId, Seat, Seq, TxnId, Vector, Ver};
use crate::txn::{Check, Txn, Write};

fn sample() -> Vec<Request> {
    let id = TxnId { seat: Seat(3), epoch: Epoch(2), seq: Seq(300) };
    let base = Some(Ver { height: Height(7), txn: id });
    let mut deps = Vector::new();
    deps.advance(id.seat, id.position());
    let key = Bytes::from_static(b"key");
    let writes = vec![Write { key: key.clone(), base, value: Some(Bytes::from_static(b"value")) }];
    let txn = Arc::new(Txn { id, deps: deps.clone(), writes, checks: vec![Check { key, base: None }] });
    let ballot = Ballot { round: 2, proposer: RunId(u64::MAX) };
    vec![
        Request::Hello {
            peer: Peer::Instance { name: "shop-0".into(), ordinal: 0, tier: 15, run: RunId(1) },
            cluster: "shop".into(),
        },
        Request::Propose(txn.clone()),
        Request::Accept { txn: id, ballot, value: Outcome::Commit, body: Some(txn) },
        Request::Heartbeat {
            beat: 9,
            role: Role::Writer,
            epoch: Epoch(3),
            applied: deps.clone(),
            low: deps,
            lag_us: 1200,
        },
    ]
}

/// The bytes of version 2: a change of these needs a new version.
#[test]
fn bytes_of_a_proposal_are_pinned() {
    let bytes = encode_frame(&sample()[1..2]);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "02030302ac02010302ac0201036b657901070302ac02010576616c756501036b657900");
}

#[test]
fn a_frame_gives_back_what_was_put_in() {
    let frame = encode_frame(&sample());
    assert_eq!(decode_frame::<Request>(frame), Ok(sample()));
}

#[test]
fn every_prefix_of_a_frame_is_an_error_or_fewer_messages() {
    let frame = encode_frame(&sample());
    for len in 0..frame.len() {
        if let Ok(messages) = decode_frame::<Request>(frame.slice(..len)) {
            assert!(messages.len() < sample().len());
        }
    }
}

#[test]
fn a_frame_of_another_version_is_refused() {
    assert_eq!(decode_frame::<Request>(Bytes::from_static(&[9])), Err(DecodeError::Version { version: 9 }));
}

#[test]
fn why_a_version_is_refused_names_both_and_what_to_do() {
    let error = decode_frame::<Request>(Bytes::from_static(&[9])).expect_err("another version");
    let said = error.to_string();
    assert!(said.contains("version 9"), "{said}");
    assert!(said.contains(&format!("speaks {WIRE_VERSION}")), "{said}");
    assert!(said.contains("run the same version"), "{said}");
}

#[test]
fn a_refusal_is_read_in_every_version() {
    let refused = Reply::Refused { reason: "not you".to_owned() };
    let frame = encode_frame([&refused]);
    // But for the version these bytes must be the same in all versions.
    assert_eq!(&frame[1..], b"\x02\x07not you");
    for version in [0, WIRE_VERSION, WIRE_VERSION + 1, 255] {
        let mut frame = frame.to_vec();
        frame[0] = version;
        assert_eq!(refusal(&Bytes::from(frame)).as_deref(), Some("not you"));
    }
    assert_eq!(refusal(&encode_frame([&Reply::Beat { beat: 1, lease: false }])), None);
    for len in 0..frame.len() {
        assert_eq!(refusal(&frame.slice(..len)), None);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut frame = vec![WIRE_VERSION];
        frame.extend(bytes);
        let _ = decode_frame::<Request>(Bytes::from(frame.clone()));
        let _ = decode_frame::<Reply>(Bytes::from(frame));
    }
}
