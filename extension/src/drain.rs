//! The end: how long requests in hand may still take.

use std::future::Future;
use std::time::Duration;

/// After SHUTDOWN. Lambda gives 2 s to all extensions together, and the function is gone by then; the aim is to exit
/// within 300 ms.
pub(crate) const LAMBDA: Duration = Duration::from_millis(150);

/// The same for a plain process after SIGTERM.
pub(crate) const PROCESS: Duration = Duration::from_secs(5);

/// Waits for `serving` to end, but not longer than `limit`; false if it goes on.
pub(crate) async fn ends_within(serving: impl Future, limit: Duration) -> bool {
    tokio::time::timeout(limit, serving).await.is_ok()
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_requests_in_hand_and_not_for_ever() {
        let start = Instant::now();
        assert!(!ends_within(std::future::pending::<()>(), LAMBDA).await);
        assert_eq!(start.elapsed(), LAMBDA);
        assert!(LAMBDA <= Duration::from_millis(300) / 2, "the rest of the time is for leaving");

        let start = Instant::now();
        assert!(ends_within(tokio::time::sleep(Duration::from_millis(40)), LAMBDA).await);
        assert_eq!(start.elapsed(), Duration::from_millis(40));
    }
}
