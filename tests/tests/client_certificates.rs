//! Clients of a gateway with mutual TLS whose certificates have no SPIFFE ID: what Envoy makes of them for the adapter,
//! and what its own policies make of them.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

#[allow(dead_code, reason = "other suites use the rest")]
mod sidecars;

use std::path::Path;
use std::sync::Arc;

use adapter::config::Workload as Guarded;
use adapter::{Adapter, Deps, Place};
use authz::{CompileOptions, Policies};
use e2e::application::Application;
use e2e::envoy::Envoy;
use e2e::pki::{Authority, Identity};
use e2e::{ports, tier, tool};
use platform::clock::SystemClock;
use platform::jwks::JwksSource;
use platform::log::{Lines, Log};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, SanType};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use sidecars::{Files, Inbound, filters, read, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: allowed, namespace: istio-system}
spec:
  selector: {matchLabels: {app: gateway}}
  rules:
  - to: [{operation: {paths: [/open, /kept]}}]
  - from: [{source: {principals: ['*']}}]
    to: [{operation: {paths: [/anybody]}}]
  - from: [{source: {principals: [cluster.local/ns/shop/sa/orders, client.example]}}]
    to: [{operation: {paths: [/orders]}}]
  - from: [{source: {notPrincipals: [cluster.local/ns/shop/sa/orders]}}]
    to: [{operation: {paths: [/others]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: kept, namespace: istio-system}
spec:
  selector: {matchLabels: {app: gateway}}
  action: DENY
  rules:
  - from: [{source: {principals: [cluster.local/ns/shop/sa/kept-out]}}]
    to: [{operation: {paths: [/kept]}}]
";

/// A client with these names.
fn client(authority: &Authority, names: &[SanType], common: &str) -> Result<Identity, String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common);
    params.subject_alt_names = names.to_vec();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().map_err(text)?;
    Ok(Identity { certificate: authority.sign(params, &key)?, key })
}

fn write(folder: &Path, authority: &Authority) -> Result<Files, String> {
    let server = authority.server(&["gateway.example"])?;
    let file = |name: &str, content: String| {
        let path = folder.join(name);
        std::fs::write(&path, content).map(|()| path.display().to_string()).map_err(text)
    };
    Ok(Files {
        certificate: file("server.pem", server.certificate.pem())?,
        key: file("server.key", server.key.serialize_pem())?,
        roots: file("clients.pem", authority.certificate().pem())?,
    })
}

async fn ask(envoy: &Envoy, authority: &Authority, client: &Identity, path: &str) -> Result<u16, String> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().der().clone()).map_err(text)?;
    let key = PrivatePkcs8KeyDer::from(client.key.serialize_der()).into();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(text)?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![client.certificate.der().clone()], key)
        .map_err(text)?;
    let stream = TcpStream::connect(envoy.address).await.map_err(text)?;
    let name = "gateway.example".try_into().map_err(|_| "no server name")?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(text)?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: gateway.example\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(text)?;
    let mut answer = Vec::new();
    // Envoy may close without a goodbye; what it has said counts.
    let _ = stream.read_to_end(&mut answer).await;
    let head = String::from_utf8_lossy(&answer).into_owned();
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| format!("no answer: {head}"))
}

/// The adapter for the gateway, and its log.
fn adapter() -> Result<(u16, Lines), String> {
    let compiled = authz::compile(&read(POLICIES)?, &CompileOptions::default());
    let policies = Policies::open(&compiled.map_err(|errors| format!("{errors:?}"))?.section).map_err(text)?;
    let (log, lines) = Log::memory();
    let clock = Arc::new(SystemClock);
    let jwks = Arc::new(JwksSource::new(clock.clone()));
    let deps = Deps { api_keys: None, jwks, revocations: Default::default(), rate_limits: None, clock, log };
    let labels = vec![("app".to_owned(), "gateway".to_owned())];
    let workload = Some(Guarded { namespace: "istio-system".to_owned(), labels });
    let adapter = Adapter::new(Place { workload, environment: None }, policies, deps).map_err(text)?;
    let bound = adapter.listen(ports::loopback(0)).map_err(text)?;
    let port = bound.address().port();
    tokio::spawn(async move { drop(bound.run(std::future::pending()).await) });
    Ok((port, lines))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_without_a_spiffe_id_is_a_peer_that_nobody_knows() -> Result<(), String> {
    if !tier::available(&[&tool("envoy")]) {
        return Ok(());
    }
    let folder = tempfile::tempdir().map_err(text)?;
    let authority = Authority::new("the clients' authority")?;
    let files = write(folder.path(), &authority)?;
    let application = Application::start().await?;
    let (port, lines) = adapter()?;
    let ext_authz = json!({
        "name": "envoy.filters.http.ext_authz",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
            "transport_api_version": "V3",
            "grpc_service": {"envoy_grpc": {"cluster_name": "adapter", "authority": "adapter"}, "timeout": "25s"},
        },
    });
    let gateway = async |name: &str, filters: Vec<Value>| {
        let validation = json!({"trusted_ca": {"filename": files.roots}});
        let inbound = Inbound { files: &files, validation, filters, application: application.address, adapter: port };
        inbound.start(folder.path(), name).await
    };
    let asking = gateway("asking", vec![ext_authz]).await?;
    let native = gateway("native", filters(POLICIES, "istio-system", "gateway")?).await?;

    let dns = |name: &str| name.try_into().map(SanType::DnsName).map_err(text);
    let uri = |name: &str| name.try_into().map(SanType::URI).map_err(text);
    let orders = client(&authority, &[uri("spiffe://cluster.local/ns/shop/sa/orders")?], "")?;
    let with_dns = client(&authority, &[dns("client.example")?], "client")?;
    let with_subject = client(&authority, &[], "client")?;
    let with_uri = client(&authority, &[uri("https://client.example/")?, dns("client.example")?], "client")?;
    // By the adapter, and by Envoy's own policies.
    let known = [
        ("/open", 200, 200),
        ("/anybody", 200, 200),
        ("/orders", 200, 200),
        ("/others", 403, 403),
        ("/kept", 200, 200),
    ];
    let unknown = [
        // No rule about peers: as for anybody with a certificate of the authority.
        ("/open", 200, 200),
        // ALLOW rules about peers. To Envoy any name is `*`, and not the one that is ruled out; here no rule about peers
        // is for one of whom policies cannot speak.
        ("/anybody", 403, 200),
        ("/orders", 403, 403),
        ("/others", 403, 200),
        // A DENY rule about peers: it might be this one.
        ("/kept", 403, 200),
    ];
    for (name, client, rows) in [
        ("a SPIFFE ID", &orders, &known),
        ("a DNS name", &with_dns, &unknown),
        ("a subject", &with_subject, &unknown),
        ("another URI", &with_uri, &unknown),
    ] {
        for (path, by_adapter, by_envoy) in rows {
            let found = [ask(&asking, &authority, client, path).await?, ask(&native, &authority, client, path).await?];
            assert_eq!(found, [*by_adapter, *by_envoy], "{name} {path}: {:?}", lines.all().last());
        }
    }
    Ok(())
}
