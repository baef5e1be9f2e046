//! One authorizer for two environments: what opens one never opens the other, whatever was asked before.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../tests/fixtures/environments/events.rs"]
mod events;
mod support;

use std::sync::Arc;

use authorizer::{ApiKeyStore, Config};
use authz::{ApiKey, ApiKeyRecord};
use platform::secrets;
use platform::store::{self, ApiKeys};
use serde_json::{Value, json};

use events::{ENVIRONMENTS, POLICIES, allows, takes_keys, ways_into, with_header};
use support::issuer::{Issuer, reader, with};
use support::{PEPPER, World, api_key, compiled};

async fn world(records: &[ApiKeyRecord], configure: impl FnOnce(Config) -> Config) -> World {
    let store = store::Embedded::in_memory();
    for record in records {
        ApiKeys::put(&store, record).await.unwrap();
    }
    let secrets = secrets::Embedded::default();
    secrets.put("pepper", PEPPER);
    let keys = ApiKeyStore { records: Arc::new(store), secrets: Arc::new(secrets), pepper_id: "pepper".to_owned() };
    let issuer = Issuer::new();
    let policies = compiled(&POLICIES.replace("JWKS", &issuer.jwks()), &authz::CompileOptions::default());
    World::over(policies, issuer, Some(keys), configure)
}

/// The record of a key, for the audiences of both: only the environment keeps it out of the other one.
fn record(key: &ApiKey) -> ApiKeyRecord {
    let audiences = ENVIRONMENTS.map(|environment| format!("bookinfo-{environment}")).to_vec();
    ApiKeyRecord { audiences, ..support::record(key) }
}

fn token(world: &World, environment: &str) -> String {
    let audience = json!([format!("bookinfo-{environment}")]);
    format!("Bearer {}", world.issuer.token(&with(reader(), "aud", audience)))
}

/// The decision about `event`: reason and status. The answer must say the same.
async fn ask(world: &World, event: &Value) -> (String, u64) {
    let (answer, line) = world.ask(event).await;
    assert_eq!(answer.as_ref().is_some_and(allows), line["allowed"] == true, "{line}");
    (line["reason"].as_str().unwrap().to_owned(), line["status"].as_u64().unwrap())
}

