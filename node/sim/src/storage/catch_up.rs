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
    /// True if enough members are there, and none of them can help.
    pub(crate) fn hopeless(&self, quorum: usize, now: Micros) -> bool {
        let member = |view: &&PeerView| matches!(view.membership, Some(Membership::Member(_)));
        let members: Vec<&PeerView> = self.peers.iter().filter(member).collect();
        members.len() >= quorum && members.iter().all(|view| view.barren_until > now)
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
