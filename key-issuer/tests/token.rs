//! The public door: discovery, keys and tokens, and every error of the token endpoint.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::*;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use key_issuer::ClientState;
use key_issuer::{InvocationError, MAX_BODY_BYTES, bootstrap};
use proptest::prelude::*;
use serde_json::{Value, json};

const GRANT: &str = "grant_type=client_credentials";

/// Verifies a token as a resource server would: keys from the issuer's own document, by another library.
async fn verify(world: &World, token: &str, audience: &str) -> Value {
    let jwks = world.send(event(PUBLIC_API, "GET", "/jwks.json")).await;
    let set: JwkSet = serde_json::from_str(jwks.body()).unwrap();
    let header = jsonwebtoken::decode_header(token).unwrap();
    assert_eq!(header.typ.as_deref(), Some("at+jwt"));
    assert_eq!(header.alg, Algorithm::ES256);
    let key = set.find(&header.kid.unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(&[audience]);
    validation.set_issuer(&[ISSUER]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    // The tests' clock is not the machine's.
    validation.validate_exp = false;
    jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(key).unwrap(), &validation).unwrap().claims
}

#[tokio::test]
async fn a_token_is_issued_and_verifies_against_the_published_keys() {
    let world = World::new().await;
    let answer = world.send(token_event(GRANT)).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    assert_eq!(answer.header("Pragma"), Some("no-cache"));
    let body = answer.json();
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(600)));
    assert_eq!(body["scope"], "reviews.read reviews.write");
    let members: BTreeSet<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, BTreeSet::from(["access_token", "token_type", "expires_in", "scope"]));

    let audit = world.audit();
    let token = body["access_token"].as_str().unwrap();
    let mut claims = verify(&world, token, "bookinfo").await;
    let jti = claims["jti"].take();
    assert_eq!(jti.as_str().unwrap().len(), 32);
    assert_eq!(
        claims,
        json!({"iss": ISSUER, "sub": "client:reader", "aud": "bookinfo", "exp": NOW + 600, "iat": NOW, "nbf": NOW - 5,
            "jti": null, "client_id": "reader", "azp": "reader", "scope": "reviews.read reviews.write"})
    );
    assert_eq!(audit["event"], "token_issued");
    for (member, value) in [
        ("ts", json!(NOW)),
        ("door", json!("public")),
        ("client_id", json!("reader")),
        ("audience", json!(["bookinfo"])),
        ("scope", json!("reviews.read reviews.write")),
        ("jti", jti),
        ("expires_at", json!(NOW + 600)),
        ("source_ip", json!("203.0.113.7")),
        ("request_id", json!("r1")),
    ] {
        assert_eq!(audit[member], value, "{member}");
    }
}

#[tokio::test]
async fn two_tokens_differ() {
    let world = World::new().await;
    let jti = |answer: Answer| answer.json()["access_token"].as_str().unwrap().to_owned();
    let first = jti(world.send(token_event(GRANT)).await);
    assert_ne!(first, jti(world.send(token_event(GRANT)).await));
}

#[tokio::test]
async fn scopes_and_audiences() {
    let world = World::new().await;
    for (parameters, scope, audience) in [
        ("&scope=reviews.read", "reviews.read", json!("bookinfo")),
        ("&scope=reviews.write+reviews.read", "reviews.write reviews.read", json!("bookinfo")),
        ("&scope=reviews.read+reviews.read", "reviews.read", json!("bookinfo")),
        ("&scope=", "reviews.read reviews.write", json!("bookinfo")),
        ("&audience=bookinfo&scope=reviews.read", "reviews.read", json!("bookinfo")),
        (
            "&resource=https%3A%2F%2Fapi.bookinfo.example&scope=reviews.read",
            "reviews.read",
            json!("https://api.bookinfo.example"),
        ),
        (
            "&resource=https%3A%2F%2Fapi.bookinfo.example&audience=bookinfo&audience=bookinfo&scope=reviews.read",
            "reviews.read",
            json!(["https://api.bookinfo.example", "bookinfo"]),
        ),
        ("&unknown=ignored&scope=reviews.read", "reviews.read", json!("bookinfo")),
        ("&client_id=reader&scope=reviews.read", "reviews.read", json!("bookinfo")),
    ] {
        let answer = world.send(token_event(&format!("{GRANT}{parameters}"))).await;
        assert_eq!(answer.status(), 200, "{parameters}: {answer:?}");
        let body = answer.json();
        assert_eq!(body["scope"], scope, "{parameters}");
        let expected = audience.as_str().or(audience[0].as_str()).unwrap();
        let claims = verify(&world, body["access_token"].as_str().unwrap(), expected).await;
        assert_eq!((&claims["aud"], &claims["scope"]), (&audience, &json!(scope)), "{parameters}");
    }
}

