//! The world: who is in it, what goes wrong when, and how it ends.
//!
//! A run has three parts: clients work while faults happen; every fault is healed and all must make progress
//! within a bound; clients stop, everything comes to rest, and the end is checked.

mod checks;
mod misfortune;
mod scripted;

use node_core::mistakes::{self, Mistake};
use node_core::quorum::{Mode, Quorum};

use crate::Random;
use crate::context::Context;
use crate::faults::{Faults, Plant};
use crate::instance::{Instance, Workload};
use crate::net::{Address, Event, MS, Micros, Net, Place};
use crate::oracle::{Oracle, Report};
use crate::storage::Node;

/// How long after all faults have ended everybody may take to commit something.
const PROGRESS_MAX: Micros = 15_000 * MS;
/// How long after clients have stopped everything may take to come to rest.
const REST_MAX: Micros = 20_000 * MS;
/// Time between two looks at whether something goes wrong.
const LOOK: Micros = 20 * MS;

/// What a world is made of.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Storage nodes: 3 or 6.
    pub nodes: usize,
    /// Instances.
    pub instances: usize,
    /// Who may write.
    pub mode: Mode,
    /// What goes wrong.
    pub faults: Faults,
    /// A mistake made on purpose.
    pub plant: Plant,
    /// How long clients work among faults, in milliseconds.
    pub milliseconds: u64,
    /// Print every message.
    pub trace: bool,
}

impl Setup {
    /// As a seed wants it.
    pub fn random(seed: u64) -> Setup {
        let mut random = Random::new(seed ^ 0x5eed);
        let mode = if random.chance(60) { Mode::MultiMaster } else { Mode::SingleMaster };
        let nodes = if random.chance(50) { 3 } else { 6 };
        let instances = random.between(1, 3) as usize;
        // Each fault is there in some runs and not in others, so that runs differ in kind.
        let mut some = |most: u64| if random.chance(45) { 1 + random.below(most) } else { 0 };
        let faults = Faults {
            lost: some(15),
            twice: some(10),
            late: some(30),
            node_crash: some(40),
            blackout: some(6),
            instance_crash: some(25),
            leave: some(15),
            cut: some(80),
            reset: some(40),
            slow_disk: some(20),
            full_disk: some(15),
            rot: some(6),
            lost_disk: some(4),
            jump: some(20),
            pause: some(20),
        };
        let milliseconds = random.between(1_000, 5_000);
        Setup { nodes, instances, mode, faults, plant: Plant::Nothing, milliseconds, trace: false }
    }
}

/// A whole cluster in one thread.
pub struct World {
    setup: Setup,
    quorum: Quorum,
    context: Context,
    nodes: Vec<Node>,
    instances: Vec<Option<Instance>>,
    next_run: u64,
    healed: bool,
    /// Nodes whose log is damaged, which nobody knows yet.
    rotten: Vec<usize>,
    /// By instance: what its pause holds back, in its order.
    held_back: Vec<Vec<Event>>,
}

impl World {
    /// A volume that has just been formed, and instances that start.
    pub fn new(seed: u64, setup: Setup) -> World {
        let quorum = Quorum::new(setup.nodes, setup.mode).expect("sizes are given by the tests");
        let mut random = Random::new(seed);
        let workload = Workload::new(&mut random);
        let mut context = Context {
            now: 1_000 * MS,
            random,
            net: Net::new(setup.faults),
            oracle: Oracle::new(setup.nodes, workload),
            plant: setup.plant,
            trace: setup.trace,
        };
        context.note(|| format!("{setup:?}"));
        let nodes = (0..setup.nodes).map(|index| Node::new(index, quorum, &mut context)).collect();
        let instances = (0..setup.instances).map(|_| None).collect();
        let mut world = World {
            setup,
            quorum,
            context,
            nodes,
            instances,
            next_run: 1,
            healed: false,
            rotten: Vec::new(),
            held_back: (0..setup.instances).map(|_| Vec::new()).collect(),
        };
        for node in &mut world.nodes {
            node.start(&mut world.context, true);
        }
        for index in 0..setup.instances {
            world.start_instance(index);
        }
        world.context.net.schedule(world.context.now + LOOK, Event::Misfortune);
        world
    }

