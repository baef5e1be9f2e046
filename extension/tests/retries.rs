//! Which requests are sent again, how often, and what of it can be seen: through the whole of the extension.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::frames::{Act, FrameServer};
use common::*;
use http::Request;
use tokio::time::Instant;

/// The service `ratings` behind so many gateways, spoken to in `protocol`; the lines of its policy and of its route.
fn yaml(gateways: usize, protocol: &str, policy: &str, route: &str) -> String {
    let endpoint = |index| format!("  - {{ address: g{index}.mesh.example, ports: {{ http: 15443 }} }}\n");
    let endpoints: String = (0..gateways).map(endpoint).collect();
    format!(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: ratings, namespace: bookinfo }}
spec:
  hosts: [{HOST}]
  location: MESH_INTERNAL
  resolution: DNS
  ports: [{{ number: 9080, name: http, protocol: {protocol} }}]
  endpoints:
{endpoints}  subjectAltNames: [{RATINGS}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{ name: ratings, namespace: bookinfo }}
spec:
  host: {HOST}
  trafficPolicy:
    loadBalancer: {{ simple: ROUND_ROBIN }}
    tls: {{ mode: ISTIO_MUTUAL }}
{policy}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: ratings, namespace: bookinfo }}
spec:
  hosts: [{HOST}]
  http:
  - route: [{{ destination: {{ host: {HOST} }} }}]
{route}
"
    )
}

async fn stage(mesh: &Arc<Mesh>, yaml: &str, addresses: &[std::net::SocketAddr]) -> Stage {
    let names: Vec<String> = (0..addresses.len()).map(|index| format!("g{index}.mesh.example:15443")).collect();
    let places: Vec<_> = names.iter().map(String::as_str).zip(addresses.iter().copied()).collect();
    Stage::ruled(mesh, yaml, &places).await
}

/// The service behind five gateways of HTTP/1.1.
async fn five(policy: &str, route: &str) -> (Vec<MeshServer>, Stage) {
    let mesh = Arc::new(Mesh::new());
    let mut servers = Vec::new();
    for _ in 0..5 {
        servers.push(MeshServer::start(&mesh, RATINGS).await);
    }
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let stage = stage(&mesh, &yaml(5, "HTTP", policy, route), &addresses).await;
    (servers, stage)
}

fn set(servers: &[MeshServer], temper: Temper) {
    servers.iter().for_each(|server| server.set(temper));
}

fn post() -> Request<Body> {
    Request::post(format!("{URL}/")).body(text("body")).unwrap()
}

/// Status, reason, flags and number of tries, as the log has them; the first two also as the application has.
async fn outcome(stage: &Stage, request: Request<Body>) -> (u16, String, String, u64) {
    let answer = stage.call(request).await;
    let line = stage.logged();
    let reason = line["reason"].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (line["response_code"].as_u64(), reason.as_str()),
        (Some(answer.status.as_u16().into()), answer.reason())
    );
    let flags = line["response_flags"].as_str().unwrap().to_owned();
    (answer.status.as_u16(), reason, flags, line["attempts"].as_u64().unwrap())
}

fn is(status: u16, reason: &str, flags: &str, attempts: u64) -> (u16, String, String, u64) {
    (status, reason.to_owned(), flags.to_owned(), attempts)
}

#[tokio::test]
async fn what_may_have_been_processed_is_repeated_as_often_as_the_route_says() {
    for (route, tries, flags) in [
        ("", 3, "UC,URX"),
        ("    retries: { attempts: 1 }", 2, "UC,URX"),
        ("    retries: { attempts: 0 }", 1, "UC"),
        ("    retries: { attempts: 9, retryOn: connect-failure }", 5, "UC"),
        ("    retries: { attempts: 9, retryOn: reset }", 10, "UC,URX"),
    ] {
        let (servers, stage) = five("", route).await;
        set(&servers, Temper::Cuts);
        let get = Request::get(format!("{URL}/")).body(text("")).unwrap();
        assert_eq!(outcome(&stage, get).await, is(503, "upstream_reset", flags, tries), "{route}");
        let count: usize = servers.iter().map(MeshServer::count).sum();
        assert_eq!(count as u64, tries, "{route}");
        // Each of them to another endpoint, as long as there is one.
        let most = servers.iter().map(MeshServer::count).max().unwrap();
        assert_eq!(most as u64, tries.div_ceil(5), "{route}");
        let (_, reason, _, tries) = outcome(&stage, post()).await;
        let expected = if route.ends_with("reset }") { 10 } else { 1 };
        assert_eq!((reason.as_str(), tries), ("upstream_reset", expected), "{route}");
    }
}

