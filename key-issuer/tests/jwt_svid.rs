//! JWT-SVIDs: for whom, with what in them, and that they are no access tokens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::*;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use key_issuer::{MAX_AUDIENCES, bootstrap};
use serde_json::{Value, json};

const SPIFFE_ID: &str = "spiffe://cluster.local/ns/bookinfo/sa/bookinfo-reviews";

fn event_for(body: &Value) -> Value {
    let mut event = iam_event(IAM_URL, "/v1/jwt-svid", ROLE_SESSION);
    event["headers"]["content-type"] = json!("application/json");
    event["body"] = json!(body.to_string());
    event
}

async fn world() -> World {
    let registry = REGISTRY.replacen("[\"bookinfo\"]", "[\"bookinfo\",\"spiffe://cluster.local/ns/x/sa/y\"]", 1);
    let ca = bootstrap::new_ca_secret(&"cluster.local".parse().unwrap(), NOW).unwrap();
    let signing = bootstrap::new_signing_secret().unwrap();
    World::built(signing.expose(), ca.expose(), &[("CAUSEWAY_REGISTRY", &registry)], None).await
}

#[tokio::test]
async fn a_jwt_svid_has_exactly_its_profile_and_verifies_with_the_bundle() {
    let world = world().await;
    let audiences = json!(["bookinfo", "spiffe://cluster.local/ns/x/sa/y"]);
    let answer = world.send(event_for(&json!({"audience": audiences}))).await;
    assert_eq!((answer.status(), answer.header("Cache-Control")), (200, Some("no-store")), "{answer:?}");
    let body = answer.json();
    assert_eq!((&body["spiffe_id"], &body["expires_at"]), (&json!(SPIFFE_ID), &json!(NOW + 300)));
    let svid = body["svid"].as_str().unwrap();
    let part = |place: usize| -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(svid.split('.').nth(place).unwrap()).unwrap()).unwrap()
    };
    let header = part(0);
    let members: Vec<&str> = header.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!((members, &header["typ"]), (vec!["alg", "kid", "typ"], &json!("JWT")));
    assert_eq!(part(1), json!({"sub": SPIFFE_ID, "aud": audiences, "iat": NOW, "exp": NOW + 300}));

    let published = world.send(event(PUBLIC_API, "GET", "/spiffe-bundle.json")).await.json();
    let jwt_keys: Vec<&Value> =
        published["keys"].as_array().unwrap().iter().filter(|k| k["use"] == "jwt-svid").collect();
    let mut keys = json!({"keys": jwt_keys});
    for key in keys["keys"].as_array_mut().unwrap() {
        // The library knows the uses of RFC 7517 alone.
        key.as_object_mut().unwrap().remove("use");
    }
    let keys: JwkSet = serde_json::from_value(keys).unwrap();
    let kid = decode_header(svid).unwrap().kid.unwrap();
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(&["bookinfo"]);
    validation.validate_exp = false;
    let key = DecodingKey::from_jwk(keys.find(&kid).unwrap()).unwrap();
    let claims = decode::<Value>(svid, &key, &validation).unwrap().claims;
    assert_eq!(claims["sub"], SPIFFE_ID);

    let lines = world.lines.all();
    let audit: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!((&audit["event"], &audit["audience"]), (&json!("jwt_svid_issued"), &audiences));
    assert!(audit["kid"].is_string() && audit["expires_at"] == NOW + 300, "{audit}");
    assert!(lines.iter().all(|line| !line.contains(svid)));
}

#[tokio::test]
async fn an_access_token_and_a_jwt_svid_are_told_apart() {
    let world = world().await;
    let svid = world.send(event_for(&json!({"audience": ["bookinfo"]}))).await.json()["svid"].clone();
    let claims = svid.as_str().unwrap().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    assert_eq!(claims.get("iss"), None, "a verifier of access tokens finds its issuer's keys by it");

    // The issuer itself knows it for none of its tokens, and makes none out of it.
    let svid = svid.as_str().unwrap();
    let exchange = "urn:ietf:params:oauth:grant-type:token-exchange";
    let client = key_issuer::ClientRecord { grants: vec![exchange.to_owned()], ..client(CLIENT, &[SECRET]) };
    world.directory.put(&client).await;
    let mut introspection = token_event(&format!("token={svid}"));
    introspection["rawPath"] = json!("/oauth2/introspect");
    assert_eq!(world.send(introspection).await.json(), json!({"active": false}));
    for kind in ["access_token", "jwt"] {
        let kind = form_encode(&format!("urn:ietf:params:oauth:token-type:{kind}"));
        let exchange = form_encode(exchange);
        let body = format!("grant_type={exchange}&subject_token={svid}&subject_token_type={kind}");
        let answer = world.send(token_event(&body)).await;
        assert_eq!((answer.status(), answer.error().as_str()), (400, "invalid_request"), "{kind} {answer:?}");
        let why = answer.json()["error_description"].to_string();
        assert!(why.contains("the subject token is not accepted"), "{why}");
    }
}

