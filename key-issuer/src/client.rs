//! OAuth clients: what is registered about them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::algorithm::Algorithm;

/// What the issuer keeps about an OAuth client. It holds no secret: secrets are hashes, keys are public.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientRecord {
    /// The `client_id`.
    pub client_id: String,
    /// How the client proves who it is. There is one way for each client, so that a weaker one cannot be tried.
    #[serde(default)]
    pub authentication: Authentication,
    /// SHA-256 of its secrets, in hex: one, or two while a secret is being changed. For `client_secret` alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_hashes: Vec<String>,
    /// Its public keys, a JWK set: for `private_key_jwt` and `self_signed_tls_client_auth` (in `x5c`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<Value>,
    /// The algorithms of its assertions (`RS256`, `ES256`, …); empty for every asymmetric one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assertion_algorithms: Vec<String>,
    /// What the `aud` of its assertions may be.
    #[serde(default)]
    pub assertion_audience: AssertionAudience,
    /// The name in its certificate: for `tls_client_auth` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateName>,
    /// The scopes that it may have.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// The audiences that it may ask tokens for; the first one is the default.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// The grants that it may use, by their OAuth names.
    #[serde(default)]
    pub grants: Vec<String>,
    /// The algorithm of its tokens; absent, the issuer's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_algorithm: Option<Algorithm>,
    /// How long its tokens live, in seconds, if shorter than the issuer's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_ttl_seconds: Option<u64>,
    /// RFC 9449 §5.2 `dpop_bound_access_tokens`: a request without a DPoP proof is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dpop_bound_access_tokens: bool,
    /// RFC 8705 §3.4 `tls_client_certificate_bound_access_tokens`: a request without a client certificate is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls_client_certificate_bound_access_tokens: bool,
    /// The clients that may act for this one: its tokens name them as `may_act` (RFC 8693 §4.4), and no other client may
    /// exchange them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_act: Vec<String>,
    /// Whether it may introspect tokens that are not for its own audiences (a gateway's client).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub introspects_all: bool,
    /// Whether it may be used.
    pub state: ClientState,
    /// When it was made, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<u64>,
    /// The principal that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
}

impl ClientRecord {
    /// An active client that may do nothing yet.
    pub fn new(client_id: impl Into<String>) -> Self {
        Self {
            client_id: client_id.into(),
            authentication: Authentication::default(),
            secret_hashes: Vec::new(),
            jwks: None,
            assertion_algorithms: Vec::new(),
            assertion_audience: AssertionAudience::default(),
            certificate: None,
            scopes: Vec::new(),
            audiences: Vec::new(),
            grants: Vec::new(),
            token_algorithm: None,
            token_ttl_seconds: None,
            dpop_bound_access_tokens: false,
            tls_client_certificate_bound_access_tokens: false,
            may_act: Vec::new(),
            introspects_all: false,
            state: ClientState::Active,
            created_at: None,
            created_by: None,
        }
    }
}

/// How a client proves who it is (RFC 7591 §2 `token_endpoint_auth_method`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authentication {
    /// `client_secret_basic` or `client_secret_post`.
    #[default]
    ClientSecret,
    /// An assertion that it signs (RFC 7523).
    PrivateKeyJwt,
    /// A certificate of an authority that the mTLS door trusts, by its name (RFC 8705 §2.1).
    TlsClientAuth,
    /// A certificate that is registered itself (RFC 8705 §2.2).
    SelfSignedTlsClientAuth,
    /// The IAM door alone; its role is in the registry.
    Iam,
}

/// RFC 7523 §3 let the token endpoint stand as audience, draft-ietf-oauth-rfc7523bis forbids it: "the audience value
/// MUST be the issuer identifier".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssertionAudience {
    /// The issuer identifier alone.
    #[default]
    IssuerOnly,
    /// That, or the URL of the token endpoint, for clients that send it.
    IssuerOrTokenEndpoint,
}

/// RFC 8705 §2.1.2: the one name that the client's certificate must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateName {
    /// The subject's distinguished name, as RFC 4514 writes it.
    SubjectDn(String),
    /// A DNS name among the alternative names.
    SanDns(String),
    /// A URI among them, for instance a SPIFFE ID.
    SanUri(String),
    /// An IP address among them.
    SanIp(String),
    /// An email address among them.
    SanEmail(String),
}

/// Whether a client may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientState {
    /// It may.
    Active,
    /// It may not.
    Disabled,
}
