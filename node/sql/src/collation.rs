//! Character sets and collations: comparison of strings, and weights that compare as bytes.
//!
//! The SQLite names (`ci`, `ci_pad`, `bin_pad`, `dec`) are registered on every connection by
//! [`crate::collation::register`]; `BINARY` is SQLite's own.

use std::cmp::Ordering;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How a collation compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Accents and case do not matter; trailing spaces do (`utf8mb4_0900_ai_ci`).
    Insensitive,
    /// Accents and case do not matter, nor do trailing spaces (`*_general_ci`, `*_unicode_ci`).
    InsensitivePad,
    /// Code points (`utf8mb4_0900_bin`, `binary`).
    Binary,
    /// Code points, trailing spaces do not matter (`utf8mb4_bin`).
    BinaryPad,
}

/// What is known of a collation.
#[derive(Debug, PartialEq, Eq)]
pub struct CollationInfo {
    /// The number in the protocol.
    pub id: u16,
    /// Its name.
    pub name: &'static str,
    /// Its character set.
    pub charset: &'static str,
    /// True if it is the default of its character set.
    pub default: bool,
    /// How it compares.
    pub comparison: Comparison,
}

const fn info(
    id: u16,
    name: &'static str,
    charset: &'static str,
    default: bool,
    comparison: Comparison,
) -> CollationInfo {
    CollationInfo { id, name, charset, default, comparison }
}

/// All that are known. Everything but `binary` is stored and compared as UTF-8.
pub static COLLATIONS: &[CollationInfo] = &[
    info(255, "utf8mb4_0900_ai_ci", "utf8mb4", true, Comparison::Insensitive),
    info(45, "utf8mb4_general_ci", "utf8mb4", false, Comparison::InsensitivePad),
    info(46, "utf8mb4_bin", "utf8mb4", false, Comparison::BinaryPad),
    info(224, "utf8mb4_unicode_ci", "utf8mb4", false, Comparison::InsensitivePad),
    info(246, "utf8mb4_unicode_520_ci", "utf8mb4", false, Comparison::InsensitivePad),
    info(309, "utf8mb4_0900_bin", "utf8mb4", false, Comparison::Binary),
    info(33, "utf8mb3_general_ci", "utf8mb3", true, Comparison::InsensitivePad),
    info(83, "utf8mb3_bin", "utf8mb3", false, Comparison::BinaryPad),
    info(192, "utf8mb3_unicode_ci", "utf8mb3", false, Comparison::InsensitivePad),
    info(8, "latin1_swedish_ci", "latin1", true, Comparison::InsensitivePad),
    info(47, "latin1_bin", "latin1", false, Comparison::BinaryPad),
    info(11, "ascii_general_ci", "ascii", true, Comparison::InsensitivePad),
    info(65, "ascii_bin", "ascii", false, Comparison::BinaryPad),
    info(63, "binary", "binary", true, Comparison::Binary),
];

/// A collation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Collation(&'static CollationInfo);

impl std::fmt::Debug for Collation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name)
    }
}

impl Default for Collation {
    fn default() -> Self {
        Self(&COLLATIONS[0])
    }
}

impl Serialize for Collation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name)
    }
}

impl<'de> Deserialize<'de> for Collation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::by_name(&name).ok_or_else(|| serde::de::Error::custom(format!("unknown collation {name}")))
    }
}

impl Collation {
    /// By its name, `utf8_...` being MySQL's old spelling of `utf8mb3_...`.
    pub fn by_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let name = match name.strip_prefix("utf8_") {
            Some(rest) => format!("utf8mb3_{rest}"),
            None => name,
        };
        COLLATIONS.iter().find(|c| c.name == name).map(Self)
    }
    /// By its number in the protocol.
    pub fn by_id(id: u16) -> Option<Self> {
        COLLATIONS.iter().find(|c| c.id == id).map(Self)
    }
    /// The default collation of a character set.
    pub fn of_charset(charset: &str) -> Option<Self> {
        let charset = charset.to_ascii_lowercase();
        let charset = if charset == "utf8" { "utf8mb3" } else { &charset };
        COLLATIONS.iter().find(|c| c.charset == charset && c.default).map(Self)
    }
    /// The binary collation.
    pub fn binary() -> Self {
        Self(&COLLATIONS[COLLATIONS.len() - 1])
    }
    /// What is known of it.
    pub fn info(self) -> &'static CollationInfo {
        self.0
    }
    /// Its name.
    pub fn name(self) -> &'static str {
        self.0.name
    }
    /// The name to use in SQLite's SQL (`COLLATE ...`).
    pub fn sqlite_name(self) -> &'static str {
        match self.0.comparison {
            Comparison::Insensitive => "ci",
            Comparison::InsensitivePad => "ci_pad",
            Comparison::Binary => "BINARY",
            Comparison::BinaryPad => "bin_pad",
        }
    }
    /// Compares two strings.
    pub fn compare(self, a: &str, b: &str) -> Ordering {
        compare(self.0.comparison, a.as_bytes(), b.as_bytes())
    }
}

