//! REST, WebSocket and mTLS events: what is read out of them, and how they are answered.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod support;

use std::sync::Arc;

use authorizer::Config;
use authorizer::event::{Event, Reading};
use authz::{CompileOptions, KeyState};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use platform::store::{self, ApiKeys};
use serde_json::{Value, json};
use support::issuer::{ISSUER, Issuer, NOW, reader, with};
use support::{Down, KINDS, World, api_key, fixture, record, with_header, with_token};

const SPIFFE: &str = "cluster.local/ns/bookinfo/sa/bookinfo-reviews";

fn arn(event: &Value) -> String {
    event["methodArn"].as_str().unwrap().to_owned()
}

fn statement(effect: &str, arn: &str) -> Value {
    json!([{"Action": "execute-api:Invoke", "Effect": effect, "Resource": arn}])
}

fn parsed(event: &Value) -> Event {
    let policies = support::policies(&Issuer::new());
    Event::parse(&event.to_string(), &Reading::new(&policies, NOW)).unwrap()
}

/// The policies of the fixtures, and more.
fn world_with(more: &str) -> World {
    let issuer = Issuer::new();
    let text = include_str!("../../tests/fixtures/events/policies.yaml").replace("JWKS", &issuer.jwks());
    let policies = support::compiled(&format!("{text}\n---\n{more}"), &CompileOptions::default());
    World::over(policies, issuer, None, |config| config)
}

fn gateway_policy(action: &str, rule: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{ name: more, namespace: istio-system }}\nspec:\n  \
         selector: {{ matchLabels: {{ istio: ingressgateway }} }}\n  action: {action}\n  rules:\n    - {rule}\n"
    )
}

#[tokio::test]
async fn every_kind_is_let_in_with_a_good_token_and_not_without() {
    let world = World::with(Arc::new(Down), |config| config);
    for name in KINDS {
        let (answer, line) = world.ask(&with_token(fixture(name), &world.issuer.token(&reader()))).await;
        assert_eq!(line["reason"], "allowed_by_policy", "{name}: {line}");
        let answer = answer.unwrap();
        if name.starts_with("http-2.0") {
            assert_eq!(answer["isAuthorized"], true, "{name}");
        } else {
            let arn = arn(&fixture(name));
            assert_eq!(answer["policyDocument"]["Version"], "2012-10-17");
            assert_eq!(answer["policyDocument"]["Statement"], statement("Allow", &arn), "{name}");
            assert_eq!(answer["principalId"], format!("{ISSUER}/client:reader"), "{name}");
            // REST and WebSocket APIs take no other types, and `claims` is API Gateway's own.
            let context = answer["context"].as_object().unwrap();
            assert!(context.values().all(Value::is_string) && !context.contains_key("claims"), "{name}");
            assert_eq!(answer.get("usageIdentifierKey"), None, "{name}: absent, not null");
        }
        let (answer, line) = world.ask(&with_token(fixture(name), "x.y.z")).await;
        assert_eq!((answer, line["status"].as_u64()), (None, Some(401)), "{name}: {line}");
        let denied = with(reader(), "scope", json!(""));
        let (answer, _) = world.ask(&with_token(fixture(name), &world.issuer.token(&denied))).await;
        let answer = answer.unwrap();
        match answer.get("isAuthorized") {
            Some(authorized) => assert_eq!(*authorized, false, "{name}"),
            None => assert_eq!(answer["policyDocument"]["Statement"], statement("Deny", &arn(&fixture(name)))),
        }
    }
}

#[test]
fn a_rest_request_is_read_whole() {
    let Event { request, target, .. } = parsed(&fixture("rest-request"));
    assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/reviews/0?lang=de&lang=en"));
    assert_eq!((request.host.as_str(), request.headers_joined), ("rest.bookinfo.example", false));
    let teams: Vec<_> = request.header_lines("x-team").collect();
    assert_eq!(teams, ["a", "b"]);
    assert_eq!(request.source.remote_ip, Some("203.0.113.7".parse().unwrap()));
    assert_eq!(request.unknown, authz::Unknown::default());
    let expected = authz::Target::ApiGateway {
        api_id: "bookinfor1".to_owned(),
        stage: "prod".to_owned(),
        domain: "rest.bookinfo.example".to_owned(),
    };
    assert_eq!(target, expected);
}

