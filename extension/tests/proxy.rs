//! Requests through the proxy: to a real mutual TLS server, with everything that can go wrong on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::*;
use http::Request;
use rcgen::SanType;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn good() -> (Arc<Mesh>, MeshServer, Stage) {
    let mesh = Arc::new(Mesh::new());
    let server = MeshServer::start(&mesh, RATINGS).await;
    let stage = Stage::start(&mesh, server.address).await;
    (mesh, server, stage)
}

/// A server whose certificate no SVID of ours could have.
fn odd_server(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> Arc<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Arc::new(config)
}

#[tokio::test]
async fn plain_http_becomes_mutual_tls_with_a_token() {
    let (_mesh, server, stage) = good().await;
    let answer = stage.get("/ratings/0?secret=hunter2").await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str(), answer.reason()), (200, "ratings", ""));

    let seen = &server.seen()[0];
    assert_eq!(seen.uri, "/ratings/0?secret=hunter2");
    assert_eq!(seen.headers["host"], format!("{HOST}:9080").as_str());
    assert_eq!(seen.headers["authorization"], "Bearer token-1");
    assert_eq!(seen.peer.as_deref(), Some(REVIEWS));
    assert_eq!(server.server_names(), [format!("outbound_.9080_._.{HOST}")]);
    let asked = stage.issuer.tokens.lock().unwrap().clone();
    assert_eq!(asked, ["grant_type=client_credentials&scope=ratings.read&audience=bookinfo"]);

    let line = stage.logged();
    assert_eq!(
        (line["authority"].as_str(), line["path"].as_str()),
        (Some("ratings.bookinfo.svc.cluster.local:9080"), Some("/ratings/0"))
    );
    assert_eq!((line["method"].as_str(), line["response_code"].as_u64()), (Some("GET"), Some(200)));
    assert_eq!(line["peer"].as_str(), Some(RATINGS));
    let log = stage.lines.all().join("\n");
    for secret in ["hunter2", "token-1", "reviews-secret", "PRIVATE KEY", "AWS4-HMAC"] {
        assert!(!log.contains(secret), "{secret} is in the log: {log}");
    }
    stage.stop().await.unwrap();
}

#[tokio::test]
async fn a_request_in_origin_form_goes_by_its_host() {
    let (_mesh, server, stage) = good().await;
    let request =
        Request::get("/ratings/0").header("host", "Ratings.Bookinfo.svc.cluster.local:9080").body(text("")).unwrap();
    assert_eq!(stage.call(request).await.status, 200);
    assert_eq!(server.seen()[0].headers["host"], "Ratings.Bookinfo.svc.cluster.local:9080");
}

#[tokio::test]
async fn the_address_counts_and_not_a_host_header_beside_it() {
    let (_mesh, server, stage) = good().await;
    let request = Request::get(format!("{URL}/x")).header("host", "evil.example").body(text("")).unwrap();
    assert_eq!(stage.call(request).await.status, 200);
    let hosts: Vec<_> = server.seen()[0].headers.get_all("host").iter().cloned().collect();
    assert_eq!(hosts, [format!("{HOST}:9080")]);
}

