//! Two trust domains with a root each. Envoy has SPIFFE's certificate validator, and knows the legacy domain's roots
//! from what the issuer publishes.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use e2e::doors::Doors;
use e2e::local_issuer::Workload;
use identity::tls::client_config;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::authority::Root;
use crate::sidecars::{self, exactly, text};
use crate::world::{Legacy, Mesh, billing_at, documents};
use crate::{LEGACY, MESH, Outcome, REFUSED, available, id, is};

/// A trust domain's roots as PEM, of a bundle in SPIFFE's format: what istiod does with the answer of a
/// `spiffeBundleUrl` (`pkg/spiffe`, `RetrieveSpiffeBundleRootCerts`).
fn roots_of(bundle: &str) -> Result<String, String> {
    let bundle: Value = serde_json::from_str(bundle).map_err(text)?;
    let mut pem = String::new();
    for key in bundle["keys"].as_array().into_iter().flatten().filter(|key| key["use"] == "x509-svid") {
        let [certificate] = key["x5c"].as_array().map(Vec::as_slice).unwrap_or_default() else {
            return Err(format!("found no single certificate in {key}"));
        };
        let der = STANDARD.decode(certificate.as_str().unwrap_or_default()).map_err(text)?;
        let body = STANDARD.encode(der);
        let lines: Vec<&str> = body.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        pem += &format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"));
    }
    Ok(pem)
}

/// A bundle without its keys for JWT-SVIDs.
fn x509_alone(bundle: &str) -> Result<Value, String> {
    let mut bundle: Value = serde_json::from_str(bundle).map_err(text)?;
    let keys = bundle["keys"].as_array_mut().ok_or("found no keys")?;
    let all = keys.len();
    keys.retain(|key| key["use"] == "x509-svid");
    if keys.is_empty() || keys.len() == all {
        return Err(format!("expected keys of both kinds, found {bundle}"));
    }
    Ok(bundle)
}

fn file(folder: &Path, name: &str, content: &str) -> Result<String, String> {
    let path = folder.join(name);
    std::fs::write(&path, content).map(|()| path.display().to_string()).map_err(text)
}

/// The validator with each domain's roots as PEM: Istio's configuration of a mesh with several roots.
fn by_domain(own: &str, other: &str) -> Value {
    validator(&json!({"trust_domains": [
        {"name": MESH, "trust_bundle": {"filename": own}},
        {"name": LEGACY, "trust_bundle": {"filename": other}},
    ]}))
}

fn validator(config: &Value) -> Value {
    let mut config = config.clone();
    config["@type"] = json!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig");
    json!({"custom_validator_config": {"name": "envoy.tls.cert_validator.spiffe", "typed_config": config}})
}

/// A request with this SVID to what must be `billing` of the mesh; the status, or 0 where there was no answer.
async fn ask(mesh: &Mesh, roots: &str, client: &Workload) -> Result<u16, String> {
    let roots = Workload { roots: roots.to_owned(), ..workload(client) };
    let expected = id(MESH, "billing").parse().map_err(text)?;
    let config = client_config(&client.svid()?, &roots.bundle()?, &[expected], &["http/1.1"]).map_err(text)?;
    let stream = TcpStream::connect(mesh.billing.address).await.map_err(text)?;
    let name = "billing.shop.svc.cluster.local".try_into().map_err(|_| "no server name")?;
    let mut stream = TlsConnector::from(config).connect(name, stream).await.map_err(text)?;
    // With TLS 1.3 the refusal of a client comes after its handshake.
    let request = b"GET /bills/1 HTTP/1.1\r\nhost: billing\r\nconnection: close\r\n\r\n";
    let mut answer = Vec::new();
    let _ = stream.write_all(request).await;
    let _ = stream.read_to_end(&mut answer).await;
    let head = String::from_utf8_lossy(&answer).into_owned();
    Ok(head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default())
}

