//! What a session knows of itself, and functions that wait.

use std::cell::Cell;

use super::digest::uuid_text;
use super::raw::{Arg, Args, Out};
use crate::context::Context;
use crate::error::{SqlError, SqlResult};
use crate::types::Value;

fn random_bytes<const N: usize>() -> SqlResult<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(SqlError::internal)?;
    Ok(bytes)
}

pub(crate) fn value_out(value: &Value) -> Out {
    match value {
        Value::Null => Out::Null,
        Value::Int(value) => Out::Int(*value),
        Value::UInt(value) => Out::Int(*value as i64),
        Value::Double(value) => Out::Real(*value),
        Value::Text(text) => Out::Text(text.clone()),
        Value::Bytes(bytes) => Out::Blob(bytes.clone()),
    }
}

pub(crate) fn version(_: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    Ok(value_out(&ctx.instance.variables.get("version")?))
}

pub(crate) fn aurora_version(_: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    Ok(value_out(&ctx.instance.variables.get("aurora_version")?))
}

pub(crate) fn database(_: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    Ok(ctx.session.lock().database.clone().into())
}

pub(crate) fn user(_: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    let session = ctx.session.lock();
    Ok(Out::Text(format!("{}@{}", session.user, session.client_host)))
}

pub(crate) fn current_user(_: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    Ok(Out::Text(format!("{}@%", ctx.session.lock().user)))
}

pub(crate) fn current_role(_: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(Out::Text("NONE".to_owned()))
}

pub(crate) fn connection_id(_: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    Ok(Out::Int(ctx.session.lock().connection_id as i64))
}

pub(crate) fn last_insert_id(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    let mut session = ctx.session.lock();
    if args.len() == 0 {
        return Ok(Out::Int(session.last_insert_id as i64));
    }
    let value = args.int(0);
    session.last_insert_id_expr = value.map(|v| v as u64);
    if let Some(value) = value {
        session.last_insert_id = value as u64;
    }
    Ok(value.into())
}

pub(crate) fn row_count(_: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    Ok(Out::Int(ctx.session.lock().row_count))
}

pub(crate) fn found_rows(_: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    Ok(Out::Int(ctx.session.lock().found_rows as i64))
}

/// `system_variable('global' | 'session', name)`.
pub(crate) fn system_variable(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    let (Some(scope), Some(name)) = (args.text(0), args.text(1)) else { return Ok(Out::Null) };
    if scope == "global" {
        return Ok(value_out(&ctx.instance.variables.get(&name)?));
    }
    let session = ctx.session.lock();
    Ok(match &*name {
        "last_insert_id" => Out::Int(session.last_insert_id as i64),
        "warning_count" => Out::Int(session.warning_count as i64),
        "error_count" => {
            let errors = session.warnings.iter().filter(|w| w.level == crate::context::Level::Error);
            Out::Int(errors.count() as i64)
        }
        "pseudo_thread_id" => Out::Int(session.connection_id as i64),
        "timestamp" => Out::Real(session.statement_micros as f64 / 1e6),
        name => value_out(&session.variables.get(name)?),
    })
}

pub(crate) fn user_variable(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    let Some(name) = args.text(0) else { return Ok(Out::Null) };
    Ok(ctx.session.lock().user_variables.get(&*name).map_or(Out::Null, value_out))
}

pub(crate) fn set_user_variable(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    let Some(name) = args.text(0) else { return Ok(Out::Null) };
    let value = match args.get(1) {
        Arg::Null => Value::Null,
        Arg::Int(value) => Value::Int(value),
        Arg::Real(value) => Value::Double(value),
        Arg::Text(bytes) => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
        Arg::Blob(bytes) => Value::Bytes(bytes.to_vec()),
    };
    let out = value_out(&value);
    ctx.session.lock().user_variables.insert(name.into_owned(), value);
    Ok(out)
}

pub(crate) fn uuid(_: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let mut bytes: [u8; 16] = random_bytes()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(Out::Text(uuid_text(&bytes)))
}

pub(crate) fn uuid_short(_: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let bytes: [u8; 8] = random_bytes()?;
    Ok(Out::Int((u64::from_be_bytes(bytes) >> 1) as i64))
}

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(0) };
}

fn next_random(state: u64) -> u64 {
    // SplitMix64.
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn unit_interval(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// RAND(), and RAND(seed), which is the same number for the same seed.
pub(crate) fn rand(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    if let Some(seed) = args.int(0) {
        return Ok(Out::Real(unit_interval(next_random(seed as u64))));
    }
    let mut state = SEED.get();
    if state == 0 {
        state = u64::from_ne_bytes(random_bytes()?) | 1;
    }
    state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    SEED.set(state);
    Ok(Out::Real(unit_interval(next_random(state))))
}

/// SLEEP(seconds): waits until the time is over or the statement is killed.
pub(crate) fn sleep(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    let Some(seconds) = args.double(0).filter(|s| *s >= 0.0) else {
        return Err(SqlError::new(1210, "Incorrect arguments to sleep."));
    };
    let killed = ctx.session.lock().kill.clone();
    let length = std::time::Duration::try_from_secs_f64(seconds).unwrap_or(std::time::Duration::MAX);
    // An interrupted SLEEP gives 1, and the statement ends with it.
    Ok(Out::Int(i64::from(killed.wait(length))))
}

/// BENCHMARK(count, expression): the expression has been evaluated once by then.
pub(crate) fn benchmark(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(args.int(0).map(|_| 0i64).into())
}
