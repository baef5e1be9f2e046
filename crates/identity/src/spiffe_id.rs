//! SPIFFE IDs and trust domains, in the strict grammar of the SPIFFE-ID standard.

use std::fmt;
use std::str::FromStr;

/// The longest trust domain name, in bytes (SPIFFE-ID §2.1).
pub const MAX_TRUST_DOMAIN_BYTES: usize = 255;

/// The longest SPIFFE ID, in bytes (SPIFFE-ID §2.3).
pub const MAX_ID_BYTES: usize = 2048;

const SCHEME: &str = "spiffe://";

/// The name of a trust domain, such as `cluster.local`: `[a-z0-9.-_]`, 1 to 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<TrustDomain, SpiffeIdError> {
        check_trust_domain(text)?;
        Ok(TrustDomain(text.to_owned()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The SPIFFE ID of a workload: `spiffe://<trust domain>/<path>` with a path of at least one segment.
///
/// Stricter than the mesh's own parsers: upper case in the trust domain, percent-encoding, empty or dot
/// segments, a port, user information, a query or a fragment are all refused. An ID without a path names a
/// trust domain, never a workload (X509-SVID §5.2: "leaf certificates ... MUST have a non-root path"), and
/// is refused too.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    text: String,
    /// Where the path begins in `text` (the byte of its first `/`).
    path_start: usize,
}

impl SpiffeId {
    /// The ID of a Kubernetes workload as Istio writes it: `spiffe://TD/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
    ///
    /// # Errors
    /// When a part has a character or a length that the grammar does not allow (a `/` included).
    pub fn for_workload(
        trust_domain: &TrustDomain,
        namespace: &str,
        service_account: &str,
    ) -> Result<SpiffeId, SpiffeIdError> {
        check_segment(namespace)?;
        check_segment(service_account)?;
        format!("{SCHEME}{trust_domain}/ns/{namespace}/sa/{service_account}").parse()
    }

    /// The ID that Istio's principal form (`cluster.local/ns/x/sa/y`) stands for.
    ///
    /// # Errors
    /// When the text is not the rest of a SPIFFE ID.
    pub fn from_principal(principal: &str) -> Result<SpiffeId, SpiffeIdError> {
        format!("{SCHEME}{principal}").parse()
    }

    /// The whole ID, `spiffe://` included.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain's name.
    pub fn trust_domain(&self) -> &str {
        &self.text[SCHEME.len()..self.path_start]
    }

    /// The path with its leading `/`.
    pub fn path(&self) -> &str {
        &self.text[self.path_start..]
    }

    /// Namespace and service account, when the path has Istio's form `/ns/NAMESPACE/sa/SERVICE_ACCOUNT`
    /// and nothing more.
    pub fn workload(&self) -> Option<(&str, &str)> {
        let mut segments = self.path()[1..].split('/');
        match (segments.next(), segments.next(), segments.next(), segments.next(), segments.next()) {
            (Some("ns"), Some(namespace), Some("sa"), Some(account), None) => Some((namespace, account)),
            _ => None,
        }
    }

    /// The ID without `spiffe://`: what Istio calls the principal.
    pub fn principal(&self) -> &str {
        &self.text[SCHEME.len()..]
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<SpiffeId, SpiffeIdError> {
        if text.len() > MAX_ID_BYTES {
            return Err(SpiffeIdError::TooLong(text.len()));
        }
        // The standard's scheme is case-insensitive in theory; every implementation writes it in lower case,
        // and two spellings of one identity are one too many for an access decision.
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeIdError::Scheme)?;
        let slash = rest.find('/').ok_or(SpiffeIdError::NoPath)?;
        let (trust_domain, path) = rest.split_at(slash);
        check_trust_domain(trust_domain)?;
        if path == "/" {
            return Err(SpiffeIdError::NoPath);
        }
        for segment in path[1..].split('/') {
            check_segment(segment)?;
        }
        Ok(SpiffeId { text: text.to_owned(), path_start: SCHEME.len() + slash })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is not a SPIFFE ID or not a trust domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// Over [`MAX_ID_BYTES`].
    #[error("found {0} bytes, expected at most {MAX_ID_BYTES} in a SPIFFE ID")]
    TooLong(usize),
    /// Does not begin with `spiffe://`.
    #[error("found another scheme, expected a SPIFFE ID such as spiffe://cluster.local/ns/x/sa/y")]
    Scheme,
    /// The trust domain is missing.
    #[error("found no trust domain, expected one such as cluster.local")]
    NoTrustDomain,
    /// Over [`MAX_TRUST_DOMAIN_BYTES`].
    #[error("found a trust domain of {0} bytes, expected at most {MAX_TRUST_DOMAIN_BYTES}")]
    TrustDomainTooLong(usize),
    /// A character that a trust domain cannot have (a port, user information and upper case end here).
    #[error("found {0:?} in the trust domain, expected only a-z, 0-9, '.', '-' and '_'")]
    TrustDomainCharacter(char),
    /// No path: it names a trust domain, not a workload.
    #[error("found no path, expected one such as /ns/x/sa/y (an ID without a path names no workload)")]
    NoPath,
    /// An empty path segment, or a `/` at the end.
    #[error("found an empty path segment, expected none (no '//' and no '/' at the end)")]
    EmptySegment,
    /// A `.` or `..` segment.
    #[error("found the path segment {0:?}, expected no dot segments")]
    DotSegment(String),
    /// A character that a path segment cannot have (percent-encoding, query and fragment end here).
    #[error("found {0:?} in the path, expected only a-z, A-Z, 0-9, '.', '-' and '_'")]
    PathCharacter(char),
}

fn check_trust_domain(name: &str) -> Result<(), SpiffeIdError> {
    if name.is_empty() {
        return Err(SpiffeIdError::NoTrustDomain);
    }
    if name.len() > MAX_TRUST_DOMAIN_BYTES {
        return Err(SpiffeIdError::TrustDomainTooLong(name.len()));
    }
    let allowed = |c: &char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_');
    match name.chars().find(|c| !allowed(c)) {
        Some(other) => Err(SpiffeIdError::TrustDomainCharacter(other)),
        None => Ok(()),
    }
}

fn check_segment(segment: &str) -> Result<(), SpiffeIdError> {
    if segment.is_empty() {
        return Err(SpiffeIdError::EmptySegment);
    }
    if matches!(segment, "." | "..") {
        return Err(SpiffeIdError::DotSegment(segment.to_owned()));
    }
    let allowed = |c: &char| matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_');
    match segment.chars().find(|c| !allowed(c)) {
        Some(other) => Err(SpiffeIdError::PathCharacter(other)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_workload_id_has_all_its_parts() {
        let id: SpiffeId = "spiffe://cluster.local/ns/bookinfo/sa/bookinfo-reviews".parse().unwrap();
        assert_eq!(id.trust_domain(), "cluster.local");
        assert_eq!(id.path(), "/ns/bookinfo/sa/bookinfo-reviews");
        assert_eq!(id.workload(), Some(("bookinfo", "bookinfo-reviews")));
        assert_eq!(id.principal(), "cluster.local/ns/bookinfo/sa/bookinfo-reviews");
        assert_eq!(SpiffeId::from_principal(id.principal()).unwrap(), id);
        let domain = id.trust_domain().parse().unwrap();
        assert_eq!(SpiffeId::for_workload(&domain, "bookinfo", "bookinfo-reviews").unwrap(), id);
    }

    #[test]
    fn only_the_exact_istio_form_names_a_workload() {
        for (text, expected) in [
            ("spiffe://td/ns/a/sa/b", Some(("a", "b"))),
            ("spiffe://td/ns/a/sa/b/c", None),
            ("spiffe://td/ns/a/sa", None),
            ("spiffe://td/NS/a/sa/b", None),
            ("spiffe://td/billing/payments", None),
        ] {
            let id: SpiffeId = text.parse().unwrap();
            assert_eq!(id.workload(), expected, "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        use SpiffeIdError::*;
        for (text, expected) in [
            ("", Scheme),
            ("https://td/a", Scheme),
            ("SPIFFE://td/a", Scheme),
            ("spiffe:/td/a", Scheme),
            (" spiffe://td/a", Scheme),
            ("spiffe://", NoPath),
            ("spiffe:///a", NoTrustDomain),
            ("spiffe://td", NoPath),
            ("spiffe://td/", NoPath),
            ("spiffe://TD/a", TrustDomainCharacter('T')),
            ("spiffe://td:80/a", TrustDomainCharacter(':')),
            ("spiffe://me@td/a", TrustDomainCharacter('@')),
            ("spiffe://td?x/a", TrustDomainCharacter('?')),
            ("spiffe://tⅾ/a", TrustDomainCharacter('ⅾ')),
            ("spiffe://td//a", EmptySegment),
            ("spiffe://td/a//b", EmptySegment),
            ("spiffe://td/a/", EmptySegment),
            ("spiffe://td/./a", DotSegment(".".into())),
            ("spiffe://td/a/..", DotSegment("..".into())),
            ("spiffe://td/a%2Fb", PathCharacter('%')),
            ("spiffe://td/a?b", PathCharacter('?')),
            ("spiffe://td/a#b", PathCharacter('#')),
            ("spiffe://td/a b", PathCharacter(' ')),
            ("spiffe://td/a\0", PathCharacter('\0')),
            ("spiffe://td/rôle", PathCharacter('ô')),
        ] {
            assert_eq!(text.parse::<SpiffeId>(), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn the_lengths_are_exact() {
        let domain = "d".repeat(MAX_TRUST_DOMAIN_BYTES);
        assert!(format!("spiffe://{domain}/a").parse::<SpiffeId>().is_ok());
        assert_eq!(format!("spiffe://{domain}d/a").parse::<SpiffeId>(), Err(SpiffeIdError::TrustDomainTooLong(256)));
        let path = "a".repeat(MAX_ID_BYTES - "spiffe://td/".len());
        assert!(format!("spiffe://td/{path}").parse::<SpiffeId>().is_ok());
        assert_eq!(format!("spiffe://td/{path}a").parse::<SpiffeId>(), Err(SpiffeIdError::TooLong(MAX_ID_BYTES + 1)));
    }

    #[test]
    fn a_slash_cannot_be_smuggled_into_a_workload_name() {
        let domain: TrustDomain = "cluster.local".parse().unwrap();
        assert_eq!(SpiffeId::for_workload(&domain, "a/sa/admin", "b"), Err(SpiffeIdError::PathCharacter('/')));
        assert_eq!(SpiffeId::for_workload(&domain, "a", ""), Err(SpiffeIdError::EmptySegment));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_parses_prints_itself(text in "spiffe://[a-z0-9._-]{1,20}(/[a-zA-Z0-9._-]{1,10}){1,5}") {
            if let Ok(id) = text.parse::<SpiffeId>() {
                prop_assert_eq!(id.to_string(), text.clone());
                let rebuilt = format!("spiffe://{}{}", id.trust_domain(), id.path());
                prop_assert_eq!(rebuilt, text);
            } else {
                prop_assert!(text.split('/').any(|s| s == "." || s == ".."));
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>()) {
            let _ = text.parse::<SpiffeId>();
            let _ = format!("spiffe://{text}").parse::<SpiffeId>();
        }
    }
}
