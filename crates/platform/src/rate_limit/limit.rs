//! How much a client may ask: a rate, and a burst on top of silence.

use std::fmt;
use std::str::FromStr;

/// The highest rate, in requests per unit.
const MAX_RATE: u64 = 10_000;

/// The largest burst, in requests.
const MAX_BURST: u64 = 1_000_000;

/// A sandbox takes a tenth of a burst at a time, and DynamoDB 1,000 writes a second of one key. With this many seconds'
/// parts of a rate in a burst, a client at its limit needs half of that.
const RATES_IN_BURST: u64 = 50;

/// An empty bucket is full again after this time at the latest, in seconds.
const MAX_FILL: u64 = 86_400;

const NANOS: u64 = 1_000_000_000;

/// A token bucket's rate and size, written `50/s,100`: 50 requests a second in the long run, 100 at once after silence.
/// `/m` counts requests a minute.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limit {
    rate: u64,
    unit: Unit,
    burst: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Unit {
    Second,
    Minute,
}

impl Limit {
    /// Nanoseconds in which one token comes. Rounded up, so that it is never more than the rate.
    pub(crate) fn period(self) -> u64 {
        let unit = match self.unit {
            Unit::Second => NANOS,
            Unit::Minute => 60 * NANOS,
        };
        unit.div_ceil(self.rate)
    }

    /// The most tokens that a bucket holds.
    pub(crate) fn burst(self) -> u64 {
        self.burst
    }

    /// Nanoseconds in which an empty bucket is full again.
    pub(crate) fn capacity(self) -> u64 {
        self.period().saturating_mul(self.burst)
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "expected RATE/s,BURST or RATE/m,BURST, such as 50/s,100: a rate of 1 to {MAX_RATE} and a burst of 1 to \
                 {MAX_BURST}"
            )
        };
        let number = |text: &str, max: u64| {
            // `parse` takes a sign, too.
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let number: Option<u64> = if digits { text.parse().ok() } else { None };
            number.filter(|number| (1..=max).contains(number)).ok_or_else(wrong)
        };
        let (rate, burst) = text.split_once(',').ok_or_else(wrong)?;
        let (rate, unit) = match rate.split_once('/') {
            Some((rate, "s")) => (rate, Unit::Second),
            Some((rate, "m")) => (rate, Unit::Minute),
            _ => return Err(wrong()),
        };
        let limit = Self { rate: number(rate, MAX_RATE)?, unit, burst: number(burst, MAX_BURST)? };
        if limit.capacity() > MAX_FILL * NANOS {
            return Err("expected a burst that the rate fills within a day".to_owned());
        }
        if limit.unit == Unit::Second && limit.rate > 500 && limit.burst < limit.rate.div_ceil(RATES_IN_BURST) {
            return Err(format!("expected a burst of at least {}", limit.rate.div_ceil(RATES_IN_BURST)));
        }
        Ok(limit)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Second => 's',
            Unit::Minute => 'm',
        };
        write!(f, "{}/{unit},{}", self.rate, self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_and_written() {
        for (text, period, burst) in [
            ("50/s,100", 20_000_000, 100),
            ("1/s,1", NANOS, 1),
            ("1/m,1440", 60 * NANOS, 1_440),
            ("10000/s,1000000", 100_000, 1_000_000),
            // Rounded up: never more than three in a second.
            ("3/s,6", 333_333_334, 6),
        ] {
            let limit: Limit = text.parse().unwrap();
            assert_eq!((limit.period(), limit.burst()), (period, burst), "{text}");
            assert_eq!(limit.capacity(), period * burst);
            assert_eq!(limit.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for text in [
            "",
            "50",
            "50/s",
            "50/s,",
            ",100",
            "/s,100",
            "50,100",
            "50/h,100",
            "50/S,100",
            "50 /s,100",
            "50/s, 100",
            "+50/s,100",
            "50/s,+1",
            "-1/s,1",
            "0/s,1",
            "1/s,0",
            "1.5/s,1",
            "50/s,100,1",
            "50/s/s,1",
            "10001/s,1",
            "50/s,1000001",
            "x/s,1",
            "99999999999999999999/s,1",
        ] {
            let error = text.parse::<Limit>().unwrap_err();
            assert!(error.starts_with("expected RATE/s,BURST"), "{text}: {error}");
        }
        assert!("501/s,11".parse::<Limit>().is_ok() && "500/s,1".parse::<Limit>().is_ok());
        assert_eq!("501/s,10".parse::<Limit>().unwrap_err(), "expected a burst of at least 11");
        for text in ["1/m,1441", "1/s,86401"] {
            assert_eq!(
                text.parse::<Limit>().unwrap_err(),
                "expected a burst that the rate fills within a day",
                "{text}"
            );
        }
    }
}
