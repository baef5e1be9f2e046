//! What the fronts stand on, good and broken, and what is sent to them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use authorizer::ApiKeyStore;
use authz::{ApiKey, ApiKeyRecord, KeyState};
use envoy_types::ext_authz::v3::pb::CheckRequest;
use envoy_types::pb::envoy::service::auth::v3::AttributeContext;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{self, HttpRequest};
use identity::Secret;
use platform::BoxFuture;
use platform::secrets::{self, SecretError, Secrets};
use platform::store::{self, ApiKeys, StoreError};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::issuer::NOW;
use crate::{Result, text};

pub(crate) const PEPPER: &str = "pepper-that-nobody-may-see";
pub(crate) const AWS_SECRET: &str = "aws-secret-that-nobody-may-see";
/// What a server of somebody else puts into its error.
pub(crate) const THEIR_SECRET: &str = "their-secret-that-nobody-may-see";

pub(crate) fn key(environment: &str, seed: u8) -> Result<ApiKey> {
    ApiKey::generate(environment, &[seed; 48]).map_err(text)
}

pub(crate) fn shown(key: &ApiKey) -> String {
    key.text().expose().clone()
}

pub(crate) async fn records() -> Result<Arc<dyn ApiKeys>> {
    let store = store::Embedded::in_memory();
    for (environment, seed, state, expires_at) in [
        ("dev", 1, KeyState::Active, None),
        ("dev", 2, KeyState::Revoked, None),
        ("dev", 3, KeyState::Active, Some(NOW - 1)),
        ("prod", 5, KeyState::Active, None),
    ] {
        let key = key(environment, seed)?;
        let record = ApiKeyRecord {
            id: key.id().to_owned(),
            client_id: "reader".to_owned(),
            environment: environment.to_owned(),
            hashes: vec![authz::api_key::hex(&key.hash(&Secret::new(PEPPER.as_bytes().to_vec())))],
            scope: "reviews.read".to_owned(),
            audiences: vec!["bookinfo".to_owned()],
            state,
            not_before: None,
            expires_at,
            ..ApiKeyRecord::default()
        };
        ApiKeys::put(&store, &record).await.map_err(text)?;
    }
    Ok(Arc::new(store))
}

pub(crate) fn with_pepper(records: Arc<dyn ApiKeys>, pepper: &str) -> ApiKeyStore {
    let secrets = secrets::Embedded::default();
    secrets.put("pepper", pepper);
    ApiKeyStore { records, secrets: Arc::new(secrets), pepper_id: "pepper".to_owned() }
}

/// A server that fails, and says in its answer what it should not.
pub(crate) async fn rude_server() -> Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(text)?;
    let address = listener.local_addr().map_err(text)?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 16 * 1024];
                let read = stream.read(&mut request).await.unwrap_or_default();
                let poisoned = request.get(..read).unwrap_or_default().starts_with(b"GET /poisoned");
                let status = if poisoned { "200 OK" } else { "500 Internal Server Error" };
                let body = format!(r#"{{"keys":"{THEIR_SECRET}","message":"{THEIR_SECRET}"}}"#);
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n\
                     content-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    Ok(address)
}

/// A token endpoint. The first part of the path says what it answers to an API key: `tokens` by name, or something that
/// quotes what it has got.
pub(crate) async fn exchange_server(tokens: Vec<(&'static str, String)>) -> Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(text)?;
    let address = listener.local_addr().map_err(text)?;
    let tokens = Arc::new(tokens);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let tokens = Arc::clone(&tokens);
            tokio::spawn(async move {
                let mut request = String::new();
                let mut part = vec![0; 16 * 1024];
                // The form is behind the head, and in one piece with its last parameter.
                while !request.contains("&audience=bookinfo") {
                    match stream.read(&mut part).await {
                        Ok(read) if read > 0 => {
                            request += &String::from_utf8_lossy(part.get(..read).unwrap_or_default());
                        }
                        _ => return,
                    }
                }
                let kind = request.split('/').nth(1).unwrap_or_default().to_owned();
                let token = tokens.iter().find(|(name, _)| *name == kind).map(|(_, token)| token.as_str());
                let form = request.split("\r\n\r\n").nth(1).unwrap_or_default();
                let quoted = serde_json::json!({"error": form, "error_description": form, "access_token": form});
                let (status, body) = match (token, kind.as_str()) {
                    (Some(token), _) => {
                        let answer =
                            serde_json::json!({"access_token": token, "token_type": "Bearer", "expires_in": 600});
                        ("200 OK", answer.to_string())
                    }
                    (None, "wreck") => ("200 OK", format!("{quoted}{THEIR_SECRET}")),
                    (None, "no-bearer") => ("200 OK", quoted.to_string()),
                    (None, "down") => ("503 Service Unavailable", quoted.to_string()),
                    (None, "elsewhere") => ("307 Temporary Redirect", quoted.to_string()),
                    _ => ("400 Bad Request", quoted.to_string()),
                };
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n\
                     location: http://{address}/?{form}\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    Ok(address)
}

/// A store, and a vault, with a bug whose message quotes what it works on.
pub(crate) struct Broken(pub(crate) String);

impl ApiKeys for Broken {
    #[allow(clippy::panic, reason = "the bug")]
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, std::result::Result<Option<ApiKeyRecord>, StoreError>> {
        Box::pin(async move { panic!("byte index 5 is not a char boundary of {} with {id}", self.0) })
    }

    fn put<'a>(&'a self, _: &'a ApiKeyRecord) -> BoxFuture<'a, std::result::Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

impl Secrets for Broken {
    #[allow(clippy::panic, reason = "the bug")]
    fn get<'a>(&'a self, _: &'a str) -> BoxFuture<'a, std::result::Result<Secret<String>, SecretError>> {
        Box::pin(async move { panic!("a bug with {} and {PEPPER}", self.0) })
    }
}

pub(crate) fn event() -> Result<Value> {
    serde_json::from_str(include_str!("../../../examples/events/http-2.0.json")).map_err(text)
}

pub(crate) fn with_header(mut event: Value, name: &str, value: &str) -> Value {
    event["headers"][name] = value.into();
    event
}

pub(crate) fn with_query(mut event: Value, query: String) -> Value {
    event["rawQueryString"] = query.into();
    event
}

pub(crate) fn question((name, value): (&str, &str)) -> CheckRequest {
    let headers = [(":method", "GET"), (":path", "/"), (":authority", "ratings"), (name, value)];
    let http = HttpRequest {
        id: "17".to_owned(),
        method: "GET".to_owned(),
        path: if name == ":path" { value.to_owned() } else { "/ratings/0".to_owned() },
        host: "ratings".to_owned(),
        scheme: "http".to_owned(),
        headers: headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect::<HashMap<_, _>>(),
        ..HttpRequest::default()
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            request: Some(attribute_context::Request { http: Some(http), ..Default::default() }),
            ..AttributeContext::default()
        }),
    }
}
