//! One call: judged, and if it is allowed forwarded to the application.

use std::sync::Arc;
use std::time::Duration;

use authz::{Decision, Deny, Hop};
use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use http::uri::{Scheme, Uri};
use http::{Request, Response, StatusCode, Version, request};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use platform::decision_line::Seen;
use platform::front;
use platform::panics::{Panicked, unpanicked};
use tokio::sync::OwnedSemaphorePermit;

use super::body::{Answer, Content, Upload};
use super::connection::Caller;
use super::line::Line;
use super::{Inbound, Phase, ids, judge, proof};
use crate::headers::{join_cookies, remove_hop_by_hop};
use crate::keepalive::BusyGuard;
use crate::reason::{self, Reason, Refusal};
use crate::relay::{Counts, relay};
use crate::upgrade::Upgrading;

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How long a switched connection may be silent: Envoy's own limit.
const SILENCE: Duration = Duration::from_secs(3_600);

type Held = (Option<OwnedSemaphorePermit>, BusyGuard);

/// What becomes of a call.
enum Outcome {
    /// The policies, or the reading of the request, said no.
    Denied(Box<Decision>),
    /// It was allowed, and could not be done.
    Failed(Refusal),
    /// The application has answered.
    Answered(Response<Incoming>, Option<Upgrading>),
}

