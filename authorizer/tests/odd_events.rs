//! Events that API Gateway does not send, or not to us: each is denied in a form that API Gateway understands, and none
//! is a crash or an allow.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod support;

use std::sync::Arc;

use authorizer::Config;
use authorizer::event::ResponseKind;
use proptest::prelude::*;
use serde_json::{Value, json};
use support::issuer::reader;
use support::{Down, World, fixture, with_header};

fn good(world: &World) -> Value {
    with_header(fixture("http-2.0"), "authorization", &format!("Bearer {}", world.issuer.token(&reader())))
}

/// Whether an answer lets anybody in; the error `Unauthorized` does not.
fn allows(answer: Option<&Value>) -> bool {
    answer.is_some_and(|answer| {
        answer["isAuthorized"] == true || answer["policyDocument"]["Statement"].to_string().contains("Allow")
    })
}

/// `event` without the member at `pointer`.
fn without(mut event: Value, pointer: &str) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    event.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name).unwrap();
    event
}

/// `event` with another value, or a new one, at `pointer`.
fn changed(mut event: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    event.pointer_mut(parent).unwrap()[name] = value;
    event
}

#[tokio::test]
async fn the_event_that_the_others_are_made_of_is_good() {
    let world = World::with(Arc::new(Down), |config| config);
    let (answer, _) = world.ask(&good(&world)).await;
    assert!(allows(answer.as_ref()));
}

#[tokio::test]
async fn events_that_ask_for_nothing_are_refused() {
    let world = World::with(Arc::new(Down), |config| config);
    let queue = json!({"Records": [{"messageId": "1", "body": "Bearer x", "eventSource": "aws:sqs"}]});
    let balancer = json!({
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:eu-central-1:1:targetgroup/a/b"}},
        "httpMethod": "GET", "path": "/reviews/0", "headers": {"host": "a"}, "body": "", "isBase64Encoded": false,
    });
    let integration = without(without(fixture("rest-request"), "/type"), "/methodArn");
    let function_url = without(without(good(&world), "/type"), "/routeArn");
    for (event, named, policy) in [
        (queue, "no type of REQUEST or TOKEN", false),
        (balancer, "no type of REQUEST or TOKEN", false),
        (integration, "no type of REQUEST or TOKEN", false),
        (function_url, "the event of an integration", false),
        (changed(good(&world), "/version", json!("3.0")), "version is neither 1.0 nor 2.0", false),
        (changed(good(&world), "/type", json!("TOKEN")), "the event of an integration", false),
        (changed(fixture("rest-request"), "/type", json!("COGNITO")), "no type of REQUEST or TOKEN", true),
        (changed(fixture("rest-request"), "/version", json!("1.1")), "version is neither 1.0 nor 2.0", true),
    ] {
        let (answer, line) = world.ask(&event).await;
        assert_eq!(line["reason"], "request_invalid", "{line}");
        assert!(line["detail"].as_str().unwrap().contains(named), "{line}");
        let answer = answer.unwrap();
        assert!(!allows(Some(&answer)), "{named}");
        // API Gateway reads a policy from a REST, a WebSocket and a 1.0 authorizer.
        assert_eq!(answer.get("policyDocument").is_some(), policy, "{named}");
        assert_eq!(answer.get("isAuthorized").is_some(), !policy, "{named}");
    }
}

