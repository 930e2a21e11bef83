//! Which decided transactions a storage node missed, which peer it asks for them, and when it is too far behind.
//!
//! Storage nodes tell each other at intervals how far each stream is settled. A transaction counts as missed when
//! a peer had settled it one status ago and it is not settled here: what is merely on its way is not fetched. One
//! question is under way at a time; a peer that could not help with anything is left alone for a while.
//!
//! If none of the members that are further can help, what was missed is recorded nowhere any more: then the node
//! gives up its promises on purpose, to come back as a new disk (`docs/rfcs/0005-readmission.md`), but only while
//! all the others can do without it.

use std::collections::{BTreeSet, HashMap};

use crate::acceptor::Acceptor;
use crate::coordinator::Millis;
use crate::ids::{Epoch, Outcome, Seat, Seq, StorageId, StreamId, TxnId};
use crate::ordering::Ordering;
use crate::txn::SharedTxn;
use crate::wire::{Closing, Membership, Reply, Request, Settled};

/// Transactions asked for at once.
pub const FETCH_MAX: usize = 1000;
/// A question that has no answer by then is given up.
pub const ANSWER_MAX_MS: Millis = 3_000;
/// How long a peer that could not help is left alone.
pub const BARREN_MS: Millis = 5_000;
/// How long nobody must have been able to help before a node that is behind gives up what it has.
pub const BEHIND_MIN_MS: Millis = 2_000;

const _: () = assert!(BEHIND_MIN_MS < BARREN_MS, "peers are known to be barren for as long as is waited for");

/// How far each stream is settled.
pub type Positions = Vec<(Seat, Epoch, Seq)>;

#[derive(Clone, Default)]
struct PeerView {
    membership: Option<Membership>,
    settled: Positions,
    /// What it had settled one status ago.
    target: Positions,
    barren_until: Option<Millis>,
}

impl PeerView {
    fn is_member(&self) -> bool {
        matches!(self.membership, Some(Membership::Member(_)))
    }
    fn is_barren(&self, now: Millis) -> bool {
        self.barren_until.is_some_and(|until| until > now)
    }
}

struct UnderWay {
    peer: StorageId,
    id: u64,
    wanted: Vec<TxnId>,
    until: Millis,
}

/// What a peer's answer is good for.
#[derive(Debug)]
pub struct Fetched {
    /// What is decided: for the acceptor.
    pub decisions: Vec<Request>,
    /// The peer could not help with anything.
    pub barren: bool,
}

/// What is known of the other storage nodes.
pub struct CatchUp {
    own: StorageId,
    peers: Vec<PeerView>,
    under_way: Option<UnderWay>,
    /// Since when no peer could help with what was missed.
    behind_since: Option<Millis>,
    next_id: u64,
}

