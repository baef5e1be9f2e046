//! The tokens that are held, and the failures that are remembered, by key and audience.

use std::sync::Arc;

use lru::LruCache;

use super::{Digest, Failure, Token};

/// Keys that are remembered; the least recently used goes.
pub const MAX_ENTRIES: usize = 10_000;

/// A token is asked for again so long before its end, in seconds; one that lives for less than twice that, at half of
/// its life.
pub const REFRESH_BEFORE: u64 = 60;

/// A token is not used any more so long before its end, in seconds: the mesh looks at it later than the adapter.
pub(super) const LAST: u64 = 5;

/// After the issuer could not be asked about a key, the next attempt for that key waits this long, in seconds.
pub const RETRY_AFTER: u64 = 2;

/// After the issuer has refused a key, it is not asked about it again for this long, in seconds.
pub const REFUSED_FOR: u64 = 30;

#[derive(Default)]
struct Entry {
    token: Option<Arc<Token>>,
    failure: Option<(Failure, u64)>,
}

/// What there is for a key.
#[derive(Debug)]
pub(super) enum Found {
    /// A token that may be used.
    Fresh(Arc<Token>),
    /// The same, but a new one should be asked for.
    Due(Arc<Token>),
    /// The same, but asking has failed a moment ago.
    Resting(Arc<Token>),
    /// No token, and asking has failed a moment ago.
    Failed(Failure),
    /// Nothing.
    Nothing,
}

/// Tokens and failures. Bounded.
pub(super) struct Cache(LruCache<Digest, Entry>);

impl Cache {
    pub(super) fn new() -> Self {
        // Bounded in `put`: with a capacity it takes the memory for it at once.
        Self(LruCache::unbounded())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What there is for a key now. A clock that was set back makes an age unknown; the end of a token counts all the
    /// same.
    pub(super) fn get(&mut self, key: &Digest, now: u64) -> Found {
        let Some(Entry { token, failure }) = self.0.get(key) else { return Found::Nothing };
        let failure = failure.as_ref().filter(|(failure, at)| {
            let rest = match failure {
                Failure::Refused(_) => REFUSED_FOR,
                Failure::Unavailable(_) => RETRY_AFTER,
            };
            now.checked_sub(*at).is_some_and(|age| age < rest)
        });
        match (token.as_ref().filter(|token| now.saturating_add(LAST) < token.expires_at), failure) {
            (Some(token), _) if now < token.refresh_at => Found::Fresh(token.clone()),
            (Some(token), None) => Found::Due(token.clone()),
            (Some(token), Some(_)) => Found::Resting(token.clone()),
            (None, Some((failure, _))) => Found::Failed(failure.clone()),
            (None, None) => Found::Nothing,
        }
    }

    /// Takes note of an exchange. A refusal ends the token that was held: the issuer would not give it any more.
    pub(super) fn put(&mut self, key: Digest, outcome: Result<&Arc<Token>, &Failure>, now: u64) {
        let entry = self.0.get_or_insert_mut(key, Entry::default);
        match outcome {
            Ok(token) => *entry = Entry { token: Some(token.clone()), failure: None },
            Err(failure @ Failure::Refused(_)) => *entry = Entry { token: None, failure: Some((failure.clone(), now)) },
            Err(failure) => entry.failure = Some((failure.clone(), now)),
        }
        if self.0.len() > MAX_ENTRIES {
            self.0.pop_lru();
        }
    }
}

/// From when on a token that was given at `now` is asked for again.
pub(super) fn refresh_at(now: u64, expires_at: u64) -> u64 {
    let life = expires_at.saturating_sub(now);
    expires_at - REFRESH_BEFORE.min(life / 2)
}

#[cfg(test)]
mod tests {
    use identity::Secret;

    use super::super::Outcome;
    use super::*;

    const T: u64 = 1_000_000;

    fn token(life: u64) -> Outcome {
        let bearer = Secret::new("Bearer x".to_owned());
        Ok(Arc::new(Token { bearer, expires_at: T + life, refresh_at: refresh_at(T, T + life) }))
    }

    fn word(found: &Found) -> &'static str {
        match found {
            Found::Fresh(_) => "fresh",
            Found::Due(_) => "due",
            Found::Resting(_) => "resting",
            Found::Failed(Failure::Refused(_)) => "refused",
            Found::Failed(Failure::Unavailable(_)) => "unavailable",
            Found::Nothing => "nothing",
        }
    }

    #[test]
    fn a_token_s_life() {
        let mut cache = Cache::new();
        cache.put([0; 32], token(600).as_ref(), T);
        // A short one is asked for again at half of its life.
        cache.put([1; 32], token(40).as_ref(), T);
        for (key, now, expected) in [
            (0, T, "fresh"),
            (0, T + 539, "fresh"),
            (0, T + 540, "due"),
            (0, T + 594, "due"),
            (0, T + 595, "nothing"),
            (1, T + 19, "fresh"),
            (1, T + 20, "due"),
            (1, T + 34, "due"),
            (1, T + 35, "nothing"),
            (2, T, "nothing"),
        ] {
            assert_eq!(word(&cache.get(&[key; 32], now)), expected, "{key} at {}", now - T);
        }
    }

    #[test]
    fn failures_rest_and_a_refusal_ends_the_token() {
        let mut cache = Cache::new();
        let down: Outcome = Err(Failure::Unavailable(String::new()));
        let no: Outcome = Err(Failure::Refused(String::new()));
        cache.put([0; 32], token(600).as_ref(), T);
        cache.put([0; 32], down.as_ref(), T + 550);
        cache.put([1; 32], down.as_ref(), T);
        cache.put([2; 32], token(600).as_ref(), T);
        cache.put([2; 32], no.as_ref(), T + 550);
        for (key, now, expected) in [
            (0, T + 550, "resting"),
            (0, T + 551, "resting"),
            (0, T + 552, "due"),
            (0, T + 595, "nothing"),
            (1, T, "unavailable"),
            (1, T + 1, "unavailable"),
            (1, T + 2, "nothing"),
            (2, T + 550, "refused"),
            (2, T + 579, "refused"),
            (2, T + 580, "nothing"),
            // The clock was set back: the age of the failure is unknown.
            (2, T + 549, "nothing"),
        ] {
            assert_eq!(word(&cache.get(&[key; 32], now)), expected, "{key} at {}", now - T);
        }
    }

    #[test]
    fn as_many_as_may_be_and_one_more() {
        let mut cache = Cache::new();
        let key = |index: usize| -> Digest {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&index.to_le_bytes());
            key
        };
        (0..MAX_ENTRIES).for_each(|index| cache.put(key(index), token(600).as_ref(), T));
        assert_eq!(word(&cache.get(&key(0), T)), "fresh", "the bound itself is kept");
        cache.put(key(MAX_ENTRIES), token(600).as_ref(), T);
        assert_eq!(cache.len(), MAX_ENTRIES);
        assert_eq!(word(&cache.get(&key(0), T)), "fresh", "used a moment ago");
        assert_eq!(word(&cache.get(&key(1), T)), "nothing");
    }
}
