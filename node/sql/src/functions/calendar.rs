//! Parts of dates and times, weeks, and numbers of days.

use super::date::{day_number, read_datetime, read_time};
use super::raw::{Args, Out, Scalar};
use crate::context::Context;
use crate::error::SqlResult;
use crate::temporal::{DateTime, civil_from_days, days_from_civil, days_in_month};

pub(super) const FUNCTIONS: &[(&str, Scalar)] = &[
    ("dayname", |args, ctx| of_date(args, ctx, |d| WEEKDAYS[weekday(d)].to_owned())),
    ("dayofweek", |args, ctx| of_date(args, ctx, |d| (weekday(d) as i64 + 1) % 7 + 1)),
    ("dayofyear", |args, ctx| of_date(args, ctx, day_of_year)),
    ("from_days", from_days),
    ("last_day", |args, ctx| {
        of_date(args, ctx, |d| DateTime { day: days_in_month(d.year, d.month), ..d }.date_text())
    }),
    ("makedate", makedate),
    ("monthname", |args, ctx| of_date(args, ctx, |d| month_name(d.month).to_owned())),
    ("my_day", |args, ctx| of_date(args, ctx, |d| i64::from(d.day))),
    ("my_extract", extract),
    ("my_hour", |args, ctx| of_time(args, ctx, |t| t / 3_600_000_000)),
    ("my_microsecond", |args, ctx| of_time(args, ctx, |t| t % 1_000_000)),
    ("my_minute", |args, ctx| of_time(args, ctx, |t| t / 60_000_000 % 60)),
    ("my_month", |args, ctx| of_date(args, ctx, |d| i64::from(d.month))),
    ("my_quarter", |args, ctx| of_date(args, ctx, |d| i64::from(d.month.div_ceil(3)))),
    ("my_second", |args, ctx| of_time(args, ctx, |t| t / 1_000_000 % 60)),
    ("my_week", |args, ctx| {
        let mode = args.int(1).unwrap_or(0);
        of_date(args, ctx, |d| week(d, mode).1)
    }),
    ("my_year", |args, ctx| of_date(args, ctx, |d| i64::from(d.year))),
    ("period_add", period_add),
    ("period_diff", period_diff),
    ("to_days", |args, ctx| of_date(args, ctx, |d| day_number(d) + DAYS_BEFORE_1970)),
    ("to_seconds", |args, ctx| {
        of_date(args, ctx, |d| d.to_micros().div_euclid(1_000_000) + DAYS_BEFORE_1970 * 86_400)
    }),
    ("weekday", |args, ctx| of_date(args, ctx, |d| weekday(d) as i64)),
    ("weekofyear", |args, ctx| of_date(args, ctx, |d| week(d, 3).1)),
    ("yearweek", |args, ctx| {
        // YEARWEEK never has a week 0.
        let mode = args.int(1).unwrap_or(0) | 2;
        of_date(args, ctx, |d| {
            let (year, week) = week(d, mode);
            year * 100 + week
        })
    }),
];

/// TO_DAYS('1970-01-01').
const DAYS_BEFORE_1970: i64 = 719_528;

/// From Monday.
pub(super) const WEEKDAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

pub(super) fn month_name(month: u32) -> &'static str {
    MONTHS.get(month.wrapping_sub(1) as usize).copied().unwrap_or("")
}

fn of_date<T: Into<Out>>(args: &Args<'_>, ctx: &Context, get: impl Fn(DateTime) -> T) -> SqlResult<Out> {
    Ok(read_datetime(args.get(0), ctx).map(get).into())
}

fn of_time(args: &Args<'_>, ctx: &Context, get: fn(i64) -> i64) -> SqlResult<Out> {
    Ok(read_time(args.get(0), ctx).map(|t| get(t.abs())).into())
}

/// 0 is Monday.
pub(super) fn weekday(at: DateTime) -> usize {
    // 1970-01-01 was a Thursday.
    (day_number(at) + 3).rem_euclid(7) as usize
}

pub(super) fn day_of_year(at: DateTime) -> i64 {
    day_number(at) - days_from_civil(i64::from(at.year), 1, 1) + 1
}

/// The year that a week belongs to, and its number, in one of WEEK()'s eight modes. Odd modes begin weeks on
/// Monday; modes with bit 1 have no week 0; the first week is one with four days of the year in modes 1, 3, 4
/// and 6, and otherwise the first that begins in the year.
pub(super) fn week(at: DateTime, mode: i64) -> (i64, i64) {
    let (monday, from_one) = (mode & 1 != 0, mode & 2 != 0);
    let four_days = monday != (mode & 4 != 0);
    let day = day_number(at);
    let begins = |year: i64| {
        let first = days_from_civil(year, 1, 1);
        let into_week = (first + if monday { 3 } else { 4 }).rem_euclid(7);
        let in_first = if four_days { into_week <= 3 } else { into_week == 0 };
        if in_first { first - into_week } else { first + 7 - into_week }
    };
    let year = i64::from(at.year);
    let number = |year: i64| (year, (day - begins(year)).div_euclid(7) + 1);
    if day < begins(year) {
        if from_one { number(year - 1) } else { (year, 0) }
    } else if from_one && day >= begins(year + 1) {
        number(year + 1)
    } else {
        number(year)
    }
}

