//! How a table is read: which index answers which constraints (decided once per prepared statement), and the
//! key ranges that come of it (made once per execution). No SQLite in here.

use crate::catalog::{IndexDef, TableDef};
use crate::collation::decimal_parts;
use crate::convert::rounded_integer;
use crate::encoding::{ROW_INDEX, index_prefix, push_key, successor};
use crate::store::{Key, KeyRange};
use crate::temporal::parse_datetime;
use crate::types::{ColumnType, Storage, Value};

/// A comparison that SQLite offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Eq,
    /// `IS value`: NULL equals NULL.
    Is,
    IsNull,
    Gt,
    Ge,
    Lt,
    Le,
    Limit,
    Offset,
    Other,
}

/// A constraint that SQLite offers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Constraint {
    /// Ordinal of the column; the number of columns for `_k`.
    pub(crate) column: usize,
    pub(crate) op: Op,
    pub(crate) usable: bool,
    /// It compares with the column's own collation.
    pub(crate) same_collation: bool,
    /// It is an IN whose values can be had at once.
    pub(crate) is_in: bool,
}

/// A term of ORDER BY.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OrderTerm {
    pub(crate) column: usize,
    pub(crate) descending: bool,
}

/// What was decided, as 31 bits that SQLite keeps for us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AccessPath {
    /// Ordinal into the table's indexes; `ROWS` for a table with a hidden key.
    pub(crate) index: u8,
    /// How many leading columns are equal to something.
    pub(crate) equal: u8,
    /// 0 none, 1 included, 2 excluded.
    pub(crate) low: u8,
    pub(crate) high: u8,
    pub(crate) descending: bool,
    pub(crate) limit: bool,
    pub(crate) offset: bool,
    /// By `_k`.
    pub(crate) by_key: bool,
    /// The place of the IN among the equal columns, from 1.
    pub(crate) in_place: u8,
    /// Which equal columns may be NULL.
    pub(crate) null_mask: u8,
}

/// The index number of the rows of a table without a primary key.
pub(crate) const ROWS: u8 = u8::MAX;
const MAX_EQUAL: usize = 7;

impl AccessPath {
    pub(crate) fn to_bits(self) -> i32 {
        i32::from(self.index)
            | i32::from(self.equal) << 8
            | i32::from(self.low) << 12
            | i32::from(self.high) << 14
            | i32::from(self.descending) << 16
            | i32::from(self.limit) << 17
            | i32::from(self.offset) << 18
            | i32::from(self.by_key) << 19
            | i32::from(self.in_place) << 20
            | i32::from(self.null_mask & 0x7f) << 24
    }
    pub(crate) fn from_bits(bits: i32) -> Self {
        let field = |shift: i32, mask: i32| (bits >> shift & mask) as u8;
        Self {
            index: field(0, 255),
            equal: field(8, 15),
            low: field(12, 3),
            high: field(14, 3),
            descending: field(16, 1) == 1,
            limit: field(17, 1) == 1,
            offset: field(18, 1) == 1,
            by_key: field(19, 1) == 1,
            in_place: field(20, 15),
            null_mask: field(24, 127),
        }
    }
}

/// A decision for SQLite.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) path: AccessPath,
    /// Which constraints are passed to the scan, in this order.
    pub(crate) arguments: Vec<usize>,
    /// The rows come in the order asked for.
    pub(crate) ordered: bool,
    /// At most one row.
    pub(crate) single: bool,
    pub(crate) cost: f64,
    pub(crate) rows: f64,
    /// For EXPLAIN: the index's name and how it is used.
    pub(crate) label: String,
}

struct Candidate {
    index: u8,
    equal: Vec<usize>,
    low: Option<usize>,
    high: Option<usize>,
    null_mask: u8,
    rows: f64,
    unique: bool,
    ordered: bool,
    descending: bool,
    cost: f64,
}

