//! What administrators do: clients, API keys, revocations. The same policies as everywhere say who may.

use crate::Inner;
use crate::audit::Facts;
use crate::event::{Request, Response};
use crate::iam::Door;
use crate::refusal::Refusal;
use crate::routes::Admin;

/// Answers a request of an administrator.
pub(crate) async fn answer(
    _issuer: &Inner,
    _request: &Request,
    _door: &Door,
    _admin: Admin,
    _id: Option<&str>,
    _facts: &mut Facts,
) -> Result<Response, Refusal> {
    Err(Refusal::internal("not built yet"))
}
