//! A REST API of Amazon API Gateway, played on a local socket: Lambda proxy integrations, REQUEST and TOKEN
//! authorizers with IAM answers, and API keys of a usage plan.

mod authorizer;
mod config;
mod event;
mod websocket;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{Response, StatusCode};
use hyper::body::Incoming;
use platform::BoxFuture;
use platform::clock::Clock;
use platform::log::Log;
use serde_json::json;

pub use websocket::{WebSocketApi, WebSocketConfig};

pub use config::{ApiKeySource, IdentitySource, RestAuthorizer, RestConfig, RestMethod};

use super::config::{ConfigError, Route};
use super::context::{Api, Call};
use super::event::Parameters;
use super::invoke::{self, Failure, Invoker};
use super::request::{self, Ids, Request};
use super::response::{self, Answer, Refusal};
use super::route::Routes;
use super::server::{self, BindError, Bound, Handler};
use super::{Note, serves};

/// A REST API.
pub struct RestApi {
    api: Api,
    domains: Vec<String>,
    base_path: String,
    routes: Routes,
    /// Keys of the methods that need an API key.
    key_required: BTreeSet<String>,
    key_source: ApiKeySource,
    keys: BTreeSet<String>,
    authorizers: Vec<authorizer::Authorizer>,
    integrations: Vec<Arc<dyn Invoker>>,
    clock: Arc<dyn Clock>,
    log: Option<Log>,
    ids: Ids,
}

/// One request on its method.
struct RestCall<'a> {
    /// Its paths are as they were sent: the one below the stage, and `requestContext.path`.
    inner: Call<'a>,
    /// `path` of events: with the base path of a custom domain, and without the stage.
    shown: String,
    /// The id of the connection that a WebSocket API is asked for.
    connection: Option<&'a str>,
}

impl RestCall<'_> {
    /// `methodArn`. That of a WebSocket API has a route where others have method and path.
    fn arn(&self) -> String {
        let Api { region, account_id, api_id, stage, .. } = self.inner.api;
        match self.connection {
            None => self.inner.arn(),
            Some(_) => {
                format!("arn:aws:execute-api:{region}:{account_id}:{api_id}/{stage}/{}", self.inner.route.key)
            }
        }
    }
}

/// Where a request came to.
struct Place {
    domain: String,
    below: String,
    shown: String,
}

const FORBIDDEN: Refusal = Refusal::typed(StatusCode::FORBIDDEN, Some("Forbidden"), "ForbiddenException");
/// "MISSING_AUTHENTICATION_TOKEN, 403: … including the cases when the client attempts to invoke an unsupported API
/// method or resource" (Gateway response types for API Gateway)
const NO_METHOD: Refusal =
    Refusal::typed(StatusCode::FORBIDDEN, Some("Missing Authentication Token"), "MissingAuthenticationTokenException");
/// "INTEGRATION_TIMEOUT, 504" (same page)
const TIMEOUT: Refusal = Refusal::new(StatusCode::GATEWAY_TIMEOUT, "Endpoint request timed out");
/// "Malformed Lambda proxy response": 502.
const MALFORMED: Refusal = Refusal::new(StatusCode::BAD_GATEWAY, "Internal server error");

impl RestApi {
    /// Checks `config` and binds `address`; port 0 takes a free one. Nothing is answered before [`Bound::run`].
    ///
    /// # Errors
    /// The configuration is refused, with the part at fault named, or the address cannot be bound.
    pub async fn bind(config: RestConfig, address: SocketAddr) -> Result<Bound, BindError> {
        let api = Self::new(config)?;
        Bound::bind(Arc::new(api), address).await
    }

    fn new(config: RestConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let route = |method: &RestMethod| Route {
            key: method.key.clone(),
            authorizer: method.authorizer.clone(),
            integration: method.integration.clone(),
        };
        let routes: Vec<Route> = config.methods.iter().map(route).collect();
        let guards: Vec<&str> = config.authorizers.iter().map(|one| one.name.as_str()).collect();
        let backends: Vec<&str> = config.integrations.keys().map(String::as_str).collect();
        let routes = Routes::new(&routes, &guards, &backends)?;
        let needs_key = config.methods.iter().filter(|method| method.api_key_required);
        Ok(Self {
            api: Api {
                account_id: config.account_id,
                api_id: config.api_id,
                region: config.region,
                stage: config.stage,
                stage_variables: config.stage_variables,
            },
            domains: config.domains,
            base_path: config.base_path,
            routes,
            key_required: needs_key.map(|method| method.key.clone()).collect(),
            key_source: config.api_key_source,
            keys: config.api_keys.into_iter().collect(),
            authorizers: config.authorizers.into_iter().map(authorizer::Authorizer::new).collect::<Result<_, _>>()?,
            integrations: config.integrations.into_values().collect(),
            ids: Ids::new(config.clock.as_ref()),
            clock: config.clock,
            log: config.log,
        })
    }

