//! What a client speaks, told from its first bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use crate::keepalive::GRACE;

/// RFC 9113 3.4: "In HTTP/2, each endpoint is required to send a connection preface".
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The longest method that counts as one.
const MAX_METHOD: usize = 32;

/// A TLS record of the kind `handshake` (RFC 8446 5.1), as the first one of a client is.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http1,
    Http2,
    Tls,
    /// None of these.
    Bytes,
    /// Nothing at all for as long as one waits: the server is to begin.
    Silence,
}

/// What the first bytes of a tunnel say; `None` when it takes more of them.
pub(crate) fn of_tunnel(first: &[u8]) -> Option<Spoken> {
    match first {
        [] | [TLS_HANDSHAKE] => return None,
        // The record's version is 3.x in every version of TLS.
        [TLS_HANDSHAKE, 3, ..] => return Some(Spoken::Tls),
        // RFC 9112 2.2: "a server that is expecting to receive and parse a request-line SHOULD ignore at least one empty
        // line (CRLF) received prior to the request-line".
        [b'\r' | b'\n', ..] => return Some(Spoken::Http1),
        _ => {}
    }
    if first.starts_with(PREFACE) {
        return Some(Spoken::Http2);
    }
    if PREFACE.starts_with(first) {
        return None;
    }
    let method = first.iter().take_while(|byte| is_token(**byte)).count();
    match (&first[method..], method) {
        (_, 0) => Some(Spoken::Bytes),
        (_, length) if length > MAX_METHOD => Some(Spoken::Bytes),
        ([] | [b' '], _) => None,
        // origin-form, asterisk-form and absolute-form of RFC 9112 3.2.
        ([b' ', b'/' | b'*' | b'h' | b'H', ..], _) => Some(Spoken::Http1),
        // authority-form: HTTP as well, and refused by name there.
        _ if first.starts_with(b"CONNECT ") => Some(Spoken::Http1),
        _ => Some(Spoken::Bytes),
    }
}

/// The same where nothing but HTTP is spoken.
pub(crate) fn of_http(first: &[u8]) -> Option<Spoken> {
    if first.starts_with(PREFACE) {
        return Some(Spoken::Http2);
    }
    if PREFACE.starts_with(first) { None } else { Some(Spoken::Http1) }
}

/// RFC 9110 5.6.2, `tchar`.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Reads until `judge` knows. The bytes are still to be read by whoever comes next; `None` when the client said too
/// little before its end.
pub(crate) async fn look<T: AsyncRead + Unpin>(
    mut stream: T,
    judge: fn(&[u8]) -> Option<Spoken>,
) -> io::Result<(Option<Spoken>, Rewound<T>)> {
    // A judgement takes the method and two bytes or the preface, whichever is longer.
    let mut first = Vec::with_capacity(MAX_METHOD + 3);
    loop {
        let spoken = judge(&first);
        if spoken.is_some() {
            return Ok((spoken, Rewound { first: first.into(), stream }));
        }
        let room = first.capacity().saturating_sub(first.len()).max(1) as u64;
        if (&mut stream).take(room).read_buf(&mut first).await? == 0 {
            return Ok((None, Rewound { first: first.into(), stream }));
        }
    }
}