/// Chooses the cheapest way for the constraints and the order.
pub(crate) fn choose(
    table: &TableDef,
    table_rows: f64,
    constraints: &[Constraint],
    order: &[OrderTerm],
) -> Choice {
    let table_rows = table_rows.max(10.0);
    let key_column = table.columns.len();
    let by_key = constraints.iter().position(|c| c.usable && c.op == Op::Eq && c.column == key_column);
    if let Some(place) = by_key {
        return Choice {
            path: AccessPath { by_key: true, index: ROWS, ..AccessPath::default() },
            arguments: vec![place],
            ordered: !constraints[place].is_in,
            single: !constraints[place].is_in,
            cost: 1.0,
            rows: 1.0,
            label: "row key".to_owned(),
        };
    }
    let primary = table.indexes.iter().position(|i| i.primary);
    let mut best = match primary {
        Some(_) => None,
        None => Some(Candidate {
            index: ROWS,
            equal: Vec::new(),
            low: None,
            high: None,
            null_mask: 0,
            rows: table_rows,
            unique: false,
            ordered: order.is_empty(),
            descending: false,
            cost: table_rows + 4.0 + sort_cost(table_rows, !order.is_empty()),
        }),
    };
    for (place, index) in table.indexes.iter().enumerate().take(usize::from(ROWS)) {
        let candidate = consider(table, index, place as u8, table_rows, constraints, order);
        let helps = index.primary
            || !candidate.equal.is_empty()
            || candidate.low.is_some()
            || candidate.high.is_some()
            || candidate.ordered && !order.is_empty();
        if helps && best.as_ref().is_none_or(|b| candidate.cost < b.cost) {
            best = Some(candidate);
        }
    }
    match best {
        Some(candidate) => finish(table, candidate, constraints, order),
        None => Choice {
            path: AccessPath { index: ROWS, ..AccessPath::default() },
            arguments: Vec::new(),
            ordered: false,
            single: false,
            cost: table_rows,
            rows: table_rows,
            label: "rows".to_owned(),
        },
    }
}

fn sort_cost(rows: f64, needed: bool) -> f64 {
    if needed { rows * rows.max(2.0).log2() * 0.5 } else { 0.0 }
}

fn consider(
    table: &TableDef,
    index: &IndexDef,
    place: u8,
    table_rows: f64,
    constraints: &[Constraint],
    order: &[OrderTerm],
) -> Candidate {
    let mut candidate = Candidate {
        index: place,
        equal: Vec::new(),
        low: None,
        high: None,
        null_mask: 0,
        rows: table_rows,
        unique: false,
        ordered: false,
        descending: false,
        cost: 0.0,
    };
    let usable = |c: &Constraint, column: usize| c.usable && c.column == column && c.same_collation;
    for (k, &column) in index.columns.iter().enumerate().take(MAX_EQUAL) {
        if index.prefixes.get(k).copied().flatten().is_some() {
            break;
        }
        let equal = constraints
            .iter()
            .position(|c| usable(c, column) && matches!(c.op, Op::Eq | Op::Is | Op::IsNull));
        if let Some(found) = equal {
            if constraints[found].op != Op::Eq {
                candidate.null_mask |= 1 << k;
            }
            candidate.equal.push(found);
            candidate.rows = (candidate.rows / if k == 0 { 50.0 } else { 10.0 }).max(1.0);
            continue;
        }
        for (i, c) in constraints.iter().enumerate().filter(|(_, c)| usable(c, column)) {
            match c.op {
                Op::Gt | Op::Ge if candidate.low.is_none() => candidate.low = Some(i),
                Op::Lt | Op::Le if candidate.high.is_none() => candidate.high = Some(i),
                _ => continue,
            }
            candidate.rows = (candidate.rows / 4.0).max(1.0);
        }
        break;
    }
    let whole = candidate.equal.len() == index.columns.len();
    if index.unique && whole && candidate.null_mask == 0 {
        candidate.unique = true;
        candidate.rows = 1.0;
    }
    let any_in = candidate.equal.iter().any(|&i| constraints[i].is_in);
    let (ordered, descending) = order_of(table, index, &candidate, constraints, order);
    candidate.ordered = ordered || candidate.unique && !any_in;
    candidate.descending = descending;
    let reach = if index.primary { 1.0 } else { 3.0 };
    candidate.cost =
        candidate.rows * reach + 4.0 + sort_cost(candidate.rows, !order.is_empty() && !candidate.ordered);
    candidate
}

