//! Query parameters, as Envoy reads and rewrites them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::compiled::Mode;

/// `path` without the query parameter `name`, all its occurrences.
///
/// In the `istio` mode all that is left is written anew, as Envoy 1.40 does (`QueryParamsMulti::replaceQueryString`):
/// sorted by name, each with a `=`, percent-decoded and not encoded again. In the strict mode the others stay as they
/// were sent: decoded, one parameter can become two.
pub(super) fn without(path: &str, name: &str, mode: Mode) -> String {
    let Some((before, query)) = path.split_once('?') else { return path.to_owned() };
    let others = pairs(query).filter(|pair| parameter(pair).0 != name);
    let kept = match mode {
        Mode::Strict => others.collect::<Vec<_>>().join("&"),
        Mode::Istio => {
            let mut sorted: BTreeMap<Cow<'_, str>, Vec<Cow<'_, str>>> = BTreeMap::new();
            for pair in others {
                let (name, value) = parameter(pair);
                sorted.entry(name).or_default().push(value);
            }
            let written = |(name, values): (&Cow<'_, str>, &Vec<Cow<'_, str>>)| {
                values.iter().map(|value| format!("{name}={value}")).collect::<Vec<_>>().join("&")
            };
            sorted.iter().map(written).collect::<Vec<_>>().join("&")
        }
    };
    if kept.is_empty() { before.to_owned() } else { format!("{before}?{kept}") }
}

/// The parts of a query. Nothing behind the last `&` is no part.
fn pairs(query: &str) -> impl Iterator<Item = &str> {
    query.strip_suffix('&').unwrap_or(query).split('&').filter(move |_| !query.is_empty())
}

/// The first value of a parameter: "Only the first value of a query param."
pub(super) fn first<'p>(path: &'p str, name: &str) -> Option<Cow<'p, str>> {
    let (_, query) = path.split_once('?')?;
    pairs(query).map(parameter).find(|(known, _)| known == name).map(|(_, value)| value)
}

/// Whether a path that was written anew can be sent on. Envoy's own answer to a control byte is 503; what is not
/// UTF-8, which Envoy sends on, cannot be a path here.
pub(super) fn can_be_sent(path: &str) -> bool {
    path.chars().all(|c| c == '\t' || !(c.is_ascii_control() || c == char::REPLACEMENT_CHARACTER))
}

/// Name and value of one part of a query, percent-decoded as Envoy does (`+` stays).
pub(super) fn parameter(pair: &str) -> (Cow<'_, str>, Cow<'_, str>) {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    (percent_decoded(name), percent_decoded(value))
}

pub(super) fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = |digit: &u8| char::from(*digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
        match (first, after) {
            (b'%', [high, low, after @ ..]) if hex(high).is_some() && hex(low).is_some() => {
                bytes.push(hex(high).unwrap_or(0) << 4 | hex(low).unwrap_or(0));
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    // What is not UTF-8 is no token either, and stays malformed with replacement characters.
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    /// Seen with Envoy 1.40, the token being the parameter `t`; then what the strict mode leaves.
    #[test]
    fn the_rest_of_a_query() {
        let cases = [
            ("/p?t=T", "/p", "/p"),
            ("/p?b=1&a=2&t=T", "/p?a=2&b=1", "/p?b=1&a=2"),
            ("/p?a&a=1&a&t=T&a=0", "/p?a=&a=1&a=&a=0", "/p?a&a=1&a&a=0"),
            ("/p?a=%20%26&t=T", "/p?a= &", "/p?a=%20%26"),
            ("/p?t=T&%74=9&b=3", "/p?b=3", "/p?b=3"),
            ("/p?a=b=c&t=T", "/p?a=b=c", "/p?a=b=c"),
            ("/p?%&t=T&a=%4", "/p?%=&a=%4", "/p?%&a=%4"),
            ("/p?t=T&a+b=c+d", "/p?a+b=c+d", "/p?a+b=c+d"),
            ("/p?x=%2541&t=T", "/p?x=%41", "/p?x=%2541"),
            ("/p?a=%23x&t=T", "/p?a=#x", "/p?a=%23x"),
            ("/p?=x&t=T", "/p?=x", "/p?=x"),
            ("/p?&&t=T", "/p?=&=", "/p?&"),
            ("/p?/../c&t=T&", "/p?/../c=", "/p?/../c"),
            ("/p??a=1&t=T", "/p??a=1", "/p??a=1"),
            ("/p", "/p", "/p"),
        ];
        for (path, istio, strict) in cases {
            assert_eq!(without(path, "t", Mode::Istio), istio, "{path}");
            assert_eq!(without(path, "t", Mode::Strict), strict, "{path}");
        }
        assert_eq!(first("/p?t", "t").as_deref(), Some(""));
        assert_eq!(first("/p?a=1&%74=2&t=3", "t").as_deref(), Some("2"));
        assert_eq!(first("/p?", ""), None);
        assert_eq!(first("/p?&", "").as_deref(), Some(""));
        assert_eq!(first("/p", "t"), None);
    }

    #[test]
    fn what_cannot_be_sent() {
        for byte in 0..=255_u8 {
            let path = without(&format!("/p?a=%{byte:02x}&t=T"), "t", Mode::Istio);
            let refused = (byte < 32 && byte != 9) || byte >= 127;
            assert_eq!(can_be_sent(&path), !refused, "{byte}");
        }
        assert!(can_be_sent(&without("/p?a=%c3%a9&t=T", "t", Mode::Istio)));
    }
}
