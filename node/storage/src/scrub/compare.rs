//! Compares ranges of rows with those of peers, and takes those of the majority where this node is wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use node_core::ids::{Key, StorageId};
use node_core::wire::{Reply, Request, RowVersions};
use tokio::sync::{mpsc, oneshot};

use super::Pace;
use crate::reads::Job;
use crate::repair;
use crate::rows::{Compared, Digest, Fix, RangeAt, RowsError, RowsHandle};
use crate::shared::Shared;

/// Rows compared at once, in bytes, about.
const RANGE_BYTES: usize = 256 << 10;
/// What a node reads of such a range, in bytes: where it is more, that is a difference.
pub(crate) const ANSWER_BYTES_MAX: usize = 1 << 20;
/// How long peers may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How often a range is tried: rows change while they are compared.
const TRIES: usize = 5;
/// Between two tries.
const TRY_AGAIN: Duration = Duration::from_millis(200);
/// Fewer answers than this, one's own included, tell nothing.
const ANSWERS_MIN: usize = 3;
/// Rows repaired one by one in a pass; with more that are wrong, all are rebuilt.
const REPAIRS_MAX: usize = 1_000;

/// Compares all rows.
pub(super) async fn rows(shared: &Arc<Shared>, pace: &mut Pace) {
    let mut pass = Pass { shared: shared.clone(), next_id: 0, repaired: 0 };
    let mut start = Bytes::new();
    while !shared.stop.is_cancelled() {
        let mut checked = Checked::Unclear(None);
        let mut repairs = 0;
        for _ in 0..TRIES {
            checked = pass.check(&start).await;
            match &checked {
                Checked::Repaired(_) => repairs += 1,
                Checked::Unclear(_) => tokio::time::sleep(TRY_AGAIN).await,
                Checked::Done(..) | Checked::Over => break,
            }
        }
        if repairs == TRIES {
            let reason = format!("rows from {start:?} on stay wrong, however often they are rewritten");
            return repair::rows_damaged(shared, reason);
        }
        let end = match checked {
            Checked::Over => return,
            Checked::Done(bytes, end) => {
                pace.pay(bytes).await;
                end
            }
            Checked::Unclear(end) | Checked::Repaired(end) => {
                shared.scrub.note(|status| status.ranges_skipped += 1);
                pace.pay(RANGE_BYTES).await;
                end
            }
        };
        shared.scrub.note(|status| status.ranges += 1);
        match end {
            Some(end) => start = end,
            None => return,
        }
    }
}

/// What became of a range, with where the next begins.
enum Checked {
    /// It was compared, and this many bytes of it are here.
    Done(usize, Option<Key>),
    /// It was wrong, and has been rewritten: it is to be compared again.
    Repaired(Option<Key>),
    /// It could not be compared just now.
    Unclear(Option<Key>),
    /// The pass ends.
    Over,
}

struct Pass {
    shared: Arc<Shared>,
    next_id: u64,
    repaired: usize,
}

type Answer = (Option<Digest>, Vec<RowVersions>);

impl Pass {
    /// Compares the range from `start` on, and repairs it here if need be.
    async fn check(&mut self, start: &Key) -> Checked {
        if !self.shared.is_member() {
            return Checked::Over;
        }
        let mine = {
            let start = start.clone();
            self.read(move |rows| rows.read(|store| store.range_now(&start, RANGE_BYTES))).await
        };
        let Some(mine) = mine else { return Checked::Over };
        let end = mine.end.clone();
        let answers = self.ask(start, &mine, false, None).await;
        let mut votes: BTreeMap<Digest, usize> = BTreeMap::from([(mine.digest(), 1)]);
        for digest in answers.values().filter_map(|(digest, _)| *digest) {
            *votes.entry(digest).or_default() += 1;
        }
        let total: usize = votes.values().sum();
        if total < ANSWERS_MIN {
            return Checked::Unclear(end);
        }
        let majority = votes.iter().find(|(_, count)| **count * 2 > total).map(|(digest, _)| *digest);
        match majority {
            Some(majority) if majority == mine.digest() => {
                self.tell_of_others(start, &answers, majority);
                Checked::Done(mine.bytes, end)
            }
            Some(majority) => {
                let peer = answers.iter().find(|(_, (digest, _))| *digest == Some(majority));
                let Some((peer, _)) = peer else { return Checked::Unclear(end) };
                self.repair(start, mine, majority, *peer).await
            }
            None => {
                let finding = format!("{total} storage nodes hold rows from {start:?} on, no two the same");
                tracing::error!(%finding, "rows differ, and nobody can tell which are right");
                self.shared.scrub.finding(finding, |status| status.ranges_undecided += 1);
                Checked::Done(mine.bytes, end)
            }
        }
    }

    fn tell_of_others(&self, start: &Key, answers: &BTreeMap<StorageId, Answer>, majority: Digest) {
        for (peer, _) in answers.iter().filter(|(_, (digest, _))| digest.is_some_and(|it| it != majority)) {
            let finding = format!("storage node {} holds other rows than the rest from {start:?} on", peer.0);
            tracing::warn!(%finding, "it will repair them in its own pass");
            self.shared.scrub.finding(finding, |status| status.ranges_wrong_elsewhere += 1);
        }
    }

