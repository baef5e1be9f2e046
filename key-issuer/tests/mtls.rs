//! The mTLS door: clients that authenticate with a certificate, and tokens that are bound to one (RFC 8705).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::keys::{TestKey, encode};
use common::*;
use key_issuer::{Authentication, CertificateName, ClientRecord, ClientState, bootstrap};
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use serde_json::{Value, json};

const GRANT: &str = "grant_type=client_credentials";
const AS_GATEWAY: &str = "grant_type=client_credentials&client_id=gateway";

static SHOWN: LazyLock<rcgen::Certificate> = LazyLock::new(|| certificate(4_000_000_000));
static OTHER: LazyLock<rcgen::Certificate> = LazyLock::new(|| certificate(4_000_000_000));

fn certificate(not_after: i64) -> rcgen::Certificate {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Bookinfo");
    params.distinguished_name.push(DnType::CommonName, "gateway");
    params.subject_alt_names = vec![
        SanType::DnsName("gateway.bookinfo.example".try_into().unwrap()),
        SanType::URI("spiffe://cluster.local/ns/bookinfo/sa/gateway".try_into().unwrap()),
        SanType::Rfc822Name("ops@bookinfo.example".try_into().unwrap()),
        SanType::IpAddress("192.0.2.1".parse().unwrap()),
    ];
    params.not_after = time::OffsetDateTime::from_unix_timestamp(not_after).unwrap();
    params.self_signed(&KeyPair::generate().unwrap()).unwrap()
}

fn x5t(certificate: &rcgen::Certificate) -> Value {
    json!({"x5t#S256": encode(digest(&SHA256, certificate.der()))})
}

fn named(name: CertificateName) -> ClientRecord {
    ClientRecord { authentication: Authentication::TlsClientAuth, certificate: Some(name), ..client("gateway", &[]) }
}

fn self_signed(certificates: &[&rcgen::Certificate]) -> ClientRecord {
    let keys: Vec<Value> =
        certificates.iter().map(|c| json!({"kty": "EC", "x5c": [STANDARD.encode(c.der())]})).collect();
    ClientRecord {
        authentication: Authentication::SelfSignedTlsClientAuth,
        jwks: Some(json!({"keys": keys})),
        ..client("gateway", &[])
    }
}

/// A world whose mTLS door takes this method.
async fn door_of(method: &str) -> World {
    let signing = bootstrap::new_signing_secret().unwrap();
    let ca = bootstrap::new_ca_secret(&"cluster.local".parse().unwrap(), NOW).unwrap();
    World::built(signing.expose(), ca.expose(), &[("CAUSEWAY_MTLS_CLIENT_AUTH", method)], None).await
}

async fn self_signed_door() -> World {
    door_of("self_signed_tls_client_auth").await
}

#[tokio::test]
async fn certificates_authenticate_and_bind() {
    use CertificateName as N;
    let (of_authorities, of_own) = (World::new().await, self_signed_door().await);
    for (record, good) in [
        (named(N::SubjectDn("CN=gateway,O=Bookinfo".to_owned())), true),
        (named(N::SanDns("gateway.bookinfo.example".to_owned())), true),
        (named(N::SanUri("spiffe://cluster.local/ns/bookinfo/sa/gateway".to_owned())), true),
        (named(N::SanEmail("ops@bookinfo.example".to_owned())), true),
        (named(N::SanIp("192.0.2.1".to_owned())), true),
        (self_signed(&[&SHOWN]), true),
        (self_signed(&[&OTHER, &SHOWN]), true),
        (named(N::SubjectDn("O=Bookinfo,CN=gateway".to_owned())), false),
        (named(N::SanDns("other.bookinfo.example".to_owned())), false),
        (named(N::SanUri("gateway.bookinfo.example".to_owned())), false),
        (named(N::SanEmail("gateway.bookinfo.example".to_owned())), false),
        (named(N::SanIp("192.0.2.2".to_owned())), false),
        (self_signed(&[&OTHER]), false),
        (self_signed(&[]), false),
        (ClientRecord { state: ClientState::Disabled, ..self_signed(&[&SHOWN]) }, false),
        (ClientRecord { authentication: Authentication::Iam, ..self_signed(&[&SHOWN]) }, false),
        (client("gateway", &[SECRET]), false),
    ] {
        let world = match record.authentication {
            Authentication::SelfSignedTlsClientAuth => &of_own,
            _ => &of_authorities,
        };
        world.directory.put(&record).await;
        world.clock.advance(std::time::Duration::from_secs(60));
        let answer = world.send(mtls_event(&SHOWN.pem(), AS_GATEWAY)).await;
        if good {
            assert_eq!(
                (answer.status(), &answer.json()["token_type"]),
                (200, &json!("Bearer")),
                "{record:?}: {answer:?}"
            );
            assert_eq!(answer.claims()["cnf"], x5t(&SHOWN));
        } else {
            assert_eq!((answer.status(), answer.error().as_str()), (401, "invalid_client"), "{record:?}: {answer:?}");
            let nobody = world.send(mtls_event(&SHOWN.pem(), &format!("{GRANT}&client_id=nobody"))).await;
            assert_eq!(answer.0, nobody.0, "{record:?}: it can be told from an unknown client");
        }
    }
}

