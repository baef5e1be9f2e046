//! Time limits of the application's connections that survive a freeze.
//!
//! An HTTP server closes a connection that has been idle too long. In Lambda the time of a freeze counts as idle, so
//! right after the thaw the server closes just the connection that the application is about to use, and the
//! application sees a reset. Here an idle connection gets a grace period, in running time, after its limit: what
//! arrives then is served.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::timer::Timer;

/// How long a connection may wait for the next request.
pub(crate) const IDLE: Duration = Duration::from_secs(60);

/// How long after [`IDLE`] a request is still taken.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// How long the head of a request may take from its first byte.
pub(crate) const HEAD: Duration = Duration::from_secs(10);

/// Says whether a connection has a request in hand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Busy(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Requests in hand: in HTTP/2 there may be several.
    busy: AtomicUsize,
    /// How many requests there have been: one may come and go between two reads.
    begun: AtomicU64,
    /// Who reads from the connection: without a nudge it would not look at the time before the next byte.
    reader: Mutex<Option<Waker>>,
}

impl Busy {
    /// Marks the connection as busy until the guard is dropped.
    pub(crate) fn begin(&self) -> BusyGuard {
        self.0.busy.fetch_add(1, Ordering::AcqRel);
        self.0.begun.fetch_add(1, Ordering::Release);
        BusyGuard(self.clone())
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.0.busy.load(Ordering::Acquire) > 0
    }

    /// How many requests there have been.
    pub(crate) fn begun(&self) -> u64 {
        self.0.begun.load(Ordering::Acquire)
    }

    fn remember(&self, reader: &Waker) {
        let mut held = self.0.reader.lock().unwrap_or_else(PoisonError::into_inner);
        match held.as_mut() {
            Some(held) => held.clone_from(reader),
            None => *held = Some(reader.clone()),
        }
    }
}

/// Ends the busy time when it is dropped.
#[derive(Debug)]
pub(crate) struct BusyGuard(Busy);

