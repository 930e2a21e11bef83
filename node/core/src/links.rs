//! Connections to the storage nodes, as an instance sees them: who answers, for how long the writer may serve reads,
//! and which node the feed is taken from.
//!
//! Heartbeats are numbered. A connection *counts* while one that was sent within [`HEARD_MS`] has been answered; one
//! that falls silent counts for nothing until it answers again, though it is there. Time in which this instance
//! itself did not listen is not held against anybody.
//!
//! The feed comes from one node at a time. It changes when that node is gone, and when readers have waited too long
//! for it. A connection carries one subscription at most: what an older one still says would be taken for the new
//! one's, and it goes on behind what was left out in between. So a node that is subscribed to again is connected
//! anew.
//!
//! Bytes are the shell's business; it keeps them by node and drops them when a connection is [`Links::down`].

use std::collections::VecDeque;

use crate::blocks::{Around, Candidate};
use crate::coordinator::Millis;
use crate::ids::{Epoch, StorageId, Vector};
use crate::lease::Lease;
use crate::present::Present;
use crate::quorum::Quorum;

/// How often there is a heartbeat.
pub const BEAT_MS: Millis = 100;
/// A node that has not answered a heartbeat for this long counts as not connected.
pub const HEARD_MS: Millis = 1_200;
/// A turn that comes this late is one in which nobody listened.
pub const STALL_MS: Millis = 500;
/// Heartbeats whose answers are of use.
const BEATS_MAX: usize = 64;

struct Link {
    generation: u64,
    near: bool,
    /// When the newest answered heartbeat was sent, or the connection was made.
    heard: Millis,
    /// Its number.
    beat: u64,
    counted: bool,
    /// The feed was asked for over this connection.
    subscribed: bool,
}

/// A heartbeat that was sent.
struct Beat {
    number: u64,
    sent: Millis,
    /// Of the seat that it asked a lease for.
    epoch: Epoch,
}

/// What is to be done about the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedStep {
    /// Nothing.
    Keep,
    /// Subscribe to this node, from what has been applied.
    Subscribe(StorageId),
    /// Close this node's connection; the next one has nothing of an older subscription.
    Reconnect(StorageId),
}

/// The connections to a volume's storage nodes.
pub struct Links {
    links: Vec<Option<Link>>,
    lease: Lease,
    beats: VecDeque<Beat>,
    beat: u64,
    last_beat: Millis,
    /// When the last turn ended, and since when turns have followed each other without a long pause.
    last_turn: Millis,
    awake_since: Millis,
    feed: Option<StorageId>,
    feed_turn: usize,
}

impl Links {
    /// None yet. The search for a node to take the feed from begins behind the `turn`th.
    pub fn new(quorum: Quorum, turn: usize) -> Links {
        Links {
            links: (0..quorum.nodes()).map(|_| None).collect(),
            lease: Lease::new(quorum),
            beats: VecDeque::new(),
            beat: 0,
            last_beat: 0,
            last_turn: 0,
            awake_since: 0,
            feed: None,
            feed_turn: turn,
        }
    }

    // ---- connections ----

