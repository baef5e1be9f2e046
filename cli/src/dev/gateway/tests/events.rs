//! "Create AWS Lambda proxy integrations for HTTP APIs in API Gateway" unless a test names another page.

use serde_json::{Value, json};

use super::harness::{Function, NOW, api, get, raw, send, serve};
use crate::dev::gateway::PayloadFormat;

/// The page's example event of format 2.0, member by member. "All headernames are lowercased."
#[tokio::test]
async fn format_2_is_the_documented_one() {
    let server = serve(api(&["POST /my/{proxy+}"], &Function::echo())).await;
    let headers = [
        ("Header1", "value1"),
        ("HEADER2", "value1"),
        ("header2", "value2"),
        ("User-Agent", "agent"),
        ("Content-Type", "text/plain"),
        ("Cookie", "cookie1; cookie2"),
    ];
    let target = "/my/path?parameter1=value1&parameter1=value2&parameter2=value";
    let mut event = send(&server, "POST", target, &headers, b"Hello from Lambda").await.json();
    let id = event["requestContext"]["requestId"].take();
    assert!(id.as_str().is_some_and(|id| !id.is_empty()));
    assert_eq!(
        event,
        json!({
            "version": "2.0",
            "routeKey": "POST /my/{proxy+}",
            "rawPath": "/my/path",
            "rawQueryString": "parameter1=value1&parameter1=value2&parameter2=value",
            "cookies": ["cookie1", "cookie2"],
            "headers": {
                // "Duplicate headers are combined with commas and included in the headers field."
                "header1": "value1", "header2": "value1,value2", "user-agent": "agent", "content-type": "text/plain", "content-length": "17",
                "host": "api1.execute-api.eu-central-1.amazonaws.com",
                "x-forwarded-for": "127.0.0.1", "x-forwarded-port": "443", "x-forwarded-proto": "https",
            },
            // "Duplicate query strings are combined with commas and included in the queryStringParameters field."
            "queryStringParameters": {"parameter1": "value1,value2", "parameter2": "value"},
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "api1",
                "domainName": "api1.execute-api.eu-central-1.amazonaws.com",
                "domainPrefix": "api1",
                "http": {"method": "POST", "path": "/my/path", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "agent"},
                "requestId": null,
                "routeKey": "POST /my/{proxy+}",
                "stage": "$default",
                "time": "20/Nov/2026:16:32:00 +0000",
                "timeEpoch": NOW * 1_000,
            },
            "body": "Hello from Lambda",
            "pathParameters": {"proxy": "path"},
            "isBase64Encoded": false,
        })
    );
}

/// The page's example event of format 1.0: "multiValueHeaders" and "multiValueQueryStringParameters" hold every value, the
/// plain fields the last one.
#[tokio::test]
async fn format_1_is_the_documented_one() {
    let mut config = api(&["GET /my/path"], &Function::echo());
    config.integrations[0].payload_format = PayloadFormat::V1;
    let server = serve(config).await;
    let headers = [
        ("Header1", "value1"),
        ("Header2", "value1"),
        ("Header2", "value2"),
        ("User-Agent", "user-agent"),
        ("Cookie", "a=1"),
    ];
    let event = get(&server, "/my/path?parameter1=value1&parameter1=value2&parameter2=value", &headers).await.json();
    let expected = [
        ("/version", json!("1.0")),
        ("/resource", json!("/my/path")),
        ("/path", json!("/my/path")),
        ("/httpMethod", json!("GET")),
        ("/headers/header1", json!("value1")),
        ("/headers/header2", json!("value2")),
        ("/headers/cookie", json!("a=1")),
        ("/multiValueHeaders/header1", json!(["value1"])),
        ("/multiValueHeaders/header2", json!(["value1", "value2"])),
        ("/queryStringParameters", json!({"parameter1": "value2", "parameter2": "value"})),
        ("/multiValueQueryStringParameters", json!({"parameter1": ["value1", "value2"], "parameter2": ["value"]})),
        ("/requestContext/accountId", json!("123456789012")),
        ("/requestContext/apiId", json!("api1")),
        ("/requestContext/domainPrefix", json!("api1")),
        ("/requestContext/httpMethod", json!("GET")),
        ("/requestContext/identity/sourceIp", json!("127.0.0.1")),
        ("/requestContext/identity/userAgent", json!("user-agent")),
        ("/requestContext/identity/accessKey", json!(null)),
        ("/requestContext/path", json!("/my/path")),
        ("/requestContext/protocol", json!("HTTP/1.1")),
        ("/requestContext/requestTime", json!("20/Nov/2026:16:32:00 +0000")),
        ("/requestContext/requestTimeEpoch", json!(NOW * 1_000)),
        ("/requestContext/resourcePath", json!("/my/path")),
        ("/requestContext/stage", json!("$default")),
        ("/pathParameters", json!(null)),
        ("/stageVariables", json!(null)),
        ("/body", json!(null)),
        ("/isBase64Encoded", json!(false)),
    ];
    for (pointer, value) in expected {
        assert_eq!(event.pointer(pointer), Some(&value), "{pointer}");
    }
}

