//! Ids as a list keeps them: hashed, cut, sorted, one after the other.

use aws_lc_rs::digest;

/// Bytes of an id in a list.
pub(super) const ID_BYTES: usize = 8;

/// The id of a revoked credential: the first 8 bytes of the SHA-256 of its kind, a colon and the id itself.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct RevokedId([u8; ID_BYTES]);

impl RevokedId {
    /// A token, by its `jti`.
    pub fn token(jti: &str) -> Self {
        Self::of("jti:", jti)
    }

    /// A client with all its tokens and API keys.
    pub fn client(client_id: &str) -> Self {
        Self::of("client:", client_id)
    }

    /// An API key, by its id.
    pub fn key(id: &str) -> Self {
        Self::of("key:", id)
    }

    fn of(kind: &str, id: &str) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(kind.as_bytes());
        context.update(id.as_bytes());
        let hash = context.finish();
        // A SHA-256 has 32 bytes, so that there is always a first chunk.
        Self(hash.as_ref().first_chunk().copied().unwrap_or_default())
    }
}

/// A sorted set of ids in one allocation.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct IdSet(Vec<u8>);

impl IdSet {
    /// Sorts what it is given; an id may come twice.
    pub(super) fn of(ids: impl IntoIterator<Item = RevokedId>) -> Self {
        let mut ids: Vec<RevokedId> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        Self(ids.iter().flat_map(|id| id.0).collect())
    }

    /// Takes bytes as they are; `None` when they are not whole ids in ascending order, each once.
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let (ids, rest) = bytes.as_chunks::<ID_BYTES>();
        let fits = rest.is_empty() && ids.is_sorted_by(|a, b| a < b);
        fits.then_some(Self(bytes))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len() / ID_BYTES
    }

    pub(super) fn has(&self, id: RevokedId) -> bool {
        self.0.as_chunks::<ID_BYTES>().0.binary_search(&id.0).is_ok()
    }
}
