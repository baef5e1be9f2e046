//! Where the keys of JWT rules come from, each source once.
//!
//! Thousands of rules name a few issuers. A key set is read once and found again by its text, and so is a source.

use std::collections::{BTreeSet, HashMap};

use istio::Meta;

use super::Compiler;
use crate::api_key::fingerprint;
use crate::compiled::{KeySource, Mode};
use crate::jwk::{Jwks, JwksError, KeyOrigin};

/// Where OpenID Connect Discovery puts the document that names `jwks_uri`.
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// How long fetching a key set may take: Istio's value.
const TIMEOUT_MILLISECONDS: u64 = 5_000;

/// The key sources that were met.
#[derive(Default)]
pub(super) struct KeySources<'a> {
    sources: Vec<KeySource>,
    numbers: HashMap<Identity, usize>,
    /// The document of each `jwksUri`.
    by_uri: HashMap<&'a str, &'a str>,
    /// The documents that were read: inline and fetched ones are judged apart.
    documents: HashMap<(&'a str, bool), Document>,
}

/// What two equal sources have in common: issuer, `jwksUri`, discovery document, fingerprint of the key set,
/// time-out.
type Identity = (String, Option<String>, Option<String>, Option<String>, u64);

/// A key set that was read.
#[derive(Clone)]
struct Document {
    fingerprint: String,
    fault: Option<Fault>,
}

/// Why no key of a set can be used.
#[derive(Clone)]
struct Fault {
    /// Follows the words "key set of ISSUER".
    message: String,
    /// Whether Istio loads the policy all the same.
    is_loaded: bool,
}

impl<'a> KeySources<'a> {
    pub(super) fn finish(self) -> Vec<KeySource> {
        self.sources
    }

    fn document(&mut self, text: &'a str, origin: KeyOrigin, mode: Mode) -> &Document {
        self.documents
            .entry((text, origin == KeyOrigin::Inline))
            .or_insert_with(|| Document { fingerprint: fingerprint(text), fault: Fault::of(text, origin, mode) })
    }

    /// Whether no other key set was given for this `jwksUri`.
    fn is_the_only_set(&mut self, uri: &'a str, document: &'a str) -> bool {
        *self.by_uri.entry(uri).or_insert(document) == document
    }

    fn number(&mut self, source: KeySource) -> u32 {
        let KeySource { issuer, jwks_uri, discovery, fingerprint, timeout_milliseconds, document: _ } = &source;
        let identity =
            (issuer.clone(), jwks_uri.clone(), discovery.clone(), fingerprint.clone(), *timeout_milliseconds);
        let number = *self.numbers.entry(identity).or_insert_with(|| {
            self.sources.push(source);
            self.sources.len() - 1
        });
        u32::try_from(number).unwrap_or(u32::MAX)
    }
}

impl Fault {
    fn of(text: &str, origin: KeyOrigin, mode: Mode) -> Option<Self> {
        match Jwks::parse_as(text, origin, mode) {
            Ok(jwks) if jwks.is_empty() => {
                let why: BTreeSet<&str> = jwks.skipped().iter().map(|key| key.why).collect();
                let why: Vec<&str> = why.into_iter().collect();
                let message = match why.as_slice() {
                    [] => " has no key: its list `keys` is empty".to_owned(),
                    why => format!(" has no usable key: {}", why.join(", ")),
                };
                Some(Self { message, is_loaded: true })
            }
            Ok(_) => None,
            // Istio's validation refuses inline text that is no key set at all ("jwks parse error").
            Err(error @ (JwksError::Json(_) | JwksError::Shape)) => {
                Some(Self { message: format!(": {error}"), is_loaded: origin == KeyOrigin::Fetched })
            }
            Err(error) => Some(Self { message: format!(": {error}"), is_loaded: true }),
        }
    }
}

