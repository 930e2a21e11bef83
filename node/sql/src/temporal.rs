//! Dates and times as MySQL reads them, in canonical text.

/// A date and a time of day, taken apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DateTime {
    /// 0–9999.
    pub year: u32,
    /// 0–12.
    pub month: u32,
    /// 0–31.
    pub day: u32,
    /// 0–23.
    pub hour: u32,
    /// 0–59.
    pub minute: u32,
    /// 0–59.
    pub second: u32,
    /// 0–999999.
    pub micros: u32,
}

/// Days in a month.
pub fn days_in_month(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date of the Gregorian calendar.
pub fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let shifted = i64::from((month + 9) % 12);
    let day_of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The date of a number of days since 1970-01-01.
pub fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted + 2) / 5 + 1) as u32;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

impl DateTime {
    /// Of microseconds since 1970 (UTC).
    pub fn from_micros(micros: i64) -> Self {
        let seconds = micros.div_euclid(1_000_000);
        let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
        let of_day = seconds.rem_euclid(86_400) as u32;
        Self {
            year: year.clamp(0, 9999) as u32,
            month,
            day,
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            micros: micros.rem_euclid(1_000_000) as u32,
        }
    }
    /// Microseconds since 1970, the time being UTC.
    pub fn to_micros(self) -> i64 {
        let days = days_from_civil(i64::from(self.year), self.month.max(1), self.day.max(1));
        let seconds = days * 86_400 + i64::from(self.hour * 3600 + self.minute * 60 + self.second);
        seconds * 1_000_000 + i64::from(self.micros)
    }
    /// True if it is a day of the calendar, not a zero date.
    pub fn is_valid(self) -> bool {
        (1..=12).contains(&self.month)
            && (1..=days_in_month(self.year, self.month)).contains(&self.day)
            && self.year <= 9999
            && self.has_valid_time()
    }
    fn has_valid_time(self) -> bool {
        self.hour < 24 && self.minute < 60 && self.second < 60
    }
    /// `YYYY-MM-DD`.
    pub fn date_text(self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
    /// `YYYY-MM-DD HH:MM:SS[.f]`, the fraction rounded.
    pub fn text(self, fsp: u8) -> String {
        let rounded = self.round(fsp);
        let mut text = format!(
            "{} {:02}:{:02}:{:02}",
            rounded.date_text(),
            rounded.hour,
            rounded.minute,
            rounded.second
        );
        push_fraction(rounded.micros, fsp, &mut text);
        text
    }
    /// Rounded to so many digits of a second.
    pub fn round(self, fsp: u8) -> Self {
        let unit = 10_i64.pow(6 - u32::from(fsp.min(6)));
        if unit == 1 || i64::from(self.micros) % unit == 0 || !self.is_valid() {
            return self;
        }
        Self::from_micros((self.to_micros() + unit / 2).div_euclid(unit) * unit)
    }
}

fn push_fraction(micros: u32, fsp: u8, out: &mut String) {
    if fsp > 0 {
        let digits = format!("{micros:06}");
        out.push('.');
        out.push_str(&digits[..usize::from(fsp.min(6))]);
    }
}

fn two_digit_year(year: u32) -> u32 {
    if year < 70 { year + 2000 } else { year + 1900 }
}

/// Digits of a fraction of a second as microseconds.
fn fraction_micros(digits: &str) -> Option<u32> {
    if digits.is_empty() {
        return Some(0);
    }
    if !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let kept: String = digits.chars().chain("000000".chars()).take(6).collect();
    kept.parse().ok()
}

/// Reads a date with or without a time: any punctuation between the parts, or digits only. None for anything
/// else, zero dates included.
pub fn parse_datetime(text: &str) -> Option<DateTime> {
    let text = text.trim();
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (whole, fraction) = match text.rsplit_once('.') {
        // A point may also be between the parts of a date.
        Some((whole, fraction)) if whole.bytes().any(|c| c == b':') || whole.len() >= 12 => (whole, fraction),
        _ => (text, ""),
    };
    let micros = fraction_micros(fraction)?;
    let numbers =
        if whole.bytes().all(|c| c.is_ascii_digit()) { split_digits(whole)? } else { split_parts(whole)? };
    let parsed = DateTime {
        year: numbers[0],
        month: numbers[1],
        day: numbers[2],
        hour: numbers[3],
        minute: numbers[4],
        second: numbers[5],
        micros,
    };
    parsed.is_valid().then_some(parsed)
}

fn split_digits(digits: &str) -> Option<[u32; 6]> {
    let (year_length, date_length) = match digits.len() {
        8 | 14 => (4, 8),
        6 | 12 => (2, 6),
        _ => return None,
    };
    let number = |from: usize, to: usize| digits.get(from..to).and_then(|d| d.parse::<u32>().ok());
    let mut year = number(0, year_length)?;
    if year_length == 2 {
        year = two_digit_year(year);
    }
    let mut all =
        [year, number(year_length, year_length + 2)?, number(year_length + 2, date_length)?, 0, 0, 0];
    if digits.len() > date_length {
        for (i, slot) in all[3..].iter_mut().enumerate() {
            *slot = number(date_length + 2 * i, date_length + 2 * i + 2)?;
        }
    }
    Some(all)
}

fn split_parts(text: &str) -> Option<[u32; 6]> {
    let mut all = [0_u32; 6];
    let (mut field, mut digits) = (0, 0);
    let mut year_digits = 0;
    for c in text.chars() {
        if let Some(digit) = c.to_digit(10) {
            digits += 1;
            if digits > 4 {
                return None;
            }
            all[field] = all[field] * 10 + digit;
        } else if (c.is_ascii_punctuation() || c == ' ' || c == 'T') && digits > 0 {
            if field == 0 {
                year_digits = digits;
            }
            field += 1;
            digits = 0;
            if field > 5 {
                return None;
            }
        } else {
            return None;
        }
    }
    if field < 2 || digits == 0 {
        return None;
    }
    if year_digits <= 2 {
        all[0] = two_digit_year(all[0]);
    }
    Some(all)
}

/// True for `0000-00-00` with or without a time.
pub fn is_zero_date(text: &str) -> bool {
    text.starts_with("0000-00-00")
}

/// A time of day or span: reads `[-][D ]HH:MM[:SS[.f]]`, `HHMMSS[.f]` and the time of a date with a time;
/// microseconds.
pub fn parse_time(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if !negative
        && rest.len() > 10
        && rest.contains('-')
        && let Some(at) = parse_datetime(rest)
    {
        return Some(
            i64::from(at.hour * 3600 + at.minute * 60 + at.second) * 1_000_000 + i64::from(at.micros),
        );
    }
    let (days, rest) = match rest.split_once(' ') {
        Some((days, rest)) => (days.parse::<i64>().ok()?, rest),
        None => (0, rest),
    };
    let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let micros = fraction_micros(fraction)?;
    let (hours, minutes, seconds) = if whole.contains(':') {
        let mut parts = whole.split(':').map(|p| p.parse::<i64>().ok());
        let (h, m, s) = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
        if parts.next().is_some() {
            return None;
        }
        (h, m, s)
    } else {
        let number: i64 = whole.parse().ok()?;
        (number / 10_000, number / 100 % 100, number % 100)
    };
    if minutes > 59 || seconds > 59 || hours < 0 || minutes < 0 || seconds < 0 {
        return None;
    }
    let total = (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1_000_000 + i64::from(micros);
    Some(if negative { -total } else { total })
}

/// The largest TIME.
pub const MAX_TIME_MICROS: i64 = ((838 * 60 + 59) * 60 + 59) * 1_000_000;

/// `[-]HH:MM:SS[.f]` of microseconds, the fraction rounded.
pub fn time_text(micros: i64, fsp: u8) -> String {
    let unit = 10_i64.pow(6 - u32::from(fsp.min(6)));
    let magnitude = (micros.abs() + unit / 2) / unit * unit;
    let seconds = magnitude / 1_000_000;
    let sign = if micros < 0 && magnitude > 0 { "-" } else { "" };
    let mut text = format!("{sign}{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    push_fraction((magnitude % 1_000_000) as u32, fsp, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_in_every_form_of_mysql() {
        for (text, expected) in [
            ("2024-02-29", "2024-02-29 00:00:00"),
            ("24-1-5", "2024-01-05 00:00:00"),
            ("20240105", "2024-01-05 00:00:00"),
            ("2024-01-05 7:08:09", "2024-01-05 07:08:09"),
            ("2024-01-05T07:08:09Z", "2024-01-05 07:08:09"),
            ("20240105070809", "2024-01-05 07:08:09"),
            ("2024.01.05", "2024-01-05 00:00:00"),
            ("2024-12-31 23:59:59.6", "2025-01-01 00:00:00"),
        ] {
            assert_eq!(parse_datetime(text).map(|d| d.text(0)).as_deref(), Some(expected), "{text}");
        }
        for wrong in [
            "",
            "abc",
            "2024-02-30",
            "2024-13-01",
            "0000-00-00",
            "2024-01-01 25:00:00",
            "2024-01",
            "2024-01-01x",
        ] {
            assert_eq!(parse_datetime(wrong), None, "{wrong}");
        }
        assert_eq!(
            parse_datetime("2024-01-01 00:00:00.123456").map(|d| d.text(3)).as_deref(),
            Some("2024-01-01 00:00:00.123")
        );
    }

    #[test]
    fn times_are_read_and_written() {
        for (text, expected) in [
            ("1:2:3", "01:02:03"),
            ("-838:59:59", "-838:59:59"),
            ("1 1:00", "25:00:00"),
            ("101112", "10:11:12"),
            ("2024-01-01 10:11:12", "10:11:12"),
        ] {
            assert_eq!(parse_time(text).map(|t| time_text(t, 0)).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(parse_time("1:99"), None);
    }

    #[test]
    fn days_and_dates_agree() {
        for days in (-100_000..100_000).step_by(37) {
            let (y, m, d) = civil_from_days(days);
            assert_eq!(days_from_civil(y, m, d), days);
        }
    }
}
