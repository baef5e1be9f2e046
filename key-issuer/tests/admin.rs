//! Who may administrate.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::duplicate_mod)]

#[path = "common/admin.rs"]
mod admin;
mod common;

use admin::{ADMIN, ADMIN_SECRET, AdminWorld, POLICIES, token};
use common::grants::{API_KEY, REFRESH_TOKEN, TOKEN_EXCHANGE, body, exchange_key, token_in};
use common::keys::TestKey;
use common::{IAM_URL, ISSUER, NOW, PUBLIC_API, ROLE_SESSION, basic, event, iam_event, token_event};
use key_issuer::{Authentication, ClientRecord, ClientState};
use serde_json::{Value, json};

const EVERY_ROUTE: [(&str, &str); 14] = [
    ("GET", "/v1/clients"),
    ("POST", "/v1/clients"),
    ("GET", "/v1/clients/reader"),
    ("PATCH", "/v1/clients/reader"),
    ("DELETE", "/v1/clients/reader"),
    ("POST", "/v1/clients/reader/secrets"),
    ("GET", "/v1/api-keys"),
    ("POST", "/v1/api-keys"),
    ("GET", "/v1/api-keys/abc"),
    ("PATCH", "/v1/api-keys/abc"),
    ("DELETE", "/v1/api-keys/abc"),
    ("POST", "/v1/api-keys/abc/rotate"),
    ("POST", "/v1/api-keys/abc/revoke"),
    ("POST", "/v1/revocations"),
];

fn iam(method: &str, path: &str, session: &str) -> Value {
    let mut event = iam_event(IAM_URL, path, session);
    event["requestContext"]["http"]["method"] = json!(method);
    event
}

#[tokio::test]
async fn nobody_passes_without_a_policy_that_names_them() {
    // No bundle; an empty one; one that lets everybody else in; one whose only policy selects another workload.
    let other = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: other, namespace: causeway-system }
