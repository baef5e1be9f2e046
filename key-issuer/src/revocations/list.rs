//! `GET /revocations`: the signed list that authorizer and adapter load.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use authz::RevokedId;
use authz::revocation::{LIST_TYPE, MAX_CLIENTS_BEFORE, encode_payload};
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::Mutex;

use super::{Entry, Kind, unavailable};
use crate::event::{Request, Response};
use crate::refusal::Refusal;
use crate::{Inner, hex};

/// How long a list is given out again before it is made anew, in seconds. Verifiers ask every minute, so two environments
/// cannot make one of them see an older list after a newer one.
const FRESH_SECONDS: u64 = 30;
/// How long verifiers may use it, in seconds. They have a limit of their own besides.
const LIFE_SECONDS: u64 = 3600;
/// How old a count of what is on the list may be when something is put on it, in seconds.
const COUNT_SECONDS: u64 = 300;
/// The longest list, in bytes: a Lambda function answers with 6 MB, and some are left for what is added at the same time.
const MAX_BYTES: usize = 5_800_000;
/// From how many bytes on there is an alarm, while there is room still: four fifths.
const FILLING_BYTES: usize = MAX_BYTES / 5 * 4;
/// The longest list that a Lambda function can answer with: 6 MB (6,291,556 bytes) with what is around it.
const LONGEST_JWS: usize = 6_200_000;
/// What an id adds to the list: 8 bytes, in base64url, and that in base64url again.
const BYTES_OF_ID: usize = 15;
const PAGE: usize = 5_000;

/// The list that was made last, made by one request at a time.
#[derive(Default)]
pub(crate) struct ListCache(Mutex<Option<Arc<List>>>);

struct List {
    jws: String,
    etag: String,
    made_at: u64,
    /// What is on it, and what was added since.
    bytes: AtomicUsize,
    clients_before: AtomicUsize,
}

/// Answers a request for the list.
pub(crate) async fn answer(issuer: &Inner, request: &Request) -> Result<Response, Refusal> {
    if !issuer.deps.tables.revocations.is_configured() {
        return Err(Refusal::new(404, "not_found", "this issuer keeps no list of revocations"));
    }
    let list = made(issuer, FRESH_SECONDS).await?;
    let mut response = Response::public_json(FRESH_SECONDS, list.jws.clone());
    response.headers.retain(|(name, _)| *name != "Content-Type");
    response.headers.push(("ETag", list.etag.clone()));
    let known = request.headers.only("if-none-match").ok().flatten();
    if known.is_some_and(|known| known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == list.etag)) {
        response.status = 304;
        response.body.clear();
        return Ok(response);
    }
    // RFC 7515 §9.2.1.
    response.headers.push(("Content-Type", "application/jose".to_owned()));
    Ok(response)
}

/// Makes room for a new entry.
///
/// # Errors
/// 507 when there is none.
pub(super) async fn reserve(issuer: &Inner, entry: &Entry) -> Result<(), Refusal> {
    let list = made(issuer, COUNT_SECONDS).await?;
    let (bytes, before) = weight(entry);
    let full = list.bytes.load(Ordering::Relaxed) + bytes > MAX_BYTES
        || list.clients_before.load(Ordering::Relaxed) + before > MAX_CLIENTS_BEFORE;
    if full {
        alarm(issuer, "no more credentials can be revoked: the list is full until some of them expire");
        return Err(Refusal::new(
            507,
            "revocations_full",
            "the list of revocations is full; disable or delete instead",
        ));
    }
    list.bytes.fetch_add(bytes, Ordering::Relaxed);
    list.clients_before.fetch_add(before, Ordering::Relaxed);
    Ok(())
}

/// A list that is not older than `max_age` seconds.
async fn made(issuer: &Inner, max_age: u64) -> Result<Arc<List>, Refusal> {
    let now = issuer.deps.clock.unix();
    let mut held = issuer.revocation_list.0.lock().await;
    // A clock that was set back makes an age unknown, and unknown counts as too old.
    let young = held.as_ref().filter(|list| now.checked_sub(list.made_at).is_some_and(|age| age < max_age));
    if let Some(list) = young {
        return Ok(list.clone());
    }
    let list = Arc::new(make(issuer, now).await?);
    *held = Some(list.clone());
    Ok(list)
}

