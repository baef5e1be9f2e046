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
use std::time::Duration;
use tokio::net::TcpStream;

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

/// A call of the Extensions API that failed.
#[derive(Debug, thiserror::Error)]
#[error("the Lambda Extensions API at {address} failed: {call}: {why}")]
pub struct LifecycleError {
    address: String,
    call: &'static str,
    why: String,
}

/// Registers and asks for events until SHUTDOWN. `tick` is called after the registration and at each invocation; it
/// must not wait, since the invocation's end waits for the next call.
///
/// # Errors
/// When the registration is refused, or `/next` fails several times in a row.
pub(crate) async fn live(api: &LambdaApi, log: &Log, tick: impl Fn()) -> Result<(), LifecycleError> {
    let mut kept = None;
    let identifier = register(api, &mut kept).await?;
    tick();
    let mut failures = 0;
    loop {
        match next(api, &identifier, &mut kept).await {
            Ok(event) if event == "SHUTDOWN" => return Ok(()),
            // An event of a later version of the API is no reason to take the function down.
            Ok(_) => {
                failures = 0;
                tick();
            }
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
async fn next(api: &LambdaApi, identifier: &HeaderValue, kept: &mut Kept) -> Result<String, LifecycleError> {
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
        Some(kind) => Ok(kind.to_owned()),
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
        None => connect(api).await?,
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

async fn connect(api: &LambdaApi) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = TcpStream::connect(&api.address).await.map_err(|error| error.to_string())?;
    let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
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
        let api = LambdaApi { address, name: "causeway".to_owned(), managed: false };
        let log = Log::memory().0;
        let (ended, ()) = tokio::join!(live(&api, &log, || ()), lambda);
        ended.unwrap();
        assert_eq!(asked.into_inner(), 4);
    }
}
