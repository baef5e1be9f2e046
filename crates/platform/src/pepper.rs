//! The pepper that API keys are hashed with: fetched once and kept, and read again when a key does not fit it.
//!
//! There is one pepper, the secret's current value. A key that was hashed with the value before does not fit any more,
//! as it would not fit the key of a usage plan that is derived from the pepper either.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use identity::Secret;

use crate::clock::Clock;
use crate::key_cache::{RETRY_AFTER, younger};
use crate::secrets::Secrets;

/// The shortest pepper, in bytes: HMAC-SHA-256 with a shorter key could be searched for.
pub const MIN_PEPPER_BYTES: usize = 16;

/// A pepper that is younger is not read again because a key does not fit it.
pub const PEPPER_TRUSTED_FOR: Duration = Duration::from_secs(300);

/// Keys that do not fit make the pepper be read again once in this time.
pub const PEPPER_REREAD_AFTER: Duration = Duration::from_secs(60);

/// A pepper. Equality is that of the very same fetch, not of the bytes.
pub type Pepper = Arc<Secret<Vec<u8>>>;

/// Where the pepper comes from, and the one at hand.
pub(crate) struct PepperSource {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Held while the secret is read: one question at a time.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    held: Option<(Pepper, u64)>,
    failed: Option<(String, u64)>,
    reread_at: Option<u64>,
}

impl PepperSource {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    /// The pepper at hand. Asks nobody.
    pub(crate) fn held(&self) -> Option<Pepper> {
        self.state().held.as_ref().map(|(pepper, _)| pepper.clone())
    }

    /// The pepper, fetched if there is none yet. After a failure the store is left alone for [`RETRY_AFTER`].
    ///
    /// # Errors
    /// In words for the operator.
    pub(crate) async fn get(&self, secrets: &dyn Secrets, id: &str) -> Result<Pepper, String> {
        if let Some(pepper) = self.held() {
            return Ok(pepper);
        }
        let _turn = self.asking.lock().await;
        {
            let state = self.state();
            if let Some((pepper, _)) = &state.held {
                return Ok(pepper.clone());
            }
            if let Some((why, at)) = &state.failed
                && younger(*at, self.clock.unix(), RETRY_AFTER)
            {
                return Err(why.clone());
            }
        }
        self.fetch(secrets, id).await
    }

    /// The pepper after a key did not fit: read again if it is old enough to have been changed since.
    ///
    /// # Errors
    /// It was, or has just been, impossible to read it, so that nobody knows whether it was changed.
    pub(crate) async fn after_mismatch(&self, secrets: &dyn Secrets, id: &str) -> Result<Pepper, String> {
        let _turn = self.asking.lock().await;
        {
            let mut state = self.state();
            let now = self.clock.unix();
            if let Some((pepper, since)) = &state.held {
                if younger(*since, now, PEPPER_TRUSTED_FOR) {
                    return Ok(pepper.clone());
                }
                if state.reread_at.is_some_and(|at| younger(at, now, PEPPER_REREAD_AFTER)) {
                    // The last attempt failed: had it not, the pepper would be young.
                    let given_up = || "the last attempt to read the pepper again was given up".to_owned();
                    return Err(state.failed.as_ref().map_or_else(given_up, |(why, _)| why.clone()));
                }
            }
            state.reread_at = Some(now);
        }
        self.fetch(secrets, id).await
    }

    async fn fetch(&self, secrets: &dyn Secrets, id: &str) -> Result<Pepper, String> {
        let asked_at = self.clock.unix();
        let fetched = read(secrets, id).await;
        let mut state = self.state();
        match fetched {
            Ok(bytes) => {
                let pepper = match state.held.take() {
                    Some((held, _)) if held.expose() == bytes.expose() => held,
                    _ => Arc::new(bytes),
                };
                (state.held, state.failed) = (Some((pepper.clone(), asked_at)), None);
                Ok(pepper)
            }
            Err(why) => {
                // The moment after: who waits for this answer need not ask again.
                state.failed = Some((why.clone(), self.clock.unix()));
                Err(why)
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(secrets: &dyn Secrets, id: &str) -> Result<Secret<Vec<u8>>, String> {
    let secret = secrets.get(id).await.map_err(|error| error.to_string())?;
    let bytes = secret.expose().as_bytes();
    if bytes.len() < MIN_PEPPER_BYTES {
        return Err(format!("the pepper {id} has {} bytes, expected at least {MIN_PEPPER_BYTES}", bytes.len()));
    }
    Ok(Secret::new(bytes.to_vec()))
}
