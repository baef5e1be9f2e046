//! Connections that carry bytes: CONNECT, what a switched connection goes on with, and ports of their own for services
//! that do not speak HTTP.
//!
//! A tunnel to a service of the mesh is never plaintext: its bytes go over the cluster's mutual TLS, or nowhere. What a
//! client speaks in a tunnel to a service of HTTP is looked at, so that routes, identity and token are as for a request
//! without a tunnel; gRPC's clients come this way.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version, request};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use traffic::route::{Line as RequestLine, Routes};
use traffic::table::{Action, Cluster, Forward, HeaderOps, Protocol, RetryPolicy, Rewrite, Route, Tls, Weighted};
use traffic::weighted;

use crate::access_log::{Entry, Line};
use crate::answer::Answer;
use crate::cluster::{ClusterState, Held};
use crate::door::{Door, Link, Origin};
use crate::intercept;
use crate::keepalive::HEAD;
use crate::listener;
use crate::parts::Parts;
use crate::passage::passthrough;
use crate::proxy::{Proxy, REQUEST_ID};
use crate::random::Draws;
use crate::reason::{Reason, Refusal};
use crate::relay::{Counts, relay};
use crate::retry::{Job, Trail};
use crate::routes;
use crate::sniff::{self, Spoken};
use crate::target::Target;
use crate::trace;
use crate::upstream::Tunnel;

/// How long a tunnel may be silent where the cluster says nothing: Envoy's default for TCP.
const IDLE: Duration = Duration::from_secs(3_600);

/// How long a tunnel may go on when the extension is to end.
const DRAIN: Duration = Duration::from_secs(4);

/// A connection to a service, with what it holds under limits.
pub(crate) struct Opened {
    pub(crate) tunnel: Tunnel,
    pub(crate) held: Held,
    pub(crate) idle: Duration,
}

/// What comes after the answer on a connection that is no longer HTTP's.
pub(crate) struct Switched {
    on: OnUpgrade,
    then: Box<Then>,
}

/// What that is.
pub(crate) enum Then {
    /// Bytes both ways.
    Relay(Opened),
    /// What the client speaks decides.
    Look(Look),
}

/// A tunnel to a service of HTTP.
pub(crate) struct Look {
    parts: Arc<Parts>,
    named: (String, u16),
    routes: Arc<Routes>,
    /// Where bytes go that are not HTTP, if they may.
    bytes: Option<Arc<ClusterState>>,
}

impl Switched {
    /// `on` gives the connection once the answer has been sent.
    pub(crate) fn new(on: OnUpgrade, then: Then) -> Switched {
        Switched { on, then: Box::new(then) }
    }

    /// Goes on in a task of its own; the log line is written at the end.
    pub(crate) fn start(self, line: Box<Line>, proxy: Arc<Proxy>, link: Link) {
        // The connection stays busy without a moment in between.
        let busy = link.busy.begin();
        tokio::spawn(async move {
            // An application that has gone away in the meantime wants nothing.
            if let Ok(upgraded) = self.on.await {
                match *self.then {
                    Then::Relay(opened) => pass(TokioIo::new(upgraded), opened, line, &proxy, &link).await,
                    Then::Look(look) => {
                        let cut = proxy.cut.clone();
                        cut.bounds(look.go_on(upgraded, line, proxy, &link)).await;
                    }
                }
            }
            drop(busy);
        });
    }
}

