//! A request on its way through the rules: route, faults, destination, changes, and the answer on its way back.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, SET_COOKIE, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{Response, StatusCode, Version, request};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::Instant;
use traffic::route::{Line as RequestLine, Picked, Routes};
use traffic::table::{AbortStatus, Action, Cluster, Direct, Forward, Redirect, Resolution, RetryPolicy, Tls};
use traffic::{fault, rewrite, weighted};

use crate::access_log::Entry;
use crate::affinity;
use crate::answer::Answer;
use crate::cluster::{ClusterState, PASSTHROUGH};
use crate::deadline::Invocation;
use crate::grpc_time;
use crate::headers::{has_unknown_coding, remove_hop_by_hop};
use crate::local;
use crate::mirror::{Shadow, without_port};
use crate::outgoing::{End, Outgoing};
use crate::parts::Parts;
use crate::proxy::host_header;
use crate::random::Draws;
use crate::reason::{self, Flags, Reason, Refusal};
use crate::retry::{Job, Sent, Trail, Won};
use crate::routes;
use crate::target::Target;
use crate::tunnel::{self, Opened};
use crate::upgrade::Upgrading;
use crate::wishes::Wishes;

const ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");
const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const REASON: HeaderName = HeaderName::from_static(reason::HEADER);
const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

/// A request on its way through the rules.
pub(crate) struct Passage {
    pub(crate) target: Target,
    /// `http`, or `https` where the application speaks TLS.
    pub(crate) scheme: &'static str,
    pub(crate) head: request::Parts,
    pub(crate) wishes: Wishes,
    /// Whether the application speaks HTTP/2.
    pub(crate) http2: bool,
    pub(crate) grpc: bool,
    /// The other protocol that the application asks for.
    pub(crate) upgrade: Option<Upgrading>,
    pub(crate) draws: Draws,
    /// The route takes `Authorization` out: no token of ours either.
    pub(crate) bare: bool,
    /// How long the service may be silent before its answer, where the configured limit is for others.
    pub(crate) patience: Option<Duration>,
}

impl Passage {
    /// Takes the request through the routes of its host.
    pub(crate) async fn route(
        &mut self,
        parts: &Arc<Parts>,
        routes: &Routes,
        body: Incoming,
        entry: &mut Entry,
    ) -> Result<Response<Answer>, Refusal> {
        // Before any route is looked at, and for good: services see this path too.
        if let Some(path) = parts.hosts.normalize(&self.target.path)? {
            self.target.path = path;
        }
        let method = self.head.method.clone();
        let authority = self.target.authority.clone();
        let path = self.target.path.clone();
        // As the application wrote it, but for the path: what routes and header changes see.
        let line = RequestLine {
            method: &method,
            scheme: self.scheme,
            authority: authority.as_str(),
            path_and_query: path.as_str(),
        };
        let looked_at = routes::head(&line, &self.head.headers);
        let picked = routes.pick(&looked_at).ok_or_else(|| {
            let host = &self.target.host;
            let detail = format!("no route of the VirtualService of {host} matches this request");
            Refusal::new(Reason::NoRoute, detail)
        })?;
        let route = &picked.route.route;
        entry.route_name = Some(route.name.as_str().into());
        let rewritten = rewrite::path_and_query(&picked, &looked_at).map_err(wrong_route)?;
        let location = match &route.action {
            Action::Redirect(redirect) => Some(location(redirect, &picked, &looked_at)?),
            Action::Forward(_) | Action::Direct(_) => None,
        };
        if let Some(response) = self.inject(route.fault.as_ref(), &parts.invocation, entry).await {
            return Ok(self.local(response, &picked, &line, entry));
        }
        match &route.action {
            Action::Redirect(redirect) => {
                let location = location.ok_or_else(|| wrong_route("found no Location".to_owned()))?;
                Ok(self.local(local::redirect(redirect.code, location), &picked, &line, entry))
            }
            Action::Direct(Direct { status, body }) => {
                Ok(self.local(local::direct(*status, body.clone()), &picked, &line, entry))
            }
            Action::Forward(forward) => {
                self.forward(parts, forward, &picked, &line, rewritten.as_deref(), body, entry).await
            }
        }
    }

