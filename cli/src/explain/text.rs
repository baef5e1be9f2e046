//! Texts of a request made fit for a terminal: no credential, no control character, no end in sight but the one below.

use std::time::{Duration, UNIX_EPOCH};

/// The most characters of one value that are shown.
const MAX_SHOWN: usize = 160;

/// Stands for a credential.
pub(crate) const VEIL: &str = "***";

/// Headers that hold credentials by their nature.
const CREDENTIAL_HEADERS: [&str; 7] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "set-cookie",
    "x-amz-security-token",
    "x-api-key",
    "x-goog-iap-jwt-assertion",
];

/// Whether a header holds credentials by its name.
pub(crate) fn is_credential_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    CREDENTIAL_HEADERS.contains(&name.as_str())
        || ["token", "secret", "password", "api-key", "apikey"].iter().any(|word| name.contains(word))
}

/// `text` with everything in it that looks like a token or an API key replaced.
pub(crate) fn veiled(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '=');
    let mut shown = String::with_capacity(text.len());
    let mut word = String::new();
    for character in text.chars().map(Some).chain(std::iter::once(None)) {
        match character {
            Some(c) if is_part(c) => word.push(c),
            other => {
                shown.push_str(if is_credential(&word) { VEIL } else { &word });
                word.clear();
                shown.extend(other);
            }
        }
    }
    shown
}

/// A JWS begins with the base64url form of `{"`, perhaps behind a name and `=`; an API key with our own prefix.
fn is_credential(word: &str) -> bool {
    // The bare prefix, as a sentence about keys has it, is no secret.
    word.split_once("cwk_").is_some_and(|(_, rest)| !rest.is_empty())
        || (word.contains("eyJ") && word.contains('.'))
        || word.split('=').any(|part| part.len() > 60 && part.matches('.').count() == 2)
}

/// A value as it is shown: veiled, quoted when it would be read wrongly without, cut when it is long.
pub(crate) fn value(text: &str) -> String {
    let text = plain(text);
    if text.is_empty() || text.contains([' ', ',', '"']) || text != text.trim() { format!("\"{text}\"") } else { text }
}

/// As [`value`], without quotes.
pub(crate) fn plain(text: &str) -> String {
    let veiled = veiled(text);
    let mut shown: String = veiled.chars().take(MAX_SHOWN).flat_map(safe).collect();
    if veiled.chars().count() > MAX_SHOWN {
        shown.push('…');
    }
    shown
}

/// A request must not be able to write to the terminal what it likes.
fn safe(character: char) -> Vec<char> {
    let invisible = character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    if invisible { character.escape_default().collect() } else { vec![character] }
}

/// The name of a type with its article.
pub(crate) fn article(kind: &str) -> String {
    match kind {
        "null" => kind.to_owned(),
        _ if kind.starts_with("a ") || kind.starts_with("an ") => kind.to_owned(),
        _ if kind.starts_with(['a', 'e', 'i', 'o', 'u']) => format!("an {kind}"),
        _ => format!("a {kind}"),
    }
}

/// Several values; those past `most` are counted only.
pub(crate) fn values(all: &[String], most: usize) -> String {
    // One more costs less room than the words that say that there is one more.
    let shown = if all.len() <= most.saturating_add(1) { all.len() } else { most };
    let mut list: Vec<String> = all.iter().take(shown).map(|text| value(text)).collect();
    if shown < all.len() {
        list.push(format!("… ({} in all)", all.len()));
    }
    list.join(", ")
}

/// `one of A, B`, or `A` when it is alone.
pub(crate) fn one_of(all: &[String], most: usize) -> String {
    match all {
        [one] => value(one),
        _ => format!("one of {}", values(all, most)),
    }
}

/// A time as in logs.
pub(crate) fn instant(unix: u64) -> String {
    // Past the year 9999 a number says more than a date.
    match UNIX_EPOCH.checked_add(Duration::from_secs(unix)).filter(|_| unix < 253_402_300_800) {
        Some(time) => platform::clock::rfc3339(time).replace(".000Z", "Z"),
        None => unix.to_string(),
    }
}

/// A sentence of the gate with its times, which are seconds since 1970, as in logs.
pub(crate) fn with_times(sentence: &str) -> String {
    let shown = |word: &str| {
        let bare = word.trim_end_matches(',');
        match bare.parse::<u64>() {
            Ok(unix) if bare.len() == 10 => format!("{}{}", instant(unix), word.get(bare.len()..).unwrap_or_default()),
            _ => word.to_owned(),
        }
    };
    plain(sentence).split(' ').map(shown).collect::<Vec<_>>().join(" ")
}

/// How far `then` is from `now`: `in 5 min`, `2 h 3 min ago`.
pub(crate) fn distance(then: u64, now: u64) -> String {
    let span = |seconds: u64| match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 if seconds % 3_600 < 60 => format!("{} h", seconds / 3_600),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} days", seconds / 86_400),
    };
    if then > now { format!("in {}", span(then - now)) } else { format!("{} ago", span(now - then)) }
}

/// A host without its port.
pub(crate) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_veiled_wherever_they_stand() {
        let token = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJpIn0.c2ln";
        let cases = [
            (format!("Bearer {token}"), "Bearer ***"),
            (format!("a={token}; b=2"), "***; b=2"),
            (format!("/x?access_token={token}&y=1"), "/x?***&y=1"),
            ("cwk_dev_0123456789abcdef".to_owned(), "***"),
            ("cwk_dev_<cwk_0123>".to_owned(), "***<***>"),
            ("expected cwk_<environment>_ and letters".to_owned(), "expected cwk_<environment>_ and letters"),
            ("/reviews/1.2.3".to_owned(), "/reviews/1.2.3"),
            ("https://issuer.example/client:a".to_owned(), "https://issuer.example/client:a"),
        ];
        for (text, shown) in cases {
            assert_eq!(veiled(&text), shown, "{text}");
        }
    }

    #[test]
    fn a_request_cannot_write_to_the_terminal() {
        assert_eq!(value("/a\u{1b}[2J\r\n"), "/a\\u{1b}[2J\\r\\n");
        assert_eq!(value("/a\u{202e}b"), "/a\\u{202e}b");
        assert_eq!(value(""), "\"\"");
        assert_eq!(value("a b"), "\"a b\"");
        assert!(value(&"x".repeat(10_000)).chars().count() < 200);
    }

    #[test]
    fn lists_are_cut_but_not_for_one_value() {
        let all: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(values(&all, 2), "a, b, c");
        assert_eq!(values(&all, 1), "a, … (3 in all)");
        assert_eq!(one_of(&all[..1], 1), "a");
        assert_eq!(one_of(&all, 5), "one of a, b, c");
    }

    #[test]
    fn times_read_like_times() {
        assert_eq!(instant(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(instant(u64::MAX), "18446744073709551615");
        let cases =
            [(100, 70, "in 30 s"), (0, 300, "5 min ago"), (0, 7_380, "2 h 3 min ago"), (0, 864_000, "10 days ago")];
        for (then, now, words) in cases {
            assert_eq!(distance(then, now), words);
        }
    }
}
