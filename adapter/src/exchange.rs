//! An API key for a short-lived token of the issuer, which the mesh's own policies behind the adapter understand.
//!
//! Istio asks its external authorizers before it looks at tokens. So the token that the answer puts into the request is
//! what RequestAuthentication verifies and what `requestPrincipals` is about. Only a key that the gate has just
//! admitted is exchanged: the cache is asked behind the check of the key, and never instead of it.
//!
//! A token is kept until shortly before its end. While the issuer cannot be reached what is held serves until then; for
//! a key without a token there is none, and the request is denied.

mod cache;
mod issuer;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use authz::{Allow, Deny, Reason, Request};
use aws_lc_rs::digest::{SHA256, digest};
use identity::Secret;
use platform::clock::{Clock, SystemClock};
use platform::env::{EnvError, Reader};
use platform::https::{FetchError, Reach, checked_url};
use platform::jwks::JwksSettings;
use serde_json::json;
use tokio::sync::{Semaphore, watch};

use crate::metrics::{ExchangeCounters, ExchangeOutcome};
use cache::{Cache, Found};
use issuer::Issuer;

pub use cache::{MAX_ENTRIES, REFRESH_BEFORE, REFUSED_FOR, RETRY_AFTER};
pub use issuer::TIMEOUT;

/// Exchanges at a time. One more key is denied, as if the issuer were down.
pub const MAX_EXCHANGES: usize = 256;

/// The longest time that a request waits for a token. The exchange itself goes on, and the next request finds its
/// token.
pub const MAX_WAIT: Duration = Duration::from_millis(2_500);

/// The longest audience, in bytes.
const MAX_AUDIENCE: usize = 256;

const URL: &str = "CAUSEWAY_ISSUER_URL";
const AUDIENCE: &str = "CAUSEWAY_TOKEN_AUDIENCE";

/// Where API keys are exchanged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExchangeConfig {
    /// `CAUSEWAY_ISSUER_URL`: the issuer's public door, without the path of the token endpoint; https, or http to this
    /// machine.
    pub url: String,
    /// `CAUSEWAY_TOKEN_AUDIENCE`: for whom the tokens are; one of the key's audiences. Without it, for all of those.
    pub audience: Option<String>,
}

impl ExchangeConfig {
    /// Reads the two variables.
    ///
    /// # Errors
    /// The second one without the first, or a value that is not what it takes.
    pub fn from_env(env: &Reader<'_>) -> Result<Option<Self>, EnvError> {
        let url = env.checked(URL, |text| {
            let url = checked_url(text).map_err(|error| error.to_string())?;
            match (url.query(), url.fragment()) {
                (None, None) => Ok(text.trim_end_matches('/').to_owned()),
                _ => Err("expected a URL without a query and a fragment".to_owned()),
            }
        })?;
        let audience = env.checked(AUDIENCE, |text| match text.len() <= MAX_AUDIENCE {
            true => Ok(text.to_owned()),
            false => Err(format!("expected at most {MAX_AUDIENCE} bytes")),
        })?;
        match (url, audience) {
            (Some(url), audience) => Ok(Some(Self { url, audience })),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(EnvError::HalfGroup { present: AUDIENCE.to_owned(), missing: URL.to_owned() }),
        }
    }
}

/// SHA-256 of key and audience: what a token is kept by.
type Digest = [u8; 32];

/// Why there is no token. The text has no credential.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Failure {
    /// The issuer says no, or something that cannot be its word.
    Refused(String),
    /// The issuer could not be asked.
    Unavailable(String),
}

/// A token that can be put into a request.
#[derive(Debug)]
struct Token {
    /// The value of the header `authorization`.
    bearer: Secret<String>,
    /// In seconds since 1970.
    expires_at: u64,
    /// From here on it is asked for again, in seconds since 1970.
    refresh_at: u64,
}

type Outcome = Result<Arc<Token>, Failure>;

/// Exchanges API keys, and keeps the tokens.
#[derive(Clone)]
pub struct Exchange(Arc<Inner>);