#[tokio::test]
async fn an_idempotent_request_is_not_lost_while_one_endpoint_of_those_that_it_may_try_is_well() {
    let (servers, stage) = five("", "    retries: { attempts: 4 }").await;
    set(&servers[..4], Temper::Cuts);
    for _ in 0..10 {
        let get = Request::get(format!("{URL}/")).body(text("")).unwrap();
        let (status, reason, flags, _) = outcome(&stage, get).await;
        assert_eq!((status, reason.as_str(), flags.as_str()), (200, "", "-"));
    }
}

#[tokio::test]
async fn the_repeats_of_what_may_have_been_processed_are_of_the_budget() {
    let mesh = Arc::new(Mesh::new());
    let servers = [MeshServer::start(&mesh, RATINGS).await, MeshServer::start(&mesh, RATINGS).await];
    let pool = "    connectionPool: { http: { maxRetries: 1 } }";
    let rules = yaml(2, "HTTP", pool, "    retries: { attempts: 9, retryOn: \"503\" }");
    let stage = Arc::new(stage(&mesh, &rules, &[servers[0].address, servers[1].address]).await);
    // One request has the only place for ever.
    set(&servers, Temper::AnswersTimes(503, 1));
    let first = tokio::spawn({
        let stage = Arc::clone(&stage);
        async move { stage.get("/slow").await.status }
    });
    until("the third try", || servers.iter().map(MeshServer::count).sum::<usize>() == 3).await;
    set(&servers, Temper::Cuts);
    let get = Request::get(format!("{URL}/")).body(text("")).unwrap();
    assert_eq!(outcome(&stage, get).await, is(503, "upstream_reset", "UC,UO", 1));
    first.abort();
}

