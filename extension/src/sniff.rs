//! What a client speaks, told from its first bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

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
}

/// What the first bytes of a tunnel say; `None` when it takes more of them.
pub(crate) fn of_tunnel(first: &[u8]) -> Option<Spoken> {
    match first {
        [] | [TLS_HANDSHAKE] => return None,
        // The record's version is 3.x in every version of TLS.
        [TLS_HANDSHAKE, 3, ..] => return Some(Spoken::Tls),
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

/// A stream whose first bytes have been read, and are read again.
#[derive(Debug)]
pub(crate) struct Rewound<T> {
    first: Bytes,
    stream: T,
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
            (b"\r\nGET / HTTP/1.1", Some(Spoken::Bytes)),
            (&[b'A'; MAX_METHOD], None),
            (&[b'A'; MAX_METHOD + 1], Some(Spoken::Bytes)),
        ] {
            assert_eq!(of_tunnel(first), expected, "{}", first.escape_ascii());
        }
        assert_eq!(of_http(b"\x16\x03"), Some(Spoken::Http1));
        assert_eq!((of_http(b"PRI"), of_http(PREFACE)), (None, Some(Spoken::Http2)));
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
