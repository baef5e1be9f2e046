//! The time that a call of gRPC names. Istio's sidecars hold to it (`max_grpc_timeout` of their routes), and tell the
//! service what it comes to.

use std::time::Duration;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The time for a call: what it names, and at most that of its route. Zero is none, on both sides.
pub(crate) fn within(headers: &HeaderMap, limit: Duration) -> Duration {
    let named = headers.get(TIMEOUT).and_then(|value| parse(value.to_str().ok()?)).unwrap_or_default();
    if !limit.is_zero() && (named.is_zero() || named > limit) { limit } else { named }
}

/// Says a time to the service; nothing where there is none.
pub(crate) fn say(headers: &mut HeaderMap, limit: Duration) {
    if limit.is_zero() {
        return;
    }
    let milliseconds = limit.as_nanos().div_ceil(1_000_000);
    let said = match milliseconds {
        // "TimeoutValue → positive integer as ASCII string of at most 8 digits"
        0..=99_999_999 => format!("{milliseconds}m"),
        _ => format!("{}S", limit.as_secs().min(99_999_999)),
    };
    if let Ok(said) = HeaderValue::try_from(said) {
        headers.insert(TIMEOUT, said);
    }
}

/// gRPC over HTTP/2, "Requests": `Timeout → "grpc-timeout" TimeoutValue TimeoutUnit`.
fn parse(text: &str) -> Option<Duration> {
    let digits = text.get(..text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match &text[digits.len()..] {
        "H" => Duration::from_secs(value * 3_600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_the_shorter_time() {
        let second = Duration::from_secs(1);
        for (named, route, expected, said) in [
            ("", 0, Duration::ZERO, None),
            ("", 5, 5 * second, Some("5000m")),
            ("3S", 0, 3 * second, Some("3000m")),
            ("3S", 5, 3 * second, Some("3000m")),
            ("9S", 5, 5 * second, Some("5000m")),
            ("1M", 0, 60 * second, Some("60000m")),
            ("1H", 0, 3_600 * second, Some("3600000m")),
            ("250m", 0, second / 4, Some("250m")),
            ("1500u", 0, Duration::from_micros(1_500), Some("2m")),
            ("7n", 0, Duration::from_nanos(7), Some("1m")),
            ("99999999H", 0, Duration::from_secs(99_999_999 * 3_600), Some("99999999S")),
            ("0S", 5, 5 * second, Some("5000m")),
            ("S", 5, 5 * second, Some("5000m")),
            ("3", 5, 5 * second, Some("5000m")),
            ("-3S", 5, 5 * second, Some("5000m")),
            ("123456789m", 5, 5 * second, Some("5000m")),
            ("3s", 0, Duration::ZERO, None),
        ] {
            let mut headers = HeaderMap::new();
            if !named.is_empty() {
                headers.insert(TIMEOUT, HeaderValue::from_str(named).unwrap());
            }
            let found = within(&headers, route * second);
            assert_eq!(found, expected, "{named} in {route}");
            headers.clear();
            say(&mut headers, found);
            assert_eq!(headers.get(TIMEOUT).map(|value| value.to_str().unwrap()), said, "{named} in {route}");
        }
    }
}
