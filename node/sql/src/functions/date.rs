//! Dates and times: casts, sums and differences, and Unix time.

use super::clock::{local_now, offset_micros};
use super::number::{decimal_text, parse_decimal, rescale};
use super::raw::{Arg, Args, Out, Scalar};
use crate::context::{Context, Level};
use crate::error::{SqlError, SqlResult};
use crate::temporal::{
    DateTime, MAX_TIME_MICROS, civil_from_days, days_from_civil, days_in_month, parse_datetime, parse_time,
    time_text,
};

pub(super) const FUNCTIONS: &[(&str, Scalar)] = &[
    ("add_time", add_time),
    ("convert_tz", convert_tz),
    ("date_diff", date_diff),
    ("date_operand", date_operand),
    ("datetime_operand", datetime_operand),
    ("from_unixtime", from_unixtime),
    ("maketime", maketime),
    ("my_date_add", date_add),
    ("sec_to_time", sec_to_time),
    ("temporal_number", temporal_number),
    ("time_diff", time_diff),
    ("time_to_sec", time_to_sec),
    ("timestamp_diff", timestamp_diff),
    ("to_date", to_date),
    ("to_datetime", to_datetime),
    ("to_time", to_time),
    ("unix_timestamp", unix_timestamp),
];

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// `[-]HH:MM:SS[.f]`: the canonical text of a TIME.
fn is_time(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let colons = text.bytes().filter(|c| *c == b':').count();
    let hours = text.find(':').unwrap_or(0);
    colons == 2
        && (2..=3).contains(&hours)
        && text.bytes().all(|c| c.is_ascii_digit() || c == b':' || c == b'.')
}

fn warn(ctx: &Context, text: &str) {
    ctx.session.lock().warn(Level::Warning, 1292, format!("Incorrect datetime value: '{text}'"));
}

/// Reads a date with or without a time; a TIME is one of today.
pub(super) fn read_datetime(arg: Arg<'_>, ctx: &Context) -> Option<DateTime> {
    let text = arg.text()?;
    if is_time(&text)
        && let Some(time) = parse_time(&text)
    {
        let midnight = DateTime { hour: 0, minute: 0, second: 0, micros: 0, ..local_now(ctx) };
        return Some(DateTime::from_micros(midnight.to_micros() + time));
    }
    let parsed = parse_datetime(&text);
    if parsed.is_none() {
        warn(ctx, &text);
    }
    parsed
}

/// Reads a time of day or span in microseconds; that of a date without a time is zero.
pub(super) fn read_time(arg: Arg<'_>, ctx: &Context) -> Option<i64> {
    let text = arg.text()?;
    let parsed = parse_time(&text).or_else(|| parse_datetime(&text).map(|_| 0));
    if parsed.is_none() {
        warn(ctx, &text);
    }
    parsed.map(|t| t.clamp(-MAX_TIME_MICROS, MAX_TIME_MICROS))
}

fn digits(args: &Args<'_>, at: usize) -> u8 {
    args.int(at).unwrap_or(0).clamp(0, 6) as u8
}

fn to_date(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    Ok(read_datetime(args.get(0), ctx).map(DateTime::date_text).into())
}

fn to_datetime(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    Ok(read_datetime(args.get(0), ctx).map(|d| d.text(digits(args, 1))).into())
}

fn to_time(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    Ok(read_time(args.get(0), ctx).map(|t| time_text(t, digits(args, 1))).into())
}

/// What a DATE is compared with: a date if there is no time of day, so that an index can be used.
fn date_operand(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    operand(args, ctx, "DATE", |d| if d.to_micros() % DAY == 0 { d.date_text() } else { d.text(6) })
}

/// What a DATETIME is compared with: with as many digits, or with all if it has more.
fn datetime_operand(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    let fsp = digits(args, 1);
    operand(args, ctx, "DATETIME", |d| if d.round(fsp).micros == d.micros { d.text(fsp) } else { d.text(6) })
}

