//! Aggregates: exact sums, and what SQLite has no counterpart of.

use std::collections::HashSet;

use super::number::{Number, decimal_text, parse_decimal, rescale};
use super::raw::{Aggregate, Arg, Args, MakeAggregate, Out};
use super::text::comparison_of;
use crate::collation::push_weights;
use crate::context::{Context, Level};
use crate::error::{SqlError, SqlResult};

/// `(name, arguments, state)`.
pub(super) const AGGREGATES: &[(&str, std::ffi::c_int, MakeAggregate)] = &[
    ("my_sum", 1, || Box::new(Sum::default())),
    ("my_average", 1, || Box::new(Average::default())),
    ("my_sum_real", 1, || Box::new(RealSum { average: false, ..RealSum::default() })),
    ("my_avg_real", 1, || Box::new(RealSum { average: true, ..RealSum::default() })),
    ("my_bit_and", 1, || Box::new(Bits { value: -1, merge: |a, b| a & b })),
    ("my_bit_or", 1, || Box::new(Bits { value: 0, merge: |a, b| a | b })),
    ("my_bit_xor", 1, || Box::new(Bits { value: 0, merge: |a, b| a ^ b })),
    ("my_stddev_pop", 1, || Box::new(Spread { root: true, ..Spread::default() })),
    ("my_stddev_samp", 1, || Box::new(Spread { root: true, sample: true, ..Spread::default() })),
    ("my_var_pop", 1, || Box::new(Spread::default())),
    ("my_var_samp", 1, || Box::new(Spread { sample: true, ..Spread::default() })),
    ("my_any_value", 1, || Box::new(AnyValue(None))),
    ("my_group_concat", 3, || Box::new(GroupConcat::default())),
];

fn out_of_range() -> SqlError {
    SqlError::value_out_of_range("DECIMAL", "the sum")
}

/// An exact sum of integers and decimals.
#[derive(Default)]
struct Sum {
    total: i128,
    scale: u32,
    count: u64,
}

impl Sum {
    fn add(&mut self, arg: Arg<'_>) -> SqlResult<()> {
        let (value, scale) = match Number::of(arg) {
            None => return Ok(()),
            Some(Number::Int(value)) => (i128::from(value), 0),
            Some(Number::Dec(value, scale)) => (value, scale),
            Some(Number::Real(value)) => parse_decimal(&format!("{value}")).ok_or_else(out_of_range)?,
        };
        if scale > self.scale {
            self.total = rescale(self.total, self.scale, scale).ok_or_else(out_of_range)?;
            self.scale = scale;
        }
        let value = rescale(value, scale, self.scale).ok_or_else(out_of_range)?;
        self.total = self.total.checked_add(value).ok_or_else(out_of_range)?;
        self.count += 1;
        Ok(())
    }
}

impl Aggregate for Sum {
    fn step(&mut self, args: &Args<'_>) -> SqlResult<()> {
        self.add(args.get(0))
    }
    fn finish(&mut self, _: &Context) -> SqlResult<Out> {
        Ok(if self.count == 0 { Out::Null } else { Out::Text(decimal_text(self.total, self.scale)) })
    }
}

/// `'sum count'`, for `dec_average`.
#[derive(Default)]
struct Average(Sum);

impl Aggregate for Average {
    fn step(&mut self, args: &Args<'_>) -> SqlResult<()> {
        self.0.add(args.get(0))
    }
    fn finish(&mut self, _: &Context) -> SqlResult<Out> {
        let Sum { total, scale, count } = self.0;
        Ok(if count == 0 { Out::Null } else { Out::Text(format!("{} {count}", decimal_text(total, scale))) })
    }
}

#[derive(Default)]
struct RealSum {
    total: f64,
    count: u64,
    average: bool,
}

