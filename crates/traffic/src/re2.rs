//! RE2's regular expressions, which Istio's rules are written in, on `regex-lite`.
//!
//! Both are linear in the text. [`translate`] writes what RE2 reads otherwise than `regex-lite` in words that mean the
//! same: a `{` that begins no repetition, `[`, `&&`, `--` and `~~` in a class, `\w-.` in a class, `\Q…\E`, `\<`.
//!
//! What RE2 knows and this does not is an error when the pattern is compiled, never a pattern that silently does not
//! match:
//!
//! - classes of Unicode: `\pL`, `\p{Greek}`, `\PN`
//! - `\C` (one byte) and octal escapes (`\012`)
//! - `(?i)` in a pattern with characters that are not ASCII: only ASCII letters are compared without case
//! - more than 1024 bytes (Istio's own limit), more than 50 nested groups, or a program of more than 256 KiB
//!
//! One difference is left: under `(?i)`, RE2 lets `k` and `s` also match U+212A (the sign of the Kelvin) and U+017F (a
//! long s), which no path and hardly a header contains.

use std::iter::Peekable;
use std::str::Chars;

use regex_lite::{Regex, RegexBuilder};

/// Istio: "regex is too large, max length allowed is 1024".
pub(crate) const MAX_PATTERN: usize = 1024;

/// Of a compiled pattern, in bytes. Time grows with it and with the text.
const MAX_PROGRAM: usize = 256 << 10;

/// RE2's limit of `{n}`.
const MAX_REPEAT: u32 = 1000;

/// Compiles a pattern that is searched for.
pub(crate) fn search(pattern: &str) -> Result<Regex, String> {
    let translated = translate(pattern)?;
    build(&translated).map_err(|found| describe(pattern, &found))
}

/// Compiles a pattern that must match the whole text.
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
    let mut translator =
        Translator { rest: pattern.chars().peekable(), out: String::new(), ignores_case: false, non_ascii: false };
    translator.pattern().map_err(|found| describe(pattern, &found))?;
    if translator.ignores_case && translator.non_ascii {
        return Err(describe(pattern, "`(?i)` is not supported with characters that are not ASCII"));
    }
    Ok(translator.out)
}

struct Translator<'a> {
    rest: Peekable<Chars<'a>>,
    out: String,
    ignores_case: bool,
    non_ascii: bool,
}

