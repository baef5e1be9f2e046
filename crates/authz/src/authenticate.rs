//! What one workload learns about the caller: its `RequestAuthentication`s and `ApiKeyAuthentication`s.

use std::borrow::Cow;
use std::collections::BTreeSet;

use identity::Secret;

use crate::api_key::{self, ApiKey, ApiKeyRecord, KeyRecordLookup, Refusal};
use crate::claims::{Claims, Json};
use crate::compiled::{ArchivedApiKeyAuthentication, ArchivedClaimToHeader, ArchivedJwtRule};
use crate::gate::KeysNeeded;
use crate::jwk::KeySets;
use crate::jwt::{Expectation, TokenRefusal, UnverifiedToken, audience_fits};
use crate::policies::{Applicable, Policies};
use crate::reason::Reason;
use crate::request::{Request, lines};
use crate::trace::CredentialTrace;

/// Tokens that are looked at in one request at one workload.
const MAX_TOKENS: usize = 8;

/// The part of a request that authentication changes on its way through a workload. It holds credentials:
/// this type is never printed.
#[derive(Clone)]
pub(crate) struct Visible {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) path: String,
    /// Names of the headers in it that were made out of claims: all others are the client's own.
    pub(crate) made: Vec<String>,
}

impl Visible {
    /// What the client sent.
    pub(crate) fn of(request: &Request) -> Self {
        Self { headers: request.headers.clone(), path: request.path.clone(), made: Vec::new() }
    }

    fn remove_header(&mut self, name: &str) {
        self.headers.retain(|(n, _)| n != name);
        self.made.retain(|n| n != name);
    }

    /// Takes a query parameter out, all its occurrences, and leaves the others as they were written.
    fn remove_parameter(&mut self, name: &str) {
        let Some((path, query)) = self.path.split_once('?') else { return };
        let kept: Vec<&str> = query.split('&').filter(|pair| parameter(pair).0 != name).collect();
        self.path = match kept.as_slice() {
            [] => path.to_owned(),
            _ => format!("{path}?{}", kept.join("&")),
        };
    }
}

/// What the checks of API keys need from outside.
#[derive(Clone, Copy)]
pub(crate) struct KeyContext<'a> {
    /// The store's answer, when it was asked.
    pub(crate) lookup: Option<&'a KeyRecordLookup>,
    /// The secret that keys are hashed with.
    pub(crate) pepper: Option<&'a Secret<Vec<u8>>>,
    /// The environment that the gateway or the workload belongs to.
    pub(crate) environment: Option<&'a str>,
    /// Ids of revoked tokens (`jti`) and keys.
    pub(crate) revoked: Option<&'a BTreeSet<String>>,
}

/// The outcome of a workload's authentication.
pub(crate) struct Authenticated {
    /// Who the caller is; absent for a caller without credentials.
    pub(crate) claims: Option<Claims>,
    /// Whether a credential was presented.
    pub(crate) presented: bool,
    /// Whether an API key was among them.
    pub(crate) by_key: bool,
    /// The request as policies and the upstream see it.
    pub(crate) visible: Visible,
}

