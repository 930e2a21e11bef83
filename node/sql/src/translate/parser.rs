//! The parser's core: a cursor over tokens, names, and the table of reserved words.

use super::ast::{Name, Statement};
use super::lexer::{LexMode, Tok, Token, syntax_error, tokens};
use crate::error::{SqlError, SqlResult};

/// Most nested expressions and queries of a statement: keeps the stack of a session's thread bounded.
const MAX_DEPTH: usize = 200;

/// MySQL's reserved words that can stand where a name or alias may stand; sorted.
const RESERVED: &[&str] = &[
    "ACCESSIBLE",
    "ADD",
    "ALL",
    "ALTER",
    "ANALYZE",
    "AND",
    "AS",
    "ASC",
    "BEFORE",
    "BETWEEN",
    "BIGINT",
    "BINARY",
    "BLOB",
    "BOTH",
    "BY",
    "CALL",
    "CASCADE",
    "CASE",
    "CHANGE",
    "CHAR",
    "CHARACTER",
    "CHECK",
    "COLLATE",
    "COLUMN",
    "CONDITION",
    "CONSTRAINT",
    "CONTINUE",
    "CONVERT",
    "CREATE",
    "CROSS",
    "CUBE",
    "CUME_DIST",
    "CURRENT_DATE",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "CURRENT_USER",
    "CURSOR",
    "DATABASE",
    "DATABASES",
    "DAY_HOUR",
    "DAY_MICROSECOND",
    "DAY_MINUTE",
    "DAY_SECOND",
    "DEC",
    "DECIMAL",
    "DECLARE",
    "DEFAULT",
    "DELAYED",
    "DELETE",
    "DENSE_RANK",
    "DESC",
    "DESCRIBE",
    "DETERMINISTIC",
    "DISTINCT",
    "DISTINCTROW",
    "DIV",
    "DOUBLE",
    "DROP",
    "DUAL",
    "EACH",
    "ELSE",
    "ELSEIF",
    "EMPTY",
    "ENCLOSED",
    "ESCAPED",
    "EXCEPT",
    "EXISTS",
    "EXIT",
    "EXPLAIN",
    "FALSE",
    "FETCH",
    "FIRST_VALUE",
    "FLOAT",
    "FLOAT4",
    "FLOAT8",
    "FOR",
    "FORCE",
    "FOREIGN",
    "FROM",
    "FULLTEXT",
    "FUNCTION",
    "GENERATED",
    "GET",
    "GRANT",
    "GROUP",
    "GROUPING",
    "GROUPS",
    "HAVING",
    "HIGH_PRIORITY",
    "HOUR_MICROSECOND",
    "HOUR_MINUTE",
    "HOUR_SECOND",
    "IF",
    "IGNORE",
    "IN",
    "INDEX",
    "INFILE",
    "INNER",
    "INOUT",
    "INSENSITIVE",
    "INSERT",
    "INT",
    "INT1",
    "INT2",
    "INT3",
    "INT4",
    "INT8",
    "INTEGER",
    "INTERSECT",
    "INTERVAL",
    "INTO",
    "IO_AFTER_GTIDS",
    "IO_BEFORE_GTIDS",
    "IS",
    "ITERATE",
    "JOIN",
    "JSON_TABLE",
    "KEY",
    "KEYS",
    "KILL",
    "LAG",
    "LAST_VALUE",
    "LATERAL",
    "LEAD",
    "LEADING",
    "LEAVE",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LINEAR",
    "LINES",
    "LOAD",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "LOCK",
    "LONG",
    "LONGBLOB",
    "LONGTEXT",
    "LOOP",
    "LOW_PRIORITY",
    "MASTER_BIND",
    "MASTER_SSL_VERIFY_SERVER_CERT",
    "MATCH",
    "MAXVALUE",
    "MEDIUMBLOB",
    "MEDIUMINT",
    "MEDIUMTEXT",
    "MIDDLEINT",
    "MINUTE_MICROSECOND",
    "MINUTE_SECOND",
    "MOD",
    "MODIFIES",
    "NATURAL",
    "NOT",
    "NO_WRITE_TO_BINLOG",
    "NTH_VALUE",
    "NTILE",
    "NULL",
    "NUMERIC",
    "OF",
    "ON",
    "OPTIMIZE",
    "OPTIMIZER_COSTS",
    "OPTION",
    "OPTIONALLY",
    "OR",
    "ORDER",
    "OUT",
    "OUTER",
    "OUTFILE",
    "OVER",
    "PARTITION",
    "PERCENT_RANK",
    "PRECISION",
    "PRIMARY",
    "PROCEDURE",
    "PURGE",
    "RANGE",
    "RANK",
    "READ",
    "READS",
    "READ_WRITE",
    "REAL",
    "RECURSIVE",
    "REFERENCES",
    "REGEXP",
    "RELEASE",
    "RENAME",
    "REPEAT",
    "REPLACE",
    "REQUIRE",
    "RESIGNAL",
    "RESTRICT",
    "RETURN",
    "REVOKE",
    "RIGHT",
    "RLIKE",
    "ROW",
    "ROWS",
    "ROW_NUMBER",
    "SCHEMA",
    "SCHEMAS",
    "SECOND_MICROSECOND",
    "SELECT",
    "SENSITIVE",
    "SEPARATOR",
    "SET",
    "SHOW",
    "SIGNAL",
    "SMALLINT",
    "SPATIAL",
    "SPECIFIC",
    "SQL",
    "SQLEXCEPTION",
    "SQLSTATE",
    "SQLWARNING",
    "SQL_BIG_RESULT",
    "SQL_CALC_FOUND_ROWS",
    "SQL_SMALL_RESULT",
    "SSL",
    "STARTING",
    "STORED",
    "STRAIGHT_JOIN",
    "SYSTEM",
    "TABLE",
    "TERMINATED",
    "THEN",
    "TINYBLOB",
    "TINYINT",
    "TINYTEXT",
    "TO",
    "TRAILING",
    "TRIGGER",
    "TRUE",
    "UNDO",
    "UNION",
    "UNIQUE",
    "UNLOCK",
    "UNSIGNED",
    "UPDATE",
    "USAGE",
    "USE",
    "USING",
    "UTC_DATE",
    "UTC_TIME",
    "UTC_TIMESTAMP",
    "VALUES",
    "VARBINARY",
    "VARCHAR",
    "VARCHARACTER",
    "VARYING",
    "VIRTUAL",
    "WHEN",
    "WHERE",
    "WHILE",
    "WINDOW",
    "WITH",
    "WRITE",
    "XOR",
    "YEAR_MONTH",
    "ZEROFILL",
];