#[tokio::test]
async fn with_all_retries_in_use_the_services_answer_stands() {
    for policy in
        ["    connectionPool: { http: { maxRetries: 1 } }", "    retryBudget: { percent: 0, minRetryConcurrency: 1 }"]
    {
        let mesh = Arc::new(Mesh::new());
        let server = MeshServer::start(&mesh, RATINGS).await;
        let rules = yaml(1, "HTTP", policy, "    retries: { attempts: 2, retryOn: 5xx }");
        let stage = Arc::new(stage(&mesh, &rules, &[server.address]).await);
        // The first one fails once, and its second try takes the only place for ever.
        server.set(Temper::AnswersTimes(503, 1));
        let first = tokio::spawn({
            let stage = Arc::clone(&stage);
            async move { stage.get("/slow").await.status }
        });
        until("the second try", || server.count() == 2).await;
        server.set(Temper::Answers(503));
        assert_eq!(outcome(&stage, post()).await, is(503, "", "UO", 1), "{policy}");
        assert_eq!(server.count(), 3, "{policy}");
        first.abort();
        let _ = first.await;
        // Its place is free as soon as it is seen to have gone.
        let deadline = Instant::now() + Duration::from_secs(10);
        while outcome(&stage, post()).await != is(503, "", "URX", 3) {
            assert!(Instant::now() < deadline, "{policy}: the place stays taken");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_refused_stream_is_tried_once_more_on_another_connection() {
    let mesh = Arc::new(Mesh::new());
    let server = FrameServer::start(&mesh, RATINGS, &[]).await;
    let none = stage(&mesh, &yaml(1, "HTTP2", "", "    retries: { attempts: 0 }"), &[server.address]).await;
    assert_eq!(outcome(&none, post()).await, is(200, "", "-", 1));
    server.does(&[Act::Refuse]);
    assert_eq!(outcome(&none, post()).await, is(200, "", "-", 2));
    assert_eq!(server.seen(), [1, 1, 2]);
    server.does(&[Act::Refuse, Act::Refuse]);
    assert_eq!(outcome(&none, post()).await, is(503, "upstream_reset", "UC", 2));
    assert_eq!(server.seen().len(), 5);

    // After that, what the policy says: Istio's default names `refused-stream`.
    let default = stage(&mesh, &yaml(1, "HTTP2", "", ""), &[server.address]).await;
    server.does(&[Act::Refuse; 3]);
    assert_eq!(outcome(&default, post()).await, is(200, "", "-", 4));
    server.does(&[Act::Refuse; 9]);
    assert_eq!(outcome(&default, post()).await, is(503, "upstream_reset", "UC,URX", 4));
    // What was cancelled may have been processed.
    server.does(&[Act::Cancel]);
    assert_eq!(outcome(&default, post()).await, is(503, "upstream_reset", "UC", 1));
}

#[tokio::test]
async fn a_refused_stream_goes_to_another_endpoint_where_there_is_one() {
    let mesh = Arc::new(Mesh::new());
    let servers = [FrameServer::start(&mesh, RATINGS, &[]).await, FrameServer::start(&mesh, RATINGS, &[]).await];
    let rules = yaml(2, "HTTP2", "", "    retries: { attempts: 0 }");
    let stage = stage(&mesh, &rules, &[servers[0].address, servers[1].address]).await;
    for _ in 0..4 {
        let before = servers[1].seen().len();
        servers[0].does(&[Act::Refuse]);
        let (status, _, flags, attempts) = outcome(&stage, post()).await;
        assert_eq!((status, flags.as_str()), (200, "-"));
        assert!(attempts <= 2 && servers[1].seen().len() == before + 1);
    }
    assert!(!servers[0].seen().is_empty());
}

#[tokio::test]
async fn a_request_above_a_goaway_goes_over_a_new_connection() {
    let mesh = Arc::new(Mesh::new());
    let server = FrameServer::start(&mesh, RATINGS, &[]).await;
    let stage = stage(&mesh, &yaml(1, "HTTP2", "", "    retries: { attempts: 0 }"), &[server.address]).await;
    assert_eq!(outcome(&stage, post()).await, is(200, "", "-", 1));
    for _ in 0..3 {
        server.does(&[Act::GoAwayBelow]);
        assert_eq!(outcome(&stage, post()).await, is(200, "", "-", 2));
    }
    assert_eq!(server.seen(), [1, 1, 2, 2, 3, 3, 4]);
}

#[tokio::test]
async fn a_route_that_waits_longer_than_everybody_else_does() {
    for (route, status, reason) in [
        ("", 504, "upstream_timeout"),
        ("    timeout: 60s", 200, ""),
        ("    retries: { attempts: 1, perTryTimeout: 60s }", 200, ""),
        ("    timeout: 0.1s", 504, "upstream_timeout"),
    ] {
        let mesh = Arc::new(Mesh::new());
        let server = MeshServer::start(&mesh, RATINGS).await;
        let bundle = extension::BundleSource::Bytes(bundle_of(&yaml(1, "HTTP", "", route)));
        let stage = Stage::with(&mesh, server.address, Mood::Good, |egress| {
            egress.connect_to =
                vec![extension::ConnectTo { host: "g0.mesh.example".to_owned(), port: 15443, address: server.address }];
            (egress.bundle, egress.response_timeout) = (bundle, Duration::from_millis(200));
        })
        .await;
        let stage = Arc::new(stage);
        server.set(Temper::Hangs);
        let call = tokio::spawn({
            let stage = Arc::clone(&stage);
            async move { stage.get("/").await }
        });
        until("the request", || server.count() == 1).await;
        if status == 504 {
            let answer = call.await.unwrap();
            assert!(answer.is(status, reason), "{route}: {answer:?}");
            continue;
        }
        // Longer than what counts for others, and still waited for.
        let ended = tokio::time::timeout(Duration::from_secs(1), call).await;
        assert!(ended.is_err(), "{route}: {ended:?}");
    }
}

#[tokio::test]
async fn a_body_that_the_application_does_not_send_says_nothing_about_the_gateway() {
    let mesh = Arc::new(Mesh::new());
    let server = MeshServer::start(&mesh, RATINGS).await;
    let policy = "    outlierDetection: { consecutive5xxErrors: 1, maxEjectionPercent: 100 }";
    let bundle = extension::BundleSource::Bytes(bundle_of(&yaml(1, "HTTP", policy, "")));
    let stage = Stage::with(&mesh, server.address, Mood::Good, |egress| {
        egress.connect_to =
            vec![extension::ConnectTo { host: "g0.mesh.example".to_owned(), port: 15443, address: server.address }];
        (egress.bundle, egress.response_timeout) = (bundle, Duration::from_millis(100));
    })
    .await;
    // Half of a body, and then nothing for longer than a service may be silent.
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(stage.address).await.unwrap();
    let head = format!("POST {URL}/collect HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 8\r\n\r\nhalf");
    stream.write_all(head.as_bytes()).await.unwrap();
    until("the request", || server.count() == 1).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stream.write_all(b"half").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with('8'), "{answer}");
    assert!(!stage.lines.all().iter().any(|line| line.contains("endpoint_ejected")));
}

#[tokio::test]
async fn what_is_wrong_on_this_side_leaves_no_endpoint_out() {
    let mesh = Arc::new(Mesh::new());
    let server = MeshServer::start(&mesh, RATINGS).await;
    let tls = "    tls: { mode: SIMPLE, caCertificates: /nowhere/roots.pem }
    outlierDetection: { consecutive5xxErrors: 1, maxEjectionPercent: 100 }";
    let rules = yaml(1, "HTTP", tls, "    retries: { attempts: 5, retryOn: connect-failure }")
        .replace("    tls: { mode: ISTIO_MUTUAL }\n", "")
        .replace("MESH_INTERNAL", "MESH_EXTERNAL")
        .replace(HOST, "ratings.example");
    let stage = stage(&mesh, &rules, &[server.address]).await;
    for _ in 0..5 {
        let get = Request::get("http://ratings.example:9080/").body(text("")).unwrap();
        assert_eq!(outcome(&stage, get).await, is(503, "configuration_invalid", "-", 1));
    }
    assert!(!stage.lines.all().iter().any(|line| line.contains("endpoint_ejected")));
    assert_eq!(server.connections(), 0);
}
