//! One process of the cluster and what the playground knows about it.
//!
//! ```text
//!            start                    kill / stop, then its end
//! (nothing) ───────▶ Running(paused?) ─────────────────────────▶ Ended ── start ──▶ Running
//!                        │ its end, not asked for
//!                        ▼
//!                     Crashed ── after a pause that doubles ──▶ Running
//! ```
//! What a command ended stays ended until a command starts it; what fell by itself is started again, as
//! Kubernetes would.

use std::net::SocketAddr;
use std::time::Duration;

use crds::node_api::NodeStatus;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::process::{CommandLine, SignalRequest};
use crate::status::ProcessState;

/// Pause before a process that fell by itself is started again the first time.
const RESTART_FIRST: Duration = Duration::from_millis(250);
/// The pause doubles up to this.
const RESTART_LAST: Duration = Duration::from_secs(10);
/// A process that ran this long has recovered: the next pause is the first again.
const RECOVERED: Duration = Duration::from_secs(30);

/// What a process is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A database server.
    Instance {
        /// Where it speaks MySQL.
        mysql: SocketAddr,
    },
    /// A storage node.
    Storage {
        /// Its zone.
        zone: String,
    },
}

/// Which command ended a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// `stop`, or the end of the playground.
    Stopped,
    /// `kill`.
    Killed,
}

/// Where a process stands.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // A dozen of them at most, nearly all running.
pub(crate) enum State {
    /// It runs.
    Running(Running),
    /// A command ended it.
    Ended(Ending),
    /// It fell by itself and will be started again.
    Crashed,
}

/// A process that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pid: Option<u32>,
    pub(crate) since: Instant,
    pub(crate) paused: bool,
    /// The command that is ending it.
    pub(crate) ending: Option<Ending>,
    /// What it last said of itself.
    pub(crate) status: Option<NodeStatus>,
    /// It has been ready at least once.
    pub(crate) was_ready: bool,
    pub(crate) signals: mpsc::UnboundedSender<SignalRequest>,
    pub(crate) follower: AbortHandle,
}

/// One process of the cluster.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) part: Part,
    pub(crate) http: SocketAddr,
    pub(crate) line: CommandLine,
    /// Counts its starts, so that news of an earlier run is not taken for news of this one.
    pub(crate) run: u64,
    pub(crate) state: State,
    /// How often it fell by itself in a row.
    pub(crate) crashes: u32,
    /// Whoever waits for its end.
    pub(crate) waiting: Vec<UnixStream>,
}

impl Member {
    /// A process that does not run yet.
    pub(crate) fn new(name: &str, part: Part, http: SocketAddr, line: CommandLine) -> Member {
        Member {
            name: name.to_owned(),
            part,
            http,
            line,
            run: 0,
            state: State::Ended(Ending::Stopped),
            crashes: 0,
            waiting: Vec::new(),
        }
    }

    pub(crate) fn running(&self) -> Option<&Running> {
        match &self.state {
            State::Running(running) => Some(running),
            State::Ended(_) | State::Crashed => None,
        }
    }
    pub(crate) fn running_mut(&mut self) -> Option<&mut Running> {
        match &mut self.state {
            State::Running(running) => Some(running),
            State::Ended(_) | State::Crashed => None,
        }
    }
    pub(crate) fn is_instance(&self) -> bool {
        matches!(self.part, Part::Instance { .. })
    }

    /// Takes what the process says of itself; true if that changes anything for others.
    pub(crate) fn hear(&mut self, status: Option<NodeStatus>) -> bool {
        let State::Running(running) = &mut self.state else { return false };
        running.was_ready |= is_ready(status.as_ref());
        let changed = running.status != status;
        running.status = status;
        changed
    }

    /// Notes that the process ended. How long to wait before it is started again; none if a command ended it.
    pub(crate) fn ended(&mut self, now: Instant) -> Option<Duration> {
        let State::Running(running) = &self.state else { return None };
        running.follower.abort();
        if let Some(ending) = running.ending {
            self.state = State::Ended(ending);
            self.crashes = 0;
            return None;
        }
        self.crashes = if now.duration_since(running.since) >= RECOVERED { 0 } else { self.crashes };
        let pause = restart_pause(self.crashes);
        self.crashes = self.crashes.saturating_add(1);
        self.state = State::Crashed;
        Some(pause)
    }

    /// In the words of `status`.
    pub(crate) fn process_state(&self) -> ProcessState {
        match &self.state {
            State::Running(running) if running.paused => ProcessState::Paused,
            State::Running(running) if is_ready(running.status.as_ref()) => ProcessState::Ready,
            State::Running(running) if running.was_ready => ProcessState::Unready,
            State::Running(_) => ProcessState::Starting,
            State::Ended(Ending::Stopped) => ProcessState::Stopped,
            State::Ended(Ending::Killed) | State::Crashed => ProcessState::Dead,
        }
    }
}

fn is_ready(status: Option<&NodeStatus>) -> bool {
    match status {
        Some(NodeStatus::Instance(instance)) => instance.ready,
        Some(NodeStatus::Storage(storage)) => storage.ready,
        None => false,
    }
}

fn restart_pause(crashes: u32) -> Duration {
    RESTART_FIRST.saturating_mul(1 << crashes.min(16)).min(RESTART_LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_before_a_restart_doubles_up_to_ten_seconds() {
        let pauses: Vec<u128> = (0..8).map(|crashes| restart_pause(crashes).as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        assert_eq!(restart_pause(u32::MAX), RESTART_LAST);
    }
}
