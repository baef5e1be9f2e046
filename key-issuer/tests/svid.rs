//! The IAM door: SVIDs for IAM roles, tokens without a client secret, and what does not get through.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::process::Command;

use common::*;
use identity::SpiffeId;
use key_issuer::{MAX_CSR_BYTES, bootstrap};
use rcgen::{
    CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{OID_X509_EXT_KEY_USAGE, OID_X509_EXT_SUBJECT_ALT_NAME};
use x509_parser::prelude::FromDer;

const SPIFFE_ID: &str = "spiffe://cluster.local/ns/bookinfo/sa/bookinfo-reviews";

fn csr(key: &KeyPair) -> String {
    CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
}

fn svid_event(csr: &str) -> Value {
    let mut event = iam_event(IAM_URL, "/v1/svid", ROLE_SESSION);
    event["headers"]["content-type"] = json!("application/json");
    event["body"] = json!(json!({"csr": csr}).to_string());
    event
}

fn der(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

/// A world with more variables.
async fn world(variables: &[(&str, &str)]) -> World {
    let ca = bootstrap::new_ca_secret(&"cluster.local".parse().unwrap(), NOW).unwrap();
    World::built(bootstrap::new_signing_secret().unwrap().expose(), ca.expose(), variables, None).await
}

fn check_profile(leaf: &CertificateDer<'_>, key: &KeyPair, not_after: u64) {
    let (rest, leaf) = X509Certificate::from_der(leaf).unwrap();
    assert!(rest.is_empty());
    assert_eq!(leaf.version().0, 2, "version 3");
    assert_eq!(leaf.subject().iter().count(), 0, "an empty subject");
    let serial = leaf.raw_serial();
    assert!(serial.len() <= 17 && serial[0] < 0x80 && serial.iter().any(|b| *b != 0), "{serial:?}");
    assert_eq!(leaf.validity().not_before.timestamp(), i64::try_from(NOW - 120).unwrap());
    assert_eq!(leaf.validity().not_after.timestamp(), i64::try_from(not_after).unwrap());
    assert_eq!(leaf.public_key().subject_public_key.data.as_ref(), key.public_key_raw());

    let names = leaf.get_extension_unique(&OID_X509_EXT_SUBJECT_ALT_NAME).unwrap().unwrap();
    assert!(names.critical, "critical because the subject is empty");
    match names.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => {
            assert!(matches!(names.general_names.as_slice(), [GeneralName::URI(SPIFFE_ID)]), "{names:?}");
        }
        other => panic!("{other:?}"),
    }
    let usage = leaf.get_extension_unique(&OID_X509_EXT_KEY_USAGE).unwrap().unwrap();
    assert!(usage.critical);
    // digitalSignature and nothing else; keyEncipherment too for RSA.
    let flags = if key.algorithm() == &rcgen::PKCS_RSA_SHA256 { 0b101 } else { 1 };
    assert_eq!(leaf.key_usage().unwrap().unwrap().value.flags, flags);
    let extended = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && extended.client_auth && !extended.any && extended.other.is_empty());
    let basic = leaf.basic_constraints().unwrap().unwrap();
    assert!(basic.critical && !basic.value.ca);
    let has = |wanted: fn(&ParsedExtension<'_>) -> bool| {
        leaf.extensions().iter().filter(|e| wanted(e.parsed_extension())).count()
    };
    assert_eq!(has(|e| matches!(e, ParsedExtension::SubjectKeyIdentifier(_))), 1);
    assert_eq!(has(|e| matches!(e, ParsedExtension::AuthorityKeyIdentifier(_))), 1);
    assert_eq!(leaf.extensions().len(), 6, "and no other extension");
}

