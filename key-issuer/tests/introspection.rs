//! RFC 7662: whether a token is active, and who is told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::atomic::Ordering;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use common::grants::*;
use common::keys::{TestKey, encode, with};
use common::*;
use key_issuer::bootstrap;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

fn introspect(id: &str, token: &str) -> Value {
    as_client(id, "/oauth2/introspect", &[("token", token)])
}

/// A client that may ask about the tokens for these audiences.
fn service(id: &str, audiences: &[&str]) -> key_issuer::ClientRecord {
    let mut record = full_client(id);
    record.audiences = audiences.iter().map(|audience| (*audience).to_owned()).collect();
    record
}

#[tokio::test]
async fn an_active_token_is_told_whole() {
    let mut a = full_client("a");
    a.may_act = vec!["gateway".to_owned()];
    let world = World::of(&[a, full_client("gateway"), service("reviews", &["bookinfo"])]).await;
    let token = world.token("a", &[("scope", "reviews.read")]).await;
    let answer = world.send(introspect("reviews", &token)).await;
    assert_eq!((answer.status(), answer.header("Cache-Control")), (200, Some("no-store")));
    let mut told = answer.json();
    assert_eq!(told["jti"].take().as_str().unwrap().len(), 32);
    assert_eq!(
        told,
        json!({"active": true, "token_type": "Bearer", "iss": ISSUER, "sub": "client:a", "client_id": "a",
            "aud": "bookinfo", "scope": "reviews.read", "iat": NOW, "nbf": NOW - 5, "exp": NOW + 600, "jti": null,
            "may_act": {"sub": "client:gateway"}})
    );

    let key = TestKey::new("ES256");
    let claims = json!({"jti": "1", "htm": "POST", "htu": format!("{ISSUER}/oauth2/token"), "iat": NOW});
    let mut event = exchange("gateway", &token, &[]);
    event["headers"]["dpop"] = json!(key.proof(&claims));
    let answer = world.send(event).await;
    let told = world.send(introspect("reviews", &token_in(&answer))).await.json();
    assert_eq!((&told["active"], &told["token_type"]), (&json!(true), &json!("DPoP")));
    assert_eq!((&told["sub"], &told["act"]), (&json!("client:a"), &json!({"sub": "client:gateway"})));
    assert_eq!(told["cnf"], answer.claims()["cnf"]);
}

#[tokio::test]
async fn everything_else_is_not_active_and_nothing_more() {
    let world = World::of(&[
        full_client("a"),
        service("reviews", &["bookinfo"]),
        service("ratings", &["ratings"]),
        service("nobody", &[]),
        watcher(),
    ])
    .await;
    let token = world.token("a", &[]).await;
    let foreign = World::of(&[full_client("a")]).await.token("a", &[]).await;
    let (message, signature) = token.rsplit_once('.').unwrap();
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let key = world.key("a", 1, |_| {}).await;
    for (name, caller, shown) in [
        ("for another audience", "ratings", token.clone()),
        ("no audience", "nobody", token.clone()),
        ("its own client is no audience of it", "nobody", world.token("a", &[]).await),
        ("of another issuer", "watcher", foreign),
        ("changed", "watcher", format!("{message}.{flipped}{}", &signature[1..])),
        ("no token", "watcher", "x".to_owned()),
        ("long", "watcher", "x".repeat(20_000)),
        ("an API key", "watcher", key),
        ("a refresh token of nobody", "watcher", format!("cwr_{}", "0".repeat(104))),
    ] {
        let answer = world.send(introspect(caller, &shown)).await;
        assert_eq!((answer.status(), answer.json()), (200, json!({"active": false})), "{name}");
    }
    for caller in ["reviews", "watcher"] {
        assert_eq!(world.send(introspect(caller, &token)).await.json()["active"], true, "{caller}");
    }
    world.clock.set(NOW + 599);
    assert!(world.is_active(&token).await);
    world.clock.set(NOW + 600);
    assert!(!world.is_active(&token).await, "no leeway");
}

