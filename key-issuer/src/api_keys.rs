//! API keys, as administrators make, rotate and revoke them. A value is shown once, when it is made; what is kept is its
//! hash.
//!
//! Each change is one conditional write, so nothing is half done. An answer that gets lost leaves a key whose value nobody
//! has seen, which opens nothing: it is found in the list and deleted, or rotated to get a value.

use authz::api_key::{ApiKey, PreviousValue, UsagePlanState, hex};
use authz::{ApiKeyRecord, KeyState};
use identity::secret::Secret;
use platform::table::{Held, TableOf};
use serde_json::{Map, Value, json};

use crate::admin::body::wrong;
use crate::admin::{Body, Call, Paging, etag, no_content, not_found, outrun, precondition, unavailable, versioned};
use crate::client::{ClientRecord, ClientState};
use crate::clients_admin::{self, fields};
use crate::event::Response;
use crate::refusal::Refusal;
use crate::revocations::{self, Revoked};
use crate::{Inner, usage_plans};

/// How long a revoked key is on the list, in seconds: longer than any verifier remembers the record that it was. After
/// that the record alone says so.
const LISTED_SECONDS: u64 = 86_400;
/// How long the value before a rotation is accepted if nothing else is said, and at most, in seconds.
const DEFAULT_OVERLAP: u64 = 86_400;
const MAX_OVERLAP: u64 = 30 * 86_400;
const MAX_NAME_BYTES: usize = 128;
/// How often a revocation is tried when others are faster.
const ATTEMPTS: usize = 5;
/// Pages of records that are looked through for the keys of one client.
const MAX_PAGES: usize = 100;
const PAGE: usize = 1_000;

pub(crate) fn table(issuer: &Inner) -> &TableOf<ApiKeyRecord> {
    &issuer.api_keys
}

/// What an administrator is shown: the record, and how many values there are instead of their hashes.
pub(crate) fn view(record: &ApiKeyRecord) -> Value {
    let mut shown = match serde_json::to_value(record) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(),
    };
    shown.remove("hashes");
    shown.remove("previous");
    shown.remove("scope");
    shown.insert("scopes".to_owned(), record.scope.split(' ').filter(|scope| !scope.is_empty()).collect());
    if let Some(previous) = &record.previous {
        shown.insert("previous_value_ends_at".to_owned(), previous.ends_at.into());
    }
    Value::Object(shown)
}

/// `GET /v1/api-keys?client_id=…`. A page may have fewer keys than asked for, or none, although there are more: `next` says.
pub(crate) async fn list(call: &Call<'_>) -> Result<Response, Refusal> {
    let paging = Paging::read(call.request)?;
    let page = table(call.issuer).page(paging.after.as_deref(), paging.limit).await.map_err(unavailable)?;
    let of_client = |record: &ApiKeyRecord| paging.client_id.as_ref().is_none_or(|id| *id == record.client_id);
    let keys: Vec<Value> =
        page.records.iter().filter(|(_, held)| of_client(&held.value)).map(|(_, held)| view(&held.value)).collect();
    Ok(Response::private_json(200, json!({"api_keys": keys, "next": page.next}).to_string()))
}

/// `POST /v1/api-keys`.
pub(crate) async fn create(call: Call<'_>) -> Result<Response, Refusal> {
    let body = call.body(&[
        "environment",
        "client_id",
        "scopes",
        "audiences",
        "not_before",
        "expires_at",
        "name",
        "usage_plan",
    ])?;
    let (environment, client_id) = (body.required("environment")?, body.required("client_id")?);
    let client = client(call.issuer, client_id).await?;
    let key = new_value(call.issuer, environment, None)?;
    let mut record = ApiKeyRecord {
        id: key.id().to_owned(),
        client_id: client_id.to_owned(),
        environment: environment.to_owned(),
        hashes: vec![hash(call.issuer, &key).await?],
        state: KeyState::Active,
        not_before: body.number("not_before")?,
        created_at: Some(call.now()),
        created_by: Some(call.who.principal.clone()),
        ..ApiKeyRecord::default()
    };
    apply(call.issuer, &mut record, &body, &client)?;
    if record.not_before.zip(record.expires_at).is_some_and(|(from, until)| from >= until) {
        return Err(wrong("not_before", "expected a time before expires_at"));
    }
    if !table(call.issuer).create(&record.id, &record, None).await.map_err(unavailable)? {
        // 2^-70 or so; whoever retries gets another id.
        return Err(outrun());
    }
    let held = Held { value: record, version: 1 };
    // Its client may have been deleted since it was read, by somebody who has not found this key.
    if let Err(refusal) = self::client(call.issuer, client_id).await {
        revoke_key(call.issuer, held).await?;
        return Err(refusal);
    }
    let held = usage_plans::settle(call.issuer, held).await;
    let id = held.value.id.clone();
    call.changed("api_key_created", &id, None, Some(view(&held.value)));
    Ok(with_value(201, &held, &key))
}

