//! JSON. Documents are text in MySQL's form; a subtype tells them from strings between two functions.

use serde_json::{Map, Value};

use super::raw::{Aggregate, Arg, Args, MakeAggregate, Out, Scalar};
use crate::context::Context;
use crate::convert::json_text;
use crate::error::{SqlError, SqlResult};

pub(super) const FUNCTIONS: &[(&str, Scalar)] = &[
    ("json", |args, _| Ok(document(args, 0)?.map(json_out).unwrap_or(Out::Null))),
    ("json_array", |args, _| {
        Ok(json_out(Value::Array((0..args.len()).map(|n| value_of(args, n)).collect())))
    }),
    ("json_insert", |args, _| modify(args, Mode::Insert)),
    ("json_object", object),
    ("json_quote", |args, _| Ok(args.text(0).map(|t| Value::from(&*t).to_string()).into())),
    ("json_remove", remove),
    ("json_replace", |args, _| modify(args, Mode::Replace)),
    ("json_set", |args, _| modify(args, Mode::Set)),
    ("my_json_contains", contains),
    ("my_json_extract", extract),
    ("my_json_keys", keys),
    ("my_json_length", length),
    ("my_json_type", |args, _| Ok(document(args, 0)?.map(|d| type_name(&d).to_owned()).into())),
    ("my_json_unquote", unquote),
    ("my_json_valid", |args, _| Ok(args.text(0).map(|t| serde_json::from_str::<Value>(&t).is_ok()).into())),
];

pub(super) const AGGREGATES: &[(&str, std::ffi::c_int, MakeAggregate)] = &[
    ("json_group_array", 1, || Box::new(GroupArray(Vec::new()))),
    ("json_group_object", 2, || Box::new(GroupObject(Map::new()))),
];

fn json_out(value: Value) -> Out {
    Out::Json(json_text(&value))
}

fn invalid(at: usize, error: &serde_json::Error) -> SqlError {
    SqlError::new(
        3141,
        format!(
            "Invalid JSON text in argument {} to function json: \"{error}\" at position {}.",
            at + 1,
            error.column()
        ),
    )
}

/// An argument that is a document.
fn document(args: &Args<'_>, at: usize) -> SqlResult<Option<Value>> {
    args.text(at).map(|text| serde_json::from_str(&text).map_err(|e| invalid(at, &e))).transpose()
}

/// An argument that becomes a part of a document.
fn value_of(args: &Args<'_>, at: usize) -> Value {
    match args.get(at) {
        Arg::Null => Value::Null,
        Arg::Int(value) => Value::from(value),
        Arg::Real(value) => Value::from(value),
        Arg::Text(bytes) if args.is_json(at) => {
            serde_json::from_slice(bytes).unwrap_or_else(|_| Value::from(&*String::from_utf8_lossy(bytes)))
        }
        Arg::Text(bytes) | Arg::Blob(bytes) => Value::from(&*String::from_utf8_lossy(bytes)),
    }
}

fn null_key() -> SqlError {
    SqlError::new(3158, "JSON documents may not contain NULL member names.")
}

fn object(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    if args.len() % 2 == 1 {
        return Err(SqlError::new(
            1582,
            "Incorrect parameter count in the call to native function 'JSON_OBJECT'",
        ));
    }
    let mut map = Map::new();
    for at in (0..args.len()).step_by(2) {
        let key = args.text(at).ok_or_else(null_key)?;
        map.insert(key.into_owned(), value_of(args, at + 1));
    }
    Ok(json_out(Value::Object(map)))
}

/// A step of a path.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Member(String),
    AnyMember,
    Item(usize),
    /// From the end: 0 is the last.
    FromLast(usize),
    AnyItem,
    /// `**`: this and everything below.
    Below,
}

fn bad_path(path: &str) -> SqlError {
    SqlError::new(3143, format!("Invalid JSON path expression. The error is in '{path}'."))
}

fn parse_path(path: &str) -> SqlResult<Vec<Step>> {
    read_path(path).ok_or_else(|| bad_path(path))
}

fn read_path(path: &str) -> Option<Vec<Step>> {
    let mut rest = path.trim().strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix("**") {
            steps.push(Step::Below);
            rest = after;
        } else if let Some(after) = rest.strip_prefix('.') {
            let after = after.trim_start();
            if let Some(after) = after.strip_prefix('*') {
                steps.push(Step::AnyMember);
                rest = after;
            } else if after.starts_with('"') {
                let mut stream = serde_json::Deserializer::from_str(after).into_iter::<String>();
                steps.push(Step::Member(stream.next()?.ok()?));
                rest = after.get(stream.byte_offset()..)?;
            } else {
                let end = after.find(['.', '[', '*', ' ']).unwrap_or(after.len());
                let (name, after) = after.split_at(end);
                if name.is_empty() {
                    return None;
                }
                steps.push(Step::Member(name.to_owned()));
                rest = after;
            }
        } else {
            let (inside, after) = rest.strip_prefix('[')?.split_once(']')?;
            steps.push(match inside.trim() {
                "*" => Step::AnyItem,
                "last" => Step::FromLast(0),
                number => match number.strip_prefix("last") {
                    Some(back) => Step::FromLast(back.trim().strip_prefix('-')?.trim().parse().ok()?),
                    None => Step::Item(number.parse().ok()?),
                },
            });
            rest = after;
        }
    }
    if steps.last() == Some(&Step::Below) { None } else { Some(steps) }
}

