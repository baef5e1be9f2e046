//! JSON Web Tokens: read once, strictly, into a typed value that says in its name what it is worth.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::claims::{Claims, ISTIO_TOKEN_LIMITS, Json, TOKEN_LIMITS, audiences};
use crate::compiled::Mode;
use crate::jwk::{Algorithm, Jwks, SignatureRefusal, decode_like_envoy};
use crate::reason::Reason;
use crate::revocation::is_list_type;

/// The longest token of the strict mode, in bytes.
pub const MAX_BYTES: usize = 8 * 1024;

/// The longest token of the `istio` mode, in bytes.
pub const ISTIO_MAX_BYTES: usize = 64 * 1024;

/// How far the issuer's clock and ours may be apart, in seconds, for `exp` and `nbf`: Envoy's value.
pub const LEEWAY_SECONDS: u64 = 60;

/// A compact JWS of the right form. Nothing in it is proven.
#[derive(Clone)]
pub struct UnverifiedJws<'t> {
    algorithm: Algorithm,
    kid: Option<String>,
    typ: Option<String>,
    payload: Vec<u8>,
    /// Header and payload as sent, with one dot between them: what is signed.
    message: Cow<'t, str>,
    signature: Vec<u8>,
}

impl fmt::Debug for UnverifiedJws<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Message and signature together are the token.
        f.debug_struct("UnverifiedJws")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

/// A token of the right form. Nothing in it is proven.
#[derive(Clone, Debug)]
pub struct UnverifiedToken<'t> {
    jws: UnverifiedJws<'t>,
    contents: Contents,
}

/// What a token says, without its text and its signature: all that the checks need beside that of the signature. The same
/// text read in the same mode has the same contents, always.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    pub(crate) claims: Arc<Json>,
    pub(crate) kid: Option<String>,
    /// Absent for a token that never expires (`istio` mode alone).
    exp: Option<u64>,
    nbf: Option<u64>,
}

/// A token that is not accepted, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenRefusal {
    /// The word.
    pub reason: Reason,
    /// The sentence; it quotes nothing of the token but numbers.
    pub detail: String,
}

impl TokenRefusal {
    fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

fn malformed(detail: impl Into<String>) -> TokenRefusal {
    TokenRefusal::new(Reason::TokenMalformed, detail)
}

/// What one rule of a workload demands of a token.
#[derive(Clone, Copy, Debug)]
pub struct Expectation<'a> {
    /// The exact `iss`; empty accepts any.
    pub issuer: &'a str,
    /// One of these must be in `aud`, in the form of [`normal_audience`]; empty accepts any.
    pub audiences: &'a [&'a str],
    /// The keys; `None` when they could not be had.
    pub keys: Option<&'a Jwks>,
}

impl<'t> UnverifiedJws<'t> {
    /// Reads a compact JWS.
    ///
    /// # Errors
    /// `token_too_large`, `token_algorithm` or `token_malformed`, before any cryptography: three base64url
    /// parts (a JWE has five), a header without a member twice, and in the strict mode without `crit` and `b64`.
    pub fn parse(token: &'t str, mode: Mode) -> Result<Self, TokenRefusal> {
        Self::parse_within(token, mode, longest(mode))
    }

