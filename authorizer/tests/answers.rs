//! Event in, answer out: every row is one request as API Gateway would describe it.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod support;

use std::sync::Arc;

use authorizer::Config;
use authorizer::event::ResponseKind;
use authorizer::response::CONTEXT_KEYS;
use authz::{CompileOptions, KeyState};
use platform::store::{self, ApiKeys};
use serde_json::{Value, json};
use support::issuer::{ISSUER, Issuer, NOW, reader, with};
use support::{Broken, Down, World, api_key, fixture, record, with_header};

fn bearer(world: &World, claims: &Value) -> Value {
    with_header(fixture("http-2.0"), "authorization", &format!("Bearer {}", world.issuer.token(claims)))
}

fn at(mut event: Value, path: &str) -> Value {
    event["rawPath"] = path.into();
    event["requestContext"]["http"]["path"] = path.into();
    event
}

fn iam(config: Config) -> Config {
    Config { response: ResponseKind::Iam, ..config }
}

#[tokio::test]
async fn a_good_token_is_let_in_with_its_context() {
    let world = World::new().await;
    let (answer, line) = world.ask(&bearer(&world, &reader())).await;
    assert_eq!(
        answer.unwrap(),
        json!({
            "isAuthorized": true,
            "context": {
                "aud": "bookinfo", "client_id": "reader", "iss": ISSUER, "policy": "ns[bookinfo]-policy[readers]-rule[0]",
                "principal": format!("{ISSUER}/client:reader"), "reason": "allowed_by_policy",
                "request_id": "JKJaXmPLvHcESHA=", "scope": "reviews.read", "sub": "client:reader", "x_jwt_client": "reader",
            },
        })
    );
    let expected = json!({
        "ts": "2026-11-20T12:00:00.000Z", "event": "decision", "allowed": true, "status": 200, "reason": "allowed_by_policy",
        "policy": "ns[bookinfo]-policy[readers]-rule[0]", "principal": format!("{ISSUER}/client:reader"),
        "client_id": "reader", "method": "GET", "path": "/reviews/0", "host": "api.bookinfo.example",
        "api_id": "bookinfo1", "stage": "$default", "hop": "destination", "mode": "strict",
        "request_id": "JKJaXmPLvHcESHA=", "latency_us": line["latency_us"],
    });
    assert_eq!(line, expected);
}

/// The client's status and the reason in the log.
#[tokio::test]
async fn tokens() {
    let world = World::new().await;
    let stranger = Issuer::new();
    let rows = [
        ("good", bearer(&world, &reader()), 200, "allowed_by_policy"),
        ("none", fixture("http-2.0"), 401, "no_credential"),
        ("none, open path", at(fixture("http-2.0"), "/public/x"), 200, "allowed_by_policy"),
        ("expired", bearer(&world, &with(reader(), "exp", json!(NOW - 61))), 401, "token_expired"),
        ("not yet", bearer(&world, &with(reader(), "nbf", json!(NOW + 61))), 401, "token_not_yet_valid"),
        // Envoy says 403 here; to a client of API Gateway it is a credential like every other bad one.
        ("other audience", bearer(&world, &with(reader(), "aud", json!("else"))), 401, "token_audience"),
        ("other issuer", bearer(&world, &with(reader(), "iss", json!("https://else"))), 401, "token_issuer_unknown"),
        (
            "other key",
            with_header(fixture("http-2.0"), "authorization", &format!("Bearer {}", stranger.token(&reader()))),
            401,
            "token_signature",
        ),
        ("no token", with_header(fixture("http-2.0"), "authorization", "Bearer x"), 401, "token_malformed"),
        ("wrong claim", bearer(&world, &with(reader(), "scope", json!("reviews.write"))), 403, "denied_no_match"),
        ("denied", at(bearer(&world, &reader()), "/reviews/admin"), 403, "denied_by_policy"),
        ("unknown path", at(bearer(&world, &reader()), "/ratings/0"), 403, "destination_unknown"),
        ("fixture with a bad token", fixture("http-2.0-stage"), 401, "token_malformed"),
    ];
    for (name, event, status, reason) in rows {
        let (answer, line) = world.ask(&event).await;
        assert_eq!((line["status"].as_u64(), line["reason"].as_str()), (Some(status), Some(reason)), "{name}: {line}");
        match (status, answer) {
            (401, answer) => assert_eq!(answer, None, "{name}"),
            (_, Some(answer)) => assert_eq!(answer["isAuthorized"], status == 200, "{name}"),
            (_, None) => panic!("{name}: expected an answer"),
        }
        assert!(!line.to_string().contains("eyJ"), "{name}: a token in the log");
    }
}