/// API Gateway has one truststore. A client whose own certificate is in it could sign another one with anybody's name.
#[tokio::test]
async fn a_registered_certificate_signs_no_name_of_another_client() {
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let own = params.self_signed(&key).unwrap();
    let partner = rcgen::Issuer::from_params(&params, &key);
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::DnsName("gateway.bookinfo.example".try_into().unwrap())];
    let forged = params.signed_by(&KeyPair::generate().unwrap(), &partner).unwrap();

    let victim = named(CertificateName::SanDns("gateway.bookinfo.example".to_owned()));
    let mut partner = self_signed(&[&own]);
    partner.client_id = "partner".to_owned();
    let as_partner = "grant_type=client_credentials&client_id=partner";
    for (method, victims, partners) in [("tls_client_auth", 200, 401), ("self_signed_tls_client_auth", 401, 200)] {
        let world = door_of(method).await;
        world.directory.put(&victim).await;
        world.directory.put(&partner).await;
        let answer = world.send(mtls_event(&forged.pem(), AS_GATEWAY)).await;
        assert_eq!(answer.status(), victims, "{method}: {answer:?}");
        let answer = world.send(mtls_event(&own.pem(), as_partner)).await;
        assert_eq!(answer.status(), partners, "{method}: {answer:?}");
        let discovery = world.send(event(PUBLIC_API, "GET", "/.well-known/openid-configuration")).await.json();
        let methods = discovery["token_endpoint_auth_methods_supported"].as_array().unwrap().clone();
        let by_certificate: Vec<Value> =
            methods.into_iter().filter(|name| name.as_str().unwrap().contains("tls")).collect();
        assert_eq!(by_certificate, [json!(method)]);
    }
}

#[tokio::test]
async fn a_registered_chain_lends_its_name_to_no_authority() {
    let world = self_signed_door().await;
    let chain = json!({"keys": [{"kty": "EC", "x5c": [STANDARD.encode(OTHER.der()), STANDARD.encode(SHOWN.der())]}]});
    world.directory.put(&ClientRecord { jwks: Some(chain), ..self_signed(&[]) }).await;
    assert_eq!(world.send(mtls_event(&SHOWN.pem(), AS_GATEWAY)).await.status(), 401);
    assert_eq!(world.send(mtls_event(&OTHER.pem(), AS_GATEWAY)).await.status(), 200);
}

#[tokio::test]
async fn broken_records_authenticate_nobody() {
    let (of_authorities, of_own) = (World::new().await, self_signed_door().await);
    for record in [
        ClientRecord { certificate: None, ..named(CertificateName::SanDns("a".to_owned())) },
        named(CertificateName::SubjectDn(String::new())),
        named(CertificateName::SubjectDn("gateway".to_owned())),
        named(CertificateName::SanIp("192.0.2".to_owned())),
        ClientRecord { jwks: None, ..self_signed(&[]) },
    ] {
        let world = match record.authentication {
            Authentication::SelfSignedTlsClientAuth => &of_own,
            _ => &of_authorities,
        };
        world.directory.put(&record).await;
        let answer = world.send(mtls_event(&SHOWN.pem(), AS_GATEWAY)).await;
        assert_eq!((answer.status(), answer.error().as_str()), (500, "server_error"), "{record:?}");
    }
}

