//! OAuth clients, as administrators see and change them.

pub(crate) mod fields;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::secret::Secret;
use platform::table::{Held, TableOf};
use serde_json::{Map, Value, json};

use crate::admin::body::wrong;
use crate::admin::{Call, Paging, etag, no_content, not_found, outrun, precondition, unavailable, versioned};
use crate::client::{Authentication, ClientRecord, ClientState};
use crate::client_auth::secret_hash;
use crate::event::Response;
use crate::refusal::Refusal;
use crate::revocations::{self, Revoked};
use crate::signing_key::MAX_TOKEN_LIFE_SECONDS;
use crate::{Inner, api_keys, hex};

/// Secrets of a client, at most: one, and a second one while it is being changed.
const MAX_SECRETS: usize = 2;
/// How long other execution environments go on with the record that they remember, in seconds.
const REMEMBERED_SECONDS: u64 = 60;
const CLOCKS_DIFFER_SECONDS: u64 = 60;
const SECRET_BYTES: usize = 32;
/// What tables call a record that was made just now.
const FIRST_VERSION: u64 = 1;

fn table(issuer: &Inner) -> &TableOf<ClientRecord> {
    issuer.clients.table()
}

/// What an administrator is shown: the record, and how many secrets there are instead of their hashes.
fn view(record: &ClientRecord) -> Value {
    let mut shown = match serde_json::to_value(record) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(),
    };
    shown.remove("secret_hashes");
    if record.authentication == Authentication::ClientSecret {
        shown.insert("secrets".to_owned(), record.secret_hashes.len().into());
    }
    Value::Object(shown)
}

/// The view with a new secret, which is shown this once.
fn view_with_secret(record: &ClientRecord, secret: Option<&Secret<String>>) -> Value {
    let mut shown = view(record);
    if let Some(secret) = secret {
        shown["client_secret"] = json!(secret.expose());
    }
    shown
}

/// `GET /v1/clients`.
pub(crate) async fn list(call: &Call<'_>) -> Result<Response, Refusal> {
    let paging = Paging::read(call.request)?;
    let page = table(call.issuer).page(paging.after.as_deref(), paging.limit).await.map_err(unavailable)?;
    let clients: Vec<Value> = page.records.iter().map(|(_, held)| view(&held.value)).collect();
    Ok(Response::private_json(200, json!({"clients": clients, "next": page.next}).to_string()))
}

/// `POST /v1/clients`.
pub(crate) async fn create(call: Call<'_>) -> Result<Response, Refusal> {
    let body = call.body(&fields::KNOWN_AT_CREATION)?;
    let client_id = match body.text("client_id")? {
        Some(id) if fields::is_new_client_id(id) => id.to_owned(),
        Some(_) => return Err(wrong("client_id", fields::CLIENT_ID_RULE)),
        None => hex(&random::<16>(call.issuer)?),
    };
    // A record with another proof than the role closes the IAM door to the role that has this client.
    if call.issuer.config.registry.has_client(&client_id) {
        return Err(Refusal::new(409, "already_exists", "the registry of IAM roles has a client with this client_id"));
    }
    let mut record = ClientRecord {
        created_at: Some(call.now()),
        created_by: Some(call.who.principal.clone()),
        grants: vec!["client_credentials".to_owned()],
        ..ClientRecord::new(&client_id)
    };
    fields::apply(&mut record, &body)?;
    fields::refuse_iam(&record)?;
    fields::validate(&record)?;
    let secret = match record.authentication {
        Authentication::ClientSecret => Some(new_secret(call.issuer)?),
        _ => None,
    };
    record.secret_hashes = secret.iter().map(secret_hash).collect();
    if !table(call.issuer).create(&client_id, &record, None).await.map_err(unavailable)? {
        return Err(Refusal::new(409, "already_exists", "there is a client with this client_id"));
    }
    call.issuer.clients.forget(&client_id);
    call.changed("client_created", &client_id, None, Some(view(&record)));
    Ok(versioned(201, &view_with_secret(&record, secret.as_ref()), etag(record.created_at, FIRST_VERSION)))
}

/// `GET /v1/clients/{id}`.
pub(crate) async fn read(call: &Call<'_>, id: &str) -> Result<Response, Refusal> {
    let held = get(call.issuer, id).await?;
    Ok(versioned(200, &view(&held.value), tag(&held)))
}

/// `PATCH /v1/clients/{id}`: the named members take the place of what is there; null takes one away.
pub(crate) async fn change(call: Call<'_>, id: &str) -> Result<Response, Refusal> {
    let body = call.body(&fields::KNOWN)?;
    if body.is_empty() {
        return Err(Refusal::invalid_request("there is nothing to change"));
    }
    let held = get(call.issuer, id).await?;
    precondition(call.request, &tag(&held))?;
    let mut record = held.value.clone();
    fields::apply(&mut record, &body)?;
    // The settings of a role's client may be changed; no other client becomes one.
    if held.value.authentication == Authentication::Iam || call.issuer.config.registry.has_client(id) {
        fields::check_of_role(&record, &body)?;
    } else {
        fields::refuse_iam(&record)?;
    }
    if record.authentication != Authentication::ClientSecret {
        record.secret_hashes.clear();
    } else if record.secret_hashes.is_empty() {
        return Err(wrong("authentication", "a client without a secret cannot begin to have one; make a new client"));
    }
    fields::validate(&record)?;
    let version = replace(call.issuer, &held, &record).await?;
    call.changed("client_changed", id, Some(view(&held.value)), Some(view(&record)));
    Ok(versioned(200, &view(&record), etag(record.created_at, version)))
}

