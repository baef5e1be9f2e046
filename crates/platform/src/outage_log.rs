//! Lines about an outage: one when it begins, one when it is over, and in between few enough to be read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;

use crate::clock::{Clock, rfc3339};
use crate::key_cache::younger;
use crate::log::Log;

/// At most one line about an outage in this time.
pub(crate) const QUIET: Duration = Duration::from_secs(60);

/// Writes lines about one thing that can fail.
pub(crate) struct OutageLog {
    event: &'static str,
    clock: Arc<dyn Clock>,
    log: Log,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When the last line about an outage was written.
    written_at: Option<u64>,
    /// Failures without a line since.
    suppressed: u64,
    /// Whether the last line said that there is an outage.
    told: bool,
}

impl OutageLog {
    /// `event` names the failure in its lines.
    pub(crate) fn new(event: &'static str, clock: Arc<dyn Clock>, log: Log) -> Self {
        Self { event, clock, log, state: Mutex::default() }
    }

    /// Something has failed. `error` holds no secret.
    pub(crate) fn failed(&self, error: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.unix();
        if state.written_at.is_some_and(|at| younger(at, now, QUIET)) {
            state.suppressed = state.suppressed.saturating_add(1);
            return;
        }
        let suppressed = std::mem::take(&mut state.suppressed);
        (state.written_at, state.told) = (Some(now), true);
        self.log.write(&json!({"ts": rfc3339(self.clock.now()), "event": self.event, "error": error,
            "suppressed": suppressed}));
    }

    /// It works. The end is written, as `event`, only where the beginning was.
    pub(crate) fn works(&self, event: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut state.told) {
            let suppressed = std::mem::take(&mut state.suppressed);
            self.log.write(&json!({"ts": rfc3339(self.clock.now()), "event": event, "suppressed": suppressed}));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::clock::FixedClock;

    #[test]
    fn one_line_a_change_and_at_most_one_a_minute() {
        let clock = Arc::new(FixedClock::at(1_000_000));
        let (log, lines) = Log::memory();
        let outage = OutageLog::new("down", clock.clone(), log);
        let said = || -> Vec<(String, u64)> {
            let parsed = lines.drain().into_iter().map(|line| serde_json::from_str::<Value>(&line).unwrap());
            parsed
                .map(|line| (line["event"].as_str().unwrap().to_owned(), line["suppressed"].as_u64().unwrap()))
                .collect()
        };
        outage.works("up");
        assert_eq!(said(), []);
        for _ in 0..5 {
            outage.failed("no answer in time");
        }
        assert_eq!(said(), [("down".to_owned(), 0)]);
        outage.works("up");
        outage.works("up");
        assert_eq!(said(), [("up".to_owned(), 4)]);
        // It comes and goes: no lines until the minute is over.
        for _ in 0..3 {
            outage.failed("no answer in time");
            outage.works("up");
        }
        assert_eq!(said(), []);
        clock.advance(QUIET);
        outage.failed("no answer in time");
        assert_eq!(said(), [("down".to_owned(), 3)]);
        // The clock was set back: how long ago that was is unknown, and the line is written.
        clock.set(1_000_000);
        outage.failed("no answer in time");
        assert_eq!(said(), [("down".to_owned(), 0)]);
    }
}