/// Answers CONNECT.
///
/// # Errors
/// Why there is no tunnel.
pub(crate) async fn connect(
    proxy: &Proxy,
    mut request: Request<Incoming>,
    link: &Link,
    entry: &mut Entry,
) -> Result<Response<Answer>, Refusal> {
    let on = hyper::upgrade::on(&mut request);
    let (head, _) = request.into_parts();
    let target = Target::of_connect(&head)?;
    target.authority.as_str().clone_into(&mut entry.authority);
    let unsupported = |why: &str| Refusal::new(Reason::ConnectUnsupported, format!("found CONNECT {why}"));
    // Python's library wrote HTTP/1.0 until 3.12.
    if !matches!(head.version, Version::HTTP_10 | Version::HTTP_11) {
        return Err(unsupported("in HTTP/2, expected it in HTTP/1.1"));
    }
    if !matches!(link.door, Door::Proxy) {
        return Err(unsupported("in a tunnel or at the port of a service, expected it at the proxy's port"));
    }
    // RFC 9110 9.3.6: "A CONNECT request message does not have content". Where one side sees a body and the other sees
    // the begin of the tunnel, bytes change their meaning.
    let has_length = head.headers.get_all(CONTENT_LENGTH).iter().any(|length| length != "0");
    if has_length || head.headers.contains_key(TRANSFER_ENCODING) {
        return Err(Refusal::new(Reason::RequestInvalid, "found CONNECT with a body, expected none"));
    }
    let parts = proxy.ready().await?;
    belongs(parts, head.headers, entry);
    let then = match parts.hosts.find(&target.host, target.port)? {
        Some(routes) => match cluster_of(parts, &routes, &target)? {
            Some(cluster) if routes.protocol() == Protocol::Tcp => {
                Then::Relay(open(parts, &cluster, (&target.host, target.port), entry).await?)
            }
            bytes => Then::Look(Look { parts: Arc::clone(parts), named: (target.host, target.port), routes, bytes }),
        },
        None => {
            parts.hosts.may_pass(&target)?;
            let cluster = Arc::new(passthrough(&target));
            Then::Relay(open(parts, &cluster, (&target.host, target.port), entry).await?)
        }
    };
    Ok(Response::new(Answer::switched(Switched::new(on, then))))
}

/// Notes whose a tunnel is: the id that its client gave it or that of the invocation, and the trace of either. Nothing of
/// it goes on: there is no place for it in bytes.
fn belongs(parts: &Parts, mut headers: HeaderMap, entry: &mut Entry) {
    let invocation = || HeaderValue::from_str(&parts.invocation.request_id()?).ok();
    entry.request_id = headers.get(REQUEST_ID).cloned().or_else(invocation);
    entry.span = trace::carry(&mut headers, parts.invocation.tracing().as_deref(), &mut Draws::new());
}

/// The cluster of bytes for a host. A port of TCP has one; one that is declared to be HTTP has none, since nobody would
/// read what goes there; one without a declared protocol has one where reading would make no difference.
fn cluster_of(parts: &Parts, routes: &Routes, target: &Target) -> Result<Option<Arc<ClusterState>>, Refusal> {
    let is_tcp = match routes.protocol() {
        Protocol::Tcp => true,
        Protocol::Client => false,
        Protocol::Http1 | Protocol::Http2 => return Ok(None),
    };
    let head = blank();
    // There is no path to compare.
    let line =
        RequestLine { method: &head.method, scheme: "http", authority: target.authority.as_str(), path_and_query: "" };
    let Some(picked) = routes.pick(&routes::head(&line, &head.headers)) else { return Ok(None) };
    let (None, Action::Forward(forward)) = (picked.matched, &picked.route.route.action) else { return Ok(None) };
    if !is_tcp && (routes.len() != 1 || !is_plain_way(parts, &picked.route.route, forward)) {
        return Ok(None);
    }
    let index = weighted::pick_index(&forward.destinations, Draws::new().next()).unwrap_or_default();
    let destination = forward.destinations.get(index);
    let cluster = destination.and_then(|destination| parts.clusters.get(destination.cluster));
    match cluster {
        Some(cluster) => Ok(Some(Arc::clone(cluster))),
        None => {
            let detail = format!("the route of {} has no destination", target.host);
            Err(Refusal::new(Reason::ConfigurationInvalid, detail))
        }
    }
}

/// Whether a route leads every request on as it is, with nothing changed, copied or looked at.
fn is_plain_way(parts: &Parts, route: &Route, forward: &Forward) -> bool {
    let is_plain = |destination: &Weighted| {
        let cluster = parts.clusters.get(destination.cluster).map(|cluster| &cluster.table);
        let reads_nothing = |cluster: &Arc<Cluster>| {
            matches!(cluster.protocol, Protocol::Tcp | Protocol::Client) && !parts.tokens.change(&cluster.host)
        };
        destination.headers == HeaderOps::default() && cluster.is_some_and(reads_nothing)
    };
    route.headers == HeaderOps::default()
        && forward.rewrite == Rewrite::default()
        && route.fault.is_none()
        && route.mirrors.is_empty()
        && forward.destinations.iter().all(is_plain)
}

