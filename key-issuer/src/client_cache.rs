//! Records of clients, remembered for a minute, so that a token for a client that was seen before costs no table read.
//!
//! What this means: a client that is disabled, or loses a right, can get tokens for [`FRESH_SECONDS`] more in execution
//! environments that remember it. A right or a secret that is added counts at once when the client uses it to
//! authenticate, for a wrong credential is never answered by an old record, see [`Age::New`].

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use platform::store::StoreError;
use platform::table::TableOf;

use crate::client::ClientRecord;

/// How long a record is used after it was asked for, in seconds.
pub(crate) const FRESH_SECONDS: u64 = 60;

/// How many records are remembered; the least recently used goes. Clients that do not exist are not remembered, so that
/// made-up names drive nobody out.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();

/// How old a record may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// As old as the cache lets it become.
    Any,
    /// Read now.
    New,
}

/// The table of clients with a memory.
pub(crate) struct ClientCache {
    table: TableOf<ClientRecord>,
    held: Mutex<Option<LruCache<String, Held>>>,
}

struct Held {
    record: ClientRecord,
    asked_at: u64,
}

impl Held {
    /// A clock that was set back makes an age unknown, and unknown counts as too old.
    fn is_young(&self, now: u64) -> bool {
        now.checked_sub(self.asked_at).is_some_and(|age| age < FRESH_SECONDS)
    }
}

impl ClientCache {
    /// Nothing is remembered.
    pub(crate) fn new(table: TableOf<ClientRecord>) -> Self {
        // The memory is taken at the first use: this is on the start path.
        Self { table, held: Mutex::new(None) }
    }

    /// The table itself, for those who write to it; they [`forget`](Self::forget) what they change.
    #[allow(dead_code, reason = "the administration of clients uses it")]
    pub(crate) fn table(&self) -> &TableOf<ClientRecord> {
        &self.table
    }

    /// The record of a client, if there is one; `now` is in seconds since 1970.
    ///
    /// # Errors
    /// When the table has to be asked and does not answer. An old record does not stand in: it may be disabled by now.
    pub(crate) async fn get(&self, client_id: &str, now: u64, age: Age) -> Result<Option<ClientRecord>, StoreError> {
        if age == Age::Any
            && let Some(record) = self.remembered(client_id, now)
        {
            return Ok(Some(record));
        }
        let found = self.table.get(client_id).await?.map(|held| held.value);
        let mut held = self.held();
        let held = held.get_or_insert_with(|| LruCache::new(REMEMBERED));
        match &found {
            // The moment before the question counts: the record may have been changed while the answer was on its way.
            Some(record) => {
                held.put(client_id.to_owned(), Held { record: record.clone(), asked_at: now });
            }
            None => {
                held.pop(client_id);
            }
        }
        Ok(found)
    }

    /// Whether [`Age::Any`] is answered from memory.
    pub(crate) fn remembers(&self, client_id: &str, now: u64) -> bool {
        self.held().as_ref().and_then(|held| held.peek(client_id)).is_some_and(|held| held.is_young(now))
    }

    /// What the record of a client was when it was last read, however long ago. It is good for a guess, and for nothing
    /// else.
    pub(crate) fn last_known(&self, client_id: &str) -> Option<ClientRecord> {
        self.held().as_ref()?.peek(client_id).map(|held| held.record.clone())
    }

    /// Forgets a client that was changed.
    #[allow(dead_code, reason = "the administration of clients uses it")]
    pub(crate) fn forget(&self, client_id: &str) {
        if let Some(held) = self.held().as_mut() {
            held.pop(client_id);
        }
    }

    fn remembered(&self, client_id: &str, now: u64) -> Option<ClientRecord> {
        let mut held = self.held();
        let found = held.as_mut()?.get(client_id)?;
        found.is_young(now).then(|| found.record.clone())
    }

    fn held(&self) -> MutexGuard<'_, Option<LruCache<String, Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use platform::clock::FixedClock;
    use platform::store::Embedded;

    use super::*;

    fn cache() -> ClientCache {
        let clock = Arc::new(FixedClock::at(1_000));
        ClientCache::new(TableOf::new("clients", Embedded::in_memory().table("clients"), clock))
    }

    #[tokio::test]
    async fn a_record_is_used_for_a_minute_and_not_for_longer() {
        let cache = cache();
        let mut record = ClientRecord::new("a");
        assert!(cache.table().create("a", &record, None).await.unwrap());
        assert_eq!(cache.get("a", 1_000, Age::Any).await.unwrap(), Some(record.clone()));
        record.scopes.push("x".to_owned());
        assert!(cache.table().replace("a", &record, None, 1).await.unwrap());
        for (now, age, changed) in
            [(1_000 + FRESH_SECONDS - 1, Age::Any, false), (1_000 + FRESH_SECONDS, Age::Any, true)]
        {
            let found = cache.get("a", now, age).await.unwrap().unwrap();
            assert_eq!(!found.scopes.is_empty(), changed, "{now}");
        }
        record.scopes.clear();
        assert!(cache.table().replace("a", &record, None, 2).await.unwrap());
        assert!(cache.get("a", 1_061, Age::Any).await.unwrap().is_some_and(|record| !record.scopes.is_empty()));
        assert!(cache.remembers("a", 1_061) && !cache.remembers("b", 1_061));
        assert!(
            cache.last_known("a").is_some_and(|record| !record.scopes.is_empty()) && cache.last_known("b").is_none()
        );
        // A clock that is set back.
        assert!(!cache.remembers("a", 1_059));
        assert!(cache.get("a", 1_059, Age::Any).await.unwrap().is_some_and(|record| record.scopes.is_empty()));
    }

    #[tokio::test]
    async fn what_is_new_or_forgotten_is_read() {
        let cache = cache();
        let mut record = ClientRecord::new("a");
        assert_eq!(cache.get("a", 1_000, Age::Any).await.unwrap(), None);
        assert!(cache.table().create("a", &record, None).await.unwrap());
        assert!(cache.get("a", 1_000, Age::Any).await.unwrap().is_some(), "an absent client is not remembered");
        record.scopes.push("x".to_owned());
        assert!(cache.table().replace("a", &record, None, 1).await.unwrap());
        assert!(cache.get("a", 1_001, Age::New).await.unwrap().is_some_and(|found| found == record));
        assert!(cache.table().delete("a", 2).await.unwrap());
        assert!(cache.get("a", 1_001, Age::Any).await.unwrap().is_some());
        cache.forget("a");
        assert!(cache.get("a", 1_001, Age::Any).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn the_memory_is_bounded() {
        let cache = cache();
        for place in 0..=REMEMBERED.get() {
            let record = ClientRecord::new(format!("c{place}"));
            assert!(cache.table().create(&record.client_id, &record, None).await.unwrap());
            assert!(cache.get(&record.client_id, 1_000, Age::Any).await.unwrap().is_some());
        }
        assert_eq!(cache.held().as_ref().map(LruCache::len), Some(REMEMBERED.get()));
        assert!(cache.remembered("c0", 1_000).is_none() && cache.remembered("c1", 1_000).is_some());
    }
}
