//! JSON Web Key Sets: which keys are usable, and the one place that checks a signature.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, UnparsedPublicKey};
use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;

use crate::claims::{Json, JsonLimits};
use crate::compiled::Mode;
use crate::policies::{KeySourceInfo, Policies};

/// The longest key set, in bytes (API Gateway's own limit).
pub const MAX_BYTES: usize = 150_000;

/// Keys in a set, at most.
pub const MAX_KEYS: usize = 100;

const LIMITS: JsonLimits = JsonLimits { depth: 8, members: 5_000 };

/// The shortest secret of an `oct` key, in bytes: RFC 7518 §3.2 asks for the size of the hash.
const MIN_SECRET_BYTES: usize = 32;

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

    /// jsonwebtoken's name for it; it has no ES512.
    fn jsonwebtoken(self) -> Option<jsonwebtoken::Algorithm> {
        use jsonwebtoken::Algorithm as A;
        Some(match self {
            Self::HS256 => A::HS256,
            Self::HS384 => A::HS384,
            Self::HS512 => A::HS512,
            Self::RS256 => A::RS256,
            Self::RS384 => A::RS384,
            Self::RS512 => A::RS512,
            Self::PS256 => A::PS256,
            Self::PS384 => A::PS384,
            Self::PS512 => A::PS512,
            Self::ES256 => A::ES256,
            Self::ES384 => A::ES384,
            Self::EdDSA => A::EdDSA,
            Self::ES512 => return None,
        })
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
    keys: Vec<Key>,
    skipped: Vec<SkippedKey>,
    fingerprint: [u8; 32],
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

#[derive(Clone)]
struct Key {
    kid: Option<String>,
    kind: KeyKind,
    /// The JWK's own `alg`: the only one it may be used with.
    algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(Clone)]
enum Material {
    /// Everything that jsonwebtoken verifies exactly.
    Jsonwebtoken(DecodingKey),
    /// An uncompressed point on P-521: jsonwebtoken has no ES512.
    P521(Vec<u8>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The material of an `oct` key is a secret.
        f.debug_struct("Key").field("kid", &self.kid).field("kind", &self.kind).finish()
    }
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
        Ok(Self { mode, keys, skipped, fingerprint: fingerprint(text, origin, mode) })
    }

    /// SHA-256 of the document and of how it was read: equal for two sets only if they verify the same signatures.
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
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

    /// Checks `signature` (base64url) over `message`.
    pub(crate) fn verify(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
        message: &str,
        signature: &str,
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
        message: &str,
        signature: &str,
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

    /// Facts b8.7: "skip JWK if both kids present and differ; skip if JWK.alg present and != header alg", and the first
    /// key that verifies will do. Envoy gives up at an Ed25519 key when the signature is not 64 bytes long, which we do
    /// not copy: it refuses good tokens of another key.
    fn verify_with_any(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
        message: &str,
        signature: &str,
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

/// The origin and the mode decide, beside the document, which keys are used and how.
fn fingerprint(text: &str, origin: KeyOrigin, mode: Mode) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[u8::from(origin == KeyOrigin::Fetched), u8::from(mode == Mode::Istio)]);
    context.update(text.as_bytes());
    array(&context.finish())
}

fn array(digest: &digest::Digest) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
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

impl Key {
    fn from_jwk(jwk: &Json) -> Result<Self, &'static str> {
        let text = |name: &str| match jwk.get(name) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err("a member has the wrong type"),
        };
        let bytes = |name: &str| -> Result<Vec<u8>, &'static str> {
            let text = text(name)?.ok_or("a member is missing")?;
            URL_SAFE_NO_PAD.decode(text).map_err(|_| "a member is not base64url")
        };
        if text("use")?.is_some_and(|usage| usage != "sig") {
            return Err("its use is not \"sig\"");
        }
        if let Some(operations) = jwk.get("key_ops") {
            let Json::List(operations) = operations else {
                return Err("a member has the wrong type");
            };
            if !operations.iter().any(|operation| operation.as_str() == Some("verify")) {
                return Err("its key_ops lack \"verify\"");
            }
        }
        let algorithm = match text("alg")? {
            None => None,
            Some(name) => Some(Algorithm::from_name(name).ok_or("its alg is not one we know")?),
        };
        let (kind, material) = match (text("kty")?, text("crv")?) {
            (Some("RSA"), _) => (KeyKind::Rsa, rsa(&bytes("n")?, &bytes("e")?)?),
            (Some("EC"), Some("P-256")) => (KeyKind::P256, ec(&bytes("x")?, &bytes("y")?, 32)?),
            (Some("EC"), Some("P-384")) => (KeyKind::P384, ec(&bytes("x")?, &bytes("y")?, 48)?),
            (Some("EC"), Some("P-521")) => (KeyKind::P521, ec(&bytes("x")?, &bytes("y")?, 66)?),
            (Some("OKP"), Some("Ed25519")) => (KeyKind::Ed25519, ed25519(&bytes("x")?)?),
            (Some("oct"), _) => (KeyKind::Secret, secret(&bytes("k")?)?),
            (Some("EC" | "OKP"), _) => return Err("its curve is not one we know"),
            _ => return Err("its kty is not one we know"),
        };
        if algorithm.is_some_and(|algorithm| algorithm.kind() != kind) {
            return Err("its alg does not belong to its kty and crv");
        }
        let kid = text("kid")?.map(str::to_owned);
        Ok(Self { kid, kind, algorithm, material })
    }

    /// Envoy's `extractJwk`: what it needs of a key, and no more. Never weaker cryptography, though: the bounds on the
    /// size of an RSA modulus and of a secret are ours.
    fn from_jwk_like_envoy(jwk: &Json, origin: KeyOrigin) -> Result<Self, &'static str> {
        let text = |name: &str| jwk.get(name).and_then(Json::as_str);
        let bytes = |name: &str| -> Result<Vec<u8>, &'static str> {
            decode_like_envoy(text(name).ok_or("a member is missing")?).ok_or("a member is not base64url")
        };
        // `GetString`: a `kid` or `alg` of another type, or an empty one, counts as absent.
        let kid = text("kid").filter(|kid| !kid.is_empty()).map(str::to_owned);
        let algorithm = match text("alg").filter(|alg| !alg.is_empty()) {
            None => None,
            Some(name) => Some(Algorithm::from_name(name).ok_or("its alg is not one we know")?),
        };
        let (kind, material) = match text("kty") {
            Some("RSA") => {
                let (n, e) = (bytes("n")?, bytes("e")?);
                (KeyKind::Rsa, rsa(without_zeros(&n), without_zeros(&e))?)
            }
            Some("EC") => {
                // "If both alg and crv specified, make sure they match"; with neither it is P-256.
                let kind = match (text("crv").filter(|crv| !crv.is_empty()), algorithm) {
                    (Some("P-256"), _) | (None, None | Some(Algorithm::ES256)) => KeyKind::P256,
                    (Some("P-384"), _) | (None, Some(Algorithm::ES384)) => KeyKind::P384,
                    (Some("P-521"), _) | (None, Some(Algorithm::ES512)) => KeyKind::P521,
                    _ => return Err("its curve is not one we know"),
                };
                let size = match kind {
                    KeyKind::P384 => 48,
                    KeyKind::P521 => 66,
                    _ => 32,
                };
                // Envoy reads the coordinates as numbers, of any length.
                let coordinate = |name| -> Result<Vec<u8>, &'static str> {
                    let number = bytes(name)?;
                    let number = without_zeros(&number);
                    let zeros = size - number.len().min(size);
                    Ok([&[0_u8; 66][..zeros], number].concat())
                };
                (kind, ec(&coordinate("x")?, &coordinate("y")?, size)?)
            }
            Some("OKP") if text("crv") == Some("Ed25519") => (KeyKind::Ed25519, ed25519(&bytes("x")?)?),
            // "HS256-512 only with an `oct` key given inline, never from a fetched JWKS" (DESIGN 6.2), in both modes.
            Some("oct") if origin == KeyOrigin::Inline => (KeyKind::Secret, secret(&bytes("k")?)?),
            Some("oct") => return Err("it is symmetric, and a published key is no secret"),
            Some("OKP") => return Err("its curve is not one we know"),
            _ => return Err("its kty is not one we know"),
        };
        if algorithm.is_some_and(|algorithm| algorithm.kind() != kind) {
            return Err("its alg does not belong to its kty and crv");
        }
        Ok(Self { kid, kind, algorithm, material })
    }

    /// The algorithm that Envoy verifies with: "key type chosen by JWK `kty`", the token's `alg` only chooses the hash
    /// (`verify.cc`). `None` where there is none. A public key is never an HMAC's secret, for HMAC needs an `oct` key. Not
    /// copied: a hash that does not belong to the curve (RFC 7518 §3.4).
    fn algorithm_like_envoy(&self, token: Algorithm) -> Option<Algorithm> {
        use Algorithm as A;
        let own_hash = |own| match token {
            A::ES256 | A::ES384 | A::ES512 if token != own => None,
            _ => Some(own),
        };
        match self.kind {
            KeyKind::Rsa => (token.kind() == KeyKind::Rsa).then_some(token),
            // "default to SHA256"
            KeyKind::P256 => own_hash(A::ES256),
            KeyKind::P384 => (token == A::ES384).then_some(token),
            KeyKind::P521 => (token == A::ES512).then_some(token),
            KeyKind::Ed25519 => Some(A::EdDSA),
            KeyKind::Secret => Some(match token {
                A::HS384 | A::HS512 => token,
                _ => A::HS256,
            }),
        }
    }

    /// The algorithm is bound to the type of the key and to the key's own `alg`, never the other way
    /// round (RFC 8725 §3.1): a public key cannot become the secret of an HMAC.
    fn accepts(&self, algorithm: Algorithm) -> bool {
        algorithm.kind() == self.kind && self.algorithm.is_none_or(|own| own == algorithm)
    }

    fn verify(&self, algorithm: Algorithm, message: &str, signature: &str) -> bool {
        match (&self.material, algorithm.jsonwebtoken()) {
            (Material::Jsonwebtoken(key), Some(algorithm)) => {
                jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, algorithm).unwrap_or(false)
            }
            (Material::P521(point), None) => URL_SAFE_NO_PAD.decode(signature).is_ok_and(|signature| {
                UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point).verify(message.as_bytes(), &signature).is_ok()
            }),
            _ => false,
        }
    }
}

