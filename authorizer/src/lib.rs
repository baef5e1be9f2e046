//! The Lambda authorizer of API Gateway: who calls, and may they.
//!
//! An event comes in ([`event`]), the gate of `authz` decides, one answer goes out ([`response`]). Everything that is
//! odd, missing, unknown or unreachable denies, with its reason in one log line per decision.
//!
//! | variable | meaning | default | required |
//! |---|---|---|---|
//! | `CAUSEWAY_BUNDLE` | the bundle file with the policies | `/opt/causeway/mesh.bundle` | no |
//! | `CAUSEWAY_RESPONSE` | `simple` or `iam`: whether the API's authorizer of payload format 2.0 has simple responses | `simple` | no |
//! | `CAUSEWAY_TOKEN_HEADER` | the header that a TOKEN authorizer of a REST API is configured with as its token source | `authorization` | no |
//! | `CAUSEWAY_ENVIRONMENT` | the environment that this function serves; APIs of another one in the bundle are denied | every one | no |
//! | `CAUSEWAY_API_KEYS_TABLE` | the DynamoDB table of API keys | API keys are refused | with the next |
//! | `CAUSEWAY_PEPPER_SECRET` | the Secrets Manager id of the pepper that API keys are hashed with | API keys are refused | with the one before |
//! | `CAUSEWAY_ALLOW_PRIVATE_ISSUERS` | `true`: key sets may be fetched from this host and private networks | `false` | no |
//! | `CAUSEWAY_ISSUER_ROOTS` | a PEM file with root certificates to trust when key sets and the revocation list are fetched | Mozilla's alone | no |
//! | `CAUSEWAY_METRICS` | `emf` or `off`: whether CloudWatch finds metrics in the log (embedded metric format) | `emf` | no |
//! | `CAUSEWAY_REVOCATIONS_URL` | where the issuer publishes its signed list of revoked credentials | no list but the bundle's | with the next |
//! | `CAUSEWAY_REVOCATIONS_ISSUER` | the issuer that signs the list | no list but the bundle's | with the one before |
//! | `CAUSEWAY_REVOCATIONS_MAX_AGE` | how old the list may be, in seconds from when it was signed; 120 to 86400 | 900 | no |
//! | `CAUSEWAY_RATE_LIMITS_TABLE` | the DynamoDB table of [rate limits](platform::rate_limit) | clients are not limited | with the next |
//! | `CAUSEWAY_RATE_LIMIT` | what each client may ask: `50/s,100` is 50 requests a second, and 100 at once; `/m` is a minute | clients are not limited | with the one before |
//! | `CAUSEWAY_RATE_LIMIT_OUTAGE` | while that table cannot be used: `allow` (each sandbox limits by itself) or `deny` | `allow` | no |
//! | `CAUSEWAY_SHADOW_WORKLOADS` | [shadow mode](platform::shadow_mode): where nothing is denied but written down; `*`, or `NAMESPACE` and `NAMESPACE/LABEL=VALUE` with commas between | everything is enforced | with the next |
//! | `CAUSEWAY_SHADOW_UNTIL` | its end, `2026-12-31T00:00:00Z`; 90 days ahead at most. It ends an hour earlier here, the longest TTL of answers | everything is enforced | with the one before |
//! | `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` | Region and credentials; Lambda sets them | | with a table |
//! | `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_DYNAMODB`, `AWS_ENDPOINT_URL_SECRETS_MANAGER` | stand-ins for the AWS services | AWS | no |

pub mod config;
pub mod event;
mod grant;
pub mod response;

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Poll};

use authz::grants::Resources;
use authz::{Decision, Deny, Given, Hop, Policies, Reason, Target};
use lambda_runtime::LambdaEvent;
use platform::bundle::{Bundle, BundleError, Section, SharedBytes};
use platform::clock::Clock;
use platform::decision_line::Seen;
use platform::env::{Env, EnvError};
use platform::front::{self, Front, FrontError};
use platform::log::Log;
use platform::panics;
use platform::rate_limit::RateLimits;
use platform::revocations::RevocationsSetup;
use platform::shadow_mode::{self, Latched};
use serde_json::Value;
use serde_json::value::RawValue;

pub use config::Config;
pub use platform::api_keys::{ApiKeyStore, ApiKeysConfig};
pub use platform::front::Deps;
use response::Output;
pub use response::{Answer, Unauthorized};

use event::{Event, Form, Reading, Refused};
use grant::KnownApis;

/// The program cannot start; the text names what to change.
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
    /// The operating system gives no event loop.
    #[error("cannot set up the event loop: {0}")]
    Runtime(std::io::Error),
    /// The program was not started by Lambda.
    #[error("{0} is not set; this program is started by AWS Lambda, or by its runtime interface emulator")]
    NotLambda(&'static str),
}

impl From<FrontError> for Error {
    fn from(error: FrontError) -> Self {
        match error {
            FrontError::Keys(error) => Self::Keys(error),
            FrontError::Revocations(error) => Self::Revocations(error),
        }
    }
}

