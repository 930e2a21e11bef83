//! Values into columns: MySQL's conversions, with its errors in strict mode and its warnings otherwise.

use crate::catalog::ColumnDef;
use crate::collation::{DecimalParts, decimal_parts};
use crate::error::{SqlError, SqlResult};
use crate::temporal::{MAX_TIME_MICROS, is_zero_date, parse_datetime, parse_time, time_text};
use crate::types::{ColumnType, Value, format_double};

/// What becomes of a value that does not fit.
pub struct Conversion<'a> {
    /// Errors, not warnings (strict mode, and not IGNORE).
    pub strict: bool,
    /// The row within the statement, from 1.
    pub row: usize,
    /// Gets warnings.
    pub warn: &'a mut dyn FnMut(SqlError),
}

impl Conversion<'_> {
    /// A value that does not fit: an error, or a warning and the nearest that does.
    fn misfit(&mut self, error: SqlError, nearest: Value) -> SqlResult<Value> {
        if self.strict {
            return Err(error);
        }
        (self.warn)(error);
        Ok(nearest)
    }

    /// Converts a value to a column's type. NULL stays NULL: whether that is allowed is not looked at here.
    ///
    /// # Errors
    ///
    /// 1264, 1265, 1292, 1366, 1406, 3140 in strict mode.
    pub fn convert(&mut self, value: Value, column: &ColumnDef) -> SqlResult<Value> {
        if value.is_null() {
            return Ok(Value::Null);
        }
        let name = column.name.as_str();
        match &column.ty {
            ColumnType::Null => Ok(value),
            ColumnType::Int { .. } => self.integer(value, column),
            ColumnType::Bit(width) => self.bit(value, *width, name),
            ColumnType::Year => self.year(value, name),
            ColumnType::Decimal { precision, scale, unsigned } => {
                self.decimal(&value, *precision, *scale, *unsigned, name)
            }
            ColumnType::Float { unsigned } => self.double(&value, true, *unsigned, name),
            ColumnType::Double { unsigned } => self.double(&value, false, *unsigned, name),
            ColumnType::Char { length, .. } => {
                let text = self.characters(value, name)?;
                let kept = text.trim_end_matches(' ');
                let kept = if kept.len() == text.len() { text } else { kept.to_owned() };
                self.limit_characters(kept, *length, name)
            }
            ColumnType::VarChar { length, .. } => {
                let text = self.characters(value, name)?;
                self.limit_characters(text, *length, name)
            }
            ColumnType::Text { kind, .. } => {
                let text = self.characters(value, name)?;
                if text.len() <= kind.max_bytes() {
                    return Ok(Value::Text(text));
                }
                let mut end = kind.max_bytes();
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                self.misfit(SqlError::too_long(name, self.row), Value::Text(text[..end].to_owned()))
            }
            ColumnType::Binary(length) => {
                let mut padded = self.limit_bytes(into_bytes(value), *length as usize, name)?;
                if let Value::Bytes(bytes) = &mut padded {
                    bytes.resize(*length as usize, 0);
                }
                Ok(padded)
            }
            ColumnType::VarBinary(length) => self.limit_bytes(into_bytes(value), *length as usize, name),
            ColumnType::Blob(kind) => self.limit_bytes(into_bytes(value), kind.max_bytes(), name),
            ColumnType::Date | ColumnType::DateTime(_) | ColumnType::Timestamp(_) => self.date(value, column),
            ColumnType::Time(fsp) => self.time(&value, *fsp, name),
            ColumnType::Enum { labels, collation } => {
                let found = enum_label(&value, labels, *collation);
                match found {
                    Some(label) => Ok(Value::Text(label)),
                    None => self.misfit(SqlError::truncated(name, self.row), Value::Text(String::new())),
                }
            }
            ColumnType::Set { labels, collation } => self.set(&value, labels, *collation, name),
            ColumnType::Json => json(&value, name),
        }
    }

    fn number(&mut self, value: &Value, kind: &str, name: &str) -> SqlResult<DecimalParts> {
        let text = match value {
            Value::Text(text) => text.clone(),
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::Double(v) => return Ok(decimal_parts(format!("{v:e}").as_bytes()).0),
            other => return Ok(decimal_parts(other.display().unwrap_or_default().as_bytes()).0),
        };
        let (parts, garbage) = decimal_parts(text.as_bytes());
        if garbage {
            let begins_as_number = text.trim_start().bytes().find(|c| !matches!(c, b'-' | b'+' | b'.'));
            let error = if begins_as_number.is_some_and(|c| c.is_ascii_digit()) {
                SqlError::truncated(name, self.row)
            } else {
                SqlError::incorrect_value(kind, &text, name, self.row)
            };
            self.misfit(error, Value::Null)?;
        }
        Ok(parts)
    }

    fn integer(&mut self, value: Value, column: &ColumnDef) -> SqlResult<Value> {
        let (low, high) = column.ty.int_range().unwrap_or((i128::from(i64::MIN), i128::from(i64::MAX)));
        // A known gap: SQLite has no unsigned 64-bit integers.
        let high = high.min(i128::from(i64::MAX));
        let wide = match &value {
            Value::Int(v) => i128::from(*v),
            Value::UInt(v) => i128::from(*v),
            other => rounded_integer(&self.number(other, "integer", &column.name)?),
        };
        if (low..=high).contains(&wide) {
            // Within 64 bits by the range above.
            return Ok(Value::Int(wide as i64));
        }
        self.misfit(SqlError::out_of_range(&column.name, self.row), Value::Int(wide.clamp(low, high) as i64))
    }

    fn bit(&mut self, value: Value, width: u8, name: &str) -> SqlResult<Value> {
        let number = match &value {
            Value::Bytes(bytes) if bytes.len() <= 8 => {
                i128::from(bytes.iter().fold(0_u64, |all, byte| (all << 8) | u64::from(*byte)))
            }
            Value::Int(v) => i128::from(*v as u64),
            other => rounded_integer(&self.number(other, "integer", name)?),
        };
        let high = if width >= 63 { i128::from(i64::MAX) } else { (1 << width) - 1 };
        if (0..=high).contains(&number) {
            return Ok(Value::Int(number as i64));
        }
        self.misfit(SqlError::too_long(name, self.row), Value::Int(high as i64))
    }

    fn year(&mut self, value: Value, name: &str) -> SqlResult<Value> {
        let number = rounded_integer(&self.number(&value, "year", name)?);
        let year = match number {
            0 if matches!(value, Value::Text(_)) => 2000,
            0 => 0,
            1..=69 => number + 2000,
            70..=99 => number + 1900,
            1901..=2155 => number,
            _ => return self.misfit(SqlError::out_of_range(name, self.row), Value::Int(0)),
        };
        Ok(Value::Int(year as i64))
    }

    fn decimal(
        &mut self,
        value: &Value,
        precision: u8,
        scale: u8,
        unsigned: bool,
        name: &str,
    ) -> SqlResult<Value> {
        let parts = self.number(value, "decimal", name)?;
        let text = decimal_text(&parts, scale);
        let whole =
            text.trim_start_matches('-').split('.').next().map_or(0, |w| w.trim_start_matches('0').len());
        let room = usize::from(precision.saturating_sub(scale));
        if unsigned && text.starts_with('-') {
            return self
                .misfit(SqlError::out_of_range(name, self.row), Value::Text(decimal_text(&ZERO, scale)));
        }
        if whole <= room {
            return Ok(Value::Text(text));
        }
        let sign = if parts.negative { "-" } else { "" };
        let mut largest = format!("{sign}{}", if room == 0 { "0".to_owned() } else { "9".repeat(room) });
        if scale > 0 {
            largest.push('.');
            largest.push_str(&"9".repeat(usize::from(scale)));
        }
        self.misfit(SqlError::out_of_range(name, self.row), Value::Text(largest))
    }

    fn double(&mut self, value: &Value, single: bool, unsigned: bool, name: &str) -> SqlResult<Value> {
        let number = match value {
            Value::Int(v) => *v as f64,
            Value::UInt(v) => *v as f64,
            Value::Double(v) => *v,
            other => {
                let parts = self.number(other, "double", name)?;
                decimal_to_double(&parts)
            }
        };
        let number = if single { f64::from(number as f32) } else { number };
        if !number.is_finite() {
            return self
                .misfit(SqlError::out_of_range(name, self.row), Value::Double(f64::MAX.copysign(number)));
        }
        if unsigned && number < 0.0 {
            return self.misfit(SqlError::out_of_range(name, self.row), Value::Double(0.0));
        }
        Ok(Value::Double(number))
    }

    fn characters(&mut self, value: Value, name: &str) -> SqlResult<String> {
        match value {
            Value::Text(text) => Ok(text),
            Value::Bytes(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Ok(text),
                Err(error) => {
                    let wrong = error.utf8_error().valid_up_to();
                    let bytes = error.into_bytes();
                    let shown: String =
                        bytes[wrong..].iter().take(6).map(|b| format!("\\x{b:02X}")).collect();
                    let kept = String::from_utf8_lossy(&bytes[..wrong]).into_owned();
                    self.misfit(SqlError::incorrect_value("string", &shown, name, self.row), Value::Null)?;
                    Ok(kept)
                }
            },
            Value::Double(v) => Ok(format_double(v)),
            other => Ok(other.display().unwrap_or_default()),
        }
    }

    fn limit_characters(&mut self, text: String, length: u32, name: &str) -> SqlResult<Value> {
        let length = length as usize;
        if text.len() <= length {
            return Ok(Value::Text(text));
        }
        let Some((end, _)) = text.char_indices().nth(length) else { return Ok(Value::Text(text)) };
        let kept = Value::Text(text[..end].to_owned());
        if text[end..].bytes().all(|c| c == b' ') {
            // Blanks are cut even in strict mode, with a note.
            return Ok(kept);
        }
        self.misfit(SqlError::too_long(name, self.row), kept)
    }

    fn limit_bytes(&mut self, mut bytes: Vec<u8>, length: usize, name: &str) -> SqlResult<Value> {
        if bytes.len() <= length {
            return Ok(Value::Bytes(bytes));
        }
        bytes.truncate(length);
        self.misfit(SqlError::too_long(name, self.row), Value::Bytes(bytes))
    }

    fn date(&mut self, value: Value, column: &ColumnDef) -> SqlResult<Value> {
        let text = match value {
            Value::Text(text) => text,
            Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            other => other.display().unwrap_or_default(),
        };
        let (kind, zero) = match column.ty {
            ColumnType::Date => ("date", "0000-00-00".to_owned()),
            ColumnType::DateTime(fsp) | ColumnType::Timestamp(fsp) => (
                "datetime",
                if fsp == 0 {
                    "0000-00-00 00:00:00".to_owned()
                } else {
                    format!("0000-00-00 00:00:00.{}", "0".repeat(usize::from(fsp)))
                },
            ),
            _ => ("datetime", String::new()),
        };
        let error = |row| SqlError::incorrect_temporal(kind, &text, &column.name, row);
        let Some(parsed) = parse_datetime(&text) else {
            if is_zero_date(&text) && !self.strict {
                return Ok(Value::Text(zero));
            }
            return self.misfit(error(self.row), Value::Text(zero));
        };
        match column.ty {
            ColumnType::DateTime(fsp) => Ok(Value::Text(parsed.text(fsp))),
            ColumnType::Timestamp(fsp) => {
                if (1..=i64::from(i32::MAX) * 1_000_000 + 999_999).contains(&parsed.to_micros()) {
                    return Ok(Value::Text(parsed.text(fsp)));
                }
                self.misfit(error(self.row), Value::Text(zero))
            }
            _ => Ok(Value::Text(parsed.date_text())),
        }
    }

    fn time(&mut self, value: &Value, fsp: u8, name: &str) -> SqlResult<Value> {
        let text = value.display().unwrap_or_default();
        let Some(micros) = parse_time(&text) else {
            let error = SqlError::incorrect_temporal("time", &text, name, self.row);
            return self.misfit(error, Value::Text(time_text(0, fsp)));
        };
        if micros.abs() <= MAX_TIME_MICROS {
            return Ok(Value::Text(time_text(micros, fsp)));
        }
        let nearest = Value::Text(time_text(micros.clamp(-MAX_TIME_MICROS, MAX_TIME_MICROS), fsp));
        let error = SqlError::incorrect_temporal("time", &text, name, self.row);
        self.misfit(error, nearest)
    }

    fn set(
        &mut self,
        value: &Value,
        labels: &[String],
        collation: crate::collation::Collation,
        name: &str,
    ) -> SqlResult<Value> {
        let (bits, unknown) = match value {
            Value::Int(v) => (*v as u64, labels.len() < 64 && (*v as u64) >> labels.len() != 0),
            other => {
                let text = other.display().unwrap_or_default();
                let mut all = (0_u64, false);
                for part in text.split(',').filter(|p| !p.is_empty()) {
                    match labels.iter().position(|l| collation.compare(l, part).is_eq()) {
                        Some(place) => all.0 |= 1 << place,
                        None => all.1 = true,
                    }
                }
                all
            }
        };
        let members: Vec<_> =
            labels.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1).map(|(_, l)| l.as_str()).collect();
        let kept = Value::Text(members.join(","));
        if unknown { self.misfit(SqlError::truncated(name, self.row), kept) } else { Ok(kept) }
    }
}

