//! A token with other claims, to try what is claimed of it. It is signed with a key that is made here and now, and that only
//! a copy of the configuration in memory trusts: nobody else can be shown the token, and nothing of it is ever printed.

use authz::Request;
use authz::matchers::{Pattern, RequestPrincipal};
use authz::trace::{CredentialTrace, LeafTrace};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use istio::{JwtRule, Resources};
use serde_json::{Map, Value, json};

use super::alter::sample;
use super::tokens::{self, At, Kind};
use super::{placement, refusals, text};

/// Alternatives of one leaf, at most.
const MAX_WANTED: usize = 6;
/// How long a token lasts that is made up from nothing, in seconds.
const LIFETIME: u64 = 600;

/// A change of one claim.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ClaimEdit {
    /// The claim is this and nothing else.
    Set(Vec<String>, String),
    /// The claim, a list or words, has this as well; a single value is replaced.
    Add(Vec<String>, String),
    /// There is no such claim.
    Remove(Vec<String>),
}

impl ClaimEdit {
    /// `scope reviews.read`.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Set(path, value) | Self::Add(path, value) => {
                format!("{} {}", text::plain(&path.join(".")), text::value(value))
            }
            Self::Remove(path) => format!("no {}", text::plain(&path.join("."))),
        }
    }

    fn apply(&self, claims: &mut Map<String, Value>) -> Option<()> {
        let (Self::Set(path, _) | Self::Add(path, _) | Self::Remove(path)) = self;
        let (last, parents) = path.split_last()?;
        let mut object = claims;
        for name in parents {
            object = object.entry(name).or_insert_with(|| json!({})).as_object_mut()?;
        }
        match self {
            Self::Set(_, value) => {
                object.insert(last.clone(), json!(value));
            }
            Self::Remove(_) => {
                object.remove(last);
            }
            Self::Add(_, value) => match object.get_mut(last) {
                Some(Value::Array(list)) => list.push(json!(value)),
                Some(Value::String(words)) if is_words(path) => {
                    words.push(' ');
                    words.push_str(value);
                }
                Some(Value::String(one)) if last == "aud" => {
                    let list = json!([one, value]);
                    object.insert(last.clone(), list);
                }
                _ => {
                    object.insert(last.clone(), json!(value));
                }
            },
        }
        Some(())
    }
}

/// `edits` of a token that is made up for `rule`, with its issuer and a subject where they name none.
pub(super) fn named(edits: Vec<ClaimEdit>, rule: &CredentialTrace) -> Vec<ClaimEdit> {
    let has = |name: &str| edits.iter().any(|edit| matches!(edit, ClaimEdit::Set(path, _) if *path == [name]));
    let own = [("iss", rule.issuer.as_str()), ("sub", "x")];
    let missing = own.into_iter().filter(|(name, value)| !value.is_empty() && !has(name));
    let mut named: Vec<ClaimEdit> =
        missing.map(|(name, value)| ClaimEdit::Set(vec![name.to_owned()], value.to_owned())).collect();
    named.extend(edits);
    named
}

/// Claims that Istio splits at spaces whatever the rule says.
fn is_words(path: &[String]) -> bool {
    matches!(path, [name] if name == "scope" || name == "permission")
}

/// Changes of the token with which `leaf` holds, the likeliest first. `None`: none can be made up.
pub(super) fn edits(leaf: &LeafTrace) -> Option<Vec<Vec<ClaimEdit>>> {
    let path = |name: &str| vec![name.to_owned()];
    let claim = match leaf.field.as_str() {
        "requestPrincipals" | "notRequestPrincipals" | "request.auth.principal" => return callers(leaf),
        "request.auth.audiences" => path("aud"),
        "request.auth.presenter" => path("azp"),
        field => {
            let names = field.strip_prefix("request.auth.claims[")?.strip_suffix(']')?;
            names.split("][").map(str::to_owned).collect()
        }
    };
    if leaf.negated {
        return Some(vec![vec![ClaimEdit::Remove(claim)]]);
    }
    let wanted = leaf.wanted.iter().take(MAX_WANTED);
    Some(wanted.map(|pattern| vec![ClaimEdit::Add(claim.clone(), sample(pattern, "x"))]).collect())
}

