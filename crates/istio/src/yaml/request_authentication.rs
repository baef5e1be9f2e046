use super::check::header_name;
use super::meta::selector;
use super::nearest::quoted;
use super::read::At;
use crate::{ClaimToHeader, JwtHeader, JwtRule, Meta, RequestAuthentication};

const SPEC_NOT_YET: &[&str] = &["targetRef", "targetRefs"];
const RULE_NOT_YET: &[&str] =
    &["fromCookies", "fromParams", "outputPayloadToHeader", "presence", "spaceDelimitedClaims", "timeout"];

pub(super) fn request_authentication(meta: Meta, spec: &At<'_>) -> Option<RequestAuthentication> {
    spec.mapping(SPEC_NOT_YET, |fields| {
        let selector = selector(fields);
        let jwt_rules = fields.list("jwtRules", jwt_rule).unwrap_or_default();
        Some(RequestAuthentication { meta, selector, target_refs: Vec::new(), jwt_rules })
    })
}

fn jwt_rule(at: &At<'_>) -> Option<JwtRule> {
    at.mapping(RULE_NOT_YET, |fields| {
        let issuer = fields.non_empty_string("issuer");
        let audiences = fields.strings("audiences");
        let jwks = fields.non_empty_string("jwks");
        let jwks_uri = fields.field("jwksUri").and_then(|uri| http_uri(&uri));
        let forward_original_token = fields.boolean("forwardOriginalToken");
        let from_headers = fields.list("fromHeaders", jwt_header).unwrap_or_default();
        let output_claim_to_headers = fields.list("outputClaimToHeaders", claim_to_header).unwrap_or_default();
        // Istio's schema: "only one of jwks or jwksUri can be set".
        if jwks.is_some() && jwks_uri.is_some() {
            fields.at.error("`jwks` and `jwksUri` exclude each other; keep one");
        }
        if issuer.is_none() && fields.clean() {
            fields.at.error(if jwks_uri.is_some() {
                "a rule without `issuer`, which accepts every issuer, is not supported yet"
            } else {
                "the field `issuer` is missing"
            });
        }
        Some(JwtRule {
            issuer: issuer?,
            audiences,
            jwks,
            jwks_uri,
            forward_original_token,
            from_headers,
            output_claim_to_headers,
            ..JwtRule::default()
        })
    })
}

/// Istio (`ParseJwksURI`): the scheme must be http or https.
fn http_uri(at: &At<'_>) -> Option<String> {
    let uri = at.non_empty_string()?;
    let (scheme, rest) = uri.split_once("://").unwrap_or(("", &uri));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // A password in it would end up in logs and in the compiled bundle; not even this error shows it.
    if authority.contains('@') {
        at.error("expected a URI without user information (`user@`)");
        return None;
    }
    let http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    if !http || authority.is_empty() || !uri.bytes().all(|byte| byte.is_ascii_graphic()) {
        at.error(format!("expected an http or https URI, found {}", quoted(&uri)));
        return None;
    }
    Some(uri)
}

fn jwt_header(at: &At<'_>) -> Option<JwtHeader> {
    at.mapping(&[], |fields| {
        let name = fields.required("name").and_then(|name| header_name(&name));
        let prefix = fields.string("prefix").unwrap_or_default();
        Some(JwtHeader { name: name?, prefix })
    })
}

fn claim_to_header(at: &At<'_>) -> Option<ClaimToHeader> {
    at.mapping(&[], |fields| {
        let header = fields.required("header").and_then(|at| {
            let header = at.non_empty_string()?;
            // Istio (`ValidateStrictHTTPHeaderName`): `^[-_A-Za-z0-9]+$`.
            let strict = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if !header.bytes().all(strict) {
                at.error(format!("expected a header name of letters, digits, `-` and `_`, found {}", quoted(&header)));
                return None;
            }
            Some(header)
        });
        let claim = fields.required_string("claim");
        Some(ClaimToHeader { header: header?, claim: claim? })
    })
}