/// Runs the authentication of one workload. A request without credentials passes; a bad one does not.
pub(crate) fn authenticate(
    policies: &Policies,
    applicable: Applicable<'_>,
    mut visible: Visible,
    method: &str,
    keys: &KeySets,
    key: &KeyContext<'_>,
    now: u64,
) -> Result<Authenticated, TokenRefusal> {
    let rules = jwt_rules(applicable);
    // "Configured output headers are always removed from the request first (anti-spoof)." Envoy does so
    // rule by rule as far as it gets; here they are all removed, whatever comes after.
    for output in rules.iter().flat_map(|rule| rule.outputs.iter()) {
        visible.remove_header(output.header.as_str());
    }

    let by_key = authenticate_key(applicable, &mut visible, key, now)?;

    // "CORS preflight (OPTIONS + Origin + Access-Control-Request-Method, all non-empty) bypasses
    // jwt_authn but not RBAC."
    let by_token = if is_preflight(method, &visible.headers) {
        Token::Missing
    } else {
        authenticate_token(policies, &rules, &visible, keys, key.revoked, now)?
    };

    let has_key = by_key.is_some();
    let presented = has_key || matches!(by_token, Token::Valid { .. });
    let (claims, outputs) = match (by_key, by_token) {
        (None, Token::Missing) => (None, None),
        (by_key, Token::Valid { claims, rule, places }) => {
            if let Some(by_key) = by_key {
                same_client(&by_key.claims, &claims)?;
            }
            if !rule.forward_original_token {
                for place in places {
                    match place {
                        Place::Header(name) => visible.remove_header(name),
                        Place::Parameter(name) => visible.remove_parameter(name),
                    }
                }
            }
            (Some(claims), Some(rule))
        }
        (Some(by_key), Token::Missing) => {
            let rule = rule_for_key(&rules, &by_key)?;
            (Some(by_key.claims), rule)
        }
    };
    if let (Some(claims), Some(rule)) = (&claims, outputs) {
        for output in rule.outputs.iter() {
            if let Some(value) = header_value(claims, output) {
                visible.headers.push((output.header.as_str().to_owned(), value));
                visible.made.push(output.header.as_str().to_owned());
            }
        }
    }
    Ok(Authenticated { claims, presented, by_key: has_key, visible })
}

/// What each rule of the workload found and made of it.
pub(crate) fn trace(
    _policies: &Policies,
    _applicable: Applicable<'_>,
    _visible: &Visible,
    _method: &str,
    _keys: &KeySets,
    _key: &KeyContext<'_>,
    _now: u64,
) -> Vec<CredentialTrace> {
    Vec::new()
}

/// Key sets that the presented tokens need and that are published somewhere.
pub(crate) fn keys_needed(policies: &Policies, applicable: Applicable<'_>, request: &Request) -> Vec<KeysNeeded> {
    let visible = Visible::of(request);
    let mut needed = Vec::new();
    for rule in jwt_rules(applicable) {
        let Some(source) = policies.key_source(rule.keys.to_native()) else { continue };
        let Some(jwks_uri) = source.jwks_uri else { continue };
        for found in tokens_of(rule, &visible).iter().take(MAX_TOKENS) {
            let Ok(token) = UnverifiedToken::parse(&found.text) else { continue };
            let issuer = rule.issuer.as_str();
            if issuer.is_empty() || token.unverified_issuer() == Some(issuer) {
                needed.push(KeysNeeded {
                    issuer: source.issuer.to_owned(),
                    jwks_uri: jwks_uri.to_owned(),
                    kid: token.unverified_kid().map(str::to_owned),
                });
            }
        }
    }
    needed
}

/// "All selected RequestAuthentications are concatenated and stable-sorted by issuer."
fn jwt_rules(applicable: Applicable<'_>) -> Vec<&ArchivedJwtRule> {
    let mut rules: Vec<_> =
        applicable.request_authentications().flat_map(|authentication| authentication.rules.iter()).collect();
    rules.sort_by(|a, b| a.issuer.as_str().cmp(b.issuer.as_str()));
    rules
}

// ---- tokens

/// Where a token was found.
#[derive(Clone, Copy, Debug)]
enum Place<'a> {
    Header(&'a str),
    Parameter(&'a str),
}

/// A token as it was found. Its text is a credential: this type is never printed.
struct Found<'a> {
    text: String,
    place: Place<'a>,
}

enum Token<'a> {
    Missing,
    Valid { claims: Claims, rule: &'a ArchivedJwtRule, places: Vec<Place<'a>> },
}

