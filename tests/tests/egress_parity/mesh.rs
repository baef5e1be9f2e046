//! Certificates of the mesh, and the issuer that gives the extension its own.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use identity::{Svid, TrustBundle, tls};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Who calls.
const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";
/// Who is expected to answer.
pub(crate) const RATINGS: &str = "spiffe://cluster.local/ns/shop/sa/ratings";
/// Somebody else of the same mesh.
pub(crate) const OTHER: &str = "spiffe://cluster.local/ns/shop/sa/other";

/// The mesh's certificate authority.
pub(crate) struct Authority {
    root: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Result<Authority, String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "mesh root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(text)?;
        let root = params.self_signed(&key).map_err(text)?.pem();
        Ok(Authority { root, issuer: Issuer::new(params, key) })
    }

    /// A server that shows `id` and asks for a client of the mesh.
    pub(crate) fn acceptor(&self, id: &str) -> Result<TlsAcceptor, String> {
        let key = KeyPair::generate().map_err(text)?;
        let certificate = params(id)?.signed_by(&key, &self.issuer).map_err(text)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let svid = Svid::from_der(vec![certificate.der().clone()], key).map_err(text)?;
        let domain = "cluster.local".parse().map_err(text)?;
        let bundle = TrustBundle::from_pem(domain, self.root.as_bytes()).map_err(text)?;
        Ok(TlsAcceptor::from(tls::server_config(&svid, &bundle, &["istio-http/1.1"]).map_err(text)?))
    }

    /// What Envoy shows, as files.
    pub(crate) fn write_client(&self, folder: &Path) -> Result<(), String> {
        let key = KeyPair::generate().map_err(text)?;
        let certificate = params(CLIENT)?.signed_by(&key, &self.issuer).map_err(text)?.pem();
        for (file, pem) in
            [("root.pem", &self.root), ("client.pem", &certificate), ("client.key", &key.serialize_pem())]
        {
            std::fs::write(folder.join(file), pem).map_err(text)?;
        }
        Ok(())
    }

    fn sign(&self, csr: &str) -> Result<String, String> {
        let mut request = CertificateSigningRequestParams::from_pem(csr).map_err(text)?;
        request.params = params(CLIENT)?;
        Ok(request.signed_by(&self.issuer).map_err(text)?.pem())
    }

    fn answer(&self, body: &[u8]) -> Result<Value, String> {
        let request: Value = serde_json::from_slice(body).map_err(text)?;
        let leaf = self.sign(request["csr"].as_str().unwrap_or_default())?;
        Ok(json!({
            "chain": [leaf, self.root],
            "bundle": self.root,
            "spiffe_id": CLIENT,
            "expires_at": now()? + HOUR,
        }))
    }
}

const HOUR: u64 = 3_600;

fn now() -> Result<u64, String> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(text)?.as_secs())
}

fn params(id: &str) -> Result<CertificateParams, String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.try_into().map_err(text)?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let now = SystemTime::now();
    params.not_before = (now - Duration::from_secs(60)).into();
    params.not_after = (now + Duration::from_secs(HOUR)).into();
    Ok(params)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The issuer of identities; signatures of its callers are another test's business.
pub(crate) async fn issuer(authority: Arc<Authority>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let authority = Arc::clone(&authority);
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let authority = Arc::clone(&authority);
                    async move {
                        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                        let (status, body) = match authority.answer(&body) {
                            Ok(body) => (200, body.to_string()),
                            Err(problem) => (400, problem),
                        };
                        let mut response = Response::new(Full::new(Bytes::from(body)));
                        *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
                        Ok::<_, Infallible>(response)
                    }
                });
                let serving =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                let _ = serving.await;
            });
        }
    });
    Ok(address)
}
