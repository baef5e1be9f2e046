//! Values that Istio reads by Go's standard library.

use std::time::Duration;

/// `strconv.ParseBool`.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// `time.ParseDuration` of what is not negative: numbers with units, such as `5s`, `1.5h` or `1m30s`, and `0`. Parts of a
/// nanosecond are cut off, as there.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end)?;
        let nanoseconds = part(whole, fraction, unit)?;
        total = total.checked_add(nanoseconds)?;
        rest = after;
    }
    // Go's durations are signed.
    if text.is_empty() || i64::try_from(total).is_err() {
        return None;
    }
    Some(Duration::from_nanos(total))
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// `WHOLE.FRACTION` of a unit in nanoseconds.
fn part(whole: &str, fraction: &str, unit: &str) -> Option<u64> {
    let unit: u64 = match unit {
        "ns" => 1,
        // The micro sign and the Greek letter.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Digits behind the 18th are less than a nanosecond of an hour.
    let fraction = fraction.get(..18).unwrap_or(fraction);
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let fraction = u64::try_from(fraction * u128::from(unit) / scale).ok()?;
    whole.checked_mul(unit)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans() {
        for (text, expected) in [
            ("1", Some(true)),
            ("t", Some(true)),
            ("TRUE", Some(true)),
            ("True", Some(true)),
            ("0", Some(false)),
            ("F", Some(false)),
            ("False", Some(false)),
            ("", None),
            ("yes", None),
            ("tRUE", None),
            (" true", None),
        ] {
            assert_eq!(parse_bool(text), expected, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("0", Some(Duration::ZERO)),
            ("+5s", Some(Duration::from_secs(5))),
            ("1m30s", Some(Duration::from_secs(90))),
            ("1.5h", Some(Duration::from_secs(5400))),
            (".5ms", Some(Duration::from_micros(500))),
            ("1.ms", Some(Duration::from_millis(1))),
            ("3us", Some(Duration::from_micros(3))),
            ("3\u{b5}s", Some(Duration::from_micros(3))),
            ("3\u{3bc}s1ns", Some(Duration::from_nanos(3001))),
            ("0.0000000000000000001h", Some(Duration::ZERO)),
            ("9223372036854775807ns", Some(Duration::from_nanos(9_223_372_036_854_775_807))),
            ("9223372036854775808ns", None),
            ("9999999999999999999999s", None),
            ("2562048h", None),
            ("", None),
            ("+", None),
            ("5", None),
            ("s", None),
            (".s", None),
            ("-1s", None),
            ("5 s", None),
            ("5S", None),
            ("5d", None),
            ("1s.", None),
            ("apple", None),
        ] {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }
}
