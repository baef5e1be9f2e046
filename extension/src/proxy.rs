//! One request: from plain HTTP to its service, or to an answer that says why not.

use std::sync::Arc;

use http::header::{HOST, HeaderName, HeaderValue};
use http::{Request, Response, Version, request};
use hyper::body::Incoming;
use platform::clock::Clock;
use platform::log::Log;

use crate::access_log::{Entry, Line};
use crate::answer::Answer;
use crate::headers::{has_unknown_coding, remove_hop_by_hop};
use crate::local;
use crate::parts::Parts;
use crate::passage::Passage;
use crate::random::Draws;
use crate::reason::{Reason, Refusal};
use crate::target::{Target, refuse_websocket};
use crate::thaw::Moment;
use crate::trace;
use crate::wishes::Wishes;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Answers requests.
pub(crate) struct Proxy {
    /// Why there is nothing to proxy with, if the configuration cannot be used.
    pub(crate) parts: Result<Arc<Parts>, String>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) log: Log,
}

impl Proxy {
    /// Starts the fetches that are due. Called at the start and at each invocation, which is when a frozen
    /// environment gets time again.
    pub(crate) fn start_if_due(&self) {
        if let Ok(parts) = &self.parts {
            parts.wake(Moment::now(self.clock.now()));
            parts.start_if_due();
        }
    }

    /// Answers one request, whatever happens. Its log line is written when the answer has ended.
    pub(crate) async fn handle(&self, request: Request<Incoming>) -> Response<Answer> {
        let mut line = Box::new(Line::begin(&self.log, &self.clock, &request));
        line.metrics = self.parts.as_ref().ok().and_then(|parts| parts.metrics.clone());
        let grpc = local::is_grpc(request.headers());
        let response = match self.forward(request, &mut line.entry).await {
            Ok(response) => response,
            Err(refusal) => {
                line.entry.refused(&refusal);
                local::refuse(&refusal, grpc)
            }
        };
        line.entry.response_code = response.status().as_u16();
        response.map(|body| body.logging(line))
    }

    async fn forward(&self, request: Request<Incoming>, entry: &mut Entry) -> Result<Response<Answer>, Refusal> {
        let (mut head, body) = request.into_parts();
        let target = Target::of(&head);
        if let Ok(target) = &target {
            target.authority.as_str().clone_into(&mut entry.authority);
        }
        let parts = self.parts.as_ref().map_err(|problem| {
            Refusal::new(Reason::ConfigurationInvalid, format!("causeway's extension: {problem}"))
        })?;
        if parts.invocation.is_before_snapshot() {
            let detail = "found a request before the first invocation of a function with SnapStart, expected none: keys and connections do not belong into its snapshot";
            return Err(Refusal::new(Reason::IdentityUnavailable, detail));
        }
        parts.wake(Moment::quick(self.clock.now()));
        let target = target?;
        refuse_websocket(&head)?;
        if has_unknown_coding(&head.headers) {
            return Err(invalid("found another Transfer-Encoding than chunked"));
        }
        let grpc = local::is_grpc(&head.headers);
        // Before the token, which is for requests that go on without one: `Connection` may name Authorization too.
        remove_hop_by_hop(&mut head.headers);
        let wishes = Wishes::take(&mut head.headers);
        let mut draws = Draws::new();
        entry.request_id = request_id(&mut head, &mut draws);
        entry.span = trace::carry(&mut head.headers, parts.invocation.tracing().as_deref(), &mut draws);
        // RFC 9112 3.2.2: a proxy "MUST ignore the received Host header field (if any) and instead replace it with the
        // host information of the request-target".
        head.headers.insert(HOST, host_header(target.authority.as_str())?);
        let http2 = head.version == Version::HTTP_2;
        head.version = Version::HTTP_11;
        let passage = Passage { target, head, wishes, http2, grpc, draws };
        match parts.hosts.find(&passage.target.host, passage.target.port)? {
            Some(routes) => passage.route(parts, &routes, body, entry).await,
            None if parts.hosts.allows_any() => passage.pass(parts, body, entry).await,
            None => Err(Refusal::new(
                Reason::UnknownHost,
                format!(
                    "found the host {} and port {}, expected one that a ServiceEntry of the configuration names and this workload may see (others are refused: REGISTRY_ONLY)",
                    passage.target.host, passage.target.port
                ),
            )),
        }
    }
}

/// Envoy makes an id for a request that has none, and passes on that of one that has.
fn request_id(head: &mut request::Parts, draws: &mut Draws) -> Option<HeaderValue> {
    if let Some(id) = head.headers.get(REQUEST_ID) {
        return Some(id.clone());
    }
    let id = HeaderValue::try_from(draws.uuid()).ok()?;
    head.headers.insert(REQUEST_ID, id.clone());
    Some(id)
}

pub(crate) fn host_header(authority: &str) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_str(authority).map_err(|_| invalid("found a host that is no header value"))
}

fn invalid(detail: &str) -> Refusal {
    Refusal::new(Reason::RequestInvalid, detail)
}
