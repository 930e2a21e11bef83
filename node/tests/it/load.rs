//! A client that writes all the time, as an application does: it reconnects when it must and remembers what was
//! acknowledged.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};

use crate::harness::{Cluster, DEADLINE, run};

/// Pause between two writes: the load is bounded.
const PACE: Duration = Duration::from_millis(2);
/// A client gives up on an answer after this time and reconnects.
const PATIENCE: Duration = Duration::from_secs(5);
/// Numbers of one client's rows start at a multiple of this.
const ROWS_PER_CLIENT: u64 = 1_000_000;

/// What a client saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) acknowledged: Vec<u64>,
    /// When each of them was.
    moments: Vec<Instant>,
    pub(crate) failures: Vec<String>,
    pub(crate) longest_gap: Duration,
}

impl Seen {
    /// How long after a fault the next write was acknowledged that was not under way before: the end of the
    /// longest pause in `fault`.
    ///
    /// A writer that hands over goes on acknowledging for a moment, so the first write after the fault is not
    /// the one that tells.
    pub(crate) fn recovery(&self, fault: &Range<Instant>) -> Duration {
        let pauses = self.moments.windows(2).filter(|pair| fault.contains(&pair[1]));
        let longest = pauses.max_by_key(|pair| pair[1] - pair[0].max(fault.start));
        longest.expect("writes were acknowledged before and after the fault")[1] - fault.start
    }
}

/// The median and the greatest, for a line of figures.
pub(crate) fn median_and_worst(mut all: Vec<Duration>) -> String {
    all.sort_unstable();
    let milliseconds = |one: Option<&Duration>| one.map_or(f64::NAN, |one| one.as_secs_f64() * 1_000.0);
    let (median, worst) = (milliseconds(all.get(all.len() / 2)), milliseconds(all.last()));
    format!("p50 {median:.1} ms, worst {worst:.1} ms of {}", all.len())
}

/// A client at work.
pub(crate) struct Load {
    stop: Sender<()>,
    written: Arc<(Mutex<usize>, Condvar)>,
    thread: JoinHandle<Seen>,
}

/// Creates the table that clients write to.
pub(crate) fn create_table(connection: &mut Conn) {
    run(connection, "CREATE TABLE journal (id BIGINT PRIMARY KEY, body VARCHAR(100))");
}

impl Load {
    /// Starts a client; clients of one cluster have different numbers.
    pub(crate) fn start(address: OptsBuilder, client: u64) -> Load {
        let (stop, stopped) = mpsc::channel();
        let written = Arc::new((Mutex::new(0), Condvar::new()));
        let progress = Arc::clone(&written);
        let address = address.read_timeout(Some(PATIENCE)).write_timeout(Some(PATIENCE));
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            let mut connection = None;
            let mut last = Instant::now();
            let mut id = client * ROWS_PER_CLIENT;
            while stopped.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                id += 1;
                match write(&mut connection, &address, id) {
                    Ok(()) => {
                        seen.acknowledged.push(id);
                        seen.longest_gap = seen.longest_gap.max(last.elapsed());
                        last = Instant::now();
                        seen.moments.push(last);
                        *progress.0.lock().expect("nobody panics while holding it") += 1;
                        progress.1.notify_all();
                    }
                    Err(error) => {
                        seen.failures.push(error.to_string());
                        connection = None;
                    }
                }
            }
            seen
        });
        Load { stop, written, thread }
    }

    /// Waits until this many more writes are acknowledged.
    pub(crate) fn wait_for_more(&self, writes: usize) {
        let (count, changed) = &*self.written;
        let count = count.lock().expect("nobody panics while holding it");
        let wanted = *count + writes;
        let (count, _) = changed
            .wait_timeout_while(count, DEADLINE, |count| *count < wanted)
            .expect("nobody panics while holding it");
        assert!(*count >= wanted, "only {} of {writes} writes were acknowledged", *count + writes - wanted);
    }

    /// Ends the client and says what it saw.
    pub(crate) fn stop(self) -> Seen {
        drop(self.stop);
        self.thread.join().expect("the client does not panic")
    }
}

fn write(connection: &mut Option<Conn>, address: &OptsBuilder, id: u64) -> mysql::Result<()> {
    let open = match connection {
        Some(open) => open,
        None => connection.insert(Conn::new(address.clone())?),
    };
    open.query_drop(format!("INSERT INTO journal (id, body) VALUES ({id}, 'row {id}')"))
}

/// Fails if an acknowledged row is not there.
pub(crate) fn assert_all_there(cluster: &Cluster, place: &str, seen: &Seen) {
    let mut connection = cluster.connect(place);
    let there: HashSet<u64> =
        connection.query("SELECT id FROM journal").expect("it reads").into_iter().collect();
    let lost: Vec<&u64> = seen.acknowledged.iter().filter(|id| !there.contains(id)).collect();
    assert!(lost.is_empty(), "{} acknowledged rows are lost, such as {:?}", lost.len(), lost.first());
}
