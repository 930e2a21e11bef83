//! INSERT, UPDATE and DELETE: what is read before rows are changed.

use std::sync::Arc;

use super::ast::{
    DeleteStatement, Expr, ExprKind, InsertStatement, InsertValues, Limit, OrderItem, TableRef,
    UpdateStatement,
};
use super::binder::{Binder, DuplicateRow, table_matches};
use super::scope::{Bound, Scope};
use crate::catalog::TableDef;
use crate::error::{SqlError, SqlResult};
use crate::plan::{
    Access, Bind, Cell, Delete, Insert, InsertKind, InsertRow, InsertSource, OnDuplicate, Query, Statement,
    TableUse, Update, UpdateTarget,
};
use crate::types::{ColumnMeta, ColumnType, Value};

impl Binder<'_> {
    /// INSERT and REPLACE.
    pub(crate) fn insert(&mut self, insert: &InsertStatement) -> SqlResult<Statement> {
        let table = self.table(&insert.table)?;
        let columns = insert_columns(&table, insert.columns.as_deref())?;
        // What an INSERT reads must stay as it is until it commits, as InnoDB's shared locks have it.
        self.access = Access::Share;
        let mut all_columns = columns.clone();
        let source = match &insert.source {
            InsertValues::Rows(rows) => {
                if rows.iter().all(Vec::is_empty) && insert.columns.is_none() {
                    all_columns.clear();
                }
                InsertSource::Rows(self.insert_rows(rows, all_columns.len())?)
            }
            InsertValues::Query(query) => {
                let (sql, metas) = self.query(query)?;
                if metas.len() != columns.len() {
                    return Err(SqlError::column_count(1));
                }
                InsertSource::Select(self.finish(sql, metas))
            }
        };
        let on_duplicate = self.on_duplicate(insert, &table, &all_columns)?;
        let kind = match (insert.replace, insert.ignore) {
            (true, _) => InsertKind::Replace,
            (false, true) => InsertKind::Ignore,
            (false, false) => InsertKind::Insert,
        };
        Ok(Statement::Insert(Insert { table, kind, columns: all_columns, source, on_duplicate }))
    }

    fn insert_rows(&mut self, rows: &[Vec<Expr>], width: usize) -> SqlResult<Vec<InsertRow>> {
        let mut result = Vec::with_capacity(rows.len());
        for (n, row) in rows.iter().enumerate() {
            if row.is_empty() && width > 0 {
                let cells = vec![Cell::Default; width];
                result.push(InsertRow { cells, expressions: None });
                continue;
            }
            if row.len() != width {
                return Err(SqlError::column_count(n + 1));
            }
            result.push(self.insert_row(row)?);
        }
        Ok(result)
    }

    fn insert_row(&mut self, row: &[Expr]) -> SqlResult<InsertRow> {
        let mut cells = Vec::with_capacity(row.len());
        let mut list = Vec::new();
        let mut metas = Vec::new();
        for expr in row {
            // Most cells are literals: they take no way through SQLite.
            let direct = match &expr.kind {
                ExprKind::Default(None) => Some(Cell::Default),
                ExprKind::Param(n) => Some(Cell::Bind(Bind::Parameter(*n))),
                ExprKind::Str(text) => Some(Cell::Bind(Bind::Constant(Value::Text(text.clone())))),
                ExprKind::Null => Some(Cell::Bind(Bind::Constant(Value::Null))),
                _ => None,
            };
            if let Some(cell) = direct {
                cells.push(cell);
                continue;
            }
            let bound = self.expr(expr)?;
            if let Some(value) = bound.literal {
                cells.push(Cell::Bind(Bind::Constant(value)));
                continue;
            }
            let sql = self.sql(&bound);
            cells.push(Cell::Expression(list.len()));
            metas.push(ColumnMeta::expression("", bound.ty));
            list.push(sql);
        }
        let expressions = if list.is_empty() {
            None
        } else {
            Some(self.finish(format!("SELECT {}", list.join(",")), metas))
        };
        Ok(InsertRow { cells, expressions })
    }

    fn on_duplicate(
        &mut self,
        insert: &InsertStatement,
        table: &Arc<TableDef>,
        columns: &[usize],
    ) -> SqlResult<Option<OnDuplicate>> {
        if insert.on_duplicate.is_empty() {
            return Ok(None);
        }
        let (alias, alias_columns) = match &insert.row_alias {
            Some((alias, names)) => (Some(alias.clone()), names.clone()),
            None => (None, Vec::new()),
        };
        self.duplicate = Some(DuplicateRow {
            table: table.clone(),
            alias,
            alias_columns,
            insert_columns: columns.to_vec(),
            assigned: Vec::new(),
        });
        self.scopes.push(Scope::new());
        let mut ordinals = Vec::new();
        let mut list = Vec::new();
        let mut metas = Vec::new();
        for (name, value) in &insert.on_duplicate {
            let Some(ordinal) = table.column(name) else {
                return Err(SqlError::unknown_column(name, "field list"));
            };
            let mut bound = self.assigned_value(table, ordinal, value)?;
            bound.sql = self.sql(&bound);
            (bound.literal, bound.parameter) = (None, None);
            list.push(bound.sql.clone());
            metas.push(ColumnMeta::expression(name.clone(), bound.ty.clone()));
            ordinals.push(ordinal);
            if let Some(row) = &mut self.duplicate {
                row.assigned.push((ordinal, bound));
            }
        }
        self.scopes.pop();
        self.duplicate = None;
        let values = self.finish(format!("SELECT {}", list.join(",")), metas);
        Ok(Some(OnDuplicate { columns: ordinals, values }))
    }

    /// The value of an assignment, DEFAULT being the column's.
    fn assigned_value(&mut self, table: &Arc<TableDef>, ordinal: usize, value: &Expr) -> SqlResult<Bound> {
        if matches!(value.kind, ExprKind::Default(None)) {
            let column = table.columns[ordinal].clone();
            return self.default_value(&column, &column.ty);
        }
        self.expr(value)
    }

    /// The tables of an UPDATE or DELETE come into scope; those for which `target` holds are read for update.
    fn changed_tables(&mut self, tables: &TableRef, targets: &[usize]) -> SqlResult<String> {
        self.access = Access::Share;
        self.scopes.push(Scope::new());
        let before = self.tables.len();
        let sql = self.tables_clause(tables, None)?;
        let mut sql = sql;
        for at in targets {
            let Some(scope) = self.scopes.last() else { break };
            let Some((table, alias)) =
                scope.tables.get(*at).and_then(|t| t.table.clone().map(|d| (d, t.sql.clone())))
            else {
                let name = scope.tables.get(*at).map_or(String::new(), |t| t.alias.clone());
                return Err(SqlError::new(
                    1288,
                    format!("The target table {name} of the UPDATE is not updatable"),
                ));
            };
            let shared = TableUse { table: table.clone(), access: Access::Share };
            let old = format!("{} AS {alias}", super::scope::quote(&shared.module()));
            let new = self.use_table(&table, Access::Update, &alias);
            sql = replace_reference(&sql, &old, &new);
        }
        // A table that is only written is not read twice.
        let used: Vec<TableUse> = self.tables.split_off(before);
        for table_use in used {
            if sql.contains(&super::scope::quote(&table_use.module())) {
                self.tables.push(table_use);
            }
        }
        Ok(sql)
    }

    fn tail(
        &mut self,
        filter: Option<&Expr>,
        order_by: &[OrderItem],
        limit: Option<&Limit>,
    ) -> SqlResult<String> {
        let mut sql = String::new();
        if let Some(scope) = self.scopes.last_mut() {
            scope.place = "where clause";
        }
        if let Some(filter) = filter {
            sql.push_str(&format!(" WHERE {}", self.condition(filter)?));
        }
        if let Some(scope) = self.scopes.last_mut() {
            scope.place = "order clause";
        }
        if !order_by.is_empty() {
            sql.push_str(&format!(" ORDER BY {}", self.order_terms(order_by)?));
        }
        if let Some(limit) = limit {
            sql.push_str(&self.limit_clause(limit)?);
        }
        Ok(sql)
    }

    /// UPDATE.
    pub(crate) fn update(&mut self, update: &UpdateStatement) -> SqlResult<Statement> {
        let with = self.with_clause(&update.with, update.recursive)?;
        // First a look at the names, to know which tables are changed.
        let places = self.assigned_places(update)?;
        let mut targets: Vec<usize> = places.iter().map(|p| p.0).collect();
        targets.sort_unstable();
        targets.dedup();
        if targets.len() > 1 && (!update.order_by.is_empty() || update.limit.is_some()) {
            return Err(SqlError::new(1221, "Incorrect usage of UPDATE and ORDER BY"));
        }
        let from = self.changed_tables(&update.tables, &targets)?;
        let single = matches!(update.tables, TableRef::Table { .. });
        let tail = self.tail(update.filter.as_ref(), &update.order_by, update.limit.as_ref())?;
        if let Some(scope) = self.scopes.last_mut() {
            scope.place = "field list";
        }
        let mut list = Vec::new();
        let mut metas = Vec::new();
        let mut result = Vec::new();
        for at in &targets {
            let Some(table) = self.scopes.last().and_then(|s| s.tables[*at].table.clone()) else { continue };
            let alias = self.scopes[self.scopes.len() - 1].tables[*at].sql.clone();
            result.push(UpdateTarget { table, key: list.len(), assignments: Vec::new() });
            list.push(format!("{alias}._k"));
            metas.push(key_meta());
        }
        for ((at, ordinal), (_, _, value)) in places.iter().zip(&update.assignments) {
            let Some(target) = targets.iter().position(|t| t == at) else { continue };
            let table = result[target].table.clone();
            let bound = self.assigned_value(&table, *ordinal, value)?;
            let sql = self.sql(&bound);
            result[target].assignments.retain(|a| a.0 != *ordinal);
            result[target].assignments.push((*ordinal, list.len()));
            if single && let Some(scope) = self.scopes.last_mut() {
                // Assignments further right see the new value.
                let column = &mut scope.tables[*at].columns[*ordinal];
                column.sql.clone_from(&sql);
                column.meta = None;
            }
            metas.push(ColumnMeta::expression(table.columns[*ordinal].name.clone(), bound.ty));
            list.push(sql);
        }
        self.scopes.pop();
        self.locking = true;
        let select = self.finish(format!("{with}SELECT {} FROM {from}{tail}", list.join(",")), metas);
        Ok(Statement::Update(Update { select, targets: result, ignore: update.ignore }))
    }

    /// `(table in scope, ordinal)` of every assignment.
    fn assigned_places(&mut self, update: &UpdateStatement) -> SqlResult<Vec<(usize, usize)>> {
        let (binds, tables) = (self.binds.clone(), self.tables.clone());
        self.scopes.push(Scope::new());
        let bound = self.tables_clause(&update.tables, None);
        let scope = self.scopes.pop().unwrap_or_else(Scope::new);
        (self.binds, self.tables) = (binds, tables);
        bound?;
        let mut places = Vec::new();
        for (qualifier, name, _) in &update.assignments {
            let mut found = None;
            for (at, table) in scope.tables.iter().enumerate().filter(|(_, t)| table_matches(t, qualifier)) {
                let Some(ordinal) = table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name))
                else {
                    continue;
                };
                if found.is_some() {
                    return Err(SqlError::ambiguous_column(name, "field list"));
                }
                found = Some((at, ordinal));
            }
            let mut full = qualifier.clone();
            full.push(name.clone());
            let place = found.ok_or_else(|| SqlError::unknown_column(&full.join("."), "field list"))?;
            let computed = scope.tables[place.0].table.as_ref().is_none_or(|t| t.id == 0);
            if computed {
                let name = &scope.tables[place.0].alias;
                return Err(SqlError::new(
                    1288,
                    format!("The target table {name} of the UPDATE is not updatable"),
                ));
            }
            places.push(place);
        }
        Ok(places)
    }

    /// DELETE.
    pub(crate) fn delete(&mut self, delete: &DeleteStatement) -> SqlResult<Statement> {
        let with = self.with_clause(&delete.with, delete.recursive)?;
        let targets = self.delete_targets(delete)?;
        let from = self.changed_tables(&delete.tables, &targets)?;
        let tail = self.tail(delete.filter.as_ref(), &delete.order_by, delete.limit.as_ref())?;
        let mut list = Vec::new();
        let mut result = Vec::new();
        for at in targets {
            let table = &self.scopes[self.scopes.len() - 1].tables[at];
            let Some(definition) = table.table.clone().filter(|t| t.id != 0) else {
                return Err(SqlError::new(
                    1288,
                    format!("The target table {} of the DELETE is not updatable", table.alias),
                ));
            };
            result.push((definition, list.len()));
            list.push(format!("{}._k", table.sql));
        }
        self.scopes.pop();
        self.locking = true;
        let metas = list.iter().map(|_| key_meta()).collect();
        let select = self.finish(format!("{with}SELECT {} FROM {from}{tail}", list.join(",")), metas);
        Ok(Statement::Delete(Delete { select, targets: result, ignore: delete.ignore }))
    }

    fn delete_targets(&mut self, delete: &DeleteStatement) -> SqlResult<Vec<usize>> {
        if delete.targets.is_empty() {
            return Ok(vec![0]);
        }
        let (binds, tables) = (self.binds.clone(), self.tables.clone());
        self.scopes.push(Scope::new());
        let bound = self.tables_clause(&delete.tables, None);
        let scope = self.scopes.pop().unwrap_or_else(Scope::new);
        (self.binds, self.tables) = (binds, tables);
        bound?;
        let mut targets = Vec::new();
        for name in &delete.targets {
            let mut qualifier: Vec<String> = name.database.clone().into_iter().collect();
            qualifier.push(name.name.clone());
            let Some(at) = scope.tables.iter().position(|t| table_matches(t, &qualifier)) else {
                return Err(SqlError::new(1109, format!("Unknown table '{}' in MULTI DELETE", name.name)));
            };
            if !targets.contains(&at) {
                targets.push(at);
            }
        }
        Ok(targets)
    }

    /// The query that a change begins with, for EXPLAIN.
    pub(crate) fn explained(&mut self, statement: Statement) -> SqlResult<Query> {
        match statement {
            Statement::Query(query) | Statement::SelectInto(query, _) => Ok(query),
            Statement::Update(update) => Ok(update.select),
            Statement::Delete(delete) => Ok(delete.select),
            Statement::Insert(insert) => match insert.source {
                InsertSource::Select(query) => Ok(query),
                InsertSource::Rows(_) => {
                    let meta = ColumnMeta::expression("1", ColumnType::BIGINT);
                    Ok(self.finish("SELECT 1".to_owned(), vec![meta]))
                }
            },
            _ => Err(SqlError::unsupported("EXPLAIN of this statement")),
        }
    }
}

fn key_meta() -> ColumnMeta {
    ColumnMeta::expression("_k", ColumnType::Blob(crate::types::LobKind::Long))
}

/// Replaces one table reference of a FROM, whole words only.
fn replace_reference(sql: &str, old: &str, new: &str) -> String {
    let mut at = 0;
    while let Some(found) = sql[at..].find(old) {
        let end = at + found + old.len();
        let whole = !sql[end..].starts_with(|c: char| c.is_ascii_alphanumeric());
        if whole {
            return format!("{}{new}{}", &sql[..at + found], &sql[end..]);
        }
        at = end;
    }
    sql.to_owned()
}

fn insert_columns(table: &TableDef, names: Option<&[String]>) -> SqlResult<Vec<usize>> {
    let Some(names) = names else { return Ok((0..table.columns.len()).collect()) };
    let mut columns = Vec::with_capacity(names.len());
    for name in names {
        let Some(ordinal) = table.column(name) else {
            return Err(SqlError::unknown_column(name, "field list"));
        };
        if columns.contains(&ordinal) {
            return Err(SqlError::new(1110, format!("Column '{name}' specified twice")));
        }
        columns.push(ordinal);
    }
    Ok(columns)
}