/// `POST /v1/clients/{id}/secrets`: a new secret beside the newest one, or with `{"revoke_others": true}` instead of all.
pub(crate) async fn add_secret(call: Call<'_>, id: &str) -> Result<Response, Refusal> {
    let body = call.body(&["revoke_others"])?;
    let revoke_others = body.flag("revoke_others")?.unwrap_or(false);
    let held = get(call.issuer, id).await?;
    precondition(call.request, &tag(&held))?;
    if held.value.authentication != Authentication::ClientSecret {
        return Err(Refusal::new(409, "no_secrets", "the client does not authenticate with a secret"));
    }
    let secret = new_secret(call.issuer)?;
    let mut record = held.value.clone();
    if revoke_others {
        record.secret_hashes.clear();
    }
    // The newest one is the last; the oldest goes.
    while record.secret_hashes.len() >= MAX_SECRETS {
        record.secret_hashes.remove(0);
    }
    record.secret_hashes.push(secret_hash(&secret));
    let version = replace(call.issuer, &held, &record).await?;
    let action = if revoke_others { "client_secrets_replaced" } else { "client_secret_added" };
    call.changed(action, id, Some(view(&held.value)), Some(view(&record)));
    Ok(versioned(201, &view_with_secret(&record, Some(&secret)), etag(record.created_at, version)))
}

/// `DELETE /v1/clients/{id}`: disables it, revokes its API keys and tokens, then deletes it. Whatever fails, doing it
/// again finishes it.
pub(crate) async fn delete(mut call: Call<'_>, id: &str) -> Result<Response, Refusal> {
    let held = get(call.issuer, id).await?;
    precondition(call.request, &tag(&held))?;
    // Without its record a role has what the registry says, and a disabled one would be open again.
    if call.issuer.config.registry.has_client(id) {
        return Err(Refusal::new(
            409,
            "in_registry",
            "the registry gives this client to an IAM role: disable it, or take it out of CAUSEWAY_REGISTRY first",
        ));
    }
    let before = view(&held.value);
    // Disabled first: whoever makes a key for it looks again afterwards, so that a key is either found here or not
    // given out.
    let held = match held.value.state {
        ClientState::Disabled => held,
        ClientState::Active => {
            let record = ClientRecord { state: ClientState::Disabled, ..held.value.clone() };
            let version = replace(call.issuer, &held, &record).await?;
            call.begun("client_disabled", id, Some(before.clone()), Some(view(&record)));
            Held { value: record, version }
        }
    };
    api_keys::revoke_of_client(call.issuer, id).await?;
    // An environment that remembers the client may give it tokens for a minute more, and its clock may be ahead.
    let moment = call.now() + REMEMBERED_SECONDS + CLOCKS_DIFFER_SECONDS + 1;
    let life = MAX_TOKEN_LIFE_SECONDS.max(call.issuer.config.refresh_ttl_seconds);
    if call.issuer.deps.tables.revocations.is_configured() {
        revocations::revoke(call.issuer, Revoked::ClientBefore(id, moment), moment + life).await?;
    }
    if !table(call.issuer).delete(id, held.version).await.map_err(unavailable)? {
        return Err(outrun());
    }
    call.issuer.clients.forget(id);
    call.changed("client_deleted", id, Some(before), None);
    Ok(no_content())
}

/// The client, read now.
pub(crate) async fn get(issuer: &Inner, id: &str) -> Result<Held<ClientRecord>, Refusal> {
    table(issuer).get(id).await.map_err(unavailable)?.ok_or_else(|| not_found("client"))
}

fn tag(held: &Held<ClientRecord>) -> String {
    etag(held.value.created_at, held.version)
}

async fn replace(issuer: &Inner, held: &Held<ClientRecord>, record: &ClientRecord) -> Result<u64, Refusal> {
    let id = &record.client_id;
    if !table(issuer).replace(id, record, None, held.version).await.map_err(unavailable)? {
        return Err(outrun());
    }
    issuer.clients.forget(id);
    Ok(held.version + 1)
}

fn new_secret(issuer: &Inner) -> Result<Secret<String>, Refusal> {
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(random::<SECRET_BYTES>(issuer)?)))
}

pub(crate) fn random<const N: usize>(issuer: &Inner) -> Result<[u8; N], Refusal> {
    let mut bytes = [0; N];
    issuer.deps.random.fill(&mut bytes).map_err(|error| Refusal::internal(error.to_string()))?;
    Ok(bytes)
}
