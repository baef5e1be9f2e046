//! A timer for what is set often and comes to its end hardly ever.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep};

/// A timer that is kept from one use to the next. The runtime's own is moved only where it would be late, and where it
/// was early: to move it costs more than to look at it.
pub(crate) struct Timer {
    until: Instant,
    /// Made when it is first waited for; wakes at `until` or before.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Default for Timer {
    fn default() -> Timer {
        Timer { until: Instant::now(), sleep: None }
    }
}

impl Timer {
    /// One that ends at `until`.
    pub(crate) fn at(until: Instant) -> Timer {
        Timer { until, sleep: None }
    }

    /// It ends at `until` now.
    pub(crate) fn set(&mut self, until: Instant) {
        self.until = until;
        if let Some(sleep) = &mut self.sleep
            && sleep.deadline() > until
        {
            sleep.as_mut().reset(until);
        }
    }

    /// Ready when it is over.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = self.until;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= until {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(until);
        }
    }

    /// Returns when it is over.
    pub(crate) async fn over(&mut self) {
        std::future::poll_fn(|cx| self.poll_over(cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_it_was_last_told_to() {
        let start = Instant::now();
        let mut timer = Timer::at(start + SECOND);
        assert!(tokio::time::timeout(SECOND / 2, timer.over()).await.is_err());
        // Later than what the runtime was told, then earlier, then long after both.
        for until in [start + SECOND * 3, start + SECOND * 4, start + SECOND * 20] {
            timer.set(until);
            timer.over().await;
            assert_eq!(Instant::now(), until);
        }
        timer.set(start + SECOND * 40);
        assert!(tokio::time::timeout(SECOND, timer.over()).await.is_err());
        timer.set(start + SECOND * 30);
        timer.over().await;
        assert_eq!(start.elapsed(), SECOND * 30);
    }
}
