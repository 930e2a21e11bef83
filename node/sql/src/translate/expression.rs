//! Expressions: from MySQL's to SQLite's, with types.

use super::ast::{BinaryOp, Expr, ExprKind, Interval};
use super::binder::Binder;
use super::scope::{Bound, quote_text, strength};
use super::typing::{Class, class, decimal, decimal_digits, fsp, text_length, varchar};
use crate::collation::Collation;
use crate::error::{SqlError, SqlResult};
use crate::plan::Scope as VariableScope;
use crate::temporal;
use crate::types::{ColumnType, IntKind, Value};

impl Binder<'_> {
    /// An expression of one column.
    pub(crate) fn expr(&mut self, expr: &Expr) -> SqlResult<Bound> {
        match &expr.kind {
            ExprKind::Null => Ok(Bound::literal(Value::Null, ColumnType::Null)),
            ExprKind::Bool(value) => Ok(Bound::literal(Value::Int(i64::from(*value)), ColumnType::BIGINT)),
            ExprKind::Int(value) => Ok(integer_literal(*value)),
            ExprKind::Decimal(digits) => Ok(decimal_literal(digits)),
            ExprKind::Double(value) => Ok(Bound::literal(Value::Double(*value), ColumnType::DOUBLE)),
            ExprKind::Str(text) => {
                let ty = varchar(text.chars().count() as u32, self.collation);
                Ok(Bound::literal(Value::Text(text.clone()), ty))
            }
            ExprKind::Bytes(bytes) => {
                let ty = ColumnType::VarBinary(bytes.len() as u32);
                Ok(Bound::literal(Value::Bytes(bytes.clone()), ty))
            }
            ExprKind::Temporal(ty, text) => temporal_literal(ty, text),
            ExprKind::Param(n) => {
                let mut bound = Bound::new(String::new(), varchar(255, self.collation));
                bound.parameter = Some(*n);
                Ok(bound)
            }
            ExprKind::Column { qualifier, name } => self.resolve(qualifier, name),
            ExprKind::UserVar(name) => Ok(self.user_variable(name)),
            ExprKind::Assign(name, value) => {
                let bound = self.expr(value)?;
                let sql = self.sql(&bound);
                self.cacheable = false;
                Ok(Bound::new(format!("set_user_variable({},{sql})", quote_text(name)), bound.ty))
            }
            ExprKind::SysVar(scope, name) => self.system_variable(*scope, name),
            ExprKind::Not(inner) => {
                let bound = self.condition(inner)?;
                Ok(Bound::new(format!("(NOT {bound})"), ColumnType::BIGINT))
            }
            ExprKind::Negate(inner) => self.negate(inner),
            ExprKind::BitNot(inner) => {
                let sql = self.bits(inner)?;
                Ok(Bound::new(format!("of_bits(~{sql})"), ColumnType::BIGINT_UNSIGNED))
            }
            ExprKind::Binary(op, left, right) => self.binary(*op, left, right),
            ExprKind::IsNull(inner, not) => {
                let bound = self.expr(inner)?;
                let sql = self.sql(&bound);
                let test = if *not { "IS NOT NULL" } else { "IS NULL" };
                Ok(Bound::new(format!("({sql} {test})"), ColumnType::BIGINT).not_null())
            }
            ExprKind::IsBool(inner, value, not) => {
                let bound = self.condition(inner)?;
                let test = match value {
                    Some(true) => "TRUE",
                    Some(false) => "FALSE",
                    None => "NULL",
                };
                let not = if *not { "NOT " } else { "" };
                Ok(Bound::new(format!("({bound} IS {not}{test})"), ColumnType::BIGINT).not_null())
            }
            ExprKind::In(value, items, not) => self.in_list(value, items, *not),
            ExprKind::InQuery(value, query, not) => self.in_query(value, query, *not),
            ExprKind::Quantified(op, value, all, query) => self.quantified(*op, value, *all, query),
            ExprKind::Between(value, low, high, not) => self.between(value, low, high, *not),
            ExprKind::Like { value, pattern, escape, not } => {
                self.like(value, pattern, escape.as_deref(), *not)
            }
            ExprKind::Regexp(value, pattern, not) => self.regexp(value, pattern, *not),
            ExprKind::Case { operand, whens, otherwise } => {
                self.case(operand.as_deref(), whens, otherwise.as_deref())
            }
            ExprKind::Cast(inner, ty) => {
                let bound = self.expr(inner)?;
                Ok(self.cast(&bound, ty))
            }
            ExprKind::Using(inner, charset) => self.using(inner, charset),
            ExprKind::Collate(inner, name) => self.collate(inner, name),
            ExprKind::Binaried(inner) => {
                let bound = self.expr(inner)?;
                Ok(self.cast(&bound, &ColumnType::VarBinary(text_length(&bound.ty).saturating_mul(4))))
            }
            ExprKind::Function(call) => self.call(call),
            ExprKind::DateAdd(base, interval, minus) => self.date_add(base, interval, *minus),
            ExprKind::Exists(query) => {
                let (sql, _) = self.subquery(query)?;
                Ok(Bound::new(format!("(EXISTS ({sql}))"), ColumnType::BIGINT).not_null())
            }
            ExprKind::Subquery(query) => {
                let (sql, columns) = self.subquery(query)?;
                let [column] = columns.as_slice() else {
                    return Err(SqlError::new(1241, "Operand should contain 1 column(s)"));
                };
                let mut bound = Bound::new(format!("({sql})"), column.ty.clone());
                if bound.collation().is_some() {
                    bound.strength = strength::COLUMN;
                }
                Ok(bound)
            }
            ExprKind::Row(_) => Err(SqlError::new(1241, "Operand should contain 1 column(s)")),
            ExprKind::Values(name) => {
                let ordinal = self.duplicate.as_ref().and_then(|d| d.table.column(name));
                match ordinal {
                    Some(ordinal) => Ok(self.duplicate_bound(ordinal, true)),
                    None if self.duplicate.is_some() => Err(SqlError::unknown_column(name, "field list")),
                    None => Ok(Bound::literal(Value::Null, ColumnType::Null)),
                }
            }
            ExprKind::Default(name) => match name {
                Some(name) => self.default_of(name),
                None => Err(SqlError::new(1064, "DEFAULT is not allowed here")),
            },
        }
    }

    /// An expression used as a truth value.
    pub(crate) fn condition(&mut self, expr: &Expr) -> SqlResult<String> {
        let bound = self.expr(expr)?;
        Ok(self.truth(&bound))
    }

    fn truth(&mut self, bound: &Bound) -> String {
        match class(&bound.ty) {
            Class::Text | Class::Blob if bound.parameter.is_none() => {
                let number = self.number(bound);
                self.sql(&number)
            }
            Class::Date | Class::Time | Class::DateTime => {
                let number = self.number(bound);
                self.sql(&number)
            }
            _ => self.sql(bound),
        }
    }

    /// As 64 bits in a signed integer of SQLite, for bit operators.
    fn bits(&mut self, expr: &Expr) -> SqlResult<String> {
        let bound = self.expr(expr)?;
        let sql = self.sql(&bound);
        let fits = !bound.ty.is_unsigned() || bound.column.is_some();
        Ok(match class(&bound.ty) {
            Class::Int if fits && bound.parameter.is_none() => sql,
            Class::Decimal => format!("cast_int({sql})"),
            _ => format!("to_bits({sql})"),
        })
    }

    fn negate(&mut self, inner: &Expr) -> SqlResult<Bound> {
        if let ExprKind::Int(value) = inner.kind
            && value == 1 << 63
        {
            return Ok(Bound::literal(Value::Int(i64::MIN), ColumnType::BIGINT));
        }
        let bound = self.expr(inner)?;
        let bound = self.number(&bound);
        let literal = match &bound.literal {
            Some(Value::Int(value)) => value.checked_neg().map(Value::Int),
            Some(Value::Double(value)) => Some(Value::Double(-value)),
            Some(Value::Text(digits)) => Some(Value::Text(match digits.strip_prefix('-') {
                Some(rest) => rest.to_owned(),
                None => format!("-{digits}"),
            })),
            _ => None,
        };
        let ty = match &bound.ty {
            ColumnType::Int { .. } | ColumnType::Bit(_) | ColumnType::Year => ColumnType::BIGINT,
            other => other.clone(),
        };
        if let Some(value) = literal {
            return Ok(Bound::literal(value, ty));
        }
        let sql = self.sql(&bound);
        Ok(Bound::new(format!("num_neg({sql})"), ty))
    }

    fn binary(&mut self, op: BinaryOp, left: &Expr, right: &Expr) -> SqlResult<Bound> {
        if op.is_comparison() {
            return self.comparison(op, left, right);
        }
        let joined =
            |l: String, word: &str, r: String| Bound::new(format!("({l} {word} {r})"), ColumnType::BIGINT);
        match op {
            BinaryOp::And | BinaryOp::Or => {
                let l = self.condition(left)?;
                let r = self.condition(right)?;
                Ok(joined(l, if op == BinaryOp::And { "AND" } else { "OR" }, r))
            }
            BinaryOp::Xor => {
                let l = self.condition(left)?;
                let r = self.condition(right)?;
                Ok(Bound::new(format!("((NOT {l}) <> (NOT {r}))"), ColumnType::BIGINT))
            }
            BinaryOp::BitOr | BinaryOp::BitAnd | BinaryOp::ShiftLeft => {
                let small =
                    |expr: &Expr| matches!(expr.kind, ExprKind::Int(value) if i64::try_from(value).is_ok());
                let mask = op == BinaryOp::BitAnd && (small(left) || small(right));
                let (l, r) = (self.bits(left)?, self.bits(right)?);
                let word = match op {
                    BinaryOp::BitOr => "|",
                    BinaryOp::BitAnd => "&",
                    _ => "<<",
                };
                let bits = joined(l, word, r);
                let sql = if mask { bits.sql } else { format!("of_bits({})", bits.sql) };
                Ok(Bound::new(sql, ColumnType::BIGINT_UNSIGNED))
            }
            BinaryOp::BitXor | BinaryOp::ShiftRight => {
                let (l, r) = (self.bits(left)?, self.bits(right)?);
                let name = if op == BinaryOp::BitXor { "bit_xor_of" } else { "shift_right" };
                Ok(Bound::new(format!("of_bits({name}({l},{r}))"), ColumnType::BIGINT_UNSIGNED))
            }
            BinaryOp::Concat => {
                let (l, r) = (self.expr(left)?, self.expr(right)?);
                let sql = format!("my_concat({},{})", self.sql(&l), self.sql(&r));
                let length = text_length(&l.ty).saturating_add(text_length(&r.ty));
                Ok(self.text_result(sql, length, &[&l, &r]))
            }
            _ => {
                let (l, r) = (self.expr(left)?, self.expr(right)?);
                self.arithmetic(op, &l, &r)
            }
        }
    }

    /// `+ - * / DIV %`.
    pub(crate) fn arithmetic(&mut self, op: BinaryOp, left: &Bound, right: &Bound) -> SqlResult<Bound> {
        let mut l = self.number(left);
        let mut r = self.number(right);
        // A parameter counts as what stands beside it.
        if left.parameter.is_some() && class(&r.ty) == Class::Int {
            l.ty = ColumnType::BIGINT;
        }
        if right.parameter.is_some() && class(&l.ty) == Class::Int {
            r.ty = ColumnType::BIGINT;
        }
        let (lc, rc) = (class(&l.ty), class(&r.ty));
        if lc == Class::Null || rc == Class::Null {
            return Ok(Bound::literal(Value::Null, ColumnType::Null));
        }
        let double = lc == Class::Double || rc == Class::Double;
        let parameter = left.parameter.is_some() || right.parameter.is_some();
        let unsigned = l.ty.is_unsigned() || r.ty.is_unsigned();
        let integers = lc == Class::Int && rc == Class::Int;
        let ty = arithmetic_type(op, &l, &r);
        if double && op != BinaryOp::IntegerDivide && !parameter {
            let (a, b) = (self.double(&l), self.double(&r));
            return Ok(Bound::new(
                match op {
                    BinaryOp::Modulo => format!("num_mod({a},{b})"),
                    BinaryOp::Divide => format!("({a} / {b})"),
                    BinaryOp::Add => format!("({a} + {b})"),
                    BinaryOp::Subtract => format!("({a} - {b})"),
                    _ => format!("({a} * {b})"),
                },
                ty,
            ));
        }
        let safe = integers && !parameter && is_small(&l) && is_small(&r);
        let (a, b) = (self.sql(&l), self.sql(&r));
        let sql = match op {
            BinaryOp::Add if safe => format!("({a} + {b})"),
            BinaryOp::Subtract if safe && !unsigned => format!("({a} - {b})"),
            BinaryOp::Multiply if safe => format!("({a} * {b})"),
            BinaryOp::Add => format!("num_add({a},{b})"),
            BinaryOp::Subtract if unsigned && integers => format!("num_sub_unsigned({a},{b})"),
            BinaryOp::Subtract => format!("num_sub({a},{b})"),
            BinaryOp::Multiply => format!("num_mul({a},{b})"),
            BinaryOp::Divide => format!("num_div({a},{b},{})", self.scale(&l).saturating_add(4).min(30)),
            BinaryOp::IntegerDivide => format!("num_idiv({a},{b})"),
            BinaryOp::Modulo if integers && !parameter => format!("({a} % {b})"),
            _ => format!("num_mod({a},{b})"),
        };
        let mut bound = Bound::new(sql, ty);
        let may_be_null = matches!(op, BinaryOp::Divide | BinaryOp::IntegerDivide | BinaryOp::Modulo);
        bound.nullable = l.nullable || r.nullable || may_be_null;
        Ok(bound)
    }

    fn regexp(&mut self, value: &Expr, pattern: &Expr, not: bool) -> SqlResult<Bound> {
        let (value, pattern) = (self.expr(value)?, self.expr(pattern)?);
        let sensitive = class(&value.ty) == Class::Blob
            || class(&pattern.ty) == Class::Blob
            || self
                .common_collation(&[&value, &pattern])
                .sqlite_name()
                .to_ascii_lowercase()
                .starts_with("bin");
        let (v, p) = (self.sql(&value), self.sql(&pattern));
        let sql = format!("my_regexp({v},{p},{})", if sensitive { "'c'" } else { "'i'" });
        let sql = if not { format!("(NOT {sql})") } else { sql };
        Ok(Bound::new(sql, ColumnType::BIGINT))
    }

    fn case(
        &mut self,
        operand: Option<&Expr>,
        whens: &[(Expr, Expr)],
        otherwise: Option<&Expr>,
    ) -> SqlResult<Bound> {
        let operand = operand.map(|o| self.expr(o)).transpose()?;
        let mut tests = Vec::new();
        let mut values = Vec::new();
        for (when, then) in whens {
            tests.push(match &operand {
                Some(operand) => {
                    let when = self.expr(when)?;
                    self.compare_bound(BinaryOp::Equal, operand, &when)?.sql
                }
                None => self.condition(when)?,
            });
            values.push(self.expr(then)?);
        }
        if let Some(otherwise) = otherwise {
            values.push(self.expr(otherwise)?);
        }
        let nullable = otherwise.is_none() || values.iter().any(|v| v.nullable);
        let (ty, forms) = self.common_form(&values);
        let mut sql = "(CASE".to_owned();
        for (test, form) in tests.iter().zip(&forms) {
            sql.push_str(&format!(" WHEN {test} THEN {form}"));
        }
        if otherwise.is_some() {
            sql.push_str(&format!(" ELSE {}", forms[forms.len() - 1]));
        }
        sql.push_str(" END)");
        let mut bound = self.with_strength(Bound::new(sql, ty), &values);
        bound.nullable = nullable;
        Ok(bound)
    }

    /// Gives a result the strength of the strongest of its operands.
    pub(crate) fn with_strength(&self, mut bound: Bound, operands: &[Bound]) -> Bound {
        if bound.collation().is_some() {
            let texts = operands.iter().filter(|b| b.collation().is_some());
            bound.strength = texts.map(|b| b.strength).min().unwrap_or(strength::LITERAL);
        }
        bound
    }

    /// CAST.
    pub(crate) fn cast(&mut self, bound: &Bound, ty: &ColumnType) -> Bound {
        if bound.is_null_literal() {
            return Bound::new("NULL", ty.clone());
        }
        let from = class(&bound.ty);
        let sql = self.sql(bound);
        let known = bound.parameter.is_none();
        let cast = match ty {
            ColumnType::Int { unsigned: false, .. } | ColumnType::Year => match from {
                Class::Int if known && !bound.ty.is_unsigned() => sql,
                Class::Decimal => format!("cast_int({sql})"),
                _ => format!("to_bits({sql})"),
            },
            ColumnType::Int { .. } if from == Class::Decimal => format!("of_bits(cast_int({sql}))"),
            ColumnType::Int { .. } => format!("of_bits(to_bits({sql}))"),
            ColumnType::Decimal { precision, scale, .. } => format!("dec_cast({sql},{precision},{scale})"),
            ColumnType::Double { .. } | ColumnType::Float { .. } => self.double(bound),
            ColumnType::Date => match from {
                Class::Date if known => sql,
                _ => format!("to_date({sql})"),
            },
            ColumnType::DateTime(n) => format!("to_datetime({sql},{n})"),
            ColumnType::Time(n) => format!("to_time({sql},{n})"),
            ColumnType::VarChar { length, .. } => format!("cast_char({sql},{length})"),
            ColumnType::Binary(length) => format!("cast_binary({sql},{length})"),
            ColumnType::VarBinary(_) => match from {
                Class::Blob if known => sql,
                _ => format!("CAST(my_text({sql}) AS BLOB)"),
            },
            ColumnType::Json => format!("json({sql})"),
            _ => match from {
                Class::Text | Class::Decimal if known => sql,
                _ => format!("my_text({sql})"),
            },
        };
        let mut result = Bound::new(cast, ty.clone());
        if result.collation().is_some() {
            // A cast string has the collation of the connection.
            result.strength = strength::COLUMN;
        }
        result.nullable = bound.nullable;
        result
    }

    fn using(&mut self, inner: &Expr, charset: &str) -> SqlResult<Bound> {
        let Some(collation) = Collation::of_charset(charset) else {
            return Err(SqlError::new(1115, format!("Unknown character set: '{charset}'")));
        };
        let bound = self.expr(inner)?;
        if collation == Collation::binary() {
            return Ok(self.cast(&bound, &ColumnType::VarBinary(text_length(&bound.ty).saturating_mul(4))));
        }
        if let Some(Value::Text(_)) = &bound.literal {
            let ty = varchar(text_length(&bound.ty), collation);
            return Ok(Bound { ty, ..bound });
        }
        let length = text_length(&bound.ty);
        let text = self.cast(&bound, &varchar(length.max(16_384), collation));
        Ok(Bound { ty: varchar(length, collation), ..text })
    }

    fn collate(&mut self, inner: &Expr, name: &str) -> SqlResult<Bound> {
        let Some(collation) = Collation::by_name(name) else {
            return Err(SqlError::new(1273, format!("Unknown collation: '{name}'")));
        };
        let mut bound = self.expr(inner)?;
        let length = text_length(&bound.ty);
        if class(&bound.ty) != Class::Text && bound.parameter.is_none() {
            bound = self.cast(&bound, &varchar(16_384, collation));
        }
        // The collation given need not be the column's: SQLite must be told.
        bound.column = None;
        bound.ty = varchar(length, collation);
        bound.strength = strength::EXPLICIT;
        Ok(bound)
    }

    fn date_add(&mut self, base: &Expr, interval: &Interval, minus: bool) -> SqlResult<Bound> {
        let base = self.expr(base)?;
        let amount = self.expr(&interval.amount)?;
        let unit = interval.unit.as_str();
        let of_day = matches!(unit, "DAY" | "WEEK" | "MONTH" | "QUARTER" | "YEAR" | "YEAR_MONTH");
        let micro = unit.contains("MICROSECOND");
        let seconds = unit == "SECOND" && class(&amount.ty) != Class::Int;
        let digits = if micro || seconds { 6 } else { fsp(&base.ty) };
        let (kind, ty) = match class(&base.ty) {
            Class::Date if of_day => ("d".to_owned(), ColumnType::Date),
            Class::Date | Class::DateTime => (digits.to_string(), ColumnType::DateTime(digits)),
            Class::Time if !of_day => (format!("t{digits}"), ColumnType::Time(digits)),
            Class::Time => (digits.to_string(), ColumnType::DateTime(digits)),
            // A string stays one: with a time of day if it or the unit has one.
            _ => (if of_day { "s" } else { "S" }.to_owned(), varchar(29, self.collation)),
        };
        let (base_sql, amount_sql) = (self.sql(&base), self.sql(&amount));
        let sign = if minus { -1 } else { 1 };
        Ok(Bound::new(format!("my_date_add({base_sql},{amount_sql},'{unit}',{sign},'{kind}')"), ty))
    }

    fn user_variable(&mut self, name: &str) -> Bound {
        // Its type is that of its present value, so the translation holds for this time only.
        self.cacheable = false;
        let ty = match self.ctx.session.user_variables.get(name) {
            Some(Value::Int(_)) => ColumnType::BIGINT,
            Some(Value::UInt(_)) => ColumnType::BIGINT_UNSIGNED,
            Some(Value::Double(_)) => ColumnType::DOUBLE,
            Some(Value::Bytes(_)) => ColumnType::Blob(crate::types::LobKind::Long),
            _ => ColumnType::Text { kind: crate::types::LobKind::Long, collation: self.collation },
        };
        let mut bound = Bound::new(format!("user_variable({})", quote_text(name)), ty);
        if bound.collation().is_some() {
            bound.strength = strength::COLUMN;
        }
        bound
    }

    fn system_variable(&mut self, scope: Option<VariableScope>, name: &str) -> SqlResult<Bound> {
        let global = scope == Some(VariableScope::Global);
        let value = if global {
            self.ctx.session.variables.get_global(name)?
        } else {
            self.ctx.session.variables.get(name)?
        };
        let ty = match value {
            Value::Int(_) => ColumnType::BIGINT,
            Value::UInt(_) => ColumnType::BIGINT_UNSIGNED,
            Value::Double(_) => ColumnType::DOUBLE,
            _ => varchar(512, self.collation),
        };
        let scope = if global { "global" } else { "session" };
        let mut bound = Bound::new(format!("system_variable('{scope}',{})", quote_text(name)), ty);
        if bound.collation().is_some() {
            bound.strength = strength::SYSTEM;
        }
        Ok(bound)
    }

    fn default_of(&mut self, name: &str) -> SqlResult<Bound> {
        let bound = self.resolve(&[], name)?;
        let found = self.scopes.iter().rev().flat_map(|s| &s.tables).find_map(|t| {
            let table = t.table.as_ref()?;
            table.column(name).map(|ordinal| table.columns[ordinal].clone())
        });
        let column = match (found, &self.duplicate) {
            (Some(column), _) => column,
            (None, Some(row)) => match row.table.column(name) {
                Some(ordinal) => row.table.columns[ordinal].clone(),
                None => return Err(SqlError::unknown_column(name, "field list")),
            },
            (None, None) => return Err(SqlError::no_default(name)),
        };
        self.default_value(&column, &bound.ty)
    }

    /// The default of a column as an expression.
    pub(crate) fn default_value(
        &mut self,
        column: &crate::catalog::ColumnDef,
        ty: &ColumnType,
    ) -> SqlResult<Bound> {
        use crate::catalog::Default;
        match &column.default {
            None => Err(SqlError::no_default(&column.name)),
            Some(Default::Null) => Ok(Bound::literal(Value::Null, ty.clone())),
            Some(Default::Literal(text)) => {
                let literal = Bound::literal(Value::Text(text.clone()), varchar(16_383, self.collation));
                let target = match ty {
                    ColumnType::Int { .. } | ColumnType::Bit(_) => ColumnType::BIGINT,
                    other => other.clone(),
                };
                Ok(if class(ty) == Class::Text { literal } else { self.cast(&literal, &target) })
            }
            Some(Default::CurrentTimestamp) => {
                Ok(Bound::new(format!("my_now({})", fsp(ty)), ColumnType::DateTime(fsp(ty))))
            }
            Some(Default::Expression(text)) => {
                let expr = super::parse_expression_text(text)?;
                self.expr(&expr)
            }
        }
    }
}

