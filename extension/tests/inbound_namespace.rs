//! The SVID of a sidecar and the namespace whose policies it applies: where they differ, nobody is judged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod inbound_stage;

use std::sync::atomic::Ordering;
use std::time::Duration;

use common::*;
use http::Request;
use inbound_stage::*;

const WORD: &str = "identity_of_another_namespace";

fn get(path: &str) -> Request<Body> {
    Request::get(path).header("host", "reviews.bookinfo:9080").body(text("")).unwrap()
}

/// What the log says of identities that are not taken.
fn refused(side: &Side) -> Vec<String> {
    let identities = side.events("identity").into_iter().filter(|line| line["state"] == "refused");
    identities.map(|line| line["error"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_identity_of_another_namespace_is_not_shown() {
    let app = App::start().await;
    // What applies everywhere also applies to a namespace that is a mistake.
    let everywhere = "
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: all, namespace: istio-system}
spec: {rules: [{to: [{operation: {paths: [/public]}}]}]}
";
    let side = Side::in_namespace(&app, &format!("{POLICIES}{everywhere}"), "shop").await;
    side.says(WORD).await;
    // It is said before anybody calls, and once.
    let expected = "found an SVID of the namespace bookinfo, expected shop (CAUSEWAY_NAMESPACE)";
    assert_eq!(refused(&side), [expected]);
    assert!(side.secure(OTHER, get("/public")).await.is_err());
    assert_eq!(side.events("inbound_refused").pop().unwrap()["error"], expected);
    // Who needs no handshake is judged by the same policies.
    let answer = side.plain(get("/public")).await.unwrap();
    assert!(answer.is(503, WORD) && !answer.headers.contains_key("retry-after"), "{answer:?}");
    let line = side.events("inbound").pop().unwrap();
    assert_eq!((&line["reason"], &line["detail"]), (&WORD.into(), &expected.into()));
    assert_eq!((app.count(), side.events("decision").len()), (0, 0));
    assert_eq!(refused(&side).len(), 1);
}

#[tokio::test]
async fn a_renewal_into_another_namespace_ends_it_until_it_is_mended() {
    let app = App::start().await;
    let side = Side::start(&app, POLICIES, |_| ()).await;
    let mut kept = side.kept(OTHER).await;
    assert_eq!(kept.get("/known").await, 200);
    side.issuer.set(Mood::Named("spiffe://cluster.local/ns/shop/sa/reviews"));
    side.clock.advance(Duration::from_secs(LIFE * 55 / 100));
    side.health().await;
    until("the SVID is renewed", || side.issuer.svids.load(Ordering::SeqCst) == 2).await;
    side.says(WORD).await;
    assert_eq!(refused(&side), ["found an SVID of the namespace shop, expected bookinfo (CAUSEWAY_NAMESPACE)"]);
    // On a connection from before as well.
    assert_eq!(kept.get("/known").await, 503);
    assert_eq!(side.plain(get("/public")).await.unwrap().status, 503);
    // An SVID that has ended makes the policies no better.
    side.issuer.set(Mood::Down);
    side.clock.advance(Duration::from_secs(2 * LIFE));
    side.says("identity_unavailable").await;
    let answer = side.plain(get("/public")).await.unwrap();
    assert!(answer.is(503, WORD), "{answer:?}");
    assert_eq!(app.count(), 1);

    side.issuer.set(Mood::Good);
    side.clock.advance(Duration::from_secs(60));
    side.ready().await;
    assert_eq!(side.plain(get("/public")).await.unwrap().status, 200);
}

#[tokio::test]
async fn an_identity_that_names_no_namespace_passes() {
    let app = App::start().await;
    let mood = Mood::Named("spiffe://cluster.local/workload/reviews");
    let side = Side::in_mood(&app, POLICIES, mood, |_| ()).await;
    side.ready().await;
    assert_eq!(side.plain(get("/public")).await.unwrap().status, 200);
    assert!(refused(&side).is_empty());
}
