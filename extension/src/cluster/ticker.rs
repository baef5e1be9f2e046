//! Time for ejections and slow starts.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use platform::clock::Clock;

/// Time since the start. Wall clock, so that an ejection ends while the environment is frozen; a clock that is set back
/// stands still instead.
pub(super) struct Ticker {
    clock: Arc<dyn Clock>,
    last: Mutex<(SystemTime, Duration)>,
}

impl Ticker {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Ticker {
        let now = clock.now();
        Ticker { clock, last: Mutex::new((now, Duration::ZERO)) }
    }

    pub(super) fn now(&self) -> Duration {
        let now = self.clock.now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.duration_since(last.0).unwrap_or_default();
        *last = (now, last.1.saturating_add(passed));
        last.1
    }
}

#[cfg(test)]
mod tests {
    use platform::clock::FixedClock;

    use super::*;

    #[test]
    fn a_clock_that_is_set_back_stands_still() {
        let clock = Arc::new(FixedClock::at(1_000));
        let ticker = Ticker::new(clock.clone() as Arc<dyn Clock>);
        clock.advance(Duration::from_secs(5));
        assert_eq!(ticker.now(), Duration::from_secs(5));
        clock.set(10);
        assert_eq!(ticker.now(), Duration::from_secs(5));
        clock.advance(Duration::from_secs(1));
        assert_eq!(ticker.now(), Duration::from_secs(6));
    }
}