#[tokio::test]
async fn with_another_method_the_certificate_binds_and_does_not_authenticate() {
    let world = self_signed_door().await;
    let key = TestKey::new("ES256");
    let worker =
        ClientRecord { authentication: Authentication::PrivateKeyJwt, jwks: Some(key.jwks()), ..client("worker", &[]) };
    world.directory.put(&worker).await;
    let assertion =
        key.assertion(&json!({"iss": "worker", "sub": "worker", "aud": ISSUER, "exp": NOW + 60, "jti": "1"}));
    let kind = form_encode("urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let by_assertion = format!("{GRANT}&client_assertion_type={kind}&client_assertion={assertion}");
    let by_post = format!("{GRANT}&client_id={CLIENT}&client_secret={}", form_encode(SECRET));
    let mut by_basic = mtls_event(&SHOWN.pem(), GRANT);
    by_basic["headers"]["authorization"] = json!(basic(CLIENT, SECRET));
    for event in [by_basic, mtls_event(&SHOWN.pem(), &by_post), mtls_event(&SHOWN.pem(), &by_assertion)] {
        let answer = world.send(event).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert_eq!(answer.claims()["cnf"], x5t(&SHOWN));
        assert_eq!(world.audit()["door"], "mtls");
    }
    // A right certificate does not help a wrong secret.
    world.directory.put(&self_signed(&[&SHOWN])).await;
    let wrong = world.send(mtls_event(&SHOWN.pem(), &format!("{AS_GATEWAY}&client_secret=wrong"))).await;
    assert_eq!(wrong.error(), "invalid_client");
}

#[tokio::test]
async fn a_proof_binds_beside_the_certificate() {
    let world = self_signed_door().await;
    world.directory.put(&self_signed(&[&SHOWN])).await;
    let key = TestKey::new("ES256");
    let mut event = mtls_event(&SHOWN.pem(), AS_GATEWAY);
    let claims = json!({"jti": "1", "htm": "POST", "htu": format!("{MTLS_ISSUER}/oauth2/token"), "iat": NOW});
    event["headers"]["dpop"] = json!(key.proof(&claims));
    let answer = world.send(event).await;
    assert_eq!((answer.status(), &answer.json()["token_type"]), (200, &json!("DPoP")), "{answer:?}");
    let cnf = &answer.claims()["cnf"];
    assert_eq!(cnf["x5t#S256"], x5t(&SHOWN)["x5t#S256"]);
    assert!(cnf["jkt"].is_string());
}

#[tokio::test]
async fn the_door_is_closed_without_a_valid_certificate() {
    let world = self_signed_door().await;
    world.directory.put(&self_signed(&[&SHOWN])).await;
    let expires = i64::try_from(NOW).unwrap() + 10;
    let short = certificate(expires);
    world.directory.put(&ClientRecord { client_id: "short".to_owned(), ..self_signed(&[&short]) }).await;
    let as_short = || mtls_event(&short.pem(), &format!("{GRANT}&client_id=short"));
    assert_eq!(world.send(as_short()).await.status(), 200);
    world.clock.set(NOW + 11);
    world.lines.drain();

    let mut none = mtls_event(&SHOWN.pem(), AS_GATEWAY);
    none["requestContext"]["authentication"] = Value::Null;
    let mut empty = mtls_event("", AS_GATEWAY);
    empty["headers"]["x-client-cert"] = json!(SHOWN.pem());
    let mut secret = bare_event(MTLS_API, GRANT);
    secret["requestContext"]["domainName"] = json!(MTLS_HOST);
    secret["headers"]["authorization"] = json!(basic(CLIENT, SECRET));
    let mut default_endpoint = mtls_event(&SHOWN.pem(), AS_GATEWAY);
    default_endpoint["requestContext"]["domainName"] = json!("mtlsapi1.execute-api.eu-central-1.amazonaws.com");
    let mut iam = iam_event(MTLS_API, "/oauth2/token", ROLE_SESSION);
    iam["requestContext"]["domainName"] = json!(MTLS_HOST);
    for (name, event, status, error) in [
        ("expired", as_short(), 401, "invalid_client"),
        ("none", none, 401, "invalid_client"),
        ("in a header", empty, 401, "invalid_client"),
        ("a secret alone", secret, 401, "invalid_client"),
        ("two", mtls_event(&format!("{}{}", SHOWN.pem(), OTHER.pem()), AS_GATEWAY), 401, "invalid_client"),
        ("no client_id", mtls_event(&SHOWN.pem(), GRANT), 401, "invalid_client"),
        ("the API's own host", default_endpoint, 403, "access_denied"),
        ("an IAM identity instead", iam, 401, "invalid_client"),
    ] {
        let answer = world.send(event).await;
        assert_eq!((answer.status(), answer.error().as_str()), (status, error), "{name}: {answer:?}");
        assert_eq!(world.audit()["iam_ignored"] == true, name.starts_with("an IAM"), "{name}");
    }
    assert_eq!(world.send(mtls_event(&SHOWN.pem(), AS_GATEWAY)).await.status(), 200);
}

#[tokio::test]
async fn a_certificate_at_another_door_is_ignored_and_noted() {
    let world = self_signed_door().await;
    world.directory.put(&self_signed(&[&SHOWN])).await;
    for (api, client_is_known) in [(PUBLIC_API, false), (PUBLIC_API, true), ("mtlsapi2", false)] {
        let mut forged = mtls_event(&SHOWN.pem(), if client_is_known { GRANT } else { AS_GATEWAY });
        forged["requestContext"]["apiId"] = json!(api);
        if client_is_known {
            forged["headers"]["authorization"] = json!(basic(CLIENT, SECRET));
        }
        let answer = world.send(forged).await;
        assert_eq!(answer.status() == 200, client_is_known, "{answer:?}");
        let audit = world.audit();
        assert_eq!((&audit["certificate_ignored"], &audit["door"]), (&json!(true), &json!("public")));
        if client_is_known {
            assert!(answer.claims().get("cnf").is_none(), "bound to a certificate that nobody checked");
        }
    }
}

/// RFC 8705 §3.4.
#[tokio::test]
async fn a_client_of_bound_tokens_must_come_by_the_mtls_door() {
    let world = self_signed_door().await;
    let bound = ClientRecord { tls_client_certificate_bound_access_tokens: true, ..client(CLIENT, &[SECRET]) };
    world.directory.put(&bound).await;
    let answer = world.send(token_event(GRANT)).await;
    assert_eq!((answer.status(), answer.error().as_str()), (400, "invalid_request"), "{answer:?}");
    let mut event = mtls_event(&SHOWN.pem(), GRANT);
    event["headers"]["authorization"] = json!(basic(CLIENT, SECRET));
    assert_eq!(world.send(event).await.claims()["cnf"], x5t(&SHOWN));
}