impl Aggregate for RealSum {
    fn step(&mut self, args: &Args<'_>) -> SqlResult<()> {
        if let Some(value) = args.double(0) {
            self.total += value;
            self.count += 1;
        }
        Ok(())
    }
    fn finish(&mut self, _: &Context) -> SqlResult<Out> {
        Ok(match (self.count, self.average) {
            (0, _) => Out::Null,
            (_, false) => Out::from(self.total),
            (count, true) => Out::from(self.total / count as f64),
        })
    }
}

struct Bits {
    value: i64,
    merge: fn(i64, i64) -> i64,
}

impl Aggregate for Bits {
    fn step(&mut self, args: &Args<'_>) -> SqlResult<()> {
        if let Some(value) = args.int(0) {
            self.value = (self.merge)(self.value, value);
        }
        Ok(())
    }
    fn finish(&mut self, _: &Context) -> SqlResult<Out> {
        Ok(Out::unsigned(self.value))
    }
}

/// Variance and standard deviation, in one pass without cancellation (Welford).
#[derive(Default)]
struct Spread {
    count: u64,
    mean: f64,
    squares: f64,
    sample: bool,
    root: bool,
}

impl Aggregate for Spread {
    fn step(&mut self, args: &Args<'_>) -> SqlResult<()> {
        if let Some(value) = args.double(0) {
            self.count += 1;
            let from_old = value - self.mean;
            self.mean += from_old / self.count as f64;
            self.squares += from_old * (value - self.mean);
        }
        Ok(())
    }
    fn finish(&mut self, _: &Context) -> SqlResult<Out> {
        let over = self.count.saturating_sub(u64::from(self.sample));
        if over == 0 {
            return Ok(Out::Null);
        }
        let variance = self.squares / over as f64;
        Ok(Out::from(if self.root { variance.sqrt() } else { variance }))
    }
}

struct AnyValue(Option<Out>);

impl Aggregate for AnyValue {
    fn step(&mut self, args: &Args<'_>) -> SqlResult<()> {
        if self.0.is_none() {
            self.0 = Some(super::same(args.get(0)));
        }
        Ok(())
    }
    fn finish(&mut self, _: &Context) -> SqlResult<Out> {
        Ok(self.0.take().unwrap_or(Out::Null))
    }
}

/// `my_group_concat(value, separator, collation to be distinct by, or '')`.
#[derive(Default)]
struct GroupConcat {
    text: Option<String>,
    seen: HashSet<Vec<u8>>,
}

/// Most bytes gathered before `group_concat_max_len` is looked at.
const MAX_GATHERED: usize = 64 << 20;

impl Aggregate for GroupConcat {
    fn step(&mut self, args: &Args<'_>) -> SqlResult<()> {
        let (Some(value), Some(separator), Some(distinct)) = (args.text(0), args.text(1), args.text(2))
        else {
            return Ok(());
        };
        if !distinct.is_empty() {
            let mut key = Vec::new();
            push_weights(comparison_of(&distinct), value.as_bytes(), &mut key);
            if !self.seen.insert(key) {
                return Ok(());
            }
        }
        match &mut self.text {
            None => self.text = Some(value.into_owned()),
            Some(text) if text.len() < MAX_GATHERED => {
                text.push_str(&separator);
                text.push_str(&value);
            }
            Some(_) => {}
        }
        Ok(())
    }
    fn finish(&mut self, ctx: &Context) -> SqlResult<Out> {
        let Some(mut text) = self.text.take() else { return Ok(Out::Null) };
        let mut session = ctx.session.lock();
        let limit = match session.variables.get("group_concat_max_len") {
            Ok(crate::types::Value::Int(limit)) => usize::try_from(limit).unwrap_or(MAX_GATHERED),
            Ok(crate::types::Value::UInt(limit)) => usize::try_from(limit).unwrap_or(MAX_GATHERED),
            _ => 1024,
        };
        if text.len() > limit {
            let mut end = limit;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            session.warn(Level::Warning, 1260, "A row was cut by GROUP_CONCAT()");
        }
        Ok(Out::Text(text))
    }
}
