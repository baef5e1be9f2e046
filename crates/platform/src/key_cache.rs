//! What the store has said about API keys, by the id of the key. Bounded in size and age.
//!
//! Two caches, so that a flood of made-up ids drives out other made-up ids and never a key that exists. Nothing here is
//! kept by a key's secret: the secret is checked against the record anew at every request, as are its dates.
//!
//! Times are seconds of the wall clock. A clock that was set back makes an age unknown, and unknown counts as too old.

use std::time::Duration;

use authz::{ApiKeyRecord, KeyRecordLookup};
use lru::LruCache;

/// A record answers for this long after it was asked for. It bounds how late a revoked key is noticed.
pub const FRESH_FOR: Duration = Duration::from_secs(60);

/// While the store cannot be reached, a record serves until this age, and then no more.
pub const MAX_STALE: Duration = Duration::from_secs(300);

/// "There is no such key" answers for this long, and so does a record that cannot be read. It bounds how late a new key
/// is noticed where it was tried too early. A secret that does not fit its record is an answer of this kind, too.
pub const NEGATIVE_FOR: Duration = Duration::from_secs(10);

/// After a failure the store is not asked for the same key for this long.
pub const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Records that are kept; the least recently used goes.
pub const MAX_RECORDS: usize = 8_000;

/// Ids without a record that are kept; the least recently used goes.
pub const MAX_NEGATIVES: usize = 2_000;

/// The answers at hand.
pub(crate) struct KeyCache {
    records: LruCache<String, Held>,
    negatives: LruCache<String, Negative>,
}

struct Held {
    record: ApiKeyRecord,
    asked_at: u64,
    failed_at: Option<u64>,
}

struct Negative {
    answer: KeyRecordLookup,
    at: u64,
    lasts: Duration,
}

/// An answer out of the cache.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Cached {
    /// What the store said not long ago.
    Fresh(KeyRecordLookup),
    /// An older record: the store could not be reached a moment ago.
    Stale(KeyRecordLookup),
    /// The store could not be reached a moment ago, and there is no record that may be used.
    Failed,
}

impl KeyCache {
    pub(crate) fn new() -> Self {
        // Bounded below: a cache with a capacity takes the memory for it at once, on the start path.
        Self { records: LruCache::unbounded(), negatives: LruCache::unbounded() }
    }

    /// How many answers there are.
    pub(crate) fn len(&self) -> usize {
        self.records.len() + self.negatives.len()
    }

    /// The answer for `id`, unless the store has to be asked. A record counts as fresh for `fresh_for`.
    pub(crate) fn get(&mut self, id: &str, now: u64, fresh_for: Duration) -> Option<Cached> {
        if let Some(held) = self.records.get(id) {
            let found = || KeyRecordLookup::Found(held.record.clone());
            if younger(held.asked_at, now, fresh_for) {
                return Some(Cached::Fresh(found()));
            }
            let resting = held.failed_at.is_some_and(|at| younger(at, now, RETRY_AFTER));
            return (resting && younger(held.asked_at, now, MAX_STALE)).then(|| Cached::Stale(found()));
        }
        let negative = self.negatives.get(id).filter(|negative| younger(negative.at, now, negative.lasts))?;
        Some(match (&negative.answer, negative.lasts == RETRY_AFTER) {
            (_, true) => Cached::Failed,
            (answer, false) => Cached::Fresh(answer.clone()),
        })
    }

    /// The store, asked at `asked_at`, has this record. The moment before the question counts: the record may have been
    /// changed while the answer was on its way.
    pub(crate) fn found(&mut self, id: &str, record: &ApiKeyRecord, asked_at: u64) {
        self.negatives.pop(id);
        self.records.put(id.to_owned(), Held { record: record.clone(), asked_at, failed_at: None });
        if self.records.len() > MAX_RECORDS {
            self.records.pop_lru();
        }
    }

    /// The store, asked at `asked_at`, has no record, or none that can be read.
    pub(crate) fn no_record(&mut self, id: &str, answer: KeyRecordLookup, asked_at: u64) {
        self.records.pop(id);
        self.negative(id, Negative { answer, at: asked_at, lasts: NEGATIVE_FOR });
    }

    /// The store could not be reached; `now` is the moment after. The record that may serve on, if there is one.
    pub(crate) fn failed(&mut self, id: &str, now: u64) -> Option<ApiKeyRecord> {
        if let Some(held) = self.records.get_mut(id).filter(|held| younger(held.asked_at, now, MAX_STALE)) {
            held.failed_at = Some(now);
            return Some(held.record.clone());
        }
        self.records.pop(id);
        self.negative(id, Negative { answer: KeyRecordLookup::Unavailable, at: now, lasts: RETRY_AFTER });
        None
    }

    fn negative(&mut self, id: &str, negative: Negative) {
        self.negatives.put(id.to_owned(), negative);
        if self.negatives.len() > MAX_NEGATIVES {
            self.negatives.pop_lru();
        }
    }
}

/// Whether what happened at `since` is less than `limit` ago. Whole seconds: never more than `limit` of real time.
pub(crate) fn younger(since: u64, now: u64, limit: Duration) -> bool {
    now.checked_sub(since).is_some_and(|age| age < limit.as_secs())
}

