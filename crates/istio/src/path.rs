//! Paths that everybody reads alike.
//!
//! Envoy rewrites a path before policies and routes see it and sends the rewritten one on, on the way into a workload and
//! on the way out: [`normalize`]. An authorizer cannot rewrite what the backend sees, so it refuses what would have been
//! rewritten: [`canonical`] and [`canonical_encoded`].

mod normalize;

use std::borrow::Cow;
use std::fmt::Write;

pub use normalize::normalize;

/// A path that the policy and the backend could read differently.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotCanonical {
    /// Empty, or does not begin with `/`.
    #[error("path does not begin with /")]
    NotAbsolute,
    /// A control byte (NUL included).
    #[error("path has a control byte")]
    Control,
    /// A character that has a meaning to some backends: `%`, `\`, `;`, `?` or `#`.
    #[error("path has the character {0:?}")]
    Character(char),
    /// `//`.
    #[error("path has an empty segment")]
    EmptySegment,
    /// A segment `.` or `..`, percent-encoded or with parameters as well.
    #[error("path has a dot segment")]
    DotSegment,
    /// A character that no request line can have: a space or one outside ASCII. See [`encode`].
    #[error("path has the character {0:?}, which must be percent-encoded")]
    Unencoded(char),
    /// `%` without two hexadecimal digits behind it.
    #[error("path has a % that begins no percent-encoding")]
    Stray,
    /// A percent-encoded character that has a meaning to some backends once it is decoded.
    #[error("path has the character {0:?} percent-encoded")]
    Encoded(char),
    /// Percent-encoded bytes that are no UTF-8, such as an overlong form of `/`.
    #[error("path has percent-encoded bytes that are not UTF-8")]
    NotUtf8,
    /// A percent-encoded letter, digit, `-`, `.`, `_` or `~`, which Envoy decodes.
    #[error("path has a percent-encoded unreserved character")]
    EncodedUnreserved,
}

/// Accepts the path of an HTTP API (percent-decoded, without query) only if nothing about it can be read
/// in two ways. What passes is to be [`encode`]d before it is judged.
///
/// # Errors
/// The first thing in it that can.
pub fn canonical(path: &str) -> Result<(), NotCanonical> {
    absolute(path)?;
    if let Some(character) = path.chars().find(|c| matches!(c, '%' | '\\' | ';' | '?' | '#')) {
        return Err(NotCanonical::Character(character));
    }
    if path.contains("//") {
        return Err(NotCanonical::EmptySegment);
    }
    dot_segments(path)
}

/// As [`canonical`], for a path that is still percent-encoded (without query): what is accepted reads alike before and
/// after decoding, however often a backend decodes it.
///
/// # Errors
/// The first thing in it that does not.
pub fn canonical_encoded(path: &str) -> Result<(), NotCanonical> {
    absolute(path)?;
    if let Some(character) = path.chars().find(|c| matches!(c, '\\' | ';' | '?' | '#')) {
        return Err(NotCanonical::Character(character));
    }
    if path.contains("//") {
        return Err(NotCanonical::EmptySegment);
    }
    dot_segments(path)?;
    let mut rest = path.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let [high, low, after @ ..] = after else { return Err(NotCanonical::Stray) };
        let value = hex_value(*high, *low).ok_or(NotCanonical::Stray)?;
        rest = after;
        match value {
            _ if value.is_ascii_control() => return Err(NotCanonical::Control),
            b'/' | b'\\' | b';' | b'?' | b'#' | b'%' | b'.' => return Err(NotCanonical::Encoded(char::from(value))),
            _ if is_unreserved(value) => return Err(NotCanonical::EncodedUnreserved),
            _ => decoded.push(value),
        }
    }
    if std::str::from_utf8(&decoded).is_err() {
        return Err(NotCanonical::NotUtf8);
    }
    Ok(())
}

