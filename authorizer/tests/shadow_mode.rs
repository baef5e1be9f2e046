//! Shadow mode under every kind of event: what would be denied is let in, alone and as what it is, until the end.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod support;

use std::sync::Arc;

use authorizer::Config;
use authorizer::event::ResponseKind;
use authz::{KeyState, ShadowMode};
use platform::store::{self, ApiKeys};
use serde_json::{Value, json};
use support::issuer::{ISSUER, NOW, reader, with};
use support::{Down, KINDS, World, api_key, fixture, record, with_header, with_token};

fn shadow(workloads: &str, until: u64) -> impl FnOnce(Config) -> Config {
    let mode = ShadowMode::new(workloads, until).unwrap();
    move |config| Config { shadow: Some(mode), ..config }
}

fn is_let_in(answer: Option<&Value>) -> bool {
    let Some(answer) = answer else { return false };
    match answer.get("isAuthorized") {
        Some(authorized) => authorized == &Value::Bool(true),
        None => answer["policyDocument"]["Statement"][0]["Effect"] == "Allow",
    }
}

#[tokio::test]
async fn every_kind_of_event_until_the_end() {
    for (until, on) in [(NOW + 1, true), (NOW, false)] {
        let world = World::with(Arc::new(Down), shadow("bookinfo/app=reviews", until));
        let announced: Value = serde_json::from_str(&world.lines.all()[0]).unwrap();
        assert_eq!((&announced["event"], &announced["on"]), (&json!("shadow_mode"), &json!(on)));
        assert!(
            announced["caching"].as_str().unwrap().contains("AuthorizerResultTtlInSeconds must be 0"),
            "{announced}"
        );
        assert_eq!(announced.get("unknown"), None);
        for name in KINDS {
            let wrong_scope = world.issuer.token(&with(reader(), "scope", json!("")));
            let expired = world.issuer.token(&with(reader(), "exp", json!(NOW - 61)));
            for (token, reason, principal) in [
                ("x.y.z", "token_malformed", ""),
                (&expired, "token_expired", ""),
                (&wrong_scope, "denied_no_match", "client:reader"),
            ] {
                let (answer, line) = world.ask(&with_token(fixture(name), token)).await;
                assert_eq!(line["reason"], reason, "{name}: {line}");
                assert_eq!(is_let_in(answer.as_ref()), on, "{name} {reason}: {answer:?}");
                assert_eq!(line["allowed"], on, "{name}: {line}");
                assert_eq!(line.get("shadow"), on.then_some(&Value::Bool(true)), "{name}: {line}");
                assert!(line["detail"].is_string() && !line.to_string().contains(token), "{name}: {line}");
                if !on {
                    continue;
                }
                assert_eq!(line["status"], 200);
                // Who is not proven is nobody, in the answer and in the log.
                let expected = if principal.is_empty() { String::new() } else { format!("{ISSUER}/{principal}") };
                let answer = answer.unwrap();
                assert_eq!(answer["context"]["principal"], expected, "{name}");
                assert_eq!(answer["context"]["reason"], reason, "{name}");
                assert_eq!(line["principal"].as_str().unwrap_or_default(), expected, "{name}");
                let client = if principal.is_empty() { "" } else { "reader" };
                assert_eq!(answer["context"]["x_jwt_client"], client, "{name}");
                if let Some(id) = answer.get("principalId") {
                    assert_eq!(*id, if principal.is_empty() { "anonymous".to_owned() } else { expected }, "{name}");
                    let arn = fixture(name)["methodArn"].as_str().unwrap().to_owned();
                    let statement = json!([{"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": arn}]);
                    assert_eq!(answer["policyDocument"]["Statement"], statement, "{name}: this request alone");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_judged_and_what_is_elsewhere_is_denied() {
    let at = |path: &str| {
        let mut event = fixture("http-2.0");
        event["rawPath"] = path.into();
        event["requestContext"]["http"]["path"] = path.into();
        event["routeArn"] = format!("arn:aws:execute-api:eu-central-1:1:bookinfo1/$default/GET{path}").into();
        event
    };
    let other_api = |mut event: Value| {
        event["requestContext"]["apiId"] = "unknown".into();
        event["routeArn"] = "arn:aws:execute-api:eu-central-1:1:unknown/$default/GET/reviews/0".into();
        event
    };
    for (workloads, event, reason, let_in) in [
        ("bookinfo", at("/reviews/0"), "no_credential", true),
        // A rule of the gateway denies it.
        ("bookinfo", at("/reviews/admin"), "no_credential", false),
        ("*", at("/reviews/admin"), "no_credential", true),
        ("bookinfo", at("/ratings/0"), "destination_unknown", false),
        ("*", at("/ratings/0"), "destination_unknown", true),
        ("orders", at("/reviews/0"), "no_credential", false),
        ("*", at("/reviews/../0"), "path_not_canonical", false),
        ("*", at("/reviews//0"), "path_not_canonical", false),
        ("*", other_api(at("/reviews/0")), "gateway_unknown", false),
        ("*", json!({"version": "2.0"}), "request_invalid", false),
        ("*", json!(7), "request_invalid", false),
    ] {
        for response in [ResponseKind::Simple, ResponseKind::Iam] {
            let world = World::with(Arc::new(Down), |config| Config { response, ..shadow(workloads, NOW + 1)(config) });
            let (answer, line) = world.ask(&event).await;
            assert_eq!((&line["reason"], &line["allowed"]), (&json!(reason), &json!(let_in)), "{event}: {line}");
            assert_eq!(is_let_in(answer.as_ref()), let_in, "{event}: {answer:?}");
            assert_eq!(line.get("shadow").is_some(), let_in, "{line}");
        }
    }
}

#[tokio::test]
async fn a_function_of_another_environment_is_not_opened() {
    let config = |config| Config { environment: Some("prod".to_owned()), ..shadow("*", NOW + 1)(config) };
    let world = World::with(Arc::new(Down), config);
    let (answer, line) = world.ask(&fixture("http-2.0")).await;
    assert_eq!((line["reason"].as_str(), is_let_in(answer.as_ref())), (Some("configuration_invalid"), false));
}

#[tokio::test]
async fn keys_that_are_refused_are_nobody_s() {
    let store = store::Embedded::in_memory();
    for (seed, state, scope) in [(1, KeyState::Revoked, "reviews.read"), (2, KeyState::Active, "other")] {
        let key = authz::ApiKeyRecord { state, scope: scope.to_owned(), ..record(&api_key("dev", seed)) };
        ApiKeys::put(&store, &key).await.unwrap();
    }
    let world = World::with(Arc::new(store), shadow("bookinfo", NOW + 1));
    for (seed, reason, proven) in
        [(1, "api_key_revoked", false), (2, "denied_no_match", true), (3, "api_key_unknown", false)]
    {
        let key = api_key("dev", seed);
        let (answer, line) = world.ask(&with_header(fixture("rest-request"), "x-api-key", key.text().expose())).await;
        let answer = answer.unwrap();
        assert_eq!((&line["reason"], &line["shadow"]), (&json!(reason), &json!(true)), "{line}");
        assert_eq!(answer["principalId"] == format!("{ISSUER}/client:reader"), proven, "{answer}");
        // Only a key that is proven takes part in a usage plan.
        assert_eq!(answer.get("usageIdentifierKey").is_some(), proven, "{answer}");
    }
}

#[tokio::test]
async fn claims_that_cannot_be_handed_on_are_not() {
    let world = World::with(Arc::new(Down), shadow("bookinfo", NOW + 1));
    let claims = with(reader(), "sub", json!("a".repeat(3_000)));
    let (answer, line) = world.ask(&with_token(fixture("http-2.0"), &world.issuer.token(&claims))).await;
    assert_eq!((&line["reason"], &line["shadow"]), (&json!("token_malformed"), &json!(true)), "{line}");
    let answer = answer.unwrap();
    assert_eq!((&answer["isAuthorized"], &answer["context"]["sub"]), (&json!(true), &json!("")), "{answer}");
}
