//! One request: from plain HTTP to the mesh, or to an answer that says why not.

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Version, request};
use http_body::Body;
use hyper::body::Incoming;
use platform::clock::Clock;
use platform::log::Log;
use tokio::sync::Notify;
use traffic::table::{Cluster, Endpoint, IstioMutual, Resolution, Tls};

use crate::access_log::{Entry, Line};
use crate::body::{Answer, Download, Upload};
use crate::headers::{has_unknown_coding, remove_hop_by_hop};
use crate::reason::{self, Reason, Refusal};
use crate::refresh::Refresh;
use crate::renewal::SvidSource;
use crate::resolve::Resolver;
use crate::routes::{Destination, Routes};
use crate::token::TokenSource;
use crate::upstream::{Exchange, Failed, FailedKind, Hop, Upstream};

/// Answers requests.
pub(crate) struct Proxy {
    /// Why there is nothing to proxy with, if the configuration cannot be used.
    pub(crate) parts: Result<Parts, String>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) log: Log,
}

/// What a request needs.
pub(crate) struct Parts {
    pub(crate) routes: Routes,
    pub(crate) identity: Arc<Refresh<SvidSource>>,
    pub(crate) token: Option<Arc<Refresh<TokenSource>>>,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) resolver: Arc<Resolver>,
    /// How long a request waits for identity and token.
    pub(crate) wait: Duration,
}

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

    /// Answers one request, whatever happens.
    pub(crate) async fn handle(&self, request: Request<Incoming>) -> Response<Answer> {
        let (method, path) = (request.method().as_str(), request.uri().path());
        let mut line = Line::begin(&self.log, self.clock.as_ref(), method, path);
        let response = match self.forward(request, &mut line.entry).await {
            Ok(response) => response,
            Err(refusal) => {
                let response = refuse(&refusal);
                line.entry.reason = Some(refusal.reason.as_str());
                line.entry.detail = Some(refusal.detail);
                response
            }
        };
        line.entry.status = response.status().as_u16();
        response
    }

    async fn forward(&self, request: Request<Incoming>, entry: &mut Entry) -> Result<Response<Answer>, Refusal> {
        let (mut head, body) = request.into_parts();
        let target = Target::of(&head);
        if let Ok(target) = &target {
            entry.host = target.authority.to_string();
        }
        let parts = self.parts.as_ref().map_err(|problem| {
            Refusal::new(Reason::ConfigurationInvalid, format!("causeway's extension: {problem}"))
        })?;
        let target = target?;
        refuse_websocket(&head)?;
        let destination = parts.routes.find(&target.host, target.port).ok_or_else(|| {
            Refusal::new(
                Reason::UnknownHost,
                format!(
                    "found the host {} and port {}, expected one that a ServiceEntry of the configuration names (others are refused: REGISTRY_ONLY)",
                    target.host, target.port
                ),
            )
        })?;
        if has_unknown_coding(&head.headers) {
            return Err(invalid("found another Transfer-Encoding than chunked"));
        }
        // Before the token, which is for requests that go on without one: `Connection` may name Authorization too.
        remove_hop_by_hop(&mut head.headers);
        let (credentials, token) = parts.credentials(&head).await?;
        // RFC 9112 3.2.2: a proxy "MUST ignore the received Host header field (if any) and instead replace it with the
        // host information of the request-target".
        head.headers.insert(HOST, target.host_header()?);
        if let Some(token) = token {
            head.headers.insert(AUTHORIZATION, token);
        }
        head.uri = target.path.into();
        head.version = Version::HTTP_11;
        let progress = Arc::new(Notify::new());
        let body = upload(body, &mut head, &progress);
        let request = Request::from_parts(head, body);
        let exchange = parts.send(destination, credentials, request).await?;
        entry.peer = exchange.peer.map(|peer| peer.to_string());
        answer(exchange.response)
    }
}

