//! What becomes of a request by its route: matches, weights, changes, answers of the route itself, faults and copies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use http::Request;
use tokio::time::Instant;

const V1: &str = "v1.mesh.example:15443";
const V2: &str = "v2.mesh.example:15443";
const SHADOW: &str = "shadow.mesh.example:15443";

/// Two services, `ratings` and `reviews`, each with one endpoint of its own.
fn services() -> String {
    let entry = |name: &str, endpoint: &str| {
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
  endpoints: [{{ address: {endpoint}, ports: {{ http: 15443 }} }}]
  subjectAltNames: [spiffe://cluster.local/ns/bookinfo/sa/bookinfo-ratings]
---"
        )
    };
    format!(
        "{}{}{}",
        entry("ratings", "v1.mesh.example"),
        entry("reviews", "v2.mesh.example"),
        entry("shadow", "shadow.mesh.example")
    )
}

/// The services, and a VirtualService of `ratings` with these `http` routes.
fn routed(http: &str) -> String {
    format!(
        "{}
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: ratings, namespace: bookinfo }}
spec:
  hosts: [ratings.bookinfo.svc.cluster.local]
  http:
{http}",
        services()
    )
}

struct Scene {
    v1: MeshServer,
    v2: MeshServer,
    shadow: MeshServer,
    stage: Stage,
}

async fn scene(yaml: &str) -> Scene {
    let mesh = Arc::new(Mesh::new());
    let v1 = MeshServer::start(&mesh, RATINGS).await;
    let v2 = MeshServer::start(&mesh, RATINGS).await;
    let shadow = MeshServer::start(&mesh, RATINGS).await;
    let places = [(V1, v1.address), (V2, v2.address), (SHADOW, shadow.address)];
    let stage = Stage::ruled(&mesh, yaml, &places).await;
    Scene { v1, v2, shadow, stage }
}

fn get(path: &str) -> http::request::Builder {
    Request::get(format!("{URL}{path}"))
}

#[tokio::test]
async fn the_first_route_that_matches_is_taken() {
    let scene = scene(&routed(
        "
  - name: canary
    match:
    - headers: { end-user: { exact: jason } }
      uri: { prefix: /ratings }
    route: [{ destination: { host: reviews } }]
  - name: rest
    match: [{ uri: { prefix: /ratings } }, { method: { exact: DELETE } }]
    route: [{ destination: { host: ratings } }]
",
    ))
    .await;
    let jason = get("/ratings/0").header("end-user", "jason").body(text("")).unwrap();
    assert_eq!(scene.stage.call(jason).await.status, 200);
    assert_eq!((scene.v1.count(), scene.v2.count()), (0, 1));
    let line = scene.stage.logged();
    assert_eq!(line["route_name"], "canary");
    assert_eq!(line["upstream_cluster"], "outbound|9080||reviews.bookinfo.svc.cluster.local");
    assert_eq!(line["upstream_host"].as_str().unwrap(), format!("v2.mesh.example:{}", scene.v2.address.port()));

    assert_eq!(scene.stage.get("/ratings/0").await.status, 200);
    assert_eq!((scene.v1.count(), scene.v2.count()), (1, 1));
    assert_eq!(scene.stage.logged()["route_name"], "rest");

    let answer = scene.stage.get("/other").await;
    assert!(answer.is(404, "no_route"), "{answer:?}");
    let line = scene.stage.logged();
    assert_eq!((line["response_flags"].as_str(), line["attempts"].as_u64()), (Some("NR"), Some(0)));
    assert_eq!((scene.v1.count(), scene.v2.count()), (1, 1));
}

#[tokio::test]
async fn weights_share_the_requests_out() {
    let scene = scene(&routed(
        "
  - route:
    - { destination: { host: ratings }, weight: 75 }
    - { destination: { host: reviews }, weight: 25 }
    - { destination: { host: shadow }, weight: 0 }
",
    ))
    .await;
    for _ in 0..200 {
        assert_eq!(scene.stage.get("/").await.status, 200);
    }
    // Six standard deviations around 150 are 37 requests.
    let (first, second) = (scene.v1.count(), scene.v2.count());
    assert!(first + second == 200 && (113..=187).contains(&first), "{first} and {second}");
    assert_eq!(scene.shadow.count(), 0);
}

