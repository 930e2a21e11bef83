//! Carrying out statements, by kind.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::Plan;
use super::{Completion, ResultSink, Session};
use crate::catalog::Catalog;
use crate::change::{BEING_CHANGED, Change, Changed, stale_definition};
use crate::connection::{BindValues, Engine};
use crate::ddl::Definer;
use crate::error::{SqlError, SqlResult};
use crate::plan::{Access, Ddl, Insert, InsertKind, InsertSource, Query, Statement, Transaction};
use crate::rows::with_txn;
use crate::schema::{is_row_of, table_key};
use crate::show::Show;
use crate::store::{Freshness, Mark, ReadMode};
use crate::translate::{self, TranslateContext};
use crate::types::{ColumnMeta, ColumnType, Value};

/// How often a statement is translated again because a table has changed meanwhile.
const DEFINITION_RETRIES: u32 = 5;
/// 1412: the plan is for another version of the table.
const STALE: u16 = 1412;
const DEADLOCK: u16 = 1213;
const DUPLICATE: u16 = 1062;

impl Session {
    /// Runs one statement.
    pub(super) fn run(
        &mut self,
        sql: &str,
        parameters: &[Value],
        sink: &mut dyn ResultSink,
    ) -> SqlResult<()> {
        self.begin_clock();
        let result = self.run_fresh(sql, parameters, sink);
        if let Err(error) = &result {
            let mut session = self.context.session.lock();
            session.warnings.clear();
            session.warning_count = 0;
            session.row_count = -1;
            drop(session);
            self.note_error(error);
            self.completion();
        }
        result
    }

    fn run_fresh(&mut self, sql: &str, parameters: &[Value], sink: &mut dyn ResultSink) -> SqlResult<()> {
        let mut tries = 0;
        loop {
            let plan = self.plan(sql)?;
            if parameters.len() < plan.translated.parameters {
                return Err(SqlError::new(1210, "Incorrect arguments to EXECUTE"));
            }
            let keeps_warnings = matches!(
                plan.translated.statement,
                Statement::Show(Show::Warnings { .. } | Show::WarningCount { .. })
            );
            if !keeps_warnings {
                let mut session = self.context.session.lock();
                session.warnings.clear();
                session.warning_count = 0;
                session.last_insert_id_expr = None;
            }
            // 1412 comes before the statement has changed or given anything.
            match self.carry_out(&plan, parameters, sink) {
                Err(error) if error.code == STALE && tries < DEFINITION_RETRIES => {
                    self.plans.remove(sql);
                    tries += 1;
                }
                Err(error) if error.code == BEING_CHANGED && tries == DEFINITION_RETRIES => {
                    return Err(SqlError::lock_timeout());
                }
                Err(error) if error.code == BEING_CHANGED => {
                    tries += 1;
                    self.wait_for_table(error.message.parse().unwrap_or(0))?;
                    self.plans.remove(sql);
                }
                result => return result,
            }
        }
    }

    /// Waits until nobody changes the table any more, as long as for a lock.
    fn wait_for_table(&mut self, table: u32) -> SqlResult<()> {
        let (kill, timeout) = {
            let session = self.context.session.lock();
            (session.kill.clone(), session.variables.lock_wait_timeout())
        };
        let begin = Instant::now();
        let mut pause = Duration::from_millis(2);
        while !self.define_with(|definer| definer.is_free(table))? {
            if begin.elapsed() >= timeout {
                return Err(SqlError::lock_timeout());
            }
            if kill.wait(pause) {
                return Err(SqlError::interrupted());
            }
            pause = (pause * 2).min(Duration::from_millis(100));
        }
        Ok(())
    }