/// Whether the index gives the order asked for, and whether backwards. A column with an IN is not constant.
fn order_of(
    table: &TableDef,
    index: &IndexDef,
    candidate: &Candidate,
    constraints: &[Constraint],
    order: &[OrderTerm],
) -> (bool, bool) {
    if order.is_empty() {
        return (true, false);
    }
    if index.prefixes.iter().any(Option::is_some) {
        return (false, false);
    }
    let constant: Vec<usize> =
        candidate.equal.iter().filter(|&&i| !constraints[i].is_in).map(|&i| constraints[i].column).collect();
    let mut sequence = index.columns.clone();
    // Entries of a unique index without NULLs do not go on with the primary key, but then they need not.
    if !index.primary
        && !index.unique
        && let Some(primary) = table.primary()
    {
        sequence.extend(&primary.columns);
    }
    let (mut at, mut direction) = (0, None);
    for term in order {
        if constant.contains(&term.column) {
            continue;
        }
        while at < sequence.len() && constant.contains(&sequence[at]) {
            at += 1;
        }
        let expected = *direction.get_or_insert(term.descending);
        if sequence.get(at) != Some(&term.column) || expected != term.descending {
            return (false, false);
        }
        at += 1;
    }
    (true, direction.unwrap_or(false))
}

fn finish(table: &TableDef, candidate: Candidate, constraints: &[Constraint], order: &[OrderTerm]) -> Choice {
    let mut path = AccessPath {
        index: candidate.index,
        equal: candidate.equal.len() as u8,
        descending: candidate.descending && candidate.ordered,
        null_mask: candidate.null_mask,
        ..AccessPath::default()
    };
    let no_range = candidate.low.is_none() && candidate.high.is_none();
    if let Some(&last) = candidate.equal.last()
        && constraints[last].is_in
        && no_range
    {
        path.in_place = path.equal;
    }
    let mut arguments = candidate.equal.clone();
    if let Some(low) = candidate.low {
        arguments.push(low);
        path.low = if constraints[low].op == Op::Ge { 1 } else { 2 };
    }
    if let Some(high) = candidate.high {
        arguments.push(high);
        path.high = if constraints[high].op == Op::Le { 1 } else { 2 };
    }
    let ordered = candidate.ordered;
    // A LIMIT may be taken only if nothing else throws rows away or sorts them afterwards.
    let all_taken = constraints
        .iter()
        .enumerate()
        .all(|(i, c)| matches!(c.op, Op::Limit | Op::Offset) || arguments.contains(&i));
    let first_limit = constraints.iter().position(|c| c.usable && c.op == Op::Limit);
    if let Some(limit) = first_limit
        && all_taken
        && (order.is_empty() || ordered)
    {
        arguments.push(limit);
        path.limit = true;
        if let Some(offset) = constraints.iter().position(|c| c.usable && c.op == Op::Offset) {
            arguments.push(offset);
            path.offset = true;
        }
    }
    let name = table.indexes.get(usize::from(path.index)).map_or("rows", |i| i.name.as_str());
    let label = format!(
        "{name} equal={}{}{}{}{}",
        path.equal,
        if no_range { "" } else { " range" },
        if path.in_place > 0 { " in" } else { "" },
        if ordered && !order.is_empty() { " ordered" } else { "" },
        if path.limit { " limit" } else { "" },
    );
    Choice {
        single: candidate.unique && !candidate.equal.iter().any(|&i| constraints[i].is_in),
        ordered: ordered && !order.is_empty(),
        cost: candidate.cost,
        rows: candidate.rows,
        path,
        arguments,
        label,
    }
}

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    /// One row.
    Point(Key),
    /// Keys of rows or of index entries.
    Range(KeyRange),
}

/// A value of a comparison as the column's type has it.
#[derive(Clone, Debug, PartialEq)]
enum Fit {
    Null,
    Exact(Value),
    /// Between this value and the next.
    Above(Value),
    BelowAll,
    AboveAll,
}

