//! The signed list of revoked credentials, read as authorizer and adapter read it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::duplicate_mod)]

#[path = "common/admin.rs"]
mod admin;
mod common;

use std::time::Duration;

use admin::AdminWorld;
use authz::jwt::{Expectation, UnverifiedToken};
use authz::{Claims, Jwks, KeyOrigin, Mode, RevocationList, UnverifiedRevocationList};
use common::grants::{as_client, exchange, full_client, token_in, watcher};
use common::{IAM_URL, ISSUER, NOW, PUBLIC_API, ROLE_SESSION, SECRET, basic, event, iam_event, token_event};
use platform::clock::Clock;
use serde_json::{Value, json};

async fn list(world: &AdminWorld) -> RevocationList {
    let answer = world.world.send(event(PUBLIC_API, "GET", "/revocations")).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let jwks = keys(world).await;
    let list = UnverifiedRevocationList::parse(answer.body()).unwrap();
    list.verify(ISSUER, &[&jwks], world.world.clock.unix()).unwrap()
}

/// The claims of a new token of the client, which is made if there is none.
async fn claims(world: &AdminWorld, client: &str) -> Claims {
    world.world.directory.put(&common::client(client, &[SECRET])).await;
    let mut event = token_event("grant_type=client_credentials");
    event["headers"]["Authorization"] = json!(basic(client, SECRET));
    let answer = world.world.send(event).await.json();
    verified(world, answer["access_token"].as_str().unwrap()).await
}

async fn verified(world: &AdminWorld, token: &str) -> Claims {
    let keys = keys(world).await;
    let expected = Expectation { issuer: ISSUER, audiences: &[], keys: Some(&keys) };
    let token = UnverifiedToken::parse(token, Mode::Strict).unwrap();
    token.verify(&expected, world.world.clock.unix()).unwrap()
}

async fn keys(world: &AdminWorld) -> Jwks {
    let jwks = world.world.send(event(PUBLIC_API, "GET", "/jwks.json")).await;
    Jwks::parse(jwks.body(), KeyOrigin::Fetched).unwrap()
}

async fn revoke(world: &AdminWorld, body: Value) -> u64 {
    world.call("POST", "/v1/revocations", Some(body)).await.status()
}

#[tokio::test]
async fn what_is_revoked_is_on_the_list() {
    let world = AdminWorld::new().await;
    let (key, _) = world.new_key(json!({})).await;
    let (one, other) = (claims(&world, "a").await, claims(&world, "a").await);
    let (evil, hasty) = (claims(&world, "evil").await, claims(&world, "hasty").await);
    let jti = one.text("jti").unwrap();
    world.changes();
    for body in [
        json!({"token": jti}),
        json!({"token": jti}),
        json!({"client": "evil"}),
        json!({"client_before": "hasty", "moment": NOW - 10}),
        json!({"client_before": "hasty"}),
        json!({"client_before": "hasty", "moment": NOW - 20}),
        json!({"key": key}),
    ] {
        assert_eq!(revoke(&world, body.clone()).await, 200, "{body}");
    }
    let actions: Vec<Value> = world.changes().into_iter().map(|line| line["change"]["action"].clone()).collect();
    assert_eq!(actions.len(), 7, "{actions:?}");
    // The list of this environment was made before; it is made anew after half a minute.
    world.world.clock.advance(Duration::from_secs(30));
    let now = NOW + 30;
    let list = list(&world).await;
    assert_eq!((list.len(), list.issued_at()), (3, now));
    let later = claims(&world, "hasty").await;
    for (claims, revoked) in [(&one, true), (&other, false), (&evil, true), (&hasty, true), (&later, false)] {
        assert_eq!(list.has_token(claims), revoked, "{:?}", claims.as_json());
    }
    let record = authz::ApiKeyRecord { id: key, client_id: "reader".to_owned(), ..Default::default() };
    assert!(list.has_key(&record));
    assert!(!list.has_key(&authz::ApiKeyRecord { id: "other".to_owned(), ..record }));
}

