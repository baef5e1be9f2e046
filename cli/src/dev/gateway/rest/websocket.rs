//! A WebSocket API: `$connect`, the only route that an authorizer is asked about. What comes after the handshake is
//! not played: the connection is closed.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use platform::BoxFuture;
use platform::clock::Clock;
use platform::log::Log;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::authorizer::Authorizer;
use super::config::{IdentitySource, RestAuthorizer, TIMEOUT};
use super::{FORBIDDEN, MALFORMED, Place, RestCall, locate};
use crate::dev::gateway::config::{ConfigError, check_names, is_plain};
use crate::dev::gateway::context::{Api, Call};
use crate::dev::gateway::event::Parameters;
use crate::dev::gateway::invoke::{self, Invoker};
use crate::dev::gateway::request::{self, Ids, Request};
use crate::dev::gateway::response::Refusal;
use crate::dev::gateway::route::Matched;
use crate::dev::gateway::server::{self, BindError, Bound, Handler};
use crate::dev::gateway::{Note, rest::event};

/// The route of a new connection.
const CONNECT: &str = "$connect";

/// RFC 6455 section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A close frame with the status 1001, "an endpoint is going away" (RFC 6455 sections 5.5.1 and 7.4.1).
const GOING_AWAY: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];

/// One WebSocket API with one stage.
#[derive(Clone)]
pub struct WebSocketConfig {
    /// The API's id; its own domain name is `API_ID.execute-api.REGION.amazonaws.com`, with the stage as the path.
    pub api_id: String,
    /// The stage.
    pub stage: String,
    /// Custom domain names mapped to the stage without a base path, in lower case.
    pub domains: Vec<String>,
    /// The region, as ARNs and domain names show it.
    pub region: String,
    /// The owner's account id, 12 digits.
    pub account_id: String,
    /// The REQUEST authorizer of `$connect`; its sources are `route.request.header.NAME` and the like.
    pub authorizer: Option<RestAuthorizer>,
    /// The Lambda proxy integration of `$connect`, if it has one.
    pub connect: Option<Arc<dyn Invoker>>,
    /// The time, for events.
    pub clock: Arc<dyn Clock>,
    /// Takes one line a request.
    pub log: Option<Log>,
}

/// A WebSocket API.
pub struct WebSocketApi {
    api: Api,
    domains: Vec<String>,
    authorizer: Option<Authorizer>,
    connect: Option<Arc<dyn Invoker>>,
    clock: Arc<dyn Clock>,
    log: Option<Log>,
    ids: Ids,
}

impl WebSocketApi {
    /// Checks `config` and binds `address`; port 0 takes a free one. Nothing is answered before [`Bound::run`].
    ///
    /// # Errors
    /// The configuration is refused, with the part at fault named, or the address cannot be bound.
    pub async fn bind(config: WebSocketConfig, address: SocketAddr) -> Result<Bound, BindError> {
        let api = Self::new(config)?;
        Bound::bind(Arc::new(api), address).await
    }

    fn new(config: WebSocketConfig) -> Result<Self, ConfigError> {
        check_names(&config.api_id, &config.region, &config.account_id, &config.domains)?;
        if !is_plain(&config.stage) {
            return Err(ConfigError::new("stage", &config.stage, "letters, digits, - and _"));
        }
        if let Some(authorizer) = &config.authorizer {
            // A WebSocket API has no other kind, and asks once a connection.
            let is_request = matches!(authorizer.identity, IdentitySource::Request(_));
            if !is_request || authorizer.ttl_seconds > 0 {
                let expected = "a REQUEST authorizer without caching";
                return Err(ConfigError::new("authorizer", &authorizer.name, expected));
            }
        }
        Ok(Self {
            api: Api {
                account_id: config.account_id,
                api_id: config.api_id,
                region: config.region,
                stage: config.stage,
                stage_variables: Default::default(),
            },
            domains: config.domains,
            authorizer: config.authorizer.map(Authorizer::new).transpose()?,
            connect: config.connect,
            ids: Ids::new(config.clock.as_ref()),
            clock: config.clock,
            log: config.log,
        })
    }

