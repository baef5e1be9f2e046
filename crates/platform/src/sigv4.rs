//! AWS Signature Version 4: signing what goes to an IAM door, and checking it where the local stack plays the door.
//!
//! On AWS the door (a Function URL or an HTTP API with IAM authorisation) checks signatures itself.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials as SdkCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningParams, SigningSettings, sign as sdk_sign};
use aws_sigv4::sign::v4;
use identity::secret::Secret;

use crate::aws::Credentials;

/// What is signed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, in upper case.
    pub method: &'a str,
    /// The absolute URL, with the query.
    pub url: &'a str,
    /// The headers, names in lower case.
    pub headers: &'a [(String, String)],
    /// The body.
    pub body: &'a [u8],
}

/// A request that cannot be signed; always a fault of ours or of the configuration.
#[derive(Debug, thiserror::Error)]
#[error("cannot sign the request for AWS: {0}")]
pub struct SignError(String);

/// The headers to add to `request`: `authorization`, `x-amz-date` and, with temporary credentials,
/// `x-amz-security-token`.
pub fn sign(
    request: Request<'_>,
    credentials: &Credentials,
    region: &str,
    service: &str,
    now: SystemTime,
) -> Result<Vec<(String, String)>, SignError> {
    let wrong = |error: &dyn std::fmt::Display| SignError(error.to_string());
    let identity = SdkCredentials::new(
        credentials.access_key_id.clone(),
        credentials.secret_access_key.expose().clone(),
        credentials.session_token.as_ref().map(|token| token.expose().clone()),
        None,
        "environment",
    )
    .into();
    let parameters: SigningParams<'_> = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(now)
        .settings(SigningSettings::default())
        .build()
        .map_err(|e| wrong(&e))?
        .into();
    let headers = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let signable = SignableRequest::new(request.method, request.url, headers, SignableBody::Bytes(request.body))
        .map_err(|e| wrong(&e))?;
    let (instructions, _) = sdk_sign(signable, &parameters).map_err(|e| wrong(&e))?.into_parts();
    Ok(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// How far a signature's time may lie from now. AWS refuses what is more than five minutes off.
pub const MAX_SKEW: Duration = Duration::from_secs(300);

/// Why a signature is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// No `authorization` header, or two.
    #[error("the request is not signed: expected one authorization header of AWS4-HMAC-SHA256")]
    Unsigned,
    /// The header is not of SigV4's form.
    #[error("the authorization header is not of the form AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…")]
    Malformed,
    /// The credential scope names another service.
    #[error("the signature is for another service or date")]
    Scope,
    /// Nobody knows the access key.
    #[error("the access key is not known")]
    UnknownKey,
    /// The time is too far from now.
    #[error("the signature's time is missing, malformed or more than five minutes from now")]
    Time,
    /// `host` or `x-amz-date` is not covered by the signature.
    #[error("the signature does not cover the host and x-amz-date headers")]
    NotCovered,
    /// The signature is not the one of this request under this key.
    #[error("the signature does not match the request")]
    Mismatch,
}

/// Checks the signature of `request` and returns its access key id.
///
/// `secret_of` gives the secret of an access key id. The request is signed again with it, over the headers that the
/// signature names, and the two signatures are compared in constant time.
pub fn verify(
    request: Request<'_>,
    service: &str,
    secret_of: impl Fn(&str) -> Option<Secret<String>>,
    now: SystemTime,
) -> Result<String, VerifyError> {
    let authorization = only(request.headers, "authorization").ok_or(VerifyError::Unsigned)?;
    let presented = Authorization::parse(authorization)?;
    let date = only(request.headers, "x-amz-date").ok_or(VerifyError::Time)?;
    let time = parse_time(date).ok_or(VerifyError::Time)?;
    let off = now.duration_since(time).or_else(|_| time.duration_since(now)).map_err(|_| VerifyError::Time)?;
    if off > MAX_SKEW {
        return Err(VerifyError::Time);
    }
    if presented.service != service || presented.date != &date[..8] {
        return Err(VerifyError::Scope);
    }
    if !["host", "x-amz-date"].iter().all(|needed| presented.signed_headers.contains(needed)) {
        return Err(VerifyError::NotCovered);
    }
    let secret = secret_of(presented.access_key).ok_or(VerifyError::UnknownKey)?;
    // Signing adds these two itself, from the time and the credentials that it is given.
    let covered: Vec<(String, String)> = request
        .headers
        .iter()
        .filter(|(name, _)| {
            presented.signed_headers.contains(&name.as_str())
                && !matches!(name.as_str(), "x-amz-date" | "x-amz-security-token")
        })
        .cloned()
        .collect();
    let credentials = Credentials {
        access_key_id: presented.access_key.to_owned(),
        secret_access_key: secret,
        session_token: only(request.headers, "x-amz-security-token").map(|token| Secret::new(token.to_owned())),
    };
    let again = sign(Request { headers: &covered, ..request }, &credentials, presented.region, service, time)
        .map_err(|_| VerifyError::Mismatch)?;
    let expected = only(&again, "authorization").ok_or(VerifyError::Mismatch)?;
    let expected = Authorization::parse(expected)?;
    if expected.signed_headers != presented.signed_headers {
        return Err(VerifyError::Mismatch);
    }
    aws_lc_rs::constant_time::verify_slices_are_equal(expected.signature.as_bytes(), presented.signature.as_bytes())
        .map_err(|_| VerifyError::Mismatch)?;
    Ok(presented.access_key.to_owned())
}

/// What an `authorization` header of SigV4 says. Nothing of it is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization<'a> {
    /// The access key id.
    pub access_key: &'a str,
    /// The scope's date, `YYYYMMDD`.
    pub date: &'a str,
    /// The scope's Region.
    pub region: &'a str,
    /// The scope's service.
    pub service: &'a str,
    /// The names of the headers that the signature covers.
    pub signed_headers: Vec<&'a str>,
    /// The signature.
    pub signature: &'a str,
}