#[tokio::test]
async fn entries_end_when_they_are_worth_nothing() {
    let world = AdminWorld::new().await;
    // The longest life of a token, the minute for which verifiers accept one that has ended, and a minute for clocks.
    assert_eq!(revoke(&world, json!({"token": "t1"})).await, 200);
    world.world.clock.advance(Duration::from_secs(3_600 + 119));
    assert_eq!(list(&world).await.len(), 1);
    world.world.clock.advance(Duration::from_secs(31));
    assert_eq!(list(&world).await.len(), 0);
    // That of a token whose end is known, too. What is kept about it for refresh tokens is not on the list.
    let issued = world.world.send(token_event("grant_type=client_credentials")).await.json();
    let mut report = event(PUBLIC_API, "POST", "/v1/leaks");
    report["headers"]["content-type"] = json!("application/json");
    report["body"] = json!(json!({"credential": issued["access_token"]}).to_string());
    assert_eq!(world.world.send(report).await.status(), 202);
    world.world.clock.advance(Duration::from_secs(600 + 60));
    assert_eq!(list(&world).await.len(), 1, "what verifiers accept still is on the list");
    world.world.clock.advance(Duration::from_secs(90));
    assert_eq!(list(&world).await.len(), 0);
}

#[tokio::test]
async fn the_list_is_cacheable() {
    let world = AdminWorld::new().await;
    let get = |etag: Option<&str>| {
        let mut event = event(PUBLIC_API, "GET", "/revocations");
        if let Some(etag) = etag {
            event["headers"]["if-none-match"] = json!(etag);
        }
        world.world.send(event)
    };
    let first = get(None).await;
    assert_eq!(first.header("Cache-Control"), Some("public, max-age=30"));
    let etag = first.header("ETag").unwrap();
    let known = get(Some(etag)).await;
    assert_eq!((known.status(), known.body()), (304, ""));
    // A list with a later end is another list, though nothing was added.
    world.world.clock.advance(Duration::from_secs(30));
    let later = get(Some(etag)).await;
    assert_eq!(later.status(), 200);
    assert_ne!(later.header("ETag"), Some(etag));
}

#[tokio::test]
async fn what_cannot_be_revoked() {
    let world = AdminWorld::new().await;
    for (body, status) in [
        (json!({}), 400),
        (json!({"token": "a", "client": "b"}), 400),
        (json!({"token": ""}), 400),
        (json!({"token": "x".repeat(257)}), 400),
        (json!({"client": "x".repeat(129)}), 400),
        (json!({"client": "a", "moment": NOW}), 400),
        (json!({"client_before": "a", "moment": NOW + 10_000_000}), 400),
        (json!({"key": "nosuchkey"}), 404),
        (json!({"what": "a"}), 400),
    ] {
        assert_eq!(revoke(&world, body.clone()).await, status, "{body}");
    }
    world.world.directory.out.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(revoke(&world, json!({"token": "a"})).await, 503);
    let answer = world.world.send(event(PUBLIC_API, "GET", "/revocations")).await;
    assert_eq!(answer.status(), 503);
}

#[tokio::test]
async fn a_full_list_is_not_cut() {
    use platform::table::Only;
    let mut world = AdminWorld::new().await;
    let hasty = claims(&world, "c77").await;
    let table = world.world.directory.store.table("revocations");
    for place in 0..10_000 {
        let json =
            json!({"kind": "before", "id": format!("c{place}"), "until": NOW + 500, "before": NOW + 1}).to_string();
        table.put(&format!("before#{place}"), &json, Some(NOW + 500), Only::Absent { now: NOW }).await.unwrap();
    }
    world.restart();
    let answer = world.call("POST", "/v1/revocations", Some(json!({"client_before": "one-more"}))).await;
    assert_eq!((answer.status(), answer.error().as_str()), (507, "revocations_full"));
    let alarm = world.world.lines.drain().into_iter().find(|line| line.contains("\"alarm\""));
    assert!(alarm.is_some_and(|line| line.contains("revocations_full")));
    // Ids have room still, and what is on the list can be changed.
    assert_eq!(revoke(&world, json!({"token": "t"})).await, 200);
    world.world.clock.advance(Duration::from_secs(30));
    assert!(list(&world).await.has_token(&hasty));
    // When they have expired there is room again.
    world.world.clock.advance(Duration::from_secs(500));
    assert_eq!(revoke(&world, json!({"client_before": "one-more"})).await, 200);
}

