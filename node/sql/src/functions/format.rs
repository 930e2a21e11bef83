//! DATE_FORMAT, TIME_FORMAT, STR_TO_DATE and GET_FORMAT.

use std::fmt::Write as _;

use super::calendar::{MONTHS, WEEKDAYS, day_of_year, month_name, week, weekday};
use super::date::{read_datetime, read_time};
use super::raw::{Args, Out, Scalar};
use crate::context::{Context, Level};
use crate::error::SqlResult;
use crate::temporal::{DateTime, civil_from_days, days_from_civil, time_text};

pub(super) const FUNCTIONS: &[(&str, Scalar)] = &[
    ("date_format", date_format),
    ("get_format", get_format),
    ("my_str_to_date", str_to_date),
    ("time_format", time_format),
];

fn date_format(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    let Some(format) = args.text(1) else { return Ok(Out::Null) };
    Ok(read_datetime(args.get(0), ctx).map(|at| date_text(at, &format)).into())
}

fn time_format(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    let Some(format) = args.text(1) else { return Ok(Out::Null) };
    let Some(time) = read_time(args.get(0), ctx) else { return Ok(Out::Null) };
    let seconds = time.abs() / 1_000_000;
    let clock = Clock {
        hour: (seconds / 3600) as u32,
        minute: (seconds / 60 % 60) as u32,
        second: (seconds % 60) as u32,
        micros: (time.abs() % 1_000_000) as u32,
    };
    let mut out = if time < 0 { "-".to_owned() } else { String::new() };
    each(&format, &mut out, |c, out| {
        // Parts of a date are zeros of a time.
        let zeros = match c {
            'Y' => "0000",
            'c' | 'e' => "0",
            'd' | 'm' | 'y' => "00",
            _ => return clock.push(c, out),
        };
        out.push_str(zeros);
        true
    });
    Ok(Out::Text(out))
}

/// Calls for every specifier; one that is not known stands for itself.
fn each(format: &str, out: &mut String, mut push: impl FnMut(char, &mut String) -> bool) {
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '%' { chars.next() } else { None }) {
            ('%', Some(specifier)) => {
                if !push(specifier, out) {
                    out.push(specifier);
                }
            }
            (c, _) => out.push(c),
        }
    }
}

struct Clock {
    hour: u32,
    minute: u32,
    second: u32,
    micros: u32,
}

impl Clock {
    fn push(&self, specifier: char, out: &mut String) -> bool {
        let half = (self.hour + 11) % 12 + 1;
        let side = if self.hour % 24 < 12 { "AM" } else { "PM" };
        let Self { hour, minute, second, micros } = self;
        // Writing to a string does not fail.
        let _ = match specifier {
            'f' => write!(out, "{micros:06}"),
            'H' => write!(out, "{hour:02}"),
            'h' | 'I' => write!(out, "{half:02}"),
            'i' => write!(out, "{minute:02}"),
            'k' => write!(out, "{hour}"),
            'l' => write!(out, "{half}"),
            'p' => write!(out, "{side}"),
            'r' => write!(out, "{half:02}:{minute:02}:{second:02} {side}"),
            'S' | 's' => write!(out, "{second:02}"),
            'T' => write!(out, "{hour:02}:{minute:02}:{second:02}"),
            _ => return false,
        };
        true
    }
}

fn ordinal(day: u32) -> &'static str {
    match (day % 100, day % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    }
}

/// A date in a format.
pub(super) fn date_text(at: DateTime, format: &str) -> String {
    let clock = Clock { hour: at.hour, minute: at.minute, second: at.second, micros: at.micros };
    let mut out = String::new();
    each(format, &mut out, |c, out| {
        let of_week = |mode: i64| week(at, mode);
        let short = |name: &str| name.get(..3).unwrap_or(name).to_owned();
        let text = match c {
            'a' => short(WEEKDAYS[weekday(at)]),
            'b' => short(month_name(at.month)),
            'c' => at.month.to_string(),
            'D' => format!("{}{}", at.day, ordinal(at.day)),
            'd' => format!("{:02}", at.day),
            'e' => at.day.to_string(),
            'j' => format!("{:03}", day_of_year(at)),
            'M' => month_name(at.month).to_owned(),
            'm' => format!("{:02}", at.month),
            'U' => format!("{:02}", of_week(0).1),
            'u' => format!("{:02}", of_week(1).1),
            'V' => format!("{:02}", of_week(2).1),
            'v' => format!("{:02}", of_week(3).1),
            'W' => WEEKDAYS[weekday(at)].to_owned(),
            'w' => ((weekday(at) + 1) % 7).to_string(),
            'X' => format!("{:04}", of_week(2).0),
            'x' => format!("{:04}", of_week(3).0),
            'Y' => format!("{:04}", at.year),
            'y' => format!("{:02}", at.year % 100),
            other => return clock.push(other, out),
        };
        out.push_str(&text);
        true
    });
    out
}

