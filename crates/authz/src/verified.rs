//! Tokens whose signature has been verified before.
//!
//! What is remembered is that one key set found one signature good, and what the token says. Time, issuer, audience,
//! revocation and binding are no part of that: whoever asks makes these checks again, and a decision is the same with the
//! cache as without it. It goes by the content of the key set, so that a key that was taken out of its set is gone here at
//! once, and a set that was fetched again unchanged loses nothing.

use std::fmt;
use std::mem::size_of;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{Context, SHA256};
use lru::LruCache;

use crate::claims::Json;
use crate::compiled::Mode;
use crate::jwk::Fingerprint;
use crate::jwt::{Contents, longest};

/// Key sets that are remembered for one token. Several rules may accept one token, each by a key set of its own.
const MAX_SETS: usize = 4;

/// Names of tokens that are kept for one request: two hops look at so many different ones at most.
const MAX_NAMES: usize = 16;

/// What an entry takes beside what it says: its places in the map and in the list, counted generously.
const OVERHEAD: usize = 256;

/// A name for the text of a token in one mode: SHA-256 of both. The text itself is not kept.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub(crate) struct TokenId([u8; 32]);

impl TokenId {
    /// `None` for a text that is too long to be a token.
    pub(crate) fn of(text: &str, mode: Mode) -> Option<Self> {
        if text.len() > longest(mode) {
            return None;
        }
        let mode = match mode {
            Mode::Strict => 0,
            Mode::Istio => 1,
        };
        let mut hash = Context::new(&SHA256);
        hash.update(&[mode]);
        hash.update(text.as_bytes());
        let mut id = [0; 32];
        id.copy_from_slice(hash.finish().as_ref());
        Some(Self(id))
    }
}

/// What a token says, and the key sets that found its signature good. Never printed: claims tell of people.
pub(crate) struct VerifiedToken {
    contents: Contents,
    /// The oldest first.
    sets: Vec<Fingerprint>,
    /// What it takes, in bytes.
    weight: usize,
}

impl VerifiedToken {
    pub(crate) fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Whether the key set with this fingerprint found the signature good.
    pub(crate) fn is_signed_for(&self, keys: Fingerprint) -> bool {
        self.sets.contains(&keys)
    }
}

/// A bounded cache of verified tokens. The one that was not used for the longest time goes first.
pub struct VerifiedTokens {
    shared: Arc<Shared>,
    /// The tokens of one request, each with its name.
    names: Option<Mutex<Vec<Named>>>,
}

/// The text of a token in a mode, and its name. Never printed.
type Named = (Box<str>, Mode, TokenId);

struct Shared {
    held: Mutex<Held>,
    max_entries: usize,
    max_bytes: usize,
    hits: AtomicU64,
    misses: AtomicU64,
}

struct Held {
    tokens: LruCache<TokenId, Arc<VerifiedToken>>,
    bytes: usize,
}

impl Default for VerifiedTokens {
    fn default() -> Self {
        Self::with_limits(Self::MAX_ENTRIES, Self::MAX_BYTES)
    }
}

impl fmt::Debug for VerifiedTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedTokens")
            .field("len", &self.len())
            .field("hits", &self.hits())
            .field("misses", &self.misses())
            .finish_non_exhaustive()
    }
}

impl VerifiedTokens {
    /// Tokens that the default keeps at most.
    pub const MAX_ENTRIES: usize = 10_000;

    /// Bytes of claims that the default keeps at most.
    pub const MAX_BYTES: usize = 32 * 1024 * 1024;

    /// A cache of at most `max_entries` tokens and `max_bytes` bytes of memory. A token that is heavier than that alone is
    /// verified each time.
    pub fn with_limits(max_entries: usize, max_bytes: usize) -> Self {
        // Without a bound of its own, which it would take memory for at once.
        let held = Held { tokens: LruCache::unbounded(), bytes: 0 };
        let (hits, misses) = (AtomicU64::new(0), AtomicU64::new(0));
        let shared = Shared { held: Mutex::new(held), max_entries, max_bytes, hits, misses };
        Self { shared: Arc::new(shared), names: None }
    }