/// What the issuer's own key has signed and is no access token, or not all that one is.
#[tokio::test]
async fn a_good_signature_is_not_enough() {
    let signing = bootstrap::new_signing_secret().unwrap();
    let world = World::with(signing.expose(), "{}").await;
    world.directory.put(&watcher()).await;
    let secret: Value = serde_json::from_str(signing.expose()).unwrap();
    let (pem, kid) = (secret["keys"][0]["private_key"].as_str().unwrap(), &secret["keys"][0]["kid"]);
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der()).unwrap();
    let sign = |header: &Value, claims: &Value| {
        let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", encode(signature))
    };
    let header = json!({"alg": "ES256", "kid": kid, "typ": "at+jwt"});
    let claims = json!({"iss": ISSUER, "sub": "client:a", "aud": "bookinfo", "client_id": "a", "jti": "1",
        "iat": NOW, "nbf": NOW, "exp": NOW + 1});
    assert!(world.is_active(&sign(&header, &claims)).await);
    assert!(world.is_active(&sign(&with(&header, "typ", json!("application/at+jwt")), &claims)).await);
    for (member, value) in [
        ("typ", json!("JWT")),
        ("typ", Value::Null),
        ("typ", json!("revocations+jwt")),
        ("crit", json!(["exp"])),
        ("kid", json!("other")),
        ("alg", json!("ES384")),
    ] {
        assert!(!world.is_active(&sign(&with(&header, member, value.clone()), &claims)).await, "{member} {value}");
    }
    for (member, value) in [
        ("iss", json!("https://elsewhere.example")),
        ("iss", Value::Null),
        ("sub", Value::Null),
        ("sub", json!("")),
        ("client_id", Value::Null),
        ("client_id", json!(1)),
        ("jti", Value::Null),
        ("jti", json!("")),
        ("iat", Value::Null),
        ("nbf", Value::Null),
        ("nbf", json!(NOW + 1)),
        ("exp", Value::Null),
        ("exp", json!(NOW)),
        ("exp", json!(1.9e9)),
        ("exp", json!("1999999999")),
    ] {
        assert!(!world.is_active(&sign(&header, &with(&claims, member, value.clone()))).await, "{member} {value}");
    }
}

#[tokio::test]
async fn revoked_by_id_by_client_and_by_time() {
    let world = World::of(&[full_client("a"), full_client("b"), watcher()]).await;
    let (a, b) = (world.token("a", &[]).await, world.token("b", &[]).await);
    world.list("client", "a", json!({"until": NOW + 600})).await;
    world.list("before", "b", json!({"until": NOW + 600, "before": NOW + 1})).await;
    assert!(!world.is_active(&a).await && !world.is_active(&b).await);
    world.clock.set(NOW + 1);
    assert!(world.is_active(&world.token("b", &[]).await).await, "it was issued at the moment, not before");
}

#[tokio::test]
async fn a_token_of_a_key_that_is_published_no_more_is_not_active() {
    let world = World::of(&[full_client("a"), watcher()]).await;
    let token = world.token("a", &[]).await;
    world.vault.inner.put("signing", bootstrap::new_signing_secret().unwrap().expose().clone());
    world.clock.set(NOW + 301);
    assert!(!world.is_active(&token).await);
}

#[tokio::test]
async fn refresh_tokens_are_told_to_their_own_client() {
    let world = World::of(&[full_client("a"), full_client("b"), watcher()]).await;
    let subject = world.token("a", &[]).await;
    let refresh = token_in(&world.send(exchange("a", &subject, &[("requested_token_type", REFRESH_TOKEN)])).await);
    let told = world.send(introspect("a", &refresh)).await.json();
    assert_eq!(
        told,
        json!({"active": true, "client_id": "a", "sub": "client:a", "iss": ISSUER, "aud": ["bookinfo"],
            "scope": "reviews.read reviews.write", "iat": NOW, "exp": NOW + 86_400})
    );
    assert_eq!(world.send(introspect("b", &refresh)).await.json(), json!({"active": false}));
    assert!(world.is_active(&refresh).await, "asking does not use it up");
    world.clock.set(NOW + 86_400);
    assert!(!world.is_active(&refresh).await);
}

#[tokio::test]
async fn every_error() {
    let world = World::of(&[full_client("a"), watcher()]).await;
    let token = world.token("a", &[]).await;
    let mut anonymous = introspect("watcher", &token);
    anonymous["headers"].as_object_mut().unwrap().remove("Authorization");
    let mut wrong = introspect("watcher", &token);
    wrong["headers"]["Authorization"] = json!(basic("watcher", "wrong"));
    let mut in_query = introspect("watcher", &token);
    in_query["rawQueryString"] = json!("token=x");
    for (name, event, status, error) in [
        ("no token", as_client("watcher", "/oauth2/introspect", &[]), 400, "invalid_request"),
        ("in the URI", in_query, 400, "invalid_request"),
        ("nobody", anonymous, 401, "invalid_client"),
        ("wrong secret", wrong, 401, "invalid_client"),
        ("GET", event(PUBLIC_API, "GET", "/oauth2/introspect"), 405, "method_not_allowed"),
    ] {
        let answer = world.send(event).await;
        assert_eq!((answer.status(), answer.error().as_str()), (status, error), "{name}");
        let challenge = answer.header("WWW-Authenticate").unwrap_or_default();
        assert_eq!(challenge.contains("introspection"), status == 401, "{name}: {challenge}");
    }
    assert!(world.is_active(&token).await);
    world.directory.out.store(true, Ordering::Relaxed);
    let answer = world.send(introspect("watcher", &token)).await;
    assert_eq!((answer.status(), answer.header("Retry-After")), (503, Some("5")), "what is not known is not told");
}
