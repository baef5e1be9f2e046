//! What one workload learns about the caller: its `RequestAuthentication`s and `ApiKeyAuthentication`s.

mod keys;
mod output;
mod tokens;
mod trace;

pub(crate) use keys::{KeyContext, presented_key, same_client};
pub(crate) use trace::trace;

use crate::claims::Claims;
use crate::compiled::{ArchivedJwtRule, Mode};
use crate::gate::KeysNeeded;
use crate::jwk::KeySets;
use crate::jwt::{TokenRefusal, UnverifiedToken};
use crate::policies::{Applicable, Policies};
use crate::request::{Request, lines};
use tokens::{Place, Token};

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
        let kept: Vec<&str> = query.split('&').filter(|pair| tokens::parameter(pair).0 != name).collect();
        self.path = match kept.as_slice() {
            [] => path.to_owned(),
            _ => format!("{path}?{}", kept.join("&")),
        };
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
    let by_token = if is_preflight(method, &visible.headers) {
        Token::Missing
    } else {
        let key_issuer = by_key.as_ref().map(|by_key| by_key.issuer);
        tokens::check_required(&rules, &visible.headers, &visible.path, key_issuer, policies.mode())?;
        let sources = TokenSources { policies, keys, now };
        tokens::authenticate_token(&rules, &visible.headers, &visible.path, &sources, key, |_, _, _| {})?
    };

    let has_key = by_key.is_some();
    let presented = has_key || matches!(by_token, Token::Valid { .. });
    let claims = match (by_key, by_token) {
        (None, Token::Missing) => None,
        (by_key, Token::Valid { tokens, rule, places }) => {
            if let Some(by_key) = by_key {
                for token in &tokens {
                    same_client(&by_key.claims, &token.claims)?;
                }
            }
            if !rule.forward_original_token {
                for place in places {
                    match place {
                        Place::Header(name) => visible.remove_header(name),
                        Place::Parameter(name) => visible.remove_parameter(name),
                        // "Cookies kept."
                        Place::Cookie => {}
                    }
                }
            }
            let written = match policies.mode() {
                // Only the caller's own.
                Mode::Strict => tokens.get(..1).unwrap_or_default(),
                // Envoy adds the headers of every token that it verifies, last to first.
                Mode::Istio => &tokens,
            };
            for token in written.iter().rev() {
                output::add_outputs(rule, &token.claims, token.payload.as_deref(), &mut visible);
            }
            tokens.into_iter().next().map(|token| token.claims)
        }
        (Some(by_key), Token::Missing) => match keys::rule_for_key(&rules, &by_key)? {
            None => Some(by_key.claims),
            Some(rule) => {
                let names = rule.space_delimited_claims.iter().map(|name| name.as_str());
                let claims = by_key.claims.with_space_delimited(names);
                output::add_outputs(rule, &claims, None, &mut visible);
                Some(claims)
            }
        },
    };
    Ok(Authenticated { claims, presented, by_key: has_key, visible })
}

/// Key sets that the presented tokens need and that are published somewhere.
pub(crate) fn keys_needed(policies: &Policies, applicable: Applicable<'_>, request: &Request) -> Vec<KeysNeeded> {
    let mode = policies.mode();
    let mut needed = Vec::new();
    for rule in jwt_rules(applicable) {
        let Some(source) = policies.key_source(rule.keys.to_native()) else { continue };
        let Some(uri) = source.jwks_uri.or(source.discovery) else { continue };
        for found in tokens::tokens_of(rule, &request.headers, &request.path, mode).iter().take(MAX_TOKENS) {
            let Ok(token) = UnverifiedToken::parse(&found.text, mode) else { continue };
            let issuer = rule.issuer.as_str();
            if issuer.is_empty() || token.unverified_issuer() == Some(issuer) {
                needed.push(KeysNeeded {
                    issuer: source.issuer.to_owned(),
                    uri: uri.to_owned(),
                    discovery: source.jwks_uri.is_none(),
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

fn is_preflight(method: &str, headers: &[(String, String)]) -> bool {
    let given = |name| lines(headers, name).next().is_some_and(|value| !value.is_empty());
    method == "OPTIONS" && given("origin") && given("access-control-request-method")
}
