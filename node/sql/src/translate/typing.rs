//! Types of results, and conversions between the forms that values have in SQLite.

use super::binder::Binder;
use super::scope::{Bound, strength};
use crate::collation::Collation;
use crate::types::{ColumnType, IntKind, LobKind, Value};

/// What a type is for comparison and arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Null,
    Int,
    Decimal,
    Double,
    Text,
    Blob,
    Date,
    Time,
    DateTime,
}

/// The class of a type.
pub(crate) fn class(ty: &ColumnType) -> Class {
    match ty {
        ColumnType::Null => Class::Null,
        ColumnType::Int { .. } | ColumnType::Bit(_) | ColumnType::Year => Class::Int,
        ColumnType::Decimal { .. } => Class::Decimal,
        ColumnType::Float { .. } | ColumnType::Double { .. } => Class::Double,
        ColumnType::Binary(_) | ColumnType::VarBinary(_) | ColumnType::Blob(_) => Class::Blob,
        ColumnType::Date => Class::Date,
        ColumnType::Time(_) => Class::Time,
        ColumnType::DateTime(_) | ColumnType::Timestamp(_) => Class::DateTime,
        _ => Class::Text,
    }
}

impl Class {
    pub(crate) fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Decimal | Self::Double)
    }
    pub(crate) fn is_temporal(self) -> bool {
        matches!(self, Self::Date | Self::Time | Self::DateTime)
    }
}

/// Digits of fractions of seconds.
pub(crate) fn fsp(ty: &ColumnType) -> u8 {
    match ty {
        ColumnType::Time(n) | ColumnType::DateTime(n) | ColumnType::Timestamp(n) => *n,
        _ => 0,
    }
}

/// `(precision, scale)` of a number as a decimal.
pub(crate) fn decimal_digits(ty: &ColumnType) -> (u8, u8) {
    match ty {
        ColumnType::Decimal { precision, scale, .. } => (*precision, *scale),
        ColumnType::Int { kind, .. } => (
            match kind {
                IntKind::Tiny => 3,
                IntKind::Small => 5,
                IntKind::Medium => 8,
                IntKind::Int => 10,
                IntKind::Big => 20,
            },
            0,
        ),
        ColumnType::Year => (4, 0),
        ColumnType::Time(n) => (7 + n, *n),
        ColumnType::DateTime(n) | ColumnType::Timestamp(n) => (14 + n, *n),
        ColumnType::Date => (8, 0),
        _ => (20, 0),
    }
}

/// A DECIMAL within MySQL's limits.
pub(crate) fn decimal(precision: u32, scale: u32) -> ColumnType {
    let scale = scale.min(30) as u8;
    ColumnType::Decimal { precision: precision.clamp(1, 65) as u8, scale, unsigned: false }
}

/// A VARCHAR for a result.
pub(crate) fn varchar(length: u32, collation: Collation) -> ColumnType {
    if length > 16_383 {
        return ColumnType::Text { kind: LobKind::Long, collation };
    }
    ColumnType::VarChar { length, collation }
}

/// How many characters a value of a type can have.
pub(crate) fn text_length(ty: &ColumnType) -> u32 {
    match ty {
        ColumnType::Char { length, .. } | ColumnType::VarChar { length, .. } => *length,
        ColumnType::Text { kind, .. } => (kind.max_bytes() / 4).min(u32::MAX as usize) as u32,
        ColumnType::Enum { .. } | ColumnType::Set { .. } => ty.protocol_length() / 4,
        ColumnType::Json => u32::MAX / 4,
        other => other.protocol_length(),
    }
}

