//! The key sets that a request needs: those that came with the policies, and those that are fetched.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use authz::{JwksError, KeySets, KeysNeeded, Policies};
use rustls::pki_types::CertificateDer;

use crate::clock::Clock;
use crate::jwks::{JwksSource, MAX_TIMEOUT, Next, Place, PublishedSet};
use crate::log::Log;

/// Key sets of the policies, with what has been fetched since.
pub struct KeySetSource {
    clock: Arc<dyn Clock>,
    jwks: Arc<JwksSource>,
    /// Every published set that a rule names, by the name that the gate looks it up by.
    sets: BTreeMap<String, Arc<PublishedSet>>,
    snapshot: Mutex<Snapshot>,
}

/// What requests are decided with until something changes or gets too old.
struct Snapshot {
    keys: KeySets,
    /// What [`JwksSource::changes`] was; `None` before the first request.
    changes: Option<u64>,
    /// The times, in seconds since 1970, from and until which every set in it may be used.
    from: u64,
    until: u64,
}

impl KeySetSource {
    /// The key sets of `policies`. Fetches nothing.
    ///
    /// # Errors
    /// A key set that came with the policies is not acceptable.
    pub fn new(policies: &Policies, jwks: Arc<JwksSource>, clock: Arc<dyn Clock>, log: Log) -> Result<Self, JwksError> {
        let keys = KeySets::embedded(policies)?;
        let mut places: BTreeMap<&str, Place> = BTreeMap::new();
        for source in policies.key_sources() {
            let Some(uri) = source.jwks_uri.or(source.discovery) else { continue };
            let place = Place {
                issuer: source.issuer.to_owned(),
                uri: uri.to_owned(),
                discovery: source.jwks_uri.is_none(),
                mode: policies.mode(),
                timeout: source.timeout.min(MAX_TIMEOUT),
            };
            match places.get_mut(uri) {
                None => drop(places.insert(uri, place)),
                Some(known) => {
                    let timeout = known.timeout.max(place.timeout);
                    // A rule that takes an issuer's discovery document for a key set gets nothing else than keys of
                    // that server; the other way round it would cut the issuer's own rule off.
                    if place.discovery && !known.discovery {
                        *known = place;
                    }
                    known.timeout = timeout;
                }
            }
        }
        let fetched_at = policies.keys_fetched_at();
        let sets = places
            .into_iter()
            .map(|(uri, place)| (uri.to_owned(), jwks.set(place, keys.fetched(uri).cloned(), fetched_at, &log)))
            .collect();
        let snapshot = Mutex::new(Snapshot { keys, changes: None, from: 0, until: 0 });
        Ok(Self { clock, jwks, sets, snapshot })
    }

    /// The root certificates that issuers are trusted by, beside Mozilla's.
    pub(crate) fn roots(&self) -> &[CertificateDer<'static>] {
        self.jwks.roots()
    }

    /// The key sets at hand. Those that are `needed` are fetched first where that is due, and waited for, for a short
    /// time, where they cannot be done without.
    pub async fn for_request(&self, needed: &[KeysNeeded]) -> KeySets {
        let (mut landings, mut underway) = (Vec::new(), false);
        for needed in needed {
            match self.sets.get(&needed.uri).map(|set| set.prepare(needed.kid.as_deref())) {
                None | Some(Next::Go) => {}
                Some(Next::Underway) => underway = true,
                Some(Next::Wait(landed)) => landings.push(landed),
            }
        }
        if !landings.is_empty() {
            let all = async {
                for landed in &mut landings {
                    // Ends when the fetch does, with an error, since nothing is ever sent.
                    let _ = landed.changed().await;
                }
            };
            // Too late is no error: the keys are there or not.
            let _ = tokio::time::timeout(self.jwks.wait(), all).await;
        } else if underway {
            // On one thread a fetch goes on only while requests let it.
            tokio::task::yield_now().await;
        }
        for set in needed.iter().filter_map(|needed| self.sets.get(&needed.uri)) {
            set.conclude();
        }
        self.current()
    }

    /// What may be used now. Copies nothing but three pointers when nothing has changed.
    fn current(&self) -> KeySets {
        let (now, changes) = (self.clock.unix(), self.jwks.changes());
        let mut snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        if snapshot.changes != Some(changes) || !(snapshot.from..snapshot.until).contains(&now) {
            let (mut from, mut until) = (0, u64::MAX);
            let mut changed = Vec::new();
            for (uri, set) in &self.sets {
                let usable = set.usable(now).map(|usable| {
                    (from, until) = (from.max(usable.from), until.min(usable.until));
                    usable.keys
                });
                if snapshot.keys.fetched(uri).map(Arc::as_ptr) != usable.as_ref().map(Arc::as_ptr) {
                    changed.push((uri.as_str(), usable));
                }
            }
            snapshot.keys.replace(changed);
            *snapshot = Snapshot { keys: snapshot.keys.clone(), changes: Some(changes), from, until };
        }
        snapshot.keys.clone()
    }
}
