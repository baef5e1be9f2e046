//! What a token is bound to (RFC 7800): a DPoP key, a client certificate, or both.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::Inner;
use crate::client_auth::Client;
use crate::dpop;
use crate::event::Request;
use crate::refusal::Refusal;

/// The claim `cnf` of a bound token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Confirmation {
    /// RFC 9449 §6.1: the RFC 7638 thumbprint of the key of the DPoP proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) jkt: Option<String>,
    /// RFC 8705 §3.1: base64url of the SHA-256 of the certificate's DER.
    #[serde(rename = "x5t#S256", default, skip_serializing_if = "Option::is_none")]
    pub(crate) x5t_s256: Option<String>,
}

impl Confirmation {
    /// RFC 9449 §5: "A token_type of DPoP MUST be included in the access token response to signal to the client that
    /// the access token was bound to its DPoP key". RFC 8705 has no type of its own.
    pub(crate) fn token_type(of: Option<&Self>) -> &'static str {
        if of.is_some_and(|confirmation| confirmation.jkt.is_some()) { "DPoP" } else { "Bearer" }
    }
}

/// What the token of this request has to be bound to; `None` for a bearer token. It uses the proof up, so it is asked
/// once, after everything that can be checked without it.
///
/// A certificate that was shown binds the token whatever the client authenticated with.
///
/// # Errors
/// `invalid_dpop_proof` when the proof is wrong, or missing for a client of which RFC 9449 §5.2 says "the authorization
/// server MUST reject token requests from the client that do not contain the DPoP header"; `invalid_request` when the
/// client's tokens must be bound to a certificate (RFC 8705 §3.4) and none was shown.
pub(crate) async fn confirmation(
    issuer: &Inner,
    request: &Request,
    client: &Client,
) -> Result<Option<Confirmation>, Refusal> {
    let record = &client.record;
    if record.tls_client_certificate_bound_access_tokens && client.certificate.is_none() {
        return Err(Refusal::invalid_request(
            "this client's tokens are bound to its certificate: use the token endpoint of mtls_endpoint_aliases",
        ));
    }
    let jkt = dpop::thumbprint(issuer, request).await?;
    if record.dpop_bound_access_tokens && jkt.is_none() {
        return Err(dpop::refused("this client's tokens are bound to a DPoP key, and there is no proof"));
    }
    let x5t_s256 = client.certificate.map(|hash| URL_SAFE_NO_PAD.encode(hash));
    Ok((jkt.is_some() || x5t_s256.is_some()).then_some(Confirmation { jkt, x5t_s256 }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn the_claim_has_the_names_of_the_standards() {
        let both = Confirmation { jkt: Some("a".to_owned()), x5t_s256: Some("b".to_owned()) };
        assert_eq!(serde_json::to_value(&both).unwrap(), json!({"jkt": "a", "x5t#S256": "b"}));
        assert_eq!(serde_json::from_value::<Confirmation>(json!({"jkt": "a", "x5t#S256": "b"})).unwrap(), both);
        let certificate = Confirmation { jkt: None, ..both.clone() };
        assert_eq!(serde_json::to_value(&certificate).unwrap(), json!({"x5t#S256": "b"}));
        for (confirmation, expected) in [(None, "Bearer"), (Some(&certificate), "Bearer"), (Some(&both), "DPoP")] {
            assert_eq!(Confirmation::token_type(confirmation), expected);
        }
    }
}
