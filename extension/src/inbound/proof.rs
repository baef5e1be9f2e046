//! The headers that say who calls: nobody but the sidecar sets them.

use std::fmt::Write;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::tls::Proven;
pub(crate) use authz::request::plain_name as plain;

/// The header in which Envoy says who has proven what to it.
pub(crate) const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Headers that begin like this say who the caller is.
pub(crate) const IDENTITY_PREFIX: &str = "x-causeway-";

/// The verified caller, `ISSUER/SUBJECT`.
pub(crate) const PRINCIPAL: HeaderName = HeaderName::from_static("x-causeway-principal");

/// The verified caller's OAuth client.
pub(crate) const CLIENT_ID: HeaderName = HeaderName::from_static("x-causeway-client-id");

/// Takes out every header that only we set, and says who has proven what. `outputs` are the headers that the policies
/// make out of claims: those of the caller go when its tokens are looked at, and here what an application could take for
/// them.
pub(crate) fn stamp(headers: &mut HeaderMap, proven: Option<&Proven>, outputs: &[String]) {
    let is_output = |name: &str| outputs.iter().any(|output| output == name);
    let forged =
        |name: &str| is_ours(name) || !is_output(name) && outputs.iter().any(|output| plain(output) == plain(name));
    let forged: Vec<HeaderName> = headers.keys().filter(|name| forged(name.as_str())).cloned().collect();
    for name in forged {
        headers.remove(name);
    }
    // A SPIFFE ID has no character that a header may not have.
    if let Some(proven) = proven
        && let Ok(value) = HeaderValue::from_str(&xfcc(proven))
    {
        headers.insert(XFCC, value);
    }
}

fn is_ours(name: &str) -> bool {
    let plain = plain(name);
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
        stamp(&mut found, None, &[]);
        let mut left: Vec<&str> = found.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "x-cause"]);
    }

    #[test]
    fn what_a_claim_says_is_said_under_no_other_name() {
        let outputs = ["x-sub".to_owned(), "x_role".to_owned()];
        let mut found = HeaderMap::new();
        for name in ["x-sub", "x_sub", "x_role", "x-role", "x-subs", "x_subs"] {
            found.append(HeaderName::from_static(name), HeaderValue::from_static("forged"));
        }
        stamp(&mut found, None, &outputs);
        let mut left: Vec<&str> = found.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        // The names themselves are the policies' to take out, of whoever is looked at by a rule.
        assert_eq!(left, ["x-sub", "x-subs", "x_role", "x_subs"]);
    }

    #[test]
    fn what_it_has_proven_is_said_in_envoy_s_words() {
        let mut found = headers();
        let id = |id: &str| id.parse().unwrap();
        let proven = Proven {
            id: id("spiffe://cluster.local/ns/a/sa/caller"),
            hash: [0xab; 32],
            until: 0,
            own: id("spiffe://cluster.local/ns/b/sa/own"),
            sni: String::new(),
        };
        stamp(&mut found, Some(&proven), &[]);
        let expected = format!(
            "By=spiffe://cluster.local/ns/b/sa/own;Hash={};Subject=\"\";URI=spiffe://cluster.local/ns/a/sa/caller",
            "ab".repeat(32)
        );
        assert_eq!(found.get_all(XFCC).iter().collect::<Vec<_>>(), [expected.as_str()]);
    }
}