impl Parts {
    /// Sends to the first endpoint that lets us. Nothing has been sent when that fails, so trying the next one repeats
    /// nothing.
    async fn send(
        &self,
        destination: &Destination,
        credentials: Arc<identity::Credentials>,
        mut request: Request<Upload>,
    ) -> Result<Exchange, Refusal> {
        let endpoints = destination.endpoints.iter().map(|(address, port)| Endpoint {
            address: address.clone(),
            port: *port,
            ..Endpoint::default()
        });
        let mutual = IstioMutual {
            sni: destination.sni.to_str().into_owned(),
            expected: destination.expected.iter().map(ToString::to_string).collect(),
        };
        let cluster = Arc::new(Cluster {
            name: destination.host.clone(),
            host: destination.host.clone(),
            port: destination.port,
            tls: Tls::IstioMutual(mutual),
            resolution: Resolution::StrictDns,
            endpoints: endpoints.collect(),
            ..Cluster::default()
        });
        let addresses = self.resolver.endpoints(&cluster).await?;
        let mut last = Refusal::new(Reason::UpstreamConnectFailed, "found no endpoint, expected one");
        for found in &addresses.0 {
            let (host, port) = &destination.endpoints[found.endpoint];
            let hop = Hop {
                cluster: Arc::clone(&cluster),
                index: u32::try_from(destination.index).unwrap_or(u32::MAX),
                address: found.address,
                endpoint: format!("{host}:{port}"),
                credentials: Some(Arc::clone(&credentials)),
                server_name: destination.host.clone(),
                http2: false,
            };
            match self.upstream.send(&hop, request).await {
                Ok(exchange) => return Ok(exchange),
                Err(Failed { kind: FailedKind::Connect, unsent: Some(unsent), refusal }) => {
                    (request, last) = (*unsent, refusal);
                }
                Err(failed) => return Err(failed.refusal),
            }
        }
        Err(last)
    }

    /// Identity and, unless the application brings its own, token; both are waited for at the same time.
    async fn credentials(
        &self,
        head: &request::Parts,
    ) -> Result<(Arc<identity::Credentials>, Option<HeaderValue>), Refusal> {
        let token = self.token.as_ref().filter(|_| !head.headers.contains_key(AUTHORIZATION));
        let token = async {
            match token {
                Some(token) => token.get(self.wait).await.map(Some),
                None => Ok(None),
            }
        };
        let (identity, token) = tokio::join!(self.identity.get(self.wait), token);
        let identity = identity.map_err(|why| {
            Refusal::new(
                Reason::IdentityUnavailable,
                format!("there is no valid SVID and without one nothing is sent to the mesh: {why}"),
            )
        })?;
        let token = token
            .map_err(|why| Refusal::new(Reason::TokenUnavailable, format!("there is no valid access token: {why}")))?;
        Ok((identity, token))
    }
}

/// Where a request is to go.
#[derive(Debug)]
struct Target {
    authority: Authority,
    host: String,
    port: u16,
    path: PathAndQuery,
}

impl Target {
    fn of(head: &request::Parts) -> Result<Target, Refusal> {
        if head.method == Method::CONNECT {
            return Err(Refusal::new(
                Reason::ConnectUnsupported,
                "found CONNECT, which is not supported yet: call mesh services by http:// and leave HTTPS_PROXY unset",
            ));
        }
        let authority = match head.uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => head.uri.authority().cloned(),
            Some(scheme) if *scheme == Scheme::HTTPS => {
                return Err(Refusal::new(
                    Reason::HttpsUnsupported,
                    "found an https:// address, which is not supported yet: call mesh services by http://, the extension encrypts",
                ));
            }
            Some(scheme) => return Err(invalid(&format!("found the scheme {scheme}, expected http"))),
            None => Some(host_header(head)?),
        };
        let authority = authority.ok_or_else(|| invalid("found no host in the address, expected one"))?;
        if authority.as_str().contains('@') {
            return Err(invalid("found a user name in the address, expected host and port alone"));
        }
        let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let port = port(&authority)?;
        Ok(Target { host: authority.host().to_owned(), port, path, authority })
    }

    fn host_header(&self) -> Result<HeaderValue, Refusal> {
        HeaderValue::from_str(self.authority.as_str()).map_err(|_| invalid("found a host that is no header value"))
    }
}

/// RFC 9112 3.2: a server "MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that lacks
/// a Host header field and to any request message that contains more than one Host header field line or a Host header
/// field with an invalid field value".
fn host_header(head: &request::Parts) -> Result<Authority, Refusal> {
    let mut values = head.headers.get_all(HOST).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(invalid("found no Host header or several, expected one"));
    };
    let value = value.to_str().map_err(|_| invalid("found a Host header that is not ASCII"))?;
    value.parse().map_err(|_| invalid("found a Host header that is not host and port"))
}

fn port(authority: &Authority) -> Result<u16, Refusal> {
    match authority.as_str().strip_prefix(authority.host()) {
        // RFC 9110 4.2.1: "If the port subcomponent is empty or not given, TCP port 80 ... is the default".
        Some("" | ":") => Ok(80),
        Some(rest) => {
            // Digits alone: a sign would be a second spelling of the port in the Host that goes on.
            let digits = rest.strip_prefix(':').filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let number = digits.and_then(|digits| digits.parse().ok());
            number.filter(|port| *port != 0).ok_or_else(|| invalid("found a port that is not 1 to 65535"))
        }
        None => Err(invalid("found an address that is not host and port")),
    }
}

