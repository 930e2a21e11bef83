//! Keys of the keyspaces: bytes that sort as the things they name.

use node_core::ids::{Height, Position, Seat, TxnId};

/// Key of a transaction's record.
pub(super) fn txn(txn: TxnId) -> [u8; 18] {
    let mut key = [0; 18];
    key[..2].copy_from_slice(&txn.seat.0.to_be_bytes());
    key[2..10].copy_from_slice(&txn.epoch.0.to_be_bytes());
    key[10..].copy_from_slice(&txn.seq.0.to_be_bytes());
    key
}

/// First key of the seat.
pub(super) fn first(seat: Seat) -> [u8; 2] {
    seat.0.to_be_bytes()
}

/// First key after everything of the seat up to the position.
pub(super) fn after(seat: Seat, position: Position) -> [u8; 18] {
    let mut id = TxnId { seat, epoch: position.epoch, seq: position.seq };
    id.seq.0 += 1;
    txn(id)
}

/// What all superseded versions of a row begin with. Zero bytes are escaped, so that no row's versions
/// begin with another row's.
pub(super) fn history_prefix(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 12);
    for byte in key {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 1]);
    out
}

/// Key of a superseded version: newest first within its row.
pub(super) fn history(key: &[u8], height: Height) -> Vec<u8> {
    let mut out = history_prefix(key);
    out.extend_from_slice(&(!height.0).to_be_bytes());
    out
}