const ZERO: DecimalParts = DecimalParts { negative: false, exponent: 0, digits: Vec::new() };

fn into_bytes(value: Value) -> Vec<u8> {
    match value {
        Value::Bytes(bytes) => bytes,
        Value::Text(text) => text.into_bytes(),
        other => other.display().unwrap_or_default().into_bytes(),
    }
}

/// A decimal number with so many digits after the point, rounded half away from zero.
pub fn decimal_text(parts: &DecimalParts, scale: u8) -> String {
    let scale = i32::from(scale);
    let keep = parts.exponent + scale;
    let mut digits: Vec<u8> =
        if keep < 0 { Vec::new() } else { parts.digits.iter().copied().take(keep as usize).collect() };
    let mut exponent = parts.exponent;
    if keep >= 0 {
        digits.resize(keep as usize, 0);
    } else {
        exponent = -scale;
    }
    if keep >= 0 && parts.digits.get(keep as usize).is_some_and(|&d| d >= 5) {
        let mut carry = true;
        for digit in digits.iter_mut().rev() {
            if *digit < 9 {
                *digit += 1;
                carry = false;
                break;
            }
            *digit = 0;
        }
        if carry {
            digits.insert(0, 1);
            exponent += 1;
        }
    }
    // `digits` now covers the places from `exponent` down to `-scale`.
    let mut text = String::with_capacity(digits.len() + 4);
    if parts.negative && digits.iter().any(|&d| d != 0) {
        text.push('-');
    }
    let whole = exponent.max(0) as usize;
    if whole == 0 {
        text.push('0');
    }
    text.extend(digits.iter().take(whole).map(|d| char::from(b'0' + d)));
    if scale > 0 {
        text.push('.');
        for _ in exponent.max(-scale)..0 {
            text.push('0');
        }
        text.extend(digits.iter().skip(whole).map(|d| char::from(b'0' + d)));
    }
    text
}

