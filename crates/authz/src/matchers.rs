//! How one value of a policy is compared with one attribute of a request.
//!
//! "Only the first/last `*` is special; a `*` in the middle is literal. All but hosts are case-sensitive."

mod address;
mod peer;
mod template;

use std::fmt;

use rkyv::{Archive, Deserialize, Serialize};

pub use self::address::{ArchivedIpRange, IpRange};
pub use self::peer::{
    ArchivedNamespaceGlob, ArchivedServiceAccount, ArchivedTrustDomain, NamespaceGlob, ServiceAccount, TrustDomain,
};
pub use self::template::{ArchivedPathTemplate, InvalidTemplate, PathTemplate};
use crate::claims::Json;

/// What a value of a policy says, after its leading or trailing `*` was read.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Pattern {
    /// `*`. What it demands depends on the attribute: see the functions that match.
    Any,
    /// No `*` at either end.
    Exact(String),
    /// `x*`.
    Prefix(String),
    /// `*x`.
    Suffix(String),
}

impl Pattern {
    /// Reads a value of a policy. As in Istio a leading `*` is looked at before a trailing one, so that
    /// `*x*` is the suffix `x*`.
    pub fn parse(value: &str) -> Self {
        if value == "*" {
            Self::Any
        } else if let Some(suffix) = value.strip_prefix('*') {
            Self::Suffix(suffix.to_owned())
        } else if let Some(prefix) = value.strip_suffix('*') {
            Self::Prefix(prefix.to_owned())
        } else {
            Self::Exact(value.to_owned())
        }
    }
}

impl ArchivedPattern {
    /// StringMatcher, for paths, claims, audiences and presenters: `*` is the regular expression `.+`,
    /// which needs a value without a line feed.
    pub fn matches_string(&self, value: &str) -> bool {
        match self {
            Self::Any => !value.is_empty() && !value.contains('\n'),
            _ => self.matches_header(value),
        }
    }

    /// HeaderMatcher, for methods and headers that are present: `*` is presence, and an empty value is
    /// present.
    pub fn matches_header(&self, value: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => value == exact.as_str(),
            Self::Prefix(prefix) => value.starts_with(prefix.as_str()),
            Self::Suffix(suffix) => value.ends_with(suffix.as_str()),
        }
    }

    /// HostMatcher, for `:authority`: like a header, but ignoring case. No port is stripped.
    pub fn matches_host(&self, value: &str) -> bool {
        let value = value.as_bytes();
        match self {
            Self::Any => true,
            Self::Exact(exact) => value.eq_ignore_ascii_case(exact.as_bytes()),
            Self::Prefix(prefix) => {
                value.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
            }
            Self::Suffix(suffix) => value
                .len()
                .checked_sub(suffix.len())
                .and_then(|at| value.get(at..))
                .is_some_and(|end| end.eq_ignore_ascii_case(suffix.as_bytes())),
        }
    }

    /// Peer principals, without `spiffe://` on both sides: Istio puts the prefix in front of each value
    /// and makes `*x` the regular expression `spiffe://.*x`, whose `.` takes no line feed.
    pub fn matches_principal(&self, principal: &str) -> bool {
        match self {
            // `.+` over the whole URI.
            Self::Any => !principal.contains('\n'),
            Self::Suffix(suffix) => principal.strip_suffix(suffix.as_str()).is_some_and(|rest| !rest.contains('\n')),
            _ => self.matches_header(principal),
        }
    }
}

/// A value of `requestPrincipals`: two claims, both of which must match. A claim that is missing or not a
/// string matches nothing.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RequestPrincipal {
    /// Compared with `iss`.
    pub issuer: Pattern,
    /// Compared with `sub`.
    pub subject: Pattern,
}

impl RequestPrincipal {
    /// Reads a value: Istio splits it at the last `/`, "since issuer may be an URL".
    pub fn parse(value: &str) -> Self {
        let exact = |text: &str| Pattern::Exact(text.to_owned());
        let (issuer, subject) = match value.rsplit_once('/') {
            Some((issuer, subject)) => (issuer, Some(subject)),
            None => (value, None),
        };
        let (issuer, subject) = if value == "*" {
            (Pattern::Any, Pattern::Any)
        } else if let Some(suffix) = value.strip_prefix('*') {
            match subject {
                Some(subject) if issuer == "*" => (Pattern::Any, exact(subject)),
                Some(subject) => {
                    (Pattern::Suffix(issuer.strip_prefix('*').unwrap_or(issuer).to_owned()), exact(subject))
                }
                None => (Pattern::Any, Pattern::Suffix(suffix.to_owned())),
            }
        } else if let Some(prefix) = value.strip_suffix('*') {
            match subject {
                Some("*") => (exact(issuer), Pattern::Any),
                Some(subject) => {
                    (exact(issuer), Pattern::Prefix(subject.strip_suffix('*').unwrap_or(subject).to_owned()))
                }
                None => (Pattern::Prefix(prefix.to_owned()), Pattern::Any),
            }
        } else {
            (exact(issuer), exact(subject.unwrap_or_default()))
        };
        Self { issuer, subject }
    }
}

