//! The key issuer: OAuth access tokens, the keys that verify them, and SVIDs, as one Lambda function with three doors.
//!
//! The public door (an HTTP API) answers the discovery documents, the key sets, the list of revocations, clients with a
//! secret, an assertion or an API key, callers who prove their IAM role, and administrators with a token. The mTLS door (a
//! domain with mutual TLS) answers clients with a certificate. The IAM door (a Function URL with AWS_IAM) answers callers
//! whose IAM role the registry knows: clients, workloads and administrators. Each has its own closed route table.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use identity::secret::Secret;
use platform::aws::AwsConfig;
use platform::clock::{Clock, SystemClock};
use platform::dynamo_table::DynamoTable;
use platform::env::{Env, EnvError, Reader};
use platform::log::Log;
use platform::random::{Random, SystemRandom};
use platform::secrets::{SecretVersions, Secrets, SecretsManager};
use platform::table::{Table, TableOf, Unconfigured};
use platform::usage_plans::ApiGateway;
use serde_json::Value;

mod admin;
mod algorithm;
mod api_keys;
mod attestation;
mod audit;
pub mod bootstrap;
mod ca;
mod certificate;
mod client;
mod client_auth;
mod client_cache;
mod clients_admin;
mod config;
mod confirmation;
mod dpop;
mod event;
mod form;
mod iam;
mod introspection;
mod jwks;
mod jwt_svid;
mod leaks;
mod metadata;
mod offers;
mod own_token;
mod rate;
mod refusal;
mod registry;
mod replay;
mod revocation;
mod revocations;
mod rotation;
mod routes;
mod secret_cache;
mod signing_key;
mod spiffe_bundle;
mod svid;
#[cfg(test)]
#[path = "../tests/common/keys.rs"]
mod test_keys;
mod token;
mod usage_plans;

pub use admin::Administration;
pub use algorithm::Algorithm;
pub use attestation::{CallerIdentity, CallerIdentityError, Sts};
pub use ca::SVID_LIFE_SECONDS;
pub use client::{AssertionAudience, Authentication, CertificateName, ClientRecord, ClientState};
pub use client_auth::secret_hash;
pub use config::Config;
pub use event::{InvocationError, MAX_BODY_BYTES, UnsupportedEvent};
pub use form::{Form, FormError, MAX_PARAMETERS};
pub use iam::{InvalidRoleArn, RoleArn};
pub use jwt_svid::{JWT_SVID_LIFE_SECONDS, MAX_AUDIENCES};
pub use registry::{Registration, Registry};
pub use rotation::signing_keys_text;
pub use svid::MAX_CSR_BYTES;
pub use usage_plans::{PlanKey, UsagePlanError, UsagePlans};

use audit::Facts;
use ca::Authority;
use event::{Request, Response};
use iam::Door;
use rate::Rate;
use refusal::Refusal;
use routes::{NoRoute, Route};
use secret_cache::SecretCache;
use signing_key::SigningKeys;

/// How many proofs by one access key may be sent to STS from one source address, each second.
const PROOFS_PER_SECOND: u64 = 10;
/// The same by all access keys: many callers may share an address, and whoever has none can make names of keys up.
const PROOFS_OF_SOURCE_PER_SECOND: u64 = 100;

/// What the issuer stands on.
#[derive(Clone)]
pub struct Deps {
    /// Clients, API keys, and what changes.
    pub tables: Tables,
    /// Signing keys, certificate authority and pepper.
    pub secrets: Arc<dyn Secrets>,
    /// The versions of the signing keys, for their rotation; without it, there is none.
    pub secret_versions: Option<Arc<dyn SecretVersions>>,
    /// Whoever carries callers' signed requests to STS; without it, the IAM door is the only way to an SVID.
    pub caller_identity: Option<Arc<dyn CallerIdentity>>,
    /// Times of issue and ages of caches.
    pub clock: Arc<dyn Clock>,
    /// Token ids and serial numbers.
    pub random: Arc<dyn Random>,
    /// The audit log.
    pub log: Log,
}

/// The issuer's tables.
#[derive(Clone)]
pub struct Tables {
    /// OAuth clients, [`ClientRecord`] by `client_id`.
    pub clients: Arc<dyn Table>,
    /// API keys, [`authz::ApiKeyRecord`] by their public id.
    pub api_keys: Arc<dyn Table>,
    /// What comes and goes: refresh tokens and what ends them, used `jti`s and proofs.
    pub state: Arc<dyn Table>,
    /// Revoked credentials, until they would have expired.
    pub revocations: Arc<dyn Table>,
}