/// An argument of a scan.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Argument {
    One(Value),
    Many(Vec<Value>),
}

fn fit_integer(value: &Value) -> Fit {
    let parts = match value {
        Value::Null => return Fit::Null,
        Value::Int(_) => return Fit::Exact(value.clone()),
        Value::Double(v) if v.is_nan() => return Fit::Null,
        Value::Double(v) => decimal_parts(format!("{v:e}").as_bytes()).0,
        other => decimal_parts(other.display().unwrap_or_default().as_bytes()).0,
    };
    let whole = parts.exponent.max(0) as usize;
    let exact = parts.digits.len() <= whole;
    let mut floor = parts.clone();
    floor.digits.truncate(whole);
    let mut integer = if parts.exponent > 37 { i128::MAX } else { rounded_integer(&floor) };
    if parts.exponent > 37 && parts.negative {
        integer = i128::MIN;
    } else if parts.negative && !exact {
        integer -= 1;
    }
    match i64::try_from(integer) {
        Ok(v) if exact => Fit::Exact(Value::Int(v)),
        Ok(v) => Fit::Above(Value::Int(v)),
        Err(_) if integer < 0 => Fit::BelowAll,
        Err(_) => Fit::AboveAll,
    }
}

fn fit(value: &Value, ty: &ColumnType) -> Fit {
    if value.is_null() {
        return Fit::Null;
    }
    match ty.storage() {
        Storage::Integer => fit_integer(value),
        Storage::Real => match value {
            Value::Text(text) => {
                let number = decimal_parts(text.as_bytes()).0;
                let digits: String = number.digits.iter().map(|d| char::from(b'0' + d)).collect();
                let sign = if number.negative { "-" } else { "" };
                Fit::Exact(Value::Double(
                    format!("{sign}0.{digits}0e{}", number.exponent).parse().unwrap_or(0.0),
                ))
            }
            other => Fit::Exact(other.clone()),
        },
        Storage::Decimal | Storage::Blob => Fit::Exact(value.clone()),
        Storage::Text => match (ty, value) {
            (ColumnType::Date | ColumnType::DateTime(_) | ColumnType::Timestamp(_), Value::Text(text)) => {
                Fit::Exact(Value::Text(canonical_datetime(text, ty)))
            }
            _ => Fit::Exact(value.clone()),
        },
    }
}

/// A date as a column of the type would have it, where it can; otherwise as it sorts among the column's.
fn canonical_datetime(text: &str, ty: &ColumnType) -> String {
    let Some(parsed) = parse_datetime(text) else { return text.to_owned() };
    let midnight = parsed.hour == 0 && parsed.minute == 0 && parsed.second == 0 && parsed.micros == 0;
    match ty {
        ColumnType::Date if midnight => parsed.date_text(),
        ColumnType::DateTime(fsp) | ColumnType::Timestamp(fsp) if parsed.round(*fsp) == parsed => {
            parsed.text(*fsp)
        }
        _ => parsed.text(if parsed.micros == 0 { 0 } else { 6 }),
    }
}

/// The spans that a path and its arguments (without LIMIT and OFFSET) stand for, in the order to read them.
pub(crate) fn spans(table: &TableDef, path: AccessPath, arguments: &[Argument]) -> Vec<Span> {
    if path.by_key {
        return match arguments.first() {
            Some(Argument::One(Value::Bytes(key))) => vec![Span::Point(Key::copy_from_slice(key))],
            _ => Vec::new(),
        };
    }
    let Some(index) = table.indexes.get(usize::from(path.index)) else {
        return span_of_prefix(index_prefix(table.id, ROW_INDEX), false).into_iter().collect();
    };
    let id = if index.primary { ROW_INDEX } else { index.id };
    let equal = usize::from(path.equal);
    let mut prefixes = vec![index_prefix(table.id, id)];
    for place in 0..equal {
        let ty = &table.columns[index.columns[place]].ty;
        let nullable = path.null_mask >> place & 1 == 1;
        match arguments.get(place) {
            Some(Argument::One(value)) => {
                if !push_equal(value, ty, nullable, &mut prefixes[0]) {
                    return Vec::new();
                }
            }
            Some(Argument::Many(values)) => {
                let base = prefixes.swap_remove(0);
                for value in values {
                    let mut one = base.clone();
                    if push_equal(value, ty, false, &mut one) {
                        prefixes.push(one);
                    }
                }
                prefixes.sort();
                prefixes.dedup();
            }
            None => return Vec::new(),
        }
    }
    if path.low == 0 && path.high == 0 {
        let point = index.primary && equal == index.columns.len();
        let mut all: Vec<Span> = prefixes.into_iter().filter_map(|p| span_of_prefix(p, point)).collect();
        if path.descending {
            all.reverse();
        }
        return all;
    }
    let ty = &table.columns[index.columns[equal]].ty;
    bounded(&prefixes[0], ty, path, &arguments[equal..]).into_iter().collect()
}

