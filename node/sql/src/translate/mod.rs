//! From MySQL's text to what [`crate::plan`] describes: a lexer and parser of MySQL's dialect, and a
//! translator that gives every expression a type and a collation and writes SQLite's SQL for it.
//!
//! The parser is our own: result columns are named by the text they were written as, errors point at a
//! place in the text, and MySQL's operators bind as MySQL's do.

mod aggregates;
mod ast;
mod binder;
mod calls;
mod changes;
mod compare;
mod ddl;
mod expression;
mod from;
mod lexer;
mod other;
mod parse_change;
mod parse_ddl;
mod parse_expression;
mod parse_other;
mod parse_query;
mod parse_types;
mod parser;
mod scope;
mod select;
mod shows;
#[cfg(test)]
mod tests;
mod typing;

use crate::catalog::Catalog;
use crate::context::{Host, SessionState};
use crate::error::SqlResult;
use crate::plan::Translated;

pub use lexer::LexMode;

/// What a translation may look at.
#[derive(Clone, Copy)]
pub struct TranslateContext<'a> {
    /// Tables.
    pub catalog: &'a dyn Catalog,
    /// The session: its database and variables.
    pub session: &'a SessionState,
    /// The instance.
    pub host: &'a dyn Host,
}

/// What of the `sql_mode` changes how text is read.
pub fn lex_mode(sql_mode: &str) -> LexMode {
    let has = |name: &str| {
        sql_mode.split(',').any(|m| m.eq_ignore_ascii_case(name) || m.eq_ignore_ascii_case("ANSI"))
    };
    LexMode {
        ansi_quotes: has("ANSI_QUOTES"),
        no_backslash: sql_mode.split(',').any(|m| m.eq_ignore_ascii_case("NO_BACKSLASH_ESCAPES")),
        pipes_as_concat: has("PIPES_AS_CONCAT"),
    }
}

/// Splits off the first of several statements: `(first, rest after the semicolon)`.
///
/// # Errors
///
/// 1064 for a string or comment without an end.
pub fn first_statement(sql: &str) -> SqlResult<(&str, &str)> {
    lexer::first_statement(sql, LexMode::default())
}

/// Translates one statement.
///
/// # Errors
///
/// 1064 for what is no statement, and all errors of names and types.
pub fn translate(sql: &str, ctx: &TranslateContext<'_>) -> SqlResult<Translated> {
    let mode = lex_mode(&ctx.session.variables.sql_mode());
    let (statement, parameters) = parser::parse(sql, mode)?;
    let (statement, cacheable) = other::plan(&statement, sql, ctx)?;
    Ok(Translated { statement, parameters, cacheable })
}

/// Checks that text is an expression, and parses it (defaults of columns).
pub(crate) fn parse_expression_text(text: &str) -> SqlResult<ast::Expr> {
    let select = format!("SELECT {text}");
    let (statement, _) = parser::parse(&select, LexMode::default())?;
    if let ast::Statement::Query(query) = statement
        && let ast::Body::Select(select) = query.body
        && let Some(ast::Item::Expr(expr, None)) = select.items.into_iter().next()
    {
        return Ok(expr);
    }
    Err(crate::error::SqlError::syntax(text, 1))
}
