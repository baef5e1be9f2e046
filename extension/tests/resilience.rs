//! What goes wrong on the way, and what the function sees of it: retries, timeouts, endpoints that are down, limits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::*;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

const REVIEWS_URL: &str = "http://reviews.bookinfo.svc.cluster.local:9080";

/// The services `ratings` and `reviews` behind the gateways `a`, `b` and `c`; `regions` are those of the gateways.
fn entries(gateways: &[&str], regions: &[&str]) -> String {
    let endpoint = |(index, name): (usize, &&str)| {
        let locality = regions.get(index).map(|region| format!(", locality: {region}")).unwrap_or_default();
        format!("  - {{ address: {name}.mesh.example, ports: {{ http: 15443 }}{locality} }}\n")
    };
    let endpoints: String = gateways.iter().enumerate().map(endpoint).collect();
    let entry = |name: &str| {
        format!(
            "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: {name}, namespace: bookinfo }}
spec:
  hosts: [{name}.bookinfo.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: DNS
  ports: [{{ number: 9080, name: http, protocol: HTTP }}]
  endpoints:
{endpoints}  subjectAltNames: [spiffe://cluster.local/ns/bookinfo/sa/bookinfo-ratings]
---"
        )
    };
    format!("{}{}", entry("ratings"), entry("reviews"))
}

/// A rule for both services.
fn rules(policy: &str) -> String {
    let rule = |name: &str| {
        format!(
            "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{ name: {name}, namespace: bookinfo }}
spec:
  host: {name}.bookinfo.svc.cluster.local
  trafficPolicy:
    tls: {{ mode: ISTIO_MUTUAL }}
{policy}
---"
        )
    };
    format!("{}{}", rule("ratings"), rule("reviews"))
}

/// A VirtualService of `ratings` with one route to it, and these lines.
fn route(lines: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: ratings, namespace: bookinfo }}
spec:
  hosts: [ratings.bookinfo.svc.cluster.local]
  http:
  - route: [{{ destination: {{ host: ratings }} }}]
{lines}
---"
    )
}

const ROUND_ROBIN: &str = "    loadBalancer: { simple: ROUND_ROBIN }\n";
const OUTLIER: &str = "    loadBalancer: { simple: ROUND_ROBIN }
    outlierDetection: { consecutive5xxErrors: 2, interval: 1s, baseEjectionTime: 30s, maxEjectionPercent: 100 }
";

struct Scene {
    a: MeshServer,
    b: MeshServer,
    stage: Stage,
}

async fn scene(yaml: &str) -> Scene {
    let mesh = Arc::new(Mesh::new());
    let a = MeshServer::start(&mesh, RATINGS).await;
    let b = MeshServer::start(&mesh, RATINGS).await;
    let stage = Stage::ruled(&mesh, yaml, &[(A, a.address), (B, b.address)]).await;
    Scene { a, b, stage }
}

const A: &str = "a.mesh.example:15443";
const B: &str = "b.mesh.example:15443";
const C: &str = "c.mesh.example:15443";

fn flags(stage: &Stage) -> String {
    stage.logged()["response_flags"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn with_one_endpoint_of_three_dead_no_request_is_lost() {
    let mesh = Arc::new(Mesh::new());
    let a = MeshServer::start(&mesh, RATINGS).await;
    let b = MeshServer::start(&mesh, RATINGS).await;
    let dead = nobody().await;
    // With the last one too few are healthy as soon as one is not, and then all are used alike.
    let panics = "    loadBalancer: { simple: ROUND_ROBIN }\n    outlierDetection: { minHealthPercent: 100 }\n";
    for policy in ["", ROUND_ROBIN, "    loadBalancer: { simple: RANDOM }\n", panics] {
        // Without any retries of the policy: nothing of these requests can have been processed.
        let yaml =
            format!("{}{}{}", entries(&["a", "b", "c"], &[]), rules(policy), route("    retries: { attempts: 0 }"));
        let stage = Stage::ruled(&mesh, &yaml, &[(A, a.address), (B, b.address), (C, dead)]).await;
        let mut tries = 0;
        for number in 0..30 {
            let method = if number % 2 == 0 { "GET" } else { "POST" };
            let request = Request::builder().method(method).uri(format!("{URL}/collect")).body(text("body")).unwrap();
            let answer = stage.call(request).await;
            assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "4"), "{policy} {number}: {answer:?}");
            tries += stage.logged()["attempts"].as_u64().unwrap();
        }
        assert!(tries > 30, "the dead one was tried: {tries}");
    }
}

