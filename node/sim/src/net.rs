//! Time and the network: what happens next, and which messages arrive, when, how often.
//!
//! Protocol messages are *loose*: each may be lost, delayed, overtaken and delivered twice, and one of an older
//! connection may still arrive. A connection that has lost something breaks sooner or later, as on TCP. What the shell needs a connection for (greeting, heartbeats, topology, the
//! feed) is *ordered*, as on TCP: a loss there is a delay, a cut holds it back, and a broken connection drops
//! it. Cuts have a direction: requests may pass while replies do not.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use node_core::membership::Generations;
use node_core::wire::{Reply, Request};

use crate::Random;
use crate::faults::Faults;

/// Microseconds of the world's own time.
pub(crate) type Micros = u64;

/// A millisecond.
pub(crate) const MS: Micros = 1_000;

/// Somebody with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A storage node.
    Node(usize),
    /// An instance.
    Instance(usize),
}

/// One run of somebody: it ends with a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) place: Place,
    pub(crate) run: u64,
}

/// What a message says.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Request(Request),
    Reply(Reply),
}

/// Connections of one run of an instance: a reply to an older run is not taken for one to this.
pub(crate) const GENERATIONS: u64 = 1 << 20;

/// The run of the instance that made a connection.
pub(crate) fn run_of(generation: u64) -> u64 {
    generation / GENERATIONS
}

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) from: Address,
    pub(crate) to: Place,
    /// The connection it belongs to.
    pub(crate) generation: u64,
    /// Of a storage node's reply: the disks' generations under which it was given. On a real connection they are
    /// told once, before the first reply given under them.
    pub(crate) under: Generations,
    pub(crate) body: Body,
}

/// What happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message arrives.
    Deliver(Box<Letter>),
    /// A storage node looks into its inbox.
    NodeStep(Address),
    /// A write to a storage node's log is over.
    NodeWritten(Address),
    /// A storage node applies rows.
    NodeApply(Address),
    /// A storage node's housekeeping.
    NodeTick(Address),
    /// A storage node notices that a connection is gone.
    NodeHungUp { node: usize, generation: u64, ended: bool },
    /// An instance's turn.
    Turn(Address),
    /// An instance connects to a storage node.
    Connect { instance: Address, node: usize },
    /// An instance notices that a connection is gone.
    HungUp { instance: usize, node: usize, generation: u64 },
    /// A session goes on, unless it did so already.
    Session { instance: Address, session: usize },
    /// Something may go wrong.
    Misfortune,
    /// A storage node starts again.
    NodeStart(usize),
    /// A storage node that is too far behind leaves, to come back as a new disk.
    NodeLeaves(Address),
    /// An instance starts.
    InstanceStart(usize),
    /// A pause of an instance may be over: what it held back comes now, in its order.
    PauseOver(usize),
}

struct Entry {
    at: Micros,
    number: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.number == other.number
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// The queue of events, and the links between places.
pub(crate) struct Net {
    queue: BinaryHeap<Reverse<Entry>>,
    next: u64,
    /// Directed links that are cut, and until when.
    cut: BTreeMap<(Place, Place), Micros>,
    /// When the last ordered message of a direction arrives.
    ordered: BTreeMap<(Place, Place), Micros>,
    /// Connections that have lost something, and will break for it.
    broken: BTreeSet<u64>,
    pub(crate) faults: Faults,
    /// Messages delivered, lost, doubled.
    pub(crate) counts: [u64; 3],
}

impl Net {
    pub(crate) fn new(faults: Faults) -> Net {
        Net {
            queue: BinaryHeap::new(),
            next: 0,
            cut: BTreeMap::new(),
            ordered: BTreeMap::new(),
            broken: BTreeSet::new(),
            faults,
            counts: [0; 3],
        }
    }
    pub(crate) fn schedule(&mut self, at: Micros, event: Event) {
        self.next += 1;
        self.queue.push(Reverse(Entry { at, number: self.next, event }));
    }
    /// The next event and when it happens.
    pub(crate) fn pop(&mut self) -> Option<(Micros, Event)> {
        self.queue.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }
    pub(crate) fn cut(&mut self, from: Place, to: Place, until: Micros) {
        let end = self.cut.entry((from, to)).or_default();
        *end = (*end).max(until);
    }
    /// Until when the link is cut; `None` if it is not.
    pub(crate) fn cut_until(&self, from: Place, to: Place, now: Micros) -> Option<Micros> {
        self.cut.get(&(from, to)).copied().filter(|until| *until > now)
    }
    /// All cuts and faults of messages end. What was held back arrives soon, in its order.
    pub(crate) fn heal(&mut self, now: Micros) {
        self.cut.clear();
        self.faults = Faults::NONE;
        let mut at = now;
        let mut queue = std::mem::take(&mut self.queue).into_sorted_vec();
        queue.reverse(); // the earliest first
        for Reverse(mut entry) in queue {
            match &entry.event {
                Event::Deliver(letter) if ordered(&letter.body) => {
                    at += 10;
                    entry.at = odd(at);
                    self.ordered.insert((letter.from.place, letter.to), entry.at);
                }
                Event::HungUp { .. } | Event::NodeHungUp { .. } => {
                    at += 10;
                    entry.at = odd(at);
                }
                _ => {}
            }
            self.queue.push(Reverse(entry));
        }
    }
    pub(crate) fn send(&mut self, letter: Letter, now: Micros, random: &mut Random) {
        if ordered(&letter.body) {
            self.send_ordered(letter, now, random);
        } else {
            self.send_loose(letter, now, random);
        }
    }

