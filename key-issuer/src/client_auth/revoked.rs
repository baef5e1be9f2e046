//! Whether a client is revoked as a whole, remembered for a minute like its record: verifiers refuse what it gets, and it
//! gets nothing.

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use crate::Inner;
use crate::client_cache::FRESH_SECONDS;
use crate::refusal::Refusal;
use crate::revocations::{self, Revoked};

/// How many clients are remembered; the least recently used goes.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();

/// What was found, and when it was asked for, by client id.
#[derive(Default)]
pub(crate) struct RevokedClients(Mutex<Option<LruCache<String, (bool, u64)>>>);

impl RevokedClients {
    /// Forgets a client that has just been revoked.
    pub(crate) fn forget(&self, client_id: &str) {
        if let Some(held) = self.held().as_mut() {
            held.pop(client_id);
        }
    }

    fn remembered(&self, client_id: &str, now: u64) -> Option<bool> {
        let (found, asked_at) = *self.held().as_mut()?.get(client_id)?;
        // A clock that was set back makes an age unknown, and unknown counts as too old.
        now.checked_sub(asked_at).is_some_and(|age| age < FRESH_SECONDS).then_some(found)
    }

    fn held(&self) -> MutexGuard<'_, Option<LruCache<String, (bool, u64)>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the client is revoked. Without a table of revocations nobody is.
///
/// # Errors
/// 503 when the table does not answer.
pub(crate) async fn is_revoked(issuer: &Inner, client_id: &str) -> Result<bool, Refusal> {
    if !issuer.deps.tables.revocations.is_configured() {
        return Ok(false);
    }
    let now = issuer.deps.clock.unix();
    if let Some(found) = issuer.revoked_clients.remembered(client_id, now) {
        return Ok(found);
    }
    let found = revocations::is_listed(issuer, Revoked::Client(client_id)).await?;
    let mut held = issuer.revoked_clients.held();
    held.get_or_insert_with(|| LruCache::new(REMEMBERED)).put(client_id.to_owned(), (found, now));
    Ok(found)
}
