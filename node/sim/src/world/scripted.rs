//! Faults by hand, for scenarios.

use super::World;
use crate::net::{Event, MS, Micros, Place};
use crate::oracle::Report;

/// Until everything heals.
const FOREVER: Micros = Micros::MAX / 2;

impl World {
    /// Milliseconds of the world's time.
    pub fn now(&self) -> u64 {
        self.context.now / MS
    }
    /// The instance that holds a seat, the first of them.
    pub fn writer(&self) -> Option<usize> {
        self.instances.iter().flatten().find(|one| one.seat.is_some()).map(|one| one.index)
    }
    /// Lets time pass until an instance other than `not` holds a seat, at most so many milliseconds.
    pub fn wait_for_writer(&mut self, not: Option<usize>, milliseconds: u64) -> Option<usize> {
        let end = self.context.now + milliseconds * MS;
        let other = |world: &World| {
            let mut holders = world.instances.iter().flatten().filter(|one| one.seat.is_some());
            holders.find(|one| Some(one.index) != not).map(|one| one.index)
        };
        self.until(end, |world| other(world).is_some());
        other(self)
    }
    /// Lets time pass until some storage node has granted the seat of single-master mode to another instance
    /// than this, at most so many milliseconds. Whether one has.
    pub fn wait_for_rival(&mut self, of: usize, milliseconds: u64) -> bool {
        let end = self.context.now + milliseconds * MS;
        let run = self.instances[of].as_ref().map_or(0, |instance| instance.run);
        let granted = |world: &World| {
            let live = world.nodes.iter().filter_map(|node| node.live.as_ref());
            live.flat_map(|live| live.acceptor.seats()).any(|seat| seat.run.0 > 0 && seat.run.0 != run)
        };
        self.until_every(1, end, granted)
    }
    /// Nothing that `from` says reaches `to` until everything heals.
    pub fn cut(&mut self, from: Place, to: Place) {
        self.context.net.cut(from, to, FOREVER);
    }
    /// What `from` says to `to` is lost for so many milliseconds.
    pub fn lose(&mut self, from: Place, to: Place, milliseconds: u64) {
        self.context.net.cut(from, to, self.context.now + milliseconds * MS);
    }
    /// Nothing that the place says reaches a storage node.
    pub fn cut_sends(&mut self, from: Place) {
        for node in 0..self.nodes.len() {
            self.cut(from, Place::Node(node));
        }
    }
    /// Nothing that a storage node says reaches the place.
    pub fn cut_receives(&mut self, to: Place) {
        for node in 0..self.nodes.len() {
            self.cut(Place::Node(node), to);
        }
    }
    /// A storage node stops, by loss of power or as a process, until [`World::restart_node`].
    pub fn stop_node(&mut self, node: usize, power: bool) {
        self.crash_node(node, power);
    }
    /// A storage node starts again.
    pub fn restart_node(&mut self, node: usize) {
        self.start_node(node);
    }
    /// A storage node's disk is lost; it starts again with an empty one.
    pub fn lose_node(&mut self, node: usize) {
        self.nodes[node].lose_disk(&mut self.context);
        self.node_is_gone(node);
        self.start_node(node);
    }
    /// A storage node's disk is full until everything heals.
    pub fn fill_disk(&mut self, node: usize) {
        self.nodes[node].disk.full_until = FOREVER;
    }
    /// An instance is killed, and starts again as a new run after so many milliseconds.
    pub fn kill_instance(&mut self, index: usize, milliseconds: u64) {
        self.stop_instance(index);
        let at = self.context.now + milliseconds * MS;
        self.context.net.schedule(at, Event::InstanceStart(index));
    }
    /// An instance is not scheduled for so many milliseconds.
    pub fn pause_instance(&mut self, index: usize, milliseconds: u64) {
        if let Some(instance) = &mut self.instances[index] {
            instance.pause(milliseconds, &self.context);
        }
    }
    /// The storage nodes notice that their connections to an instance are gone; it does not, yet.
    pub fn hang_up_on(&mut self, index: usize, nodes: &[usize]) {
        let Some(instance) = &self.instances[index] else { return };
        for (node, generation) in instance.connections().into_iter().filter(|(node, _)| nodes.contains(node))
        {
            self.context.net.schedule(self.context.now, Event::NodeHungUp { node, generation, ended: false });
        }
    }
    /// How many transactions have been acknowledged.
    pub fn committed(&self) -> u64 {
        self.context.oracle.counts.committed
    }
    /// Heals everything, demands progress, lets everything come to rest, and checks the end.
    pub fn finish(mut self) -> Report {
        self.heal();
        self.progress();
        self.rest();
        self.check_end()
    }
}