impl<'a> Authorization<'a> {
    /// Reads the header's value.
    ///
    /// # Errors
    /// [`VerifyError::Unsigned`] for another scheme, [`VerifyError::Malformed`] for a field that is missing, unknown or
    /// there twice.
    pub fn parse(text: &'a str) -> Result<Self, VerifyError> {
        let fields = text.strip_prefix("AWS4-HMAC-SHA256 ").ok_or(VerifyError::Unsigned)?;
        let (mut credential, mut headers, mut signature) = (None, None, None);
        for field in fields.split(',') {
            let (name, value) = field.trim().split_once('=').ok_or(VerifyError::Malformed)?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut headers,
                "Signature" => &mut signature,
                _ => return Err(VerifyError::Malformed),
            };
            if slot.replace(value).is_some() {
                return Err(VerifyError::Malformed);
            }
        }
        let (Some(credential), Some(headers), Some(signature)) = (credential, headers, signature) else {
            return Err(VerifyError::Malformed);
        };
        let scope: Vec<&str> = credential.split('/').collect();
        let [access_key, date, region, service, "aws4_request"] = scope[..] else {
            return Err(VerifyError::Malformed);
        };
        Ok(Self { access_key, date, region, service, signed_headers: headers.split(';').collect(), signature })
    }
}

/// The value of a header that is there exactly once.
fn only<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut values = headers.iter().filter(|(n, _)| n == name);
    let first = values.next()?;
    values.next().is_none().then_some(first.1.as_str())
}

