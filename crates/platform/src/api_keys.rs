//! What the store says about a presented API key, and the pepper that keys are hashed with.
//!
//! Nothing runs in the background: a Lambda is frozen between requests, so ages are looked at when a request comes. A
//! revoked key is noticed [`FRESH_FOR`] after its record was changed at the latest; while the store cannot be reached,
//! [`MAX_STALE`] after its record was last read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use authz::{KeyRecordLookup, PresentedKey};

use crate::clock::Clock;
use crate::key_cache::{Cached, KeyCache};
pub use crate::key_cache::{FRESH_FOR, MAX_NEGATIVES, MAX_RECORDS, MAX_STALE, NEGATIVE_FOR, RETRY_AFTER};
use crate::log::Log;
use crate::outage_log::OutageLog;
use crate::pepper::PepperSource;
pub use crate::pepper::{MIN_PEPPER_BYTES, PEPPER_REREAD_AFTER, PEPPER_TRUSTED_FOR, Pepper};
use crate::secrets::Secrets;
use crate::single_flight::SingleFlight;
use crate::store::{ApiKeys, StoreError};

/// Where API keys are looked up, and what they are hashed with.
#[derive(Clone)]
pub struct ApiKeyStore {
    /// The records.
    pub records: Arc<dyn ApiKeys>,
    /// Where the pepper is.
    pub secrets: Arc<dyn Secrets>,
    /// The id of the secret whose text is the pepper.
    pub pepper_id: String,
}

#[cfg(feature = "aws")]
impl ApiKeyStore {
    /// The store in AWS. Connects to nobody yet.
    pub fn in_aws(config: &ApiKeysConfig) -> Self {
        let clock = Arc::new(crate::clock::SystemClock);
        let aws = Arc::new(crate::aws_json::AwsJson::new(config.aws.clone(), clock));
        Self {
            records: Arc::new(crate::key_store::KeyTable { table: config.table.clone(), aws: aws.clone() }),
            secrets: Arc::new(crate::key_store::KeySecrets { aws }),
            pepper_id: config.pepper_secret.clone(),
        }
    }
}

/// How API keys are configured in AWS.
#[cfg(feature = "aws")]
#[derive(Clone, Debug)]
pub struct ApiKeysConfig {
    /// `CAUSEWAY_API_KEYS_TABLE`: the DynamoDB table.
    pub table: String,
    /// `CAUSEWAY_PEPPER_SECRET`: the id of the secret whose text is the pepper.
    pub pepper_secret: String,
    /// Region, credentials and endpoints.
    pub aws: crate::aws::AwsConfig,
}

#[cfg(feature = "aws")]
impl ApiKeysConfig {
    /// Reads the two variables, and AWS' own when they are there.
    ///
    /// # Errors
    /// One of the two without the other, or a variable of AWS is missing.
    pub fn from_env(env: &crate::env::Reader<'_>) -> Result<Option<Self>, crate::env::EnvError> {
        let Some((table, pepper_secret)) = env.pair("CAUSEWAY_API_KEYS_TABLE", "CAUSEWAY_PEPPER_SECRET")? else {
            return Ok(None);
        };
        Ok(Some(Self { table, pepper_secret, aws: crate::aws::AwsConfig::from_env(env)? }))
    }
}

/// Looks API keys up, and keeps what it learns for a while.
pub struct ApiKeySource {
    cache: Mutex<KeyCache>,
    clock: Arc<dyn Clock>,
    counters: Counters,
    /// The table or the secret cannot be read.
    outage: OutageLog,
    /// A record can be had, but not read.
    damage: OutageLog,
    flights: SingleFlight,
    pepper: PepperSource,
    store: Option<ApiKeyStore>,
}

/// What a presented key is checked against.
#[derive(Clone, Debug)]
pub struct KeyAnswer {
    /// What the store says.
    pub lookup: KeyRecordLookup,
    /// What keys are hashed with, if it is at hand.
    pub pepper: Option<Pepper>,
}

/// How look-ups went since the start; each counts once.
#[derive(Debug, Default)]
pub struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    stale_hits: AtomicU64,
    unavailable: AtomicU64,
}

impl Counters {
    /// Answered from the cache, by a record or by "there is no such key".
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Answered by the store.
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    /// Answered by an older record, because the store could not be reached.
    pub fn stale_hits(&self) -> u64 {
        self.stale_hits.load(Ordering::Relaxed)
    }

    /// Not answered: the key is denied as `api_key_unavailable`.
    pub fn unavailable(&self) -> u64 {
        self.unavailable.load(Ordering::Relaxed)
    }
}

/// A record's answer, and how it was come by.
enum Looked {
    Cached(KeyRecordLookup),
    Asked(KeyRecordLookup),
    Stale(KeyRecordLookup),
    Failed,
}

impl ApiKeySource {
    /// A source that has asked nobody yet. Without a store every key is unavailable.
    pub fn new(store: Option<ApiKeyStore>, clock: Arc<dyn Clock>, log: Log) -> Self {
        let lines = |event| OutageLog::new(event, clock.clone(), log.clone());
        Self {
            cache: Mutex::new(KeyCache::new()),
            counters: Counters::default(),
            outage: lines("api_keys_unavailable"),
            damage: lines("api_key_damaged"),
            flights: SingleFlight::default(),
            pepper: PepperSource::new(clock.clone()),
            clock,
            store,
        }
    }

