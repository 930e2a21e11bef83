//! MySQL's tokens. Executable comments (`/*! … */`, `/*!40101 … */`) are read as the text they contain.

use crate::error::{SqlError, SqlResult};

/// The version whose executable comments are carried out.
const VERSION: u32 = 80_039;

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tok {
    /// A word that is not quoted: a keyword or an identifier.
    Word(String),
    /// `` `name` `` (or `"name"` under ANSI_QUOTES).
    Quoted(String),
    /// A string.
    Str(String),
    /// `N'…'`, `_utf8mb4'…'`: the introducer is given before the string.
    Introducer(String),
    /// Digits only.
    Int(String),
    /// Digits with a point.
    Decimal(String),
    /// With an exponent.
    Float(String),
    /// `x'41'`, `0x41`, `b'01'`.
    Bytes(Vec<u8>),
    /// `@name`.
    UserVar(String),
    /// `@@`.
    AtAt,
    /// `?`.
    Param,
    /// Punctuation.
    Op(&'static str),
    /// The end.
    End,
}

/// A token and its place in the text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) tok: Tok,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// What of the `sql_mode` changes how text is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LexMode {
    /// ANSI_QUOTES: `"x"` is an identifier.
    pub ansi_quotes: bool,
    /// NO_BACKSLASH_ESCAPES.
    pub no_backslash: bool,
    /// PIPES_AS_CONCAT.
    pub pipes_as_concat: bool,
}

const OPS: &[&str] = &[
    "<=>", "->>", "<<", ">>", "<=", ">=", "<>", "!=", ":=", "||", "&&", "->", "(", ")", ",", ".", ";", "+",
    "-", "*", "/", "%", "^", "&", "|", "~", "!", "=", "<", ">", "@", ":", "{", "}",
];

/// Reads tokens one after another.
pub(crate) struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    in_executable: bool,
    mode: LexMode,
}

fn is_word_start(b: u8) -> bool {
    b.is_ascii_alphabetic() || b == b'_' || b == b'$' || b >= 0x80
}

