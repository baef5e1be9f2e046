//! One request: from plain HTTP to its service, or to an answer that says why not.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue};
use http::{Method, Request, Response, Version, request};
use hyper::body::Incoming;
use platform::clock::Clock;
use platform::log::Log;
use traffic::table::Tls;

use crate::access_log::{Entry, Line};
use crate::answer::Answer;
use crate::cluster::Clusters;
use crate::door::Link;
use crate::headers::{has_unknown_coding, join_cookies, remove_hop_by_hop};
use crate::local;
use crate::mirror::Mirrors;
use crate::passage::Passage;
use crate::random::Draws;
use crate::reason::{Reason, Refusal};
use crate::refresh::Refresh;
use crate::renewal::SvidSource;
use crate::resolve::Resolver;
use crate::routes::Hosts;
use crate::target::Target;
use crate::token::TokenSource;
use crate::tunnel;
use crate::upgrade::Upgrading;
use crate::upstream::Upstream;
use crate::wishes::Wishes;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Answers requests.
pub(crate) struct Proxy {
    /// Why there is nothing to proxy with, if the configuration cannot be used.
    pub(crate) parts: Result<Arc<Parts>, String>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) log: Log,
}

/// What a request needs.
pub(crate) struct Parts {
    pub(crate) hosts: Hosts,
    pub(crate) clusters: Clusters,
    pub(crate) identity: Arc<Refresh<SvidSource>>,
    pub(crate) token: Option<Arc<Refresh<TokenSource>>>,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) mirrors: Mirrors,
    /// How long a request waits for identity and token.
    pub(crate) wait: Duration,
}

/// Who we are to a cluster, and what we may do: both only for clusters of the mesh.
pub(crate) type Proof = (Option<Arc<identity::Credentials>>, Option<HeaderValue>);

impl Proxy {
    /// Starts the fetches that are due. Called at the start and at each invocation, which is when a frozen
    /// environment gets time again.
    pub(crate) fn start_if_due(&self) {
        if let Ok(parts) = &self.parts {
            parts.identity.start_if_due();
            if let Some(token) = &parts.token {
                token.start_if_due();
            }
        }
    }

    /// Answers one request, whatever happens. Its log line is written when the answer has ended.
    pub(crate) async fn handle(self: &Arc<Self>, request: Request<Incoming>, link: &Link) -> Response<Answer> {
        let mut line = Box::new(Line::begin(&self.log, &self.clock, &request));
        let grpc = local::is_grpc(request.headers());
        let answered = match *request.method() == Method::CONNECT {
            true => tunnel::connect(self, request, link, &mut line.entry).await,
            false => self.forward(request, link, &mut line.entry).await,
        };
        let response = match answered {
            Ok(response) => response,
            Err(refusal) => {
                line.entry.refused(&refusal);
                local::refuse(&refusal, grpc)
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

    async fn forward(
        &self,
        mut request: Request<Incoming>,
        link: &Link,
        entry: &mut Entry,
    ) -> Result<Response<Answer>, Refusal> {
        let upgrade = Upgrading::asked(&mut request);
        let (mut head, body) = request.into_parts();
        let target = Target::of(&head, link.door.default_port());
        if let Ok(target) = &target {
            target.authority.as_str().clone_into(&mut entry.authority);
        }
        let parts = self.parts()?;
        let (mut target, upgrade) = (target?, upgrade?);
        let routes = link.door.find(&parts.hosts, &mut target)?;
        target.authority.as_str().clone_into(&mut entry.authority);
        if has_unknown_coding(&head.headers) {
            return Err(invalid("found another Transfer-Encoding than chunked"));
        }
        let grpc = local::is_grpc(&head.headers);
        // Before the token, which is for requests that go on without one: `Connection` may name Authorization too.
        remove_hop_by_hop(&mut head.headers);
        let wishes = Wishes::take(&mut head.headers);
        let mut draws = Draws::new();
        entry.request_id = request_id(&mut head, &mut draws);
        // RFC 9112 3.2.2: a proxy "MUST ignore the received Host header field (if any) and instead replace it with the
        // host information of the request-target".
        head.headers.insert(HOST, host_header(target.authority.as_str())?);
        let http2 = head.version == Version::HTTP_2;
        if http2 {
            join_cookies(&mut head.headers);
        }
        head.version = Version::HTTP_11;
        let passage = Passage { target, head, wishes, http2, grpc, upgrade, draws };
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

impl Parts {
    /// Identity and, unless the application brings its own, token; both are waited for at the same time. A cluster
    /// that is not of the mesh gets neither.
    pub(crate) async fn credentials(&self, head: &request::Parts, tls: &Tls) -> Result<Proof, Refusal> {
        if !matches!(tls, Tls::IstioMutual(_)) {
            return Ok((None, None));
        }
        let token = self.token.as_ref().filter(|_| !head.headers.contains_key(AUTHORIZATION));
        let token = async {
            match token {
                Some(token) => token.get(self.wait).await.map(Some),
                None => Ok(None),
            }
        };
        let (identity, token) = tokio::join!(self.identity(), token);
        let identity = identity?;
        let token = token
            .map_err(|why| Refusal::new(Reason::TokenUnavailable, format!("there is no valid access token: {why}")))?;
        Ok((Some(identity), token))
    }

    /// Who we are; waited for, within bounds.
    ///
    /// # Errors
    /// When there is no valid SVID, and none came in time.
    pub(crate) async fn identity(&self) -> Result<Arc<identity::Credentials>, Refusal> {
        self.identity.get(self.wait).await.map_err(|why| {
            Refusal::new(
                Reason::IdentityUnavailable,
                format!("there is no valid SVID and without one nothing is sent to the mesh: {why}"),
            )
        })
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
