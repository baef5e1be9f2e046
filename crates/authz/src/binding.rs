//! Tokens that are bound to a client certificate (RFC 8705 section 3).

use aws_lc_rs::constant_time;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::claims::{Claims, Json};

/// Why a bound token is not accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum NotBound {
    /// `cnf` is not an object with `x5t#S256` and nothing else, such as that of a DPoP token (`jkt`).
    #[error("cnf of the token is not x5t#S256 alone, and nothing else can be proven here")]
    Method,
    /// The client showed no certificate, or not to us.
    #[error("token is bound to a client certificate, and none was shown")]
    NoCertificate,
    /// It showed another one.
    #[error("token is bound to another client certificate than the one that was shown")]
    OtherCertificate,
}

/// Checks that a token with the claim `cnf` was shown together with the certificate that it names; `certificate` is the
/// SHA-256 of its DER. A token without `cnf` is bound to nothing.
///
/// # Errors
/// "The protected resource MUST obtain the client certificate used for mutual TLS and MUST verify that the certificate
/// matches the certificate associated with the access token. If they do not match, the resource access attempt MUST be
/// rejected" (RFC 8705 section 3). A method that we do not know binds too (RFC 7800 section 3.1: `cnf` says how the
/// presenter proves possession), so it is an error as well.
pub(crate) fn check(claims: &Claims, certificate: Option<&[u8; 32]>) -> Result<(), NotBound> {
    let Some(confirmation) = claims.get("cnf") else { return Ok(()) };
    let Json::Object(members) = confirmation else { return Err(NotBound::Method) };
    let [(name, Json::String(thumbprint))] = members.as_slice() else { return Err(NotBound::Method) };
    if name != "x5t#S256" {
        return Err(NotBound::Method);
    }
    let certificate = certificate.ok_or(NotBound::NoCertificate)?;
    // "The base64url-encoded SHA-256 hash of the DER encoding of the X.509 certificate", without padding.
    let shown = URL_SAFE_NO_PAD.encode(certificate);
    constant_time::verify_slices_are_equal(shown.as_bytes(), thumbprint.as_bytes())
        .map_err(|_| NotBound::OtherCertificate)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::claims::TOKEN_LIMITS;

    fn checked(claims: &str, certificate: Option<[u8; 32]>) -> Result<(), NotBound> {
        let claims = Json::parse(claims.as_bytes(), TOKEN_LIMITS).unwrap();
        check(&Claims::from_verified(claims).unwrap(), certificate.as_ref())
    }

    #[test]
    fn a_bound_token_needs_its_certificate() {
        let (own, other) = ([7; 32], [8; 32]);
        let bound = |hash: [u8; 32]| format!(r#"{{"cnf":{{"x5t#S256":"{}"}}}}"#, URL_SAFE_NO_PAD.encode(hash));
        assert_eq!(checked("{}", None), Ok(()));
        assert_eq!(checked("{}", Some(own)), Ok(()));
        assert_eq!(checked(&bound(own), Some(own)), Ok(()));
        assert_eq!(checked(&bound(own), None), Err(NotBound::NoCertificate));
        assert_eq!(checked(&bound(own), Some(other)), Err(NotBound::OtherCertificate));
        let padded = bound(own).replace("\"}}", "=\"}}");
        assert_eq!(checked(&padded, Some(own)), Err(NotBound::OtherCertificate));
    }

    #[test]
    fn what_cannot_be_proven_is_refused() {
        let own = URL_SAFE_NO_PAD.encode([7; 32]);
        for cnf in [
            "null".to_owned(),
            "{}".to_owned(),
            "[]".to_owned(),
            format!("\"{own}\""),
            r#"{"jkt":"x"}"#.to_owned(),
            r#"{"x5t#S256":1}"#.to_owned(),
            format!(r#"{{"x5t#s256":"{own}"}}"#),
            // Two methods: both bind.
            format!(r#"{{"x5t#S256":"{own}","jkt":"x"}}"#),
        ] {
            assert_eq!(checked(&format!(r#"{{"cnf":{cnf}}}"#), Some([7; 32])), Err(NotBound::Method), "{cnf}");
        }
    }
}
