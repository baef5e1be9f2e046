//! HTTP/1.1 to a service: one request at a time on a connection.

use std::time::{Duration, SystemTime};

use http::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri, Version};
use http_body::Body as _;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use traffic::table::Pool;

use super::dial::{Dialed, Known};
use super::explain::explain;
use super::wire::Sight;
use super::{Hop, LOOK_AFTER, Why};
use crate::body::Upload;
use crate::timer::Timer;

/// The most header fields of an answer, as in Envoy. It is the library's own limit: told to it, it would take memory for
/// as many with each answer.
#[cfg(test)]
pub(super) const MAX_ANSWER_HEADERS: usize = 100;

/// The longest head of an answer, in bytes; Envoy's limit is 60 KiB.
pub(super) const MAX_ANSWER_HEAD_BYTES: usize = 64 * 1_024;

/// A connection and the right to send on it.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Upload>,
    pub(super) known: Known,
    /// Requests that have been sent on it.
    pub(super) used: u32,
    /// Of one request after the other.
    pub(super) timer: Option<Timer>,
}

impl Connection {
    /// Whether it can take a request at `now`, having been idle since `since`.
    pub(super) fn is_usable(&self, now: SystemTime, since: SystemTime, max_idle: Duration, pool: &Pool) -> bool {
        // A clock that was set back says nothing about the age: not usable.
        let Ok(idle) = now.duration_since(since) else { return false };
        let young = idle <= max_idle && self.known.is_young(now, pool);
        // Bytes that nobody has asked for belong to no answer.
        young && self.sender.is_ready() && (idle < LOOK_AFTER || self.known.probe.look() == Sight::Quiet)
    }
}

/// Makes a connection speak.
pub(super) async fn open(hop: &Hop, dialed: Dialed) -> Result<Connection, Why> {
    let Dialed { transport, known } = dialed;
    let opened = builder().handshake(TokioIo::new(transport)).await;
    let (sender, driver) = opened.map_err(|error| explain(hop, &error, &known.stats))?;
    // Its end is seen through the sender; the error belongs to the request that it failed.
    tokio::spawn(async move {
        let _ = driver.await;
    });
    Ok(Connection { sender, known, used: 0, timer: None })
}

/// The same for one request that asks for another protocol.
pub(super) async fn open_to_upgrade(hop: &Hop, dialed: Dialed) -> Result<Connection, Why> {
    let Dialed { transport, known } = dialed;
    let opened = builder().handshake(TokioIo::new(transport)).await;
    let (sender, driver) = opened.map_err(|error| explain(hop, &error, &known.stats))?;
    tokio::spawn(async move {
        let _ = driver.with_upgrades().await;
    });
    Ok(Connection { sender, known, used: 0, timer: None })
}

fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_header_size(MAX_ANSWER_HEAD_BYTES);
    builder
}

/// Brings a request into the form of this protocol: origin-form (RFC 9112 3.2.1), the host in its header field, and a
/// body of unknown length in chunks.
pub(super) fn prepare(request: &mut Request<Upload>) {
    *request.version_mut() = Version::HTTP_11;
    if let Some(authority) = request.uri().authority() {
        let host = HeaderValue::from_str(authority.as_str()).ok();
        let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        if request.method() != Method::CONNECT {
            *request.uri_mut() = Uri::from(path);
        }
        if let (Some(host), false) = (host, request.headers().contains_key(HOST)) {
            request.headers_mut().insert(HOST, host);
        }
    }
    let length_unknown = !request.body().is_end_stream() && request.body().size_hint().exact().is_none();
    if length_unknown && !request.headers().contains_key(CONTENT_LENGTH) {
        // Said outright: the HTTP library takes a GET without it for one that has no body, and drops the body.
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_moves_from_the_address_to_its_field() {
        let request = Request::get("http://a.example:80/x?y").version(Version::HTTP_2);
        let mut request = request.body(Upload::Empty).unwrap();
        prepare(&mut request);
        assert_eq!((request.uri().to_string().as_str(), request.version()), ("/x?y", Version::HTTP_11));
        assert_eq!(request.headers()[HOST], "a.example:80");
        assert!(!request.headers().contains_key(TRANSFER_ENCODING));

        let mut request = Request::get("http://a.example").header(HOST, "b").body(Upload::Empty).unwrap();
        prepare(&mut request);
        assert_eq!((request.uri().path(), request.headers()[HOST].to_str().unwrap()), ("/", "b"));
    }
}
