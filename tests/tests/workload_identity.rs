//! SVIDs before readers and peers that are not ours: OpenSSL, py-spiffe and Envoy.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use e2e::envoy::Envoy;
use e2e::local_issuer::{LocalIssuer, Workload, new_authority, spiffe_id};
use e2e::{ports, root, tool};
use identity::tls::{client_config, server_config};
use identity::verify::peer_id;
use rcgen::{
    CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The key types that workloads may have.
const KEYS: [&str; 4] = ["p256", "p384", "rsa", "ed25519"];

/// A new key.
fn key(of: &str) -> Result<KeyPair, String> {
    let algorithm = match of {
        "p256" => &rcgen::PKCS_ECDSA_P256_SHA256,
        "p384" => &rcgen::PKCS_ECDSA_P384_SHA384,
        "rsa" => &rcgen::PKCS_RSA_SHA256,
        _ => {
            // Without the public half (RFC 5208): neither OpenSSL's nor BoringSSL's readers take it with one (RFC
            // 5958).
            let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).map_err(words)?;
            return KeyPair::try_from(pkcs8.as_ref()).map_err(words);
        }
    };
    KeyPair::generate_for(algorithm).map_err(words)
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Writes chain, key and roots, and returns where.
fn write(folder: &Path, name: &str, workload: &Workload) -> Result<[String; 3], String> {
    let parts =
        [("chain", workload.chain.as_str()), ("key", workload.key.expose()), ("roots", workload.roots.as_str())];
    let mut paths = [const { String::new() }; 3];
    for (path, (part, text)) in paths.iter_mut().zip(parts) {
        let file = folder.join(format!("{name}.{part}.pem"));
        std::fs::write(&file, text).map_err(words)?;
        *path = file.display().to_string();
    }
    Ok(paths)
}

async fn openssl_accepts(chain: &str, roots: &str) -> Result<(), String> {
    for purpose in ["sslclient", "sslserver"] {
        let verified = Command::new("openssl")
            .args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile", roots, "-untrusted", chain, chain])
            .output()
            .await
            .map_err(words)?;
        if !verified.status.success() {
            return Err(format!("{purpose}: {}", String::from_utf8_lossy(&verified.stderr)));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_and_py_spiffe_read_everything() -> Result<(), String> {
    if !e2e::tier::available(&[&tool("python3"), Path::new("/usr/bin/openssl")]) {
        return Ok(());
    }
    let issuer = LocalIssuer::new(&new_authority()?, &json!({}), &[("CAUSEWAY_SVID_ED25519", "true")], None)?;
    let folder = tempfile::tempdir().map_err(words)?;
    for name in KEYS {
        let workload = issuer.workload_with("reviews", key(name)?).await?;
        let [chain, _, roots] = write(folder.path(), name, &workload)?;
        openssl_accepts(&chain, &roots).await.map_err(|error| format!("{name}: {error}"))?;
    }
    let jwt = issuer.knock("reviews", "/v1/jwt-svid", &json!({"audience": ["bookinfo"]})).await?;
    let bundle = issuer.public("GET", "/spiffe-bundle.json", &Value::Null).await?;
    std::fs::write(folder.path().join("jwt-svid"), jwt.body["svid"].as_str().unwrap_or_default()).map_err(words)?;
    std::fs::write(folder.path().join("bundle.json"), bundle.body.to_string()).map_err(words)?;
    let output = Command::new(tool("python3"))
        .arg(root().join("tests/fixtures/clients/spiffe_reader.py"))
        .arg(folder.path())
        .arg(spiffe_id("reviews")?.as_str())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .await
        .map_err(words)?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.contains("another audience: "), "{said}");
    Ok(())
}

/// The sequence of the bundle stands on the times of versions.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_manager_says_when_a_version_was_made() -> Result<(), String> {
    use platform::clock::{Clock, SystemClock};
    use platform::secrets::{Secrets, SecretsManager};
    if !e2e::tier::available(&[&tool("moto_server")]) {
        return Ok(());
    }
    let moto = e2e::moto::Moto::start().await?;
    e2e::world::create_secret(&moto, "dated", &identity::Secret::new("value".to_owned())).await?;
    let (value, made_at) = SecretsManager::new(e2e::world::aws(&moto)).get_dated("dated").await.map_err(words)?;
    assert_eq!(value.expose(), "value");
    assert!(SystemClock.unix().abs_diff(made_at) < 3600, "{made_at}");
    Ok(())
}

/// Everything that a CSR can ask for in vain: a refusal, or a certificate as every other.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_a_csr_shows_in_a_certificate() -> Result<(), String> {
    type Change = fn(&mut CertificateParams);
    if !e2e::tier::available(&[Path::new("/usr/bin/openssl")]) {
        return Ok(());
    }
    let issuer = LocalIssuer::new(&new_authority()?, &json!({}), &[], None)?;
    let folder = tempfile::tempdir().map_err(words)?;
    let cases: &[(&str, Change)] = &[
        ("another id", |p| {
            let id = "spiffe://cluster.local/ns/istio-system/sa/istiod".try_into();
            p.subject_alt_names.extend(id.map(SanType::URI));
        }),
        ("names", |p| {
            p.subject_alt_names.extend("istiod.istio-system.svc".try_into().map(SanType::DnsName));
            p.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        }),
        ("a subject", |p| p.distinguished_name.push(DnType::CommonName, "cluster.local admin")),
        ("an authority", |p| p.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained)),
        ("keyCertSign", |p| p.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign]),
        ("every use", |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]),
        ("an extension", |p| {
            p.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 30], vec![0x30, 0])];
        }),
    ];
    let id = spiffe_id("reviews")?;
    for (name, change) in cases {
        let key = KeyPair::generate().map_err(words)?;
        let mut params = CertificateParams::default();
        change(&mut params);
        let csr = params.serialize_request(&key).and_then(|request| request.pem()).map_err(words)?;
        let answer = issuer.knock("reviews", "/v1/svid", &json!({ "csr": csr })).await?;
        let chain: Vec<&str> =
            answer.body["chain"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let [leaf, signer, roots] = chain.as_slice() else { return Err(format!("{name}: {}", answer.body)) };
        let workload = Workload {
            chain: format!("{leaf}{signer}"),
            key: identity::Secret::new(key.serialize_pem()),
            roots: (*roots).to_owned(),
        };
        let certificates = workload.svid()?;
        let expires_at = answer.body["expires_at"].as_u64().unwrap_or_default();
        let order = identity::issued::Order {
            id: &id,
            public_key: key.public_key_raw(),
            not_before: expires_at - 3720,
            not_after: expires_at,
        };
        let [leaf, signer] = certificates.chain() else { return Err(format!("{name}: no chain")) };
        identity::issued::check(leaf, signer, &order).map_err(|clause| format!("{name}: {clause}"))?;
        let [chain, _, roots] = write(folder.path(), "workload", &workload)?;
        openssl_accepts(&chain, &roots).await.map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

/// Something behind Envoy: TLS with this SVID; it answers everything and says who asked.
async fn upstream(workload: &Workload) -> Result<SocketAddr, String> {
    let config = server_config(&workload.svid()?, &workload.bundle()?, &["http/1.1"]).map_err(words)?;
    let listener = TcpListener::bind(ports::loopback(0)).await.map_err(words)?;
    let address = listener.local_addr().map_err(words)?;
    let acceptor = TlsAcceptor::from(config);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let peer = peer_id(stream.get_ref().1.peer_certificates()).map(|id| id.to_string()).unwrap_or_default();
                let _ = stream.read(&mut [0; 4096]).await;
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{peer}", peer.len());
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    Ok(address)
}

/// The answer to a request through Envoy, which must be `expected`.
async fn ask(client: &Workload, address: SocketAddr, expected: &str) -> Result<String, String> {
    let config = client_config(&client.svid()?, &client.bundle()?, &[spiffe_id(expected)?], &["http/1.1"]);
    let stream = TcpStream::connect(address).await.map_err(words)?;
    let name = "peer.bookinfo.svc.cluster.local".try_into().map_err(|_| "no server name")?;
    let mut stream = TlsConnector::from(config.map_err(words)?).connect(name, stream).await.map_err(words)?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: peer\r\nconnection: close\r\n\r\n").await.map_err(words)?;
    let mut answer = Vec::new();
    // Envoy may close without a goodbye; what it has said counts.
    let _ = stream.read_to_end(&mut answer).await;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Envoy as `ratings`, with a peer on either side.
async fn envoy(folder: &Path, workload: &Workload, upstream: SocketAddr) -> Result<Envoy, String> {
    let [certificate, key, roots] = write(folder, "envoy", workload)?;
    let (port, id) = (upstream.port().to_string(), spiffe_id("reviews")?);
    let values = [
        ("CERTIFICATE", certificate.as_str()),
        ("KEY", &key),
        ("ROOT", &roots),
        ("TRUST_DOMAIN", "cluster.local"),
        ("UPSTREAM_PORT", &port),
        ("UPSTREAM_ID", id.as_str()),
    ];
    Envoy::start("svid_peer", &values, folder).await
}

async fn check(name: &str, client: &Workload, envoy: &Envoy) -> Result<(), String> {
    let answer = ask(client, envoy.address, "ratings").await.map_err(|error| format!("{name}: {error}"))?;
    let (reviews, ratings) = (spiffe_id("reviews")?, spiffe_id("ratings")?);
    let lower = answer.to_lowercase();
    for expected in
        ["http/1.1 200", &format!("x-downstream: {reviews}"), &format!("x-upstream: {reviews}"), ratings.as_str()]
    {
        if !lower.contains(expected) {
            return Err(format!("{name}: expected {expected}: {answer} {}", envoy.process().lines().join("\n")));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_takes_every_key_type_but_one_as_client_and_as_server() -> Result<(), String> {
    if !e2e::tier::available(&[&tool("envoy")]) {
        return Ok(());
    }
    let issuer = LocalIssuer::new(&new_authority()?, &json!({}), &[("CAUSEWAY_SVID_ED25519", "true")], None)?;
    for name in KEYS {
        let folder = tempfile::tempdir().map_err(words)?;
        let reviews = issuer.workload_with("reviews", key(name)?).await?;
        let upstream = upstream(&reviews).await?;
        let envoy = envoy(folder.path(), &issuer.workload_with("ratings", key(name)?).await?, upstream).await?;
        if name == "ed25519" {
            // Envoy loads it and then agrees with nobody on a signature: the reason why this type is off by default.
            assert!(check(name, &reviews, &envoy).await.is_err(), "Envoy takes Ed25519 now");
            continue;
        }
        check(name, &reviews, &envoy).await?;
        // Somebody whom another authority has named so is nobody.
        let stranger = LocalIssuer::new(&new_authority()?, &json!({}), &[("CAUSEWAY_SVID_ED25519", "true")], None)?;
        let mut stranger = stranger.workload_with("reviews", key(name)?).await?;
        stranger.roots.clone_from(&reviews.roots);
        let refused = ask(&stranger, envoy.address, "ratings").await;
        assert!(!refused.is_ok_and(|answer| answer.contains("200")), "{name}: a stranger got through");
    }
    Ok(())
}

/// While one root replaces the other, workloads of two neighbouring steps talk to each other in both directions.
#[tokio::test(flavor = "multi_thread")]
async fn envoy_and_our_peers_outlive_a_change_of_roots() -> Result<(), String> {
    if !e2e::tier::available(&[&tool("envoy")]) {
        return Ok(());
    }
    let (old, new) = (new_authority()?, new_authority()?);
    let text = |of: &Value| of["root-cert.pem"].as_str().unwrap_or_default().to_owned();
    let both = format!("{}{}", text(&old), text(&new));
    let with = |authority: &Value, roots: &str| {
        let mut authority = authority.clone();
        authority["root-cert.pem"] = json!(roots);
        // The chain ends in the intermediate.
        authority["cert-chain.pem"] = authority["ca-cert.pem"].clone();
        authority
    };
    let steps = [with(&old, &text(&old)), with(&old, &both), with(&new, &both), with(&new, &text(&new))];
    let issuers: Vec<LocalIssuer> =
        steps.iter().map(|step| LocalIssuer::new(step, &json!({}), &[], None)).collect::<Result<_, _>>()?;
    let issuers: Arc<[LocalIssuer]> = issuers.into();
    for (ours, envoys) in [(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)] {
        let (Some(our), Some(their)) = (issuers.get(ours), issuers.get(envoys)) else { return Err("no step".into()) };
        let folder = tempfile::tempdir().map_err(words)?;
        let algorithm = &rcgen::PKCS_ECDSA_P256_SHA256;
        let reviews = our.workload("reviews", algorithm).await?;
        let upstream = upstream(&reviews).await?;
        let envoy = envoy(folder.path(), &their.workload("ratings", algorithm).await?, upstream).await?;
        check(&format!("we at step {ours}, Envoy at step {envoys}"), &reviews, &envoy).await?;
    }
    Ok(())
}
