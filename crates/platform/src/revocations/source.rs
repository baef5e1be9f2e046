//! Fetches the list, verifies it, and keeps the last good one.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use authz::jwt::LEEWAY_SECONDS;
use authz::revocation::{KeySourceError, MAX_LIST_BYTES, key_source};
use authz::{KeysNeeded, Policies, RevocationList, RevocationListError, UnverifiedRevocationList};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{MAX_WAIT, REFRESH_AFTER, RETRY_AFTER, RevocationsConfig, RevocationsError, RevocationsSetup};
use crate::bundle::SharedBytes;
use crate::clock::{Clock, rfc3339};
use crate::https::{Client, ClientOptions, FetchError, UrlError, checked_url};
use crate::key_sets::KeySetSource;
use crate::log::Log;

/// How long one fetch may take. Longer than a request waits: the list of a fetch that is late serves the next one.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// A refresh that has not ended by then, on the wall clock, was frozen with its connection, and another one is started.
const ABANDON_AFTER: Duration = Duration::from_secs(8);

/// What there is for a request.
#[derive(Clone, Debug)]
pub enum Held {
    /// Nobody keeps a list.
    NotKept,
    /// A verified list, young enough.
    List(Arc<RevocationList>),
    /// None that may be relied on.
    Unavailable,
}

/// Why a list is not taken. No id is part of the text.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("cannot fetch the revocation list: {0}")]
    Fetch(#[from] FetchError),
    #[error("the revocation list is not text")]
    Text,
    #[error(transparent)]
    List(#[from] RevocationListError),
    #[error(transparent)]
    Source(#[from] KeySourceError),
    #[error("the keys for the revocation list are unavailable")]
    NoKeys,
    #[error("the revocation list is older than the limit of {0} s")]
    TooOld(u64),
}

impl Refused {
    /// A word for the kind: the same kind again is no change of state.
    fn kind(&self) -> &'static str {
        match self {
            Self::Url(_) | Self::Fetch(_) => "fetch",
            Self::Text => "malformed",
            Self::Source(KeySourceError::None(_)) => "issuer",
            Self::Source(KeySourceError::Several { .. }) | Self::NoKeys => "keys",
            Self::TooOld(_) => "too_old",
            Self::List(error) => match error {
                RevocationListError::KeyUnknown | RevocationListError::Algorithm | RevocationListError::Signature => {
                    "signature"
                }
                RevocationListError::Issuer(_) => "issuer",
                RevocationListError::Expired { .. } => "expired",
                RevocationListError::NotYetIssued { .. } => "not_yet_issued",
                RevocationListError::Rollback { .. } => "rollback",
                RevocationListError::Type => "type",
                RevocationListError::TooLarge
                | RevocationListError::TooManyIds(_)
                | RevocationListError::TooManyClients(_)
                | RevocationListError::Malformed(_) => "malformed",
            },
        }
    }

    /// Whether the same list may be good a little later.
    fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::NoKeys | Self::List(RevocationListError::KeyUnknown | RevocationListError::NotYetIssued { .. })
        )
    }
}