/// Answers one call.
pub(crate) async fn answer(
    inbound: Arc<Inbound>,
    caller: Caller,
    request: Request<Incoming>,
    busy: BusyGuard,
) -> Response<Answer> {
    let mut line = Line::begin(&inbound.log, &inbound.clock, &request);
    // What is refused at once is looked for as well.
    line.request_id = ids::given(request.headers()).unwrap_or_default();
    line.traces = ids::traces(request.headers());
    line.metrics = inbound.metrics.clone();
    line.port = caller.port;
    line.source = caller.address.to_string();
    line.peer = caller.proven.as_ref().map(|proven| proven.id.to_string());
    let (version, grpc) = (request.version(), is_grpc(request.headers()));
    let place = Arc::clone(&inbound.requests).try_acquire_owned().ok();
    let outcome = match (&place, version) {
        (None, _) => {
            let detail = "too many requests at a time".to_owned();
            Outcome::Failed(Refusal::new(Reason::TooManyConnections, detail))
        }
        // As Envoy answers it; without Host and persistent connections it is nothing that a mesh speaks.
        (_, Version::HTTP_09 | Version::HTTP_10) => {
            let detail = "HTTP/1.0 is not spoken here".to_owned();
            Outcome::Failed(Refusal::new(Reason::RequestInvalid, detail))
        }
        _ => match inbound.tls.judges() {
            Ok(()) => exchange(&inbound, &caller, request, &mut line).await,
            Err(detail) => Outcome::Failed(Refusal::new(Reason::IdentityOfAnotherNamespace, detail)),
        },
    };
    let held = (place, busy);
    let mut response = match outcome {
        Outcome::Denied(decision) => {
            line.reason = Some(decision.reason().as_str());
            denied(&decision, grpc, line, held)
        }
        Outcome::Failed(refusal) => failed(&refusal, grpc, line, held),
        Outcome::Answered(response, upgrading) => passed(&inbound, response, upgrading, &caller, line, held),
    };
    // RFC 9112 9.6: the caller is to come back on another connection, and finds another task.
    let leaves = inbound.phase() != Phase::Serving || has_run_out(&inbound, &caller);
    if version != Version::HTTP_2 && leaves && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn exchange(inbound: &Inbound, caller: &Caller, mut request: Request<Incoming>, line: &mut Line) -> Outcome {
    let upgrading = match Upgrading::asked(&mut request) {
        // As in Istio's listeners: in another protocol there could be requests that nobody has judged.
        Ok(upgrading) => upgrading.filter(Upgrading::is_websocket),
        Err(refusal) => return Outcome::Failed(refusal),
    };
    let (mut head, body) = request.into_parts();
    if let Err(deny) = judge::framing(&head) {
        let decision = Decision::from(deny);
        record(inbound, &decision, None, &line.request_id, tokio::time::Instant::now());
        return Outcome::Denied(Box::new(decision));
    }
    // The connection is older than that: nobody is proven on it any more.
    if has_run_out(inbound, caller) {
        let detail = "the caller's certificate has expired since its connection began";
        let deny = Deny::new(authz::Reason::NoCredential, Hop::Request, detail);
        // It is to come with another one.
        let decision = Decision::from(Deny { status: 401, ..deny });
        record(inbound, &decision, None, &line.request_id, tokio::time::Instant::now());
        return Outcome::Denied(Box::new(decision));
    }
    // First of all: `Connection: x-forwarded-client-cert` must take nothing away that is put in here.
    let trailers = head.headers.get_all(TE).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers"));
    remove_hop_by_hop(&mut head.headers);
    if trailers {
        head.headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(upgrading) = &upgrading {
        upgrading.ask(&mut head.headers);
    }
    proof::stamp(&mut head.headers, caller.proven.as_deref(), &inbound.outputs);
    if head.version == Version::HTTP_2 {
        join_cookies(&mut head.headers);
    }
    line.request_id = ids::of(&mut head.headers);
    // `Connection` may have named some of them.
    line.traces = ids::traces(&head.headers);
    let allowed = match judged(inbound, caller, head, line).await {
        Ok(allowed) => allowed,
        Err(decision) => return Outcome::Denied(decision),
    };
    let application = &caller.application;
    line.upstream_host = Some(application.address().to_string());
    if upgrading.is_some() && application.is_h2c() {
        let detail = "the application is spoken to in HTTP/2, where there is no switch to another protocol";
        return Outcome::Failed(Refusal::new(Reason::WebsocketUnsupported, detail));
    }
    let body = Upload::new(body, Arc::clone(&line.received));
    match forwarded(allowed, body, caller) {
        Ok(request) => match application.send(request).await {
            Ok(response) => Outcome::Answered(response, upgrading),
            Err(refusal) => Outcome::Failed(refusal),
        },
        Err(refusal) => Outcome::Failed(refusal),
    }
}

/// Whether the caller's certificate has ended.
fn has_run_out(inbound: &Inbound, caller: &Caller) -> bool {
    caller.proven.as_ref().is_some_and(|proven| inbound.clock.unix() > proven.until)
}

/// A call that was allowed: its head as the application is to see it.
struct Allowed {
    head: request::Parts,
    asked: judge::Asked,
}

/// Asks the policies, and writes the decision down.
async fn judged(
    inbound: &Inbound,
    caller: &Caller,
    head: request::Parts,
    line: &mut Line,
) -> Result<Allowed, Box<Decision>> {
    let started = tokio::time::Instant::now();
    let front = &inbound.front;
    // A panic is a denial for this call, and costs the others nothing.
    let read = unpanicked(async { judge::read(&head, caller, front.policies()) }).await;
    let asked = match read {
        Ok(Ok(asked)) => asked,
        Ok(Err(deny)) => {
            let decision = Decision::from(deny);
            record(inbound, &decision, None, &line.request_id, started);
            return Err(Box::new(decision));
        }
        Err(Panicked) => {
            let decision = front::fault();
            record(inbound, &decision, None, &line.request_id, started);
            return Err(Box::new(decision));
        }
    };
    line.authority = asked.authority.to_string();
    let (mut head, mut asked) = (head, asked);
    let decision = front.decide(&asked.request, &inbound.target).await;
    let outcome = match &decision {
        Decision::Allow(allow) => judge::apply(&mut head.headers, allow, &asked.request)
            .and_then(|()| judge::upstream_path(allow).map(|path| asked.path = path)),
        Decision::Deny(_) => Err(Box::new(decision.clone())),
    };
    match outcome {
        Ok(()) => {
            record(inbound, &decision, Some(&asked.request), &line.request_id, started);
            Ok(Allowed { head, asked })
        }
        Err(refused) => {
            record(inbound, &refused, Some(&asked.request), &line.request_id, started);
            Err(refused)
        }
    }
}

/// Writes the line of a decision.
fn record(
    inbound: &Inbound,
    decision: &Decision,
    request: Option<&authz::Request>,
    request_id: &str,
    started: tokio::time::Instant,
) {
    let status = if decision.is_allowed() { 200 } else { judge::coarse(decision).0.as_u16() };
    let (api_id, stage, latency) = ("", "", started.elapsed());
    inbound.front.record(decision, &Seen { request, status, api_id, stage, request_id, latency });
}

/// The request as the application gets it.
fn forwarded(allowed: Allowed, body: Upload, caller: &Caller) -> Result<Request<Upload>, Refusal> {
    let Allowed { head: request::Parts { method, mut headers, .. }, asked } = allowed;
    // A caller that waits for "100 Continue" gets it from us as soon as the application reads.
    headers.remove(EXPECT);
    // Trailers end here, see `Upload`.
    headers.remove(TRAILER);
    if !headers.contains_key(FORWARDED_PROTO) {
        let scheme = if caller.proven.is_some() { "https" } else { "http" };
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    let bad = |_| Refusal::new(Reason::RequestInvalid, "the host is none that a request may have".to_owned());
    let mut request = Request::new(body);
    *request.method_mut() = method;
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = Some(asked.path);
    headers.remove(HOST);
    if caller.application.is_h2c() {
        (uri.scheme, uri.authority) = (Some(Scheme::HTTP), Some(asked.authority));
    } else {
        headers.insert(HOST, HeaderValue::from_str(asked.authority.as_str()).map_err(bad)?);
        if !request.body().is_empty() && !headers.contains_key(CONTENT_LENGTH) {
            // Said outright: the HTTP library takes a GET without it for one that has no body, and drops the body.
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
    *request.uri_mut() =
        Uri::from_parts(uri).map_err(|error| Refusal::new(Reason::RequestInvalid, error.to_string()))?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The application's answer.
fn passed(
    inbound: &Inbound,
    response: Response<Incoming>,
    upgrading: Option<Upgrading>,
    caller: &Caller,
    mut line: Line,
    held: Held,
) -> Response<Answer> {
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let (mut head, body) = response.into_parts();
    let protocol = head.headers.get(http::header::UPGRADE).cloned();
    remove_hop_by_hop(&mut head.headers);
    // This header says that the sidecar answered; nobody else may.
    head.headers.remove(reason::HEADER);
    if !switches {
        line.status = head.status.as_u16();
        head.version = Version::HTTP_11;
        return Response::from_parts(head, Answer::new(Content::Application(body), line, held));
    }
    let wanted = upgrading.map(Upgrading::into_parts);
    let agreed = wanted.filter(|(wanted, _)| {
        protocol.as_ref().is_some_and(|found| found.as_bytes().eq_ignore_ascii_case(wanted.as_bytes()))
    });
    let theirs = head.extensions.remove::<OnUpgrade>();
    let (Some((protocol, ours)), Some(theirs)) = (agreed, theirs) else {
        let refusal = Refusal::new(
            Reason::UpstreamProtocolError,
            "the application switched to another protocol than it was asked for".to_owned(),
        );
        return failed(&refusal, false, line, held);
    };
    line.status = head.status.as_u16();
    // RFC 9110 8.6: no Content-Length in a response with a status code of 1xx.
    head.headers.remove(CONTENT_LENGTH);
    head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    head.headers.insert(http::header::UPGRADE, protocol);
    // Its place is kept until both sides have ended.
    let place = Arc::clone(&caller.place);
    let (place, log, cut) = ((place, held), inbound.log.clone(), inbound.cut.clone());
    tokio::spawn(async move {
        let relaying = async {
            let counts = Counts::default();
            if let (Ok(ours), Ok(theirs)) = tokio::join!(ours, theirs)
                && let Err(error) = relay(TokioIo::new(ours), TokioIo::new(theirs), SILENCE, &counts).await
            {
                log.write(&serde_json::json!({ "event": "inbound_switched", "error": error.to_string() }));
            }
        };
        cut.bounds(relaying).await;
        drop(place);
    });
    let busy = caller.busy.begin();
    Response::from_parts(head, Answer::new(Content::Own(Full::default()), line, (None, busy)))
}

fn denied(decision: &Decision, grpc: bool, line: Line, held: Held) -> Response<Answer> {
    let (status, word) = judge::coarse(decision);
    let mut response = own(status, word, None, grpc, line, held);
    if response.status() == StatusCode::UNAUTHORIZED {
        // RFC 9110 15.5.2: "The server generating a 401 response MUST send a WWW-Authenticate header field".
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn failed(refusal: &Refusal, grpc: bool, mut line: Line, held: Held) -> Response<Answer> {
    line.reason = Some(refusal.reason.as_str());
    line.detail = Some(refusal.detail.clone());
    own(refusal.reason.status(), refusal.reason.as_str(), Some(refusal.reason), grpc, line, held)
}

/// An answer of ours. To a caller of gRPC it is one of gRPC, as Envoy's own answers are.
fn own(
    status: StatusCode,
    word: &'static str,
    reason: Option<Reason>,
    grpc: bool,
    mut line: Line,
    held: Held,
) -> Response<Answer> {
    let text = if grpc { String::new() } else { format!("{{\"error\":\"{word}\"}}\n") };
    let content = Content::Own(Full::new(Bytes::from(text)));
    let status_sent = if grpc { StatusCode::OK } else { status };
    line.status = status_sent.as_u16();
    let mut response = Response::new(Answer::new(content, line, held));
    *response.status_mut() = status_sent;
    let headers = response.headers_mut();
    if grpc {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from_static(grpc_status(status)));
        headers.insert("grpc-message", HeaderValue::from_static(word));
    } else {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let Some(reason) = reason {
        headers.insert(reason::HEADER, HeaderValue::from_static(reason.as_str()));
        if reason.is_passing() {
            headers.insert("retry-after", HeaderValue::from_static("1"));
        }
    }
    response
}

/// Envoy's `httpToGrpcStatus`.
fn grpc_status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "13",
        401 => "16",
        403 => "7",
        404 => "12",
        429 | 502..=504 => "14",
        _ => "2",
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    kind.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}