struct Inner {
    audience: Option<String>,
    clock: Arc<dyn Clock>,
    counters: ExchangeCounters,
    issuer: Issuer,
    places: Arc<Semaphore>,
    state: Mutex<State>,
    max_wait: Duration,
}

struct State {
    cache: Cache,
    flights: HashMap<Digest, watch::Receiver<Option<Outcome>>>,
}

impl Exchange {
    /// Exchanges at the configured issuer. Its roots and what may be dialled are those of key sets. Connects to nobody
    /// yet.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(config: &ExchangeConfig, reached_as: &JwksSettings) -> Result<Self, FetchError> {
        Self::with(config, reached_as.reach, reached_as.roots.clone(), Arc::new(SystemClock), MAX_WAIT)
    }

    /// As [`new`](Self::new), by another clock, and with requests that wait for another time than [`MAX_WAIT`].
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with(
        config: &ExchangeConfig,
        reach: Reach,
        roots: Vec<platform::https::Root>,
        clock: Arc<dyn Clock>,
        max_wait: Duration,
    ) -> Result<Self, FetchError> {
        Ok(Self(Arc::new(Inner {
            audience: config.audience.clone(),
            clock,
            counters: ExchangeCounters::default(),
            issuer: Issuer::new(config, reach, roots)?,
            places: Arc::new(Semaphore::new(MAX_EXCHANGES)),
            state: Mutex::new(State { cache: Cache::new(), flights: HashMap::new() }),
            max_wait,
        })))
    }

    /// How exchanges went.
    pub fn counters(&self) -> &ExchangeCounters {
        &self.0.counters
    }

    /// Keys with a token, or with a failure that is remembered.
    pub fn len(&self) -> usize {
        self.0.state().cache.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of `authorization` that goes into an admitted request in the place of its API key.
    ///
    /// # Errors
    /// The denial that the request gets instead.
    pub(crate) async fn authorization(
        &self,
        allow: &Allow,
        request: &Request,
        fingerprint: &str,
    ) -> Result<Secret<String>, Deny> {
        let key = request.headers.iter().map(|(_, value)| value);
        let outcome = match (key.into_iter().find(|value| is_key(value, fingerprint)), allow.principal()) {
            (Some(key), Some(principal)) => self.token(key, principal).await,
            _ => Err(Failure::Refused("the admitted key is not in the request".to_owned())),
        };
        let failure = match outcome {
            Ok(token) => return Ok(token.bearer.clone()),
            Err(failure) => failure,
        };
        let (reason, detail) = match failure {
            Failure::Refused(why) => (Reason::ExchangeRefused, why),
            Failure::Unavailable(why) => (Reason::ExchangeUnavailable, why),
        };
        Err(Deny {
            principal: allow.principal().map(str::to_owned),
            client_id: allow.client_id().map(str::to_owned),
            shadow: Box::new(allow.shadow().clone()),
            ..Deny::new(reason, allow.hop(), detail)
        })
    }

    /// The token for `key`, whose caller is `principal`.
    async fn token(&self, key: &str, principal: &str) -> Outcome {
        let inner = &self.0;
        let now = inner.clock.unix();
        let digest = inner.digest(key);
        let mut flight = {
            let mut state = inner.state();
            match state.cache.get(&digest, now) {
                Found::Fresh(token) => {
                    inner.counters.add(ExchangeOutcome::Cached);
                    return Ok(token);
                }
                Found::Due(token) => {
                    inner.counters.add(ExchangeOutcome::Cached);
                    // Aside; should it not begin now, a later request begins it.
                    let _ = self.begin(&mut state, digest, key, principal);
                    return Ok(token);
                }
                Found::Resting(token) => {
                    inner.counters.add(ExchangeOutcome::Stale);
                    return Ok(token);
                }
                Found::Failed(failure) => {
                    inner.counters.add(ExchangeOutcome::Paused);
                    return Err(failure);
                }
                Found::Nothing => self.begin(&mut state, digest, key, principal)?,
            }
        };
        let late = || Failure::Unavailable(format!("no token in {} ms", inner.max_wait.as_millis()));
        match tokio::time::timeout(inner.max_wait, flight.wait_for(Option::is_some)).await {
            Ok(Ok(outcome)) => outcome.clone().unwrap_or_else(|| Err(late())),
            Ok(Err(_)) => Err(Failure::Unavailable("the exchange was interrupted".to_owned())),
            Err(_) => Err(late()),
        }
    }

    /// The exchange for a key that is under way, or a new one.
    fn begin(
        &self,
        state: &mut State,
        digest: Digest,
        key: &str,
        principal: &str,
    ) -> Result<watch::Receiver<Option<Outcome>>, Failure> {
        // Of an exchange that was lost nobody is left who would say how it went.
        if let Some(flight) = state.flights.get(&digest)
            && flight.has_changed().is_ok()
        {
            return Ok(flight.clone());
        }
        let Ok(place) = self.0.places.clone().try_acquire_owned() else {
            self.0.counters.add(ExchangeOutcome::Unavailable);
            return Err(Failure::Unavailable(format!("{MAX_EXCHANGES} exchanges are under way already")));
        };
        let (landed, flight) = watch::channel(None);
        state.flights.insert(digest, flight.clone());
        let (inner, principal) = (self.0.clone(), principal.to_owned());
        let key = Secret::new(key.to_owned());
        // In a task of its own: a request that is given up must not take it from all others.
        tokio::spawn(async move {
            let audience = inner.audience.as_deref();
            let outcome = inner.issuer.exchange(&key, audience, &principal, &*inner.clock).await;
            let counted = match &outcome {
                Ok(_) => ExchangeOutcome::Issued,
                Err(Failure::Refused(_)) => ExchangeOutcome::Refused,
                Err(Failure::Unavailable(_)) => ExchangeOutcome::Unavailable,
            };
            inner.counters.add(counted);
            {
                let mut state = inner.state();
                state.cache.put(digest, outcome.as_ref(), inner.clock.unix());
                state.flights.remove(&digest);
            }
            landed.send_replace(Some(outcome));
            drop(place);
        });
        Ok(flight)
    }
}

