//! The local API Gateway: HTTP in, Lambda events out, and the functions' answers back.
//!
//! [`Gateway`] plays an HTTP API with Lambda authorizers, [`RestApi`] a REST API with REQUEST and TOKEN authorizers and API
//! keys, [`WebSocketApi`] the handshake of a WebSocket API, [`FunctionUrl`] a Lambda function URL. All call functions through
//! an [`Invoker`]: in this process ([`InProcess`]) or under the Lambda Runtime Interface Emulator ([`Rie`]).
//! What they do follows AWS' documentation; each test quotes the sentence that it holds this code to. Where the
//! documentation is silent, the comment at the branch says what is assumed.
//!
//! There is no CORS, no TLS, no throttling, and one stage. It listens where it is told to: pass a loopback address.

mod authorizer;
mod cache;
mod config;
mod context;
mod event;
mod function_url;
mod invoke;
mod mapping;
mod policy;
mod request;
mod response;
mod rest;
mod rie;
mod route;
mod server;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use http::Response;
use hyper::body::Incoming;
use platform::BoxFuture;
use platform::clock::Clock;
use platform::log::Log;
use serde_json::{Value, json};

pub use config::{Authorizer, ConfigError, GatewayConfig, Integration, PayloadFormat, Route};
pub use function_url::{Caller, FunctionUrl, FunctionUrlConfig, UrlAuth};
pub use invoke::{FunctionError, InProcess, InvokeError, InvokeOutcome, Invoker};
pub use rest::{
    ApiKeySource, IdentitySource, RestApi, RestAuthorizer, RestConfig, RestMethod, WebSocketApi, WebSocketConfig,
};
pub use rie::Rie;
pub use server::{BindError, Bound};

use authorizer::Granted;
use context::Call;
use invoke::Failure;
use request::{Ids, Request};
use response::{Answer, Refusal};
use server::Handler;

/// An HTTP API of Amazon API Gateway, played on a local socket.
pub struct Gateway {
    api: context::Api,
    domains: Vec<String>,
    routes: route::Routes,
    authorizers: Vec<authorizer::Authorizer>,
    integrations: Vec<BoundIntegration>,
    clock: Arc<dyn Clock>,
    log: Option<Log>,
    ids: Ids,
}

/// An [`Integration`] whose parameter mapping has been read.
struct BoundIntegration {
    invoker: Arc<dyn Invoker>,
    format: PayloadFormat,
    mapping: mapping::Mapping,
    timeout: std::time::Duration,
}

impl Gateway {
    /// Checks `config` and binds `address`; port 0 takes a free one. Nothing is answered before [`Bound::run`].
    ///
    /// # Errors
    /// The configuration is refused, with the part at fault named, or the address cannot be bound.
    pub async fn bind(config: GatewayConfig, address: SocketAddr) -> Result<Bound, BindError> {
        let gateway = Self::new(config)?;
        Bound::bind(Arc::new(gateway), address).await
    }

    fn new(config: GatewayConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let guards: Vec<&str> = config.authorizers.iter().map(|one| one.name.as_str()).collect();
        let backends: Vec<&str> = config.integrations.iter().map(|one| one.name.as_str()).collect();
        let routes = route::Routes::new(&config.routes, &guards, &backends)?;
        let authorizers = config.authorizers.into_iter().map(authorizer::Authorizer::new).collect::<Result<_, _>>()?;
        let integrations = config
            .integrations
            .into_iter()
            .map(|integration| {
                Ok(BoundIntegration {
                    mapping: mapping::Mapping::new(&integration.name, &integration.request_parameters)?,
                    invoker: integration.invoker,
                    format: integration.payload_format,
                    timeout: integration.timeout,
                })
            })
            .collect::<Result<_, ConfigError>>()?;
        let api = context::Api {
            account_id: config.account_id,
            api_id: config.api_id,
            region: config.region,
            stage: config.stage,
            stage_variables: config.stage_variables,
        };
        Ok(Self {
            api,
            domains: config.domains,
            routes,
            authorizers,
            integrations,
            ids: Ids::new(config.clock.as_ref()),
            clock: config.clock,
            log: config.log,
        })
    }

    /// One request, from its bytes to its answer. `note` collects what the access log says of it.
    async fn answer(
        &self,
        request: http::Request<Incoming>,
        peer: SocketAddr,
        id: &str,
        note: &mut Note,
    ) -> Result<Answer, Refusal> {
        let request = request::read(request, peer, id, self.clock.now()).await?;
        let place = self.locate(&request)?;
        // "If no routes match a request, API Gateway returns {"message":"Not Found"} to the client."
        // (Create routes for HTTP APIs in API Gateway)
        let matched = self.routes.find(&request.method, &place.path).ok_or(Refusal::NOT_FOUND)?;
        note.route_key = Some(matched.key.to_owned());
        let integration = self.integrations.get(matched.integration).ok_or(Refusal::INTERNAL)?;
        let authorizer = match matched.authorizer {
            Some(index) => Some(self.authorizers.get(index).ok_or(Refusal::INTERNAL)?),
            None => None,
        };
        let call = Call::new(&self.api, &request, place, matched)?;
        let granted = match authorizer {
            Some(authorizer) => Some(authorizer.authorize(&call, self.clock.as_ref(), note).await?),
            None => None,
        };
        self.integrate(integration, call, granted, note).await
    }

