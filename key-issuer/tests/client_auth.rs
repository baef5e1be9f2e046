//! Who the client is: every method, every error, and what may not be told apart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::sync::atomic::Ordering;

use common::keys::{TestKey, with};
use common::*;
use key_issuer::{AssertionAudience, Authentication, ClientRecord, ClientState};
use proptest::prelude::*;
use serde_json::{Value, json};

const GRANT: &str = "grant_type=client_credentials";
const WORKER: &str = "worker";
const TYPE: &str = "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";

static KEY: LazyLock<TestKey> = LazyLock::new(|| TestKey::new("ES256"));
static KEY_OF_NOBODY: LazyLock<TestKey> = LazyLock::new(|| TestKey::new("ES256"));

fn worker() -> ClientRecord {
    ClientRecord { authentication: Authentication::PrivateKeyJwt, jwks: Some(KEY.jwks()), ..client(WORKER, &[]) }
}

async fn world() -> World {
    let world = World::new().await;
    world.directory.put(&worker()).await;
    world
}

fn claims(jti: &str) -> Value {
    json!({"iss": WORKER, "sub": WORKER, "aud": ISSUER, "exp": NOW + 60, "iat": NOW, "nbf": NOW, "jti": jti})
}

fn with_assertion(assertion: &str, more: &str) -> Value {
    let body = format!("{GRANT}&client_assertion_type={TYPE}&client_assertion={assertion}{more}");
    bare_event(PUBLIC_API, &body)
}

fn by_assertion(claims: &Value) -> Value {
    with_assertion(&KEY.assertion(claims), "")
}

fn with_basic(mut event: Value, id: &str, secret: &str) -> Value {
    event["headers"]["Authorization"] = json!(basic(id, secret));
    event
}

fn post(id: &str, secret: &str) -> Value {
    let (id, secret) = (form_encode(id), form_encode(secret));
    bare_event(PUBLIC_API, &format!("{GRANT}&client_id={id}&client_secret={secret}"))
}

fn from(mut event: Value, ip: &str) -> Value {
    event["requestContext"]["http"]["sourceIp"] = json!(ip);
    event
}

#[tokio::test]
async fn every_method_of_the_public_door_gets_a_bearer_token() {
    let world = world().await;
    for (event, id) in [
        (with_basic(bare_event(PUBLIC_API, GRANT), CLIENT, SECRET), CLIENT),
        (post(CLIENT, SECRET), CLIENT),
        (post(CLIENT, SECOND_SECRET), CLIENT),
        (by_assertion(&claims("1")), WORKER),
        (with_assertion(&KEY.assertion(&claims("2")), "&client_id=worker&client_secret="), WORKER),
    ] {
        let answer = world.send(event).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert_eq!(answer.json()["token_type"], "Bearer");
        let claims = answer.claims();
        assert_eq!((&claims["client_id"], claims.get("cnf")), (&json!(id), None));
    }
}

#[tokio::test]
async fn every_algorithm_of_assertions() {
    let world = world().await;
    for algorithm in ["RS256", "PS512", "ES384", "ES512", "EdDSA"] {
        let key = TestKey::new(algorithm);
        world.directory.put(&ClientRecord { jwks: Some(key.jwks()), ..worker() }).await;
        let answer = world.send(with_assertion(&key.assertion(&claims(algorithm)), "")).await;
        assert_eq!(answer.status(), 200, "{algorithm}: {answer:?}");
    }
}

#[tokio::test]
async fn an_assertion_is_good_once() {
    let world = world().await;
    let first = by_assertion(&claims("once"));
    assert_eq!(world.send(first.clone()).await.status(), 200);
    for event in [first.clone(), by_assertion(&with(&claims("once"), "exp", json!(NOW + 120)))] {
        let answer = world.send(event).await;
        assert_eq!((answer.status(), answer.error().as_str()), (401, "invalid_client"), "{answer:?}");
    }
    // As long as it could be accepted.
    world.clock.set(NOW + 120);
    assert_eq!(world.send(first.clone()).await.error(), "invalid_client");
    world.clock.set(NOW + 121);
    assert!(world.send(first).await.body().contains("expired"));
    // The id is the client's own.
    world.clock.set(NOW);
    world.directory.put(&ClientRecord { client_id: "other".to_owned(), ..worker() }).await;
    let mut other = claims("once");
    (other["iss"], other["sub"]) = (json!("other"), json!("other"));
    assert_eq!(world.send(by_assertion(&other)).await.status(), 200);
}

