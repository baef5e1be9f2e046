//! Usage plans of API Gateway, which hear of every change of a key, at once or later.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::duplicate_mod)]

#[path = "common/admin.rs"]
mod admin;
mod common;

use admin::AdminWorld;
use authz::api_key::usage_plan_key;
use common::PEPPER;
use identity::secret::Secret;
use key_issuer::UsagePlanError;
use serde_json::{Value, json};

fn value(id: &str) -> String {
    usage_plan_key("dev", id, &Secret::new(PEPPER.as_bytes().to_vec()))
}

async fn state(world: &AdminWorld, id: &str) -> Value {
    world.call("GET", &format!("/v1/api-keys/{id}"), None).await.json()["usage_plan_state"].clone()
}

async fn reconcile(world: &AdminWorld) -> Value {
    world.world.issuer.handle(json!({"reconcile": "usage-plans"})).await.unwrap()
}

#[tokio::test]
async fn a_plan_hears_of_every_change() {
    let world = AdminWorld::new().await;
    let (id, key) = world.new_key(json!({"usage_plan": "plan1"})).await;
    assert_eq!(world.plans.get(&id), Some((value(&id), true, "plan1".to_owned())));
    assert_eq!(state(&world, &id).await, "synced");
    assert!(!world.plans.get(&id).unwrap().0.contains(&key[20..]));
    let path = format!("/v1/api-keys/{id}");
    for (body, expected) in [
        (json!({"state": "disabled"}), Some((false, "plan1"))),
        (json!({"state": "active"}), Some((true, "plan1"))),
        (json!({"usage_plan": "plan2"}), Some((true, "plan2"))),
        (json!({"usage_plan": null}), None),
        (json!({"usage_plan": "plan1"}), Some((true, "plan1"))),
    ] {
        assert_eq!(world.call("PATCH", &path, Some(body.clone())).await.status(), 200);
        let found = world.plans.get(&id);
        let found = found.as_ref().map(|(_, enabled, plan)| (*enabled, plan.as_str()));
        assert_eq!(found, expected, "{body}");
    }
    // A rotation is nothing to the plan: the key stays the same there.
    let calls = *world.plans.calls.lock().unwrap();
    assert_eq!(world.call("POST", &format!("{path}/rotate"), None).await.status(), 200);
    assert_eq!(*world.plans.calls.lock().unwrap(), calls);
    assert_eq!(world.call("POST", &format!("{path}/revoke"), None).await.status(), 200);
    assert!(!world.plans.get(&id).unwrap().1);
    assert_eq!(world.call("DELETE", &path, None).await.status(), 204);
    assert_eq!(world.plans.get(&id), None);
}

#[tokio::test]
async fn what_a_plan_has_not_heard_is_told_again() {
    let world = AdminWorld::new().await;
    world.plans.fail(1, &UsagePlanError::Failed("no answer in time".to_owned()));
    let (id, _) = world.new_key(json!({"usage_plan": "plan1"})).await;
    assert_eq!((state(&world, &id).await, world.plans.get(&id)), (json!("pending"), None));
    assert_eq!(reconcile(&world).await, json!({"synced": 1, "pending": 0}));
    assert_eq!((state(&world, &id).await, world.plans.get(&id).is_some()), (json!("synced"), true));
    assert_eq!(reconcile(&world).await, json!({"synced": 0, "pending": 0}));
    // A revocation counts at the doors though the plan is out.
    world.plans.fail(1, &UsagePlanError::Throttled { retry_after: None });
    let revoked = world.call("POST", &format!("/v1/api-keys/{id}/revoke"), None).await;
    assert_eq!((revoked.status(), revoked.json()["state"].clone()), (200, json!("revoked")));
    assert!(world.plans.get(&id).unwrap().1);
    // A deletion waits for the plan, since afterwards nobody would know of its key.
    world.plans.fail(2, &UsagePlanError::Failed("out".to_owned()));
    assert_eq!(world.call("DELETE", &format!("/v1/api-keys/{id}"), None).await.status(), 503);
    assert_eq!(reconcile(&world).await, json!({"synced": 1, "pending": 0}));
    assert!(!world.plans.get(&id).unwrap().1);
}

/// Whoever may set the target of EventBridge's rule writes its events.
#[tokio::test]
async fn what_eventbridge_may_invoke_takes_nothing_from_an_event() {
    let mut world = AdminWorld::new().await;
    let scheduled = json!({"version": "0", "source": "aws.events", "detail-type": "Scheduled Event", "detail": {}});
    assert!(world.world.issuer.handle(scheduled.clone()).await.is_err(), "the issuer has no schedule");

    world.plans.fail(1, &UsagePlanError::Failed("no answer in time".to_owned()));
    let (id, _) = world.new_key(json!({"usage_plan": "plan1"})).await;
    let path = format!("/v1/api-keys/{id}/revoke");
    let forged = [
        world.event("POST", &path, None),
        common::iam_event(common::IAM_URL, "/v1/clients", common::ROLE_SESSION),
        json!({"Step": "createSecret", "SecretId": "signing", "ClientRequestToken": "t"}),
        scheduled,
    ];
    world.restart_with(&[("CAUSEWAY_USAGE_PLANS", "only")]);
    let mut synced = 1;
    for event in forged {
        let said = world.world.issuer.handle(event.clone()).await.unwrap();
        assert_eq!(said, json!({"synced": synced, "pending": 0}), "{event}");
        synced = 0;
    }
    world.restart();
    let key = world.call("GET", &format!("/v1/api-keys/{id}"), None).await.json();
    assert_eq!((&key["state"], &key["usage_plan_state"]), (&json!("active"), &json!("synced")));
}

#[tokio::test(start_paused = true)]
async fn a_busy_api_gateway_is_waited_for_and_not_for_ever() {
    let world = AdminWorld::new().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        world.plans.fail(1, &UsagePlanError::Failed("out".to_owned()));
        ids.push(world.new_key(json!({"usage_plan": "plan1"})).await.0);
    }
    let busy = UsagePlanError::Throttled { retry_after: Some(3) };
    world.plans.fail(2, &busy);
    let start = tokio::time::Instant::now();
    assert_eq!(reconcile(&world).await, json!({"synced": 3, "pending": 0}));
    let took = start.elapsed().as_millis();
    assert!((6_750..7_000).contains(&took), "two waits of 3 s, and a pace of 250 ms a key: {took}");
    for id in &ids {
        assert_eq!(
            world.call("PATCH", &format!("/v1/api-keys/{id}"), Some(json!({"usage_plan": "plan2"}))).await.status(),
            200
        );
    }
    world.plans.fail(3, &UsagePlanError::Failed("out".to_owned()));
    for id in &ids {
        assert_eq!(
            world.call("PATCH", &format!("/v1/api-keys/{id}"), Some(json!({"usage_plan": "plan3"}))).await.status(),
            200
        );
    }
    world.plans.fail(6, &busy);
    assert_eq!(reconcile(&world).await, json!({"synced": 0, "pending": 3}));
    assert_eq!(reconcile(&world).await, json!({"synced": 3, "pending": 0}));
}
