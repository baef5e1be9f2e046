//! Tokens of a workload: where they are found, and how several rules combine.

use std::borrow::Cow;

use super::keys::{KeyContext, no_revocations, refused};
use super::{MAX_TOKENS, TokenSources};
use crate::binding;
use crate::claims::Claims;
use crate::compiled::{ArchivedJwtRule, Mode};
use crate::jwt::{Expectation, TokenRefusal, UnverifiedToken};
use crate::reason::Reason;
use crate::request::lines;
use crate::revocation::Revocations;

/// Where a token was found.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    Header(&'a str),
    Parameter(&'a str),
    Cookie,
}

/// A token as it was found. Its text is a credential: this type is never printed.
pub(super) struct Found<'r, 'v> {
    pub(super) text: Cow<'v, str>,
    pub(super) place: Place<'r>,
}

/// A verified token: its claims, and its payload as sent when a header wants it. Never printed.
pub(super) struct Verified {
    pub(super) claims: Claims,
    pub(super) payload: Option<String>,
}

pub(super) enum Token<'a> {
    Missing,
    /// All tokens of one rule, at least one, in Envoy's order: the first one's claims count.
    Valid {
        tokens: Vec<Verified>,
        rule: &'a ArchivedJwtRule,
        places: Vec<Place<'a>>,
    },
}

