//! Named scenarios: faults that once broke something, or that people ask about, each with some seeds.

use node_core::mistakes::{self, Mistake};
use node_core::quorum::Mode;
use node_sim::{Faults, Place, Plant, Setup, World};

const SEEDS: u64 = 10;

fn world(seed: u64, nodes: usize, instances: usize, mode: Mode) -> World {
    let (faults, plant) = (Faults::NONE, Plant::Nothing);
    World::new(seed, Setup { nodes, instances, mode, faults, plant, milliseconds: 0, trace: false })
}

fn with_writer(seed: u64, nodes: usize, instances: usize) -> (World, usize) {
    let mut world = world(seed, nodes, instances, Mode::SingleMaster);
    let writer = world.wait_for_writer(None, 5_000).expect("somebody becomes the writer");
    world.work(500);
    (world, writer)
}

#[test]
fn nothing_goes_wrong() {
    for seed in 0..SEEDS {
        for mode in [Mode::SingleMaster, Mode::MultiMaster] {
            let mut world = world(seed, if seed % 2 == 0 { 3 } else { 6 }, 2, mode);
            world.work(2_000);
            assert!(world.committed() > 0);
            world.finish();
        }
    }
}

#[test]
fn isolate_writer_sends_only() {
    for seed in 0..SEEDS {
        let (mut world, writer) = with_writer(seed, 3, 2);
        world.cut_sends(Place::Instance(writer));
        assert!(world.wait_for_writer(Some(writer), 6_000).is_some(), "a replica takes over");
        world.work(1_000);
        world.finish();
    }
}

#[test]
fn isolate_writer_receives_only() {
    for seed in 0..SEEDS {
        let (mut world, writer) = with_writer(seed, 3, 2);
        world.cut_receives(Place::Instance(writer));
        world.work(4_000);
        world.finish();
    }
}

/// The writer hears three of six nodes, a replica is granted the seat by four others and commits: found before
/// the lease asked for a write quorum.
#[test]
fn half_of_six_storage_nodes_do_not_hear_the_writer() {
    for seed in 0..SEEDS {
        let (mut world, writer) = with_writer(seed, 6, 2);
        for node in 3..6 {
            world.cut(Place::Instance(writer), Place::Node(node));
            world.cut(Place::Node(node), Place::Instance(writer));
        }
        assert!(!world.wait_for_rival(writer, 3_000), "three that hear it let it read: it keeps its seat");
        world.cut(Place::Instance(writer), Place::Node(2));
        world.cut(Place::Node(2), Place::Instance(writer));
        assert!(world.wait_for_rival(writer, 10_000), "a replica campaigns");
        world.cut_receives(Place::Instance(writer));
        world.work(3_000);
        world.finish();
    }
}

/// A row that was read ahead of the feed: found before a commit waited for what it depends on.
#[test]
fn late_messages_show_no_effect_before_its_cause() {
    for seed in 0..SEEDS {
        let faults = Faults { late: 30, cut: 40, ..Faults::NONE };
        let (mode, plant) = (Mode::MultiMaster, Plant::Nothing);
        let setup = Setup { nodes: 6, instances: 3, mode, faults, plant, milliseconds: 2_000, trace: false };
        World::new(seed, setup).run();
    }
}

/// All nodes forget a refusal that their writer has forgotten too: found before decisions were told again.
#[test]
fn all_storage_nodes_forget_what_they_were_told_last() {
    for seed in 0..SEEDS {
        let faults = Faults { lost: 5, blackout: 20, ..Faults::NONE };
        let (mode, plant) = (Mode::MultiMaster, Plant::Nothing);
        let setup = Setup { nodes: 3, instances: 2, mode, faults, plant, milliseconds: 3_000, trace: false };
        World::new(seed, setup).run();
    }
}

#[test]
fn pause_the_writer_until_it_is_replaced() {
    for seed in 0..SEEDS {
        let (mut world, writer) = with_writer(seed, 6, 2);
        world.pause_instance(writer, 4_000);
        assert!(world.wait_for_writer(Some(writer), 6_000).is_some(), "a replica takes over");
        world.work(3_000);
        world.finish();
    }
}

#[test]
fn kill_the_writer_while_a_node_has_a_full_disk() {
    for seed in 0..SEEDS {
        let (mut world, writer) = with_writer(seed, 3, 2);
        world.fill_disk(seed as usize % 3);
        world.work(300);
        world.kill_instance(writer, 500);
        assert!(world.wait_for_writer(Some(writer), 6_000).is_some(), "a replica takes over");
        world.work(1_000);
        world.finish();
    }
}

