//! Tokens of a workload: where they are found, and how several rules combine.

use std::borrow::Cow;

use super::keys::{KeyContext, no_revocations, refused};
use super::read::{Read, Token};
use super::{MAX_BAD_SIGNATURES, MAX_TOKENS, TokenSources, Visible, output, query};
use crate::binding;
use crate::claims::Claims;
use crate::compiled::{ArchivedJwtRule, Mode};
use crate::jwt::{Expectation, TokenRefusal, payload_part};
use crate::reason::Reason;
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
struct Verified {
    claims: Claims,
    payload: Option<String>,
}

/// What one rule found, and what came of it.
pub(super) enum Step<'s> {
    Absent,
    Valid(&'s Claims),
    Refused(&'s TokenRefusal),
}

/// Authenticates a request by its tokens, and makes `visible` what is left of it. Gives the text and the claims of all
/// tokens that were verified; the last ones are the caller's. None is a request without tokens.
///
/// This is Envoy's walk (`verifier.cc`) through what istiod configures: any of the rules, or each of them valid or without
/// a token. A token that is verified has its effect at once, on what the next rule finds too, even where its rule then
/// fails for another token: that is why a later rule may find nothing where there was a bad token.
///
/// `observe` is told of every rule that is asked: its index, how many tokens it found, and what came of them.
pub(super) fn authenticate_tokens(
    rules: &[&ArchivedJwtRule],
    visible: &mut Visible,
    sources: &TokenSources<'_>,
    context: &KeyContext<'_>,
    mut observe: impl FnMut(usize, usize, Step<'_>),
) -> Result<Vec<(String, Claims)>, TokenRefusal> {
    let mode = sources.policies.mode();
    let sent: Vec<Vec<String>> = rules.iter().map(|rule| sent_tokens(rule, visible, mode)).collect();
    let mut read = Read::new(mode, context.verified);
    if let Some(flooded) = sent.iter().position(|texts| !texts.iter().all(|text| read.admits(text))) {
        let flood = too_many_tokens();
        for (index, texts) in sent.iter().enumerate().take(flooded).filter(|(_, texts)| texts.is_empty()) {
            observe(index, texts.len(), Step::Absent);
        }
        observe(flooded, sent.get(flooded).map_or(0, Vec::len), Step::Refused(&flood));
        return Err(flood);
    }
    // With two callers at the places of one rule, Envoy lets the one decide who it is and both make headers. Which of them
    // a backend then believes is a guess that the strict mode does not make.
    let several = |texts: &Vec<String>| texts.iter().any(|text| Some(text) != texts.first());
    if mode == Mode::Strict
        && let Some(index) = sent.iter().position(several)
    {
        let refused = refused(Reason::TokenMalformed, "request has different tokens in the places of one rule");
        observe(index, sent.get(index).map_or(0, Vec::len), Step::Refused(&refused));
        return Err(refused);
    }
    let mut walk =
        Walk { mode, sources, context, visible, read, verified: Vec::new(), refused: String::new(), bad_signatures: 0 };

    let mut refusal: Option<TokenRefusal> = None;
    // The strict mode: tokens that the `istio` mode may know the caller by.
    let mut doubtful: Vec<(String, TokenRefusal)> = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let (found, outcome) = walk.ask(rule);
        match outcome {
            Ok(()) if found == 0 => observe(index, found, Step::Absent),
            Ok(()) => {
                if let Some((_, claims)) = walk.verified.last() {
                    observe(index, found, Step::Valid(claims));
                }
                return match doubtful.into_iter().find(|(text, _)| !walk.has_verified(text)) {
                    Some((_, refused)) => Err(beside(refused)),
                    None => Ok(walk.verified),
                };
            }
            Err(_) if walk.bad_signatures >= MAX_BAD_SIGNATURES => {
                let flood = format!("a token's signature was wrong for {MAX_BAD_SIGNATURES} rules");
                let flood = refused(Reason::TokenMalformed, flood);
                observe(index, found, Step::Refused(&flood));
                return Err(flood);
            }
            Err(refused) => {
                observe(index, found, Step::Refused(&refused));
                if mode == Mode::Strict && walk.may_be_valid_in_istio(rule) {
                    doubtful.push((walk.refused.clone(), refused.clone()));
                }
                refusal = Some(preferred(refusal, refused));
            }
        }
    }
    let Some(refusal) = refusal else { return Ok(Vec::new()) };
    if mode == Mode::Strict || rules.len() == 1 {
        return Err(refusal);
    }

    // "Each of them valid or without a token": the first that is neither ends it.
    for (index, rule) in rules.iter().enumerate() {
        let (found, outcome) = walk.ask(rule);
        if let Err(refused) = outcome {
            return Err(preferred(Some(refusal), refused));
        }
        if let (1.., Some((_, claims))) = (found, walk.verified.last()) {
            observe(index, found, Step::Valid(claims));
        }
    }
    // Envoy lets it pass. Not so here when a token went unseen because a good one took its header away with it.
    match sent.iter().flatten().all(|text| walk.has_verified(text)) {
        true => Ok(walk.verified),
        false => Err(beside(refusal)),
    }
}

/// Envoy's choice between errors: "Prefer errors which are not JwtMissed nor JwtUnknownIssuer", the last of them.
fn preferred(held: Option<TokenRefusal>, refused: TokenRefusal) -> TokenRefusal {
    match held {
        Some(held) if refused.reason == Reason::TokenIssuerUnknown => held,
        _ => refused,
    }
}

fn beside(refused: TokenRefusal) -> TokenRefusal {
    TokenRefusal { detail: format!("{}; the request has a valid token beside it", refused.detail), ..refused }
}

fn too_many_tokens() -> TokenRefusal {
    refused(Reason::TokenMalformed, format!("request has more than {MAX_TOKENS} tokens"))
}

/// The texts of the tokens of a request that one rule finds.
fn sent_tokens(rule: &ArchivedJwtRule, visible: &Visible, mode: Mode) -> Vec<String> {
    let found = tokens_of(rule, &visible.headers, &visible.path, mode);
    found.into_iter().map(|token| token.text.into_owned()).collect()
}

/// The way through the rules of a workload.
struct Walk<'w, 'a, 'f> {
    mode: Mode,
    sources: &'w TokenSources<'a>,
    context: &'w KeyContext<'a>,
    visible: &'w mut Visible,
    read: Read<'f>,
    /// Text and claims of the tokens that were verified, in this order.
    verified: Vec<(String, Claims)>,
    /// Text of the token that was refused last.
    refused: String,
    /// How many times a signature was wrong.
    bad_signatures: usize,
}

