//! JWKS documents, fetched when a request first needs them and kept for a while.
//!
//! Nothing runs in the background: a Lambda is frozen between requests, so ages are looked at when a request comes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use authz::Mode;
use authz::jwk::{Jwks, JwksError as DocumentError, KeyOrigin};

use crate::clock::Clock;
use crate::https::{Client, FetchError, UrlError, checked_url};

/// A key set is fetched again after this time: what Istio tells Envoy for remote key sets.
pub const MAX_AGE: Duration = Duration::from_secs(300);

/// A key set that cannot be fetched again is used for this long in all, and then no more.
pub const MAX_STALE: Duration = Duration::from_secs(3_600);

/// After a failure, the next attempt waits this long, so that bad tokens cannot hammer an issuer that is down.
pub const RETRY_AFTER: Duration = Duration::from_secs(2);

const FETCH_TIMEOUT: Duration = Duration::from_millis(1_500);
const MAX_DOCUMENT_BYTES: usize = 150_000;
const MAX_SETS: usize = 100;

/// Why there are no keys for an issuer. Its tokens are refused meanwhile.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JwksError {
    /// The configured URL may not be fetched.
    #[error("jwksUri: {0}")]
    Url(#[from] UrlError),
    /// The document cannot be fetched.
    #[error("cannot fetch the key set: {0}")]
    Fetch(#[from] FetchError),
    /// The document is no acceptable key set.
    #[error("the key set is refused: {0}")]
    Document(#[from] DocumentError),
    /// The last attempt failed a moment ago.
    #[error("the key set could not be had a moment ago, and is asked for again in {} s at most", RETRY_AFTER.as_secs())]
    Backoff,
    /// Too many key sets.
    #[error("more than {MAX_SETS} key sets")]
    TooMany,
}

/// Fetches and keeps key sets.
pub struct JwksSource {
    clock: Arc<dyn Clock>,
    client: OnceLock<Client>,
    /// By URL, as the gate holds them. Two rules may name one issuer and two URLs: were the sets kept by issuer, whoever
    /// may write the one rule could sign tokens for the other.
    sets: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Entry>>>>,
}

#[derive(Default)]
struct Entry {
    keys: Option<Arc<Jwks>>,
    fetched_at: u64,
    failed_at: Option<u64>,
}

impl JwksSource {
    /// A source with no keys yet. Nothing is set up or fetched before the first request.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, client: OnceLock::new(), sets: Mutex::default() }
    }

    /// The keys whose document is at `uri`.
    ///
    /// Requests for the same document wait for one fetch. Keys older than [`MAX_AGE`] are fetched again; should that
    /// fail, they serve on until [`MAX_STALE`].
    pub async fn get(&self, uri: &str) -> Result<Arc<Jwks>, JwksError> {
        self.get_as(uri, Mode::Strict).await
    }

    /// As [`get`](Self::get); a document that is fetched now is read as this mode reads it.
    pub async fn get_as(&self, uri: &str, mode: Mode) -> Result<Arc<Jwks>, JwksError> {
        let entry = self.entry(uri)?;
        let mut entry = entry.lock().await;
        let now = self.clock.unix();
        // A wall clock that was set back makes an age unknown; unknown counts as too old.
        let age = now.checked_sub(entry.fetched_at).unwrap_or(u64::MAX);
        if let Some(keys) = entry.keys.as_ref().filter(|_| age < MAX_AGE.as_secs()) {
            return Ok(keys.clone());
        }
        let failed_just_now =
            entry.failed_at.is_some_and(|at| now.checked_sub(at).is_some_and(|since| since < RETRY_AFTER.as_secs()));
        let error = if failed_just_now {
            JwksError::Backoff
        } else {
            match self.fetch(uri, mode).await {
                Ok(keys) => {
                    let keys = Arc::new(keys);
                    *entry = Entry { keys: Some(keys.clone()), fetched_at: now, failed_at: None };
                    return Ok(keys);
                }
                Err(error) => {
                    entry.failed_at = Some(now);
                    error
                }
            }
        };
        entry.keys.as_ref().filter(|_| age < MAX_STALE.as_secs()).cloned().ok_or(error)
    }

    fn entry(&self, uri: &str) -> Result<Arc<tokio::sync::Mutex<Entry>>, JwksError> {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = sets.get(uri) {
            return Ok(entry.clone());
        }
        if sets.len() == MAX_SETS {
            return Err(JwksError::TooMany);
        }
        Ok(sets.entry(uri.to_owned()).or_default().clone())
    }

    async fn fetch(&self, uri: &str, mode: Mode) -> Result<Jwks, JwksError> {
        let url = checked_url(uri)?;
        let client = match self.client.get() {
            Some(client) => client,
            None => {
                let client = Client::new(FETCH_TIMEOUT, MAX_DOCUMENT_BYTES)?;
                self.client.get_or_init(|| client)
            }
        };
        let document = client.get(&url).await?;
        // What is not UTF-8 is not JSON either, and is refused as such.
        Ok(Jwks::parse_as(&String::from_utf8_lossy(&document), KeyOrigin::Fetched, mode)?)
    }
}