    /// Waits and answers, where the route wants that to be tried out.
    async fn inject(
        &mut self,
        fault: Option<&traffic::table::Fault>,
        invocation: &Invocation,
        entry: &mut Entry,
    ) -> Option<Response<Answer>> {
        let random = [self.draws.next(), self.draws.next()];
        let injected = fault::inject(fault?, &self.head.headers, random);
        if let Some(delay) = injected.delay {
            entry.flags = entry.flags.with(Flags::DI);
            tokio::time::sleep(invocation.within(delay)).await;
        }
        let response = match injected.abort? {
            AbortStatus::Http(status) => local::abort(status, self.grpc),
            AbortStatus::Grpc(status) => local::abort_grpc(status, self.grpc),
        };
        entry.refused(&Refusal::new(Reason::FaultInjected, "the route's fault.abort took this request"));
        Some(response)
    }

    /// An answer of the route itself.
    fn local(
        &self,
        mut response: Response<Answer>,
        picked: &Picked<'_>,
        line: &RequestLine<'_>,
        entry: &mut Entry,
    ) -> Response<Answer> {
        entry.reason = response.headers().get(reason::HEADER).and_then(|word| match word.as_bytes() {
            b"redirect" => Some(Reason::Redirect.as_str()),
            b"direct_response" => Some(Reason::DirectResponse.as_str()),
            b"fault_injected" => Some(Reason::FaultInjected.as_str()),
            _ => None,
        });
        let changes = picked.route.changes(0);
        if !changes.keeps_response() {
            changes.response(response.headers_mut(), line, &self.head.headers);
        }
        response
    }

