//! A function's answer as an HTTP response.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Map, Value, json};

use super::server::Body;

/// What goes to the client.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Answer {
    pub(super) fn into_response(self, id_header: &'static str, id: &str) -> Response<Body> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        if let Ok(id) = HeaderValue::from_str(id) {
            response.headers_mut().insert(id_header, id);
        }
        response
    }
}

/// An answer of the gateway's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    message: Option<&'static str>,
    error_type: Option<&'static str>,
}

impl Refusal {
    pub(super) const BAD_REQUEST: Self = Self::new(StatusCode::BAD_REQUEST, "Bad Request");
    pub(super) const UNAUTHORIZED: Self = Self::new(StatusCode::UNAUTHORIZED, "Unauthorized");
    pub(super) const FORBIDDEN: Self = Self::new(StatusCode::FORBIDDEN, "Forbidden");
    pub(super) const NOT_FOUND: Self = Self::new(StatusCode::NOT_FOUND, "Not Found");
    pub(super) const BODY_TOO_LARGE: Self = Self::new(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large");
    pub(super) const HEADERS_TOO_LARGE: Self =
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "Request Header Fields Too Large");
    pub(super) const INTERNAL: Self = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
    pub(super) const UNAVAILABLE: Self = Self::new(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable");
    /// What a function URL answers for a function that failed.
    pub(super) const BAD_GATEWAY: Self = Self::new(StatusCode::BAD_GATEWAY, "Internal Server Error");
    /// What a function URL answers to a request without a valid signature.
    pub(super) const ACCESS_DENIED: Self =
        Self::typed(StatusCode::FORBIDDEN, Some("Forbidden"), "AccessDeniedException");

    pub(super) const fn new(status: StatusCode, message: &'static str) -> Self {
        Self { status, message: Some(message), error_type: None }
    }

    /// With the header `x-amzn-errortype`.
    pub(super) const fn typed(status: StatusCode, message: Option<&'static str>, error_type: &'static str) -> Self {
        Self { status, message, error_type: Some(error_type) }
    }

    /// Whether an authorizer's policy, or a missing signature, is the reason.
    pub(super) fn is_of_policy(self) -> bool {
        self.error_type == Some("AccessDeniedException")
    }

    /// `{"message": …}` at API Gateway, `{"Message": …}` at function URLs.
    pub(super) fn answer(self, member: &str) -> Answer {
        let mut headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        if let Some(error_type) = self.error_type {
            headers.push((HeaderName::from_static("x-amzn-errortype"), HeaderValue::from_static(error_type)));
        }
        Answer { status: self.status, headers, body: Bytes::from(json!({ member: self.message }).to_string()) }
    }
}

/// How an answer that is a JSON string is shown.
#[derive(Clone, Copy)]
pub(super) enum Text {
    /// HTTP APIs: `"Hello from Lambda!"` becomes the body `Hello from Lambda!`.
    Bare,
    /// Function URLs: the quotation marks stay ("content-length: 15" for `"Hello, world!"`).
    Quoted,
}

/// The answer to an event of format 2.0.
pub(super) fn from_v2(payload: Value, text: Text) -> Result<Answer, String> {
    match payload {
        Value::Object(object) if object.contains_key("statusCode") => custom(&object, true),
        // "API Gateway makes the following assumptions if your Lambda function returns valid JSON and doesn't return a
        // statusCode: isBase64Encoded is false. statusCode is 200. content-type is application/json. body is the function's
        // response." (Create AWS Lambda proxy integrations for HTTP APIs)
        inferred => {
            let body = match (inferred, text) {
                (Value::String(bare), Text::Bare) => bare,
                (other, _) => other.to_string(),
            };
            let headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
            Ok(Answer { status: StatusCode::OK, headers, body: body.into() })
        }
    }
}

/// The answer to an event of format 1.0: nothing is inferred.
pub(super) fn from_v1(payload: Value) -> Result<Answer, String> {
    match payload {
        Value::Object(object) if object.contains_key("statusCode") => custom(&object, false),
        _ => Err("the function's answer has no statusCode, which format 1.0 needs".to_owned()),
    }
}

/// An answer that says its status itself.
fn custom(object: &Map<String, Value>, v2: bool) -> Result<Answer, String> {
    // Informational codes are no final answers, and 600 and above no codes.
    let status = object
        .get("statusCode")
        .and_then(Value::as_u64)
        .and_then(|code| u16::try_from(code).ok())
        .filter(|code| (200..600).contains(code));
    let status = status
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or("the answer's statusCode is not a number from 200 to 599")?;

    let mut headers = Vec::new();
    for (name, value) in members(object, "headers")? {
        push(
            &mut headers,
            name,
            scalar(value).ok_or_else(|| format!("the answer's header {name:?} is not a string"))?,
        )?;
    }
    if v2 {
        // "In the response to the client, each cookie becomes a set-cookie header." (same page)
        for cookie in list(object.get("cookies"), "cookies")? {
            push(&mut headers, header::SET_COOKIE.as_str(), cookie.to_owned())?;
        }
    } else {
        let single = std::mem::take(&mut headers);
        for (name, values) in members(object, "multiValueHeaders")? {
            for value in list(Some(values), name)? {
                push(&mut headers, name, value.to_owned())?;
            }
        }
        headers.extend(single);
    }
    if !headers.iter().any(|(name, _)| name == header::CONTENT_TYPE) {
        // Not documented; it is what AWS' own local test tool reproduces from the service.
        headers.push((header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")));
    }

    let text = match object.get("body") {
        None | Some(Value::Null) => "",
        Some(Value::String(text)) => text,
        Some(_) => return Err("the answer's body is not a string".to_owned()),
    };
    let body = match object.get("isBase64Encoded") {
        None | Some(Value::Null | Value::Bool(false)) => Bytes::copy_from_slice(text.as_bytes()),
        Some(Value::Bool(true)) => {
            STANDARD.decode(text).map_err(|_| "the answer's body is not base64, as isBase64Encoded says")?.into()
        }
        Some(_) => return Err("the answer's isBase64Encoded is not true or false".to_owned()),
    };
    Ok(Answer { status, headers, body })
}

fn members<'a>(object: &'a Map<String, Value>, name: &str) -> Result<Vec<(&'a String, &'a Value)>, String> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(map)) => Ok(map.iter().collect()),
        Some(_) => Err(format!("the answer's {name} is not an object")),
    }
}

fn list<'a>(value: Option<&'a Value>, name: &str) -> Result<Vec<&'a str>, String> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => values
            .iter()
            .map(|value| value.as_str().ok_or_else(|| format!("the answer's {name} are not all strings")))
            .collect(),
        Some(_) => Err(format!("the answer's {name} is not a list")),
    }
}

/// A header's value as text: functions write numbers and booleans too.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

fn push(headers: &mut Vec<(HeaderName, HeaderValue)>, name: &str, value: String) -> Result<(), String> {
    let parsed: HeaderName = name.parse().map_err(|_| format!("the answer's header name {name:?} is not one"))?;
    let value = HeaderValue::from_str(&value)
        .map_err(|_| format!("the answer's header {name:?} has a control character in it"))?;
    // The connection is the gateway's.
    if !matches!(
        parsed.as_str(),
        "connection"
            | "content-length"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    ) {
        headers.push((parsed, value));
    }
    Ok(())
}