#[tokio::test]
async fn headers_path_and_authority_are_changed_on_the_way() {
    let scene = scene(&routed(
        "
  - match: [{ uri: { prefix: /old } }]
    rewrite: { uri: /new, authority: inner.example }
    headers:
      request: { set: { x-set: route }, add: { x-added: route }, remove: [x-gone] }
      response: { set: { x-answer: route }, remove: [x-public] }
    route:
    - destination: { host: ratings }
      headers: { request: { add: { x-added: destination } } }
",
    ))
    .await;
    let request = get("/old/private?a=b")
        .header("x-set", "client")
        .header("x-gone", "1")
        .header("x-envoy-original-path", "/forged")
        .header("x-envoy-attempt-count", "9")
        .body(text(""))
        .unwrap();
    // `/new/private` answers as `/private` does not; ask for the real one below.
    let answer = scene.stage.call(request).await;
    assert_eq!((answer.status.as_u16(), answer.headers["x-answer"].to_str().unwrap()), (200, "route"));
    assert!(answer.headers.contains_key("x-envoy-upstream-service-time"));
    let seen = &scene.v1.seen()[0];
    assert_eq!(seen.uri, "/new/private?a=b");
    assert_eq!(seen.headers["host"], "inner.example");
    assert_eq!(seen.headers["x-envoy-original-path"], "/old/private?a=b");
    assert_eq!(seen.headers["x-envoy-original-host"], URL.strip_prefix("http://").unwrap());
    assert_eq!(seen.headers["x-envoy-attempt-count"], "1");
    assert_eq!(seen.headers["x-set"], "route");
    let added: Vec<_> = seen.headers.get_all("x-added").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(added.len(), 2, "{added:?}");
    assert!(!seen.headers.contains_key("x-gone"));
    assert_eq!(scene.stage.logged()["path"], "/old/private");
    assert_eq!(scene.stage.logged()["authority"], "inner.example");
}

#[tokio::test]
async fn a_rewritten_prefix_reaches_the_service_and_its_answer_loses_a_header() {
    let scene = scene(&routed(
        "
  - match: [{ uri: { prefix: /api/ } }]
    rewrite: { uri: / }
    headers: { response: { remove: [x-public] } }
    route: [{ destination: { host: ratings } }]
",
    ))
    .await;
    let answer = scene.stage.get("/api/private").await;
    assert_eq!(answer.body, "private");
    assert!(!answer.headers.contains_key("x-public"));
}

#[tokio::test]
async fn a_request_id_is_made_once_and_passed_on() {
    let scene = scene(&services()).await;
    scene.stage.get("/").await;
    let made = scene.v1.seen()[0].headers["x-request-id"].to_str().unwrap().to_owned();
    assert_eq!((made.len(), made.as_bytes()[14]), (36, b'4'), "{made}");
    assert_eq!(scene.stage.logged()["request_id"].as_str(), Some(made.as_str()));
    scene.stage.call(get("/").header("x-request-id", "mine").body(text("")).unwrap()).await;
    assert_eq!(scene.v1.seen()[1].headers["x-request-id"], "mine");
}