    /// The same cache for one request: a token has its name computed once, and not at each of the four looks that two hops
    /// take, which was a fifth of a decision's instructions. The text of the token is kept as long as this is, no longer
    /// than the request.
    #[must_use]
    pub fn for_request(&self) -> Self {
        Self { shared: self.shared.clone(), names: Some(Mutex::default()) }
    }

    /// How many signatures were known to be good: a count since the start, for metrics.
    pub fn hits(&self) -> u64 {
        self.shared.hits.load(Ordering::Relaxed)
    }

    /// How many signatures had to be verified: a count since the start, for metrics.
    pub fn misses(&self) -> u64 {
        self.shared.misses.load(Ordering::Relaxed)
    }

    /// How many tokens are known.
    pub fn len(&self) -> usize {
        self.shared.held.lock().map_or(0, |held| held.tokens.len())
    }

    /// Whether no token is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn count_hit(&self) {
        self.shared.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_miss(&self) {
        self.shared.misses.fetch_add(1, Ordering::Relaxed);
    }

    /// The name of a token; `None` for a text that is too long to be one.
    pub(crate) fn name(&self, text: &str, mode: Mode) -> Option<TokenId> {
        let mut names = self.names.as_ref().and_then(|names| names.lock().ok());
        let known =
            names.as_ref().and_then(|names| names.iter().find(|(known, of, _)| **known == *text && *of == mode));
        if let Some((_, _, id)) = known {
            return Some(*id);
        }
        let id = TokenId::of(text, mode)?;
        if let Some(names) = names.as_mut().filter(|names| names.len() < MAX_NAMES) {
            names.push((text.into(), mode, id));
        }
        Some(id)
    }

    // In each of these a poisoned lock is as if there were no cache: what was left behind half done is not looked at.

    /// What is known of a token.
    pub(crate) fn find(&self, id: &TokenId) -> Option<Arc<VerifiedToken>> {
        self.shared.held.lock().ok()?.tokens.get(id).cloned()
    }

    /// Takes note that the key set `keys` found the signature of a token good.
    pub(crate) fn remember(&self, id: TokenId, contents: Contents, keys: Fingerprint) {
        let mut sets = self.find(&id).map(|known| known.sets.clone()).unwrap_or_default();
        sets.retain(|set| *set != keys);
        if sets.len() >= MAX_SETS {
            sets.remove(0);
        }
        sets.push(keys);
        let weight = OVERHEAD
            + size_of::<VerifiedToken>()
            + sets.capacity() * size_of::<Fingerprint>()
            + contents.kid.as_ref().map_or(0, String::capacity)
            + size_of::<Json>()
            + heap_bytes(&contents.claims);
        if weight > self.shared.max_bytes {
            return;
        }
        let token = Arc::new(VerifiedToken { contents, sets, weight });
        let mut gone = Vec::new();
        if let Ok(mut held) = self.shared.held.lock() {
            held.bytes += weight;
            gone.extend(held.tokens.put(id, token).inspect(|old| held.bytes -= old.weight));
            while held.tokens.len() > self.shared.max_entries || held.bytes > self.shared.max_bytes {
                let Some((_, oldest)) = held.tokens.pop_lru() else { break };
                held.bytes -= oldest.weight;
                gone.push(oldest);
            }
        }
        // Freed behind the lock: claims may be many small pieces.
        drop(gone);
    }

    /// Takes a token out that nobody will accept again.
    pub(crate) fn forget(&self, id: &TokenId) {
        let gone = self.shared.held.lock().ok().and_then(|mut held| {
            let gone = held.tokens.pop(id)?;
            held.bytes -= gone.weight;
            Some(gone)
        });
        drop(gone);
    }
}

