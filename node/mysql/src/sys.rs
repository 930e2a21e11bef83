#![allow(unsafe_code)]
//! The system calls that the standard library does not have: epoll, poll and a longer listen queue.
//!
//! `unsafe` because they are C functions; each gets file descriptors that the caller owns for the time of the
//! call and buffers that live as long.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Connections that may wait to be accepted; the kernel's own limit also holds.
const LISTEN_QUEUE: i32 = 4096;

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Makes the queue of connections not yet accepted longer than the standard library's 128.
pub(crate) fn lengthen_queue(listener: &TcpListener) -> io::Result<()> {
    // SAFETY: a call without pointers on a descriptor that `listener` owns.
    check(unsafe { libc::listen(listener.as_raw_fd(), LISTEN_QUEUE) }).map(drop)
}

/// Whether the other side has closed or lost the connection. Does not wait.
pub(crate) fn hung_up(socket: &TcpStream) -> bool {
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: one valid `pollfd`, on a descriptor that `socket` owns; a timeout of 0 does not block.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ready > 0 && poll.revents & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) != 0
}

/// An epoll instance.
#[derive(Debug)]
pub(crate) struct Epoll(OwnedFd);

/// How a descriptor is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Reported as long as there is something to read.
    Always,
    /// Reported once, and then not until it is armed again.
    Once,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: a call without pointers.
        let descriptor = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor is new and nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }
    /// Watches a descriptor under a number of the caller's choice.
    pub(crate) fn add(&self, socket: &impl AsFd, token: u64, watch: Watch) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, socket, token, watch)
    }
    /// Arms a descriptor again.
    pub(crate) fn arm(&self, socket: &impl AsFd, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, socket, token, Watch::Once)
    }
    fn control(&self, operation: i32, socket: &impl AsFd, token: u64, watch: Watch) -> io::Result<()> {
        let mut events = libc::EPOLLIN | libc::EPOLLRDHUP;
        if watch == Watch::Once {
            events |= libc::EPOLLONESHOT;
        }
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        let descriptor = socket.as_fd().as_raw_fd();
        // SAFETY: both descriptors are open, and `event` lives during the call.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, descriptor, &raw mut event) }).map(drop)
    }
    /// Waits without looking at events.
    pub(crate) fn pause(timeout: Duration) {
        let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: no descriptors, so no pointer is followed.
        unsafe { libc::poll(std::ptr::null_mut(), 0, milliseconds) };
    }
    /// Waits for events and passes their numbers on.
    pub(crate) fn wait(&self, timeout: Duration, mut ready: impl FnMut(u64)) -> io::Result<()> {
        const EVENTS: usize = 256;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
        let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `events` has room for `EVENTS` events and lives during the call.
        let result =
            unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), EVENTS as i32, milliseconds) };
        let count = match check(result) {
            Ok(count) => usize::try_from(count).unwrap_or(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        for event in &events[..count] {
            ready(event.u64);
        }
        Ok(())
    }
}
