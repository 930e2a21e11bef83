//! A scan of a table: reads batches of rows from the transaction, through an index or not, and hands out cells.

use std::sync::Arc;

use bytes::Bytes;

use crate::access::{AccessPath, Argument, ROWS, Span, spans};
use crate::catalog::IndexDef;
use crate::encoding::{Cell, cell_at, decode_row, index_entry, locate_columns, value_before};
use crate::error::{SqlError, SqlResult};
use crate::plan::Access;
use crate::schema::after;
use crate::store::{Key, ReadMode, StoreTxn};
use crate::table::Module;
use crate::types::Value;

/// Rows read at first; each further batch is four times as large.
const FIRST_BATCH: usize = 8;
const LARGEST_BATCH: usize = 256;

/// A cell for SQLite.
pub(crate) enum RowSource<'a> {
    Null,
    Int(i64),
    Double(f64),
    Text(&'a [u8]),
    Bytes(&'a [u8]),
}

impl<'a> From<&'a Value> for RowSource<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Int(v) => Self::Int(*v),
            Value::UInt(v) => Self::Int(i64::try_from(*v).unwrap_or(i64::MAX)),
            Value::Double(v) => Self::Double(*v),
            Value::Text(v) => Self::Text(v.as_bytes()),
            Value::Bytes(v) => Self::Bytes(v),
        }
    }
}

/// A scan.
pub(crate) struct Cursor {
    module: Arc<Module>,
    path: AccessPath,
    spans: std::vec::IntoIter<Span>,
    /// The range being read, shrinking.
    current: Option<Span>,
    rows: Vec<(Key, Bytes)>,
    at: usize,
    batch: usize,
    /// How many more rows anybody wants.
    wanted: usize,
    offsets: Vec<u32>,
    located: bool,
    computed: Vec<Vec<Value>>,
}

impl Cursor {
    pub(crate) fn new(module: Arc<Module>) -> Self {
        Self {
            module,
            path: AccessPath::default(),
            spans: Vec::new().into_iter(),
            current: None,
            rows: Vec::new(),
            at: 0,
            batch: FIRST_BATCH,
            wanted: usize::MAX,
            offsets: Vec::new(),
            located: false,
            computed: Vec::new(),
        }
    }

    pub(crate) fn module(&self) -> &Module {
        &self.module
    }

    /// Begins a scan: the arguments are the path's, LIMIT and OFFSET at their end.
    pub(crate) fn start(&mut self, path: AccessPath, arguments: &[Argument]) -> SqlResult<()> {
        self.at = 0;
        self.rows.clear();
        self.located = false;
        if let Some(computed) = &self.module.computed {
            self.computed = computed.rows(&self.module.table)?;
            return Ok(());
        }
        let paging = usize::from(path.limit) + usize::from(path.offset);
        let (conditions, paging) = arguments.split_at(arguments.len().saturating_sub(paging));
        let count = |argument: Option<&Argument>| match argument {
            Some(Argument::One(Value::Int(v))) => Some(*v),
            _ => None,
        };
        let limit = if path.limit { count(paging.first()) } else { None };
        let skip = if path.offset { count(paging.get(1)) } else { None };
        let skip = usize::try_from(skip.unwrap_or(0)).unwrap_or(0);
        self.wanted = match limit {
            Some(limit) if limit >= 0 => usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(skip),
            _ => usize::MAX,
        };
        self.path = path;
        self.batch = FIRST_BATCH;
        self.spans = spans(&self.module.table, path, conditions).into_iter();
        self.current = self.spans.next();
        self.fill()?;
        for _ in 0..skip {
            if self.at_end() {
                break;
            }
            self.advance()?;
        }
        Ok(())
    }

    pub(crate) fn at_end(&self) -> bool {
        if self.module.computed.is_some() {
            self.at >= self.computed.len()
        } else {
            self.at >= self.rows.len()
        }
    }

    pub(crate) fn advance(&mut self) -> SqlResult<()> {
        self.at += 1;
        self.located = false;
        if self.module.computed.is_none() && self.at >= self.rows.len() {
            return self.fill();
        }
        Ok(())
    }

