//! RE2's regular expressions, which Istio's rules are written in, on `regex-lite`.
//!
//! Both are linear in the text. Envoy (1.40) compares bytes, not characters: `.` is one byte, `é` is two, `\xe9` is the
//! byte E9, and `(?i)` concerns the letters of ASCII. So patterns and texts are read here as if each byte were a
//! character.
//!
//! [`translate`] writes what RE2 reads otherwise than `regex-lite` in words that mean the same: a `{` that begins no
//! repetition, `[`, `&&`, `--` and `~~` in a class, `\w-.` in a class, `\Q…\E`, `\<`.
//!
//! What RE2 knows and this does not is an error when the pattern is compiled, never a pattern that silently does not
//! match:
//!
//! - classes of Unicode: `\pL`, `\p{Greek}`, `\PN`
//! - octal escapes (`\012`)
//! - more than 1024 bytes (Istio's own limit), more than 50 nested groups, or a program of more than 256 KiB
//!
//! RE2 refuses what is repeated twice (`a**`), and so do Istio's checks; here it means `(?:a*)*`.

use std::borrow::Cow;
use std::iter::Peekable;
use std::str::Chars;

use regex_lite::{Regex, RegexBuilder};

/// Istio: "regex is too large, max length allowed is 1024".
pub(crate) const MAX_PATTERN: usize = 1024;

/// Of a compiled pattern, in bytes. Time grows with it and with the text.
const MAX_PROGRAM: usize = 256 << 10;

/// RE2's limit of `{n}`.
const MAX_REPEAT: u32 = 1000;

/// Bytes as characters from U+0000 to U+00FF.
pub(crate) fn as_chars(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Cow::Borrowed(text),
        _ => bytes.iter().copied().map(char::from).collect::<String>().into(),
    }
}

/// The opposite of [`as_chars`]; `None` when the bytes are no text.
pub(crate) fn from_chars(text: String) -> Option<String> {
    if text.is_ascii() {
        return Some(text);
    }
    let bytes = text.chars().map(u8::try_from).collect::<Result<_, _>>().ok()?;
    String::from_utf8(bytes).ok()
}

/// Compiles a pattern to be searched for in a text of [`as_chars`].
pub(crate) fn search(pattern: &str) -> Result<Regex, String> {
    let translated = translate(pattern)?;
    build(&translated).map_err(|found| describe(pattern, &found))
}

/// Compiles a pattern that must match the whole of a text of [`as_chars`].
pub(crate) fn full(pattern: &str) -> Result<Regex, String> {
    let translated = translate(pattern)?;
    // By itself first: `a)(b` is a pattern only between parentheses.
    build(&translated).and_then(|_| build(&format!("^(?:{translated})$"))).map_err(|found| describe(pattern, &found))
}

fn build(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).size_limit(MAX_PROGRAM).build().map_err(|error| error.to_string())
}

fn describe(pattern: &str, found: &str) -> String {
    format!("regular expression `{pattern}`: {found}")
}

/// Writes a pattern of RE2 as one of `regex-lite`.
fn translate(pattern: &str) -> Result<String, String> {
    if pattern.is_empty() {
        // Istio: "regex string match should not be empty".
        return Err("a regular expression must not be empty".to_owned());
    }
    if pattern.len() > MAX_PATTERN {
        return Err(format!("regular expression of {} bytes: at most {MAX_PATTERN} are supported", pattern.len()));
    }
    let chars = as_chars(pattern.as_bytes());
    let mut translator =
        Translator { rest: chars.chars().peekable(), out: String::new(), ignores_case: false, outer: Vec::new() };
    translator.pattern().map_err(|found| describe(pattern, &found))?;
    Ok(translator.out)
}

struct Translator<'a> {
    rest: Peekable<Chars<'a>>,
    out: String,
    /// `(?i)` is in force here.
    ignores_case: bool,
    /// The same around each group that is open.
    outer: Vec<bool>,
}

