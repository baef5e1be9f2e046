//! Permissions of functions: whom else than the API they let in.

use authz::api::Text;

use super::{ANY_API, BALANCED, ELSEWHERE, EVERYBODY, PERHAPS, is_behind};
use crate::lint::finding::Code;
use crate::lint::template::Deployment;
use crate::template::{Could, Permission, Place};

/// One whose function is in the templates counts if that is ours or behind our authorizer, or perhaps.
pub(super) fn check(deployment: &Deployment<'_>, say: &mut impl FnMut(&'static Code, &Place, String)) {
    for permission in &deployment.templates.ways().permissions {
        let function = permission.function.as_deref();
        let behind = function.map_or(Could::Yes, |function| is_behind(deployment, function));
        match (behind, found(permission)) {
            (Could::No, _) | (_, None) => {}
            (Could::Yes, Some((code, message))) => say(code, &permission.place, message),
            (Could::Perhaps, Some((_, message))) => {
                say(&PERHAPS, &permission.place, format!("{message}; {ELSEWHERE}"));
            }
        }
    }
}

/// What a permission opens, if its function is guarded.
fn found(permission: &Permission) -> Option<(&'static Code, String)> {
    let source = permission.source.as_ref();
    match service(&permission.principal) {
        "apigateway" => any_api(source).map(|message| (&ANY_API, message)),
        "elasticloadbalancing" | "vpc-lattice" => {
            permission.function.as_ref().map(|_| (&BALANCED, "it lets load balancers call the function".to_owned()))
        }
        "*" if permission.is_bound => None,
        // Without a finding it is for an API, or a bucket and its like, that AWS names by itself.
        "*" => any_api(source).map(|message| {
            if source.is_some_and(|text| text.as_str().contains(":execute-api:")) {
                return (&ANY_API, message);
            }
            let how = if permission.by_signed_url { "everybody with an AWS account" } else { "everybody" };
            (&EVERYBODY, format!("it lets {how} in"))
        }),
        _ if permission.may_be_everybody && !permission.is_bound && any_api(source).is_some() => {
            Some((&PERHAPS, "only the deployment knows whom it lets in".to_owned()))
        }
        _ => None,
    }
}

/// The service of a principal such as `apigateway.amazonaws.com`, also with `!Sub` and `${AWS::URLSuffix}`.
pub(super) fn service(principal: &Text) -> &str {
    let text = principal.as_str();
    let text = text.strip_prefix("Sub ").unwrap_or(text);
    text.split('.').next().unwrap_or_default()
}

/// Why a permission for API Gateway is not for one API: `arn:PARTITION:execute-api:REGION:ACCOUNT:API/…` has no
/// wildcard up to the API.
fn any_api(source: Option<&Text>) -> Option<String> {
    let Some(source) = source else { return Some("it has no SourceArn: any API may call".to_owned()) };
    let text = source.as_str();
    // A wildcard may also stand for the service.
    let arn = text.split_once(":execute-api:").map_or(text, |(_, rest)| rest);
    // "asterisks (*) and question marks (?)" are ArnLike's wildcards.
    let api = arn.split('/').next().unwrap_or_default();
    api.contains(['*', '?']).then(|| format!("its SourceArn is for more than one API: {text}"))
}