/// A connection to a cluster, with our identity if it is of the mesh. There is no place for a token in bytes.
async fn open(
    parts: &Parts,
    cluster: &Arc<ClusterState>,
    named: (&str, u16),
    entry: &mut Entry,
) -> Result<Opened, Refusal> {
    entry.upstream_cluster = Some(Arc::clone(&cluster.table));
    let credentials = match &cluster.table.tls {
        Tls::IstioMutual(_) => Some(parts.identity().await?),
        Tls::Plaintext | Tls::Simple(_) => None,
    };
    let (head, trail, mut draws) = (blank(), Trail::default(), Draws::new());
    let job = Job {
        clusters: &parts.clusters,
        resolver: &parts.resolver,
        upstream: &parts.upstream,
        cluster,
        named,
        head: &head,
        server_name: named.0,
        credentials,
        http2: false,
        policy: &RetryPolicy::default(),
        timeout: None,
        patience: None,
        invocation: &parts.invocation,
        hash: None,
        trail: &trail,
    };
    let opened = job.tunnel(&mut draws).await;
    let steps = trail.steps();
    entry.attempts = steps.attempts;
    entry.flags = entry.flags.with(steps.flags);
    entry.upstream_host = steps.endpoint;
    let (tunnel, held) = opened?;
    entry.peer = tunnel.peer.clone();
    Ok(Opened { tunnel, held, idle: idle(cluster) })
}

/// How long a connection to this cluster may be silent.
pub(crate) fn idle(cluster: &ClusterState) -> Duration {
    match cluster.table.pool.idle_timeout_ms {
        0 => IDLE,
        limit => Duration::from_millis(limit),
    }
}

/// Bytes both ways until the end, and the log line.
async fn pass<S: AsyncRead + AsyncWrite>(
    application: S,
    opened: Opened,
    mut line: Box<Line>,
    proxy: &Proxy,
    link: &Link,
) {
    let Opened { tunnel, held, idle } = opened;
    line.opened();
    let counts = Counts::default();
    let mut stop = link.stop.clone();
    let told = async {
        // Nobody left to say so is no reason to end.
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(DRAIN).await;
    };
    let ended = tokio::select! {
        ended = relay(application, tunnel, idle, &counts) => ended,
        () = told => Ok(()),
        () = proxy.cut.came() => Err(std::io::Error::other("the extension ended")),
    };
    line.entry.received.store(counts.sent.load(Ordering::Relaxed), Ordering::Relaxed);
    line.entry.sent = counts.received.load(Ordering::Relaxed);
    if let Err(error) = ended {
        line.entry.detail = Some(format!("the tunnel ended early: {error}"));
    }
    drop(held);
}

impl Look {
    async fn go_on(self, upgraded: Upgraded, mut line: Box<Line>, proxy: Arc<Proxy>, link: &Link) {
        let host = &self.named.0;
        let (spoken, stream) = match sniff::look_for(TokioIo::new(upgraded), sniff::of_tunnel, HEAD).await {
            Ok((Some(spoken), stream)) => (spoken, stream),
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                let detail = format!("found a few bytes in a tunnel to {host} and no more of them in time");
                return line.entry.refused(&Refusal::new(Reason::RequestInvalid, detail));
            }
            // It has gone.
            Ok((None, _)) | Err(_) => return,
        };
        let refused = match (spoken, &self.bytes) {
            (Spoken::Http1 | Spoken::Http2, _) => {
                // The requests in it are counted, and the tunnel is none.
                line.metrics = None;
                drop(line);
                let link = Link { door: Door::Tunnel(self.named.1), ..link.clone() };
                return listener::inside(Box::new(stream), proxy, link).await;
            }
            // The application's own TLS, from it to a host outside of the mesh.
            (Spoken::Tls, Some(cluster)) if cluster.table.tls == Tls::Plaintext => {
                match open(&self.parts, cluster, (host, self.named.1), &mut line.entry).await {
                    Ok(opened) => return pass(stream, opened, line, &proxy, link).await,
                    Err(refusal) => refusal,
                }
            }
            (Spoken::Tls, _) => match &self.parts.intercept {
                Some(_) if self.is_in_the_clear() => {
                    intercept::deny(stream).await;
                    let detail = format!(
                        "found TLS in a tunnel to {host}, whose destinations have none: what ended here would go on in the clear; a DestinationRule gives them some (tls.mode SIMPLE), or the application calls http://"
                    );
                    Refusal::new(Reason::HttpsUnsupported, detail)
                }
                Some(intercept) => match intercept.accept(stream, host).await {
                    Ok(stream) => {
                        line.metrics = None;
                        drop(line);
                        let door = Door::Secure(Arc::new(Origin { host: self.named.0, port: self.named.1 }));
                        return listener::inside(Box::new(stream), proxy, Link { door, ..link.clone() }).await;
                    }
                    Err(refusal) => refusal,
                },
                None => {
                    // The application's own TLS would end at a service that expects HTTP in the mesh's.
                    intercept::deny(stream).await;
                    let detail = format!(
                        "found TLS in a tunnel to {host}, a service of HTTP: call it by http://, the extension encrypts (or let it end the application's TLS: CAUSEWAY_HTTPS=intercept)"
                    );
                    Refusal::new(Reason::HttpsUnsupported, detail)
                }
            },
            // Without a word of the client's the server is to begin, which no server of HTTP does.
            (Spoken::Bytes | Spoken::Silence, Some(cluster)) => {
                match open(&self.parts, cluster, (host, self.named.1), &mut line.entry).await {
                    Ok(opened) => return pass(stream, opened, line, &proxy, link).await,
                    Err(refusal) => refusal,
                }
            }
            (Spoken::Bytes | Spoken::Silence, None) => {
                let detail = format!(
                    "found no HTTP in a tunnel to {host}, a service of HTTP or with rules for requests: bytes go to ports of TCP"
                );
                Refusal::new(Reason::RequestInvalid, detail)
            }
        };
        line.entry.refused(&refused);
    }
}