/// Envoy's combination of providers: "a token valid for some provider → pass; no token anywhere → pass, no
/// identity; otherwise fail", with the first error that is not about the issuer.
fn authenticate_token<'a>(
    policies: &Policies,
    rules: &[&'a ArchivedJwtRule],
    visible: &Visible,
    keys: &KeySets,
    revoked: Option<&BTreeSet<String>>,
    now: u64,
) -> Result<Token<'a>, TokenRefusal> {
    let mut looked_at = 0;
    let mut refusal: Option<TokenRefusal> = None;
    for &rule in rules {
        let found = tokens_of(rule, visible);
        if found.is_empty() {
            continue;
        }
        looked_at += found.len();
        if looked_at > MAX_TOKENS {
            return Err(TokenRefusal {
                reason: Reason::TokenMalformed,
                detail: format!("request has more than {MAX_TOKENS} tokens"),
            });
        }
        // "Per provider, all extracted tokens must verify (evaluated last-to-first)", so that the first
        // one's claims are those that stay.
        let mut claims = Err(None);
        for token in found.iter().rev() {
            claims = verify(policies, rule, &token.text, keys, now)
                .and_then(|claims| unrevoked(claims, revoked))
                .map_err(Some);
            if claims.is_err() {
                break;
            }
        }
        match claims {
            Ok(claims) => {
                let places = found.iter().map(|token| token.place).collect();
                return Ok(Token::Valid { claims, rule, places });
            }
            Err(Some(error)) => {
                // "First non-(missing/unknown-issuer) error, else unknown-issuer, else missing."
                let better = match &refusal {
                    None => true,
                    Some(held) => {
                        held.reason == Reason::TokenIssuerUnknown && error.reason != Reason::TokenIssuerUnknown
                    }
                };
                if better {
                    refusal = Some(error);
                }
            }
            Err(None) => {}
        }
    }
    match refusal {
        Some(refusal) => Err(refusal),
        None => Ok(Token::Missing),
    }
}

fn verify(
    policies: &Policies,
    rule: &ArchivedJwtRule,
    token: &str,
    keys: &KeySets,
    now: u64,
) -> Result<Claims, TokenRefusal> {
    let token = UnverifiedToken::parse(token)?;
    let source = policies.key_source(rule.keys.to_native());
    let audiences: Vec<&str> = rule.audiences.iter().map(|audience| audience.as_str()).collect();
    let expected = Expectation {
        issuer: rule.issuer.as_str(),
        audiences: &audiences,
        keys: source.and_then(|source| keys.of_source(&source)),
    };
    token.verify(&expected, now)
}

/// RFC 7519, 4.1.7: the `jti` names the token.
fn unrevoked(claims: Claims, revoked: Option<&BTreeSet<String>>) -> Result<Claims, TokenRefusal> {
    let id = claims.as_json().get("jti").and_then(Json::as_str);
    match id.filter(|id| revoked.is_some_and(|revoked| revoked.contains(*id))) {
        Some(_) => Err(refused(Reason::TokenRevoked, "the token was revoked")),
        None => Ok(claims),
    }
}

/// The tokens at the places of one rule, in Envoy's order: headers, then query parameters.
fn tokens_of<'r>(rule: &'r ArchivedJwtRule, visible: &Visible) -> Vec<Found<'r>> {
    let mut found = Vec::new();
    for header in rule.headers.iter() {
        let (name, prefix) = (header.name.as_str(), header.prefix.as_str());
        let place = Place::Header(name);
        if name == "authorization" {
            // "Repeated authorization lines are joined with `,` first: two Bearer tokens are one
            // malformed token."
            let lines: Vec<&str> = lines(&visible.headers, name).collect();
            if !lines.is_empty()
                && let Some(text) = after_prefix(&lines.join(","), prefix)
            {
                found.push(Found { text: text.to_owned(), place });
            }
        } else {
            // "For other token headers each line is a token and all must verify."
            for line in lines(&visible.headers, name) {
                if let Some(text) = after_prefix(line, prefix) {
                    found.push(Found { text: text.to_owned(), place });
                }
            }
        }
    }
    for name in rule.parameters.iter() {
        let query = visible.path.split_once('?').map_or("", |(_, query)| query);
        // "Only the first value of a query param."
        let first = query.split('&').map(parameter).find(|(n, _)| n == name.as_str());
        if let Some((_, text)) = first {
            found.push(Found { text: text.into_owned(), place: Place::Parameter(name.as_str()) });
        }
    }
    found
}

