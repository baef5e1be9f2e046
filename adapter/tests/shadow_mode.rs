//! Shadow mode in the mesh: Envoy is told to let pass what would be denied, and to take out what was refused.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it expects by failing")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use adapter::{Adapter, CLIENT_ID_HEADER, Exchange, ExchangeConfig, PRINCIPAL_HEADER};
use authz::{KeyState, ShadowMode};
use common::issuer::{ISSUER, Issuer, NOW, reader, with};
use common::{Act, Answer, Endpoint, World, check, decision, deps, key, place, policies, record};
use platform::clock::{Clock, FixedClock};
use platform::front::Deps;
use platform::https::Reach;
use platform::log::Log;
use platform::store::{self, ApiKeys};
use serde_json::json;

const NOBODY: &str = "[{ from: [{ source: { requestPrincipals: ['nobody/*'] } }] }]";

async fn world(issuer: &Issuer, rules: &str, exchange: Option<Exchange>, workloads: &str) -> World {
    let store = Arc::new(store::Embedded::in_memory());
    for (seed, state) in [(1, KeyState::Active), (2, KeyState::Revoked)] {
        ApiKeys::put(&*store, &record(seed, state)).await.unwrap();
    }
    let (clock, (log, lines)) = (Arc::new(FixedClock::at(NOW)), Log::memory());
    let deps = deps(store.clone(), clock.clone(), log);
    let mode = Some(ShadowMode::new(workloads, NOW + 60).unwrap());
    let adapter = Adapter::with_shadow_mode(place(), policies(issuer, rules), deps, exchange, mode).unwrap();
    World { adapter, clock, lines, store }
}

#[tokio::test]
async fn what_is_refused_is_taken_out_and_what_is_proven_is_told() {
    let issuer = Issuer::new();
    let world = world(&issuer, NOBODY, None, "bookinfo/app=ratings").await;
    let good = format!("Bearer {}", issuer.token(&reader()));
    let expired = format!("Bearer {}", issuer.token(&with(reader(), "exp", json!(NOW - 61))));
    let (active, revoked, unknown) = (key(1), key(2), key(3));
    let forged = [(PRINCIPAL_HEADER, "admin"), (CLIENT_ID_HEADER, "admin"), ("x-causeway-other", "admin")];
    let principal = format!("{ISSUER}/client:reader");
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, Option<&'a str>);
    let rows: [Row<'_>; 8] = [
        ("nothing", &[], "no_credential", None),
        ("a good token", &[("authorization", &good)], "denied_no_match", Some(&principal)),
        ("a good key", &[("x-api-key", &active)], "denied_no_match", Some(&principal)),
        ("an expired token", &[("authorization", &expired)], "token_expired", None),
        ("a bad token", &[("authorization", "Bearer e30.e30.e30")], "token_malformed", None),
        ("a revoked key", &[("x-api-key", &revoked)], "api_key_revoked", None),
        ("an unknown key", &[("x-api-key", &unknown)], "api_key_unknown", None),
        (
            "a bad key beside a good token",
            &[("x-api-key", &revoked), ("authorization", &good)],
            "api_key_revoked",
            None,
        ),
    ];
    for (name, headers, reason, principal) in rows {
        let sent: Vec<(&str, &str)> = headers.iter().copied().chain(forged).collect();
        let (answer, line) = world.ask(&sent).await;
        assert_eq!(
            (answer.status, &line["reason"], &line["shadow"]),
            (200, &json!(reason), &json!(true)),
            "{name}: {line}"
        );
        assert_eq!(answer.set.get(PRINCIPAL_HEADER).map(String::as_str), principal, "{name}");
        for (header, _) in headers.iter().chain(&[("x-causeway-other", "")]) {
            assert!(answer.removed.contains(&(*header).to_owned()), "{name}: {header} in {:?}", answer.removed);
            assert!(!answer.set.contains_key(*header), "{name}: {header}");
        }
        for header in [PRINCIPAL_HEADER, CLIENT_ID_HEADER] {
            assert_eq!(answer.removed.contains(&header.to_owned()), principal.is_none(), "{name}: {header}");
        }
    }
    let metrics = world.adapter.metrics();
    for expected in [
        "causeway_decisions_total{verdict=\"shadow\",reason=\"denied_no_match\"} 2",
        "causeway_decisions_total{verdict=\"shadow\",reason=\"api_key_revoked\"} 2",
        "causeway_decisions_total{verdict=\"deny\",reason=\"denied_no_match\"} 0",
    ] {
        assert!(metrics.contains(expected), "{expected}: {metrics}");
    }
    // A token in the query cannot be taken out by the answer to Envoy.
    let bad = check("/ratings/0?access_token=e30.e30.e30", &[]);
    assert_eq!(Answer::from(world.adapter.check(bad).await).status, 401);
    // Basic credentials are none of the policies', and stay.
    let (answer, _) = world.ask(&[("authorization", "Basic YTpi")]).await;
    assert_eq!((answer.status, answer.removed.contains(&"authorization".to_owned())), (200, false));

    // The end, which is for good: also when the clock is set back.
    world.clock.set(NOW + 60);
    assert_ne!(world.ask(&[]).await.0.status, 200);
    world.clock.set(NOW);
    for (name, headers, reason, _) in rows {
        let (answer, line) = world.ask(headers).await;
        assert_ne!(answer.status, 200, "{name}");
        assert_eq!((&line["reason"], line.get("shadow")), (&json!(reason), None), "{name}");
    }
}