/// What API Gateway must not do with answers of shadow mode. The function cannot see whether it does.
const SHADOW_CACHING: &str = "AuthorizerResultTtlInSeconds must be 0 at every authorizer that asks this function: a cached \
                              answer of shadow mode is given to other requests, also to services that are enforced";

/// The authorizer. Cheap to clone.
#[derive(Clone)]
pub struct Authorizer(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    config: Config,
    front: Front,
    outputs: Vec<Output>,
    apis: KnownApis,
    shadow: Option<Latched>,
}

impl Authorizer {
    /// An authorizer for `policies`. Fetches nothing and connects to nobody.
    ///
    /// # Errors
    /// [`Error::Keys`] or [`Error::Revocations`].
    pub fn new(config: Config, policies: Policies, deps: Deps) -> Result<Self, Error> {
        Self::with_apis(config, policies, None, deps)
    }

    /// As [`new`](Self::new), with the section of a bundle that has the APIs of the deployment templates: their routes may
    /// be named in IAM answers.
    ///
    /// # Errors
    /// [`Error::Keys`].
    pub fn with_apis(config: Config, policies: Policies, apis: Option<SharedBytes>, deps: Deps) -> Result<Self, Error> {
        let outputs = policies.output_headers().into_iter().map(Output::new).collect();
        let clock = deps.clock.clone();
        let front = Front::new(policies, deps)?;
        if let Some(shadow) = &config.shadow {
            let mut line = shadow_mode::announcement(shadow, front.policies(), clock.unix());
            line["caching"] = SHADOW_CACHING.into();
            front.log().write(&line);
        }
        let shadow = config.shadow.clone().map(Latched::new);
        Ok(Self(Arc::new(Inner { apis: KnownApis::new(apis), clock, config, front, outputs, shadow })))
    }

    /// The authorizer as Lambda runs it: the configured bundle, and AWS for what a request may need.
    ///
    /// # Errors
    /// The bundle cannot be read or used.
    pub fn from_config(config: Config, log: Log) -> Result<Self, Error> {
        let bundle = Bundle::open(&config.bundle)?;
        let policies =
            Policies::open_shared(bundle.shared_section(Section::Access)?)?.with_keys_fetched_at(bundle.made_at());
        let log = log.with_metrics(config.metrics.clone());
        let revocations = RevocationsSetup::new(config.revocations.clone(), &bundle)?;
        let rate_limits = config.rate_limits.as_ref().map(RateLimits::in_aws);
        let aws = Deps::in_aws(config.api_keys.as_ref(), config.jwks.clone(), log);
        let deps = Deps { revocations, rate_limits, ..aws };
        let apis = bundle.optional_shared_section(Section::Api)?;
        Self::with_apis(config, policies, apis, deps)
    }

