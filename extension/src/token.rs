//! The access token that is added to requests which bring none.

use std::sync::Arc;

use http::HeaderValue;
use platform::BoxFuture;
use platform::clock::Clock;
use platform::log::Log;
use serde::Deserialize;

use crate::config::Grant;
use crate::issuer::Issuer;
use crate::refresh::{Held, Source};

/// The longest token, in bytes; verifiers refuse longer ones.
const MAX_TOKEN: usize = 8 * 1024;

/// The path of the issuer's token endpoint.
pub(crate) const ENDPOINT: &str = "/oauth2/token";

/// The media type of its requests.
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";

/// Fetches access tokens by client_credentials, the client being the IAM role that signs the request.
pub(crate) struct TokenSource {
    issuer: Arc<Issuer>,
    grant: Grant,
    clock: Arc<dyn Clock>,
    log: Log,
}

/// RFC 6749 5.1.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    token_type: String,
    expires_in: u64,
}

impl TokenSource {
    pub(crate) fn new(issuer: Arc<Issuer>, grant: Grant, clock: Arc<dyn Clock>, log: Log) -> TokenSource {
        TokenSource { issuer, grant, clock, log }
    }

    async fn ask(&self) -> Result<Held<HeaderValue>, String> {
        let now = self.clock.unix();
        let mut form = String::from("grant_type=client_credentials");
        if let Some(scope) = &self.grant.scope {
            form.push_str("&scope=");
            form.push_str(&encoded(scope));
        }
        form.push_str("&audience=");
        form.push_str(&encoded(&self.grant.audience));
        let answer = self.issuer.post(ENDPOINT, FORM, form.into_bytes()).await?;
        read(&answer, now)
    }
}

impl Source for TokenSource {
    type Value = HeaderValue;

    fn fetch(&self) -> BoxFuture<'_, Result<Held<HeaderValue>, String>> {
        Box::pin(async move {
            let outcome = self.ask().await;
            self.log.write(&match &outcome {
                Ok(held) => serde_json::json!({ "event": "token", "state": "renewed", "audience": self.grant.audience, "dead_at": held.dead_at }),
                Err(error) => serde_json::json!({ "event": "token", "state": "failed", "audience": self.grant.audience, "error": error }),
            });
            outcome
        })
    }
}

/// The header value of a token answer, with the times of its use. `now` is when the token was asked for, so that the
/// way back does not prolong it. The error does not repeat the answer, which may hold a token.
pub(crate) fn read(answer: &[u8], now: u64) -> Result<Held<HeaderValue>, String> {
    let answer: Answer = serde_json::from_slice(answer).map_err(|error| {
        format!("the issuer's answer is not a token (line {}, column {})", error.line(), error.column())
    })?;
    if !answer.token_type.eq_ignore_ascii_case("Bearer") {
        return Err("the issuer's token is not of type Bearer".to_owned());
    }
    let token = &answer.access_token;
    // RFC 6750 2.1: b64token.
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if token.is_empty() || token.len() > MAX_TOKEN || !token.bytes().all(allowed) {
        return Err(format!("the issuer's token is empty, over {MAX_TOKEN} bytes or no bearer token"));
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| "the issuer's token is no header value".to_owned())?;
    value.set_sensitive(true);
    let (renew_at, dead_at) = times(now, answer.expires_in);
    Ok(Held { value, renew_at, dead_at })
}

/// Used until 30 s before its end, or a tenth of its life if that is less; renewed in the same time before that.
fn times(now: u64, expires_in: u64) -> (u64, u64) {
    let margin = (expires_in / 10).min(30);
    let dead_at = now.saturating_add(expires_in - margin);
    (dead_at - margin, dead_at)
}

/// `application/x-www-form-urlencoded`.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_answer_gives_header_and_times() {
        let held = read(br#"{"access_token":"a.b-c","token_type":"bearer","expires_in":600,"scope":"x"}"#, 1_000);
        let Ok(held) = held else { panic!("refused") };
        assert_eq!(held.value, "Bearer a.b-c");
        assert!(held.value.is_sensitive());
        assert_eq!((held.renew_at, held.dead_at), (1_540, 1_570));
    }

    #[test]
    fn short_lives_keep_a_tenth_as_margin() {
        assert_eq!(times(1_000, 60), (1_048, 1_054));
        assert_eq!(times(1_000, 0), (1_000, 1_000));
        assert_eq!(times(1_000, 86_400), (87_340, 87_370));
    }

    #[test]
    fn bad_answers_are_refused_without_repeating_them() {
        let long =
            format!(r#"{{"access_token":"{}","token_type":"Bearer","expires_in":1}}"#, "s".repeat(MAX_TOKEN + 1));
        for answer in [
            "",
            "secret",
            r#"{"access_token":"secret"}"#,
            r#"{"access_token":"secret","token_type":"DPoP","expires_in":60}"#,
            r#"{"access_token":"secret secret","token_type":"Bearer","expires_in":60}"#,
            r#"{"access_token":"secret\r\nx: y","token_type":"Bearer","expires_in":60}"#,
            r#"{"access_token":"","token_type":"Bearer","expires_in":60}"#,
            r#"{"access_token":"secret","token_type":"Bearer","expires_in":-1}"#,
            r#"{"access_token":"secret","token_type":"Bearer","expires_in":"60"}"#,
            &long,
        ] {
            let Err(error) = read(answer.as_bytes(), 0) else { panic!("{answer}") };
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn form_values_are_encoded() {
        assert_eq!(encoded("a b+c&d=é"), "a+b%2Bc%26d%3D%C3%A9");
    }
}
