//! The issuer and its faults: slow, down, with another clock, with another root, and full of nonsense.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::*;
use http::Request;
use identity::{TrustBundle, tls};
use platform::clock::FixedClock;

/// No test waits that long for a request that is to be answered.
const LONG: Duration = Duration::from_secs(30);

async fn stage(mood: Mood, wait: Duration) -> (Arc<Mesh>, MeshServer, Stage) {
    let mesh = Arc::new(Mesh::new());
    let server = MeshServer::start(&mesh, RATINGS).await;
    let stage = Stage::with(&mesh, server.address, mood, |egress| egress.identity_wait = wait).await;
    (mesh, server, stage)
}

/// How many SVIDs came and were taken.
fn renewals(stage: &Stage) -> usize {
    stage.lines.all().iter().filter(|line| line.contains("spiffe_id")).count()
}

/// Lets half of an SVID's life pass, and has it renewed by a request.
async fn half_a_life_later(stage: &Stage) {
    let before = renewals(stage);
    stage.clock.advance(Duration::from_secs(LIFE * 55 / 100));
    // This one starts the renewal and does not wait for it.
    stage.get("/renews").await;
    until("the SVID is renewed", || renewals(stage) > before).await;
}

#[tokio::test]
async fn requests_wait_for_a_slow_issuer() {
    let (_mesh, server, stage) = stage(Mood::Slow, LONG).await;
    let early: Vec<_> = (0..8)
        .map(|n| tokio::spawn(call(stage.address, Request::get(format!("{URL}/{n}")).body(text("")).unwrap())))
        .collect();
    // What goes elsewhere is answered meanwhile: the wait holds up nobody else.
    let elsewhere = Request::get("http://elsewhere.example/").body(text("")).unwrap();
    assert!(stage.call(elsewhere).await.is(502, "unknown_host"));
    assert_eq!(server.connections(), 0);
    stage.issuer.set(Mood::Good);
    for request in early {
        assert_eq!(request.await.unwrap().status, 200);
    }
    assert_eq!(stage.issuer.svids.load(Ordering::SeqCst), 1, "one asks for all");
}