#[tokio::test]
async fn an_svid_has_exactly_the_profile() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_RSA_SHA256] {
        let world = World::new().await;
        let key = KeyPair::generate_for(algorithm).unwrap();
        let answer = world.send(svid_event(&csr(&key))).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert_eq!(answer.header("Cache-Control"), Some("no-store"));
        let body = answer.json();
        assert_eq!((&body["spiffe_id"], &body["expires_at"]), (&json!(SPIFFE_ID), &json!(NOW + 3600)));
        let chain: Vec<&str> = body["chain"].as_array().unwrap().iter().map(|pem| pem.as_str().unwrap()).collect();
        assert_eq!(chain.len(), 3, "leaf, intermediate, root");
        assert_eq!(chain[2], body["bundle"].as_str().unwrap());
        let [leaf, intermediate, root] = [0, 1, 2].map(|i| der(chain[i]).remove(0));
        check_profile(&leaf, &key, NOW + 3600);
        let parsed = |der| X509Certificate::from_der(der).unwrap().1;
        assert_eq!(parsed(&leaf).issuer().as_raw(), parsed(&intermediate).subject().as_raw());
        assert_eq!(parsed(&intermediate).issuer().as_raw(), parsed(&root).subject().as_raw());

        let audit = world.audit();
        assert_eq!(audit["event"], "svid_issued");
        for (member, value) in [
            ("door", json!("iam")),
            ("spiffe_id", json!(SPIFFE_ID)),
            ("role_arn", json!("arn:aws:iam::123456789012:role/reviews")),
            ("expires_at", json!(NOW + 3600)),
        ] {
            assert_eq!(audit[member], value, "{member}");
        }
        let serial: String = parsed(&leaf).raw_serial().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(audit["serial"].as_str().unwrap().trim_start_matches('0'), serial.trim_start_matches('0'));
    }
}

#[tokio::test]
async fn openssl_accepts_the_chain_for_client_and_server() {
    let Ok(version) = Command::new("openssl").arg("version").output() else {
        // An independent verifier; the profile is checked without it above.
        return;
    };
    assert!(version.status.success());
    let world = world(&[("CAUSEWAY_SVID_ED25519", "true")]).await;
    for algorithm in
        [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_ED25519]
    {
        let answer = world.send(svid_event(&csr(&KeyPair::generate_for(algorithm).unwrap()))).await;
        openssl_accepts(&answer.json());
    }
}

fn openssl_accepts(body: &Value) {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, pem: &Value| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem.as_str().unwrap()).unwrap();
        path
    };
    let leaf = write("leaf.pem", &body["chain"][0]);
    let intermediate = write("intermediate.pem", &body["chain"][1]);
    let root = write("root.pem", &body["bundle"]);
    for purpose in ["sslclient", "sslserver"] {
        let verified = Command::new("openssl")
            .args(["verify", "-x509_strict", "-purpose", purpose, "-attime", &NOW.to_string(), "-CAfile"])
            .arg(&root)
            .arg("-untrusted")
            .args([&intermediate, &leaf])
            .output()
            .unwrap();
        assert!(verified.status.success(), "{purpose}: {}", String::from_utf8_lossy(&verified.stderr));
    }
}

#[tokio::test]
async fn every_name_in_the_csr_is_ignored() {
    let world = World::new().await;
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["ratings.example".to_owned(), "10.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "cluster.local admin");
    params.distinguished_name.push(DnType::OrganizationName, "mesh root");
    for uri in
        ["spiffe://cluster.local/ns/istio-system/sa/istiod", "spiffe://cluster.local/ns/bookinfo/sa/bookinfo-ratings"]
    {
        params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
    }
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning, ExtendedKeyUsagePurpose::Any];
    // An extension that nobody knows, which rcgen's own reader of CSRs refuses.
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0])];
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    let answer = world.send(svid_event(&csr)).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    check_profile(&der(answer.json()["chain"][0].as_str().unwrap())[0], &key, NOW + 3600);
}

/// A P-256 key that signed its CSR with SHA-384.
const P256_SHA384: &str = include_str!("fixtures/p256-sha384.csr.pem");

#[tokio::test]
async fn a_p256_key_stays_one_when_its_csr_is_signed_with_sha384() {
    let world = World::new().await;
    let answer = world.send(svid_event(P256_SHA384)).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let leaf = &der(answer.json()["chain"][0].as_str().unwrap())[0];
    let (_, leaf) = X509Certificate::from_der(leaf).unwrap();
    let key = leaf.public_key();
    assert_eq!(key.subject_public_key.data.len(), 65);
    let curve = key.algorithm.parameters.as_ref().unwrap().as_oid().unwrap();
    assert_eq!(curve, x509_parser::oid_registry::OID_EC_P256);
}