fn operand(args: &Args<'_>, ctx: &Context, kind: &str, show: impl Fn(DateTime) -> String) -> SqlResult<Out> {
    let Some(text) = args.text(0) else { return Ok(Out::Null) };
    let parsed = if is_time(&text) { read_datetime(args.get(0), ctx) } else { parse_datetime(&text) };
    match parsed {
        Some(parsed) => Ok(Out::Text(show(parsed))),
        None => Err(SqlError::new(1525, format!("Incorrect {kind} value: '{text}'"))),
    }
}

/// A date or time as a number: its digits.
fn temporal_number(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(text) = args.text(0) else { return Ok(Out::Null) };
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let sign = if whole.starts_with('-') { "-" } else { "" };
    let number: String = whole.chars().filter(char::is_ascii_digit).collect();
    let number = number.parse::<u64>().unwrap_or(0);
    if fraction.is_empty() {
        let value = number as i64;
        return Ok(Out::Int(if sign.is_empty() { value } else { -value }));
    }
    Ok(Out::Text(format!("{sign}{number}.{fraction}")))
}

/// A number of seconds, as microseconds.
fn micros_of(arg: Arg<'_>) -> Option<i64> {
    match arg {
        Arg::Null => None,
        Arg::Int(value) => value.checked_mul(SECOND),
        Arg::Real(value) => Some((value * 1e6).round() as i64),
        other => match parse_decimal(&other.text()?) {
            Some((value, scale)) => i64::try_from(rescale(value, scale, 6)?).ok(),
            None => Some((other.double()? * 1e6).round() as i64),
        },
    }
}

/// What an INTERVAL adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    months: i64,
    micros: i64,
}

/// How many of the unit's parts a composite unit has, from the largest: microseconds or months of each.
fn parts_of(unit: &str) -> Option<&'static [Span]> {
    const fn micros(micros: i64) -> Span {
        Span { months: 0, micros }
    }
    const YEAR: Span = Span { months: 12, micros: 0 };
    const MONTH: Span = Span { months: 1, micros: 0 };
    const D: Span = micros(DAY);
    const H: Span = micros(3600 * SECOND);
    const M: Span = micros(60 * SECOND);
    const S: Span = micros(SECOND);
    const U: Span = micros(1);
    Some(match unit {
        "YEAR_MONTH" => &[YEAR, MONTH],
        "DAY_HOUR" => &[D, H],
        "DAY_MINUTE" => &[D, H, M],
        "DAY_SECOND" => &[D, H, M, S],
        "DAY_MICROSECOND" => &[D, H, M, S, U],
        "HOUR_MINUTE" => &[H, M],
        "HOUR_SECOND" => &[H, M, S],
        "HOUR_MICROSECOND" => &[H, M, S, U],
        "MINUTE_SECOND" => &[M, S],
        "MINUTE_MICROSECOND" => &[M, S, U],
        "SECOND_MICROSECOND" => &[S, U],
        _ => return None,
    })
}

fn composite(text: &str, parts: &[Span]) -> Option<Span> {
    let negative = text.trim_start().starts_with('-');
    let runs: Vec<&str> = text.split(|c: char| !c.is_ascii_digit()).filter(|r| !r.is_empty()).collect();
    if runs.len() > parts.len() {
        return None;
    }
    let mut total = Span::default();
    // With fewer numbers than parts, the largest parts are left out.
    for (run, part) in runs.iter().zip(&parts[parts.len() - runs.len()..]) {
        let number: i64 = match part.micros {
            // Digits after the point are a fraction.
            1 if part.months == 0 => format!("{run:0<6}").get(..6)?.parse().ok()?,
            _ => run.parse().ok()?,
        };
        total.months = total.months.checked_add(number.checked_mul(part.months)?)?;
        total.micros = total.micros.checked_add(number.checked_mul(part.micros)?)?;
    }
    Some(if negative { Span { months: -total.months, micros: -total.micros } } else { total })
}