/// Base64url as Envoy reads it (absl's `WebSafeBase64Unescape`): ASCII white space is skipped, padding may be left out but
/// is right where it stands, and stray trailing bits are ignored.
pub(crate) fn decode_like_envoy(text: &str) -> Option<Vec<u8>> {
    const ENGINE: GeneralPurpose = GeneralPurpose::new(
        &URL_SAFE,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::RequireNone),
    );
    let text: String = text.chars().filter(|c| !matches!(c, ' ' | '\t'..='\r')).collect();
    let bare = text.trim_end_matches('=');
    let padding = text.len() - bare.len();
    (padding == 0 || (bare.len() + padding).is_multiple_of(4)).then(|| ENGINE.decode(bare).ok()).flatten()
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

fn rsa(n: &[u8], e: &[u8]) -> Result<Material, &'static str> {
    let bits = match n {
        // RFC 7518 §6.3.1.1: no leading zero octets.
        [] | [0, ..] => return Err("its modulus is not minimal"),
        [first, rest @ ..] => rest.len() * 8 + 8 - first.leading_zeros() as usize,
    };
    if !(2048..=8192).contains(&bits) {
        return Err("its modulus is not 2048 to 8192 bits long");
    }
    // Envoy: "RSA e must be 3 or 65537".
    if e != [3] && e != [1, 0, 1] {
        return Err("its exponent is neither 3 nor 65537");
    }
    Ok(Material::Jsonwebtoken(DecodingKey::from_rsa_raw_components(n, e)))
}

