//! What API Gateway does in front of an HTTP API: TLS at the API's domain, with a client certificate where the domain
//! has mutual TLS. `causeway dev`'s gateway has no TLS; this stands before it.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use causeway::dev::gateway::{InvokeError, InvokeOutcome, Invoker};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use platform::BoxFuture;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::pki::Identity;
use crate::ports;

/// How the door tells [`WithCertificate`] about the certificate. What a client sends under this name is taken away.
const HEADER: &str = "x-test-client-certificate";

/// A door whose port is taken and that is still closed: whoever stands behind it has to know the port first.
pub struct TlsDoor {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl TlsDoor {
    /// A door with this certificate; `truststore` holds the authorities, and the self-signed certificates, of clients,
    /// each of which then has to show one.
    pub async fn bind(server: &Identity, truststore: Option<&[&rcgen::Certificate]>) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let config = match truststore {
            None => config.with_no_client_auth(),
            Some(certificates) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates {
                    roots.add(certificate.der().clone()).map_err(|error| error.to_string())?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                config.with_client_cert_verifier(verifier.map_err(|error| error.to_string())?)
            }
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server.key.serialize_der()));
        let config = config.with_single_cert(vec![server.certificate.der().clone()], key);
        let config = config.map_err(|error| error.to_string())?;
        let listener = TcpListener::bind(ports::loopback(0)).await.map_err(|error| error.to_string())?;
        Ok(Self { listener, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// The port.
    pub fn port(&self) -> Result<u16, String> {
        self.listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
    }

    /// Opens it, until the test ends.
    pub fn open(self, upstream: SocketAddr) {
        tokio::spawn(async move {
            while let Ok((stream, _)) = self.listener.accept().await {
                let acceptor = self.acceptor.clone();
                tokio::spawn(async move {
                    // A client without a certificate, or with one that is not trusted, gets no further.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let certificates = stream.get_ref().1.peer_certificates();
                    let shown = certificates.and_then(<[CertificateDer<'_>]>::first).map(|der| STANDARD.encode(der));
                    let forward = service_fn(move |request| forward(request, upstream, shown.clone()));
                    let served =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), forward);
                    let _ = served.await;
                });
            }
        });
    }
}

async fn forward(
    mut request: Request<Incoming>,
    upstream: SocketAddr,
    certificate: Option<String>,
) -> Result<Response<Incoming>, String> {
    let headers = request.headers_mut();
    headers.remove(HEADER);
    if let Some(value) = certificate {
        headers.insert(HEADER, HeaderValue::from_str(&value).map_err(|error| error.to_string())?);
    }
    let stream = TcpStream::connect(upstream).await.map_err(|error| error.to_string())?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(|error| error.to_string())
}

/// A function behind a door with mutual TLS: the certificate stands where payload format 2.0 has it.
pub struct WithCertificate(pub Arc<dyn Invoker>);

impl Invoker for WithCertificate {
    fn invoke(&self, mut event: Value) -> BoxFuture<'_, Result<InvokeOutcome, InvokeError>> {
        let shown = event["headers"].as_object_mut().and_then(|headers| headers.remove(HEADER));
        if let Some(der) = shown.as_ref().and_then(Value::as_str) {
            let lines: Vec<&str> =
                der.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
            let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
            event["requestContext"]["authentication"] = json!({"clientCert": {"clientCertPem": pem}});
        }
        self.0.invoke(event)
    }
}