    /// What a handshake is to be accepted with.
    async fn accept(&self, request: &Request, id: &str, note: &mut Note) -> Result<String, Refusal> {
        let line = |name: &str| request.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
        let key = line("sec-websocket-key").unwrap_or_default();
        let upgrades = line("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
        if request.method != "GET" || !upgrades || key.is_empty() || line("sec-websocket-version") != Some("13") {
            return Err(Refusal::BAD_REQUEST);
        }
        let Place { domain, below, .. } = locate(&self.api, &self.domains, "", request)?;
        // The API's own path is the root: clients open `wss://DOMAIN/STAGE`.
        if below != "/" {
            return Err(FORBIDDEN);
        }
        note.route_key = Some(CONNECT.to_owned());
        let mut headers = request.event_headers(&domain);
        headers.push(("connection".to_owned(), "upgrade".to_owned()));
        headers.push(("upgrade".to_owned(), "websocket".to_owned()));
        let call = RestCall {
            inner: Call {
                api: &self.api,
                request,
                headers,
                domain,
                path: below,
                raw_path: request.path.clone(),
                query: Parameters::parse(&request.query),
                route: Matched {
                    key: CONNECT,
                    resource: CONNECT,
                    path_parameters: Default::default(),
                    authorizer: None,
                    integration: 0,
                },
            },
            shown: String::new(),
            connection: Some(id),
        };
        let granted = match &self.authorizer {
            Some(authorizer) => Some(authorizer.authorize(&call, self.clock.as_ref(), note).await?),
            None => None,
        };
        if let Some(connect) = &self.connect {
            let event = event::connect(&call, granted.as_ref());
            let answer = invoke::call(connect, event, TIMEOUT).await.map_err(|failure| {
                note.integration_error = Some(failure.to_string());
                MALFORMED
            })?;
            match answer.get("statusCode").and_then(Value::as_u64) {
                Some(200..=299) => {}
                _ => return Err(FORBIDDEN),
            }
        }
        let text = format!("{key}{GUID}");
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        Ok(STANDARD.encode(hash.as_ref()))
    }

    async fn answer(
        &self,
        mut request: http::Request<Incoming>,
        peer: SocketAddr,
        id: &str,
        note: &mut Note,
    ) -> Result<Response<server::Body>, Refusal> {
        let upgraded = hyper::upgrade::on(&mut request);
        let request = request::read(request, peer, id, self.clock.now()).await?;
        let accept = self.accept(&request, id, note).await?;
        let accept = HeaderValue::from_str(&accept).map_err(|_| Refusal::INTERNAL)?;
        tokio::spawn(async move {
            if let Ok(stream) = upgraded.await {
                let mut stream = TokioIo::new(stream);
                // The client may have left; then there is nobody to tell.
                let _ = stream.write_all(&GOING_AWAY).await;
                let _ = stream.shutdown().await;
            }
        });
        let mut response = Response::new(Full::new(Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        Ok(response)
    }
}

impl Handler for WebSocketApi {
    fn handle<'a>(
        &'a self,
        request: http::Request<Incoming>,
        peer: SocketAddr,
    ) -> BoxFuture<'a, Response<server::Body>> {
        Box::pin(async move {
            let watch = server::Stopwatch::start();
            let id = self.ids.next();
            let path = request.uri().path().to_owned();
            let mut note = Note::default();
            let answer = self.answer(request, peer, &id, &mut note).await;
            let response = answer.unwrap_or_else(|refusal| {
                let member = if refusal.is_of_policy() { "Message" } else { "message" };
                refusal.answer(member).into_response("x-amzn-requestid", &id)
            });
            if let Some(log) = &self.log {
                log.write(&json!({
                    "ts": self.clock.unix(), "event": "gateway", "api_id": self.api.api_id, "stage": self.api.stage, "request_id": id,
                    "method": "GET", "path": path, "route_key": note.route_key, "status": response.status().as_u16(),
                    "authorizer": note.authorizer, "authorizer_error": note.authorizer_error, "integration_error": note.integration_error,
                    "latency_us": watch.micros(),
                }));
            }
            response
        })
    }
}

impl std::fmt::Debug for WebSocketApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebSocketApi").field("api_id", &self.api.api_id).finish_non_exhaustive()
    }
}