const RSA_1024: &str = include_str!("fixtures/rsa-1024.csr.pem");

#[tokio::test]
async fn csrs_that_are_refused() {
    let world = World::new().await;
    let good = csr(&KeyPair::generate().unwrap());
    let other = csr(&KeyPair::generate().unwrap());
    let ed25519 = csr(&KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap());
    let p521 = csr(&KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap());
    let bad_signature = {
        // The base64 line before the last one is in the middle of the signature.
        let mut lines: Vec<String> = good.lines().map(str::to_owned).collect();
        let line = lines.len() - 3;
        let flipped: String = lines[line].chars().rev().collect();
        lines[line] = flipped;
        lines.join("\n")
    };
    let with_body = |body: Value| {
        let mut event = svid_event(&good);
        event["body"] = body;
        event
    };
    let mut form = svid_event(&good);
    form["headers"]["content-type"] = json!("application/x-www-form-urlencoded");
    for (name, event, status, error) in [
        ("bad signature", svid_event(&bad_signature), 400, "invalid_csr"),
        ("RSA 1024", svid_event(RSA_1024), 400, "invalid_csr"),
        ("Ed25519", svid_event(&ed25519), 400, "invalid_csr"),
        ("P-521", svid_event(&p521), 400, "invalid_csr"),
        ("two CSRs", svid_event(&format!("{good}{other}")), 400, "invalid_csr"),
        ("no PEM", svid_event("hello"), 400, "invalid_csr"),
        ("empty", svid_event(""), 400, "invalid_csr"),
        ("a certificate", svid_event(&good.replace("CERTIFICATE REQUEST", "CERTIFICATE")), 400, "invalid_csr"),
        ("cut", svid_event(&good[..good.len() / 2]), 400, "invalid_csr"),
        (
            "oversized",
            svid_event(&format!("{good}{}", "\n".repeat(MAX_CSR_BYTES + 1 - good.len()))),
            413,
            "invalid_csr",
        ),
        (
            "another member",
            with_body(json!(json!({"csr": good, "spiffe_id": "spiffe://x/y"}).to_string())),
            400,
            "invalid_request",
        ),
        ("no JSON", with_body(json!("csr")), 400, "invalid_request"),
        ("no body", with_body(Value::Null), 400, "invalid_request"),
        ("body too large", with_body(json!("x".repeat(64 * 1024 + 1))), 413, "invalid_request"),
        ("a form", form, 400, "invalid_request"),
    ] {
        let answer = world.send(event).await;
        assert_eq!((answer.status(), answer.error().as_str()), (status, error), "{name}: {answer:?}");
        assert!(answer.json().get("chain").is_none());
        assert_eq!(world.audit()["error"], error, "{name}");
    }
    let at_the_limit = format!("{good}{}", "\n".repeat(MAX_CSR_BYTES - good.len()));
    assert_eq!(world.send(svid_event(&at_the_limit)).await.status(), 200);
}

#[tokio::test]
async fn the_authoritys_own_key_gets_no_certificate() {
    let ca = bootstrap::new_ca_secret(&"cluster.local".parse().unwrap(), NOW).unwrap();
    let signing = bootstrap::new_signing_secret().unwrap();
    let world = World::with(signing.expose(), ca.expose()).await;
    let secret: Value = serde_json::from_str(ca.expose()).unwrap();
    let key = KeyPair::from_pem(secret["ca-key.pem"].as_str().unwrap()).unwrap();
    let answer = world.send(svid_event(&csr(&key))).await;
    assert_eq!((answer.status(), answer.error().as_str()), (400, "invalid_csr"));
}