    /// A connection is made; `generation` tells it from others to the same node, `near`: the node is in the
    /// instance's zone. It is greeted with a heartbeat.
    pub fn up(&mut self, node: StorageId, generation: u64, near: bool, now: Millis) {
        let link = Link { generation, near, heard: now, beat: 0, counted: true, subscribed: false };
        self.links[usize::from(node.0)] = Some(link);
        self.last_beat = 0;
    }
    /// The connection is gone, or about to be closed: its lease counts no more, which is to be said before this
    /// side closes it ([`Lease::lost`]). [`Links::left`] follows.
    pub fn down(&mut self, node: StorageId) {
        self.lease.lost(node);
        self.links[usize::from(node.0)] = None;
    }
    /// The node is not counted on any more: it is gone, or silent.
    pub fn left(&mut self, node: StorageId) {
        self.feed.take_if(|feed| *feed == node);
    }
    /// The storage nodes that are connected and not silent.
    pub fn all_counted(&self) -> impl Iterator<Item = StorageId> {
        self.links
            .iter()
            .enumerate()
            .filter(|(_, link)| link.as_ref().is_some_and(|link| link.counted))
            .map(|(index, _)| id(index))
    }
    /// Which connection there is to a node.
    pub fn generation(&self, node: StorageId) -> Option<u64> {
        self.links[usize::from(node.0)].as_ref().map(|link| link.generation)
    }
    /// The nodes as a read finds them, by id.
    pub fn candidates(&self) -> Vec<Candidate> {
        let candidate = |link: &Link| Candidate { usable: link.counted, near: link.near };
        self.links.iter().map(|link| link.as_ref().map(candidate).unwrap_or_default()).collect()
    }
    /// What a read is sent by, with [`Links::candidates`] and the oldest snapshot in use.
    pub fn around<'a>(&self, nodes: &'a [Candidate], low: &'a Vector) -> Around<'a> {
        Around { nodes, feed: self.feed, turn: self.feed_turn, low }
    }

    // ---- heartbeats ----

    /// The next [`Links::beat`] is not put off.
    pub fn beat_soon(&mut self) {
        self.last_beat = 0;
    }
    /// The number of a heartbeat to send to all now, if it is time for one. `epoch`: of the seat that it asks a
    /// lease for; 0: of none.
    pub fn beat(&mut self, epoch: Epoch, now: Millis) -> Option<u64> {
        if self.last_beat != 0 && now.saturating_sub(self.last_beat) < BEAT_MS {
            return None;
        }
        self.last_beat = now.max(1);
        self.beat += 1;
        self.beats.push_back(Beat { number: self.beat, sent: now, epoch });
        if self.beats.len() > BEATS_MAX {
            self.beats.pop_front();
        }
        Some(self.beat)
    }
    /// The newest heartbeat.
    pub fn newest_beat(&self) -> u64 {
        self.beat
    }
    /// A node answers a heartbeat; `lease`: and grants a lease. True if the node was silent and counts again.
    pub fn heard(&mut self, node: StorageId, beat: u64, lease: bool) -> bool {
        let Some(Beat { sent, epoch, .. }) = self.beats.iter().find(|one| one.number == beat) else {
            return false;
        };
        let Some(link) = self.links[usize::from(node.0)].as_mut() else { return false };
        link.heard = link.heard.max(*sent);
        link.beat = link.beat.max(beat);
        if lease {
            self.lease.granted(node, *epoch, *sent);
        }
        !std::mem::replace(&mut link.counted, true)
    }
    /// How many storage nodes have answered this heartbeat or a later one.
    pub fn heard_by(&self, beat: u64) -> usize {
        self.links.iter().flatten().filter(|link| link.beat >= beat).count()
    }
    /// A seat was taken with this epoch: leases are of it from here on, and asked for at once.
    pub fn seated(&mut self, epoch: Epoch) {
        self.lease.begin(epoch);
        self.last_beat = 0;
    }
    /// Until when a single-master writer may serve reads; `None`: not now.
    pub fn lease_until(&self) -> Option<Millis> {
        self.lease.until()
    }

    // ---- time ----

