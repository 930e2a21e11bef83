//! The translator's state: parameters, tables, scopes; and columns by their names.

use std::sync::Arc;

use super::TranslateContext;
use super::ast::{Expr, Name};
use super::scope::{AliasUse, Bound, Scope, ScopeTable, quote, strength};
use crate::catalog::TableDef;
use crate::collation::Collation;
use crate::error::{SqlError, SqlResult};
use crate::plan::{Access, Bind, Query, TableUse};
use crate::types::{ColumnMeta, ColumnType, Value};

/// A common table expression that can be named.
#[derive(Clone, Debug)]
pub(crate) struct NamedQuery {
    pub(crate) name: String,
    pub(crate) sql: String,
    pub(crate) columns: Vec<ColumnMeta>,
}

/// ON DUPLICATE KEY UPDATE: what columns and VALUES() stand for.
#[derive(Clone, Debug)]
pub(crate) struct DuplicateRow {
    pub(crate) table: Arc<TableDef>,
    pub(crate) alias: Option<String>,
    pub(crate) alias_columns: Vec<String>,
    /// The columns of the statement, in order, for `alias_columns`.
    pub(crate) insert_columns: Vec<usize>,
    /// SQL of columns assigned further left.
    pub(crate) assigned: Vec<(usize, Bound)>,
}

/// Translates one statement.
pub(crate) struct Binder<'a> {
    pub(crate) ctx: &'a TranslateContext<'a>,
    pub(crate) text: &'a str,
    pub(crate) binds: Vec<Bind>,
    pub(crate) tables: Vec<TableUse>,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) named: Vec<NamedQuery>,
    /// How tables of FROM are read now.
    pub(crate) access: Access,
    pub(crate) locking: bool,
    pub(crate) cacheable: bool,
    /// Aggregates seen since this was last cleared.
    pub(crate) saw_aggregate: bool,
    pub(crate) in_aggregate: bool,
    pub(crate) duplicate: Option<DuplicateRow>,
    /// Collation of literals.
    pub(crate) collation: Collation,
    next_alias: usize,
}

impl<'a> Binder<'a> {
    pub(crate) fn new(ctx: &'a TranslateContext<'a>, text: &'a str) -> Self {
        let named = ctx.session.variables.get("collation_connection").ok().and_then(|v| v.display());
        let collation = named.and_then(|n| Collation::by_name(&n)).unwrap_or_default();
        Self {
            ctx,
            text,
            binds: Vec::new(),
            tables: Vec::new(),
            scopes: Vec::new(),
            named: Vec::new(),
            access: Access::Snapshot,
            locking: false,
            cacheable: true,
            saw_aggregate: false,
            in_aggregate: false,
            duplicate: None,
            collation,
            next_alias: 0,
        }
    }

    /// A new alias for SQLite.
    pub(crate) fn new_alias(&mut self, prefix: &str) -> String {
        self.next_alias += 1;
        format!("{prefix}{}", self.next_alias - 1)
    }

    /// The SQLite parameter of a bind.
    pub(crate) fn bind(&mut self, bind: Bind) -> String {
        if !matches!(bind, Bind::Constant(_))
            && let Some(found) = self.binds.iter().position(|b| *b == bind)
        {
            return format!("?{}", found + 1);
        }
        self.binds.push(bind);
        format!("?{}", self.binds.len())
    }

    /// The SQL of an expression.
    pub(crate) fn sql(&mut self, bound: &Bound) -> String {
        match (&bound.literal, bound.parameter) {
            (Some(Value::Null), _) => "NULL".to_owned(),
            (Some(value), _) => self.bind(Bind::Constant(value.clone())),
            (None, Some(parameter)) => self.bind(Bind::Parameter(parameter)),
            (None, None) => bound.sql.clone(),
        }
    }

    /// Finishes a query made by this binder.
    pub(crate) fn finish(&mut self, sql: String, columns: Vec<ColumnMeta>) -> Query {
        let mut binds = std::mem::take(&mut self.binds);
        // What was translated and then not needed may have left binds that SQLite would not know.
        binds.truncate(highest_parameter(&sql));
        Query { sql, binds, columns, tables: std::mem::take(&mut self.tables), locking: self.locking }
    }