    /// Answers one event, given as its JSON text.
    ///
    /// # Errors
    /// [`Unauthorized`], which API Gateway turns into 401.
    pub async fn authorize(&self, event: &str) -> Result<Answer, Unauthorized> {
        #[allow(clippy::disallowed_types, reason = "a duration inside one request")]
        let started = std::time::Instant::now();
        let Inner { apis, clock: _, config, front, outputs, shadow } = &*self.0;
        let mut also = Resources::default();
        let (decision, asked) = match panics::unpanicked(async { self.parse(event) }).await {
            Ok(Ok(event)) => {
                let decision = match self.environment(&event) {
                    Ok(()) => {
                        let then = |policies: &Policies, given: &Given<'_>, decision: &Decision| {
                            // Where rates are limited, each request takes a token of its own.
                            if front.limits_rates() {
                                return Resources::default();
                            }
                            apis.grants(&event, policies, given, decision, front.log())
                        };
                        let (decision, found) =
                            front.decide_and(&event.request, &event.target, shadow.as_ref(), then).await;
                        also = found.unwrap_or_default();
                        decision
                    }
                    Err(deny) => deny.into(),
                };
                let usage_plan_key = match &decision {
                    Decision::Allow(allow) => front.usage_plan_key(&event.request, &event.target, allow),
                    Decision::Deny(_) => None,
                };
                (decision, Asked { usage_plan_key, ..Asked::from(event) })
            }
            Ok(Err(refused)) => {
                let Refused { reason, detail, form, seen } = *refused;
                (Deny::new(reason, Hop::Request, detail).into(), Asked { form, seen, ..Asked::nothing() })
            }
            Err(panics::Panicked) => {
                let form = event::form_of_unread(event, config.response);
                (front::fault(), Asked { form, ..Asked::nothing() })
            }
        };
        let presentable = |decision| response::presentable(decision, &asked.form, &asked.seen.request_id, outputs);
        let (decision, context) = presentable(decision);
        let (decision, context, usage_plan_key) = match self.overlooked(&decision, &asked).await {
            None => (decision, context, asked.usage_plan_key.clone()),
            // The claims could not be handed on, and the key that they come from is not vouched for either.
            Some(overlooked) => {
                let (decision, context) = presentable(overlooked);
                (decision, context, None)
            }
        };
        front.record(
            &decision,
            &Seen {
                request: asked.request.as_ref(),
                status: response::status(&decision),
                api_id: &asked.seen.api_id,
                stage: &asked.seen.stage,
                request_id: &asked.seen.request_id,
                latency: started.elapsed(),
            },
        );
        response::answer(&decision, &asked.form, context, usage_plan_key, &also)
    }

    /// As [`authorize`](Self::authorize), for callers that hold the event as a value.
    ///
    /// # Errors
    /// [`Unauthorized`].
    pub async fn handle(&self, event: &Value) -> Result<Value, Unauthorized> {
        let answer = self.authorize(&event.to_string()).await?;
        // An answer is a plain structure of texts; should it ever not be one, nobody gets in.
        serde_json::to_value(&answer).map_err(|_| Unauthorized)
    }

    /// What shadow mode makes of an answer that could not be given.
    async fn overlooked(&self, decision: &Decision, asked: &Asked) -> Option<Decision> {
        let Inner { front, shadow, .. } = &*self.0;
        let (Decision::Deny(deny), Some(mode)) = (decision, shadow) else { return None };
        let (request, target) = (asked.request.as_ref()?, asked.target.as_ref()?);
        let overlooked = front.overlook(deny.clone(), request, target, mode).await;
        overlooked.is_allowed().then_some(overlooked)
    }

    fn parse(&self, event: &str) -> Result<Event, Box<Refused>> {
        let Inner { clock, config, front, .. } = &*self.0;
        let reading = Reading {
            policies: front.policies(),
            response: config.response,
            token_header: &config.token_header,
            now: clock.unix(),
        };
        Event::parse(event, &reading)
    }

    /// A credential of one environment never opens another: a bundle may cover several environments, a
    /// function that is told its own serves that one only.
    fn environment(&self, event: &Event) -> Result<(), Deny> {
        let (Some(own), Target::ApiGateway { api_id, stage, domain }) = (&self.0.config.environment, &event.target)
        else {
            return Ok(());
        };
        match self.0.front.policies().api_gateway(api_id, stage, domain) {
            Some(gateway) if gateway.environment != own => {
                let detail = format!(
                    "{} serves the environment {}, but CAUSEWAY_ENVIRONMENT is {own}",
                    gateway.name, gateway.environment
                );
                Err(Deny::new(Reason::ConfigurationInvalid, Hop::Request, detail))
            }
            _ => Ok(()),
        }
    }
}

/// What was asked, as far as it could be read.
struct Asked {
    request: Option<authz::Request>,
    target: Option<Target>,
    form: Form,
    seen: event::Seen,
    usage_plan_key: Option<String>,
}

impl Asked {
    fn nothing() -> Self {
        Self { request: None, target: None, form: Form::Simple, seen: event::Seen::default(), usage_plan_key: None }
    }
}

impl From<Event> for Asked {
    fn from(event: Event) -> Self {
        let Event { request, target, form, seen } = event;
        Self { request: Some(request), target: Some(target), form, seen, usage_plan_key: None }
    }
}

impl std::fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Inner { config, front, outputs, .. } = &*self.0;
        f.debug_struct("Authorizer")
            .field("config", config)
            .field("front", front)
            .field("outputs", outputs)
            .finish_non_exhaustive()
    }
}

/// The raw JSON text is enough: an event that is no object, or has a field of another type, is then ours to deny, where
/// a typed payload would fail in the runtime, as an error that API Gateway answers with 500.
impl tower::Service<LambdaEvent<Box<RawValue>>> for Authorizer {
    type Response = Answer;
    type Error = Unauthorized;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Unauthorized>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unauthorized>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, event: LambdaEvent<Box<RawValue>>) -> Self::Future {
        let authorizer = self.clone();
        Box::pin(async move { authorizer.authorize(event.payload.get()).await })
    }
}

/// The same for callers inside the process.
impl tower::Service<Value> for Authorizer {
    type Response = Value;
    type Error = Unauthorized;
    type Future = Pin<Box<dyn Future<Output = Result<Value, Unauthorized>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unauthorized>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, event: Value) -> Self::Future {
        let authorizer = self.clone();
        Box::pin(async move { authorizer.handle(&event).await })
    }
}

/// Starts as a Lambda function: configuration, bundle, runtime; returns when the runtime ends.
///
/// # Errors
/// The configuration or the bundle is refused, or this is not Lambda.
pub fn run(env: &dyn Env, log: Log) -> Result<ExitCode, Error> {
    let config = Config::from_env(env)?;
    // The runtime client panics where one of these is missing.
    for name in [
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_VERSION",
    ] {
        if env.get(name)?.is_none() {
            return Err(Error::NotLambda(name));
        }
    }
    let authorizer = Authorizer::from_config(config, log)?;
    // One thread: a sandbox has one request at a time.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    // Without the tracing layer that `lambda_runtime::run` adds: the decision line is the log.
    let ended = runtime.block_on(lambda_runtime::Runtime::new(authorizer).run());
    Ok(if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