#[tokio::test]
async fn forged_identities_reach_nothing() {
    let world = World::new().await;
    let good = csr(&KeyPair::generate().unwrap());

    // The same event at an API that does not authenticate by IAM.
    let mut forged = svid_event(&good);
    forged["requestContext"]["apiId"] = json!(PUBLIC_API);
    let answer = world.send(forged).await;
    assert_eq!((answer.status(), answer.error().as_str()), (403, "access_denied"));
    let audit = world.audit();
    assert_eq!((&audit["door"], &audit["iam_ignored"]), (&json!("public"), &json!(true)));

    // A token for it neither.
    let mut forged = iam_event(PUBLIC_API, "/oauth2/token", ROLE_SESSION);
    forged["headers"] = json!({"content-type": "application/x-www-form-urlencoded"});
    forged["body"] = json!("grant_type=client_credentials");
    assert_eq!(world.send(forged).await.error(), "invalid_client");

    // The caller's own headers and body say nothing about who it is.
    let mut claimed = svid_event(&good);
    claimed["requestContext"]["authorizer"] = Value::Null;
    claimed["headers"]["x-amzn-iam"] = json!(ROLE_SESSION);
    let answer = world.send(claimed).await;
    assert_eq!((answer.status(), answer.error().as_str()), (403, "access_denied"));

    // Public documents are not at the IAM door.
    assert_eq!(world.send(iam_event(IAM_URL, "/jwks.json", ROLE_SESSION)).await.status(), 404);
}

#[tokio::test]
async fn a_role_that_is_not_in_the_registry_is_403() {
    let world = World::new().await;
    let stranger = "arn:aws:sts::123456789012:assumed-role/stranger/s";
    let mut svid = svid_event(&csr(&KeyPair::generate().unwrap()));
    svid["requestContext"]["authorizer"]["iam"]["userArn"] = json!(stranger);
    let answer = world.send(svid).await;
    assert_eq!((answer.status(), answer.error().as_str()), (403, "access_denied"));
    assert_eq!(world.audit()["role_arn"], "arn:aws:iam::123456789012:role/stranger");

    let mut token = iam_event(IAM_URL, "/oauth2/token", stranger);
    token["headers"]["content-type"] = json!("application/x-www-form-urlencoded");
    token["body"] = json!("grant_type=client_credentials");
    let answer = world.send(token).await;
    assert_eq!((answer.status(), answer.error().as_str()), (403, "unauthorized_client"));

    // The same role name in another account is another role.
    let mut other = svid_event(&csr(&KeyPair::generate().unwrap()));
    other["requestContext"]["authorizer"]["iam"]["userArn"] = json!("arn:aws:sts::999999999999:assumed-role/reviews/s");
    other["requestContext"]["authorizer"]["iam"]["accountId"] = json!("999999999999");
    assert_eq!(world.send(other).await.status(), 403);
}

#[tokio::test]
async fn a_role_gets_a_token_without_a_secret() {
    let world = World::new().await;
    let token = |parameters: &str| {
        let mut event = iam_event(IAM_URL, "/oauth2/token", ROLE_SESSION);
        event["headers"]["content-type"] = json!("application/x-www-form-urlencoded");
        event["body"] = json!(format!("grant_type=client_credentials{parameters}"));
        event
    };
    let answer = world.send(token("")).await;
    assert_eq!((answer.status(), &answer.json()["scope"]), (200, &json!("ratings.read")));
    let audit = world.audit();
    assert_eq!((&audit["client_id"], &audit["door"]), (&json!("bookinfo-reviews"), &json!("iam")));

    let mut basic_too = token("");
    basic_too["headers"]["authorization"] = json!(basic(CLIENT, SECRET));
    for (name, event, status, error) in [
        ("scope", token("&scope=reviews.read"), 400, "invalid_scope"),
        ("audience", token("&audience=elsewhere"), 400, "invalid_target"),
        ("another client", token("&client_id=reader"), 400, "invalid_request"),
        ("a secret too", token("&client_secret=x"), 400, "invalid_request"),
        ("an assertion too", token("&client_assertion=x"), 401, "invalid_client"),
        ("basic too", basic_too, 400, "invalid_request"),
    ] {
        let answer = world.send(event).await;
        assert_eq!((answer.status(), answer.error().as_str()), (status, error), "{name}: {answer:?}");
    }
}

