//! Strings.

use super::raw::{Arg, Args, Out};
use crate::collation::{Comparison, compare, push_weights};
use crate::context::Context;
use crate::error::{SqlError, SqlResult};

/// Most bytes a function makes: `max_allowed_packet`'s default.
const MAX_RESULT: usize = 64 << 20;

pub(crate) fn comparison_of(name: &str) -> Comparison {
    match name {
        "ci" => Comparison::Insensitive,
        "ci_pad" => Comparison::InsensitivePad,
        "bin_pad" => Comparison::BinaryPad,
        _ => Comparison::Binary,
    }
}

pub(crate) fn to_text(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(args.text(0).map(|t| t.into_owned()).into())
}

pub(crate) fn concat(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let mut all = String::new();
    for arg in args.iter() {
        let Some(text) = arg.text() else { return Ok(Out::Null) };
        all.push_str(&text);
    }
    Ok(Out::Text(all))
}

pub(crate) fn concat_ws(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(separator) = args.text(0) else { return Ok(Out::Null) };
    let parts: Vec<_> = args.iter().skip(1).filter_map(Arg::text).collect();
    Ok(Out::Text(parts.join(&separator)))
}

pub(crate) fn length(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(args.get(0).bytes().map(|b| b.len() as i64).into())
}

pub(crate) fn bit_length(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(args.get(0).bytes().map(|b| b.len() as i64 * 8).into())
}

pub(crate) fn char_length(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(match args.get(0) {
        Arg::Blob(bytes) => Out::Int(bytes.len() as i64),
        other => other.text().map(|t| t.chars().count() as i64).into(),
    })
}

/// Applies a change to text; bytes stay bytes.
fn mapped(args: &Args<'_>, map: impl Fn(&str) -> String) -> SqlResult<Out> {
    Ok(args.text(0).map(|t| map(&t)).into())
}

pub(crate) fn lower(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    if let Arg::Blob(bytes) = args.get(0) {
        return Ok(Out::Blob(bytes.to_vec()));
    }
    mapped(args, str::to_lowercase)
}

pub(crate) fn upper(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    if let Arg::Blob(bytes) = args.get(0) {
        return Ok(Out::Blob(bytes.to_vec()));
    }
    mapped(args, str::to_uppercase)
}

pub(crate) fn reverse(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    mapped(args, |t| t.chars().rev().collect())
}

fn count_arg(args: &Args<'_>, at: usize) -> Option<usize> {
    args.int(at).map(|n| usize::try_from(n.max(0)).unwrap_or(0))
}

/// Cuts characters out of text, or bytes out of bytes.
fn cut(arg: Arg<'_>, range: impl Fn(usize) -> std::ops::Range<usize>) -> Out {
    match arg {
        Arg::Null => Out::Null,
        Arg::Blob(bytes) => {
            let range = range(bytes.len());
            Out::Blob(bytes[range.start.min(bytes.len())..range.end.min(bytes.len())].to_vec())
        }
        other => {
            let text = other.text().unwrap_or_default();
            let range = range(text.chars().count());
            Out::Text(text.chars().skip(range.start).take(range.end.saturating_sub(range.start)).collect())
        }
    }
}

pub(crate) fn left(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(count) = count_arg(args, 1) else { return Ok(Out::Null) };
    Ok(cut(args.get(0), |length| 0..count.min(length)))
}

pub(crate) fn right(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(count) = count_arg(args, 1) else { return Ok(Out::Null) };
    Ok(cut(args.get(0), |length| length.saturating_sub(count)..length))
}

pub(crate) fn substring(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(from) = args.int(1) else { return Ok(Out::Null) };
    let count = if args.len() > 2 {
        match args.int(2) {
            Some(count) => count.max(0),
            None => return Ok(Out::Null),
        }
    } else {
        i64::MAX
    };
    Ok(cut(args.get(0), |length| {
        let length = length as i64;
        let start = if from > 0 { from - 1 } else { length + from };
        if from == 0 || start < 0 || start >= length {
            return 0..0;
        }
        start as usize..start.saturating_add(count).min(length) as usize
    }))
}

