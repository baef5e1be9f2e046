//! What API Gateway gets back: the one place where a decision becomes an answer.
//!
//! * proven and allowed: `isAuthorized: true`, or a policy that allows this request's ARN, and what `grant` adds;
//! * no credential or a bad one: the error whose message is exactly `Unauthorized`, which API Gateway turns into 401;
//! * everything else: `isAuthorized: false`, or a policy that denies, which is 403.
//!
//! Context values are strings: REST and WebSocket APIs take no lists and no objects.
//!
//! "Any other error, timeout or bad shape" would be 500 to the client, so nothing else is ever returned.

use std::borrow::Cow;
use std::collections::BTreeMap;

use authz::claims::Json;
use authz::context_key::context_key;
use authz::grants::Resources;
use authz::{Allow, Decision, Deny, Reason};
use lambda_runtime::Diagnostic;
use serde::Serialize;

pub use authz::context_key::CONTEXT_KEYS;

use crate::event::{Api, Form};
use crate::grant::{self, Statement};

/// The most bytes of one context value. A cut value could be somebody else's name, so a longer one denies.
const MAX_VALUE: usize = 2_048;
/// The most bytes of all context values.
const MAX_CONTEXT: usize = 6_144;
/// The most bytes of an answer to a WebSocket API, which takes 8 KB: "AWS Lambda authorizer result size". Others take more.
const MAX_WEBSOCKET: usize = 8_000;

/// What integrations are told, by context key.
pub type Context = BTreeMap<Cow<'static, str>, String>;

/// A configured output header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its name in lower case.
    header: String,
    /// The key of its value in the context.
    key: String,
}

impl Output {
    /// The output of a header, whose name is in lower case.
    pub fn new(header: String) -> Self {
        Self { key: context_key(&header), header }
    }
}

/// An answer to API Gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// The simple response of payload format 2.0.
    Simple(Simple),
    /// An IAM policy, for REST and WebSocket APIs, for format 1.0 and for 2.0 without simple responses.
    Policy(Policy),
}

/// `{"isAuthorized": …, "context": …}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Simple {
    is_authorized: bool,
    context: Context,
}

/// `{"principalId": …, "policyDocument": …, "context": …, "usageIdentifierKey": …}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    principal_id: String,
    policy_document: Document,
    context: Context,
    /// REST APIs read it where `apiKeySource` is AUTHORIZER. It must be absent otherwise: `null` is a bad shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage_identifier_key: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    version: &'static str,
    statement: Vec<Statement>,
}

/// The error that API Gateway turns into 401. Its message is the whole contract, so it carries nothing else; the reason
/// is in the decision log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Unauthorized")]
pub struct Unauthorized;

impl From<Unauthorized> for Diagnostic {
    fn from(error: Unauthorized) -> Self {
        Diagnostic { error_type: "Unauthorized".to_owned(), error_message: error.to_string() }
    }
}

/// Turns a decision into the answer to its event. `context` is what [`presentable`] gave with the decision;
/// `usage_plan_key` is what the usage plans of a REST API know the caller's API key by.
/// `also` is what a policy may say beside the request itself.
///
/// # Errors
/// [`Unauthorized`] when the caller has to come with another credential.
pub fn answer(
    decision: &Decision,
    form: &Form,
    context: Context,
    usage_plan_key: Option<String>,
    also: &Resources,
) -> Result<Answer, Unauthorized> {
    // What shadow mode overlooks is this request alone.
    let nothing = Resources::default();
    let also = if decision.would_deny().is_some() { &nothing } else { also };
    let authorized = match decision {
        Decision::Allow(_) => true,
        Decision::Deny(deny) if is_about_credentials(deny.reason) => return Err(Unauthorized),
        Decision::Deny(_) => false,
    };
    match form {
        Form::Simple => Ok(Answer::Simple(Simple { is_authorized: authorized, context })),
        Form::Policy { arn, api } => {
            let principal = decision.principal().filter(|principal| principal.len() <= MAX_VALUE);
            let policy = Policy {
                // An issuer always stands before a slash, so no caller can be called this.
                principal_id: principal.unwrap_or("anonymous").to_owned(),
                policy_document: Document {
                    version: "2012-10-17",
                    statement: grant::statements(authorized, arn, also),
                },
                context,
                usage_identifier_key: usage_plan_key.filter(|_| authorized && *api == Api::Rest),
            };
            // What does not fit denies, in the one way that takes no room.
            let fits = *api != Api::WebSocket || policy.size().is_some_and(|size| size <= MAX_WEBSOCKET);
            if fits { Ok(Answer::Policy(policy)) } else { Err(Unauthorized) }
        }
    }
}

