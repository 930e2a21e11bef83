//! INSERT, REPLACE, UPDATE and DELETE: rows read through SQLite, changes applied here.

use std::collections::HashSet;
use std::sync::Arc;

use crate::catalog::{ColumnDef, Default as ColumnDefault, TableDef, TableState};
use crate::connection::{BindValues, Engine};
use crate::context::Level;
use crate::convert::{Conversion, implicit_default};
use crate::error::{SqlError, SqlResult};
use crate::plan::{Cell, Delete, Insert, InsertKind, InsertRow, InsertSource, OnDuplicate, Update};
use crate::rows::{Duplicate, RowWriter, with_txn};
use crate::schema::{is_row_of, table_key};
use crate::store::{Key, LockWait, ReadMode, Store};
use crate::temporal::DateTime;
use crate::types::{ColumnType, Value};

/// What a change did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Affected rows, as MySQL counts them.
    pub affected: u64,
    /// The first AUTO_INCREMENT value made, or 0.
    pub last_insert_id: u64,
    /// The text of the OK packet.
    pub info: String,
}

/// Gives the value of `DEFAULT (expression)`.
pub(crate) type Evaluate<'a> = &'a mut dyn FnMut(&mut Engine, &str) -> SqlResult<Value>;

/// A statement that changes rows, under way.
pub(crate) struct Change<'a> {
    pub(crate) engine: &'a mut Engine,
    pub(crate) store: &'a Arc<dyn Store>,
    pub(crate) values: BindValues<'a>,
    pub(crate) wait: LockWait,
    /// Strict `sql_mode`.
    pub(crate) strict: bool,
    /// `NO_AUTO_VALUE_ON_ZERO`.
    pub(crate) zero_is_a_value: bool,
    /// Matched rows count as affected (the client's CLIENT_FOUND_ROWS).
    pub(crate) found_rows: bool,
    pub(crate) evaluate: Evaluate<'a>,
}

/// 1412: the plan was made for another version of the table. Sessions translate again when they see it.
pub(crate) fn stale_definition() -> SqlError {
    SqlError::new(1412, "Table definition has changed, please retry transaction")
}

/// An index of the table is being built; the message is the table's number. MySQL makes the statement wait for
/// the metadata lock, and so do sessions, which never show this code.
pub(crate) const BEING_CHANGED: u16 = u16::MAX;

