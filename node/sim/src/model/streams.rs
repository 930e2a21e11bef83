//! Streams, vectors and snapshots: `node_core::ordering` and the instances' rule of acknowledgement.
//!
//! Two instances with a stream of two transactions each, and each a subscriber of both. How a transaction is
//! decided is not looked at here: at some instant it is, either way.

use std::time::Instant;

use stateright::{Model, Property};

use super::properties::TIME_LEFT;

const STREAMS: usize = 2;
const LENGTH: usize = 2;

/// V1: a snapshot contains everything that what it contains had seen.
pub const CAUSAL: &str = "V1 causally closed";
/// V2: what is acknowledged of a stream lies within its decided prefix.
pub const PREFIX: &str = "V2 decided prefix";
/// V3: when all is decided, everything is applied everywhere in the end.
pub const APPLIED: &str = "V3 applied";
/// Witness: two snapshots pass through two transactions in different orders.
pub const LONG_FORK: &str = "W9 long fork";
/// Witness: decided before an earlier one of its stream.
pub const OVERTAKEN: &str = "W10 decided early";

/// What a transaction's vector (its `deps`) covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cover {
    /// The instance's snapshot, and what a read of the present returned.
    #[default]
    SnapshotAndReads,
    /// The instance's snapshot only.
    SnapshotOnly,
}

/// When a subscriber applies a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Apply {
    /// In its stream's order, after everything its vector covers.
    #[default]
    AfterVector,
    /// In its stream's order.
    InOrderOnly,
}

/// When a client is told that its transaction committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acknowledge {
    /// When all earlier ones of the stream are decided too.
    #[default]
    DecidedPrefix,
    /// When it is decided.
    Decided,
}

/// The rules of streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // Each field is told by its type.
pub struct StreamRules {
    pub cover: Cover,
    pub apply: Apply,
    pub acknowledge: Acknowledge,
}

/// How far a transaction has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Not proposed.
    #[default]
    Future,
    /// Undecided.
    Proposed,
    /// Chosen.
    Committed,
    /// A hole.
    Aborted,
}

type Positions = [u8; STREAMS];

/// A transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Entry {
    fate: Fate,
    vector: Positions,
    seen: u8,
    acknowledged: bool,
}

/// All streams and both subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamState {
    streams: [[Entry; LENGTH]; STREAMS],
    applied: [Positions; STREAMS],
}

/// What can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The fields say which node, transaction, ballot.
pub enum StreamStep {
    /// The instance proposes its next transaction, having read these committed ones of the present.
    Propose { instance: usize, read: u8 },
    /// A transaction is decided.
    Decide { stream: usize, index: usize, fate: Fate },
    /// The subscriber applies the stream's next one.
    Apply { subscriber: usize, stream: usize },
    /// The client is told.
    Acknowledge { stream: usize, index: usize },
}

/// The model of streams.
pub struct Streams {
    /// Under these rules.
    pub rules: StreamRules,
    /// To be looked at until then.
    pub deadline: Instant,
}

fn bit(stream: usize, index: usize) -> u8 {
    1 << (LENGTH * stream + index)
}

fn all() -> impl Iterator<Item = (usize, usize)> {
    (0..STREAMS).flat_map(|stream| (0..LENGTH).map(move |index| (stream, index)))
}

impl StreamState {
    fn entry(&self, (stream, index): (usize, usize)) -> &Entry {
        &self.streams[stream][index]
    }
    fn is_decided(&self, at: (usize, usize)) -> bool {
        matches!(self.entry(at).fate, Fate::Committed | Fate::Aborted)
    }
    fn committed(&self) -> u8 {
        let committed = all().filter(|at| self.entry(*at).fate == Fate::Committed);
        committed.fold(0, |set, (stream, index)| set | bit(stream, index))
    }
    /// The committed transactions that a snapshot contains.
    fn visible(&self, snapshot: Positions) -> u8 {
        let within = all().filter(|(stream, index)| *index < usize::from(snapshot[*stream]));
        within.fold(0, |set, (stream, index)| set | bit(stream, index)) & self.committed()
    }
    fn decided_prefix(&self, stream: usize, index: usize) -> bool {
        (0..index).all(|earlier| self.is_decided((stream, earlier)))
    }
}

impl Streams {
    fn may_apply(&self, state: &StreamState, subscriber: usize, stream: usize) -> bool {
        let applied = &state.applied[subscriber];
        let index = usize::from(applied[stream]);
        if index >= LENGTH {
            return false;
        }
        let entry = &state.streams[stream][index];
        match entry.fate {
            Fate::Aborted => true,
            Fate::Committed => {
                self.rules.apply == Apply::InOrderOnly
                    || (0..STREAMS).all(|other| applied[other] >= entry.vector[other])
            }
            Fate::Future | Fate::Proposed => false,
        }
    }