#[test]
fn all_storage_nodes_lose_power_again_and_again() {
    for seed in 0..SEEDS {
        let mut world = world(seed, 3, 2, Mode::MultiMaster);
        for _ in 0..4 {
            world.work(700);
            (0..3).for_each(|node| world.stop_node(node, true));
            (0..3).for_each(|node| world.restart_node(node));
        }
        world.finish();
    }
}

#[test]
fn two_of_six_disks_are_lost_under_load() {
    for seed in 0..SEEDS {
        let mut world = world(seed, 6, 3, Mode::MultiMaster);
        world.work(1_000);
        world.lose_node(1);
        world.work(1_000);
        world.lose_node(4);
        world.work(1_000);
        world.finish();
    }
}

/// An instance has said hello when the storage nodes die, and reads their greeting later, from connections that are
/// gone: found before the news of their end came behind the greeting, as on a real connection. It took them for
/// connected, and waited for answers for ever.
#[test]
fn storage_nodes_die_while_an_instance_connects() {
    for seed in 0..SEEDS {
        for after in 1..6 {
            let mut world = world(seed, 3, 2, Mode::MultiMaster);
            world.work(500);
            world.kill_instance(1, 100);
            world.work(100 + after);
            world.pause_instance(1, 1_000);
            world.work(10);
            (0..3).for_each(|node| world.stop_node(node, true));
            (0..3).for_each(|node| world.restart_node(node));
            world.work(100);
            world.finish();
        }
    }
}

/// A proposal reaches no storage node, a later one reaches one, and their writer dies: found before a closing
/// that is chosen aborted what nobody has a record of. The stream waited for it for ever, and nobody could write.
#[test]
fn a_writer_dies_with_a_proposal_that_nobody_has_heard_of() {
    for (seed, lost) in (20..20 + SEEDS).chain([31]).flat_map(|seed| [5, 10, 15, 20].map(|lost| (seed, lost)))
    {
        let (mut world, writer) = with_writer(seed, 3, 2);
        for node in 0..3 {
            world.lose(Place::Instance(writer), Place::Node(node), if node == 0 { lost } else { 50 });
        }
        world.work(45);
        world.kill_instance(writer, 500);
        assert!(world.wait_for_writer(Some(writer), 6_000).is_some(), "a replica takes over");
        world.work(1_000);
        world.finish();
    }
}

/// The storage nodes' connections to the writer end, and it does not know: found before they kept to the lease that
/// they had granted it. A replica took the seat at once, and the old writer still read.
#[test]
fn storage_nodes_lose_a_writer_that_may_still_read() {
    for seed in 0..SEEDS {
        for nodes in [3, 6] {
            lose_the_writer(seed, nodes);
        }
    }
}

fn lose_the_writer(seed: u64, nodes: usize) {
    let (mut world, writer) = with_writer(seed, nodes, 2);
    world.cut_receives(Place::Instance(writer));
    world.hang_up_on(writer, &(0..nodes).collect::<Vec<_>>());
    assert!(world.wait_for_writer(Some(writer), 6_000).is_some(), "a replica takes over");
    world.work(1_000);
    world.finish();
}

/// The same where storage nodes do not keep to it.
#[test]
fn a_forgotten_lease_is_found() {
    let _mistake = mistakes::make(Mistake::LeaseForgotten);
    let found = (0..SEEDS).any(|seed| std::panic::catch_unwind(|| lose_the_writer(seed, 6)).is_err());
    assert!(found, "it survived {SEEDS} seeds");
}

/// Half of the nodes let the writer read, and the only one of them that a replica hears starts again: found before a
/// node that starts kept to the leases that it may have granted.
#[test]
fn a_storage_node_starts_again_while_a_writer_reads_on_its_word() {
    // The writer's sessions wait for commits in between, and read at other times.
    for (seed, after) in (0..SEEDS).flat_map(|seed| (0..6).map(move |step| (seed, 1_700 + 300 * step))) {
        let (mut world, writer) = with_writer(seed, 6, 2);
        let cuts = [(writer, 3..6), (1 - writer, 0..2)];
        for (instance, node) in cuts.into_iter().flat_map(|(one, nodes)| nodes.map(move |node| (one, node))) {
            world.cut(Place::Instance(instance), Place::Node(node));
            world.cut(Place::Node(node), Place::Instance(instance));
        }
        world.work(after);
        for (near, far) in (0..2).flat_map(|near| (2..6).map(move |far| (near, far))) {
            world.cut(Place::Node(far), Place::Node(near));
        }
        world.cut(Place::Node(2), Place::Instance(writer));
        world.stop_node(2, false);
        world.restart_node(2);
        assert!(world.wait_for_rival(writer, 6_000), "a replica campaigns");
        world.work(2_000);
        world.finish();
    }
}
