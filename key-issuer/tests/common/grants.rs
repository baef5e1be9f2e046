//! Clients, tokens and API keys for the tests of what is granted.

use authz::{ApiKey, ApiKeyRecord, KeyState};
use identity::secret::Secret;
use key_issuer::ClientRecord;
use platform::table::{Only, Written};
use serde_json::{Value, json};

use super::{Answer, PEPPER, PUBLIC_API, World, bare_event, basic, client, event, form_encode};

pub const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
pub const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
pub const REFRESH_TOKEN: &str = "urn:ietf:params:oauth:token-type:refresh_token";
pub const API_KEY: &str = "urn:causeway:token-type:api-key";

pub fn body(parameters: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = parameters.iter().map(|(n, v)| format!("{n}={}", form_encode(v))).collect();
    pairs.join("&")
}

pub fn secret_of(id: &str) -> String {
    format!("secret of {id}")
}

/// A client with all grants.
pub fn full_client(id: &str) -> ClientRecord {
    let mut record = client(id, &[&secret_of(id)]);
    record.grants = ["client_credentials", TOKEN_EXCHANGE, "refresh_token"].map(str::to_owned).to_vec();
    record
}

/// A request of a client with a secret.
pub fn as_client(id: &str, path: &str, parameters: &[(&str, &str)]) -> Value {
    let mut event = event(PUBLIC_API, "POST", path);
    event["headers"]["Authorization"] = json!(basic(id, &secret_of(id)));
    event["headers"]["content-type"] = json!("application/x-www-form-urlencoded");
    event["body"] = json!(body(parameters));
    event
}

/// A token request of a client to exchange an access token.
pub fn exchange(id: &str, token: &str, more: &[(&str, &str)]) -> Value {
    let mut parameters =
        vec![("grant_type", TOKEN_EXCHANGE), ("subject_token", token), ("subject_token_type", ACCESS_TOKEN)];
    parameters.extend_from_slice(more);
    as_client(id, "/oauth2/token", &parameters)
}

/// A token request of nobody but an API key.
pub fn exchange_key(key: &str, more: &[(&str, &str)]) -> Value {
    let mut parameters = vec![("grant_type", TOKEN_EXCHANGE), ("subject_token", key), ("subject_token_type", API_KEY)];
    parameters.extend_from_slice(more);
    bare_event(PUBLIC_API, &body(&parameters))
}

pub fn token_in(answer: &Answer) -> String {
    let body = answer.json();
    body["access_token"].as_str().unwrap_or_else(|| panic!("no token: {answer:?}")).to_owned()
}

impl World {
    /// A world of these clients beside the first one.
    pub async fn of(clients: &[ClientRecord]) -> Self {
        let world = Self::new().await;
        for client in clients {
            world.directory.put(client).await;
        }
        world
    }

    /// A token of a client by `client_credentials`.
    pub async fn token(&self, id: &str, more: &[(&str, &str)]) -> String {
        let mut parameters = vec![("grant_type", "client_credentials")];
        parameters.extend_from_slice(more);
        token_in(&self.send(as_client(id, "/oauth2/token", &parameters)).await)
    }

    /// Whether a token is active, as somebody sees who may see all.
    pub async fn is_active(&self, token: &str) -> bool {
        let answer = self.send(as_client("watcher", "/oauth2/introspect", &[("token", token)])).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        answer.json()["active"].as_bool().unwrap()
    }

    /// A new API key of a client, with the scope `reviews.read` and the audience `bookinfo`.
    pub async fn key(&self, client_id: &str, random: u8, change: impl FnOnce(&mut ApiKeyRecord)) -> String {
        let key = ApiKey::generate("dev", &[random; 48]).unwrap();
        let hash = key.hash(&Secret::new(PEPPER.as_bytes().to_vec()));
        let mut record = ApiKeyRecord {
            id: key.id().to_owned(),
            client_id: client_id.to_owned(),
            environment: "dev".to_owned(),
            hashes: vec![authz::api_key::hex(&hash)],
            scope: "reviews.read".to_owned(),
            audiences: vec!["bookinfo".to_owned()],
            state: KeyState::Active,
            not_before: None,
            expires_at: None,
            ..ApiKeyRecord::default()
        };
        change(&mut record);
        self.put_key(key.id(), &record).await;
        key.text().expose().clone()
    }

    /// Writes the record of an API key over whatever there is.
    pub async fn put_key(&self, id: &str, record: &ApiKeyRecord) {
        let table = self.directory.store.table(platform::store::API_KEYS);
        let only = match table.get(id).await.unwrap() {
            Some(found) => Only::Version(found.version),
            None => Only::Absent { now: 0 },
        };
        let json = serde_json::to_string(record).unwrap();
        assert_ne!(table.put(id, &json, None, only).await.unwrap(), Written::Conflict);
    }

    /// Puts a record on the table of revocations as the issuer writes it.
    pub async fn list(&self, kind: &str, id: &str, mut entry: Value) {
        entry["kind"] = kind.into();
        entry["id"] = id.into();
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, id.as_bytes());
        let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let table = self.directory.store.table("revocations");
        let only = Only::Absent { now: 0 };
        table.put(&format!("{kind}#{hash}"), &entry.to_string(), None, only).await.unwrap();
    }
}

/// A client that may introspect every token.
pub fn watcher() -> ClientRecord {
    let mut record = full_client("watcher");
    record.introspects_all = true;
    record
}
