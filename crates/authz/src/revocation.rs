//! Credentials that their issuer has taken back before they expire.

use std::collections::BTreeSet;

/// What is known of revoked credentials.
#[derive(Clone, Copy, Debug, Default)]
pub enum Revocations<'a> {
    /// Nobody keeps a list: only expiry ends a token, and the store an API key.
    #[default]
    NotKept,
    /// The list, young enough to be relied on.
    List(&'a RevocationList),
    /// There is a list, and it cannot be had or is too old: every credential is refused.
    Unavailable,
}

/// A list of revoked credentials.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RevocationList {
    ids: BTreeSet<String>,
}

impl RevocationList {
    /// A list of ids of tokens (`jti`) and API keys.
    pub fn of_ids(ids: impl IntoIterator<Item = String>) -> Self {
        Self { ids: ids.into_iter().collect() }
    }

    /// Whether the token with this `jti` is on the list.
    pub fn has_token(&self, jti: &str) -> bool {
        self.ids.contains(jti)
    }

    /// Whether the API key with this id is on the list.
    pub fn has_key(&self, id: &str) -> bool {
        self.ids.contains(id)
    }
}