/// The clocks of two environments differ, and so does that of the table, which deletes what has expired.
#[tokio::test]
async fn a_mark_stays_for_longer_than_any_clock_accepts_the_assertion() {
    let world = world().await;
    assert_eq!(world.send(by_assertion(&claims("1"))).await.status(), 200);
    let marks = world.directory.store.table("state").page(None, 10).await.unwrap().records;
    let ends: Vec<_> = marks.iter().map(|(_, record)| record.expires_at).collect();
    assert_eq!(ends, [Some(NOW + 60 + 61 + 60)], "exp, what it is accepted for after that, and a minute");
}

#[tokio::test]
async fn a_refused_assertion_does_not_use_its_id_up() {
    let world = world().await;
    let elsewhere = with(&claims("kept"), "aud", json!("https://other.example"));
    let expired = with(&claims("kept"), "exp", json!(NOW - 100));
    let forged = TestKey::new("ES256").assertion(&claims("kept"));
    for event in [by_assertion(&elsewhere), by_assertion(&expired), with_assertion(&forged, "")] {
        assert_eq!(world.send(event).await.status(), 401);
    }
    assert_eq!(world.send(by_assertion(&claims("kept"))).await.status(), 200);
}

#[tokio::test]
async fn the_audience_is_the_issuer_unless_the_client_may_name_the_endpoint() {
    let world = world().await;
    let (token, mtls) = (format!("{ISSUER}/oauth2/token"), format!("{MTLS_ISSUER}/oauth2/token"));
    for (policy, audience, status) in [
        (AssertionAudience::IssuerOnly, ISSUER, 200),
        (AssertionAudience::IssuerOnly, &token, 401),
        (AssertionAudience::IssuerOrTokenEndpoint, ISSUER, 200),
        (AssertionAudience::IssuerOrTokenEndpoint, &token, 200),
        (AssertionAudience::IssuerOrTokenEndpoint, &mtls, 200),
        (AssertionAudience::IssuerOrTokenEndpoint, &format!("{ISSUER}/oauth2/revoke"), 401),
        (AssertionAudience::IssuerOrTokenEndpoint, "https://other.example", 401),
    ] {
        world.directory.put(&ClientRecord { assertion_audience: policy, ..worker() }).await;
        let jti = format!("{policy:?} {audience}");
        let answer = world.send(by_assertion(&with(&claims(&jti), "aud", json!(audience)))).await;
        assert_eq!(answer.status(), status, "{jti}: {answer:?}");
        let both = with(&claims(&jti), "aud", json!([ISSUER, audience]));
        assert_eq!(world.send(by_assertion(&both)).await.status(), 401, "{jti}");
    }
}

