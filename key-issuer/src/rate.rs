//! How often one caller may have something made, in this execution environment.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;

/// How many callers are remembered; the one that was seen longest ago goes first.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();
/// How many seconds of its rate a caller that was quiet may take at once: all instances of a function may start
/// together.
const BURST_SECONDS: u64 = 10;

/// A token bucket for each caller.
pub(crate) struct Rate {
    per_second: u64,
    buckets: Mutex<LruCache<String, Bucket>>,
}

struct Bucket {
    tokens: u64,
    /// Until when it is filled, in seconds since 1970.
    at: u64,
}

impl Rate {
    /// `per_second` for each caller, and ten times as many at once.
    pub(crate) fn new(per_second: u64) -> Self {
        Self { per_second, buckets: Mutex::new(LruCache::new(REMEMBERED)) }
    }

    /// Takes one.
    ///
    /// # Errors
    /// In how many seconds to come again.
    pub(crate) fn take(&self, caller: &str, now: u64) -> Result<(), u64> {
        let full = self.per_second.saturating_mul(BURST_SECONDS);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.get_or_insert_mut_ref(caller, || Bucket { tokens: full, at: now });
        // A clock that is set back fills nothing and starts anew.
        let gained = now.saturating_sub(bucket.at).saturating_mul(self.per_second);
        *bucket = Bucket { tokens: bucket.tokens.saturating_add(gained).min(full), at: now };
        bucket.tokens = bucket.tokens.checked_sub(1).ok_or(1_u64)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_has_a_burst_and_then_its_rate() {
        let rate = Rate::new(2);
        let taken = |caller: &str, now: u64| (0..100).take_while(|_| rate.take(caller, now).is_ok()).count();
        assert_eq!(taken("a", 1000), 20);
        assert_eq!(rate.take("a", 1000), Err(1));
        assert_eq!(taken("b", 1000), 20, "another caller has its own");
        assert_eq!(taken("a", 1001), 2);
        assert_eq!(taken("a", 1004), 6);
        assert_eq!(taken("a", 9999), 20, "and no more, however long it was quiet");
        assert_eq!(taken("a", 500), 0, "a clock that is set back gives nothing");
        assert_eq!(taken("a", 501), 2);
    }

    #[test]
    fn memory_is_bounded() {
        let rate = Rate::new(1);
        for caller in 0..=REMEMBERED.get() {
            assert!(rate.take(&caller.to_string(), 1000).is_ok());
        }
        assert_eq!(rate.buckets.lock().map(|buckets| buckets.len()).ok(), Some(REMEMBERED.get()));
    }
}