#[tokio::test]
async fn api_keys() {
    let store = store::Embedded::in_memory();
    let change = |seed, change: fn(&mut authz::ApiKeyRecord)| {
        let mut record = record(&api_key("dev", seed));
        change(&mut record);
        record
    };
    for record in [
        change(1, |_| ()),
        change(2, |record| record.state = KeyState::Revoked),
        change(3, |record| record.expires_at = Some(NOW - 1)),
        change(4, |record| record.scope = "reviews.write".to_owned()),
        record(&api_key("prod", 5)),
    ] {
        ApiKeys::put(&store, &record).await.unwrap();
    }
    let world = World::with(Arc::new(store), |config| config);
    let text = |environment, seed| api_key(environment, seed).text().expose().clone();
    let good = text("dev", 1);
    let mut mistyped = good.clone();
    mistyped.replace_range(10..11, if mistyped.as_bytes()[10] == b'a' { "b" } else { "a" });
    for (name, key, status, reason) in [
        ("good", good.clone(), 200, "allowed_by_policy"),
        ("revoked", text("dev", 2), 401, "api_key_revoked"),
        ("expired", text("dev", 3), 401, "api_key_expired"),
        ("wrong scope", text("dev", 4), 403, "denied_no_match"),
        ("other environment", text("prod", 5), 401, "api_key_environment"),
        ("unknown", text("dev", 9), 401, "api_key_unknown"),
        ("mistyped", mistyped, 401, "api_key_malformed"),
        ("twice", format!("{good},{good}"), 401, "api_key_malformed"),
    ] {
        let (answer, line) = world.ask(&with_header(fixture("http-2.0"), "x-api-key", &key)).await;
        assert_eq!((line["status"].as_u64(), line["reason"].as_str()), (Some(status), Some(reason)), "{name}: {line}");
        assert_eq!(answer.is_none(), status == 401, "{name}");
        assert!(!line.to_string().contains(&key), "{name}: a key in the log: {line}");
    }
    let token = world.issuer.token(&with(reader(), "client_id", json!("other")));
    let both =
        with_header(with_header(fixture("http-2.0"), "x-api-key", &good), "authorization", &format!("Bearer {token}"));
    let (_, line) = world.ask(&both).await;
    assert_eq!(line["reason"], "credential_mismatch");
}

#[tokio::test]
async fn a_store_that_is_down_broken_or_missing_denies() {
    let event = with_header(fixture("http-2.0"), "x-api-key", api_key("dev", 1).text().expose());
    let down = World::with(Arc::new(Down), |config| config);
    let (answer, line) = down.ask(&event).await;
    assert_eq!((answer, line["reason"].as_str()), (None, Some("api_key_unavailable")));

    let issuer = Issuer::new();
    let missing = World::over(support::policies(&issuer), issuer, None, |config| config);
    let (answer, line) = missing.ask(&event).await;
    assert_eq!((answer, line["reason"].as_str()), (None, Some("api_key_unavailable")));

    // A panic is this request's denial; the next request is served.
    let broken = World::with(Arc::new(Broken), |config| config);
    let (answer, line) = broken.ask(&event).await;
    assert_eq!((&answer.unwrap()["isAuthorized"], line["reason"].as_str()), (&json!(false), Some("internal")));
    let (answer, _) = broken.ask(&bearer(&broken, &reader())).await;
    assert_eq!(answer.unwrap()["isAuthorized"], true);
}