impl Policy {
    /// Bytes of its JSON text.
    fn size(&self) -> Option<usize> {
        serde_json::to_vec(self).ok().map(|text| text.len())
    }
}

/// The status that the client gets for a decision.
pub fn status(decision: &Decision) -> u16 {
    match decision {
        Decision::Allow(_) => 200,
        Decision::Deny(deny) if is_about_credentials(deny.reason) => 401,
        Decision::Deny(_) => 403,
    }
}

/// Whether another credential could help. A policy's denial of a caller without any is among these (`no_credential`),
/// and so is a token for another audience, where Envoy says 403. Answers to these are never cached by API Gateway, which
/// is as it must be for key sets and stores that could not be reached.
fn is_about_credentials(reason: Reason) -> bool {
    matches!(reason, Reason::NoCredential | Reason::TokenAudience) || reason.status() == 401
}

/// The context of a decision. Denies what could not be handed on whole: an allowed caller whose claims do not fit.
pub fn presentable(decision: Decision, form: &Form, request_id: &str, outputs: &[Output]) -> (Decision, Context) {
    let context = context(&decision, request_id, outputs);
    let Decision::Allow(allow) = &decision else { return (decision, context) };
    let total: usize = context.values().map(String::len).sum();
    let fits = total <= MAX_CONTEXT && context.values().all(|value| value.len() <= MAX_VALUE);
    // An integration may map a value to a header.
    let clean = context.values().all(|value| !value.contains(|c: char| c.is_control()));
    let has_room = match form {
        // The only one with a limit of its own.
        Form::Policy { api: Api::WebSocket, .. } => {
            answer(&decision, form, context.clone(), None, &Resources::default()).is_ok()
        }
        Form::Policy { .. } | Form::Simple => true,
    };
    if fits && clean && has_room {
        return (decision, context);
    }
    let detail =
        "the caller's claims are too long, or have control characters, and cannot be handed to the integration";
    let denied = Deny {
        principal: allow.principal().filter(|principal| principal.len() <= MAX_VALUE).map(str::to_owned),
        ..Deny::new(Reason::TokenMalformed, allow.hop(), detail)
    };
    let denied = denied.into();
    let context = self::context(&denied, request_id, outputs);
    (denied, context)
}

fn context(decision: &Decision, request_id: &str, outputs: &[Output]) -> Context {
    let mut context = Context::new();
    let allow = match decision {
        Decision::Allow(allow) => Some(allow),
        Decision::Deny(_) => None,
    };
    for Output { header, key } in outputs {
        let value = allow.and_then(|allow| output(allow, header)).unwrap_or_default();
        context.insert(Cow::Owned(key.clone()), value.to_owned());
    }
    let claim = |name: &str| allow.and_then(Allow::claims).and_then(|claims| claims.text(name)).unwrap_or_default();
    for key in CONTEXT_KEYS {
        let value = match key {
            "aud" => allow.map(audiences).unwrap_or_default(),
            "client_id" => allow.and_then(Allow::client_id).unwrap_or_default().to_owned(),
            "policy" => decision.policy().unwrap_or_default().to_owned(),
            "principal" => allow.and_then(Allow::principal).unwrap_or_default().to_owned(),
            "reason" => decision.reason().as_str().to_owned(),
            "request_id" => request_id.to_owned(),
            _ => claim(key).to_owned(),
        };
        // Last, so that no configured header takes the place of one of ours.
        context.insert(Cow::Borrowed(key), value);
    }
    context
}

fn output<'a>(allow: &'a Allow, header: &str) -> Option<&'a str> {
    // A header of this name may also be the client's own, where the rule that makes it is another workload's.
    allow.claim_headers().find(|(name, _)| *name == header).map(|(_, value)| value)
}

/// The audiences with spaces between, since a context value is a string.
fn audiences(allow: &Allow) -> String {
    match allow.claims().and_then(|claims| claims.get("aud")) {
        Some(Json::String(audience)) => audience.clone(),
        Some(Json::List(list)) => list.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(" "),
        _ => String::new(),
    }
}