#[tokio::test]
async fn another_workload_and_what_cannot_be_judged_is_denied() {
    let issuer = Issuer::new();
    let elsewhere = world(&issuer, NOBODY, None, "bookinfo/app=reviews,orders").await;
    assert_eq!(elsewhere.ask(&[]).await.0.status, 403);
    let everywhere = world(&issuer, NOBODY, None, "*").await;
    for path in ["/ratings/../0", "/ratings/%00", "ratings", "*"] {
        everywhere.lines.drain();
        let answer = Answer::from(everywhere.adapter.check(check(path, &[])).await);
        assert_ne!(answer.status, 200, "{path}: {}", decision(&everywhere.lines));
    }
}

#[tokio::test]
async fn a_key_without_its_token_goes_on_as_nobody_s() {
    let issuer = Issuer::new();
    let endpoint = Endpoint::start(Act::Answer(500, "{}".to_owned())).await;
    let config = ExchangeConfig { url: format!("http://{}", endpoint.address), audience: None };
    let clock = Arc::new(FixedClock::at(NOW));
    let wait = std::time::Duration::from_secs(30);
    let exchange = Exchange::with(&config, Reach::Private, Vec::new(), clock, wait).unwrap();
    let world = world(&issuer, common::READER, Some(exchange), "*").await;
    let (active, revoked) = (key(1), key(2));
    let (answer, line) = world.ask(&[("x-api-key", &active)]).await;
    assert_eq!((answer.status, &line["reason"], &line["shadow"]), (200, &json!("exchange_unavailable"), &json!(true)));
    assert!(answer.removed.contains(&"x-api-key".to_owned()) && answer.set.is_empty(), "{answer:?}");
    // The mesh would look for a token there, and find one that was refused.
    let (answer, line) = world.ask(&[("x-api-key", &revoked), ("authorization", "Bearer e30.e30.e30")]).await;
    assert_eq!((answer.status, &line["reason"]), (200, &json!("api_key_revoked")));
    for header in ["x-api-key", "authorization"] {
        assert!(answer.removed.contains(&header.to_owned()), "{header}: {answer:?}");
    }
}

#[tokio::test]
async fn the_start_names_workloads_that_the_bundle_does_not_know() {
    let issuer = Issuer::new();
    for (workloads, unknown) in
        [("bookinfo/app=ratings", json!(null)), ("bookinfo/app=rating", json!(["bookinfo/app=rating"]))]
    {
        let world = world(&issuer, NOBODY, None, workloads).await;
        let line: serde_json::Value = serde_json::from_str(&world.lines.all()[0]).unwrap();
        assert_eq!((&line["event"], &line["unknown"]["workloads"]), (&json!("shadow_mode"), &unknown), "{line}");
    }
}

#[tokio::test]
async fn without_shadow_mode_there_are_no_numbers_of_it() {
    let issuer = Issuer::new();
    let store = Arc::new(store::Embedded::in_memory());
    let deps = deps(store, Arc::new(FixedClock::at(NOW)), Log::memory().0);
    let adapter = Adapter::new(place(), policies(&issuer, NOBODY), deps).unwrap();
    assert!(!adapter.metrics().contains("shadow\""), "{}", adapter.metrics());
}

/// A clock with a bug: it panics when the seconds are asked for the given time.
struct Falls {
    at: u64,
    asked: AtomicU64,
}

impl Clock for Falls {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn unix(&self) -> u64 {
        assert_ne!(self.asked.fetch_add(1, Ordering::Relaxed), self.at, "a bug");
        NOW
    }
}

/// Also at the second look of shadow mode, which is the last one at the clock.
#[tokio::test]
async fn a_panic_anywhere_is_a_denial() {
    let issuer = Issuer::new();
    let mut denied = 0;
    for at in 1.. {
        let clock = Arc::new(Falls { at, asked: AtomicU64::new(0) });
        let deps = Deps {
            clock: clock.clone(),
            ..deps(Arc::new(store::Embedded::in_memory()), Arc::new(FixedClock::at(NOW)), Log::memory().0)
        };
        let mode = Some(ShadowMode::new("bookinfo/app=reviews", NOW + 60).unwrap());
        let adapter = Adapter::with_shadow_mode(place(), policies(&issuer, NOBODY), deps, None, mode).unwrap();
        let answer = Answer::from(adapter.check(check("/ratings/0", &[])).await);
        if clock.asked.load(Ordering::Relaxed) <= at {
            // It was not asked as often as that.
            assert_eq!(answer.status, 403);
            break;
        }
        assert_ne!(answer.status, 200);
        denied += 1;
    }
    assert!(denied > 1, "only {denied} looks at the clock");
}
