//! What every front does around the gate: fetch what the gate needs, ask it, and write the decision down.
//!
//! `authorizer` and `adapter` differ in what they read and what they answer. What lies between is security-critical and
//! the same, so it is here, once. Nothing is fetched that a request does not need, and what cannot be fetched denies.

use std::collections::BTreeSet;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use authz::{
    Decision, Deny, DryRunAllow, Given, Hop, JwksError, KeyRecordLookup, KeySets, Mode, Policies, Reason, Request,
    Shadow, Target,
};
use identity::Secret;
use serde::Serialize;
use serde_json::json;

use crate::clock::Clock;
use crate::jwks::JwksSource;
use crate::log::Log;
use crate::secrets::Secrets;
use crate::store::ApiKeys;

/// The shortest pepper, in bytes: HMAC-SHA-256 with a shorter key could be searched for.
pub const MIN_PEPPER_BYTES: usize = 16;

/// The most bytes of one value in a decision line.
const MAX_LOGGED: usize = 512;

/// The parts of the outside world that a front uses.
#[derive(Clone)]
pub struct Deps {
    /// Where API keys are looked up; without it, every API key is refused as `api_key_unavailable`.
    pub api_keys: Option<ApiKeyStore>,
    /// Where key sets come from that the policies do not bring along.
    pub jwks: Arc<JwksSource>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where decisions are written down.
    pub log: Log,
}

/// Where API keys are looked up, and what they are hashed with.
#[derive(Clone)]
pub struct ApiKeyStore {
    /// The records.
    pub records: Arc<dyn ApiKeys>,
    /// Where the pepper is.
    pub secrets: Arc<dyn Secrets>,
    /// The id of the secret whose text is the pepper.
    pub pepper_id: String,
}

/// How API keys are configured in AWS.
#[cfg(all(feature = "dynamodb", feature = "secrets"))]
#[derive(Clone, Debug)]
pub struct ApiKeysConfig {
    /// `CAUSEWAY_API_KEYS_TABLE`: the DynamoDB table.
    pub table: String,
    /// `CAUSEWAY_PEPPER_SECRET`: the id of the secret whose text is the pepper.
    pub pepper_secret: String,
    /// Region, credentials and endpoints.
    pub aws: crate::aws::AwsConfig,
}

#[cfg(all(feature = "dynamodb", feature = "secrets"))]
impl ApiKeysConfig {
    /// Reads the two variables, and AWS' own when they are there.
    ///
    /// # Errors
    /// One of the two without the other, or a variable of AWS is missing.
    pub fn from_env(env: &crate::env::Reader<'_>) -> Result<Option<Self>, crate::env::EnvError> {
        let Some((table, pepper_secret)) = env.pair("CAUSEWAY_API_KEYS_TABLE", "CAUSEWAY_PEPPER_SECRET")? else {
            return Ok(None);
        };
        Ok(Some(Self { table, pepper_secret, aws: crate::aws::AwsConfig::from_env(env)? }))
    }
}

/// `CAUSEWAY_ENVIRONMENT`: the environment that a program serves, if it is told.
///
/// # Errors
/// The name is not one that API keys can carry.
#[cfg(feature = "aws")]
pub fn environment_from_env(env: &crate::env::Reader<'_>) -> Result<Option<String>, crate::env::EnvError> {
    env.checked("CAUSEWAY_ENVIRONMENT", |word| {
        let plain = word.len() <= 32 && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        plain.then(|| word.to_owned()).ok_or_else(|| "expected 1 to 32 lower-case letters and digits".to_owned())
    })
}

#[cfg(all(feature = "dynamodb", feature = "secrets"))]
impl Deps {
    /// The surroundings of a program in AWS. Connects to nobody yet.
    pub fn in_aws(api_keys: Option<&ApiKeysConfig>, log: Log) -> Self {
        let clock = Arc::new(crate::clock::SystemClock);
        let api_keys = api_keys.map(|keys| ApiKeyStore {
            records: Arc::new(crate::store::DynamoDb::new(&keys.table, keys.aws.clone())),
            secrets: Arc::new(crate::secrets::SecretsManager::new(keys.aws.clone())),
            pepper_id: keys.pepper_secret.clone(),
        });
        Self { api_keys, jwks: Arc::new(JwksSource::new(clock.clone())), clock, log }
    }
}

/// The gate with its surroundings.
pub struct Front {
    deps: Deps,
    embedded: KeySets,
    /// URLs whose embedded key set has been replaced by a fetched one.
    superseded: Mutex<BTreeSet<String>>,
    pepper: tokio::sync::OnceCell<Secret<Vec<u8>>>,
    policies: Policies,
}

impl Front {
    /// A front for `policies`. Fetches nothing.
    ///
    /// # Errors
    /// A key set that came with the policies is not acceptable.
    pub fn new(policies: Policies, deps: Deps) -> Result<Self, JwksError> {
        let embedded = KeySets::embedded(&policies)?;
        Ok(Self { deps, embedded, superseded: Mutex::default(), pepper: tokio::sync::OnceCell::new(), policies })
    }

