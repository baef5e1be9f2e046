//! What a [`Gateway`](super::Gateway) is made of, in the words of API Gateway.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use platform::clock::{Clock, SystemClock};
use platform::log::Log;

use super::Invoker;

/// One HTTP API with one stage.
#[derive(Clone)]
pub struct GatewayConfig {
    /// The API's id; its own domain name is `API_ID.execute-api.REGION.amazonaws.com`, with the stage in the path.
    pub api_id: String,
    /// The stage, `$default` or a name.
    pub stage: String,
    /// Custom domain names mapped to the stage without a base path, in lower case; `*.example.com` is a wildcard name. A request that
    /// addresses the listener itself (an IP address or `localhost`) counts as one to the first that is no wildcard, or else to the API's own name.
    pub domains: Vec<String>,
    /// The region, as ARNs and domain names show it.
    pub region: String,
    /// The owner's account id, 12 digits.
    pub account_id: String,
    /// The routes; each names an integration, and an authorizer if it has one.
    pub routes: Vec<Route>,
    /// The Lambda authorizers.
    pub authorizers: Vec<Authorizer>,
    /// The Lambda proxy integrations.
    pub integrations: Vec<Integration>,
    /// The stage's variables.
    pub stage_variables: BTreeMap<String, String>,
    /// The time, for events and cache ages.
    pub clock: Arc<dyn Clock>,
    /// Takes one line a request.
    pub log: Option<Log>,
}

impl GatewayConfig {
    /// An API without routes: region `eu-central-1`, account 123456789012, the machine's clock, no log.
    pub fn new(api_id: impl Into<String>, stage: impl Into<String>) -> Self {
        Self {
            api_id: api_id.into(),
            stage: stage.into(),
            domains: Vec::new(),
            region: "eu-central-1".to_owned(),
            account_id: "123456789012".to_owned(),
            routes: Vec::new(),
            authorizers: Vec::new(),
            integrations: Vec::new(),
            stage_variables: BTreeMap::new(),
            clock: Arc::new(SystemClock),
            log: None,
        }
    }

    /// The parts that no other module reads more closely.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.stage != super::DEFAULT_STAGE && !is_plain(&self.stage) {
            return Err(ConfigError::new("stage", &self.stage, "$default, or letters, digits, - and _"));
        }
        check_names(&self.api_id, &self.region, &self.account_id, &self.domains)?;
        for Integration { name, timeout, .. } in &self.integrations {
            if timeout.is_zero() || *timeout > INTEGRATION_TIMEOUT {
                let part = format!("timeout of the integration {name:?}");
                return Err(ConfigError::new(&part, &format!("{timeout:?}"), "more than 0 and at most 30 s"));
            }
        }
        unique("authorizer", self.authorizers.iter().map(|authorizer| authorizer.name.as_str()))?;
        unique("integration", self.integrations.iter().map(|integration| integration.name.as_str()))
    }
}

/// Letters, digits, - and _, at least one.
pub(super) fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// What ARNs and events of an API name it by.
pub(super) fn check_names(api_id: &str, region: &str, account_id: &str, domains: &[String]) -> Result<(), ConfigError> {
    if !is_plain(api_id) {
        return Err(ConfigError::new("api id", api_id, "letters, digits, - and _"));
    }
    if !is_plain(region) {
        return Err(ConfigError::new("region", region, "a region such as eu-central-1"));
    }
    if account_id.len() != 12 || !account_id.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ConfigError::new("account id", account_id, "12 digits"));
    }
    for domain in domains {
        let name = domain.strip_prefix("*.").unwrap_or(domain);
        if name.is_empty()
            || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
        {
            return Err(ConfigError::new("domain", domain, "a host name in lower case without a port, or *. and one"));
        }
    }
    Ok(())
}

pub(super) fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<(), ConfigError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if name.is_empty() || !seen.insert(name) {
            return Err(ConfigError::new(&format!("{what} name"), name, "a name, used once"));
        }
    }
    Ok(())
}

