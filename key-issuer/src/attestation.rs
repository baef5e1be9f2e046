//! Proof of an IAM identity without the IAM door: a request to `sts:GetCallerIdentity` that the caller has signed and the
//! issuer sends.

use crate::Inner;
use crate::event::{Request, Response};
use crate::refusal::Refusal;

/// Answers a request for a nonce.
pub(crate) async fn nonce(_issuer: &Inner, _request: &Request) -> Result<Response, Refusal> {
    Err(Refusal::internal("not built yet"))
}
