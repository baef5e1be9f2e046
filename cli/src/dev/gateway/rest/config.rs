//! What a [`RestApi`](super::RestApi) is made of, in the words of API Gateway.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use platform::clock::{Clock, SystemClock};
use platform::log::Log;

use crate::dev::gateway::Invoker;
use crate::dev::gateway::config::{ConfigError, check_names, is_plain, unique};

/// One REST API with one stage.
#[derive(Clone)]
pub struct RestConfig {
    /// The API's id; its own domain name is `API_ID.execute-api.REGION.amazonaws.com`, with the stage in the path.
    pub api_id: String,
    /// The stage.
    pub stage: String,
    /// Custom domain names mapped to the stage, in lower case. A request that addresses the listener itself counts as
    /// one to the first.
    pub domains: Vec<String>,
    /// What stands in front of the API's own paths at the custom domains, without slashes around it; empty for
    /// nothing.
    pub base_path: String,
    /// The region, as ARNs and domain names show it.
    pub region: String,
    /// The owner's account id, 12 digits.
    pub account_id: String,
    /// The methods of its resources.
    pub methods: Vec<RestMethod>,
    /// The Lambda authorizers.
    pub authorizers: Vec<RestAuthorizer>,
    /// The functions behind it (Lambda proxy integrations), by name.
    pub integrations: BTreeMap<String, Arc<dyn Invoker>>,
    /// Where the API key of a request comes from.
    pub api_key_source: ApiKeySource,
    /// The values of the API keys that a usage plan has for the stage.
    pub api_keys: Vec<String>,
    /// The stage's variables.
    pub stage_variables: BTreeMap<String, String>,
    /// The time, for events and cache ages.
    pub clock: Arc<dyn Clock>,
    /// Takes one line a request.
    pub log: Option<Log>,
}

/// `apiKeySource` of a REST API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApiKeySource {
    /// `HEADER`: the header `x-api-key`.
    #[default]
    Header,
    /// `AUTHORIZER`: `usageIdentifierKey` of the authorizer's answer.
    Authorizer,
}

/// A method of a resource.
#[derive(Clone, Debug)]
pub struct RestMethod {
    /// `GET /reviews/{id}` or `ANY /{proxy+}`.
    pub key: String,
    /// The name of the authorizer that guards it; none leaves it open.
    pub authorizer: Option<String>,
    /// The name of the integration that answers.
    pub integration: String,
    /// `apiKeyRequired`: whether the request needs a key of a usage plan.
    pub api_key_required: bool,
}

/// A Lambda authorizer of a REST API.
#[derive(Clone)]
pub struct RestAuthorizer {
    /// The name that methods call it by.
    pub name: String,
    /// The function.
    pub invoker: Arc<dyn Invoker>,
    /// What it is told, and what a request must have.
    pub identity: IdentitySource,
    /// How long an answer is reused, 0 (not at all) to 3,600 seconds. The service's own default is 300.
    pub ttl_seconds: u32,
    /// How long it may take, at most 29 s.
    pub timeout: Duration,
}

/// `type` and `identitySource` of an authorizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentitySource {
    /// `TOKEN`: the value of this header, and nothing else of the request.
    Token(String),
    /// `REQUEST`: the request. `method.request.header.NAME`, `method.request.querystring.NAME`, `stageVariables.NAME`
    /// or `context.VARIABLE`: what a request must have, and the cache's key.
    Request(Vec<String>),
}

/// "Integration timeout for Regional APIs | 50 milliseconds - 29 seconds" (Quotas for configuring and running a REST
/// API); an authorizer's is not documented and taken for the same.
pub(super) const TIMEOUT: Duration = Duration::from_secs(29);

impl RestConfig {
    /// An API without methods: region `eu-central-1`, account 123456789012, the machine's clock, no log.
    pub fn new(api_id: impl Into<String>, stage: impl Into<String>) -> Self {
        Self {
            api_id: api_id.into(),
            stage: stage.into(),
            domains: Vec::new(),
            base_path: String::new(),
            region: "eu-central-1".to_owned(),
            account_id: "123456789012".to_owned(),
            methods: Vec::new(),
            authorizers: Vec::new(),
            integrations: BTreeMap::new(),
            api_key_source: ApiKeySource::default(),
            api_keys: Vec::new(),
            stage_variables: BTreeMap::new(),
            clock: Arc::new(SystemClock),
            log: None,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        check_names(&self.api_id, &self.region, &self.account_id, &self.domains)?;
        if !is_plain(&self.stage) {
            return Err(ConfigError::new("stage", &self.stage, "letters, digits, - and _"));
        }
        if !self.base_path.is_empty() && !self.base_path.split('/').all(is_plain) {
            return Err(ConfigError::new("base path", &self.base_path, "segments of letters, digits, - and _"));
        }
        if let Some(method) = self.methods.iter().find(|method| !method.key.contains(" /")) {
            return Err(ConfigError::new("method", &method.key, "a method and a path: a REST API has no $default"));
        }
        unique("authorizer", self.authorizers.iter().map(|authorizer| authorizer.name.as_str()))
    }
}

impl RestAuthorizer {
    /// Without caching.
    pub fn new(name: impl Into<String>, invoker: Arc<dyn Invoker>, identity: IdentitySource) -> Self {
        Self { name: name.into(), invoker, identity, ttl_seconds: 0, timeout: TIMEOUT }
    }
}
