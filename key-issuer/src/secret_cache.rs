//! A secret, parsed: read at first use, kept for a bounded time, read by one request at a time.
//!
//! Refresh is driven by requests, because a Lambda is frozen between them. Ages count in both directions: a clock that
//! is set back must neither keep an old value for longer nor leave the store alone until it has caught up.

use std::sync::Arc;

use platform::log::Log;
use platform::secrets::Secrets;
use serde_json::json;
use tokio::sync::Mutex;

/// Past this age a request reads the secret again, in seconds.
const SOFT_AGE_SECONDS: u64 = 300;
/// Past this age what is held is used no more, in seconds. Between the two an outage of the store goes unnoticed.
pub(crate) const HARD_AGE_SECONDS: u64 = 3600;
/// After a failure the store is left alone this long, in seconds.
const RETRY_SECONDS: u64 = 5;

type Parse<T> = Box<dyn Fn(&str, u64) -> Result<T, String> + Send + Sync>;

/// One secret of the store, as the type that it becomes.
pub(crate) struct SecretCache<T> {
    id: String,
    parse: Parse<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    held: Option<(Arc<T>, u64)>,
    failed: Option<(String, u64)>,
}

impl<T> SecretCache<T> {
    /// The secret `id`, which `parse` reads and proves (a new value replaces the old one only if it is good).
    /// `parse` is given the time, and its error must not show the secret.
    pub(crate) fn new(id: &str, parse: impl Fn(&str, u64) -> Result<T, String> + Send + Sync + 'static) -> Self {
        Self { id: id.to_owned(), parse: Box::new(parse), state: Mutex::new(State { held: None, failed: None }) }
    }

    /// The value, from memory or from the store. The lock is held while the store is asked, so that a burst of
    /// requests asks once; the store bounds how long it takes.
    ///
    /// # Errors
    /// In words for the operator, without the secret.
    pub(crate) async fn get(&self, secrets: &dyn Secrets, log: &Log, now: u64) -> Result<Arc<T>, String> {
        let mut state = self.state.lock().await;
        let held = state.held.clone();
        if let Some((value, since)) = &held
            && now.abs_diff(*since) < SOFT_AGE_SECONDS
        {
            return Ok(Arc::clone(value));
        }
        let resting = state.failed.as_ref().filter(|(_, at)| now.abs_diff(*at) < RETRY_SECONDS);
        let why = match resting {
            Some((why, _)) => why.clone(),
            None => match self.refresh(&mut state, secrets, log, now).await {
                Ok(value) => return Ok(value),
                Err(why) => why,
            },
        };
        match held {
            Some((value, since)) if now.abs_diff(since) < HARD_AGE_SECONDS => Ok(value),
            _ => Err(why),
        }
    }

    /// Reads the secret whatever the age of what is held: it is known to have changed.
    ///
    /// # Errors
    /// As [`get`](Self::get); what is held stays.
    pub(crate) async fn renew(&self, secrets: &dyn Secrets, log: &Log, now: u64) -> Result<Arc<T>, String> {
        let mut state = self.state.lock().await;
        self.refresh(&mut state, secrets, log, now).await
    }

    async fn refresh(
        &self,
        state: &mut State<T>,
        secrets: &dyn Secrets,
        log: &Log,
        now: u64,
    ) -> Result<Arc<T>, String> {
        match self.read(secrets, now).await {
            Ok(value) => {
                let value = Arc::new(value);
                state.held = Some((Arc::clone(&value), now));
                state.failed = None;
                Ok(value)
            }
            Err(why) => {
                log.write(&json!({"ts": now, "event": "secret_refresh_failed", "secret": self.id, "detail": why}));
                state.failed = Some((why.clone(), now));
                Err(why)
            }
        }
    }

    async fn read(&self, secrets: &dyn Secrets, now: u64) -> Result<T, String> {
        let secret = secrets.get(&self.id).await.map_err(|error| error.to_string())?;
        (self.parse)(secret.expose(), now).map_err(|why| format!("the secret {}: {why}", self.id))
    }
}

