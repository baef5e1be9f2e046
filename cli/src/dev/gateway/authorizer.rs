//! Lambda authorizers: who is asked, what the answer means, and for how long it holds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use platform::clock::Clock;
use serde_json::{Map, Value};

use super::cache::{Cache, Key};
use super::config::{self, AUTHORIZER_TIMEOUT, ConfigError, PayloadFormat};
use super::context::{Call, Selection};
use super::invoke::{self, Failure, Invoker};
use super::policy::Policy;
use super::response::Refusal;
use super::{Note, event};

/// A configured authorizer with its cache.
pub(super) struct Authorizer {
    invoker: Arc<dyn Invoker>,
    format: PayloadFormat,
    simple: bool,
    sources: Vec<Selection>,
    ttl: u64,
    timeout: Duration,
    cache: Mutex<Cache<Answer>>,
}

/// What an allowed request carries on to its integration.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Granted {
    pub(super) context: Option<Map<String, Value>>,
    /// Only IAM answers name one.
    pub(super) principal_id: Option<String>,
}

/// An authorizer's answer, which may have to judge later requests too.
struct Answer {
    verdict: Verdict,
    granted: Granted,
}

enum Verdict {
    Simple(bool),
    Policy(Policy),
}

/// Answers that one authorizer keeps.
pub(super) const MAX_CACHED: usize = 10_000;
/// The largest answer that is kept, in bytes of JSON; a larger one is asked for again each time.
pub(super) const MAX_CACHED_SIZE: usize = 64 * 1024;

impl Authorizer {
    pub(super) fn new(config: config::Authorizer) -> Result<Self, ConfigError> {
        let part = |part: &str| format!("{part} of the authorizer {:?}", config.name);
        let sources = config
            .identity_sources
            .iter()
            .map(|source| {
                Selection::parse(source)
                    .map_err(|expected| ConfigError::new(&part("identity source"), source, expected))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if config.ttl_seconds > 3_600 {
            return Err(ConfigError::new(&part("ttl"), &config.ttl_seconds.to_string(), "0 to 3600 seconds"));
        }
        if config.ttl_seconds > 0 && sources.is_empty() {
            // "To enable caching, your authorizer must have at least one identity source."
            // (Control access to HTTP APIs with AWS Lambda authorizers)
            return Err(ConfigError::new(
                &part("ttl"),
                &config.ttl_seconds.to_string(),
                "0, or at least one identity source",
            ));
        }
        if config.enable_simple_responses && config.payload_format == PayloadFormat::V1 {
            // "If you choose the 1.0 format version, Lambda authorizers must return an IAM policy" (same page)
            return Err(ConfigError::new(
                &part("payload format"),
                "1.0 with simple responses",
                "2.0, or no simple responses",
            ));
        }
        if config.timeout.is_zero() || config.timeout > AUTHORIZER_TIMEOUT {
            return Err(ConfigError::new(
                &part("timeout"),
                &format!("{:?}", config.timeout),
                "more than 0 and at most 10 s",
            ));
        }
        Ok(Self {
            invoker: config.invoker,
            format: config.payload_format,
            simple: config.enable_simple_responses,
            sources,
            ttl: u64::from(config.ttl_seconds),
            timeout: config.timeout,
            cache: Mutex::new(Cache::new(MAX_CACHED)),
        })
    }

    /// Lets `call` pass, or says what the client is told.
    pub(super) async fn authorize(
        &self,
        call: &Call<'_>,
        clock: &dyn Clock,
        note: &mut Note,
    ) -> Result<Granted, Refusal> {
        let mut identity = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            // "If the client's request doesn't include the identity sources, API Gateway doesn't invoke your Lambda
            // authorizer, and the client receives a 401 error." (Control access to HTTP APIs with AWS Lambda authorizers)
            let Some(value) = source.value(call).filter(|value| !value.is_empty()) else {
                note.authorizer = Some("identity_source_missing");
                return Err(Refusal::UNAUTHORIZED);
            };
            identity.push(value);
        }
        let answer = self.answer(call, &identity, clock, note).await?;
        let allowed = match &answer.verdict {
            Verdict::Simple(allowed) => *allowed,
            // Also when it comes from the cache: the policy is kept, not the verdict.
            Verdict::Policy(policy) => policy.allows(&call.arn()),
        };
        if allowed { Ok(answer.granted.clone()) } else { Err(Refusal::FORBIDDEN) }
    }

    /// "If a client specifies the same parameters in identity sources within the configured TTL, API Gateway uses the
    /// cached authorizer result, rather than invoking your Lambda function." (same page)
    async fn answer(
        &self,
        call: &Call<'_>,
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
        let event = match self.format {
            PayloadFormat::V1 => event::authorizer_v1(call, identity),
            PayloadFormat::V2 => event::authorizer_v2(call, identity),
        };
        let payload = invoke::call(&self.invoker, event, self.timeout).await.map_err(|failure| {
            note.authorizer_error = Some(failure.to_string());
            match failure {
                // Documented for REST APIs ("return a 401 Unauthorized response"); HTTP APIs were seen to do the same.
                Failure::Function(error) if error.error_message == "Unauthorized" => Refusal::UNAUTHORIZED,
                _ => Refusal::INTERNAL,
            }
        })?;
        let size = payload.to_string().len();
        // "If API Gateway can't invoke your Lambda authorizer, or your Lambda authorizer returns a response in an invalid
        // format, clients receive a 500 Internal Server Error." (same page)
        let answer = Arc::new(self.read(payload).map_err(|wrong| {
            note.authorizer_error = Some(wrong);
            Refusal::INTERNAL
        })?);
        if let Some(key) = key.filter(|_| size <= MAX_CACHED_SIZE) {
            self.lock().insert(key, Arc::clone(&answer), clock.unix().saturating_add(self.ttl));
        }
        Ok(answer)
    }

    fn read(&self, payload: Value) -> Result<Answer, String> {
        let Value::Object(mut object) = payload else {
            return Err("the authorizer's answer is not an object".to_owned());
        };
        let context = match object.remove("context") {
            None | Some(Value::Null) => None,
            Some(Value::Object(context)) => Some(context),
            Some(_) => return Err("the authorizer's context is not an object".to_owned()),
        };
        if self.simple {
            let Some(Value::Bool(allowed)) = object.get("isAuthorized") else {
                return Err("the authorizer's isAuthorized is not true or false".to_owned());
            };
            return Ok(Answer { verdict: Verdict::Simple(*allowed), granted: Granted { context, principal_id: None } });
        }
        let Some(Value::String(principal)) = object.get("principalId") else {
            return Err("the authorizer's principalId is not text".to_owned());
        };
        let document = object.get("policyDocument").ok_or("the authorizer's answer has no policyDocument")?;
        let policy = Policy::parse(document)?;
        Ok(Answer {
            verdict: Verdict::Policy(policy),
            granted: Granted { context, principal_id: Some(principal.clone()) },
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache<Answer>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cache's key. Each value goes in with its length, so that no two lists look alike.
pub(super) fn digest(identity: &[String]) -> Key {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for value in identity {
        context.update(&(value.len() as u64).to_be_bytes());
        context.update(value.as_bytes());
    }
    let mut key = Key::default();
    key.copy_from_slice(context.finish().as_ref());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_values_do_not_run_together() {
        let of = |values: &[&str]| digest(&values.iter().map(|&value| value.to_owned()).collect::<Vec<_>>());
        assert_ne!(of(&["a", "bc"]), of(&["ab", "c"]));
        assert_ne!(of(&["a", ""]), of(&["", "a"]));
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
    }
}
