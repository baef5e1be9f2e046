//! The issuer's list of revoked credentials: where it comes from, and how old it may be.
//!
//! A list comes with the bundle, from a URL, or both. Nothing runs in the background: a Lambda is frozen between
//! requests, so a request that carries a credential looks at the age of the list and starts what has to be done.
//!
//! How long a revoked credential may still pass: the age that the list may have ([`RevocationsConfig::max_age`]) plus
//! the time for which API Gateway keeps an authorizer's answer. While the issuer can be reached the list is about
//! [`REFRESH_AFTER`] old.

mod source;

use std::time::Duration;

use authz::revocation::KeySourceError;

use crate::bundle::{Bundle, BundleError, Section, SharedBytes};
use crate::env::{EnvError, Reader};
use crate::https::checked_url;

pub use source::{Held, RevocationSource};

/// A list is asked for again after this time.
pub const REFRESH_AFTER: Duration = Duration::from_secs(60);

/// How old a list may be, from when its issuer signed it, unless the configuration says otherwise.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_secs(15 * 60);

/// The longest time that a request waits for a list.
pub const MAX_WAIT: Duration = Duration::from_millis(300);

/// After a failure, the next attempt waits this long.
pub const RETRY_AFTER: Duration = Duration::from_secs(2);

const URL: &str = "CAUSEWAY_REVOCATIONS_URL";
const ISSUER: &str = "CAUSEWAY_REVOCATIONS_ISSUER";
const MAX_AGE: &str = "CAUSEWAY_REVOCATIONS_MAX_AGE";

/// Where a list is fetched from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RevocationsConfig {
    /// `CAUSEWAY_REVOCATIONS_URL`: where the issuer publishes its list; https, or http to this machine.
    pub url: String,
    /// `CAUSEWAY_REVOCATIONS_ISSUER`: who signs it, as a `RequestAuthentication` of the policies names it.
    pub issuer: String,
    /// `CAUSEWAY_REVOCATIONS_MAX_AGE`, in seconds: how old the list may be, from when it was signed. What is older
    /// clears nobody.
    pub max_age: Duration,
}

impl RevocationsConfig {
    /// Reads the three variables.
    ///
    /// # Errors
    /// One of URL and issuer without the other, the age without them, or a value that is not valid.
    pub fn from_env(env: &Reader<'_>) -> Result<Option<Self>, EnvError> {
        let pair = env.pair(URL, ISSUER)?;
        let (least, most) = (REFRESH_AFTER.as_secs() * 2, 86_400);
        let max_age = env.number(MAX_AGE, DEFAULT_MAX_AGE.as_secs(), least, most)?;
        let Some((url, issuer)) = pair else {
            return match env.optional(MAX_AGE)? {
                None => Ok(None),
                Some(_) => Err(EnvError::HalfGroup { present: MAX_AGE.to_owned(), missing: URL.to_owned() }),
            };
        };
        env.checked(URL, |url| checked_url(url).map_err(|error| error.to_string()))?;
        Ok(Some(Self { url, issuer, max_age: Duration::from_secs(max_age) }))
    }
}

/// Where the lists of a front come from. Without either part, nobody keeps a list.
#[derive(Clone, Default)]
pub struct RevocationsSetup {
    /// Where one is fetched from.
    pub config: Option<RevocationsConfig>,
    /// The one that came with the policies, as its issuer signed it. Without a `config` it is relied on until its
    /// `exp`.
    pub embedded: Option<SharedBytes>,
}

impl RevocationsSetup {
    /// The list of the bundle, and the place that is configured.
    ///
    /// # Errors
    /// The bundle is damaged.
    pub fn new(config: Option<RevocationsConfig>, bundle: &Bundle) -> Result<Self, BundleError> {
        let embedded = bundle.optional_shared_section(Section::Revocations)?;
        Ok(Self { config, embedded })
    }
}

/// The configuration of the list makes no sense. It stops the start.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RevocationsError {
    /// The policies do not say with which keys the list is to be verified.
    #[error("{ISSUER}={issuer:?}: {why}")]
    Keys {
        /// The issuer that is configured.
        issuer: String,
        /// Why not.
        #[source]
        why: KeySourceError,
    },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::env::MapEnv;

    const GOOD: [(&str, &str); 2] = [(URL, "https://issuer.example/revocations"), (ISSUER, "https://issuer.example")];

    #[test]
    fn a_configuration() {
        let read = |env: MapEnv| {
            let reader = Reader::new(&env);
            let config = RevocationsConfig::from_env(&reader)?;
            reader.finish().map(|()| config)
        };
        assert_eq!(read(MapEnv::default()), Ok(None));
        let config = read(MapEnv::from(GOOD)).unwrap().unwrap();
        assert_eq!((config.url.as_str(), config.issuer.as_str()), (GOOD[0].1, GOOD[1].1));
        assert_eq!(config.max_age, DEFAULT_MAX_AGE);
        for (text, age) in [("120", 120), ("86400", 86_400)] {
            let config = read(MapEnv::from(GOOD).with(MAX_AGE, text)).unwrap().unwrap();
            assert_eq!(config.max_age, Duration::from_secs(age));
        }
        for (env, expected) in [
            (MapEnv::from([GOOD[0]]), "CAUSEWAY_REVOCATIONS_ISSUER is not set, but CAUSEWAY_REVOCATIONS_URL is"),
            (MapEnv::from([GOOD[1]]), "CAUSEWAY_REVOCATIONS_URL is not set, but CAUSEWAY_REVOCATIONS_ISSUER is"),
            (
                MapEnv::from([(MAX_AGE, "300")]),
                "CAUSEWAY_REVOCATIONS_URL is not set, but CAUSEWAY_REVOCATIONS_MAX_AGE is",
            ),
            (MapEnv::from(GOOD).with(MAX_AGE, "119"), "expected a whole number from 120 to 86400"),
            (MapEnv::from(GOOD).with(MAX_AGE, "86401"), "expected a whole number from 120 to 86400"),
            (MapEnv::from(GOOD).with(MAX_AGE, "15m"), "expected a whole number from 120 to 86400"),
            (MapEnv::from(GOOD).with(URL, "http://issuer.example/"), "is not https"),
            (MapEnv::from(GOOD).with(URL, "issuer.example"), "CAUSEWAY_REVOCATIONS_URL=\"issuer.example\""),
        ] {
            let error = read(env).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
