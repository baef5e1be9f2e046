//! A signed request to `sts:GetCallerIdentity`, as a caller hands it over, and everything that is checked of it before
//! it is sent.
//!
//! ```json
//! {"method": "POST", "url": "https://sts.eu-central-1.amazonaws.com/",
//!  "body": "Action=GetCallerIdentity&Version=2011-06-15", "headers": {"Authorization": "AWS4-HMAC-SHA256 …", …}}
//! ```
//!
//! It is sent only if it could not be anything else: the method, the URL and the body must be the ones that the issuer
//! sends, byte for byte, and each header must be in a closed list, there once in whatever spelling, and covered by the
//! signature.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use identity::secret::Secret;
use platform::sigv4::{Authorization, parse_time};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::hex;

/// The one body, with the one action.
pub(super) const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";
/// How old a proof may be, and how far ahead its clock, in seconds. AWS itself takes signatures for some minutes.
const MAX_SKEW_SECONDS: u64 = 60;
/// The most headers, and the longest value, in bytes: session tokens are long.
const MAX_HEADERS: usize = 16;
const MAX_VALUE_BYTES: usize = 8 * 1024;

/// For which issuer the proof is. A proof for another server, or another issuer, is none for this one.
const SERVER_ID: &str = "x-causeway-server-id";
const NONCE: &str = "x-causeway-nonce";
/// What may be in a proof beside what it is bound to.
const ALLOWED: [&str; 9] = [
    "authorization",
    "content-length",
    "content-type",
    "host",
    NONCE,
    SERVER_ID,
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
];

/// A proof, as it was sent; nothing of it is checked. No `Debug`: it holds what is as good as a credential.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Proof {
    method: String,
    url: String,
    body: String,
    headers: Headers,
}

