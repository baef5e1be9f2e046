//! Panics that cost one request, and tell nobody a credential.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use serde_json::json;

use crate::log::Log;

/// A computation has panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked;

/// Runs `future`, and tells a panic in it from its value.
///
/// # Errors
/// [`Panicked`]. What the future was working on is gone with it; nothing that is shared may be left half changed, which
/// holds for what a [`Front`](crate::front::Front) shares: it is read only, or changed under a lock in one step.
pub async fn unpanicked<T>(future: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut future = pin!(future);
    std::future::poll_fn(move |context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(_) => Poll::Ready(Err(Panicked)),
    })
    .await
}

/// Makes panics of this process say where they are and nothing else. Rust's own message quotes values ("byte index 5 is
/// not a char boundary; it is inside …"), and here values are credentials.
pub fn quiet_panics(log: &Log) {
    let log = log.clone();
    std::panic::set_hook(Box::new(move |info| {
        let at = info.location().map(|at| format!("{}:{}", at.file(), at.line()));
        log.write(&json!({"event": "panic", "at": at}));
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_value() {
        assert_eq!(unpanicked(async { 1 }).await, Ok(1));
        let late = async {
            tokio::task::yield_now().await;
            panic!("a bug");
        };
        assert_eq!(unpanicked(late).await, Err::<(), _>(Panicked));
    }
}
