//! Which header fields belong to one connection and must not be forwarded.

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};

/// RFC 9110 7.6.1: "intermediaries SHOULD remove or replace fields that are known to require removal before
/// forwarding, whether or not they appear as a connection-option": Proxy-Connection, Keep-Alive, TE,
/// Transfer-Encoding and Upgrade. The two Proxy-Auth… fields are for this proxy (RFC 9110 11.7), and a credential in them
/// is nobody else's.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    // Names that the library knows compare as numbers.
    *name == CONNECTION
        || *name == TRANSFER_ENCODING
        || *name == TE
        || *name == UPGRADE
        || *name == PROXY_AUTHENTICATE
        || *name == PROXY_AUTHORIZATION
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// Removes the hop-by-hop fields, with those that `Connection` names: "Intermediaries MUST parse a received Connection
/// header field before a message is forwarded and, for each connection-option in this field, remove any header or
/// trailer field(s) from the message with the same name" (RFC 9110 7.6.1).
///
/// A Content-Length beside a Transfer-Encoding goes too, since the body need not have it: "An intermediary that chooses
/// to forward the message MUST first remove the received Content-Length field" (RFC 9112 6.3).
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let mut gone: Vec<HeaderName> = headers.keys().filter(|name| is_hop_by_hop(name)).cloned().collect();
    // As in most messages.
    if gone.is_empty() {
        return;
    }
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    let named = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // Host and the length of the body are not a sender's to name here: without them the message is another one.
        .filter(|name| *name != HOST && *name != CONTENT_LENGTH);
    gone.extend(named);
    for name in &gone {
        headers.remove(name);
    }
}

/// RFC 9113 8.2.3: "If there are multiple Cookie header fields after decompression, these MUST be concatenated into a
/// single octet string ... before being passed into a non-HTTP/2 context".
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(COOKIE, whole);
    }
}

/// True when the body is coded in another way than in chunks. Such a coding is undone by nobody here, and without its
/// header field, which is for this connection only, the next reader would take the coded bytes for the body.
pub(crate) fn has_unknown_coding(headers: &HeaderMap) -> bool {
    headers.get_all(TRANSFER_ENCODING).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"chunked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(fields: &[(&str, &str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        remove_hop_by_hop(&mut headers);
        let mut left: Vec<String> = headers.keys().map(|name| name.as_str().to_owned()).collect();
        left.sort();
        left
    }

    #[test]
    fn the_known_ones_and_the_named_ones_go() {
        let left = after(&[
            ("connection", "close, X-Private"),
            ("connection", "x-second ,, te"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic abc"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-private", "1"),
            ("x-second", "1"),
            ("accept", "*/*"),
            ("authorization", "Bearer abc"),
        ]);
        assert_eq!(left, ["accept", "authorization"]);
    }

    #[test]
    fn a_length_beside_a_transfer_encoding_goes() {
        let left = after(&[("content-length", "5"), ("transfer-encoding", "chunked"), ("x", "1")]);
        assert_eq!(left, ["x"]);
    }

    #[test]
    fn the_crumbs_of_a_cookie_are_one_again() {
        let mut headers = HeaderMap::new();
        for crumb in ["a=1", "b=2", "c=3; d=4"] {
            headers.append(COOKIE, HeaderValue::from_static(crumb));
        }
        join_cookies(&mut headers);
        let left: Vec<&HeaderValue> = headers.get_all(COOKIE).iter().collect();
        assert_eq!(left, ["a=1; b=2; c=3; d=4"]);
    }

    #[test]
    fn connection_cannot_take_host_or_length_away() {
        let left = after(&[("connection", "host, content-length"), ("host", "a"), ("content-length", "1")]);
        assert_eq!(left, ["content-length", "host"]);
    }
}
