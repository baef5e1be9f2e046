//! API keys that a usage plan of API Gateway counts. Their records say what API Gateway should have and whether it has
//! heard of it; a change that it has not heard of, for whatever reason, is told again by [`reconcile`].

use std::time::Duration;

use authz::api_key::{UsagePlanState, usage_plan_key};
use authz::{ApiKeyRecord, KeyState};
use identity::secret::Secret;
use platform::table::Held;
pub use platform::usage_plans::{PlanKey, UsagePlanError, UsagePlans};
use serde_json::{Value, json};

use crate::refusal::Refusal;
use crate::{Inner, api_keys};

/// CreateApiKey takes 5 a second for the whole account, and this is not the only caller.
const PACE: Duration = Duration::from_millis(250);
/// Keys that one run brings up to date, so that it ends before the function's time does.
const KEYS_OF_A_RUN: usize = 50;
/// Waits of one run for an API Gateway that is busy, and the longest of them in seconds.
const WAITS: usize = 5;
const MAX_WAIT_SECONDS: u64 = 5;
const PAGE: usize = 1_000;
const MAX_PAGES: usize = 100;

/// Whether this is the event by which whoever may invoke the issuer asks for [`reconcile`].
pub(crate) fn is_event(event: &Value) -> bool {
    event.get("reconcile").and_then(Value::as_str) == Some("usage-plans")
}

/// Notes in a record that is about to be written whether API Gateway has to hear of the change.
pub(crate) fn mark(before: &ApiKeyRecord, after: &mut ApiKeyRecord) {
    let concerned = before.usage_plan.is_some() || after.usage_plan.is_some();
    if concerned && (before.state != after.state || before.usage_plan != after.usage_plan) {
        after.usage_plan_state = Some(UsagePlanState::Pending);
    }
}

/// Tells API Gateway of a change that it has not heard of. What fails is logged and tried again by [`reconcile`]: the
/// change itself is done, for verifiers go by the record.
pub(crate) async fn settle(issuer: &Inner, held: Held<ApiKeyRecord>) -> Held<ApiKeyRecord> {
    if held.value.usage_plan_state != Some(UsagePlanState::Pending) {
        return held;
    }
    match tell(issuer, &held.value).await {
        Ok(()) => settled(issuer, held).await.unwrap_or_else(|(held, why)| {
            complain(issuer, &held.value.id, &why);
            held
        }),
        Err(error) => {
            complain(issuer, &held.value.id, &error.to_string());
            held
        }
    }
}

/// Takes a key out of API Gateway before its record goes, after which nobody would know of it.
///
/// # Errors
/// 503.
pub(crate) async fn remove(issuer: &Inner, record: &ApiKeyRecord) -> Result<(), Refusal> {
    if record.usage_plan.is_none() && record.usage_plan_state.is_none() {
        return Ok(());
    }
    let Ok(plans) = plans(issuer) else {
        // They were switched off. The key that is left there stands for nothing.
        complain(issuer, &record.id, "usage plans are off, so the key in API Gateway stays");
        return Ok(());
    };
    plans.remove(&record.id).await.map_err(|error| Refusal::unavailable(error.to_string()))
}

/// Tells API Gateway of all changes that it has not heard of, at the pace that it takes. Safe at any time, by several at
/// once, and after a crash anywhere. `{"synced": …, "pending": …}`: what was told, and what is left for the next run.
///
/// # Errors
/// The table does not answer.
pub(crate) async fn reconcile(issuer: &Inner) -> Result<Value, String> {
    let (mut synced, mut pending, mut waits) = (0_usize, 0_usize, 0_usize);
    if issuer.usage_plans.is_none() || !issuer.deps.tables.api_keys.is_configured() {
        return Ok(json!({"synced": synced, "pending": pending}));
    }
    let mut after: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let page = api_keys::table(issuer).page(after.as_deref(), PAGE).await.map_err(|error| error.to_string())?;
        for (id, held) in page.records {
            if held.value.usage_plan_state != Some(UsagePlanState::Pending) {
                continue;
            }
            if synced >= KEYS_OF_A_RUN || waits > WAITS {
                pending += 1;
                continue;
            }
            match tell_patiently(issuer, &held.value, &mut waits).await {
                Ok(()) => match settled(issuer, held).await {
                    Ok(_) => synced += 1,
                    Err((_, why)) => {
                        complain(issuer, &id, &why);
                        pending += 1;
                    }
                },
                Err(error) => {
                    complain(issuer, &id, &error.to_string());
                    pending += 1;
                }
            }
            tokio::time::sleep(PACE).await;
        }
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    issuer.deps.log.write(&json!({"event": "usage_plans_reconciled", "ts": issuer.deps.clock.unix(),
        "synced": synced, "pending": pending}));
    Ok(json!({"synced": synced, "pending": pending}))
}

async fn tell_patiently(issuer: &Inner, record: &ApiKeyRecord, waits: &mut usize) -> Result<(), UsagePlanError> {
    loop {
        match tell(issuer, record).await {
            Err(UsagePlanError::Throttled { retry_after }) if *waits < WAITS => {
                *waits += 1;
                let seconds = retry_after.unwrap_or(1).clamp(1, MAX_WAIT_SECONDS);
                tokio::time::sleep(Duration::from_secs(seconds)).await;
            }
            Err(error @ UsagePlanError::Throttled { .. }) => {
                *waits += 1;
                return Err(error);
            }
            outcome => return outcome,
        }
    }
}

async fn tell(issuer: &Inner, record: &ApiKeyRecord) -> Result<(), UsagePlanError> {
    let plans = plans(issuer)?;
    let Some(plan) = &record.usage_plan else { return plans.remove(&record.id).await };
    let pepper = issuer.pepper().await.map_err(|_| UsagePlanError::Failed("the pepper cannot be had".to_owned()))?;
    let value = Secret::new(usage_plan_key(&record.environment, &record.id, &pepper));
    let enabled = record.state == KeyState::Active;
    plans.ensure(PlanKey { name: &record.id, value: &value, enabled, plan }).await
}

/// Notes that API Gateway has heard of it, unless the record has been changed since, of which it has not.
async fn settled(issuer: &Inner, held: Held<ApiKeyRecord>) -> Result<Held<ApiKeyRecord>, (Held<ApiKeyRecord>, String)> {
    let state = held.value.usage_plan.as_ref().map(|_| UsagePlanState::Synced);
    let record = ApiKeyRecord { usage_plan_state: state, ..held.value.clone() };
    match api_keys::table(issuer).replace(&record.id, &record, None, held.version).await {
        Ok(true) => Ok(Held { value: record, version: held.version + 1 }),
        Ok(false) => Err((held, "the record was changed at the same time".to_owned())),
        Err(error) => Err((held, error.to_string())),
    }
}

fn plans(issuer: &Inner) -> Result<&dyn UsagePlans, UsagePlanError> {
    let plans = issuer.usage_plans.as_deref();
    plans.ok_or_else(|| UsagePlanError::Failed("there are no usage plans: CAUSEWAY_USAGE_PLANS is not set".to_owned()))
}

fn complain(issuer: &Inner, id: &str, why: &str) {
    let ts = issuer.deps.clock.unix();
    issuer.deps.log.write(&json!({"event": "usage_plan_pending", "ts": ts, "api_key": id, "detail": why}));
}
