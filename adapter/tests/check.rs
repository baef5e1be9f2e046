//! A real gRPC client asks a real server, as Envoy would.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test says what it expects by failing")]

#[path = "../../tests/fixtures/issuer.rs"]
mod issuer;

use std::collections::HashMap;
use std::sync::Arc;

use adapter::config::Workload;
use adapter::{Adapter, ApiKeyStore, Deps, Place};
use authz::{ApiKey, ApiKeyRecord, CompileOptions, KeyState, Policies};
use envoy_types::ext_authz::v3::pb::{Address, CheckRequest, CheckResponse, HttpResponse};
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{self as core, SocketAddress};
use envoy_types::pb::envoy::service::auth::v3::AttributeContext;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{self, HttpRequest};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use identity::Secret;
use issuer::{ISSUER, Issuer, NOW, reader, with};
use platform::BoxFuture;
use platform::clock::FixedClock;
use platform::jwks::JwksSource;
use platform::log::{Lines, Log};
use platform::store::{self, ApiKeys, StoreError};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tonic::transport::Channel;

const PEPPER: &str = "a pepper of the tests";

const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: issuer, namespace: istio-system }
spec:
  jwtRules:
    - issuer: https://issuer.bookinfo.example
      audiences: [bookinfo]
      jwks: 'JWKS'
      forwardOriginalToken: true
---
apiVersion: causeway.dev/v1alpha1
kind: ApiKeyAuthentication
metadata: { name: keys, namespace: istio-system }
spec: { issuer: https://issuer.bookinfo.example }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: ratings, namespace: bookinfo }
spec:
  selector: { matchLabels: { app: ratings } }
  rules:
    - from:
        - source: { requestPrincipals: ['https://issuer.bookinfo.example/client:reader'] }
      to:
        - operation: { methods: [GET], paths: ['/ratings/*'] }
    - from:
        - source: { principals: ['cluster.local/ns/bookinfo/sa/bookinfo-productpage'] }
      to:
        - operation: { paths: ['/peer'], ports: ['9080'] }
    - to:
        - operation: { paths: ['/open', '/open/*'] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: kept-out, namespace: bookinfo }
spec:
  selector: { matchLabels: { app: ratings } }
  action: DENY
  rules:
    - from:
        - source: { principals: ['cluster.local/ns/bookinfo/sa/kept-out'] }
      to:
        - operation: { paths: ['/open/kept-from-one'] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: closed, namespace: bookinfo }
spec:
  selector: { matchLabels: { app: closed } }
";

struct World {
    client: AuthorizationClient<Channel>,
    issuer: Issuer,
    lines: Lines,
    stop: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<Result<(), adapter::Error>>,
    address: std::net::SocketAddr,
}

impl World {
    async fn new() -> Self {
        let store = store::Embedded::in_memory();
        for (seed, state, expires_at) in [
            (1, KeyState::Active, None),
            (2, KeyState::Revoked, None),
            (3, KeyState::Disabled, None),
            (4, KeyState::Active, Some(NOW - 1)),
        ] {
            ApiKeys::put(&store, &ApiKeyRecord { state, expires_at, ..record(&key(seed)) }).await.unwrap();
        }
        ApiKeys::put(&store, &record(&production_key())).await.unwrap();
        Self::with(Arc::new(store), workload("ratings")).await
    }

    async fn with(records: Arc<dyn ApiKeys>, workload: Option<Workload>) -> Self {
        let issuer = Issuer::new();
        let text = POLICIES.replace("JWKS", &issuer.jwks());
        let resources = istio::parse(&[istio::SourceFile { name: "policies.yaml".to_owned(), text }]).unwrap();
        let policies =
            Policies::open(&authz::compile(&resources, &CompileOptions::default()).unwrap().section).unwrap();
        let (log, lines) = Log::memory();
        let clock = Arc::new(FixedClock::at(NOW));
        let secrets = platform::secrets::Embedded::default();
        secrets.put("pepper", PEPPER);
        let api_keys = Some(ApiKeyStore { records, secrets: Arc::new(secrets), pepper_id: "pepper".to_owned() });
        let deps = Deps {
            api_keys,
            jwks: Arc::new(JwksSource::new(clock.clone())),
            revocations: Default::default(),
            rate_limits: None,
            clock,
            log,
        };
        let place = Place { workload, environment: Some("dev".to_owned()) };
        let bound = Adapter::new(place, policies, deps).unwrap().listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = bound.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(bound.run(async {
            let _ = stopped.await;
        }));
        let client = AuthorizationClient::connect(format!("http://{address}")).await.unwrap();
        Self { client, issuer, lines, stop: Some(stop), served, address }
    }

    async fn ask(&mut self, request: CheckRequest) -> (CheckResponse, Value) {
        self.lines.drain();
        let answer = self.client.check(request).await.unwrap().into_inner();
        let lines: Vec<Value> = self.lines.drain().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let line = lines.into_iter().find(|line| line["event"] == "decision").unwrap();
        (answer, line)
    }
}

fn workload(app: &str) -> Option<Workload> {
    Some(Workload { namespace: "bookinfo".to_owned(), labels: vec![("app".to_owned(), app.to_owned())] })
}

fn key(seed: u8) -> ApiKey {
    ApiKey::generate("dev", &[seed; 48]).unwrap()
}

fn production_key() -> ApiKey {
    ApiKey::generate("prod", &[5; 48]).unwrap()
}

fn text(seed: u8) -> String {
    key(seed).text().expose().clone()
}

fn record(key: &ApiKey) -> ApiKeyRecord {
    ApiKeyRecord {
        id: key.id().to_owned(),
        client_id: "reader".to_owned(),
        environment: key.environment().to_owned(),
        hashes: vec![authz::api_key::hex(&key.hash(&Secret::new(PEPPER.as_bytes().to_vec())))],
        scope: "reviews.read".to_owned(),
        audiences: vec!["bookinfo".to_owned()],
        state: KeyState::Active,
        not_before: None,
        expires_at: None,
        ..ApiKeyRecord::default()
    }
}

fn address(ip: &str, port: u32) -> core::Address {
    let socket = SocketAddress {
        address: ip.to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(port)),
        ..SocketAddress::default()
    };
    core::Address { address: Some(Address::SocketAddress(socket)) }
}

