//! FROM: tables, joins, derived tables.

use super::ast::{BinaryOp, JoinCondition, JoinKind, Locking, Name, TableRef};
use super::binder::Binder;
use super::scope::{Bound, ScopeTable};
use super::select::rename;
use crate::error::{SqlError, SqlResult};
use crate::plan::Access;

impl Binder<'_> {
    /// The SQL of FROM; its tables come into the innermost scope.
    pub(crate) fn tables_clause(&mut self, from: &TableRef, locking: Option<&Locking>) -> SqlResult<String> {
        match from {
            TableRef::Table { database, name, alias, .. } => {
                self.table_reference(database.as_ref(), name, alias.as_deref(), locking)
            }
            TableRef::Derived { query, alias, columns } => {
                // What is derived sees nothing of the tables beside it.
                let scopes = std::mem::take(&mut self.scopes);
                let outer: Vec<_> = scopes[..scopes.len().saturating_sub(1)].to_vec();
                self.scopes = outer;
                let bound = self.subquery(query);
                self.scopes = scopes;
                let (sql, metas) = bound?;
                let metas = rename(metas, columns)?;
                let name = self.new_alias("t");
                self.add_table(ScopeTable::derived(alias, &name, &metas))?;
                Ok(format!("({sql}) AS {name}"))
            }
            TableRef::Join { left, right, kind, condition } => {
                self.join(left, right, *kind, condition, locking)
            }
        }
    }

    fn add_table(&mut self, table: ScopeTable) -> SqlResult<()> {
        let Some(scope) = self.scopes.last_mut() else { return Ok(()) };
        let database = |t: &ScopeTable| t.table.as_ref().map(|d| d.database.clone());
        let twice = scope.tables.iter().any(|t| {
            t.alias == table.alias
                && (t.database.is_none() || table.database.is_none() || database(t) == database(&table))
        });
        if twice && !table.alias.is_empty() {
            return Err(SqlError::new(1066, format!("Not unique table/alias: '{}'", table.alias)));
        }
        scope.tables.push(table);
        Ok(())
    }

    fn table_reference(
        &mut self,
        database: Option<&String>,
        name: &str,
        alias: Option<&str>,
        locking: Option<&Locking>,
    ) -> SqlResult<String> {
        let shown = alias.unwrap_or(name);
        if database.is_none()
            && let Some(named) = self.named.iter().rev().find(|n| n.name.eq_ignore_ascii_case(name)).cloned()
        {
            let sql_name = self.new_alias("t");
            self.add_table(ScopeTable::derived(shown, &sql_name, &named.columns))?;
            return Ok(format!("{} AS {sql_name}", named.sql));
        }
        let table = self.table(&Name { database: database.cloned(), name: name.to_owned() })?;
        let access = match locking {
            Some(locking) if locking.of.is_empty() || locking.of.iter().any(|o| o == shown) => {
                if locking.share { Access::Share } else { Access::Update }
            }
            _ => self.access,
        };
        let sql_name = self.new_alias("t");
        let sql = self.use_table(&table, access, &sql_name);
        self.add_table(ScopeTable::stored(&table, shown, &sql_name, alias.is_none()))?;
        Ok(sql)
    }

    fn join(
        &mut self,
        left: &TableRef,
        right: &TableRef,
        kind: JoinKind,
        condition: &JoinCondition,
        locking: Option<&Locking>,
    ) -> SqlResult<String> {
        let count = |binder: &Self| binder.scopes.last().map_or(0, |s| s.tables.len());
        let begin = count(self);
        let left_sql = self.tables_clause(left, locking)?;
        let middle = count(self);
        let right_sql = self.tables_clause(right, locking)?;
        let end = count(self);
        let outer = match kind {
            JoinKind::Inner => 0..0,
            JoinKind::Left => middle..end,
            JoinKind::Right => begin..middle,
        };
        if let Some(scope) = self.scopes.last_mut() {
            for table in &mut scope.tables[outer] {
                table.columns.iter_mut().for_each(|c| c.nullable = true);
            }
            scope.place = "on clause";
        }
        let on = match condition {
            JoinCondition::None => None,
            JoinCondition::On(expr) => Some(self.condition(expr)?),
            JoinCondition::Using(names) => {
                Some(self.merge(names, begin..middle, middle..end, kind == JoinKind::Right)?)
            }
            JoinCondition::Natural => {
                let names = self.common_names(begin..middle, middle..end);
                if names.is_empty() {
                    None
                } else {
                    Some(self.merge(&names, begin..middle, middle..end, kind == JoinKind::Right)?)
                }
            }
        };
        let group = |table: &TableRef, sql: String| {
            if matches!(table, TableRef::Join { .. }) { format!("({sql})") } else { sql }
        };
        let on = match (on, kind) {
            (Some(on), _) => format!(" ON {on}"),
            (None, JoinKind::Inner) => String::new(),
            (None, _) => " ON 1".to_owned(),
        };
        Ok(match kind {
            JoinKind::Inner => format!("{left_sql} JOIN {}{on}", group(right, right_sql)),
            JoinKind::Left => format!("{left_sql} LEFT JOIN {}{on}", group(right, right_sql)),
            // SQLite cannot join virtual tables to the right: the sides change places.
            JoinKind::Right => format!("{} LEFT JOIN {}{on}", group(right, right_sql), group(left, left_sql)),
        })
    }

    fn common_names(&self, left: std::ops::Range<usize>, right: std::ops::Range<usize>) -> Vec<String> {
        let Some(scope) = self.scopes.last() else { return Vec::new() };
        let rights: Vec<&String> =
            scope.tables[right].iter().flat_map(|t| &t.columns).map(|c| &c.name).collect();
        let mut names: Vec<String> = Vec::new();
        for column in scope.tables[left].iter().flat_map(|t| &t.columns) {
            let common = rights.iter().any(|r| r.eq_ignore_ascii_case(&column.name));
            if common && !names.iter().any(|n| n.eq_ignore_ascii_case(&column.name)) {
                names.push(column.name.clone());
            }
        }
        names
    }

    /// `a.x = b.x AND …` for USING and NATURAL; unqualified names then mean one side.
    fn merge(
        &mut self,
        names: &[String],
        left: std::ops::Range<usize>,
        right: std::ops::Range<usize>,
        prefer_right: bool,
    ) -> SqlResult<String> {
        let mut tests = Vec::new();
        for name in names {
            let l = self.place_of(name, left.clone(), !prefer_right)?;
            let r = self.place_of(name, right.clone(), false)?;
            let (l_bound, r_bound) = (self.column_at(l), self.column_at(r));
            tests.push(self.compare_bound(BinaryOp::Equal, &l_bound, &r_bound)?.sql);
            let kept = if prefer_right { r } else { l };
            if let Some(scope) = self.scopes.last_mut() {
                scope.merged.retain(|m| !m.0.eq_ignore_ascii_case(name));
                scope.merged.push((name.clone(), kept.0, kept.1));
            }
        }
        Ok(tests.join(" AND "))
    }

    fn place_of(
        &self,
        name: &str,
        tables: std::ops::Range<usize>,
        merged_first: bool,
    ) -> SqlResult<(usize, usize)> {
        let missing = || SqlError::unknown_column(name, "from clause");
        let scope = self.scopes.last().ok_or_else(missing)?;
        if merged_first
            && let Some(found) = scope.merged.iter().find(|m| m.0.eq_ignore_ascii_case(name))
            && tables.contains(&found.1)
        {
            return Ok((found.1, found.2));
        }
        for at in tables {
            if let Some(column) =
                scope.tables[at].columns.iter().position(|c| c.name.eq_ignore_ascii_case(name))
            {
                return Ok((at, column));
            }
        }
        Err(missing())
    }

    fn column_at(&self, place: (usize, usize)) -> Bound {
        let column = &self.scopes[self.scopes.len() - 1].tables[place.0].columns[place.1];
        let mut bound = Bound::new(column.sql.clone(), column.ty.clone());
        bound.strength = super::scope::strength::COLUMN;
        bound.column = column.meta.clone();
        bound.nullable = column.nullable;
        bound
    }
}
