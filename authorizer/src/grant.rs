//! What an IAM answer grants: the one place that writes statements.

use serde::Serialize;

/// A statement of a policy document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Statement {
    action: &'static str,
    effect: &'static str,
    resource: String,
}

/// The statements for a request that may pass or not. `arn` is the request's own, without a pattern in it: API Gateway
/// evaluates a cached policy again for the next request, which then asks anew.
pub(crate) fn statements(authorized: bool, arn: &str) -> Vec<Statement> {
    vec![Statement {
        action: "execute-api:Invoke",
        effect: if authorized { "Allow" } else { "Deny" },
        resource: arn.to_owned(),
    }]
}