impl Drop for BusyGuard {
    fn drop(&mut self) {
        let state = &self.0.0;
        if state.busy.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let reader = state.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// A connection with time limits on its reading side while no request is in hand.
pub(crate) struct Timed<T> {
    inner: T,
    busy: Busy,
    /// The requests of `busy` that this side knows of.
    begun: u64,
    phase: Phase,
    /// Bytes are not the begin of a request: in HTTP/2 most of them are of the connection itself.
    shared: bool,
    /// How long it may wait for the next request.
    idle: Duration,
    /// Of the phase: each request moves its end twice, and hardly any phase comes to it.
    timer: Timer,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Grace,
    Head,
}

impl<T> Timed<T> {
    /// Watches `inner`, whose requests hold a guard of `busy`.
    pub(crate) fn new(inner: T, busy: Busy) -> Timed<T> {
        Timed::idle_for(inner, busy, IDLE)
    }

    /// The same with another limit than [`IDLE`].
    pub(crate) fn idle_for(inner: T, busy: Busy, idle: Duration) -> Timed<T> {
        let timer = Timer::at(Instant::now() + idle);
        Timed { inner, busy, begun: 0, phase: Phase::Idle, shared: false, idle, timer }
    }

    /// From here on requests share the connection (HTTP/2): what comes between them counts as life, and not as the head
    /// of a request.
    pub(crate) fn share(&mut self) {
        self.shared = true;
        self.enter(Phase::Idle, self.idle);
    }

    fn enter(&mut self, phase: Phase, limit: Duration) {
        self.phase = phase;
        self.timer.set(Instant::now() + limit);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Timed<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.busy.remember(cx.waker());
        if this.busy.is_busy() {
            return Pin::new(&mut this.inner).poll_read(cx, buf);
        }
        if this.begun != this.busy.begun() {
            this.begun = this.busy.begun();
            this.enter(Phase::Idle, this.idle);
        }
        let before = buf.filled().len();
        // Bytes first: what has arrived is served, however late it is.
        if let Poll::Ready(read) = Pin::new(&mut this.inner).poll_read(cx, buf) {
            if buf.filled().len() > before {
                match this.phase {
                    _ if this.shared => this.enter(Phase::Idle, this.idle),
                    Phase::Head => {}
                    Phase::Idle | Phase::Grace => this.enter(Phase::Head, HEAD),
                }
            }
            return Poll::Ready(read);
        }
        loop {
            ready!(this.timer.poll_over(cx));
            match this.phase {
                Phase::Idle => this.enter(Phase::Grace, GRACE),
                Phase::Head => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                // As if the application had closed it: nothing is lost.
                Phase::Grace => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Timed<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn pair() -> (DuplexStream, Timed<DuplexStream>, Busy) {
        let (application, ours) = duplex(64);
        let busy = Busy::default();
        (application, Timed::new(ours, busy.clone()), busy)
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_ends_after_limit_and_grace() {
        let (_application, mut timed, _) = pair();
        let start = Instant::now();
        assert_eq!(timed.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(start.elapsed().as_secs(), (IDLE + GRACE).as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn what_arrives_right_after_a_thaw_is_served() {
        let (mut application, mut timed, _) = pair();
        // A freeze of ten minutes, seen by the timer at once, and the application's bytes just behind it.
        tokio::time::advance(Duration::from_secs(600)).await;
        let mut bytes = [0; 8];
        let read = timed.read(&mut bytes);
        tokio::pin!(read);
        tokio::select! {
            biased;
            early = &mut read => panic!("closed at the thaw: {early:?}"),
            () = tokio::task::yield_now() => {}
        }
        application.write_all(b"GET").await.unwrap();
        assert_eq!(read.await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_head_ends_the_connection() {
        let (mut application, mut timed, _) = pair();
        application.write_all(b"GET").await.unwrap();
        assert_eq!(timed.read(&mut [0; 8]).await.unwrap(), 3);
        let start = Instant::now();
        let error = timed.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), HEAD.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_head_ends_the_connection_also_after_a_request() {
        let (mut application, mut timed, busy) = pair();
        application.write_all(b"GET").await.unwrap();
        assert_eq!(timed.read(&mut [0; 8]).await.unwrap(), 3);
        drop(busy.begin());
        // The timer is that of the idle connection by now.
        let waited = tokio::time::timeout(IDLE / 2, timed.read(&mut [0; 8])).await;
        assert!(waited.is_err(), "{waited:?}");
        application.write_all(b"GET").await.unwrap();
        assert_eq!(timed.read(&mut [0; 8]).await.unwrap(), 3);
        let start = Instant::now();
        assert_eq!(timed.read(&mut [0; 8]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), HEAD);
    }

    #[tokio::test(start_paused = true)]
    async fn in_http2_bytes_between_requests_are_no_head() {
        let (mut application, mut timed, busy) = pair();
        timed.share();
        let (first, second) = (busy.begin(), busy.begin());
        drop(first);
        let waited = tokio::time::timeout(IDLE * 10, timed.read(&mut [0; 8])).await;
        assert!(waited.is_err(), "one request is still in hand: {waited:?}");
        drop(second);
        application.write_all(b"ping").await.unwrap();
        assert_eq!(timed.read(&mut [0; 8]).await.unwrap(), 4);
        let start = Instant::now();
        assert_eq!(timed.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(start.elapsed(), IDLE + GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_a_request_in_hand_has_no_limit() {
        let (_application, mut timed, busy) = pair();
        let guard = busy.begin();
        let waited = tokio::time::timeout(IDLE * 10, timed.read(&mut [0; 8])).await;
        assert!(waited.is_err(), "{waited:?}");
        drop(guard);
        assert_eq!(timed.read(&mut [0; 8]).await.unwrap(), 0);
    }
}
