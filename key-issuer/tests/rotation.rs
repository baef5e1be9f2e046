//! Rotation as Secrets Manager drives it: by events to the function's handler.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::*;
use key_issuer::{Config, Deps, InvocationError, KeyIssuer, bootstrap};
use platform::clock::FixedClock;
use platform::env::MapEnv;
use platform::log::{Lines, Log};
use platform::random::SystemRandom;
use platform::secrets::{Embedded, SecretVersions};
use serde_json::{Value, json};

const ARN: &str = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:signing-a1B2c3";
const STEPS: [&str; 4] = ["createSecret", "setSecret", "testSecret", "finishSecret"];

struct Rotated {
    issuer: KeyIssuer,
    secrets: Arc<Embedded>,
    clock: Arc<FixedClock>,
    lines: Lines,
}

async fn world(may_change: bool) -> Rotated {
    let World { directory, .. } = World::new().await;
    let secrets = Arc::new(Embedded::default());
    secrets.put("signing", bootstrap::new_signing_secret().unwrap().expose().clone());
    secrets.start_rotation("signing", "t").unwrap();
    let clock = Arc::new(FixedClock::at(NOW));
    let (log, lines) = Log::memory();
    let env = MapEnv::from([("CAUSEWAY_ISSUER", ISSUER), ("CAUSEWAY_SIGNING_SECRET", "signing")]);
    let deps = Deps {
        tables: directory.tables(),
        secret_versions: may_change.then(|| secrets.clone() as Arc<dyn SecretVersions>),
        secrets: secrets.clone(),
        caller_identity: None,
        clock: clock.clone(),
        random: Arc::new(SystemRandom),
        log,
    };
    Rotated { issuer: KeyIssuer::new(Config::from_env(&env).unwrap(), deps), secrets, clock, lines }
}

impl Rotated {
    async fn step(&self, step: &str) -> Result<Value, InvocationError> {
        self.issuer.handle(json!({"Step": step, "SecretId": ARN, "ClientRequestToken": "t"})).await
    }

    async fn jwks(&self) -> Vec<Value> {
        let answer = Answer(self.issuer.handle(event(PUBLIC_API, "GET", "/jwks.json")).await.unwrap());
        answer.json()["keys"].as_array().unwrap().clone()
    }

    async fn kid_of_a_token(&self) -> String {
        let answer = Answer(self.issuer.handle(token_event("grant_type=client_credentials")).await.unwrap());
        assert_eq!(answer.status(), 200, "{answer:?}");
        let token = answer.json()["access_token"].as_str().unwrap().to_owned();
        jsonwebtoken::decode_header(&token).unwrap().kid.unwrap()
    }
}

#[tokio::test]
async fn four_events_rotate_the_keys_and_the_environment_that_finished_publishes_them_at_once() {
    let world = world(true).await;
    let before = world.jwks().await;
    assert_eq!(before.iter().map(|key| key["alg"].as_str().unwrap()).collect::<Vec<_>>(), ["ES256", "RS256"]);
    let old = world.kid_of_a_token().await;
    world.lines.drain();
    for step in STEPS {
        world.step(step).await.unwrap();
    }
    let audit: Vec<Value> = world.lines.drain().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outcomes: Vec<&str> = audit.iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["created", "nothing_to_do", "tested", "finished"]);
    for (line, step) in audit.iter().zip(STEPS) {
        assert_eq!((&line["event"], &line["step"]), (&json!("signing_keys_rotation"), &json!(step)));
        assert_eq!((&line["version"], &line["secret"], &line["ts"]), (&json!("t"), &json!("signing"), &json!(NOW)));
        assert!(!line.to_string().contains("PRIVATE"), "{line}");
    }
    let activate_at = audit[3]["activate_at"].as_u64().unwrap();
    assert_eq!(activate_at, NOW + 12_900);
    assert_eq!(audit[0]["kids"], audit[3]["kids"]);

    let published = world.jwks().await;
    assert_eq!(published.len(), 4, "both algorithms have a new key, and the old ones stay");
    assert_eq!(published[..2], before[..]);
    assert_eq!(world.kid_of_a_token().await, old);
    world.clock.set(activate_at - 1);
    assert_eq!(world.kid_of_a_token().await, old);
    world.clock.set(activate_at);
    let new = world.kid_of_a_token().await;
    assert_eq!(audit[0]["kids"][0], json!(new));
    assert!(published.iter().any(|key| key["kid"] == json!(new) && key["alg"] == "ES256"));
    world.clock.set(activate_at + 3600 + 300);
    assert_eq!(world.jwks().await.len(), 2, "the old keys have gone");
    world.secrets.start_rotation("signing", "t2").expect("no label is left behind");
}

#[tokio::test]
async fn a_failed_step_is_an_error_of_the_invocation_and_in_the_log() {
    let world = world(true).await;
    let error = world.step("finishSecret").await.unwrap_err();
    assert!(matches!(&error, InvocationError::Rotation(why) if why.contains("createSecret comes first")), "{error}");
    let line = world.lines.drain().pop().unwrap();
    assert!(line.contains("\"failed\"") && line.contains("createSecret comes first"), "{line}");
    assert!(world.step("deleteSecret").await.is_err());
    assert!(!world.lines.drain().pop().unwrap().contains("deleteSecret"), "what a caller writes is not logged");
}

#[tokio::test]
async fn events_that_are_not_for_us_change_nothing() {
    let world = world(true).await;
    let good = json!({"Step": "createSecret", "SecretId": ARN, "ClientRequestToken": "t"});
    let with = |member: &str, value: Value| {
        let mut event = good.clone();
        event[member] = value;
        event
    };
    for event in [
        with("SecretId", json!(ARN.replace("signing", "ca"))),
        with("SecretId", json!(ARN.replace("signing", "signing-abcdef"))),
        with("SecretId", Value::Null),
        with("Step", json!(1)),
        with("ClientRequestToken", json!({})),
        json!({"Step": "createSecret"}),
    ] {
        let error = world.issuer.handle(event.clone()).await.unwrap_err();
        assert!(matches!(error, InvocationError::Unsupported(_)), "{event}: {error}");
    }
    assert!(world.secrets.get_version("signing", "t", "AWSPENDING").await.unwrap().is_none());
    assert!(world.lines.drain().is_empty());
    let unable = self::world(false).await.issuer.handle(good).await.unwrap_err();
    assert!(matches!(unable, InvocationError::Unsupported(_)), "{unable}");
}

#[tokio::test]
async fn the_token_of_a_rotation_in_another_account_is_not_logged() {
    let world = world(true).await;
    let event = json!({"Step": "createSecret", "SecretId": ARN, "ClientRequestToken": "t", "RotationToken": "hunter2"});
    world.issuer.handle(event).await.unwrap();
    assert!(!world.lines.drain().concat().contains("hunter2"));
}