#[tokio::test]
async fn a_client_without_scopes_gets_a_token_without_scope() {
    let world = World::new().await;
    let mut bare = client("bare", &["x"]);
    bare.scopes.clear();
    world.directory.put(&bare).await;
    let mut event = token_event(GRANT);
    event["headers"]["Authorization"] = json!(basic("bare", "x"));
    let body = world.send(event).await.json();
    assert!(body.get("scope").is_none(), "{body}");
    let claims = verify(&world, body["access_token"].as_str().unwrap(), "bookinfo").await;
    assert!(claims.get("scope").is_none(), "{claims}");
}

#[tokio::test]
async fn both_live_secrets_and_odd_names_authenticate() {
    let world = World::new().await;
    world.directory.put(&client("caf\u{e9} +%:", &["p\u{e4}ss: +%"])).await;
    for (id, secret) in [(CLIENT, SECRET), (CLIENT, SECOND_SECRET), ("caf\u{e9} +%:", "p\u{e4}ss: +%")] {
        let mut event = token_event(GRANT);
        event["headers"]["Authorization"] = json!(basic(id, secret));
        let answer = world.send(event).await;
        assert_eq!(answer.status(), 200, "{id}: {answer:?}");
        let claims = verify(&world, answer.json()["access_token"].as_str().unwrap(), "bookinfo").await;
        assert_eq!(claims["sub"], format!("client:{id}"));
    }
}

#[tokio::test]
async fn bodies_in_base64_are_read() {
    let world = World::new().await;
    let mut event = token_event(&STANDARD.encode(GRANT));
    event["isBase64Encoded"] = json!(true);
    assert_eq!(world.send(event).await.status(), 200);
}