/// True if the word cannot be a name without quotes.
pub(crate) fn is_reserved(word: &str) -> bool {
    let upper = word.to_ascii_uppercase();
    RESERVED.binary_search(&upper.as_str()).is_ok()
}

/// A cursor over the tokens of one statement.
pub(crate) struct Parser<'a> {
    pub(crate) text: &'a str,
    pub(crate) mode: LexMode,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    /// How many `?` have been read.
    pub(crate) parameters: usize,
}

/// Parses one statement; also gives the number of its parameters.
pub(crate) fn parse(text: &str, mode: LexMode) -> SqlResult<(Statement, usize)> {
    let tokens = tokens(text, mode)?;
    let mut parser = Parser { text, mode, tokens, at: 0, depth: 0, parameters: 0 };
    if parser.peek() == &Tok::End {
        return Err(SqlError::empty_query());
    }
    let statement = parser.statement()?;
    parser.skip_op(";");
    if parser.peek() != &Tok::End {
        return Err(parser.unexpected());
    }
    Ok((statement, parser.parameters))
}

impl<'a> Parser<'a> {
    pub(crate) fn peek(&self) -> &Tok {
        &self.tokens[self.at].tok
    }
    pub(crate) fn peek_ahead(&self, ahead: usize) -> &Tok {
        &self.tokens[(self.at + ahead).min(self.tokens.len() - 1)].tok
    }
    pub(crate) fn advance(&mut self) -> Tok {
        let tok = self.tokens[self.at].tok.clone();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        tok
    }
    /// Where the next token begins.
    pub(crate) fn start(&self) -> usize {
        self.tokens[self.at].start
    }
    /// Where the last token ended.
    pub(crate) fn end(&self) -> usize {
        if self.at == 0 { 0 } else { self.tokens[self.at - 1].end }
    }
    pub(crate) fn position(&self) -> usize {
        self.at
    }
    pub(crate) fn rewind(&mut self, position: usize) {
        self.at = position;
    }
    /// 1064 at the next token.
    pub(crate) fn unexpected(&self) -> SqlError {
        syntax_error(self.text, self.start())
    }
    /// Runs a parser one level deeper.
    pub(crate) fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> SqlResult<T>) -> SqlResult<T> {
        if self.depth >= MAX_DEPTH {
            return Err(SqlError::new(1436, "Thread stack overrun: the statement is nested too deeply"));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }
    pub(crate) fn is_word_at(&self, ahead: usize, word: &str) -> bool {
        matches!(self.peek_ahead(ahead), Tok::Word(w) if w.eq_ignore_ascii_case(word))
    }
    pub(crate) fn is_word(&self, word: &str) -> bool {
        self.is_word_at(0, word)
    }
    pub(crate) fn is_any(&self, words: &[&str]) -> bool {
        words.iter().any(|w| self.is_word(w))
    }
    pub(crate) fn skip_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.advance();
        }
        found
    }
    /// Skips the words if all of them are there in this order.
    pub(crate) fn skip_words(&mut self, words: &[&str]) -> bool {
        let found = words.iter().enumerate().all(|(n, w)| self.is_word_at(n, w));
        if found {
            for _ in words {
                self.advance();
            }
        }
        found
    }
    /// Skips one of the words and says which.
    pub(crate) fn skip_any(&mut self, words: &[&'static str]) -> Option<&'static str> {
        let found = words.iter().copied().find(|w| self.is_word(w))?;
        self.advance();
        Some(found)
    }
    pub(crate) fn expect_word(&mut self, word: &str) -> SqlResult<()> {
        if self.skip_word(word) { Ok(()) } else { Err(self.unexpected()) }
    }
    pub(crate) fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Tok::Op(o) if *o == op)
    }
    pub(crate) fn is_op_at(&self, ahead: usize, op: &str) -> bool {
        matches!(self.peek_ahead(ahead), Tok::Op(o) if *o == op)
    }
    pub(crate) fn skip_op(&mut self, op: &str) -> bool {
        let found = self.is_op(op);
        if found {
            self.advance();
        }
        found
    }
    pub(crate) fn expect_op(&mut self, op: &str) -> SqlResult<()> {
        if self.skip_op(op) { Ok(()) } else { Err(self.unexpected()) }
    }
    /// `item, item, …`
    pub(crate) fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> SqlResult<T>) -> SqlResult<Vec<T>> {
        let mut all = vec![item(self)?];
        while self.skip_op(",") {
            all.push(item(self)?);
        }
        Ok(all)
    }
    /// `( item, item, … )`
    pub(crate) fn parenthesized<T>(
        &mut self,
        item: impl FnMut(&mut Self) -> SqlResult<T>,
    ) -> SqlResult<Vec<T>> {
        self.expect_op("(")?;
        let all = self.list(item)?;
        self.expect_op(")")?;
        Ok(all)
    }
    /// A name that is here, if there is one.
    pub(crate) fn try_identifier(&mut self) -> Option<String> {
        match self.peek() {
            Tok::Word(word) if !is_reserved(word) => {}
            Tok::Quoted(_) => {}
            _ => return None,
        }
        match self.advance() {
            Tok::Word(name) | Tok::Quoted(name) => Some(name),
            _ => None,
        }
    }
    /// A name.
    pub(crate) fn identifier(&mut self) -> SqlResult<String> {
        self.try_identifier().ok_or_else(|| self.unexpected())
    }
    /// A name after a point, where reserved words are allowed.
    pub(crate) fn identifier_after_point(&mut self) -> SqlResult<String> {
        match self.peek() {
            Tok::Word(_) | Tok::Quoted(_) => match self.advance() {
                Tok::Word(name) | Tok::Quoted(name) => Ok(name),
                _ => Err(self.unexpected()),
            },
            _ => Err(self.unexpected()),
        }
    }
    /// A name or a string (aliases, character sets, user names).
    pub(crate) fn identifier_or_string(&mut self) -> SqlResult<String> {
        match self.peek() {
            Tok::Str(_) => match self.advance() {
                Tok::Str(text) => Ok(text),
                _ => Err(self.unexpected()),
            },
            // `binary` is a character set and a reserved word.
            Tok::Word(word) if word.eq_ignore_ascii_case("binary") => {
                self.advance();
                Ok("binary".to_owned())
            }
            _ => self.identifier(),
        }
    }
    /// `[database.]name`.
    pub(crate) fn name(&mut self) -> SqlResult<Name> {
        let first = self.identifier()?;
        if self.skip_op(".") {
            let name = self.identifier_after_point()?;
            return Ok(Name { database: Some(first), name });
        }
        Ok(Name { database: None, name: first })
    }
    /// A string.
    pub(crate) fn string(&mut self) -> SqlResult<String> {
        match self.peek() {
            Tok::Str(_) => match self.advance() {
                Tok::Str(text) => Ok(text),
                _ => Err(self.unexpected()),
            },
            _ => Err(self.unexpected()),
        }
    }
    /// A number without sign or point.
    pub(crate) fn unsigned(&mut self) -> SqlResult<u64> {
        let value = match self.peek() {
            Tok::Int(digits) => digits.parse::<u64>().ok(),
            _ => None,
        };
        match value {
            Some(value) => {
                self.advance();
                Ok(value)
            }
            None => Err(self.unexpected()),
        }
    }
    /// Skips everything up to the end of the statement.
    pub(crate) fn skip_rest(&mut self) {
        while !matches!(self.peek(), Tok::End) {
            self.advance();
        }
    }
    /// The number of the next `?`.
    pub(crate) fn parameter(&mut self) -> usize {
        self.parameters += 1;
        self.parameters - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_words_are_sorted() {
        assert!(RESERVED.windows(2).all(|w| w[0] < w[1]));
        assert!(is_reserved("select") && !is_reserved("status"));
    }
}