fn span_of(amount: Arg<'_>, unit: &str) -> Option<Span> {
    if let Some(parts) = parts_of(unit) {
        return composite(&amount.text()?, parts);
    }
    if unit == "SECOND" {
        return Some(Span { months: 0, micros: micros_of(amount)? });
    }
    let count = amount.int()?;
    let (months, micros) = match unit {
        "YEAR" => (12, 0),
        "QUARTER" => (3, 0),
        "MONTH" => (1, 0),
        "WEEK" => (0, 7 * DAY),
        "DAY" => (0, DAY),
        "HOUR" => (0, 3600 * SECOND),
        "MINUTE" => (0, 60 * SECOND),
        _ => (0, 1),
    };
    Some(Span { months: count.checked_mul(months)?, micros: count.checked_mul(micros)? })
}

/// Adds, keeping within the calendar's years.
fn shifted(at: DateTime, span: Span) -> Option<DateTime> {
    let mut moved = at;
    if span.months != 0 {
        let months = (i64::from(at.year) * 12 + i64::from(at.month) - 1).checked_add(span.months)?;
        if !(0..=9999 * 12 + 11).contains(&months) {
            return None;
        }
        moved.year = (months / 12) as u32;
        moved.month = (months % 12) as u32 + 1;
        moved.day = at.day.min(days_in_month(moved.year, moved.month));
    }
    let micros = moved.to_micros().checked_add(span.micros)?;
    let year = civil_from_days(micros.div_euclid(DAY)).0;
    (0..=9999).contains(&year).then(|| DateTime::from_micros(micros))
}

/// `my_date_add(base, amount, unit, sign, kind)`: the kind is what the translator knows of the result.
fn date_add(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    let (Some(base), Some(unit), Some(sign), Some(kind)) =
        (args.text(0), args.text(2), args.int(3), args.text(4))
    else {
        return Ok(Out::Null);
    };
    let span = match (args.get(1), span_of(args.get(1), &unit)) {
        (Arg::Null, _) => return Ok(Out::Null),
        (_, Some(span)) => {
            Span { months: span.months.saturating_mul(sign), micros: span.micros.saturating_mul(sign) }
        }
        (_, None) => return Ok(overflow(ctx)),
    };
    if let Some(fsp) = kind.strip_prefix('t') {
        let Some(time) = read_time(args.get(0), ctx) else { return Ok(Out::Null) };
        let sum = time.saturating_add(span.micros).clamp(-MAX_TIME_MICROS, MAX_TIME_MICROS);
        return Ok(Out::Text(time_text(sum, fsp.parse().unwrap_or(0))));
    }
    let Some(at) = read_datetime(args.get(0), ctx) else { return Ok(Out::Null) };
    let Some(moved) = shifted(at, span) else { return Ok(overflow(ctx)) };
    Ok(Out::Text(match &*kind {
        "d" => moved.date_text(),
        "s" if base.trim().len() <= 10 && moved.to_micros() % DAY == 0 => moved.date_text(),
        "s" | "S" => moved.text(if moved.micros == 0 { 0 } else { 6 }),
        fsp => moved.text(fsp.parse().unwrap_or(0)),
    }))
}

fn overflow(ctx: &Context) -> Out {
    ctx.session.lock().warn(Level::Warning, 1441, "Datetime function: datetime field overflow");
    Out::Null
}

/// `add_time(a, b, sign, digits)`.
fn add_time(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    let (Some(text), Some(sign)) = (args.text(0), args.int(2)) else { return Ok(Out::Null) };
    let Some(more) = read_time(args.get(1), ctx).map(|t| t * sign) else { return Ok(Out::Null) };
    let fsp = digits(args, 3);
    if is_time(&text) || parse_datetime(&text).is_none() {
        let Some(time) = read_time(args.get(0), ctx) else { return Ok(Out::Null) };
        let sum = (time + more).clamp(-MAX_TIME_MICROS, MAX_TIME_MICROS);
        return Ok(Out::Text(time_text(sum, fsp)));
    }
    let moved = parse_datetime(&text).and_then(|at| shifted(at, Span { months: 0, micros: more }));
    Ok(moved.map_or_else(|| overflow(ctx), |moved| Out::Text(moved.text(fsp))))
}

