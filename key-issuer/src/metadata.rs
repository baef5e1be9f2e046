//! The authorization server's metadata (RFC 8414, OpenID Connect Discovery): one struct, served at two places.
//!
//! There is no `scopes_supported`: scopes belong to clients, and RFC 8414 §2 leaves it to the server which to advertise.

use serde::Serialize;

use crate::client::Authentication;
use crate::client_auth;
use crate::config::Config;
use crate::dpop;
use crate::offers::Offers;
use crate::routes::{INTROSPECTION_PATH, JWKS_PATH, REVOCATION_PATH, TOKEN_PATH};
use crate::token::GrantType;

/// How long a reader may keep the document.
pub(crate) const MAX_AGE_SECONDS: u64 = 3600;

/// The document. Both places serve the same bytes, so that no reader can be told another story than the other.
///
/// RFC 8414 §3.2: "Claims with zero elements MUST be omitted from the response."
#[derive(Debug, Serialize)]
pub(crate) struct Metadata {
    issuer: String,
    #[serde(flatten)]
    endpoints: Endpoints,
    jwks_uri: String,
    /// REQUIRED by RFC 8414 §2, while §3.2 says that "claims with zero elements MUST be omitted". There is no
    /// authorization endpoint, and `none` is the registered response type that returns nothing from one.
    response_types_supported: [&'static str; 1],
    /// RFC 8414 §2: "If omitted, the default value is '["authorization_code", "implicit"]'", so it is always here.
    grant_types_supported: Vec<&'static str>,
    token_endpoint_auth_methods_supported: Vec<&'static str>,
    /// RFC 8414 §2: "MUST be present if" `private_key_jwt` is among the methods; "The value 'none' MUST NOT be used."
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    token_endpoint_auth_signing_alg_values_supported: &'static [&'static str],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    introspection_endpoint_auth_methods_supported: Vec<&'static str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    introspection_endpoint_auth_signing_alg_values_supported: &'static [&'static str],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    revocation_endpoint_auth_methods_supported: Vec<&'static str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    revocation_endpoint_auth_signing_alg_values_supported: &'static [&'static str],
    /// RFC 9449 §5.1.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    dpop_signing_alg_values_supported: &'static [&'static str],
    /// RFC 8705 §3.3.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tls_client_certificate_bound_access_tokens: bool,
    /// RFC 8705 §5.
    #[serde(skip_serializing_if = "Option::is_none")]
    mtls_endpoint_aliases: Option<Endpoints>,
    /// OpenID Connect Discovery requires these two, and RS256 among the algorithms. No ID token is ever issued.
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: [&'static str; 2],
}

/// The endpoints at which clients authenticate, at one host.
#[derive(Debug, Serialize)]
struct Endpoints {
    token_endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    introspection_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revocation_endpoint: Option<String>,
}

impl Endpoints {
    fn at(host: &str, offers: Offers) -> Self {
        let offered = |path: &str| offers.introspection_and_revocation.then(|| format!("{host}{path}"));
        Self {
            token_endpoint: format!("{host}{TOKEN_PATH}"),
            introspection_endpoint: offered(INTROSPECTION_PATH),
            revocation_endpoint: offered(REVOCATION_PATH),
        }
    }
}

impl Metadata {
    /// The metadata of an issuer, which has neither a path nor a trailing slash (the configuration sees to it).
    pub(crate) fn new(config: &Config, offers: Offers) -> Self {
        let issuer = &config.issuer;
        let methods = || -> Vec<&'static str> {
            let offered = |method: &&str| match *method {
                // An assertion is used once, which has to be kept somewhere.
                "private_key_jwt" => offers.proofs,
                "tls_client_auth" => offers.certificates && config.mtls_client_auth == Authentication::TlsClientAuth,
                "self_signed_tls_client_auth" => {
                    offers.certificates && config.mtls_client_auth == Authentication::SelfSignedTlsClientAuth
                }
                _ => true,
            };
            client_auth::METHODS.into_iter().filter(offered).collect()
        };
        let algorithms: &[&str] = if offers.proofs { &client_auth::ALGORITHMS } else { &[] };
        let (others, other_algorithms) = match offers.introspection_and_revocation {
            true => (methods(), algorithms),
            false => (Vec::new(), &[][..]),
        };
        Self {
            issuer: issuer.clone(),
            endpoints: Endpoints::at(issuer, offers),
            jwks_uri: format!("{issuer}{JWKS_PATH}"),
            response_types_supported: ["none"],
            grant_types_supported: GrantType::ALL
                .into_iter()
                .filter(|grant| grant.is_offered(offers))
                .map(GrantType::name)
                .collect(),
            token_endpoint_auth_methods_supported: methods(),
            token_endpoint_auth_signing_alg_values_supported: algorithms,
            introspection_endpoint_auth_methods_supported: others.clone(),
            introspection_endpoint_auth_signing_alg_values_supported: other_algorithms,
            revocation_endpoint_auth_methods_supported: others,
            revocation_endpoint_auth_signing_alg_values_supported: other_algorithms,
            dpop_signing_alg_values_supported: if offers.proofs { &dpop::ALGORITHMS } else { &[] },
            tls_client_certificate_bound_access_tokens: offers.certificates,
            mtls_endpoint_aliases: config.mtls_issuer.as_ref().map(|host| Endpoints::at(host, offers)),
            subject_types_supported: ["public"],
            id_token_signing_alg_values_supported: ["RS256", "ES256"],
        }
    }

    /// The document's bytes. A struct of strings has a JSON form; an empty document is what its absence would be.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