impl Translator<'_> {
    fn pattern(&mut self) -> Result<(), String> {
        while let Some(char) = self.rest.next() {
            match char {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '{' => self.brace()?,
                '(' => self.group()?,
                ')' => {
                    self.ignores_case = self.outer.pop().unwrap_or(self.ignores_case);
                    self.out.push(')');
                }
                other => self.out.push(other),
            }
        }
        Ok(())
    }

    /// What the rest begins with, without taking it.
    fn starts_with(&self, text: &str) -> bool {
        let mut ahead = self.rest.clone();
        text.chars().all(|char| ahead.next() == Some(char))
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.rest.next();
        }
    }

    /// Outside of a class, after the backslash.
    fn escape(&mut self) -> Result<(), String> {
        match self.rest.peek().copied() {
            Some('Q') => {
                self.rest.next();
                while self.rest.peek().is_some() {
                    if self.starts_with("\\E") {
                        self.skip(2);
                        break;
                    }
                    if let Some(char) = self.rest.next() {
                        self.quoted(char);
                    }
                }
                Ok(())
            }
            // One byte, a line feed too.
            Some('C') => {
                self.rest.next();
                self.out.push_str("(?s:.)");
                Ok(())
            }
            // Of the letters, these mean the same in both.
            Some(char @ ('A' | 'b' | 'B' | 'z' | 'd' | 'D' | 's' | 'S' | 'w' | 'W')) => {
                self.rest.next();
                self.out.push('\\');
                self.out.push(char);
                Ok(())
            }
            _ => {
                let char = self.escaped_char()?;
                self.quoted(char);
                Ok(())
            }
        }
    }

    /// A character that stands for itself.
    fn quoted(&mut self, char: char) {
        // `\<` and `\>` are the ends of words in `regex-lite`; without the backslash they are characters.
        if char.is_ascii_punctuation() && !matches!(char, '<' | '>') {
            self.out.push('\\');
        }
        self.out.push(char);
    }

    /// After a backslash: one character.
    fn escaped_char(&mut self) -> Result<char, String> {
        match self.rest.next() {
            None => Err("a backslash at the end".to_owned()),
            Some('a') => Ok('\x07'),
            Some('f') => Ok('\x0c'),
            Some('n') => Ok('\n'),
            Some('r') => Ok('\r'),
            Some('t') => Ok('\t'),
            Some('v') => Ok('\x0b'),
            Some('x') => self.hexadecimal(),
            Some('p' | 'P') => Err("classes of Unicode (`\\p`) are not supported".to_owned()),
            Some(char) if char.is_ascii_digit() => {
                Err(format!("`\\{char}` is not supported: RE2 has no back references, and octal escapes are not read"))
            }
            Some(char) if char.is_ascii_punctuation() => Ok(char),
            Some(char) => Err(format!("the escape `\\{char}` is not supported")),
        }
    }

    /// After `\x`: two digits, or some in braces.
    fn hexadecimal(&mut self) -> Result<char, String> {
        let mut digits = String::new();
        if self.rest.next_if_eq(&'{').is_some() {
            loop {
                match self.rest.next() {
                    Some('}') => break,
                    Some(digit) => digits.push(digit),
                    None => return Err("`\\x{` without its end".to_owned()),
                }
            }
        } else {
            digits.extend(self.rest.next());
            digits.extend(self.rest.next());
            if digits.len() != 2 {
                return Err("`\\x` without two hexadecimal digits".to_owned());
            }
        }
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let byte = is_number.then(|| u8::from_str_radix(&digits, 16).ok()).flatten();
        byte.map(char::from).ok_or_else(|| format!("`\\x{{{digits}}}` is no byte"))
    }

    /// After `{`: RE2 reads it as itself where no repetition follows.
    fn brace(&mut self) -> Result<(), String> {
        let mut ahead = self.rest.clone();
        let body: String = ahead.by_ref().take_while(|char| *char != '}').take(32).collect();
        let bounds = body.split_once(',').map_or((body.as_str(), None), |(min, max)| (min, Some(max)));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let closed = self.starts_with(&format!("{body}}}"));
        if !closed || !is_number(bounds.0) || !bounds.1.is_none_or(|max| max.is_empty() || is_number(max)) {
            self.out.push_str("\\{");
            return Ok(());
        }
        for number in [Some(bounds.0), bounds.1].into_iter().flatten().filter(|number| !number.is_empty()) {
            if !number.parse::<u32>().is_ok_and(|number| number <= MAX_REPEAT) {
                return Err(format!("a repetition of {number}: RE2 allows {MAX_REPEAT}"));
            }
        }
        self.out.push('{');
        self.out.push_str(&body);
        self.out.push('}');
        self.skip(body.chars().count() + 1);
        Ok(())
    }

    /// After `(`.
    fn group(&mut self) -> Result<(), String> {
        self.out.push('(');
        let around = self.ignores_case;
        if self.starts_with("?") && !self.starts_with("?P<") && !self.starts_with("?<") {
            self.skip(1);
            self.out.push('?');
            let mut on = true;
            while let Some(flag) = self.rest.next_if(|char| !matches!(char, ':' | ')')) {
                match flag {
                    '-' => on = false,
                    'i' => self.ignores_case = on,
                    'm' | 's' | 'U' => {}
                    // `regex-lite` knows more of them, which mean nothing to RE2.
                    other => return Err(format!("`(?{other}` is not supported")),
                }
                self.out.push(flag);
            }
            // `(?i)` holds until the end of the group that it stands in.
            if self.rest.next_if_eq(&')').is_some() {
                self.out.push(')');
                return Ok(());
            }
        }
        self.outer.push(around);
        Ok(())
    }

    /// After `[`.
    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            match self.rest.peek().copied() {
                None => return Err("`[` without its end".to_owned()),
                Some(']') if !first => {
                    self.rest.next();
                    self.out.push(']');
                    return Ok(());
                }
                Some('[') if self.named_class()? => {}
                Some(_) if ["\\d", "\\D", "\\s", "\\S", "\\w", "\\W"].iter().any(|name| self.starts_with(name)) => {
                    self.out.extend(self.rest.next());
                    self.out.extend(self.rest.next());
                }
                Some(_) => self.range()?,
            }
            first = false;
        }
    }

    /// `[:alpha:]`, in a class.
    fn named_class(&mut self) -> Result<bool, String> {
        if !self.starts_with("[:") {
            return Ok(false);
        }
        let mut name = String::new();
        for char in self.rest.clone() {
            name.push(char);
            if name.ends_with(":]") && name.len() > 3 {
                let known = ["alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print"];
                let more = ["punct", "space", "upper", "word", "xdigit"];
                let bare = name.trim_start_matches("[:").trim_start_matches('^').trim_end_matches(":]");
                if !known.contains(&bare) && !more.contains(&bare) {
                    return Err(format!("the class `{name}` is not known"));
                }
                self.skip(name.chars().count());
                self.out.push_str(&name);
                return Ok(true);
            }
        }
        // Without `:]` the bracket is a character.
        Ok(false)
    }

    /// In a class: a character, or two with `-` between.
    fn range(&mut self) -> Result<(), String> {
        let first = self.class_char()?;
        self.quoted(first);
        let mut ahead = self.rest.clone();
        if ahead.next() == Some('-') && ahead.next().is_some_and(|char| char != ']') {
            self.rest.next();
            let last = self.class_char()?;
            self.out.push('-');
            self.quoted(last);
            if self.ignores_case {
                self.other_case(first, last);
            }
        }
        Ok(())
    }

    /// The letters of a range once more in the other case: where a range has capital and small ones, `regex-lite` adds
    /// the others of one kind only.
    fn other_case(&mut self, first: char, last: char) {
        let (from, to) = (first.max('A'), last.min('Z'));
        if from <= to {
            self.out.extend([from.to_ascii_lowercase(), '-', to.to_ascii_lowercase()]);
        }
        let (from, to) = (first.max('a'), last.min('z'));
        if from <= to {
            self.out.extend([from.to_ascii_uppercase(), '-', to.to_ascii_uppercase()]);
        }
    }

    fn class_char(&mut self) -> Result<char, String> {
        match self.rest.next() {
            None => Err("`[` without its end".to_owned()),
            Some('\\') => self.escaped_char(),
            Some(char) => Ok(char),
        }
    }
}

#[cfg(test)]
mod tests;