impl Inner {
    fn digest(&self, key: &str) -> Digest {
        // A list in JSON: no two pairs of texts are the same text.
        let text = Secret::new(json!([key, self.audience]).to_string());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, text.expose().as_bytes()).as_ref());
        bytes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exchange")
    }
}

/// Whether this header line is the API key that the gate has seen.
pub(crate) fn is_key(value: &str, fingerprint: &str) -> bool {
    authz::api_key::fingerprint(value) == fingerprint
}

#[cfg(test)]
mod tests {
    use platform::env::MapEnv;

    use super::*;

    #[test]
    fn variables() {
        let read = |env: MapEnv| ExchangeConfig::from_env(&Reader::new(&env)).map_err(|error| error.to_string());
        assert_eq!(read(MapEnv::default()), Ok(None));
        let url = MapEnv::from([(URL, "https://issuer.example/stage/")]);
        let expected = ExchangeConfig { url: "https://issuer.example/stage".to_owned(), audience: None };
        assert_eq!(read(url.clone()), Ok(Some(expected.clone())));
        let audience = Some("bookinfo".to_owned());
        assert_eq!(read(url.clone().with(AUDIENCE, "bookinfo")), Ok(Some(ExchangeConfig { audience, ..expected })));
        for (env, expected) in [
            (MapEnv::from([(AUDIENCE, "bookinfo")]), "CAUSEWAY_ISSUER_URL is not set"),
            (MapEnv::from([(URL, "http://issuer.example")]), "https"),
            (MapEnv::from([(URL, "https://issuer.example/?a=b")]), "without a query"),
            (url.clone().with(AUDIENCE, "a".repeat(MAX_AUDIENCE + 1)), "at most 256 bytes"),
        ] {
            let error = read(env).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        assert!(read(url.with(AUDIENCE, "a".repeat(MAX_AUDIENCE))).is_ok());
    }
}