    /// A cell of the row that the scan is at; the column after the last is the row's key.
    pub(crate) fn cell(&mut self, column: usize) -> SqlResult<RowSource<'_>> {
        let columns = &self.module.table.columns;
        if self.module.computed.is_some() {
            let cell = self.computed.get(self.at).and_then(|row| row.get(column));
            return Ok(cell.map_or(RowSource::Null, RowSource::from));
        }
        let Some((key, bytes)) = self.rows.get(self.at) else { return Ok(RowSource::Null) };
        let Some(definition) = columns.get(column) else { return Ok(RowSource::Bytes(key)) };
        if !self.located {
            locate_columns(columns, bytes, &mut self.offsets)?;
            self.located = true;
        }
        let offset = self.offsets[column];
        if offset == 0 {
            return Ok(match value_before(definition) {
                Value::Int(v) => RowSource::Int(v),
                Value::Double(v) => RowSource::Double(v),
                Value::Null | Value::UInt(_) => RowSource::Null,
                // The text of the default is in the definition, which outlives the call.
                Value::Text(_) => {
                    RowSource::Text(definition.added_with.as_deref().unwrap_or_default().as_bytes())
                }
                Value::Bytes(_) => {
                    RowSource::Bytes(definition.added_with.as_deref().unwrap_or_default().as_bytes())
                }
            });
        }
        Ok(match cell_at(bytes, offset) {
            Some(Cell::Int(v)) => RowSource::Int(v),
            Some(Cell::Double(v)) => RowSource::Double(v),
            Some(Cell::Text(v)) => RowSource::Text(v),
            Some(Cell::Bytes(v)) => RowSource::Bytes(v),
            Some(Cell::Null) | None => RowSource::Null,
        })
    }

    /// Reads the next batch; leaves none if the scan is at its end.
    fn fill(&mut self) -> SqlResult<()> {
        self.rows.clear();
        self.at = 0;
        let module = self.module.clone();
        let mut slot = module.slot.lock();
        let txn =
            slot.txn.as_mut().ok_or_else(|| SqlError::internal("a table is read outside a transaction"))?;
        while self.rows.is_empty() && self.wanted > 0 {
            let Some(span) = self.current.take() else { break };
            self.read(span, &mut **txn)?;
            if self.current.is_none() {
                self.current = self.spans.next();
            }
        }
        self.rows.truncate(self.wanted);
        if self.wanted != usize::MAX {
            self.wanted -= self.rows.len();
        }
        self.batch = (self.batch * 4).min(LARGEST_BATCH);
        Ok(())
    }

    fn read(&mut self, span: Span, txn: &mut dyn StoreTxn) -> SqlResult<()> {
        let module = self.module.clone();
        let mode = match module.access {
            Access::Snapshot => ReadMode::Snapshot,
            Access::Update => ReadMode::Update,
            Access::Share => ReadMode::Share,
        };
        let index = match self.path.index {
            ROWS => None,
            place => module.table.indexes.get(usize::from(place)).filter(|i| !i.primary),
        };
        let mut range = match span {
            Span::Point(key) => {
                if let Some(row) = txn.get(&key, mode)? {
                    self.rows.push((key, row));
                }
                return Ok(());
            }
            Span::Range(range) => range,
        };
        let wanted = self.batch.min(self.wanted);
        // Entries are read without a lock: the rows are locked, and then looked at again.
        let scan_mode = match (index, mode) {
            (Some(_), ReadMode::Update | ReadMode::Share) => ReadMode::Present,
            _ => mode,
        };
        let found = txn.scan(&range, self.path.descending, wanted, scan_mode)?;
        if found.len() >= wanted
            && let Some((last, _)) = found.last()
        {
            if self.path.descending {
                range.end = Some(last.clone());
            } else {
                range.start = after(last);
            }
            self.current = Some(Span::Range(range));
        }
        match index {
            None => self.rows = found,
            Some(index) => {
                for (entry, row_key) in found {
                    if let Some(row) = follow(&module, index, txn, &entry, &row_key, mode)? {
                        self.rows.push((row_key, row));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The row of an index entry. A row that was locked is the newest, and may no longer be what the entry says.
fn follow(
    module: &Module,
    index: &IndexDef,
    txn: &mut dyn StoreTxn,
    entry: &Key,
    row_key: &Key,
    mode: ReadMode,
) -> SqlResult<Option<Bytes>> {
    let Some(row) = txn.get(row_key, mode)? else { return Ok(None) };
    if mode == ReadMode::Snapshot {
        return Ok(Some(row));
    }
    let values = decode_row(&module.table, &row)?;
    let now = index_entry(&module.table, index, &values, row_key);
    Ok((now.key == *entry).then_some(row))
}
