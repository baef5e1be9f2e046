//! The arithmetic of a token bucket that is one number: the moment at which it will be full.
//!
//! "Full at" moves ahead by one period for each token that is taken, and a bucket is empty when it is full no sooner than
//! its whole capacity from now (the virtual scheduling form of the leaky bucket, ITU-T I.371 annex A, where the number is
//! the *theoretical arrival time*). The form matters: taking tokens is an addition with a bound, so that sandboxes that
//! take at the same time do not have to know of each other, and a table can do it in one conditional write.
//!
//! Why there is never too much: each taking moves the number ahead by its tokens, from the moment of the first one at the
//! earliest, to the capacity from now at the latest. So in any time t at most `burst + rate · t` are taken; `t` is longer
//! by as much as the clocks of the sandboxes differ, and that once, not with each request.

use super::limit::Limit;
use super::table::Change;

/// How far the clocks of sandboxes may lie apart, in nanoseconds. A bucket that is full even later was written under
/// another limit or by a clock that is wrong, and must not close a client out until then.
pub(crate) const MAX_SKEW: u64 = 5_000_000_000;

/// What can be done with a bucket, as far as it is known.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Plan {
    /// So many tokens can be taken, with this change.
    Take { tokens: u64, change: Change },
    /// Nobody has a token; this moment is the first at which there can be one.
    Empty { until: u64 },
    /// It says what cannot be; with this change it is empty.
    Repair { change: Change },
}

/// What to do to take up to `wanted` tokens of a bucket that is full at `full_at`, if it is known. Times are nanoseconds
/// since 1970.
pub(crate) fn plan(limit: Limit, full_at: Option<u64>, wanted: u64, now: u64) -> Plan {
    let (period, capacity) = (limit.period(), limit.capacity());
    let Some(ahead) = full_at.and_then(|at| at.checked_sub(now)) else {
        let tokens = wanted.clamp(1, limit.burst());
        return Plan::Take { tokens, change: Change::Start { now, to: now + tokens * period } };
    };
    if ahead > capacity + MAX_SKEW {
        return Plan::Repair { change: Change::Replace { seen: now + ahead, to: now + capacity } };
    }
    match capacity.saturating_sub(ahead) / period {
        0 => Plan::Empty { until: now + (ahead + period).saturating_sub(capacity) },
        free => {
            let tokens = wanted.clamp(1, free);
            Plan::Take { tokens, change: add(limit, tokens, now) }
        }
    }
}

/// The change that takes one token of a bucket of which nothing is certain, unless it has none.
pub(crate) fn attempt(limit: Limit, now: u64) -> Change {
    add(limit, 1, now)
}

fn add(limit: Limit, tokens: u64, now: u64) -> Change {
    let cost = tokens * limit.period();
    Change::Add { cost, not_before: now, not_after: now + limit.capacity() - cost }
}

/// A bucket that one sandbox keeps for itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OwnBucket {
    full_at: u64,
}

impl OwnBucket {
    /// Takes one token, if there is one.
    pub(crate) fn take(&mut self, limit: Limit, now: u64) -> bool {
        // A clock that was set back, or a limit that was lowered.
        let full_at = self.full_at.clamp(now, now + limit.capacity());
        let is_there = full_at + limit.period() <= now + limit.capacity();
        self.full_at = if is_there { full_at + limit.period() } else { full_at };
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u64 = 1_800_000_000_000_000_000;
    const MS: u64 = 1_000_000;

    fn limit() -> Limit {
        "50/s,10".parse().unwrap()
    }

    #[test]
    fn what_is_known_says_what_to_do() {
        // 20 ms a token, 200 ms to be full.
        let start = |tokens| Plan::Take { tokens, change: Change::Start { now: T, to: T + tokens * 20 * MS } };
        let add = |tokens: u64| Plan::Take {
            tokens,
            change: Change::Add { cost: tokens * 20 * MS, not_before: T, not_after: T + 200 * MS - tokens * 20 * MS },
        };
        let empty = |after| Plan::Empty { until: T + after };
        for (name, full_at, wanted, expected) in [
            ("nothing is known", None, 3, start(3)),
            ("never more than there are", None, 99, start(10)),
            ("one at least", None, 0, start(1)),
            ("full for a while", Some(T - 1), 3, start(3)),
            ("full now", Some(T), 10, add(10)),
            ("all but one", Some(T + 20 * MS), 10, add(9)),
            ("a part of one does not count", Some(T + 20 * MS + 1), 10, add(8)),
            ("the last one", Some(T + 180 * MS), 3, add(1)),
            ("none by a nanosecond", Some(T + 180 * MS + 1), 3, empty(1)),
            ("none", Some(T + 200 * MS), 3, empty(20 * MS)),
            ("the clock of another is ahead", Some(T + 200 * MS + MAX_SKEW), 3, empty(20 * MS + MAX_SKEW)),
            (
                "what cannot be",
                Some(T + 200 * MS + MAX_SKEW + 1),
                3,
                Plan::Repair { change: Change::Replace { seen: T + 200 * MS + MAX_SKEW + 1, to: T + 200 * MS } },
            ),
        ] {
            assert_eq!(plan(limit(), full_at, wanted, T), expected, "{name}");
        }
        assert_eq!(attempt(limit(), T), Change::Add { cost: 20 * MS, not_before: T, not_after: T + 180 * MS });
    }

    #[test]
    fn an_own_bucket_fills_with_time_and_forgets_a_clock_that_was_wrong() {
        let mut bucket = OwnBucket::default();
        let mut taken = |now: u64| (0..20).filter(|_| bucket.take(limit(), now)).count();
        assert_eq!(taken(T), 10);
        assert_eq!(taken(T + 20 * MS - 1), 0);
        assert_eq!(taken(T + 20 * MS), 1);
        assert_eq!(taken(T + 10_000 * MS), 10);
        assert_eq!(taken(T - 10_000 * MS), 0, "set back: empty, and not for long");
        assert_eq!(taken(T - 9_980 * MS), 1);
    }
}
