//! Credentials that their issuer has taken back before they expire.

mod id;
pub mod lineage;
mod signed;

use std::collections::BTreeMap;

pub use id::RevokedId;
pub(crate) use signed::is_list_type;
pub use signed::{
    LIST_TYPE, MAX_CLIENTS_BEFORE, MAX_IDS, MAX_LIST_BYTES, RevocationListError, UnverifiedRevocationList,
    encode_payload,
};

use crate::api_key::ApiKeyRecord;
use crate::claims::Claims;
use crate::policies::{KeySourceInfo, Policies};
use id::IdSet;

/// Why nobody can say which keys a list is to be verified with.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeySourceError {
    /// No rule names the issuer.
    #[error("no RequestAuthentication names the issuer {0}, so that its list cannot be verified")]
    None(String),
    /// Its rules take their keys from several places.
    #[error(
        "rules of RequestAuthentications take the keys of {issuer} from {one} and from {other}: whoever holds either could \
         sign its list; let every rule of this issuer have the same jwksUri or jwks"
    )]
    Several {
        /// The issuer.
        issuer: String,
        /// Where one rule finds its keys.
        one: String,
        /// Where another one does.
        other: String,
    },
}

/// Where the keys come from that a list of `issuer` is verified with. All its rules must agree: a rule of any namespace can
/// name any issuer with keys of its own, which are good for the tokens of that namespace's workloads, and must not be good
/// for a list that all workloads heed.
///
/// # Errors
/// No rule names the issuer, or they do not agree.
pub fn key_source<'p>(policies: &'p Policies, issuer: &str) -> Result<KeySourceInfo<'p>, KeySourceError> {
    // A rule without an issuer accepts any; it says nothing about one.
    let mut sources = policies.key_sources().filter(|source| source.issuer == issuer && !issuer.is_empty());
    let first = sources.next().ok_or_else(|| KeySourceError::None(issuer.to_owned()))?;
    let place = |source: &KeySourceInfo<'p>| match source.jwks_uri.or(source.discovery) {
        Some(uri) => (Some(uri), source.discovery.is_some(), None),
        None => (None, false, source.fingerprint),
    };
    match sources.find(|other| place(other) != place(&first)) {
        None => Ok(first),
        Some(other) => {
            let shown = |source: KeySourceInfo<'_>| match source.jwks_uri.or(source.discovery) {
                Some(uri) => uri.to_owned(),
                None => "inline jwks".to_owned(),
            };
            Err(KeySourceError::Several { issuer: issuer.to_owned(), one: shown(first), other: shown(other) })
        }
    }
}

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
///
/// Ids are kept as the first 8 bytes of a SHA-256. An id that is on the list is always found. One that is not is taken
/// for one that is with a probability of n / 2^64, which is 5.4e-14 for a full list; such a mistake can only deny.
#[derive(Clone, Eq, PartialEq)]
pub struct RevocationList {
    /// Whose credentials are meant; absent in a plain list, which means everybody's.
    issuer: Option<String>,
    issued_at: u64,
    expires_at: u64,
    ids: IdSet,
    clients_before: BTreeMap<String, u64>,
}

impl RevocationList {
    /// A plain list, which nobody signed and which does not expire: ids of tokens (`jti`) and API keys; `client:ID` is
    /// a client.
    pub fn of_ids(ids: impl IntoIterator<Item = String>) -> Self {
        let hashed = ids.into_iter().flat_map(|id| {
            let client = id.strip_prefix("client:").map(RevokedId::client);
            [Some(RevokedId::token(&id)), Some(RevokedId::key(&id)), client]
        });
        Self {
            issuer: None,
            issued_at: 0,
            expires_at: u64::MAX,
            ids: IdSet::of(hashed.flatten()),
            clients_before: BTreeMap::new(),
        }
    }

    /// Whether the token with these claims is revoked: by its `jti` or that of one that it comes from, by its API key,
    /// by one of its clients, or as one that such a client got before a moment. A token without `iat` counts as issued
    /// before it. See [`lineage`].
    ///
    /// A signed list speaks of its own issuer's tokens: the same `jti` or client at another issuer is another one.
    pub fn has_token(&self, claims: &Claims) -> bool {
        if let (Some(own), Some(other)) = (&self.issuer, claims.issuer())
            && own != other
        {
            return false;
        }
        let by_id = lineage::tokens(claims).any(|id| self.ids.has(RevokedId::token(id)));
        let by_key = claims.text(lineage::API_KEY).is_some_and(|key| self.ids.has(RevokedId::key(key)));
        let by_client = lineage::clients(claims).any(|client| {
            let cut = self.clients_before.get(client);
            self.ids.has(RevokedId::client(client))
                || cut.is_some_and(|&cut| claims.issued_at().is_none_or(|issued_at| issued_at < cut))
        });
        by_id || by_key || by_client
    }

    /// Whether the API key with this record is revoked: by its id or by its client. `clients_before` is about tokens.
    pub fn has_key(&self, record: &ApiKeyRecord) -> bool {
        self.ids.has(RevokedId::key(&record.id)) || self.ids.has(RevokedId::client(&record.client_id))
    }

    /// How many ids are on the list.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.ids.len() == 0 && self.clients_before.is_empty()
    }

    /// Who signed the list; `None` for a plain one.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// When it was signed, in seconds since 1970.
    pub fn issued_at(&self) -> u64 {
        self.issued_at
    }

    /// From when on it must not be used, in seconds since 1970.
    pub fn expires_at(&self) -> u64 {
        self.expires_at
    }
}

/// The ids are many, and nobody's to read.
impl std::fmt::Debug for RevocationList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RevocationList")
            .field("issuer", &self.issuer)
            .field("issued_at", &self.issued_at)
            .field("expires_at", &self.expires_at)
            .field("ids", &self.ids.len())
            .field("clients_before", &self.clients_before.len())
            .finish()
    }
}
