//! SVIDs at the public door, for callers that prove their role by a signed GetCallerIdentity. A stand-in of STS checks
//! the signatures; `tests/tests/attestation.rs` does the same with moto and botocore.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use common::*;
use identity::secret::Secret;
use key_issuer::{CallerIdentity, CallerIdentityError, bootstrap};
use platform::BoxFuture;
use platform::aws::Credentials;
use platform::sigv4;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

const STS: &str = "https://sts.eu-central-1.amazonaws.com";
const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";
const SPIFFE_ID: &str = "spiffe://cluster.local/ns/bookinfo/sa/bookinfo-reviews";

/// STS: knows one access key, and says who that is.
struct FakeSts {
    answer: Mutex<Result<String, CallerIdentityError>>,
    asked: AtomicUsize,
}

fn identity(arn: &str, user_id: &str) -> String {
    format!(
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
         <Arn>{arn}</Arn><UserId>{user_id}</UserId><Account>123456789012</Account></GetCallerIdentityResult>\
         <ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
    )
}

impl FakeSts {
    fn new() -> Arc<Self> {
        let answer = Mutex::new(Ok(identity(ROLE_SESSION, "AROAEXAMPLE:reviews-fn")));
        Arc::new(Self { answer, asked: AtomicUsize::new(0) })
    }

    fn says(&self, answer: Result<String, CallerIdentityError>) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl CallerIdentity for FakeSts {
    fn ask<'a>(
        &'a self,
        endpoint: &'a str,
        headers: &'a [(String, Secret<String>)],
        body: &'static str,
    ) -> BoxFuture<'a, Result<Vec<u8>, CallerIdentityError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            assert_eq!((endpoint, body), (STS, BODY));
            assert!(headers.iter().any(|(name, value)| name == "accept" && value.expose() == "application/xml"));
            let mut sent: Vec<_> = headers.iter().map(|(name, value)| (name.clone(), value.expose().clone())).collect();
            sent.push(("host".to_owned(), "sts.eu-central-1.amazonaws.com".to_owned()));
            let url = format!("{endpoint}/");
            let request = sigv4::Request { method: "POST", url: &url, headers: &sent, body: body.as_bytes() };
            let secret = |id: &str| (id == "ASIAEXAMPLE").then(|| credentials().secret_access_key);
            let at = UNIX_EPOCH + Duration::from_secs(NOW);
            sigv4::verify(request, "sts", secret, at).map_err(|_| CallerIdentityError::Refused(403))?;
            self.answer.lock().unwrap().clone().map(String::into_bytes)
        })
    }
}

fn credentials() -> Credentials {
    Credentials {
        access_key_id: "ASIAEXAMPLE".to_owned(),
        secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
        session_token: Some(Secret::new("the-session-token".to_owned())),
    }
}

