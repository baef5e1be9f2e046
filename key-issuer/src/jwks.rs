//! `/jwks.json`: the public keys, cacheable.

use aws_lc_rs::digest::{SHA256, digest};

use crate::event::{Request, Response};
use crate::refusal::Refusal;
use crate::signing_key::SigningKeys;

/// How long a verifier may keep the document, in seconds. Most keep it longer than that whatever is said here
/// (API Gateway's HTTP APIs: two hours), so a new key is published long before it signs.
const MAX_AGE_SECONDS: u64 = 300;

/// The document, or 304 when the caller has it already.
pub(crate) fn answer(keys: &SigningKeys, request: &Request) -> Result<Response, Refusal> {
    let body = serde_json::to_string(&serde_json::json!({"keys": keys.public()}))
        .map_err(|error| Refusal::internal(error.to_string()))?;
    let etag = etag(&body);
    let known = request.headers.only("if-none-match").ok().flatten();
    let mut response = Response::public_json(MAX_AGE_SECONDS, body);
    response.headers.push(("ETag", etag.clone()));
    if known.is_some_and(|known| matches(known, &etag)) {
        // RFC 9110 §15.4.5: the same Cache-Control and ETag, and no content.
        response.status = 304;
        response.body.clear();
        response.headers.retain(|(name, _)| *name != "Content-Type");
    }
    Ok(response)
}

fn etag(body: &str) -> String {
    let hash = digest(&SHA256, body.as_bytes());
    format!("\"{}\"", crate::hex(&hash.as_ref()[..16]))
}

/// RFC 9110 §13.1.2: `*` or a list, compared weakly.
fn matches(if_none_match: &str, etag: &str) -> bool {
    if_none_match.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_none_match() {
        let etag = "\"a1\"";
        for (header, expected) in [
            ("\"a1\"", true),
            ("W/\"a1\"", true),
            ("\"b2\", \"a1\"", true),
            ("*", true),
            ("\"b2\"", false),
            ("a1", false),
            ("", false),
        ] {
            assert_eq!(matches(header, etag), expected, "{header}");
        }
    }
}