/// An item of an array; anything else is an array of itself.
fn item<'v>(value: &'v Value, step: &Step) -> Option<&'v Value> {
    let length = value.as_array().map_or(1, Vec::len);
    let at = match step {
        Step::Item(at) => *at,
        Step::FromLast(back) => length.checked_sub(back + 1)?,
        _ => return None,
    };
    match value {
        Value::Array(items) => items.get(at),
        other => (at == 0).then_some(other),
    }
}

fn find<'v>(value: &'v Value, steps: &[Step], found: &mut Vec<&'v Value>) {
    let Some((step, rest)) = steps.split_first() else {
        found.push(value);
        return;
    };
    match (step, value) {
        (Step::Member(name), Value::Object(map)) => {
            if let Some(inner) = map.get(name) {
                find(inner, rest, found);
            }
        }
        (Step::AnyMember, Value::Object(map)) => map.values().for_each(|v| find(v, rest, found)),
        (Step::AnyItem, Value::Array(items)) => items.iter().for_each(|v| find(v, rest, found)),
        (Step::Item(_) | Step::FromLast(_), _) => {
            if let Some(inner) = item(value, step) {
                find(inner, rest, found);
            }
        }
        (Step::Below, _) => {
            find(value, rest, found);
            match value {
                Value::Object(map) => map.values().for_each(|v| find(v, steps, found)),
                Value::Array(items) => items.iter().for_each(|v| find(v, steps, found)),
                _ => {}
            }
        }
        _ => {}
    }
}

fn is_single(steps: &[Step]) -> bool {
    !steps.iter().any(|s| matches!(s, Step::AnyMember | Step::AnyItem | Step::Below))
}

