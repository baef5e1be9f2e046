//! A request without the credentials that nobody has verified: what may go on of it under shadow mode.
//!
//! What a workload would take for a token is one thing, what a careless backend takes for one is another: `bearer TOKEN`
//! is none to a rule, since its prefix is matched by case, and a backend that cuts the last word off the header reads it.
//! So more goes here than a rule would find.

use super::tokens::{after_prefix, tokens_of};
use super::{Visible, jwt_rules, output, query};
use crate::compiled::{ArchivedJwtRule, Mode};
use crate::policies::{Applicable, Policies};
use crate::request::plain_name;

/// Schemes of `authorization`, in lower case, whose credentials are no tokens ("HTTP Authentication Schemes" of IANA, and
/// those of AWS and Microsoft).
const OTHER_SCHEMES: [&str; 10] = [
    "aws4-ecdsa-p256-sha256",
    "aws4-hmac-sha256",
    "basic",
    "digest",
    "hoba",
    "mutual",
    "negotiate",
    "ntlm",
    "scram-sha-1",
    "scram-sha-256",
];

/// Of whom the request is, that goes on.
#[derive(Clone, Copy)]
pub(crate) enum Caller<'a> {
    /// Nobody is proven: no credential stays.
    Nobody,
    /// Authentication has succeeded. These are the texts of the tokens that were verified, and stay.
    Proven(&'a [String]),
}

/// Takes every token and API key out that is not the proven caller's, at the places where the workload looks for one,
/// whether it would forward it or not, and every header that a backend may take for one that is made out of claims. What is
/// none (`authorization: Basic …`, say) stays.
///
/// Gives the names of the headers of which something was taken. `None` is a request that cannot be sent on without them.
pub(crate) fn strip(
    policies: &Policies,
    applicable: Applicable<'_>,
    visible: &mut Visible,
    caller: Caller<'_>,
) -> Option<Vec<String>> {
    let rules = jwt_rules(applicable);
    let keys = applicable.api_key_authentications().map(|keys| keys.header_name.as_str()).collect();
    let places = Places { rules, keys, mode: policies.mode(), caller };
    let mut taken: Vec<String> = Vec::new();
    for (name, value) in &visible.headers {
        let may_stay = visible.made.contains(name) || places.header_may_stay(name, value);
        if !may_stay && !taken.contains(name) {
            taken.push(name.clone());
        }
    }
    for name in &taken {
        visible.remove_header(name);
    }
    if let Some(kept) = places.cookies(visible) {
        visible.remove_header("cookie");
        if !kept.is_empty() {
            visible.headers.push(("cookie".to_owned(), kept));
        }
        taken.push("cookie".to_owned());
    }
    visible.path = places.path(&visible.path);
    places.hold_nothing_else(visible).then_some(taken)
}

/// The request as the policies of a workload see it when nobody has presented anything: without the headers that are made
/// out of claims.
pub(crate) fn without_outputs(applicable: Applicable<'_>, mut visible: Visible) -> Visible {
    output::remove_outputs(&jwt_rules(applicable), &mut visible);
    visible
}

/// Where a workload looks for credentials, and whose may stay.
struct Places<'a> {
    rules: Vec<&'a ArchivedJwtRule>,
    /// Headers of API keys.
    keys: Vec<&'a str>,
    mode: Mode,
    caller: Caller<'a>,
}

impl Places<'_> {
    fn is_proven(&self) -> bool {
        matches!(self.caller, Caller::Proven(_))
    }

    fn is_verified(&self, text: &str) -> bool {
        matches!(self.caller, Caller::Proven(tokens) if tokens.iter().any(|token| token == text))
    }

    fn header_may_stay(&self, name: &str, value: &str) -> bool {
        let plain = plain_name(name);
        let is_output = |rule: &&ArchivedJwtRule| {
            let payload = rule.payload_header.as_ref().map(|header| header.as_str());
            let mut outputs = rule.outputs.iter().map(|output| output.header.as_str()).chain(payload);
            outputs.any(|output| plain_name(output) == plain)
        };
        if self.rules.iter().any(is_output) {
            return false;
        }
        // A proven caller's key was verified, or taken out; but not one under a name that merely looks the same.
        if self.keys.iter().any(|key| plain_name(key) == plain) && !(self.is_proven() && self.keys.contains(&name)) {
            return false;
        }
        let places = || self.rules.iter().flat_map(|rule| rule.headers.iter());
        if !places().any(|place| plain_name(&place.name) == plain) {
            return true;
        }
        let mut here = places().filter(|place| place.name == name).map(|place| place.prefix.as_str()).peekable();
        let is_token_of_caller = |prefix: &str| {
            let begins = value.trim_start_matches(' ').starts_with(prefix);
            begins && after_prefix(value, prefix, self.mode).is_some_and(|text| self.is_verified(text))
        };
        here.peek().is_some()
            && (here.clone().any(is_token_of_caller) || here.all(|prefix| is_of_another_scheme(value, prefix)))
    }

    /// The cookies that stay, all in one line (RFC 9113 section 8.2.3 allows that), unless all of them do.
    fn cookies(&self, visible: &Visible) -> Option<String> {
        let names: Vec<&str> =
            self.rules.iter().flat_map(|rule| rule.cookies.iter()).map(|name| name.as_str()).collect();
        let lines = visible.headers.iter().filter(|(header, _)| header == "cookie");
        let cookies = lines.flat_map(|(_, line)| line.split(';')).filter(|cookie| !cookie.trim().is_empty());
        let is_token_of_caller = |cookie: &str| {
            cookie.split_once('=').is_some_and(|(name, value)| {
                let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
                names.contains(&name.trim_start_matches(' ')) && self.is_verified(bare)
            })
        };
        let stays = |cookie: &&str| !names.iter().any(|name| has_word(cookie, name)) || is_token_of_caller(cookie);
        let (kept, gone): (Vec<&str>, Vec<&str>) = cookies.partition(stays);
        let kept = kept.into_iter().map(str::trim).collect::<Vec<_>>();
        (!gone.is_empty()).then(|| kept.join("; "))
    }

    /// `path` without the parameters of its query that may be read as tokens. Readers part them at `&` or at `;`.
    fn path(&self, path: &str) -> String {
        let Some((before, query)) = path.split_once('?') else { return path.to_owned() };
        let names: Vec<String> =
            self.rules.iter().flat_map(|rule| rule.parameters.iter()).map(|name| folded(name)).collect();
        let stays = |piece: &&str| {
            let (name, value) = query::parameter(piece.trim_end_matches(['&', ';']));
            !names.contains(&folded(&name)) || self.is_verified(&value)
        };
        let kept: String = query.split_inclusive(['&', ';']).filter(stays).collect();
        if kept.len() == query.len() {
            return path.to_owned();
        }
        let kept = kept.strip_suffix(['&', ';']).unwrap_or(&kept);
        if kept.is_empty() { before.to_owned() } else { format!("{before}?{kept}") }
    }

    /// Whether the workload itself finds none but the tokens that were verified: it must not be worse at finding them.
    fn hold_nothing_else(&self, visible: &Visible) -> bool {
        self.rules.iter().all(|rule| {
            let found = tokens_of(rule, &visible.headers, &visible.path, self.mode);
            found.iter().all(|found| self.is_verified(&found.text))
        })
    }
}