spec: { selector: { matchLabels: { app: other } }, rules: [{}] }
";
    let authentication = POLICIES.split("---").next().unwrap();
    let with_other = format!("{authentication}---{other}");
    for (yaml, named) in [(None, "not configured"), (Some(authentication), ""), (Some(with_other.as_str()), "")] {
        let world = AdminWorld::with(yaml).await;
        for (method, path) in EVERY_ROUTE.into_iter().chain([("GET", "/v1/signing-keys")]) {
            let answer = world.call(method, path, None).await;
            assert_eq!(answer.status(), 403, "{method} {path} {answer:?}");
            assert!(answer.body().contains(named), "{answer:?}");
            let line: Value = serde_json::from_str(&world.world.lines.drain().pop().unwrap()).unwrap();
            assert_eq!(line["event"], "request_refused", "{line}");
            let answer = world.send(iam(method, path, ROLE_SESSION)).await;
            assert_eq!(answer.status(), 403, "{method} {path} {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_policy_that_admits_everybody_admits_nobody_unknown() {
    let open = format!(
        "{}---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{ name: open, namespace: causeway-system }}
spec: {{ selector: {{ matchLabels: {{ app: key-issuer }} }}, rules: [{{}}] }}
",
        POLICIES.split("---").next().unwrap()
    );
    let world = AdminWorld::with(Some(&open)).await;
    assert_eq!(world.call("GET", "/v1/clients", None).await.status(), 200);
    let answer = world.send(event(PUBLIC_API, "GET", "/v1/clients")).await;
    assert_eq!(answer.status(), 401, "{answer:?}");
}

#[tokio::test]
async fn every_route_needs_a_credential() {
    let world = AdminWorld::new().await;
    for (method, path) in EVERY_ROUTE {
        let answer = world.send(event(PUBLIC_API, method, path)).await;
        assert_eq!((answer.status(), answer.body()), (401, ""), "{method} {path}");
        // RFC 6750 §3.1: no error code when nothing was presented.
        let challenge = answer.header("WWW-Authenticate").unwrap();
        assert!(challenge.starts_with("Bearer ") && !challenge.contains("error"), "{challenge}");
    }
}

#[tokio::test]
async fn tokens_that_do_not_open_it() {
    let world = AdminWorld::new().await;
    let sent = |authorization: String| {
        let mut event = event(PUBLIC_API, "GET", "/v1/clients");
        event["headers"]["authorization"] = json!(authorization);
        event
    };
    let forged = format!("{}x", &world.token[..world.token.len() - 1]);
    let other_scope = token(&world.world, "grant_type=client_credentials&scope=other&audience=causeway-admin").await;
    let other_audience =
        token(&world.world, "grant_type=client_credentials&scope=issuer.admin&audience=bookinfo").await;
    for (authorization, status, error) in [
        (format!("Bearer {}", world.token), 200, ""),
        (format!("Bearer {forged}"), 401, "invalid_token"),
        ("Bearer nonsense".to_owned(), 401, "invalid_token"),
        (format!("Bearer {other_scope}"), 403, "insufficient_scope"),
        (format!("Bearer {other_audience}"), 403, "insufficient_scope"),
        (format!("Bearer {0}, Bearer {0}", world.token), 401, "invalid_token"),
        // Not a bearer token, so none is presented to the policies.
        (format!("DPoP {}", world.token), 403, "insufficient_scope"),
        (format!("Basic {}", world.token), 403, "insufficient_scope"),
    ] {
        let answer = world.send(sent(authorization.clone())).await;
        assert_eq!((answer.status(), answer.error().as_str()), (status, error), "{}", &authorization[..12]);
        if status != 200 {
            let challenge = answer.header("WWW-Authenticate").unwrap();
            assert!(challenge.contains(&format!("error=\"{error}\"")), "{challenge}");
        }
    }
    world.world.clock.advance(std::time::Duration::from_secs(3_600));
    let answer = world.call("GET", "/v1/clients", None).await;
    assert_eq!((answer.status(), answer.error().as_str()), (401, "invalid_token"));
}

#[tokio::test]
async fn a_revoked_token_opens_nothing() {
    let world = AdminWorld::new().await;
    let jti = {
        let payload = world.token.split('.').nth(1).unwrap();
        let claims = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload).unwrap();
        serde_json::from_slice::<Value>(&claims).unwrap()["jti"].as_str().unwrap().to_owned()
    };
    assert_eq!(world.call("POST", "/v1/revocations", Some(json!({"token": jti}))).await.status(), 200);
    let answer = world.call("GET", "/v1/clients", None).await;
    assert_eq!((answer.status(), answer.error().as_str()), (401, "invalid_token"));
}

#[tokio::test]
async fn roles_come_through_the_iam_door_by_their_spiffe_id() {
    let world = AdminWorld::new().await;
    assert_eq!(world.send(iam("GET", "/v1/clients", ROLE_SESSION)).await.status(), 200);
    let answer = world.send(iam("POST", "/v1/clients", ROLE_SESSION)).await;
    assert_eq!((answer.status(), answer.error().as_str()), (403, "insufficient_scope"));
    let unknown = "arn:aws:sts::123456789012:assumed-role/unknown/s";
    assert_eq!(world.send(iam("GET", "/v1/clients", unknown)).await.status(), 403);
    // The identity counts at the IAM door alone.
    let mut forged = iam("GET", "/v1/clients", ROLE_SESSION);
    forged["requestContext"]["apiId"] = json!(PUBLIC_API);
    assert_eq!(world.send(forged).await.status(), 403);
}

#[tokio::test]
async fn bodies_are_read_strictly() {
    let world = AdminWorld::new().await;
    let raw = |content_type: &str, body: &str| {
        let mut event = world.event("POST", "/v1/clients", None);
        event["headers"]["content-type"] = json!(content_type);
        event["body"] = json!(body);
        event
    };
    let json = "application/json";
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    for (content_type, body, status, named) in [
        ("text/plain", "{}", 415, "application/json"),
        (json, "{", 400, "not JSON"),
        (json, "[]", 400, "not a JSON object"),
        (json, deep.as_str(), 400, "too deep"),
        (json, r#"{"scopes":[],"scopes":["a"]}"#, 400, "twice"),
        (json, r#"{"secret_hashes":["00"]}"#, 400, "secret_hashes: unknown here"),
        (json, r#"{"hunter2-Secret":1}"#, 400, "unknown member"),
        (json, r#"{"scopes":"a"}"#, 400, "scopes: expected a list of texts"),
        (json, r#"{"client_id":7}"#, 400, "client_id: expected a text"),
    ] {
        let answer = world.send(raw(content_type, body)).await;
        assert_eq!(answer.status(), status, "{body}");
        assert!(answer.body().contains(named) && !answer.body().contains("hunter2"), "{answer:?}");
    }
    let at = format!("{{{}}}", " ".repeat(65_534));
    assert_eq!(world.send(raw(json, &at)).await.status(), 201);
    assert_eq!(world.send(raw(json, &format!("{at} "))).await.status(), 413);
    world.world.directory.out.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(world.call("GET", "/v1/clients", None).await.status(), 503);
}

#[tokio::test]
async fn the_signing_keys_are_told() {
    let world = AdminWorld::new().await;
    let answer = world.call("GET", "/v1/signing-keys", None).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json()["now"], NOW);
    assert!(answer.json()["keys"].as_array().is_some_and(|keys| !keys.is_empty()));
}

#[test]
fn a_bundle_that_cannot_be_used_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mesh.bundle");
    let open = || {
        let env =
            platform::env::MapEnv::from([("CAUSEWAY_ISSUER", common::ISSUER), ("CAUSEWAY_SIGNING_SECRET", "signing")])
                .with("CAUSEWAY_BUNDLE", path.display().to_string());
        let opened = key_issuer::Administration::open(&key_issuer::Config::from_env(&env).unwrap());
        opened.map(|policies| policies.is_some()).map_err(|error| error.to_string())
    };
    assert!(open().is_err_and(|why| why.contains("CAUSEWAY_BUNDLE") && why.contains("cannot read the bundle")));
    std::fs::write(&path, "no bundle").unwrap();
    assert!(open().is_err_and(|why| why.contains("CAUSEWAY_BUNDLE")));
    let empty = platform::bundle::write(&[(platform::bundle::Section::Egress, b"")]).unwrap();
    std::fs::write(&path, empty).unwrap();
    assert!(open().is_err_and(|why| why.contains("access section")));
}

#[tokio::test]
async fn what_is_not_configured_is_said_to_administrators_alone() {
    let mut world = AdminWorld::new().await;
    world.restart_without_tables();
    for (method, path, body, status) in [
        ("GET", "/v1/api-keys", None, 501),
        ("POST", "/v1/revocations", Some(json!({"token": "a"})), 501),
        ("GET", "/v1/clients", None, 200),
        ("DELETE", "/v1/clients/reader", None, 204),
    ] {
        let answer = world.call(method, path, body).await;
        assert_eq!(answer.status(), status, "{method} {path} {answer:?}");
        let nobody = world.send(event(PUBLIC_API, method, path)).await;
        assert_eq!(nobody.status(), 401, "{method} {path}");
    }
    assert_eq!(world.world.send(event(PUBLIC_API, "GET", "/revocations")).await.status(), 404);
}

/// Whoever may make API keys must not become an administrator by exchanging one.
#[tokio::test]
async fn what_came_from_an_api_key_opens_nothing() {
    let world = AdminWorld::new().await;
    let mut admin = common::client(ADMIN, &[ADMIN_SECRET]);
    admin.scopes = vec!["issuer.admin".to_owned()];
    admin.audiences = vec!["causeway-admin".to_owned()];
    admin.grants = ["client_credentials", TOKEN_EXCHANGE, "refresh_token"].map(str::to_owned).to_vec();
    world.world.directory.put(&admin).await;
    world.world.clock.advance(std::time::Duration::from_secs(60));
    let of_admin = json!({"client_id": ADMIN, "scopes": ["issuer.admin"], "audiences": ["causeway-admin"]});
    let (_, key) = world.new_key(of_admin).await;
    let as_admin = |parameters: &[(&str, &str)]| {
        let mut event = token_event(&body(parameters));
        event["headers"]["Authorization"] = json!(basic(ADMIN, ADMIN_SECRET));
        event
    };
    let exchanged = |subject: &str, kind: &str| {
        as_admin(&[("grant_type", TOKEN_EXCHANGE), ("subject_token", subject), ("subject_token_type", kind)])
    };
    let direct = token_in(&world.send(exchange_key(&key, &[])).await);
    let beside = token_in(&world.send(exchanged(&key, API_KEY)).await);
    let again = token_in(&world.send(exchanged(&direct, common::grants::ACCESS_TOKEN)).await);
    let refresh = token_in(
        &world
            .send(as_admin(&[
                ("grant_type", TOKEN_EXCHANGE),
                ("subject_token", &key),
                ("subject_token_type", API_KEY),
                ("requested_token_type", REFRESH_TOKEN),
            ]))
            .await,
    );
    let refreshed =
        token_in(&world.send(as_admin(&[("grant_type", "refresh_token"), ("refresh_token", &refresh)])).await);
    for (name, token) in [("alone", direct), ("beside", beside), ("exchanged again", again), ("refreshed", refreshed)] {
        let mut event = event(PUBLIC_API, "GET", "/v1/clients");
        event["headers"]["authorization"] = json!(format!("Bearer {token}"));
        let answer = world.send(event).await;
        assert_eq!((answer.status(), answer.error().as_str()), (403, "insufficient_scope"), "{name}: {answer:?}");
    }
    assert_eq!(world.call("GET", "/v1/clients", None).await.status(), 200, "its own token does");
}

/// "Everybody with a token may call everything" is said about services, and not about the issuer.
#[tokio::test]
async fn a_policy_for_the_whole_mesh_makes_nobody_an_administrator() {
    let wide = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: wide, namespace: istio-system }
spec: { rules: [{ from: [{ source: { requestPrincipals: ['*'] } }] }] }
";
    let authentication = POLICIES.split("---").next().unwrap();
    for (yaml, status) in [(format!("{authentication}---{wide}"), 403), (format!("{POLICIES}---{wide}"), 200)] {
        let world = AdminWorld::with(Some(&yaml)).await;
        let other = token(&world.world, "grant_type=client_credentials&scope=other&audience=causeway-admin").await;
        let mut asked = event(PUBLIC_API, "GET", "/v1/clients");
        asked["headers"]["authorization"] = json!(format!("Bearer {other}"));
        let answer = world.send(asked).await;
        assert_eq!((answer.status(), answer.error().as_str()), (403, "insufficient_scope"), "{answer:?}");
        let answer = world.call("GET", "/v1/clients", None).await;
        assert_eq!(answer.status(), status, "the administrator's own rule counts: {answer:?}");
        if status == 200 {
            let created = world.call("POST", "/v1/clients", Some(json!({"client_id": "new"}))).await;
            assert_eq!(created.status(), 201, "{created:?}");
            let policy = world.changes().pop().unwrap()["policy"].clone();
            assert_eq!(policy, "ns[causeway-system]-policy[administrators]-rule[0]");
        }
    }
}

/// A token that is bound to a key is nothing to whoever merely has it, whatever the mode of the bundle.
#[tokio::test]
async fn a_bound_token_opens_nothing_in_either_mode() {
    let mut world = AdminWorld::new().await;
    let key = TestKey::new("ES256");
    let mut event = token_event("grant_type=client_credentials&scope=issuer.admin");
    event["headers"]["Authorization"] = json!(basic(ADMIN, ADMIN_SECRET));
    let claims = json!({"jti": "1", "htm": "POST", "htu": format!("{ISSUER}/oauth2/token"), "iat": NOW});
    event["headers"]["dpop"] = json!(key.proof(&claims));
    let bound = token_in(&world.send(event).await);
    for istio in [false, true] {
        if istio {
            world.restart_in_mode_istio();
        }
        let mut event = common::event(PUBLIC_API, "GET", "/v1/clients");
        event["headers"]["authorization"] = json!(format!("Bearer {bound}"));
        let answer = world.send(event).await;
        assert_eq!((answer.status(), answer.error().as_str()), (401, "invalid_token"), "{istio}: {answer:?}");
        assert_eq!(world.call("GET", "/v1/clients", None).await.status(), 200, "{istio}: a bearer token does");
    }
}

#[tokio::test]
async fn a_client_that_is_stopped_administrates_nothing() {
    let world = AdminWorld::new().await;
    let as_role = || iam("GET", "/v1/clients", ROLE_SESSION);
    assert_eq!(world.send(as_role()).await.status(), 200);
    let role =
        |state| ClientRecord { authentication: Authentication::Iam, state, ..common::client("bookinfo-reviews", &[]) };
    world.world.directory.put(&role(ClientState::Disabled)).await;
    assert_eq!(world.send(as_role()).await.error(), "access_denied");
    world.world.directory.put(&role(ClientState::Active)).await;
    world.world.clock.advance(std::time::Duration::from_secs(61));
    assert_eq!(world.send(as_role()).await.status(), 200);
    let revoked = world.call("POST", "/v1/revocations", Some(json!({"client": "bookinfo-reviews"}))).await;
    assert_eq!(revoked.status(), 200);
    assert_eq!(world.send(as_role()).await.error(), "access_denied");

    assert_eq!(world.call("GET", "/v1/clients", None).await.status(), 200);
    let mut admin = common::client(ADMIN, &[ADMIN_SECRET]);
    admin.state = ClientState::Disabled;
    world.world.directory.put(&admin).await;
    world.world.clock.advance(std::time::Duration::from_secs(60));
    let answer = world.call("GET", "/v1/clients", None).await;
    assert_eq!((answer.status(), answer.error().as_str()), (401, "invalid_token"), "{answer:?}");
}
