//! How one value of a policy is compared with one attribute of a request.
//!
//! "Only the first/last `*` is special; a `*` in the middle is literal. All but hosts are case-sensitive."

use rkyv::{Archive, Deserialize, Serialize};

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

/// A value of `namespaces`: the regular expression `.*/ns/VALUE/.*` over the whole SPIFFE ID, in which
/// every `*` of the value is `.*` and the rest is literal.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct NamespaceGlob {
    /// `/ns/VALUE/`, cut at each `*`; at least one piece.
    pieces: Vec<String>,
}

impl NamespaceGlob {
    /// Reads a value; `None` when it has a line feed, which the pieces could not be searched for
    /// independently with.
    pub fn parse(value: &str) -> Option<Self> {
        let pieces = format!("/ns/{value}/").split('*').map(str::to_owned).collect();
        (!value.contains('\n')).then_some(Self { pieces })
    }
}

impl ArchivedNamespaceGlob {
    /// Whether the peer principal (without `spiffe://`) matches. "`spiffe://ns/foo/...` counts as
    /// namespace foo": the second slash of the scheme is part of what is looked at.
    pub fn matches(&self, principal: &str) -> bool {
        if principal.contains('\n') {
            return false;
        }
        let uri = format!("spiffe://{principal}");
        let mut rest = uri.as_str();
        // Both ends are open, so each piece may be taken at its first place.
        for piece in self.pieces.iter() {
            match rest.split_once(piece.as_str()) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use rkyv::rancor::Error;
    use rkyv::util::AlignedVec;

    use super::*;

    fn archived<T, R>(value: &T, look: impl FnOnce(&T::Archived) -> R) -> R
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
    fn b5_namespaces() {
        let cases = [
            ("ns1", "cluster.local/ns/ns1/sa/a", true),
            ("ns1", "cluster.local/ns/ns11/sa/a", false),
            ("ns1", "cluster.local/ns/xns1/sa/a", false),
            ("ns*", "cluster.local/ns/ns11/sa/a", true),
            ("*1", "cluster.local/ns/ns1/sa/a", true),
            ("*", "cluster.local/ns/ns1/sa/a", true),
            ("n*1", "cluster.local/ns/ns1/sa/a", true),
            ("n*1*", "cluster.local/ns/ns12/sa/a", true),
            ("*x*", "cluster.local/ns/ns1/sa/a", false),
            // The star takes slashes too, and so finds the end of `/sa/`.
            ("*a", "cluster.local/ns/ns1/sa/a", true),
            ("*b", "cluster.local/ns/ns1/sa/b", false),
            ("*b", "cluster.local/ns/ns1/sa/b/c", true),
            ("n.1", "cluster.local/ns/ns1/sa/a", false),
            ("foo", "ns/foo/sa/a", true),
            ("ns1", "cluster.local/ns/ns1", false),
            ("ns1", "cluster.local/ns/ns1/", true),
            ("ns1", "cluster.local/ns/ns1/\n", false),
        ];
        for (value, principal, expected) in cases {
            archived(&NamespaceGlob::parse(value).unwrap(), |glob| {
                assert_eq!(glob.matches(principal), expected, "{value} {principal:?}");
            });
        }
        assert_eq!(NamespaceGlob::parse("a\nb"), None);
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
