//! What is known of one endpoint.

use crate::table::Outlier;

/// Which of the counters reached its limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Status5xx,
    Gateway,
    Local,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Monitor {
    consecutive_5xx: u32,
    consecutive_gateway: u32,
    consecutive_local: u32,
    /// When it was ejected, in milliseconds.
    ejected_at: Option<u64>,
    /// Envoy's `ejectTimeBackoff`: by what the base time is multiplied.
    multiplier: u64,
}

impl Monitor {
    /// `putHttpResponseCode`: counts an answer; which counter reached its limit just now.
    pub(super) fn status(&mut self, settings: &Outlier, status: u16) -> Option<Kind> {
        if !(500..600).contains(&status) {
            self.consecutive_5xx = 0;
            self.consecutive_gateway = 0;
            return None;
        }
        let mut reached = None;
        if matches!(status, 502..=504) {
            self.consecutive_gateway = self.consecutive_gateway.saturating_add(1);
            if self.consecutive_gateway == settings.consecutive_gateway {
                reached = Some(Kind::Gateway);
            }
        } else {
            self.consecutive_gateway = 0;
        }
        self.consecutive_5xx = self.consecutive_5xx.saturating_add(1);
        // A limit of 0 is never reached: the counter is at least 1 here.
        if self.consecutive_5xx == settings.consecutive_5xx {
            // Where both are reached, the gateway's comes first and the ejection is one all the same; coming back
            // clears both counters, but without an ejection each must start again by itself.
            if reached.is_some() && !self.is_ejected() {
                self.reset(Kind::Gateway);
            }
            reached = Some(Kind::Status5xx);
        }
        reached
    }

    /// `localOriginFailure`
    pub(super) fn local_failure(&mut self, settings: &Outlier) -> Option<Kind> {
        self.consecutive_local = self.consecutive_local.saturating_add(1);
        (self.consecutive_local == settings.consecutive_local).then_some(Kind::Local)
    }

    /// `localOriginNoFailure`
    pub(super) fn local_success(&mut self) {
        self.consecutive_local = 0;
    }

    pub(super) fn reset(&mut self, kind: Kind) {
        match kind {
            Kind::Status5xx => self.consecutive_5xx = 0,
            Kind::Gateway => self.consecutive_gateway = 0,
            Kind::Local => self.consecutive_local = 0,
        }
    }

    pub(super) fn is_ejected(&self) -> bool {
        self.ejected_at.is_some()
    }

    pub(super) fn eject(&mut self, settings: &Outlier, now: u64) {
        self.ejected_at = Some(now);
        // The multiplier grows only as long as it can make a difference.
        let base = settings.base_ejection_ms;
        if self.multiplier.saturating_mul(base) < longest(settings).saturating_add(base) {
            self.multiplier = self.multiplier.saturating_add(1);
        }
    }

    /// `looks` looks, the first one at `last + interval`; true when it came back in one of them.
    pub(super) fn look(&mut self, settings: &Outlier, last: u64, interval: u64, looks: u64) -> bool {
        let Some(ejected_at) = self.ejected_at else {
            // "Decrement time backoff for all hosts which have not been ejected."
            self.multiplier = self.multiplier.saturating_sub(looks);
            return false;
        };
        let lasts = settings.base_ejection_ms.saturating_mul(self.multiplier).min(longest(settings));
        let due = ejected_at.saturating_add(lasts);
        // The first look at or after that moment.
        let needed = due.saturating_sub(last).div_ceil(interval).max(1);
        if needed > looks {
            return false;
        }
        // "Reset the consecutive failure counters to avoid re-ejection on very few new errors".
        *self = Monitor { multiplier: self.multiplier.saturating_sub(looks - needed), ..Monitor::default() };
        true
    }
}

/// "max_ejection_time cannot be smaller than base_ejection_time".
fn longest(settings: &Outlier) -> u64 {
    settings.max_ejection_ms.max(settings.base_ejection_ms)
}
