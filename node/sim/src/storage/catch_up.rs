//! Which decided transactions this node missed, and which peer to ask: as `node/storage/src/catch_up.rs`.

use std::collections::BTreeSet;

use node_core::ids::{Epoch, Outcome, Seat, Seq, StreamId, TxnId};
use node_core::ordering::Ordering;
use node_core::wire::Membership;

use crate::net::{MS, Micros};

const FETCH_MAX: usize = 1000;
const ANSWER_MAX: Micros = 3_000 * MS;
const BARREN: Micros = 5_000 * MS;

type Settled = Vec<(Seat, Epoch, Seq)>;

#[derive(Clone, Default)]
struct PeerView {
    membership: Option<Membership>,
    settled: Settled,
    /// What it had settled one status ago.
    target: Settled,
    barren_until: Micros,
}

struct UnderWay {
    peer: usize,
    id: u64,
    wanted: Vec<TxnId>,
    until: Micros,
}

/// What is known of the other storage nodes.
pub(crate) struct CatchUp {
    peers: Vec<PeerView>,
    under_way: Option<UnderWay>,
    next_id: u64,
}

impl CatchUp {
    pub(crate) fn new(nodes: usize) -> CatchUp {
        CatchUp { peers: vec![PeerView::default(); nodes], under_way: None, next_id: 1 }
    }
    pub(crate) fn status(&mut self, peer: usize, membership: Membership, settled: Settled) {
        let view = &mut self.peers[peer];
        view.membership = Some(membership);
        view.target = std::mem::replace(&mut view.settled, settled);
    }
    pub(crate) fn down(&mut self, peer: usize) {
        self.peers[peer] = PeerView::default();
        self.under_way.take_if(|under_way| under_way.peer == peer);
    }
    pub(crate) fn next_fetch(
        &mut self,
        ordering: &Ordering,
        now: Micros,
    ) -> Option<(usize, u64, Vec<TxnId>)> {
        if self.under_way.as_ref().is_some_and(|under_way| under_way.until > now) {
            return None;
        }
        self.under_way = None;
        let mut missing = None;
        for (peer, view) in self.peers.iter().enumerate() {
            if !matches!(view.membership, Some(Membership::Member(_))) || view.barren_until > now {
                continue;
            }
            let wanted = wanted(&view.target, ordering, &mut missing);
            if !wanted.is_empty() {
                let id = self.next_id;
                self.next_id += 1;
                self.under_way = Some(UnderWay { peer, id, wanted: wanted.clone(), until: now + ANSWER_MAX });
                return Some((peer, id, wanted));
            }
        }
        None
    }
    /// Who of these has settled most.
    pub(crate) fn furthest(&self, among: &[usize]) -> Option<usize> {
        let settled = |node: &usize| self.peers[*node].settled.iter().map(|(_, _, seq)| seq.0).sum::<u64>();
        among.iter().copied().max_by_key(settled)
    }
    /// True if none of the members that are further can help.
    pub(crate) fn all_barren(&self, ordering: &Ordering, now: Micros) -> bool {
        let mut missing = None;
        let ahead = |view: &&PeerView| !wanted(&view.target, ordering, &mut missing).is_empty();
        let ahead: Vec<&PeerView> = self.member_views().filter(ahead).collect();
        !ahead.is_empty() && ahead.iter().all(|view| view.barren_until > now)
    }
    /// Whether this node may give up its promises to come back with a copy.
    pub(crate) fn may_leave(&self, own: usize) -> bool {
        let behind = |view: &PeerView| {
            let has = |seat, epoch| {
                let found = view.settled.iter().find(|(of, at, _)| *of == seat && *at == epoch);
                found.map_or(Seq(0), |(_, _, seq)| *seq)
            };
            let short = |(seat, epoch, seq): &(Seat, Epoch, Seq)| has(*seat, *epoch) < *seq;
            self.member_views().any(|other| other.target.iter().any(short))
        };
        self.member_views().count() + 1 == self.peers.len() && !self.peers[..own].iter().any(behind)
    }
    fn member_views(&self) -> impl Iterator<Item = &PeerView> {
        self.peers.iter().filter(|view| matches!(view.membership, Some(Membership::Member(_))))
    }
    pub(crate) fn fetched(&mut self, peer: usize, id: u64, useful: &[(TxnId, Outcome)], now: Micros) {
        let ours = |under_way: &mut UnderWay| under_way.peer == peer && under_way.id == id;
        let Some(under_way) = self.under_way.take_if(ours) else { return };
        if !useful.iter().any(|(txn, _)| under_way.wanted.contains(txn)) {
            self.peers[peer].barren_until = now + BARREN;
        }
    }
}

/// What the peer has and we have not, oldest first.
fn wanted(target: &Settled, ordering: &Ordering, missing: &mut Option<BTreeSet<TxnId>>) -> Vec<TxnId> {
    let mut wanted = Vec::new();
    for (seat, epoch, settled) in target {
        let ours = ordering.settled(StreamId { seat: *seat, epoch: *epoch });
        if ours >= *settled {
            continue;
        }
        let missing = missing.get_or_insert_with(|| ordering.missing(FETCH_MAX).into_iter().collect());
        for seq in ours.0 + 1..=settled.0 {
            if wanted.len() >= FETCH_MAX {
                return wanted;
            }
            let txn = TxnId { seat: *seat, epoch: *epoch, seq: Seq(seq) };
            if ordering.outcome(txn).is_none() || missing.contains(&txn) {
                wanted.push(txn);
            }
        }
    }
    wanted
}
