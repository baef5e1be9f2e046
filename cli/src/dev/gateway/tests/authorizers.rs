//! "Control access to HTTP APIs with AWS Lambda authorizers" unless a test names another page.

use std::sync::Arc;
use std::time::Duration;

use platform::clock::FixedClock;
use serde_json::{Value, json};

use super::harness::{Function, NOW, api, get, guarded_api, serve};
use crate::dev::gateway::{Authorizer, BindError, Gateway, InProcess, PayloadFormat};

const AUTHORIZATION: &str = "$request.header.Authorization";

fn allow() -> Value {
    json!({"isAuthorized": true})
}

fn unauthorized() -> (u16, Value) {
    (401, json!({"message": "Unauthorized"}))
}

fn forbidden() -> (u16, Value) {
    (403, json!({"message": "Forbidden"}))
}

fn internal() -> (u16, Value) {
    (500, json!({"message": "Internal Server Error"}))
}

fn sources(list: &[&str]) -> Vec<String> {
    list.iter().map(|&source| source.to_owned()).collect()
}

fn policy(effect: &str, resource: &str) -> Value {
    json!({
        "principalId": "user",
        "policyDocument": {"Version": "2012-10-17", "Statement": [{"Action": "execute-api:Invoke", "Effect": effect, "Resource": resource}]},
    })
}

/// "If you specify identity sources, clients must include them in the request. If the client's request doesn't include
/// the identity sources, API Gateway doesn't invoke your Lambda authorizer, and the client receives a 401 error."
#[tokio::test]
async fn a_missing_identity_source_is_401_without_asking() {
    let authorizer = Function::returning(allow());
    let config = guarded_api(&["GET /a"], &authorizer, |a| {
        a.identity_sources = sources(&[AUTHORIZATION, "$request.querystring.Tenant"])
    });
    let server = serve(config).await;
    let cases: [(&str, &[(&str, &str)]); 5] = [
        ("/a", &[]),
        ("/a?Tenant=1", &[]),
        ("/a", &[("Authorization", "t")]),
        ("/a?Tenant=1", &[("Authorization", "")]),
        ("/a?Tenant=", &[("Authorization", "t")]),
    ];
    for (target, headers) in cases {
        assert_eq!(get(&server, target, headers).await.refusal(), unauthorized(), "{target} {headers:?}");
    }
    // "Header names are case-insensitive." "Query string names are case-sensitive."
    assert_eq!(get(&server, "/a?tenant=1", &[("Authorization", "t")]).await.refusal(), unauthorized());
    assert_eq!(authorizer.calls(), 0);
    assert_eq!(get(&server, "/a?Tenant=1", &[("aUTHORIZATION", "t")]).await.status, 200);
    assert_eq!(authorizer.last_event()["identitySource"], json!(["t", "1"]));
}

/// "You can optionally specify identity sources for a Lambda authorizer."
#[tokio::test]
async fn without_identity_sources_every_request_is_asked_for() {
    let authorizer = Function::returning(allow());
    let server = serve(guarded_api(&["GET /a"], &authorizer, |_| {})).await;
    for calls in 1..=2 {
        assert_eq!(get(&server, "/a", &[]).await.status, 200);
        assert_eq!(authorizer.calls(), calls);
    }
    assert_eq!(authorizer.last_event()["identitySource"], Value::Null);
}

