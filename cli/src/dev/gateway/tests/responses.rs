//! "Create AWS Lambda proxy integrations for HTTP APIs in API Gateway" unless a test names another page.

use std::time::Duration;

use platform::log::Log;
use serde_json::{Value, json};

use super::harness::{Function, api, get, send, serve};
use crate::dev::gateway::{InProcess, PayloadFormat};

fn internal() -> (u16, Value) {
    (500, json!({"message": "Internal Server Error"}))
}

/// "API Gateway makes the following assumptions if your Lambda function returns valid JSON and doesn't return a
/// statusCode: isBase64Encoded is false. statusCode is 200. content-type is application/json. body is the function's
/// response."
#[tokio::test]
async fn a_response_without_status_code_is_the_body() {
    let cases = [
        // The page's two examples.
        (json!("Hello from Lambda!"), "Hello from Lambda!"),
        (json!({"message": "Hello from Lambda!"}), r#"{"message":"Hello from Lambda!"}"#),
        (json!([1, 2]), "[1,2]"),
        (json!(7), "7"),
        (json!(null), "null"),
        (json!({"body": "x", "headers": {"a": "b"}}), r#"{"body":"x","headers":{"a":"b"}}"#),
    ];
    for (payload, body) in cases {
        let reply = get(&serve(api(&["$default"], &Function::returning(payload.clone()))).await, "/", &[]).await;
        assert_eq!(
            (reply.status, reply.body.as_str(), reply.header("content-type")),
            (200, body, vec!["application/json"]),
            "{payload}"
        );
    }
}

/// "To customize the response, your Lambda function should return a response with the following format." "In the response
/// to the client, each cookie becomes a set-cookie header."
#[tokio::test]
async fn a_custom_response_is_taken_at_its_word() {
    let payload = json!({
        "cookies": ["cookie1=a; HttpOnly", "cookie2=b"], "isBase64Encoded": false, "statusCode": 201,
        "headers": {"Content-Type": "text/html", "X-Number": 7, "X-Yes": true, "Connection": "upgrade", "Content-Length": "99"},
        "body": "<p>",
    });
    let reply = get(&serve(api(&["$default"], &Function::returning(payload))).await, "/", &[]).await;
    assert_eq!((reply.status, reply.body.as_str()), (201, "<p>"));
    assert_eq!(reply.header("set-cookie"), ["cookie1=a; HttpOnly", "cookie2=b"]);
    assert_eq!(
        (reply.header("content-type"), reply.header("x-number"), reply.header("x-yes")),
        (vec!["text/html"], vec!["7"], vec!["true"])
    );
    assert_eq!(
        (reply.header("content-length"), reply.header("connection")),
        (vec!["3"], vec!["close"]),
        "the connection is the gateway's"
    );
    assert_eq!(reply.header("apigw-requestid").len(), 1);

    let encoded = json!({"statusCode": 200, "isBase64Encoded": true, "body": "aGVsbG8="});
    let reply = get(&serve(api(&["$default"], &Function::returning(encoded))).await, "/", &[]).await;
    assert_eq!((reply.body.as_str(), reply.header("content-type")), ("hello", vec!["text/plain; charset=utf-8"]));

    let empty = get(&serve(api(&["$default"], &Function::returning(json!({"statusCode": 204})))).await, "/", &[]).await;
    assert_eq!((empty.status, empty.body.as_str()), (204, ""));
}

/// A response that says a status and is otherwise not of the format is an internal error, as AWS' own local test tool reproduces it.
#[tokio::test]
async fn a_custom_response_that_is_none_is_500() {
    let cases = [
        json!({"statusCode": "200"}),
        json!({"statusCode": 99}),
        json!({"statusCode": 101}),
        json!({"statusCode": 600}),
        json!({"statusCode": null}),
        json!({"statusCode": 200, "body": {"a": 1}}),
        json!({"statusCode": 200, "headers": []}),
        json!({"statusCode": 200, "headers": {"a b": "c"}}),
        json!({"statusCode": 200, "headers": {"a": "b\r\nset-cookie: c"}}),
        json!({"statusCode": 200, "headers": {"a": ["b"]}}),
        json!({"statusCode": 200, "cookies": "a"}),
        json!({"statusCode": 200, "cookies": ["a\nb"]}),
        json!({"statusCode": 200, "isBase64Encoded": true, "body": "%"}),
        json!({"statusCode": 200, "isBase64Encoded": "yes", "body": ""}),
    ];
    for payload in cases {
        let reply = get(&serve(api(&["$default"], &Function::returning(payload.clone()))).await, "/", &[]).await;
        assert_eq!(reply.refusal(), internal(), "{payload}");
    }
}

/// "With the 1.0 format version, Lambda integrations must return a response in the following format." "API Gateway
/// doesn't make assumptions of the response and returns a 500 error." (AWS Knowledge Center, What are the differences between payload
/// versions 1.0 and 2.0?)
#[tokio::test]
async fn format_1_infers_nothing() {
    let ask = |payload: Value| async move {
        let mut config = api(&["$default"], &Function::returning(payload));
        config.integrations[0].payload_format = PayloadFormat::V1;
        get(&serve(config).await, "/", &[]).await
    };
    for payload in [json!("text"), json!({"message": "a"}), json!(null)] {
        assert_eq!(ask(payload.clone()).await.refusal(), internal(), "{payload}");
    }
    let reply = ask(json!({
        "statusCode": 202, "headers": {"x-one": "1"}, "multiValueHeaders": {"set-cookie": ["a=1", "b=2"]}, "body": "ok", "cookies": ["ignored=1"],
    }))
    .await;
    assert_eq!((reply.status, reply.body.as_str()), (202, "ok"));
    assert_eq!((reply.header("x-one"), reply.header("set-cookie")), (vec!["1"], vec!["a=1", "b=2"]));
}

/// A function that fails is an internal error of the API; nothing of the failure reaches the client, and the log says what happened.
#[tokio::test]
async fn a_function_that_fails_is_500() {
    let (log, lines) = Log::memory();
    let mut config = api(&["$default"], &Function::failing("the database is down"));
    config.log = Some(log);
    let server = serve(config).await;
    let reply = get(&server, "/orders?token=secret", &[("authorization", "Bearer secret")]).await;
    assert_eq!(reply.refusal(), internal());
    let line: Value = serde_json::from_str(&lines.all()[0]).unwrap();
    assert_eq!(line["integration_error"], "the function failed with Error: the database is down");
    assert_eq!(
        (&line["status"], &line["route_key"], &line["path"]),
        (&json!(500), &json!("$default"), &json!("/orders"))
    );
    assert_eq!(line["request_id"], reply.header("apigw-requestid")[0]);
    assert!(!lines.all()[0].contains("secret"), "no credential in a log line");
}

/// "Maximum integration timeout | 30 seconds" (Quotas for configuring and running an HTTP API); here 20 ms, and a function that never
/// answers.
#[tokio::test]
async fn a_function_that_hangs_is_503() {
    let mut config = api(&["$default"], &Function::echo());
    config.integrations[0].invoker = InProcess::function(|_| std::future::pending());
    config.integrations[0].timeout = Duration::from_millis(20);
    assert_eq!(get(&serve(config).await, "/", &[]).await.refusal(), (503, json!({"message": "Service Unavailable"})));
}

#[tokio::test]
async fn a_function_that_panics_takes_nothing_with_it() {
    let mut config = api(&["$default"], &Function::echo());
    config.integrations[0].invoker = InProcess::function(|_| async { panic!("deliberate, in a test") });
    let server = serve(config).await;
    for _ in 0..2 {
        assert_eq!(get(&server, "/", &[]).await.refusal(), internal());
    }
}

/// A service such as our Lambda programs: its error's message is the function's.
#[tokio::test]
async fn a_tower_service_is_a_function() {
    let service = tower::service_fn(|event: Value| async move {
        if event["rawPath"] == "/fail" {
            Err(std::io::Error::other("Unauthorized"))
        } else {
            Ok(json!({"path": event["rawPath"]}))
        }
    });
    let invoker = InProcess::service(service);
    let mut config = api(&["$default"], &Function::echo());
    config.integrations[0].invoker = invoker.clone();
    config.routes.push(crate::dev::gateway::Route::new("GET /guarded", "backend").guarded_by("guard"));
    let mut guard = crate::dev::gateway::Authorizer::new(
        "guard",
        InProcess::service(tower::service_fn(|_: Value| async { Err(std::io::Error::other("Unauthorized")) })),
    );
    guard.timeout = Duration::from_secs(5);
    config.authorizers = vec![guard];
    let server = serve(config).await;
    assert_eq!(get(&server, "/a", &[]).await.body, r#"{"path":"/a"}"#);
    assert_eq!(get(&server, "/fail", &[]).await.refusal(), internal());
    assert_eq!(get(&server, "/guarded", &[]).await.refusal(), (401, json!({"message": "Unauthorized"})));
}

/// RFC 9110 §9.3.2: a response to HEAD has no content.
#[tokio::test]
async fn head_has_no_body() {
    let server = serve(api(&["HEAD /"], &Function::returning(json!("hello")))).await;
    let reply = send(&server, "HEAD", "/", &[], b"").await;
    assert_eq!((reply.status, reply.body.as_str(), reply.header("content-length")), (200, "", vec!["5"]));
}
