//! The four steps, one by one.
#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use platform::clock::FixedClock;
use platform::secrets::{Embedded, Secrets};

use super::gated::{event, poll, running};
use super::*;
use crate::Algorithm;
use crate::bootstrap::new_signing_secret_of;

const NOW: u64 = 1_893_456_000;
const TIMING: Timing =
    Timing { verifier_cache: 7200, secret_age: 3600, token_life: 3600, margin: 300, finish_within: 1800 };
const STEPS: [&str; 4] = ["createSecret", "setSecret", "testSecret", "finishSecret"];

fn store() -> Arc<Embedded> {
    let store = Embedded::default();
    store.put("signing", new_signing_secret_of(&[Algorithm::Es256, Algorithm::EdDsa]).unwrap().expose().clone());
    store.start_rotation("signing", "t").unwrap();
    Arc::new(store)
}

fn at(store: &Arc<Embedded>, now: u64, step: &str, version: &str) -> Result<Done, String> {
    let mut running = running(store, TIMING, FixedClock::at(now), event(step, version));
    (0..50).find_map(|_| poll(&mut running)).unwrap()
}

fn outcome(store: &Arc<Embedded>, step: &str) -> Result<&'static str, String> {
    at(store, NOW, step, "t").map(|done| done.outcome)
}

fn block<T>(future: impl Future<Output = T>) -> T {
    let mut future: std::pin::Pin<Box<dyn Future<Output = T> + '_>> = Box::pin(future);
    poll(&mut future).unwrap()
}

fn current(store: &Embedded) -> SecretFile {
    SecretFile::parse(block(store.get("signing")).unwrap().expose()).unwrap()
}

fn stages(store: &Embedded, version: &str) -> Vec<String> {
    block(store.describe("signing")).unwrap().versions.remove(version).unwrap_or_default()
}

#[test]
fn a_rotation_and_each_step_twice() {
    let store = store();
    let before = current(&store);
    let created = at(&store, NOW, "createSecret", "t").unwrap();
    assert_eq!((created.outcome, created.kids.len(), created.activate_at), ("created", 2, Some(NOW + 12_900)));
    let again = at(&store, NOW + 5, "createSecret", "t").unwrap();
    assert_eq!((again.outcome, &again.kids), ("created_before", &created.kids), "the keys are not made anew");
    for (step, expected) in [
        ("setSecret", "nothing_to_do"),
        ("set_secret", "nothing_to_do"),
        ("testSecret", "tested"),
        ("test_secret", "tested"),
    ] {
        assert_eq!(outcome(&store, step).as_deref(), Ok(expected), "{step}");
    }
    assert_eq!(current(&store).keys.len(), before.keys.len(), "nothing is in use yet");
    assert_eq!(outcome(&store, "finish_secret").as_deref(), Ok("finished"));
    assert_eq!(stages(&store, "t"), ["AWSCURRENT"]);
    let after = current(&store);
    assert_eq!(succession::check(&before, &after, &TIMING, NOW), Ok(()));
    assert_eq!(after.keys.len(), 4);
    for step in STEPS.into_iter().chain(["create_secret", "finish_secret"]) {
        assert_eq!(outcome(&store, step).as_deref(), Ok("done_before"), "{step}");
    }
    store.start_rotation("signing", "t2").unwrap();
    let error = at(&store, NOW + 12_899, "createSecret", "t2").unwrap_err();
    assert!(error.contains("the last rotation is not over"), "{error}");
    assert_eq!(at(&store, NOW + 12_900, "createSecret", "t2").unwrap().outcome, "created");
}

#[test]
fn what_is_no_rotation_of_ours_is_an_error() {
    let store = store();
    for (step, version, named) in [
        ("createSecret", "unknown", "no such version"),
        ("CreateSecret", "t", "none of the four"),
        ("", "t", "none of the four"),
        ("finishSecret", "t", "createSecret comes first"),
    ] {
        let error = at(&store, NOW, step, version).unwrap_err();
        assert!(error.contains(named), "{step} {version}: {error}");
    }
    let previous = block(store.describe("signing")).unwrap().versions.into_keys().next().unwrap();
    store.put("signing", new_signing_secret_of(&[Algorithm::Es256]).unwrap().expose().clone());
    let error = at(&store, NOW, "createSecret", &previous).unwrap_err();
    assert!(error.contains("not the pending one"), "{error}");
    store.cancel_rotation("signing");
    assert!(outcome(&store, "createSecret").unwrap_err().contains("rotation is not enabled"));
}

