//! API Gateway's and Lambda's envelope: HTTP API events of payload format 2.0 and Function URL events (the same
//! shape) in, proxy responses of payload format 2.0 out.
//!
//! The types of `aws_lambda_events` are not used here, for three reasons that a test shows: their header map fails
//! the whole event on one odd header name or value, their HTTP method fails it on a method that `http` does not
//! take, and a Function URL event without `isBase64Encoded` does not parse. A caller would choose between an
//! answer of ours and a Lambda error, which is an alarm. The test also reads our answers with their types.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The largest body that is read, in bytes after base64.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// The event is none that this function answers.
///
/// It is an error of the invocation and not an HTTP answer, because to some services any answer means success:
/// Secrets Manager's rotation takes whatever its function returns for "done".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event is not supported: {0}")]
pub struct UnsupportedEvent(pub(crate) &'static str);

/// Why an invocation has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvocationError {
    /// The event is none of ours.
    #[error(transparent)]
    Unsupported(#[from] UnsupportedEvent),
    /// A step of the rotation of the signing keys failed. Secrets Manager repeats it.
    #[error("the rotation of the signing keys: {0}")]
    Rotation(String),
    /// Usage plans could not be looked at. The next scheduled run does it.
    #[error("the reconciliation of usage plans: {0}")]
    Reconciliation(String),
}

/// A request as it came through one of the doors. Nothing in it is proven yet. `Debug` leaves out headers and body, which
/// hold credentials.
pub(crate) struct Request {
    /// The method, as sent.
    pub(crate) method: String,
    /// The path without stage and query, as sent.
    pub(crate) path: String,
    /// The query string, empty if there is none.
    pub(crate) query: String,
    /// All headers.
    pub(crate) headers: Headers,
    /// The decoded body.
    pub(crate) body: Result<Vec<u8>, BodyError>,
    /// The id of the API or Function URL. AWS sets it; the caller cannot.
    pub(crate) api_id: String,
    /// `requestContext.authorizer`, which means something only at a configured IAM door.
    pub(crate) unverified_authorizer: Option<Value>,
    /// `requestContext.authentication.clientCert.clientCertPem`, which means something only at a configured mTLS door.
    pub(crate) unverified_client_certificate: Option<String>,
    /// `requestContext.domainName`: the host that the caller used, as AWS says.
    pub(crate) domain_name: Option<String>,
    /// For the log.
    pub(crate) request_id: Option<String>,
    /// For the log.
    pub(crate) source_ip: Option<String>,
}

/// Why the body cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// Larger than [`MAX_BODY_BYTES`].
    TooLarge,
    /// `isBase64Encoded`, and it is not.
    NotBase64,
}

/// Headers with lower-case names. HTTP APIs send lower case, Function URLs and test tools send what they like.
pub(crate) struct Headers(Vec<(String, String)>);

/// The same header twice where only one can be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DuplicateHeader;

impl Headers {
    /// All of them, names in lower case, in no order that means anything.
    pub(crate) fn lines(&self) -> &[(String, String)] {
        &self.0
    }

    /// The header's only value.
    ///
    /// Payload format 2.0 joins several headers of one name with commas, and an event can hold one name in two
    /// spellings. What a comma means depends on the header, so the caller looks for it.
    pub(crate) fn only(&self, name: &str) -> Result<Option<&str>, DuplicateHeader> {
        let mut values = self.0.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str());
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(DuplicateHeader),
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Request");
        shown
            .field("method", &self.method)
            .field("path", &self.path)
            .field("api_id", &self.api_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("status", &self.status).finish_non_exhaustive()
    }
}

impl TryFrom<Value> for Request {
    type Error = UnsupportedEvent;

