//! Envoy's external authorization, answered by the same policies and the same code as at API Gateway.
//!
//! Envoy asks over gRPC (`envoy.service.auth.v3.Authorization/Check`), the gate of `authz` decides, Envoy lets the
//! request pass or not. An allowed request reaches its workload without its API key (unless the policy forwards it) and
//! with headers that say who calls, which nobody but the adapter can set.
//!
//! | variable | meaning | default | required |
//! |---|---|---|---|
//! | `CAUSEWAY_ADAPTER_ADDRESS` | IP address and port to listen on | `127.0.0.1:9191` | no |
//! | `CAUSEWAY_BUNDLE` | the bundle file with the policies | `/opt/causeway/mesh.bundle` | no |
//! | `CAUSEWAY_WORKLOAD_NAMESPACE` | namespace of the workload whose policies count | Envoy names it | with the next |
//! | `CAUSEWAY_WORKLOAD_LABELS` | its labels, `app=ratings,version=v1` | Envoy names it | with the one before |
//! | `CAUSEWAY_API_KEYS_TABLE` | the DynamoDB table of API keys | API keys are refused | with the next |
//! | `CAUSEWAY_PEPPER_SECRET` | the Secrets Manager id of the pepper that API keys are hashed with | API keys are refused | with the one before |
//! | `CAUSEWAY_ALLOW_PRIVATE_ISSUERS` | `true`: key sets may be fetched from this host and private networks | `false` | no |
//! | `CAUSEWAY_ISSUER_ROOTS` | a PEM file with root certificates to trust when key sets and the revocation list are fetched | Mozilla's alone | no |
//! | `CAUSEWAY_ISSUER_URL` | the issuer's public door: API keys are exchanged there for the tokens that the mesh verifies | no exchange | no; needs the two before |
//! | `CAUSEWAY_TOKEN_AUDIENCE` | for whom these tokens are | all audiences of the key | no; needs the one before |
//! | `CAUSEWAY_METRICS` | `prometheus` (a port), `emf` (CloudWatch's embedded metric format, in the log) or `off` | `off` | no |
//! | `CAUSEWAY_METRICS_PORT` | Prometheus' port, at the IP address of `CAUSEWAY_ADAPTER_ADDRESS` | 9192 | no |
//! | `CAUSEWAY_RELOAD_SECONDS` | how often the bundle file is looked at, in seconds to 3600; 0 for never | 5 | no |
//! | `CAUSEWAY_REVOCATIONS_URL` | where the issuer publishes its signed list of revoked credentials | no list but the bundle's | with the next |
//! | `CAUSEWAY_REVOCATIONS_ISSUER` | the issuer that signs the list | no list but the bundle's | with the one before |
//! | `CAUSEWAY_REVOCATIONS_MAX_AGE` | how old the list may be, in seconds from when it was signed; 120 to 86400 | 900 | no |
//! | `CAUSEWAY_SHADOW_WORKLOADS` | [shadow mode](platform::shadow_mode): where nothing is denied but written down; `*`, or `NAMESPACE` and `NAMESPACE/LABEL=VALUE` with commas between | everything is enforced | with the next |
//! | `CAUSEWAY_SHADOW_UNTIL` | its end, `2026-12-31T00:00:00Z`; 90 days ahead at most | everything is enforced | with the one before |
//! | `AWS_REGION` | Region | | with the table |
//! | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` | an access key | the next | one of the three, with the table |
//! | `AWS_ROLE_ARN`, `AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_ROLE_SESSION_NAME` | a service account's role on EKS (IRSA), which EKS sets | the next | |
//! | `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`, `AWS_CONTAINER_CREDENTIALS_FULL_URI`, `AWS_CONTAINER_AUTHORIZATION_TOKEN`, `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE` | a role of a task on ECS, or by Pod Identity on EKS, which set them | | |
//! | `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_DYNAMODB`, `AWS_ENDPOINT_URL_SECRETS_MANAGER`, `AWS_ENDPOINT_URL_STS` | stand-ins for the AWS services | AWS | no |
//!
//! Envoy may name the workload itself, in the `context_extensions` of a route: `namespace` and `labels`
//! (`app=ratings,version=v1`), both or neither.

mod answer;
mod check;
pub mod config;
pub mod exchange;
mod metrics;
mod reload;
mod server;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};

