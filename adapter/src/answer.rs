//! The one place where a decision becomes Envoy's answer.

use authz::request::plain_name;
use authz::{Allow, Decision, Deny, Reason, Request};
use envoy_types::ext_authz::v3::pb::{
    CheckResponse, HeaderAppendAction, HeaderValue, HeaderValueOption, HttpResponse, HttpStatus, HttpStatusCode,
};
use envoy_types::ext_authz::v3::pb::{DeniedHttpResponse, OkHttpResponse};
use envoy_types::pb::google::rpc;
use identity::Secret;
use tonic::Code;

use crate::exchange::is_key;

/// Headers that say who the caller is. Only the adapter sets them: every header of a request that begins like this, with
/// `_` for `-` as well, is taken out, or replaced, before the upstream sees it.
pub const IDENTITY_PREFIX: &str = "x-causeway-";
/// Where the mesh looks for a token.
const AUTHORIZATION: &str = "authorization";
/// The verified caller, `ISSUER/SUBJECT`.
pub const PRINCIPAL_HEADER: &str = "x-causeway-principal";
/// The verified caller's OAuth client.
pub const CLIENT_ID_HEADER: &str = "x-causeway-client-id";

/// What the mesh's own policies behind the adapter shall see of who calls.
#[derive(Debug, Default)]
pub(crate) struct Behind<'a> {
    /// The value of `authorization` in the place of the API key.
    pub(crate) authorization: Option<Secret<String>>,
    /// Headers that stay as they are, since the mesh looks for a token in them, and takes it out itself.
    pub(crate) tokens: &'a [String],
    /// The fingerprint of the API key: a header that holds it never stays.
    pub(crate) key: Option<String>,
}

impl Behind<'_> {
    fn leaves(&self, name: &str, request: &Request) -> bool {
        let holds_key = |value: &String| self.key.as_ref().is_some_and(|key| is_key(value, key));
        let mut lines = request.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value);
        self.tokens.iter().any(|token| token == name) && !lines.any(holds_key)
    }
}

/// What Envoy is told to do with `request`. `outputs` are the headers that the policies make out of claims.
pub(crate) fn answer(
    decision: &Decision,
    request: Option<&Request>,
    behind: &Behind<'_>,
    outputs: &[String],
) -> CheckResponse {
    match (decision, request) {
        (Decision::Allow(allow), Some(request)) => allowed(allow, request, behind, outputs),
        // The default is a denial: also for an allow without the request that it is about, which nothing makes.
        _ => denied(decision),
    }
}

/// Denies what could not be handed on: Envoy writes header values as it is given them, and a claim with a line break
/// would become a header of the caller's making.
pub(crate) fn presentable(decision: Decision, request: &Request) -> Decision {
    let Decision::Allow(allow) = &decision else { return decision };
    let clean = |text: &str| !text.chars().any(char::is_control);
    let identity = [allow.principal(), allow.client_id()];
    let changes = allow.header_changes(request);
    if identity.into_iter().flatten().all(clean) && changes.set.iter().all(|(_, value)| clean(value)) {
        return decision;
    }
    let detail = "a claim of the caller has control characters and cannot be a header";
    Deny::new(Reason::TokenMalformed, allow.hop(), detail).into()
}

/// Under shadow mode, denies after all what would carry a refused token to the upstream: the answer to Envoy can take
/// headers out, and not a part of the path.
pub(crate) fn without_refused_tokens(decision: Decision, request: &Request) -> Decision {
    let refused = match &decision {
        Decision::Allow(allow) if is_of_nobody(&decision) && allow.upstream_path() != request.path => {
            allow.would_deny()
        }
        _ => None,
    };
    refused.cloned().map_or(decision, Decision::Deny)
}

/// Whether shadow mode lets a request through of whose caller nothing is proven.
pub(crate) fn is_of_nobody(decision: &Decision) -> bool {
    matches!(decision, Decision::Allow(allow) if allow.would_deny().is_some() && allow.claims().is_none())
}