impl ArchivedRequestPrincipal {
    /// Whether both claims are there and match.
    pub fn matches(&self, issuer: Option<&str>, subject: Option<&str>) -> bool {
        issuer.is_some_and(|issuer| self.issuer.matches_string(issuer))
            && subject.is_some_and(|subject| self.subject.matches_string(subject))
    }
}

/// A value of `paths`.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum PathPattern {
    /// A text, with a `*` at one of its ends or without.
    Text(Pattern),
    /// A value with `{*}` or `{**}`.
    Template(PathTemplate),
}

impl PathPattern {
    /// Reads a value.
    ///
    /// # Errors
    /// [`InvalidTemplate`] for a value with braces that Istio refuses, or that Envoy does.
    pub fn parse(value: &str) -> Result<Self, InvalidTemplate> {
        match value.contains(['{', '}']) {
            true => PathTemplate::parse(value).map(Self::Template),
            false => Ok(Self::Text(Pattern::parse(value))),
        }
    }
}

impl ArchivedPathPattern {
    /// Whether `path`, without query and fragment, matches.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Text(pattern) => pattern.matches_string(path),
            Self::Template(template) => template.matches(path),
        }
    }
}

/// A value of a condition on dynamic metadata.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct MetadataPattern {
    /// Whether the field must be a list with an element that matches, not a string that does.
    pub list: bool,
    /// What a string must be.
    pub pattern: Pattern,
}

impl MetadataPattern {
    /// Reads a value: "if value is of format [v], create a list matcher; else, if value is of format v, create a
    /// string matcher". Istio takes all brackets off at both ends.
    pub fn parse(value: &str) -> Self {
        let list = value.starts_with('[') && value.ends_with(']');
        let text = if list { value.trim_matches(['[', ']']) } else { value };
        Self { list, pattern: Pattern::parse(text) }
    }
}

impl ArchivedMetadataPattern {
    /// Whether a field with this value matches.
    pub fn matches(&self, value: &Json) -> bool {
        match value {
            Json::String(text) => !self.list && self.pattern.matches_string(text),
            Json::List(list) => {
                self.list && list.iter().filter_map(Json::as_str).any(|text| self.pattern.matches_string(text))
            }
            _ => false,
        }
    }
}

impl fmt::Display for ArchivedPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(exact) => f.write_str(exact),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
        }
    }
}

impl fmt::Display for ArchivedPathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(pattern) => pattern.fmt(f),
            Self::Template(template) => template.fmt(f),
        }
    }
}

impl fmt::Display for ArchivedMetadataPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.list { write!(f, "[{}]", self.pattern) } else { self.pattern.fmt(f) }
    }
}