/// RFC 6749 §5.2, RFC 8707 §2, RFC 7521 §4.2.1: the request, the status and the error.
#[tokio::test]
async fn every_error_of_the_token_endpoint() {
    let world = World::new().await;
    let mut no_grant = client("no-grant", &["x"]);
    no_grant.grants = vec!["urn:ietf:params:oauth:grant-type:token-exchange".to_owned()];
    let mut disabled = client("disabled", &["x"]);
    disabled.state = ClientState::Disabled;
    let mut no_audience = client("no-audience", &["x"]);
    no_audience.audiences.clear();
    for record in [no_grant, disabled, no_audience] {
        world.directory.put(&record).await;
    }
    let with = |member: &str, value: Value| {
        let mut event = token_event(GRANT);
        event["headers"][member] = value;
        event
    };
    let auth = |value: String| with("Authorization", json!(value));
    let plus = |parameters: &str| token_event(&format!("{GRANT}{parameters}"));
    let anonymous = |parameters: &str| {
        let mut event = plus(parameters);
        event["headers"].as_object_mut().unwrap().remove("Authorization");
        event
    };
    let mut in_query = token_event(GRANT);
    in_query["rawQueryString"] = json!("client_secret=x");
    let mut two_headers = token_event(GRANT);
    two_headers["headers"]["authorization"] = json!(basic("other", "x"));
    let mut bad_base64 = token_event(GRANT);
    bad_base64["isBase64Encoded"] = json!(true);
    let too_many: String = (0..64).map(|i| format!("&p{i}=1")).collect();
    let assertion = "&client_assertion_type=urn%3Aietf&client_assertion=e.y.J";

    for (name, event, status, error) in [
        // invalid_request
        ("no grant_type", token_event(""), 400, "invalid_request"),
        ("empty grant_type", token_event("grant_type="), 400, "invalid_request"),
        ("repeated grant_type", plus("&grant_type=client_credentials"), 400, "invalid_request"),
        ("repeated scope", plus("&scope=reviews.read&scope=reviews.write"), 400, "invalid_request"),
        ("repeated unknown", plus("&x=1&x=1"), 400, "invalid_request"),
        ("broken encoding", plus("&scope=%zz"), 400, "invalid_request"),
        ("not utf-8", plus("&scope=%FF"), 400, "invalid_request"),
        ("too many parameters", plus(&too_many), 400, "invalid_request"),
        ("no content type", with("content-type", Value::Null), 400, "invalid_request"),
        ("json", with("content-type", json!("application/json")), 400, "invalid_request"),
        ("parameters in the URI", in_query, 400, "invalid_request"),
        (
            "two headers joined",
            auth(format!("{},{}", basic(CLIENT, SECRET), basic(CLIENT, SECRET))),
            400,
            "invalid_request",
        ),
        ("two headers in two spellings", two_headers, 400, "invalid_request"),
        ("basic and post", plus("&client_secret=x"), 400, "invalid_request"),
        ("another client_id", plus("&client_id=other"), 400, "invalid_request"),
        ("assertion of an unknown type", anonymous(assertion), 400, "invalid_request"),
        ("not base64", bad_base64, 400, "invalid_request"),
        ("too large", token_event(&"x".repeat(MAX_BODY_BYTES + 1)), 413, "invalid_request"),
        // invalid_client
        ("no authentication", anonymous(""), 401, "invalid_client"),
        ("wrong post", anonymous("&client_id=reader&client_secret=x"), 401, "invalid_client"),
        ("assertion and basic", plus(assertion), 401, "invalid_client"),
        ("assertion and post", anonymous(&format!("{assertion}&client_secret=x")), 401, "invalid_client"),
        ("wrong secret", auth(basic(CLIENT, "wrong")), 401, "invalid_client"),
        ("empty secret", auth(basic(CLIENT, "")), 401, "invalid_client"),
        (
            "the hash is no secret",
            auth(basic(CLIENT, &client(CLIENT, &[SECRET]).secret_hashes[0])),
            401,
            "invalid_client",
        ),
        ("unknown client", auth(basic("nobody", SECRET)), 401, "invalid_client"),
        ("empty client", auth(basic("", SECRET)), 401, "invalid_client"),
        ("control character", auth(basic("a\u{0}b", SECRET)), 401, "invalid_client"),
        ("long client", auth(basic(&"a".repeat(129), SECRET)), 401, "invalid_client"),
        ("disabled client", auth(basic("disabled", "x")), 401, "invalid_client"),
        ("bearer", auth("Bearer abc".to_owned()), 401, "invalid_client"),
        ("not decoded twice", auth(format!("Basic {}", STANDARD.encode("reader:100%"))), 401, "invalid_client"),
        ("garbage", auth("Basic ~~~".to_owned()), 401, "invalid_client"),
        // the grant
        ("another grant", token_event("grant_type=password"), 400, "unsupported_grant_type"),
        (
            "grant not allowed",
            {
                let mut event = token_event(GRANT);
                event["headers"]["Authorization"] = json!(basic("no-grant", "x"));
                event
            },
            400,
            "unauthorized_client",
        ),
        // scope
        ("scope not allowed", plus("&scope=ratings.write"), 400, "invalid_scope"),
        ("one of two not allowed", plus("&scope=reviews.read+ratings.write"), 400, "invalid_scope"),
        ("scope with two spaces", plus("&scope=reviews.read++reviews.write"), 400, "invalid_scope"),
        ("scope with a quote", plus("&scope=%22"), 400, "invalid_scope"),
        ("scope in another case", plus("&scope=Reviews.Read"), 400, "invalid_scope"),
        // target
        ("audience not allowed", plus("&audience=elsewhere"), 400, "invalid_target"),
        ("one of two not allowed", plus("&audience=bookinfo&audience=elsewhere"), 400, "invalid_target"),
        ("resource is no URI", plus("&resource=bookinfo"), 400, "invalid_target"),
        ("resource with a fragment", plus("&resource=https%3A%2F%2Fapi.bookinfo.example%23a"), 400, "invalid_target"),
        ("no audience at all", auth(basic("no-audience", "x")), 400, "invalid_target"),
    ] {
        let answer = world.send(event).await;
        assert_eq!((answer.status(), answer.error().as_str()), (status, error), "{name}: {answer:?}");
        assert_eq!(answer.header("Cache-Control"), Some("no-store"), "{name}");
        let challenge = answer.header("WWW-Authenticate").unwrap_or_default();
        assert_eq!(challenge.starts_with("Basic "), error == "invalid_client", "{name}: {challenge}");
        let description = answer.json()["error_description"].as_str().unwrap().to_owned();
        assert!(
            description.bytes().all(|b| matches!(b, 0x20..=0x21 | 0x23..=0x5B | 0x5D..=0x7E)),
            "{name}: {description}"
        );
        let audit = world.audit();
        assert_eq!(
            (&audit["event"], &audit["error"], &audit["status"]),
            (&json!("request_refused"), &json!(error), &json!(status)),
            "{name}"
        );
    }
}