fn extract(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(document) = document(args, 0)? else { return Ok(Out::Null) };
    let mut found = Vec::new();
    let mut single = args.len() == 2;
    for at in 1..args.len() {
        let Some(path) = args.text(at) else { return Ok(Out::Null) };
        let steps = parse_path(&path)?;
        single &= is_single(&steps);
        find(&document, &steps, &mut found);
    }
    Ok(match found.as_slice() {
        [] => Out::Null,
        [only] if single => Out::Json(json_text(only)),
        all => json_out(Value::Array(all.iter().map(|v| (*v).clone()).collect())),
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Set,
    Insert,
    Replace,
}

fn change(target: &mut Value, steps: &[Step], new: Value, mode: Mode) {
    let Some((step, rest)) = steps.split_first() else {
        if mode != Mode::Insert {
            *target = new;
        }
        return;
    };
    match (step, target) {
        (Step::Member(name), Value::Object(map)) => match map.get_mut(name) {
            Some(inner) => change(inner, rest, new, mode),
            None if rest.is_empty() && mode != Mode::Replace => {
                map.insert(name.clone(), new);
            }
            None => {}
        },
        (Step::Item(_) | Step::FromLast(_), Value::Array(items)) => {
            let at = match step {
                Step::Item(at) => Some(*at),
                Step::FromLast(back) => items.len().checked_sub(back + 1),
                _ => None,
            };
            match at.and_then(|at| items.get_mut(at)) {
                Some(inner) => change(inner, rest, new, mode),
                None if rest.is_empty() && mode != Mode::Replace && at.is_some() => items.push(new),
                None => {}
            }
        }
        (Step::Item(0) | Step::FromLast(0), other) => change(other, rest, new, mode),
        (Step::Item(_), other) if rest.is_empty() && mode != Mode::Replace => {
            *other = Value::Array(vec![other.take(), new]);
        }
        _ => {}
    }
}

fn wildcard() -> SqlError {
    SqlError::new(
        3149,
        "In this situation, path expressions may not contain the * and ** tokens or an array range.",
    )
}

fn modify(args: &Args<'_>, mode: Mode) -> SqlResult<Out> {
    let Some(mut document) = document(args, 0)? else { return Ok(Out::Null) };
    for at in (1..args.len()).step_by(2) {
        let Some(path) = args.text(at) else { return Ok(Out::Null) };
        let steps = parse_path(&path)?;
        if !is_single(&steps) {
            return Err(wildcard());
        }
        change(&mut document, &steps, value_of(args, at + 1), mode);
    }
    Ok(json_out(document))
}

fn take_away(target: &mut Value, steps: &[Step]) {
    let Some((step, rest)) = steps.split_first() else { return };
    match (step, target) {
        (Step::Member(name), Value::Object(map)) => {
            if rest.is_empty() {
                map.remove(name);
            } else if let Some(inner) = map.get_mut(name) {
                take_away(inner, rest);
            }
        }
        (Step::Item(_) | Step::FromLast(_), Value::Array(items)) => {
            let at = match step {
                Step::Item(at) => Some(*at),
                Step::FromLast(back) => items.len().checked_sub(back + 1),
                _ => None,
            };
            match at.filter(|at| *at < items.len()) {
                Some(at) if rest.is_empty() => {
                    items.remove(at);
                }
                Some(at) => take_away(&mut items[at], rest),
                None => {}
            }
        }
        _ => {}
    }
}

fn remove(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(mut document) = document(args, 0)? else { return Ok(Out::Null) };
    for at in 1..args.len() {
        let Some(path) = args.text(at) else { return Ok(Out::Null) };
        let steps = parse_path(&path)?;
        if steps.is_empty() {
            return Err(SqlError::new(3153, "The path expression '$' is not allowed in this context."));
        }
        if !is_single(&steps) {
            return Err(wildcard());
        }
        take_away(&mut document, &steps);
    }
    Ok(json_out(document))
}

fn holds(target: &Value, candidate: &Value) -> bool {
    match (target, candidate) {
        (Value::Object(a), Value::Object(b)) => b.iter().all(|(k, v)| a.get(k).is_some_and(|t| holds(t, v))),
        (Value::Array(a), Value::Array(b)) => b.iter().all(|v| a.iter().any(|t| holds(t, v))),
        (Value::Array(a), single) => a.iter().any(|t| holds(t, single)),
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}

fn contains(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let (Some(target), Some(candidate)) = (document(args, 0)?, document(args, 1)?) else {
        return Ok(Out::Null);
    };
    Ok(holds(&target, &candidate).into())
}

/// The document, or what a path in the second argument leads to.
fn part(args: &Args<'_>) -> SqlResult<Option<Value>> {
    let Some(document) = document(args, 0)? else { return Ok(None) };
    if args.len() < 2 {
        return Ok(Some(document));
    }
    let Some(path) = args.text(1) else { return Ok(None) };
    let mut found = Vec::new();
    find(&document, &parse_path(&path)?, &mut found);
    Ok(found.first().map(|v| (*v).clone()))
}

fn keys(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(match part(args)? {
        Some(Value::Object(map)) => {
            let mut names: Vec<&String> = map.keys().collect();
            names.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
            json_out(Value::Array(names.into_iter().map(|k| Value::from(k.as_str())).collect()))
        }
        _ => Out::Null,
    })
}

fn length(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(part(args)?
        .map(|value| match value {
            Value::Array(items) => items.len() as i64,
            Value::Object(map) => map.len() as i64,
            _ => 1,
        })
        .into())
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "NULL",
        Value::Bool(_) => "BOOLEAN",
        Value::Number(number) if number.is_i64() => "INTEGER",
        Value::Number(number) if number.is_u64() => "UNSIGNED INTEGER",
        Value::Number(_) => "DOUBLE",
        Value::String(_) => "STRING",
        Value::Array(_) => "ARRAY",
        Value::Object(_) => "OBJECT",
    }
}

fn unquote(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(text) = args.text(0) else { return Ok(Out::Null) };
    if text.len() >= 2
        && text.starts_with('"')
        && text.ends_with('"')
        && let Ok(inner) = serde_json::from_str::<String>(&text)
    {
        return Ok(Out::Text(inner));
    }
    Ok(Out::Text(text.into_owned()))
}

struct GroupArray(Vec<Value>);

impl Aggregate for GroupArray {
    fn step(&mut self, args: &Args<'_>) -> SqlResult<()> {
        self.0.push(value_of(args, 0));
        Ok(())
    }
    fn finish(&mut self, _: &Context) -> SqlResult<Out> {
        let items = std::mem::take(&mut self.0);
        Ok(if items.is_empty() { Out::Null } else { json_out(Value::Array(items)) })
    }
}

struct GroupObject(Map<String, Value>);

impl Aggregate for GroupObject {
    fn step(&mut self, args: &Args<'_>) -> SqlResult<()> {
        let key = args.text(0).ok_or_else(null_key)?;
        self.0.insert(key.into_owned(), value_of(args, 1));
        Ok(())
    }
    fn finish(&mut self, _: &Context) -> SqlResult<Out> {
        let map = std::mem::take(&mut self.0);
        Ok(if map.is_empty() { Out::Null } else { json_out(Value::Object(map)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_members_items_and_everything_below() {
        let document: Value = serde_json::json!({"a": [1, {"b": 2}], "b": 3, "x y": 4});
        let found = |path: &str| {
            let mut found = Vec::new();
            find(&document, &parse_path(path).expect("a path"), &mut found);
            found.into_iter().map(json_text).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(found("$.a[0]"), "1");
        assert_eq!(found("$.a[last].b"), "2");
        assert_eq!(found("$**.b"), "3 2");
        assert_eq!(found("$.\"x y\""), "4");
        assert_eq!(found("$.a[*]"), "1 {\"b\": 2}");
        assert_eq!(found("$.b[0]"), "3");
        for wrong in ["a", "$.", "$[x]", "$**", "$.a["] {
            assert!(parse_path(wrong).is_err(), "{wrong}");
        }
    }
}
