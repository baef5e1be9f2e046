//! The key sets that are at hand for one decision.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest;

use super::{Jwks, JwksError, KeyOrigin};
use crate::policies::{KeySourceInfo, Policies};

/// The key sets that are at hand for one decision: a snapshot, cheap to clone.
///
/// Inline sets belong to the rule that they stand in and cannot be replaced. Fetched ones go by the URL
/// that they come from: two rules that name one issuer and two URLs do not share keys.
#[derive(Clone, Debug, Default)]
pub struct KeySets {
    /// By the fingerprint of their document: policies that are replaced cannot meet the keys of a rule
    /// that is not theirs. Shared between clones until one of them is changed, as the next.
    inline: Arc<BTreeMap<String, Arc<Jwks>>>,
    /// By URL.
    fetched: Arc<BTreeMap<String, Arc<Jwks>>>,
    generation: u64,
}

impl KeySets {
    /// The key sets that the policies bring along: inline ones, and those fetched when the bundle was
    /// made.
    ///
    /// # Errors
    /// When one of them is not acceptable; `compile` lets none of those through.
    pub fn embedded(policies: &Policies) -> Result<Self, JwksError> {
        let (mut inline, mut fetched) = (BTreeMap::new(), BTreeMap::new());
        for source in policies.key_sources() {
            let (Some(document), Some(fingerprint)) = (source.document, source.fingerprint) else {
                continue;
            };
            match source.jwks_uri.or(source.discovery) {
                None => {
                    let jwks = Jwks::parse_as(document, KeyOrigin::Inline, policies.mode())?;
                    inline.insert(fingerprint.to_owned(), Arc::new(jwks));
                }
                Some(uri) => {
                    let jwks = Jwks::parse_as(document, KeyOrigin::Fetched, policies.mode())?;
                    fetched.insert(uri.to_owned(), Arc::new(jwks));
                }
            }
        }
        let mut sets = Self { inline: Arc::new(inline), fetched: Arc::new(fetched), generation: 0 };
        sets.generation = sets.digest();
        Ok(sets)
    }

    /// Puts in what was fetched for `uri`, in place of what was there.
    pub fn insert(&mut self, uri: &str, jwks: Arc<Jwks>) {
        self.replace([(uri, Some(jwks))]);
    }

    /// Takes out what was fetched for `uri`: tokens that need it are refused.
    pub fn remove(&mut self, uri: &str) {
        self.replace([(uri, None)]);
    }

    /// Puts in and takes out several at a time.
    pub fn replace<'a>(&mut self, changes: impl IntoIterator<Item = (&'a str, Option<Arc<Jwks>>)>) {
        let mut changes = changes.into_iter().peekable();
        if changes.peek().is_none() {
            return;
        }
        let fetched = Arc::make_mut(&mut self.fetched);
        for (uri, jwks) in changes {
            match jwks {
                Some(jwks) => drop(fetched.insert(uri.to_owned(), jwks)),
                None => drop(fetched.remove(uri)),
            }
        }
        self.generation = self.digest();
    }

    /// The set fetched for `uri`, which is a `jwksUri`, or the discovery document of an issuer whose rule names none.
    pub fn fetched(&self, uri: &str) -> Option<&Arc<Jwks>> {
        self.fetched.get(uri)
    }

    /// Says which contents these are: differs between any two values, clones or not, whose sets differ, and is equal
    /// when they are the same. Part of the key of a cache of verified tokens.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The first 64 bits of a hash over the names and fingerprints of all sets, in the order of their names.
    fn digest(&self) -> u64 {
        let mut context = digest::Context::new(&digest::SHA256);
        for sets in [&self.inline, &self.fetched] {
            context.update(&sets.len().to_le_bytes());
            for (name, jwks) in sets.iter() {
                context.update(&name.len().to_le_bytes());
                context.update(name.as_bytes());
                context.update(jwks.fingerprint().as_bytes());
            }
        }
        let hash = context.finish();
        hash.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// The set of one key source; `None` when it could not be had.
    pub fn of_source(&self, source: &KeySourceInfo<'_>) -> Option<&Jwks> {
        match source.jwks_uri.or(source.discovery) {
            None => self.inline.get(source.fingerprint?).map(Arc::as_ref),
            Some(uri) => self.fetched.get(uri).map(Arc::as_ref),
        }
    }
}