use authz::{Decision, Policies, ShadowMode};
use envoy_types::ext_authz::v3::pb::{CheckRequest, CheckResponse};
use platform::bundle::{Bundle, BundleError, Section};
use platform::decision_line::Seen;
use platform::env::EnvError;
use platform::front::{self, Front, FrontError};
use platform::log::Log;
use platform::metrics::Output;
use platform::panics;
use platform::revocations::RevocationsSetup;
use platform::shadow_mode::{self, Latched};

pub use answer::{CLIENT_ID_HEADER, IDENTITY_PREFIX, PRINCIPAL_HEADER};
pub use config::Config;
pub use exchange::{Exchange, ExchangeConfig};
pub use metrics::{ExchangeCounters, ExchangeOutcome};
pub use platform::api_keys::{ApiKeyStore, ApiKeysConfig};
pub use platform::front::Deps;
pub use server::Bound;

use answer::Behind;
use check::Check;
use config::Workload;
use metrics::Metrics;
use reload::Watch;

/// The adapter cannot start or go on; the text names what to change.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A variable is missing or wrong.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// The bundle cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The bundle's policies cannot be used.
    #[error("the bundle: {0}")]
    Policies(#[from] authz::OpenError),
    /// A key set in the bundle cannot be used.
    #[error("the bundle: {0}; make it again with `causeway bundle`")]
    Keys(authz::JwksError),
    /// The configured revocation list could never be verified.
    #[error(transparent)]
    Revocations(platform::revocations::RevocationsError),
    /// Everything would be allowed.
    #[error(
        "no AuthorizationPolicy of the bundle applies to the workload {labels} of namespace {namespace}, so everything would be \
         allowed: correct CAUSEWAY_WORKLOAD_NAMESPACE and CAUSEWAY_WORKLOAD_LABELS, or write a policy that says so"
    )]
    Unguarded {
        /// The configured namespace.
        namespace: String,
        /// The configured labels.
        labels: String,
    },
    /// The port cannot be had.
    #[error("cannot listen on {address}: {source}; choose another CAUSEWAY_ADAPTER_ADDRESS")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// Prometheus' port cannot be had.
    #[error("cannot listen on {address} for Prometheus: {source}; choose another CAUSEWAY_METRICS_PORT")]
    BindMetrics {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The client of the issuer cannot be made.
    #[error("cannot exchange API keys: {0}")]
    Exchange(platform::https::FetchError),
    /// The server failed.
    #[error("the server stopped: {0}")]
    Serve(#[from] tonic::transport::Error),
}

impl Error {
    /// The exit status that belongs to the error: 64 for what is configured wrongly, 1 for what happened later.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Env(_)
            | Self::Bundle(_)
            | Self::Policies(_)
            | Self::Keys(_)
            | Self::Revocations(_)
            | Self::Unguarded { .. }
            | Self::Bind { .. }
            | Self::BindMetrics { .. } => platform::EXIT_USAGE,
            Self::Exchange(_) | Self::Serve(_) => 1,
        }
    }
}

impl From<FrontError> for Error {
    fn from(error: FrontError) -> Self {
        match error {
            FrontError::Keys(error) => Self::Keys(error),
            FrontError::Revocations(error) => Self::Revocations(error),
        }
    }
}

/// The adapter. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Adapter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    exchange: Option<Exchange>,
    log: Log,
    metrics: Metrics,
    place: Place,
    shadow: Option<Latched>,
    /// What checks are answered by; replaced as a whole.
    serving: RwLock<Arc<Serving>>,
}

/// One set of policies and what belongs to it.
#[derive(Debug)]
struct Serving {
    front: Front,
    /// Headers in which the policies look for tokens, and those that they make out of claims.
    token_headers: Vec<String>,
    outputs: Vec<String>,
}

impl Serving {
    fn new(front: Front) -> Arc<Self> {
        let (token_headers, outputs) = (front.policies().token_headers(), front.policies().output_headers());
        Arc::new(Self { front, token_headers, outputs })
    }
}

/// Where an adapter stands.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The workload whose policies count when Envoy names none.
    pub workload: Option<Workload>,
    /// The environment of the mesh; without it no API key is accepted.
    pub environment: Option<String>,
}

