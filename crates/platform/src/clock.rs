//! Wall-clock time as an argument.
//!
//! A Lambda is frozen between invocations, and reports disagree on what its monotonic clock does meanwhile: every age
//! that outlives a request is therefore measured on the wall clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where a program gets the time from.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> SystemTime;

    /// Seconds since 1970-01-01T00:00:00Z; 0 for a clock set before that, which makes every token "not yet valid".
    fn unix(&self) -> u64 {
        unix(self.now())
    }
}

/// Seconds since 1970-01-01T00:00:00Z; 0 for a time before that.
pub fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A clock that stands still until it is set: for tests and replays. It knows nanoseconds, until the year 2554.
#[derive(Debug)]
pub struct FixedClock(AtomicU64);

impl FixedClock {
    /// A clock at `unix` seconds since the epoch.
    pub fn at(unix: u64) -> Self {
        Self(AtomicU64::new(nanos(Duration::from_secs(unix))))
    }

    /// Moves the clock to `unix` seconds since the epoch.
    pub fn set(&self, unix: u64) {
        self.0.store(nanos(Duration::from_secs(unix)), Ordering::Relaxed);
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(nanos(by), Ordering::Relaxed);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Clock for FixedClock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// 9999-12-31T23:59:59.999Z
const LAST: Duration = Duration::from_millis(253_402_300_799_999);

/// `2026-11-20T12:00:00.000Z`. RFC 3339 has no year after 9999: its last day stands for all days after it.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().min(LAST);
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // The civil date of a day, counted in eras of 400 years that start in March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let mut text = Vec::with_capacity(24);
    for (number, first, end) in [
        (year, 1_000, b'-'),
        (month, 10, b'-'),
        (day, 10, b'T'),
        (hour, 10, b':'),
        (minute, 10, b':'),
        (second, 10, b'.'),
        (u64::from(since.subsec_millis()), 100, b'Z'),
    ] {
        let mut place = first;
        while place > 0 {
            text.push(b'0' + (number / place % 10) as u8);
            place /= 10;
        }
        text.push(end);
    }
    String::from_utf8(text).unwrap_or_default()
}

/// Seconds since 1970 of `2026-12-31T00:00:00Z`: RFC 3339 in whole seconds and UTC, and nothing else; `None` for a date
/// that there is not.
pub fn parse_utc(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    // The way back of `rfc3339`: years begin in March, and 1970 does 719,468 days after the year 0.
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let leap_days = shifted_year / 4 - shifted_year / 100 + shifted_year / 400;
    let days = shifted_year * 365 + leap_days + (153 * shifted_month + 2) / 5 + day.checked_sub(1)?;
    let seconds = days.checked_sub(719_468)? * 86_400 + hour * 3_600 + minute * 60 + second;
    // Written again it is the same text, unless it was no date, no time or of another form.
    let written = rfc3339(UNIX_EPOCH + Duration::from_secs(seconds));
    (written.strip_suffix(".000Z")? == text.strip_suffix('Z')?).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read() {
        for (text, unix) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T00:00:00Z", Some(951_782_400)),
            ("2026-11-20T12:00:00Z", Some(1_795_176_000)),
            ("2100-03-01T00:00:00Z", Some(4_107_542_400)),
            ("9999-12-31T23:59:59Z", Some(253_402_300_799)),
            // There is no text for a second after the last one, and none of these is one.
            ("9999-12-31T24:00:00Z", None),
            ("9999-12-31T24:00:00", None),
            ("9999-99-99T99:99:99", None),
            ("9999x99x99x99x99x99 and whatever comes then", None),
            ("2100-02-29T00:00:00Z", None),
            ("2026-02-30T00:00:00Z", None),
            ("2026-00-10T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-01-00T00:00:00Z", None),
            ("2026-01-01T24:00:00Z", None),
            ("2026-01-01T23:60:00Z", None),
            ("2026-01-01T23:59:60Z", None),
            ("1969-12-31T23:59:59Z", None),
            ("0000-01-01T00:00:00Z", None),
            ("2026-01-01", None),
            ("2026-01-01T00:00Z", None),
            ("2026-01-01T00:00:00", None),
            ("2026-01-01T00:00:00z", None),
            ("2026-01-01 00:00:00Z", None),
            ("2026-01-01T00:00:00+01:00", None),
            ("2026-01-01T00:00:00.000Z", None),
            ("+026-01-01T00:00:00Z", None),
            ("12026-01-01T00:00:00Z", None),
            ("２026-01-01T00:00:00Z", None),
            ("", None),
        ] {
            assert_eq!(parse_utc(text), unix, "{text}");
        }
        for unix in (0..5_000_000_000).step_by(86_399 * 7) {
            let text = rfc3339(UNIX_EPOCH + Duration::from_secs(unix)).replace(".000Z", "Z");
            assert_eq!(parse_utc(&text), Some(unix), "{text}");
        }
    }

    #[test]
    fn dates() {
        for (unix, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_799, "2000-02-29T23:59:59.000Z"),
            (1_795_176_000, "2026-11-20T12:00:00.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799, "9999-12-31T23:59:59.000Z"),
            (253_402_300_800, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(unix)), expected);
        }
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_millis(1_234)), "1970-01-01T00:00:01.234Z");
    }
}