    /// The database of a name: its own or the session's.
    ///
    /// # Errors
    ///
    /// 1046 if there is none.
    pub(crate) fn database_of(&self, name: &Name) -> SqlResult<String> {
        match (&name.database, &self.ctx.session.database) {
            (Some(database), _) => Ok(canonical_database(database)),
            (None, Some(database)) => Ok(database.clone()),
            (None, None) => Err(SqlError::no_database_selected()),
        }
    }

    /// A table that must be there.
    pub(crate) fn table(&self, name: &Name) -> SqlResult<Arc<TableDef>> {
        let database = self.database_of(name)?;
        if let Some(table) = self.ctx.catalog.table(&database, &name.name)? {
            return Ok(table);
        }
        if self.ctx.catalog.database(&database)?.is_none() {
            return Err(SqlError::unknown_database(&database));
        }
        if database == "information_schema" {
            return Err(SqlError::new(
                1109,
                format!("Unknown table '{}' in information_schema", name.name.to_ascii_uppercase()),
            ));
        }
        Err(SqlError::no_such_table(&database, &name.name))
    }

    /// `"db.t" AS t0`, with the module noted.
    pub(crate) fn use_table(&mut self, table: &Arc<TableDef>, access: Access, alias: &str) -> String {
        let access = if table.id == 0 { Access::Snapshot } else { access };
        let table_use = TableUse { table: table.clone(), access };
        let module = table_use.module();
        if !self.tables.iter().any(|t| t.access == access && t.module() == module) {
            self.tables.push(table_use);
        }
        format!("{} AS {alias}", quote(&module))
    }

    fn scope_column(&self, scope: usize, table: usize, column: usize, written: &str) -> Bound {
        let table = &self.scopes[scope].tables[table];
        let found = &table.columns[column];
        let mut bound = Bound::new(found.sql.clone(), found.ty.clone());
        bound.strength = if found.ty.collation().is_some() { strength::COLUMN } else { strength::NUMBER };
        bound.nullable = found.nullable;
        bound.column = found.meta.clone();
        if let (Some(meta), false) = (&mut bound.column, table.defined_names) {
            meta.name = written.to_owned();
        }
        bound
    }

    /// A column by its name, innermost scope first.
    pub(crate) fn resolve(&mut self, qualifier: &[String], name: &str) -> SqlResult<Bound> {
        if let Some(bound) = self.duplicate_column(qualifier, name)? {
            return Ok(bound);
        }
        for at in (0..self.scopes.len()).rev() {
            if qualifier.is_empty()
                && self.scopes[at].alias_use == AliasUse::BeforeColumns
                && let Some(bound) = self.resolve_alias(at, name)?
            {
                return Ok(bound);
            }
            if let Some((table, column)) = self.find_column(at, qualifier, name)? {
                return Ok(self.scope_column(at, table, column, name));
            }
            if qualifier.is_empty()
                && self.scopes[at].alias_use == AliasUse::AfterColumns
                && let Some(bound) = self.resolve_alias(at, name)?
            {
                return Ok(bound);
            }
        }
        let place = self.scopes.last().map_or("field list", |s| s.place);
        let mut full = qualifier.to_vec();
        full.push(name.to_owned());
        Err(SqlError::unknown_column(&full.join("."), place))
    }

