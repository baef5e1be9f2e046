//! Lambda authorizers of a REST API.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use platform::clock::Clock;
use serde_json::Value;

use super::config::{IdentitySource, RestAuthorizer, TIMEOUT};
use super::{RestCall, event};
use crate::dev::gateway::Note;
use crate::dev::gateway::authorizer::{MAX_CACHED, MAX_CACHED_SIZE, digest};
use crate::dev::gateway::cache::Cache;
use crate::dev::gateway::config::ConfigError;
use crate::dev::gateway::context::Selection;
use crate::dev::gateway::invoke::{self, Failure, Invoker};
use crate::dev::gateway::policy::Policy;
use crate::dev::gateway::response::Refusal;

/// A configured authorizer with its cache.
pub(super) struct Authorizer {
    invoker: Arc<dyn Invoker>,
    is_token: bool,
    sources: Vec<Selection>,
    ttl: u64,
    timeout: Duration,
    cache: Mutex<Cache<Answer>>,
}

/// What an allowed request carries on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Granted {
    pub(super) principal_id: String,
    /// Objects and lists are refused, and all other values are shown as text.
    pub(super) context: Vec<(String, String)>,
    /// `usageIdentifierKey`
    pub(super) usage_key: Option<String>,
}

struct Answer {
    policy: Policy,
    granted: Granted,
}

const UNAUTHORIZED: Refusal = Refusal::typed(StatusCode::UNAUTHORIZED, Some("Unauthorized"), "UnauthorizedException");
/// "AUTHORIZER_CONFIGURATION_ERROR, 500" and "AUTHORIZER_FAILURE, 500" (Gateway response types for API Gateway); the
/// message is null.
const FAILED: Refusal = Refusal::typed(StatusCode::INTERNAL_SERVER_ERROR, None, "AuthorizerConfigurationException");
const MAX_WEBSOCKET_ANSWER: usize = 8 * 1024;
const EXPLICIT: &str = "User is not authorized to access this resource with an explicit deny";
const IMPLICIT: &str = "User is not authorized to access this resource";

