//! Expressions, with MySQL's precedence.

use super::ast::{BinaryOp, Call, Expr, ExprKind, Interval, OrderItem, Window};
use super::lexer::Tok;
use super::parser::{Parser, is_reserved};
use crate::error::SqlResult;
use crate::plan::Scope;
use crate::types::ColumnType;

/// Units of INTERVAL.
const UNITS: &[&str] = &[
    "MICROSECOND",
    "SECOND",
    "MINUTE",
    "HOUR",
    "DAY",
    "WEEK",
    "MONTH",
    "QUARTER",
    "YEAR",
    "SECOND_MICROSECOND",
    "MINUTE_MICROSECOND",
    "MINUTE_SECOND",
    "HOUR_MICROSECOND",
    "HOUR_SECOND",
    "HOUR_MINUTE",
    "DAY_MICROSECOND",
    "DAY_SECOND",
    "DAY_MINUTE",
    "DAY_HOUR",
    "YEAR_MONTH",
];

/// Reserved words that are functions as well.
const RESERVED_FUNCTIONS: &[&str] = &[
    "IF",
    "LEFT",
    "RIGHT",
    "REPLACE",
    "INSERT",
    "MOD",
    "DATABASE",
    "SCHEMA",
    "CHAR",
    "REPEAT",
    "INTERVAL",
    "CURRENT_TIMESTAMP",
    "CURRENT_DATE",
    "CURRENT_TIME",
    "CURRENT_USER",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "UTC_DATE",
    "UTC_TIME",
    "UTC_TIMESTAMP",
    "ROW_NUMBER",
    "RANK",
    "DENSE_RANK",
    "LAG",
    "LEAD",
    "NTILE",
    "FIRST_VALUE",
    "LAST_VALUE",
    "NTH_VALUE",
    "PERCENT_RANK",
    "CUME_DIST",
    "GROUPING",
];

fn call(name: &str, args: Vec<Expr>) -> Call {
    Call {
        name: name.to_owned(),
        args,
        distinct: false,
        star: false,
        order_by: Vec::new(),
        separator: None,
        over: None,
        keyword: None,
    }
}