fn refuse_websocket(head: &request::Parts) -> Result<(), Refusal> {
    // RFC 9110 7.8: "A server MAY ignore a received Upgrade header field", and so other upgrades (h2c, which some
    // clients offer with every request) are left out. A WebSocket client means nothing else.
    let values = head.headers.get_all(UPGRADE).iter().filter_map(|value| value.to_str().ok());
    let mut protocols = values.flat_map(|value| value.split(','));
    match protocols.any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket")) {
        true => {
            Err(Refusal::new(Reason::WebsocketUnsupported, "found a WebSocket upgrade, which is not supported yet"))
        }
        false => Ok(()),
    }
}

fn upload(body: Incoming, head: &mut request::Parts, progress: &Arc<Notify>) -> Upload {
    if body.is_end_stream() {
        return Upload::Empty;
    }
    if body.size_hint().exact().is_none() {
        // Said outright: the HTTP library takes a GET without it for one that has no body, and drops the body.
        head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    Upload::Streaming(body, Arc::clone(progress))
}

fn answer(response: Response<Download>) -> Result<Response<Answer>, Refusal> {
    let (mut head, body) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refusal::new(
            Reason::UpstreamProtocolError,
            "the service switched protocols although nobody had asked for it",
        ));
    }
    if has_unknown_coding(&head.headers) {
        return Err(Refusal::new(
            Reason::UpstreamProtocolError,
            "the service sent a transfer coding that nobody had asked for",
        ));
    }
    remove_hop_by_hop(&mut head.headers);
    // This header says that the extension answered; nobody else may.
    head.headers.remove(reason::HEADER);
    head.version = Version::HTTP_11;
    Ok(Response::from_parts(head, Answer::upstream(body)))
}

fn refuse(refusal: &Refusal) -> Response<Answer> {
    let mut response = Response::new(Answer::text(format!("{}: {}\n", refusal.reason.as_str(), refusal.detail)));
    *response.status_mut() = refusal.reason.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(reason::HEADER, HeaderValue::from_static(refusal.reason.as_str()));
    if refusal.reason.is_passing() {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn invalid(detail: &str) -> Refusal {
    Refusal::new(Reason::RequestInvalid, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(method: &str, uri: &str, hosts: &[&str]) -> Result<(String, u16, String), Reason> {
        let mut request = Request::builder().method(method).uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        match Target::of(&head) {
            Ok(target) => Ok((target.host, target.port, target.path.to_string())),
            Err(refusal) => Err(refusal.reason),
        }
    }

    #[test]
    fn both_forms_of_a_target_are_understood() {
        for (uri, hosts, expected) in [
            ("http://a.example:9080/x/y?z=1", &["ignored"][..], ("a.example", 9080, "/x/y?z=1")),
            ("http://a.example/x", &[], ("a.example", 80, "/x")),
            ("http://a.example:/x", &[], ("a.example", 80, "/x")),
            ("http://a.example", &["b"], ("a.example", 80, "/")),
            ("/x?y", &["a.example:9080"], ("a.example", 9080, "/x?y")),
            ("/x", &["A.Example"], ("A.Example", 80, "/x")),
            ("/", &["[::1]:9080"], ("[::1]", 9080, "/")),
        ] {
            let (host, port, path) = expected;
            assert_eq!(target("GET", uri, hosts), Ok((host.to_owned(), port, path.to_owned())), "{uri}");
        }
        assert_eq!(target("OPTIONS", "*", &["a:1"]), Ok(("a".to_owned(), 1, "*".to_owned())));
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        for (method, uri, hosts, expected) in [
            ("CONNECT", "a.example:443", &["a.example:443"][..], Reason::ConnectUnsupported),
            ("GET", "https://a.example/", &[], Reason::HttpsUnsupported),
            ("GET", "ftp://a.example/", &[], Reason::RequestInvalid),
            ("GET", "http://me:secret@a.example/", &[], Reason::RequestInvalid),
            ("GET", "/", &[], Reason::RequestInvalid),
            ("GET", "/", &["a", "a"], Reason::RequestInvalid),
            ("GET", "/", &["a b"], Reason::RequestInvalid),
            ("GET", "/", &["a:0"], Reason::RequestInvalid),
            ("GET", "/", &["a:65536"], Reason::RequestInvalid),
            ("GET", "/", &["a:+80"], Reason::RequestInvalid),
            ("GET", "/", &["me@a"], Reason::RequestInvalid),
            ("GET", "/", &[""], Reason::RequestInvalid),
        ] {
            assert_eq!(target(method, uri, hosts), Err(expected), "{method} {uri} {hosts:?}");
        }
    }
}
