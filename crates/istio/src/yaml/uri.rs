//! The URI of a key set.

use super::nearest::quoted;
use super::read::At;

/// Longest `jwksUri` in Istio's schema.
const MAX_URI: usize = 2048;

/// Istio (`ParseJwksURI`, and its schema): what Go's `url.Parse` reads, with the scheme http or https.
pub(super) fn http_uri(at: &At<'_>) -> Option<String> {
    let uri = at.non_empty_string()?;
    let (scheme, rest) = uri.split_once("://").unwrap_or(("", &uri));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
    // A password in it would end up in logs and in the compiled bundle; not even this error shows it.
    if authority.contains('@') {
        at.error("expected a URI without user information (`user@`)");
        return None;
    }
    if uri.len() > MAX_URI {
        at.error(format!("expected a URI of at most {MAX_URI} bytes, found {}", uri.len()));
        return None;
    }
    let http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    // Go reads a query as it is.
    let path = after.split('?').next().unwrap_or_default();
    let graphic = uri.bytes().all(|byte| byte.is_ascii_graphic());
    if !http || !graphic || !is_authority(authority) || !is_escaped(path) {
        at.error(format!("expected an http or https URI, found {}", quoted(&uri)));
        return None;
    }
    Some(uri)
}

/// A host or an address, and perhaps a port.
fn is_authority(text: &str) -> bool {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        (address, port.strip_prefix(':').or(port.is_empty().then_some("")))
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("")),
        }
    };
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:".contains(&byte);
    !host.is_empty()
        && host.bytes().all(name)
        && port.is_some_and(|port| port.is_empty() || port.parse::<u16>().is_ok_and(|port| port > 0))
        && port.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether each `%` is followed by two hexadecimal digits.
fn is_escaped(text: &str) -> bool {
    text.split('%')
        .skip(1)
        .all(|part| part.as_bytes().get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)))
}
