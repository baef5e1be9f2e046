//! What a token is bound to (RFC 7800): a DPoP key, a client certificate, or both.

use serde::{Deserialize, Serialize};

use crate::Inner;
use crate::client_auth::Client;
use crate::dpop;
use crate::event::Request;
use crate::refusal::Refusal;

/// The claim `cnf` of a bound token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Confirmation {
    /// RFC 9449 §6.1: the RFC 7638 thumbprint of the key of the DPoP proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) jkt: Option<String>,
    /// RFC 8705 §3.1: base64url of the SHA-256 of the certificate's DER.
    #[serde(rename = "x5t#S256", default, skip_serializing_if = "Option::is_none")]
    pub(crate) x5t_s256: Option<String>,
}

/// What the token of this request has to be bound to; `None` for a bearer token.
pub(crate) async fn confirmation(
    issuer: &Inner,
    request: &Request,
    _client: &Client,
) -> Result<Option<Confirmation>, Refusal> {
    let jkt = dpop::thumbprint(issuer, request).await?;
    Ok(jkt.map(|jkt| Confirmation { jkt: Some(jkt), x5t_s256: None }))
}
