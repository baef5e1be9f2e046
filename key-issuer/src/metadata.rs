//! The authorization server's metadata (RFC 8414, OpenID Connect Discovery): one struct, served at two places.

use serde::Serialize;

use crate::routes::{JWKS_PATH, TOKEN_PATH};

/// How long a reader may keep the document.
pub(crate) const MAX_AGE_SECONDS: u64 = 3600;

/// The document. Both places serve the same bytes, so that no reader can be told another story than the other.
#[derive(Debug, Serialize)]
pub(crate) struct Metadata {
    issuer: String,
    token_endpoint: String,
    jwks_uri: String,
    /// REQUIRED by RFC 8414 §2, while §3.2 says that "claims with zero elements MUST be omitted". There is no
    /// authorization endpoint, and `none` is the registered response type that returns nothing from one.
    response_types_supported: [&'static str; 1],
    /// RFC 8414 §2: "If omitted, the default value is '["authorization_code", "implicit"]'", so it is always here.
    grant_types_supported: [&'static str; 1],
    token_endpoint_auth_methods_supported: [&'static str; 1],
    /// OpenID Connect Discovery requires these two. No ID token is ever issued.
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: [&'static str; 1],
}

impl Metadata {
    /// The metadata of `issuer`, which has neither a path nor a trailing slash (the configuration sees to it).
    pub(crate) fn new(issuer: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            token_endpoint: format!("{issuer}{TOKEN_PATH}"),
            jwks_uri: format!("{issuer}{JWKS_PATH}"),
            response_types_supported: ["none"],
            grant_types_supported: ["client_credentials"],
            token_endpoint_auth_methods_supported: ["client_secret_basic"],
            subject_types_supported: ["public"],
            id_token_signing_alg_values_supported: ["ES256"],
        }
    }

    /// The document's bytes. A struct of strings has a JSON form; an empty document is what its absence would be.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