/// `time_diff(a, b, digits)`: of two times or of two dates with times.
fn time_diff(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    let (Some(a), Some(b)) = (args.text(0), args.text(1)) else { return Ok(Out::Null) };
    let dated = |text: &str| !is_time(text) && parse_datetime(text).is_some();
    let difference = match (dated(&a), dated(&b)) {
        (true, true) => {
            parse_datetime(&a).zip(parse_datetime(&b)).map(|(a, b)| a.to_micros() - b.to_micros())
        }
        (false, false) => read_time(args.get(0), ctx).zip(read_time(args.get(1), ctx)).map(|(a, b)| a - b),
        _ => None,
    };
    let clamped = difference.map(|d| d.clamp(-MAX_TIME_MICROS, MAX_TIME_MICROS));
    Ok(clamped.map(|d| time_text(d, digits(args, 2))).into())
}

fn date_diff(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    let day = |n: usize| read_datetime(args.get(n), ctx).map(|d| d.to_micros().div_euclid(DAY));
    let (Some(a), Some(b)) = (day(0), day(1)) else { return Ok(Out::Null) };
    Ok(Out::Int(a - b))
}

/// Whole months from `a` to `b`.
fn months_between(a: DateTime, b: DateTime) -> i64 {
    if b.to_micros() < a.to_micros() {
        return -months_between(b, a);
    }
    let months = |d: DateTime| i64::from(d.year) * 12 + i64::from(d.month);
    let rest = |d: DateTime| {
        let of_day = (d.hour * 3600 + d.minute * 60 + d.second, d.micros);
        (d.day, of_day)
    };
    months(b) - months(a) - i64::from(rest(b) < rest(a))
}

/// `timestamp_diff(unit, a, b)`: from `a` to `b`.
fn timestamp_diff(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    let Some(unit) = args.text(0) else { return Ok(Out::Null) };
    let (Some(a), Some(b)) = (read_datetime(args.get(1), ctx), read_datetime(args.get(2), ctx)) else {
        return Ok(Out::Null);
    };
    let micros = b.to_micros() - a.to_micros();
    Ok(Out::Int(match &*unit {
        "YEAR" => months_between(a, b) / 12,
        "QUARTER" => months_between(a, b) / 3,
        "MONTH" => months_between(a, b),
        "WEEK" => micros / (7 * DAY),
        "DAY" => micros / DAY,
        "HOUR" => micros / (3600 * SECOND),
        "MINUTE" => micros / (60 * SECOND),
        "SECOND" => micros / SECOND,
        _ => micros,
    }))
}

/// UNIX_TIMESTAMP(): the arguments are in the session's time zone.
fn unix_timestamp(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    if args.len() == 0 {
        return Ok(Out::Int(ctx.session.lock().statement_micros.div_euclid(SECOND)));
    }
    let Some(text) = args.text(0) else { return Ok(Out::Null) };
    let Some(at) = read_datetime(args.get(0), ctx) else { return Ok(Out::Int(0)) };
    let micros = (at.to_micros() - offset_micros(ctx)).max(0);
    match text.rsplit_once('.') {
        Some((whole, fraction)) if whole.contains(':') && !fraction.is_empty() => {
            let scale = fraction.len().min(6) as u32;
            let value = rescale(i128::from(micros), 6, scale).unwrap_or(0);
            Ok(Out::Text(decimal_text(value, scale)))
        }
        _ => Ok(Out::Int(micros / SECOND)),
    }
}

/// FROM_UNIXTIME(): with all six digits, which the caller cuts, or in a format.
fn from_unixtime(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    // 3001-01-18 23:59:59 is MySQL's end of Unix time.
    let micros = micros_of(args.get(0)).filter(|m| (0..=32_536_771_199 * SECOND + 999_999).contains(m));
    let Some(micros) = micros else { return Ok(Out::Null) };
    let at = DateTime::from_micros(micros + offset_micros(ctx));
    if args.len() > 1 {
        return Ok(args.text(1).map(|format| super::format::date_text(at, &format)).into());
    }
    Ok(Out::Text(at.text(6)))
}

