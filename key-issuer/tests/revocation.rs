//! RFC 7009: a client takes its own tokens back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::atomic::Ordering;

use common::grants::*;
use common::*;
use serde_json::json;

fn revoke(id: &str, token: &str) -> serde_json::Value {
    as_client(id, "/oauth2/revoke", &[("token", token)])
}

#[tokio::test]
async fn an_access_token_is_revoked_once_and_for_all() {
    let world = World::of(&[full_client("a"), watcher()]).await;
    let (token, other) = (world.token("a", &[]).await, world.token("a", &[]).await);
    for hint in ["", "access_token", "refresh_token", "nonsense"] {
        assert_eq!(world.is_active(&token).await, hint.is_empty(), "{hint}");
        let event = as_client("a", "/oauth2/revoke", &[("token", &token), ("token_type_hint", hint)]);
        let answer = world.send(event).await;
        assert_eq!((answer.status(), answer.header("Cache-Control")), (200, Some("no-store")), "{hint}");
    }
    assert!(!world.is_active(&token).await && world.is_active(&other).await);
    // The record goes two minutes after the token, which verifiers accept for a minute longer; what is kept for refresh tokens goes when they would have.
    let table = world.directory.store.table("revocations");
    let records = table.page(None, 10).await.unwrap().records;
    let ends: Vec<_> = records.iter().map(|(id, record)| (id.split_once('#').unwrap().0, record.expires_at)).collect();
    assert_eq!(ends, [("budget", Some(NOW + 3_720)), ("token", Some(NOW + 720))]);
    // Every list reads that whole table, so what outlives the token is kept elsewhere.
    let marks = world.directory.store.table("state").page(None, 10).await.unwrap().records;
    let ends: Vec<_> = marks.iter().map(|(id, record)| (id.split('#').next().unwrap(), record.expires_at)).collect();
    assert_eq!(ends, [("origin", Some(NOW + 86_520))]);
}

#[tokio::test]
async fn what_is_no_token_of_ours_is_revoked_already() {
    let world = World::of(&[full_client("a"), watcher()]).await;
    let other_world = World::of(&[full_client("a")]).await;
    let foreign = other_world.token("a", &[]).await;
    for token in ["x", "a.b.c", foreign.as_str(), &format!("cwr_{}", "0".repeat(104))] {
        assert_eq!(world.send(revoke("a", token)).await.status(), 200, "{token}");
    }
    let token = world.token("a", &[]).await;
    let entries = async || world.directory.store.table("revocations").page(None, 10).await.unwrap().records.len();
    world.clock.set(NOW + 661);
    assert_eq!(world.send(revoke("a", &token)).await.status(), 200);
    assert_eq!(entries().await, 0);
    // Verifiers accept it for a minute longer than it lives.
    world.clock.set(NOW + 660);
    assert_eq!(world.send(revoke("a", &token)).await.status(), 200);
    assert_eq!(entries().await, 2, "the token and the budget");
}

#[tokio::test]
async fn every_error() {
    let world = World::of(&[full_client("a"), full_client("b"), watcher()]).await;
    let token = world.token("a", &[]).await;
    let key = world.key("a", 1, |_| {}).await;
    let mut wrong_secret = revoke("a", &token);
    wrong_secret["headers"]["Authorization"] = json!(basic("a", "wrong"));
    let mut anonymous = revoke("a", &token);
    anonymous["headers"].as_object_mut().unwrap().remove("Authorization");
    for (name, event, status, error) in [
        ("no token", as_client("a", "/oauth2/revoke", &[]), 400, "invalid_request"),
        ("two tokens", as_client("a", "/oauth2/revoke", &[("token", "a"), ("token", "b")]), 400, "invalid_request"),
        ("another's", revoke("b", &token), 400, "unauthorized_client"),
        ("an API key", revoke("a", &key), 400, "unsupported_token_type"),
        ("wrong secret", wrong_secret, 401, "invalid_client"),
        ("nobody", anonymous, 401, "invalid_client"),
    ] {
        let answer = world.send(event).await;
        assert_eq!((answer.status(), answer.error().as_str()), (status, error), "{name}: {answer:?}");
    }
    assert!(world.is_active(&token).await);
    world.lines.drain();
    world.directory.out.store(true, Ordering::Relaxed);
    let answer = world.send(revoke("a", &token)).await;
    assert_eq!((answer.status(), answer.header("Retry-After")), (503, Some("5")));
    world.directory.out.store(false, Ordering::Relaxed);
    assert!(world.is_active(&token).await);
    world.lines.drain();
    assert_eq!(world.send(revoke("a", &token)).await.status(), 200);
    let audit = world.audit();
    assert_eq!((&audit["event"], &audit["client_id"]), (&json!("token_revoked"), &json!("a")));
    assert!(audit["jti"].is_string());
}

/// A token for a service is the service's client's to show, and not to revoke.
#[tokio::test]
async fn an_exchanged_token_belongs_to_who_got_it() {
    let mut a = full_client("a");
    a.may_act = vec!["b".to_owned()];
    let world = World::of(&[a, full_client("b"), watcher()]).await;
    let subject = world.token("a", &[]).await;
    let exchanged = token_in(&world.send(exchange("b", &subject, &[])).await);
    assert_eq!(world.send(revoke("a", &exchanged)).await.error(), "unauthorized_client");
    assert_eq!(world.send(revoke("b", &exchanged)).await.status(), 200);
    assert!(!world.is_active(&exchanged).await && world.is_active(&subject).await);
}

/// The list is everybody's, so one client must not fill it.
#[tokio::test]
async fn a_client_that_takes_back_too_many_tokens_loses_all() {
    let world = World::of(&[full_client("a"), full_client("b"), watcher()]).await;
    // What 999 tokens leave behind, without making them.
    world.list("budget", "a", json!({"until": NOW + 3_720, "spent": 999})).await;
    let (last, over, kept) = (world.token("a", &[]).await, world.token("a", &[]).await, world.token("a", &[]).await);
    let of_b = world.token("b", &[]).await;
    for _ in 0..2 {
        assert_eq!(world.send(revoke("a", &last)).await.status(), 200, "twice is once");
    }
    assert!(!world.is_active(&last).await && world.is_active(&over).await);
    world.lines.drain();
    assert_eq!(world.send(revoke("a", &over)).await.status(), 200);
    assert_eq!(world.audit()["event"], "client_tokens_revoked");
    assert!(!world.is_active(&over).await && !world.is_active(&kept).await && world.is_active(&of_b).await);
    let entries = world.directory.store.table("revocations").page(None, 10).await.unwrap().records;
    let tokens = entries.iter().filter(|(id, _)| id.starts_with("token#")).count();
    assert_eq!(tokens, 1, "{entries:?}");
    world.clock.set(NOW + 1);
    assert!(world.is_active(&world.token("a", &[]).await).await, "new ones are good");
}