fn integer_literal(value: u64) -> Bound {
    match i64::try_from(value) {
        Ok(value) => Bound::literal(Value::Int(value), ColumnType::BIGINT),
        // SQLite has no such integers.
        Err(_) => Bound::literal(Value::Text(value.to_string()), decimal(20, 0)),
    }
}

fn decimal_literal(digits: &str) -> Bound {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches('0');
    let scale = fraction.len().min(30);
    let shown = if whole.is_empty() { "0" } else { whole };
    let text = if scale == 0 { shown.to_owned() } else { format!("{shown}.{}", &fraction[..scale]) };
    let ty = decimal((whole.len() + scale).max(1) as u32, scale as u32);
    Bound::literal(Value::Text(text), ty)
}

fn temporal_literal(ty: &ColumnType, text: &str) -> SqlResult<Bound> {
    let wrong = |kind: &str| SqlError::new(1525, format!("Incorrect {kind} value: '{text}'"));
    let canonical = match ty {
        ColumnType::Date => temporal::parse_datetime(text).ok_or_else(|| wrong("DATE"))?.date_text(),
        ColumnType::Time(n) => {
            temporal::time_text(temporal::parse_time(text).ok_or_else(|| wrong("TIME"))?, *n)
        }
        other => temporal::parse_datetime(text).ok_or_else(|| wrong("DATETIME"))?.text(fsp(other)),
    };
    Ok(Bound::literal(Value::Text(canonical), ty.clone()))
}

