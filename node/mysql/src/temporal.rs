//! Temporal values as text and in the binary protocol.

use std::io::Write;

use crate::codec::{Malformed, Reader};
use crate::value::{Date, DateTime, Time};

impl Date {
    /// Parses `YYYY-MM-DD`.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let mut parts = text.splitn(3, |byte| *byte == b'-');
        let year = number(parts.next()?)?;
        let month = number(parts.next()?)?;
        let day = number(parts.next()?)?;
        Some(Self { year: u16::try_from(year).ok()?, month: byte(month)?, day: byte(day)? })
    }
    fn put_text(self, out: &mut Vec<u8>) {
        let Self { year, month, day } = self;
        write!(out, "{year:04}-{month:02}-{day:02}").expect("writing to memory cannot fail");
    }
}

impl DateTime {
    /// Parses `YYYY-MM-DD[ hh:mm:ss[.ffffff]]`.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let end = text.iter().position(|byte| matches!(byte, b' ' | b'T')).unwrap_or(text.len());
        let date = Date::parse(&text[..end])?;
        let Some(rest) = text.get(end + 1..) else { return Some(Self { date, ..Self::default() }) };
        let Time { negative: false, hours, minutes, seconds, micros } = Time::parse(rest)? else {
            return None;
        };
        Some(Self { date, hour: byte(hours)?, minute: minutes, second: seconds, micros })
    }
    fn put_text(self, fraction: usize, out: &mut Vec<u8>) {
        let Self { date, hour, minute, second, micros } = self;
        date.put_text(out);
        write!(out, " {hour:02}:{minute:02}:{second:02}").expect("writing to memory cannot fail");
        put_fraction(micros, fraction, out);
    }
}

impl Time {
    /// Parses `[-]h:mm:ss[.ffffff]`.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let (negative, text) = match text.strip_prefix(b"-") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
            Some(point) => (&text[..point], &text[point + 1..]),
            None => (text, &b""[..]),
        };
        let mut parts = whole.splitn(3, |byte| *byte == b':');
        let hours = number(parts.next()?)?;
        let minutes = byte(number(parts.next()?)?)?;
        let seconds = parts.next().map_or(Some(0), |part| byte(number(part)?))?;
        Some(Self { negative, hours, minutes, seconds, micros: micros(fraction)? })
    }
    fn put_text(self, fraction: usize, out: &mut Vec<u8>) {
        let Self { negative, hours, minutes, seconds, micros } = self;
        let sign = if negative { "-" } else { "" };
        write!(out, "{sign}{hours:02}:{minutes:02}:{seconds:02}").expect("writing to memory cannot fail");
        put_fraction(micros, fraction, out);
    }
}

/// A temporal value's text form, with as many digits after the point as the column has.
pub(crate) fn put_date_text(value: Date, out: &mut Vec<u8>) {
    value.put_text(out);
}
pub(crate) fn put_datetime_text(value: DateTime, decimals: u8, out: &mut Vec<u8>) {
    value.put_text(digits(value.micros, decimals), out);
}
pub(crate) fn put_time_text(value: Time, decimals: u8, out: &mut Vec<u8>) {
    value.put_text(digits(value.micros, decimals), out);
}

/// Columns of a fixed precision say it; for the others microseconds are shown where there are some.
fn digits(micros: u32, decimals: u8) -> usize {
    match decimals {
        1..=6 => usize::from(decimals),
        0 => 0,
        _ if micros == 0 => 0,
        _ => 6,
    }
}

fn put_fraction(micros: u32, digits: usize, out: &mut Vec<u8>) {
    if digits == 0 {
        return;
    }
    let all = format!("{:06}", micros.min(999_999));
    out.push(b'.');
    out.extend_from_slice(&all.as_bytes()[..digits]);
}

fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u32::from(digit - b'0')))
}

fn byte(value: u32) -> Option<u8> {
    u8::try_from(value).ok()
}

fn micros(fraction: &[u8]) -> Option<u32> {
    let mut all = [b'0'; 6];
    for (digit, given) in all.iter_mut().zip(fraction) {
        *digit = *given;
    }
    number(&all)
}