impl Look {
    /// Whether no destination has TLS.
    fn is_in_the_clear(&self) -> bool {
        let forwards = self.routes.iter().filter_map(|route| match &route.route.action {
            Action::Forward(forward) => Some(&forward.destinations),
            Action::Redirect(_) | Action::Direct(_) => None,
        });
        let clusters = forwards.flatten().filter_map(|destination| self.parts.clusters.get(destination.cluster));
        let mut plain = clusters.map(|cluster| cluster.table.tls == Tls::Plaintext).peekable();
        plain.peek().is_some() && plain.all(|plain| plain)
    }
}

/// Where the bytes of a port of its own go, if its one service does not speak HTTP.
pub(crate) struct Bytes {
    cluster: Arc<ClusterState>,
    named: (String, u16),
}

/// What a connection at this door is, if it is not HTTP.
pub(crate) fn bytes_of(proxy: &Proxy, door: &Door) -> Option<Bytes> {
    let (Door::Service(listener), Ok(parts)) = (door, proxy.parts()) else { return None };
    let [only] = listener.names.as_slice() else { return None };
    let target = Target::named(&only.host, only.port)?;
    let routes = parts.hosts.at(only.virtual_host).ok()?;
    let cluster = cluster_of(parts, &routes, &target).ok()??;
    let is_tcp = routes.protocol() == Protocol::Tcp;
    is_tcp.then_some(Bytes { cluster, named: (target.host, target.port) })
}

impl Bytes {
    /// Passes a connection on. What goes wrong is in the log: there is no answer to say it in.
    pub(crate) async fn serve<S: AsyncRead + AsyncWrite>(self, stream: S, proxy: &Proxy, link: &Link) {
        let (host, port) = &self.named;
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        let mut line = Box::new(Line::begin(&proxy.log, &proxy.clock, &request));
        line.entry.authority = format!("{host}:{port}");
        line.metrics = proxy.parts().ok().and_then(|parts| parts.metrics.clone());
        let opening = async {
            let parts = proxy.ready().await?;
            belongs(parts, HeaderMap::new(), &mut line.entry);
            open(parts, &self.cluster, (host, *port), &mut line.entry).await
        };
        let opened = tokio::select! {
            biased;
            opened = opening => opened,
            // Its line is to be there before the process goes.
            () = proxy.cut.came() => {
                line.entry.detail = Some("the extension ended before the connection was open".to_owned());
                return;
            }
        };
        match opened {
            Ok(opened) => {
                line.entry.response_code = 200;
                pass(stream, opened, line, proxy, link).await;
            }
            Err(refusal) => {
                line.entry.response_code = refusal.reason.status().as_u16();
                line.entry.refused(&refusal);
            }
        }
    }
}

/// The head of no request.
fn blank() -> request::Parts {
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = Method::CONNECT;
    head
}
