//! What is hashed of a request.

use std::net::SocketAddr;

use http::{HeaderMap, Method};

use crate::balance::hash_key::{Hashed, hash};
use crate::route::Head;
use crate::table::HashKey;

fn hashed(key: &HashKey, headers: &[(&'static str, &'static str)], path_and_query: &str) -> Hashed {
    let headers: HeaderMap =
        headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    let head = Head { method: &Method::GET, scheme: "http", authority: "a.b", path_and_query, headers: &headers };
    let client: SocketAddr = "127.0.0.1:40000".parse().unwrap();
    hash(key, &head, client, "127.0.0.1:15001".parse().unwrap())
}

fn of(text: &str) -> Option<u64> {
    Some(xxhash_rust::xxh64::xxh64(text.as_bytes(), 0))
}

// Hash: xxHash, xxHashWithVector
#[test]
fn envoys_hash() {
    assert_eq!(of("foo"), Some(3_728_699_739_546_630_719));
    assert_eq!(of(""), Some(17_241_709_254_077_376_921));
    let key = HashKey::Header("x".to_owned());
    assert_eq!(hashed(&key, &[("x", "foo")], "/").hash, Some(3_728_699_739_546_630_719));
}

// HeaderHashMethod: ...
#[test]
fn headers() {
    let key = HashKey::Header("x-user".to_owned());
    for (headers, expected) in
        [(&[("x-user", "ann")][..], of("ann")), (&[("x-user", "")], of("")), (&[("x-other", "ann")], None)]
    {
        assert_eq!(hashed(&key, headers, "/"), Hashed { hash: expected, set_cookie: None }, "{headers:?}");
    }
    let two = hashed(&key, &[("x-user", "bar"), ("x-user", "foo")], "/");
    assert_eq!(two, hashed(&key, &[("x-user", "foo"), ("x-user", "bar")], "/"));
    assert!(two.hash.is_some() && two.hash != of("barfoo") && two.hash != of("bar"));
    for (name, expected) in [("host", "a.b"), (":authority", "a.b"), (":path", "/p?q"), (":method", "GET")] {
        assert_eq!(hashed(&HashKey::Header(name.to_owned()), &[], "/p?q").hash, of(expected), "{name}");
    }
}

// CookieHashMethod, RouterTest.HashKeyCookie..., HttpUtility.TestParseCookie
#[test]
fn cookies() {
    let key = HashKey::Cookie("u".to_owned(), "/".to_owned(), None);
    for (headers, expected) in [
        (&[("cookie", "u=ann")][..], of("ann")),
        (&[("cookie", "a=b; u=ann; c=d")], of("ann")),
        (&[("cookie", "a=b;u=ann")], of("ann")),
        (&[("cookie", "u=\"ann\"")], of("ann")),
        (&[("cookie", "u=\"ann")], of("\"ann")),
        (&[("cookie", "u=a=b")], of("a=b")),
        (&[("cookie", "uu=x; u=1"), ("cookie", "u=2")], of("1")),
        (&[("cookie", "a=1"), ("cookie", "u=2")], of("2")),
        (&[("cookie", "u=")], None),
        (&[("cookie", "u=\"\"")], None),
        (&[("cookie", "u")], None),
        (&[("cookie", "U=ann")], None),
        (&[], None),
    ] {
        assert_eq!(hashed(&key, headers, "/"), Hashed { hash: expected, set_cookie: None }, "{headers:?}");
    }
}

#[test]
fn a_cookie_is_made() {
    let value = format!("{:016x}", of("127.0.0.1:40000127.0.0.1:15001").unwrap());
    for (path, ttl, expected) in [
        ("/p", 60, format!("u=\"{value}\"; Max-Age=60; Path=/p; HttpOnly")),
        ("", 0, format!("u=\"{value}\"; HttpOnly")),
    ] {
        let key = HashKey::Cookie("u".to_owned(), path.to_owned(), Some(ttl));
        let made = hashed(&key, &[], "/");
        assert_eq!(made, Hashed { hash: of(&value), set_cookie: Some(expected) });
        // The next request has it, and goes where this one went.
        assert_eq!(hashed(&key, &[("cookie", "u=ann")], "/"), Hashed { hash: of("ann"), set_cookie: None });
    }
}

// IpHashMethod, QueryParameterHashMethod
#[test]
fn addresses_and_queries() {
    assert_eq!(hashed(&HashKey::SourceIp, &[], "/").hash, of("127.0.0.1"));
    let key = HashKey::Query("user".to_owned());
    for (path, expected) in [
        ("/?user=ann", of("ann")),
        ("/?a=b&user=ann&user=bob", of("ann")),
        ("/?user=a%20b", of("a%20b")),
        ("/?user=a=b", of("a=b")),
        ("/?user=", of("")),
        ("/?user", of("")),
        ("/?User=ann", None),
        ("/?xuser=ann", None),
        ("/user=ann", None),
        ("/", None),
    ] {
        assert_eq!(hashed(&key, &[], path).hash, expected, "{path}");
    }
}
