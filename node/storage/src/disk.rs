//! How much room the disk has.
//!
//! `unsafe`: the standard library does not offer `statvfs`.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes a file system offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) total: u64,
    pub(crate) free: u64,
}

/// Space of the file system that holds `path`.
pub(crate) fn space(path: &Path) -> io::Result<Space> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut stat = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends with a zero byte, and the call writes a whole `statvfs` when it returns 0.
    let stat = unsafe {
        if libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        stat.assume_init()
    };
    let unit = stat.f_frsize;
    Ok(Space { total: stat.f_blocks * unit, free: stat.f_bavail * unit })
}

/// Lets the system forget what it has cached of a file, so that the next read comes from the disk.
pub(crate) fn forget_cached(file: &std::fs::File) {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open for as long as the file is borrowed, and no memory of ours is touched.
    // It is advice: whether it is taken does not matter.
    let _ = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

impl Space {
    /// True if this much is free, or a twentieth of a small disk.
    pub(crate) fn has(&self, bytes: u64) -> bool {
        self.free >= bytes.min(self.total / 20)
    }
}