#[tokio::test]
async fn redirects_and_direct_responses_need_no_service() {
    let scene = scene(&routed(
        "
  - match: [{ uri: { exact: /moved } }]
    redirect: { uri: /here, authority: other.example, redirectCode: 308 }
  - match: [{ uri: { exact: /teapot } }]
    directResponse: { status: 418, body: { string: short and stout } }
    headers: { response: { add: { x-pot: tea } } }
",
    ))
    .await;
    let answer = scene.stage.get("/moved?a=b").await;
    assert!(answer.is(308, "redirect"), "{answer:?}");
    assert!(answer.headers["location"].to_str().unwrap().starts_with("http://other.example"), "{answer:?}");
    let answer = scene.stage.get("/teapot").await;
    assert!(answer.is(418, "direct_response"), "{answer:?}");
    assert_eq!((answer.body.as_str(), answer.headers["x-pot"].to_str().unwrap()), ("short and stout", "tea"));
    let line = scene.stage.logged();
    assert_eq!((line["response_code"].as_u64(), line["bytes_sent"].as_u64()), (Some(418), Some(15)));
    assert_eq!((line["response_flags"].as_str(), line["reason"].as_str()), (Some("-"), Some("direct_response")));
    assert_eq!((scene.v1.connections(), scene.v2.connections()), (0, 0));
}

#[tokio::test]
async fn faults_are_injected_and_said() {
    let scene = scene(&routed(
        "
  - match: [{ uri: { exact: /abort } }]
    fault: { abort: { httpStatus: 555, percentage: { value: 100 } } }
    route: [{ destination: { host: ratings } }]
  - match: [{ uri: { exact: /grpc } }]
    fault: { abort: { grpcStatus: UNAVAILABLE, percentage: { value: 100 } } }
    route: [{ destination: { host: ratings } }]
  - match: [{ uri: { exact: /never } }]
    fault: { abort: { httpStatus: 555, percentage: { value: 0 } } }
    route: [{ destination: { host: ratings } }]
  - fault: { delay: { fixedDelay: 0.05s, percentage: { value: 100 } } }
    route: [{ destination: { host: ratings } }]
",
    ))
    .await;
    let answer = scene.stage.get("/abort").await;
    assert!(answer.is(555, "fault_injected"), "{answer:?}");
    assert_eq!(scene.stage.logged()["response_flags"], "FI");

    let call = Request::post(format!("{URL}/grpc")).header("content-type", "application/grpc").body(text("")).unwrap();
    let answer = scene.stage.call(call).await;
    assert!(answer.is(200, "fault_injected"), "{answer:?}");
    assert_eq!((answer.headers["grpc-status"].to_str().unwrap(), answer.body.as_str()), ("14", ""));
    assert!(scene.stage.get("/grpc").await.is(503, "fault_injected"));
    assert_eq!(scene.v1.count(), 0);

    assert_eq!(scene.stage.get("/never").await.status, 200);
    let begun = Instant::now();
    assert_eq!(scene.stage.get("/delay").await.status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(50));
    assert_eq!(scene.stage.logged()["response_flags"], "DI");
    assert_eq!(scene.v1.count(), 2);
}

const MIRRORED: &str = "
  - route: [{ destination: { host: ratings } }]
    mirrors: [{ destination: { host: shadow } }]
";

#[tokio::test]
async fn a_copy_goes_to_the_mirror_with_its_body_and_its_host() {
    let scene = scene(&routed(MIRRORED)).await;
    let request = Request::post(format!("{URL}/collect?a=b")).header("x-mine", "1").body(text("hello")).unwrap();
    let answer = scene.stage.call(request).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "5"));
    until("the copy", || !scene.shadow.bodies().is_empty()).await;
    let copy = &scene.shadow.seen()[0];
    assert_eq!((copy.uri.as_str(), copy.method.as_str()), ("/collect?a=b", "POST"));
    assert_eq!(copy.headers["host"], "ratings.bookinfo.svc.cluster.local:9080");
    assert_eq!(copy.headers["x-mine"], "1");
    assert_eq!(copy.headers["authorization"], "Bearer token-1");
    assert_eq!(copy.headers["x-request-id"], scene.v1.seen()[0].headers["x-request-id"]);
    assert_eq!(scene.shadow.bodies(), ["hello"]);
    assert_eq!(scene.v1.bodies(), ["hello"]);

    // One that has no body is sent at once.
    assert_eq!(scene.stage.get("/").await.status, 200);
    until("the second copy", || scene.shadow.count() == 2).await;
}