    /// A connection breaks. The instance notices first, once the news can reach it, and its end of it is
    /// closed then: a storage node takes a closed connection for an instance that knows, or is dead.
    pub(crate) fn hang_up(
        &mut self,
        instance: usize,
        node: usize,
        generation: u64,
        at: Micros,
        random: &mut Random,
    ) {
        let begin = self.cut_until(Place::Node(node), Place::Instance(instance), at).unwrap_or(at);
        self.schedule(begin + random.below(4 * MS), Event::HungUp { instance, node, generation });
    }
    /// The instance's end of a connection is closed; the storage node notices once the news can reach it, behind
    /// everything that was said: it would take a greeting that came later for a connection that is there.
    pub(crate) fn closed(
        &mut self,
        instance: usize,
        node: usize,
        generation: u64,
        now: Micros,
        random: &mut Random,
    ) {
        let link = (Place::Instance(instance), Place::Node(node));
        let begin = self.cut_until(link.0, link.1, now).unwrap_or(now);
        let said = self.ordered.get(&link).map_or(0, |last| last + 1);
        self.schedule(
            (begin + random.below(4 * MS)).max(said),
            Event::NodeHungUp { node, generation, ended: true },
        );
    }

    fn delay(&self, random: &mut Random) -> Micros {
        let usual = 100 + random.below(400);
        match random.chance(self.faults.late) {
            true => usual + random.below(60 * MS),
            false => usual,
        }
    }

    fn send_loose(&mut self, letter: Letter, now: Micros, random: &mut Random) {
        let lost = self.cut_until(letter.from.place, letter.to, now).is_some();
        if lost || random.chance(self.faults.lost) {
            self.counts[1] += 1;
            let after = random.between(200, 1_500) * MS;
            let (node, instance) = match (letter.from.place, letter.to) {
                (Place::Instance(instance), Place::Node(node))
                | (Place::Node(node), Place::Instance(instance)) => (node, instance),
                _ => return, // storage nodes ask each other again and again
            };
            if self.broken.insert(letter.generation) {
                self.hang_up(instance, node, letter.generation, now + after, random);
            }
            return;
        }
        if random.chance(self.faults.twice) {
            self.counts[2] += 1;
            let again = now + self.delay(random) + random.below(30 * MS);
            self.schedule(again, Event::Deliver(Box::new(letter.clone())));
        }
        self.counts[0] += 1;
        let at = now + self.delay(random);
        self.schedule(at, Event::Deliver(Box::new(letter)));
    }

    fn send_ordered(&mut self, letter: Letter, now: Micros, random: &mut Random) {
        let link = (letter.from.place, letter.to);
        let begin = self.cut_until(link.0, link.1, now).unwrap_or(now);
        let mut at = begin + self.delay(random);
        if random.chance(self.faults.lost) {
            at += random.between(40, 250) * MS; // sent again by the transport
        }
        let last = self.ordered.entry(link).or_default();
        at = odd(at.max(*last + 1));
        *last = at;
        self.counts[0] += 1;
        self.schedule(at, Event::Deliver(Box::new(letter)));
    }
}

/// Never a whole millisecond: pauses end there, and what they held back comes first.
fn odd(at: Micros) -> Micros {
    at + Micros::from(at.is_multiple_of(MS))
}

/// Whether the shell relies on the order of such messages within a connection.
pub(crate) fn ordered(body: &Body) -> bool {
    match body {
        Body::Request(request) => {
            matches!(request, Request::Hello { .. } | Request::Heartbeat { .. } | Request::Subscribe { .. })
        }
        Body::Reply(reply) => matches!(
            reply,
            Reply::Welcome { .. }
                | Reply::Beat { .. }
                | Reply::Topology { .. }
                | Reply::Feed { .. }
                | Reply::FeedReset { .. }
        ),
    }
}
