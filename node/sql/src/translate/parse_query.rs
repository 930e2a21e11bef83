//! SELECT and what is made of it.

use super::ast::{
    Body, Cte, Expr, Item, JoinCondition, JoinKind, Limit, Locking, Query, Select, SetOp, TableRef,
};
use super::lexer::Tok;
use super::parser::Parser;
use crate::error::{SqlError, SqlResult};

impl Parser<'_> {
    /// A query: `[WITH …] body [ORDER BY] [LIMIT] [FOR …] [INTO …]`.
    pub(crate) fn query(&mut self) -> SqlResult<Query> {
        let (with, recursive) = self.with()?;
        let mut into = Vec::new();
        let body = self.nested(|p| p.set_body(&mut into))?;
        let mut query =
            Query { with, recursive, body, order_by: Vec::new(), limit: None, locking: None, into };
        self.query_tail(&mut query)?;
        Ok(query)
    }

    pub(crate) fn with(&mut self) -> SqlResult<(Vec<Cte>, bool)> {
        if !self.skip_word("WITH") {
            return Ok((Vec::new(), false));
        }
        let recursive = self.skip_word("RECURSIVE");
        let ctes = self.list(|p| {
            let name = p.identifier()?;
            let columns = if p.is_op("(") { p.parenthesized(Self::identifier)? } else { Vec::new() };
            p.expect_word("AS")?;
            p.expect_op("(")?;
            let query = p.nested(Self::query)?;
            p.expect_op(")")?;
            Ok(Cte { name, columns, query })
        })?;
        Ok((ctes, recursive))
    }

    fn query_tail(&mut self, query: &mut Query) -> SqlResult<()> {
        if self.skip_words(&["ORDER", "BY"]) {
            query.order_by = self.list(Self::order_item)?;
        }
        query.limit = self.limit()?;
        loop {
            if self.skip_words(&["FOR", "UPDATE"]) {
                query.locking = Some(self.locking(false)?);
            } else if self.skip_words(&["FOR", "SHARE"]) {
                query.locking = Some(self.locking(true)?);
            } else if self.skip_words(&["LOCK", "IN", "SHARE", "MODE"]) {
                query.locking = Some(Locking { share: true, of: Vec::new() });
            } else if self.is_word("INTO") {
                self.select_into(&mut query.into)?;
            } else {
                return Ok(());
            }
        }
    }

    fn select_into(&mut self, into: &mut Vec<String>) -> SqlResult<()> {
        self.expect_word("INTO")?;
        if self.is_any(&["OUTFILE", "DUMPFILE"]) {
            return Err(SqlError::unsupported("SELECT INTO OUTFILE"));
        }
        *into = self.list(|p| match p.peek().clone() {
            Tok::UserVar(name) => {
                p.advance();
                Ok(name.to_ascii_lowercase())
            }
            _ => Err(p.unexpected()),
        })?;
        Ok(())
    }

    fn locking(&mut self, share: bool) -> SqlResult<Locking> {
        let of = if self.skip_word("OF") { self.list(Self::identifier)? } else { Vec::new() };
        if self.is_word("NOWAIT") || self.is_word("SKIP") {
            return Err(SqlError::unsupported("NOWAIT and SKIP LOCKED"));
        }
        Ok(Locking { share, of })
    }

    /// LIMIT, if there is one.
    pub(crate) fn limit(&mut self) -> SqlResult<Option<Limit>> {
        if !self.skip_word("LIMIT") {
            return Ok(None);
        }
        let first = self.limit_value()?;
        if self.skip_op(",") {
            let count = self.limit_value()?;
            return Ok(Some(Limit { count, offset: Some(first) }));
        }
        let offset = if self.skip_word("OFFSET") { Some(self.limit_value()?) } else { None };
        Ok(Some(Limit { count: first, offset }))
    }

    fn limit_value(&mut self) -> SqlResult<Expr> {
        match self.peek() {
            Tok::Int(_) | Tok::Param => self.expr(),
            _ => Err(self.unexpected()),
        }
    }

    fn set_body(&mut self, into: &mut Vec<String>) -> SqlResult<Body> {
        let mut left = self.intersections(into)?;
        while let Some(word) = self.skip_any(&["UNION", "EXCEPT"]) {
            let op = if word == "UNION" { SetOp::Union } else { SetOp::Except };
            let all = self.set_quantifier();
            let right = self.intersections(into)?;
            left = Body::Set { op, all, left: Box::new(left), right: Box::new(right) };
        }
        Ok(left)
    }

    fn intersections(&mut self, into: &mut Vec<String>) -> SqlResult<Body> {
        let mut left = self.single_body(into)?;
        while self.skip_word("INTERSECT") {
            let all = self.set_quantifier();
            let right = self.single_body(into)?;
            left = Body::Set { op: SetOp::Intersect, all, left: Box::new(left), right: Box::new(right) };
        }
        Ok(left)
    }

    fn set_quantifier(&mut self) -> bool {
        self.skip_any(&["ALL", "DISTINCT"]) == Some("ALL")
    }

    fn single_body(&mut self, into: &mut Vec<String>) -> SqlResult<Body> {
        if self.skip_op("(") {
            let query = self.nested(Self::query)?;
            self.expect_op(")")?;
            return Ok(Body::Nested(Box::new(query)));
        }
        if self.skip_word("TABLE") {
            let name = self.name()?;
            let from = TableRef::Table { database: name.database, name: name.name, alias: None, start: 0 };
            let select =
                Select { items: vec![Item::Star(Vec::new())], from: Some(from), ..Select::default() };
            return Ok(Body::Select(Box::new(select)));
        }
        if self.is_word("VALUES") {
            self.advance();
            let rows = self.list(|p| {
                p.expect_word("ROW")?;
                p.parenthesized(Self::expr)
            })?;
            return Ok(Body::Values(rows));
        }
        Ok(Body::Select(Box::new(self.select(into)?)))
    }

    fn select(&mut self, into: &mut Vec<String>) -> SqlResult<Select> {
        self.expect_word("SELECT")?;
        let mut select = Select::default();
        while let Some(option) = self.skip_any(&[
            "ALL",
            "DISTINCT",
            "DISTINCTROW",
            "HIGH_PRIORITY",
            "STRAIGHT_JOIN",
            "SQL_SMALL_RESULT",
            "SQL_BIG_RESULT",
            "SQL_BUFFER_RESULT",
            "SQL_NO_CACHE",
            "SQL_CACHE",
            "SQL_CALC_FOUND_ROWS",
        ]) {
            select.distinct |= option.starts_with("DISTINCT");
            select.calc_found_rows |= option == "SQL_CALC_FOUND_ROWS";
        }
        select.items = self.list(Self::select_item)?;
        if self.is_word("INTO") {
            self.select_into(into)?;
        }
        if self.skip_word("FROM") && !self.skip_word("DUAL") {
            select.from = Some(self.table_refs()?);
        }
        if self.skip_word("WHERE") {
            select.filter = Some(self.expr()?);
        }
        if self.skip_words(&["GROUP", "BY"]) {
            select.group_by = self.list(Self::order_item)?;
            select.rollup = self.skip_words(&["WITH", "ROLLUP"]);
        }
        if self.skip_word("HAVING") {
            select.having = Some(self.expr()?);
        }
        if self.skip_word("WINDOW") {
            select.windows = self.list(|p| {
                let name = p.identifier()?;
                p.expect_word("AS")?;
                Ok((name, p.window()?))
            })?;
        }
        Ok(select)
    }

    fn select_item(&mut self) -> SqlResult<Item> {
        if self.skip_op("*") {
            return Ok(Item::Star(Vec::new()));
        }
        for (parts, star) in [(1, 2), (2, 4)] {
            let names = (0..parts).all(|n| {
                matches!(self.peek_ahead(2 * n), Tok::Word(_) | Tok::Quoted(_))
                    && self.is_op_at(2 * n + 1, ".")
            });
            if names && self.is_op_at(star, "*") {
                let mut qualifier = Vec::new();
                for _ in 0..parts {
                    qualifier.push(self.identifier_after_point()?);
                    self.expect_op(".")?;
                }
                self.expect_op("*")?;
                return Ok(Item::Star(qualifier));
            }
        }
        let expr = self.expr()?;
        let alias = if self.skip_word("AS") {
            Some(self.identifier_or_string()?)
        } else if matches!(self.peek(), Tok::Str(_)) {
            Some(self.string()?)
        } else {
            self.try_identifier()
        };
        Ok(Item::Expr(expr, alias))
    }

    /// `table, table JOIN table …`
    pub(crate) fn table_refs(&mut self) -> SqlResult<TableRef> {
        let mut left = self.joined_table()?;
        while self.skip_op(",") {
            let right = self.joined_table()?;
            left = join(left, right, JoinKind::Inner, JoinCondition::None);
        }
        Ok(left)
    }

    fn joined_table(&mut self) -> SqlResult<TableRef> {
        let mut left = self.table_factor()?;
        while let Some((kind, natural)) = self.join_operator()? {
            let right = self.table_factor()?;
            // `a JOIN b JOIN c ON … ON …`: the inner ON belongs to the join further right.
            let right = self.right_nested(right)?;
            let condition = if natural { JoinCondition::Natural } else { self.join_condition()? };
            if condition == JoinCondition::None && kind != JoinKind::Inner {
                return Err(self.unexpected());
            }
            left = join(left, right, kind, condition);
        }
        Ok(left)
    }

    fn right_nested(&mut self, right: TableRef) -> SqlResult<TableRef> {
        let position = self.position();
        let parameters = self.parameters;
        let Some((kind, false)) = self.join_operator()? else {
            self.rewind(position);
            return Ok(right);
        };
        let inner = self.table_factor()?;
        let inner = self.nested(|p| p.right_nested(inner))?;
        if self.is_word("ON") {
            let condition = self.join_condition()?;
            if self.is_word("ON") {
                return Ok(join(right, inner, kind, condition));
            }
        }
        self.rewind(position);
        self.parameters = parameters;
        Ok(right)
    }

    fn join_operator(&mut self) -> SqlResult<Option<(JoinKind, bool)>> {
        let natural = self.skip_word("NATURAL");
        let kind = if self.skip_word("JOIN")
            || self.skip_word("STRAIGHT_JOIN")
            || self.skip_words(&["INNER", "JOIN"])
            || self.skip_words(&["CROSS", "JOIN"])
        {
            JoinKind::Inner
        } else if self.is_word("LEFT") || self.is_word("RIGHT") {
            let left = self.skip_word("LEFT");
            if !left {
                self.advance();
            }
            self.skip_word("OUTER");
            self.expect_word("JOIN")?;
            if left { JoinKind::Left } else { JoinKind::Right }
        } else if natural {
            return Err(self.unexpected());
        } else {
            return Ok(None);
        };
        Ok(Some((kind, natural)))
    }

    fn join_condition(&mut self) -> SqlResult<JoinCondition> {
        if self.skip_word("ON") {
            return Ok(JoinCondition::On(self.expr()?));
        }
        if self.skip_word("USING") {
            return Ok(JoinCondition::Using(self.parenthesized(Self::identifier)?));
        }
        Ok(JoinCondition::None)
    }

    fn table_factor(&mut self) -> SqlResult<TableRef> {
        self.skip_word("LATERAL");
        if self.is_op("(") {
            if self.at_query() {
                let position = self.position();
                let parameters = self.parameters;
                self.advance();
                if let Ok(query) = self.nested(Self::query)
                    && self.skip_op(")")
                {
                    return self.derived(query);
                }
                self.rewind(position);
                self.parameters = parameters;
            }
            self.expect_op("(")?;
            if self.at_query() && !self.is_op("(") {
                let query = self.nested(Self::query)?;
                self.expect_op(")")?;
                return self.derived(query);
            }
            let inner = self.nested(Self::table_refs)?;
            self.expect_op(")")?;
            return Ok(inner);
        }
        let start = self.start();
        let name = self.name()?;
        if self.skip_word("PARTITION") {
            self.parenthesized(Self::identifier)?;
        }
        let alias = self.table_alias()?;
        self.index_hints()?;
        Ok(TableRef::Table { database: name.database, name: name.name, alias, start })
    }

    fn derived(&mut self, query: Query) -> SqlResult<TableRef> {
        let Some(alias) = self.table_alias()? else {
            return Err(SqlError::new(1248, "Every derived table must have its own alias"));
        };
        let columns = if self.is_op("(") { self.parenthesized(Self::identifier)? } else { Vec::new() };
        Ok(TableRef::Derived { query: Box::new(query), alias, columns })
    }

    fn table_alias(&mut self) -> SqlResult<Option<String>> {
        if self.skip_word("AS") {
            return Ok(Some(self.identifier_or_string()?));
        }
        Ok(self.try_identifier())
    }

    /// `USE / FORCE / IGNORE INDEX (…)`: read and left to the planner.
    fn index_hints(&mut self) -> SqlResult<()> {
        while self.is_any(&["USE", "FORCE", "IGNORE"])
            && (self.is_word_at(1, "INDEX") || self.is_word_at(1, "KEY"))
        {
            self.advance();
            self.advance();
            if self.skip_word("FOR") && self.skip_any(&["JOIN", "ORDER", "GROUP"]) != Some("JOIN") {
                self.expect_word("BY")?;
            }
            self.expect_op("(")?;
            while !self.is_op(")") {
                self.identifier_after_point()?;
                self.skip_op(",");
            }
            self.expect_op(")")?;
        }
        Ok(())
    }
}

fn join(left: TableRef, right: TableRef, kind: JoinKind, condition: JoinCondition) -> TableRef {
    TableRef::Join { left: Box::new(left), right: Box::new(right), kind, condition }
}
