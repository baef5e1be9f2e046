//! API keys, as administrators make, rotate and revoke them, and as whoever finds one reports it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::duplicate_mod)]

#[path = "common/admin.rs"]
mod admin;
mod common;

use std::time::Duration;

use admin::AdminWorld;
use authz::{ApiKey, ApiKeyRecord, Claims, Decision, Given, KeyRecordLookup, KeySets, Request, Target};
use common::grants::{REFRESH_TOKEN, as_client, exchange, full_client, token_in};
use common::{CLIENT, NOW, PEPPER, PUBLIC_API, SECRET, event};
use identity::secret::Secret;
use serde_json::{Value, json};

const DOOR: &str = "
apiVersion: causeway.dev/v1alpha1
kind: ApiKeyAuthentication
metadata: { name: keys, namespace: bookinfo }
spec: { issuer: https://issuer.bookinfo.example }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: keys, namespace: bookinfo }
spec: { rules: [{ from: [{ source: { requestPrincipals: ['https://issuer.bookinfo.example/*'] } }] }] }
";

/// What the doors of the services say about a key: the same records, by the same code as authorizer and adapter.
async fn opens(world: &AdminWorld, value: &str) -> Result<Option<String>, String> {
    let policies = admin::policies(DOOR);
    let key = ApiKey::parse(value).unwrap();
    let table = world.world.directory.store.table("api_keys");
    let record = table.get(key.id()).await.unwrap();
    let lookup = record.map_or(KeyRecordLookup::NotFound, |record| {
        KeyRecordLookup::Found(serde_json::from_str::<ApiKeyRecord>(&record.json).unwrap())
    });
    let request = Request {
        method: "GET".to_owned(),
        scheme: "https".to_owned(),
        host: "reviews".to_owned(),
        path: "/".to_owned(),
        headers: vec![("x-api-key".to_owned(), value.to_owned())],
        ..Request::default()
    };
    let target =
        Target::Workload { namespace: "bookinfo".to_owned(), labels: Vec::new(), environment: Some("dev".to_owned()) };
    let given = Given {
        keys: &KeySets::embedded(&policies).unwrap(),
        api_key: Some(&lookup),
        pepper: Some(&Secret::new(PEPPER.as_bytes().to_vec())),
        revocations: authz::Revocations::NotKept,
        providers: None,
        verified: None,
        now: platform::clock::Clock::unix(world.world.clock.as_ref()),
    };
    match authz::decide(&policies, &request, &target, &given) {
        Decision::Allow(allow) => Ok(allow.claims().and_then(Claims::scope).map(str::to_owned)),
        Decision::Deny(deny) => Err(deny.reason.to_string()),
    }
}

fn path(id: &str, more: &str) -> String {
    format!("/v1/api-keys/{id}{more}")
}

#[tokio::test]
async fn from_creation_to_deletion() {
    let world = AdminWorld::new().await;
    let (id, value) = world.new_key(json!({"name": "nightly", "expires_at": NOW + 1_000_000})).await;
    assert_eq!(opens(&world, &value).await, Ok(Some("reviews.read".to_owned())));
    let change = world.changes().pop().unwrap();
    assert_eq!(change["change"]["action"], "api_key_created");
    assert_eq!((&change["change"]["id"], &change["change"]["after"]["name"]), (&json!(id), &json!("nightly")));

    let read = world.call("GET", &path(&id, ""), None).await;
    assert_eq!(read.json()["scopes"], json!(["reviews.read"]));
    assert!(read.json()["api_key"].is_null() && !read.body().contains(&value), "{read:?}");

    let change = async |body: Value| world.call("PATCH", &path(&id, ""), Some(body)).await;
    assert_eq!(change(json!({"state": "disabled"})).await.status(), 200);
    assert_eq!(opens(&world, &value).await, Err("api_key_revoked".to_owned()));
    assert_eq!(change(json!({"state": "active", "name": null, "expires_at": null})).await.status(), 200);
    assert!(opens(&world, &value).await.is_ok());

    let revoked = world.call("POST", &path(&id, "/revoke"), None).await;
    assert_eq!((revoked.status(), revoked.json()["state"].clone()), (200, json!("revoked")));
    assert_eq!(world.call("POST", &path(&id, "/revoke"), Some(json!({}))).await.status(), 200, "twice is once");
    assert_eq!(opens(&world, &value).await, Err("api_key_revoked".to_owned()));
    for (method, more, body) in [("PATCH", "", Some(json!({"state": "active"}))), ("POST", "/rotate", None)] {
        let answer = world.call(method, &path(&id, more), body).await;
        assert_eq!((answer.status(), answer.error().as_str()), (409, "key_revoked"));
    }
    assert_eq!(world.call("DELETE", &path(&id, ""), None).await.status(), 204);
    assert_eq!(opens(&world, &value).await, Err("api_key_unknown".to_owned()));
    for (method, more) in [("GET", ""), ("DELETE", ""), ("POST", "/rotate"), ("POST", "/revoke")] {
        assert_eq!(world.call(method, &path(&id, more), None).await.status(), 404, "{method} {more}");
    }
}

#[tokio::test]
async fn two_values_are_live_for_as_long_as_the_overlap() {
    let world = AdminWorld::new().await;
    let (id, first) = world.new_key(json!({})).await;
    let rotate = async |body: Value| world.call("POST", &path(&id, "/rotate"), Some(body)).await;
    let rotated = rotate(json!({"overlap_seconds": 100})).await;
    let second = rotated.json()["api_key"].as_str().unwrap().to_owned();
    assert_eq!((rotated.status(), rotated.json()["previous_value_ends_at"].clone()), (200, json!(NOW + 100)));
    assert_eq!(ApiKey::parse(&second).unwrap().id(), id);
    assert!(opens(&world, &first).await.is_ok() && opens(&world, &second).await.is_ok());
    world.world.clock.advance(Duration::from_secs(99));
    assert!(opens(&world, &first).await.is_ok());
    world.world.clock.advance(Duration::from_secs(1));
    assert_eq!(opens(&world, &first).await, Err("api_key_expired".to_owned()));
    assert!(opens(&world, &second).await.is_ok());

    // Never three: the one before the last ends at once.
    let third = rotate(json!({})).await.json()["api_key"].as_str().unwrap().to_owned();
    let fourth = rotate(json!({})).await.json()["api_key"].as_str().unwrap().to_owned();
    assert_eq!(opens(&world, &second).await, Err("api_key_unknown".to_owned()));
    assert!(opens(&world, &third).await.is_ok() && opens(&world, &fourth).await.is_ok());
    // And without an overlap, one.
    let fifth = rotate(json!({"overlap_seconds": 0})).await.json()["api_key"].as_str().unwrap().to_owned();
    assert_eq!(opens(&world, &fourth).await, Err("api_key_unknown".to_owned()));
    assert!(opens(&world, &fifth).await.is_ok());
    assert_eq!(rotate(json!({"overlap_seconds": 30 * 86_400 + 1})).await.status(), 400);
}

#[tokio::test]
async fn what_a_key_cannot_be() {
    let world = AdminWorld::new().await;
    let good = json!({"environment": "dev", "client_id": CLIENT});
    for (more, named) in [
        (json!({"environment": null}), "environment: is missing"),
        (json!({"environment": "DEV"}), "environment"),
        (json!({"client_id": "nobody"}), "client_id: there is no such client"),
        (json!({"scopes": ["issuer.admin"]}), "scopes[0]: is none of the client's"),
        (json!({"audiences": ["elsewhere"]}), "audiences[0]: is none of the client's"),
        (json!({"expires_at": NOW}), "expires_at"),
        (json!({"expires_at": NOW + 10, "not_before": NOW + 10}), "not_before"),
        (json!({"expires_at": -1}), "expires_at"),
        (json!({"name": ""}), "name"),
        (json!({"name": "x".repeat(129)}), "name"),
        (json!({"usage_plan": "a/b"}), "usage_plan"),
        (json!({"state": "active"}), "state: unknown here"),
    ] {
        let mut body = good.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = world.call("POST", "/v1/api-keys", Some(body)).await;
        assert_eq!(answer.status(), 400, "{more}");
        let said = answer.json()["error_description"].to_string();
        assert!(said.contains(named), "{said}");
    }
    let page = world.call("GET", "/v1/api-keys", None).await.json();
    assert_eq!(page, json!({"api_keys": [], "next": null}), "nothing was half made");
    world.world.directory.out.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(world.call("POST", "/v1/api-keys", Some(good)).await.status(), 503);
}

#[tokio::test]
async fn a_list_is_of_one_client() {
    let world = AdminWorld::new().await;
    let (first, _) = world.new_key(json!({})).await;
    let (other, _) = world.new_key(json!({"client_id": "admin", "scopes": ["other"], "audiences": []})).await;
    let ids = async |query: &str| {
        let page = world.call("GET", &format!("/v1/api-keys{query}"), None).await.json();
        let keys = page["api_keys"].as_array().unwrap().clone();
        keys.iter().map(|key| key["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids("?client_id=admin").await, [other]);
    assert_eq!(ids("?client_id=reader").await, [first]);
    assert_eq!(ids("").await.len(), 2);
}

#[tokio::test]
async fn a_version_that_is_old_changes_nothing() {
    let world = AdminWorld::new().await;
    let (id, value) = world.new_key(json!({})).await;
    for (method, more, body) in [
        ("PATCH", "", Some(json!({"name": "x"}))),
        ("POST", "/rotate", None),
        ("POST", "/revoke", None),
        ("DELETE", "", None),
    ] {
        let mut event = world.event(method, &path(&id, more), body);
        event["headers"]["if-match"] = json!("\"7\"");
        assert_eq!(world.send(event).await.status(), 412, "{method} {more}");
    }
    assert!(opens(&world, &value).await.is_ok());
}

/// A report by somebody who has nothing but what was found.
async fn report(world: &AdminWorld, credential: &str) -> common::Answer {
    let mut event = event(PUBLIC_API, "POST", "/v1/leaks");
    event["headers"]["content-type"] = json!("application/json");
    event["body"] = json!(json!({"credential": credential, "url": "https://git.example/a?token=hunter2"}).to_string());
    world.send(event).await
}

#[tokio::test]
async fn a_leak_is_revoked_and_nobody_learns_whether_it_was_one() {
    let world = AdminWorld::new().await;
    let (id, value) = world.new_key(json!({})).await;
    let other = ApiKey::generate_for("dev", &id, &[1; 48]).unwrap();
    world.changes();
    let unknown = ApiKey::generate("dev", &[1; 48]).unwrap();
    let mut answers = Vec::new();
    for credential in [other.text().expose().as_str(), unknown.text().expose(), "cwk_dev_nonsense", "a.b.c", ""] {
        answers.push(report(&world, credential).await.0);
    }
    assert!(opens(&world, &value).await.is_ok(), "another value of the same id proves nothing");
    assert_eq!(world.world.lines.drain(), Vec::<String>::new());
    answers.push(report(&world, &format!(" {value}\n")).await.0);
    let change = world.changes().pop().unwrap();
    assert_eq!((&change["event"], &change["change"]["id"]), (&json!("leak_reported"), &json!(id)));
    assert_eq!(change["change"]["after"]["url"], "https://git.example/a");
    answers.push(report(&world, &value).await.0);
    assert_eq!(opens(&world, &value).await, Err("api_key_revoked".to_owned()));
    answers.push(report(&world, &world.token).await.0);
    assert_eq!(answers[0]["statusCode"], 202);
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    assert_eq!(world.call("GET", "/v1/clients", None).await.status(), 401, "the token was revoked");
}

#[tokio::test]
async fn reports_are_bounded() {
    let world = AdminWorld::new().await;
    assert_eq!(report(&world, &"x".repeat(8 * 1024 + 1)).await.status(), 400);
    let unknown = ApiKey::generate("dev", &[1; 48]).unwrap();
    let from = async |ip: &str, credential: &str| {
        let mut event = event(PUBLIC_API, "POST", "/v1/leaks");
        event["headers"]["content-type"] = json!("application/json");
        event["body"] = json!(json!({"credential": credential}).to_string());
        event["requestContext"]["http"]["sourceIp"] = json!(ip);
        world.send(event).await.status()
    };
    let mut last = 202;
    for place in 0..21 {
        assert_eq!(from("192.0.2.1", "nonsense").await, 202, "it costs nothing");
        last = from(&format!("2001:db8::{place}"), unknown.text().expose()).await;
    }
    assert_eq!(last, 429);
    assert_eq!(from("192.0.2.1", unknown.text().expose()).await, 202, "nobody else is kept from reporting");
    world.world.clock.advance(Duration::from_secs(1));
    assert_eq!(from("2001:db8::1", unknown.text().expose()).await, 202);
}

/// Whoever shows the refresh token that may be used holds the family; one that was used before proves no more than
/// that.
#[tokio::test]
async fn a_leaked_refresh_token_ends_its_family() {
    let world = AdminWorld::new().await;
    world.world.directory.put(&full_client("a")).await;
    let subject = world.world.token("a", &[]).await;
    let refresh = token_in(&world.send(exchange("a", &subject, &[("requested_token_type", REFRESH_TOKEN)])).await);
    let used =
        |token: &str| as_client("a", "/oauth2/token", &[("grant_type", "refresh_token"), ("refresh_token", token)]);
    let answer = world.send(used(&refresh)).await;
    let (access, next) = (token_in(&answer), answer.json()["refresh_token"].as_str().unwrap().to_owned());
    world.changes();
    let nonsense = report(&world, "nonsense").await.0;
    assert_eq!(report(&world, &refresh).await.0, nonsense);
    assert!(world.changes().is_empty());
    let next_answer = world.send(used(&next)).await;
    let last = next_answer.json()["refresh_token"].as_str().unwrap().to_owned();
    world.changes();
    assert_eq!(report(&world, &last).await.0, nonsense);
    let change = world.changes().pop().unwrap();
    assert_eq!(change["change"]["action"], "refresh_tokens_revoked");
    assert!(!change.to_string().contains(&last[40..]));
    assert_eq!(world.send(used(&last)).await.error(), "invalid_grant");
    assert_eq!(world.send(exchange("a", &access, &[])).await.error(), "invalid_request", "what came out of it ended");
}

/// What takes something from a key is taken whatever became of its client; what gives it something is not.
#[tokio::test]
async fn a_key_of_a_stopped_client_can_be_stopped() {
    let world = AdminWorld::new().await;
    let (id, _) = world.new_key(json!({"expires_at": NOW + 1_000})).await;
    let mut client = common::client(CLIENT, &[SECRET]);
    client.state = key_issuer::ClientState::Disabled;
    world.world.directory.put(&client).await;
    for (body, status) in [
        (json!({"state": "disabled"}), 200),
        (json!({"expires_at": NOW + 900}), 200),
        (json!({"name": "stopped"}), 200),
        (json!({"state": "active"}), 400),
        (json!({"expires_at": NOW + 1_000}), 400),
        (json!({"expires_at": null}), 400),
        (json!({"state": "disabled", "scopes": ["reviews.read"]}), 400),
        (json!({"audiences": []}), 400),
    ] {
        let answer = world.call("PATCH", &path(&id, ""), Some(body.clone())).await;
        assert_eq!(answer.status(), status, "{body}: {answer:?}");
    }
}

/// A value that a rotation has replaced is no reason to stop what replaced it.
#[tokio::test]
async fn a_leak_of_a_former_value_ends_that_value_alone() {
    let world = AdminWorld::new().await;
    let (id, first) = world.new_key(json!({})).await;
    let rotate = async |body: Value| {
        let rotated = world.call("POST", &path(&id, "/rotate"), Some(body)).await;
        rotated.json()["api_key"].as_str().unwrap().to_owned()
    };
    let second = rotate(json!({"overlap_seconds": 100})).await;
    world.changes();
    assert_eq!(report(&world, &first).await.status(), 202);
    let change = world.changes().pop().unwrap();
    assert_eq!((&change["event"], &change["change"]["id"]), (&json!("leak_reported"), &json!(id)));
    assert_eq!(change["change"]["action"], "api_key_value_ended");
    assert_eq!(opens(&world, &first).await, Err("api_key_unknown".to_owned()));
    assert!(opens(&world, &second).await.is_ok(), "the key goes on");
    // What has ended is nothing any more.
    assert_eq!(report(&world, &first).await.status(), 202);
    let third = rotate(json!({"overlap_seconds": 100})).await;
    world.world.clock.advance(Duration::from_secs(100));
    world.changes();
    assert_eq!(report(&world, &second).await.status(), 202);
    assert!(world.changes().is_empty());
    assert!(opens(&world, &third).await.is_ok(), "the key goes on");
    assert_eq!(report(&world, &third).await.status(), 202);
    assert_eq!(opens(&world, &third).await, Err("api_key_revoked".to_owned()));
}

#[tokio::test]
async fn an_outage_does_not_tell_what_was_good() {
    let world = AdminWorld::new().await;
    let (one, other) = (report(&world, "a.b.c").await, format!("{}x", world.token));
    world.world.directory.out.store(true, std::sync::atomic::Ordering::Relaxed);
    world.world.lines.drain();
    assert_eq!(report(&world, &other).await.0, one.0);
    assert!(world.world.lines.drain().is_empty());
    assert_eq!(report(&world, &world.token).await.0, one.0);
    let alarm = world.world.lines.drain().into_iter().find(|line| line.contains("leak_not_revoked"));
    assert!(alarm.is_some_and(|line| !line.contains(&world.token)));
    // Keys cannot be told apart without their table.
    let unknown = ApiKey::generate("dev", &[1; 48]).unwrap();
    assert_eq!(report(&world, unknown.text().expose()).await.status(), 503);
}

/// Whoever revoked a key may have been interrupted before it was on the list.
#[tokio::test]
async fn a_revoked_key_is_put_on_the_list_again() {
    let world = AdminWorld::new().await;
    let mut keys = Vec::new();
    for _ in 0..2 {
        let (id, value) = world.new_key(json!({})).await;
        let table = world.world.directory.store.table(platform::store::API_KEYS);
        let json = table.get(&id).await.unwrap().unwrap().json;
        let mut record: authz::ApiKeyRecord = serde_json::from_str(&json).unwrap();
        record.state = authz::KeyState::Revoked;
        world.world.put_key(&id, &record).await;
        keys.push((id, value));
    }
    let listed = async || world.world.directory.store.table("revocations").page(None, 10).await.unwrap().records.len();
    assert_eq!(listed().await, 0);
    world.changes();
    assert_eq!(report(&world, &keys[0].1).await.status(), 202);
    assert_eq!((listed().await, world.changes().len()), (1, 0), "nothing has changed but that");
    assert_eq!(world.call("DELETE", &format!("/v1/clients/{CLIENT}"), None).await.status(), 204);
    assert_eq!(listed().await, 3, "both keys, and the client's tokens");
}
