//! The data directory: where everything lies, who holds it, and what is kept between runs.
//!
//! ```text
//! DATA_DIR/playground.json    what this directory is, and the ports of the last run (written by the supervisor)
//! DATA_DIR/lock               held by the supervisor for as long as it lives
//! DATA_DIR/control.sock       where it takes orders (elsewhere if the path is too long for a socket)
//! DATA_DIR/password           of the database user, readable by the owner only
//! DATA_DIR/storage/NAME/      a storage node's disk
//! DATA_DIR/logs/NAME.log      what a process printed
//! DATA_DIR/run/NAME.pid       its process id while it runs
//! ```
//! Nothing outside these names is ever removed.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crds::cluster::AuroraClusterSpec;
use serde::{Deserialize, Serialize};

/// Longest path of a Unix socket that every system takes, in bytes.
const SOCKET_PATH_MAX: usize = 100;
/// Length of a generated password, in characters: 24 of 62 kinds are 142 bits.
const PASSWORD_CHARS: usize = 24;
/// A log larger than this is moved aside before its process starts again, in bytes.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// What went wrong with the data directory.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// There is no home directory to put the default into.
    #[error("there is no default data directory because HOME is not set: pass --data-dir DIR")]
    NoHome,
    /// It holds something else.
    #[error(
        "{path:?} is not empty and is not a playground's data directory: pass another one with --data-dir"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// Somebody works on it.
    #[error(
        "a playground is already running on {path:?}: see `status`, end it with `down`, or pass another --data-dir"
    )]
    Running {
        /// The directory.
        path: PathBuf,
    },
    /// There is nothing.
    #[error(
        "there is no playground in {path:?}: start one with `up -f FILE`, or say where it is with --data-dir"
    )]
    Absent {
        /// The directory.
        path: PathBuf,
    },
    /// A file cannot be used.
    #[error("cannot {action} {path:?}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The state file is damaged.
    #[error("{path:?} is damaged: remove the directory if its rows are not needed")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        #[source]
        source: serde_json::Error,
    },
    /// The system gives no random numbers.
    #[error("cannot get random bytes for a password: {reason}")]
    Random {
        /// The system's words.
        reason: String,
    },
}

/// What is kept about a playground between runs, and found by commands during one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The cluster's name.
    pub(crate) cluster: String,
    /// What its manifest said.
    pub(crate) spec: AuroraClusterSpec,
    /// First of the ports that are not MySQL's.
    pub(crate) block: Option<u16>,
    /// Where the supervisor takes orders.
    pub(crate) control: PathBuf,
}

/// A playground's directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

/// Proof that this process holds the directory; released when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    _lock: File,
}