#[tokio::test]
async fn what_is_refused() {
    let world = world().await;
    let mut public = event_for(&json!({"audience": ["bookinfo"]}));
    public["requestContext"]["apiId"] = json!(PUBLIC_API);
    let mut stranger = event_for(&json!({"audience": ["bookinfo"]}));
    stranger["requestContext"]["authorizer"]["iam"]["userArn"] =
        json!("arn:aws:sts::123456789012:assumed-role/stranger/s");
    let many: Vec<String> = (0..=MAX_AUDIENCES).map(|i| i.to_string()).collect();
    for (name, event, status, error) in [
        ("no audience", event_for(&json!({})), 400, "invalid_request"),
        ("none", event_for(&json!({"audience": []})), 400, "invalid_request"),
        ("a text", event_for(&json!({"audience": "bookinfo"})), 400, "invalid_request"),
        ("too many", event_for(&json!({"audience": many})), 400, "invalid_request"),
        ("twice", event_for(&json!({"audience": ["bookinfo", "bookinfo"]})), 400, "invalid_request"),
        ("not allowed", event_for(&json!({"audience": ["elsewhere"]})), 400, "invalid_target"),
        ("one not allowed", event_for(&json!({"audience": ["bookinfo", "elsewhere"]})), 400, "invalid_target"),
        ("empty", event_for(&json!({"audience": [""]})), 400, "invalid_target"),
        ("a subject", event_for(&json!({"audience": ["bookinfo"], "sub": "spiffe://x/y"})), 400, "invalid_request"),
        (
            "a proof too",
            event_for(&json!({"audience": ["bookinfo"], "proof": {"method": "POST", "url": "", "body": "",
            "headers": {}}})),
            400,
            "invalid_request",
        ),
        ("the public door", public, 403, "access_denied"),
        ("a stranger", stranger, 403, "access_denied"),
    ] {
        let answer = world.send(event).await;
        assert_eq!((answer.status(), answer.error().as_str()), (status, error), "{name}: {answer:?}");
        assert!(answer.json().get("svid").is_none());
    }
}

#[tokio::test]
async fn eddsa_signs_none() {
    let ca = bootstrap::new_ca_secret(&"cluster.local".parse().unwrap(), NOW).unwrap();
    let signing = |algorithms: &[key_issuer::Algorithm]| bootstrap::new_signing_secret_of(algorithms).unwrap();
    let rs256 = signing(&[key_issuer::Algorithm::EdDsa, key_issuer::Algorithm::Rs256]);
    let world = World::with(rs256.expose(), ca.expose()).await;
    let answer = world.send(event_for(&json!({"audience": ["bookinfo"]}))).await;
    let svid = answer.json()["svid"].as_str().unwrap().to_owned();
    assert_eq!(decode_header(&svid).unwrap().alg, Algorithm::RS256);

    let world = World::with(signing(&[key_issuer::Algorithm::EdDsa]).expose(), ca.expose()).await;
    assert_eq!(world.send(event_for(&json!({"audience": ["bookinfo"]}))).await.status(), 503);
}

/// The record of the role's client narrows what the registry says, and does not widen it.
#[tokio::test]
async fn audiences_that_the_client_has_lost_are_refused() {
    let world = self::world().await;
    let mut client = key_issuer::ClientRecord::new("bookinfo-reviews");
    client.authentication = key_issuer::Authentication::Iam;
    client.audiences = vec!["bookinfo".to_owned(), "elsewhere".to_owned()];
    world.directory.put(&client).await;
    for (audience, status) in [("bookinfo", 200), ("spiffe://cluster.local/ns/x/sa/y", 400), ("elsewhere", 400)] {
        assert_eq!(world.send(event_for(&json!({"audience": [audience]}))).await.status(), status, "{audience}");
    }
}

/// Who is stopped as a client is stopped as a workload.
#[tokio::test]
async fn a_role_whose_client_is_stopped_gets_none() {
    let svid = || event_for(&json!({"audience": ["bookinfo"]}));
    let world = self::world().await;
    let mut client = key_issuer::ClientRecord::new("bookinfo-reviews");
    client.authentication = key_issuer::Authentication::Iam;
    world.directory.put(&client).await;
    assert_eq!(world.send(svid()).await.status(), 200);
    client.state = key_issuer::ClientState::Disabled;
    world.directory.put(&client).await;
    world.clock.set(NOW + 60);
    for path in ["/v1/jwt-svid", "/v1/svid"] {
        let mut event = svid();
        event["rawPath"] = json!(path);
        event["requestContext"]["http"]["path"] = json!(path);
        if path == "/v1/svid" {
            event["body"] = json!(json!({"csr": "x"}).to_string());
        }
        let answer = world.send(event).await;
        assert_eq!((answer.status(), answer.error().as_str()), (403, "access_denied"), "{path}: {answer:?}");
    }
    let world = self::world().await;
    world.list("client", "bookinfo-reviews", json!({"until": NOW + 86_400})).await;
    assert_eq!(world.send(svid()).await.status(), 403);
}