/// What one rule found, and what came of it.
pub(super) enum Step<'s> {
    Absent,
    Valid(&'s Claims),
    Refused(&'s TokenRefusal),
}

/// Envoy's combination of providers: "a token valid for some provider → pass; no token anywhere → pass, no
/// identity; otherwise fail", with the first error that is not about the issuer.
///
/// `observe` is told of every rule that is asked: its index, how many tokens it found, and what came of them.
pub(super) fn authenticate_token<'a>(
    rules: &[&'a ArchivedJwtRule],
    headers: &[(String, String)],
    path: &str,
    sources: &TokenSources<'_>,
    context: &KeyContext<'_>,
    mut observe: impl FnMut(usize, usize, Step<'_>),
) -> Result<Token<'a>, TokenRefusal> {
    let mode = sources.policies.mode();
    let mut looked_at = 0;
    let mut refusal: Option<TokenRefusal> = None;
    for (index, &rule) in rules.iter().enumerate() {
        let found = tokens_of(rule, headers, path, mode);
        if found.is_empty() {
            observe(index, 0, Step::Absent);
            continue;
        }
        looked_at += found.len();
        if looked_at > MAX_TOKENS {
            let flood = refused(Reason::TokenMalformed, format!("request has more than {MAX_TOKENS} tokens"));
            observe(index, found.len(), Step::Refused(&flood));
            return Err(flood);
        }
        match verify_all(rule, &found, sources, context) {
            Ok(tokens) => {
                if let Some(first) = tokens.first() {
                    observe(index, found.len(), Step::Valid(&first.claims));
                }
                let places = found.iter().map(|token| token.place).collect();
                return Ok(Token::Valid { tokens, rule, places });
            }
            Err(error) => {
                observe(index, found.len(), Step::Refused(&error));
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
        }
    }
    match refusal {
        Some(refusal) => Err(refusal),
        None => Ok(Token::Missing),
    }
}

/// "Per provider, all extracted tokens must verify (evaluated last-to-first)", so that the first one's claims are those
/// that stay. With several rules Envoy goes on after a bad token ("lets `[bad, good]` pass: do not copy that").
fn verify_all(
    rule: &ArchivedJwtRule,
    found: &[Found<'_, '_>],
    sources: &TokenSources<'_>,
    context: &KeyContext<'_>,
) -> Result<Vec<Verified>, TokenRefusal> {
    let mut tokens = Vec::with_capacity(found.len());
    for token in found.iter().rev() {
        tokens.push(verify(rule, &token.text, sources, context)?);
    }
    tokens.reverse();
    Ok(tokens)
}

fn verify(
    rule: &ArchivedJwtRule,
    token: &str,
    sources: &TokenSources<'_>,
    context: &KeyContext<'_>,
) -> Result<Verified, TokenRefusal> {
    let token = UnverifiedToken::parse(token, sources.policies.mode())?;
    let source = sources.policies.key_source(rule.keys.to_native());
    let audiences: Vec<&str> = rule.audiences.iter().map(|audience| audience.as_str()).collect();
    let expected = Expectation {
        issuer: rule.issuer.as_str(),
        audiences: &audiences,
        keys: source.and_then(|source| sources.keys.of_source(&source)),
    };
    let payload = rule.payload_header.is_some().then(|| token.unverified_payload_part().to_owned());
    let claims = token.verify(&expected, sources.now)?;
    match context.revocations {
        Revocations::NotKept => {}
        Revocations::Unavailable => return Err(no_revocations()),
        Revocations::List(list) => {
            if claims.text("jti").is_some_and(|id| list.has_token(id)) {
                return Err(refused(Reason::TokenRevoked, "the id of the token is on the list of revoked ids"));
            }
        }
    }
    if sources.policies.mode() == Mode::Strict {
        binding::check(&claims, context.certificate)
            .map_err(|error| refused(Reason::TokenBinding, error.to_string()))?;
    }
    let claims = claims.with_space_delimited(rule.space_delimited_claims.iter().map(|name| name.as_str()));
    Ok(Verified { claims, payload })
}

/// `presence: REQUIRED` (compiled for the strict mode alone): every such rule has to find a token at its places. An API
/// key stands for a token of its issuer.
pub(super) fn check_required(
    rules: &[&ArchivedJwtRule],
    headers: &[(String, String)],
    path: &str,
    key_issuer: Option<&str>,
    mode: Mode,
) -> Result<(), TokenRefusal> {
    let stands_for = |rule: &ArchivedJwtRule| {
        key_issuer.is_some_and(|issuer| rule.issuer.is_empty() || rule.issuer.as_str() == issuer)
    };
    let missing =
        rules.iter().find(|rule| rule.required && !stands_for(rule) && tokens_of(rule, headers, path, mode).is_empty());
    match missing {
        None => Ok(()),
        Some(rule) => {
            let detail = format!("a token of the issuer {:?} is required, and there is none", rule.issuer.as_str());
            Err(refused(Reason::TokenRequired, detail))
        }
    }
}

/// The tokens at the places of one rule, in Envoy's order: headers, then query parameters, then cookies.
pub(super) fn tokens_of<'r, 'v>(
    rule: &'r ArchivedJwtRule,
    headers: &'v [(String, String)],
    path: &'v str,
    mode: Mode,
) -> Vec<Found<'r, 'v>> {
    let mut found = Vec::new();
    for header in rule.headers.iter() {
        let (name, prefix) = (header.name.as_str(), header.prefix.as_str());
        let place = Place::Header(name);
        let mut values = headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
        if name == "authorization" {
            // "Repeated authorization lines are joined with `,` first: two Bearer tokens are one
            // malformed token."
            let joined = match (values.next(), values.next()) {
                (None, _) => continue,
                (Some(one), None) => Cow::Borrowed(one),
                (Some(_), Some(_)) => Cow::Owned(lines(headers, name).collect::<Vec<_>>().join(",")),
            };
            let text = match joined {
                Cow::Borrowed(value) => after_prefix(value, prefix, mode).map(Cow::Borrowed),
                Cow::Owned(value) => after_prefix(&value, prefix, mode).map(|text| Cow::Owned(text.to_owned())),
            };
            found.extend(text.map(|text| Found { text, place }));
        } else {
            // "For other token headers each line is a token and all must verify."
            let texts = values.filter_map(|value| after_prefix(value, prefix, mode));
            found.extend(texts.map(|text| Found { text: Cow::Borrowed(text), place }));
        }
    }
    for name in rule.parameters.iter() {
        let query = path.split_once('?').map_or("", |(_, query)| query);
        // "Only the first value of a query param."
        let first = query.split('&').map(parameter).find(|(n, _)| n == name.as_str());
        found.extend(first.map(|(_, text)| Found { text, place: Place::Parameter(name.as_str()) }));
    }
    for name in rule.cookies.iter() {
        let first = cookies(headers).find(|(n, _)| *n == name.as_str());
        found.extend(first.map(|(_, text)| Found { text: Cow::Borrowed(text), place: Place::Cookie }));
    }
    found
}

/// The cookies of all `cookie` lines as Envoy parses them: parts between semicolons that have a `=`, the name without
/// spaces in front of it (but with those behind), the value as it stands or between two quotes.
fn cookies(headers: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    headers.iter().filter(|(name, _)| name == "cookie").flat_map(|(_, line)| line.split(';')).filter_map(|cookie| {
        let (name, value) = cookie.split_once('=')?;
        let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        Some((name.trim_start_matches(' '), bare.unwrap_or(value)))
    })
}

/// "Prefix is case-sensitive and searched with `find` anywhere in the value; prefix not found → that header is
/// not a token."
fn after_prefix<'v>(value: &'v str, prefix: &str, mode: Mode) -> Option<&'v str> {
    if prefix.is_empty() {
        return Some(value);
    }
    let (_, token) = value.split_once(prefix)?;
    match mode {
        // Only spaces are skipped, so that anything else in front makes the token malformed.
        Mode::Strict => Some(token.trim_start_matches(' ')),
        // "Then skip to the first base64url/dot char and take the rest"; without one the whole value is taken.
        Mode::Istio => {
            let first = token.find(|c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
            Some(first.and_then(|first| token.get(first..)).unwrap_or(value))
        }
    }
}

/// Name and value of one part of a query, percent-decoded as Envoy does (`+` stays).
pub(super) fn parameter(pair: &str) -> (Cow<'_, str>, Cow<'_, str>) {
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
