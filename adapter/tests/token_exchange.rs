//! An API key becomes a token that the mesh understands, or the request is denied.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use adapter::exchange::{REFUSED_FOR, RETRY_AFTER};
use adapter::{Exchange, ExchangeConfig};
use authz::KeyState;
use common::issuer::{Issuer, NOW, reader, with};
use common::{Act, Endpoint, World, key, record};
use platform::https::Reach;
use platform::store::ApiKeys;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// No test is about its end, but the one with an issuer that is silent.
const PATIENCE: Duration = Duration::from_secs(30);

fn response(issuer: &Issuer, claims: &Value) -> String {
    json!({"access_token": issuer.token(claims), "token_type": "Bearer", "expires_in": 600}).to_string()
}

fn token(issuer: &Issuer) -> Act {
    Act::Answer(200, response(issuer, &reader()))
}

async fn world(issuer: &Issuer, address: SocketAddr, max_wait: Duration) -> World {
    let audience = Some("bookinfo".to_owned());
    let config = ExchangeConfig { url: format!("http://{address}"), audience };
    World::new(issuer, |clock| Some(Exchange::with(&config, Reach::Private, Vec::new(), clock, max_wait).unwrap()))
        .await
}

async fn good() -> (World, Endpoint, Issuer) {
    let issuer = Issuer::new();
    let endpoint = Endpoint::start(token(&issuer)).await;
    (world(&issuer, endpoint.address, PATIENCE).await, endpoint, issuer)
}

