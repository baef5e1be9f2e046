//! API keys as subject tokens: alone, and beside a client that authenticates.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use authz::{ApiKeyRecord, KeyState};
use common::grants::*;
use common::*;
use key_issuer::ClientState;
use serde_json::{Value, json};

const TOKEN: &str = "/oauth2/token";

/// `a`, in whose name `b` and `c` may act; `d`, who may not.
async fn world() -> World {
    let mut a = full_client("a");
    a.may_act = vec!["b".to_owned(), "c".to_owned()];
    let mut b = full_client("b");
    b.may_act = vec!["c".to_owned()];
    (b.scopes, b.audiences) = (vec!["reviews.read".to_owned()], vec!["reviews".to_owned(), "ratings".to_owned()]);
    World::of(&[a, b, full_client("c"), full_client("d"), watcher()]).await
}

#[tokio::test]
async fn an_api_key_alone_is_a_credential() {
    let world = world().await;
    let key = world.key("a", 1, |record| record.audiences.push("https://api.bookinfo.example".to_owned())).await;
    world.lines.drain();
    let answer = world.send(exchange_key(&key, &[])).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let audit = world.lines.drain().pop().unwrap();
    assert!(!audit.contains(&key), "{audit}");
    let audit: Value = serde_json::from_str(&audit).unwrap();
    assert_eq!((&audit["client_id"], &audit["api_key"]), (&json!("a"), &json!(&key[8..20])));
    let mut claims = answer.claims();
    assert_ne!(claims["jti"].take(), Value::Null);
    assert_eq!(
        claims,
        json!({"iss": ISSUER, "sub": "client:a", "aud": ["bookinfo", "https://api.bookinfo.example"],
            "exp": NOW + 600, "iat": NOW,
            "nbf": NOW - 5, "jti": null, "client_id": "a", "azp": "a", "scope": "reviews.read",
            "may_act": {"subs": ["client:b", "client:c"]}, "api_key": &key[8..20]})
    );
    let narrow =
        world.send(exchange_key(&key, &[("audience", "https://api.bookinfo.example"), ("client_id", "a")])).await;
    assert_eq!(narrow.claims()["aud"], "https://api.bookinfo.example");
    // A key of a client without a record, and one that ends before the token would.
    let lonely = world.key("lonely", 2, |record| record.expires_at = Some(NOW + 10)).await;
    let answer = world.send(exchange_key(&lonely, &[("scope", "reviews.read")])).await;
    assert_eq!((&answer.claims()["exp"], &answer.claims()["sub"]), (&json!(NOW + 10), &json!("client:lonely")));
    assert!(answer.claims().get("may_act").is_none());
}