/// The memory behind a value, without the value itself. Nesting is bounded where JSON is read.
fn heap_bytes(json: &Json) -> usize {
    match json {
        Json::Null | Json::Bool(_) | Json::Unsigned(_) | Json::Float(_) => 0,
        Json::String(text) => text.capacity(),
        Json::List(values) => values.capacity() * size_of::<Json>() + values.iter().map(heap_bytes).sum::<usize>(),
        Json::Object(members) => {
            let inside = members.iter().map(|(name, value)| name.capacity() + heap_bytes(value)).sum::<usize>();
            members.capacity() * size_of::<(String, Json)>() + inside
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;
    use crate::jwk::{Jwks, KeyOrigin};
    use crate::jwt::UnverifiedToken;

    /// Token number `n`, its claims of about `size` bytes.
    fn token(n: usize, size: usize) -> (TokenId, Contents) {
        let claims = format!(r#"{{"sub":"s3cret{n}","exp":1,"x":"{}"}}"#, "x".repeat(size));
        let [header, claims] = [r#"{"alg":"ES256"}"#, claims.as_str()].map(|part| URL_SAFE_NO_PAD.encode(part));
        let text = format!("{header}.{claims}.AA");
        let contents = UnverifiedToken::parse(&text, Mode::Strict).unwrap().contents().clone();
        (TokenId::of(&text, Mode::Strict).unwrap(), contents)
    }

    fn set(n: usize) -> Fingerprint {
        let document = format!("{{\"keys\":[]{}}}", " ".repeat(n));
        Jwks::parse(&document, KeyOrigin::Fetched).unwrap().fingerprint()
    }

    fn remember(cache: &VerifiedTokens, n: usize, size: usize) {
        let (id, contents) = token(n, size);
        cache.remember(id, contents, set(0));
    }

    fn known(cache: &VerifiedTokens) -> Vec<usize> {
        let held = cache.shared.held.lock().unwrap();
        assert_eq!(held.bytes, held.tokens.iter().map(|(_, token)| token.weight).sum::<usize>());
        (0..10).filter(|&n| held.tokens.contains(&token(n, 10).0)).collect()
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let cache = VerifiedTokens::with_limits(3, 1 << 20);
        for n in 0..3 {
            remember(&cache, n, 10);
        }
        assert_eq!(known(&cache), [0, 1, 2]);
        assert!(cache.find(&token(0, 10).0).is_some());
        remember(&cache, 3, 10);
        assert_eq!(known(&cache), [0, 2, 3]);
        // What is put in again is used, and takes no second place.
        remember(&cache, 2, 10);
        remember(&cache, 4, 10);
        assert_eq!(known(&cache), [2, 3, 4]);
        cache.forget(&token(3, 10).0);
        cache.forget(&token(3, 10).0);
        assert_eq!(known(&cache), [2, 4]);
        remember(&cache, 5, 10);
        assert_eq!((known(&cache), cache.len()), (vec![2, 4, 5], 3));
    }

    #[test]
    fn bytes_are_bounded() {
        let one = VerifiedTokens::default();
        remember(&one, 0, 10);
        let weight = one.shared.held.lock().unwrap().bytes;
        // Nothing that a token says is left out.
        remember(&one, 1, 4_000);
        assert!((2 * weight + 3_990..2 * weight + 6_000).contains(&one.shared.held.lock().unwrap().bytes));

        let cache = VerifiedTokens::with_limits(100, 3 * weight);
        for n in 0..3 {
            remember(&cache, n, 10);
        }
        assert_eq!(known(&cache), [0, 1, 2]);
        remember(&cache, 3, 10);
        assert_eq!(known(&cache), [1, 2, 3]);
        // A heavy one takes the place of several, and one that is too heavy takes none.
        let (id, contents) = token(4, 10 + weight);
        cache.remember(id, contents, set(0));
        assert_eq!((known(&cache), cache.len()), (vec![3], 2));
        remember(&cache, 5, 3 * weight);
        assert_eq!(cache.len(), 2);
        remember(&VerifiedTokens::with_limits(100, weight), 0, 10);
        let exact = VerifiedTokens::with_limits(100, weight);
        remember(&exact, 0, 10);
        let short = VerifiedTokens::with_limits(100, weight - 1);
        remember(&short, 0, 10);
        let none = VerifiedTokens::with_limits(0, weight);
        remember(&none, 0, 10);
        assert_eq!((exact.len(), short.is_empty(), none.is_empty()), (1, true, true));
    }

    #[test]
    fn all_of_a_value_is_weighed() {
        let weigh = |text: &str| heap_bytes(&Json::parse(text.as_bytes(), crate::claims::TOKEN_LIMITS).unwrap());
        let (value, member) = (size_of::<Json>(), size_of::<(String, Json)>());
        assert_eq!((weigh("1"), weigh("null"), weigh("[]"), weigh("{}")), (0, 0, 0, 0));
        assert!(weigh("\"four\"") >= 4);
        assert!(weigh(r#"[1,2,"four"]"#) >= 3 * value + 4);
        assert!(weigh(r#"{"four":[[1]],"five5":"six666"}"#) >= 2 * member + 2 * value + 4 + 5 + 6);
    }

    #[test]
    fn a_token_knows_a_few_key_sets() {
        let cache = VerifiedTokens::default();
        let (id, contents) = token(0, 10);
        assert!(cache.find(&id).is_none());
        for n in 0..=MAX_SETS {
            cache.remember(id, contents.clone(), set(n));
            cache.remember(id, contents.clone(), set(n));
            assert!(cache.find(&id).unwrap().is_signed_for(set(n)));
        }
        let token = cache.find(&id).unwrap();
        assert_eq!((0..=MAX_SETS + 1).filter(|&n| token.is_signed_for(set(n))).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(known(&cache), [0]);
    }

    #[test]
    fn names_and_fingerprints_tell_apart_what_is_different() {
        let id = |text: &str, mode| TokenId::of(text, mode);
        assert!(id("a", Mode::Strict) == id("a", Mode::Strict));
        assert!(id("a", Mode::Strict) != id("a", Mode::Istio));
        assert!(id("a", Mode::Strict) != id("b", Mode::Strict));
        let long = "a".repeat(crate::jwt::MAX_BYTES + 1);
        assert!(id(&long, Mode::Strict).is_none() && id(&long, Mode::Istio).is_some());
        assert!(id(&long[1..], Mode::Strict).is_some());
        assert!(id(&"a".repeat(crate::jwt::ISTIO_MAX_BYTES + 1), Mode::Istio).is_none());

        let set = |document, origin, mode| Jwks::parse_as(document, origin, mode).unwrap().fingerprint();
        let (empty, spaced) = (r#"{"keys":[]}"#, r#"{"keys": []}"#);
        let all = [
            set(empty, KeyOrigin::Inline, Mode::Strict),
            set(empty, KeyOrigin::Fetched, Mode::Strict),
            set(empty, KeyOrigin::Fetched, Mode::Istio),
            set(spaced, KeyOrigin::Fetched, Mode::Istio),
        ];
        assert_eq!(std::collections::BTreeSet::from(all).len(), 4);
        assert_eq!(all[0], set(empty, KeyOrigin::Inline, Mode::Strict));
    }

    #[test]
    fn a_request_shares_the_cache_and_names_what_it_sees_once() {
        let cache = VerifiedTokens::default();
        let request = cache.for_request();
        let (id, contents) = token(0, 10);
        request.remember(id, contents, set(0));
        request.count_hit();
        assert!(cache.find(&id).is_some());
        assert_eq!((cache.hits(), cache.for_request().len()), (1, 1));
        for _ in 0..2 {
            for n in 0..=MAX_NAMES {
                let text = n.to_string();
                for mode in [Mode::Strict, Mode::Istio] {
                    assert!(request.name(&text, mode) == TokenId::of(&text, mode));
                    assert!(cache.name(&text, mode) == TokenId::of(&text, mode));
                }
            }
        }
        assert_eq!(request.names.as_ref().unwrap().lock().unwrap().len(), MAX_NAMES);
        assert!(cache.names.is_none());
        let long = "a".repeat(crate::jwt::MAX_BYTES + 1);
        assert!(request.name(&long, Mode::Strict).is_none());
    }

    #[test]
    fn a_poisoned_lock_is_no_cache() {
        let cache = VerifiedTokens::default();
        remember(&cache, 0, 10);
        let panicked = std::thread::scope(|scope| {
            let held = scope.spawn(|| {
                let _held = cache.shared.held.lock().unwrap();
                panic!("on purpose");
            });
            held.join().is_err()
        });
        assert!(panicked);
        let (id, contents) = token(0, 10);
        assert!(cache.find(&id).is_none());
        cache.remember(id, contents, set(0));
        cache.forget(&id);
        assert!(cache.find(&id).is_none() && cache.is_empty());
    }

    #[test]
    fn nothing_of_a_token_is_printed() {
        let cache = VerifiedTokens::default();
        remember(&cache, 0, 10);
        assert_eq!(format!("{cache:?}"), "VerifiedTokens { len: 1, hits: 0, misses: 0, .. }");
        assert_eq!(format!("{:?}", set(0)), "Fingerprint(..)");
    }
}