#[tokio::test]
async fn with_all_endpoints_dead_it_is_a_connect_failure() {
    let mesh = Arc::new(Mesh::new());
    let yaml = entries(&["a", "b"], &[]);
    let stage = Stage::ruled(&mesh, &yaml, &[(A, nobody().await), (B, nobody().await)]).await;
    let answer = stage.get("/").await;
    assert!(answer.is(503, "upstream_connect_failed"), "{answer:?}");
    assert_eq!(flags(&stage), "UF,URX");
    let line = stage.logged();
    // Both, and Istio's two retries.
    assert_eq!(line["attempts"].as_u64(), Some(4), "{line}");
}

#[tokio::test]
async fn a_gateway_that_is_gone_leads_to_the_second_region() {
    let mesh = Arc::new(Mesh::new());
    let far = MeshServer::start(&mesh, RATINGS).await;
    let near = MeshServer::start(&mesh, RATINGS).await;
    let yaml = format!("{}{}", entries(&["a", "b"], &["eu-central-1", "eu-west-1"]), rules(OUTLIER));
    let here = |egress: &mut extension::Egress| egress.workload.locality.region = "eu-central-1".to_owned();
    let stage = Stage::ruled_with(&mesh, &yaml, &[(A, near.address), (B, far.address)], here).await;
    for _ in 0..10 {
        assert_eq!(stage.get("/").await.status, 200);
    }
    assert_eq!((near.count(), far.count()), (10, 0), "the near one has everything");

    // It goes away, and the connection to it has been idle for too long.
    let near_address = near.address;
    drop(near);
    until("the end", || std::net::TcpStream::connect(near_address).is_err()).await;
    stage.clock.advance(Duration::from_secs(61));
    for number in 1..=10 {
        let answer = stage.get("/").await;
        assert_eq!((answer.status.as_u16(), answer.reason()), (200, ""), "{number}");
        let line = stage.logged();
        assert_eq!((line["response_flags"].as_str(), line["reason"].as_str()), (Some("-"), None), "{line}");
        assert!(line["upstream_host"].as_str().unwrap().starts_with("b.mesh.example:"), "{line}");
        // After two failures nobody tries the near one any more.
        assert_eq!(line["attempts"].as_u64(), Some(if number <= 2 { 2 } else { 1 }), "{line}");
    }
    assert_eq!(far.count(), 10);

    let far = MeshServer::start(&mesh, RATINGS).await;
    let stage = Stage::ruled_with(&mesh, &yaml, &[(A, nobody().await), (B, far.address)], here).await;
    for _ in 0..10 {
        assert_eq!(stage.get("/").await.status, 200);
    }
    assert_eq!(far.count(), 10);
    // After two failures the near one is left out, and nobody waits for it any more.
    assert_eq!(stage.logged()["attempts"].as_u64(), Some(1));
    assert!(stage.lines.all().iter().any(|line| line.contains("endpoint_ejected")));
}

