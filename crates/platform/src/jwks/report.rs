//! What is said about key sets: one line in the log when something changes, and numbers.

use std::sync::atomic::{AtomicU64, Ordering};

/// While something stays bad, one line in so many seconds says so.
const SECONDS_PER_LINE: u64 = 60;

/// What happened to a key set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum JwksState {
    /// Fetched for the first time.
    Fetched,
    /// Fetched again, and it has changed.
    Refreshed,
    /// Fetched again, and it is the same.
    Unchanged,
    /// Could not be fetched; what is held stays in use until it is too old.
    Failed,
    /// Used although it should have been fetched again by now, since that failed.
    Stale,
    /// Too old or never had: the tokens of this issuer are refused.
    Expired,
    /// A token names an unknown key, and the issuer has been asked too often lately.
    Penalised,
    /// What was fetched is no acceptable key set or discovery document; what is held stays in use.
    Poisoned,
}

impl JwksState {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Fetched,
        Self::Refreshed,
        Self::Unchanged,
        Self::Failed,
        Self::Stale,
        Self::Expired,
        Self::Penalised,
        Self::Poisoned,
    ];

    /// Its name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fetched => "fetched",
            Self::Refreshed => "refreshed",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
            Self::Stale => "stale",
            Self::Expired => "expired",
            Self::Penalised => "penalised",
            Self::Poisoned => "poisoned",
        }
    }
}

/// How often each state was met, over all key sets: for a metrics writer to read. Every occurrence counts, said or not:
/// a fetch once, `stale`, `expired` and `penalised` once for each request.
#[derive(Debug, Default)]
pub struct JwksCounters([AtomicU64; 8]);

impl JwksCounters {
    pub(crate) fn add(&self, state: JwksState) {
        self.of(state).fetch_add(1, Ordering::Relaxed);
    }

    /// The number of times so far.
    pub fn get(&self, state: JwksState) -> u64 {
        self.of(state).load(Ordering::Relaxed)
    }

    /// The numbers since the last time that this was asked, without those that are 0.
    pub fn take(&self) -> Vec<(JwksState, u64)> {
        let taken = JwksState::ALL.map(|state| (state, self.of(state).swap(0, Ordering::Relaxed)));
        taken.into_iter().filter(|(_, count)| *count > 0).collect()
    }

    fn of(&self, state: JwksState) -> &AtomicU64 {
        let [fetched, refreshed, unchanged, failed, stale, expired, penalised, poisoned] = &self.0;
        match state {
            JwksState::Fetched => fetched,
            JwksState::Refreshed => refreshed,
            JwksState::Unchanged => unchanged,
            JwksState::Failed => failed,
            JwksState::Stale => stale,
            JwksState::Expired => expired,
            JwksState::Penalised => penalised,
            JwksState::Poisoned => poisoned,
        }
    }
}

/// What has been said about one key set.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// The last outcome of a fetch that was said.
    outcome: Option<JwksState>,
    failed_at: Option<u64>,
    poisoned_at: Option<u64>,
    penalised_at: Option<u64>,
    stale: bool,
    expired: bool,
}

impl Said {
    /// Whether to say it now. An outage gives a line when it begins, when the keys get stale, when they expire, when it
    /// ends, and one a minute in between.
    pub(super) fn due(&mut self, state: JwksState, now: u64) -> bool {
        match state {
            JwksState::Fetched | JwksState::Refreshed | JwksState::Unchanged => {
                (self.stale, self.expired) = (false, false);
                let news = state != JwksState::Unchanged || self.outcome != Some(state);
                self.outcome = Some(state);
                news
            }
            JwksState::Failed => {
                self.outcome = Some(state);
                lapsed(&mut self.failed_at, now)
            }
            JwksState::Poisoned => {
                self.outcome = Some(state);
                lapsed(&mut self.poisoned_at, now)
            }
            JwksState::Penalised => lapsed(&mut self.penalised_at, now),
            JwksState::Stale => !std::mem::replace(&mut self.stale, true),
            JwksState::Expired => !std::mem::replace(&mut self.expired, true),
        }
    }
}

fn lapsed(said_at: &mut Option<u64>, now: u64) -> bool {
    let lately = said_at.and_then(|at| now.checked_sub(at)).is_some_and(|since| since < SECONDS_PER_LINE);
    if !lately {
        *said_at = Some(now);
    }
    !lately
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_said_once_a_minute() {
        let mut said = Said::default();
        assert!(said.due(JwksState::Fetched, 0));
        let mut lines = 0;
        for second in 0..600 {
            for state in [JwksState::Failed, JwksState::Stale, JwksState::Penalised] {
                lines += usize::from(said.due(state, second));
            }
        }
        assert_eq!(lines, 21);
        assert!(said.due(JwksState::Unchanged, 600), "the outage is over");
        assert!(!said.due(JwksState::Unchanged, 900));
        assert!(said.due(JwksState::Refreshed, 1_200) && said.due(JwksState::Stale, 1_500));
    }

    #[test]
    fn counters_are_read_by_state() {
        let counters = JwksCounters::default();
        for (times, state) in JwksState::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| counters.add(state));
        }
        let expected: Vec<_> = JwksState::ALL.into_iter().zip(0..).filter(|(_, count)| *count > 0).collect();
        assert_eq!(counters.get(JwksState::Poisoned), 7);
        assert_eq!(counters.take(), expected);
        assert_eq!(counters.take(), []);
    }
}