    /// Runs to the end. Panics where something does not hold.
    pub fn run(mut self) -> Report {
        let _mistake = match self.setup.plant {
            Plant::SkipMustCommit => Some(Mistake::SkipMustCommit),
            Plant::BaseNotLearnt => Some(Mistake::BaseNotLearnt),
            Plant::DecisionForgotten => Some(Mistake::DecisionForgotten),
            Plant::Nothing | Plant::VoteBeforeSync | Plant::IndexTooFew | Plant::PromiseLostWithDisk => None,
        }
        .map(mistakes::make);
        self.work(self.setup.milliseconds);
        self.heal();
        self.progress();
        self.rest();
        self.check_end()
    }

    /// Lets so many milliseconds pass.
    pub fn work(&mut self, milliseconds: u64) {
        let end = self.context.now + milliseconds * MS;
        self.until(end, |_| false);
    }

    /// Lets time pass until the end or the condition. Whether the condition came first.
    fn until(&mut self, end: Micros, condition: impl Fn(&World) -> bool) -> bool {
        self.until_every(10 * MS, end, condition)
    }

    /// As [`World::until`], looking every so often.
    fn until_every(&mut self, every: Micros, end: Micros, condition: impl Fn(&World) -> bool) -> bool {
        let mut looked = self.context.now;
        while let Some((at, event)) = self.context.net.pop() {
            if at > end {
                // Nothing is lost: it happens when time goes on.
                self.context.net.schedule(at, event);
                self.context.now = end;
                return condition(self);
            }
            self.context.now = at;
            self.happen(event);
            if at >= looked + every {
                looked = at;
                if condition(self) {
                    return true;
                }
            }
        }
        unreachable!("a storage node's housekeeping never ends")
    }

    fn happen(&mut self, event: Event) {
        if let Event::PauseOver(index) = event {
            return self.pause_over(index);
        }
        if let Some(event) = self.postponed(event) {
            self.happen_now(event);
        }
    }

    fn happen_now(&mut self, event: Event) {
        match event {
            Event::Deliver(letter) => match letter.to {
                Place::Node(node) => self.nodes[node].receive(*letter, &mut self.context),
                Place::Instance(index) => {
                    if let Some(instance) = &mut self.instances[index] {
                        instance.receive(*letter, &mut self.context);
                    }
                }
            },
            Event::NodeStep(node) => self.node(node, Node::step),
            Event::NodeWritten(node) => self.node(node, Node::written),
            Event::NodeApply(node) => self.node(node, Node::apply_rows),
            Event::NodeTick(node) => self.node(node, Node::tick),
            Event::NodeHungUp { node, generation, ended } => {
                self.nodes[node].hung_up(generation, ended, &mut self.context);
            }
            Event::Turn(address) => self.instance(address, Instance::turn),
            Event::Connect { instance, node } => {
                self.instance(instance, |instance, context| instance.connect(node, context));
            }
            Event::HungUp { instance, node, generation } => {
                if let Some(instance) = &mut self.instances[instance] {
                    instance.hung_up(node, generation, &mut self.context);
                }
            }
            Event::Session { instance, session } => {
                self.instance(instance, |instance, context| instance.session(session, context));
            }
            Event::Misfortune => self.misfortune(),
            Event::NodeStart(node) => self.start_node(node),
            Event::NodeLeaves(address) => self.node_leaves(address),
            Event::InstanceStart(index) => self.start_instance(index),
            Event::PauseOver(index) => self.pause_over(index),
        }
    }