#[tokio::test]
async fn rest_paths_are_judged_as_they_were_sent() {
    let world = World::with(Arc::new(Down), |config| config);
    let at = |path: &str, context: &str, routed: &str, id: &str| {
        let mut event = with_token(fixture("rest-request"), &world.issuer.token(&reader()));
        event["path"] = path.into();
        event["requestContext"]["path"] = context.into();
        event["methodArn"] =
            format!("arn:aws:execute-api:eu-central-1:123456789012:bookinfor1/prod/GET{routed}").into();
        event["pathParameters"]["id"] = id.into();
        event
    };
    // The same path in every field of the event.
    let same = |path: &str| {
        let mut event = at(path, path, path, "");
        event["resource"] = "/{id+}".into();
        event["pathParameters"]["id"] = path[1..].into();
        event
    };
    assert_eq!(world.ask(&same("/reviews/0")).await.1["reason"], "allowed_by_policy");
    for (event, judged) in [
        // With the base path of the custom domain, and without; with the stage in the context.
        (at("/shop/reviews/0", "/shop/reviews/0", "/reviews/0", "0"), "/reviews/0"),
        (at("/reviews/0", "/prod/reviews/0", "/reviews/0", "0"), "/reviews/0"),
        (at("/reviews/0", "/reviews/0", "/reviews/0", "0"), "/reviews/0"),
        // Encoded stays encoded, whether the other forms are decoded or not.
        (at("/shop/reviews/a%20b", "/shop/reviews/a%20b", "/reviews/a%20b", "a b"), "/reviews/a%20b"),
        (at("/shop/reviews/%C3%A9", "/shop/reviews/%C3%A9", "/reviews/é", "é"), "/reviews/%C3%A9"),
        (at("/shop/reviews/a%3Ab", "/shop/reviews/a%3Ab", "/reviews/a%3Ab", "a%3Ab"), "/reviews/a%3Ab"),
    ] {
        let (answer, line) = world.ask(&event).await;
        assert_eq!(
            (line["path"].as_str(), line["reason"].as_str()),
            (Some(judged), Some("allowed_by_policy")),
            "{line}"
        );
        assert_eq!(answer.unwrap()["policyDocument"]["Statement"], statement("Allow", &arn(&event)));
    }
    for event in [
        at("/shop/reviews/0", "/shop/reviews/0", "/reviews/1", "0"),
        at("/shop/reviews/0", "/shop/reviews/1", "/reviews/0", "0"),
        at("/shop/reviews/0", "/shop/reviews/0", "/reviews/0", "1"),
        at("/other/reviews/0", "/other/reviews/0", "/reviews/0", "0"),
        // The backend could get another path than the one that is judged.
        at("/shop/reviews/a%2Fb", "/shop/reviews/a%2Fb", "/reviews/a/b", "a/b"),
        at("/shop/reviews/0/", "/shop/reviews/0/", "/reviews/0", "0"),
        at("/shop/reviews/%2e%2e", "/shop/reviews/%2e%2e", "/reviews/%2e%2e", "%2e%2e"),
        at("/shop/reviews/a;b/../c", "/shop/reviews/a;b/../c", "/reviews/a;b/../c", "a;b/../c"),
        at("/shop/reviews/%41", "/shop/reviews/%41", "/reviews/A", "A"),
        // All forms agree, and the backend could still read another path in it.
        same("/a%2Fb"),
        same("/x%2f..%2Fadmin"),
        same("/x%5C..%5Cadmin"),
        same("/x\\admin"),
        same("//admin"),
        same("/a//b"),
        same("/admin;x"),
        same("/admin%3Bx"),
        same("/x/..;/admin"),
        same("/x/%2e%2e;/admin"),
        same("/admin%00"),
        same("/admin%0a"),
        same("/admin%7F"),
        same("/admin%23x"),
        same("/admin%3Fx"),
        same("/admin%253Fx"),
        same("/admin%"),
        same("/admin%zz"),
        same("/admin%C0%AF"),
    ] {
        let (answer, line) = world.ask(&event).await;
        assert_eq!(line["reason"], "path_not_canonical", "{line}");
        assert_eq!(answer.unwrap()["policyDocument"]["Statement"][0]["Effect"], "Deny");
    }
    // Nothing is taken off without the document that has the base path, and what is left looks like another path.
    let detail = |line: &Value| line["detail"].as_str().unwrap_or_default().to_owned();
    let (_, line) = world.ask(&at("/other/reviews/0", "/other/reviews/0", "/reviews/0", "0")).await;
    let expected = "path and methodArn differ (the ApiGateway bookinfo/rest has the basePath /shop)";
    assert_eq!(detail(&line), expected, "{line}");
    let mut unknown = at("/shop/reviews/0", "/shop/reviews/0", "/reviews/0", "0");
    unknown["requestContext"]["apiId"] = "other".into();
    unknown["requestContext"]["domainName"] = "other.example".into();
    unknown["methodArn"] = arn(&unknown).replace("bookinfor1", "other").into();
    let (answer, line) = world.ask(&unknown).await;
    assert_eq!(line["reason"], "gateway_unknown", "{line}");
    assert!(detail(&line).ends_with("none names this apiId or has this domain"), "{line}");
    assert_eq!(answer.unwrap()["policyDocument"]["Statement"][0]["Effect"], "Deny");
}

