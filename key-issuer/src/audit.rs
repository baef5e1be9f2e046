//! One log line for each token and each SVID that is issued and for each request that is refused.

use platform::log::Log;
use serde::Serialize;

use crate::event::Request;
use crate::refusal::Refusal;

/// What is found out about a request on its way. None of it is a credential, and none of it is text that an
/// unauthenticated caller chose: a person who mistakes one field for another must not find a secret in the log.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Facts {
    /// `token_issued`, `svid_issued` or `jwt_svid_issued`, once it is.
    #[serde(skip)]
    pub(crate) event: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) door: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) route: Option<&'static str>,
    /// The event claimed an IAM identity at a door that has none.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) iam_ignored: bool,
    /// The event had a client certificate at a door that asks for none.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) certificate_ignored: bool,
    /// How a caller at the public door has proven its role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) proof: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_id: Option<String>,
    /// The grant of a token request, by its short name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grant: Option<&'static str>,
    /// The `sub` of an exchanged or refreshed token: the client itself, or the one that it acts for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
    /// The public id of the API key that was exchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) api_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) audience: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jti: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spiffe_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) serial: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<u64>,
    /// The administrator, as far as the policies have proven who it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) principal: Option<String>,
    /// Istio's id of the rule that let the administrator pass, or did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) change: Option<Change>,
}

/// What an administrator has changed. The states are what an administrator may see, and hold no secret.
#[derive(Debug, Serialize)]
pub(crate) struct Change {
    pub(crate) action: &'static str,
    pub(crate) id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) before: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<serde_json::Value>,
}

#[derive(Serialize)]
struct Line<'a> {
    /// Unix seconds.
    ts: u64,
    event: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(flatten)]
    facts: &'a Facts,
    api_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_ip: Option<&'a str>,
}

/// Writes the line of a request, if it has one: reading a public document has none.
pub(crate) fn write(log: &Log, ts: u64, request: &Request, facts: &Facts, refusal: Option<&Refusal>) {
    let event = match (refusal, facts.event) {
        (Some(_), _) => "request_refused",
        (None, Some(event)) => event,
        (None, None) => return,
    };
    log.write(&Line {
        ts,
        event,
        status: refusal.map_or(200, |refusal| refusal.status),
        error: refusal.map(|refusal| refusal.error).filter(|error| !error.is_empty()),
        reason: refusal.map(|refusal| refusal.description.as_str()),
        detail: refusal.and_then(|refusal| refusal.detail.as_deref()),
        facts,
        api_id: &request.api_id,
        request_id: request.request_id.as_deref(),
        source_ip: request.source_ip.as_deref(),
    });
}