impl Change<'_> {
    fn slot(&self) -> crate::table::SharedSlot {
        self.engine.slot.clone()
    }

    /// Makes sure that the table is what the plan takes it for, until the transaction commits.
    fn pin(&self, table: &TableDef) -> SqlResult<()> {
        if table.id == 0 {
            return Err(SqlError::new(
                1044,
                format!("Access denied for user to database '{}'", table.database),
            ));
        }
        let key = table_key(&table.database, &table.name);
        let row = with_txn(&self.engine.slot, |txn| txn.get(&key, ReadMode::Present))?;
        if !row.is_some_and(|row| is_row_of(&row, table)) {
            return Err(stale_definition());
        }
        if table.state == TableState::ReadOnly {
            return Err(SqlError::new(BEING_CHANGED, table.id.to_string()));
        }
        with_txn(&self.engine.slot, |txn| txn.check(&key))
    }

    fn warn(&self, error: SqlError) {
        self.engine.context.session.lock().warn(Level::Warning, error.code, error.message);
    }

    /// Converts a value for a column; NULL where it must not be is an error or the implicit default.
    fn fit(&self, value: Value, column: &ColumnDef, row: usize, strict: bool) -> SqlResult<Value> {
        if value.is_null() {
            if column.nullable {
                return Ok(Value::Null);
            }
            let error = SqlError::not_null(&column.name);
            if strict {
                return Err(error);
            }
            self.warn(error);
            return Ok(implicit_default(&column.ty));
        }
        let mut warn = |error| self.warn(error);
        Conversion { strict, row, warn: &mut warn }.convert(value, column)
    }

    /// The statement's time in a column's type.
    fn now(&self, ty: &ColumnType) -> Value {
        let (micros, offset) = {
            let session = self.engine.context.session.lock();
            (session.statement_micros, session.variables.time_zone_offset())
        };
        let now = DateTime::from_micros(micros + i64::from(offset) * 1_000_000);
        let fsp = ty.decimals();
        // MySQL cuts the fraction of the current time, it does not round it.
        let unit = 10_u32.pow(6 - u32::from(fsp.min(6)));
        let now = DateTime { micros: now.micros / unit * unit, ..now };
        Value::Text(if matches!(ty, ColumnType::Date) { now.date_text() } else { now.text(fsp) })
    }

    /// A column's default for a row that does not give it.
    fn default_of(&mut self, column: &ColumnDef, row: usize, strict: bool) -> SqlResult<Value> {
        match &column.default {
            Some(ColumnDefault::Null) if column.nullable => Ok(Value::Null),
            Some(ColumnDefault::Literal(text)) => self.fit(Value::Text(text.clone()), column, row, strict),
            Some(ColumnDefault::CurrentTimestamp) => Ok(self.now(&column.ty)),
            Some(ColumnDefault::Expression(text)) => {
                let value = (self.evaluate)(self.engine, text)?;
                self.fit(value, column, row, strict)
            }
            Some(ColumnDefault::Null) | None => {
                if column.nullable && column.default.is_some() {
                    return Ok(Value::Null);
                }
                let error = SqlError::no_default(&column.name);
                if strict {
                    return Err(error);
                }
                self.warn(error);
                Ok(if column.nullable { Value::Null } else { implicit_default(&column.ty) })
            }
        }
    }

    /// INSERT and REPLACE.
    pub(crate) fn insert(&mut self, insert: &Insert) -> SqlResult<Changed> {
        self.pin(&insert.table)?;
        let selected;
        let source: RowsToInsert<'_> = match &insert.source {
            InsertSource::Rows(rows) => RowsToInsert::Given(rows),
            InsertSource::Select(query) => {
                let mut all = Vec::new();
                self.engine.query(query, self.values, false, &mut |row| {
                    all.push(row.to_vec());
                    Ok(())
                })?;
                selected = all;
                RowsToInsert::Selected(&selected)
            }
        };
        let mut state = InsertState { remaining: source.len(), ..InsertState::default() };
        let strict = self.strict && insert.kind != InsertKind::Ignore;
        for number in 0..source.len() {
            let row = self.build_row(insert, &source, number, strict, &mut state)?;
            if let Some(row) = row {
                self.insert_row(insert, row, &mut state)?;
            }
            state.remaining -= 1;
        }
        let warnings = self.engine.context.session.lock().warning_count;
        let many = source.len() > 1 || matches!(insert.source, InsertSource::Select(_));
        let info = if many {
            format!("Records: {}  Duplicates: {}  Warnings: {warnings}", source.len(), state.duplicates)
        } else {
            String::new()
        };
        Ok(Changed { affected: state.affected, last_insert_id: state.first_generated.unwrap_or(0), info })
    }

    fn build_row(
        &mut self,
        insert: &Insert,
        source: &RowsToInsert<'_>,
        number: usize,
        strict: bool,
        state: &mut InsertState,
    ) -> SqlResult<Option<Vec<Value>>> {
        let table = insert.table.clone();
        let mut given: Vec<Option<Value>> = vec![None; table.columns.len()];
        self.given_values(insert, source, number, &mut given)?;
        let mut row = Vec::with_capacity(table.columns.len());
        state.generated = None;
        for (column, value) in table.columns.iter().zip(given) {
            if column.auto_increment {
                row.push(self.auto_increment(&table, column, value, number + 1, strict, state)?);
                continue;
            }
            row.push(match value {
                // A single-row INSERT of NULL fails outside strict mode too, as in MySQL.
                Some(Value::Null)
                    if !column.nullable && source.len() == 1 && insert.kind != InsertKind::Ignore =>
                {
                    return Err(SqlError::not_null(&column.name));
                }
                Some(value) => self.fit(value, column, number + 1, strict)?,
                None => self.default_of(column, number + 1, strict)?,
            });
        }
        Ok(Some(row))
    }

    /// The values that the statement gives a row; None where it says DEFAULT or nothing.
    fn given_values(
        &mut self,
        insert: &Insert,
        source: &RowsToInsert<'_>,
        number: usize,
        given: &mut [Option<Value>],
    ) -> SqlResult<()> {
        match source {
            RowsToInsert::Selected(rows) => {
                let row = &rows[number];
                if row.len() != insert.columns.len() {
                    return Err(SqlError::column_count(number + 1));
                }
                for (&column, value) in insert.columns.iter().zip(row) {
                    given[column] = Some(value.clone());
                }
            }
            RowsToInsert::Given(rows) => {
                let row = &rows[number];
                if row.cells.len() != insert.columns.len() {
                    return Err(SqlError::column_count(number + 1));
                }
                let mut evaluated: Vec<Value> = Vec::new();
                if let Some(query) = &row.expressions {
                    self.engine.query(query, self.values, false, &mut |cells| {
                        evaluated = cells.to_vec();
                        Ok(())
                    })?;
                }
                for (&column, cell) in insert.columns.iter().zip(&row.cells) {
                    given[column] = match cell {
                        Cell::Default => None,
                        Cell::Bind(bind) => Some(self.values.of(bind).clone()),
                        Cell::Expression(place) => {
                            Some(evaluated.get(*place).cloned().unwrap_or(Value::Null))
                        }
                    };
                }
            }
        }
        Ok(())
    }

    fn auto_increment(
        &mut self,
        table: &TableDef,
        column: &ColumnDef,
        value: Option<Value>,
        row: usize,
        strict: bool,
        state: &mut InsertState,
    ) -> SqlResult<Value> {
        let value = match value {
            None | Some(Value::Null) => Value::Null,
            Some(value) => self.fit(value, column, row, strict)?,
        };
        let zero = matches!(value, Value::Int(0)) || value == Value::Double(0.0);
        if !value.is_null() && (!zero || self.zero_is_a_value) {
            if let Value::Int(explicit) = value
                && let Ok(explicit) = u64::try_from(explicit)
            {
                state.explicit = state.explicit.max(explicit);
                self.store.auto_increment_at_least(table.id, explicit);
                // Values reserved for this statement may now be below it.
                if explicit >= state.next {
                    state.reserved = 0;
                }
            }
            return Ok(value);
        }
        let (step, _) = self.store.auto_increment_step();
        if state.reserved == 0 {
            let slot = self.slot();
            let writer = RowWriter { slot: &slot, table, wait: self.wait };
            let ordinal = table.auto_increment_column().unwrap_or(0);
            let count = state.remaining.max(1) as u64;
            let at_least = state.explicit;
            let mut last_used = || writer.largest(ordinal).map(|largest| largest.max(at_least));
            state.next = self.store.auto_increment(table.id, count, &mut last_used)?;
            state.reserved = count;
        }
        let generated = state.next;
        state.next += step;
        state.reserved -= 1;
        state.generated = Some(generated);
        let number = i64::try_from(generated).map_err(|_| read_failed())?;
        let value = self.fit(Value::Int(number), column, row, true).map_err(|_| read_failed())?;
        Ok(value)
    }

    fn insert_row(&mut self, insert: &Insert, row: Vec<Value>, state: &mut InsertState) -> SqlResult<()> {
        let slot = self.slot();
        let writer = RowWriter { slot: &slot, table: &insert.table, wait: self.wait };
        loop {
            let Err(duplicate) = writer.insert(&**self.store, &row)? else {
                state.affected += 1;
                if state.first_generated.is_none() {
                    state.first_generated = state.generated;
                }
                return Ok(());
            };
            state.duplicates += 1;
            if let Some(on_duplicate) = &insert.on_duplicate {
                return self.update_duplicate(insert, on_duplicate, &writer, &duplicate, &row, state);
            }
            match insert.kind {
                InsertKind::Insert => return Err(duplicate.error),
                InsertKind::Ignore => {
                    self.warn(duplicate.error);
                    return Ok(());
                }
                InsertKind::Replace => {
                    let Some(old) = writer.read(&duplicate.row_key)? else { return Err(duplicate.error) };
                    writer.delete(&duplicate.row_key, &old)?;
                    state.affected += 1;
                }
            }
        }
    }

    fn update_duplicate(
        &mut self,
        insert: &Insert,
        on_duplicate: &OnDuplicate,
        writer: &RowWriter<'_>,
        duplicate: &Duplicate,
        row: &[Value],
        state: &mut InsertState,
    ) -> SqlResult<()> {
        let Some(old) = writer.read(&duplicate.row_key)? else { return Err(duplicate.error.clone()) };
        let values = BindValues { old: &old, new: row, ..self.values };
        let mut assigned: Vec<Value> = Vec::new();
        self.engine.query(&on_duplicate.values, values, false, &mut |cells| {
            assigned = cells.to_vec();
            Ok(())
        })?;
        let strict = self.strict && insert.kind != InsertKind::Ignore;
        let mut new = old.clone();
        for (&column, value) in on_duplicate.columns.iter().zip(assigned) {
            new[column] = self.fit(value, &insert.table.columns[column], 1, strict)?;
        }
        if new == old {
            state.affected += u64::from(self.found_rows);
            return Ok(());
        }
        self.touch(&insert.table, &on_duplicate.columns, &mut new);
        match writer.update(&duplicate.row_key, &old, &new)? {
            Ok(()) => state.affected += 2,
            Err(other) if insert.kind == InsertKind::Ignore => self.warn(other.error),
            Err(other) => return Err(other.error),
        }
        Ok(())
    }

    /// ON UPDATE CURRENT_TIMESTAMP, for columns that are not assigned.
    fn touch(&self, table: &TableDef, assigned: &[usize], row: &mut [Value]) {
        for (place, column) in table.columns.iter().enumerate() {
            if column.on_update_now && !assigned.contains(&place) {
                row[place] = self.now(&column.ty);
            }
        }
    }

    /// UPDATE.
    pub(crate) fn update(&mut self, update: &Update) -> SqlResult<Changed> {
        for target in &update.targets {
            self.pin(&target.table)?;
        }
        let mut work: Vec<(usize, Key, Vec<Value>)> = Vec::new();
        let mut seen = HashSet::new();
        let several = update.targets.len() > 1 || update.select.tables.len() > 1;
        self.engine.query(&update.select, self.values, false, &mut |cells| {
            for (place, target) in update.targets.iter().enumerate() {
                let Some(Value::Bytes(key)) = cells.get(target.key) else { continue };
                let key = Key::copy_from_slice(key);
                // A join may give a row more than once: it is updated once.
                if several && !seen.insert((place, key.clone())) {
                    continue;
                }
                let new = target.assignments.iter().map(|&(_, from)| cells[from].clone()).collect();
                work.push((place, key, new));
            }
            Ok(())
        })?;
        let slot = self.slot();
        let strict = self.strict && !update.ignore;
        let matched = work.len() as u64;
        let mut changed = 0;
        for (number, (place, key, values)) in work.into_iter().enumerate() {
            let target = &update.targets[place];
            let writer = RowWriter { slot: &slot, table: &target.table, wait: self.wait };
            let Some(old) = writer.read(&key)? else { continue };
            let mut new = old.clone();
            for (&(column, _), value) in target.assignments.iter().zip(values) {
                new[column] = self.fit(value, &target.table.columns[column], number + 1, strict)?;
            }
            if new == old {
                continue;
            }
            let assigned: Vec<usize> = target.assignments.iter().map(|a| a.0).collect();
            self.touch(&target.table, &assigned, &mut new);
            match writer.update(&key, &old, &new)? {
                Ok(()) => changed += 1,
                Err(duplicate) if update.ignore => self.warn(duplicate.error),
                Err(duplicate) => return Err(duplicate.error),
            }
        }
        let warnings = self.engine.context.session.lock().warning_count;
        Ok(Changed {
            affected: if self.found_rows { matched } else { changed },
            last_insert_id: 0,
            info: format!("Rows matched: {matched}  Changed: {changed}  Warnings: {warnings}"),
        })
    }

    /// DELETE.
    pub(crate) fn delete(&mut self, delete: &Delete) -> SqlResult<Changed> {
        for (table, _) in &delete.targets {
            self.pin(table)?;
        }
        let mut work: Vec<(usize, Key)> = Vec::new();
        let mut seen = HashSet::new();
        let several = delete.targets.len() > 1 || delete.select.tables.len() > 1;
        self.engine.query(&delete.select, self.values, false, &mut |cells| {
            for (place, (_, column)) in delete.targets.iter().enumerate() {
                let Some(Value::Bytes(key)) = cells.get(*column) else { continue };
                let key = Key::copy_from_slice(key);
                if several && !seen.insert((place, key.clone())) {
                    continue;
                }
                work.push((place, key));
            }
            Ok(())
        })?;
        let slot = self.slot();
        let mut affected = 0;
        for (place, key) in work {
            let writer = RowWriter { slot: &slot, table: &delete.targets[place].0, wait: self.wait };
            if let Some(old) = writer.read(&key)? {
                writer.delete(&key, &old)?;
                affected += 1;
            }
        }
        Ok(Changed { affected, ..Changed::default() })
    }
}

/// 1467: AUTO_INCREMENT has run out.
fn read_failed() -> SqlError {
    SqlError::new(1467, "Failed to read auto-increment value from storage engine")
}

enum RowsToInsert<'a> {
    Given(&'a [InsertRow]),
    Selected(&'a [Vec<Value>]),
}

impl RowsToInsert<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Given(rows) => rows.len(),
            Self::Selected(rows) => rows.len(),
        }
    }
}

#[derive(Default)]
struct InsertState {
    affected: u64,
    duplicates: u64,
    /// Rows still to come, this one included.
    remaining: usize,
    /// The next AUTO_INCREMENT value of those reserved.
    next: u64,
    reserved: u64,
    /// The largest value given explicitly.
    explicit: u64,
    /// The value made for the current row.
    generated: Option<u64>,
    first_generated: Option<u64>,
}
