//! The mesh side of the local stack: a sidecar that accepts mutual TLS only and enforces the policies of its workload,
//! and a gateway that asks the adapter about each request, as Envoy would. The end-to-end tests have real Envoy here.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use authz::{KeySets, Policies, Target};
use bytes::Bytes;
use envoy_types::ext_authz::v3::pb::{CheckRequest, CheckResponse, HttpResponse};
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress};
use envoy_types::pb::envoy::service::auth::v3::AttributeContext;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request as RequestAttributes};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use platform::clock::Clock;
use platform::log::Log;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::seeds::RenewedTls;

/// What the BookInfo sample answers for the ratings of a book.
pub const RATINGS: &str = r#"{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4}}"#;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// A workload of the mesh with its sidecar in front.
pub struct Sidecar {
    /// The name that log lines carry.
    pub name: &'static str,
    /// Certificate, key and trusted roots, which are renewed.
    pub(super) tls: RenewedTls,
    /// The compiled policies.
    pub policies: Policies,
    /// The issuers' keys.
    pub keys: KeySets,
    /// Namespace and labels, which the policies' selectors are matched against.
    pub workload: Target,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Takes a line for each connection that is refused and each request that is decided.
    pub log: Log,
}

impl Sidecar {
    /// Serves until the task is dropped.
    pub async fn run(self, listener: TcpListener) {
        let sidecar = Arc::new(self);
        loop {
            if let Ok((stream, peer)) = listener.accept().await {
                tokio::spawn(Arc::clone(&sidecar).connection(stream, peer));
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let acceptor = TlsAcceptor::from(self.tls.current().await);
        let refused = |why: String| {
            self.log.write(
                &json!({"event": "connection_refused", "part": self.name, "reason": "mtls_required", "detail": why}),
            );
        };
        let tls = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(error)) => return refused(error.to_string()),
            Err(_) => return refused("the handshake took too long".to_owned()),
        };
        let certificates = tls.get_ref().1.peer_certificates();
        let principal = identity::verify::peer_id(certificates).map(|id| id.principal().to_owned());
        let service = service_fn(|request: Request<Incoming>| {
            let (sidecar, principal) = (Arc::clone(&self), principal.clone());
            async move { Ok::<_, Infallible>(sidecar.request(&request, peer, principal)) }
        });
        // A client that goes away is its own business.
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
    }

    fn request(
        &self,
        request: &Request<Incoming>,
        peer: SocketAddr,
        principal: Option<String>,
    ) -> Response<Full<Bytes>> {
        let asked = authz::Request {
            method: request.method().to_string(),
            scheme: "https".to_owned(),
            host: header(request, "host"),
            path: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
            path_handling: authz::PathHandling::AsSent,
            headers: headers(request),
            headers_joined: false,
            source: authz::Peer { ip: Some(peer.ip()), remote_ip: Some(peer.ip()), principal: principal.clone() },
            destination_ip: None,
            destination_port: Some(9080),
            sni: None,
            client_certificate: None,
            dynamic_metadata: None,
            unknown: authz::Unknown::default(),
        };
        let given = authz::Given {
            keys: &self.keys,
            api_key: None,
            pepper: None,
            revocations: authz::Revocations::NotKept,
            verified: None,
            providers: None,
            now: self.clock.unix(),
        };
        let decision = authz::decide(&self.policies, &asked, &self.workload, &given);
        self.log.write(&json!({
            "event": "decision", "part": self.name, "allowed": decision.is_allowed(), "reason": decision.reason().as_str(),
            "policy": decision.policy(), "principal": decision.principal(), "peer": principal, "path": request.uri().path(),
        }));
        if decision.is_allowed() {
            return answer(StatusCode::OK, RATINGS);
        }
        answer(StatusCode::from_u16(decision.status()).unwrap_or(StatusCode::FORBIDDEN), r#"{"error":"denied"}"#)
    }
}

/// A gateway of the mesh whose filter asks the adapter before anything else happens.
pub struct Ingress {
    /// Where the adapter listens.
    pub adapter: SocketAddr,
    /// Takes a line for each answer of the adapter.
    pub log: Log,
}

impl Ingress {
    /// Serves until the task is dropped.
    pub async fn run(self, listener: TcpListener) {
        let ingress = Arc::new(self);
        loop {
            let Ok((stream, peer)) = listener.accept().await else { continue };
            let ingress = Arc::clone(&ingress);
            tokio::spawn(async move {
                let service = service_fn(|request: Request<Incoming>| {
                    let ingress = Arc::clone(&ingress);
                    async move { Ok::<_, Infallible>(ingress.request(&request, peer).await) }
                });
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }

    async fn request(&self, request: &Request<Incoming>, peer: SocketAddr) -> Response<Full<Bytes>> {
        let checked = tokio::time::timeout(CHECK_TIMEOUT, self.check(request, peer)).await;
        let verdict = match checked {
            Ok(Ok(verdict)) => verdict,
            // "failure_mode_allow: false": an adapter that does not answer denies, with Envoy's default status.
            Ok(Err(why)) => return self.unanswered(&why),
            Err(_) => return self.unanswered("no answer in time"),
        };
        match verdict.http_response {
            Some(HttpResponse::OkResponse(_)) if verdict.status.is_some_and(|status| status.code == 0) => {
                answer(StatusCode::OK, RATINGS)
            }
            Some(HttpResponse::DeniedResponse(denied)) => {
                let status = denied.status.and_then(|status| u16::try_from(status.code).ok());
                let status = status.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(StatusCode::FORBIDDEN);
                answer(status, &denied.body)
            }
            _ => self.unanswered("the adapter's answer is neither yes nor no"),
        }
    }

    fn unanswered(&self, why: &str) -> Response<Full<Bytes>> {
        self.log.write(
            &json!({"event": "check_failed", "part": "mesh gateway", "reason": "adapter_unavailable", "detail": why}),
        );
        answer(StatusCode::FORBIDDEN, r#"{"error":"denied"}"#)
    }

    async fn check(&self, request: &Request<Incoming>, peer: SocketAddr) -> Result<CheckResponse, String> {
        let mut client = AuthorizationClient::connect(format!("http://{}", self.adapter))
            .await
            .map_err(|error| error.to_string())?;
        let http = HttpRequest {
            method: request.method().to_string(),
            scheme: "http".to_owned(),
            host: header(request, "host"),
            path: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
            protocol: "HTTP/1.1".to_owned(),
            // Envoy joins the lines of a repeated header.
            headers: headers(request).into_iter().fold(std::collections::HashMap::new(), |mut all, (name, value)| {
                all.entry(name).and_modify(|old: &mut String| *old = format!("{old},{value}")).or_insert(value);
                all
            }),
            ..Default::default()
        };
        let attributes = AttributeContext {
            source: Some(Peer { address: Some(address(peer)), ..Default::default() }),
            destination: Some(Peer {
                address: Some(address(SocketAddr::from(([127, 0, 0, 1], 9080)))),
                ..Default::default()
            }),
            request: Some(RequestAttributes { http: Some(http), ..Default::default() }),
            ..Default::default()
        };
        let answer = client.check(CheckRequest { attributes: Some(attributes) }).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
    }
}

fn address(address: SocketAddr) -> Address {
    let socket = SocketAddress {
        address: address.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(u32::from(address.port()))),
        ..Default::default()
    };
    Address { address: Some(AddressKind::SocketAddress(socket)) }
}

fn headers(request: &Request<Incoming>) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

fn header(request: &Request<Incoming>, name: &str) -> String {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn answer(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