fn is_word(b: u8) -> bool {
    is_word_start(b) || b.is_ascii_digit()
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str, mode: LexMode) -> Self {
        Self { text, bytes: text.as_bytes(), at: 0, in_executable: false, mode }
    }

    fn byte(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn error(&self, at: usize) -> SqlError {
        syntax_error(self.text, at)
    }

    /// Skips blanks and comments; opens and closes executable comments.
    fn skip_blanks(&mut self) -> SqlResult<()> {
        loop {
            match self.byte(0) {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => self.at += 1,
                b'#' => self.skip_line(),
                b'-' if self.byte(1) == b'-' && (self.byte(2) <= b' ') => self.skip_line(),
                b'/' if self.byte(1) == b'*' => self.open_comment()?,
                b'*' if self.in_executable && self.byte(1) == b'/' => {
                    self.in_executable = false;
                    self.at += 2;
                }
                _ => return Ok(()),
            }
        }
    }

    fn skip_line(&mut self) {
        while self.at < self.bytes.len() && self.byte(0) != b'\n' {
            self.at += 1;
        }
    }

    fn open_comment(&mut self) -> SqlResult<()> {
        let start = self.at;
        if self.byte(2) == b'!' && !self.in_executable {
            let digits = self.bytes[self.at + 3..].iter().take(6).take_while(|b| b.is_ascii_digit()).count();
            let digits = if digits >= 5 { digits } else { 0 };
            let version = self.text[self.at + 3..self.at + 3 + digits].parse::<u32>().unwrap_or(0);
            if version <= VERSION {
                self.at += 3 + digits;
                self.in_executable = true;
                return Ok(());
            }
        }
        match self.text[self.at + 2..].find("*/") {
            Some(length) => {
                self.at += 2 + length + 2;
                Ok(())
            }
            None => Err(self.error(start)),
        }
    }

    /// The next token.
    pub(crate) fn token(&mut self) -> SqlResult<Token> {
        self.skip_blanks()?;
        let start = self.at;
        if start >= self.bytes.len() {
            return Ok(Token { tok: Tok::End, start, end: start });
        }
        let tok = self.scan(start)?;
        Ok(Token { tok, start, end: self.at })
    }

    fn scan(&mut self, start: usize) -> SqlResult<Tok> {
        let b = self.byte(0);
        match b {
            b'\'' => return Ok(Tok::Str(self.quoted(b'\'', true)?)),
            b'"' if self.mode.ansi_quotes => return Ok(Tok::Quoted(self.quoted(b'"', false)?)),
            b'"' => return Ok(Tok::Str(self.quoted(b'"', true)?)),
            b'`' => return Ok(Tok::Quoted(self.quoted(b'`', false)?)),
            b'?' => {
                self.at += 1;
                return Ok(Tok::Param);
            }
            b'@' => return self.variable(),
            b'0'..=b'9' => return Ok(self.number()),
            b'.' if self.byte(1).is_ascii_digit() && !self.after_name(start) => return Ok(self.number()),
            _ => {}
        }
        if matches!(b, b'x' | b'X' | b'b' | b'B') && self.byte(1) == b'\'' {
            return self.radix_string(b.eq_ignore_ascii_case(&b'x'));
        }
        if matches!(b, b'n' | b'N') && self.byte(1) == b'\'' {
            self.at += 1;
            return Ok(Tok::Str(self.quoted(b'\'', true)?));
        }
        if is_word_start(b) {
            return Ok(self.word(start));
        }
        for op in OPS {
            if self.bytes[self.at..].starts_with(op.as_bytes()) {
                self.at += op.len();
                return Ok(Tok::Op(op));
            }
        }
        Err(self.error(start))
    }

    /// True if the `.` at this place continues a qualified name.
    fn after_name(&self, at: usize) -> bool {
        at > 0 && (is_word(self.bytes[at - 1]) || self.bytes[at - 1] == b'`')
    }

    fn word(&mut self, start: usize) -> Tok {
        while is_word(self.byte(0)) {
            self.at += 1;
        }
        let word = &self.text[start..self.at];
        if let Some(charset) = word.strip_prefix('_') {
            let next = self.bytes[self.at..].iter().position(|b| !b.is_ascii_whitespace());
            let quote = next.map(|n| self.bytes[self.at + n]);
            let known = crate::collation::Collation::of_charset(charset).is_some();
            if known && matches!(quote, Some(b'\'' | b'"' | b'x' | b'X' | b'0' | b'b' | b'B')) {
                return Tok::Introducer(charset.to_ascii_lowercase());
            }
        }
        Tok::Word(word.to_owned())
    }

    fn variable(&mut self) -> SqlResult<Tok> {
        if self.byte(1) == b'@' {
            self.at += 2;
            return Ok(Tok::AtAt);
        }
        match self.byte(1) {
            quote @ (b'\'' | b'"' | b'`') => {
                self.at += 1;
                Ok(Tok::UserVar(self.quoted(quote, quote != b'`')?))
            }
            next if is_word(next) || next == b'.' => {
                self.at += 1;
                let start = self.at;
                while is_word(self.byte(0)) || self.byte(0) == b'.' {
                    self.at += 1;
                }
                Ok(Tok::UserVar(self.text[start..self.at].to_owned()))
            }
            _ => {
                self.at += 1;
                Ok(Tok::Op("@"))
            }
        }
    }

    fn number(&mut self) -> Tok {
        let start = self.at;
        if self.byte(0) == b'0' && matches!(self.byte(1), b'x' | b'b') {
            let hex = self.byte(1) == b'x';
            let digits = self.bytes[self.at + 2..]
                .iter()
                .take_while(|b| if hex { b.is_ascii_hexdigit() } else { matches!(b, b'0' | b'1') })
                .count();
            let after = self.bytes.get(self.at + 2 + digits).copied().unwrap_or(0);
            if digits > 0 && !is_word(after) {
                let text = &self.text[self.at + 2..self.at + 2 + digits];
                self.at += 2 + digits;
                return Tok::Bytes(radix_bytes(text, hex));
            }
        }
        while self.byte(0).is_ascii_digit() {
            self.at += 1;
        }
        let mut kind = 0;
        if self.byte(0) == b'.' && !is_word_start(self.byte(1)) {
            kind = 1;
            self.at += 1;
            while self.byte(0).is_ascii_digit() {
                self.at += 1;
            }
        }
        if matches!(self.byte(0), b'e' | b'E') {
            let sign = usize::from(matches!(self.byte(1), b'+' | b'-'));
            if self.byte(1 + sign).is_ascii_digit() {
                kind = 2;
                self.at += 1 + sign;
                while self.byte(0).is_ascii_digit() {
                    self.at += 1;
                }
            }
        }
        if kind == 0 && is_word_start(self.byte(0)) {
            // An identifier may begin with digits.
            while is_word(self.byte(0)) {
                self.at += 1;
            }
            return Tok::Word(self.text[start..self.at].to_owned());
        }
        let text = self.text[start..self.at].to_owned();
        match kind {
            0 => Tok::Int(text),
            1 => Tok::Decimal(text),
            _ => Tok::Float(text),
        }
    }

    fn radix_string(&mut self, hex: bool) -> SqlResult<Tok> {
        let start = self.at;
        self.at += 1;
        let text = self.quoted(b'\'', true)?;
        let valid = text.bytes().all(|b| if hex { b.is_ascii_hexdigit() } else { matches!(b, b'0' | b'1') });
        if !valid || (hex && text.len() % 2 == 1) {
            return Err(self.error(start));
        }
        Ok(Tok::Bytes(radix_bytes(&text, hex)))
    }

    /// A quoted token; `escapes`: backslashes mean something.
    fn quoted(&mut self, quote: u8, escapes: bool) -> SqlResult<String> {
        let start = self.at;
        let escapes = escapes && !self.mode.no_backslash;
        self.at += 1;
        let mut out: Vec<u8> = Vec::new();
        loop {
            let Some(&b) = self.bytes.get(self.at) else { return Err(self.error(start)) };
            self.at += 1;
            if b == quote {
                if self.byte(0) != quote || self.at >= self.bytes.len() {
                    break;
                }
                self.at += 1;
                out.push(quote);
            } else if b == b'\\' && escapes {
                let Some(&escaped) = self.bytes.get(self.at) else { return Err(self.error(start)) };
                self.at += 1;
                unescape(escaped, &mut out);
            } else {
                out.push(b);
            }
        }
        String::from_utf8(out).map_err(|_| self.error(start))
    }
}

