//! Proof of possession at the token endpoint (RFC 9449).

use crate::Inner;
use crate::event::Request;
use crate::refusal::Refusal;

/// The RFC 7638 thumbprint of the key that a valid proof in the header `DPoP` is signed with; `None` without the header.
pub(crate) async fn thumbprint(_issuer: &Inner, _request: &Request) -> Result<Option<String>, Refusal> {
    Err(Refusal::internal("not built yet"))
}
