//! Plans of recent texts: a text that comes again is neither parsed nor translated.

use std::collections::HashMap;
use std::sync::Arc;

use crate::plan::Translated;

/// Texts kept by a session, and the longest worth keeping: a long one holds values and never comes again.
const TEXTS: usize = 64;
const TEXT_BYTES_MAX: usize = 4096;

/// A plan, and what it holds for.
pub(super) struct Plan {
    pub(super) translated: Translated,
    pub(super) version: u64,
    pub(super) database: Option<String>,
    pub(super) sql_mode: String,
}

/// Plans by text.
#[derive(Default)]
pub(super) struct Plans {
    by_text: HashMap<String, Arc<Plan>>,
}

impl Plans {
    pub(super) fn get(
        &self,
        sql: &str,
        version: u64,
        database: Option<&str>,
        sql_mode: &str,
    ) -> Option<Arc<Plan>> {
        let plan = self.by_text.get(sql)?;
        let fits =
            plan.version == version && plan.database.as_deref() == database && plan.sql_mode == sql_mode;
        fits.then(|| plan.clone())
    }
    pub(super) fn put(&mut self, sql: &str, plan: Arc<Plan>) {
        if sql.len() > TEXT_BYTES_MAX {
            return;
        }
        if self.by_text.len() >= TEXTS && !self.by_text.contains_key(sql) {
            // Statements with their values in the text never come again: start over rather than keep order.
            self.by_text.clear();
        }
        self.by_text.insert(sql.to_owned(), plan);
    }
    pub(super) fn remove(&mut self, sql: &str) {
        self.by_text.remove(sql);
    }
}