#[tokio::test]
async fn the_body_limit_is_exact() {
    let world = World::new().await;
    let padding = format!("{GRANT}&pad=");
    let body = format!("{padding}{}", "x".repeat(MAX_BODY_BYTES - padding.len()));
    assert_eq!(body.len(), MAX_BODY_BYTES);
    assert_eq!(world.send(token_event(&body)).await.status(), 200);
}

#[tokio::test]
async fn callers_cannot_tell_an_unknown_client_from_a_wrong_secret() {
    let world = World::new().await;
    let mut bodies = BTreeSet::new();
    for (id, secret) in [(CLIENT, "wrong"), ("nobody", SECRET)] {
        let mut event = token_event(GRANT);
        event["headers"]["Authorization"] = json!(basic(id, secret));
        bodies.insert(world.send(event).await.0.to_string());
    }
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    let lines = world.lines.drain();
    assert!(lines[0].contains("the client reader sent a wrong secret"), "{lines:?}");
    assert!(lines[1].contains("unknown client") && !lines[1].contains("nobody"), "{lines:?}");
}

#[tokio::test]
async fn wrong_methods_and_paths() {
    let world = World::new().await;
    for (method, path, status, allow) in [
        ("GET", "/oauth2/token", 405, Some("POST")),
        ("PUT", "/oauth2/token", 405, Some("POST")),
        ("POST", "/jwks.json", 405, Some("GET, HEAD")),
        ("DELETE", "/.well-known/openid-configuration", 405, Some("GET, HEAD")),
        ("GET", "/", 404, None),
        ("GET", "/oauth2/token/", 404, None),
        ("GET", "/jwks.json/../jwks.json", 404, None),
    ] {
        let answer = world.send(event(PUBLIC_API, method, path)).await;
        assert_eq!((answer.status(), answer.header("Allow")), (status, allow), "{method} {path}");
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        assert!(!answer.error().is_empty());
        assert_eq!(world.audit()["event"], "request_refused");
    }
}

#[tokio::test]
async fn events_of_other_services_are_errors_and_not_answers() {
    let world = World::new().await;
    let rotation = json!({"Step": "createSecret", "SecretId": "arn", "ClientRequestToken": "t"});
    let error: InvocationError = world.issuer.handle(rotation).await.unwrap_err();
    assert!(error.to_string().contains("not supported"), "{error}");
}

#[tokio::test]
async fn it_is_a_tower_service() {
    use tower::Service;
    let world = World::new().await;
    let answer = world.issuer.clone().call(token_event(GRANT)).await.unwrap();
    assert_eq!(answer["statusCode"], 200);
}

/// A client that was seen a moment ago costs no call of AWS: no table and no secret is read.
#[tokio::test]
async fn a_warm_token_asks_nobody() {
    let world = World::new().await;
    assert_eq!(world.send(token_event(GRANT)).await.status(), 200);
    let calls = world.directory.calls.load(Ordering::Relaxed);
    world.directory.out.store(true, Ordering::Relaxed);
    world.vault.out.store(true, Ordering::Relaxed);
    world.clock.set(NOW + 59);
    assert_eq!(world.send(token_event(GRANT)).await.status(), 200);
    assert_eq!(world.directory.calls.load(Ordering::Relaxed), calls);
    world.clock.set(NOW + 60);
    assert_eq!(world.send(token_event(GRANT)).await.status(), 503, "an old record is not used");
}

