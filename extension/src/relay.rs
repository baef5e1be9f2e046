//! Bytes both ways, until both sides have ended or nothing comes any more.

use std::io;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::Instant;

use crate::keepalive::GRACE;

/// What is read at a time.
const CHUNK: usize = 16 * 1_024;

/// The bytes that have gone through.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// From the application.
    pub(crate) sent: AtomicU64,
    /// To the application.
    pub(crate) received: AtomicU64,
}

/// Passes bytes on until both sides have ended, one fails, or none has come for `idle`. The end of one side is passed
/// on alone: the other may go on (a half-closed connection).
///
/// # Errors
/// When a side fails, or with [`io::ErrorKind::TimedOut`].
pub(crate) async fn relay<A, B>(application: A, service: B, idle: Duration, counts: &Counts) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (from_application, to_application) = split(application);
    let (from_service, to_service) = split(service);
    let last = Last(Mutex::new(Instant::now()));
    let out = pump(from_application, to_service, &counts.sent, &last);
    let back = pump(from_service, to_application, &counts.received, &last);
    let both = async { tokio::try_join!(out, back).map(|_| ()) };
    tokio::select! {
        ended = both => ended,
        () = last.silence(idle) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn pump<R, W>(mut from: R, mut to: W, count: &AtomicU64, last: &Last) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = from.read(&mut chunk).await?;
        last.now();
        if read == 0 {
            // Whoever is gone already needs no end.
            let _ = to.shutdown().await;
            return Ok(());
        }
        to.write_all(&chunk[..read]).await?;
        to.flush().await?;
        last.now();
        count.fetch_add(read as u64, Ordering::Relaxed);
    }
}

/// When the last bytes went through.
struct Last(Mutex<Instant>);

impl Last {
    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn get(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when nothing has gone through for `idle`. A freeze may be most of it, so what arrives within a short
    /// time after that still counts.
    async fn silence(&self, idle: Duration) {
        loop {
            let seen = self.get();
            tokio::time::sleep_until(seen + idle).await;
            if self.get() != seen {
                continue;
            }
            tokio::time::sleep(GRACE).await;
            if self.get() == seen {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    type Relayed = tokio::task::JoinHandle<(io::Result<()>, u64, u64)>;

    fn start() -> (DuplexStream, DuplexStream, Relayed) {
        let (application, ours) = duplex(64);
        let (theirs, service) = duplex(64);
        let relaying = tokio::spawn(async move {
            let counts = Counts::default();
            let ended = relay(ours, theirs, IDLE, &counts).await;
            (ended, counts.sent.into_inner(), counts.received.into_inner())
        });
        (application, service, relaying)
    }

    #[tokio::test]
    async fn the_end_of_one_side_leaves_the_other_open() {
        let (mut application, mut service, relaying) = start();
        application.write_all(b"question").await.unwrap();
        application.shutdown().await.unwrap();
        let mut read = String::new();
        service.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "question");
        service.write_all(b"a long answer").await.unwrap();
        service.shutdown().await.unwrap();
        let mut read = String::new();
        application.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "a long answer");
        let (ended, sent, received) = relaying.await.unwrap();
        assert!(ended.is_ok());
        assert_eq!((sent, received), (8, 13));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it_and_a_byte_begins_the_time_anew() {
        let (mut application, mut service, relaying) = start();
        let begun = Instant::now();
        tokio::time::sleep(IDLE / 2).await;
        service.write_all(b"x").await.unwrap();
        application.read_exact(&mut [0]).await.unwrap();
        let (ended, ..) = relaying.await.unwrap();
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), IDLE / 2 + IDLE + GRACE);
        assert_eq!(application.read(&mut [0]).await.unwrap(), 0);
    }
}
