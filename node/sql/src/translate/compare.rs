//! Comparisons: which form and collation both sides take.

use super::ast::{BinaryOp, Expr, ExprKind};
use super::binder::Binder;
use super::scope::{Bound, quote_text};
use super::typing::{Class, class, decimal_digits, fsp};
use crate::error::{SqlError, SqlResult};
use crate::temporal;
use crate::types::{ColumnType, Value};

impl Binder<'_> {
    /// The SQL of both sides, ready to be compared by any of SQLite's operators; the left side carries the
    /// collation where one must be named.
    pub(crate) fn comparable(&mut self, left: &Bound, right: &Bound) -> SqlResult<(String, String)> {
        let (l, r) = (class(&left.ty), class(&right.ty));
        if left.parameter.is_some() || right.parameter.is_some() {
            return Ok(self.compare_with_parameter(left, right));
        }
        match (l, r) {
            (Class::Null, _) | (_, Class::Null) => Ok((self.sql(left), self.sql(right))),
            (Class::Text, Class::Text) => {
                let wanted = self.common_collation(&[left, right]).sqlite_name();
                Ok(self.collated(left, right, wanted))
            }
            (Class::Blob, _) | (_, Class::Blob) if !l.is_number() && !r.is_number() => {
                Ok((self.as_blob(left), self.as_blob(right)))
            }
            (Class::Int, Class::Text) | (Class::Text, Class::Int) if self.is_enum(left, right) => {
                let (left, right) = (self.number(left), self.number(right));
                Ok((self.sql(&left), self.sql(&right)))
            }
            _ if l.is_number() && r.is_number() => Ok(self.compare_numbers(left, right)),
            _ if l.is_temporal() || r.is_temporal() => self.compare_temporal(left, right),
            _ => {
                let (left, right) = (self.text_as_number(left, right), self.text_as_number(right, left));
                Ok(self.compare_numbers(&left, &right))
            }
        }
    }

    fn is_enum(&self, left: &Bound, right: &Bound) -> bool {
        [left, right].iter().any(|b| matches!(b.ty, ColumnType::Enum { .. }))
    }

    fn collated(&mut self, left: &Bound, right: &Bound, wanted: &str) -> (String, String) {
        let implied = left.implied_collation().or_else(|| right.implied_collation()).unwrap_or("BINARY");
        let (mut l, r) = (self.sql(left), self.sql(right));
        if implied != wanted {
            l = format!("({l} COLLATE {wanted})");
        }
        (l, r)
    }

    fn as_blob(&mut self, bound: &Bound) -> String {
        match (class(&bound.ty), &bound.literal) {
            (Class::Blob, _) => self.sql(bound),
            (_, Some(Value::Text(text))) => {
                let bytes = Bound::literal(Value::Bytes(text.clone().into_bytes()), ColumnType::VarBinary(0));
                self.sql(&bytes)
            }
            _ => {
                let sql = self.sql(bound);
                format!("CAST(my_text({sql}) AS BLOB)")
            }
        }
    }

    fn compare_numbers(&mut self, left: &Bound, right: &Bound) -> (String, String) {
        let (l, r) = (class(&left.ty), class(&right.ty));
        if l != Class::Decimal && r != Class::Decimal {
            return (self.sql(left), self.sql(right));
        }
        if l == Class::Double || r == Class::Double {
            return (self.double(left), self.double(right));
        }
        // An integer column and a literal with a point: as doubles, so that an index can be used.
        if l == Class::Int && right.literal.is_some() {
            return (self.sql(left), self.double(right));
        }
        if r == Class::Int && left.literal.is_some() {
            return (self.double(left), self.sql(right));
        }
        let mut left = left.clone();
        let mut right = right.clone();
        for side in [&mut left, &mut right] {
            match (&side.literal, class(&side.ty)) {
                (Some(Value::Int(value)), _) => side.literal = Some(Value::Text(value.to_string())),
                (None, Class::Int) => {
                    side.sql = format!("CAST({} AS TEXT)", side.sql);
                    side.column = None;
                }
                _ => {}
            }
        }
        self.collated(&left, &right, "dec")
    }

    /// A string beside a number.
    fn text_as_number(&mut self, bound: &Bound, other: &Bound) -> Bound {
        if class(&bound.ty).is_number() {
            return bound.clone();
        }
        if let Some(Value::Text(text)) = &bound.literal {
            if let Ok(value) = text.trim().parse::<i64>() {
                return Bound::literal(Value::Int(value), ColumnType::BIGINT);
            }
            let point = text.trim().trim_start_matches('-').bytes().all(|b| b.is_ascii_digit() || b == b'.');
            if point && class(&other.ty) == Class::Decimal && text.trim().parse::<f64>().is_ok() {
                let ty = ColumnType::Decimal { precision: 65, scale: 30, unsigned: false };
                return Bound::literal(Value::Text(text.trim().to_owned()), ty);
            }
        }
        self.number(bound)
    }

    fn compare_with_parameter(&mut self, left: &Bound, right: &Bound) -> (String, String) {
        let (parameter, other, swapped) =
            if left.parameter.is_some() { (left, right, true) } else { (right, left, false) };
        let value = self.sql(parameter);
        let mut typed = self.sql(other);
        let plain = other.column.is_some();
        let value = match class(&other.ty) {
            Class::Int | Class::Double if !plain => format!("CAST({value} AS NUMERIC)"),
            Class::Decimal => {
                if !plain {
                    typed = format!("({typed} COLLATE dec)");
                }
                format!("CAST({value} AS TEXT)")
            }
            Class::Blob => format!("CAST({value} AS BLOB)"),
            Class::Date | Class::DateTime => {
                // A date beside a value that may have a time of day: compared as what the column is, if it can.
                let name = if class(&other.ty) == Class::Date { "date_operand" } else { "datetime_operand" };
                format!("{name}({value},{})", fsp(&other.ty))
            }
            Class::Time => {
                if !plain {
                    typed = format!("({typed} COLLATE time)");
                }
                format!("to_time({value},{})", fsp(&other.ty))
            }
            Class::Text => {
                let wanted = self.common_collation(&[other]).sqlite_name();
                if other.parameter.is_some() || other.implied_collation() != Some(wanted) {
                    typed = format!("({typed} COLLATE {wanted})");
                }
                if plain { value } else { format!("my_text({value})") }
            }
            _ => value,
        };
        if swapped { (value, typed) } else { (typed, value) }
    }

    fn compare_temporal(&mut self, left: &Bound, right: &Bound) -> SqlResult<(String, String)> {
        let (l, r) = (class(&left.ty), class(&right.ty));
        if !l.is_temporal() {
            let (r, l) = self.compare_temporal(right, left)?;
            return Ok((l, r));
        }
        if l == Class::Time && (r == Class::Time || r == Class::Text) {
            let digits = fsp(&left.ty).max(fsp(&right.ty));
            let ty = ColumnType::Time(digits);
            let right_sql = if r == Class::Time {
                self.in_form(right, &ty)
            } else {
                let sql = self.sql(right);
                format!("to_time({sql},{digits})")
            };
            let unchanged = fsp(&left.ty) == digits;
            let left_sql = self.in_form(left, &ty);
            let implied = unchanged && left.column.is_some();
            return Ok((if implied { left_sql } else { format!("({left_sql} COLLATE time)") }, right_sql));
        }
        match r {
            Class::Text => self.compare_with_text(left, right),
            Class::Date | Class::DateTime | Class::Time => Ok(self.compare_dates(left, right)),
            _ => {
                let digits = match &right.literal {
                    Some(Value::Int(number)) => temporal::parse_datetime(&number.to_string()),
                    _ => None,
                };
                if let Some(parsed) = digits {
                    let text = Bound::literal(Value::Text(parsed.text(0)), ColumnType::varchar(19));
                    return self.compare_with_text(left, &text);
                }
                let left = self.number(left);
                let right = self.number(right);
                Ok(self.compare_numbers(&left, &right))
            }
        }
    }

    fn compare_with_text(&mut self, left: &Bound, right: &Bound) -> SqlResult<(String, String)> {
        let digits = fsp(&left.ty);
        let date = class(&left.ty) == Class::Date;
        if let Some(Value::Text(text)) = &right.literal {
            let Some(parsed) = temporal::parse_datetime(text) else {
                let kind = if date { "DATE" } else { "DATETIME" };
                return Err(SqlError::new(1525, format!("Incorrect {kind} value: '{text}'")));
            };
            let midnight = parsed.hour == 0 && parsed.minute == 0 && parsed.second == 0 && parsed.micros == 0;
            if date && midnight {
                let left_sql = self.sql(left);
                return Ok((left_sql, self.constant_text(parsed.date_text())));
            }
            if !date && parsed.round(digits).micros == parsed.micros {
                let left_sql = self.sql(left);
                return Ok((left_sql, self.constant_text(parsed.text(digits))));
            }
            let left_sql = self.in_form(left, &ColumnType::DateTime(6));
            return Ok((left_sql, self.constant_text(parsed.text(6))));
        }
        let left_sql = self.in_form(left, &ColumnType::DateTime(6));
        let right_sql = self.sql(right);
        Ok((left_sql, format!("to_datetime({right_sql},6)")))
    }

    fn constant_text(&mut self, text: String) -> String {
        self.sql(&Bound::literal(Value::Text(text), ColumnType::varchar(26)))
    }

    fn compare_dates(&mut self, left: &Bound, right: &Bound) -> (String, String) {
        if class(&left.ty) == class(&right.ty) && fsp(&left.ty) == fsp(&right.ty) {
            return (self.sql(left), self.sql(right));
        }
        let ty = ColumnType::DateTime(fsp(&left.ty).max(fsp(&right.ty)));
        let side = |binder: &mut Self, bound: &Bound| {
            if class(&bound.ty) == Class::Time {
                let sql = binder.sql(bound);
                return format!("to_datetime({sql},{})", fsp(&ty));
            }
            binder.in_form(bound, &ty)
        };
        (side(self, left), side(self, right))
    }

    /// `left op right` for operands or rows.
    pub(crate) fn comparison(&mut self, op: BinaryOp, left: &Expr, right: &Expr) -> SqlResult<Bound> {
        if let (ExprKind::Row(l), ExprKind::Row(r)) = (&left.kind, &right.kind) {
            if l.len() != r.len() {
                return Err(SqlError::new(1241, format!("Operand should contain {} column(s)", l.len())));
            }
            return self.compare_rows(op, l, r);
        }
        if let ExprKind::Row(items) = &left.kind {
            return self.row_with_query(op, items, right);
        }
        let (left, right) = (self.expr(left)?, self.expr(right)?);
        self.compare_bound(op, &left, &right)
    }

    /// `left op right` of bound operands.
    pub(crate) fn compare_bound(&mut self, op: BinaryOp, left: &Bound, right: &Bound) -> SqlResult<Bound> {
        let (l, r) = self.comparable(left, right)?;
        let sign = match op {
            BinaryOp::Equal => "=",
            BinaryOp::NullSafeEqual => "IS",
            BinaryOp::NotEqual => "<>",
            BinaryOp::Less => "<",
            BinaryOp::LessEqual => "<=",
            BinaryOp::Greater => ">",
            _ => ">=",
        };
        let mut bound = Bound::new(format!("({l} {sign} {r})"), ColumnType::BIGINT);
        bound.nullable = op != BinaryOp::NullSafeEqual && (left.nullable || right.nullable);
        Ok(bound)
    }

    fn compare_rows(&mut self, op: BinaryOp, left: &[Expr], right: &[Expr]) -> SqlResult<Bound> {
        let mut parts = Vec::new();
        match op {
            BinaryOp::Equal | BinaryOp::NullSafeEqual => {
                for (l, r) in left.iter().zip(right) {
                    parts.push(self.comparison(op, l, r)?.sql);
                }
                Ok(Bound::new(format!("({})", parts.join(" AND ")), ColumnType::BIGINT))
            }
            BinaryOp::NotEqual => {
                for (l, r) in left.iter().zip(right) {
                    parts.push(self.comparison(op, l, r)?.sql);
                }
                Ok(Bound::new(format!("({})", parts.join(" OR ")), ColumnType::BIGINT))
            }
            _ => {
                // (a, b) < (c, d)  is  a < c OR (a = c AND b < d)
                let strict = match op {
                    BinaryOp::LessEqual => BinaryOp::Less,
                    BinaryOp::GreaterEqual => BinaryOp::Greater,
                    other => other,
                };
                let last = left.len() - 1;
                for at in 0..left.len() {
                    let mut terms = Vec::new();
                    for before in 0..at {
                        terms.push(self.comparison(BinaryOp::Equal, &left[before], &right[before])?.sql);
                    }
                    let here = if at == last { op } else { strict };
                    terms.push(self.comparison(here, &left[at], &right[at])?.sql);
                    parts.push(format!("({})", terms.join(" AND ")));
                }
                Ok(Bound::new(format!("({})", parts.join(" OR ")), ColumnType::BIGINT))
            }
        }
    }

    fn row_with_query(&mut self, op: BinaryOp, items: &[Expr], right: &Expr) -> SqlResult<Bound> {
        let ExprKind::Subquery(query) = &right.kind else {
            return Err(SqlError::new(1241, format!("Operand should contain {} column(s)", items.len())));
        };
        if op != BinaryOp::Equal {
            return Err(SqlError::unsupported("comparison of a row with a subquery other than ="));
        }
        self.in_query_rows(items, query, false)
    }

    /// `(a, b) IN (SELECT …)`.
    pub(crate) fn in_query_rows(
        &mut self,
        items: &[Expr],
        query: &super::ast::Query,
        not: bool,
    ) -> SqlResult<Bound> {
        let (sql, columns) = self.subquery(query)?;
        if columns.len() != items.len() {
            return Err(SqlError::new(1241, format!("Operand should contain {} column(s)", items.len())));
        }
        let alias = self.new_alias("s");
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for (n, (item, column)) in items.iter().zip(&columns).enumerate() {
            let bound = self.expr(item)?;
            let other = Bound::new(format!("{alias}.c{n}"), column.ty.clone());
            let (l, r) = self.comparable(&bound, &other)?;
            left.push(l);
            right.push(r);
        }
        let not = if not { "NOT " } else { "" };
        let (left, right) = (left.join(","), right.join(","));
        Ok(Bound::new(
            format!("(({left}) {not}IN (SELECT {right} FROM ({sql}) AS {alias}))"),
            ColumnType::BIGINT,
        ))
    }

    /// `x IN (a, b, …)`.
    pub(crate) fn in_list(&mut self, value: &Expr, items: &[Expr], not: bool) -> SqlResult<Bound> {
        let prefix = if not { "NOT " } else { "" };
        if matches!(value.kind, ExprKind::Row(_)) {
            let mut parts = Vec::new();
            for item in items {
                parts.push(self.comparison(BinaryOp::Equal, value, item)?.sql);
            }
            return Ok(Bound::new(format!("({prefix}({}))", parts.join(" OR ")), ColumnType::BIGINT));
        }
        let left = self.expr(value)?;
        let mut pairs = Vec::with_capacity(items.len());
        for item in items {
            let item = self.expr(item)?;
            pairs.push(self.comparable(&left, &item)?);
        }
        let same = pairs.iter().filter(|p| p.1 != "NULL").all(|p| p.0 == pairs[0].0);
        let sql = if same {
            let list: Vec<&str> = pairs.iter().map(|p| p.1.as_str()).collect();
            format!("({} {prefix}IN ({}))", pairs[0].0, list.join(","))
        } else {
            let list: Vec<String> = pairs.iter().map(|(l, r)| format!("({l} = {r})")).collect();
            format!("({prefix}({}))", list.join(" OR "))
        };
        Ok(Bound::new(sql, ColumnType::BIGINT))
    }

    /// `x IN (SELECT …)`.
    pub(crate) fn in_query(
        &mut self,
        value: &Expr,
        query: &super::ast::Query,
        not: bool,
    ) -> SqlResult<Bound> {
        if let ExprKind::Row(items) = &value.kind {
            return self.in_query_rows(items, query, not);
        }
        let left = self.expr(value)?;
        let (sql, columns) = self.subquery(query)?;
        if columns.len() != 1 {
            return Err(SqlError::new(1241, "Operand should contain 1 column(s)"));
        }
        let alias = self.new_alias("s");
        let name = format!("{alias}.c0");
        let (l, r) = self.comparable(&left, &Bound::new(name.clone(), columns[0].ty.clone()))?;
        let prefix = if not { "NOT " } else { "" };
        let list = if r == name { sql } else { format!("SELECT {r} FROM ({sql}) AS {alias}") };
        Ok(Bound::new(format!("({l} {prefix}IN ({list}))"), ColumnType::BIGINT))
    }

    /// `x op ALL (SELECT …)`, `x op ANY (SELECT …)`.
    pub(crate) fn quantified(
        &mut self,
        op: BinaryOp,
        value: &Expr,
        all: bool,
        query: &super::ast::Query,
    ) -> SqlResult<Bound> {
        match (op, all) {
            (BinaryOp::Equal, false) => return self.in_query(value, query, false),
            (BinaryOp::NotEqual, true) => return self.in_query(value, query, true),
            _ => {}
        }
        let left = self.expr(value)?;
        let (sql, columns) = self.subquery(query)?;
        let [column] = columns.as_slice() else {
            return Err(SqlError::new(1241, "Operand should contain 1 column(s)"));
        };
        let alias = self.new_alias("s");
        let other = Bound::new(format!("{alias}.c0"), column.ty.clone());
        let test = self.compare_bound(op, &left, &other)?.sql;
        let sql = if all {
            format!("(NOT EXISTS (SELECT 1 FROM ({sql}) AS {alias} WHERE {test} IS NOT 1))")
        } else {
            format!("(EXISTS (SELECT 1 FROM ({sql}) AS {alias} WHERE {test}))")
        };
        Ok(Bound::new(sql, ColumnType::BIGINT))
    }

    /// `x BETWEEN a AND b`.
    pub(crate) fn between(&mut self, value: &Expr, low: &Expr, high: &Expr, not: bool) -> SqlResult<Bound> {
        let (value, low, high) = (self.expr(value)?, self.expr(low)?, self.expr(high)?);
        let (l1, low_sql) = self.comparable(&value, &low)?;
        let (l2, high_sql) = self.comparable(&value, &high)?;
        let prefix = if not { "NOT " } else { "" };
        let sql = if l1 == l2 {
            format!("({l1} {prefix}BETWEEN {low_sql} AND {high_sql})")
        } else {
            format!("({prefix}({l1} >= {low_sql} AND {l2} <= {high_sql}))")
        };
        let mut bound = Bound::new(sql, ColumnType::BIGINT);
        bound.nullable = value.nullable || low.nullable || high.nullable;
        Ok(bound)
    }

    /// LIKE.
    pub(crate) fn like(
        &mut self,
        value: &Expr,
        pattern: &Expr,
        escape: Option<&Expr>,
        not: bool,
    ) -> SqlResult<Bound> {
        let (value, pattern) = (self.expr(value)?, self.expr(pattern)?);
        let binary = class(&value.ty) == Class::Blob || class(&pattern.ty) == Class::Blob;
        let wanted = self.common_collation(&[&value, &pattern]).sqlite_name();
        let collation = if binary { "BINARY" } else { wanted };
        let escape = match escape {
            Some(escape) => {
                let bound = self.expr(escape)?;
                self.sql(&bound)
            }
            None => "'\\'".to_owned(),
        };
        let (value_sql, pattern_sql) = (self.sql(&value), self.sql(&pattern));
        let mut sql = format!("my_like({value_sql},{pattern_sql},{escape},{})", quote_text(collation));
        if not {
            sql = format!("(NOT {sql})");
        } else if let (Some(_), Some(Value::Text(text)), Class::Text, "'\\'") =
            (&value.column, &pattern.literal, class(&value.ty), escape.as_str())
            && value.implied_collation() == Some(collation)
        {
            // A fixed beginning lets an index be used.
            let fixed: String = text.chars().take_while(|c| !matches!(c, '%' | '_' | '\\')).collect();
            if !fixed.is_empty() && fixed.chars().all(char::is_alphanumeric) {
                let low = self.constant_text(fixed.clone());
                let high = self.constant_text(format!("{fixed}\u{10FFFF}"));
                sql = format!("({value_sql} >= {low} AND {value_sql} < {high} AND {sql})");
            }
        }
        let mut bound = Bound::new(sql, ColumnType::BIGINT);
        bound.nullable = value.nullable || pattern.nullable;
        Ok(bound)
    }

    /// Two operands in a form and collation in which SQLite's own functions compare them right (GREATEST,
    /// NULLIF, CASE): the type both take.
    pub(crate) fn common_form(&mut self, operands: &[Bound]) -> (ColumnType, Vec<String>) {
        let refs: Vec<&Bound> = operands.iter().collect();
        let ty = self.unify(&refs);
        let forms = operands.iter().map(|b| self.in_form(b, &ty)).collect();
        (ty, forms)
    }

    /// ` COLLATE x` for results of a type that is not compared as bytes.
    pub(crate) fn collate_suffix(&self, bound: &Bound) -> String {
        let wanted = bound.ty.sqlite_collation();
        if wanted == "BINARY" || bound.implied_collation() == Some(wanted) {
            return String::new();
        }
        format!(" COLLATE {wanted}")
    }

    /// The scale of a number, for results that keep it.
    pub(crate) fn scale(&self, bound: &Bound) -> u8 {
        decimal_digits(&bound.ty).1
    }
}