impl Tables {
    /// The tables of an embedded store.
    pub fn embedded(store: &platform::store::Embedded) -> Self {
        Self {
            clients: store.table("clients"),
            api_keys: store.table(platform::store::API_KEYS),
            state: store.table("state"),
            revocations: store.table("revocations"),
        }
    }
}

/// The issuer: a `tower` service from a Lambda event to a proxy response. Cheap to clone; clones share the keys.
#[derive(Clone)]
pub struct KeyIssuer(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) deps: Deps,
    pub(crate) clients: client_cache::ClientCache,
    pub(crate) families: TableOf<token::refresh::Family>,
    pub(crate) revoked: TableOf<revocations::Entry>,
    pub(crate) offers: offers::Offers,
    pub(crate) used: TableOf<Value>,
    pub(crate) api_keys: TableOf<authz::ApiKeyRecord>,
    pub(crate) access: admin::Access,
    pub(crate) usage_plans: Option<Arc<dyn UsagePlans>>,
    /// Reports of leaks, by source address.
    pub(crate) leaks: Rate,
    pub(crate) revocation_list: revocations::ListCache,
    pub(crate) revoked_clients: client_auth::RevokedClients,
    pub(crate) throttle: client_auth::Throttle,
    /// SVIDs, by role.
    pub(crate) svid_rate: Rate,
    /// Proofs that STS is asked about, by source address and access key.
    pub(crate) proof_rate: Rate,
    /// The same by source address.
    pub(crate) proof_rate_of_source: Rate,
    metadata: String,
    signing_keys: SecretCache<SigningKeys>,
    authority: Option<SecretCache<Authority>>,
    pepper: Option<SecretCache<Secret<Vec<u8>>>>,
}

impl KeyIssuer {
    /// An issuer that nobody administrates. No secret is read before a request needs it.
    pub fn new(config: Config, deps: Deps) -> Self {
        Self::with_administration(config, deps, Administration::default())
    }

    /// An issuer whose administrators the policies name.
    pub fn with_administration(config: Config, deps: Deps, administration: Administration) -> Self {
        let offers = offers::Offers::of(&config, &deps.tables);
        let metadata = metadata::Metadata::new(&config, offers).to_json();
        let signing_keys = SecretCache::new(&config.signing_secret, |secret, _| SigningKeys::from_secret(secret));
        let trust_domain = config.trust_domain.clone();
        let authority = config
            .ca_secret
            .as_deref()
            .map(|id| SecretCache::new(id, move |secret, now| Authority::from_secret(secret, &trust_domain, now)));
        let pepper = config.pepper_secret.as_deref().map(|id| SecretCache::new(id, token::exchange::pepper));
        let clients = TableOf::new("clients", deps.tables.clients.clone(), deps.clock.clone());
        let clients = client_cache::ClientCache::new(clients);
        let families = TableOf::new("state", deps.tables.state.clone(), deps.clock.clone());
        let revoked = TableOf::new("revocations", deps.tables.revocations.clone(), deps.clock.clone());
        let used = TableOf::new("state", deps.tables.state.clone(), deps.clock.clone());
        let api_keys = TableOf::new("api_keys", deps.tables.api_keys.clone(), deps.clock.clone());
        let Administration { policies, usage_plans } = administration;
        let access = admin::Access::new(&config, policies);
        let throttle = client_auth::Throttle::new();
        let svid_rate = Rate::new(config.svid_rate);
        let proof_rate = Rate::new(PROOFS_PER_SECOND);
        let proof_rate_of_source = Rate::new(PROOFS_OF_SOURCE_PER_SECOND);
        Self(Arc::new(Inner {
            config,
            deps,
            clients,
            families,
            revoked,
            offers,
            used,
            api_keys,
            access,
            usage_plans,
            leaks: Rate::new(leaks::PER_SECOND),
            revocation_list: revocations::ListCache::default(),
            revoked_clients: client_auth::RevokedClients::default(),
            throttle,
            svid_rate,
            proof_rate,
            proof_rate_of_source,
            metadata,
            signing_keys,
            authority,
            pepper,
        }))
    }

