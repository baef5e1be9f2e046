//! WebSocket APIs: "Control access to WebSocket APIs with AWS Lambda REQUEST authorizers".

use std::sync::Arc;

use authz::ApiKey;
use platform::clock::FixedClock;
use serde_json::{Value, json};

use super::harness::{Function, NOW, Reply, Served, loopback, raw, start};
use super::issuer::{self, Issuer};
use super::rest::{authorizer, members, policy, request};
use crate::dev::gateway::{IdentitySource, Invoker, RestAuthorizer, WebSocketApi, WebSocketConfig};

const ARN: &str = "arn:aws:execute-api:eu-central-1:123456789012:bookinfow1/live/$connect";

fn api(guard: Arc<dyn Invoker>) -> WebSocketConfig {
    WebSocketConfig {
        api_id: "bookinfow1".to_owned(),
        stage: "live".to_owned(),
        domains: vec!["ws.bookinfo.example".to_owned()],
        region: "eu-central-1".to_owned(),
        account_id: "123456789012".to_owned(),
        authorizer: Some(RestAuthorizer::new("guard", guard, request(&[]))),
        connect: None,
        clock: Arc::new(FixedClock::at(NOW)),
        log: None,
    }
}

async fn serve(config: WebSocketConfig) -> Served {
    start(WebSocketApi::bind(config, loopback()).await.unwrap())
}

/// The handshake of RFC 6455, section 1.2.
async fn connect(server: &Served, target: &str, more: &str) -> Reply {
    let head = format!(
        "GET {target} HTTP/1.1\r\nHost: ws.bookinfo.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    );
    raw(server.address, head.as_bytes()).await
}

#[tokio::test]
async fn the_authorizer_is_told_what_the_service_tells() {
    let guard = Function::returning(policy("Allow", ARN));
    let server = serve(api(guard.invoker.clone())).await;
    let reply = connect(&server, "/?lang=en", "User-Agent: curl/8.5.0\r\n").await;
    assert_eq!((reply.status, reply.header("sec-websocket-accept")), (101, vec!["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]));
    let asked = guard.last_event();
    let example: Value =
        serde_json::from_str(include_str!("../../../../../examples/events/websocket-connect.json")).unwrap();
    assert_eq!(members(&asked), members(&example));
    assert_eq!(members(&asked["requestContext"]), members(&example["requestContext"]));
    for member in ["type", "methodArn", "queryStringParameters", "multiValueQueryStringParameters", "stageVariables"] {
        assert_eq!(asked[member], example[member], "{member}");
    }
    for member in ["routeKey", "eventType", "messageDirection", "stage", "domainName", "apiId"] {
        assert_eq!(asked["requestContext"][member], example["requestContext"][member], "{member}");
    }
    assert_eq!(
        (&asked["headers"]["upgrade"], &asked["headers"]["connection"]),
        (&json!("websocket"), &json!("upgrade"))
    );
}

#[tokio::test]
async fn what_is_no_allow_opens_no_connection() {
    let denied = "User is not authorized to access this resource";
    let mut large = policy("Allow", "*");
    large["context"] = json!({"filler": "x".repeat(8 * 1024)});
    for (guard, status, body) in [
        (Function::returning(policy("Deny", "*")), 403, json!({"Message": format!("{denied} with an explicit deny")})),
        (Function::returning(policy("Allow", &ARN.replace("connect", "else"))), 403, json!({"Message": denied})),
        (Function::failing("Unauthorized"), 401, json!({"message": "Unauthorized"})),
        (Function::failing("else"), 500, json!({"message": null})),
        (Function::returning(large), 500, json!({"message": null})),
    ] {
        let reply = connect(&serve(api(guard.invoker.clone())).await, "/", "Connection: close\r\n").await;
        assert_eq!(reply.refusal(), (status, body));
    }
    // The integration of $connect has a say, too.
    for (status, expected) in [(200, 101), (403, 403), (500, 403)] {
        let mut config = api(Function::returning(policy("Allow", "*")).invoker);
        let backend = Function::returning(json!({"statusCode": status}));
        config.connect = Some(backend.invoker.clone());
        let reply = connect(&serve(config).await, "/", "Connection: close\r\n").await;
        assert_eq!(reply.status, expected);
        assert_eq!(backend.last_event()["requestContext"]["authorizer"]["principalId"], "user");
    }
}

#[tokio::test]
async fn nobody_is_asked_about_what_is_no_handshake() {
    let guard = Function::returning(policy("Allow", "*"));
    let server = serve(api(guard.invoker.clone())).await;
    for head in [
        "GET / HTTP/1.1\r\nHost: ws.bookinfo.example\r\nConnection: close\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: ws.bookinfo.example\r\nConnection: close\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: a\r\nSec-WebSocket-Version: 13\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: ws.bookinfo.example\r\nConnection: close\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: a\r\nSec-WebSocket-Version: 8\r\n\r\n",
    ] {
        assert_eq!(raw(server.address, head.as_bytes()).await.status, 400, "{head}");
    }
    assert_eq!(connect(&server, "/else", "Connection: close\r\n").await.status, 403);
    assert_eq!(guard.calls(), 0);
    let token = IdentitySource::Token("Authorization".to_owned());
    let mut config = api(guard.invoker.clone());
    config.authorizer = Some(RestAuthorizer::new("guard", guard.invoker.clone(), token));
    assert!(WebSocketApi::bind(config, loopback()).await.unwrap_err().to_string().contains("REQUEST authorizer"));
}

#[tokio::test]
async fn our_authorizer_guards_a_websocket_api() {
    let (issuer, key) = (Issuer::new(), ApiKey::generate("dev", &[1; 48]).unwrap());
    let server = serve(api(authorizer(&issuer, &key).await)).await;
    let good = issuer.token(&issuer::reader());
    let unread = issuer.token(&issuer::with(issuer::reader(), "scope", json!("")));
    for (token, status) in [(good.as_str(), 101), (&unread, 403), ("x.y.z", 401)] {
        let more = format!("Authorization: Bearer {token}\r\nConnection: close\r\n");
        assert_eq!(connect(&server, "/", &more).await.status, status);
    }
    assert_eq!(connect(&server, "/", "Connection: close\r\n").await.status, 401);
}
