//! API keys as subject tokens: checked by the same code as at the doors of the services, and worth the same claims.

use authz::api_key::Refusal as KeyRefusal;
use authz::{ApiKey, ApiKeyRecord, Claims, KeyState};
use identity::secret::Secret;
use platform::store::StoreError;
use platform::table::TableOf;

use super::subject::{Subject, refused};
use super::{MayAct, subject_of};
use crate::Inner;
use crate::client::{Authentication, ClientRecord, ClientState};
use crate::client_auth::{self, Who};
use crate::client_cache::Age;
use crate::event::Request;
use crate::refusal::Refusal;
use crate::revocations::{self, Revoked};
use crate::token::{API_KEY, scope};

/// The shortest pepper, in bytes: HMAC-SHA-256 with a shorter key could be searched for.
const MIN_PEPPER_BYTES: usize = 16;

/// Reads the pepper out of its secret.
pub(crate) fn pepper(secret: &str, _now: u64) -> Result<Secret<Vec<u8>>, String> {
    if secret.len() < MIN_PEPPER_BYTES {
        return Err(format!("found {} bytes, expected at least {MIN_PEPPER_BYTES}", secret.len()));
    }
    Ok(Secret::new(secret.as_bytes().to_vec()))
}

/// The subject of a key that is valid now: what `ApiKeyAuthentication` makes out of it, too.
pub(super) async fn subject(issuer: &Inner, request: &Request, text: &str) -> Result<Subject, Refusal> {
    let (record, expires_at) = checked(issuer, request, text).await?;
    for what in [Revoked::Key(&record.id), Revoked::Client(&record.client_id)] {
        if revocations::is_listed(issuer, what).await? {
            return Err(refused("subject token", "is an API key that is revoked, or of a client that is"));
        }
    }
    let client = client(issuer, &record.client_id).await?;
    let (mut scope, mut audience) = (scope::tokens(&record.scope), record.audiences);
    if let Some(client) = &client {
        // What the client has lost since the key was made. A role's client that lists nothing has what the registry
        // says.
        let is_left = |own: &[String], one: &String| {
            own.contains(one) || (client.authentication == Authentication::Iam && own.is_empty())
        };
        scope.retain(|scope| is_left(&client.scopes, scope));
        audience.retain(|audience| is_left(&client.audiences, audience));
    }
    Ok(Subject {
        sub: subject_of(&record.client_id),
        scope,
        audience,
        expires_at,
        is_bound: false,
        act: None,
        may_act: client.and_then(|client| MayAct::of_clients(&client.may_act)),
        jti: None,
        ancestors: Vec::new(),
        api_key: Some(record.id),
        refresh_family: None,
        client_id: record.client_id,
    })
}

/// The settings of a key's client. A key of a client that has no record is a key all the same, as it is at the doors of
/// the services; of a disabled client it is none.
pub(super) async fn client(issuer: &Inner, client_id: &str) -> Result<Option<ClientRecord>, Refusal> {
    match client_auth::record(issuer, client_id, Age::Any).await? {
        Some(record) if record.state != ClientState::Active => {
            Err(refused("subject token", "is an API key of a disabled client"))
        }
        found => Ok(found),
    }
}

/// The record of a key, by its public id.
pub(in crate::token) async fn record(issuer: &Inner, id: &str) -> Result<Option<ApiKeyRecord>, Refusal> {
    let deps = &issuer.deps;
    let table = TableOf::<ApiKeyRecord>::new("api_keys", deps.tables.api_keys.clone(), deps.clock.clone());
    match table.get(id).await {
        Ok(held) => Ok(held.map(|held| held.value)),
        Err(error @ StoreError::Malformed { .. }) => Err(Refusal::internal(error.to_string())),
        Err(error @ StoreError::Unavailable { .. }) => Err(Refusal::unavailable(error.to_string())),
    }
}

/// The record of the presented key, and when its value ends, in seconds since 1970. Whoever tries keys is slowed down
/// like one that tries secrets.
async fn checked(issuer: &Inner, request: &Request, text: &str) -> Result<(ApiKeyRecord, Option<u64>), Refusal> {
    let key = ApiKey::parse(text).map_err(|error| refused("subject token", &format!("is no API key: {error}")))?;
    let now = issuer.deps.clock.unix();
    let who = Who::new(&format!("API key {}", key.id()), request.source_ip.as_deref());
    if let Err(seconds) = issuer.throttle.check(&who, now)
        && !issuer.throttle.was_right(text)
    {
        return Err(client_auth::too_many(seconds));
    }
    let pepper = issuer.pepper().await?;
    let record = record(issuer, key.id()).await?;
    let environment = issuer.config.environment.as_deref();
    let refusal = match authz::api_key::check(&key, record.as_ref(), &pepper, environment, now) {
        Ok(accepted) => {
            issuer.throttle.note(text, true);
            return Ok((accepted.record.clone(), accepted.ends_at));
        }
        Err(refusal) => refusal,
    };
    if refusal == KeyRefusal::Damaged {
        return Err(Refusal::internal(format!("the record of the API key {} is damaged", key.id())));
    }
    issuer.throttle.failed(&who, now);
    issuer.throttle.note(text, false);
    let why = match refusal {
        KeyRefusal::Unknown | KeyRefusal::Damaged => "is unknown".to_owned(),
        KeyRefusal::Environment => format!("is an API key of another environment (id {})", key.id()),
        KeyRefusal::Disabled => format!("is a disabled API key (id {})", key.id()),
        KeyRefusal::Revoked => format!("is a revoked API key (id {})", key.id()),
        KeyRefusal::NotYetValid => format!("is an API key that is not valid yet (id {})", key.id()),
        KeyRefusal::Expired => format!("is an expired API key (id {})", key.id()),
    };
    Err(refused("subject token", &why))
}

/// Whether a token comes from an API key that may not be used any more. One that is disabled, or was given an earlier
/// end, is on no list of revocations: its record says it.
pub(crate) async fn is_key_stopped(issuer: &Inner, claims: &Claims) -> Result<bool, Refusal> {
    let Some(id) = claims.text(API_KEY).filter(|_| issuer.deps.tables.api_keys.is_configured()) else {
        return Ok(false);
    };
    let now = issuer.deps.clock.unix();
    Ok(!record(issuer, id).await?.is_some_and(|record| is_usable(&record, now)))
}

/// Whether a key that was valid once may be used still.
pub(in crate::token) fn is_usable(record: &ApiKeyRecord, now: u64) -> bool {
    record.state == KeyState::Active && record.expires_at.is_none_or(|expires_at| now < expires_at)
}