impl Authorizer {
    pub(super) fn new(config: RestAuthorizer) -> Result<Self, ConfigError> {
        let part = |part: &str| format!("{part} of the authorizer {:?}", config.name);
        let (is_token, texts) = match &config.identity {
            IdentitySource::Token(header) => (true, vec![format!("method.request.header.{header}")]),
            IdentitySource::Request(sources) => (false, sources.clone()),
        };
        let sources = texts
            .iter()
            .map(|source| {
                let common = match source.strip_prefix("method.").or_else(|| source.strip_prefix("route.")) {
                    Some(of_request) => format!("${of_request}"),
                    None => format!("${source}"),
                };
                Selection::parse(&common).map_err(|_| {
                    let expected =
                        "method.request.header.NAME, method.request.querystring.NAME, stageVariables.NAME or context.VARIABLE";
                    ConfigError::new(&part("identity source"), source, expected)
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        // "For the REQUEST authorizer, this is required when authorization caching is enabled." (same place)
        if config.ttl_seconds > 3_600 || (config.ttl_seconds > 0 && sources.is_empty()) {
            let expected = "0 to 3600 seconds, and 0 without an identity source";
            return Err(ConfigError::new(&part("ttl"), &config.ttl_seconds.to_string(), expected));
        }
        if config.timeout.is_zero() || config.timeout > TIMEOUT {
            let found = format!("{:?}", config.timeout);
            return Err(ConfigError::new(&part("timeout"), &found, "more than 0 and at most 29 s"));
        }
        Ok(Self {
            invoker: config.invoker,
            is_token,
            sources,
            ttl: u64::from(config.ttl_seconds),
            timeout: config.timeout,
            cache: Mutex::new(Cache::new(MAX_CACHED)),
        })
    }

    /// Lets `call` pass, or says what the client is told.
    pub(super) async fn authorize(
        &self,
        call: &RestCall<'_>,
        clock: &dyn Clock,
        note: &mut Note,
    ) -> Result<Granted, Refusal> {
        let mut identity = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            // "Only when this is true does the authorizer invoke the authorizer Lambda function, otherwise, it returns
            // a 401 Unauthorized response without calling the Lambda function." (identitySource, CreateAuthorizer)
            let Some(value) = source.value(&call.inner).filter(|value| !value.is_empty()) else {
                note.authorizer = Some("identity_source_missing");
                return Err(UNAUTHORIZED);
            };
            identity.push(value);
        }
        let answer = self.answer(call, &identity, clock, note).await?;
        // Also when it comes from the cache: the policy is kept, not the verdict.
        let arn = call.arn();
        if answer.policy.allows(&arn) {
            return Ok(answer.granted.clone());
        }
        let message = if answer.policy.denies(&arn) { EXPLICIT } else { IMPLICIT };
        Err(Refusal::typed(StatusCode::FORBIDDEN, Some(message), "AccessDeniedException"))
    }

    async fn answer(
        &self,
        call: &RestCall<'_>,
        identity: &[String],
        clock: &dyn Clock,
        note: &mut Note,
    ) -> Result<Arc<Answer>, Refusal> {
        let key = (self.ttl > 0).then(|| digest(identity));
        if let Some(answer) = key.as_ref().and_then(|key| self.lock().get(key, clock.unix())) {
            note.authorizer = Some("cached");
            return Ok(answer);
        }
        note.authorizer = Some("invoked");
        let event = match identity.first() {
            Some(token) if self.is_token => event::token(call, token),
            _ => event::request(call),
        };
        let payload = invoke::call(&self.invoker, event, self.timeout).await.map_err(|failure| {
            note.authorizer_error = Some(failure.to_string());
            match failure {
                // AWS' sample functions fail with this very word for a 401.
                Failure::Function(error) if error.error_message == "Unauthorized" => UNAUTHORIZED,
                _ => FAILED,
            }
        })?;
        let size = payload.to_string().len();
        // AWS' quota for WebSocket APIs; there is none for REST APIs.
        if call.connection.is_some() && size > MAX_WEBSOCKET_ANSWER {
            note.authorizer_error = Some(format!("an answer of {size} bytes, expected at most {MAX_WEBSOCKET_ANSWER}"));
            return Err(FAILED);
        }
        let answer = Arc::new(read(&payload).map_err(|wrong| {
            note.authorizer_error = Some(wrong);
            FAILED
        })?);
        if let Some(key) = key.filter(|_| size <= MAX_CACHED_SIZE) {
            self.lock().insert(key, Arc::clone(&answer), clock.unix().saturating_add(self.ttl));
        }
        Ok(answer)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache<Answer>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer must have `principalId` and `policyDocument` (Output from an API Gateway Lambda authorizer).
fn read(payload: &Value) -> Result<Answer, String> {
    let Some(Value::String(principal_id)) = payload.get("principalId") else {
        return Err("the authorizer's principalId is not text".to_owned());
    };
    let document = payload.get("policyDocument").ok_or("the authorizer's answer has no policyDocument")?;
    let policy = Policy::parse(document)?;
    let context = match payload.get("context") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Object(context)) => {
            let text = |value: &Value| match value {
                Value::String(text) => Ok(text.clone()),
                Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
                _ => Err("a value of the authorizer's context is not a string, a number or a boolean".to_owned()),
            };
            context.iter().map(|(key, value)| Ok((key.clone(), text(value)?))).collect::<Result<_, String>>()?
        }
        Some(_) => return Err("the authorizer's context is not an object".to_owned()),
    };
    let usage_key = match payload.get("usageIdentifierKey") {
        None => None,
        Some(Value::String(key)) => Some(key.clone()),
        Some(_) => return Err("the authorizer's usageIdentifierKey is not text".to_owned()),
    };
    Ok(Answer { policy, granted: Granted { principal_id: principal_id.clone(), context, usage_key } })
}
