//! The key sets that are at hand for one decision.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Jwks, JwksError, KeyOrigin};
use crate::policies::{KeySourceInfo, Policies};

/// The key sets that are at hand for one decision: a snapshot, cheap to clone.
///
/// Inline sets belong to the rule that they stand in and cannot be replaced. Fetched ones go by the URL
/// that they come from: two rules that name one issuer and two URLs do not share keys.
#[derive(Clone, Debug, Default)]
pub struct KeySets {
    /// By the fingerprint of their document: policies that are replaced cannot meet the keys of a rule
    /// that is not theirs.
    inline: BTreeMap<String, Arc<Jwks>>,
    /// By URL.
    fetched: BTreeMap<String, Arc<Jwks>>,
    generation: u64,
}

impl KeySets {
    /// The key sets that the policies bring along: inline ones, and those fetched when the bundle was
    /// made.
    ///
    /// # Errors
    /// When one of them is not acceptable; `compile` lets none of those through.
    pub fn embedded(policies: &Policies) -> Result<Self, JwksError> {
        let mut sets = Self::default();
        for source in policies.key_sources() {
            let (Some(document), Some(fingerprint)) = (source.document, source.fingerprint) else {
                continue;
            };
            match source.jwks_uri.or(source.discovery) {
                None => {
                    let jwks = Jwks::parse_as(document, KeyOrigin::Inline, policies.mode())?;
                    sets.inline.insert(fingerprint.to_owned(), Arc::new(jwks));
                }
                Some(uri) => {
                    let jwks = Jwks::parse_as(document, KeyOrigin::Fetched, policies.mode())?;
                    sets.fetched.insert(uri.to_owned(), Arc::new(jwks));
                }
            }
        }
        Ok(sets)
    }

    /// Puts in what was fetched from `jwks_uri`, in place of what was there, and starts a new
    /// generation.
    pub fn insert(&mut self, jwks_uri: &str, jwks: Arc<Jwks>) {
        self.fetched.insert(jwks_uri.to_owned(), jwks);
        self.generation = self.generation.wrapping_add(1);
    }

    /// Takes out what was fetched from `jwks_uri`: tokens that need it are refused.
    pub fn remove(&mut self, jwks_uri: &str) {
        self.fetched.remove(jwks_uri);
        self.generation = self.generation.wrapping_add(1);
    }

    /// The set fetched from `jwks_uri`.
    pub fn fetched(&self, jwks_uri: &str) -> Option<&Arc<Jwks>> {
        self.fetched.get(jwks_uri)
    }

    /// Changes with every [`insert`](Self::insert) and [`remove`](Self::remove): part of the key of a cache of verified tokens.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The set of one key source; `None` when it could not be had.
    pub fn of_source(&self, source: &KeySourceInfo<'_>) -> Option<&Jwks> {
        match source.jwks_uri.or(source.discovery) {
            None => self.inline.get(source.fingerprint?).map(Arc::as_ref),
            Some(uri) => self.fetched.get(uri).map(Arc::as_ref),
        }
    }
}