/// Compares two strings (UTF-8, or damaged: then bytes decide).
pub fn compare(comparison: Comparison, a: &[u8], b: &[u8]) -> Ordering {
    match comparison {
        Comparison::Binary => a.cmp(b),
        Comparison::BinaryPad => trim_spaces(a).cmp(trim_spaces(b)),
        Comparison::Insensitive => compare_weights(&WEIGHTS_UCA, a, b),
        Comparison::InsensitivePad => compare_weights(&WEIGHTS_GENERAL, trim_spaces(a), trim_spaces(b)),
    }
}

/// Appends the weights of a string: bytes that compare as [`compare`] does.
pub fn push_weights(comparison: Comparison, s: &[u8], out: &mut Vec<u8>) {
    match comparison {
        Comparison::Binary => out.extend_from_slice(s),
        Comparison::BinaryPad => out.extend_from_slice(trim_spaces(s)),
        Comparison::Insensitive => weights(&WEIGHTS_UCA, s, out),
        Comparison::InsensitivePad => weights(&WEIGHTS_GENERAL, trim_spaces(s), out),
    }
}

fn trim_spaces(mut s: &[u8]) -> &[u8] {
    while let [rest @ .., b' '] = s {
        s = rest;
    }
    s
}

/// The weights of ASCII in the order of the Unicode collation algorithm: blanks, punctuation, symbols,
/// digits, letters.
static WEIGHTS_UCA: [u8; 128] = uca_weights();
/// The weights of ASCII of `general_ci`: upper-case code points.
static WEIGHTS_GENERAL: [u8; 128] = general_weights();

const fn uca_weights() -> [u8; 128] {
    let order = b"\t\n\x0b\x0c\r _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$0123456789";
    let mut table = [0_u8; 128];
    let mut c = 0;
    let mut next = 1;
    // Control characters first, in their own order.
    while c < 128 {
        if (c < 32 && !(c >= 9 && c <= 13)) || c == 127 {
            table[c] = next;
            next += 1;
        }
        c += 1;
    }
    let mut i = 0;
    while i < order.len() {
        table[order[i] as usize] = next;
        next += 1;
        i += 1;
    }
    let mut letter = 0;
    while letter < 26 {
        table[(b'a' + letter) as usize] = next;
        table[(b'A' + letter) as usize] = next;
        next += 1;
        letter += 1;
    }
    table
}

const fn general_weights() -> [u8; 128] {
    let mut table = [0_u8; 128];
    let mut c = 0;
    while c < 128 {
        table[c] = (c as u8).to_ascii_uppercase();
        c += 1;
    }
    table
}

fn compare_weights(table: &[u8; 128], a: &[u8], b: &[u8]) -> Ordering {
    let shorter = a.len().min(b.len());
    for i in 0..shorter {
        let (x, y) = (a[i], b[i]);
        if x >= 128 || y >= 128 {
            let (mut wa, mut wb) = (Vec::with_capacity(a.len()), Vec::with_capacity(b.len()));
            weights(table, char_start(a, i), &mut wa);
            weights(table, char_start(b, i), &mut wb);
            return wa.cmp(&wb);
        }
        match table[x as usize].cmp(&table[y as usize]) {
            Ordering::Equal => {}
            other => return other,
        }
    }
    // What is left may be ignorable (combining accents), so lengths alone do not decide.
    if a[shorter..].iter().chain(&b[shorter..]).any(|&c| c >= 128) {
        let (mut wa, mut wb) = (Vec::new(), Vec::new());
        weights(table, &a[shorter..], &mut wa);
        weights(table, &b[shorter..], &mut wb);
        return wa.cmp(&wb);
    }
    a.len().cmp(&b.len())
}