pub(crate) fn substring_index(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let (Some(text), Some(delimiter), Some(count)) = (args.text(0), args.text(1), args.int(2)) else {
        return Ok(Out::Null);
    };
    if delimiter.is_empty() || count == 0 {
        return Ok(Out::Text(String::new()));
    }
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let found = if count > 0 {
        text.match_indices(&*delimiter).nth(wanted - 1).map(|(at, _)| &text[..at])
    } else {
        text.rmatch_indices(&*delimiter).nth(wanted - 1).map(|(at, _)| &text[at + delimiter.len()..])
    };
    Ok(Out::Text(found.unwrap_or(&text).to_owned()))
}

pub(crate) fn ltrim(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    mapped(args, |t| t.trim_start_matches(' ').to_owned())
}

pub(crate) fn rtrim(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    mapped(args, |t| t.trim_end_matches(' ').to_owned())
}

/// `my_trim(text, what, side)`.
pub(crate) fn trim(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let (Some(text), Some(what), Some(side)) = (args.text(0), args.text(1), args.text(2)) else {
        return Ok(Out::Null);
    };
    let mut rest: &str = &text;
    if !what.is_empty() {
        while side != "TRAILING" && rest.starts_with(&*what) {
            rest = &rest[what.len()..];
        }
        while side != "LEADING" && rest.ends_with(&*what) {
            rest = &rest[..rest.len() - what.len()];
        }
    }
    Ok(Out::Text(rest.to_owned()))
}

pub(crate) fn replace(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let (Some(text), Some(from), Some(to)) = (args.text(0), args.text(1), args.text(2)) else {
        return Ok(Out::Null);
    };
    Ok(Out::Text(if from.is_empty() { text.into_owned() } else { text.replace(&*from, &to) }))
}

pub(crate) fn repeat(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let (Some(text), Some(count)) = (args.text(0), count_arg(args, 1)) else { return Ok(Out::Null) };
    if text.len().saturating_mul(count) > MAX_RESULT {
        return Ok(Out::Null);
    }
    Ok(Out::Text(text.repeat(count)))
}

pub(crate) fn space(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(count_arg(args, 0).filter(|n| *n <= MAX_RESULT).map(|n| " ".repeat(n)).into())
}

fn padded(args: &Args<'_>, left: bool) -> SqlResult<Out> {
    let (Some(text), Some(length), Some(pad)) = (args.text(0), args.int(1), args.text(2)) else {
        return Ok(Out::Null);
    };
    let Ok(length) = usize::try_from(length) else { return Ok(Out::Null) };
    let have = text.chars().count();
    if length > MAX_RESULT {
        return Ok(Out::Null);
    }
    if length <= have {
        return Ok(Out::Text(text.chars().take(length).collect()));
    }
    if pad.is_empty() {
        return Ok(Out::Text(String::new()));
    }
    let filling: String = pad.chars().cycle().take(length - have).collect();
    Ok(Out::Text(if left { filling + &text } else { text.into_owned() + &filling }))
}

pub(crate) fn lpad(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    padded(args, true)
}

pub(crate) fn rpad(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    padded(args, false)
}

/// One character as it compares without regard to case and accents.
fn folded(c: char, out: &mut Vec<u8>) {
    let mut buffer = [0; 4];
    out.clear();
    push_weights(Comparison::Insensitive, c.encode_utf8(&mut buffer).as_bytes(), out);
}

fn same_char(a: char, b: char, insensitive: bool, scratch: &mut (Vec<u8>, Vec<u8>)) -> bool {
    if a == b {
        return true;
    }
    if !insensitive {
        return false;
    }
    if a.is_ascii() && b.is_ascii() {
        return a.eq_ignore_ascii_case(&b);
    }
    folded(a, &mut scratch.0);
    folded(b, &mut scratch.1);
    scratch.0 == scratch.1
}

