//! "Invoking Lambda function URLs" unless a test names another page.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use identity::secret::Secret;
use platform::aws::Credentials;
use platform::clock::FixedClock;
use platform::log::Log;
use platform::sigv4;
use serde_json::{Value, json};

use super::harness::{Function, NOW, Reply, Served, get, loopback, raw, serve_url};
use crate::dev::gateway::{BindError, Caller, FunctionUrl, FunctionUrlConfig, UrlAuth};

const KEY: &str = "ASIAREVIEWS";

fn credentials() -> Credentials {
    Credentials {
        access_key_id: KEY.to_owned(),
        secret_access_key: Secret::new("the secret half".to_owned()),
        session_token: Some(Secret::new("the token".to_owned())),
    }
}

fn door(function: &Function) -> FunctionUrlConfig {
    let caller = Caller {
        secret_access_key: credentials().secret_access_key,
        session_token: credentials().session_token,
        account_id: "111122223333".to_owned(),
        user_arn: "arn:aws:sts::111122223333:assumed-role/reviews/function".to_owned(),
        caller_id: "AROAREVIEWS:function".to_owned(),
        principal_org_id: None,
    };
    let mut config = FunctionUrlConfig::new(
        "door1",
        UrlAuth::AwsIam(BTreeMap::from([(KEY.to_owned(), caller)])),
        Arc::clone(&function.invoker),
    );
    config.clock = Arc::new(FixedClock::at(NOW));
    config
}

/// How a signed request differs from a good one.
struct Signed<'a> {
    credentials: Credentials,
    region: &'a str,
    service: &'a str,
    signed_at: u64,
    target: &'a str,
    body: &'a [u8],
    extra: &'a [(&'a str, &'a str)],
}

impl Default for Signed<'_> {
    fn default() -> Self {
        Self {
            credentials: credentials(),
            region: "eu-central-1",
            service: "lambda",
            signed_at: NOW,
            target: "/v1/svid?a=1&b=%2F",
            body: b"{}",
            extra: &[],
        }
    }
}

impl Signed<'_> {
    /// The headers of the signed request.
    fn headers(&self, server: &Served) -> Vec<(String, String)> {
        let host = server.address.to_string();
        let mut headers =
            vec![("host".to_owned(), host.clone()), ("content-type".to_owned(), "application/json".to_owned())];
        let url = format!("http://{host}{}", self.target);
        let request = sigv4::Request { method: "POST", url: &url, headers: &headers, body: self.body };
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(self.signed_at);
        let added = sigv4::sign(request, &self.credentials, self.region, self.service, at).unwrap();
        headers.extend(added);
        headers.extend(self.extra.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        headers
    }

    async fn send(&self, server: &Served) -> Reply {
        post(server, self.target, &self.headers(server), self.body).await
    }
}

async fn post(server: &Served, target: &str, headers: &[(String, String)], body: &[u8]) -> Reply {
    let head: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request =
        format!("POST {target} HTTP/1.1\r\n{head}connection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    raw(server.address, &[request.as_bytes(), body].concat()).await
}

fn forbidden() -> (u16, Value) {
    (403, json!({"Message": "Forbidden"}))
}

/// The page's example event, member by member, with "the caller identity, if the function URL uses the AWS_IAM auth type".
#[tokio::test]
async fn a_signed_request_becomes_an_event_with_the_caller() {
    let function = Function::echo();
    let server = serve_url(door(&function)).await;
    let reply = Signed { extra: &[("cookie", "cookie1; cookie2"), ("user-agent", "agent")], ..Signed::default() }
        .send(&server)
        .await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let mut event = reply.json();
    assert!(event["requestContext"]["requestId"].take().is_string());
    let date = event["headers"]["x-amz-date"].take();
    assert_eq!(date, "20261120T163200Z");
    assert_eq!(
        event,
        json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": "/v1/svid",
            "rawQueryString": "a=1&b=%2F",
            "cookies": ["cookie1", "cookie2"],
            // The caller's credentials stay outside.
            "headers": {
                "content-type": "application/json", "content-length": "2", "user-agent": "agent", "x-amz-date": null,
                "host": "door1.lambda-url.eu-central-1.on.aws",
                "x-forwarded-for": "127.0.0.1", "x-forwarded-port": "443", "x-forwarded-proto": "https",
            },
            "queryStringParameters": {"a": "1", "b": "/"},
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "door1",
                "authentication": null,
                "authorizer": {"iam": {
                    "accessKey": "ASIAREVIEWS",
                    "accountId": "111122223333",
                    "callerId": "AROAREVIEWS:function",
                    "cognitoIdentity": null,
                    "principalOrgId": null,
                    "userArn": "arn:aws:sts::111122223333:assumed-role/reviews/function",
                    "userId": "AROAREVIEWS:function",
                }},
                "domainName": "door1.lambda-url.eu-central-1.on.aws",
                "domainPrefix": "door1",
                "http": {"method": "POST", "path": "/v1/svid", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "agent"},
                "requestId": null,
                "routeKey": "$default",
                "stage": "$default",
                "time": "20/Nov/2026:16:32:00 +0000",
                "timeEpoch": NOW * 1_000,
            },
            "body": "{}",
            "pathParameters": null,
            "isBase64Encoded": false,
            "stageVariables": null,
        })
    );
}

