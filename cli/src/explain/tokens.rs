//! The credentials that a request carries, described and never shown.

use authz::{ApiKey, Json, Request};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::text;

/// The most tokens of a request that are described.
const MAX_TOKENS: usize = 8;

/// A credential as it was presented. Nothing in it is proven.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Presented {
    /// `header authorization`, `query parameter access_token`, `cookie session`.
    pub(crate) place: String,
    /// What stands in front of the token in its header, such as `Bearer`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) scheme: String,
    /// What it is.
    #[serde(flatten)]
    pub(crate) kind: Kind,
    /// Where it stands in the request.
    #[serde(skip)]
    pub(crate) at: At,
}

/// Where in a request a credential stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum At {
    /// The header line of this index.
    Header(usize),
    /// In the `cookie` line of this index, the pair of that one.
    Cookie(usize, usize),
    /// The pair of this index in the query.
    Query(usize),
}

impl Default for At {
    fn default() -> Self {
        Self::Header(0)
    }
}

/// What a credential is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A token that can be read.
    Token(Box<Token>),
    /// An API key of ours, by its id, which is no secret.
    ApiKey { id: String, environment: String },
    /// It begins as an API key of ours does, and is none.
    BrokenApiKey { why: String },
    /// Neither.
    #[default]
    Other,
}

/// What a token says about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Token {
    pub(crate) alg: Option<String>,
    pub(crate) kid: Option<String>,
    pub(crate) iss: Option<String>,
    pub(crate) sub: Option<String>,
    pub(crate) aud: Vec<String>,
    pub(crate) client_id: Option<String>,
    pub(crate) scope: Option<String>,
    pub(crate) exp: Option<u64>,
    pub(crate) nbf: Option<u64>,
    /// The names of all claims.
    pub(crate) claims: Vec<String>,
}

impl Presented {
    /// The token, if it is one.
    pub(crate) fn token(&self) -> Option<&Token> {
        match &self.kind {
            Kind::Token(token) => Some(token),
            _ => None,
        }
    }

    /// One line about it.
    pub(crate) fn describe(&self, now: u64) -> String {
        let what = match &self.kind {
            Kind::Token(token) => token.describe(now),
            Kind::ApiKey { id, environment } => format!("API key {}, environment {environment}", text::plain(id)),
            Kind::BrokenApiKey { why } => format!("what begins like an API key of ours and is none: {why}"),
            Kind::Other if self.scheme.is_empty() => "neither a token nor an API key of ours".to_owned(),
            Kind::Other => format!("{}, which is not followed by a token", text::value(&self.scheme)),
        };
        format!("{}: {what}", self.place)
    }
}

impl Token {
    fn describe(&self, now: u64) -> String {
        let mut parts = Vec::new();
        let mut say = |name: &str, value: &Option<String>| {
            parts.extend(value.as_ref().map(|value| format!("{name} {}", text::value(value))));
        };
        say("iss", &self.iss);
        say("sub", &self.sub);
        say("client", &self.client_id);
        say("scope", &self.scope);
        if !self.aud.is_empty() {
            parts.push(format!("aud {}", text::values(&self.aud, 4)));
        }
        parts.push(match self.exp {
            Some(exp) if exp > now => format!("expires {}", text::distance(exp, now)),
            Some(exp) => format!("expired {} ({})", text::distance(exp, now), text::instant(exp)),
            None => "no exp".to_owned(),
        });
        let key = (self.alg.as_deref().unwrap_or("no alg"), self.kid.as_deref());
        parts.push(match key {
            (alg, Some(kid)) => format!("signed {} with kid {}", text::value(alg), text::value(kid)),
            (alg, None) => format!("signed {} without kid", text::value(alg)),
        });
        parts.join(", ")
    }
}

/// Every credential that `request` carries, whether some rule looks at it or not. `also` names further headers that hold
/// one.
pub(crate) fn presented(request: &Request, also: &[String]) -> Vec<Presented> {
    let mut all = Vec::new();
    for (line, (name, value)) in request.headers.iter().enumerate() {
        if name == "cookie" {
            for (index, pair) in value.split(';').enumerate() {
                let Some((name, value)) = pair.trim().split_once('=') else { continue };
                let at = At::Cookie(line, index);
                all.extend(recognised(format!("cookie {}", text::plain(name)), "", value, at));
            }
            continue;
        }
        let (scheme, rest) = value.split_once(' ').unwrap_or(("", value));
        let place = format!("header {}", text::plain(name));
        let at = At::Header(line);
        match recognised(place.clone(), scheme, rest.trim(), at) {
            Some(found) => all.push(found),
            // Something is here that a rule will look at, or that its sender takes for a credential.
            None if name == "authorization" || also.iter().any(|other| other.eq_ignore_ascii_case(name)) => {
                all.push(Presented { place, scheme: known_scheme(scheme), kind: Kind::Other, at });
            }
            None => {}
        }
    }
    let query = request.path.split_once('?').map_or("", |(_, query)| query);
    for (index, pair) in query.split('&').enumerate() {
        let Some((name, value)) = pair.split_once('=') else { continue };
        all.extend(recognised(format!("query parameter {}", text::plain(name)), "", value, At::Query(index)));
    }
    all.truncate(MAX_TOKENS);
    all
}