/// `my_locate(needle, text, from, 'c' | 'i')`.
pub(crate) fn locate(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let (Some(needle), Some(text), Some(from)) = (args.text(0), args.text(1), args.int(2)) else {
        return Ok(Out::Null);
    };
    let insensitive = args.text(3).is_some_and(|s| s == "i");
    let needle: Vec<char> = needle.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let Ok(start) = usize::try_from(from - 1) else { return Ok(Out::Int(0)) };
    let mut scratch = (Vec::new(), Vec::new());
    for at in start..=text.len().saturating_sub(needle.len()) {
        if at + needle.len() > text.len() {
            break;
        }
        if needle.iter().zip(&text[at..]).all(|(a, b)| same_char(*a, *b, insensitive, &mut scratch)) {
            return Ok(Out::Int(at as i64 + 1));
        }
    }
    Ok(Out::Int(0))
}

/// LIKE on characters, without recursion.
pub(crate) fn like_matches(text: &str, pattern: &str, escape: Option<char>, insensitive: bool) -> bool {
    let text: Vec<char> = text.chars().collect();
    // `None`: `%`; a character with `true`: `_`.
    let mut parts: Vec<Option<(char, bool)>> = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        parts.push(match c {
            c if Some(c) == escape => match chars.next() {
                Some(next) => Some((next, false)),
                None => Some((c, false)),
            },
            '%' => None,
            '_' => Some((c, true)),
            c => Some((c, false)),
        });
    }
    let (mut at, mut part) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    let mut scratch = (Vec::new(), Vec::new());
    while at < text.len() {
        match parts.get(part) {
            Some(None) => {
                part += 1;
                retry = Some((at, part));
            }
            Some(Some((c, any))) if *any || same_char(text[at], *c, insensitive, &mut scratch) => {
                at += 1;
                part += 1;
            }
            _ => match retry {
                Some((from, after)) => {
                    at = from + 1;
                    part = after;
                    retry = Some((from + 1, after));
                }
                None => return false,
            },
        }
    }
    parts[part..].iter().all(Option::is_none)
}

/// `my_like(text, pattern, escape, collation)`.
pub(crate) fn like(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let (Some(text), Some(pattern)) = (args.text(0), args.text(1)) else { return Ok(Out::Null) };
    let escape = args.text(2).and_then(|e| e.chars().next());
    let insensitive = args.text(3).is_some_and(|c| c.starts_with("ci"));
    Ok(like_matches(&text, &pattern, escape, insensitive).into())
}

pub(crate) fn strcmp(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let (Some(a), Some(b), Some(collation)) = (args.get(0).bytes(), args.get(1).bytes(), args.text(2)) else {
        return Ok(Out::Null);
    };
    Ok(Out::Int(compare(comparison_of(&collation), &a, &b) as i64))
}

pub(crate) fn ascii(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(args.get(0).bytes().map(|b| b.first().map_or(0, |b| i64::from(*b))).into())
}

pub(crate) fn ord(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(text) = args.text(0) else { return Ok(Out::Null) };
    let Some(first) = text.chars().next() else { return Ok(Out::Int(0)) };
    let mut buffer = [0; 4];
    let bytes = first.encode_utf8(&mut buffer).bytes();
    Ok(Out::Int(bytes.fold(0, |n, b| n << 8 | i64::from(b))))
}

pub(crate) fn char_of(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let mut all = Vec::new();
    for value in args.iter().filter_map(Arg::int) {
        let bytes = (value as u32).to_be_bytes();
        let from = bytes.iter().position(|b| *b != 0).unwrap_or(3);
        all.extend_from_slice(&bytes[from..]);
    }
    Ok(Out::Blob(all))
}

pub(crate) fn hex_text(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut all = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(all, "{byte:02X}");
    }
    all
}

pub(crate) fn hex(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    Ok(match args.get(0) {
        Arg::Null => Out::Null,
        Arg::Int(value) => Out::Text(format!("{value:X}")),
        Arg::Real(value) => Out::Text(format!("{:X}", value.round() as i64)),
        Arg::Text(bytes) | Arg::Blob(bytes) => Out::Text(hex_text(bytes)),
    })
}

pub(crate) fn unhex(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(text) = args.text(0) else { return Ok(Out::Null) };
    let padded = if text.len() % 2 == 1 { format!("0{text}") } else { text.into_owned() };
    let digits: Option<Vec<u8>> = padded.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    Ok(match digits {
        Some(digits) => Out::Blob(digits.chunks(2).map(|p| p[0] << 4 | p[1]).collect()),
        None => Out::Null,
    })
}

