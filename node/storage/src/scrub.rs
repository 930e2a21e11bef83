//! Looks, slowly and all the time, for what a disk has changed behind our back, and repairs it.
//!
//! A pass has three stages:
//!
//! 1. *log*: every batch of the accept log is read again and its checksum compared. The acceptor has all of
//!    it in memory: a damaged segment is replaced by a checkpoint in a new one.
//! 2. *tables*: every file of sorted rows is read again and its checksum compared. A wrong one means that
//!    the rows must be rebuilt from a peer ([`crate::repair`]).
//! 3. *rows*: ranges of rows are compared with what peers had at the same vector. Whoever differs from the
//!    majority of at least three is wrong, and takes the rows from the majority; if that is this node, here;
//!    if it is another one, by its own pass.
//!
//! Files are read past the system's cache. A pass reads no more than so many bytes a second, and pauses while
//! others wait for the storage node. Not read again: fjall's journal, whose content is in memory and, until
//! it has been written into a table, mostly in the accept log as well.

use std::sync::Arc;
use std::time::{Duration, Instant};

use node_core::ids::StorageId;
use node_core::wire::Reply;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::shared::Shared;

pub(crate) mod compare;
mod files;

/// Read at once, and counted against the rate, in bytes.
const PIECE_BYTES: usize = 1 << 20;
/// Requests that wait for the storage thread from which on a pass pauses.
const BUSY_REQUESTS: usize = 1_000;
/// Decided items that wait for the rows from which on a pass pauses.
const BUSY_ROWS: usize = 10_000;
/// How often a paused pass looks whether it may go on.
const PAUSE: Duration = Duration::from_millis(100);
/// A pass pauses no longer than this before each piece: a node that is always busy is looked at as well.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// How a storage node looks for damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubConfig {
    /// From the start to the first pass.
    pub first: Duration,
    /// From the end of a pass to the next.
    pub period: Duration,
    /// Bytes read a second, at most.
    pub bytes_per_second: u64,
}

impl Default for ScrubConfig {
    fn default() -> ScrubConfig {
        ScrubConfig {
            first: Duration::from_secs(60),
            period: Duration::from_secs(6 * 3600),
            bytes_per_second: 8 << 20,
        }
    }
}

/// What a pass is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScrubStage {
    /// It waits for its time.
    #[default]
    Waiting,
    /// It reads the accept log.
    Log,
    /// It reads the files of the rows.
    Tables,
    /// It compares rows with peers.
    Rows,
}

impl ScrubStage {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            ScrubStage::Waiting => "waiting",
            ScrubStage::Log => "log",
            ScrubStage::Tables => "tables",
            ScrubStage::Rows => "rows",
        }
    }
}

/// How far the search for damage is, and what it has found since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubStatus {
    /// Passes completed.
    pub passes: u64,
    /// What the present one is doing.
    pub stage: ScrubStage,
    /// Bytes read and compared since the start.
    pub bytes: u64,
    /// Damaged segments of the accept log, all replaced from memory.
    pub log_damaged: u64,
    /// Damaged files of rows: after the first, the node stops.
    pub tables_damaged: u64,
    /// Ranges of rows compared with peers.
    pub ranges: u64,
    /// Of which could not be compared: too few peers answered.
    pub ranges_skipped: u64,
    /// Of which differed here from the majority.
    pub ranges_wrong: u64,
    /// Of which differed at a peer from the majority.
    pub ranges_wrong_elsewhere: u64,
    /// Of which had no majority.
    pub ranges_undecided: u64,
    /// Rows rewritten from the majority's.
    pub rows_repaired: u64,
    /// What was found last, for a person.
    pub last_finding: Option<String>,
}

/// The part of a pass that others see and talk to.
#[derive(Default)]
pub(crate) struct Scrub {
    status: Mutex<ScrubStatus>,
    /// Who waits for peers' answers.
    asking: Mutex<Option<mpsc::UnboundedSender<(StorageId, Reply)>>>,
}

impl Scrub {
    pub(crate) fn status(&self) -> ScrubStatus {
        self.status.lock().clone()
    }
    fn note(&self, change: impl FnOnce(&mut ScrubStatus)) {
        change(&mut self.status.lock());
    }
    fn finding(&self, finding: String, change: impl FnOnce(&mut ScrubStatus)) {
        let mut status = self.status.lock();
        change(&mut status);
        status.last_finding = Some(finding);
    }
    /// Takes answers to questions of a pass out of what a peer says.
    pub(crate) fn take_answers(&self, peer: StorageId, replies: &mut Vec<Reply>) {
        if !replies.iter().any(|reply| matches!(reply, Reply::DigestIs { .. })) {
            return;
        }
        let asking = self.asking.lock().clone();
        for reply in replies.extract_if(.., |reply| matches!(reply, Reply::DigestIs { .. })) {
            if let Some(asking) = &asking {
                // Whoever asked may have gone on.
                let _ = asking.send((peer, reply));
            }
        }
    }
}

/// Looks for damage until the task is dropped.
pub(crate) async fn keep(shared: Arc<Shared>) {
    tokio::time::sleep(shared.config.scrub.first).await;
    loop {
        if !shared.is_member() {
            // Nothing here counts until it is one; damage that is known is not to be found again.
            tokio::time::sleep(shared.config.scrub.first.max(PAUSE)).await;
            continue;
        }
        let before = shared.scrub.status();
        let started = Instant::now();
        let mut pace = Pace::new(&shared);
        shared.scrub.note(|status| status.stage = ScrubStage::Log);
        files::log(&shared, &mut pace).await;
        shared.scrub.note(|status| status.stage = ScrubStage::Tables);
        files::tables(&shared, &mut pace).await;
        shared.scrub.note(|status| status.stage = ScrubStage::Rows);
        compare::rows(&shared, &mut pace).await;
        shared.scrub.note(|status| {
            status.stage = ScrubStage::Waiting;
            status.passes += 1;
        });
        let after = shared.scrub.status();
        tracing::info!(
            seconds = started.elapsed().as_secs(),
            bytes = after.bytes - before.bytes,
            log_damaged = after.log_damaged - before.log_damaged,
            tables_damaged = after.tables_damaged - before.tables_damaged,
            ranges = after.ranges - before.ranges,
            ranges_skipped = after.ranges_skipped - before.ranges_skipped,
            ranges_wrong = after.ranges_wrong - before.ranges_wrong,
            rows_repaired = after.rows_repaired - before.rows_repaired,
            "looked through the disk"
        );
        tokio::time::sleep(shared.config.scrub.period).await;
    }
}

/// Keeps a pass slow, and out of the way of others.
struct Pace {
    shared: Arc<Shared>,
    /// When what has been read so far is paid for.
    paid: Instant,
}

impl Pace {
    fn new(shared: &Arc<Shared>) -> Pace {
        Pace { shared: shared.clone(), paid: Instant::now() }
    }
    /// Waits until this many bytes more may be read.
    async fn pay(&mut self, bytes: usize) {
        self.shared.scrub.note(|status| status.bytes += bytes as u64);
        let rate = self.shared.config.scrub.bytes_per_second.max(1);
        // Time that was not used is lost: after a pause there is no burst.
        let price = Duration::from_secs_f64(bytes as f64 / rate as f64);
        self.paid = self.paid.max(Instant::now()) + price;
        tokio::time::sleep_until(self.paid.into()).await;
        let end = Instant::now() + PAUSE_MAX;
        let busy = || self.shared.inbox.len() > BUSY_REQUESTS || self.shared.rows_queue.len() > BUSY_ROWS;
        while busy() && Instant::now() < end {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
