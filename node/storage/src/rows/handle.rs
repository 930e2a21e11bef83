//! The row store as threads share it: it can be closed and opened again under them.
//!
//! fjall takes no more writes once one has failed (it can no longer know what its journal holds), and goes on
//! reading. Opening it again is the remedy, and needs every handle to be gone first: so nobody keeps one,
//! and whoever reads does it within [`RowsHandle::read`]. What a failed write would have changed is applied
//! anew afterwards; the applied vector says what that is.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, RwLock};

use super::{RowStore, RowWriter, RowsError};

struct Slot {
    path: PathBuf,
    store: RwLock<Option<RowStore>>,
    /// Says when the store is there again, or never will be.
    closed: Mutex<bool>,
    opened: Condvar,
}

/// Reads rows; clones share one store.
#[derive(Clone)]
pub(crate) struct RowsHandle(Arc<Slot>);

impl RowsHandle {
    pub(crate) fn new(store: RowStore) -> RowsHandle {
        RowsHandle(Arc::new(Slot {
            path: store.path().to_owned(),
            store: RwLock::new(Some(store)),
            closed: Mutex::new(false),
            opened: Condvar::new(),
        }))
    }
    /// Reads. The store must not be kept beyond the call, nor this be called within it.
    ///
    /// # Errors
    ///
    /// [`RowsError::Closed`] while the store is opened again, or what `read` gives.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&RowStore) -> Result<T, RowsError>,
    ) -> Result<T, RowsError> {
        match &*self.0.store.read() {
            Some(store) => read(store),
            None => Err(RowsError::Closed { path: self.0.path.clone() }),
        }
    }
    /// As [`RowsHandle::read`], but waits while the store is opened again.
    ///
    /// # Errors
    ///
    /// [`RowsError::Closed`] if it was given up, or what `read` gives.
    pub(crate) fn read_patiently<T>(
        &self,
        read: impl Fn(&RowStore) -> Result<T, RowsError>,
    ) -> Result<T, RowsError> {
        loop {
            match self.read(&read) {
                Err(error @ RowsError::Closed { .. }) => {
                    let mut closed = self.0.closed.lock();
                    if *closed {
                        return Err(error);
                    }
                    if self.0.store.read().is_none() {
                        self.0.opened.wait(&mut closed);
                    }
                }
                result => return result,
            }
        }
    }
    /// Closes the store and opens it again, waiting for those who read. After an error it stays closed, and
    /// the call may be repeated without a writer.
    ///
    /// # Errors
    ///
    /// [`RowsError`] if it cannot be opened.
    pub(crate) fn reopen(&self, writer: Option<RowWriter>) -> Result<RowWriter, RowsError> {
        // The writer's handles as well.
        drop(writer);
        let mut slot = self.0.store.write();
        *slot = None;
        let (store, writer) = RowStore::open(&self.0.path)?;
        *slot = Some(store);
        drop(slot);
        let _closed = self.0.closed.lock();
        self.0.opened.notify_all();
        Ok(writer)
    }
    /// Nobody will open it again: whoever waits for it need not any more.
    pub(crate) fn give_up(&self) {
        *self.0.closed.lock() = true;
        self.0.opened.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use node_core::ids::Vector;

    use super::*;

    #[test]
    fn a_store_is_opened_again_under_those_who_read() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (store, mut writer) = RowStore::open(dir.path()).expect("open");
        let handle = RowsHandle::new(store);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                for _ in 0..1000 {
                    handle.read_patiently(RowStore::applied).expect("it comes back");
                }
            });
            for _ in 0..3 {
                writer = handle.reopen(Some(writer)).expect("open again");
            }
            reader.join().expect("no panic");
        });
        assert_eq!(handle.read(RowStore::applied).expect("open"), Vector::new());
    }

    #[test]
    fn whoever_waits_for_a_store_that_stays_closed_is_told() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("rows");
        let (store, writer) = RowStore::open(&path).expect("open");
        let handle = RowsHandle::new(store);
        std::thread::scope(|scope| {
            // Closed, and it cannot be opened: a file is where the directory was.
            let failed = scope.spawn(|| {
                let mut slot = handle.0.store.write();
                *slot = None;
                drop(writer);
                std::fs::remove_dir_all(&path).expect("remove");
                std::fs::write(&path, "not a directory").expect("write");
                drop(slot);
                handle.reopen(None).map(drop)
            });
            assert!(failed.join().expect("no panic").is_err());
            let reader = scope.spawn(|| handle.read_patiently(RowStore::applied));
            assert!(matches!(handle.read(RowStore::applied), Err(RowsError::Closed { .. })));
            handle.give_up();
            assert!(matches!(reader.join().expect("no panic"), Err(RowsError::Closed { .. })));
        });
    }
}