#[tokio::test]
async fn changes_of_a_client_count_within_a_minute_and_new_secrets_at_once() {
    let world = World::new().await;
    assert_eq!(world.send(token_event(GRANT)).await.status(), 200);
    let mut record = client(CLIENT, &["the third", SECRET]);
    record.state = ClientState::Disabled;
    world.directory.put(&record).await;
    world.clock.set(NOW + 59);
    assert_eq!(world.send(token_event(GRANT)).await.status(), 200);
    world.clock.set(NOW + 60);
    assert_eq!(world.send(token_event(GRANT)).await.error(), "invalid_client");
    record.state = ClientState::Active;
    record.token_ttl_seconds = Some(90);
    world.directory.put(&record).await;
    let mut event = token_event(GRANT);
    event["headers"]["Authorization"] = json!(basic(CLIENT, "the third"));
    world.clock.set(NOW + 61);
    let answer = world.send(event).await;
    assert_eq!((answer.status(), &answer.json()["expires_in"]), (200, &json!(90)));
}

#[tokio::test]
async fn settings_of_a_client_shape_its_tokens() {
    let world = World::new().await;
    let mut record = client(CLIENT, &[SECRET]);
    (record.token_ttl_seconds, record.may_act) = (Some(3600), vec!["gateway".to_owned(), "batch".to_owned()]);
    world.directory.put(&record).await;
    let answer = world.send(token_event(GRANT)).await;
    assert_eq!(answer.json()["expires_in"], 600, "the issuer's limit holds");
    assert_eq!(answer.claims()["may_act"], json!({"subs": ["client:gateway", "client:batch"]}));

    // Each in another minute, for what is remembered counts for one.
    record.token_algorithm = Some(key_issuer::Algorithm::Rs256);
    world.directory.put(&record).await;
    world.clock.set(NOW + 60);
    let token = world.send(token_event(GRANT)).await.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(jsonwebtoken::decode_header(&token).unwrap().alg, Algorithm::RS256);

    record.token_algorithm = Some(key_issuer::Algorithm::EdDsa);
    world.directory.put(&record).await;
    world.clock.set(NOW + 180);
    assert_eq!(world.send(token_event(GRANT)).await.status(), 500);
    let detail = world.lines.drain().pop().unwrap();
    assert!(detail.contains("there is no signing key for EdDSA"), "{detail}");

    (record.token_algorithm, record.audiences) = (None, vec!["x".repeat(7_000)]);
    world.directory.put(&record).await;
    world.clock.set(NOW + 240);
    let answer = world.send(token_event(GRANT)).await;
    assert_eq!((answer.status(), answer.error().as_str()), (400, "invalid_request"), "no verifier reads 8 KiB");
}

#[tokio::test]
async fn the_keys_are_public_and_cacheable() {
    let world = World::new().await;
    let answer = world.send(event(PUBLIC_API, "GET", "/jwks.json")).await;
    assert_eq!(answer.header("Cache-Control"), Some("public, max-age=300"));
    let jwks = answer.json();
    for key in jwks["keys"].as_array().unwrap() {
        let members: BTreeSet<&str> = key.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(key["use"], "sig");
        match key["alg"].as_str().unwrap() {
            "ES256" => assert_eq!(members, BTreeSet::from(["kty", "use", "alg", "kid", "crv", "x", "y"])),
            "RS256" => assert_eq!(members, BTreeSet::from(["kty", "use", "alg", "kid", "n", "e"])),
            other => panic!("a key for {other}"),
        }
    }
    assert_eq!((&jwks["keys"][0]["kty"], &jwks["keys"][1]["kty"]), (&json!("EC"), &json!("RSA")));
    let etag = answer.header("ETag").unwrap().to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"'), "{etag}");

    let mut again = event(PUBLIC_API, "GET", "/jwks.json");
    again["headers"]["If-None-Match"] = json!(etag);
    let unchanged = world.send(again).await;
    assert_eq!((unchanged.status(), unchanged.body()), (304, ""));
    assert_eq!(unchanged.header("ETag"), Some(etag.as_str()));
    assert_eq!(unchanged.header("Cache-Control"), Some("public, max-age=300"));

    let mut other = event(PUBLIC_API, "GET", "/jwks.json");
    other["headers"]["if-none-match"] = json!("\"0\"");
    assert_eq!(world.send(other).await.status(), 200);

    let head = world.send(event(PUBLIC_API, "HEAD", "/jwks.json")).await;
    assert_eq!((head.status(), head.body(), head.header("ETag")), (200, "", Some(etag.as_str())));
}