/// In a policy these are patterns, and a cached policy would open other paths.
#[tokio::test]
async fn a_pattern_in_the_path_never_reaches_a_policy() {
    let world = World::with(Arc::new(Down), |config| config);
    for id in ["*", "%2A*", "a?", "${aws:username}"] {
        for name in ["rest-request", "rest-token"] {
            let mut event = with_token(fixture(name), &world.issuer.token(&reader()));
            event["methodArn"] =
                format!("arn:aws:execute-api:eu-central-1:123456789012:bookinfor1/prod/GET/reviews/{id}").into();
            if name == "rest-request" {
                event["path"] = format!("/reviews/{id}").into();
                event["requestContext"]["path"] = format!("/reviews/{id}").into();
                event["pathParameters"]["id"] = id.into();
            }
            let (answer, line) = world.ask(&event).await;
            assert_eq!(line["allowed"], false, "{line}");
            let statement = &answer.unwrap()["policyDocument"]["Statement"];
            assert_eq!((statement[0]["Effect"].as_str(), statement.as_array().unwrap().len()), (Some("Deny"), 1));
        }
    }
}

#[tokio::test]
async fn an_arn_has_limits_and_belongs_to_its_request() {
    let world = World::with(Arc::new(Down), |config| config);
    let good = || with_token(fixture("rest-request"), &world.issuer.token(&reader()));
    let prefix = "arn:aws:execute-api:eu-central-1:123456789012:";
    let mut long = good();
    let id = "x".repeat(512 - prefix.len() - "bookinfor1/prod/GET/reviews/".len());
    let set = |event: &mut Value, id: &str| {
        event["path"] = format!("/reviews/{id}").into();
        event["requestContext"]["path"] = format!("/prod/reviews/{id}").into();
        event["pathParameters"]["id"] = id.into();
        event["methodArn"] = format!("{prefix}bookinfor1/prod/GET/reviews/{id}").into();
    };
    set(&mut long, &id);
    let (_, line) = world.ask(&long).await;
    assert_eq!(line["allowed"], true, "{line}");
    set(&mut long, &format!("{id}x"));
    let (_, line) = world.ask(&long).await;
    assert_eq!(line["reason"], "request_too_large", "{line}");
    for wrong in [
        "bookinfor2/prod/GET/reviews/0",
        "bookinfor1/dev/GET/reviews/0",
        "bookinfor1/prod/POST/reviews/0",
        "bookinfor1/prod",
        "bookinfor1/prod/GET",
        "",
    ] {
        let mut event = good();
        event["methodArn"] = format!("{prefix}{wrong}").into();
        let (_, line) = world.ask(&event).await;
        assert_eq!(line["reason"], "request_invalid", "{wrong}: {line}");
    }
}