/// Asks with one credential at every way into both environments, each after each way into the other one, and returns what
/// was not as expected.
async fn differences(
    world: &World,
    credential: (&str, &str),
    expected: impl Fn(&str) -> (&'static str, u64),
) -> Vec<String> {
    let (header, value) = credential;
    let mut wrong = Vec::new();
    for [first, second] in [["dev", "prod"], ["prod", "dev"]] {
        let pairs = ways_into(first).into_iter().zip(ways_into(second));
        for ((name, one), (_, two)) in pairs.filter(|((_, event), _)| header == "authorization" || takes_keys(event)) {
            for (environment, event) in [(first, &one), (second, &two), (first, &one)] {
                let (reason, status) = ask(world, &with_header(event.clone(), header, value)).await;
                let (wanted, code) = expected(environment);
                if (reason.as_str(), status) != (wanted, code) {
                    wrong.push(format!("{name} of {environment}: {reason} {status}, expected {wanted} {code}"));
                }
            }
        }
    }
    wrong
}

#[tokio::test]
async fn a_token_opens_its_own_environment_alone() {
    let world = world(&[], |config| config).await;
    for own in ENVIRONMENTS {
        let token = token(&world, own);
        let wrong = differences(&world, ("authorization", &token), |environment| {
            if environment == own { ("allowed_by_policy", 200) } else { ("token_audience", 401) }
        });
        assert_eq!(wrong.await, Vec::<String>::new(), "a token of {own}");
    }
    // Only a token that its issuer made for both opens both.
    let audiences = json!(["bookinfo-dev", "bookinfo-prod"]);
    let both = format!("Bearer {}", world.issuer.token(&with(reader(), "aud", audiences)));
    let wrong = differences(&world, ("authorization", &both), |_| ("allowed_by_policy", 200));
    assert_eq!(wrong.await, Vec::<String>::new());
    // The shop behind the gateways takes both audiences; no other one comes so far.
    let other = format!("Bearer {}", world.issuer.token(&with(reader(), "aud", json!(["bookinfo"]))));
    let wrong = differences(&world, ("authorization", &other), |_| ("token_audience", 401));
    assert_eq!(wrong.await, Vec::<String>::new());
}

#[tokio::test]
async fn a_key_opens_its_own_environment_alone() {
    let keys: Vec<ApiKey> = ENVIRONMENTS.iter().zip([1, 2]).map(|(name, seed)| api_key(name, seed)).collect();
    // A record that says another environment than its key.
    let moved =
        |name: &str, seed, to: &str| ApiKeyRecord { environment: to.to_owned(), ..record(&api_key(name, seed)) };
    let records = [record(&keys[0]), record(&keys[1]), moved("dev", 3, "prod"), moved("prod", 4, "dev")];
    let world = world(&records, |config| config).await;
    for (key, own) in keys.iter().zip(ENVIRONMENTS) {
        let text = key.text().expose();
        let wrong = differences(&world, ("x-api-key", text), |environment| {
            if environment == own { ("allowed_by_policy", 200) } else { ("api_key_environment", 401) }
        });
        assert_eq!(wrong.await, Vec::<String>::new(), "a key of {own}");
        let other = if own == "dev" { "prod" } else { "dev" };
        let edited = text.replace(&format!("cwk_{own}_"), &format!("cwk_{other}_"));
        let wrong = differences(&world, ("x-api-key", &edited), |_| ("api_key_malformed", 401));
        assert_eq!(wrong.await, Vec::<String>::new(), "an edited key of {own}");
    }
    // With a checksum that is right, for the id and the secret of the other environment's key.
    for (name, seed) in [("prod", 1), ("dev", 2)] {
        let twin = api_key(name, seed);
        let wrong = differences(&world, ("x-api-key", twin.text().expose()), |_| ("api_key_unknown", 401));
        assert_eq!(wrong.await, Vec::<String>::new(), "a key made for {name}");
    }
    for (name, seed) in [("dev", 3), ("prod", 4)] {
        let key = api_key(name, seed);
        let wrong = differences(&world, ("x-api-key", key.text().expose()), |_| ("api_key_environment", 401));
        assert_eq!(wrong.await, Vec::<String>::new(), "a record of {name} that was moved");
    }
}

#[tokio::test]
async fn key_and_token_must_both_be_of_the_environment() {
    let key = api_key("prod", 2);
    let world = world(&[record(&key)], |config| config).await;
    let dev = token(&world, "dev");
    for (environment, reason) in [("dev", "api_key_environment"), ("prod", "token_audience")] {
        for (name, event) in ways_into(environment).into_iter().filter(|(_, event)| takes_keys(event)) {
            let event = with_header(with_header(event, "x-api-key", key.text().expose()), "authorization", &dev);
            assert_eq!(ask(&world, &event).await.0, reason, "{name} of {environment}");
        }
    }
}

#[tokio::test]
async fn a_host_or_stage_of_no_environment_is_refused() {
    let world = world(&[], |config| config).await;
    let dev = token(&world, "dev");
    let at = |way: usize, change: fn(&mut Value)| {
        let mut event = with_header(ways_into("dev").swap_remove(way).1, "authorization", &dev);
        change(&mut event["requestContext"]);
        event
    };
    let rows = [
        ("another stage", at(0, |context| context["stage"] = "test".into())),
        ("another host of one stage", at(1, |context| context["domainName"] = "test.bookinfo.example".into())),
        ("the generated host", at(1, |context| context["domainName"] = "hosts1.execute-api.x.amazonaws.com".into())),
        (
            "the stage of one, the host of the other",
            at(2, |context| context["domainName"] = "prod.bookinfo.example".into()),
        ),
        ("an API that no document names, and a host of two", at(2, |context| context["apiId"] = "other1".into())),
    ];
    for (name, event) in rows {
        assert_eq!(ask(&world, &event).await, ("gateway_unknown".to_owned(), 403), "{name}");
    }
    // A TOKEN event names no host, which alone tells these stages apart.
    let mut event = with_header(ways_into("dev").pop().unwrap().1, "authorization", &dev);
    event["methodArn"] = "arn:aws:execute-api:eu-central-1:123456789012:hosts1/$default/GET/reviews/0".into();
    assert_eq!(ask(&world, &event).await.0, "gateway_unknown");
}

#[tokio::test]
async fn a_function_of_one_environment_serves_no_other() {
    for own in ENVIRONMENTS {
        let world = world(&[], |config| Config { environment: Some(own.to_owned()), ..config }).await;
        for environment in ENVIRONMENTS {
            let token = token(&world, environment);
            for (name, event) in ways_into(environment) {
                let expected =
                    if environment == own { ("allowed_by_policy", 200) } else { ("configuration_invalid", 403) };
                let (reason, status) = ask(&world, &with_header(event, "authorization", &token)).await;
                assert_eq!((reason.as_str(), status), expected, "{name} of {environment} at {own}");
            }
        }
    }
}
