//! "Transform API requests and responses for HTTP APIs in API Gateway".

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::harness::{Function, get, guarded_api, serve};
use crate::dev::gateway::PayloadFormat;

async fn headers(context: Value, parameters: &[(&str, &str)], sent: &[(&str, &str)], format: PayloadFormat) -> Value {
    let authorizer = Function::returning(json!({"isAuthorized": true, "context": context}));
    let mut config = guarded_api(&["GET /a/{id}"], &authorizer, |_| {});
    config.stage_variables.insert("color".to_owned(), "blue".to_owned());
    config.integrations[0].payload_format = format;
    config.integrations[0].request_parameters =
        parameters.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>();
    let event = get(&serve(config).await, "/a/7?q=1&q=2", sent).await.json();
    // The mapping is the integration's: the authorizer sees what was sent.
    for (name, value) in sent {
        assert_eq!(authorizer.last_event()["headers"][name.to_lowercase()], *value);
    }
    let name = if format == PayloadFormat::V1 { "multiValueHeaders" } else { "headers" };
    event[name].clone()
}

/// "Header | append|overwrite|remove:header.headername"; "Context variable | $context.variableName".
#[tokio::test]
async fn headers_are_overwritten_removed_and_appended() {
    let context = json!({"sub": "reader", "scope": "reviews.read", "empty": "", "number": 7, "yes": true, "list": ["a"], "null": null});
    let sent = [
        ("X-Sub", "admin"),
        ("X-Api-Key", "cwk_secret"),
        ("X-Trace", "1"),
        ("X-Missing", "forged"),
        ("X-Null", "forged"),
        ("X-Empty", "forged"),
    ];
    let parameters = [
        ("overwrite:header.x-sub", "$context.authorizer.sub"),
        ("overwrite:header.X-Scope", "$context.authorizer.scope"),
        ("overwrite:header.x-empty", "$context.authorizer.empty"),
        ("overwrite:header.x-number", "$context.authorizer.number"),
        ("overwrite:header.x-yes", "$context.authorizer.yes"),
        ("overwrite:header.x-list", "$context.authorizer.list"),
        ("overwrite:header.x-null", "$context.authorizer.null"),
        ("overwrite:header.x-missing", "$context.authorizer.missing"),
        ("remove:header.x-api-key", "''"),
        ("append:header.x-trace", "$request.querystring.q"),
        ("overwrite:header.x-route", "$context.routeKey"),
        ("overwrite:header.x-color", "$stageVariables.color"),
        ("overwrite:header.x-constant", "fixed"),
        ("overwrite:header.x-copy", "$request.header.X-Sub"),
    ];
    for format in [PayloadFormat::V2, PayloadFormat::V1] {
        let seen = headers(context.clone(), &parameters, &sent, format).await;
        let expected = [
            ("x-sub", Some("reader")),
            ("x-scope", Some("reviews.read")),
            ("x-empty", Some("")),
            ("x-number", Some("7")),
            ("x-yes", Some("true")),
            ("x-list", Some(r#"["a"]"#)),
            // A value that is not there leaves no header, and never the client's.
            ("x-null", None),
            ("x-missing", None),
            ("x-api-key", None),
            ("x-trace", Some("1,1,2")),
            ("x-route", Some("GET /a/{id}")),
            ("x-color", Some("blue")),
            ("x-constant", Some("fixed")),
            // Values are of the request as it came, whatever other mappings do.
            ("x-copy", Some("admin")),
        ];
        for (name, value) in expected {
            let seen = match &seen[name] {
                Value::Array(values) => {
                    Some(values.iter().map(|value| value.as_str().unwrap()).collect::<Vec<_>>().join(","))
                }
                Value::String(value) => Some(value.clone()),
                _ => None,
            };
            assert_eq!(seen.as_deref(), value, "{name} in {format:?}");
        }
    }
}

/// A cookie is a header until it is in `cookies`.
#[tokio::test]
async fn a_removed_cookie_header_leaves_no_cookies() {
    let authorizer = Function::returning(json!({"isAuthorized": true}));
    let mut config = guarded_api(&["GET /a"], &authorizer, |_| {});
    config.integrations[0].request_parameters.insert("remove:header.cookie".to_owned(), String::new());
    let event = get(&serve(config).await, "/a", &[("Cookie", "session=1")]).await.json();
    assert_eq!((event.get("cookies"), event["headers"].get("cookie")), (None, None));
    assert_eq!(authorizer.last_event()["cookies"], json!(["session=1"]));
}