#[tokio::test]
async fn a_token_event_knows_no_host_no_header_and_no_address() {
    let unknown = authz::Unknown { host: true, headers: true, principal: true };
    let request = parsed(&fixture("rest-token")).request;
    assert_eq!((request.unknown, request.source.remote_ip, request.path.as_str()), (unknown, None, "/reviews/0"));
    // Matching conditions, whatever they are about: an ALLOW rule dies of them, a DENY rule keeps the rest.
    for condition in [
        "to: [{operation: {hosts: ['*'], paths: ['/reviews/*']}}]",
        "when: [{key: 'request.headers[x]', notValues: [v]}]",
        "when: [{key: remote.ip, values: [0.0.0.0/0]}]",
        "from: [{source: {remoteIpBlocks: [0.0.0.0/0]}}]",
        "from: [{source: {notPrincipals: [cluster.local/ns/a/sa/b]}}]",
    ] {
        let world = world_with(&gateway_policy("ALLOW", condition));
        let token = world.issuer.token(&reader());
        let (_, line) = world.ask(&with_token(fixture("rest-token"), &token)).await;
        assert_eq!(line["reason"], "denied_no_match", "{condition}: {line}");
        let (_, line) = world.ask(&with_token(fixture("rest-request"), &token)).await;
        assert_eq!(line["reason"], "allowed_by_policy", "{condition}: {line}");
    }
    for condition in [
        "to: [{operation: {hosts: [else.example]}}]",
        "when: [{key: 'request.headers[x]', values: [v]}]",
        "from: [{source: {remoteIpBlocks: [192.0.2.0/24]}}]",
        // The client may have shown the certificate that is denied: the event would not say so.
        "from: [{source: {principals: [cluster.local/ns/bookinfo/sa/bookinfo-reviews]}}]",
    ] {
        let world = world_with(&gateway_policy("DENY", condition));
        let token = world.issuer.token(&reader());
        let (_, line) = world.ask(&with_token(fixture("rest-token"), &token)).await;
        assert_eq!(line["reason"], "denied_by_policy", "{condition}: {line}");
        let (_, line) = world.ask(&with_token(fixture("rest-request"), &token)).await;
        assert_eq!(line["reason"], "allowed_by_policy", "{condition}: {line}");
    }
}

/// AWS documents format 1.0 without `multiValueHeaders`: of a header that comes twice the last line is all there is.
#[tokio::test]
async fn a_header_that_may_have_been_written_twice_is_not_believed() {
    let event = |world: &World, complete: bool| {
        let mut event = with_token(fixture("http-1.0"), &world.issuer.token(&reader()));
        event["headers"]["X-Role"] = "reader".into();
        event["multiValueHeaders"]["X-Role"] = json!(["banned", "reader"]);
        if !complete {
            let event = event.as_object_mut().unwrap();
            event.remove("multiValueHeaders");
            event.remove("multiValueQueryStringParameters");
        }
        event
    };
    for (action, values, complete, reason) in [
        ("DENY", "banned", true, "denied_by_policy"),
        ("DENY", "banned", false, "denied_by_policy"),
        ("DENY", "else", true, "allowed_by_policy"),
        ("DENY", "else", false, "denied_by_policy"),
        ("ALLOW", "reader", true, "allowed_by_policy"),
        ("ALLOW", "reader", false, "denied_no_match"),
    ] {
        let condition = format!("when: [{{key: 'request.headers[x-role]', values: [{values}]}}]");
        let world = world_with(&gateway_policy(action, &condition));
        let (_, line) = world.ask(&event(&world, complete)).await;
        assert_eq!(line["reason"], reason, "{action} {values} {complete}: {line}");
    }
    // Without such a condition nothing changes.
    let world = World::with(Arc::new(Down), |config| config);
    let (_, line) = world.ask(&event(&world, false)).await;
    assert_eq!(line["reason"], "allowed_by_policy", "{line}");
}

/// `tls.mode: MUTUAL`: Istio's gateway lets no client in that shows no certificate.
#[tokio::test]
async fn a_gateway_with_mutual_tls_asks_every_client_for_a_certificate() {
    let issuer = Issuer::new();
    let text = include_str!("../../tests/fixtures/events/policies.yaml").replace("JWKS", &issuer.jwks());
    let policies = support::compiled(&text.replace("mode: SIMPLE", "mode: MUTUAL"), &CompileOptions::default());
    let world = World::over(policies, issuer, None, |config| config);
    let token = world.issuer.token(&reader());
    for name in ["http-2.0-mtls", "rest-request-mtls"] {
        let (_, line) = world.ask(&with_token(fixture(name), &token)).await;
        assert_eq!(line["reason"], "allowed_by_policy", "{name}: {line}");
    }
    for name in KINDS.iter().filter(|name| !name.ends_with("mtls")) {
        let (answer, line) = world.ask(&with_token(fixture(name), &token)).await;
        assert_eq!((line["reason"].as_str(), line["allowed"].as_bool()), (Some("configuration_invalid"), Some(false)));
        assert!(line["detail"].as_str().unwrap().contains("domain with mutual TLS"), "{name}: {line}");
        assert!(answer.unwrap().to_string().contains(if name.starts_with("http-2") { "false" } else { "Deny" }));
    }
}

