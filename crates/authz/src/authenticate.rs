//! What one workload learns about the caller: its `RequestAuthentication`s and `ApiKeyAuthentication`s.

mod keys;
mod output;
mod query;
mod read;
mod repeated;
mod strip;
mod tokens;
mod trace;

pub(crate) use keys::{KeyContext, presented_key, same_client};
pub(crate) use repeated::joined;
pub(crate) use strip::{Caller, strip, without_outputs};
pub(crate) use trace::trace;

use crate::claims::Claims;
use crate::compiled::ArchivedJwtRule;
use crate::gate::KeysNeeded;
use crate::jwk::KeySets;
use crate::jwt::TokenRefusal;
use crate::policies::{Applicable, Policies};
use crate::reason::Reason;
use crate::request::{Request, lines};
use crate::verified::VerifiedTokens;

/// Different tokens that are looked at in one request at one workload.
const MAX_TOKENS: usize = 8;

/// Rules for which a token of one request may turn out to have a wrong signature, at one workload: each costs a
/// verification.
const MAX_BAD_SIGNATURES: usize = 64;

/// The part of a request that authentication changes on its way through a workload. It holds credentials:
/// this type is never printed.
#[derive(Clone, Default)]
pub(crate) struct Visible {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) path: String,
    /// Names of the headers in it that were made out of claims: all others are the client's own.
    pub(crate) made: Vec<String>,
}

impl Visible {
    /// What the client sent.
    pub(crate) fn of(request: &Request) -> Self {
        Self { headers: joined(&request.headers).into_owned(), path: request.path.clone(), made: Vec::new() }
    }

    fn remove_header(&mut self, name: &str) {
        self.headers.retain(|(n, _)| n != name);
        self.made.retain(|n| n != name);
    }
}

/// What tokens are verified with.
struct TokenSources<'a> {
    policies: &'a Policies,
    keys: &'a KeySets,
    now: u64,
}

/// The outcome of a workload's authentication.
pub(crate) struct Authenticated {
    /// Who the caller is; absent for a caller without credentials.
    pub(crate) claims: Option<Claims>,
    /// Whether a credential was presented.
    pub(crate) presented: bool,
    /// Whether an API key was among them.
    pub(crate) by_key: bool,
    /// The texts of the tokens that were verified. They are credentials: never printed.
    pub(crate) tokens: Vec<String>,
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
    output::remove_outputs(&rules, &mut visible);

    let by_key = keys::authenticate_key(applicable, &mut visible, key, now)?;

    // "CORS preflight (OPTIONS + Origin + Access-Control-Request-Method, all non-empty) bypasses
    // jwt_authn but not RBAC."
    let sent = visible.path.clone();
    let tokens = if is_preflight(method, &visible.headers) {
        Vec::new()
    } else {
        let key_issuer = by_key.as_ref().map(|by_key| by_key.issuer);
        tokens::check_required(&rules, &visible.headers, &visible.path, key_issuer, policies.mode())?;
        let sources = TokenSources { policies, keys, now };
        tokens::authenticate_tokens(&rules, &mut visible, &sources, key, |_, _, _| {})?
    };
    if visible.path != sent && !query::can_be_sent(&visible.path) {
        let detail = "the query holds bytes that cannot be sent on once the token is taken out of it";
        return Err(keys::refused(Reason::PathInvalid, detail));
    }

    let has_key = by_key.is_some();
    let presented = has_key || !tokens.is_empty();
    if let Some(by_key) = &by_key {
        for (_, claims) in &tokens {
            same_client(&by_key.claims, claims)?;
        }
    }
    let (tokens, claims): (Vec<String>, Vec<Claims>) = tokens.into_iter().unzip();
    let claims = match (by_key, claims.into_iter().last()) {
        (_, Some(claims)) => Some(claims),
        (None, None) => None,
        (Some(by_key), None) => match keys::rule_for_key(&rules, &by_key)? {
            None => Some(by_key.claims),
            Some(rule) => {
                let names = rule.space_delimited_claims.iter().map(|name| name.as_str());
                let claims = by_key.claims.with_space_delimited(names);
                output::add_outputs(rule, &claims, None, &mut visible);
                Some(claims)
            }
        },
    };
    Ok(Authenticated { claims, presented, by_key: has_key, tokens, visible })
}

/// What the tokens of a request need.
pub(crate) struct TokenNeeds {
    /// Whether there is a token at all that may be accepted: one that can be read, from the issuer of its rule.
    pub(crate) token: bool,
    /// Key sets that are published somewhere.
    pub(crate) keys: Vec<KeysNeeded>,
}

/// What the presented tokens need to be verified. `headers` are [`joined`].
pub(crate) fn token_needs(
    policies: &Policies,
    applicable: Applicable<'_>,
    headers: &[(String, String)],
    path: &str,
    verified: Option<&VerifiedTokens>,
) -> TokenNeeds {
    let mode = policies.mode();
    let rules = jwt_rules(applicable);
    let found: Vec<_> = rules.iter().map(|rule| tokens::tokens_of(rule, headers, path, mode)).collect();
    let mut read = read::Read::new(mode, verified);
    let mut needs = TokenNeeds { token: false, keys: Vec::new() };
    for (rule, found) in rules.iter().zip(&found) {
        let source = policies.key_source(rule.keys.to_native());
        for found in found.iter().take(MAX_TOKENS) {
            if !read.admits(&found.text) {
                continue;
            }
            let Some(token) = read.peek(&found.text) else { continue };
            if token.check_issuer(rule.issuer.as_str()).is_err() {
                continue;
            }
            needs.token = true;
            if let Some(source) = &source
                && let Some(uri) = source.jwks_uri.or(source.discovery)
            {
                needs.keys.push(KeysNeeded {
                    issuer: source.issuer.to_owned(),
                    uri: uri.to_owned(),
                    discovery: source.jwks_uri.is_none(),
                    kid: token.kid.clone(),
                });
            }
        }
    }
    needs
}

/// "All selected RequestAuthentications are concatenated and stable-sorted by issuer."
fn jwt_rules(applicable: Applicable<'_>) -> Vec<&ArchivedJwtRule> {
    let mut rules: Vec<_> =
        applicable.request_authentications().flat_map(|authentication| authentication.rules.iter()).collect();
    rules.sort_by(|a, b| a.issuer.as_str().cmp(b.issuer.as_str()));
    rules
}

fn is_preflight(method: &str, headers: &[(String, String)]) -> bool {
    let given = |name| lines(headers, name).next().is_some_and(|value| !value.is_empty());
    method == "OPTIONS" && given("origin") && given("access-control-request-method")
}