#[tokio::test]
async fn a_mirror_neither_delays_nor_fails_a_request() {
    let scene = scene(&routed(MIRRORED)).await;
    for temper in [Temper::Hangs, Temper::Cuts, Temper::Answers(500)] {
        scene.shadow.set(temper);
        let before = scene.shadow.count();
        let begun = Instant::now();
        assert_eq!(scene.stage.get("/").await.body, "ratings");
        assert!(begun.elapsed() < Duration::from_secs(5), "{temper:?}");
        until("the copy", || scene.shadow.count() > before).await;
    }
    until("the line of a failed copy", || scene.stage.lines.all().iter().any(|line| line.contains("mirror_failed")))
        .await;
}

#[tokio::test]
async fn a_body_that_is_too_long_to_keep_is_not_mirrored() {
    let scene = scene(&routed(MIRRORED)).await;
    let request = Request::post(format!("{URL}/collect")).body(text(vec![b'x'; 65 * 1_024])).unwrap();
    assert_eq!(scene.stage.call(request).await.body, (65 * 1_024).to_string());
    // The next copy arrives; the one of the long body did not go before it.
    assert_eq!(scene.stage.get("/after").await.status, 200);
    until("the copy", || scene.shadow.count() > 0).await;
    assert_eq!(scene.shadow.seen()[0].uri, "/after");
}

#[tokio::test]
async fn an_unknown_host_is_refused_or_where_all_may_be_called_passed_on_without_identity_and_token() {
    let mesh = Arc::new(Mesh::new());
    let plain = PlainServer::start().await;
    let place = ("outside.example:80", plain.address);
    let stage = Stage::ruled(&mesh, &services(), &[place]).await;
    let outside = || Request::get("http://outside.example/a?b").header("x-mine", "1").body(text("")).unwrap();
    let answer = stage.call(outside()).await;
    assert!(answer.is(502, "unknown_host"), "{answer:?}");
    assert!(answer.body.contains("REGISTRY_ONLY"));
    assert_eq!(stage.logged()["response_flags"], "NR");

    let any = format!(
        "{}
apiVersion: v1
kind: ConfigMap
metadata: {{ name: istio, namespace: istio-system }}
data:
  mesh: |-
    outboundTrafficPolicy: {{ mode: ALLOW_ANY }}
",
        services()
    );
    let stage = Stage::ruled(&mesh, &any, &[place]).await;
    let answer = stage.call(outside()).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "ratings"), "{answer:?}");
    let seen = &plain.seen()[0];
    assert_eq!((seen.uri.as_str(), seen.headers["host"].to_str().unwrap()), ("/a?b", "outside.example"));
    assert!(!seen.headers.contains_key("authorization"));
    assert_eq!(stage.logged()["upstream_cluster"], "PassthroughCluster");

    let here = plain.address.port();
    for host in [
        format!("127.0.0.1:{here}"),
        format!("localhost:{here}"),
        format!("0.0.0.0:{here}"),
        format!("127.1.2.3:{here}"),
        format!("[::ffff:127.0.0.1]:{here}"),
        format!("[::1]:{here}"),
        "169.254.169.254".to_owned(),
        "169.254.100.1:9001".to_owned(),
        "[fe80::1]".to_owned(),
        // Names of the mesh, at a port that no document has, and of the cluster.
        "ratings.bookinfo.svc.cluster.local:81".to_owned(),
        "details.bookinfo.svc:9080".to_owned(),
        "details:9080".to_owned(),
    ] {
        let request = Request::get(format!("http://{host}/")).body(text("")).unwrap();
        let answer = stage.call(request).await;
        assert!(answer.is(403, "destination_forbidden"), "{host}: {answer:?}");
    }
    for host in ["ratings.bookinfo.svc.cluster.local..:9080", "details.bookinfo.svc..", "outside.example..", "a..b"] {
        let request = Request::get(format!("http://{host}/")).body(text("")).unwrap();
        let answer = stage.call(request).await;
        assert!(answer.is(400, "request_invalid"), "{host}: {answer:?}");
    }
    assert_eq!(plain.seen().len(), 1);
}