#[tokio::test]
async fn usage_plans_are_told_of_a_proven_key_only() {
    let records = store::Embedded::in_memory();
    ApiKeys::put(&records, &record(&api_key("dev", 1))).await.unwrap();
    let mut revoked = record(&api_key("dev", 2));
    revoked.state = KeyState::Revoked;
    ApiKeys::put(&records, &revoked).await.unwrap();
    let world = World::with(Arc::new(records), |config| Config { token_header: "x-api-key".to_owned(), ..config });
    let text = |seed| api_key("dev", seed).text().expose().clone();
    let pepper = identity::Secret::new(support::PEPPER.as_bytes().to_vec());
    let expected = authz::api_key::usage_plan_key("dev", api_key("dev", 1).id(), &pepper);
    let mut token_event = fixture("rest-token");
    token_event["authorizationToken"] = text(1).into();
    for (event, told) in [
        (with_header(fixture("rest-request"), "X-Api-Key", &text(1)), true),
        (token_event, true),
        // No usage plans at these.
        (with_header(fixture("http-1.0"), "X-Api-Key", &text(1)), false),
        (with_header(fixture("websocket-connect"), "X-Api-Key", &text(1)), false),
    ] {
        let (answer, line) = world.ask(&event).await;
        assert_eq!(line["allowed"], true, "{line}");
        let answer = answer.unwrap();
        assert_eq!(answer.get("usageIdentifierKey"), told.then(|| json!(expected)).as_ref());
        assert!(!answer.to_string().contains(&text(1)));
    }
    for event in [
        with_header(fixture("rest-request"), "X-Api-Key", &text(2)),
        with_header(fixture("rest-request"), "X-Api-Key", &text(3)),
    ] {
        assert_eq!(world.ask(&event).await.0, None);
    }
}

#[tokio::test]
async fn a_websocket_api_asks_about_new_connections_only() {
    let world = World::with(Arc::new(Down), |config| config);
    let good = || with_token(fixture("websocket-connect"), &world.issuer.token(&reader()));
    let Event { request, .. } = parsed(&good());
    assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/?lang=en"));
    for (pointer, value) in [
        ("/requestContext/eventType", json!("MESSAGE")),
        ("/requestContext/eventType", Value::Null),
        ("/requestContext/routeKey", json!("$default")),
        ("/requestContext/routeKey", json!("send")),
        ("/methodArn", json!("arn:aws:execute-api:eu-central-1:123456789012:bookinfow1/live/$default")),
        ("/methodArn", json!("arn:aws:execute-api:eu-central-1:123456789012:bookinfow1/live/GET/$connect")),
        ("/methodArn", json!("arn:aws:execute-api:eu-central-1:123456789012:bookinfow1/test/$connect")),
        ("/requestContext/stage", json!("test")),
    ] {
        let mut event = good();
        *event.pointer_mut(pointer).unwrap() = value.clone();
        let (answer, line) = world.ask(&event).await;
        assert_eq!(line["reason"], "request_invalid", "{pointer} {value}: {line}");
        assert_eq!(answer.unwrap()["policyDocument"]["Statement"][0]["Effect"], "Deny");
    }
    let mut odd = good();
    odd["path"] = "/public".into();
    assert_eq!(world.ask(&odd).await.1["reason"], "request_invalid");
}

#[tokio::test]
async fn an_answer_to_a_websocket_api_stays_below_its_limit() {
    let world = World::with(Arc::new(Down), |config| config);
    for (length, allowed) in [(100, true), (1_400, false)] {
        // In JSON each of these takes two bytes.
        let long = "\"".repeat(length);
        let claims = with(with(reader(), "client_id", json!(long)), "sub", json!(long));
        let token = world.issuer.token(&claims);
        let (answer, line) = world.ask(&with_token(fixture("websocket-connect"), &token)).await;
        assert_eq!((line["allowed"].as_bool(), answer.is_some()), (Some(allowed), allowed), "{line}");
        assert!(answer.is_none_or(|answer| answer.to_string().len() <= 8_000));
        // A REST API takes more.
        let (answer, line) = world.ask(&with_token(fixture("rest-request"), &token)).await;
        assert!(answer.is_some() && line["allowed"] == true, "{line}");
    }
}

#[test]
fn a_client_certificate_is_the_peer() {
    for name in ["http-2.0-mtls", "rest-request-mtls"] {
        let request = parsed(&fixture(name)).request;
        assert_eq!(request.source.principal.as_deref(), Some(SPIFFE), "{name}");
        assert!(request.client_certificate.is_some() && !request.unknown.principal, "{name}");
    }
    let one = parsed(&with_certificate("http-1.0", |_| ())).request;
    assert_eq!(one.source.principal.as_deref(), Some(SPIFFE));
}