/// All bytes before `i` are ASCII, so `i` begins a character.
fn char_start(s: &[u8], i: usize) -> &[u8] {
    &s[i..]
}

fn weights(table: &[u8; 128], s: &[u8], out: &mut Vec<u8>) {
    if s.is_ascii() {
        out.extend(s.iter().map(|&c| table[c as usize]));
        return;
    }
    for c in String::from_utf8_lossy(s).chars() {
        if c.is_ascii() {
            out.push(table[c as usize]);
            continue;
        }
        if ('\u{300}'..='\u{36f}').contains(&c) {
            continue;
        }
        let base = base_letters(c);
        if !base.is_empty() {
            out.extend(base.bytes().map(|b| table[b as usize]));
            continue;
        }
        let mut buffer = [0; 4];
        for lower in c.to_lowercase() {
            out.extend_from_slice(lower.encode_utf8(&mut buffer).as_bytes());
        }
    }
}

/// The ASCII letters that an accented Latin letter is equal to when accents do not matter.
fn base_letters(c: char) -> &'static str {
    match c {
        'À'..='Å' | 'à'..='å' | 'Ā'..='ą' => "a",
        'Æ' | 'æ' => "ae",
        'Ç' | 'ç' | 'Ć'..='č' => "c",
        'Ď'..='đ' | 'Ð' | 'ð' => "d",
        'È'..='Ë' | 'è'..='ë' | 'Ē'..='ě' => "e",
        'Ĝ'..='ģ' => "g",
        'Ĥ'..='ħ' => "h",
        'Ì'..='Ï' | 'ì'..='ï' | 'Ĩ'..='ı' => "i",
        'Ĵ' | 'ĵ' => "j",
        'Ķ' | 'ķ' => "k",
        'Ĺ'..='ł' => "l",
        'Ñ' | 'ñ' | 'Ń'..='ň' => "n",
        'Ò'..='Ö' | 'Ø' | 'ò'..='ö' | 'ø' | 'Ō'..='ő' => "o",
        'Œ' | 'œ' => "oe",
        'Ŕ'..='ř' => "r",
        'Ś'..='š' => "s",
        'ß' => "ss",
        'Ţ'..='ŧ' => "t",
        'Ù'..='Ü' | 'ù'..='ü' | 'Ũ'..='ų' => "u",
        'Ŵ' | 'ŵ' => "w",
        'Ý' | 'ý' | 'ÿ' | 'Ŷ'..='Ÿ' => "y",
        'Ź'..='ž' => "z",
        _ => "",
    }
}

/// A decimal number taken apart: its value is `0.d1d2d3… × 10^exponent`, without leading or trailing zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecimalParts {
    /// Below zero.
    pub negative: bool,
    /// Power of ten; 0 for zero.
    pub exponent: i32,
    /// Digits 0–9; none for zero.
    pub digits: Vec<u8>,
}

/// The number that a text begins with (blanks before it are skipped; none: zero), and whether anything but
/// blanks follows.
pub fn decimal_parts(text: &[u8]) -> (DecimalParts, bool) {
    let mut rest = text.trim_ascii();
    let negative = rest.first() == Some(&b'-');
    if let [b'-' | b'+', after @ ..] = rest {
        rest = after;
    }
    let (mut digits, mut exponent, mut point, mut any) =
        (Vec::with_capacity(rest.len()), 0_i32, false, false);
    let mut at = 0;
    while let Some(&c) = rest.get(at) {
        match c {
            b'0'..=b'9' => {
                any = true;
                if c == b'0' && digits.is_empty() {
                    exponent -= i32::from(point);
                } else {
                    digits.push(c - b'0');
                    exponent += i32::from(!point);
                }
            }
            b'.' if !point => point = true,
            _ => break,
        }
        at += 1;
    }
    if any && matches!(rest.get(at), Some(b'e' | b'E')) {
        let (sign_length, sign) = match rest.get(at + 1) {
            Some(b'-') => (1, -1),
            Some(b'+') => (1, 1),
            _ => (0, 1),
        };
        let begin = at + 1 + sign_length;
        let length = rest[begin.min(rest.len())..].iter().take_while(|c| c.is_ascii_digit()).count();
        if length > 0 {
            let power = rest[begin..begin + length]
                .iter()
                .fold(0_i32, |power, c| (power * 10 + i32::from(c - b'0')).min(100_000));
            exponent += sign * power;
            at = begin + length;
        }
    }
    while digits.last() == Some(&0) {
        digits.pop();
    }
    if digits.is_empty() {
        exponent = 0;
    }
    let negative = negative && !digits.is_empty();
    (DecimalParts { negative, exponent, digits }, !any || at < rest.len())
}