/// What Envoy's sidecar of `ratings` asks about `GET /ratings/0`.
fn check(headers: &[(&str, &str)]) -> CheckRequest {
    let mut all: HashMap<String, String> = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    for (name, value) in
        [(":method", "GET"), (":path", "/ratings/0"), (":authority", "ratings:9080"), ("accept", "*/*")]
    {
        all.insert(name.to_owned(), value.to_owned());
    }
    let http = HttpRequest {
        id: "17".to_owned(),
        method: "GET".to_owned(),
        path: "/ratings/0".to_owned(),
        host: "ratings:9080".to_owned(),
        scheme: "http".to_owned(),
        protocol: "HTTP/1.1".to_owned(),
        headers: all,
        ..HttpRequest::default()
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(attribute_context::Peer { address: Some(address("10.0.0.7", 41_000)), ..Default::default() }),
            destination: Some(attribute_context::Peer {
                address: Some(address("10.0.0.8", 9_080)),
                ..Default::default()
            }),
            request: Some(attribute_context::Request { http: Some(http), ..Default::default() }),
            ..AttributeContext::default()
        }),
    }
}

fn edited(edit: impl FnOnce(&mut AttributeContext)) -> CheckRequest {
    let mut request = check(&[("x-api-key", &text(1))]);
    edit(request.attributes.as_mut().unwrap());
    request
}

fn http(attributes: &mut AttributeContext) -> &mut HttpRequest {
    attributes.request.as_mut().unwrap().http.as_mut().unwrap()
}