fn allowed(allow: &Allow, request: &Request, behind: &Behind<'_>, outputs: &[String]) -> CheckResponse {
    let changes = allow.header_changes(request);
    // What shadow mode takes out is not for the mesh to look at either.
    let leaves = |name: &str| behind.leaves(name, request) && !allow.withheld().iter().any(|held| held == name);
    let mut set: Vec<(String, String)> =
        changes.set.into_iter().filter(|(name, _)| !is_ours(name) && !leaves(name)).collect();
    for (name, value) in [(PRINCIPAL_HEADER, allow.principal()), (CLIENT_ID_HEADER, allow.client_id())] {
        if let Some(value) = value {
            set.push((name.to_owned(), value.to_owned()));
        }
    }
    if let Some(authorization) = &behind.authorization {
        // Whatever the client has put there is replaced.
        set.retain(|(name, _)| name != AUTHORIZATION);
        set.push((AUTHORIZATION.to_owned(), authorization.expose().clone()));
    }
    let mut remove = changes.remove;
    remove.retain(|name| !leaves(name));
    // Those of the policies' own names go when the tokens are looked at; here goes what an application takes for one.
    let is_output = |name: &String| outputs.contains(name);
    let is_like_output = |name: &str| outputs.iter().any(|output| plain_name(output) == plain_name(name));
    let spoofed = request.headers.iter().map(|(name, _)| name);
    let spoofed = spoofed.filter(|name| is_ours(name) || !is_output(name) && is_like_output(name));
    remove.extend(spoofed.cloned());
    // Also those that we have not seen: Envoy sends us the headers that it is told to.
    remove.extend([PRINCIPAL_HEADER, CLIENT_ID_HEADER].map(str::to_owned));
    // Envoy removes after it has set, so a header that is set must not be on the list; setting replaces all its lines.
    remove.retain(|name| !set.iter().any(|(kept, _)| kept == name));
    remove.sort_unstable();
    remove.dedup();
    CheckResponse {
        status: Some(grpc(Code::Ok)),
        http_response: Some(HttpResponse::OkResponse(OkHttpResponse {
            headers: set.into_iter().map(|(name, value)| overwrite(name, value)).collect(),
            headers_to_remove: remove,
            ..OkHttpResponse::default()
        })),
        dynamic_metadata: None,
    }
}

fn is_ours(name: &str) -> bool {
    plain_name(name).starts_with(IDENTITY_PREFIX)
}

fn denied(decision: &Decision) -> CheckResponse {
    let (code, word) = coarse(decision);
    let status = if code == HttpStatusCode::Unauthorized { Code::Unauthenticated } else { Code::PermissionDenied };
    CheckResponse {
        status: Some(grpc(status)),
        http_response: Some(HttpResponse::DeniedResponse(DeniedHttpResponse {
            status: Some(HttpStatus { code: code.into() }),
            headers: vec![overwrite("content-type".to_owned(), "application/json".to_owned())],
            body: format!("{{\"error\":\"{word}\"}}\n"),
        })),
        dynamic_metadata: None,
    }
}

/// The status that the client gets, where the adapter answers.
pub(crate) fn status(decision: &Decision) -> u16 {
    match decision {
        Decision::Allow(_) => 200,
        Decision::Deny(_) if coarse(decision).0 == HttpStatusCode::Unauthorized => 401,
        Decision::Deny(_) => 403,
    }
}

/// What the caller learns: whether to come with another credential. The reason is for the operator's log, since it would
/// tell whoever tries keys which of them exist.
fn coarse(decision: &Decision) -> (HttpStatusCode, &'static str) {
    match decision.status() {
        401 => (HttpStatusCode::Unauthorized, "unauthenticated"),
        _ => (HttpStatusCode::Forbidden, "denied"),
    }
}

fn grpc(code: Code) -> rpc::Status {
    rpc::Status { code: code.into(), message: String::new(), details: Vec::new() }
}

fn overwrite(key: String, value: String) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key, value, raw_value: Vec::new() }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        keep_empty_value: true,
        ..HeaderValueOption::default()
    }
}
