//! Which requests may be sent a second time.
//!
//! There is one case: a connection from the pool turned out to be dead, as connections are after a freeze. Then one
//! replay on a new connection, if nothing of an answer had arrived and the request is safe to repeat.

use http::Request;

use crate::body::Upload;

/// Whether sending `request` twice does no more than sending it once: RFC 9110 9.2.2, "A client SHOULD NOT automatically
/// retry a request with a non-idempotent method", and there is no body that would have to be kept.
pub(super) fn is_repeatable(request: &Request<Upload>) -> bool {
    request.method().is_idempotent() && matches!(request.body(), Upload::Empty)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Method;
    use http_body_util::Full;

    use super::*;

    #[test]
    fn only_idempotent_requests_without_a_body_are_sent_again() {
        for (method, expected) in [
            (Method::GET, true),
            (Method::HEAD, true),
            (Method::DELETE, true),
            (Method::PUT, true),
            (Method::POST, false),
            (Method::PATCH, false),
            (Method::from_bytes(b"PROPFIND").unwrap(), false),
        ] {
            let mut request = Request::builder().method(&method).uri("/a?b").body(Upload::Empty).unwrap();
            assert_eq!(is_repeatable(&request), expected, "{method}");
            *request.body_mut() = Upload::replayable(Full::new(Bytes::from_static(b"x"))).0;
            assert!(!is_repeatable(&request), "{method} with a body");
        }
    }
}
