//! `client_secret_basic`: name and secret in the Authorization header (RFC 6749 §2.3.1).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use identity::secret::Secret;

use super::client_secret::Presented;
use super::refuse_other_client_id;
use crate::event::{DuplicateHeader, Request};
use crate::form::{Form, decode};
use crate::refusal::Refusal;

/// The longest Authorization header that is read, in bytes.
const MAX_AUTHORIZATION_BYTES: usize = 4096;

/// Reads the header.
pub(super) fn read(header: &str, form: &Form) -> Result<Presented, Refusal> {
    let (client_id, secret) = basic(header).ok_or_else(|| {
        Refusal::invalid_client(
            "the Authorization header is not Basic with the form-encoded client_id and client_secret",
        )
    })?;
    refuse_other_client_id(form, &client_id)?;
    Ok(Presented { client_id, secret })
}

/// The header's value; refuses what the gateway joined from several.
pub(super) fn authorization(request: &Request) -> Result<Option<&str>, Refusal> {
    let twice = || Refusal::invalid_request("more than one Authorization header");
    let header = request.headers.only("authorization").map_err(|DuplicateHeader| twice())?;
    match header {
        // Payload format 2.0 joins headers of one name with commas. Base64 has none.
        Some(value) if value.contains(',') => Err(twice()),
        header => Ok(header),
    }
}

/// RFC 6749 §2.3.1: "The client identifier is encoded using the 'application/x-www-form-urlencoded' encoding
/// algorithm [...], and the encoded value is used as the username; the client secret is encoded using the same
/// algorithm and used as the password." RFC 7617 §2: split at the first colon.
fn basic(header: &str) -> Option<(String, Secret<String>)> {
    if header.len() > MAX_AUTHORIZATION_BYTES {
        return None;
    }
    let (scheme, credentials) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(credentials.trim_matches(' ')).ok()?;
    let decoded = Secret::new(String::from_utf8(decoded).ok()?);
    let (id, secret) = decoded.expose().split_once(':')?;
    Some((decode(id)?, Secret::new(decode(secret)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(id: &str, secret: &str) -> String {
        format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
    }

    #[test]
    fn both_halves_are_form_decoded() {
        for (id, secret, expected) in [
            ("reader", "s3cret", Some(("reader", "s3cret"))),
            ("a%2Bb", "c%25d", Some(("a+b", "c%d"))),
            ("a+b", "c+d", Some(("a b", "c d"))),
            ("a%3Ab", "c:d%3Ae", Some(("a:b", "c:d:e"))),
            ("caf%C3%A9", "%E2%82%AC", Some(("café", "€"))),
            ("café", "€", Some(("café", "€"))),
            ("a", "", Some(("a", ""))),
            ("", "b", Some(("", "b"))),
            ("a", "100%", None),
            ("a%zz", "b", None),
            ("a", "%FF", None),
        ] {
            let parsed = basic(&header(id, secret));
            let parsed = parsed.as_ref().map(|(id, s)| (id.as_str(), s.expose().as_str()));
            assert_eq!(parsed, expected, "{id}:{secret}");
        }
    }

    #[test]
    fn headers_that_are_not_basic() {
        let good = STANDARD.encode("a:b");
        for header in [
            String::new(),
            "Basic".to_owned(),
            "Basic ".to_owned(),
            format!("Bearer {good}"),
            format!("Basic{good}"),
            format!("Basic {good}x"),
            format!("Basic {}", STANDARD.encode("no colon")),
            format!("Basic {}", STANDARD.encode([0xff, b':', b'a'])),
            format!("Basic {}", STANDARD.encode(format!("a:{}", "b".repeat(MAX_AUTHORIZATION_BYTES)))),
        ] {
            assert!(basic(&header).is_none(), "{header}");
        }
        assert!(basic(&format!("bASIC {good}")).is_some(), "the scheme has no case");
    }
}