#[test]
fn a_crash_after_any_call_of_any_step_is_recovered_from() {
    for step in 0..STEPS.len() {
        for calls in 0..10 {
            let store = store();
            for done in &STEPS[..step] {
                outcome(&store, done).unwrap();
            }
            let mut crashed = running(&store, TIMING, FixedClock::at(NOW), event(STEPS[step], "t"));
            // The first poll leads to the first call and makes none.
            let ended = (0..=calls).any(|_| poll(&mut crashed).is_some());
            drop(crashed);
            for again in STEPS {
                outcome(&store, again).unwrap();
            }
            assert_eq!(stages(&store, "t"), ["AWSCURRENT"], "{} after {calls} calls", STEPS[step]);
            assert_eq!(current(&store).keys.len(), 4);
            if ended {
                break;
            }
            assert!(calls < 9, "a step makes fewer calls than this");
        }
    }
}

#[test]
fn of_two_who_create_one_wins_and_both_agree() {
    let store = store();
    let mut first = running(&store, TIMING, FixedClock::at(NOW), event("createSecret", "t"));
    let mut second = running(&store, TIMING, FixedClock::at(NOW), event("createSecret", "t"));
    let (mut one, mut two) = (None, None);
    while one.is_none() || two.is_none() {
        one = one.or_else(|| poll(&mut first));
        two = two.or_else(|| poll(&mut second));
        // A future that has ended must not be polled again.
        if one.is_some() && two.is_none() {
            two = (0..50).find_map(|_| poll(&mut second));
        }
    }
    let (one, two) = (one.unwrap().unwrap(), two.unwrap().unwrap());
    assert_eq!((one.outcome, two.outcome), ("created", "created_before"));
    assert_eq!(one.kids, two.kids);
}

#[test]
fn of_two_who_finish_one_wins_and_the_other_may_repeat() {
    let store = store();
    outcome(&store, "createSecret").unwrap();
    let mut slow = running(&store, TIMING, FixedClock::at(NOW), event("finishSecret", "t"));
    for _ in 0..4 {
        assert!(poll(&mut slow).is_none());
    }
    assert_eq!(outcome(&store, "finishSecret").as_deref(), Ok("finished"));
    let error = (0..50).find_map(|_| poll(&mut slow)).unwrap().unwrap_err();
    assert!(error.contains("the label is not on the version"), "{error}");
    assert_eq!(outcome(&store, "finishSecret").as_deref(), Ok("done_before"));
    assert_eq!(stages(&store, "t"), ["AWSCURRENT"]);
}

#[test]
fn a_rotation_that_takes_too_long_is_given_up_and_the_next_one_is_possible() {
    for step in ["finishSecret", "createSecret"] {
        let store = store();
        outcome(&store, "createSecret").unwrap();
        let before = current(&store).to_secret();
        let error = at(&store, NOW + 1801, step, "t").unwrap_err();
        assert!(error.contains("before every verifier knows it") && error.contains("given up"), "{error}");
        assert_eq!(current(&store).to_secret().expose(), before.expose());
        assert!(at(&store, NOW + 1801, step, "t").unwrap_err().contains("no such version"));
        store.start_rotation("signing", "t2").unwrap();
        for step in STEPS {
            at(&store, NOW + 1900, step, "t2").unwrap();
        }
        assert_eq!(stages(&store, "t2"), ["AWSCURRENT"]);
    }
}

#[test]
fn keys_that_were_replaced_by_hand_are_not_overruled() {
    let store = store();
    outcome(&store, "createSecret").unwrap();
    store.put("signing", new_signing_secret_of(&[Algorithm::Es256]).unwrap().expose().clone());
    let by_hand = current(&store).to_secret();
    let error = outcome(&store, "finishSecret").unwrap_err();
    assert!(error.contains("lacks the key"), "{error}");
    assert_eq!(current(&store).to_secret().expose(), by_hand.expose());
}

#[test]
fn a_test_of_the_configuration_alone_needs_no_keys_in_the_version() {
    // RotateImmediately=false: the version has no value, or one that is not ours.
    let store = store();
    assert_eq!(outcome(&store, "testSecret").as_deref(), Ok("current_tested"));
    for (value, expected) in [("hunter2", true), ("{}", true), (r#"{"keys":[]}"#, false), (r#"{"keys":[1]}"#, false)] {
        let store = self::store();
        let value = Secret::new(value.to_owned());
        block(store.put_version("signing", "t", &value, PENDING, None)).unwrap();
        let tested = outcome(&store, "testSecret");
        assert_eq!(tested.is_ok(), expected, "{tested:?}");
        // Whatever it is, it never comes into use.
        let error = outcome(&store, "finishSecret").unwrap_err();
        assert!(error.contains("given up") && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn events_show_no_credential() {
    let event: RotationEvent = serde_json::from_value(json!({"Step": "createSecret", "SecretId": "signing",
        "ClientRequestToken": "t", "RotationToken": "hunter2"}))
    .unwrap();
    assert_eq!(event.rotation_token.as_ref().unwrap().expose(), "hunter2");
    assert!(!format!("{event:?}").contains("hunter2"));
    assert!(is_event(&json!({"Step": 1})) && !is_event(&json!({"version": "2.0"})) && !is_event(&json!(null)));
}
