//! Which faults a seed means: kinds, victims and times. Pure; [`super::cluster`] carries it out.
//!
//! One round follows another: a strike or two, for some time, then their end and a pause. At most one storage round is
//! under way at a time, and it leaves a write quorum, but for [`FaultKind::Quorum`] and [`FaultKind::All`], which are
//! short.

use clap::ValueEnum;

use super::random::Random;

/// The kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum FaultKind {
    /// SIGKILL of an instance; on Kubernetes deletion of its pod by force.
    KillInstance,
    /// SIGTERM of an instance; on Kubernetes deletion of its pod.
    StopInstance,
    /// SIGSTOP of an instance.
    PauseInstance,
    /// An instance loses its network to all storage nodes: in silence, refusing, or one way.
    CutInstance,
    /// An instance loses some storage nodes.
    CutPartly,
    /// SIGKILL of a storage node.
    KillStorage,
    /// SIGTERM of a storage node.
    StopStorage,
    /// SIGSTOP of a storage node.
    PauseStorage,
    /// A storage node loses its network to everybody.
    CutStorage,
    /// A storage node is killed and its disk lost for good; if another has not got over a fault yet, only killed.
    LoseDisk,
    /// All storage nodes of a zone are killed, paused or cut off.
    Zone,
    /// So many storage nodes are killed or paused that no quorum is left, for a few seconds.
    Quorum,
    /// Every process is killed at once.
    All,
}

impl FaultKind {
    /// As it is named in output.
    pub(crate) fn name(self) -> &'static str {
        match self {
            FaultKind::KillInstance => "kill-instance",
            FaultKind::StopInstance => "stop-instance",
            FaultKind::PauseInstance => "pause-instance",
            FaultKind::CutInstance => "cut-instance",
            FaultKind::CutPartly => "cut-partly",
            FaultKind::KillStorage => "kill-storage",
            FaultKind::StopStorage => "stop-storage",
            FaultKind::PauseStorage => "pause-storage",
            FaultKind::CutStorage => "cut-storage",
            FaultKind::LoseDisk => "lose-disk",
            FaultKind::Zone => "zone",
            FaultKind::Quorum => "quorum",
            FaultKind::All => "all",
        }
    }

    fn strikes_instances(self) -> bool {
        matches!(
            self,
            FaultKind::KillInstance
                | FaultKind::StopInstance
                | FaultKind::PauseInstance
                | FaultKind::CutInstance
                | FaultKind::CutPartly
        )
    }

    /// Whether it may come together with a fault of the other side.
    fn is_small(self) -> bool {
        !matches!(self, FaultKind::Quorum | FaultKind::All)
    }
}

/// What is done to each victim, and undone at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Killed, then started.
    Kill,
    /// Stopped in order, then started.
    Stop,
    /// Killed, its disk removed, then started.
    LoseDisk,
    /// Frozen, then let go.
    Pause,
    /// Cut off in silence, then healed.
    Cut,
    /// Cut off with a refusal, then healed.
    CutRefusing,
    /// What it sends is lost, then healed.
    CutOneWay,
}

/// Whom it meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Victims {
    /// These.
    Named(Vec<String>),
    /// Whoever writes when it begins.
    Writer,
    /// One instance, cut off from these storage nodes; `None` is the writer.
    Partly(Option<String>, Vec<String>),
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Strike {
    pub(crate) kind: FaultKind,
    pub(crate) deed: Deed,
    pub(crate) victims: Victims,
}

/// Faults that begin and end together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Round {
    /// Pause before it, in milliseconds.
    pub(crate) after_ms: u64,
    /// How long it lasts, in milliseconds.
    pub(crate) lasts_ms: u64,
    pub(crate) strikes: Vec<Strike>,
}

/// What there is to break.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    pub(crate) instances: Vec<String>,
    /// Names and zones.
    pub(crate) storage: Vec<(String, String)>,
    pub(crate) single_master: bool,
}

/// Rounds without end, from a seed.
pub(crate) struct Plan {
    random: Random,
    kinds: Vec<FaultKind>,
    members: Members,
}

impl Plan {
    /// A plan of these kinds, of which there must be some.
    pub(crate) fn new(seed: u64, kinds: &[FaultKind], members: Members) -> Plan {
        Plan { random: Random::new(seed, u64::MAX), kinds: kinds.to_vec(), members }
    }

    /// The next round.
    pub(crate) fn round(&mut self) -> Round {
        let after_ms = self.random.between(500, 4_000);
        let first = *self.random.pick(&self.kinds);
        let mut kinds = vec![first];
        let fits =
            |kind: &&FaultKind| kind.is_small() && kind.strikes_instances() != first.strikes_instances();
        let others: Vec<FaultKind> = self.kinds.iter().filter(fits).copied().collect();
        if first.is_small() && !others.is_empty() && self.random.percent(30) {
            kinds.push(*self.random.pick(&others));
        }
        let longest = if first.is_small() { 7_000 } else { 3_000 };
        let lasts_ms = self.random.between(300, longest);
        let strikes = kinds.into_iter().map(|kind| self.strike(kind)).collect();
        Round { after_ms, lasts_ms, strikes }
    }