/// "When caching is enabled for an authorizer, API Gateway uses the authorizer's identity sources as the cache key. If a
/// client specifies the same parameters in identity sources within the configured TTL, API Gateway uses the cached
/// authorizer result, rather than invoking your Lambda function."
#[tokio::test]
async fn answers_are_cached_by_identity_for_the_ttl() {
    let authorizer = Function::new(|event| {
        Ok(
            json!({"isAuthorized": event["headers"]["authorization"] != "bad", "context": {"who": event["headers"]["authorization"]}}),
        )
    });
    let mut config = guarded_api(&["GET /a"], &authorizer, |a| {
        a.identity_sources = sources(&[AUTHORIZATION]);
        a.ttl_seconds = 300;
    });
    let clock = Arc::new(FixedClock::at(NOW));
    config.clock = Arc::clone(&clock) as Arc<_>;
    let server = serve(config).await;
    let who = |token: &'static str| {
        let server = &server;
        async move {
            get(server, "/a", &[("authorization", token)]).await.json()["requestContext"]["authorizer"]["lambda"]["who"]
                .clone()
        }
    };
    assert_eq!(who("one").await, "one");
    assert_eq!(who("one").await, "one");
    assert_eq!(authorizer.calls(), 1);
    assert_eq!(who("two").await, "two", "another identity");
    assert_eq!(authorizer.calls(), 2);
    // A refusal is an answer like any other.
    for _ in 0..2 {
        assert_eq!(get(&server, "/a", &[("authorization", "bad")]).await.refusal(), forbidden());
        assert_eq!(authorizer.calls(), 3);
    }
    clock.advance(Duration::from_secs(299));
    assert_eq!(who("one").await, "one");
    assert_eq!(authorizer.calls(), 3);
    clock.advance(Duration::from_secs(1));
    assert_eq!(who("one").await, "one");
    assert_eq!(authorizer.calls(), 4, "expired");
}

/// "If it equals 0, authorization caching is disabled." (CreateAuthorizer, authorizerResultTtlInSeconds)
#[tokio::test]
async fn ttl_zero_caches_nothing() {
    let authorizer = Function::returning(allow());
    let server = serve(guarded_api(&["GET /a"], &authorizer, |a| a.identity_sources = sources(&[AUTHORIZATION]))).await;
    for calls in 1..=2 {
        assert_eq!(get(&server, "/a", &[("authorization", "t")]).await.status, 200);
        assert_eq!(authorizer.calls(), calls);
    }
}

/// A bound of ours: 10,000 answers of 64 KiB at most.
#[tokio::test]
async fn an_answer_too_large_to_keep_is_asked_for_again() {
    for (size, calls) in [(60_000, 1), (66_000, 2)] {
        let authorizer = Function::returning(json!({"isAuthorized": true, "context": {"filler": "x".repeat(size)}}));
        let config = guarded_api(&["GET /a"], &authorizer, |a| {
            a.identity_sources = sources(&[AUTHORIZATION]);
            a.ttl_seconds = 300;
        });
        let server = serve(config).await;
        for _ in 0..2 {
            assert_eq!(get(&server, "/a", &[("authorization", "t")]).await.status, 200);
        }
        assert_eq!(authorizer.calls(), calls, "{size} bytes");
    }
}

/// "By default, API Gateway uses the cached authorizer response for all routes of an API that use the authorizer. To
/// cache responses per route, add $context.routeKey to your authorizer's identity sources."
#[tokio::test]
async fn routes_share_the_cache_unless_the_route_key_is_a_source() {
    for (list, calls) in [(sources(&[AUTHORIZATION]), 1), (sources(&[AUTHORIZATION, "$context.routeKey"]), 2)] {
        let authorizer = Function::returning(allow());
        let config = guarded_api(&["GET /a/{id}", "GET /b"], &authorizer, |a| {
            a.identity_sources.clone_from(&list);
            a.ttl_seconds = 300;
        });
        let server = serve(config).await;
        for target in ["/a/1", "/a/2", "/b", "/b"] {
            assert_eq!(get(&server, target, &[("authorization", "t")]).await.status, 200);
        }
        assert_eq!(authorizer.calls(), calls, "{list:?}");
    }
}