/// Status and error of RFC 6749 §5.2 and RFC 7521 §4.2.1, with the challenge of every 401.
#[tokio::test]
async fn every_error() {
    let world = world().await;
    let assertion = KEY.assertion(&claims("unused"));
    let bare = |body: &str| bare_event(PUBLIC_API, &format!("{GRANT}{body}"));
    let header = |value: &str| {
        let mut event = bare("");
        event["headers"]["authorization"] = json!(value);
        event
    };
    let other_type = "&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Asaml2-bearer";
    let long = KEY.assertion(&with(&claims("long"), "pad", json!("x".repeat(8 * 1024))));
    let hs256 = KEY.jws(&json!({"alg": "HS256"}), &claims("hs"));
    let none = KEY.jws(&json!({"alg": "none"}), &claims("none"));
    for (name, event, status, error) in [
        ("nothing", bare(""), 401, "invalid_client"),
        ("an id alone", bare("&client_id=reader"), 401, "invalid_client"),
        ("bearer", header("Bearer abc"), 401, "invalid_client"),
        ("an AWS signature at the public door", header("AWS4-HMAC-SHA256 Credential=a"), 401, "invalid_client"),
        ("basic, wrong", with_basic(bare(""), CLIENT, "wrong"), 401, "invalid_client"),
        ("post, wrong", post(CLIENT, "wrong"), 401, "invalid_client"),
        ("post, unknown", post("nobody", SECRET), 401, "invalid_client"),
        ("post without an id", bare("&client_secret=x"), 400, "invalid_request"),
        (
            "basic and post",
            with_basic(bare("&client_id=reader&client_secret=x"), CLIENT, SECRET),
            400,
            "invalid_request",
        ),
        ("basic and another id", with_basic(bare("&client_id=other"), CLIENT, SECRET), 400, "invalid_request"),
        ("basic and assertion", with_basic(with_assertion(&assertion, ""), CLIENT, SECRET), 401, "invalid_client"),
        ("post and assertion", with_assertion(&assertion, "&client_secret=x"), 401, "invalid_client"),
        ("basic and half an assertion", with_basic(bare("&client_assertion=x"), CLIENT, SECRET), 401, "invalid_client"),
        ("assertion without a type", bare(&format!("&client_assertion={assertion}")), 400, "invalid_request"),
        ("a type without an assertion", bare(&format!("&client_assertion_type={TYPE}")), 400, "invalid_request"),
        ("another type", bare(&format!("{other_type}&client_assertion={assertion}")), 400, "invalid_request"),
        ("two assertions", with_assertion(&assertion, "&client_assertion=x"), 400, "invalid_request"),
        ("assertion and another id", with_assertion(&assertion, "&client_id=reader"), 401, "invalid_client"),
        ("no JWT", with_assertion("x", ""), 401, "invalid_client"),
        ("too long", with_assertion(&long, ""), 401, "invalid_client"),
        ("client_secret_jwt", with_assertion(&hs256, ""), 401, "invalid_client"),
        ("no algorithm", with_assertion(&none, ""), 401, "invalid_client"),
        ("no jti", by_assertion(&with(&claims(""), "jti", json!(null))), 401, "invalid_client"),
        ("no exp", by_assertion(&with(&claims("e"), "exp", json!(null))), 401, "invalid_client"),
        ("a day long", by_assertion(&with(&claims("d"), "exp", json!(NOW + 86_400))), 401, "invalid_client"),
        ("not yet", by_assertion(&with(&claims("n"), "nbf", json!(NOW + 61))), 401, "invalid_client"),
        ("of somebody else", by_assertion(&with(&claims("s"), "iss", json!(CLIENT))), 401, "invalid_client"),
    ] {
        let answer = world.send(event).await;
        assert_eq!((answer.status(), answer.error().as_str()), (status, error), "{name}: {answer:?}");
        let challenge = (status == 401).then_some("Basic realm=\"token endpoint\", charset=\"UTF-8\"");
        assert_eq!(answer.header("WWW-Authenticate"), challenge, "{name}");
        assert_eq!((answer.header("Cache-Control"), answer.header("Pragma")), (Some("no-store"), Some("no-cache")));
        let audit = world.audit();
        assert_eq!((&audit["event"], &audit["error"]), (&json!("request_refused"), &json!(error)), "{name}");
        assert!(!audit.to_string().contains(&assertion), "{name}: an assertion in the log");
    }
}

/// A client has one method, so that no weaker one can be tried, and whoever tries learns nothing.
#[tokio::test]
async fn who_has_no_right_credential_gets_one_answer() {
    let world = world().await;
    let hash = client("x", &[SECRET]).secret_hashes;
    let keys = Some(KEY.jwks());
    for (id, authentication, state) in [
        ("disabled-secret", Authentication::ClientSecret, ClientState::Disabled),
        ("disabled-key", Authentication::PrivateKeyJwt, ClientState::Disabled),
        ("tls", Authentication::TlsClientAuth, ClientState::Active),
        ("self-signed", Authentication::SelfSignedTlsClientAuth, ClientState::Active),
        ("iam", Authentication::Iam, ClientState::Active),
        ("secret", Authentication::ClientSecret, ClientState::Active),
        ("key", Authentication::PrivateKeyJwt, ClientState::Active),
    ] {
        let record =
            ClientRecord { authentication, state, secret_hashes: hash.clone(), jwks: keys.clone(), ..client(id, &[]) };
        world.directory.put(&record).await;
    }
    let by_key = |id: &str, key: &TestKey| {
        let mut claims = claims(id);
        (claims["iss"], claims["sub"]) = (json!(id), json!(id));
        with_assertion(&key.assertion(&claims), "")
    };
    let other = TestKey::new("ES256");
    let mut answers = BTreeSet::new();
    for id in ["nobody", "disabled-secret", "disabled-key", "tls", "self-signed", "iam", "key"] {
        answers.insert(world.send(with_basic(bare_event(PUBLIC_API, GRANT), id, SECRET)).await.0.to_string());
        answers.insert(world.send(post(id, SECRET)).await.0.to_string());
    }
    for id in ["nobody", "disabled-secret", "disabled-key", "tls", "self-signed", "iam", "secret"] {
        answers.insert(world.send(by_key(id, &KEY)).await.0.to_string());
    }
    answers.insert(world.send(with_basic(bare_event(PUBLIC_API, GRANT), "secret", "wrong")).await.0.to_string());
    answers.insert(world.send(by_key("key", &other)).await.0.to_string());
    let with_kid = other.jws(&json!({"alg": "ES256", "kid": "unknown"}), &claims("k"));
    answers.insert(world.send(with_assertion(&with_kid, "")).await.0.to_string());
    let rsa = TestKey::new("RS256").assertion(&claims("r"));
    answers.insert(world.send(with_assertion(&rsa, "")).await.0.to_string());
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|answer| answer.contains("401") && answer.contains("invalid_client")));
    // The right ones work, so it was not for something else that they were refused.
    assert_eq!(world.send(with_basic(bare_event(PUBLIC_API, GRANT), "secret", SECRET)).await.status(), 200);
    assert_eq!(world.send(by_key("key", &KEY)).await.status(), 200);
}