/// `GET /v1/api-keys/{id}`.
pub(crate) async fn read(call: &Call<'_>, id: &str) -> Result<Response, Refusal> {
    let held = get(call.issuer, id).await?;
    Ok(versioned(200, &view(&held.value), tag(&held)))
}

/// `PATCH /v1/api-keys/{id}`: the named members take the place of what is there; null takes one away.
pub(crate) async fn change(call: Call<'_>, id: &str) -> Result<Response, Refusal> {
    let body = call.body(&["state", "scopes", "audiences", "expires_at", "name", "usage_plan"])?;
    if body.is_empty() {
        return Err(Refusal::invalid_request("there is nothing to change"));
    }
    let held = get(call.issuer, id).await?;
    precondition(call.request, &tag(&held))?;
    if held.value.state == KeyState::Revoked {
        return Err(revoked());
    }
    let mut record = held.value.clone();
    match body.text("state")? {
        None => {}
        Some("active") => record.state = KeyState::Active,
        Some("disabled") => record.state = KeyState::Disabled,
        Some(_) => return Err(wrong("state", "expected active or disabled; a key is revoked by POST …/revoke")),
    }
    // What takes something away is taken whatever became of the client.
    let client = match gives_more(&held.value, &record, &body)? {
        true => client(call.issuer, &record.client_id).await?,
        false => ClientRecord::new(&record.client_id),
    };
    apply(call.issuer, &mut record, &body, &client)?;
    let before = view(&held.value);
    let held = store(call.issuer, &held, record).await?;
    let held = usage_plans::settle(call.issuer, held).await;
    call.changed("api_key_changed", id, Some(before), Some(view(&held.value)));
    Ok(versioned(200, &view(&held.value), tag(&held)))
}

/// `POST /v1/api-keys/{id}/rotate`: a new value; the one before ends after `overlap_seconds`, and any older one now.
pub(crate) async fn rotate(call: Call<'_>, id: &str) -> Result<Response, Refusal> {
    let body = call.body(&["overlap_seconds"])?;
    let overlap = body.number("overlap_seconds")?.unwrap_or(DEFAULT_OVERLAP);
    if overlap > MAX_OVERLAP {
        return Err(wrong("overlap_seconds", format!("expected at most {MAX_OVERLAP}")));
    }
    let held = get(call.issuer, id).await?;
    precondition(call.request, &tag(&held))?;
    if held.value.state == KeyState::Revoked {
        return Err(revoked());
    }
    let key = new_value(call.issuer, &held.value.environment, Some(id))?;
    let mut record = held.value.clone();
    // The newest value is the first. Two at most are live, and the one before the last is not among them.
    record.previous = record
        .hashes
        .first()
        .filter(|_| overlap > 0)
        .map(|hash| PreviousValue { hash: hash.clone(), ends_at: call.now() + overlap });
    record.hashes = vec![hash(call.issuer, &key).await?];
    let before = view(&held.value);
    let held = store(call.issuer, &held, record).await?;
    call.changed("api_key_rotated", id, Some(before), Some(view(&held.value)));
    Ok(with_value(200, &held, &key))
}

/// `POST /v1/api-keys/{id}/revoke`. Doing it twice is doing it once.
pub(crate) async fn revoke(call: Call<'_>, id: &str) -> Result<Response, Refusal> {
    call.body(&[])?;
    let before = get(call.issuer, id).await?;
    precondition(call.request, &tag(&before))?;
    let held = revoke_key(call.issuer, before.clone()).await?;
    call.changed("api_key_revoked", id, Some(view(&before.value)), Some(view(&held.value)));
    Ok(versioned(200, &view(&held.value), tag(&held)))
}