#[tokio::test]
async fn a_pepper_that_is_missing_or_short_denies() {
    for pepper in [None, Some("short")] {
        let records = store::Embedded::in_memory();
        ApiKeys::put(&records, &record(&api_key("dev", 1))).await.unwrap();
        let secrets = platform::secrets::Embedded::default();
        if let Some(pepper) = pepper {
            secrets.put("pepper", pepper);
        }
        let keys = authorizer::ApiKeyStore {
            records: Arc::new(records),
            secrets: Arc::new(secrets),
            pepper_id: "pepper".to_owned(),
        };
        let issuer = Issuer::new();
        let world = World::over(support::policies(&issuer), issuer, Some(keys), |config| config);
        let event = with_header(fixture("http-2.0"), "x-api-key", api_key("dev", 1).text().expose());
        let (answer, line) = world.ask(&event).await;
        assert_eq!((answer, line["reason"].as_str()), (None, Some("api_key_unavailable")), "{pepper:?}");
    }
}

#[tokio::test]
async fn policies_name_this_request_only() {
    let world = World::with(Arc::new(Down), iam);
    let arn = "arn:aws:execute-api:eu-central-1:123456789012:bookinfo1/$default/GET/reviews/0";
    let document = |effect, arn| json!({"Version": "2012-10-17", "Statement": [{"Action": "execute-api:Invoke", "Effect": effect, "Resource": arn}]});
    let authorization = format!("Bearer {}", world.issuer.token(&reader()));
    for name in ["http-1.0", "http-2.0"] {
        let (answer, line) = world.ask(&with_header(fixture(name), "authorization", &authorization)).await;
        let answer = answer.unwrap();
        assert_eq!(answer["policyDocument"], document("Allow", arn), "{name}: {line}");
        assert_eq!(answer["principalId"], format!("{ISSUER}/client:reader"), "{name}");
        assert_eq!(answer["context"]["sub"], "client:reader", "{name}");
    }
    let wrong = format!("Bearer {}", world.issuer.token(&with(reader(), "scope", json!(""))));
    let (answer, _) = world.ask(&with_header(fixture("http-2.0"), "authorization", &wrong)).await;
    assert_eq!(answer.unwrap()["policyDocument"], document("Deny", arn));
    let (answer, _) = world.ask(&fixture("http-1.0")).await;
    assert_eq!(answer, None, "no credential is 401 whatever the form");

    // In a policy these would be patterns, and the cached policy would open other paths.
    for path in ["/reviews/*", "/reviews/${aws:username}"] {
        let mut event = at(with_header(fixture("http-2.0"), "authorization", &authorization), path);
        event["routeArn"] =
            format!("arn:aws:execute-api:eu-central-1:123456789012:bookinfo1/$default/GET{path}").into();
        let (answer, line) = world.ask(&event).await;
        assert_eq!(line["reason"], "path_not_canonical", "{path}");
        assert_eq!(answer.unwrap()["policyDocument"], document("Deny", "*"), "{path}");
    }
}

/// An answer is cached: what cannot be read in one request says nothing of the caller's others.
#[tokio::test]
async fn a_refused_event_denies_its_own_arn() {
    let world = World::with(Arc::new(Down), iam);
    let arn = |path: &str| format!("arn:aws:execute-api:eu-central-1:123456789012:bookinfo1/$default/GET{path}");
    let named = |name: &str, field: &str, arn: &str| {
        let mut event = fixture(name);
        event[field] = arn.into();
        event["headers"]["a b"] = "not a header name".into();
        event
    };
    let all = "*".to_owned();
    let wildcard = arn("/reviews/*");
    for (event, denied) in [
        (named("http-1.0", "methodArn", &arn("/reviews/0")), arn("/reviews/0")),
        (named("http-2.0", "routeArn", &arn("/reviews/0")), arn("/reviews/0")),
        (named("rest-request", "methodArn", &arn("/reviews/0")), arn("/reviews/0")),
        // What no policy can name exactly.
        (named("http-2.0", "routeArn", &wildcard), all.clone()),
        (named("http-2.0", "routeArn", &arn(&format!("/{}", "x".repeat(512)))), all.clone()),
        (named("http-2.0", "routeArn", "arn:aws:s3:::bucket/*"), all.clone()),
        (named("http-2.0", "routeArn", "arn:aws:execute-api:r:a:api"), all),
    ] {
        let (answer, line) = world.ask(&event).await;
        let statement = json!([{"Action": "execute-api:Invoke", "Effect": "Deny", "Resource": denied}]);
        assert_eq!(answer.unwrap()["policyDocument"]["Statement"], statement, "{line}");
    }
}