/// Where JSON breaks, without what is there: serde quotes the offending value, which may be the key itself.
pub(crate) fn malformed_json(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "a member is missing, unknown or of another type",
        _ => "it is no JSON",
    };
    format!("not the expected JSON object at line {} column {}: {what}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use identity::secret::Secret;
    use platform::BoxFuture;
    use platform::secrets::{Embedded, SecretError};

    use super::*;

    /// Counts reads, gives way in the middle of one, and can be out.
    #[derive(Default)]
    struct Store {
        inner: Embedded,
        reads: AtomicUsize,
        out: std::sync::atomic::AtomicBool,
    }

    impl Secrets for Store {
        fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Secret<String>, SecretError>> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                tokio::task::yield_now().await;
                if self.out.load(Ordering::Relaxed) {
                    return Err(SecretError::Unavailable { id: id.to_owned(), why: "out".to_owned() });
                }
                self.inner.get(id).await
            })
        }
    }

    fn cache() -> SecretCache<u32> {
        SecretCache::new("n", |text, _| text.parse().map_err(|_| "no number".to_owned()))
    }

    #[tokio::test]
    async fn a_burst_reads_once_and_age_reads_again() {
        let (store, cache, (log, _)) = (Store::default(), cache(), Log::memory());
        store.inner.put("n", "1");
        let get = || cache.get(&store, &log, 1000);
        let (a, b, c) = tokio::join!(get(), get(), get());
        assert_eq!((*a.unwrap(), *b.unwrap(), *c.unwrap()), (1, 1, 1));
        assert_eq!(store.reads.load(Ordering::Relaxed), 1);

        store.inner.put("n", "2");
        assert_eq!(*cache.get(&store, &log, 1000 + SOFT_AGE_SECONDS - 1).await.unwrap(), 1);
        assert_eq!(*cache.get(&store, &log, 1000 + SOFT_AGE_SECONDS).await.unwrap(), 2);
        assert_eq!(store.reads.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn an_outage_is_survived_for_a_bounded_time() {
        let (store, cache, (log, lines)) = (Store::default(), cache(), Log::memory());
        store.inner.put("n", "1");
        assert_eq!(*cache.get(&store, &log, 1000).await.unwrap(), 1);
        store.out.store(true, Ordering::Relaxed);
        assert_eq!(*cache.get(&store, &log, 1000 + HARD_AGE_SECONDS - 1).await.unwrap(), 1);
        assert!(lines.all()[0].contains("secret_refresh_failed"), "{:?}", lines.all());
        let error = cache.get(&store, &log, 1000 + HARD_AGE_SECONDS).await.unwrap_err();
        assert!(error.contains("out"), "{error}");
        // It is left alone for a while and then asked again.
        assert_eq!(store.reads.load(Ordering::Relaxed), 2);
        store.out.store(false, Ordering::Relaxed);
        let later = 1000 + HARD_AGE_SECONDS - 1 + RETRY_SECONDS;
        assert_eq!(*cache.get(&store, &log, later).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_prolongs_nothing() {
        let (store, cache, (log, _)) = (Store::default(), cache(), Log::memory());
        store.inner.put("n", "1");
        assert_eq!(*cache.get(&store, &log, 100_000).await.unwrap(), 1);
        store.inner.put("n", "2");
        assert_eq!(*cache.get(&store, &log, 50_000).await.unwrap(), 2);

        store.out.store(true, Ordering::Relaxed);
        assert!(cache.get(&store, &log, 10_000).await.is_err(), "neither fresh nor bearable");
        store.out.store(false, Ordering::Relaxed);
        assert_eq!(*cache.get(&store, &log, 5_000).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_bad_new_value_does_not_replace_a_good_one() {
        let (store, cache, (log, lines)) = (Store::default(), cache(), Log::memory());
        store.inner.put("n", "1");
        cache.get(&store, &log, 1000).await.unwrap();
        store.inner.put("n", "hunter2");
        assert_eq!(*cache.get(&store, &log, 1000 + SOFT_AGE_SECONDS).await.unwrap(), 1);
        let line = &lines.all()[0];
        assert!(line.contains("no number") && !line.contains("hunter2"), "{line}");
    }

    #[tokio::test]
    async fn a_value_that_is_known_to_have_changed_is_read_at_once() {
        let (store, cache, (log, _)) = (Store::default(), cache(), Log::memory());
        store.inner.put("n", "1");
        cache.get(&store, &log, 1000).await.unwrap();
        store.inner.put("n", "2");
        assert_eq!(*cache.renew(&store, &log, 1001).await.unwrap(), 2);
        store.out.store(true, Ordering::Relaxed);
        assert!(cache.renew(&store, &log, 1002).await.is_err());
        assert_eq!(*cache.get(&store, &log, 1002).await.unwrap(), 2, "what is held stays");
    }

    #[test]
    fn malformed_json_is_described_and_not_quoted() {
        let error = serde_json::from_str::<Vec<u8>>("\"hunter2\"").unwrap_err();
        assert!(error.to_string().contains("hunter2"), "the reason for this function");
        assert!(!malformed_json(&error).contains("hunter2"));
    }
}