impl CatchUp {
    /// Nobody has said anything yet; `own` is this node, one of so many.
    pub fn new(own: StorageId, nodes: usize) -> CatchUp {
        let peers = vec![PeerView::default(); nodes];
        CatchUp { own, peers, under_way: None, behind_since: None, next_id: 1 }
    }
    /// A peer says what it is and has.
    pub fn status(&mut self, peer: StorageId, membership: Membership, settled: Positions) {
        if let Some(view) = self.peers.get_mut(usize::from(peer.0)) {
            view.membership = Some(membership);
            view.target = std::mem::replace(&mut view.settled, settled);
        }
    }
    /// A peer is gone.
    pub fn down(&mut self, peer: StorageId) {
        if let Some(view) = self.peers.get_mut(usize::from(peer.0)) {
            *view = PeerView::default();
        }
        self.under_way.take_if(|under_way| under_way.peer == peer);
    }
    /// What the other nodes say they are.
    pub fn memberships(&self) -> Vec<Option<Membership>> {
        let others = self.peers.iter().enumerate().filter(|(id, _)| *id != usize::from(self.own.0));
        others.map(|(_, view)| view.membership).collect()
    }
    /// The other nodes that say they are members.
    pub fn members(&self) -> Vec<StorageId> {
        self.views().filter(|(_, view)| view.is_member()).map(|(peer, _)| peer).collect()
    }
    /// Who of these has settled most.
    pub fn furthest(&self, among: &[StorageId]) -> Option<StorageId> {
        let settled = |node: &StorageId| {
            let view = self.peers.get(usize::from(node.0));
            view.map_or(0, |view| view.settled.iter().map(|(_, _, seq)| u128::from(seq.0)).sum::<u128>())
        };
        among.iter().copied().max_by_key(settled)
    }
    /// The next question, and whom to ask.
    pub fn next_fetch(&mut self, ordering: &Ordering, now: Millis) -> Option<(StorageId, Request)> {
        if self.under_way.as_ref().is_some_and(|under_way| under_way.until > now) {
            return None;
        }
        self.under_way = None;
        let mut missing = None;
        let usable = |(_, view): &(StorageId, &PeerView)| view.is_member() && !view.is_barren(now);
        let question = |(peer, view): (StorageId, &PeerView)| {
            let txns = wanted(&view.target, ordering, &mut missing);
            (!txns.is_empty()).then_some((peer, txns))
        };
        let (peer, txns) = self.views().filter(usable).find_map(question)?;
        let id = self.next_id;
        self.next_id += 1;
        self.under_way = Some(UnderWay { peer, id, wanted: txns.clone(), until: now + ANSWER_MAX_MS });
        Some((peer, Request::Fetch { id, txns }))
    }
    /// The answer to a question: which outcomes the peer knows, and the records of commits that it still has. A
    /// commit without its record is of no use.
    pub fn fetched(
        &mut self,
        peer: StorageId,
        id: u64,
        known: Vec<(TxnId, Outcome)>,
        bodies: Vec<SharedTxn>,
        now: Millis,
    ) -> Fetched {
        let mut bodies: HashMap<TxnId, SharedTxn> = bodies.into_iter().map(|body| (body.id, body)).collect();
        let mut useful = known;
        useful.retain(|(txn, outcome)| *outcome == Outcome::Abort || bodies.contains_key(txn));
        let ours = |under_way: &mut UnderWay| under_way.peer == peer && under_way.id == id;
        let answered = self.under_way.take_if(ours);
        let barren = answered.is_some_and(|asked| !useful.iter().any(|(txn, _)| asked.wanted.contains(txn)));
        if barren && let Some(view) = self.peers.get_mut(usize::from(peer.0)) {
            view.barren_until = Some(now + BARREN_MS);
            self.behind_since.get_or_insert(now);
        }
        let decide = |(txn, outcome)| Request::Decide { txn, outcome, body: bodies.remove(&txn) };
        Fetched { decisions: useful.into_iter().map(decide).collect(), barren }
    }
    /// Whether what was missed is recorded nowhere any more, and that for some time, while the others can do
    /// without this node. To be asked at every step: it also notices that somebody can help again.
    pub fn behind_for_good(&mut self, ordering: &Ordering, now: Millis) -> bool {
        let Some(since) = self.behind_since else { return false };
        if !self.all_barren(ordering, now) {
            self.behind_since = None;
            return false;
        }
        now.saturating_sub(since) >= BEHIND_MIN_MS && self.may_leave()
    }
    /// Whether nobody can help. Members that have missed as much do not count.
    fn all_barren(&self, ordering: &Ordering, now: Millis) -> bool {
        let mut missing = None;
        let ahead = |view: &&PeerView| !wanted(&view.target, ordering, &mut missing).is_empty();
        let ahead: Vec<&PeerView> = self.member_views().filter(ahead).collect();
        !ahead.is_empty() && ahead.iter().all(|view| view.is_barren(now))
    }
    /// Whether this node may give up its promises to come back with a copy: all others are members, so that a
    /// write quorum of them is left with one to spare, and none with a lower number is behind as well: it goes
    /// first, and only one goes at a time.
    fn may_leave(&self) -> bool {
        let behind = |view: &PeerView| {
            let has = |seat, epoch| {
                let found = view.settled.iter().find(|(of, at, _)| *of == seat && *at == epoch);
                found.map_or(Seq(0), |(_, _, seq)| *seq)
            };
            let short = |(seat, epoch, seq): &(Seat, Epoch, Seq)| has(*seat, *epoch) < *seq;
            self.member_views().any(|other| other.target.iter().any(short))
        };
        let lower = self.peers.iter().take(usize::from(self.own.0));
        self.member_views().count() + 1 == self.peers.len() && !lower.into_iter().any(behind)
    }
    fn views(&self) -> impl Iterator<Item = (StorageId, &PeerView)> {
        (0..).map(StorageId).zip(&self.peers)
    }
    fn member_views(&self) -> impl Iterator<Item = &PeerView> {
        self.peers.iter().filter(|view| view.is_member())
    }
}

/// What the peer has and we have not, oldest first. `missing` is found out once for all peers, and only if some
/// peer is ahead.
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

// ---- what a peer is told ----

/// Tells a peer what this node is and has, with the closings that the peer missed: `theirs` is what it has
/// settled.
pub fn status(acceptor: &Acceptor, membership: Membership, theirs: &[(Seat, Epoch, Seq)]) -> Reply {
    let knows = |closing: &Closing| {
        theirs.iter().any(|(seat, epoch, _)| *seat == closing.seat && *epoch >= closing.epoch)
    };
    let mut closings = acceptor.closings();
    closings.retain(|closing| !knows(closing));
    Reply::StatusIs { membership, settled: acceptor.settled(), seats: acceptor.seats(), closings }
}

/// What is known here of transactions that a peer missed.
pub fn known(ordering: &Ordering, txns: Vec<TxnId>) -> Vec<(TxnId, Outcome)> {
    let outcome = |txn| match ordering.outcome(txn)? {
        Settled::Decided(outcome) => Some((txn, outcome)),
        Settled::Unknown => None,
    };
    txns.into_iter().filter_map(outcome).collect()
}

/// Whether closings are taken from a peer: only from a member of the volume that this node, too, is a member of,
/// or which it `follows` while it joins.
pub fn takes_closings(own: Membership, follows: bool, theirs: Membership) -> bool {
    match (own, theirs) {
        (Membership::Member(own), Membership::Member(theirs)) => own == theirs,
        (Membership::Lost(_), Membership::Member(_)) => follows,
        (Membership::Empty | Membership::Forming(_), _) => false,
        (_, Membership::Empty | Membership::Forming(_) | Membership::Lost(_)) => false,
    }
}

#[cfg(test)]
mod tests;