/// Format 1.0 says method and path twice, and the ARN says them again.
#[tokio::test]
async fn what_format_1_0_says_twice_must_agree() {
    let world = World::with(Arc::new(Down), |config| config);
    let authorization = format!("Bearer {}", world.issuer.token(&reader()));
    let base = "arn:aws:execute-api:eu-central-1:123456789012:bookinfo1/$default/";
    for (pointer, value, reason) in [
        ("/requestContext/path", "/v1/reviews/0", "allowed_by_policy"),
        ("/requestContext/path", "/reviews/1", "path_not_canonical"),
        ("/requestContext/path", "/admin", "path_not_canonical"),
        ("/requestContext/httpMethod", "POST", "request_invalid"),
        ("/httpMethod", "POST", "request_invalid"),
        ("/methodArn", &format!("{base}GET/v1/reviews/0"), "allowed_by_policy"),
        ("/methodArn", &format!("{base}POST/reviews/0"), "request_invalid"),
        ("/methodArn", &format!("{base}GET/reviews/1"), "path_not_canonical"),
        ("/methodArn", &format!("{base}$default"), "request_invalid"),
        ("/methodArn", &base.replace("bookinfo1", "other"), "request_invalid"),
        ("/methodArn", "x", "request_invalid"),
    ] {
        let mut event = with_header(fixture("http-1.0"), "authorization", &authorization);
        *event.pointer_mut(pointer).unwrap() = value.into();
        let (_, line) = world.ask(&event).await;
        assert_eq!(line["reason"], reason, "{pointer} {value}: {line}");
    }
}

/// A key that is missing could be filled in by the client: an integration maps context keys to headers of its choice.
#[tokio::test]
async fn every_context_key_is_always_there() {
    let world = World::new().await;
    let denied = bearer(&world, &with(reader(), "scope", json!("")));
    let stranger = json!({"type": "REQUEST", "methodArn": "x"});
    for event in [at(fixture("http-2.0"), "/public"), denied, json!([]), stranger] {
        let (answer, _) = world.ask(&event).await;
        let context = answer.unwrap()["context"].as_object().unwrap().clone();
        for key in CONTEXT_KEYS.iter().copied().chain(["x_jwt_client"]) {
            assert!(context.get(key).is_some_and(Value::is_string), "{key} of {event}");
        }
    }
}

#[tokio::test]
async fn claims_that_do_not_fit_deny() {
    let world = World::new().await;
    for (scope, allowed) in
        [(format!("reviews.read {}", "x".repeat(1_000)), true), (format!("reviews.read {}", "x".repeat(2_100)), false)]
    {
        let (answer, line) = world.ask(&bearer(&world, &with(reader(), "scope", json!(scope)))).await;
        assert_eq!(answer.is_some(), allowed, "{line}");
    }
    let (answer, line) = world.ask(&bearer(&world, &with(reader(), "client_id", json!("a\r\nx-admin: yes")))).await;
    assert_eq!((answer, line["reason"].as_str()), (None, Some("token_malformed")));
}

