//! The scope of a token.

use crate::form::Form;
use crate::refusal::Refusal;
use crate::registry::is_scope_token;

/// The granted scope, out of what the caller may have.
///
/// RFC 6749 §3.3: an omitted scope is either "a pre-defined default value" (here: all that may be had) or
/// `invalid_scope`; one that is asked for is granted whole or not at all.
///
/// # Errors
/// `invalid_scope`.
pub(super) fn granted(form: &Form, may_have: &[&str]) -> Result<Vec<String>, Refusal> {
    let mut granted: Vec<String> = Vec::new();
    let mut grant = |token: &str| {
        if !granted.iter().any(|g| g == token) {
            granted.push(token.to_owned());
        }
    };
    match form.get("scope") {
        None => may_have.iter().for_each(|token| grant(token)),
        Some(requested) => {
            for token in requested.split(' ') {
                if !is_scope_token(token) {
                    return Err(refused("scope is not a list of scope tokens, one space apart"));
                }
                if !may_have.contains(&token) {
                    return Err(refused("the client may not have the requested scope"));
                }
                grant(token);
            }
        }
    }
    Ok(granted)
}

/// The tokens that are in both lists, in the order of the first.
pub(super) fn common<'a>(first: &'a [String], second: &[String]) -> Vec<&'a str> {
    first.iter().filter(|token| second.contains(token)).map(String::as_str).collect()
}

/// The tokens of a `scope` claim.
pub(super) fn tokens(scope: &str) -> Vec<String> {
    scope.split(' ').filter(|token| !token.is_empty()).map(str::to_owned).collect()
}

/// The `scope` claim and member; absent without tokens.
pub(super) fn text(tokens: &[String]) -> Option<String> {
    (!tokens.is_empty()).then(|| tokens.join(" "))
}

fn refused(description: &str) -> Refusal {
    Refusal::new(400, "invalid_scope", description)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

        /// Whatever is asked for, nothing comes out that may not be had, and nothing twice.
        #[test]
        fn never_more_than_may_be_had(
            asked in "[abc ]{0,8}",
            subject in proptest::collection::vec("[abcd]", 0..4),
            client in proptest::collection::vec("[abcd]", 0..4),
        ) {
            let may_have = common(&subject, &client);
            let form = Form::parse(format!("scope={}", asked.replace(' ', "+")).as_bytes()).unwrap();
            match granted(&form, &may_have) {
                Ok(granted) => {
                    for (place, token) in granted.iter().enumerate() {
                        prop_assert!(subject.contains(token) && client.contains(token));
                        prop_assert!(!granted[..place].contains(token));
                    }
                    if asked.is_empty() {
                        prop_assert!(may_have.iter().all(|token| granted.iter().any(|g| g == token)));
                    } else {
                        prop_assert!(asked.split(' ').all(|token| granted.iter().any(|g| g == token)));
                    }
                }
                Err(refusal) => {
                    prop_assert_eq!((refusal.status, refusal.error), (400, "invalid_scope"));
                    let bad = asked.split(' ').any(|token| token.is_empty() || !may_have.contains(&token));
                    prop_assert!(bad);
                }
            }
        }
    }
}
