//! What clients do: transactions over lists, and rows that come and go.
//!
//! A list is a row whose value is the elements appended to it, four bytes each. An append reads the newest
//! version under the row's lock, as `UPDATE … SET v = CONCAT(v, …)` does. *Pads* are rows of random size that
//! are written and deleted, so that blocks are split, caches are small and tombstones exist.

use std::collections::BTreeMap;

use bytes::Bytes;
use node_core::ids::Key;
use node_core::locks::LockMode;
use node_core::wire::RowVersion;

use crate::Random;

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// A plain read of some lists, one after the other.
    Get(Vec<u64>),
    /// A plain read of everything.
    Scan,
    /// A locking read.
    Lock(u64, LockMode),
    /// An append to a list.
    Append(u64),
    /// A write of a pad.
    Pad(u64, usize),
    /// A deletion of a pad.
    Unpad(u64),
    /// The client does something else, for so many microseconds.
    Think(u64),
}

/// The size and shape of the clients' work.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    /// Lists.
    pub(crate) lists: u64,
    /// Pads.
    pub(crate) pads: u64,
    /// Sessions of an instance.
    pub(crate) sessions: usize,
    /// Cache of an instance.
    pub(crate) cache_bytes: usize,
    /// Pause between transactions, at most, in microseconds.
    pub(crate) pause: u64,
    /// Per cent of transactions with `innodb_snapshot_isolation`.
    pub(crate) isolated: u64,
    /// Per cent of transactions that read `REGIONAL_RAW` (multi-master) or `GLOBAL` (replicas).
    pub(crate) global: u64,
    /// Per cent of transactions at READ COMMITTED.
    pub(crate) committed: u64,
}

/// One transaction to be.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    pub(super) ops: Vec<Op>,
    pub(super) isolated: bool,
    pub(super) global: bool,
    pub(super) committed: bool,
    /// One statement: tried again when it loses.
    pub(super) autocommit: bool,
}

impl Workload {
    /// As a seed wants it.
    pub(crate) fn new(random: &mut Random) -> Workload {
        Workload {
            lists: 1 + random.below(8),
            pads: random.below(24),
            sessions: random.between(1, 4) as usize,
            cache_bytes: *pick(random, &[600, 4_000, 20_000, 1 << 20]),
            pause: *pick(random, &[10_000, 60_000, 200_000]),
            isolated: *pick(random, &[0, 50, 100]),
            global: *pick(random, &[0, 50, 100]),
            committed: *pick(random, &[0, 0, 20]),
        }
    }
    pub(crate) fn keys(&self) -> Vec<Key> {
        (0..self.lists).map(list).chain((0..self.pads).map(pad)).collect()
    }
    pub(super) fn script(&self, writer: bool, random: &mut Random) -> Script {
        let writes = writer || random.chance(5);
        let autocommit = random.chance(40);
        let length = match random.below(20) {
            _ if autocommit => 1,
            0 => random.between(12, 30),
            _ => random.between(1, 5),
        };
        let long = random.chance(5);
        let mut ops = Vec::new();
        for _ in 0..length {
            ops.push(self.op(writes, random));
            if long && !autocommit {
                ops.push(Op::Think(random.below(120_000)));
            }
        }
        if random.chance(2) && writes && !autocommit {
            // A large one: everything at once, in the order of keys so that deadlocks stay rare.
            ops = (0..self.lists).map(Op::Append).collect();
            ops.extend((0..self.pads).map(|pad| Op::Pad(pad, 200)));
        }
        Script {
            ops,
            isolated: random.chance(self.isolated),
            global: random.chance(self.global),
            committed: random.chance(self.committed),
            autocommit,
        }
    }
    fn op(&self, writes: bool, random: &mut Random) -> Op {
        let key = random.below(self.lists);
        let choice = random.below(if writes { 100 } else { 30 });
        match choice {
            0..12 => {
                let count = random.between(1, 3);
                Op::Get((0..count).map(|_| random.below(self.lists)).collect())
            }
            12..22 => Op::Get(vec![key]),
            22..30 => Op::Scan,
            30..36 => Op::Lock(key, LockMode::Shared),
            36..42 => Op::Lock(key, LockMode::Exclusive),
            42..85 => Op::Append(key),
            _ if self.pads == 0 => Op::Append(key),
            85..95 => Op::Pad(random.below(self.pads), random.below(300) as usize),
            _ => Op::Unpad(random.below(self.pads)),
        }
    }
}

fn pick<'a, T>(random: &mut Random, of: &'a [T]) -> &'a T {
    &of[random.below(of.len() as u64) as usize]
}

/// The table all rows are in.
const TABLE: u32 = 7;

fn key(kind: u8, number: u64) -> Key {
    let mut key = TABLE.to_be_bytes().to_vec();
    key.push(kind);
    key.push(number as u8);
    Bytes::from(key)
}
/// The row of a list.
pub(crate) fn list(number: u64) -> Key {
    key(b'l', number)
}
/// The row of a pad.
pub(super) fn pad(number: u64) -> Key {
    key(b'p', number)
}
/// Which list a row is.
pub(crate) fn list_number(key: &Key) -> Option<u64> {
    (key.get(4) == Some(&b'l')).then(|| u64::from(key[5]))
}
/// The first key after the table.
pub(super) fn table_end() -> Key {
    Bytes::copy_from_slice(&(TABLE + 1).to_be_bytes())
}
/// The first key of the table.
pub(super) fn table_start() -> Key {
    Bytes::copy_from_slice(&TABLE.to_be_bytes())
}
/// The elements of a list.
pub(crate) fn elements(value: Option<&Bytes>) -> Vec<u64> {
    let chunks = value.map_or(&[][..], |value| &value[..]).chunks_exact(4);
    chunks.map(|chunk| u64::from(u32::from_be_bytes(chunk.try_into().expect("four bytes")))).collect()
}
/// A list with one more element.
pub(super) fn appended(value: Option<&Bytes>, element: u64) -> Bytes {
    let mut list = value.map_or(Vec::new(), |value| value.to_vec());
    list.extend_from_slice(&(element as u32).to_be_bytes());
    Bytes::from(list)
}
/// All lists of some rows.
pub(crate) fn list_elements(rows: &BTreeMap<Key, RowVersion>) -> BTreeMap<u64, Vec<u64>> {
    let lists = rows.iter().filter_map(|(key, version)| Some((list_number(key)?, version)));
    lists.map(|(number, version)| (number, elements(version.value.as_ref()))).collect()
}
