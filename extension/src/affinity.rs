//! What a request is hashed by, where its cluster asks for consistent hashing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use traffic::balance::hash_key::{Hashed, hash};
use traffic::route::Head;
use traffic::table::{BalancePolicy, HashKey};

use crate::random::Draws;

/// Hashes what the cluster's policy names; nothing where it asks for no hash.
pub(crate) fn of(policy: &BalancePolicy, head: &Head<'_>, draws: &mut Draws) -> Hashed {
    let BalancePolicy::Hash(key, _) = policy else { return Hashed::default() };
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let client = match key {
        // A new cookie is made of the client's address, which is the same here for all clients of all environments:
        // their cookies would all lead to one endpoint.
        HashKey::Cookie(..) => {
            let bits = (u128::from(draws.next()) << 64) | u128::from(draws.next());
            SocketAddr::new(IpAddr::V6(Ipv6Addr::from_bits(bits)), 0)
        }
        _ => here,
    };
    hash(key, head, client, here)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};
    use traffic::table::HashTable;

    use super::*;

    #[test]
    fn new_cookies_differ_and_the_client_is_always_the_same() {
        let headers = HeaderMap::new();
        let method = Method::GET;
        let head = Head { method: &method, scheme: "http", authority: "a", path_and_query: "/", headers: &headers };
        let of = |key| of(&BalancePolicy::Hash(key, HashTable::Ring(1_024)), &head, &mut Draws::new());
        let cookie = || HashKey::Cookie("session".to_owned(), "/".to_owned(), Some(0));
        assert_ne!(of(cookie()), of(cookie()));
        assert!(of(cookie()).set_cookie.is_some());
        assert_eq!(of(HashKey::SourceIp), of(HashKey::SourceIp));
    }
}