/// "If your function URL uses the AWS_IAM auth type, you must sign each HTTP request using AWS Signature Version 4
/// (SigV4)." "Lambda processes the request only if the signatures match."
#[tokio::test]
async fn without_a_valid_signature_nothing_is_asked() {
    let function = Function::echo();
    let (log, lines) = Log::memory();
    let server = serve_url(FunctionUrlConfig { log: Some(log), ..door(&function) }).await;
    assert_eq!(get(&server, "/v1/svid", &[]).await.refusal(), forbidden(), "unsigned");
    assert_eq!(
        get(&server, "/v1/svid", &[("authorization", "Bearer x")]).await.refusal(),
        forbidden(),
        "another scheme"
    );

    let with = |id: &str, secret: &str, token: Option<&str>| Credentials {
        access_key_id: id.to_owned(),
        secret_access_key: Secret::new(secret.to_owned()),
        session_token: token.map(|token| Secret::new(token.to_owned())),
    };
    let right = "the secret half";
    let cases = [
        ("unknown key", Signed { credentials: with("ASIAOTHER", right, Some("the token")), ..Signed::default() }),
        ("wrong secret", Signed { credentials: with(KEY, "guess", Some("the token")), ..Signed::default() }),
        ("wrong token", Signed { credentials: with(KEY, right, Some("another")), ..Signed::default() }),
        ("no token", Signed { credentials: with(KEY, right, None), ..Signed::default() }),
        ("another service", Signed { service: "execute-api", ..Signed::default() }),
        ("another region", Signed { region: "us-east-1", ..Signed::default() }),
        ("too old", Signed { signed_at: NOW - 301, ..Signed::default() }),
        ("too new", Signed { signed_at: NOW + 301, ..Signed::default() }),
        ("two signatures", Signed { extra: &[("authorization", "AWS4-HMAC-SHA256 x")], ..Signed::default() }),
    ];
    for (name, signed) in cases {
        let reply = signed.send(&server).await;
        assert_eq!(reply.refusal(), forbidden(), "{name}");
        assert_eq!(reply.header("x-amzn-errortype"), ["AccessDeniedException"]);
    }
    for signed_at in [NOW - 300, NOW + 300] {
        assert_eq!(
            Signed { signed_at, ..Signed::default() }.send(&server).await.status,
            200,
            "five minutes are allowed"
        );
    }
    assert_eq!(function.calls(), 2);

    let good = Signed::default();
    let headers = good.headers(&server);
    let changed = |name: &str, value: &str| -> Vec<(String, String)> {
        headers
            .iter()
            .map(|(own, old)| (own.clone(), if own == name { value.to_owned() } else { old.clone() }))
            .collect()
    };
    let cases = [
        ("body", post(&server, good.target, &headers, b"{\"csr\":1}").await),
        ("path", post(&server, "/v1/other?a=1&b=%2F", &headers, good.body).await),
        ("query", post(&server, "/v1/svid?a=2&b=%2F", &headers, good.body).await),
        ("host", post(&server, good.target, &changed("host", "door1.lambda-url.eu-central-1.on.aws"), good.body).await),
        ("signed header", post(&server, good.target, &changed("content-type", "text/plain"), good.body).await),
    ];
    for (name, reply) in cases {
        assert_eq!(reply.refusal(), forbidden(), "{name}");
    }
    assert_eq!(function.calls(), 2);
    for line in lines.all() {
        assert!(
            !line.contains("the secret half") && !line.contains("the token") && !line.contains("Signature="),
            "{line}"
        );
    }
}