impl Walk<'_, '_, '_> {
    /// Asks one rule: how many tokens it finds, and whether all of them verify.
    fn ask(&mut self, rule: &ArchivedJwtRule) -> (usize, Result<(), TokenRefusal>) {
        // "Configured output headers are always removed from the request first": here those that it made itself, too.
        output::remove_outputs(&[rule], self.visible);
        let found: Vec<(String, Place<'_>)> = tokens_of(rule, &self.visible.headers, &self.visible.path, self.mode)
            .into_iter()
            .map(|token| (token.text.into_owned(), token.place))
            .collect();
        let count = found.len();
        // One rule may find one token many times.
        if count > MAX_TOKENS {
            return (count, Err(too_many_tokens()));
        }
        (count, self.verify_all(rule, found))
    }

    /// "Per provider, all extracted tokens must verify (evaluated last-to-first)", so that the first one's claims are
    /// those that stay.
    fn verify_all(&mut self, rule: &ArchivedJwtRule, found: Vec<(String, Place<'_>)>) -> Result<(), TokenRefusal> {
        for (text, place) in found.into_iter().rev() {
            let token = self.read.take_if_from(&text, rule.issuer.as_str());
            let verified = token.and_then(|token| verify(rule, token, self.sources, self.context));
            let Verified { claims, payload } = match verified {
                Ok(verified) => verified,
                Err(refused) => {
                    self.bad_signatures += usize::from(refused.reason == Reason::TokenSignature);
                    self.refused = text;
                    return Err(refused);
                }
            };
            output::add_outputs(rule, &claims, payload.as_deref(), self.visible);
            if !rule.forward_original_token {
                match place {
                    Place::Header(name) => self.visible.remove_header(name),
                    Place::Parameter(name) => self.visible.path = query::without(&self.visible.path, name, self.mode),
                    // "Cookies kept."
                    Place::Cookie => {}
                }
            }
            self.verified.push((text, claims));
        }
        Ok(())
    }

    fn has_verified(&self, text: &str) -> bool {
        self.verified.iter().any(|(verified, _)| verified == text)
    }

    /// Whether `rule` may accept the token that it refused last, were the mode `istio`. What depends on keys counts as a
    /// yes, since key sets are read more strictly too.
    fn may_be_valid_in_istio(&self, rule: &ArchivedJwtRule) -> bool {
        let token = Token::read(&self.refused, Mode::Istio, None);
        match token.and_then(|token| verify(rule, token, self.sources, self.context)) {
            Ok(_) => true,
            Err(refused) => matches!(
                refused.reason,
                Reason::TokenKeyUnknown
                    | Reason::TokenAlgorithm
                    | Reason::TokenSignature
                    | Reason::JwksUnavailable
                    // Nobody asks for the binding there.
                    | Reason::TokenBinding
            ),
        }
    }
}

fn verify(
    rule: &ArchivedJwtRule,
    token: Token<'_>,
    sources: &TokenSources<'_>,
    context: &KeyContext<'_>,
) -> Result<Verified, TokenRefusal> {
    let source = sources.policies.key_source(rule.keys.to_native());
    let audiences: Vec<&str> = rule.audiences.iter().map(|audience| audience.as_str()).collect();
    let expected = Expectation {
        issuer: rule.issuer.as_str(),
        audiences: &audiences,
        keys: source.and_then(|source| sources.keys.of_source(&source)),
    };
    let payload = rule.payload_header.as_ref().and_then(|_| payload_part(token.text())).map(str::to_owned);
    let claims = token.verify(&expected, sources.now)?;
    match context.revocations {
        Revocations::NotKept => {}
        Revocations::Unavailable => return Err(no_revocations()),
        Revocations::List(list) => {
            if list.has_token(&claims) {
                return Err(refused(Reason::TokenRevoked, "the token or its client is on the list of revoked ids"));
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
        // "For other token headers each line is a token and all must verify"; `authorization` is one line always.
        let values = headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let texts = values.filter_map(|value| after_prefix(value, prefix, mode));
        found.extend(texts.map(|text| Found { text: Cow::Borrowed(text), place }));
    }
    for name in rule.parameters.iter() {
        let first = query::first(path, name.as_str());
        found.extend(first.map(|text| Found { text, place: Place::Parameter(name.as_str()) }));
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
pub(super) fn after_prefix<'v>(value: &'v str, prefix: &str, mode: Mode) -> Option<&'v str> {
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
