//! The headers that say who calls: nobody but the sidecar sets them.

use std::fmt::Write;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::tls::Proven;

/// The header in which Envoy says who has proven what to it.
pub(crate) const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Headers that begin like this say who the caller is.
pub(crate) const IDENTITY_PREFIX: &str = "x-causeway-";

/// The verified caller, `ISSUER/SUBJECT`.
pub(crate) const PRINCIPAL: HeaderName = HeaderName::from_static("x-causeway-principal");

/// The verified caller's OAuth client.
pub(crate) const CLIENT_ID: HeaderName = HeaderName::from_static("x-causeway-client-id");

/// Takes out every header that only we set, and says who has proven what.
pub(crate) fn stamp(headers: &mut HeaderMap, proven: Option<&Proven>) {
    strip(headers);
    // A SPIFFE ID has no character that a header may not have.
    if let Some(proven) = proven
        && let Ok(value) = HeaderValue::from_str(&xfcc(proven))
    {
        headers.insert(XFCC, value);
    }
}

/// Takes out every header that only we set; also of trailers, which some servers put among the headers.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let ours: Vec<HeaderName> = headers.keys().filter(|name| is_ours(name.as_str())).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
}

/// Also with `_` for `-`: CGI and what came of it show both to the application under one name.
fn is_ours(name: &str) -> bool {
    let plain = name.replace('_', "-");
    plain.starts_with(IDENTITY_PREFIX) || plain == XFCC.as_str()
}

/// As Istio's sidecar writes it for an X.509-SVID, whose subject is empty.
fn xfcc(proven: &Proven) -> String {
    let mut text = format!("By={};Hash=", proven.own);
    for byte in proven.hash {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    let _ = write!(text, ";Subject=\"\";URI={}", proven.id);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        for name in [
            "x-forwarded-client-cert",
            "x_forwarded_client_cert",
            "X-Causeway-Principal",
            "x-causeway-anything",
            "x_causeway_principal",
            "x-causeway_client-id",
            "x-cause",
            "accept",
        ] {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("forged"));
        }
        headers
    }

    #[test]
    fn what_a_caller_says_of_itself_goes() {
        let mut found = headers();
        stamp(&mut found, None);
        let mut left: Vec<&str> = found.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "x-cause"]);
    }

    #[test]
    fn what_it_has_proven_is_said_in_envoy_s_words() {
        let mut found = headers();
        let id = |id: &str| id.parse().unwrap();
        let proven = Proven {
            id: id("spiffe://cluster.local/ns/a/sa/caller"),
            hash: [0xab; 32],
            own: id("spiffe://cluster.local/ns/b/sa/own"),
            sni: String::new(),
        };
        stamp(&mut found, Some(&proven));
        let expected = format!(
            "By=spiffe://cluster.local/ns/b/sa/own;Hash={};Subject=\"\";URI=spiffe://cluster.local/ns/a/sa/caller",
            "ab".repeat(32)
        );
        assert_eq!(found.get_all(XFCC).iter().collect::<Vec<_>>(), [expected.as_str()]);
    }
}
