//! Access tokens of this issuer, read back.

use authz::Claims;

use crate::Inner;
use crate::refusal::Refusal;

/// A token of this issuer, proven by its signature. Whether it is for the one who shows it is the caller's to check.
#[derive(Clone, Debug)]
pub(crate) struct OwnToken {
    pub(crate) claims: Claims,
    pub(crate) jti: String,
    pub(crate) client_id: String,
    pub(crate) expires_at: u64,
}

/// Verifies an access token of this issuer: type `at+jwt`, signature, `iss`, `exp`, `nbf`. Not that it is unrevoked.
/// `None` for everything that is no live token of ours.
pub(crate) async fn read(_issuer: &Inner, _token: &str) -> Result<Option<OwnToken>, Refusal> {
    Err(Refusal::internal("not built yet"))
}
