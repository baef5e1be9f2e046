//! `/jwks.json`: the public keys, cacheable.

use aws_lc_rs::digest::{SHA256, digest};

use crate::event::{Request, Response};
use crate::refusal::Refusal;
use crate::signing_key::SigningKeys;

/// How long a verifier may keep the document, in seconds. Most keep it longer than that whatever is said here
/// (API Gateway's HTTP APIs: two hours), so a new key is published long before it signs.
pub(crate) const MAX_AGE_SECONDS: u64 = 300;
/// It may always be kept this long, in seconds: else every verifier would come at the moment of a change. A document
/// that is kept a little past an activation lists the key already, for it was published long before.
const MIN_AGE_SECONDS: u64 = 10;

/// The document at `now`, or 304 when the caller has it already.
pub(crate) fn answer(keys: &SigningKeys, request: &Request, now: u64) -> Result<Response, Refusal> {
    let body = keys.document(now).map_err(Refusal::internal)?;
    let etag = etag(&body);
    let known = request.headers.only("if-none-match").ok().flatten();
    let mut response = Response::public_json(max_age(keys.next_change(now), now), body);
    response.headers.push(("ETag", etag.clone()));
    if known.is_some_and(|known| matches(known, &etag)) {
        // RFC 9110 §15.4.5: the same Cache-Control and ETag, and no content.
        response.status = 304;
        response.body.clear();
        response.headers.retain(|(name, _)| *name != "Content-Type");
    }
    Ok(response)
}

/// No cache that goes by it keeps the document past the moment at which a key begins to sign or retires.
fn max_age(next_change: Option<u64>, now: u64) -> u64 {
    let left = next_change.map_or(u64::MAX, |at| at.saturating_sub(now));
    left.clamp(MIN_AGE_SECONDS, MAX_AGE_SECONDS)
}

/// A strong validator: the same tag is the same bytes (RFC 9110 §8.8.1).
fn etag(body: &str) -> String {
    let hash = digest(&SHA256, body.as_bytes());
    format!("\"{}\"", crate::hex(&hash.as_ref()[..16]))
}

/// RFC 9110 §13.1.2: `*`, or a list that is compared weakly.
fn matches(if_none_match: &str, etag: &str) -> bool {
    if if_none_match.trim() == "*" {
        return true;
    }
    if_none_match.split(',').map(str::trim).any(|tag| tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;
    use crate::Algorithm;
    use crate::signing_key::{SecretFile, SecretKey};

    const NOW: u64 = 1_893_456_000;

    #[test]
    fn if_none_match() {
        let etag = "\"a1\"";
        for (header, expected) in [
            ("\"a1\"", true),
            ("W/\"a1\"", true),
            ("\"b2\", \"a1\"", true),
            ("\"b2\",W/\"a1\"", true),
            ("*", true),
            (" * ", true),
            ("\"b2\", *", false),
            ("\"*\"", false),
            ("w/\"a1\"", false),
            ("\"b2\"", false),
            ("a1", false),
            ("", false),
        ] {
            assert_eq!(matches(header, etag), expected, "{header}");
        }
    }

    #[test]
    fn the_age_shrinks_toward_a_change() {
        for (next, expected) in [
            (None, 300),
            (Some(NOW + 301), 300),
            (Some(NOW + 299), 299),
            (Some(NOW + 11), 11),
            (Some(NOW + 9), 10),
            (Some(NOW), 10),
        ] {
            assert_eq!(max_age(next, NOW), expected, "{next:?}");
        }
    }

    fn request(if_none_match: Option<&str>) -> Request {
        let mut event = json!({"version": "2.0", "rawPath": "/jwks.json", "headers": {},
            "requestContext": {"apiId": "api1", "http": {"method": "GET"}}});
        if let Some(tag) = if_none_match {
            event["headers"]["If-None-Match"] = json!(tag);
        }
        Request::try_from(event).unwrap()
    }

    #[test]
    fn the_document_changes_with_the_keys_and_its_tag_with_it() {
        let old = SecretKey { retire_at: Some(NOW + 100), ..SecretKey::generate(Algorithm::Es256, None).unwrap() };
        let new = SecretKey::generate(Algorithm::Es256, Some(NOW + 5)).unwrap();
        let keys = SigningKeys::from_file(&SecretFile { keys: vec![old, new] }).unwrap();
        let header = |response: &Response, name: &str| {
            response.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone())
        };
        let first = answer(&keys, &request(None), NOW).unwrap();
        assert_eq!((first.status, header(&first, "Cache-Control")), (200, Some("public, max-age=10".to_owned())));
        let listed: Value = serde_json::from_str(&first.body).unwrap();
        assert_eq!(listed["keys"].as_array().unwrap().len(), 2);
        let tag = header(&first, "ETag").unwrap();

        let known = answer(&keys, &request(Some(&tag)), NOW + 50).unwrap();
        assert_eq!((known.status, known.body.as_str()), (304, ""));
        assert_eq!((header(&known, "ETag"), header(&known, "Content-Type")), (Some(tag.clone()), None));
        assert_eq!(header(&known, "Cache-Control"), Some("public, max-age=50".to_owned()));

        let later = answer(&keys, &request(Some(&tag)), NOW + 100).unwrap();
        assert_eq!((later.status, header(&later, "Cache-Control")), (200, Some("public, max-age=300".to_owned())));
        assert_ne!(header(&later, "ETag"), Some(tag));
        let listed: Value = serde_json::from_str(&later.body).unwrap();
        assert_eq!(listed["keys"].as_array().unwrap().len(), 1);
    }
}
