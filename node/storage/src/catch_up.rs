//! Which decided transactions this node missed, and which peer to ask for them.
//!
//! A transaction counts as missed when a peer had settled it one status ago and it is not settled here:
//! what is merely on its way is not fetched. One question is under way at a time.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use node_core::ids::{Epoch, Outcome, Seat, Seq, StorageId, StreamId, TxnId};
use node_core::ordering::Ordering;
use node_core::wire::Membership;

/// Transactions asked for at once.
const FETCH_MAX: usize = 1000;
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// How long a peer that could not help is left alone.
const BARREN: Duration = Duration::from_secs(5);

#[derive(Clone, Default)]
struct PeerView {
    membership: Option<Membership>,
    settled: Vec<(Seat, Epoch, Seq)>,
    /// What it had settled one status ago.
    target: Vec<(Seat, Epoch, Seq)>,
    barren_until: Option<Instant>,
}

struct UnderWay {
    peer: StorageId,
    id: u64,
    wanted: Vec<TxnId>,
    until: Instant,
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
    /// A peer says what it is and has.
    pub(crate) fn status(
        &mut self,
        peer: StorageId,
        membership: Membership,
        settled: Vec<(Seat, Epoch, Seq)>,
    ) {
        if let Some(view) = self.peers.get_mut(peer.0 as usize) {
            view.membership = Some(membership);
            view.target = std::mem::replace(&mut view.settled, settled);
        }
    }
    /// A peer is gone.
    pub(crate) fn down(&mut self, peer: StorageId) {
        if let Some(view) = self.peers.get_mut(peer.0 as usize) {
            *view = PeerView::default();
        }
        self.under_way.take_if(|under_way| under_way.peer == peer);
    }
    /// What the other nodes say they are.
    pub(crate) fn memberships(&self, own: StorageId) -> Vec<Option<Membership>> {
        let others = self.peers.iter().enumerate().filter(|(id, _)| *id != own.0 as usize);
        others.map(|(_, view)| view.membership).collect()
    }
    /// The other nodes that say they are members.
    pub(crate) fn members(&self) -> Vec<StorageId> {
        let member = |(number, view): (usize, &PeerView)| {
            let member = matches!(view.membership, Some(Membership::Member(_)));
            member.then(|| StorageId(u8::try_from(number).expect("a volume has at most 6 nodes")))
        };
        self.peers.iter().enumerate().filter_map(member).collect()
    }
    /// Who of these has settled most.
    pub(crate) fn furthest(&self, among: &[StorageId]) -> Option<StorageId> {
        let settled = |node: &StorageId| {
            let view = self.peers.get(usize::from(node.0));
            view.map_or(0, |view| view.settled.iter().map(|(_, _, seq)| u128::from(seq.0)).sum::<u128>())
        };
        among.iter().copied().max_by_key(settled)
    }
    /// Whether nobody can help: what this node missed is recorded nowhere any more. Members that have missed as
    /// much do not count.
    pub(crate) fn all_barren(&self, ordering: &Ordering, now: Instant) -> bool {
        let mut missing = None;
        let ahead = |view: &&PeerView| !wanted(&view.target, ordering, &mut missing).is_empty();
        let ahead: Vec<&PeerView> = self.member_views().filter(ahead).collect();
        !ahead.is_empty() && ahead.iter().all(|view| view.barren_until.is_some_and(|until| until > now))
    }
    /// Whether this node may give up its promises to come back with a copy: all others are members, so that a
    /// write quorum of them is left with one to spare, and none with a lower number is behind as well: it goes
    /// first, and only one goes at a time.
    pub(crate) fn may_leave(&self, own: StorageId) -> bool {
        let behind = |view: &PeerView| {
            let has = |seat, epoch| {
                let found = view.settled.iter().find(|(of, at, _)| *of == seat && *at == epoch);
                found.map_or(Seq(0), |(_, _, seq)| *seq)
            };
            let short = |(seat, epoch, seq): &(Seat, Epoch, Seq)| has(*seat, *epoch) < *seq;
            self.member_views().any(|other| other.target.iter().any(short))
        };
        let lower = self.peers.iter().take(usize::from(own.0));
        self.members().len() + 1 == self.peers.len() && !lower.into_iter().any(behind)
    }
    fn member_views(&self) -> impl Iterator<Item = &PeerView> {
        self.peers.iter().filter(|view| matches!(view.membership, Some(Membership::Member(_))))
    }
    /// The next question: to whom, its number, about what.
    pub(crate) fn next_fetch(
        &mut self,
        ordering: &Ordering,
        now: Instant,
    ) -> Option<(StorageId, u64, Vec<TxnId>)> {
        if self.under_way.as_ref().is_some_and(|under_way| under_way.until > now) {
            return None;
        }
        self.under_way = None;
        let mut missing = None;
        for (number, view) in self.peers.iter().enumerate() {
            let usable = matches!(view.membership, Some(Membership::Member(_)))
                && view.barren_until.is_none_or(|until| until <= now);
            if !usable {
                continue;
            }
            let wanted = wanted(&view.target, ordering, &mut missing);
            if !wanted.is_empty() {
                let peer = StorageId(u8::try_from(number).expect("a volume has at most 6 nodes"));
                let id = self.next_id;
                self.next_id += 1;
                let under_way = UnderWay { peer, id, wanted: wanted.clone(), until: now + ANSWER_MAX };
                self.under_way = Some(under_way);
                return Some((peer, id, wanted));
            }
        }
        None
    }
    /// The answer to a question. True if the peer could not help with anything.
    pub(crate) fn fetched(
        &mut self,
        peer: StorageId,
        id: u64,
        useful: &[(TxnId, Outcome)],
        now: Instant,
    ) -> bool {
        let ours = |under_way: &mut UnderWay| under_way.peer == peer && under_way.id == id;
        let Some(under_way) = self.under_way.take_if(ours) else { return false };
        let helped = useful.iter().any(|(txn, _)| under_way.wanted.contains(txn));
        if !helped && let Some(view) = self.peers.get_mut(peer.0 as usize) {
            view.barren_until = Some(now + BARREN);
        }
        !helped
    }
}

/// What the peer has and we have not, oldest first.
fn wanted(
    target: &[(Seat, Epoch, Seq)],
    ordering: &Ordering,
    missing: &mut Option<BTreeSet<TxnId>>,
) -> Vec<TxnId> {
    let mut wanted = Vec::new();
    for (seat, epoch, settled) in target {
        let ours = ordering.settled(StreamId { seat: *seat, epoch: *epoch });
        if ours >= *settled {
            continue;
        }
        // Gaps, and commits known without their record.
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