/// `my_extract(unit, value)`.
fn extract(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    let Some(unit) = args.text(0) else { return Ok(Out::Null) };
    let value = args.get(1);
    let of_day = matches!(&*unit, "YEAR" | "QUARTER" | "MONTH" | "WEEK" | "DAY" | "YEAR_MONTH")
        || unit.starts_with("DAY_");
    if !of_day {
        let Some(time) = read_time(value, ctx) else { return Ok(Out::Null) };
        let magnitude = time.abs();
        let (hour, minute, second, micro) = clock_parts(magnitude);
        let number = of_clock(&unit, hour, minute, second, micro);
        return Ok(Out::Int(if time < 0 { -number } else { number }));
    }
    let Some(at) = read_datetime(value, ctx) else { return Ok(Out::Null) };
    let (year, month, day) = (i64::from(at.year), i64::from(at.month), i64::from(at.day));
    Ok(Out::Int(match &*unit {
        "YEAR" => year,
        "QUARTER" => i64::from(at.month.div_ceil(3)),
        "MONTH" => month,
        "WEEK" => week(at, 0).1,
        "DAY" => day,
        "YEAR_MONTH" => year * 100 + month,
        composite => {
            let (hour, minute) = (i64::from(at.hour), i64::from(at.minute));
            let (second, micro) = (i64::from(at.second), i64::from(at.micros));
            match composite {
                "DAY_HOUR" => day * 100 + hour,
                "DAY_MINUTE" => day * 10_000 + hour * 100 + minute,
                "DAY_SECOND" => (day * 10_000 + hour * 100 + minute) * 100 + second,
                _ => ((day * 10_000 + hour * 100 + minute) * 100 + second) * 1_000_000 + micro,
            }
        }
    }))
}

fn clock_parts(micros: i64) -> (i64, i64, i64, i64) {
    let seconds = micros / 1_000_000;
    (seconds / 3600, seconds / 60 % 60, seconds % 60, micros % 1_000_000)
}

fn of_clock(unit: &str, hour: i64, minute: i64, second: i64, micro: i64) -> i64 {
    match unit {
        "HOUR" => hour,
        "MINUTE" => minute,
        "SECOND" => second,
        "HOUR_MINUTE" => hour * 100 + minute,
        "HOUR_SECOND" => (hour * 100 + minute) * 100 + second,
        "HOUR_MICROSECOND" => ((hour * 100 + minute) * 100 + second) * 1_000_000 + micro,
        "MINUTE_SECOND" => minute * 100 + second,
        "MINUTE_MICROSECOND" => (minute * 100 + second) * 1_000_000 + micro,
        "SECOND_MICROSECOND" => second * 1_000_000 + micro,
        _ => micro,
    }
}

fn date_of_days(days: i64) -> Out {
    let (year, month, day) = civil_from_days(days);
    match u32::try_from(year) {
        Ok(year @ 0..=9999) => Out::Text(DateTime { year, month, day, ..DateTime::default() }.date_text()),
        _ => Out::Null,
    }
}

fn from_days(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(days) = args.int(0) else { return Ok(Out::Null) };
    if !(366..=3_652_424).contains(&days) {
        return Ok(Out::Text("0000-00-00".to_owned()));
    }
    Ok(date_of_days(days - DAYS_BEFORE_1970))
}

fn makedate(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let (Some(year), Some(day)) = (args.int(0), args.int(1)) else { return Ok(Out::Null) };
    let year = match year {
        0..=69 => year + 2000,
        70..=99 => year + 1900,
        _ => year,
    };
    if !(0..=9999).contains(&year) || !(1..=3_652_424).contains(&day) {
        return Ok(Out::Null);
    }
    Ok(date_of_days(days_from_civil(year, 1, 1) + day - 1))
}

/// `YYMM` or `YYYYMM` in months.
fn period_months(period: i64) -> Option<i64> {
    let (year, month) = (period / 100, period % 100);
    let year = match year {
        0..=69 => year + 2000,
        70..=99 => year + 1900,
        _ => year,
    };
    (period > 0 && (1..=12).contains(&month)).then(|| year * 12 + month - 1)
}

fn wrong_period(name: &str) -> crate::error::SqlError {
    crate::error::SqlError::new(1210, format!("Incorrect arguments to {name}"))
}

fn period_add(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let (Some(period), Some(more)) = (args.int(0), args.int(1)) else { return Ok(Out::Null) };
    let months =
        period_months(period).and_then(|p| p.checked_add(more)).ok_or_else(|| wrong_period("period_add"))?;
    Ok(Out::Int(months.div_euclid(12) * 100 + months.rem_euclid(12) + 1))
}

fn period_diff(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let (Some(a), Some(b)) = (args.int(0), args.int(1)) else { return Ok(Out::Null) };
    let (a, b) = period_months(a).zip(period_months(b)).ok_or_else(|| wrong_period("period_diff"))?;
    Ok(Out::Int(a - b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temporal::parse_datetime;

    #[test]
    fn weeks_are_numbered_in_all_eight_modes() {
        let at = |text: &str| parse_datetime(text).expect("a date");
        let numbers = |text: &str| (0..8).map(|mode| week(at(text), mode).1).collect::<Vec<_>>();
        // 2000-01-01 was a Saturday, 2008-02-20 a Wednesday.
        assert_eq!(numbers("2000-01-01"), [0, 0, 52, 52, 0, 0, 52, 52]);
        assert_eq!(numbers("2008-02-20"), [7, 8, 7, 8, 8, 7, 8, 7]);
        assert_eq!(week(at("2008-12-31"), 3), (2009, 1));
        assert_eq!(week(at("2008-12-31"), 1), (2008, 53));
        assert_eq!(week(at("1987-01-01"), 2), (1986, 52));
    }
}