/// Accepts a request's path only if Envoy's BASE normalisation would leave it alone: "decode
/// %-escapes of unreserved chars, resolve `.`/`..` (also `%2e`), `\` -> `/`". The query is not looked at.
///
/// # Errors
/// The first thing in it that would be changed or rejected.
pub fn normalized(path: &str) -> Result<(), NotCanonical> {
    if path.contains('#') {
        return Err(NotCanonical::Character('#'));
    }
    let path = path.split('?').next().unwrap_or_default();
    absolute(path)?;
    if path.contains('\\') {
        return Err(NotCanonical::Character('\\'));
    }
    if let Some(character) = path.chars().find(|c| *c == ' ' || !c.is_ascii()) {
        return Err(NotCanonical::Unencoded(character));
    }
    dot_segments(path)?;
    let mut rest = path;
    while let Some((_, escaped)) = rest.split_once('%') {
        if let Some(byte) = escaped.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            // Envoy answers %00 with 400.
            if byte == 0 {
                return Err(NotCanonical::Control);
            }
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                return Err(NotCanonical::EncodedUnreserved);
            }
        }
        rest = escaped;
    }
    Ok(())
}

/// The path of a [`canonical`] HTTP API event as the mesh would have seen it: spaces and characters outside
/// ASCII percent-encoded again, since no request line can have held them otherwise.
pub fn encode(path: &str) -> Cow<'_, str> {
    if !path.bytes().any(must_be_encoded) {
        return Cow::Borrowed(path);
    }
    let mut encoded = String::with_capacity(path.len() * 2);
    for byte in path.bytes() {
        if must_be_encoded(byte) {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        } else {
            encoded.push(char::from(byte));
        }
    }
    Cow::Owned(encoded)
}

fn must_be_encoded(byte: u8) -> bool {
    byte == b' ' || !byte.is_ascii()
}

fn absolute(path: &str) -> Result<(), NotCanonical> {
    if !path.starts_with('/') {
        return Err(NotCanonical::NotAbsolute);
    }
    if path.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(NotCanonical::Control);
    }
    Ok(())
}

/// "A dot segment with parameters is resolved: `/a/..;/b` and `/a/..;x=1/b` become `/b`" (Envoy 1.40).
fn dot_segments(path: &str) -> Result<(), NotCanonical> {
    let is_dots = |segment: &str| {
        let bare = segment.split(';').next().unwrap_or_default();
        let decoded = bare.replace("%2e", ".").replace("%2E", ".");
        matches!(decoded.as_str(), "." | "..")
    };
    if path.split('/').any(is_dots) { Err(NotCanonical::DotSegment) } else { Ok(()) }
}