    /// Sends the request to one of the route's destinations.
    #[allow(clippy::too_many_arguments)]
    async fn forward(
        &mut self,
        parts: &Arc<Parts>,
        forward: &Forward,
        picked: &Picked<'_>,
        line: &RequestLine<'_>,
        rewritten: Option<&str>,
        body: Incoming,
        entry: &mut Entry,
    ) -> Result<Response<Answer>, Refusal> {
        let route = &picked.route.route;
        let index = weighted::pick_index(&forward.destinations, self.draws.next()).unwrap_or_default();
        let destination = forward.destinations.get(index);
        let cluster = destination.and_then(|destination| parts.clusters.get(destination.cluster));
        let cluster = cluster.ok_or_else(|| wrong_route("it has no destination".to_owned()))?;
        if !self.may_go_to(cluster) {
            let detail = format!(
                "found https, which ends here, and the destination {} without TLS: a DestinationRule gives it some (tls.mode SIMPLE), or the application calls http://",
                cluster.table.name
            );
            return Err(Refusal::new(Reason::DestinationForbidden, detail));
        }
        let changes = picked.route.changes(index);
        changes.request(&mut self.head.headers, line);
        // What a route takes out is not put in again: in Envoy its changes come last.
        self.bare = changes.removes(&AUTHORIZATION) && !self.head.headers.contains_key(AUTHORIZATION);
        if let Some(authority) = changes.authority() {
            // Envoy, since 1.35: "The router filter records the host value from before its mutation".
            if let Some(original) = self.head.headers.insert(HOST, host_header(authority)?) {
                self.head.headers.insert(ORIGINAL_HOST, original);
            }
            authority.clone_into(&mut entry.authority);
        }
        self.head.uri = self.target.path.clone().into();
        if let Some(path) = rewritten {
            let rewritten: PathAndQuery =
                path.parse().map_err(|_| wrong_route("its rewrite gives no path".to_owned()))?;
            self.head.uri = rewritten.into();
            if let Ok(original) = HeaderValue::from_str(self.target.path.as_str()) {
                self.head.headers.insert(ORIGINAL_PATH, original);
            }
        }
        let body = upload(body, &mut self.head, entry);
        // A copy of a conversation is none: nobody would answer for the application.
        let mirrors = if self.upgrade.is_some() { &[] } else { route.mirrors.as_slice() };
        for mirror in mirrors {
            if fault::is_in(mirror.share, self.draws.next())
                && let Some(cluster) = parts.clusters.get(mirror.cluster)
                && self.may_go_to(cluster)
            {
                let shadow = Shadow {
                    cluster: Arc::clone(cluster),
                    head: self.head.clone(),
                    body: body.copy(),
                    named: (self.target.host.clone(), self.target.port),
                    http2: self.http2,
                    bare: self.bare,
                };
                parts.mirrors.send(parts, shadow);
            }
        }
        let policy = match self.wishes.leave_policy() {
            true => Cow::Borrowed(&route.retry),
            false => Cow::Owned(self.wishes.of(&route.retry)),
        };
        let mut limit = Duration::from_millis(route.timeout_ms);
        if self.grpc {
            limit = grpc_time::within(&self.head.headers, limit);
        }
        limit = self.wishes.timeout.unwrap_or(limit);
        self.patience = self.wishes.patience();
        if self.grpc {
            grpc_time::say(&mut self.head.headers, limit);
        }
        let sent = self.send(parts, cluster, &policy, Some(limit).filter(|limit| !limit.is_zero()), body, entry).await;
        let (mut response, cookie) = match self.or_no_content(sent, entry) {
            // Envoy: the route's changes are for answers of its own, too.
            Err(refusal) if !changes.keeps_response() => {
                entry.refused(&refusal);
                (local::refuse(&refusal, self.grpc), None)
            }
            sent => sent?,
        };
        if !changes.keeps_response() {
            changes.response(response.headers_mut(), line, &self.head.headers);
        }
        if let Some(cookie) = cookie {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        Ok(response)
    }

    /// What came in TLS does not go on in the clear.
    fn may_go_to(&self, cluster: &ClusterState) -> bool {
        self.scheme != "https" || cluster.table.tls != Tls::Plaintext
    }

    /// Forwards a request for a host that nobody has named as it is: in plaintext, without identity and token.
    pub(crate) async fn pass(
        &mut self,
        parts: &Arc<Parts>,
        body: Incoming,
        entry: &mut Entry,
    ) -> Result<Response<Answer>, Refusal> {
        self.head.uri = self.target.path.clone().into();
        let body = upload(body, &mut self.head, entry);
        let (policy, limit) = (self.wishes.of(&RetryPolicy::default()), self.wishes.timeout);
        self.patience = self.wishes.patience();
        let limit = limit.filter(|limit| !limit.is_zero());
        let cluster = Arc::new(passthrough(&self.target));
        let sent = self.send(parts, &cluster, &policy, limit, body, entry).await;
        Ok(self.or_no_content(sent, entry)?.0)
    }

    /// `x-envoy-upstream-rq-timeout-alt-response`: 204 instead of 504.
    fn or_no_content<T>(
        &self,
        sent: Result<(Response<Answer>, Option<T>), Refusal>,
        entry: &mut Entry,
    ) -> Result<(Response<Answer>, Option<T>), Refusal> {
        match sent {
            Err(refusal) if self.wishes.no_content && refusal.reason == Reason::UpstreamTimeout => {
                entry.refused(&refusal);
                let mut response = local::refuse(&refusal, false).map(|_| Answer::text(String::new()));
                *response.status_mut() = StatusCode::NO_CONTENT;
                Ok((response, None))
            }
            sent => sent,
        }
    }

    async fn send(
        &mut self,
        parts: &Parts,
        cluster: &Arc<ClusterState>,
        policy: &RetryPolicy,
        timeout: Option<Duration>,
        body: Outgoing,
        entry: &mut Entry,
    ) -> Result<(Response<Answer>, Option<HeaderValue>), Refusal> {
        entry.upstream_cluster = Some(Arc::clone(&cluster.table));
        let (credentials, bearer) = parts.credentials(&self.head.headers, self.bare, &cluster.table).await?;
        bearer.apply(&mut self.head.headers);
        let upgrade = self.upgrade.take();
        if let Some(upgrade) = &upgrade {
            upgrade.ask(&mut self.head.headers);
        }
        let host = self.head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let line = RequestLine {
            method: &self.head.method,
            scheme: self.scheme,
            authority: host,
            path_and_query: self.head.uri.path_and_query().map_or("/", PathAndQuery::as_str),
        };
        let sent = routes::head(&line, &self.head.headers);
        let hashed = affinity::of(&cluster.table.balance.policy, &sent, &mut self.draws);
        let trail = Trail::default();
        let job = Job {
            clusters: &parts.clusters,
            resolver: &parts.resolver,
            upstream: &parts.upstream,
            cluster,
            named: (&self.target.host, self.target.port),
            head: &self.head,
            server_name: without_port(host),
            credentials,
            http2: self.http2,
            policy,
            timeout,
            patience: self.patience,
            invocation: &parts.invocation,
            hash: hashed.hash,
            trail: &trail,
        };
        let end = Arc::clone(body.end());
        let sent = match &upgrade {
            None => job.run(body, &mut self.draws).await.map(Sent::Answer),
            Some(_) => job.upgrade(&mut self.draws).await,
        };
        let steps = trail.steps();
        entry.attempts = steps.attempts;
        entry.flags = entry.flags.with(steps.flags);
        entry.upstream_host = steps.endpoint;
        let sent = sent?;
        entry.service_time = steps.begun.map(|begun| Instant::now().saturating_duration_since(begun));
        let mut response = match (sent, upgrade) {
            (Sent::Answer(Won { response, peer, held }), _) => {
                entry.peer = peer;
                let limit = limit(end, timeout, &parts.invocation);
                answer(response.map(|body| Answer::upstream(body, held, limit)))?
            }
            (Sent::Switched(response, tunnel, held), Some(upgrade)) => {
                entry.peer.clone_from(&tunnel.peer);
                upgrade.switch(response, Opened { tunnel, held, idle: tunnel::idle(cluster) })?
            }
            (Sent::Switched(..), None) => return Err(switched_unasked()),
        };
        if let Some(taken) = entry.service_time {
            let taken = u64::try_from(taken.as_millis()).unwrap_or(u64::MAX);
            response.headers_mut().insert(SERVICE_TIME, HeaderValue::from(taken));
        }
        let cookie = hashed.set_cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok());
        Ok((response, cookie))
    }
}