pub(crate) fn quote(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(text) = args.text(0) else { return Ok(Out::Text("NULL".to_owned())) };
    let mut all = String::from("'");
    for c in text.chars() {
        match c {
            '\'' | '\\' => all.extend(['\\', c]),
            '\0' => all.push_str("\\0"),
            '\u{1a}' => all.push_str("\\Z"),
            c => all.push(c),
        }
    }
    all.push('\'');
    Ok(Out::Text(all))
}

pub(crate) fn elt(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(at) = args.int(0).and_then(|n| usize::try_from(n).ok()).filter(|n| *n >= 1) else {
        return Ok(Out::Null);
    };
    Ok(args.text(at).map(|t| t.into_owned()).into())
}

pub(crate) fn find_in_set(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let (Some(needle), Some(set)) = (args.get(0).bytes(), args.get(1).bytes()) else { return Ok(Out::Null) };
    if set.is_empty() {
        return Ok(Out::Int(0));
    }
    let found =
        set.split(|b| *b == b',').position(|part| compare(Comparison::Insensitive, part, &needle).is_eq());
    Ok(Out::Int(found.map_or(0, |n| n as i64 + 1)))
}

pub(crate) fn make_set(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(bits) = args.int(0) else { return Ok(Out::Null) };
    let chosen = (1..args.len().min(65)).filter(|n| bits >> (n - 1) & 1 == 1).filter_map(|n| args.text(n));
    Ok(Out::Text(chosen.collect::<Vec<_>>().join(",")))
}

/// `export_set(bits, on, off[, separator[, how many]])`.
pub(crate) fn export_set(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let (Some(bits), Some(on), Some(off)) = (args.int(0), args.text(1), args.text(2)) else {
        return Ok(Out::Null);
    };
    let separator = match args.len() {
        0..=3 => std::borrow::Cow::Borrowed(","),
        _ => match args.text(3) {
            Some(separator) => separator,
            None => return Ok(Out::Null),
        },
    };
    let count = args.int(4).filter(|n| (0..=64).contains(n)).unwrap_or(64);
    let parts: Vec<&str> = (0..count).map(|n| if bits >> n & 1 == 1 { &*on } else { &*off }).collect();
    Ok(Out::Text(parts.join(&separator)))
}

/// The letter and digits that a word sounds like; not cut at four, as MySQL's is not.
pub(crate) fn soundex(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(text) = args.text(0) else { return Ok(Out::Null) };
    let code = |c: char| match c {
        'B' | 'F' | 'P' | 'V' => '1',
        'C' | 'G' | 'J' | 'K' | 'Q' | 'S' | 'X' | 'Z' => '2',
        'D' | 'T' => '3',
        'L' => '4',
        'M' | 'N' => '5',
        'R' => '6',
        _ => '0',
    };
    let mut letters = text.chars().filter(|c| c.is_alphabetic()).map(|c| c.to_ascii_uppercase());
    let Some(first) = letters.next() else { return Ok(Out::Text(String::new())) };
    let (mut all, mut last) = (String::from(first), code(first));
    for letter in letters.filter(|c| !matches!(c, 'H' | 'W')) {
        let digit = code(letter);
        if digit != last && digit != '0' {
            all.push(digit);
        }
        last = digit;
    }
    while all.chars().count() < 4 {
        all.push('0');
    }
    Ok(Out::Text(all))
}

pub(crate) fn insert(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let (Some(text), Some(at), Some(count), Some(new)) =
        (args.text(0), args.int(1), args.int(2), args.text(3))
    else {
        return Ok(Out::Null);
    };
    let chars: Vec<char> = text.chars().collect();
    let Some(start) = usize::try_from(at - 1).ok().filter(|s| *s < chars.len()) else {
        return Ok(Out::Text(text.into_owned()));
    };
    let end = usize::try_from(count).map_or(chars.len(), |n| start.saturating_add(n).min(chars.len()));
    let mut all: String = chars[..start].iter().collect();
    all.push_str(&new);
    all.extend(&chars[end..]);
    Ok(Out::Text(all))
}

pub(crate) fn cast_char(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(length) = count_arg(args, 1) else { return Ok(Out::Null) };
    Ok(args.text(0).map(|t| t.chars().take(length).collect::<String>()).into())
}

