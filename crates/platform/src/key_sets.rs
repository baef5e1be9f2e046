//! The key sets that a request needs: those that came with the policies, and those that are fetched.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use authz::{JwksError, KeySets, KeysNeeded, Mode, Policies};
use serde_json::json;

use crate::clock::{Clock, rfc3339};
use crate::jwks::JwksSource;
use crate::log::Log;

/// Key sets of the policies, with what has been fetched since.
pub struct KeySetSource {
    clock: Arc<dyn Clock>,
    embedded: KeySets,
    jwks: Arc<JwksSource>,
    log: Log,
    mode: Mode,
    /// URLs whose embedded key set has been replaced by a fetched one.
    superseded: Mutex<BTreeSet<String>>,
}

impl KeySetSource {
    /// The key sets of `policies`. Fetches nothing.
    ///
    /// # Errors
    /// A key set that came with the policies is not acceptable.
    pub fn new(policies: &Policies, jwks: Arc<JwksSource>, clock: Arc<dyn Clock>, log: Log) -> Result<Self, JwksError> {
        let embedded = KeySets::embedded(policies)?;
        Ok(Self { clock, embedded, jwks, log, mode: policies.mode(), superseded: Mutex::default() })
    }

    /// The key sets at hand, with those that are needed and can be had.
    pub async fn for_request(&self, needed: &[KeysNeeded]) -> KeySets {
        let mut keys = self.embedded.clone();
        for needed in needed {
            // A key that its issuer has withdrawn must not come back with the older set of the bundle.
            if self.superseded().contains(&needed.jwks_uri) {
                keys.remove(&needed.jwks_uri);
            }
            let held = keys.fetched(&needed.jwks_uri);
            // A set that came with the bundle is asked for again when it lacks the key that a token names: its issuer
            // may have rotated since. The source limits how often.
            let enough = held.is_some_and(|set| needed.kid.as_ref().is_none_or(|kid| set.has_kid(kid)));
            if enough {
                continue;
            }
            match self.jwks.get_as(&needed.jwks_uri, self.mode).await {
                Ok(set) => {
                    self.superseded().insert(needed.jwks_uri.clone());
                    keys.insert(&needed.jwks_uri, set);
                }
                Err(error) => self.log.write(&json!({
                    "ts": rfc3339(self.clock.now()), "event": "jwks_unavailable",
                    "issuer": needed.issuer, "jwks_uri": needed.jwks_uri, "error": error.to_string(),
                })),
            }
        }
        keys
    }

    fn superseded(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.superseded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