impl Adapter {
    /// Reads the configured bundle and binds the port. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// The bundle cannot be used, or the port cannot be had.
    pub fn bind(config: Config, deps: Deps) -> Result<Bound, Error> {
        let bundle = Bundle::open(&config.bundle)?;
        let policies = open(&bundle)?;
        let exchange = match &config.exchange {
            Some(exchange) => Some(Exchange::new(exchange, &config.jwks).map_err(Error::Exchange)?),
            None => None,
        };
        let revocations = RevocationsSetup::new(config.revocations.clone(), &bundle)?;
        let watch = config.reload.map(|every| Watch::new(config.bundle, bundle.bytes(), every, config.revocations));
        let deps = Deps { revocations, ..deps };
        let place = Place { workload: config.workload, environment: config.environment };
        let adapter = Self::with_shadow_mode(place, policies, deps, exchange, config.shadow)?;
        let bound = adapter.listen(config.address)?.with_watch(watch);
        match config.metrics {
            Output::Prometheus(port) => bound.with_prometheus(port),
            Output::Off | Output::Emf(_) => Ok(bound),
        }
    }

    /// An adapter for `policies`.
    ///
    /// # Errors
    /// [`Error::Keys`], [`Error::Revocations`] or [`Error::Unguarded`].
    pub fn new(place: Place, policies: Policies, deps: Deps) -> Result<Self, Error> {
        Self::with_exchange(place, policies, deps, None)
    }