/// Changes a certificate.
type Change = fn(&mut Value);

/// `name` with the certificate of the mTLS example, changed.
fn with_certificate(name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut event = fixture(name);
    let mut certificate = fixture("http-2.0-mtls")["requestContext"]["authentication"]["clientCert"].clone();
    change(&mut certificate);
    match event["version"].as_str() {
        Some("2.0") => event["requestContext"]["authentication"] = json!({"clientCert": certificate}),
        _ => event["requestContext"]["identity"]["clientCert"] = certificate,
    }
    event
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_not_plaintext() {
    let world = World::with(Arc::new(Down), |config| config);
    let token = world.issuer.token(&reader());
    for name in ["http-1.0", "http-2.0", "rest-request", "websocket-connect"] {
        let cases: [(&str, Change); 5] = [
            ("no PEM", |certificate| *certificate = json!({})),
            ("not PEM", |certificate| certificate["clientCertPem"] = "CERT_CONTENT".into()),
            ("PEM of nothing", |certificate| {
                certificate["clientCertPem"] = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----".into();
            }),
            ("two", |certificate| {
                let pem = certificate["clientCertPem"].as_str().unwrap().repeat(2);
                certificate["clientCertPem"] = pem.into();
            }),
            ("large", |certificate| {
                let pem = certificate["clientCertPem"].as_str().unwrap().to_owned() + &"\n".repeat(20_000);
                certificate["clientCertPem"] = pem.into();
            }),
        ];
        for (what, change) in cases {
            let (_, line) = world.ask(&with_token(with_certificate(name, change), &token)).await;
            assert_eq!(line["reason"], "request_invalid", "{name} {what}: {line}");
            assert!(line["detail"].as_str().unwrap().contains("client"), "{line}");
        }
    }
}

#[tokio::test]
async fn policies_see_the_peer_at_the_first_hop() {
    let token = |world: &World| world.issuer.token(&reader());
    for (action, source, mtls, plain) in [
        ("ALLOW", "principals: ['cluster.local/ns/bookinfo/sa/bookinfo-reviews']", true, false),
        ("ALLOW", "namespaces: [bookinfo]", true, false),
        // Of another trust domain: it is what it says, and no peer of this one.
        ("ALLOW", "principals: ['other.example/ns/bookinfo/sa/bookinfo-reviews']", false, false),
        ("ALLOW", "trustDomains: [other.example]", false, false),
        ("DENY", "principals: ['*']", false, true),
        ("DENY", "notPrincipals: ['*']", true, false),
    ] {
        let world = world_with(&gateway_policy(action, &format!("from: [{{source: {{{source}}}}}]")));
        for (name, allowed) in [("http-2.0-mtls", mtls), ("rest-request-mtls", mtls), ("rest-request", plain)] {
            let (_, line) = world.ask(&with_token(fixture(name), &token(&world))).await;
            assert_eq!(line["allowed"], allowed, "{action} {source} {name}: {line}");
        }
    }
    // A peer is a credential: without a token it is no stranger.
    let world = World::with(Arc::new(Down), |config| config);
    let (answer, line) = world.ask(&fixture("rest-request-mtls")).await;
    assert_eq!((answer.is_some(), line["reason"].as_str()), (true, Some("denied_no_match")), "{line}");
}

#[tokio::test]
async fn a_bound_token_needs_the_certificate_that_it_names() {
    let world = World::with(Arc::new(Down), |config| config);
    let hash = parsed(&fixture("http-2.0-mtls")).request.client_certificate.unwrap();
    let bound = |hash: [u8; 32]| with(reader(), "cnf", json!({"x5t#S256": URL_SAFE_NO_PAD.encode(hash)}));
    for (name, claims, allowed) in [
        ("http-2.0-mtls", bound(hash), true),
        ("rest-request-mtls", bound(hash), true),
        ("http-2.0-mtls", bound([7; 32]), false),
        ("http-2.0", bound(hash), false),
        ("rest-token", bound(hash), false),
        ("http-2.0-mtls", with(reader(), "cnf", json!({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"})), false),
    ] {
        let (answer, line) = world.ask(&with_token(fixture(name), &world.issuer.token(&claims))).await;
        let reason = if allowed { "allowed_by_policy" } else { "token_binding" };
        assert_eq!((line["reason"].as_str(), answer.is_some()), (Some(reason), allowed), "{name} {claims}: {line}");
    }
}