/// "To return a Boolean value, enable simple responses for the authorizer." What is no boolean is no answer: "If […] your
/// Lambda authorizer returns a response in an invalid format, clients receive a 500 Internal Server Error."
#[tokio::test]
async fn simple_responses_are_a_boolean() {
    let cases = [
        (allow(), None),
        (json!({"isAuthorized": false}), Some(forbidden())),
        (json!({"isAuthorized": true, "context": null}), None),
        (json!({"isAuthorized": "true"}), Some(internal())),
        (json!({"isAuthorized": 1}), Some(internal())),
        (json!({}), Some(internal())),
        (json!(true), Some(internal())),
        (json!({"isAuthorized": true, "context": "text"}), Some(internal())),
        (policy("Allow", "*"), Some(internal())),
    ];
    for (answer, expected) in cases {
        let server = serve(guarded_api(&["GET /a"], &Function::returning(answer.clone()), |_| {})).await;
        let reply = get(&server, "/a", &[]).await;
        match expected {
            None => assert_eq!(reply.status, 200, "{answer}"),
            Some(expected) => assert_eq!(reply.refusal(), expected, "{answer}"),
        }
    }
}

/// "For more granular permissions, disable simple responses and return an IAM policy." What the policy does not allow
/// is 403: "An implicit denial or any explicit denial results in denying the caller." (How API Gateway resource policies
/// affect authorization workflow)
#[tokio::test]
async fn policies_are_evaluated_against_the_request() {
    const STAGE: &str = "arn:aws:execute-api:eu-central-1:123456789012:api1/$default";
    let cases = [
        (policy("Allow", &format!("{STAGE}/GET/a/1")), Some(200)),
        (policy("Allow", &format!("{STAGE}/GET/a/*")), Some(200)),
        (policy("Allow", &format!("{STAGE}/*/a/?")), Some(200)),
        (policy("Allow", &format!("{STAGE}/POST/a/1")), Some(403)),
        (policy("Deny", "*"), Some(403)),
        (policy("Maybe", "*"), None),
        (json!({"principalId": "user", "policyDocument": {"Statement": []}}), Some(403)),
        (json!({"policyDocument": policy("Allow", "*")["policyDocument"]}), None),
        (json!({"principalId": "user"}), None),
        (allow(), None),
    ];
    for (answer, expected) in cases {
        for format in [PayloadFormat::V1, PayloadFormat::V2] {
            let config = guarded_api(&["GET /a/{id}"], &Function::returning(answer.clone()), |a| {
                a.enable_simple_responses = false;
                a.payload_format = format;
            });
            let reply = get(&serve(config).await, "/a/1", &[]).await;
            match expected {
                Some(403) => assert_eq!(reply.refusal(), forbidden(), "{answer}"),
                Some(status) => assert_eq!(reply.status, status, "{answer}"),
                None => assert_eq!(reply.refusal(), internal(), "{answer}"),
            }
        }
    }
}

/// "By default, API Gateway uses the cached authorizer response for all routes": the response, so the policy, is what is
/// kept; each request is judged by it anew.
#[tokio::test]
async fn a_cached_policy_is_evaluated_again() {
    let authorizer = Function::new(|event| Ok(policy("Allow", event["routeArn"].as_str().unwrap())));
    let config = guarded_api(&["GET /a/{id}"], &authorizer, |a| {
        a.enable_simple_responses = false;
        a.identity_sources = sources(&[AUTHORIZATION]);
        a.ttl_seconds = 300;
    });
    let server = serve(config).await;
    let token = [("authorization", "t")];
    assert_eq!(get(&server, "/a/1", &token).await.status, 200);
    assert_eq!(get(&server, "/a/2", &token).await.refusal(), forbidden());
    assert_eq!(get(&server, "/a/1", &token).await.status, 200);
    assert_eq!(authorizer.calls(), 1);
}

