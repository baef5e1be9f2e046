use std::time::Duration;

use super::check::header_name;
use super::go::parse_duration;
use super::jwks;
use super::nearest::quoted;
use super::read::{At, Mapping};
use super::target::attachment;
use super::uri::http_uri;
use crate::{ClaimToHeader, JwtHeader, JwtRule, Meta, Presence, RequestAuthentication};

/// Bounds of Istio's schema.
const MAX_RULES: usize = 4096;
const MAX_SPACE_DELIMITED_CLAIMS: usize = 64;
const PRESENCES: &[(&str, Presence)] = &[("OPTIONAL", Presence::Optional), ("REQUIRED", Presence::Required)];

pub(super) fn request_authentication(meta: Meta, spec: &At<'_>) -> Option<RequestAuthentication> {
    spec.mapping(&[], |fields| {
        let (selector, target_refs) = attachment(fields);
        let jwt_rules = fields.bounded_list("jwtRules", MAX_RULES, jwt_rule).unwrap_or_default();
        Some(RequestAuthentication { meta, selector, target_refs, jwt_rules })
    })
}

fn jwt_rule(at: &At<'_>) -> Option<JwtRule> {
    at.mapping(&[], |fields| {
        let issuer = fields.non_empty_string("issuer");
        let (jwks, jwks_uri) = key_set(fields);
        let rule = JwtRule {
            issuer: issuer.unwrap_or_default(),
            audiences: fields.strings("audiences"),
            jwks,
            jwks_uri,
            forward_original_token: fields.boolean("forwardOriginalToken"),
            from_headers: fields.list("fromHeaders", jwt_header).unwrap_or_default(),
            from_params: fields.strings("fromParams"),
            from_cookies: fields.strings("fromCookies"),
            // Istio passes the name on unchecked; what is no header name is no header.
            output_payload_to_header: fields.field("outputPayloadToHeader").and_then(|at| header_name(&at)),
            output_claim_to_headers: fields.list("outputClaimToHeaders", claim_to_header).unwrap_or_default(),
            timeout: fields.field("timeout").and_then(|at| timeout(&at)),
            space_delimited_claims: fields
                .bounded_list("spaceDelimitedClaims", MAX_SPACE_DELIMITED_CLAIMS, |at| at.non_empty_string())
                .unwrap_or_default(),
            presence: fields.field("presence").and_then(|at| at.word(PRESENCES, &[])).unwrap_or_default(),
        };
        // Istio: "issuer or jwksUri must be non-empty string"; `jwks` does not count.
        if rule.issuer.is_empty() && rule.jwks_uri.is_none() && fields.clean() {
            fields.at.error("the field `issuer` is missing; only a rule with `jwksUri` may leave it out");
        }
        Some(rule)
    })
}

/// `jwks`, and `jwksUri` or `jwks_uri`. Istio's schema: "only one of jwks or jwksUri can be set".
fn key_set(fields: &mut Mapping<'_>) -> (Option<String>, Option<String>) {
    let inline = fields.field("jwks");
    let uri = fields.field("jwksUri");
    // Istio's schema has the field under both names.
    let other = fields.field("jwks_uri");
    if [&inline, &uri, &other].into_iter().flatten().count() > 1 {
        fields.at.error("`jwks` and `jwksUri` exclude each other; keep one");
    }
    let jwks = inline.and_then(|at| {
        let text = at.non_empty_string()?;
        // Istio: "jwks parse error". The text itself may hold a secret and is not shown.
        if let Err(wrong) = jwks::check(&text) {
            at.error(format!("expected a JSON Web Key Set: {wrong}"));
            return None;
        }
        Some(text)
    });
    (jwks, uri.or(other).and_then(|at| http_uri(&at)))
}

/// Istio: "must be a valid duration greater than 1ms", "only durations to ms precision are supported".
fn timeout(at: &At<'_>) -> Option<Duration> {
    let text = at.non_empty_string()?;
    let timeout = parse_duration(&text);
    let timeout = timeout.filter(|timeout| !timeout.is_zero() && timeout.subsec_nanos() % 1_000_000 == 0);
    if timeout.is_none() {
        at.error(format!("expected a duration in whole milliseconds such as `5s` or `500ms`, found {}", quoted(&text)));
    }
    timeout
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