#[tokio::test]
async fn the_token_takes_the_place_of_the_key() {
    let (world, endpoint, issuer) = good().await;
    let key = key(1);
    for spoofed in [None, Some(("authorization", "Basic YTpi")), Some(("x-causeway-principal", "x/client:admin"))] {
        let mut headers = vec![("x-api-key", key.as_str())];
        headers.extend(spoofed);
        let (answer, line) = world.ask(&headers).await;
        assert_eq!(answer.status, 200, "{line}");
        let bearer = answer.set["authorization"].strip_prefix("Bearer ").unwrap();
        let payload = |token: &str| token.split('.').nth(1).unwrap().to_owned();
        assert_eq!(payload(bearer), payload(&issuer.token(&reader())));
        assert_eq!(answer.set["x-causeway-principal"], "https://issuer.bookinfo.example/client:reader");
        assert_eq!(answer.removed, ["x-api-key"]);
        assert!(!line.to_string().contains("eyJ") && !line.to_string().contains(&key), "{line}");
    }
    let visits = endpoint.visits();
    assert_eq!(visits.len(), 1, "one exchange serves all");
    let (head, form) = visits[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /oauth2/token HTTP/1.1\r\n") && !head.contains(&key), "{head}");
    let expected = format!(
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
         &subject_token_type=urn%3Acauseway%3Atoken-type%3Aapi-key&subject_token={key}&audience=bookinfo"
    );
    assert_eq!(form, expected);
}

/// The mesh verifies it again behind the adapter, and takes it out unless its own rule forwards it.
#[tokio::test]
async fn a_token_of_the_caller_stays_for_the_mesh() {
    let (world, endpoint, issuer) = good().await;
    let (own, key) = (format!("Bearer {}", issuer.token(&reader())), key(1));
    for (name, with_key) in [("alone", false), ("beside a key of the same client", true)] {
        let mut headers = vec![("authorization", own.as_str())];
        headers.extend(with_key.then_some(("x-api-key", key.as_str())));
        let (answer, line) = world.ask(&headers).await;
        assert_eq!(answer.status, 200, "{name}: {line}");
        assert!(!answer.set.contains_key("authorization"), "{name}");
        assert!(!answer.removed.contains(&"authorization".to_owned()), "{name}");
        assert_eq!(answer.removed.contains(&"x-api-key".to_owned()), with_key, "{name}");
    }
    assert_eq!(endpoint.visits().len(), 0);
    // Where nothing is exchanged the adapter is the last who looks at it.
    let alone = World::new(&issuer, |_| None).await;
    let (answer, _) = alone.ask(&[("authorization", &own)]).await;
    assert!(answer.removed.contains(&"authorization".to_owned()));
    // And a bad one denies, whatever key is beside it.
    let (answer, line) = world.ask(&[("authorization", "Bearer x"), ("x-api-key", &key)]).await;
    assert_eq!((answer.status, &line["reason"]), (401, &json!("token_malformed")));
}

#[tokio::test]
async fn without_a_good_token_the_request_is_denied() {
    let issuer = Issuer::new();
    let body = |edit: &dyn Fn(&mut Value)| {
        let mut body: Value = serde_json::from_str(&response(&issuer, &reader())).unwrap();
        edit(&mut body);
        Act::Answer(200, body.to_string())
    };
    let of = |claims: Value| Act::Answer(200, response(&issuer, &claims));
    let mut without_end = reader();
    without_end.as_object_mut().unwrap().remove("exp");
    let error = json!({"error": "invalid_target", "error_description": "hunter2"}).to_string();
    for (name, act, reason, detail) in [
        ("refused", Act::Answer(400, error), "exchange_refused", "invalid_target"),
        ("401", Act::Answer(401, "hunter2".to_owned()), "exchange_refused", "status 401"),
        ("redirect", Act::Answer(302, String::new()), "exchange_refused", "status 302"),
        ("other subject", of(with(reader(), "sub", json!("client:admin"))), "exchange_refused", "another caller"),
        ("other issuer", of(with(reader(), "iss", json!("https://else"))), "exchange_refused", "another caller"),
        ("bound", of(with(reader(), "cnf", json!({"jkt": "x"}))), "exchange_refused", "bound"),
        ("no end", of(without_end), "exchange_refused", "when it ends"),
        ("over", of(with(reader(), "exp", json!(NOW + 5))), "exchange_refused", "ended"),
        ("DPoP", body(&|body| body["token_type"] = json!("DPoP")), "exchange_refused", "no bearer token"),
        ("over already", body(&|body| body["expires_in"] = json!(5)), "exchange_refused", "ended"),
        ("no JWT", body(&|body| body["access_token"] = json!("hunter2\r\nx: y")), "exchange_refused", "no JWT"),
        (
            "no token",
            body(&|body| drop(body.as_object_mut().unwrap().remove("access_token"))),
            "exchange_refused",
            "no token response",
        ),
        ("garbage", Act::Answer(200, "<html>".to_owned()), "exchange_refused", "no token response"),
        ("too large", Act::Answer(200, "x".repeat(17 * 1024)), "exchange_unavailable", "larger than"),
        ("503", Act::Answer(503, "hunter2".to_owned()), "exchange_unavailable", "status 503"),
        ("429", Act::Answer(429, String::new()), "exchange_unavailable", "status 429"),
        ("cut", Act::Cut, "exchange_unavailable", "cannot reach"),
    ] {
        let endpoint = Endpoint::start(act).await;
        let world = world(&issuer, endpoint.address, PATIENCE).await;
        let (answer, line) = world.ask(&[("x-api-key", &key(1))]).await;
        assert_eq!((answer.status, line["reason"].as_str()), (401, Some(reason)), "{name}: {line}");
        let said = line["detail"].as_str().unwrap();
        assert!(said.contains(detail) && !said.contains("hunter2") && !said.contains("eyJ"), "{name}: {said}");
        assert_eq!(line["client_id"], "reader", "{name}");
    }
    // Nobody is there, and somebody is who says nothing.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = Endpoint::start(Act::Silence).await;
    for (address, detail) in [(nobody, "cannot reach"), (silent.address, "no token in 200 ms")] {
        let wait = if address == nobody { PATIENCE } else { Duration::from_millis(200) };
        let (answer, line) = world(&issuer, address, wait).await.ask(&[("x-api-key", &key(1))]).await;
        assert_eq!((answer.status, &line["reason"]), (401, &json!("exchange_unavailable")), "{line}");
        assert!(line["detail"].as_str().unwrap().contains(detail), "{line}");
    }
}

#[tokio::test]
async fn a_failure_rests_for_its_key_alone() {
    let (world, endpoint, issuer) = good().await;
    for (act, reason, rest) in [
        (Act::Answer(503, String::new()), "exchange_unavailable", RETRY_AFTER),
        (Act::Answer(400, "{}".to_owned()), "exchange_refused", REFUSED_FOR),
    ] {
        endpoint.act(act);
        let before = endpoint.visits().len();
        for _ in 0..3 {
            let (_, line) = world.ask(&[("x-api-key", &key(1))]).await;
            assert_eq!(line["reason"], reason);
        }
        assert_eq!(endpoint.visits().len(), before + 1);
        endpoint.act(token(&issuer));
        let other = if rest == RETRY_AFTER { 2 } else { 3 };
        assert_eq!(world.ask(&[("x-api-key", &key(other))]).await.0.status, 200, "another key");
        world.clock.advance(Duration::from_secs(rest - 1));
        assert_eq!(world.ask(&[("x-api-key", &key(1))]).await.1["reason"], reason);
        world.clock.advance(Duration::from_secs(1));
        if rest == REFUSED_FOR {
            assert_eq!(world.ask(&[("x-api-key", &key(1))]).await.0.status, 200);
        }
    }
}

#[tokio::test]
async fn while_the_issuer_is_down_what_is_held_serves_until_its_end() {
    let (world, endpoint, _issuer) = good().await;
    let key = key(1);
    assert_eq!(world.ask(&[("x-api-key", &key)]).await.0.status, 200);
    endpoint.act(Act::Answer(503, String::new()));
    world.clock.set(NOW + 594);
    let (answer, line) = world.ask(&[("x-api-key", &key)]).await;
    assert_eq!(answer.status, 200, "{line}");
    endpoint.visited(2).await;
    world.clock.set(NOW + 599);
    let (answer, line) = world.ask(&[("x-api-key", &key)]).await;
    assert_eq!((answer.status, &line["reason"]), (401, &json!("exchange_unavailable")));
}

#[tokio::test]
async fn what_is_due_is_renewed_aside_and_a_refusal_ends_it() {
    let (world, endpoint, issuer) = good().await;
    let key = key(1);
    let first = world.ask(&[("x-api-key", &key)]).await.0.set["authorization"].clone();
    world.clock.set(NOW + 540);
    endpoint.act(Act::Answer(200, response(&issuer, &with(reader(), "exp", json!(NOW + 1_140)))));
    assert_eq!(world.ask(&[("x-api-key", &key)]).await.0.set["authorization"], first, "nobody waits");
    let until = async |wanted: &dyn Fn(i32, Option<&String>) -> bool| {
        loop {
            let (answer, _) = world.ask(&[("x-api-key", &key)]).await;
            if wanted(answer.status, answer.set.get("authorization")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let is_renewed = |status: i32, bearer: Option<&String>| status == 200 && bearer != Some(&first);
    tokio::time::timeout(PATIENCE, until(&is_renewed)).await.unwrap();
    assert_eq!(endpoint.visits().len(), 2);
    // The issuer would not give it any more: what is held ends at once.
    world.clock.set(NOW + 1_100);
    endpoint.act(Act::Answer(400, "{}".to_owned()));
    let is_denied = |status: i32, _: Option<&String>| status == 401;
    tokio::time::timeout(PATIENCE, until(&is_denied)).await.unwrap();
    assert_eq!(world.ask(&[("x-api-key", &key)]).await.1["reason"], "exchange_refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_with_one_key_are_one_exchange() {
    let issuer = Issuer::new();
    let gate = Arc::new(Semaphore::new(0));
    let endpoint = Endpoint::start(Act::Hold(gate.clone(), response(&issuer, &reader()))).await;
    let world = world(&issuer, endpoint.address, PATIENCE).await;
    let ask = || {
        let (adapter, key) = (world.adapter.clone(), key(1));
        tokio::spawn(async move { adapter.check(common::check("/ratings/0", &[("x-api-key", &key)])).await })
    };
    let waiting: Vec<_> = (0..50).map(|_| ask()).collect();
    endpoint.visited(1).await;
    // One that is given up does not take it from the others.
    waiting[0].abort();
    gate.add_permits(50);
    for (index, asked) in waiting.into_iter().enumerate() {
        if let Ok(answer) = asked.await {
            assert_eq!(common::Answer::from(answer).status, 200);
        } else {
            assert_eq!(index, 0);
        }
    }
    assert_eq!(endpoint.visits().len(), 1);
}

/// The key is checked first: its record is read again after a minute, however long its token lives.
#[tokio::test]
async fn a_revoked_key_does_not_live_on_in_its_token() {
    let (world, endpoint, _issuer) = good().await;
    let key = key(1);
    assert_eq!(world.ask(&[("x-api-key", &key)]).await.0.status, 200);
    ApiKeys::put(&*world.store, &record(1, KeyState::Revoked)).await.unwrap();
    world.clock.advance(platform::api_keys::FRESH_FOR);
    let (answer, line) = world.ask(&[("x-api-key", &key)]).await;
    assert_eq!((answer.status, &line["reason"]), (401, &json!("api_key_revoked")));
    assert_eq!(endpoint.visits().len(), 1);
}

#[tokio::test]
async fn metrics_say_how_exchanges_went() {
    let (world, endpoint, _issuer) = good().await;
    for _ in 0..3 {
        world.ask(&[("x-api-key", &key(1))]).await;
    }
    world.ask(&[]).await;
    endpoint.act(Act::Answer(503, String::new()));
    for _ in 0..2 {
        world.ask(&[("x-api-key", &key(2))]).await;
    }
    let text = world.adapter.metrics();
    for expected in [
        r#"causeway_decisions_total{verdict="allow",reason="allowed_by_policy"} 3"#,
        r#"causeway_decisions_total{verdict="deny",reason="no_credential"} 1"#,
        r#"causeway_decisions_total{verdict="deny",reason="exchange_unavailable"} 2"#,
        r#"causeway_decisions_total{verdict="deny",reason="internal"} 0"#,
        r#"causeway_decision_duration_seconds_count{verdict="allow"} 3"#,
        r#"causeway_decision_duration_seconds_bucket{verdict="deny",le="+Inf"} 3"#,
        r#"causeway_exchanges_total{outcome="issued"} 1"#,
        r#"causeway_exchanges_total{outcome="cached"} 2"#,
        r#"causeway_exchanges_total{outcome="unavailable"} 1"#,
        r#"causeway_exchanges_total{outcome="paused"} 1"#,
        r#"causeway_cache_entries{cache="exchanged_tokens"} 2"#,
        r#"causeway_cache_entries{cache="api_keys"} 2"#,
        r#"causeway_api_key_lookups_total{outcome="miss"} 2"#,
        r#"causeway_jwks_total{state="failed"} 0"#,
        "causeway_bundle_generation 1",
        r#"causeway_bundle_reloads_total{outcome="failed"} 0"#,
        "causeway_checks_refused_total 0",
    ] {
        assert!(text.lines().any(|line| line == expected), "{expected}\n{text}");
    }
    assert!(!text.contains("reader") && !text.contains("ratings"), "no client and no path: {text}");
}
