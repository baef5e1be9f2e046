//! Counters of what goes on behind the decisions: key sets, revocation lists, API keys, verified tokens.
//!
//! They are written by requests, since a Lambda is frozen between them: a line of their own after a decision, at most
//! one in a minute, and none when nothing has changed. What an environment has counted since its last line is lost when
//! it ends; the decisions themselves are counted in their own lines and lose nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::NAMESPACE;
use super::directives::{Aws, BY_SERVICE, Directive, Metric, milliseconds};
use crate::clock::rfc3339;
use crate::jwks::{JwksSource, JwksState};
use crate::log::Log;

/// One line in so many seconds at most.
pub const SECONDS_PER_LINE: u64 = 60;

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Attempts that brought no revocation list.
    pub revocations_failed: u64,
    /// API keys whose record was at hand.
    pub api_key_hits: u64,
    /// API keys whose record was read from the store.
    pub api_key_misses: u64,
    /// API keys that were answered by an older record, since the store could not be reached.
    pub api_key_stale: u64,
    /// API keys whose record or pepper could not be had.
    pub api_key_unavailable: u64,
    /// Tokens whose signature was known to be good.
    pub token_hits: u64,
    /// Tokens whose signature had to be verified.
    pub token_misses: u64,
    /// Writes to the table of rate limits.
    pub rate_limit_updates: u64,
    /// Requests whose rate was limited without the table, since it could not be used.
    pub rate_limit_unavailable: u64,
}

impl Totals {
    /// The metrics' names, with what was counted.
    fn named(self) -> [(&'static str, u64); 9] {
        [
            ("RevocationsFailed", self.revocations_failed),
            ("ApiKeyCacheHits", self.api_key_hits),
            ("ApiKeyCacheMisses", self.api_key_misses),
            ("ApiKeyCacheStale", self.api_key_stale),
            ("ApiKeyUnavailable", self.api_key_unavailable),
            ("TokenCacheHits", self.token_hits),
            ("TokenCacheMisses", self.token_misses),
            ("RateLimitUpdates", self.rate_limit_updates),
            ("RateLimitUnavailable", self.rate_limit_unavailable),
        ]
    }
}

/// Writes the counters of one front.
pub(crate) struct StateMetrics {
    /// Shared with other fronts: what one writes, no other writes again.
    jwks: Arc<JwksSource>,
    written: Mutex<Written>,
}

#[derive(Default)]
struct Written {
    totals: Totals,
    at: Option<u64>,
}

impl StateMetrics {
    pub(crate) fn new(jwks: Arc<JwksSource>) -> Self {
        Self { jwks, written: Mutex::default() }
    }

