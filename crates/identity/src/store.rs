//! Where our own identity is published, after our own verifier accepted it.

use std::sync::{Arc, PoisonError, RwLock};

use crate::bundle::TrustBundle;
use crate::error::PublishError;
use crate::svid::Svid;
use crate::verify::{SpiffeClientVerifier, SpiffeServerVerifier};

/// An SVID and the roots to check peers with, published together.
#[derive(Clone, Debug)]
pub struct Credentials {
    svid: Svid,
    bundle: TrustBundle,
    generation: u64,
}

impl Credentials {
    /// Our SVID.
    pub fn svid(&self) -> &Svid {
        &self.svid
    }

    /// The roots that peers are checked against.
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// 1 for the first credentials of a store, one more for each that follow. Connections and TLS
    /// configurations belong to one generation.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// The writing end. There is one; readers hold [`Receiver`]s.
#[derive(Debug, Default)]
pub struct Store {
    current: Arc<RwLock<Option<Arc<Credentials>>>>,
}

impl Store {
    /// A store without credentials: readers get [`Unavailable::NotYet`].
    pub fn new() -> Store {
        Store::default()
    }

    /// A reading end.
    pub fn receiver(&self) -> Receiver {
        Receiver { current: Arc::clone(&self.current) }
    }

    /// Publishes new credentials if our own verifiers would accept them from a peer, as a server and as a
    /// client, at `now` (Unix seconds). Otherwise what was there before stays: a broken renewal must not
    /// take a working identity away.
    ///
    /// # Errors
    /// Says which rule the new SVID breaks.
    pub fn publish(&self, svid: Svid, bundle: TrustBundle, now: u64) -> Result<Arc<Credentials>, PublishError> {
        // `Svid` has at least the leaf, or it could not have been made.
        if let [leaf, intermediates @ ..] = svid.chain() {
            SpiffeServerVerifier::new(bundle.clone(), vec![svid.id().clone()]).check(leaf, intermediates, now)?;
            SpiffeClientVerifier::new(bundle.clone()).check(leaf, intermediates, now)?;
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let generation = current.as_ref().map_or(1, |held| held.generation + 1);
        let credentials = Arc::new(Credentials { svid, bundle, generation });
        *current = Some(Arc::clone(&credentials));
        Ok(credentials)
    }
}

/// The reading end.
#[derive(Clone, Debug)]
pub struct Receiver {
    current: Arc<RwLock<Option<Arc<Credentials>>>>,
}

impl Receiver {
    /// The credentials to use at `now` (Unix seconds).
    ///
    /// # Errors
    /// When there are none yet, or the SVID is past its last second: an expired identity is never used,
    /// whatever the state of the issuer.
    pub fn current(&self, now: u64) -> Result<Arc<Credentials>, Unavailable> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        match current.as_ref() {
            None => Err(Unavailable::NotYet),
            Some(held) if now > held.svid.not_after() => Err(Unavailable::Expired { not_after: held.svid.not_after() }),
            Some(held) => Ok(Arc::clone(held)),
        }
    }
}

/// Why there are no credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// None has been published.
    #[error("found no SVID yet, expected one from the issuer")]
    NotYet,
    /// The last one is too old.
    #[error("found an SVID that expired at {not_after} (Unix seconds), expected a newer one from the issuer")]
    Expired {
        /// Its last second, Unix time.
        not_after: u64,
    },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::error::PeerError;
    use crate::testing::{Authority, LIFE, NOW, REVIEWS};

    #[test]
    fn credentials_are_there_until_their_last_second() {
        let authority = Authority::new();
        let store = Store::new();
        let receiver = store.receiver();
        assert_eq!(receiver.current(NOW).unwrap_err(), Unavailable::NotYet);

        let first = store.publish(authority.svid(REVIEWS), authority.bundle(), NOW).unwrap();
        assert_eq!(first.generation(), 1);
        assert!(receiver.current(NOW + LIFE).is_ok());
        assert_eq!(receiver.current(NOW + LIFE + 1).unwrap_err(), Unavailable::Expired { not_after: NOW + LIFE });
        let second = store.publish(authority.svid(REVIEWS), authority.bundle(), NOW).unwrap();
        assert_eq!(second.generation(), 2);
        assert_eq!(receiver.current(NOW).unwrap().generation(), 2);
    }

    #[test]
    fn what_a_peer_would_refuse_is_not_published_and_the_old_one_stays() {
        let authority = Authority::new();
        let store = Store::new();
        let svid = authority.svid(REVIEWS);
        let serial = svid.serial_hex().to_owned();
        store.publish(svid, authority.bundle(), NOW).unwrap();

        let stranger = Authority::new();
        let foreign = "spiffe://other.example/ns/bookinfo/sa/bookinfo-reviews";
        for (name, svid, now) in [
            ("another root", stranger.svid(REVIEWS), NOW),
            ("expired", authority.svid(REVIEWS), NOW + LIFE + 1),
            ("not valid yet", authority.svid(REVIEWS), NOW - 61),
            ("another trust domain", authority.svid(foreign), NOW),
        ] {
            let PublishError::Refused(reason) = store.publish(svid, authority.bundle(), now).expect_err(name);
            assert!(matches!(reason, PeerError::Chain(_) | PeerError::TrustDomain { .. }), "{name}: {reason}");
        }
        let held = store.receiver().current(NOW).unwrap();
        assert_eq!(held.svid().serial_hex(), serial);
        assert_eq!(held.generation(), 1);
    }
}
