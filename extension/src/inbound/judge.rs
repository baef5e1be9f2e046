//! A call, turned into the request that the policies judge, which is the one that the application will see.

use authz::{Allow, Decision, Deny, Hop, PathHandling, Peer, Policies, Reason, Request};
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{StatusCode, Version, request};

use super::connection::Caller;
use super::proof::{CLIENT_ID, IDENTITY_PREFIX, PRINCIPAL, plain};
use crate::headers::has_unknown_coding;
use crate::listener::MAX_HEADERS;

/// What is judged and, if it is allowed, forwarded.
pub(crate) struct Asked {
    pub(crate) request: Request,
    pub(crate) authority: Authority,
    pub(crate) path: PathAndQuery,
}

/// What is said about the connection, and must not leave two readers room for two opinions.
///
/// # Errors
/// As [`read`].
pub(crate) fn framing(head: &request::Parts) -> Result<(), Deny> {
    let headers = &head.headers;
    if headers.len() > MAX_HEADERS {
        return Err(Deny::new(Reason::RequestTooLarge, Hop::Request, format!("more than {MAX_HEADERS} headers")));
    }
    if head.method == http::Method::CONNECT {
        return Err(invalid("CONNECT is not answered here"));
    }
    // A Content-Length beside a Transfer-Encoding is gone already: the library takes the chunks alone, and closes the
    // connection after the answer (RFC 9112 6.3).
    if has_unknown_coding(headers) {
        return Err(invalid("the transfer coding is not chunked"));
    }
    Ok(())
}

/// Reads a call, without the fields of its connection and without the caller's own claims about who it is.
///
/// # Errors
/// What two readers could read differently, or no policy can be about, is denied as a whole.
pub(crate) fn read(head: &request::Parts, caller: &Caller, policies: &Policies) -> Result<Asked, Deny> {
    let headers = &head.headers;
    let authority = authority(head)?;
    let path = path(head, policies)?;
    let mut lines = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| invalid("a header value is not UTF-8"))?;
        lines.push((name.as_str().to_owned(), value.to_owned()));
    }
    let proven = caller.proven.as_deref();
    let request = Request {
        method: head.method.as_str().to_owned(),
        scheme: if proven.is_some() { "https" } else { "http" }.to_owned(),
        host: authority.as_str().to_owned(),
        path: path.as_str().to_owned(),
        // It is in the normal form already. Where a second pass would change it again, it is denied.
        path_handling: PathHandling::AsSent,
        headers: lines,
        headers_joined: false,
        source: Peer {
            ip: Some(caller.address.ip()),
            // Who is in front of the peer is the peer's word.
            remote_ip: None,
            principal: proven.map(|proven| proven.id.principal().to_owned()),
        },
        destination_ip: caller.local.map(|local| local.ip()),
        destination_port: Some(caller.port),
        sni: Some(proven.map(|proven| proven.sni.clone()).unwrap_or_default()),
        client_certificate: proven.map(|proven| proven.hash),
        dynamic_metadata: None,
        unknown: authz::Unknown::default(),
    };
    Ok(Asked { request, authority, path })
}

/// The host that is meant. RFC 9112 3.2: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1
/// request message that lacks a Host header field and to any request message that contains more than one".
fn authority(head: &request::Parts) -> Result<Authority, Deny> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(invalid("there is more than one Host"));
    }
    let named = match (head.uri.authority(), host) {
        (Some(authority), Some(host)) if head.version == Version::HTTP_2 => {
            // RFC 9113 8.3.1: "A server SHOULD treat a request as malformed if it contains a Host header field that
            // identifies an entity that differs from the entity in the ":authority" pseudo-header field".
            match host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) {
                true => authority.clone(),
                false => return Err(invalid("Host and :authority differ")),
            }
        }
        // RFC 9112 3.2.2: "the proxy MUST ignore the received Host header field (if any) and instead replace it with
        // the host information of the request-target".
        (Some(authority), _) => authority.clone(),
        (None, Some(host)) => host
            .to_str()
            .ok()
            .and_then(|host| host.parse().ok())
            .ok_or_else(|| invalid("the Host is not host and port"))?,
        (None, None) => return Err(invalid("there is no Host")),
    };
    match named.as_str().contains('@') || named.host().is_empty() {
        true => Err(invalid("the host has a user's name, or is empty")),
        false => Ok(named),
    }
}

/// The path and query in the normal form of the mesh, which is what is judged, and what the application sees.
fn path(head: &request::Parts, policies: &Policies) -> Result<PathAndQuery, Deny> {
    let refused = |detail: String| Deny::new(Reason::PathInvalid, Hop::Request, detail);
    let sent = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let normal =
        authz::path::normalize(sent, policies.path_normalization()).map_err(|error| refused(error.to_string()))?;
    PathAndQuery::try_from(&*normal)
        .ok()
        .filter(|path| path.as_str() == normal)
        .ok_or_else(|| refused("the path in the normal form is none that a request may have".to_owned()))
}

fn invalid(detail: &str) -> Deny {
    Deny::new(Reason::RequestInvalid, Hop::Request, detail)
}

/// Path and query as the application gets them: without a token that is not to be forwarded.
pub(crate) fn upstream_path(allow: &Allow) -> Result<PathAndQuery, Box<Decision>> {
    let path = allow.upstream_path();
    PathAndQuery::try_from(path).ok().filter(|parsed| parsed.as_str() == path).ok_or_else(|| {
        let detail = "the query without its token is none that a request may have";
        Box::new(Decision::from(Deny::new(Reason::PathInvalid, allow.hop(), detail)))
    })
}

/// Changes the headers as the policies want it, and says who calls. Denies what could not be handed on.
pub(crate) fn apply(headers: &mut HeaderMap, allow: &Allow, request: &Request) -> Result<(), Box<Decision>> {
    let refused = || {
        let detail = "a claim of the caller has control characters and cannot be a header";
        Box::new(Decision::from(Deny::new(Reason::TokenMalformed, allow.hop(), detail)))
    };
    let changes = allow.header_changes(request);
    for name in changes.remove.iter().chain(changes.set.iter().map(|(name, _)| name)) {
        headers.remove(name.as_str());
    }
    for (name, value) in &changes.set {
        // These are set below, and by nobody else.
        if plain(name).starts_with(IDENTITY_PREFIX) {
            continue;
        }
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused())?;
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).map_err(|_| refused())?);
    }
    for (name, value) in [(PRINCIPAL, allow.principal()), (CLIENT_ID, allow.client_id())] {
        if let Some(value) = value {
            headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).map_err(|_| refused())?);
        }
    }
    Ok(())
}

/// What the caller learns: whether to come with another credential, or another request. The reason is for the
/// operator's log, since it would tell whoever tries keys which of them exist.
pub(crate) fn coarse(decision: &Decision) -> (StatusCode, &'static str) {
    match decision.status() {
        400 => (StatusCode::BAD_REQUEST, "invalid"),
        401 => (StatusCode::UNAUTHORIZED, "unauthenticated"),
        429 => (StatusCode::TOO_MANY_REQUESTS, "limited"),
        431 => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large"),
        _ => (StatusCode::FORBIDDEN, "denied"),
    }
}
