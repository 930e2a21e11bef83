//! What goes wrong, and when.

use super::{LOOK, World};
use crate::context::Context;
use crate::net::{Event, MS, Place};

impl World {
    /// Looks whether something goes wrong now.
    pub(super) fn misfortune(&mut self) {
        let faults = self.context.net.faults;
        self.see_off_leavers();
        let mut now = |chance: u64| {
            let happens = self.context.random.below(1_000) < chance;
            self.context.oracle.counts.faults += u64::from(happens);
            happens
        };
        let happens = [
            now(faults.node_crash),
            now(faults.blackout),
            now(faults.instance_crash),
            now(faults.leave),
            now(faults.cut),
            now(faults.reset),
            now(faults.slow_disk),
            now(faults.full_disk),
            now(faults.rot),
            now(faults.lost_disk),
            now(faults.jump),
            now(faults.pause),
        ];
        let acts: [fn(&mut World); 12] = [
            World::some_node_crashes,
            World::blackout,
            World::some_instance_crashes,
            World::some_instance_leaves,
            World::some_cut,
            World::some_reset,
            World::some_slow_disk,
            World::some_full_disk,
            World::some_rot,
            World::some_disk_is_lost,
            World::some_clock_jumps,
            World::some_pause,
        ];
        for (act, _) in acts.iter().zip(happens).filter(|(_, happens)| *happens) {
            act(self);
        }
        let at = self.context.now + LOOK;
        self.context.net.schedule(at, Event::Misfortune);
    }

    fn some_node(&mut self) -> usize {
        self.context.random.below(self.nodes.len() as u64) as usize
    }
    fn some_instance(&mut self) -> usize {
        self.context.random.below(self.instances.len() as u64) as usize
    }

    fn node_starts_later(&mut self, node: usize) {
        let most = if self.context.random.chance(50) { 100 } else { 1_500 };
        let at = self.context.now + self.context.random.between(5, most) * MS;
        self.context.net.schedule(at, Event::NodeStart(node));
    }

    fn some_node_crashes(&mut self) {
        let node = self.some_node();
        let power = self.context.random.chance(50);
        self.crash_node(node, power);
        self.node_starts_later(node);
    }

    fn blackout(&mut self) {
        for node in 0..self.nodes.len() {
            self.crash_node(node, true);
            self.node_starts_later(node);
        }
    }

    fn some_instance_crashes(&mut self) {
        let index = self.some_instance();
        self.stop_instance(index);
        let at = self.context.now + self.context.random.between(5, 800) * MS;
        self.context.net.schedule(at, Event::InstanceStart(index));
    }

    fn some_instance_leaves(&mut self) {
        let index = self.some_instance();
        let leaves = self.context.random.chance(60);
        if let Some(instance) = &mut self.instances[index] {
            // Otherwise it only hands its seat over.
            instance.closing |= leaves;
            instance.resign(&mut self.context);
        }
    }

    /// Instances that have given up their seat for good end.
    fn see_off_leavers(&mut self) {
        for index in 0..self.instances.len() {
            if self.instances[index].as_ref().is_some_and(|instance| instance.has_resigned()) {
                self.stop_instance(index);
                let at = self.context.now + self.context.random.between(5, 1_500) * MS;
                self.context.net.schedule(at, Event::InstanceStart(index));
            }
        }
    }

    fn some_cut(&mut self) {
        let until = self.context.now + self.context.random.between(20, 2_500) * MS;
        let nodes = (0..self.nodes.len()).map(Place::Node);
        let places: Vec<Place> = nodes.chain((0..self.instances.len()).map(Place::Instance)).collect();
        let pick = self.context.random.below(places.len() as u64) as usize;
        let one = places[pick];
        let kind = self.context.random.below(4);
        let direction = self.context.random.below(3);
        // A link, everything of one place, or two sides of the world.
        let side: Vec<Place> = match kind {
            0 | 1 => vec![one],
            _ => places.iter().copied().filter(|_| self.context.random.chance(40)).collect(),
        };
        let mut others: Vec<Place> = places.iter().copied().filter(|place| !side.contains(place)).collect();
        if kind == 0 && !others.is_empty() {
            let other = self.context.random.below(others.len() as u64) as usize;
            others = vec![others[other]];
        }
        self.context.note(|| format!("cut {side:?} | {others:?}: direction {direction}"));
        for from in &side {
            for to in &others {
                if direction != 1 {
                    self.context.net.cut(*from, *to, until);
                }
                if direction != 0 {
                    self.context.net.cut(*to, *from, until);
                }
            }
        }
    }

    /// A connection breaks; each side notices in its own time.
    fn some_reset(&mut self) {
        let index = self.some_instance();
        let Some(instance) = &self.instances[index] else { return };
        let connections = instance.connections();
        let all = self.context.random.chance(20);
        let pick = self.some_node();
        // A storage node that gives a connection up, or something between the two that does.
        let unnoticed = self.context.random.chance(30);
        for (node, generation) in connections.into_iter().filter(|(node, _)| all || *node == pick) {
            let mut at = self.context.now;
            if unnoticed {
                self.context.net.schedule(at, Event::NodeHungUp { node, generation, ended: false });
                at += self.context.random.between(1, 1_500) * MS;
            }
            let Context { net, random, .. } = &mut self.context;
            net.hang_up(index, node, generation, at, random);
        }
    }

    fn some_slow_disk(&mut self) {
        let node = self.some_node();
        self.nodes[node].disk.slow_until = self.context.now + self.context.random.between(50, 2_000) * MS;
    }

    fn some_full_disk(&mut self) {
        let node = self.some_node();
        self.nodes[node].disk.full_until = self.context.now + self.context.random.between(50, 2_000) * MS;
    }

    /// Whether one more disk may be lost: N - Q of them at a time.
    fn may_lose(&self, node: usize) -> bool {
        let lost = self.nodes.iter().filter(|node| !node.is_member()).count() + self.rotten.len();
        lost < self.quorum.nodes() - self.quorum.write()
            && self.nodes[node].is_member()
            && !self.rotten.contains(&node)
    }

    fn some_rot(&mut self) {
        let node = self.some_node();
        if self.may_lose(node) && self.nodes[node].disk.rot(&mut self.context.random) {
            self.rotten.push(node);
        }
    }

    fn some_disk_is_lost(&mut self) {
        let node = self.some_node();
        if self.may_lose(node) {
            self.nodes[node].lose_disk(&mut self.context);
            self.rotten.push(node); // until the start finds it
            self.node_is_gone(node);
            self.node_starts_later(node);
        }
    }

    fn some_clock_jumps(&mut self) {
        let index = self.some_instance();
        let by = self.context.random.between(1, 3_000) * MS;
        if let Some(instance) = &mut self.instances[index] {
            instance.jump(by);
        }
    }

    fn some_pause(&mut self) {
        let index = self.some_instance();
        let milliseconds = self.context.random.between(20, 2_500);
        if let Some(instance) = &mut self.instances[index] {
            instance.pause(milliseconds, &self.context);
        }
    }
}
