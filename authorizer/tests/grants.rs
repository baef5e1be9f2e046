//! What an IAM answer says beside its request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use authorizer::event::ResponseKind;
use authorizer::{Authorizer, Config, Deps};
use authz::api::{Access, Api, ApiKind, ApiSet, Route, Text, VERSION};
use authz::grants::UNREADABLE;
use platform::bundle::SharedBytes;
use platform::clock::FixedClock;
use platform::jwks::{JwksSettings, JwksSource};
use platform::log::{Lines, Log};
use serde_json::Value;
use std::sync::Arc;
use support::issuer::{Issuer, NOW, reader};
use support::{fixture, with_header};

const BASE: &str = "arn:aws:execute-api:eu-central-1:123456789012:bookinfo1/$default/";

fn section(stage: &str) -> Vec<u8> {
    let route = |method: &str, path: &str| Route {
        method: method.to_owned(),
        path: path.to_owned(),
        access: Access::Elsewhere("ImportValue central".to_owned()),
        file: String::new(),
        line: 1,
    };
    let api = Api {
        reference: Text::Opaque("ImportValue Api".to_owned()),
        file: String::new(),
        line: 1,
        kind: Some(ApiKind::Http),
        stages: vec![Text::Known(stage.to_owned())],
        authorizers: Vec::new(),
        routes: vec![
            route("GET", "/reviews/{id}"),
            route("GET", "/reviews/admin"),
            route("GET", "/public"),
            route("GET", "/ratings"),
        ],
    };
    ApiSet { version: VERSION, apis: vec![api] }.write().unwrap()
}

fn world(response: ResponseKind, apis: Option<Vec<u8>>) -> (Authorizer, Issuer, Lines) {
    let issuer = Issuer::new();
    let (log, lines) = Log::memory();
    let clock = Arc::new(FixedClock::at(NOW));
    let deps = Deps {
        api_keys: None,
        jwks: Arc::new(JwksSource::new(clock.clone())),
        revocations: Default::default(),
        rate_limits: None,
        clock,
        log,
    };
    let config = Config {
        bundle: "unused".into(),
        response,
        environment: None,
        token_header: "authorization".to_owned(),
        api_keys: None,
        jwks: JwksSettings::default(),
        metrics: None,
        revocations: None,
        rate_limits: None,
        shadow: None,
    };
    let apis = apis.map(|apis| Arc::new(apis) as SharedBytes);
    let authorizer = Authorizer::with_apis(config, support::policies(&issuer), apis, deps).unwrap();
    (authorizer, issuer, lines)
}

async fn statements(apis: Option<Vec<u8>>, change: impl FnOnce(&mut Value)) -> (Value, Lines) {
    let (authorizer, issuer, lines) = world(ResponseKind::Iam, apis);
    let mut event = with_header(fixture("http-2.0"), "authorization", &format!("Bearer {}", issuer.token(&reader())));
    change(&mut event);
    let answer = authorizer.handle(&event).await.unwrap();
    (answer["policyDocument"]["Statement"].clone(), lines)
}

#[tokio::test]
async fn known_routes_are_named() {
    let (found, _) = statements(Some(section("$default")), |_| ()).await;
    let resources = |index: usize| -> Vec<String> {
        found[index]["Resource"].as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    };
    let arn = |resource: &str| format!("{BASE}{resource}");
    assert_eq!(resources(0), [arn("GET/reviews/0"), arn("GET/public"), arn("GET/reviews/*")]);
    let denied: Vec<String> = ["GET/reviews/admin*"].into_iter().chain(UNREADABLE).map(arn).collect();
    assert_eq!(resources(1), denied);
    assert_eq!((found[0]["Effect"].as_str(), found[1]["Effect"].as_str()), (Some("Allow"), Some("Deny")));
    assert_eq!(found.as_array().unwrap().len(), 2, "{found}");
}

#[tokio::test]
async fn otherwise_it_is_this_request_alone() {
    let alone = |found: &Value| found.as_array().unwrap().len() == 1 && found[0]["Resource"].is_string();
    for (name, apis) in [("none", None), ("another stage", Some(section("prod")))] {
        assert!(alone(&statements(apis, |_| ()).await.0), "{name}");
    }
    // An ARN with the base path in front; one that is not of this method, path, stage or API denies itself.
    for (arn, effect) in [
        ("GET/v1/reviews/0", "Allow"),
        ("POST/reviews/0", "Deny"),
        ("GET/reviews/1", "Deny"),
        ("GET/prod/reviews/0", "Deny"),
        ("$default", "Deny"),
    ] {
        let (found, _) =
            statements(Some(section("$default")), |event| event["routeArn"] = format!("{BASE}{arn}").into()).await;
        assert!(alone(&found) && found[0]["Effect"] == effect, "{arn}: {found}");
        assert_eq!(found[0]["Resource"], format!("{BASE}{arn}"));
    }
    for base in ["bookinfo2/$default/", "bookinfo1/prod/", "bookinfo1/$default/x/"] {
        let arn = format!("arn:aws:execute-api:eu-central-1:123456789012:{base}GET/reviews/0");
        let (found, _) = statements(Some(section("$default")), |event| event["routeArn"] = arn.clone().into()).await;
        assert!(alone(&found) && found[0]["Effect"] == "Deny", "{arn}: {found}");
    }
    // A denial denies its request.
    let (found, _) =
        statements(Some(section("$default")), |event| event["requestContext"]["http"]["method"] = "PUT".into()).await;
    assert!(alone(&found) && found[0]["Effect"] == "Deny", "{found}");
}

#[tokio::test]
async fn a_section_that_cannot_be_used_is_said_and_grants_nothing() {
    let (found, lines) = statements(Some(b"damaged".to_vec()), |_| ()).await;
    assert!(found[0]["Resource"].is_string(), "{found}");
    assert!(lines.all().iter().any(|line| line.contains("apis_unusable")));
}

#[tokio::test]
async fn a_simple_response_has_no_use_for_it() {
    let (authorizer, issuer, lines) = world(ResponseKind::Simple, Some(b"damaged".to_vec()));
    let event = with_header(fixture("http-2.0"), "authorization", &format!("Bearer {}", issuer.token(&reader())));
    assert_eq!(authorizer.handle(&event).await.unwrap()["isAuthorized"], true);
    assert!(!lines.all().iter().any(|line| line.contains("apis_unusable")), "it is not even opened");
}