/// Whether an issuer's discovery document can be asked for: "URL using the https scheme that contains scheme, host,
/// and optionally, port number and path components and no query or fragment components" (OpenID Connect Discovery
/// 1.0, section 1.2). Plain http is for this very host, in development, as for every URL that is fetched.
fn is_discoverable(issuer: &str) -> bool {
    let (loopback, rest) = match (issuer.strip_prefix("https://"), issuer.strip_prefix("http://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => return false,
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    !host.is_empty()
        && !issuer.bytes().any(|byte| matches!(byte, b'?' | b'#' | b'@' | b'\\') || byte <= b' ')
        && (!loopback || matches!(host, "127.0.0.1" | "[::1]" | "localhost"))
}

impl<'a> Compiler<'a> {
    /// The number of the source that `rule` takes its keys from.
    pub(super) fn key_source(&mut self, meta: &Meta, rule: &'a istio::JwtRule) -> u32 {
        let issuer = &rule.issuer;
        let discovery = format!("{}{DISCOVERY}", issuer.strip_suffix('/').unwrap_or(issuer));
        // Keys that were fetched go by their URL, or by the issuer.
        let jwks = &self.options.jwks;
        let by_issuer = || jwks.get(issuer).filter(|_| !issuer.is_empty());
        let (jwks_uri, discovery, mut document, origin) = match (&rule.jwks, &rule.jwks_uri) {
            (Some(_), Some(_)) => {
                self.error(meta, format!("issuer {issuer} has both jwks and jwksUri"));
                return 0;
            }
            (Some(inline), None) => (None, None, Some(inline), KeyOrigin::Inline),
            (None, Some(uri)) => (Some(uri), None, jwks.get(uri).or_else(by_issuer), KeyOrigin::Fetched),
            (None, None) => {
                let given = jwks.get(&discovery).or_else(by_issuer);
                if issuer.is_empty() {
                    self.error(meta, "a rule without an issuer needs jwksUri");
                } else if given.is_none() && !is_discoverable(issuer) {
                    let message = format!(
                        "issuer {issuer:?} has neither jwks nor jwksUri, and is no https URL that its keys could be \
                         discovered from"
                    );
                    match self.options.mode {
                        Mode::Strict => self.error(meta, format!("{message}; name its jwksUri")),
                        Mode::Istio => self.warn(meta, format!("{message}; its tokens are refused")),
                    }
                }
                (None, Some(discovery), given, KeyOrigin::Fetched)
            }
        };
        let mut fingerprint = None;
        if let Some(text) = document {
            let read = self.key_sources.document(text, origin, self.options.mode).clone();
            match read.fault.map(|Fault { message, is_loaded }| (format!("key set of {issuer}{message}"), is_loaded)) {
                // Istio puts a key that nobody holds in the place of a set that cannot be had: tokens are 401.
                Some((message, true)) if self.options.mode == Mode::Istio => {
                    self.warn(meta, format!("{message}; its tokens are refused"));
                    document = None;
                }
                Some((message, _)) => self.error(meta, message),
                None => {}
            }
            fingerprint = document.map(|_| read.fingerprint);
        }
        // Fetched keys go by their URL alone.
        if let (Some(uri), Some(document)) = (jwks_uri, document)
            && !self.key_sources.is_the_only_set(uri, document)
        {
            self.error(meta, format!("two different key sets were given for {uri}"));
        }
        self.key_sources.number(KeySource {
            issuer: issuer.clone(),
            jwks_uri: jwks_uri.cloned(),
            document: document.cloned(),
            fingerprint,
            discovery,
            timeout_milliseconds: rule
                .timeout
                .map_or(TIMEOUT_MILLISECONDS, |timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::is_discoverable;

    #[test]
    fn keys_are_discovered_from_https_urls_and_from_this_host() {
        for issuer in [
            "https://issuer.example",
            "https://issuer.example/",
            "https://issuer.example:8443/tenant/v2.0",
            "https://[2001:db8::1]:8443",
            "http://127.0.0.1:8080",
            "http://localhost/realms/dev",
            "http://[::1]:80",
        ] {
            assert!(is_discoverable(issuer), "{issuer}");
        }
        for issuer in [
            "",
            "iss",
            "testing@secure.istio.io",
            "https://",
            "https:///path",
            "https://:443",
            "https://issuer.example?tenant=a",
            "https://issuer.example#a",
            "https://user@issuer.example",
            "https://issuer.example /a",
            "http://issuer.example",
            "http://localhost.example",
            "http://127.0.0.1.example",
            "http://127.0.0.1@issuer.example",
            "ftp://issuer.example",
        ] {
            assert!(!is_discoverable(issuer), "{issuer}");
        }
    }
}
