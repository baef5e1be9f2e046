//! Proof of possession at the token endpoint (RFC 9449).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::LazyLock;
use std::sync::atomic::Ordering;

use common::keys::{TestKey, with};
use common::*;
use key_issuer::ClientRecord;
use serde_json::{Value, json};

const GRANT: &str = "grant_type=client_credentials";
const ENDPOINT: &str = "https://issuer.bookinfo.example/oauth2/token";

static KEY: LazyLock<TestKey> = LazyLock::new(|| TestKey::new("ES256"));

fn claims(jti: &str) -> Value {
    json!({"jti": jti, "htm": "POST", "htu": ENDPOINT, "iat": NOW})
}

fn with_proof(proof: &str) -> Value {
    let mut event = token_event(GRANT);
    event["headers"]["dpop"] = json!(proof);
    event
}

#[tokio::test]
async fn a_token_is_bound_to_the_key_of_the_proof() {
    let world = World::new().await;
    let answer = world.send(with_proof(&KEY.proof(&claims("1")))).await;
    assert_eq!((answer.status(), &answer.json()["token_type"]), (200, &json!("DPoP")), "{answer:?}");
    let cnf = answer.claims()["cnf"].clone();
    assert_eq!(cnf.as_object().unwrap().len(), 1);
    let again = world.send(with_proof(&KEY.proof(&claims("2")))).await;
    assert_eq!(again.claims()["cnf"], cnf, "the same key");
    let other = world.send(with_proof(&TestKey::new("EdDSA").proof(&claims("1")))).await;
    assert_ne!(other.claims()["cnf"], cnf, "another key, whose ids are its own");
    let bearer = world.send(token_event(GRANT)).await;
    assert_eq!((&bearer.json()["token_type"], bearer.claims().get("cnf")), (&json!("Bearer"), None));
}

#[tokio::test]
async fn every_error_is_invalid_dpop_proof() {
    let world = World::new().await;
    let good = KEY.proof(&claims("unused"));
    let mut two_spellings = with_proof(&good);
    two_spellings["headers"]["DPoP"] = json!(KEY.proof(&claims("second")));
    let long = KEY.proof(&with(&claims("long"), "pad", json!("x".repeat(8 * 1024))));
    let typ = KEY.jws(&json!({"typ": "JWT", "alg": "ES256", "jwk": KEY.jwk}), &claims("typ"));
    for (name, event) in [
        ("empty", with_proof("")),
        ("no JWT", with_proof("x")),
        ("joined", with_proof(&format!("{good},{}", KEY.proof(&claims("second"))))),
        ("joined with a space", with_proof(&format!("{good}, {good}"))),
        ("two spellings", two_spellings),
        ("too long", with_proof(&long)),
        ("another type", with_proof(&typ)),
        ("another method", with_proof(&KEY.proof(&with(&claims("m"), "htm", json!("GET"))))),
        (
            "another server",
            with_proof(&KEY.proof(&with(&claims("u"), "htu", json!("https://other.example/oauth2/token")))),
        ),
        ("old", with_proof(&KEY.proof(&with(&claims("o"), "iat", json!(NOW - 301))))),
        ("early", with_proof(&KEY.proof(&with(&claims("e"), "iat", json!(NOW + 61))))),
        ("signed by nobody", with_proof(&format!("{}AA", &good[..good.rfind('.').unwrap() + 1]))),
    ] {
        let answer = world.send(event).await;
        assert_eq!((answer.status(), answer.error().as_str()), (400, "invalid_dpop_proof"), "{name}: {answer:?}");
        assert_eq!((answer.header("WWW-Authenticate"), answer.header("DPoP-Nonce")), (None, None), "{name}");
        assert_eq!(answer.header("Cache-Control"), Some("no-store"), "{name}");
        let audit = world.audit().to_string();
        assert!(!audit.contains(&good), "{name}: a proof in the log");
    }
    // None of these used the id of the good one up.
    assert_eq!(world.send(with_proof(&good)).await.status(), 200);
}

#[tokio::test]
async fn a_proof_is_good_once() {
    let world = World::new().await;
    let early = KEY.proof(&with(&claims("1"), "iat", json!(NOW + 60)));
    assert_eq!(world.send(with_proof(&early)).await.status(), 200);
    assert!(world.send(with_proof(&early)).await.body().contains("used before"));
    // As long as it could be accepted, and then it is too old.
    world.clock.set(NOW + 360);
    assert!(world.send(with_proof(&early)).await.body().contains("used before"));
    world.clock.set(NOW + 361);
    assert!(world.send(with_proof(&early)).await.body().contains("seconds ago"));
}

#[tokio::test]
async fn who_does_not_authenticate_uses_no_proof_up() {
    let world = World::new().await;
    let proof = KEY.proof(&claims("1"));
    let mut wrong = with_proof(&proof);
    wrong["headers"]["Authorization"] = json!(basic(CLIENT, "wrong"));
    assert_eq!(world.send(wrong).await.error(), "invalid_client");
    assert_eq!(world.send(with_proof(&proof)).await.status(), 200);
}

#[tokio::test]
async fn without_its_table_no_proof_is_accepted() {
    let world = World::new().await;
    world.directory.out.store(true, Ordering::Relaxed);
    assert_eq!(world.send(with_proof(&KEY.proof(&claims("1")))).await.status(), 503);
}

/// RFC 9449 §5.2.
#[tokio::test]
async fn a_client_of_bound_tokens_must_bring_a_proof() {
    let world = World::new().await;
    let bound = ClientRecord { dpop_bound_access_tokens: true, ..client(CLIENT, &[SECRET]) };
    world.directory.put(&bound).await;
    let answer = world.send(token_event(GRANT)).await;
    assert_eq!((answer.status(), answer.error().as_str()), (400, "invalid_dpop_proof"), "{answer:?}");
    assert_eq!(world.send(with_proof(&KEY.proof(&claims("1")))).await.status(), 200);
}

/// The host of an event is the caller's own at no door but the IAM door.
#[tokio::test]
async fn the_url_of_the_token_endpoint() {
    let world = World::new().await;
    let iam = |host: &str| {
        let mut event = iam_event(IAM_URL, "/oauth2/token", ROLE_SESSION);
        event["headers"]["content-type"] = json!("application/x-www-form-urlencoded");
        event["body"] = json!(GRANT);
        event["requestContext"]["domainName"] = json!(host);
        event
    };
    let public = |host: &str| {
        let mut event = token_event(GRANT);
        event["requestContext"]["domainName"] = json!(host);
        event
    };
    let url = "iamurl1.lambda-url.eu-central-1.on.aws";
    for (place, (mut event, host, good)) in [
        (public("x"), "issuer.bookinfo.example", true),
        (public("x"), MTLS_HOST, true),
        (public("attacker.example"), "attacker.example", false),
        (public("publicapi1.execute-api.example"), "publicapi1.execute-api.example", false),
        (iam(url), url, true),
        (iam(url), "issuer.bookinfo.example", true),
        (iam("attacker.example"), "attacker.example", false),
        (iam("iamurl1x.example"), "iamurl1x.example", false),
    ]
    .into_iter()
    .enumerate()
    {
        let htu = json!(format!("https://{host}/oauth2/token"));
        event["headers"]["DPoP"] = json!(KEY.proof(&with(&claims(&place.to_string()), "htu", htu)));
        let answer = world.send(event).await;
        assert_eq!(answer.status() == 200, good, "{place} {host}: {answer:?}");
    }
}
