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
        self.now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A clock that stands still until it is set: for tests and replays.
#[derive(Debug)]
pub struct FixedClock(AtomicU64);

impl FixedClock {
    /// A clock at `unix` seconds since the epoch.
    pub fn at(unix: u64) -> Self {
        Self(AtomicU64::new(unix))
    }

    /// Moves the clock to `unix` seconds since the epoch.
    pub fn set(&self, unix: u64) {
        self.0.store(unix, Ordering::Relaxed);
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_secs(), Ordering::Relaxed);
    }
}

impl Clock for FixedClock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}
