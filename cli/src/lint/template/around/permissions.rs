//! Permissions of functions: whom else than the API they let in.

use authz::api::Text;

use super::{ANY_API, ANY_FUNCTION, BALANCED, ELSEWHERE, EVERYBODY, PERHAPS, has_guarded, is_behind};
use crate::lint::finding::Code;
use crate::lint::template::Deployment;
use crate::template::{Could, Grant, Permission, Place};

/// One whose function is in the templates counts if that is ours or behind our authorizer, or perhaps.
pub(super) fn check(deployment: &Deployment<'_>, say: &mut impl FnMut(&'static Code, &Place, String)) {
    for permission in &deployment.templates.ways().permissions {
        let Some((code, message)) = found(permission) else { continue };
        let behind = match &permission.function {
            Some(function) => is_behind(deployment, function),
            // Whoever may call a function as a service is one of many: of one that is not known, it is no news.
            None if code.name == BALANCED.name => {
                if permission.is_of_parameter && has_guarded(deployment) {
                    say(&PERHAPS, &permission.place, format!("{message}; {ANY_FUNCTION} they call"));
                }
                continue;
            }
            None => Could::Yes,
        };
        match behind {
            Could::No => {}
            Could::Yes => say(code, &permission.place, message),
            Could::Perhaps => say(&PERHAPS, &permission.place, format!("{message}; {ELSEWHERE}")),
        }
    }
    targets(deployment, say);
}

/// Target groups: a load balancer calls a function with a permission alone, which another template may have.
fn targets(deployment: &Deployment<'_>, say: &mut impl FnMut(&'static Code, &Place, String)) {
    let ways = deployment.templates.ways();
    for target in &ways.targets {
        let mut own = ways.permissions.iter().filter(|one| one.function.as_ref() == Some(&target.function));
        if own.any(|permission| found(permission).is_some_and(|(code, _)| code.name == BALANCED.name)) {
            continue; // found there
        }
        let message = format!("it has the function {} among its targets", target.function);
        match is_behind(deployment, &target.function) {
            Could::No => {}
            Could::Yes => say(&BALANCED, &target.place, message),
            Could::Perhaps => say(&PERHAPS, &target.place, format!("{message}; {ELSEWHERE}")),
        }
    }
}

/// Whether it lets APIs call: API Gateway itself, or everybody, and not for the Function URL alone.
pub(super) fn is_for_api(permission: &Permission) -> bool {
    permission.grants.iter().any(|grant| match service(&grant.principal) {
        "apigateway" => true,
        "*" => !permission.is_for_url && !permission.is_bound && any_api(grant.source.as_ref()).is_some(),
        _ => false,
    })
}

/// What a permission opens, if its function is guarded: only perhaps, where that is so with some of its conditions.
fn found(permission: &Permission) -> Option<(&'static Code, String)> {
    let all: Vec<_> = permission.grants.iter().map(|grant| opened(permission, grant)).collect();
    let is_certain = all.iter().all(|one| one.as_ref().is_some_and(|(code, _)| code.name != PERHAPS.name));
    let (code, message) = all.into_iter().flatten().min_by_key(|(code, _)| code.name == PERHAPS.name)?;
    match is_certain || code.name == PERHAPS.name {
        true => Some((code, message)),
        false => Some((&PERHAPS, format!("it depends on a condition: {message}"))),
    }
}

fn opened(permission: &Permission, grant: &Grant) -> Option<(&'static Code, String)> {
    let source = grant.source.as_ref();
    match service(&grant.principal) {
        "apigateway" => any_api(source).map(|message| (&ANY_API, message)),
        "elasticloadbalancing" | "vpc-lattice" => {
            Some((&BALANCED, "it lets load balancers call the function".to_owned()))
        }
        "cloudfront" => Some((&BALANCED, "it lets CloudFront call the function for everybody".to_owned())),
        "*" if grant.is_from_balancer => {
            Some((&BALANCED, "it lets what its SourceArn names call the function".to_owned()))
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
        _ if grant.may_be_everybody && !permission.is_bound && !is_one_api(source) => {
            Some((&PERHAPS, "only the deployment knows whom it lets in".to_owned()))
        }
        _ => None,
    }
}

/// The service of a principal such as `apigateway.amazonaws.com`, also with `${AWS::URLSuffix}`.
fn service(principal: &Text) -> &str {
    principal.as_str().split('.').next().unwrap_or_default()
}

/// Whether it is the ARN of one API.
fn is_one_api(source: Option<&Text>) -> bool {
    source.is_some_and(|text| text.as_str().contains(":execute-api:")) && any_api(source).is_none()
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
