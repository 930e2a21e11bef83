//! INSERT, REPLACE, UPDATE and DELETE.

use super::ast::{
    DeleteStatement, Expr, InsertStatement, InsertValues, Name, Statement, TableRef, UpdateStatement,
};
use super::lexer::Tok;
use super::parser::Parser;
use crate::error::SqlResult;

impl Parser<'_> {
    pub(crate) fn insert(&mut self) -> SqlResult<Statement> {
        let replace = self.skip_any(&["INSERT", "REPLACE"]) == Some("REPLACE");
        self.skip_any(&["LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY"]);
        let ignore = self.skip_word("IGNORE");
        self.skip_word("INTO");
        let table = self.name()?;
        if self.skip_word("PARTITION") {
            self.parenthesized(Self::identifier)?;
        }
        let mut columns = None;
        if self.is_op("(") && !self.at_query() {
            self.advance();
            let mut names = Vec::new();
            while !self.is_op(")") {
                names.push(self.column_name()?);
                if !self.skip_op(",") {
                    break;
                }
            }
            self.expect_op(")")?;
            columns = Some(names);
        }
        let source = if self.skip_word("SET") {
            let pairs = self.list(Self::assignment)?;
            let (names, values) = pairs.into_iter().map(|(_, name, value)| (name, value)).unzip();
            columns = Some(names);
            InsertValues::Rows(vec![values])
        } else if (self.is_word("VALUES") && !self.is_word_at(1, "ROW")) || self.is_word("VALUE") {
            self.advance();
            InsertValues::Rows(self.list(Self::row_of_values)?)
        } else if self.is_word("VALUES") {
            self.advance();
            InsertValues::Rows(self.list(|p| {
                p.expect_word("ROW")?;
                p.row_of_values()
            })?)
        } else {
            InsertValues::Query(Box::new(self.query()?))
        };
        let row_alias = if self.skip_word("AS") {
            let alias = self.identifier()?;
            let names = if self.is_op("(") { self.parenthesized(Self::identifier)? } else { Vec::new() };
            Some((alias, names))
        } else {
            None
        };
        let on_duplicate = if !replace && self.skip_words(&["ON", "DUPLICATE", "KEY", "UPDATE"]) {
            self.list(Self::assignment)?.into_iter().map(|(_, name, value)| (name, value)).collect()
        } else {
            Vec::new()
        };
        Ok(Statement::Insert(Box::new(InsertStatement {
            replace,
            ignore,
            table,
            columns,
            source,
            row_alias,
            on_duplicate,
        })))
    }

    fn row_of_values(&mut self) -> SqlResult<Vec<Expr>> {
        self.expect_op("(")?;
        if self.skip_op(")") {
            return Ok(Vec::new());
        }
        let values = self.list(Self::expr)?;
        self.expect_op(")")?;
        Ok(values)
    }

    /// `[[db.]table.]column`: the last part.
    fn column_name(&mut self) -> SqlResult<String> {
        let mut name = self.identifier()?;
        while self.skip_op(".") {
            name = self.identifier_after_point()?;
        }
        Ok(name)
    }

    fn assignment(&mut self) -> SqlResult<(Vec<String>, String, Expr)> {
        let mut parts = vec![self.identifier()?];
        while self.skip_op(".") {
            parts.push(self.identifier_after_point()?);
        }
        if !self.skip_op("=") {
            self.expect_op(":=")?;
        }
        let name = parts.pop().unwrap_or_default();
        Ok((parts, name, self.expr()?))
    }

    pub(crate) fn update(&mut self) -> SqlResult<Statement> {
        let (with, recursive) = self.with()?;
        self.expect_word("UPDATE")?;
        self.skip_word("LOW_PRIORITY");
        let ignore = self.skip_word("IGNORE");
        let tables = self.table_refs()?;
        self.expect_word("SET")?;
        let assignments = self.list(Self::assignment)?;
        let filter = if self.skip_word("WHERE") { Some(self.expr()?) } else { None };
        let order_by =
            if self.skip_words(&["ORDER", "BY"]) { self.list(Self::order_item)? } else { Vec::new() };
        let limit = self.limit()?;
        Ok(Statement::Update(Box::new(UpdateStatement {
            ignore,
            with,
            recursive,
            tables,
            assignments,
            filter,
            order_by,
            limit,
        })))
    }

    pub(crate) fn delete(&mut self) -> SqlResult<Statement> {
        let (with, recursive) = self.with()?;
        self.expect_word("DELETE")?;
        self.skip_word("LOW_PRIORITY");
        self.skip_word("QUICK");
        let ignore = self.skip_word("IGNORE");
        let mut targets = Vec::new();
        let tables: TableRef;
        if self.skip_word("FROM") {
            let position = self.position();
            let names = self.list(Self::target);
            if names.is_ok() && self.skip_word("USING") {
                targets = names?;
                tables = self.table_refs()?;
            } else {
                self.rewind(position);
                tables = self.table_refs()?;
                if !matches!(tables, TableRef::Table { .. }) {
                    self.rewind(position);
                    return Err(self.unexpected());
                }
            }
        } else {
            targets = self.list(Self::target)?;
            self.expect_word("FROM")?;
            tables = self.table_refs()?;
        }
        let filter = if self.skip_word("WHERE") { Some(self.expr()?) } else { None };
        let order_by =
            if self.skip_words(&["ORDER", "BY"]) { self.list(Self::order_item)? } else { Vec::new() };
        let limit = self.limit()?;
        Ok(Statement::Delete(Box::new(DeleteStatement {
            ignore,
            with,
            recursive,
            targets,
            tables,
            filter,
            order_by,
            limit,
        })))
    }

    /// `[db.]table[.*]`
    fn target(&mut self) -> SqlResult<Name> {
        let first = self.identifier()?;
        if !self.skip_op(".") {
            return Ok(Name { database: None, name: first });
        }
        if self.skip_op("*") {
            return Ok(Name { database: None, name: first });
        }
        let name = self.identifier_after_point()?;
        if matches!(self.peek(), Tok::Op(".")) {
            self.advance();
            self.expect_op("*")?;
        }
        Ok(Name { database: Some(first), name })
    }
}