async fn make(issuer: &Inner, now: u64) -> Result<List, Refusal> {
    let (mut ids, mut clients_before, mut bytes) = (Vec::new(), BTreeMap::new(), 0);
    let mut after: Option<String> = None;
    loop {
        let page = issuer.revoked.page(after.as_deref(), PAGE).await.map_err(unavailable)?;
        for (_, held) in page.records {
            let entry = held.value;
            bytes += weight(&entry).0;
            match (entry.kind, entry.before) {
                (Kind::Budget, _) => {}
                (Kind::Token, _) => ids.push(RevokedId::token(&entry.id)),
                (Kind::Key, _) => ids.push(RevokedId::key(&entry.id)),
                (Kind::Client, _) => ids.push(RevokedId::client(&entry.id)),
                (Kind::Before, Some(moment)) => drop(clients_before.insert(entry.id, moment)),
                (Kind::Before, None) => return Err(Refusal::internal("a revocation of a client has no moment")),
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let payload = encode_payload(&issuer.config.issuer, now, now + LIFE_SECONDS, ids, &clients_before);
    let payload = payload.map_err(|error| {
        alarm(issuer, "the list of revocations cannot be made");
        Refusal::internal(error.to_string())
    })?;
    let payload = RawValue::from_string(payload).map_err(|error| Refusal::internal(error.to_string()))?;
    let keys = issuer.signing_keys().await?;
    let key = keys.signer(None, now).ok_or_else(|| Refusal::internal("there is no signing key"))?;
    let jws = key.sign_jws(LIST_TYPE, &payload).map_err(Refusal::internal)?;
    match Room::of(bytes, jws.len()) {
        Room::Enough => {}
        Room::Little => alarm(issuer, "the list is four fifths full: find out whose credentials are on it"),
        Room::None => {
            alarm(issuer, "the list of revocations is longer than can be answered with");
            return Err(Refusal::new(507, "revocations_full", "the list of revocations is too long"));
        }
    }
    let hash = digest(&SHA256, jws.as_bytes());
    let etag = format!("\"{}\"", hex(hash.as_ref().get(..16).unwrap_or_default()));
    let clients_before = AtomicUsize::new(clients_before.len());
    Ok(List { jws, etag, made_at: now, bytes: AtomicUsize::new(bytes), clients_before })
}

/// How much room a list has.
#[derive(Debug, PartialEq, Eq)]
enum Room {
    Enough,
    Little,
    None,
}

impl Room {
    /// Of a list with so many bytes by the count and so many in fact.
    fn of(counted: usize, jws: usize) -> Self {
        match (counted, jws) {
            (_, LONGEST_JWS..) => Self::None,
            (FILLING_BYTES.., _) => Self::Little,
            _ => Self::Enough,
        }
    }
}

/// Bytes of the list and members of `clients_before`.
fn weight(entry: &Entry) -> (usize, usize) {
    match entry.kind {
        // `"id":1893456000,` with every character of the id escaped at worst, and all of it in base64url.
        Kind::Before => ((entry.id.len() * 6 + 24) * 4 / 3, 1),
        Kind::Token | Kind::Key | Kind::Client => (BYTES_OF_ID, 0),
        Kind::Budget => (0, 0),
    }
}

fn alarm(issuer: &Inner, what: &str) {
    issuer.deps.log.write(&json!({"event": "alarm", "alarm": "revocations_full", "ts": issuer.deps.clock.unix(),
        "detail": what}));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_an_alarm_before_a_list_is_full() {
        for (counted, jws, expected) in [
            (0, 500, Room::Enough),
            (4_639_999, 4_640_000, Room::Enough),
            (4_640_000, 4_640_000, Room::Little),
            (MAX_BYTES, 6_199_999, Room::Little),
            (MAX_BYTES, 6_200_000, Room::None),
            (0, 6_200_000, Room::None),
        ] {
            assert_eq!(Room::of(counted, jws), expected, "{counted} {jws}");
        }
    }
}