    /// As [`parse`](Self::parse), of at most `longest` bytes.
    pub(crate) fn parse_within(token: &'t str, mode: Mode, longest: usize) -> Result<Self, TokenRefusal> {
        if token.len() > longest {
            return Err(TokenRefusal::new(
                Reason::TokenTooLarge,
                format!("token has {} bytes, expected at most {longest}", token.len()),
            ));
        }
        // RFC 7515 §7.1: BASE64URL(header) . BASE64URL(payload) . BASE64URL(signature).
        let three = |mut parts: &mut dyn Iterator<Item = &'t str>| -> Option<(&'t str, &'t str, &'t str)> {
            let three = (parts.next()?, parts.next()?, parts.next()?);
            (&mut parts).next().is_none().then_some(three)
        };
        let parts = match mode {
            Mode::Strict => three(&mut token.split('.')),
            // Envoy: "leading, trailing or doubled dots pass".
            Mode::Istio => three(&mut token.split('.').filter(|part| !part.is_empty())),
        };
        let Some((header, payload_part, signature)) = parts else {
            return Err(malformed("token does not have three parts"));
        };
        if signature.is_empty() {
            return Err(malformed("token has no signature"));
        }
        let Header { algorithm, kid, typ } =
            read_header(&object(&decoded(header, "header", mode)?, "header", mode)?, mode)?;
        let payload = decoded(payload_part, "payload", mode)?;
        // Decoded here so that a broken signature part is malformed with every kind of key.
        let signature = decoded(signature, "signature", mode)?;
        let message = match token.get(..header.len() + 1 + payload_part.len()) {
            Some(message) if message.as_bytes().get(header.len()) == Some(&b'.') && message.ends_with(payload_part) => {
                Cow::Borrowed(message)
            }
            _ => Cow::Owned(format!("{header}.{payload_part}")),
        };
        Ok(Self { algorithm, kid, typ, payload, message, signature })
    }

    /// The whole header, for what only some kinds of JWS have in it (`jwk` of a DPoP proof). It is read anew: what
    /// verifies tokens has no need of it.
    pub fn unverified_header(&self) -> Json {
        let part = self.message.split('.').next().unwrap_or_default();
        let bytes = decoded(part, "header", Mode::Istio).unwrap_or_default();
        // It was an object when this was parsed.
        object(&bytes, "header", Mode::Istio).unwrap_or(Json::Null)
    }

    /// The algorithm that it names; [`verify`](Self::verify) accepts no other.
    pub fn unverified_algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The kind of thing that it says it is.
    pub fn unverified_type(&self) -> Option<&str> {
        self.typ.as_deref()
    }

    /// The key that it names.
    pub fn unverified_kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// What was signed, if it was.
    pub fn unverified_payload(&self) -> &[u8] {
        &self.payload
    }

    /// Verifies the signature and gives the payload, which need not be claims.
    ///
    /// # Errors
    /// `token_key_unknown`, `token_algorithm` or `token_signature`.
    pub fn verify(&self, keys: &Jwks) -> Result<&[u8], TokenRefusal> {
        let message = self.message.as_bytes();
        keys.verify(self.algorithm, self.kid.as_deref(), message, &self.signature).map_err(|refused| {
            let (reason, detail) = match refused {
                SignatureRefusal::KeyUnknown => {
                    (Reason::TokenKeyUnknown, "the issuer's key set has no single key for the token")
                }
                SignatureRefusal::Algorithm => {
                    (Reason::TokenAlgorithm, "the token's key is not for the token's algorithm")
                }
                SignatureRefusal::Signature => (Reason::TokenSignature, "the signature of the token is wrong"),
            };
            TokenRefusal::new(reason, detail)
        })?;
        Ok(&self.payload)
    }
}

impl<'t> UnverifiedToken<'t> {
    /// Reads a compact token.
    ///
    /// # Errors
    /// As [`UnverifiedJws::parse`]; also when the claims are not an object, have a member twice, have a
    /// registered claim of another type than its own, or, in the strict mode, lack `exp`; there, too, when it is
    /// a revocation list.
    pub fn parse(token: &'t str, mode: Mode) -> Result<Self, TokenRefusal> {
        let jws = UnverifiedJws::parse(token, mode)?;
        // RFC 8725 §3.11: the type tells what an issuer signs with one key apart. Envoy does not look at it.
        if mode == Mode::Strict && jws.unverified_type().is_some_and(is_list_type) {
            return Err(malformed("token is a revocation list"));
        }
        let claims = object(&jws.payload, "payload", mode)?;
        let Times { exp, nbf } = read_claims(&claims, mode)?;
        let contents = Contents { claims: Arc::new(claims), kid: jws.kid.clone(), exp, nbf };
        Ok(Self { jws, contents })
    }

    /// The issuer that the token names, to find its keys by.
    pub fn unverified_issuer(&self) -> Option<&str> {
        self.contents.issuer()
    }

    /// The key that the token names.
    pub fn unverified_kid(&self) -> Option<&str> {
        self.jws.kid.as_deref()
    }

