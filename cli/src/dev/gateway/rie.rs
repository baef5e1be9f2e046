//! A function under the AWS Lambda Runtime Interface Emulator (RIE).

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use platform::BoxFuture;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::config::ConfigError;
use super::invoke::{FunctionError, InvokeError, InvokeOutcome, Invoker};

/// A function behind an RIE's HTTP port.
///
/// A sandbox handles one event at a time, and the emulator does not queue: a second call while one is under way makes it
/// crash. Calls through one `Rie` and its clones therefore wait for each other; make one `Rie` for each emulator and
/// clone it. A call that its caller gave up on still occupies the sandbox, as on AWS, so the turn lasts until the
/// emulator has answered.
#[derive(Clone, Debug)]
pub struct Rie {
    authority: Arc<str>,
    turn: Arc<Mutex<()>>,
}

/// The path of the Invoke API; the function's name is always `function`.
const PATH: &str = "/2015-03-31/functions/function/invocations";

/// The Invoke API's header for the trace of an invocation, and API Gateway's for that of a request.
const TRACE: &str = "x-amzn-trace-id";

/// Lambda's limit for synchronous payloads is 6 MB (Lambda quotas); twice that leaves room for JSON escapes.
const MAX_ANSWER: usize = 2 * 6 * 1024 * 1024;

impl Rie {
    /// The function at `url`, such as `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// The URL is not `http://HOST:PORT`.
    pub fn new(url: &str) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::new("emulator address", url, "http://HOST:PORT");
        let uri: http::Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri
            .authority()
            .filter(|authority| authority.port_u16().is_some() && !authority.as_str().contains('@'))
            .ok_or_else(wrong)?;
        if uri.scheme_str() != Some("http") || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong());
        }
        Ok(Self { authority: authority.as_str().into(), turn: Arc::default() })
    }

    async fn post(authority: Arc<str>, event: Value, turn: OwnedMutexGuard<()>) -> Result<InvokeOutcome, InvokeError> {
        let broken = |detail: &dyn std::fmt::Display| InvokeError::Broken {
            address: authority.to_string(),
            detail: detail.to_string(),
        };
        let stream = TcpStream::connect(authority.as_ref())
            .await
            .map_err(|source| InvokeError::Unreachable { address: authority.to_string(), source })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
        let connection = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(PATH)
            .header(header::HOST, authority.as_ref())
            .header(header::CONNECTION, "close");
        if let Some(trace) = trace(&event) {
            request = request.header(TRACE, trace);
        }
        let request = request.body(Full::new(Bytes::from(event.to_string()))).map_err(|e| broken(&e))?;
        let answer = sender.send_request(request).await.map_err(|e| broken(&e))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|e| broken(&e))?.to_bytes();
        connection.abort();
        drop(turn);
        read(head.status, head.headers.contains_key("x-amz-function-error"), &body)
            .map_err(|found| InvokeError::BadAnswer { address: authority.to_string(), found })
    }
}

impl Invoker for Rie {
    fn invoke(&self, event: Value) -> BoxFuture<'_, Result<InvokeOutcome, InvokeError>> {
        Box::pin(async move {
            let turn = Arc::clone(&self.turn).lock_owned().await;
            let authority = Arc::clone(&self.authority);
            let address = authority.to_string();
            // In a task of its own, so that the turn ends with the emulator's answer and not with the caller's patience.
            tokio::spawn(Self::post(authority, event, turn))
                .await
                .unwrap_or_else(|error| Err(InvokeError::Broken { address, detail: error.to_string() }))
        })
    }
}

/// The trace that the event's request is in. The X-Ray guide has it that API Gateway passes it on to the function; of HTTP
/// APIs it says nothing, and the same is assumed.
fn trace(event: &Value) -> Option<HeaderValue> {
    let headers = event["headers"].as_object()?;
    let (_, value) = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(TRACE))?;
    HeaderValue::from_str(value.as_str()?).ok()
}

/// Tells a result from a failure. The emulator answers both with 200 and without `X-Amz-Function-Error`; only a sandbox
/// that died is a 502, and one that ran out of time a sentence.
fn read(status: StatusCode, marked: bool, body: &[u8]) -> Result<InvokeOutcome, String> {
    let payload: Option<Value> = serde_json::from_slice(body).ok();
    if let Some(error) = payload.as_ref().and_then(|payload| function_error(payload, marked || !status.is_success())) {
        return Ok(InvokeOutcome::FunctionError(error));
    }
    match payload {
        Some(payload) if status.is_success() => Ok(InvokeOutcome::Payload(payload)),
        None if body.starts_with(b"Task timed out after ") => Ok(InvokeOutcome::FunctionError(FunctionError {
            error_type: "Sandbox.Timedout".to_owned(),
            error_message: String::from_utf8_lossy(body).into_owned(),
        })),
        Some(_) => Err(format!("status {status}")),
        None => Err(format!("status {status} and {} bytes that are not JSON", body.len())),
    }
}

