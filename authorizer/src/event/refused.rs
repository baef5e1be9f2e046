//! Events that are denied without asking the gate.

use authz::{ApiGatewayInfo, Reason};
use serde_json::Value;

use super::arn::{self, Arn};
use super::{Api, Form, MAX_TEXT, ResponseKind, Seen};

/// An event that is denied without asking the gate.
#[derive(Debug)]
pub struct Refused {
    /// The word for the log.
    pub reason: Reason,
    /// What was found and what was expected.
    pub detail: String,
    /// How the answer has to look, as far as the event lets us tell.
    pub form: Form,
    /// What the log line says about the event.
    pub seen: Seen,
}

/// Why an event is refused.
#[derive(Debug)]
pub(super) struct Why {
    reason: Reason,
    detail: String,
    /// Whether two readings of the path differ, which is what a wrong base path looks like, too.
    paths_differ: bool,
}

impl Why {
    fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), paths_differ: false }
    }

    pub(super) fn event(detail: impl Into<String>) -> Self {
        Self::new(Reason::RequestInvalid, detail)
    }

    pub(super) fn missing(field: &str) -> Self {
        Self::event(format!("{field} is missing or empty; API Gateway sends it in every authorizer event of this kind"))
    }

    pub(super) fn disagree(detail: &str) -> Self {
        Self::event(format!("{detail}; API Gateway writes both from one request"))
    }

    pub(super) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(Reason::RequestTooLarge, detail)
    }

    pub(super) fn not_canonical(detail: &str) -> Self {
        Self::new(Reason::PathNotCanonical, detail)
    }

    pub(super) fn paths_differ(detail: &str) -> Self {
        Self { paths_differ: true, ..Self::not_canonical(detail) }
    }

    /// The same, said of the document that the path was read by; of an API without one there is nothing else to say.
    pub(super) fn about_path(self, gateway: Option<ApiGatewayInfo<'_>>, uncovered: Option<String>) -> Self {
        match (gateway, uncovered) {
            _ if self.reason != Reason::PathNotCanonical => self,
            (_, Some(uncovered)) => Self::new(Reason::GatewayUnknown, uncovered),
            (Some(ApiGatewayInfo { name, base_path, .. }), None) if self.paths_differ => {
                let base_path =
                    base_path.map_or_else(|| "no basePath".to_owned(), |path| format!("the basePath {path}"));
                Self { detail: format!("{} (the ApiGateway {name} has {base_path})", self.detail), ..self }
            }
            _ => self,
        }
    }

    pub(super) fn into_refused(self, form: Form, seen: Seen) -> Box<Refused> {
        Box::new(Refused { reason: self.reason, detail: self.detail, form, seen })
    }
}

/// Where a JSON error is, without the words of `serde_json`: those may quote a value, and values are credentials.
pub(super) fn position(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "a field that is doubled or of another type than expected",
        serde_json::error::Category::Eof => "the JSON text ends early",
        serde_json::error::Category::Io | serde_json::error::Category::Syntax => "not JSON",
    };
    format!("{what}, line {} column {}", error.line(), error.column())
}

/// The answer form and the ids of an event that is otherwise not readable.
pub(super) fn probe(json: &str, kind: ResponseKind) -> (Form, Seen) {
    let Ok(value) = serde_json::from_str::<Value>(json) else {
        return (Form::Simple, Seen::default());
    };
    let text = |pointer: &str| {
        let found = value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        if found.len() > MAX_TEXT { String::new() } else { found.to_owned() }
    };
    let seen = Seen {
        request_id: text("/requestContext/requestId"),
        api_id: text("/requestContext/apiId"),
        stage: text("/requestContext/stage"),
    };
    let version = value.get("version").and_then(Value::as_str);
    let arn = value.get("methodArn").or(value.get("routeArn")).and_then(Value::as_str);
    let has_method_arn = value.get("methodArn").is_some();
    (form((has_method_arn, arn), version, value.get("type").is_some(), kind), seen)
}

/// A refusal needs no more than a policy that denies, where a policy is what API Gateway reads. It denies what the ARN of the
/// event says, if a policy can: it is cached, and says nothing of the caller's other requests. Events of REST and WebSocket
/// APIs state a type and no version.
pub(super) fn form(
    (has_method_arn, arn): (bool, Option<&str>),
    version: Option<&str>,
    has_type: bool,
    kind: ResponseKind,
) -> Form {
    let of_http = version == Some("2.0") && kind == ResponseKind::Iam;
    if has_method_arn || of_http || (version.is_none() && has_type) {
        let own = arn.filter(|arn| Arn::parse(arn).is_ok()).and_then(|arn| arn::nameable(arn.to_owned()).ok());
        Form::Policy { arn: own.unwrap_or_else(|| "*".to_owned()), api: Api::Http }
    } else {
        Form::Simple
    }
}