fn sha256(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

fn csr() -> String {
    CertificateParams::default().serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

/// A proof that is bound to `header: value`.
fn proof_at(at: SystemTime, nonce: &str, server: &str, header: &str, value: &str) -> Value {
    let mut headers: Vec<(String, String)> = [
        ("host", "sts.eu-central-1.amazonaws.com"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("x-causeway-server-id", server),
        ("x-causeway-nonce", nonce),
        (header, value),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    let url = format!("{STS}/");
    let request = sigv4::Request { method: "POST", url: &url, headers: &headers, body: BODY.as_bytes() };
    headers.extend(sigv4::sign(request, &credentials(), "eu-central-1", "sts", at).unwrap());
    let headers: serde_json::Map<String, Value> = headers.into_iter().map(|(n, v)| (n, json!(v))).collect();
    json!({"method": "POST", "url": url, "body": BODY, "headers": headers})
}

fn proof(nonce: &str, csr: &str) -> Value {
    let at = UNIX_EPOCH + Duration::from_secs(NOW);
    proof_at(at, nonce, ISSUER, "x-causeway-csr-sha256", &sha256(csr))
}

fn post(path: &str, body: &Value) -> Value {
    let mut event = event(PUBLIC_API, "POST", path);
    event["headers"]["content-type"] = json!("application/json");
    event["body"] = json!(body.to_string());
    event
}

fn svid(csr: &str, proof: &Value) -> Value {
    post("/v1/svid", &json!({"csr": csr, "proof": proof}))
}

async fn world(sts: &Arc<FakeSts>, registry: &str) -> World {
    let ca = bootstrap::new_ca_secret(&"cluster.local".parse().unwrap(), NOW).unwrap();
    let signing = bootstrap::new_signing_secret().unwrap();
    let variables =
        [("CAUSEWAY_STATE_TABLE", "state"), ("AWS_REGION", "eu-central-1"), ("CAUSEWAY_REGISTRY", registry)];
    World::built(signing.expose(), ca.expose(), &variables, Some(sts.clone())).await
}

impl World {
    async fn nonce(&self) -> String {
        let answer = self.send(event(PUBLIC_API, "POST", "/v1/nonce")).await;
        assert_eq!((answer.status(), answer.header("Cache-Control")), (200, Some("no-store")), "{answer:?}");
        let body = answer.json();
        assert_eq!((&body["server_id"], &body["sts_endpoints"]), (&json!(ISSUER), &json!([STS])));
        assert_eq!(body["expires_at"], self.clock_unix() + 120);
        body["nonce"].as_str().unwrap().to_owned()
    }

    fn clock_unix(&self) -> u64 {
        use platform::clock::Clock;
        self.clock.unix()
    }
}

#[tokio::test]
async fn a_signed_request_is_worth_an_svid_once() {
    let sts = FakeSts::new();
    let world = world(&sts, REGISTRY).await;
    let csr = csr();
    let event = svid(&csr, &proof(&world.nonce().await, &csr));
    let answer = world.send(event.clone()).await;
    assert_eq!((answer.status(), &answer.json()["spiffe_id"]), (200, &json!(SPIFFE_ID)), "{answer:?}");
    let audit = world.audit();
    for (member, value) in [
        ("event", json!("svid_issued")),
        ("door", json!("public")),
        ("proof", json!("get_caller_identity")),
        ("role_arn", json!("arn:aws:iam::123456789012:role/reviews")),
        ("spiffe_id", json!(SPIFFE_ID)),
    ] {
        assert_eq!(audit[member], value, "{member}");
    }
    assert!(audit["serial"].is_string());
    assert!(!audit.to_string().contains("the-session-token") && !audit.to_string().contains("Signature"));

    let again = world.send(event).await;
    assert_eq!((again.status(), again.error().as_str(), sts.asked()), (403, "invalid_proof", 1));
    assert!(world.audit()["reason"].as_str().unwrap().contains("used before"));
}

#[tokio::test]
async fn a_signed_request_is_worth_a_jwt_svid() {
    let sts = FakeSts::new();
    let world = world(&sts, REGISTRY).await;
    let at = UNIX_EPOCH + Duration::from_secs(NOW);
    let proof = proof_at(at, &world.nonce().await, ISSUER, "x-causeway-audience-sha256", &sha256("bookinfo"));
    let ask = |audience: Value| post("/v1/jwt-svid", &json!({"audience": audience, "proof": proof}));
    // For other audiences it is no proof, nor for a certificate.
    assert_eq!(world.send(ask(json!(["bookinfo", "x"]))).await.error(), "invalid_proof");
    assert_eq!(world.send(svid("bookinfo", &proof)).await.error(), "invalid_proof");
    let answer = world.send(ask(json!(["bookinfo"]))).await;
    assert_eq!((answer.status(), &answer.json()["spiffe_id"]), (200, &json!(SPIFFE_ID)), "{answer:?}");
    assert_eq!(sts.asked(), 1);
}

#[tokio::test]
async fn what_sts_would_accept_and_the_issuer_does_not() {
    let sts = FakeSts::new();
    let world = world(&sts, REGISTRY).await;
    let csr = csr();
    let at = |seconds: i64| UNIX_EPOCH + Duration::from_secs(NOW.checked_add_signed(seconds).unwrap());
    let nonce = world.nonce().await;
    let sha = sha256(&csr);
    let bound = |at, nonce: &str, server: &str, sha: &str| proof_at(at, nonce, server, "x-causeway-csr-sha256", sha);
    for (name, proof) in [
        ("too old", bound(at(-61), &nonce, ISSUER, &sha)),
        ("too new", bound(at(61), &nonce, ISSUER, &sha)),
        ("another server", bound(at(0), &nonce, "https://issuer.evil.example", &sha)),
        ("another CSR", bound(at(0), &nonce, ISSUER, &sha256("another"))),
        ("a nonce of nobody", bound(at(0), "bm9uY2U", ISSUER, &sha)),
        ("no binding", proof_at(at(0), &nonce, ISSUER, "x-amz-content-sha256", &sha)),
    ] {
        let answer = world.send(svid(&csr, &proof)).await;
        assert_eq!((answer.status(), answer.error().as_str()), (403, "invalid_proof"), "{name}: {answer:?}");
    }
    assert_eq!(sts.asked(), 0, "nothing of it reaches STS");
    // None of it has used the nonce up.
    assert_eq!(world.send(svid(&csr, &proof(&nonce, &csr))).await.status(), 200);
}

#[tokio::test]
async fn what_sts_does_not_accept() {
    let sts = FakeSts::new();
    let world = world(&sts, REGISTRY).await;
    let csr = csr();
    let good = proof(&world.nonce().await, &csr);
    let signature = good["headers"]["authorization"].as_str().unwrap().to_owned();
    let (head, tail) = signature.split_at(signature.len() - 1);
    let mut tampered = good.clone();
    tampered["headers"]["authorization"] = json!(format!("{head}{}", if tail == "0" { "1" } else { "0" }));
    let answer = world.send(svid(&csr, &tampered)).await;
    assert_eq!((answer.status(), answer.error().as_str()), (403, "invalid_proof"));
    assert_eq!(world.audit()["detail"], "STS answered with status 403");
    // The nonce is used up by it.
    assert_eq!(world.send(svid(&csr, &good)).await.status(), 403);
    assert_eq!(sts.asked(), 1);
}

#[tokio::test]
async fn who_sts_names_decides() {
    let sts = FakeSts::new();
    let registry = REGISTRY.replacen("\"namespace\"", "\"role_unique_id\":\"AROAEXAMPLE\",\"namespace\"", 1);
    let world = world(&sts, &registry).await;
    let csr = csr();
    let unavailable = CallerIdentityError::Unavailable("cannot reach sts".to_owned());
    let arn = |rest: &str| format!("arn:aws:sts::123456789012:{rest}");
    for (name, says, status, error) in [
        ("the role", Ok(identity(ROLE_SESSION, "AROAEXAMPLE:reviews-fn")), 200, ""),
        ("a role that was made again", Ok(identity(ROLE_SESSION, "AROAANOTHER:reviews-fn")), 403, "access_denied"),
        ("another role", Ok(identity(&arn("assumed-role/stranger/s"), "AROAEXAMPLE:s")), 403, "access_denied"),
        ("a user", Ok(identity("arn:aws:iam::123456789012:user/alice", "AIDAEXAMPLE")), 403, "access_denied"),
        ("a session of another name", Ok(identity(ROLE_SESSION, "AROAEXAMPLE:x")), 403, "access_denied"),
        ("nobody", Ok(String::new()), 503, "temporarily_unavailable"),
        ("a page", Ok("<html></html>".to_owned()), 503, "temporarily_unavailable"),
        ("nothing", Err(unavailable), 503, "temporarily_unavailable"),
    ] {
        sts.says(says);
        let event = svid(&csr, &proof(&world.nonce().await, &csr));
        let answer = world.send(event).await;
        assert_eq!((answer.status(), answer.error().as_str()), (status, error), "{name}: {answer:?}");
    }
}

#[tokio::test]
async fn a_table_that_is_out_lets_nobody_in() {
    let sts = FakeSts::new();
    let world = world(&sts, REGISTRY).await;
    let csr = csr();
    let event = svid(&csr, &proof(&world.nonce().await, &csr));
    world.directory.out.store(true, Ordering::Relaxed);
    assert_eq!((world.send(event.clone()).await.status(), sts.asked()), (503, 0));
    world.directory.out.store(false, Ordering::Relaxed);
    assert_eq!(world.send(event).await.status(), 200);
}

#[tokio::test]
async fn a_source_that_sends_too_many_proofs_is_slowed_down() {
    let sts = FakeSts::new();
    let world = world(&sts, REGISTRY).await;
    let mut last = 0;
    for _ in 0..101 {
        let csr = "no csr";
        last = world.send(svid(csr, &proof(&world.nonce().await, csr))).await.status();
        world.lines.drain();
    }
    assert_eq!((last, sts.asked()), (429, 100));
}

/// A nonce is to be had for nothing, and STS alone can tell a wrong signature. Addresses of one subscriber are one
/// source.
#[tokio::test]
async fn proofs_without_a_key_lock_out_nobody_of_the_same_address() {
    let sts = FakeSts::new();
    let world = world(&sts, REGISTRY).await;
    let from = |mut event: Value, place: usize| {
        event["requestContext"]["http"]["sourceIp"] = json!(format!("2001:db8:1:2::{place:x}"));
        event
    };
    let made_up = |proof: Value, key: &str| {
        let text = proof.to_string().replace(&credentials().access_key_id, key);
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let csr = csr();
    for place in 0..101 {
        let proof = made_up(proof(&world.nonce().await, "no csr"), "ASIAMADEUP");
        world.send(from(svid("no csr", &proof), place)).await;
        world.lines.drain();
    }
    assert_eq!(sts.asked(), 100);
    assert_eq!(world.send(from(svid(&csr, &proof(&world.nonce().await, &csr)), 1)).await.status(), 200);
    // All keys of a source together have a bound, too.
    for place in 0..1_000 {
        let proof = made_up(proof(&world.nonce().await, "no csr"), &format!("ASIAMADEUP{place}"));
        world.send(from(svid("no csr", &proof), place)).await;
        world.lines.drain();
    }
    assert_eq!(sts.asked(), 1_000);
}

#[tokio::test]
async fn where_it_is_not_offered_the_iam_door_is_the_only_one() {
    let world = World::new().await;
    assert_eq!(world.send(event(PUBLIC_API, "POST", "/v1/nonce")).await.error(), "access_denied");
    let csr = csr();
    assert_eq!(world.send(svid(&csr, &proof("nonce", &csr))).await.error(), "access_denied");
    // At the IAM door a proof is one too many.
    let mut twice = svid(&csr, &proof("nonce", &csr));
    twice["requestContext"] = iam_event(IAM_URL, "/v1/svid", ROLE_SESSION)["requestContext"].clone();
    assert_eq!(world.send(twice).await.error(), "invalid_request");
}