const ALLOW_ANY: &str = "---
apiVersion: v1
kind: ConfigMap
metadata: { name: istio, namespace: istio-system }
data:
  mesh: |-
    outboundTrafficPolicy: { mode: ALLOW_ANY }
";

/// A `Sidecar` and an `exportTo` hide a service; they do not take it out of the mesh.
#[tokio::test]
async fn what_is_of_the_mesh_is_never_called_in_the_clear_whoever_sees_it() {
    let mesh = Arc::new(Mesh::new());
    let plain = PlainServer::start().await;
    let port = nobody().await.port();
    let listener = format!(
        "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{ name: default, namespace: bookinfo }}
spec:
  egress:
  - port: {{ number: {port}, protocol: HTTP, name: own }}
    bind: 127.0.0.1
    hosts: [bookinfo/partner.test, bookinfo/listed.mesh.test]
"
    );
    let hidden = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: hidden, namespace: other }
spec:
  hosts: [hidden.mesh.test]
  location: MESH_INTERNAL
  resolution: STATIC
  exportTo: [.]
  ports: [{ number: 9080, name: http, protocol: HTTP }]
  endpoints: [{ address: 10.0.1.7 }, { address: 'fd00::7' }]
  subjectAltNames: [spiffe://cluster.local/ns/other/sa/hidden]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: nobody, namespace: other }
spec:
  hosts: [nobody.mesh.test, '*.wild.mesh.test']
  location: MESH_INTERNAL
  resolution: DNS
  exportTo: ['~']
  ports: [{ number: 9080, name: http, protocol: HTTP }]
  endpoints: [{ address: gateway.mesh.test }]
  subjectAltNames: [spiffe://cluster.local/ns/other/sa/hidden]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: listed, namespace: bookinfo }
spec:
  hosts: [listed.mesh.test]
  location: MESH_INTERNAL
  resolution: DNS
  ports: [{ number: 9080, name: http, protocol: HTTP }]
  endpoints: [{ address: v1.mesh.example, ports: { http: 15443 } }]
  subjectAltNames: [spiffe://cluster.local/ns/bookinfo/sa/bookinfo-ratings]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: partner, namespace: bookinfo }
spec:
  hosts: [partner.test]
  resolution: DNS
  ports: [{ number: 80, name: http, protocol: HTTP }, { number: PORT, name: own, protocol: HTTP }]
---"
    .replace("PORT", &port.to_string());
    let refused = [
        "hidden.mesh.test:9080",
        "HIDDEN.mesh.test.:81",
        "a.wild.mesh.test:9080",
        "nobody.mesh.test:9080",
        "gateway.mesh.test:9080",
        "listed.mesh.test:81",
        "10.0.1.7:9080",
        "[::ffff:10.0.1.7]:9080",
        "[fd00:0::7]:9080",
        "0x0a.0.1.7:9080",
        "10.0.263:9080",
        "v1.mesh.example:15443",
        "partner.test:81",
    ];
    // Wherever it would go.
    let places: Vec<_> = refused.iter().map(|host| (*host, plain.address)).collect();
    for sidecar in ["", &listener] {
        let yaml = format!("{hidden}{}\n{ALLOW_ANY}{sidecar}", services());
        let stage = Stage::ruled(&mesh, &yaml, &places).await;
        for host in refused {
            let request = Request::get(format!("http://{host}/")).body(text("")).unwrap();
            let answer = stage.call(request).await;
            assert!(answer.is(403, "destination_forbidden"), "{host} {sidecar:?}: {answer:?}");
        }
        let visible = stage.call(Request::get("http://listed.mesh.test:9080/").body(text("")).unwrap()).await;
        let expected = if sidecar.is_empty() { (503, "tls_failed") } else { (403, "destination_forbidden") };
        assert!(visible.is(expected.0, expected.1), "{visible:?}");
    }
    assert!(plain.seen().is_empty());
}

#[tokio::test]
async fn who_called_is_not_for_the_application_to_say() {
    let scene = scene(&services()).await;
    let request = get("/").header("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/admin/sa/root");
    let request = request.header("x-forwarded-for", "192.0.2.1").body(text("")).unwrap();
    assert_eq!(scene.stage.call(request).await.status, 200);
    let seen = &scene.v1.seen()[0].headers;
    assert!(!seen.contains_key("x-forwarded-client-cert"), "{seen:?}");
    assert_eq!(
        (seen["x-forwarded-for"].as_bytes(), seen["x-forwarded-proto"].as_bytes()),
        (&b"192.0.2.1"[..], &b"http"[..])
    );
}

/// A destination without endpoints is reached at its own host, not in the clear at the one that was named.
#[tokio::test]
async fn a_destination_without_endpoints_is_its_own_host() {
    let mesh = Arc::new(Mesh::new());
    let plain = PlainServer::start().await;
    let rules = format!(
        "{}
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: out, namespace: bookinfo }}
spec: {{ hosts: [out.example], ports: [{{ number: 80, name: http, protocol: HTTP }}], resolution: NONE }}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: moved, namespace: bookinfo }}
spec: {{ hosts: [moved.example], http: [{{ route: [{{ destination: {{ host: out.example }} }}] }}] }}
",
        services()
    );
    let stage = Stage::ruled(&mesh, &rules, &[("out.example:80", plain.address)]).await;
    let request = Request::get("http://moved.example/a").body(text("")).unwrap();
    let answer = stage.call(request).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "ratings"), "{answer:?}");
    assert_eq!(plain.seen().len(), 1);
}

