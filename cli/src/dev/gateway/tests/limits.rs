//! "Quotas for configuring and running an HTTP API in API Gateway", and what is no HTTP.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::harness::{Function, api, get, loopback, raw, send, serve};
use crate::dev::gateway::{Gateway, InProcess};

/// "Total combined size of request line and header values | 10240 bytes | No"
#[tokio::test]
async fn request_line_and_header_values_over_10_240_bytes_are_431() {
    let backend = Function::echo();
    let server = serve(api(&["$default"], &backend)).await;
    let host = server.address.to_string();
    let fixed = "GET / HTTP/1.1".len() + host.len() + "close".len();
    let at_the_limit = "x".repeat(10_240 - fixed);
    assert_eq!(get(&server, "/", &[("x-big", &at_the_limit)]).await.status, 200);
    let over = (431, json!({"message": "Request Header Fields Too Large"}));
    assert_eq!(get(&server, "/", &[("x-big", &format!("{at_the_limit}x"))]).await.refusal(), over);
    assert_eq!(get(&server, &format!("/{at_the_limit}x"), &[]).await.refusal(), over, "the request line counts");
    let half = "x".repeat(5_200);
    assert_eq!(get(&server, "/", &[("a", &half), ("b", &half)]).await.refusal(), over, "all values count");
    assert_eq!(backend.calls(), 1);
    // Far beyond it the server reads no further; hyper answers then.
    assert_eq!(get(&server, "/", &[("x-big", &"x".repeat(100_000))]).await.status, 431);
}

/// Lambda's limit for synchronous payloads (Lambda quotas); API Gateway's own limit, "Payload size | 10 MB | No", lies
/// above it.
#[tokio::test]
async fn bodies_over_6_mb_are_413() {
    const LIMIT: usize = 6 * 1024 * 1024;
    let backend = Function::new(|event| Ok(json!(event["body"].as_str().unwrap_or_default().len())));
    let server = serve(api(&["POST /"], &backend)).await;
    let body = vec![b'a'; LIMIT];
    assert_eq!(send(&server, "POST", "/", &[], &body).await.body, LIMIT.to_string());
    let over = (413, json!({"message": "Request Entity Too Large"}));
    // Said beforehand: nothing of the body has to be sent.
    let announced =
        format!("POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", LIMIT + 1);
    assert_eq!(raw(server.address, announced.as_bytes()).await.refusal(), over);
    // Not said beforehand: what arrives is counted, and the answer comes before the body's end.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    stream.write_all(format!("{:x}\r\n", LIMIT + 1).as_bytes()).await.unwrap();
    stream.write_all(&vec![b'a'; LIMIT + 1]).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert_eq!(backend.calls(), 1);
}

/// RFC 9112 §3.2: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that lacks a
/// Host header field and to any request message that contains more than one Host header field line or a Host header
/// field with an invalid field value."
#[tokio::test]
async fn requests_that_are_none_are_400() {
    let backend = Function::echo();
    let server = serve(api(&["$default"], &backend)).await;
    let cases: [&[u8]; 9] = [
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\nHost: a@b\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\nHost:\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\nx-latin: \xe9\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\n\r\n",
        b"CONNECT localhost:1 HTTP/1.1\r\nConnection: close\r\nHost: localhost:1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"nonsense\r\n\r\n",
    ];
    for request in cases {
        assert_eq!(raw(server.address, request).await.status, 400, "{}", String::from_utf8_lossy(request));
    }
    assert_eq!(backend.calls(), 0);
}

/// RFC 9112 §3.2.2: an absolute target's host counts, not the Host header's.
#[tokio::test]
async fn an_absolute_target_names_the_host() {
    let mut config = api(&["GET /a"], &Function::echo());
    config.domains = vec!["api.bookinfo.example".to_owned()];
    let server = serve(config).await;
    let request = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let event = raw(server.address, request("http://api.bookinfo.example/a").as_bytes()).await.json();
    assert_eq!(event["headers"]["host"], "api.bookinfo.example");
    assert_eq!(raw(server.address, request("http://other.example/a").as_bytes()).await.status, 403);
}

/// After the shutdown nothing new is taken, and what is under way is finished.
#[tokio::test]
async fn shutdown_lets_open_requests_finish() {
    let (entered, mut has_entered) = tokio::sync::mpsc::channel::<()>(1);
    let (release, released) = tokio::sync::watch::channel(false);
    let mut config = api(&["$default"], &Function::echo());
    config.integrations[0].invoker = InProcess::function(move |_| {
        let (entered, mut released) = (entered.clone(), released.clone());
        async move {
            entered.send(()).await.unwrap();
            released.wait_for(|&yes| yes).await.unwrap();
            Ok(json!("done"))
        }
    });
    let bound = Gateway::bind(config, loopback()).await.unwrap();
    let address = bound.address();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(bound.run(async { stopped.await.unwrap() }));
    let client = tokio::spawn(async move { raw(address, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await });
    has_entered.recv().await.unwrap();
    stop.send(()).unwrap();
    // The listener is gone once a connection is refused.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    release.send(true).unwrap();
    assert_eq!(client.await.unwrap().body, "done");
    tokio::time::timeout(Duration::from_secs(60), running).await.unwrap().unwrap();
}