    /// An adapter for `policies`, which exchanges API keys for tokens.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_exchange(
        place: Place,
        policies: Policies,
        deps: Deps,
        exchange: Option<Exchange>,
    ) -> Result<Self, Error> {
        Self::with_shadow_mode(place, policies, deps, exchange, None)
    }

    /// As [`with_exchange`](Self::with_exchange), in shadow mode where there is one.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_shadow_mode(
        place: Place,
        policies: Policies,
        deps: Deps,
        exchange: Option<Exchange>,
        shadow: Option<ShadowMode>,
    ) -> Result<Self, Error> {
        guarded(&place, &policies)?;
        let (log, metrics) = (deps.log.clone(), Metrics::default());
        if let Some(shadow) = &shadow {
            log.write(&shadow_mode::announcement(shadow, &policies, deps.clock.unix()));
        }
        let shadow = shadow.map(Latched::new);
        let serving = RwLock::new(Serving::new(Front::new(policies, deps)?));
        Ok(Self(Arc::new(Inner { exchange, log, metrics, place, shadow, serving })))
    }

    /// Puts other policies into the place of those in use. Checks that are under way end with the old ones.
    ///
    /// # Errors
    /// As [`new`](Self::new); what was in use stays so.
    pub fn replace(&self, policies: Policies, revocations: RevocationsSetup) -> Result<(), Error> {
        guarded(&self.0.place, &policies)?;
        let serving = Serving::new(self.serving().front.successor(policies, revocations)?);
        *self.0.serving.write().unwrap_or_else(PoisonError::into_inner) = serving;
        self.0.metrics.generation.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn serving(&self) -> Arc<Serving> {
        self.0.serving.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn log(&self) -> &Log {
        &self.0.log
    }

    /// Binds `address`; with port 0, any free port. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::Bind`].
    pub fn listen(self, address: SocketAddr) -> Result<Bound, Error> {
        Bound::new(address, self)
    }

    fn announce(&self, address: SocketAddr, metrics: Option<SocketAddr>) {
        self.log().write(&serde_json::json!({"event": "listening", "address": address.to_string()}));
        if let Some(address) = metrics {
            self.log().write(&serde_json::json!({"event": "metrics_listening", "address": address.to_string()}));
        }
    }

    fn count_overload(&self) {
        self.0.metrics.overload.fetch_add(1, Ordering::Relaxed);
    }

    /// The metrics in Prometheus' text format.
    pub fn metrics(&self) -> String {
        let exchange = self.0.exchange.as_ref().map(|exchange| (exchange.counters(), exchange.len()));
        self.0.metrics.text(&self.serving().front.gauges(), exchange, self.0.shadow.is_some())
    }

    /// Answers one question of Envoy's.
    pub async fn check(&self, check: CheckRequest) -> CheckResponse {
        #[allow(clippy::disallowed_types, reason = "a duration inside one request")]
        let started = std::time::Instant::now();
        // All of one check is answered by one set of policies.
        let serving = self.serving();
        let front = &serving.front;
        let parsed = panics::unpanicked(async { Check::parse(check, &self.0.place) }).await;
        let mut behind = Behind::default();
        let (mut decision, asked) = match parsed {
            Ok(Ok(asked)) => {
                let shadow = self.0.shadow.as_ref();
                let (decision, _) = front.decide_and(&asked.request, &asked.target, shadow, |_, _, _| ()).await;
                (answer::presentable(decision, &asked.request), Some(asked))
            }
            Ok(Err(deny)) => (deny.into(), None),
            Err(panics::Panicked) => (front::fault(), None),
        };
        if let (Some(exchange), Some(asked)) = (&self.0.exchange, &asked) {
            let exchanged = panics::unpanicked(exchanged(exchange, &serving, decision, asked)).await;
            (decision, behind) = exchanged.unwrap_or_else(|panics::Panicked| (front::fault(), Behind::default()));
        }
        if let Some(asked) = &asked {
            decision = self.overlooked(front, decision, asked).await;
            if answer::is_of_nobody(&decision) {
                // Nobody is proven: nothing that looks like a credential stays for the mesh to find.
                behind = Behind::default();
            }
        }
        let request = asked.as_ref().map(|asked| &asked.request);
        let latency = started.elapsed();
        front.record(
            &decision,
            &Seen {
                request,
                status: answer::status(&decision),
                api_id: "",
                stage: "",
                request_id: asked.as_ref().map_or("", |asked| &asked.request_id),
                latency,
            },
        );
        self.0.metrics.decided(&decision, latency);
        answer::answer(&decision, request, &behind, &serving.outputs)
    }
}

impl Adapter {
    /// Shadow mode, also for what was denied behind the gate: a claim that is no header, an exchange that failed.
    async fn overlooked(&self, front: &Front, decision: Decision, asked: &Check) -> Decision {
        let decision = match (decision, &self.0.shadow) {
            (Decision::Deny(deny), Some(mode)) => front.overlook(deny, &asked.request, &asked.target, mode).await,
            (decision, _) => decision,
        };
        answer::without_refused_tokens(decision, &asked.request)
    }
}

/// What the mesh behind the adapter sees of an admitted caller: its own token where it has one, and a token in exchange
/// for its API key where it has that alone. Where there is no such token, the request is denied after all.
async fn exchanged<'a>(
    exchange: &Exchange,
    serving: &'a Serving,
    decision: Decision,
    asked: &Check,
) -> (Decision, Behind<'a>) {
    let Decision::Allow(allow) = &decision else { return (decision, Behind::default()) };
    let credentials = authz::credentials(serving.front.policies(), &asked.request, &asked.target);
    let key = credentials.api_key.map(|presented| presented.fingerprint);
    let behind = Behind { authorization: None, tokens: &serving.token_headers, key };
    if !allow.by_api_key() || credentials.token {
        return (decision, behind);
    }
    let fingerprint = behind.key.as_deref().unwrap_or_default();
    match exchange.authorization(allow, &asked.request, fingerprint).await {
        Ok(authorization) => (decision, Behind { authorization: Some(authorization), ..behind }),
        Err(deny) => (deny.into(), Behind::default()),
    }
}

/// The policies of a bundle.
fn open(bundle: &Bundle) -> Result<Policies, Error> {
    Ok(Policies::open(bundle.section(Section::Access)?)?.with_keys_fetched_at(bundle.made_at()))
}

/// Where the adapter knows its workload, a policy must apply to it.
fn guarded(place: &Place, policies: &Policies) -> Result<(), Error> {
    if let Some(Workload { namespace, labels }) = &place.workload
        && !policies.is_guarded(namespace, labels)
    {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        return Err(Error::Unguarded { namespace: namespace.clone(), labels: labels.join(",") });
    }
    Ok(())
}

/// Waits for SIGTERM (Kubernetes) or SIGINT (a terminal). The handlers are in place when this returns the future, so that
/// no signal that comes before the first poll is lost. Must be called within a Tokio runtime.
pub fn terminated() -> impl Future<Output = ()> + Send {
    use tokio::signal::unix::{SignalKind, signal};
    let handlers = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        let (Ok(mut term), Ok(mut int)) = handlers else {
            // Without handlers the default action ends the process, only less gently.
            return std::future::pending().await;
        };
        tokio::select! {
            _ = term.recv() => (),
            _ = int.recv() => (),
        }
    }
}