/// Appends bytes that sort as the decimal numbers do.
pub fn push_decimal_key(text: &[u8], out: &mut Vec<u8>) {
    let (parts, _) = decimal_parts(text);
    if parts.digits.is_empty() {
        out.push(1);
        return;
    }
    let start = out.len();
    out.push(2);
    // Exponents of SQL's decimals fit 16 bits many times over.
    let exponent = (parts.exponent.clamp(-30_000, 30_000) + 32_768) as u16;
    out.extend_from_slice(&exponent.to_be_bytes());
    out.extend(parts.digits.iter().map(|d| d + 1));
    out.push(0);
    if parts.negative {
        for byte in &mut out[start..] {
            *byte = !*byte;
        }
        out[start] = 0;
    }
}

/// Compares two decimal texts as numbers.
pub fn compare_decimal(a: &[u8], b: &[u8]) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    let (mut x, mut y) = (Vec::with_capacity(24), Vec::with_capacity(24));
    push_decimal_key(a, &mut x);
    push_decimal_key(b, &mut y);
    x.cmp(&y)
}

/// `[-]HHH:MM:SS[.ffffff]` in microseconds; what is not a time is 0.
pub fn time_micros(text: &[u8]) -> i64 {
    let negative = text.first() == Some(&b'-');
    let text = if negative { &text[1..] } else { text };
    let (mut fields, mut field, mut fraction, mut scale) = ([0_i64; 3], 0, 0_i64, 0_i64);
    for &c in text {
        match c {
            b'0'..=b'9' if scale > 0 => {
                fraction += i64::from(c - b'0') * scale;
                scale /= 10;
            }
            b'0'..=b'9' if field < 3 => {
                fields[field] = (fields[field] * 10 + i64::from(c - b'0')).min(100_000)
            }
            b':' => field = (field + 1).min(2),
            b'.' => scale = 100_000,
            _ => break,
        }
    }
    let micros = ((fields[0] * 60 + fields[1]) * 60 + fields[2]) * 1_000_000 + fraction;
    if negative { -micros } else { micros }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_accents_do_not_matter_where_they_should_not() {
        let ci = Collation::default();
        assert_eq!(ci.compare("Résumé", "rESUME"), Ordering::Equal);
        assert_eq!(ci.compare("straße", "STRASSE"), Ordering::Equal);
        assert_eq!(ci.compare("e\u{301}", "e"), Ordering::Equal);
        assert_eq!(ci.compare("a_", "a0"), Ordering::Less);
        assert_eq!(ci.compare("a", "a "), Ordering::Less);
        let general = Collation::by_name("utf8mb4_general_ci").expect("known");
        assert_eq!(general.compare("A", "a  "), Ordering::Equal);
        let bin = Collation::by_name("utf8mb4_bin").expect("known");
        assert_eq!(bin.compare("A", "a"), Ordering::Less);
    }

    #[test]
    fn weights_compare_as_the_strings_do() {
        let words = ["", "a", "A", "ab", "a b", "é", "Zoë", "zoe", "zzz", "日本", "0", "~", "a\u{301}b"];
        for comparison in
            [Comparison::Insensitive, Comparison::InsensitivePad, Comparison::Binary, Comparison::BinaryPad]
        {
            for a in words {
                for b in words {
                    let (mut x, mut y) = (Vec::new(), Vec::new());
                    push_weights(comparison, a.as_bytes(), &mut x);
                    push_weights(comparison, b.as_bytes(), &mut y);
                    assert_eq!(x.cmp(&y), compare(comparison, a.as_bytes(), b.as_bytes()), "{a} {b}");
                }
            }
        }
    }

    #[test]
    fn decimals_sort_as_numbers() {
        let sorted = [
            "-1e3", "-100", "-10.5", "-10.49", "-0.001", "0.00", "0.0001", "0.01", "1", "1.5", "9.99", "10",
            "100.0", "1e5",
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(compare_decimal(a.as_bytes(), b.as_bytes()), i.cmp(&j), "{a} {b}");
            }
        }
        assert_eq!(compare_decimal(b"10.50", b"10.5"), Ordering::Equal);
    }
}
