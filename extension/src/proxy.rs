//! One request: from plain HTTP to its service, or to an answer that says why not.

use std::sync::Arc;

use http::header::{HOST, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version, request};
use hyper::body::Incoming;
use platform::clock::Clock;
use platform::log::Log;

use crate::access_log::{Entry, Line};
use crate::answer::Answer;
use crate::door::Link;
use crate::drain::Cut;
use crate::headers::{has_unknown_coding, join_cookies, remove_hop_by_hop};
use crate::listener::MAX_HEADERS;
use crate::local;
use crate::parts::Parts;
use crate::passage::Passage;
use crate::random::Draws;
use crate::reason::{Reason, Refusal};
use crate::target::Target;
use crate::thaw::Moment;
use crate::trace;
use crate::tunnel;
use crate::upgrade::Upgrading;
use crate::wishes::Wishes;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Answers requests.
pub(crate) struct Proxy {
    /// Why there is nothing to proxy with, if the configuration cannot be used.
    pub(crate) parts: Result<Arc<Parts>, String>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) log: Log,
    /// Ends what is in hand when the extension goes.
    pub(crate) cut: Cut,
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
    pub(crate) async fn handle(self: &Arc<Self>, request: Request<Incoming>, link: &Link) -> Response<Answer> {
        let mut line = Box::new(Line::begin(&self.log, &self.clock, &request));
        line.metrics = self.parts.as_ref().ok().and_then(|parts| parts.metrics.clone());
        let grpc = local::is_grpc(request.headers());
        // HTTP/1.1 has been counted before.
        let too_many = request.headers().len() > MAX_HEADERS;
        let answered = match *request.method() == Method::CONNECT {
            _ if too_many => Err(invalid(&format!("found more than {MAX_HEADERS} header fields, expected fewer"))),
            true => tunnel::connect(self, request, link, &mut line.entry).await,
            false => self.forward(request, link, &mut line.entry).await,
        };
        let response = match answered {
            Ok(response) => response,
            Err(refusal) => {
                line.entry.refused(&refusal);
                let mut response = local::refuse(&refusal, grpc);
                if too_many && !grpc {
                    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                }
                response
            }
        };
        line.entry.response_code = response.status().as_u16();
        response.map(|mut body| match body.take_switched() {
            Some(switched) => {
                switched.start(line, Arc::clone(self), link.clone());
                body
            }
            None => body.logging(line),
        })
    }

    /// What requests need.
    ///
    /// # Errors
    /// Why the configuration cannot be used.
    pub(crate) fn parts(&self) -> Result<&Arc<Parts>, Refusal> {
        self.parts
            .as_ref()
            .map_err(|problem| Refusal::new(Reason::ConfigurationInvalid, format!("causeway's extension: {problem}")))
    }

    /// What a request needs that is to be sent.
    ///
    /// # Errors
    /// Why nothing can be sent: the configuration cannot be used, or a snapshot is yet to be made.
    pub(crate) async fn ready(&self) -> Result<&Arc<Parts>, Refusal> {
        let parts = self.parts()?;
        if !parts.invocation.after_snapshot(parts.wait).await {
            let detail = "found a request before the first invocation of a function with SnapStart, expected none: keys and connections do not belong into its snapshot";
            return Err(Refusal::new(Reason::IdentityUnavailable, detail));
        }
        parts.wake(Moment::quick(self.clock.now()));
        Ok(parts)
    }

    async fn forward(
        &self,
        mut request: Request<Incoming>,
        link: &Link,
        entry: &mut Entry,
    ) -> Result<Response<Answer>, Refusal> {
        let upgrade = Upgrading::asked(&mut request);
        let (mut head, body) = request.into_parts();
        let target = match link.door.scheme() {
            "https" => Target::of_https(&head, link.door.default_port()),
            _ => Target::of(&head, link.door.default_port()),
        };
        if let Ok(target) = &target {
            target.authority.as_str().clone_into(&mut entry.authority);
        }
        let parts = self.ready().await?;
        let (mut target, upgrade) = (target?, upgrade?);
        let routes = link.door.find(&parts.hosts, &mut target)?;
        target.authority.as_str().clone_into(&mut entry.authority);
        if let Some(upgrade) = &upgrade {
            upgrade.check(routes.as_ref().map(|routes| routes.protocol()))?;
        }
        if has_unknown_coding(&head.headers) {
            return Err(invalid("found another Transfer-Encoding than chunked"));
        }
        let grpc = local::is_grpc(&head.headers);
        // Before the token, which is for requests that go on without one: `Connection` may name Authorization too.
        remove_hop_by_hop(&mut head.headers);
        let wishes = Wishes::take(&mut head.headers);
        // Who called whom is what a proxy says that has seen the certificate, and this one has seen none: Envoy's
        // `forward_client_cert_details: SANITIZE`.
        head.headers.remove(FORWARDED_CLIENT_CERT);
        let mut draws = Draws::new();
        entry.request_id = request_id(&mut head, &mut draws);
        // As Istio's sidecars: without it the one of the service would say https, which is the mesh's and not the
        // application's.
        head.headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static(link.door.scheme()));
        entry.span = trace::carry(&mut head.headers, parts.invocation.tracing().as_deref(), &mut draws);
        // RFC 9112 3.2.2: a proxy "MUST ignore the received Host header field (if any) and instead replace it with the
        // host information of the request-target".
        head.headers.insert(HOST, host_header(target.authority.as_str())?);
        let http2 = head.version == Version::HTTP_2;
        if http2 {
            join_cookies(&mut head.headers);
        }
        head.version = Version::HTTP_11;
        let scheme = link.door.scheme();
        let mut passage =
            Passage { target, scheme, head, wishes, http2, grpc, upgrade, draws, bare: false, patience: None };
        match routes {
            Some(routes) => passage.route(parts, &routes, body, entry).await,
            None => {
                link.door.may_pass(&passage.target)?;
                parts.hosts.may_pass(&passage.target)?;
                passage.pass(parts, body, entry).await
            }
        }
    }
}

/// Envoy makes an id for a request that has none, and passes on that of one that has.
fn request_id(head: &mut request::Parts, draws: &mut Draws) -> Option<HeaderValue> {
    if let Some(id) = head.headers.get(REQUEST_ID) {
        return Some(id.clone());
    }
    let id = HeaderValue::from_bytes(&draws.uuid()).ok()?;
    head.headers.insert(REQUEST_ID, id.clone());
    Some(id)
}

pub(crate) fn host_header(authority: &str) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_str(authority).map_err(|_| invalid("found a host that is no header value"))
}

fn invalid(detail: &str) -> Refusal {
    Refusal::new(Reason::RequestInvalid, detail)
}