    fn try_from(mut event: Value) -> Result<Self, UnsupportedEvent> {
        if event.get("version").and_then(Value::as_str) != Some("2.0") {
            return Err(UnsupportedEvent("expected an HTTP API or Function URL event of payload format 2.0"));
        }
        let context = event.get_mut("requestContext").map(Value::take).unwrap_or_default();
        let text = |value: &Value, path: &str| value.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let method = text(&context, "/http/method").ok_or(UnsupportedEvent("requestContext.http.method is missing"))?;
        let api_id = text(&context, "/apiId").ok_or(UnsupportedEvent("requestContext.apiId is missing"))?;
        let raw_path = text(&event, "/rawPath").ok_or(UnsupportedEvent("rawPath is missing"))?;
        let stage = text(&context, "/stage").unwrap_or_default();
        Ok(Self {
            method,
            path: without_stage(&raw_path, &stage).to_owned(),
            query: text(&event, "/rawQueryString").unwrap_or_default(),
            headers: headers(event.get("headers")),
            body: body(
                event.get("body").and_then(Value::as_str).unwrap_or_default(),
                event.get("isBase64Encoded") == Some(&Value::Bool(true)),
            ),
            api_id,
            unverified_authorizer: context.get("authorizer").filter(|a| !a.is_null()).cloned(),
            unverified_client_certificate: text(&context, "/authentication/clientCert/clientCertPem"),
            domain_name: text(&context, "/domainName"),
            request_id: text(&context, "/requestId"),
            source_ip: text(&context, "/http/sourceIp"),
        })
    }
}

/// An answer on its way out. `Debug` leaves out the body, which may be a token.
pub(crate) struct Response {
    /// The HTTP status.
    pub(crate) status: u16,
    /// Names as HTTP writes them; each name once.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// UTF-8 text, in practice JSON or nothing.
    pub(crate) body: String,
}

impl Response {
    /// A JSON answer that no cache may keep. RFC 6749 §5.1: "the authorization server MUST include the HTTP
    /// 'Cache-Control' response header field with a value of 'no-store' in any response containing tokens,
    /// credentials, or other sensitive information, as well as the 'Pragma' response header field with a value
    /// of 'no-cache'".
    pub(crate) fn private_json(status: u16, body: String) -> Self {
        Self {
            status,
            headers: vec![
                ("Content-Type", "application/json".to_owned()),
                ("Cache-Control", "no-store".to_owned()),
                ("Pragma", "no-cache".to_owned()),
            ],
            body,
        }
    }

    /// A JSON document that everybody may keep for `max_age_seconds`.
    pub(crate) fn public_json(max_age_seconds: u64, body: String) -> Self {
        Self {
            status: 200,
            headers: vec![
                ("Content-Type", "application/json".to_owned()),
                ("Cache-Control", format!("public, max-age={max_age_seconds}")),
            ],
            body,
        }
    }

    /// The proxy response of payload format 2.0.
    pub(crate) fn into_payload(self) -> Value {
        let headers: serde_json::Map<String, Value> =
            self.headers.into_iter().map(|(name, value)| (name.to_owned(), Value::String(value))).collect();
        json!({"statusCode": self.status, "headers": headers, "body": self.body, "isBase64Encoded": false})
    }
}

/// HTTP APIs put the name of any stage but `$default` in front of the path.
fn without_stage<'a>(path: &'a str, stage: &str) -> &'a str {
    if stage.is_empty() || stage == "$default" {
        return path;
    }
    path.strip_prefix('/')
        .and_then(|rest| rest.strip_prefix(stage))
        .filter(|rest| rest.starts_with('/'))
        .unwrap_or(path)
}

fn headers(map: Option<&Value>) -> Headers {
    let entries = map.and_then(Value::as_object).into_iter().flatten();
    // A value that is not text cannot be a header; it is left out, and a header that the request needs is missed.
    Headers(entries.filter_map(|(name, value)| Some((name.to_ascii_lowercase(), value.as_str()?.to_owned()))).collect())
}