    /// The event, unless it is of an instance that is paused: then it comes later.
    fn postponed(&mut self, event: Event) -> Option<Event> {
        let place = match &event {
            Event::Deliver(letter) => letter.to,
            Event::Turn(address)
            | Event::Connect { instance: address, .. }
            | Event::Session { instance: address, .. } => address.place,
            Event::HungUp { instance, .. } => Place::Instance(*instance),
            _ => return Some(event),
        };
        let Place::Instance(index) = place else { return Some(event) };
        let until = self.instances[index].as_ref().map_or(0, |instance| instance.paused_until);
        if until <= self.context.now && self.held_back[index].is_empty() {
            return Some(event);
        }
        if self.held_back[index].is_empty() {
            self.context.net.schedule(until, Event::PauseOver(index));
        }
        self.held_back[index].push(event);
        None
    }

    /// What a pause held back comes in its order, unless another pause has begun.
    fn pause_over(&mut self, index: usize) {
        let until = self.instances[index].as_ref().map_or(0, |instance| instance.paused_until);
        if until > self.context.now {
            return self.context.net.schedule(until, Event::PauseOver(index));
        }
        for event in std::mem::take(&mut self.held_back[index]) {
            self.happen_now(event);
        }
    }

    fn node(&mut self, address: Address, act: impl FnOnce(&mut Node, &mut Context)) {
        let Place::Node(index) = address.place else { return };
        let node = &mut self.nodes[index];
        if node.run == address.run && node.live.is_some() {
            act(node, &mut self.context);
        }
    }

    fn instance(&mut self, address: Address, act: impl FnOnce(&mut Instance, &mut Context)) {
        let Place::Instance(index) = address.place else { return };
        if let Some(instance) = self.instances[index].as_mut().filter(|one| one.run == address.run) {
            act(instance, &mut self.context);
        }
    }

    // ---- who comes and goes ----

    fn start_node(&mut self, index: usize) {
        if self.nodes[index].live.is_none() {
            self.rotten.retain(|rotten| *rotten != index);
            self.nodes[index].start(&mut self.context, false);
        }
    }

    fn start_instance(&mut self, index: usize) {
        if self.instances[index].is_some() {
            return;
        }
        let run = self.next_run;
        self.next_run += 1;
        let workload = self.context.oracle.workload.clone();
        let mut instance = Instance::start(index, run, self.quorum, &workload, &mut self.context);
        instance.open(&workload, &mut self.context);
        self.instances[index] = Some(instance);
    }

    fn node_leaves(&mut self, address: Address) {
        let Place::Node(index) = address.place else { return };
        if self.nodes[index].run == address.run && self.nodes[index].live.is_some() {
            self.nodes[index].lose("what it missed is recorded nowhere any more", &mut self.context);
            self.crash_node(index, false);
            self.context.net.schedule(self.context.now + 300 * MS, Event::NodeStart(index));
        }
    }

    fn crash_node(&mut self, index: usize, power: bool) {
        self.nodes[index].crash(power, &mut self.context);
        self.node_is_gone(index);
    }

    /// Those connected to a node notice, once the news can reach them.
    fn node_is_gone(&mut self, index: usize) {
        let connected = |instance: &Instance| {
            let mut links = instance.connections().into_iter();
            links.find(|(node, _)| *node == index).map(|(_, generation)| (instance.index, generation))
        };
        let connected: Vec<(usize, u64)> = self.instances.iter().flatten().filter_map(connected).collect();
        for (instance, generation) in connected {
            self.hang_up(instance, index, generation);
        }
        for node in self.nodes.iter_mut().filter(|node| node.index != index) {
            node.peer_down(index, &mut self.context);
        }
    }

    /// A connection breaks now.
    fn hang_up(&mut self, instance: usize, node: usize, generation: u64) {
        let Context { net, now, random, .. } = &mut self.context;
        net.hang_up(instance, node, generation, *now, random);
    }

    fn stop_instance(&mut self, index: usize) {
        let Some(mut instance) = self.instances[index].take() else { return };
        instance.abandon_sessions(&mut self.context);
        self.context.note(|| format!("instance {index} run {} is gone", instance.run));
        let Context { net, now, random, .. } = &mut self.context;
        for (node, generation) in instance.connections() {
            net.closed(index, node, generation, *now, random);
        }
    }
}