/// `DELETE /v1/api-keys/{id}`: revokes it first, so that verifiers that remember it hear of it.
pub(crate) async fn delete(call: Call<'_>, id: &str) -> Result<Response, Refusal> {
    let before = get(call.issuer, id).await?;
    precondition(call.request, &tag(&before))?;
    let held = revoke_key(call.issuer, before.clone()).await?;
    usage_plans::remove(call.issuer, &held.value).await?;
    if !table(call.issuer).delete(id, held.version).await.map_err(unavailable)? {
        return Err(outrun());
    }
    call.changed("api_key_deleted", id, Some(view(&before.value)), None);
    Ok(no_content())
}

/// Revokes a key for good: in its record, on the list, and in its usage plan. Whatever fails, doing it again finishes it.
pub(crate) async fn revoke_key(issuer: &Inner, held: Held<ApiKeyRecord>) -> Result<Held<ApiKeyRecord>, Refusal> {
    let id = held.value.id.clone();
    let mut held = held;
    for _ in 0..ATTEMPTS {
        if held.value.state == KeyState::Revoked {
            let held = usage_plans::settle(issuer, held).await;
            // Without a list the record alone says it, as soon as verifiers read it again.
            if issuer.deps.tables.revocations.is_configured() {
                revocations::revoke(issuer, Revoked::Key(&id), issuer.deps.clock.unix() + LISTED_SECONDS).await?;
            }
            return Ok(held);
        }
        let record = ApiKeyRecord { state: KeyState::Revoked, ..held.value.clone() };
        held = match store(issuer, &held, record).await {
            Ok(held) => held,
            Err(refusal) if refusal.status == 409 => get(issuer, &id).await?,
            Err(refusal) => return Err(refusal),
        };
    }
    Err(outrun())
}

/// Ends the value before the last rotation, which was to be accepted for a while; `false` if somebody else was faster.
pub(crate) async fn end_previous_value(issuer: &Inner, held: &Held<ApiKeyRecord>) -> Result<bool, Refusal> {
    let record = ApiKeyRecord { previous: None, ..held.value.clone() };
    match store(issuer, held, record).await {
        Ok(_) => Ok(true),
        Err(refusal) if refusal.status == 409 => Ok(false),
        Err(refusal) => Err(refusal),
    }
}