    async fn answer(
        &self,
        request: http::Request<Incoming>,
        peer: SocketAddr,
        id: &str,
        note: &mut Note,
    ) -> Result<Answer, Refusal> {
        let request = request::read(request, peer, id, self.clock.now()).await?;
        let Place { domain, below, shown } = locate(&self.api, &self.domains, &self.base_path, &request)?;
        let route = self.routes.find(&request.method, &below).ok_or(NO_METHOD)?;
        note.route_key = Some(route.key.to_owned());
        let integration = self.integrations.get(route.integration).ok_or(Refusal::INTERNAL)?;
        let guard = match route.authorizer {
            Some(index) => Some(self.authorizers.get(index).ok_or(Refusal::INTERNAL)?),
            None => None,
        };
        let call = RestCall {
            inner: Call {
                api: &self.api,
                request: &request,
                headers: request.event_headers(&domain),
                domain,
                path: below,
                raw_path: request.path.clone(),
                query: Parameters::parse(&request.query),
                route,
            },
            shown,
            connection: None,
        };
        let granted = match guard {
            Some(guard) => Some(guard.authorize(&call, self.clock.as_ref(), note).await?),
            None => None,
        };
        let key = match self.key_source {
            ApiKeySource::Header => call.inner.header("x-api-key"),
            ApiKeySource::Authorizer => granted.as_ref().and_then(|granted| granted.usage_key.clone()),
        };
        // "INVALID_API_KEY, 403: The gateway response for an invalid API key submitted for a method that requires an
        // API key" (Gateway response types for API Gateway). Where none is required nobody looks.
        let required = self.key_required.contains(call.inner.route.key);
        if required && !key.as_ref().is_some_and(|key| self.keys.contains(key)) {
            return Err(FORBIDDEN);
        }
        let event = event::integration(&call, granted.as_ref(), key.as_deref().filter(|_| required));
        let payload = invoke::call(integration, event, config::TIMEOUT).await.map_err(|failure| {
            note.integration_error = Some(failure.to_string());
            if matches!(failure, Failure::Timeout(_)) { TIMEOUT } else { MALFORMED }
        })?;
        response::from_v1(payload).map_err(|wrong| {
            note.integration_error = Some(wrong);
            MALFORMED
        })
    }
}

/// Which of the API's domain names the request came to, and its paths.
fn locate(api: &Api, domains: &[String], base_path: &str, request: &Request) -> Result<Place, Refusal> {
    let own = format!("{}.execute-api.{}.amazonaws.com", api.api_id, api.region);
    let custom = if request.host == own {
        None
    } else if let Some(name) = domains.iter().find(|domain| serves(domain, &request.host)) {
        Some(if name.starts_with('*') { request.host.clone() } else { name.clone() })
    } else if request::is_direct(&request.host) {
        domains.iter().find(|domain| !domain.starts_with('*')).cloned()
    } else {
        return Err(FORBIDDEN);
    };
    let before = if custom.is_some() { base_path } else { api.stage.as_str() };
    let below = match before {
        "" => Some(request.path.clone()),
        before => request.path.strip_prefix('/').and_then(|path| path.strip_prefix(before)).and_then(|rest| {
            let is_whole = rest.is_empty() || rest.starts_with('/');
            is_whole.then(|| if rest.is_empty() { "/".to_owned() } else { rest.to_owned() })
        }),
    };
    let below = below.ok_or(FORBIDDEN)?;
    Ok(match custom {
        Some(domain) => Place { domain, below, shown: request.path.clone() },
        None => Place { domain: own, shown: below.clone(), below },
    })
}

impl Handler for RestApi {
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
            let answer = self.answer(request, peer, &id, &mut note).await;
            // What a policy denies is said with a capital letter, and everything else with a small one.
            let answer = answer
                .unwrap_or_else(|refusal| refusal.answer(if refusal.is_of_policy() { "Message" } else { "message" }));
            if let Some(log) = &self.log {
                log.write(&json!({
                    "ts": self.clock.unix(), "event": "gateway", "api_id": self.api.api_id, "stage": self.api.stage, "request_id": id,
                    "method": method, "path": path, "route_key": note.route_key, "status": answer.status.as_u16(),
                    "authorizer": note.authorizer, "authorizer_error": note.authorizer_error, "integration_error": note.integration_error,
                    "latency_us": watch.micros(),
                }));
            }
            answer.into_response("x-amzn-requestid", &id)
        })
    }
}

impl std::fmt::Debug for RestApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RestApi").field("api_id", &self.api.api_id).finish_non_exhaustive()
    }
}