/// What the log was told last.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Said {
    #[default]
    Nothing,
    Current(&'static str),
    Stale(&'static str),
    Unavailable(&'static str),
}

#[derive(Default)]
struct State {
    /// The list of the bundle, until it has been looked at.
    embedded: Option<SharedBytes>,
    list: Option<Arc<RevocationList>>,
    fetched_at: Option<u64>,
    failed_at: Option<u64>,
    failures: u64,
    /// Why the last attempt failed: its kind and its sentence.
    failure: Option<(&'static str, String)>,
    flight: Option<Flight>,
    said: Said,
}

/// A refresh that is on its way.
struct Flight {
    started_at: u64,
    task: JoinHandle<()>,
}

impl Flight {
    fn is_over(&self, now: u64) -> bool {
        self.task.is_finished() || since(self.started_at, now) >= ABANDON_AFTER.as_secs()
    }
}

/// A wall clock that was set back makes an age unknown; unknown counts as too old.
fn since(then: u64, now: u64) -> u64 {
    now.checked_sub(then).unwrap_or(u64::MAX)
}

/// Keeps the list of one issuer.
pub struct RevocationSource {
    clock: Arc<dyn Clock>,
    client: OnceLock<Client>,
    config: Option<RevocationsConfig>,
    key_sets: Arc<KeySetSource>,
    log: Log,
    max_wait: Duration,
    policies: Arc<Policies>,
    state: Mutex<State>,
    /// Told of every new list, and of the end of every refresh.
    changes: watch::Sender<()>,
}

impl RevocationSource {
    /// A source that has looked at nothing yet; `None` when nobody keeps a list.
    ///
    /// # Errors
    /// The policies do not say which keys the issuer that is configured has.
    pub fn new(
        setup: RevocationsSetup,
        policies: Arc<Policies>,
        key_sets: Arc<KeySetSource>,
        clock: Arc<dyn Clock>,
        log: Log,
    ) -> Result<Option<Self>, RevocationsError> {
        let RevocationsSetup { config, embedded } = setup;
        if config.is_none() && embedded.is_none() {
            return Ok(None);
        }
        if let Some(RevocationsConfig { issuer, .. }) = &config {
            key_source(&policies, issuer).map_err(|why| RevocationsError::Keys { issuer: issuer.clone(), why })?;
        }
        let state = State { embedded, ..State::default() };
        let (client, state, changes) = (OnceLock::new(), Mutex::new(state), watch::Sender::new(()));
        Ok(Some(Self { clock, client, config, key_sets, log, max_wait: MAX_WAIT, policies, state, changes }))
    }

    /// Takes over what `other`, a source with the same configuration, has fetched: the policies have been replaced, and
    /// a list that is in force must not be lost, nor an older one follow it.
    pub(crate) fn inherit(&self, other: &Self) {
        if self.config.is_none() || self.config != other.config {
            return;
        }
        let now = self.clock.unix();
        let (mut state, others) = (self.state(), other.state());
        state.failures = others.failures;
        if let Some(list) = other.usable(&others, now) {
            state.list = Some(list);
            (state.fetched_at, state.said, state.embedded) = (others.fetched_at, others.said, None);
        }
    }

    /// The list for a request that carries a credential. A list that is due is asked for, and this or a later request
    /// finishes that; only without a list that may be relied on is it waited for, [`MAX_WAIT`] at most.
    pub async fn for_request(self: &Arc<Self>) -> Held {
        let mut changes = self.changes.subscribe();
        let now = self.clock.unix();
        {
            let mut state = self.state();
            if self.is_due(&state, now) {
                let task = tokio::spawn(Arc::clone(self).refresh());
                if let Some(Flight { task, .. }) = state.flight.replace(Flight { started_at: now, task }) {
                    task.abort();
                }
            }
            if let Some(list) = self.usable(&state, now) {
                return Held::List(list);
            }
        }
        let arrival = async { while self.is_worth_waiting(now) && changes.changed().await.is_ok() {} };
        // Late or not, what there is now counts.
        let _ = tokio::time::timeout(self.max_wait, arrival).await;
        let mut state = self.state();
        if let Some(list) = self.usable(&state, now) {
            return Held::List(list);
        }
        let late = ("late", format!("the revocation list could not be had in {} ms", self.max_wait.as_millis()));
        let (kind, error) = state.failure.clone().unwrap_or(late);
        self.say(&mut state, Said::Unavailable(kind), &error);
        Held::Unavailable
    }

    /// A source whose requests wait for another time than [`MAX_WAIT`].
    #[must_use]
    pub fn with_max_wait(self, max_wait: Duration) -> Self {
        Self { max_wait, ..self }
    }

    /// Returns when no refresh is on its way.
    pub async fn settled(&self) {
        let mut changes = self.changes.subscribe();
        while self.state().flight.is_some() && changes.changed().await.is_ok() {}
    }

    /// Attempts that brought no list, since the start.
    pub fn failures(&self) -> u64 {
        self.state().failures
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The list that is held, while it may be relied on.
    fn usable(&self, state: &State, now: u64) -> Option<Arc<RevocationList>> {
        state.list.as_ref().filter(|list| self.is_young(list, now)).cloned()
    }

    fn is_young(&self, list: &RevocationList, now: u64) -> bool {
        let in_time = match now.checked_sub(list.issued_at()) {
            Some(age) => self.config.as_ref().is_none_or(|config| age < config.max_age.as_secs()),
            // The issuer's clock may be a little ahead.
            None => list.issued_at() <= now.saturating_add(LEEWAY_SECONDS),
        };
        in_time && now < list.expires_at()
    }

    fn is_worth_waiting(&self, now: u64) -> bool {
        let state = self.state();
        self.usable(&state, now).is_none() && state.flight.as_ref().is_some_and(|flight| !flight.is_over(now))
    }

    fn is_due(&self, state: &State, now: u64) -> bool {
        if state.flight.as_ref().is_some_and(|flight| !flight.is_over(now)) {
            return false;
        }
        if state.failed_at.is_some_and(|at| since(at, now) < RETRY_AFTER.as_secs()) {
            return false;
        }
        state.embedded.is_some() || (self.config.is_some() && self.is_fetch_due(state, now))
    }

    fn is_fetch_due(&self, state: &State, now: u64) -> bool {
        self.usable(state, now).is_none() || state.fetched_at.is_none_or(|at| since(at, now) >= REFRESH_AFTER.as_secs())
    }

    /// One refresh: the list of the bundle first, which needs no network, then the one that is published.
    async fn refresh(self: Arc<Self>) {
        let embedded = self.state().embedded.clone();
        let mut outcome = Ok(());
        if let Some(bytes) = embedded {
            outcome = self.accept(bytes.as_ref().as_ref(), "bundle").await;
            if !outcome.as_ref().is_err_and(Refused::may_pass) {
                self.state().embedded = None;
            }
            if let Err(refused) = &outcome {
                self.failed(refused);
            }
        }
        if let Some(config) = &self.config {
            outcome = self.fetch(config).await;
        }
        let mut state = self.state();
        state.flight = None;
        match outcome {
            Ok(()) => (state.failed_at, state.failure) = (None, None),
            Err(refused) => {
                drop(state);
                self.failed(&refused);
            }
        }
        self.changes.send_replace(());
    }

    /// Takes note of a failure, and keeps the list that is held.
    fn failed(&self, refused: &Refused) {
        let now = self.clock.unix();
        let mut state = self.state();
        state.failed_at = Some(now);
        state.failures += 1;
        state.failure = Some((refused.kind(), refused.to_string()));
        let said = match self.usable(&state, now) {
            Some(_) => Said::Stale(refused.kind()),
            None => Said::Unavailable(refused.kind()),
        };
        self.say(&mut state, said, &refused.to_string());
    }

    async fn fetch(&self, config: &RevocationsConfig) -> Result<(), Refused> {
        let url = checked_url(&config.url)?;
        let client = match self.client.get() {
            Some(client) => client,
            None => {
                // The issuer of the key sets is the issuer of the list, with the same private PKI.
                let roots = self.key_sets.roots().to_vec();
                let client =
                    Client::with(ClientOptions { roots, ..ClientOptions::new(FETCH_TIMEOUT, MAX_LIST_BYTES) })?;
                self.client.get_or_init(|| client)
            }
        };
        let body = client.get(&url).await?;
        self.accept(&body, "url").await?;
        self.state().fetched_at = Some(self.clock.unix());
        Ok(())
    }

    /// Verifies a list and puts it in the place of the one that is held.
    async fn accept(&self, bytes: &[u8], from: &'static str) -> Result<(), Refused> {
        let text = std::str::from_utf8(bytes).map_err(|_| Refused::Text)?;
        let unverified = UnverifiedRevocationList::parse(text.trim_ascii())?;
        let list = self.verified(unverified).await?;
        let now = self.clock.unix();
        if !self.is_young(&list, now) {
            return Err(Refused::TooOld(self.config.as_ref().map_or(0, |config| config.max_age.as_secs())));
        }
        let mut state = self.state();
        if let Some(held) = &state.list {
            list.check_follows(held)?;
        }
        state.list = Some(Arc::new(list));
        self.say(&mut state, Said::Current(from), "");
        drop(state);
        self.changes.send_replace(());
        Ok(())
    }

    /// Verifies a list with the keys that the policies have for its issuer. Without a configured issuer it is the one
    /// that the list names: whoever made the bundle put the list in.
    async fn verified(&self, list: UnverifiedRevocationList<'_>) -> Result<RevocationList, Refused> {
        let named = list.unverified_issuer().to_owned();
        let issuer = self.config.as_ref().map_or(named.as_str(), |config| &config.issuer);
        let source = key_source(&self.policies, issuer)?;
        let needed = source.jwks_uri.or(source.discovery).map(|uri| KeysNeeded {
            issuer: issuer.to_owned(),
            uri: uri.to_owned(),
            discovery: source.jwks_uri.is_none(),
            kid: list.unverified_kid().map(str::to_owned),
        });
        let keys = self.key_sets.for_request(needed.as_slice()).await;
        let keys = keys.of_source(&source).ok_or(Refused::NoKeys)?;
        Ok(list.verify(issuer, &[keys], self.clock.unix())?)
    }

    /// Writes one line when the state has changed.
    fn say(&self, state: &mut State, said: Said, error: &str) {
        if state.said == said {
            return;
        }
        state.said = said;
        let (event, from, kind) = match said {
            Said::Nothing => return,
            Said::Current(from) => ("revocations_current", Some(from), None),
            Said::Stale(kind) => ("revocations_stale", None, Some(kind)),
            Said::Unavailable(kind) => ("revocations_unavailable", None, Some(kind)),
        };
        let mut line = json!({"ts": rfc3339(self.clock.now()), "event": event});
        if let Some(list) = &state.list {
            line["issuer"] = json!(list.issuer());
            line["issued_at"] = json!(list.issued_at());
            line["ids"] = json!(list.len());
        }
        for (name, value) in [("from", from), ("kind", kind), ("error", kind.map(|_| error))] {
            if let Some(value) = value {
                line[name] = json!(value);
            }
        }
        self.log.write(&line);
    }
}
