//! A read-only cursor: rows encoded already, kept until the client fetches them.

use std::collections::VecDeque;

/// The rows of an execution that a client fetches bit by bit.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    rows: VecDeque<Box<[u8]>>,
    bytes: usize,
}

impl Cursor {
    /// Adds a row; false when that would take more than `max` bytes.
    pub(crate) fn push(&mut self, row: &[u8], max: usize) -> bool {
        if self.bytes + row.len() > max {
            return false;
        }
        self.bytes += row.len();
        self.rows.push_back(row.into());
        true
    }
    /// The next row.
    pub(crate) fn pop(&mut self) -> Option<Box<[u8]>> {
        let row = self.rows.pop_front()?;
        self.bytes -= row.len();
        Some(row)
    }
    /// True when every row has been fetched.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}