#[tokio::test]
async fn odd_events_are_denied() {
    let world = World::with(Arc::new(Down), |config| config);
    let headers = |count: usize| -> Value {
        (0..count).map(|i| (format!("h{i}"), json!("x"))).collect::<serde_json::Map<_, _>>().into()
    };
    let good = good(&world);
    let set = |pointer: &str, value: Value| changed(good.clone(), pointer, value);
    for (name, event, reason) in [
        ("null", Value::Null, "request_invalid"),
        ("a list", json!([good.clone()]), "request_invalid"),
        ("a text", json!("event"), "request_invalid"),
        ("a number", json!(1), "request_invalid"),
        ("empty", json!({}), "request_invalid"),
        ("no path", without(good.clone(), "/rawPath"), "request_invalid"),
        ("empty path", set("/rawPath", json!("")), "request_invalid"),
        ("no method", without(good.clone(), "/requestContext/http/method"), "request_invalid"),
        ("method with a space", set("/requestContext/http/method", json!("GET /")), "request_invalid"),
        ("no context", without(good.clone(), "/requestContext"), "request_invalid"),
        ("no api", without(good.clone(), "/requestContext/apiId"), "request_invalid"),
        ("no stage", without(good.clone(), "/requestContext/stage"), "request_invalid"),
        ("no domain", without(good.clone(), "/requestContext/domainName"), "request_invalid"),
        ("no arn", without(good.clone(), "/routeArn"), "request_invalid"),
        ("header is a number", set("/headers/x", json!(1)), "request_invalid"),
        ("header is null", set("/headers/x", Value::Null), "request_invalid"),
        ("header is a list", set("/headers/authorization", json!(["Bearer x"])), "request_invalid"),
        ("headers are a list", set("/headers", json!([])), "request_invalid"),
        ("header name with a space", set("/headers/a b", json!("x")), "request_invalid"),
        ("header value with a line break", set("/headers/x", json!("a\r\nb: c")), "request_invalid"),
        ("path is an object", set("/rawPath", json!({})), "request_invalid"),
        ("version is a number", set("/version", json!(2.0)), "request_invalid"),
        ("source is a name", set("/requestContext/http/sourceIp", json!("localhost")), "request_invalid"),
        ("cookies are a text", set("/cookies", json!("a=b")), "request_invalid"),
        ("parameters are a list", set("/pathParameters", json!([1])), "request_invalid"),
        ("a large header", set("/headers/x", json!("x".repeat(64 * 1024))), "request_too_large"),
        ("a long path", set("/rawPath", json!(format!("/{}", "x".repeat(20_000)))), "request_too_large"),
        ("a long query", set("/rawQueryString", json!("x".repeat(20_000))), "request_too_large"),
        ("a large event", set("/stageVariables", json!({"x": "x".repeat(300 * 1024)})), "request_too_large"),
        ("too many headers", set("/headers", headers(1_000)), "request_invalid"),
        ("one header too many", set("/headers", headers(101)), "request_too_large"),
    ] {
        let (answer, line) = world.ask(&event).await;
        assert!(!allows(answer.as_ref()), "{name}");
        assert_eq!(line["reason"], reason, "{name}: {line}");
        assert_eq!(line["allowed"], false, "{name}");
    }
    // As many headers as are allowed are no reason to refuse.
    let mut full = headers(99);
    full["authorization"] = good["headers"]["authorization"].clone();
    let (answer, line) = world.ask(&set("/headers", full)).await;
    assert!(allows(answer.as_ref()), "{line}");
}

#[tokio::test]
async fn text_that_is_not_json_or_has_a_member_twice_is_denied() {
    let world = World::with(Arc::new(Down), |config| config);
    let good = good(&world).to_string();
    let twice = good.replacen("\"version\":\"2.0\"", "\"version\":\"2.0\",\"version\":\"2.0\"", 1);
    let header_twice = good.replacen("\"headers\":{", "\"headers\":{\"authorization\":\"Bearer x\",", 1);
    assert!(twice != good && header_twice != good);
    let cut = &good[..good.len() / 2];
    for text in ["", "{", "\u{0}", cut, &format!("{good} {good}"), &twice, &header_twice] {
        let answer = world.authorizer.authorize(text).await.map(|answer| serde_json::to_value(answer).unwrap()).ok();
        assert!(!allows(answer.as_ref()), "{text:.40}");
        let line = world.decision();
        assert_eq!(line["reason"], "request_invalid");
        // The parser's own words could quote the text, and the text has a credential.
        assert!(!line.to_string().contains("Bearer"), "{line}");
    }
}