#[tokio::test]
async fn what_is_not_for_us_is_refused_by_name() {
    let (_mesh, server, stage) = good().await;
    for (request, status, reason) in [
        (Request::get("http://unknown.example/"), 502, "unknown_host"),
        (Request::get(format!("http://{HOST}/")), 502, "unknown_host"),
        (Request::get(format!("https://{HOST}:9080/")), 501, "https_unsupported"),
        (Request::builder().method("CONNECT").uri(format!("{HOST}:9081")), 502, "unknown_host"),
        (Request::builder().method("CONNECT").uri(HOST), 400, "request_invalid"),
        (Request::get(format!("{URL}/")).header("upgrade", "WebSocket"), 400, "request_invalid"),
        (Request::get("/"), 400, "request_invalid"),
    ] {
        let answer = stage.call(request.body(text("")).unwrap()).await;
        assert!(answer.is(status, reason), "{reason}: {answer:?}");
        assert!(answer.body.starts_with(reason) && answer.body.lines().count() == 1, "{answer:?}");
        assert_eq!(stage.logged()["reason"].as_str(), Some(reason));
    }
    // Other upgrades may be ignored, and are.
    let request = Request::get(format!("{URL}/")).header("connection", "upgrade").header("upgrade", "h2c");
    assert_eq!(stage.call(request.body(text("")).unwrap()).await.status, 200);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_server_with_the_wrong_identity_gets_nothing() {
    let mesh = Arc::new(Mesh::new());
    let server = MeshServer::start(&mesh, OTHER).await;
    let stage = Stage::start(&mesh, server.address).await;
    let answer = stage.get("/ratings/0").await;
    assert!(answer.is(503, "peer_identity_mismatch"), "{answer:?}");
    assert!(answer.body.contains(OTHER) && answer.body.contains(RATINGS), "{}", answer.body);
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn an_alias_of_the_trust_domain_is_the_same_service() {
    let mesh = Arc::new(Mesh::new());
    let aliased = format!(
        "{YAML}---
apiVersion: v1
kind: ConfigMap
metadata: {{ name: istio, namespace: istio-system }}
data:
  mesh: |
    trustDomainAliases: [alias.example]
"
    );
    let of = |account: &str| format!("spiffe://alias.example/ns/bookinfo/sa/{account}");
    for (yaml, account, status) in [
        (aliased.as_str(), "bookinfo-ratings", 200),
        (aliased.as_str(), "bookinfo-details", 503),
        (YAML, "bookinfo-ratings", 503),
    ] {
        let server = MeshServer::start(&mesh, &of(account)).await;
        let place = format!("{GATEWAY}:15443");
        let stage = Stage::ruled(&mesh, yaml, &[(place.as_str(), server.address)]).await;
        let answer = stage.get("/").await;
        assert_eq!(answer.status, status, "{account}: {answer:?}");
        if status == 200 {
            assert_eq!(stage.logged()["peer"], of(account));
        } else {
            assert!(answer.is(503, "peer_identity_mismatch") && server.seen().is_empty(), "{account}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_server_with_two_identities_gets_nothing() {
    let mesh = Arc::new(Mesh::new());
    let mut both = params(RATINGS);
    both.subject_alt_names.push(SanType::URI(OTHER.try_into().unwrap()));
    let (certificate, key) = mesh.certificate(both);
    let server = MeshServer::with(odd_server(certificate, key)).await;
    let stage = Stage::start(&mesh, server.address).await;
    let answer = stage.get("/").await;
    assert!(answer.is(503, "peer_identity_mismatch"), "{answer:?}");
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_server_that_proves_nothing_gets_nothing() {
    let mesh = Arc::new(Mesh::new());
    let mut over = params(RATINGS);
    over.not_before = at(real_now() - 7_200);
    over.not_after = at(real_now() - 3_600);
    let expired = mesh.certificate(over);
    let stranger = Mesh::new().certificate(params(RATINGS));
    for (name, (certificate, key)) in [("expired", expired), ("another root", stranger)] {
        let server = MeshServer::with(odd_server(certificate, key)).await;
        let stage = Stage::start(&mesh, server.address).await;
        let answer = stage.get("/").await;
        assert!(answer.is(503, "tls_failed"), "{name}: {answer:?}");
        assert!(server.seen().is_empty(), "{name}");
    }
}

#[tokio::test]
async fn a_server_that_refuses_our_certificate_is_a_tls_failure() {
    let mesh = Arc::new(Mesh::new());
    let config = identity::tls::server_config(&mesh.svid(RATINGS), &Mesh::new().bundle(), &[]).unwrap();
    let server = MeshServer::with(config).await;
    let stage = Stage::start(&mesh, server.address).await;
    let answer = stage.get("/").await;
    assert!(answer.is(503, "tls_failed"), "{answer:?}");
}

#[tokio::test]
async fn a_plaintext_server_never_sees_the_request() {
    let mesh = Arc::new(Mesh::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stage = Stage::start(&mesh, address).await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = vec![0; 4_096];
        let read = stream.read(&mut received).await.unwrap();
        received.truncate(read);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        // What else comes, up to the end.
        let _ = stream.read_to_end(&mut received).await;
        received
    });
    let once = Request::get(format!("{URL}/ratings/0")).header("x-envoy-max-retries", "0").body(text("")).unwrap();
    let answer = stage.call(once).await;
    assert!(answer.is(503, "tls_failed"), "{answer:?}");
    let received = server.await.unwrap();
    assert_eq!(received[0], 0x16, "a TLS handshake record");
    assert!(!received.windows(8).any(|bytes| bytes == b"/ratings"));
}

#[tokio::test]
async fn an_issuer_that_is_down_at_the_start_means_503_until_it_is_back() {
    let mesh = Arc::new(Mesh::new());
    let server = MeshServer::start(&mesh, RATINGS).await;
    let stage = Stage::with(&mesh, server.address, Mood::Down, |_| ()).await;
    let answer = stage.get("/").await;
    assert!(answer.is(503, "identity_unavailable"), "{answer:?}");
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(answer.body.contains("503"), "the issuer's status: {}", answer.body);
    assert_eq!(server.connections(), 0);

    stage.issuer.set(Mood::Good);
    stage.clock.advance(Duration::from_secs(10));
    assert_eq!(stage.get("/").await.status, 200);
}

#[tokio::test]
async fn an_svid_that_our_own_verifier_refuses_is_not_used() {
    let mesh = Arc::new(Mesh::new());
    let server = MeshServer::start(&mesh, RATINGS).await;
    for mood in [Mood::OtherRoot, Mood::Expired, Mood::OtherTrustDomain] {
        let stage = Stage::with(&mesh, server.address, mood, |_| ()).await;
        let answer = stage.get("/").await;
        assert!(answer.is(503, "identity_unavailable"), "{mood:?}: {answer:?}");
        assert!(answer.body.contains("our own verifier refused"), "{mood:?}: {}", answer.body);
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn an_svid_is_renewed_at_half_life_and_never_used_after_its_end() {
    let (_mesh, server, stage) = good().await;
    assert_eq!(stage.get("/1").await.status, 200);
    assert_eq!(stage.issuer.svids.load(Ordering::SeqCst), 1);

    // Past half of its life, with a broken renewal: the old one serves.
    stage.issuer.set(Mood::OtherRoot);
    stage.clock.advance(Duration::from_secs(LIFE * 6 / 10));
    let own = || Request::get(format!("{URL}/2")).header("authorization", "mine").body(text("")).unwrap();
    assert_eq!(stage.call(own()).await.status, 200);

    // Past its end: nothing is sent.
    stage.clock.advance(Duration::from_secs(LIFE));
    let before = server.seen().len();
    let answer = stage.call(own()).await;
    assert!(answer.is(503, "identity_unavailable"), "{answer:?}");
    assert_eq!(server.seen().len(), before);
}

#[tokio::test]
async fn a_new_svid_means_new_connections() {
    let (_mesh, server, stage) = good().await;
    assert_eq!(stage.get("/1").await.status, 200);
    assert_eq!(stage.get("/2").await.status, 200);
    assert_eq!(server.seen()[1].connection, 1, "the connection is used again");

    stage.clock.advance(Duration::from_secs(LIFE * 55 / 100));
    // This one starts the renewal and does not wait for it.
    assert_eq!(stage.get("/3").await.status, 200);
    let renewals = || stage.lines.all().iter().filter(|line| line.contains("spiffe_id")).count();
    while renewals() < 2 {
        tokio::task::yield_now().await;
    }
    let before = server.connections();
    assert_eq!(stage.get("/4").await.status, 200);
    assert_eq!(server.connections(), before + 1);
}

#[tokio::test]
async fn the_applications_own_authorization_is_kept() {
    let (_mesh, server, stage) = good().await;
    let request = Request::get(format!("{URL}/")).header("authorization", "Basic abc").body(text("")).unwrap();
    assert_eq!(stage.call(request).await.status, 200);
    let values: Vec<_> = server.seen()[0].headers.get_all("authorization").iter().cloned().collect();
    assert_eq!(values, ["Basic abc"]);
}

#[tokio::test]
async fn without_a_token_only_requests_that_bring_one_pass() {
    let mesh = Arc::new(Mesh::new());
    let server = MeshServer::start(&mesh, RATINGS).await;
    let stage = Stage::with(&mesh, server.address, Mood::NoTokens, |_| ()).await;
    let answer = stage.get("/").await;
    assert!(answer.is(503, "token_unavailable"), "{answer:?}");
    assert_eq!(answer.headers["retry-after"], "1");
    let request = Request::get(format!("{URL}/")).header("authorization", "Bearer mine").body(text("")).unwrap();
    assert_eq!(stage.call(request).await.status, 200);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn without_an_audience_no_token_is_asked_for() {
    let mesh = Arc::new(Mesh::new());
    let server = MeshServer::start(&mesh, RATINGS).await;
    let stage = Stage::with(&mesh, server.address, Mood::NoTokens, |egress| egress.audience = None).await;
    assert_eq!(stage.get("/").await.status, 200);
    assert!(!server.seen()[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_token_is_kept_until_close_to_its_end() {
    let (_mesh, server, stage) = good().await;
    let mut tokens = Vec::new();
    for step in [0, 530, 45] {
        stage.clock.advance(Duration::from_secs(step));
        assert_eq!(stage.get("/").await.status, 200);
        tokens.push(server.seen().last().unwrap().headers["authorization"].to_str().unwrap().to_owned());
    }
    assert_eq!(tokens, ["Bearer token-1", "Bearer token-1", "Bearer token-2"]);
}

#[tokio::test]
async fn hop_by_hop_fields_stay_on_their_hop() {
    let (_mesh, server, stage) = good().await;
    let request = Request::get(format!("{URL}/private"))
        .header("connection", "x-mine, keep-alive")
        .header("x-mine", "1")
        .header("proxy-authorization", "Basic abc")
        .header("proxy-connection", "keep-alive")
        .header("te", "trailers")
        .header("x-end-to-end", "1")
        .body(text(""))
        .unwrap();
    let answer = stage.call(request).await;
    let seen = &server.seen()[0].headers;
    for gone in ["connection", "x-mine", "proxy-authorization", "proxy-connection", "te"] {
        assert!(!seen.contains_key(gone), "{gone}");
    }
    assert!(seen.contains_key("x-end-to-end"));
    for gone in ["x-private", "keep-alive", "proxy-authenticate", "x-causeway-reason"] {
        assert!(!answer.headers.contains_key(gone), "{gone}");
    }
    assert_eq!((answer.headers["x-public"].to_str().unwrap(), answer.body.as_str()), ("1", "private"));
}

#[tokio::test]
async fn a_request_whose_connection_takes_its_token_away_gets_ours() {
    let (_mesh, server, stage) = good().await;
    let request = Request::get(format!("{URL}/"))
        .header("connection", "authorization")
        .header("authorization", "mine")
        .body(text(""))
        .unwrap();
    assert_eq!(stage.call(request).await.status, 200);
    assert_eq!(server.seen()[0].headers["authorization"], "Bearer token-1");
}

/// A mesh server that answers with these bytes, whatever it is asked.
async fn says(mesh: &Mesh, answer: &'static [u8]) -> (SocketAddr, Task) {
    let config = identity::tls::server_config(&mesh.svid(RATINGS), &mesh.bundle(), &[]).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = Task::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            let _ = stream.read(&mut [0; 4_096]).await.unwrap();
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    (address, task)
}

#[tokio::test]
async fn a_length_that_an_answers_transfer_encoding_overrides_is_not_passed_on() {
    let mesh = Arc::new(Mesh::new());
    let answer =
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n";
    let (server, _task) = says(&mesh, answer).await;
    let answer = Stage::start(&mesh, server).await.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "hello world"));
    assert!(!answer.headers.contains_key("content-length"));
}

#[tokio::test]
async fn a_transfer_coding_that_nobody_undoes_is_refused_both_ways() {
    let mesh = Arc::new(Mesh::new());
    let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    let (server, _task) = says(&mesh, answer).await;
    let stage = Stage::start(&mesh, server).await;
    let answer = stage.get("/").await;
    assert!(answer.is(502, "upstream_protocol_error"), "{answer:?}");

    let mut stream = TcpStream::connect(stage.address).await.unwrap();
    let request =
        format!("POST {URL}/ HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4_096];
    let read = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("request_invalid"), "{answer}");
}

#[tokio::test]
async fn bodies_stream_both_ways_at_once() {
    let (_mesh, server, stage) = good().await;
    for method in ["POST", "GET"] {
        let mut stream = TcpStream::connect(stage.address).await.unwrap();
        let head = format!("{method} {URL}/echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // Each part must come back before the next one is sent.
        for part in ["one", "two", "three"] {
            stream.write_all(format!("{:x}\r\n{part}\r\n", part.len()).as_bytes()).await.unwrap();
            read_until(&mut stream, part).await;
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
        read_until(&mut stream, "0\r\n\r\n").await;
        assert_eq!(server.seen().last().unwrap().headers["transfer-encoding"], "chunked");
    }
}

async fn read_until(stream: &mut TcpStream, text: &str) {
    let mut received = Vec::new();
    let mut buffer = [0; 1_024];
    while !String::from_utf8_lossy(&received).contains(text) {
        let read = stream.read(&mut buffer).await.unwrap();
        assert_ne!(read, 0, "closed before {text:?}: {:?}", String::from_utf8_lossy(&received));
        received.extend_from_slice(&buffer[..read]);
    }
}

#[tokio::test]
async fn lengths_statuses_and_head_come_through() {
    let (_mesh, server, stage) = good().await;
    let request = Request::put(format!("{URL}/echo")).body(text("hello")).unwrap();
    let answer = stage.call(request).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "hello"));
    assert_eq!(server.seen()[0].headers["content-length"], "5");
    assert_eq!(stage.get("/refused").await.status, 418);
    let answer = stage.call(Request::head(format!("{URL}/")).body(text("")).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.headers["content-length"].to_str().unwrap()), (200, "7"));
}

#[tokio::test]
async fn a_dead_pooled_connection_is_replaced_once_for_requests_that_can_be_repeated() {
    let (_mesh, server, stage) = good().await;
    assert_eq!(stage.get("/once").await.status, 200);
    // The server ends the connection at its second request, without a word.
    assert_eq!(stage.get("/once").await.status, 200);
    let connections: Vec<usize> = server.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [1, 1, 2]);

    let post = || Request::post(format!("{URL}/once")).body(text("")).unwrap();
    let answer = stage.call(post()).await;
    assert!(answer.is(503, "upstream_reset"), "{answer:?}");
    assert_eq!(server.seen().len(), 4, "a POST is sent once");
}

#[tokio::test]
async fn a_new_connection_that_dies_is_not_tried_again() {
    let (_mesh, server, stage) = good().await;
    let answer = stage.get("/cut").await;
    assert!(answer.is(503, "upstream_reset"), "{answer:?}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn an_old_pooled_connection_is_not_used() {
    let (_mesh, server, stage) = good().await;
    assert_eq!(stage.get("/").await.status, 200);
    stage.clock.advance(Duration::from_secs(61));
    assert_eq!(stage.get("/").await.status, 200);
    // A request that could not be repeated takes only a very young one.
    stage.clock.advance(Duration::from_secs(3));
    let post = Request::post(format!("{URL}/")).body(text("")).unwrap();
    assert_eq!(stage.call(post).await.status, 200);
    let connections: Vec<usize> = server.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [1, 2, 3]);
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_a_504() {
    let mesh = Arc::new(Mesh::new());
    let server = MeshServer::start(&mesh, RATINGS).await;
    let short = |egress: &mut extension::Egress| egress.response_timeout = Duration::from_millis(50);
    let stage = Stage::with(&mesh, server.address, Mood::Good, short).await;
    let answer = stage.get("/slow").await;
    assert!(answer.is(504, "upstream_timeout"), "{answer:?}");
}

#[tokio::test]
async fn nobody_at_the_endpoint_is_a_503() {
    let mesh = Arc::new(Mesh::new());
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let stage = Stage::start(&mesh, gone).await;
    let answer = stage.get("/").await;
    assert!(answer.is(503, "upstream_connect_failed"), "{answer:?}");
}