    /// An issuer on AWS: DynamoDB, Secrets Manager, this machine's clock and randomness, standard output.
    ///
    /// # Errors
    /// Names the first variable that is wrong, unknown, missing or half given.
    pub fn from_env(env: &dyn Env) -> Result<Self, EnvError> {
        let config = Config::from_env(env)?;
        let table = config.clients_table.clone().ok_or_else(|| EnvError::Missing {
            name: "CAUSEWAY_CLIENTS_TABLE".to_owned(),
            hint: "the DynamoDB table of OAuth clients".to_owned(),
        })?;
        let aws = AwsConfig::from_env(&Reader::new(env))?;
        let secrets = Arc::new(SecretsManager::new(aws.clone()));
        let sts: Option<Arc<dyn CallerIdentity>> = match config.sts_endpoints.as_slice() {
            [] => None,
            _ => Some(Arc::new(Sts::new().map_err(|error| EnvError::Invalid {
                name: "CAUSEWAY_STS_ENDPOINTS".to_owned(),
                value: config.sts_endpoints.join(","),
                why: error.to_string(),
            })?)),
        };
        let usage_plans = config.usage_plans.then(|| -> Arc<dyn UsagePlans> {
            Arc::new(ApiGateway::new(aws.clone(), config.apigateway_endpoint.clone()))
        });
        let administration = Administration { policies: Administration::open(&config)?, usage_plans };
        let deps = Deps {
            tables: Tables {
                clients: Arc::new(DynamoTable::new(table, aws.clone())),
                api_keys: table_or_none(config.api_keys_table.as_ref(), "CAUSEWAY_API_KEYS_TABLE", &aws),
                state: table_or_none(config.state_table.as_ref(), "CAUSEWAY_STATE_TABLE", &aws),
                revocations: table_or_none(config.revocations_table.as_ref(), "CAUSEWAY_REVOCATIONS_TABLE", &aws),
            },
            secret_versions: Some(secrets.clone()),
            secrets,
            caller_identity: sts,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            log: Log::stdout(),
        };
        Ok(Self::with_administration(config, deps, administration))
    }

    /// Answers one event. Every HTTP event gets an HTTP answer; a step of the rotation of the signing keys gets one if it
    /// is done, and a reconciliation of usage plans says what it did.
    ///
    /// # Errors
    /// When the event is neither, see [`UnsupportedEvent`], or when the step fails.
    pub async fn handle(&self, event: Value) -> Result<Value, InvocationError> {
        // Whoever may set the target of a rule of EventBridge writes the whole event. A function that EventBridge may
        // invoke is therefore another one than the issuer, and takes nothing out of its events.
        if self.0.config.usage_plans_only {
            return usage_plans::reconcile(&self.0).await.map_err(InvocationError::Reconciliation);
        }
        if rotation::is_event(&event) {
            return rotation::answer(&self.0, event).await;
        }
        if usage_plans::is_event(&event) {
            return usage_plans::reconcile(&self.0).await.map_err(InvocationError::Reconciliation);
        }
        let request = Request::try_from(event)?;
        let issuer = &self.0;
        let mut facts = Facts::default();
        let outcome = issuer.answer(&request, &mut facts).await;
        let refusal = outcome.as_ref().err();
        audit::write(&issuer.deps.log, issuer.deps.clock.unix(), &request, &facts, refusal);
        let mut response = outcome.unwrap_or_else(|refusal| refusal.response());
        if request.method == "HEAD" {
            response.body.clear();
        }
        Ok(response.into_payload())
    }
}

