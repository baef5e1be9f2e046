//! What Prometheus reads. Labels are of closed sets: never a path, a client or a principal.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use authz::{Decision, Reason};
use platform::front::Gauges;
use platform::jwks::JwksState;
use platform::metrics::prometheus::{Histogram, Kind, Text};

/// How an exchange of an API key went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExchangeOutcome {
    /// A token was at hand.
    Cached,
    /// A token was at hand; asking for a new one has failed a moment ago.
    Stale,
    /// The issuer gave one.
    Issued,
    /// The issuer refused.
    Refused,
    /// The issuer could not be asked.
    Unavailable,
    /// Not asked, since it has failed a moment ago.
    Paused,
}

impl ExchangeOutcome {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Cached, Self::Stale, Self::Issued, Self::Refused, Self::Unavailable, Self::Paused];

    fn word(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Stale => "stale",
            Self::Issued => "issued",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Paused => "paused",
        }
    }
}

/// How exchanges went since the start.
#[derive(Debug, Default)]
pub struct ExchangeCounters([AtomicU64; ExchangeOutcome::ALL.len()]);

impl ExchangeCounters {
    pub(crate) fn add(&self, outcome: ExchangeOutcome) {
        self.of(outcome).fetch_add(1, Ordering::Relaxed);
    }

    /// The number of times so far.
    pub fn get(&self, outcome: ExchangeOutcome) -> u64 {
        self.of(outcome).load(Ordering::Relaxed)
    }

    fn of(&self, outcome: ExchangeOutcome) -> &AtomicU64 {
        let [cached, stale, issued, refused, unavailable, paused] = &self.0;
        match outcome {
            ExchangeOutcome::Cached => cached,
            ExchangeOutcome::Stale => stale,
            ExchangeOutcome::Issued => issued,
            ExchangeOutcome::Refused => refused,
            ExchangeOutcome::Unavailable => unavailable,
            ExchangeOutcome::Paused => paused,
        }
    }
}

/// What the adapter counts itself.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// By [`Reason::ALL`].
    decisions: Vec<AtomicU64>,
    /// The same of those that shadow mode has let through.
    shadowed: Vec<AtomicU64>,
    allowed: Histogram,
    denied: Histogram,
    /// Checks that were not looked at.
    pub(crate) overload: AtomicU64,
    /// Bundles that were taken, the first one included.
    pub(crate) generation: AtomicU64,
    pub(crate) reloads_failed: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        let zeros = || Reason::ALL.iter().map(|_| AtomicU64::new(0)).collect();
        Self {
            decisions: zeros(),
            shadowed: zeros(),
            allowed: Histogram::default(),
            denied: Histogram::default(),
            overload: AtomicU64::new(0),
            generation: AtomicU64::new(1),
            reloads_failed: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    pub(crate) fn decided(&self, decision: &Decision, latency: Duration) {
        let reason = decision.reason();
        let counters = if decision.would_deny().is_some() { &self.shadowed } else { &self.decisions };
        let counter = Reason::ALL.iter().position(|known| *known == reason).and_then(|at| counters.get(at));
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if decision.is_allowed() { &self.allowed } else { &self.denied }.observe(latency);
    }

    /// The text of a scrape; with the rows of shadow mode where `shadow` says that there is one.
    pub(crate) fn text(
        &self,
        gauges: &Gauges<'_>,
        exchange: Option<(&ExchangeCounters, usize)>,
        shadow: bool,
    ) -> String {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut text = Text::default();
        let verdict = |reason: &Reason| if reason.status() == 200 { "allow" } else { "deny" };
        let rows: Vec<_> = Reason::ALL
            .iter()
            .zip(&self.decisions)
            .map(|(reason, count)| ([("verdict", verdict(reason)), ("reason", reason.as_str())], load(count)))
            .collect();
        let shadowed = Reason::ALL.iter().zip(&self.shadowed).filter(|(reason, _)| shadow && reason.status() != 200);
        let shadowed = shadowed
            .map(|(reason, count)| ([("verdict", "shadow"), ("reason", reason.as_str())], load(count)))
            .collect::<Vec<_>>();
        let help = "Decisions by their reason; with the verdict shadow, denials that shadow mode has let through.";
        let rows = rows.iter().chain(&shadowed).map(|(labels, count)| (&labels[..], *count));
        text.metric("causeway_decisions_total", Kind::Counter, help, rows);
        let histograms = [(&[("verdict", "allow")][..], &self.allowed), (&[("verdict", "deny")][..], &self.denied)];
        text.histogram("causeway_decision_duration_seconds", "From Envoy's question to the answer.", histograms);
        let help = "Checks that were not looked at, since too many were under way. Envoy denies them.";
        text.single("causeway_checks_refused_total", Kind::Counter, help, load(&self.overload));

        let name = "causeway_exchanges_total";
        let counted = ExchangeOutcome::ALL
            .map(|outcome| ([("outcome", outcome.word())], exchange.map_or(0, |(counters, _)| counters.get(outcome))));
        let rows = counted.iter().map(|(labels, count)| (&labels[..], *count));
        text.metric(name, Kind::Counter, "Tokens for API keys, by how they were come by.", rows);
        let sizes = [
            ([("cache", "api_keys")], gauges.api_keys),
            ([("cache", "exchanged_tokens")], exchange.map_or(0, |(_, held)| held)),
            ([("cache", "verified_tokens")], gauges.verified_tokens),
        ];
        let rows = sizes.iter().map(|(labels, size)| (&labels[..], *size));
        text.metric("causeway_cache_entries", Kind::Gauge, "Entries of each cache.", rows);

        let generation = load(&self.generation);
        text.single("causeway_bundle_generation", Kind::Gauge, "Bundles taken since the start.", generation);
        let reloads = [([("outcome", "ok")], generation - 1), ([("outcome", "failed")], load(&self.reloads_failed))];
        let rows = reloads.iter().map(|(labels, count)| (&labels[..], *count));
        text.metric("causeway_bundle_reloads_total", Kind::Counter, "Changed bundles, taken or refused.", rows);

        let states = JwksState::ALL.map(|state| ([("state", state.name())], gauges.jwks.get(state)));
        let rows = states.iter().map(|(labels, count)| (&labels[..], *count));
        text.metric("causeway_jwks_total", Kind::Counter, "How often key sets were in each state.", rows);
        let totals = &gauges.totals;
        let lookups = [
            ([("outcome", "hit")], totals.api_key_hits),
            ([("outcome", "miss")], totals.api_key_misses),
            ([("outcome", "stale")], totals.api_key_stale),
            ([("outcome", "unavailable")], totals.api_key_unavailable),
        ];
        let rows = lookups.iter().map(|(labels, count)| (&labels[..], *count));
        text.metric("causeway_api_key_lookups_total", Kind::Counter, "Look-ups of API keys.", rows);
        let help = "Attempts that brought no revocation list.";
        text.single("causeway_revocations_failed_total", Kind::Counter, help, totals.revocations_failed);
        text.finish()
    }
}