    fn find_column(
        &self,
        scope: usize,
        qualifier: &[String],
        name: &str,
    ) -> SqlResult<Option<(usize, usize)>> {
        let scope = &self.scopes[scope];
        if qualifier.is_empty()
            && let Some((_, table, column)) = scope.merged.iter().find(|m| m.0.eq_ignore_ascii_case(name))
        {
            return Ok(Some((*table, *column)));
        }
        let mut found = None;
        for (at, table) in scope.tables.iter().enumerate() {
            if !table_matches(table, qualifier) {
                continue;
            }
            let Some(column) = table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name)) else {
                continue;
            };
            if found.is_some() {
                let mut full = qualifier.to_vec();
                full.push(name.to_owned());
                return Err(SqlError::ambiguous_column(&full.join("."), scope.place));
            }
            found = Some((at, column));
        }
        Ok(found)
    }

    fn resolve_alias(&mut self, scope: usize, name: &str) -> SqlResult<Option<Bound>> {
        let found = self.scopes[scope].aliases.iter().find(|a| a.0.eq_ignore_ascii_case(name));
        let Some(expr) = found.map(|a| a.1.clone()) else { return Ok(None) };
        let alias_use = std::mem::replace(&mut self.scopes[scope].alias_use, AliasUse::No);
        let bound = self.expr(&expr);
        self.scopes[scope].alias_use = alias_use;
        bound.map(Some)
    }

    /// In ON DUPLICATE KEY UPDATE: a column of the row that is there, or of the new row by its alias.
    fn duplicate_column(&mut self, qualifier: &[String], name: &str) -> SqlResult<Option<Bound>> {
        let Some(row) = &self.duplicate else { return Ok(None) };
        if self.scopes.last().is_some_and(|s| !s.tables.is_empty()) {
            return Ok(None);
        }
        let of_new = matches!((qualifier, &row.alias), ([q], Some(alias)) if q.eq_ignore_ascii_case(alias));
        if of_new || qualifier.is_empty() {
            let renamed = row.alias_columns.iter().position(|c| c.eq_ignore_ascii_case(name));
            if let Some(place) = renamed.and_then(|n| row.insert_columns.get(n).copied()) {
                return Ok(Some(self.duplicate_bound(place, true)));
            }
        }
        let Some(ordinal) = row.table.column(name) else { return Ok(None) };
        if of_new {
            return Ok(Some(self.duplicate_bound(ordinal, true)));
        }
        if qualifier.last().is_some_and(|q| *q != row.table.name) {
            return Ok(None);
        }
        Ok(Some(self.duplicate_bound(ordinal, false)))
    }

    /// A column of the old or of the new row.
    pub(crate) fn duplicate_bound(&mut self, ordinal: usize, new: bool) -> Bound {
        let Some(row) = &self.duplicate else { return Bound::new("NULL", ColumnType::Null) };
        if !new && let Some((_, bound)) = row.assigned.iter().rev().find(|a| a.0 == ordinal) {
            return bound.clone();
        }
        let ty = row.table.columns[ordinal].ty.clone();
        let sql = self.bind(if new { Bind::New(ordinal) } else { Bind::Old(ordinal) });
        let mut bound = Bound::new(sql, ty);
        bound.strength = strength::COLUMN;
        bound
    }

    /// The text of an expression as the client wrote it.
    pub(crate) fn written(&self, expr: &Expr) -> String {
        self.text.get(expr.start..expr.end).unwrap_or_default().trim().to_owned()
    }
}

/// The largest N of the `?N` in SQLite's SQL.
fn highest_parameter(sql: &str) -> usize {
    let bytes = sql.as_bytes();
    let (mut highest, mut at) = (0, 0);
    while at < bytes.len() {
        match bytes[at] {
            // Quotes are doubled inside, which reads as two quoted parts side by side.
            quote @ (b'\'' | b'"') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += 1;
                }
            }
            b'?' => {
                let digits = bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
                highest = highest.max(sql[at + 1..at + 1 + digits].parse().unwrap_or(0));
            }
            _ => {}
        }
        at += 1;
    }
    highest
}

/// `information_schema` in any case of letters.
pub(crate) fn canonical_database(name: &str) -> String {
    for known in ["information_schema", "performance_schema"] {
        if name.eq_ignore_ascii_case(known) {
            return known.to_owned();
        }
    }
    name.to_owned()
}

/// True if the qualifier of a column means this table.
pub(crate) fn table_matches(table: &ScopeTable, qualifier: &[String]) -> bool {
    let computed = table.table.as_ref().is_some_and(|t| t.id == 0);
    let same = |a: &str, b: &str| if computed { a.eq_ignore_ascii_case(b) } else { a == b };
    match qualifier {
        [] => true,
        [name] => same(&table.alias, name),
        [database, name] => {
            same(&table.alias, name)
                && table.database.as_ref().is_some_and(|d| d.eq_ignore_ascii_case(database))
        }
        _ => false,
    }
}