    /// The policies that are asked.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Where decisions are written down.
    pub fn log(&self) -> &Log {
        &self.deps.log
    }

    /// Decides about one request. A panic on the way is a denial for this request, and costs the others nothing.
    pub async fn decide(&self, request: &Request, target: &Target) -> Decision {
        unpanicked(self.ask(request, target)).await.unwrap_or_else(|Panicked| fault())
    }

    async fn ask(&self, request: &Request, target: &Target) -> Decision {
        let wanted = authz::credentials(&self.policies, request, target);
        let keys = self.keys(&wanted.keys_needed).await;
        let api_key = match &wanted.api_key {
            Some(presented) => Some(self.api_key(&presented.id).await),
            None => None,
        };
        let now = self.deps.clock.unix();
        let given = Given {
            keys: &keys,
            api_key: api_key.as_ref(),
            pepper: self.pepper.get(),
            revoked: None,
            providers: None,
            now,
        };
        authz::decide(&self.policies, request, target, &given)
    }

    /// The key sets at hand, with those that are needed and can be had.
    async fn keys(&self, needed: &[authz::KeysNeeded]) -> KeySets {
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
            match self.deps.jwks.get(&needed.jwks_uri).await {
                Ok(set) => {
                    self.superseded().insert(needed.jwks_uri.clone());
                    keys.insert(&needed.jwks_uri, set);
                }
                Err(error) => self.deps.log.write(&json!({
                    "ts": rfc3339(self.deps.clock.now()), "event": "jwks_unavailable",
                    "issuer": needed.issuer, "jwks_uri": needed.jwks_uri, "error": error.to_string(),
                })),
            }
        }
        keys
    }

    fn superseded(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.superseded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn api_key(&self, id: &str) -> KeyRecordLookup {
        let Some(store) = &self.deps.api_keys else {
            self.api_keys_unavailable("no store is configured: set CAUSEWAY_API_KEYS_TABLE and CAUSEWAY_PEPPER_SECRET");
            return KeyRecordLookup::Unavailable;
        };
        let (record, pepper) = tokio::join!(store.records.get(id), self.pepper.get_or_try_init(|| pepper(store)));
        match (record, pepper) {
            (Ok(Some(record)), Ok(_)) => KeyRecordLookup::Found(record),
            (Ok(None), Ok(_)) => KeyRecordLookup::NotFound,
            (Err(error), _) => {
                self.api_keys_unavailable(&error.to_string());
                KeyRecordLookup::Unavailable
            }
            (_, Err(error)) => {
                self.api_keys_unavailable(&error);
                KeyRecordLookup::Unavailable
            }
        }
    }

    fn api_keys_unavailable(&self, error: &str) {
        let ts = rfc3339(self.deps.clock.now());
        self.deps.log.write(&json!({"ts": ts, "event": "api_keys_unavailable", "error": error}));
    }

    /// Writes the line of a decision.
    pub fn record(&self, decision: &Decision, seen: &Seen<'_>) {
        self.deps.log.write(&Line::of(decision, seen, self.policies.mode(), self.deps.clock.now()));
    }
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").field("policies", &self.policies).finish_non_exhaustive()
    }
}

async fn pepper(store: &ApiKeyStore) -> Result<Secret<Vec<u8>>, String> {
    let secret = store.secrets.get(&store.pepper_id).await.map_err(|error| error.to_string())?;
    let bytes = secret.expose().as_bytes();
    if bytes.len() < MIN_PEPPER_BYTES {
        let (id, found) = (&store.pepper_id, bytes.len());
        return Err(format!("the pepper {id} has {found} bytes, expected at least {MIN_PEPPER_BYTES}"));
    }
    Ok(Secret::new(bytes.to_vec()))
}

/// What a decision line says besides the decision.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The request, if it could be read.
    pub request: Option<&'a Request>,
    /// The status that the client gets.
    pub status: u16,
    /// Id of the API, empty in the mesh.
    pub api_id: &'a str,
    /// Stage of the API, empty in the mesh.
    pub stage: &'a str,
    /// The front's id of the request.
    pub request_id: &'a str,
    /// From the arrival of the request to its decision.
    pub latency: Duration,
}

#[derive(Serialize)]
struct Line<'a> {
    ts: String,
    event: &'static str,
    allowed: bool,
    status: u16,
    reason: &'static str,
    policy: Option<&'a str>,
    principal: Option<&'a str>,
    client_id: Option<&'a str>,
    method: &'a str,
    path: &'a str,
    host: &'a str,
    api_id: &'a str,
    stage: &'a str,
    hop: &'static str,
    mode: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_run_deny: Option<&'a str>,
    /// The rule that would allow, or `denied`.
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_run_allow: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
    latency_us: u64,
}