#[tokio::test]
async fn nobody_waits_for_ever_for_an_issuer() {
    let (_mesh, server, stage) = stage(Mood::Slow, Duration::from_millis(50)).await;
    let answer = stage.get("/").await;
    assert!(answer.is(503, "identity_unavailable") && answer.body.contains("no answer"), "{answer:?}");
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn an_issuer_that_is_down_at_half_life_costs_no_request() {
    let (_mesh, server, stage) = stage(Mood::Good, LONG).await;
    assert_eq!(stage.get("/").await.status, 200);
    // Its own token, so that only the SVID has to last.
    let own = || Request::get(format!("{URL}/")).header("authorization", "mine").body(text("")).unwrap();
    stage.clock.advance(Duration::from_secs(LIFE * 52 / 100));
    for mood in [Mood::Down, Mood::Says(200, "{}"), Mood::OtherRoot] {
        stage.issuer.set(mood);
        for _ in 0..3 {
            assert_eq!(stage.call(own()).await.status, 200, "{mood:?}");
            stage.clock.advance(Duration::from_secs(6));
        }
    }
    let failed = || stage.lines.all().iter().any(|line| line.contains(r#""state":"failed""#));
    until("a renewal fails", failed).await;
    assert_eq!(renewals(&stage), 1, "{:?}", stage.lines.all());
    stage.issuer.set(Mood::Good);
    stage.clock.advance(Duration::from_secs(6));
    assert_eq!(stage.call(own()).await.status, 200);
    // Each request may start a fetch; one of before may still have been on its way to fail.
    let mut more = 0;
    while renewals(&stage) < 2 {
        stage.clock.advance(Duration::from_secs(6));
        assert_eq!(stage.call(own()).await.status, 200);
        more += 1;
    }
    stage.clock.advance(Duration::from_secs(LIFE * 6 / 10));
    assert_eq!(stage.call(own()).await.status, 200, "long after the end of the first one");
    assert_eq!(server.count(), 12 + more);
}

#[tokio::test]
async fn a_wrong_clock_never_makes_a_wrong_identity() {
    // Seconds by which the function's clock is ahead of the issuer's. Signatures are good for five minutes either way;
    // an SVID begins one minute before the issuer's now.
    for (ahead, expected) in [
        (-3_600_i64, Some("403")),
        (-240, Some("our own verifier refused")),
        (-30, None),
        (30, None),
        (240, None),
        (3_600, Some("403")),
    ] {
        let mesh = Arc::new(Mesh::new());
        let server = MeshServer::start(&mesh, RATINGS).await;
        let issuer = FakeIssuer::start(Arc::clone(&mesh), Arc::new(FixedClock::at(real_now()))).await;
        let (url, address) = (issuer.url.clone(), server.address);
        let stage = Stage::with(&mesh, address, Mood::Good, |egress| egress.issuer_url = url).await;
        stage.clock.set(real_now().saturating_add_signed(ahead));
        let answer = stage.get("/").await;
        match expected {
            None => assert_eq!(answer.status, 200, "{ahead}: {answer:?}"),
            Some(why) => {
                assert!(answer.is(503, "identity_unavailable") && answer.body.contains(why), "{ahead}: {answer:?}");
                assert_eq!(server.connections(), 0, "{ahead}");
                // Set right, also backwards, it goes on.
                stage.clock.set(real_now() + 10);
                assert_eq!(stage.get("/").await.status, 200, "{ahead}, set right");
            }
        }
    }
}

#[tokio::test]
async fn nonsense_of_the_issuer_is_no_identity() {
    let huge: &'static str = Box::leak("x".repeat(1_000_000).into_boxed_str());
    let deep: &'static str = Box::leak(format!("{}1", r#"{"chain":"#.repeat(10_000)).into_boxed_str());
    for mood in [
        Mood::Says(200, ""),
        Mood::Says(200, "<html>Welcome to the hotel's network</html>"),
        Mood::Says(200, "null"),
        Mood::Says(200, "[]"),
        Mood::Says(200, "{}"),
        Mood::Says(200, r#"{"chain":[],"bundle":"","spiffe_id":""}"#),
        Mood::Says(200, r#"{"chain":["x"],"bundle":"y","spiffe_id":"spiffe://cluster.local/ns/bookinfo/sa/a"}"#),
        Mood::Says(200, r#"{"chain":"x","bundle":{},"spiffe_id":1}"#),
        Mood::Says(200, r#"{"chain":["#),
        Mood::Says(200, huge),
        Mood::Says(200, deep),
        Mood::Says(204, ""),
        Mood::Says(302, "elsewhere"),
        Mood::Says(403, r#"{"Message":"Forbidden"}"#),
        Mood::Says(429, ""),
        Mood::OtherKey,
    ] {
        let (_mesh, server, stage) = stage(mood, Duration::from_millis(300)).await;
        let answer = stage.get("/").await;
        assert!(answer.is(503, "identity_unavailable"), "{mood:?}: {answer:?}");
        assert!(answer.body.len() < 1_000 && answer.body.lines().count() == 1, "{mood:?}: {}", answer.body);
        assert_eq!(server.connections(), 0);
        stage.issuer.set(Mood::Good);
        stage.clock.advance(Duration::from_secs(10));
        assert_eq!(stage.get("/").await.status, 200, "{mood:?}, and then sense");
    }
}

#[tokio::test]
async fn a_mesh_moves_to_a_new_root_without_a_lost_request() {
    let (old, server, stage) = stage(Mood::Good, LONG).await;
    let new = Arc::new(Mesh::new());
    let both = format!("{}{}", old.root_pem(), new.root_pem());
    let bundle = |roots: &str| TrustBundle::from_pem("cluster.local".parse().unwrap(), roots.as_bytes()).unwrap();
    let presents = |mesh: &Mesh, trusts: &str| {
        server.present(tls::server_config(&mesh.svid(RATINGS), &bundle(trusts), &["istio-http/1.1"]).unwrap());
        server.cut();
    };
    assert_eq!(stage.get("/").await.status, 200);
    // First everybody trusts both roots …
    stage.issuer.rotate(&old, both.clone());
    half_a_life_later(&stage).await;
    presents(&old, &both);
    assert_eq!(stage.get("/").await.status, 200);
    // … then everybody gets an SVID of the new one, the services first …
    presents(&new, &both);
    assert_eq!(stage.get("/").await.status, 200);
    stage.issuer.rotate(&new, both);
    half_a_life_later(&stage).await;
    assert_eq!(stage.get("/").await.status, 200);
    // … and then the old root goes.
    stage.issuer.rotate(&new, new.root_pem().to_owned());
    half_a_life_later(&stage).await;
    presents(&new, new.root_pem());
    assert_eq!(stage.get("/").await.status, 200);

    // Who still shows an SVID of the old one is nobody now.
    let before = server.count();
    presents(&old, &format!("{}{}", old.root_pem(), new.root_pem()));
    let answer = stage.get("/").await;
    assert!(answer.is(503, "tls_failed"), "{answer:?}");
    assert_eq!(server.count(), before);
}

#[tokio::test]
async fn a_root_that_is_gone_closes_the_way_until_the_next_svid() {
    let (_old, server, stage) = stage(Mood::Good, LONG).await;
    assert_eq!(stage.get("/").await.status, 200);
    // Everything changes at once, and the extension still has the SVID of before.
    let new = Arc::new(Mesh::new());
    stage.issuer.rotate(&new, new.root_pem().to_owned());
    server.present(tls::server_config(&new.svid(RATINGS), &new.bundle(), &["istio-http/1.1"]).unwrap());
    server.cut();
    let answer = stage.get("/").await;
    assert!(answer.is(503, "tls_failed"), "{answer:?}");
    half_a_life_later(&stage).await;
    assert_eq!(stage.get("/").await.status, 200);
}