impl fmt::Display for ArchivedRequestPrincipal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ArchivedPattern::{Any, Exact};
        match (&self.issuer, &self.subject) {
            (Any, Any) => f.write_str("*"),
            // Without a slash.
            (Any, subject @ ArchivedPattern::Suffix(_)) => subject.fmt(f),
            (issuer @ ArchivedPattern::Prefix(_), Any) => issuer.fmt(f),
            (issuer, Exact(none)) if none.is_empty() && matches!(issuer, Exact(_)) => issuer.fmt(f),
            (issuer, subject) => write!(f, "{issuer}/{subject}"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use rkyv::rancor::Error;
    use rkyv::util::AlignedVec;

    use super::*;

    pub(crate) fn archived<T, R>(value: &T, look: impl FnOnce(&T::Archived) -> R) -> R
    where
        T: for<'a> Serialize<rkyv::api::high::HighSerializer<AlignedVec, rkyv::ser::allocator::ArenaHandle<'a>, Error>>,
        T::Archived: rkyv::Portable + for<'a> rkyv::bytecheck::CheckBytes<rkyv::api::high::HighValidator<'a, Error>>,
    {
        let bytes = rkyv::to_bytes::<Error>(value).unwrap();
        look(rkyv::access::<T::Archived, Error>(&bytes).unwrap())
    }

    #[test]
    fn b4_string_header_and_host() {
        // value, attribute, as a string, as a header, as a host
        let cases = [
            ("*", "", false, true, true),
            ("*", "x", true, true, true),
            ("*", "a\nb", false, true, true),
            ("*x", "x", true, true, true),
            ("*x", "ax", true, true, true),
            ("*x", "aX", false, false, true),
            ("*x", "xa", false, false, false),
            ("x*", "x", true, true, true),
            ("x*", "xa", true, true, true),
            ("x*", "Xa", false, false, true),
            ("x*", "ax", false, false, false),
            ("x*", "", false, false, false),
            ("xyz", "xyz", true, true, true),
            ("xyz", "XYZ", false, false, true),
            ("xyz", "xyza", false, false, false),
            ("/a/*/b", "/a/*/b", true, true, true),
            ("/a/*/b", "/a/x/b", false, false, false),
            ("*x*", "ax*", true, true, true),
            ("*x*", "axb", false, false, false),
            ("**", "a*", true, true, true),
            ("**", "a", false, false, false),
            ("example.com", "example.com:8080", false, false, false),
            ("*.com", "é.com", true, true, true),
            ("é*", "ébc", true, true, true),
        ];
        for (value, attribute, string, header, host) in cases {
            archived(&Pattern::parse(value), |pattern| {
                assert_eq!(pattern.matches_string(attribute), string, "{value} {attribute:?} string");
                assert_eq!(pattern.matches_header(attribute), header, "{value} {attribute:?} header");
                assert_eq!(pattern.matches_host(attribute), host, "{value} {attribute:?} host");
            });
        }
    }

    #[test]
    fn b5_principals() {
        let a = "cluster.local/ns/ns1/sa/a";
        let cases = [
            ("*", a, true),
            ("*", "x\ny", false),
            (a, a, true),
            ("cluster.local/ns/ns1/sa/b", a, false),
            ("CLUSTER.local/ns/ns1/sa/a", a, false),
            ("cluster.local/ns/ns1/*", a, true),
            ("cluster.local/ns/ns2/*", a, false),
            ("*/sa/a", a, true),
            ("*/sa/b", a, false),
            ("*/sa/a", "x\n/sa/a", false),
            ("spiffe://cluster.local/ns/ns1/sa/a", a, false),
        ];
        for (value, principal, expected) in cases {
            archived(&Pattern::parse(value), |pattern| {
                assert_eq!(pattern.matches_principal(principal), expected, "{value} {principal:?}");
            });
        }
    }

    #[test]
    fn b5_request_principals_table() {
        use Pattern::{Any, Exact, Prefix, Suffix};
        let text = |text: &str| text.to_owned();
        let cases = [
            ("*", Any, Any),
            ("*/s", Any, Exact(text("s"))),
            ("*a/s", Suffix(text("a")), Exact(text("s"))),
            ("*s", Any, Suffix(text("s"))),
            ("i/*", Exact(text("i")), Any),
            ("i/p*", Exact(text("i")), Prefix(text("p"))),
            ("i*", Prefix(text("i")), Any),
            ("i/s", Exact(text("i")), Exact(text("s"))),
            ("i", Exact(text("i")), Exact(text(""))),
            // The quirks: split at the last slash.
            ("https://example.com*", Exact(text("https:/")), Prefix(text("example.com"))),
            ("https://example.com/*", Exact(text("https://example.com")), Any),
            ("i/a/b", Exact(text("i/a")), Exact(text("b"))),
            ("*/", Any, Exact(text(""))),
            ("i/*x", Exact(text("i")), Exact(text("*x"))),
        ];
        for (value, issuer, subject) in cases {
            assert_eq!(RequestPrincipal::parse(value), RequestPrincipal { issuer, subject }, "{value}");
        }
    }

    #[test]
    fn b5_request_principals_need_both_claims() {
        let cases = [
            ("*", Some("i"), Some("s"), true),
            ("*", Some("i"), None, false),
            ("*", None, Some("s"), false),
            ("*", Some(""), Some("s"), false),
            ("*", Some("i"), Some(""), false),
            ("*", Some("i\n"), Some("s"), false),
            ("*", Some("i"), Some("s\n"), false),
            ("i", Some("i"), Some(""), true),
            ("i", Some("i"), None, false),
            ("i/s", Some("i"), Some("s"), true),
            ("i/s", Some("i"), Some("S"), false),
            ("i/a/b", Some("i"), Some("a/b"), false),
        ];
        for (value, issuer, subject, expected) in cases {
            archived(&RequestPrincipal::parse(value), |principal| {
                assert_eq!(principal.matches(issuer, subject), expected, "{value} {issuer:?} {subject:?}");
            });
        }
    }
}