    fn carry_out(
        &mut self,
        plan: &Arc<Plan>,
        parameters: &[Value],
        sink: &mut dyn ResultSink,
    ) -> SqlResult<()> {
        let values = BindValues { parameters, ..BindValues::default() };
        match &plan.translated.statement {
            Statement::Query(query) => self.select(query, values, sink),
            Statement::SelectInto(query, variables) => self.select_into(query, variables, values, sink),
            Statement::Explain(query) => self.explain(query, sink),
            Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) => {
                let changed = self.change(&plan.translated.statement, values)?;
                self.changed(changed, sink)
            }
            Statement::Ddl(ddl) => self.define(ddl, sink),
            Statement::Transaction(transaction) => self.transaction(transaction, sink),
            Statement::Set(items) => {
                self.set(items, values)?;
                self.done(sink)
            }
            Statement::Use(name) => {
                self.use_database(name)?;
                self.done(sink)
            }
            Statement::Show(show) => self.show(show, sink),
            Statement::Prepare { name, text } => self.prepare_named(name, text, sink),
            Statement::Execute { name, using } => self.execute_named(name, using, sink),
            Statement::Deallocate(name) => match self.named.remove(name) {
                Some(_) => self.done(sink),
                None => Err(SqlError::unknown_statement(name, "DEALLOCATE PREPARE")),
            },
            Statement::Do(query) => {
                self.read(query, values, &mut |_| Ok(()))?;
                self.done(sink)
            }
            Statement::Kill { connection, id } => {
                if !self.context.instance.host.kill(*id, *connection) {
                    return Err(SqlError::new(1094, format!("Unknown thread id: {id}")));
                }
                self.done(sink)
            }
            Statement::AlterSystem(command) => {
                self.context.instance.host.alter_system(command)?;
                self.done(sink)
            }
            Statement::Nothing { commits } => {
                if *commits {
                    self.commit()?;
                }
                self.done(sink)
            }
        }
    }

    pub(super) fn done(&mut self, sink: &mut dyn ResultSink) -> SqlResult<()> {
        self.context.session.lock().row_count = 0;
        sink.done(&self.completion())
    }

    fn changed(&mut self, changed: Changed, sink: &mut dyn ResultSink) -> SqlResult<()> {
        let told = {
            let mut session = self.context.session.lock();
            if changed.last_insert_id > 0 {
                session.last_insert_id = changed.last_insert_id;
            }
            session.row_count = i64::try_from(changed.affected).unwrap_or(i64::MAX);
            session.last_insert_id_expr.take().unwrap_or(changed.last_insert_id)
        };
        let completion = Completion {
            affected_rows: changed.affected,
            last_insert_id: told,
            info: changed.info,
            ..self.completion()
        };
        sink.done(&completion)
    }

    // ---- reading ----

    fn select(&mut self, query: &Query, values: BindValues<'_>, sink: &mut dyn ResultSink) -> SqlResult<()> {
        let mut described = false;
        let count = self.read(query, values, &mut |row| {
            if !described {
                described = true;
                sink.columns(&query.columns)?;
            }
            sink.row(row)
        })?;
        if !described {
            sink.columns(&query.columns)?;
        }
        {
            let mut session = self.context.session.lock();
            session.row_count = -1;
            session.found_rows = count;
        }
        sink.done(&self.completion())
    }

    /// Runs a query in the transaction, or in one of its own.
    pub(super) fn read(
        &mut self,
        query: &Query,
        values: BindValues<'_>,
        each: &mut dyn FnMut(&[Value]) -> SqlResult<()>,
    ) -> SqlResult<u64> {
        if query.tables.is_empty() {
            return self.engine.query(query, values, true, each);
        }
        self.begin_statement()?;
        let result = self.verify(query).and_then(|()| self.engine.query(query, values, true, each));
        match result {
            Ok(count) => {
                self.end_statement()?;
                Ok(count)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Makes sure that the tables are what the plan takes them for, at the point that is read. They may not be
    /// if another instance has changed one a moment ago, or if the snapshot is older than a change: an index
    /// made since has no entries at the snapshot. 1412 otherwise.
    fn verify(&self, query: &Query) -> SqlResult<()> {
        let now = self.store.catalog_version();
        let settled = now == self.catalog_at_plan && now == self.catalog_at_begin;
        if settled && self.freshness() == Freshness::Local {
            return Ok(());
        }
        for used in query.tables.iter().filter(|used| used.table.id != 0) {
            let key = table_key(&used.table.database, &used.table.name);
            let mode = match used.access {
                Access::Snapshot => ReadMode::Snapshot,
                Access::Update | Access::Share => ReadMode::Present,
            };
            let row = with_txn(&self.slot, |txn| txn.get(&key, mode))?;
            if !row.is_some_and(|row| is_row_of(&row, &used.table)) {
                return Err(stale_definition());
            }
        }
        Ok(())
    }

    fn select_into(
        &mut self,
        query: &Query,
        variables: &[String],
        values: BindValues<'_>,
        sink: &mut dyn ResultSink,
    ) -> SqlResult<()> {
        let mut found: Option<Vec<Value>> = None;
        self.read(query, values, &mut |row| {
            if found.is_some() {
                return Err(SqlError::new(1172, "Result consisted of more than one row"));
            }
            found = Some(row.to_vec());
            Ok(())
        })?;
        if let Some(row) = found {
            let mut session = self.context.session.lock();
            session.user_variables.extend(variables.iter().cloned().zip(row));
        }
        self.done(sink)
    }

    fn explain(&mut self, query: &Query, sink: &mut dyn ResultSink) -> SqlResult<()> {
        self.begin_statement()?;
        let plan = self.engine.plan_of(query).map_err(|error| self.failed(error))?;
        self.end_statement()?;
        let depth = |id: i64| {
            let mut depth = 0;
            let mut at = id;
            while let Some((_, parent, _)) = plan.iter().find(|(own, ..)| *own == at) {
                (at, depth) = (*parent, depth + 1);
            }
            depth
        };
        sink.columns(&[ColumnMeta::expression("EXPLAIN", ColumnType::varchar(1024))])?;
        for (id, _, detail) in &plan {
            let indent = "    ".repeat(usize::saturating_sub(depth(*id), 1));
            sink.row(&[Value::Text(format!("{indent}-> {detail}"))])?;
        }
        sink.done(&self.completion())
    }

    fn show(&mut self, show: &Show, sink: &mut dyn ResultSink) -> SqlResult<()> {
        let view = self.view();
        let (columns, rows) = crate::show::run(show, &view, &self.context)?;
        sink.columns(&columns)?;
        for row in rows {
            sink.row(&row)?;
        }
        sink.done(&self.completion())
    }

    // ---- changing ----

    /// INSERT, UPDATE, DELETE: one that stands alone is tried again when it loses a vote.
    fn change(&mut self, statement: &Statement, values: BindValues<'_>) -> SqlResult<Changed> {
        if self.read_only {
            return Err(SqlError::read_only_transaction());
        }
        if !self.store.writable() {
            return Err(SqlError::read_only_server());
        }
        let alone = !self.holds_transaction();
        let retries = if alone { self.context.session.lock().variables.autocommit_retries() } else { 0 };
        let mut tries = 0;
        let mut assume_present = alone && only_writes(statement);
        loop {
            match self.change_once(statement, values, assume_present) {
                // Nothing but these two can be due to what was taken for the present. Above all not an unknown
                // outcome: the row may be there.
                Err(error) if assume_present && matches!(error.code, DUPLICATE | DEADLOCK) => {
                    assume_present = false;
                }
                Err(error) if error.code == DEADLOCK && tries < retries => tries += 1,
                result => return result,
            }
            let mut session = self.context.session.lock();
            session.warnings.clear();
            session.warning_count = 0;
        }
    }

    fn change_once(
        &mut self,
        statement: &Statement,
        values: BindValues<'_>,
        assume_present: bool,
    ) -> SqlResult<Changed> {
        self.begin_statement()?;
        if assume_present && let Some(txn) = self.slot.lock().txn.as_mut() {
            txn.assume_present();
        }
        let mark = self.mark();
        let result = self.apply(statement, values);
        match result {
            Ok(changed) => {
                self.end_statement()?;
                Ok(changed)
            }
            Err(error) => {
                if let (Some(mark), Some(txn)) = (mark, self.slot.lock().txn.as_mut()) {
                    txn.rollback_to(mark);
                }
                Err(self.failed(error))
            }
        }
    }

    fn mark(&self) -> Option<Mark> {
        self.slot.lock().txn.as_ref().map(|txn| txn.mark())
    }

    fn apply(&mut self, statement: &Statement, values: BindValues<'_>) -> SqlResult<Changed> {
        match statement {
            Statement::Insert(Insert { source: InsertSource::Select(query), .. }) => self.verify(query)?,
            Statement::Update(update) => self.verify(&update.select)?,
            Statement::Delete(delete) => self.verify(&delete.select)?,
            _ => {}
        }
        let wait = self.lock_wait();
        let (strict, zero_is_a_value) = {
            let session = self.context.session.lock();
            (session.variables.strict(), session.variables.sql_mode().contains("NO_AUTO_VALUE_ON_ZERO"))
        };
        let view = self.view();
        let mut evaluate = |engine: &mut Engine, text: &str| evaluate_default(engine, &view, text);
        let mut change = Change {
            engine: &mut self.engine,
            store: &self.store,
            values,
            wait,
            strict,
            zero_is_a_value,
            found_rows: self.found_rows,
            evaluate: &mut evaluate,
        };
        match statement {
            Statement::Insert(insert) => change.insert(insert),
            Statement::Update(update) => change.update(update),
            Statement::Delete(delete) => change.delete(delete),
            _ => Err(SqlError::internal("not a change")),
        }
    }

    fn define(&mut self, ddl: &Ddl, sink: &mut dyn ResultSink) -> SqlResult<()> {
        self.commit()?;
        if !self.store.writable() {
            return Err(SqlError::read_only_server());
        }
        let affected = self.define_with(|definer| definer.run(ddl))?;
        if let Ddl::DropDatabase { name, .. } = ddl {
            let mut session = self.context.session.lock();
            if session.database.as_ref() == Some(name) {
                session.database = None;
            }
        }
        self.changed(Changed { affected, ..Changed::default() }, sink)
    }

    fn define_with<T>(&mut self, body: impl FnOnce(&mut Definer<'_>) -> SqlResult<T>) -> SqlResult<T> {
        let host = self.context.instance.host.clone();
        let alive = |name: &str| host.replicas().iter().any(|instance| instance.server_id == name);
        let mut options = self.options()?;
        options.read_only = false;
        let mut notes = Vec::new();
        let mut definer = Definer {
            store: &self.store,
            options,
            wait: self.lock_wait(),
            owner: self.context.instance.host.server_id(),
            run: self.run,
            alive: &alive,
            notes: &mut notes,
            now_seconds: u64::try_from(self.context.session.lock().statement_micros / 1_000_000).unwrap_or(0),
        };
        let result = body(&mut definer)?;
        for note in notes {
            self.context.session.lock().warn(crate::context::Level::Note, note.code, note.message);
        }
        Ok(result)
    }

    // ---- transactions ----

    fn transaction(&mut self, transaction: &Transaction, sink: &mut dyn ResultSink) -> SqlResult<()> {
        match transaction {
            Transaction::Begin { read_only, consistent_snapshot } => {
                let next = (self.next_isolation, self.next_read_only);
                self.commit()?;
                (self.next_isolation, self.next_read_only) = next;
                self.start(*read_only);
                if *consistent_snapshot {
                    self.begin_statement()?;
                    let taken = match self.slot.lock().txn.as_mut() {
                        Some(txn) => txn.take_snapshot(),
                        None => Ok(()),
                    };
                    taken.map_err(|error| self.failed(SqlError::from(error)))?;
                }
            }
            Transaction::Commit { chain, release: _ } => {
                self.commit()?;
                if *chain {
                    self.start(None);
                }
            }
            Transaction::Rollback { chain, release: _ } => {
                self.rollback();
                if *chain {
                    self.start(None);
                }
            }
            Transaction::Savepoint(name) => self.savepoint(name)?,
            Transaction::RollbackTo(name) => {
                let place = self.savepoint_place(name)?;
                let mark = self.savepoints[place].1;
                self.savepoints.truncate(place + 1);
                if let Some(txn) = self.slot.lock().txn.as_mut() {
                    txn.rollback_to(mark);
                }
            }
            Transaction::Release(name) => {
                let place = self.savepoint_place(name)?;
                self.savepoints.truncate(place);
            }
            Transaction::Set { scope, isolation, read_only } => {
                self.set_transaction(*scope, *isolation, *read_only)?;
            }
        }
        self.done(sink)
    }

    fn start(&mut self, read_only: Option<bool>) {
        let by_default = self.context.session.lock().variables.read_only();
        self.explicit = true;
        self.read_only = read_only.or(self.next_read_only).unwrap_or(by_default);
    }

    fn savepoint(&mut self, name: &str) -> SqlResult<()> {
        if !self.holds_transaction() {
            return Ok(());
        }
        self.begin_statement()?;
        self.savepoints.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        if let Some(mark) = self.mark() {
            self.savepoints.push((name.to_owned(), mark));
        }
        Ok(())
    }

    fn savepoint_place(&self, name: &str) -> SqlResult<usize> {
        let place = self.savepoints.iter().position(|(other, _)| other.eq_ignore_ascii_case(name));
        place.ok_or_else(|| SqlError::does_not_exist("SAVEPOINT", name))
    }

    // ---- prepared statements of SQL ----

    fn prepare_named(&mut self, name: &str, text: &Query, sink: &mut dyn ResultSink) -> SqlResult<()> {
        let mut found = None;
        self.read(text, BindValues::default(), &mut |row| {
            found = row.first().and_then(Value::display);
            Ok(())
        })?;
        let text = found.unwrap_or_else(|| "NULL".to_owned());
        let (first, rest) = translate::first_statement(&text)?;
        if !rest.trim().is_empty() {
            return Err(SqlError::syntax(rest.trim_start(), 1));
        }
        self.named.remove(name);
        self.plan(first)?;
        self.named.insert(name.to_owned(), first.to_owned());
        self.done(sink)
    }

    fn execute_named(&mut self, name: &str, using: &[String], sink: &mut dyn ResultSink) -> SqlResult<()> {
        let Some(text) = self.named.get(name).cloned() else {
            return Err(SqlError::unknown_statement(name, "EXECUTE"));
        };
        let parameters: Vec<Value> = {
            let session = self.context.session.lock();
            using
                .iter()
                .map(|name| session.user_variables.get(name).cloned().unwrap_or(Value::Null))
                .collect()
        };
        let plan = self.plan(&text)?;
        if plan.translated.parameters != parameters.len() {
            return Err(SqlError::new(1210, "Incorrect arguments to EXECUTE"));
        }
        if matches!(plan.translated.statement, Statement::Execute { .. } | Statement::Prepare { .. }) {
            return Err(SqlError::new(
                1295,
                "This command is not supported in the prepared statement protocol yet",
            ));
        }
        self.run_fresh(&text, &parameters, sink)
    }
}

/// The value of `DEFAULT (expression)`.
fn evaluate_default(engine: &mut Engine, catalog: &dyn Catalog, text: &str) -> SqlResult<Value> {
    let translated = {
        let session = engine.context.session.lock();
        let host = engine.context.instance.host.clone();
        let context = TranslateContext { catalog, session: &session, host: host.as_ref() };
        translate::translate(&format!("SELECT {text}"), &context)?
    };
    let Statement::Query(query) = translated.statement else {
        return Err(SqlError::internal("a default is not an expression"));
    };
    let mut value = Value::Null;
    engine.query(&query, BindValues::default(), true, &mut |row| {
        value = row.first().cloned().unwrap_or(Value::Null);
        Ok(())
    })?;
    Ok(value)
}

/// Whether a statement that succeeds has written upon all that it has read: an INSERT of values.
fn only_writes(statement: &Statement) -> bool {
    let Statement::Insert(Insert { kind: InsertKind::Insert, on_duplicate: None, source, .. }) = statement
    else {
        return false;
    };
    matches!(source, InsertSource::Rows(rows) if rows.iter().all(|row| row.expressions.is_none()))
}