/// Rounded half away from zero; beyond 38 digits it is the largest there is.
pub fn rounded_integer(parts: &DecimalParts) -> i128 {
    if parts.exponent > 37 {
        return if parts.negative { i128::MIN } else { i128::MAX };
    }
    decimal_text(parts, 0).parse().unwrap_or(0)
}

fn decimal_to_double(parts: &DecimalParts) -> f64 {
    let digits: String = parts.digits.iter().map(|d| char::from(b'0' + d)).collect();
    let sign = if parts.negative { "-" } else { "" };
    format!("{sign}0.{digits}0e{}", parts.exponent).parse().unwrap_or(0.0)
}

fn enum_label(value: &Value, labels: &[String], collation: crate::collation::Collation) -> Option<String> {
    let by_number =
        |n: i64| usize::try_from(n).ok().filter(|n| *n > 0).and_then(|n| labels.get(n - 1)).cloned();
    match value {
        Value::Int(v) => by_number(*v),
        Value::UInt(v) => by_number(i64::try_from(*v).ok()?),
        Value::Double(v) => by_number(*v as i64),
        other => {
            let text = other.display()?;
            labels
                .iter()
                .find(|l| collation.compare(l, text.trim_end_matches(' ')).is_eq())
                .cloned()
                .or_else(|| text.parse().ok().and_then(by_number))
        }
    }
}