    /// Makes this node's rows what the majority's are.
    async fn repair(&mut self, start: &Key, mine: RangeAt, majority: Digest, peer: StorageId) -> Checked {
        let end = mine.end.clone();
        let mut answers = self.ask(start, &mine, true, Some(peer)).await;
        let Some((Some(digest), rows)) = answers.remove(&peer) else { return Checked::Unclear(end) };
        let theirs = RangeAt { end: end.clone(), at: mine.at.clone(), rows, bytes: 0 };
        if digest != majority || theirs.digest() != majority {
            return Checked::Unclear(end);
        }
        let fixes = fixes(&mine.rows, &theirs.rows);
        let count = fixes.len();
        let finding =
            format!("{count} rows from {start:?} on are not what most storage nodes have: {}", names(&fixes));
        tracing::error!(%finding, peer = peer.0, "rows are wrong here: they are taken from a peer");
        self.shared.scrub.finding(finding.clone(), |status| status.ranges_wrong += 1);
        self.repaired += count;
        if self.repaired > REPAIRS_MAX {
            repair::rows_damaged(&self.shared, format!("too many rows are wrong; the last: {finding}"));
            return Checked::Over;
        }
        let (answer, repaired) = oneshot::channel();
        self.shared.rows_queue.repair(fixes, answer);
        match repaired.await {
            Ok(repaired) => {
                self.shared.scrub.note(|status| status.rows_repaired += repaired as u64);
                Checked::Repaired(end)
            }
            Err(_) => Checked::Over,
        }
    }

    /// Has a reader do something with the rows.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&RowsHandle) -> Result<T, RowsError> + Send + 'static,
    ) -> Option<T> {
        let (answer, result) = oneshot::channel();
        self.shared.reads.submit(Job::Work(Box::new(move |rows| drop(answer.send(read(rows))))));
        match result.await {
            Ok(Ok(result)) => Some(result),
            Ok(Err(error)) if error.is_damage() => {
                repair::rows_damaged(&self.shared, crate::reads::chain(&error));
                None
            }
            // Closed for a moment, or the node stops.
            Ok(Err(_)) | Err(_) => None,
        }
    }

    /// Asks peers (or one of them) for a range as it was at a vector, and waits for all answers, or a while.
    async fn ask(
        &mut self,
        start: &Key,
        range: &RangeAt,
        rows: bool,
        only: Option<StorageId>,
    ) -> BTreeMap<StorageId, Answer> {
        let (sender, mut answers) = mpsc::unbounded_channel();
        *self.shared.scrub.asking.lock() = Some(sender);
        self.next_id += 1;
        let id = self.next_id;
        let (start, end, at) = (start.clone(), range.end.clone(), range.at.clone());
        let question = Request::Digest { id, start, end, at, rows };
        let mut asked = 0;
        for (number, peer) in (0u8..).zip(&self.shared.peers) {
            if only.is_none_or(|only| only == StorageId(number))
                && peer.lock().as_ref().is_some_and(|peer| peer.send(&question).is_ok())
            {
                asked += 1;
            }
        }
        let mut found = BTreeMap::new();
        let all = async {
            while found.len() < asked
                && let Some((peer, reply)) = answers.recv().await
            {
                if let Reply::DigestIs { id: of, digest, rows } = reply
                    && of == id
                {
                    found.insert(peer, (digest, rows));
                }
            }
        };
        // Whoever is late is not counted.
        drop(tokio::time::timeout(ANSWER_MAX, all).await);
        *self.shared.scrub.asking.lock() = None;
        found
    }
}

/// What has to change for the rows to be the right ones. Both are in the order of their keys.
fn fixes(found: &[RowVersions], right: &[RowVersions]) -> Vec<Fix> {
    type Pair<'a> = (Option<&'a RowVersions>, Option<&'a RowVersions>);
    let mut both: BTreeMap<&Key, Pair<'_>> = BTreeMap::new();
    for row in found {
        both.entry(&row.key).or_default().0 = Some(row);
    }
    for row in right {
        both.entry(&row.key).or_default().1 = Some(row);
    }
    let version = |row: Option<&RowVersions>| row.and_then(|row| row.versions.first()).cloned();
    both.into_iter()
        .map(|(key, (found, right))| Fix { key: key.clone(), found: version(found), right: version(right) })
        .filter(|fix| fix.found != fix.right)
        .collect()
}

fn names(fixes: &[Fix]) -> String {
    let first: Vec<String> = fixes.iter().take(3).map(|fix| format!("{:?}", fix.key)).collect();
    let more = if fixes.len() > first.len() { ", …" } else { "" };
    format!("{}{more}", first.join(", "))
}

/// Answers a peer's question: what a range was at a vector.
pub(crate) fn answer(rows: &RowsHandle, question: &Request) -> Result<Reply, RowsError> {
    let Request::Digest { id, start, end, at, rows: wanted } = question else {
        panic!("only Digest is answered here");
    };
    let compared = rows.read(|store| store.range_at(start, end.as_ref(), at, ANSWER_BYTES_MAX))?;
    Ok(match compared {
        Compared::Rows(range) => {
            let digest = Some(range.digest());
            Reply::DigestIs { id: *id, digest, rows: if *wanted { range.rows } else { Vec::new() } }
        }
        Compared::TooEarly | Compared::TooLate => Reply::DigestIs { id: *id, digest: None, rows: Vec::new() },
    })
}