/// DATE, DATETIME and TIMESTAMP in binary: trailing parts that are zero are left out.
pub(crate) fn put_datetime_binary(value: DateTime, out: &mut Vec<u8>) {
    let DateTime { date, hour, minute, second, micros } = value;
    let length = if micros != 0 {
        11
    } else if (hour, minute, second) != (0, 0, 0) {
        7
    } else if date != Date::default() {
        4
    } else {
        0
    };
    out.push(length);
    if length >= 4 {
        out.extend_from_slice(&date.year.to_le_bytes());
        out.extend_from_slice(&[date.month, date.day]);
    }
    if length >= 7 {
        out.extend_from_slice(&[hour, minute, second]);
    }
    if length >= 11 {
        out.extend_from_slice(&micros.to_le_bytes());
    }
}

/// TIME in binary.
pub(crate) fn put_time_binary(value: Time, out: &mut Vec<u8>) {
    let Time { negative, hours, minutes, seconds, micros } = value;
    let length = if micros != 0 {
        12
    } else if (hours, minutes, seconds) != (0, 0, 0) {
        8
    } else {
        0
    };
    out.push(length);
    if length >= 8 {
        out.push(u8::from(negative));
        out.extend_from_slice(&(hours / 24).to_le_bytes());
        out.extend_from_slice(&[(hours % 24) as u8, minutes, seconds]);
    }
    if length >= 12 {
        out.extend_from_slice(&micros.to_le_bytes());
    }
}

/// Reads DATE, DATETIME or TIMESTAMP of a parameter.
pub(crate) fn read_datetime(reader: &mut Reader<'_>) -> Result<DateTime, Malformed> {
    let length = reader.u8()?;
    let mut value = DateTime::default();
    if !matches!(length, 0 | 4 | 7 | 11) {
        return Err(Malformed);
    }
    if length >= 4 {
        value.date = Date { year: reader.u16()?, month: reader.u8()?, day: reader.u8()? };
    }
    if length >= 7 {
        (value.hour, value.minute, value.second) = (reader.u8()?, reader.u8()?, reader.u8()?);
    }
    if length >= 11 {
        value.micros = reader.u32()?;
    }
    Ok(value)
}

/// Reads TIME of a parameter.
pub(crate) fn read_time(reader: &mut Reader<'_>) -> Result<Time, Malformed> {
    let length = reader.u8()?;
    let mut value = Time::default();
    if !matches!(length, 0 | 8 | 12) {
        return Err(Malformed);
    }
    if length >= 8 {
        value.negative = reader.u8()? != 0;
        let days = reader.u32()?;
        let hours = u32::from(reader.u8()?);
        value.hours = days.checked_mul(24).and_then(|all| all.checked_add(hours)).ok_or(Malformed)?;
        (value.minutes, value.seconds) = (reader.u8()?, reader.u8()?);
    }
    if length >= 12 {
        value.micros = reader.u32()?;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_reads_back_through_the_binary_form() {
        for (text, decimals) in
            [("2026-11-24 01:02:03.000450", 6), ("2026-11-24 01:02:03", 0), ("2026-11-24 00:00:00", 0)]
        {
            let value = DateTime::parse(text.as_bytes()).expect("a valid text");
            let mut binary = Vec::new();
            put_datetime_binary(value, &mut binary);
            let mut reader = Reader::new(&binary);
            let back = read_datetime(&mut reader).expect("well formed");
            assert!(reader.is_empty());
            let mut out = Vec::new();
            put_datetime_text(back, decimals, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), text);
        }
        for (text, decimals) in [("-838:59:59", 0), ("12:00:00.5", 1), ("00:00:00", 0)] {
            let value = Time::parse(text.as_bytes()).expect("a valid text");
            let mut binary = Vec::new();
            put_time_binary(value, &mut binary);
            let back = read_time(&mut Reader::new(&binary)).expect("well formed");
            let mut out = Vec::new();
            put_time_text(back, decimals, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), text);
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in ["", "x", "2026", "2026-13", "2026-1-1-1", "99999999999-1-1", "2026-300-1"] {
            assert_eq!(Date::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(read_datetime(&mut Reader::new(&[5, 0, 0, 0, 0, 0])), Err(Malformed));
        assert_eq!(read_time(&mut Reader::new(&[8, 0, 255, 255, 255, 255, 1, 0, 0])), Err(Malformed));
    }
}
