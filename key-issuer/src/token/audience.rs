//! The audience of a token.

use crate::form::Form;
use crate::refusal::Refusal;

/// The token's audiences: those asked for by `resource` (RFC 8707) and `audience` (RFC 8693), else the default. RFC 9068
/// §3: without a `resource` the authorization server "MUST use a default resource indicator in the 'aud' claim".
///
/// A `resource` that is no absolute URI is `malformed`: RFC 8707 §2 has `invalid_target`, while RFC 8693 §2.2.2 wants
/// `invalid_request` for a request of token exchange that is not valid.
///
/// # Errors
/// `malformed`, or `invalid_target` for what may not be asked for.
pub(super) fn granted(
    form: &Form,
    may_ask: &[String],
    default: &[String],
    malformed: &'static str,
) -> Result<Vec<String>, Refusal> {
    if form.all("resource").any(|resource| !is_absolute_uri(resource)) {
        return Err(Refusal::new(400, malformed, "resource is not an absolute URI without a fragment"));
    }
    let mut granted: Vec<String> = Vec::new();
    for target in form.all("resource").chain(form.all("audience")) {
        if !may_ask.iter().any(|allowed| allowed == target) {
            return Err(refused("the client may not ask for a token for this target"));
        }
        if !granted.iter().any(|g| g == target) {
            granted.push(target.to_owned());
        }
    }
    if granted.is_empty() {
        granted.extend_from_slice(default);
    }
    if granted.is_empty() { Err(refused("the client has no audience")) } else { Ok(granted) }
}

/// The default of an exchanged token: those of the subject's audiences that the requester may ask for, and if there are
/// none, the requester's own default.
pub(super) fn inherited(subject: &[String], may_ask: &[String]) -> Vec<String> {
    let common: Vec<String> = subject.iter().filter(|audience| may_ask.contains(audience)).cloned().collect();
    if common.is_empty() { may_ask.iter().take(1).cloned().collect() } else { common }
}

fn refused(description: &str) -> Refusal {
    Refusal::new(400, "invalid_target", description)
}

/// RFC 8707 §2: "Its value MUST be an absolute URI [...]. The URI MUST NOT include a fragment component." What is
/// allowed is then compared byte for byte, so the scheme is all that has to be looked at.
fn is_absolute_uri(text: &str) -> bool {
    let scheme = text.split_once(':').map(|(scheme, _)| scheme).unwrap_or_default();
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        && !text.contains('#')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn absolute_uris() {
        for (text, expected) in [
            ("https://api.bookinfo.example", true),
            ("urn:bookinfo", true),
            ("bookinfo", false),
            ("https://a#b", false),
            ("//a", false),
            (":a", false),
            ("1a:b", false),
        ] {
            assert_eq!(is_absolute_uri(text), expected, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

        /// No token is ever for nobody, for the same audience twice, or for one that may not be asked for.
        #[test]
        fn never_more_than_may_be_asked_for(
            asked in proptest::collection::vec("[abc]", 0..4),
            subject in proptest::collection::vec("[abcd]", 0..4),
            may_ask in proptest::collection::vec("[abc]", 0..4),
        ) {
            let body: String = asked.iter().map(|audience| format!("audience={audience}&")).collect();
            let form = Form::parse(body.as_bytes()).unwrap();
            match granted(&form, &may_ask, &inherited(&subject, &may_ask), "invalid_request") {
                Ok(granted) => {
                    prop_assert!(!granted.is_empty() && granted.iter().all(|audience| may_ask.contains(audience)));
                    prop_assert!(asked.iter().all(|audience| granted.contains(audience)));
                }
                Err(refusal) => {
                    prop_assert_eq!(refusal.error, "invalid_target");
                    prop_assert!(may_ask.is_empty() || asked.iter().any(|audience| !may_ask.contains(audience)));
                }
            }
        }
    }
}