#[tokio::test]
async fn each_condition_retries_what_it_names() {
    for (on, temper, expected) in [
        ("5xx", Temper::Answers(500), true),
        ("5xx", Temper::Answers(404), false),
        ("gateway-error", Temper::Answers(503), true),
        ("gateway-error", Temper::Answers(500), false),
        ("retriable-4xx", Temper::Answers(409), true),
        ("retriable-4xx", Temper::Answers(404), false),
        ("\"418\"", Temper::Answers(418), true),
        ("\"418\"", Temper::Answers(419), false),
        ("reset", Temper::Cuts, true),
        ("5xx", Temper::Cuts, true),
        ("connect-failure", Temper::Answers(503), false),
        ("connect-failure", Temper::Cuts, false),
    ] {
        let policy = format!("    retries: {{ attempts: 1, retryOn: {on} }}");
        let yaml = format!("{}{}{}", entries(&["a", "b"], &[]), rules(ROUND_ROBIN), route(&policy));
        let scene = scene(&yaml).await;
        // A method that nothing but the policy repeats.
        let post = || Request::post(format!("{URL}/collect")).body(text("body")).unwrap();
        scene.a.set(temper);
        let (mut good, mut bad) = (0, 0);
        for _ in 0..4 {
            let answer = scene.stage.call(post()).await;
            if answer.status == 200 { good += 1 } else { bad += 1 }
        }
        let expected = if expected { (4, 0) } else { (2, 2) };
        assert_eq!((good, bad), expected, "{on} {temper:?}");
        // A retry takes a turn too, and goes to the other endpoint.
        let (first, second) = (scene.a.count(), scene.b.count());
        let tries = if expected.1 == 0 { first + 4 } else { 4 };
        assert!(first >= 2 && first + second == tries, "{on} {temper:?}: {first} and {second}");
    }
}

#[tokio::test]
async fn an_idempotent_request_survives_a_reset_and_another_is_sent_once() {
    let yaml = format!("{}{}", entries(&["a", "b"], &[]), rules(ROUND_ROBIN));
    let scene = scene(&yaml).await;
    scene.a.set(Temper::Cuts);
    for _ in 0..10 {
        assert_eq!(scene.stage.get("/").await.status, 200);
        let put = Request::put(format!("{URL}/collect")).body(text("body")).unwrap();
        assert_eq!(scene.stage.call(put).await.body, "4");
    }
    let (before_a, before_b) = (scene.a.count(), scene.b.count());
    let mut lost = 0;
    for _ in 0..4 {
        let post = Request::post(format!("{URL}/collect")).body(text("body")).unwrap();
        let answer = scene.stage.call(post).await;
        if answer.is(503, "upstream_reset") {
            assert_eq!(flags(&scene.stage), "UC");
            lost += 1;
        }
    }
    assert_eq!((lost, scene.a.count() - before_a, scene.b.count() - before_b), (2, 2, 2));
}

