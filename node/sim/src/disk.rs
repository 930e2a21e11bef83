//! A storage node's disk, as far as the accept log is concerned.
//!
//! The log's rule: an append is one write, the next begins only afterwards, and a batch has one checksum. So
//! what was reported written stays, and a crash leaves the one batch under way either whole or torn, which
//! reads as absent. A flipped bit is found by its checksum at the next start: something durable is lost then,
//! and the node with it. (A flipped bit in the very last batch cannot be told from a torn write; the log that
//! ships takes it for one, so the simulation lets no bit rot there.)

use std::collections::VecDeque;

use bytes::Bytes;

use crate::Random;
use crate::net::{MS, Micros};

/// The disk has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// What a start finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// All records, oldest first.
    Records(Vec<Bytes>),
    /// Nothing was ever written.
    Empty,
    /// Something durable is gone.
    Damaged,
}

struct Batch {
    records: Vec<Bytes>,
    damaged: bool,
}

struct Segment {
    generation: u64,
    batches: Vec<Batch>,
}

enum Writing {
    Append(Vec<Bytes>),
    Segment(Vec<Bytes>),
}

/// A disk with an accept log.
pub(crate) struct Disk {
    segments: VecDeque<Segment>,
    next_generation: u64,
    writing: Option<Writing>,
    segment_batches: usize,
    pub(crate) slow_until: Micros,
    pub(crate) full_until: Micros,
}

impl Disk {
    /// An empty disk whose log begins a new segment after so many batches.
    pub(crate) fn new(segment_batches: usize) -> Disk {
        Disk {
            segments: VecDeque::new(),
            next_generation: 1,
            writing: None,
            segment_batches,
            slow_until: 0,
            full_until: 0,
        }
    }
    /// True if the next batch needs a new segment.
    pub(crate) fn needs_segment(&self) -> bool {
        self.segments.back().is_none_or(|segment| segment.batches.len() >= self.segment_batches)
    }
    /// Begins to write a batch, at the start of a new segment if `segment`. Returns how long it takes.
    pub(crate) fn write(
        &mut self,
        records: Vec<Bytes>,
        segment: bool,
        now: Micros,
        random: &mut Random,
    ) -> Result<Micros, Full> {
        assert!(self.writing.is_none(), "the log writes one batch at a time");
        if now < self.full_until {
            return Err(Full);
        }
        self.writing = Some(if segment { Writing::Segment(records) } else { Writing::Append(records) });
        Ok(match now < self.slow_until {
            true => random.between(20, 300) * MS,
            false => 150 + random.below(1_500),
        })
    }
    /// The write is over. The generation, if it began a segment.
    pub(crate) fn written(&mut self) -> Option<u64> {
        match self.writing.take()? {
            Writing::Append(records) => {
                let segment = self.segments.back_mut().expect("a segment is begun before it is appended to");
                segment.batches.push(Batch { records, damaged: false });
                None
            }
            Writing::Segment(records) => {
                let generation = self.next_generation;
                self.next_generation += 1;
                let batches = vec![Batch { records, damaged: false }];
                self.segments.push_back(Segment { generation, batches });
                Some(generation)
            }
        }
    }
    /// The process or the machine stops: the write under way happened, or it did not.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        if self.writing.is_some() && random.chance(50) {
            self.written();
        }
        self.writing = None;
    }
    /// Drops segments older than the generation.
    pub(crate) fn drop_before(&mut self, generation: u64) {
        while self.segments.len() > 1 && self.segments[0].generation < generation {
            self.segments.pop_front();
        }
    }
    /// Reads the log.
    pub(crate) fn open(&self) -> Opened {
        if self.segments.is_empty() {
            return Opened::Empty;
        }
        let batches = self.segments.iter().flat_map(|segment| &segment.batches);
        if batches.clone().any(|batch| batch.damaged) {
            return Opened::Damaged;
        }
        Opened::Records(batches.flat_map(|batch| batch.records.iter().cloned()).collect())
    }
    /// Flips a bit of a batch that is not the last one. False if there is none.
    pub(crate) fn rot(&mut self, random: &mut Random) -> bool {
        let mut batches: Vec<&mut Batch> =
            self.segments.iter_mut().flat_map(|segment| &mut segment.batches).collect();
        batches.pop();
        if batches.is_empty() {
            return false;
        }
        let pick = random.below(batches.len() as u64) as usize;
        batches[pick].damaged = true;
        true
    }
    /// Everything on it is gone.
    pub(crate) fn wipe(&mut self) {
        *self = Disk::new(self.segment_batches);
    }
}
