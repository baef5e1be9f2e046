//! A request as it came in, within API Gateway's limits.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use platform::clock::Clock;

use super::response::Refusal;

/// A request that has been read whole.
pub(super) struct Request {
    pub(super) id: String,
    pub(super) method: String,
    /// As sent, with a leading slash, without the query.
    pub(super) path: String,
    /// As sent, without the question mark; empty without one.
    pub(super) query: String,
    /// Names in lower case, in the order sent.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
    pub(super) source_ip: IpAddr,
    /// The host asked for, in lower case, without the port.
    pub(super) host: String,
    pub(super) protocol: &'static str,
    pub(super) received: SystemTime,
}

/// "Total combined size of request line and header values | 10240 bytes | No" (Quotas for configuring and running an HTTP API)
const MAX_HEAD: usize = 10_240;
/// Lambda's limit; API Gateway's own ("Payload size | 10 MB | No") lies above it.
pub(super) const MAX_BODY: usize = 6 * 1024 * 1024;
/// How long a client may take over a request's body.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Reads `request`, refusing what is over a limit or cannot be put into an event.
pub(super) async fn read(
    request: http::Request<Incoming>,
    peer: SocketAddr,
    id: &str,
    received: SystemTime,
) -> Result<Request, Refusal> {
    let (head, body) = request.into_parts();
    let target = head.uri.to_string();
    let line = head.method.as_str().len() + target.len() + " HTTP/1.1 ".len();
    if line + head.headers.values().map(http::HeaderValue::len).sum::<usize>() > MAX_HEAD {
        return Err(Refusal::HEADERS_TOO_LARGE);
    }
    let mut headers = Vec::with_capacity(head.headers.len());
    for (name, value) in &head.headers {
        // An event is JSON; what is no text has no place in it. AWS does not say what it does.
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| Refusal::BAD_REQUEST)?;
        headers.push((name.as_str().to_owned(), value.to_owned()));
    }
    // RFC 9112 §3.2: exactly one Host; §3.2.2: an absolute target's host goes before it.
    let hosts: Vec<&str> = headers.iter().filter(|(name, _)| name == "host").map(|(_, value)| value.as_str()).collect();
    let host = match (head.uri.authority(), hosts.as_slice()) {
        (Some(authority), [_]) => authority.as_str(),
        (None, [host]) => host,
        _ => return Err(Refusal::BAD_REQUEST),
    };
    let host = host_name(host).ok_or(Refusal::BAD_REQUEST)?;
    if !head.uri.path().starts_with('/') {
        return Err(Refusal::BAD_REQUEST);
    }
    Ok(Request {
        id: id.to_owned(),
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        host,
        protocol: if head.version == http::Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" },
        body: read_body(body, headers.iter().find(|(name, _)| name == header::CONTENT_LENGTH.as_str())).await?,
        headers,
        source_ip: peer.ip(),
        received,
    })
}

async fn read_body(body: Incoming, length: Option<&(String, String)>) -> Result<Bytes, Refusal> {
    if length.and_then(|(_, value)| value.parse::<usize>().ok()).is_some_and(|length| length > MAX_BODY) {
        return Err(Refusal::BODY_TOO_LARGE);
    }
    match tokio::time::timeout(BODY_TIME, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::BODY_TOO_LARGE),
        Ok(Err(_)) => Err(Refusal::BAD_REQUEST),
        Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "Request Timeout")),
    }
}

/// The host of a `Host` header, in lower case and without the port and an IPv6 address' brackets.
fn host_name(host: &str) -> Option<String> {
    let authority: http::uri::Authority = host.parse().ok()?;
    if authority.as_str().contains('@') {
        return None;
    }
    let name = authority.host();
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    (!name.is_empty()).then(|| name.to_ascii_lowercase())
}

/// Whether `host` addresses a machine, not an API: an IP address or `localhost`.
pub(super) fn is_direct(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok()
}

/// Connection headers end at the gateway (RFC 9110 §7.6.1); the length is told anew.
const HOP_BY_HOP: [&str; 8] =
    ["connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

impl Request {
    /// The headers that a function sees, at `domain`: those sent, without the connection's own, with what AWS' front adds.
    pub(super) fn event_headers(&self, domain: &str) -> Vec<(String, String)> {
        // What the front says itself is never the client's word.
        let replaced = ["host", "x-forwarded-for", "x-forwarded-port", "x-forwarded-proto"];
        let mut headers: Vec<(String, String)> = self
            .headers
            .iter()
            .filter(|(name, _)| !HOP_BY_HOP.contains(&name.as_str()) && !replaced.contains(&name.as_str()))
            .cloned()
            .collect();
        let mut via: Vec<&str> = self
            .headers
            .iter()
            .filter(|(name, _)| name == "x-forwarded-for")
            .map(|(_, value)| value.as_str())
            .collect();
        let source_ip = self.source_ip.to_string();
        via.push(&source_ip);
        let mut add = |name: &str, value: String| headers.push((name.to_owned(), value));
        add("content-length", self.body.len().to_string());
        add("host", domain.to_owned());
        add("x-forwarded-for", via.join(", "));
        // Clients reach AWS by TLS only; this front stands in for that one.
        add("x-forwarded-port", "443".to_owned());
        add("x-forwarded-proto", "https".to_owned());
        headers
    }

    pub(super) fn user_agent(&self) -> &str {
        self.headers.iter().find(|(name, _)| name == "user-agent").map_or("", |(_, value)| value)
    }
}

/// Request ids: unique in this process, and unlikely to meet those of another run.
pub(super) struct Ids {
    start: u128,
    next: AtomicU64,
}

impl Ids {
    pub(super) fn new(clock: &dyn Clock) -> Self {
        Self { start: clock.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis(), next: AtomicU64::new(1) }
    }

    pub(super) fn next(&self) -> String {
        format!("{:x}-{:x}", self.start, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_case_and_port() {
        let cases = [
            ("API.bookinfo.example:8443", Some("api.bookinfo.example")),
            ("127.0.0.1:1", Some("127.0.0.1")),
            ("[::1]:8080", Some("::1")),
            ("a@b", None),
            ("", None),
            ("a b", None),
        ];
        for (host, expected) in cases {
            assert_eq!(host_name(host).as_deref(), expected, "{host}");
        }
        assert!(is_direct("127.0.0.1") && is_direct("::1") && is_direct("localhost"));
        assert!(!is_direct("127.0.0.1.example"));
    }
}