#[tokio::test]
async fn an_svid_never_outlives_the_authority_and_an_expired_one_signs_nothing() {
    const YEAR: u64 = 365 * 86_400;
    let signing = bootstrap::new_signing_secret().unwrap();
    let ca = bootstrap::new_ca_secret(&"cluster.local".parse().unwrap(), NOW - YEAR + 600).unwrap();
    let world = World::with(signing.expose(), ca.expose()).await;
    let key = KeyPair::generate().unwrap();
    let answer = world.send(svid_event(&csr(&key))).await;
    assert_eq!(answer.json()["expires_at"], NOW + 600, "{answer:?}");
    check_profile(&der(answer.json()["chain"][0].as_str().unwrap())[0], &key, NOW + 600);
    world.lines.drain();

    for now in [NOW + 600, NOW + 10_000] {
        world.clock.set(now);
        let answer = world.send(svid_event(&csr(&key))).await;
        assert_eq!((answer.status(), answer.header("Retry-After")), (503, Some("5")), "{answer:?}");
        assert!(world.lines.drain().iter().any(|line| line.contains("authority expired")));
    }
}

#[tokio::test]
async fn authorities_that_are_refused() {
    let fresh = |trust_domain: &str| -> Value {
        let secret = bootstrap::new_ca_secret(&trust_domain.parse().unwrap(), NOW).unwrap();
        serde_json::from_str(secret.expose()).unwrap()
    };
    let (good, other) = (fresh("cluster.local"), fresh("cluster.local"));
    let with = |member: &str, value: &Value| {
        let mut secret = good.clone();
        secret[member] = value.clone();
        secret
    };
    let mut leaf_as_ca = CertificateParams::default();
    leaf_as_ca.is_ca = IsCa::NoCa;
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = leaf_as_ca.self_signed(&leaf_key).unwrap().pem();
    let no_authority = json!({"ca-cert.pem": leaf, "ca-key.pem": leaf_key.serialize_pem(), "root-cert.pem": good["root-cert.pem"], "cert-chain.pem": leaf});
    for (name, secret, named) in [
        ("not the cacerts shape", json!({"tls.crt": "hunter2"}), "not the expected JSON"),
        ("a revocation list", with("ca-crl.pem", &json!("x")), "not the expected JSON"),
        ("a number", with("ca-key.pem", &json!(1)), "not the expected JSON"),
        ("no key", with("ca-key.pem", &json!("hunter2")), "ca-key.pem"),
        ("another key", with("ca-key.pem", &other["ca-key.pem"]), "ca-key.pem is not the key"),
        ("no certificate", with("ca-cert.pem", &json!("hunter2")), "ca-cert.pem: found 0"),
        ("another root", with("root-cert.pem", &other["root-cert.pem"]), "our own verifier refuses"),
        ("another chain", with("cert-chain.pem", &other["cert-chain.pem"]), "cert-chain.pem: expected ca-cert.pem"),
        ("no chain", with("cert-chain.pem", &json!("")), "cert-chain.pem: empty"),
        ("another trust domain", fresh("other.example"), "root-cert.pem"),
        ("no authority", no_authority, "ca-cert.pem"),
    ] {
        let signing = bootstrap::new_signing_secret().unwrap();
        let world = World::with(signing.expose(), &secret.to_string()).await;
        let answer = world.send(svid_event(&csr(&KeyPair::generate().unwrap()))).await;
        assert_eq!(answer.status(), 503, "{name}: {answer:?}");
        let lines = world.lines.drain();
        assert!(lines.iter().any(|line| line.contains(named)), "{name}: {lines:?}");
        assert!(lines.iter().all(|line| !line.contains("hunter2")), "{name}: {lines:?}");
    }
}

