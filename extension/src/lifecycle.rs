//! The Lambda Extensions API: register, ask for events, leave at SHUTDOWN.
//!
//! A client of our own in place of the `lambda-extension` crate. Of its version 1.1.1: the run loop asks for the next
//! event after SHUTDOWN, so that the process is killed unless a handler exits from within; the status of `/next` is not
//! checked; an event type that it does not know ends the process; without `AWS_LAMBDA_RUNTIME_API` it panics, and the
//! same program is a plain process in ECS.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use platform::log::Log;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::config::LambdaApi;

const BASE: &str = "/2020-01-01/extension";

/// The header that a registration returns and every later call carries.
const IDENTIFIER: &str = "lambda-extension-identifier";

/// The largest answer of the API, in bytes.
const MAX_ANSWER: usize = 256 * 1_024;

/// How often `/next` may fail in a row before the environment is given up.
const MAX_FAILURES: u32 = 5;

/// The pause between two such failures.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a registration tries again that nobody takes a connection for. All of INIT has 10 s.
const REGISTER_WITHIN: Duration = Duration::from_secs(3);

/// The pause between two such tries.
const REGISTER_PAUSE: Duration = Duration::from_millis(50);

/// A call of the Extensions API that failed.
#[derive(Debug, thiserror::Error)]
#[error("the Lambda Extensions API at {address} failed: {call}: {why}")]
pub struct LifecycleError {
    address: String,
    call: &'static str,
    why: String,
}

/// What happens to an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// It is registered, and nothing has been invoked yet.
    Registered,
    /// The function is invoked.
    Invoke {
        /// Milliseconds since the epoch.
        deadline: Option<u64>,
        /// `X-Amzn-Trace-Id`.
        tracing: Option<&'a str>,
        /// The invocation's own id, which is in the function's log, too.
        request_id: Option<&'a str>,
    },
    /// An event of a later version of the API.
    Unknown,
}

