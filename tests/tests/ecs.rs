//! A service in ECS with the extension as its sidecar, called by a sidecar of the mesh: a real Envoy.

#[path = "egress_parity/mesh.rs"]
#[allow(dead_code, reason = "the other test needs more of it")]
mod mesh;

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use causeway::dev::http::send;
use e2e::envoy::Envoy;
use e2e::{ports, tier, tool};
use extension::config::{Https, Inbound, InboundPort, Life};
use extension::{BundleSource, Config, Deps, Egress, Extension, Workload};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use istio::SourceFile;
use mesh::Authority;
use platform::aws::{AwsConfig, Credentials};
use platform::bundle::{self, Section};
use platform::clock::SystemClock;
use platform::jwks::JwksSettings;
use platform::log::{Lines, Log};
use serde_json::json;
use tokio::net::TcpListener;

/// Caller and service are one workload here: the issuer of this test knows one.
const ID: &str = "spiffe://cluster.local/ns/shop/sa/client";
const SNI: &str = "outbound_.9080_._.shop.shop.svc.cluster.local";

const MESH: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: all, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: shop, namespace: shop}
spec:
  selector: {matchLabels: {app: shop}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/shop/sa/client]}}]
    to: [{operation: {paths: [/open*]}}]
  - from: [{source: {principals: [cluster.local/ns/shop/sa/other]}}]
    to: [{operation: {paths: [/others]}}]
";

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// An application that says what it has seen.
async fn application() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind(ports::loopback(0)).await.map_err(text)?;
    let address = listener.local_addr().map_err(text)?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = service_fn(|request: Request<Incoming>| async move {
                let proven = request.headers().get("x-forwarded-client-cert").and_then(|value| value.to_str().ok());
                let said = format!("{} {}", request.uri(), proven.unwrap_or("nobody"));
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(said))))
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    Ok(address)
}

/// The sidecar of the service; where it listens, and its log.
async fn sidecar(issuer: SocketAddr) -> Result<(SocketAddr, Lines), String> {
    let file = SourceFile { name: "mesh.yaml".to_owned(), text: MESH.to_owned() };
    let resources = istio::parse(&[file]).map_err(|errors| format!("{errors:?}"))?;
    let rules = traffic::compile(&resources).map_err(|problems| problems.join("\n"))?;
    let policies =
        authz::compile(&resources, &authz::CompileOptions::default()).map_err(|errors| format!("{errors:?}"))?;
    let sections: [(Section, &[u8]); 2] = [(Section::Access, &policies.section), (Section::Egress, &rules.section)];
    let egress = Egress {
        bundle: BundleSource::Bytes(bundle::write(&sections).map_err(text)?),
        workload: Workload {
            namespace: Some("shop".to_owned()),
            labels: vec![("app".to_owned(), "shop".to_owned())],
            ..Workload::default()
        },
        trust_domain: None,
        issuer_url: format!("http://{issuer}"),
        issuer_service: "lambda".to_owned(),
        aws: AwsConfig {
            region: "eu-central-1".to_owned(),
            credentials: Credentials {
                access_key_id: "AKIDEXAMPLE".to_owned(),
                secret_access_key: "not-looked-at".to_owned().into(),
                session_token: None,
            }
            .into(),
            dynamodb_endpoint: None,
            secretsmanager_endpoint: None,
        },
        audience: None,
        scope: None,
        tokens: Vec::new(),
        identity_wait: Duration::from_secs(10),
        response_timeout: Duration::from_secs(15),
        connect_to: Vec::new(),
        listeners: Vec::new(),
        https: Https::default(),
        life: Life::default(),
        inbound: Some(Inbound {
            ports: vec![InboundPort { port: 0, application: application().await?, h2c: false }],
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            health_port: 0,
            drain_accept: Duration::ZERO,
            drain: Duration::from_secs(5),
            api_keys: None,
            jwks: JwksSettings::default(),
            revocations: None,
        }),
    };
    let (log, lines) = Log::memory();
    let config = Config { port: 0, lambda: None, egress: Ok(egress) };
    let bound = Extension::bind(config, Deps { clock: Arc::new(SystemClock), log }).await.map_err(text)?;
    let address = bound.inbound().first().copied().ok_or("no port")?;
    tokio::spawn(bound.run(std::future::pending()));
    Ok((address, lines))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_of_the_mesh_calls_a_service_in_ecs() -> Result<(), String> {
    if !tier::available(&[&tool("envoy")]) {
        return Ok(());
    }
    let authority = Arc::new(Authority::new()?);
    let (address, lines) = sidecar(mesh::issuer(Arc::clone(&authority)).await.map_err(text)?).await?;
    let host = ("host", "shop.shop.svc.cluster.local:9080");
    // What Istio's client side offers for each protocol.
    for (protocol, alpn, spoken) in [
        ("http_protocol_options", "istio-http/1.1, istio, http/1.1", "HTTP/1.1"),
        ("http2_protocol_options", "istio-h2, istio, h2", "HTTP/2"),
    ] {
        let folder = tempfile::tempdir().map_err(text)?;
        authority.write_client(folder.path())?;
        let file = |name: &str| folder.path().join(name).display().to_string();
        let expected = json!({
            "trusted_ca": {"filename": file("root.pem")},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": ID}}],
        });
        let values = [
            ("CERTIFICATE", file("client.pem")),
            ("KEY", file("client.key")),
            ("VALIDATION", expected.to_string()),
            ("UPSTREAM_PORT", address.port().to_string()),
            ("SNI", SNI.to_owned()),
            ("PROTOCOL", protocol.to_owned()),
            ("ALPN", alpn.to_owned()),
        ];
        let values: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let envoy = Envoy::start("outbound", &values, folder.path()).await?;
        let forged = ("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/shop/sa/other");
        let answer = send(envoy.address, "GET", "/open?a=1", &[host, forged], "").await?;
        assert_eq!(answer.status, 200, "{protocol}: {} {:?}", answer.body, lines.all());
        let (path, proven) = answer.body.split_once(' ').unwrap_or_default();
        assert_eq!(path, "/open?a=1");
        assert!(proven.starts_with(&format!("By={ID};Hash=")) && proven.ends_with(&format!(";URI={ID}")), "{proven}");
        for path in ["/others", "/", "/open/../others"] {
            let answer = send(envoy.address, "GET", path, &[host, forged], "").await?;
            assert_eq!((answer.status, answer.body.as_str()), (403, "{\"error\":\"denied\"}\n"), "{protocol} {path}");
        }
        let seen = lines.all().into_iter().rfind(|line| line.contains(r#""event":"inbound""#)).unwrap_or_default();
        assert!(seen.contains(&format!(r#""protocol":"{spoken}""#)), "{seen}");
    }
    // STRICT: nobody comes in without a certificate.
    assert!(send(address, "GET", "/open", &[host], "").await.is_err());
    Ok(())
}