#[tokio::test]
async fn stage_and_base_path_are_taken_off() {
    let world = World::new().await;
    let token = format!("Bearer {}", world.issuer.token(&reader()));
    let on_stage = |path: &str| {
        let mut event = at(with_header(fixture("http-2.0-stage"), "authorization", &token), path);
        event["routeKey"] = "$default".into();
        event.as_object_mut().unwrap().remove("pathParameters");
        event
    };
    let on_domain = |path: &str| at(with_header(fixture("http-2.0"), "authorization", &token), path);
    for (name, event, judged) in [
        ("stage in front", on_stage("/prod/reviews/0"), "/reviews/0"),
        ("stage not there", on_stage("/reviews/0"), "/reviews/0"),
        ("a longer word is not the stage", on_stage("/production/reviews/0"), "/production/reviews/0"),
        ("the stage alone", on_stage("/prod"), "/"),
        ("no base path at the generated domain", on_stage("/prod/v1/reviews/0"), "/v1/reviews/0"),
        ("base path", on_domain("/v1/reviews/0"), "/reviews/0"),
        ("$default is never in front", on_domain("/$default/reviews"), "/$default/reviews"),
        ("characters that were encoded", on_domain("/reviews/é a"), "/reviews/%C3%A9%20a"),
    ] {
        let (_, line) = world.ask(&event).await;
        assert_eq!(line["path"], judged, "{name}: {line}");
    }
}

#[tokio::test]
async fn paths_that_can_be_read_in_two_ways_are_refused() {
    let world = World::new().await;
    for path in [
        "/reviews/../admin",
        "/reviews/%2e%2e/admin",
        "/reviews//0",
        "/reviews/0;x",
        "/reviews\\0",
        "/reviews/0?x",
        "/reviews/0#x",
        "/reviews/.",
        "/reviews/\u{0}",
        "reviews",
    ] {
        let (answer, line) = world.ask(&at(bearer(&world, &reader()), path)).await;
        assert_eq!(
            (&answer.unwrap()["isAuthorized"], line["reason"].as_str()),
            (&json!(false), Some("path_not_canonical")),
            "{path:?}"
        );
    }
    let routed = |route: &str, parameters: Value| {
        let mut event = bearer(&world, &reader());
        event["routeKey"] = route.into();
        event["pathParameters"] = parameters;
        event
    };
    for (event, allowed) in [
        (routed("GET /reviews/{id}", json!({"id": "0"})), true),
        (routed("ANY /{proxy+}", json!({"proxy": "reviews/0"})), true),
        (routed("GET /reviews/0", Value::Null), true),
        // A slash in one segment was sent as %2F, which a backend may decode or not.
        (at(routed("GET /{id}", json!({"id": "reviews/0"})), "/reviews/0"), false),
        (at(routed("GET /{a}/{b}", json!({"a": "reviews", "b": "0"})), "/reviews/0"), true),
        (routed("GET /reviews/{id}", json!({"id": "1"})), false),
        (routed("GET /reviews/{id}", json!({})), false),
        (routed("GET /reviews/{id}", json!({"id": "0", "more": "x"})), false),
        (routed("GET /{proxy+}", json!({"proxy": "admin"})), false),
        (routed("$default", json!({"proxy": "reviews/0"})), false),
    ] {
        let (answer, line) = world.ask(&event).await;
        assert_eq!(answer.unwrap()["isAuthorized"], allowed, "{line}");
    }
    let mut differ = bearer(&world, &reader());
    differ["requestContext"]["http"]["path"] = "/public".into();
    let (_, line) = world.ask(&differ).await;
    assert_eq!(line["reason"], "path_not_canonical");
}

#[tokio::test]
async fn an_environment_of_its_own_serves_that_one_only() {
    let world = World::with(Arc::new(Down), |config| Config { environment: Some("prod".to_owned()), ..config });
    let (answer, line) = world.ask(&bearer(&world, &reader())).await;
    assert_eq!(
        (&answer.unwrap()["isAuthorized"], line["reason"].as_str()),
        (&json!(false), Some("configuration_invalid"))
    );
    let token = format!("Bearer {}", world.issuer.token(&reader()));
    let (answer, line) = world.ask(&with_header(fixture("http-2.0-stage"), "authorization", &token)).await;
    assert_eq!(answer.unwrap()["isAuthorized"], true, "{line}");
}

#[tokio::test]
async fn an_api_that_no_document_covers_is_refused() {
    let world = World::new().await;
    let mut event = bearer(&world, &reader());
    event["requestContext"]["apiId"] = "else".into();
    event["requestContext"]["domainName"] = "else.example".into();
    let (answer, line) = world.ask(&event).await;
    assert_eq!((&answer.unwrap()["isAuthorized"], line["reason"].as_str()), (&json!(false), Some("gateway_unknown")));
}