fn ec(x: &[u8], y: &[u8], size: usize) -> Result<Material, &'static str> {
    // RFC 7518 §6.2.1.2: "The length of this octet string MUST be the full size of a coordinate".
    if x.len() != size || y.len() != size {
        return Err("its coordinates have the wrong length");
    }
    // SEC 1 §2.3.3: an uncompressed point.
    let mut point = Vec::with_capacity(1 + 2 * size);
    point.push(4);
    point.extend_from_slice(x);
    point.extend_from_slice(y);
    Ok(if size == 66 { Material::P521(point) } else { Material::Jsonwebtoken(DecodingKey::from_ec_der(&point)) })
}

fn ed25519(x: &[u8]) -> Result<Material, &'static str> {
    if x.len() != 32 {
        return Err("its public key has the wrong length");
    }
    Ok(Material::Jsonwebtoken(DecodingKey::from_ed_der(x)))
}

fn secret(k: &[u8]) -> Result<Material, &'static str> {
    if k.len() < MIN_SECRET_BYTES {
        return Err("its secret is shorter than 32 bytes");
    }
    Ok(Material::Jsonwebtoken(DecodingKey::from_secret(k)))
}

fn is_symmetric(jwk: &Json) -> bool {
    jwk.get("kty").and_then(Json::as_str) == Some("oct") || jwk.get("k").is_some()
}

fn has_private_members(jwk: &Json) -> bool {
    ["d", "p", "q", "dp", "dq", "qi", "oth"].iter().any(|member| jwk.get(member).is_some())
}

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
                context.update(jwks.fingerprint());
            }
        }
        let hash = context.finish();
        hash.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// The set of one key source; `None` when it could not be had.
    pub(crate) fn of_source(&self, source: &KeySourceInfo<'_>) -> Option<&Jwks> {
        match source.jwks_uri.or(source.discovery) {
            None => self.inline.get(source.fingerprint?).map(Arc::as_ref),
            Some(uri) => self.fetched.get(uri).map(Arc::as_ref),
        }
    }
}