fn body(text: &str, is_base64: bool) -> Result<Vec<u8>, BodyError> {
    let limit = if is_base64 { MAX_BODY_BYTES.div_ceil(3) * 4 } else { MAX_BODY_BYTES };
    if text.len() > limit {
        return Err(BodyError::TooLarge);
    }
    if !is_base64 {
        return Ok(text.as_bytes().to_vec());
    }
    let bytes = STANDARD.decode(text).map_err(|_| BodyError::NotBase64)?;
    if bytes.len() > MAX_BODY_BYTES {
        return Err(BodyError::TooLarge);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
    use aws_lambda_events::lambda_function_urls::LambdaFunctionUrlRequest;

    use super::*;

    fn event() -> Value {
        json!({
            "version": "2.0", "routeKey": "$default", "rawPath": "/oauth2/token", "rawQueryString": "",
            "headers": {"Authorization": "Basic eDp5"}, "body": "a=b", "isBase64Encoded": false,
            "requestContext": {"apiId": "api1", "stage": "$default", "requestId": "r1", "timeEpoch": 0,
                "http": {"method": "POST", "path": "/oauth2/token", "sourceIp": "203.0.113.7"}},
        })
    }

    #[test]
    fn an_event_becomes_a_request() {
        let request = Request::try_from(event()).unwrap();
        assert_eq!(request.method, "POST");
        assert_eq!(request.path, "/oauth2/token");
        assert_eq!(request.headers.only("authorization"), Ok(Some("Basic eDp5")));
        assert_eq!(request.body.as_deref(), Ok("a=b".as_bytes()));
        assert_eq!(request.api_id, "api1");
        assert_eq!(request.request_id.as_deref(), Some("r1"));
        assert_eq!(request.source_ip.as_deref(), Some("203.0.113.7"));
        assert!(request.unverified_authorizer.is_none());
        assert!(request.unverified_client_certificate.is_none() && request.domain_name.is_none());
    }

    /// The certificate's place in payload format 2.0, by the types of `aws_lambda_events`, and no other place.
    #[test]
    fn the_client_certificate_is_read_from_one_place() {
        let mut with = event();
        with["requestContext"]["domainName"] = json!("mtls.bookinfo.example");
        with["requestContext"]["authentication"] = json!({"clientCert": {"clientCertPem": "PEM", "subjectDN": "CN=a",
            "issuerDN": "CN=b", "serialNumber": "1", "validity": {"notBefore": "x", "notAfter": "y"}}});
        let request = Request::try_from(with.clone()).unwrap();
        assert_eq!(request.unverified_client_certificate.as_deref(), Some("PEM"));
        assert_eq!(request.domain_name.as_deref(), Some("mtls.bookinfo.example"));
        let theirs: ApiGatewayV2httpRequest = serde_json::from_value(with).unwrap();
        let certificate = theirs.request_context.authentication.unwrap().client_cert.unwrap();
        assert_eq!(certificate.client_cert_pem.as_deref(), Some("PEM"));

        let mut elsewhere = event();
        elsewhere["requestContext"]["identity"] = json!({"clientCert": {"clientCertPem": "PEM"}});
        elsewhere["requestContext"]["authorizer"] = json!({"clientCert": {"clientCertPem": "PEM"}});
        elsewhere["headers"]["x-amzn-mtls-clientcert"] = json!("PEM");
        assert!(Request::try_from(elsewhere).unwrap().unverified_client_certificate.is_none());
    }

    #[test]
    fn what_is_no_http_event_is_an_error_of_the_invocation() {
        let mut no_method = event();
        no_method["requestContext"]["http"] = json!({});
        let mut no_api = event();
        no_api["requestContext"]["apiId"] = Value::Null;
        let mut version_1 = event();
        version_1["version"] = json!("1.0");
        for (event, named) in [
            (json!({"Step": "createSecret", "SecretId": "s", "ClientRequestToken": "t"}), "2.0"),
            (json!(null), "2.0"),
            (json!([]), "2.0"),
            (version_1, "2.0"),
            (no_method, "requestContext.http.method"),
            (no_api, "requestContext.apiId"),
        ] {
            let error = Request::try_from(event).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn odd_headers_do_not_fail_the_event_as_they_do_in_aws_lambda_events() {
        let mut odd = event();
        odd["headers"]["näme"] = json!("x");
        assert!(serde_json::from_value::<ApiGatewayV2httpRequest>(odd.clone()).is_err());
        assert_eq!(Request::try_from(odd).unwrap().path, "/oauth2/token");

        let mut null_value = event();
        null_value["headers"]["x-null"] = Value::Null;
        assert!(Request::try_from(null_value).is_ok());

        let mut method = event();
        method["requestContext"]["http"]["method"] = json!("GE T");
        assert!(serde_json::from_value::<ApiGatewayV2httpRequest>(method.clone()).is_err());
        assert_eq!(Request::try_from(method).unwrap().method, "GE T");

        let mut bare = event();
        bare.as_object_mut().unwrap().remove("isBase64Encoded");
        assert!(serde_json::from_value::<LambdaFunctionUrlRequest>(bare.clone()).is_err());
        assert!(Request::try_from(bare).is_ok());
    }

    #[test]
    fn our_answers_are_answers_to_aws_lambda_events() {
        let payload = Response::private_json(401, "{}".to_owned()).into_payload();
        let theirs: ApiGatewayV2httpResponse = serde_json::from_value({
            // Their type requires a list of cookies, which the format does not.
            let mut payload = payload;
            payload["cookies"] = json!([]);
            payload
        })
        .unwrap();
        assert_eq!(theirs.status_code, 401);
        assert_eq!(theirs.headers["cache-control"], "no-store");
        assert!(!theirs.is_base64_encoded);
    }

    #[test]
    fn debug_shows_no_credential() {
        let mut event = event();
        event["body"] = json!("client_secret=hunter2");
        let shown = format!("{:?}", Request::try_from(event).unwrap());
        assert!(shown.contains("/oauth2/token") && !shown.contains("eDp5") && !shown.contains("hunter2"), "{shown}");
        let shown = format!("{:?}", Response::private_json(200, "hunter2".to_owned()));
        assert!(shown.contains("200") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn two_spellings_of_one_header_are_two_headers() {
        let mut twice = event();
        twice["headers"]["authorization"] = json!("Basic other");
        let request = Request::try_from(twice).unwrap();
        assert_eq!(request.headers.only("authorization"), Err(DuplicateHeader));
        assert_eq!(request.headers.only("accept"), Ok(None));
    }

    #[test]
    fn bodies_at_the_limit_and_one_past_it() {
        let at = "x".repeat(MAX_BODY_BYTES);
        let past = "x".repeat(MAX_BODY_BYTES + 1);
        assert_eq!(body(&at, false).unwrap().len(), MAX_BODY_BYTES);
        assert_eq!(body(&past, false), Err(BodyError::TooLarge));
        assert_eq!(body(&STANDARD.encode(&at), true).unwrap().len(), MAX_BODY_BYTES);
        assert_eq!(body(&STANDARD.encode(&past), true), Err(BodyError::TooLarge));
        assert_eq!(body("a=b", true), Err(BodyError::NotBase64));
        assert_eq!(body("YT1i", true).unwrap(), b"a=b");
    }

    #[test]
    fn the_stage_is_no_part_of_the_path() {
        for (path, stage, expected) in [
            ("/dev/jwks.json", "dev", "/jwks.json"),
            ("/jwks.json", "$default", "/jwks.json"),
            ("/jwks.json", "", "/jwks.json"),
            ("/device/x", "dev", "/device/x"),
            ("/dev", "dev", "/dev"),
            ("//dev/x", "dev", "//dev/x"),
        ] {
            assert_eq!(without_stage(path, stage), expected, "{path} {stage}");
        }
    }
}
