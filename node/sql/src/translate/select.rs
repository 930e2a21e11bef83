//! SELECT: items, grouping, ordering; UNION; WITH.

use super::ast::{Body, Cte, Expr, ExprKind, Item, Limit, Locking, OrderItem, Query, Select, SetOp};
use super::binder::{Binder, NamedQuery, table_matches};
use super::scope::{AliasUse, Bound, Scope, ScopeTable, quote};
use super::typing::{class, decimal_digits, fsp};
use crate::error::{SqlError, SqlResult};
use crate::types::{ColumnMeta, ColumnType, Value};

/// A translated SELECT: SQLite's SQL, whose columns are named `c0`, `c1`, …, and what they are.
pub(crate) type Selected = (String, Vec<ColumnMeta>);

/// What stands around a SELECT.
#[derive(Clone, Copy, Default)]
struct Around<'a> {
    order_by: &'a [OrderItem],
    limit: Option<&'a Limit>,
    locking: Option<&'a Locking>,
    /// Part of a UNION: results are compared.
    compared: bool,
}

struct SelectItem {
    /// As written; `None` for what `*` gave.
    expr: Option<Expr>,
    alias: Option<String>,
    bound: Bound,
    meta: ColumnMeta,
}

impl Binder<'_> {
    /// A query within an expression.
    pub(crate) fn subquery(&mut self, query: &Query) -> SqlResult<Selected> {
        let (aggregate, saw) = (self.in_aggregate, self.saw_aggregate);
        self.in_aggregate = false;
        let duplicate = self.duplicate.take();
        let result = self.query(query);
        self.duplicate = duplicate;
        self.in_aggregate = aggregate;
        self.saw_aggregate = saw;
        result
    }

    /// A whole query.
    pub(crate) fn query(&mut self, query: &Query) -> SqlResult<Selected> {
        let named = self.named.len();
        let with = self.with_clause(&query.with, query.recursive)?;
        let result = self.query_body(query);
        self.named.truncate(named);
        let (sql, columns) = result?;
        Ok((format!("{with}{sql}"), columns))
    }

    fn query_body(&mut self, query: &Query) -> SqlResult<Selected> {
        if query.locking.is_some() {
            self.locking = true;
        }
        let around = Around {
            order_by: &query.order_by,
            limit: query.limit.as_ref(),
            locking: query.locking.as_ref(),
            compared: false,
        };
        if let Body::Select(select) = &query.body {
            return self.select(select, around);
        }
        let (sql, columns) = self.body(&query.body, false)?;
        if query.order_by.is_empty() && query.limit.is_none() {
            return Ok((sql, columns));
        }
        let nested = matches!(query.body, Body::Nested(_) | Body::Values(_));
        self.ordered_union(sql, columns, around, nested)
    }

    /// `WITH name(c0, …) AS (…), `.
    pub(crate) fn with_clause(&mut self, ctes: &[Cte], recursive: bool) -> SqlResult<String> {
        if ctes.is_empty() {
            return Ok(String::new());
        }
        let mut parts = Vec::new();
        for cte in ctes {
            let alias = self.new_alias("w");
            let scopes = std::mem::take(&mut self.scopes);
            let bound = match &cte.query.body {
                Body::Set { op: SetOp::Union, all, left, right } if recursive => {
                    self.recursive(cte, &alias, *all, left, right)
                }
                _ => self.query(&cte.query),
            };
            self.scopes = scopes;
            let (sql, columns) = bound?;
            let columns = rename(columns, &cte.columns)?;
            let names: Vec<String> = (0..columns.len()).map(|n| format!("c{n}")).collect();
            parts.push(format!("{alias}({}) AS ({sql})", names.join(",")));
            self.named.retain(|n| n.sql != alias);
            self.named.push(NamedQuery { name: cte.name.clone(), sql: alias, columns });
        }
        Ok(format!("WITH {}{} ", if recursive { "RECURSIVE " } else { "" }, parts.join(", ")))
    }

    fn recursive(
        &mut self,
        cte: &Cte,
        alias: &str,
        all: bool,
        left: &Body,
        right: &Body,
    ) -> SqlResult<Selected> {
        let (left_sql, columns) = self.body(left, false)?;
        let columns = rename(columns, &cte.columns)?;
        self.named.push(NamedQuery {
            name: cte.name.clone(),
            sql: alias.to_owned(),
            columns: columns.clone(),
        });
        let (right_sql, right_columns) = self.body(right, false)?;
        if right_columns.len() != columns.len() {
            return Err(different_columns());
        }
        let types: Vec<ColumnType> = columns.iter().map(|c| c.ty.clone()).collect();
        let right_sql = self.in_types(right_sql, &right_columns, &types);
        let mut sql = format!("{left_sql} UNION {}{right_sql}", if all { "ALL " } else { "" });
        if let Some(limit) = &cte.query.limit {
            sql.push_str(&self.limit_clause(limit)?);
        }
        Ok((sql, columns))
    }

    fn body(&mut self, body: &Body, compared: bool) -> SqlResult<Selected> {
        match body {
            Body::Select(select) => self.select(select, Around { compared, ..Around::default() }),
            Body::Nested(query) => {
                let (sql, columns) = self.query(query)?;
                Ok((format!("SELECT * FROM ({sql}) AS {}", self.new_alias("u")), columns))
            }
            Body::Values(rows) => self.values(rows),
            Body::Set { op, all, left, right } => {
                if *all && *op != SetOp::Union {
                    return Err(SqlError::unsupported("INTERSECT ALL and EXCEPT ALL"));
                }
                let (left_sql, left_columns) = self.body(left, !*all)?;
                let (mut right_sql, right_columns) = self.body(right, !*all)?;
                if left_columns.len() != right_columns.len() {
                    return Err(different_columns());
                }
                if matches!(**right, Body::Set { .. }) {
                    right_sql = format!("SELECT * FROM ({right_sql}) AS {}", self.new_alias("u"));
                }
                let (columns, types) = self.union_columns(left_columns.clone(), &right_columns);
                let left_sql = self.in_types(left_sql, &left_columns, &types);
                let right_sql = self.in_types(right_sql, &right_columns, &types);
                let word = match op {
                    SetOp::Union if *all => "UNION ALL",
                    SetOp::Union => "UNION",
                    SetOp::Intersect => "INTERSECT",
                    SetOp::Except => "EXCEPT",
                };
                Ok((format!("{left_sql} {word} {right_sql}"), columns))
            }
        }
    }

    fn union_columns(
        &mut self,
        left: Vec<ColumnMeta>,
        right: &[ColumnMeta],
    ) -> (Vec<ColumnMeta>, Vec<ColumnType>) {
        let mut types = Vec::new();
        let columns = left
            .into_iter()
            .zip(right)
            .map(|(l, r)| {
                let (a, b) = (Bound::new("", l.ty.clone()), Bound::new("", r.ty.clone()));
                let ty = self.unify(&[&a, &b]);
                types.push(ty.clone());
                let both = l.flags & r.flags & crate::types::flags::NOT_NULL;
                let mut meta = ColumnMeta::expression(l.name, ty);
                meta.flags |= both;
                meta
            })
            .collect();
        (columns, types)
    }

    /// A query with its columns brought into the form of the types.
    fn in_types(&mut self, sql: String, columns: &[ColumnMeta], types: &[ColumnType]) -> String {
        let same = columns.iter().zip(types).all(|(c, ty)| {
            let (from, to) = (class(&c.ty), class(ty));
            from == super::typing::Class::Null
                || (from == to
                    && fsp(&c.ty) == fsp(ty)
                    && (from != super::typing::Class::Decimal
                        || decimal_digits(&c.ty).1 == decimal_digits(ty).1))
        });
        if same {
            return sql;
        }
        let alias = self.new_alias("u");
        let forms: Vec<String> = columns
            .iter()
            .zip(types)
            .enumerate()
            .map(|(n, (column, ty))| {
                let bound = Bound::new(format!("{alias}.c{n}"), column.ty.clone());
                let form = self.in_form(&bound, ty);
                let collation = ty.sqlite_collation();
                let suffix =
                    if collation == "BINARY" { String::new() } else { format!(" COLLATE {collation}") };
                format!("{form}{suffix} AS c{n}")
            })
            .collect();
        format!("SELECT {} FROM ({sql}) AS {alias}", forms.join(","))
    }

    fn values(&mut self, rows: &[Vec<Expr>]) -> SqlResult<Selected> {
        let mut bound_rows = Vec::new();
        for (n, row) in rows.iter().enumerate() {
            if row.len() != rows[0].len() {
                return Err(SqlError::column_count(n + 1));
            }
            bound_rows.push(row.iter().map(|e| self.expr(e)).collect::<SqlResult<Vec<_>>>()?);
        }
        let mut columns = Vec::new();
        for at in 0..rows[0].len() {
            let cells: Vec<&Bound> = bound_rows.iter().map(|r| &r[at]).collect();
            columns.push(ColumnMeta::expression(format!("column_{at}"), self.unify(&cells)));
        }
        let mut selects = Vec::new();
        for row in &bound_rows {
            let cells: Vec<String> = row
                .iter()
                .zip(&columns)
                .enumerate()
                .map(|(n, (cell, column))| format!("{} AS c{n}", self.in_form(cell, &column.ty)))
                .collect();
            selects.push(format!("SELECT {}", cells.join(",")));
        }
        Ok((selects.join(" UNION ALL "), columns))
    }

    /// ORDER BY and LIMIT around a UNION.
    fn ordered_union(
        &mut self,
        sql: String,
        columns: Vec<ColumnMeta>,
        around: Around<'_>,
        nested: bool,
    ) -> SqlResult<Selected> {
        let mut terms = Vec::new();
        for item in around.order_by {
            let place = match &item.expr.kind {
                ExprKind::Int(n) => usize::try_from(*n).ok().filter(|n| (1..=columns.len()).contains(n)),
                ExprKind::Column { qualifier, name } if qualifier.is_empty() => {
                    columns.iter().position(|c| c.name.eq_ignore_ascii_case(name)).map(|n| n + 1)
                }
                _ => None,
            };
            let Some(place) = place.filter(|_| !nested) else {
                terms.clear();
                break;
            };
            let collation = columns[place - 1].ty.sqlite_collation();
            let suffix = if collation == "BINARY" { String::new() } else { format!(" COLLATE {collation}") };
            terms.push(format!("{place}{suffix}{}", if item.descending { " DESC" } else { "" }));
        }
        let limit = around.limit;
        if terms.len() == around.order_by.len() && !nested {
            let order =
                if terms.is_empty() { String::new() } else { format!(" ORDER BY {}", terms.join(",")) };
            let limit = limit.map(|l| self.limit_clause(l)).transpose()?.unwrap_or_default();
            return Ok((format!("{sql}{order}{limit}"), columns));
        }
        let alias = self.new_alias("u");
        let mut scope = Scope::new();
        scope.place = "order clause";
        scope.tables.push(ScopeTable::derived("", &alias, &columns));
        self.scopes.push(scope);
        let order = self.order_by_columns(around.order_by, &columns, &alias);
        self.scopes.pop();
        let limit = limit.map(|l| self.limit_clause(l)).transpose()?.unwrap_or_default();
        Ok((format!("SELECT * FROM ({sql}) AS {alias}{}{limit}", order?), columns))
    }

    fn order_by_columns(
        &mut self,
        items: &[OrderItem],
        columns: &[ColumnMeta],
        alias: &str,
    ) -> SqlResult<String> {
        let mut terms = Vec::new();
        for item in items {
            let bound = match &item.expr.kind {
                ExprKind::Int(n) if (1..=columns.len() as u64).contains(n) => {
                    let at = *n as usize - 1;
                    Bound::new(format!("{alias}.c{at}"), columns[at].ty.clone())
                }
                _ => self.expr(&item.expr)?,
            };
            let suffix = self.collate_suffix(&bound);
            let sql = self.sql(&bound);
            terms.push(format!("{sql}{suffix}{}", if item.descending { " DESC" } else { "" }));
        }
        Ok(if terms.is_empty() { String::new() } else { format!(" ORDER BY {}", terms.join(",")) })
    }

    /// ` LIMIT count OFFSET offset`.
    pub(crate) fn limit_clause(&mut self, limit: &Limit) -> SqlResult<String> {
        let mut value = |expr: &Expr| -> SqlResult<String> {
            let bound = match &expr.kind {
                ExprKind::Int(n) => {
                    let n = i64::try_from(*n).unwrap_or(i64::MAX);
                    Bound::literal(Value::Int(n), ColumnType::BIGINT)
                }
                ExprKind::Decimal(_) => Bound::literal(Value::Int(i64::MAX), ColumnType::BIGINT),
                _ => self.expr(expr)?,
            };
            Ok(self.sql(&bound))
        };
        let count = value(&limit.count)?;
        Ok(match &limit.offset {
            Some(offset) => format!(" LIMIT {count} OFFSET {}", value(offset)?),
            None => format!(" LIMIT {count}"),
        })
    }

    fn select(&mut self, select: &Select, around: Around<'_>) -> SqlResult<Selected> {
        self.scopes.push(Scope::new());
        let saw = std::mem::replace(&mut self.saw_aggregate, false);
        let result = self.select_in_scope(select, around);
        self.saw_aggregate = saw;
        self.scopes.pop();
        result
    }

    fn enter(&mut self, place: &'static str, alias_use: AliasUse) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.place = place;
            scope.alias_use = alias_use;
        }
    }

    fn select_in_scope(&mut self, select: &Select, around: Around<'_>) -> SqlResult<Selected> {
        let from = match &select.from {
            Some(from) => format!(" FROM {}", self.tables_clause(from, around.locking)?),
            None => String::new(),
        };
        self.enter("where clause", AliasUse::No);
        let mut filter = select.filter.as_ref().map(|f| self.condition(f)).transpose()?;
        self.enter("field list", AliasUse::No);
        let windows = self.named_windows(select)?;
        let items = self.items(select)?;
        if let Some(scope) = self.scopes.last_mut() {
            scope.aliases = items.iter().filter_map(|i| i.alias.clone().zip(i.expr.clone())).collect();
        }
        self.enter("group statement", AliasUse::AfterColumns);
        let group = self.group_by(select, &items)?;
        self.enter("having clause", AliasUse::BeforeColumns);
        let mut having = select.having.as_ref().map(|h| self.condition(h)).transpose()?;
        self.enter("order clause", AliasUse::BeforeColumns);
        let order = self.order_by(around.order_by, &items)?;
        if having.is_some() && group.is_empty() && !self.saw_aggregate {
            // Without grouping HAVING is a WHERE that knows aliases.
            let having = having.take().unwrap_or_default();
            filter = Some(filter.map_or(having.clone(), |f| format!("({f}) AND ({having})")));
        }
        let limit = around.limit.map(|l| self.limit_clause(l)).transpose()?.unwrap_or_default();
        let compared = around.compared || select.distinct;
        let mut list = Vec::with_capacity(items.len());
        for (n, item) in items.iter().enumerate() {
            let suffix = if compared { self.collate_suffix(&item.bound) } else { String::new() };
            let sql = self.sql(&item.bound);
            list.push(format!("{sql}{suffix} AS c{n}"));
        }
        let mut sql = String::from(if select.distinct { "SELECT DISTINCT " } else { "SELECT " });
        sql.push_str(&list.join(","));
        sql.push_str(&from);
        for (word, clause) in [(" WHERE ", filter), (" GROUP BY ", Some(group)), (" HAVING ", having)] {
            if let Some(clause) = clause.filter(|c| !c.is_empty()) {
                sql.push_str(word);
                sql.push_str(&clause);
            }
        }
        sql.push_str(&windows);
        sql.push_str(&order);
        sql.push_str(&limit);
        Ok((sql, items.into_iter().map(|i| i.meta).collect()))
    }

    fn named_windows(&mut self, select: &Select) -> SqlResult<String> {
        let mut parts = Vec::new();
        for (name, window) in &select.windows {
            parts.push(format!("{} AS ({})", quote(name), self.window_text(window)?));
        }
        Ok(if parts.is_empty() { String::new() } else { format!(" WINDOW {}", parts.join(",")) })
    }

    fn items(&mut self, select: &Select) -> SqlResult<Vec<SelectItem>> {
        let mut items = Vec::new();
        for item in &select.items {
            match item {
                Item::Star(qualifier) => self.star(qualifier, &mut items)?,
                Item::Expr(expr, alias) => {
                    let bound = self.expr(expr)?;
                    let name = match (alias, &expr.kind) {
                        (Some(alias), _) => alias.clone(),
                        (None, ExprKind::Column { name, .. }) => {
                            bound.column.as_ref().map_or_else(|| name.clone(), |c| c.name.clone())
                        }
                        (None, ExprKind::Str(text)) => text.clone(),
                        (None, _) => self.written(expr),
                    };
                    let meta = bound.meta(name);
                    items.push(SelectItem { expr: Some(expr.clone()), alias: alias.clone(), bound, meta });
                }
            }
        }
        Ok(items)
    }

    fn star(&mut self, qualifier: &[String], items: &mut Vec<SelectItem>) -> SqlResult<()> {
        let Some(scope) = self.scopes.last() else { return Ok(()) };
        if scope.tables.is_empty() {
            return Err(SqlError::new(1096, "No tables used"));
        }
        let mut places: Vec<(usize, usize)> = Vec::new();
        if qualifier.is_empty() {
            places.extend(scope.merged.iter().map(|m| (m.1, m.2)));
        }
        for (t, table) in scope.tables.iter().enumerate().filter(|(_, t)| table_matches(t, qualifier)) {
            for (c, column) in table.columns.iter().enumerate() {
                let merged = qualifier.is_empty()
                    && scope.merged.iter().any(|m| m.0.eq_ignore_ascii_case(&column.name));
                if !merged {
                    places.push((t, c));
                }
            }
        }
        if places.is_empty() {
            return Err(SqlError::unknown_table(&qualifier.join(".")));
        }
        for (t, c) in places {
            let column = &self.scopes[self.scopes.len() - 1].tables[t].columns[c];
            let mut bound = Bound::new(column.sql.clone(), column.ty.clone());
            bound.nullable = column.nullable;
            bound.column = column.meta.clone();
            let meta = bound.meta(column.name.clone());
            items.push(SelectItem { expr: None, alias: None, bound, meta });
        }
        Ok(())
    }

    /// The place (from 1) of a select item that a term of ORDER BY or GROUP BY means.
    fn item_place(&self, expr: &Expr, items: &[SelectItem], place: &str) -> SqlResult<Option<usize>> {
        match &expr.kind {
            ExprKind::Int(n) => match usize::try_from(*n) {
                Ok(n) if (1..=items.len()).contains(&n) => return Ok(Some(n)),
                _ => return Err(SqlError::unknown_column(&n.to_string(), place)),
            },
            ExprKind::Column { qualifier, name } if qualifier.is_empty() => {
                let by_alias =
                    items.iter().position(|i| i.alias.as_ref().is_some_and(|a| a.eq_ignore_ascii_case(name)));
                if let Some(n) = by_alias {
                    return Ok(Some(n + 1));
                }
            }
            _ => {}
        }
        Ok(items.iter().position(|i| i.expr.as_ref().is_some_and(|e| same_expr(e, expr))).map(|n| n + 1))
    }

    fn group_by(&mut self, select: &Select, items: &[SelectItem]) -> SqlResult<String> {
        if select.rollup {
            return Err(SqlError::unsupported("WITH ROLLUP"));
        }
        let mut terms = Vec::new();
        for term in &select.group_by {
            // A column comes before an alias of the same name here.
            let alias_only = match &term.expr.kind {
                ExprKind::Column { qualifier, name } if qualifier.is_empty() => {
                    let scope = self.scopes.last();
                    let columns = scope.into_iter().flat_map(|s| &s.tables).flat_map(|t| &t.columns);
                    !columns.into_iter().any(|c| c.name.eq_ignore_ascii_case(name))
                }
                _ => true,
            };
            let place =
                if alias_only { self.item_place(&term.expr, items, "group statement")? } else { None };
            if let Some(place) = place {
                let bound = &items[place - 1].bound;
                if bound.literal.is_none() && bound.parameter.is_none() {
                    terms.push(format!("{place}{}", self.collate_suffix(bound)));
                }
                continue;
            }
            let bound = self.expr(&term.expr)?;
            let suffix = self.collate_suffix(&bound);
            let sql = self.sql(&bound);
            terms.push(format!("{sql}{suffix}"));
        }
        if terms.is_empty() && !select.group_by.is_empty() {
            terms.push("NULL".to_owned());
        }
        Ok(terms.join(","))
    }

    fn order_by(&mut self, order_by: &[OrderItem], items: &[SelectItem]) -> SqlResult<String> {
        let mut terms = Vec::new();
        for item in order_by {
            let direction = if item.descending { " DESC" } else { "" };
            let place = self.item_place(&item.expr, items, "order clause")?;
            let bound = match place {
                Some(place) => items[place - 1].bound.clone(),
                None => self.expr(&item.expr)?,
            };
            if bound.literal.is_some() {
                continue;
            }
            if matches!(bound.ty, ColumnType::Enum { .. }) {
                let number = self.number(&bound);
                terms.push(format!("{}{direction}", number.sql));
                continue;
            }
            let suffix = self.collate_suffix(&bound);
            let sql = match place {
                Some(place) => place.to_string(),
                None => self.sql(&bound),
            };
            terms.push(format!("{sql}{suffix}{direction}"));
        }
        Ok(if terms.is_empty() { String::new() } else { format!(" ORDER BY {}", terms.join(",")) })
    }
}