#[tokio::test]
async fn a_query_is_in_no_error() {
    let scene = scene(&routed(
        "
  - rewrite: { uriRegexRewrite: { match: ^/, rewrite: x } }
    route: [{ destination: { host: ratings } }]
",
    ))
    .await;
    let answer = scene.stage.get("/path?token=secret").await;
    assert!(answer.is(503, "configuration_invalid") && answer.body.contains("xpath"), "{answer:?}");
    assert!(!answer.body.contains("secret"), "{answer:?}");
    assert!(!scene.stage.lines.all().iter().any(|line| line.contains("secret")));
}

#[tokio::test]
async fn a_route_that_takes_the_token_out_gets_none() {
    let scene = scene(&routed(
        "
  - match: [{ uri: { prefix: /bare } }]
    headers: { request: { remove: [Authorization] } }
    route: [{ destination: { host: ratings } }]
    mirrors: [{ destination: { host: shadow }, percentage: { value: 100 } }]
  - match: [{ uri: { prefix: /own } }]
    headers: { request: { remove: [authorization], set: { authorization: Basic x } } }
    route: [{ destination: { host: ratings } }]
  - route: [{ destination: { host: ratings } }]
",
    ))
    .await;
    let with = |path: &str| get(path).header("authorization", "Bearer mine").body(text("")).unwrap();
    let sent = |server: &MeshServer| {
        server.seen().last().unwrap().headers.get("authorization").map(|value| value.to_str().unwrap().to_owned())
    };
    for (path, expected) in [("/", Some("Bearer mine")), ("/bare", None), ("/own", Some("Basic x"))] {
        assert_eq!(scene.stage.call(with(path)).await.status, 200);
        assert_eq!(sent(&scene.v1).as_deref(), expected, "{path}");
    }
    for (path, expected) in [("/", Some("Bearer token-1")), ("/bare", None)] {
        assert_eq!(scene.stage.get(path).await.status, 200);
        assert_eq!(sent(&scene.v1).as_deref(), expected, "{path}");
    }
    until("the copies", || scene.shadow.count() == 2).await;
    assert_eq!(sent(&scene.shadow), None);
}