#[tokio::test]
async fn every_error_of_an_api_key() {
    let world = world().await;
    let good = world.key("a", 1, |_| {}).await;
    let mut next = 10;
    let mut key = async |client: &str, change: fn(&mut ApiKeyRecord)| {
        next += 1;
        world.key(client, next, change).await
    };
    let disabled = key("a", |record| record.state = KeyState::Disabled).await;
    let revoked = key("a", |record| record.state = KeyState::Revoked).await;
    let expired = key("a", |record| record.expires_at = Some(NOW)).await;
    let early = key("a", |record| record.not_before = Some(NOW + 1)).await;
    let other_secret = key("a", |record| record.hashes = vec!["00".repeat(32)]).await;
    let no_audience = key("a", |record| record.audiences.clear()).await;
    let of_disabled = key("disabled", |_| {}).await;
    let damaged = key("a", |record| record.hashes.clear()).await;
    let mut client = full_client("disabled");
    client.state = ClientState::Disabled;
    world.directory.put(&client).await;
    let listed = world.key("a", 3, |_| {}).await;
    world.list("key", &listed[8..20], json!({"until": NOW + 600})).await;
    let of_listed = world.key("listed", 4, |_| {}).await;
    world.list("client", "listed", json!({"until": NOW + 600})).await;
    let elsewhere = authz::ApiKey::generate("prod", &[5; 48]).unwrap().text().expose().clone();
    let unknown = authz::ApiKey::generate("dev", &[6; 48]).unwrap().text().expose().clone();
    let mistyped = format!("{}x", &good[..good.len() - 1]);
    let actor = world.token("a", &[]).await;
    let plain = |key: &str| exchange_key(key, &[]);
    for (name, event, status, error) in [
        ("disabled", plain(&disabled), 400, "invalid_request"),
        ("revoked", plain(&revoked), 400, "invalid_request"),
        ("expired", plain(&expired), 400, "invalid_request"),
        ("early", plain(&early), 400, "invalid_request"),
        ("another secret", plain(&other_secret), 400, "invalid_request"),
        ("of a disabled client", plain(&of_disabled), 400, "invalid_request"),
        ("on the list", plain(&listed), 400, "invalid_request"),
        ("of a client on the list", plain(&of_listed), 400, "invalid_request"),
        ("of another environment", plain(&elsewhere), 400, "invalid_request"),
        ("unknown", plain(&unknown), 400, "invalid_request"),
        ("mistyped", plain(&mistyped), 400, "invalid_request"),
        ("damaged", plain(&damaged), 500, "server_error"),
        ("for nobody", plain(&no_audience), 400, "invalid_target"),
        ("another client_id", exchange_key(&good, &[("client_id", "b")]), 400, "invalid_request"),
        ("more scope", exchange_key(&good, &[("scope", "reviews.write")]), 400, "invalid_scope"),
        ("more targets", exchange_key(&good, &[("audience", "https://api.bookinfo.example")]), 400, "invalid_target"),
        ("refresh", exchange_key(&good, &[("requested_token_type", REFRESH_TOKEN)]), 400, "unauthorized_client"),
        ("actor", exchange_key(&good, &[("actor_token", &actor), ("actor_token_type", JWT)]), 400, "invalid_request"),
        ("as another grant", bare_event(PUBLIC_API, "grant_type=client_credentials"), 401, "invalid_client"),
    ] {
        let answer = world.send(event).await;
        assert_eq!((answer.status(), answer.error().as_str()), (status, error), "{name}: {answer:?}");
    }
    for line in world.lines.drain() {
        assert!(!line.contains("cwk_"), "{line}");
    }
    assert_eq!(world.send(plain(&good)).await.status(), 200);
    world.directory.out.store(true, Ordering::Relaxed);
    assert_eq!(world.send(plain(&good)).await.status(), 503);
    world.directory.out.store(false, Ordering::Relaxed);
    world.vault.out.store(true, Ordering::Relaxed);
    world.clock.set(NOW + 3600);
    assert_eq!(world.send(plain(&good)).await.status(), 503, "no pepper");
}