impl Binder<'_> {
    /// The collation in which operands are compared or joined.
    pub(crate) fn common_collation(&self, operands: &[&Bound]) -> Collation {
        let mut best: Option<(u8, Collation)> = None;
        for operand in operands {
            let Some(collation) = operand.collation() else { continue };
            best = Some(match best {
                None => (operand.strength, collation),
                Some((strength, _)) if operand.strength < strength => (operand.strength, collation),
                Some((strength, held)) if operand.strength == strength && held != collation => {
                    // Of two that hold equally strongly, a binary one wins, as in MySQL.
                    let binary = collation.name().ends_with("_bin") || collation == Collation::binary();
                    (strength, if binary { collation } else { held })
                }
                Some(held) => held,
            });
        }
        best.map_or(self.collation, |b| b.1)
    }

    /// The type that CASE, IF, COALESCE and UNION give several values.
    pub(crate) fn unify(&self, operands: &[&Bound]) -> ColumnType {
        let known: Vec<&Bound> =
            operands.iter().copied().filter(|b| !matches!(b.ty, ColumnType::Null)).collect();
        let Some(first) = known.first() else { return ColumnType::Null };
        if known.iter().all(|b| b.ty == first.ty) {
            return first.ty.clone();
        }
        let classes: Vec<Class> = known.iter().map(|b| class(&b.ty)).collect();
        if classes.iter().all(|c| *c == Class::Int) {
            return unify_integers(&known);
        }
        if classes.iter().all(|c| matches!(c, Class::Int | Class::Decimal)) {
            let digits = known.iter().map(|b| decimal_digits(&b.ty));
            let (mut whole, mut scale) = (0, 0);
            for (p, s) in digits {
                whole = whole.max(u32::from(p.saturating_sub(s)));
                scale = scale.max(u32::from(s));
            }
            return decimal(whole + scale, scale);
        }
        if classes.iter().all(|c| c.is_number()) {
            return ColumnType::DOUBLE;
        }
        if classes.iter().all(|c| matches!(c, Class::Date | Class::DateTime)) {
            return ColumnType::DateTime(known.iter().map(|b| fsp(&b.ty)).max().unwrap_or(0));
        }
        if classes.iter().all(|c| *c == Class::Time) {
            return ColumnType::Time(known.iter().map(|b| fsp(&b.ty)).max().unwrap_or(0));
        }
        if known.iter().all(|b| matches!(b.ty, ColumnType::Json)) {
            return ColumnType::Json;
        }
        let length = known.iter().map(|b| text_length(&b.ty)).max().unwrap_or(0);
        if classes.contains(&Class::Blob) {
            return if length > 65_535 {
                ColumnType::Blob(LobKind::Long)
            } else {
                ColumnType::VarBinary(length)
            };
        }
        varchar(length, self.common_collation(&known))
    }

    /// The SQL of a value in the form that the type has in SQLite.
    pub(crate) fn in_form(&mut self, bound: &Bound, ty: &ColumnType) -> String {
        let (from, to) = (class(&bound.ty), class(ty));
        let sql = self.sql(bound);
        if from == Class::Null || bound.parameter.is_some() {
            return sql;
        }
        match (from, to) {
            (_, Class::Decimal) if from.is_number() => {
                let scale = decimal_digits(ty).1;
                if from == Class::Decimal && decimal_digits(&bound.ty).1 == scale {
                    return sql;
                }
                format!("dec_cast({sql},65,{scale})")
            }
            (Class::Decimal | Class::Int, Class::Double) => format!("CAST({sql} AS REAL)"),
            (Class::Int, Class::Text) => format!("CAST({sql} AS TEXT)"),
            (Class::Double, Class::Text) => format!("my_text({sql})"),
            (Class::Blob, Class::Text) => format!("my_text({sql})"),
            (Class::Text | Class::Decimal | Class::Int | Class::Double, Class::Blob) => {
                format!("CAST(my_text({sql}) AS BLOB)")
            }
            (Class::Date, Class::DateTime) => format!("to_datetime({sql},{})", fsp(ty)),
            (Class::DateTime, Class::DateTime) if fsp(&bound.ty) != fsp(ty) => {
                format!("to_datetime({sql},{})", fsp(ty))
            }
            (Class::Time, Class::Time) if fsp(&bound.ty) != fsp(ty) => format!("to_time({sql},{})", fsp(ty)),
            _ => sql,
        }
    }

    /// As a number: INTEGER, REAL, or a decimal's text.
    pub(crate) fn number(&mut self, bound: &Bound) -> Bound {
        match class(&bound.ty) {
            Class::Int | Class::Decimal | Class::Double | Class::Null if bound.parameter.is_none() => {
                bound.clone()
            }
            Class::Text | Class::Blob | Class::Null => {
                if let Some(Value::Text(text)) = &bound.literal {
                    return Bound::literal(
                        Value::Double(crate::functions::leading_double(text)),
                        ColumnType::DOUBLE,
                    );
                }
                let sql = self.sql(bound);
                if bound.parameter.is_some() {
                    return Bound::new(format!("CAST({sql} AS NUMERIC)"), ColumnType::DOUBLE);
                }
                if matches!(bound.ty, ColumnType::Enum { .. }) {
                    return self.enum_number(bound);
                }
                Bound::new(format!("my_num({sql})"), ColumnType::DOUBLE)
            }
            Class::Date => {
                let sql = self.sql(bound);
                Bound::new(format!("temporal_number({sql})"), ColumnType::BIGINT)
            }
            _ => {
                let sql = self.sql(bound);
                let digits = u32::from(fsp(&bound.ty));
                if digits == 0 {
                    return Bound::new(format!("temporal_number({sql})"), ColumnType::BIGINT);
                }
                Bound::new(
                    format!("dec_cast(temporal_number({sql}),65,{digits})"),
                    decimal(14 + digits, digits),
                )
            }
        }
    }

    /// ENUM as a number: its place among the labels.
    fn enum_number(&mut self, bound: &Bound) -> Bound {
        let sql = self.sql(bound);
        let ColumnType::Enum { labels, .. } = &bound.ty else { return bound.clone() };
        let cases: Vec<String> = labels
            .iter()
            .enumerate()
            .map(|(n, l)| format!("WHEN {} THEN {}", super::scope::quote_text(l), n + 1))
            .collect();
        Bound::new(format!("(CASE {sql} {} ELSE 0 END)", cases.join(" ")), ColumnType::BIGINT)
    }

    /// As REAL.
    pub(crate) fn double(&mut self, bound: &Bound) -> String {
        let number = self.number(bound);
        let sql = self.sql(&number);
        if class(&number.ty) == Class::Double && number.parameter.is_none() {
            return sql;
        }
        format!("CAST({sql} AS REAL)")
    }

    /// A string result of operands joined together.
    pub(crate) fn text_result(&self, sql: String, length: u32, operands: &[&Bound]) -> Bound {
        let collation = self.common_collation(operands);
        let mut bound = Bound::new(sql, varchar(length, collation));
        bound.strength = operands
            .iter()
            .filter(|b| b.collation().is_some())
            .map(|b| b.strength)
            .min()
            .unwrap_or(strength::LITERAL);
        bound
    }
}

fn unify_integers(known: &[&Bound]) -> ColumnType {
    let unsigned = known.iter().filter(|b| b.ty.is_unsigned()).count();
    if unsigned > 0 && unsigned < known.len() && known.iter().any(|b| is_big_unsigned(&b.ty)) {
        return decimal(20, 0);
    }
    let kind = known
        .iter()
        .map(|b| match b.ty {
            ColumnType::Int { kind, .. } => kind,
            _ => IntKind::Big,
        })
        .max()
        .unwrap_or(IntKind::Big);
    let mixed = unsigned > 0 && unsigned < known.len();
    let kind = if mixed { IntKind::Big } else { kind };
    ColumnType::Int { kind, unsigned: unsigned == known.len(), width: None }
}

fn is_big_unsigned(ty: &ColumnType) -> bool {
    matches!(ty, ColumnType::Int { kind: IntKind::Big, unsigned: true, .. })
}
