//! Parts of the peer's identity. Istio writes them as regular expressions over the whole SPIFFE ID; here each is looked
//! for in the principal, which is the ID without `spiffe://`.
//!
//! In these expressions `.` takes every character but a line feed, and nothing else may be in front or behind.

use std::fmt;

use rkyv::{Archive, Deserialize, Serialize};

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
    /// Whether the peer principal matches. "`spiffe://ns/foo/...` counts as namespace foo": the second slash of the
    /// scheme is part of what is looked at.
    pub fn matches(&self, principal: &str) -> bool {
        if principal.contains('\n') {
            return false;
        }
        let mut pieces = self.pieces.iter();
        let Some(first) = pieces.next() else { return false };
        let at_the_scheme = first.strip_prefix('/').and_then(|first| principal.strip_prefix(first));
        let after = at_the_scheme.or_else(|| principal.split_once(first.as_str()).map(|(_, after)| after));
        let Some(mut rest) = after else { return false };
        // Both ends are open, so each piece may be taken at its first place.
        for piece in pieces {
            match rest.split_once(piece.as_str()) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        true
    }
}

impl fmt::Display for ArchivedNamespaceGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pieces: Vec<&str> = self.pieces.iter().map(|piece| piece.as_str()).collect();
        let whole = pieces.join("*");
        f.write_str(whole.strip_prefix("/ns/").and_then(|value| value.strip_suffix('/')).unwrap_or(&whole))
    }
}

/// A value of `serviceAccounts`: the regular expression `spiffe://.+/ns/NAMESPACE/(.+/|)sa/NAME(/.+)?`.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ServiceAccount {
    /// `/ns/NAMESPACE/`.
    namespace: String,
    /// `/sa/NAME`.
    name: String,
}

impl ServiceAccount {
    /// Reads a value, `NAMESPACE/NAME` or, in the namespace `own` of the policy, `NAME`; `None` when it has a line
    /// feed.
    pub fn parse(value: &str, own: &str) -> Option<Self> {
        let (namespace, name) = value.split_once('/').unwrap_or((own, value));
        let parsed = Self { namespace: format!("/ns/{namespace}/"), name: format!("/sa/{name}") };
        (!value.contains('\n') && !own.contains('\n')).then_some(parsed)
    }
}

impl ArchivedServiceAccount {
    /// Whether the peer principal matches.
    pub fn matches(&self, principal: &str) -> bool {
        if principal.contains('\n') {
            return false;
        }
        // `.+` needs one character at least. The first place will do: were there a later one, the text between the two
        // would be matched by `.+/` as well.
        let first = principal.chars().next().map_or(0, char::len_utf8);
        let after = principal.get(first..).and_then(|rest| rest.split_once(self.namespace.as_str()));
        let Some((_, rest)) = after else { return false };
        let ends = |tail: &str| tail.is_empty() || (tail.starts_with('/') && tail.len() > 1);
        let name = self.name.as_str();
        if name.strip_prefix('/').and_then(|name| rest.strip_prefix(name)).is_some_and(ends) {
            return true;
        }
        // `.+/`: one character at least in front of the slash.
        rest.match_indices('/')
            .any(|(at, _)| at > 0 && rest.get(at..).and_then(|rest| rest.strip_prefix(name)).is_some_and(ends))
    }
}

impl fmt::Display for ArchivedServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespace = self.namespace.strip_prefix("/ns/").unwrap_or(&self.namespace);
        write!(f, "{namespace}{}", self.name.strip_prefix("/sa/").unwrap_or(&self.name))
    }
}

/// A value of `trustDomains`.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum TrustDomain {
    /// `*`: any peer with a SPIFFE ID.
    Any,
    /// No `*`: the ID begins with `spiffe://VALUE/`. This is `VALUE/`.
    Exact(String),
    /// With a `*`, of which the first counts: the regular expression `spiffe://HEAD[^/]*TAIL/.*`.
    Glob {
        /// In front of the `*`.
        head: String,
        /// Behind it, and the slash.
        tail: String,
    },
}

impl TrustDomain {
    /// Reads a value.
    pub fn parse(value: &str) -> Self {
        match value.split_once('*') {
            None => Self::Exact(format!("{value}/")),
            Some(("", "")) => Self::Any,
            Some((head, tail)) => Self::Glob { head: head.to_owned(), tail: format!("{tail}/") },
        }
    }
}

