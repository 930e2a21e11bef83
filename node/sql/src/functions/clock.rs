//! The present: of the statement, except SYSDATE().

use std::time::{SystemTime, UNIX_EPOCH};

use super::raw::{Args, Out, Scalar};
use crate::context::Context;
use crate::error::SqlResult;
use crate::temporal::{DateTime, time_text};

pub(super) const FUNCTIONS: &[(&str, Scalar)] = &[
    ("my_curdate", |_, ctx| Ok(Out::Text(local_now(ctx).date_text()))),
    ("my_curtime", |args, ctx| Ok(time_of_day(local_now(ctx), digits(args)))),
    ("my_now", |args, ctx| Ok(cut(local_now(ctx), digits(args)))),
    ("my_utc_date", |_, ctx| Ok(Out::Text(utc_now(ctx).date_text()))),
    ("my_utc_time", |args, ctx| Ok(time_of_day(utc_now(ctx), digits(args)))),
    ("my_utc_timestamp", |args, ctx| Ok(cut(utc_now(ctx), digits(args)))),
];

fn digits(args: &Args<'_>) -> u8 {
    args.int(0).unwrap_or(0).clamp(0, 6) as u8
}

/// Clocks are cut to their digits, not rounded: they never show a time to come.
fn truncated(mut at: DateTime, fsp: u8) -> DateTime {
    let unit = 10_u32.pow(6 - u32::from(fsp));
    at.micros = at.micros / unit * unit;
    at
}

fn cut(at: DateTime, fsp: u8) -> Out {
    Out::Text(truncated(at, fsp).text(fsp))
}

fn time_of_day(at: DateTime, fsp: u8) -> Out {
    let at = truncated(at, fsp);
    let seconds = i64::from(at.hour * 3600 + at.minute * 60 + at.second);
    Out::Text(time_text(seconds * 1_000_000 + i64::from(at.micros), fsp))
}

fn utc_now(ctx: &Context) -> DateTime {
    DateTime::from_micros(ctx.session.lock().statement_micros)
}

/// Microseconds that the session's time zone is ahead of UTC.
pub(super) fn offset_micros(ctx: &Context) -> i64 {
    i64::from(ctx.session.lock().variables.time_zone_offset()) * 1_000_000
}

/// When the statement began, in the session's time zone.
pub(super) fn local_now(ctx: &Context) -> DateTime {
    let offset = offset_micros(ctx);
    DateTime::from_micros(ctx.session.lock().statement_micros + offset)
}

/// SYSDATE(): the time of the call itself.
pub(super) fn sysdate(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = i64::try_from(since.as_micros()).unwrap_or(i64::MAX / 2);
    Ok(cut(DateTime::from_micros(micros + offset_micros(ctx)), digits(args)))
}