#[cfg(test)]
mod tests {
    use authz::KeyState;

    use super::*;

    const T: u64 = 1_000_000;

    fn record(id: &str) -> ApiKeyRecord {
        ApiKeyRecord {
            id: id.to_owned(),
            client_id: "reader".to_owned(),
            environment: "dev".to_owned(),
            hashes: vec!["00".repeat(32)],
            scope: String::new(),
            audiences: Vec::new(),
            state: KeyState::Active,
            not_before: None,
            expires_at: None,
            ..ApiKeyRecord::default()
        }
    }

    fn found(id: &str) -> KeyRecordLookup {
        KeyRecordLookup::Found(record(id))
    }

    #[test]
    fn a_record_is_fresh_for_its_time_and_not_a_second_more() {
        let mut cache = KeyCache::new();
        cache.found("a", &record("a"), T);
        for (now, expected) in [
            (T, Some(Cached::Fresh(found("a")))),
            (T + FRESH_FOR.as_secs() - 1, Some(Cached::Fresh(found("a")))),
            (T + FRESH_FOR.as_secs(), None),
            // The clock was set back: the age is unknown.
            (T - 1, None),
        ] {
            assert_eq!(cache.get("a", now, FRESH_FOR), expected, "{now}");
        }
        assert_eq!(cache.get("a", T + NEGATIVE_FOR.as_secs(), NEGATIVE_FOR), None);
    }

    #[test]
    fn an_outage_is_survived_until_the_hard_age_alone() {
        let mut cache = KeyCache::new();
        cache.found("a", &record("a"), T);
        let old = T + FRESH_FOR.as_secs();
        assert_eq!(cache.failed("a", old), Some(record("a")));
        assert_eq!(cache.get("a", old + RETRY_AFTER.as_secs() - 1, FRESH_FOR), Some(Cached::Stale(found("a"))));
        assert_eq!(cache.get("a", old + RETRY_AFTER.as_secs(), FRESH_FOR), None, "asked again");
        let last = T + MAX_STALE.as_secs() - 1;
        assert_eq!(cache.failed("a", last), Some(record("a")));
        assert_eq!(cache.get("a", last, FRESH_FOR), Some(Cached::Stale(found("a"))));
        assert_eq!(cache.get("a", last + 1, FRESH_FOR), None, "too old, although the failure is new");
        assert_eq!(cache.failed("a", last + 1), None);
        assert_eq!(cache.get("a", last + 1, FRESH_FOR), Some(Cached::Failed));
        assert_eq!(cache.get("a", last + 1 + RETRY_AFTER.as_secs(), FRESH_FOR), None);
    }

    #[test]
    fn a_clock_set_back_ends_what_serves_on() {
        let mut cache = KeyCache::new();
        cache.found("a", &record("a"), T);
        cache.failed("a", T + FRESH_FOR.as_secs());
        assert_eq!(cache.get("a", T - 1, FRESH_FOR), None);
        assert_eq!(cache.failed("a", T - 1), None);
    }

    #[test]
    fn no_record_is_short_lived_and_replaces_what_was_held() {
        let mut cache = KeyCache::new();
        cache.found("a", &record("a"), T);
        for answer in [KeyRecordLookup::NotFound, KeyRecordLookup::Unavailable] {
            cache.no_record("a", answer.clone(), T);
            let last = T + NEGATIVE_FOR.as_secs() - 1;
            assert_eq!(cache.get("a", last, FRESH_FOR), Some(Cached::Fresh(answer.clone())));
            assert_eq!(cache.get("a", last + 1, FRESH_FOR), None);
            assert_eq!(cache.get("a", T - 1, FRESH_FOR), None);
            assert_eq!(cache.failed("a", T), None, "the old record is gone: {answer:?}");
        }
        cache.no_record("a", KeyRecordLookup::NotFound, T);
        cache.found("a", &record("a"), T);
        assert_eq!(cache.get("a", T, FRESH_FOR), Some(Cached::Fresh(found("a"))));
    }

    #[test]
    fn made_up_ids_never_drive_out_a_record() {
        let mut cache = KeyCache::new();
        cache.found("live", &record("live"), T);
        for n in 0..=MAX_NEGATIVES {
            cache.no_record(&n.to_string(), KeyRecordLookup::NotFound, T);
        }
        for n in 0..=MAX_NEGATIVES {
            cache.failed(&format!("down {n}"), T);
        }
        assert_eq!(cache.negatives.len(), MAX_NEGATIVES);
        assert_eq!(cache.get("live", T, FRESH_FOR), Some(Cached::Fresh(found("live"))));
    }

    #[test]
    fn the_least_recently_used_record_goes() {
        let mut cache = KeyCache::new();
        for n in 0..MAX_RECORDS {
            cache.found(&n.to_string(), &record("x"), T);
        }
        assert!(cache.get("0", T, FRESH_FOR).is_some(), "the bound itself is kept");
        cache.found("one more", &record("x"), T);
        assert_eq!(cache.records.len(), MAX_RECORDS);
        assert!(cache.get("0", T, FRESH_FOR).is_some(), "used a moment ago");
        assert_eq!(cache.get("1", T, FRESH_FOR), None);
    }
}