/// A route: what is asked for and what answers.
#[derive(Clone, Debug)]
pub struct Route {
    /// The route key: `GET /reviews/{id}`, `ANY /{proxy+}` or `$default`.
    pub key: String,
    /// The name of the authorizer that guards it; none leaves it open.
    pub authorizer: Option<String>,
    /// The name of the integration that answers.
    pub integration: String,
}

impl Route {
    /// An open route.
    pub fn new(key: impl Into<String>, integration: impl Into<String>) -> Self {
        Self { key: key.into(), authorizer: None, integration: integration.into() }
    }

    /// The same route, guarded.
    #[must_use]
    pub fn guarded_by(self, authorizer: impl Into<String>) -> Self {
        Self { authorizer: Some(authorizer.into()), ..self }
    }
}

/// The form of an event and of the answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadFormat {
    /// `1.0`, the form that REST APIs use too.
    V1,
    /// `2.0`.
    V2,
}

/// A Lambda authorizer.
#[derive(Clone)]
pub struct Authorizer {
    /// The name that routes call it by.
    pub name: String,
    /// The function.
    pub invoker: Arc<dyn Invoker>,
    /// The form of its events.
    pub payload_format: PayloadFormat,
    /// Whether it answers `{"isAuthorized": …}` (2.0 only) or an IAM policy.
    pub enable_simple_responses: bool,
    /// What a request must have, and the cache's key: `$request.header.NAME`, `$request.querystring.NAME`,
    /// `$context.VARIABLE`, `$stageVariables.NAME`.
    pub identity_sources: Vec<String>,
    /// How long an answer is reused, 0 (not at all) to 3,600 seconds.
    pub ttl_seconds: u32,
    /// How long it may take, at most 10 s.
    pub timeout: Duration,
}

/// "Timeout for Lambda authorizer response | 10000 ms | No" (Quotas for configuring and running an HTTP API)
pub(super) const AUTHORIZER_TIMEOUT: Duration = Duration::from_millis(10_000);

impl Authorizer {
    /// Payload 2.0 with simple responses, no identity source, no cache.
    pub fn new(name: impl Into<String>, invoker: Arc<dyn Invoker>) -> Self {
        Self {
            name: name.into(),
            invoker,
            payload_format: PayloadFormat::V2,
            enable_simple_responses: true,
            identity_sources: Vec::new(),
            ttl_seconds: 0,
            timeout: AUTHORIZER_TIMEOUT,
        }
    }
}

/// A Lambda proxy integration.
#[derive(Clone)]
pub struct Integration {
    /// The name that routes call it by.
    pub name: String,
    /// The function.
    pub invoker: Arc<dyn Invoker>,
    /// The form of its events.
    pub payload_format: PayloadFormat,
    /// Parameter mapping: `append|overwrite|remove:header.NAME` to `$context.authorizer.KEY`, `$context.VARIABLE`,
    /// `$request.header.NAME`, `$stageVariables.NAME` or a constant.
    pub request_parameters: BTreeMap<String, String>,
    /// How long it may take, at most 30 s.
    pub timeout: Duration,
}

/// "Maximum integration timeout | 30 seconds | No" (Quotas for configuring and running an HTTP API)
pub(super) const INTEGRATION_TIMEOUT: Duration = Duration::from_secs(30);

impl Integration {
    /// Payload 2.0, no mapping, 30 s.
    pub fn new(name: impl Into<String>, invoker: Arc<dyn Invoker>) -> Self {
        Self {
            name: name.into(),
            invoker,
            payload_format: PayloadFormat::V2,
            request_parameters: BTreeMap::new(),
            timeout: INTEGRATION_TIMEOUT,
        }
    }
}

/// A configuration that API Gateway would refuse, or that this stand-in does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the gateway's {part} is {found:?}, expected {expected}")]
pub struct ConfigError {
    part: String,
    found: String,
    expected: String,
}

impl ConfigError {
    pub(super) fn new(part: &str, found: &str, expected: &str) -> Self {
        Self { part: part.to_owned(), found: found.to_owned(), expected: expected.to_owned() }
    }
}
