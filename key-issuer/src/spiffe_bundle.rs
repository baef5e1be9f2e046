//! `GET /spiffe-bundle.json`: the trust domain's roots and the keys of its JWT-SVIDs, in SPIFFE's bundle format.

use crate::Inner;
use crate::event::{Request, Response};
use crate::refusal::Refusal;

/// Answers a request for the bundle.
pub(crate) async fn answer(_issuer: &Inner, _request: &Request) -> Result<Response, Refusal> {
    Err(Refusal::internal("not built yet"))
}