/// "Prefix is case-sensitive and searched with `find` anywhere in the value; prefix not found → that header is
/// not a token." Envoy then skips to the first base64url character; we skip spaces only, so that anything
/// else in front makes the token malformed.
fn after_prefix<'v>(value: &'v str, prefix: &str) -> Option<&'v str> {
    if prefix.is_empty() {
        return Some(value);
    }
    value.split_once(prefix).map(|(_, token)| token.trim_start_matches(' '))
}

/// Name and value of one part of a query, percent-decoded as Envoy does (`+` stays).
fn parameter(pair: &str) -> (Cow<'_, str>, Cow<'_, str>) {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    (percent_decoded(name), percent_decoded(value))
}

fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = |digit: &u8| char::from(*digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
        match (first, after) {
            (b'%', [high, low, after @ ..]) if hex(high).is_some() && hex(low).is_some() => {
                bytes.push(hex(high).unwrap_or(0) << 4 | hex(low).unwrap_or(0));
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    // What is not UTF-8 is no token either, and stays malformed with replacement characters.
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_preflight(method: &str, headers: &[(String, String)]) -> bool {
    let given = |name| lines(headers, name).next().is_some_and(|value| !value.is_empty());
    method == "OPTIONS" && given("origin") && given("access-control-request-method")
}

// ---- API keys

/// A well-formed API key and the issuer that its claims name.
pub(crate) struct Presented<'a> {
    pub(crate) key: ApiKey,
    issuer: &'a str,
}

struct ByKey {
    claims: Claims,
    issuer: String,
}

/// The API key of a request, if the workload accepts keys and there is one.
pub(crate) fn presented_key<'a>(
    applicable: Applicable<'a>,
    headers: &[(String, String)],
) -> Result<Option<Presented<'a>>, TokenRefusal> {
    let mut presented: Option<(&'a ArchivedApiKeyAuthentication, &str)> = None;
    for authentication in applicable.api_key_authentications() {
        for line in lines(headers, authentication.header_name.as_str()) {
            match presented {
                None => presented = Some((authentication, line)),
                Some((_, other)) if other != line => {
                    return Err(refused(Reason::ApiKeyMalformed, "request has several api keys"));
                }
                Some((other, _)) if other.issuer != authentication.issuer => {
                    return Err(refused(
                        Reason::ConfigurationInvalid,
                        format!(
                            "ApiKeyAuthentication {} and {} give one key two issuers",
                            other.name, authentication.name
                        ),
                    ));
                }
                Some(_) => {}
            }
        }
    }
    let Some((authentication, text)) = presented else { return Ok(None) };
    let key = ApiKey::parse(text).map_err(|error| refused(Reason::ApiKeyMalformed, error.to_string()))?;
    Ok(Some(Presented { key, issuer: authentication.issuer.as_str() }))
}

fn authenticate_key(
    applicable: Applicable<'_>,
    visible: &mut Visible,
    context: &KeyContext<'_>,
    now: u64,
) -> Result<Option<ByKey>, TokenRefusal> {
    let Some(presented) = presented_key(applicable, &visible.headers)? else { return Ok(None) };
    let record = checked_record(&presented.key, context, now)?;
    if context.revoked.is_some_and(|revoked| revoked.contains(presented.key.id())) {
        return Err(refused(
            Reason::ApiKeyRevoked,
            format!("the revocation list has the api key (id {})", presented.key.id()),
        ));
    }
    for authentication in applicable.api_key_authentications() {
        if !authentication.forward_original_key {
            visible.remove_header(authentication.header_name.as_str());
        }
    }
    Ok(Some(ByKey { claims: Claims::from_api_key(record, presented.issuer), issuer: presented.issuer.to_owned() }))
}

fn checked_record<'a>(key: &ApiKey, context: &KeyContext<'a>, now: u64) -> Result<&'a ApiKeyRecord, TokenRefusal> {
    let unavailable = |detail: &str| refused(Reason::ApiKeyUnavailable, detail);
    let pepper = context
        .pepper
        .filter(|pepper| !pepper.expose().is_empty())
        .ok_or_else(|| unavailable("the pepper of the api keys is not at hand"))?;
    let record = match context.lookup {
        Some(KeyRecordLookup::Found(record)) => Some(record),
        Some(KeyRecordLookup::NotFound) => None,
        Some(KeyRecordLookup::Unavailable) => {
            return Err(unavailable("the store of api keys did not answer"));
        }
        None => return Err(unavailable("the store of api keys was not asked")),
    };
    api_key::check(key, record, pepper, context.environment, now).map_err(|refusal| {
        let (reason, detail) = match refusal {
            Refusal::Unknown => (Reason::ApiKeyUnknown, "there is no such api key"),
            Refusal::Damaged => (Reason::ApiKeyUnavailable, "the record of the api key is damaged"),
            Refusal::Environment => (Reason::ApiKeyEnvironment, "the api key belongs to another environment"),
            Refusal::Disabled => (Reason::ApiKeyRevoked, "the api key is disabled"),
            Refusal::Revoked => (Reason::ApiKeyRevoked, "the api key was revoked"),
            Refusal::NotYetValid => (Reason::ApiKeyExpired, "the api key is not valid yet"),
            Refusal::Expired => (Reason::ApiKeyExpired, "the api key has expired"),
        };
        refused(reason, format!("{detail} (id {})", key.id()))
    })
}

