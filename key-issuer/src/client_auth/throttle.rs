//! A bound on how often wrong credentials are tried, in this execution environment.
//!
//! Secrets and keys are too long to be guessed at any rate. What this bounds is the work (table reads, signatures) and
//! the noise that a caller with a wrong credential makes. It is memory of one environment, so a caller that is spread
//! over many gets as many times the bound.
//!
//! Callers that share an address share its bound. So that one of them does not lock out the others, whoever asks looks
//! first whether a credential is right by what is remembered: by the record of its client, or, for an API key, by
//! [`Throttle::was_right`]. Only a client that this environment has not seen yet has to wait with the others.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use lru::LruCache;

/// How many clients, and how many sources, are remembered; the ones that failed longest ago go first.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// How many failures in a row a client has, and how long one counts, in seconds.
const CLIENT: Limit = Limit { failures: 20, seconds: 3 };

/// The same for a source address. It is more, for many clients may share one.
const SOURCE: Limit = Limit { failures: 100, seconds: 1 };

/// A leaky bucket: `failures` fill it, one leaks out every so many `seconds`.
#[derive(Clone, Copy)]
struct Limit {
    failures: u64,
    seconds: u64,
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    level: u64,
    at: u64,
}

impl Bucket {
    fn leak(self, limit: Limit, now: u64) -> Self {
        // A clock that is set back leaks nothing and starts anew.
        let drops = now.saturating_sub(self.at) / limit.seconds;
        if drops >= self.level {
            return Self { level: 0, at: now };
        }
        Self { level: self.level - drops, at: if now < self.at { now } else { self.at + drops * limit.seconds } }
    }
}

/// Whose failures are counted.
pub(crate) struct Who {
    /// Hashed: it is the caller's text.
    client: [u8; 32],
    source: String,
}

impl Who {
    /// The client that the caller names and the address that it comes from.
    pub(crate) fn new(client_id: &str, source_ip: Option<&str>) -> Self {
        let client = fingerprint(client_id);
        Self { client, source: source(source_ip) }
    }
}

/// The source that an address stands for. A subscriber has a whole /64 of IPv6: its addresses are one source.
pub(crate) fn source(ip: Option<&str>) -> String {
    match ip.unwrap_or_default().parse() {
        Ok(IpAddr::V6(ip)) => format!("{:x?}", &ip.segments()[..4]),
        Ok(IpAddr::V4(ip)) => ip.to_string(),
        Err(_) => String::new(),
    }
}