    /// The pepper, once a key has been looked up.
    pub fn pepper(&self) -> Option<Pepper> {
        self.pepper.held()
    }

    /// How look-ups went.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Keys whose record, or that there is none, is held now.
    pub fn len(&self) -> usize {
        self.cache().len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known of a key. What cannot be had is unavailable, which denies.
    pub async fn look_up(&self, presented: &PresentedKey) -> KeyAnswer {
        let Some(store) = &self.store else {
            self.outage.failed("no store is configured: set CAUSEWAY_API_KEYS_TABLE and CAUSEWAY_PEPPER_SECRET");
            return self.counted(Looked::Failed, None);
        };
        let (looked, pepper) = tokio::join!(
            self.record(store, &presented.id, FRESH_FOR),
            self.pepper.get(store.secrets.as_ref(), &store.pepper_id)
        );
        match pepper {
            Ok(pepper) => {
                if matches!(looked, Looked::Asked(_)) {
                    self.outage.works("api_keys_available");
                }
                self.counted(looked, Some(pepper))
            }
            Err(error) => {
                self.outage.failed(&error);
                self.counted(Looked::Failed, None)
            }
        }
    }

    /// What is known now of a key that did not fit `answer`; `None` if that is no more than before. Its record or the
    /// pepper may have been changed since they were read. Bounded, since anybody can present a wrong key: a record is
    /// read again once in [`NEGATIVE_FOR`], the pepper once in [`PEPPER_REREAD_AFTER`] and not before it is
    /// [`PEPPER_TRUSTED_FOR`] old.
    pub async fn look_again(&self, presented: &PresentedKey, answer: &KeyAnswer) -> Option<KeyAnswer> {
        let store = self.store.as_ref()?;
        // An id without a record fits no pepper.
        let KeyRecordLookup::Found(_) = answer.lookup else { return None };
        let (looked, pepper) = tokio::join!(
            self.record(store, &presented.id, NEGATIVE_FOR),
            self.pepper.after_mismatch(store.secrets.as_ref(), &store.pepper_id)
        );
        let now = match (looked, pepper) {
            (Looked::Cached(lookup) | Looked::Asked(lookup) | Looked::Stale(lookup), Ok(pepper)) => {
                KeyAnswer { lookup, pepper: Some(pepper) }
            }
            (Looked::Failed, Ok(pepper)) => KeyAnswer { lookup: KeyRecordLookup::Unavailable, pepper: Some(pepper) },
            (_, Err(error)) => {
                self.outage.failed(&error);
                KeyAnswer { lookup: KeyRecordLookup::Unavailable, pepper: None }
            }
        };
        let same_pepper = match (&now.pepper, &answer.pepper) {
            (Some(now), Some(before)) => Arc::ptr_eq(now, before),
            _ => false,
        };
        (!same_pepper || now.lookup != answer.lookup).then_some(now)
    }

    async fn record(&self, store: &ApiKeyStore, id: &str, fresh_for: Duration) -> Looked {
        if let Some(looked) = self.cached(id, fresh_for) {
            return looked;
        }
        let _turn = self.flights.turn(id).await;
        if let Some(looked) = self.cached(id, fresh_for) {
            return looked;
        }
        let asked_at = self.clock.unix();
        match store.records.get(id).await {
            Ok(Some(record)) => {
                self.cache().found(id, &record, asked_at);
                Looked::Asked(KeyRecordLookup::Found(record))
            }
            Ok(None) => {
                self.cache().no_record(id, KeyRecordLookup::NotFound, asked_at);
                Looked::Asked(KeyRecordLookup::NotFound)
            }
            // The store was reached: what it had before counts no more.
            Err(error @ StoreError::Malformed { .. }) => {
                self.cache().no_record(id, KeyRecordLookup::Unavailable, asked_at);
                self.damage.failed(&error.to_string());
                Looked::Asked(KeyRecordLookup::Unavailable)
            }
            Err(error @ StoreError::Unavailable { .. }) => {
                let held = self.cache().failed(id, self.clock.unix());
                self.outage.failed(&error.to_string());
                held.map_or(Looked::Failed, |record| Looked::Stale(KeyRecordLookup::Found(record)))
            }
        }
    }

    fn cached(&self, id: &str, fresh_for: Duration) -> Option<Looked> {
        Some(match self.cache().get(id, self.clock.unix(), fresh_for)? {
            Cached::Fresh(lookup) => Looked::Cached(lookup),
            Cached::Stale(lookup) => Looked::Stale(lookup),
            Cached::Failed => Looked::Failed,
        })
    }

    fn counted(&self, looked: Looked, pepper: Option<Pepper>) -> KeyAnswer {
        let (counter, lookup) = match looked {
            Looked::Failed
            | Looked::Cached(KeyRecordLookup::Unavailable)
            | Looked::Asked(KeyRecordLookup::Unavailable) => (&self.counters.unavailable, KeyRecordLookup::Unavailable),
            Looked::Cached(lookup) => (&self.counters.hits, lookup),
            Looked::Asked(lookup) => (&self.counters.misses, lookup),
            Looked::Stale(lookup) => (&self.counters.stale_hits, lookup),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        KeyAnswer { lookup, pepper }
    }

    fn cache(&self) -> MutexGuard<'_, KeyCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