fn unescape(escaped: u8, out: &mut Vec<u8>) {
    match escaped {
        b'0' => out.push(0),
        b'n' => out.push(b'\n'),
        b't' => out.push(b'\t'),
        b'r' => out.push(b'\r'),
        b'b' => out.push(8),
        b'Z' => out.push(26),
        // These stay escaped for LIKE.
        b'%' | b'_' => out.extend([b'\\', escaped]),
        other => out.push(other),
    }
}

fn radix_bytes(digits: &str, hex: bool) -> Vec<u8> {
    let per_byte = if hex { 2 } else { 8 };
    let radix = if hex { 16 } else { 2 };
    let padding = (per_byte - digits.len() % per_byte) % per_byte;
    let padded = "0".repeat(padding) + digits;
    let parse = |chunk: &[u8]| {
        chunk.iter().fold(0u8, |n, b| (n.wrapping_mul(radix)) | (*b as char).to_digit(16).unwrap_or(0) as u8)
    };
    padded.as_bytes().chunks(per_byte).map(parse).collect()
}

/// All tokens of a statement; the last is [`Tok::End`].
pub(crate) fn tokens(text: &str, mode: LexMode) -> SqlResult<Vec<Token>> {
    let mut lexer = Lexer::new(text, mode);
    let mut all = Vec::with_capacity(text.len() / 4 + 4);
    loop {
        let token = lexer.token()?;
        let last = token.tok == Tok::End;
        all.push(token);
        if last {
            return Ok(all);
        }
    }
}

/// Splits off the first statement: `(first, rest)`, the rest being after the semicolon.
///
/// # Errors
///
/// 1064 for a string or comment without an end.
pub(crate) fn first_statement(text: &str, mode: LexMode) -> SqlResult<(&str, &str)> {
    if !text.as_bytes().contains(&b';') {
        return Ok((text, ""));
    }
    let mut lexer = Lexer::new(text, mode);
    loop {
        let token = lexer.token()?;
        match token.tok {
            Tok::Op(";") => return Ok((&text[..token.start], &text[token.end..])),
            Tok::End => return Ok((text, "")),
            _ => {}
        }
    }
}

/// 1064 at a place in the text.
pub(crate) fn syntax_error(text: &str, at: usize) -> SqlError {
    let at = at.min(text.len());
    let line = text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() as u64 + 1;
    SqlError::syntax(&text[at..], line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Tok> {
        tokens(text, LexMode::default()).expect("tokens").into_iter().map(|t| t.tok).collect()
    }

    #[test]
    fn executable_comments_are_read_and_others_are_not() {
        assert_eq!(
            kinds("/*!40101 SET */ a /* b */ /*!99999 c */ -- d\n# e\n/*M!100100 f */"),
            vec![Tok::Word("SET".into()), Tok::Word("a".into()), Tok::End]
        );
    }

    #[test]
    fn strings_keep_their_escapes_straight() {
        assert_eq!(kinds(r"'a\'b''c\n\%'"), vec![Tok::Str("a'b'c\n\\%".into()), Tok::End]);
        assert_eq!(kinds("\"x\"\"y\""), vec![Tok::Str("x\"y".into()), Tok::End]);
    }

    #[test]
    fn numbers_come_in_three_kinds_and_as_bytes() {
        assert_eq!(
            kinds("1 1.5 .5 1e3 0x4142 b'1' t.c 1a"),
            vec![
                Tok::Int("1".into()),
                Tok::Decimal("1.5".into()),
                Tok::Decimal(".5".into()),
                Tok::Float("1e3".into()),
                Tok::Bytes(vec![0x41, 0x42]),
                Tok::Bytes(vec![1]),
                Tok::Word("t".into()),
                Tok::Op("."),
                Tok::Word("c".into()),
                Tok::Word("1a".into()),
                Tok::End
            ]
        );
    }

    #[test]
    fn statements_are_split_outside_of_strings() {
        assert_eq!(
            first_statement("select ';' ; select 2", LexMode::default()).expect("split"),
            ("select ';' ", " select 2")
        );
    }
}
