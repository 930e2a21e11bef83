//! The end: everything heals, makes progress, comes to rest, and is looked at.

use std::collections::BTreeMap;

use node_core::ids::{Key, Outcome};
use node_core::quorum::Mode;
use node_core::wire::{RowVersion, Settled};

use super::{PROGRESS_MAX, REST_MAX, World};
use crate::instance::{Instance, list_elements};
use crate::oracle::Report;

impl World {
    /// Every fault ends.
    pub(super) fn heal(&mut self) {
        self.context.note(|| "everything heals".to_owned());
        self.healed = true;
        self.context.net.heal(self.context.now);
        // Whatever has lost a message is made anew.
        let connections = |instance: &Instance| {
            let of = instance.index;
            instance.connections().into_iter().map(move |(node, generation)| (of, node, generation))
        };
        let all: Vec<(usize, usize, u64)> = self.instances.iter().flatten().flat_map(connections).collect();
        for (instance, node, generation) in all {
            self.hang_up(instance, node, generation);
        }
        for index in 0..self.nodes.len() {
            self.nodes[index].disk.slow_until = 0;
            self.nodes[index].disk.full_until = 0;
            self.start_node(index);
        }
        for index in 0..self.instances.len() {
            // Who is paused goes on by itself: what it has missed comes first.
            self.start_instance(index);
        }
    }

    /// All must make progress: in multi-master mode every instance.
    pub(super) fn progress(&mut self) {
        let begin = self.context.now;
        let end = begin + PROGRESS_MAX;
        let all = self.setup.mode == Mode::MultiMaster;
        let moves = |world: &World| {
            let mut moving = world.instances.iter().flatten().map(|instance| {
                instance.seat.is_some() && world.context.oracle.committed_since(instance.run, begin)
            });
            if all { moving.all(|moves| moves) } else { moving.any(|moves| moves) }
        };
        if !self.until(end, moves) {
            self.describe();
            panic!("no progress {} ms after all faults have ended", PROGRESS_MAX / 1_000);
        }
    }

    /// Clients stop; everything must be decided and known everywhere.
    pub(super) fn rest(&mut self) {
        self.context.oracle.quiet = true;
        let end = self.context.now + REST_MAX;
        let at_rest = |world: &World| {
            let mut members = world.nodes.iter().filter(|node| node.is_member());
            let idle = world.instances.iter().flatten().all(|instance| instance.idle());
            let Some(first) = members.next().and_then(|node| node.live.as_ref()) else { return false };
            let ordered = first.acceptor.ordering().ordered().clone();
            let same = world.nodes.iter().filter(|node| node.is_member()).all(|node| {
                node.live.as_ref().is_some_and(|live| {
                    *live.acceptor.ordering().ordered() == ordered
                        && live.acceptor.undecided() == 0
                        && node.rows.applied() == &ordered
                })
            });
            let followed =
                world.instances.iter().flatten().all(|instance| instance.engine.applied() == ordered);
            idle && same && followed
        };
        if !self.until(end, at_rest) {
            self.describe();
            panic!("not at rest {} ms after clients have stopped", REST_MAX / 1_000);
        }
    }

    fn describe(&self) {
        for node in &self.nodes {
            let Some(live) = &node.live else { continue };
            println!(
                "node {} {:?}: ordered {} applied {} undecided {:?} missing {:?} seats {:?}",
                node.index,
                node.membership,
                live.acceptor.ordering().ordered(),
                node.rows.applied(),
                live.acceptor.checkpoint().txns,
                live.acceptor.ordering().missing(5),
                live.acceptor.seats(),
            );
        }
        for instance in self.instances.iter().flatten() {
            println!("{}", instance.describe());
        }
    }

    pub(super) fn check_end(&mut self) -> Report {
        let oracle = &self.context.oracle;
        oracle.check_bases();
        oracle.check_stale();
        for node in self.nodes.iter().filter(|node| node.is_member()) {
            let Some(live) = &node.live else { continue };
            let outcome = |txn| live.acceptor.ordering().outcome(txn);
            for txn in oracle.acknowledged() {
                let known = outcome(*txn);
                let there = known == Some(Settled::Decided(Outcome::Commit));
                assert!(there, "acknowledged {txn} is {known:?} on node {}", node.index);
            }
            for txn in oracle.refused() {
                let known = outcome(*txn);
                let there = known == Some(Settled::Decided(Outcome::Commit));
                assert!(!there, "refused {txn} is committed on node {}", node.index);
            }
        }
        let mut rows: Vec<&BTreeMap<Key, RowVersion>> =
            self.nodes.iter().filter(|node| node.is_member()).map(|node| node.rows.all()).collect();
        assert!(rows.windows(2).all(|pair| pair[0] == pair[1]), "the nodes' rows differ");
        let last = rows.pop().expect("a quorum of nodes is left");
        let anomalies = oracle.history.check(Some(&list_elements(last)));
        if let Some(first) = anomalies.first() {
            for txn in &first.txns {
                println!("{txn}: {:?}", oracle.history.txns[*txn]);
            }
            panic!("{} anomalies, the first: {first}", anomalies.len());
        }
        let mut report = oracle.counts;
        report.written = oracle.written();
        report.seats = oracle.seats;
        report.messages = self.context.net.counts[0];
        report
    }
}
