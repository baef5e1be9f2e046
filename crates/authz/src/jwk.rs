//! JSON Web Key Sets: which keys are usable, and the one place that checks a signature.

mod fingerprint;
mod key;
mod sets;
mod verifier;

pub use fingerprint::Fingerprint;
pub(crate) use key::decode_like_envoy;
pub use sets::KeySets;

use key::Key;

use crate::claims::{Json, JsonLimits};
use crate::compiled::Mode;

/// The longest key set, in bytes (API Gateway's own limit).
pub const MAX_BYTES: usize = 150_000;

/// Keys in a set, at most.
pub const MAX_KEYS: usize = 100;

const LIMITS: JsonLimits = JsonLimits { depth: 8, members: 5_000 };

/// A signature algorithm of RFC 7518 or RFC 8037 that we verify.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(missing_docs)] // The names are RFC 7518's own.
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    ES512,
    EdDSA,
}

impl Algorithm {
    /// The algorithm with exactly this name; `none` is not one.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "HS256" => Self::HS256,
            "HS384" => Self::HS384,
            "HS512" => Self::HS512,
            "RS256" => Self::RS256,
            "RS384" => Self::RS384,
            "RS512" => Self::RS512,
            "PS256" => Self::PS256,
            "PS384" => Self::PS384,
            "PS512" => Self::PS512,
            "ES256" => Self::ES256,
            "ES384" => Self::ES384,
            "ES512" => Self::ES512,
            "EdDSA" => Self::EdDSA,
            _ => return None,
        })
    }

    /// Its name in RFC 7518 or RFC 8037.
    pub fn name(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::ES512 => "ES512",
            Self::EdDSA => "EdDSA",
        }
    }

    /// The kind of key that the algorithm needs. The curve belongs to it: RFC 7518 §3.4 ties ES256 to
    /// P-256 and so on.
    fn kind(self) -> KeyKind {
        match self {
            Self::HS256 | Self::HS384 | Self::HS512 => KeyKind::Secret,
            Self::RS256 | Self::RS384 | Self::RS512 => KeyKind::Rsa,
            Self::PS256 | Self::PS384 | Self::PS512 => KeyKind::Rsa,
            Self::ES256 => KeyKind::P256,
            Self::ES384 => KeyKind::P384,
            Self::ES512 => KeyKind::P521,
            Self::EdDSA => KeyKind::Ed25519,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum KeyKind {
    Secret,
    Rsa,
    P256,
    P384,
    P521,
    Ed25519,
}

/// Where a key set comes from, which decides what may be in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyOrigin {
    /// Written into the policy itself (`jwks`): may hold symmetric keys.
    Inline,
    /// Published at a URL: a symmetric key there is no secret, and such a set is refused.
    Fetched,
}

/// A key set, ready to verify with.
#[derive(Clone, Debug)]
pub struct Jwks {
    mode: Mode,
    fingerprint: Fingerprint,
    keys: Vec<Key>,
    skipped: Vec<SkippedKey>,
}

/// A key of a set that is not used, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SkippedKey {
    /// Its `kid`, if it has one.
    pub kid: Option<String>,
    /// Why it is not used.
    pub why: &'static str,
}

/// A whole key set that is refused. The set that was held before stays in use.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum JwksError {
    /// More than [`MAX_BYTES`].
    #[error("key set has {0} bytes, expected at most 150000")]
    TooLarge(usize),
    /// More than [`MAX_KEYS`].
    #[error("key set has {0} keys, expected at most 100")]
    TooManyKeys(usize),
    /// Not JSON, or a member twice.
    #[error("key set is not valid JSON: {0}")]
    Json(String),
    /// Not an object with a list `keys` of objects.
    #[error("key set is not an object with a list \"keys\" of objects")]
    Shape,
    /// A private member (`d`, `p`, …) is published: the key is compromised.
    #[error("key set publishes a private key; its issuer must replace that key")]
    PrivateKey,
    /// A symmetric key in a fetched set, or beside asymmetric ones.
    #[error("key set has a symmetric key; only an inline set of symmetric keys alone may")]
    Symmetric,
    /// Two keys with one `kid`: it cannot be said which one is meant.
    #[error("key set has the kid {0:?} twice")]
    DuplicateKid(String),
}

/// Why a signature was not accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SignatureRefusal {
    /// No key for this `kid`, or several could be meant.
    KeyUnknown,
    /// There is a key, but not for this algorithm.
    Algorithm,
    /// The signature is not the key's.
    Signature,
}

impl Jwks {
    /// Reads a key set in the strict mode.
    ///
    /// # Errors
    /// As [`parse_as`](Self::parse_as).
    pub fn parse(json: &str, origin: KeyOrigin) -> Result<Self, JwksError> {
        Self::parse_as(json, origin, Mode::Strict)
    }

