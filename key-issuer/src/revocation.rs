//! `POST /oauth2/revoke` (RFC 7009).

use crate::Inner;
use crate::audit::Facts;
use crate::event::{Request, Response};
use crate::iam::Door;
use crate::refusal::Refusal;

/// Revokes a token of the client.
pub(crate) async fn answer(
    _issuer: &Inner,
    _request: &Request,
    _door: &Door,
    _facts: &mut Facts,
) -> Result<Response, Refusal> {
    Err(Refusal::internal("not built yet"))
}