    async fn integrate(
        &self,
        integration: &BoundIntegration,
        mut call: Call<'_>,
        granted: Option<Granted>,
        note: &mut Note,
    ) -> Result<Answer, Refusal> {
        call.headers = integration.mapping.apply(&call, granted.as_ref());
        let event = match integration.format {
            PayloadFormat::V1 => event::integration_v1(&call, granted.as_ref()),
            PayloadFormat::V2 => event::integration_v2(&call, granted.as_ref()),
        };
        let answer = match invoke::call(&integration.invoker, event, integration.timeout).await {
            Ok(payload) => match integration.format {
                PayloadFormat::V1 => response::from_v1(payload),
                PayloadFormat::V2 => response::from_v2(payload, response::Text::Bare),
            },
            // Not documented for HTTP APIs in one place; AWS' knowledge centre says 504 for an integration that is too
            // slow ("If an integration request takes longer than your API Gateway REST API maximum integration timeout
            // parameter, API Gateway returns an HTTP 504 status code"), observed on HTTP APIs as 503.
            Err(failure @ Failure::Timeout(_)) => {
                note.integration_error = Some(failure.to_string());
                return Err(Refusal::UNAVAILABLE);
            }
            Err(failure) => {
                note.integration_error = Some(failure.to_string());
                return Err(Refusal::INTERNAL);
            }
        };
        answer.map_err(|wrong| {
            note.integration_error = Some(wrong);
            Refusal::INTERNAL
        })
    }

    /// Which of the API's domain names the request came to, and its path below the stage.
    fn locate(&self, request: &Request) -> Result<Place, Refusal> {
        let own = format!("{}.execute-api.{}.amazonaws.com", self.api.api_id, self.api.region);
        let custom = if request.host == own {
            None
        } else if let Some(name) = self.domains.iter().find(|domain| serves(domain, &request.host)) {
            // A wildcard domain name shows the name that was asked for.
            Some(if name.starts_with('*') { request.host.clone() } else { name.clone() })
        } else if request::is_direct(&request.host) {
            // Somebody addresses the local listener itself. The functions never see such a host behind API Gateway.
            self.domains.iter().find(|domain| !domain.starts_with('*')).cloned()
        } else {
            // What API Gateway answers for a host name that no API of the account has.
            return Err(Refusal::FORBIDDEN);
        };
        let on_stage_path = custom.is_none() && self.api.stage != DEFAULT_STAGE;
        let path = if on_stage_path {
            // "If the request explicitly matches a stage, API Gateway sends the request to that stage. […] If there's no
            // $default stage, then the API returns {"message":"Not Found"}" (Create routes for HTTP APIs in API Gateway)
            let rest = request
                .path
                .strip_prefix('/')
                .and_then(|path| path.strip_prefix(self.api.stage.as_str()))
                .ok_or(Refusal::NOT_FOUND)?;
            match rest.as_bytes().first() {
                None => "/".to_owned(),
                Some(b'/') => rest.to_owned(),
                Some(_) => return Err(Refusal::NOT_FOUND),
            }
        } else {
            request.path.clone()
        };
        Ok(Place { domain: custom.unwrap_or(own), path })
    }
}

/// The stage that is no part of a path.
const DEFAULT_STAGE: &str = "$default";

/// Where a request came to.
struct Place {
    /// The API's domain name, without a port.
    domain: String,
    /// The path as sent, below the stage.
    path: String,
}

/// Whether the custom domain name `domain` serves `host`; `*.example.com` serves names one label deeper.
fn serves(domain: &str, host: &str) -> bool {
    match domain.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
        None => domain == host,
    }
}

/// What the access log says of a request, beside method, path and status. No header, no query: credentials travel there.
#[derive(Default)]
struct Note {
    route_key: Option<String>,
    authorizer: Option<&'static str>,
    authorizer_error: Option<String>,
    integration_error: Option<String>,
}

impl Handler for Gateway {
    fn handle<'a>(
        &'a self,
        request: http::Request<Incoming>,
        peer: SocketAddr,
    ) -> BoxFuture<'a, Response<server::Body>> {
        Box::pin(async move {
            let watch = server::Stopwatch::start();
            let id = self.ids.next();
            let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
            let mut note = Note::default();
            let answer =
                self.answer(request, peer, &id, &mut note).await.unwrap_or_else(|refusal| refusal.answer("message"));
            if let Some(log) = &self.log {
                log.write(&json!({
                    "ts": self.clock.unix(), "event": "gateway", "api_id": self.api.api_id, "stage": self.api.stage, "request_id": id,
                    "method": method, "path": path, "route_key": note.route_key, "status": answer.status.as_u16(),
                    "authorizer": note.authorizer, "authorizer_error": note.authorizer_error, "integration_error": note.integration_error,
                    "latency_us": watch.micros(),
                }));
            }
            answer.into_response("apigw-requestid", &id)
        })
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("api_id", &self.api.api_id).finish_non_exhaustive()
    }
}

/// `time` and `timeEpoch` of an event: the common log format's date, and milliseconds.
fn event_time(now: std::time::SystemTime) -> (String, Value) {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let at = i64::try_from(since.as_secs())
        .ok()
        .and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let month = at.month().to_string();
    let text = format!(
        "{:02}/{}/{:04}:{:02}:{:02}:{:02} +0000",
        at.day(),
        month.get(..3).unwrap_or(&month),
        at.year(),
        at.hour(),
        at.minute(),
        at.second()
    );
    (text, json!(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
}