/// `sec_to_time(seconds, digits)`.
fn sec_to_time(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let micros = match args.get(0) {
        Arg::Int(value) => Some(value.saturating_mul(SECOND)),
        other => micros_of(other),
    };
    let clamped = micros.map(|m| m.clamp(-MAX_TIME_MICROS, MAX_TIME_MICROS));
    Ok(clamped.map(|m| time_text(m, digits(args, 1))).into())
}

fn time_to_sec(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    Ok(read_time(args.get(0), ctx).map(|t| t / SECOND).into())
}

fn maketime(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let (Some(hour), Some(minute), Some(second)) = (args.int(0), args.int(1), micros_of(args.get(2))) else {
        return Ok(Out::Null);
    };
    if !(0..60).contains(&minute) || !(0..60 * SECOND).contains(&second) {
        return Ok(Out::Null);
    }
    let rest = minute * 60 * SECOND + second;
    let hours = hour.clamp(-1000, 1000) * 3600 * SECOND;
    let total = if hour < 0 { hours - rest } else { hours + rest };
    Ok(Out::Text(time_text(total.clamp(-MAX_TIME_MICROS, MAX_TIME_MICROS), 0)))
}

fn convert_tz(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    let zone = |n: usize| args.text(n).and_then(|z| crate::variables::time_zone_seconds(&z));
    let (Some(from), Some(to)) = (zone(1), zone(2)) else { return Ok(Out::Null) };
    let Some(at) = read_datetime(args.get(0), ctx) else { return Ok(Out::Null) };
    let span = Span { months: 0, micros: i64::from(to - from) * SECOND };
    Ok(shifted(at, span).map(|d| d.text(if d.micros == 0 { 0 } else { 6 })).into())
}

/// Days since 1970 of a date.
pub(super) fn day_number(at: DateTime) -> i64 {
    days_from_civil(i64::from(at.year), at.month, at.day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime {
        parse_datetime(text).expect("a date")
    }

    #[test]
    fn months_are_added_within_the_calendar() {
        let span = |months| Span { months, micros: 0 };
        assert_eq!(
            shifted(at("2024-01-31"), span(1)).map(DateTime::date_text).as_deref(),
            Some("2024-02-29")
        );
        assert_eq!(
            shifted(at("2024-02-29"), span(12)).map(DateTime::date_text).as_deref(),
            Some("2025-02-28")
        );
        assert_eq!(shifted(at("9999-12-31"), span(1)), None);
        assert_eq!(shifted(at("9999-12-31"), Span { months: 0, micros: DAY }), None);
    }

    #[test]
    fn composite_units_are_read_from_the_right() {
        let read = |text: &str, unit: &str| composite(text, parts_of(unit).expect("a unit"));
        let micros = |micros| Some(Span { months: 0, micros });
        assert_eq!(read("1:30", "HOUR_MINUTE"), micros(5400 * SECOND));
        assert_eq!(read("30", "HOUR_MINUTE"), micros(1800 * SECOND));
        assert_eq!(read("1.5", "SECOND_MICROSECOND"), micros(1_500_000));
        assert_eq!(read("-1-2", "YEAR_MONTH"), Some(Span { months: -14, micros: 0 }));
        assert_eq!(read("1:2:3", "HOUR_MINUTE"), None);
    }

    #[test]
    fn whole_months_between_dates_look_at_the_day_and_the_time() {
        assert_eq!(months_between(at("2024-01-31"), at("2024-02-29")), 0);
        assert_eq!(months_between(at("2024-01-15"), at("2024-02-15")), 1);
        assert_eq!(months_between(at("2024-01-15 00:00:01"), at("2024-02-15")), 0);
        assert_eq!(months_between(at("2024-02-15"), at("2024-01-15")), -1);
    }
}
