//! OAuth clients, as administrators make and change them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::duplicate_mod)]

#[path = "common/admin.rs"]
mod admin;
mod common;

use admin::AdminWorld;
use common::{CLIENT, IAM_URL, NOW, ROLE_SESSION, basic, iam_event, token_event};
use serde_json::{Value, json};

async fn status_of_token(world: &AdminWorld, client: &str, secret: &str) -> u64 {
    let mut event = token_event("grant_type=client_credentials");
    event["headers"]["Authorization"] = json!(basic(client, secret));
    world.send(event).await.status()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn from_the_first_secret_to_the_end() {
    let world = AdminWorld::new().await;
    let body = json!({"client_id": "partner", "scopes": ["orders.read"], "audiences": ["orders"]});
    let made = world.call("POST", "/v1/clients", Some(body.clone())).await;
    assert_eq!((made.status(), made.header("ETag")), (201, Some(format!("\"{NOW}.1\"").as_str())), "{made:?}");
    let first = text(&made.json()["client_secret"]);
    assert_eq!(first.len(), 43, "256 bits in base64url");
    assert_eq!(made.json()["secrets"], 1);
    assert!(text(&made.json()["created_by"]).starts_with("https://issuer.bookinfo.example/"));
    let change = world.changes().pop().unwrap();
    assert_eq!((&change["event"], &change["change"]["action"]), (&json!("admin_change"), &json!("client_created")));
    assert_eq!(change["change"]["after"]["scopes"], json!(["orders.read"]));
    assert!(change["principal"].is_string() && change["policy"].is_string(), "{change}");
    assert_eq!(world.call("POST", "/v1/clients", Some(body)).await.status(), 409);
    assert_eq!(status_of_token(&world, "partner", &first).await, 200);

    // A second secret beside the first; a third takes the place of the first.
    let add = |body| world.call("POST", "/v1/clients/partner/secrets", body);
    let second = text(&add(None).await.json()["client_secret"]);
    assert_eq!(status_of_token(&world, "partner", &first).await, 200);
    assert_eq!(status_of_token(&world, "partner", &second).await, 200);
    let third = text(&add(Some(json!({}))).await.json()["client_secret"]);
    assert_eq!(status_of_token(&world, "partner", &first).await, 401);
    assert_eq!(status_of_token(&world, "partner", &second).await, 200);
    let last = add(Some(json!({"revoke_others": true}))).await;
    assert_eq!(last.json()["secrets"], 1);
    for (secret, status) in [(&second, 401), (&third, 401), (&text(&last.json()["client_secret"]), 200)] {
        assert_eq!(status_of_token(&world, "partner", secret).await, status);
    }

    // Reading never shows a secret again.
    let read = world.call("GET", "/v1/clients/partner", None).await;
    assert_eq!((read.status(), read.json()["client_secret"].is_null()), (200, true));
    let version = read.header("ETag").unwrap().to_owned();
    let disable = |etag: &str| {
        let mut event = world.event("PATCH", "/v1/clients/partner", Some(json!({"state": "disabled"})));
        event["headers"]["if-match"] = json!(etag);
        event
    };
    assert_eq!(world.send(disable("\"1\"")).await.status(), 412);
    assert_eq!(world.send(disable(&format!("W/{version}"))).await.status(), 412);
    world.changes();
    let disabled = world.send(disable(&version)).await;
    assert_eq!((disabled.status(), disabled.json()["state"].clone()), (200, json!("disabled")));
    let change = world.changes().pop().unwrap();
    assert_eq!(change["change"]["before"]["state"], "active");
    assert_eq!(change["change"]["after"]["state"], "disabled");
    assert_eq!(status_of_token(&world, "partner", &text(&last.json()["client_secret"])).await, 401);

    assert_eq!(world.call("DELETE", "/v1/clients/partner", None).await.status(), 204);
    for (method, path) in [
        ("GET", "/v1/clients/partner"),
        ("PATCH", "/v1/clients/partner"),
        ("DELETE", "/v1/clients/partner"),
        ("POST", "/v1/clients/partner/secrets"),
    ] {
        let body = (method == "PATCH").then(|| json!({"state": "active"}));
        assert_eq!(world.call(method, path, body).await.status(), 404, "{method} {path}");
    }
}

#[tokio::test]
async fn deleting_a_client_revokes_its_keys() {
    let world = AdminWorld::new().await;
    let (key, _) = world.new_key(json!({})).await;
    assert_eq!(world.call("DELETE", &format!("/v1/clients/{CLIENT}"), None).await.status(), 204);
    let read = world.call("GET", &format!("/v1/api-keys/{key}"), None).await;
    assert_eq!(read.json()["state"], "revoked");
}

/// A deletion that ends half-way has changed the client already, and its line says so.
#[tokio::test]
async fn a_deletion_that_fails_says_what_it_has_changed() {
    let world = AdminWorld::new().await;
    let table = world.world.directory.store.table(platform::store::API_KEYS);
    table.put("damaged", "{}", None, platform::table::Only::Absent { now: 0 }).await.unwrap();
    world.changes();
    assert_eq!(world.call("DELETE", &format!("/v1/clients/{CLIENT}"), None).await.status(), 503);
    let [line] = world.changes().try_into().unwrap();
    assert_eq!((&line["event"], &line["change"]["action"]), (&json!("request_refused"), &json!("client_disabled")));
    assert_eq!(line["change"]["after"]["state"], "disabled");
}

#[tokio::test]
async fn a_change_merges_the_named_members() {
    let world = AdminWorld::new().await;
    let path = format!("/v1/clients/{CLIENT}");
    let before = world.call("GET", &path, None).await.json();
    let body = json!({"token_algorithm": "ES256", "token_ttl_seconds": 120, "dpop_bound_access_tokens": true});
    let after = world.call("PATCH", &path, Some(body)).await.json();
    assert_eq!((&after["scopes"], &after["secrets"]), (&before["scopes"], &before["secrets"]));
    assert_eq!((&after["token_algorithm"], &after["token_ttl_seconds"]), (&json!("ES256"), &json!(120)));
    let body = json!({"token_algorithm": null, "token_ttl_seconds": null, "dpop_bound_access_tokens": false});
    let restored = world.call("PATCH", &path, Some(body)).await;
    assert_eq!((restored.status(), restored.json()), (200, before));
}

#[tokio::test]
async fn what_a_client_cannot_be() {
    let world = AdminWorld::new().await;
    let public = json!({"kty": "EC", "crv": "P-256", "kid": "a",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
    let mut private = public.clone();
    private["d"] = json!("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI");
    let jwt = |jwks: Value| json!({"authentication": "private_key_jwt", "jwks": jwks});
    for (body, named) in [
        (json!({"client_id": ""}), "client_id"),
        (json!({"client_id": "a/b"}), "client_id"),
        (json!({"client_id": "..".to_owned()}), "client_id"),
        (json!({"client_id": "x".repeat(129)}), "client_id"),
        (json!({"scopes": ["a b"]}), "scopes[0]"),
        (json!({"scopes": ["a", "a"]}), "scopes[1]: is there twice"),
        (json!({"scopes": (0..101).map(|n| n.to_string()).collect::<Vec<_>>()}), "scopes: expected at most 100"),
        (json!({"audiences": [""]}), "audiences[0]"),
        (json!({"grants": ["password"]}), "grants[0]"),
        (json!({"token_ttl_seconds": 59}), "token_ttl_seconds"),
        (json!({"token_ttl_seconds": 3601}), "token_ttl_seconds"),
        (json!({"token_algorithm": "HS256"}), "token_algorithm"),
        (json!({"state": "gone"}), "state"),
        (json!({"authentication": "none"}), "authentication"),
        (json!({"authentication": "iam"}), "registry"),
        (json!({"jwks": {"keys": [public]}}), "jwks: expected none"),
        (json!({"authentication": "private_key_jwt"}), "jwks: is missing"),
        (jwt(json!({"keys": []})), "jwks"),
        (jwt(json!({"keys": [private]})), "private member d"),
        (jwt(json!({"keys": [{"kty": "oct", "k": "AAAA"}]})), "private member k"),
        (jwt(json!({"keys": [{"kty": "XX"}]})), "jwks"),
        (json!({"authentication": "self_signed_tls_client_auth", "jwks": {"keys": [public]}}), "x5c"),
        (json!({"authentication": "tls_client_auth"}), "certificate: is missing"),
        (json!({"authentication": "tls_client_auth", "certificate": {"san_dns": "a", "san_uri": "b"}}), "exactly one"),
        (json!({"authentication": "tls_client_auth", "certificate": {}}), "exactly one"),
        (json!({"authentication": "tls_client_auth", "certificate": {"san_ip": "a"}}), "certificate.san_ip"),
        (
            json!({"authentication": "tls_client_auth", "certificate": {"subject_dn": "reviews"}}),
            "certificate.subject_dn",
        ),
        (json!({"authentication": "tls_client_auth", "certificate": {"san_uri": "a b"}}), "certificate.san_uri"),
        (json!({"certificate": {"san_dns": "a"}}), "certificate: expected none"),
        (json!({"assertion_algorithms": ["ES256"]}), "assertion_algorithms"),
        (json!({"may_act": [""]}), "may_act[0]"),
    ] {
        let answer = world.call("POST", "/v1/clients", Some(body.clone())).await;
        assert_eq!((answer.status(), answer.error().as_str()), (400, "invalid_request"), "{body}");
        let said = answer.json()["error_description"].to_string();
        assert!(said.contains(named) && !said.contains("jpsQnn"), "{said}");
    }
    assert_eq!(world.changes().len(), 0);
    for body in [
        jwt(json!({"keys": [public]})),
        json!({"authentication": "tls_client_auth", "certificate": {"san_uri": "spiffe://a/ns/b/sa/c"}}),
    ] {
        let answer = world.call("POST", "/v1/clients", Some(body)).await;
        assert_eq!((answer.status(), answer.json()["client_secret"].is_null()), (201, true), "{answer:?}");
        let path = format!("/v1/clients/{}", text(&answer.json()["client_id"]));
        assert_eq!(world.call("POST", &format!("{path}/secrets"), None).await.status(), 409);
        let to_secret = json!({"authentication": "client_secret", "jwks": null, "certificate": null});
        assert_eq!(world.call("PATCH", &path, Some(to_secret)).await.status(), 400);
    }
}

#[tokio::test]
async fn lists_have_pages() {
    let world = AdminWorld::new().await;
    for place in 0..7 {
        let body = json!({"client_id": format!("c{place}")});
        assert_eq!(world.call("POST", "/v1/clients", Some(body)).await.status(), 201);
    }
    let (mut seen, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = world.call("GET", &format!("/v1/clients?limit=3{after}"), None).await.json();
        seen.extend(page["clients"].as_array().unwrap().iter().map(|client| text(&client["client_id"])));
        pages += 1;
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ["admin", "c0", "c1", "c2", "c3", "c4", "c5", "c6", "reader"]);
    assert!(pages >= 3, "{pages}");
    for query in ["limit=0", "limit=101", "limit=x", "limit=1&limit=2"] {
        assert_eq!(world.call("GET", &format!("/v1/clients?{query}"), None).await.status(), 400, "{query}");
    }
}

/// A record of a role's client that another proof than the role opens would close the IAM door to that role.
#[tokio::test]
async fn ids_of_roles_are_taken() {
    let world = AdminWorld::new().await;
    for body in [json!({"client_id": "bookinfo-reviews"}), json!({"client_id": "bookinfo-reviews", "scopes": ["a"]})] {
        let answer = world.call("POST", "/v1/clients", Some(body)).await;
        assert_eq!((answer.status(), answer.error().as_str()), (409, "already_exists"), "{answer:?}");
    }
    assert_eq!(world.call("GET", "/v1/clients/bookinfo-reviews", None).await.status(), 404, "nothing was made");
}

/// The record of a role's client adds to the registry: it can be disabled here, and not be deleted while the role is there.
#[tokio::test]
async fn a_client_of_a_role_can_be_stopped_and_stays_so() {
    let world = AdminWorld::new().await;
    let mut record = key_issuer::ClientRecord::new("bookinfo-reviews");
    record.authentication = key_issuer::Authentication::Iam;
    record.grants = vec!["client_credentials".to_owned()];
    world.world.directory.put(&record).await;
    let token = || {
        let mut event = iam_event(IAM_URL, "/oauth2/token", ROLE_SESSION);
        event["headers"]["content-type"] = json!("application/x-www-form-urlencoded");
        event["body"] = json!("grant_type=client_credentials");
        world.send(event)
    };
    assert_eq!(token().await.status(), 200);
    let path = "/v1/clients/bookinfo-reviews";
    let answer = world.call("PATCH", path, Some(json!({"state": "disabled"}))).await;
    assert_eq!((answer.status(), answer.json()["state"].clone()), (200, json!("disabled")), "{answer:?}");
    assert_eq!(token().await.status(), 403);
    let answer = world.call("DELETE", path, None).await;
    assert_eq!((answer.status(), answer.error().as_str()), (409, "in_registry"));
    assert_eq!(token().await.status(), 403, "it stays disabled");
    let other = world.call("PATCH", &format!("/v1/clients/{CLIENT}"), Some(json!({"authentication": "iam"}))).await;
    assert_eq!(other.status(), 400);
}

/// A change that was meant for a client does not fit the one that was made anew under its id.
#[tokio::test]
async fn a_client_that_is_made_again_is_another_one() {
    let world = AdminWorld::new().await;
    let make = async || world.call("POST", "/v1/clients", Some(json!({"client_id": "again"}))).await;
    let first = make().await.header("ETag").unwrap().to_owned();
    assert_eq!(world.call("DELETE", "/v1/clients/again", None).await.status(), 204);
    world.world.clock.advance(std::time::Duration::from_secs(1));
    let second = make().await.header("ETag").unwrap().to_owned();
    for (tag, status) in [(first, 412), ("\"1\"".to_owned(), 412), (second, 200)] {
        let mut event = world.event("PATCH", "/v1/clients/again", Some(json!({"state": "disabled"})));
        event["headers"]["if-match"] = json!(tag);
        assert_eq!(world.send(event).await.status(), status, "{tag}");
    }
}

/// Whatever is sent, the role keeps its door, and less never becomes all.
#[tokio::test]
async fn a_client_of_a_role_keeps_its_method_and_its_limits() {
    let world = AdminWorld::new().await;
    let path = "/v1/clients/bookinfo-reviews";
    let mut record = key_issuer::ClientRecord::new("bookinfo-reviews");
    record.authentication = key_issuer::Authentication::Iam;
    record.grants = vec!["client_credentials".to_owned()];
    (record.scopes, record.audiences) = (vec!["less".to_owned()], vec!["bookinfo".to_owned()]);
    world.world.directory.put(&record).await;
    let public = json!({"kty": "EC", "crv": "P-256", "kid": "a",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
    for (body, named) in [
        (json!({"authentication": "private_key_jwt", "jwks": {"keys": [public]}}), "authentication"),
        (json!({"authentication": "client_secret"}), "authentication"),
        (json!({"scopes": []}), "scopes"),
        (json!({"audiences": [], "scopes": ["a"]}), "audiences"),
    ] {
        let answer = world.call("PATCH", path, Some(body.clone())).await;
        let description = answer.json()["error_description"].as_str().unwrap_or_default().to_owned();
        assert!(answer.status() == 400 && description.contains(named), "{body}: {answer:?}");
    }
    assert_eq!(world.call("GET", path, None).await.json()["scopes"], json!(["less"]));
    let answer = world.call("PATCH", path, Some(json!({"scopes": ["other"], "authentication": "iam"}))).await;
    assert_eq!(answer.status(), 200, "{answer:?}");

    // A record that was written by hand with another method can be stopped, and set right.
    record.authentication = key_issuer::Authentication::PrivateKeyJwt;
    record.jwks = Some(json!({"keys": [public]}));
    world.world.directory.put(&record).await;
    assert_eq!(world.call("PATCH", path, Some(json!({"state": "disabled"}))).await.status(), 200);
    let back = json!({"authentication": "iam", "jwks": null, "state": "active"});
    let answer = world.call("PATCH", path, Some(back)).await;
    assert_eq!((answer.status(), answer.json()["authentication"].clone()), (200, json!("iam")), "{answer:?}");
}

/// Whichever of the two is faster, at each step of the other: no key is left that somebody could use.
#[tokio::test]
async fn a_key_that_is_made_while_its_client_is_deleted_opens_nothing() {
    let world = AdminWorld::new().await;
    // The key is written so slowly that the client is deleted meanwhile.
    world.world.directory.slow_keys.store(20, std::sync::atomic::Ordering::Relaxed);
    for later in 0..24 {
        let id = format!("short-lived-{later}");
        let client = json!({"client_id": id, "scopes": ["a"], "audiences": ["b"]});
        assert_eq!(world.call("POST", "/v1/clients", Some(client)).await.status(), 201);
        let key = json!({"environment": "dev", "client_id": id, "scopes": ["a"], "audiences": ["b"]});
        let delete = async {
            for _ in 0..later {
                tokio::task::yield_now().await;
            }
            world.call("DELETE", &format!("/v1/clients/{id}"), None).await
        };
        let (made, deleted) = tokio::join!(world.call("POST", "/v1/api-keys", Some(key)), delete);
        assert_eq!(deleted.status(), 204, "{later}: {deleted:?}");
        assert!([201, 400].contains(&made.status()), "{later}: {made:?}");
    }
    let table = world.world.directory.store.table(platform::store::API_KEYS);
    for (_, record) in table.page(None, 100).await.unwrap().records {
        assert!(record.json.contains("\"revoked\""), "{}", record.json);
    }
}