    fn propose(&self, state: &mut StreamState, instance: usize, read: u8) -> Option<()> {
        let index = state.streams[instance].iter().position(|entry| entry.fate == Fate::Future)?;
        let mut vector = state.applied[instance];
        let seen = state.visible(vector) | read;
        if self.rules.cover == Cover::SnapshotAndReads {
            for (stream, index) in all().filter(|(stream, index)| read & bit(*stream, *index) != 0) {
                vector[stream] = vector[stream].max(index as u8 + 1);
                let of_read = state.streams[stream][index].vector;
                for other in 0..STREAMS {
                    vector[other] = vector[other].max(of_read[other]);
                }
            }
        }
        state.streams[instance][index] = Entry { fate: Fate::Proposed, vector, seen, acknowledged: false };
        Some(())
    }
}

impl Model for Streams {
    type State = StreamState;
    type Action = StreamStep;

    fn init_states(&self) -> Vec<StreamState> {
        let streams = [[Entry::default(); LENGTH]; STREAMS];
        vec![StreamState { streams, applied: [[0; STREAMS]; STREAMS] }]
    }

    fn actions(&self, state: &StreamState, steps: &mut Vec<StreamStep>) {
        let committed = state.committed();
        for instance in 0..STREAMS {
            if state.streams[instance].iter().any(|entry| entry.fate == Fate::Future) {
                let reads = (0..1u8 << (STREAMS * LENGTH)).filter(|read| read & !committed == 0);
                steps.extend(reads.map(|read| StreamStep::Propose { instance, read }));
            }
            for stream in 0..STREAMS {
                if self.may_apply(state, instance, stream) {
                    steps.push(StreamStep::Apply { subscriber: instance, stream });
                }
            }
        }
        for (stream, index) in all() {
            let entry = &state.streams[stream][index];
            if entry.fate == Fate::Proposed {
                let fates = [Fate::Committed, Fate::Aborted];
                steps.extend(fates.map(|fate| StreamStep::Decide { stream, index, fate }));
            }
            let prefix =
                self.rules.acknowledge == Acknowledge::Decided || state.decided_prefix(stream, index);
            if entry.fate == Fate::Committed && !entry.acknowledged && prefix {
                steps.push(StreamStep::Acknowledge { stream, index });
            }
        }
    }

    fn next_state(&self, last: &StreamState, step: StreamStep) -> Option<StreamState> {
        let mut state = *last;
        match step {
            StreamStep::Propose { instance, read } => self.propose(&mut state, instance, read)?,
            StreamStep::Decide { stream, index, fate } => state.streams[stream][index].fate = fate,
            StreamStep::Apply { subscriber, stream } => state.applied[subscriber][stream] += 1,
            StreamStep::Acknowledge { stream, index } => state.streams[stream][index].acknowledged = true,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always(TIME_LEFT, |model, _| Instant::now() < model.deadline),
            Property::<Self>::always(CAUSAL, |_, state| {
                state.applied.iter().all(|snapshot| {
                    let visible = state.visible(*snapshot);
                    all().all(|(stream, index)| {
                        visible & bit(stream, index) == 0 || state.streams[stream][index].seen & !visible == 0
                    })
                })
            }),
            Property::<Self>::always(PREFIX, |_, state| {
                all().all(|(stream, index)| {
                    !state.streams[stream][index].acknowledged || state.decided_prefix(stream, index)
                })
            }),
            Property::<Self>::always(APPLIED, |model, state| {
                all().any(|at| state.entry(at).fate == Fate::Proposed) || model.all_apply(state)
            }),
            Property::<Self>::sometimes(LONG_FORK, |_, state| {
                let first = |stream: usize| state.streams[stream][0].fate == Fate::Committed;
                state.applied == [[1, 0], [0, 1]] && first(0) && first(1)
            }),
            Property::<Self>::sometimes(OVERTAKEN, |_, state| {
                state.streams[0][0].fate == Fate::Proposed && state.streams[0][1].fate == Fate::Committed
            }),
        ]
    }
}

impl Streams {
    /// Whether both subscribers come to the end of both streams with what is decided now.
    fn all_apply(&self, state: &StreamState) -> bool {
        let mut state = *state;
        loop {
            let pairs =
                (0..STREAMS).flat_map(|subscriber| (0..STREAMS).map(move |stream| (subscriber, stream)));
            let mut pairs = pairs;
            let Some((subscriber, stream)) =
                pairs.find(|(subscriber, stream)| self.may_apply(&state, *subscriber, *stream))
            else {
                break;
            };
            state.applied[subscriber][stream] += 1;
        }
        let decided = |stream: usize| (0..LENGTH).filter(|index| state.is_decided((stream, *index))).count();
        state
            .applied
            .iter()
            .all(|applied| (0..STREAMS).all(|stream| usize::from(applied[stream]) == decided(stream)))
    }
}