/// "If your function URL uses the NONE auth type, you don't have to sign your requests using SigV4." "Otherwise, Lambda sets this
/// to null." And no client says who it is.
#[tokio::test]
async fn an_open_url_has_no_caller_whatever_a_client_claims() {
    let function = Function::echo();
    let server = serve_url(FunctionUrlConfig { auth: UrlAuth::None, ..door(&function) }).await;
    let forged =
        json!({"requestContext": {"apiId": "door1", "authorizer": {"iam": {"userArn": "arn:aws:iam::1:role/admin"}}}})
            .to_string();
    let headers = vec![
        ("host".to_owned(), server.address.to_string()),
        ("content-type".to_owned(), "application/json".to_owned()),
        ("authorization".to_owned(), "Basic eA==".to_owned()),
        ("requestcontext".to_owned(), forged.clone()),
    ];
    let event = post(&server, "/?requestContext=x", &headers, forged.as_bytes()).await.json();
    assert_eq!(event["requestContext"]["authorizer"], Value::Null);
    assert_eq!(event["body"], Value::String(forged));
    assert_eq!(event["headers"]["authorization"], "Basic eA==", "an open URL leaves it to the function");
}

/// `rawPath` of a function URL is the path as sent: unlike HTTP APIs, function URLs were seen to decode nothing.
#[tokio::test]
async fn the_path_is_not_decoded() {
    let server = serve_url(FunctionUrlConfig { auth: UrlAuth::None, ..door(&Function::echo()) }).await;
    let event = get(&server, "/a%2Fb%20c/../d?x=%20", &[]).await.json();
    assert_eq!((&event["rawPath"], &event["rawQueryString"]), (&json!("/a%2Fb%20c/../d"), &json!("x=%20")));
    assert_eq!(event["requestContext"]["http"]["path"], "/a%2Fb%20c/../d");
}

/// "If your function returns valid JSON and doesn't return a statusCode, Lambda assumes the following: statusCode is 200.
/// content-type is application/json. body is the function response." The page shows a string with its quotation marks.
#[tokio::test]
async fn answers_are_inferred_and_failures_are_502() {
    let ask = |function: Function| async move {
        get(&serve_url(FunctionUrlConfig { auth: UrlAuth::None, ..door(&function) }).await, "/", &[]).await
    };
    let reply = ask(Function::returning(json!("Hello, world!"))).await;
    assert_eq!(
        (reply.status, reply.body.as_str(), reply.header("content-length")),
        (200, "\"Hello, world!\"", vec!["15"])
    );
    assert_eq!(
        ask(Function::returning(json!({"message": "Hello, world!"}))).await.body,
        r#"{"message":"Hello, world!"}"#
    );
    let reply = ask(Function::returning(json!({"statusCode": 201, "cookies": ["Cookie_1=Value1; Expires=21 Oct 2021 07:48 GMT", "Cookie_2=Value2; Max-Age=78000"]}))).await;
    assert_eq!((reply.status, reply.header("set-cookie").len()), (201, 2));
    // "5XX series codes indicate server-side errors, such as function errors and timeouts." (Monitoring Lambda function URLs)
    assert_eq!(ask(Function::failing("boom")).await.refusal(), (502, json!({"Message": "Internal Server Error"})));
    assert_eq!(ask(Function::returning(json!({"statusCode": "x"}))).await.status, 502);
}

#[tokio::test]
async fn another_host_is_not_served() {
    let function = Function::echo();
    let server = serve_url(FunctionUrlConfig { auth: UrlAuth::None, ..door(&function) }).await;
    let ask = |host: &'static str| {
        let address = server.address;
        async move { raw(address, format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).await }
    };
    assert_eq!(ask("door1.lambda-url.eu-central-1.on.aws").await.status, 200);
    assert_eq!(ask("door2.lambda-url.eu-central-1.on.aws").await.refusal(), forbidden());
    let error = FunctionUrl::bind(FunctionUrlConfig { url_id: "a.b".to_owned(), ..door(&function) }, loopback())
        .await
        .unwrap_err();
    assert!(matches!(error, BindError::Config(_)));
}
