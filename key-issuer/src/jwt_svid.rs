//! `POST /v1/jwt-svid`: a JWT-SVID for a workload that has proven its IAM role.

use crate::Inner;
use crate::audit::Facts;
use crate::event::{Request, Response};
use crate::iam::Door;
use crate::refusal::Refusal;

/// Answers a request for a JWT-SVID.
pub(crate) async fn answer(
    _issuer: &Inner,
    _request: &Request,
    _door: &Door,
    _facts: &mut Facts,
) -> Result<Response, Refusal> {
    Err(Refusal::internal("not built yet"))
}