impl Translator<'_> {
    fn pattern(&mut self) -> Result<(), String> {
        while let Some(char) = self.rest.next() {
            match char {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '{' => self.brace()?,
                '(' => self.group()?,
                other => self.literal(other),
            }
        }
        Ok(())
    }

    fn literal(&mut self, char: char) {
        self.non_ascii |= !char.is_ascii();
        self.out.push(char);
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
            // Of the letters, these mean the same in both.
            Some(char @ ('A' | 'b' | 'B' | 'z' | 'd' | 'D' | 's' | 'S' | 'w' | 'W')) => {
                self.rest.next();
                self.out.push('\\');
                self.out.push(char);
                Ok(())
            }
            _ => self.escaped_char(),
        }
    }

    /// A character that stands for itself.
    fn quoted(&mut self, char: char) {
        // `\<` and `\>` are the ends of words in `regex-lite`; without the backslash they are characters.
        if char.is_ascii_punctuation() && !matches!(char, '<' | '>') {
            self.out.push('\\');
        }
        self.literal(char);
    }

    /// After a backslash: one character.
    fn escaped_char(&mut self) -> Result<(), String> {
        match self.rest.next() {
            None => Err("a backslash at the end".to_owned()),
            Some(char @ ('a' | 'f' | 'n' | 'r' | 't' | 'v')) => {
                self.out.push('\\');
                self.out.push(char);
                Ok(())
            }
            Some('x') => self.hexadecimal(),
            Some('p' | 'P') => Err("classes of Unicode (`\\p`) are not supported".to_owned()),
            Some(char) if char.is_ascii_digit() => {
                Err(format!("`\\{char}` is not supported: RE2 has no back references, and octal escapes are not read"))
            }
            Some(char) if char.is_ascii_punctuation() => {
                self.quoted(char);
                Ok(())
            }
            Some(char) => Err(format!("the escape `\\{char}` is not supported")),
        }
    }

    /// After `\x`: two digits, or some in braces.
    fn hexadecimal(&mut self) -> Result<(), String> {
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
        let char = is_number.then(|| u32::from_str_radix(&digits, 16).ok()).flatten().and_then(char::from_u32);
        match char {
            Some(char) => {
                self.non_ascii |= !char.is_ascii();
                self.out.push_str(&format!("\\x{{{digits}}}"));
                Ok(())
            }
            None => Err(format!("`\\x{{{digits}}}` is no character")),
        }
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
        if !self.starts_with("?") || self.starts_with("?P<") || self.starts_with("?<") {
            return Ok(());
        }
        self.skip(1);
        self.out.push('?');
        let mut on = true;
        while let Some(flag) = self.rest.next_if(|char| !matches!(char, ':' | ')')) {
            match flag {
                '-' => on = false,
                'i' => self.ignores_case |= on,
                'm' | 's' | 'U' => {}
                // `regex-lite` knows more of them, which mean nothing to RE2.
                other => return Err(format!("`(?{other}` is not supported")),
            }
            self.out.push(flag);
        }
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
        self.class_char()?;
        let mut ahead = self.rest.clone();
        if ahead.next() == Some('-') && ahead.next().is_some_and(|char| char != ']') {
            self.rest.next();
            self.out.push('-');
            self.class_char()?;
        }
        Ok(())
    }

    fn class_char(&mut self) -> Result<(), String> {
        match self.rest.next() {
            None => Err("`[` without its end".to_owned()),
            Some('\\') => self.escaped_char(),
            Some(char) => {
                self.quoted(char);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pattern, texts that it matches as a whole, texts that it does not.
    #[test]
    fn reads_what_re2_reads() {
        let table: &[(&str, &[&str], &[&str])] = &[
            (".*", &["", "/a", "/é"], &["a\nb"]),
            ("(?s).*", &["a\nb"], &[]),
            ("/v[0-9]+/.*", &["/v1/", "/v12/x"], &["/v/x", "x/v1/"]),
            ("a|ab", &["a", "ab"], &["abc"]),
            ("(?i)abc", &["ABC", "aBc"], &["abcd"]),
            ("a(?i:b)c", &["aBc"], &["ABC"]),
            ("^a$", &["a"], &["a\n", "b"]),
            ("a{2}", &["aa"], &["a", "aaa", "a{2}"]),
            ("a{2,}", &["aa", "aaaa"], &["a"]),
            ("a{,2}", &["a{,2}"], &["aa"]),
            ("a{", &["a{"], &["a"]),
            ("a{b}", &["a{b}"], &["ab"]),
            ("a{ 2 }", &["a{ 2 }"], &["aa"]),
            ("{a}", &["{a}"], &["a"]),
            ("/users/{id}", &["/users/{id}"], &["/users/7"]),
            ("\\b{start}a", &[], &["a"]),
            ("[\\w-.]+", &["a-.b_"], &["a/b", ""]),
            ("[\\w.-]+", &["a-.b_"], &["a/b", ""]),
            ("[a-c-e]+", &["a-e"], &["d"]),
            ("[--/]", &["-", ".", "/"], &["a"]),
            ("[^--/]", &["a"], &["-", ".", "/"]),
            ("[+--]", &["+", ",", "-"], &["."]),
            ("[a&&b]+", &["a&b"], &["c"]),
            ("[a~~b]+", &["a~b"], &["c"]),
            ("[[a]+", &["[a"], &["]"]),
            ("[]a]+", &["]a"], &["["]),
            ("[^]a]", &["b"], &["]", "a"]),
            ("[-a]+", &["-a"], &["b"]),
            ("[a-]+", &["-a"], &["b"]),
            ("[[:alpha:]_]+", &["a_b"], &["1"]),
            ("[[:^digit:]]", &["a"], &["1"]),
            ("[:a]+", &[":a"], &["b"]),
            ("[[:a]+", &["[:a"], &["b"]),
            ("[{}()*+?.]+", &["{}()*+?."], &["a"]),
            ("[<>]", &["<", ">"], &["a"]),
            ("\\<a\\>", &["<a>"], &["a"]),
            ("\\Qa.b*\\E+", &["a.b*", "a.b**"], &["axb"]),
            ("\\Qa[b", &["a[b"], &["ab"]),
            ("\\x41\\x{42}", &["AB"], &["ab"]),
            ("[\\x41-\\x43]", &["B"], &["D"]),
            ("\\-\\/\\.\\_", &["-/._"], &["-/x_"]),
            ("(?P<name>a)(?<other>b)", &["ab"], &["a"]),
            ("a*?b", &["b", "aab"], &["a"]),
            ("(?U)a*", &["aaa"], &["b"]),
            ("(|a)", &["", "a"], &["b"]),
            ("\\Aa\\z", &["a"], &["ab"]),
            ("é+", &["éé"], &["e"]),
            ("[^a]", &["é"], &["a", "éé"]),
        ];
        for (pattern, yes, no) in table {
            let regex = full(pattern).unwrap_or_else(|error| panic!("{error}"));
            for text in *yes {
                assert!(regex.is_match(text), "{pattern} must match {text:?}");
            }
            for text in *no {
                assert!(!regex.is_match(text), "{pattern} must not match {text:?}");
            }
        }
    }

    #[test]
    fn refuses_what_it_cannot_do() {
        for pattern in [
            "",
            "*",
            "a)(b",
            "(",
            "[",
            "[a",
            "\\",
            "\\pL",
            "\\p{Greek}",
            "\\PN",
            "[\\pL]",
            "\\C",
            "\\1",
            "\\012",
            "(?=a)",
            "(?!a)",
            "(?<=a)",
            "(?<!a)",
            "(?x)a b",
            "(?R)a",
            "(?u)a",
            "(?i)é",
            "(?i)\\x{e9}",
            "(?i)[à-ü]",
            "a{1001}",
            "a{1,1001}",
            "[z-a]",
            "[[:wrong:]]",
            "[\\b]",
            "\\u0041",
            "\\x",
            "\\x{110000}",
            "\\xg0",
            "(?i",
        ] {
            assert!(full(pattern).is_err(), "{pattern:?} must be refused");
        }
        assert!(full(&"a".repeat(MAX_PATTERN)).is_ok());
        assert!(full(&"a".repeat(MAX_PATTERN + 1)).is_err());
        assert!(full("((((a{100}){100}){100}){100})").is_err(), "too large a program");
        assert!(full(&format!("{}a{}", "(".repeat(300), ")".repeat(300))).is_err(), "too deep");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(pattern in "\\PC{0,40}", text in "\\PC{0,20}") {
            if let Ok(regex) = full(&pattern) {
                regex.is_match(&text);
            }
        }

        #[test]
        fn never_panics_on_what_looks_like_a_pattern(pattern in "[a\\[\\]^\\-\\\\{}(),?:*+|.iswQE<>1x&~é]{0,24}") {
            if let Ok(regex) = full(&pattern) {
                regex.is_match("a-1[é");
            }
        }

        #[test]
        fn what_is_quoted_matches_itself(text in "[ -~é]{1,40}") {
            proptest::prop_assume!(!text.contains("\\E"));
            // A backslash at the end would begin `\E`.
            proptest::prop_assume!(!text.ends_with('\\'));
            let regex = full(&format!("\\Q{text}\\E")).unwrap();
            proptest::prop_assert!(regex.is_match(&text));
        }
    }
}