/// The headers in the order in which they came, a name that is there twice included.
struct Headers(Vec<(String, Secret<String>)>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Headers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of header names and values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut pairs = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    pairs.push((name, Secret::new(value)));
                }
                Ok(Headers(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// What a proof is good for, and nothing else: the header that says it, and its value.
pub(crate) struct Binding {
    header: &'static str,
    sha256: String,
}

impl Binding {
    /// A certificate for this CSR: the SHA-256 of the text of the request's member `csr`.
    pub(crate) fn csr(csr: &str) -> Self {
        Self::new("x-causeway-csr-sha256", csr)
    }

    /// A JWT-SVID for these audiences: the SHA-256 of them, joined by line breaks.
    pub(crate) fn audiences(audiences: &[String]) -> Self {
        Self::new("x-causeway-audience-sha256", &audiences.join("\n"))
    }

    fn new(header: &'static str, what: &str) -> Self {
        Self { header, sha256: hex(digest(&SHA256, what.as_bytes()).as_ref()) }
    }
}

/// What is sent to STS, and what is used up by it.
pub(super) struct Checked<'a> {
    /// The configured endpoint.
    pub(super) endpoint: &'a str,
    /// The headers to send.
    pub(super) headers: Vec<(String, Secret<String>)>,
    pub(super) nonce: &'a str,
    pub(super) signature: &'a str,
    /// The id of the access key that it names.
    pub(super) access_key: &'a str,
    /// The last second at which this proof passes, in seconds since 1970.
    pub(super) valid_until: u64,
}

impl Proof {
    /// Checks all that can be told without asking anybody.
    ///
    /// # Errors
    /// The first thing that is wrong, in words for the caller.
    pub(super) fn check<'a>(
        &'a self,
        endpoints: &'a [String],
        server_id: &str,
        binding: &Binding,
        now: u64,
    ) -> Result<Checked<'a>, &'static str> {
        if self.method != "POST" {
            return Err("its method is not POST");
        }
        if self.body != BODY {
            return Err("its body is not Action=GetCallerIdentity&Version=2011-06-15");
        }
        // The host is never the caller's to choose: it names one of ours, in one of two spellings.
        let origin = self.url.strip_suffix('/').unwrap_or(&self.url);
        let endpoint = endpoints
            .iter()
            .find(|endpoint| *endpoint == origin)
            .ok_or("its URL is not one of the STS endpoints that this issuer asks")?;
        self.check_headers(binding)?;
        let header = |name: &str| self.header(name).ok_or("a header that it needs is missing");
        let authorization = Authorization::parse(header("authorization")?)
            .map_err(|_| "its Authorization header is not one of AWS4-HMAC-SHA256")?;
        self.check_signed(&authorization, binding)?;

        let host = endpoint.split_once("://").map_or("", |(_, host)| host);
        if self.header("host").is_some_and(|named| named != host) {
            return Err("its Host header is not that of its URL");
        }
        if self.header("content-length").is_some_and(|length| length != BODY.len().to_string()) {
            return Err("its Content-Length is not that of its body");
        }
        if self.header("content-type").is_some_and(|found| !is_form(found)) {
            return Err("its Content-Type is not application/x-www-form-urlencoded");
        }
        if header(SERVER_ID)? != server_id {
            return Err("it is for another server");
        }
        if header(binding.header)? != binding.sha256 {
            return Err("it is for another request");
        }
        let valid_until = check_time(header("x-amz-date")?, &authorization, now)?;
        Ok(Checked {
            endpoint,
            headers: self.to_send(),
            nonce: header(NONCE)?,
            signature: authorization.signature,
            access_key: authorization.access_key,
            valid_until,
        })
    }

    /// The value of a header, whose name is there once in whatever spelling ([`check_headers`](Self::check_headers)).
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.0.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.expose().as_str())
    }

    fn check_headers(&self, binding: &Binding) -> Result<(), &'static str> {
        let headers = &self.headers.0;
        if headers.len() > MAX_HEADERS {
            return Err("it has more headers than expected");
        }
        for (place, (name, value)) in headers.iter().enumerate() {
            let is = |allowed: &&str| name.eq_ignore_ascii_case(allowed);
            if !ALLOWED.iter().any(is) && !is(&binding.header) {
                return Err("it has a header that is not allowed");
            }
            if headers.iter().skip(place + 1).any(|(other, _)| other.eq_ignore_ascii_case(name)) {
                return Err("it has a header twice");
            }
            // Visible ASCII with single blanks inside: nothing that one side trims or folds and the other does not.
            let value = value.expose();
            let plain = (1..=MAX_VALUE_BYTES).contains(&value.len())
                && value.bytes().all(|b| b == b' ' || b.is_ascii_graphic())
                && value.trim() == value
                && !value.contains("  ");
            if !plain {
                return Err("it has a header with a value that is empty, too long or not plain text");
            }
        }
        Ok(())
    }

    /// What is sent is signed, and what is signed is sent.
    fn check_signed(&self, authorization: &Authorization<'_>, binding: &Binding) -> Result<(), &'static str> {
        let signed = &authorization.signed_headers;
        let is_lower = |name: &&str| !name.is_empty() && !name.bytes().any(|b| b.is_ascii_uppercase());
        if !signed.iter().all(is_lower) || !signed.is_sorted_by(|a, b| a < b) {
            return Err("its SignedHeaders are not in order");
        }
        for needed in ["host", "x-amz-date", SERVER_ID, NONCE, binding.header] {
            if !signed.contains(&needed) {
                return Err("a header that has to be signed is not");
            }
        }
        let covered = |name: &str| name == "authorization" || signed.contains(&name);
        if !self.headers.0.iter().all(|(name, _)| covered(&name.to_ascii_lowercase())) {
            return Err("it has a header that is not signed");
        }
        // A signer may leave the host to whoever sends the request.
        if !signed.iter().all(|name| *name == "host" || self.header(name).is_some()) {
            return Err("a header that is signed is missing");
        }
        let signature = authorization.signature;
        if signature.len() != 64 || !signature.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f')) {
            return Err("its signature is not that of AWS4-HMAC-SHA256");
        }
        Ok(())
    }

    /// The caller's headers but those that the client of the issuer writes itself, and the issuer's own `Accept`: an
    /// answer in another format would be none that is read strictly.
    fn to_send(&self) -> Vec<(String, Secret<String>)> {
        let own = |name: &str| matches!(name, "host" | "content-length");
        let named = self.headers.0.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
        let mut headers: Vec<_> = named.filter(|(name, _)| !own(name)).collect();
        if self.header("content-type").is_none() {
            let form = Secret::new("application/x-www-form-urlencoded".to_owned());
            headers.push(("content-type".to_owned(), form));
        }
        headers.push(("accept".to_owned(), Secret::new("application/xml".to_owned())));
        headers
    }
}

fn is_form(content_type: &str) -> bool {
    let content_type = content_type.to_ascii_lowercase();
    let (media_type, parameter) = content_type.split_once(';').unwrap_or((&content_type, "charset=utf-8"));
    media_type.trim() == "application/x-www-form-urlencoded" && parameter.trim() == "charset=utf-8"
}

/// The last second at which the proof passes.
fn check_time(date: &str, authorization: &Authorization<'_>, now: u64) -> Result<u64, &'static str> {
    let at = parse_time(date).and_then(|at| at.duration_since(UNIX_EPOCH).ok()).ok_or("its X-Amz-Date is no date")?;
    if authorization.service != "sts" || !date.starts_with(authorization.date) || authorization.date.len() != 8 {
        return Err("its credential scope is not one of STS at its date");
    }
    let at = at.min(Duration::from_secs(u64::from(u32::MAX) * 2)).as_secs();
    if at.abs_diff(now) > MAX_SKEW_SECONDS {
        return Err("its X-Amz-Date is more than 60 seconds from now");
    }
    Ok(at + MAX_SKEW_SECONDS)
}

#[cfg(test)]
mod tests;