    /// What the token says.
    pub(crate) fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Verifies the token, in Envoy's order: issuer, time, audience, signature.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify(self, expected: &Expectation<'_>, now: u64) -> Result<Claims, TokenRefusal> {
        let keys = self.contents.check(expected, now)?;
        self.verify_signature(keys)?.to_claims()
    }

    /// Verifies the signature alone; what the token says is all that is left.
    pub(crate) fn verify_signature(self, keys: &Jwks) -> Result<Contents, TokenRefusal> {
        self.jws.verify(keys)?;
        Ok(self.contents)
    }
}

impl Contents {
    fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Json::as_str)
    }

    /// Whether the token says that it is from `issuer`; empty is any.
    pub(crate) fn check_issuer(&self, issuer: &str) -> Result<(), TokenRefusal> {
        if issuer.is_empty() || self.issuer() == Some(issuer) {
            return Ok(());
        }
        Err(TokenRefusal::new(Reason::TokenIssuerUnknown, format!("token is not from the issuer {issuer}")))
    }

    /// All checks that come before that of the signature, in Envoy's order, and the keys to check that with.
    pub(crate) fn check<'k>(&self, expected: &Expectation<'k>, now: u64) -> Result<&'k Jwks, TokenRefusal> {
        self.check_issuer(expected.issuer)?;
        if let Some(nbf) = self.nbf.filter(|&nbf| now.saturating_add(LEEWAY_SECONDS) < nbf) {
            return Err(TokenRefusal::new(Reason::TokenNotYetValid, format!("token is valid from {nbf}, it is {now}")));
        }
        if let Some(exp) = self.exp.filter(|exp| now > exp.saturating_add(LEEWAY_SECONDS)) {
            return Err(TokenRefusal::new(Reason::TokenExpired, format!("token was valid until {exp}, it is {now}")));
        }
        let audiences = audiences(&self.claims);
        if !audience_fits(expected.audiences, &audiences) {
            return Err(TokenRefusal::new(
                Reason::TokenAudience,
                format!("token is for none of the audiences {}", expected.audiences.join(", ")),
            ));
        }
        expected.keys.ok_or_else(|| {
            TokenRefusal::new(
                Reason::JwksUnavailable,
                format!("the keys of the issuer {} could not be had", expected.issuer),
            )
        })
    }

    /// The claims, once the signature is known to be good.
    pub(crate) fn to_claims(&self) -> Result<Claims, TokenRefusal> {
        Claims::from_verified(self.claims.clone()).ok_or_else(|| malformed("claims are not an object"))
    }
}

/// The longest token of a mode, in bytes.
pub(crate) fn longest(mode: Mode) -> usize {
    match mode {
        Mode::Strict => MAX_BYTES,
        Mode::Istio => ISTIO_MAX_BYTES,
    }
}

/// The claims as they were sent, base64url, in the text of a token of the right form. Envoy takes dots that surround a
/// part for nothing; in the strict mode there are none.
pub(crate) fn payload_part(token: &str) -> Option<&str> {
    token.split('.').filter(|part| !part.is_empty()).nth(1)
}

/// Whether one of `presented` is among `accepted` (which are in normal form); nothing accepted accepts all.
pub(crate) fn audience_fits(accepted: &[&str], presented: &[&str]) -> bool {
    accepted.is_empty() || presented.iter().any(|presented| accepted.contains(&normal_audience(presented)))
}

/// An audience as Envoy compares it: without `http://` or `https://` and without one trailing `/`.
pub fn normal_audience(audience: &str) -> &str {
    let bare = audience.strip_prefix("https://").or_else(|| audience.strip_prefix("http://")).unwrap_or(audience);
    bare.strip_suffix('/').unwrap_or(bare)
}

fn decoded(part: &str, what: &str, mode: Mode) -> Result<Vec<u8>, TokenRefusal> {
    // RFC 7515 §2: no padding, no white space, no other characters; and no stray trailing bits.
    let exact = URL_SAFE_NO_PAD.decode(part).ok();
    let bytes = match mode {
        Mode::Strict => exact,
        Mode::Istio => exact.or_else(|| decode_like_envoy(part)),
    };
    bytes.ok_or_else(|| malformed(format!("{what} of the token is not base64url")))
}