/// Status, headers that are set, headers that are removed; for a denial its body as well.
fn read(answer: &CheckResponse) -> (i32, Vec<(String, String)>, Vec<String>, String) {
    let pairs = |headers: &[core::HeaderValueOption]| {
        let header = |option: &core::HeaderValueOption| {
            // OVERWRITE_IF_EXISTS_OR_ADD: anything else would leave a header of the client's beside ours.
            assert_eq!(option.append_action, 2);
            let header = option.header.clone().unwrap();
            (header.key, header.value)
        };
        headers.iter().map(header).collect()
    };
    let grpc = answer.status.as_ref().unwrap().code;
    match answer.http_response.as_ref().unwrap() {
        HttpResponse::OkResponse(ok) => {
            assert_eq!(grpc, 0);
            (200, pairs(&ok.headers), ok.headers_to_remove.clone(), String::new())
        }
        HttpResponse::DeniedResponse(denied) => {
            let status = denied.status.unwrap().code;
            assert_eq!(grpc, if status == 401 { 16 } else { 7 });
            (status, pairs(&denied.headers), Vec::new(), denied.body.clone())
        }
        HttpResponse::ErrorResponse(_) => panic!("an error response"),
    }
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[tokio::test]
async fn a_good_key_passes_and_does_not_go_further() {
    let mut world = World::new().await;
    let (answer, line) = world.ask(check(&[("x-api-key", &text(1))])).await;
    let identity =
        vec![pair("x-causeway-principal", &format!("{ISSUER}/client:reader")), pair("x-causeway-client-id", "reader")];
    assert_eq!(read(&answer), (200, identity, vec!["x-api-key".to_owned()], String::new()), "{line}");
    for (name, value) in [
        ("allowed", json!(true)),
        ("status", json!(200)),
        ("reason", json!("allowed_by_policy")),
        ("policy", json!("ns[bookinfo]-policy[ratings]-rule[0]")),
        ("principal", json!(format!("{ISSUER}/client:reader"))),
        ("client_id", json!("reader")),
        ("path", json!("/ratings/0")),
        ("host", json!("ratings:9080")),
        ("hop", json!("workload")),
        ("request_id", json!("17")),
    ] {
        assert_eq!(line[name], value, "{line}");
    }
}

#[tokio::test]
async fn each_bad_key_is_refused_without_saying_why() {
    let mut world = World::new().await;
    for (name, key, reason) in [
        ("revoked", text(2), "api_key_revoked"),
        ("disabled", text(3), "api_key_revoked"),
        ("expired", text(4), "api_key_expired"),
        ("unknown", text(9), "api_key_unknown"),
        ("malformed", "cwk_dev_x".to_owned(), "api_key_malformed"),
        ("empty", String::new(), "api_key_malformed"),
        ("two lines", format!("{},{}", text(1), text(1)), "api_key_malformed"),
    ] {
        let (answer, line) = world.ask(check(&[("x-api-key", &key)])).await;
        let content_type = vec![pair("content-type", "application/json")];
        let body = "{\"error\":\"unauthenticated\"}\n".to_owned();
        assert_eq!(read(&answer), (401, content_type, Vec::new(), body), "{name}: {line}");
        assert_eq!((line["reason"].as_str(), &line["status"]), (Some(reason), &json!(401)), "{name}");
        assert!(key.is_empty() || !line.to_string().contains(&key), "{name}: a key in the log");
    }
}

#[tokio::test]
async fn no_credential_is_denied_where_a_policy_needs_one() {
    let mut world = World::new().await;
    let (answer, line) = world.ask(check(&[])).await;
    // Envoy's own RBAC says 403 to a caller without a token, too.
    let (status, _, _, body) = read(&answer);
    assert_eq!(
        (status, body.as_str(), line["reason"].as_str()),
        (403, "{\"error\":\"denied\"}\n", Some("no_credential"))
    );
    let (answer, line) = world.ask(edited(|a| http(a).path = "/open".to_owned())).await;
    assert_eq!(read(&answer).0, 200, "{line}");
}

#[tokio::test]
async fn tokens() {
    let mut world = World::new().await;
    for (name, claims, status, reason) in [
        ("good", reader(), 200, "allowed_by_policy"),
        ("expired", with(reader(), "exp", json!(NOW - 61)), 401, "token_expired"),
        ("other audience", with(reader(), "aud", json!("else")), 403, "token_audience"),
        ("other subject", with(reader(), "sub", json!("client:writer")), 403, "denied_no_match"),
        ("line break", with(reader(), "client_id", json!("a\r\nx: y")), 401, "token_malformed"),
    ] {
        let token = format!("Bearer {}", world.issuer.token(&claims));
        let (answer, line) = world.ask(check(&[("authorization", &token)])).await;
        assert_eq!((read(&answer).0, line["reason"].as_str()), (status, Some(reason)), "{name}: {line}");
        assert!(!line.to_string().contains("eyJ"), "{name}: a token in the log");
    }
}

#[tokio::test]
async fn identity_headers_of_the_client_never_arrive() {
    let mut world = World::new().await;
    let spoofed = [
        ("x-causeway-principal", "https://issuer.bookinfo.example/client:admin"),
        ("X-Causeway-Client-Id", "admin"),
        ("x-causeway-else", "1"),
    ];
    let api_key = text(1);
    let with_key: Vec<_> = spoofed.iter().copied().chain([("x-api-key", api_key.as_str())]).collect();
    let (answer, _) = world.ask(check(&with_key)).await;
    let (status, set, removed, _) = read(&answer);
    assert_eq!(status, 200);
    assert_eq!(set[0], pair("x-causeway-principal", &format!("{ISSUER}/client:reader")));
    assert_eq!(set[1], pair("x-causeway-client-id", "reader"));
    // Envoy removes after it has set: the two that are set must not be here.
    assert_eq!(removed, ["x-api-key", "x-causeway-else"]);

    // A caller that nobody has identified has no identity headers at all.
    let mut open = check(&spoofed);
    http(open.attributes.as_mut().unwrap()).path = "/open".to_owned();
    let (answer, _) = world.ask(open).await;
    let (status, set, removed, _) = read(&answer);
    assert_eq!((status, set), (200, Vec::new()));
    assert_eq!(removed, ["x-causeway-client-id", "x-causeway-else", "x-causeway-principal"]);

    // Envoy's `allowed_headers` may keep them from us; the upstream would get them all the same.
    let mut unseen = check(&[]);
    http(unseen.attributes.as_mut().unwrap()).path = "/open".to_owned();
    let (answer, _) = world.ask(unseen).await;
    assert_eq!(read(&answer).2, ["x-causeway-client-id", "x-causeway-principal"]);
}

#[tokio::test]
async fn the_peer_and_the_port_count() {
    let mut world = World::new().await;
    let peer = |principal: &'static str, port: u32, path: &'static str| {
        edited(move |a| {
            http(a).path = path.to_owned();
            http(a).headers.clear();
            a.source.as_mut().unwrap().principal = principal.to_owned();
            a.destination.as_mut().unwrap().address = Some(address("10.0.0.8", port));
        })
    };
    for (principal, port, status, reason) in [
        ("spiffe://cluster.local/ns/bookinfo/sa/bookinfo-productpage", 9_080, 200, "allowed_by_policy"),
        ("spiffe://cluster.local/ns/bookinfo/sa/bookinfo-productpage", 9_081, 403, "denied_no_match"),
        ("spiffe://cluster.local/ns/bookinfo/sa/bookinfo-ratings", 9_080, 403, "denied_no_match"),
        ("", 9_080, 403, "no_credential"),
        // Another name than a SPIFFE ID: nobody that an ALLOW rule could mean.
        ("CN=productpage", 9_080, 403, "no_credential"),
        ("cluster.local/ns/bookinfo/sa/bookinfo-productpage", 9_080, 403, "no_credential"),
        ("spiffe://", 9_080, 403, "no_credential"),
    ] {
        let (answer, line) = world.ask(peer(principal, port, "/peer")).await;
        assert_eq!((read(&answer).0, line["reason"].as_str()), (status, Some(reason)), "{principal}: {line}");
    }
    // What is about no peer is as for anybody; and a DENY rule about peers might mean this one.
    for (principal, path, status, reason) in [
        ("client.example", "/open", 200, "allowed_by_policy"),
        ("client.example", "/open/kept-from-one", 403, "no_credential"),
        ("", "/open/kept-from-one", 200, "allowed_by_policy"),
        ("spiffe://cluster.local/ns/bookinfo/sa/other", "/open/kept-from-one", 200, "allowed_by_policy"),
        ("spiffe://cluster.local/ns/bookinfo/sa/kept-out", "/open/kept-from-one", 403, "denied_by_policy"),
    ] {
        let (answer, line) = world.ask(peer(principal, 9_080, path)).await;
        assert_eq!((read(&answer).0, line["reason"].as_str()), (status, Some(reason)), "{principal}: {line}");
    }
}

#[tokio::test]
async fn a_decision_can_be_found_by_the_request_s_id_and_by_its_trace() {
    let mut world = World::new().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let asked = edited(|a| {
        let headers = &mut http(a).headers;
        headers.insert("x-request-id".to_owned(), "9f3c".to_owned());
        headers.insert("traceparent".to_owned(), format!("00-{trace}-00f067aa0ba902b7-01"));
    });
    let (_, line) = world.ask(asked).await;
    assert_eq!((&line["request_id"], &line["trace_id"]), (&json!("9f3c"), &json!(trace)), "{line}");
    // A header that says nothing does not hide Envoy's own number.
    for empty in ["", " "] {
        let asked = edited(|a| {
            "5".clone_into(&mut http(a).id);
            http(a).headers.insert("x-request-id".to_owned(), empty.to_owned());
        });
        let (_, line) = world.ask(asked).await;
        assert_eq!(line["request_id"], "5", "{line}");
    }
}

#[tokio::test]
async fn malformed_questions_are_denied() {
    let mut world = World::new().await;
    let raw = |key: &str, value: &str, raw_value: &[u8]| core::HeaderValue {
        key: key.to_owned(),
        value: value.to_owned(),
        raw_value: raw_value.to_vec(),
    };
    for (name, request, reason) in [
        ("nothing", CheckRequest::default(), "request_invalid"),
        ("no request", edited(|a| a.request = None), "request_invalid"),
        ("no HTTP", edited(|a| a.request.as_mut().unwrap().http = None), "request_invalid"),
        ("no method", edited(|a| http(a).method.clear()), "request_invalid"),
        ("no host", edited(|a| http(a).host.clear()), "request_invalid"),
        ("no path", edited(|a| http(a).path.clear()), "path_invalid"),
        ("path *", edited(|a| http(a).path = "*".to_owned()), "path_invalid"),
        ("path trick", edited(|a| http(a).path = "/ratings/../admin".to_owned()), "path_not_canonical"),
        ("address", edited(|a| a.source.as_mut().unwrap().address = Some(address("x", 1))), "request_invalid"),
        ("header name", edited(|a| drop(http(a).headers.insert("a b".to_owned(), String::new()))), "request_invalid"),
        (
            "large header",
            edited(|a| drop(http(a).headers.insert("x".to_owned(), "x".repeat(65_536)))),
            "request_too_large",
        ),
        (
            "many headers",
            edited(|a| http(a).headers.extend((0..100).map(|i| (format!("h{i}"), String::new())))),
            "request_too_large",
        ),
        ("long host", edited(|a| http(a).host = "x".repeat(3_000)), "request_too_large"),
        (
            "raw header that is not UTF-8",
            edited(|a| http(a).header_map = Some(core::HeaderMap { headers: vec![raw("x", "", b"\xff")] })),
            "request_invalid",
        ),
        (
            "raw header that is two",
            edited(|a| http(a).header_map = Some(core::HeaderMap { headers: vec![raw("x", "a", b"b")] })),
            "request_invalid",
        ),
    ] {
        let (answer, line) = world.ask(request).await;
        assert_eq!((read(&answer).0, line["reason"].as_str()), (403, Some(reason)), "{name}: {line}");
    }
    // Raw headers are as good as joined ones.
    let raw_key = raw("X-Api-Key", "", text(1).as_bytes());
    let request = edited(|a| {
        http(a).headers.clear();
        http(a).header_map = Some(core::HeaderMap { headers: vec![raw_key] });
    });
    let (answer, line) = world.ask(request).await;
    assert_eq!(read(&answer).0, 200, "{line}");
    // What is larger than any request is not even read; to Envoy that is an error, and it denies.
    let large = check(&[("x", &"x".repeat(200 * 1024))]);
    assert_eq!(world.client.check(large).await.unwrap_err().code(), tonic::Code::OutOfRange);
}

#[tokio::test]
async fn a_key_of_another_environment_does_not_open_the_mesh() {
    let mut world = World::new().await;
    let (answer, line) = world.ask(check(&[("x-api-key", production_key().text().expose())])).await;
    assert_eq!((read(&answer).0, line["reason"].as_str()), (401, Some("api_key_environment")), "{line}");
}

#[tokio::test]
async fn envoy_s_configuration_names_the_workload() {
    let mut world = World::with(Arc::new(Down), None).await;
    let named = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(n, v)| pair(n, v)).collect();
        edited(|a| {
            http(a).path = "/open".to_owned();
            http(a).headers.clear();
            a.context_extensions = pairs;
        })
    };
    for (extensions, status, reason) in [
        (&[("namespace", "bookinfo"), ("labels", "app=ratings,version=v1")][..], 200, "allowed_by_policy"),
        (&[("namespace", "bookinfo"), ("labels", "app=closed")], 403, "no_credential"),
        (&[("namespace", "bookinfo"), ("labels", "app=else")], 200, "allowed_no_policy"),
        (&[("namespace", "bookinfo")], 403, "configuration_invalid"),
        (&[("labels", "app=ratings")], 403, "configuration_invalid"),
        (&[("namespace", ""), ("labels", "app=ratings")], 403, "configuration_invalid"),
        (&[("namespace", "bookinfo"), ("labels", "app")], 403, "configuration_invalid"),
        (&[("namespace", "bookinfo"), ("labels", "app=ratings"), ("version", "v1")], 403, "configuration_invalid"),
        (&[], 403, "configuration_invalid"),
    ] {
        let (answer, line) = world.ask(named(extensions)).await;
        assert_eq!((read(&answer).0, line["reason"].as_str()), (status, Some(reason)), "{extensions:?}: {line}");
    }
}