/// As [`look`] for a limited time. Whoever has said nothing by then is silent; `None` for somebody who has begun.
pub(crate) async fn look_for<T: AsyncRead + Unpin>(
    stream: T,
    judge: fn(&[u8]) -> Option<Spoken>,
    limit: Duration,
) -> io::Result<(Option<Spoken>, Rewound<T>)> {
    let mut stream = Rewound { first: Bytes::new(), stream };
    let mut first = [0];
    // No byte is lost: a read that is given up has read nothing.
    let mut read = timeout(limit, stream.read(&mut first)).await;
    if read.is_err() {
        // After a freeze the timer is over at once, and the bytes are just behind it.
        read = timeout(GRACE, stream.read(&mut first)).await;
    }
    match read {
        Err(_) => return Ok((Some(Spoken::Silence), stream)),
        Ok(Err(error)) => return Err(error),
        Ok(Ok(0)) => return Ok((None, stream)),
        Ok(Ok(_)) => stream.first = Bytes::copy_from_slice(&first),
    }
    match timeout(limit, look(stream, judge)).await {
        Ok(looked) => looked.map(|(spoken, outer)| (spoken, outer.flat())),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// A stream whose first bytes have been read, and are read again.
#[derive(Debug)]
pub(crate) struct Rewound<T> {
    first: Bytes,
    stream: T,
}

impl<T> Rewound<Rewound<T>> {
    /// One instead of two.
    fn flat(self) -> Rewound<T> {
        let Rewound { first: inner, stream } = self.stream;
        let first = if inner.is_empty() { self.first } else { [self.first, inner].concat().into() };
        Rewound { first, stream }
    }
}

impl<T> Rewound<T> {
    /// The stream behind the bytes.
    pub(crate) fn get_mut(&mut self) -> &mut T {
        &mut self.stream
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Rewound<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let length = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first[..length]);
        self.first.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Rewound<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    #[test]
    fn the_first_bytes_of_a_tunnel_say_what_it_is() {
        for (first, expected) in [
            (&b""[..], None),
            (b"G", None),
            (b"GET", None),
            (b"GET ", None),
            (b"GET /x HTTP/1.1\r\n", Some(Spoken::Http1)),
            (b"M-SEARCH * HTTP/1.1\r\n", Some(Spoken::Http1)),
            (b"GET http://a/", Some(Spoken::Http1)),
            (b"CONNECT a:443 HTTP/1.1", Some(Spoken::Http1)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", None),
            (PREFACE, Some(Spoken::Http2)),
            (b"PRI * HTTP/1", Some(Spoken::Http1)),
            (b"\x16", None),
            (b"\x16\x03", Some(Spoken::Tls)),
            (b"\x16\x02", Some(Spoken::Bytes)),
            (b"PING\r\n", Some(Spoken::Bytes)),
            (b"GET key\r\n", Some(Spoken::Bytes)),
            (b"*1\r\n$4\r\nPING\r\n", Some(Spoken::Bytes)),
            (b"\x00\x00\x00\x08", Some(Spoken::Bytes)),
            (b"\r\nGET / HTTP/1.1", Some(Spoken::Http1)),
            (b"\n", Some(Spoken::Http1)),
            (&[b'A'; MAX_METHOD], None),
            (&[b'A'; MAX_METHOD + 1], Some(Spoken::Bytes)),
        ] {
            assert_eq!(of_tunnel(first), expected, "{}", first.escape_ascii());
        }
        assert_eq!(of_http(b"\x16\x03"), Some(Spoken::Http1));
        assert_eq!((of_http(b"PRI"), of_http(PREFACE)), (None, Some(Spoken::Http2)));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_says_nothing_is_silent_and_whoever_stops_is_not_waited_for() {
        let limit = Duration::from_secs(10);
        let (mut client, ours) = duplex(64);
        let (spoken, mut rewound) = look_for(ours, of_tunnel, limit).await.unwrap();
        assert_eq!(spoken, Some(Spoken::Silence));
        client.write_all(b"late").await.unwrap();
        drop(client);
        let mut read = String::new();
        rewound.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "late");

        let (mut client, ours) = duplex(64);
        client.write_all(b"GET").await.unwrap();
        let stopped = look_for(ours, of_tunnel, limit).await;
        assert_eq!(stopped.err().map(|error| error.kind()), Some(io::ErrorKind::TimedOut));

        let (client, ours) = duplex(64);
        drop(client);
        assert_eq!(look_for(ours, of_tunnel, limit).await.unwrap().0, None);

        let (mut client, ours) = duplex(64);
        client.write_all(b"\x00\x01rest").await.unwrap();
        drop(client);
        let (spoken, mut rewound) = look_for(ours, of_tunnel, limit).await.unwrap();
        let mut read = Vec::new();
        rewound.read_to_end(&mut read).await.unwrap();
        assert_eq!((spoken, read.as_slice()), (Some(Spoken::Bytes), &b"\x00\x01rest"[..]));
    }

    #[tokio::test]
    async fn what_was_looked_at_is_read_again() {
        for text in ["GET /a HTTP/1.1\r\n\r\nrest", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nframes", "PR"] {
            let (mut client, ours) = duplex(256);
            // One byte at a time, as a network may.
            let writing = tokio::spawn(async move {
                for byte in text.bytes() {
                    client.write_all(&[byte]).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
            let (_, mut rewound) = look(ours, of_tunnel).await.unwrap();
            let mut read = String::new();
            rewound.read_to_string(&mut read).await.unwrap();
            assert_eq!(read, text);
            writing.await.unwrap();
        }
    }
}
