//! Credentials that end: fetched when they are first needed, and again before they end.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use identity::secret::Secret;

use super::container::Container;
use super::web_identity::WebIdentity;
use super::{CredentialError, Credentials};
use crate::clock::Clock;
use crate::https::{Client, FetchError};

/// They are fetched again so long before they end, in seconds. ECS and EKS have new ones by then.
pub(super) const REFRESH_BEFORE: u64 = 300;

/// They are not used any more so long before they end, in seconds: AWS looks at a signature later than we make it.
pub(super) const LAST: u64 = 10;

/// After a failure, the next attempt waits this long, in seconds.
pub(super) const RETRY_AFTER: u64 = 2;

/// How long one attempt may take. Whoever waits may give up before: the attempt goes on.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The largest answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// The largest file with a token, in bytes.
const MAX_TOKEN: u64 = 16 * 1024;

/// Who is asked.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Container(Container),
    WebIdentity(WebIdentity),
}

impl From<Container> for Place {
    fn from(container: Container) -> Self {
        Self::Container(container)
    }
}

impl From<WebIdentity> for Place {
    fn from(web_identity: WebIdentity) -> Self {
        Self::WebIdentity(web_identity)
    }
}

/// Credentials with their end.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) credentials: Credentials,
    /// In seconds since 1970.
    pub(super) expires_at: u64,
}

impl Held {
    /// # Errors
    /// A part is empty, or the time is not one of RFC 3339.
    pub(super) fn new(id: String, secret: String, token: String, expiration: &str) -> Result<Self, String> {
        if id.is_empty() || secret.is_empty() || token.is_empty() {
            return Err("a part of the credentials is empty".to_owned());
        }
        let expires_at = DateTime::from_str(expiration, Format::DateTime).ok();
        let expires_at = expires_at.and_then(|time| u64::try_from(time.secs()).ok());
        let expires_at = expires_at.ok_or("the time at which the credentials end cannot be read")?;
        let credentials = Credentials {
            access_key_id: id,
            secret_access_key: Secret::new(secret),
            session_token: Some(Secret::new(token)),
        };
        Ok(Self { credentials, expires_at })
    }
}

#[derive(Default)]
struct State {
    held: Option<Arc<Held>>,
    failure: Option<(u64, CredentialError)>,
}

/// Fetches credentials, one attempt at a time.
pub(super) struct Fetched {
    place: Place,
    client: OnceLock<Client>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Fetched {
    pub(super) fn new(place: Place, clock: Arc<dyn Clock>) -> Arc<Self> {
        let (client, state, turn) = (OnceLock::new(), Mutex::default(), Arc::default());
        Arc::new(Self { place, client, clock, state, turn })
    }

    /// What is held, as long as it may be used. What is due is fetched aside; only without usable credentials does the
    /// caller wait.
    pub(super) async fn get(self: &Arc<Self>) -> Result<Arc<Held>, CredentialError> {
        let now = self.clock.unix();
        if let Some(held) = self.usable(now) {
            if is_due(&held, now)
                && self.paused(now).is_none()
                && let Ok(turn) = self.turn.clone().try_lock_owned()
            {
                let this = self.clone();
                tokio::spawn(async move {
                    let _turn = turn;
                    let _ = this.renew().await;
                });
            }
            return Ok(held);
        }
        let this = self.clone();
        // In a task of its own: a caller that is given up must not take the attempt of all others with it.
        let attempt = tokio::spawn(async move {
            let _turn = this.turn.clone().lock_owned().await;
            this.renew().await
        });
        attempt.await.unwrap_or_else(|_| Err(CredentialError("the attempt to fetch them was interrupted".to_owned())))
    }

    /// Asks, unless whoever had the turn before has. The caller has the turn.
    async fn renew(&self) -> Result<Arc<Held>, CredentialError> {
        let now = self.clock.unix();
        if let Some(held) = self.usable(now).filter(|held| !is_due(held, now)) {
            return Ok(held);
        }
        if let Some(failure) = self.paused(now) {
            return Err(failure);
        }
        match self.ask().await {
            Ok(held) if held.expires_at > self.clock.unix().saturating_add(LAST) => {
                let held = Arc::new(held);
                *self.state() = State { held: Some(held.clone()), failure: None };
                Ok(held)
            }
            Ok(_) => Err(self.failed("those that were given have ended already".to_owned())),
            Err(why) => Err(self.failed(why)),
        }
    }

    async fn ask(&self) -> Result<Held, String> {
        let client = self.client().map_err(|error| error.to_string())?;
        match &self.place {
            Place::Container(container) => container.ask(client).await,
            Place::WebIdentity(web_identity) => web_identity.ask(client).await,
        }
    }

    fn failed(&self, why: String) -> CredentialError {
        let error = CredentialError(why);
        self.state().failure = Some((self.clock.unix(), error.clone()));
        error
    }

    fn usable(&self, now: u64) -> Option<Arc<Held>> {
        self.state().held.as_ref().filter(|held| now.saturating_add(LAST) < held.expires_at).cloned()
    }

    /// The failure of a moment ago.
    fn paused(&self, now: u64) -> Option<CredentialError> {
        let state = self.state();
        let (at, error) = state.failure.as_ref()?;
        now.checked_sub(*at).is_some_and(|age| age < RETRY_AFTER).then(|| error.clone())
    }

    fn client(&self) -> Result<&Client, FetchError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::new(TIMEOUT, MAX_ANSWER)?;
        Ok(self.client.get_or_init(|| client))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Fetched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetched").field("place", &self.place).finish_non_exhaustive()
    }
}

fn is_due(held: &Held, now: u64) -> bool {
    now.saturating_add(REFRESH_BEFORE) >= held.expires_at
}

/// The token in a file that the platform replaces from time to time: it is read anew for each attempt.
pub(super) async fn token_file(variable: &str, path: &std::path::Path) -> Result<Secret<String>, String> {
    use std::io::Read;
    let file = path.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        std::fs::File::open(file)?.take(MAX_TOKEN + 1).read_to_string(&mut text)?;
        std::io::Result::Ok(Secret::new(text))
    });
    let wrong = |why: String| format!("{variable}={}: {why}", path.display());
    let text = read.await.map_err(|error| wrong(error.to_string()))?.map_err(|error| wrong(error.to_string()))?;
    let (token, length) = (text.expose().trim_ascii(), text.expose().len() as u64);
    if token.is_empty() || length > MAX_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong(format!("expected one token of at most {MAX_TOKEN} bytes")));
    }
    Ok(Secret::new(token.to_owned()))
}