fn object(bytes: &[u8], what: &str, mode: Mode) -> Result<Json, TokenRefusal> {
    let limits = match mode {
        Mode::Strict => TOKEN_LIMITS,
        Mode::Istio => ISTIO_TOKEN_LIMITS,
    };
    match Json::parse(bytes, limits) {
        Ok(json @ Json::Object(_)) => Ok(json),
        Ok(_) => Err(malformed(format!("{what} of the token is not a JSON object"))),
        Err(error) => Err(malformed(format!("{what} of the token: {error}"))),
    }
}

struct Header {
    algorithm: Algorithm,
    kid: Option<String>,
    typ: Option<String>,
}

fn read_header(header: &Json, mode: Mode) -> Result<Header, TokenRefusal> {
    // Envoy: "`crit`, `b64`, `typ` are ignored".
    if mode == Mode::Strict {
        // RFC 7515 §4.1.11: an extension that we do not understand makes the token invalid, and we
        // understand none. RFC 7797 §7: a JWT must not use an unencoded payload.
        for extension in ["crit", "b64"] {
            if header.get(extension).is_some() {
                return Err(malformed(format!("header of the token has \"{extension}\"")));
            }
        }
        if header.get("typ").is_some_and(|typ| typ.as_str().is_none()) {
            return Err(malformed("\"typ\" of the token is not a string"));
        }
    }
    let kid = match header.get("kid") {
        None => None,
        Some(Json::String(kid)) => Some(kid.clone()),
        Some(_) => return Err(malformed("\"kid\" of the token is not a string")),
    };
    let name = header
        .get("alg")
        .and_then(Json::as_str)
        .ok_or_else(|| malformed("\"alg\" of the token is missing or not a string"))?;
    let algorithm = Algorithm::from_name(name)
        .ok_or_else(|| TokenRefusal::new(Reason::TokenAlgorithm, "\"alg\" of the token is not one we accept"))?;
    let typ = header.get("typ").and_then(Json::as_str).map(str::to_owned);
    Ok(Header { algorithm, kid, typ })
}

struct Times {
    exp: Option<u64>,
    nbf: Option<u64>,
}

fn read_claims(claims: &Json, mode: Mode) -> Result<Times, TokenRefusal> {
    for name in ["iss", "sub", "jti"] {
        if claims.get(name).is_some_and(|value| value.as_str().is_none()) {
            return Err(malformed(format!("claim \"{name}\" is not a string")));
        }
    }
    let audience_is_typed = match claims.get("aud") {
        None | Some(Json::String(_)) => true,
        Some(Json::List(list)) => list.iter().all(|item| item.as_str().is_some()),
        Some(_) => false,
    };
    if !audience_is_typed {
        return Err(malformed("claim \"aud\" is neither a string nor a list of strings"));
    }
    read_time(claims, "iat")?;
    let nbf = read_time(claims, "nbf")?;
    let exp = match (mode, read_time(claims, "exp")?) {
        (Mode::Strict, None) => return Err(malformed("claim \"exp\" is missing")),
        // "`exp: 0` and a missing `exp` never expire".
        (Mode::Istio, Some(0)) => None,
        (_, exp) => exp,
    };
    Ok(Times { exp, nbf })
}

/// A moment in seconds: "JSON numbers in [0, 2^64), fractional accepted and truncated, strings or negatives
/// rejected" (Envoy).
///
/// # Errors
/// `token_malformed`.
pub fn read_time(claims: &Json, name: &str) -> Result<Option<u64>, TokenRefusal> {
    /// 2^64, which an f64 holds exactly.
    const END: f64 = 18_446_744_073_709_551_616.0;
    match claims.get(name) {
        None => Ok(None),
        // Envoy's numbers are doubles: the last integers below 2^64 are 2^64 to it, and out of range.
        #[allow(clippy::cast_precision_loss)]
        Some(Json::Unsigned(seconds)) if (*seconds as f64) < END => Ok(Some(*seconds)),
        // The cast truncates and cannot leave the range, which was checked (NaN is in no range).
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Some(Json::Float(seconds)) if (0.0..END).contains(seconds) => Ok(Some(*seconds as u64)),
        Some(_) => Err(malformed(format!("claim \"{name}\" is not a number from 0 to 2^64"))),
    }
}