fn get_format(args: &Args<'_>, _: &Context) -> SqlResult<Out> {
    let (Some(kind), Some(place)) = (args.text(0), args.text(1)) else { return Ok(Out::Null) };
    let (kind, place) = (kind.to_ascii_uppercase(), place.to_ascii_uppercase());
    let format = match (kind.as_str(), place.as_str()) {
        ("DATE", "USA") => "%m.%d.%Y",
        ("DATE", "JIS" | "ISO") => "%Y-%m-%d",
        ("DATE", "EUR") => "%d.%m.%Y",
        ("DATE", "INTERNAL") => "%Y%m%d",
        ("TIME", "USA") => "%h:%i:%s %p",
        ("TIME", "JIS" | "ISO") => "%H:%i:%s",
        ("TIME", "EUR") => "%H.%i.%s",
        ("TIME", "INTERNAL") => "%H%i%s",
        (_, "USA" | "EUR") => "%Y-%m-%d %H.%i.%s",
        (_, "JIS" | "ISO") => "%Y-%m-%d %H:%i:%s",
        (_, "INTERNAL") => "%Y%m%d%H%i%s",
        _ => return Ok(Out::Null),
    };
    Ok(Out::Text(format.to_owned()))
}

/// What STR_TO_DATE has read so far.
#[derive(Default)]
struct Read {
    at: DateTime,
    afternoon: Option<bool>,
    day_of_year: Option<u32>,
}

/// Takes up to so many digits.
fn take_number(text: &mut &str, most: usize) -> Option<u32> {
    let length = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(length);
    *text = rest;
    digits.parse().ok()
}

/// Takes one of several names, whole or only its first three letters.
fn take_name(text: &mut &str, names: &[&str], short: bool) -> Option<usize> {
    let found = names.iter().position(|name| {
        let name = if short { name.get(..3).unwrap_or(name) } else { name };
        text.get(..name.len()).is_some_and(|t| t.eq_ignore_ascii_case(name))
    })?;
    let length = if short { 3 } else { names[found].len() };
    *text = text.get(length..)?;
    Some(found)
}

impl Read {
    fn specifier(&mut self, c: char, text: &mut &str) -> Option<()> {
        match c {
            'Y' => self.at.year = take_number(text, 4)?,
            'y' => {
                let year = take_number(text, 2)?;
                self.at.year = if year < 70 { 2000 + year } else { 1900 + year };
            }
            'm' | 'c' => self.at.month = take_number(text, 2)?,
            'd' | 'e' => self.at.day = take_number(text, 2)?,
            'D' => {
                self.at.day = take_number(text, 2)?;
                *text = text.get(2..)?;
            }
            'H' | 'k' | 'h' | 'I' | 'l' => {
                self.at.hour = take_number(text, 2)?;
                if matches!(c, 'h' | 'I' | 'l') && !(1..=12).contains(&self.at.hour) {
                    return None;
                }
                if matches!(c, 'h' | 'I' | 'l') && self.afternoon.is_none() {
                    self.afternoon = Some(false);
                }
            }
            'i' => self.at.minute = take_number(text, 2)?,
            'S' | 's' => self.at.second = take_number(text, 2)?,
            'f' => {
                let before = text.len();
                let number = take_number(text, 6)?;
                let missing = 6 - (before - text.len()) as u32;
                self.at.micros = number * 10_u32.pow(missing);
            }
            'p' => self.afternoon = Some(take_name(text, &["AM", "PM"], false)? == 1),
            'M' => self.at.month = take_name(text, &MONTHS, false)? as u32 + 1,
            'b' => self.at.month = take_name(text, &MONTHS, true)? as u32 + 1,
            'W' => {
                take_name(text, &WEEKDAYS, false)?;
            }
            'a' => {
                take_name(text, &WEEKDAYS, true)?;
            }
            'j' => self.day_of_year = Some(take_number(text, 3)?),
            'T' => self.all("%H:%i:%s", text)?,
            'r' => self.all("%h:%i:%s %p", text)?,
            '%' => *text = text.strip_prefix('%')?,
            _ => return None,
        }
        Some(())
    }
    fn all(&mut self, format: &str, text: &mut &str) -> Option<()> {
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c == '%' {
                let specifier = chars.next()?;
                if specifier != '%' {
                    *text = text.trim_start();
                }
                self.specifier(specifier, text)?;
            } else if c.is_whitespace() {
                *text = text.trim_start();
            } else {
                *text = text.trim_start().strip_prefix(c)?;
            }
        }
        Some(())
    }
    fn finish(mut self) -> Option<DateTime> {
        if let Some(afternoon) = self.afternoon {
            self.at.hour = self.at.hour % 12 + if afternoon { 12 } else { 0 };
        }
        if let Some(day) = self.day_of_year.filter(|d| *d > 0) {
            let (_, month, day) =
                civil_from_days(days_from_civil(i64::from(self.at.year), 1, 1) + i64::from(day) - 1);
            (self.at.month, self.at.day) = (month, day);
        }
        let time = self.at.hour < 24 && self.at.minute < 60 && self.at.second < 60;
        time.then_some(self.at)
    }
}

