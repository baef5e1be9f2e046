//! Answers that no service gave.

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};

use crate::answer::Answer;
use crate::reason::{self, Reason, Refusal};

/// Envoy's header on what a limit refused.
const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// What Envoy writes on a text of its own.
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain");

/// Whether a request is gRPC: its clients read the status of an answer's header fields, and not HTTP's.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let rest = headers.get(CONTENT_TYPE).and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+") || rest.starts_with(b";"))
}

/// The answer that says why a request was not proxied.
pub(crate) fn refuse(refusal: &Refusal, grpc: bool) -> Response<Answer> {
    let reason = refusal.reason;
    let message = format!("{}: {}", reason.as_str(), refusal.detail);
    let mut response = match grpc {
        true => trailers_only(grpc_status(reason.status()), &message),
        false => {
            let mut response = Response::new(Answer::text(format!("{message}\n")));
            *response.status_mut() = reason.status();
            response.headers_mut().insert(CONTENT_TYPE, TEXT);
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(reason::HEADER, HeaderValue::from_static(reason.as_str()));
    if reason.is_passing() {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if reason == Reason::TokenRefused {
        // RFC 9110 11.6.1: a 401 "MUST" say how to authenticate.
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer error="invalid_token""#));
    }
    if reason == Reason::UpstreamOverflow {
        headers.insert(OVERLOADED, HeaderValue::from_static("true"));
    }
    response
}

/// An injected failure with a status of HTTP, in Envoy's words.
pub(crate) fn abort(status: u16, grpc: bool) -> Response<Answer> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    match grpc {
        true => abort_grpc(grpc_status(status), true),
        false => with_reason(Reason::FaultInjected, status, Answer::text("fault filter abort".to_owned()), Some(PLAIN)),
    }
}

/// An injected failure with a status of gRPC; a client of plain HTTP gets the status that stands for it.
pub(crate) fn abort_grpc(status: u16, grpc: bool) -> Response<Answer> {
    if !grpc {
        return abort(http_status(status), false);
    }
    let mut response = trailers_only(status, "fault filter abort");
    let word = HeaderValue::from_static(Reason::FaultInjected.as_str());
    response.headers_mut().insert(reason::HEADER, word);
    response
}

/// A redirect to `location`.
pub(crate) fn redirect(code: u16, location: HeaderValue) -> Response<Answer> {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::MOVED_PERMANENTLY);
    let mut response = with_reason(Reason::Redirect, status, Answer::text(String::new()), None);
    response.headers_mut().insert(LOCATION, location);
    response
}

/// A route's own answer.
pub(crate) fn direct(status: u16, body: Vec<u8>) -> Response<Answer> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    // Envoy's local answers are text; a route's header changes may say otherwise.
    let kind = if body.is_empty() { None } else { Some(PLAIN) };
    with_reason(Reason::DirectResponse, status, Answer::bytes(body.into()), kind)
}

fn with_reason(reason: Reason, status: StatusCode, body: Answer, kind: Option<HeaderValue>) -> Response<Answer> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Some(kind) = kind {
        headers.insert(CONTENT_TYPE, kind);
    }
    headers.insert(reason::HEADER, HeaderValue::from_static(reason.as_str()));
    response
}

/// A gRPC answer without messages: "Trailers-Only", where the status stands in the header fields.
fn trailers_only(status: u16, message: &str) -> Response<Answer> {
    let mut response = Response::new(Answer::text(String::new()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(status));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(message)) {
        headers.insert("grpc-message", message);
    }
    response
}

/// gRPC over HTTP/2, "Responses": `Status-Message` is percent-encoded, with printable ASCII but `%` left as it is.
fn percent_encoded(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b'%' => encoded.push_str("%25"),
            b' '..=b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// gRPC's "HTTP to gRPC Status Code Mapping", as Envoy has it.
fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// Envoy's `grpcToHttpStatus`.
fn http_status(grpc: u16) -> u16 {
    match grpc {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field<'a>(response: &'a Response<Answer>, name: &str) -> &'a str {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap_or_default())
    }

    #[test]
    fn grpc_gets_its_status_in_the_head() {
        let refusal = Refusal::new(Reason::UpstreamOverflow, "100 % of them, ü");
        let answer = refuse(&refusal, true);
        assert_eq!(answer.status(), 200);
        assert_eq!((field(&answer, "grpc-status"), field(&answer, "content-type")), ("14", "application/grpc"));
        assert_eq!(field(&answer, "grpc-message"), "upstream_overflow: 100 %25 of them, %C3%BC");
        assert_eq!(
            (field(&answer, "x-causeway-reason"), field(&answer, "x-envoy-overloaded")),
            ("upstream_overflow", "true")
        );

        let answer = abort_grpc(14, true);
        assert_eq!((answer.status().as_u16(), field(&answer, "grpc-status")), (200, "14"));
        assert_eq!(abort_grpc(14, false).status(), 503);
        assert_eq!(field(&abort(503, true), "grpc-status"), "14");
        assert_eq!(abort(555, false).status(), 555);
    }

    #[test]
    fn grpc_is_known_by_its_media_type() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; x=y", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            assert_eq!(is_grpc(&headers), expected, "{value}");
        }
    }
}