pub(crate) fn cast_binary(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let (Some(bytes), Some(length)) = (args.get(0).bytes(), count_arg(args, 1)) else { return Ok(Out::Null) };
    if length > MAX_RESULT {
        return Ok(Out::Null);
    }
    let mut bytes = bytes.into_owned();
    bytes.resize(length, 0);
    Ok(Out::Blob(bytes))
}

pub(crate) fn weight_string(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let (Some(bytes), Some(collation)) = (args.get(0).bytes(), args.text(1)) else { return Ok(Out::Null) };
    let mut weights = Vec::new();
    push_weights(comparison_of(&collation), &bytes, &mut weights);
    Ok(Out::Blob(weights))
}

/// A key of several values for COUNT(DISTINCT a, b): `(value, collation)` pairs; NULL if one value is.
pub(crate) fn distinct_key(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let mut key = Vec::new();
    for at in (0..args.len()).step_by(2) {
        let (Some(bytes), Some(collation)) = (args.get(at).bytes(), args.text(at + 1)) else {
            return Ok(Out::Null);
        };
        let mut weights = Vec::new();
        push_weights(comparison_of(&collation), &bytes, &mut weights);
        key.extend((weights.len() as u32).to_be_bytes());
        key.extend(weights);
    }
    Ok(Out::Blob(key))
}

fn pattern(args: &Args<'_>, pattern: usize, flags: usize) -> SqlResult<Option<regex::Regex>> {
    let (Some(pattern), Some(flags)) = (args.text(pattern), args.text(flags)) else { return Ok(None) };
    regex::RegexBuilder::new(&pattern)
        .case_insensitive(flags != "c")
        .size_limit(1 << 20)
        .build()
        .map(Some)
        .map_err(|_| SqlError::new(3691, "Syntax error in regular expression."))
}

/// `my_regexp(text, pattern[, 'c' | 'i'])`.
pub(crate) fn regexp(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(text) = args.text(0) else { return Ok(Out::Null) };
    if args.len() < 3 {
        let Some(given) = args.text(1) else { return Ok(Out::Null) };
        let built = regex::RegexBuilder::new(&given).case_insensitive(true).size_limit(1 << 20).build();
        let built = built.map_err(|_| SqlError::new(3691, "Syntax error in regular expression."))?;
        return Ok(built.is_match(&text).into());
    }
    Ok(pattern(args, 1, 2)?.map(|p| p.is_match(&text)).into())
}

/// `regexp_replace(flags, text, pattern, replacement)`.
pub(crate) fn regexp_replace(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let (Some(text), Some(new)) = (args.text(1), args.text(3)) else { return Ok(Out::Null) };
    Ok(pattern(args, 2, 0)?.map(|p| p.replace_all(&text, &*new).into_owned()).into())
}

/// `regexp_substr(flags, text, pattern)`.
pub(crate) fn regexp_substr(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(text) = args.text(1) else { return Ok(Out::Null) };
    Ok(pattern(args, 2, 0)?.and_then(|p| p.find(&text).map(|m| m.as_str().to_owned())).into())
}

/// `regexp_instr(flags, text, pattern)`.
pub(crate) fn regexp_instr(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let Some(text) = args.text(1) else { return Ok(Out::Null) };
    let found = pattern(args, 2, 0)?
        .map(|p| p.find(&text).map_or(0, |m| text[..m.start()].chars().count() as i64 + 1));
    Ok(found.into())
}

#[cfg(test)]
mod tests {
    use super::like_matches;

    #[test]
    fn like_knows_wildcards_escapes_and_case() {
        assert!(like_matches("Hello World", "hello%", Some('\\'), true));
        assert!(!like_matches("Hello", "hello", Some('\\'), false));
        assert!(like_matches("100%", "100\\%", Some('\\'), true));
        assert!(!like_matches("1000", "100\\%", Some('\\'), true));
        assert!(like_matches("abcabd", "%ab_", Some('\\'), true));
        assert!(like_matches("É", "é", Some('\\'), true));
        assert!(like_matches("", "%", None, true) && !like_matches("", "_", None, true));
    }
}