    /// Reads a key set. The mode says how a key is chosen later on, too.
    ///
    /// In the `istio` mode a set is as Envoy reads it, key by key: private members, `use` and `key_ops` are not looked
    /// at, two keys may have one `kid`, and symmetric keys may stand beside others (in an inline set; in a fetched one
    /// they are skipped, for they are no secret).
    ///
    /// Keys that cannot verify a signature of ours are [`skipped`](Self::skipped): an unknown `kty`
    /// (RFC 7517 §5 says to ignore it), another `use`, RSA below 2048 bits or with an exponent other
    /// than 3 and 65537, a curve we do not know.
    ///
    /// # Errors
    /// What makes the whole set untrustworthy: see [`JwksError`].
    pub fn parse_as(text: &str, origin: KeyOrigin, mode: Mode) -> Result<Self, JwksError> {
        if text.len() > MAX_BYTES {
            return Err(JwksError::TooLarge(text.len()));
        }
        let fingerprint = Fingerprint::of(text, origin, mode);
        let json = Json::parse(text.as_bytes(), LIMITS).map_err(|error| JwksError::Json(error.to_string()))?;
        let Some(Json::List(list)) = json.get("keys") else { return Err(JwksError::Shape) };
        if list.len() > MAX_KEYS {
            return Err(JwksError::TooManyKeys(list.len()));
        }
        if mode == Mode::Strict {
            check_strictly(list, origin)?;
        }
        let mut keys: Vec<Key> = Vec::new();
        let mut skipped = Vec::new();
        for jwk in list {
            let key = match mode {
                Mode::Strict => Key::from_jwk(jwk),
                Mode::Istio => Key::from_jwk_like_envoy(jwk, origin),
            };
            match key {
                Ok(key) => keys.push(key),
                Err(why) => {
                    let kid = jwk.get("kid").and_then(Json::as_str).map(str::to_owned);
                    skipped.push(SkippedKey { kid, why });
                }
            }
        }
        if mode == Mode::Strict {
            let mut kids: Vec<&str> = keys.iter().filter_map(|key| key.kid.as_deref()).collect();
            kids.sort_unstable();
            if let Some([kid, _]) = kids.windows(2).find(|pair| matches!(pair, [a, b] if a == b)) {
                return Err(JwksError::DuplicateKid((*kid).to_owned()));
            }
        }
        Ok(Self { mode, fingerprint, keys, skipped })
    }

    /// What tells this set from every other: two sets with one fingerprint accept the same signatures.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// How many keys can be used.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key can be used. Such a set is valid: it revokes every token.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys that are not used, and why.
    pub fn skipped(&self) -> &[SkippedKey] {
        &self.skipped
    }

    /// Whether a usable key has this `kid`; a front may refetch the set when none has.
    pub fn has_kid(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.kid.as_deref() == Some(kid))
    }

    /// Checks `signature` over `message`.
    pub(crate) fn verify(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureRefusal> {
        match self.mode {
            Mode::Strict => self.verify_with_one(algorithm, kid, message, signature),
            Mode::Istio => self.verify_with_any(algorithm, kid, message, signature),
        }
    }

    /// With a `kid` the one key is meant that has this name, or, if none has, the only nameless one. Without
    /// a `kid` it is the only key for the algorithm: no key is ever tried after another one failed.
    fn verify_with_one(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureRefusal> {
        let named = |key: &&Key| kid.is_none_or(|kid| key.kid.as_deref() == Some(kid));
        let by_name = self.keys.iter().any(|key| named(&key));
        let mut candidates =
            self.keys.iter().filter(|key| if by_name { named(key) } else { key.kid.is_none() }).peekable();
        if candidates.peek().is_none() {
            return Err(SignatureRefusal::KeyUnknown);
        }
        let mut fitting = candidates.filter(|key| key.accepts(algorithm));
        match (fitting.next(), fitting.next()) {
            (None, _) => Err(SignatureRefusal::Algorithm),
            (Some(key), None) if key.verify(algorithm, message, signature) => Ok(()),
            (Some(_), None) => Err(SignatureRefusal::Signature),
            (Some(_), Some(_)) => Err(SignatureRefusal::KeyUnknown),
        }
    }

    /// Envoy: "skip JWK if both kids present and differ; skip if JWK.alg present and != header alg", and the first
    /// key that verifies will do. Envoy gives up at an Ed25519 key when the signature is not 64 bytes long, which we do
    /// not copy: it refuses good tokens of another key.
    fn verify_with_any(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureRefusal> {
        let mut refusal = SignatureRefusal::KeyUnknown;
        for key in &self.keys {
            if let (Some(own), Some(wanted)) = (key.kid.as_deref(), kid.filter(|kid| !kid.is_empty()))
                && own != wanted
            {
                continue;
            }
            if key.algorithm.is_some_and(|own| own != algorithm) {
                if refusal == SignatureRefusal::KeyUnknown {
                    refusal = SignatureRefusal::Algorithm;
                }
                continue;
            }
            let Some(effective) = key.algorithm_like_envoy(algorithm) else {
                if refusal == SignatureRefusal::KeyUnknown {
                    refusal = SignatureRefusal::Algorithm;
                }
                continue;
            };
            if key.verify(effective, message, signature) {
                return Ok(());
            }
            refusal = SignatureRefusal::Signature;
        }
        Err(refusal)
    }
}

/// What makes a whole set untrustworthy in the strict mode.
fn check_strictly(list: &[Json], origin: KeyOrigin) -> Result<(), JwksError> {
    if !list.iter().all(|jwk| matches!(jwk, Json::Object(_))) {
        return Err(JwksError::Shape);
    }
    if list.iter().any(has_private_members) {
        return Err(JwksError::PrivateKey);
    }
    let symmetric = list.iter().filter(|jwk| is_symmetric(jwk)).count();
    // A set of both kinds is ambiguous, and in a fetched one the secret is everybody's.
    if symmetric > 0 && (origin == KeyOrigin::Fetched || symmetric < list.len()) {
        return Err(JwksError::Symmetric);
    }
    Ok(())
}

fn is_symmetric(jwk: &Json) -> bool {
    jwk.get("kty").and_then(Json::as_str) == Some("oct") || jwk.get("k").is_some()
}

fn has_private_members(jwk: &Json) -> bool {
    ["d", "p", "q", "dp", "dq", "qi", "oth"].iter().any(|member| jwk.get(member).is_some())
}
