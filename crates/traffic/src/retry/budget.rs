//! How many retries there may be at a time.

use crate::table::Pool;

/// The limit of a cluster's concurrent retries: `maxRetries`, or `retryBudget` in its place. It has no state: the
/// caller counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Budget {
    limit: Limit,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Limit {
    None,
    Fixed(u32),
    Share { millionths: u32, at_least: u32 },
}

impl Budget {
    /// Of a cluster.
    pub fn new(pool: &Pool) -> Budget {
        let limit = match (pool.retry_budget, pool.max_retries) {
            // "If this field is set, the retry budget will override any configured retry circuit breaker."
            (Some((millionths, at_least)), _) => Limit::Share { millionths, at_least },
            (None, 0) => Limit::None,
            (None, most) => Limit::Fixed(most),
        };
        Budget { limit }
    }

    /// Whether one more retry may begin, with so many requests in hand (those that wait for a connection included) and
    /// so many retries among them. A retry counts from its pause until its try has ended.
    pub fn allows(&self, requests: u32, retries: u32) -> bool {
        let most = match self.limit {
            Limit::None => return true,
            Limit::Fixed(most) => u64::from(most),
            // "We enforce that the retry concurrency is never allowed to go below the min_retry_concurrency".
            Limit::Share { millionths, at_least } => {
                (u64::from(requests) * u64::from(millionths) / 1_000_000).max(u64::from(at_least))
            }
        };
        u64::from(retries) < most
    }
}