fn callers(leaf: &LeafTrace) -> Option<Vec<Vec<ClaimEdit>>> {
    let set = |name: &str, value: String| ClaimEdit::Set(vec![name.to_owned()], value);
    if leaf.negated {
        return Some(vec![vec![set("sub", "somebody-else".to_owned())]]);
    }
    let of = |name: &str, pattern: Pattern| match pattern {
        // Whoever it is stays it.
        Pattern::Any => None,
        Pattern::Exact(text) => Some(set(name, text)),
        Pattern::Prefix(text) => Some(set(name, format!("{text}x"))),
        Pattern::Suffix(text) => Some(set(name, format!("x{text}"))),
    };
    let wanted = leaf.wanted.iter().take(MAX_WANTED).map(|value| {
        let RequestPrincipal { issuer, subject } = RequestPrincipal::parse(value);
        of("iss", issuer).into_iter().chain(of("sub", subject)).collect()
    });
    Some(wanted.collect())
}

/// `request` with its token, or a fresh one where `fresh` looks, changed by `edits`, and the configuration that takes it.
/// `None`: there are several credentials, or the one there is no token.
pub(super) fn reissued(
    resources: &Resources,
    request: &Request,
    edits: &[ClaimEdit],
    fresh: Option<&CredentialTrace>,
    now: u64,
) -> Option<(Request, Resources)> {
    let presented = tokens::presented(request, &[]);
    let (mut claims, at) = match presented.as_slice() {
        [] => (made_up(refusals::rule(resources, fresh?)?, now), None),
        [one] if matches!(one.kind, Kind::Token(_)) => (claims_of(request, one.at)?, Some(one.at)),
        _ => return None,
    };
    edits.iter().try_for_each(|edit| edit.apply(&mut claims))?;
    let issuer = claims.get("iss").and_then(Value::as_str).unwrap_or_default().to_owned();
    let (token, jwks) = sign(&claims)?;
    let request = match at {
        Some(at) => replaced(request, at, &token)?,
        None => placement::put(request.clone(), fresh?.places.first()?, &token)?,
    };
    let mut trusting = resources.clone();
    let rules = trusting.request_authentications.iter_mut().flat_map(|document| &mut document.jwt_rules);
    for rule in rules.filter(|rule| rule.issuer.is_empty() || rule.issuer == issuer) {
        rule.jwks_uri = None;
        rule.jwks = Some(jwks.clone());
    }
    Some((request, trusting))
}

/// The claims of a token that `rule` takes.
fn made_up(rule: &JwtRule, now: u64) -> Map<String, Value> {
    let mut claims = Map::new();
    claims.insert("iss".to_owned(), json!(rule.issuer));
    claims.insert("sub".to_owned(), json!("x"));
    claims.insert("exp".to_owned(), json!(now.saturating_add(LIFETIME)));
    if let Some(audience) = rule.audiences.first() {
        claims.insert("aud".to_owned(), json!([audience]));
    }
    claims
}

fn claims_of(request: &Request, at: At) -> Option<Map<String, Value>> {
    let (_, token) = tokens::taken(request, at)?;
    let bytes = BASE64URL.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The request with another token where one stands.
fn replaced(request: &Request, at: At, token: &str) -> Option<Request> {
    let (_, was) = tokens::taken(request, at)?;
    let mut altered = request.clone();
    match at {
        At::Header(line) | At::Cookie(line, _) => {
            let (_, value) = altered.headers.get_mut(line)?;
            *value = value.replace(&was, token);
        }
        At::Query(_) => altered.path = altered.path.replace(&was, token),
    }
    Some(altered)
}

/// A token with these claims, and the key set that verifies it.
fn sign(claims: &Map<String, Value>) -> Option<(String, String)> {
    const KID: &str = "explain";
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok()?;
    // An uncompressed point: one byte, x, y.
    let (x, y) = key.public_key().as_ref().get(1..)?.split_at_checked(32)?;
    let jwk = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": KID, "x": BASE64URL.encode(x), "y": BASE64URL.encode(y)});
    let part = |json: String| BASE64URL.encode(json);
    let header = part(json!({"alg": "ES256", "kid": KID}).to_string());
    let text = format!("{header}.{}", part(serde_json::to_string(claims).ok()?));
    let signature = key.sign(&SystemRandom::new(), text.as_bytes()).ok()?;
    Some((format!("{text}.{}", BASE64URL.encode(signature)), json!({"keys": [jwk]}).to_string()))
}
