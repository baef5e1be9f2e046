//! What may be used once: assertions, proofs, nonces.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;

use crate::refusal::Refusal;
use crate::{Inner, hex};

/// How much longer than it may be used a mark is kept, in seconds: the clocks of two environments, and of the table
/// that deletes what has expired, differ.
const CLOCKS_DIFFER_SECONDS: u64 = 60;

/// Marks `id` as used; it may be used until `expires_at`, in seconds since 1970; `false` if it was used before. `kind`
/// keeps the ids of several origins apart. Ids are hashed: they are the callers' text, of any length.
///
/// # Errors
/// When the table does not answer: what cannot be marked must not be accepted.
pub(crate) async fn burn(issuer: &Inner, kind: &str, id: &str, expires_at: u64) -> Result<bool, Refusal> {
    let key = format!("{kind}#{}", hex(digest(&SHA256, id.as_bytes()).as_ref()));
    let used = issuer.used.create(&key, &json!({}), Some(expires_at + CLOCKS_DIFFER_SECONDS)).await;
    used.map_err(|error| Refusal::unavailable(error.to_string()))
}