/// When the answer has to have ended: by the route's timeout, or with the invocation, also with one whose event is yet to
/// come. `None` where neither can be.
fn limit(
    end: Arc<End>,
    timeout: Option<Duration>,
    invocation: &Arc<Invocation>,
) -> Option<impl Future<Output = ()> + Send + 'static> {
    if timeout.is_none() && !invocation.has_deadlines() {
        return None;
    }
    let invocation = Arc::clone(invocation).over();
    Some(async move {
        let route = async {
            match timeout {
                Some(timeout) => end.since(timeout).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = route => {}
            () = invocation => {}
        }
    })
}

/// The cluster of a host that nobody has named: Istio's `PassthroughCluster`. It has no limits and so nothing to keep.
pub(crate) fn passthrough(target: &Target) -> ClusterState {
    let (name, host) = ("PassthroughCluster".to_owned(), target.host.clone());
    let table = Cluster { name, host, port: target.port, resolution: Resolution::Original, ..Cluster::default() };
    ClusterState::new(table, PASSTHROUGH)
}

fn location(redirect: &Redirect, picked: &Picked<'_>, head: &traffic::route::Head<'_>) -> Result<HeaderValue, Refusal> {
    let location = rewrite::location(redirect, picked, head).map_err(wrong_route)?;
    HeaderValue::try_from(location).map_err(|_| wrong_route("its Location is no header value".to_owned()))
}

fn upload(body: Incoming, head: &mut request::Parts, entry: &Entry) -> Outgoing {
    if body.is_end_stream() {
        return Outgoing::empty();
    }
    if body.size_hint().exact().is_none() {
        // Said outright: the HTTP library takes a GET without it for one that has no body, and drops the body.
        head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    Outgoing::of(body, &entry.received)
}

fn answer(response: Response<Answer>) -> Result<Response<Answer>, Refusal> {
    let (mut head, body) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(switched_unasked());
    }
    if has_unknown_coding(&head.headers) {
        return Err(Refusal::new(
            Reason::UpstreamProtocolError,
            "the service sent a transfer coding that nobody had asked for",
        ));
    }
    remove_hop_by_hop(&mut head.headers);
    // This header says that the extension answered; nobody else may.
    head.headers.remove(REASON);
    head.version = Version::HTTP_11;
    Ok(Response::from_parts(head, body))
}

fn switched_unasked() -> Refusal {
    Refusal::new(Reason::UpstreamProtocolError, "the service switched protocols although nobody had asked for it")
}

fn wrong_route(why: String) -> Refusal {
    Refusal::new(Reason::ConfigurationInvalid, format!("the route that this request takes cannot be used: {why}"))
}
