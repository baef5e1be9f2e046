//! The hash of a request: what Istio's `consistentHash` names, hashed as Envoy does (`hash_policy.cc`), so that the
//! same key leads to the same endpoint as from a sidecar.

use std::net::SocketAddr;

use http::header::COOKIE;
use xxhash_rust::xxh64::xxh64;

use crate::route::Head;
use crate::table::HashKey;

/// What came out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Hashed {
    /// For [`super::Request::hash`]; absent when the request does not have what is named.
    pub hash: Option<u64>,
    /// A `set-cookie` for the answer: the cookie was absent, and one was made.
    pub set_cookie: Option<String>,
}

impl Hashed {
    fn of(bytes: &[u8]) -> Hashed {
        Hashed { hash: Some(xxh64(bytes, 0)), set_cookie: None }
    }
}

/// Hashes what `key` names, of a request that came from `client` to `listener`.
pub fn hash(key: &HashKey, head: &Head<'_>, client: SocketAddr, listener: SocketAddr) -> Hashed {
    match key {
        HashKey::Header(name) => header(head, name),
        HashKey::Cookie(name, path, ttl) => match (cookie(head, name), ttl) {
            (Some(value), _) => Hashed::of(value),
            (None, Some(ttl)) => made_cookie(name, path, *ttl, client, listener),
            (None, None) => Hashed::default(),
        },
        HashKey::SourceIp => Hashed::of(client.ip().to_string().as_bytes()),
        HashKey::Query(name) => query(head, name).map(|value| Hashed::of(value.as_bytes())).unwrap_or_default(),
    }
}

fn header(head: &Head<'_>, name: &str) -> Hashed {
    match name {
        // Envoy keeps the Host there.
        "host" | ":authority" => return Hashed::of(head.authority.as_bytes()),
        ":path" => return Hashed::of(head.path_and_query.as_bytes()),
        ":method" => return Hashed::of(head.method.as_str().as_bytes()),
        ":scheme" => return Hashed::of(head.scheme.as_bytes()),
        _ => {}
    }
    let mut values = head.headers.get_all(name).iter().map(http::HeaderValue::as_bytes);
    let hash = match (values.next(), values.next()) {
        (None, _) => None,
        (Some(value), None) => Some(xxh64(value, 0)),
        (Some(first), Some(second)) => {
            // "Ensure generating same hash value for different order header values." Each hash is the next one's seed.
            let mut all: Vec<&[u8]> = [first, second].into_iter().chain(values).collect();
            all.sort_unstable();
            Some(all.iter().fold(0, |seed, value| xxh64(value, seed)))
        }
    };
    Hashed { hash, set_cookie: None }
}

/// The first cookie of this name, without the quotes that RFC 6265, section 4.1.1 allows around a value; `None` when it
/// is absent or empty. Envoy's `parseCookieValue`.
fn cookie<'a>(head: &Head<'a>, name: &str) -> Option<&'a [u8]> {
    let mut pairs = head.headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    let value = pairs.find_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (key, value) = pair.split_at(equals);
        let blanks = key.iter().take_while(|byte| **byte == b' ').count();
        (key.get(blanks..)? == name.as_bytes()).then_some(value.get(1..)?)
    })?;
    let value = match value {
        [b'"', inner @ .., b'"'] => inner,
        value => value,
    };
    (!value.is_empty()).then_some(value)
}

/// "The cookie value should be the same per connection so that if multiple streams race on the same path, they all
/// receive the same cookie."
fn made_cookie(name: &str, path: &str, ttl: u64, client: SocketAddr, listener: SocketAddr) -> Hashed {
    let value = format!("{:016x}", xxh64(format!("{client}{listener}").as_bytes(), 0));
    let mut cookie = format!("{name}=\"{value}\"");
    if ttl > 0 {
        cookie.push_str(&format!("; Max-Age={ttl}"));
    }
    if !path.is_empty() {
        cookie.push_str(&format!("; Path={path}"));
    }
    cookie.push_str("; HttpOnly");
    Hashed { set_cookie: Some(cookie), ..Hashed::of(value.as_bytes()) }
}

/// The first value of a query parameter, as it is written: Envoy's `parseQueryString` does not decode.
fn query<'a>(head: &Head<'a>, name: &str) -> Option<&'a str> {
    let (_, query) = head.path_and_query.split_once('?')?;
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find_map(|(key, value)| (key == name).then_some(value))
}
