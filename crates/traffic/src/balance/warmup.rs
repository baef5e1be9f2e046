//! The slow start of new endpoints: Envoy's `applySlowStartFactor`.

use std::time::Duration;

use super::Member;
use crate::table::{Balance, BalancePolicy};

/// How new endpoints begin.
#[derive(Debug)]
pub(super) struct Warming {
    /// Zero: at once.
    window: Duration,
    least: f64,
    aggression: f64,
    /// When the last endpoint came.
    newest: Duration,
}

impl Warming {
    pub(super) fn new(settings: &Balance, members: &[Member]) -> Warming {
        // Istio gives it to `ROUND_ROBIN` and `LEAST_REQUEST` alone.
        let warmup = match settings.policy {
            BalancePolicy::LeastRequest | BalancePolicy::RoundRobin => settings.warmup.clone().unwrap_or_default(),
            BalancePolicy::Random | BalancePolicy::Hash(..) => Default::default(),
        };
        let aggression = f64::from(warmup.aggression_thousandths) / 1000.0;
        let mut warming = Warming {
            window: Duration::from_millis(warmup.duration_ms),
            least: f64::from(warmup.minimum_percent.min(100)) / 100.0,
            // "aggression cannot be less than 0.0": then it is 1.
            aggression: if aggression > 0.0 { aggression } else { 1.0 },
            newest: Duration::ZERO,
        };
        warming.replace(members);
        warming
    }

    pub(super) fn replace(&mut self, members: &[Member]) {
        self.newest = members.iter().map(|member| member.since).max().unwrap_or_default();
    }

    /// Whether an endpoint may be in its slow start: the opposite of `noHostsAreInSlowStart`.
    pub(super) fn is_on(&self, now: Duration) -> bool {
        !self.window.is_zero() && now.saturating_sub(self.newest) <= self.window
    }

    /// By what the weight of an endpoint that came at `since` is multiplied: from `minimumPercent` to 1, as
    /// `(elapsed / window)^(1 / aggression)`.
    pub(super) fn factor(&self, since: Duration, now: Duration) -> f64 {
        let elapsed = now.saturating_sub(since);
        if elapsed >= self.window {
            return 1.0;
        }
        let share = elapsed.max(Duration::from_millis(1)).as_secs_f64() / self.window.as_secs_f64();
        let share = if self.aggression == 1.0 { share } else { share.powf(1.0 / self.aggression) };
        share.max(self.least).min(1.0)
    }
}
