//! The end: how long requests in hand may still take.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// After SHUTDOWN. Lambda gives 2 s to all extensions together, and the function is gone by then; the aim is to exit
/// within 300 ms.
pub(crate) const LAMBDA: Duration = Duration::from_millis(150);

/// The same for a plain process after SIGTERM.
pub(crate) const PROCESS: Duration = Duration::from_secs(5);

/// How long what was cut off may take to be gone: its lines are written meanwhile.
pub(crate) const GONE: Duration = Duration::from_millis(20);

/// Ends what is still in hand when the time for that is over, so that its log lines and what metrics count of it are
/// there before the process goes.
#[derive(Clone, Debug)]
pub(crate) struct Cut(Arc<watch::Sender<bool>>);

impl Default for Cut {
    fn default() -> Cut {
        Cut(Arc::new(watch::Sender::new(false)))
    }
}

impl Cut {
    /// From now on nothing is waited for any more.
    pub(crate) fn now(&self) {
        self.0.send_replace(true);
    }

    /// Returns when nothing is to be waited for any more.
    pub(crate) async fn came(&self) {
        // The sender lives in `self`: never an error.
        let _ = self.0.subscribe().wait_for(|cut| *cut).await;
    }

    /// Does `work`, but no longer than until then.
    pub(crate) async fn bounds(&self, work: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = work => {}
            () = self.came() => {}
        }
    }
}

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

        let cut = Cut::default();
        cut.bounds(async {}).await;
        let (work, ()) = tokio::join!(tokio::time::timeout(LAMBDA, cut.bounds(std::future::pending())), async {
            tokio::time::sleep(LAMBDA / 2).await;
            cut.now();
        });
        assert!(work.is_ok(), "work goes on after the cut");

        let start = Instant::now();
        assert!(ends_within(tokio::time::sleep(Duration::from_millis(40)), LAMBDA).await);
        assert_eq!(start.elapsed(), Duration::from_millis(40));
    }
}