#[tokio::test]
async fn a_new_authority_that_leads_nowhere_does_not_replace_the_old_one() {
    let fresh = || bootstrap::new_ca_secret(&"cluster.local".parse().unwrap(), NOW).unwrap();
    let signing = bootstrap::new_signing_secret().unwrap();
    let world = World::with(signing.expose(), fresh().expose()).await;
    let event = || svid_event(&csr(&KeyPair::generate().unwrap()));
    let before = world.send(event()).await.json();
    let mut broken: Value = serde_json::from_str(fresh().expose()).unwrap();
    let other: Value = serde_json::from_str(fresh().expose()).unwrap();
    broken["root-cert.pem"] = other["root-cert.pem"].clone();
    world.vault.inner.put("ca", broken.to_string());
    world.clock.set(NOW + 301);
    let after = world.send(event()).await;
    assert_eq!(after.status(), 200, "{after:?}");
    assert_eq!(after.json()["bundle"], before["bundle"]);
    assert!(world.lines.drain().iter().any(|line| line.contains("our own verifier refuses")));
}

/// The JSON of an authority that is its own root.
fn self_signed(key: &KeyPair, key_pem: &str, with_chain: bool) -> Value {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "Istio");
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root = params.self_signed(key).unwrap().pem();
    let chain = if with_chain { root.as_str() } else { "" };
    json!({"ca-cert.pem": root, "ca-key.pem": key_pem, "root-cert.pem": root, "cert-chain.pem": chain})
}

/// What istiod makes for itself: an RSA root that signs leaves.
#[tokio::test]
async fn a_self_signed_rsa_root_works_with_and_without_a_chain() {
    let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let signing = bootstrap::new_signing_secret().unwrap();
    for with_chain in [false, true] {
        let ca = self_signed(&key, &key.serialize_pem(), with_chain);
        let world = World::with(signing.expose(), &ca.to_string()).await;
        let answer = world.send(svid_event(&csr(&KeyPair::generate().unwrap()))).await;
        assert_eq!(answer.status(), 200, "{answer:?} {:?}", world.lines.all());
        assert_eq!(answer.json()["chain"].as_array().unwrap().len(), 2, "leaf and root");
    }
}

/// `EC PARAMETERS` first, then the key in SEC 1: what `openssl ecparam -genkey` writes.
#[tokio::test]
async fn keys_in_openssls_own_form_work() {
    let made = Command::new("openssl").args(["ecparam", "-name", "prime256v1", "-genkey"]).output();
    // Without openssl there is nobody to write this form.
    let Ok(made) = made else { return };
    let key_pem = String::from_utf8(made.stdout).unwrap();
    assert!(key_pem.contains("EC PARAMETERS"), "{}", String::from_utf8_lossy(&made.stderr));
    let key = KeyPair::try_from(&PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap()).unwrap();
    let signing = bootstrap::new_signing_secret().unwrap();
    let world = World::with(signing.expose(), &self_signed(&key, &key_pem, true).to_string()).await;
    let answer = world.send(svid_event(&csr(&KeyPair::generate().unwrap()))).await;
    assert_eq!(answer.status(), 200, "{answer:?} {:?}", world.lines.all());
}