impl<'a> Line<'a> {
    fn of(decision: &'a Decision, seen: &Seen<'a>, mode: Mode, now: SystemTime) -> Self {
        let detail = match decision {
            Decision::Allow(_) => "",
            Decision::Deny(deny) => &deny.detail,
        };
        let Shadow { audit, dry_run_deny, dry_run_allow } = decision.shadow();
        Self {
            ts: rfc3339(now),
            event: "decision",
            allowed: decision.is_allowed(),
            status: seen.status,
            reason: decision.reason().as_str(),
            policy: decision.policy().map(shortened),
            principal: decision.principal().map(shortened),
            client_id: decision.client_id().map(shortened),
            method: shortened(seen.request.map_or("", |request| &request.method)),
            // The query may hold a token.
            path: shortened(seen.request.map_or("", |request| before(&request.path, &['?', '#']))),
            host: shortened(seen.request.map_or("", |request| &request.host)),
            api_id: shortened(seen.api_id),
            stage: shortened(seen.stage),
            hop: decision.hop().as_str(),
            mode: mode.as_str(),
            request_id: shortened(seen.request_id),
            audit: audit.as_deref().map(shortened),
            dry_run_deny: dry_run_deny.as_deref().map(shortened),
            dry_run_allow: dry_run_allow.as_ref().map(|allow| match allow {
                DryRunAllow::AllowedBy(rule) => shortened(rule),
                DryRunAllow::Denied => "denied",
            }),
            detail: shortened(detail),
            latency_us: u64::try_from(seen.latency.as_micros()).unwrap_or(u64::MAX),
        }
    }
}

/// The denial that stands for a fault of ours.
pub fn fault() -> Decision {
    let detail = "a fault in the program; the line with the event \"panic\" says where";
    Deny::new(Reason::Internal, Hop::Request, detail).into()
}

/// A computation has panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked;

/// Runs `future`, and tells a panic in it from its value.
///
/// # Errors
/// [`Panicked`]. What the future was working on is gone with it; nothing that is shared may be left half changed, which
/// holds for what a [`Front`] shares: it is read only, or changed under a lock in one step.
pub async fn unpanicked<T>(future: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut future = pin!(future);
    std::future::poll_fn(move |context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(_) => Poll::Ready(Err(Panicked)),
    })
    .await
}

/// Makes panics of this process say where they are and nothing else. Rust's own message quotes values ("byte index 5 is
/// not a char boundary; it is inside …"), and here values are credentials.
pub fn quiet_panics(log: &Log) {
    let log = log.clone();
    std::panic::set_hook(Box::new(move |info| {
        let at = info.location().map(|at| format!("{}:{}", at.file(), at.line()));
        log.write(&json!({"event": "panic", "at": at}));
    }));
}

/// `2026-11-20T12:00:00.000Z`
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // The civil date of a day, counted in eras of 400 years that start in March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

fn before<'a>(text: &'a str, ends: &[char]) -> &'a str {
    text.split(ends).next().unwrap_or_default()
}

/// A line is for people, who need no more, and its length must not be a client's choice.
fn shortened(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_LOGGED)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (unix, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_799, "2000-02-29T23:59:59.000Z"),
            (1_795_176_000, "2026-11-20T12:00:00.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(unix)), expected);
        }
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_millis(1_234)), "1970-01-01T00:00:01.234Z");
    }

    #[test]
    fn a_line_is_cut_between_characters() {
        let long = "é".repeat(MAX_LOGGED);
        assert_eq!(shortened(&long).len(), MAX_LOGGED);
        assert_eq!(shortened(&format!("x{long}")).len(), MAX_LOGGED - 1);
        assert_eq!(shortened("short"), "short");
    }

    #[test]
    fn what_is_not_enforced_stands_in_the_line_when_there_is_something() {
        let seen = Seen {
            request: None,
            status: 403,
            api_id: "",
            stage: "",
            request_id: "",
            latency: Duration::from_micros(1),
        };
        let line =
            |deny: Deny, mode| serde_json::to_value(Line::of(&Decision::Deny(deny), &seen, mode, UNIX_EPOCH)).unwrap();
        let plain = Deny::new(Reason::DeniedNoMatch, Hop::Gateway, "");
        let found = line(plain.clone(), Mode::Strict);
        assert_eq!(found["mode"], "strict");
        for field in ["audit", "dry_run_deny", "dry_run_allow"] {
            assert!(found.get(field).is_none(), "{field}");
        }
        let shadow = |dry_run_allow| Shadow {
            audit: Some("a".to_owned()),
            dry_run_deny: Some("d".to_owned()),
            dry_run_allow: Some(dry_run_allow),
        };
        let found = line(Deny { shadow: shadow(DryRunAllow::Denied), ..plain.clone() }, Mode::Istio);
        assert_eq!(found["mode"], "istio");
        assert_eq!([&found["audit"], &found["dry_run_deny"], &found["dry_run_allow"]], ["a", "d", "denied"]);
        let long = DryRunAllow::AllowedBy("x".repeat(MAX_LOGGED + 1));
        let found = line(Deny { shadow: shadow(long), ..plain }, Mode::Istio);
        assert_eq!(found["dry_run_allow"].as_str().unwrap().len(), MAX_LOGGED);
    }

    #[tokio::test]
    async fn a_panic_is_a_value() {
        assert_eq!(unpanicked(async { 1 }).await, Ok(1));
        let late = async {
            tokio::task::yield_now().await;
            panic!("a bug");
        };
        assert_eq!(unpanicked(late).await, Err::<(), _>(Panicked));
    }
}
