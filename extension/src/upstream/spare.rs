//! Which requests may be sent a second time.
//!
//! There is one case: a connection from the pool turned out to be dead, as connections are after a freeze. Then one
//! replay on a new connection, if nothing of an answer had arrived and the request is safe to repeat.

use http::Request;

use crate::body::Upload;

/// A second copy of `request`, if sending it twice does no more than sending it once: RFC 9110 9.2.2, "A client SHOULD
/// NOT automatically retry a request with a non-idempotent method", and there is no body that would have to be kept.
pub(super) fn spare(request: &Request<Upload>) -> Option<Request<Upload>> {
    if !request.method().is_idempotent() || !matches!(request.body(), Upload::Empty) {
        return None;
    }
    let mut copy = Request::new(Upload::Empty);
    request.method().clone_into(copy.method_mut());
    request.uri().clone_into(copy.uri_mut());
    request.headers().clone_into(copy.headers_mut());
    Some(copy)
}

#[cfg(test)]
mod tests {

    use http::Method;

    use super::*;

    #[test]
    fn only_idempotent_requests_without_a_body_have_a_spare() {
        for (method, expected) in [
            (Method::GET, true),
            (Method::HEAD, true),
            (Method::DELETE, true),
            (Method::PUT, true),
            (Method::POST, false),
            (Method::PATCH, false),
            (Method::from_bytes(b"PROPFIND").unwrap(), false),
        ] {
            let request = Request::builder().method(&method).uri("/a?b").header("x", "y").body(Upload::Empty).unwrap();
            let copy = spare(&request);
            assert_eq!(copy.is_some(), expected, "{method}");
            if let Some(copy) = copy {
                assert_eq!((copy.method(), copy.uri(), copy.headers()), (&method, request.uri(), request.headers()));
            }
        }
    }
}