#[tokio::test]
async fn a_new_key_signs_once_the_old_secret_is_old() {
    let world = World::new().await;
    let kid = |answer: Answer| {
        jsonwebtoken::decode_header(answer.json()["access_token"].as_str().unwrap()).unwrap().kid.unwrap()
    };
    let before = kid(world.send(token_event(GRANT)).await);
    world.vault.inner.put("signing", bootstrap::new_signing_secret().unwrap().expose().clone());
    assert_eq!(kid(world.send(token_event(GRANT)).await), before);
    world.clock.set(NOW + 301);
    assert_ne!(kid(world.send(token_event(GRANT)).await), before);
}

#[tokio::test]
async fn outages_are_503_with_retry_after_and_no_detail() {
    let world = World::new().await;
    world.directory.out.store(true, Ordering::Relaxed);
    let answer = world.send(token_event(GRANT)).await;
    assert_eq!((answer.status(), answer.error().as_str()), (503, "temporarily_unavailable"));
    assert_eq!(answer.header("Retry-After"), Some("5"));
    assert!(!answer.body().contains("clients"), "{answer:?}");
    assert!(world.audit()["detail"].as_str().unwrap().contains("no answer in time"));

    world.directory.out.store(false, Ordering::Relaxed);
    world.vault.out.store(true, Ordering::Relaxed);
    for event in [token_event(GRANT), event(PUBLIC_API, "GET", "/jwks.json")] {
        let answer = world.send(event).await;
        assert_eq!((answer.status(), answer.header("Retry-After")), (503, Some("5")));
        assert!(!answer.body().contains("Throttling"), "{answer:?}");
    }
    assert!(world.lines.drain().iter().any(|line| line.contains("ThrottlingException")));

    world.vault.out.store(false, Ordering::Relaxed);
    world.clock.set(NOW + 5);
    assert_eq!(world.send(token_event(GRANT)).await.status(), 200);
}

#[tokio::test]
async fn a_broken_secret_is_503_and_the_log_says_what_is_wrong() {
    let world = World::with("{\"keys\":[]}", "{}").await;
    let answer = world.send(token_event(GRANT)).await;
    assert_eq!(answer.status(), 503);
    assert!(!answer.body().contains("keys"), "{answer:?}");
    assert!(world.lines.drain().iter().all(|line| line.contains("the secret signing: found 0 keys")));
}

#[tokio::test]
async fn a_broken_client_record_authenticates_nobody() {
    let world = World::new().await;
    for hashes in [vec![], vec!["00".to_owned()], vec!["0".repeat(64); 3], vec!["g".repeat(64)]] {
        let mut record = client(CLIENT, &[SECRET]);
        record.secret_hashes = hashes;
        world.directory.put(&record).await;
        let answer = world.send(token_event(GRANT)).await;
        assert_eq!((answer.status(), answer.error().as_str()), (500, "server_error"));
        assert!(world.audit()["detail"].as_str().unwrap().contains("record of the client reader"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Whatever a client puts its secret into by mistake, and however the request goes on: `World::send` looks for it
    /// in the answer and in the log.
    #[test]
    fn no_answer_and_no_log_line_holds_the_secret(
        names in proptest::collection::vec("grant_type|scope|resource|audience|client_id|client_secret|client_assertion|x", 0..4),
        good_grant in any::<bool>(),
        in_header in any::<bool>(),
        path in "/(oauth2/token|jwks\\.json|v1/svid)",
    ) {
        let secret = form_encode(SECRET);
        let mut body: String = names.iter().map(|name| format!("{name}={secret}&")).collect();
        if good_grant {
            body.push_str(GRANT);
        }
        let mut event = token_event(&body);
        event["rawPath"] = json!(path);
        if in_header {
            event["headers"]["Authorization"] = json!(basic(SECRET, SECRET));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { World::new().await.send(event).await });
    }
}