/// Whether a header that begins tokens with `prefix` holds something else, whoever reads it: the credentials of another
/// scheme, with nothing in them that has the form of a token.
fn is_of_another_scheme(value: &str, prefix: &str) -> bool {
    let word = prefix.trim().to_ascii_lowercase();
    let value = value.to_ascii_lowercase();
    let scheme = value.split_whitespace().next().unwrap_or_default();
    let is_in_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    // Three parts with dots between (RFC 7515 section 7.1), of which the last may be empty.
    let mut texts = value.split(|c: char| !is_in_token(c));
    let has_token = texts.any(|text| text.matches('.').count() >= 2);
    !word.is_empty() && OTHER_SCHEMES.contains(&scheme) && !value.contains(&word) && !has_token
}

/// The name of a parameter as the most generous of its readers have it: without case (ASP.NET), without what stands around
/// it, and with `_` for what cannot be in a name (PHP).
fn folded(name: &str) -> String {
    let name = name.split('[').next().unwrap_or_default().trim_matches([' ', '+', '\t']);
    name.to_ascii_lowercase().replace([' ', '+', '.', '-'], "_")
}

/// Whether `name` stands anywhere in what is between two semicolons of a line of cookies. Readers part cookies at commas and
/// blanks, too (RFC 2109, Python), read names without case or percent-decoded (PHP), and look into quotes.
fn has_word(cookie: &str, name: &str) -> bool {
    let plain = |text: &str| query::percent_decoded(text).to_ascii_lowercase().replace(['.', '-'], "_");
    let (cookie, name) = (plain(cookie), plain(name));
    let is_in_name = |c: char| c.is_alphanumeric() || c == '_';
    cookie.match_indices(&name).any(|(at, _)| {
        let before = cookie.get(..at).and_then(|before| before.chars().next_back());
        let after = cookie.get(at + name.len()..).and_then(|after| after.chars().next());
        !before.is_some_and(is_in_name) && !after.is_some_and(is_in_name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_another_scheme() {
        for (value, prefix, stays) in [
            ("Basic YTpi", "Bearer ", true),
            ("basic YTpi", "Bearer ", true),
            ("Digest username=\"a\", uri=\"/a.b\", response=\"00\"", "Bearer ", true),
            ("AWS4-HMAC-SHA256 Credential=AKIA/20261120/eu-central-1/s3/aws4_request, Signature=00", "Bearer ", true),
            ("Basic YTpi, Basic Yzpk", "Bearer ", true),
            ("Basic YTpi, bearer x", "Bearer ", false),
            ("Basic YTpi,e30.e30.", "Bearer ", false),
            ("Basic e30.e30.e30", "Bearer ", false),
            ("Basic YTpi", "Basic ", false),
            ("Basic YTpi", "", false),
            ("Basic YTpi", " ", false),
            ("bearer x", "Bearer ", false),
            ("Bearer\tx", "Bearer ", false),
            ("x", "Bearer ", false),
            ("Token x", "Bearer ", false),
            ("JWT x", "Bearer ", false),
            ("Basics x", "Bearer ", false),
            ("", "Bearer ", false),
        ] {
            assert_eq!(is_of_another_scheme(value, prefix), stays, "{value} {prefix}");
        }
    }

    #[test]
    fn what_is_read_as_the_parameter() {
        for name in ["access_token", "ACCESS_TOKEN", "Access_Token", "access.token", "access token", "access_token[]"] {
            assert_eq!(folded(name), "access_token", "{name}");
        }
        for name in ["access_tokens", "my_access_token", "token", ""] {
            assert_ne!(folded(name), "access_token", "{name}");
        }
    }

    #[test]
    fn what_is_read_as_the_cookie() {
        for cookie in [
            "session=x",
            " session=x",
            "session =x",
            "a=1,session=x",
            "a=1 session=x",
            "a=1\tSession=x",
            "a=\"session=x\"",
            "se%73sion=x",
            "session",
        ] {
            assert!(has_word(cookie, "session"), "{cookie}");
        }
        for cookie in ["sessions=x", "my_session=x", "my-session=x", "session_theme=x", "a=1", ""] {
            assert!(!has_word(cookie, "session"), "{cookie}");
        }
    }
}