#[tokio::test]
async fn broken_records_authenticate_nobody() {
    let world = world().await;
    for jwks in [
        None,
        Some(json!([])),
        Some(json!({"keys": [{"kty": "oct", "k": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]})),
        Some(json!({"keys": [with(&KEY.jwk, "d", json!("AA"))]})),
    ] {
        world.directory.put(&ClientRecord { jwks, ..worker() }).await;
        let answer = world.send(by_assertion(&claims("b"))).await;
        assert_eq!((answer.status(), answer.error().as_str()), (500, "server_error"));
        assert!(world.audit()["detail"].as_str().unwrap().contains("record of the client worker"));
    }
}

#[tokio::test]
async fn without_its_table_nothing_is_accepted() {
    let world = world().await;
    world.directory.out.store(true, Ordering::Relaxed);
    for event in [by_assertion(&claims("o")), post(CLIENT, SECRET)] {
        let answer = world.send(event).await;
        assert_eq!((answer.status(), answer.header("Retry-After")), (503, Some("5")), "{answer:?}");
    }
    world.directory.out.store(false, Ordering::Relaxed);
    assert_eq!(world.send(by_assertion(&claims("o"))).await.status(), 200);
}

#[tokio::test]
async fn wrong_credentials_are_bounded_and_lock_nobody_else_out() {
    let world = world().await;
    let (attacker, owner) = ("203.0.113.66", "198.51.100.1");
    for _ in 0..20 {
        assert_eq!(world.send(from(post(CLIENT, "guess"), attacker)).await.status(), 401);
    }
    let answer = world.send(from(post(CLIENT, "guess"), attacker)).await;
    assert_eq!((answer.status(), answer.error().as_str()), (429, "temporarily_unavailable"), "{answer:?}");
    assert_eq!(answer.header("Retry-After"), Some("3"));
    assert_eq!(world.send(from(post(CLIENT, SECRET), owner)).await.status(), 200);
    assert_eq!(world.send(from(post("another", "guess"), attacker)).await.status(), 401);
    world.clock.set(NOW + 3);
    assert_eq!(world.send(from(post(CLIENT, "guess"), attacker)).await.status(), 401);
    // An address that tries many names.
    for i in 0..100 {
        world.send(from(post(&format!("name-{i}"), "guess"), attacker)).await;
    }
    let answer = world.send(from(by_assertion(&claims("late")), attacker)).await;
    assert_eq!((answer.status(), answer.header("Retry-After")), (429, Some("1")));
}

/// Many callers share the address of one gateway.
#[tokio::test]
async fn who_has_no_credential_locks_out_nobody_of_the_same_address() {
    let world = world().await;
    let shared = "203.0.113.66";
    assert_eq!(world.send(from(post(CLIENT, SECRET), shared)).await.status(), 200);
    assert_eq!(world.send(from(by_assertion(&claims("1")), shared)).await.status(), 200);
    // Later than records are remembered.
    world.clock.set(NOW + 100);
    for i in 0..100 {
        world.send(from(post(&format!("name-{i}"), "guess"), shared)).await;
    }
    assert_eq!(world.send(from(post(CLIENT, SECRET), shared)).await.status(), 200);
    assert_eq!(world.send(from(by_assertion(&claims("2")), shared)).await.status(), 200);
    // What is wrong is told apart by nothing, and no table is asked about it.
    world.directory.calls.store(0, Ordering::Relaxed);
    let wrong = world.send(from(post(CLIENT, "guess"), shared)).await;
    assert_eq!(wrong.status(), 429);
    for event in
        [post("nobody", "guess"), post("worker", "guess"), with_assertion(&KEY_OF_NOBODY.assertion(&claims("3")), "")]
    {
        assert_eq!(world.send(from(event, shared)).await.0, wrong.0);
    }
    assert_eq!(world.directory.calls.load(Ordering::Relaxed), 0);
    // A secret that was right is so by memory, which the table then corrects.
    world.directory.put(&client(CLIENT, &["the-new-one"])).await;
    world.clock.set(NOW + 200);
    for i in 0..100 {
        world.send(from(post(&format!("name-{i}"), "guess"), shared)).await;
    }
    assert_eq!(world.send(from(post(CLIENT, SECRET), shared)).await.status(), 401);
    assert_eq!(world.send(from(post(CLIENT, SECRET), shared)).await.status(), 429);
    assert_eq!(world.send(from(post(CLIENT, "the-new-one"), shared)).await.status(), 200);
}

#[tokio::test]
async fn the_role_is_the_proof_of_the_iam_door_and_the_record_its_settings() {
    let world = world().await;
    let event = |body: &str| {
        let mut event = iam_event(IAM_URL, "/oauth2/token", ROLE_SESSION);
        event["headers"]["content-type"] = json!("application/x-www-form-urlencoded");
        event["body"] = json!(format!("{GRANT}{body}"));
        event
    };
    let answer = world.send(event("")).await;
    assert_eq!((answer.status(), &answer.claims()["scope"]), (200, &json!("ratings.read")), "{answer:?}");

    let iam = ClientRecord { authentication: Authentication::Iam, ..ClientRecord::new("bookinfo-reviews") };
    let grants = vec!["client_credentials".to_owned()];
    let narrower = ClientRecord { scopes: vec!["a".to_owned()], grants: grants.clone(), ..iam.clone() };
    let same = ClientRecord { grants, ..iam.clone() };
    let disabled = ClientRecord { state: ClientState::Disabled, ..same.clone() };
    let another_method = client("bookinfo-reviews", &[SECRET]);
    for (record, status, expected) in [
        (narrower, 200, "a"),
        (same, 200, "ratings.read"),
        (iam, 400, "unauthorized_client"),
        (disabled, 403, "unauthorized_client"),
        (another_method, 500, "server_error"),
    ] {
        world.directory.put(&record).await;
        world.clock.advance(std::time::Duration::from_secs(60));
        let answer = world.send(event("")).await;
        assert_eq!(answer.status(), status, "{answer:?}");
        let found = if status == 200 { answer.claims()["scope"].as_str().unwrap().to_owned() } else { answer.error() };
        assert_eq!(found, expected);
    }
    for (body, status, error) in [
        ("&client_secret=x", 400, "invalid_request"),
        ("&client_assertion=x", 401, "invalid_client"),
        ("&client_id=other", 400, "invalid_request"),
    ] {
        let answer = world.send(event(body)).await;
        assert_eq!((answer.status(), answer.error().as_str()), (status, error), "{body}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    /// Whatever the form, the header and the door: no panic, no fault of ours, and never a token.
    #[test]
    fn no_request_without_a_credential_gets_a_token(
        names in proptest::collection::vec(
            "(client_id|client_secret|client_assertion|client_assertion_type|x)", 0..5),
        values in proptest::collection::vec(
            prop_oneof!["\\PC{0,20}", Just("reader".to_owned()), Just("worker".to_owned()),
                Just("urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned()),
                "[A-Za-z0-9_-]{1,20}\\.[A-Za-z0-9_-]{1,20}\\.[A-Za-z0-9_-]{1,20}"], 5),
        header in proptest::option::of(prop_oneof!["\\PC{0,30}", "Basic [A-Za-z0-9+/]{0,20}={0,2}"]),
        api in "(publicapi1|mtlsapi1)",
    ) {
        let mut body = GRANT.to_owned();
        for (name, value) in names.iter().zip(&values) {
            body.push_str(&format!("&{name}={}", form_encode(value)));
        }
        let mut event = bare_event(&api, &body);
        event["requestContext"]["domainName"] = json!(MTLS_HOST);
        if let Some(header) = header {
            event["headers"]["authorization"] = json!(header);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let answer = runtime.block_on(async { world().await.send(event).await });
        prop_assert!(matches!(answer.status(), 400 | 401), "{answer:?}");
    }
}
