//! The statements of an IAM answer: the request that was asked about, and what else the caller is known to be allowed.
//!
//! API Gateway evaluates a cached answer again for each request that follows. What is in here is the least that keeps a
//! caller from being denied on the next route; `authz::grants` says why it is not more.

use std::sync::OnceLock;

use authz::api::Apis;
use authz::grants::Resources;
use authz::{Decision, Given, Policies, Request, Target};
use platform::bundle::SharedBytes;
use platform::log::Log;
use serde::Serialize;

use crate::event::{Api, Event, Form};

/// The most bytes of resources beside the request itself.
const MAX_RESOURCES: usize = 8 * 1024;

const ACTION: &str = "execute-api:Invoke";

/// One statement of an IAM policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Statement {
    action: &'static str,
    effect: &'static str,
    resource: Resource,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Resource {
    One(String),
    Several(Vec<String>),
}

/// The APIs of the bundle. They are opened when the first answer can use them, which is not at the start.
pub(crate) struct KnownApis {
    section: Option<SharedBytes>,
    opened: OnceLock<Option<Apis>>,
}

impl KnownApis {
    /// The section of the bundle; a bundle that was made without templates has none.
    pub(crate) fn new(section: Option<SharedBytes>) -> Self {
        Self { section, opened: OnceLock::new() }
    }

    fn get(&self, log: &Log) -> Option<&Apis> {
        let open = || match Apis::open(self.section.as_deref()?.as_ref()) {
            Ok(apis) => Some(apis),
            Err(error) => {
                // Without them an answer is for its request alone, which is always right.
                log.write(&serde_json::json!({"event": "apis_unusable", "error": error.to_string()}));
                None
            }
        };
        self.opened.get_or_init(open).as_ref()
    }

    /// What an answer to `event` may say beside the request itself; nothing unless it is an IAM policy that allows.
    pub(crate) fn grants(
        &self,
        event: &Event,
        policies: &Policies,
        given: &Given<'_>,
        decision: &Decision,
        log: &Log,
    ) -> Resources {
        // The answer to a WebSocket API's $connect is for that connection alone.
        let (Form::Policy { arn, api: Api::Http | Api::Rest }, Decision::Allow(allow)) = (&event.form, decision) else {
            return Resources::default();
        };
        let Some(base) = base(arn, &event.request, &event.target) else { return Resources::default() };
        let Some(apis) = self.get(log) else { return Resources::default() };
        let grants = authz::grants(policies, apis, &event.request, &event.target, given, allow);
        grants.resources(base, MAX_RESOURCES)
    }
}

impl std::fmt::Debug for KnownApis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KnownApis")
            .field("bytes", &self.section.as_deref().map(|section| section.as_ref().len()))
            .finish()
    }
}

/// `arn:PARTITION:execute-api:REGION:ACCOUNT:API/STAGE/` of a request's ARN, if what follows is exactly the method and
/// the path that were judged. It is not where a base path or a stage was taken off that the ARN has, or where the path is
/// written in another way there; then nobody can say what another route's ARN is.
fn base<'a>(arn: &'a str, request: &Request, target: &Target) -> Option<&'a str> {
    let Target::ApiGateway { api_id, stage, .. } = target else { return None };
    let path = request.path.split('?').next().unwrap_or_default();
    let base = arn.strip_suffix(path)?.strip_suffix(request.method.as_str())?;
    let (_, resource) = base.rsplit_once(':')?;
    let is_stage = resource.strip_prefix(api_id.as_str())?.strip_prefix('/')?.strip_suffix('/')? == stage;
    is_stage.then_some(base)
}

/// The statements of an answer about the request `arn`.
pub(crate) fn statements(is_allowed: bool, arn: &str, also: &Resources) -> Vec<Statement> {
    let statement = |effect, resource| Statement { action: ACTION, effect, resource };
    if !is_allowed {
        return vec![statement("Deny", Resource::One(arn.to_owned()))];
    }
    let mut allow: Vec<String> = also.allow.iter().filter(|one| *one != arn).cloned().collect();
    if allow.is_empty() {
        return vec![statement("Allow", Resource::One(arn.to_owned()))];
    }
    allow.insert(0, arn.to_owned());
    let mut statements = vec![statement("Allow", Resource::Several(allow))];
    if !also.deny.is_empty() {
        // "An explicit deny in any of these policies overrides the allow."
        statements.push(statement("Deny", Resource::Several(also.deny.clone())));
    }
    statements
}