impl Layout {
    /// The directory that a command line names, or the default.
    pub(crate) fn of(given: Option<&Path>) -> Result<Layout, LayoutError> {
        let root = match given {
            Some(path) => path.to_path_buf(),
            None => default_root(std::env::var_os("XDG_DATA_HOME"), std::env::var_os("HOME"))
                .ok_or(LayoutError::NoHome)?,
        };
        let root = std::path::absolute(&root).map_err(|source| io_error("use", &root, source))?;
        Ok(Layout { root })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
    pub(crate) fn password_file(&self) -> PathBuf {
        self.root.join("password")
    }
    pub(crate) fn storage_dir(&self, name: &str) -> PathBuf {
        self.root.join("storage").join(name)
    }
    pub(crate) fn log_file(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(format!("{name}.log"))
    }
    pub(crate) fn pid_file(&self, name: &str) -> PathBuf {
        self.root.join("run").join(format!("{name}.pid"))
    }
    fn record_file(&self) -> PathBuf {
        self.root.join("playground.json")
    }
    fn lock_file(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Makes the directory ready for `up` and takes it.
    pub(crate) fn prepare(&self) -> Result<Held, LayoutError> {
        let used = fs::read_dir(&self.root).is_ok_and(|mut entries| entries.next().is_some());
        if used && !self.record_file().exists() && !self.lock_file().exists() {
            return Err(LayoutError::Foreign { path: self.root.clone() });
        }
        for dir in
            [self.root.clone(), self.root.join("storage"), self.root.join("logs"), self.root.join("run")]
        {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .map_err(|source| io_error("create", &dir, source))?;
        }
        self.hold()
    }

    /// Takes the directory, which must exist.
    pub(crate) fn hold(&self) -> Result<Held, LayoutError> {
        let path = self.lock_file();
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|source| io_error("open", &path, source))?;
        match lock.try_lock() {
            Ok(()) => Ok(Held { _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(LayoutError::Running { path: self.root.clone() }),
            Err(TryLockError::Error(source)) => Err(io_error("lock", &path, source)),
        }
    }

    /// Takes the directory once its supervisor, which is ending, has let it go.
    pub(crate) fn hold_after_its_end(&self) -> Result<Held, LayoutError> {
        let path = self.lock_file();
        let lock =
            OpenOptions::new().write(true).open(&path).map_err(|source| io_error("open", &path, source))?;
        lock.lock().map_err(|source| io_error("lock", &path, source))?;
        Ok(Held { _lock: lock })
    }

    /// The record of the last run, if there was one.
    pub(crate) fn record(&self) -> Result<Option<Record>, LayoutError> {
        let path = self.record_file();
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| LayoutError::Damaged { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(io_error("read", &path, source)),
        }
    }

    /// Like [`Layout::record`], where there must be one.
    pub(crate) fn existing_record(&self) -> Result<Record, LayoutError> {
        self.record()?.ok_or_else(|| LayoutError::Absent { path: self.root.clone() })
    }

    /// Replaces the record.
    pub(crate) fn write_record(&self, record: &Record) -> Result<(), LayoutError> {
        let (path, temporary) = (self.record_file(), self.root.join("playground.json.new"));
        let text = serde_json::to_vec_pretty(record).expect("a record of plain values serialises");
        fs::write(&temporary, text).map_err(|source| io_error("write", &temporary, source))?;
        fs::rename(&temporary, &path).map_err(|source| io_error("write", &path, source))
    }

    /// Where the supervisor of this directory listens.
    pub(crate) fn control_socket(&self) -> PathBuf {
        let inside = self.root.join("control.sock");
        if inside.as_os_str().len() <= SOCKET_PATH_MAX {
            return inside;
        }
        // A digest of the path keeps two playgrounds apart; FNV-1a is enough, this is no secret.
        let digest =
            self.root.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
        std::env::temp_dir().join(format!("borealis-{digest:016x}.sock"))
    }

    /// The database user's password: the one kept here, or a new random one.
    pub(crate) fn password(&self) -> Result<String, LayoutError> {
        let path = self.password_file();
        let mut password = String::new();
        match File::open(&path).and_then(|mut file| file.read_to_string(&mut password)) {
            Ok(_) if !password.trim().is_empty() => return Ok(password.trim().to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(io_error("read", &path, source)),
        }
        let password = random_password()?;
        OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(format!("{password}\n").as_bytes()))
            .map_err(|source| io_error("write", &path, source))?;
        Ok(password)
    }

    /// Opens a process's log for appending; a very large one is moved aside.
    pub(crate) fn open_log(&self, name: &str) -> Result<File, LayoutError> {
        let path = self.log_file(name);
        if fs::metadata(&path).is_ok_and(|found| found.len() > LOG_BYTES_MAX) {
            fs::rename(&path, path.with_extension("log.old"))
                .map_err(|source| io_error("rename", &path, source))?;
        }
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|source| io_error("open", &path, source))
    }

    /// The last lines of a process's log.
    pub(crate) fn log_tail(&self, name: &str, lines: usize) -> Vec<String> {
        let Ok(bytes) = fs::read(self.log_file(name)) else { return Vec::new() };
        let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(16 << 10)..]);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
    }

