//! What tells one key set from another.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};

use super::KeyOrigin;
use crate::compiled::Mode;

/// SHA-256 of all that a key set is made from: its document, where it came from and the mode that it was read in.
///
/// It follows the content: a set that is fetched again unchanged keeps it, and one that differs in a byte has another.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(super) fn of(document: &str, origin: KeyOrigin, mode: Mode) -> Self {
        let origin = match origin {
            KeyOrigin::Inline => 0,
            KeyOrigin::Fetched => 1,
        };
        let mode = match mode {
            Mode::Strict => 0,
            Mode::Istio => 1,
        };
        let mut hash = Context::new(&SHA256);
        hash.update(&[origin, mode]);
        hash.update(document.as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.finish().as_ref());
        Self(bytes)
    }

    /// The hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A weak shared secret could be guessed by the hash of its document.
        f.write_str("Fingerprint(..)")
    }
}