fn json(value: &Value, name: &str) -> SqlResult<Value> {
    let text = match value {
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => other.display().unwrap_or_default(),
    };
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(parsed) => Ok(Value::Text(json_text(&parsed))),
        Err(error) => Err(SqlError::new(
            3140,
            format!(
                "Invalid JSON text: \"{error}\" at position {} in value for column '{name}'.",
                error.column()
            ),
        )),
    }
}

/// JSON as MySQL prints it: a blank after `:` and `,`, keys by length and then by bytes.
pub fn json_text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Array(items) => {
            format!("[{}]", items.iter().map(json_text).collect::<Vec<_>>().join(", "))
        }
        serde_json::Value::Object(map) => {
            let mut keys: Vec<_> = map.iter().collect();
            keys.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
            let parts: Vec<_> = keys
                .into_iter()
                .map(|(k, v)| format!("{}: {}", serde_json::Value::from(k.as_str()), json_text(v)))
                .collect();
            format!("{{{}}}", parts.join(", "))
        }
        other => other.to_string(),
    }
}

/// The value of a NOT NULL column that is not given, outside strict mode (and of rows older than a column).
pub fn implicit_default(ty: &ColumnType) -> Value {
    match ty {
        ColumnType::Null => Value::Null,
        ColumnType::Int { .. } | ColumnType::Bit(_) | ColumnType::Year => Value::Int(0),
        ColumnType::Decimal { scale, .. } => Value::Text(decimal_text(&ZERO, *scale)),
        ColumnType::Float { .. } | ColumnType::Double { .. } => Value::Double(0.0),
        ColumnType::Char { .. }
        | ColumnType::VarChar { .. }
        | ColumnType::Text { .. }
        | ColumnType::Set { .. } => Value::Text(String::new()),
        ColumnType::Binary(n) => Value::Bytes(vec![0; *n as usize]),
        ColumnType::VarBinary(_) | ColumnType::Blob(_) => Value::Bytes(Vec::new()),
        ColumnType::Date => Value::Text("0000-00-00".to_owned()),
        ColumnType::Time(fsp) => Value::Text(time_text(0, *fsp)),
        ColumnType::DateTime(_) | ColumnType::Timestamp(_) => Value::Text("0000-00-00 00:00:00".to_owned()),
        ColumnType::Enum { labels, .. } => Value::Text(labels.first().cloned().unwrap_or_default()),
        ColumnType::Json => Value::Text("null".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strict(value: impl Into<Value>, ty: ColumnType) -> Result<Value, u16> {
        let column = ColumnDef::new("c", ty);
        Conversion { strict: true, row: 1, warn: &mut |_| {} }
            .convert(value.into(), &column)
            .map_err(|e| e.code)
    }
    fn decimal(precision: u8, scale: u8) -> ColumnType {
        ColumnType::Decimal { precision, scale, unsigned: false }
    }

    #[test]
    fn numbers_are_read_rounded_and_kept_in_range() {
        assert_eq!(strict("12", ColumnType::INT), Ok(Value::Int(12)));
        assert_eq!(strict("12.5", ColumnType::INT), Ok(Value::Int(13)));
        assert_eq!(strict("-12.5", ColumnType::INT), Ok(Value::Int(-13)));
        assert_eq!(strict("12abc", ColumnType::INT), Err(1265));
        assert_eq!(strict("abc", ColumnType::INT), Err(1366));
        assert_eq!(strict("", ColumnType::INT), Err(1366));
        assert_eq!(strict(3_000_000_000_i64, ColumnType::INT), Err(1264));
        assert_eq!(strict(Value::Double(1e30), ColumnType::BIGINT), Err(1264));
        assert_eq!(strict("10.005", decimal(6, 2)), Ok(Value::Text("10.01".into())));
        assert_eq!(strict("9.999", decimal(3, 2)), Err(1264));
        assert_eq!(strict("0.001", decimal(3, 2)), Ok(Value::Text("0.00".into())));
        assert_eq!(strict("-0.006", decimal(3, 2)), Ok(Value::Text("-0.01".into())));
        assert_eq!(strict(5_i64, decimal(10, 3)), Ok(Value::Text("5.000".into())));
        assert_eq!(strict("99.5", decimal(3, 0)), Ok(Value::Text("100".into())));
        assert_eq!(strict("1e2", decimal(10, 1)), Ok(Value::Text("100.0".into())));
        assert_eq!(strict("0.05", decimal(10, 4)), Ok(Value::Text("0.0500".into())));
    }

    #[test]
    fn texts_are_cut_or_refused() {
        assert_eq!(
            strict("abc  ", ColumnType::Char { length: 3, collation: Default::default() }),
            Ok("abc".into())
        );
        assert_eq!(strict("abcd", ColumnType::varchar(3)), Err(1406));
        assert_eq!(strict("äöü", ColumnType::varchar(3)), Ok("äöü".into()));
        assert_eq!(strict("äöü ", ColumnType::varchar(3)), Ok("äöü".into()));
        assert_eq!(strict(Value::Bytes(vec![0xff]), ColumnType::varchar(3)), Err(1366));
        assert_eq!(strict("a", ColumnType::Binary(2)), Ok(Value::Bytes(vec![b'a', 0])));
    }

    #[test]
    fn dates_enums_and_json_are_canonical() {
        assert_eq!(strict("2024-1-2", ColumnType::Date), Ok("2024-01-02".into()));
        assert_eq!(strict("2024-02-30", ColumnType::Date), Err(1292));
        assert_eq!(strict("2024-1-2 3:4", ColumnType::DateTime(0)), Ok("2024-01-02 03:04:00".into()));
        let ty = ColumnType::Enum { labels: vec!["a".into(), "b".into()], collation: Default::default() };
        assert_eq!(strict("B", ty.clone()), Ok("b".into()));
        assert_eq!(strict(1_i64, ty.clone()), Ok("a".into()));
        assert_eq!(strict("c", ty), Err(1265));
        assert_eq!(
            strict("{\"bb\":1,\"a\":[1,2]}", ColumnType::Json),
            Ok("{\"a\": [1, 2], \"bb\": 1}".into())
        );
        assert_eq!(strict("{", ColumnType::Json), Err(3140));
    }

    #[test]
    fn outside_strict_mode_the_nearest_value_is_kept_with_a_warning() {
        let mut warnings = Vec::new();
        let column = ColumnDef::new("c", ColumnType::INT);
        let mut warn = |e: SqlError| warnings.push(e.code);
        let mut lenient = Conversion { strict: false, row: 1, warn: &mut warn };
        assert_eq!(lenient.convert(Value::Int(i64::MAX), &column), Ok(Value::Int(i64::from(i32::MAX))));
        assert_eq!(lenient.convert("12abc".into(), &column), Ok(Value::Int(12)));
        assert_eq!(warnings, [1264, 1265]);
    }
}