    /// Removes everything a playground made here, and the directory if nothing else is in it.
    pub(crate) fn remove(&self, _held: Held) -> Result<(), LayoutError> {
        let _ = fs::remove_file(self.control_socket());
        for dir in ["storage", "logs", "run"] {
            let path = self.root.join(dir);
            absent_is_fine(fs::remove_dir_all(&path)).map_err(|source| io_error("remove", &path, source))?;
        }
        for file in ["password", "playground.json", "playground.json.new", "lock"] {
            let path = self.root.join(file);
            absent_is_fine(fs::remove_file(&path)).map_err(|source| io_error("remove", &path, source))?;
        }
        // Fails if somebody keeps files of their own here, which is then not ours to remove.
        let _ = fs::remove_dir(&self.root);
        Ok(())
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn default_root(data_home: Option<std::ffi::OsString>, home: Option<std::ffi::OsString>) -> Option<PathBuf> {
    let base = match data_home.map(PathBuf::from).filter(|path| path.is_absolute()) {
        Some(path) => path,
        None => PathBuf::from(home.filter(|home| !home.is_empty())?).join(".local/share"),
    };
    Some(base.join("borealis/playground"))
}

fn random_password() -> Result<String, LayoutError> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut password = String::with_capacity(PASSWORD_CHARS);
    while password.len() < PASSWORD_CHARS {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(|error| LayoutError::Random { reason: error.to_string() })?;
        // Bytes beyond a multiple of 62 are dropped, so that no character is likelier than another.
        let usable = bytes.iter().filter(|byte| usize::from(**byte) < 4 * ALPHABET.len());
        let room = PASSWORD_CHARS - password.len();
        password
            .extend(usable.take(room).map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])));
    }
    Ok(password)
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> LayoutError {
    LayoutError::Io { action, path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let layout = Layout::of(Some(&dir.path().join("play"))).expect("a path");
        (dir, layout)
    }

    #[test]
    fn password_is_made_once_and_readable_by_the_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, layout) = layout();
        let _held = layout.prepare().expect("prepared");
        let first = layout.password().expect("a password");
        assert_eq!(first.len(), PASSWORD_CHARS);
        assert_eq!(layout.password().expect("the same"), first);
        let mode = fs::metadata(layout.password_file()).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn second_holder_is_refused_until_the_first_lets_go() {
        let (_dir, layout) = layout();
        let held = layout.prepare().expect("prepared");
        assert!(matches!(layout.hold(), Err(LayoutError::Running { .. })));
        drop(held);
        layout.hold().expect("free again");
    }

    #[test]
    fn directory_with_other_files_is_refused() {
        let (dir, _) = layout();
        fs::write(dir.path().join("thesis.tex"), "years of work").expect("written");
        let layout = Layout::of(Some(dir.path())).expect("a path");
        assert!(matches!(layout.prepare(), Err(LayoutError::Foreign { .. })));
    }

    #[test]
    fn removal_leaves_foreign_files_alone() {
        let (_dir, layout) = layout();
        let held = layout.prepare().expect("prepared");
        layout.password().expect("a password");
        fs::write(layout.root().join("notes.txt"), "mine").expect("written");
        layout.remove(held).expect("removed");
        let left: Vec<_> =
            fs::read_dir(layout.root()).expect("kept").map(|e| e.expect("entry").file_name()).collect();
        assert_eq!(left, ["notes.txt"]);
    }

    #[test]
    fn default_directory_follows_xdg_then_home() {
        let path = |text: &str| Some(std::ffi::OsString::from(text));
        assert_eq!(default_root(path("/x"), path("/h")), Some("/x/borealis/playground".into()));
        assert_eq!(
            default_root(path("relative"), path("/h")),
            Some("/h/.local/share/borealis/playground".into())
        );
        assert_eq!(default_root(None, None), None);
    }

    #[test]
    fn socket_of_a_deep_directory_has_a_short_path() {
        let deep = format!("/tmp/{}", "d".repeat(200));
        let layout = Layout::of(Some(Path::new(&deep))).expect("a path");
        assert!(layout.control_socket().as_os_str().len() <= SOCKET_PATH_MAX);
    }
}