/// Answers every connection with a key set, and counts them.
fn jwks_server(document: String) -> (String, Arc<std::sync::atomic::AtomicU32>) {
    let (origin, count) = json_server(move || document.clone());
    (format!("{origin}/jwks.json"), count)
}

/// Answers every connection with a document, whatever the path, and counts them.
fn json_server(document: impl Fn() -> String + Send + 'static) -> (String, Arc<std::sync::atomic::AtomicU32>) {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let _ = stream.read(&mut [0; 4096]);
            let document = document();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{document}",
                document.len()
            );
        }
    });
    (origin, count)
}

fn with_uri(uri: &str) -> String {
    include_str!("../../tests/fixtures/events/policies.yaml").replace("jwks: 'JWKS'", &format!("jwksUri: {uri}"))
}

#[tokio::test]
async fn keys_are_fetched_when_a_token_first_needs_them() {
    let issuer = Issuer::new();
    let (uri, fetched) = jwks_server(issuer.jwks());
    let fetches = || fetched.load(std::sync::atomic::Ordering::SeqCst);
    let policies = support::compiled(&with_uri(&uri), &CompileOptions::default());
    let world = World::over(policies, issuer, None, |config| config);
    let (answer, _) = world.ask(&at(fixture("http-2.0"), "/public")).await;
    assert_eq!((answer.unwrap()["isAuthorized"].clone(), fetches()), (json!(true), 0));
    for _ in 0..2 {
        let (answer, line) = world.ask(&bearer(&world, &reader())).await;
        assert_eq!(answer.unwrap()["isAuthorized"], true, "{line}");
        assert_eq!(fetches(), 1);
    }
}

/// A rule that names an issuer alone, whose keys Istio finds by OpenID Connect Discovery.
#[tokio::test]
async fn keys_of_a_rule_without_a_place_are_discovered() {
    let issuer = Issuer::new();
    let (keys, fetched) = jwks_server(issuer.jwks());
    let (asked, told) = (Arc::new(std::sync::Mutex::new(String::new())), keys.clone());
    let served = asked.clone();
    let (name, visits) = json_server(move || served.lock().unwrap().clone());
    *asked.lock().unwrap() = json!({"issuer": name, "jwks_uri": told}).to_string();
    let text = include_str!("../../tests/fixtures/events/policies.yaml");
    let text = text.replace("jwks: 'JWKS'", "").replace(ISSUER, &name);
    let world = World::over(support::compiled(&text, &CompileOptions::default()), issuer, None, |config| config);
    for _ in 0..2 {
        let (answer, line) = world.ask(&bearer(&world, &with(reader(), "iss", json!(name)))).await;
        assert_eq!(answer.unwrap()["isAuthorized"], true, "{line}");
    }
    let count = |of: &std::sync::atomic::AtomicU32| of.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!((count(&visits), count(&fetched)), (1, 1));
    // The metadata of another issuer is nobody's word.
    *asked.lock().unwrap() = json!({"issuer": "https://else.example", "jwks_uri": keys}).to_string();
    let world = World::over(support::compiled(&text, &CompileOptions::default()), Issuer::new(), None, |c| c);
    let (answer, line) = world.ask(&bearer(&world, &with(reader(), "iss", json!(name)))).await;
    assert_eq!((answer, line["reason"].as_str()), (None, Some("jwks_unavailable")));
}

