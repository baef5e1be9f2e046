//! A connection as bytes: plain or TLS, counted, and with a way to look at it from outside.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll};

use rustls::AlertDescription;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::limits::Open;

/// What is known of a connection by those who do not hold it.
#[derive(Debug, Default)]
pub(super) struct Stats {
    received: AtomicU64,
    ended: AtomicBool,
    alert: OnceLock<AlertDescription>,
}

impl Stats {
    /// Bytes of content that the service has sent so far, so that "no byte of an answer" is a fact and not a guess.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    /// Whether the service has ended it, or it has broken. (Not when we have.)
    pub(super) fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The TLS alert that ended it.
    pub(super) fn alert(&self) -> Option<AlertDescription> {
        self.alert.get().copied()
    }

    fn note(&self, error: &io::Error) {
        self.ended.store(true, Ordering::Release);
        if let Some(rustls::Error::AlertReceived(alert)) = error.get_ref().and_then(|e| e.downcast_ref()) {
            let _ = self.alert.set(*alert);
        }
    }
}

/// A TCP connection that its user and the pool can look at. The lock is held for the time of one call.
pub(super) struct Socket(Arc<Mutex<TcpStream>>);

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Socket {
        Socket(Arc::new(Mutex::new(stream)))
    }

    pub(super) fn probe(&self) -> Probe {
        Probe(Arc::downgrade(&self.0))
    }
}

fn lock(stream: &Mutex<TcpStream>) -> MutexGuard<'_, TcpStream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks whether a connection is alive, whoever holds it.
#[derive(Clone, Debug)]
pub(super) struct Probe(Weak<Mutex<TcpStream>>);

impl Probe {
    /// Asks the operating system, which after a freeze knows more than the runtime: its answer to us is older.
    pub(super) fn look(&self) -> Sight {
        let Some(stream) = self.0.upgrade() else { return Sight::Dead };
        let stream = lock(&stream);
        match SockRef::from(&*stream).peek(&mut [MaybeUninit::uninit()]) {
            Ok(0) => Sight::Dead,
            Ok(_) => Sight::Bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sight::Quiet,
            Err(_) => Sight::Dead,
        }
    }
}

/// What a [`Probe`] sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// Alive, as far as can be known, and nothing has come.
    Quiet,
    /// Something has come that nobody has read.
    Bytes,
    /// Closed or reset.
    Dead,
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.0)).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *lock(&self.0)).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.0)).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.0)).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *lock(&self.0)).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// A connection, as HTTP or a tunnel uses it. As long as it lives it counts as one of its cluster's.
pub(super) struct Transport {
    link: Link,
    stats: Arc<Stats>,
    _open: Open,
}

/// How it is protected.
pub(super) enum Link {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

impl Transport {
    pub(super) fn new(link: Link, open: Open) -> Transport {
        Transport { link, stats: Arc::default(), _open: open }
    }

    pub(super) fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    /// Notes why an operation failed.
    fn noted<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &polled {
            self.stats.note(error);
        }
        polled
    }
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = match &mut self.link {
            Link::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Link::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        };
        let read = buf.filled().len() - before;
        if read > 0 {
            self.stats.received.fetch_add(read as u64, Ordering::Release);
        } else if matches!(polled, Poll::Ready(Ok(()))) && buf.remaining() > 0 {
            self.stats.ended.store(true, Ordering::Release);
        }
        self.noted(polled)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = match &mut self.link {
            Link::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Link::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        };
        self.noted(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = match &mut self.link {
            Link::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Link::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        };
        self.noted(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.link {
            Link::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Link::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = match &mut self.link {
            Link::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Link::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, parts),
        };
        self.noted(polled)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.link {
            Link::Plain(stream) => stream.is_write_vectored(),
            Link::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