    /// A turn ends. For how many milliseconds nobody was there to listen, if that is long: what was said meanwhile
    /// may be read only in the next turns.
    pub fn turn(&mut self, now: Millis) -> Option<Millis> {
        let pause = now.saturating_sub(self.last_turn);
        self.last_turn = now;
        if pause <= STALL_MS {
            return None;
        }
        self.awake_since = now;
        Some(pause)
    }
    /// A node that has fallen silent and counts no more from here on; to be asked until there is none.
    pub fn fallen_silent(&mut self, now: Millis) -> Option<StorageId> {
        let awake_since = self.awake_since;
        let silent = |link: &Link| link.counted && now.saturating_sub(link.heard.max(awake_since)) > HEARD_MS;
        let index = self.links.iter().position(|link| link.as_ref().is_some_and(silent))?;
        if let Some(link) = &mut self.links[index] {
            link.counted = false;
        }
        Some(id(index))
    }
    /// Where the feed comes from.
    pub fn feed(&self) -> Option<StorageId> {
        self.feed
    }
    /// Takes the feed from another node if there is none, or if somebody has waited for it too long; from a near
    /// one at first, then in turn.
    pub fn mind_feed<A>(&mut self, present: &mut Present<A>, now: Millis) -> FeedStep {
        let impatient = present.impatient(now);
        if self.feed.is_some() && !impatient {
            return FeedStep::Keep;
        }
        let count = self.links.len();
        let counted = |index: &usize| self.links[*index].as_ref().is_some_and(|link| link.counted);
        let mut round = (1..=count).map(|step| (self.feed_turn + step) % count).filter(counted);
        let near = |index: &usize| self.links[*index].as_ref().is_some_and(|link| link.near);
        let preferred = if impatient { None } else { round.clone().find(near) };
        let Some(index) = preferred.or_else(|| round.next()) else { return FeedStep::Keep };
        self.feed_turn = index;
        present.feed_minded(now);
        let node = id(index);
        if self.feed == Some(node) {
            return FeedStep::Keep;
        }
        let Some(link) = &mut self.links[index] else { return FeedStep::Keep };
        if std::mem::replace(&mut link.subscribed, true) {
            return FeedStep::Reconnect(node);
        }
        self.feed = Some(node);
        FeedStep::Subscribe(node)
    }
}

