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
//! | `CAUSEWAY_METRICS` | `emf` or `off`: whether CloudWatch finds metrics in the log (embedded metric format) | `off` | no |
//! | `CAUSEWAY_REVOCATIONS_URL` | where the issuer publishes its signed list of revoked credentials | no list but the bundle's | with the next |
//! | `CAUSEWAY_REVOCATIONS_ISSUER` | the issuer that signs the list | no list but the bundle's | with the one before |
//! | `CAUSEWAY_REVOCATIONS_MAX_AGE` | how old the list may be, in seconds from when it was signed; 120 to 86400 | 900 | no |
//! | `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` | Region and credentials | | with the two before |
//! | `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_DYNAMODB`, `AWS_ENDPOINT_URL_SECRETS_MANAGER` | stand-ins for the AWS services | AWS | no |
//!
//! Envoy may name the workload itself, in the `context_extensions` of a route: `namespace` and `labels`
//! (`app=ratings,version=v1`), both or neither.

mod answer;
mod check;
pub mod config;
mod server;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use authz::Policies;
use envoy_types::ext_authz::v3::pb::{CheckRequest, CheckResponse};
use platform::bundle::{Bundle, BundleError, Section};
use platform::decision_line::Seen;
use platform::env::EnvError;
use platform::front::{self, Front, FrontError};
use platform::panics;
use platform::revocations::RevocationsSetup;

pub use answer::{CLIENT_ID_HEADER, IDENTITY_PREFIX, PRINCIPAL_HEADER};
pub use config::Config;
pub use platform::api_keys::{ApiKeyStore, ApiKeysConfig};
pub use platform::front::Deps;
pub use server::Bound;

use check::Check;
use config::Workload;

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
            | Self::Bind { .. } => platform::EXIT_USAGE,
            Self::Serve(_) => 1,
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
    front: Front,
    place: Place,
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
        let policies = Policies::open(bundle.section(Section::Access)?)?.with_keys_fetched_at(bundle.made_at());
        let revocations = RevocationsSetup::new(config.revocations, &bundle)?;
        let deps = Deps { revocations, ..deps };
        let place = Place { workload: config.workload, environment: config.environment };
        Self::new(place, policies, deps)?.listen(config.address)
    }

    /// An adapter for `policies`.
    ///
    /// # Errors
    /// [`Error::Keys`], [`Error::Revocations`] or [`Error::Unguarded`].
    pub fn new(place: Place, policies: Policies, deps: Deps) -> Result<Self, Error> {
        if let Some(Workload { namespace, labels }) = &place.workload
            && !policies.is_guarded(namespace, labels)
        {
            let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            return Err(Error::Unguarded { namespace: namespace.clone(), labels: labels.join(",") });
        }
        Ok(Self(Arc::new(Inner { front: Front::new(policies, deps)?, place })))
    }

    /// Binds `address`; with port 0, any free port. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::Bind`].
    pub fn listen(self, address: SocketAddr) -> Result<Bound, Error> {
        Bound::new(address, self)
    }

    fn announce(&self, address: SocketAddr) {
        let line = serde_json::json!({"event": "listening", "address": address.to_string()});
        self.0.front.log().write(&line);
    }

    /// Answers one question of Envoy's.
    pub async fn check(&self, check: CheckRequest) -> CheckResponse {
        #[allow(clippy::disallowed_types, reason = "a duration inside one request")]
        let started = std::time::Instant::now();
        let Inner { front, place } = &*self.0;
        let parsed = panics::unpanicked(async { Check::parse(check, place) }).await;
        let (decision, asked) = match parsed {
            Ok(Ok(asked)) => {
                let decision = front.decide(&asked.request, &asked.target).await;
                (answer::presentable(decision, &asked.request), Some(asked))
            }
            Ok(Err(deny)) => (deny.into(), None),
            Err(panics::Panicked) => (front::fault(), None),
        };
        let request = asked.as_ref().map(|asked| &asked.request);
        front.record(
            &decision,
            &Seen {
                request,
                status: answer::status(&decision),
                api_id: "",
                stage: "",
                request_id: asked.as_ref().map_or("", |asked| &asked.request_id),
                latency: started.elapsed(),
            },
        );
        answer::answer(&decision, request)
    }
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