/// The certificate writer keeps a subject's attributes in a map, so such a subject is refused and not copied wrongly.
#[tokio::test]
async fn an_authority_with_an_attribute_twice_is_refused_by_name() {
    let Ok(_) = Command::new("openssl").arg("version").output() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (key, certificate) = (folder.path().join("key.pem"), folder.path().join("ca.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650"])
        .args(["-subj", "/DC=example/DC=mesh", "-addext", "keyUsage=critical,keyCertSign", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |path| std::fs::read_to_string(path).unwrap();
    let (key, certificate) = (read(&key), read(&certificate));
    let ca = json!({"ca-cert.pem": certificate, "ca-key.pem": key, "root-cert.pem": certificate});
    let signing = bootstrap::new_signing_secret().unwrap();
    let world = World::with(signing.expose(), &ca.to_string()).await;
    assert_eq!(world.send(svid_event(&csr(&KeyPair::generate().unwrap()))).await.status(), 503);
    let lines = world.lines.drain();
    assert!(lines[0].contains("an attribute twice"), "{lines:?}");
}

#[tokio::test]
async fn a_role_that_was_made_again_gets_nothing() {
    let registry = REGISTRY.replacen("\"namespace\"", "\"role_unique_id\":\"AROAEXAMPLE\",\"namespace\"", 1);
    let world = world(&[("CAUSEWAY_REGISTRY", &registry)]).await;
    let good = csr(&KeyPair::generate().unwrap());
    assert_eq!(world.send(svid_event(&good)).await.status(), 200);
    world.lines.drain();
    let mut token = iam_event(IAM_URL, "/oauth2/token", ROLE_SESSION);
    token["headers"]["content-type"] = json!("application/x-www-form-urlencoded");
    token["body"] = json!("grant_type=client_credentials");
    for user_id in [json!("AROAANOTHER:reviews-fn"), json!("AROAEXAMPLE"), json!(""), json!(null), json!(1)] {
        for mut event in [svid_event(&good), token.clone()] {
            event["requestContext"]["authorizer"]["iam"]["userId"] = user_id.clone();
            let answer = world.send(event).await;
            assert_eq!((answer.status(), answer.error().as_str()), (403, "access_denied"), "{user_id}");
            let audit = world.audit();
            assert!(audit["detail"].as_str().unwrap().contains("the role was re-created"), "{audit}");
            assert_eq!(audit["role_arn"], "arn:aws:iam::123456789012:role/reviews");
        }
    }
    assert_eq!(world.send(token).await.status(), 200);
}

#[tokio::test]
async fn a_role_that_asks_too_often_is_told_when_to_come_again() {
    let world = world(&[("CAUSEWAY_SVID_RATE", "1")]).await;
    let good = csr(&KeyPair::generate().unwrap());
    for _ in 0..10 {
        assert_eq!(world.send(svid_event(&good)).await.status(), 200);
    }
    let answer = world.send(svid_event(&good)).await;
    assert_eq!((answer.status(), answer.header("Retry-After")), (429, Some("1")));
    world.clock.set(NOW + 1);
    assert_eq!(world.send(svid_event(&good)).await.status(), 200);
}

/// A root, and an intermediate under it, in PEM.
struct Ca {
    root: String,
    certificate: String,
    key: String,
}

impl Ca {
    fn new() -> Self {
        let secret = bootstrap::new_ca_secret(&"cluster.local".parse().unwrap(), NOW).unwrap();
        let secret: Value = serde_json::from_str(secret.expose()).unwrap();
        let text = |name: &str| secret[name].as_str().unwrap().to_owned();
        Self { root: text("root-cert.pem"), certificate: text("ca-cert.pem"), key: text("ca-key.pem") }
    }

    fn secret(&self, roots: &[&Ca]) -> String {
        let roots: String = roots.iter().map(|ca| ca.root.as_str()).collect();
        json!({"ca-cert.pem": self.certificate, "ca-key.pem": self.key, "root-cert.pem": roots,
            "cert-chain.pem": self.certificate})
        .to_string()
    }
}

/// What a peer needs: the bundle of a step, and the certificates of somebody of a step.
#[tokio::test]
async fn every_step_of_a_change_of_roots_is_understood_by_the_steps_beside_it() {
    use identity::TrustBundle;
    use identity::verify::{SpiffeClientVerifier, SpiffeServerVerifier};
    let (old, new) = (Ca::new(), Ca::new());
    let steps = [old.secret(&[&old]), old.secret(&[&old, &new]), new.secret(&[&old, &new]), new.secret(&[&new])];
    let signing = bootstrap::new_signing_secret().unwrap();
    let world = World::with(signing.expose(), &steps[0]).await;
    let mut issued = Vec::new();
    let mut sequences = Vec::new();
    for (place, step) in steps.iter().enumerate() {
        // The running issuer reads each step when its copy has aged.
        world.vault.inner.put("ca", step.as_str());
        world.clock.set(NOW + 301 * place as u64);
        let answer = world.send(svid_event(&csr(&KeyPair::generate().unwrap()))).await.json();
        let chain = answer["chain"].as_array().unwrap().iter().map(|pem| pem.as_str().unwrap());
        let sent: Vec<_> = chain.take(2).flat_map(der).collect();
        let bundle =
            TrustBundle::from_pem("cluster.local".parse().unwrap(), answer["bundle"].as_str().unwrap().as_bytes());
        let published = world.send(event(PUBLIC_API, "GET", "/spiffe-bundle.json")).await.json();
        let roots = published["keys"].as_array().unwrap().iter().filter(|key| key["use"] == "x509-svid").count();
        assert_eq!(roots, if place == 0 || place == 3 { 1 } else { 2 });
        sequences.push(published["spiffe_sequence"].as_u64().unwrap());
        issued.push((sent, bundle.unwrap()));
    }
    assert!(sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");
    let now = NOW + 301 * 3;
    let id = SPIFFE_ID.parse().unwrap();
    for (of, (sent, _)) in issued.iter().enumerate() {
        for (at, (_, bundle)) in issued.iter().enumerate() {
            let expected = of.abs_diff(at) <= 1;
            let server = SpiffeServerVerifier::new(bundle.clone(), vec![SpiffeId::clone(&id)]);
            let client = SpiffeClientVerifier::new(bundle.clone());
            let understood = server.check(&sent[0], &sent[1..], now).is_ok();
            assert_eq!(client.check(&sent[0], &sent[1..], now).is_ok(), understood);
            if expected {
                assert!(understood, "an SVID of step {of} at step {at}");
            }
        }
    }
    // Skipping the steps in between is what breaks.
    assert!(SpiffeClientVerifier::new(issued[0].1.clone()).check(&issued[3].0[0], &issued[3].0[1..], now).is_err());
}

#[tokio::test]
async fn the_root_that_is_to_come_gets_no_certificate_either() {
    let (old, new) = (Ca::new(), Ca::new());
    let signing = bootstrap::new_signing_secret().unwrap();
    // A root of which the key is at hand.
    let root_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::OrganizationName, "to come");
    let coming = Ca { root: params.self_signed(&root_key).unwrap().pem(), ..new };
    let world = World::with(signing.expose(), &old.secret(&[&old, &coming])).await;
    let answer = world.send(svid_event(&csr(&root_key))).await;
    assert_eq!((answer.status(), answer.error().as_str()), (400, "invalid_csr"));
}

#[tokio::test]
async fn the_bundle_is_cached_by_its_tag_and_has_what_spiffe_wants() {
    let world = World::new().await;
    let answer = world.send(event(PUBLIC_API, "GET", "/spiffe-bundle.json")).await;
    assert_eq!((answer.status(), answer.header("Content-Type")), (200, Some("application/json")));
    let bundle = answer.json();
    assert_eq!(bundle["spiffe_refresh_hint"], 300);
    assert!(bundle["spiffe_sequence"].is_u64());
    let keys = bundle["keys"].as_array().unwrap();
    for key in keys {
        match key["use"].as_str().unwrap() {
            "x509-svid" => {
                assert_eq!((key["x5c"].as_array().unwrap().len(), key.get("kid")), (1, None), "{key}");
            }
            "jwt-svid" => assert!(key["kid"].is_string() && key.get("x5c").is_none(), "{key}"),
            other => panic!("{other}"),
        }
    }
    assert_eq!(keys.len(), 3, "a root, and a key for each algorithm of JWT-SVIDs");
    let mut again = event(PUBLIC_API, "GET", "/spiffe-bundle.json");
    again["headers"]["if-none-match"] = json!(answer.header("ETag").unwrap());
    assert_eq!(world.send(again).await.status(), 304);
    let mut known_no_more = event(PUBLIC_API, "GET", "/spiffe-bundle.json");
    known_no_more["headers"]["if-none-match"] = json!("\"other\"");
    assert_eq!(world.send(known_no_more).await.status(), 200);
}

#[tokio::test]
async fn serial_numbers_differ() {
    let world = World::new().await;
    let csr = csr(&KeyPair::generate().unwrap());
    let mut serials = std::collections::BTreeSet::new();
    for _ in 0..8 {
        world.send(svid_event(&csr)).await;
        serials.insert(world.audit()["serial"].to_string());
    }
    assert_eq!(serials.len(), 8);
}
