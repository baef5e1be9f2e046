//! Shadow mode as a program is told of it: where, and until when.
//!
//! Both variables are required together. There is no shadow mode without an end, and none that ends later than in 90
//! days: forgotten, it would be a door that nobody guards.

use std::sync::atomic::{AtomicBool, Ordering};

use authz::shadow_mode::MAX_AHEAD;
use authz::{Policies, ShadowMode};
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

/// A shadow mode whose end is for good: a clock that is set back does not switch it on again, as long as the program runs.
#[derive(Debug)]
pub struct Latched {
    mode: ShadowMode,
    has_ended: AtomicBool,
}

impl Latched {
    /// Nothing has been seen of the clock yet.
    pub fn new(mode: ShadowMode) -> Self {
        Self { mode, has_ended: AtomicBool::new(false) }
    }

    /// The mode at `now` (seconds since 1970), unless its end was met now or before.
    pub fn at(&self, now: u64) -> Option<&ShadowMode> {
        if now >= self.mode.until() {
            self.has_ended.store(true, Ordering::Relaxed);
        }
        (!self.has_ended.load(Ordering::Relaxed)).then_some(&self.mode)
    }
}

/// The line that a program begins its log with where shadow mode is configured; `on` is whether it is on at `now`, and
/// `unknown` what of it the policies do not know.
pub fn announcement(mode: &ShadowMode, policies: &Policies, now: u64) -> Value {
    let until = std::time::UNIX_EPOCH + std::time::Duration::from_secs(mode.until());
    let mut line = json!({
        "event": "shadow_mode",
        "on": mode.is_on(now),
        "until": rfc3339(until),
        "workloads": mode.workloads(),
        "warning": if mode.is_on(now) {
            "requests to these workloads that the policies deny are let through, and written down with \"shadow\":true"
        } else {
            "it has ended: the policies are enforced"
        },
    });
    let unknown = mode.unknown(policies);
    if !unknown.is_empty() {
        let what = "no document and no route of the bundle is for such a workload: is the name right?";
        line["unknown"] = json!({"workloads": unknown, "warning": what});
    }
    line
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
        let policies = policies();
        let line = announcement(&mode, &policies, 1_795_175_999);
        assert_eq!((&line["event"], &line["on"]), (&json!("shadow_mode"), &json!(true)));
        assert_eq!((&line["until"], &line["workloads"]), (&json!("2026-11-20T12:00:00.000Z"), &json!("shop")));
        assert_eq!(line.get("unknown"), None);
        let line = announcement(&mode, &policies, 1_795_176_000);
        assert_eq!(line["on"], false);
        assert!(line["warning"].as_str().unwrap().contains("enforced"));
        let misspelt = ShadowMode::new("shop/app=carts,shop/app=cart,shoop", 1_795_176_000).unwrap();
        let line = announcement(&misspelt, &policies, 1_795_175_999);
        assert_eq!(line["unknown"]["workloads"], json!(["shop/app=carts", "shoop"]));
    }

    fn policies() -> Policies {
        let text = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: closed, namespace: shop }
spec: { selector: { matchLabels: { app: cart } } }
";
        let file = istio::SourceFile { name: "p.yaml".to_owned(), text: text.to_owned() };
        let compiled = authz::compile(&istio::parse(&[file]).unwrap(), &authz::CompileOptions::default());
        Policies::open(&compiled.unwrap().section).unwrap()
    }

    #[test]
    fn an_end_that_was_met_is_for_good() {
        let until = 2_000_000_000;
        let latched = || Latched::new(ShadowMode::new("*", until).unwrap());
        let on = |latched: &Latched, now: u64| latched.at(now).is_some_and(|mode| mode.is_on(now));
        for end in [until, until + 1, u64::MAX] {
            let latched = latched();
            assert!(on(&latched, until - 1) && on(&latched, until - 100), "a clock may be set back before the end");
            assert!(!on(&latched, end));
            assert!(!on(&latched, until - 1), "the clock was set back after {end}");
        }
        // A clock that is far behind is none to go by, and says nothing about the end.
        let latched = latched();
        assert!(!on(&latched, 0) && on(&latched, until - 1));
    }
}