#[tokio::test]
async fn retries_end_with_the_last_answer_and_say_so() {
    let policy = route("    retries: { attempts: 3, retryOn: 5xx }");
    let scene = scene(&format!("{}{}{}", entries(&["a", "b"], &[]), rules(ROUND_ROBIN), policy)).await;
    scene.a.set(Temper::Answers(500));
    scene.b.set(Temper::Answers(502));
    let answer = scene.stage.get("/").await;
    assert!(answer.status.is_server_error() && answer.reason().is_empty(), "{answer:?}");
    assert_eq!(scene.a.count() + scene.b.count(), 4);
    assert_eq!(flags(&scene.stage), "URX");
    assert_eq!(scene.stage.logged()["attempts"].as_u64(), Some(4));
    let counts: Vec<_> = [scene.a.seen(), scene.b.seen()].concat();
    let mut counts: Vec<_> =
        counts.iter().map(|seen| seen.headers["x-envoy-attempt-count"].to_str().unwrap()).collect();
    counts.sort_unstable();
    assert_eq!(counts, ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn the_applications_wishes_are_honoured_and_stay_here() {
    let scene = scene(&entries(&["a"], &[])).await;
    scene.a.set(Temper::Answers(500));
    let request = Request::get(format!("{URL}/"))
        .header("x-envoy-retry-on", "5xx")
        .header("x-envoy-max-retries", "4")
        .body(text(""))
        .unwrap();
    assert_eq!(scene.stage.call(request).await.status, 500);
    assert_eq!(scene.a.count(), 5);
    assert!(!scene.a.seen()[0].headers.contains_key("x-envoy-retry-on"));

    scene.a.set(Temper::Hangs);
    let slow = |name: &'static str| {
        let request = Request::get(format!("{URL}/")).header("x-envoy-upstream-rq-timeout-ms", "50");
        scene.stage.call(request.header(name, "1").body(text("")).unwrap())
    };
    let answer = slow("x-mine").await;
    assert!(answer.is(504, "upstream_timeout"), "{answer:?}");
    assert_eq!(scene.a.seen().last().unwrap().headers["x-envoy-expected-rq-timeout-ms"], "50");
    let answer = slow("x-envoy-upstream-rq-timeout-alt-response").await;
    assert!(answer.is(204, "upstream_timeout"), "{answer:?}");
}

#[tokio::test]
async fn a_body_is_sent_again_up_to_its_bound_and_not_past_it() {
    let policy = route("    retries: { attempts: 1, retryOn: 5xx }");
    let scene = scene(&format!("{}{policy}", entries(&["a"], &[]))).await;
    for (bytes, status, tries) in [(64 * 1_024, 200, 2), (64 * 1_024 + 1, 503, 1)] {
        scene.a.set(Temper::AnswersTimes(503, 1));
        let before = scene.a.bodies().len();
        let body: Vec<u8> = (0..bytes).map(|index| u8::try_from(index % 251).unwrap()).collect();
        let request = Request::post(format!("{URL}/collect")).body(text(body.clone())).unwrap();
        assert_eq!(scene.stage.call(request).await.status, status, "{bytes}");
        let bodies = scene.a.bodies();
        assert_eq!(bodies.len() - before, tries, "{bytes}");
        assert!(bodies[before..].iter().all(|sent| sent[..] == body[..]), "{bytes}");
        assert_eq!(scene.stage.logged()["bytes_received"].as_u64(), Some(bytes as u64));
        scene.a.set(Temper::Even);
    }
}

#[tokio::test]
async fn a_route_that_takes_too_long_is_a_504() {
    let scene = scene(&format!("{}{}", entries(&["a"], &[]), route("    timeout: 0.1s"))).await;
    scene.a.set(Temper::Hangs);
    let begun = Instant::now();
    let answer = scene.stage.get("/").await;
    assert!(answer.is(504, "upstream_timeout"), "{answer:?}");
    assert!(begun.elapsed() >= Duration::from_millis(100));
    assert_eq!(flags(&scene.stage), "UT");
    let line = scene.stage.logged();
    assert!(line["upstream_host"].as_str().unwrap().starts_with("a.mesh.example:"), "{line}");
    scene.a.set(Temper::Even);
    assert_eq!(scene.stage.get("/").await.status, 200);
}

#[tokio::test]
async fn the_timeout_of_a_route_holds_over_all_retries() {
    let policy = route("    timeout: 0.3s\n    retries: { attempts: 50, perTryTimeout: 0.1s, retryOn: reset }");
    let scene = scene(&format!("{}{policy}", entries(&["a"], &[]))).await;
    scene.a.set(Temper::Hangs);
    let begun = Instant::now();
    let answer = scene.stage.get("/").await;
    assert!(answer.is(504, "upstream_timeout"), "{answer:?}");
    let tries = scene.stage.logged()["attempts"].as_u64().unwrap();
    assert!((1..=3).contains(&tries) && begun.elapsed() < Duration::from_secs(5), "{tries}");
}

#[tokio::test]
async fn a_try_that_takes_too_long_is_repeated_elsewhere() {
    let policy = route("    retries: { attempts: 2, perTryTimeout: 0.1s, retryOn: reset }");
    let yaml = format!("{}{}{policy}", entries(&["a", "b"], &[]), rules(ROUND_ROBIN));
    let scene = scene(&yaml).await;
    scene.a.set(Temper::Hangs);
    for _ in 0..4 {
        assert_eq!(scene.stage.get("/").await.status, 200);
    }
    assert!(scene.a.count() >= 1);
    let retried = scene.b.seen().into_iter().find(|seen| seen.headers["x-envoy-attempt-count"] == "2").unwrap();
    assert_eq!(retried.headers["x-envoy-expected-rq-timeout-ms"], "100");

    scene.b.set(Temper::Hangs);
    let answer = scene.stage.get("/").await;
    assert!(answer.is(504, "upstream_timeout"), "{answer:?}");
    assert_eq!(flags(&scene.stage), "URX,UT");
}

#[tokio::test]
async fn an_endpoint_that_fails_is_left_out_and_comes_back() {
    let yaml = format!("{}{}", entries(&["a", "b"], &[]), rules(OUTLIER));
    let scene = scene(&yaml).await;
    scene.a.set(Temper::Answers(500));
    let mut bad = 0;
    for _ in 0..20 {
        bad += usize::from(scene.stage.get("/").await.status == 500);
    }
    assert_eq!((bad, scene.a.count()), (2, 2), "after two it is left out");
    let ejected = scene.stage.lines.all().iter().filter(|line| line.contains("endpoint_ejected")).count();
    assert_eq!(ejected, 1);

    scene.a.set(Temper::Even);
    scene.stage.clock.advance(Duration::from_secs(40));
    for _ in 0..10 {
        assert_eq!(scene.stage.get("/").await.status, 200);
    }
    assert_eq!(scene.a.count(), 2 + 5, "it has its half again");
}

#[tokio::test]
async fn with_every_endpoint_left_out_there_is_no_healthy_one() {
    let yaml = format!("{}{}", entries(&["a"], &[]), rules(OUTLIER));
    let scene = scene(&yaml).await;
    scene.a.set(Temper::Answers(500));
    for _ in 0..2 {
        assert_eq!(scene.stage.get("/").await.status, 500);
    }
    let answer = scene.stage.get("/").await;
    assert!(answer.is(503, "no_healthy_upstream"), "{answer:?}");
    assert_eq!((flags(&scene.stage).as_str(), scene.a.count()), ("UH", 2));
}

async fn call_reviews(stage: &Stage, times: usize) {
    for _ in 0..times {
        let request = Request::get(format!("{REVIEWS_URL}/")).body(text("")).unwrap();
        assert_eq!(stage.call(request).await.status, 200);
    }
}

#[tokio::test]
async fn a_service_that_answers_500_does_not_take_its_gateway_from_others() {
    let yaml = format!("{}{}", entries(&["a", "b"], &[]), rules(OUTLIER));
    let scene = scene(&yaml).await;
    call_reviews(&scene.stage, 2).await;
    scene.a.set(Temper::Answers(500));
    for _ in 0..10 {
        scene.stage.get("/").await;
    }
    scene.a.set(Temper::Even);
    let (before, ratings) = (scene.a.count(), scene.b.count());
    for _ in 0..10 {
        assert_eq!(scene.stage.get("/").await.status, 200);
    }
    assert_eq!((scene.a.count(), scene.b.count()), (before, ratings + 10), "ratings has left gateway a out");
    call_reviews(&scene.stage, 10).await;
    assert_eq!(scene.a.count(), before + 5, "reviews has not");
}

#[tokio::test]
async fn a_gateway_that_cuts_connections_is_left_out_by_all() {
    let yaml = format!("{}{}", entries(&["a", "b"], &[]), rules(OUTLIER));
    let scene = scene(&yaml).await;
    call_reviews(&scene.stage, 2).await;
    scene.a.set(Temper::Cuts);
    for _ in 0..10 {
        assert_eq!(scene.stage.get("/").await.status, 200);
    }
    scene.a.set(Temper::Even);
    let before = scene.a.count();
    call_reviews(&scene.stage, 10).await;
    assert_eq!(scene.a.count(), before, "reviews has heard of it");
}

#[tokio::test]
async fn a_service_that_is_first_called_hears_what_others_met() {
    let yaml = format!("{}{}", entries(&["a", "b"], &[]), rules(OUTLIER));
    let scene = scene(&yaml).await;
    scene.a.set(Temper::Cuts);
    for _ in 0..10 {
        assert_eq!(scene.stage.get("/").await.status, 200);
    }
    scene.a.set(Temper::Even);
    let before = scene.a.count();
    call_reviews(&scene.stage, 10).await;
    assert_eq!(scene.a.count(), before);
}

#[tokio::test]
async fn more_requests_than_allowed_are_an_overflow() {
    let yaml = format!("{}{}", entries(&["a"], &[]), rules("    connectionPool: { http: { http2MaxRequests: 1 } }\n"));
    let scene = Arc::new(scene(&yaml).await);
    let first = tokio::spawn({
        let scene = Arc::clone(&scene);
        async move { scene.stage.get("/slow").await }
    });
    until("the first request", || scene.a.count() == 1).await;
    let answer = scene.stage.get("/").await;
    assert!(answer.is(503, "upstream_overflow"), "{answer:?}");
    assert_eq!(answer.headers["x-envoy-overloaded"], "true");
    assert_eq!(flags(&scene.stage), "UO");
    first.abort();
    let _ = first.await;
    // Its place is free again as soon as it is seen to have gone.
    let deadline = Instant::now() + Duration::from_secs(10);
    while scene.stage.get("/").await.status != 200 {
        assert!(Instant::now() < deadline, "the place stays taken");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_application_that_goes_away_has_its_line_too() {
    let scene = scene(&entries(&["a"], &[])).await;
    let call = call(scene.stage.address, Request::get(format!("{URL}/slow")).body(text("")).unwrap());
    let gone = tokio::time::timeout(Duration::from_millis(200), call).await;
    assert!(gone.is_err());
    until("the line", || scene.stage.lines.all().iter().any(|line| line.contains("\"response_flags\":\"DC\""))).await;
    assert_eq!(scene.stage.logged()["response_code"].as_u64(), Some(0));
}

#[tokio::test]
async fn the_same_key_leads_to_the_same_endpoint_and_a_cookie_is_made() {
    let hash = |what: &str| format!("    loadBalancer: {{ consistentHash: {{ {what} }} }}\n");
    let yaml = format!("{}{}", entries(&["a", "b"], &[]), rules(&hash("httpHeaderName: x-user")));
    let by_header = scene(&yaml).await;
    for user in ["one", "two", "three", "four"] {
        let before = (by_header.a.count(), by_header.b.count());
        for _ in 0..5 {
            let request = Request::get(format!("{URL}/")).header("x-user", user).body(text("")).unwrap();
            assert_eq!(by_header.stage.call(request).await.status, 200);
        }
        let (a, b) = (by_header.a.count() - before.0, by_header.b.count() - before.1);
        assert!(matches!((a, b), (5, 0) | (0, 5)), "{user}: {a} and {b}");
    }

    let yaml = format!("{}{}", entries(&["a", "b"], &[]), rules(&hash("httpCookie: { name: user, ttl: 60s }")));
    let by_cookie = scene(&yaml).await;
    let answer = by_cookie.stage.get("/").await;
    let cookie = answer.headers["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.starts_with("user=\"") && cookie.contains("Max-Age=60"), "{cookie}");
    let first = by_cookie.a.count();
    for _ in 0..5 {
        let pair = cookie.split(';').next().unwrap();
        let request = Request::get(format!("{URL}/")).header("cookie", pair).body(text("")).unwrap();
        let answer = by_cookie.stage.call(request).await;
        assert!(answer.status == 200 && !answer.headers.contains_key("set-cookie"));
    }
    assert_eq!(by_cookie.a.count(), first * 6);
}

#[tokio::test]
async fn a_name_without_an_address_is_no_healthy_upstream() {
    let mesh = Arc::new(Mesh::new());
    let yaml = entries(&["a"], &[]).replace("a.mesh.example", "nowhere.invalid");
    let places: [(&str, SocketAddr); 0] = [];
    let stage = Stage::ruled(&mesh, &yaml, &places).await;
    let answer = stage.get("/").await;
    assert!(answer.is(503, "no_healthy_upstream"), "{answer:?}");
    assert_eq!(flags(&stage), "UH");
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_cut_off_here_too() {
    let scene = scene(&entries(&["a", "b"], &[])).await;
    let answer = broken(&scene.stage, "/half").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("half"), "{answer}");
    until("the line", || !scene.stage.lines.all().iter().all(|line| !line.contains("\"event\":\"egress\""))).await;
    let line = scene.stage.logged();
    assert_eq!((line["response_code"].as_u64(), line["response_flags"].as_str()), (Some(200), Some("UC")), "{line}");
    assert_eq!((line["reason"].as_str(), line["bytes_sent"].as_u64()), (Some("upstream_reset"), Some(4)));
    assert_eq!(line["attempts"].as_u64(), Some(1));
}

#[tokio::test]
async fn a_timeout_also_ends_an_answer_that_has_begun() {
    let scene = scene(&format!("{}{}", entries(&["a"], &[]), route("    timeout: 0.2s"))).await;
    let answer = broken(&scene.stage, "/stuck").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("half"), "{answer}");
    until("the line", || !scene.stage.lines.all().iter().all(|line| !line.contains("\"event\":\"egress\""))).await;
    let line = scene.stage.logged();
    assert_eq!((line["response_flags"].as_str(), line["reason"].as_str()), (Some("UT"), Some("upstream_timeout")));
}

/// All that comes until the connection ends.
async fn broken(stage: &Stage, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(stage.address).await.unwrap();
    let request = format!("GET {URL}{path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

/// The limit of silence that is configured here is for those who say nothing.
#[tokio::test]
async fn an_application_that_turns_its_timeout_off_waits_longer() {
    let yaml = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: out, namespace: bookinfo }
spec: { hosts: [out.example], ports: [{ number: 80, name: http, protocol: HTTP }], resolution: DNS }
---
apiVersion: v1
kind: ConfigMap
metadata: { name: istio, namespace: istio-system }
data:
  mesh: |-
    outboundTrafficPolicy: { mode: ALLOW_ANY }
";
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let mesh = Arc::new(Mesh::new());
    let places = [("out.example:80", address), ("other.example:80", address)];
    let stage = Stage::ruled_with(&mesh, yaml, &places, |egress| {
        egress.response_timeout = Duration::from_millis(200);
    })
    .await;
    let call = |host: &str, wish: Option<&str>| {
        let mut request = Request::get(format!("http://{host}/"));
        if let Some(wish) = wish {
            request = request.header("x-envoy-upstream-rq-timeout-ms", wish);
        }
        let address = stage.address;
        tokio::spawn(async move { common::call(address, request.body(text("")).unwrap()).await })
    };
    // A service of the rules, and a host that nobody has named.
    let patient = [call("out.example", Some("0")), call("other.example", Some("0"))];
    let mut held = Vec::new();
    for _ in &patient {
        held.push(server.accept().await.unwrap().0);
    }
    // Those that wait no longer than is configured begin after the others, and end before them.
    for host in ["out.example", "other.example"] {
        let answer = call(host, None).await.unwrap();
        assert!(answer.is(504, "upstream_timeout"), "{host}: {answer:?}");
    }
    for mut stream in held {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    }
    for answer in patient {
        assert_eq!(answer.await.unwrap().status, 200);
    }
}