/// The members that the runtimes put into an error. A payload with any other one is a function's own answer.
const ERROR_MEMBERS: [&str; 7] =
    ["errorMessage", "errorType", "stackTrace", "trace", "requestId", "cause", "diagnostic"];

/// `payload` as an error: certainly one (`sure`), or of exactly an error's shape.
fn function_error(payload: &Value, sure: bool) -> Option<FunctionError> {
    let object = payload.as_object()?;
    let text = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
    let (error_type, error_message) = (text("errorType"), text("errorMessage"));
    if !sure
        && (error_type.is_none()
            || error_message.is_none()
            || !object.keys().all(|key| ERROR_MEMBERS.contains(&key.as_str())))
    {
        return None;
    }
    Some(FunctionError { error_type: error_type.unwrap_or_default(), error_message: error_message.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn failed(error_type: &str, error_message: &str) -> Result<InvokeOutcome, String> {
        Ok(InvokeOutcome::FunctionError(FunctionError {
            error_type: error_type.to_owned(),
            error_message: error_message.to_owned(),
        }))
    }

    #[test]
    fn an_invocation_is_in_the_trace_of_its_request() {
        let of = |event: Value| trace(&event).and_then(|value| value.to_str().map(str::to_owned).ok());
        let root = "Root=1-5759e988-bd862e3fe1be46a994272793";
        for name in ["x-amzn-trace-id", "X-Amzn-Trace-Id"] {
            assert_eq!(of(serde_json::json!({"headers": {"accept": "*/*", name: root}})).as_deref(), Some(root));
        }
        for event in [serde_json::json!({"headers": {TRACE: "a\nb"}}), serde_json::json!({"headers": {}}), Value::Null]
        {
            assert_eq!(of(event), None);
        }
    }

    /// The bodies are those that the emulator of the tests' tools was seen to send.
    #[test]
    fn an_error_is_told_from_a_result() {
        let payload = |text: &str| Ok(InvokeOutcome::Payload(serde_json::from_str(text).unwrap()));
        let exit = r#"{"errorType":"Runtime.ExitError","errorMessage":"RequestId: 1 Error: Runtime exited with error: exit status 3"}"#;
        let own = r#"{"errorMessage":"x","errorType":"y","statusCode":400}"#;
        let cases = [
            (200, false, r#"{"errorMessage": "Unauthorized", "errorType": "E"}"#, failed("E", "Unauthorized")),
            (200, false, r#"{"errorMessage":"m","errorType":"E","requestId":"1","stackTrace":[]}"#, failed("E", "m")),
            (200, true, r#"{"errorMessage":"m","other":1}"#, failed("", "m")),
            (
                502,
                false,
                exit,
                failed("Runtime.ExitError", "RequestId: 1 Error: Runtime exited with error: exit status 3"),
            ),
            (
                200,
                false,
                "Task timed out after 3.00 seconds",
                failed("Sandbox.Timedout", "Task timed out after 3.00 seconds"),
            ),
            (200, false, own, payload(own)),
            (200, false, r#"{"errorMessage":"m"}"#, payload(r#"{"errorMessage":"m"}"#)),
            (200, false, "\"text\"", payload("\"text\"")),
            (200, false, "null", payload("null")),
            (200, false, "not json {", Err("status 200 OK and 10 bytes that are not JSON".to_owned())),
            (500, false, "[]", Err("status 500 Internal Server Error".to_owned())),
        ];
        for (status, marked, body, expected) in cases {
            assert_eq!(
                read(StatusCode::from_u16(status).unwrap(), marked, body.as_bytes()),
                expected,
                "{status} {body}"
            );
        }
    }

    #[test]
    fn the_address_is_one_of_an_emulator() {
        assert!(Rie::new("http://127.0.0.1:8080").is_ok());
        assert!(Rie::new("http://localhost:8080/").is_ok());
        for bad in [
            "https://127.0.0.1:8080",
            "http://127.0.0.1",
            "127.0.0.1:8080",
            "http://a:1/x",
            "http://u@a:1",
            "http://a:1/?q",
            "",
        ] {
            assert!(Rie::new(bad).is_err(), "{bad}");
        }
    }
}