impl Inner {
    async fn answer(&self, request: &Request, facts: &mut Facts) -> Result<Response, Refusal> {
        let ignored = iam::ignored(request, &self.config);
        (facts.iam_ignored, facts.certificate_ignored) = (ignored.iam, ignored.certificate);
        let door = iam::door(request, &self.config, self.deps.clock.unix())?;
        facts.door = Some(door.name());
        let table = match &door {
            Door::Public => routes::PUBLIC,
            Door::Mtls(_) => routes::MTLS,
            Door::Iam(role) => {
                facts.role_arn = Some(role.to_string());
                if let Some(registration) = self.config.registry.get(role) {
                    registration.check_unique_id(iam::unique_id(request))?;
                }
                routes::IAM
            }
        };
        let (route, id) = table.find(&request.method, &request.path).map_err(|no_route| match no_route {
            NoRoute::Path => Refusal::new(404, "not_found", "there is nothing at this path"),
            NoRoute::Method(allow) => {
                Refusal::new(405, "method_not_allowed", format!("this path takes {allow}")).with_header("Allow", allow)
            }
        })?;
        facts.route = Some(route.name());
        match route {
            Route::Metadata => Ok(Response::public_json(metadata::MAX_AGE_SECONDS, self.metadata.clone())),
            Route::Jwks => jwks::answer(self.signing_keys().await?.as_ref(), request, self.deps.clock.unix()),
            Route::SpiffeBundle => spiffe_bundle::answer(self, request).await,
            Route::Revocations => revocations::answer(self, request).await,
            Route::Token => token::answer(self, request, &door, facts).await,
            Route::Introspect => introspection::answer(self, request, &door, facts).await,
            Route::Revoke => revocation::answer(self, request, &door, facts).await,
            Route::Nonce => attestation::nonce(self, request).await,
            Route::Svid => svid::answer(self, request, &door, facts).await,
            Route::JwtSvid => jwt_svid::answer(self, request, &door, facts).await,
            Route::Admin(admin) => admin::answer(self, request, &door, admin, id, facts).await,
        }
    }

    pub(crate) async fn signing_keys(&self) -> Result<Arc<SigningKeys>, Refusal> {
        self.load(&self.signing_keys).await
    }

    /// The signing keys and when the store got them.
    pub(crate) async fn dated_signing_keys(&self) -> Result<(Arc<SigningKeys>, u64), Refusal> {
        let Deps { secrets, log, clock, .. } = &self.deps;
        let dated = self.signing_keys.get_dated(secrets.as_ref(), log, clock.unix()).await;
        dated.map_err(Refusal::unavailable)
    }

    /// The authority and when the store got it; `None` where there is none.
    pub(crate) async fn dated_authority(&self) -> Result<Option<(Arc<Authority>, u64)>, Refusal> {
        let Deps { secrets, log, clock, .. } = &self.deps;
        let Some(cache) = &self.authority else { return Ok(None) };
        let dated = cache.get_dated(secrets.as_ref(), log, clock.unix()).await;
        dated.map(Some).map_err(Refusal::unavailable)
    }

    pub(crate) async fn authority(&self) -> Result<Arc<Authority>, Refusal> {
        match &self.authority {
            Some(cache) => self.load(cache).await,
            None => Err(Refusal::internal("there is no certificate authority")),
        }
    }

    /// What API keys are hashed with.
    pub(crate) async fn pepper(&self) -> Result<Arc<Secret<Vec<u8>>>, Refusal> {
        match &self.pepper {
            Some(cache) => self.load(cache).await,
            None => Err(Refusal::internal("there is no pepper")),
        }
    }

    async fn load<T>(&self, cache: &SecretCache<T>) -> Result<Arc<T>, Refusal> {
        let Deps { secrets, log, clock, .. } = &self.deps;
        cache.get(secrets.as_ref(), log, clock.unix()).await.map_err(Refusal::unavailable)
    }
}

impl tower::Service<Value> for KeyIssuer {
    type Response = Value;
    type Error = InvocationError;
    type Future = Pin<Box<dyn Future<Output = Result<Value, InvocationError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), InvocationError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, event: Value) -> Self::Future {
        let issuer = self.clone();
        Box::pin(async move { issuer.handle(event).await })
    }
}

/// A table of DynamoDB, or the one that says which variable would name it.
fn table_or_none(name: Option<&String>, variable: &'static str, aws: &AwsConfig) -> Arc<dyn Table> {
    match name {
        Some(name) => Arc::new(DynamoTable::new(name.clone(), aws.clone())),
        None => Arc::new(Unconfigured(variable)),
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Exactly 32 bytes of hexadecimal.
pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal() {
        let bytes: [u8; 32] = std::array::from_fn(|i| u8::try_from(i * 8).unwrap_or(0));
        assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        assert_eq!(unhex(&hex(&bytes).to_uppercase()), Some(bytes));
        assert_eq!(unhex(&"0".repeat(63)), None);
        assert_eq!(unhex(&"+f".repeat(32)), None);
        assert_eq!(unhex(&"é".repeat(32)), None);
    }
}