/// `my_str_to_date(text, format, 'd' | 't' | 'dt', digits)`.
fn str_to_date(args: &Args<'_>, ctx: &Context) -> SqlResult<Out> {
    let (Some(text), Some(format), Some(kind)) = (args.text(0), args.text(1), args.text(2)) else {
        return Ok(Out::Null);
    };
    let digits = args.int(3).unwrap_or(0).clamp(0, 6) as u8;
    let mut read = Read::default();
    let mut rest: &str = &text;
    let found = read.all(&format, &mut rest).and_then(|()| read.finish());
    let shown = found.and_then(|at| match &*kind {
        "t" => {
            let seconds = i64::from(at.hour * 3600 + at.minute * 60 + at.second);
            Some(time_text(seconds * 1_000_000 + i64::from(at.micros), digits))
        }
        "d" => at.is_valid().then(|| at.date_text()),
        _ => at.is_valid().then(|| at.text(digits)),
    });
    if shown.is_none() {
        let text = format!("Incorrect datetime value: '{text}' for function str_to_date");
        ctx.session.lock().warn(Level::Warning, 1411, text);
    }
    Ok(shown.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temporal::parse_datetime;

    #[test]
    fn dates_are_formatted_as_mysql_documents() {
        let at = parse_datetime("2009-10-04 22:23:00").expect("a date");
        assert_eq!(date_text(at, "%W %M %Y"), "Sunday October 2009");
        assert_eq!(date_text(at, "%H:%i:%s"), "22:23:00");
        let at = parse_datetime("1900-10-04 22:23:00").expect("a date");
        assert_eq!(date_text(at, "%D %y %a %d %m %b %j"), "4th 00 Thu 04 10 Oct 277");
        let at = parse_datetime("1997-10-04 22:23:00").expect("a date");
        assert_eq!(date_text(at, "%H %k %I %r %T %S %w"), "22 22 10 10:23:00 PM 22:23:00 00 6");
        let at = parse_datetime("1999-01-01").expect("a date");
        assert_eq!(date_text(at, "%X %V %z%%"), "1998 52 z%");
    }

    #[test]
    fn dates_are_read_in_a_format() {
        let read = |text: &str, format: &str| {
            let (mut read, mut rest) = (Read::default(), text);
            read.all(format, &mut rest).and_then(|()| read.finish()).map(|d| d.text(0))
        };
        assert_eq!(read("01,5,2013", "%d,%m,%Y").as_deref(), Some("2013-05-01 00:00:00"));
        assert_eq!(read("May 1, 2013", "%M %d,%Y").as_deref(), Some("2013-05-01 00:00:00"));
        assert_eq!(
            read("2024-02-29 09:30:17 PM", "%Y-%m-%d %h:%i:%s %p").as_deref(),
            Some("2024-02-29 21:30:17")
        );
        assert_eq!(read("2024 060", "%Y %j").as_deref(), Some("2024-02-29 00:00:00"));
        assert_eq!(read("abc", "%Y"), None);
    }
}