/// A name for a credential, which is not kept itself.
fn fingerprint(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

/// Who failed how often.
pub(crate) struct Throttle(Mutex<Buckets>);

struct Buckets {
    clients: LruCache<[u8; 32], Bucket>,
    sources: LruCache<String, Bucket>,
    /// Fingerprints of API keys that were right when they were shown last.
    right: LruCache<[u8; 32], ()>,
}

impl Throttle {
    /// Nobody has failed.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Buckets {
            clients: LruCache::new(REMEMBERED),
            sources: LruCache::new(REMEMBERED),
            right: LruCache::new(REMEMBERED),
        }))
    }

    /// Whether a credential may be tried. A client with many failures is closed to sources that have failed themselves,
    /// and stays open to all others: who only knows its name cannot lock it out.
    ///
    /// # Errors
    /// In how many seconds to come again.
    pub(crate) fn check(&self, who: &Who, now: u64) -> Result<(), u64> {
        let buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let source = buckets.sources.peek(&who.source).copied().unwrap_or_default().leak(SOURCE, now);
        if source.level >= SOURCE.failures {
            return Err(SOURCE.seconds);
        }
        let client = buckets.clients.peek(&who.client).copied().unwrap_or_default().leak(CLIENT, now);
        if client.level >= CLIENT.failures && source.level > 0 {
            return Err(CLIENT.seconds);
        }
        Ok(())
    }

    /// Whether this very credential was right when it was shown last. It need not be so any more.
    pub(crate) fn was_right(&self, credential: &str) -> bool {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.right.get(&fingerprint(credential)).is_some()
    }

    /// Notes whether a credential was right.
    pub(crate) fn note(&self, credential: &str, is_right: bool) {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if is_right {
            buckets.right.put(fingerprint(credential), ());
        } else {
            buckets.right.pop(&fingerprint(credential));
        }
    }

    /// Counts a wrong credential.
    pub(crate) fn failed(&self, who: &Who, now: u64) {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fuller = |bucket: Option<&Bucket>, limit: Limit| {
            let bucket = bucket.copied().unwrap_or_default().leak(limit, now);
            Bucket { level: bucket.level.saturating_add(1).min(limit.failures), ..bucket }
        };
        let client = fuller(buckets.clients.peek(&who.client), CLIENT);
        buckets.clients.put(who.client, client);
        let source = fuller(buckets.sources.peek(&who.source), SOURCE);
        buckets.sources.put(who.source.clone(), source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    fn fail(throttle: &Throttle, who: &Who, times: u64) {
        for _ in 0..times {
            throttle.failed(who, NOW);
        }
    }

    #[test]
    fn a_client_is_closed_at_its_limit_to_those_who_failed() {
        let throttle = Throttle::new();
        let (attacker, owner) = (Who::new("a", Some("192.0.2.1")), Who::new("a", Some("198.51.100.1")));
        fail(&throttle, &attacker, CLIENT.failures - 1);
        assert_eq!(throttle.check(&attacker, NOW), Ok(()));
        fail(&throttle, &attacker, 1);
        assert_eq!(throttle.check(&attacker, NOW), Err(3));
        assert_eq!(throttle.check(&owner, NOW), Ok(()), "another source is not locked out");
        assert_eq!(throttle.check(&Who::new("b", Some("192.0.2.1")), NOW), Ok(()), "another client is open");
        assert_eq!(throttle.check(&attacker, NOW + 2), Err(3));
        assert_eq!(throttle.check(&attacker, NOW + 3), Ok(()));
        throttle.failed(&attacker, NOW + 3);
        assert_eq!(throttle.check(&attacker, NOW + 5), Err(3), "one leaks at a time");
    }

    #[test]
    fn a_source_is_closed_whatever_client_it_names() {
        let throttle = Throttle::new();
        for i in 0..SOURCE.failures {
            throttle.failed(&Who::new(&i.to_string(), Some("192.0.2.1")), NOW);
        }
        let next = Who::new("new", Some("192.0.2.1"));
        assert_eq!(throttle.check(&next, NOW), Err(1));
        assert_eq!(throttle.check(&next, NOW + 1), Ok(()));
        assert_eq!(throttle.check(&Who::new("new", Some("192.0.2.2")), NOW), Ok(()));
    }

    #[test]
    fn addresses_of_one_subscriber_are_one_source() {
        let source = |ip| Who::new("a", Some(ip)).source;
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("nonsense"), Who::new("a", None).source);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let throttle = Throttle::new();
        for i in 0..=REMEMBERED.get() {
            throttle.failed(&Who::new(&i.to_string(), Some(&format!("10.{}.{}.1", i / 256, i % 256))), NOW);
        }
        let buckets = throttle.0.lock().unwrap();
        assert_eq!((buckets.clients.len(), buckets.sources.len()), (REMEMBERED.get(), REMEMBERED.get()));
    }

    #[test]
    fn what_was_right_is_forgotten_when_it_is_wrong() {
        let throttle = Throttle::new();
        throttle.note("a", true);
        assert!(throttle.was_right("a") && !throttle.was_right("b"));
        throttle.note("a", false);
        assert!(!throttle.was_right("a"));
        for i in 0..=REMEMBERED.get() {
            throttle.note(&i.to_string(), true);
        }
        assert_eq!(throttle.0.lock().unwrap().right.len(), REMEMBERED.get());
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out_for_long() {
        let throttle = Throttle::new();
        let who = Who::new("a", Some("192.0.2.1"));
        fail(&throttle, &who, CLIENT.failures);
        assert_eq!(throttle.check(&who, NOW - 500), Err(3));
        throttle.failed(&who, NOW - 500);
        assert_eq!(throttle.check(&who, NOW - 500 + CLIENT.seconds * CLIENT.failures), Ok(()));
    }
}