fn id(index: usize) -> StorageId {
    StorageId(u8::try_from(index).expect("a volume has at most six storage nodes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::LEASE_MS;
    use crate::ids::{Position, Seat, Seq};
    use crate::present::FEED_PATIENCE_MS;
    use crate::quorum::Mode;

    const NODES: [StorageId; 3] = [StorageId(0), StorageId(1), StorageId(2)];

    /// All three are connected at 1,000; only the last is near.
    fn links() -> Links {
        let quorum = Quorum::new(3, Mode::SingleMaster).expect("a volume has 3");
        let mut links = Links::new(quorum, 0);
        for node in NODES {
            links.up(node, 7, node == StorageId(2), 1_000);
        }
        assert_eq!(links.turn(1_000), Some(1_000));
        links
    }

    fn nobody() -> Present<()> {
        Present::new(2, 3_000)
    }

    /// Somebody waits since 1,000 for what is not applied.
    fn somebody() -> Present<()> {
        let mut present = nobody();
        present.ask((), 1_000);
        let id = present.begin(1_000).expect("somebody waits");
        let mut wanted = Vector::new();
        wanted.advance(Seat(0), Position { epoch: Epoch(1), seq: Seq(1) });
        for node in NODES {
            present.answered(node, id, &wanted, &[], None, 1_000);
        }
        present
    }

    #[test]
    fn heartbeats_are_sent_every_so_often_and_at_once_where_asked_for() {
        let mut links = links();
        assert_eq!(links.beat(Epoch(0), 1_000), Some(1));
        assert_eq!(links.beat(Epoch(0), 1_000 + BEAT_MS - 1), None);
        assert_eq!(links.beat(Epoch(0), 1_000 + BEAT_MS), Some(2));
        links.beat_soon();
        assert_eq!(links.beat(Epoch(0), 1_000 + BEAT_MS), Some(3));
        links.heard(StorageId(0), 2, false);
        links.heard(StorageId(1), 3, false);
        assert_eq!([1, 2, 3, 4].map(|beat| links.heard_by(beat)), [2, 2, 1, 0]);
    }

    #[test]
    fn a_silent_node_counts_again_once_it_answers_a_heartbeat() {
        let mut links = links();
        let beat = links.beat(Epoch(0), 1_000).expect("the first one");
        for node in [0, 2] {
            assert!(!links.heard(StorageId(node), beat, false), "it counted all the time");
        }
        let late = links.beat(Epoch(0), 1_500).expect("it is time");
        links.heard(StorageId(0), late, false);
        assert_eq!(links.fallen_silent(1_000 + HEARD_MS), None);
        assert_eq!(links.fallen_silent(1_001 + HEARD_MS), Some(StorageId(1)));
        assert_eq!(links.fallen_silent(1_001 + HEARD_MS), Some(StorageId(2)));
        assert_eq!(links.fallen_silent(1_001 + HEARD_MS), None, "each is told once");
        assert_eq!(links.all_counted().collect::<Vec<_>>(), [StorageId(0)]);
        assert!(!links.heard(StorageId(1), 99, false), "that was never sent");
        assert!(links.heard(StorageId(1), late, false));
        assert_eq!(links.all_counted().count(), 2);
    }

    #[test]
    fn nobody_is_silent_for_what_was_said_while_nobody_listened() {
        let mut links = links();
        assert_eq!(links.turn(1_000 + STALL_MS), None);
        assert_eq!(links.turn(9_000), Some(9_000 - 1_000 - STALL_MS));
        assert_eq!(links.fallen_silent(9_000 + HEARD_MS), None);
        assert!(links.fallen_silent(9_001 + HEARD_MS).is_some());
    }

    #[test]
    fn a_lease_is_of_the_epoch_of_its_heartbeat_and_ends_with_the_connection() {
        let mut links = links();
        let before = links.beat(Epoch(0), 1_000).expect("the first one");
        links.seated(Epoch(3));
        let beat = links.beat(Epoch(3), 1_010).expect("at once");
        for node in NODES {
            links.heard(node, before, true);
        }
        assert_eq!(links.lease_until(), None);
        links.heard(StorageId(0), beat, true);
        links.heard(StorageId(1), beat, true);
        links.heard(StorageId(2), beat, false);
        assert_eq!(links.lease_until(), Some(1_010 + LEASE_MS));
        links.down(StorageId(1));
        assert_eq!(links.lease_until(), None);
        assert_eq!(links.generation(StorageId(1)), None);
    }

    #[test]
    fn the_feed_comes_from_a_near_node_and_from_the_next_when_it_is_gone() {
        let (mut links, mut present) = (links(), nobody());
        assert_eq!(links.mind_feed(&mut present, 1_000), FeedStep::Subscribe(StorageId(2)));
        assert_eq!(links.mind_feed(&mut present, 1_000), FeedStep::Keep);
        links.down(StorageId(2));
        links.left(StorageId(2));
        assert_eq!(links.feed(), None);
        assert_eq!(links.mind_feed(&mut present, 1_000), FeedStep::Subscribe(StorageId(0)));
        links.left(StorageId(1));
        assert_eq!(links.feed(), Some(StorageId(0)), "another one was lost");
    }

    #[test]
    fn readers_who_wait_too_long_change_the_feed_and_a_second_subscription_needs_a_new_connection() {
        let (mut links, mut present) = (links(), somebody());
        assert_eq!(links.mind_feed(&mut present, 1_000), FeedStep::Subscribe(StorageId(2)));
        let mut now = 1_000;
        let mut step = || {
            now += FEED_PATIENCE_MS;
            assert_eq!(links.mind_feed(&mut present, now), FeedStep::Keep);
            now += 1;
            links.mind_feed(&mut present, now)
        };
        assert_eq!(step(), FeedStep::Subscribe(StorageId(0)));
        assert_eq!(step(), FeedStep::Subscribe(StorageId(1)));
        assert_eq!(step(), FeedStep::Reconnect(StorageId(2)));
        links.down(StorageId(2));
        links.left(StorageId(2));
        assert_eq!(links.feed(), Some(StorageId(1)), "it stays until another one is there");
    }
}
