//! The cache against a model: every version ever committed, and which of them each vector sees.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::ids::{Epoch, Position, Seat, Seq, TxnId, Ver};
use crate::txn::{Txn, Write};
use crate::wire::RowVersions;

fn key(n: u16) -> Key {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

/// The truth: all committed transactions in one order, and what each key has been.
#[derive(Default)]
struct Truth {
    history: Vec<Arc<Txn>>,
    rows: BTreeMap<Key, Vec<RowVersion>>,
    seqs: [u64; 2],
}

impl Truth {
    fn commit(&mut self, seat: u16, writes: BTreeMap<Key, Option<Bytes>>) {
        self.seqs[usize::from(seat)] += 1;
        let seq = Seq(self.seqs[usize::from(seat)]);
        let id = TxnId { seat: Seat(seat), epoch: Epoch(1), seq };
        let deps = self.vector(self.history.len());
        let mut record = Txn { id, deps, writes: Vec::new(), checks: Vec::new() };
        for (key, value) in writes {
            let chain = self.rows.entry(key.clone()).or_default();
            let write = Write { key, base: chain.last().map(|version| version.ver), value };
            chain.push(RowVersion { ver: write.version(id), value: write.value.clone() });
            record.writes.push(write);
        }
        self.history.push(Arc::new(record));
    }
    /// What has been applied once the first `count` transactions are.
    fn vector(&self, count: usize) -> Vector {
        let mut vector = Vector::new();
        for txn in &self.history[..count] {
            vector.advance(txn.id.seat, txn.id.position());
        }
        vector
    }
    fn at(&self, key: &[u8], view: &Vector) -> Option<&RowVersion> {
        self.rows.get(key)?.iter().rev().find(|version| view.sees(version.ver.txn))
    }
    /// A storage node's answer, as of the first `count` transactions, of at most `rows` rows.
    fn answer(&self, gap: &Gap, reverse: bool, from: &Vector, count: usize, rows: usize) -> wire::Block {
        let at = self.vector(count);
        let mut found: Vec<RowVersions> = Vec::new();
        for (key, chain) in &self.rows {
            if !gap.contains(key) {
                continue;
            }
            let mut versions: Vec<RowVersion> = Vec::new();
            for version in chain.iter().rev().filter(|version| at.sees(version.ver.txn)) {
                versions.push(version.clone());
                if from.sees(version.ver.txn) {
                    break;
                }
            }
            if !versions.is_empty() {
                found.push(RowVersions { key: key.clone(), versions });
            }
        }
        let (mut start, mut end) = (gap.start.clone(), gap.end.clone());
        if found.len() > rows {
            if reverse {
                found.drain(..found.len() - rows);
                start = found[0].key.clone();
            } else {
                end = Some(found[rows].key.clone());
                found.truncate(rows);
            }
        }
        wire::Block { id: 0, start, end, rows: found, at }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Commit { seat: u16, keys: Vec<u16>, delete: bool, size: usize },
    Feed(usize),
    Fetch { at: u16, reverse: bool },
    Answer { ahead: usize, rows: usize },
    Abandon,
    Evict(usize),
    Open,
    Close,
    Reset,
    Scan { from: u16, to: u16, reverse: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let keys = proptest::collection::vec(0u16..60, 1..5);
    prop_oneof![
        6 => (0u16..2, keys, proptest::bool::weighted(0.2), 0usize..300)
            .prop_map(|(seat, keys, delete, size)| Step::Commit { seat, keys, delete, size }),
        5 => (1usize..4).prop_map(Step::Feed),
        5 => (0u16..60, any::<bool>()).prop_map(|(at, reverse)| Step::Fetch { at, reverse }),
        5 => (0usize..4, 1usize..30).prop_map(|(ahead, rows)| Step::Answer { ahead, rows }),
        1 => Just(Step::Abandon),
        1 => (0usize..8000).prop_map(Step::Evict),
        2 => Just(Step::Open),
        1 => Just(Step::Close),
        1 => Just(Step::Reset),
        4 => (0u16..60, 0u16..62, any::<bool>())
            .prop_map(|(from, to, reverse)| Step::Scan { from, to, reverse }),
    ]
}

#[derive(Default)]
struct World {
    truth: Truth,
    cache: Cache,
    fed: usize,
    /// Fetches under way: id, gap, direction, oldest snapshot, what the answer must include.
    pending: Vec<(FetchId, Gap, bool, Vector, usize)>,
    open: Vec<Arc<Vector>>,
}

impl World {
    fn horizon(&self) -> Horizon {
        let mut all = self.open.clone();
        all.push(Arc::new(self.cache.applied().clone()));
        Horizon::new(all)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Commit { seat, keys, delete, size } => {
                let value = (!delete).then(|| Bytes::from(vec![keys[0] as u8; size]));
                let writes = keys.into_iter().map(|n| (key(n), value.clone())).collect();
                self.truth.commit(seat, writes);
            }
            Step::Feed(count) => {
                let to = (self.fed + count).min(self.truth.history.len());
                let late: Vec<_> = self.truth.history[self.fed.saturating_sub(1)..to].to_vec();
                for txn in late {
                    let horizon = self.horizon();
                    self.cache.feed(&FeedItem::Commit(txn), &horizon);
                }
                self.fed = to;
            }
            Step::Fetch { at, reverse } => self.fetch(at, reverse),
            Step::Answer { ahead, rows } if !self.pending.is_empty() => {
                let (id, gap, reverse, from, at_least) = self.pending.remove(0);
                let count = (at_least + ahead).min(self.truth.history.len());
                let answer = self.truth.answer(&gap, reverse, &from, count, rows);
                let horizon = self.horizon();
                match self.cache.install(id, answer, &horizon) {
                    Ok(()) | Err(InstallError::Void) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Abandon if !self.pending.is_empty() => {
                let (id, ..) = self.pending.remove(0);
                self.cache.abandon(id);
            }
            Step::Evict(budget) => {
                self.cache.evict(budget);
                assert!(self.cache.stats().bytes <= budget);
            }
            Step::Open => self.open.push(Arc::new(self.cache.applied().clone())),
            Step::Close if !self.open.is_empty() => {
                self.open.remove(0);
            }
            Step::Reset => {
                self.open.clear();
                self.fed = self.truth.history.len();
                self.cache.reset(&self.truth.vector(self.fed));
            }
            Step::Scan { from, to, reverse } => self.scan(from, to, reverse),
            _ => {}
        }
    }

    fn fetch(&mut self, at: u16, reverse: bool) {
        let gap = match reverse {
            false => match self.cache.get(&key(at), View::Newest) {
                Lookup::Hit(_) => return,
                Lookup::Miss(gap) => gap,
            },
            true => match self.cache.scan(b"", Some(&key(at)), true, View::Newest, &mut |_, _| true) {
                ScanEnd::Gap(gap) => gap,
                _ => return,
            },
        };
        let from = self.horizon().oldest().cloned().unwrap_or_default();
        if let Some((id, at_least)) = self.cache.begin_fetch(gap.clone(), reverse) {
            let included = (0..=self.fed).rev().find(|count| self.truth.vector(*count) == at_least);
            self.pending.push((id, gap, reverse, from, included.expect("a prefix of what was fed")));
        }
    }

    fn scan(&self, from: u16, to: u16, reverse: bool) {
        let (start, end) = (key(from), key(to));
        for snapshot in self.horizon().newest_first() {
            let mut seen = Vec::new();
            let ended =
                self.cache.scan(&start, Some(&end), reverse, View::Snapshot(snapshot), &mut |k, v| {
                    seen.push((k.clone(), v.clone()));
                    true
                });
            let mut expected: Vec<(Key, RowVersion)> = Vec::new();
            if start < end {
                for (key, _) in self.truth.rows.range(start.clone()..end.clone()) {
                    expected.extend(self.truth.at(key, snapshot).map(|v| (key.clone(), v.clone())));
                }
            }
            if reverse {
                expected.reverse();
            }
            if let ScanEnd::Gap(gap) = ended {
                assert!(gap.end.as_ref().is_none_or(|end| gap.start < *end));
                expected.retain(|(key, _)| match reverse {
                    false => *key < gap.start,
                    true => gap.end.as_ref().is_some_and(|end| key >= end),
                });
            }
            assert_eq!(seen, expected);
        }
    }

    fn check(&self) {
        let applied = self.truth.vector(self.fed);
        assert_eq!(*self.cache.applied(), applied);
        for n in 0..62 {
            let key = key(n);
            if let Lookup::Hit(seen) = self.cache.get(&key, View::Newest) {
                // What the cache calls the newest is at least what has been applied, and true.
                let floor = self.truth.at(&key, &applied).map(|version| version.ver.height);
                assert!(seen.map(|version| version.ver.height) >= floor);
                if let Some(version) = seen {
                    assert_eq!(self.truth.rows[&key][version.ver.height.0 as usize - 1], *version);
                }
            }
            for snapshot in self.horizon().newest_first() {
                if let Lookup::Hit(seen) = self.cache.get(&key, View::Snapshot(snapshot)) {
                    assert_eq!(seen, self.truth.at(&key, snapshot));
                }
            }
        }
        let mut border: Option<&Key> = Some(&EMPTY);
        let (mut bytes, mut rows) = (0, 0);
        for (start, block) in &self.cache.blocks {
            assert!(border.is_some_and(|border| border <= start), "blocks overlap");
            assert!(block.end.as_ref().is_none_or(|end| start < end), "a block covers nothing");
            assert!(block.rows.is_sorted_by(|a, b| a.key < b.key));
            assert_eq!(block.bytes(), block.recount());
            bytes += block.bytes();
            rows += block.rows.len();
            border = block.end.as_ref();
        }
        assert_eq!((bytes, rows), (self.cache.bytes, self.cache.rows));
    }
}

static EMPTY: Key = Key::from_static(b"");

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn what_the_cache_says_is_what_was_committed(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World::default();
        for step in steps {
            world.step(step);
            world.check();
        }
    }
}

#[test]
fn ascending_inserts_fill_blocks_and_split_them() {
    let mut world = World::default();
    world.fetch(0, false);
    world.step(Step::Answer { ahead: 0, rows: 1 });
    for n in 0..3000u16 {
        world.truth.commit(0, BTreeMap::from([(key(n), Some(Bytes::from(vec![7; 100])))]));
        world.step(Step::Feed(1));
    }
    world.check();
    let stats = world.cache.stats();
    assert_eq!(stats.rows, 3000);
    assert!((12..=30).contains(&stats.blocks), "{stats:?}");
    assert!(world.cache.blocks.values().all(|block| block.rows.len() <= block::MAX_ROWS));
}

#[test]
fn a_row_changed_often_keeps_only_the_versions_that_snapshots_see() {
    let mut world = World::default();
    world.fetch(0, false);
    world.step(Step::Answer { ahead: 0, rows: 1 });
    for n in 0..1000u16 {
        if n % 300 == 0 {
            world.step(Step::Open);
        }
        world.truth.commit(0, BTreeMap::from([(key(1), Some(Bytes::from(vec![7; 1000])))]));
        world.step(Step::Feed(1));
    }
    world.check();
    let versions = world.cache.block_at(&key(1)).and_then(|(_, block)| block.row(&key(1)));
    assert!(versions.expect("the row is cached").versions.len() <= 6);
    assert!(world.cache.stats().bytes < 20_000, "{:?}", world.cache.stats());
}

#[test]
fn an_answer_that_is_not_what_was_asked_for_is_refused() {
    let mut world = World::default();
    // More than is remembered, so that an answer can be too old.
    let others = (20..40).map(|n| (key(n), None)).collect();
    world.truth.commit(0, BTreeMap::from([(key(1), None), (key(5), None)]));
    world.truth.commit(0, others);
    world.step(Step::Feed(2));
    let ask = |cache: &mut Cache| {
        let gap = Gap { start: key(1), end: Some(key(9)) };
        cache.begin_fetch(gap, false).expect("nothing is cached").0
    };
    let gap = Gap { start: key(1), end: Some(key(9)) };
    let good = world.truth.answer(&gap, false, &Vector::new(), 2, 10);
    let mut old = good.clone();
    old.at = Vector::new();
    let mut elsewhere = good.clone();
    elsewhere.start = key(2);
    elsewhere.rows.remove(0);
    let mut unsorted = good.clone();
    unsorted.rows.reverse();
    let mut beyond = good.clone();
    beyond.end = Some(key(3));
    let mut empty_chain = good.clone();
    empty_chain.rows[0].versions.clear();
    for bad in [old, elsewhere, unsorted, beyond, empty_chain] {
        let id = ask(&mut world.cache);
        assert!(world.cache.install(id, bad, &Horizon::default()).is_err());
    }
    let id = ask(&mut world.cache);
    assert_eq!(world.cache.install(id, good.clone(), &Horizon::default()), Ok(()));
    assert_eq!(world.cache.install(id, good, &Horizon::default()), Err(InstallError::Void));
}

#[test]
fn estimates_come_from_what_is_cached() {
    let mut world = World::default();
    for n in 0..100 {
        world.truth.commit(0, BTreeMap::from([(key(n), Some(Bytes::new()))]));
    }
    world.step(Step::Feed(100));
    assert_eq!(world.cache.estimate_rows(&key(0), None), None);
    world.fetch(0, false);
    world.step(Step::Answer { ahead: 0, rows: 1000 });
    assert_eq!(world.cache.estimate_rows(&key(0), None), Some(100));
    assert_eq!(world.cache.estimate_rows(&key(10), Some(&key(20))), Some(10));
    assert_eq!(world.cache.estimate_rows(&key(20), Some(&key(20))), Some(0));
    let position = Position { epoch: Epoch(1), seq: Seq(100) };
    let newest =
        Ver { height: crate::ids::Height(1), txn: TxnId { seat: Seat(0), epoch: Epoch(1), seq: Seq(100) } };
    assert_eq!(world.cache.applied().get(Seat(0)), position);
    assert!(matches!(world.cache.get(&key(99), View::Newest), Lookup::Hit(Some(v)) if v.ver == newest));
}
