//! Tokens and API keys at the inbound side of a sidecar, proven with what real sockets say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod inbound_stage;

use std::time::Duration;

use authz::KeyState;
use common::*;
use http::Request;
use inbound_stage::*;
use platform::https::Reach;
use platform::jwks::JwksSettings;
use platform::revocations::RevocationsConfig;

const KEYS: &str = "
---
apiVersion: causeway.dev/v1alpha1
kind: ApiKeyAuthentication
metadata: {name: keys, namespace: bookinfo}
spec: {selector: {matchLabels: {app: reviews}}, issuer: https://issuer.example}
";

/// A call in plaintext with one more header; its status.
async fn call(side: &Side, path: &str, name: &str, value: &str) -> u16 {
    let request = Request::get(path).header("host", "reviews").header(name, value).body(text("")).unwrap();
    side.plain(request).await.unwrap().status.as_u16()
}

async fn with_token(side: &Side, token: &str) -> u16 {
    call(side, "/token", "authorization", &format!("Bearer {token}")).await
}

/// The reason word of the last decision.
fn reason(side: &Side) -> String {
    side.events("decision").pop().unwrap()["reason"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_api_key_is_looked_up_and_stays_here() {
    let (app, stores) = (App::start().await, Stores::start().await);
    let good = stores.key("dev", 1, KeyState::Active);
    let revoked = stores.key("dev", 2, KeyState::Revoked);
    let disabled = stores.key("dev", 3, KeyState::Disabled);
    let other = stores.key("prod", 4, KeyState::Active);
    let elsewhere = Stores::start().await;
    let unknown = elsewhere.key("dev", 5, KeyState::Active);
    let side =
        Side::start(&app, &format!("{POLICIES}{KEYS}"), |inbound| inbound.api_keys = Some(stores.config())).await;
    assert_eq!(call(&side, "/token", "accept", "*/*").await, 403);
    for (key, expected) in [
        (revoked.as_str(), "api_key_revoked"),
        (&disabled, "api_key_revoked"),
        (&other, "api_key_environment"),
        (&unknown, "api_key_unknown"),
        ("cwk_dev_nonsense", "api_key_malformed"),
    ] {
        assert_eq!(call(&side, "/token", "x-api-key", key).await, 401, "{key}");
        assert_eq!(reason(&side), expected, "{key}");
    }
    assert_eq!(app.count(), 0);
    assert_eq!(call(&side, "/token", "x-api-key", &good).await, 200);
    let seen = app.last();
    let of = |name: &str| seen.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>();
    assert_eq!(of("x-causeway-principal"), [format!("{ISSUER}/client:reader")]);
    assert_eq!(of("x-causeway-client-id"), ["reader"]);
    assert!(of("x-api-key").is_empty());
    // The policies are asked all the same.
    assert_eq!(call(&side, "/known", "x-api-key", &good).await, 403);
    // What cannot be asked is no yes.
    let late = stores.key("dev", 6, KeyState::Active);
    stores.fail();
    assert_eq!(call(&side, "/token", "x-api-key", &late).await, 401);
    assert_eq!(reason(&side), "api_key_unavailable");
    for key in [&good, &revoked, &unknown, &late] {
        assert!(side.lines.all().iter().all(|line| !line.contains(key.as_str())), "a key is in the log");
    }
}

#[tokio::test]
async fn without_stores_no_api_key_opens_anything() {
    let (app, stores) = (App::start().await, Stores::start().await);
    let side = Side::start(&app, &format!("{POLICIES}{KEYS}"), |_| ()).await;
    let key = stores.key("dev", 1, KeyState::Active);
    assert_eq!(call(&side, "/token", "x-api-key", &key).await, 401);
    assert_eq!((reason(&side).as_str(), app.count()), ("api_key_unavailable", 0));
}

#[tokio::test]
async fn keys_are_fetched_from_the_issuer_and_without_them_no_token_is_good() {
    let (app, issuer, published) = (App::start().await, Signer::new(), Published::start().await);
    let documents = format!("{POLICIES}{}", Signer::rule(&format!("jwksUri: {}", published.url())));
    let trusting = |roots| JwksSettings { reach: Reach::Private, roots, wait: Duration::from_secs(20) };
    let start = |roots| Side::start(&app, &documents, move |inbound| inbound.jwks = trusting(roots));
    let root = || vec![published.root.clone()];
    let side = start(root()).await;
    assert_eq!(with_token(&side, &issuer.token("alice", 600)).await, 401);
    assert_eq!((reason(&side).as_str(), app.count()), ("jwks_unavailable", 0));
    // Who shows no token needs no key.
    assert_eq!(call(&side, "/public", "accept", "*/*").await, 200);
    drop(side);

    published.publish(issuer.jwks());
    let side = start(root()).await;
    assert_eq!(with_token(&side, &issuer.token("alice", 600)).await, 200);
    assert_eq!(with_token(&side, &Signer::new().token("alice", 600)).await, 401);
    assert_eq!(reason(&side), "token_signature");
    // A certificate that nobody trusts is no issuer's.
    let stranger = start(Vec::new()).await;
    assert_eq!(with_token(&stranger, &issuer.token("alice", 600)).await, 401);
}

#[tokio::test]
async fn a_revoked_token_is_refused_and_so_is_any_while_nobody_knows() {
    let (app, issuer) = (App::start().await, Signer::new());
    let documents = format!("{POLICIES}{}", issuer.request_authentication());
    for known in [true, false] {
        let revocations = issuer.revocations(&["mallory"]);
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/revocations", server.local_addr().unwrap());
        let serving = Task::spawn(async move {
            while let Ok((stream, _)) = server.accept().await {
                let revocations = revocations.clone();
                let service = hyper::service::service_fn(move |_: Request<hyper::body::Incoming>| {
                    let answer = if known { http::Response::new(text(revocations.clone())) } else { status(503) };
                    std::future::ready(Ok::<_, std::convert::Infallible>(answer))
                });
                let builder = hyper::server::conn::http1::Builder::new();
                tokio::spawn(builder.serve_connection(hyper_util::rt::TokioIo::new(stream), service));
            }
        });
        let config = RevocationsConfig { url, issuer: ISSUER.to_owned(), max_age: Duration::from_secs(900) };
        let side = Side::start(&app, &documents, |inbound| inbound.revocations = Some(config)).await;
        let before = app.count();
        assert_eq!(with_token(&side, &issuer.token("mallory", 600)).await, 401);
        let expected = if known { "token_revoked" } else { "revocations_unavailable" };
        assert_eq!(reason(&side), expected);
        let alice = with_token(&side, &issuer.token("alice", 600)).await;
        assert_eq!((alice, app.count() - before), if known { (200, 1) } else { (401, 0) });
        drop(serving);
    }
}

#[tokio::test]
async fn a_token_in_the_query_ends_here_too() {
    let (app, issuer) = (App::start().await, Signer::new());
    let side = Side::start(&app, &format!("{POLICIES}{}", issuer.request_authentication()), |_| ()).await;
    let token = issuer.token("alice", 600);
    let path = format!("/token?a=1&access_token={token}&b=%2f");
    // Under another name the application could take it for what the policies say of the caller.
    assert_eq!(call(&side, &path, "x_sub", "forged").await, 200);
    assert_eq!(app.last_path(), "/token?a=1&b=%2f");
    assert!(!app.last().iter().any(|(name, _)| name == "x_sub"), "{:?}", app.last());
    assert!(app.last().contains(&("x-sub".to_owned(), "alice".to_owned())), "{:?}", app.last());
    // Without a token nothing is said, by nobody.
    assert_eq!(call(&side, "/public?a=1", "x_sub", "forged").await, 200);
    assert!(!app.last().iter().any(|(name, _)| name.ends_with("sub")), "{:?}", app.last());

    let request = Request::get("/token?access_token=a.b.c").header("host", "reviews").body(text("")).unwrap();
    let refused = side.plain(request).await.unwrap();
    assert_eq!((refused.status.as_u16(), &refused.headers["www-authenticate"]), (401, &"Bearer".parse().unwrap()));
}
