//! The application's body on its way out: watched for its end, and given to one try after another.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::body::{Replay, Upload};

/// Whether all of a body has come. Timeouts count from there, as Envoy's do.
#[derive(Debug, Default)]
pub(crate) struct End {
    /// When all of it had come.
    came: OnceLock<Instant>,
    /// It came, or it never will.
    settled: AtomicBool,
    /// The application's side broke off.
    broken: AtomicBool,
    notify: Notify,
}

impl End {
    fn settle(&self, came: bool) {
        if came {
            let _ = self.came.set(Instant::now());
        }
        self.settled.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }

    /// Whether the application's side broke off.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Returns when no more will come; true if all of it has.
    pub(crate) async fn settled(&self) -> bool {
        let settled = self.notify.notified();
        tokio::pin!(settled);
        // Before the look, so that no end is missed between the two.
        settled.as_mut().enable();
        if !self.settled.load(Ordering::Acquire) {
            settled.await;
        }
        self.came.get().is_some()
    }

    /// Returns `limit` after now or, if that is later, after all of it has come; never when it never comes.
    pub(crate) async fn and_then(self: Arc<Self>, limit: Duration) {
        if !self.settled().await {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(limit).await;
    }

    /// Returns `limit` after all of it came; never when it never comes.
    pub(crate) async fn since(self: Arc<Self>, limit: Duration) {
        self.settled().await;
        match self.came.get() {
            Some(came) => tokio::time::sleep_until(*came + limit).await,
            None => std::future::pending().await,
        }
    }
}

/// A body that is watched.
struct Watched<B> {
    body: B,
    received: Arc<AtomicU64>,
    end: Arc<End>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Watched<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                this.received.fetch_add(length as u64, Ordering::Relaxed);
                if frame.is_trailers() || this.body.is_end_stream() {
                    this.end.settle(true);
                }
            }
            Poll::Ready(Some(Err(_))) => {
                this.end.broken.store(true, Ordering::Release);
                this.end.settle(false);
            }
            Poll::Ready(None) => this.end.settle(true),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Watched<B> {
    fn drop(&mut self) {
        self.end.settle(false);
    }
}

/// A body for one try after another.
pub(crate) struct Outgoing {
    first: Option<Upload>,
    is_empty: bool,
    replay: Option<Arc<Replay>>,
    end: Arc<End>,
}

impl Outgoing {
    /// No body.
    pub(crate) fn empty() -> Outgoing {
        let end = End::default();
        end.settle(true);
        Outgoing { first: Some(Upload::Empty), is_empty: true, replay: None, end: Arc::new(end) }
    }

    /// A body that goes out once.
    pub(crate) fn once(body: Upload) -> Outgoing {
        Outgoing { is_empty: matches!(body, Upload::Empty), first: Some(body), ..Outgoing::empty() }
    }

    /// What the application sends; its bytes are counted in `received`.
    pub(crate) fn of<B>(body: B, received: &Arc<AtomicU64>) -> Outgoing
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<crate::body::BoxError>,
    {
        let end = Arc::new(End::default());
        let watched = Watched { body, received: Arc::clone(received), end: Arc::clone(&end) };
        let (first, replay) = Upload::replayable(watched);
        Outgoing { first: Some(first), is_empty: false, replay: Some(Arc::new(replay)), end }
    }

    /// The body for the next try; whoever still reads it for the try before gets an error. `None` when too much of it
    /// has gone.
    pub(crate) fn next(&mut self) -> Option<Upload> {
        match (self.first.take(), &self.replay) {
            (Some(first), _) => Some(first),
            (None, None) => self.is_empty.then_some(Upload::Empty),
            (None, Some(replay)) => replay.again(),
        }
    }

    /// Its end.
    pub(crate) fn end(&self) -> &Arc<End> {
        &self.end
    }

    /// What a copy of the request needs.
    pub(crate) fn copy(&self) -> BodyCopy {
        BodyCopy { replay: self.replay.clone(), end: Arc::clone(&self.end) }
    }
}

/// A body for somebody else, once all of it has come.
pub(crate) struct BodyCopy {
    replay: Option<Arc<Replay>>,
    end: Arc<End>,
}

impl BodyCopy {
    /// Waits for the end; `None` when the body was too long to keep, or broke off.
    pub(crate) async fn whole(self) -> Option<Upload> {
        let Some(replay) = self.replay else { return Some(Upload::Empty) };
        if !self.end.settled().await {
            return None;
        }
        replay.whole()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_route_counts_from_the_end_of_the_request() {
        let outgoing = &mut Outgoing::of(Full::new(Bytes::from_static(b"hello")), &Arc::default());
        let limit = Duration::from_secs(1);
        let over = tokio::time::timeout(limit * 10, Arc::clone(outgoing.end()).since(limit)).await;
        assert!(over.is_err(), "nothing has come yet");

        let begun = Instant::now();
        outgoing.next().unwrap().collect().await.unwrap();
        tokio::time::sleep(limit / 4).await;
        Arc::clone(outgoing.end()).since(limit).await;
        assert_eq!(begun.elapsed(), limit);
        // The time of a try counts from the try.
        Arc::clone(outgoing.end()).and_then(limit).await;
        assert_eq!(begun.elapsed(), limit * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_given_up_never_ends() {
        let outgoing = Outgoing::of(Full::new(Bytes::from_static(b"hello")), &Arc::default());
        let (end, copy) = (Arc::clone(outgoing.end()), outgoing.copy());
        let limit = Duration::from_secs(1);
        drop(outgoing);
        assert!(tokio::time::timeout(limit * 10, end.and_then(limit)).await.is_err());
        assert!(tokio::time::timeout(limit, copy.whole()).await.is_err(), "it may still come, for all we know");
    }

    #[tokio::test]
    async fn a_copy_has_all_of_it() {
        let received: Arc<AtomicU64> = Arc::default();
        let mut outgoing = Outgoing::of(Full::new(Bytes::from_static(b"hello")), &received);
        let copy = outgoing.copy();
        outgoing.next().unwrap().collect().await.unwrap();
        assert_eq!(copy.whole().await.unwrap().collect().await.unwrap().to_bytes(), "hello");
        assert_eq!(outgoing.next().unwrap().collect().await.unwrap().to_bytes(), "hello");
        assert_eq!(received.load(Ordering::Relaxed), 5);
        let mut empty = Outgoing::empty();
        assert!(empty.next().is_some() && empty.next().is_some());
        let mut once = Outgoing::once(outgoing.next().unwrap());
        assert!(once.next().is_some() && once.next().is_none());
    }
}