/// "API Gateway decodes URL-encoded request parameters before passing them to your backend integration." (Create routes
/// for HTTP APIs) HTTP APIs were seen to decode the path of events too, and to leave the raw query as it came.
#[tokio::test]
async fn paths_and_parameters_are_decoded_and_the_raw_query_is_not() {
    let server = serve(api(&["$default"], &Function::echo())).await;
    let cases = [
        ("/a%20b", "/a b"),
        ("/reviews/..%2Fadmin", "/reviews/../admin"),
        ("/reviews/../admin", "/reviews/../admin"),
        ("/a%2fb%3Fc%23d%25e", "/a/b?c#d%e"),
        ("/%E2%82%AC", "/€"),
        ("//a//b/", "//a//b/"),
        ("/a;b=c", "/a;b=c"),
        ("/%00", "/\u{0}"),
        ("/%zz", "/%zz"),
    ];
    for (target, raw_path) in cases {
        let event = get(&server, target, &[]).await.json();
        assert_eq!(event["rawPath"], raw_path, "{target}");
        assert_eq!(event["requestContext"]["http"]["path"], raw_path, "{target}");
    }
    let event = get(&server, "/?a=%26%3D&b+c=d+e&&f&g=%zz", &[]).await.json();
    assert_eq!(event["rawQueryString"], "a=%26%3D&b+c=d+e&&f&g=%zz");
    assert_eq!(event["queryStringParameters"], json!({"a": "&=", "b c": "d e", "f": "", "g": "%zz"}));
    let event = get(&server, "/?", &[]).await.json();
    assert_eq!((event["rawQueryString"].clone(), event.get("queryStringParameters")), (json!(""), None));
    // A path that decodes to no text.
    assert_eq!(get(&server, "/%ff", &[]).await.refusal(), (400, json!({"message": "Bad Request"})));
}

/// "The HTTP API Lambda integration automatically infers the need for encoding based on the content-type header passed
/// with the request." (AWS Compute Blog, Working with binary data using API Gateway HTTP APIs)
#[tokio::test]
async fn bodies_that_are_not_text_are_base64() {
    let server = serve(api(&["POST /"], &Function::echo())).await;
    let cases: [(Option<&str>, &[u8], &str, bool); 9] = [
        (Some("text/plain"), b"Hello World", "Hello World", false),
        (Some("application/json; charset=utf-8"), b"{}", "{}", false),
        (Some("Application/XML"), b"<a/>", "<a/>", false),
        (Some("application/javascript"), b"a", "a", false),
        (None, b"a", "a", false),
        (
            Some("application/x-www-form-urlencoded"),
            b"grant_type=client_credentials",
            "Z3JhbnRfdHlwZT1jbGllbnRfY3JlZGVudGlhbHM=",
            true,
        ),
        (Some("image/jpeg"), b"\xff\xd8", "/9g=", true),
        (Some("application/octet-stream"), b"a", "YQ==", true),
        (Some("text/plain"), b"\xff", "/w==", true),
    ];
    for (kind, body, expected, is_base64) in cases {
        let headers: Vec<(&str, &str)> = kind.map(|kind| ("Content-Type", kind)).into_iter().collect();
        let event = send(&server, "POST", "/", &headers, body).await.json();
        assert_eq!(
            (event["body"].as_str(), event["isBase64Encoded"].as_bool()),
            (Some(expected), Some(is_base64)),
            "{kind:?}"
        );
    }
    let event = send(&server, "POST", "/", &[("Content-Type", "application/octet-stream")], b"").await.json();
    assert_eq!((event.get("body"), event["isBase64Encoded"].as_bool()), (None, Some(false)), "no body");
}

/// A body's framing and the connection's headers end at the gateway (RFC 9110 §7.6.1), and what the gateway itself says
/// of the request cannot be said by the client.
#[tokio::test]
async fn the_gateways_own_headers_are_its_own() {
    let server = serve(api(&["POST /"], &Function::echo())).await;
    let request = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nX-Forwarded-Proto: ftp\r\n\
        X-Forwarded-Port: 1\r\nX-Forwarded-For: 203.0.113.7\r\nContent-Type: text/plain\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let event = raw(server.address, request).await.json();
    assert_eq!(event["body"], "hello");
    assert_eq!(
        event["headers"],
        json!({
            "content-type": "text/plain", "content-length": "5", "host": "api1.execute-api.eu-central-1.amazonaws.com",
            "x-forwarded-for": "203.0.113.7, 127.0.0.1", "x-forwarded-port": "443", "x-forwarded-proto": "https",
        })
    );
    assert_eq!(event["requestContext"]["http"]["sourceIp"], "127.0.0.1");
}

/// Whatever a client sends, `requestContext` is the gateway's.
#[tokio::test]
async fn nothing_that_a_client_sends_becomes_context() {
    let server = serve(api(&["POST /{proxy+}"], &Function::echo())).await;
    let forged = json!({"requestContext": {"authorizer": {"lambda": {"sub": "admin"}, "iam": {"userArn": "x"}}}, "version": "2.0"}).to_string();
    let headers = [
        ("requestContext", "{\"authorizer\":{}}"),
        ("Content-Type", "application/json"),
        ("x-amzn-request-context", "{\"authorizer\":{}}"),
    ];
    let event = send(&server, "POST", "/a?requestContext.authorizer=x&requestContext=y", &headers, forged.as_bytes())
        .await
        .json();
    assert_eq!(event["requestContext"].get("authorizer"), None);
    assert_eq!(event["requestContext"]["apiId"], "api1");
    assert_eq!(event["body"], Value::String(forged));
}
