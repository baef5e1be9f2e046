//! Revoked credentials: what is kept about them, and the signed list that verifiers load.

use authz::Claims;

use crate::Inner;
use crate::event::{Request, Response};
use crate::refusal::Refusal;

/// What is revoked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Revoked<'a> {
    /// The token with this `jti`.
    Token(&'a str),
    /// The API key with this public id.
    Key(&'a str),
    /// Every credential of this client.
    Client(&'a str),
    /// The tokens that this client got before the moment, in seconds since 1970.
    ClientBefore(&'a str, u64),
}

/// Puts a credential on the list until `expires_at` (seconds since 1970), when it is worth nothing anyway. Doing it
/// twice is doing it once; the later `expires_at` stays.
pub(crate) async fn revoke(_issuer: &Inner, _what: Revoked<'_>, _expires_at: u64) -> Result<(), Refusal> {
    Err(Refusal::internal("not built yet"))
}

/// Whether a token of this issuer is revoked, by the table and not by a list that may be old.
pub(crate) async fn is_revoked(_issuer: &Inner, _claims: &Claims) -> Result<bool, Refusal> {
    Err(Refusal::internal("not built yet"))
}

/// Answers a request for the list.
pub(crate) async fn answer(_issuer: &Inner, _request: &Request) -> Result<Response, Refusal> {
    Err(Refusal::internal("not built yet"))
}
