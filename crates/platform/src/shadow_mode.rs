//! Shadow mode as a program is told of it: where, and until when.
//!
//! Both variables are required together. There is no shadow mode without an end, and none that ends later than in 90
//! days: forgotten, it would be a door that nobody guards.

use authz::ShadowMode;
use authz::shadow_mode::MAX_AHEAD;
use serde_json::{Value, json};

use crate::clock::{Clock, SystemClock, parse_utc, rfc3339};
use crate::env::{EnvError, Reader};

/// Where it is on: `*`, or `NAMESPACE` and `NAMESPACE/LABEL=VALUE` with commas between.
pub const WORKLOADS: &str = "CAUSEWAY_SHADOW_WORKLOADS";

/// The second at which it ends, `2026-12-31T00:00:00Z`.
pub const UNTIL: &str = "CAUSEWAY_SHADOW_UNTIL";

/// `CAUSEWAY_SHADOW_WORKLOADS` and `CAUSEWAY_SHADOW_UNTIL`. An end that has passed is no error: everything is enforced
/// then, and a start that failed would deny what the policies allow.
///
/// # Errors
/// One without the other, a value that is not what it takes, or an end that is farther ahead than 90 days.
pub fn from_env(env: &Reader<'_>) -> Result<Option<ShadowMode>, EnvError> {
    from_env_at(env, SystemClock.unix())
}

fn from_env_at(env: &Reader<'_>, now: u64) -> Result<Option<ShadowMode>, EnvError> {
    let Some((workloads, _)) = env.pair(WORKLOADS, UNTIL)? else { return Ok(None) };
    let until = env.checked(UNTIL, |text| {
        let until = parse_utc(text).ok_or("expected a time in UTC, such as 2026-12-31T00:00:00Z")?;
        match until.saturating_sub(now) <= MAX_AHEAD {
            true => Ok(until),
            false => Err(format!("expected at most {} days from now: shadow mode denies nothing", MAX_AHEAD / 86_400)),
        }
    })?;
    let mode = env.checked(WORKLOADS, |_| ShadowMode::new(&workloads, until.unwrap_or_default()))?;
    Ok(mode)
}

/// The line that a program begins its log with where shadow mode is configured; `on` is whether it is on at `now`.
pub fn announcement(mode: &ShadowMode, now: u64) -> Value {
    let until = std::time::UNIX_EPOCH + std::time::Duration::from_secs(mode.until());
    json!({
        "event": "shadow_mode",
        "on": mode.is_on(now),
        "until": rfc3339(until),
        "workloads": mode.workloads(),
        "warning": if mode.is_on(now) {
            "requests to these workloads that the policies deny are let through, and written down with \"shadow\":true"
        } else {
            "it has ended: the policies are enforced"
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::env::MapEnv;

    #[test]
    fn both_or_neither_and_an_end_in_sight() {
        let now = parse_utc("2026-11-20T12:00:00Z").unwrap();
        let read = |workloads: &str, until: &str| {
            let env = MapEnv::from([(WORKLOADS, workloads), (UNTIL, until)]);
            from_env_at(&Reader::new(&env), now).map_err(|error| error.to_string())
        };
        assert_eq!(read("", ""), Ok(None));
        let on = read("shop", "2026-11-20T12:00:01Z").unwrap().unwrap();
        assert!(on.is_on(now) && !on.is_on(now + 1));
        // It ended: the program starts, and enforces.
        for until in ["2026-11-20T12:00:00Z", "2020-01-01T00:00:00Z"] {
            assert!(!read("shop", until).unwrap().unwrap().is_on(now), "{until}");
        }
        assert!(read("*", "2027-02-18T12:00:00Z").unwrap().unwrap().is_on(now));
        for (workloads, until, expected) in [
            ("*", "", "CAUSEWAY_SHADOW_UNTIL is not set"),
            ("", "2026-12-31T00:00:00Z", "CAUSEWAY_SHADOW_WORKLOADS is not set"),
            ("*", "2027-02-18T12:00:01Z", "expected at most 90 days from now"),
            ("*", "9999-12-31T00:00:00Z", "expected at most 90 days from now"),
            ("*", "2026-12-31", "expected a time in UTC"),
            ("*", "never", "expected a time in UTC"),
            ("shop/app", "2026-12-31T00:00:00Z", "NAMESPACE/LABEL=VALUE"),
        ] {
            let error = read(workloads, until).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_announcement_says_whether_it_is_on() {
        let mode = ShadowMode::new("shop", 1_795_176_000).unwrap();
        let line = announcement(&mode, 1_795_175_999);
        assert_eq!((&line["event"], &line["on"]), (&json!("shadow_mode"), &json!(true)));
        assert_eq!((&line["until"], &line["workloads"]), (&json!("2026-11-20T12:00:00.000Z"), &json!("shop")));
        let line = announcement(&mode, 1_795_176_000);
        assert_eq!(line["on"], false);
        assert!(line["warning"].as_str().unwrap().contains("enforced"));
    }
}