/// "Return a 401 Unauthorized response" for `callback("Unauthorized")` (Use API Gateway Lambda authorizers); otherwise "If
/// API Gateway can't invoke your Lambda authorizer, or your Lambda authorizer returns a response in an invalid format,
/// clients receive a 500 Internal Server Error."
#[tokio::test]
async fn only_the_exact_error_unauthorized_is_401() {
    for (message, expected) in [
        ("Unauthorized", unauthorized()),
        ("unauthorized", internal()),
        ("Unauthorized.", internal()),
        ("boom", internal()),
        ("", internal()),
    ] {
        let authorizer = Function::failing(message);
        let config = guarded_api(&["GET /a"], &authorizer, |a| {
            a.identity_sources = sources(&[AUTHORIZATION]);
            a.ttl_seconds = 300;
        });
        let server = serve(config).await;
        for calls in 1..=2 {
            assert_eq!(get(&server, "/a", &[("authorization", "t")]).await.refusal(), expected, "{message:?}");
            assert_eq!(authorizer.calls(), calls, "a failure is not kept");
        }
    }
}

/// "Timeout for Lambda authorizer response | 10000 ms" (Quotas for configuring and running an HTTP API); here 20 ms, and a
/// function that never answers.
#[tokio::test]
async fn an_authorizer_that_hangs_or_panics_is_500() {
    let hangs = InProcess::function(|_| std::future::pending());
    let panics = InProcess::function(|_| async { panic!("deliberate, in a test") });
    for invoker in [hangs, panics] {
        let mut config = guarded_api(&["GET /a"], &Function::returning(allow()), |_| {});
        config.authorizers[0].invoker = invoker;
        config.authorizers[0].timeout = Duration::from_millis(20);
        assert_eq!(get(&serve(config).await, "/a", &[]).await.refusal(), internal());
    }
}

/// "You can pass context properties to Lambda integrations": `requestContext.authorizer.lambda` in format 2.0 (Create AWS Lambda proxy integrations for HTTP
/// APIs). The values are the documented examples.
#[tokio::test]
async fn the_context_reaches_the_integration() {
    let context = json!({"stringKey": "value", "numberKey": 1, "booleanKey": true, "arrayKey": ["value1", "value2"], "mapKey": {"value1": "value2"}});
    let authorizer = Function::returning(json!({"isAuthorized": true, "context": context}));
    let v2 = guarded_api(&["GET /a"], &authorizer, |_| {});
    assert_eq!(
        get(&serve(v2).await, "/a", &[]).await.json()["requestContext"]["authorizer"],
        json!({"lambda": context})
    );

    let mut v1 = guarded_api(&["GET /a"], &authorizer, |_| {});
    v1.integrations[0].payload_format = PayloadFormat::V1;
    assert_eq!(get(&serve(v1).await, "/a", &[]).await.json()["requestContext"]["authorizer"], context);

    let mut answer = policy("Allow", "*");
    answer["context"] = json!({"key": "value"});
    let mut v1 = guarded_api(&["GET /a"], &Function::returning(answer), |a| a.enable_simple_responses = false);
    v1.integrations[0].payload_format = PayloadFormat::V1;
    let seen = get(&serve(v1).await, "/a", &[]).await.json()["requestContext"]["authorizer"].clone();
    assert_eq!(seen, json!({"key": "value", "principalId": "user"}));

    let open = get(&serve(api(&["GET /a"], &Function::echo())).await, "/a", &[]).await.json();
    assert_eq!(open["requestContext"].get("authorizer"), None, "an open route has no authorizer");
}