impl<'a> Event<'a> {
    /// `None` for SHUTDOWN.
    fn read(kind: &str, event: &'a serde_json::Value) -> Option<Event<'a>> {
        match kind {
            "SHUTDOWN" => None,
            "INVOKE" => {
                // The documentation has seen both a number and a text.
                let deadline = event.get("deadlineMs");
                let deadline = deadline.and_then(|at| at.as_u64().or_else(|| at.as_str()?.parse().ok()));
                let tracing = event.pointer("/tracing/value").and_then(serde_json::Value::as_str);
                let request_id = event.get("requestId").and_then(serde_json::Value::as_str);
                Some(Event::Invoke { deadline, tracing, request_id })
            }
            // No reason to take the function down.
            _ => Some(Event::Unknown),
        }
    }
}

/// Registers and asks for events until SHUTDOWN. `tick` is called after the registration and at each invocation; it
/// must not wait, since the invocation's end waits for the next call.
///
/// # Errors
/// When the registration is refused or cannot be tried within some seconds, or `/next` fails several times in a row.
pub(crate) async fn live(api: &LambdaApi, log: &Log, tick: impl Fn(Event<'_>)) -> Result<(), LifecycleError> {
    let mut kept = Some(connect_patiently(api, log).await?);
    let identifier = register(api, &mut kept).await?;
    tick(Event::Registered);
    let mut failures = 0;
    loop {
        match next(api, &identifier, &mut kept).await {
            Ok((kind, event)) => match Event::read(&kind, &event) {
                None => return Ok(()),
                Some(event) => {
                    failures = 0;
                    tick(event);
                }
            },
            Err(error) => {
                log.write(&serde_json::json!({ "event": "lifecycle", "error": error.to_string() }));
                failures += 1;
                if failures == MAX_FAILURES {
                    return Err(error);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The connection to the API after a call. An application with very many connections may leave no file descriptor for
/// another one, and an extension that cannot ask for the next event takes the function down.
type Kept = Option<SendRequest<Full<Bytes>>>;

/// The first connection. Whoever refuses it has heard nothing, and may be about to listen; every other error stands, as
/// does the answer to a registration.
async fn connect_patiently(api: &LambdaApi, log: &Log) -> Result<SendRequest<Full<Bytes>>, LifecycleError> {
    let until = Instant::now() + REGISTER_WITHIN;
    let mut said = false;
    loop {
        let error = match connect(api).await {
            Ok(sender) => return Ok(sender),
            Err(error) => error,
        };
        let why = error.to_string();
        let failed = LifecycleError { address: api.address.clone(), call: "register", why };
        if error.kind() != ErrorKind::ConnectionRefused || Instant::now() >= until {
            return Err(failed);
        }
        if !said {
            said = true;
            log.write(&serde_json::json!({ "event": "lifecycle", "error": format!("{failed}; it is tried again") }));
        }
        tokio::time::sleep(REGISTER_PAUSE).await;
    }
}

async fn register(api: &LambdaApi, kept: &mut Kept) -> Result<HeaderValue, LifecycleError> {
    let failed = |why: &str| LifecycleError { address: api.address.clone(), call: "register", why: why.to_owned() };
    // Managed instances refuse INVOKE.
    let events = if api.managed { r#"{"events":["SHUTDOWN"]}"# } else { r#"{"events":["INVOKE","SHUTDOWN"]}"# };
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{BASE}/register"))
        .header("lambda-extension-name", api.name.as_str())
        .header("content-type", "application/json")
        .body(Full::from(events))
        .map_err(|error| failed(&error.to_string()))?;
    let response = call(api, request, kept).await.map_err(|why| failed(&why))?;
    match response.headers().get(IDENTIFIER) {
        Some(identifier) => Ok(identifier.clone()),
        None => Err(failed("the answer has no Lambda-Extension-Identifier")),
    }
}

/// Waits for the next event, for as long as it takes: the environment is frozen meanwhile.
async fn next(
    api: &LambdaApi,
    identifier: &HeaderValue,
    kept: &mut Kept,
) -> Result<(String, serde_json::Value), LifecycleError> {
    let failed = |why: String| LifecycleError { address: api.address.clone(), call: "next", why };
    let request = Request::builder()
        .method(Method::GET)
        .uri(format!("{BASE}/event/next"))
        .header(IDENTIFIER, identifier)
        .body(Full::default())
        .map_err(|error| failed(error.to_string()))?;
    let response = call(api, request, kept).await.map_err(failed)?;
    let event: serde_json::Value =
        serde_json::from_slice(response.body()).map_err(|error| failed(error.to_string()))?;
    match event.get("eventType").and_then(serde_json::Value::as_str) {
        Some(kind) => Ok((kind.to_owned(), event)),
        None => Err(failed("the answer has no eventType".to_owned())),
    }
}

/// One call; only 200 is a success.
async fn call(api: &LambdaApi, mut request: Request<Full<Bytes>>, kept: &mut Kept) -> Result<Response<Bytes>, String> {
    let host = HeaderValue::from_str(&api.address).map_err(|error| error.to_string())?;
    request.headers_mut().insert(http::header::HOST, host);
    // Ready once the last answer has been read to its end; an error means that Lambda has closed it.
    if let Some(sender) = kept
        && sender.ready().await.is_err()
    {
        *kept = None;
    }
    let mut sender = match kept.take() {
        Some(sender) => sender,
        None => connect(api).await.map_err(|error| error.to_string())?,
    };
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    if status != http::StatusCode::OK {
        return Err(format!("found status {status}, expected 200"));
    }
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| error.to_string())?;
    *kept = Some(sender);
    Ok(Response::from_parts(head, body.to_bytes()))
}

async fn connect(api: &LambdaApi) -> std::io::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(&api.address).await?;
    let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    // It ends with `sender`; its error is the request's.
    tokio::spawn(async move {
        let _ = driver.await;
    });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn events_are_read() {
        let trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=3995c3f42cd8ad8;Sampled=1";
        let (invoke, none) =
            (|deadline, tracing| Some(Event::Invoke { deadline, tracing, request_id: None }), Option::<u64>::None);
        for (event, expected) in [
            (
                serde_json::json!({"eventType": "INVOKE", "deadlineMs": 1_700_000_000_000_u64,
                    "tracing": {"type": "X-Amzn-Trace-Id", "value": trace}}),
                invoke(Some(1_700_000_000_000), Some(trace)),
            ),
            (serde_json::json!({"eventType": "INVOKE", "deadlineMs": "676051"}), invoke(Some(676_051), None)),
            (serde_json::json!({"eventType": "INVOKE", "deadlineMs": -1}), invoke(none, None)),
            (serde_json::json!({"eventType": "INVOKE", "deadlineMs": "x", "tracing": 1}), invoke(none, None)),
            (serde_json::json!({"eventType": "INVOKE"}), invoke(none, None)),
            (
                serde_json::json!({"eventType": "INVOKE", "requestId": "3da1f2dc"}),
                Some(Event::Invoke { deadline: none, tracing: None, request_id: Some("3da1f2dc") }),
            ),
            (serde_json::json!({"eventType": "NEW"}), Some(Event::Unknown)),
            (serde_json::json!({"eventType": "SHUTDOWN", "deadlineMs": 1}), None),
        ] {
            assert_eq!(Event::read(event["eventType"].as_str().unwrap(), &event), expected, "{event}");
        }
    }

    /// A port where nobody listens: the socket has it and does not.
    fn silent() -> (tokio::net::TcpSocket, LambdaApi) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap().to_string();
        (socket, LambdaApi { address, name: "causeway".to_owned(), managed: false, snap_start: false })
    }

    /// The end of `life`, while `lambda` answers: that one may wait for what never comes.
    async fn beside<T>(life: impl Future<Output = T>, lambda: impl Future<Output = ()>) -> T {
        let answering = async {
            lambda.await;
            std::future::pending::<Infallible>().await
        };
        let ended = async {
            tokio::select! {
                ended = life => ended,
                never = answering => match never {},
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ended).await.expect("the life has an end")
    }

    #[tokio::test]
    async fn a_connection_that_is_refused_at_the_start_is_tried_again() {
        let (socket, api) = silent();
        let (log, lines) = Log::memory();
        let lambda = async {
            while lines.all().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let listener = socket.listen(8).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let answer = service_fn(|_: Request<Incoming>| {
                let body = Full::<Bytes>::from(r#"{"eventType":"SHUTDOWN"}"#);
                let response = Response::builder().header(IDENTIFIER, "id").body(body).unwrap();
                async move { Ok::<_, Infallible>(response) }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        };
        let ended = beside(live(&api, &log, |_| ()), lambda).await;
        ended.unwrap();
        let said = lines.all();
        assert_eq!(said.len(), 1, "once: {said:?}");
        assert!(said[0].contains("register") && said[0].contains("tried again"), "{said:?}");
    }

    #[tokio::test]
    async fn a_connection_that_is_always_refused_is_given_up() {
        let (_socket, api) = silent();
        let begun = Instant::now();
        let error = live(&api, &Log::memory().0, |_| ()).await.unwrap_err();
        assert!(begun.elapsed() >= REGISTER_WITHIN, "{:?}", begun.elapsed());
        assert_eq!(error.call, "register");
        // What is no refusal is not tried again.
        let (log, lines) = Log::memory();
        let error = live(&LambdaApi { address: "no address".to_owned(), ..api }, &log, |_| ()).await.unwrap_err();
        assert_eq!((error.call, lines.all().len()), ("register", 0), "{error}");
    }

    #[tokio::test]
    async fn one_connection_is_enough() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = AtomicUsize::new(0);
        let lambda = async {
            let (stream, _) = listener.accept().await.unwrap();
            // Nobody gets a second one.
            drop(listener);
            let answer = service_fn(|_: Request<Incoming>| {
                let event = if asked.fetch_add(1, Ordering::Relaxed) < 3 { "INVOKE" } else { "SHUTDOWN" };
                let body = Full::<Bytes>::from(format!(r#"{{"eventType":"{event}"}}"#));
                let response = Response::builder().header(IDENTIFIER, "id").body(body).unwrap();
                async move { Ok::<_, Infallible>(response) }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        };
        let api = LambdaApi { address, name: "causeway".to_owned(), managed: false, snap_start: false };
        let log = Log::memory().0;
        let ended = beside(live(&api, &log, |_| ()), lambda).await;
        ended.unwrap();
        assert_eq!(asked.into_inner(), 4);
    }
}