fn different_columns() -> SqlError {
    SqlError::new(1222, "The used SELECT statements have a different number of columns")
}

/// Names given in parentheses after a derived table's or common table expression's name.
pub(crate) fn rename(mut columns: Vec<ColumnMeta>, names: &[String]) -> SqlResult<Vec<ColumnMeta>> {
    if names.is_empty() {
        return Ok(columns);
    }
    if names.len() != columns.len() {
        return Err(SqlError::new(
            1353,
            "In definition of view, derived table or common table expression, SELECT list and column names list have different column counts",
        ));
    }
    for (column, name) in columns.iter_mut().zip(names) {
        column.name.clone_from(name);
    }
    Ok(columns)
}

/// Equal but for their places in the text.
fn same_expr(a: &Expr, b: &Expr) -> bool {
    match (&a.kind, &b.kind) {
        (ExprKind::Column { qualifier: q, name: n }, ExprKind::Column { qualifier: p, name: m }) => {
            n.eq_ignore_ascii_case(m) && (q == p)
        }
        (ExprKind::Function(f), ExprKind::Function(g)) => {
            f.name == g.name
                && f.distinct == g.distinct
                && f.star == g.star
                && f.keyword == g.keyword
                && f.separator == g.separator
                && f.over.is_none()
                && g.over.is_none()
                && f.order_by.is_empty()
                && g.order_by.is_empty()
                && f.args.len() == g.args.len()
                && f.args.iter().zip(&g.args).all(|(x, y)| same_expr(x, y))
        }
        (ExprKind::Binary(o, l, r), ExprKind::Binary(p, m, s)) => {
            o == p && same_expr(l, m) && same_expr(r, s)
        }
        (ExprKind::Int(x), ExprKind::Int(y)) => x == y,
        (ExprKind::Str(x), ExprKind::Str(y)) => x == y,
        _ => false,
    }
}