fn hex_value(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn encoded_paths() {
        for good in ["/", "/reviews/0", "/a%20b", "/caf%C3%A9", "/caf%c3%a9", "/a:b", "/a%3Ab", "/a%22", "/...", "/a*b"]
        {
            assert_eq!(canonical_encoded(good), Ok(()), "{good}");
        }
        let bad = [
            ("", NotCanonical::NotAbsolute),
            ("//a", NotCanonical::EmptySegment),
            ("/a;b", NotCanonical::Character(';')),
            ("/a\\b", NotCanonical::Character('\\')),
            ("/a#b", NotCanonical::Character('#')),
            ("/a?b", NotCanonical::Character('?')),
            ("/a/../b", NotCanonical::DotSegment),
            ("/a/%2E%2e/b", NotCanonical::DotSegment),
            ("/a\nb", NotCanonical::Control),
            ("/a%0a", NotCanonical::Control),
            ("/a%7f", NotCanonical::Control),
            ("/a%00", NotCanonical::Control),
            ("/a%2Fb", NotCanonical::Encoded('/')),
            ("/a%2fb", NotCanonical::Encoded('/')),
            ("/a%5cb", NotCanonical::Encoded('\\')),
            ("/a%3Bb", NotCanonical::Encoded(';')),
            ("/a%3fb", NotCanonical::Encoded('?')),
            ("/a%23b", NotCanonical::Encoded('#')),
            ("/a%252Fb", NotCanonical::Encoded('%')),
            ("/a%2Eb", NotCanonical::Encoded('.')),
            ("/%61", NotCanonical::EncodedUnreserved),
            ("/a%", NotCanonical::Stray),
            ("/a%2", NotCanonical::Stray),
            ("/a%zz", NotCanonical::Stray),
            ("/a%C0%AFb", NotCanonical::NotUtf8),
            ("/a%FF", NotCanonical::NotUtf8),
        ];
        for (path, error) in bad {
            assert_eq!(canonical_encoded(path), Err(error), "{path}");
        }
    }

    #[test]
    fn http_api_paths() {
        for good in ["/", "/reviews/0", "/a/b.c/", "/a..b", "/...", "/caf\u{e9}", "/a b", "/a:b@c!$&'()*+,="] {
            assert_eq!(canonical(good), Ok(()), "{good}");
        }
        let bad = [
            ("", NotCanonical::NotAbsolute),
            ("reviews", NotCanonical::NotAbsolute),
            ("*", NotCanonical::NotAbsolute),
            ("/reviews/../admin", NotCanonical::DotSegment),
            ("/reviews/..", NotCanonical::DotSegment),
            ("/./a", NotCanonical::DotSegment),
            ("/a/.", NotCanonical::DotSegment),
            ("//a", NotCanonical::EmptySegment),
            ("/a//b", NotCanonical::EmptySegment),
            ("/a%2fb", NotCanonical::Character('%')),
            ("/a\\b", NotCanonical::Character('\\')),
            ("/a;b", NotCanonical::Character(';')),
            ("/a?b", NotCanonical::Character('?')),
            ("/a#b", NotCanonical::Character('#')),
            ("/a\0", NotCanonical::Control),
            ("/a\n", NotCanonical::Control),
            ("/a\u{7f}", NotCanonical::Control),
        ];
        for (path, expected) in bad {
            assert_eq!(canonical(path), Err(expected), "{path:?}");
        }
    }

    #[test]
    fn paths_that_envoy_would_rewrite() {
        let good = ["/", "/a//b", "/a%2fb", "/a%20b", "/a;x", "/a?b=../c&d=%41\\", "/a..;b", "/%zz", "/%", "/%2"];
        for path in good {
            assert_eq!(normalized(path), Ok(()), "{path}");
        }
        let bad = [
            ("/a/../b", NotCanonical::DotSegment),
            ("/a/%2e%2E/b", NotCanonical::DotSegment),
            ("/a/.%2e", NotCanonical::DotSegment),
            ("/a/..;/b", NotCanonical::DotSegment),
            ("/a/..;x=1/b", NotCanonical::DotSegment),
            ("/a/%2e%2e;/b", NotCanonical::DotSegment),
            ("/a/..?x", NotCanonical::DotSegment),
            ("/a\\..\\b", NotCanonical::Character('\\')),
            ("/a#b", NotCanonical::Character('#')),
            ("/a?b#c", NotCanonical::Character('#')),
            ("/%61dmin", NotCanonical::EncodedUnreserved),
            ("/a%7e", NotCanonical::EncodedUnreserved),
            ("/a%20%2D", NotCanonical::EncodedUnreserved),
            ("/a%00", NotCanonical::Control),
            ("/a b", NotCanonical::Unencoded(' ')),
            ("/caf\u{e9}", NotCanonical::Unencoded('\u{e9}')),
            ("", NotCanonical::NotAbsolute),
            ("?x", NotCanonical::NotAbsolute),
            ("*", NotCanonical::NotAbsolute),
        ];
        for (path, expected) in bad {
            assert_eq!(normalized(path), Err(expected), "{path:?}");
        }
    }

    #[test]
    fn what_was_decoded_is_encoded_again() {
        assert_eq!(encode("/a/b"), "/a/b");
        assert_eq!(encode("/a b/caf\u{e9}"), "/a%20b/caf%C3%A9");
        assert_eq!(normalized(&encode("/a b/caf\u{e9}")), Ok(()));
    }
}