    /// Writes what has changed since the last line, if that is old enough and `log` takes metrics.
    pub(crate) fn write(&self, totals: Totals, log: &Log, now: SystemTime) {
        let Some(emf) = log.metrics() else { return };
        let mut counts: Vec<(&'static str, u64)> = Vec::new();
        {
            let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            // A clock that was set back says nothing about an age.
            let lately = |at: u64| seconds.checked_sub(at).is_some_and(|age| age < SECONDS_PER_LINE);
            if written.at.is_some_and(lately) {
                return;
            }
            counts.extend(self.jwks.counters().take().into_iter().map(|(state, count)| (jwks_metric(state), count)));
            let before = written.totals.named();
            let since =
                totals.named().into_iter().zip(before).map(|((name, now), (_, then))| (name, now - now.min(then)));
            counts.extend(since.filter(|(_, count)| *count > 0));
            if counts.is_empty() {
                return;
            }
            *written = Written { totals, at: Some(seconds) };
        }
        let metrics: Vec<Metric> = counts.iter().map(|(name, _)| Metric { name, unit: "Count" }).collect();
        let mut line = Map::from_iter(counts.iter().map(|(name, count)| ((*name).to_owned(), Value::from(*count))));
        line.insert("ts".to_owned(), rfc3339(now).into());
        line.insert("event".to_owned(), "metrics".into());
        line.insert("service".to_owned(), emf.service.into());
        line.insert("environment".to_owned(), (*emf.environment).into());
        let directives = [Directive { namespace: NAMESPACE, dimensions: &[BY_SERVICE], metrics: &metrics }];
        let aws = Aws { timestamp: milliseconds(now), cloud_watch_metrics: directives };
        line.insert("_aws".to_owned(), json!(aws));
        log.write(&line);
    }
}

fn jwks_metric(state: JwksState) -> &'static str {
    match state {
        JwksState::Fetched => "JwksFetched",
        JwksState::Refreshed => "JwksRefreshed",
        JwksState::Unchanged => "JwksUnchanged",
        JwksState::Failed => "JwksFailed",
        JwksState::Stale => "JwksStale",
        JwksState::Expired => "JwksExpired",
        JwksState::Penalised => "JwksPenalised",
        JwksState::Poisoned => "JwksPoisoned",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::clock::FixedClock;
    use crate::metrics::Emf;
    use crate::metrics::tests::check_emf;

    #[test]
    fn one_line_a_minute_says_what_has_changed() {
        let (log, lines) = Log::memory();
        let log = log.with_metrics(Some(Emf::new("authorizer", Some("dev"))));
        let jwks = Arc::new(JwksSource::new(Arc::new(FixedClock::at(0))));
        let states = StateMetrics::new(jwks.clone());
        let write = |second: u64, totals: Totals| {
            states.write(totals, &log, UNIX_EPOCH + Duration::from_secs(second));
            lines.drain()
        };
        assert!(write(1_000, Totals::default()).is_empty(), "nothing has happened");
        let totals = Totals { api_key_hits: 5, token_misses: 2, ..Totals::default() };
        jwks.counters().add(JwksState::Failed);
        let line = write(1_000, totals);
        assert_eq!(check_emf(&line[0]).unwrap(), ["JwksFailed", "ApiKeyCacheHits", "TokenCacheMisses"]);
        let line: Value = serde_json::from_str(&line[0]).unwrap();
        assert_eq!([&line["JwksFailed"], &line["ApiKeyCacheHits"], &line["TokenCacheMisses"]], [1, 5, 2]);
        assert_eq!(line["_aws"]["Timestamp"], 1_000_000);
        assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["service", "environment"]]));
        assert_eq!([&line["event"], &line["service"], &line["environment"]], ["metrics", "authorizer", "dev"]);

        let more = Totals { api_key_hits: 9, ..totals };
        assert!(write(1_059, more).is_empty(), "too soon");
        let line: Value = serde_json::from_str(&write(1_060, more)[0]).unwrap();
        assert_eq!(line["ApiKeyCacheHits"], 4);
        assert!(line.get("JwksFailed").is_none() && line.get("TokenCacheMisses").is_none());
        assert!(write(2_000, more).is_empty(), "nothing has changed");
        let all = Totals {
            revocations_failed: 1,
            api_key_hits: 10,
            api_key_misses: 1,
            api_key_stale: 1,
            api_key_unavailable: 1,
            token_hits: 1,
            token_misses: 3,
            rate_limit_updates: 1,
            rate_limit_unavailable: 1,
        };
        JwksState::ALL.into_iter().for_each(|state| jwks.counters().add(state));
        let line = write(500, all);
        assert_eq!(check_emf(&line[0]).unwrap().len(), 17, "a clock that was set back holds nothing up");
    }

    #[test]
    fn without_metrics_nothing_is_written_nor_taken() {
        let (log, lines) = Log::memory();
        let jwks = Arc::new(JwksSource::new(Arc::new(FixedClock::at(0))));
        jwks.counters().add(JwksState::Failed);
        StateMetrics::new(jwks.clone()).write(Totals::default(), &log, UNIX_EPOCH);
        assert!(lines.all().is_empty());
        assert_eq!(jwks.counters().get(JwksState::Failed), 1);
    }
}
