//! The key sets that issuers publish: fetched when a request needs them, refreshed by requests, kept for a bounded
//! time.
//!
//! There is no timer: a Lambda is frozen between requests, so each request looks at the ages, on the wall clock. Past
//! its *soft age* a set is fetched again by a task that goes on whenever the runtime does, in this request or a later
//! one, and nobody waits for it. Past its *hard age* a set is not used any more, and requests wait for the fetch, for a
//! short time.

mod bucket;
mod fetch;
mod report;
mod set;
mod settings;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use authz::Mode;
use rustls::pki_types::CertificateDer;

use crate::clock::Clock;
use crate::https::{Client, ClientOptions, FetchError};
use crate::log::Log;

pub use bucket::{BURST, SECONDS_PER_FETCH};
pub(crate) use fetch::Place;
pub use report::{JwksCounters, JwksState};
pub(crate) use set::{Next, PublishedSet};
pub use settings::JwksSettings;

/// A set whose issuer does not say otherwise is fetched again after this time: what Istio tells Envoy.
pub const SOFT_AGE: Duration = Duration::from_secs(300);

/// The least that an issuer's `max-age` can make of it.
pub const SHORTEST_SOFT_AGE: Duration = Duration::from_secs(60);

/// The most that an issuer's `max-age` can make of it: somewhat before [`HARD_AGE`], so that there is time to fetch.
pub const LONGEST_SOFT_AGE: Duration = Duration::from_secs(2_700);

/// A fetched set is used for this long and no longer, whatever its issuer says or does.
pub const HARD_AGE: Duration = Duration::from_secs(3_600);

/// A set that came with the policies and was never fetched since is used for this long, counted from when it was
/// fetched for them. Where that time is not known, it is not used at all before it has been fetched.
pub const EMBEDDED_HARD_AGE: Duration = Duration::from_secs(86_400);

/// Requests that cannot be decided without a fetch wait for it this long.
pub const WAIT: Duration = Duration::from_millis(300);

/// The longest pause between two attempts at an issuer that fails. The first is 2 s, and each is twice the one before.
pub const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// An attempt takes no longer, whatever `timeout` a rule has.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(10);

/// Fetches and keeps key sets. Policies that are replaced find those of their predecessors here.
pub struct JwksSource {
    shared: Arc<Shared>,
    /// Those that some policies in use name.
    sets: Mutex<HashMap<SetId, Weak<PublishedSet>>>,
}

/// Sets are kept by where they come from, as the gate holds them. Two rules may name one issuer and two URLs: were the
/// sets kept by issuer, whoever may write the one rule could sign tokens for the other.
#[derive(Eq, Hash, PartialEq)]
struct SetId {
    uri: String,
    /// The issuer, when `uri` is its discovery document, which must name it.
    discovered: Option<String>,
    strict: bool,
}

/// What all sets share.
pub(crate) struct Shared {
    clock: Arc<dyn Clock>,
    settings: JwksSettings,
    client: OnceLock<Client>,
    counters: JwksCounters,
    /// Goes up whenever a set gets other keys, or another age.
    changes: AtomicU64,
}

impl Shared {
    /// Made by the first fetch: a start needs no TLS.
    fn client(&self) -> Result<&Client, FetchError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::with(ClientOptions {
            timeout: MAX_TIMEOUT,
            max_bytes: authz::jwk::MAX_BYTES,
            reach: self.settings.reach,
            roots: self.settings.roots.clone(),
            keep_alive: false,
        })?;
        Ok(self.client.get_or_init(|| client))
    }
}

impl JwksSource {
    /// A source with the default settings. Sets nothing up, and fetches nothing, before a request needs it.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with_settings(JwksSettings::default(), clock)
    }

    /// As [`new`](Self::new), with other settings.
    pub fn with_settings(settings: JwksSettings, clock: Arc<dyn Clock>) -> Self {
        let shared = Shared {
            clock,
            settings,
            client: OnceLock::new(),
            counters: JwksCounters::default(),
            changes: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared), sets: Mutex::default() }
    }

    /// How often each state was met.
    pub fn counters(&self) -> &JwksCounters {
        &self.shared.counters
    }

    /// How long a request waits for a fetch.
    pub(crate) fn wait(&self) -> Duration {
        self.shared.settings.wait
    }

    /// The root certificates to trust beside Mozilla's.
    pub(crate) fn roots(&self) -> &[CertificateDer<'static>] {
        &self.shared.settings.roots
    }

    /// A number that differs when some set has changed.
    pub(crate) fn changes(&self) -> u64 {
        self.shared.changes.load(std::sync::atomic::Ordering::Acquire)
    }

    /// The set that is published at `place`, with what came with the policies and when that was fetched.
    pub(crate) fn set(
        &self,
        place: Place,
        embedded: Option<Arc<authz::Jwks>>,
        fetched_at: Option<u64>,
        log: &Log,
    ) -> Arc<PublishedSet> {
        let id = SetId {
            uri: place.uri.clone(),
            discovered: place.discovery.then(|| place.issuer.clone()),
            strict: place.mode == Mode::Strict,
        };
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        sets.retain(|_, set| set.strong_count() > 0);
        let set = sets.get(&id).and_then(Weak::upgrade).unwrap_or_else(|| {
            let set = Arc::new(PublishedSet::new(place, self.shared.clone(), log.clone()));
            sets.insert(id, Arc::downgrade(&set));
            set
        });
        if let Some(keys) = embedded {
            set.embed(keys, fetched_at);
        }
        set
    }
}
