//! What `client_secret_basic` and `client_secret_post` have in common: the comparison.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use identity::secret::Secret;

use super::{broken_record, refused};
use crate::client::{Authentication, ClientRecord, ClientState};
use crate::refusal::Refusal;

/// The most secrets of a client: one, or two while it is being changed.
const MAX_SECRETS: usize = 2;
const SHA256_BYTES: usize = 32;

/// The form in which a client's secret is kept: SHA-256 in lower-case hex. Client secrets are made by machines and
/// long, so a slow hash would protect nothing and cost every token request.
pub fn secret_hash(secret: &Secret<String>) -> String {
    crate::hex(digest(&SHA256, secret.expose().as_bytes()).as_ref())
}

/// A client's name and what it says is its secret.
pub(super) struct Presented {
    pub(super) client_id: String,
    pub(super) secret: Secret<String>,
}

impl Presented {
    /// The record, if the secret is one of its own.
    pub(super) fn prove(&self, record: Option<ClientRecord>) -> Result<ClientRecord, Refusal> {
        let presented = digest(&SHA256, self.secret.expose().as_bytes());
        let usable = record.as_ref().filter(|record| {
            record.state == ClientState::Active && record.authentication == Authentication::ClientSecret
        });
        // Whoever has no secret costs a comparison too, so that the time does not tell which clients exist.
        let hashes = match usable {
            Some(record) => hashes(record)?,
            None => vec![[0; SHA256_BYTES]],
        };
        let matched = matches_any(presented.as_ref(), &hashes);
        match record {
            None => Err(refused(None, "")),
            Some(record) if record.state != ClientState::Active => Err(refused(Some(&record), "is disabled")),
            Some(record) if record.authentication != Authentication::ClientSecret => {
                Err(refused(Some(&record), "has another method"))
            }
            Some(record) if !matched => Err(refused(Some(&record), "sent a wrong secret")),
            Some(record) => Ok(record),
        }
    }
}

/// The record's hashes as bytes.
fn hashes(record: &ClientRecord) -> Result<Vec<[u8; SHA256_BYTES]>, Refusal> {
    let malformed = |why: &str| broken_record(&record.client_id, why);
    if record.secret_hashes.is_empty() || record.secret_hashes.len() > MAX_SECRETS {
        return Err(malformed("expected one or two secret hashes"));
    }
    record
        .secret_hashes
        .iter()
        .map(|hash| crate::unhex(hash).ok_or_else(|| malformed("a secret hash is not 64 hexadecimal digits")))
        .collect()
}

/// Compares with every hash, in constant time each.
fn matches_any(presented: &[u8], hashes: &[[u8; SHA256_BYTES]]) -> bool {
    hashes.iter().fold(false, |matched, hash| verify_slices_are_equal(presented, hash).is_ok() | matched)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hash_is_compared() {
        let (a, b) = ([1; 32], [2; 32]);
        assert!(matches_any(&a, &[a, b]));
        assert!(matches_any(&b, &[a, b]));
        assert!(!matches_any(&[3; 32], &[a, b]));
        assert!(!matches_any(&a[..31], &[a, b]));
        assert!(!matches_any(&a, &[]));
    }
}
