//! What a request is hashed by, where its cluster asks for consistent hashing.

use std::hash::{DefaultHasher, Hasher};

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use traffic::table::{BalancePolicy, HashKey};

use crate::random::Draws;

/// The hash of a request, and a cookie that keeps its client at the endpoint which it leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Affinity {
    pub(crate) hash: Option<u64>,
    pub(crate) cookie: Option<HeaderValue>,
}

impl Affinity {
    /// For a request with `headers` and `query`. Without what is hashed any endpoint will do, as in Envoy.
    pub(crate) fn of(policy: &BalancePolicy, headers: &HeaderMap, query: Option<&str>, draws: &mut Draws) -> Affinity {
        let BalancePolicy::Hash(key, _) = policy else { return Affinity::default() };
        let hash = match key {
            HashKey::Header(name) => {
                let mut values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
                // Envoy: "the order of the values does not matter".
                values.sort_unstable();
                (!values.is_empty()).then(|| hash(&values))
            }
            HashKey::Query(name) => value_of(query.unwrap_or_default().split('&'), name).map(|value| hash(&[value])),
            // Always this machine.
            HashKey::SourceIp => Some(hash(&[b"127.0.0.1"])),
            HashKey::Cookie(name, path, lifetime) => {
                let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
                let pairs = pairs.flat_map(|value| value.split(';')).map(str::trim);
                return match (value_of(pairs, name), lifetime) {
                    (Some(value), _) => Affinity { hash: Some(hash(&[value])), cookie: None },
                    (None, None) => Affinity::default(),
                    (None, Some(lifetime)) => new_cookie(name, path, *lifetime, draws),
                };
            }
        };
        Affinity { hash, cookie: None }
    }
}

fn new_cookie(name: &str, path: &str, lifetime: u64, draws: &mut Draws) -> Affinity {
    let value = format!("{:016x}", draws.next());
    // Envoy's form of it.
    let mut cookie = format!("{name}=\"{value}\"");
    if lifetime > 0 {
        cookie.push_str(&format!("; Max-Age={lifetime}"));
    }
    if !path.is_empty() {
        cookie.push_str(&format!("; Path={path}"));
    }
    cookie.push_str("; HttpOnly");
    Affinity { hash: Some(hash(&[value.as_bytes()])), cookie: HeaderValue::try_from(cookie).ok() }
}

/// The value of the first `name=value`, without quotes around it.
fn value_of<'a>(mut pairs: impl Iterator<Item = &'a str>, name: &str) -> Option<&'a [u8]> {
    let found = pairs.find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))?;
    Some(found.1.trim_matches('"').as_bytes())
}

/// The same for the same values in every environment with this release.
fn hash(values: &[&[u8]]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for value in values {
        hasher.write(value);
        hasher.write_u8(0xff);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use traffic::table::HashTable;

    use super::*;

    fn of(key: HashKey, headers: &[(&'static str, &'static str)], query: &str) -> Affinity {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let policy = BalancePolicy::Hash(key, HashTable::Ring(1_024));
        Affinity::of(&policy, &map, Some(query), &mut Draws::new())
    }

    #[test]
    fn the_same_value_is_the_same_hash() {
        let header = || HashKey::Header("x-user".to_owned());
        let one = of(header(), &[("x-user", "one")], "");
        assert!(one.hash.is_some() && one.cookie.is_none());
        assert_eq!(one, of(header(), &[("x-user", "one"), ("x-other", "1")], "a=b"));
        assert_ne!(one, of(header(), &[("x-user", "two")], ""));
        assert_eq!(
            of(header(), &[("x-user", "a"), ("x-user", "b")], ""),
            of(header(), &[("x-user", "b"), ("x-user", "a")], "")
        );
        assert_eq!(of(header(), &[], ""), Affinity::default());

        let query = || HashKey::Query("user".to_owned());
        assert_eq!(of(query(), &[], "a=b&user=one"), of(query(), &[], "user=one"));
        assert_eq!(of(query(), &[], "users=one"), Affinity::default());
        assert!(of(HashKey::SourceIp, &[], "").hash.is_some());
    }

    #[test]
    fn a_cookie_is_made_where_it_has_a_lifetime_and_read_back() {
        let key = |lifetime| HashKey::Cookie("session".to_owned(), "/a".to_owned(), lifetime);
        assert_eq!(of(key(None), &[], ""), Affinity::default());
        let made = of(key(Some(60)), &[], "");
        let cookie = made.cookie.unwrap().to_str().unwrap().to_owned();
        assert!(cookie.starts_with("session=\"") && cookie.ends_with("\"; Max-Age=60; Path=/a; HttpOnly"), "{cookie}");
        let value: &'static str = Box::leak(cookie.split(';').next().unwrap().to_owned().into_boxed_str());
        let back = of(key(Some(60)), &[("cookie", "other=1"), ("cookie", value)], "");
        assert_eq!((back.hash, back.cookie), (made.hash, None));
        let session = of(key(Some(0)), &[], "").cookie.unwrap();
        assert!(!session.to_str().unwrap().contains("Max-Age"));
    }
}
