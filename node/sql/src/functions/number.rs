//! Numbers: exact decimals as text, integers that do not overflow silently.

use super::raw::{Arg, Args, Out};
use crate::context::Context;
use crate::error::{SqlError, SqlResult};

/// A number of any kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Int(i64),
    /// `(digits, scale)`: digits / 10^scale.
    Dec(i128, u32),
    Real(f64),
}

const POWERS: usize = 39;

pub(crate) fn power(n: u32) -> Option<i128> {
    if (n as usize) < POWERS { 10_i128.checked_pow(n) } else { None }
}

/// Reads `[-]digits[.digits]`; `None` for anything else or more digits than 38.
pub(crate) fn parse_decimal(text: &str) -> Option<(i128, u32)> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mut value, mut scale, mut point, mut any) = (0_i128, 0, false, false);
    for c in digits.bytes() {
        match c {
            b'.' if !point => point = true,
            b'0'..=b'9' => {
                value = value.checked_mul(10)?.checked_add(i128::from(c - b'0'))?;
                scale += u32::from(point);
                any = true;
            }
            _ => return None,
        }
    }
    any.then_some((if negative { -value } else { value }, scale))
}

/// The canonical text of a decimal.
pub(crate) fn decimal_text(value: i128, scale: u32) -> String {
    let scale = scale as usize;
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if value < 0 { "-" } else { "" };
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// Divides, rounding half away from zero.
fn divide_rounded(value: i128, by: i128) -> i128 {
    let (quotient, rest) = (value / by, value % by);
    let away = (rest.unsigned_abs() * 2) >= by.unsigned_abs();
    if away { quotient + (if (value < 0) == (by < 0) { 1 } else { -1 }) } else { quotient }
}

/// Brings a decimal to a scale, rounding half away from zero.
pub(crate) fn rescale(value: i128, from: u32, to: u32) -> Option<i128> {
    if to >= from {
        value.checked_mul(power(to - from)?)
    } else {
        Some(divide_rounded(value, power(from - to)?))
    }
}

fn out_of_range() -> SqlError {
    SqlError::value_out_of_range("DECIMAL", "the expression")
}

fn big() -> SqlError {
    SqlError::value_out_of_range("BIGINT", "the expression")
}

impl Number {
    pub(crate) fn of(arg: Arg<'_>) -> Option<Self> {
        Some(match arg {
            Arg::Null => return None,
            Arg::Int(value) => Self::Int(value),
            Arg::Real(value) => Self::Real(value),
            Arg::Text(bytes) | Arg::Blob(bytes) => {
                let text = String::from_utf8_lossy(bytes);
                match parse_decimal(&text) {
                    Some((value, scale)) => Self::Dec(value, scale),
                    None => Self::Real(super::leading_double(&text)),
                }
            }
        })
    }
    pub(crate) fn double(self) -> f64 {
        match self {
            Self::Int(value) => value as f64,
            Self::Dec(value, scale) => decimal_text(value, scale).parse().unwrap_or(0.0),
            Self::Real(value) => value,
        }
    }
    fn parts(self) -> Option<(i128, u32)> {
        match self {
            Self::Int(value) => Some((i128::from(value), 0)),
            Self::Dec(value, scale) => Some((value, scale)),
            Self::Real(_) => None,
        }
    }
    fn is_zero(self) -> bool {
        match self {
            Self::Int(value) => value == 0,
            Self::Dec(value, _) => value == 0,
            Self::Real(value) => value == 0.0,
        }
    }
    pub(crate) fn out(self) -> Out {
        match self {
            Self::Int(value) => Out::Int(value),
            Self::Dec(value, scale) => Out::Text(decimal_text(value, scale)),
            Self::Real(value) => Out::from(value),
        }
    }
}

fn pair(args: &Args<'_>) -> Option<(Number, Number)> {
    Some((Number::of(args.get(0))?, Number::of(args.get(1))?))
}

fn aligned(a: Number, b: Number) -> Option<(i128, i128, u32)> {
    let ((x, s), (y, t)) = (a.parts()?, b.parts()?);
    let scale = s.max(t);
    Some((x.checked_mul(power(scale - s)?)?, y.checked_mul(power(scale - t)?)?, scale))
}

fn exact_or_real(
    a: Number,
    b: Number,
    integers: fn(i64, i64) -> Option<i64>,
    decimals: fn(i128, i128) -> Option<i128>,
    reals: fn(f64, f64) -> f64,
) -> SqlResult<Out> {
    match (a, b) {
        (Number::Int(x), Number::Int(y)) => integers(x, y).map(Out::Int).ok_or_else(big),
        (Number::Real(_), _) | (_, Number::Real(_)) => Ok(Out::from(reals(a.double(), b.double()))),
        _ => {
            let (x, y, scale) = aligned(a, b).ok_or_else(out_of_range)?;
            let value = decimals(x, y).ok_or_else(out_of_range)?;
            Ok(Number::Dec(value, scale).out())
        }
    }
}

pub(crate) fn add(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some((a, b)) = pair(args) else { return Ok(Out::Null) };
    exact_or_real(a, b, i64::checked_add, i128::checked_add, |x, y| x + y)
}

pub(crate) fn sub(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some((a, b)) = pair(args) else { return Ok(Out::Null) };
    exact_or_real(a, b, i64::checked_sub, i128::checked_sub, |x, y| x - y)
}

pub(crate) fn sub_unsigned(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    let result = sub(args, ctx)?;
    match result {
        Out::Int(value) if value < 0 => {
            Err(SqlError::value_out_of_range("BIGINT UNSIGNED", "the expression"))
        }
        other => Ok(other),
    }
}

pub(crate) fn mul(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some((a, b)) = pair(args) else { return Ok(Out::Null) };
    match (a, b) {
        (Number::Int(x), Number::Int(y)) => x.checked_mul(y).map(Out::Int).ok_or_else(big),
        _ => match (a.parts(), b.parts()) {
            (Some((x, s)), Some((y, t))) => {
                let product = x.checked_mul(y).ok_or_else(out_of_range)?;
                let scale = (s + t).min(30);
                Ok(Number::Dec(rescale(product, s + t, scale).ok_or_else(out_of_range)?, scale).out())
            }
            _ => Ok(Out::from(a.double() * b.double())),
        },
    }
}

/// `a / b` with a scale; NULL for zero.
pub(crate) fn div(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some((a, b)) = pair(args) else { return Ok(Out::Null) };
    if b.is_zero() {
        return Ok(Out::Null);
    }
    let scale = args.int(2).and_then(|s| u32::try_from(s).ok()).unwrap_or(4);
    let (Some((x, s)), Some((y, t))) = (a.parts(), b.parts()) else {
        return Ok(Out::from(a.double() / b.double()));
    };
    let exact = power(t + scale)
        .and_then(|p| x.checked_mul(p))
        .zip(power(s).and_then(|p| y.checked_mul(p)))
        .map(|(over, under)| divide_rounded(over, under));
    match exact {
        Some(value) => Ok(Number::Dec(value, scale).out()),
        None => Ok(Out::Text(format!("{:.*}", scale as usize, a.double() / b.double()))),
    }
}

pub(crate) fn integer_divide(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some((a, b)) = pair(args) else { return Ok(Out::Null) };
    if b.is_zero() {
        return Ok(Out::Null);
    }
    if let (Number::Int(x), Number::Int(y)) = (a, b) {
        return x.checked_div(y).map(Out::Int).ok_or_else(big);
    }
    let value = match aligned(a, b) {
        Some((x, y, _)) => i64::try_from(x / y).map_err(|_| big())?,
        None => (a.double() / b.double()).trunc() as i64,
    };
    Ok(Out::Int(value))
}

pub(crate) fn modulo(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some((a, b)) = pair(args) else { return Ok(Out::Null) };
    if b.is_zero() {
        return Ok(Out::Null);
    }
    if let (Number::Int(x), Number::Int(y)) = (a, b) {
        return Ok(Out::Int(x.wrapping_rem(y)));
    }
    Ok(match aligned(a, b) {
        Some((x, y, scale)) => Number::Dec(x % y, scale).out(),
        None => Out::from(a.double() % b.double()),
    })
}

pub(crate) fn negate(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(match Number::of(args.get(0)) {
        None => Out::Null,
        Some(Number::Int(value)) => Out::Int(value.checked_neg().ok_or_else(big)?),
        Some(Number::Dec(value, scale)) => Number::Dec(-value, scale).out(),
        Some(Number::Real(value)) => Out::Real(-value),
    })
}

pub(crate) fn abs(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(match Number::of(args.get(0)) {
        None => Out::Null,
        Some(Number::Int(value)) => Out::Int(value.checked_abs().ok_or_else(big)?),
        Some(Number::Dec(value, scale)) => Number::Dec(value.abs(), scale).out(),
        Some(Number::Real(value)) => Out::Real(value.abs()),
    })
}

pub(crate) fn sign(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(Number::of(args.get(0)).map(|n| n.double()).map(|v| i64::from(v > 0.0) - i64::from(v < 0.0)).into())
}

fn to_whole(args: &Args<'_>, decimals: fn(i128, i128) -> i128, reals: fn(f64) -> f64) -> SqlResult<Out> {
    Ok(match Number::of(args.get(0)) {
        None => Out::Null,
        Some(Number::Int(value)) => Out::Int(value),
        Some(Number::Dec(value, scale)) => {
            let unit = power(scale).ok_or_else(out_of_range)?;
            Out::Int(i64::try_from(decimals(value, unit)).map_err(|_| big())?)
        }
        Some(Number::Real(value)) => Out::from(reals(value)),
    })
}

pub(crate) fn floor(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    to_whole(args, i128::div_euclid, f64::floor)
}

pub(crate) fn ceil(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    to_whole(args, |value, unit| -(-value).div_euclid(unit), f64::ceil)
}

fn shorten(args: &Args<'_>, truncate: bool) -> SqlResult<Out> {
    let Some(number) = Number::of(args.get(0)) else { return Ok(Out::Null) };
    let Some(digits) = args.int(1) else { return Ok(Out::Null) };
    let digits = digits.clamp(-38, 38) as i32;
    let cut = |value: i128, unit: i128| {
        if truncate { value / unit * unit } else { divide_rounded(value, unit) * unit }
    };
    Ok(match number {
        Number::Int(value) if digits >= 0 => Out::Int(value),
        Number::Int(value) => {
            let rounded = power(digits.unsigned_abs()).map_or(0, |unit| cut(i128::from(value), unit));
            Out::Int(i64::try_from(rounded).map_err(|_| big())?)
        }
        Number::Dec(value, scale) => {
            let keep = digits.max(0).unsigned_abs().min(scale);
            let places = i64::from(scale) - i64::from(digits);
            let rounded = if places <= 0 {
                value
            } else {
                power(places.unsigned_abs() as u32).map_or(0, |unit| cut(value, unit))
            };
            let unit = power(scale - keep).ok_or_else(out_of_range)?;
            Number::Dec(rounded / unit, keep).out()
        }
        Number::Real(value) => {
            let factor = 10_f64.powi(digits);
            let scaled = value * factor;
            if !scaled.is_finite() || factor == 0.0 {
                return Ok(Out::from(value));
            }
            Out::from(if truncate { scaled.trunc() } else { scaled.round() } / factor)
        }
    })
}

pub(crate) fn round(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    shorten(args, false)
}

pub(crate) fn truncate(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    shorten(args, true)
}

/// `dec_cast(x, precision, scale)`: beyond the precision, the largest there is.
pub(crate) fn cast_decimal(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(number) = Number::of(args.get(0)) else { return Ok(Out::Null) };
    let precision = args.int(1).unwrap_or(65).clamp(1, 65) as u32;
    let scale = args.int(2).unwrap_or(0).clamp(0, 30) as u32;
    let value = match number {
        Number::Real(value) => {
            let text = format!("{value:.*}", scale as usize);
            parse_decimal(&text).and_then(|(v, s)| rescale(v, s, scale))
        }
        other => other.parts().and_then(|(v, s)| rescale(v, s, scale)),
    };
    let limit = power(precision.min(38)).map(|p| p - 1);
    let value = match (value, limit) {
        (Some(value), Some(limit)) => value.clamp(-limit, limit),
        (Some(value), None) => value,
        (None, _) => return Err(out_of_range()),
    };
    Ok(Number::Dec(value, scale).out())
}

/// A decimal as an integer: rounded.
pub(crate) fn cast_int(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(match args.get(0) {
        Arg::Text(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            let whole = parse_decimal(&text).and_then(|(value, scale)| rescale(value, scale, 0));
            let whole = whole.unwrap_or_else(|| leading_integer(&text));
            Out::Int(whole.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
        }
        other => other.int().into(),
    })
}

/// The 64 bits of what is wanted as an integer: of text its leading integer (up to 2^64 - 1, of which the
/// upper half shows as negative), of a hexadecimal literal the number it writes.
pub(crate) fn to_bits(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(match args.get(0) {
        Arg::Text(bytes) => bits_of_text(&String::from_utf8_lossy(bytes)),
        Arg::Blob(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if text.trim().parse::<f64>().is_ok() => bits_of_text(text),
            _ if bytes.len() <= 8 => {
                Out::Int(bytes.iter().fold(0u64, |n, b| (n << 8) | u64::from(*b)) as i64)
            }
            _ => Out::Int(0),
        },
        other => other.int().into(),
    })
}

fn bits_of_text(text: &str) -> Out {
    let whole = leading_integer(text).clamp(i128::from(i64::MIN), i128::from(u64::MAX));
    // The upper half keeps its bits.
    Out::Int(whole as i64)
}

fn leading_integer(text: &str) -> i128 {
    let text = text.trim_start();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let size = digits[..end]
        .bytes()
        .fold(0i128, |all, digit| all.saturating_mul(10).saturating_add(i128::from(digit - b'0')));
    if text.starts_with('-') { -size } else { size }
}

/// `of_bits(x)`: an unsigned integer of its 64 bits.
pub(crate) fn of_bits(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(args.int(0).map_or(Out::Null, Out::unsigned))
}

pub(crate) fn my_num(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(match args.get(0) {
        Arg::Blob(bytes) if std::str::from_utf8(bytes).is_err() && bytes.len() <= 8 => {
            Out::Int(bytes.iter().fold(0u64, |n, b| (n << 8) | u64::from(*b)) as i64)
        }
        other => other.double().into(),
    })
}

macro_rules! real_functions {
    ($($name:ident => $body:expr;)*) => {
        $(pub(crate) fn $name(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
            let body: fn(f64) -> f64 = $body;
            Ok(Out::from(args.double(0).map(body)))
        })*
    };
}

real_functions! {
    sqrt => f64::sqrt;
    exp => f64::exp;
    ln => |x| if x > 0.0 { x.ln() } else { f64::NAN };
    log2 => |x| if x > 0.0 { x.log2() } else { f64::NAN };
    log10 => |x| if x > 0.0 { x.log10() } else { f64::NAN };
    sin => f64::sin;
    cos => f64::cos;
    tan => f64::tan;
    cot => |x| 1.0 / x.tan();
    asin => f64::asin;
    acos => f64::acos;
    degrees => f64::to_degrees;
    radians => f64::to_radians;
}

pub(crate) fn pi(_: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(Out::Real(std::f64::consts::PI))
}

pub(crate) fn atan(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(match (args.double(0), args.len()) {
        (Some(y), 2) => args.double(1).map(|x| y.atan2(x)).into(),
        (y, _) => y.map(f64::atan).into(),
    })
}

pub(crate) fn pow(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some((a, b)) = args.double(0).zip(args.double(1)) else { return Ok(Out::Null) };
    let value = a.powf(b);
    if value.is_finite() {
        Ok(Out::Real(value))
    } else {
        Err(SqlError::value_out_of_range("DOUBLE", "pow()"))
    }
}

pub(crate) fn log(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let first = args.double(0);
    let value = match args.len() {
        1 => first.filter(|x| *x > 0.0).map(f64::ln),
        _ => first
            .filter(|b| *b > 0.0 && *b != 1.0)
            .zip(args.double(1).filter(|x| *x > 0.0))
            .map(|(b, x)| x.ln() / b.ln()),
    };
    Ok(value.into())
}

pub(crate) fn bit_count(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    Ok(match to_bits(args, ctx)? {
        Out::Int(bits) => Out::Int(i64::from(bits.count_ones())),
        other => other,
    })
}

pub(crate) fn bit_xor_of(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(args.int(0).zip(args.int(1)).map(|(a, b)| a ^ b).into())
}

pub(crate) fn shift_right(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some((value, by)) = args.int(0).zip(args.int(1)) else { return Ok(Out::Null) };
    let by = u32::try_from(by).unwrap_or(64);
    Ok(Out::Int((value as u64).checked_shr(by).unwrap_or(0) as i64))
}

pub(crate) fn conv(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let (Some(text), Some(from), Some(to)) = (args.text(0), args.int(1), args.int(2)) else {
        return Ok(Out::Null);
    };
    let valid = |base: i64| (2..=36).contains(&base.abs());
    if !valid(from) || !valid(to) {
        return Ok(Out::Null);
    }
    let text = text.trim();
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let base = from.unsigned_abs() as u32;
    let magnitude = digits
        .chars()
        .map_while(|c| c.to_digit(base))
        .fold(0u64, |n, d| n.saturating_mul(u64::from(base)).saturating_add(u64::from(d)));
    let value = if negative { (magnitude as i64).wrapping_neg() as u64 } else { magnitude };
    let signed = to < 0 && (value as i64) < 0;
    let text = to_base(if signed { (value as i64).unsigned_abs() } else { value }, to.unsigned_abs());
    Ok(Out::Text(if signed { format!("-{text}") } else { text }))
}

/// Digits in a base.
pub(crate) fn to_base(mut value: u64, base: u64) -> String {
    let mut digits = Vec::new();
    while value > 0 || digits.is_empty() {
        let digit = char::from_digit((value % base) as u32, base as u32).unwrap_or('0');
        digits.push(digit.to_ascii_uppercase());
        value /= base;
    }
    digits.iter().rev().collect()
}

pub(crate) fn bin(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(args.int(0).map(|v| format!("{v:b}")).into())
}

pub(crate) fn oct(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(args.int(0).map(|v| format!("{v:o}")).into())
}

pub(crate) fn interval(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(value) = args.double(0) else { return Ok(Out::Int(-1)) };
    let below = (1..args.len()).take_while(|n| args.double(*n).is_some_and(|limit| value >= limit)).count();
    Ok(Out::Int(below as i64))
}

/// `FORMAT(x, digits)`: with separators of thousands.
pub(crate) fn format(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let (Some(number), Some(digits)) = (Number::of(args.get(0)), args.int(1)) else { return Ok(Out::Null) };
    let digits = digits.clamp(0, 30) as u32;
    let text = match number.parts().and_then(|(v, s)| rescale(v, s, digits)) {
        Some(value) => decimal_text(value, digits),
        None => format!("{:.*}", digits as usize, number.double()),
    };
    let (sign, rest) = text.strip_prefix('-').map_or(("", text.as_str()), |rest| ("-", rest));
    let (whole, fraction) = rest.split_once('.').map_or((rest, ""), |(w, f)| (w, f));
    let mut grouped = String::new();
    for (n, c) in whole.chars().enumerate() {
        if n > 0 && (whole.len() - n) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(c);
    }
    let point = if fraction.is_empty() { "" } else { "." };
    Ok(Out::Text(format!("{sign}{grouped}{point}{fraction}")))
}

/// `dec_average('sum count', scale)`.
pub(crate) fn average(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(text) = args.text(0) else { return Ok(Out::Null) };
    let scale = args.int(1).unwrap_or(4).clamp(0, 30) as u32;
    let Some((sum, count)) = text.split_once(' ') else { return Ok(Out::Null) };
    let (Some((sum, from)), Ok(count)) = (parse_decimal(sum), count.parse::<i128>()) else {
        return Ok(Out::Null);
    };
    if count == 0 {
        return Ok(Out::Null);
    }
    let wide = sum.checked_mul(power(scale.saturating_sub(from)).ok_or_else(out_of_range)?);
    let wide = wide.ok_or_else(out_of_range)?;
    Ok(Number::Dec(divide_rounded(wide, count), scale.max(from)).out())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_written_and_rounded_half_away_from_zero() {
        assert_eq!(parse_decimal("-12.50"), Some((-1250, 2)));
        assert_eq!(parse_decimal("1e3"), None);
        assert_eq!(decimal_text(-5, 2), "-0.05");
        assert_eq!(rescale(-25, 1, 0), Some(-3));
        assert_eq!(rescale(1005, 3, 2), Some(101));
    }
}