fn workload(of: &Workload) -> Workload {
    Workload { chain: of.chain.clone(), key: of.key.clone(), roots: of.roots.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_believes_each_domain_by_its_own_root() -> Outcome {
    if !available() {
        return Ok(());
    }
    let (meshs, legacys) = (Root::new("mesh root")?, Root::new("legacy root")?);
    let (istiods, ours) = (meshs.intermediate("istiod")?, legacys.intermediate("Causeway issuer")?);
    let doors = Doors::open(LEGACY, &ours.cacerts(), "shop", &["orders"]).await?;
    let published = doors.spiffe_bundle().await?;
    let roots = roots_of(&published)?;
    let tight = |pem: &str| pem.split_whitespace().collect::<String>();
    assert_eq!(tight(&roots), tight(&legacys.pem));

    let billing = istiods.workload(&id(MESH, "billing"))?;
    // Policies name the other domain: an alias would take its names for the mesh's own.
    let yaml = documents(MESH, &[], LEGACY);
    let orders = doors.workload("orders").await?;
    let clients = [
        ("the issuer's own", orders, 200),
        ("the mesh's root for a legacy name", istiods.workload(&id(LEGACY, "orders"))?, 0),
        ("the legacy root for a name of the mesh", ours.workload(&id(MESH, "orders"))?, 0),
        ("a domain that nobody vouches for", ours.workload(&id("third.example", "orders"))?, 0),
        ("somebody else of the legacy domain", ours.workload(&id(LEGACY, "guest"))?, 403),
        ("the mesh's own, which no policy names", istiods.workload(&id(MESH, "orders"))?, 403),
    ];
    for read_by in ["istiod", "Envoy itself"] {
        let folder = tempfile::tempdir().map_err(text)?;
        let validation = if read_by == "istiod" {
            let legacy = file(folder.path(), "legacy.pem", &roots)?;
            let mesh = file(folder.path(), "mesh.pem", &meshs.pem)?;
            by_domain(&mesh, &legacy)
        } else {
            // The same bundles in SPIFFE's own words. Envoy takes no bundle with keys for JWT-SVIDs among the others.
            let of_mesh = Doors::open(MESH, &istiods.cacerts(), "shop", &[]).await?.spiffe_bundle().await?;
            let map = json!({"trust_domains": {MESH: x509_alone(&of_mesh)?, LEGACY: x509_alone(&published)?}});
            let map = file(folder.path(), "bundles.json", &map.to_string())?;
            validator(&json!({"trust_bundles": {"filename": map}}))
        };
        let mesh = Mesh::start(folder.path(), &billing, &yaml, |_| validation.clone()).await?;
        for (name, client, expected) in &clients {
            let status = ask(&mesh, &meshs.pem, client).await?;
            let log = || mesh.billing.process().lines().join("\n");
            assert_eq!(status, *expected, "{read_by}, {name}: {}", log());
        }
        assert_eq!(mesh.application.requests(), 1, "{read_by}");
    }
    Ok(())
}

/// What the extension can do in a federation: it knows one set of roots, which is the issuer's answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_believes_the_roots_that_the_issuer_names() -> Outcome {
    if !available() {
        return Ok(());
    }
    let (meshs, legacys) = (Root::new("mesh root")?, Root::new("legacy root")?);
    let (istiods, ours) = (meshs.intermediate("istiod")?, legacys.intermediate("Causeway issuer")?);
    let billing = istiods.workload(&id(MESH, "billing"))?;
    let yaml = documents(MESH, &[], LEGACY);

    // Another domain than the mesh's own and its aliases is refused when the bundle is made.
    let unknown = format!("{}{}", documents(LEGACY, &[], MESH), billing_at(1, &id(MESH, "billing")));
    let folder = tempfile::tempdir().map_err(text)?;
    let refused = sidecars::bundle(folder.path(), "refused.bundle", &unknown).unwrap_err();
    assert!(refused.contains("one of its aliases (others are not supported)"), "{refused}");

    for (secret, out, back) in [(ours.cacerts(), REFUSED, 503), (ours.cacerts_with(&meshs), (200, None), 200)] {
        let folder = tempfile::tempdir().map_err(text)?;
        let doors = Doors::open(LEGACY, &secret, "shop", &["orders"]).await?;
        // What it names is what it publishes, all of it as the legacy domain's.
        let named = roots_of(&doors.spiffe_bundle().await?)?.matches("BEGIN CERTIFICATE").count();
        assert_eq!(named, if back == 200 { 2 } else { 1 });
        let (own, roots) =
            (file(folder.path(), "mesh.pem", &meshs.pem)?, file(folder.path(), "legacy.pem", &legacys.pem)?);
        let mesh = Mesh::start(folder.path(), &billing, &yaml, |_| by_domain(&own, &roots)).await?;
        let port = mesh.billing.address.port();
        let documents = format!("{}{}", documents(LEGACY, &[MESH], MESH), billing_at(port, &id(MESH, "billing")));
        let legacy = Legacy::start(folder.path(), &doors, &documents).await?;
        let outcome = legacy.outcome().await?;
        assert!(is(&outcome, out), "{outcome:?} {:?}", legacy.sidecar.process.lines());
        let mut believed = by_domain(&own, &roots);
        believed["match_typed_subject_alt_names"] =
            exactly(&id(LEGACY, "orders"))["match_typed_subject_alt_names"].clone();
        let answer = mesh.calls_by(&believed, folder.path(), &legacy).await?;
        assert_eq!(answer.status, back, "{} {:?}", answer.body, legacy.sidecar.process.lines());
        let count = usize::from(back == 200);
        // The name counts besides the roots.
        believed["match_typed_subject_alt_names"] =
            exactly(&id(LEGACY, "guest"))["match_typed_subject_alt_names"].clone();
        assert_eq!(mesh.calls_by(&believed, folder.path(), &legacy).await?.status, 503);
        assert_eq!([mesh.application.requests(), legacy.application.requests()], [count, count]);
    }
    Ok(())
}