/// True if sums and products of two of these cannot leave 64 bits.
fn is_small(bound: &Bound) -> bool {
    match (&bound.literal, &bound.ty) {
        (Some(Value::Int(value)), _) => value.unsigned_abs() < 1 << 31,
        (None, ColumnType::Int { kind, unsigned, .. }) => {
            *kind < IntKind::Int || (*kind == IntKind::Int && !unsigned)
        }
        (None, ColumnType::Year) => true,
        _ => false,
    }
}

fn arithmetic_type(op: BinaryOp, left: &Bound, right: &Bound) -> ColumnType {
    let (lc, rc) = (class(&left.ty), class(&right.ty));
    let unsigned = left.ty.is_unsigned() || right.ty.is_unsigned();
    let integer = if unsigned { ColumnType::BIGINT_UNSIGNED } else { ColumnType::BIGINT };
    if op == BinaryOp::IntegerDivide {
        return integer;
    }
    if lc == Class::Double || rc == Class::Double {
        return ColumnType::DOUBLE;
    }
    if lc == Class::Int && rc == Class::Int && op != BinaryOp::Divide {
        return integer;
    }
    let digits = |b: &Bound| match &b.literal {
        Some(Value::Int(v)) => (v.unsigned_abs().to_string().len() as u32, 0),
        _ => {
            let (p, s) = decimal_digits(&b.ty);
            (u32::from(p), u32::from(s))
        }
    };
    let ((p1, s1), (p2, s2)) = (digits(left), digits(right));
    let (w1, w2) = (p1.saturating_sub(s1), p2.saturating_sub(s2));
    let scale = s1.max(s2);
    match op {
        BinaryOp::Multiply => decimal(p1 + p2, s1 + s2),
        BinaryOp::Divide => decimal(p1 + s2 + 4, (s1 + 4).min(30)),
        BinaryOp::Modulo => decimal(w1.max(w2) + scale, scale),
        _ => decimal(w1.max(w2) + scale + 1, scale),
    }
}