/// Revokes all keys of a client.
///
/// # Errors
/// 409 when there are more records than one request can look through; those that were found are revoked.
pub(crate) async fn revoke_of_client(issuer: &Inner, client_id: &str) -> Result<(), Refusal> {
    if !issuer.deps.tables.api_keys.is_configured() {
        return Ok(());
    }
    let mut after: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let page = table(issuer).page(after.as_deref(), PAGE).await.map_err(unavailable)?;
        for (_, held) in page.records {
            // One that is revoked already may not be on the list yet: whoever revoked it may have been interrupted.
            if held.value.client_id == client_id {
                revoke_key(issuer, held).await?;
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
    Err(Refusal::new(
        409,
        "too_many_api_keys",
        "there are too many API keys to look through; revoke the client's first",
    ))
}

/// The key, read now.
pub(crate) async fn get(issuer: &Inner, id: &str) -> Result<Held<ApiKeyRecord>, Refusal> {
    table(issuer).get(id).await.map_err(unavailable)?.ok_or_else(|| not_found("API key"))
}

fn tag(held: &Held<ApiKeyRecord>) -> String {
    etag(held.value.created_at, held.version)
}

/// Writes the changed record, which API Gateway has not heard of yet.
async fn store(
    issuer: &Inner,
    held: &Held<ApiKeyRecord>,
    mut record: ApiKeyRecord,
) -> Result<Held<ApiKeyRecord>, Refusal> {
    usage_plans::mark(&held.value, &mut record);
    let id = &record.id;
    if !table(issuer).replace(id, &record, None, held.version).await.map_err(unavailable)? {
        return Err(outrun());
    }
    Ok(Held { value: record, version: held.version + 1 })
}

/// Whether a change could give a key anything: other scopes or audiences, another state than disabled, a later end.
fn gives_more(before: &ApiKeyRecord, after: &ApiKeyRecord, body: &Body) -> Result<bool, Refusal> {
    let ends_later = body.get("expires_at").is_some()
        && body.number("expires_at")?.is_none_or(|end| before.expires_at.is_some_and(|ended| ended < end));
    let opens = after.state == KeyState::Active && body.get("state").is_some();
    Ok(ends_later || opens || body.get("scopes").is_some() || body.get("audiences").is_some())
}

/// The members that both `POST` and `PATCH` take.
fn apply(issuer: &Inner, record: &mut ApiKeyRecord, body: &Body, client: &ClientRecord) -> Result<(), Refusal> {
    if let Some(scopes) = body.list("scopes")? {
        fields::scopes(&scopes)?;
        subset("scopes", &scopes, &client.scopes)?;
        record.scope = scopes.join(" ");
    }
    if let Some(audiences) = body.list("audiences")? {
        fields::audiences(&audiences)?;
        subset("audiences", &audiences, &client.audiences)?;
        record.audiences = audiences;
    }
    if body.get("expires_at").is_some() {
        record.expires_at = body.number("expires_at")?;
        if record.expires_at.is_some_and(|at| at <= issuer.deps.clock.unix()) {
            return Err(wrong("expires_at", "expected a time to come, in seconds since 1970"));
        }
    }
    if body.get("name").is_some() {
        record.name = body.text("name")?.map(str::to_owned);
        let fits = |name: &String| (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control);
        if record.name.as_ref().is_some_and(|name| !fits(name)) {
            return Err(wrong("name", format!("expected 1 to {MAX_NAME_BYTES} bytes without control characters")));
        }
    }
    if body.get("usage_plan").is_some() {
        if issuer.usage_plans.is_none() && !body.is_null("usage_plan") {
            return Err(wrong("usage_plan", "expected none: CAUSEWAY_USAGE_PLANS is not on"));
        }
        record.usage_plan = body.text("usage_plan")?.map(str::to_owned);
        let fits = |id: &String| (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric());
        if record.usage_plan.as_ref().is_some_and(|id| !fits(id)) {
            return Err(wrong("usage_plan", "expected the id of a usage plan of API Gateway"));
        }
        record.usage_plan_state = Some(UsagePlanState::Pending);
    }
    Ok(())
}

/// A key opens nothing that its client may not.
fn subset(name: &str, wanted: &[String], allowed: &[String]) -> Result<(), Refusal> {
    match wanted.iter().position(|one| !allowed.contains(one)) {
        Some(place) => Err(wrong(&format!("{name}[{place}]"), "is none of the client's")),
        None => Ok(()),
    }
}

async fn client(issuer: &Inner, client_id: &str) -> Result<ClientRecord, Refusal> {
    match clients_admin::get(issuer, client_id).await {
        Ok(held) if held.value.state == ClientState::Active => Ok(held.value),
        Ok(_) => Err(wrong("client_id", "the client is disabled")),
        Err(refusal) if refusal.status == 404 => Err(wrong("client_id", "there is no such client")),
        Err(refusal) => Err(refusal),
    }
}

fn new_value(issuer: &Inner, environment: &str, id: Option<&str>) -> Result<ApiKey, Refusal> {
    let random = clients_admin::random::<48>(issuer)?;
    let made = match id {
        None => ApiKey::generate(environment, &random),
        Some(id) => ApiKey::generate_for(environment, id, &random),
    };
    made.map_err(|error| wrong("environment", error))
}

async fn hash(issuer: &Inner, key: &ApiKey) -> Result<String, Refusal> {
    let pepper = issuer.pepper().await?;
    Ok(hex(&key.hash(&pepper)))
}

/// The key with its value, which is shown this once.
fn with_value(status: u16, held: &Held<ApiKeyRecord>, key: &ApiKey) -> Response {
    let mut shown = view(&held.value);
    let value: &Secret<String> = key.text();
    shown["api_key"] = json!(value.expose());
    versioned(status, &shown, tag(held))
}

fn revoked() -> Refusal {
    Refusal::new(409, "key_revoked", "the API key is revoked, and stays so; make a new one")
}
