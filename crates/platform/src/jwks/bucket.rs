//! How often tokens with unknown `kid`s may make us ask an issuer.

/// One fetch is allowed in each such number of seconds.
pub const SECONDS_PER_FETCH: u64 = 10;

/// Fetches that are allowed at once after a quiet time.
pub const BURST: u64 = 2;

/// A token bucket on the wall clock.
///
/// There is no memory of the kids that were asked for: whoever sends random ones would fill it, and it would delay the
/// key that its issuer publishes a second later. An empty bucket delays that key by [`SECONDS_PER_FETCH`] at most,
/// since the next fetch that is allowed, for whatever kid, brings it.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: u64,
    /// When the last token was earned.
    earned_at: u64,
    refilled_at: Option<u64>,
}

impl Bucket {
    pub(super) fn full(now: u64) -> Self {
        Self { tokens: BURST, earned_at: now, refilled_at: None }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: u64) -> bool {
        match now.checked_sub(self.earned_at) {
            // A clock that was set back earns nothing, and starts anew.
            None => self.earned_at = now,
            Some(since) => {
                let earned = since / SECONDS_PER_FETCH;
                self.tokens = self.tokens.saturating_add(earned).min(BURST);
                self.earned_at = if self.tokens == BURST { now } else { self.earned_at + earned * SECONDS_PER_FETCH };
            }
        }
        let taken = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        taken
    }

    /// A fetch brought a change: the asking was justified. Once in [`SECONDS_PER_FETCH`] only, or an issuer whose
    /// answer is never the same twice could be asked without end.
    pub(super) fn refill(&mut self, now: u64) {
        let lately = |at: u64| now.checked_sub(at).is_some_and(|since| since < SECONDS_PER_FETCH);
        if !self.refilled_at.is_some_and(lately) {
            *self = Self { refilled_at: Some(now), ..Self::full(now) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_two_at_once_and_one_in_ten_seconds() {
        let mut bucket = Bucket::full(1_000);
        let mut taken = |now| (0..10_000).filter(|_| bucket.take(now)).count();
        assert_eq!([taken(1_000), taken(1_009), taken(1_010), taken(1_019), taken(1_020)], [2, 0, 1, 0, 1]);
        assert_eq!([taken(1_039), taken(1_040), taken(9_000)], [1, 1, 2]);
        // Set back.
        assert_eq!([taken(500), taken(509), taken(510)], [0, 0, 1]);
    }

    #[test]
    fn a_change_refills_it_once_in_ten_seconds() {
        let mut bucket = Bucket::full(1_000);
        let mut most = 0;
        for second in 1_000..1_100 {
            while bucket.take(second) {
                most += 1;
                bucket.refill(second);
            }
        }
        assert!((20..=40).contains(&most), "{most}");
    }
}