fn recognised(place: String, scheme: &str, text: &str, at: At) -> Option<Presented> {
    let kind = match ApiKey::parse(text) {
        Ok(key) => Kind::ApiKey { id: key.id().to_owned(), environment: key.environment().to_owned() },
        // The sentence quotes nothing of the key.
        Err(why) if text.starts_with("cwk_") => Kind::BrokenApiKey { why: why.to_string() },
        Err(_) => Kind::Token(Box::new(read(text)?)),
    };
    Some(Presented { place, scheme: known_scheme(scheme), kind, at })
}

/// `request` without the credential at `at`, and the credential's text without its scheme.
pub(crate) fn taken(request: &Request, at: At) -> Option<(Request, String)> {
    let mut rest = request.clone();
    let text = match at {
        At::Header(line) => {
            let (_, value) = (line < rest.headers.len()).then(|| rest.headers.remove(line))?;
            value.split_once(' ').map_or(value.as_str(), |(_, text)| text).trim().to_owned()
        }
        At::Cookie(line, index) => {
            let (_, value) = rest.headers.get_mut(line)?;
            let (others, text) = without(value, ";", index)?;
            *value = others.trim().to_owned();
            text
        }
        At::Query(index) => {
            let (path, query) = request.path.split_once('?')?;
            let (others, text) = without(query, "&", index)?;
            rest.path = if others.is_empty() { path.to_owned() } else { format!("{path}?{others}") };
            text
        }
    };
    Some((rest, text))
}

/// Pairs without the one of this index, and its value.
fn without(pairs: &str, separator: &str, index: usize) -> Option<(String, String)> {
    let mut all: Vec<&str> = pairs.split(separator).collect();
    let (_, value) = (index < all.len()).then(|| all.remove(index))?.trim().split_once('=')?;
    Some((all.join(separator), value.to_owned()))
}

/// A scheme is one of a few words; whatever else stands in front of a space may be a part of the credential.
fn known_scheme(word: &str) -> String {
    let known = ["basic", "bearer", "digest", "dpop", "jwt", "negotiate", "token", "aws4-hmac-sha256"];
    if known.contains(&word.to_ascii_lowercase().as_str()) { word.to_owned() } else { String::new() }
}

/// Reads a token as far as it can be read. Whether it is a good one is the gate's to say.
fn read(token: &str) -> Option<Token> {
    if token.len() > 64 * 1024 {
        return None;
    }
    let mut parts = token.split('.');
    let header = object(parts.next()?)?;
    let claims = object(parts.next()?)?;
    let text = |json: &Json, name: &str| json.get(name).and_then(Json::as_str).map(str::to_owned);
    let seconds = |name: &str| match claims.get(name) {
        Some(Json::Unsigned(seconds)) => Some(*seconds),
        // The part behind the point is no matter here.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Some(Json::Float(seconds)) if *seconds >= 0.0 => Some(*seconds as u64),
        _ => None,
    };
    let aud = match claims.get("aud") {
        Some(Json::String(one)) => vec![one.clone()],
        Some(Json::List(list)) => list.iter().filter_map(Json::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    Some(Token {
        alg: text(&header, "alg"),
        kid: text(&header, "kid"),
        iss: text(&claims, "iss"),
        sub: text(&claims, "sub"),
        aud,
        client_id: text(&claims, "client_id").or_else(|| text(&claims, "azp")),
        scope: text(&claims, "scope"),
        exp: seconds("exp"),
        nbf: seconds("nbf"),
        claims: match &claims {
            Json::Object(members) => members.iter().map(|(name, _)| name.clone()).collect(),
            _ => Vec::new(),
        },
    })
}

fn object(part: &str) -> Option<Json> {
    let bytes = URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok()?;
    match Json::parse(&bytes, authz::claims::TOKEN_LIMITS) {
        Ok(json @ Json::Object(_)) => Some(json),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A token with `claims`, signed by nobody.
    pub(crate) fn unsigned(claims: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", part(r#"{"alg":"ES256","kid":"k1"}"#), part(claims), part("signature"))
    }

    fn request(path: &str, headers: &[(&str, &str)]) -> Request {
        Request {
            path: path.to_owned(),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..Request::default()
        }
    }

    #[test]
    fn a_token_is_described_and_never_shown() {
        let token = unsigned(r#"{"iss":"https://i.example","sub":"s","aud":["a","b"],"scope":"x y","exp":1000}"#);
        let bearer = format!("Bearer {token}");
        let found = presented(&request(&format!("/?access_token={token}"), &[("authorization", &bearer)]), &[]);
        let lines: Vec<String> = found.iter().map(|found| found.describe(940)).collect();
        let words = "iss https://i.example, sub s, scope \"x y\", aud a, b, expires in 1 min, signed ES256 with kid k1";
        assert_eq!(lines, [format!("header authorization: {words}"), format!("query parameter access_token: {words}")]);
        assert_eq!(found.first().map(|found| found.scheme.as_str()), Some("Bearer"));
    }

    #[test]
    fn what_is_no_token_is_said_to_be_none() {
        let headers = [("authorization", "Basic dXNlcjpwYXNz"), ("x-key", "hunter2"), ("accept", "*/*")];
        let found = presented(&request("/", &headers), &["x-key".to_owned()]);
        let lines: Vec<String> = found.iter().map(|found| found.describe(0)).collect();
        assert_eq!(
            lines,
            [
                "header authorization: Basic, which is not followed by a token",
                "header x-key: neither a token nor an API key of ours"
            ]
        );
    }
}