/// `YYYYMMDD'T'HHMMSS'Z'`, the only form that SigV4 allows in `x-amz-date`.
pub fn parse_time(text: &str) -> Option<SystemTime> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60
    {
        return None;
    }
    // Days since the epoch from a civil date, counted in eras of 400 years that start in March.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted / 400;
    let year_of_era = shifted % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400 + hour * 3_600 + minute * 60 + second))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: u64 = 1_794_000_000;

    fn at(unix: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(unix)
    }

    fn credentials(token: Option<&str>) -> Credentials {
        Credentials {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
            session_token: token.map(|t| Secret::new(t.to_owned())),
        }
    }

    fn secret_of(id: &str) -> Option<Secret<String>> {
        (id == "AKIDEXAMPLE").then(|| credentials(None).secret_access_key)
    }

    fn signed(token: Option<&str>) -> Vec<(String, String)> {
        let mut headers = vec![
            ("host".to_owned(), "door.example".to_owned()),
            ("content-type".to_owned(), "application/json".to_owned()),
        ];
        let request =
            Request { method: "POST", url: "https://door.example/v1/svid?a=1", headers: &headers, body: b"{}" };
        let added = sign(request, &credentials(token), "eu-central-1", "lambda", at(NOW)).unwrap();
        headers.extend(added);
        headers
    }

    fn check(headers: &[(String, String)], body: &[u8], now: u64) -> Result<String, VerifyError> {
        let request = Request { method: "POST", url: "https://door.example/v1/svid?a=1", headers, body };
        verify(request, "lambda", secret_of, at(now))
    }

    #[test]
    fn what_was_signed_verifies() {
        for token in [None, Some("session")] {
            assert_eq!(check(&signed(token), b"{}", NOW).as_deref(), Ok("AKIDEXAMPLE"));
            assert_eq!(check(&signed(token), b"{}", NOW + 299).as_deref(), Ok("AKIDEXAMPLE"));
        }
    }

    #[test]
    fn what_was_changed_does_not() {
        let good = signed(Some("session"));
        let with = |name: &str, value: &str| -> Vec<(String, String)> {
            good.iter().map(|(n, v)| (n.clone(), if n == name { value.to_owned() } else { v.clone() })).collect()
        };
        let without =
            |name: &str| -> Vec<(String, String)> { good.iter().filter(|(n, _)| n != name).cloned().collect() };
        let authorization = good.iter().find(|(n, _)| n == "authorization").unwrap().1.clone();
        let mut twice = good.clone();
        twice.push(("authorization".to_owned(), authorization.clone()));
        /// Name, headers, body, the verifier's time, and what it says.
        type Case<'a> = (&'a str, Vec<(String, String)>, &'a [u8], u64, VerifyError);
        let cases: Vec<Case<'_>> = vec![
            ("body", good.clone(), b"{\"csr\":1}", NOW, VerifyError::Mismatch),
            ("host", with("host", "other.example"), b"{}", NOW, VerifyError::Mismatch),
            ("token", with("x-amz-security-token", "other"), b"{}", NOW, VerifyError::Mismatch),
            ("no token", without("x-amz-security-token"), b"{}", NOW, VerifyError::Mismatch),
            ("no signature", without("authorization"), b"{}", NOW, VerifyError::Unsigned),
            ("two signatures", twice, b"{}", NOW, VerifyError::Unsigned),
            ("bearer", with("authorization", "Bearer x"), b"{}", NOW, VerifyError::Unsigned),
            ("late", good.clone(), b"{}", NOW + 301, VerifyError::Time),
            ("early", good.clone(), b"{}", NOW - 301, VerifyError::Time),
            ("no date", without("x-amz-date"), b"{}", NOW, VerifyError::Time),
            ("bad date", with("x-amz-date", "20261120"), b"{}", NOW, VerifyError::Time),
            (
                "unknown key",
                with("authorization", &authorization.replace("AKIDEXAMPLE", "AKIDOTHER")),
                b"{}",
                NOW,
                VerifyError::UnknownKey,
            ),
            (
                "service",
                with("authorization", &authorization.replace("/lambda/", "/sts/")),
                b"{}",
                NOW,
                VerifyError::Scope,
            ),
            (
                "host not covered",
                with("authorization", &authorization.replace("host;", "")),
                b"{}",
                NOW,
                VerifyError::NotCovered,
            ),
            (
                "form",
                with("authorization", "AWS4-HMAC-SHA256 Credential=a, Signature=b"),
                b"{}",
                NOW,
                VerifyError::Malformed,
            ),
        ];
        for (name, headers, body, now, expected) in cases {
            assert_eq!(check(&headers, body, now), Err(expected), "{name}");
        }
    }

    #[test]
    fn times_are_read_as_sigv4_writes_them() {
        assert_eq!(parse_time("19700101T000000Z"), Some(at(0)));
        assert_eq!(parse_time("20240229T235959Z"), Some(at(1_709_251_199)));
        assert_eq!(parse_time("20261120T163200Z"), Some(at(1_795_192_320)));
        for bad in
            ["", "20261120T163200", "2026-11-20T16:32:00Z", "20261320T163200Z", "20261120T243200Z", "+0261120T163200Z"]
        {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }
}