/// What another client got for a revoked one ends with it.
#[tokio::test]
async fn a_revoked_client_ends_the_tokens_that_are_about_it() {
    for body in [json!({"client": "a"}), json!({"client_before": "a"})] {
        let world = AdminWorld::new().await;
        let mut a = full_client("a");
        a.may_act = vec!["b".to_owned()];
        for client in [a, full_client("b"), watcher()] {
            world.world.directory.put(&client).await;
        }
        let of_a = world.world.token("a", &[]).await;
        let about_a = token_in(&world.world.send(exchange("b", &of_a, &[])).await);
        let of_b = world.world.token("b", &[]).await;
        assert_eq!(revoke(&world, body.clone()).await, 200, "{body}");
        assert!(!world.world.is_active(&about_a).await && world.world.is_active(&of_b).await, "{body}");
        let claims = (verified(&world, &about_a).await, verified(&world, &of_b).await);
        world.world.clock.advance(Duration::from_secs(30));
        let list = list(&world).await;
        assert_eq!((list.has_token(&claims.0), list.has_token(&claims.1)), (true, false), "{body}");
    }
}

/// A family ends with everybody who had a hand in it, and by its own id.
#[tokio::test]
async fn a_family_ends_with_its_actors_and_by_its_id() {
    for (by, ends) in [("client", true), ("client_before", true), ("token", true), ("nobody", false)] {
        let world = AdminWorld::new().await;
        let mut a = full_client("a");
        a.may_act = vec!["b".to_owned(), "c".to_owned()];
        for client in [a, full_client("b"), full_client("c"), watcher()] {
            world.world.directory.put(&client).await;
        }
        let of_a = world.world.token("a", &[]).await;
        let of_b = token_in(&world.world.send(exchange("b", &of_a, &[])).await);
        let more = [("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token")];
        let answer = world.world.send(exchange("c", &of_b, &more)).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        let token = token_in(&answer);
        let use_it =
            |token: &str| as_client("c", "/oauth2/token", &[("grant_type", "refresh_token"), ("refresh_token", token)]);
        let first = world.world.send(use_it(&token)).await.json();
        let claims = verified(&world, first["access_token"].as_str().unwrap()).await;
        let family = claims.text("refresh_family").unwrap().to_owned();
        match by {
            "nobody" => {}
            "token" => assert_eq!(revoke(&world, json!({ "token": family })).await, 200),
            _ => assert_eq!(revoke(&world, json!({ by: "b" })).await, 200, "{by}"),
        }
        world.world.clock.advance(Duration::from_secs(120));
        let again = world.world.send(use_it(first["refresh_token"].as_str().unwrap())).await;
        assert_eq!(again.status() != 200, ends, "{by}: {again:?}");
    }
}

#[tokio::test]
async fn a_revoked_client_gets_nothing_more() {
    let world = AdminWorld::new().await;
    for id in ["evil", "worse", "good"] {
        world.world.directory.put(&full_client(id)).await;
    }
    let token = |id: &str| world.world.send(as_client(id, "/oauth2/token", &[("grant_type", "client_credentials")]));
    let of_role = || {
        let mut event = iam_event(IAM_URL, "/oauth2/token", ROLE_SESSION);
        event["headers"]["content-type"] = json!("application/x-www-form-urlencoded");
        event["body"] = json!("grant_type=client_credentials");
        world.world.send(event)
    };
    for id in ["evil", "worse", "good"] {
        assert_eq!(token(id).await.status(), 200, "{id}");
    }
    assert_eq!(of_role().await.status(), 200);
    for id in ["evil", "bookinfo-reviews"] {
        assert_eq!(revoke(&world, json!({"client": id})).await, 200);
    }
    let answer = token("evil").await;
    assert_eq!((answer.status(), answer.error().as_str()), (401, "invalid_client"));
    let answer = of_role().await;
    assert_eq!((answer.status(), answer.error().as_str()), (403, "unauthorized_client"));
    // What another environment has revoked is heard of within a minute.
    world.world.list("client", "worse", json!({"until": NOW + 86_400})).await;
    world.world.clock.advance(Duration::from_secs(59));
    assert_eq!(token("worse").await.status(), 200);
    world.world.clock.advance(Duration::from_secs(1));
    assert_eq!(token("worse").await.status(), 401);
    assert_eq!(token("good").await.status(), 200);
}