/// The example events of the page, format 2.0 and 1.0.
#[tokio::test]
async fn the_events_are_the_documented_ones() {
    let authorizer =
        Function::new(|event| if event["version"] == "1.0" { Ok(policy("Allow", "*")) } else { Ok(allow()) });
    let headers =
        [("Authorization", "user1"), ("User-Agent", "agent"), ("Cookie", "cookie1; cookie2"), ("X-Test", "1")];
    let target = "/request/7?parameter1=value1&parameter1=value2&parameter2=value";
    for format in [PayloadFormat::V2, PayloadFormat::V1] {
        let mut config = guarded_api(&["POST /request/{id}"], &authorizer, |a| {
            a.payload_format = format;
            a.enable_simple_responses = format == PayloadFormat::V2;
            a.identity_sources = sources(&[AUTHORIZATION, "$request.querystring.parameter1", "$stageVariables.v"]);
        });
        config.stage_variables.insert("v".to_owned(), "s".to_owned());
        let server = serve(config).await;
        assert_eq!(super::harness::send(&server, "POST", target, &headers, b"body").await.status, 200);
        let event = authorizer.last_event();
        let arn = json!("arn:aws:execute-api:eu-central-1:123456789012:api1/$default/POST/request/7");
        assert_eq!(event["type"], "REQUEST");
        assert_eq!(event["pathParameters"], json!({"id": "7"}));
        assert_eq!(event["stageVariables"], json!({"v": "s"}));
        assert_eq!(event.get("body"), None, "an authorizer sees no body");
        assert_eq!(event["headers"]["x-test"], "1");
        if format == PayloadFormat::V2 {
            assert_eq!(event["routeArn"], arn);
            assert_eq!(event["identitySource"], json!(["user1", "value1,value2", "s"]));
            assert_eq!(event["routeKey"], "POST /request/{id}");
            assert_eq!(event["rawPath"], "/request/7");
            assert_eq!(event["rawQueryString"], "parameter1=value1&parameter1=value2&parameter2=value");
            assert_eq!(event["cookies"], json!(["cookie1", "cookie2"]));
            assert_eq!(event["queryStringParameters"], json!({"parameter1": "value1,value2", "parameter2": "value"}));
            assert_eq!(event["requestContext"]["http"]["method"], "POST");
        } else {
            assert_eq!(event["methodArn"], arn);
            assert_eq!(event["identitySource"], "user1,value1,value2,s");
            assert_eq!(event["authorizationToken"], "user1,value1,value2,s");
            assert_eq!(event["resource"], "/request/{id}");
            assert_eq!(event["path"], "/request/7");
            assert_eq!(event["httpMethod"], "POST");
            assert_eq!(event["requestContext"]["resourcePath"], "/request/{id}");
            assert_eq!(event["requestContext"]["identity"]["sourceIp"], "127.0.0.1");
        }
    }
}

/// "To enable caching, your authorizer must have at least one identity source." "If you choose the 1.0 format version,
/// Lambda authorizers must return an IAM policy". "The maximum value is 3600, or 1 hour." (CreateAuthorizer)
#[tokio::test]
async fn settings_that_api_gateway_refuses_are_refused() {
    type Adjust = fn(&mut Authorizer);
    let cases: [(&str, Adjust); 7] = [
        (r#"the gateway's ttl of the authorizer "guard" is "1", expected 0, or at least one identity source"#, |a| {
            a.ttl_seconds = 1
        }),
        (r#"the gateway's ttl of the authorizer "guard" is "3601", expected 0 to 3600 seconds"#, |a| {
            a.ttl_seconds = 3_601;
            a.identity_sources = sources(&[AUTHORIZATION]);
        }),
        ("payload format of the authorizer", |a| a.payload_format = PayloadFormat::V1),
        ("identity source of the authorizer", |a| a.identity_sources = sources(&["$request.path.id"])),
        ("identity source of the authorizer", |a| {
            a.identity_sources = sources(&["method.request.header.Authorization"])
        }),
        ("timeout of the authorizer", |a| a.timeout = Duration::from_millis(10_001)),
        (r#"authorizer of the route "GET /a" is "guard""#, |a| a.name = "other".to_owned()),
    ];
    for (expected, adjust) in cases {
        let config = guarded_api(&["GET /a"], &Function::returning(allow()), adjust);
        let error = Gateway::bind(config, super::harness::loopback()).await.unwrap_err();
        assert!(matches!(error, BindError::Config(_)));
        assert!(error.to_string().contains(expected), "{error}");
    }
}
