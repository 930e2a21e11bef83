//! The engine as `node-sql` sees it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use node_sql::store::{KeyRange, Store, StoreError, StoreTxn, TxnOptions};

use super::Engine;
use super::txn::EngineTxn;
use crate::volume_api::Volume;

/// An engine together with its volume: what sessions read and write through.
#[derive(Clone)]
pub struct EngineStore {
    engine: Arc<Engine>,
    volume: Arc<dyn Volume>,
}

impl EngineStore {
    /// The store of an instance.
    pub fn new(engine: Arc<Engine>, volume: Arc<dyn Volume>) -> EngineStore {
        EngineStore { engine, volume }
    }
    /// Its engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }
}

impl fmt::Debug for EngineStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineStore").field("role", &self.engine.role()).finish_non_exhaustive()
    }
}

impl Store for EngineStore {
    fn begin(&self, options: TxnOptions) -> Box<dyn StoreTxn> {
        Box::new(EngineTxn::new(self.engine.clone(), self.volume.clone(), options))
    }

    fn writable(&self) -> bool {
        self.engine.is_writer()
    }

    fn auto_increment(
        &self,
        table: u32,
        count: u64,
        last_used: &mut dyn FnMut() -> Result<u64, StoreError>,
    ) -> Result<u64, StoreError> {
        if !self.engine.is_writer() {
            return Err(StoreError::ReadOnly);
        }
        self.engine.sequences.reserve(table, count, last_used)
    }

    fn auto_increment_at_least(&self, table: u32, value: u64) {
        self.engine.sequences.at_least(table, value);
    }

    fn auto_increment_step(&self) -> (u64, u64) {
        self.engine.sequences.step()
    }

    fn catalog_version(&self) -> u64 {
        self.engine.catalog_version.load(Ordering::Acquire)
    }

    fn estimate_rows(&self, range: &KeyRange) -> Option<u64> {
        self.engine.cache.read().estimate_rows(&range.start, range.end.as_deref())
    }
}
