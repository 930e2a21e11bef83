//! Reads files of the disk again and compares their checksums.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::oneshot;
use xxhash_rust::xxh3::Xxh3Default;

use super::{PIECE_BYTES, Pace};
use crate::accept_log::{self, LiveSegment};
use crate::disk;
use crate::reads::Job;
use crate::repair;
use crate::shared::{Shared, Work};

/// How often a file that seems damaged is read before that is believed.
const READS: usize = 2;

/// Reads a file in pieces, each in a thread where it may block. `None`: the file is gone.
async fn read(
    path: &Path,
    end: Option<u64>,
    pace: &mut Pace,
    mut take: impl FnMut(&[u8]),
) -> io::Result<Option<()>> {
    let open = {
        let path = path.to_owned();
        move || File::open(path).inspect(disk::forget_cached)
    };
    let file = match blocking(open).await {
        Ok(file) => Arc::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut at = 0;
    loop {
        let wanted = end.map_or(PIECE_BYTES as u64, |end| end.saturating_sub(at).min(PIECE_BYTES as u64));
        let file = file.clone();
        let piece = blocking(move || {
            let mut piece = vec![0; wanted as usize];
            let mut len = 0;
            while len < piece.len() {
                match file.read_at(&mut piece[len..], at + len as u64)? {
                    0 => break,
                    read => len += read,
                }
            }
            piece.truncate(len);
            Ok(piece)
        });
        let piece = piece.await?;
        if piece.is_empty() {
            return Ok(Some(()));
        }
        at += piece.len() as u64;
        take(&piece);
        pace.pay(piece.len()).await;
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(error)),
    }
}

// ---- the accept log ----

/// Reads every live segment of the accept log; damaged ones are replaced.
pub(super) async fn log(shared: &Arc<Shared>, pace: &mut Pace) {
    let (answer, segments) = oneshot::channel();
    shared.inbox.push(Work::LogSegments(answer));
    // No answer: the node stops.
    let Ok(segments) = segments.await else { return };
    for segment in segments {
        match damage_in(&segment, pace).await {
            Ok(None) => {}
            Ok(Some(at)) => {
                let path = segment.path.display();
                let finding = format!("{path} is damaged at byte {at}; nothing is lost: it is in memory");
                let (answer, replaced) = oneshot::channel();
                shared.inbox.push(Work::LogDamaged { generation: segment.generation, answer });
                // False: it is no longer part of the log, and may have been written anew while it was read.
                if replaced.await == Ok(true) {
                    tracing::error!(%finding, "damage in the accept log: it is replaced by a checkpoint");
                    shared.scrub.finding(finding, |status| status.log_damaged += 1);
                }
            }
            Err(error) => {
                tracing::warn!(path = %segment.path.display(), %error, "a segment of the log cannot be read");
            }
        }
    }
}

/// Where a segment is damaged, if it is.
async fn damage_in(segment: &LiveSegment, pace: &mut Pace) -> io::Result<Option<usize>> {
    let mut damaged = None;
    for _ in 0..READS {
        let mut data = Vec::new();
        let read = read(&segment.path, Some(segment.end), pace, |piece| data.extend_from_slice(piece));
        if read.await?.is_none() {
            return Ok(None);
        }
        damaged = accept_log::find_damage(&data, segment);
        if damaged.is_none() {
            break;
        }
    }
    Ok(damaged)
}

// ---- the rows' files ----

/// Reads every file of rows; if one is damaged the node stops.
pub(super) async fn tables(shared: &Arc<Shared>, pace: &mut Pace) {
    let Some(tables) = list(shared).await else { return };
    for (path, checksum) in tables {
        let mut wrong = false;
        for _ in 0..READS {
            match checksum_of(&path, pace).await {
                Ok(Some(found)) => wrong = found != checksum,
                // Compacted away meanwhile.
                Ok(None) => wrong = false,
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "a file of rows cannot be read");
                    wrong = false;
                }
            }
            if !wrong {
                break;
            }
        }
        let still =
            wrong && list(shared).await.is_some_and(|tables| tables.contains(&(path.clone(), checksum)));
        if still {
            let finding = format!("the checksum of {} is wrong", path.display());
            shared.scrub.finding(finding.clone(), |status| status.tables_damaged += 1);
            return repair::rows_damaged(shared, finding);
        }
    }
}

async fn list(shared: &Arc<Shared>) -> Option<Vec<(PathBuf, u128)>> {
    let (answer, tables) = oneshot::channel();
    shared.reads.submit(Job::Work(Box::new(move |store| {
        // If nobody takes it, the node stops.
        drop(answer.send(store.read(|store| Ok(store.tables()))));
    })));
    tables.await.ok()?.ok()
}

async fn checksum_of(path: &Path, pace: &mut Pace) -> io::Result<Option<u128>> {
    let mut hasher = Xxh3Default::new();
    let read = read(path, None, pace, |piece| hasher.update(piece)).await?;
    Ok(read.map(|()| hasher.digest128()))
}