#[tokio::test]
async fn keys_of_the_bundle_need_no_fetch_until_the_issuer_rotates() {
    let (old, new) = (Issuer::new(), Issuer::new());
    let (uri, fetched) = jwks_server(new.jwks().replace("\"k1\"", "\"k2\""));
    let options = CompileOptions { jwks: [(ISSUER.to_owned(), old.jwks())].into(), ..CompileOptions::default() };
    let policies = support::compiled(&with_uri(&uri), &options).with_keys_fetched_at(Some(NOW));
    let world = World::over(policies, old, None, |config| config);
    let (answer, line) = world.ask(&bearer(&world, &reader())).await;
    assert_eq!(answer.unwrap()["isAuthorized"], true, "{line}");
    assert_eq!(fetched.load(std::sync::atomic::Ordering::SeqCst), 0);
    let rotated = format!("Bearer {}", new.token_with_kid("k2", &reader()));
    let (answer, line) = world.ask(&with_header(fixture("http-2.0"), "authorization", &rotated)).await;
    assert_eq!(answer.unwrap()["isAuthorized"], true, "{line}");
    assert_eq!(fetched.load(std::sync::atomic::Ordering::SeqCst), 1);
    // The newer set has no such key any more, and the bundle's does not bring it back.
    let (answer, line) = world.ask(&bearer(&world, &reader())).await;
    assert_eq!((answer, line["reason"].as_str()), (None, Some("token_key_unknown")));
    // The issuer was asked whether it has it back.
    assert_eq!(fetched.load(std::sync::atomic::Ordering::SeqCst), 2);
}

#[tokio::test]
async fn keys_that_cannot_be_had_deny() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    drop(listener);
    let policies = support::compiled(&with_uri(&uri), &CompileOptions::default());
    let world = World::over(policies, Issuer::new(), None, |config| config);
    let (answer, line) = world.ask(&bearer(&world, &reader())).await;
    assert_eq!((answer, line["reason"].as_str()), (None, Some("jwks_unavailable")));
}

/// Two rules may name one issuer and two places of its keys: a team of one namespace must not be able to put its keys
/// under the tokens of another.
#[tokio::test]
async fn keys_of_one_place_do_not_serve_another() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let (uri, _) = jwks_server(issuer.jwks());
    let (other_uri, other_fetched) = jwks_server(other.jwks());
    let elsewhere = format!(
        "
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{ name: elsewhere, namespace: bookinfo }}
spec:
  selector: {{ matchLabels: {{ app: reviews }} }}
  jwtRules:
    - issuer: {ISSUER}
      jwksUri: {other_uri}
      fromHeaders: [{{ name: x-else }}]
"
    );
    let world = World::over(
        support::compiled(&format!("{}{elsewhere}", with_uri(&uri)), &CompileOptions::default()),
        issuer,
        None,
        |config| config,
    );
    // The other place is asked first, and its keys are kept.
    let public = |name: &str, value: &str| with_header(at(fixture("http-2.0"), "/public"), name, value);
    let (answer, line) = world.ask(&public("x-else", &other.token(&reader()))).await;
    assert_eq!(answer.unwrap()["isAuthorized"], true, "{line}");
    assert_eq!(other_fetched.load(std::sync::atomic::Ordering::SeqCst), 1);
    let forged = format!("Bearer {}", other.token(&reader()));
    let (answer, line) = world.ask(&with_header(fixture("http-2.0"), "authorization", &forged)).await;
    assert_eq!((answer, line["reason"].as_str()), (None, Some("token_signature")));
    let (answer, line) = world.ask(&bearer(&world, &reader())).await;
    assert_eq!(answer.unwrap()["isAuthorized"], true, "{line}");
}

/// A context value is mapped to a header that the integration trusts.
#[tokio::test]
async fn a_header_of_the_client_is_no_context_value() {
    let elsewhere = "
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: elsewhere, namespace: bookinfo }
spec:
  selector: { matchLabels: { app: ratings } }
  jwtRules:
    - issuer: https://else.example
      jwksUri: https://else.example/jwks.json
      outputClaimToHeaders: [{ header: x-user, claim: sub }]
";
    let issuer = Issuer::new();
    let text = include_str!("../../tests/fixtures/events/policies.yaml").replace("JWKS", &issuer.jwks());
    let policies = support::compiled(&format!("{text}{elsewhere}"), &CompileOptions::default());
    let world = World::over(policies, issuer, None, |config| config);
    let (answer, line) = world.ask(&with_header(bearer(&world, &reader()), "x-user", "client:admin")).await;
    let answer = answer.unwrap();
    assert_eq!((&answer["isAuthorized"], &answer["context"]["x_user"]), (&json!(true), &json!("")), "{line}");
}