/// "With a key and a token both present, both must be valid and name the same client." A client belongs to
/// its issuer: the same name at another issuer is another client.
pub(crate) fn same_client(by_key: &Claims, token: &Claims) -> Result<(), TokenRefusal> {
    let same = token.issuer() == by_key.issuer() && token.client_id() == by_key.client_id();
    if same && token.client_id().is_some() {
        Ok(())
    } else {
        let detail = "the api key and the token do not name the same client";
        Err(refused(Reason::CredentialMismatch, detail))
    }
}

/// The rule that the token which the key could be exchanged for would have to pass: its audiences bind the
/// key too, and its output headers are set. Without a rule for the issuer there is nothing to pass.
fn rule_for_key<'a>(
    rules: &[&'a ArchivedJwtRule],
    by_key: &ByKey,
) -> Result<Option<&'a ArchivedJwtRule>, TokenRefusal> {
    let presented = by_key.claims.audiences();
    let mut of_issuer = rules.iter().copied().filter(|rule| rule.issuer.as_str() == by_key.issuer).peekable();
    if of_issuer.peek().is_none() {
        return Ok(None);
    }
    let fits = |rule: &&ArchivedJwtRule| {
        let accepted: Vec<&str> = rule.audiences.iter().map(|audience| audience.as_str()).collect();
        audience_fits(&accepted, &presented)
    };
    match of_issuer.find(fits) {
        Some(rule) => Ok(Some(rule)),
        None => {
            Err(refused(Reason::TokenAudience, "the api key is for none of the audiences that the workload accepts"))
        }
    }
}

fn refused(reason: Reason, detail: impl Into<String>) -> TokenRefusal {
    TokenRefusal { reason, detail: detail.into() }
}

// ---- output

/// A claim as a header: "string / number (non-negative integral → plain integer, else `std::to_string`) /
/// bool; other types omitted".
fn header_value(claims: &Claims, output: &ArchivedClaimToHeader) -> Option<String> {
    let mut value = claims.as_json();
    for name in output.path.iter() {
        value = value.get(name.as_str())?;
    }
    let text = match value {
        Json::String(text) => text.clone(),
        Json::Bool(value) => value.to_string(),
        Json::Unsigned(value) => value.to_string(),
        // C's "%f". A number like 1e3 is integral as well.
        Json::Float(value) if *value >= 0.0 && value.fract() == 0.0 => format!("{value:.0}"),
        Json::Float(value) => format!("{value:.6}"),
        Json::Null | Json::List(_) | Json::Object(_) => return None,
    };
    // A line feed in a claim must not become a header of its own.
    text.bytes().all(|byte| byte == b'\t' || !byte.is_ascii_control()).then_some(text)
}