fn span_of_prefix(prefix: Vec<u8>, point: bool) -> Option<Span> {
    if point {
        return Some(Span::Point(prefix.into()));
    }
    Some(Span::Range(crate::encoding::prefix_range(prefix)))
}

fn push_equal(value: &Value, ty: &ColumnType, nullable: bool, key: &mut Vec<u8>) -> bool {
    match fit(value, ty) {
        Fit::Null if nullable => push_key(&Value::Null, ty, None, key),
        Fit::Exact(value) => push_key(&value, ty, None, key),
        Fit::Null | Fit::Above(_) | Fit::BelowAll | Fit::AboveAll => return false,
    }
    true
}

fn bounded(prefix: &[u8], ty: &ColumnType, path: AccessPath, arguments: &[Argument]) -> Option<Span> {
    let with = |value: &Value| {
        let mut key = prefix.to_vec();
        push_key(value, ty, None, &mut key);
        key
    };
    let one = |place: usize| match arguments.get(place) {
        Some(Argument::One(value)) => fit(value, ty),
        _ => Fit::Null,
    };
    let mut not_null = prefix.to_vec();
    not_null.push(1);
    let start = match path.low {
        0 => not_null,
        included => match one(0) {
            Fit::Null | Fit::AboveAll => return None,
            Fit::BelowAll => not_null,
            Fit::Exact(value) if included == 1 => with(&value),
            Fit::Exact(value) | Fit::Above(value) => successor(&with(&value))?,
        },
    };
    let end = match path.high {
        0 => successor(prefix),
        included => match one(usize::from(path.low != 0)) {
            Fit::Null | Fit::BelowAll => return None,
            Fit::AboveAll => successor(prefix),
            Fit::Exact(value) if included != 1 => Some(with(&value)),
            Fit::Exact(value) | Fit::Above(value) => successor(&with(&value)),
        },
    };
    if end.as_ref().is_some_and(|end| *end <= start) {
        return None;
    }
    Some(Span::Range(KeyRange { start: start.into(), end: end.map(Key::from) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_survives_its_bits() {
        let path = AccessPath {
            index: 3,
            equal: 2,
            low: 1,
            high: 2,
            descending: true,
            limit: true,
            offset: true,
            by_key: false,
            in_place: 2,
            null_mask: 5,
        };
        assert_eq!(AccessPath::from_bits(path.to_bits()), path);
    }

    #[test]
    fn numbers_that_no_integer_equals_bound_a_range_from_the_right_side() {
        assert_eq!(fit_integer(&Value::Double(1.5)), Fit::Above(Value::Int(1)));
        assert_eq!(fit_integer(&Value::Double(-1.5)), Fit::Above(Value::Int(-2)));
        assert_eq!(fit_integer(&Value::Double(-0.5)), Fit::Above(Value::Int(-1)));
        assert_eq!(fit_integer(&Value::Text("15e2".into())), Fit::Exact(Value::Int(1500)));
        assert_eq!(fit_integer(&Value::Double(1e30)), Fit::AboveAll);
        assert_eq!(fit_integer(&Value::Double(-1e30)), Fit::BelowAll);
        assert_eq!(fit_integer(&Value::Double(0.0)), Fit::Exact(Value::Int(0)));
    }
}