#[tokio::test]
async fn headers_and_query_arrive_as_the_client_sent_them() {
    use authorizer::event::{Event, Reading};
    let policies = support::policies(&support::issuer::Issuer::new());
    let reading = Reading::new(&policies, support::issuer::NOW);
    let parse = |event: &Value| Event::parse(&event.to_string(), &reading).unwrap();
    let line = |name: &str, value: &str| (name.to_owned(), value.to_owned());

    let one = parse(&fixture("http-1.0")).request;
    assert_eq!(one.path, "/reviews/0?lang=de&lang=en&q=two%20words");
    assert!(!one.headers_joined, "format 1.0 lists every line");
    assert!(one.headers.contains(&line("x-team", "a")) && one.headers.contains(&line("x-team", "b")));
    assert_eq!(one.source.ip, Some("203.0.113.7".parse().unwrap()));
    assert_eq!(one.source.ip, one.source.remote_ip);

    assert!(!one.unknown.headers);

    // What the list lacks is known in the other form only: joined, or its last line alone.
    let mut partly = fixture("http-1.0");
    partly["multiValueHeaders"].as_object_mut().unwrap().remove("X-Team");
    partly["headers"]["X-Team"] = "a,b".into();
    let partly = parse(&partly).request;
    assert!(partly.headers_joined && partly.unknown.headers && partly.headers.contains(&line("x-team", "a,b")));

    // An IPv4 address in the clothes of IPv6 is the IPv4 address that blocks are about.
    let mut mapped = fixture("http-2.0");
    for (text, address) in
        [("::ffff:203.0.113.7", "203.0.113.7"), ("::ffff:cb00:7107", "203.0.113.7"), ("2001:db8::7", "2001:db8::7")]
    {
        mapped["requestContext"]["http"]["sourceIp"] = text.into();
        let source = parse(&mapped).request.source;
        assert_eq!((source.ip, source.remote_ip), (address.parse().ok(), address.parse().ok()), "{text}");
    }

    let two = parse(&fixture("http-2.0-stage")).request;
    assert_eq!(two.path, "/reviews/0");
    assert!(two.headers_joined, "format 2.0 joins them");
    assert!(two.headers.contains(&line("cookie", "theme=dark; seen=1")));
    // What a gateway of the mesh would not take from a client is not taken here.
    for name in ["X-Forwarded-Client-Cert", "x-envoy-internal"] {
        let claimed = parse(&with_header(fixture("http-2.0"), name, "true")).request;
        assert!(!claimed.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name)), "{name}");
    }
    assert_eq!((two.method.as_str(), two.scheme.as_str()), ("GET", "https"));
}

/// Any JSON that is not too large.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop::sample::select(vec!["2.0", "1.0", "REQUEST", "TOKEN", "GET", "$default", "/", "*"]).prop_map(Value::from),
    ];
    let name = prop_oneof![
        "[a-z]{0,6}",
        prop::sample::select(vec!["version", "type", "headers", "requestContext", "rawPath", "methodArn", "path"])
            .prop_map(str::to_owned)
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(name.clone(), inner, 0..6)
                .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

/// Every place in an event that can be changed.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(members) = value.as_object() {
        for (name, member) in members {
            let pointer = format!("{at}/{name}");
            pointers(member, &pointer, found);
            found.push(pointer);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn no_json_crashes_or_opens(event in any_json(), kind in prop::bool::ANY) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let response = if kind { ResponseKind::Simple } else { ResponseKind::Iam };
        let world = World::with(Arc::new(Down), |config| Config { response, ..config });
        let (answer, line) = runtime.block_on(world.ask(&event));
        prop_assert!(!allows(answer.as_ref()));
        prop_assert_ne!(&line["reason"], "internal");
    }

    /// One value of a real event is replaced. The event has no credential, so that nothing can open it but the open path.
    #[test]
    fn no_changed_event_crashes_or_opens(
        name in prop::sample::select(support::KINDS.to_vec()),
        place in any::<prop::sample::Index>(),
        value in any_json(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let world = World::with(Arc::new(Down), |config| config);
        let event = fixture(name);
        let mut places = Vec::new();
        pointers(&event, "", &mut places);
        let event = changed(event, place.get(&places).as_str(), value);
        let (answer, line) = runtime.block_on(world.ask(&event));
        prop_assert!(!allows(answer.as_ref()), "{}", event);
        prop_assert_ne!(&line["reason"], "internal");
    }
}