/// Nobody can tell from the answer what is wrong with a key.
#[tokio::test]
async fn refused_keys_look_alike() {
    let world = world().await;
    let revoked = world.key("a", 1, |record| record.state = KeyState::Revoked).await;
    let unknown = authz::ApiKey::generate("dev", &[6; 48]).unwrap().text().expose().clone();
    let mut answers = BTreeSet::new();
    for key in [revoked.as_str(), &unknown, "cwk_x"] {
        answers.insert(world.send(exchange_key(key, &[])).await.0.to_string());
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[tokio::test]
async fn whoever_tries_keys_is_slowed_down() {
    let world = world().await;
    let wrong = world.key("a", 1, |record| record.hashes = vec!["00".repeat(32)]).await;
    let mut answers = Vec::new();
    for _ in 0..21 {
        answers.push(world.send(exchange_key(&wrong, &[])).await.status());
    }
    assert_eq!((answers[0], answers[20]), (400, 429), "{answers:?}");
}

/// Whoever tries keys shares its address with whoever has one.
#[tokio::test]
async fn whoever_tries_keys_locks_out_no_right_one() {
    let world = world().await;
    let key = world.key("a", 1, |_| {}).await;
    assert_eq!(world.send(exchange_key(&key, &[])).await.status(), 200);
    for i in 2..102 {
        let unknown = authz::ApiKey::generate("dev", &[i; 48]).unwrap();
        world.send(exchange_key(unknown.text().expose(), &[])).await;
    }
    let unknown = authz::ApiKey::generate("dev", &[102; 48]).unwrap();
    assert_eq!(world.send(exchange_key(unknown.text().expose(), &[])).await.status(), 429);
    assert_eq!(world.send(exchange_key(&key, &[])).await.status(), 200);
    // One that was right and is so no more is looked at once.
    world.key("a", 1, |record| record.state = KeyState::Disabled).await;
    let answers = [world.send(exchange_key(&key, &[])).await, world.send(exchange_key(&key, &[])).await];
    assert_eq!(answers.map(|answer| answer.status()), [400, 429]);
}

/// A key gives no more than its client may have now, alone and beside a client.
#[tokio::test]
async fn a_key_gives_nothing_that_its_client_has_lost() {
    let world = world().await;
    let key = world
        .key("a", 1, |record| {
            record.scope = "reviews.read reviews.write".to_owned();
            record.audiences = vec!["bookinfo".to_owned(), "https://api.bookinfo.example".to_owned()];
        })
        .await;
    let mut a = full_client("a");
    (a.scopes, a.audiences) = (vec!["reviews.read".to_owned()], vec!["bookinfo".to_owned()]);
    a.may_act = vec!["c".to_owned()];
    world.directory.put(&a).await;
    let subject = [("grant_type", TOKEN_EXCHANGE), ("subject_token", &*key), ("subject_token_type", API_KEY)];
    for event in [exchange_key(&key, &[]), as_client("c", TOKEN, &subject)] {
        let claims = world.send(event).await.claims();
        assert_eq!((&claims["scope"], &claims["aud"]), (&json!("reviews.read"), &json!("bookinfo")), "{claims}");
    }
    let lost = [("audience", "https://api.bookinfo.example")];
    assert_eq!(world.send(exchange_key(&key, &lost)).await.error(), "invalid_target");
}

/// A value that a rotation has replaced is accepted for a while, and nothing that comes from it for longer.
#[tokio::test]
async fn nothing_outlives_the_value_of_a_rotated_key() {
    let world = world().await;
    let mut hash = String::new();
    let old = world.key("a", 1, |record| hash = record.hashes[0].clone()).await;
    world
        .key("a", 1, |record| {
            record.hashes = vec!["11".repeat(32)];
            record.previous = Some(authz::api_key::PreviousValue { hash, ends_at: NOW + 100 });
        })
        .await;
    let answer = world.send(exchange_key(&old, &[])).await;
    assert_eq!((answer.status(), &answer.claims()["exp"]), (200, &json!(NOW + 100)), "{answer:?}");
    let family = [("requested_token_type", REFRESH_TOKEN)];
    let mut parameters = vec![("grant_type", TOKEN_EXCHANGE), ("subject_token", &old), ("subject_token_type", API_KEY)];
    parameters.extend_from_slice(&family);
    let answer = world.send(as_client("a", TOKEN, &parameters)).await;
    assert_eq!((answer.status(), &answer.json()["expires_in"]), (200, &json!(100)), "{answer:?}");
}

/// What came from a key ends with it, whether it is on a list or its record alone says so.
#[tokio::test]
async fn what_came_from_a_stopped_key_is_worth_nothing() {
    let world = world().await;
    for (place, stop) in [
        (1, (|record| record.state = KeyState::Revoked) as fn(&mut ApiKeyRecord)),
        (2, |record| record.state = KeyState::Disabled),
        (3, |record| record.expires_at = Some(NOW)),
    ] {
        let key = world.key("a", place, |_| {}).await;
        let direct = token_in(&world.send(exchange_key(&key, &[])).await);
        let again = token_in(&world.send(exchange("a", &direct, &[])).await);
        assert!(world.is_active(&direct).await && world.is_active(&again).await);
        world.key("a", place, stop).await;
        for token in [&direct, &again] {
            assert!(!world.is_active(token).await, "{place}");
            assert_eq!(world.send(exchange("a", token, &[])).await.error(), "invalid_request", "{place}");
        }
    }
    let key = world.key("a", 4, |_| {}).await;
    let token = token_in(&world.send(exchange_key(&key, &[])).await);
    let id = authz::ApiKey::parse(&key).unwrap().id().to_owned();
    world.list("key", &id, json!({"until": NOW + 3_600})).await;
    assert!(!world.is_active(&token).await, "a list says so before the record does");
}

/// A client that authenticates beside the key is the requester.
#[tokio::test]
async fn an_api_key_beside_a_client() {
    let world = world().await;
    let key = world.key("a", 1, |record| record.scope = "reviews.read reviews.write".to_owned()).await;
    let with = |id: &str, more: &[(&str, &str)]| {
        let mut all =
            vec![("grant_type", TOKEN_EXCHANGE), ("subject_token", key.as_str()), ("subject_token_type", API_KEY)];
        all.extend_from_slice(more);
        as_client(id, TOKEN, &all)
    };
    let b = world.send(with("b", &[])).await.claims();
    assert_eq!((&b["sub"], &b["client_id"], &b["act"]), (&json!("client:a"), &json!("b"), &json!({"sub": "client:b"})));
    assert_eq!((&b["scope"], &b["aud"]), (&json!("reviews.read"), &json!("reviews")));
    let a = world.send(with("a", &[])).await.claims();
    assert_eq!((&a["sub"], &a["client_id"], a.get("act")), (&json!("client:a"), &json!("a"), None));
    assert_eq!(world.send(with("d", &[])).await.error(), "invalid_request", "it is not named");
    let mut wrong = with("b", &[]);
    wrong["headers"]["Authorization"] = json!(basic("b", "wrong"));
    assert_eq!(world.send(wrong).await.status(), 401, "a good key does not make up for a bad secret");
    let mut bare = full_client("b");
    bare.grants.clear();
    world.directory.put(&bare).await;
    world.clock.set(NOW + 60);
    assert_eq!(world.send(with("b", &[])).await.error(), "unauthorized_client");
    // A refresh token ends with the key.
    let refresh = token_in(&world.send(with("a", &[("requested_token_type", REFRESH_TOKEN)])).await);
    assert!(world.is_active(&refresh).await);
    let id = key[8..20].to_owned();
    let table = world.directory.store.table(platform::store::API_KEYS);
    let mut record: ApiKeyRecord = serde_json::from_str(&table.get(&id).await.unwrap().unwrap().json).unwrap();
    record.state = KeyState::Revoked;
    world.put_key(&id, &record).await;
    assert!(!world.is_active(&refresh).await);
    let event = as_client("a", TOKEN, &[("grant_type", "refresh_token"), ("refresh_token", &refresh)]);
    assert_eq!(world.send(event).await.error(), "invalid_grant");
}

#[tokio::test]
async fn an_api_key_at_the_other_doors() {
    let world = world().await;
    let key = world.key("a", 1, |_| {}).await;
    let form = body(&[("grant_type", TOKEN_EXCHANGE), ("subject_token", &key), ("subject_token_type", API_KEY)]);
    // Alone with a certificate: the token is bound to it.
    let pem = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap().cert.pem();
    let answer = world.send(mtls_event(&pem, &form)).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert!(answer.claims()["cnf"]["x5t#S256"].is_string());
    // With a client_id it is the certificate of that client, which it is not.
    let answer = world.send(mtls_event(&pem, &format!("{form}&client_id=a"))).await;
    assert_eq!((answer.status(), answer.error().as_str()), (401, "invalid_client"));
    // At the IAM door the role is the requester, and this one has not the grant.
    let mut event = iam_event(IAM_URL, TOKEN, ROLE_SESSION);
    event["headers"]["content-type"] = json!("application/x-www-form-urlencoded");
    event["body"] = json!(form);
    let answer = world.send(event).await;
    assert_eq!((answer.status(), answer.error().as_str()), (400, "unauthorized_client"));
    // The client's own settings hold for its keys.
    let mut strict = full_client("a");
    strict.dpop_bound_access_tokens = true;
    world.directory.put(&strict).await;
    world.clock.set(NOW + 60);
    assert_eq!(world.send(exchange_key(&key, &[])).await.error(), "invalid_dpop_proof");
}
