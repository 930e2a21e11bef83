//! One child process: started, watched, signalled.
//!
//! A child is in a process group of its own, so that Ctrl-C in a terminal reaches the supervisor only, which
//! then ends the children in order. Should the supervisor itself be killed, the kernel kills its children: no
//! process is left over that holds ports or disks nobody knows of.
#![allow(unsafe_code)] // Signals, and two system calls between fork and exec, have no safe interface.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct CommandLine {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(String, OsString)>,
}

/// Signals that the playground sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGKILL: it ends now.
    Kill,
    /// SIGTERM: it is asked to end in order.
    Terminate,
    /// SIGSTOP: it freezes.
    Stop,
    /// SIGCONT: it goes on.
    Continue,
}

impl Signal {
    fn number(self) -> libc::c_int {
        match self {
            Signal::Kill => libc::SIGKILL,
            Signal::Terminate => libc::SIGTERM,
            Signal::Stop => libc::SIGSTOP,
            Signal::Continue => libc::SIGCONT,
        }
    }
}

/// A signal to send, and whom to tell once it was sent (false: the process is gone).
pub(crate) type SignalRequest = (Signal, oneshot::Sender<bool>);

/// Starts a child; its output goes to the log.
///
/// Must be called on the supervisor's main thread: the kernel kills the child when the *thread* ends that
/// started it.
pub(crate) fn spawn(line: &CommandLine, log: File) -> io::Result<Child> {
    let mut command = Command::new(&line.program);
    command
        .arg0("borealis-node")
        .args(&line.arguments)
        .envs(line.environment.iter().cloned())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    let supervisor = std::process::id();
    // SAFETY: between fork and exec only async-signal-safe functions may run: prctl, getppid and the making of
    // an error from a number, which allocates nothing.
    unsafe { command.pre_exec(move || die_with(supervisor)) };
    command.spawn()
}

/// Ties this process's life to its parent's.
fn die_with(parent: u32) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: PR_SET_PDEATHSIG takes a signal number and touches no memory of ours.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: getppid has no preconditions.
    let now = unsafe { libc::getppid() };
    if u32::try_from(now) == Ok(parent) {
        Ok(())
    } else {
        // The parent died before the line above took effect.
        Err(io::Error::from_raw_os_error(libc::ESRCH))
    }
}

/// Makes this process the leader of its own session: it survives the terminal that started it.
pub(crate) fn leave_the_terminal() {
    // SAFETY: setsid has no preconditions; it fails only for a process that leads a group already, which then
    // has been separated before.
    unsafe { libc::setsid() };
}

/// Waits for the child's end and meanwhile passes signals on. The process id cannot be another's: it is
/// released by this very wait.
pub(crate) async fn accompany(
    mut child: Child,
    mut signals: mpsc::UnboundedReceiver<SignalRequest>,
) -> io::Result<ExitStatus> {
    loop {
        tokio::select! {
            biased;
            ended = child.wait() => return ended,
            request = signals.recv() => match request {
                Some((signal, reply)) => {
                    let sent = child.id().is_some_and(|id| send(id, signal));
                    // Whoever asked may have stopped waiting.
                    let _ = reply.send(sent);
                }
                None => return child.wait().await,
            },
        }
    }
}

fn send(id: u32, signal: Signal) -> bool {
    let Ok(id) = libc::pid_t::try_from(id) else { return false };
    // SAFETY: kill touches no memory of ours; the child has not been waited for, so the id is its own.
    unsafe { libc::kill(id, signal.number()) == 0 }
}

/// The program that this process runs, also after its file was replaced by a newer build.
pub(crate) fn own_program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    Ok(if path.exists() { path } else { PathBuf::from("/proc/self/exe") })
}