    fn strike(&mut self, kind: FaultKind) -> Strike {
        let cut = *self.random.pick(&[Deed::Cut, Deed::Cut, Deed::CutRefusing, Deed::CutOneWay]);
        let deed = match kind {
            FaultKind::KillInstance | FaultKind::KillStorage | FaultKind::All => Deed::Kill,
            FaultKind::StopInstance | FaultKind::StopStorage => Deed::Stop,
            FaultKind::PauseInstance | FaultKind::PauseStorage => Deed::Pause,
            FaultKind::LoseDisk => Deed::LoseDisk,
            FaultKind::CutInstance | FaultKind::CutPartly | FaultKind::CutStorage => cut,
            // Where nothing else may pause or cut, neither may these.
            FaultKind::Zone | FaultKind::Quorum if !self.kinds.iter().any(|kind| kind.cuts_or_pauses()) => {
                Deed::Kill
            }
            FaultKind::Zone => *self.random.pick(&[Deed::Kill, Deed::Pause, cut]),
            FaultKind::Quorum => *self.random.pick(&[Deed::Kill, Deed::Pause]),
        };
        let victims = match kind {
            FaultKind::All => {
                let storage = self.members.storage.iter().map(|(name, _)| name);
                Victims::Named(self.members.instances.iter().chain(storage).cloned().collect())
            }
            FaultKind::Zone => {
                let zone = self.random.pick(&self.members.storage).1.clone();
                let inside = self.members.storage.iter().filter(|(_, other)| *other == zone);
                Victims::Named(inside.map(|(name, _)| name.clone()).collect())
            }
            FaultKind::Quorum => Victims::Named(self.storage(self.members.storage.len() / 2)),
            FaultKind::CutPartly => {
                let count = self.random.index(self.members.storage.len() - 1) + 1;
                let instance = match self.instance() {
                    Victims::Named(names) => names.into_iter().next(),
                    Victims::Writer | Victims::Partly(..) => None,
                };
                Victims::Partly(instance, self.storage(count))
            }
            FaultKind::KillInstance
            | FaultKind::StopInstance
            | FaultKind::PauseInstance
            | FaultKind::CutInstance => self.instance(),
            FaultKind::KillStorage
            | FaultKind::StopStorage
            | FaultKind::PauseStorage
            | FaultKind::CutStorage
            | FaultKind::LoseDisk => Victims::Named(self.storage(1)),
        };
        Strike { kind, deed, victims }
    }

    fn instance(&mut self) -> Victims {
        if self.members.single_master && self.random.percent(60) {
            return Victims::Writer;
        }
        Victims::Named(vec![self.random.pick(&self.members.instances).clone()])
    }

    /// So many storage nodes, each once.
    fn storage(&mut self, count: usize) -> Vec<String> {
        let mut names: Vec<String> = self.members.storage.iter().map(|(name, _)| name.clone()).collect();
        while names.len() > count {
            let gone = self.random.index(names.len());
            names.remove(gone);
        }
        names
    }
}

impl FaultKind {
    /// Whether whoever allows it can also pause and cut.
    fn cuts_or_pauses(self) -> bool {
        matches!(
            self,
            FaultKind::PauseInstance
                | FaultKind::CutInstance
                | FaultKind::CutPartly
                | FaultKind::PauseStorage
                | FaultKind::CutStorage
        )
    }
}

/// Whether something must be able to cut the network.
pub(crate) fn needs_cuts(kinds: &[FaultKind]) -> bool {
    let cuts = |kind: &FaultKind| {
        matches!(kind, FaultKind::CutInstance | FaultKind::CutPartly | FaultKind::CutStorage)
    };
    kinds.iter().any(cuts) || (kinds.contains(&FaultKind::Zone) && kinds.iter().any(|k| k.cuts_or_pauses()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64, kinds: &[FaultKind]) -> Plan {
        let storage = (0..6).map(|id| (format!("s-{id}"), format!("zone-{}", id % 3 + 1))).collect();
        let instances = (0..3).map(|id| format!("i-{id}")).collect();
        Plan::new(seed, kinds, Members { instances, storage, single_master: true })
    }

    #[test]
    fn one_seed_always_means_the_same_faults() {
        let rounds = |seed| {
            let mut plan = plan(seed, FaultKind::value_variants());
            (0..50).map(|_| plan.round()).collect::<Vec<_>>()
        };
        assert_eq!(rounds(7), rounds(7));
        assert_ne!(rounds(7), rounds(8));
    }

    #[test]
    fn only_short_rounds_leave_no_quorum() {
        let mut plan = plan(3, FaultKind::value_variants());
        for _ in 0..2_000 {
            let round = plan.round();
            let mut storage = Vec::new();
            for strike in &round.strikes {
                if let Victims::Named(names) = &strike.victims {
                    storage.extend(names.iter().filter(|name| name.starts_with("s-")).cloned());
                }
            }
            assert!(storage.len() <= 2 || round.lasts_ms <= 3_000, "{round:?}");
        }
    }

    #[test]
    fn only_the_kinds_asked_for_occur() {
        let kinds = [FaultKind::KillInstance, FaultKind::Zone, FaultKind::Quorum, FaultKind::All];
        let mut plan = plan(3, &kinds);
        for _ in 0..200 {
            for strike in plan.round().strikes {
                assert!(kinds.contains(&strike.kind));
                assert_eq!(strike.deed, Deed::Kill, "nothing of what was asked for pauses or cuts");
            }
        }
    }

    #[test]
    fn kinds_together_reach_every_member() {
        let mut plan = plan(1, FaultKind::value_variants());
        let mut met = std::collections::BTreeSet::new();
        for _ in 0..300 {
            for strike in plan.round().strikes {
                if let Victims::Named(names) = strike.victims {
                    met.extend(names);
                }
            }
        }
        assert_eq!(met.len(), 9);
    }
}