impl ArchivedTrustDomain {
    /// Whether the peer principal matches.
    pub fn matches(&self, principal: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => principal.starts_with(exact.as_str()),
            Self::Glob { head, tail } => {
                let Some(rest) = principal.strip_prefix(head.as_str()) else { return false };
                // `[^/]*` takes no slash, so the first slash of the one is the first slash of the other. It does take
                // line feeds; `.*` does not.
                let (Some(slash), Some(own)) = (rest.find('/'), tail.find('/')) else { return false };
                let end = slash.checked_sub(own).and_then(|at| rest.get(at..));
                end.and_then(|end| end.strip_prefix(tail.as_str())).is_some_and(|after| !after.contains('\n'))
            }
        }
    }
}

impl fmt::Display for ArchivedTrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(exact) => f.write_str(exact.strip_suffix('/').unwrap_or(exact)),
            Self::Glob { head, tail } => write!(f, "{head}*{}", tail.strip_suffix('/').unwrap_or(tail)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::matchers::tests::archived;

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
    fn b5_service_accounts() {
        let cases = [
            ("a", "cluster.local/ns/ns1/sa/a", true),
            ("ns1/a", "cluster.local/ns/ns1/sa/a", true),
            ("ns2/a", "cluster.local/ns/ns1/sa/a", false),
            ("b", "cluster.local/ns/ns1/sa/a", false),
            ("a", "cluster.local/ns/ns1/sa/ab", false),
            ("a", "cluster.local/ns/ns1/sa/a/", false),
            ("a", "cluster.local/ns/ns1/sa/a/b", true),
            ("a", "cluster.local/ns/ns1/x/y/sa/a/b", true),
            ("a", "cluster.local/x/ns/ns1/sa/a", true),
            ("a", "cluster.local/ns/ns1/sa/b/sa/a", true),
            ("a", "cluster.local/ns/ns1//sa/a", false),
            ("a", "cluster.local/ns/ns1/x/sa/a", true),
            ("a", "cluster.local/ns/ns1/xsa/a", false),
            ("a", "/ns/ns1/sa/a", false),
            ("a", "é/ns/ns1/sa/a", true),
            ("a", "d/ns/ns1/é/sa/a/é", true),
            ("a", "d/ns/ns1/ns/ns1/sa/a", true),
            ("a", "d/ns/ns1/x/sa/sa/a", true),
            ("a", "d\n/ns/ns1/sa/a", false),
            ("a", "d/ns/ns1/sa/a/\n", false),
            ("a.b", "d/ns/ns1/sa/axb", false),
            // `.+` takes both: the first `/ns/ns1/` has to leave one character in front.
            ("a", "/ns/ns1/x/ns/ns1/sa/a", true),
        ];
        for (value, principal, expected) in cases {
            archived(&ServiceAccount::parse(value, "ns1").unwrap(), |account| {
                assert_eq!(account.matches(principal), expected, "{value} {principal:?}");
            });
        }
        assert_eq!(ServiceAccount::parse("a\nb", "ns1"), None);
        archived(&ServiceAccount::parse("a", "ns1").unwrap(), |account| assert_eq!(account.to_string(), "ns1/a"));
    }

    #[test]
    fn b5_trust_domains() {
        let cases = [
            ("*", "cluster.local/ns/ns1/sa/a", true),
            ("*", "x\ny", true),
            ("cluster.local", "cluster.local/ns/ns1/sa/a", true),
            ("cluster.local", "cluster.local/\n", true),
            ("cluster.local", "cluster.local", false),
            ("cluster.local", "cluster.locals/ns/ns1/sa/a", false),
            ("cluster.local", "CLUSTER.local/ns/ns1/sa/a", false),
            ("cluster*", "cluster.local/ns/ns1/sa/a", true),
            ("cluster*", "cluster/ns/ns1/sa/a", true),
            ("cluster*", "cluste/ns/ns1/sa/a", false),
            ("cluster*", "cluster.local/\n", false),
            ("cluster*", "cluster\n/ns/ns1/sa/a", true),
            ("*local", "cluster.local/ns/ns1/sa/a", true),
            ("*local", "cluster.org/ns/ns1/sa/local/", false),
            ("*local", "local/x", true),
            ("*local", "ocal/x", false),
            ("c*l", "cluster.local/ns", true),
            ("c*l", "cl/ns", true),
            ("c*l", "c/l/ns", false),
            ("cl*l", "cl/ns", false),
            // Only the first star counts.
            ("*a*", "xa*/ns", true),
            ("*a*", "xab/ns", false),
            // A condition may have a slash in its value.
            ("*x/ns", "ax/ns/y", true),
            ("*x/ns", "ax/n/y", false),
            ("é*", "éx/ns", true),
            ("*é", "xé/ns", true),
        ];
        for (value, principal, expected) in cases {
            archived(&TrustDomain::parse(value), |domain| {
                assert_eq!(domain.matches(principal), expected, "{value} {principal:?}");
                assert_eq!(domain.to_string(), value);
            });
        }
    }
}