#[tokio::test]
async fn a_store_that_is_down_denies() {
    let mut world = World::with(Arc::new(Down), workload("ratings")).await;
    let (answer, line) = world.ask(check(&[("x-api-key", &text(1))])).await;
    assert_eq!((read(&answer).0, line["reason"].as_str()), (401, Some("api_key_unavailable")));
}

#[tokio::test]
async fn a_panic_is_the_denial_of_one_request() {
    let mut world = World::with(Arc::new(Broken), workload("ratings")).await;
    let (answer, line) = world.ask(check(&[("x-api-key", &text(1))])).await;
    assert_eq!((read(&answer).0, line["reason"].as_str()), (403, Some("internal")));
    let token = format!("Bearer {}", world.issuer.token(&reader()));
    let (answer, line) = world.ask(check(&[("authorization", &token)])).await;
    assert_eq!(read(&answer).0, 200, "{line}");
}

#[tokio::test]
async fn health_is_served_and_a_shutdown_ends() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    let mut world = World::new().await;
    let channel = Channel::from_shared(format!("http://{}", world.address)).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(channel);
    let service = "envoy.service.auth.v3.Authorization".to_owned();
    let status = health.check(HealthCheckRequest { service }).await.unwrap().into_inner().status;
    assert_eq!(status, 1, "SERVING");
    world.stop.take().unwrap().send(()).unwrap();
    world.served.await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(world.address).await.is_err());
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let issuer = Issuer::new();
    let text = POLICIES.replace("JWKS", &issuer.jwks());
    let resources = istio::parse(&[istio::SourceFile { name: "policies.yaml".to_owned(), text }]).unwrap();
    let policies = Policies::open(&authz::compile(&resources, &CompileOptions::default()).unwrap().section).unwrap();
    let clock = Arc::new(FixedClock::at(NOW));
    let deps = Deps {
        api_keys: None,
        jwks: Arc::new(JwksSource::new(clock.clone())),
        revocations: Default::default(),
        rate_limits: None,
        clock,
        log: Log::memory().0,
    };
    let error = Adapter::new(Place::default(), policies, deps).unwrap().listen(address).unwrap_err();
    assert_eq!(error.exit_code(), 64);
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert!(error.to_string().contains("CAUSEWAY_ADAPTER_ADDRESS"), "{error}");
}

/// A store that does not answer.
struct Down;

impl ApiKeys for Down {
    fn get<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<ApiKeyRecord>, StoreError>> {
        Box::pin(async { Err(StoreError::Unavailable { store: "keys".to_owned(), why: "down".to_owned() }) })
    }

    fn put<'a>(&'a self, _: &'a ApiKeyRecord) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

/// A store with a bug.
struct Broken;

impl ApiKeys for Broken {
    fn get<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<ApiKeyRecord>, StoreError>> {
        Box::pin(async { panic!("a bug") })
    }

    fn put<'a>(&'a self, _: &'a ApiKeyRecord) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}
