//! Regular expressions in RE2's syntax.

use super::read::At;

/// Longest expression, in bytes. Istio: "regex is too large, max length allowed is 1024".
const MAX_REGEX: usize = 1024;
/// Most repetitions in RE2, and in Go's package of the same syntax.
const MAX_REPETITIONS: u32 = 1_000;

/// An expression that RE2 and the extension read in the same way.
pub(super) fn regex(at: &At<'_>) -> Option<String> {
    let text = at.non_empty_string()?;
    match check(&text) {
        Ok(()) => Some(text),
        Err(message) => {
            at.error(message);
            None
        }
    }
}

fn check(text: &str) -> Result<(), String> {
    if text.len() > MAX_REGEX {
        return Err(format!("expected a regular expression of at most {MAX_REGEX} bytes, found {}", text.len()));
    }
    let refused = |what: &str| Err(format!("not a regular expression of RE2 that is supported: {what}"));
    if let Some(what) = not_in_both(text) {
        return refused(&what);
    }
    match regex_lite::Regex::new(text) {
        Ok(_) => Ok(()),
        Err(error) => refused(&error.to_string()),
    }
}

/// What one of the two syntaxes has and the other has not, where the library would not say it by itself.
fn not_in_both(text: &str) -> Option<String> {
    let mut rest = text;
    let mut in_class = false;
    let mut repeated = false;
    while let Some(first) = rest.chars().next() {
        let mut length = first.len_utf8();
        if let Some(escaped) = rest.strip_prefix('\\') {
            if let Some(found) = escape(escaped, in_class) {
                return Some(found);
            }
            length += escaped.chars().next().map_or(0, char::len_utf8);
        } else if in_class {
            in_class = first != ']';
        } else if first == '[' {
            in_class = true;
            // A bracket that comes first is one of the class.
            let inner = rest.strip_prefix("[^").or_else(|| rest.strip_prefix('[')).unwrap_or_default();
            length = rest.len() - inner.len() + usize::from(inner.starts_with(']'));
        } else if let Some(flags) = rest.strip_prefix("(?") {
            let flags = flags.split([':', ')', '<', 'P']).next().unwrap_or_default();
            if flags.contains(['x', 'R']) {
                return Some("RE2 has no flags but i, m, s and U".to_owned());
            }
        } else if let Some(counts) = rest.strip_prefix('{') {
            let counts = counts.split('}').next().unwrap_or_default();
            let above = |count: &str| count.parse::<u32>().is_ok_and(|count| count > MAX_REPETITIONS);
            if counts.split(',').any(above) {
                return Some(format!("RE2 repeats {MAX_REPETITIONS} times at most"));
            }
            length += counts.len() + 1;
        }
        let repeats = !in_class && matches!(first, '*' | '+' | '?' | '{');
        rest = rest.get(length..).unwrap_or_default();
        if repeats && repeated {
            // Go: "invalid nested repetition operator".
            return Some("RE2 repeats no repetition; put it into a group".to_owned());
        }
        if repeats {
            rest = rest.strip_prefix('?').unwrap_or(rest);
        }
        repeated = repeats;
    }
    None
}

/// An escape that is not in both; `rest` follows the backslash.
fn escape(rest: &str, in_class: bool) -> Option<String> {
    let name = rest.chars().next()?;
    match name {
        'p' | 'P' | 'Q' | 'E' | 'C' => Some(format!("RE2's `\\{name}` is not supported; write the characters out")),
        '<' | '>' | 'u' | 'U' => Some(format!("RE2 has no `\\{name}`")),
        'b' if !in_class && rest.starts_with("b{") => Some("RE2 has no `\\b{…}`".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        for text in [
            "a",
            ".*",
            "^/v[0-9]+/(?P<id>[^/]+)$",
            "(?i)abc",
            "(?s:.)",
            "[]a]",
            "[^]]",
            "[[:alpha:]-]",
            "a{1000}",
            r"\d\w\s\b\.\\",
            r"[\]<]x<",
            r"\[(?:a|b)\]",
            "a|b",
            "(?U)a+",
            r"\x41\x{1F600}",
            "é+",
            "a*?b+?c??d{2,3}?e",
            "(a*)*[*?]?",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for text in [
            "(",
            "[a",
            "*",
            "a{1001}",
            "a{2,1001}",
            "(?x)a b",
            "(?iR)a",
            "(?=a)",
            r"\1",
            r"\pL",
            r"\p{Greek}",
            r"\Qa\E",
            r"\C",
            r"\<a",
            r"a\>",
            r"\b{start}a",
            "[a&&b]",
            "[a--b]",
            "[a~~b]",
            "[a[b]]",
            r"\u{41}",
            r"a\",
            "a**",
            "a{2}{3}",
            "a+??",
        ] {
            assert!(check(text).is_err(), "{text}");
        }
        assert!(check(&"a".repeat(MAX_REGEX)).is_ok());
        assert!(check(&"a".repeat(MAX_REGEX + 1)).is_err());
    }
}
