use std::time::Duration;

use crate::meta::{Meta, TargetRef, WorkloadSelector};

/// `RequestAuthentication`: which tokens a workload accepts. A request without a token passes it;
/// only an `AuthorizationPolicy` demands one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestAuthentication {
    /// Name, namespace and origin.
    pub meta: Meta,
    /// Workloads that the resource applies to; absent means all of its namespace (in the root
    /// namespace: of the mesh).
    pub selector: Option<WorkloadSelector>,
    /// `targetRefs`, or the single `targetRef`: resources of the Gateway API that it is attached to. At most one of this
    /// and `selector` is given.
    pub target_refs: Vec<TargetRef>,
    /// `jwtRules`: the accepted issuers.
    pub jwt_rules: Vec<JwtRule>,
}

/// `jwtRules[]`: one issuer, its keys, and where its tokens are found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct JwtRule {
    /// `issuer`: the exact value of the claim `iss`; empty accepts any, and then `jwksUri` is given.
    pub issuer: String,
    /// `audiences`, one of which the token must be for; empty accepts any.
    pub audiences: Vec<String>,
    /// `jwks`: the key set itself, JSON text. Never present together with `jwks_uri`.
    pub jwks: Option<String>,
    /// `jwksUri`: where the key set is; http or https. Without this and `jwks` it is found by the
    /// issuer's discovery document.
    pub jwks_uri: Option<String>,
    /// `forwardOriginalToken`: whether the destination sees the token.
    pub forward_original_token: bool,
    /// `fromHeaders`: headers that hold the token. Without any location, here and in the two fields below, they are
    /// `Authorization: Bearer …` and the query parameter `access_token`.
    pub from_headers: Vec<JwtHeader>,
    /// `fromParams`: query parameters that hold the token.
    pub from_params: Vec<String>,
    /// `fromCookies`: cookies that hold the token.
    pub from_cookies: Vec<String>,
    /// `outputPayloadToHeader`: the header in which the destination gets the token's payload, base64url as in the token.
    pub output_payload_to_header: Option<String>,
    /// `outputClaimToHeaders`: claims that the destination gets as headers.
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    /// `timeout` of fetching the key set, at least 1 ms; absent means Istio's 5 s.
    pub timeout: Option<Duration>,
    /// `spaceDelimitedClaims`: claims that are lists of words beside `scope` and `permission`, at most 64.
    pub space_delimited_claims: Vec<String>,
    /// `presence`: whether a token must be there.
    pub presence: Presence,
}

/// `presence` of a [`JwtRule`]. Istio reads it and does nothing with it (1.31-alpha).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Presence {
    /// Absent. Istio's schema does not let a document say `PRESENCE_UNSPECIFIED`.
    #[default]
    Unspecified,
    /// `OPTIONAL`.
    Optional,
    /// `REQUIRED`.
    Required,
}

/// `fromHeaders[]`: a header that holds a token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JwtHeader {
    /// Name of the header, not empty; header names have no case.
    pub name: String,
    /// Text in front of the token, with its space, such as `Bearer `; may be empty.
    pub prefix: String,
}

/// `outputClaimToHeaders[]`: a claim copied into a request header.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClaimToHeader {
    /// Name of the header: letters, digits, `-` and `_`.
    pub header: String,
    /// Name of the claim, not empty; nested names are joined with dots.
    pub claim: String,
}