impl Parser<'_> {
    fn make(&self, kind: ExprKind, start: usize) -> Expr {
        Expr { kind, start, end: self.end() }
    }

    fn binary(&self, op: BinaryOp, left: Expr, right: Expr) -> Expr {
        let start = left.start;
        self.make(ExprKind::Binary(op, Box::new(left), Box::new(right)), start)
    }

    /// An expression.
    pub(crate) fn expr(&mut self) -> SqlResult<Expr> {
        self.nested(Self::or_expr)
    }

    fn or_expr(&mut self) -> SqlResult<Expr> {
        let mut left = self.xor_expr()?;
        while self.is_word("OR") || (self.is_op("||") && !self.mode.pipes_as_concat) {
            self.advance();
            let right = self.xor_expr()?;
            left = self.binary(BinaryOp::Or, left, right);
        }
        Ok(left)
    }

    fn xor_expr(&mut self) -> SqlResult<Expr> {
        let mut left = self.and_expr()?;
        while self.skip_word("XOR") {
            let right = self.and_expr()?;
            left = self.binary(BinaryOp::Xor, left, right);
        }
        Ok(left)
    }

    fn and_expr(&mut self) -> SqlResult<Expr> {
        let mut left = self.not_expr()?;
        while self.is_word("AND") || self.is_op("&&") {
            self.advance();
            let right = self.not_expr()?;
            left = self.binary(BinaryOp::And, left, right);
        }
        Ok(left)
    }

    fn not_expr(&mut self) -> SqlResult<Expr> {
        let start = self.start();
        if self.is_word("NOT") {
            self.advance();
            let inner = self.nested(Self::not_expr)?;
            return Ok(self.make(ExprKind::Not(Box::new(inner)), start));
        }
        self.comparison()
    }

    fn comparison_op(&mut self) -> Option<BinaryOp> {
        let op = match self.peek() {
            Tok::Op("=") => BinaryOp::Equal,
            Tok::Op("<=>") => BinaryOp::NullSafeEqual,
            Tok::Op("<>" | "!=") => BinaryOp::NotEqual,
            Tok::Op("<") => BinaryOp::Less,
            Tok::Op("<=") => BinaryOp::LessEqual,
            Tok::Op(">") => BinaryOp::Greater,
            Tok::Op(">=") => BinaryOp::GreaterEqual,
            _ => return None,
        };
        self.advance();
        Some(op)
    }

    fn comparison(&mut self) -> SqlResult<Expr> {
        let mut left = self.predicate()?;
        loop {
            let start = left.start;
            if let Some(op) = self.comparison_op() {
                if let Some(all) = self.skip_any(&["ALL", "ANY", "SOME"]) {
                    self.expect_op("(")?;
                    let query = Box::new(self.query()?);
                    self.expect_op(")")?;
                    left = self.make(ExprKind::Quantified(op, Box::new(left), all == "ALL", query), start);
                    continue;
                }
                let right = self.predicate()?;
                left = self.binary(op, left, right);
            } else if self.skip_word("IS") {
                let not = self.skip_word("NOT");
                let inner = Box::new(left);
                let word = self.skip_any(&["NULL", "TRUE", "FALSE", "UNKNOWN"]);
                let kind = match word {
                    Some("NULL") => ExprKind::IsNull(inner, not),
                    Some("TRUE") => ExprKind::IsBool(inner, Some(true), not),
                    Some("FALSE") => ExprKind::IsBool(inner, Some(false), not),
                    Some(_) => ExprKind::IsBool(inner, None, not),
                    None => return Err(self.unexpected()),
                };
                left = self.make(kind, start);
            } else {
                return Ok(left);
            }
        }
    }

    fn predicate(&mut self) -> SqlResult<Expr> {
        let left = self.bit_or()?;
        let start = left.start;
        let not = if self.is_word("NOT")
            && ["IN", "BETWEEN", "LIKE", "REGEXP", "RLIKE"].iter().any(|w| self.is_word_at(1, w))
        {
            self.advance();
            true
        } else {
            false
        };
        let value = |expr: Expr| Box::new(expr);
        if self.skip_word("IN") {
            self.expect_op("(")?;
            if self.at_query() {
                let query = Box::new(self.query()?);
                self.expect_op(")")?;
                return Ok(self.make(ExprKind::InQuery(value(left), query, not), start));
            }
            let items = self.list(Self::expr)?;
            self.expect_op(")")?;
            return Ok(self.make(ExprKind::In(value(left), items, not), start));
        }
        if self.skip_word("BETWEEN") {
            let low = self.bit_or()?;
            self.expect_word("AND")?;
            let high = self.nested(Self::predicate)?;
            return Ok(self.make(ExprKind::Between(value(left), value(low), value(high), not), start));
        }
        if self.skip_word("LIKE") {
            let pattern = value(self.bit_or()?);
            let escape = if self.skip_word("ESCAPE") { Some(value(self.bit_or()?)) } else { None };
            return Ok(self.make(ExprKind::Like { value: value(left), pattern, escape, not }, start));
        }
        if self.is_any(&["REGEXP", "RLIKE"]) {
            self.advance();
            let pattern = self.bit_or()?;
            return Ok(self.make(ExprKind::Regexp(value(left), value(pattern), not), start));
        }
        Ok(left)
    }

    /// True if a query begins here.
    pub(crate) fn at_query(&self) -> bool {
        let mut ahead = 0;
        while self.is_op_at(ahead, "(") {
            ahead += 1;
        }
        self.is_word_at(ahead, "SELECT")
            || (self.is_word_at(ahead, "WITH") && ahead == 0)
            || (self.is_word_at(ahead, "TABLE") && ahead == 0)
            || (self.is_word_at(ahead, "VALUES") && self.is_word_at(ahead + 1, "ROW"))
    }

    fn bit_or(&mut self) -> SqlResult<Expr> {
        let mut left = self.bit_and()?;
        while self.skip_op("|") {
            let right = self.bit_and()?;
            left = self.binary(BinaryOp::BitOr, left, right);
        }
        Ok(left)
    }

    fn bit_and(&mut self) -> SqlResult<Expr> {
        let mut left = self.shift()?;
        while self.skip_op("&") {
            let right = self.shift()?;
            left = self.binary(BinaryOp::BitAnd, left, right);
        }
        Ok(left)
    }

    fn shift(&mut self) -> SqlResult<Expr> {
        let mut left = self.additive()?;
        loop {
            let op = match self.peek() {
                Tok::Op("<<") => BinaryOp::ShiftLeft,
                Tok::Op(">>") => BinaryOp::ShiftRight,
                _ => return Ok(left),
            };
            self.advance();
            let right = self.additive()?;
            left = self.binary(op, left, right);
        }
    }

    fn additive(&mut self) -> SqlResult<Expr> {
        let mut left = self.multiplicative()?;
        loop {
            let op = match self.peek() {
                Tok::Op("+") => BinaryOp::Add,
                Tok::Op("-") => BinaryOp::Subtract,
                _ => return Ok(left),
            };
            self.advance();
            if self.is_word("INTERVAL") && !self.is_interval_function() {
                let interval = self.interval()?;
                let start = left.start;
                let minus = op == BinaryOp::Subtract;
                left = self.make(ExprKind::DateAdd(Box::new(left), Box::new(interval), minus), start);
                continue;
            }
            let right = self.multiplicative()?;
            left = self.binary(op, left, right);
        }
    }

    fn multiplicative(&mut self) -> SqlResult<Expr> {
        let mut left = self.bit_xor()?;
        loop {
            let op = match self.peek() {
                Tok::Op("*") => BinaryOp::Multiply,
                Tok::Op("/") => BinaryOp::Divide,
                Tok::Op("%") => BinaryOp::Modulo,
                Tok::Word(w) if w.eq_ignore_ascii_case("DIV") => BinaryOp::IntegerDivide,
                Tok::Word(w) if w.eq_ignore_ascii_case("MOD") => BinaryOp::Modulo,
                _ => return Ok(left),
            };
            self.advance();
            let right = self.bit_xor()?;
            left = self.binary(op, left, right);
        }
    }

    fn bit_xor(&mut self) -> SqlResult<Expr> {
        let mut left = self.concat_expr()?;
        while self.skip_op("^") {
            let right = self.concat_expr()?;
            left = self.binary(BinaryOp::BitXor, left, right);
        }
        Ok(left)
    }

    fn concat_expr(&mut self) -> SqlResult<Expr> {
        let mut left = self.unary()?;
        while self.mode.pipes_as_concat && self.skip_op("||") {
            let right = self.unary()?;
            left = self.binary(BinaryOp::Concat, left, right);
        }
        Ok(left)
    }

    fn unary(&mut self) -> SqlResult<Expr> {
        let start = self.start();
        let wrap: fn(Box<Expr>) -> ExprKind = match self.peek() {
            Tok::Op("-") => ExprKind::Negate,
            Tok::Op("~") => ExprKind::BitNot,
            Tok::Op("!") => ExprKind::Not,
            Tok::Op("+") => {
                self.advance();
                return self.nested(Self::unary);
            }
            Tok::Word(w) if w.eq_ignore_ascii_case("BINARY") => ExprKind::Binaried,
            _ => return self.collated(),
        };
        self.advance();
        let inner = self.nested(Self::unary)?;
        Ok(self.make(wrap(Box::new(inner)), start))
    }

    fn collated(&mut self) -> SqlResult<Expr> {
        let mut inner = self.primary()?;
        loop {
            let start = inner.start;
            if self.skip_word("COLLATE") {
                let name = self.identifier_or_string()?;
                inner = self.make(ExprKind::Collate(Box::new(inner), name), start);
            } else if self.is_op("->") || self.is_op("->>") {
                let unquote = self.advance() == Tok::Op("->>");
                let path = self.primary()?;
                let extract = call("json_extract", vec![inner, path]);
                let mut expr = self.make(ExprKind::Function(Box::new(extract)), start);
                if unquote {
                    let unquoted = call("json_unquote", vec![expr]);
                    expr = self.make(ExprKind::Function(Box::new(unquoted)), start);
                }
                inner = expr;
            } else {
                return Ok(inner);
            }
        }
    }

    fn primary(&mut self) -> SqlResult<Expr> {
        let start = self.start();
        let kind = match self.peek().clone() {
            Tok::Int(digits) => {
                self.advance();
                digits.parse::<u64>().map_or_else(|_| ExprKind::Decimal(digits), ExprKind::Int)
            }
            Tok::Decimal(digits) => {
                self.advance();
                ExprKind::Decimal(digits)
            }
            Tok::Float(digits) => {
                let Ok(value) = digits.parse::<f64>() else { return Err(self.unexpected()) };
                self.advance();
                ExprKind::Double(value)
            }
            Tok::Bytes(bytes) => {
                self.advance();
                ExprKind::Bytes(bytes)
            }
            Tok::Str(_) => ExprKind::Str(self.joined_string()?),
            Tok::Introducer(charset) => {
                self.advance();
                let inner = self.primary()?;
                ExprKind::Using(Box::new(inner), charset)
            }
            Tok::Param => {
                self.advance();
                ExprKind::Param(self.parameter())
            }
            Tok::UserVar(name) => {
                self.advance();
                if self.skip_op(":=") {
                    ExprKind::Assign(name.to_ascii_lowercase(), Box::new(self.expr()?))
                } else {
                    ExprKind::UserVar(name.to_ascii_lowercase())
                }
            }
            Tok::AtAt => {
                self.advance();
                let (scope, name) = self.system_variable()?;
                ExprKind::SysVar(scope, name)
            }
            Tok::Op("(") => return self.parenthesis(start),
            Tok::Op("{") => return self.escape_braces(),
            Tok::Word(word) => return self.word_expr(&word, start),
            Tok::Quoted(_) => return self.column(start),
            _ => return Err(self.unexpected()),
        };
        Ok(self.make(kind, start))
    }

    /// `{fn now()}`, `{d '2024-01-01'}` of ODBC and JDBC.
    fn escape_braces(&mut self) -> SqlResult<Expr> {
        self.advance();
        self.identifier()?;
        let inner = self.expr()?;
        self.expect_op("}")?;
        Ok(inner)
    }

    /// Adjacent strings are one.
    fn joined_string(&mut self) -> SqlResult<String> {
        let mut all = self.string()?;
        while let Tok::Str(_) = self.peek() {
            all.push_str(&self.string()?);
        }
        Ok(all)
    }

    /// After `@@`: `[global.|session.|local.]name`.
    pub(crate) fn system_variable(&mut self) -> SqlResult<(Option<Scope>, String)> {
        let first = self.identifier_after_point()?;
        let scope = match first.to_ascii_lowercase().as_str() {
            "global" | "persist" | "persist_only" => Some(Scope::Global),
            "session" | "local" => Some(Scope::Session),
            _ => None,
        };
        if scope.is_some() && self.skip_op(".") {
            return Ok((scope, self.identifier_after_point()?.to_ascii_lowercase()));
        }
        Ok((None, first.to_ascii_lowercase()))
    }

    fn parenthesis(&mut self, start: usize) -> SqlResult<Expr> {
        if self.is_op_at(0, "(") && self.at_query() {
            let position = self.position();
            let parameters = self.parameters;
            self.advance();
            let query = self.nested(Self::query);
            if let Ok(query) = query
                && self.skip_op(")")
            {
                return Ok(self.make(ExprKind::Subquery(Box::new(query)), start));
            }
            // `((SELECT 1) + 2)` is an expression.
            self.rewind(position);
            self.parameters = parameters;
        }
        self.expect_op("(")?;
        if self.at_query() && !self.is_op("(") {
            let query = self.nested(Self::query)?;
            self.expect_op(")")?;
            return Ok(self.make(ExprKind::Subquery(Box::new(query)), start));
        }
        let mut items = self.list(Self::expr)?;
        self.expect_op(")")?;
        if items.len() == 1 {
            let mut only = items.remove(0);
            only.start = start;
            only.end = self.end();
            return Ok(only);
        }
        Ok(self.make(ExprKind::Row(items), start))
    }

    fn word_expr(&mut self, word: &str, start: usize) -> SqlResult<Expr> {
        let upper = word.to_ascii_uppercase();
        let called = self.is_op_at(1, "(");
        let kind = match upper.as_str() {
            "NULL" => ExprKind::Null,
            "TRUE" => ExprKind::Bool(true),
            "FALSE" => ExprKind::Bool(false),
            "CASE" => return self.case(start),
            "EXISTS" if called => {
                self.advance();
                self.expect_op("(")?;
                let query = self.nested(Self::query)?;
                self.expect_op(")")?;
                return Ok(self.make(ExprKind::Exists(Box::new(query)), start));
            }
            "CAST" if called => return self.cast(start),
            "CONVERT" if called => return self.convert(start),
            "ROW" if called => {
                self.advance();
                let items = self.parenthesized(Self::expr)?;
                return Ok(self.make(ExprKind::Row(items), start));
            }
            "DEFAULT" => {
                self.advance();
                let column = if self.skip_op("(") {
                    let name = self.identifier()?;
                    self.expect_op(")")?;
                    Some(name)
                } else {
                    None
                };
                return Ok(self.make(ExprKind::Default(column), start));
            }
            "VALUES" if called => {
                self.advance();
                self.expect_op("(")?;
                let mut name = self.identifier()?;
                while self.skip_op(".") {
                    name = self.identifier_after_point()?;
                }
                self.expect_op(")")?;
                return Ok(self.make(ExprKind::Values(name), start));
            }
            "INTERVAL" if !called || !self.is_interval_function() => {
                // `INTERVAL 1 DAY + x`
                let interval = self.interval()?;
                self.expect_op("+")?;
                let base = self.multiplicative()?;
                return Ok(self.make(ExprKind::DateAdd(Box::new(base), Box::new(interval), false), start));
            }
            "DATE" | "TIME" | "TIMESTAMP" if matches!(self.peek_ahead(1), Tok::Str(_)) => {
                self.advance();
                let text = self.string()?;
                let ty = match upper.as_str() {
                    "DATE" => ColumnType::Date,
                    "TIME" => ColumnType::Time(fraction_digits(&text)),
                    _ => ColumnType::DateTime(fraction_digits(&text)),
                };
                return Ok(self.make(ExprKind::Temporal(ty, text), start));
            }
            "CURRENT_TIMESTAMP" | "CURRENT_DATE" | "CURRENT_TIME" | "CURRENT_USER" | "LOCALTIME"
            | "LOCALTIMESTAMP" | "UTC_DATE" | "UTC_TIME" | "UTC_TIMESTAMP"
                if !called =>
            {
                self.advance();
                let name = upper.to_ascii_lowercase();
                return Ok(self.make(ExprKind::Function(Box::new(call(&name, Vec::new()))), start));
            }
            _ if called && (!is_reserved(word) || RESERVED_FUNCTIONS.contains(&upper.as_str())) => {
                return self.function(start);
            }
            _ => return self.column(start),
        };
        self.advance();
        Ok(self.make(kind, start))
    }

    fn column(&mut self, start: usize) -> SqlResult<Expr> {
        let mut parts = vec![self.identifier()?];
        while self.is_op(".") && parts.len() < 3 && !self.is_op_at(1, "*") {
            self.advance();
            parts.push(self.identifier_after_point()?);
        }
        // A function in a database (`db.f()`) is not known.
        if self.is_op("(") && parts.len() > 1 {
            return Err(crate::error::SqlError::does_not_exist("FUNCTION", &parts.join(".")));
        }
        let name = parts.pop().unwrap_or_default();
        Ok(self.make(ExprKind::Column { qualifier: parts, name }, start))
    }

    fn case(&mut self, start: usize) -> SqlResult<Expr> {
        self.advance();
        let operand = if self.is_word("WHEN") { None } else { Some(Box::new(self.expr()?)) };
        let mut whens = Vec::new();
        while self.skip_word("WHEN") {
            let when = self.expr()?;
            self.expect_word("THEN")?;
            whens.push((when, self.expr()?));
        }
        let otherwise = if self.skip_word("ELSE") { Some(Box::new(self.expr()?)) } else { None };
        if whens.is_empty() {
            return Err(self.unexpected());
        }
        self.expect_word("END")?;
        Ok(self.make(ExprKind::Case { operand, whens, otherwise }, start))
    }

    fn cast(&mut self, start: usize) -> SqlResult<Expr> {
        self.advance();
        self.expect_op("(")?;
        let inner = self.expr()?;
        self.expect_word("AS")?;
        let ty = self.cast_type()?;
        self.expect_op(")")?;
        Ok(self.make(ExprKind::Cast(Box::new(inner), ty), start))
    }

    fn convert(&mut self, start: usize) -> SqlResult<Expr> {
        self.advance();
        self.expect_op("(")?;
        let inner = Box::new(self.expr()?);
        let kind = if self.skip_word("USING") {
            ExprKind::Using(inner, self.identifier_or_string()?.to_ascii_lowercase())
        } else {
            self.expect_op(",")?;
            ExprKind::Cast(inner, self.cast_type()?)
        };
        self.expect_op(")")?;
        Ok(self.make(kind, start))
    }

    /// INTERVAL as a function: `INTERVAL(a, b, …)`.
    fn is_interval_function(&self) -> bool {
        if !self.is_op_at(1, "(") {
            return false;
        }
        let mut depth = 0;
        for ahead in 1.. {
            match self.peek_ahead(ahead) {
                Tok::Op("(") => depth += 1,
                Tok::Op(")") => depth -= 1,
                Tok::Op(",") if depth == 1 => return true,
                Tok::End => return false,
                _ => {}
            }
            if depth == 0 {
                return false;
            }
        }
        false
    }

    /// `INTERVAL amount unit`.
    fn interval(&mut self) -> SqlResult<Interval> {
        self.expect_word("INTERVAL")?;
        let amount = self.expr()?;
        Ok(Interval { amount, unit: self.unit()? })
    }

    fn unit(&mut self) -> SqlResult<String> {
        let position = self.position();
        let Tok::Word(word) = self.advance() else {
            self.rewind(position);
            return Err(self.unexpected());
        };
        let upper = word.to_ascii_uppercase();
        let upper = upper.strip_prefix("SQL_TSI_").unwrap_or(&upper);
        if UNITS.contains(&upper) {
            return Ok(upper.to_owned());
        }
        self.rewind(position);
        Err(self.unexpected())
    }

    fn function(&mut self, start: usize) -> SqlResult<Expr> {
        let name = self.identifier_after_point()?.to_ascii_lowercase();
        self.expect_op("(")?;
        let mut function = call(&name, Vec::new());
        match name.as_str() {
            "date_add" | "adddate" | "date_sub" | "subdate" => {
                let base = self.expr()?;
                self.expect_op(",")?;
                let minus = name.ends_with("sub") || name == "subdate";
                let interval = if self.is_word("INTERVAL") && !self.is_interval_function() {
                    self.interval()?
                } else {
                    Interval { amount: self.expr()?, unit: "DAY".to_owned() }
                };
                self.expect_op(")")?;
                return Ok(self.make(ExprKind::DateAdd(Box::new(base), Box::new(interval), minus), start));
            }
            "extract" => {
                function.keyword = Some(self.unit()?);
                self.expect_word("FROM")?;
                function.args.push(self.expr()?);
            }
            "timestampdiff" | "timestampadd" => {
                function.keyword = Some(self.unit()?);
                self.expect_op(",")?;
                function.args = self.list(Self::expr)?;
            }
            "trim" => self.trim_args(&mut function)?,
            "substring" | "substr" | "mid" => {
                function.args.push(self.expr()?);
                let from = self.skip_word("FROM");
                if !from {
                    self.expect_op(",")?;
                }
                function.args.push(self.expr()?);
                if if from { self.skip_word("FOR") } else { self.skip_op(",") } {
                    function.args.push(self.expr()?);
                }
            }
            "position" => {
                function.args.push(self.bit_or()?);
                self.expect_word("IN")?;
                function.args.push(self.expr()?);
                function.name = "locate".to_owned();
            }
            "get_format" => {
                function.keyword =
                    self.skip_any(&["DATE", "TIME", "DATETIME", "TIMESTAMP"]).map(str::to_owned);
                self.expect_op(",")?;
                function.args.push(self.expr()?);
            }
            "char" => {
                function.args = self.list(Self::expr)?;
                if self.skip_word("USING") {
                    function.keyword = Some(self.identifier_or_string()?.to_ascii_lowercase());
                }
            }
            "weight_string" => {
                function.args.push(self.expr()?);
                if self.skip_word("AS") {
                    self.cast_type()?;
                }
            }
            _ => self.plain_args(&mut function)?,
        }
        self.expect_op(")")?;
        if self.skip_word("OVER") {
            function.over = Some(self.over()?);
        }
        Ok(self.make(ExprKind::Function(Box::new(function)), start))
    }

    fn plain_args(&mut self, function: &mut Call) -> SqlResult<()> {
        if self.is_op(")") {
            return Ok(());
        }
        if self.is_op("*") && self.is_op_at(1, ")") {
            self.advance();
            function.star = true;
            return Ok(());
        }
        function.distinct = self.skip_any(&["DISTINCT", "DISTINCTROW"]).is_some();
        self.skip_word("ALL");
        function.args = self.list(Self::expr)?;
        if self.skip_words(&["ORDER", "BY"]) {
            function.order_by = self.list(Self::order_item)?;
        }
        if self.skip_word("SEPARATOR") {
            function.separator = Some(self.string()?);
        }
        Ok(())
    }

    fn trim_args(&mut self, function: &mut Call) -> SqlResult<()> {
        function.keyword = self.skip_any(&["LEADING", "TRAILING", "BOTH"]).map(str::to_owned);
        if function.keyword.is_some() && self.skip_word("FROM") {
            function.args.push(self.expr()?);
            return Ok(());
        }
        let first = self.expr()?;
        if self.skip_word("FROM") {
            let text = self.expr()?;
            function.args.extend([first, text]);
        } else {
            function.args.push(first);
        }
        Ok(())
    }

    fn over(&mut self) -> SqlResult<Window> {
        if self.is_op("(") {
            return self.window();
        }
        Ok(Window { name: Some(self.identifier()?), ..Window::default() })
    }

    /// `( [name] [PARTITION BY …] [ORDER BY …] [frame] )`.
    pub(crate) fn window(&mut self) -> SqlResult<Window> {
        self.expect_op("(")?;
        let mut window = Window { name: self.try_identifier(), ..Window::default() };
        if self.skip_words(&["PARTITION", "BY"]) {
            window.partition_by = self.list(Self::expr)?;
        }
        if self.skip_words(&["ORDER", "BY"]) {
            window.order_by = self.list(Self::order_item)?;
        }
        if self.is_any(&["ROWS", "RANGE", "GROUPS"]) {
            let start = self.start();
            while !self.is_op(")") {
                match self.peek() {
                    Tok::Word(_) | Tok::Int(_) | Tok::Decimal(_) => {
                        self.advance();
                    }
                    _ => return Err(self.unexpected()),
                }
            }
            window.frame = Some(self.text[start..self.end()].to_owned());
        }
        self.expect_op(")")?;
        Ok(window)
    }

    /// A term of ORDER BY or GROUP BY.
    pub(crate) fn order_item(&mut self) -> SqlResult<OrderItem> {
        let expr = self.expr()?;
        let descending = self.skip_any(&["ASC", "DESC"]) == Some("DESC");
        Ok(OrderItem { expr, descending })
    }
}

/// How many digits follow the point of a literal time.
pub(crate) fn fraction_digits(text: &str) -> u8 {
    text.split_once('.').map_or(0, |(_, digits)| digits.len().min(6) as u8)
}
